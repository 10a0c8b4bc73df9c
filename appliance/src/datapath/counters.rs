//! What became of every packet, from the interface to the sinks.
//!
//! ```text
//!  frames to the data port
//!    = Σ fates "dropped_…"                      refused by the XDP program (or its stand-in)
//!    + fate "redirected"
//!        = xsk.rx_dropped + xsk.rx_ring_full    the AF_XDP socket had no room
//!        + xsk.rx_invalid_descs
//!        + thread.frames                        reached the receive thread
//!            = thread.malformed + thread.other_session
//!            + what sinks refused + what sinks accepted
//!  plus, with a plain socket: socket.dropped    the socket had no room
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use plumbline_wire::Fate;
use serde::Serialize;

use crate::xsk::XskStatistics;

/// A snapshot of all counters of a receiver, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Frames by [`Fate::name`].
    pub fates: BTreeMap<&'static str, u64>,
    /// The AF_XDP sockets' own, all queues together; zeros without one.
    pub xsk: XskStatistics,
    /// The plain socket's own; zero while AF_XDP receives.
    pub socket: SocketCounters,
    /// The receive threads', all queues together.
    pub thread: ThreadCounters,
}

/// The plain socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SocketCounters {
    /// Datagrams that found its buffer full.
    pub dropped: u64,
}

/// The receive thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThreadCounters {
    /// Frames taken from the source that had passed its checks.
    pub frames: u64,
    /// Of those, for a session that is not open (any more).
    pub other_session: u64,
    /// Of those, not a data packet with a stamp: the program and this build disagree.
    pub malformed: u64,
}

impl ThreadCounters {
    /// Adds another thread's.
    pub(super) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.other_session += other.other_session;
        self.malformed += other.malformed;
    }
}

impl Counters {
    /// Frames with this fate.
    pub fn fate(&self, fate: Fate) -> u64 {
        self.fates.get(fate.name()).copied().unwrap_or(0)
    }

    /// Frames that were addressed to the data port and did not reach a sink, all reasons together.
    pub fn refused(&self) -> u64 {
        let dropped: u64 = self
            .fates
            .iter()
            .filter(|(name, _)| name.starts_with("dropped_"))
            .map(|(_, n)| n)
            .sum();
        dropped
            + self.xsk.rx_dropped
            + self.xsk.rx_ring_full
            + self.xsk.rx_invalid_descs
            + self.socket.dropped
            + self.thread.other_session
            + self.thread.malformed
    }
}

/// Counters with one writer, the receive thread, and any number of readers.
#[derive(Debug, Default)]
pub(super) struct Live {
    frames: AtomicU64,
    other_session: AtomicU64,
    malformed: AtomicU64,
}

impl Live {
    /// Publishes the thread's own numbers; once a turn.
    pub(super) fn publish(&self, now: &ThreadCounters) {
        self.frames.store(now.frames, Ordering::Relaxed);
        self.other_session
            .store(now.other_session, Ordering::Relaxed);
        self.malformed.store(now.malformed, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> ThreadCounters {
        ThreadCounters {
            frames: self.frames.load(Ordering::Relaxed),
            other_session: self.other_session.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
        }
    }
}

/// Fates counted in user space, where no XDP program does.
#[derive(Debug, Default)]
pub(super) struct LiveFates([AtomicU64; Fate::ALL.len()]);

impl LiveFates {
    pub(super) fn add(&self, fate: Fate) {
        // One writer: a plain load and store, no locked instruction.
        let cell = &self.0[fate as usize];
        cell.store(cell.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> BTreeMap<&'static str, u64> {
        Fate::ALL
            .into_iter()
            .map(|fate| (fate.name(), self.0[fate as usize].load(Ordering::Relaxed)))
            .collect()
    }
}
