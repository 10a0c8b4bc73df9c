//! Errors of the HTTP API: `application/problem+json` (RFC 9457) with a stable `code` and the id of the
//! request.
//!
//! ```text
//!  handler ─► Problem ─► response ─► identify (middleware) ─► + request_id, instance, x-request-id
//! ```
//!
//! Claim: every answer with an error status that a handler makes is this document, and its `code` is
//! from a fixed set of the code base, fit for a `match`. Tests at the end.

use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Extensions, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

/// Media type of a problem.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// Header that carries the id of a request, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest request id taken over from a caller; what is longer is replaced by one of ours.
const REQUEST_ID_MAX_BYTES: usize = 64;

/// An error as the API says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title} ({code}, HTTP {status}{}){}", .request_id.as_deref().map(|id| format!(", request {id}")).unwrap_or_default(), .detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())]
pub struct Problem {
    /// `urn:plumbline:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people, the same for every problem of this code.
    pub title: String,
    /// HTTP status, again.
    pub status: u16,
    /// What happened this time: what, where, what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Path that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Stable word for programs, `snake_case`.
    pub code: String,
    /// Id of the request, as in `x-request-id` and the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Seconds after which to ask again, as in `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem of a code.
    pub fn new(status: StatusCode, code: &'static str, title: &'static str) -> Self {
        Self {
            kind: format!("urn:plumbline:problem:{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: None,
            instance: None,
            code: code.to_owned(),
            request_id: None,
            retry_after: None,
        }
    }

    /// Says when to ask again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Says what happened this time.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The request itself is wrong (400).
    pub fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            code,
            "The request is not acceptable",
        )
        .detail(detail)
    }

    /// There is no such thing (404).
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, "There is no such thing").detail(detail)
    }

    /// It does not fit the present state (409).
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, "The state does not allow it").detail(detail)
    }

    /// Our fault (500). `detail` must not hold what a caller may not see.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The appliance failed",
        )
        .detail(detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Strings and an integer: serialization has no way to fail; an empty body would still be typed.
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Id of a request, in its extensions for handlers that log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

impl RequestId {
    /// The id of the request that `extensions` belongs to; empty where [`identify`] is not layered.
    pub fn of(extensions: &Extensions) -> &str {
        extensions.get::<Self>().map_or("", |id| id.0.as_str())
    }
}

/// Middleware (`axum::middleware::from_fn(problem::identify)`): gives every request an id, and every
/// problem the id and path of its request.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.is_empty() && text.len() <= REQUEST_ID_MAX_BYTES)
        .map_or_else(fresh_id, str::to_owned);
    let path = request.uri().path().to_owned();
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        problem.request_id = Some(id.clone());
        problem.instance = Some(path);
        let headers = std::mem::take(response.headers_mut());
        response = problem.into_response();
        // What the handler added stays (Retry-After and the like); body and its type are ours.
        for (name, value) in &headers {
            if !response.headers().contains_key(name) && name != CONTENT_LENGTH {
                response.headers_mut().insert(name, value.clone());
            }
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// 16 hexadecimal digits. An id need only be unlikely to repeat, so a system without random bytes
/// gets a fixed one rather than no answer.
fn fresh_id() -> String {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => hex::encode(bytes),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::HeaderMap;
    use axum::routing::get;
    use tower::ServiceExt as _;

    async fn ask(path: &str, id: Option<&str>) -> (StatusCode, HeaderMap, Vec<u8>) {
        let refused = || async {
            let problem = Problem::conflict(
                "already_reported",
                "session 0x01 is Reported; allowed: Running",
            );
            ([("retry-after", "3")], problem).into_response()
        };
        let named =
            |request: Request| async move { RequestId::of(request.extensions()).to_owned() };
        let app = Router::new()
            .route("/refused", get(refused))
            .route("/named", get(named))
            .layer(axum::middleware::from_fn(identify));
        let mut request = Request::builder().uri(path);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        let response = app
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        (
            parts.status,
            parts.headers,
            to_bytes(body, 1 << 16).await.unwrap().to_vec(),
        )
    }

    #[tokio::test]
    async fn a_problem_knows_its_request() {
        let (status, headers, body) = ask("/refused", Some("abc-1")).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(headers[CONTENT_TYPE], MEDIA_TYPE);
        assert_eq!(headers[REQUEST_ID], "abc-1");
        assert_eq!(headers["retry-after"], "3");
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "urn:plumbline:problem:already_reported",
                "title": "The state does not allow it",
                "status": 409,
                "detail": "session 0x01 is Reported; allowed: Running",
                "instance": "/refused",
                "code": "already_reported",
                "request_id": "abc-1",
            })
        );
        let read: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            read.to_string(),
            "The state does not allow it (already_reported, HTTP 409, request abc-1): session 0x01 is Reported; allowed: Running"
        );
    }

    #[tokio::test]
    async fn a_request_without_a_usable_id_gets_one() {
        for id in [None, Some(""), Some(&"x".repeat(65)[..])] {
            let (status, headers, body) = ask("/named", id).await;
            assert_eq!(status, StatusCode::OK);
            let given = headers[REQUEST_ID].to_str().unwrap().to_owned();
            assert_eq!(given.len(), 16);
            assert_eq!(body, given.as_bytes());
        }
        let longest = "x".repeat(64);
        assert_eq!(ask("/named", Some(&longest)).await.1[REQUEST_ID], longest);
    }
}
