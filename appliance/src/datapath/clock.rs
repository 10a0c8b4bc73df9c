//! How stamps of the two clocks that the datapath meets are compared.
//!
//! The XDP program stamps with `CLOCK_TAI` (the kernel offers it no `CLOCK_REALTIME`), a plain socket
//! with `CLOCK_REALTIME`, and everything above speaks `CLOCK_REALTIME`. TAI and REALTIME differ by a
//! whole number of seconds, so the difference of two readings taken one after the other, rounded to
//! the second, is exact; it is taken anew each turn of the receive loop, so that a leap second or a
//! late `adjtimex` moves it within a turn. All of these are vDSO reads, not system calls.

use crate::clock::{realtime_ns, tai_ns};

const SECOND: i64 = 1_000_000_000;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// `CLOCK_REALTIME`, ns.
    pub(super) realtime_ns: u64,
    /// `CLOCK_TAI`, ns.
    pub(super) tai_ns: u64,
}

impl Reading {
    pub(super) fn take() -> Self {
        Self {
            realtime_ns: realtime_ns(),
            tai_ns: tai_ns(),
        }
    }

    /// A TAI stamp in `CLOCK_REALTIME`.
    pub(super) fn realtime_of_tai(&self, stamp_ns: u64) -> u64 {
        let apart = self.tai_ns.wrapping_sub(self.realtime_ns).cast_signed();
        let seconds = (apart + SECOND / 2).div_euclid(SECOND);
        stamp_ns.saturating_add_signed(-(seconds * SECOND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_difference_is_rounded_to_whole_seconds() {
        for (apart, seconds) in [
            (37 * SECOND + 90, 37),
            (37 * SECOND - 90, 37),
            (SECOND / 2, 1),
            (SECOND / 2 - 1, 0),
            (0, 0),
            (-3, 0),
        ] {
            let realtime_ns = 1_700_000_000_000_000_000u64;
            let reading = Reading {
                realtime_ns,
                tai_ns: realtime_ns.saturating_add_signed(apart),
            };
            let stamp = 5_000_000_000_000u64;
            assert_eq!(
                reading.realtime_of_tai(stamp),
                stamp.saturating_add_signed(-seconds * SECOND),
                "{apart}"
            );
        }
    }

    #[test]
    fn a_stamp_of_now_is_now() {
        let before = realtime_ns();
        let reading = Reading::take();
        let stamp = reading.realtime_of_tai(tai_ns());
        let after = realtime_ns();
        assert!(
            (before..=after).contains(&stamp),
            "{before} ≤ {stamp} ≤ {after}"
        );
    }
}
