//! What a challenger remembers of the paths to provers: the smallest round trip of each, so that a prover that
//! begins to delay its echoes is credited no more than before.
//!
//! In memory, bounded, and not for ever: a path may truly become longer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use plumbline_trust::identity::Address;

/// Provers remembered at most; beyond that the one remembered longest is forgotten.
const PROVERS: usize = 4096;
/// A round trip is remembered for so long: routes change within days, a measured prover is met again within
/// hours.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// Smallest round trips by prover.
#[derive(Debug, Default)]
pub struct Paths(Mutex<HashMap<Address, (u64, Instant)>>);

impl Paths {
    /// The smallest round trip to `prover` that is remembered, ns.
    pub fn smallest_ns(&self, prover: &Address) -> Option<u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ns, since) = known.get(prover)?;
        (since.elapsed() < AGE).then_some(*ns)
    }

    /// A session with `prover` saw this round trip, ns.
    pub fn remember(&self, prover: Address, ns: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let fresh = |since: &Instant| now.duration_since(*since) < AGE;
        if let Some((smallest, since)) = known.get_mut(&prover)
            && fresh(since)
        {
            *smallest = ns.min(*smallest);
            return;
        }
        if known.len() >= PROVERS
            && let Some(oldest) = known.iter().min_by_key(|(_, (_, since))| *since)
        {
            let oldest = *oldest.0;
            known.remove(&oldest);
        }
        known.insert(prover, (ns, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(i: u32) -> Address {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&i.to_le_bytes());
        Address(bytes)
    }

    #[test]
    fn the_smallest_is_remembered_and_so_many_at_most() {
        let paths = Paths::default();
        assert_eq!(paths.smallest_ns(&address(0)), None);
        for ns in [50, 40, 60] {
            paths.remember(address(0), ns);
        }
        assert_eq!(paths.smallest_ns(&address(0)), Some(40));
        for i in 1..=u32::try_from(PROVERS).unwrap() {
            paths.remember(address(i), 9);
        }
        assert_eq!(paths.smallest_ns(&address(0)), None, "the oldest is gone");
        assert_eq!(paths.smallest_ns(&address(1)), Some(9));
    }
}
