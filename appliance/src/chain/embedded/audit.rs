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

use alloy::consensus::Header;
use alloy::primitives::{Address, B256, keccak256};
use plumbline_contracts::Deployment;
use redb::{ReadableTable, ReadableTableMetadata};
use serde::Deserialize;

use super::ChainError;
use super::disk::{Disk, Founding, Snapshot, StoreError};
use super::execute::Executed;
use super::export::Frame;
use super::file::{OpenError, guarded};
use super::genesis::{FORMAT, Record};
use super::seal::{SealBytes, SignedHead};
use super::state::Diff;
use super::verify::{Replay, VerifyError};

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
    // A letter of an address in the other case says the same, and is not what was written.
    let again = |value: serde_json::Result<Vec<u8>>, bytes: &[u8]| value.is_ok_and(|v| v == bytes);
    if !again(serde_json::to_vec(&record), &founding.genesis)
        || !again(serde_json::to_vec(&deployment), &founding.deployment)
    {
        let words = "the founding record: it is not written as it would be";
        return Err(damaged(words.to_owned()).into());
    }
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
    let founder = Founder {
        chain: zero,
        zero: record.header()?,
        address: record.deployer,
    };
    let seal = snapshot.seal(head).map_err(read)?;
    let signed = founder.check(head, snapshot.head.hash_slow(), seal);
    signed.map_err(|e| damaged(e.to_string()))?;
    for entry in snapshot.code.iter().map_err(|e| read(e.into()))? {
        let (hash, code) = entry.map_err(|e| read(e.into()))?;
        if keccak256(code.value()).0 != *hash.value() {
            let hash = B256::from(*hash.value());
            return Err(damaged(format!(
                "the code {hash} is not what its hash says"
            )));
        }
    }
    Ok(snapshot)
}

/// Who founded a chain, and so signs its blocks.
pub(super) struct Founder {
    /// Hash of block 0.
    pub(super) chain: B256,
    pub(super) zero: Header,
    pub(super) address: Address,
}

impl Founder {
    /// That of `record`, if `founding` is signed so.
    pub(super) fn new(record: &Record, founding: &Founding) -> Result<Self, VerifyError> {
        let zero = record.header()?;
        let founder = Self {
            chain: zero.hash_slow(),
            zero,
            address: record.deployer,
        };
        founder.check(0, founder.chain, founding.seal)?;
        Ok(founder)
    }

    /// The signed head of these parts, if the founder signed it.
    pub(super) fn check(
        &self,
        number: u64,
        hash: B256,
        signature: SealBytes,
    ) -> Result<SignedHead, VerifyError> {
        let signed = SignedHead {
            chain: self.chain.0,
            number,
            hash: hash.0,
            signature,
        };
        if signed.signer() == Some(self.address) {
            return Ok(signed);
        }
        Err(VerifyError::Seal(format!(
            "block {number} is not signed by {}, who founded the chain",
            self.address
        )))
    }

    /// Executes the block that comes next in `replay`.
    pub(super) fn execute(
        &self,
        replay: &Replay,
        frame: &Frame,
    ) -> Result<(Executed, SealBytes, Diff), VerifyError> {
        let number = replay.parent.number + 1;
        let (header, transactions) = frame
            .parse()
            .map_err(|why| VerifyError::Block { number, why })?;
        let (executed, diff) = replay.execute(number, &header, transactions)?;
        self.check(number, executed.hash, frame.seal)?;
        Ok((executed, frame.seal, diff))
    }
}
