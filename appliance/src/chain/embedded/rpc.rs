//! Ethereum's JSON-RPC, as much of it as clients need.
//!
//! Reads run on a snapshot, beside the sequencer and each other; a transaction is answered when its block
//! is on disk. Only the newest state is kept: a call as of another block is refused and says so.

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::transaction::{Recovered, SignerRecoverable};
use alloy::consensus::{Transaction as _, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::eips::{BlockId, BlockNumberOrTag, Typed2718};
use alloy::primitives::{Address, B256, Bytes, U64, U256};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::disk::Snapshot;
use super::execute::Place;
use super::message::{Answer, Failure, Parameters, result};
use super::{Embedded, admission, reads};
use crate::chain::caller::{Caller, seconds};

/// Reads of the network at once: one core is left to whoever measures.
static READERS: Semaphore = Semaphore::const_new(2);
/// Longest wait for one of them.
const TURN_TIME: Duration = Duration::from_secs(5);
/// Longest request, in bytes: a deployment of the largest contract that the EVM allows, in hex, fits twice.
pub const MAX_REQUEST_BYTES: usize = 256 << 10;
/// Most requests of a batch.
pub const MAX_BATCH: usize = 100;
/// Most blocks that one `eth_getLogs` may span.
pub const MAX_LOG_BLOCKS: u64 = 100_000;
/// Most logs that one `eth_getLogs` answers with.
pub const MAX_LOGS: usize = 10_000;
/// Most blocks that one `plumbline_blocks` answers with.
pub(super) const MAX_BLOCKS: u64 = 256;
/// Bytes of blocks after which `plumbline_blocks` ends its answer.
pub(super) const ENOUGH_BYTES: usize = 1 << 20;

impl Embedded {
    /// Answers a request, or a batch of them, given as bytes: what an HTTP server hands in and out.
    /// Empty when there is nothing to answer (notifications only).
    pub async fn rpc_bytes(self: &Arc<Self>, request: &[u8]) -> Vec<u8> {
        self.bytes(request, None).await
    }

    /// The same for somebody on the network, who is served within its quota.
    pub async fn serve(self: &Arc<Self>, request: &[u8], caller: &Arc<Caller>) -> Vec<u8> {
        self.bytes(request, Some(caller)).await
    }

    async fn bytes(self: &Arc<Self>, request: &[u8], caller: Option<&Arc<Caller>>) -> Vec<u8> {
        let answer = if request.len() > MAX_REQUEST_BYTES {
            let told = format!(
                "the request has {} bytes; at most {MAX_REQUEST_BYTES} are allowed",
                request.len()
            );
            nobody(Failure::limit(told))
        } else {
            match serde_json::from_slice(request) {
                Ok(request) => self.rpc_as(request, caller).await,
                Err(e) => nobody(Failure::new(-32700, e.to_string())),
            }
        };
        if answer.is_null() {
            return Vec::new();
        }
        answer.to_string().into_bytes()
    }

    /// Answers a request, or a batch of them. `null` when there is nothing to answer.
    pub async fn rpc(self: &Arc<Self>, request: Value) -> Value {
        self.rpc_as(request, None).await
    }

    async fn rpc_as(self: &Arc<Self>, request: Value, caller: Option<&Arc<Caller>>) -> Value {
        match request {
            Value::Array(batch) if batch.is_empty() => {
                nobody(Failure::malformed("the batch is empty"))
            }
            Value::Array(batch) if batch.len() > MAX_BATCH => {
                let told = format!(
                    "the batch has {} requests; at most {MAX_BATCH} are allowed",
                    batch.len()
                );
                nobody(Failure::limit(told))
            }
            Value::Array(batch) => {
                let mut answers = Vec::with_capacity(batch.len());
                for request in batch {
                    let answer = self.one(request, caller).await;
                    if !answer.is_null() {
                        answers.push(answer);
                    }
                }
                if answers.is_empty() {
                    Value::Null
                } else {
                    Value::Array(answers)
                }
            }
            request => self.one(request, caller).await,
        }
    }

    async fn one(self: &Arc<Self>, request: Value, caller: Option<&Arc<Caller>>) -> Value {
        let Value::Object(mut request) = request else {
            return nobody(Failure::malformed("a request is a JSON object"));
        };
        let id = request.remove("id");
        let method = request.remove("method");
        let Some(Value::String(method)) = method else {
            let failure = Failure::malformed("method is missing or no string");
            return envelope(&id.unwrap_or_default(), &Err(failure));
        };
        let parameters = match request.remove("params") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(Failure::parameters("params is a list")),
        };
        let answer = match parameters {
            Ok(list) => self.answer(method, Parameters(list), caller).await,
            Err(failure) => Err(failure),
        };
        match id {
            Some(id) => envelope(&id, &answer),
            // A notification: whoever sent it wants no answer.
            None => Value::Null,
        }
    }

    async fn answer(
        self: &Arc<Self>,
        method: String,
        parameters: Parameters,
        caller: Option<&Arc<Caller>>,
    ) -> Answer {
        // Whoever has no quota left is told so before anything is done; each entry of a batch is a request.
        let turn = match caller {
            Some(caller) => Some(turn(caller).await?),
            None => None,
        };
        if method == "eth_sendRawTransaction" {
            return self.send(parameters.get(0, "transaction")?, turn).await;
        }
        let chain = Arc::clone(self);
        // Reads take disk and EVM time; they must not hold up the runtime's own threads.
        tokio::task::spawn_blocking(move || {
            metered(turn.as_ref(), || chain.read(&method, &parameters))
        })
        .await
        .unwrap_or_else(|e| Err(Failure::new(-32603, e.to_string())))
    }

    async fn send(self: &Arc<Self>, raw: Bytes, turn: Option<Turn>) -> Answer {
        let chain = Arc::clone(self);
        let looked = tokio::task::spawn_blocking(move || {
            metered(turn.as_ref(), || {
                let transaction = decode(&raw, chain.deployment.chain_id)?;
                let snapshot = chain.disk.snapshot()?;
                let hash = *transaction.inner().tx_hash();
                // Sent again after an answer was lost: it is in the chain already.
                let is_new = snapshot.find(hash)?.is_none();
                if let Some((caller, _)) = turn.as_ref().filter(|_| is_new) {
                    admission::admit(&snapshot, &chain.deployment, &transaction, caller)?;
                }
                Ok((hash, is_new.then_some(transaction)))
            })
        });
        let (hash, new) = looked
            .await
            .unwrap_or_else(|e| Err(Failure::new(-32603, e.to_string())))?;
        if let Some(transaction) = new {
            let Some(sequencer) = &self.sequencer else {
                return Err(Failure::refused(
                    "this is a copy: its maker takes transactions",
                ));
            };
            sequencer.submit(transaction).await?;
        }
        result(&hash)
    }

    /// As of which block a call is tried: the newest, or, if `pending` is asked for or the `default`, the
    /// one that would be made now.
    fn place(&self, snapshot: &Snapshot, p: &Parameters, default: bool) -> Result<Place, Failure> {
        let pending = match p.optional::<BlockId>(1, "block")? {
            None => default,
            Some(BlockId::Number(BlockNumberOrTag::Latest)) => default,
            Some(id) => id == BlockId::pending(),
        };
        let chain_id = self.deployment.chain_id;
        Ok(if pending {
            Place::after(&snapshot.head, (self.options.clock)(), chain_id)
        } else {
            Place::of(&snapshot.head, chain_id)
        })
    }

    fn read(&self, method: &str, p: &Parameters) -> Answer {
        let chain_id = self.deployment.chain_id;
        match method {
            "eth_chainId" => return result(&U64::from(chain_id)),
            "net_version" => return result(&chain_id.to_string()),
            "web3_clientVersion" => {
                return result(&concat!(
                    "plumbline/",
                    env!("CARGO_PKG_VERSION"),
                    "/embedded"
                ));
            }
            "eth_gasPrice" | "eth_maxPriorityFeePerGas" => return result(&U64::ZERO),
            "eth_syncing" => return result(&false),
            "eth_accounts" => return result::<[Address; 0]>(&[]),
            _ => {}
        }
        let snapshot = self.disk.snapshot()?;
        match method {
            "eth_blockNumber" => result(&U64::from(snapshot.head.number)),
            "eth_getBlockByNumber" => reads::block_by_number(&snapshot, p),
            "eth_getBlockByHash" => reads::block_by_hash(&snapshot, p),
            "eth_getTransactionByHash" => reads::transaction_by_hash(&snapshot, p),
            "eth_getTransactionReceipt" => reads::receipt(&snapshot, p),
            "plumbline_founding" => reads::founding(&self.disk),
            "plumbline_blocks" => reads::blocks(&snapshot, p),
            "plumbline_signedHead" => reads::signed_head(&snapshot, p),
            "eth_getLogs" => reads::logs(&snapshot, p),
            "eth_feeHistory" => reads::fee_history(&snapshot, p),
            "eth_call" => reads::call(&snapshot, &self.place(&snapshot, p, false)?, p),
            "eth_estimateGas" => {
                reads::estimate_gas(&snapshot, &self.place(&snapshot, p, true)?, p)
            }
            "eth_getTransactionCount" | "eth_getBalance" => reads::account(&snapshot, method, p),
            "eth_getCode" => {
                reads::newest(&snapshot, p, 1)?;
                result(&snapshot.code(p.get(0, "address")?)?)
            }
            "eth_getStorageAt" => {
                reads::newest(&snapshot, p, 2)?;
                let (address, slot): (Address, String) = (p.get(0, "address")?, p.get(1, "slot")?);
                let slot = slot_of(&slot)?;
                let value = revm::DatabaseRef::storage_ref(&snapshot, address, slot)?;
                result(&B256::from(value))
            }
            _ => Err(Failure::new(
                -32601,
                format!("the method {method} does not exist here"),
            )),
        }
    }
}

/// A caller's turn in the small pool that serves the network.
type Turn = (Arc<Caller>, SemaphorePermit<'static>);

/// A turn, once the caller may ask and a thread of the pool is free.
async fn turn(caller: &Arc<Caller>) -> Result<Turn, Failure> {
    let wait = |wait| {
        Failure::limit(format!(
            "this address asks for more than its share; ask again in {} s",
            seconds(wait)
        ))
    };
    caller.request(1).map_err(wait)?;
    drop(caller.read().map_err(wait)?);
    match tokio::time::timeout(TURN_TIME, READERS.acquire()).await {
        Ok(Ok(permit)) => Ok((Arc::clone(caller), permit)),
        _ => Err(Failure::limit("others are served now; ask again in 1 s")),
    }
}

/// Does `work` on the caller's time, if there is one.
fn metered<T>(
    turn: Option<&Turn>,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let _reading = turn.map(|(caller, _)| caller.spending());
    work()
}

/// A storage slot: at most 32 bytes, leading zeros or not.
fn slot_of(text: &str) -> Result<U256, Failure> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let slot = (digits.len() <= 64).then(|| U256::from_str_radix(digits, 16).ok());
    slot.flatten().ok_or_else(|| {
        Failure::parameters(format!("slot: `{text}` is not at most 32 bytes in hex"))
    })
}

fn envelope(id: &Value, answer: &Answer) -> Value {
    match answer {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(failure) => {
            let mut error = json!({ "code": failure.code, "message": failure.message });
            if let Some(data) = &failure.data {
                error["data"] = data.clone();
            }
            json!({ "jsonrpc": "2.0", "id": id, "error": error })
        }
    }
}

/// The answer to what is not even a request.
fn nobody(failure: Failure) -> Value {
    envelope(&Value::Null, &Err(failure))
}

/// A transaction from its bytes, if it is one that this chain takes.
pub(super) fn decode(raw: &Bytes, chain_id: u64) -> Result<Recovered<TxEnvelope>, Failure> {
    let mut bytes = raw.as_ref();
    let transaction = TxEnvelope::decode_2718(&mut bytes)
        .map_err(|e| Failure::parameters(format!("not a transaction: {e}")))?;
    if !bytes.is_empty() {
        return Err(Failure::parameters(format!(
            "{} bytes follow the transaction",
            bytes.len()
        )));
    }
    if transaction.ty() > 2 {
        return Err(Failure::refused(format!(
            "transaction type {} is not supported: 0 (legacy), 1 (EIP-2930) and 2 (EIP-1559) are",
            transaction.ty()
        )));
    }
    match transaction.chain_id() {
        Some(id) if id == chain_id => {}
        Some(id) => {
            return Err(Failure::refused(format!(
                "the transaction is signed for chain {id}; this is chain {chain_id}"
            )));
        }
        None => {
            return Err(Failure::refused(
                "only replay-protected (EIP-155) transactions are taken",
            ));
        }
    }
    transaction
        .try_into_recovered()
        .map_err(|e| Failure::refused(format!("invalid signature: {e}")))
}
