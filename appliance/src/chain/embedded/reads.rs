//! Reads: what a request wants to know of a snapshot.

use alloy::eips::{BlockId, BlockNumberOrTag};
use alloy::primitives::{Bytes, TxKind, U64, U256};
use alloy::rpc::types::{Filter, FilterBlockOption, TransactionRequest};
use serde_json::Value;

use super::answers;
use super::disk::{Disk, Snapshot};
use super::execute::{self, Call, CallError, Called, Place, TX_GAS_LIMIT};
use super::export::Frame;
use super::follow::{Founded, Signed};
use super::message::{Answer, Failure, Parameters, result};
use super::rpc::{ENOUGH_BYTES, MAX_BATCH, MAX_BLOCKS, MAX_LOG_BLOCKS, MAX_LOGS};
use super::state::Overlay;

/// Most blocks of a fee history, as in Ethereum clients.
const MAX_FEE_BLOCKS: u64 = 1024;

/// Which block a number or tag means; `None` if there is none yet.
fn resolve(snapshot: &Snapshot, tag: BlockNumberOrTag) -> Option<u64> {
    let head = snapshot.head.number;
    match tag {
        BlockNumberOrTag::Number(number) => (number <= head).then_some(number),
        BlockNumberOrTag::Earliest => Some(0),
        // What is acknowledged is final.
        _ => Some(head),
    }
}

/// Refuses whatever is not the newest block: no other state is kept.
pub(super) fn newest(snapshot: &Snapshot, p: &Parameters, at: usize) -> Result<(), Failure> {
    let head = snapshot.head.number;
    let number = match p.optional::<BlockId>(at, "block")? {
        None => return Ok(()),
        Some(BlockId::Number(tag)) => resolve(snapshot, tag),
        Some(BlockId::Hash(hash)) => snapshot.number(hash.block_hash)?,
    };
    match number {
        Some(number) if number == head => Ok(()),
        Some(number) => Err(Failure::refused(format!(
            "the state of block {number} is not kept, only that of the newest, {head}"
        ))),
        None => Err(Failure::refused("header not found")),
    }
}

fn block_answer(snapshot: &Snapshot, number: Option<u64>, full: bool) -> Answer {
    let Some(number) = number else {
        return Ok(Value::Null);
    };
    let Some(header) = snapshot.header(number)? else {
        return Ok(Value::Null);
    };
    result(&answers::block(header, snapshot.included(number)?, full))
}

pub(super) fn block_by_number(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let tag: BlockNumberOrTag = p.get(0, "block")?;
    let full = p.optional(1, "full")?.unwrap_or(false);
    block_answer(snapshot, resolve(snapshot, tag), full)
}

pub(super) fn block_by_hash(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let number = snapshot.number(p.get(0, "hash")?)?;
    let full = p.optional(1, "full")?.unwrap_or(false);
    block_answer(snapshot, number, full)
}

pub(super) fn transaction_by_hash(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let Some((number, place)) = snapshot.find(p.get(0, "hash")?)? else {
        return Ok(Value::Null);
    };
    let header = snapshot.header(number)?;
    let at = usize::try_from(place).unwrap_or(usize::MAX);
    let included = snapshot.included(number)?.into_iter().nth(at);
    let (Some(header), Some(included)) = (header, included) else {
        return Ok(Value::Null);
    };
    let hash = header.hash_slow();
    result(&answers::transaction(included, &header, hash, place))
}

pub(super) fn receipt(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let Some((number, place)) = snapshot.find(p.get(0, "hash")?)? else {
        return Ok(Value::Null);
    };
    let Some(header) = snapshot.header(number)? else {
        return Ok(Value::Null);
    };
    let at = usize::try_from(place).unwrap_or(usize::MAX);
    result(&answers::receipt(&header, &snapshot.included(number)?, at))
}

pub(super) fn logs(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let filter: Filter = p.get(0, "filter")?;
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let number = snapshot.number(hash)?;
            let number = number.ok_or_else(|| Failure::refused("unknown block"))?;
            (number, number)
        }
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => {
            let head = snapshot.head.number;
            let known = |tag: Option<BlockNumberOrTag>| match tag {
                Some(BlockNumberOrTag::Number(number)) => number,
                Some(BlockNumberOrTag::Earliest) => 0,
                _ => head,
            };
            (known(from_block), known(to_block))
        }
    };
    // As execution-apis has it: whoever asks for what is not there yet would take silence for an answer.
    if to > snapshot.head.number {
        return Err(Failure::parameters(format!(
            "block range extends beyond current head block {}",
            snapshot.head.number
        )));
    }
    if from > to {
        return Err(Failure::parameters(format!(
            "blocks {from} to {to} are no range"
        )));
    }
    if to.saturating_sub(from) >= MAX_LOG_BLOCKS {
        return Err(Failure::limit(format!(
            "blocks {from} to {to} are more than the {MAX_LOG_BLOCKS} of one request"
        )));
    }
    let found = answers::logs(snapshot, &filter, from, to, MAX_LOGS)?;
    let found = found.ok_or_else(|| {
        Failure::limit(format!(
            "more than {MAX_LOGS} logs match; ask for fewer blocks"
        ))
    })?;
    result(&found)
}

/// What a follower begins with.
pub(super) fn founding(disk: &Disk) -> Answer {
    let founding = disk.founding()?;
    let founding = founding.ok_or_else(|| Failure::refused("the chain is not founded"))?;
    result(&Founded {
        genesis: founding.genesis.into(),
        deployment: founding.deployment.into(),
        signature: founding.seal.into(),
    })
}

/// Blocks from a number on, as they are exported; fewer than asked for if they are long.
pub(super) fn blocks(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let from: U64 = p.get(0, "from")?;
    let most: U64 = p.get(1, "count")?;
    let from = from.to::<u64>();
    let to = from.saturating_add(most.to::<u64>().min(MAX_BLOCKS));
    let mut list: Vec<Bytes> = Vec::new();
    let mut length = 0;
    for number in from..to.min(snapshot.head.number + 1) {
        let frame = borsh::to_vec(&Frame::of(snapshot, number)?);
        let frame = frame.map_err(|e| Failure::new(-32603, e.to_string()))?;
        length += frame.len();
        list.push(frame.into());
        if length > ENOUGH_BYTES {
            break;
        }
    }
    result(&list)
}

/// A block's hash with its maker's signature: the newest, or that of a number.
pub(super) fn signed_head(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let asked = p.optional::<U64>(0, "number")?;
    let number = asked.map_or(snapshot.head.number, |n| n.to::<u64>());
    let (zero, header) = (snapshot.header(0)?, snapshot.header(number)?);
    let (Some(zero), Some(header)) = (zero, header) else {
        return Ok(Value::Null);
    };
    result(&Signed {
        chain: zero.hash_slow(),
        number: U64::from(number),
        hash: header.hash_slow(),
        signature: snapshot.seal(number)?.into(),
    })
}

pub(super) fn fee_history(snapshot: &Snapshot, p: &Parameters) -> Answer {
    let blocks: U64 = p.get(0, "block count")?;
    let tag: BlockNumberOrTag = p.get(1, "newest block")?;
    let percentiles: Vec<f64> = p.optional(2, "percentiles")?.unwrap_or_default();
    let number = resolve(snapshot, tag).ok_or_else(|| Failure::refused("header not found"))?;
    let header = snapshot.header(number)?;
    let header = header.ok_or_else(|| Failure::refused("header not found"))?;
    if percentiles.len() > MAX_BATCH {
        return Err(Failure::limit(format!(
            "{} percentiles; at most {MAX_BATCH} are allowed",
            percentiles.len()
        )));
    }
    let blocks = blocks.to::<u64>().min(MAX_FEE_BLOCKS);
    result(&answers::fee_history(&header, blocks, percentiles.len()))
}

pub(super) fn account(snapshot: &Snapshot, method: &str, p: &Parameters) -> Answer {
    newest(snapshot, p, 1)?;
    let record = snapshot.account(p.get(0, "address")?)?;
    if method == "eth_getBalance" {
        return result(&record.map_or(U256::ZERO, |r| r.balance));
    }
    result(&U64::from(record.map_or(0, |r| r.nonce)))
}

/// What a request for a call asks for.
fn asked(p: &Parameters, overrides: usize) -> Result<Call, Failure> {
    if p.0.get(overrides).is_some_and(|value| !value.is_null()) {
        return Err(Failure::parameters("state overrides are not supported"));
    }
    let request: TransactionRequest = p.get(0, "transaction")?;
    Ok(Call {
        from: request.from.unwrap_or_default(),
        to: match request.to {
            Some(TxKind::Call(to)) => Some(to),
            Some(TxKind::Create) | None => None,
        },
        data: request.input.into_input().unwrap_or_default(),
        value: request.value.unwrap_or_default(),
        gas: request.gas.unwrap_or(TX_GAS_LIMIT).min(TX_GAS_LIMIT),
    })
}

pub(super) fn call(snapshot: &Snapshot, place: &Place, p: &Parameters) -> Answer {
    newest(snapshot, p, 1)?;
    let call = asked(p, 2)?;
    match execute::call(&mut Overlay::new(snapshot), place, &call)? {
        Called::Returned { output, .. } => result(&output),
        Called::Reverted { output } => Err(Failure::reverted(&output)),
        Called::Halted { why } => Err(Failure::refused(format!("the call failed: {why}"))),
    }
}

/// The smallest limit with which the call succeeds, within a hundredth: gas is free here, and the search
/// costs the time of a call each step.
pub(super) fn estimate_gas(snapshot: &Snapshot, place: &Place, p: &Parameters) -> Answer {
    newest(snapshot, p, 1)?;
    let mut call = asked(p, 2)?;
    let most = call.gas;
    let mut attempt = |gas: u64| {
        call.gas = gas;
        execute::call(&mut Overlay::new(snapshot), place, &call)
    };
    let gas = match attempt(most)? {
        Called::Returned { gas, .. } => gas,
        Called::Reverted { output } => return Err(Failure::reverted(&output)),
        Called::Halted { why } => {
            return Err(Failure::refused(format!(
                "the call fails with {most} gas: {why}"
            )));
        }
    };
    // Refunds come last, each inner call is given at most 63/64 of what is left, and call data has a price
    // below which no limit is valid (EIP-7623): only what was used says that.
    let (mut low, mut high) = (gas.used.saturating_sub(1), most);
    let likely = (gas.spent + gas.spent / 63 + 2_300).max(gas.used).min(most);
    if matches!(attempt(likely)?, Called::Returned { .. }) {
        high = likely;
    } else {
        low = likely;
    }
    while high - low > high / 100 {
        let middle = low + (high - low) / 2;
        match attempt(middle) {
            Ok(Called::Returned { .. }) => high = middle,
            // Too little even to begin counts as too little.
            Ok(_) | Err(CallError::Invalid(_)) => low = middle,
            Err(e) => return Err(e.into()),
        }
    }
    result(&U64::from(high))
}
