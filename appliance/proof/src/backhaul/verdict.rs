//! What a judgement is made of, and the rule that turns figures into a verdict. The rule is the
//! contract's, word for word (`Backhaul.sol`), in integers.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

use super::burst::Burst;
use super::params::Terms;

/// What the measurement says about the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
#[borsh(use_discriminant = true)]
pub enum Verdict {
    /// The claim holds: B ≥ 0.95·K and B_g ≥ 0.95·α·K.
    Pass = 1,
    /// Measured, and it does not.
    Fail = 2,
    /// Could not be measured. Not a verdict on the prover.
    Inconclusive = 3,
}

/// Outcome of one named check.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Check {
    /// V1 … V14.
    pub check: String,
    /// What it is about.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Who is to blame if it does not: `prover`, `challenger 3`, `coordinator`.
    pub culprit: Option<String>,
    /// Figures, for people.
    pub detail: String,
}

/// One challenger's part in the judgement.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Standing {
    /// Place in the draw.
    pub index: u16,
    /// Its report entered the estimate.
    pub valid: bool,
    /// It is paid: valid and not an outlier (V8).
    pub paid: bool,
    /// Flags that do not invalidate it: `RttInflation`, `ClockError`, `Outlier`, and what made it
    /// invalid: `NoReport`, `V2`, `V3` …
    pub flags: Vec<String>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Judgement {
    /// What it says about the claim.
    pub verdict: Verdict,
    /// Why not Pass, in words.
    pub reason: Option<String>,
    /// B, bit/s at the IP layer.
    pub point_bps: u64,
    /// B_g(0..=f), bit/s.
    pub curve: Vec<u64>,
    /// N': packets that entered the estimate.
    pub packets: u64,
    /// The link was faster at first: B and B_g are at most what came after (V12).
    pub burst: Option<Burst>,
    /// The prover's commitment is whole: the contract can take it.
    pub commitment_ok: bool,
    /// Every challenger.
    pub standings: Vec<Standing>,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Judgement {
    /// B_g(f), bit/s.
    pub fn guaranteed_bps(&self) -> u64 {
        self.curve.last().copied().unwrap_or(0)
    }

    /// The rate after a burst, bit/s; the largest number where none was seen. No figure exceeds it.
    pub fn sustained_bps(&self) -> u64 {
        self.burst.map_or(u64::MAX, |burst| burst.sustained_bps)
    }
}

/// The same, where something is found that the figures do not show: nothing is said of the claim.
pub(super) fn unless(
    void: Option<String>,
    decided: (Verdict, Option<String>),
) -> (Verdict, Option<String>) {
    match void {
        Some(why) => (Verdict::Inconclusive, Some(why)),
        None => decided,
    }
}

/// The contract's rule, word for word.
pub(super) fn decide(
    terms: &Terms,
    commitment_ok: bool,
    enough: bool,
    valid: usize,
    point: u64,
    guaranteed: u64,
) -> (Verdict, Option<String>) {
    if !commitment_ok {
        return (
            Verdict::Inconclusive,
            Some("the prover's commitment does not hold".into()),
        );
    }
    if !enough {
        return (
            Verdict::Inconclusive,
            Some(format!(
                "{valid} valid reports; {} are needed",
                terms.honest()
            )),
        );
    }
    let claim = u128::from(terms.claim_bps);
    let honest = u128::from(terms.honest());
    let trusted = honest.saturating_sub(u128::from(terms.f));
    if u128::from(point) * 100 < claim * 95 {
        return (
            Verdict::Fail,
            Some(format!(
                "measured {point} bit/s, below 95 % of the claimed {}",
                terms.claim_bps
            )),
        );
    }
    if u128::from(guaranteed) * 100 * honest < claim * 95 * trusted {
        return (
            Verdict::Fail,
            Some(format!(
                "guaranteed {guaranteed} bit/s, below 95 % of {trusted}/{honest} of the claimed {}",
                terms.claim_bps
            )),
        );
    }
    (Verdict::Pass, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backhaul::params::Terms;

    #[test]
    fn the_rule_has_both_sides() {
        let terms = Terms::downlink(1000, 4, 1, 100);
        let v = |point, guaranteed| decide(&terms, true, true, 4, point, guaranteed).0;
        // α = 2/3: 0.95·α·K = 633.3
        assert_eq!(v(950, 634), Verdict::Pass);
        assert_eq!(v(949, 634), Verdict::Fail);
        assert_eq!(v(950, 633), Verdict::Fail);
        assert_eq!(
            decide(&terms, true, false, 2, 950, 950).0,
            Verdict::Inconclusive
        );
        assert_eq!(
            decide(&terms, false, true, 4, 950, 950).0,
            Verdict::Inconclusive
        );
    }
}
