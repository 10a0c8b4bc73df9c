//! The arguments of every command, as clap reads them.

mod chain;
mod dispute;
mod view;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use plumbline_proof::backhaul::params::{Direction, Terms};
use plumbline_trust::identity::Address;

pub use self::chain::{ChainArgs, ChainCommand, DeployArgs, PinArgs, Until};
pub use self::dispute::{DisputeArgs, DisputeCommand, StakeArgs, StakeCommand, StakerArgs};
pub use self::view::ViewArgs;
use super::exit::Failure;
use crate::config::units::{self, Bytes, parse_amount, parse_duration};
use crate::config::{CoordinatorUrl, Rate};

/// Most challengers of one request; the contract refuses more.
const CHALLENGERS_MAX: u16 = 64;
/// Shortest and longest phase; the contract refuses others.
const DURATION_BOUNDS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));

/// Milliseconds, times the claim in bit/s, over a byte of a bucket, that let it add 2 % of the claim at most:
/// 8 · 1000 / 0.02.
const SUSTAINED: u128 = 8 * 1000 * 100 / 2;
/// Shortest phase of a sustained measurement, ms.
const SUSTAINED_MS: u128 = 1000;

/// What a maximum packet length is.
const MTU_FORMS: &str = "allowed: 1436 to 65535, usually 1500 or 9000";

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
    /// Coordinator's API, https://HOST:PORT#sha256=HEX as it prints it, or http://HOST:PORT
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
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Measure so long that a bucket in the line adds 2 % of the claim at most
    ///
    /// Takes 400 s · bucket in bytes / claim in bit/s, at least 1s: says what that costs, and asks.
    #[arg(long, conflicts_with = "duration")]
    pub sustained: bool,
    /// Bucket that the line may have, for --sustained: 16mb, 1.5gb, or bytes
    #[arg(
        long,
        value_name = "BYTES",
        default_value = "16mb",
        requires = "sustained"
    )]
    pub burst: Bytes,
    /// Do not ask before a --sustained measurement
    #[arg(long, requires = "sustained")]
    pub yes: bool,
    /// Which way the measured traffic flows, seen from the prover
    #[arg(long, value_enum, default_value = "down")]
    pub direction: Way,
    /// Largest IP packet that passes the whole path, bytes: 1500, or 9000 with jumbo frames
    ///
    /// Packets are as long as fits: of 1436, 1500 or 8988 bytes over IPv4, of 1456, 1520 or 9008 over
    /// IPv6, whichever the prover's address is of. Without it, 1500.
    #[arg(long, value_name = "BYTES", value_parser = mtu)]
    pub mtu: Option<u16>,
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
    /// How the chain is seen.
    #[command(flatten)]
    pub view: ViewArgs,
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
        let duration = self.duration();
        if self.sustained && duration > max {
            let most = max.as_millis();
            mistakes.push(format!(
                "--sustained with --burst {} and --claim {} takes {}: allowed: at most {}, so a claim of at least {} or a burst of at most {}",
                self.burst,
                self.claim,
                words(duration),
                words(max),
                Rate(narrow((SUSTAINED * u128::from(self.burst.0)).div_ceil(most))),
                Bytes(narrow(most * u128::from(self.claim.0) / SUSTAINED)),
            ));
        } else if duration < min || duration > max {
            mistakes.push(format!(
                "--duration {}: allowed: from {} to {}",
                words(duration),
                words(min),
                words(max)
            ));
        }
        // The chain counts deadlines in seconds.
        if self.deadline.as_secs() == 0 || self.deadline <= duration {
            let (deadline, duration) = (words(self.deadline), words(duration));
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

    /// How long the phase is: as said, or so long that the bucket adds 2 % of the claim at most.
    pub fn duration(&self) -> Duration {
        if !self.sustained {
            return self.duration;
        }
        let ms = (SUSTAINED * u128::from(self.burst.0)).div_ceil(u128::from(self.claim.0).max(1));
        Duration::from_millis(narrow(ms.max(SUSTAINED_MS)))
    }

    /// What is measured; whether it can be is for [`Terms::check`] to say.
    pub fn terms(&self) -> Terms {
        let duration_ms = u32::try_from(self.duration().as_millis()).unwrap_or(u32::MAX);
        Terms {
            direction: self.direction.into(),
            ..Terms::downlink(self.claim.0, self.challengers, self.f, duration_ms)
        }
    }

    /// What a measurement takes at most: bytes that are paid, and bytes on the line.
    pub fn cost(&self) -> String {
        let terms = self.terms();
        let each = u64::from(terms.packet_bytes);
        let payees = match terms.direction {
            Direction::Down => terms.honest(),
            Direction::Up => terms.n.into(),
        };
        let paid = u128::from(payees) * u128::from(terms.per_challenger()) * u128::from(each);
        let sent = u128::from(terms.n) * u128::from(terms.cap_packets()) * u128::from(each);
        format!(
            "a phase of {} in which {} MB are paid for, {} base units at {} a byte; if the line is slow, up to {} MB are sent",
            units::format_duration(self.duration()),
            paid.div_ceil(1_000_000),
            paid.saturating_mul(self.price),
            self.price,
            sent.div_ceil(1_000_000)
        )
    }
}

fn narrow(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Which way the measured traffic flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Towards the prover: challengers send
    Down,
    /// Away from it: the prover sends
    Up,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Down => Self::Down,
            Way::Up => Self::Up,
        }
    }
}

/// `plumbline verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Bundle saved by `plumbline measure --bundle`, or evidence made by `plumbline dispute make`
    #[arg(value_name = "FILE")]
    pub bundle: PathBuf,
    /// Where the contracts are, from somebody you trust: a file of `plumbline chain pin --out` or `plumbline
    /// chain deploy --out`; chain id and contract of the bundle must be these
    #[arg(long, value_name = "FILE")]
    pub deployment: Option<PathBuf>,
    /// A node of that chain, or a coordinator's /rpc: request, draw, set-up and result of the bundle must be the chain's
    #[arg(long, value_name = "URL", requires = "deployment")]
    pub rpc: Option<String>,
    /// Whose link the bundle must be about: the prover's settlement address
    #[arg(long, value_name = "ADDRESS")]
    pub expect_prover: Option<Address>,
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

/// A coordinator to ask, and how to write its answer.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Coordinator's API, https://HOST:PORT#sha256=HEX as it prints it, or http://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub coordinator: CoordinatorUrl,
    /// How the chain is seen.
    #[command(flatten)]
    pub view: ViewArgs,
    /// How to write the result.
    #[command(flatten)]
    pub output: OutputArgs,
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

fn mtu(text: &str) -> Result<u16, String> {
    let bytes = text.parse().map_err(|e| format!("{e}; {MTU_FORMS}"))?;
    // What fits then depends on the family of the prover's address.
    let fits = [false, true].iter().any(|ipv6| {
        let terms = Terms::downlink(1, 1, 0, 10);
        terms.of_mtu(bytes, *ipv6).is_some()
    });
    fits.then_some(bytes)
        .ok_or_else(|| format!("{bytes} bytes are too few; {MTU_FORMS}"))
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
            (1000, 60)
        );
        assert!(args.bundle.is_none() && !args.output.json);
        assert_eq!((args.direction, args.mtu), (Way::Down, None));
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
        let deadline = |at| ok(&["--deadline", at, "--duration", "50ms"]);
        assert!(deadline("1s") && !deadline("999ms"));
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
    fn a_sustained_measurement_is_as_long_as_its_bucket_asks_for() {
        let asked = |more: &str| measure(&more.split(' ').collect::<Vec<_>>());
        let took = |more: &str| asked(more).unwrap().duration().as_millis();
        // 8 · 16 MB in 6.4 s are 20 Mbit/s, 2 % of the claim; in a second at least.
        assert_eq!(took("--sustained"), 6_400);
        assert_eq!(took("--sustained --claim 100mbit --burst 250001"), 1_001);
        assert_eq!(took("--sustained --claim 10gbit --burst 16mb"), 1_000);
        assert_eq!(took("--duration 50ms"), 50);
        let longest = "--sustained --claim 640mbit";
        assert!(took(longest) == 10_000 && asked(longest).unwrap().check().is_ok());
        let words = asked("--sustained --claim 100mbit").unwrap().check();
        let words = words.unwrap_err().to_string();
        for part in ["takes 64s", "at least 640mbit", "at most 2500kb"] {
            assert!(words.contains(part), "{part:?} is not in {words}");
        }
        for wrong in ["--sustained --duration 1s", "--burst 1mb", "--yes"] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
        // 10^9 · 6.4 / 12,000 packets of 1500 bytes are 800 MB; all five send 1.15 of a quarter four times.
        let cost = asked("--sustained --price 3").unwrap().cost();
        for part in [
            "6400ms",
            "801 MB",
            "2400012000",
            "at 3 a byte",
            "up to 4601 MB",
        ] {
            assert!(cost.contains(part), "{part:?} is not in {cost}");
        }
    }

    #[test]
    fn bad_values_say_what_is_allowed() {
        let refused = |more: &[&str]| measure(more).unwrap_err();
        assert!(refused(&["--claim", "0"]).contains("a claim of 0"));
        assert!(refused(&["--direction", "left"]).contains("down, up"));
        assert_eq!(measure(&["--direction", "up"]).unwrap().direction, Way::Up);
        for bad in ["1435", "65536", "jumbo"] {
            assert!(refused(&["--mtu", bad]).contains("1436 to 65535"), "{bad}");
        }
        assert_eq!(measure(&["--mtu", "1436"]).unwrap().mtu, Some(1436));
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
        let odd = ["plumbline", "chain", "status", "--coordinator", "wss://a:1"];
        assert!(
            Cli::try_parse_from(odd)
                .unwrap_err()
                .to_string()
                .contains("does not begin with https:// or http://")
        );
    }
}
