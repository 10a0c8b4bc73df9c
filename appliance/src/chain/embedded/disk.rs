//! One redb file: state, blocks, transactions, receipts. One write transaction a block.
//!
//! ```text
//!   meta     genesis, deployment            tx        (block, place) → sender ‖ EIP-2718
//!   header   block → RLP                    tx_at     hash → (block, place)
//!   number   block hash → block             receipt   (block, place) → gas ‖ EIP-2718
//!   seal     block → signature
//!   account  address → nonce, balance, code hash      storage  address ‖ slot → value     code  hash → bytes
//! ```
//!
//! Claim: after [`Disk::append`] returns, the block survives a crash of the process, of the system and of
//! the power supply (two-phase commit, synced); if it fails or is interrupted, nothing of it is there.

use alloy::consensus::Header;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, U256};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use revm::database_interface::DBErrorMarker;

use super::execute::Executed;
use super::file::guarded;
use super::seal::SealBytes;
pub(super) use super::snapshot::Snapshot;
use super::snapshot::decode_header;
use super::state::{Diff, Record};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const HEADER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("header");
const NUMBER: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("number");
const SEAL: TableDefinition<'_, u64, &SealBytes> = TableDefinition::new("seal");
const TX: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("tx");
const TX_AT: TableDefinition<'_, &[u8; 32], (u64, u64)> = TableDefinition::new("tx_at");
const RECEIPT: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("receipt");
const ACCOUNT: TableDefinition<'_, &[u8; 20], &[u8; Record::LEN]> = TableDefinition::new("account");
const STORAGE: TableDefinition<'_, &[u8; 52], &[u8; 32]> = TableDefinition::new("storage");
const CODE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("code");

/// The store failed: the disk is full or broken, or the file is damaged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("chain store: {0}")]
pub struct StoreError(String);

impl DBErrorMarker for StoreError {}

impl StoreError {
    pub(super) fn damaged(what: impl std::fmt::Display) -> Self {
        Self(format!("damaged entry: {what}"))
    }
}

macro_rules! from_redb {
    ($($error:ty),+) => {
        $(impl From<$error> for StoreError {
            fn from(e: $error) -> Self {
                Self(e.to_string())
            }
        })+
    };
}
from_redb!(
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError,
    redb::SetDurabilityError
);

/// The open file.
#[derive(Debug)]
pub(super) struct Disk {
    /// `None` only while it is being closed.
    database: Option<Database>,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // redb writes when it closes, and may stop at a damaged page then: what was acknowledged was on
        // disk before, and the next opening names the damage.
        let database = self.database.take();
        if let Err(stopped) = guarded(|| drop(database)) {
            tracing::error!(%stopped, "the chain's file could not be closed in order");
        }
    }
}

/// What the chain was founded on; written with block 0.
#[derive(Clone, Debug)]
pub(super) struct Founding {
    pub(super) genesis: Vec<u8>,
    pub(super) deployment: Vec<u8>,
    /// The founder's signature over block 0.
    pub(super) seal: SealBytes,
}

/// A block with the signature of whoever made it.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) block: Executed,
    pub(super) seal: SealBytes,
}

impl Disk {
    /// The chain on this database, which [`super::file`] opens.
    pub(super) fn new(database: Database) -> Self {
        Self {
            database: Some(database),
        }
    }

    fn database(&self) -> Result<&Database, StoreError> {
        let closed = || StoreError("it is closed".to_owned());
        self.database.as_ref().ok_or_else(closed)
    }

    /// The store's own check of every page it uses against its checksum. What it mends it mends where
    /// it writes: give it a file opened by [`super::file::inspect`].
    pub(super) fn intact(&mut self) -> Result<(), String> {
        let Some(database) = self.database.as_mut() else {
            return Err("it is closed".to_owned());
        };
        let checked = guarded(|| database.check_integrity());
        match checked {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("pages that do not match their checksums".to_owned()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(stopped) => Err(stopped),
        }
    }

    /// What the chain was founded on; `None` in a new file.
    pub(super) fn founding(&self) -> Result<Option<Founding>, StoreError> {
        let read = self.database()?.begin_read()?;
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let (Some(genesis), Some(deployment)) = (meta.get("genesis")?, meta.get("deployment")?)
        else {
            return Err(StoreError::damaged("meta is not complete"));
        };
        let seal = read.open_table(SEAL)?.get(0)?.map(|seal| *seal.value());
        Ok(Some(Founding {
            genesis: genesis.value().to_vec(),
            deployment: deployment.value().to_vec(),
            seal: seal.ok_or_else(|| StoreError::damaged("block 0 has no signature"))?,
        }))
    }

    /// Writes block 0 and the first block, in one transaction.
    pub(super) fn found(
        &self,
        founding: &Founding,
        zero: &Header,
        first: &Sealed,
        diff: &Diff,
    ) -> Result<(), StoreError> {
        self.write(|write| {
            {
                let mut meta = write.open_table(META)?;
                meta.insert("genesis", founding.genesis.as_slice())?;
                meta.insert("deployment", founding.deployment.as_slice())?;
                let mut headers = write.open_table(HEADER)?;
                headers.insert(0, alloy::rlp::encode(zero).as_slice())?;
                let mut numbers = write.open_table(NUMBER)?;
                numbers.insert(&zero.hash_slow().0, 0)?;
                let mut seals = write.open_table(SEAL)?;
                seals.insert(0, &founding.seal)?;
            }
            put_block(write, first)?;
            put_diff(write, diff)
        })
    }

    /// Writes a block and what it changed; when this returns, it is on disk.
    pub(super) fn append(&self, block: &Sealed, diff: &Diff) -> Result<(), StoreError> {
        self.write(|write| {
            put_block(write, block)?;
            put_diff(write, diff)
        })
    }

    /// Writes several blocks in one transaction: all of them are on disk when this returns, or none.
    pub(super) fn append_all(&self, blocks: &[(Sealed, Diff)]) -> Result<(), StoreError> {
        self.write(|write| {
            for (block, diff) in blocks {
                put_block(write, block)?;
                put_diff(write, diff)?;
            }
            Ok(())
        })
    }

    /// Writes changes that no transaction made.
    #[cfg(test)]
    pub(super) fn tamper(&self, diff: &Diff) -> Result<(), StoreError> {
        self.write(|write| put_diff(write, diff))
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut write = self.database()?.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_two_phase_commit(true);
        // What is free is written along: a file that was killed opens at once, not after a walk through all of it.
        write.set_quick_repair(true);
        change(&write)?;
        Ok(write.commit()?)
    }

    /// The chain as of its newest block; later blocks do not show in it.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let read = self.database()?.begin_read()?;
        let headers = read.open_table(HEADER)?;
        let head = match headers.last()? {
            Some((_, header)) => decode_header(header.value())?,
            None => return Err(StoreError::damaged("there is no block")),
        };
        Ok(Snapshot {
            head,
            headers,
            numbers: read.open_table(NUMBER)?,
            seals: read.open_table(SEAL)?,
            txs: read.open_table(TX)?,
            tx_at: read.open_table(TX_AT)?,
            receipts: read.open_table(RECEIPT)?,
            accounts: read.open_table(ACCOUNT)?,
            storage: read.open_table(STORAGE)?,
            code: read.open_table(CODE)?,
        })
    }
}

fn put_block(write: &redb::WriteTransaction, sealed: &Sealed) -> Result<(), StoreError> {
    let Sealed { block, seal } = sealed;
    let number = block.header.number;
    write
        .open_table(HEADER)?
        .insert(number, alloy::rlp::encode(&block.header).as_slice())?;
    write.open_table(NUMBER)?.insert(&block.hash.0, number)?;
    write.open_table(SEAL)?.insert(number, seal)?;
    let mut txs = write.open_table(TX)?;
    let mut tx_at = write.open_table(TX_AT)?;
    let mut receipts = write.open_table(RECEIPT)?;
    for (place, included) in (0_u64..).zip(&block.included) {
        let transaction = included.transaction.inner();
        let mut bytes = included.transaction.signer().to_vec();
        transaction.encode_2718(&mut bytes);
        txs.insert((number, place), bytes.as_slice())?;
        tx_at.insert(&transaction.tx_hash().0, (number, place))?;
        let mut bytes = included.gas_used.to_be_bytes().to_vec();
        included.receipt.encode_2718(&mut bytes);
        receipts.insert((number, place), bytes.as_slice())?;
    }
    Ok(())
}

fn put_diff(write: &redb::WriteTransaction, diff: &Diff) -> Result<(), StoreError> {
    let mut accounts = write.open_table(ACCOUNT)?;
    for (address, record) in &diff.accounts {
        accounts.insert(&address.into_array(), &record.to_bytes())?;
    }
    let mut storage = write.open_table(STORAGE)?;
    for ((address, slot), value) in &diff.storage {
        let key = storage_key(*address, *slot);
        if value.is_zero() {
            storage.remove(&key)?;
        } else {
            storage.insert(&key, &value.to_be_bytes::<32>())?;
        }
    }
    let mut code = write.open_table(CODE)?;
    for (hash, bytes) in &diff.code {
        code.insert(&hash.0, bytes.as_ref())?;
    }
    Ok(())
}

pub(super) fn storage_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}
