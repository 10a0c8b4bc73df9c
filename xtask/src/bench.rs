//! `cargo xtask bench`: the datapath side by side with what one would otherwise use; `chain`: what the
//! embedded chain does and costs.
//!
//! ```text
//!  machine ─► build plumbline-bench ─► run it as root ─► table, JSON, plots
//!  (install)  (user)                   (namespaces, XDP)
//!                                     chain: as the user
//! ```
//! What is measured, and how, is in `bench/`; this only gets it built and gives it what it needs. Its exit
//! status is this command's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::machine::{Privilege, Purpose};
use crate::{cargo, machine};

/// What to measure.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// At most two minutes; the default.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Longer trials, more of them, more rows.
    #[arg(long)]
    full: bool,
    /// Our AF_XDP binding beside xsk-rs, and nothing else; installs the C toolchain that xsk-rs needs.
    #[arg(long, conflicts_with_all = ["quick", "full"])]
    bindings: bool,
    /// A plan of one's own instead of the quick or the full one (see bench/README.md).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "full", "bindings"])]
    plan: Option<PathBuf>,
    /// Run only these rows of the plan (and `micro`, `commit` if named).
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure what a packet costs by stage, too; always with --full.
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
    /// Use this `plumbline-bench` instead of building it.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
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
    /// The same, as the bench's own arguments.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["chain".into()];
        for (is_set, flag) in [
            (self.quick, "--quick"),
            (self.full, "--full"),
            (self.check, "--check"),
            (self.bless_gas, "--bless-gas"),
        ] {
            if is_set {
                words.push(flag.into());
            }
        }
        for (file, flag) in [(&self.json, "--json"), (&self.plot, "--plot")] {
            if let Some(file) = file {
                words.extend([flag.into(), file.into()]);
            }
        }
        words
    }

    /// Builds the bench and runs it as whoever asked: a chain needs no privilege.
    fn run(&self, say: &dyn Fn(&str)) -> Result<()> {
        machine::prepare(Purpose::Build, say)?;
        say("build: cargo build --release --package plumbline-bench");
        let binary = build(false)?;
        let status = Command::new(&binary)
            .args(self.words())
            .status()
            .with_context(|| format!("cannot run {}", binary.display()))?;
        if !status.success() {
            bail!("the bench ended with {status}");
        }
        Ok(())
    }
}

impl Args {
    /// The same, as the bench's own arguments.
    fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        for (is_set, flag) in [
            (self.quick, "--quick"),
            (self.full, "--full"),
            (self.bindings, "--bindings"),
            (self.stages, "--stages"),
            (self.check, "--check"),
        ] {
            if is_set {
                words.push(flag.into());
            }
        }
        if !self.only.is_empty() {
            words.extend(["--only".into(), self.only.join(",").into()]);
        }
        for (file, flag) in [
            (&self.plan, "--plan"),
            (&self.json, "--json"),
            (&self.plot, "--plot"),
        ] {
            if let Some(file) = file {
                words.extend([flag.into(), file.into()]);
            }
        }
        words
    }
}

/// Builds the bench and runs it.
///
/// # Errors
/// Something is missing, it cannot be built, or it failed: it has said why.
pub(crate) fn run(args: &Args) -> Result<()> {
    let say = |line: &str| eprintln!("▸ {line}");
    if let Some(Part::Chain(chain)) = &args.part {
        return chain.run(&say);
    }
    let privilege = Privilege::detect().require("the bench")?;
    let purpose = if args.bindings {
        Purpose::Bindings
    } else {
        Purpose::Bench
    };
    machine::prepare(purpose, &say)?;
    let binary = match &args.binary {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| format!("--binary {}", binary.display()))?,
        None => {
            say("build: cargo build --release --package plumbline-bench");
            build(args.bindings)?
        }
    };
    if privilege == Privilege::Sudo {
        say("bench: network namespaces and XDP need root; asking sudo");
        return machine::elevate(&[OsString::from("--binary"), binary.into_os_string()]);
    }
    let mut child = Command::new(&binary)
        .args(args.words())
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    pass_signals_on(child.id())?;
    let status = child.wait().context("cannot wait for the bench")?;
    give_away(args);
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

fn build(both_bindings: bool) -> Result<PathBuf> {
    let mut args = vec![
        "build",
        "--release",
        "--package",
        "plumbline-bench",
        "--bin",
        "plumbline-bench",
        "--message-format=json-render-diagnostics",
    ];
    if both_bindings {
        args.extend(["--features", "xsk-rs"]);
    }
    cargo::executable(&args, "plumbline-bench")
}

/// The bench removes its namespaces when a signal ends it: it gets those that this program gets.
pub(crate) fn pass_signals_on(child: u32) -> Result<()> {
    let child = Pid::from_raw(i32::try_from(child).context("a process id")?);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            // Gone already: its end is being waited for.
            let _ = kill(child, Signal::SIGTERM);
        }
    });
    Ok(())
}

/// What was written as root belongs to the user who asked for it.
fn give_away(args: &Args) {
    if let Some(file) = &args.json {
        machine::give_to_invoker(file);
    }
    give_plots_away(args.plot.as_deref());
}

/// The same of a directory of plots.
pub(crate) fn give_plots_away(directory: Option<&Path>) {
    let Some(directory) = directory else { return };
    let files = std::fs::read_dir(directory).into_iter().flatten();
    let files = files.filter_map(|entry| Some(entry.ok()?.path()));
    let plots = files.filter(|file| file.extension().is_some_and(|e| e == "svg"));
    for path in plots.chain([directory.to_owned()]) {
        machine::give_to_invoker(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn words(line: &str) -> String {
        let args = Cli::try_parse_from(line.split(' ')).unwrap().args;
        args.words().join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn every_argument_is_passed_on_but_the_binary() {
        for line in [
            "--quick",
            "--full --stages --check",
            "--only verified,count --json out.json --plot plots",
            "--plan own.toml",
        ] {
            assert_eq!(words(&format!("bench {line}")), line);
        }
        assert_eq!(words("bench"), "");
        assert_eq!(words("bench --binary b --check"), "--check");
        assert!(Cli::try_parse_from(["bench", "--quick", "--full"]).is_err());
    }

    #[test]
    fn every_argument_of_the_chain_is_passed_on() {
        for line in [
            "chain",
            "chain --quick --check --json out.json --plot plots",
            "chain --full",
            "chain --bless-gas",
        ] {
            let args = Cli::try_parse_from(format!("bench {line}").split(' ')).unwrap();
            let Some(Part::Chain(chain)) = args.args.part else {
                panic!("{line}: no part");
            };
            let words = chain.words().join(" ".as_ref());
            assert_eq!(words.into_string().unwrap(), line);
        }
        for refused in ["bench --stages chain", "bench chain --bless-gas --check"] {
            assert!(
                Cli::try_parse_from(refused.split(' ')).is_err(),
                "{refused}"
            );
        }
    }
}
