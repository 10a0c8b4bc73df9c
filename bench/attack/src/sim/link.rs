//! The measured link: a queue that drops its tail, a rate, and where there is one a token bucket before it.
//!
//! ```text
//!  packet ─► queue, at most so many bytes ─► tokens? ─► sent at the rate, or at the peak while tokens last
//!                 └─ full: dropped
//! ```
//!
//! Claim: first in, first out; what leaves in any time is at most rate · time + bucket. Not promised:
//! frames' overhead at layer 1; rates are of IP bytes. Tests: below.

use std::collections::VecDeque;

use super::world::Bucket;

const SECOND: u64 = 1_000_000_000;

/// Time that `bytes` take at `rate_bps`, ns.
pub(super) fn time_ns(bytes: u64, rate_bps: u64) -> u64 {
    let ns = u128::from(bytes) * 8 * u128::from(SECOND) / u128::from(rate_bps.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

/// A link as it works.
pub(super) struct Link {
    rate_bps: u64,
    queue_bytes: u64,
    bucket: Option<Bucket>,
    /// The last packet taken has left by then.
    free_ns: u64,
    /// Tokens, as time at the rate: they grow by one a nanosecond.
    credit_ns: u64,
    credit_at_ns: u64,
    /// What has not left: when it will, and its bytes.
    standing: VecDeque<(u64, u64)>,
    standing_bytes: u64,
}

impl Link {
    /// An idle link, its bucket full.
    pub(super) fn new(rate_bps: u64, queue_bytes: u64, bucket: Option<Bucket>) -> Self {
        Self {
            rate_bps,
            queue_bytes,
            bucket,
            free_ns: 0,
            credit_ns: bucket.map_or(0, |b| time_ns(b.bytes, rate_bps)),
            credit_at_ns: 0,
            standing: VecDeque::new(),
            standing_bytes: 0,
        }
    }

    /// A packet of `bytes` reaches the queue at `at_ns` (never before the last one): when its last bit
    /// leaves the link; `None` if it is dropped.
    pub(super) fn offer(&mut self, at_ns: u64, bytes: u64) -> Option<u64> {
        while let Some((_, gone)) = self.standing.pop_front_if(|(left, _)| *left <= at_ns) {
            self.standing_bytes -= gone;
        }
        if self.standing_bytes + bytes > self.queue_bytes {
            return None;
        }
        let start = self.free_ns.max(at_ns);
        let cost = time_ns(bytes, self.rate_bps);
        let leaves = match self.bucket {
            None => start + cost,
            Some(bucket) => {
                let full = time_ns(bucket.bytes, self.rate_bps).max(cost);
                let credit = (self.credit_ns + (start - self.credit_at_ns)).min(full);
                let waits = cost.saturating_sub(credit);
                self.credit_ns = (credit + waits) - cost;
                self.credit_at_ns = start + waits;
                start + waits + time_ns(bytes, bucket.peak_bps)
            }
        };
        self.free_ns = leaves;
        self.standing.push_back((leaves, bytes));
        self.standing_bytes += bytes;
        Some(leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12 Mbit/s: a packet of 1500 bytes takes a millisecond.
    const RATE: u64 = 12_000_000;
    const MS: u64 = 1_000_000;

    #[test]
    fn one_after_another_at_the_rate_and_the_tail_is_dropped() {
        let mut link = Link::new(RATE, 3000, None);
        assert_eq!(link.offer(5, 1500), Some(MS + 5));
        assert_eq!(link.offer(5, 1500), Some(2 * MS + 5));
        assert_eq!(link.offer(5, 1500), None);
        // As the first leaves there is room again, and not before.
        assert_eq!(link.offer(MS + 4, 1500), None);
        assert_eq!(link.offer(MS + 5, 1500), Some(3 * MS + 5));
        assert_eq!(link.offer(9 * MS, 1500), Some(10 * MS));
    }

    #[test]
    fn a_bucket_lets_its_bytes_through_at_the_peak_and_then_the_rate() {
        let bucket = Bucket {
            bytes: 15_000,
            peak_bps: 10 * RATE,
        };
        let mut link = Link::new(RATE, u64::MAX / 2, Some(bucket));
        let left: Vec<u64> = (0..100).filter_map(|_| link.offer(0, 1500)).collect();
        // Ten packets of the bucket, and what came in while they left: one.
        assert_eq!(left[9], MS);
        assert!(left[10] <= 12 * MS / 10 && left[11] > left[10] + MS / 2);
        assert_eq!(left[99] - left[98], MS);
        // After a pause as long as the bucket is deep it is full again, and not fuller.
        let again: Vec<u64> = (0..20)
            .filter_map(|_| link.offer(1000 * MS, 1500))
            .collect();
        assert_eq!(again[9], 1001 * MS);
        assert_eq!(again[19] - again[18], MS);
    }

    #[test]
    fn no_more_leaves_than_rate_and_bucket_allow() {
        let bucket = Bucket {
            bytes: 6000,
            peak_bps: 4 * RATE,
        };
        for depth in [None, Some(bucket)] {
            let mut link = Link::new(RATE, 9000, depth);
            let mut chance = super::super::chance::Chance::new(3);
            let (mut now, mut left) = (0, Vec::new());
            for _ in 0..5000 {
                now += chance.below(MS);
                left.extend(link.offer(now, 1500));
            }
            let burst = depth.map_or(0, |b| b.bytes / 1500);
            for from in (0..left.len()).step_by(17) {
                for to in from..left.len().min(from + 60) {
                    let packets = (to - from) as u64;
                    let most = (left[to] - left[from]).div_ceil(MS) + burst;
                    assert!(packets <= most, "{packets} in {from}..{to}");
                }
            }
        }
    }
}
