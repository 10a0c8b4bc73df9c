//! The estimator: pure integer arithmetic, the same in Rust and in the contract (`Estimator.sol`),
//! held equal by a property test in `appliance/tests/chain/`.
//!
//! Source of the formulas: the protocol seed and "Proof of Backhaul" (NDSS 2024, arXiv 2210.11546).

use super::params::L;

/// One challenger's figures as they enter the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Transmission time: commitment arrival − first send − ρ, ns.
    pub tt_ns: u64,
    /// Transmission time credited only with a floor that the prover cannot inflate, ns.
    pub tt_plus_ns: u64,
    /// Packets the prover counted of this challenger.
    pub packets: u64,
}

/// What is computed from all samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Point estimate, bit/s at the IP layer: min(8·N·L / median tt, offered).
    pub point_bps: u64,
    /// Trust curve: `curve[j]` holds though j challengers collude with the prover, bit/s.
    pub curve: Vec<u64>,
    /// N': packets counted over all samples.
    pub packets: u64,
    /// Per sample: its timing is further from the median than max(3·MAD, 5 %).
    pub outlier: Vec<bool>,
}

impl Estimate {
    /// No figure exceeds what the link sustained.
    pub fn lower_to(&mut self, sustained_bps: u64) {
        for figure in self.curve.iter_mut().chain([&mut self.point_bps]) {
            *figure = (*figure).min(sustained_bps);
        }
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

/// Computes the estimate of `samples` for up to `f` corrupt challengers; `offered_bps` is the
/// ceiling of what could have been measured.
pub fn estimate(samples: &[Sample], f: u16, offered_bps: u64) -> Estimate {
    let tts: Vec<u64> = samples.iter().map(|s| s.tt_ns).collect();
    let packets: u64 = samples.iter().map(|s| s.packets).sum();
    let bits = |packets: u64| 8 * u128::from(L) * u128::from(packets);
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
            times.get(j).map_or(0, |t| rate(bits(packets - handed), *t))
        })
        .collect();
    Estimate {
        point_bps: rate(bits(packets), centre).min(offered_bps),
        curve,
        packets,
        outlier: tts.iter().map(|t| t.abs_diff(centre) > allowed).collect(),
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
        let e = estimate(&even(10, 100_000_000, 700), 3, u64::MAX);
        assert_eq!(e.point_bps, 8 * 1500 * 7000 * 10);
        assert_eq!(e.curve[0], e.point_bps);
        assert_eq!(e.curve[3] * 10, e.point_bps * 7);
    }

    #[test]
    fn nothing_counted_is_zero_not_a_panic() {
        let none = estimate(&[], 1, 100);
        assert_eq!((none.point_bps, none.curve.as_slice()), (0, &[0, 0][..]));
        assert_eq!(estimate(&even(4, 0, 5), 1, 100).point_bps, 0);
    }

    #[test]
    fn outliers_begin_past_five_percent() {
        let mut s = even(5, 100_000, 10);
        s[4].tt_ns = 105_000;
        assert!(!estimate(&s, 1, u64::MAX).outlier[4]);
        s[4].tt_ns = 105_001;
        assert!(estimate(&s, 1, u64::MAX).outlier[4]);
    }

    proptest! {
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
            let e = estimate(&all, 3, u64::MAX);
            prop_assert!(e.curve[3] <= rate(8 * u128::from(L) * u128::from(carried), fastest));
            prop_assert!(e.curve.windows(2).all(|w| w[1] <= w[0] || lies.iter().any(|(t, _)| *t > 110_000_000)));
        }
    }
}
