//! The coordinator's HTTP server: routes, bounds, problems. What it serves is `role::coordinator`'s.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, MatchedPath, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{Router, get, post, put};
use plumbline_proof::backhaul::messages::ChallengeId;
use plumbline_trust::encoding::encode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, Held, Reader, Room};
use super::door::{quota, too_many};
use super::evidence::ANSWERS;
use super::visitors::Visitor;
use super::{Line, Lines, PAGE_BYTES, PAGE_LINES, Sessions, WAIT_MAX, evidence, messages};
use crate::chain::caller::Reading;
use crate::chain::embedded::MAX_REQUEST_BYTES;
use crate::config::Limits;
use crate::config::units::parse_duration;
use crate::problem::{Problem, identify};
use crate::role::coordinator::{Hub, Session};
use crate::role::ledger;

/// Bytes of JSON-RPC requests that lie in memory at once, beside those that are short.
static RPC: Room = Room::new(16, "JSON-RPC requests");

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

pub(super) type Served<T> = Result<T, Problem>;

/// All routes.
pub fn router(hub: Arc<Hub>, limits: &Limits) -> Router {
    let api = Router::new()
        .route("/v1/version", get(version))
        .route("/v1/deployment", get(deployment))
        .route("/v1/participants", get(participants))
        .route("/v1/status", get(status))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/{id}", get(session))
        .route("/v1/sessions/{id}/events", get(events))
        .route("/v1/sessions/{id}/messages", post(messages::say))
        .route("/v1/sessions/{id}/result", get(result))
        .route("/v1/sessions/{id}/bundle", get(evidence::bundle))
        .route("/v1/requests/{id}", get(request))
        .route("/v1/disputes/{id}/evidence", put(evidence::bring))
        .route("/v1/evidence/{address}", get(evidence::evidence))
        .route("/rpc", post(rpc))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .fallback(async || {
            Problem::not_found("no-such-route", "see /v1/version for what there is")
        });
    let each = limits.quota.requests_a_second;
    api.layer(middleware::from_fn(explain))
        .layer(middleware::from_fn_with_state(each, quota))
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
        "terms": hub.terms.asked_before(hub.seen_after),
    }))
}

async fn deployment(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(json!(hub.chain.deployment()))
}

async fn participants(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
) -> Served<Json<Value>> {
    let _asking = reading(&visitor)?;
    Ok(Json(json!(
        ledger::participants(&hub.chain)
            .await
            .map_err(chain_problem)?
    )))
}

async fn status(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
) -> Served<Json<Value>> {
    let _asking = reading(&visitor)?;
    Ok(Json(json!(
        ledger::status(&hub.chain).await.map_err(chain_problem)?
    )))
}

async fn request(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
    Path(id): Path<String>,
) -> Served<Json<Value>> {
    let id = challenge(&id)?;
    let _asking = reading(&visitor)?;
    let mut found = ledger::request(&hub.chain, id.into())
        .await
        .map_err(chain_problem)?;
    found.declined = hub.declined(&id);
    Ok(Json(json!(found)))
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

async fn metrics(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
) -> Served<Response> {
    let _asking = reading(&visitor)?;
    let now = ledger::status(&hub.chain).await.map_err(chain_problem)?;
    hub.metrics.chain(now.height, now.escrow, now.stake);
    let text = hub
        .metrics
        .render()
        .map_err(|e| Problem::internal(e.to_string()))?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

async fn rpc(
    State(hub): State<Arc<Hub>>,
    Extension(visitor): Extension<Arc<Visitor>>,
    request: Request,
) -> Served<Response> {
    let most = MAX_REQUEST_BYTES as u64;
    if let Some(long) = body::length(request.headers())?.filter(|length| *length > most) {
        return Err(body::too_large("a JSON-RPC request", long, most));
    }
    let reader = Reader::new(request.into_body());
    let (body, _room) = reader.within(MAX_REQUEST_BYTES, &RPC).await?;
    match hub.engine.serve(&body, &visitor.caller).await {
        Ok(answer) => Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response()),
        // Not an answer of the chain: whoever asked tries again, as if nobody had been there.
        Err(error) => Ok((StatusCode::BAD_GATEWAY, error.to_string()).into_response()),
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
    let patience = hub.conduct.patience(patience);
    let _came = tokio::time::timeout(patience, news).await.is_ok();
    let next = *hub.changes().borrow();
    let mut items = Vec::new();
    let lists = |id: &_| {
        wanted
            .as_deref()
            .is_none_or(|who| hub.conduct.lists(who, id))
    };
    for session in hub.of(wanted.as_deref()) {
        if (!since.open || session.ending().is_none()) && lists(session.id()) {
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
) -> Served<Response> {
    let session = known(&hub, &id)?;
    let after = usize::try_from(since.after).unwrap_or(usize::MAX);
    let patience = since.patience()?;
    let mut lines = session.lines();
    if *lines.borrow() <= after {
        let _timeout = tokio::time::timeout(patience, lines.wait_for(|n| *n > after)).await;
    }
    // Told in hexadecimal, of copies: some five times the bytes of the log.
    let room = ANSWERS
        .wait(5 * session.weight(after, PAGE_LINES, PAGE_BYTES))
        .await?;
    let told = session.told(after, PAGE_LINES, PAGE_BYTES);
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
    let page = serde_json::to_vec(&Lines { items, next });
    let page = page.map_err(|e| Problem::internal(e.to_string()))?;
    let kind = [(header::CONTENT_TYPE, "application/json")];
    Ok((kind, Held::body(page, room)).into_response())
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

/// Time that the chain is read for somebody, if it has any left.
pub(super) fn reading(visitor: &Visitor) -> Served<Reading<'_>> {
    let words =
        "this address has used up its time of reading the chain, coordinator.max_reading_each";
    visitor.caller.read().map_err(|wait| too_many(words, wait))
}

pub(super) fn challenge(text: &str) -> Served<ChallengeId> {
    let mut id = [0; 32];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut id).map_err(|e| {
        Problem::bad_request(
            "bad-id",
            format!("`{text}` is not a request id (0x and 64 hexadecimal digits): {e}"),
        )
    })?;
    Ok(id)
}

pub(super) fn known(hub: &Hub, id: &str) -> Served<Arc<Session>> {
    let id = challenge(id)?;
    hub.session(&id).ok_or_else(|| {
        Problem::not_found("no-such-session", "no session of this request is open here")
    })
}

// By value: it is a `map_err` adapter.
#[allow(clippy::needless_pass_by_value)]
pub(super) fn chain_problem(error: crate::chain::ClientError) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "chain", "The chain did not answer")
        .detail(error.to_string())
}
