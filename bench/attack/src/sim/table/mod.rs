//! Tables: many runs of many cells on all cores, and what they come to.
//!
//! ```text
//!  kind ─► cells (world, switch) × runs ─► next run ─► thread 1 … k ─► outcomes in their order ─► rows
//! ```
//!
//! Claim: the same kind, runs and seed give the same table whatever the number of cores; a row names the
//! seed of its worst run. Tests: `sim`'s.

mod cells;
mod row;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use super::chance::seed_of;
use super::outcome::Outcome;
use super::{Unplayable, run_and};
use cells::{Cell, cells};
pub use row::{Row, Spread};

/// Of so many runs one has its bundle verified: that costs as much as the run.
const VERIFIED_EVERY: u64 = 10;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// n = 10, f of them corrupt, 0 … 3: every attack by challengers.
    Corruption,
    /// Every attack on every network.
    Acceptance,
    /// Challengers that begin too late.
    Skew,
    /// Cross traffic.
    Cross,
    /// Token buckets.
    Shaper,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Corruption,
        Self::Acceptance,
        Self::Skew,
        Self::Cross,
        Self::Shaper,
    ];

    /// Its name, in results and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Corruption => "corruption",
            Self::Acceptance => "acceptance",
            Self::Skew => "skew",
            Self::Cross => "cross",
            Self::Shaper => "shaper",
        }
    }
}

/// What a row varies besides attack and network.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name, with its unit.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// Which.
    pub kind: Kind,
    /// Repeats it.
    pub seed: u64,
    /// Runs of all rows.
    pub runs: u64,
    /// Those of them whose bundles were verified again.
    pub verified_runs: u64,
    /// … and did not give the coordinator's judgement, though nobody altered it.
    pub disagreements: u64,
    /// One for each cell.
    pub rows: Vec<Row>,
    /// Attacks that cannot be played here, and why.
    pub unplayable: Vec<String>,
}

/// Makes a table of about `runs` runs (at least one for each cell), on all cores. `on_progress` hears how
/// many are done and how many there will be, from any thread.
pub fn table(kind: Kind, runs: u64, seed: u64, on_progress: &(dyn Fn(u64, u64) + Sync)) -> Table {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    table_on(kind, runs, seed, cores, on_progress)
}

/// One run of a table again: of the row with this [`Row::cell`], with a seed that it names.
///
/// # Errors
/// [`Unplayable::Cell`] if the table has no such row.
pub fn repeat(kind: Kind, cell: usize, seed: u64) -> Result<Outcome, Unplayable> {
    let (cells, _) = cells(kind);
    let of = cells.get(cell).ok_or(Unplayable::Cell(cell, cells.len()))?;
    run_and(&of.world, of.switch, seed, true)
}

pub(super) fn table_on(
    kind: Kind,
    runs: u64,
    seed: u64,
    threads: NonZeroUsize,
    on_progress: &(dyn Fn(u64, u64) + Sync),
) -> Table {
    let (cells, unplayable) = cells(kind);
    let each = runs.div_ceil(cells.len() as u64).max(1);
    let outcomes = outcomes(&cells, each, seed, threads, on_progress);
    let rows: Vec<Row> = cells
        .iter()
        .zip(&outcomes)
        .zip(0..)
        .map(|((cell, outcomes), number)| Row::of(number, cell, outcomes))
        .collect();
    Table {
        kind,
        seed,
        runs: rows.iter().map(|r| r.runs).sum(),
        verified_runs: rows.iter().map(|r| r.verified_runs).sum(),
        disagreements: rows.iter().map(|r| r.disagreements).sum(),
        rows,
        unplayable: unplayable.iter().map(Unplayable::to_string).collect(),
    }
}

/// `each` outcomes of every cell, in their order.
fn outcomes(
    cells: &[Cell],
    each: u64,
    seed: u64,
    threads: NonZeroUsize,
    on_progress: &(dyn Fn(u64, u64) + Sync),
) -> Vec<Vec<Outcome>> {
    let total = each * cells.len() as u64;
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut mine: Vec<(u64, usize, Outcome)> = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= total {
                return mine;
            }
            let (cell, run) = (at / each, at % each);
            let index = usize::try_from(cell).unwrap_or(usize::MAX);
            let verify = (run + cell).is_multiple_of(VERIFIED_EVERY);
            let Some(cell_of) = cells.get(index) else {
                return mine;
            };
            let seed = seed_of(seed, cell, run);
            // Cells hold only what can be played.
            if let Ok(outcome) = run_and(&cell_of.world, cell_of.switch, seed, verify) {
                mine.push((run, index, outcome));
            }
            on_progress(done.fetch_add(1, Ordering::Relaxed) + 1, total);
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get()).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(theirs) => all.extend(theirs),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(run, cell, _)| (*cell, *run));
    let mut by_cell: Vec<Vec<Outcome>> = cells.iter().map(|_| Vec::new()).collect();
    for (_, cell, outcome) in all {
        by_cell[cell].push(outcome);
    }
    by_cell
}
