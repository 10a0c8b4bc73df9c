//! One challenger's part of a tally: which of its packets were admitted, their leaves, and the groups
//! that are hashed while more arrive. Several threads share it; nothing locks, and nothing allocates
//! after [`Lane::new`].
//!
//! ```text
//!  seen    ▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓ ▓▓░▓░░░░        admitted: claimed before hashing
//!  leaves  ▓▓▓▓▓▓▓▓ ▓▓▓▓▓░▓▓ ▓░░▓░░░░        then the leaf is stored …
//!  done    ▓▓▓▓▓▓▓▓ ▓▓▓▓▓░▓▓ ▓░░▓░░░░        … and released: what others may read
//!            full     left      open
//!           hashed   behind
//!                    hashed     at the commitment
//! ```
//!
//! A group's digest is kept with the word that it was made from, so a packet that comes after is never
//! forgotten: it has its group hashed again at once. A sender that leaves gaps in every group and comes back
//! to them so costs its own packets a group's hash each, and not the commitment, whose time would count
//! against the prover. Tests: `tests`, beside this file.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, fence};

use plumbline_trust::encoding::Digest;
use plumbline_trust::session::SessionKey;

use crate::backhaul::keystream::{self, GROUP};

/// Whole groups that the lane's newest packet must leave between itself and a group with gaps before
/// that one is hashed: 64 packets. Reordering on one path is a burst's length (the product's own
/// generator sends 44 at a time) and not more; a larger lag leaves more groups to the commitment.
pub(super) const LAG: usize = 1;

/// Sixty-four packets, in one cache line.
#[repr(align(64))]
struct Group {
    /// Packets whose leaves are stored.
    done: AtomicU64,
    /// `done` at the commitment.
    committed: AtomicU64,
    /// 0: no digest yet; odd: one is being written; else it is whole (a sequence lock's count).
    version: AtomicU64,
    /// The word that the digest was made from.
    word: AtomicU64,
    digest: [AtomicU64; 4],
}

impl Group {
    fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            version: AtomicU64::new(0),
            word: AtomicU64::new(0),
            digest: zeros(),
        }
    }

    /// Keeps the digest that `make` gives for what is done now, unless another thread is at it: what
    /// that one does not see yet, the commitment will.
    fn keep(&self, make: impl FnOnce(u64) -> Digest) {
        let version = self.version.load(Relaxed);
        let claimed = version.is_multiple_of(2)
            && self
                .version
                .compare_exchange(version, version + 1, Acquire, Relaxed)
                .is_ok();
        if !claimed {
            return;
        }
        fence(Release);
        let word = self.done.load(Acquire);
        store(&self.digest, &make(word));
        self.word.store(word, Relaxed);
        self.version.store(version + 2, Release);
    }

    /// The kept digest, if it was made from `word`.
    fn kept(&self, word: u64) -> Option<Digest> {
        let version = self.version.load(Acquire);
        let (made_from, digest) = (self.word.load(Relaxed), load(&self.digest));
        fence(Acquire);
        let whole =
            version != 0 && version.is_multiple_of(2) && self.version.load(Relaxed) == version;
        (whole && made_from == word).then_some(digest)
    }
}

/// One challenger's packets.
pub(super) struct Lane {
    /// Tags its headers.
    pub(super) key: SessionKey,
    /// Packets admitted, at most m.
    pub(super) admitted: AtomicU64,
    /// Admitted packets that came after one with a higher number.
    pub(super) reordered: AtomicU64,
    /// One more than the highest number admitted.
    next: AtomicU64,
    /// Groups before this one are hashed, or somebody is at it.
    closed: AtomicUsize,
    seen: Box<[AtomicU64]>,
    leaves: Box<[[AtomicU64; 4]]>,
    /// In which tenth of the duration each packet came.
    tenths: Box<[AtomicU8]>,
    groups: Box<[Group]>,
}

impl Lane {
    /// Room for `cap` packets. All memory is touched here: later no page is missing.
    pub(super) fn new(key: SessionKey, cap: usize) -> Self {
        let groups = cap.div_ceil(GROUP);
        Self {
            key,
            admitted: AtomicU64::new(0),
            reordered: AtomicU64::new(0),
            next: AtomicU64::new(0),
            closed: AtomicUsize::new(0),
            seen: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            leaves: (0..cap).map(|_| zeros()).collect(),
            tenths: (0..cap).map(|_| AtomicU8::new(0)).collect(),
            groups: (0..groups).map(|_| Group::new()).collect(),
        }
    }

    /// The place of a sequence number, if it is below the cap.
    pub(super) fn place(&self, sequence: u64) -> Option<usize> {
        let at = usize::try_from(sequence).ok()?;
        (at < self.leaves.len()).then_some(at)
    }

    /// True if this packet was admitted before.
    pub(super) fn seen(&self, at: usize) -> bool {
        self.seen
            .get(at / GROUP)
            .is_some_and(|word| word.load(Relaxed) & bit(at) != 0)
    }

    /// Claims a packet: true for one caller only.
    pub(super) fn claim(&self, at: usize) -> bool {
        self.seen
            .get(at / GROUP)
            .is_some_and(|word| word.fetch_or(bit(at), Relaxed) & bit(at) == 0)
    }

    /// Gives a claim back: the packet is not counted after all.
    pub(super) fn unclaim(&self, at: usize) {
        if let Some(word) = self.seen.get(at / GROUP) {
            word.fetch_and(!bit(at), Relaxed);
        }
    }

    /// Notes the order in which packets were admitted.
    pub(super) fn note(&self, sequence: u64) {
        if self.next.fetch_max(sequence + 1, Relaxed) > sequence {
            self.reordered.fetch_add(1, Relaxed);
        }
    }

    /// Takes the leaf of a claimed packet; false if it was there already. Hashes the group that it
    /// completes or comes back to, and those that it leaves behind by more than `lag` whole groups.
    pub(super) fn store(&self, sequence: u64, leaf: &Digest, tenth: u8, lag: usize) -> bool {
        let Some(at) = self.place(sequence) else {
            return false;
        };
        let number = at / GROUP;
        let (Some(slot), Some(tenths), Some(group)) = (
            self.leaves.get(at),
            self.tenths.get(at),
            self.groups.get(number),
        ) else {
            return false;
        };
        store(slot, leaf);
        tenths.store(tenth, Relaxed);
        // Releases this leaf; acquires those of other threads, whose group this one may complete.
        let before = group.done.fetch_or(bit(at), AcqRel);
        if before & bit(at) != 0 {
            return false;
        }
        let come_back = number < self.closed.load(Relaxed);
        if come_back || before | bit(at) == u64::MAX {
            group.keep(|word| self.digest(number, word));
        }
        let behind = number.saturating_sub(lag);
        if self.closed.load(Relaxed) < behind {
            self.close(behind);
        }
        true
    }

    /// Hashes the groups before `behind` that are not empty and not hashed. Each is visited once in a
    /// session, by whichever thread comes first.
    fn close(&self, behind: usize) {
        let from = self.closed.fetch_max(behind, Relaxed);
        for number in from..behind {
            let Some(group) = self.groups.get(number) else {
                return;
            };
            let word = group.done.load(Relaxed);
            if word != 0 && group.kept(word).is_none() {
                group.keep(|word| self.digest(number, word));
            }
        }
    }

    /// The digest of a group from its leaves, all of which are released.
    fn digest(&self, number: usize, word: u64) -> Digest {
        let first = number * GROUP;
        let leaves = keystream::bits(word).map(|bit| {
            let leaf = self.leaves.get(first + bit as usize);
            leaf.map_or([0; 32], load)
        });
        keystream::group(number as u64, word, leaves)
    }

    /// Groups that can hold a packet.
    fn used(&self) -> &[Group] {
        let next = usize::try_from(self.next.load(Relaxed)).unwrap_or(usize::MAX);
        let used = next.div_ceil(GROUP).min(self.groups.len());
        self.groups.get(..used).unwrap_or(&[])
    }

    /// Takes down what is done now; returns how many packets that is. Once, by the thread that commits.
    pub(super) fn seal(&self) -> u32 {
        let mut count = 0;
        for group in self.used() {
            let word = group.done.load(Acquire);
            group.committed.store(word, Relaxed);
            count += word.count_ones();
        }
        count
    }

    /// C_i over what was sealed, and how many groups had to be hashed for it.
    pub(super) fn root(&self) -> (Digest, u64) {
        let mut hashed = 0;
        let words = || self.groups.iter().map(|g| g.committed.load(Relaxed));
        let length = self.bitmap_length();
        let groups = self
            .groups
            .iter()
            .take(length.div_ceil(8))
            .enumerate()
            .filter_map(|(number, group)| {
                let word = group.committed.load(Relaxed);
                (word != 0).then(|| {
                    group.kept(word).unwrap_or_else(|| {
                        hashed += 1;
                        self.digest(number, word)
                    })
                })
            });
        let root = keystream::root(length, words().take(length.div_ceil(8)), groups);
        (root, hashed)
    }

    /// Bytes of the sealed bitmap without trailing zeros: one set, one encoding.
    fn bitmap_length(&self) -> usize {
        let used = self.used();
        let last = used.iter().rposition(|g| g.committed.load(Relaxed) != 0);
        last.map_or(0, |at| {
            let word = used.get(at).map_or(0, |g| g.committed.load(Relaxed));
            let bits = u64::BITS - word.leading_zeros();
            at * 8 + bits.div_ceil(8) as usize
        })
    }

    /// The sealed bitmap as it is revealed.
    pub(super) fn bitmap(&self) -> Vec<u8> {
        let length = self.bitmap_length();
        let words = self.groups.iter().map(|g| g.committed.load(Relaxed));
        let mut bytes: Vec<u8> = words
            .take(length.div_ceil(8))
            .flat_map(u64::to_le_bytes)
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// In which tenths the sealed packets came.
    pub(super) fn tenths(&self) -> impl Iterator<Item = u8> + '_ {
        self.groups
            .iter()
            .enumerate()
            .flat_map(move |(number, group)| {
                keystream::bits(group.committed.load(Relaxed)).filter_map(move |bit| {
                    let tenth = self.tenths.get(number * GROUP + bit as usize)?;
                    Some(tenth.load(Relaxed))
                })
            })
    }
}

#[cfg(test)]
impl Lane {
    /// True once this packet's leaf is stored.
    pub(super) fn stored(&self, at: usize) -> bool {
        self.groups[at / GROUP].done.load(Acquire) & bit(at) != 0
    }
}

fn bit(at: usize) -> u64 {
    1 << (at % GROUP)
}

fn zeros() -> [AtomicU64; 4] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

fn store(words: &[AtomicU64; 4], digest: &Digest) {
    let (parts, _) = digest.as_chunks::<8>();
    for (word, part) in words.iter().zip(parts) {
        word.store(u64::from_le_bytes(*part), Relaxed);
    }
}

fn load(words: &[AtomicU64; 4]) -> Digest {
    let mut digest = [0; 32];
    let (parts, _) = digest.as_chunks_mut::<8>();
    for (part, word) in parts.iter_mut().zip(words) {
        *part = word.load(Relaxed).to_le_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thread writes digests of two words in turn, another reads that of one of them.
    #[test]
    fn a_kept_digest_is_never_torn() {
        const ROUNDS: u64 = 300_000;
        let of = |word: u64| {
            let mut digest = [0; 32];
            for part in digest.as_chunks_mut::<8>().0 {
                *part = word.to_le_bytes();
            }
            digest
        };
        let group = Group::new();
        let read = std::thread::scope(|s| {
            let writer = s.spawn(|| {
                for round in 0..ROUNDS {
                    group.done.store(1 + round % 2, Release);
                    group.keep(of);
                }
            });
            let mut read = 0;
            while !writer.is_finished() || read == 0 {
                // At the end it is 2 that is kept.
                let word = if writer.is_finished() { 2 } else { 1 };
                if let Some(digest) = group.kept(word) {
                    assert_eq!(digest, of(word));
                    read += 1;
                }
            }
            read
        });
        assert!(read > 0);
        // Each round is kept: there was no other writer.
        assert_eq!(group.version.load(Relaxed), 2 * ROUNDS);
    }

    #[test]
    fn of_two_that_hash_one_group_the_other_leaves_it() {
        let group = Group::new();
        group.done.store(3, Release);
        group.keep(|word| {
            // Another thread comes in between.
            group.keep(|_| [9; 32]);
            assert_eq!(group.kept(word), None, "it is not whole yet");
            [7; 32]
        });
        assert_eq!((group.kept(3), group.kept(1)), (Some([7; 32]), None));
    }
}
