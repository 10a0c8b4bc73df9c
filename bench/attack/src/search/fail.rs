//! A search for a true claim that is called false, and how many false claims are.
//!
//! The prover is honest and its link is free: it carries K and more all the time. At most f challengers are faulty:
//! silent, late, far, slow, behind a narrow access, withholding, lying about window and send log, flooding with
//! copies, other lengths and bursts. The others are honest, and as real ones are: they begin up to 0.2·D apart, are up
//! to 0.16·D away, hear the commitment late, and their hosts stand still now and then.

use plumbline_proof::backhaul::params::Terms;
use serde::Serialize;

use super::dice::Dice;
use super::flow::{Flow, Place, Wild};
use super::link::Line;
use super::lower::SCALES;
use super::phase::{HONEST, Judged, Phase, Word};

/// One challenger. Times in parts of D.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct One {
    pub(super) start: f64,
    /// A round trip: half of it to the link, half back.
    pub(super) round_trip: f64,
    /// The commitment is lost so long.
    pub(super) deaf: f64,
    pub(super) access: f64,
    pub(super) stalls: Vec<(f64, f64)>,
    pub(super) fault: Option<Fault>,
}

/// What a faulty one does.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Fault {
    /// Sends by the schedule; otherwise as it likes, or nothing.
    pub(super) paced: bool,
    /// Parts of r.
    pub(super) rate: f64,
    pub(super) burst: u32,
    pub(super) bytes: u16,
    pub(super) junk: bool,
    /// Sends in this share of periods of …
    pub(super) beat: Option<(f64, f64)>,
    /// Gives a report.
    pub(super) reports: bool,
    pub(super) window: f64,
    pub(super) sent: (f64, u32),
    pub(super) unsaid: f64,
}

/// A claim, the link, and everybody.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    pub(super) n: u16,
    pub(super) f: u16,
    pub(super) claim_bps: u64,
    pub(super) duration_ms: u32,
    /// What the link carries, of the claim.
    pub(super) capacity: f64,
    pub(super) queue: usize,
    pub(super) layer1: bool,
    /// From the last packet needed to the commitment, parts of D.
    pub(super) latency: f64,
    /// All hosts stand still at the same times, as on one machine: those of the first.
    pub(super) one_host: bool,
    pub(super) ones: Vec<One>,
    pub(super) jitter: u64,
}

/// Honest starts lie within this part of D.
const SKEW: f64 = 0.2;
/// Longest honest round trip, of D.
const FAR: f64 = 0.16;

/// Longest time for which the stalls of a host are drawn, of D.
const STALLS: f64 = 2.5;

/// When a host stands still: not at all, now and then, or, by a quota of its processor, in every period.
fn stalls(dice: &mut Dice) -> Vec<(f64, f64)> {
    let mut stalls = Vec::new();
    match dice.below(10) {
        0..=1 => {
            for _ in 0..1 + dice.below(12) {
                let long = dice.of([0.002, 0.02, 0.1]);
                stalls.push((STALLS * dice.unit(), long * dice.unit()));
            }
            stalls.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        }
        2 => {
            let period = dice.of([0.02, 0.05, 0.1]) * dice.between(0.5, 2.0);
            let idle = dice.of([0.1, 0.3, 0.5]) * dice.unit();
            let mut at = period * dice.unit();
            while at < STALLS {
                stalls.push((at, idle * period));
                at += period;
            }
        }
        _ => {}
    }
    stalls
}

impl One {
    fn honest(dice: &mut Dice) -> Self {
        let stalls = stalls(dice);
        Self {
            start: dice.of([0.0, 0.01, SKEW]) * dice.unit(),
            round_trip: dice.of([0.001, 0.025, FAR]) * dice.unit(),
            deaf: if dice.with(0.1) {
                dice.of([0.02, 0.1]) * dice.unit()
            } else {
                0.0
            },
            access: dice.of([2.0, 10.0, 100.0]),
            stalls,
            fault: None,
        }
    }

    /// Within what is honest.
    fn change(&mut self, dice: &mut Dice) {
        let any = Self::honest(dice);
        match dice.below(5) {
            0 => self.start = (self.start + 0.1 * SKEW * dice.normal()).clamp(0.0, SKEW),
            1 => self.round_trip = (self.round_trip + 0.1 * FAR * dice.normal()).clamp(0.0, FAR),
            2 => self.deaf = any.deaf,
            3 => self.access = any.access,
            _ => self.stalls = any.stalls,
        }
    }

    fn faulty(dice: &mut Dice) -> Self {
        let one = Self::honest(dice);
        let wild = dice.with(0.5);
        let fault = Fault {
            paced: !wild,
            rate: if wild {
                dice.of([0.0, 0.2, 1.0, 6.0]) * dice.unit()
            } else {
                1.0
            },
            burst: dice.of([1, 8, 60, 200]),
            bytes: dice.of([46, 46, 200, 1500, 1500]),
            junk: dice.with(0.5),
            beat: dice
                .with(0.4)
                .then(|| (dice.of([0.01, 0.05, 0.1, 0.5]), dice.unit())),
            reports: dice.with(0.6),
            window: dice.of([1.0, 1.0, 0.5, 1.3, 4.0]),
            sent: (
                dice.of([1.0, 1.0, 0.0, 2.0]),
                dice.of([0, 0, 20, 1_000_000]),
            ),
            unsaid: dice.of([0.0, 0.0, 0.5, 5.0]),
        };
        Self {
            start: dice.of([0.0, 0.2, 1.0, 2.0]) * dice.unit(),
            round_trip: dice.of([0.01, 0.16, 1.0]) * dice.unit(),
            deaf: dice.of([0.0, 0.0, 1.0]) * dice.unit(),
            access: dice.of([0.3, 0.7, 1.0, 100.0]),
            fault: Some(fault),
            ..one
        }
    }

    fn change_faulty(&mut self, dice: &mut Dice) {
        let any = Self::faulty(dice);
        let (Some(fault), Some(other)) = (&mut self.fault, any.fault) else {
            return;
        };
        let near = |dice: &mut Dice, x: f64, by: f64| (x + by * dice.normal()).max(0.0);
        match dice.below(14) {
            0 => self.start = near(dice, self.start, 0.2),
            1 => self.round_trip = near(dice, self.round_trip, 0.1),
            2 => self.deaf = any.deaf,
            3 => self.access = near(dice, self.access, 0.2).max(0.05),
            4 => self.stalls = any.stalls,
            5 => fault.paced = !fault.paced,
            6 => fault.rate = near(dice, fault.rate, 0.3),
            7 => (fault.burst, fault.bytes) = (other.burst, other.bytes),
            8 => fault.junk = !fault.junk,
            9 => fault.beat = other.beat,
            10 => fault.reports = !fault.reports,
            11 => fault.window = near(dice, fault.window, 0.2),
            12 => fault.sent = other.sent,
            _ => fault.unsaid = other.unsaid,
        }
    }
}

impl Case {
    /// A claim of `capacity` of the link, with as many faulty ones as `faults` at most.
    pub(super) fn any(dice: &mut Dice, capacity: f64, faults: bool) -> Self {
        let (n, f) = dice.of([(4, 1), (7, 2), (10, 3)]);
        let (claim_bps, duration_ms) = dice.of(SCALES);
        let mut ones: Vec<One> = (0..n).map(|_| One::honest(dice)).collect();
        if faults {
            for _ in 0..f {
                let who = dice.below(usize::from(n));
                ones[who] = One::faulty(dice);
            }
        }
        Self {
            n,
            f,
            claim_bps,
            duration_ms,
            capacity,
            queue: dice.of([60, 60, 200, 1000]),
            layer1: dice.with(0.5),
            latency: dice.of([0.0, 0.01, 0.1]) * dice.unit(),
            one_host: dice.with(0.2),
            ones,
            jitter: dice.next(),
        }
    }

    /// One that is a little different, and as true.
    pub(super) fn changed(&self, dice: &mut Dice) -> Self {
        let mut case = self.clone();
        for _ in 0..dice.of([1, 1, 2, 3]) {
            let who = dice.below(case.ones.len());
            let faulty: Vec<usize> = (0..case.ones.len())
                .filter(|i| case.ones[*i].fault.is_some())
                .collect();
            match dice.below(12) {
                0 => case.capacity = (case.capacity + 0.03 * dice.normal()).clamp(1.0, 1.3),
                1 => case.jitter = dice.next(),
                2 => case.queue = dice.of([60, 60, 200, 1000]),
                3 => case.latency = dice.of([0.0, 0.01, 0.1]) * dice.unit(),
                4 if dice.with(0.3) => case.one_host = !case.one_host,
                4 => case.layer1 = !case.layer1,
                5..9 if !faulty.is_empty() => {
                    let who = faulty[dice.below(faulty.len())];
                    case.ones[who].change_faulty(dice);
                }
                _ if case.ones[who].fault.is_none() => case.ones[who].change(dice),
                _ => case.ones[who].change_faulty(dice),
            }
        }
        case
    }

    fn terms(&self) -> Terms {
        Terms::downlink(self.claim_bps, self.n, self.f, self.duration_ms)
    }

    /// Lives it through, and judges it.
    pub(super) fn judged(&self, interface: bool) -> Judged {
        let terms = self.terms();
        let d = terms.duration_ns() as f64;
        let mut flows = Vec::new();
        let mut words = Vec::new();
        for (i, one) in self.ones.iter().enumerate() {
            // Stalls are told since its own first send.
            let (stalls, moved) = if self.one_host {
                (&self.ones[0].stalls, self.ones[0].start - one.start)
            } else {
                (&one.stalls, 0.0)
            };
            let place = Place {
                start: one.start * d,
                there: one.round_trip * d / 2.0,
                access: one.access,
                stalls: stalls
                    .iter()
                    .map(|(from, long)| ((from + moved) * d, long * d))
                    .collect(),
            };
            let jitter = self.jitter ^ i as u64;
            flows.push(match &one.fault {
                Some(fault) if !fault.paced && fault.rate < 0.01 => Flow::nothing(&terms, &place),
                Some(fault) if !fault.paced => {
                    let wild = Wild {
                        // Short frames are many: eight times as many as long ones at most.
                        rate: fault.rate * (8.0 * f64::from(fault.bytes) / 1500.0).min(1.0),
                        burst: fault.burst,
                        bytes: fault.bytes,
                        junk: fault.junk || fault.bytes != terms.packet_bytes,
                        beat: fault.beat.map(|(period, share)| (period * d, share)),
                    };
                    Flow::wild(&terms, &place, wild)
                }
                _ => Flow::paced(&terms, &place, jitter),
            });
            words.push(one.fault.as_ref().map_or(HONEST, |fault| Word {
                given: fault.reports,
                window: fault.window,
                sent: fault.sent,
                unsaid: fault.unsaid,
            }));
        }
        let heard = |one: &One| (one.round_trip / 2.0 + one.deaf) * d;
        Phase {
            terms,
            line: Line {
                bps: self.capacity * self.claim_bps as f64,
                queue: self.queue,
                layer1: self.layer1,
                slow: None,
                bucket: None,
            },
            heard_after: self.ones.iter().map(heard).collect(),
            flows,
            words,
            latency: self.latency * d,
            interface,
        }
        .judged()
    }

    /// What the search climbs on: how near a Fail it is. A claim that passes is not failed, however short.
    pub(super) fn score(judged: &Judged) -> f64 {
        match judged.verdict {
            plumbline_proof::backhaul::verdict::Verdict::Pass => judged.near - 0.05,
            _ => judged.near,
        }
    }
}
