//! The other direction: consents, makes packets, sends, says what was sent.
//!
//! ```text
//!   coordinator ──events──► run ──Open──► echo thread: probes          ┌► flood thread ══► challenger 1
//!        ▲                   │ └─Open──► pack threads ── full ─── Arm ┼► flood thread ══► challenger 2
//!        └──Commit, Reveal───┴───────────────── sent_i ◄───────────────┴► …
//! ```
//! One socket and two threads a challenger, by the generator that challengers use, in the memory of one of them;
//! no privilege. A challenger that cannot be sent to has a count of its own, and the others theirs.
//! Tests: `appliance/tests/netns/uplink.rs`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use plumbline_proof::backhaul::messages::{Accounting, ChallengeId};
use plumbline_proof::backhaul::pace;
use plumbline_proof::backhaul::params::{BURST_PACKETS, Terms};
use plumbline_proof::backhaul::prover::{Opening, Prover as Machine, ProverAction};
use plumbline_proof::backhaul::uplink::prover::{Flood, Sent, Stream};
use plumbline_wire::header::IP_UDP_LEN;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::super::uplink::ECHOED;
use super::echo::{Guests, Peer};
use super::{Prover, TICK};
use crate::clock;
use crate::generator::{self, FloodOutcome, FloodPlan, RING_BYTES, Shape, Supply, flood};
use crate::journal::Seat;
use crate::role::node::{Follow, SESSION_LIMIT};
use crate::role::path;

/// What its secret key gives the offsets of its bursts from.
const OFFSETS: &str = "plumbline 2026-11 backhaul uplink pace v1";

/// Packets of each challenger.
type Packets = BTreeMap<u16, generator::Stream>;

/// A session as it is open; dropping it dismisses the guests and ends floods.
struct Live<'a> {
    prover: &'a Prover,
    guests: Arc<Guests>,
    challenge: ChallengeId,
    /// Says so when one challenger's buffers are full.
    full: Receiver<()>,
    /// How many are not yet.
    making: usize,
    packets: Packets,
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
        let mut armed = false;
        while !armed {
            let actions = tokio::select! {
                statement = follow.next(SESSION_LIMIT) => {
                    let statement = statement.ok_or("the coordinator went silent")?;
                    self.hear(machine, &statement).await?
                }
                _ = ticks.tick() => machine.tick(&key, clock::realtime_ns()),
            };
            if let Some(live) = &mut live {
                live.collect(machine)?;
            }
            for action in actions {
                match action {
                    ProverAction::Say(statement) => self.say(seat, machine, statement).await?,
                    ProverAction::Open(opening) => live = Some(self.open_uplink(machine, &opening)),
                    // The start follows among these actions: it is said before anything is sent.
                    ProverAction::Arm { .. } => armed = true,
                    ProverAction::Fail(why) => return Err(why),
                }
            }
        }
        let live = live.ok_or("no session is open")?;
        let notice = &machine.record().notice.message;
        let sent = live
            .send(&machine.floods(), self.data.ip(), notice.terms)
            .await?;
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
        let peers = (0u16..).zip(&opening.keys).map(|(index, key)| {
            let control = controls.get(&index).copied();
            control.zip(key.clone()).map(|(to, key)| Peer::new(to, key))
        });
        let challenge = *machine.record().challenge();
        let terms = &machine.record().notice.message.terms;
        let most = RING_BYTES / usize::from(terms.n.max(1));
        let shape = Shape::new(terms.size().payload(), terms.offer_each_bps(), most);
        let (say, full) = channel();
        let mut packets = Packets::new();
        for stream in machine.streams(opening) {
            let (packer, made) = generator::stream(shape, stream.packets);
            packets.insert(stream.index, made);
            let say = say.clone();
            tokio::task::spawn_blocking(move || pack(stream, packer, &say));
        }
        Live {
            prover: self,
            guests: self.echo.admit(challenge, peers.collect()),
            challenge,
            full,
            making: packets.len(),
            packets,
            stop: Arc::new(AtomicBool::new(false)),
        }
    }
}

fn pack(mut stream: Stream, packer: generator::Packer, full: &Sender<()>) {
    let mut scratch = Vec::new();
    let make = |first, chunk: &mut [u8]| stream.train.fill(first, chunk, &mut scratch);
    packer.run(make, || {
        let _gone = full.send(());
    });
}

impl Live<'_> {
    /// Once all buffers are full, the machine may start.
    fn collect(&mut self, machine: &mut Machine) -> Result<(), String> {
        while self.making > 0 {
            match self.full.try_recv() {
                Ok(()) => self.making -= 1,
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err("a pack thread ended early".into()),
            }
            if self.making == 0 {
                machine.made();
            }
        }
        Ok(())
    }

    /// Sends to everyone at once, and waits for the end.
    async fn send(mut self, floods: &[Flood], from: IpAddr, terms: Terms) -> Result<Sent, String> {
        let mut threads: JoinSet<(u16, Result<FloodOutcome, String>)> = JoinSet::new();
        // Senders that differ in one bit have offsets that have nothing to do with each other.
        let jitter = pace::jitter(&self.prover.node.network.derive(OFFSETS, &self.challenge));
        for plan in floods.iter().copied() {
            let Some(mut packets) = self.packets.remove(&plan.index) else {
                continue;
            };
            let stop = self.stop.clone();
            let jitter = jitter ^ u64::from(plan.index).rotate_right(16);
            threads.spawn_blocking(move || {
                let outcome = send((&plan, &terms), from, (&mut packets, jitter), &stop);
                (plan.index, outcome)
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

/// Sends one challenger's packets from a socket of its own.
fn send(
    (plan, terms): (&Flood, &Terms),
    from: IpAddr,
    (packets, jitter): (&mut dyn Supply, u64),
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
    let plan = FloodPlan {
        socket: &socket,
        packet_len,
        rate_bps,
        burst_packets: BURST_PACKETS,
        jitter,
        duration_ns: terms.duration_ns(),
        start_realtime_ns: plan.start_ns,
        deadline_realtime_ns: plan.deadline_ns,
        stop,
    };
    flood(&plan, packets).map_err(|e| e.to_string())
}
