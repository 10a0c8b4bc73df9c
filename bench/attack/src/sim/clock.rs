//! Virtual time: what is to happen, in the order in which it does.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use plumbline_wire::header::HEADER_LEN;

/// What a data packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// The seed's bytes.
    Genuine,
    /// Zeros.
    Zeros,
    /// Anything, under a tag that is none.
    Untagged,
}

/// A data packet on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data {
    /// Where it says that it comes from.
    pub(super) from: SocketAddr,
    /// Challenger index in its header.
    pub(super) index: usize,
    /// Number in its header.
    pub(super) sequence: u64,
    /// What it carries.
    pub(super) load: Load,
}

/// What happens.
#[derive(Debug)]
pub(super) enum Event {
    /// Everybody looks at the time.
    Tick,
    /// Challenger has a probe to send.
    Wake(usize),
    /// The next packet of a sender reaches the link.
    Send(usize),
    /// A slot of cross traffic.
    Cross,
    /// A challenger's control datagram reaches the link.
    ControlSent(usize, [u8; HEADER_LEN]),
    /// … and the prover.
    ControlArrives(usize, [u8; HEADER_LEN]),
    /// A data packet reaches the prover.
    DataArrives(Data),
    /// The prover's datagram reaches a challenger.
    Answer(usize, Vec<u8>),
    /// T0.
    Start,
    /// The prover commits: its packets are complete, or its time is up.
    Commit,
    /// The prover repeats its commitment to those who did not acknowledge it.
    Repeat,
}

struct Timed {
    at_ns: u64,
    order: u64,
    event: Event,
}

impl Ord for Timed {
    /// The earliest is the greatest; of one instant, the one that was planned first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_ns, other.order).cmp(&(self.at_ns, self.order))
    }
}
impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Timed {}

/// When a run begins, unix ns: a liar must be able to name a time before it.
pub(super) const BEGIN_NS: u64 = 1_800_000_000_000_000_000;

/// The time, and what is planned.
pub(super) struct Clock {
    /// Now, ns.
    pub(super) now: u64,
    planned: BinaryHeap<Timed>,
    order: u64,
}

impl Clock {
    /// Nothing is planned, and it is [`BEGIN_NS`].
    pub(super) fn new() -> Self {
        Self {
            now: BEGIN_NS,
            planned: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Plans an event; what should have been before now is now.
    pub(super) fn plan(&mut self, at_ns: u64, event: Event) {
        self.order += 1;
        self.planned.push(Timed {
            at_ns: at_ns.max(self.now),
            order: self.order,
            event,
        });
    }

    /// Goes on to the next event.
    pub(super) fn advance(&mut self) -> Option<Event> {
        let next = self.planned.pop()?;
        self.now = next.at_ns;
        Some(next.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_time_then_in_the_order_of_planning_and_never_back() {
        let mut clock = Clock::new();
        for (at, who) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            clock.plan(BEGIN_NS + at, Event::Wake(who));
        }
        let mut seen = Vec::new();
        while let Some(Event::Wake(who)) = clock.advance() {
            seen.push((clock.now - BEGIN_NS, who));
            if who == 3 {
                clock.plan(1, Event::Wake(4));
            }
        }
        assert_eq!(seen, [(3, 1), (3, 3), (3, 4), (5, 0), (5, 2)]);
    }
}
