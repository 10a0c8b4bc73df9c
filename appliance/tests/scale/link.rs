//! A measured link and the time on it: what is to happen, in order; a queue, a rate; chance.
//!
//! ```text
//!  packet ─► queue, at most so many bytes ─► sent at the rate, first in, first out
//!                 └─ full: dropped
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A millisecond, ns.
pub(crate) const MS: u64 = 1_000_000;
/// A link's queue holds this much time at its rate: the shaper of an access line.
const QUEUE_NS: u64 = 30 * MS;
/// … and this many packets at least.
const QUEUE_PACKETS: u64 = 10;
/// A packet of the usual MTU, bytes.
const USUAL: u64 = 1500;

/// Time that `bytes` take at `rate_bps`, ns.
pub(crate) fn time_ns(bytes: u64, rate_bps: u64) -> u64 {
    bytes * 8 * 1_000_000_000 / rate_bps.max(1)
}

/// A link as it works.
pub(crate) struct Link {
    rate_bps: u64,
    queue_bytes: u64,
    /// The last packet taken has left by then.
    free_ns: u64,
    /// What has not left: when it will, and its bytes.
    standing: VecDeque<(u64, u64)>,
    standing_bytes: u64,
}

impl Link {
    /// An idle link of `rate_bps`.
    pub(crate) fn new(rate_bps: u64) -> Self {
        let held = QUEUE_NS * rate_bps / 8_000_000_000;
        Self {
            rate_bps,
            queue_bytes: held.max(QUEUE_PACKETS * USUAL),
            free_ns: 0,
            standing: VecDeque::new(),
            standing_bytes: 0,
        }
    }

    /// A packet of `bytes` reaches the queue at `at_ns` (never before the last one): when its last bit
    /// leaves the link; `None` if it is dropped.
    pub(crate) fn offer(&mut self, at_ns: u64, bytes: u64) -> Option<u64> {
        while let Some((_, gone)) = self.standing.pop_front_if(|(left, _)| *left <= at_ns) {
            self.standing_bytes -= gone;
        }
        if self.standing_bytes + bytes > self.queue_bytes {
            return None;
        }
        self.free_ns = self.free_ns.max(at_ns) + time_ns(bytes, self.rate_bps);
        self.standing.push_back((self.free_ns, bytes));
        self.standing_bytes += bytes;
        Some(self.free_ns)
    }
}

/// What is to happen, the earliest first; of one instant, what was planned first.
pub(crate) struct Agenda<E> {
    times: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::HashMap<u64, E>,
    planned: u64,
}

impl<E> Agenda<E> {
    /// Nothing is planned.
    pub(crate) fn new() -> Self {
        Self {
            times: BinaryHeap::new(),
            events: std::collections::HashMap::new(),
            planned: 0,
        }
    }

    /// Plans `event`.
    pub(crate) fn plan(&mut self, at_ns: u64, event: E) {
        self.times.push(Reverse((at_ns, self.planned)));
        self.events.insert(self.planned, event);
        self.planned += 1;
    }

    /// When the next event is.
    pub(crate) fn next_ns(&self) -> Option<u64> {
        self.times.peek().map(|Reverse((at, _))| *at)
    }

    /// The next event, if it is due at `now_ns`.
    pub(crate) fn due(&mut self, now_ns: u64) -> Option<(u64, E)> {
        let Reverse((at, order)) = *self.times.peek()?;
        if at > now_ns {
            return None;
        }
        self.times.pop();
        self.events.remove(&order).map(|event| (at, event))
    }
}

/// Chance that can be repeated: SplitMix64.
pub(crate) struct Chance(u64);

impl Chance {
    /// The stream of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 … `most` − 1; 0 if there is none.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(most)) >> 64) as u64
    }
}

#[test]
fn a_link_sends_one_after_another_and_drops_the_tail() {
    // 12 Mbit/s: a packet takes a millisecond, and 30 of them fit the queue.
    let mut link = Link::new(12_000_000);
    let left: Vec<Option<u64>> = (0..31).map(|_| link.offer(0, USUAL)).collect();
    assert_eq!(
        (left[0], left[29], left[30]),
        (Some(MS), Some(30 * MS), None)
    );
    assert_eq!(link.offer(MS - 1, USUAL), None);
    assert_eq!(link.offer(MS, USUAL), Some(31 * MS));
    assert_eq!(link.offer(99 * MS, USUAL), Some(100 * MS));
}

#[test]
fn what_is_due_comes_in_order() {
    let mut agenda = Agenda::new();
    agenda.plan(5, 'b');
    agenda.plan(3, 'a');
    agenda.plan(5, 'c');
    assert_eq!((agenda.due(2), agenda.next_ns()), (None, Some(3)));
    let all: Vec<char> = std::iter::from_fn(|| agenda.due(5))
        .map(|(_, e)| e)
        .collect();
    assert_eq!(all, ['a', 'b', 'c']);
}
