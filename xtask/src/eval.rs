//! `cargo xtask eval`: how true the figure is, and what every attack meets, on real packets.
//!
//! ```text
//!  machine ─► build plumbline, plumbline-attack, plumbline-eval ─► run it as root ─► tables, JSON, plots
//!  (install)  (user)                                               (namespaces)
//! ```
//! What is evaluated, and how, is in `bench/eval`; this only gets it built and gives it what it needs. Its exit
//! status is this command's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::machine::{Privilege, Purpose};
use crate::{bench, cargo, demo, machine};

/// Tables for which nobody has to misbehave.
const HONEST: [&str; 4] = ["accuracy", "shaper", "cross", "simulated"];

/// What to evaluate.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// At most five minutes; the default.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every cell, twenty times: hours, unattended. Killed, it goes on where it was.
    #[arg(long)]
    full: bool,
    /// A plan of one's own instead of the quick or the full one (see bench/eval/plans).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "full"])]
    plan: Option<PathBuf>,
    /// Only these tables: accuracy, attacks, corruption, shaper, cross, simulated.
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep what is done here, and go on from it [default: among what is built].
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Begin anew, whatever was done before.
    #[arg(long)]
    fresh: bool,
    /// Fail where a figure, a defence or an account does not hold.
    #[arg(long)]
    check: bool,
    /// Write everything to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a plot for each question into this directory, as SVG.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Let an adversary climb on virtual time instead: against the lower bound, and for a true claim that is called
    /// false. Fails where one is found. Needs neither root nor a product.
    #[arg(long, conflicts_with_all = ["quick", "full", "plan", "only", "resume", "fresh", "markdown", "plot"])]
    search: bool,
    /// How long it climbs [default: 600]; 0: only the table of --completeness.
    #[arg(long, value_name = "S", requires = "search")]
    seconds: Option<u64>,
    /// What its climbs begin with [default: 1].
    #[arg(long, value_name = "N", requires = "search")]
    seed: Option<u64>,
    /// Write to this file, as Markdown, how many true claims pass.
    #[arg(long, value_name = "FILE", requires = "search")]
    completeness: Option<PathBuf>,
    /// Use this `plumbline` instead of building it.
    #[arg(long, value_name = "FILE")]
    product: Option<PathBuf>,
    /// Use this `plumbline-attack` instead of building it.
    #[arg(long, value_name = "FILE")]
    attacker: Option<PathBuf>,
    /// Use this `plumbline-eval` instead of building it.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl Args {
    /// Whether somebody has to misbehave.
    fn needs_attacker(&self) -> bool {
        let honest = |table: &String| HONEST.contains(&table.as_str());
        self.only.is_empty() || !self.only.iter().all(honest)
    }

    /// The same, as the evaluation's own arguments, without the programs.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        for (is_set, flag) in [
            (self.quick, "--quick"),
            (self.full, "--full"),
            (self.fresh, "--fresh"),
            (self.check, "--check"),
            (self.search, "--search"),
        ] {
            if is_set {
                words.push(flag.into());
            }
        }
        if !self.only.is_empty() {
            words.extend(["--only".into(), self.only.join(",").into()]);
        }
        for (number, flag) in [(self.seconds, "--seconds"), (self.seed, "--seed")] {
            if let Some(number) = number {
                words.extend([flag.into(), number.to_string().into()]);
            }
        }
        for (file, flag) in [
            (&self.plan, "--plan"),
            (&self.resume, "--resume"),
            (&self.json, "--json"),
            (&self.markdown, "--markdown"),
            (&self.plot, "--plot"),
            (&self.completeness, "--completeness"),
        ] {
            if let Some(file) = file {
                words.extend([flag.into(), file.into()]);
            }
        }
        words
    }
}

/// Builds what is needed and runs it.
///
/// # Errors
/// Something is missing, it cannot be built, or the evaluation failed: it has said why.
pub(crate) fn run(args: &Args) -> Result<()> {
    let say = |line: &str| eprintln!("▸ {line}");
    let binary = || match &args.binary {
        Some(file) => given(file),
        None => {
            say("build: cargo build --release --package plumbline-eval");
            build()
        }
    };
    if args.search {
        return spawn(&binary()?, args, Vec::new());
    }
    let privilege = Privilege::detect().require("the evaluation")?;
    machine::prepare(Purpose::Demo, &say)?;
    let product = match &args.product {
        Some(file) => given(file)?,
        None => {
            say("build: cargo build --release --package plumbline");
            cargo::build_product()?
        }
    };
    let attacker = match &args.attacker {
        Some(file) => Some(given(file)?),
        None if args.needs_attacker() => {
            say("build: cargo build --release --package plumbline-attack --features daemon");
            Some(demo::build_attacker()?)
        }
        None => None,
    };
    let binary = binary()?;
    let mut programs: Vec<OsString> = vec!["--product".into(), product.into_os_string()];
    if let Some(attacker) = attacker {
        programs.extend(["--attacker".into(), attacker.into_os_string()]);
    }
    if privilege == Privilege::Sudo {
        say("eval: network namespaces and XDP need root; asking sudo");
        programs.extend(["--binary".into(), binary.into_os_string()]);
        return machine::elevate(&programs);
    }
    spawn(&binary, args, programs)
}

fn given(file: &Path) -> Result<PathBuf> {
    let found = file.canonicalize();
    found.with_context(|| format!("no such program: {}", file.display()))
}

/// Runs the evaluation until it ends; its files belong to whoever asked for them.
fn spawn(binary: &PathBuf, args: &Args, programs: Vec<OsString>) -> Result<()> {
    let mut child = Command::new(binary)
        .args(args.words())
        .args(programs)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    bench::pass_signals_on(child.id())?;
    let status = child.wait().context("cannot wait for the evaluation")?;
    let files = [&args.json, &args.markdown, &args.resume, &args.completeness];
    for file in files.into_iter().flatten() {
        machine::give_to_invoker(file);
    }
    bench::give_plots_away(args.plot.as_deref());
    if !status.success() {
        bail!("the evaluation ended with {status}");
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let args = [
        "build",
        "--release",
        "--package",
        "plumbline-eval",
        "--bin",
        "plumbline-eval",
        "--message-format=json-render-diagnostics",
    ];
    cargo::executable(&args, "plumbline-eval")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(line: &str) -> Args {
        let words = ["eval"].into_iter().chain(line.split_ascii_whitespace());
        Cli::try_parse_from(words).unwrap().args
    }

    #[test]
    fn every_argument_is_passed_on_but_the_programs() {
        for line in [
            "",
            "--quick",
            "--full --fresh --check --only accuracy,cross --resume s --json o --markdown m --plot p",
            "--plan own.toml",
            "--search --seconds 5 --seed 3 --json o --completeness c",
        ] {
            let words = parse(line).words().join(" ".as_ref());
            assert_eq!(words.into_string().unwrap(), line);
        }
        assert!(
            parse("--product a --attacker b --binary c")
                .words()
                .is_empty()
        );
    }

    #[test]
    fn who_attacks_is_built_only_if_somebody_does() {
        assert!(parse("").needs_attacker() && parse("--only accuracy,attacks").needs_attacker());
        assert!(!parse("--only accuracy,shaper,cross,simulated").needs_attacker());
    }
}
