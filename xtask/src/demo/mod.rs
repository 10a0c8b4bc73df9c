//! `cargo xtask demo`: one true proof of backhaul, from an empty machine to a verdict.
//!
//! ```text
//!  machine ─► build ─► lab up ─► keys, configs ─► coordinator · prover · challengers, each in its
//!  (install)  (user)   (root)                      namespace ─► measure ─► verify ─► table, JSON
//! ```
//!
//! **Claim:** it ends well only if the proof came to a verdict, every packet has a fate, the chain
//! conserves its money and `plumbline verify` agrees. Losses on the path are the lab's own counters,
//! never what is left over. Tests: the figures in `figures.rs`; the whole is this command.

mod figures;
mod table;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use plumbline_lab::{Cast, Host, Lab, Plan, Process, Shape, WirePlan};

use crate::machine::{Privilege, Purpose};
use crate::{anvil, cargo, interrupt, machine, units};
use figures::{Figures, Measured, Verified};

/// Phase of a measurement unless the delay asks for more: the published method's own (NDSS 2024).
const SHORTEST: Duration = Duration::from_millis(100);

/// A phase must be long beside the round trip that is subtracted from it.
const ROUND_TRIPS: u32 = 20;

/// Longest that one proof may take, all waits included; the contract's own deadline is 60 s.
const PROOF: Duration = Duration::from_secs(90);

/// How often the payer asks at most, and only for one reason: on a busy machine the challengers cannot
/// offer their rate (check V11), which says nothing about the link. Any other end is shown as it is.
const ATTEMPTS: usize = 3;

/// Longest that packets may stand in the lab's queues after the proof.
const SETTLE: Duration = Duration::from_secs(5);

/// Longest that `plumbline verify` may take.
const VERIFY: Duration = Duration::from_secs(60);

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// True rate of the prover's link, at the IP layer.
    #[arg(long, default_value = "1gbit", value_parser = units::rate)]
    rate: u64,
    /// What the prover claims to have [default: the true rate].
    #[arg(long, value_parser = units::rate)]
    claim: Option<u64>,
    /// Challengers to draw.
    #[arg(long, default_value_t = 5)]
    challengers: u8,
    /// Challengers that may be corrupt; at least 3f+1 are needed.
    #[arg(long, default_value_t = 1)]
    f: u8,
    /// One-way delay of the measured link, such as 20ms.
    #[arg(long, default_value = "0ms", value_parser = units::time)]
    delay: Duration,
    /// Duration of the measurement [default: 100ms, or 20 round trips if longer].
    #[arg(long, value_parser = units::time)]
    duration: Option<Duration>,
    /// What the proof is settled on: the coordinator's own chain, or an anvil process beside it.
    #[arg(long, value_enum, default_value_t = Engine::Embedded)]
    engine: Engine,
    /// Write the figures to this file, and the evidence beside it (.bundle).
    #[arg(long)]
    json: Option<PathBuf>,
    /// Keep the run's directory: keys, configurations, logs, state.
    #[arg(long)]
    keep: bool,
    /// Show only the result.
    #[arg(long, short)]
    quiet: bool,
    /// Use this `plumbline` instead of building it.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// The chain of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// In the coordinator's process.
    Embedded,
    /// Foundry's anvil, through JSON-RPC as any EVM chain.
    Anvil,
}

impl Args {
    fn claim(&self) -> u64 {
        self.claim.unwrap_or(self.rate)
    }

    fn duration(&self) -> Duration {
        self.duration
            .unwrap_or_else(|| SHORTEST.max(self.delay * 2 * ROUND_TRIPS))
    }

    fn plan(&self) -> Plan {
        let wire = (!self.delay.is_zero()).then(|| WirePlan::delay(self.delay));
        Plan::backhaul(self.challengers, Shape::ip_layer(self.rate, 1500), wire)
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            eprintln!("▸ {line}");
        }
    }
}

/// Runs one proof and shows what came of it.
///
/// # Errors
/// Something is missing, a step failed, or the result does not hold: each with its reason.
pub(crate) fn run(args: &Args) -> Result<()> {
    args.plan().check()?;
    let privilege = Privilege::detect().require("the demo")?;
    let purpose = match args.engine {
        Engine::Embedded => Purpose::Demo,
        Engine::Anvil => Purpose::DemoOnAnvil,
    };
    machine::prepare(purpose, &|line| args.say(line))?;
    let anvil = match args.engine {
        Engine::Embedded => None,
        Engine::Anvil => Some(anvil::install(&|line| args.say(line))?),
    };
    let binary = match &args.binary {
        Some(binary) => binary
            .canonicalize()
            .with_context(|| format!("--binary {}", binary.display()))?,
        None => {
            args.say("build: cargo build --release --package plumbline");
            cargo::build_product()?
        }
    };
    if privilege == Privilege::Sudo {
        args.say("lab: network namespaces and XDP need root; asking sudo");
        return machine::elevate(&[OsString::from("--binary"), binary.into_os_string()]);
    }
    let (figures, kept) = prove(args, &binary, anvil.as_deref())?;
    println!("{}", table::render(&figures));
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&figures.json())?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        machine::give_to_invoker(file);
    }
    if let Some(directory) = kept {
        println!("kept: {}", directory.display());
    }
    figures.judge()
}

/// Everything between an idle machine and the figures.
fn prove(args: &Args, binary: &Path, anvil: Option<&Path>) -> Result<(Figures, Option<PathBuf>)> {
    let started = Instant::now();
    let directory = RunDirectory::make(args.keep)?;
    let path = directory.path.clone();
    let keep = args.keep;
    interrupt::clean_up_on_signal(move || {
        if !keep {
            drop(std::fs::remove_dir_all(path));
        }
    })?;
    args.say(&format!(
        "lab: {} challengers, link of {}",
        args.challengers,
        units::show_rate(args.rate)
    ));
    let lab = Lab::up(args.plan())?;
    args.say(&format!(
        "cast: keys, configurations, {} processes",
        args.challengers + 2
    ));
    let mut cast = Cast::prepare(&lab, binary, &directory.path)?;
    if let Some(anvil) = anvil {
        args.say("chain: anvil beside the coordinator, contracts by `plumbline chain deploy`");
        cast.settle_on_anvil(&lab, anvil)?;
    }
    cast.start_all(&lab)?;
    args.say(&format!(
        "proof: {} claimed, {} corrupt at most",
        units::show_rate(args.claim()),
        args.f
    ));
    let bundle = bundle_path(args)?;
    let mut starved = Vec::new();
    let (measured, drops) = loop {
        let before = lab.counters()?;
        let measured = measure(args, &lab, &directory.path, &mut cast, &bundle)?;
        let drops = lab.settle(SETTLE)?.since(&before);
        let Some(reason) = measured.starved().filter(|_| starved.len() + 1 < ATTEMPTS) else {
            break (measured, drops);
        };
        // What is not shown must hold all the same.
        let unaccounted = measured.unaccounted(&drops);
        if unaccounted != 0 {
            bail!("the demo does not hold: {unaccounted} packets are unaccounted for ({reason})");
        }
        args.say(&format!("inconclusive: {reason}"));
        starved.push(reason);
        args.say(&format!(
            "proof: asked again, {} of {ATTEMPTS}",
            starved.len() + 1
        ));
    };
    args.say("verify: the same evidence, offline");
    let verified = verify(&lab, binary, &directory.path, &bundle)?;
    machine::give_to_invoker(&bundle);
    cast.stop_all()?;
    let true_bps = lab.plan().true_ip_bps();
    lab.down()?;
    let took = started.elapsed();
    let figures = Figures::new(
        measured,
        verified,
        &drops,
        true_bps,
        bundle,
        (took, starved),
    );
    Ok((figures, keep.then(|| directory.path.clone())))
}

/// The payer's part, in the coordinator's namespace; its progress is shown as it happens.
fn measure(args: &Args, lab: &Lab, run: &Path, cast: &mut Cast, bundle: &Path) -> Result<Measured> {
    let mut command = cast.payer(lab)?;
    command
        .arg("--faucet")
        .args([
            "--claim",
            &args.claim().to_string(),
            "--f",
            &args.f.to_string(),
        ])
        .args(["--challengers", &args.challengers.to_string()])
        .args(["--duration", &format!("{}ms", args.duration().as_millis())])
        .arg("--bundle")
        .arg(bundle);
    let is_watched = std::io::stderr().is_terminal() && !args.quiet;
    let start = if is_watched {
        Process::start_shown
    } else {
        Process::start
    };
    let mut payer = start("measure", command, run)?;
    let (status, text) = match payer.output(PROOF) {
        Ok(output) => output,
        Err(error) => bail!("{error}\n{}", cast.tails()),
    };
    // 0: passed; 1: measured, and failed or inconclusive. Everything else is no measurement.
    if !matches!(status.code(), Some(0 | 1)) {
        bail!(
            "plumbline measure ended with {status}\n{}\n{}",
            payer.tail(),
            cast.tails()
        );
    }
    Measured::read(&text).context("plumbline measure --json")
}

fn verify(lab: &Lab, binary: &Path, run: &Path, bundle: &Path) -> Result<Verified> {
    let mut command = lab.command(Host::Coordinator, &binary.to_string_lossy());
    command.args(["verify", "--json"]).arg(bundle);
    let mut verifier = Process::start("verify", command, run)?;
    let (status, text) = verifier.output(VERIFY)?;
    if !matches!(status.code(), Some(0 | 1)) {
        bail!("plumbline verify ended with {status}\n{}", verifier.tail());
    }
    Verified::read(&text).context("plumbline verify --json")
}

/// Beside the JSON file, or among what was built.
fn bundle_path(args: &Args) -> Result<PathBuf> {
    let path = match &args.json {
        Some(file) => file.with_extension("bundle"),
        None => cargo::root().join("target/demo.bundle"),
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", path.display()))
        }
        _ => std::path::absolute(&path).context("no current directory"),
    }
}

/// Where a run keeps what its processes write; removed with the run unless it is to be kept.
#[derive(Debug)]
struct RunDirectory {
    path: PathBuf,
    keep: bool,
}

impl RunDirectory {
    fn make(keep: bool) -> Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("plumbline-demo-{}", std::process::id()));
        // Keys are made in it: nobody else may look, and nobody else can have made it.
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, keep })
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        if !self.keep {
            drop(std::fs::remove_dir_all(&self.path));
        }
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

    fn parse(line: &str) -> Args {
        Cli::try_parse_from(line.split(' ')).unwrap().args
    }

    #[test]
    fn the_claim_is_the_rate_and_the_phase_is_long_beside_the_round_trip() {
        let plain = parse("demo");
        assert_eq!(
            (plain.claim(), plain.duration()),
            (1_000_000_000, Duration::from_millis(100))
        );
        assert_eq!(plain.plan().true_ip_bps(), 1_000_000_000);
        let far = parse("demo --rate 300mbit --claim 1gbit --delay 20ms");
        assert_eq!(
            (far.claim(), far.duration()),
            (1_000_000_000, Duration::from_millis(800))
        );
        assert_eq!(
            parse("demo --delay 2500us").duration(),
            Duration::from_millis(100),
            "20 round trips are 100 ms"
        );
        assert_eq!(
            parse("demo --delay 20ms --duration 150ms").duration(),
            Duration::from_millis(150)
        );
    }
}
