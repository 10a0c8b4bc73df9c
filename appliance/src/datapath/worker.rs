//! A receive thread: one a queue, pinned, and the only one that touches its packets.
//!
//! ```text
//!        ┌─────────────────────── a turn ───────────────────────────────────────────┐
//!  take ≤ 64 ─► header ─► session ─► sink.admit_all ─► lanes of 16 ─► hash ─► accept │
//!        │         │         │           │ (packets stay where they lie: no copy)     │
//!        │     malformed  other_session  counted by the sink                          │
//!        └─ release, post again ─► sink.turn(now) ─► fewer than 16? pause, or wait ───┘
//! ```
//!
//! A few packets fill a few lanes, and waking for each costs more than hashing it. While packets come, the
//! thread pauses for [`MODERATION`] and then looks; it does not ask to be woken, which would cost whoever
//! delivers (on a veth the sender) a microsecond or two a wake-up. So packets wait in the ring, never in a
//! lane, and that long at most. Only after [`LINGER`] without any does it wait for the next to wake it.
//! When a session is nearly complete it does not pause: what follows the last packet is timed.
//!
//! In steady state it allocates nothing, takes no lock, logs nothing, and its only system calls are those
//! that wait (with busy polling: that drives the queue; with a plain socket: that receives).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use plumbline_proof::backhaul::leaf;
use plumbline_wire::{ConsentEntry, ConsentKey, HEADER_LEN, Header, Size};

use crate::clock::realtime_ns;

use super::clock::Reading;
use super::counters::{Live, ThreadCounters};
use super::source::{BATCH, Packet, Source, StampClock};
use super::{Arrived, Leaf, Pace, SessionSink};

/// Longest wait while a session is open: sinks are promised a turn within 10 ms.
const IDLE: Duration = Duration::from_millis(5);
/// How long packets may lie in the ring before they are taken, so that more of them are taken at once: 42
/// packets' time at 10 Gbit/s. Far below what a round trip is measured to, and not applied while a commitment
/// is near.
const MODERATION: Duration = Duration::from_micros(50);
/// How long after the last packet the thread still looks by itself, ns: a pacer's longest gap between two
/// bursts (0.5 ms, twice that where one is early and the next late).
const LINGER_NS: u64 = 1_000_000;
/// How long after the last packet it looks without pausing, when a session is nearly complete, ns: bounded,
/// because it runs before ordinary threads of its core, and the sender may be one of them.
const SPIN_NS: u64 = 200_000;
/// Batches taken at most before a session is closed: what can lie in the receive ring.
const DRAIN_BATCHES: usize = 16_384 / BATCH;

/// A row of the consent table.
pub(super) type Row = (ConsentKey, ConsentEntry);

/// What the thread is asked to do between turns.
pub(super) enum Command {
    /// Give packets to this sink.
    Open {
        id: [u8; 16],
        rows: Vec<Row>,
        sink: Arc<dyn SessionSink>,
        done: Sender<()>,
    },
    /// Replace these rows, where no XDP program decides.
    Consent { rows: Vec<Row>, done: Sender<()> },
    /// Take what has arrived, then forget the sink.
    Close {
        id: [u8; 16],
        rows: Vec<Row>,
        done: Sender<()>,
    },
    /// End.
    Stop,
}

struct Session {
    id: [u8; 16],
    sink: Arc<dyn SessionSink>,
}

/// The thread's own state.
pub(super) struct Worker<S> {
    source: S,
    sessions: Vec<Session>,
    commands: Receiver<Command>,
    counts: ThreadCounters,
    live: Arc<Live>,
    failure: Arc<OnceLock<String>>,
    pace: Pace,
    /// When it last took a packet, `CLOCK_REALTIME` ns.
    last_ns: u64,
}

impl<S: Source> Worker<S> {
    pub(super) fn new(
        source: S,
        commands: Receiver<Command>,
        live: Arc<Live>,
        failure: Arc<OnceLock<String>>,
    ) -> Self {
        let sessions = Vec::with_capacity(plumbline_wire::consent::SESSIONS);
        Self {
            source,
            sessions,
            commands,
            counts: ThreadCounters::default(),
            live,
            failure,
            pace: Pace::Calm,
            last_ns: 0,
        }
    }

    /// Runs until told to stop, or until waiting fails.
    pub(super) fn run(mut self) {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(TryRecvError::Empty) => {}
            }
            let (taken, now_ns) = self.turn();
            if taken > 0 {
                self.last_ns = now_ns;
            }
            let quiet_ns = now_ns.saturating_sub(self.last_ns);
            if taken >= leaf::LANES || (self.pace == Pace::Prompt && quiet_ns < SPIN_NS) {
                continue;
            }
            if quiet_ns < LINGER_NS && !self.source.drives() {
                sleep(MODERATION);
                continue;
            }
            let timeout = (!self.sessions.is_empty()).then_some(IDLE);
            if let Err(e) = self.source.wait(timeout) {
                let _ = self.failure.set(e.to_string());
                return;
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open {
                id,
                rows,
                sink,
                done,
            } => {
                self.source.consent(&rows);
                self.sessions.push(Session { id, sink });
                let _ = done.send(());
            }
            Command::Consent { rows, done } => {
                self.source.consent(&rows);
                let _ = done.send(());
            }
            Command::Close { id, rows, done } => {
                // Its senders are not consented to any more; what they sent before still counts.
                for _ in 0..DRAIN_BATCHES {
                    if self.turn().0 == 0 {
                        break;
                    }
                }
                self.source.withdraw(&rows);
                self.sessions.retain(|s| s.id != id);
                let _ = done.send(());
            }
            Command::Stop => {}
        }
    }

    /// One turn; returns how many packets it took, and when it ended (`CLOCK_REALTIME` ns).
    fn turn(&mut self) -> (usize, u64) {
        let now = Reading::take();
        let taken = self.source.receive(now.tai_ns);
        let mut now_ns = now.realtime_ns;
        if taken > 0 {
            batch(&self.source, taken, &self.sessions, &mut self.counts, now);
            self.source.release();
            self.live.publish(&self.counts);
            now_ns = realtime_ns();
        }
        let paces = self.sessions.iter().map(|s| s.sink.turn(now_ns));
        self.pace = paces.max().unwrap_or(Pace::Calm);
        (taken, now_ns)
    }
}

fn sleep(time: Duration) {
    let nanos = i64::from(time.subsec_nanos());
    // A signal ends it early, which does no harm.
    let _ = clock_nanosleep(
        ClockId::CLOCK_MONOTONIC,
        ClockNanosleepFlags::empty(),
        &TimeSpec::new(0, nanos),
    );
}

/// Up to sixteen packets of one size that are hashed together.
struct Lanes<'a> {
    size: Size,
    packets: [&'a [u8]; leaf::LANES],
    sessions: [usize; leaf::LANES],
    leaves: [Leaf; leaf::LANES],
    used: usize,
}

impl<'a> Lanes<'a> {
    fn new() -> Self {
        let nobody = Leaf {
            index: 0,
            sequence: 0,
            arrival_ns: 0,
            digest: [0; 32],
        };
        Self {
            size: Size::Standard,
            packets: [&[]; leaf::LANES],
            sessions: [0; leaf::LANES],
            leaves: [nobody; leaf::LANES],
            used: 0,
        }
    }

    fn push(&mut self, packet: Packet<'a>, session: usize, leaf: Leaf, sessions: &[Session]) {
        if packet.size != self.size {
            self.flush(sessions);
            self.size = packet.size;
        }
        self.packets[self.used] = packet.payload;
        self.sessions[self.used] = session;
        self.leaves[self.used] = leaf;
        self.used += 1;
        if self.used == leaf::LANES {
            self.flush(sessions);
        }
    }

    fn flush(&mut self, sessions: &[Session]) {
        let mut digests = [[0; 32]; leaf::LANES];
        leaf::hash(self.size, &self.packets[..self.used], &mut digests);
        let leaves = &mut self.leaves[..self.used];
        for (leaf, digest) in leaves.iter_mut().zip(&digests) {
            leaf.digest = *digest;
        }
        // Runs of packets of one session; nearly always one run.
        let mut rest = &self.leaves[..self.used];
        for run in self.sessions[..self.used].chunk_by(|a, b| a == b) {
            let (mine, after) = rest.split_at(run.len());
            sessions[run[0]].sink.accept(mine);
            rest = after;
        }
        self.used = 0;
    }
}

/// Packets of one session that came one after another.
struct Run<'a> {
    session: usize,
    packets: [Packet<'a>; BATCH],
    arrived: [Arrived<'a>; BATCH],
    used: usize,
}

impl<'a> Run<'a> {
    /// Begins with a packet: there is nothing to fill the rest with before.
    fn of(session: usize, packet: Packet<'a>, arrived: Arrived<'a>) -> Self {
        Self {
            session,
            packets: [packet; BATCH],
            arrived: [arrived; BATCH],
            used: 1,
        }
    }

    fn push(
        &mut self,
        session: usize,
        packet: Packet<'a>,
        arrived: Arrived<'a>,
        lanes: &mut Lanes<'a>,
        sessions: &[Session],
    ) {
        if session != self.session {
            self.flush(lanes, sessions);
            self.session = session;
        }
        // A batch is no longer than a run can be.
        self.packets[self.used] = packet;
        self.arrived[self.used] = arrived;
        self.used += 1;
    }

    /// Has the session admit them, and puts those that it admits into lanes.
    fn flush(&mut self, lanes: &mut Lanes<'a>, sessions: &[Session]) {
        if self.used == 0 {
            return;
        }
        let arrived = &self.arrived[..self.used];
        let admitted = sessions[self.session].sink.admit_all(arrived);
        for (i, (packet, arrived)) in self.packets.iter().zip(arrived).enumerate() {
            if admitted >> i & 1 == 1 {
                let leaf = Leaf {
                    index: arrived.header.index,
                    sequence: arrived.header.sequence,
                    arrival_ns: arrived.arrival_ns,
                    digest: [0; 32],
                };
                lanes.push(*packet, self.session, leaf, sessions);
            }
        }
        self.used = 0;
    }
}

fn batch<S: Source>(
    source: &S,
    taken: usize,
    sessions: &[Session],
    counts: &mut ThreadCounters,
    now: Reading,
) {
    let mut lanes = Lanes::new();
    let mut run: Option<Run<'_>> = None;
    for i in 0..taken.min(BATCH) {
        let Some(packet) = source.packet(i) else {
            if !S::COUNTS_REFUSALS {
                counts.frames += 1;
                counts.malformed += 1;
            }
            continue;
        };
        counts.frames += 1;
        let parsed = packet
            .payload
            .first_chunk::<HEADER_LEN>()
            .and_then(|raw| Header::from_bytes(raw).ok().map(|header| (raw, header)));
        let Some((raw, header)) = parsed else {
            counts.malformed += 1;
            continue;
        };
        let Some(session) = sessions.iter().position(|s| s.id == header.session) else {
            counts.other_session += 1;
            continue;
        };
        let arrival_ns = match S::CLOCK {
            StampClock::Tai => now.realtime_of_tai(packet.stamp_ns),
            StampClock::Realtime => packet.stamp_ns,
        };
        let arrived = Arrived {
            header,
            raw,
            arrival_ns,
        };
        match &mut run {
            Some(run) => run.push(session, packet, arrived, &mut lanes, sessions),
            None => run = Some(Run::of(session, packet, arrived)),
        }
    }
    if let Some(run) = &mut run {
        run.flush(&mut lanes, sessions);
    }
    lanes.flush(sessions);
}
