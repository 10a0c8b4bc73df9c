//! Long documents, out and in: bundles and evidence.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use plumbline_trust::evidence::{EVIDENCE_MAX, Evidence};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::body::{Held, Reader, Room, length_said, too_large};
use super::server::{Served, chain_problem, challenge, reading};
use super::visitors::Visitor;
use crate::problem::Problem;
use crate::role::coordinator::Hub;

/// Bytes of answers that lie in memory at once: two of the longest.
pub(super) static ANSWERS: Room = Room::new(128, "long answers");
/// Uploads at once, each of up to [`EVIDENCE_MAX`] in memory.
static UPLOADS: Semaphore = Semaphore::const_new(2);
/// Longest time for one of them.
const UPLOAD_TIME: Duration = Duration::from_secs(60);

/// A file's bytes, read once there is room for them; `None` if there is none.
async fn file(path: &std::path::Path) -> Served<Option<Response>> {
    let Ok(found) = tokio::fs::metadata(path).await else {
        return Ok(None);
    };
    let room = ANSWERS.wait(found.len()).await?;
    let bytes = tokio::fs::read(path)
        .await
        .map_err(|e| Problem::internal(e.to_string()))?;
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    Ok(Some((kind, Held::body(bytes, room)).into_response()))
}

pub(super) async fn bundle(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
    Path(id): Path<String>,
) -> Served<Response> {
    let id = challenge(&id)?;
    let asking = reading(&visitor)?;
    let result = hub
        .chain
        .result_of(id.into())
        .await
        .map_err(chain_problem)?;
    drop(asking);
    let result =
        result.ok_or_else(|| Problem::not_found("no-bundle", "this request has no result yet"))?;
    file(&hub.bundle_path(&result.bundle_hash.0))
        .await?
        .ok_or_else(|| Problem::not_found("no-bundle", "there is no bundle of this request here"))
}

/// By content address: whoever asks hashes it anyway.
pub(super) async fn evidence(
    State(hub): State<Arc<Hub>>,
    Path(address): Path<String>,
) -> Served<Response> {
    let address = challenge(&address)?;
    // A bundle is evidence too.
    for path in [hub.archive.path(&address), hub.bundle_path(&address)] {
        if let Some(found) = file(&path).await? {
            return Ok(found);
        }
    }
    Err(Problem::not_found(
        "no-evidence",
        "nothing of this address is here",
    ))
}

/// Takes the evidence of a dispute. The bond on the chain is the permission, the address there is what is
/// taken: both are asked for before the body is read.
pub(super) async fn bring(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
    Path(id): Path<String>,
    request: Request,
) -> Served<Json<Value>> {
    let id = challenge(&id)?;
    let length = length_said(request.headers())?;
    if length > EVIDENCE_MAX as u64 {
        return Err(too_large("evidence", length, EVIDENCE_MAX as u64));
    }
    let asking = reading(&visitor)?;
    let dispute = hub
        .chain
        .dispute_of(id.into())
        .await
        .map_err(chain_problem)?;
    drop(asking);
    if dispute.reporter.is_zero() || dispute.over {
        return Err(Problem::not_found(
            "no-such-dispute",
            "there is no open dispute of this id on the chain",
        ));
    }
    let _turn = UPLOADS.try_acquire().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Others hand over evidence now",
        )
        .detail("try again in a moment")
        .retry_after(1)
    })?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let reader = Reader::new(request.into_body());
    let body = reader.rest(Vec::new(), length);
    let bytes = tokio::time::timeout(UPLOAD_TIME, body)
        .await
        .map_err(|_| {
            Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "too-slow",
                "The body did not come in time",
            )
            .detail(format!("allowed: {} s", UPLOAD_TIME.as_secs()))
        })??;
    let archive = hub.archive.clone();
    let kept = tokio::task::spawn_blocking(move || -> Served<Value> {
        let (_, address) = Evidence::open(&bytes)
            .map_err(|e| Problem::bad_request("bad-evidence", e.to_string()))?;
        if address != dispute.evidence.0 {
            return Err(Problem::bad_request(
                "other-evidence",
                format!(
                    "the dispute is about {}, these bytes are 0x{}",
                    dispute.evidence,
                    hex::encode(address)
                ),
            ));
        }
        let new = archive.keep(&address, &bytes).map_err(|e| {
            Problem::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "not-durable",
                "The evidence could not be kept",
            )
            .detail(e.to_string())
        })?;
        Ok(json!({"address": format!("0x{}", hex::encode(address)), "new": new}))
    });
    let kept = kept.await.map_err(|e| Problem::internal(e.to_string()))?;
    Ok(Json(kept?))
}
