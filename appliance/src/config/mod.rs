//! Configuration: one TOML file a process, parsed once into values that cannot be wrong.
//!
//! ```text
//!  prover.toml ─► toml (spans) ─► reader ──► rules ──► Config ─► main, roles
//!                                   │          │
//!                                   └─ keys ───┴─► every Mistake at once: file, line, key, value, allowed
//! ```
//!
//! Claim: a [`Config`] that exists is complete for its roles, within bounds and free of contradictions,
//! so nobody re-checks it. Relative paths in it are already resolved against the file's directory.
//! Not promised: that an interface exists, an address is ours or a port is free; whoever opens them
//! says so. `configs/default.toml` names every key with its default, and a test holds it to that.
//! Tests: `tests.rs` here, and `appliance/tests/cli.rs` for what a user sees.

mod mistake;
mod reader;
mod rules;
mod schema;
pub mod units;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use plumbline_contracts::Parameters;
use serde::{Deserialize, Serialize};

use crate::chain::Finality;
use crate::chain::caller::Quota;
use crate::role::coordinator::Terms;
use crate::tls;

pub use mistake::{ConfigErrors, Mistake};
pub use reader::KnownKey;
pub use units::{Bytes, Rate};

use reader::Reader;
use schema::read;

/// What a coordinator's URL may look like, for messages.
const URL_FORMS: &str = "https://HOST:PORT#sha256=HEX (the certificate's hash, as the coordinator prints it), https://HOST:PORT if an authority certifies it, or http://HOST:PORT, without a path";
/// Largest file read. A thousand times what a configuration needs, and no way to fill memory.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Draws challengers, collects, computes and posts; hosts the embedded chain and the HTTP API.
    Coordinator,
    /// Has the measured link.
    Prover,
    /// Sends the measured packets.
    Challenger,
    /// Judges evidence that the EVM cannot.
    Juror,
}

impl Role {
    /// Every role, in the order they are listed to people.
    pub const ALL: [Self; 4] = [
        Self::Coordinator,
        Self::Prover,
        Self::Challenger,
        Self::Juror,
    ];

    /// Its name in the configuration, in metrics and on the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Prover => "prover",
            Self::Challenger => "challenger",
            Self::Juror => "juror",
        }
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Adds a role; `false` when it was there.
    pub fn insert(&mut self, role: Role) -> bool {
        let bit = 1 << role as u8;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Whether `role` is among them.
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Whether any of them is a node of the network (registers, stakes, sends heartbeats).
    pub fn any_node(self) -> bool {
        self.has(Role::Prover) || self.has(Role::Challenger) || self.has(Role::Juror)
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The roles, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |r| self.has(*r))
    }
}

impl fmt::Display for Roles {
    /// `coordinator+prover`: at most fifteen different texts, so fit for a metric label.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, role) in self.iter().enumerate() {
            let joint = if i == 0 { "" } else { "+" };
            write!(f, "{joint}{}", role.name())?;
        }
        Ok(())
    }
}

/// Base URL of a coordinator: scheme, host and port, with its certificate's hash if one is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorUrl(String);

impl CoordinatorUrl {
    /// The URL, without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        let (_, rest) = self.0.split_once("://").unwrap_or_default();
        let (authority, _) = rest.split_once('#').unwrap_or((rest, ""));
        let (host, _) = authority.rsplit_once(':').unwrap_or((authority, ""));
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl CoordinatorUrl {
    /// Whether it is on this machine, where nobody is between.
    pub fn is_loopback(&self) -> bool {
        let uri: Option<http::Uri> = self.0.parse().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
        let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for CoordinatorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CoordinatorUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("`{text}` {why}; expected {URL_FORMS}"));
        let (bare, pin) = match text.split_once('#') {
            Some((bare, pin)) => (bare, Some(pin)),
            None => (text, None),
        };
        let uri: http::Uri = match bare.parse() {
            Ok(uri) => uri,
            Err(error) => return refuse(&format!("is not a URL ({error})")),
        };
        let (scheme, Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return refuse("does not begin with https:// or http://");
        };
        let pin = match (scheme, pin.map(tls::Pin::parse)) {
            (Some("http" | "https"), None) => String::new(),
            (Some("https"), Some(Ok(pin))) => format!("#{pin}"),
            (Some("https"), Some(Err(why))) => return refuse(&format!("has no such hash: {why}")),
            (Some("http"), _) => return refuse("has a certificate's hash, but is no https://"),
            _ => return refuse("does not begin with https:// or http://"),
        };
        if !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return refuse("holds more than a host and a port");
        }
        match authority.port_u16() {
            Some(port) if port != 0 && !authority.host().is_empty() => {
                let scheme = uri.scheme_str().unwrap_or_default();
                Ok(Self(format!("{scheme}://{authority}{pin}")))
            }
            _ => refuse("has no port from 1 to 65535"),
        }
    }
}

/// How much is logged to stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what stops something.
    Error,
    /// And what degrades it.
    Warn,
    /// And what it does.
    Info,
    /// And why.
    Debug,
    /// And every message.
    Trace,
}

impl LogLevel {
    /// The directive `tracing_subscriber::EnvFilter` understands.
    pub fn directive(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Which chain the coordinator settles on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The EVM in this process, durable in `state_dir`.
    Embedded,
    /// Another chain, through its nodes.
    Rpc(RpcEngine),
}

/// What `engine = "rpc"` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcEngine {
    /// Nodes of the chain, asked in this order.
    pub endpoints: Vec<String>,
    /// Where the contracts are, resolved: made by `plumbline chain deploy`.
    pub deployment: PathBuf,
    /// When a block counts as settled.
    pub finality: Finality,
}

/// Which receive path a prover takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathChoice {
    /// The best that can be had, and the result says which and why.
    Auto,
    /// AF_XDP in the driver, or an error.
    Native,
    /// AF_XDP in the kernel's generic hook, or an error.
    Generic,
    /// A plain UDP socket.
    Socket,
}

/// `[coordinator]` and `[chain]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    /// Where the HTTP API listens.
    pub listen: SocketAddr,
    /// What others call it by, if not by that address.
    pub url: Option<CoordinatorUrl>,
    /// What it shows to callers.
    pub tls: Tls,
    /// Who runs it.
    pub operator: Option<String>,
    /// What the network may ask of it.
    pub limits: Limits,
    /// Which requests it drives.
    pub terms: Terms,
    /// The chain it hosts, or settles on.
    pub chain: Chain,
}

/// What a coordinator shows to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Nothing: plain HTTP.
    None,
    /// A certificate that it makes for itself and keeps in `state_dir`.
    Generated,
    /// These files.
    Files {
        /// Certificate, and those that certify it, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
    },
}

/// `[coordinator]`: what the network may ask of its API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, in all.
    pub connections: u32,
    /// Connections at once of one address.
    pub connections_each: u32,
    /// What one address may ask for.
    pub quota: Quota,
}

/// `[chain]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Which engine.
    pub engine: Engine,
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Longest time between two blocks; transactions do not wait for it.
    pub block_interval: Duration,
    /// The chain variables, as in its first block.
    pub parameters: Parameters,
    /// Deploy a token that anyone may mint: laboratories only.
    pub lab_token: bool,
}

/// `[node]`: what prover, challenger and juror share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The coordinator it works with.
    pub coordinator: CoordinatorUrl,
    /// The chain and the contracts that it signs for, resolved; `None` believes the coordinator.
    pub deployment: Option<PathBuf>,
    /// Own nodes of that chain.
    pub rpc: Vec<String>,
    /// When a block of theirs counts as settled.
    pub finality: Finality,
    /// Follow a coordinator's embedded chain into `state_dir`, and read that.
    pub follow: bool,
    /// Who runs it; challengers of the prover's own operator are not drawn.
    pub operator: Option<String>,
    /// Stake to register with, base units.
    pub stake: u128,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// Mint the stake first (lab token only).
    pub faucet: bool,
}

/// `[prover]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prover {
    /// Interface of the measured link.
    pub interface: String,
    /// Measured address.
    pub address: IpAddr,
    /// UDP port of data packets.
    pub data_port: u16,
    /// UDP port of probes and commitments.
    pub control_port: u16,
    /// Largest claim it accepts, IP layer.
    pub maximum: Rate,
    /// Least price of a byte, base units.
    pub min_price: u128,
    /// Most bytes a day of all its sessions, IP layer.
    pub max_bytes_per_day: Bytes,
    /// Receive path.
    pub path: PathChoice,
    /// Receive queues of the interface: a thread each.
    pub queues: Vec<u32>,
    /// Poll the driver from the receive thread instead of waiting for interrupts.
    pub busy_poll: bool,
    /// CPUs to pin the receive threads to, in turn; none leaves it to the scheduler.
    pub cores: Vec<usize>,
}

/// `[challenger]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenger {
    /// Address it sends from.
    pub address: IpAddr,
    /// UDP port it sends data from.
    pub data_port: u16,
    /// UDP port of probes and commitments.
    pub control_port: u16,
    /// Largest rate that all its sessions together are offered at, IP layer.
    pub max_rate: Rate,
    /// Least price of a byte, base units.
    pub min_price: u128,
    /// Most bytes of one session, IP layer.
    pub max_bytes: Bytes,
    /// Most bytes a day of all its sessions, IP layer.
    pub max_bytes_per_day: Bytes,
    /// Most memory of the packets that all its sessions together make ahead.
    pub max_memory: Bytes,
}

/// A whole configuration. A role's part is there exactly if the role is chosen; a part that is not
/// needed is checked all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// What the process does.
    pub roles: Roles,
    /// Key file, resolved.
    pub key: PathBuf,
    /// Directory of everything durable, resolved.
    pub state_dir: PathBuf,
    /// Log level.
    pub log: LogLevel,
    /// There if the coordinator role is chosen.
    pub coordinator: Option<Coordinator>,
    /// There if prover, challenger or juror is chosen.
    pub node: Option<Node>,
    /// There if the prover role is chosen.
    pub prover: Option<Prover>,
    /// There if the challenger role is chosen.
    pub challenger: Option<Challenger>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigErrors`] with every mistake of the file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let unreadable = |source| ConfigErrors::Unreadable {
            file: path.to_owned(),
            source,
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > FILE_MAX_BYTES {
            let why = format!("{size} bytes long, more than {FILE_MAX_BYTES}");
            return Err(unreadable(std::io::Error::new(
                std::io::ErrorKind::FileTooLarge,
                why,
            )));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file; `path` is for messages and for resolving relative paths.
    ///
    /// # Errors
    /// [`ConfigErrors::Invalid`] with every mistake of the text.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let (root, syntax) = toml::de::DeTable::parse_recoverable(text);
        let mut reader = Reader::new(text, root.get_ref(), &syntax);
        let config = read(&mut reader, path);
        let (mistakes, _) = reader.finish();
        match config {
            Some(config) if mistakes.is_empty() => Ok(config),
            _ => Err(ConfigErrors::Invalid {
                file: path.to_owned(),
                mistakes,
            }),
        }
    }

    /// Every key there is, with its default and what it may be.
    pub fn schema() -> Vec<KnownKey> {
        let (root, _) = toml::de::DeTable::parse_recoverable("");
        let mut reader = Reader::new("", root.get_ref(), &[]);
        // Only the keys asked for matter here; the empty file of course lacks the required ones.
        let _nothing = read(&mut reader, Path::new("schema"));
        reader.finish().1
    }
}
