//! What a proof came to, and whether it holds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use plumbline_lab::{Account, Measured, PathDrops, Proof, Verified};
use serde_json::{Map, Value, json};

/// The account as the document has it.
fn account_json(account: &Account) -> Value {
    let mut packets = Map::new();
    packets.insert("sent".into(), account.sent.into());
    packets.insert("verified".into(), account.verified.into());
    packets.extend(
        account
            .reasons
            .iter()
            .map(|(reason, count)| (reason.clone(), (*count).into())),
    );
    packets.insert("control_sent".into(), account.control_sent.into());
    packets.insert("control_received".into(), account.control_received.into());
    packets.insert("path_dropped".into(), account.path_dropped.into());
    packets.insert("cross_sent".into(), account.cross_sent.into());
    packets.insert("cross_arrived".into(), account.cross_arrived.into());
    packets.insert(
        "unaccounted".into(),
        json!(i64::try_from(account.unaccounted()).unwrap_or(i64::MAX)),
    );
    Value::Object(packets)
}

/// Everything a demo shows.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) measured: Measured,
    pub(crate) verified: Verified,
    pub(crate) account: Account,
    pub(crate) path: PathDrops,
    pub(crate) true_bps: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) took: Duration,
    /// Why earlier proofs of this run said nothing about the link, in order.
    pub(crate) starved: Vec<String>,
    complaints: Vec<String>,
}

impl Figures {
    /// None if the proof came to no result.
    pub(crate) fn new(
        proof: &Proof,
        true_bps: u64,
        bundle: PathBuf,
        (took, starved): (Duration, Vec<String>),
    ) -> Option<Self> {
        Some(Self {
            measured: proof.measured()?.clone(),
            verified: proof.verified()?.clone(),
            account: proof.account()?,
            path: proof.drops.down,
            true_bps,
            bundle,
            took,
            starved,
            complaints: proof.complaints(),
        })
    }

    /// Distance of the measured from the true rate, in percent of the true one.
    pub(crate) fn error_pct(&self) -> f64 {
        let (measured, truth) = (self.measured.measured_bps as f64, self.true_bps as f64);
        ((measured - truth).abs() / truth * 100_000.0).round() / 1000.0
    }

    /// Share of data packets that did not arrive, in percent.
    pub(crate) fn loss_pct(&self) -> f64 {
        self.account.path_dropped as f64 / self.account.sent.max(1) as f64 * 100.0
    }

    /// Whether the chain conserved its money.
    pub(crate) fn is_conserved(&self) -> bool {
        self.measured.is_conserved()
    }

    /// The machine-readable result.
    pub(crate) fn json(&self) -> Value {
        let raw = |key: &str| self.measured.raw().get(key).cloned().unwrap_or(Value::Null);
        json!({
            "verdict": self.measured.verdict,
            "reason": self.measured.reason,
            "state": self.measured.state,
            "claimed_bps": self.measured.claimed_bps,
            "true_bps": self.true_bps,
            "measured_bps": self.measured.measured_bps,
            "error_pct": self.error_pct(),
            "lower_bps": self.measured.lower_bps,
            "guaranteed_bps": self.measured.guaranteed_bps,
            "trust_curve": self.measured.trust_curve,
            "duration_ms": self.measured.duration_ms,
            "commit_latency_ns": self.measured.commit_latency_ns,
            "offered_bps": raw("offered_bps"),
            "asked_bps": self.measured.asked_bps,
            "came_bps": self.measured.came_bps,
            "packets": account_json(&self.account),
            "path": self.path,
            "challengers": raw("challengers"),
            "datapath": raw("datapath"),
            "chain": raw("chain"),
            "bundle": self.bundle,
            "bundle_hash": raw("bundle_hash"),
            "verify": self.verified.verify,
            "attempts": self.starved.len() + 1,
            "starved": self.starved,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Whether all of it holds.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn judge(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let measured = &self.measured;
        if !matches!(measured.verdict.as_str(), "Pass" | "Fail") {
            let reason = measured.reason.as_deref().unwrap_or("no reason given");
            wrong.push(format!(
                "no verdict about the link: {} ({reason})",
                measured.verdict
            ));
        }
        if measured.state != "Final" {
            wrong.push(format!(
                "the request ended {} instead of Final",
                measured.state
            ));
        }
        wrong.extend(self.complaints.iter().cloned());
        if wrong.is_empty() {
            return Ok(());
        }
        bail!("the demo does not hold: {}", wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use plumbline_lab::{Answer, CrossCount, Drops};

    use super::*;

    fn figures(verdict: &str, state: &str, path: u64) -> Figures {
        let document = json!({
            "verdict": verdict, "reason": null, "state": state, "claimed_bps": 1_000_000_000,
            "measured_bps": 990_000_000, "lower_bps": 980_000_000, "guaranteed_bps": 660_000_000,
            "trust_curve": [980_000_000, 660_000_000], "sustained": [],
            "duration_ms": 1000, "challengers": [], "commit_latency_ns": 90_000,
            "packets": {"sent": 900, "verified": 800, "xdp": {"dropped_not_consented": 4}, "xsk": {},
                "control_sent": 60, "control_received": 57},
            "datapath": {"receiver": "af_xdp"},
            "chain": {"engine": "embedded", "conserved": true,
                      "paid": [{"to": "0x01", "amount": "7", "role": "challenger"}]},
        });
        let verify = json!({"verify": "ok", "verdict": verdict, "measured_bps": 990_000_000u64});
        let path_drops = PathDrops {
            total: path,
            ..PathDrops::default()
        };
        let proof = Proof {
            answer: Answer::Result(
                Box::new(Measured::read(&document.to_string()).unwrap()),
                Verified::read(&verify.to_string()).unwrap(),
            ),
            drops: Drops {
                down: path_drops,
                up: PathDrops::default(),
                forwarding: 0,
                backlog: 0,
                interfaces: Vec::new(),
            },
            cross: CrossCount::default(),
        };
        let took = (Duration::from_secs(9), Vec::new());
        Figures::new(&proof, 1_000_000_000, "x.bundle".into(), took).unwrap()
    }

    #[test]
    fn a_demo_holds_only_if_everything_does() {
        assert!(figures("Pass", "Final", 99).judge().is_ok());
        assert!(figures("Fail", "Final", 99).judge().is_ok());
        let reason = |figures: Figures| figures.judge().unwrap_err().to_string();
        assert!(reason(figures("Pass", "Final", 100)).contains("-1 packets are unaccounted"));
        assert!(reason(figures("Pass", "TimedOut", 99)).contains("TimedOut"));
        assert!(reason(figures("Inconclusive", "Final", 99)).contains("no verdict"));
    }

    #[test]
    fn the_document_has_every_promised_key() {
        let figures = figures("Pass", "Final", 99);
        let document = figures.json();
        for key in [
            "verdict",
            "claimed_bps",
            "true_bps",
            "measured_bps",
            "error_pct",
            "guaranteed_bps",
            "trust_curve",
            "packets",
            "datapath",
            "chain",
            "bundle",
            "verify",
        ] {
            assert!(!document[key].is_null(), "{key}");
        }
        assert_eq!(document["error_pct"], 1.0);
        assert_eq!(document["packets"]["xdp_dropped_not_consented"], 4);
        assert_eq!(document["packets"]["unaccounted"], 0);
        assert_eq!(figures.measured.paid()[0].amount, "7");
    }
}
