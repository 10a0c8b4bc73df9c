//! What the chain has announced: events that clients look up or catch up with.

use std::sync::atomic::Ordering;

use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Log};
use alloy::sol_types::SolEvent;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::vault::Vault;

use super::{ChainClient, ClientError};

/// Blocks asked for at once: what most nodes allow. Half as many are asked for after a refusal, and an eighth more
/// after each answer.
pub(super) const SPAN: u64 = 1_000;

/// A payout: who was credited how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Who can withdraw it.
    pub to: Address,
    /// How much, base units.
    pub amount: U256,
}

impl ChainClient {
    /// Which engine answers, by its own word: `embedded` for ours, else the node's name and version.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn engine(&self) -> Result<String, ClientError> {
        let version = async { self.provider.get_client_version().await };
        let version = self.ask("the node's version", version).await?;
        let ours = version.starts_with("plumbline/") && version.ends_with("/embedded");
        Ok(if ours { "embedded".to_owned() } else { version })
    }

    /// Requests announced in the blocks `from..=to`, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn requests_between(&self, from: u64, to: u64) -> Result<Vec<B256>, ClientError> {
        let filter = Filter::new()
            .address(self.deployment.backhaul)
            .event_signature(Backhaul::Requested::SIGNATURE_HASH);
        let logs = self.logs("Requested events", filter, from, to).await?;
        Ok(logs
            .iter()
            .filter_map(|l| l.topics().get(1).copied())
            .collect())
    }

    /// Disputes brought in the blocks `from..=to`, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn disputes_between(&self, from: u64, to: u64) -> Result<Vec<B256>, ClientError> {
        let filter = Filter::new()
            .address(self.deployment.disputes)
            .event_signature(Disputes::Disputed::SIGNATURE_HASH);
        let logs = self.logs("Disputed events", filter, from, to).await?;
        Ok(logs
            .iter()
            .filter_map(|l| l.topics().get(1).copied())
            .collect())
    }

    /// The network key's signature over the settlement address, as `account` registered it.
    ///
    /// # Errors
    /// See [`ClientError`]; malformed if there is no such event in the block of the registration.
    pub async fn cross_signature(
        &self,
        account: Address,
        registered_block: u64,
    ) -> Result<[u8; 64], ClientError> {
        let what = "CrossSigned event";
        let filter = Filter::new()
            .address(self.deployment.participants)
            .event_signature(Participants::CrossSigned::SIGNATURE_HASH)
            .topic1(account.into_word());
        let logs = self
            .logs(what, filter, registered_block, registered_block)
            .await?;
        let log = logs.first().ok_or_else(|| {
            self.malformed(
                what,
                format!("none of {account} in block {registered_block}"),
            )
        })?;
        let event = Participants::CrossSigned::decode_log_data(&log.inner.data)
            .map_err(|e| self.malformed(what, e.to_string()))?;
        event
            .signature
            .as_ref()
            .try_into()
            .map_err(|_| self.malformed(what, "it is not 64 bytes".into()))
    }

    /// What was credited out of the escrow of measurement `id` in block `number`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn credits(&self, id: B256, number: u64) -> Result<Vec<Credit>, ClientError> {
        let what = "Credited events";
        let filter = Filter::new()
            .address(self.deployment.vault)
            .event_signature(Vault::Credited::SIGNATURE_HASH)
            .topic2(id);
        let logs = self.logs(what, filter, number, number).await?;
        logs.iter()
            .map(|l| {
                let event = Vault::Credited::decode_log_data(&l.inner.data)
                    .map_err(|e| self.malformed(what, e.to_string()))?;
                Ok(Credit {
                    to: event.to,
                    amount: event.amount,
                })
            })
            .collect()
    }

    async fn logs(
        &self,
        what: &'static str,
        filter: Filter,
        from: u64,
        to: u64,
    ) -> Result<Vec<Log>, ClientError> {
        let mut all = Vec::new();
        let mut first = from;
        while first <= to {
            let span = self.span.load(Ordering::Relaxed);
            let last = to.min(first.saturating_add(span - 1));
            let part = filter.clone().from_block(first).to_block(last);
            let logs = async { self.provider.get_logs(&part).await };
            match self.ask(what, logs).await {
                Ok(logs) => {
                    all.extend(logs);
                    if last - first + 1 == span {
                        // What was refused once may fit now: another node answers.
                        let more = (span + span / 8 + 1).min(SPAN);
                        self.span.store(more, Ordering::Relaxed);
                    }
                    first = last + 1;
                }
                // Each node has a limit of its own and words of its own for it: half as many fit, or no number does.
                Err(ClientError::Rejected { .. }) if last > first => {
                    let half = (last - first).div_ceil(2);
                    self.span.store(half, Ordering::Relaxed);
                    tracing::info!(what, blocks = half, "fewer blocks are asked for at once");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Blocks that [`Self::requests_between`] asks for at once, as far as is known: a page.
    #[must_use]
    pub fn page(&self) -> u64 {
        self.span.load(Ordering::Relaxed)
    }
}

/// One step of a measurement, as the chain announced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The contract's function.
    pub name: &'static str,
    /// Block it is in.
    pub block: u64,
    /// Gas its transaction took.
    pub gas_used: u64,
}

impl ChainClient {
    /// Every step of the measurement `id`, oldest first.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn trail(&self, id: B256, request_block: u64) -> Result<Vec<Step>, ClientError> {
        let what = "the steps of a measurement";
        let head = self.latest_block().await?.number;
        let filter = Filter::new().address(self.deployment.backhaul).topic1(id);
        let mut steps = Vec::new();
        for log in self.logs(what, filter, request_block, head).await? {
            let name = match log.topic0().copied() {
                Some(Backhaul::Requested::SIGNATURE_HASH) => "request",
                Some(
                    Backhaul::Selected::SIGNATURE_HASH
                    | Backhaul::NotEnoughChallengers::SIGNATURE_HASH,
                ) => "select",
                Some(Backhaul::Began::SIGNATURE_HASH) => "begin",
                Some(Backhaul::Reported::SIGNATURE_HASH) => "report",
                Some(Backhaul::Finalized::SIGNATURE_HASH) => "finalize",
                Some(Backhaul::TimedOut::SIGNATURE_HASH) => "timeout",
                // Others are announced in the same transactions.
                _ => continue,
            };
            let Some((hash, block)) = log.transaction_hash.zip(log.block_number) else {
                continue;
            };
            let receipt = async { self.provider.get_transaction_receipt(hash).await };
            let receipt = self.ask(what, receipt).await?;
            let gas_used = receipt.map_or(0, |r| alloy::network::ReceiptResponse::gas_used(&r));
            steps.push(Step {
                name,
                block,
                gas_used,
            });
        }
        Ok(steps)
    }
}
