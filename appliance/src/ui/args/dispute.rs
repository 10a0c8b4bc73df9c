//! The arguments of `plumbline dispute …` and `plumbline stake …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use plumbline_trust::identity::Address;

use super::{AskArgs, address, request_id};
use crate::config::units::{parse_amount, parse_source};

/// `plumbline dispute`.
#[derive(Debug, Args)]
pub struct DisputeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DisputeCommand,
}

/// Commands about disputes, in the order in which they are needed.
#[derive(Debug, Subcommand)]
pub enum DisputeCommand {
    /// Make a file of evidence from a bundle, and say whether it would convict
    ///
    /// Exit status 1 if it would not.
    Make {
        /// Id of the request, 0x and 64 hexadecimal digits
        #[arg(value_name = "REQUEST", value_parser = request_id)]
        request: [u8; 32],
        /// Settlement address of the accused
        #[arg(long, value_name = "ADDRESS", value_parser = address)]
        accused: Address,
        /// Bundle; without it, the coordinator is asked for the one that was posted
        #[arg(long, value_name = "FILE")]
        bundle: Option<PathBuf>,
        /// File to make; never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Announce and bring evidence, lock bond and jury fees, hand the file to every coordinator
    ///
    /// Evidence that does not hold is refused here, before it costs anything. What is being judged already is only
    /// handed over: again, or by somebody else than its reporter.
    Submit {
        /// Evidence
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where jurors find the file as well, http:// or https://, at most 256 bytes; it stands on the chain
        #[arg(long, value_name = "URL", value_parser = source)]
        source: Option<String>,
        /// Key file of the reporter
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Where a dispute stands: stage, jurors, times, ruling
    Show {
        /// Id of the dispute, 0x and 64 hexadecimal digits
        #[arg(value_name = "ID", value_parser = request_id)]
        id: [u8; 32],
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Vote as a juror: fetch the evidence, verify it, commit; once that time is over, reveal
    ///
    /// The daemon with the role "juror" does this by itself.
    Judge {
        /// Id of the dispute, 0x and 64 hexadecimal digits
        #[arg(value_name = "ID", value_parser = request_id)]
        id: [u8; 32],
        /// Key file of the juror
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Do what is due and anyone may do: draw the jury, settle the case, slash or burn
    Advance {
        /// Id of the dispute, 0x and 64 hexadecimal digits
        #[arg(value_name = "ID", value_parser = request_id)]
        id: [u8; 32],
        /// Key file of whoever sends the transaction
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
}

fn source(text: &str) -> Result<String, String> {
    parse_source(text).map(|_| text.to_owned())
}

/// `plumbline stake`.
#[derive(Debug, Args)]
pub struct StakeArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: StakeCommand,
}

/// Commands about a stake.
#[derive(Debug, Subcommand)]
pub enum StakeCommand {
    /// Add to the stake
    Add {
        /// Base units
        #[arg(value_name = "UNITS", value_parser = parse_amount)]
        amount: u128,
        /// Who stakes.
        #[command(flatten)]
        by: StakerArgs,
    },
    /// Take part in nothing more; after the unbonding delay the stake can be reclaimed
    Leave {
        /// Who leaves.
        #[command(flatten)]
        by: StakerArgs,
    },
    /// After the unbonding delay, make the stake withdrawable (`plumbline chain withdraw`)
    Reclaim {
        /// Who left.
        #[command(flatten)]
        by: StakerArgs,
    },
}

/// Whose stake.
#[derive(Debug, Args)]
pub struct StakerArgs {
    /// Key file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Whom to ask.
    #[command(flatten)]
    pub ask: AskArgs,
}
