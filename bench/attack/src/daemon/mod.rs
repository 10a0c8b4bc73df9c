//! The command line, and which conduct a switch is.

mod challenger;
mod coordinator;
mod money;
mod outsider;
mod prover;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use plumbline::config::{Config, Role};
use plumbline::keyfile::Keys;
use plumbline::role::conduct::Conduct;
use plumbline::topology;
use plumbline_attack::switch::{Attack, Switch};
use plumbline_trust::NetworkKey;
use serde_json::json;

/// The product's own roles, misbehaving in one named way.
#[derive(Debug, clap::Parser)]
#[command(name = "plumbline-attack", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Which attacks there are, who commits them, and what they meet.
    List {
        /// For machines.
        #[arg(long)]
        json: bool,
    },
    /// `plumbline run`, misbehaving.
    Run(Run),
    /// A payer that tries to take its request back in every state.
    PayerWithdraws(money::Withdraws),
    /// A coordinator that posts a result, and asks for its payment, twice.
    SecondPayout(money::Twice),
    /// Packets in a challenger's name, with a tag that is made up.
    Injection(outsider::Sends),
    /// Packets from an address that nobody consented to.
    SpoofedSource(outsider::Sends),
    /// As many packets in a challenger's name as it has consent for, before it begins.
    SpentConsent(outsider::Sends),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// Configuration file, as of `plumbline run`.
    #[arg(long)]
    config: PathBuf,
    /// What it does, such as `rush=2`.
    #[arg(long)]
    attack: Switch,
    /// Key file of a challenger that works for this prover.
    #[arg(long, value_name = "FILE")]
    accomplice: Vec<PathBuf>,
}

/// Does it; what went wrong is said on stderr.
pub(crate) fn main(cli: &Cli) -> ExitCode {
    let done = match &cli.act {
        Act::List { json } => {
            list(*json);
            Ok(())
        }
        Act::Run(run) => return self::run(run),
        Act::PayerWithdraws(args) => money::withdraws(args),
        Act::SecondPayout(args) => money::twice(args),
        Act::Injection(args) => outsider::send(args, Attack::Injection),
        Act::SpoofedSource(args) => outsider::send(args, Attack::SpoofedSource),
        Act::SpentConsent(args) => outsider::send(args, Attack::SpentConsent),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list(as_json: bool) {
    let all: Vec<_> = Attack::ALL
        .into_iter()
        .map(|a| json!({"name": a.name(), "culprit": a.culprit(), "outcome": a.outcome(), "defence": a.defence()}))
        .collect();
    if as_json {
        println!("{:#}", json!(all));
        return;
    }
    for attack in Attack::ALL {
        println!("{:<20} {}", attack.name(), attack.defence());
    }
}

fn run(args: &Run) -> ExitCode {
    let prepared = prepare(args);
    let (config, keys, conduct) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(config.log.directive()))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    tracing::warn!(attack = %args.attack, "this process misbehaves on purpose");
    match topology::run_as(&config, keys, conduct) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn prepare(args: &Run) -> Result<(Config, Keys, Arc<dyn Conduct>)> {
    let config = Config::load(&args.config)?;
    let keys = Keys::load(&config.key)?;
    let accomplices: Vec<Arc<NetworkKey>> = args
        .accomplice
        .iter()
        .map(|file| Keys::load(file).map(|keys| keys.network.clone()))
        .collect::<Result<_, _>>()
        .context("--accomplice")?;
    let attack = args.attack.attack;
    let node = config.node.as_ref();
    let conduct: Option<Arc<dyn Conduct>> = if config.roles.has(Role::Challenger) {
        let theirs =
            node.and_then(|node| challenger::conduct(attack, &node.coordinator, &keys.network));
        theirs.map(|c| Arc::new(c) as Arc<dyn Conduct>)
    } else if config.roles.has(Role::Prover) {
        prover::conduct(attack, accomplices).map(|c| Arc::new(c) as Arc<dyn Conduct>)
    } else if config.roles.has(Role::Coordinator) {
        coordinator::conduct(attack).map(|c| Arc::new(c) as Arc<dyn Conduct>)
    } else {
        None
    };
    let Some(conduct) = conduct else {
        bail!(
            "{attack} is not an attack that a {} commits; `plumbline-attack list` says whose each is",
            config
                .roles
                .iter()
                .map(|r| r.name())
                .collect::<Vec<_>>()
                .join(" or ")
        );
    };
    Ok((config, keys, conduct))
}
