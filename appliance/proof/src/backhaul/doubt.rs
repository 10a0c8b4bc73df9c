//! Whether a figure that is too low may be others' doing: before a claim is called false.
//!
//! ```text
//!  too low ─► as if every packet that came had counted, up to what f may send, and as if every round trip
//!             had been subtracted ─► would it pass? ─yes─► Inconclusive: what decided was not the link
//! ```
//!
//! Claim: at most f challengers that send worthless bytes, lie beyond belief, fall silent, or send everything
//! twice or too fast cannot make a true claim false. Not promised: that a false claim is always called so; a prover can
//! have Inconclusive instead, as it can by falling silent, and never Pass. Tests: below, and every attack of
//! `bench/attack`.

use super::estimate::{Sample, estimate};
use super::params::{ROUND_TRIPS, Terms};
use super::verdict::{Verdict, decide};

/// Why a figure that is too low says nothing against the claim, if it does not: `samples` are those that count,
/// `burst` what came after a burst, `uncounted` the packets that the prover says came besides.
pub(super) fn excuse(
    terms: &Terms,
    samples: &[Sample],
    burst: Option<u64>,
    uncounted: u64,
) -> Option<String> {
    let figures = |samples: &[Sample]| {
        let all = estimate(
            samples,
            terms.f,
            terms.offer_total_bps(),
            terms.packet_bytes,
        );
        let all = all.within(burst);
        let guaranteed = all.curve.last().copied().unwrap_or(0);
        (all.point_bps, guaranteed, all.packets)
    };
    let passes = |point, guaranteed| {
        let (verdict, _) = decide(terms, true, true, samples.len(), point, guaranteed);
        verdict == Verdict::Pass
    };
    let (point, guaranteed, packets) = figures(samples);
    if (samples.len() as u64) < terms.honest() || passes(point, guaranteed) {
        return None;
    }
    // B_g subtracts no round trip, and B only so much of one; here both do, all of it.
    let timed = |s: &Sample| Sample {
        tt_plus_ns: s.tt_ns,
        ..*s
    };
    let timed: Vec<Sample> = samples.iter().map(timed).collect();
    let (near, near_guaranteed, _) = figures(&timed);
    if passes(near, near_guaranteed) {
        let round_trip = |s: &Sample| s.tt_plus_ns.saturating_sub(s.tt_ns);
        let longest = samples.iter().map(round_trip).max()?;
        return Some(format!(
            "a round trip of {} us is long beside {} ms: measure {} ms or longer",
            longest / 1000,
            terms.duration_ms,
            (longest * ROUND_TRIPS).div_ceil(1_000_000)
        ));
    }
    let uncounted = uncounted.min(u64::from(terms.f).saturating_mul(terms.cap_packets()));
    let all = packets + uncounted;
    let most: u64 = {
        let mut counts: Vec<u64> = samples.iter().map(|s| s.packets).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts.iter().take(usize::from(terms.f)).sum()
    };
    let grown = |figure: u64, was: u64, is: u64| {
        let grown = u128::from(figure) * u128::from(is) / u128::from(was.max(1));
        u64::try_from(grown).unwrap_or(u64::MAX)
    };
    let more = grown(near, packets, all);
    passes(more, grown(near_guaranteed, packets - most, all - most)).then(|| {
        format!(
            "{point} bit/s without {uncounted} packets that came and do not count (worthless, twice, or too many of one sender); with them it may be {more}"
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
        excuse(&terms(), samples, None, uncounted)
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
        // A third of the claim, and another third that does not count.
        assert_eq!(told(&even(4, 70, 0), 300), None);
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
