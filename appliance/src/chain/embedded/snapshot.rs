//! Everything in the file as of one block, while later blocks are written.
//!
//! A snapshot is one read transaction of redb: pages it can see are not used again until it is dropped.

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, ReceiptEnvelope, TxEnvelope};
use alloy::eips::eip2718::Decodable2718;
use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::rlp::Decodable;
use redb::{ReadOnlyTable, ReadableTable};
use revm::database_interface::DatabaseRef;
use revm::state::{AccountInfo, Bytecode};

use super::disk::{StoreError, storage_key};
use super::execute::Included;
use super::seal::SealBytes;
use super::state::{Diff, Record};

pub(super) fn decode_header(mut bytes: &[u8]) -> Result<Header, StoreError> {
    Header::decode(&mut bytes).map_err(|e| StoreError::damaged(format!("header: {e}")))
}

/// Everything as of one block.
pub(super) struct Snapshot {
    /// The newest block.
    pub(super) head: Header,
    pub(super) headers: ReadOnlyTable<u64, &'static [u8]>,
    pub(super) numbers: ReadOnlyTable<&'static [u8; 32], u64>,
    pub(super) seals: ReadOnlyTable<u64, &'static SealBytes>,
    pub(super) txs: ReadOnlyTable<(u64, u64), &'static [u8]>,
    pub(super) tx_at: ReadOnlyTable<&'static [u8; 32], (u64, u64)>,
    pub(super) receipts: ReadOnlyTable<(u64, u64), &'static [u8]>,
    pub(super) accounts: ReadOnlyTable<&'static [u8; 20], &'static [u8; Record::LEN]>,
    pub(super) storage: ReadOnlyTable<&'static [u8; 52], &'static [u8; 32]>,
    pub(super) code: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

impl Snapshot {
    /// The header of block `number`.
    pub(super) fn header(&self, number: u64) -> Result<Option<Header>, StoreError> {
        let found = self.headers.get(number)?;
        found.map(|bytes| decode_header(bytes.value())).transpose()
    }

    /// The signature over block `number` of whoever made it.
    pub(super) fn seal(&self, number: u64) -> Result<SealBytes, StoreError> {
        let found = self.seals.get(number)?.map(|seal| *seal.value());
        found.ok_or_else(|| StoreError::damaged(format!("block {number} has no signature")))
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
