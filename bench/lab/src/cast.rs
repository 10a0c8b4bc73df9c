//! Who plays in a lab: one coordinator, one prover, the challengers and a payer; each with its own key,
//! configuration, process and namespace.
//!
//! ```text
//!  prepare: keys, configurations ─► start: coordinator, then everybody ─► payer(): the command that asks
//!           (append to them)              each says `ready`                stop(): in order, status 0
//! ```
//!
//! The product is a binary at a path: nothing of it is linked here.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::error::LabError;
use crate::lab::Lab;
use crate::plan::Host;
use crate::process::{Process, ProcessError};

/// Longest from a daemon's start to its `ready` line: deploying the contracts, registering, attaching XDP.
const READY: Duration = Duration::from_secs(20);

/// Blocks from a chain's start to the last node's first heartbeat, at most, beside those that settle: sixteen
/// transactions of the deployment, and of each node four.
const READY_BLOCKS: u32 = 32;

/// Port of anvil's JSON-RPC, where there is one: its own default.
const ANVIL: u16 = 8545;

/// The chain's id: what a coordinator's configuration says where it says nothing.
const CHAIN_ID: u64 = 7310;

/// What is pinned, beside the configurations.
const PIN: &str = "pin.json";

/// Port of the coordinator's API.
const API: u16 = 7300;

/// What went wrong with the cast.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The lab has no such host.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A daemon ended, or was not ready in time: with the end of its log.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A file of the run's directory.
    #[error("{path}: {source} (the run's directory must be writable)", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// `plumbline key new` did not make a key.
    #[error("plumbline key new ended with {status}: {words}")]
    Key {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// `plumbline chain deploy` or `chain pin` did not do it.
    #[error("plumbline {what} ended with {status}: {words}")]
    Command {
        /// Which.
        what: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// Asked of a host on which nothing runs.
    #[error("nothing runs on {host}: start it first")]
    Absent {
        /// The host.
        host: Host,
    },
    /// A daemon's ready line is not as documented.
    #[error("the ready line of {host} has no {field}: {line}")]
    Ready {
        /// The host.
        host: Host,
        /// What is missing.
        field: &'static str,
        /// The line.
        line: Value,
    },
    /// A daemon that was asked to stop ended with another status than 0.
    #[error("{host} ended with {status} when asked to stop\n{tail}")]
    Stopped {
        /// The host.
        host: Host,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        tail: String,
    },
}

/// One daemon.
#[derive(Debug)]
struct Actor {
    host: Host,
    process: Process,
    ready: Value,
}

/// The daemons of a lab.
#[derive(Debug)]
pub struct Cast {
    binary: PathBuf,
    directory: PathBuf,
    coordinator: String,
    /// In the order of their start; they stop in the reverse order.
    actors: Vec<Actor>,
    /// Daemons started so far: each has log files of its own.
    started: u32,
    /// Hosts that run another program than the product, and its further arguments.
    replaced: HashMap<Host, (PathBuf, Vec<String>)>,
    /// The chain, where it is not the coordinator's own; dropped after the daemons.
    chain: Option<Process>,
    /// Where that is.
    rpc: Option<String>,
    /// Its pace, where it is a slow one.
    pace: Option<Pace>,
}

/// How a slow chain makes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Seconds from one to the next.
    pub block_s: u32,
    /// How many lie on top of one that is settled.
    pub finality: u32,
}

impl Pace {
    /// So many blocks, and one transaction settled.
    #[must_use]
    pub fn time(self, blocks: u32) -> Duration {
        Duration::from_secs(u64::from(self.block_s * (blocks + self.finality)))
    }
}

impl Cast {
    /// Makes keys and configurations in `directory`; nothing runs yet.
    ///
    /// # Errors
    /// [`CastError`]: a key could not be made, or a file not be written.
    pub fn prepare(lab: &Lab, binary: &Path, directory: &Path) -> Result<Self, CastError> {
        let listen = format!("{}:{API}", lab.address(Host::Coordinator)?);
        let cast = Self {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            coordinator: format!("http://{listen}"),
            actors: Vec::new(),
            started: 0,
            replaced: HashMap::new(),
            chain: None,
            rpc: None,
            pace: None,
        };
        cast.new_key(&cast.payer_key())?;
        for host in lab.plan().hosts() {
            let toml = match host {
                Host::Coordinator => coordinator_toml(&listen),
                Host::Prover => {
                    node_toml("prover", host, &cast.coordinator, "isp")
                        + &format!(
                            "[prover]\ninterface = \"eth0\"\naddress = \"{}\"\nmaximum = \"100gbit\"\n",
                            measured(lab, host)?
                        )
                }
                Host::Challenger(i) => {
                    node_toml(
                        "challenger",
                        host,
                        &cast.coordinator,
                        &format!("operator-{i}"),
                    ) + &format!("[challenger]\naddress = \"{}\"\n", measured(lab, host)?)
                }
                Host::Core | Host::Wire | Host::Bystander => continue,
            };
            cast.new_key(&cast.key(host))?;
            cast.write(host, &toml)?;
        }
        Ok(cast)
    }

    /// Adds keys to the end of a host's configuration, which is its own table: `[chain]` of the
    /// coordinator, `[prover]`, `[challenger]`.
    ///
    /// # Errors
    /// [`CastError::File`].
    pub fn append(&self, host: Host, toml: &str) -> Result<(), CastError> {
        let path = self.config(host);
        let fail = |source| CastError::File {
            path: path.clone(),
            source,
        };
        let text = std::fs::read_to_string(&path).map_err(fail)?;
        self.write(host, &format!("{text}{toml}\n"))
    }

    /// Starts the anvil at `program` on the coordinator's host, where every host reaches it, puts the
    /// contracts on it, and has the coordinator settle there instead of on a chain of its own. Before
    /// the coordinator is started. Without a `pace` a transaction has its block at once.
    ///
    /// # Errors
    /// Anvil did not come up, or the contracts could not be deployed.
    pub fn settle_on_anvil(
        &mut self,
        lab: &Lab,
        program: &Path,
        pace: Option<Pace>,
    ) -> Result<(), CastError> {
        self.pace = pace;
        let host = lab.address(Host::Coordinator)?.to_string();
        let mut command = lab.command(Host::Coordinator, &program.to_string_lossy());
        command.args(["--host", &host, "--port", &ANVIL.to_string()]);
        command.args(["--chain-id", &CHAIN_ID.to_string()]);
        // Today's rules, EIP-7825 included, which anvil checks only when it is told to.
        command.args(["--hardfork", "osaka", "--enable-tx-gas-limit"]);
        command.args(["--gas-limit", "60000000"]);
        // Nobody in a lab has native coin, so gas costs nothing.
        command.args(["--gas-price", "0", "--block-base-fee-per-gas", "0"]);
        command.arg("--disable-min-priority-fee");
        match pace {
            Some(pace) => command.args(["--block-time", &pace.block_s.to_string()]),
            // A block for each transaction, and one each second, so that its clock moves.
            None => command.args(["--mixed-mining", "--block-time", "1"]),
        };
        // Finalized is what lies two epochs back: two blocks.
        command.args(["--slots-in-an-epoch", "1"]);
        let mut anvil = Process::start("anvil", command, &self.directory)?;
        let listening = |line: &str| line.starts_with("Listening on").then_some(());
        anvil.await_line("the line that says it listens", READY, listening)?;
        self.chain = Some(anvil);

        let url = format!("http://{host}:{ANVIL}");
        let deployment = self.directory.join("deployment.json");
        let key = self.directory.join("coordinator.key");
        let mut command = lab.command(Host::Coordinator, &self.binary.to_string_lossy());
        command.args(["chain", "deploy", "--json", "--rpc", &url, "--key"]);
        command.arg(key).arg("--out").arg(deployment);
        let mut more = String::new();
        if let Some(pace) = pace {
            // Two heartbeats, and what answers for a seed, are in blocks by then.
            let live = pace.time(8).as_secs().max(30);
            command.args(["--finality", &pace.finality.to_string()]);
            command.args(["--live-interval", &format!("{live}s")]);
            command.args(["--set", &format!("seed_answer_s={}", 2 * live)]);
            more = format!(
                "finality = {}\nlive_interval = \"{live}s\"\nseed_answer = \"{}s\"\n",
                pace.finality,
                2 * live
            );
        }
        let mut deploy = Process::start("deploy", command, &self.directory)?;
        let (status, _) = deploy.output(self.ready_within())?;
        if !status.success() {
            let words = deploy.tail();
            let what = "chain deploy";
            return Err(CastError::Command {
                what,
                status,
                words,
            });
        }
        let rpc = format!(
            "engine = \"rpc\"\nrpc = [\"{url}\"]\ndeployment = \"deployment.json\"\n{more}"
        );
        self.rewrite(Host::Coordinator, "engine = \"embedded\"\n", &rpc)?;
        let settled = pace.map_or_else(String::new, |p| format!("finality = {}\n", p.finality));
        // Everybody asks it, not the coordinator.
        for host in lab.plan().hosts() {
            if matches!(host, Host::Prover | Host::Challenger(_)) {
                let rpc = format!("[node]\nrpc = [\"{url}\"]\n{settled}");
                self.rewrite(host, "[node]\n", &rpc)?;
            }
        }
        self.rpc = Some(url);
        Ok(())
    }

    /// From its next start on, the coordinator speaks TLS with a certificate of its own, which everybody pins.
    ///
    /// # Errors
    /// [`CastError::File`].
    pub fn encrypt(&self) -> Result<(), CastError> {
        self.rewrite(Host::Coordinator, PLAIN, "tls = \"generated\"")
    }

    fn rewrite(&self, host: Host, from: &str, to: &str) -> Result<(), CastError> {
        let path = self.config(host);
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| CastError::File { path, source })?;
        self.write(host, &text.replace(from, to))
    }

    /// Longest that a daemon takes to be ready.
    fn ready_within(&self) -> Duration {
        READY + self.chain_time(READY_BLOCKS)
    }

    /// What so many blocks take, and one transaction to be settled, where the chain is a slow one.
    pub(crate) fn chain_time(&self, blocks: u32) -> Duration {
        self.pace.map_or(Duration::ZERO, |pace| pace.time(blocks))
    }

    fn write(&self, host: Host, toml: &str) -> Result<(), CastError> {
        let path = self.config(host);
        std::fs::write(&path, toml).map_err(|source| CastError::File { path, source })
    }

    /// From its next start on, `host` runs `program run --config FILE more…` in the place of the product.
    pub fn replace(&mut self, host: Host, program: &Path, more: &[String]) {
        let other = (program.to_owned(), more.to_vec());
        self.replaced.insert(host, other);
    }

    /// Starts everybody, the coordinator first, and waits until all are ready.
    ///
    /// # Errors
    /// A daemon could not be started, ended, or was not ready in time: with the end of its log.
    pub fn start_all(&mut self, lab: &Lab) -> Result<(), CastError> {
        self.start(lab, Host::Coordinator)?;
        let others: Vec<Host> = lab
            .plan()
            .hosts()
            .filter(|host| matches!(host, Host::Prover | Host::Challenger(_)))
            .collect();
        for host in &others {
            self.launch(lab, *host)?;
        }
        others
            .into_iter()
            .try_for_each(|host| self.await_ready(host).map(drop))
    }

    /// Starts one daemon and waits until it is ready; its ready line.
    ///
    /// # Errors
    /// As [`Self::start_all`].
    pub fn start(&mut self, lab: &Lab, host: Host) -> Result<&Value, CastError> {
        self.launch(lab, host)?;
        self.await_ready(host)?;
        if host == Host::Coordinator {
            // With the hash of a certificate, if it made one.
            let told = self.ready(host)?["api"].as_str().unwrap_or_default();
            let told = told.to_owned();
            for host in lab.plan().hosts() {
                if matches!(host, Host::Prover | Host::Challenger(_)) {
                    self.rewrite(host, &self.coordinator, &told)?;
                }
            }
            self.coordinator = told;
            if !self.pin().exists() {
                self.write_pin(lab)?;
            }
        }
        self.ready(host)
    }

    /// What nodes and the payer are given out of band: in a lab, what the coordinator shows at its first start.
    fn write_pin(&self, lab: &Lab) -> Result<(), CastError> {
        let mut command = lab.command(Host::Coordinator, &self.binary.to_string_lossy());
        command.args([
            "chain",
            "pin",
            "--json",
            "--url",
            &self.coordinator,
            "--out",
        ]);
        command.arg(self.pin());
        let mut pin = Process::start("pin", command, &self.directory)?;
        let (status, _) = pin.output(READY)?;
        if status.success() {
            return Ok(());
        }
        let (what, words) = ("chain pin", pin.tail());
        Err(CastError::Command {
            what,
            status,
            words,
        })
    }

    /// The file in which the chain is pinned.
    #[must_use]
    pub fn pin(&self) -> PathBuf {
        self.directory.join(PIN)
    }

    fn launch(&mut self, lab: &Lab, host: Host) -> Result<(), CastError> {
        let (program, more) = match self.replaced.get(&host) {
            Some((program, more)) => (program, &more[..]),
            None => (&self.binary, &[][..]),
        };
        let mut command = lab.command(host, &program.to_string_lossy());
        command
            .args(["run", "--config"])
            .arg(self.config(host))
            .args(more);
        self.started += 1;
        let log = match self.directory.join(format!("{}.log", name(host))).exists() {
            false => name(host),
            true => format!("{}-{}", name(host), self.started),
        };
        let process = Process::start(&log, command, &self.directory)?;
        self.actors.push(Actor {
            host,
            process,
            ready: Value::Null,
        });
        Ok(())
    }

    fn await_ready(&mut self, host: Host) -> Result<&Value, CastError> {
        let ready = self.ready_within();
        let actor = self.actor(host)?;
        actor.ready =
            actor
                .process
                .await_line("the line that says it is ready", ready, |line| {
                    serde_json::from_str::<Value>(line)
                        .ok()
                        .filter(|value| value["ready"] == true)
                })?;
        Ok(&actor.ready)
    }

    fn actor(&mut self, host: Host) -> Result<&mut Actor, CastError> {
        let found = self.actors.iter_mut().find(|actor| actor.host == host);
        found.ok_or(CastError::Absent { host })
    }

    /// The daemon on `host`.
    ///
    /// # Errors
    /// [`CastError::Absent`].
    pub fn process(&mut self, host: Host) -> Result<&mut Process, CastError> {
        Ok(&mut self.actor(host)?.process)
    }

    /// The hosts on which a daemon was started and not yet stopped.
    pub fn hosts(&self) -> impl Iterator<Item = Host> + '_ {
        self.actors.iter().map(|actor| actor.host)
    }

    /// What the daemon on `host` said when it was ready.
    ///
    /// # Errors
    /// [`CastError::Absent`].
    pub fn ready(&mut self, host: Host) -> Result<&Value, CastError> {
        Ok(&self.actor(host)?.ready)
    }

    /// The address of the daemon on `host` on the chain.
    ///
    /// # Errors
    /// [`CastError::Absent`]; [`CastError::Ready`].
    pub fn address(&mut self, host: Host) -> Result<String, CastError> {
        let line = self.ready(host)?;
        let address = line["address"].as_str().map(str::to_owned);
        address.ok_or_else(|| CastError::Ready {
            host,
            field: "address",
            line: line.clone(),
        })
    }

    /// Ends the daemon on `host` as a crash does: SIGKILL, nothing is cleaned up.
    ///
    /// # Errors
    /// [`CastError::Absent`]; it did not end within five seconds.
    pub fn kill(&mut self, host: Host) -> Result<(), CastError> {
        let process = self.process(host)?;
        process.signal(Signal::SIGKILL);
        process.wait(Duration::from_secs(5))?;
        self.actors.retain(|actor| actor.host != host);
        Ok(())
    }

    /// Asks the daemon on `host` to stop.
    ///
    /// # Errors
    /// It did not stop, or not with status 0.
    pub fn stop(&mut self, host: Host) -> Result<(), CastError> {
        let process = self.process(host)?;
        let status = process.stop()?;
        let tail = process.tail();
        self.actors.retain(|actor| actor.host != host);
        if status.success() {
            return Ok(());
        }
        Err(CastError::Stopped { host, status, tail })
    }

    /// Asks all to stop: those that talk to the coordinator before it.
    ///
    /// # Errors
    /// One did not stop, or not with status 0.
    pub fn stop_all(&mut self) -> Result<(), CastError> {
        while let Some(host) = self.actors.last().map(|actor| actor.host) {
            self.stop(host)?;
        }
        if let Some(mut chain) = self.chain.take() {
            chain.stop()?;
        }
        Ok(())
    }

    /// The end of everybody's log, for when something went wrong.
    #[must_use]
    pub fn tails(&self) -> String {
        self.actors.iter().fold(String::new(), |mut text, actor| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "── {}\n{}", name(actor.host), actor.process.tail());
            text
        })
    }

    /// URL of the coordinator's API.
    #[must_use]
    pub fn coordinator(&self) -> &str {
        &self.coordinator
    }

    /// The configuration file of a host.
    #[must_use]
    pub fn config(&self, host: Host) -> PathBuf {
        self.directory.join(format!("{}.toml", name(host)))
    }

    /// Where the daemon on `host` keeps what must not be lost.
    #[must_use]
    pub fn state(&self, host: Host) -> PathBuf {
        self.directory.join(name(host))
    }

    /// The key file of a host.
    #[must_use]
    pub fn key(&self, host: Host) -> PathBuf {
        self.directory.join(format!("{}.key", name(host)))
    }

    /// The payer's key file.
    #[must_use]
    pub fn payer_key(&self) -> PathBuf {
        self.directory.join("payer.key")
    }

    /// The product.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// `plumbline measure --json` on the coordinator's host, about the prover, paid by the payer's key;
    /// the rest is the caller's.
    ///
    /// # Errors
    /// [`CastError::Absent`]: no prover runs.
    pub fn payer(&mut self, lab: &Lab) -> Result<Command, CastError> {
        let prover = self.address(Host::Prover)?;
        let mut command = lab.command(Host::Coordinator, &self.binary.to_string_lossy());
        command
            .args(["measure", "--json", "--coordinator", &self.coordinator])
            .args(["--prover", &prover, "--key"])
            .arg(self.payer_key())
            .arg("--deployment")
            .arg(self.pin());
        if let Some(url) = &self.rpc {
            command.args(["--rpc", url]);
        }
        if let Some(pace) = self.pace {
            command.args(["--finality", &pace.finality.to_string()]);
        }
        Ok(command)
    }

    /// Makes a key on this host: making one needs no network.
    fn new_key(&self, file: &Path) -> Result<(), CastError> {
        let output = Command::new(&self.binary)
            .args(["key", "new", "--json", "--out"])
            .arg(file)
            .output()
            .map_err(|source| CastError::File {
                path: self.binary.clone(),
                source,
            })?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(CastError::Key {
            status: output.status,
            words,
        })
    }
}

impl Drop for Cast {
    fn drop(&mut self) {
        // Last started, first stopped; how they end is nobody's business any more.
        while self.actors.pop().is_some() {}
    }
}

/// Where a host is measured, or measures from: over IPv6 where the lab has it.
fn measured(lab: &Lab, host: Host) -> Result<IpAddr, LabError> {
    if lab.plan().ipv6 {
        lab.address_v6(host).map(IpAddr::from)
    } else {
        lab.address(host).map(IpAddr::from)
    }
}

/// Name of a host's files: `coord` is short only because interfaces are.
fn name(host: Host) -> String {
    match host {
        Host::Coordinator => "coordinator".to_owned(),
        other => other.to_string(),
    }
}

/// What the coordinator's configuration says of TLS.
const PLAIN: &str = "tls = \"none\"";

fn coordinator_toml(listen: &str) -> String {
    format!(
        "roles = [\"coordinator\"]\nkey = \"coordinator.key\"\nstate_dir = \"coordinator\"\n\n\
         [coordinator]\nlisten = \"{listen}\"\n{PLAIN}\n# One payer asks all day, and every test beside it.\nmax_newcomers_gas_each = 1000000000\nmax_reading_each = \"10s\"\nmax_requests_each = 10000\n\n[chain]\nengine = \"embedded\"\nlab_token = true\n"
    )
}

fn node_toml(role: &str, host: Host, coordinator: &str, operator: &str) -> String {
    format!(
        "roles = [\"{role}\"]\nkey = \"{host}.key\"\nstate_dir = \"{host}\"\n\n\
         [node]\ncoordinator = \"{coordinator}\"\ndeployment = \"{PIN}\"\noperator = \"{operator}\"\nfaucet = true\n\n"
    )
}
