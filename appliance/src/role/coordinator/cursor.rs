//! How far the chain was read for requests.
//!
//! ```text
//!   first ──────► safe ═══ open requests ═══► next ─ page ─► settled
//!                  └─ kept on disk: what a restart begins with
//! ```
//! Claim: every settled block from the contracts' own on is read once and in order, a page at a time; a page that
//! fails is read again, those before it are not. What is kept never passes a request that has not ended: a
//! restart finds it again. Tests: here and `appliance/tests/chain/faulty.rs`.

use std::collections::BTreeMap;

use alloy::primitives::B256;

/// Blocks after which a restart's beginning is written anew: it reads that many more at most.
const KEEP_EVERY: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Cursor {
    first: u64,
    next: u64,
    kept: u64,
    /// Requests that have not ended: from which block on each is found.
    open: BTreeMap<B256, u64>,
}

impl Cursor {
    /// From the block that was kept, or from `first`, in which the contracts are.
    pub(super) fn new(first: u64, kept: Option<u64>) -> Self {
        let next = kept.unwrap_or(first).max(first);
        Self {
            first,
            next,
            kept: next,
            open: BTreeMap::new(),
        }
    }

    /// The next blocks to read, at most `most` of them; `None` if all up to `settled` are read.
    pub(super) fn page(&mut self, settled: u64, most: u64) -> Option<(u64, u64)> {
        // The chain is shorter than what was kept of it: it was restored from an older copy.
        if self.kept > settled.saturating_add(1) && self.open.is_empty() {
            *self = Self::new(self.first, None);
        }
        (self.next <= settled).then(|| {
            let last = self.next.saturating_add(most.max(1) - 1);
            (self.next, last.min(settled))
        })
    }

    /// The page is read, and these requests are in it; gives those that are new.
    pub(super) fn read(&mut self, (from, to): (u64, u64), found: Vec<B256>) -> Vec<B256> {
        self.next = to + 1;
        let is_new = |id: &B256| self.open.insert(*id, from).is_none();
        found.into_iter().filter(is_new).collect()
    }

    /// A request has ended, or is not ours.
    pub(super) fn ended(&mut self, id: &B256) {
        self.open.remove(id);
    }

    /// What is to be kept now, if it is so far ahead of what was.
    pub(super) fn mark_due(&mut self) -> Option<u64> {
        let safe = self.open.values().copied().min().unwrap_or(self.next);
        (safe >= self.kept + KEEP_EVERY).then(|| {
            self.kept = safe;
            safe
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> B256 {
        B256::repeat_byte(n)
    }

    #[test]
    fn pages_follow_each_other_from_the_contracts_block_to_the_settled_one() {
        let mut cursor = Cursor::new(100, None);
        assert_eq!(cursor.page(99, 50), None);
        assert_eq!(cursor.page(100, 50), Some((100, 100)));
        assert_eq!(cursor.page(160, 50), Some((100, 149)));
        // Not read: the same again.
        assert_eq!(cursor.page(170, 50), Some((100, 149)));
        assert_eq!(cursor.read((100, 149), vec![id(1), id(1)]), [id(1)]);
        assert_eq!(cursor.page(170, 50), Some((150, 170)));
        assert!(cursor.read((150, 170), vec![id(1)]).is_empty());
        assert_eq!(cursor.page(170, 50), None);
    }

    #[test]
    fn what_is_kept_never_passes_an_open_request() {
        let mut cursor = Cursor::new(0, None);
        cursor.read((0, 499), vec![id(1)]);
        cursor.read((500, 2_999), vec![id(2)]);
        assert_eq!(cursor.mark_due(), None, "request 1 is in block 0 or later");
        cursor.ended(&id(1));
        cursor.read((3_000, 3_000), vec![]);
        assert_eq!(cursor.mark_due(), None, "not far enough");
        cursor.ended(&id(2));
        assert_eq!(cursor.mark_due(), Some(3_001));
        assert_eq!(cursor.mark_due(), None, "it is kept already");
        let mut again = Cursor::new(0, Some(3_001));
        assert_eq!(again.page(3_001, 10), Some((3_001, 3_001)));
        assert_eq!(
            Cursor::new(5_000, Some(3_001)).page(5_000, 1),
            Some((5_000, 5_000))
        );
    }

    #[test]
    fn a_chain_restored_from_an_older_copy_is_read_from_the_beginning() {
        let mut cursor = Cursor::new(7, Some(4_000));
        assert_eq!(cursor.page(3_999, 10), None, "read already");
        assert_eq!(cursor.page(3_998, 10), Some((7, 16)));
    }
}
