//! What is checked of a file whenever it is opened, because it is cheap: a few entries and a call.
//!
//! ```text
//!   founding record ── hashes to ──► block 0        every contract's code ── hashes to ──► its key
//!   head ── parent_hash ──► block before, both found by hash        head ── signed by ──► the founder
//! ```
//!
//! Claim: a file whose founding, head or code is not what it was is not used. All the rest is for
//! [`super::verify`], which reads everything. Tests: `appliance/tests/chain/keep.rs`.

use std::path::Path;

use alloy::primitives::{B256, keccak256};
use plumbline_contracts::Deployment;
use redb::{ReadableTable, ReadableTableMetadata};
use serde::Deserialize;

use super::ChainError;
use super::disk::{Disk, Founding, Snapshot, StoreError};
use super::file::{OpenError, guarded};
use super::genesis::{FORMAT, Record};
use super::seal::SignedHead;

/// What every version of the record has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// What the chain in `disk` was founded on, and where its contracts are.
pub(super) fn founding(disk: &Disk, path: &Path) -> Result<(Record, Deployment), ChainError> {
    let damaged = |what: String| OpenError::damaged(path, what);
    let read = guarded(|| disk.founding()).map_err(damaged)?;
    let read = read.map_err(|e| damaged(format!("the founding record: {e}")))?;
    let founding = read.ok_or_else(|| damaged("it holds no founding record".to_owned()))?;
    parse(&founding, path)
}

/// A founding record, and where its contracts are.
pub(super) fn parse(founding: &Founding, path: &Path) -> Result<(Record, Deployment), ChainError> {
    let damaged = |what: String| OpenError::damaged(path, what);
    let broken = |e: serde_json::Error| damaged(format!("the founding record: {e}"));
    let version: Version = serde_json::from_slice(&founding.genesis).map_err(broken)?;
    if version.format != FORMAT {
        return Err(OpenError::Format {
            path: path.to_path_buf(),
            found: version.format,
            known: FORMAT,
        }
        .into());
    }
    let record: Record = serde_json::from_slice(&founding.genesis).map_err(broken)?;
    let deployment: Deployment = serde_json::from_slice(&founding.deployment).map_err(broken)?;
    if record.is_current() && deployment != record.deployment() {
        let words = "the founding record: the contracts are not where it would deploy them";
        return Err(damaged(words.to_owned()).into());
    }
    Ok((record, deployment))
}

/// The newest block, if what hangs together cheaply does.
pub(super) fn head(disk: &Disk, record: &Record, path: &Path) -> Result<Snapshot, ChainError> {
    let damaged = |what: String| ChainError::from(OpenError::damaged(path, what));
    let read = |e: StoreError| damaged(e.to_string());
    let snapshot = disk.snapshot().map_err(read)?;
    let head = snapshot.head.number;
    let hash_of = |number: u64| -> Result<B256, ChainError> {
        let header = snapshot.header(number).map_err(read)?;
        let header = header.ok_or_else(|| damaged(format!("block {number} is missing")))?;
        let hash = header.hash_slow();
        if header.number != number || snapshot.number(hash).map_err(read)? != Some(number) {
            return Err(damaged(format!("block {number} is not found by its hash")));
        }
        Ok(hash)
    };
    let zero = hash_of(0)?;
    if zero != record.header()?.hash_slow() {
        return Err(damaged("block 0 is not of the founding record".to_owned()));
    }
    let parent = head.checked_sub(1).map(hash_of).transpose()?;
    if parent.is_some_and(|parent| parent != snapshot.head.parent_hash) {
        let words = format!("block {head} does not follow block {}", head - 1);
        return Err(damaged(words));
    }
    let blocks = snapshot.headers.len().map_err(StoreError::from)?;
    if blocks != head.saturating_add(1) {
        let words = format!("it holds {blocks} blocks, but the newest is block {head}");
        return Err(damaged(words));
    }
    signed(&snapshot, record, zero, head).map_err(damaged)?;
    for entry in snapshot.code.iter().map_err(|e| read(e.into()))? {
        let (hash, code) = entry.map_err(|e| read(e.into()))?;
        if keccak256(code.value()).0 != *hash.value() {
            let hash = B256::from(*hash.value());
            return Err(damaged(format!("the code {hash} is not what its hash says")));
        }
    }
    Ok(snapshot)
}

/// Whether block `number` is signed by who founded the chain.
pub(super) fn signed(
    snapshot: &Snapshot,
    record: &Record,
    chain: B256,
    number: u64,
) -> Result<(), String> {
    let header = snapshot.header(number).map_err(|e| e.to_string())?;
    let header = header.ok_or_else(|| format!("block {number} is missing"))?;
    let signed = SignedHead {
        chain: chain.0,
        number,
        hash: header.hash_slow().0,
        signature: snapshot.seal(number).map_err(|e| e.to_string())?,
    };
    if signed.signer() == Some(record.deployer) {
        return Ok(());
    }
    Err(format!(
        "block {number} is not signed by {}, who founded the chain",
        record.deployer
    ))
}
