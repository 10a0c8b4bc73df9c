//! The challenger: one thread a session drives the machine, one floods, one makes packets.
//!
//! ```text
//!   coordinator ──events──► channel ─► session thread: machine, control socket ─► statements ──► coordinator
//!                                        │ Prepare ▲ buffers full   kernel stamps every datagram
//!                                        ▼         │
//!                                     pack thread ─ milliseconds ahead ─► flood thread (io_uring) ══► prover
//! ```
//! The control socket is read by the thread that owns the machine, and arrival times are the kernel's,
//! so that a busy scheduler does not lengthen anyone's round trip.

pub(crate) mod answer;
mod control;
mod uplink;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use plumbline_proof::backhaul::challenger::{
    Challenger as Machine, ChallengerAction, Flood, Flooded, Secrets,
};
use plumbline_proof::backhaul::keystream::Train;
use plumbline_proof::backhaul::messages::{ChallengeId, Statement};
use plumbline_proof::backhaul::params::{BURST_PACKETS, Direction};
use plumbline_proof::backhaul::uplink::challenger::{Counted, Counting};
use plumbline_wire::header::IP_UDP_LEN;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::control::Control;
use self::uplink::Ear;
use super::conduct::{Conduct, Speaker};
use super::limits::{Budget, Share, Taken};
use super::node::{self, Node, SESSION_LIMIT};
use super::path;
use crate::clock;
use crate::config::Role;
use crate::config::units::{Bytes, Rate};
use crate::generator::{FloodPlan, RING_BYTES, Shape, Stream, flood, stream};
use crate::journal::{Kept, Seat};

/// Longest wait for a datagram before statements and the machine's clock are looked at again.
const PATIENCE: Duration = Duration::from_millis(5);
/// Statements in flight between the tasks: a session has fewer than 4·64 in all.
const STATEMENTS: usize = 512;

/// The challenger's equipment, shared by its sessions.
pub struct Challenger {
    /// Identity, coordinator and chain.
    pub node: Arc<Node>,
    /// Address it sends from.
    pub address: IpAddr,
    /// Preferred UDP source port of data; a second session at once takes any free one.
    pub data_port: u16,
    /// Preferred UDP port of probes.
    pub control_port: u16,
    /// How it behaves.
    pub conduct: Arc<dyn Conduct>,
    /// What it lends its sessions.
    pub budget: Arc<Budget>,
}

/// What the worker threads of a session answer.
enum Work {
    Prepared(Stream),
    Flooded(Result<Flooded, String>),
    Counted(Result<Counted, String>),
}

impl Challenger {
    /// Serves one challenge to its end.
    ///
    /// # Errors
    /// In words, what ended the session early.
    pub async fn serve(&self, challenge: ChallengeId) -> Result<(), String> {
        let mut follow = self.node.follow(challenge);
        let first = follow
            .next(SESSION_LIMIT)
            .await
            .ok_or("the coordinator gave no notice")?;
        let checked = self.node.check_notice(&first).await?;
        let lifetime = checked.lifetime;
        let begun = self.node.begin(Role::Challenger, &challenge, checked.asked);
        let seat = begun.await?;
        let (heard_in, heard) = channel();
        let (say, mut said) = mpsc::channel(STATEMENTS);
        let session = Session::open(self, &seat, &first, heard, say)?;
        let stop = Arc::new(AtomicBool::new(false));
        let _when_dropped = StopWhenDropped(stop.clone());
        let thread = tokio::task::spawn_blocking({
            let stop = stop.clone();
            move || session.run(&stop)
        });
        let talk = async {
            loop {
                tokio::select! {
                    statement = said.recv() => match statement {
                        Some(s) => self.node.api.say(&self.node.network, &challenge, &s).await.map_err(|e| e.to_string())?,
                        // The session thread has ended, and everything it said is delivered.
                        None => return Ok(()),
                    },
                    statement = follow.next(SESSION_LIMIT) => {
                        let statement = statement.ok_or("the coordinator went silent")?;
                        let _ended = heard_in.send(statement);
                    }
                }
            }
        };
        let talked = tokio::time::timeout(lifetime, talk)
            .await
            .unwrap_or_else(|_| Err("no end in time".to_owned()));
        stop.store(true, Ordering::Relaxed);
        let ran = thread.await.map_err(|e| e.to_string())?;
        // Why the talk ended says more than that the thread was stopped for it.
        talked.and(ran)?;
        node::delivered(seat).await
    }
}

/// Ends a session's thread also when its task is dropped because the process stops.
struct StopWhenDropped(Arc<AtomicBool>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One session's thread.
struct Session {
    node: Arc<Node>,
    seat: Arc<Seat>,
    /// Where the chain is asked from.
    runtime: Handle,
    conduct: Arc<dyn Conduct>,
    machine: Machine,
    control: Control,
    data: Arc<UdpSocket>,
    /// Uplink only: open from the beginning, so that packets are stamped however late the start is heard.
    ear: Option<Ear>,
    heard: Receiver<Statement>,
    say: mpsc::Sender<Kept>,
    work_in: Sender<Work>,
    work: Receiver<Work>,
    shape: Shape,
    packets: Option<Stream>,
    /// The flood is over, which the machine hears with the commitment: the clock is watched until then.
    flooded: Option<Flooded>,
    /// What this session takes of the machine, or why it may not.
    share: Result<Taken, String>,
    /// A packet was sent to try the path.
    tried: bool,
    halt: Arc<AtomicBool>,
    watch: clock::Watch,
    first: Vec<ChallengerAction>,
}

impl Session {
    fn open(
        role: &Challenger,
        seat: &Arc<Seat>,
        notice: &Statement,
        heard: Receiver<Statement>,
        say: mpsc::Sender<Kept>,
    ) -> Result<Self, String> {
        let io = |e: std::io::Error| format!("cannot bind {}: {e}", role.address);
        let data = bind(role.address, role.data_port).map_err(io)?;
        let control = bind(role.address, role.control_port).map_err(io)?;
        for socket in [&data, &control] {
            path::whole(socket, role.address.is_ipv6()).map_err(|e| e.to_string())?;
        }
        let control = Control::new(control).map_err(io)?;
        let addresses = (
            data.local_addr().map_err(io)?,
            control.address().map_err(io)?,
        );
        let key = &role.node.network;
        let secrets = match role.conduct.secrets(key, seat.challenge()) {
            Some(secrets) => secrets,
            None => Secrets::new(node::random()?, node::random()?),
        };
        let (machine, first) = Machine::new(notice, key, secrets, addresses.0, addresses.1)
            .map_err(|e| e.to_string())?;
        let data = Arc::new(data);
        let notice = &machine.record().notice.message;
        let (terms, price) = (notice.terms, notice.price_per_byte);
        let up = terms.direction == Direction::Up;
        let rate = terms.offer_each_bps();
        let shape = Shape::new(terms.size().payload(), rate, RING_BYTES);
        let bytes = terms
            .cap_packets()
            .saturating_mul(terms.packet_bytes.into());
        let share = role.budget.take(Share {
            price,
            rate: Rate(rate),
            bytes: Bytes(bytes),
            memory: Bytes(if up { 0 } else { shape.bytes() as u64 }),
        });
        let ear = up.then(|| Ear::new(data.clone())).transpose()?;
        let (work_in, work) = channel();
        Ok(Self {
            node: role.node.clone(),
            seat: seat.clone(),
            runtime: Handle::current(),
            conduct: role.conduct.clone(),
            machine,
            control,
            data,
            ear,
            heard,
            say,
            work_in,
            work,
            shape,
            packets: None,
            flooded: None,
            share,
            tried: false,
            halt: Arc::new(AtomicBool::new(false)),
            watch: clock::Watch::start(),
            first,
        })
    }

    /// To its end.
    fn run(mut self, stop: &AtomicBool) -> Result<(), String> {
        let mut first = std::mem::take(&mut self.first);
        if let Err(why) = &self.share {
            let key = self.node.network.clone();
            first.extend(self.machine.give_up(&key, why));
        }
        let ended = self
            .act(first)
            .and_then(|done| if done { Ok(()) } else { self.turns(stop) });
        self.halt.store(true, Ordering::Relaxed);
        ended
    }

    fn turns(&mut self, stop: &AtomicBool) -> Result<(), String> {
        let key = self.node.network.clone();
        let mut buffer = [0u8; 2048];
        while !stop.load(Ordering::Relaxed) {
            let now = clock::realtime_ns();
            let wait = Duration::from_nanos(self.machine.wake_ns().saturating_sub(now))
                .clamp(Duration::from_micros(200), PATIENCE);
            let mut actions = Vec::new();
            if let Some((from, length, at_ns)) = self.control.receive(&mut buffer, wait) {
                actions.extend(self.machine.datagram(from, &buffer[..length], at_ns));
            }
            while let Ok(statement) = self.heard.try_recv() {
                self.conduct.heard(&statement);
                let now_ns = clock::realtime_ns();
                actions.extend(match self.believes(&statement) {
                    Ok(()) => self.machine.hear(&key, &statement, now_ns),
                    Err(why) => self.machine.give_up(&key, &why),
                });
            }
            self.try_path();
            while let Ok(work) = self.work.try_recv() {
                match work {
                    Work::Prepared(packets) => {
                        self.packets = Some(packets);
                        self.machine.prepared();
                    }
                    Work::Flooded(outcome) => self.flooded = Some(outcome?),
                    Work::Counted(counted) => self.machine.counted(counted?),
                }
            }
            if self.halt.load(Ordering::Relaxed)
                && let Some(flooded) = self.flooded.take()
            {
                self.machine.flooded(Flooded {
                    clock_error_ns: self.watch.error_ns(),
                    ..flooded
                });
            }
            actions.extend(
                self.machine
                    .tick(&key, &self.node.settler, clock::realtime_ns()),
            );
            if self.act(actions)? {
                return Ok(());
            }
        }
        Err("stopped".into())
    }

    /// What the chain must say too: where the prover is, and that this set-up is under way.
    fn believes(&self, statement: &Statement) -> Result<(), String> {
        let record = self.machine.record();
        match statement {
            Statement::Consent(signed) => match signed.open() {
                Ok(consent) => {
                    let notice = &record.notice.message;
                    self.runtime
                        .block_on(self.node.check_address(notice, &consent))
                }
                // The machine says what is wrong with it.
                Err(_) => Ok(()),
            },
            Statement::Begun(_) => self.runtime.block_on(self.node.check_anchor(record)),
            _ => Ok(()),
        }
    }

    /// One packet as long as the flood's, while the probes go out: a router that it is too long for says so.
    fn try_path(&mut self) {
        if self.tried {
            return;
        }
        if let Some((to, datagram)) = self.machine.trial(clock::realtime_ns()) {
            self.tried = true;
            self.control.send(to, &datagram);
        }
    }

    /// Whether the path to the prover carries the packets, as far as the kernel has learned.
    fn path_carries(&self) -> Result<(), String> {
        let record = self.machine.record();
        let Some(consent) = &record.consent else {
            return Ok(());
        };
        let from = self.control.address().map_err(|e| e.to_string())?;
        let packet_bytes = record.notice.message.terms.packet_bytes;
        let to = consent.message.data;
        path::carries(from.ip(), to, packet_bytes).map_err(|e| e.to_string())
    }

    fn tell(&self, statement: Statement) -> Result<(), String> {
        let speaker = Speaker {
            record: self.machine.record(),
            network: &self.node.network,
            settler: &self.node.settler,
        };
        let Some(statement) = self.conduct.say(&speaker, statement) else {
            return Ok(());
        };
        if let Statement::Report(_) = statement {
            let record = self.machine.record();
            self.runtime.block_on(self.node.check_anchor(record))?;
        }
        let is_ready = matches!(statement, Statement::Ready(_));
        let (index, seed) = (self.machine.index(), self.machine.seed());
        if is_ready {
            let owed = self.node.journal.owe(self.seat.challenge(), index, &seed);
            owed.map_err(|e| e.to_string())?;
        }
        let kept = self.seat.keep(statement).map_err(|e| e.to_string())?;
        if is_ready && self.conduct.answers() {
            let id = (*self.seat.challenge()).into();
            self.runtime
                .spawn(answer::watch(self.node.clone(), id, index, seed.into()));
        }
        let sent = self.say.blocking_send(kept);
        sent.map_err(|_| "the session was given up".to_owned())
    }

    /// Does what the machine wants; true when it is done.
    fn act(&mut self, actions: Vec<ChallengerAction>) -> Result<bool, String> {
        let mut done = false;
        for action in actions {
            match action {
                ChallengerAction::Say(statement) => {
                    if matches!(statement, Statement::Ready(_))
                        && let Err(why) = self.path_carries()
                    {
                        let key = self.node.network.clone();
                        let last = self.machine.give_up(&key, &why);
                        return self.act(last);
                    }
                    self.tell(statement)?;
                }
                ChallengerAction::Prepare(train, count) => self.prepare(train, count)?,
                ChallengerAction::Send(to, datagram) => self.control.send(to, &datagram),
                ChallengerAction::Flood(plan) => {
                    self.spent();
                    self.flood(plan)?;
                }
                ChallengerAction::Count(counting) => {
                    self.spent();
                    self.count(*counting)?;
                }
                ChallengerAction::Stop => self.halt.store(true, Ordering::Relaxed),
                ChallengerAction::Done => done = true,
                ChallengerAction::Fail(why) => return Err(why),
            }
        }
        Ok(done)
    }

    /// From here on packets are sent or received.
    fn spent(&mut self) {
        if let Ok(share) = &mut self.share {
            share.used();
        }
    }

    fn prepare(&self, mut train: Box<Train>, count: usize) -> Result<(), String> {
        let (answer, conduct) = (self.work_in.clone(), self.conduct.clone());
        let length = self.machine.record().notice.message.terms.size().payload();
        let (packer, packets) = stream(self.shape, count as u64);
        spawn("plumbline-pack", move || {
            let mut scratch = Vec::new();
            let make = |first, chunk: &mut [u8]| {
                train.fill(first, chunk, &mut scratch);
                conduct.packets(chunk, length, first);
            };
            packer.run(make, || {
                let _gone = answer.send(Work::Prepared(packets));
            });
        })
    }

    fn count(&mut self, counting: Counting) -> Result<(), String> {
        let ear = self.ear.take().ok_or("the data socket counts already")?;
        let (halt, answer, watch) = (self.halt.clone(), self.work_in.clone(), self.watch);
        spawn("plumbline-count", move || {
            let _gone = answer.send(Work::Counted(ear.count(counting, &halt, watch)));
        })
    }

    fn flood(&mut self, plan: Flood) -> Result<(), String> {
        let plan = self.conduct.flood(plan);
        self.data
            .connect(plan.to)
            .map_err(|e| format!("cannot reach {}: {e}", plan.to))?;
        let (socket, halt, answer, watch) = (
            self.data.clone(),
            self.halt.clone(),
            self.work_in.clone(),
            self.watch,
        );
        let mut packets = self.packets.take().ok_or("no packets are made")?;
        let terms = self.machine.record().notice.message.terms;
        let packet_len = terms.size().payload();
        // The generator counts the headers of IPv4.
        let rate_bps = plan
            .rate_bps
            .saturating_mul((packet_len + IP_UDP_LEN) as u64)
            / u64::from(terms.packet_bytes);
        spawn("plumbline-flood", move || {
            let plan = FloodPlan {
                socket: &socket,
                packet_len,
                rate_bps,
                burst_packets: BURST_PACKETS,
                jitter: plan.jitter,
                duration_ns: terms.duration_ns(),
                start_realtime_ns: plan.start_ns,
                deadline_realtime_ns: plan.deadline_ns,
                stop: &halt,
            };
            let outcome = flood(&plan, &mut packets);
            let outcome = outcome.map_err(|e| e.to_string()).map(|o| {
                tracing::info!(engine = o.engine, sent = o.sent, ended = ?o.ended, late_p99_us = o.gaps.value_at_quantile(0.99) / 1000, missed_us = o.missed_ns / 1000, starved = o.starved, "flood over");
                Flooded {
                    first_ns: o.first_send_ns,
                    sent: o.sent,
                    log: o.log,
                    clock: clock::NAME.into(),
                    clock_error_ns: watch.error_ns(),
                }
            });
            let _gone = answer.send(Work::Flooded(outcome));
        })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(work)
        .map(drop)
        .map_err(|e| format!("no thread for {name}: {e}"))
}

/// The preferred port, or any free one if another session has it.
fn bind(address: IpAddr, port: u16) -> std::io::Result<UdpSocket> {
    UdpSocket::bind((address, port)).or_else(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => UdpSocket::bind(SocketAddr::from((address, 0))),
        _ => Err(e),
    })
}
