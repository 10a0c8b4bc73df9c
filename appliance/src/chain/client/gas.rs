//! How much gas a transaction is given.

use alloy::eips::eip7825::MAX_TX_GAS_LIMIT_OSAKA;

/// What a transaction may need in the next block beyond what it needs in the newest one: the first
/// heartbeat of a block opens a round, which writes two new slots of 22,100 gas.
const NEXT_BLOCK_GAS: u64 = 60_000;

/// Most gas that a transaction is given: EIP-7825, what Ethereum, BSC and ZKsync OS allow; others allow more.
pub(in crate::chain) const TRANSACTION_GAS: u64 = MAX_TX_GAS_LIMIT_OSAKA;

/// What to allow for what was estimated, never more than a transaction may have; `None` where that does not
/// suffice.
pub(super) fn with_margin(estimate: u64, stuck: bool) -> Option<u64> {
    // What it needs may grow a little until its block is made: more participants, another day.
    let more = estimate / 4 + if stuck { NEXT_BLOCK_GAS } else { 0 };
    (estimate <= TRANSACTION_GAS).then(|| (estimate + more).min(TRANSACTION_GAS))
}

/// Whether a node refuses a transaction because of its gas limit alone.
pub(super) fn is_too_much(message: &str) -> bool {
    let words = message.to_lowercase();
    [
        "gas limit too high",
        "exceeds block gas limit",
        "greater than the cap",
        "gas limit cap",
        "exceeds max transaction gas limit",
    ]
    .iter()
    .any(|part| words.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_margin_never_lifts_a_transaction_over_the_cap_and_what_needs_more_is_refused() {
        let cap = TRANSACTION_GAS;
        assert_eq!(with_margin(100_000, false), Some(125_000));
        assert_eq!(with_margin(100_000, true), Some(125_000 + NEXT_BLOCK_GAS));
        assert_eq!(with_margin(cap - 1, false), Some(cap));
        assert_eq!(with_margin(cap, true), Some(cap));
        assert_eq!(with_margin(cap + 1, false), None);
    }

    #[test]
    fn a_node_that_allows_less_is_understood_and_one_that_is_not_paid_is_not_mistaken_for_it() {
        for words in [
            "transaction gas limit too high (cap: 16777216, tx: 16777217)",
            "exceeds block gas limit",
            "transaction gas limit (16777217) is greater than the cap (16777216)",
        ] {
            assert!(is_too_much(words), "{words}");
        }
        for words in [
            "gas required exceeds allowance (12)",
            "insufficient funds for gas * price + value",
            "intrinsic gas too low",
        ] {
            assert!(!is_too_much(words), "{words}");
        }
    }
}
