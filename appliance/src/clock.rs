//! Clocks. All of a measurement's timestamps are CLOCK_REALTIME nanoseconds: the kernel's receive
//! stamps are, so send times must be. What a step of that clock could do is bounded by comparing it
//! with CLOCK_MONOTONIC over the measurement.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

/// Name of the clock, as results state it.
pub const NAME: &str = "CLOCK_REALTIME";
/// What reading two clocks one after another may add to their distance, ns.
const READ_NS: u64 = 2_000;

fn read(clock: ClockId) -> u64 {
    // These clocks exist on every Linux; a failure would be a broken kernel, shown as time zero.
    clock_gettime(clock).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        seconds * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
    })
}

/// Unix nanoseconds.
pub fn realtime_ns() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

/// Unix seconds.
pub fn realtime_s() -> u64 {
    realtime_ns() / 1_000_000_000
}

/// CLOCK_TAI, ns since its epoch. What consent runs out by, and what the XDP program stamps with.
pub fn tai_ns() -> u64 {
    read(ClockId::CLOCK_TAI)
}

/// CLOCK_MONOTONIC, ns. What senders are paced by.
pub fn monotonic_ns() -> u64 {
    read(ClockId::CLOCK_MONOTONIC)
}

/// A time of CLOCK_MONOTONIC as CLOCK_REALTIME, by what they differ now.
pub fn realtime_of(monotonic_ns: u64) -> u64 {
    monotonic_ns.wrapping_add(distance())
}

/// A time of CLOCK_REALTIME as CLOCK_MONOTONIC, by what they differ now; 0 if before its beginning.
pub fn monotonic_of(realtime_ns: u64) -> u64 {
    realtime_ns.saturating_sub(distance())
}

/// Sleeps until CLOCK_MONOTONIC shows `ns`. A signal ends it early; the caller looks at the clock.
pub fn sleep_until(ns: u64) {
    const SECOND: u64 = 1_000_000_000;
    let second = i64::try_from(ns / SECOND).unwrap_or(i64::MAX);
    let rest = i64::try_from(ns % SECOND).unwrap_or(0);
    let _ = clock_nanosleep(
        ClockId::CLOCK_MONOTONIC,
        ClockNanosleepFlags::TIMER_ABSTIME,
        &TimeSpec::new(second, rest),
    );
}

/// How much CLOCK_TAI is ahead of CLOCK_REALTIME, ns: whole seconds, 0 where nobody set it.
pub fn tai_ahead_ns() -> u64 {
    let ahead = tai_ns().saturating_sub(realtime_ns());
    (ahead + 500_000_000) / 1_000_000_000 * 1_000_000_000
}

/// Watches CLOCK_REALTIME against CLOCK_MONOTONIC over a measurement.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    ahead: u64,
}

impl Watch {
    /// Starts watching.
    pub fn start() -> Self {
        Self { ahead: distance() }
    }

    /// Bound on the error of a difference of two CLOCK_REALTIME stamps taken since, ns.
    pub fn error_ns(&self) -> u64 {
        distance().abs_diff(self.ahead) + READ_NS
    }
}

fn distance() -> u64 {
    // The closest of three pairs: a preemption between the reads would look like a step.
    (0..3)
        .map(|_| {
            let before = monotonic_ns();
            let real = realtime_ns();
            let width = monotonic_ns().saturating_sub(before);
            (width, real.wrapping_sub(before + width / 2))
        })
        .min()
        .map_or(0, |pair| pair.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undisturbed_clock_has_a_small_bound() {
        let watch = Watch::start();
        // A millisecond would already be 1 % of a 100 ms phase.
        assert!(watch.error_ns() < 1_000_000);
    }

    #[test]
    fn a_time_is_the_same_on_both_clocks() {
        let now = monotonic_ns();
        assert!(realtime_of(now).abs_diff(realtime_ns()) < 1_000_000);
        // Both ways use a distance of their own.
        assert!(monotonic_of(realtime_of(now)).abs_diff(now) < 100_000);
        assert_eq!(monotonic_of(0), 0);
    }

    #[test]
    fn tai_is_whole_seconds_ahead() {
        assert_eq!(tai_ahead_ns() % 1_000_000_000, 0);
    }
}
