//! What a flood did: packets, errors, and how precisely they were paced.

use hdrhistogram::Histogram;

use plumbline_proof::backhaul::sendlog::SendLog;

use super::{Ended, GeneratorError, Sent};
use crate::clock::realtime_of;

/// Largest lateness or gap that is told apart, ns; more is recorded as this.
const LATEST_NS: u64 = 10_000_000_000;

/// What was sent.
#[derive(Clone, Debug)]
pub struct FloodOutcome {
    /// s: just before the first packets were handed to the kernel. Read from `CLOCK_MONOTONIC`, and said as
    /// `CLOCK_REALTIME` ns by what the two differed then.
    pub first_send_ns: Option<u64>,
    /// Just after the last accepted ones were; likewise, by the same difference.
    pub last_send_ns: Option<u64>,
    /// Packets that the kernel accepted.
    pub sent: u64,
    /// When it accepted them, since the first send.
    pub log: SendLog,
    /// Time for which something was due, beyond one burst, and was not sent, ns.
    pub missed_ns: u64,
    /// Bursts that were due before their packets were made.
    pub starved: u64,
    /// Packets that it did not, by `errno` (0: a send that took fewer bytes than offered).
    pub errors: Vec<(i32, u64)>,
    /// How late each burst was handed over, ns after it was due.
    pub gaps: Histogram<u64>,
    /// From the hand-over of each burst to that of the next, ns.
    pub departures: Histogram<u64>,
    /// How much each of `departures` differs from what the schedule had between the same two bursts, ns.
    pub gap_errors: Histogram<u64>,
    /// What the schedule has between two bursts on average, ns.
    pub scheduled_gap_ns: u64,
    /// `io_uring`, `sendmsg`, `send` (packet by packet), `af_xdp-copy` or `af_xdp-zero-copy`.
    pub engine: &'static str,
    /// Why `engine` is not `io_uring`, if another was not asked for.
    pub fallback_reason: Option<String>,
    /// Why it ended.
    pub ended: Ended,
}

/// How well the schedule was kept, in ns. Quantiles over bursts; 0 where there were none.
///
/// A flood that cannot keep up has a lateness of a slot and what a send takes: from there on the schedule is
/// moved to what was sent, and gap errors say nothing of the rate that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Precision {
    /// Median lateness of a burst.
    pub late_p50_ns: u64,
    /// 99 % of the bursts were at most so late.
    pub late_p99_ns: u64,
    /// The latest.
    pub late_max_ns: u64,
    /// Median time between two bursts.
    pub gap_p50_ns: u64,
    /// 99 % of the gaps were at most so long.
    pub gap_p99_ns: u64,
    /// The longest.
    pub gap_max_ns: u64,
    /// Median difference between a gap and what the schedule had there. The schedule moves each burst
    /// within its slot, so gaps differ by intention; this is what they differ without it.
    pub gap_error_p50_ns: u64,
    /// 99 % of the gaps differ by at most this.
    pub gap_error_p99_ns: u64,
    /// The greatest difference.
    pub gap_error_max_ns: u64,
    /// Mean time between two bursts in the schedule.
    pub scheduled_gap_ns: u64,
}

impl FloodOutcome {
    pub(super) fn new(
        engine: &'static str,
        fallback_reason: Option<String>,
        duration_ns: u64,
        scheduled_gap_ns: u64,
    ) -> Result<Self, GeneratorError> {
        let histogram = || {
            Histogram::new_with_bounds(1, LATEST_NS, 2).map_err(|_| GeneratorError::Plan {
                key: "gaps",
                value: LATEST_NS,
                allowed: "bounds that hdrhistogram takes",
            })
        };
        Ok(Self {
            first_send_ns: None,
            last_send_ns: None,
            sent: 0,
            log: SendLog::new(duration_ns),
            missed_ns: 0,
            starved: 0,
            errors: Vec::with_capacity(8),
            gaps: histogram()?,
            departures: histogram()?,
            gap_errors: histogram()?,
            scheduled_gap_ns,
            engine,
            fallback_reason,
            ended: Ended::Exhausted,
        })
    }

    /// The distributions in a few numbers.
    #[must_use]
    pub fn precision(&self) -> Precision {
        let of = |h: &Histogram<u64>, q| {
            if h.is_empty() {
                0
            } else {
                h.value_at_quantile(q)
            }
        };
        let max = |h: &Histogram<u64>| if h.is_empty() { 0 } else { h.max() };
        Precision {
            late_p50_ns: of(&self.gaps, 0.5),
            late_p99_ns: of(&self.gaps, 0.99),
            late_max_ns: max(&self.gaps),
            gap_p50_ns: of(&self.departures, 0.5),
            gap_p99_ns: of(&self.departures, 0.99),
            gap_max_ns: max(&self.departures),
            gap_error_p50_ns: of(&self.gap_errors, 0.5),
            gap_error_p99_ns: of(&self.gap_errors, 0.99),
            gap_error_max_ns: max(&self.gap_errors),
            scheduled_gap_ns: self.scheduled_gap_ns,
        }
    }

    /// From here on every packet is a system call of its own.
    pub(super) fn without_segments(&mut self) {
        let before = self.engine;
        self.engine = "send";
        self.fallback_reason = Some(format!(
            "{before} with UDP_SEGMENT: EIO; the interface leaves checksums to a kernel before 6.11, which cuts no bursts then (`ethtool -K … tx on`, if the card can)"
        ));
    }

    pub(super) fn silent(&self) -> GeneratorError {
        GeneratorError::Silent {
            engine: self.engine,
            sent: self.sent,
        }
    }

    /// The first send comes next, at `now_ns` of `CLOCK_MONOTONIC`, which is handed back.
    pub(super) fn begins(&mut self, now_ns: u64) -> u64 {
        self.first_send_ns = Some(realtime_of(now_ns));
        now_ns
    }

    /// What became of `offered` packets, known `since_ns` after the first send.
    pub(super) fn count(&mut self, sent: &Sent, offered: usize, packet_len: usize, since_ns: u64) {
        let (taken, errno) = match sent {
            Sent::Bytes(bytes) => (bytes / packet_len, 0),
            Sent::Refused(errno) => (0, *errno as i32),
            Sent::Some { packets, errno } => (*packets, *errno as i32),
            Sent::Abandoned | Sent::Silent => return,
        };
        if taken > 0 {
            self.sent += taken as u64;
            self.log.add(since_ns, taken as u64);
            self.last_send_ns = self.first_send_ns.map(|s| s.saturating_add(since_ns));
        }
        let lost = (offered - taken.min(offered)) as u64;
        if lost == 0 {
            return;
        }
        match self.errors.iter_mut().find(|(e, _)| *e == errno) {
            Some((_, n)) => *n += lost,
            None => self.errors.push((errno, lost)),
        }
    }

    /// A burst that was due at `due_ns` was handed over at `now_ns` (both `CLOCK_MONOTONIC`).
    pub(super) fn departed(&mut self, due_ns: u64, now_ns: u64, previous: &mut Option<(u64, u64)>) {
        self.gaps.saturating_record(now_ns - due_ns.min(now_ns));
        if let Some((due_before, before)) = previous.replace((due_ns, now_ns)) {
            let gap = now_ns.saturating_sub(before);
            let scheduled = due_ns.saturating_sub(due_before);
            self.departures.saturating_record(gap);
            self.gap_errors.saturating_record(gap.abs_diff(scheduled));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_held_against_the_schedule_of_the_same_bursts() {
        let mut outcome = FloodOutcome::new("none", None, 1, 100).unwrap();
        let mut previous = None;
        assert_eq!(outcome.precision().gap_max_ns, 0, "no bursts, no gaps");
        // Due at 1000, 1100, 1150; 10 late, 30 late, on time.
        for (due, now) in [(1000, 1010), (1100, 1130), (1150, 1150)] {
            outcome.departed(due, now, &mut previous);
        }
        let p = outcome.precision();
        assert_eq!((p.late_p50_ns, p.late_max_ns), (10, 30));
        assert_eq!((outcome.departures.len(), outcome.gap_errors.len()), (2, 2));
        assert_eq!((p.gap_p50_ns, p.gap_max_ns), (20, 120));
        // 120 instead of 100, 20 instead of 50.
        assert_eq!((p.gap_error_p50_ns, p.gap_error_max_ns), (20, 30));
        assert_eq!(p.scheduled_gap_ns, 100);
    }

    #[test]
    fn what_is_not_taken_is_an_error_by_its_number() {
        let mut outcome = FloodOutcome::new("none", None, 64_000_000, 1).unwrap();
        let errno = nix::errno::Errno::EBUSY;
        outcome.begins(0);
        outcome.count(&Sent::Bytes(2 * 1472), 3, 1472, 1_000_000);
        outcome.count(&Sent::Some { packets: 2, errno }, 4, 1472, 2_000_000);
        outcome.count(&Sent::Some { packets: 4, errno }, 4, 1472, 6_000_000);
        outcome.count(&Sent::Refused(errno), 5, 1472, 7_000_000);
        assert_eq!(outcome.sent, 8);
        // Only what was accepted, and when: slots of 3.2 ms back from 6.4.
        assert_eq!(outcome.log.back_from(6_400_000), [4, 4]);
        let since = |ns: Option<u64>| ns.unwrap() - outcome.first_send_ns.unwrap();
        assert_eq!(since(outcome.last_send_ns), 6_000_000);
        assert_eq!(outcome.errors, [(0, 1), (errno as i32, 7)]);
    }
}
