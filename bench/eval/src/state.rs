//! What is done, on disk after every proof: a killed evaluation goes on where it was, and never mixes what
//! another product, machine or plan gave.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::plan::Plan;
use crate::run::Run;

/// What runs must have in common to stand in one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Of {
    pub(crate) machine: Machine,
    /// SHA-256 of the product.
    pub(crate) product: String,
    /// SHA-256 of the attack program, if there is one.
    pub(crate) attacks: Option<String>,
    pub(crate) plan: Plan,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) of: Of,
    /// When it began, UTC.
    pub(crate) date: String,
    /// Seconds of all processes that worked on it.
    pub(crate) seconds: f64,
    /// Times that it was taken up again.
    pub(crate) resumed: u32,
    /// Runs by cell.
    pub(crate) runs: BTreeMap<String, Vec<Run>>,
}

impl State {
    /// What the file holds, or nothing yet.
    ///
    /// # Errors
    /// It is of another machine, product or plan, or cannot be read: says what to do.
    pub(crate) fn open(file: &Path, of: Of, date: &str) -> Result<Self> {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self {
                    of,
                    date: date.to_owned(),
                    seconds: 0.0,
                    resumed: 0,
                    runs: BTreeMap::new(),
                });
            }
            other => other.with_context(|| format!("cannot read {}", file.display()))?,
        };
        let way_out = "remove it, add --fresh, or name another with --resume";
        let mut state: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} holds no state; {way_out}", file.display()))?;
        for (differs, what) in [
            (
                state.of.machine != of.machine,
                "on another machine or kernel",
            ),
            (
                state.of.product != of.product,
                "of another build of the product",
            ),
            (
                state.of.attacks != of.attacks,
                "with another attack program",
            ),
            (state.of.plan != of.plan, "of another plan"),
        ] {
            if differs {
                bail!("{} is what was done {what}; {way_out}", file.display());
            }
        }
        state.resumed += 1;
        Ok(state)
    }

    /// Keeps it: the file is the old state or the new one, whenever the process ends.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        let mut part = file.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let write = || -> std::io::Result<()> {
            if let Some(parent) = file.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&part, serde_json::to_vec(self)?)?;
            std::fs::rename(&part, file)
        };
        write().with_context(|| format!("cannot write {}", file.display()))
    }

    /// The runs of a cell.
    pub(crate) fn runs(&self, key: &str) -> &[Run] {
        self.runs.get(key).map_or(&[], Vec::as_slice)
    }

    /// How many of them count, of `wanted`.
    pub(crate) fn counted(&self, key: &str, wanted: u32) -> u32 {
        let counted = self.runs(key).iter().filter(|run| run.counts()).count();
        u32::try_from(counted).unwrap_or(u32::MAX).min(wanted)
    }

    /// Whether a cell has what it wants, or has been tried as often as it may be.
    pub(crate) fn is_done(&self, key: &str, wanted: u32, retries: u32) -> bool {
        let tried = u32::try_from(self.runs(key).len()).unwrap_or(u32::MAX);
        self.counted(key, wanted) >= wanted || tried >= wanted.saturating_mul(1 + retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::QUICK;

    fn of() -> Of {
        Of {
            machine: Machine::describe(),
            product: "p".into(),
            attacks: None,
            plan: Plan::parse(QUICK).unwrap(),
        }
    }

    #[test]
    fn what_was_done_is_found_again_and_only_by_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/state.json");
        let mut state = State::open(&file, of(), "today").unwrap();
        let run = Run {
            verdict: "Pass".into(),
            measured_bps: Some(7),
            path_loss: Some(0.1 + 0.2),
            ..Run::default()
        };
        state.runs.insert("a".into(), vec![run]);
        state.save(&file).unwrap();
        let again = State::open(&file, of(), "tomorrow").unwrap();
        assert_eq!((again.runs.clone(), again.resumed), (state.runs.clone(), 1));
        assert_eq!(again.date, "today");
        type Change = (&'static str, fn(&mut Of));
        let changes: [Change; 4] = [
            ("machine", |of| of.machine.cores += 1),
            ("product", |of| of.product.push('x')),
            ("attack program", |of| of.attacks = Some("a".into())),
            ("plan", |of| of.plan.runs += 1),
        ];
        for (what, change) in changes {
            let mut other = of();
            change(&mut other);
            let error = State::open(&file, other, "x").unwrap_err().to_string();
            assert!(error.contains(what) && error.contains("--fresh"), "{error}");
        }
        std::fs::write(&file, "{").unwrap();
        assert!(State::open(&file, of(), "x").is_err());
    }

    #[test]
    fn a_cell_is_done_with_its_runs_or_its_retries() {
        let mut state = State::open(Path::new("/nonexistent/state"), of(), "x").unwrap();
        let mut add = |starved| {
            let run = Run {
                verdict: "Inconclusive".into(),
                starved,
                ..Run::default()
            };
            state.runs.entry("a".into()).or_default().push(run);
            (state.is_done("a", 2, 1), state.counted("a", 2))
        };
        assert_eq!(add(true), (false, 0));
        assert_eq!(add(false), (false, 1));
        assert_eq!(add(true), (false, 1));
        assert_eq!(add(true), (true, 1), "four tries for two runs");
        assert_eq!(add(false), (true, 2));
    }
}
