//! What a challenger lends to others at most: anybody may ask for a measurement.
//!
//! **Guarantees.** No session begins beyond the limits; what ended gives back what it took. A refusal names the
//! key of the configuration, its value and what was asked. **Limits.** The draw does not know the limits: who
//! is drawn for more gives up with these words. **Tests.** Below.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::units::{Bytes, Rate};

/// `[challenger]`: how much at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Offered or received by all sessions together.
    pub rate: Rate,
    /// Sent or received by one session, at the IP layer.
    pub bytes: Bytes,
    /// Packets made ahead by all sessions together.
    pub memory: Bytes,
}

/// What a session takes: bit/s, bytes in all, bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
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
}

impl Budget {
    /// Nothing is taken yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            taken: Mutex::default(),
        })
    }

    /// Takes a share until the result is dropped, or says why not.
    pub(super) fn take(self: &Arc<Self>, share: Share) -> Result<Taken, String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = &self.limits;
        if share.bytes > limits.bytes {
            return Err(format!(
                "challenger.max_bytes is {}; this session may take {}",
                limits.bytes, share.bytes
            ));
        }
        let rate = taken.0.saturating_add(share.rate.0);
        if rate > limits.rate.0 {
            return Err(format!(
                "challenger.max_rate is {}, of which {} is in use; this session asks for {}",
                limits.rate,
                Rate(taken.0),
                share.rate
            ));
        }
        let memory = taken.1.saturating_add(share.memory.0);
        if memory > limits.memory.0 {
            return Err(format!(
                "challenger.max_memory is {}, of which {} is in use; this session needs {}",
                limits.memory,
                Bytes(taken.1),
                share.memory
            ));
        }
        *taken = (rate, memory);
        Ok(Taken(self.clone(), share))
    }
}

/// A share that is taken.
#[derive(Debug)]
pub(super) struct Taken(Arc<Budget>, Share);

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 = taken.0.saturating_sub(self.1.rate.0);
        taken.1 = taken.1.saturating_sub(self.1.memory.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_both_sides_and_what_ends_gives_back() {
        let budget = Budget::new(Limits {
            rate: Rate(1_000_000_000),
            bytes: Bytes(500),
            memory: Bytes(64_000_000),
        });
        let share = |rate, bytes, memory| Share {
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
}
