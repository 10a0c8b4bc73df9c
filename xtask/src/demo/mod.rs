//! `cargo xtask demo`: one true proof of backhaul, from an empty machine to a verdict.
//!
//! ```text
//!  machine ─► build ─► lab up ─► keys, configs ─► coordinator · prover · challengers, each in its
//!  (install)  (user)   (root)                      namespace ─► measure ─► verify ─► table, JSON
//! ```
//!
//! **Claim:** it ends well only if the proof came to a verdict, every packet has a fate, the chain
//! conserves its money and `plumbline verify` agrees. Losses on the path are the lab's own counters,
//! never what is left over. With `--attack` somebody misbehaves (`attack.rs`), and it ends well only if
//! the named defence held. Tests: the figures in `figures.rs`; the whole is this command.

mod attack;
mod figures;
mod table;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use plumbline_lab::{
    Answer, Cast, Lab, Measured, Pace, Plan, Played, Scene, Shape, Switch, Terms, WirePlan,
};

use crate::machine::{Privilege, Purpose};
use crate::{anvil, cargo, interrupt, machine, units};
pub(crate) use attack::build as build_attacker;
use attack::{Attacked, Attackers};
use figures::Figures;

/// Phase of a measurement unless the delay asks for more: the product's own.
const SHORTEST: Duration = Duration::from_secs(1);

/// No bound credits a round trip, so the phase must hold so many.
const ROUND_TRIPS: u32 = 40;

/// Blocks on top of one that is settled, on a chain with `--block-time`.
const SETTLING_BLOCKS: u32 = 6;

/// Longest from a request to its result: as the product's own default,
const DEADLINE: Duration = Duration::from_secs(60);
/// … and on a slow chain until the request is settled, and so many blocks: heartbeats, draw, set-up and result.
const DEADLINE_BLOCKS: u32 = 18;

/// MTU of the lab, bytes.
const MTU: u16 = 1500;

/// How often the payer asks at most, and only for one reason: on a busy machine the challengers cannot
/// offer their rate, which says nothing about the link. Any other end is shown as it is.
const ATTEMPTS: usize = 3;

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
    /// Duration of the measurement [default: 1s, or 40 round trips if longer].
    #[arg(long, value_parser = units::time)]
    duration: Option<Duration>,
    /// What the proof is settled on: the coordinator's own chain, or an anvil process beside it.
    #[arg(long, value_enum, default_value_t = Engine::Embedded)]
    engine: Engine,
    /// On anvil: seconds from one block to the next, six of which settle one, as on a public chain; a quarter of an
    /// hour at 12 [default: a block for each transaction].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=25))]
    block_time: Option<u32>,
    /// Have somebody misbehave: `rush=1` is an attack and how many commit it; may be repeated. A name that
    /// there is not is answered with all that there are.
    #[arg(long, value_name = "ATTACK")]
    attack: Vec<String>,
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
    /// Use this `plumbline-attack` instead of building it.
    #[arg(long, requires = "attack")]
    attack_binary: Option<PathBuf>,
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
        Plan::backhaul(self.challengers, Shape::ip_layer(self.rate, MTU), wire)
    }

    fn plan_under(&self, attackers: &Attackers) -> Plan {
        let mut plan = self.plan();
        plan.bystander = attackers.need_bystander();
        for switch in &attackers.switches {
            let shape = switch.shape(self.rate, MTU);
            if shape != Shape::ip_layer(self.rate, MTU) {
                plan.down = shape;
            }
        }
        plan
    }

    fn terms(&self) -> Terms {
        Terms {
            claim_bps: self.claim(),
            challengers: self.challengers,
            f: self.f,
            duration: self.duration(),
            deadline: self
                .pace()
                .map(|pace| DEADLINE + pace.time(DEADLINE_BLOCKS)),
            more: Vec::new(),
        }
    }

    fn pace(&self) -> Option<Pace> {
        let block_s = self.block_time?;
        let finality = SETTLING_BLOCKS;
        Some(Pace { block_s, finality })
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
    if args.block_time.is_some() && args.engine != Engine::Anvil {
        bail!(
            "--block-time: allowed with --engine anvil; the embedded chain makes a block for each transaction"
        );
    }
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
    let attack_binary = attack_binary(args)?;
    if privilege == Privilege::Sudo {
        args.say("lab: network namespaces and XDP need root; asking sudo");
        let mut found: Vec<OsString> = vec!["--binary".into(), binary.into_os_string()];
        if let Some(binary) = attack_binary {
            found.extend(["--attack-binary".into(), binary.into_os_string()]);
        }
        return machine::elevate(&found);
    }
    let attackers = Attackers::read(&args.attack, attack_binary.as_deref())?;
    let shown = prove(args, &attackers, &binary, anvil.as_deref())?;
    if let Some(figures) = &shown.figures {
        println!("{}", table::render(figures));
    }
    if !shown.attacked.is_empty() {
        println!("{}", table::attacks(&shown.attacked));
    }
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&shown.json())?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        machine::give_to_invoker(file);
    }
    if let Some(directory) = &shown.kept {
        println!("kept: {}", directory.display());
    }
    shown.judge()
}

/// The program that commits attacks, built if it is needed.
fn attack_binary(args: &Args) -> Result<Option<PathBuf>> {
    if let Some(binary) = &args.attack_binary {
        let found = binary.canonicalize();
        let found = found.with_context(|| format!("--attack-binary {}", binary.display()))?;
        return Ok(Some(found));
    }
    if Attackers::is_path_alone(&args.attack) {
        return Ok(None);
    }
    args.say("build: cargo build --release --package plumbline-attack --features daemon");
    attack::build().map(Some)
}

/// What came of it.
struct Shown {
    figures: Option<Figures>,
    attacked: Vec<Attacked>,
    /// The payer's words, if there is no result.
    refunded: Option<String>,
    kept: Option<PathBuf>,
}

impl Shown {
    fn json(&self) -> serde_json::Value {
        let mut document = match &self.figures {
            Some(figures) => figures.json(),
            None => serde_json::json!({"refunded": self.refunded}),
        };
        if !self.attacked.is_empty() {
            document["attacks"] = serde_json::json!(self.attacked);
        }
        document
    }

    fn judge(&self) -> Result<()> {
        match (&self.figures, &self.refunded) {
            _ if !self.attacked.is_empty() => attack::judge(&self.attacked),
            (Some(figures), _) => figures.judge(),
            (None, words) => bail!(
                "the proof came to no result\n{}",
                words.as_deref().unwrap_or_default()
            ),
        }
    }
}

/// Everything between an idle machine and the figures.
fn prove(args: &Args, attackers: &Attackers, binary: &Path, anvil: Option<&Path>) -> Result<Shown> {
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
    let lab = Lab::up(args.plan_under(attackers))?;
    args.say(&format!(
        "cast: keys, configurations, {} processes",
        args.challengers + 2
    ));
    let mut cast = Cast::prepare(&lab, binary, &directory.path)?;
    if let Some(anvil) = anvil {
        args.say("chain: anvil beside the coordinator, contracts by `plumbline chain deploy`");
        cast.settle_on_anvil(&lab, anvil, args.pace())?;
    }
    let corrupt = attackers.take_over(&lab, &mut cast)?;
    for switch in &attackers.switches {
        args.say(&format!("attack: {}", switch.attack.name));
    }
    cast.start_all(&lab)?;
    let mut culprits = Vec::new();
    for host in corrupt {
        culprits.push(cast.address(host)?);
    }
    args.say(&format!(
        "proof: {} claimed, {} corrupt at most",
        units::show_rate(args.claim()),
        args.f
    ));
    let bundle = bundle_path(args)?;
    let scene = Scene {
        lab: &lab,
        villain: &attackers.villain,
        switches: &attackers.switches,
        cross_bps: None,
        bundle: &bundle,
        run: &directory.path,
        shown: std::io::stderr().is_terminal() && !args.quiet,
    };
    let (played, starved) = ask(args, &scene, &mut cast)?;
    if bundle.exists() {
        machine::give_to_invoker(&bundle);
    }
    cast.stop_all()?;
    let true_bps = lab.plan().true_ip_bps();
    lab.down()?;
    let took = started.elapsed();
    Ok(Shown {
        attacked: attackers.met(&played, &culprits, true_bps),
        figures: Figures::new(&played.proof, true_bps, bundle, (took, starved)),
        refunded: match played.proof.answer {
            Answer::Refunded(words) | Answer::Refused(words) => Some(words),
            Answer::Result(..) => None,
        },
        kept: keep.then(|| directory.path.clone()),
    })
}

/// Asks until the challengers, not only the link, could do their part; why they could not before.
fn ask(args: &Args, scene: &Scene<'_>, cast: &mut Cast) -> Result<(Played, Vec<String>)> {
    let mut starved = Vec::new();
    loop {
        let played = scene.play(cast, &args.terms())?;
        let proof = &played.proof;
        let last = starved.len() + 1 == ATTEMPTS || scene.is_refund_due();
        let reason = proof.measured().and_then(Measured::starved);
        let Some(reason) = reason.filter(|_| !last) else {
            return Ok((played, starved));
        };
        // What is not shown must hold all the same.
        let is_counted = scene.switches.iter().all(Switch::counts_honestly);
        let complaints = if is_counted {
            proof.complaints()
        } else {
            proof.complaints_but_packets()
        };
        if !complaints.is_empty() {
            let complaints = complaints.join("; ");
            bail!("the demo does not hold: {complaints} ({reason})");
        }
        args.say(&format!("inconclusive: {reason}"));
        starved.push(reason);
        args.say(&format!(
            "proof: asked again, {} of {ATTEMPTS}",
            starved.len() + 1
        ));
    }
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
            (1_000_000_000, Duration::from_secs(1))
        );
        assert_eq!(plain.plan().true_ip_bps(), 1_000_000_000);
        let path = |words: &str| Attackers::read(&[words.to_owned()], None).unwrap();
        let bucket = plain.plan_under(&path("token-bucket"));
        assert_eq!(
            (bucket.true_ip_bps(), bucket.bystander),
            (200_000_000, false)
        );
        let cross = plain.plan_under(&path("cross-traffic"));
        assert_eq!((cross.down, cross.bystander), (plain.plan().down, true));
        let far = parse("demo --rate 300mbit --claim 1gbit --delay 20ms");
        assert_eq!(
            (far.claim(), far.duration()),
            (1_000_000_000, Duration::from_millis(1600))
        );
        assert_eq!(
            parse("demo --delay 12500us").duration(),
            Duration::from_secs(1),
            "40 round trips are a second"
        );
        assert_eq!(
            parse("demo --delay 20ms --duration 150ms").duration(),
            Duration::from_millis(150)
        );
    }
}
