//! What nodes and payers call.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::AUTHORIZATION;
use plumbline_contracts::Deployment;
use plumbline_proof::backhaul::messages::{ChallengeId, Statement};
use plumbline_trust::NetworkKey;
use plumbline_trust::encoding::{decode, encode};
use plumbline_trust::evidence::EVIDENCE_MAX;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::journal::Kept;
use crate::role::coordinator::Terms;
use crate::tls::{self, Pin, Target};

use super::door::HEAD_TIME;
use super::{Lines, Permit, SessionSummary, Sessions};

/// How long a statement is offered again while the coordinator does not answer.
const SAY_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two tries.
const RETRY: Duration = Duration::from_millis(200);
/// Longer than the longest wait that the server grants.
const TIMEOUT: Duration = Duration::from_secs(45);

/// Longest answer, bytes: a page of a log that holds the longest statement, in hexadecimal, and a little.
const ANSWER_MAX: usize = 2 * EVIDENCE_MAX + (4 << 20);
/// Longest answer to evidence that is handed over, bytes: a refusal in words.
const WORDS_MAX: usize = 16 << 10;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody answers there.
    #[error(
        "coordinator {url} is unreachable: {why}; check the address, and that `plumbline run` is up there"
    )]
    Unreachable {
        /// Which coordinator.
        url: String,
        /// What the network said.
        why: String,
    },
    /// It answered, with a refusal.
    #[error("coordinator refused ({code}): {detail}")]
    Refused {
        /// Stable code.
        code: String,
        /// In words.
        detail: String,
        /// HTTP status.
        status: u16,
    },
    /// It answered something that is not this API.
    #[error("{url} does not answer like a plumbline coordinator: {why}")]
    Strange {
        /// Which coordinator.
        url: String,
        /// What was odd.
        why: String,
    },
}

impl ApiError {
    /// Whether the same may be answered a moment later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 503),
            Self::Strange { .. } => false,
        }
    }
}

/// A coordinator's API.
#[derive(Clone, Debug)]
pub struct Api {
    /// Without the certificate's hash.
    base: String,
    pin: Option<Pin>,
    http: reqwest::Client,
}

impl Api {
    /// The API at `url`, such as `http://192.0.2.1:7300`; [`tls`] says whom it believes to be there.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(url: &str) -> Result<Self, ApiError> {
        let strange = |why: String| ApiError::Strange {
            url: url.to_owned(),
            why,
        };
        let Target { client, url, pin } = tls::target(url).map_err(strange)?;
        let http = client
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            // Given up before the server does: no request meets a connection that is being closed.
            .pool_idle_timeout(HEAD_TIME / 2)
            .build()
            .map_err(|e| strange(e.to_string()))?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { base, pin, http })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where its chain's JSON-RPC is.
    pub fn rpc_url(&self) -> String {
        let pin = self.pin.map_or_else(String::new, |pin| format!("#{pin}"));
        format!("{}/rpc{pin}", self.base)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, ApiError> {
        self.answer_within(request, ANSWER_MAX).await
    }

    /// An answer of at most `most` bytes, from somebody who may send without end.
    async fn answer_within(
        &self,
        request: reqwest::RequestBuilder,
        most: usize,
    ) -> Result<Vec<u8>, ApiError> {
        let unreachable = |e: reqwest::Error| {
            let mut why = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(s) = source {
                why = s.to_string();
                source = s.source();
            }
            ApiError::Unreachable {
                url: self.base.clone(),
                why,
            }
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(unreachable)? {
            if part.len() > most.saturating_sub(body.len()) {
                return Err(ApiError::Strange {
                    url: self.base.clone(),
                    why: format!("it answers more than {most} bytes"),
                });
            }
            body.extend_from_slice(&part);
        }
        if status.is_success() {
            return Ok(body);
        }
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| problem.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        Err(ApiError::Refused {
            code: text("code").unwrap_or_else(|| status.as_str().to_owned()),
            detail: text("detail").unwrap_or_else(|| status.to_string()),
            status: status.as_u16(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let body = self
            .answer(self.http.get(format!("{}{path}", self.base)))
            .await?;
        serde_json::from_slice(&body).map_err(|e| ApiError::Strange {
            url: self.base.clone(),
            why: format!("{path}: {e}"),
        })
    }

    /// Where the contracts are.
    pub async fn deployment(&self) -> Result<Deployment, ApiError> {
        self.get("/v1/deployment").await
    }

    fn evidence_url(&self, address: &[u8; 32]) -> String {
        format!("{}/v1/evidence/0x{}", self.base, hex::encode(address))
    }

    /// Evidence or a bundle, by its address.
    pub async fn evidence(&self, address: &[u8; 32]) -> Result<Vec<u8>, ApiError> {
        let get = self.http.get(self.evidence_url(address));
        self.answer_within(get, EVIDENCE_MAX).await
    }

    /// What is served at the URL itself, of evidence's length at most.
    pub async fn file(&self) -> Result<Vec<u8>, ApiError> {
        let get = self.http.get(&self.base);
        self.answer_within(get, EVIDENCE_MAX).await
    }

    /// Whether it has the evidence at this address.
    pub async fn has_evidence(&self, address: &[u8; 32]) -> bool {
        let head = self.http.head(self.evidence_url(address));
        self.answer_within(head, 0).await.is_ok()
    }

    /// Hands over the evidence of the dispute `id`.
    pub async fn put_evidence(&self, id: &[u8; 32], bytes: &[u8]) -> Result<(), ApiError> {
        let url = format!("{}/v1/disputes/0x{}/evidence", self.base, hex::encode(id));
        let put = self.http.put(url).body(bytes.to_vec());
        self.answer_within(put, WORDS_MAX).await.map(drop)
    }

    /// Who coordinates: its settlement address, and which requests it drives.
    pub async fn coordinator(&self) -> Result<(String, Terms), ApiError> {
        #[derive(serde::Deserialize)]
        struct Version {
            address: String,
            #[serde(default)]
            terms: Terms,
        }
        let version: Version = self.get("/v1/version").await?;
        Ok((version.address, version.terms))
    }

    /// Sessions in which `participant` takes part and whose request has not ended, once one came or ended
    /// since `after`.
    pub async fn sessions(
        &self,
        participant: &str,
        after: u64,
        wait: Duration,
    ) -> Result<Sessions, ApiError> {
        self.get(&format!(
            "/v1/sessions?participant={participant}&open=true&after={after}&wait={}ms",
            wait.as_millis()
        ))
        .await
    }

    /// One session.
    pub async fn session(&self, id: &ChallengeId) -> Result<SessionSummary, ApiError> {
        self.get(&format!("/v1/sessions/0x{}", hex::encode(id)))
            .await
    }

    /// Statements from line `after` on.
    pub async fn events(
        &self,
        id: &ChallengeId,
        after: usize,
        wait: Duration,
    ) -> Result<(Vec<Statement>, usize), ApiError> {
        let lines: Lines = self
            .get(&format!(
                "/v1/sessions/0x{}/events?after={after}&wait={}ms",
                hex::encode(id),
                wait.as_millis()
            ))
            .await?;
        let strange = |why: String| ApiError::Strange {
            url: self.base.clone(),
            why,
        };
        let read = |l: &super::Line| {
            decode(&hex::decode(&l.message).map_err(|e| strange(e.to_string()))?).map_err(strange)
        };
        Ok((
            lines.items.iter().map(read).collect::<Result<_, _>>()?,
            lines.next,
        ))
    }

    /// Says a statement, with its author's permit; while the coordinator does not answer or is busy, again and again
    /// for a while.
    pub async fn say(
        &self,
        key: &NetworkKey,
        id: &ChallengeId,
        kept: &Kept,
    ) -> Result<(), ApiError> {
        let url = format!("{}/v1/sessions/0x{}/messages", self.base, hex::encode(id));
        let statement = Bytes::from(encode(kept.statement()));
        let permit = Permit::new(key, id, statement.len() as u64).to_string();
        let until = Instant::now() + SAY_PATIENCE;
        loop {
            let post = self.http.post(&url).header(AUTHORIZATION, &permit);
            match self.answer(post.body(statement.clone())).await {
                Ok(_) => return Ok(()),
                Err(e) if e.may_pass() && Instant::now() < until => tokio::time::sleep(RETRY).await,
                Err(e) => return Err(e),
            }
        }
    }

    /// The result document of a session that is judged.
    pub async fn result(&self, id: &ChallengeId) -> Result<serde_json::Value, ApiError> {
        self.get(&format!("/v1/sessions/0x{}/result", hex::encode(id)))
            .await
    }

    /// The bundle's bytes.
    pub async fn bundle(&self, id: &ChallengeId) -> Result<Vec<u8>, ApiError> {
        self.answer(self.http.get(format!(
            "{}/v1/sessions/0x{}/bundle",
            self.base,
            hex::encode(id)
        )))
        .await
    }
}
