//! The uplink's estimator, in integers and by floor division, as the contract computes it.

use super::super::estimate::{Estimate, Sample};

/// Nanoseconds in a second times bits in a byte.
const BIT_NS: u128 = 8_000_000_000;

/// Computes the estimate of `samples` for up to `f` corrupt challengers: B = min(Σ rates, `offered_bps`),
/// B_g(j) = Σ of the (samples − j) smallest rates, `packet_bytes` at the IP layer. Nobody is an outlier.
pub(super) fn estimate_uplink(
    samples: &[Sample],
    f: u16,
    offered_bps: u64,
    packet_bytes: u16,
) -> Estimate {
    let rate = |s: &Sample| {
        let bits = BIT_NS * u128::from(packet_bytes) * u128::from(s.packets);
        let bps = bits.checked_div(u128::from(s.tt_ns)).unwrap_or(0);
        u64::try_from(bps).unwrap_or(u64::MAX)
    };
    let mut rates: Vec<u64> = samples.iter().map(rate).collect();
    rates.sort_unstable();
    let smallest = |count: usize| {
        rates
            .iter()
            .take(count)
            .fold(0, |sum: u64, rate| sum.saturating_add(*rate))
    };
    Estimate {
        point_bps: smallest(rates.len()).min(offered_bps),
        curve: (0..=usize::from(f))
            .map(|j| smallest(rates.len().saturating_sub(j)))
            .collect(),
        packets: samples.iter().map(|s| s.packets).sum(),
        outlier: vec![false; samples.len()],
    }
}
