//! The numbers of a backhaul proof: each with its unit, source and trade-off.

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_wire::Size;
use plumbline_wire::header::IP_UDP_LEN;
use serde::Serialize;

/// L of an MTU of 1500 over IPv4: bytes of one data packet at the IP layer (RFC 9097's IP-layer capacity
/// counts these).
const STANDARD_BYTES: u16 = 1500;
/// Headers of IPv6 and UDP, bytes.
const IPV6_UDP_LEN: usize = 48;
/// What a frame takes of layer 1 beyond its IP packet, bytes: preamble and start 8, Ethernet header 14,
/// frame check sequence 4, gap 12.
pub const LAYER1_BYTES: u16 = 38;
/// L of packets as long as a path of a usual MTU takes them: over IPv4 its 1500 bytes to the last, over
/// IPv6 what leaves 44 for extension headers or a tunnel.
pub const USUAL_MTU: u16 = 1500;
/// Offered rate of a phase in percent of the claim: enough to fill the link, little enough not to
/// hurt it (spec: r = 1.15·K/(n−f)).
pub const OFFER_PERCENT: u64 = 115;
/// b, packets that a challenger hands over together at most. In step with four others bursts of 44 made a
/// 10 Gbit/s link with a queue of 60 packets read 0.26 to 0.64 of itself; of 8, each moved within its slot of
/// the schedule, 0.975 and more; of 16 not always. The lower bound grants a late challenger so many at most.
pub const BURST_PACKETS: u64 = 8;
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
/// Most packets of one challenger: a bitmap of 500 kB in the reveal, and what the prover keeps of each. Whoever
/// sends them makes them while it sends, and keeps none.
pub const MAX_CAP_PACKETS: u64 = 4_000_000;
/// Most bytes that one challenger is asked to send, at the IP layer: as many packets of the usual MTU. Bounds
/// what a request costs its line, not its memory.
pub const MAX_CAP_BYTES: u64 = MAX_CAP_PACKETS * STANDARD_BYTES as u64;

/// Probes before and after the flood: the smallest of ten idle round trips is within a few per cent
/// of the path's floor, and ten at [`PROBE_GAP_NS`] take less than a duration.
pub const PROBES_IDLE: u64 = 10;
/// Gap between idle probes, ns.
pub const PROBE_GAP_NS: u64 = 5_000_000;
/// Gap between a challenger's probes during the flood at least, ns: they ride the full queue, so few suffice to
/// show it.
pub const PROBE_GAP_LOADED_NS: u64 = 20_000_000;
/// Probes of all challengers take at most one part in so many of the claim: they are on the link that is
/// measured, and are not counted.
pub const PROBE_PART: u64 = 500;
/// Echoes that a report holds beside those of the flood: probes before it go on for a step's time-out until one is
/// answered, and those of a flood for as long after it until the commitment comes.
const ECHOES_BESIDE: u64 = 768;
/// Most echoes of one report, of the longest phase.
pub const ECHOES_MOST: u64 = echoes(*DURATION_MS.end());
/// Bytes of a probe at the IP layer, over IPv6.
const PROBE_BYTES: u64 = 64 + 48;
/// An echo that takes longer is lost, ns.
pub const PROBE_TIMEOUT_NS: u64 = 500_000_000;

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
/// Blocks of the chain in which the set-up is anchored: one that is missed, its own, one on top, and one for the
/// difference between blocks.
pub const ANCHOR_BLOCKS: u32 = 4;
/// Most that a coordinator may ask the parties to wait for the chain beside that, ms: blocks of 25 s. For so long the
/// prover's link stays reserved.
pub const ANCHOR_MS_MOST: u32 = 100_000;

/// Packets that count of one challenger at most, in percent of m: what one of n−f equal shares of N may differ by
/// where they meet a short queue. The target N stays.
pub const CAP_PERCENT: u64 = 115;
/// T_min, in percent of the duration: a phase that the prover ends earlier is divided by this all the same.
pub const T_MIN_PERCENT: u64 = 85;
/// A claim passes if the bounds reach this much of it, in percent.
pub const PASS_PERCENT: u64 = 95;
/// Slots of a duration in which a challenger says how much it sent.
pub const OFFER_SLOTS: u64 = 20;
/// A claim can be called false only if a link of it was asked to carry this much of it, in percent.
pub const FAIL_OFFERED_PERCENT: u64 = 80;
/// … and if what came is below this much of what was asked, in percent. The adversary search brought a true claim to 90.6
/// in 395,700 phases.
pub const FAIL_SHORT_PERCENT: u64 = 88;
/// The shortest queue that a true claim's link is taken to have, packets.
pub const SHORT_QUEUE: u64 = 60;
/// Whose carried part of what it sent is below this much of the median part was limited by its own access, percent.
/// A short queue alone takes a third more of bursts than of spread packets: at 80, two of ten honest senders counted
/// as limited on a link of 0.6 of 1 to 10 Gbit/s, and half the false claims were not called so. If f honest ones are
/// kept from sending and f others send this part of what they say, 1.15·(f+1+0.6·f)/(2·f+1) ≥ 0.92 of K comes with any
/// f; at 50 it is 0.87 with 21 of 64, less than a true claim is failed for.
pub const NARROW_PERCENT: u128 = 60;
/// A duration holds at least so many round trips: no bound credits one, so it reads low by one part in so many.
pub const ROUND_TRIPS: u64 = 40;
/// δ: the clock of who reports may err by this part of the duration.
pub const CLOCK_PART: u64 = 100;
/// Shortest and longest lead of T0 when the Start leaves, ns: four round trips in between.
pub const LEAD_NS: std::ops::RangeInclusive<u64> = 250_000_000..=1_500_000_000;
/// A Start whose T0 is further ahead than this is not obeyed, ns: another clock than mine.
pub const AHEAD_MOST_NS: u64 = 2_000_000_000;
/// Without a fresh echo for this long a flood stops, ns: as long as an echo may take, twice. Whoever does not
/// answer may not be who consented.
pub const ECHO_FRESH_NS: u64 = 2 * PROBE_TIMEOUT_NS;
/// … and at least for so many probes, which on a slow link are far apart: of a flood half as fast again as the link
/// every third is lost, and no honest sender stops for that.
pub const ECHOES_MISSED: u64 = 16;

const _: () = assert!(STANDARD_BYTES as usize == Size::Standard.ip_layer());
const _: () = assert!((T_MIN_PERCENT * OFFER_SLOTS).is_multiple_of(100));
const _: () = assert!(*LEAD_NS.end() < AHEAD_MOST_NS);
const _: () = assert!(COMMIT_REPEAT_NS < COMMIT_GIVE_UP_NS && DRAIN_QUIET_NS < DRAIN_LIMIT_NS);
const _: () = assert!(SETTLE_NS + PROBE_GAP_NS < DRAIN_QUIET_NS);

/// Echoes of a phase of this duration and of the time until it is given up, at the smallest gap.
const fn echoes(duration_ms: u32) -> u64 {
    let loaded = (DEADLINE_DURATIONS + 1) * duration_ms as u64 * 1_000_000;
    ECHOES_BESIDE + loaded.div_ceil(PROBE_GAP_LOADED_NS)
}

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
    #[error(
        "packets of {0} bytes at the IP layer are not measured with; of 1436, 1500 and 8988 over IPv4 and 1456, 1520 and 9008 over IPv6 are"
    )]
    PacketBytes(u16),
    /// Neither way.
    #[error("direction {0} is not measured; 0, towards the prover, and 1, away from it, are")]
    Direction(u8),
    /// One challenger would send more than [`MAX_CAP_PACKETS`] or [`MAX_CAP_BYTES`].
    #[error(
        "{packets} packets a challenger exceed {most}: claim less, take more challengers, or a shorter duration"
    )]
    TooLarge {
        /// Packets that the terms would allow.
        packets: u64,
        /// Most of their length.
        most: u64,
    },
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

impl TryFrom<u8> for Direction {
    type Error = TermsError;

    /// The direction by its number on the chain.
    fn try_from(number: u8) -> Result<Self, TermsError> {
        match number {
            0 => Ok(Self::Down),
            1 => Ok(Self::Up),
            other => Err(TermsError::Direction(other)),
        }
    }
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
        if layout(self.packet_bytes).is_none() {
            return Err(TermsError::PacketBytes(self.packet_bytes));
        }
        let packets = self.cap_packets();
        let most = MAX_CAP_PACKETS.min(MAX_CAP_BYTES / u64::from(self.packet_bytes));
        if packets > most {
            return Err(TermsError::TooLarge { packets, most });
        }
        Ok(self)
    }

    /// The same terms with the longest packets that an MTU leaves whole; `None` if it is too small for
    /// any: 1436 bytes are the least over IPv4, 1456 over IPv6.
    pub fn of_mtu(self, mtu: u16, ipv6: bool) -> Option<Self> {
        let fitting = Size::ALL
            .into_iter()
            .filter_map(|size| ip_layer(size, ipv6));
        let packet_bytes = fitting.filter(|bytes| *bytes <= mtu).max()?;
        Some(Self {
            packet_bytes,
            ..self
        })
    }

    /// UDP payload of the data packets, of terms that [`check`](Self::check) took.
    pub fn size(&self) -> Size {
        layout(self.packet_bytes).map_or(Size::Standard, |(size, _)| size)
    }

    /// Whether L counts the headers of IPv6, so that the traffic must go over it; of terms that
    /// [`check`](Self::check) took.
    pub fn is_ipv6(&self) -> bool {
        layout(self.packet_bytes).is_some_and(|(_, ipv6)| ipv6)
    }

    /// A rate at the IP layer as layer 1 sees it, every packet in an Ethernet frame; bit/s.
    pub fn layer1_bps(&self, ip_bps: u64) -> u64 {
        let bytes = u128::from(self.packet_bytes);
        let whole = u128::from(ip_bps) * (bytes + u128::from(LAYER1_BYTES)) / bytes.max(1);
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    /// n − f, the challengers whose traffic alone must fill the claim.
    pub fn honest(&self) -> u64 {
        u64::from(self.n).saturating_sub(u64::from(self.f)).max(1)
    }

    /// m = ⌈K·D / (8·L·(n−f))⌉, packets counted at most per challenger.
    pub fn per_challenger(&self) -> u64 {
        let bits = u128::from(self.claim_bps) * u128::from(self.duration_ms);
        let each = 8 * u128::from(self.packet_bytes) * u128::from(self.honest()) * 1000;
        u64::try_from(bits.div_ceil(each.max(1))).unwrap_or(u64::MAX)
    }

    /// ⌈1.15·m⌉, packets that count of one challenger at most.
    pub fn counted_most(&self) -> u64 {
        let most = u128::from(self.per_challenger()) * u128::from(CAP_PERCENT);
        u64::try_from(most.div_ceil(100)).unwrap_or(u64::MAX)
    }

    /// T_min, µs.
    pub fn least_span_us(&self) -> u32 {
        // At most 8.5 s.
        u32::try_from(u64::from(self.duration_ms) * 10 * T_MIN_PERCENT).unwrap_or(u32::MAX)
    }

    /// A slot of the send log, ns.
    pub fn offer_slot_ns(&self) -> u64 {
        (self.duration_ns() / OFFER_SLOTS).max(1)
    }

    /// δ: what a clock may err by, ns.
    pub fn clock_bound_ns(&self) -> u64 {
        self.duration_ns() / CLOCK_PART
    }

    /// Whether the duration is long enough for round trips of `rho_ns`.
    pub fn is_long_enough(&self, rho_ns: u64) -> bool {
        rho_ns.saturating_mul(ROUND_TRIPS) <= self.duration_ns()
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

    /// Bytes that all n offer in D, at the IP layer: what a link of K carries of a phase, however long it takes.
    pub fn offer_bytes(&self) -> u64 {
        let bits = u128::from(self.offer_total_bps()) * u128::from(self.duration_ms);
        u64::try_from(bits / 8_000).unwrap_or(u64::MAX)
    }

    /// Packets one challenger may send at most: its rate until the deadline, rounded up.
    pub fn cap_packets(&self) -> u64 {
        let sent =
            u128::from(self.per_challenger()) * u128::from(OFFER_PERCENT * DEADLINE_DURATIONS);
        u64::try_from(sent.div_ceil(100)).unwrap_or(u64::MAX)
    }

    /// Gap between a challenger's probes during the flood, ns.
    pub fn probe_gap_ns(&self) -> u64 {
        let bits = 8 * PROBE_BYTES * u64::from(self.n) * PROBE_PART;
        let gap = u128::from(bits) * 1_000_000_000 / u128::from(self.claim_bps.max(1));
        u64::try_from(gap).map_or(u64::MAX, |gap| gap.max(PROBE_GAP_LOADED_NS))
    }

    /// Most echoes that a report may hold: what is answered beyond them is not kept. Bounds the report, and the work of
    /// whoever checks it.
    pub fn echoes_most(&self) -> u64 {
        echoes(self.duration_ms.min(*DURATION_MS.end()))
    }

    /// Without an echo for so long a flood stops, ns.
    pub fn echo_fresh_ns(&self) -> u64 {
        ECHO_FRESH_NS.max(self.probe_gap_ns().saturating_mul(ECHOES_MISSED))
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

/// Bytes at the IP layer of a packet of `size`.
fn ip_layer(size: Size, ipv6: bool) -> Option<u16> {
    let headers = if ipv6 { IPV6_UDP_LEN } else { IP_UDP_LEN };
    u16::try_from(size.payload() + headers).ok()
}

/// The size and family that alone make packets so long.
fn layout(packet_bytes: u16) -> Option<(Size, bool)> {
    let all = Size::ALL
        .into_iter()
        .flat_map(|size| [(size, false), (size, true)]);
    all.into_iter()
        .find(|(size, ipv6)| ip_layer(*size, *ipv6) == Some(packet_bytes))
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
    fn probes_are_no_burden_on_a_slow_link() {
        let gap = |claim_bps, n| terms(claim_bps, n, 1).probe_gap_ns();
        assert_eq!(gap(1_000_000_000, 10), PROBE_GAP_LOADED_NS);
        // 10 · 896 bits · 500 at 5 Mbit/s.
        assert_eq!(gap(5_000_000, 10), 896_000_000);
        let fresh = |claim_bps| terms(claim_bps, 10, 1).echo_fresh_ns();
        assert_eq!(fresh(1_000_000_000), ECHO_FRESH_NS);
        assert_eq!(fresh(5_000_000), 16 * 896_000_000);
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
            Err(TermsError::TooLarge { .. })
        ));
    }

    #[test]
    fn each_length_names_one_size_and_family_and_no_other_is_taken() {
        for packet_bytes in 0..=u16::MAX {
            let terms = Terms {
                packet_bytes,
                ..terms(1_000_000, 4, 1)
            };
            let expected = match packet_bytes {
                1436 => Some((Size::Tunnel, false)),
                1456 => Some((Size::Tunnel, true)),
                1500 => Some((Size::Standard, false)),
                1520 => Some((Size::Standard, true)),
                8988 => Some((Size::Jumbo, false)),
                9008 => Some((Size::Jumbo, true)),
                _ => None,
            };
            let Some(expected) = expected else {
                assert_eq!(terms.check(), Err(TermsError::PacketBytes(packet_bytes)));
                continue;
            };
            let terms = terms.check().unwrap();
            assert_eq!((terms.size(), terms.is_ipv6()), expected);
        }
    }

    #[test]
    fn directions_have_the_chains_numbers() {
        for direction in [Direction::Down, Direction::Up] {
            assert_eq!(Direction::try_from(direction as u8), Ok(direction));
        }
        assert_eq!(Direction::try_from(2), Err(TermsError::Direction(2)));
    }

    #[test]
    fn an_mtu_is_filled_as_far_as_it_goes() {
        let of = |mtu, ipv6| {
            let found = terms(1, 4, 1).of_mtu(mtu, ipv6);
            found.map(|t| t.check().unwrap().packet_bytes)
        };
        assert_eq!((of(1435, false), of(1436, false)), (None, Some(1436)));
        assert_eq!((of(1455, true), of(1456, true)), (None, Some(1456)));
        assert_eq!((of(1499, false), of(1500, false)), (Some(1436), Some(1500)));
        assert_eq!((of(1519, true), of(1520, true)), (Some(1456), Some(1520)));
        assert_eq!((of(8987, false), of(9000, false)), (Some(1500), Some(8988)));
        assert_eq!((of(9007, true), of(9008, true)), (Some(1520), Some(9008)));
        assert_eq!(of(USUAL_MTU, true), Some(1456));
    }

    #[test]
    fn packets_are_bounded_in_number_and_in_bytes() {
        // cap = ⌈m · 4.6⌉ of packets of `mtu` bytes.
        let largest = |mtu, most: u64| {
            let with = |m: u64| {
                let t = Terms::downlink(1, 1, 0, 1000).of_mtu(mtu, false).unwrap();
                let claim_bps = m * 8 * u64::from(t.packet_bytes);
                Terms { claim_bps, ..t }.check()
            };
            let m = most * 100 / 460;
            assert!(with(m).is_ok(), "{mtu}");
            let refused = with(m + 1).unwrap_err();
            assert!(matches!(refused, TermsError::TooLarge { most: said, .. } if said == most));
        };
        largest(1436, MAX_CAP_PACKETS);
        largest(1500, MAX_CAP_PACKETS);
        largest(9000, MAX_CAP_BYTES / 8988);
    }

    #[test]
    fn longer_packets_are_fewer_and_lose_less_to_frames() {
        let jumbo = terms(1_000_000_000, 5, 1).of_mtu(9000, false).unwrap();
        assert_eq!(jumbo.per_challenger(), 348);
        assert_eq!(jumbo.layer1_bps(8_988_000), 9_026_000);
        assert_eq!(terms(1, 4, 1).layer1_bps(1_500_000), 1_538_000);
        assert_eq!(terms(1, 4, 1).layer1_bps(u64::MAX), u64::MAX);
    }
}
