//! One client for every engine.
//!
//! ```text
//!   calls, measurements, disputes,   typed, one line each
//!   variables, history
//!     │
//!   send() ── one at a time: nonce ─ estimate (refusals come here) ─ sign ─ send ─ receipt
//!   read() ── eth_call at the newest block
//! ```
//!
//! Claim: calls of one client may run concurrently; their transactions do not collide, because each has
//! its turn and takes its nonce from the chain. Two clients with one key do collide: the chain refuses
//! one of the transactions and nothing is done twice.

mod calls;
mod disputes;
mod error;
mod history;
mod measurements;
mod seeds;
mod types;
mod variables;

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::network::{Ethereum, ReceiptResponse};
use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::{Provider, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::types::{TransactionInput, TransactionRequest};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use alloy::transports::http::{Http, reqwest};
use alloy::transports::{RpcError, TransportErrorKind};
use plumbline_contracts::Deployment;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::embedded::Embedded;
use super::transport::InProcess;

pub use disputes::{Case, JuryDraw, Offence, Ruling, Stage, vote_hash};
pub use error::ClientError;
pub use seeds::{Seeds, commitment};
pub use types::{
    BlockInfo, Drawn, Measurement, Outcome, Participant, Registration, Sent, Totals, role,
};
pub use variables::Held;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a transaction may take into a block.
const INCLUSION: Duration = Duration::from_secs(60);
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
    turn: Mutex<()>,
}

impl ChainClient {
    /// A client of a chain of this process.
    #[must_use]
    pub fn in_process(chain: &Arc<Embedded>, signer: PrivateKeySigner) -> Self {
        let rpc = RpcClient::new(InProcess::new(Arc::clone(chain)), true);
        Self {
            provider: RootProvider::new(rpc),
            signer,
            deployment: chain.deployment(),
            endpoint: "embedded chain".to_owned(),
            turn: Mutex::new(()),
        }
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
        let parsed = reqwest::Url::parse(url).map_err(|e| malformed(e.to_string()))?;
        let http = reqwest::Client::builder()
            .timeout(ANSWER)
            // A chain on a measurement's own network is never behind a web proxy.
            .no_proxy()
            .build()
            .map_err(|e| malformed(e.to_string()))?;
        let client = Self {
            provider: RootProvider::new(RpcClient::new(Http::with_client(http, parsed), false)),
            signer,
            deployment,
            endpoint: url.to_owned(),
            turn: Mutex::new(()),
        };
        client.check().await?;
        Ok(client)
    }

    /// Whether this is the chain, and these are the contracts.
    async fn check(&self) -> Result<(), ClientError> {
        let wrong = |why: String| ClientError::WrongChain {
            endpoint: self.endpoint.clone(),
            why,
        };
        let found = self
            .ask("the chain id", self.provider.get_chain_id())
            .await?;
        let expected = self.deployment.chain_id;
        if found != expected {
            return Err(wrong(format!("is chain {found}, not chain {expected}")));
        }
        for (name, address) in self.deployment.contracts() {
            let code = async { self.provider.get_code_at(address).await };
            if self.ask("the code of a contract", code).await?.is_empty() {
                return Err(wrong(format!("there is no {name} contract at {address}")));
            }
        }
        Ok(())
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

    /// Sends a transaction and waits until it is in a block.
    pub(super) async fn send<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
    ) -> Result<Sent, ClientError> {
        let input: Bytes = call.abi_encode().into();
        let _turn = self.turn.lock().await;
        let from = self.signer.address();
        let nonce = async { self.provider.get_transaction_count(from).await };
        let nonce = self.ask(what, nonce).await?;
        let estimate = async {
            let trial = self.trial(to, input.clone());
            self.provider.estimate_gas(trial).await
        };
        let gas = self.ask(what, estimate).await?;
        let fees = async { self.provider.estimate_eip1559_fees().await };
        let fees = self.ask(what, fees).await?;
        let tx = TxEip1559 {
            chain_id: self.deployment.chain_id,
            nonce,
            // What it needs may grow a little until its block is made: more participants, another day.
            gas_limit: gas + gas / 4,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(to),
            value: U256::ZERO,
            access_list: Default::default(),
            input: input.clone(),
        };
        let signature = self.signer.sign_hash_sync(&tx.signature_hash());
        let signature = signature.map_err(|e| ClientError::Signing {
            what,
            why: e.to_string(),
        })?;
        let raw = TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718();
        let pending = async { self.provider.send_raw_transaction(&raw).await };
        let hash = *self.ask(what, pending).await?.tx_hash();
        self.wait(what, hash, to, input).await
    }

    async fn wait(
        &self,
        what: &'static str,
        hash: B256,
        to: Address,
        input: Bytes,
    ) -> Result<Sent, ClientError> {
        let deadline = Instant::now() + INCLUSION;
        let mut pause = LOOK.0;
        loop {
            let receipt = async { self.provider.get_transaction_receipt(hash).await };
            if let Some(receipt) = self.ask(what, receipt).await? {
                if receipt.status() {
                    return Ok(Sent {
                        hash,
                        block: receipt.block_number().unwrap_or_default(),
                        gas_used: receipt.gas_used(),
                    });
                }
                // Something came between estimate and block; asked again, the contract says what.
                let again = async { self.provider.call(self.trial(to, input)).await };
                self.ask(what, again).await?;
                return Err(ClientError::Failed { what, hash });
            }
            if Instant::now() + pause > deadline {
                return Err(self.timed_out(what, INCLUSION));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    fn trial(&self, to: Address, input: Bytes) -> TransactionRequest {
        TransactionRequest {
            from: Some(self.signer.address()),
            to: Some(TxKind::Call(to)),
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
