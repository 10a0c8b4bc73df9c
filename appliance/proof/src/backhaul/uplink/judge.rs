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
    if let Err(why) = round_trips(report, found) {
        return Some(why);
    }
    let longest = found.echoes.iter().flatten().map(|(_, ns)| *ns).max();
    let span = span_us(terms, longest.unwrap_or(0));
    // Longer than the echoes show: of probes that nobody answered only the challenger knows.
    (report.window_us < span)
        .then(|| format!("its echoes show {span} us, {} us said", report.window_us))
}

/// What the prover says it sent, against what came at most. A prover that did not send enough cannot be told from a
/// host that could not: nothing is said then.
pub(in super::super) fn tried(record: &Record, packets: &[u64], silent: usize) -> Option<Tried> {
    let terms = &record.notice.message.terms;
    let commit = &record.commit.as_ref()?.message;
    let window_ns = Window::new(terms, 0).length_ns();
    let flood_ns = u128::from(super::flood_ns(terms)).max(1);
    let bits = 8 * u128::from(terms.packet_bytes) * u128::from(commit.packets);
    let asked = (bits * 1_000_000_000 / flood_ns).min(u128::from(terms.claim_bps));
    let asked_bps = u64::try_from(asked).unwrap_or(u64::MAX);
    let came_bps = offer::received_at_most(terms, packets, silent, window_ns);
    let tested = asked * 100 >= u128::from(terms.claim_bps) * u128::from(FAIL_OFFERED_PERCENT);
    Some(Tried {
        slots: OFFER_SLOTS,
        asked_bps,
        came_bps,
        short: tested && u128::from(came_bps) * 100 < asked * u128::from(FAIL_SHORT_PERCENT),
    })
}
