//! What is said of a run: a table for people, JSON for machines, a plot for each question.
//!
//! ```text
//!  Outcome ─┬─► table   stdout
//!           ├─► JSON    --json FILE
//!           └─► plot    --plot DIR, one SVG a question
//! ```
//!
//! Claim: all three are made from the same [`Outcome`]. An invalid row is shown as invalid everywhere, and
//! a ratio that was not measured as not measured. Tests: beside the code.

pub(crate) mod chain;
pub(crate) mod date;
pub(crate) mod plot;
pub(crate) mod table;

use serde::Serialize;

use crate::commit::Latency;
use crate::machine::Machine;
use crate::micro::{Hashing, Verifying};
use crate::plan::Plan;
use crate::promise::Checked;
use crate::ratio::Ratios;
use crate::row::Report;
use crate::search::Found;
use crate::stages::Stages;
use crate::stat::Spread;

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The command that made it.
    pub(crate) command: String,
    /// When it began, UTC (RFC 3339).
    pub(crate) date: String,
    /// How long it took, seconds.
    pub(crate) seconds: f64,
    /// What was asked.
    pub(crate) plan: Plan,
    /// The rows.
    pub(crate) rows: Vec<Report>,
    /// The ratios: medians.
    pub(crate) ratios: Ratios,
    /// The same with their spread.
    pub(crate) spreads: Vec<Named>,
    /// The promises, and whether they were kept.
    pub(crate) promises: Vec<Checked>,
    /// The highest rate without loss, where it was searched for.
    pub(crate) maximum: Option<Found>,
    /// Commit latencies.
    pub(crate) commit: Option<Latency>,
    /// Hashing three ways.
    pub(crate) hashing: Option<Hashing>,
    /// Verifying a bundle.
    pub(crate) verifying: Option<Verifying>,
    /// What a packet costs by stage, and the model.
    pub(crate) stages: Option<Stages>,
    /// Parts that could not be measured, and why.
    pub(crate) failures: Vec<String>,
    /// Part of all cores that other work took before the run began.
    pub(crate) busy_before: f64,
}

/// A ratio with its spread.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Named {
    /// Its key.
    pub(crate) ratio: &'static str,
    /// Its rounds.
    #[serde(flatten)]
    pub(crate) spread: Spread,
}

impl Outcome {
    /// Why `--check` must fail, if it must. `partial`: some of the plan was left out on purpose.
    pub(crate) fn complaints(&self, partial: bool) -> Vec<String> {
        let rows = self.rows.iter().filter_map(|row| {
            let why = row.why.as_ref()?;
            Some(format!("row not valid: {}: {why}", row.name))
        });
        let promises = self.promises.iter().filter_map(|p| p.complaint(partial));
        let failures = self.failures.iter().cloned();
        rows.chain(promises).chain(failures).collect()
    }
}
