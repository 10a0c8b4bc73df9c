//! What the adversary may do to the lower bound, and how far above the truth it gets.
//!
//! The prover and `liars` challengers are one. They choose when honest ones begin (delayed echoes and Starts), which
//! of their packets the link is given at all, how many of them are counted, when it is committed and when each hears
//! of it; they hand packets over past the link, and say any window. The truth is what crossed in the fullest span of
//! the length that the bound itself names, honest and faulty packets alike.

use plumbline_proof::backhaul::estimate::{self, Sample};
use plumbline_proof::backhaul::params::Terms;
use serde::Serialize;

use super::Plan;
use super::dice::Dice;
use super::flow::{Flow, Place, Wild, play};
use super::link::{Line, Link};

/// One challenger in the adversary's plan. Times in parts of D.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Pawn {
    /// First send after T0; earlier or later by what its clock errs and its Start is late.
    pub(super) start: f64,
    /// One way to the link, and the commitment's way back with what the prover holds it back.
    pub(super) there: f64,
    pub(super) back: f64,
    /// Its access, parts of r.
    pub(super) access: f64,
    /// Its host did nothing: from, for.
    pub(super) stall: (f64, f64),
    /// What leaves it in this time never reaches the link: from, for.
    pub(super) cut: (f64, f64),
    /// Counted, of what may count at most. Of a liar: handed over past the link.
    pub(super) count: f64,
    /// Of a liar: the window that it says.
    pub(super) says: f64,
    /// Of a liar: what it sends over the link, parts of r, in bursts of …
    pub(super) sends: (f64, u32),
}

/// A strategy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plot {
    pub(super) n: u16,
    pub(super) f: u16,
    /// How many are corrupt; the bound looked at is B_g of as many.
    pub(super) liars: usize,
    pub(super) claim_bps: u64,
    pub(super) duration_ms: u32,
    /// What the link carries, of the claim.
    pub(super) capacity: f64,
    pub(super) queue: usize,
    /// (from, for, share of the rate left), parts of D.
    pub(super) slow: Option<(f64, f64, f64)>,
    /// (sustained, of the capacity; bucket, of the capacity times D).
    pub(super) bucket: Option<(f64, f64)>,
    /// Others' traffic on the link, of the capacity; on for this part of a tenth of D.
    pub(super) cross: Option<(f64, f64)>,
    /// After T0, parts of D.
    pub(super) commit: f64,
    /// Liars last.
    pub(super) pawns: Vec<Pawn>,
    pub(super) jitter: u64,
}

/// K and D: from a line of 2 Mbit/s to one of 10 Gbit/s, in 170 to 8000 packets.
pub(super) const SCALES: [(u64, u32); 8] = [
    (2_000_000, 1000),
    (12_000_000, 1000),
    (100_000_000, 100),
    (50_000_000, 250),
    (1_000_000_000, 20),
    (400_000_000, 50),
    (5_000_000_000, 10),
    (10_000_000_000, 10),
];

impl Pawn {
    fn any(dice: &mut Dice) -> Self {
        let start = dice.unit() * dice.of([0.0, 0.01, 0.05, 0.5, 1.5]);
        let way = dice.of([0.0, 0.01, 0.05, 0.3]);
        Self {
            start,
            there: way * dice.unit(),
            back: way * dice.unit(),
            access: dice.of([1.5, 10.0, 100.0]),
            stall: (
                dice.unit(),
                if dice.with(0.2) {
                    0.5 * dice.unit()
                } else {
                    0.0
                },
            ),
            cut: (dice.unit(), if dice.with(0.2) { dice.unit() } else { 0.0 }),
            count: if dice.with(0.5) { 1.0 } else { dice.unit() },
            says: 4.0 * dice.unit(),
            sends: (
                if dice.with(0.3) {
                    3.0 * dice.unit()
                } else {
                    0.0
                },
                dice.of([1, 8, 60]),
            ),
        }
    }

    fn change(&mut self, dice: &mut Dice) {
        let near = |dice: &mut Dice, x: &mut f64, by: f64| *x = (*x + by * dice.normal()).max(0.0);
        match dice.below(9) {
            0 => near(dice, &mut self.start, 0.2),
            1 => near(dice, &mut self.there, 0.04),
            2 => near(dice, &mut self.back, 0.04),
            3 => self.access = (self.access * dice.between(0.5, 2.0)).clamp(0.1, 1000.0),
            4 => {
                near(dice, &mut self.stall.0, 0.2);
                near(dice, &mut self.stall.1, 0.1);
            }
            5 => {
                near(dice, &mut self.cut.0, 0.2);
                near(dice, &mut self.cut.1, 0.2);
            }
            6 => {
                near(dice, &mut self.count, 0.2);
                self.count = self.count.min(1.0);
            }
            7 => near(dice, &mut self.says, 0.3),
            _ => near(dice, &mut self.sends.0, 0.5),
        }
    }
}

impl Plan for Plot {
    fn any(dice: &mut Dice) -> Self {
        let (n, f) = dice.of([(4, 1), (7, 2), (10, 3), (5, 1), (13, 4)]);
        let (claim_bps, duration_ms) = dice.of(SCALES);
        let liars = if dice.with(0.8) {
            usize::from(f)
        } else {
            dice.below(usize::from(f))
        };
        Self {
            n,
            f,
            liars,
            claim_bps,
            duration_ms,
            capacity: dice.of([0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.3]),
            queue: dice.of([20, 60, 200, 1000]),
            slow: dice
                .with(0.25)
                .then(|| (dice.unit(), dice.unit(), dice.of([0.0, 0.1, 0.5]))),
            bucket: dice
                .with(0.25)
                .then(|| (dice.of([0.05, 0.2, 0.5]), dice.of([0.05, 0.2, 1.0]))),
            cross: dice.with(0.2).then(|| (dice.unit(), dice.unit())),
            commit: dice.of([0.05, 0.2, 0.5, 0.9, 1.0, 1.2, 2.0, 3.0]),
            pawns: (0..n).map(|_| Pawn::any(dice)).collect(),
            jitter: dice.next(),
        }
    }

    fn changed(&self, dice: &mut Dice) -> Self {
        let mut plot = self.clone();
        for _ in 0..dice.of([1, 1, 2, 3]) {
            match dice.below(12) {
                0 | 1 => plot.commit = (plot.commit * dice.between(0.5, 1.6)).clamp(0.001, 4.0),
                2 => plot.capacity = (plot.capacity * dice.between(0.7, 1.4)).clamp(0.02, 1.5),
                3 => plot.jitter = dice.next(),
                4 => {
                    let any = Self::any(dice);
                    match dice.below(4) {
                        0 => plot.slow = any.slow,
                        1 => plot.bucket = any.bucket,
                        2 => plot.cross = any.cross,
                        _ => plot.queue = any.queue,
                    }
                }
                _ => {
                    let who = dice.below(plot.pawns.len());
                    plot.pawns[who].change(dice);
                }
            }
        }
        plot
    }
}

impl Plot {
    pub(super) fn terms(&self) -> Terms {
        Terms::downlink(self.claim_bps, self.n, self.f, self.duration_ms)
    }

    fn line(&self, duration_ns: f64) -> Line {
        let bps = self.capacity * self.claim_bps as f64;
        let of = duration_ns;
        Line {
            bps,
            queue: self.queue,
            layer1: false,
            slow: self
                .slow
                .map(|(from, long, share)| (from * of, (from + long) * of, share)),
            bucket: self
                .bucket
                .map(|(rate, depth)| (rate * bps, depth * bps * of / 1e9 + 24e3)),
        }
    }

    /// Lives it through.
    pub(super) fn played(&self) -> Played {
        let terms = self.terms();
        let duration = terms.duration_ns() as f64;
        let commit = self.commit * duration;
        let honest = self.pawns.len() - self.liars;
        // Nobody begins before the common zero of this world's time.
        let flow = |(i, pawn): (usize, &Pawn)| {
            let place = Place {
                start: pawn.start * duration,
                there: pawn.there * duration,
                access: pawn.access,
                stalls: vec![(pawn.stall.0 * duration, pawn.stall.1 * duration)],
            };
            let mut flow = if i < honest {
                Flow::paced(&terms, &place, self.jitter ^ i as u64)
            } else if pawn.sends.0 > 0.0 {
                let (rate, burst) = pawn.sends;
                let bytes = terms.packet_bytes;
                Flow::wild(
                    &terms,
                    &place,
                    Wild {
                        rate,
                        burst,
                        bytes,
                        junk: false,
                        beat: None,
                    },
                )
            } else {
                Flow::nothing(&terms, &place)
            };
            flow.stop = commit;
            flow
        };
        let mut flows: Vec<Flow> = self.pawns.iter().enumerate().map(flow).collect();
        if let Some((share, on)) = self.cross {
            let place = Place {
                start: 0.0,
                there: 0.0,
                access: 1e9,
                stalls: Vec::new(),
            };
            let r = terms.offer_each_bps() as f64;
            let wild = Wild {
                rate: (share * self.capacity * self.claim_bps as f64 / r).max(0.01),
                burst: 8,
                bytes: 1500,
                junk: true,
                beat: Some((duration / 10.0, on.clamp(0.05, 1.0))),
            };
            let mut others = Flow::wild(&terms, &place, wild);
            others.stop = commit;
            flows.push(others);
        }
        let mut arrived = vec![0u64; self.pawns.len()];
        let mut crossed = Vec::new();
        // What the adversary cuts out never reaches the link.
        let cuts: Vec<(f64, f64)> = self
            .pawns
            .iter()
            .map(|p| (p.cut.0 * duration, (p.cut.0 + p.cut.1) * duration))
            .collect();
        for (flow, cut) in flows.iter_mut().zip(&cuts) {
            flow.cut = *cut;
        }
        play(
            &mut flows,
            &mut Link::new(&self.line(duration), &terms),
            |_, who, head, at| {
                if head.ours && at <= commit {
                    crossed.push(at);
                    arrived[who] += 1;
                }
            },
        );
        let most = terms.counted_most();
        let mut left = terms.target();
        let mut samples = Vec::new();
        let mut order: Vec<usize> = (0..self.pawns.len()).collect();
        if self.jitter & 1 == 1 {
            // Liars take of the target first.
            order.rotate_left(honest);
        }
        for i in order {
            let pawn = &self.pawns[i];
            let share = (pawn.count * most as f64) as u64;
            let (packets, window) = if i < honest {
                (
                    share.min(arrived[i]),
                    flows[i].window_us(commit + pawn.back * duration),
                )
            } else {
                (
                    share.min(most),
                    Some(((pawn.says * duration / 1e3) as u32).max(1)),
                )
            };
            let packets = packets.min(left);
            if packets > 0
                && let Some(window_us) = window
            {
                left -= packets;
                samples.push(Sample { packets, window_us });
            }
        }
        Played {
            terms,
            samples,
            crossed,
        }
    }

    /// The bound of as many liars as there are, over the truth.
    pub(super) fn score(&self) -> f64 {
        let played = self.played();
        let curve = estimate::curve(&played.terms, &played.samples);
        curve
            .get(self.liars)
            .map_or(0.0, |bound| self.over(&played, bound.bps, bound.span_us))
    }

    /// A figure over what crossed in the fullest span of its own length; over the rate of the link, where that is one
    /// figure and less: a closed span holds one packet more than its length.
    pub(super) fn over(&self, played: &Played, bps: u64, span_us: u32) -> f64 {
        if bps == 0 {
            return 0.0;
        }
        let carried = played.fullest(f64::from(span_us) * 1e3);
        let constant = self.line(1.0).is_constant() && self.cross.is_none();
        let packet = 8e6 * f64::from(played.terms.packet_bytes) / f64::from(span_us.max(1));
        let rate = if constant {
            self.capacity * self.claim_bps as f64 + packet
        } else {
            carried
        };
        bps as f64 / carried.min(rate)
    }
}

/// What came of a strategy.
pub(super) struct Played {
    pub(super) terms: Terms,
    pub(super) samples: Vec<Sample>,
    /// When each packet of the measurement had crossed the link, ns, in order.
    pub(super) crossed: Vec<f64>,
}

impl Played {
    /// Bit/s of the fullest span of so many ns.
    pub(super) fn fullest(&self, span: f64) -> f64 {
        let mut from = 0;
        let mut most = 0;
        for (i, at) in self.crossed.iter().enumerate() {
            while at - self.crossed[from] > span {
                from += 1;
            }
            most = most.max(i + 1 - from);
        }
        most as f64 * 8e9 * f64::from(self.terms.packet_bytes) / span
    }
}
