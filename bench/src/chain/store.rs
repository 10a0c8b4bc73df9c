//! The same bytes through redb alone: entries as long as the engine's, committed as durably, block by block,
//! in a file on the same disk.

use std::path::Path;
use std::time::{Duration, Instant};

use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, U256};
use anyhow::Result;
use redb::{Database, Durability, TableDefinition};
use tempfile::TempDir;

use super::blocks::Made;
use super::evm::Written;

const HEADER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("header");
const NUMBER: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("number");
const TX: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("tx");
const TX_AT: TableDefinition<'_, &[u8; 32], (u64, u64)> = TableDefinition::new("tx_at");
const RECEIPT: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("receipt");
const ACCOUNT: TableDefinition<'_, &[u8; 20], &[u8; 72]> = TableDefinition::new("account");
const STORAGE: TableDefinition<'_, &[u8; 52], &[u8; 32]> = TableDefinition::new("storage");
/// As the engine's: the page cache decides what a commit has to read.
const CACHE_BYTES: usize = 64 << 20;

/// What a block writes, as the engine keeps it; made ahead, so that only redb is timed.
struct Entries {
    number: u64,
    hash: [u8; 32],
    header: Vec<u8>,
    /// Hash, sender and transaction, gas and receipt.
    transactions: Vec<([u8; 32], Vec<u8>, Vec<u8>)>,
    accounts: Vec<[u8; 20]>,
    storage: Vec<[u8; 52]>,
}

impl Entries {
    fn of(block: &Made, written: &Written) -> Self {
        let kept = block.transactions.iter().zip(&written.receipts);
        let transactions = kept.map(|(transaction, receipt)| {
            let mut bytes = transaction.signer().to_vec();
            transaction.inner().encode_2718(&mut bytes);
            let receipt = [&[0; 8], receipt.as_slice()].concat();
            (transaction.inner().tx_hash().0, bytes, receipt)
        });
        Self {
            number: block.header.number,
            hash: block.header.hash_slow().0,
            header: alloy::rlp::encode(&block.header),
            transactions: transactions.collect(),
            accounts: written.accounts.iter().map(|a| a.into_array()).collect(),
            storage: written.storage.iter().map(storage_key).collect(),
        }
    }
}

fn storage_key((address, slot): &(Address, U256)) -> [u8; 52] {
    let mut key = [0; 52];
    key[..20].copy_from_slice(address.as_slice());
    key[20..].copy_from_slice(&slot.to_be_bytes::<32>());
    key
}

/// A file of redb.
pub(crate) struct Store {
    durability: Durability,
    // Dropped first: the file is closed before its directory goes.
    database: Database,
    _directory: TempDir,
}

impl Store {
    /// Makes a file below `directory` that commits as the engine does.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn durable(directory: &Path) -> Result<Self> {
        Self::make(directory, Durability::Immediate)
    }

    /// The same without a single sync: what writing costs by itself.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn unsynced(directory: &Path) -> Result<Self> {
        Self::make(directory, Durability::None)
    }

    fn make(directory: &Path, durability: Durability) -> Result<Self> {
        let own = tempfile::Builder::new()
            .prefix("bench-store-")
            .tempdir_in(directory)?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder.create(own.path().join("store.redb"))?;
        Ok(Self {
            durability,
            database,
            _directory: own,
        })
    }

    /// Commits each block and says how long that took.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn time(&self, blocks: &[Made], written: &[Written]) -> Result<Duration> {
        let entries: Vec<Entries> = blocks
            .iter()
            .zip(written)
            .map(|(block, written)| Entries::of(block, written))
            .collect();
        let began = Instant::now();
        for block in &entries {
            self.commit(block)?;
        }
        Ok(began.elapsed())
    }

    fn commit(&self, block: &Entries) -> Result<()> {
        let mut write = self.database.begin_write()?;
        write.set_durability(self.durability)?;
        write.set_two_phase_commit(matches!(self.durability, Durability::Immediate));
        {
            let number = block.number;
            write
                .open_table(HEADER)?
                .insert(number, block.header.as_slice())?;
            write.open_table(NUMBER)?.insert(&block.hash, number)?;
            let mut txs = write.open_table(TX)?;
            let mut tx_at = write.open_table(TX_AT)?;
            let mut receipts = write.open_table(RECEIPT)?;
            for (place, (hash, transaction, receipt)) in (0_u64..).zip(&block.transactions) {
                txs.insert((number, place), transaction.as_slice())?;
                tx_at.insert(hash, (number, place))?;
                receipts.insert((number, place), receipt.as_slice())?;
            }
            let mut accounts = write.open_table(ACCOUNT)?;
            for account in &block.accounts {
                accounts.insert(account, &[1; 72])?;
            }
            let mut storage = write.open_table(STORAGE)?;
            for slot in &block.storage {
                storage.insert(slot, &[1; 32])?;
            }
        }
        Ok(write.commit()?)
    }
}
