//! Do the endpoints tell of one chain? Settled blocks and receipts, compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::{B256, U64};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::endpoint::{Endpoint, Fault};
use super::{Endpoints, EndpointsError};
use crate::chain::finality::Finality;

/// How many settled blocks an endpoint may lack before it is left alone: what it tells is old news.
const LAG: u64 = 32;

/// What the endpoints say of a receipt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Most have it, and all that have it have the same.
    Confirmed,
    /// Too few have it yet; in words, who lacks it.
    NotYet(String),
}

/// What a block is compared by.
#[derive(Deserialize)]
struct Block {
    number: U64,
    hash: B256,
}

/// What a receipt is compared by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    block_hash: B256,
    status: U64,
}

impl Endpoints {
    /// Compares the newest settled block that the endpoints have in common. Whoever differs from the
    /// majority, or is far behind it, is accused; who agrees again is acquitted.
    ///
    /// # Errors
    /// None answers, or there is no majority.
    pub async fn compare(&self) -> Result<(), EndpointsError> {
        let compared = self.compared().await;
        self.settle(compared.as_ref().err().cloned());
        compared
    }

    async fn compared(&self) -> Result<(), EndpointsError> {
        let finality = self.options.finality;
        let mut heights = Vec::new();
        let mut silent = Vec::new();
        let within = self.options.attempt;
        let asked = self.all(move |e| async move { height(&e, finality, within).await });
        for (endpoint, height) in asked.await {
            match height {
                Ok(height) => heights.push((endpoint, height)),
                Err(fault) => {
                    let wrong = matches!(fault, Fault::Wrong(_));
                    let why = fault.into_words();
                    silent.push(format!("{}: {why}", endpoint.url()));
                    if wrong {
                        endpoint.accuse(why, false);
                    } else {
                        endpoint.rest(self.options.rest);
                    }
                }
            }
        }
        if heights.is_empty() {
            return Err(self.none(&silent));
        }
        // The highest block that most have reached: one alone cannot make the others look late.
        heights.sort_by_key(|(_, height)| std::cmp::Reverse(*height));
        let common = heights[heights.len() / 2].1;
        let (current, late): (Vec<_>, Vec<_>) = heights
            .iter()
            .cloned()
            .partition(|(_, height)| height + LAG >= common);
        for (endpoint, height) in &late {
            let behind = common - height;
            endpoint.accuse(format!("is {behind} settled blocks behind"), false);
        }
        let lowest = current.iter().map(|(_, h)| *h).min().unwrap_or(common);
        self.compare_at(lowest, &current).await?;
        // Of two, the one far behind the other tells old news, though of the same chain.
        let highest = current.iter().map(|(_, h)| *h).max().unwrap_or(common);
        for (endpoint, height) in current.iter().filter(|(_, h)| h + LAG < highest) {
            let behind = highest - height;
            if current.len() == 2 {
                endpoint.accuse(format!("is {behind} settled blocks behind"), false);
            }
        }
        Ok(())
    }

    async fn compare_at(
        &self,
        number: u64,
        among: &[(Arc<Endpoint>, u64)],
    ) -> Result<(), EndpointsError> {
        let within = self.options.attempt;
        let wanted = json!([U64::from(number), false]);
        let mut hashes = BTreeMap::new();
        let asked = self.all(move |e| {
            let wanted = wanted.clone();
            async move {
                e.ask::<Block>("eth_getBlockByNumber", &wanted, within)
                    .await
            }
        });
        for (endpoint, block) in asked.await {
            if !among.iter().any(|(e, _)| Arc::ptr_eq(e, &endpoint)) {
                continue;
            }
            match block {
                Ok(block) => hashes
                    .entry(block.hash)
                    .or_insert_with(Vec::new)
                    .push(endpoint),
                Err(fault) => {
                    let why = fault.into_words();
                    endpoint.accuse(format!("does not show block {number}: {why}"), false);
                }
            }
        }
        let what = format!("block {number}");
        let (right, wrong) = majority(&hashes, &what, "hash", |hash| hash.to_string())?;
        for endpoint in right {
            endpoint.acquit();
        }
        for (endpoint, why) in wrong {
            endpoint.accuse(why, false);
        }
        Ok(())
    }

    /// Whether most endpoints have the receipt of transaction `hash` in the block `block_hash`. Whoever
    /// has another than most is accused for good.
    ///
    /// # Errors
    /// They contradict each other, and there is no majority.
    pub async fn confirm(
        &self,
        hash: B256,
        block_hash: B256,
    ) -> Result<Confirmation, EndpointsError> {
        if self.list.len() == 1 {
            return Ok(Confirmation::Confirmed);
        }
        let within = self.options.attempt;
        let mut seen: BTreeMap<Receipt, Vec<Arc<Endpoint>>> = BTreeMap::new();
        let mut lacking = Vec::new();
        let asked = self.all(move |e| async move {
            let wanted = json!([hash]);
            e.ask::<Option<Receipt>>("eth_getTransactionReceipt", &wanted, within)
                .await
        });
        for (endpoint, receipt) in asked.await {
            if endpoint.accusation().is_some() {
                continue;
            }
            match receipt {
                Ok(Some(receipt)) => seen.entry(receipt).or_default().push(endpoint),
                Ok(None) => lacking.push(endpoint),
                // It cannot vote; whoever can decides.
                Err(_) => endpoint.rest(self.options.rest),
            }
        }
        let what = format!("transaction {hash}");
        let voters = lacking.len() + seen.values().map(Vec::len).sum::<usize>();
        let told = |receipt: &Receipt| {
            let status = receipt.status;
            format!("{} with status {status}", receipt.block_hash)
        };
        let supporters: usize = seen
            .iter()
            .filter(|(r, _)| r.block_hash == block_hash)
            .map(|(_, who)| who.len())
            .sum();
        let (_, wrong) = match majority(&seen, &what, "receipt in block", told) {
            Ok(parted) => parted,
            Err(error) => {
                self.settle(Some(error.clone()));
                return Err(error);
            }
        };
        for (endpoint, why) in wrong {
            endpoint.accuse(why, true);
        }
        if supporters * 2 > voters {
            for endpoint in &lacking {
                tracing::warn!(endpoint = endpoint.url(), %hash, "an endpoint lacks a settled transaction");
            }
            return Ok(Confirmation::Confirmed);
        }
        let names: Vec<&str> = lacking.iter().map(|e| e.url()).collect();
        Ok(Confirmation::NotYet(format!(
            "only {supporters} of {voters} endpoints have it in block {block_hash}; lacking: {}",
            names.join(", ")
        )))
    }

    /// Asks all at once that are not cast out.
    async fn all<T, F, W>(&self, ask: F) -> Vec<(Arc<Endpoint>, Result<T, Fault>)>
    where
        T: Send + 'static,
        F: Fn(Arc<Endpoint>) -> W,
        W: Future<Output = Result<T, Fault>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for endpoint in self.list.iter().filter(|e| !e.is_outcast()) {
            let answer = ask(Arc::clone(endpoint));
            let endpoint = Arc::clone(endpoint);
            tasks.spawn(async move { (endpoint, answer.await) });
        }
        tasks.join_all().await
    }
}

/// Height of the newest settled block.
async fn height(
    endpoint: &Endpoint,
    finality: Finality,
    within: std::time::Duration,
) -> Result<u64, Fault> {
    match finality {
        Finality::Depth(depth) => {
            let head: U64 = endpoint
                .ask("eth_blockNumber", &Value::Array(Vec::new()), within)
                .await?;
            Ok(head.to::<u64>().saturating_sub(depth))
        }
        Finality::Finalized => {
            let wanted = json!(["finalized", false]);
            let block: Block = endpoint
                .ask("eth_getBlockByNumber", &wanted, within)
                .await?;
            Ok(block.number.to())
        }
    }
}

type Parted = (Vec<Arc<Endpoint>>, Vec<(Arc<Endpoint>, String)>);

/// Parts those of the majority from the others, each of whom gets the reason.
fn majority<K: Ord>(
    said: &BTreeMap<K, Vec<Arc<Endpoint>>>,
    what: &str,
    noun: &str,
    words: impl Fn(&K) -> String,
) -> Result<Parted, EndpointsError> {
    let voters: usize = said.values().map(Vec::len).sum();
    let Some((most, _)) = said.iter().max_by_key(|(_, who)| who.len()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    if said[most].len() * 2 <= voters {
        let told = said.iter().flat_map(|(value, who)| {
            let value = words(value);
            who.iter()
                .map(move |e| format!("{} has {noun} {value}", e.url()))
        });
        return Err(EndpointsError::Disagree {
            what: what.to_owned(),
            told: told.collect::<Vec<_>>().join(", "),
        });
    }
    let right = said[most].clone();
    let (count, truth) = (right.len(), words(most));
    let wrong = said
        .iter()
        .filter(|(value, _)| *value != most)
        .flat_map(|(value, who)| {
            let why = format!(
                "has {what} with {noun} {}, where {count} of {voters} have {truth}",
                words(value)
            );
            who.iter().map(move |e| (Arc::clone(e), why.clone()))
        });
    Ok((right, wrong.collect()))
}
