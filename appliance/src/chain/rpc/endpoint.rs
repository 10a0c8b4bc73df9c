//! One node: its address, and what is held against it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::U64;
use alloy::transports::http::reqwest;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{EndpointsError, busy};
use crate::tls;

/// Longest answer that is read, bytes: 10,000 logs have about 8 MB.
const ANSWER_MAX: usize = 32 << 20;

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// None came, or nothing like JSON-RPC: it may be another time.
    Silent(String),
    /// It is not a node of this chain.
    Wrong(String),
}

impl Fault {
    pub(super) fn into_words(self) -> String {
        match self {
            Self::Silent(why) | Self::Wrong(why) => why,
        }
    }
}

#[derive(Debug, Default)]
struct Record {
    /// Since its last failure it has said which chain it is.
    is_checked: bool,
    resting: Option<Instant>,
    accusation: Option<Accusation>,
}

#[derive(Clone, Debug)]
struct Accusation {
    why: String,
    /// A false receipt is not forgiven; a wrong block may be a node that catches up.
    is_forever: bool,
}

#[derive(Debug)]
pub(super) struct Endpoint {
    url: String,
    parsed: reqwest::Url,
    http: reqwest::Client,
    chain_id: u64,
    record: Mutex<Record>,
}

impl Endpoint {
    pub(super) fn new(url: &str, chain_id: u64) -> Result<Self, EndpointsError> {
        let malformed = |why: String| EndpointsError::Address {
            url: url.to_owned(),
            why,
        };
        let target = tls::target(url).map_err(malformed)?;
        let built = target.client.build();
        let (http, parsed) = (built.map_err(|e| malformed(e.to_string()))?, target.url);
        Ok(Self {
            url: url.to_owned(),
            parsed,
            http,
            chain_id,
            record: Mutex::default(),
        })
    }

    pub(super) fn chain_id(&self) -> u64 {
        self.chain_id
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rest(&self, time: Duration) {
        let mut record = self.record();
        record.resting = Some(Instant::now() + time);
        // Another node may answer there next time.
        record.is_checked = false;
    }

    pub(super) fn is_resting(&self) -> bool {
        self.record().resting.is_some_and(|t| t > Instant::now())
    }

    pub(super) fn accusation(&self) -> Option<String> {
        self.record().accusation.as_ref().map(|a| a.why.clone())
    }

    /// Holds `why` against it; said in the log when it is news.
    pub(super) fn accuse(&self, why: String, is_forever: bool) {
        let mut record = self.record();
        if record.accusation.as_ref().is_some_and(|a| a.is_forever) {
            return;
        }
        if record.accusation.is_none() {
            tracing::error!(endpoint = self.url, why, "an endpoint is refused");
        }
        record.accusation = Some(Accusation { why, is_forever });
    }

    /// It agrees with the others again.
    pub(super) fn acquit(&self) {
        let mut record = self.record();
        if record.accusation.as_ref().is_some_and(|a| !a.is_forever) {
            record.accusation = None;
            tracing::info!(endpoint = self.url, "an endpoint agrees again");
        }
    }

    /// Whether what is held against it can never be put right.
    pub(super) fn is_outcast(&self) -> bool {
        self.record()
            .accusation
            .as_ref()
            .is_some_and(|a| a.is_forever)
    }

    /// Hands over a request, after asking once which chain this is.
    pub(super) async fn exchange(&self, body: &[u8], within: Duration) -> Result<Vec<u8>, Fault> {
        let work = async {
            self.check().await?;
            let answer = self.post(body.to_vec()).await.map_err(Fault::Silent)?;
            match busy::excuse(&answer) {
                Some(why) => Err(Fault::Silent(why)),
                None => Ok(answer),
            }
        };
        tokio::time::timeout(within, work)
            .await
            .unwrap_or_else(|_| {
                Err(Fault::Silent(format!(
                    "no answer within {} ms",
                    within.as_millis()
                )))
            })
    }

    async fn check(&self) -> Result<(), Fault> {
        if self.record().is_checked {
            return Ok(());
        }
        let found: U64 = self.call("eth_chainId", &json!([])).await?;
        if found.to::<u64>() != self.chain_id {
            let why = format!("is chain {found}, not chain {}", self.chain_id);
            return Err(Fault::Wrong(why));
        }
        self.record().is_checked = true;
        Ok(())
    }

    /// Asks one thing; an error that the node answers with is a fault too.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &Value,
        within: Duration,
    ) -> Result<T, Fault> {
        let work = async {
            self.check().await?;
            self.call(method, params).await
        };
        tokio::time::timeout(within, work)
            .await
            .unwrap_or_else(|_| {
                Err(Fault::Silent(format!(
                    "no answer to {method} within {} ms",
                    within.as_millis()
                )))
            })
    }

    /// Asks one thing of whatever chain this is.
    pub(super) async fn call_unchecked<T: DeserializeOwned>(
        &self,
        method: &str,
        params: &Value,
        within: Duration,
    ) -> Result<T, Fault> {
        let late = |_| Fault::Silent(format!("no answer within {} ms", within.as_millis()));
        let answer = tokio::time::timeout(within, self.call(method, params)).await;
        answer.map_err(late)?
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: &Value) -> Result<T, Fault> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = self.post(request.to_string().into_bytes()).await;
        let answer: Value = answer
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()))
            .map_err(Fault::Silent)?;
        if let Some(error) = answer.get("error") {
            return Err(Fault::Silent(format!("{method} is refused: {error}")));
        }
        let result = answer.get("result").cloned().unwrap_or_default();
        serde_json::from_value(result)
            .map_err(|e| Fault::Silent(format!("the answer to {method} is malformed: {e}")))
    }

    async fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let request = self.http.post(self.parsed.clone());
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let mut answer = request.send().await.map_err(|e| chained(&e))?;
        if !answer.status().is_success() {
            return Err(format!("HTTP status {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|e| chained(&e))? {
            bytes.extend_from_slice(&part);
            if bytes.len() > ANSWER_MAX {
                return Err(format!("an answer of more than {ANSWER_MAX} bytes"));
            }
        }
        Ok(bytes)
    }
}

/// An error with what caused it: "connection refused" stands two levels down.
fn chained(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}
