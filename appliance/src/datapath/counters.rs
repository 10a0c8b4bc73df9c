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
//!
//!  interface: all frames of the interface, whoever they are for, and those it lost before any program saw them
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
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
    /// The interface's own; none if it is gone, renamed, or the kernel does not show them.
    pub interface: Option<InterfaceCounters>,
}

/// The interface, as its driver counts: all traffic, ours and others'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterfaceCounters {
    /// Frames received.
    pub frames: u64,
    /// Bytes of them, by most drivers with the Ethernet header (not by veth with native XDP).
    pub bytes: u64,
    /// Frames for which it had no room or no use (`rx_dropped`), or which it missed (`rx_missed_errors`).
    pub dropped: u64,
}

/// The kernel's table of interfaces.
#[derive(Debug)]
pub(super) struct Interfaces(Option<File>);

impl Interfaces {
    /// Of the calling thread's network namespace, whoever reads it later.
    pub(super) fn here() -> Self {
        Self(File::open("/proc/thread-self/net/dev").ok())
    }

    pub(super) fn read(&self, interface: &str) -> Option<InterfaceCounters> {
        let file = self.0.as_ref()?;
        let mut table = Vec::new();
        // From the beginning each time: the kernel makes the table anew as it is read.
        let mut part = [0; 4096];
        loop {
            match file.read_at(&mut part, table.len() as u64).ok()? {
                0 => break,
                read => table.extend_from_slice(part.get(..read)?),
            }
        }
        InterfaceCounters::parse(std::str::from_utf8(&table).ok()?, interface)
    }
}

impl InterfaceCounters {
    /// `interface`'s line of `/proc/net/dev`.
    fn parse(table: &str, interface: &str) -> Option<Self> {
        let line = table
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'))?;
        let mut words = line.split_whitespace().map(str::parse::<u64>);
        let mut word = || words.next()?.ok();
        let (bytes, frames, _errors, dropped) = (word()?, word()?, word()?, word()?);
        Some(Self {
            frames,
            bytes,
            dropped,
        })
    }
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

    /// Frames that reached this host after `before` and that it lost itself: at its interface, for want of a
    /// socket on their queue, or of room in one. At most so many: a driver may count what the AF_XDP socket
    /// refused once more (veth does) or what the program dropped (virtio-net does), and its figure is of all
    /// traffic. How often the fill ring was found empty is not in it: those are attempts, and the frames lost
    /// by them are `xsk.rx_dropped` with copies and the interface's with zero copy.
    pub fn lost_since(&self, before: &Self) -> u64 {
        let dropped = |c: &Self| c.interface.map(|i| i.dropped);
        // An interface that is not known at both ends says nothing, one that was made anew begins at 0.
        let by_interface = match (dropped(before), dropped(self)) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => 0,
        };
        let by_sockets = self.lost_by_sockets();
        by_sockets.saturating_sub(before.lost_by_sockets()) + by_interface
    }

    fn lost_by_sockets(&self) -> u64 {
        self.fate(Fate::DroppedNoSocket)
            + self.xsk.rx_dropped
            + self.xsk.rx_ring_full
            + self.xsk.rx_invalid_descs
            + self.socket.dropped
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

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:       1       2    0    0    0     0          0         0        1       2    0    0    0     0       0          0
veth0: 151400     100    7    5    0     0          0         0      900       9    1    3    0     0       0          0
 veth01: 8 8 8 8 8 8 8 8 8 8 8 8 8 8 8 8
";

    #[test]
    fn an_interface_is_found_by_its_whole_name() {
        let found = InterfaceCounters::parse(TABLE, "veth0");
        let wanted = InterfaceCounters {
            frames: 100,
            bytes: 151_400,
            dropped: 5,
        };
        assert_eq!(found, Some(wanted));
        for gone in ["veth", "eth0", "veth02", ""] {
            assert_eq!(InterfaceCounters::parse(TABLE, gone), None, "{gone}");
        }
        assert_eq!(InterfaceCounters::parse("veth0: 1 2 3", "veth0"), None);
        assert_eq!(InterfaceCounters::parse("veth0: 1 2 3 x", "veth0"), None);
    }

    #[test]
    fn what_the_host_lost_is_each_of_its_losses_and_no_refusal() {
        let mut counters = Counters::default();
        for fate in Fate::ALL {
            counters.fates.insert(fate.name(), 1 << 40);
        }
        counters.fates.insert(Fate::DroppedNoSocket.name(), 1);
        counters.xsk.rx_dropped = 2;
        counters.xsk.rx_ring_full = 4;
        counters.xsk.rx_invalid_descs = 8;
        counters.xsk.fill_ring_empty = 1 << 41;
        counters.socket.dropped = 16;
        counters.thread.other_session = 1 << 42;
        assert_eq!(counters.lost_since(&Counters::default()), 31);
        assert_eq!(counters.lost_since(&counters), 0);
        let with = |dropped| Counters {
            interface: Some(InterfaceCounters {
                frames: 1 << 43,
                bytes: 1 << 44,
                dropped,
            }),
            ..counters.clone()
        };
        assert_eq!(with(39).lost_since(&with(7)), 32);
        assert_eq!(with(39).lost_since(&with(39)), 0);
        // Made anew, or known at one end only.
        assert_eq!(with(7).lost_since(&with(39)), 0);
        assert_eq!(with(7).lost_since(&counters), 0);
        assert_eq!(counters.lost_since(&with(7)), 0);
        assert_eq!(with(7).lost_since(&Counters::default()), 31);
    }
}
