//! What of a judgement is an uplink's own: the report's window, and whether too little came.

use super::super::judge::round_trips;
use super::super::messages::Report;
use super::super::offer::{self, Tried};
use super::super::params::{FAIL_OFFERED_PERCENT, FAIL_SHORT_PERCENT, OFFER_SLOTS};
use super::super::record::Record;
use super::super::replay::Found;
use super::{Window, counted_most, span_us};

/// V5: why what a report says cannot be.
pub(in super::super) fn wrong(
    record: &Record,
    index: usize,
    report: &Report,
    found: &Found,
) -> Option<String> {
    let terms = &record.notice.message.terms;
    let (Some(start), Some(commit)) = (&record.start, &record.commit) else {
        return Some("no start or no commitment".into());
    };
    let window = Window::new(terms, start.message.t0_ns);
    if (report.sent_first_ns, report.committed_ns) != (window.from_ns, window.until_ns()) {
        let ours = (window.from_ns, window.until_ns());
        return Some(format!("the window is not that of the terms, {ours:?} ns"));
    }
    let counts = report.arrivals.as_ref().map_or(&[][..], |a| &a.histogram);
    let sum: u64 = counts.iter().map(|n| u64::from(*n)).sum();
    let sent = commit.message.counts.get(index).copied().unwrap_or(0);
    let most = counted_most(terms).min(sent.into());
    if report.packets == 0 || sum != u64::from(report.packets) || sum > most {
        return Some(format!(
            "{sum} packets in the sub-intervals, {} said; {sent} were sent, and between 1 and {most} can be counted",
            report.packets
        ));
    }
    if report.response != commit.message.response {
        return Some("is about another commitment".into());
    }
    let span = span_us(terms);
    if report.window_us != span {
        return Some(format!(
            "the terms give {span} us, {} us said",
            report.window_us
        ));
    }
    round_trips(report, found).err()
}

/// What the prover says it sent, against what came at most once the seeds were there and queues full: after the first
/// sub-interval. A prover that did not send enough cannot be told from a host that could not: nothing is said then,
/// nor where the duration is short beside `far_ns`, the (f+1)-th longest round trip.
pub(in super::super) fn tried(
    record: &Record,
    reports: &[&Report],
    silent: usize,
    far_ns: u64,
) -> Option<Tried> {
    let terms = &record.notice.message.terms;
    let commit = &record.commit.as_ref()?.message;
    let window = Window::new(terms, 0);
    let settled_ns = window.length_ns() - window.slot_ns;
    let came = |report: &&Report| {
        let counts = report.arrivals.iter().flat_map(|a| &a.histogram).skip(1);
        counts.map(|n| u64::from(*n)).sum()
    };
    let packets: Vec<u64> = reports.iter().map(came).collect();
    let flood_ns = u128::from(super::flood_ns(terms)).max(1);
    let bits = 8 * u128::from(terms.packet_bytes) * u128::from(commit.packets);
    let asked = (bits * 1_000_000_000 / flood_ns).min(u128::from(terms.claim_bps));
    let asked_bps = u64::try_from(asked).unwrap_or(u64::MAX);
    let came_bps = offer::received_at_most(terms, &packets, silent, settled_ns);
    let tested = terms.is_long_enough(far_ns)
        && asked * 100 >= u128::from(terms.claim_bps) * u128::from(FAIL_OFFERED_PERCENT);
    Some(Tried {
        slots: OFFER_SLOTS,
        asked_bps,
        came_bps,
        short: tested && u128::from(came_bps) * 100 < asked * u128::from(FAIL_SHORT_PERCENT),
    })
}
