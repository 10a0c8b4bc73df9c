//! What virtual time adds: ten thousand runs a table.
//!
//! On virtual time a challenger can begin too late by exactly so much, which no real clock of this machine can:
//! the table of start skew is made there.

use plumbline_attack::sim::{Kind, Table, table};

use crate::plan::Simulated;
use crate::progress::Progress;

/// Between two lines of progress, runs.
const EVERY: u64 = 1000;

/// All tables.
pub(crate) fn tables(plan: Simulated, progress: &Progress) -> Vec<Table> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            table(kind, plan.runs, plan.seed, &|done, all| {
                if done % EVERY == 0 || done == all {
                    progress.note(&format!("virtual time, {kind:?}: {done} of {all} runs"));
                }
            })
        })
        .collect()
}
