//! What a node lends to others at most: anybody may ask for a measurement.
//!
//! **Guarantees.** No session begins beyond the limits; what ended gives back what it took, and what did not come to
//! send gives back its bytes of the day. A refusal names the key of the configuration, its value and what was asked.
//! **Limits.** The draw does not know the limits: who is drawn for more gives up with these words. The day is a sliding
//! one, and begins anew with the process. **Tests.** Below.

use std::sync::{Arc, Mutex, PoisonError};

use crate::bucket::{Allowance, Bucket};
use crate::chain::caller::seconds;
use crate::config::units::{Bytes, Rate};

const DAY_S: u64 = 86_400;

/// `[challenger]` or `[prover]`: how much at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The table of the configuration, for refusals.
    pub role: &'static str,
    /// Least price of a byte, base units.
    pub min_price: u128,
    /// Offered or received by all sessions together.
    pub rate: Rate,
    /// Sent or received by one session, at the IP layer.
    pub bytes: Bytes,
    /// … and by all of a day.
    pub bytes_per_day: Bytes,
    /// Packets made ahead by all sessions together.
    pub memory: Bytes,
}

/// What a session pays and takes: base units a byte, bit/s, bytes in all, bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) price: u128,
    pub(super) rate: Rate,
    pub(super) bytes: Bytes,
    pub(super) memory: Bytes,
}

/// The limits and what of them is taken.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    /// Rate and memory of the sessions that there are.
    taken: Mutex<(u64, u64)>,
    day: Bucket,
}

impl Budget {
    /// Nothing is taken yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        let Bytes(burst) = limits.bytes_per_day;
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
            day: Bucket::new(Allowance {
                a_second: (burst / DAY_S).max(1),
                burst,
            }),
        })
    }

    /// Takes a share until the result is dropped, or says why not.
    pub(super) fn take(self: &Arc<Self>, share: Share) -> Result<Taken, String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = &self.limits;
        let role = limits.role;
        if share.price < limits.min_price {
            return Err(format!(
                "{role}.min_price is {} base units a byte; this request offers {}",
                limits.min_price, share.price
            ));
        }
        if share.bytes > limits.bytes {
            return Err(format!(
                "{role}.max_bytes is {}; this session may take {}",
                limits.bytes, share.bytes
            ));
        }
        let rate = taken.0.saturating_add(share.rate.0);
        if rate > limits.rate.0 {
            return Err(format!(
                "{role}.max_rate is {}, of which {} is in use; this session asks for {}",
                limits.rate,
                Rate(taken.0),
                share.rate
            ));
        }
        let memory = taken.1.saturating_add(share.memory.0);
        if memory > limits.memory.0 {
            return Err(format!(
                "{role}.max_memory is {}, of which {} is in use; this session needs {}",
                limits.memory,
                Bytes(taken.1),
                share.memory
            ));
        }
        self.day.take(share.bytes.0).map_err(|wait| {
            let when = if share.bytes > limits.bytes_per_day {
                "more than a day's".to_owned()
            } else {
                format!("there will be so many in {} s", seconds(wait))
            };
            format!(
                "{role}.max_bytes_per_day is {}, and this session may take {}: {when}",
                limits.bytes_per_day, share.bytes
            )
        })?;
        *taken = (rate, memory);
        Ok(Taken {
            budget: self.clone(),
            share,
            is_used: false,
        })
    }
}

/// A share that is taken.
#[derive(Debug)]
pub(super) struct Taken {
    budget: Arc<Budget>,
    share: Share,
    is_used: bool,
}

impl Taken {
    /// Packets are sent, or awaited: the day's bytes are gone.
    pub(super) fn used(&mut self) {
        self.is_used = true;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self
            .budget
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        taken.0 = taken.0.saturating_sub(self.share.rate.0);
        taken.1 = taken.1.saturating_sub(self.share.memory.0);
        if !self.is_used {
            self.budget.day.give(self.share.bytes.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_both_sides_and_what_ends_gives_back() {
        let budget = Budget::new(Limits {
            role: "challenger",
            min_price: 0,
            bytes_per_day: Bytes(1_000_000),
            rate: Rate(1_000_000_000),
            bytes: Bytes(500),
            memory: Bytes(64_000_000),
        });
        let share = |rate, bytes, memory| Share {
            price: 0,
            rate: Rate(rate),
            bytes: Bytes(bytes),
            memory: Bytes(memory),
        };
        let refused = |s| budget.take(s).unwrap_err();
        assert_eq!(
            refused(share(1, 501, 1)),
            "challenger.max_bytes is 500; this session may take 501"
        );
        let first = budget.take(share(600_000_000, 500, 32_000_000)).unwrap();
        assert_eq!(
            refused(share(400_000_001, 1, 1)),
            "challenger.max_rate is 1gbit, of which 600mbit is in use; this session asks for 400000001"
        );
        assert_eq!(
            refused(share(1, 1, 32_000_001)),
            "challenger.max_memory is 64mb, of which 32mb is in use; this session needs 32000001"
        );
        let second = budget.take(share(400_000_000, 500, 32_000_000)).unwrap();
        assert!(budget.take(share(1, 1, 0)).is_err());
        drop(first);
        assert!(budget.take(share(600_000_000, 1, 32_000_000)).is_ok());
        drop(second);
        assert_eq!(*budget.taken.lock().unwrap(), (0, 0));
        assert!(budget.take(share(u64::MAX, 1, 1)).is_err());
    }
    #[test]
    fn price_and_day_have_both_sides_and_what_was_not_used_comes_back() {
        let budget = Budget::new(Limits {
            role: "prover",
            min_price: 2,
            rate: Rate(u64::MAX),
            bytes: Bytes(u64::MAX),
            bytes_per_day: Bytes(1_000),
            memory: Bytes(u64::MAX),
        });
        let share = |price, bytes| Share {
            price,
            rate: Rate(1),
            bytes: Bytes(bytes),
            memory: Bytes(0),
        };
        assert_eq!(
            budget.take(share(1, 1)).unwrap_err(),
            "prover.min_price is 2 base units a byte; this request offers 1"
        );
        let whole = budget.take(share(2, 1_000)).unwrap();
        let told = budget.take(share(2, 1_000)).unwrap_err();
        assert!(
            told.starts_with("prover.max_bytes_per_day is 1kb"),
            "{told}"
        );
        drop(whole);
        budget.take(share(2, 1_000)).unwrap().used();
        assert!(budget.take(share(2, 1_000)).is_err());
        let told = budget.take(share(2, 1_001)).unwrap_err();
        assert!(told.ends_with("more than a day's"), "{told}");
    }
}
