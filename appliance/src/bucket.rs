//! How much somebody may take a second, and at once: a token bucket.
//!
//! ```text
//!   burst ─► [ level ] ◄─ so much a second        take: all or nothing      spend: what was taken, after the fact
//! ```
//! **Guarantees.** Nobody takes more than the burst and the rate allow, but for the last spending, which is paid back
//! by waiting. **Limits.** None of its own: whoever holds it decides what a unit is. **Tests.** Below.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A rate, and what may be taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Units a second.
    pub a_second: u64,
    /// Units that a bucket holds at most.
    pub burst: u64,
}

/// What is left of an allowance.
#[derive(Debug)]
pub struct Bucket {
    allowance: Allowance,
    /// Nano-units, below zero where more was spent than there was, and as of when.
    level: Mutex<(i128, Instant)>,
}

/// Nano-units of a unit: a unit a second is one a nanosecond.
const NANO: i128 = 1_000_000_000;

impl Bucket {
    /// A full one.
    pub fn new(allowance: Allowance) -> Self {
        let full = i128::from(allowance.burst) * NANO;
        Self {
            allowance,
            level: Mutex::new((full, Instant::now())),
        }
    }

    /// Looks at the level as of now, and changes it.
    fn with<T>(&self, now: Instant, look: impl FnOnce(&mut i128) -> T) -> T {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let past = now.saturating_duration_since(level.1).as_nanos();
        let filled = i128::try_from(past)
            .unwrap_or(i128::MAX)
            .saturating_mul(self.allowance.a_second.into());
        let full = i128::from(self.allowance.burst) * NANO;
        level.0 = level.0.saturating_add(filled).min(full);
        level.1 = level.1.max(now);
        look(&mut level.0)
    }

    /// Takes `amount` if it is there.
    ///
    /// # Errors
    /// After how long it will be; a bucket that never holds so much says so by the longest time there is.
    pub fn take(&self, amount: u64) -> Result<(), Duration> {
        self.take_at(Instant::now(), amount)
    }

    fn take_at(&self, now: Instant, amount: u64) -> Result<(), Duration> {
        let wanted = i128::from(amount) * NANO;
        self.with(now, |level| {
            if wanted <= *level {
                *level -= wanted;
                return Ok(());
            }
            Err(if amount > self.allowance.burst {
                Duration::MAX
            } else {
                self.after(wanted - *level)
            })
        })
    }

    /// Whether there is anything: what it costs is known, and spent, afterwards.
    ///
    /// # Errors
    /// After how long there will be.
    pub fn ready(&self) -> Result<(), Duration> {
        self.with(Instant::now(), |level| {
            if *level > 0 {
                Ok(())
            } else {
                Err(self.after(1 - *level))
            }
        })
    }

    /// Takes `amount`, also if it is not there.
    pub fn spend(&self, amount: u64) {
        self.with(Instant::now(), |level| {
            *level = level.saturating_sub(i128::from(amount) * NANO);
        });
    }

    /// Gives back what was taken.
    pub fn give(&self, amount: u64) {
        let full = i128::from(self.allowance.burst) * NANO;
        self.with(Instant::now(), |level| {
            *level = level.saturating_add(i128::from(amount) * NANO).min(full);
        });
    }

    /// Whether nothing is missing.
    pub fn is_full(&self) -> bool {
        let full = i128::from(self.allowance.burst) * NANO;
        self.with(Instant::now(), |level| *level == full)
    }

    fn after(&self, missing: i128) -> Duration {
        let ns = (missing - 1) / i128::from(self.allowance.a_second.max(1)) + 1;
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> (Bucket, Instant) {
        let bucket = Bucket::new(Allowance {
            a_second: 10,
            burst: 20,
        });
        let began = bucket.level.lock().unwrap().1;
        (bucket, began)
    }

    #[test]
    fn burst_and_rate_have_both_sides() {
        let (bucket, began) = bucket();
        assert_eq!(bucket.take_at(began, 21), Err(Duration::MAX));
        assert_eq!(bucket.take_at(began, 20), Ok(()));
        assert_eq!(bucket.take_at(began, 1), Err(Duration::from_millis(100)));
        let almost = began + Duration::from_nanos(99_999_999);
        assert_eq!(bucket.take_at(almost, 1), Err(Duration::from_nanos(1)));
        assert_eq!(
            bucket.take_at(began + Duration::from_millis(100), 1),
            Ok(())
        );
        // It holds no more than the burst however long nobody takes anything.
        let later = began + Duration::from_secs(3_600);
        assert_eq!(bucket.take_at(later, 20), Ok(()));
        assert!(bucket.take_at(later, 1).is_err());
    }

    #[test]
    fn what_was_spent_beyond_is_waited_for() {
        let (bucket, began) = bucket();
        bucket.spend(120);
        let wait = bucket.take_at(began, 1).unwrap_err();
        assert!(
            wait >= Duration::from_secs(10) && wait < Duration::from_secs(11),
            "{wait:?}"
        );
        assert!(bucket.ready().is_err() && !bucket.is_full());
    }
}
