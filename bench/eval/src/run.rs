//! What one proof of a cell came to, as it is kept.

use std::time::Duration;

use plumbline_lab::{Measured, Met, Proof, Switch};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, PACKET};

/// One proof.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// `Pass`, `Fail`, `Inconclusive`; `Refunded`: no result; `Failed`: the evaluation itself could not.
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    /// The machine could not offer the rate: says nothing about the link.
    pub(crate) starved: bool,
    /// What the link carries in the long run, bit/s of IP layer.
    pub(crate) true_bps: u64,
    pub(crate) measured_bps: Option<u64>,
    pub(crate) guaranteed_bps: Option<u64>,
    /// What the line sustains at least, as the product says of a bucket that is no smaller than the cell's.
    pub(crate) sustained_bps: Option<u64>,
    pub(crate) burst_bytes: Option<u64>,
    /// 8·N·L over each challenger's time, bit/s: mean, median, and of the (f+1)-th largest time.
    pub(crate) mean_bps: Option<f64>,
    pub(crate) median_bps: Option<f64>,
    pub(crate) order_bps: Option<f64>,
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
        true_bps: u64,
        took: Duration,
    ) -> Self {
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
                verdict: "Refunded".to_owned(),
                true_bps,
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
        let rates = rates(measured);
        Self {
            verdict: measured.verdict.clone(),
            reason: measured.reason.clone(),
            starved: measured.starved().is_some(),
            true_bps,
            measured_bps: Some(measured.measured_bps),
            guaranteed_bps: Some(measured.guaranteed_bps),
            sustained_bps: cell.bucket.and_then(|(bytes, _)| {
                let mut all = measured.sustained.iter();
                let row = all.find(|s| s.burst_bytes >= u64::from(bytes))?;
                Some(row.at_least_bps)
            }),
            burst_bytes: measured.burst_bytes,
            mean_bps: mean(&rates),
            median_bps: median(&rates),
            order_bps: rates.get(usize::from(cell.f)).copied(),
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

    /// Whether it says something about the link, or about an attack: neither starved nor failed.
    pub(crate) fn counts(&self) -> bool {
        !self.starved && self.verdict != "Failed"
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
        for complaint in self.complaints.iter().filter(|_| self.verdict != "Failed") {
            words += &format!("; NOT HELD: {complaint}");
        }
        words
    }
}

/// 8·N·L over each valid time, smallest first: the (f+1)-th is that of the (f+1)-th largest time.
fn rates(measured: &Measured) -> Vec<f64> {
    let counted = measured.raw()["counted_packets"].as_u64().unwrap_or(0);
    let bits = counted as f64 * f64::from(PACKET) * 8.0;
    let times = measured.challengers.iter().filter(|c| c.window_us > 0);
    let mut rates: Vec<f64> = times.map(|c| bits * 1e6 / f64::from(c.window_us)).collect();
    rates.sort_by(f64::total_cmp);
    rates
}

/// Mean; none of nothing.
pub(crate) fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn order_statistics_are_of_the_times() {
        let challenger = |window_us: u32| {
            json!({"address": "0x", "index": 0, "window_us": window_us, "packets": 1, "sent": 1, "paid": "0",
                "rtt": {"before_ns": 1, "during_ns": null}, "valid": true, "flags": []})
        };
        let document = json!({
            "verdict": "Pass", "reason": null, "state": "Final", "claimed_bps": 1, "measured_bps": 1,
            "lower_bps": 1, "guaranteed_bps": 1, "trust_curve": [], "sustained": [], "duration_ms": 100, "packets": {}, "commit_latency_ns": 1,
            "counted_packets": 1000,
            "challengers": [challenger(50_000), challenger(200_000), challenger(100_000), challenger(0)]
        });
        let rates = rates(&Measured::read(&document.to_string()).unwrap());
        // 12 Mbit in 200, 100, 50 ms; who reported no time is not among them.
        assert_eq!(rates, [60e6, 120e6, 240e6]);
        assert_eq!((mean(&rates), median(&rates)), (Some(140e6), Some(120e6)));
        assert_eq!(median(&rates[..2]), Some(90e6));
        assert_eq!((mean(&[]), median(&[])), (None, None));
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
        let failed = Run::failed("no lab\nmore", Duration::ZERO);
        assert!(!failed.counts() && failed.words() == "FAILED: no lab");
    }
}
