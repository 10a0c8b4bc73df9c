//! The chain of one machine: the contracts, executed in this process, kept in one file.
//!
//! ```text
//!                      ┌─ genesis     what it is founded on, the deployment
//!   Embedded ──────────┼─ sequencer   one thread: queue ─► block ─► disk ─► answers
//!     │   └─ rpc()     ├─ execute     transactions in, receipts and changes out (pure)
//!     │      reads     ├─ state       accounts, overlay, diff
//!     │                └─ disk        redb: one write transaction a block  ── snapshot
//!     ├─ verify()  audit  seal        is it what it says, and who signed it
//!     ├─ export, copy, follow         the same chain elsewhere, executed again
//!     ├─ followed                     and read there: a node's own view
//!     └─ file                         the file under it
//!   Fork                              a chain in memory, by the same rules
//! ```
//!
//! Claim: what was acknowledged is on disk; kill -9 at any instant and the chain comes back at its last
//! acknowledged block (or one that was about to be). Money is conserved at every block, or the chain
//! stops. It speaks Ethereum's JSON-RPC, so that wallets and explorers work with it.
//!
//! What it does not promise: consensus. Whoever runs it orders the transactions and could leave some
//! out; it cannot forge any. The state of past blocks is not kept; it can be had by replaying
//! ([`verify`]). `stateRoot` in a header is not a Merkle-Patricia root (that would cost a tree update for
//! each write and be read by nobody here) but a chain of hashes over what each block changed:
//! `root(h) = keccak256(root(h−1) ‖ keccak256(sorted changes of block h))`. Equal roots mean equal
//! histories of state; single entries cannot be proven with it. All else in a header is as in Ethereum.
//!
//! Tests: beside each module, `rpc` over the in-process transport, and `appliance/tests/chain/`.

mod admission;
mod answers;
mod audit;
mod copy;
mod disk;
#[cfg(test)]
mod eest;
mod execute;
mod export;
mod file;
mod follow;
mod followed;
mod fork;
mod genesis;
mod message;
mod reads;
mod rpc;
mod seal;
mod sequencer;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plumbline_contracts::Deployment;

pub use copy::{CopyError, backup, restore};
pub use disk::StoreError;
pub use execute::Rules;
pub use export::{Watch, export, import, is_export, verify_export};
pub use file::OpenError;
pub use follow::{FollowError, Until, Upstream, follow};
pub use followed::Followed;
pub use fork::{Effect, Fork, Move};
pub use genesis::Genesis;
pub use rpc::{MAX_BATCH, MAX_LOG_BLOCKS, MAX_LOGS, MAX_REQUEST_BYTES};
pub use seal::{Convicted, Equivocation, NoEquivocation, SignedHead};
pub use verify::{Replayed, VerifyError, verify, verify_on};

use disk::{Disk, Founding, Sealed};
use execute::Place;
use file::Unfounded;
use sequencer::{Sequencer, conserved};
use state::Overlay;

/// Tells unix seconds; a test passes its own.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// How a chain is run; unlike its [`Genesis`], this may change between runs.
#[derive(Clone)]
pub struct Options {
    /// A block is made at least this often, so that time and block numbers move; each costs the disk one
    /// sync and about 850 bytes.
    pub block_interval: Duration,
    /// Time of blocks.
    pub clock: Clock,
}

impl Options {
    /// The system's clock, and this interval.
    #[must_use]
    pub fn new(block_interval: Duration) -> Self {
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |d| d.as_secs())
        };
        Self {
            block_interval,
            clock: Arc::new(clock),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("block_interval", &self.block_interval)
            .finish_non_exhaustive()
    }
}

/// Why the chain cannot be opened, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file holds another chain than the configuration describes.
    #[error(
        "{path}: this chain was founded with another {what}: it has {stored}, the configuration says {given}; \
         correct the configuration, or found a new chain in an empty directory"
    )]
    GenesisDiffers {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The value in the file.
        stored: String,
        /// The value asked for.
        given: String,
    },
    /// The first block could not be made.
    #[error("cannot found the chain: {0}")]
    Founding(String),
    /// The vault's sums do not add up. Nothing of that block was written.
    #[error(
        "the vault does not conserve money at block {block}: nothing more is accepted; \
         keep the chain's directory as it is and report this"
    )]
    NotConserved {
        /// The block that would have broken it, or that does.
        block: u64,
    },
}

/// The chain.
#[derive(Debug)]
pub struct Embedded {
    // Dropped first, which ends the thread; then the file is closed.
    /// `None` of a chain that is followed.
    sequencer: Option<Sequencer>,
    disk: Arc<Disk>,
    deployment: Deployment,
    options: Options,
}

impl Embedded {
    /// Opens the chain in `dir`, or founds it there: makes the directory, deploys the contracts in
    /// block 1. The file appears there when it is founded, and not before.
    ///
    /// # Errors
    /// If the file cannot be opened or made, is in use, is damaged where that is cheap to see, holds
    /// another chain, or does not conserve money.
    pub fn open(dir: &Path, genesis: &Genesis, options: Options) -> Result<Arc<Self>, ChainError> {
        let path = dir.join(file::FILE);
        if path.symlink_metadata().is_ok() {
            let disk = Disk::new(file::open(dir)?);
            return Self::resume(disk, &path, genesis, options);
        }
        let (unfounded, database) = Unfounded::make(dir)?;
        let disk = Disk::new(database);
        found(&disk, genesis, &options)?;
        unfounded.publish()?;
        Self::resume(disk, &path, genesis, options)
    }

    /// As [`Self::open`], on any store that redb can write to; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_on(
        store: impl redb::StorageBackend,
        name: &Path,
        genesis: &Genesis,
        options: Options,
    ) -> Result<Arc<Self>, ChainError> {
        let disk = Disk::new(file::database(store, name)?);
        let founded = file::guarded(|| disk.founding());
        if founded
            .map_err(|why| OpenError::damaged(name, why))??
            .is_none()
        {
            found(&disk, genesis, &options)?;
        }
        Self::resume(disk, name, genesis, options)
    }

    fn resume(
        disk: Disk,
        path: &Path,
        genesis: &Genesis,
        options: Options,
    ) -> Result<Arc<Self>, ChainError> {
        let wanted = genesis::Record::new(genesis, (options.clock)());
        let (record, deployment) = audit::founding(&disk, path)?;
        record.check(&wanted, path)?;
        // redb may stop at a damaged page that only the vault's sums lead to.
        let checked = file::guarded(|| -> Result<(), ChainError> {
            let head = audit::head(&disk, &record, path)?;
            let block = head.head.number;
            let place = Place::of(&head.head, deployment.chain_id);
            if conserved(&mut Overlay::new(&head), &place, &deployment)? {
                return Ok(());
            }
            Err(ChainError::NotConserved { block })
        });
        checked.map_err(|stopped| OpenError::damaged(path, stopped))??;
        let disk = Arc::new(disk);
        let maker = sequencer::Sealer {
            signer: genesis.deployer.clone(),
            chain: record.header()?.hash_slow(),
        };
        let sequencer = Sequencer::start(Arc::clone(&disk), deployment, options.clone(), maker)?;
        Ok(Arc::new(Self {
            sequencer: Some(sequencer),
            disk,
            deployment,
            options,
        }))
    }

    /// Where the contracts are.
    #[must_use]
    pub fn deployment(&self) -> Deployment {
        self.deployment
    }

    /// Why the chain takes no more transactions; `None` while it does. For health checks and metrics.
    #[must_use]
    pub fn halted(&self) -> Option<&str> {
        self.sequencer.as_ref()?.halted()
    }

    /// Transactions that wait for the block after the one that is being made. For metrics.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.sequencer.as_ref().map_or(0, Sequencer::queued)
    }
}

/// Writes the first blocks, in one transaction.
fn found(disk: &Disk, genesis: &Genesis, options: &Options) -> Result<(), ChainError> {
    let record = genesis::Record::new(genesis, (options.clock)());
    let founded = genesis::found(genesis, &record, Rules::default())?;
    let sealer = sequencer::Sealer {
        signer: genesis.deployer.clone(),
        chain: founded.zero.hash_slow(),
    };
    let founding = Founding {
        genesis: json(&record)?,
        deployment: json(&founded.deployment)?,
        seal: sealer.seal(0, founded.zero.hash_slow())?,
    };
    let first = Sealed {
        seal: sealer.seal(1, founded.first.hash)?,
        block: founded.first,
    };
    Ok(disk.found(&founding, &founded.zero, &first, &founded.diff)?)
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, ChainError> {
    serde_json::to_vec(value).map_err(|e| ChainError::Founding(e.to_string()))
}
