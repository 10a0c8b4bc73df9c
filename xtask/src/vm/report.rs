//! What a guest says, line by line, and what came of it.
//!
//! ```text
//!  {"kind":"plan","tests":["…"]}                     what will be run
//!  {"kind":"test","name":"…","failure":null | "…"}   one a test
//!  {"kind":"rung","asked":"…", …}                    where the ladder ended
//!  {"kind":"exit","status":0}                        the program's end, from its parent
//! ```

use std::path::Path;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Deserialize;

/// What the kernel prints when it is broken.
const BROKEN: [&str; 4] = ["Kernel panic", "Oops", "BUG:", "WARNING: CPU"];

/// A line of results.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Plan {
        tests: Vec<String>,
    },
    Test {
        name: String,
        failure: Option<String>,
    },
    Rung(Rung),
    Exit {
        status: i32,
    },
}

/// Where the receiver's ladder ended.
#[derive(Debug, Deserialize)]
pub(crate) struct Rung {
    /// What was asked for, as `auto`.
    asked: String,
    /// What it was asked on, as `MTU 1500`.
    on: String,
    receiver: String,
    xdp_mode: String,
    umem: String,
    reasons: Vec<String>,
}

/// Something that went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Card and test.
    pub(crate) name: String,
    pub(crate) why: String,
}

/// All that one guest said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    card: String,
    planned: Vec<String>,
    tests: Vec<(String, Option<String>)>,
    rungs: Vec<Rung>,
    status: Option<i32>,
    /// What is wrong with the guest as a whole.
    broken: Vec<String>,
}

impl Report {
    pub(crate) fn new(card: &str) -> Self {
        Self {
            card: card.to_owned(),
            ..Self::default()
        }
    }

    /// Takes a line of results; what is returned is to be shown to people.
    pub(crate) fn hear(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            return None;
        }
        match serde_json::from_str(line) {
            Ok(Line::Plan { tests }) => self.planned.extend(tests),
            Ok(Line::Test { name, failure }) => {
                let end = if failure.is_none() { "ok" } else { "FAILED" };
                let shown = format!("test {name} ... {end}");
                self.tests.push((name, failure));
                return Some(shown);
            }
            Ok(Line::Rung(rung)) => self.rungs.push(rung),
            Ok(Line::Exit { status }) => self.status = Some(status),
            Err(error) => self.broken.push(format!("said `{line}` ({error})")),
        }
        None
    }

    /// Takes how the guest ended; `log` is its console.
    pub(crate) fn end(&mut self, ended: Result<()>, log: &Path) {
        if let Err(error) = ended {
            self.broken.push(format!("{error:#}"));
        }
        let console = std::fs::read(log).unwrap_or_default();
        self.console(&String::from_utf8_lossy(&console));
        match self.status {
            Some(0) => {}
            Some(status) => self
                .broken
                .push(format!("its program ended with status {status}")),
            None => self.broken.push("its program did not end".to_owned()),
        }
        if !self.broken.is_empty() {
            self.broken.push(format!("console: {}", log.display()));
        }
    }

    fn console(&mut self, text: &str) {
        let bad = |line: &&str| BROKEN.iter().any(|sign| line.contains(sign));
        if let Some(line) = text.lines().find(bad) {
            self.broken.push(format!("its kernel: {}", line.trim()));
        }
    }

    /// How many tests passed.
    pub(crate) fn passed(&self) -> usize {
        let passed = |(_, failure): &&(String, Option<String>)| failure.is_none();
        self.tests.iter().filter(passed).count()
    }

    /// What failed, what is missing, and what is wrong with the guest.
    pub(crate) fn failures(&self) -> Vec<Failure> {
        let failure = |name: &str, why: &str| Failure {
            name: format!("{}: {name}", self.card),
            why: why.to_owned(),
        };
        let failed = self
            .tests
            .iter()
            .filter_map(|(name, why)| why.as_ref().map(|why| failure(name, why)));
        let absent = |name: &&String| !self.tests.iter().any(|(there, _)| there == *name);
        let missing = self
            .planned
            .iter()
            .filter(absent)
            .map(|name| failure(name, "was announced and not run to its end"));
        let guest = self.broken.iter().map(|why| failure("guest", why));
        let nothing = self
            .planned
            .is_empty()
            .then(|| failure("guest", "announced no test"));
        failed.chain(missing).chain(guest).chain(nothing).collect()
    }
}

/// Which rung was taken, and why no better one.
pub(crate) fn table(reports: &[Report]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header([
            "card",
            "asked",
            "on",
            "receiver",
            "XDP",
            "UMEM",
            "why not better",
        ]);
    for report in reports {
        for rung in &report.rungs {
            table.add_row([
                report.card.clone(),
                rung.asked.clone(),
                rung.on.clone(),
                rung.receiver.clone(),
                rung.xdp_mode.clone(),
                rung.umem.clone(),
                rung.reasons.join("\n"),
            ]);
        }
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::new("card");
        for line in lines {
            report.hear(line);
        }
        report
    }

    const PLAN: &str = r#"{"kind":"plan","tests":["a","b"]}"#;
    const A: &str = r#"{"kind":"test","name":"a","failure":null}"#;
    const B: &str = r#"{"kind":"test","name":"b","failure":null}"#;
    const EXIT: &str = r#"{"kind":"exit","status":0}"#;

    fn names(report: &Report) -> Vec<String> {
        report.failures().into_iter().map(|f| f.name).collect()
    }

    /// A console with `text` on it.
    fn ended(mut report: Report, text: &str, how: Result<()>) -> Report {
        // Tests run at once, and some consoles are equally long.
        static CONSOLES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = CONSOLES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut log = std::env::temp_dir();
        log.push(format!("xtask-vm-{}-{number}", std::process::id()));
        std::fs::write(&log, text).unwrap();
        report.end(how, &log);
        std::fs::remove_file(&log).unwrap();
        report
    }

    #[test]
    fn a_guest_that_ran_all_it_announced_has_passed() {
        let good = ended(report(&[PLAN, A, "", B, EXIT]), "booted", Ok(()));
        assert_eq!((good.passed(), good.failures()), (2, vec![]));
    }

    #[test]
    fn failed_and_missing_tests_are_named() {
        let failed = r#"{"kind":"test","name":"a","failure":"because"}"#;
        let bad = ended(report(&[PLAN, failed, EXIT]), "", Ok(()));
        assert_eq!(bad.passed(), 0);
        assert_eq!(names(&bad), ["card: a", "card: b"]);
        assert_eq!(bad.failures()[0].why, "because");
    }

    #[test]
    fn a_guest_that_announced_nothing_has_failed() {
        let silent = ended(report(&[EXIT]), "", Ok(()));
        assert_eq!(names(&silent), ["card: guest"]);
    }

    #[test]
    fn a_broken_guest_has_failed_though_its_tests_passed() {
        let all = [PLAN, A, B, EXIT];
        let panicked = ended(
            report(&all),
            "x\n[ 1.0] Kernel panic - not syncing\n",
            Ok(()),
        );
        let late = ended(report(&all), "late", Err(anyhow::anyhow!("not done")));
        let crashed = r#"{"kind":"exit","status":139}"#;
        let crashed = ended(report(&[PLAN, A, B, crashed]), "crashed", Ok(()));
        let cut = ended(report(&[PLAN, A, B]), "cut off", Ok(()));
        let babble = ended(report(&[PLAN, A, B, "Hello", EXIT]), "babbles", Ok(()));
        for broken in [panicked, late, crashed, cut, babble] {
            assert!(!broken.failures().is_empty(), "{broken:?}");
        }
    }
}
