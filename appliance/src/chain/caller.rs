//! Somebody who asks over the network, and what it may still take of this machine.
//!
//! ```text
//!   Quota ─► Caller ─┬─ requests       a second, twice as many at once; each entry of a batch is one
//!                    ├─ reading        time of a core a second: taken as long as a read took
//!                    └─ transactions   gas, of newcomers and of the registered: what is written is kept for ever
//! ```
//! **Guarantees.** Whoever has nothing left is refused before anything is done for it, and told when to come back.
//! **Limits.** A read that has begun is not broken off: its gas and its blocks are bounded. **Tests.** Below, and
//! `appliance/tests/door/`.

use std::time::{Duration, Instant};

use crate::bucket::{Allowance, Bucket};

/// Seconds of a quota that may be taken at once.
const BURST_S: u64 = 2;
/// … and of reading, which comes in lumps: a list of all participants.
const READING_BURST_S: u64 = 10;
/// In so many seconds the gas of transactions comes back.
const GAS_S: u64 = 600;
/// Accounts that are registered, and have a stake to lose, may send so many times the gas of newcomers: by default
/// as much as seventeen heartbeats a second.
const REGISTERED: u64 = 100;

/// What one caller may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Requests a second.
    pub requests_a_second: u32,
    /// Time of a core that its reads may take a second.
    pub reading_a_second: Duration,
    /// Gas of transactions of accounts that are not registered, at once; as much again comes back in ten minutes. To
    /// mint, allow and register takes about a million, and what is written is kept for ever.
    pub newcomers_gas: u64,
}

/// One caller.
#[derive(Debug)]
pub struct Caller {
    requests: Bucket,
    reading: Bucket,
    newcomers: Bucket,
    registered: Bucket,
}

/// Time that a read takes, spent when it ends.
#[derive(Debug)]
pub struct Reading<'a>(&'a Caller, Instant);

impl Caller {
    /// One that has taken nothing yet.
    pub fn new(quota: Quota) -> Self {
        let requests = u64::from(quota.requests_a_second);
        let reading = u64::try_from(quota.reading_a_second.as_micros()).unwrap_or(u64::MAX);
        let of = |a_second: u64, seconds: u64| {
            Bucket::new(Allowance {
                a_second,
                burst: a_second.saturating_mul(seconds),
            })
        };
        let gas = |burst: u64| {
            Bucket::new(Allowance {
                a_second: (burst / GAS_S).max(1),
                burst,
            })
        };
        Self {
            requests: of(requests, BURST_S),
            reading: of(reading, READING_BURST_S),
            newcomers: gas(quota.newcomers_gas),
            registered: gas(quota.newcomers_gas.saturating_mul(REGISTERED)),
        }
    }

    /// So many requests.
    ///
    /// # Errors
    /// After how long they may come.
    pub fn request(&self, count: u64) -> Result<(), Duration> {
        self.requests.take(count)
    }

    /// Begins to read: what it takes is spent when the result is dropped.
    ///
    /// # Errors
    /// After how long it may.
    pub fn read(&self) -> Result<Reading<'_>, Duration> {
        self.reading.ready()?;
        Ok(self.spending())
    }

    /// The same for what has begun.
    pub fn spending(&self) -> Reading<'_> {
        Reading(self, Instant::now())
    }

    /// A transaction with this gas limit: of an account that is registered, to the chain's own contracts, or any other.
    ///
    /// # Errors
    /// After how long it may be sent.
    pub fn transaction(&self, gas: u64, is_registered: bool) -> Result<(), Duration> {
        if is_registered {
            self.registered.take(gas)
        } else {
            self.newcomers.take(gas)
        }
    }

    /// Whether it has taken nothing lately.
    pub fn is_fresh(&self) -> bool {
        [
            &self.requests,
            &self.reading,
            &self.newcomers,
            &self.registered,
        ]
        .iter()
        .all(|b| b.is_full())
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let took = self.1.elapsed().as_micros();
        self.0
            .reading
            .spend(u64::try_from(took).unwrap_or(u64::MAX));
    }
}

/// A wait as people and `Retry-After` say it: whole seconds, at least one.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_nanos()
        .div_ceil(1_000_000_000)
        .clamp(1, u64::MAX.into())
        .try_into()
        .unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller::new(Quota {
            requests_a_second: 5,
            reading_a_second: Duration::from_micros(1),
            newcomers_gas: 1_000,
        })
    }

    #[test]
    fn who_has_taken_all_is_refused_and_of_one_thing_not_of_the_others() {
        let caller = caller();
        assert!(caller.is_fresh());
        assert_eq!(caller.request(10), Ok(()));
        assert!(caller.request(10).is_err());
        let began = Instant::now();
        let reading = caller.read().unwrap();
        // Ten microseconds are the whole of it.
        while began.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
        drop(reading);
        assert!(caller.read().is_err());
        assert_eq!(caller.transaction(1_000, false), Ok(()));
        assert!(caller.transaction(1_000, false).is_err());
        assert_eq!(caller.transaction(100_000, true), Ok(()));
        assert!(caller.transaction(1_000, true).is_err());
        assert!(!caller.is_fresh());
    }

    #[test]
    fn a_wait_is_said_in_whole_seconds() {
        for (ns, s) in [(0, 1), (1, 1), (1_000_000_000, 1), (1_000_000_001, 2)] {
            assert_eq!(seconds(Duration::from_nanos(ns)), s);
        }
        assert_eq!(seconds(Duration::MAX), u64::MAX);
    }
}
