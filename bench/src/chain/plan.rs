//! What is measured of the chain, as data: `plans/chain-quick.toml`, `plans/chain-full.toml`.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The plan that is run without `--full`: at most two minutes.
pub(crate) const QUICK: &str = include_str!("../../plans/chain-quick.toml");
/// The plan of `--full`.
pub(crate) const FULL: &str = include_str!("../../plans/chain-full.toml");

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Interleaved repeats of every row.
    pub(crate) rounds: usize,
    /// Transactions that each of many clients sends in a round, one after the other.
    pub(crate) per_client: usize,
    /// Transactions that one client alone sends in a round.
    pub(crate) alone: usize,
    /// How a block's time grows with the accounts in the state.
    pub(crate) growth: Growth,
}

/// Two states, and how often a block is made on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Growth {
    /// Accounts of the small state.
    pub(crate) small: usize,
    /// Accounts of the large state.
    pub(crate) large: usize,
    /// Blocks timed on each, in turns.
    pub(crate) rounds: usize,
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// It is not TOML of this shape, or asks for nothing.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text).context("the plan cannot be read")?;
        let Growth {
            small,
            large,
            rounds,
        } = plan.growth;
        if [plan.rounds, plan.per_client, plan.alone, rounds, small].contains(&0) {
            bail!("the plan: rounds, per_client, alone and growth are at least 1");
        }
        if large <= small {
            bail!("the plan: growth.large ({large}) is above growth.small ({small})");
        }
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_plans_are_whole_and_grow_from_1e3_to_1e6() {
        let (quick, full) = (Plan::parse(QUICK).unwrap(), Plan::parse(FULL).unwrap());
        assert!(full.rounds > quick.rounds && full.growth.rounds > quick.growth.rounds);
        for plan in [quick, full] {
            assert_eq!((plan.growth.small, plan.growth.large), (1_000, 1_000_000));
        }
    }

    #[test]
    fn a_plan_that_asks_for_nothing_or_for_something_unknown_is_refused() {
        for (from, to) in [
            ("rounds = 5", "rounds = 0"),
            ("alone = 60", "alone = 0"),
            ("small = 1_000\n", "small = 1_000_000\n"),
            ("alone = 60", "alone = 60\nbatch = 3"),
        ] {
            let text = QUICK.replace(from, to);
            assert_ne!(text, QUICK);
            assert!(Plan::parse(&text).is_err(), "{to}");
        }
        assert!(Plan::parse(&QUICK.replace("small = 1_000\n", "small = 99_999\n")).is_ok());
    }
}
