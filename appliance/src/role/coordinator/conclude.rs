//! From a finished log to a paid result: judge, bundle, transaction, document.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use plumbline_contracts::abi::backhaul::IBackhaul::{Submission, Timing};
use plumbline_proof::backhaul::bundle::{self, Bundle};
use plumbline_proof::backhaul::judge::{Judgement, judge, valid_reports};
use plumbline_proof::backhaul::messages::Window;
use plumbline_proof::backhaul::params;
use plumbline_proof::backhaul::record::Record;
use plumbline_proof::backhaul::rtt;

use super::{Hub, Session};
use crate::archive;
use crate::metrics::{Direction, Estimate, Link, Probe, Proof, Transaction};
use crate::role::outcome;
use crate::ui::results::MeasureResult;

/// Judges a session, writes its bundle, posts the result.
pub(super) async fn report(hub: &Arc<Hub>, id: B256, session: &Arc<Session>) -> Result<(), String> {
    let (log, record) = session.read(|m| (m.log().to_vec(), m.record().clone()));
    let key = hub.network.clone();
    // Recomputing every counted packet takes a core for a while: not on the server's threads.
    let judged = tokio::task::spawn_blocking(move || {
        let judgement = judge(&record);
        let (bytes, address) = bundle::write(
            &key,
            &Bundle {
                log,
                judgement: judgement.clone(),
            },
        );
        (record, judgement, bytes, address)
    });
    let (record, judgement, bytes, address) = judged.await.map_err(|e| e.to_string())?;
    let path = hub.bundle_path(&address);
    tokio::task::spawn_blocking(move || keep(&path, &bytes))
        .await
        .map_err(|e| e.to_string())??;
    count(hub, &record, &judgement);
    let document = outcome::from_evidence(&record, &judgement, &address);
    keep_document(hub, id, &document).await?;
    if !judgement.commitment_ok {
        tracing::warn!(%id, "the prover's commitment does not hold: nothing is posted, the contract refunds after the deadline");
        return Ok(());
    }
    let sent = hub
        .chain
        .report(
            id,
            &hub.conduct
                .submission(submission(&record, &judgement, address)?),
        )
        .await;
    hub.metrics.transaction(Transaction::Report, sent.is_ok());
    sent.map_err(|e| e.to_string())?;
    tracing::info!(%id, verdict = ?judgement.verdict, point_bps = judgement.point_bps, guaranteed_bps = judgement.guaranteed_bps(), "result posted");
    Ok(())
}

/// What the contract is given: the prover's commitment and every valid report, as signed for it.
fn submission(
    record: &Record,
    judgement: &Judgement,
    address: [u8; 32],
) -> Result<Submission, String> {
    let (commit, reveal) = record
        .commit
        .as_ref()
        .zip(record.reveal.as_ref())
        .ok_or("no commitment on record")?;
    let terms = &record.notice.message.terms;
    let reports = valid_reports(record, judgement).into_iter().map(|kept| {
        let report = &kept.message;
        Timing {
            index: report.index,
            windowUs: u32::try_from(report.tt_ns.div_ceil(1_000)).unwrap_or(u32::MAX),
            packets: report.packets,
            signature: report.settlement.clone().into(),
        }
    });
    Ok(Submission {
        packets: commit.message.packets,
        counts: commit.message.counts.clone(),
        responseHash: commit.message.response.into(),
        proverSignature: reveal.message.settlement.clone().into(),
        reports: reports.collect(),
        bundleHash: address.into(),
        verdict: judgement.verdict as u8,
        spansUs: vec![850 * terms.duration_ms; usize::from(terms.f) + 1],
    })
}

/// The request is paid: completes its document with what the chain did.
pub(super) async fn settled(hub: &Arc<Hub>, id: B256) -> Result<(), String> {
    let kept = hub.store.result(&id.0).map_err(|e| e.to_string())?;
    let Some(bytes) = kept else { return Ok(()) };
    let mut document: MeasureResult = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    outcome::settle(&hub.chain, id, &mut document)
        .await
        .map_err(|e| e.to_string())?;
    keep_document(hub, id, &document).await
}

async fn keep_document(hub: &Arc<Hub>, id: B256, document: &MeasureResult) -> Result<(), String> {
    let bytes = serde_json::to_vec(document).map_err(|e| e.to_string())?;
    let store = hub.store.clone();
    let kept = tokio::task::spawn_blocking(move || store.keep_result(&id.0, &bytes)).await;
    kept.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// On disk, whole, before its hash is on the chain.
fn keep(path: &Path, bytes: &[u8]) -> Result<(), String> {
    archive::write(path, bytes)
        .map_err(|e| format!("cannot keep the bundle {}: {e}", path.display()))
}

fn count(hub: &Hub, record: &Record, judgement: &Judgement) {
    let metrics = &hub.metrics;
    let bytes = u64::from(record.notice.message.terms.packet_bytes);
    let link = match record.notice.message.terms.direction {
        params::Direction::Down => Link::Downlink,
        params::Direction::Up => Link::Uplink,
    };
    metrics.capacity(link, Estimate::Point, judgement.point_bps);
    metrics.capacity(link, Estimate::Guaranteed, judgement.guaranteed_bps());
    metrics.packets_add(
        Proof::Backhaul,
        Direction::Received,
        "verified",
        judgement.packets,
    );
    metrics.bytes_add(
        Proof::Backhaul,
        Direction::Received,
        judgement.packets * bytes,
    );
    if let Some(reveal) = &record.reveal {
        metrics.commit_sent(Duration::from_nanos(
            reveal.message.accounting.commit_latency_ns,
        ));
    }
    for report in record.reports.iter().flatten() {
        metrics.packets_add(
            Proof::Backhaul,
            Direction::Sent,
            "sent",
            report.message.sent,
        );
        metrics.bytes_add(
            Proof::Backhaul,
            Direction::Sent,
            report.message.sent * bytes,
        );
        for sample in &report.message.rtts {
            let phase = match sample.window {
                Window::Before => Probe::Before,
                Window::During => Probe::During,
                Window::After => Probe::After,
            };
            if let Some(ns) = rtt::span_ns(sample) {
                metrics.probe(phase, Duration::from_nanos(ns));
            }
        }
    }
}
