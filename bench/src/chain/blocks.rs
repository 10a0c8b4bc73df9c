//! What the engine has made, read back over its own JSON-RPC: the work that its peers are given.

use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::transaction::{Recovered, SignerRecoverable};
use alloy::consensus::{Header, TxEnvelope};
use alloy::primitives::U64;
use alloy::rpc::types::Block;
use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};
use plumbline::chain::Embedded;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Transactions of a round whose signers are recovered again: each takes as long as the next.
const RECOVERED: usize = 64;

/// A block, its signers known.
pub(crate) struct Made {
    pub(crate) header: Header,
    pub(crate) transactions: Vec<Recovered<TxEnvelope>>,
}

/// Asks the chain.
pub(crate) async fn ask<T: DeserializeOwned>(
    chain: &Arc<Embedded>,
    method: &str,
    params: Value,
) -> Result<T> {
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let mut answer = chain.rpc(request).await;
    if !answer["error"].is_null() {
        bail!("{method}: {}", answer["error"]);
    }
    serde_json::from_value(answer["result"].take()).with_context(|| method.to_owned())
}

/// The newest block's number.
pub(crate) async fn height(chain: &Arc<Embedded>) -> Result<u64> {
    let number: U64 = ask(chain, "eth_blockNumber", json!([])).await?;
    Ok(number.to())
}

/// How many transactions a block has.
pub(crate) async fn size(chain: &Arc<Embedded>, number: u64) -> Result<usize> {
    let block: Block = ask(
        chain,
        "eth_getBlockByNumber",
        json!([U64::from(number), false]),
    )
    .await?;
    Ok(block.transactions.len())
}

/// Blocks `from..=to`.
///
/// # Errors
/// One cannot be read.
pub(crate) async fn read(chain: &Arc<Embedded>, from: u64, to: u64) -> Result<Vec<Made>> {
    let mut blocks = Vec::new();
    for number in from..=to {
        let block: Block = ask(
            chain,
            "eth_getBlockByNumber",
            json!([U64::from(number), true]),
        )
        .await?;
        let transactions = block.transactions.into_transactions();
        blocks.push(Made {
            header: block.header.inner,
            transactions: transactions.map(|t| t.inner).collect(),
        });
    }
    Ok(blocks)
}

/// Recovers the signers of some transactions again; seconds of this thread's work for one, so that a busy
/// machine does not make it longer.
///
/// # Errors
/// One is not who the chain says, or there is none.
pub(crate) fn recover(blocks: &[Made]) -> Result<f64> {
    let transactions = blocks.iter().flat_map(|block| &block.transactions);
    let (mut took, mut count) = (Duration::ZERO, 0_u32);
    for transaction in transactions.take(RECOVERED) {
        let began = work()?;
        let signer = transaction.inner().recover_signer()?;
        took += work()?.saturating_sub(began);
        count += 1;
        ensure!(signer == transaction.signer(), "signed by {signer}");
    }
    ensure!(count > 0, "blocks without transactions");
    Ok(took.as_secs_f64() / f64::from(count))
}

/// What this thread has worked.
fn work() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
