//! The three clocks the datapath reads, and how they are compared.
//!
//! The XDP program stamps with `CLOCK_TAI` (the kernel offers it no `CLOCK_REALTIME`), a plain socket
//! with `CLOCK_REALTIME`, and everything above speaks `CLOCK_REALTIME`. TAI and REALTIME differ by a
//! whole number of seconds, so the difference of two readings taken one after the other, rounded to
//! the second, is exact; it is taken anew each turn of the receive loop, so that a leap second or a
//! late `adjtimex` moves it within a turn. All of these are vDSO reads, not system calls.

use nix::time::{ClockId, clock_gettime};

const SECOND: i64 = 1_000_000_000;

fn now(clock: libc::clockid_t) -> u64 {
    // These clocks exist on every kernel that runs this (TAI since 3.10), so the default is not taken.
    let Ok(time) = clock_gettime(ClockId::from_raw(clock)) else {
        return 0;
    };
    u64::try_from(time.tv_sec() * SECOND + time.tv_nsec()).unwrap_or(0)
}

/// `CLOCK_REALTIME`, nanoseconds since the epoch.
pub fn realtime_ns() -> u64 {
    now(libc::CLOCK_REALTIME)
}

/// `CLOCK_TAI`, nanoseconds since the epoch of TAI. What consent runs out by.
pub fn tai_ns() -> u64 {
    now(libc::CLOCK_TAI)
}

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
