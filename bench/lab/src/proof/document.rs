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
    /// Smallest after it.
    pub after_ns: Option<u64>,
}

/// One challenger's part.
#[derive(Debug, Clone, Deserialize)]
pub struct Challenger {
    /// Its address on the chain.
    pub address: String,
    /// Its place in the draw.
    pub index: u16,
    /// Transfer time, nanoseconds.
    pub tt_ns: u64,
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
    /// Point estimate.
    pub measured_bps: u64,
    /// Guaranteed estimate.
    pub guaranteed_bps: u64,
    /// Guaranteed estimates for 0..=f.
    pub trust_curve: Vec<u64>,
    /// Nominal duration, milliseconds.
    pub duration_ms: u64,
    /// Everybody's part.
    pub challengers: Vec<Challenger>,
    /// Packets by fate.
    pub packets: Map<String, Value>,
    /// From the last counted packet to the commitment on the wire, nanoseconds.
    pub commit_latency_ns: u64,
    /// What the link sustains, where the product says so.
    pub sustained_bps: Option<u64>,
    /// What it passes on top at once, bytes, where the product says so.
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

    /// Why the challengers, not the link, decided: together they offered too little (check V11).
    #[must_use]
    pub fn starved(&self) -> Option<String> {
        let starved = self.verdict == "Inconclusive" && self.has_flag("UnderOffered");
        starved.then(|| self.reason.clone().unwrap_or_default())
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
        assert_eq!((measured.sustained_bps, measured.burst_bytes), (None, None));
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
        short["challengers"][2]["flags"] = json!(["UnderOffered"]);
        assert_eq!(starved(&short), Some(String::new()));
        short["verdict"] = "Fail".into();
        assert_eq!(starved(&short), None);
    }
}
