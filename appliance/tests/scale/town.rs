//! The coordinator's daemon, its hosts, and who has links measured: one after the other, or all at once.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plumbline::keyfile::Keys;
use plumbline::role::payer::{self, Order};
use plumbline::role::view::View;
use plumbline::ui::Silent;
use plumbline::ui::results::MeasureResult;
use plumbline_proof::backhaul::bundle;
use plumbline_proof::backhaul::messages::ChallengeId;
use plumbline_proof::backhaul::params::Terms;
use plumbline_trust::Address;
use tokio::task::JoinSet;

use super::host::{Host, Part, Square};
use super::usage::Usage;

/// How many there are, and what is asked of them.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Size {
    pub(crate) challengers: u8,
    pub(crate) provers: u8,
    /// Challengers a measurement, and how many corrupt ones it stands.
    pub(crate) n: u16,
    pub(crate) f: u16,
    /// Long enough for forty of the longest round trips.
    pub(crate) duration_ms: u32,
}

impl Size {
    fn hosts(self) -> u32 {
        u32::from(self.challengers) + u32::from(self.provers)
    }

    /// Time between two heartbeats of a host.
    fn heartbeat(self) -> Duration {
        BEAT * self.hosts()
    }
}

/// Rate of the slowest and the fastest link, bit/s: small trains, and yet so fast that the probes of ten
/// challengers, a third of a Mbit/s in all while they flood, do not take three per cent.
const RATES: [u64; 2] = [15_000_000, 50_000_000];
/// Heartbeats come one by one, so far apart: ten a second however many hosts there are.
const BEAT: Duration = Duration::from_millis(100);
/// Every so many-th prover claims what it has not, percent of its link.
const FALSE_EVERY: usize = 4;
const FALSE_PERCENT: u64 = 160;
/// Base units a byte.
const PRICE: u128 = 3;
/// Until the contract refunds.
const DEADLINE: Duration = Duration::from_secs(110);

/// A prover's link and what is claimed of it, bit/s.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Claim {
    #[serde(skip)]
    pub(crate) prover: Address,
    pub(crate) link_bps: u64,
    pub(crate) claim_bps: u64,
}

/// One measurement, as its payer has it after its own replay.
pub(crate) struct Measured {
    pub(crate) document: MeasureResult,
    pub(crate) id: ChallengeId,
}

/// What measuring everybody once came to.
pub(crate) struct Round {
    pub(crate) measured: Vec<Measured>,
    pub(crate) wall_s: f64,
    pub(crate) before: Usage,
    /// After each session in turn; once, after all, at once.
    pub(crate) after: Vec<Usage>,
    /// Of this process in the same time: all hosts and payers, s.
    pub(crate) hosts_cpu_s: f64,
}

impl Round {
    pub(crate) fn cpu_s(&self) -> f64 {
        self.after.last().unwrap().cpu_s - self.before.cpu_s
    }
}

/// A program that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Everything that runs.
pub(crate) struct Town {
    coordinator: Daemon,
    home: tempfile::TempDir,
    pub(crate) url: String,
    size: Size,
    pub(crate) hosts: Vec<Arc<Host>>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) square: Arc<Square>,
}

impl Town {
    /// Starts the coordinator, and everybody else against it.
    pub(crate) async fn open(size: Size, seed: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let (coordinator, url) = coordinator(home.path());
        let square = Arc::new(Square::new(seed));
        let mut town = Self {
            coordinator,
            url,
            size,
            hosts: Vec::new(),
            claims: Vec::new(),
            square,
            home,
        };
        town.populate().await;
        town
    }

    async fn populate(&mut self) {
        let size = self.size;
        let provers = (0..size.provers).map(|number| (Part::Prover, number));
        let challengers = (0..size.challengers).map(|number| (Part::Challenger, number));
        let mut entering = JoinSet::new();
        for who in provers.chain(challengers) {
            let (home, url) = (self.home.path().to_owned(), self.url.clone());
            let square = self.square.clone();
            entering.spawn(async move { (who.1, Host::enter(&home, &url, who, square).await) });
        }
        let mut claims = BTreeMap::new();
        for (at, (number, host)) in (0..).zip(entering.join_all().await) {
            let host = Arc::new(host);
            if host.is_prover() {
                claims.insert(number, self.claim(number, host.address));
            }
            host.start(BEAT * at, size.heartbeat());
            self.hosts.push(host);
        }
        self.claims = claims.into_values().collect();
    }

    fn claim(&self, number: u8, prover: Address) -> Claim {
        let [slowest, fastest] = RATES;
        let steps = u64::from(self.size.provers - 1).max(1);
        let link_bps = slowest + (fastest - slowest) * u64::from(number) / steps;
        let lies = usize::from(number) % FALSE_EVERY == FALSE_EVERY - 1;
        let percent = if lies { FALSE_PERCENT } else { 100 };
        self.square.links.lock().unwrap().insert(prover, link_bps);
        Claim {
            prover,
            link_bps,
            claim_bps: link_bps * percent / 100,
        }
    }

    /// What the coordinator's process has used.
    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.coordinator.0.id())
    }

    /// The most memory that its process had is what it has now.
    pub(crate) fn forget_peak(&self) {
        let file = format!("/proc/{}/clear_refs", self.coordinator.0.id());
        std::fs::write(file, "5").unwrap();
    }

    /// The bundle that a payer of a round saved.
    pub(crate) fn bundle(&self, round: &str, at: usize) -> PathBuf {
        self.home.path().join(format!("{round}-{at}.bundle"))
    }

    /// CPU time a second of wall time that the coordinator takes with everybody there and nothing
    /// measured; watched while every other host's heartbeat comes.
    pub(crate) async fn at_rest(&self) -> f64 {
        let (began, before) = (Instant::now(), self.usage());
        tokio::time::sleep(self.size.heartbeat() / 2).await;
        (self.usage().cpu_s - before.cpu_s) / began.elapsed().as_secs_f64()
    }

    /// Everybody, one after the other.
    pub(crate) async fn in_turn(&self) -> Round {
        self.round(async || {
            let (mut measured, mut after) = (Vec::new(), Vec::new());
            for at in 0..self.claims.len() {
                measured.push(self.order("turn", at).await);
                after.push(self.usage());
            }
            (measured, after)
        })
        .await
    }

    /// Everybody at once.
    pub(crate) async fn at_once(&self) -> Round {
        self.round(async || {
            let mut all = JoinSet::new();
            for at in 0..self.claims.len() {
                let order = self.order("once", at);
                all.spawn(async move { (at, order.await) });
            }
            let mut measured = all.join_all().await;
            measured.sort_by_key(|(at, _)| *at);
            let measured = measured.into_iter().map(|(_, m)| m).collect();
            (measured, vec![self.usage()])
        })
        .await
    }

    async fn round(&self, measure: impl AsyncFnOnce() -> (Vec<Measured>, Vec<Usage>)) -> Round {
        let (began, before) = (Instant::now(), self.usage());
        let hosts = Usage::of(std::process::id());
        let (measured, after) = measure().await;
        Round {
            measured,
            wall_s: began.elapsed().as_secs_f64(),
            before,
            after,
            hosts_cpu_s: Usage::of(std::process::id()).cpu_s - hosts.cpu_s,
        }
    }

    /// A payer of its own has a link measured, and replays the evidence itself.
    fn order(&self, round: &str, at: usize) -> impl Future<Output = Measured> + Send + 'static {
        let claim = self.claims[at];
        let size = self.size;
        let order = Order {
            prover: claim.prover,
            terms: Terms::downlink(claim.claim_bps, size.n, size.f, size.duration_ms),
            burst_bytes: None,
            mtu: None,
            price_per_byte: PRICE,
            deadline: DEADLINE,
            faucet: true,
        };
        let file =
            |kind: &str| -> PathBuf { self.home.path().join(format!("{round}-{at}.{kind}")) };
        let (url, key, saved) = (self.url.clone(), file("key"), file("bundle"));
        async move {
            let keys = Keys::create(&key).unwrap();
            let document =
                payer::measure(&url, &View::default(), &keys, &order, Some(&saved), &Silent).await;
            let document = document.unwrap_or_else(|e| panic!("{claim:?}: {e}"));
            let bytes = std::fs::read(&saved).unwrap();
            let verified = bundle::verify(&bytes);
            let judgement = verified.judgement.unwrap();
            assert_eq!(hex::encode(verified.address), document.bundle_hash);
            assert_eq!(
                (judgement.measured_bps, judgement.guaranteed_bps()),
                (document.measured_bps, document.guaranteed_bps)
            );
            let mut id = [0; 32];
            hex::decode_to_slice(document.id.trim_start_matches("0x"), &mut id).unwrap();
            Measured { document, id }
        }
    }
}

/// Starts the coordinator's daemon, and waits until it says that it is up.
fn coordinator(home: &std::path::Path) -> (Daemon, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let config = format!(
        r#"
        roles = ["coordinator"]
        key = "coordinator.key"
        state_dir = "coordinator"
        log.level = "warn"
        # All hosts are one address here.
        [coordinator]
        listen = "{listen}"
        max_connections_each = 1024
        max_requests_each = 1000000
        max_reading_each = "100s"
        max_newcomers_gas_each = 1000000000
        [chain]
        block_interval = "100ms"
        dispute_window = "1s"
        live_interval = "60s"
        "#
    );
    let file = home.join("coordinator.toml");
    std::fs::write(&file, config).unwrap();
    Keys::create(&home.join("coordinator.key")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(["run", "--config"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let daemon = Daemon(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(ready["ready"], true, "{line}");
    let url = ready["api"].as_str().unwrap().to_owned();
    (daemon, url)
}
