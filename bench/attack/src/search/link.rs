//! The link: one queue that drops at its tail, a rate that may change or stand still, a bucket. Times are ns.

use plumbline_proof::backhaul::params::{LAYER1_BYTES, Terms};

/// What the link is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Bit/s at the IP layer, of packets as long as the measurement's.
    pub(super) bps: f64,
    /// Packets that wait at most.
    pub(super) queue: usize,
    /// Limits what crosses at layer 1, frames and gaps included, and not at the IP layer.
    pub(super) layer1: bool,
    /// (from, until, share of the rate that is left); share 0: it stands still.
    pub(super) slow: Option<(f64, f64, f64)>,
    /// (sustained bit/s, bucket in bits): `bps` is the peak then.
    pub(super) bucket: Option<(f64, f64)>,
}

impl Line {
    /// The same rate all the time, so that the truth is one figure.
    pub(super) fn is_constant(&self) -> bool {
        self.slow.is_none() && self.bucket.is_none()
    }
}

/// A link at work. Packets are offered in the order of their arrival.
pub(super) struct Link {
    line: Line,
    frame_bytes: f64,
    ns_per_bit: f64,
    free: f64,
    tokens: f64,
    filled: f64,
    /// Departures of those that wait, a ring.
    waiting: Vec<f64>,
    from: usize,
    held: usize,
}

impl Link {
    pub(super) fn new(line: &Line, terms: &Terms) -> Self {
        let length = f64::from(terms.packet_bytes);
        let frame = f64::from(LAYER1_BYTES);
        let whole = if line.layer1 {
            (length + frame) / length
        } else {
            1.0
        };
        Self {
            line: line.clone(),
            frame_bytes: if line.layer1 { frame } else { 0.0 },
            ns_per_bit: 1e9 / (line.bps * whole),
            free: 0.0,
            tokens: line.bucket.map_or(0.0, |(_, bits)| bits),
            filled: 0.0,
            waiting: vec![0.0; line.queue.max(1)],
            from: 0,
            held: 0,
        }
    }

    /// A packet of `bytes` at the IP layer arrives at `at`; when it has crossed, unless the queue is full.
    pub(super) fn offer(&mut self, at: f64, bytes: f64) -> Option<f64> {
        let size = self.waiting.len();
        while self.held > 0 && self.waiting[self.from] <= at {
            self.from = if self.from + 1 == size {
                0
            } else {
                self.from + 1
            };
            self.held -= 1;
        }
        if self.held == size {
            return None;
        }
        let bits = 8.0 * (bytes + self.frame_bytes);
        let mut begin = self.free.max(at);
        if let Some((rate, most)) = self.line.bucket {
            let tokens = (self.tokens + (begin - self.filled) * rate / 1e9).min(most);
            let wait = ((bits - tokens) * 1e9 / rate).max(0.0);
            begin += wait;
            self.tokens = (tokens + wait * rate / 1e9 - bits).max(0.0);
            self.filled = begin;
        }
        self.free = self.through(begin, bits * self.ns_per_bit);
        let last = self.from + self.held;
        let last = if last >= size { last - size } else { last };
        self.waiting[last] = self.free;
        self.held += 1;
        Some(self.free)
    }

    /// When `work` ns of the full rate are done that begin at `begin`.
    fn through(&self, begin: f64, work: f64) -> f64 {
        let Some((from, until, share)) = self.line.slow else {
            return begin + work;
        };
        if begin >= until || begin + work <= from {
            return begin + work;
        }
        let before = (from - begin).max(0.0);
        let inside = (until - begin.max(from)) * share;
        if work <= before + inside {
            return begin.max(from) + (work - before) / share;
        }
        until + (work - before - inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12 Mbit/s: a packet of 1500 bytes takes a ms.
    fn line() -> Line {
        Line {
            bps: 12e6,
            queue: 2,
            layer1: false,
            slow: None,
            bucket: None,
        }
    }

    fn played(line: &Line, at_ms: &[f64]) -> Vec<Option<f64>> {
        let mut link = Link::new(line, &Terms::downlink(12_000_000, 4, 1, 1000));
        let crossed = at_ms.iter().map(|at| link.offer(at * 1e6, 1500.0));
        crossed
            .map(|c| c.map(|ns| (ns / 1e3).round() / 1e3))
            .collect()
    }

    #[test]
    fn packets_follow_each_other_and_a_full_queue_refuses() {
        let some = played(&line(), &[0.0, 0.0, 0.0, 1.0, 9.0]);
        assert_eq!(some, [Some(1.0), Some(2.0), None, Some(3.0), Some(10.0)]);
    }

    #[test]
    fn a_stall_a_slow_time_and_a_bucket() {
        let slow = |share| Line {
            slow: Some((0.5e6, 2.5e6, share)),
            ..line()
        };
        assert_eq!(played(&slow(0.0), &[0.0, 0.0]), [Some(3.0), Some(4.0)]);
        assert_eq!(played(&slow(0.5), &[0.0, 0.0]), [Some(1.5), Some(3.0)]);
        // Two packets of bucket, then a fifth of the rate.
        let bucket = Line {
            bucket: Some((2.4e6, 24e3)),
            queue: 9,
            ..line()
        };
        let crossed = played(&bucket, &[0.0; 4]);
        assert_eq!(crossed[..2], [Some(1.0), Some(2.0)]);
        assert!(
            crossed[2] > Some(4.9) && crossed[3] > Some(9.9),
            "{crossed:?}"
        );
    }

    #[test]
    fn at_layer_1_short_frames_take_more_than_their_bytes() {
        let mut link = Link::new(
            &Line {
                layer1: true,
                ..line()
            },
            &Terms::downlink(12_000_000, 4, 1, 1000),
        );
        let long = link.offer(0.0, 1500.0).unwrap();
        assert!((long - 1e6).abs() < 1.0);
        let short = link.offer(0.0, 46.0).unwrap() - long;
        assert!((short - 1e6 * 84.0 / 1538.0).abs() < 1.0);
    }
}
