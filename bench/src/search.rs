//! The found maximum: the highest paced rate at which nothing is lost, by bisection over short trials (as
//! RFC 2544 finds throughput, with trials shorter than its 60 s; the plan says how long).

use anyhow::{Result, bail};
use serde::Serialize;

use crate::load::Load;
use crate::plan::{Max, Rate, RowPlan, SearchPlan, SinkKind, SourceKind, Units};
use crate::trial::{self, Trial};

/// A trial counts only if the source offered this part of the rate: otherwise it shows the loss of
/// another rate.
const OFFERED: f64 = 0.98;
/// The first upper bound is so much above what an unpaced trial takes, and each further one above the last.
const ABOVE: f64 = 1.1;
/// Upper bounds at most: ten of them are 2.6 times an unpaced trial, which no pace exceeds.
const RAISES: usize = 10;
/// Below this part of the first upper bound there is nothing to find.
const HOPELESS: f64 = 0.05;

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Found {
    /// Highest rate at which nothing was lost, bit/s at the IP layer.
    pub(crate) bps: u64,
    /// Seconds of a trial.
    pub(crate) trial_seconds: f64,
    /// Rates tried in Gbit/s, and whether they passed.
    pub(crate) tried: Vec<(f64, bool)>,
}

/// The row that is searched for: verified, MTU 1500, from sockets.
fn row() -> RowPlan {
    RowPlan {
        name: "search".into(),
        source: SourceKind::Uring,
        sink: SinkKind::Verified,
        mtu: 1500,
        rate: Rate::Word(Max::Max),
        units: Units::Packets,
        seconds: None,
        repeats: None,
    }
}

/// Searches.
///
/// # Errors
/// A trial cannot be run, or does not add up, or everything loses packets.
pub(crate) fn run(plan: SearchPlan, load: &Load, mut note: impl FnMut(&str)) -> Result<Found> {
    let mut tried = Vec::new();
    let attempt = |rate: Option<u64>| -> Result<Trial> {
        let trial = trial::run(&row(), load, rate, plan.seconds)?;
        match trial.account.unaccounted() {
            0 => Ok(trial),
            n => bail!("search: {n} packets are unaccounted for"),
        }
    };
    let top = attempt(None)?.gbps() * 1e9 * ABOVE;
    let bps = bisect(top, plan.resolution, |rate| {
        let trial = attempt(Some(to_bps(rate)))?;
        let passed = trial.account.loss() == 0.0 && trial.offered_gbps() * 1e9 >= OFFERED * rate;
        tried.push((rate / 1e9, passed));
        let word = if passed { "no loss" } else { "no" };
        note(&format!("{:.2} Gbit/s: {word}", rate / 1e9));
        Ok(passed)
    })?;
    Ok(Found {
        bps: to_bps(bps),
        trial_seconds: plan.seconds,
        tried,
    })
}

/// A rate as whole bit/s. Rates here are positive and far below 2^53.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn to_bps(rate: f64) -> u64 {
    rate as u64
}

/// The highest rate that `passes`, to within `resolution` of an upper bound that does not; the first one
/// tried is `top`.
fn bisect(top: f64, resolution: f64, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    let (mut good, mut bad) = (0.0, top);
    // An unpaced trial that was disturbed is no bound: raised until one does not pass.
    for raise in 0.. {
        if !passes(bad)? {
            break;
        }
        if raise == RAISES {
            bail!(
                "search: no rate up to {:.2} Gbit/s fails: the source or the trial is wrong",
                bad / 1e9
            );
        }
        (good, bad) = (bad, bad * ABOVE);
    }
    let top = bad;
    while bad - good > resolution * top {
        let middle = f64::midpoint(good, bad);
        if passes(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
        if bad < HOPELESS * top {
            bail!(
                "search: packets are lost even at {:.2} Gbit/s; is the machine busy with other work?",
                bad / 1e9
            );
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_edge_from_below() {
        for edge in [1.0, 3.3, 7.77, 9.99, 12.5] {
            let mut trials = 0;
            let found = bisect(10.0, 0.02, |rate| {
                trials += 1;
                Ok(rate <= edge)
            })
            .unwrap();
            assert!(found <= edge && edge - found <= 0.27, "{edge}: {found}");
            assert!(trials <= 9, "{trials}");
        }
    }

    #[test]
    fn what_never_fails_and_what_always_does_are_errors() {
        assert!(bisect(10.0, 0.02, |_| Ok(true)).is_err());
        assert!(bisect(10.0, 0.02, |_| Ok(false)).is_err());
    }

    #[test]
    fn a_trial_that_fails_ends_the_search() {
        assert!(bisect(10.0, 0.02, |_| bail!("no")).is_err());
    }
}
