//! A transaction, from its signing to the moment at which nothing can undo it.
//!
//! ```text
//!   turn ─► nonce, estimate, fees ─► sign ─► broadcast ─┬─► in a block ─► settled ─► confirmed ─► Sent
//!    ▲                                  ▲               │      │ reorganised away
//!    │                                  ├── not pooled ─┤◄─────┘
//!    │                                  └── too long: fee + 1/8, same nonce
//!    └────────── another transaction took the nonce, settled: this one never can ───┘
//! ```
//! All variants of one transaction share a nonce, so at most one of them is ever in a block.

use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::network::{ReceiptResponse, TransactionResponse as _};
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::providers::Provider;
use alloy::rpc::types::TransactionReceipt;
use alloy::signers::SignerSync;
use alloy::sol_types::SolCall;
use tokio::time::Instant;

use super::flight::{Claim, Fees, Flight, Variant};
use super::gas::{is_too_much, with_margin};
use super::types::Sent;
use super::{ChainClient, ClientError, LOOK};
use crate::chain::finality::Finality;
use crate::chain::rpc::Confirmation;

/// How often a call is sent anew after another transaction took its nonce. Each time took a settled
/// block; who loses more often shares its key.
const DISPLACED_MAX: usize = 8;
/// How long a nonce must be used, and the transaction unknown, before it is given up: nodes behind one
/// address can be a block apart.
const DISPLACED_AFTER: Duration = Duration::from_secs(3);

/// How a broadcast was taken.
enum Taken {
    /// It is in the pool, or on its way there, or in a block.
    Well,
    /// It costs too little.
    Underpriced,
}

/// Where a transaction is.
enum Place {
    Block(Box<TransactionReceipt>),
    /// In no block; it can still come into one.
    Open,
    /// Never comes into a block: another one took its nonce, and is settled.
    Displaced,
}

impl ChainClient {
    /// Sends a transaction and waits until it is settled.
    pub(super) async fn send<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
    ) -> Result<Sent, ClientError> {
        let input = call.abi_encode().into();
        self.transact(what, TxKind::Call(to), input).await
    }

    /// The same, acknowledged as soon as it can be acted on: for what its caller does again if it is taken back.
    pub(super) async fn send_soon<C: SolCall>(
        &self,
        what: &'static str,
        to: Address,
        call: &C,
    ) -> Result<Sent, ClientError> {
        let (to, input) = (TxKind::Call(to), call.abi_encode().into());
        let soon = self.patience.finality.soon();
        self.transact_until(what, to, input, soon).await
    }

    /// Sends a call, or makes a contract, and waits until it is settled.
    pub(in crate::chain) async fn transact(
        &self,
        what: &'static str,
        to: TxKind,
        input: Bytes,
    ) -> Result<Sent, ClientError> {
        let settled = self.patience.finality;
        self.transact_until(what, to, input, settled).await
    }

    async fn transact_until(
        &self,
        what: &'static str,
        to: TxKind,
        input: Bytes,
        finality: Finality,
    ) -> Result<Sent, ClientError> {
        for _ in 0..DISPLACED_MAX {
            let turn = self.turn.lock().await;
            let mut flight = self.prepare(what, to, input.clone()).await?;
            flight.finality = finality;
            let Some(receipt) = self.fly(&mut flight, turn).await? else {
                tracing::warn!(
                    what,
                    nonce = flight.claim.nonce,
                    "another transaction of this key took the nonce; sent anew"
                );
                continue;
            };
            let hash = receipt.transaction_hash;
            if receipt.status() {
                return Ok(Sent {
                    hash,
                    block: receipt.block_number().unwrap_or_default(),
                    gas_used: receipt.gas_used(),
                });
            }
            // Something came between estimate and block; asked again, the contract says what.
            let again = async { self.provider.call(self.trial_of(to, input)).await };
            self.ask(what, again).await?;
            return Err(ClientError::Failed { what, hash });
        }
        Err(ClientError::Displaced {
            what,
            account: self.address(),
            times: DISPLACED_MAX,
        })
    }

    /// Finds nonce, gas and fees: the contract's refusals come here.
    async fn prepare(
        &self,
        what: &'static str,
        to: TxKind,
        input: Bytes,
    ) -> Result<Flight, ClientError> {
        let from = self.address();
        // Of the newest block, not of the pool: a transaction that is stuck there is replaced, not
        // waited for, and no gap is left before this one.
        let next = async { self.provider.get_transaction_count(from).await };
        let next = self.ask(what, next).await?;
        let gas = self.gas_for(what, to, input.clone(), next).await?;
        let fees = self.fees(what).await?;
        let now = Instant::now();
        let mut flight = Flight {
            what,
            to,
            input,
            claim: Claim::first(next, &self.claims),
            gas,
            fees,
            variants: Vec::new(),
            began: now,
            fresh: now,
            taken: None,
            is_out: false,
            finality: self.patience.finality,
            stands: "not sent yet".to_owned(),
        };
        self.sign(&mut flight)?;
        Ok(flight)
    }

    /// Gas to allow. As of the block that would be made now; if a transaction of ours is stuck in the pool,
    /// which will be replaced and must not count, as of the newest block.
    async fn gas_for(
        &self,
        what: &'static str,
        to: TxKind,
        input: Bytes,
        next: u64,
    ) -> Result<u64, ClientError> {
        let pooled = async {
            let count = self.provider.get_transaction_count(self.address());
            count.pending().await
        };
        let stuck = self.ask(what, pooled).await? > next;
        let trial = self.trial_of(to, input);
        let estimate = async {
            let block = if stuck {
                BlockId::latest()
            } else {
                BlockId::pending()
            };
            self.provider.estimate_gas(trial).block(block).await
        };
        let gas = self.ask(what, estimate).await;
        let gas = gas.map_err(|error| self.too_much(what, error))?;
        with_margin(gas, stuck).ok_or_else(|| ClientError::TooMuchGas {
            endpoint: self.endpoint.clone(),
            what,
            why: format!("it takes {gas}"),
        })
    }

    /// A node's refusal of so much gas, as such. Nodes agree on the words, not on their codes.
    fn too_much(&self, what: &'static str, error: ClientError) -> ClientError {
        match error {
            ClientError::Rejected { message, .. } if is_too_much(&message) => {
                ClientError::TooMuchGas {
                    endpoint: self.endpoint.clone(),
                    what,
                    why: message,
                }
            }
            other => other,
        }
    }

    async fn fees(&self, what: &'static str) -> Result<Fees, ClientError> {
        let price = async { self.provider.get_gas_price().await };
        if self.ask(what, price).await? == 0 {
            // The embedded chain, and a consortium's: nobody needs native coin there.
            return Ok(Fees {
                max: 0,
                priority: 0,
            });
        }
        let fees = async { self.provider.estimate_eip1559_fees().await };
        let fees = self.ask(what, fees).await?;
        let most = self.patience.max_fee_per_gas;
        Ok(Fees {
            max: fees.max_fee_per_gas.min(most),
            priority: fees.max_priority_fee_per_gas.min(most),
        })
    }

    /// Adds a variant with the fees of now.
    fn sign(&self, flight: &mut Flight) -> Result<(), ClientError> {
        let tx = TxEip1559 {
            chain_id: self.deployment.chain_id,
            nonce: flight.claim.nonce,
            gas_limit: flight.gas,
            max_fee_per_gas: flight.fees.max,
            max_priority_fee_per_gas: flight.fees.priority,
            to: flight.to,
            value: U256::ZERO,
            access_list: Default::default(),
            input: flight.input.clone(),
        };
        let signature = self.signer.sign_hash_sync(&tx.signature_hash());
        let signature = signature.map_err(|e| ClientError::Signing {
            what: flight.what,
            why: e.to_string(),
        })?;
        let envelope = TxEnvelope::Eip1559(tx.into_signed(signature));
        flight.variants.push(Variant {
            hash: *envelope.tx_hash(),
            raw: envelope.encoded_2718(),
        });
        flight.fresh = Instant::now();
        Ok(())
    }

    /// Broadcasts and waits until a variant is settled; `None` if none ever will be. Others of this
    /// client have their turn as soon as it is in a block.
    async fn fly(
        &self,
        flight: &mut Flight,
        turn: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<Option<TransactionReceipt>, ClientError> {
        let mut turn = Some(turn);
        let mut must_send = true;
        let mut pause = LOOK.0;
        loop {
            let looked = self.look(flight, &mut must_send).await;
            match looked {
                Ok(Place::Displaced) => return Ok(None),
                Ok(Place::Open) => {}
                Ok(Place::Block(receipt)) => {
                    drop(turn.take());
                    match self.is_settled(flight, &receipt).await {
                        Ok(true) => return Ok(Some(*receipt)),
                        Ok(false) => {}
                        Err(error) => self.bear(flight, error)?,
                    }
                }
                Err(error) => self.bear(flight, error)?,
            }
            let waited = flight.began.elapsed();
            if waited + pause > self.patience.settle {
                return Err(ClientError::NotSettled {
                    endpoint: self.endpoint.clone(),
                    what: flight.what,
                    hash: flight.variants.last().map(|v| v.hash).unwrap_or_default(),
                    after: waited,
                    stands: flight.stands.clone(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK.1);
        }
    }

    /// Silence is borne while there is patience, and once a node has taken the transaction, whatever a node
    /// cannot tell: it may be in a block all the same. Everything else ends the flight.
    fn bear(&self, flight: &mut Flight, error: ClientError) -> Result<(), ClientError> {
        let is_borne = match error {
            ClientError::Unreachable { .. } | ClientError::TimedOut { .. } => true,
            ClientError::Rejected { .. } | ClientError::Malformed { .. } => flight.is_out,
            _ => false,
        };
        if !(self.patience.is_stubborn && is_borne) {
            return Err(error);
        }
        flight.stands = error.to_string();
        Ok(())
    }

    /// Finds out where it is, and does what brings it on.
    async fn look(&self, flight: &mut Flight, must_send: &mut bool) -> Result<Place, ClientError> {
        if *must_send {
            self.broadcast(flight).await?;
            *must_send = false;
        }
        if let Some(receipt) = self.receipt(flight).await? {
            return Ok(Place::Block(receipt));
        }
        flight.stands = "in no block".to_owned();
        if !self.patience.is_stubborn {
            return Ok(Place::Open);
        }
        match self.settled_nonce(flight.what).await {
            Ok(next) if next > flight.claim.nonce => return self.displaced(flight).await,
            Ok(_) => {}
            // A node that keeps no old states cannot say; whether it is pooled still shows.
            Err(error) => self.bear(flight, error)?,
        }
        flight.taken = None;
        if !self.is_pooled(flight).await? {
            flight.stands = "neither in a block nor in the pool".to_owned();
            *must_send = true;
        } else if flight.fresh.elapsed() >= self.patience.bump {
            flight.stands = "in the pool".to_owned();
            *must_send = self.raise(flight)?;
        }
        Ok(Place::Open)
    }

    /// Its nonce is used, yet it is in no block that the node shows. A node may count a transaction a
    /// moment before it shows its receipt, so only what stays so, and is unknown by its hash, is lost.
    async fn displaced(&self, flight: &mut Flight) -> Result<Place, ClientError> {
        flight.stands = "in no block, and its nonce is used".to_owned();
        let since = *flight.taken.get_or_insert_with(Instant::now);
        let is_lost = since.elapsed() >= DISPLACED_AFTER && !self.is_pooled(flight).await?;
        Ok(match self.receipt(flight).await? {
            Some(receipt) => Place::Block(receipt),
            None if is_lost => Place::Displaced,
            None => Place::Open,
        })
    }

    /// Makes a variant that pays more, if any may be paid.
    fn raise(&self, flight: &mut Flight) -> Result<bool, ClientError> {
        let raised = flight.fees.raised();
        if raised.max > self.patience.max_fee_per_gas {
            flight.stands = format!(
                "in the pool at {} wei a unit of gas, and more than {} is not paid",
                flight.fees.max, self.patience.max_fee_per_gas
            );
            return Ok(false);
        }
        flight.fees = raised;
        self.sign(flight)?;
        tracing::info!(
            what = flight.what,
            nonce = flight.claim.nonce,
            max_fee = flight.fees.max,
            "a transaction waits for a block; its fee is raised"
        );
        Ok(true)
    }

    /// Sends the newest variant; raises its fee as long as the node asks for more.
    async fn broadcast(&self, flight: &mut Flight) -> Result<(), ClientError> {
        loop {
            let Some(newest) = flight.variants.last() else {
                return Ok(());
            };
            let raw = newest.raw.clone();
            let pending = async { self.provider.send_raw_transaction(&raw).await };
            let answer = self.ask(flight.what, pending).await.map(drop);
            match self.taken(flight, answer).await? {
                Taken::Well => {
                    flight.is_out = true;
                    if let Some(all) = self.endpoints.as_ref().filter(|e| e.count() > 1) {
                        all.spread(&raw);
                    }
                    return Ok(());
                }
                Taken::Underpriced if self.raise(flight)? => {}
                // The variant before, which a node has taken, may still come into a block.
                Taken::Underpriced if flight.is_out => return Ok(()),
                Taken::Underpriced => {
                    return Err(ClientError::TooExpensive {
                        endpoint: self.endpoint.clone(),
                        what: flight.what,
                        most: self.patience.max_fee_per_gas,
                    });
                }
            }
        }
    }

    /// Nodes agree on the words of these refusals, not on their codes.
    async fn taken(
        &self,
        flight: &Flight,
        answer: Result<(), ClientError>,
    ) -> Result<Taken, ClientError> {
        let Err(error) = answer else {
            return Ok(Taken::Well);
        };
        let ClientError::Rejected { message, .. } = &error else {
            return Err(error);
        };
        let words = message.to_lowercase();
        let says = |list: &[&str]| list.iter().any(|word| words.contains(word));
        if says(&["insufficient funds", "insufficient balance"]) {
            return Err(self.penniless(flight).await?);
        }
        if is_too_much(&words) {
            return Err(self.too_much(flight.what, error));
        }
        if !self.patience.is_stubborn {
            return Err(error);
        }
        // Where it is, or who took its nonce, is seen by looking.
        if says(&[
            "already known",
            "already imported",
            "known transaction",
            "nonce too low",
        ]) {
            return Ok(Taken::Well);
        }
        if says(&[
            "underpriced",
            "less than block base fee",
            "fee too low",
            "below base fee",
        ]) {
            return Ok(Taken::Underpriced);
        }
        Err(error)
    }

    async fn penniless(&self, flight: &Flight) -> Result<ClientError, ClientError> {
        let account = self.address();
        let balance = async { self.provider.get_balance(account).await };
        let has = self.ask("the native balance", balance).await?;
        Ok(ClientError::Funds {
            endpoint: self.endpoint.clone(),
            what: flight.what,
            account,
            chain_id: self.deployment.chain_id,
            has: has.saturating_to(),
            needs: u128::from(flight.gas).saturating_mul(flight.fees.max),
        })
    }

    /// The receipt of whichever variant is in a block.
    async fn receipt(
        &self,
        flight: &Flight,
    ) -> Result<Option<Box<TransactionReceipt>>, ClientError> {
        for variant in flight.variants.iter().rev() {
            let receipt = async { self.provider.get_transaction_receipt(variant.hash).await };
            if let Some(receipt) = self.ask(flight.what, receipt).await? {
                return Ok(Some(Box::new(receipt)));
            }
        }
        Ok(None)
    }

    async fn is_pooled(&self, flight: &Flight) -> Result<bool, ClientError> {
        for variant in flight.variants.iter().rev() {
            let found = async { self.provider.get_transaction_by_hash(variant.hash).await };
            let found = self.ask(flight.what, found).await?;
            if found.is_some_and(|t| t.tx_hash() == variant.hash) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many transactions of this key are settled.
    async fn settled_nonce(&self, what: &'static str) -> Result<u64, ClientError> {
        let at = match self.patience.finality {
            Finality::Finalized => BlockId::finalized(),
            Finality::Depth(0) => BlockId::latest(),
            Finality::Depth(_) => BlockId::number(self.settled_height().await?),
        };
        let count = async {
            let count = self.provider.get_transaction_count(self.address());
            count.block_id(at).await
        };
        self.ask(what, count).await
    }

    /// The newest block that nothing can undo any more: whoever follows the chain reads up to here.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn settled_height(&self) -> Result<u64, ClientError> {
        self.height_of(self.patience.finality).await
    }

    /// The newest block that is acknowledged by `finality`.
    async fn height_of(&self, finality: Finality) -> Result<u64, ClientError> {
        let what = "the settled height";
        match finality {
            Finality::Depth(depth) => {
                let head = async { self.provider.get_block_number().await };
                Ok(self.ask(what, head).await?.saturating_sub(depth))
            }
            Finality::Finalized => {
                let tag = BlockNumberOrTag::Finalized;
                let block = async { self.provider.get_block_by_number(tag).await };
                // None before the chain's first finalized block.
                Ok(self
                    .ask(what, block)
                    .await?
                    .map_or(0, |b| b.header.inner.number))
            }
        }
    }

    /// Whether the block of `receipt` is acknowledged, and most endpoints say so.
    async fn is_settled(
        &self,
        flight: &mut Flight,
        receipt: &TransactionReceipt,
    ) -> Result<bool, ClientError> {
        let (Some(number), Some(hash)) = (receipt.block_number, receipt.block_hash) else {
            return Ok(false);
        };
        if flight.finality != Finality::IMMEDIATE {
            let settled = self.height_of(flight.finality).await?;
            if number > settled {
                flight.stands =
                    format!("in block {number}, of which nothing later than {settled} is settled");
                return Ok(false);
            }
        }
        let Some(endpoints) = &self.endpoints else {
            return Ok(true);
        };
        // Endpoints may differ for a moment about what is only acted on; nobody is accused of that.
        if flight.finality != self.patience.finality {
            return Ok(true);
        }
        let confirmed = endpoints.confirm(receipt.transaction_hash, hash).await;
        match confirmed.map_err(ClientError::Endpoints)? {
            Confirmation::Confirmed => Ok(true),
            Confirmation::NotYet(why) => {
                flight.stands = why;
                Ok(false)
            }
        }
    }
}
