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
use crate::journal::JUDGED;
use crate::metrics::{Direction, Estimate, Link, Probe, Proof, Transaction};
use crate::role::outcome;
use crate::ui::results::MeasureResult;

/// Judges a session and writes its bundle, once; posts the result.
pub(super) async fn report(hub: &Arc<Hub>, id: B256, session: &Arc<Session>) -> Result<(), String> {
    let submission = match session.concluded.get() {
        Some(submission) => submission.clone(),
        None => {
            let submission = conclude(hub, id, session).await?;
            session.concluded.get_or_init(|| submission).clone()
        }
    };
    let Some(submission) = submission else {
        tracing::warn!(%id, "the prover's commitment does not hold: nothing is posted, the contract refunds after the deadline");
        return Ok(());
    };
    let posted = hub.conduct.submission(submission);
    let sent = hub.chain.report(id, &posted).await;
    hub.metrics.transaction(Transaction::Report, sent.is_ok());
    sent.map_err(|e| e.to_string())?;
    tracing::info!(%id, verdict = posted.verdict, "result posted");
    Ok(())
}

/// What the evidence comes to, kept on disk; nothing to post where the prover's commitment does not hold.
async fn conclude(
    hub: &Arc<Hub>,
    id: B256,
    session: &Arc<Session>,
) -> Result<Option<Submission>, String> {
    let (mut log, mut record) = session.read(|m| (m.log().to_vec(), m.record().clone()));
    let (key, journal) = (hub.network.clone(), hub.journal.clone());
    // Recomputing every counted packet takes a core for a while: not on the server's threads.
    let judged = tokio::task::spawn_blocking(move || {
        // A log is judged once: what came after an earlier process had judged it stays out of the bundle.
        let lines = journal.decided(&id.0, JUDGED, log.len() as u64);
        let lines = usize::try_from(lines.map_err(|e| e.to_string())?).unwrap_or(usize::MAX);
        if lines < log.len() {
            log.truncate(lines);
            record = Record::read(&log).map_err(|(_, refusal)| refusal.to_string())?;
        }
        let judgement = judge(&record);
        let (bytes, address) = bundle::write(
            &key,
            &Bundle {
                log,
                judgement: judgement.clone(),
            },
        );
        Ok::<_, String>((record, judgement, bytes, address))
    });
    let (record, judgement, bytes, address) = judged.await.map_err(|e| e.to_string())??;
    let path = hub.bundle_path(&address);
    tokio::task::spawn_blocking(move || keep(&path, &bytes))
        .await
        .map_err(|e| e.to_string())??;
    count(hub, &record, &judgement);
    let document = outcome::from_evidence(&record, &judgement, &address);
    keep_document(hub, id, &document).await?;
    tracing::info!(%id, verdict = ?judgement.verdict, lower_bps = judgement.lower_bps(), guaranteed_bps = judgement.guaranteed_bps(), "judged");
    if !judgement.commitment_ok {
        return Ok(None);
    }
    submission(&record, &judgement, address).map(Some)
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
    let reports = valid_reports(record, judgement).into_iter().map(|kept| {
        let report = &kept.message;
        Timing {
            index: report.index,
            windowUs: report.window_us,
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
        spansUs: judgement.spans_us.clone(),
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
    metrics.capacity(link, Estimate::Measured, judgement.measured_bps);
    metrics.capacity(link, Estimate::Lower, judgement.lower_bps());
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
        judgement.packets.saturating_mul(bytes),
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
            report.message.sent.saturating_mul(bytes),
        );
        for sample in &report.message.rtts {
            let phase = match sample.window {
                Window::Before => Probe::Before,
                Window::During => Probe::During,
            };
            if let Some(ns) = rtt::span_ns(sample) {
                metrics.probe(phase, Duration::from_nanos(ns));
            }
        }
    }
}
