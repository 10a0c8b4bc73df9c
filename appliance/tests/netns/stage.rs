//! The stage of one test: a lab, the cast in it, a directory for what they write.
//!
//! One at a time: two cores carry one proof, and rates are measured. A test that fails shows the end of
//! every log before everything is taken down.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plumbline_lab::{Account, Cast, Counters, Host, Lab, Plan, Process, Shape, WirePlan};
use serde_json::Value;

use crate::http::{self, Answer};

/// The product, as cargo built it for these tests.
pub(crate) const PLUMBLINE: &str = env!("CARGO_BIN_EXE_plumbline");

/// Exit codes, as documented.
pub(crate) const OK: i32 = 0;
pub(crate) const FAILED: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const REFUSED: i32 = 3;
pub(crate) const UNREACHABLE: i32 = 4;
pub(crate) const CHAIN: i32 = 5;

/// Longest that one command may take.
const COMMAND: Duration = Duration::from_secs(60);
/// Longest that packets may stand in the lab's queues.
pub(crate) const SETTLE: Duration = Duration::from_secs(5);
/// Between two looks at an awaited condition.
const LOOK: Duration = Duration::from_millis(2);

static TURN: Mutex<()> = Mutex::new(());

/// Looks until `look` finds something.
#[track_caller]
pub(crate) fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(LOOK);
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) words: String,
}

impl Outcome {
    /// Its JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Ended with this code, said nothing on stdout, and every one of `words` on stderr.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.out, "", "a refusal has no result");
        for word in words {
            assert!(
                self.words.contains(word),
                "{word:?} is not in:\n{}",
                self.words
            );
        }
        assert!(!self.words.contains("panicked"), "{}", self.words);
    }
}

/// A lab and who plays in it.
pub(crate) struct Stage {
    // Dropped in this order: processes, namespaces, files, the turn.
    pub(crate) cast: Cast,
    pub(crate) lab: Lab,
    pub(crate) directory: tempfile::TempDir,
    commands: u32,
    _turn: MutexGuard<'static, ()>,
}

impl Stage {
    /// A lab with keys and configurations; nothing runs.
    #[track_caller]
    pub(crate) fn set(challengers: u8, ip_bps: u64) -> Self {
        Self::over(challengers, ip_bps, None)
    }

    /// The same over a wire that delays or loses.
    #[track_caller]
    pub(crate) fn over(challengers: u8, ip_bps: u64, wire: Option<WirePlan>) -> Self {
        let down = Shape::ip_layer(ip_bps, 1500);
        Self::of(Plan::backhaul(challengers, down, wire))
    }

    /// Any lab.
    #[track_caller]
    pub(crate) fn of(plan: Plan) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make network namespaces and attach XDP, which needs root: sudo cargo xtask test"
        );
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Lab::up(plan).expect("a lab");
        // In memory: the build machine's disk may stand still for seconds, and it is not what is tested.
        let directory = tempfile::Builder::new()
            .prefix("plumbline-netns-")
            .tempdir_in("/dev/shm")
            .expect("a directory in /dev/shm, which every Linux has");
        let cast = Cast::prepare(&lab, PLUMBLINE.as_ref(), directory.path())
            .expect("keys and configurations");
        Self {
            cast,
            lab,
            directory,
            commands: 0,
            _turn: turn,
        }
    }

    /// The same with everybody running.
    #[track_caller]
    pub(crate) fn running(challengers: u8, ip_bps: u64) -> Self {
        let mut stage = Self::set(challengers, ip_bps);
        stage.start_all();
        stage
    }

    #[track_caller]
    pub(crate) fn start_all(&mut self) {
        self.cast.start_all(&self.lab).expect("everybody is ready");
    }

    #[track_caller]
    pub(crate) fn start(&mut self, host: Host) -> Value {
        self.cast.start(&self.lab, host).expect("ready").clone()
    }

    /// Starts the payer's command with these further arguments.
    #[track_caller]
    pub(crate) fn ask(&mut self, arguments: &str) -> Process {
        let mut command = self.cast.payer(&self.lab).expect("a prover runs");
        command.args(arguments.split_whitespace());
        self.spawn(command)
    }

    #[track_caller]
    fn spawn(&mut self, command: Command) -> Process {
        self.commands += 1;
        let name = format!("command-{}", self.commands);
        Process::start(&name, command, self.directory.path()).expect("it starts")
    }

    /// Waits for a command's end.
    #[track_caller]
    pub(crate) fn outcome(&self, process: &mut Process) -> Outcome {
        let (status, out) = process.output(COMMAND).unwrap_or_else(|e| panic!("{e}"));
        let words = std::fs::read_to_string(process.log()).expect("its log");
        Outcome {
            code: status.code().unwrap_or_else(|| panic!("{status}: {words}")),
            out,
            words,
        }
    }

    /// Asks, and waits for the end.
    #[track_caller]
    pub(crate) fn measure(&mut self, arguments: &str) -> Outcome {
        let mut payer = self.ask(arguments);
        self.outcome(&mut payer)
    }

    /// Runs `plumbline` on a host.
    #[track_caller]
    pub(crate) fn plumbline(&mut self, host: Host, arguments: &[&str]) -> Outcome {
        self.program(host, PLUMBLINE, arguments)
    }

    /// Runs any program on a host.
    #[track_caller]
    pub(crate) fn program(&mut self, host: Host, program: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.lab.command(host, program);
        command.args(arguments);
        let mut process = self.spawn(command);
        self.outcome(&mut process)
    }

    /// One command about the chain, on the coordinator's host.
    #[track_caller]
    pub(crate) fn chain(&mut self, arguments: &[&str]) -> Value {
        let (url, pin) = (
            self.cast.coordinator().to_owned(),
            self.cast.pin().display().to_string(),
        );
        let whom = ["--json", "--coordinator", &url, "--deployment", &pin];
        let outcome = self.plumbline(Host::Coordinator, &[&["chain"], arguments, &whom].concat());
        assert_eq!(outcome.code, OK, "{outcome:?}");
        outcome.json()
    }

    fn api(&self) -> SocketAddr {
        let listen = self.cast.coordinator().trim_start_matches("http://");
        listen.parse().expect("an address and a port")
    }

    /// GETs from the coordinator's API; `None` while nobody answers.
    pub(crate) fn try_get(&self, path: &str) -> Option<Answer> {
        http::ask(
            &self.lab.namespace(Host::Coordinator),
            self.api(),
            "GET",
            path,
            ("", b""),
        )
        .ok()
    }

    /// GETs from the coordinator's API.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_get(path)
            .unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// POSTs to the coordinator's API, with these header lines.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, more: &str, body: &[u8]) -> Answer {
        let asked = http::ask(
            &self.lab.namespace(Host::Coordinator),
            self.api(),
            "POST",
            path,
            (more, body),
        );
        asked.unwrap_or_else(|e| panic!("no answer to POST {path}: {e}"))
    }

    /// The sessions that the coordinator has open and that are not over.
    pub(crate) fn open_sessions(&self) -> Vec<Value> {
        let Some(answer) = self.try_get("/v1/sessions").filter(|a| a.status == 200) else {
            return Vec::new();
        };
        let over = ["final", "timed out", "cancelled"];
        let items = answer.json()["items"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        items
            .into_iter()
            .filter(|s| !over.contains(&s["state"].as_str().unwrap_or("")))
            .collect()
    }

    /// Whether an XDP program is attached to the measured interface, and in which mode (1: native).
    #[track_caller]
    pub(crate) fn xdp(&self) -> Option<u64> {
        let name = self.lab.namespace(Host::Prover);
        let shown = Command::new("ip")
            .args(["-n", name.name(), "-d", "-j", "link", "show", "eth0"])
            .output()
            .expect("ip");
        let links: Value = serde_json::from_slice(&shown.stdout).expect("ip answers JSON");
        links[0]["xdp"]["mode"].as_u64()
    }

    #[track_caller]
    pub(crate) fn counters(&self) -> Counters {
        self.lab.counters().expect("counters")
    }

    /// Every packet of a proof by its fate: the document's counters beside what the lab has lost since
    /// `before`.
    #[track_caller]
    pub(crate) fn account(&self, before: &Counters, document: &Value) -> Account {
        let after = self.lab.settle(SETTLE).expect("empty queues");
        let packets = document["packets"].as_object().expect("packets");
        Account::new(packets, after.since(before).down.total)
    }

    /// The chain conserves, and no request holds money.
    #[track_caller]
    pub(crate) fn nothing_is_locked(&mut self) {
        let status = self.chain(&["status"]);
        assert_eq!(
            (&status["conserved"], &status["escrow"]),
            (&true.into(), &"0".into()),
            "{status}"
        );
    }

    /// What the payer has, at hand and owed by the vault.
    #[track_caller]
    pub(crate) fn payer_wealth(&mut self) -> u128 {
        let key = self.cast.payer_key().display().to_string();
        let shown = self
            .plumbline(Host::Coordinator, &["key", "show", &key, "--json"])
            .json();
        let balance = self.chain(&["balance", shown["address"].as_str().expect("an address")]);
        let units = |field: &str| balance[field].as_str().and_then(|v| v.parse::<u128>().ok());
        units("balance")
            .zip(units("owed"))
            .map(|(a, b)| a + b)
            .unwrap_or_else(|| panic!("{balance}"))
    }

    /// Stops everybody in order, re-executes the chain from its file, and takes the lab down.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.nothing_is_locked();
        self.cast.stop_all().expect("everybody stops with status 0");
        assert_eq!(self.xdp(), None, "XDP is attached after the prover stopped");
        let directory = self.cast.state(Host::Coordinator).join("chain");
        let replayed = self.plumbline(
            Host::Coordinator,
            &[
                "chain",
                "verify",
                &directory.display().to_string(),
                "--json",
            ],
        );
        assert_eq!(
            (replayed.code, &replayed.json()["ok"]),
            (OK, &true.into()),
            "{replayed:?}"
        );
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.cast.tails());
        }
    }
}
