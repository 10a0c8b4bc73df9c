//! Result of `plumbline verify`: every named check, and whom it blames; and what was compared with what.

use serde::{Deserialize, Serialize};

use super::measure::Verdict;
use crate::ui::exit::Exit;
use crate::ui::output::{Show, Style, fields, rate, table};

/// Whether a bundle holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyOutcome {
    /// Every check holds and the verdict is the one recorded.
    Ok,
    /// At least one check fails.
    Failed,
}

/// One named check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckResult {
    /// `V1` … `V13`, or another short name.
    pub check: String,
    /// In words.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Whom a failure blames, where it blames one.
    pub culprit: Option<String>,
    /// What was found.
    pub detail: String,
}

/// Whether a chain says the same as a bundle. That a bundle holds says only that its author did not contradict itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChainOutcome {
    /// Nobody asked one: anybody can invent a bundle that holds.
    NotCompared,
    /// It says the same.
    Agrees,
    /// It says otherwise, or the bundle does not get that far.
    Differs,
}

/// What a bundle says it is about, and whether something else says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// `chain_id`, `contract`, `request`, `prover`, `draw`, `setup`, `result` or `bundle_hash`.
    pub what: String,
    /// What the bundle says.
    pub bundle: String,
    /// `chain`, `deployment` or `expectation`; nothing if it was not compared.
    pub with: Option<String>,
    /// Whether it is the same; nothing if it was not compared.
    pub same: Option<bool>,
    /// What the other says, where it is not the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
}

/// A bundle judged again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyResult {
    /// Whether it holds.
    pub verify: VerifyOutcome,
    /// The verdict as recomputed; `None` where the bundle does not get that far.
    pub verdict: Option<Verdict>,
    /// Point estimate, bits a second; `None` likewise.
    pub measured_bps: Option<u64>,
    /// Guaranteed estimate, bits a second; `None` likewise.
    pub guaranteed_bps: Option<u64>,
    /// Whether a chain says the same.
    pub chain: ChainOutcome,
    /// What it is about, and with what each was compared.
    pub compared: Vec<Comparison>,
    /// Every check made.
    pub checks: Vec<CheckResult>,
}

impl VerifyResult {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        let differs = |c: &Comparison| c.same == Some(false);
        match self.verify {
            VerifyOutcome::Ok if !self.compared.iter().any(differs) => Exit::Ok,
            _ => Exit::Failed,
        }
    }
}

impl ChainOutcome {
    fn render(self, style: Style) -> String {
        match self {
            Self::NotCompared => {
                "not compared with any chain: anybody can invent a bundle that holds; --deployment and --rpc compare it"
                    .to_owned()
            }
            Self::Agrees => style.good("agrees"),
            Self::Differs => style.bad("DIFFERS"),
        }
    }
}

impl Show for VerifyResult {
    fn render_human(&self, style: Style) -> String {
        let failed: Vec<&str> = self
            .checks
            .iter()
            .filter(|c| !c.ok)
            .map(|c| c.check.as_str())
            .collect();
        let outcome = match self.verify {
            VerifyOutcome::Ok => style.good("ok"),
            VerifyOutcome::Failed if failed.is_empty() => style.bad("failed"),
            VerifyOutcome::Failed => format!("{} ({})", style.bad("failed"), failed.join(", ")),
        };
        let unknown = || "not reached".to_owned();
        let head = fields(&[
            ("verify", outcome),
            (
                "verdict",
                self.verdict.map_or_else(unknown, |v| v.render(style)),
            ),
            ("measured", self.measured_bps.map_or_else(unknown, rate)),
            ("guaranteed", self.guaranteed_bps.map_or_else(unknown, rate)),
            ("chain", self.chain.render(style)),
        ]);
        let about = self.compared.iter().map(|c| {
            let found = match (&c.with, c.same) {
                (Some(with), Some(true)) => format!("as the {with} says"),
                (Some(with), _) => format!(
                    "{} from the {with}: {}",
                    style.bad("DIFFERS"),
                    c.other.as_deref().unwrap_or_default()
                ),
                (None, _) => "not compared".to_owned(),
            };
            vec![c.what.clone(), c.bundle.clone(), found]
        });
        let about = table(&["about", "in the bundle", ""], &[], about);
        let rows = self.checks.iter().map(|c| {
            vec![
                c.check.clone(),
                c.name.clone(),
                if c.ok { "holds" } else { "FAILS" }.to_owned(),
                c.culprit.clone().unwrap_or_default(),
                c.detail.clone(),
            ]
        });
        format!(
            "{head}\n\n{about}\n\n{}",
            table(&["check", "name", "", "culprit", "detail"], &[], rows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_that_of_the_contract_and_words_name_the_culprit() {
        let json = serde_json::json!({
            "verify": "failed", "verdict": "Pass", "measured_bps": 990_000_000u64, "guaranteed_bps": null,
            "chain": "not_compared",
            "compared": [
                {"what": "prover", "bundle": "0x01", "with": "expectation", "same": false, "other": "0x02"},
                {"what": "request", "bundle": "0x07", "with": null, "same": null},
            ],
            "checks": [
                {"check": "V1", "name": "signatures", "ok": true, "culprit": null, "detail": "7 hold"},
                {"check": "V3", "name": "openings", "ok": false, "culprit": "prover", "detail": "C_2 differs"},
            ]
        });
        let result: VerifyResult = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&result).unwrap(), json);
        assert_eq!(result.exit(), Exit::Failed);
        let shown = result.render_human(Style::Plain);
        for words in [
            "failed (V3)",
            "990.000 Mbit/s",
            "not reached",
            "FAILS",
            "prover",
            "not compared with any chain",
            "from the expectation: 0x02",
        ] {
            assert!(shown.contains(words), "{words:?} is not in\n{shown}");
        }
    }
    #[test]
    fn a_bundle_that_holds_and_is_not_what_was_expected_fails() {
        let compared = |same| VerifyResult {
            verify: VerifyOutcome::Ok,
            verdict: None,
            measured_bps: None,
            guaranteed_bps: None,
            chain: ChainOutcome::NotCompared,
            compared: vec![Comparison {
                what: "prover".into(),
                bundle: "0x01".into(),
                with: Some("expectation".into()),
                same,
                other: None,
            }],
            checks: Vec::new(),
        };
        assert_eq!(compared(Some(true)).exit(), Exit::Ok);
        assert_eq!(compared(None).exit(), Exit::Ok);
        assert_eq!(compared(Some(false)).exit(), Exit::Failed);
    }
}
