//! What a proof came to, and whether it holds.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use plumbline_lab::{Account, Drops, PathDrops};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Round trips that a challenger saw.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rtt {
    pub(crate) before_ns: u64,
    pub(crate) during_ns: Option<u64>,
    pub(crate) after_ns: Option<u64>,
}

/// One challenger's part.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Challenger {
    pub(crate) index: u16,
    pub(crate) tt_ns: u64,
    pub(crate) rtt: Rtt,
    pub(crate) packets: u64,
    pub(crate) sent: u64,
    pub(crate) paid: String,
    pub(crate) valid: bool,
    flags: Vec<String>,
}

/// Who got what.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Paid {
    pub(crate) to: String,
    pub(crate) amount: String,
    pub(crate) role: String,
}

/// What `plumbline measure --json` says, as far as it is used here; the rest is passed on in `raw`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Measured {
    pub(crate) verdict: String,
    pub(crate) reason: Option<String>,
    pub(crate) state: String,
    pub(crate) claimed_bps: u64,
    pub(crate) measured_bps: u64,
    pub(crate) guaranteed_bps: u64,
    pub(crate) trust_curve: Vec<u64>,
    pub(crate) duration_ms: u64,
    pub(crate) challengers: Vec<Challenger>,
    packets: Map<String, Value>,
    pub(crate) commit_latency_ns: u64,
    #[serde(skip)]
    raw: Value,
}

impl Measured {
    /// Why the challengers, not the link, decided: together they offered too little (check V11).
    pub(crate) fn starved(&self) -> Option<String> {
        let under = |c: &Challenger| c.flags.iter().any(|flag| flag == "UnderOffered");
        let starved = self.verdict == "Inconclusive" && self.challengers.iter().any(under);
        starved.then(|| self.reason.clone().unwrap_or_default())
    }

    /// Packets of this proof without a fate, the path's losses being `drops`.
    pub(crate) fn unaccounted(&self, drops: &Drops) -> i128 {
        Account::new(&self.packets, drops.down.total).unaccounted()
    }

    /// Reads the document.
    ///
    /// # Errors
    /// It is not JSON, or lacks a field: named.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let raw: Value =
            serde_json::from_str(text).with_context(|| format!("no JSON: {text:?}"))?;
        let mut measured: Self =
            serde_json::from_value(raw.clone()).context("its JSON is not as documented")?;
        measured.raw = raw;
        Ok(measured)
    }

    /// Text at a place in the document, or a dash.
    pub(crate) fn text(&self, pointer: &str) -> String {
        match self.raw.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => "–".to_owned(),
            Some(other) => other.to_string(),
        }
    }

    /// Who got what.
    pub(crate) fn paid(&self) -> Vec<Paid> {
        self.raw
            .pointer("/chain/paid")
            .and_then(|paid| Vec::deserialize(paid).ok())
            .unwrap_or_default()
    }

    fn is_conserved(&self) -> bool {
        self.raw.pointer("/chain/conserved") == Some(&Value::Bool(true))
    }
}

/// What `plumbline verify --json` says.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Verified {
    pub(crate) verify: String,
    verdict: Option<String>,
    measured_bps: Option<u64>,
    #[serde(default)]
    checks: Vec<Value>,
}

impl Verified {
    /// Reads the document.
    ///
    /// # Errors
    /// It is not JSON, or lacks a field: named.
    pub(crate) fn read(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .with_context(|| format!("its JSON is not as documented: {text:?}"))
    }

    /// The checks that did not hold.
    pub(crate) fn failed(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| check["ok"] != true);
        failed
            .map(|check| format!("{} ({})", check["check"], check["detail"]))
            .collect()
    }
}

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
}

impl Figures {
    pub(crate) fn new(
        measured: Measured,
        verified: Verified,
        drops: &Drops,
        true_bps: u64,
        bundle: PathBuf,
        (took, starved): (Duration, Vec<String>),
    ) -> Self {
        let account = Account::new(&measured.packets, drops.down.total);
        Self {
            measured,
            verified,
            account,
            path: drops.down,
            true_bps,
            bundle,
            took,
            starved,
        }
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
        let raw = |key: &str| self.measured.raw.get(key).cloned().unwrap_or(Value::Null);
        json!({
            "verdict": self.measured.verdict,
            "reason": self.measured.reason,
            "state": self.measured.state,
            "claimed_bps": self.measured.claimed_bps,
            "true_bps": self.true_bps,
            "measured_bps": self.measured.measured_bps,
            "error_pct": self.error_pct(),
            "guaranteed_bps": self.measured.guaranteed_bps,
            "trust_curve": self.measured.trust_curve,
            "duration_ms": self.measured.duration_ms,
            "commit_latency_ns": self.measured.commit_latency_ns,
            "offered_bps": raw("offered_bps"),
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
        if self.account.unaccounted() != 0 {
            wrong.push(format!(
                "{} packets are unaccounted for",
                self.account.unaccounted()
            ));
        }
        if !self.is_conserved() {
            wrong.push("the chain does not conserve its money".to_owned());
        }
        let verified = &self.verified;
        if verified.verify != "ok" {
            wrong.push(format!(
                "plumbline verify: {} {}",
                verified.verify,
                verified.failed().join(", ")
            ));
        }
        if verified
            .verdict
            .as_ref()
            .is_some_and(|verdict| *verdict != measured.verdict)
            || verified
                .measured_bps
                .is_some_and(|bps| bps != measured.measured_bps)
        {
            wrong.push("plumbline verify judges the same evidence otherwise".to_owned());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        bail!("the demo does not hold: {}", wrong.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets() -> Value {
        json!({
            "sent": 1000, "verified": 800, "over_cap": 50, "late": 40, "duplicate": 3, "bad_tag": 2,
            "malformed": 1, "out_of_range": 0,
            "xdp": {"redirected": 896, "passed_not_ip": 7, "dropped_not_consented": 4},
            "xsk": {"rx_dropped": 5, "rx_ring_full": 1, "rx_invalid_descs": 0, "fill_ring_empty": 9},
            "control_sent": 60, "control_received": 55
        })
    }

    fn measured(verdict: &str, conserved: bool) -> Measured {
        let document = json!({
            "verdict": verdict, "reason": null, "state": "Final", "claimed_bps": 1_000_000_000,
            "measured_bps": 990_000_000, "guaranteed_bps": 660_000_000, "trust_curve": [990_000_000, 660_000_000],
            "duration_ms": 100, "challengers": [], "packets": packets(), "commit_latency_ns": 90_000,
            "datapath": {"receiver": "af_xdp"},
            "chain": {"engine": "embedded", "conserved": conserved,
                      "paid": [{"to": "0x01", "amount": "7", "role": "challenger"}]},
        });
        Measured::read(&document.to_string()).unwrap()
    }

    fn figures(verdict: &str, conserved: bool, verify: &str, path: u64) -> Figures {
        let measured = measured(verdict, conserved);
        let account = Account::new(&measured.packets, path);
        let verified = Verified::read(
            &json!({"verify": verify, "verdict": "Pass", "measured_bps": 990_000_000u64})
                .to_string(),
        );
        Figures {
            measured,
            verified: verified.unwrap(),
            account,
            path: PathDrops::default(),
            true_bps: 1_000_000_000,
            bundle: "x.bundle".into(),
            starved: Vec::new(),
            took: Duration::from_secs(9),
        }
    }

    #[test]
    fn a_demo_holds_only_if_everything_does() {
        assert!(figures("Pass", true, "ok", 99).judge().is_ok());
        let reason = |figures: Figures| figures.judge().unwrap_err().to_string();
        assert!(reason(figures("Pass", true, "ok", 100)).contains("-1 packets are unaccounted"));
        assert!(reason(figures("Pass", false, "ok", 99)).contains("conserve"));
        assert!(reason(figures("Pass", true, "failed", 99)).contains("verify: failed"));
        assert!(reason(figures("Fail", true, "ok", 99)).contains("otherwise"));
        assert!(reason(figures("Inconclusive", true, "ok", 99)).contains("no verdict"));
    }

    #[test]
    fn the_document_has_every_promised_key() {
        let figures = figures("Pass", true, "ok", 99);
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

    #[test]
    fn a_document_that_is_not_as_promised_names_the_field() {
        let error = format!("{:#}", Measured::read("{}").unwrap_err());
        assert!(error.contains("verdict"), "{error}");
        assert!(Measured::read("ready").is_err());
    }
}
