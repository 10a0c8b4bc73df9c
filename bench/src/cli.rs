//! The command line.
#![allow(clippy::print_stdout)] // a command line tool: standard output is its purpose

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::chain;
use crate::plan::{BINDINGS, FULL, Plan, QUICK};
use crate::progress::Progress;
use crate::report::chain as chain_report;
use crate::report::{Outcome, plot, table};
use crate::{pair, promise, run};

/// Exit status of a process that a signal ended, as shells write it.
const INTERRUPTED: i32 = 130;

/// Measure the datapath side by side with what one would otherwise use.
#[derive(Debug, clap::Parser)]
#[command(
    name = "plumbline-bench",
    bin_name = "cargo xtask bench",
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
pub struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// At most two minutes; the default.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Longer trials, more of them, more rows.
    #[arg(long)]
    full: bool,
    /// Our AF_XDP binding beside xsk-rs, and nothing else.
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    bindings: bool,
    /// A plan of one's own instead of the quick or the full one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "full", "bindings"])]
    plan: Option<PathBuf>,
    /// Run only these rows of the plan (and `micro`, `commit` if named).
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure what a packet costs by stage, too.
    #[arg(long)]
    stages: bool,
    /// Fail where an enforced promise is broken, or a row does not add up.
    #[arg(long)]
    check: bool,
    /// Write everything to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a plot for each question into this directory, as SVG.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
}

/// What is measured instead of the datapath.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// What the embedded chain does and costs; needs no privilege.
    Chain(ChainArgs),
}

/// How the chain is measured.
#[derive(Debug, clap::Args)]
struct ChainArgs {
    /// At most two minutes; the default.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// More rounds.
    #[arg(long)]
    full: bool,
    /// Fail where an enforced promise is broken, or gas is not what was committed.
    #[arg(long)]
    check: bool,
    /// Write everything to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a plot into this directory, as SVG.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Measure gas alone and write bench/gas.toml anew.
    #[arg(long, conflicts_with_all = ["quick", "full", "check", "json", "plot"])]
    bless_gas: bool,
}

impl ChainArgs {
    fn plan(&self) -> Result<chain::Plan> {
        chain::Plan::parse(if self.full { chain::FULL } else { chain::QUICK })
    }
}

impl Args {
    fn plan(&self) -> Result<Plan> {
        let own = match &self.plan {
            Some(file) => Some(read(file)?),
            None => None,
        };
        let text = match &own {
            Some(text) => text,
            None if self.full => FULL,
            None if self.bindings => BINDINGS,
            None => QUICK,
        };
        let mut plan = Plan::parse(text)?;
        plan.stages |= self.stages;
        if self.only.is_empty() {
            Ok(plan)
        } else {
            plan.only(&self.only)
        }
    }

    /// Whether promises may stay unmeasured: some of the plan was left out on purpose.
    fn is_partial(&self) -> bool {
        !self.only.is_empty() || self.plan.is_some() || self.bindings
    }
}

/// Runs the bench; what went wrong is said on stderr.
pub fn main(args: &Args) -> ExitCode {
    let (done, check) = match &args.part {
        Some(Part::Chain(chain)) => (measure_chain(chain), chain.check),
        None => (measure(args), args.check),
    };
    match done {
        Ok(complaints) if complaints.is_empty() || !check => ExitCode::SUCCESS,
        Ok(complaints) => {
            for complaint in complaints {
                eprintln!("error: {complaint}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<Vec<String>> {
    let plan = args.plan()?;
    let promises = promise::parse(promise::PROMISES)?.packets;
    clean_up_on_signal()?;
    pair::sweep(false)?;
    // As the product's own processes; without the privilege nobody has it.
    let _preferred = plumbline::host::take_precedence();
    let progress = Progress::for_terminal();
    let outcome = run::run(&plan, promises, command(), &progress);
    progress.done();
    let outcome = outcome?;
    println!("{}", table::render(&outcome));
    write(args, &outcome)?;
    Ok(outcome.complaints(args.is_partial()))
}

/// What was typed.
fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = ["cargo xtask bench".to_owned(), words.join(" ")].join(" ");
    command.trim().to_owned()
}

fn measure_chain(args: &ChainArgs) -> Result<Vec<String>> {
    let progress = Progress::for_terminal();
    if args.bless_gas {
        let written = chain::bless(&progress);
        progress.done();
        println!("written: {}", written?.display());
        return Ok(Vec::new());
    }
    let promises = promise::parse(promise::PROMISES)?.chain;
    let outcome = chain::run(&args.plan()?, promises, command(), &progress);
    progress.done();
    let outcome = outcome?;
    println!("{}", chain_report::render(&outcome));
    write_json(args.json.as_deref(), &outcome)?;
    if let Some(directory) = &args.plot {
        for file in chain_report::plot(&outcome, directory)? {
            println!("plot: {}", file.display());
        }
    }
    Ok(outcome.complaints())
}

fn write_json(file: Option<&Path>, outcome: &impl serde::Serialize) -> Result<()> {
    if let Some(file) = file {
        let text = serde_json::to_string_pretty(outcome)?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn write(args: &Args, outcome: &Outcome) -> Result<()> {
    write_json(args.json.as_deref(), outcome)?;
    if let Some(directory) = &args.plot {
        for file in plot::write(outcome, directory)? {
            println!("plot: {}", file.display());
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// From now on, a signal removes this process's namespaces and ends it.
fn clean_up_on_signal() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            if let Err(error) = pair::sweep(true) {
                eprintln!("error: {error:#}; the next run removes what is left");
            }
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(["bench"].into_iter().chain(line.split_ascii_whitespace()))
    }

    #[test]
    fn quick_is_the_default_and_excludes_full() {
        let quick = args("").unwrap().plan().unwrap();
        assert_eq!(quick, args("--quick").unwrap().plan().unwrap());
        let full = args("--full").unwrap().plan().unwrap();
        assert!(full.repeats > quick.repeats && full.stages && !quick.stages);
        assert!(args("--quick --full").is_err());
        assert!(args("--stages").unwrap().plan().unwrap().stages);
    }

    #[test]
    fn rows_are_named_with_commas_and_unknown_ones_refused() {
        let some = args("--only verified,count").unwrap();
        assert_eq!(some.plan().unwrap().rows.len(), 2);
        assert!(some.is_partial() && !args("").unwrap().is_partial());
        assert!(args("--only nobody").unwrap().plan().is_err());
    }

    #[test]
    fn the_chain_is_a_part_of_its_own() {
        let chain = |line: &str| match args(line).map(|args| args.part) {
            Ok(Some(Part::Chain(chain))) => Ok(chain),
            Ok(None) => panic!("{line}: no part"),
            Err(error) => Err(error),
        };
        let quick = chain("chain").unwrap().plan().unwrap();
        assert_eq!(quick, chain("chain --quick").unwrap().plan().unwrap());
        assert!(chain("chain --full").unwrap().plan().unwrap().rounds > quick.rounds);
        assert!(chain("chain --check --json o.json --plot p").unwrap().check);
        assert!(chain("chain --bless-gas").unwrap().bless_gas);
        for refused in [
            "chain --quick --full",
            "chain --bless-gas --check",
            "--stages chain",
            "chain --stages",
        ] {
            assert!(args(refused).is_err(), "{refused}");
        }
    }
}
