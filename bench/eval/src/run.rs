//! What one proof of a cell came to, as it is kept.

use std::fmt::Write as _;
use std::time::Duration;

use plumbline_lab::{Carried, Met, Proof, Switch};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, PACKET, Table};

/// Least that a link must carry of what it was made for, percent, to have been one of that rate.
const CARRIED_PERCENT: u64 = 98;

/// A claim of what the link was made for is true if it carried so much of it, percent: what a Pass asks.
const TRUE_PERCENT: u64 = 95;

/// One proof.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// `Pass`, `Fail`, `Inconclusive`; `Refunded`: no result; `Refused`: the payer does not believe it; `Failed`: the evaluation itself could not.
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    /// The machine could not offer the rate, or not receive it: says nothing about the link.
    pub(crate) starved: bool,
    /// What the link carries in the long run, bit/s of IP layer; where accuracy is looked at, what it did carry while
    /// its queue was not empty.
    pub(crate) true_bps: u64,
    /// That is clearly less than it was made for: this machine had no time for it.
    pub(crate) uncarried: bool,
    pub(crate) measured_bps: Option<u64>,
    pub(crate) lower_bps: Option<u64>,
    pub(crate) guaranteed_bps: Option<u64>,
    /// What is sustained at least if the link has the cell's bucket.
    pub(crate) sustained_bps: Option<u64>,
    /// A burst that the prover's slices show.
    pub(crate) burst_bytes: Option<u64>,
    /// `plumbline verify` holds and judges the same; none without evidence.
    pub(crate) verified: Option<bool>,
    /// Packets without a fate; none where somebody who counts them lies.
    pub(crate) unaccounted: Option<i64>,
    /// Share of what was offered that the path lost.
    pub(crate) path_loss: Option<f64>,
    /// Of an attack.
    pub(crate) met: Option<Met>,
    /// What does not hold, attack or not.
    pub(crate) complaints: Vec<String>,
    /// How long it took.
    pub(crate) seconds: f64,
}

impl Run {
    /// Of a proof.
    pub(crate) fn new(
        cell: &Cell,
        proof: &Proof,
        attack: Option<(&Switch, Met)>,
        (nominal_bps, carried): (u64, &Carried),
        took: Duration,
    ) -> Self {
        // Watched for too short a time, a bucket and a timer are most of what is seen.
        let watched = cell.table == Table::Accuracy && carried.time >= cell.duration() / 2;
        let carried = carried.ip_bps(PACKET).filter(|_| watched);
        let true_bps = carried.unwrap_or(nominal_bps);
        let uncarried = carried.is_some_and(|bps| bps * 100 < nominal_bps * CARRIED_PERCENT);
        let counts_honestly = attack
            .as_ref()
            .is_none_or(|(switch, _)| switch.counts_honestly());
        let met = attack.map(|(_, met)| met);
        let complaints = match &met {
            Some(met) => met.broken.clone(),
            None => proof.complaints(),
        };
        let seconds = took.as_secs_f64();
        let Some(measured) = proof.measured() else {
            return Self {
                verdict: proof.ended_without().to_owned(),
                true_bps,
                uncarried,
                complaints,
                met,
                seconds,
                ..Self::default()
            };
        };
        let verified = proof.verified();
        let holds = verified.map(|v| v.verify == "ok" && v.agrees(measured));
        let account = proof.account();
        let unaccounted = account.as_ref().map(plumbline_lab::Account::unaccounted);
        Self {
            verdict: measured.verdict.clone(),
            reason: measured.reason.clone(),
            // Where somebody holds back, too little is offered by intent.
            starved: met.is_none() && measured.starved().is_some(),
            true_bps,
            uncarried,
            measured_bps: Some(measured.measured_bps),
            lower_bps: Some(measured.lower_bps),
            guaranteed_bps: Some(measured.guaranteed_bps),
            sustained_bps: cell
                .bucket
                .and_then(|(bytes, _)| measured.sustained_bps(bytes.into())),
            burst_bytes: measured.burst_bytes,
            verified: holds,
            unaccounted: unaccounted
                .filter(|_| counts_honestly)
                .map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
            path_loss: account.map(|a| a.path_dropped as f64 / a.sent.max(1) as f64),
            complaints,
            met,
            seconds,
        }
    }

    /// Of a proof that could not be had.
    pub(crate) fn failed(why: &str, took: Duration) -> Self {
        Self {
            verdict: "Failed".to_owned(),
            reason: Some(why.to_owned()),
            complaints: vec![why.to_owned()],
            seconds: took.as_secs_f64(),
            ..Self::default()
        }
    }

    /// Whether it says something about the link, or about an attack: the machine carried it, neither starved nor failed.
    pub(crate) fn counts(&self) -> bool {
        !self.starved && !self.uncarried && self.verdict != "Failed"
    }

    /// Whether a claim of `claim_bps` was called false though the link carried it.
    pub(crate) fn is_false_fail(&self, claim_bps: u64) -> bool {
        self.verdict == "Fail" && self.true_bps * 100 >= claim_bps * TRUE_PERCENT
    }

    /// Whether it came to a figure that the product stands for.
    pub(crate) fn is_conclusive(&self) -> bool {
        matches!(self.verdict.as_str(), "Pass" | "Fail")
    }

    /// Distance of the figure from the truth, percent of the truth; negative below it.
    pub(crate) fn error_pct(&self) -> Option<f64> {
        let measured = self.measured_bps.filter(|_| self.is_conclusive())?;
        // In this order, so that a whole number of percent is one.
        let (measured, truth) = (measured as f64, self.true_bps.max(1) as f64);
        Some((measured - truth) * 100.0 / truth)
    }

    /// A figure as a share of the truth.
    pub(crate) fn over_true(&self, bps: Option<f64>) -> Option<f64> {
        bps.map(|bps| bps / self.true_bps.max(1) as f64)
    }

    /// In few words.
    pub(crate) fn words(&self) -> String {
        let mut words = match (self.verdict.as_str(), self.measured_bps) {
            ("Failed", _) => {
                let why = self.reason.as_deref().unwrap_or_default();
                format!("FAILED: {}", why.lines().next().unwrap_or_default())
            }
            (verdict, Some(bps)) => format!("{verdict}, {:.3} Mbit/s", bps as f64 / 1e6),
            (verdict, None) => verdict.to_owned(),
        };
        if let Some(error) = self.error_pct() {
            words += &format!(" ({error:+.2} %)");
        }
        if self.starved {
            words += ", could not offer its rate";
        }
        if self.uncarried {
            let _ = write!(
                words,
                ", the link carried {:.3}",
                self.true_bps as f64 / 1e6
            );
        }
        for complaint in self.complaints.iter().filter(|_| self.verdict != "Failed") {
            words += &format!("; NOT HELD: {complaint}");
        }
        words
    }
}

/// Middle value, of an even number the mean of the two middle ones; none of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], upper)
    } else {
        upper
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0]), Some(2.0));
        assert_eq!((median(&[4.0, 1.0]), median(&[])), (Some(2.5), None));
    }

    #[test]
    fn a_fail_is_false_where_the_link_carried_the_claim() {
        let run = |verdict: &str, true_bps| Run {
            verdict: verdict.to_owned(),
            true_bps,
            ..Run::default()
        };
        assert!(run("Fail", 95).is_false_fail(100) && !run("Fail", 94).is_false_fail(100));
        assert!(!run("Inconclusive", 100).is_false_fail(100));
    }

    #[test]
    fn only_a_verdict_has_an_error_and_only_what_ran_counts() {
        let run = |verdict: &str, starved| Run {
            verdict: verdict.to_owned(),
            starved,
            true_bps: 100,
            measured_bps: Some(98),
            ..Run::default()
        };
        let error = run("Fail", false).error_pct().unwrap();
        assert!((error + 2.0).abs() < 1e-9);
        assert_eq!(run("Inconclusive", false).error_pct(), None);
        assert!(run("Inconclusive", false).counts() && !run("Inconclusive", true).counts());
        let uncarried = Run {
            uncarried: true,
            ..run("Pass", false)
        };
        assert!(!uncarried.counts());
        let failed = Run::failed("no lab\nmore", Duration::ZERO);
        assert!(!failed.counts() && failed.words() == "FAILED: no lab");
    }
}
