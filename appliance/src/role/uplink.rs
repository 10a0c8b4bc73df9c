//! What a document says otherwise of an uplink: the prover is the sender, and challengers account for what
//! arrived.

use std::collections::BTreeMap;

use plumbline_proof::backhaul::judge::Judgement;
use plumbline_proof::backhaul::messages::Accounting;
use plumbline_proof::backhaul::record::Record;
use plumbline_proof::backhaul::uplink::{Window, counted_most};

use crate::ui::results::{MeasureResult, PacketsView, XskView};

/// Among the prover's words: echoes that it sent over the measured link.
pub(super) const ECHOED: &str = "echoed";
/// Fates that only an uplink's packets have. Names are challengers' words: no other is repeated.
const OTHERS: [&str; 4] = ["bad_payload", "early", "other_source", "unstamped"];

/// Corrects the figures in which the directions part.
pub(super) fn complete(record: &Record, judgement: &Judgement, document: &mut MeasureResult) {
    let terms = &record.notice.message.terms;
    document.target_packets = counted_most(terms).saturating_mul(terms.n.into());
    document.counted_packets = judgement.packets;
    let sent = record.commit.as_ref().map(|c| &c.message.counts);
    let counts = sent.into_iter().flatten();
    for (challenger, sent) in document.challengers.iter_mut().zip(counts) {
        challenger.sent = u64::from(*sent);
    }
    // Challengers receive, each through a plain socket.
    "recvmmsg".clone_into(&mut document.datapath.receiver);
    "kernel-realtime".clone_into(&mut document.datapath.timestamps);
}

/// Every packet by what became of it: sent by the prover, and the fates of all reports.
pub(super) fn packets(record: &Record, accounting: &Accounting) -> PacketsView {
    let reports = || record.reports.iter().flatten().map(|r| &r.message);
    let mut fates: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, count) in reports()
        .filter_map(|r| r.arrivals.as_ref())
        .flat_map(|a| &a.fates)
    {
        let sum = fates.entry(name).or_default();
        *sum = sum.saturating_add(*count);
    }
    let fate = |name: &str| fates.get(name).copied().unwrap_or(0);
    let echoed = accounting.fates.iter().find(|(name, _)| name == ECHOED);
    PacketsView {
        sent: record.commit.as_ref().map_or(0, |c| c.message.packets),
        verified: reports().map(|r| u64::from(r.packets)).sum(),
        over_cap: fate("over_cap"),
        late: fate("late"),
        duplicate: fate("duplicate"),
        bad_tag: fate("bad_tag"),
        malformed: fate("malformed"),
        out_of_range: fate("out_of_range"),
        other_session: fate("other_session"),
        socket_dropped: fate("socket_dropped"),
        xdp: BTreeMap::new(),
        xsk: XskView::default(),
        // Echoes go over the measured link here, so they stand on both sides too.
        control_sent: super::outcome::sum(reports().map(|r| r.control_sent))
            .saturating_add(echoed.map_or(0, |(_, count)| *count)),
        control_received: accounting
            .control_received
            .saturating_add(reports().map(|r| r.rtts.len() as u64).sum()),
        uplink: OTHERS.map(|name| (name.to_owned(), fate(name))).into(),
    }
}

/// Arrivals at all challengers by sub-interval: its length in ns, its counts.
pub(super) fn intervals(record: &Record) -> (u64, Vec<u64>) {
    let window = Window::new(&record.notice.message.terms, 0);
    let mut sums = vec![0; usize::try_from(window.slots).unwrap_or(0)];
    let reports = record.reports.iter().flatten();
    for arrivals in reports.filter_map(|r| r.message.arrivals.as_ref()) {
        for (sum, count) in sums.iter_mut().zip(&arrivals.histogram) {
            *sum += u64::from(*count);
        }
    }
    (window.slot_ns, sums)
}

/// The common window, unix ns; zeros before the start.
pub(super) fn span(record: &Record) -> (u64, u64) {
    let start = record.start.as_ref();
    start.map_or((0, 0), |s| {
        let window = Window::new(&record.notice.message.terms, s.message.t0_ns);
        (window.from_ns, window.until_ns())
    })
}
