//! One redb file: state, blocks, transactions, receipts. One write transaction a block.
//!
//! ```text
//!   meta     genesis, deployment            tx        (block, place) → sender ‖ EIP-2718
//!   header   block → RLP                    tx_at     hash → (block, place)
//!   number   block hash → block             receipt   (block, place) → gas ‖ EIP-2718
//!   account  address → nonce, balance, code hash      storage  address ‖ slot → value     code  hash → bytes
//! ```
//!
//! Claim: after [`Disk::append`] returns, the block survives a crash of the process, of the system and of
//! the power supply (two-phase commit, synced); if it fails or is interrupted, nothing of it is there.

use std::path::{Path, PathBuf};

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, ReceiptEnvelope, TxEnvelope};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rlp::Decodable;
use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable,
    TableDefinition,
};
use revm::database_interface::{DBErrorMarker, DatabaseRef};
use revm::state::{AccountInfo, Bytecode};

use super::execute::{Executed, Included};
use super::state::{Diff, Record};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const HEADER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("header");
const NUMBER: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("number");
const TX: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("tx");
const TX_AT: TableDefinition<'_, &[u8; 32], (u64, u64)> = TableDefinition::new("tx_at");
const RECEIPT: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("receipt");
const ACCOUNT: TableDefinition<'_, &[u8; 20], &[u8; Record::LEN]> = TableDefinition::new("account");
const STORAGE: TableDefinition<'_, &[u8; 52], &[u8; 32]> = TableDefinition::new("storage");
const CODE: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("code");

/// Name of the file in the chain's directory.
pub(super) const FILE: &str = "chain.redb";
/// Memory that redb may use as its page cache: the whole state of a few hundred participants.
const CACHE_BYTES: usize = 64 << 20;

/// The store failed: the disk is full or broken, or the file is damaged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("chain store: {0}")]
pub struct StoreError(String);

impl DBErrorMarker for StoreError {}

impl StoreError {
    fn damaged(what: impl std::fmt::Display) -> Self {
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

/// Why a chain's file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{path}: in use by another process; a chain has one sequencer, stop the other first")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be opened or made.
    #[error("{path}: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system or the store said.
        why: String,
    },
}

/// The open file.
#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
}

/// What the chain was founded on; written with block 0.
#[derive(Clone, Debug)]
pub(super) struct Founding {
    pub(super) genesis: Vec<u8>,
    pub(super) deployment: Vec<u8>,
}

impl Disk {
    /// Opens the file in `dir`; with `create`, makes both if they are not there.
    pub(super) fn open(dir: &Path, create: bool) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let failed = |why: String| OpenError::Failed {
            path: path.clone(),
            why,
        };
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let opened = if create {
            std::fs::create_dir_all(dir).map_err(|e| failed(e.to_string()))?;
            builder.create(&path)
        } else {
            builder.open(&path)
        };
        match opened {
            Ok(database) => Ok(Self { database }),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(OpenError::InUse { path }),
            Err(e) => Err(failed(e.to_string())),
        }
    }

    /// What the chain was founded on; `None` in a new file.
    pub(super) fn founding(&self) -> Result<Option<Founding>, StoreError> {
        let read = self.database.begin_read()?;
        let meta = match read.open_table(META) {
            Ok(meta) => meta,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let (Some(genesis), Some(deployment)) = (meta.get("genesis")?, meta.get("deployment")?)
        else {
            return Err(StoreError::damaged("meta is not complete"));
        };
        Ok(Some(Founding {
            genesis: genesis.value().to_vec(),
            deployment: deployment.value().to_vec(),
        }))
    }

    /// Writes block 0 and the first block, in one transaction.
    pub(super) fn found(
        &self,
        founding: &Founding,
        zero: &Header,
        first: &Executed,
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
            }
            put_block(write, first)?;
            put_diff(write, diff)
        })
    }

    /// Writes a block and what it changed; when this returns, it is on disk.
    pub(super) fn append(&self, block: &Executed, diff: &Diff) -> Result<(), StoreError> {
        self.write(|write| {
            put_block(write, block)?;
            put_diff(write, diff)
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
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        write.set_two_phase_commit(true);
        change(&write)?;
        Ok(write.commit()?)
    }

    /// The chain as of its newest block; later blocks do not show in it.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let read = self.database.begin_read()?;
        let headers = read.open_table(HEADER)?;
        let head = match headers.last()? {
            Some((_, header)) => decode_header(header.value())?,
            None => return Err(StoreError::damaged("there is no block")),
        };
        Ok(Snapshot {
            head,
            headers,
            numbers: read.open_table(NUMBER)?,
            txs: read.open_table(TX)?,
            tx_at: read.open_table(TX_AT)?,
            receipts: read.open_table(RECEIPT)?,
            accounts: read.open_table(ACCOUNT)?,
            storage: read.open_table(STORAGE)?,
            code: read.open_table(CODE)?,
        })
    }
}

fn put_block(write: &redb::WriteTransaction, block: &Executed) -> Result<(), StoreError> {
    let number = block.header.number;
    write
        .open_table(HEADER)?
        .insert(number, alloy::rlp::encode(&block.header).as_slice())?;
    write.open_table(NUMBER)?.insert(&block.hash.0, number)?;
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

fn storage_key(address: Address, slot: U256) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

fn decode_header(mut bytes: &[u8]) -> Result<Header, StoreError> {
    Header::decode(&mut bytes).map_err(|e| StoreError::damaged(format!("header: {e}")))
}

/// Everything as of one block.
pub(super) struct Snapshot {
    /// The newest block.
    pub(super) head: Header,
    headers: ReadOnlyTable<u64, &'static [u8]>,
    numbers: ReadOnlyTable<&'static [u8; 32], u64>,
    txs: ReadOnlyTable<(u64, u64), &'static [u8]>,
    tx_at: ReadOnlyTable<&'static [u8; 32], (u64, u64)>,
    receipts: ReadOnlyTable<(u64, u64), &'static [u8]>,
    accounts: ReadOnlyTable<&'static [u8; 20], &'static [u8; Record::LEN]>,
    storage: ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>,
    code: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

impl Snapshot {
    /// The header of block `number`.
    pub(super) fn header(&self, number: u64) -> Result<Option<Header>, StoreError> {
        let found = self.headers.get(number)?;
        found.map(|bytes| decode_header(bytes.value())).transpose()
    }

    /// The number of the block with this hash.
    pub(super) fn number(&self, hash: B256) -> Result<Option<u64>, StoreError> {
        Ok(self.numbers.get(&hash.0)?.map(|n| n.value()))
    }

    /// Where a transaction is: block and place in it.
    pub(super) fn find(&self, hash: B256) -> Result<Option<(u64, u64)>, StoreError> {
        Ok(self.tx_at.get(&hash.0)?.map(|at| at.value()))
    }

    /// The transactions of block `number` with their receipts, in order.
    pub(super) fn included(&self, number: u64) -> Result<Vec<Included>, StoreError> {
        let range = (number, 0)..=(number, u64::MAX);
        let mut list = Vec::new();
        let receipts = self.receipts.range(range.clone())?;
        for (tx, receipt) in self.txs.range(range)?.zip(receipts) {
            let (_, tx) = tx?;
            let (_, receipt) = receipt?;
            list.push(decode_included(tx.value(), receipt.value())?);
        }
        Ok(list)
    }

    /// The first block in `from..=to` that has a transaction.
    pub(super) fn next_busy(&self, from: u64, to: u64) -> Result<Option<u64>, StoreError> {
        let first = self.txs.range((from, 0)..=(to, u64::MAX))?.next();
        Ok(first.transpose()?.map(|(key, _)| key.value().0))
    }

    /// The whole state.
    pub(super) fn state(&self) -> Result<Diff, StoreError> {
        let mut state = Diff::default();
        for entry in self.accounts.iter()? {
            let (address, record) = entry?;
            let record = Record::from_bytes(record.value());
            state
                .accounts
                .insert(Address::from(*address.value()), record);
        }
        for entry in self.storage.iter()? {
            let (key, value) = entry?;
            let (address, slot) = key.value().split_at(20);
            let key = (Address::from_slice(address), U256::from_be_slice(slot));
            state
                .storage
                .insert(key, U256::from_be_bytes(*value.value()));
        }
        for entry in self.code.iter()? {
            let (hash, code) = entry?;
            let code = Bytes::copy_from_slice(code.value());
            state.code.insert(B256::from(*hash.value()), code);
        }
        Ok(state)
    }

    /// What is kept of an account.
    pub(super) fn account(&self, address: Address) -> Result<Option<Record>, StoreError> {
        let found = self.accounts.get(&address.into_array())?;
        Ok(found.map(|bytes| Record::from_bytes(bytes.value())))
    }

    /// The code of an account; empty if it has none.
    pub(super) fn code(&self, address: Address) -> Result<Bytes, StoreError> {
        let Some(record) = self.account(address)? else {
            return Ok(Bytes::new());
        };
        self.code_bytes(record.code_hash)
    }

    fn code_bytes(&self, hash: B256) -> Result<Bytes, StoreError> {
        let found = self.code.get(&hash.0)?;
        Ok(found.map_or_else(Bytes::new, |bytes| Bytes::copy_from_slice(bytes.value())))
    }
}

fn decode_included(tx: &[u8], receipt: &[u8]) -> Result<Included, StoreError> {
    let (sender, mut bytes) = tx
        .split_at_checked(20)
        .ok_or_else(|| StoreError::damaged("transaction is too short"))?;
    let transaction = TxEnvelope::decode_2718(&mut bytes)
        .map_err(|e| StoreError::damaged(format!("transaction: {e}")))?;
    let (gas, mut bytes) = receipt
        .split_first_chunk::<8>()
        .ok_or_else(|| StoreError::damaged("receipt is too short"))?;
    let receipt = ReceiptEnvelope::decode_2718(&mut bytes)
        .map_err(|e| StoreError::damaged(format!("receipt: {e}")))?;
    Ok(Included {
        transaction: Recovered::new_unchecked(transaction, Address::from_slice(sender)),
        receipt,
        gas_used: u64::from_be_bytes(*gas),
    })
}

impl DatabaseRef for Snapshot {
    type Error = StoreError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(self.account(address)?.map(Record::info))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StoreError> {
        Ok(Bytecode::new_raw(self.code_bytes(code_hash)?))
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, StoreError> {
        let found = self.storage.get(&storage_key(address, index))?;
        Ok(found.map_or(U256::ZERO, |value| U256::from_be_bytes(*value.value())))
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StoreError> {
        Ok(self
            .header(number)?
            .map_or(B256::ZERO, |header| header.hash_slow()))
    }
}
