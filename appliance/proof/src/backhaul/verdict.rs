//! What a judgement is made of, and the rule that turns figures into a verdict.
//!
//! ```text
//!  the commitment holds? ─no─► Inconclusive         V4, V13
//!  bounds carry the claim ───► Pass                 the contract computes this itself
//!  n−f reports?  ────────no─► Inconclusive          who is missing, and what each said
//!  asked K, and less came ──► Fail                  offer.rs
//!  else ─────────────────────► Inconclusive         receiver · duration · offered: who, what, how much
//! ```

use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

use super::burst::Burst;
use super::estimate::{self, Bound};
use super::offer::Tried;
use super::params::Terms;

/// What the measurement says about the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
#[borsh(use_discriminant = true)]
pub enum Verdict {
    /// The claim holds: B_g(0) ≥ 0.95·K and B_g(f) ≥ 0.95·α·K.
    Pass = 1,
    /// A link of K was asked for enough, and did not carry it from these senders at that time.
    Fail = 2,
    /// Could not be measured. Not a verdict on the prover.
    Inconclusive = 3,
}

/// What the figures of `counted` reports on a commitment that holds say: the whole rule.
pub fn decide(terms: &Terms, curve: &[Bound], counted: usize, tried: Option<&Tried>) -> Verdict {
    let bps = |bound: Option<&Bound>| bound.map_or(0, |b| b.bps);
    if (counted as u64) < terms.honest() {
        Verdict::Inconclusive
    } else if estimate::passes(terms, bps(curve.first()), bps(curve.last())) {
        Verdict::Pass
    } else if tried.is_some_and(|t| t.short) {
        Verdict::Fail
    } else {
        Verdict::Inconclusive
    }
}

/// Outcome of one named check.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Check {
    /// V1 … V13.
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

/// Flag of a challenger that began, and gave neither report nor seed.
pub const WITHHELD: &str = "Withheld";

/// One challenger's part in the judgement.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Standing {
    /// Place in the draw.
    pub index: u16,
    /// Its report counts, and it is paid for its packets.
    pub valid: bool,
    /// What is to be said of it: `Narrow` (its own access may have been the limit), and what keeps its report from
    /// counting: `NotConsented`, `GaveUp`, `NoReport`, [`WITHHELD`], `V2` …
    pub flags: Vec<String>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Judgement {
    /// What it says about the claim.
    pub verdict: Verdict,
    /// Why not Pass, in words.
    pub reason: Option<String>,
    /// The measured figure, round trips credited, bit/s at the IP layer: shown, never judged.
    pub measured_bps: u64,
    /// B_g(0..=f), bit/s.
    pub curve: Vec<u64>,
    /// The T that gives each, µs.
    pub spans_us: Vec<u32>,
    /// N': packets that entered the bounds.
    pub packets: u64,
    /// What a link of the claim would have been asked to carry at least, bit/s; none if nobody sent long enough.
    pub asked_bps: Option<u64>,
    /// All that came, whatever became of it, over the same time, bit/s.
    pub came_bps: Option<u64>,
    /// The link was faster at first, by the prover's own slices: shown, never judged.
    pub burst: Option<Burst>,
    /// The prover's commitment is whole: the contract can take it.
    pub commitment_ok: bool,
    /// Every challenger.
    pub standings: Vec<Standing>,
    /// The checks.
    pub checks: Vec<Check>,
}

impl Judgement {
    /// B_g(0), bit/s: what the link carried at least, if nobody lies.
    pub fn lower_bps(&self) -> u64 {
        self.curve.first().copied().unwrap_or(0)
    }

    /// B_g(f), bit/s.
    pub fn guaranteed_bps(&self) -> u64 {
        self.curve.last().copied().unwrap_or(0)
    }

    /// What the line sustains at least, bit/s, if it has a bucket of `burst_bytes`: over T the bucket adds at most
    /// 8·σ/T to B_g(f).
    pub fn sustained_bps(&self, burst_bytes: u64) -> u64 {
        let span_us = u128::from(self.spans_us.last().copied().unwrap_or(0));
        let added = (8_000_000 * u128::from(burst_bytes)).checked_div(span_us);
        let added = added.map_or(u64::MAX, |bps| u64::try_from(bps).unwrap_or(u64::MAX));
        self.guaranteed_bps().saturating_sub(added)
    }
}
