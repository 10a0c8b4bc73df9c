//! The other direction: the prover sends, challengers count and time what arrives.
//!
//! ```text
//!  notice, seeds, consent, begun            as towards the prover (SeedCommitment: send to me here)
//!  probes ⇄ echoes ─► Ready(an echo) ─► Start(T0)
//!
//!            T0                                                   D    slack
//!  i          ├─ seed_i ─►                                         │
//!  prover     │    ├───────── data, r to i ─────────────────────────┼──────┤ ─► Commit(sent_i), Reveal
//!  i counts   ├─ s₁ ─┼─ s₂ ─┼─ s₃ ─┼─ … sub-intervals ─────────────┤                      │
//!             └──────── W, the same for everyone ──────────────────┘         Report ◄──────┘
//!
//!  w = W + 2δ     c'_i(T) = packets_i if w ≤ T, else 0
//!  B_g(j) = max over T of 8·L·( Σ c'_i(T) − the j largest ) / T
//! ```
//!
//! **Guarantees.** With at most j faulty, the link carried B_g(j) over some T. *Proof.* Fix T ≥ w. The packets of an
//! honest i are made from its seed, which nobody else knows before i releases it: not before T0 by its clock. It
//! counts what is there before T0 + W by the same clock, which errs by δ at most. So whatever it counted crossed the
//! link between T0 − δ and T0 + W + δ, an interval that is the same for all of them and no longer than T. The faulty
//! sum to at most the j largest. ∎ Where a packet waited does not matter: hoarded before the link or behind it, it
//! crossed since T0, and the divisor is all the time since T0, not only that in which it arrived. No round trip is
//! in it, so that of the prover's echoes none decides. What was made before T0 is not the stream's: `bad_payload`.
//! A prover that serves one challenger after the other gains nothing: all that is counted crossed in that one
//! interval. Nobody is flooded who has not signed for its address and shown an echo that was sent there
//! ([`record`]).
//!
//! **Limits.** Bytes may have been made at the link's far end by someone with the prover's session keys, to whom it
//! sends the seeds. δ is what the terms grant ([`Terms::clock_bound_ns`]); nobody sees a clock that is further off.
//! Until its seed is there and answered nothing comes: a figure reads low by a round trip.
//!
//! **Tests.** `tests` runs whole proofs on virtual time; `cargo xtask eval --search`: an adversary that climbs.

pub mod arrivals;
pub mod challenger;
pub(super) mod judge;
pub mod prover;
pub(super) mod record;
#[cfg(test)]
mod tests;

use plumbline_trust::encoding::domain;
use plumbline_trust::session::SessionKey;

use super::keystream::Train;
use super::messages::Notice;
use super::params::Terms;

/// Longest sub-interval, ns: the 100 ms of RFC 9097 and of this proof's histograms.
const SLOT_NS: u64 = 100_000_000;
/// Sub-intervals in a duration shorter than ten of the longest.
const SLOTS_LEAST: u64 = 10;
/// The prover goes on sending at least so long after D, ns: what a challenger's clock may be ahead of or
/// behind the prover's before its window has an end without packets.
const SLACK_NS: u64 = 50_000_000;
/// A challenger listens this long after the last packet may have left, ns: a long queue and a long path.
const LINGER_NS: u64 = 500_000_000;

/// The common window of a phase, on each challenger's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning, unix ns: T0.
    pub from_ns: u64,
    /// A sub-interval, ns.
    pub slot_ns: u64,
    /// How many there are.
    pub slots: u64,
}

impl Window {
    /// The window of `terms` that begins with `t0_ns`.
    pub fn new(terms: &Terms, t0_ns: u64) -> Self {
        let slot_ns = SLOT_NS.min(terms.duration_ns() / SLOTS_LEAST);
        Self {
            from_ns: t0_ns,
            slot_ns,
            slots: terms.duration_ns() / slot_ns,
        }
    }

    /// W, ns.
    pub fn length_ns(&self) -> u64 {
        self.slot_ns * self.slots
    }

    /// Its end, unix ns: the first instant that is not in it.
    pub fn until_ns(&self) -> u64 {
        self.from_ns.saturating_add(self.length_ns())
    }
}

/// w, µs, rounded up: all that honest challengers counted was made, and crossed the link, within that time.
pub fn span_us(terms: &Terms) -> u32 {
    let span_ns = Window::new(terms, 0).length_ns() + 2 * terms.clock_bound_ns();
    u32::try_from(span_ns.div_ceil(1000)).unwrap_or(u32::MAX)
}

/// How long the prover sends to each challenger, ns: D and some slack, at most 2·D.
pub fn flood_ns(terms: &Terms) -> u64 {
    let slack = Window::new(terms, 0).slot_ns.max(SLACK_NS);
    terms.duration_ns() + slack.min(terms.duration_ns())
}

/// Packets counted at most of one challenger: what its share r comes to in the window, rounded up.
pub fn counted_most(terms: &Terms) -> u64 {
    packets_in(terms, Window::new(terms, 0).length_ns())
}

/// Packets that the prover makes for one challenger.
pub fn packets_each(terms: &Terms) -> u64 {
    packets_in(terms, flood_ns(terms)).min(terms.cap_packets())
}

/// What r comes to in so long a time, packets, rounded up.
fn packets_in(terms: &Terms, ns: u64) -> u64 {
    let bits = u128::from(terms.offer_each_bps()) * u128::from(ns);
    let packet = u128::from(terms.packet_bytes) * 8 * 1_000_000_000;
    u64::try_from(bits.div_ceil(packet)).unwrap_or(u64::MAX)
}

/// The packets for challenger `index`, which both ends of `key` can make once they know its `seed`, and nobody else:
/// they do not compress, and the challenger compares them byte by byte.
pub fn train(notice: &Notice, index: u16, key: SessionKey, seed: &[u8; 32]) -> Train {
    let seed = key.derive(domain::UPLINK, seed);
    Train::new(&seed, &notice.challenge, &notice.beacon, 0, index, key).of_size(notice.terms.size())
}
