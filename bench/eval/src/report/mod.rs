//! What is said of an evaluation: JSON for machines, Markdown for people, a plot for each question.
//!
//! ```text
//!  State, cells ─► rows ─► Report ─┬─► JSON       --json FILE
//!  virtual time ──────────────────►├─► markdown   stdout, --markdown FILE
//!                                  └─► plot       --plot DIR
//! ```
//!
//! Claim: all three are made from the same [`Report`]; a row says how many proofs stand behind it, how many were
//! inconclusive or failed, and how many were verified again. Tests: beside the code.

pub(crate) mod markdown;
pub(crate) mod plot;
mod rows;

use plumbline_attack::sim::Table as Simulated;
use serde::Serialize;

use crate::cell::{Cell, Table};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::run::Run;
use crate::state::State;

pub(crate) use rows::{Accuracy, Attack, Corruption, Cross, Shaper, Tally};

/// Everything that an evaluation found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The command that made it.
    pub(crate) command: String,
    /// When it began, UTC (RFC 3339).
    pub(crate) date: String,
    /// How long proofs took, in all processes that worked on it.
    pub(crate) seconds: f64,
    /// How often it was taken up again.
    pub(crate) resumed: u32,
    /// SHA-256 of the product.
    pub(crate) product: String,
    pub(crate) accuracy: Vec<Accuracy>,
    pub(crate) attacks: Vec<Attack>,
    pub(crate) corruption: Vec<Corruption>,
    pub(crate) shaper: Vec<Shaper>,
    pub(crate) cross: Vec<Cross>,
    /// The tables of virtual time, start skew among them.
    pub(crate) simulated: Vec<Simulated>,
    /// Everything together.
    pub(crate) all: Tally,
    pub(crate) plan: Plan,
}

impl Report {
    /// Of what is done.
    pub(crate) fn new(
        state: &State,
        cells: &[(Cell, u32)],
        simulated: Vec<Simulated>,
        command: String,
    ) -> Self {
        let of = |table: Table| {
            let cells = cells.iter().map(|(cell, _)| cell);
            cells
                .filter(move |cell| cell.table == table)
                .map(|cell| (cell, state.runs(&cell.key())))
        };
        let every: Vec<&Run> = cells
            .iter()
            .flat_map(|(cell, _)| state.runs(&cell.key()))
            .collect();
        Self {
            machine: state.of.machine.clone(),
            command,
            date: state.date.clone(),
            seconds: state.seconds,
            resumed: state.resumed,
            product: state.of.product.clone(),
            accuracy: of(Table::Accuracy)
                .map(|(c, r)| Accuracy::new(c, r))
                .collect(),
            attacks: of(Table::Attacks).map(|(c, r)| Attack::new(c, r)).collect(),
            corruption: of(Table::Corruption)
                .map(|(c, r)| Corruption::new(c, r))
                .collect(),
            shaper: of(Table::Shaper).map(|(c, r)| Shaper::new(c, r)).collect(),
            cross: of(Table::Cross).map(|(c, r)| Cross::new(c, r)).collect(),
            simulated,
            all: Tally::of(every),
            plan: state.of.plan.clone(),
        }
    }

    /// What does not hold.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let accuracy = self.accuracy.iter().flat_map(Accuracy::complaints);
        let attacks = self.attacks.iter().flat_map(Attack::complaints);
        let corruption = self.corruption.iter().flat_map(Corruption::complaints);
        let shaper = self.shaper.iter().flat_map(Shaper::complaints);
        let cross = self.cross.iter().flat_map(Cross::complaints);
        let simulated = self.simulated.iter().filter(|t| t.disagreements > 0);
        let simulated = simulated.map(|table| {
            let (kind, count) = (table.kind, table.disagreements);
            format!("virtual time, {kind:?}: {count} bundles are judged otherwise by who verifies")
        });
        accuracy
            .chain(attacks)
            .chain(corruption)
            .chain(shaper)
            .chain(cross)
            .chain(simulated)
            .collect()
    }
}
