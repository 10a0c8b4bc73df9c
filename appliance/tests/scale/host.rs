//! A simulated host: the product's registration, heartbeats, discovery, log and notice check, over HTTP;
//! the product's machine, but on a modelled link instead of sockets.
//!
//! ```text
//!  coordinator ◄─ HTTP ─► node (the product's) ─ lines ─► scene: machine, link
//!       ▲                                                   │
//!       └────────────────── statements ◄────────────────────┘
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plumbline::chain::client::role;
use plumbline::config::Role;
use plumbline::journal::Journal;
use plumbline::keyfile::Keys;
use plumbline::role::node::{self, Joining, Node};
use plumbline::role::view::View;
use plumbline_proof::backhaul::messages::{ChallengeId, Statement};
use plumbline_proof::backhaul::record::Record;
use plumbline_trust::Address;

use super::scene::{Scene, Seat, Told};

/// A session that has not ended by then is given up, as the product's roles do.
const SESSION_LIMIT: Duration = Duration::from_secs(120);
const STAKE: u128 = 1_000_000;
/// Where a prover takes data and probes, and where a challenger sends them from: the product's own.
const PORTS: [(u16, u16); 2] = [(7301, 7302), (7311, 7312)];

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Prover,
    Challenger,
}

/// What went on that nobody outside can see.
#[derive(Default)]
pub(crate) struct Findings {
    /// What was refused or failed; an honest town has none.
    pub(crate) troubles: Mutex<Vec<String>>,
    /// How long before its first packet a challenger heard that it is to send, ns; negative: after it.
    pub(crate) leads: Mutex<HashMap<ChallengeId, Vec<i64>>>,
}

impl Findings {
    pub(crate) fn trouble(&self, what: String) {
        self.troubles.lock().unwrap().push(what);
    }
}

/// Where hosts of one session meet: each session on its prover's link, in a thread of its own.
pub(crate) struct Square {
    /// Rate of each prover's link, bit/s at the IP layer.
    pub(crate) links: Mutex<HashMap<Address, u64>>,
    pub(crate) seed: u64,
    pub(crate) findings: Arc<Findings>,
    scenes: Mutex<HashMap<ChallengeId, Sender<Told>>>,
}

impl Square {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            links: Mutex::default(),
            seed,
            findings: Arc::default(),
            scenes: Mutex::default(),
        }
    }

    fn scene(&self, notice: &Statement) -> Result<Sender<Told>, String> {
        let record = Record::open(notice).map_err(|e| e.to_string())?;
        let notice = &record.notice.message;
        let rate_bps = self
            .links
            .lock()
            .unwrap()
            .get(&notice.prover.address)
            .copied();
        let rate_bps = rate_bps.ok_or("a prover without a link")?;
        let mut scenes = self.scenes.lock().unwrap();
        let scene = scenes.entry(notice.challenge).or_insert_with(|| {
            let (tell, told) = channel();
            let scene = Scene::new(notice, rate_bps, self.seed, self.findings.clone());
            std::thread::spawn(move || scene.live(&told));
            tell
        });
        Ok(scene.clone())
    }
}

/// One host.
pub(crate) struct Host {
    pub(crate) node: Arc<Node>,
    pub(crate) address: Address,
    part: Part,
    data: SocketAddr,
    control: SocketAddr,
    square: Arc<Square>,
}

impl Host {
    /// Makes its keys, registers, sends its first heartbeat: from then on it can be drawn. `number` is
    /// its own in the town.
    pub(crate) async fn enter(
        home: &Path,
        url: &str,
        (part, number): (Part, u8),
        square: Arc<Square>,
    ) -> Self {
        let keys = Keys::create(&home.join(format!("{part:?}-{number}.key"))).unwrap();
        let journal = Journal::open(&home.join(format!("{part:?}-{number}")), &keys.address());
        let node = Node::connect(url, &View::default(), &keys, journal.unwrap())
            .await
            .unwrap();
        let (data, control) = PORTS[part as usize];
        let ip = [10, 20 + part as u8, number, 1];
        let data = SocketAddr::from((ip, data));
        let (roles, max_bps) = match part {
            Part::Prover => (role::PROVER, u64::MAX),
            Part::Challenger => (role::CHALLENGER, 0),
        };
        let joining = Joining {
            roles,
            operator: Some(format!("{part:?} {number}")),
            endpoint: data.to_string(),
            max_bps,
            stake: STAKE,
            faucet: true,
        };
        node::join(&node.chain, &keys, &joining).await.unwrap();
        node::first_heartbeat(&node.chain, &node.network)
            .await
            .unwrap();
        Self {
            node: Arc::new(node),
            address: keys.address(),
            part,
            data,
            control: SocketAddr::from((ip, control)),
            square,
        }
    }

    pub(crate) fn is_prover(&self) -> bool {
        self.part == Part::Prover
    }

    /// Heartbeats, every `every` from `late` on, and sessions, until the runtime ends.
    pub(crate) fn start(self: &Arc<Self>, late: Duration, every: Duration) {
        let node = self.node.clone();
        tokio::spawn(async move {
            tokio::time::sleep(late).await;
            node::heartbeats(node.chain.clone(), node.network.clone(), every).await;
        });
        let host = self.clone();
        tokio::spawn(async move {
            let serve = |id| {
                let host = host.clone();
                async move {
                    if let Err(why) = host.serve(id).await {
                        let who = format!("{:?} {}", host.part, host.address);
                        host.square.findings.trouble(format!("{who}: {why}"));
                    }
                }
            };
            host.node.discover(serve).await;
        });
    }

    /// One session, as the product's roles serve it.
    async fn serve(&self, challenge: ChallengeId) -> Result<(), String> {
        let mut follow = self.node.follow(challenge);
        let first = follow.next(SESSION_LIMIT).await.ok_or("no notice")?;
        let checked = self.node.check_notice(&first).await?;
        let lifetime = checked.lifetime.min(SESSION_LIMIT);
        let role = match self.part {
            Part::Prover => Role::Prover,
            Part::Challenger => Role::Challenger,
        };
        let begun = self.node.begin(role, &challenge, checked.asked).await?;
        let scene = self.square.scene(&first)?;
        let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
        let seat = Seat {
            node: self.node.clone(),
            who: self.address,
            data: self.data,
            control: self.control,
            say,
        };
        let entered = match self.part {
            Part::Prover => Told::Prover(seat, first),
            Part::Challenger => Told::Challenger(seat, first),
        };
        scene.send(entered).map_err(|_| "the session is over")?;
        let talk = async {
            loop {
                tokio::select! {
                    statement = said.recv() => match statement {
                        Some(s) => {
                            let name = s.name();
                            let seat = begun.clone();
                            let kept = tokio::task::spawn_blocking(move || seat.keep(s)).await;
                            let kept = kept.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
                            self.node.api.say(&self.node.network, &challenge, &kept).await.map_err(|e| format!("{name}: {e}"))?;
                        }
                        None => return Ok(()),
                    },
                    line = follow.next(SESSION_LIMIT) => {
                        let line = line.ok_or("the coordinator went silent")?;
                        let _over = scene.send(Told::Line(self.address, line));
                    }
                }
            }
        };
        tokio::time::timeout(lifetime, talk)
            .await
            .unwrap_or_else(|_| Err("no end in time".to_owned()))
    }
}
