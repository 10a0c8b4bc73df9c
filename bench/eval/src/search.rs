//! `--search`: an adversary climbs on virtual time, on all cores; what it found, in words and as JSON.

#![allow(clippy::print_stdout)] // a command line tool: standard output is its purpose

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use plumbline_attack::search::{self, Until};

use crate::cli::Args;

/// Fastest links of the table of true claims, Mbit/s.
const FASTEST_MBIT: u64 = 10_000;
/// What is said above that table.
const ABOUT: &str = "# True claims that pass

Made by `cargo xtask eval --search --seconds 0 --completeness bench/attack/completeness.md`: links of exactly K, of which
probes take one part in 500, D = 1000 ms, everybody honest by the product's schedule, round trips to D/40 and clocks to
D/100 drawn; Pass by the whole rule. A test makes the rows to 100 Mbit/s again.

";

/// Searches, and says what does not hold.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn run(args: &Args) -> Result<Vec<String>> {
    let save = |file: &Path, text: String| {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut complaints = Vec::new();
    if let Some(file) = &args.completeness {
        let cells = search::completeness(FASTEST_MBIT, search::RUNS, search::SEED, threads);
        save(file, ABOUT.to_owned() + &search::markdown(&cells))?;
        let short = cells.iter().filter(|c| c.passed * 100 < c.runs * 95);
        complaints.extend(short.map(|c| format!("fewer than 95 % of true claims pass: {c:?}")));
    }
    if args.seconds == 0 {
        return Ok(complaints);
    }
    let until = Until::Time(Duration::from_secs(args.seconds));
    let report = search::search(until, args.seed, threads, &|line| eprintln!("▸ {line}"));
    println!("{report}");
    if let Some(file) = &args.json {
        save(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    complaints.extend(report.complaints());
    Ok(complaints)
}
