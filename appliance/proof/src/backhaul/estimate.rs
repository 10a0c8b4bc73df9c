//! The lower bound: what a link carried at least, though j of the challengers lie.
//!
//! ```text
//!              e_i − T                        e_i: the commitment is heard
//!  sent by i ──┼──────────── T ───────────────┤
//!   at most    │  so of the c_i counted at    │   c'_i = c_i − what may have left before
//!   r·(w_i−T)+b│  least c'_i left in here     │
//!
//!  B_g(j) = max over T ≥ T_min of 8·L·(Σ c'_i(T) − the j largest c'_i(T)) / T
//! ```
//!
//! **Guarantees.** If at most j challengers are faulty, the link carried B_g(j) on average over some T ≥ T_min that
//! ended no later than the last honest e_i. Each T is a bound of its own: a liar's w_i only adds a candidate.
//! The proof is half a page of `docs/protocol.md`. Integers only, the same in the contract (`Estimator.sol`).
//!
//! **Limits.** What the bound stands on: one commitment for all, a first send that is stamped before it is made,
//! packets that no one else can make before the commitment. A way past the link cannot be seen.
//!
//! **Tests.** Below: the lemma over arbitrary starts, counts, times and liars. `appliance/tests/chain/estimator.rs`:
//! the contract agrees. `cargo xtask eval --search`: an adversary that climbs.
//!
//! Where the prover sends, each w_i is the common window and twice the clock bound ([`super::uplink::span_us`]):
//! whatever i counted was made, and crossed the link, within that time.

use super::params::{BURST_PACKETS, Direction, Terms};

/// What one challenger brings to the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// c: packets of it that count.
    pub packets: u64,
    /// w: from its first send until it heard the commitment, and its clock's error, µs, rounded up. Where the prover sends: the time
    /// within which all that it counted crossed the link.
    pub window_us: u32,
}

/// A bound, and the T that gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Bit/s at the IP layer.
    pub bps: u64,
    /// T, µs.
    pub span_us: u32,
}

/// c'(T): packets of a sample that surely crossed the link within `span_us` before its commitment was heard.
pub fn kept(terms: &Terms, sample: &Sample, span_us: u32) -> u64 {
    if sample.window_us <= span_us {
        return sample.packets;
    }
    if terms.direction == Direction::Up {
        return 0;
    }
    let bits = u128::from(terms.offer_each_bps()) * u128::from(sample.window_us - span_us);
    let early = bits.div_ceil(8_000_000 * u128::from(terms.packet_bytes));
    let early = u64::try_from(early).unwrap_or(u64::MAX);
    sample
        .packets
        .saturating_sub(early.saturating_add(BURST_PACKETS))
}

/// 8·L·packets over `span_us`, bit/s, rounded down.
fn rate(terms: &Terms, packets: u64, span_us: u32) -> u64 {
    let bits = 8_000_000 * u128::from(terms.packet_bytes) * u128::from(packets);
    let bps = bits.checked_div(u128::from(span_us)).unwrap_or(0);
    u64::try_from(bps).unwrap_or(u64::MAX)
}

/// The bound of one T though `faulty` lie: what the contract computes of the T that it is told.
pub fn bound_at(terms: &Terms, samples: &[Sample], faulty: usize, span_us: u32) -> u64 {
    let left = sorted(terms, samples, span_us);
    rate(terms, left.iter().skip(faulty).sum(), span_us)
}

/// c'(T) of all, the largest first.
fn sorted(terms: &Terms, samples: &[Sample], span_us: u32) -> Vec<u64> {
    let mut left: Vec<u64> = samples.iter().map(|s| kept(terms, s, span_us)).collect();
    left.sort_unstable_by(|a, b| b.cmp(a));
    left
}

/// The trust curve B_g(0), …, B_g(f), each with the shortest T that gives it.
pub fn curve(terms: &Terms, samples: &[Sample]) -> Vec<Bound> {
    let least = terms.least_span_us();
    let windows = samples.iter().map(|s| s.window_us);
    let mut spans: Vec<u32> = windows.filter(|w| *w > least).chain([least]).collect();
    spans.sort_unstable();
    spans.dedup();
    let mut curve = vec![
        Bound {
            bps: 0,
            span_us: least
        };
        usize::from(terms.f) + 1
    ];
    for span_us in spans {
        let left = sorted(terms, samples, span_us);
        let mut sum: u64 = left.iter().sum();
        for (j, best) in curve.iter_mut().enumerate() {
            let bps = rate(terms, sum, span_us);
            if bps > best.bps {
                *best = Bound { bps, span_us };
            }
            sum -= left.get(j).copied().unwrap_or(0);
        }
    }
    curve
}

/// Whether the bounds carry the claim: B_g(0) ≥ 0.95·K, and B_g(f) ≥ 0.95·α·K with α = (n−2f)/(n−f). The first
/// keeps the resolution where nobody lies, the second holds where somebody does.
pub fn passes(terms: &Terms, lower: u64, guaranteed: u64) -> bool {
    let bar = u128::from(terms.claim_bps) * u128::from(super::params::PASS_PERCENT);
    let honest = u128::from(terms.honest());
    let trusted = honest.saturating_sub(u128::from(terms.f));
    u128::from(lower) * 100 >= bar && u128::from(guaranteed) * 100 * honest >= bar * trusted
}

/// The measured figure, which is shown and decides nothing: all that counts, over the median of the windows less
/// each challenger's smallest round trip. The prover makes the echoes that round trips are measured by. Where it
/// sends, the common window is as long as it is: no clock's error is added to it.
pub fn measured(terms: &Terms, samples: &[(Sample, u64)]) -> u64 {
    let clocks_ns = match terms.direction {
        Direction::Down => 0,
        Direction::Up => 2 * terms.clock_bound_ns(),
    };
    let mut spans: Vec<u32> = samples
        .iter()
        .map(|(s, round_trip_ns)| {
            let credit = u32::try_from((clocks_ns + round_trip_ns) / 1000).unwrap_or(u32::MAX);
            s.window_us.saturating_sub(credit)
        })
        .collect();
    spans.sort_unstable();
    let packets = samples.iter().map(|(s, _)| s.packets).sum();
    let middle = spans.get(spans.len() / 2).copied().unwrap_or(0);
    rate(terms, packets, middle).min(terms.offer_total_bps())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// n = 4, f = 1, K = 12 Mbit/s over 1 s: m = 334, N = 1002, r = 4.6 Mbit/s, T_min = 850 ms.
    fn terms() -> Terms {
        Terms::downlink(12_000_000, 4, 1, 1000)
    }

    fn sample(packets: u64, window_us: u32) -> Sample {
        Sample { packets, window_us }
    }

    fn bps(terms: &Terms, samples: &[Sample]) -> Vec<u64> {
        curve(terms, samples).iter().map(|b| b.bps).collect()
    }

    #[test]
    fn equal_shares_over_the_duration() {
        let even = [sample(250, 1_000_000); 4];
        // 1000 packets of 12,000 bits in a second; without one challenger 750.
        assert_eq!(bps(&terms(), &even), [12_000_000, 9_000_000]);
    }

    #[test]
    fn a_phase_that_ended_early_is_divided_by_t_min() {
        // A burst of the whole target in 10 ms, and a commitment right after it.
        let burst = [sample(250, 10_000); 4];
        assert_eq!(curve(&terms(), &burst)[0].span_us, 850_000);
        assert_eq!(bps(&terms(), &burst)[0], 12_000_000 * 100 / 85);
    }

    #[test]
    fn what_may_have_left_before_t_does_not_count() {
        // 4.6 Mbit/s for 30 ms are 11.5 packets, and a burst of 8 besides.
        let early = sample(300, 1_030_000);
        assert_eq!(kept(&terms(), &early, 1_030_000), 300);
        assert_eq!(kept(&terms(), &early, 1_029_999), 300 - 1 - 8);
        assert_eq!(kept(&terms(), &early, 1_000_000), 300 - 12 - 8);
        assert_eq!(kept(&terms(), &sample(5, 1_030_000), 1_000_000), 0);
        let up = Terms {
            direction: Direction::Up,
            ..terms()
        };
        assert_eq!(kept(&up, &early, 1_030_000), 300);
        assert_eq!(kept(&up, &early, 1_029_999), 0);
    }

    #[test]
    fn nothing_counted_is_zero_and_f_samples_are_too() {
        assert_eq!(bps(&terms(), &[]), [0, 0]);
        assert_eq!(bps(&terms(), &[sample(250, 1_000_000)])[1], 0);
        assert_eq!(measured(&terms(), &[]), 0);
    }

    #[test]
    fn the_rule_has_both_sides() {
        // K = 12 Mbit/s: 0.95·K = 11.4, 0.95·α·K = 7.6.
        let rule = |lower, guaranteed| passes(&terms(), lower, guaranteed);
        assert!(rule(11_400_000, 7_600_000));
        assert!(!rule(11_399_999, 7_600_000));
        assert!(!rule(11_400_000, 7_599_999));
    }

    #[test]
    fn the_measured_figure_credits_round_trips_and_decides_nothing() {
        let far = [(sample(250, 1_000_000), 100_000_000); 4];
        assert_eq!(measured(&terms(), &far), 12_000_000 * 10 / 9);
    }

    proptest! {
        /// The lemma, over arbitrary starts, deliveries, round trips, commitments and liars: what honest ones
        /// sent by the real pacer arrives over an arbitrary link, some of it counted; B_g(j) is at most what
        /// crossed in the best window of some T in question.
        #[test]
        fn the_bound_is_at_most_what_the_link_carried(
            starts in prop::collection::vec(0u64..1_500_000_000, 7),
            keep in prop::collection::vec(0u64..=100, 7),
            back in prop::collection::vec(0u64..80_000_000, 7),
            lies in prop::collection::vec((0u64..=200, 1u32..3_000_000), 3),
            commit_ns in 100_000_000u64..3_000_000_000,
            every in 1u64..4,
        ) {
            let terms = Terms::downlink(8_400_000, 10, 3, 1000);
            let bits = 8 * u64::from(terms.packet_bytes);
            let mut crossed: Vec<u64> = Vec::new();
            let mut samples = Vec::new();
            for (i, start) in starts.iter().enumerate() {
                // Bursts of 8, each anywhere in its slot of the schedule, the first at its beginning.
                let slot_ns = 8 * bits * 1_000_000_000 / terms.offer_each_bps();
                let mut counted = 0;
                for burst in 0.. {
                    let moved = if burst == 0 { 0 } else { (burst * 7919 + i as u64 * 104_729) % slot_ns };
                    let at = start + burst * slot_ns + moved;
                    if at > commit_ns {
                        break;
                    }
                    for k in 0..8 {
                        // Some are lost, some not counted.
                        if k % every == 0 && counted * 100 <= terms.counted_most() * keep[i] {
                            crossed.push(at);
                            counted += 1;
                        }
                    }
                }
                let heard = commit_ns + back[i];
                if heard > *start {
                    let window_us = u32::try_from((heard - start).div_ceil(1000)).unwrap();
                    samples.push(sample(counted.min(terms.counted_most()), window_us));
                }
            }
            crossed.sort_unstable();
            samples.extend(lies.iter().map(|(c, w)| sample(*c, *w)));
            let last_heard = commit_ns + back.iter().max().unwrap();
            for (j, bound) in curve(&terms, &samples).iter().enumerate().skip(3) {
                // The most that crossed within any T that ended by the last e.
                let span_ns = u64::from(bound.span_us) * 1000;
                let most = crossed
                    .iter()
                    .enumerate()
                    .map(|(at, begin)| crossed[at..].partition_point(|t| *t <= begin + span_ns && *t <= last_heard))
                    .max()
                    .unwrap_or(0);
                let carried = rate(&terms, most as u64, bound.span_us);
                prop_assert!(bound.bps <= carried, "j {j}: {} of {carried}", bound.bps);
            }
        }

        /// More liars, less trust; and each bound is the one that its own T gives.
        #[test]
        fn the_curve_falls_and_each_bound_is_that_of_its_span(
            all in prop::collection::vec((0u64..1000, 0u32..4_000_000), 0..10),
        ) {
            let terms = Terms::downlink(12_000_000, 10, 3, 1000);
            let samples: Vec<Sample> = all.iter().map(|(c, w)| sample(*c, *w)).collect();
            let curve = curve(&terms, &samples);
            prop_assert!(curve.is_sorted_by(|a, b| a.bps >= b.bps));
            for (j, bound) in curve.iter().enumerate() {
                prop_assert!(bound.span_us >= terms.least_span_us());
                prop_assert_eq!(bound_at(&terms, &samples, j, bound.span_us), bound.bps);
                for s in &samples {
                    let span = s.window_us.max(terms.least_span_us());
                    prop_assert!(bound_at(&terms, &samples, j, span) <= bound.bps);
                }
            }
        }
    }
}
