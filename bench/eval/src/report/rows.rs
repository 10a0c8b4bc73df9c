//! Rows: what the runs of a cell come to.

use std::collections::BTreeSet;

use plumbline_attack::switch;
use serde::Serialize;

use crate::cell::{Cell, NONE};
use crate::run::{Run, median};

/// The promise on the median error, percent, up to [`SLOW_MBIT`] and above.
const SLOW_PCT: f64 = 2.0;
const FAST_PCT: f64 = 3.0;
const SLOW_MBIT: u64 = 1000;

/// How far a bound may be above what a link is made for, percent of it: the product's promise, whoever is busy.
const BOUND_PCT: u64 = 102;

/// The promise holds for this many challengers and more.
const PROMISED_N: u8 = 4;

/// How the runs of a row ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Tally {
    /// Proofs that say something.
    pub(crate) runs: usize,
    /// Proofs that came to `Inconclusive`, those tried again included.
    pub(crate) inconclusive: usize,
    /// … because this machine could not offer the rate.
    pub(crate) starved: usize,
    /// Proofs while which this machine did not let the link carry its rate.
    pub(crate) uncarried: usize,
    /// Proofs that could not be had at all.
    pub(crate) failed: usize,
    /// Bundles that `plumbline verify` judges to the same verdict and figure.
    pub(crate) verified: usize,
    /// Bundles.
    pub(crate) bundles: usize,
    /// Packets without a fate, in all runs where everybody who counts is honest.
    pub(crate) unaccounted: u64,
    /// What does not hold, each once.
    pub(crate) broken: BTreeSet<String>,
}

impl Tally {
    pub(crate) fn of<'a>(runs: impl IntoIterator<Item = &'a Run>) -> Self {
        let mut tally = Self::default();
        for run in runs {
            tally.runs += usize::from(run.counts());
            tally.inconclusive += usize::from(run.verdict == "Inconclusive");
            tally.starved += usize::from(run.starved);
            tally.uncarried += usize::from(run.uncarried);
            tally.failed += usize::from(run.verdict == "Failed");
            tally.bundles += usize::from(run.verified.is_some());
            tally.verified += usize::from(run.verified == Some(true));
            tally.unaccounted += run.unaccounted.map_or(0, i64::unsigned_abs);
            tally.broken.extend(run.complaints.iter().cloned());
        }
        tally
    }

    fn complaints(&self, what: &str) -> Vec<String> {
        let broken = self.broken.iter();
        broken.map(|broken| format!("{what}: {broken}")).collect()
    }
}

/// What concerns every row: the cell, and how its runs ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Common {
    /// Of the link in the long run, bit/s of IP layer.
    pub(crate) rate: u64,
    pub(crate) n: u8,
    pub(crate) f: u8,
    pub(crate) d_ms: u32,
    pub(crate) rtt_ms: u32,
    #[serde(flatten)]
    pub(crate) tally: Tally,
    #[serde(skip)]
    words: String,
}

impl Common {
    fn new(cell: &Cell, runs: &[Run]) -> Self {
        Self {
            rate: cell.mbit * 1_000_000,
            n: cell.n,
            f: cell.f,
            d_ms: cell.duration_ms,
            rtt_ms: cell.rtt_ms,
            tally: Tally::of(runs),
            words: cell.key(),
        }
    }
}

/// Median over the runs that count.
fn middle(runs: &[Run], value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = runs
        .iter()
        .filter(|r| r.counts())
        .filter_map(value)
        .collect();
    median(&values)
}

/// Largest over the runs that count.
fn largest(runs: &[Run], value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
    let values = runs.iter().filter(|r| r.counts()).filter_map(value);
    values.reduce(f64::max)
}

fn float(bps: Option<u64>) -> Option<f64> {
    bps.map(|bps| bps as f64)
}

/// How far from the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Accuracy {
    #[serde(flatten)]
    pub(crate) common: Common,
    /// Threads on every core that did nothing but be busy.
    pub(crate) busy: u8,
    /// The machine need not be able to offer, carry and receive it.
    #[serde(skip)]
    may_starve: bool,
    /// True claims that were called false.
    pub(crate) false_fails: usize,
    /// Bounds above what the link is made for.
    pub(crate) above: usize,
    /// Of the absolute error, percent of the truth.
    pub(crate) err_median_pct: Option<f64>,
    pub(crate) err_worst_pct: Option<f64>,
    /// Median of the error with its sign: below the truth it is negative.
    pub(crate) bias_pct: Option<f64>,
    /// What is promised of the median, where something is.
    pub(crate) promised_pct: Option<f64>,
}

impl Accuracy {
    pub(super) fn new(cell: &Cell, runs: &[Run]) -> Self {
        let absolute = |run: &Run| run.error_pct().map(f64::abs);
        let promised = if cell.mbit <= SLOW_MBIT {
            SLOW_PCT
        } else {
            FAST_PCT
        };
        Self {
            common: Common::new(cell, runs),
            busy: cell.busy,
            may_starve: cell.may_starve,
            false_fails: runs
                .iter()
                .filter(|r| r.is_false_fail(cell.claim_bps()))
                .count(),
            above: runs.iter().filter(|r| is_above(r, cell.mbit)).count(),
            err_median_pct: middle(runs, absolute),
            err_worst_pct: largest(runs, absolute),
            bias_pct: middle(runs, Run::error_pct),
            promised_pct: (cell.n >= PROMISED_N && cell.busy == 0).then_some(promised),
        }
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        let what = &self.common.words;
        let mut broken = self.common.tally.complaints(what);
        if let (Some(error), Some(promised)) = (self.err_median_pct, self.promised_pct)
            && error > promised
        {
            broken.push(format!(
                "{what}: median error {error:.2} %, promised {promised} %"
            ));
        }
        if self.false_fails > 0 {
            broken.push(format!(
                "{what}: {} true claims were called false",
                self.false_fails
            ));
        }
        if self.above > 0 {
            broken.push(format!("{what}: {} bounds are above the link", self.above));
        }
        // Where the plan says that a machine may be too small or too busy, the row tells it.
        if self.common.tally.runs == 0 && !self.may_starve {
            broken.push(format!("{what}: not one proof came to a verdict"));
        }
        broken
    }
}

/// Whether a bound of `run` is above a link of `mbit`.
fn is_above(run: &Run, mbit: u64) -> bool {
    run.lower_bps
        .is_some_and(|bps| bps > mbit * 10_000 * BOUND_PCT)
}

/// What an attack met, in its worst run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Attack {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) common: Common,
    pub(crate) culprit: Option<switch::Culprit>,
    /// What it must end in.
    pub(crate) outcome: Option<switch::Outcome>,
    pub(crate) defence: Option<&'static str>,
    /// Whether that is what it met in every run.
    pub(crate) held: bool,
    /// Largest of all runs.
    pub(crate) measured_over_true: Option<f64>,
    pub(crate) guaranteed_over_true: Option<f64>,
    /// Every honest challenger in every run that has a figure; none if no run has.
    pub(crate) honest_paid: Option<bool>,
    pub(crate) culprit_paid: Option<bool>,
    /// How the runs ended.
    pub(crate) verdicts: BTreeSet<String>,
}

impl Attack {
    pub(super) fn new(cell: &Cell, runs: &[Run]) -> Self {
        let attack = cell.attack.parse::<switch::Attack>().ok();
        let common = Common::new(cell, runs);
        let counted = || runs.iter().filter(|run| run.counts());
        let met: Vec<_> = counted()
            .filter_map(|run| run.met.as_ref())
            // What is inconclusive pays for what was delivered; what was refunded has no figure.
            .filter(|met| met.measured_over_true.is_some())
            .collect();
        let some = !met.is_empty();
        Self {
            name: cell.attack.clone(),
            culprit: attack.map(switch::Attack::culprit),
            outcome: attack.map(switch::Attack::outcome),
            defence: attack.map(switch::Attack::defence),
            held: common.tally.runs > 0 && counted().all(|run| run.complaints.is_empty()),
            measured_over_true: largest(runs, |r| r.over_true(float(r.measured_bps))),
            guaranteed_over_true: largest(runs, |r| r.over_true(float(r.guaranteed_bps))),
            honest_paid: some.then(|| met.iter().all(|met| met.honest_paid)),
            culprit_paid: some.then(|| met.iter().any(|met| met.culprit_paid)),
            verdicts: counted().map(|run| run.verdict.clone()).collect(),
            common,
        }
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        let what = &self.common.words;
        let mut broken = self.common.tally.complaints(what);
        if !self.held && broken.is_empty() {
            broken.push(format!("{what}: not one proof came to an end"));
        }
        broken
    }
}

/// What corrupt challengers make of every figure that one could take: medians over the runs, over the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Corruption {
    pub(crate) attack: String,
    #[serde(flatten)]
    pub(crate) common: Common,
    pub(crate) measured: Option<f64>,
    /// B_g(0).
    pub(crate) lower: Option<f64>,
    /// B_g(f).
    pub(crate) guaranteed: Option<f64>,
    /// Largest guaranteed figure of all runs: what is promised never to be above the truth.
    pub(crate) guaranteed_worst: Option<f64>,
}

impl Corruption {
    pub(super) fn new(cell: &Cell, runs: &[Run]) -> Self {
        let over = |value: fn(&Run) -> Option<f64>| middle(runs, |r| r.over_true(value(r)));
        let guaranteed = |run: &Run| run.over_true(float(run.guaranteed_bps));
        Self {
            attack: cell.attack.clone(),
            common: Common::new(cell, runs),
            measured: over(|run| float(run.measured_bps)),
            lower: over(|run| float(run.lower_bps)),
            guaranteed: middle(runs, guaranteed),
            guaranteed_worst: largest(runs, guaranteed),
        }
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.common.tally.complaints(&self.common.words)
    }
}

/// What a bucket makes of the figure, and whether the product tells it: medians over the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Shaper {
    #[serde(flatten)]
    pub(crate) common: Common,
    pub(crate) bucket_bytes: u32,
    /// At which the bucket drains, and which is claimed, bit/s.
    pub(crate) peak: u64,
    pub(crate) measured_bps: Option<f64>,
    pub(crate) measured_over_true: Option<f64>,
    pub(crate) guaranteed_over_true: Option<f64>,
    /// At least, by the product's row of the next larger bucket; none where that is larger than all rows.
    pub(crate) sustained_bps: Option<f64>,
    pub(crate) sustained_over_true: Option<f64>,
    pub(crate) burst_bytes: Option<f64>,
}

impl Shaper {
    pub(super) fn new(cell: &Cell, runs: &[Run]) -> Self {
        let (bucket_bytes, peak) = cell.bucket.unwrap_or_default();
        let over = |value: fn(&Run) -> Option<f64>| middle(runs, |r| r.over_true(value(r)));
        Self {
            common: Common::new(cell, runs),
            bucket_bytes,
            peak: peak * 1_000_000,
            measured_bps: middle(runs, |run| float(run.measured_bps)),
            measured_over_true: over(|run| float(run.measured_bps)),
            guaranteed_over_true: over(|run| float(run.guaranteed_bps)),
            sustained_bps: middle(runs, |run| float(run.sustained_bps)),
            sustained_over_true: over(|run| float(run.sustained_bps)),
            burst_bytes: middle(runs, |run| float(run.burst_bytes)),
        }
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.common.tally.complaints(&self.common.words)
    }
}

/// What other traffic leaves: medians over the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cross {
    #[serde(flatten)]
    pub(crate) common: Common,
    /// Of the link, that others send.
    pub(crate) percent: u8,
    pub(crate) measured_over_link: Option<f64>,
    pub(crate) measured_over_link_worst: Option<f64>,
    pub(crate) guaranteed_over_link: Option<f64>,
    /// A first-in-first-out queue's share of what is offered: 1.15 of the claim against the others' rate.
    pub(crate) fifo_share: f64,
}

impl Cross {
    pub(super) fn new(cell: &Cell, runs: &[Run]) -> Self {
        // What the challengers offer together, of the claim.
        const OFFER: f64 = 1.15;
        let measured = |run: &Run| run.over_true(float(run.measured_bps));
        let others = f64::from(cell.cross_percent) / 100.0;
        Self {
            common: Common::new(cell, runs),
            percent: cell.cross_percent,
            measured_over_link: middle(runs, measured),
            measured_over_link_worst: largest(runs, measured),
            guaranteed_over_link: middle(runs, |r| r.over_true(float(r.guaranteed_bps))),
            fifo_share: (OFFER / (OFFER + others)).min(1.0),
        }
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        self.common.tally.complaints(&self.common.words)
    }
}

/// A row's attack in words.
pub(crate) fn or_none(name: &str) -> &str {
    if name == NONE { "–" } else { name }
}

#[cfg(test)]
mod tests {
    use plumbline_lab::Met;

    use super::*;
    use crate::cell::Table;

    fn run(measured: u64) -> Run {
        Run {
            verdict: "Pass".into(),
            true_bps: 1000,
            measured_bps: Some(measured),
            guaranteed_bps: Some(measured / 2),
            verified: Some(true),
            unaccounted: Some(0),
            ..Run::default()
        }
    }

    #[test]
    fn errors_are_of_what_came_to_a_verdict_and_the_rest_is_counted() {
        let cell = Cell::new(Table::Accuracy, 1000, 4, 1);
        let starved = Run {
            verdict: "Inconclusive".into(),
            starved: true,
            ..run(1)
        };
        let failed = Run::failed("x", std::time::Duration::ZERO);
        let row = Accuracy::new(
            &cell,
            &[run(990), run(1030), run(1000), starved, failed.clone()],
        );
        let close = |a: Option<f64>, b: f64| (a.unwrap() - b).abs() < 1e-9;
        assert!(close(row.err_median_pct, 1.0) && close(row.err_worst_pct, 3.0));
        assert!(close(row.bias_pct, 0.0));
        let tally = &row.common.tally;
        assert_eq!(
            (tally.runs, tally.inconclusive, tally.starved, tally.failed),
            (3, 1, 1, 1)
        );
        assert_eq!((tally.verified, tally.bundles), (4, 4));
        assert_eq!(
            row.complaints(),
            ["accuracy 1000 Mbit/s, n=4 f=1, 100 ms: x"]
        );
        let none = Accuracy::new(&cell, &[failed]);
        assert_eq!(none.err_median_pct, None);
        assert!(
            none.complaints()
                .iter()
                .any(|c| c.contains("not one proof"))
        );
    }

    #[test]
    fn the_promise_is_held_to_both_sides_of_its_boundary() {
        let broken = |mbit, n, measured| {
            let cell = Cell::new(Table::Accuracy, mbit, n, 0);
            !Accuracy::new(&cell, &[run(measured)])
                .complaints()
                .is_empty()
        };
        assert!(!broken(1000, 4, 1020) && broken(1000, 4, 1021));
        assert!(!broken(1001, 4, 970) && broken(1001, 4, 969));
        assert!(!broken(1000, 3, 2000), "nothing is promised for three");
    }

    #[test]
    fn a_true_claim_that_is_called_false_is_a_fault_on_a_busy_machine_too() {
        let mut cell = Cell::new(Table::Accuracy, 100, 4, 1);
        (cell.busy, cell.may_starve) = (1, true);
        let ended = |verdict: &str| {
            let run = Run {
                verdict: verdict.into(),
                starved: verdict == "Inconclusive",
                true_bps: 100_000_000,
                ..run(80_000_000)
            };
            Accuracy::new(&cell, &[run]).complaints().len()
        };
        assert_eq!(
            (ended("Inconclusive"), ended("Fail"), ended("Pass")),
            (0, 1, 0)
        );
        let bound = |lower_bps| {
            let run = Run {
                lower_bps: Some(lower_bps),
                true_bps: 100_000_000,
                ..run(100_000_000)
            };
            Accuracy::new(&cell, &[run]).complaints().len()
        };
        assert_eq!((bound(102_000_000), bound(102_000_001)), (0, 1));
    }

    #[test]
    fn an_attack_is_shown_by_its_worst_run() {
        let mut cell = Cell::new(Table::Attacks, 100, 7, 2);
        cell.attack = "rush".into();
        let met = |broken: &[&str], honest_paid| Run {
            met: Some(Met {
                measured_over_true: Some(1.3),
                guaranteed_over_true: None,
                honest_paid,
                culprit_paid: true,
                broken: Vec::new(),
            }),
            complaints: broken.iter().map(|b| (*b).to_owned()).collect(),
            ..run(1300)
        };
        let row = Attack::new(&cell, &[met(&[], true), met(&[], true)]);
        assert!(row.held && row.honest_paid == Some(true) && row.complaints().is_empty());
        assert_eq!(row.measured_over_true, Some(1.3));
        assert!(row.defence.unwrap().contains("B_g"));
        let row = Attack::new(&cell, &[met(&[], true), met(&["guaranteed"], false)]);
        assert!(!row.held && row.honest_paid == Some(false));
        assert_eq!(row.complaints().len(), 1);
        let row = Attack::new(&cell, &[]);
        assert!(!row.held && row.complaints().len() == 1 && row.honest_paid.is_none());
    }

    #[test]
    fn others_share_the_queue_by_what_they_offer() {
        let mut cell = Cell::new(Table::Cross, 100, 4, 1);
        cell.cross_percent = 30;
        let row = Cross::new(&cell, &[run(800)]);
        assert!((row.fifo_share - 1.15 / 1.45).abs() < 1e-9);
        assert_eq!(row.measured_over_link, Some(0.8));
    }
}
