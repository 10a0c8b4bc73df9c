//! Does a chain's file say what its transactions say? Re-executes every block from the genesis.

use std::path::Path;

use alloy::consensus::transaction::{Recovered, SignerRecoverable};
use alloy::consensus::{Header, TxEnvelope};
use alloy::primitives::B256;
use plumbline_contracts::Deployment;
use redb::ReadableTableMetadata;
use serde::Serialize;

use super::disk::{Disk, Snapshot, StoreError};
use super::execute::{self, Executed, Fate, Place};
use super::file::{OpenError, guarded};
use super::genesis::Record;
use super::sequencer::conserved;
use super::state::{Diff, Memory, Overlay};
use super::{ChainError, audit};

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
    /// A block or one of its transactions is not found by its hash.
    #[error("block {block}: it or one of its transactions is not found by its hash")]
    Index {
        /// Block.
        block: u64,
    },
    /// A block that is no block.
    #[error("block {number}: {why}")]
    Block {
        /// Block.
        number: u64,
        /// What it is not.
        why: String,
    },
    /// A block is not signed by who founded the chain.
    #[error("{0}")]
    Seal(String),
    /// There is more on record than the blocks say, or less.
    #[error("the record has entries that belong to no block, or lacks some")]
    Surplus,
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

impl From<OpenError> for VerifyError {
    fn from(e: OpenError) -> Self {
        Self::Chain(e.into())
    }
}

impl From<StoreError> for VerifyError {
    fn from(e: StoreError) -> Self {
        Self::Chain(e.into())
    }
}

/// Re-executes the chain in `dir` (or the file itself) in memory, checks every signature, and compares
/// every header, receipt and index, the state and the store's own checksums with what is on record.
/// Nothing is written. The chain must not be running.
///
/// # Errors
/// If the file cannot be read, or the first thing that does not match.
pub fn verify(path: &Path) -> Result<Replayed, VerifyError> {
    let path = if path.is_dir() {
        path.join(super::file::FILE)
    } else {
        path.to_path_buf()
    };
    let database = super::file::inspect(&path).map_err(ChainError::from)?;
    whole(Disk::new(database), &path)
}

/// As [`verify`], of a chain on any store; `name` is what errors call it.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(store: impl redb::StorageBackend, name: &Path) -> Result<Replayed, VerifyError> {
    let shadow = super::file::Shadow::new(store);
    let database = super::file::database(shadow, name).map_err(ChainError::from)?;
    whole(Disk::new(database), name)
}

/// The store's checksums first, since what they cover they cover whole; then what the blocks say, which
/// tells where the damage is.
fn whole(mut disk: Disk, path: &Path) -> Result<Replayed, VerifyError> {
    let intact = disk.intact();
    let replayed = guarded(|| replay(&disk, path));
    let damaged = |what: String| VerifyError::Chain(OpenError::damaged(path, what).into());
    match (intact, replayed) {
        (Ok(()), Ok(replayed)) => replayed,
        (Ok(()), Err(stopped)) => Err(damaged(stopped)),
        (Err(what), Ok(Ok(_))) => Err(damaged(format!(
            "{what}; the blocks and the state that can still be read are right"
        ))),
        (Err(what), Ok(Err(place))) => Err(damaged(format!("{what}; {place}"))),
        (Err(what), Err(stopped)) => Err(damaged(format!("{what}; {stopped}"))),
    }
}

fn replay(disk: &Disk, path: &Path) -> Result<Replayed, VerifyError> {
    let (record, deployment) = audit::founding(disk, path)?;
    let recorded = audit::head(disk, &record, path)?;
    let founding = disk.founding()?;
    let founding = founding.ok_or_else(|| StoreError::damaged("no founding record"))?;
    let founder = audit::Founder::new(&record, &founding)?;
    let mut replay = Replay::new(&record, deployment)?;
    let zero = recorded.header(0)?.ok_or(VerifyError::Missing(0))?;
    let chain = replay.parent.hash_slow();
    differs(0, "the genesis hash", &zero.hash_slow(), &chain)?;
    for number in 1..=recorded.head.number {
        let header = recorded
            .header(number)?
            .ok_or(VerifyError::Missing(number))?;
        let included = recorded.included(number)?;
        let list = included.iter().map(|i| i.transaction.clone()).collect();
        let (executed, diff) = replay.execute(number, &header, list)?;
        for (place, (computed, one)) in executed.included.iter().zip(&included).enumerate() {
            if computed.receipt != one.receipt || computed.gas_used != one.gas_used {
                return Err(VerifyError::Receipt {
                    block: number,
                    place,
                });
            }
        }
        indexed(&recorded, &executed)?;
        founder.check(number, executed.hash, recorded.seal(number)?)?;
        replay.accept(&executed, diff);
    }
    let counts = [
        (recorded.numbers.len(), recorded.head.number + 1),
        (recorded.seals.len(), recorded.head.number + 1),
        (recorded.txs.len(), replay.transactions),
        (recorded.receipts.len(), replay.transactions),
        (recorded.tx_at.len(), replay.transactions),
    ];
    for (found, wanted) in counts {
        if found.map_err(StoreError::from)? != wanted {
            return Err(VerifyError::Surplus);
        }
    }
    if *replay.memory.state() != recorded.state()? {
        return Err(VerifyError::State);
    }
    Ok(replay.result())
}

/// Whether block and transactions are found by their hashes.
fn indexed(recorded: &Snapshot, executed: &Executed) -> Result<(), VerifyError> {
    let block = executed.header.number;
    let mut found = recorded.number(executed.hash)? == Some(block);
    for (place, one) in (0_u64..).zip(&executed.included) {
        let at = recorded.find(*one.transaction.inner().tx_hash())?;
        found &= at == Some((block, place));
    }
    if found {
        return Ok(());
    }
    Err(VerifyError::Index { block })
}

/// A chain executed again, block by block, in memory.
pub(super) struct Replay {
    pub(super) memory: Memory,
    pub(super) parent: Header,
    deployment: Deployment,
    transactions: u64,
}

impl Replay {
    /// At block 0.
    pub(super) fn new(record: &Record, deployment: Deployment) -> Result<Self, VerifyError> {
        let parent = record.header()?;
        let mut memory = Memory::default();
        memory.apply(0, parent.hash_slow(), Diff::default());
        Ok(Self {
            memory,
            parent,
            deployment,
            transactions: 0,
        })
    }

    /// At the head of what is on record already, which was verified when it was written.
    pub(super) fn resume(recorded: &Snapshot, deployment: Deployment) -> Result<Self, VerifyError> {
        let mut memory = Memory::of(recorded.state()?);
        let head = recorded.head.number;
        // As many as the EVM lets a contract ask for.
        for number in head.saturating_sub(256)..=head {
            let header = recorded.header(number)?;
            let header = header.ok_or(VerifyError::Missing(number))?;
            memory.apply(number, header.hash_slow(), Diff::default());
        }
        Ok(Self {
            memory,
            parent: recorded.head.clone(),
            deployment,
            transactions: recorded.txs.len().map_err(StoreError::from)?,
        })
    }

    /// Executes block `number`, said to be `header` with these transactions, and compares.
    pub(super) fn execute(
        &self,
        number: u64,
        header: &Header,
        transactions: Vec<Recovered<TxEnvelope>>,
    ) -> Result<(Executed, Diff), VerifyError> {
        for (place, one) in transactions.iter().enumerate() {
            let sender = one.signer();
            let signer = one.inner().recover_signer();
            if !matches!(&signer, Ok(signer) if *signer == sender) {
                return Err(VerifyError::Sender {
                    block: number,
                    place,
                    signer: signer.map_or_else(|e| e.to_string(), |s| s.to_string()),
                    sender: sender.to_string(),
                });
            }
        }
        let place = Place::after(&self.parent, header.timestamp, self.deployment.chain_id);
        let mut overlay = Overlay::new(&self.memory);
        let (executed, fates) = execute::block(&mut overlay, &place, transactions)?;
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
        if !conserved(&mut overlay, &place, &self.deployment)? {
            return Err(ChainError::NotConserved { block: number }.into());
        }
        Ok((executed, overlay.into_diff()))
    }

    /// Goes on from a block that [`Self::execute`] gave.
    pub(super) fn accept(&mut self, executed: &Executed, diff: Diff) {
        let header = &executed.header;
        self.memory.apply(header.number, executed.hash, diff);
        self.transactions += executed.included.len() as u64;
        self.parent = header.clone();
    }

    pub(super) fn result(&self) -> Replayed {
        Replayed {
            height: self.parent.number,
            transactions: self.transactions,
            root: self.parent.state_root,
            hash: self.parent.hash_slow(),
            deployment: self.deployment,
        }
    }
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
