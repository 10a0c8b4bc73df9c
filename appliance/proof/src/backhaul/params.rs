//! The numbers of a backhaul proof: each with its unit, source and trade-off.

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_wire::header::IP_LAYER_LEN;
use serde::Serialize;

/// L: bytes of one data packet at the IP layer (RFC 9097's IP-layer capacity counts these).
pub const L: u64 = IP_LAYER_LEN as u64;
/// The same as terms carry it.
const STANDARD_BYTES: u16 = 1500;
/// Offered rate of a phase in percent of the claim: enough to fill the link, little enough not to
/// hurt it (spec: r = 1.15·K/(n−f)).
pub const OFFER_PERCENT: u64 = 115;
/// A phase is given up after this many nominal durations, so that a link of a quarter of its claim
/// still delivers its target.
pub const DEADLINE_DURATIONS: u64 = 4;
/// Slices of a duration in which the prover counts arrivals: 2 ms of 100 ms, 20 ms of a second; as many as
/// a byte numbers to the deadline and a duration beyond.
pub const SLICES: u64 = 50;
/// Most challengers in one proof: counts of 64 fit a commitment datagram, and the contract's sorts
/// stay cheap.
pub const MAX_CHALLENGERS: u16 = 64;
/// Shortest and longest phase, milliseconds.
pub const DURATION_MS: std::ops::RangeInclusive<u32> = 10..=10_000;
/// Largest packet table of one challenger: bounds memory (32 B a leaf, 1472 B a packet made ahead).
pub const MAX_CAP_PACKETS: u64 = 4_000_000;

/// Probes before and after the flood: the smallest of ten idle round trips is within a few per cent
/// of the path's floor, and ten at [`PROBE_GAP_NS`] take less than a duration.
pub const PROBES_IDLE: u64 = 10;
/// Gap between idle probes, ns.
pub const PROBE_GAP_NS: u64 = 5_000_000;
/// Gap between probes during the flood, ns: they ride the full queue, so few suffice to show it.
pub const PROBE_GAP_LOADED_NS: u64 = 20_000_000;
/// An echo that takes longer is lost, ns.
pub const PROBE_TIMEOUT_NS: u64 = 500_000_000;

/// The prover sets T0 this far ahead, so that the notice reaches everyone first, ns.
pub const START_LEAD_NS: u64 = 250_000_000;
/// A commitment is sent this many times at once, then again until acknowledged.
pub const COMMIT_BURST: u64 = 3;
/// Gap between later repetitions of an unacknowledged commitment, ns.
pub const COMMIT_REPEAT_NS: u64 = 20_000_000;
/// After this long without an acknowledgement the prover stops repeating, ns.
pub const COMMIT_GIVE_UP_NS: u64 = 3_000_000_000;
/// The queue that the flood filled has this long to drain before the idle probes after it, ns.
pub const SETTLE_NS: u64 = 100_000_000;
/// The session closes after this long without a packet, ns: late packets and the probes after the
/// flood ([`SETTLE_NS`], then ten [`PROBE_GAP_NS`]) are all counted by then.
pub const DRAIN_QUIET_NS: u64 = 250_000_000;
/// … and at the latest after this long, ns.
pub const DRAIN_LIMIT_NS: u64 = 2_000_000_000;

/// How long the parties have for each step of the set-up and the reports before the rest goes on
/// without them, ns.
pub const STEP_TIMEOUT_NS: u64 = 5_000_000_000;

/// V5: a challenger's own span may be this much shorter than its paced sending, percent. Covers
/// the burst a pacer may send ahead.
pub const V5_SLACK_PERCENT: u64 = 10;
/// V6: the point estimate may exceed the offered rate by this much, percent.
pub const V6_SLACK_PERCENT: u64 = 2;
/// V11: a claim can only be called false by challengers that together offered this much of it, in
/// percent. Any n−f honest ones offer [`OFFER_PERCENT`]; the difference is what pacing may fall short.
pub const V11_OFFERED_PERCENT: u64 = 110;
/// V7: idle round trips before and after may differ by this part of the duration (or 3·MAD).
pub const V7_DURATION_PART: u64 = 100;
/// V12: the rate has shifted if what came after is at most this much of what came before, in percent.
/// Two machines' worth of scheduling noise moves it by a few.
pub const V12_SHIFT_PERCENT: u64 = 80;
/// V12: … and the slower part is at least this much of the time looked at, in percent: a dip at the end is
/// none.
pub const V12_AFTER_PERCENT: usize = 30;
/// V12: a burst is outweighed when what came after it is so many times as much (spec).
pub const V12_OUTWEIGHED: u64 = 4;
/// V10: clock error bound as a part of the duration.
pub const V10_DURATION_PART: u64 = 100;

const _: () = assert!(L == 1500 && STANDARD_BYTES == 1500);
const _: () = assert!(OFFER_PERCENT > V11_OFFERED_PERCENT && V11_OFFERED_PERCENT > 100);
const _: () = assert!(COMMIT_REPEAT_NS < COMMIT_GIVE_UP_NS && DRAIN_QUIET_NS < DRAIN_LIMIT_NS);
const _: () = assert!(SETTLE_NS + PROBE_GAP_NS < DRAIN_QUIET_NS);

/// Why terms were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// Nothing claimed.
    #[error("a claim of 0 bit/s cannot be measured; claim at least 1 bit/s")]
    ClaimZero,
    /// n < 3f+1.
    #[error("{n} challengers cannot stand {f} corrupt ones: at least {needed} (3f+1) are needed")]
    TooFewChallengers {
        /// Challengers asked for.
        n: u16,
        /// Corrupt ones to stand.
        f: u16,
        /// 3f+1.
        needed: u32,
    },
    /// More than [`MAX_CHALLENGERS`].
    #[error("{0} challengers are too many: at most {MAX_CHALLENGERS}")]
    TooManyChallengers(u16),
    /// Outside [`DURATION_MS`].
    #[error("a duration of {0} ms is outside 10 to 10000 ms")]
    Duration(u32),
    /// Of another length than those that are measured with.
    #[error("a packet of {0} bytes at the IP layer is not measured with; 1500 is")]
    PacketBytes(u16),
    /// The packet table would exceed [`MAX_CAP_PACKETS`].
    #[error(
        "{0} packets a challenger exceed {MAX_CAP_PACKETS}: claim less, take more challengers, or a shorter duration"
    )]
    TooLarge(u64),
}

/// Which way the measured traffic flows, seen from the prover.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize,
)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the prover: challengers send.
    #[default]
    Down = 0,
    /// Away from it: the prover sends.
    Up = 1,
}

/// What was agreed for one measurement, checked: everything derived from it is well defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Terms {
    /// K, claimed rate in bit/s at the IP layer.
    pub claim_bps: u64,
    /// n, challengers drawn.
    pub n: u16,
    /// f, corrupt ones that the guaranteed figure stands.
    pub f: u16,
    /// D, nominal duration of a phase in ms.
    pub duration_ms: u32,
    /// Which way the traffic flows.
    pub direction: Direction,
    /// L, bytes of one data packet at the IP layer.
    pub packet_bytes: u16,
}

impl Terms {
    /// Terms of a measurement towards the prover, with packets of 1500 bytes.
    pub const fn downlink(claim_bps: u64, n: u16, f: u16, duration_ms: u32) -> Self {
        Self {
            claim_bps,
            n,
            f,
            duration_ms,
            direction: Direction::Down,
            packet_bytes: STANDARD_BYTES,
        }
    }

    /// Checks the terms.
    pub fn check(self) -> Result<Self, TermsError> {
        let needed = 3 * u32::from(self.f) + 1;
        if self.claim_bps == 0 {
            return Err(TermsError::ClaimZero);
        }
        if u32::from(self.n) < needed {
            return Err(TermsError::TooFewChallengers {
                n: self.n,
                f: self.f,
                needed,
            });
        }
        if self.n > MAX_CHALLENGERS {
            return Err(TermsError::TooManyChallengers(self.n));
        }
        if !DURATION_MS.contains(&self.duration_ms) {
            return Err(TermsError::Duration(self.duration_ms));
        }
        if self.packet_bytes != STANDARD_BYTES {
            return Err(TermsError::PacketBytes(self.packet_bytes));
        }
        let cap = self.cap_packets();
        if cap > MAX_CAP_PACKETS {
            return Err(TermsError::TooLarge(cap));
        }
        Ok(self)
    }

    /// n − f, the challengers whose traffic alone must fill the claim.
    pub fn honest(&self) -> u64 {
        u64::from(self.n).saturating_sub(u64::from(self.f)).max(1)
    }

    /// m = ⌈K·D / (8·L·(n−f))⌉, packets counted at most per challenger.
    pub fn per_challenger(&self) -> u64 {
        let bits = u128::from(self.claim_bps) * u128::from(self.duration_ms);
        let each = 8 * u128::from(L) * u128::from(self.honest()) * 1000;
        u64::try_from(bits.div_ceil(each)).unwrap_or(u64::MAX)
    }

    /// N = (n−f)·m, the target of a phase in packets.
    pub fn target(&self) -> u64 {
        self.honest().saturating_mul(self.per_challenger())
    }

    /// r = 1.15·K/(n−f), what each challenger offers, bit/s at the IP layer.
    pub fn offer_each_bps(&self) -> u64 {
        let r = u128::from(self.claim_bps) * u128::from(OFFER_PERCENT)
            / (100 * u128::from(self.honest()));
        u64::try_from(r).unwrap_or(u64::MAX).max(1)
    }

    /// What all n offer together, bit/s: the ceiling of any estimate.
    pub fn offer_total_bps(&self) -> u64 {
        let all = u128::from(self.claim_bps) * u128::from(OFFER_PERCENT) * u128::from(self.n)
            / (100 * u128::from(self.honest()));
        u64::try_from(all).unwrap_or(u64::MAX)
    }

    /// Packets one challenger may send at most: its rate until the deadline, rounded up.
    pub fn cap_packets(&self) -> u64 {
        let sent =
            u128::from(self.per_challenger()) * u128::from(OFFER_PERCENT * DEADLINE_DURATIONS);
        u64::try_from(sent.div_ceil(100)).unwrap_or(u64::MAX)
    }

    /// Length of one slice of the arrival histogram, ns.
    pub fn slice_ns(&self) -> u64 {
        (self.duration_ns() / SLICES).max(1)
    }

    /// D in nanoseconds.
    pub fn duration_ns(&self) -> u64 {
        u64::from(self.duration_ms) * 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(claim_bps: u64, n: u16, f: u16) -> Terms {
        Terms::downlink(claim_bps, n, f, 100)
    }

    #[test]
    fn the_spec_example() {
        let t = terms(1_000_000_000, 5, 1).check().unwrap();
        assert_eq!(t.per_challenger(), 2084);
        assert_eq!(t.target(), 8336);
        assert_eq!(t.offer_each_bps(), 287_500_000);
        assert_eq!(t.offer_total_bps(), 1_437_500_000);
        assert_eq!(t.cap_packets(), 9587);
    }

    #[test]
    fn both_sides_of_each_boundary() {
        assert!(terms(1, 4, 1).check().is_ok());
        assert_eq!(
            terms(1, 3, 1).check(),
            Err(TermsError::TooFewChallengers {
                n: 3,
                f: 1,
                needed: 4
            })
        );
        assert_eq!(terms(0, 4, 1).check(), Err(TermsError::ClaimZero));
        assert!(terms(1, 64, 21).check().is_ok());
        assert_eq!(
            terms(1, 65, 21).check(),
            Err(TermsError::TooManyChallengers(65))
        );
        assert!(
            Terms {
                duration_ms: 10,
                ..terms(1, 4, 1)
            }
            .check()
            .is_ok()
        );
        assert!(
            Terms {
                duration_ms: 9,
                ..terms(1, 4, 1)
            }
            .check()
            .is_err()
        );
        assert!(
            Terms {
                duration_ms: 10_001,
                ..terms(1, 4, 1)
            }
            .check()
            .is_err()
        );
        assert!(matches!(
            terms(u64::MAX, 4, 1).check(),
            Err(TermsError::TooLarge(_))
        ));
    }
}
