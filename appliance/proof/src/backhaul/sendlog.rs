//! What a challenger really sent when: the send log of its report.
//!
//! ```text
//!  s ├─┬─┬─┬─┬─┬─┬─ … slots of D/640 from the first send ─┬─┬─┤      counted while sending
//!        │ … 2 │      1      │      0      │ e                       slots of D/20 back from e
//! ```
//!
//! **Guarantees.** Counting allocates nothing; every packet sent before e is in one slot, that in which its
//! own fine slot began. **Limits.** Its word only; packets sent more than [`BACK_SLOTS`] before e are left
//! out, and those from 4·D on share a slot. **Tests.** Below.

use super::challenger::Flooded;
use super::params::{DEADLINE_DURATIONS, OFFER_SLOTS};

/// Fine slots of a duration: 32 to each that is reported.
const FINE: u64 = 640;
/// Reported slots at most: the longest flood and a duration more.
pub const BACK_SLOTS: u64 = (DEADLINE_DURATIONS + 1) * OFFER_SLOTS;

/// Packets that the kernel took, by time since the first send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendLog {
    duration_ns: u64,
    counts: Box<[u32]>,
}

impl SendLog {
    /// An empty log of a phase of D = `duration_ns`: all the memory that it needs.
    pub fn new(duration_ns: u64) -> Self {
        let slots = (0..=DEADLINE_DURATIONS * FINE).map(|_| 0);
        Self {
            duration_ns: duration_ns.max(1),
            counts: slots.collect(),
        }
    }

    /// The kernel took `packets` at `since_ns` after the first send.
    pub fn add(&mut self, since_ns: u64, packets: u64) {
        let at = u128::from(since_ns) * u128::from(FINE) / u128::from(self.duration_ns);
        let last = self.counts.len().saturating_sub(1);
        let at = usize::try_from(at).map_or(last, |at| at.min(last));
        if let Some(count) = self.counts.get_mut(at) {
            *count = count.saturating_add(u32::try_from(packets).unwrap_or(u32::MAX));
        }
    }

    /// Packets by slots of D/20 counted back from `window_ns` after the first send: the last before it is
    /// number 0. As many slots as reach back to the first send, at most [`BACK_SLOTS`].
    pub fn back_from(&self, window_ns: u64) -> Vec<u32> {
        // The slot of something that is so much older than the end; nothing is in the slot after the end.
        let slot = |age_ns: u64| {
            let before = u128::from(age_ns.checked_sub(1)?);
            usize::try_from(before * u128::from(OFFER_SLOTS) / u128::from(self.duration_ns)).ok()
        };
        let length = slot(window_ns).map_or(0, |oldest| oldest.saturating_add(1));
        let most = usize::try_from(BACK_SLOTS).unwrap_or(usize::MAX);
        let mut slots = vec![0u32; length.min(most)];
        for (i, count) in (0u128..).zip(&self.counts) {
            let begins = u64::try_from((i * u128::from(self.duration_ns)).div_ceil(FINE.into()));
            let age = begins.ok().and_then(|b| window_ns.checked_sub(b));
            if let Some(into) = age.and_then(slot).and_then(|at| slots.get_mut(at)) {
                *into = into.saturating_add(*count);
            }
        }
        slots
    }
}

impl Flooded {
    /// What was sent by slots of D/20 counted back from `e_ns`, when the commitment was heard: see
    /// [`SendLog::back_from`].
    pub fn sent_back(&self, e_ns: u64) -> Vec<u32> {
        let window = self.first_ns.and_then(|s| e_ns.checked_sub(s));
        self.log.back_from(window.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// D of 64 ms: fine slots of 100 µs, reported ones of 3.2 ms.
    const D: u64 = 64_000_000;

    fn log(sends: &[(u64, u64)]) -> SendLog {
        let mut log = SendLog::new(D);
        for (at, packets) in sends {
            log.add(*at, *packets);
        }
        log
    }

    #[test]
    fn a_packet_is_in_the_slot_in_which_its_fine_slot_began() {
        let w = 10_000_000;
        // Fine slots that begin at 0, 3.6, 6.7, 6.8, 9.9 ms and at the end.
        let sends = [(0, 1), (3_699_999, 2), (6_799_999, 4), (6_800_000, 8)];
        let log = log(&[&sends[..], &[(9_950_000, 16), (w, 32)]].concat());
        // 10.0 – 6.8, – 3.6, – 0.4, before. What began at 6.8 exactly is 3.2 ms old: in slot 0.
        assert_eq!(log.back_from(w), [8 + 16, 4 + 2, 0, 1]);
        assert_eq!(log.back_from(0), [0; 0]);
        assert_eq!(log.back_from(1), [1]);
        assert_eq!(log.back_from(3_200_000).len(), 1);
        assert_eq!(log.back_from(3_200_001).len(), 2);
    }

    #[test]
    fn the_last_slot_takes_what_comes_after_four_durations() {
        let log = log(&[(4 * D, 1), (4 * D + 1, 2), (u64::MAX, u64::MAX)]);
        assert_eq!(log.counts[log.counts.len() - 1], u32::MAX);
        assert_eq!(
            log.back_from(4 * D + 100),
            [&[u32::MAX][..], &[0; 80]].concat()
        );
        // Only so far back.
        assert_eq!(log.back_from(u64::MAX).len(), 100);
        assert_eq!(log.back_from(u64::MAX).iter().max(), Some(&0));
    }

    proptest! {
        #[test]
        fn every_packet_sent_before_the_end_is_in_one_slot(
            duration_ms in 10..10_000u64,
            sends in proptest::collection::vec((0..4_000_000u64, 1..9u64), 0..100),
            window_ppm in 0..5_000_000u64,
        ) {
            let duration_ns = duration_ms * 1_000_000;
            let at = |ppm| duration_ns / 1_000_000 * ppm;
            let mut log = SendLog::new(duration_ns);
            for (ppm, packets) in &sends {
                log.add(at(*ppm), *packets);
            }
            let window = at(window_ppm);
            let slots = log.back_from(window);
            let sum: u64 = slots.iter().map(|n| u64::from(*n)).sum();
            // Exactly those whose fine slot began before the end.
            let before = |ppm| u128::from(at(ppm)) * 640 / u128::from(duration_ns);
            let began = |fine: u128| fine * u128::from(duration_ns) < u128::from(window) * 640;
            let want = sends.iter().filter(|(ppm, _)| began(before(*ppm)));
            prop_assert_eq!(sum, want.map(|s| s.1).sum::<u64>());
            prop_assert_eq!(slots.len() as u64, (window * 20).div_ceil(duration_ns).min(BACK_SLOTS));
        }
    }
}
