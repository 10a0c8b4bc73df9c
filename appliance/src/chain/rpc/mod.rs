//! Any EVM chain, through several nodes of which any may die, hang or lie.
//!
//! ```text
//!   ChainClient ── alloy ── Transport ─┐                       ┌─► endpoint 1  (preferred)
//!                                      ├─ Endpoints: in turn ──┼─► endpoint 2  (after a failure)
//!   POST /rpc ───────────── forward ───┘      │                └─► endpoint 3
//!                                             └─ compare, confirm: all of them, majority
//! ```
//!
//! Claim: a dead or hanging endpoint costs one attempt's time limit and then nothing; one that says that it
//! is busy, or says what is no JSON-RPC, is no answer, and the next is asked; one of another
//! chain is never asked; one whose settled blocks or receipts differ from the majority's is named and
//! no longer asked; where no majority exists nothing goes on, and both sides are named. What it does not
//! promise: that a single read is true. A read is answered by one endpoint; what moves money is
//! confirmed by most of them ([`Endpoints::confirm`]). Tests: `appliance/tests/chain/endpoints.rs`,
//! `appliance/tests/chain/faulty.rs`, `appliance/tests/chain/reorg.rs`.

mod agreement;
mod busy;
mod deploy;
mod endpoint;
mod forward;
mod probe;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use tower::Service;

pub use agreement::Confirmation;
pub use deploy::{Chosen, DeployError, Deployed, deploy};
pub use forward::FINALITY_METHOD;

use super::finality::Finality;
use endpoint::{Endpoint, Fault};

/// How long one endpoint may take for one answer before the next is asked: a node on another continent
/// takes a tenth.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long an endpoint that failed is asked last: long enough to spare it, short enough to have it back.
const REST: Duration = Duration::from_secs(5);
/// How often the endpoints are compared: a few blocks of most chains.
const COMPARE: Duration = Duration::from_secs(10);

/// How endpoints are used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a block counts as settled.
    pub finality: Finality,
    /// Longest time for one answer of one endpoint.
    pub attempt: Duration,
    /// How long an endpoint that failed is asked only after the others.
    pub rest: Duration,
}

impl Options {
    /// The times that suit real networks.
    #[must_use]
    pub fn new(finality: Finality) -> Self {
        Self {
            finality,
            attempt: ATTEMPT,
            rest: REST,
        }
    }
}

/// Why no endpoint serves.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EndpointsError {
    /// An address is malformed.
    #[error("{url}: not an address of a chain: {why}; for example http://127.0.0.1:8545")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// None answers, or none of this chain.
    #[error("no endpoint of chain {chain_id} answers: {told}")]
    None {
        /// The chain's id.
        chain_id: u64,
        /// Each endpoint and what is wrong with it.
        told: String,
    },
    /// They contradict each other, and no majority says who is right.
    #[error(
        "the endpoints contradict each other at {what}: {told}; nothing is sent or read until they agree: \
         remove the one that is wrong from chain.rpc, or name a third"
    )]
    Disagree {
        /// Block or transaction.
        what: String,
        /// Each endpoint and what it says.
        told: String,
    },
}

/// Several nodes of one chain.
#[derive(Debug)]
pub struct Endpoints {
    list: Vec<Arc<Endpoint>>,
    /// Index of the one that answered last.
    preferred: AtomicUsize,
    chain_id: u64,
    options: Options,
    /// Set while they contradict each other.
    dispute: Mutex<Option<EndpointsError>>,
}

impl Endpoints {
    /// Connects to the nodes at `urls` of the chain `chain_id`, and compares them. Those that do not
    /// answer now are tried again later.
    ///
    /// # Errors
    /// See [`EndpointsError`].
    pub async fn connect(
        urls: &[String],
        chain_id: u64,
        options: Options,
    ) -> Result<Arc<Self>, EndpointsError> {
        let list = urls
            .iter()
            .map(|url| Endpoint::new(url, chain_id).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let endpoints = Self {
            list,
            preferred: AtomicUsize::new(0),
            chain_id,
            options,
            dispute: Mutex::new(None),
        };
        endpoints.compare().await?;
        Ok(Arc::new(endpoints))
    }

    /// Compares the endpoints for ever, and says in the log what changes.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(COMPARE).await;
            if let Err(error) = self.compare().await {
                tracing::error!(%error, "the chain's endpoints");
            }
        }
    }

    /// The chain's id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// When a block counts as settled.
    #[must_use]
    pub fn finality(&self) -> Finality {
        self.options.finality
    }

    /// All addresses, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        let all: Vec<&str> = self.list.iter().map(|e| e.url()).collect();
        all.join(", ")
    }

    /// The endpoints that are not asked, with the reason.
    #[must_use]
    pub fn accused(&self) -> Vec<(String, String)> {
        let accused = |e: &Arc<Endpoint>| e.accusation().map(|why| (e.url().to_owned(), why));
        self.list.iter().filter_map(accused).collect()
    }

    /// Why nothing goes on, if so: for health checks.
    #[must_use]
    pub fn trouble(&self) -> Option<EndpointsError> {
        self.dispute
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn settle(&self, dispute: Option<EndpointsError>) {
        *self.dispute.lock().unwrap_or_else(PoisonError::into_inner) = dispute;
    }

    /// Hands a JSON-RPC request to the first endpoint that answers it.
    ///
    /// # Errors
    /// See [`EndpointsError`].
    pub async fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, EndpointsError> {
        if let Some(dispute @ EndpointsError::Disagree { .. }) = self.trouble() {
            return Err(dispute);
        }
        let mut told = Vec::new();
        for index in self.order() {
            let endpoint = &self.list[index];
            if let Some(why) = endpoint.accusation() {
                told.push(format!("{}: {why}", endpoint.url()));
                continue;
            }
            match endpoint.exchange(request, self.options.attempt).await {
                Ok(answer) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Fault::Silent(why)) => {
                    tracing::warn!(endpoint = endpoint.url(), why, "the next endpoint is asked");
                    endpoint.rest(self.options.rest);
                    told.push(format!("{}: {why}", endpoint.url()));
                }
                Err(Fault::Wrong(why)) => {
                    tracing::error!(endpoint = endpoint.url(), why, "an endpoint is refused");
                    told.push(format!("{}: {why}", endpoint.url()));
                }
            }
        }
        Err(self.none(&told))
    }

    /// Hands a signed transaction to all endpoints: one that swallows it stops nothing. How each takes it
    /// is of no account; where it is, is asked later.
    pub fn spread(&self, raw: &[u8]) {
        let raw = alloy::primitives::hex::encode_prefixed(raw);
        for endpoint in self.list.iter().filter(|e| e.accusation().is_none()) {
            let (endpoint, params) = (Arc::clone(endpoint), serde_json::json!([raw]));
            let within = self.options.attempt;
            tokio::spawn(async move {
                let method = "eth_sendRawTransaction";
                let taken = endpoint.ask::<serde_json::Value>(method, &params, within);
                drop(taken.await);
            });
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.list.len()
    }

    fn none(&self, told: &[String]) -> EndpointsError {
        EndpointsError::None {
            chain_id: self.chain_id,
            told: told.join("; "),
        }
    }

    /// Those that rest come last; among the others the one that answered last comes first.
    fn order(&self) -> Vec<usize> {
        let preferred = self.preferred.load(Ordering::Relaxed);
        let mut order: Vec<usize> = (0..self.list.len()).collect();
        order.sort_by_key(|i| (self.list[*i].is_resting(), *i != preferred));
        order
    }
}

/// [`Endpoints`] as an alloy transport.
#[derive(Clone, Debug)]
pub struct Transport(pub Arc<Endpoints>);

impl Service<RequestPacket> for Transport {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        let endpoints = Arc::clone(&self.0);
        Box::pin(async move {
            let request = serde_json::to_vec(&request).map_err(TransportError::ser_err)?;
            let answer = endpoints
                .exchange(&request)
                .await
                .map_err(TransportErrorKind::custom)?;
            serde_json::from_slice(&answer)
                .map_err(|e| TransportErrorKind::custom_str(&format!("answer not understood: {e}")))
        })
    }
}
