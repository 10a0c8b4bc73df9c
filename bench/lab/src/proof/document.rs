//! What `plumbline measure --json` and `plumbline verify --json` say, as far as a lab needs it.

use serde::Deserialize;
use serde_json::{Map, Value};

/// Round trips that a challenger saw.
#[derive(Debug, Clone, Deserialize)]
pub struct Rtt {
    /// Smallest before the flood, nanoseconds.
    pub before_ns: u64,
    /// Smallest while it ran.
    pub during_ns: Option<u64>,
}

/// One challenger's part.
#[derive(Debug, Clone, Deserialize)]
pub struct Challenger {
    /// Its address on the chain.
    pub address: String,
    /// Its place in the draw.
    pub index: u16,
    /// From its first send to the commitment, microseconds.
    pub window_us: u32,
    /// Round trips.
    pub rtt: Rtt,
    /// Packets counted.
    pub packets: u64,
    /// Packets sent.
    pub sent: u64,
    /// Base units, decimal.
    pub paid: String,
    /// Whether its report is valid.
    pub valid: bool,
    /// What was noticed about it.
    pub flags: Vec<String>,
}

/// What the line sustains at least, if it has a bucket of this size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Sustained {
    /// Bytes of the bucket.
    pub burst_bytes: u64,
    /// Bit/s.
    pub at_least_bps: u64,
}

/// Who got what.
#[derive(Debug, Clone, Deserialize)]
pub struct Paid {
    /// Address.
    pub to: String,
    /// Base units, decimal.
    pub amount: String,
    /// As whom.
    pub role: String,
}

/// What `plumbline measure --json` says, as far as labs use it; the rest is in [`Self::raw`].
#[derive(Debug, Clone, Deserialize)]
pub struct Measured {
    /// `Pass`, `Fail`, `Inconclusive`.
    pub verdict: String,
    /// Why, where the verdict does not speak for itself.
    pub reason: Option<String>,
    /// How the request ended.
    pub state: String,
    /// The claim, bit/s of IP layer as all rates here.
    pub claimed_bps: u64,
    /// Shown, never judged.
    pub measured_bps: u64,
    /// B_g(0): what the link carried at least, if nobody lies.
    pub lower_bps: u64,
    /// B_g(f): … though f lie.
    pub guaranteed_bps: u64,
    /// B_g(0..=f).
    pub trust_curve: Vec<u64>,
    /// Nominal duration, milliseconds.
    pub duration_ms: u64,
    /// Everybody's part.
    pub challengers: Vec<Challenger>,
    /// Packets by fate.
    pub packets: Map<String, Value>,
    /// From the last counted packet to the commitment on the wire, nanoseconds.
    pub commit_latency_ns: u64,
    /// What a link of the claim was asked for at least; none if nobody sent long enough.
    pub asked_bps: Option<u64>,
    /// All that came over the same time.
    pub came_bps: Option<u64>,
    /// What the link sustains at least, by the size of a bucket that it may have.
    pub sustained: Vec<Sustained>,
    /// A burst that the prover's own slices show, bytes.
    pub burst_bytes: Option<u64>,
    #[serde(skip)]
    raw: Value,
}

impl Measured {
    /// Reads the document.
    ///
    /// # Errors
    /// It is not JSON, or lacks a field: named.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        let raw: Value = serde_json::from_str(text)?;
        let mut measured: Self = serde_json::from_value(raw.clone())?;
        measured.raw = raw;
        Ok(measured)
    }

    /// The whole document.
    #[must_use]
    pub fn raw(&self) -> &Value {
        &self.raw
    }

    /// Why the challengers or the receiver, not the link, decided: a link of the claim was asked for less than a claim
    /// needs to pass, or the prover's host dropped what came.
    #[must_use]
    pub fn starved(&self) -> Option<String> {
        let bar = u128::from(self.claimed_bps) * 95;
        let asked = |bps: u64| u128::from(bps) * 100 >= bar;
        let reason = self.reason.clone().unwrap_or_default();
        let starved = !self.asked_bps.is_some_and(asked) || reason.starts_with("receiver:");
        (self.verdict == "Inconclusive" && starved).then_some(reason)
    }

    /// What the line sustains at least if it has a bucket of `bytes`, by the row of the next larger size.
    #[must_use]
    pub fn sustained_bps(&self, bytes: u64) -> Option<u64> {
        let rows = self.sustained.iter().filter(|row| row.burst_bytes >= bytes);
        rows.min_by_key(|row| row.burst_bytes)
            .map(|row| row.at_least_bps)
    }

    /// Whether something of that name was noticed about anyone.
    #[must_use]
    pub fn has_flag(&self, name: &str) -> bool {
        let mut flags = self.challengers.iter().flat_map(|c| &c.flags);
        flags.any(|flag| flag == name)
    }

    /// Text at a place in the document, or a dash.
    #[must_use]
    pub fn text(&self, pointer: &str) -> String {
        match self.raw.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => "–".to_owned(),
            Some(other) => other.to_string(),
        }
    }

    /// Who got what.
    #[must_use]
    pub fn paid(&self) -> Vec<Paid> {
        let paid = self.raw.pointer("/chain/paid");
        paid.and_then(|paid| Vec::deserialize(paid).ok())
            .unwrap_or_default()
    }

    /// Whether the chain conserved its money.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.raw.pointer("/chain/conserved") == Some(&Value::Bool(true))
    }
}

/// What `plumbline verify --json` says.
#[derive(Debug, Clone, Deserialize)]
pub struct Verified {
    /// `ok` or `failed`.
    pub verify: String,
    /// The verdict as recomputed.
    pub verdict: Option<String>,
    /// The point estimate as recomputed.
    pub measured_bps: Option<u64>,
    #[serde(default)]
    checks: Vec<Value>,
}

impl Verified {
    /// Reads the document.
    ///
    /// # Errors
    /// It is not JSON, or lacks a field: named.
    pub fn read(text: &str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The checks that did not hold.
    #[must_use]
    pub fn failed(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|check| check["ok"] != true);
        failed
            .map(|check| format!("{} ({})", check["check"], check["detail"]))
            .collect()
    }

    /// Whether it judges as the payer was told.
    #[must_use]
    pub fn agrees(&self, measured: &Measured) -> bool {
        let verdict = self.verdict.as_ref();
        verdict.is_none_or(|verdict| *verdict == measured.verdict)
            && self
                .measured_bps
                .is_none_or(|bps| bps == measured.measured_bps)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::document;
    use super::*;

    #[test]
    fn a_document_that_is_not_as_promised_names_the_field() {
        let error = Measured::read("{}").unwrap_err().to_string();
        assert!(error.contains("verdict"), "{error}");
        assert!(Measured::read("ready").is_err());
        let measured = Measured::read(&document().to_string()).unwrap();
        let sustained = |bytes| measured.sustained_bps(bytes);
        assert_eq!((sustained(1), sustained(1_000_000)), (Some(5), Some(5)));
        assert_eq!(
            (sustained(1_000_001), sustained(100_000_001)),
            (Some(4), None)
        );
        assert_eq!(measured.burst_bytes, None);
        assert_eq!(measured.paid()[0].amount, "7");
        assert_eq!(
            (measured.text("/chain/engine"), measured.text("/none")),
            ("embedded".into(), "–".into())
        );
    }

    #[test]
    fn only_an_offer_that_fell_short_is_starved() {
        let mut short = document();
        short["verdict"] = "Inconclusive".into();
        let starved = |document: &Value| Measured::read(&document.to_string()).unwrap().starved();
        assert_eq!(starved(&short), None);
        short["asked_bps"] = 949_999_999.into();
        assert_eq!(starved(&short), Some(String::new()));
        short["asked_bps"] = json!(null);
        assert_eq!(starved(&short), Some(String::new()));
        short["asked_bps"] = 950_000_000.into();
        short["reason"] = "receiver: it dropped".into();
        assert!(starved(&short).is_some());
        short["verdict"] = "Fail".into();
        assert_eq!(starved(&short), None);
    }
}
