//! The coordinator's HTTP server: routes, bounds, problems. What it serves is `role::coordinator`'s.

#![allow(clippy::result_large_err)] // a problem is made once, on the way out

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get, post, put};
use plumbline_proof::backhaul::messages::{ChallengeId, Statement};
use plumbline_proof::backhaul::record::MAX_BODY;
use plumbline_trust::encoding::{decode, encode};
use plumbline_trust::evidence::{EVIDENCE_MAX, Evidence};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Line, Lines, PAGE_LINES, Said, Sessions, WAIT_MAX};
use crate::config::units::parse_duration;
use crate::metrics::Algorithm;
use crate::problem::{Problem, identify};
use crate::role::coordinator::{HearError, Hub, Session};
use crate::role::ledger;

/// Largest body of a JSON-RPC call, bytes: a report transaction of 64 challengers is 30 kB.
const RPC_BODY: usize = 1 << 20;

/// Uploads at once, each of up to [`EVIDENCE_MAX`] in memory.
static UPLOADS: Semaphore = Semaphore::const_new(2);
/// Longest time for one of them.
const UPLOAD_TIME: Duration = Duration::from_secs(60);

/// Longest refusal of the router that is passed on, bytes; its sentences have a hundred.
const WORDS_MAX: usize = 4096;

/// Every route, as metrics label it.
const ROUTES: [&str; 16] = [
    "/v1/version",
    "/v1/deployment",
    "/v1/participants",
    "/v1/status",
    "/v1/sessions",
    "/v1/sessions/{id}",
    "/v1/sessions/{id}/events",
    "/v1/sessions/{id}/messages",
    "/v1/sessions/{id}/result",
    "/v1/sessions/{id}/bundle",
    "/v1/requests/{id}",
    "/v1/disputes/{id}/evidence",
    "/v1/evidence/{address}",
    "/rpc",
    "/healthz",
    "/metrics",
];

type Served<T> = Result<T, Problem>;

/// All routes.
pub fn router(hub: Arc<Hub>) -> Router {
    let api = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/deployment", get(deployment))
        .route("/v1/participants", get(participants))
        .route("/v1/status", get(status))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{id}", get(session))
        .route("/v1/sessions/{id}/events", get(events))
        // Hexadecimal in JSON: twice the statement and a little.
        .route(
            "/v1/sessions/{id}/messages",
            post(say).layer(DefaultBodyLimit::max(2 * MAX_BODY + 1024)),
        )
        .route("/v1/sessions/{id}/result", get(result))
        .route("/v1/sessions/{id}/bundle", get(bundle))
        .route("/v1/requests/{id}", get(request))
        .route("/v1/disputes/{id}/evidence", put(bring_evidence))
        .route("/v1/evidence/{address}", get(evidence))
        .route("/rpc", post(rpc).layer(DefaultBodyLimit::max(RPC_BODY)))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .fallback(async || {
            Problem::not_found("no-such-route", "see /v1/version for what there is")
        });
    api.layer(middleware::from_fn(explain))
        .layer(middleware::from_fn_with_state(hub.clone(), measure))
        .layer(middleware::from_fn(identify))
        .with_state(hub)
}

/// What the router refuses by itself (body, query, method) comes as bare text: a problem like any other.
async fn explain(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_ours = response.extensions().get::<Problem>().is_some()
        || response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/json");
    if is_ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (code, title) = match status {
        StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "This route has no such method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "The body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("not-json", "The body must be application/json"),
        StatusCode::UNPROCESSABLE_ENTITY => ("bad-fields", "The fields are not as documented"),
        _ => ("bad-request", "The request is not acceptable"),
    };
    let (parts, body) = response.into_parts();
    let words = axum::body::to_bytes(body, WORDS_MAX)
        .await
        .unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let detail = if words.is_empty() {
        format!("HTTP {status}")
    } else {
        words
    };
    let mut problem = Problem::new(status, code, title)
        .detail(detail)
        .into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

/// Counts requests and their time by route, never by raw path.
async fn measure(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let matched = request
        .extensions()
        .get::<MatchedPath>()
        .map(MatchedPath::as_str);
    let route = ROUTES
        .into_iter()
        .find(|r| matched == Some(*r))
        .unwrap_or("none");
    let method = request.method().clone();
    let began = Instant::now();
    let response = next.run(request).await;
    hub.metrics
        .http(route, &method, response.status(), began.elapsed());
    response
}

async fn version(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "api": 1,
        "address": hub.chain.address().to_string(),
        "network_key": hub.network.verifying(),
        "chain_id": hub.chain.deployment().chain_id,
    }))
}

async fn deployment(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(json!(hub.chain.deployment()))
}

async fn participants(State(hub): State<Arc<Hub>>) -> Served<Json<Value>> {
    Ok(Json(json!(
        ledger::participants(&hub.chain)
            .await
            .map_err(chain_problem)?
    )))
}

async fn status(State(hub): State<Arc<Hub>>) -> Served<Json<Value>> {
    Ok(Json(json!(
        ledger::status(&hub.chain).await.map_err(chain_problem)?
    )))
}

async fn request(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Served<Json<Value>> {
    let id = challenge(&id)?;
    Ok(Json(json!(
        ledger::request(&hub.chain, id.into())
            .await
            .map_err(chain_problem)?
    )))
}

async fn healthz(State(hub): State<Arc<Hub>>) -> Response {
    match hub.trouble() {
        None => Json(json!({"status": "ok", "sessions": hub.count()})).into_response(),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({"status": "halted", "why": why})),
        )
            .into_response(),
    }
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Served<Response> {
    let now = ledger::status(&hub.chain).await.map_err(chain_problem)?;
    hub.metrics.chain(now.height, now.escrow, now.stake);
    let text = hub
        .metrics
        .render()
        .map_err(|e| Problem::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn rpc(State(hub): State<Arc<Hub>>, body: Bytes) -> Response {
    match hub.engine.rpc_bytes(&body).await {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        // Not an answer of the chain: whoever asked tries again, as if nobody had been there.
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    participant: Option<String>,
    /// Only sessions whose request has not ended.
    #[serde(default)]
    open: bool,
    #[serde(default)]
    after: u64,
    wait: Option<String>,
}

impl Since {
    fn patience(&self) -> Served<Duration> {
        let wait = self
            .wait
            .as_deref()
            .map_or(Ok(Duration::ZERO), parse_duration);
        wait.map(|w| w.min(WAIT_MAX))
            .map_err(|e| Problem::bad_request("bad-wait", format!("wait: {e}; such as 10s")))
    }
}

async fn sessions(
    State(hub): State<Arc<Hub>>,
    Query(since): Query<Since>,
) -> Served<Json<Sessions>> {
    let patience = since.patience()?;
    let wanted = since.participant.map(|p| p.to_lowercase());
    let mut changes = hub.changes();
    // Nobody is woken for the sessions of others: of a hundred nodes a session concerns eleven. A number
    // from before a restart is ahead of ours: answer at once.
    let news =
        changes.wait_for(|n| *n < since.after || hub.has_news(wanted.as_deref(), since.after));
    let _came = tokio::time::timeout(patience, news).await.is_ok();
    let next = *hub.changes().borrow();
    let mut items = Vec::new();
    for session in hub.of(wanted.as_deref()) {
        if !since.open || session.ending().is_none() {
            items.push(summarised(&hub, &session).await?);
        }
    }
    Ok(Json(Sessions { items, next }))
}

async fn summarised(hub: &Hub, session: &Session) -> Served<super::SessionSummary> {
    let state = match session.ending() {
        Some(state) => state,
        None => hub
            .chain
            .state_of((*session.id()).into())
            .await
            .map_err(chain_problem)?,
    };
    Ok(session.summary(state.to_string()))
}

async fn session(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
) -> Served<Json<super::SessionSummary>> {
    let session = known(&hub, &id)?;
    Ok(Json(summarised(&hub, &session).await?))
}

async fn events(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
    Query(since): Query<Since>,
) -> Served<Json<Lines>> {
    let session = known(&hub, &id)?;
    let after = usize::try_from(since.after).unwrap_or(usize::MAX);
    let patience = since.patience()?;
    let mut lines = session.lines();
    if *lines.borrow() <= after {
        let _timeout = tokio::time::timeout(patience, lines.wait_for(|n| *n > after)).await;
    }
    let told = session.told(after, PAGE_LINES);
    let items: Vec<Line> = told
        .into_iter()
        .map(|s| hub.conduct.tell(&hub.network, s))
        .zip(after..)
        .map(|(s, line)| Line {
            line,
            kind: s.name().into(),
            message: hex::encode(encode(&s)),
        })
        .collect();
    let next = after + items.len();
    Ok(Json(Lines { items, next }))
}

async fn say(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
    Json(said): Json<Said>,
) -> Served<Json<Value>> {
    let session = known(&hub, &id)?;
    let bytes = hex::decode(&said.message)
        .map_err(|e| Problem::bad_request("bad-message", format!("message: {e}")))?;
    let statement: Statement = decode(&bytes).map_err(|e| {
        Problem::bad_request("bad-message", format!("message is no statement: {e}"))
    })?;
    let store = hub.store.clone();
    let name = statement.name();
    let heard = tokio::task::spawn_blocking(move || session.hear(&store, statement)).await;
    let heard = heard.map_err(|e| Problem::internal(e.to_string()))?;
    hub.metrics.signature(
        Algorithm::Ed25519,
        !matches!(&heard, Err(HearError::Refused(r)) if r.code() == "bad-signature"),
    );
    heard.map_err(|e| match e {
        HearError::Refused(refusal) => {
            let status = match refusal.code() {
                "bad-signature" | "wrong-author" => StatusCode::FORBIDDEN,
                "not-canonical" | "bad-field" => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::CONFLICT,
            };
            Problem::new(status, refusal.code(), "The statement was not taken")
                .detail(format!("{name}: {refusal}"))
        }
        e => Problem::new(
            StatusCode::INSUFFICIENT_STORAGE,
            "not-durable",
            "The statement could not be kept",
        )
        .detail(e.to_string()),
    })?;
    Ok(Json(json!({"taken": true})))
}

async fn result(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Served<Response> {
    let id = challenge(&id)?;
    let kept = hub
        .store
        .result(&id)
        .map_err(|e| Problem::internal(e.to_string()))?;
    let document = kept.ok_or_else(|| {
        Problem::not_found(
            "not-judged",
            "this request is unknown here or has no result yet",
        )
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document).into_response())
}

async fn bundle(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Served<Response> {
    let id = challenge(&id)?;
    let result = hub
        .chain
        .result_of(id.into())
        .await
        .map_err(chain_problem)?;
    let result =
        result.ok_or_else(|| Problem::not_found("no-bundle", "this request has no result yet"))?;
    let path = hub.bundle_path(&result.bundle_hash.0);
    let bytes = tokio::fs::read(&path)
        .await
        .map_err(|_| Problem::not_found("no-bundle", "there is no bundle of this request here"))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

async fn evidence(State(hub): State<Arc<Hub>>, Path(address): Path<String>) -> Served<Response> {
    let address = challenge(&address)?;
    let hub_archive = hub.archive.clone();
    let kept = tokio::task::spawn_blocking(move || hub_archive.find(&address)).await;
    let kept = kept.map_err(|e| Problem::internal(e.to_string()))?;
    let bytes = match kept.map_err(|e| Problem::internal(e.to_string()))? {
        Some(bytes) => bytes,
        // A bundle is evidence too.
        None => tokio::fs::read(hub.bundle_path(&address))
            .await
            .map_err(|_| Problem::not_found("no-evidence", "nothing of this address is here"))?,
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// Takes the evidence of a dispute. The bond on the chain is the permission, the address there is what is
/// taken: both are asked for before the body is read.
async fn bring_evidence(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
    request: Request,
) -> Served<Json<Value>> {
    let id = challenge(&id)?;
    let _turn = UPLOADS.try_acquire().map_err(|_| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Others hand over evidence now",
        )
        .detail("try again in a moment")
    })?;
    let dispute = hub
        .chain
        .dispute_of(id.into())
        .await
        .map_err(chain_problem)?;
    if dispute.reporter.is_zero() || dispute.over {
        return Err(Problem::not_found(
            "no-such-dispute",
            "there is no open dispute of this id on the chain",
        ));
    }
    let body = axum::body::to_bytes(request.into_body(), EVIDENCE_MAX);
    let bytes = tokio::time::timeout(UPLOAD_TIME, body)
        .await
        .map_err(|_| Problem::bad_request("too-slow", "the body did not come in time"))?
        .map_err(|e| {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "The body is too large",
            )
            .detail(format!("{e}; allowed: {EVIDENCE_MAX} bytes"))
        })?;
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

fn challenge(text: &str) -> Served<ChallengeId> {
    let mut id = [0; 32];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut id).map_err(|e| {
        Problem::bad_request(
            "bad-id",
            format!("`{text}` is not a request id (0x and 64 hexadecimal digits): {e}"),
        )
    })?;
    Ok(id)
}

fn known(hub: &Hub, id: &str) -> Served<Arc<Session>> {
    let id = challenge(id)?;
    hub.session(&id).ok_or_else(|| {
        Problem::not_found("no-such-session", "no session of this request is open here")
    })
}

// By value: it is a `map_err` adapter.
#[allow(clippy::needless_pass_by_value)]
fn chain_problem(error: crate::chain::ClientError) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "chain", "The chain did not answer")
        .detail(error.to_string())
}
