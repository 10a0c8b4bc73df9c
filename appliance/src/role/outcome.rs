//! The result document of a proof, from its evidence and the chain: built by the coordinator from its
//! own log, and by a payer from the bundle that it has verified itself.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256};
use plumbline_contracts::State;
use plumbline_proof::backhaul::judge::{Judgement, Verdict as Judged};
use plumbline_proof::backhaul::messages::{Accounting, Report, Window};
use plumbline_proof::backhaul::params;
use plumbline_proof::backhaul::record::Record;
use plumbline_proof::backhaul::rtt;
use plumbline_trust::Address;

use super::uplink;
use crate::chain::client::{ChainClient, ClientError};
use crate::ui::results::{
    ChallengerResult, DatapathView, Direction, EndState, GasView, MeasureResult, PacketsView,
    PaidRole, PaidView, RttView, SettlementView, SustainedView, Verdict, XskView,
};

/// Buckets that a result tells the sustained rate for, bytes: of a home line, a business line, a large shaper.
const BURSTS: [u64; 3] = [1_000_000, 10_000_000, 100_000_000];

/// Whether the contract computed from what was posted what the judgement says: verdict and every bound.
#[must_use]
pub fn is_posted(posted: &crate::chain::client::Outcome, judgement: &Judgement) -> bool {
    let curve = judgement.curve.iter().copied().map(u128::from);
    posted.posted_verdict as u8 == judgement.verdict as u8 && curve.eq(posted.curve.iter().copied())
}

/// What the line sustains at least, if it has a bucket of `burst_bytes`.
pub fn sustained(judgement: &Judgement, burst_bytes: u64) -> SustainedView {
    SustainedView {
        burst_bytes,
        at_least_bps: judgement.sustained_bps(burst_bytes),
    }
}

/// Everything that the evidence says; the chain's part is filled in by [`settle`].
pub fn from_evidence(
    record: &Record,
    judgement: &Judgement,
    bundle_hash: &[u8; 32],
) -> MeasureResult {
    let notice = &record.notice.message;
    let terms = notice.terms;
    let none = Accounting::default();
    let accounting = record
        .reveal
        .as_ref()
        .map_or(&none, |r| &r.message.accounting);
    let challengers = (0..record.seeds.len())
        .map(|at| challenger(record, judgement, at))
        .collect();
    let mut document = MeasureResult {
        id: format!("0x{}", hex::encode(notice.challenge)),
        verdict: verdict(judgement.verdict),
        reason: judgement.reason.clone(),
        state: EndState::TimedOut,
        claimed_bps: terms.claim_bps,
        direction: match terms.direction {
            params::Direction::Down => Direction::Down,
            params::Direction::Up => Direction::Up,
        },
        packet_bytes: terms.packet_bytes,
        measured_bps: judgement.measured_bps,
        layer1_bps: terms.layer1_bps(judgement.measured_bps),
        lower_bps: judgement.lower_bps(),
        guaranteed_bps: judgement.guaranteed_bps(),
        trust_curve: judgement.curve.clone(),
        offered_bps: terms.offer_total_bps(),
        asked_bps: judgement.asked_bps,
        came_bps: judgement.came_bps,
        sustained: BURSTS.map(|bytes| sustained(judgement, bytes)).into(),
        burst_bytes: judgement.burst.map(|b| b.burst_bytes),
        duration_ms: terms.duration_ms.into(),
        target_packets: terms.target(),
        counted_packets: record.commit.as_ref().map_or(0, |c| c.message.packets),
        challengers,
        packets: packets(record, accounting),
        commit_latency_ns: accounting.commit_latency_ns,
        datapath: datapath(accounting),
        chain: SettlementView {
            engine: String::new(),
            view: String::new(),
            conserved: false,
            escrow: 0,
            paid: Vec::new(),
            gas: GasView::default(),
        },
        bundle: None,
        bundle_hash: hex::encode(bundle_hash),
    };
    if terms.direction == params::Direction::Up {
        uplink::complete(record, judgement, &mut document);
    }
    document
}

/// The verdict, in the words of the document.
pub fn verdict(judged: Judged) -> Verdict {
    match judged {
        Judged::Pass => Verdict::Pass,
        Judged::Fail => Verdict::Fail,
        Judged::Inconclusive => Verdict::Inconclusive,
    }
}

fn challenger(record: &Record, judgement: &Judgement, at: usize) -> ChallengerResult {
    let report = record
        .reports
        .get(at)
        .and_then(Option::as_ref)
        .map(|r| &r.message);
    let standing = judgement.standings.get(at);
    let address = record
        .notice
        .message
        .challengers
        .get(at)
        .map_or(Address::default(), |m| m.address);
    let smallest = |window| {
        report.and_then(|r: &Report| {
            r.rtts
                .iter()
                .filter(|s| s.window == window)
                .filter_map(rtt::span_ns)
                .min()
        })
    };
    ChallengerResult {
        address,
        index: u16::try_from(at).unwrap_or(u16::MAX),
        window_us: report.map_or(0, |r| r.window_us),
        rho_ns: report.map_or(0, |r| r.rho_ns),
        rtt: RttView {
            before_ns: smallest(Window::Before).unwrap_or(0),
            during_ns: smallest(Window::During),
        },
        packets: report.map_or(0, |r| r.packets),
        sent: report.map_or(0, |r| r.sent),
        control_sent: report.map_or(0, |r| r.control_sent),
        paid: 0,
        valid: standing.is_some_and(|s| s.valid),
        flags: standing.map_or_else(Vec::new, |s| s.flags.clone()),
    }
}

fn packets(record: &Record, accounting: &Accounting) -> PacketsView {
    let fates: BTreeMap<&str, u64> = accounting
        .fates
        .iter()
        .map(|(k, v)| (k.as_str(), *v))
        .collect();
    let fate = |name: &str| fates.get(name).copied().unwrap_or(0);
    let reports = || record.reports.iter().flatten().map(|r| &r.message);
    let xdp = fates
        .iter()
        .filter_map(|(k, v)| Some((k.strip_prefix("xdp_")?.to_owned(), *v)))
        .collect();
    if record.notice.message.terms.direction == params::Direction::Up {
        return uplink::packets(record, accounting);
    }
    PacketsView {
        sent: sum(reports().map(|r| r.sent)),
        verified: record.commit.as_ref().map_or(0, |c| c.message.packets),
        over_cap: fate("over_cap"),
        late: fate("late"),
        duplicate: fate("duplicate"),
        bad_tag: fate("bad_tag"),
        malformed: fate("thread_malformed"),
        other_session: fate("thread_other_session"),
        out_of_range: fate("out_of_range"),
        socket_dropped: fate("socket_dropped"),
        xdp,
        uplink: BTreeMap::new(),
        xsk: XskView {
            rx_dropped: fate("xsk_rx_dropped"),
            rx_ring_full: fate("xsk_rx_ring_full"),
            rx_invalid_descs: fate("xsk_rx_invalid_descs"),
            fill_ring_empty: fate("xsk_fill_ring_empty"),
        },
        control_sent: sum(reports().map(|r| r.control_sent)),
        control_received: accounting.control_received,
    }
}

/// What others say cannot overflow what is told of it.
pub(super) fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn datapath(accounting: &Accounting) -> DatapathView {
    let part = |name: &str| {
        accounting
            .datapath
            .iter()
            .find(|(k, _)| k == name)
            .map_or_else(|| "none".to_owned(), |(_, v)| v.clone())
    };
    DatapathView {
        receiver: part("receiver"),
        xdp_mode: part("xdp_mode"),
        umem: part("umem"),
        timestamps: part("timestamps"),
        fallback_reasons: accounting
            .datapath
            .iter()
            .filter(|(k, _)| k == "fallback")
            .map(|(_, v)| v.clone())
            .collect(),
    }
}

/// Fills in how the request ended, what it cost and who was paid, all of it from the chain.
///
/// # Errors
/// The chain does not answer.
pub async fn settle(
    chain: &ChainClient,
    id: B256,
    document: &mut MeasureResult,
) -> Result<(), ClientError> {
    let asked = chain.request_of(id).await?;
    let request = &asked.request;
    document.state = match chain.state_of(id).await? {
        State::Final => EndState::Final,
        State::Cancelled => EndState::Cancelled,
        _ => EndState::TimedOut,
    };
    let (_, _, escrow) = chain.quote(request).await?;
    let mut gas = GasView::default();
    let mut paid = Vec::new();
    for step in chain.trail(id, asked.request_block).await? {
        match step.name {
            "request" => gas.request = step.gas_used,
            "select" => gas.select = step.gas_used,
            "begin" => gas.begin = step.gas_used,
            "report" => gas.report = step.gas_used,
            _ => gas.finalize = step.gas_used,
        }
        for credit in chain.credits(id, step.block).await? {
            let role = if credit.to == request.payer {
                PaidRole::Payer
            } else if credit.to == request.coordinator {
                PaidRole::Coordinator
            } else {
                PaidRole::Challenger
            };
            paid.push(PaidView {
                to: Address(credit.to.into_array()),
                amount: units(credit.amount),
                role,
            });
        }
    }
    for challenger in &mut document.challengers {
        let mine = paid
            .iter()
            .filter(|p| p.to == challenger.address && p.role == PaidRole::Challenger);
        challenger.paid = mine.map(|p| p.amount).sum();
    }
    document.chain = SettlementView {
        engine: chain.engine().await?,
        view: String::new(),
        conserved: chain.conserved().await?,
        escrow: units(escrow),
        paid,
        gas,
    };
    Ok(())
}

/// Token amounts are 128 bits wherever they are added up here; the token's own supply may be more.
pub fn units(amount: U256) -> u128 {
    u128::try_from(amount).unwrap_or(u128::MAX)
}
