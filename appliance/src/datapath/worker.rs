//! The receive thread: one a queue, pinned, and the only one that touches its packets.
//!
//! ```text
//!        ┌─────────────────────── a turn ───────────────────────────────────────────┐
//!  take ≤ 64 ─► header ─► session ─► sink.admit ─► lanes of 16 ─► hash ─► sink.accept │
//!        │         │         │           │ (frames stay where they lie: no copy)      │
//!        │     malformed  other_session  counted by the sink                          │
//!        └─ release, post again ─► sink.turn(now) ─► nothing taken? wait ≤ 5 ms ──────┘
//! ```
//!
//! In steady state it allocates nothing, takes no lock, logs nothing, and its only system call is the
//! one that waits (with busy polling: that drives the queue; with a plain socket: that receives).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use plumbline_proof::backhaul::leaf;
use plumbline_wire::header::DATA_LEN;
use plumbline_wire::{ConsentEntry, ConsentKey, HEADER_LEN, Header};

use crate::clock::realtime_ns;

use super::SessionSink;
use super::clock::Reading;
use super::counters::{Live, ThreadCounters};
use super::source::{BATCH, Packet, Source, StampClock};

/// Longest wait while a session is open: sinks are promised a turn within 10 ms.
const IDLE: Duration = Duration::from_millis(5);
/// Batches taken at most before a sink is given back: what can lie in the receive ring.
const DRAIN_BATCHES: usize = 4096 / BATCH;

/// A row of the consent table.
pub(super) type Row = (ConsentKey, ConsentEntry);

/// What the thread is asked to do between turns.
pub(super) enum Command {
    /// Take a sink.
    Open {
        id: [u8; 16],
        rows: Vec<Row>,
        sink: Box<dyn SessionSink>,
        done: Sender<()>,
    },
    /// Take what has arrived, then give the sink back.
    Close {
        id: [u8; 16],
        rows: Vec<Row>,
        done: Sender<Option<Box<dyn SessionSink>>>,
    },
    /// End.
    Stop,
}

struct Session {
    id: [u8; 16],
    sink: Box<dyn SessionSink>,
}

/// The thread's own state.
pub(super) struct Worker<S> {
    source: S,
    sessions: Vec<Session>,
    commands: Receiver<Command>,
    counts: ThreadCounters,
    live: Arc<Live>,
    failure: Arc<OnceLock<String>>,
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
            if self.turn() > 0 {
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
            Command::Close { id, rows, done } => {
                // Its senders are not consented to any more; what they sent before still counts.
                for _ in 0..DRAIN_BATCHES {
                    if self.turn() == 0 {
                        break;
                    }
                }
                self.source.withdraw(&rows);
                let at = self.sessions.iter().position(|s| s.id == id);
                let _ = done.send(at.map(|at| self.sessions.swap_remove(at).sink));
            }
            Command::Stop => {}
        }
    }

    /// One turn; returns how many frames it took.
    fn turn(&mut self) -> usize {
        let now = Reading::take();
        let taken = self.source.receive(now.tai_ns);
        let mut now_ns = now.realtime_ns;
        if taken > 0 {
            batch(
                &self.source,
                taken,
                &mut self.sessions,
                &mut self.counts,
                now,
            );
            self.source.release();
            self.live.publish(&self.counts);
            now_ns = realtime_ns();
        }
        for session in &mut self.sessions {
            session.sink.turn(now_ns);
        }
        taken
    }
}

/// A packet that was admitted and waits for its digest.
#[derive(Clone, Copy)]
struct Waiting {
    session: usize,
    index: u16,
    sequence: u64,
    arrival_ns: u64,
}

/// Up to sixteen packets that are hashed together.
struct Lanes<'a> {
    packets: [&'a [u8; DATA_LEN]; leaf::LANES],
    waiting: [Waiting; leaf::LANES],
    used: usize,
}

impl<'a> Lanes<'a> {
    fn new() -> Self {
        static NONE: [u8; DATA_LEN] = [0; DATA_LEN];
        let nobody = Waiting {
            session: 0,
            index: 0,
            sequence: 0,
            arrival_ns: 0,
        };
        Self {
            packets: [&NONE; leaf::LANES],
            waiting: [nobody; leaf::LANES],
            used: 0,
        }
    }

    fn push(&mut self, packet: &'a [u8; DATA_LEN], waiting: Waiting, sessions: &mut [Session]) {
        self.packets[self.used] = packet;
        self.waiting[self.used] = waiting;
        self.used += 1;
        if self.used == leaf::LANES {
            self.flush(sessions);
        }
    }

    fn flush(&mut self, sessions: &mut [Session]) {
        let mut leaves = [[0; 32]; leaf::LANES];
        leaf::hash(&self.packets[..self.used], &mut leaves);
        for (w, leaf) in self.waiting[..self.used].iter().zip(&leaves) {
            sessions[w.session]
                .sink
                .accept(w.index, w.sequence, leaf, w.arrival_ns);
        }
        self.used = 0;
    }
}

fn batch<S: Source>(
    source: &S,
    taken: usize,
    sessions: &mut [Session],
    counts: &mut ThreadCounters,
    now: Reading,
) {
    let mut lanes = Lanes::new();
    for i in 0..taken {
        let Some(Packet { payload, stamp_ns }) = source.packet(i) else {
            if !S::COUNTS_REFUSALS {
                counts.frames += 1;
                counts.malformed += 1;
            }
            continue;
        };
        counts.frames += 1;
        let parsed = payload
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
            StampClock::Tai => now.realtime_of_tai(stamp_ns),
            StampClock::Realtime => stamp_ns,
        };
        if sessions[session].sink.admit(&header, raw, arrival_ns) {
            let Header {
                index, sequence, ..
            } = header;
            lanes.push(
                payload,
                Waiting {
                    session,
                    index,
                    sequence,
                    arrival_ns,
                },
                sessions,
            );
        }
    }
    lanes.flush(sessions);
}
