//! How much a challenger sent, and when: kept in fine slots since its first send, reported in slots of D/20 counted
//! back from the commitment.
//!
//! Claim: nothing is counted twice or lost before e; a fine slot belongs to the slot in which it begins, so that at
//! most one part in 32 moves. Adding allocates nothing.

use super::params::{DEADLINE_DURATIONS, OFFER_SLOTS, Terms};
use super::record::MAX_SENT_BACK;

/// Fine slots in one of the report's.
const FINE: u64 = 32;

/// Packets that the kernel took, by time since the first send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendLog {
    fine_ns: u64,
    counts: Vec<u32>,
}

impl SendLog {
    /// An empty log of a phase of `terms`, with room for all of it.
    pub fn new(terms: &Terms) -> Self {
        let slots = (DEADLINE_DURATIONS * OFFER_SLOTS + 1) * FINE;
        Self {
            fine_ns: (terms.offer_slot_ns() / FINE).max(1),
            counts: vec![0; usize::try_from(slots).unwrap_or(0)],
        }
    }

    /// `packets` were taken `since_ns` after the first send; what is beyond the deadline belongs to its last slot.
    pub fn add(&mut self, since_ns: u64, packets: u32) {
        let at = usize::try_from(since_ns / self.fine_ns).unwrap_or(usize::MAX);
        let at = at.min(self.counts.len().saturating_sub(1));
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(packets);
        }
    }

    /// Packets in each slot of D/20 before the instant `span_ns` after the first send, the last slot first.
    pub fn back_from(&self, span_ns: u64) -> Vec<u32> {
        let slot_ns = self.fine_ns * FINE;
        let slots = usize::try_from(span_ns.div_ceil(slot_ns)).unwrap_or(usize::MAX);
        let mut back = vec![0; slots.min(MAX_SENT_BACK)];
        for (at, count) in (0u64..).zip(&self.counts) {
            // What left in (e − slot, e] is in slot 0.
            let Some(before) = span_ns.checked_sub(at * self.fine_ns + 1) else {
                break;
            };
            let slot = usize::try_from(before / slot_ns).unwrap_or(usize::MAX);
            if let Some(sum) = back.get_mut(slot) {
                *sum += count;
            }
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted_back_from_the_end_and_nothing_after_it_counts() {
        // D = 64 ms: slots of 3.2 ms, fine ones of 100 µs.
        let mut log = SendLog::new(&Terms::downlink(1_000_000, 4, 1, 64));
        for (at_us, packets) in [
            (0, 1),
            (99, 2),
            (100, 4),
            (3_200, 8),
            (6_399, 16),
            (6_400, 32),
        ] {
            log.add(at_us * 1000, packets);
        }
        assert_eq!(log.back_from(6_400_000), [24, 7]);
        assert_eq!(log.back_from(6_500_000), [32 + 16, 8 + 4, 3]);
        assert_eq!(log.back_from(100_000), [3]);
        assert_eq!(log.back_from(1), [3], "a fine slot belongs where it begins");
        assert_eq!(log.back_from(0), [0; 0]);
    }

    #[test]
    fn what_comes_after_the_deadline_is_not_lost() {
        let mut log = SendLog::new(&Terms::downlink(1_000_000, 4, 1, 64));
        log.add(u64::MAX, 5);
        assert_eq!(log.back_from(300_000_000).iter().sum::<u32>(), 5);
        assert_eq!(log.back_from(u64::MAX).len(), MAX_SENT_BACK);
    }
}
