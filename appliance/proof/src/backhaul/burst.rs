//! Whether a link was fast for a moment and slower afterwards: a token bucket on the path, told apart from its
//! sustained rate.
//!
//! ```text
//!  packets │      ╱‾‾‾‾ slope: sustained        arrivals, slice by slice, as the prover counted them:
//!   so far │    ╱‾        │                      the two segments that fit best, if the second is slower
//!          │  ╱ ─ ─ ─ ─ ─ intercept: burst
//!          └─────────────── time
//! ```
//!
//! Claim: what it finds is shown beside the figures, and changes none: slices are the prover's own word. What a
//! bucket can have added to a bound is bounded by its size ([`super::verdict::Judgement::sustained_bps`]). Integers,
//! so that a replay says the same. Tests: below, and over real and virtual shapers in the evaluation.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

/// The rate has shifted if what came after is at most this much of what came before, in percent. A bucket lets
/// several times the sustained rate pass; a busy machine's rate wanders by a tenth or two.
const SHIFT_PERCENT: u64 = 67;
/// … and the slower part is at least this much of the time looked at, in percent: a dip at the end is none.
const AFTER_PERCENT: usize = 30;
/// Slices before the shift, at least: one may be a batch that a sleeping thread took late.
const LEAST_BEFORE: usize = 2;
/// Slices after it, at least: a mean over fewer says little.
const LEAST_AFTER: usize = 5;
/// The step, squared, in units of its own variance (Student's t², as of a change of mean), at least: slices
/// that fill in lumps scatter as widely as a small step.
const SIGNIFICANT: u128 = 36;

/// A burst, and what came after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize)]
pub struct Burst {
    /// Rate before the shift, bit/s at the IP layer.
    pub peak_bps: u64,
    /// Rate after it: the link's sustained rate, bit/s at the IP layer.
    pub sustained_bps: u64,
    /// What passed beyond the sustained rate, bytes at the IP layer: the bucket.
    pub burst_bytes: u64,
}

/// Looks for one in packets per slice of `slice_ns`, each of `packet_bytes` at the IP layer.
pub fn find(slices: &[u32], slice_ns: u64, packet_bytes: u64) -> Option<Burst> {
    // The first slice begins with the first packet, the last ends at the commitment: only whole ones count.
    let whole = &slices[..slices.len().saturating_sub(1)];
    let at = shift(whole)?;
    let (before, after) = whole.split_at(at);
    let (sent, left) = (sum(before), sum(after));
    let (n, m) = (before.len() as u128, after.len() as u128);
    let slower = left * n * 100 <= sent * m * u128::from(SHIFT_PERCENT);
    if !slower || after.len() * 100 < whole.len() * AFTER_PERCENT {
        return None;
    }
    let bits = 8 * u128::from(packet_bytes);
    let rate = |packets: u128, slices: u128| {
        let bps = packets * bits * 1_000_000_000 / (slices * u128::from(slice_ns)).max(1);
        u64::try_from(bps).unwrap_or(u64::MAX)
    };
    // What the bucket added: all before the shift, less what the sustained rate would have carried by then.
    let burst = (sent * m).saturating_sub(left * n) / m;
    Some(Burst {
        peak_bps: rate(sent, n),
        sustained_bps: rate(left, m),
        burst_bytes: u64::try_from(burst * u128::from(packet_bytes)).unwrap_or(u64::MAX),
    })
}

fn sum(slices: &[u32]) -> u128 {
    slices.iter().map(|c| u128::from(*c)).sum()
}

/// Where two means fit the counts best, if they fit them much better than one does.
fn shift(slices: &[u32]) -> Option<usize> {
    let count = slices.len();
    if count < LEAST_BEFORE + LEAST_AFTER {
        return None;
    }
    let total = sum(slices);
    let squares: u128 = slices.iter().map(|c| u128::from(*c).pow(2)).sum();
    let all = count as u128;
    let mut best: Option<(u128, usize)> = None;
    let mut sent = 0;
    for (before, packets) in slices.iter().enumerate() {
        sent += u128::from(*packets);
        let at = before + 1;
        if at < LEAST_BEFORE || at > count - LEAST_AFTER {
            continue;
        }
        let (n, m) = (at as u128, (count - at) as u128);
        // (mean before − mean after)² · n·m/all: how much of the sum of squares the step explains.
        let step = (sent * m).abs_diff((total - sent) * n);
        let explained = step.pow(2) / (n * m * all);
        if best.is_none_or(|(most, _)| explained > most) {
            best = Some((explained, at));
        }
    }
    let (explained, at) = best?;
    let unexplained = (squares - total.pow(2) / all).saturating_sub(explained);
    (explained * (all - 2) >= unexplained * SIGNIFICANT).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    /// A rate before and after, packets a slice, and where it shifts.
    fn step(before: u32, after: u32, at: usize, slices: usize) -> Vec<u32> {
        let rate = |i| if i < at { before } else { after };
        (0..slices).map(rate).collect()
    }

    #[test]
    fn the_specs_bucket_is_told_from_the_line() {
        // 12.5 MB on 100 Mbit/s, offered 1.4 Gbit/s for 4.4 s: slices of 20 ms, 166 and 2333 packets.
        let slices = step(2333, 167, 4, 220);
        let found = find(&slices, 20 * MS, 1500).unwrap();
        assert_eq!(found.sustained_bps, 100_200_000);
        assert_eq!(found.burst_bytes, 4 * (2333 - 167) * 1500);
    }

    #[test]
    fn a_steady_link_a_rising_one_and_a_short_dip_are_none() {
        assert_eq!(find(&[167; 60], MS, 1500), None);
        assert_eq!(find(&step(100, 167, 20, 60), MS, 1500), None);
        let mut dip = vec![167; 60];
        dip[30..33].fill(0);
        assert_eq!(find(&dip, MS, 1500), None);
        let mut end = vec![167; 60];
        end[50..].fill(40);
        assert_eq!(find(&end, MS, 1500), None, "the end is no phase");
        assert_eq!(find(&[], MS, 1500), None);
        assert_eq!(find(&[9; 3], MS, 1500), None);
    }

    #[test]
    fn both_sides_of_the_shift_that_counts() {
        assert!(find(&step(1000, 670, 20, 61), MS, 1500).is_some());
        assert!(find(&step(1000, 671, 20, 61), MS, 1500).is_none());
        // 30 % of sixty whole slices: 18 after the shift.
        assert!(find(&step(1000, 500, 42, 61), MS, 1500).is_some());
        assert!(find(&step(1000, 500, 43, 61), MS, 1500).is_none());
    }

    #[test]
    fn slices_that_fill_in_lumps_hide_no_bucket() {
        // 25 ms at 500 Mbit/s, then 100 Mbit/s: slices of 2 ms, 83 packets before and 33 or none after.
        let mut slices = vec![83; 12];
        slices.extend((0..188).map(|i| if i % 2 == 0 { 33 } else { 0 }));
        let found = find(&slices, 2 * MS, 1500).unwrap();
        assert!(
            found.sustained_bps.abs_diff(99_000_000) < 1_000_000,
            "{found:?}"
        );
        assert!(
            found.burst_bytes.abs_diff(12 * 66 * 1500) < 20_000,
            "{found:?}"
        );
    }

    proptest! {
        /// Whatever the counts, the sustained rate is below the mean over the phase.
        #[test]
        fn it_only_lowers(slices in prop::collection::vec(0u32..5000, 0..250)) {
            if let Some(found) = find(&slices, MS, 1500) {
                let whole = &slices[..slices.len() - 1];
                let mean = sum(whole) * 12_000 * 1000 / whole.len() as u128;
                prop_assert!(u128::from(found.sustained_bps) <= mean);
                prop_assert!(found.sustained_bps < found.peak_bps);
            }
        }

        /// Noise of a tenth around one rate is no burst, and around two rates hides none.
        #[test]
        fn noise_neither_makes_nor_hides_one(
            noise in prop::collection::vec(0u32..20, 100),
            at in 3usize..60,
        ) {
            let noisy = |rates: Vec<u32>| -> Vec<u32> {
                rates.iter().zip(&noise).map(|(r, n)| r * (90 + n) / 100).collect()
            };
            prop_assert_eq!(find(&noisy(vec![1000; 100]), MS, 1500), None);
            let found = find(&noisy(step(2000, 1000, at, 100)), MS, 1500).unwrap();
            prop_assert!(found.sustained_bps.abs_diff(12_000_000_000) < 700_000_000);
        }
    }
}
