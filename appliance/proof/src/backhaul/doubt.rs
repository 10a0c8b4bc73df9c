//! Whether a figure that is too low may be others' doing: before a claim is called false.
//!
//! ```text
//!  too low ─► as if every packet that came had counted, up to f challengers' worth, and as if every round trip
//!             were true ─► would it pass? ─yes─► Inconclusive: what decided was not the link
//! ```
//!
//! Claim: at most f challengers that send worthless bytes, lie beyond belief, fall silent, or send everything
//! twice cannot make a true claim false. Not promised: that a false claim is always called so; a prover can
//! have Inconclusive instead, as it can by falling silent, and never Pass. Tests: below, and every attack of
//! `bench/attack`.

use super::estimate::{Estimate, Sample, estimate};
use super::params::{ROUND_TRIPS, Terms};
use super::verdict::{Verdict, decide};

/// Why a figure that is too low says nothing against the claim, if it does not: `samples` are those that count,
/// `result` what they give, `uncounted` the packets that the prover says came besides.
pub(super) fn excuse(
    terms: &Terms,
    samples: &[Sample],
    result: &Estimate,
    uncounted: u64,
) -> Option<String> {
    let passes = |point, guaranteed| {
        let (verdict, _) = decide(terms, true, true, samples.len(), point, guaranteed);
        verdict == Verdict::Pass
    };
    let guaranteed = result.curve.last().copied().unwrap_or(0);
    if (samples.len() as u64) < terms.honest() || passes(result.point_bps, guaranteed) {
        return None;
    }
    // B_g subtracts no round trip; B does, within bounds.
    let timed: Vec<Sample> = samples
        .iter()
        .map(|s| Sample {
            tt_plus_ns: s.tt_ns,
            ..*s
        })
        .collect();
    let near = estimate(&timed, terms.f, terms.offer_total_bps(), terms.packet_bytes);
    let near_guaranteed = near.curve.last().copied().unwrap_or(0).min(
        // A burst holds both figures down.
        if result.point_bps < near.point_bps {
            result.point_bps
        } else {
            u64::MAX
        },
    );
    if passes(result.point_bps, near_guaranteed) {
        let longest = samples.iter().map(|s| s.tt_plus_ns - s.tt_ns).max()?;
        return Some(format!(
            "a round trip of {} us is long beside {} ms, and the guaranteed figure subtracts none: measure {} ms or longer",
            longest / 1000,
            terms.duration_ms,
            (longest * ROUND_TRIPS).div_ceil(1_000_000)
        ));
    }
    let uncounted = uncounted.min(u64::from(terms.f) * terms.per_challenger());
    let all = result.packets + uncounted;
    let most: u64 = {
        let mut counts: Vec<u64> = samples.iter().map(|s| s.packets).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.iter().take(usize::from(terms.f)).sum()
    };
    let grown = |figure: u64, was: u64, is: u64| {
        let grown = u128::from(figure) * u128::from(is) / u128::from(was.max(1));
        u64::try_from(grown).unwrap_or(u64::MAX)
    };
    let point = grown(result.point_bps, result.packets, all);
    let whole = grown(near_guaranteed, result.packets - most, all - most);
    passes(point, whole).then(|| {
        format!(
            "{} bit/s without {uncounted} packets that came and do not count (worthless, or twice); with them it may be {point}",
            result.point_bps
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// n = 4, f = 1, K = 100 Mbit/s over 100 ms: m = 278, N = 834 packets.
    fn terms() -> Terms {
        Terms::downlink(100_000_000, 4, 1, 100)
    }

    fn told(samples: &[Sample], uncounted: u64) -> Option<String> {
        let terms = terms();
        let result = estimate(samples, 1, terms.offer_total_bps(), terms.packet_bytes);
        excuse(&terms, samples, &result, uncounted)
    }

    fn even(n: usize, packets: u64, round_trip_ms: u64) -> Vec<Sample> {
        let tt_ns = 100_000_000;
        let sample = Sample {
            tt_ns,
            tt_plus_ns: tt_ns + round_trip_ms * 1_000_000,
            packets,
        };
        vec![sample; n]
    }

    #[test]
    fn a_figure_that_passes_or_is_truly_low_needs_no_excuse() {
        assert_eq!(told(&even(4, 208, 0), 0), None);
        assert_eq!(told(&even(4, 100, 0), 0), None);
        // A third of the claim, and f challengers' worth of anything does not help it.
        assert_eq!(told(&even(4, 70, 0), u64::MAX), None);
        assert_eq!(
            told(&even(2, 100, 0), 1_000),
            None,
            "too few reports are V9's affair"
        );
    }

    #[test]
    fn one_whose_bytes_were_worthless_does_not_make_a_true_claim_false() {
        let three = even(3, 208, 0);
        assert_eq!(told(&three, 0), None, "nothing else came");
        assert!(told(&three, 208).is_some_and(|why| why.contains("208 packets that came")));
        // 95 Mbit/s are 792 packets in 100 ms: 168 is the least that makes it pass.
        assert_eq!(
            (told(&three, 167), told(&three, 168).is_some()),
            (None, true)
        );
    }

    #[test]
    fn a_round_trip_that_is_long_beside_the_phase_is_named_with_a_phase_that_is_not() {
        // B_g = 624 packets in 100 ms + R: 74.9 Mbit/s at 0, 62.4 at 20 ms; 63.3 is needed.
        assert_eq!(told(&even(4, 208, 10), 0), None);
        let why = told(&even(4, 208, 20), 0).unwrap();
        assert!(why.contains("measure 400 ms or longer"), "{why}");
    }
}
