//! A transaction on its way: its nonce, its fees, its variants.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use alloy::primitives::{B256, Bytes, TxKind};
use tokio::time::Instant;

use crate::chain::finality::Finality;

/// Nonces of transactions on their way, so that none is used twice while a reorganised one is out of
/// every block.
pub(super) type Claims = Arc<Mutex<BTreeSet<u64>>>;

/// A nonce in use, until dropped.
pub(super) struct Claim {
    pub(super) nonce: u64,
    all: Claims,
}

impl Claim {
    /// The first nonce from `next` on that is not in use.
    pub(super) fn first(next: u64, all: &Claims) -> Self {
        let mut used = all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nonce = next;
        while !used.insert(nonce) {
            nonce += 1;
        }
        Self {
            nonce,
            all: Arc::clone(all),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut used = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        used.remove(&self.nonce);
    }
}

#[derive(Clone, Copy)]
pub(super) struct Fees {
    pub(super) max: u128,
    pub(super) priority: u128,
}

impl Fees {
    /// An eighth more, as nodes ask of a replacement; one wei at least.
    pub(super) fn raised(self) -> Self {
        let more = |fee: u128| fee.saturating_add(fee.div_ceil(8).max(1));
        Self {
            max: more(self.max),
            priority: more(self.priority),
        }
    }
}

/// One variant of a transaction.
pub(super) struct Variant {
    pub(super) hash: B256,
    pub(super) raw: Vec<u8>,
}

/// A transaction on its way.
pub(super) struct Flight {
    pub(super) what: &'static str,
    pub(super) to: TxKind,
    pub(super) input: Bytes,
    pub(super) claim: Claim,
    pub(super) gas: u64,
    pub(super) fees: Fees,
    /// Newest last.
    pub(super) variants: Vec<Variant>,
    pub(super) began: Instant,
    /// When the newest variant was made.
    pub(super) fresh: Instant,
    /// Since when its nonce is seen used while it is in no block.
    pub(super) taken: Option<Instant>,
    /// Some node has taken it: from then on nothing that a node says about another thing ends it.
    pub(super) is_out: bool,
    /// When it is acknowledged.
    pub(super) finality: Finality,
    /// How it stood when last looked at.
    pub(super) stands: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raised_fee_is_an_eighth_more_and_never_the_same() {
        let raised = |max, priority| {
            let fees = Fees { max, priority }.raised();
            (fees.max, fees.priority)
        };
        assert_eq!(raised(0, 0), (1, 1));
        assert_eq!(raised(7, 8), (8, 9));
        assert_eq!(raised(1_000, 1), (1_125, 2));
        assert_eq!(raised(u128::MAX, 9), (u128::MAX, 11));
    }

    #[test]
    fn a_nonce_in_use_is_not_used_again() {
        let all = Claims::default();
        let one = Claim::first(5, &all);
        let two = Claim::first(5, &all);
        assert_eq!((one.nonce, two.nonce), (5, 6));
        drop(one);
        assert_eq!(Claim::first(5, &all).nonce, 5);
        assert_eq!(Claim::first(6, &all).nonce, 7);
    }
}
