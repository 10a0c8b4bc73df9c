//! Result of `plumbline verify`: every named check, and whom it blames.

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
    /// Every check made.
    pub checks: Vec<CheckResult>,
}

impl VerifyResult {
    /// How the command ends.
    pub fn exit(&self) -> Exit {
        match self.verify {
            VerifyOutcome::Ok => Exit::Ok,
            VerifyOutcome::Failed => Exit::Failed,
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
        ]);
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
            "{head}\n\n{}",
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
        ] {
            assert!(shown.contains(words), "{words:?} is not in\n{shown}");
        }
    }
}
