//! One client for every engine.
//!
//! ```text
//!   calls, measurements, disputes,   typed, one line each
//!   variables, history
//!     │
//!   send() ── one at a time into a block: nonce ─ estimate (refusals come here) ─ sign ─ broadcast;
//!     │       then beside each other until settled
//!   read() ── eth_call at the newest block
//! ```
//!
//! Claim: calls of one client may run concurrently; their transactions do not collide, because each has
//! its turn and takes its nonce from the chain. Two clients with one key do collide: the chain takes one
//! of two transactions, the other is refused or sent anew, and nothing is done twice. What is
//! acknowledged is settled ([`Patience`]), or acted on soon where it is done again ([`Finality::soon`]).

mod bonds;
mod calls;
mod disputes;
mod error;
mod flight;
mod gas;
mod history;
mod measurements;
mod patience;
mod seeds;
mod send;
mod types;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use alloy::network::Ethereum;
use alloy::primitives::{Address, B256, Bytes, TxKind, keccak256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{TransactionInput, TransactionRequest};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::http::Http;
use alloy::transports::{RpcError, TransportErrorKind};
use plumbline_contracts::Deployment;
use tokio::sync::Mutex;

use super::embedded::{Embedded, Followed};
use super::finality::Finality;
use super::pin::DeploymentFile;
use super::rpc::{Endpoints, FINALITY_METHOD, Transport};
use super::transport::InProcess;
use crate::tls;

pub use disputes::{Ballot, Case, MAX_TICKETS, Offence, Ruling, Stage, vote_hash};
pub use error::ClientError;
pub(in crate::chain) use error::chained;
pub(in crate::chain) use gas::TRANSACTION_GAS;
pub use patience::Patience;
pub use seeds::{Seeds, commitment};
pub use types::{
    BlockInfo, Drawn, Measurement, Outcome, Participant, Registration, Reported, SeedCase, Sent,
    Totals, role,
};
pub use variables::Held;

/// How long one answer may take, the attempts at several endpoints included.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a connection is kept that nothing is asked on: coordinators close theirs after 15 s, and no request may
/// meet one that is being closed.
pub(in crate::chain) const IDLE: Duration = Duration::from_secs(5);
/// What the embedded engine calls itself.
const EMBEDDED: &str = "embedded";
/// First and longest pause between two looks for a receipt: an embedded chain has it at once, others make
/// a block every few seconds.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Talks to the contracts of one chain, with one key.
#[derive(Debug)]
pub struct ChainClient {
    provider: RootProvider<Ethereum>,
    signer: PrivateKeySigner,
    deployment: Deployment,
    endpoint: String,
    /// Who confirms what is settled; `None` where one door leads to the chain.
    endpoints: Option<Arc<Endpoints>>,
    patience: Patience,
    turn: Mutex<()>,
    claims: flight::Claims,
    /// Blocks whose logs are asked for at once.
    span: AtomicU64,
}

impl ChainClient {
    /// A client of a chain of this process.
    #[must_use]
    pub fn in_process(chain: &Arc<Embedded>, signer: PrivateKeySigner) -> Self {
        let rpc = RpcClient::new(InProcess::Here(Arc::clone(chain)), true);
        let endpoint = "embedded chain".to_owned();
        Self::new(rpc, signer, chain.deployment(), endpoint)
    }

    fn new(
        rpc: RpcClient,
        signer: PrivateKeySigner,
        deployment: Deployment,
        endpoint: String,
    ) -> Self {
        Self {
            provider: RootProvider::new(rpc),
            signer,
            deployment,
            endpoint,
            endpoints: None,
            patience: Patience::IMMEDIATE,
            turn: Mutex::new(()),
            claims: flight::Claims::default(),
            span: AtomicU64::new(history::SPAN),
        }
    }

    /// A client of a chain that is followed here: its copy is read, its maker takes transactions.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn followed(
        chain: &Arc<Followed>,
        signer: PrivateKeySigner,
        deployment: Deployment,
    ) -> Result<Self, ClientError> {
        let rpc = RpcClient::new(InProcess::Followed(Arc::clone(chain)), true);
        let client = Self::new(rpc, signer, deployment, chain.name());
        client.check().await?;
        Ok(client)
    }

    /// A client of the chain behind `endpoints`, whose contracts are those of `deployment`.
    ///
    /// # Errors
    /// If no endpoint answers, or there are no such contracts.
    pub async fn connect(
        endpoints: &Arc<Endpoints>,
        signer: PrivateKeySigner,
        deployment: Deployment,
    ) -> Result<Self, ClientError> {
        let client = Self::unchecked(endpoints, signer, deployment);
        client.check().await?;
        Ok(client)
    }

    /// As [`Self::connect`], where the contracts may not be there yet.
    pub(super) fn unchecked(
        endpoints: &Arc<Endpoints>,
        signer: PrivateKeySigner,
        deployment: Deployment,
    ) -> Self {
        let rpc = RpcClient::new(Transport(Arc::clone(endpoints)), false);
        let mut client = Self::new(rpc, signer, deployment, endpoints.names());
        client.patience = Patience::until(endpoints.finality());
        client.endpoints = Some(Arc::clone(endpoints));
        client
    }

    /// Another patience than the chain's own.
    #[must_use]
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// A client of the node at `url`, whose contracts are those of `deployment`.
    ///
    /// # Errors
    /// If the node cannot be reached, is of another chain, or has no contracts there.
    pub async fn connect_http(
        url: &str,
        signer: PrivateKeySigner,
        deployment: Deployment,
    ) -> Result<Self, ClientError> {
        let malformed = |why: String| ClientError::Address {
            url: url.to_owned(),
            why,
        };
        let target = tls::target(url).map_err(malformed)?;
        let http = target
            .client
            .timeout(ANSWER)
            .pool_idle_timeout(IDLE)
            .build();
        let http = http.map_err(|e| malformed(e.to_string()))?;
        let rpc = RpcClient::new(Http::with_client(http, target.url), false);
        let mut client = Self::new(rpc, signer, deployment, url.to_owned());
        if client.engine().await? != EMBEDDED {
            client.patience = Patience::until(client.finality().await?);
        }
        client.check().await?;
        Ok(client)
    }

    /// When a coordinator calls a block settled; a plain node does not know the question, and then it is
    /// the chain's own word that counts.
    async fn finality(&self) -> Result<Finality, ClientError> {
        let told = async { self.provider.raw_request(FINALITY_METHOD.into(), ()).await };
        match self.ask("when a block is settled", told).await {
            Err(ClientError::Rejected { .. }) => Ok(Finality::Finalized),
            told => told,
        }
    }

    /// Whether this is the chain, and these are the contracts.
    pub(super) async fn check(&self) -> Result<(), ClientError> {
        let found = self
            .ask("the chain id", self.provider.get_chain_id())
            .await?;
        let expected = self.deployment.chain_id;
        if found != expected {
            return Err(self.wrong(format!("is chain {found}, not chain {expected}")));
        }
        self.code_hashes().await.map(drop)
    }

    fn wrong(&self, why: String) -> ClientError {
        ClientError::WrongChain {
            endpoint: self.endpoint.clone(),
            why,
        }
    }

    /// Hash of each contract's code, by the contract's name.
    ///
    /// # Errors
    /// One of them is not there, or the chain does not answer.
    pub async fn code_hashes(&self) -> Result<BTreeMap<String, B256>, ClientError> {
        let mut all = BTreeMap::new();
        for (name, address) in self.deployment.contracts() {
            let code = async { self.provider.get_code_at(address).await };
            let code = self.ask("the code of a contract", code).await?;
            if code.is_empty() {
                return Err(self.wrong(format!("there is no {name} contract at {address}")));
            }
            all.insert(name.to_owned(), keccak256(&code));
        }
        Ok(all)
    }

    /// Whether the contracts have the code that `pin` has hashes of.
    ///
    /// # Errors
    /// [`ClientError::NotPinned`], or the chain does not answer.
    pub async fn is_pinned(&self, pin: &DeploymentFile) -> Result<(), ClientError> {
        let found = self.code_hashes().await?;
        ClientError::unless(&self.endpoint, pin.differs_in_code(&found))
    }

    /// The address that this client acts as.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Where the contracts are.
    #[must_use]
    pub fn deployment(&self) -> Deployment {
        self.deployment
    }

    /// The key that this client signs with: also signs commitments and reports.
    #[must_use]
    pub fn signer(&self) -> &PrivateKeySigner {
        &self.signer
    }

    /// Where the chain is, for messages.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Calls a view.
    pub(super) async fn read<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
    ) -> Result<C::Return, ClientError> {
        let request = self.trial(to, call.abi_encode().into());
        let output = async { self.provider.call(request).await };
        let output = self.ask(what, output).await?;
        C::abi_decode_returns(&output).map_err(|e| self.malformed(what, e.to_string()))
    }

    fn trial(&self, to: Address, input: Bytes) -> TransactionRequest {
        self.trial_of(TxKind::Call(to), input)
    }

    fn trial_of(&self, to: TxKind, input: Bytes) -> TransactionRequest {
        TransactionRequest {
            from: Some(self.signer.address()),
            to: Some(to),
            input: TransactionInput::new(input),
            ..TransactionRequest::default()
        }
    }

    /// Waits for an answer, not longer than [`ANSWER`], and says in our words what went wrong.
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        answer: impl IntoFuture<Output = Result<T, RpcError<TransportErrorKind>>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(ANSWER, answer.into_future()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(ClientError::of(&self.endpoint, what, e)),
            Err(_) => Err(self.timed_out(what, ANSWER)),
        }
    }

    fn timed_out(&self, what: &'static str, after: Duration) -> ClientError {
        ClientError::TimedOut {
            endpoint: self.endpoint.clone(),
            what,
            after,
        }
    }

    pub(super) fn malformed(&self, what: &'static str, why: String) -> ClientError {
        ClientError::Malformed {
            endpoint: self.endpoint.clone(),
            what,
            why,
        }
    }
}
