//! The command line: what people and scripts see of the appliance.
//!
//! ```text
//!  argv ─► args (clap) ─► execute ─► commands/* ─► Handlers (the appliance) ─► results/*
//!                                        │                                       │
//!  stderr ◄─ progress, logs, failures ───┘             stdout ◄─ table, or one JSON document
//! ```
//!
//! Claim: results go to stdout and nothing else does; with `--json` it is one JSON document; the exit
//! code says how it ended ([`Exit`]). Progress is drawn only where stderr is a terminal, colour only
//! where stdout is one and `NO_COLOR` is unset. This module decides nothing about a measurement: it
//! reads arguments, calls [`Handlers`], and shows what comes back.
//! Tests: here and in each file; the real binary in `appliance/tests/cli.rs`.

pub mod args;
pub mod commands;
mod exit;
mod output;
mod progress;
pub mod results;

use std::path::Path;

use clap::{CommandFactory as _, Parser as _};

pub use args::Cli;
pub use exit::{Exit, Failure};
pub use output::{Show, Style, announce};
pub use progress::{Progress, Silent, Stage, for_terminal};

use crate::chain::DeploymentFile;
use crate::config::{Config, CoordinatorUrl};
use crate::keyfile::Keys;
use args::{AskArgs, Command, DeployArgs, Format, MeasureArgs, PinArgs};
use plumbline_trust::identity::Address;
use results::{
    Balance, ChainReplay, ChainStatus, DeploymentView, DisputeView, Done, Draw, EvidenceView,
    MeasureResult, Participants, PinView, Receipt, RequestView, Submitted, VerifyResult,
};

/// What a bundle is compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Against {
    /// Where the contracts are.
    pub deployment: Option<DeploymentFile>,
    /// A node of their chain.
    pub rpc: Option<String>,
    /// Whose link it must be.
    pub prover: Option<Address>,
}

impl Against {
    /// Whether there is nothing to compare with.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// What the commands need of the appliance. Arguments and keys are checked before any of these is
/// called; each answers with a result to show, or a [`Failure`] with the exit code of its kind.
pub trait Handlers {
    /// Runs the daemon until it is told to stop. Calls [`announce`] once everything is up.
    fn run(&self, config: Config, keys: Keys) -> Result<(), Failure>;
    /// Pays for a measurement and waits for its end; writes the bundle if one is asked for.
    fn measure(
        &self,
        args: &MeasureArgs,
        keys: Keys,
        progress: &dyn Progress,
    ) -> Result<MeasureResult, Failure>;
    /// Judges the bytes of a bundle again, and compares what it is about.
    fn verify(&self, bundle: &[u8], against: &Against) -> Result<VerifyResult, Failure>;
    /// The result of a bundle that holds, in another tool's words.
    fn export(&self, bundle: &[u8], format: Format) -> Result<serde_json::Value, Failure>;
    /// Examines the bytes of evidence.
    fn examine(&self, evidence: &[u8]) -> Result<EvidenceView, Failure>;
    /// Makes evidence of a bundle: the given one, or that which was posted.
    fn dispute_make(
        &self,
        ask: &AskArgs,
        request: &[u8; 32],
        accused: &Address,
        bundle: Option<Vec<u8>>,
        out: &Path,
    ) -> Result<EvidenceView, Failure>;
    /// Brings evidence.
    fn dispute_submit(
        &self,
        ask: &AskArgs,
        keys: Keys,
        evidence: &[u8],
        source: &str,
        told: &(dyn Fn(&str) + Sync),
    ) -> Result<Submitted, Failure>;
    /// One dispute.
    fn dispute_show(&self, ask: &AskArgs, id: &[u8; 32]) -> Result<DisputeView, Failure>;
    /// Votes, if the key's address is a juror.
    fn dispute_judge(&self, ask: &AskArgs, keys: Keys, id: &[u8; 32]) -> Result<Done, Failure>;
    /// Does what is due and anyone may do.
    fn dispute_advance(&self, ask: &AskArgs, keys: Keys, id: &[u8; 32]) -> Result<Done, Failure>;
    /// Changes the stake of the key's address.
    fn stake(&self, ask: &AskArgs, keys: Keys, work: StakeWork) -> Result<Done, Failure>;
    /// Height, totals and contracts of a coordinator's chain.
    fn chain_status(&self, ask: &AskArgs) -> Result<ChainStatus, Failure>;
    /// Everybody registered.
    fn chain_participants(&self, ask: &AskArgs) -> Result<Participants, Failure>;
    /// One request.
    fn chain_request(&self, ask: &AskArgs, id: &[u8; 32]) -> Result<RequestView, Failure>;
    /// Who was drawn for a request, and from what.
    fn chain_draw(&self, ask: &AskArgs, id: &[u8; 32]) -> Result<Draw, Failure>;
    /// What an address has.
    fn chain_balance(&self, ask: &AskArgs, address: &Address) -> Result<Balance, Failure>;
    /// Takes out what is owed to the key's address.
    fn chain_withdraw(&self, ask: &AskArgs, keys: Keys) -> Result<Receipt, Failure>;
    /// Mints lab tokens to the key's address.
    fn chain_faucet(&self, ask: &AskArgs, keys: Keys, amount: u128) -> Result<Receipt, Failure>;
    /// Puts the contracts on a chain.
    fn chain_deploy(&self, args: &DeployArgs, keys: Keys) -> Result<DeploymentView, Failure>;
    /// Writes down which chain and contracts somebody shows.
    fn chain_pin(&self, args: &PinArgs) -> Result<PinView, Failure>;
    /// Re-executes a stored chain from its first block.
    fn chain_verify(&self, directory: &Path) -> Result<ChainReplay, Failure>;
    /// Makes another file of a chain; every block of it is executed again.
    fn chain_copy(
        &self,
        work: &CopyWork<'_>,
        progress: &dyn Progress,
    ) -> Result<ChainReplay, Failure>;
}

/// What becomes of a stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StakeWork {
    /// So many base units more.
    Add(u128),
    /// The participant leaves.
    Leave,
    /// The unbonding delay is over.
    Reclaim,
}

/// Another file of a chain: from what, to where.
#[derive(Clone, Copy, Debug)]
pub enum CopyWork<'a> {
    /// A stopped chain to one file.
    Backup(&'a Path, &'a Path),
    /// A backup to a directory.
    Restore(&'a Path, &'a Path),
    /// A stopped chain's blocks to a file.
    Export(&'a Path, &'a Path),
    /// Exported blocks to a directory.
    Import(&'a Path, &'a Path),
    /// A running chain's blocks to a directory, up to a block.
    Follow(&'a CoordinatorUrl, &'a Path, Option<args::Until>),
}

/// Reads the command line. On a mistake, `--help` or `--version` it prints and leaves with clap's
/// code, which for mistakes is [`Exit::Usage`].
pub fn parse() -> Cli {
    Cli::parse()
}

/// The whole command line as clap knows it, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what the command line says and tells how it ended. Failures are on stderr already.
pub fn execute(cli: Cli, handlers: &impl Handlers) -> Exit {
    let style = Style::of_stdout();
    let done = match cli.command {
        Command::Key(args) => commands::key::execute(&args, style),
        Command::Run(args) => commands::run::execute(&args, handlers),
        Command::Measure(args) => commands::measure::execute(&args, handlers, style),
        Command::Verify(args) => commands::verify::execute(&args, handlers, style),
        Command::Export(args) => commands::verify::export(&args, handlers),
        Command::Chain(args) => commands::chain::execute(args, handlers, style),
        Command::Dispute(args) => commands::dispute::execute(args, handlers, style),
        Command::Stake(args) => commands::dispute::stake(args, handlers, style),
        Command::Man(args) => commands::manual::man(&args),
        Command::Completions(args) => commands::manual::completions(&args),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("plumbline: {failure}");
        failure.exit
    })
}
