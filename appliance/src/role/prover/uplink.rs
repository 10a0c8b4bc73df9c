//! The other direction: consents, sends to each challenger from its seed on, says what was sent.
//!
//! ```text
//!   coordinator ──events──► run ──Open──► echo thread: probes, seeds
//!        ▲                   │ Arm            │ seed_i, once
//!        │                   └─► send ◄───────┘ ─► pack thread ─ milliseconds ahead ─► flood thread ══► challenger i
//!        └──Commit, Reveal───────┴─ sent_i ◄────────────────────────────────────────────────┘
//! ```
//! One socket and two threads a challenger, by the generator that challengers use, in the memory of one of them,
//! allocated before the start; no privilege. Nothing can be made before a challenger releases its seed. One that
//! cannot be sent to has a count of its own, and the others theirs.
//! Tests: `appliance/tests/netns/uplink.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plumbline_proof::backhaul::messages::{Accounting, ChallengeId};
use plumbline_proof::backhaul::pace;
use plumbline_proof::backhaul::params::{BURST_PACKETS, Terms};
use plumbline_proof::backhaul::prover::{Opening, Prover as Machine, ProverAction};
use plumbline_proof::backhaul::uplink::packets_each;
use plumbline_proof::backhaul::uplink::prover::{Flood, Sent};
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::IP_UDP_LEN;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use super::super::uplink::ECHOED;
use super::echo::{Guests, Peer};
use super::{Prover, TICK};
use crate::clock;
use crate::generator::{self, FloodOutcome, FloodPlan, Packer, RING_BYTES, Shape, flood};
use crate::journal::Seat;
use crate::role::node::{Follow, SESSION_LIMIT};
use crate::role::path;

/// What its secret key gives the offsets of its bursts from.
const OFFSETS: &str = "plumbline 2026-11 backhaul uplink pace v1";

/// Buffers for one challenger's packets: both ends, and the key that they are made under.
struct Buffers {
    packer: Packer,
    packets: generator::Stream,
    key: SessionKey,
}

/// A session as it is open; dropping it dismisses the guests and ends floods.
struct Live<'a> {
    prover: &'a Prover,
    guests: Arc<Guests>,
    challenge: ChallengeId,
    /// Index and seed of who has released it.
    seeds: UnboundedReceiver<(u16, [u8; 32])>,
    buffers: BTreeMap<u16, Buffers>,
    stop: Arc<AtomicBool>,
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.prover.echo.dismiss(&self.guests);
    }
}

impl Prover {
    /// Lives one uplink challenge to its end.
    pub(super) async fn run_uplink(
        &self,
        seat: &Arc<Seat>,
        machine: &mut Machine,
        follow: &mut Follow,
    ) -> Result<(), String> {
        let key = self.node.network.clone();
        let mut ticks = interval(TICK);
        let mut live: Option<Live<'_>> = None;
        let mut armed = None;
        while armed.is_none() {
            let actions = tokio::select! {
                statement = follow.next(SESSION_LIMIT) => {
                    let statement = statement.ok_or("the coordinator went silent")?;
                    self.hear(machine, &statement).await?
                }
                _ = ticks.tick() => machine.tick(&key, clock::realtime_ns()),
            };
            for action in actions {
                match action {
                    ProverAction::Say(statement) => self.say(seat, machine, statement).await?,
                    ProverAction::Open(opening) => live = Some(self.open_uplink(machine, &opening)),
                    // The start follows among these actions: it is said before anything is sent.
                    ProverAction::Arm { deadline_ns, .. } => armed = Some(deadline_ns),
                    ProverAction::Fail(why) => return Err(why),
                }
            }
        }
        let (live, until_ns) = live.zip(armed).ok_or("no session is open")?;
        let sent = live.send(machine, self.data.ip(), until_ns).await?;
        for action in machine.sent(&key, &self.node.settler, sent) {
            match action {
                ProverAction::Say(statement) => self.say(seat, machine, statement).await?,
                ProverAction::Fail(why) => return Err(why),
                ProverAction::Open(_) | ProverAction::Arm { .. } => {}
            }
        }
        Ok(())
    }

    fn open_uplink(&self, machine: &Machine, opening: &Opening) -> Live<'_> {
        let controls: BTreeMap<u16, SocketAddr> = opening.controls.iter().copied().collect();
        let challenge = *machine.record().challenge();
        let terms = &machine.record().notice.message.terms;
        let most = RING_BYTES / usize::from(terms.n.max(1));
        let shape = Shape::new(terms.size().payload(), terms.offer_each_bps(), most);
        let (tell, seeds) = unbounded_channel();
        let mut buffers = BTreeMap::new();
        let committed = machine.record().seeds.iter();
        let peers = (0u16..).zip(opening.keys.iter().zip(committed));
        let peers = peers.map(|(index, (key, seed))| {
            let (key, to) = (key.clone()?, *controls.get(&index)?);
            let hash = seed.as_ref()?.message.seed_hash;
            let (packer, packets) = generator::stream(shape, packets_each(terms));
            let peer = Peer::new(to, key.clone()).awaited(hash, tell.clone());
            buffers.insert(
                index,
                Buffers {
                    packer,
                    packets,
                    key,
                },
            );
            Some(peer)
        });
        Live {
            prover: self,
            guests: self.echo.admit(challenge, peers.collect()),
            challenge,
            seeds,
            buffers,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }
}

impl Live<'_> {
    /// Sends to each from its seed on, until `until_ns`, and waits for the end.
    async fn send(
        mut self,
        machine: &Machine,
        from: IpAddr,
        until_ns: u64,
    ) -> Result<Sent, String> {
        let terms = machine.record().notice.message.terms;
        let mut threads: JoinSet<(u16, Result<FloodOutcome, String>)> = JoinSet::new();
        // Senders that differ in one bit have offsets that have nothing to do with each other.
        let jitter = pace::jitter(&self.prover.node.network.derive(OFFSETS, &self.challenge));
        while !self.buffers.is_empty() {
            let left = Duration::from_nanos(until_ns.saturating_sub(clock::realtime_ns()));
            let Ok(Some((index, seed))) = timeout(left, self.seeds.recv()).await else {
                break;
            };
            let Some(buffers) = self.buffers.remove(&index) else {
                continue;
            };
            let Some(plan) = machine.released(index, &buffers.key, &seed) else {
                continue;
            };
            let stop = self.stop.clone();
            let jitter = jitter ^ u64::from(index).rotate_right(16);
            threads.spawn_blocking(move || {
                let outcome = send((plan, &terms), from, (buffers, jitter), &stop);
                (index, outcome)
            });
        }
        let mut sent = Sent {
            counts: vec![0; terms.n.into()],
            ..Sent::default()
        };
        let mut fates: BTreeMap<String, u64> = BTreeMap::new();
        let mut engines: Vec<&'static str> = Vec::new();
        while let Some(ended) = threads.join_next().await {
            let (index, outcome) = ended.map_err(|e| format!("a flood failed: {e}"))?;
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(why) => {
                    tracing::warn!(challenger = index, %why, "nothing could be sent");
                    *fates.entry("flood_failed".into()).or_default() += 1;
                    continue;
                }
            };
            tracing::info!(challenger = index, engine = outcome.engine, sent = outcome.sent, ended = ?outcome.ended, late_p99_us = outcome.gaps.value_at_quantile(0.99) / 1000, "flood over");
            if let Some(count) = sent.counts.get_mut(usize::from(index)) {
                *count = u32::try_from(outcome.sent).unwrap_or(u32::MAX);
            }
            if let Some((first, last)) = outcome.first_send_ns.zip(outcome.last_send_ns) {
                let (from, to) = sent.span_ns;
                let from = if from == 0 { first } else { from.min(first) };
                sent.span_ns = (from, to.max(last));
            }
            for (errno, count) in &outcome.errors {
                *fates.entry(format!("send_errno_{errno}")).or_default() += count;
            }
            engines.push(outcome.engine);
        }
        engines.sort_unstable();
        engines.dedup();
        let senders = engines.iter().map(|e| ("sender", *e));
        // They share the link that is measured with the data.
        fates.insert(ECHOED.into(), self.guests.echoed());
        sent.accounting = Accounting {
            fates: fates.into_iter().collect(),
            control_received: self.guests.received.load(Ordering::Relaxed),
            datapath: senders.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            ..Accounting::default()
        };
        Ok(sent)
    }
}

/// Makes and sends one challenger's packets, from a socket of its own.
fn send(
    (plan, terms): (Flood, &Terms),
    from: IpAddr,
    (buffers, jitter): (Buffers, u64),
    stop: &AtomicBool,
) -> Result<FloodOutcome, String> {
    path::carries(from, plan.to, terms.packet_bytes).map_err(|e| e.to_string())?;
    let socket = UdpSocket::bind((from, 0)).map_err(|e| format!("cannot bind {from}: {e}"))?;
    path::whole(&socket, from.is_ipv6()).map_err(|e| e.to_string())?;
    socket
        .connect(plan.to)
        .map_err(|e| format!("cannot reach {}: {e}", plan.to))?;
    let packet_len = terms.size().payload();
    // The generator counts the headers of IPv4.
    let rate_bps = plan
        .rate_bps
        .saturating_mul((packet_len + IP_UDP_LEN) as u64)
        / u64::from(terms.packet_bytes);
    let (mut train, mut packets) = (plan.train, buffers.packets);
    let plan = FloodPlan {
        socket: &socket,
        packet_len,
        rate_bps,
        burst_packets: BURST_PACKETS,
        jitter,
        duration_ns: terms.duration_ns(),
        start_realtime_ns: clock::realtime_ns(),
        deadline_realtime_ns: plan.deadline_ns,
        stop,
    };
    std::thread::scope(|scope| {
        let mut scratch = Vec::new();
        let make = move |first, chunk: &mut [u8]| train.fill(first, chunk, &mut scratch);
        let packs = std::thread::Builder::new().name("plumbline-pack".into());
        packs
            .spawn_scoped(scope, move || buffers.packer.run(make, || ()))
            .map_err(|e| format!("no thread for packets: {e}"))?;
        let outcome = flood(&plan, &mut packets);
        // Its other end stops with it.
        drop(packets);
        outcome.map_err(|e| e.to_string())
    })
}
