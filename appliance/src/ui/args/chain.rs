//! The arguments of `plumbline chain …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use plumbline_contracts::Parameters;
use plumbline_trust::identity::Address;

use super::{AskArgs, OutputArgs, address, request_id};
use crate::chain::finality::{DEPTH_MAX, FINALIZED, Finality};
use crate::config::CoordinatorUrl;
use crate::config::units::{parse_amount, parse_duration};
use crate::ui::exit::Failure;

/// `plumbline chain`.
#[derive(Debug, Args)]
pub struct ChainArgs {
    /// What to ask or do.
    #[command(subcommand)]
    pub command: ChainCommand,
}

/// Commands about the chain.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// Height, sums and contracts
    Status {
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Everybody registered
    Participants {
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// One request and its state
    Request {
        /// Id of the request, 0x and 64 hexadecimal digits
        #[arg(value_name = "ID", value_parser = request_id)]
        id: [u8; 32],
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Who was drawn for a request or a jury: each place that was looked at and why, drawn again here
    Draw {
        /// Id of the request or of the jury's case, 0x and 64 hexadecimal digits
        #[arg(value_name = "ID", value_parser = request_id)]
        id: [u8; 32],
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Tokens of an address: held, staked, owed
    Balance {
        /// Settlement address, 0x and 40 hexadecimal digits
        #[arg(value_name = "ADDRESS", value_parser = address)]
        address: Address,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Take out what is owed to a key's address
    Withdraw {
        /// Key file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Mint lab tokens to a key's address
    Faucet {
        /// Key file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Base units to mint
        #[arg(long, value_name = "UNITS", value_parser = parse_amount)]
        amount: u128,
        /// Whom to ask.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Put the contracts on a chain, through one of its nodes
    ///
    /// Makes new ones each time: contracts never change. The key's address pays for gas and owns the
    /// vault.
    Deploy(DeployArgs),
    /// Write down which chain and contracts somebody shows, for --deployment and node.deployment
    ///
    /// Who shows them may lie: compare the fingerprint by another way than the network.
    Pin(PinArgs),
    /// Re-execute a stored or exported chain from its first block and compare every root
    Verify {
        /// Directory of the chain (a coordinator's state_dir), a backup, or an export
        #[arg(value_name = "PATH")]
        directory: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Copy a stopped chain to one file, and verify the copy; of a running one, follow it
    Backup {
        /// Directory of the chain: a coordinator's state_dir
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// File to make; never overwritten
        #[arg(value_name = "OUT")]
        out: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Verify a backup, then make a chain's directory of it; never overwrites a chain
    ///
    /// Blocks made after the backup are lost, and a coordinator that goes on from there signs a second
    /// history: whoever followed the first has its signatures. A follower's directory is newer: use that.
    Restore {
        /// Backup
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// Directory of the chain to make: `chain` in a coordinator's state_dir
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Write the blocks of a stopped chain to a file that any version can execute again
    Export {
        /// Directory of the chain: a coordinator's state_dir
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// File to make; never overwritten
        #[arg(value_name = "OUT")]
        out: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Make a chain's directory from an export, executing every block again
    Import {
        /// Export
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// Directory of the chain to make
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Keep a copy of a running chain: fetch its blocks, execute them again, compare every root
    ///
    /// Goes on where the copy ends. A coordinator that shows another history than before is caught by its
    /// own signatures: the evidence is written to equivocation.borsh in DIR.
    Follow {
        /// Coordinator's API, https://HOST:PORT#sha256=HEX as it prints it, or http://HOST:PORT
        #[arg(value_name = "URL")]
        coordinator: CoordinatorUrl,
        /// Directory of the copy
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Block to stop at, or "latest"; without it, goes on until stopped
        #[arg(long, value_name = "HEIGHT|latest", value_parser = until)]
        until: Option<Until>,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Where following ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// At this block.
    Height(u64),
    /// At the block that is the newest when asked.
    Latest,
}

/// `plumbline chain pin`.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = true, args = ["url", "rpc"])]
pub struct PinArgs {
    /// Coordinator's API, https://HOST:PORT#sha256=HEX as it prints it, or http://HOST:PORT: it says where the contracts are
    #[arg(long, value_name = "URL")]
    pub url: Option<CoordinatorUrl>,
    /// A node of the chain, read instead of the coordinator; may be repeated
    #[arg(long, value_name = "URL")]
    pub rpc: Vec<String>,
    /// Where the contracts are, of a chain that does not say: a file of `plumbline chain deploy`
    #[arg(long, value_name = "FILE", requires = "rpc", conflicts_with = "url")]
    pub deployment: Option<PathBuf>,
    /// File to write; never overwritten
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How to write the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `plumbline chain deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// A node of the chain, http://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub rpc: String,
    /// Key file of who deploys
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Write where the contracts are to this file, for chain.deployment; never overwritten
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The ERC-20 that stakes and escrows are in: no fee on transfers, no balances that change by themselves.
    /// Without it a lab token is made, which anyone can mint
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub token: Option<Address>,
    /// When the deployment counts as settled: finalized, or how many blocks must lie on top
    #[arg(long, value_name = "WHEN", default_value = "finalized", value_parser = finality)]
    pub finality: Finality,
    /// Least stake of a participant, base units
    #[arg(long, value_name = "UNITS", default_value = "1000", value_parser = parse_amount)]
    pub min_stake: u128,
    /// Between leaving and getting the stake back, whole seconds
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = whole_seconds)]
    pub unbonding: Duration,
    /// How long one heartbeat keeps a node in the live pool, whole seconds
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = whole_seconds)]
    pub live_interval: Duration,
    /// Flat fee of the coordinator a request, base units
    #[arg(long, value_name = "UNITS", default_value = "1000", value_parser = parse_amount)]
    pub coordinator_fee: u128,
    /// Between a report and its settlement, whole seconds
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = whole_seconds)]
    pub dispute_window: Duration,
    /// Any other chain variable, by its name on the chain, such as jury_size=3; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = variable)]
    pub set: Vec<(String, u128)>,
    /// How to write the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl DeployArgs {
    /// The chain variables asked for.
    ///
    /// # Errors
    /// [`Failure::usage`] if there is none of a name, or it cannot have such a value.
    pub fn parameters(&self) -> Result<Parameters, Failure> {
        let mut parameters = self.named();
        for (name, value) in &self.set {
            parameters
                .set(name, *value)
                .map_err(|why| Failure::usage(format!("--set {name}={value}: {why}")))?;
        }
        Ok(parameters)
    }

    fn named(&self) -> Parameters {
        Parameters {
            min_stake: self.min_stake,
            unbonding_s: self.unbonding.as_secs(),
            live_interval_s: self.live_interval.as_secs(),
            coordinator_fee: self.coordinator_fee,
            dispute_window_s: self.dispute_window.as_secs(),
            ..Parameters::default()
        }
    }
}

pub(super) fn finality(text: &str) -> Result<Finality, String> {
    let depth = text.parse().ok().filter(|depth| *depth <= DEPTH_MAX);
    match depth {
        Some(depth) => Ok(Finality::Depth(depth)),
        None if text == FINALIZED => Ok(Finality::Finalized),
        None => Err(format!(
            "expected {FINALIZED}, or a number of blocks from 0 to {DEPTH_MAX}"
        )),
    }
}

fn variable(text: &str) -> Result<(String, u128), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, such as jury_size=3")?;
    Ok((name.to_owned(), parse_amount(value)?))
}

/// The contracts count in seconds.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() || time.subsec_nanos() != 0 {
        return Err("expected whole seconds, 1s at least".into());
    }
    Ok(time)
}

fn until(text: &str) -> Result<Until, String> {
    match text {
        "latest" => Ok(Until::Latest),
        number => number
            .parse()
            .map(Until::Height)
            .map_err(|_| "allowed: latest, or the number of a block".to_owned()),
    }
}
