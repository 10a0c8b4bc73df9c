//! What the adversary may do to an uplink's bound, and how far above the truth it gets.
//!
//! ```text
//!            T0 by i's clock          seed_i is there                       T0 + W by i's clock
//!  i         ├─────────────────────────────────────────────────────────────┤ counts what is there
//!  prover                             ├─ makes, sends: when it likes ─► link ─► store: as long as it likes ─► i
//! ```
//! The prover, a store behind the link and `liars` challengers are one. They choose how far honest clocks are off, up
//! to δ, and how long seeds and packets are on their way; which challenger is served when and how fast; what waits
//! behind the link; and what liars say that they counted, in what time. The truth is what crossed in the fullest span
//! of the length that the bound itself names.

use plumbline_proof::backhaul::estimate::{self, Sample};
use plumbline_proof::backhaul::params::{Direction, Terms};
use plumbline_proof::backhaul::uplink::{Window, counted_most, span_us};
use serde::Serialize;

use super::dice::Dice;
use super::link::{Line, Link};
use super::lower::{Played, SCALES};

/// One challenger in the adversary's plan. Times in parts of D.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Ward {
    /// How far its clock is ahead, parts of δ: −1 to 1.
    pub(super) clock: f64,
    /// Its seed's way to the prover, and its packets' way from the link.
    pub(super) way: (f64, f64),
    /// When it is served, after T0, and for how long.
    pub(super) served: (f64, f64),
    /// How fast, parts of r.
    pub(super) rate: f64,
    /// Until when its packets wait behind the link, after T0.
    pub(super) held: f64,
    /// Of a liar: counted, of what may count at most; and its window, parts of w.
    pub(super) says: (f64, f64),
}

/// A strategy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hoard {
    pub(super) n: u16,
    pub(super) f: u16,
    /// How many are corrupt; the bound looked at is B_g of as many.
    pub(super) liars: usize,
    pub(super) claim_bps: u64,
    pub(super) duration_ms: u32,
    /// What the link carries, of the claim.
    pub(super) capacity: f64,
    pub(super) queue: usize,
    /// (sustained, of the capacity; bucket, of the capacity times D).
    pub(super) bucket: Option<(f64, f64)>,
    /// Liars last.
    pub(super) wards: Vec<Ward>,
}

impl Ward {
    fn any(dice: &mut Dice) -> Self {
        let way = dice.of([0.0, 0.01, 0.05, 0.3]);
        // Ends are where it pays: one of them as often as anything between.
        let mut some = |ends: [f64; 2], from: f64, to: f64| {
            let between = dice.between(from, to);
            dice.of([ends[0], ends[1], between])
        };
        Self {
            clock: some([-1.0, 1.0], -1.0, 1.0),
            way: (some([0.0, way], 0.0, way), some([0.0, way], 0.0, way)),
            served: (some([0.0, -1.0], -2.0, 1.0), some([3.0, 3.0], 0.0, 1.0)),
            rate: some([1.0, 2.0], 0.2, 10.0),
            held: some([0.0, 1.0], 0.0, 1.0),
            says: (some([1.0, 1.0], 0.0, 1.0), some([1.0, 1.0], 0.5, 1.5)),
        }
    }

    fn change(&mut self, dice: &mut Dice) {
        let any = Self::any(dice);
        match dice.below(8) {
            0 => self.clock = (self.clock + 0.5 * dice.normal()).clamp(-1.0, 1.0),
            1 => self.way = any.way,
            2 => self.served.0 += 0.2 * dice.normal(),
            3 => self.served.1 = (self.served.1 + 0.3 * dice.normal()).max(0.0),
            4 => self.rate = any.rate,
            5 => self.held += 0.1 * dice.normal(),
            6 => self.says = any.says,
            _ => *self = any,
        }
    }
}

impl super::Plan for Hoard {
    fn any(dice: &mut Dice) -> Self {
        let (n, f) = dice.of([(4, 1), (7, 2), (10, 3), (5, 1), (13, 4)]);
        let (claim_bps, duration_ms) = dice.of(SCALES);
        Self {
            n,
            f,
            liars: dice.below(usize::from(f) + 1),
            claim_bps,
            duration_ms,
            capacity: dice.of([0.1, 0.3, 0.5, 0.8, 1.0, 1.3]),
            queue: dice.of([20, 60, 1000, 100_000]),
            bucket: dice
                .with(0.25)
                .then(|| (dice.of([0.05, 0.2, 0.5]), dice.of([0.05, 0.2, 1.0]))),
            wards: (0..n).map(|_| Ward::any(dice)).collect(),
        }
    }

    fn changed(&self, dice: &mut Dice) -> Self {
        let mut plan = self.clone();
        for _ in 0..dice.of([1, 1, 2, 3]) {
            match dice.below(9) {
                0 => plan.capacity = (plan.capacity * dice.between(0.7, 1.4)).clamp(0.02, 1.5),
                1 => plan.bucket = Self::any(dice).bucket,
                2 => plan.queue = Self::any(dice).queue,
                _ => {
                    let who = dice.below(plan.wards.len());
                    plan.wards[who].change(dice);
                }
            }
        }
        plan
    }
}

impl Hoard {
    /// Lives it through. `fresh`: nothing that counts is made before the seed is there.
    pub(super) fn played(&self, fresh: bool) -> Played {
        let terms = Terms {
            direction: Direction::Up,
            ..Terms::downlink(self.claim_bps, self.n, self.f, self.duration_ms)
        };
        let duration = terms.duration_ns() as f64;
        let delta = terms.clock_bound_ns() as f64;
        let window = Window::new(&terms, 0).length_ns() as f64;
        let most = counted_most(&terms);
        let gap = 8e9 * f64::from(terms.packet_bytes) / terms.offer_each_bps() as f64;
        let honest = self.wards.len() - self.liars;
        // Time is the true one, T0 its zero: who is ahead begins and ends before it.
        let mut sends: Vec<(f64, usize)> = Vec::new();
        for (who, ward) in self.wards[..honest].iter().enumerate() {
            let seed = ward.way.0 * duration - ward.clock * delta;
            let first = ward.served.0 * duration;
            let first = if fresh { first.max(seed) } else { first };
            let until = first + ward.served.1 * duration;
            let packets = (0..most).map(|k| first + k as f64 * gap / ward.rate);
            sends.extend(packets.take_while(|at| *at < until).map(|at| (at, who)));
        }
        sends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let bps = self.capacity * self.claim_bps as f64;
        let line = Line {
            bps,
            queue: self.queue,
            layer1: false,
            slow: None,
            bucket: self
                .bucket
                .map(|(rate, depth)| (rate * bps, depth * bps * duration / 1e9 + 24e3)),
        };
        // Before anything was ever sent it stands idle: its own time begins with the first packet.
        let zero = sends.first().map_or(0.0, |s| s.0);
        let mut link = Link::new(&line, &terms);
        let mut counted = vec![0u64; honest];
        let mut crossed = Vec::new();
        for (at, who) in sends {
            let Some(over) = link.offer(at - zero, f64::from(terms.packet_bytes)) else {
                continue;
            };
            let over = over + zero;
            crossed.push(over);
            let ward = &self.wards[who];
            let there = (over + ward.way.1 * duration).max(ward.held * duration);
            let clock = there + ward.clock * delta;
            if (0.0..window).contains(&clock) && counted[who] < most {
                counted[who] += 1;
            }
        }
        let span = span_us(&terms);
        let honest = counted.into_iter().map(|packets| (packets, span));
        let liars = self.wards.iter().rev().take(self.liars).map(|ward| {
            let (packets, window) = ward.says;
            (
                (packets * most as f64) as u64,
                ((window * f64::from(span)) as u32).max(1),
            )
        });
        let samples = honest
            .chain(liars)
            .map(|(packets, window_us)| Sample { packets, window_us });
        Played {
            terms,
            samples: samples.collect(),
            crossed,
        }
    }

    /// The bound of as many liars as there are, over what crossed in the fullest span of its length.
    pub(super) fn score(&self, fresh: bool) -> f64 {
        let played = self.played(fresh);
        let curve = estimate::curve(&played.terms, &played.samples);
        let bound = curve.get(self.liars).copied().unwrap_or_default();
        over(&played, bound.bps, bound.span_us)
    }
}

/// A figure over what crossed in the fullest span of its own length.
pub(super) fn over(played: &Played, bps: u64, span_us: u32) -> f64 {
    if bps == 0 {
        return 0.0;
    }
    bps as f64 / played.fullest(f64::from(span_us) * 1e3)
}
