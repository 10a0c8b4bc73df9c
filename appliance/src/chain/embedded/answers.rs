//! Blocks, transactions, receipts and logs as Ethereum's JSON-RPC words them.

use alloy::consensus::{Header, Transaction as _, TxEnvelope};
use alloy::primitives::{Address, B256, U256};
use alloy::rpc::types::{
    Block, BlockTransactions, FeeHistory, Filter, Header as RpcHeader, Log, Transaction,
    TransactionReceipt,
};

use super::disk::{Snapshot, StoreError};
use super::execute::Included;

/// A block; with `full`, its transactions whole, else their hashes.
pub(super) fn block(header: Header, included: Vec<Included>, full: bool) -> Block {
    let hash = header.hash_slow();
    let transactions = if full {
        let list = (0_u64..).zip(included);
        BlockTransactions::Full(
            list.map(|(place, one)| transaction(one, &header, hash, place))
                .collect(),
        )
    } else {
        BlockTransactions::Hashes(included.iter().map(tx_hash).collect())
    };
    // A consensus block with the same body would have this length, give or take a few bytes: nobody
    // here decides anything by it.
    let size = U256::from(alloy::rlp::encode(&header).len());
    let inner = RpcHeader {
        hash,
        inner: header,
        total_difficulty: None,
        size: Some(size),
    };
    Block {
        header: inner,
        uncles: Vec::new(),
        transactions,
        withdrawals: None,
    }
}

/// A transaction in its block. Whatever it offered for gas, it paid nothing.
pub(super) fn transaction(
    included: Included,
    header: &Header,
    hash: B256,
    place: u64,
) -> Transaction<TxEnvelope> {
    Transaction {
        inner: included.transaction,
        block_hash: Some(hash),
        block_number: Some(header.number),
        transaction_index: Some(place),
        effective_gas_price: Some(0),
        block_timestamp: Some(header.timestamp),
    }
}

/// The receipt of the transaction at `place` of its block.
pub(super) fn receipt(
    header: &Header,
    included: &[Included],
    place: usize,
) -> Option<TransactionReceipt> {
    let one = included.get(place)?;
    let hash = header.hash_slow();
    let before: usize = included[..place]
        .iter()
        .map(|i| i.receipt.logs().len())
        .sum();
    let mut index = before as u64;
    let transaction_hash = tx_hash(one);
    let inner = one.receipt.clone().map_logs(|inner| {
        let log = Log {
            inner,
            block_hash: Some(hash),
            block_number: Some(header.number),
            block_timestamp: Some(header.timestamp),
            transaction_hash: Some(transaction_hash),
            transaction_index: Some(place as u64),
            log_index: Some(index),
            removed: false,
        };
        index += 1;
        log
    });
    let transaction = one.transaction.inner();
    let created = transaction.kind().is_create();
    Some(TransactionReceipt {
        inner,
        transaction_hash,
        transaction_index: Some(place as u64),
        block_hash: Some(hash),
        block_number: Some(header.number),
        gas_used: one.gas_used,
        effective_gas_price: 0,
        blob_gas_used: None,
        blob_gas_price: None,
        from: one.transaction.signer(),
        to: transaction.to(),
        contract_address: created
            .then(|| -> Address { one.transaction.signer().create(transaction.nonce()) }),
    })
}

/// The logs that `filter` asks for in `from..=to`, or `None` if there are more than `most`.
pub(super) fn logs(
    snapshot: &Snapshot,
    filter: &Filter,
    from: u64,
    to: u64,
    most: usize,
) -> Result<Option<Vec<Log>>, StoreError> {
    let mut found = Vec::new();
    let mut next = from;
    while next <= to
        && let Some(number) = snapshot.next_busy(next, to)?
    {
        next = number + 1;
        let Some(header) = snapshot.header(number)? else {
            continue;
        };
        if !filter.matches_bloom(header.logs_bloom) {
            continue;
        }
        let included = snapshot.included(number)?;
        for place in 0..included.len() {
            let receipt = receipt(&header, &included, place);
            let logs = receipt.iter().flat_map(|r| r.inner.logs());
            found.extend(logs.filter(|log| filter.matches(&log.inner)).cloned());
            if found.len() > most {
                return Ok(None);
            }
        }
    }
    Ok(Some(found))
}

/// Gas never has a price, and blocks are never full.
pub(super) fn fee_history(newest: &Header, blocks: u64, percentiles: usize) -> FeeHistory {
    let blocks = blocks.min(newest.number + 1);
    let count = usize::try_from(blocks).unwrap_or(usize::MAX);
    FeeHistory {
        base_fee_per_gas: vec![0; count + 1],
        gas_used_ratio: vec![0.0; count],
        oldest_block: newest.number + 1 - blocks,
        reward: (percentiles > 0).then(|| vec![vec![0; percentiles]; count]),
        ..FeeHistory::default()
    }
}

fn tx_hash(included: &Included) -> B256 {
    *included.transaction.inner().tx_hash()
}
