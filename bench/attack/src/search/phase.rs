//! A phase with an honest prover: it counts by the product's caps, commits when the target is there or the time is
//! over, counts whatever comes after that, and is judged by the product's own rule.

use plumbline_proof::backhaul::estimate::{self, Bound, Sample};
use plumbline_proof::backhaul::offer::{self, Came, Offer};
use plumbline_proof::backhaul::params::{DEADLINE_DURATIONS, Terms};
use plumbline_proof::backhaul::verdict::{self, Verdict};

use super::flow::{Flow, play};
use super::link::{Line, Link};

/// What a challenger's report says beside the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Word {
    /// It reports at all.
    pub(super) given: bool,
    /// Its window, times …
    pub(super) window: f64,
    /// What it sent in each slot: times …, and so many packets more.
    pub(super) sent: (f64, u32),
    /// Packets sent in all beyond what its log says: an excuse for what did not arrive, or none.
    pub(super) unsaid: f64,
}

/// The truth.
pub(super) const HONEST: Word = Word {
    given: true,
    window: 1.0,
    sent: (1.0, 0),
    unsaid: 0.0,
};

/// Who takes part, and how.
pub(super) struct Phase {
    pub(super) terms: Terms,
    pub(super) line: Line,
    pub(super) flows: Vec<Flow>,
    pub(super) words: Vec<Word>,
    /// From the prover's commitment until each hears it, ns.
    pub(super) heard_after: Vec<f64>,
    /// From the last packet that was needed to the commitment, ns.
    pub(super) latency: f64,
    /// The host tells what its interface received.
    pub(super) interface: bool,
}

/// How it was judged.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) curve: Vec<Bound>,
    /// How near a Fail is that Pass does not forestall: above 1 it is one; below 0.9, too little was asked for it,
    /// whatever came.
    pub(super) near: f64,
    /// U(T) and V(T), of the claim.
    pub(super) asked: f64,
    pub(super) came: f64,
    /// When it was committed, ns.
    pub(super) commit: f64,
    pub(super) counts: Vec<u64>,
}

impl Phase {
    /// Lives it through, and judges it.
    pub(super) fn judged(mut self) -> Judged {
        let terms = self.terms;
        let deadline = (DEADLINE_DURATIONS * terms.duration_ns()) as f64;
        let (most, target) = (terms.counted_most(), terms.target());
        let n = self.flows.len();
        let mut counts = vec![0u64; n];
        let mut received = vec![0u64; n];
        let (mut frames, mut bytes, mut total) = (0u64, 0u64, 0u64);
        let mut commit = f64::INFINITY;
        let mut full = false;
        let stop = |flows: &mut [Flow], at: f64, after: &[f64]| {
            for (flow, after) in flows.iter_mut().zip(after) {
                flow.stop = at + after;
            }
        };
        stop(&mut self.flows, deadline, &self.heard_after);
        let after = &self.heard_after;
        let latency = self.latency;
        play(
            &mut self.flows,
            &mut Link::new(&self.line, &terms),
            |flows, who, head, at| {
                frames += 1;
                // As a veth with native XDP counts: without the Ethernet header.
                bytes += head.bytes as u64;
                if !head.ours {
                    return;
                }
                received[who] += 1;
                if !full && at <= deadline && counts[who] < most {
                    counts[who] += 1;
                    total += 1;
                    if total == target {
                        full = true;
                        commit = (at + latency).min(deadline + latency);
                        stop(flows, commit, after);
                    }
                }
            },
        );
        if !full {
            commit = deadline;
        }
        let interface = self.interface.then_some((frames, bytes));
        let ours = received.iter().sum::<u64>().max(total);
        let came = offer::came(&terms, ours, interface, 0);
        self.verdict(&counts, &received, came, commit)
    }

    /// The product's own judgement of it.
    fn verdict(&self, counts: &[u64], received: &[u64], came: Came, commit: f64) -> Judged {
        let terms = &self.terms;
        let mut samples = Vec::new();
        let mut offers = Vec::new();
        let mut parts = Vec::new();
        for (i, word) in self.words.iter().enumerate() {
            let Some(true_us) = self.flows[i].window_us(commit + self.heard_after[i]) else {
                continue;
            };
            // A report without packets does not count.
            if !word.given || counts[i] == 0 {
                continue;
            }
            let window_us = (f64::from(true_us) * word.window) as u32 + 1;
            let mut sent = self.flows[i].log.back_from(u64::from(true_us) * 1000);
            for slot in &mut sent {
                *slot = (f64::from(*slot) * word.sent.0) as u32 + word.sent.1;
            }
            let logged: u64 = sent.iter().map(|n| u64::from(*n)).sum();
            let honest = word.sent == (1.0, 0);
            let said = if honest {
                self.flows[i].sent.max(logged)
            } else {
                logged
            };
            let said = (said + (word.unsaid * said as f64) as u64).max(counts[i]);
            samples.push(Sample {
                packets: counts[i],
                window_us,
            });
            parts.push((received[i].max(counts[i]), said, None::<u8>));
            offers.push(Offer {
                sent,
                window_us,
                narrow: false,
            });
        }
        for (offer, narrow) in offers.iter_mut().zip(offer::narrow(&parts)) {
            offer.narrow = narrow;
        }
        let silent = self.words.len() - samples.len();
        let curve = estimate::curve(terms, &samples);
        let tried = offer::tried(terms, &offers, silent, came);
        let verdict = verdict::decide(terms, &curve, samples.len(), tried.as_ref());
        let claim = terms.claim_bps as f64;
        let enough = samples.len() as u64 >= terms.honest();
        Judged {
            verdict,
            near: if enough {
                self.near(&offers, silent, came)
            } else {
                0.0
            },
            curve,
            asked: tried.map_or(0.0, |t| t.asked_bps as f64 / claim),
            came: tried.map_or(0.0, |t| t.came_bps as f64 / claim),
            commit,
            counts: counts.to_vec(),
        }
    }

    /// The least that would have to have come, over what came; where no amount is too little, 0.9 of what was asked.
    fn near(&self, offers: &[Offer], silent: usize, came: Came) -> f64 {
        let of = |bytes| offer::tried(&self.terms, offers, silent, Came { bytes, whole: true });
        let came = came.bytes;
        let Some(none) = of(0) else {
            return 0.0;
        };
        if !none.short {
            return 0.9 * none.asked_bps as f64 / self.terms.claim_bps as f64;
        }
        let (mut short, mut enough) = (0, 2 * came);
        while enough - short > came / 2048 + 1 {
            let middle = u64::midpoint(short, enough);
            if of(middle).is_some_and(|t| t.short) {
                short = middle;
            } else {
                enough = middle;
            }
        }
        enough as f64 / came.max(1) as f64
    }
}
