//! Time and chance, both virtual: the queue of what happens next, clocks that drift, and the dice.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One second of virtual time.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// Dice (splitmix64): the same seed, the same throws.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x706c_756d_626c_696e)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both possible.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.next() % 1000 < permille
    }

    pub(crate) fn pick(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % length as u64).unwrap()
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.pick(i + 1));
        }
    }
}

/// What an actor takes for the time: true time, shifted and stretched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drift {
    pub(crate) offset_ns: i64,
    pub(crate) ppm: i64,
}

impl Drift {
    pub(crate) fn throw(dice: &mut Dice) -> Self {
        let signed = |v: u64, middle: u64| v as i64 - middle as i64;
        Self {
            offset_ns: signed(dice.between(0, 4 * SECOND), 2 * SECOND),
            ppm: signed(dice.between(0, 400), 200),
        }
    }

    /// What this clock shows at true time `now`; nanoseconds, never below zero.
    pub(crate) fn shows(self, now: u64) -> u64 {
        let stretched = i128::from(now) * (1_000_000 + i128::from(self.ppm)) / 1_000_000;
        u64::try_from((stretched + i128::from(self.offset_ns)).max(0)).unwrap()
    }
}

/// What happens, in order of time; of two at the same instant the first entered goes first.
pub(crate) struct Agenda<T> {
    heap: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::BTreeMap<u64, T>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            events: std::collections::BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn at(&mut self, time: u64, event: T) {
        self.heap.push(Reverse((time, self.next)));
        self.events.insert(self.next, event);
        self.next += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((time, number)) = self.heap.pop()?;
        Some((time, self.events.remove(&number).unwrap()))
    }
}
