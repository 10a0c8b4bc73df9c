//! Results of `plumbline dispute …` and `plumbline stake …`.

use plumbline_trust::identity::Address;
use serde::{Deserialize, Serialize};

use super::decimal;
use crate::ui::exit::Exit;
use crate::ui::output::{Show, Style, fields};

/// `plumbline dispute make`, and `plumbline verify` of evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceView {
    /// Address of the file, `0x` and 64 hexadecimal digits.
    pub address: String,
    /// Which proof examines it.
    pub proof: String,
    /// What it is about.
    pub subject: String,
    /// Whom it accuses.
    pub accused: Address,
    /// Whether it shows an offence.
    pub holds: bool,
    /// Which, or why not.
    pub why: String,
    /// Where it was written, where it was.
    pub file: Option<String>,
}

impl EvidenceView {
    /// Evidence that shows nothing is a failed check.
    pub fn exit(&self) -> Exit {
        if self.holds { Exit::Ok } else { Exit::Failed }
    }
}

impl Show for EvidenceView {
    fn render_human(&self, style: Style) -> String {
        let holds = if self.holds {
            style.good("holds")
        } else {
            style.bad("shows nothing")
        };
        let mut rows = vec![
            ("evidence", format!("{holds}: {}", self.why)),
            ("address", self.address.clone()),
            ("proof", self.proof.clone()),
            ("subject", self.subject.clone()),
            ("accused", self.accused.to_string()),
        ];
        if let Some(file) = &self.file {
            rows.push(("file", file.clone()));
        }
        fields(&rows)
    }
}

/// `plumbline dispute submit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Id of the dispute.
    pub dispute: String,
    /// Id of the jury's case.
    pub case: String,
    /// Locked until the ruling: back if the evidence holds, burnt if not.
    #[serde(with = "decimal")]
    pub bond: u128,
    /// Locked for the jury.
    #[serde(with = "decimal")]
    pub fees: u128,
    /// Transaction; `null` if it was brought before, and the file only handed over.
    pub transaction: Option<String>,
    /// Block it is in.
    pub block: Option<u64>,
    /// Coordinators that have the evidence now.
    pub held_by: Vec<String>,
}

impl Show for Submitted {
    fn render_human(&self, _: Style) -> String {
        fields(&[
            ("dispute", self.dispute.clone()),
            ("case", self.case.clone()),
            ("bond", format!("{} (back if upheld or hung)", self.bond)),
            (
                "jury fees",
                format!("{} (what no juror earns comes back)", self.fees),
            ),
            (
                "transaction",
                match self.transaction.as_ref().zip(self.block) {
                    Some((hash, block)) => format!("{hash} in block {block}"),
                    None => "none: it was brought before".to_owned(),
                },
            ),
            ("held by", self.held_by.join(", ")),
        ])
    }
}

/// `plumbline dispute show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisputeView {
    /// Id of the dispute.
    pub dispute: String,
    /// What it is about.
    pub subject: String,
    /// Who brought it.
    pub reporter: Address,
    /// Whom it accuses.
    pub accused: Address,
    /// Address of the evidence.
    pub evidence: String,
    /// Where its reporter says that it is as well; may be empty.
    pub source: String,
    /// Id of the jury's case.
    pub case: String,
    /// `open`, `drawn` or `settled`.
    pub stage: String,
    /// `none`, `upheld`, `rejected`, `unavailable` or `hung`.
    pub ruling: String,
    /// Whether the ruling was carried out.
    pub over: bool,
    /// Until when the jury can be drawn, votes be committed and then revealed: seconds since 1970, 0 if
    /// not known yet.
    pub until: [u64; 3],
    /// Who sits, and what they did: `silent`, `committed`, or their vote.
    pub jurors: Vec<JurorView>,
}

/// A juror in [`DisputeView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JurorView {
    /// Who.
    pub address: Address,
    /// What it did.
    pub ballot: String,
}

impl Show for DisputeView {
    fn render_human(&self, style: Style) -> String {
        let [draw, commit, reveal] = self.until;
        let ruling = match self.ruling.as_str() {
            "upheld" => style.good("upheld"),
            "rejected" | "unavailable" => style.bad(&self.ruling),
            other => other.to_owned(),
        };
        let done = if self.over { ", carried out" } else { "" };
        let head = fields(&[
            ("dispute", self.dispute.clone()),
            ("subject", self.subject.clone()),
            ("reporter", self.reporter.to_string()),
            ("accused", self.accused.to_string()),
            ("evidence", self.evidence.clone()),
            ("source", self.source.clone()),
            ("case", format!("{} ({})", self.case, self.stage)),
            ("ruling", format!("{ruling}{done}")),
            (
                "until",
                format!("draw {draw}, commit {commit}, reveal {reveal} (seconds since 1970)"),
            ),
        ]);
        let rows = self
            .jurors
            .iter()
            .map(|j| vec![j.address.to_string(), j.ballot.clone()]);
        let jurors = crate::ui::output::table(&["juror", "ballot"], &[], rows);
        if self.jurors.is_empty() {
            head
        } else {
            format!("{head}\n\n{jurors}")
        }
    }
}

/// `plumbline dispute judge`, `plumbline dispute advance` and `plumbline stake`: one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, or why nothing: one word for programs.
    pub step: String,
    /// In words.
    pub detail: String,
}

impl Show for Done {
    fn render_human(&self, _: Style) -> String {
        fields(&[(self.step.as_str(), self.detail.clone())])
    }
}
