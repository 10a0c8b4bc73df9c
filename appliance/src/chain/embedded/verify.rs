//! Does a chain's file say what its transactions say? Re-executes every block from the genesis.

use std::path::Path;

use alloy::consensus::transaction::SignerRecoverable;
use alloy::primitives::B256;
use plumbline_contracts::Deployment;
use serde::Serialize;

use super::ChainError;
use super::disk::{Disk, StoreError};
use super::execute::{self, Fate, Place};
use super::sequencer::conserved;
use super::state::{Memory, Overlay};

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// The newest block.
    pub height: u64,
    /// Transactions executed.
    pub transactions: u64,
    /// Root of the newest block, recomputed.
    pub root: B256,
    /// Hash of the newest block, recomputed.
    pub hash: B256,
    /// Where the contracts are.
    pub deployment: Deployment,
}

/// Why a replay does not confirm the file.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The file holds no chain.
    #[error("{0}: holds no chain")]
    Empty(std::path::PathBuf),
    /// A block is missing.
    #[error("block {0} is missing")]
    Missing(u64),
    /// A transaction's signature does not give the sender on record.
    #[error("block {block}, transaction {place}: signed by {signer}, on record for {sender}")]
    Sender {
        /// Block.
        block: u64,
        /// Place in it.
        place: usize,
        /// Who signed, or why that cannot be told.
        signer: String,
        /// Who is on record.
        sender: String,
    },
    /// A transaction on record cannot be executed.
    #[error("block {block}, transaction {place}: {why}")]
    Transaction {
        /// Block.
        block: u64,
        /// Place in it.
        place: usize,
        /// What forbids it.
        why: String,
    },
    /// A receipt is not what execution gives.
    #[error("block {block}, transaction {place}: its receipt is not what execution gives")]
    Receipt {
        /// Block.
        block: u64,
        /// Place in it.
        place: usize,
    },
    /// The state on record is not what the blocks lead to.
    #[error("the state on record is not what the blocks lead to")]
    State,
    /// Execution gives another block than the one on record.
    #[error("block {block}: {what} is {recorded} on record, but execution gives {computed}")]
    Differs {
        /// Block.
        block: u64,
        /// What differs.
        what: &'static str,
        /// On record.
        recorded: String,
        /// Computed.
        computed: String,
    },
}

impl From<StoreError> for VerifyError {
    fn from(e: StoreError) -> Self {
        Self::Chain(e.into())
    }
}

/// Re-executes the chain in `dir` in memory, checks every signature, and compares every header and
/// receipt with what is on record. The chain must not be running.
///
/// # Errors
/// If the file cannot be read, or the first thing that does not match.
pub fn verify(dir: &Path) -> Result<Replayed, VerifyError> {
    let disk = Disk::open(dir, false).map_err(ChainError::from)?;
    let founding = disk
        .founding()?
        .ok_or_else(|| VerifyError::Empty(dir.join(super::disk::FILE)))?;
    let (record, deployment) = super::parse(&founding)?;
    if deployment != record.deployment() {
        return Err(VerifyError::State);
    }
    let recorded = disk.snapshot()?;
    let mut parent = record.header()?;
    let zero = recorded.header(0)?.ok_or(VerifyError::Missing(0))?;
    differs(
        0,
        "the genesis hash",
        &zero.hash_slow(),
        &parent.hash_slow(),
    )?;
    let mut memory = Memory::default();
    memory.apply(0, parent.hash_slow(), super::state::Diff::default());
    let mut transactions = 0;
    for number in 1..=recorded.head.number {
        let header = recorded
            .header(number)?
            .ok_or(VerifyError::Missing(number))?;
        let included = recorded.included(number)?;
        for (place, one) in included.iter().enumerate() {
            let sender = one.transaction.signer();
            let signer = one.transaction.inner().recover_signer();
            if !matches!(&signer, Ok(signer) if *signer == sender) {
                return Err(VerifyError::Sender {
                    block: number,
                    place,
                    signer: signer.map_or_else(|e| e.to_string(), |s| s.to_string()),
                    sender: sender.to_string(),
                });
            }
        }
        let place = Place::after(&parent, header.timestamp, deployment.chain_id);
        let mut overlay = Overlay::new(&memory);
        let list = included.iter().map(|i| i.transaction.clone()).collect();
        let (executed, fates) = execute::block(&mut overlay, &place, list)?;
        for (place, fate) in fates.into_iter().enumerate() {
            let why = match fate {
                Fate::Included => continue,
                Fate::Refused(why) => why,
                Fate::Deferred => "the block is full before it".to_owned(),
            };
            return Err(VerifyError::Transaction {
                block: number,
                place,
                why,
            });
        }
        let root = executed.header.state_root;
        differs(number, "the root", &header.state_root, &root)?;
        differs(number, "the hash", &header.hash_slow(), &executed.hash)?;
        for (place, (computed, one)) in executed.included.iter().zip(&included).enumerate() {
            if computed.receipt != one.receipt || computed.gas_used != one.gas_used {
                return Err(VerifyError::Receipt {
                    block: number,
                    place,
                });
            }
        }
        if !conserved(&mut overlay, &place, &deployment)? {
            return Err(ChainError::NotConserved { block: number }.into());
        }
        transactions += included.len() as u64;
        let diff = overlay.into_diff();
        memory.apply(number, executed.hash, diff);
        parent = executed.header;
    }
    if *memory.state() != recorded.state()? {
        return Err(VerifyError::State);
    }
    Ok(Replayed {
        height: parent.number,
        transactions,
        root: parent.state_root,
        hash: parent.hash_slow(),
        deployment,
    })
}

fn differs(
    block: u64,
    what: &'static str,
    recorded: &B256,
    computed: &B256,
) -> Result<(), VerifyError> {
    if recorded == computed {
        return Ok(());
    }
    Err(VerifyError::Differs {
        block,
        what,
        recorded: recorded.to_string(),
        computed: computed.to_string(),
    })
}
