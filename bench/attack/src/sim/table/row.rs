//! One row: what the runs of a cell come to.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::Manner;
use super::super::outcome::{Outcome, float};
use super::Parameter;
use super::cells::Cell;
use crate::switch::Attack;

/// How a figure is spread over runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Smallest.
    pub min: f64,
    /// Of 100 runs 5 are below it.
    pub p05: f64,
    /// Median.
    pub median: f64,
    /// Of 100 runs 5 are above it.
    pub p95: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |percent: usize| {
            let last = sorted.len().saturating_sub(1);
            sorted.get(last * percent / 100).copied().unwrap_or(0.0)
        };
        Self {
            mean: mean(sorted.iter().copied()),
            min: at(0),
            p05: at(5),
            median: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

/// One row of a table. Ratios are to what the link carries in the long run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Its place in the table, from 0.
    pub cell: usize,
    /// What was tried; `None`: nobody misbehaves.
    pub attack: Option<Attack>,
    /// How.
    pub manner: Manner,
    /// On which network.
    pub network: &'static str,
    /// Challengers.
    pub n: u16,
    /// Corrupt ones that the guaranteed figure stands.
    pub f: u16,
    /// Those that there are, where challengers misbehave.
    pub corrupt: u16,
    /// What else the row varies.
    pub parameter: Option<Parameter>,
    /// How often it was run.
    pub runs: u64,
    /// How they ended: `pass`, `fail`, `inconclusive`, `refused`, `expired`.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Runs in which a figure was posted: the spreads below are over these.
    pub posted: u64,
    /// The measured figure, which decides nothing.
    pub measured: Spread,
    /// B_g(0).
    pub lower: Spread,
    /// B_g(f).
    pub guaranteed: Spread,
    /// The largest B_g(f) over what the link can have carried in T_min: where there is no bucket, the same as
    /// over its rate.
    pub guaranteed_over_carried: f64,
    /// Seed of the run with the largest guaranteed figure.
    pub worst_seed: u64,
    /// Of honest challengers in runs with a posted figure, the part that is paid; 1 without such runs.
    pub honest_paid: f64,
    /// Of corrupt ones likewise; 0 without such.
    pub corrupt_paid: f64,
    /// Runs in which a standing has this flag.
    pub flags: BTreeMap<String, u64>,
    /// Runs in which this check does not hold.
    pub failed: BTreeMap<String, u64>,
    /// What was met on the way, in all runs.
    pub met: BTreeMap<String, u64>,
    /// Data packets without a fate, in all runs together.
    pub unaccounted: u128,
    /// Runs whose bundle was verified.
    pub verified_runs: u64,
    /// … and did not give the coordinator's judgement, though nobody altered it.
    pub disagreements: u64,
}

impl Row {
    pub(super) fn of(number: usize, cell: &Cell, outcomes: &[Outcome]) -> Self {
        let posted: Vec<&Outcome> = outcomes.iter().filter(|o| o.posted()).collect();
        let over = |figure: fn(&Outcome) -> f64| Spread::of(posted.iter().map(|o| figure(o)));
        let worst = posted
            .iter()
            .max_by(|a, b| a.guaranteed_over_true.total_cmp(&b.guaranteed_over_true));
        let part = |some: fn(&Outcome) -> u16, of: fn(&Outcome) -> u16, none: f64| {
            let count = |which: fn(&Outcome) -> u16| {
                posted.iter().map(|o| u64::from(which(o))).sum::<u64>()
            };
            match count(of) {
                0 => none,
                all => float(count(some)) / float(all),
            }
        };
        let altered = cell
            .switch
            .is_some_and(|s| s.attack == Attack::AlteredReport);
        let wrong = |o: &&Outcome| o.verified == Some(false) && !altered;
        let mut row = Self {
            cell: number,
            attack: cell.switch.map(|s| s.attack),
            manner: cell.world.manner,
            network: cell.world.network.name,
            n: cell.world.terms.n,
            f: cell.world.terms.f,
            corrupt: outcomes.first().map_or(0, |o| o.corrupt),
            parameter: cell.parameter.clone(),
            runs: outcomes.len() as u64,
            verdicts: BTreeMap::new(),
            posted: posted.len() as u64,
            measured: over(|o| o.measured_over_true),
            lower: over(|o| o.lower_over_true),
            guaranteed: over(|o| o.guaranteed_over_true),
            guaranteed_over_carried: worst.map_or(0.0, |o| o.guaranteed_over_carried),
            worst_seed: worst.map_or(0, |o| o.seed),
            honest_paid: part(|o| o.honest_paid, |o| o.honest, 1.0),
            corrupt_paid: part(|o| o.corrupt_paid, |o| o.corrupt, 0.0),
            flags: BTreeMap::new(),
            failed: BTreeMap::new(),
            met: BTreeMap::new(),
            unaccounted: outcomes.iter().map(|o| o.unaccounted.unsigned_abs()).sum(),
            verified_runs: outcomes.iter().filter(|o| o.verified.is_some()).count() as u64,
            disagreements: outcomes.iter().filter(wrong).count() as u64,
        };
        row.count(outcomes);
        row
    }

    fn count(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            *self.verdicts.entry(outcome.verdict_name()).or_default() += 1;
            for flag in outcome.flags.keys() {
                *self.flags.entry(flag.clone()).or_default() += 1;
            }
            for check in outcome.failed.keys() {
                *self.failed.entry(check.clone()).or_default() += 1;
            }
            for (what, times) in &outcome.met {
                *self.met.entry(what.clone()).or_default() += times;
            }
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), v| (sum + v, count + 1));
    if count == 0 { 0.0 } else { sum / float(count) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_ends_and_middle() {
        let spread = Spread::of((0..=100).rev().map(f64::from));
        assert_eq!(
            spread,
            Spread {
                mean: 50.0,
                min: 0.0,
                p05: 5.0,
                median: 50.0,
                p95: 95.0,
                max: 100.0
            }
        );
        assert_eq!(Spread::of(std::iter::empty()), Spread::default());
    }
}
