//! The estimator: pure integer arithmetic, the same in Rust and in the contract (`Estimator.sol`),
//! held equal by a property test in `appliance/tests/chain/`.
//!
//! Source of the formulas: the protocol seed and "Proof of Backhaul" (NDSS 2024, arXiv 2210.11546).

use super::params::CREDIT_PERCENT;

/// One challenger's figures as they enter the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Transmission time: commitment arrival − first send − ρ, ns.
    pub tt_ns: u64,
    /// Transmission time credited only with a floor that the prover cannot inflate, ns.
    pub tt_plus_ns: u64,
    /// Packets that count of this challenger.
    pub packets: u64,
}

/// What is computed from all samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Point estimate, bit/s at the IP layer.
    pub point_bps: u64,
    /// Trust curve: `curve[j]` holds though j challengers collude with the prover, bit/s.
    pub curve: Vec<u64>,
    /// N': packets counted over all samples.
    pub packets: u64,
    /// Per sample: its timing is further from the median than max(3·MAD, 5 %).
    pub outlier: Vec<bool>,
}

impl Estimate {
    /// No figure above the rate that lasted after a burst; `None`: no burst was seen.
    #[must_use]
    pub fn within(mut self, sustained_bps: Option<u64>) -> Self {
        let most = sustained_bps.unwrap_or(u64::MAX);
        for bps in self.curve.iter_mut().chain([&mut self.point_bps]) {
            *bps = (*bps).min(most);
        }
        self
    }
}

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;

fn rate(bits: u128, ns: u64) -> u64 {
    if ns == 0 {
        return 0;
    }
    u64::try_from(bits * SECOND / u128::from(ns)).unwrap_or(u64::MAX)
}

/// Median of a non-empty list: the middle, or the floor of the mean of the two middles.
fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let half = sorted.len() / 2;
    match (
        sorted.len() % 2,
        sorted.get(half),
        half.checked_sub(1).and_then(|i| sorted.get(i)),
    ) {
        (1, Some(middle), _) => *middle,
        (0, Some(high), Some(low)) => low.midpoint(*high),
        _ => 0,
    }
}

/// Median absolute deviation, by the same median.
pub fn mad(values: &[u64]) -> u64 {
    let centre = median(values);
    let deviations: Vec<u64> = values.iter().map(|v| v.abs_diff(centre)).collect();
    median(&deviations)
}

/// Bits of so many packets of so many bytes at the IP layer.
fn bits(packets: u64, packet_bytes: u16) -> u128 {
    8 * u128::from(packet_bytes) * u128::from(packets)
}

/// The estimate where challengers send, for up to `f` corrupt ones: point = min(8·N·L / median tt,
/// 1.25 · 8·N·L / median tt⁺, offered); `offered_bps` is the ceiling of what could have been measured, `packet_bytes` L.
pub fn estimate(samples: &[Sample], f: u16, offered_bps: u64, packet_bytes: u16) -> Estimate {
    let tts: Vec<u64> = samples.iter().map(|s| s.tt_ns).collect();
    let packets: u64 = samples.iter().map(|s| s.packets).sum();
    let centre = median(&tts);
    let spread = mad(&tts);
    let allowed = spread.saturating_mul(3).max(centre / 20);

    let mut counts: Vec<u64> = samples.iter().map(|s| s.packets).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let mut times: Vec<u64> = samples.iter().map(|s| s.tt_plus_ns).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    let curve = (0..=usize::from(f))
        .map(|j| {
            // The j corrupt can have handed over at most their own counts, and among the j+1 slowest
            // timings at least one is honest.
            let handed: u64 = counts.iter().take(j).sum();
            times
                .get(j)
                .map_or(0, |t| rate(bits(packets - handed, packet_bytes), *t))
        })
        .collect();
    let plus: Vec<u64> = samples.iter().map(|s| s.tt_plus_ns).collect();
    let plain = u128::from(rate(bits(packets, packet_bytes), median(&plus)));
    let credited = u64::try_from(plain * u128::from(CREDIT_PERCENT) / 100).unwrap_or(u64::MAX);
    Estimate {
        point_bps: rate(bits(packets, packet_bytes), centre)
            .min(credited)
            .min(offered_bps),
        curve,
        packets,
        outlier: tts.iter().map(|t| t.abs_diff(centre) > allowed).collect(),
    }
}

/// The estimate where the prover sends and each challenger times what reached it: rate = 8·L·packets/tt,
/// point = min(Σ rates, offered), `curve[j]` = Σ of all rates but the j largest. Nobody is an outlier: no
/// two time the same traffic. `tt_plus_ns` says nothing here.
pub fn estimate_uplink(
    samples: &[Sample],
    f: u16,
    offered_bps: u64,
    packet_bytes: u16,
) -> Estimate {
    let mut rates: Vec<u64> = samples
        .iter()
        .map(|s| rate(bits(s.packets, packet_bytes), s.tt_ns))
        .collect();
    rates.sort_unstable_by(|a, b| b.cmp(a));
    // Each fits 64 bits and there are few: 128 hold any sum.
    let narrow = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
    let sum = |rates: &[u64]| narrow(rates.iter().copied().map(u128::from).sum());
    let curve = (0..=usize::from(f))
        .map(|j| rates.get(j..).map_or(0, sum))
        .collect();
    Estimate {
        point_bps: sum(&rates).min(offered_bps),
        curve,
        packets: samples.iter().map(|s| s.packets).sum(),
        outlier: vec![false; samples.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn even(n: usize, tt_ns: u64, packets: u64) -> Vec<Sample> {
        vec![
            Sample {
                tt_ns,
                tt_plus_ns: tt_ns,
                packets
            };
            n
        ]
    }

    #[test]
    fn equal_shares_give_the_papers_discount() {
        // n = 10, f = 3, N = (n−f)·m over all ten: α = (N − f·N/n)/N = 0.7.
        let e = estimate(&even(10, 100_000_000, 700), 3, u64::MAX, 1500);
        assert_eq!(e.point_bps, 8 * 1500 * 7000 * 10);
        assert_eq!(e.curve[0], e.point_bps);
        assert_eq!(e.curve[3] * 10, e.point_bps * 7);
    }

    #[test]
    fn nothing_counted_is_zero_not_a_panic() {
        let none = estimate(&[], 1, 100, 1500);
        assert_eq!((none.point_bps, none.curve.as_slice()), (0, &[0, 0][..]));
        assert_eq!(estimate(&even(4, 0, 5), 1, 100, 1500).point_bps, 0);
    }

    #[test]
    fn longer_packets_carry_more() {
        let of = |bytes| estimate(&even(4, 100_000_000, 10), 1, u64::MAX, bytes).point_bps;
        assert_eq!(of(1500) / 1500, of(9008) / 9008);
    }

    #[test]
    fn uplink_adds_rates_and_drops_the_largest() {
        let of = |tt_ns, packets| Sample {
            tt_ns,
            tt_plus_ns: 1,
            packets,
        };
        let s = [
            of(1_000_000_000, 3),
            of(500_000_000, 1),
            of(1_000_000_000, 1),
        ];
        let e = estimate_uplink(&s, 4, u64::MAX, 1500);
        // 3, 2 and 1 packets a second.
        let packet = 8 * 1500;
        assert_eq!(e.point_bps, 6 * packet);
        assert_eq!(e.curve, [6, 3, 1, 0, 0].map(|rate| rate * packet));
        assert_eq!((e.packets, e.outlier), (5, vec![false; 3]));
        assert_eq!(
            estimate_uplink(&s, 1, 5 * packet, 1500).point_bps,
            5 * packet
        );
        assert_eq!(estimate_uplink(&[], 1, 100, 1500).curve, [0, 0]);
    }

    #[test]
    fn a_sustained_rate_lowers_and_never_raises() {
        let e = estimate(&even(4, 100_000_000, 100), 1, u64::MAX, 1500);
        assert_eq!(e.clone().within(None), e);
        assert_eq!(e.clone().within(Some(e.point_bps)), e);
        let low = e.clone().within(Some(7));
        assert_eq!((low.point_bps, low.curve.as_slice()), (7, &[7, 7][..]));
        assert_eq!((low.packets, low.outlier), (e.packets, e.outlier));
    }

    #[test]
    fn outliers_begin_past_five_percent() {
        let mut s = even(5, 100_000, 10);
        s[4].tt_ns = 105_000;
        assert!(!estimate(&s, 1, u64::MAX, 1500).outlier[4]);
        s[4].tt_ns = 105_001;
        assert!(estimate(&s, 1, u64::MAX, 1500).outlier[4]);
    }

    proptest! {
        /// f liars who claim what they like cannot raise the guaranteed uplink above the sum of honest
        /// rates.
        #[test]
        fn liars_cannot_raise_the_guaranteed_uplink(
            honest in prop::collection::vec((90_000_000u64..110_000_000, 0u64..1000), 7),
            lies in prop::collection::vec((1u64..u64::MAX, any::<u32>()), 3),
        ) {
            let of = |(tt, packets): &(u64, u64)| Sample { tt_ns: *tt, tt_plus_ns: 1, packets: *packets };
            let mut all: Vec<Sample> = honest.iter().map(of).collect();
            let true_bps = estimate_uplink(&all, 0, u64::MAX, 1500).point_bps;
            all.extend(lies.iter().map(|(tt, packets)| of(&(*tt, u64::from(*packets)))));
            let e = estimate_uplink(&all, 3, u64::MAX, 1500);
            prop_assert!(e.curve[3] <= true_bps);
            prop_assert!(e.curve.is_sorted_by(|a, b| a >= b));
        }

        /// f liars who choose their timings freely cannot raise the guaranteed figure above the rate
        /// that the honest could have carried: (N − their counts) in the slowest honest time or more.
        #[test]
        fn liars_cannot_raise_the_guarantee(
            honest in prop::collection::vec((90_000_000u64..110_000_000, 900u64..1000), 7),
            lies in prop::collection::vec((1u64..u64::MAX / 2, 0u64..1000), 3),
        ) {
            let mut all: Vec<Sample> = honest.iter().map(|(t, p)| Sample { tt_ns: *t, tt_plus_ns: *t, packets: *p }).collect();
            let carried: u64 = all.iter().map(|s| s.packets).sum();
            let fastest = all.iter().map(|s| s.tt_plus_ns).min().unwrap();
            all.extend(lies.iter().map(|(t, p)| Sample { tt_ns: *t, tt_plus_ns: *t, packets: *p }));
            let e = estimate(&all, 3, u64::MAX, 1500);
            prop_assert!(e.curve[3] <= rate(bits(carried, 1500), fastest));
            prop_assert!(e.curve.windows(2).all(|w| w[1] <= w[0] || lies.iter().any(|(t, _)| *t > 110_000_000)));
        }
    }
}
