//! The arguments of every command, as clap reads them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use plumbline_trust::identity::Address;

use plumbline_contracts::Parameters;

use super::exit::Failure;
use crate::chain::finality::{DEPTH_MAX, FINALIZED, Finality};
use crate::config::units::{self, parse_amount, parse_duration};
use crate::config::{CoordinatorUrl, Rate};

/// Most challengers of one request; the contract refuses more.
const CHALLENGERS_MAX: u16 = 64;
/// Shortest and longest phase; the contract refuses others.
const DURATION_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// Verifiable network measurement: claims about a link that people who do not trust its owner can
/// check.
#[derive(Debug, Parser)]
#[command(
    name = "plumbline",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make or show a key file
    Key(KeyArgs),
    /// Run the roles of a configuration file until told to stop
    ///
    /// Logs go to stderr. When everything is up, one line of JSON appears on stdout. SIGTERM and
    /// SIGINT stop it in order.
    Run(RunArgs),
    /// Pay for a proof of backhaul and wait for its verdict
    Measure(MeasureArgs),
    /// Judge a bundle again, or examine evidence of a dispute, offline
    Verify(VerifyArgs),
    /// Write a verified bundle's result in the words of other tools
    Export(ExportArgs),
    /// Ask or use a coordinator's chain, or re-execute a stored one
    Chain(ChainArgs),
    /// Bring evidence against a participant, and follow what comes of it
    Dispute(DisputeArgs),
    /// Add to a stake, or get it back
    Stake(StakeArgs),
    /// Write man pages of all commands into a directory
    Man(ManArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
}

/// How a result is written.
#[derive(Clone, Copy, Debug, Args)]
pub struct OutputArgs {
    /// Write one JSON document to stdout
    #[arg(long)]
    pub json: bool,
}

/// `plumbline key`.
#[derive(Debug, Args)]
pub struct KeyArgs {
    /// What to do with the key file.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// Commands about key files.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make two fresh keys in a new file that only you can read
    New {
        /// File to make; never overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show the public halves of a key file
    Show {
        /// Key file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// How to write the result.
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// `plumbline run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file; configs/default.toml explains every key
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the configuration and its key file, print ok, and start nothing
    #[arg(long)]
    pub check: bool,
}

/// `plumbline measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// Coordinator's API, http://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub coordinator: CoordinatorUrl,
    /// Key file of the payer
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Settlement address of the prover, 0x and 40 hexadecimal digits
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub prover: Address,
    /// Claimed rate at the IP layer: 100mbit, 1gbit, 1.5gbit, or bit/s
    #[arg(long, value_name = "RATE", value_parser = claim)]
    pub claim: Rate,
    /// Challengers to draw, at least 3f+1 and at most 64
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub challengers: u16,
    /// Challengers that may be corrupt
    #[arg(long, value_name = "F", default_value_t = 1)]
    pub f: u16,
    /// Nominal duration of the measurement, 10ms to 10s
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    pub duration: Duration,
    /// Price of a byte, in base units of the token
    #[arg(long, value_name = "UNITS", default_value = "1000", value_parser = parse_amount)]
    pub price: u128,
    /// When the request ends, finished or not, counted from now
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    pub deadline: Duration,
    /// Save the evidence to this file
    #[arg(long, value_name = "FILE")]
    pub bundle: Option<PathBuf>,
    /// Mint the tokens first (lab token only)
    #[arg(long)]
    pub faucet: bool,
    /// How to write the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl MeasureArgs {
    /// What one argument alone cannot say: refused here, before anything is paid.
    ///
    /// # Errors
    /// [`Failure::usage`] with every mistake, a line each.
    pub fn check(&self) -> Result<(), Failure> {
        let mut mistakes = Vec::new();
        let needed = 3 * u32::from(self.f) + 1;
        if u32::from(self.challengers) < needed || self.challengers > CHALLENGERS_MAX {
            mistakes.push(format!(
                "--challengers {} with --f {}: allowed: from 3f+1 = {needed} to {CHALLENGERS_MAX}",
                self.challengers, self.f
            ));
        }
        let (min, max) = DURATION_BOUNDS;
        let words = units::format_duration;
        if self.duration < min || self.duration > max {
            mistakes.push(format!(
                "--duration {}: allowed: from {} to {}",
                words(self.duration),
                words(min),
                words(max)
            ));
        }
        // The chain counts deadlines in seconds.
        if self.deadline.as_secs() == 0 || self.deadline <= self.duration {
            let (deadline, duration) = (words(self.deadline), words(self.duration));
            mistakes.push(format!("--deadline {deadline}: allowed: at least 1s and longer than --duration ({duration})"));
        }
        if let Some(bundle) = &self.bundle {
            let parent = bundle.parent().filter(|p| !p.as_os_str().is_empty());
            if bundle.is_dir() || parent.is_some_and(|p| !p.is_dir()) {
                mistakes.push(format!(
                    "--bundle {}: allowed: a file in an existing directory",
                    bundle.display()
                ));
            }
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(Failure::usage(mistakes.join("\n           ")))
        }
    }
}

/// `plumbline verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Bundle saved by `plumbline measure --bundle`, or evidence made by `plumbline dispute make`
    #[arg(value_name = "FILE")]
    pub bundle: PathBuf,
    /// How to write the result.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Whose words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// RFC 9097 metrics by the names of Broadband Forum TR-471 and TR-181, rates in Mbit/s
    Tr471,
    /// As iperf3 prints a UDP test with --json
    Iperf3,
}

/// `plumbline export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Bundle saved by `plumbline measure --bundle`
    #[arg(value_name = "BUNDLE")]
    pub bundle: PathBuf,
    /// Whose words
    #[arg(long, value_enum)]
    pub format: Format,
}

/// `plumbline chain`.
#[derive(Debug, Args)]
pub struct ChainArgs {
    /// What to ask or do.
    #[command(subcommand)]
    pub command: ChainCommand,
}

/// A coordinator to ask, and how to write its answer.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Coordinator's API, http://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub coordinator: CoordinatorUrl,
    /// How to write the result.
    #[command(flatten)]
    pub output: OutputArgs,
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
    /// Who was drawn for a request or a jury, from whom and by which scores, drawn again here
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
        /// Coordinator's API, http://HOST:PORT
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
    /// Announce and bring evidence, lock bond and jury fees, hand the file to the coordinator
    ///
    /// Evidence that does not hold is refused here, before it costs anything.
    Submit {
        /// Evidence
        #[arg(value_name = "FILE")]
        file: PathBuf,
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

/// `plumbline man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory to write to; made if it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `plumbline completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

fn address(text: &str) -> Result<Address, String> {
    if !text.starts_with("0x") {
        return Err("expected 0x and 40 hexadecimal digits".into());
    }
    text.parse()
}

fn finality(text: &str) -> Result<Finality, String> {
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

fn claim(text: &str) -> Result<Rate, String> {
    match text.parse()? {
        Rate(0) => Err(format!(
            "a claim of 0 says nothing; allowed: a rate above 0 ({})",
            units::RATE_FORMS
        )),
        rate => Ok(rate),
    }
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

fn request_id(text: &str) -> Result<[u8; 32], String> {
    let mut id = [0; 32];
    let digits = text
        .strip_prefix("0x")
        .ok_or("expected 0x and 64 hexadecimal digits")?;
    hex::decode_to_slice(digits, &mut id)
        .map_err(|e| format!("expected 0x and 64 hexadecimal digits: {e}"))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    const ADDRESS: &str = "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266";

    fn measure(more: &[&str]) -> Result<MeasureArgs, String> {
        let base = [
            "plumbline",
            "measure",
            "--coordinator",
            "http://10.77.0.2:7300",
            "--key",
            "k",
            "--prover",
            ADDRESS,
        ];
        let claim: &[&str] = if more.contains(&"--claim") {
            &[]
        } else {
            &["--claim", "1gbit"]
        };
        let all = base.iter().chain(claim).chain(more);
        match Cli::try_parse_from(all).map_err(|e| e.to_string())?.command {
            Command::Measure(args) => Ok(args),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn clap_finds_no_fault() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let args = measure(&[]).unwrap();
        assert_eq!(
            (args.challengers, args.f, args.price, args.faucet),
            (5, 1, 1000, false)
        );
        assert_eq!(
            (args.duration.as_millis(), args.deadline.as_secs()),
            (100, 60)
        );
        assert!(args.bundle.is_none() && !args.output.json);
        assert!(args.check().is_ok());
    }

    #[test]
    fn both_sides_of_what_arguments_allow_together() {
        let ok = |more: &[&str]| measure(more).unwrap().check().is_ok();
        assert!(
            ok(&["--challengers", "4", "--f", "1"]) && !ok(&["--challengers", "3", "--f", "1"])
        );
        assert!(
            ok(&["--challengers", "64", "--f", "21"]) && !ok(&["--challengers", "65", "--f", "21"])
        );
        assert!(
            ok(&["--challengers", "1", "--f", "0"]) && !ok(&["--challengers", "0", "--f", "0"])
        );
        assert!(!ok(&["--challengers", "64", "--f", "65535"]));
        assert!(ok(&["--duration", "10ms"]) && !ok(&["--duration", "9ms"]));
        assert!(ok(&["--duration", "10s"]) && !ok(&["--duration", "10001ms"]));
        assert!(ok(&["--deadline", "1s"]) && !ok(&["--deadline", "999ms"]));
        assert!(!ok(&["--deadline", "5s", "--duration", "5s"]));
        assert!(ok(&["--bundle", "here.bundle"]) && !ok(&["--bundle", "/no/such/directory/x"]));
        let words = measure(&["--f", "2", "--duration", "1h"])
            .unwrap()
            .check()
            .unwrap_err()
            .to_string();
        assert!(
            words.contains("from 3f+1 = 7 to 64") && words.contains("--duration 1h"),
            "{words}"
        );
    }

    #[test]
    fn bad_values_say_what_is_allowed() {
        let refused = |more: &[&str]| measure(more).unwrap_err();
        assert!(refused(&["--claim", "0"]).contains("a claim of 0"));
        assert!(refused(&["--claim", "fast"]).contains("100mbit, 1gbit"));
        assert!(refused(&["--duration", "5"]).contains("100ms, 2s"));
        assert!(
            refused(&["--price", "-1"]).contains("unexpected argument")
                || refused(&["--price=-1"]).contains("decimal")
        );
        let odd = [
            "plumbline",
            "chain",
            "balance",
            "f39f",
            "--coordinator",
            "http://a:1",
        ];
        assert!(
            Cli::try_parse_from(odd)
                .unwrap_err()
                .to_string()
                .contains("40 hexadecimal digits")
        );
        let odd = [
            "plumbline",
            "chain",
            "draw",
            "0x12",
            "--coordinator",
            "http://a:1",
        ];
        assert!(
            Cli::try_parse_from(odd)
                .unwrap_err()
                .to_string()
                .contains("64 hexadecimal digits")
        );
        let odd = [
            "plumbline",
            "chain",
            "status",
            "--coordinator",
            "https://a:1",
        ];
        assert!(
            Cli::try_parse_from(odd)
                .unwrap_err()
                .to_string()
                .contains("does not begin with http://")
        );
    }
}
