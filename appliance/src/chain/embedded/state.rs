//! What an account is, what a block changed, and a view of the two together.
//!
//! ```text
//!   EVM ──► Overlay { diff } ──► Base: Snapshot (disk) or Memory (replay)
//!              │
//!              └─ digest(): sorted, so that equal changes have equal hashes
//! ```

use std::collections::BTreeMap;

use alloy::primitives::map::AddressMap;
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use revm::database_interface::{Database, DatabaseCommit, DatabaseRef};
use revm::state::{Account, AccountInfo, Bytecode};

use super::disk::StoreError;

/// What is kept of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) nonce: u64,
    pub(super) balance: U256,
    pub(super) code_hash: B256,
}

impl Record {
    /// Length of [`Self::to_bytes`].
    pub(super) const LEN: usize = 8 + 32 + 32;

    /// Nonce, balance, code hash; big endian.
    pub(super) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.balance.to_be_bytes::<32>());
        bytes[40..].copy_from_slice(self.code_hash.as_slice());
        bytes
    }

    /// The inverse of [`Self::to_bytes`].
    pub(super) fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut nonce = [0; 8];
        nonce.copy_from_slice(&bytes[..8]);
        Self {
            nonce: u64::from_be_bytes(nonce),
            balance: U256::from_be_slice(&bytes[8..40]),
            code_hash: B256::from_slice(&bytes[40..]),
        }
    }

    fn of(info: &AccountInfo) -> Self {
        Self {
            nonce: info.nonce,
            balance: info.balance,
            code_hash: info.code_hash,
        }
    }

    pub(super) fn info(self) -> AccountInfo {
        AccountInfo {
            balance: self.balance,
            nonce: self.nonce,
            code_hash: self.code_hash,
            code: None,
            ..AccountInfo::default()
        }
    }
}

/// What a block changed: the last value of everything that one of its transactions wrote.
///
/// Accounts are never removed: nothing can become empty again, since nonces only grow and
/// `SELFDESTRUCT` (since Cancun) undoes only what its own transaction created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Diff {
    pub(super) accounts: BTreeMap<Address, Record>,
    pub(super) storage: BTreeMap<(Address, U256), U256>,
    pub(super) code: BTreeMap<B256, Bytes>,
}

impl Diff {
    /// keccak256 over the sorted changes. Each entry is led by its kind and has that kind's length, so no
    /// two different diffs have the same bytes; code enters by its hash.
    pub(super) fn digest(&self) -> B256 {
        let mut bytes = Vec::new();
        for (address, record) in &self.accounts {
            bytes.push(1);
            bytes.extend_from_slice(address.as_slice());
            bytes.extend_from_slice(&record.to_bytes());
        }
        for ((address, slot), value) in &self.storage {
            bytes.push(2);
            bytes.extend_from_slice(address.as_slice());
            bytes.extend_from_slice(&slot.to_be_bytes::<32>());
            bytes.extend_from_slice(&value.to_be_bytes::<32>());
        }
        for hash in self.code.keys() {
            bytes.push(3);
            bytes.extend_from_slice(hash.as_slice());
        }
        keccak256(bytes)
    }
}

/// A base and what was changed on top of it; the base stays as it is.
#[derive(Debug)]
pub(super) struct Overlay<B> {
    base: B,
    diff: Diff,
}

impl<B> Overlay<B> {
    pub(super) fn new(base: B) -> Self {
        Self {
            base,
            diff: Diff::default(),
        }
    }

    pub(super) fn diff(&self) -> &Diff {
        &self.diff
    }

    pub(super) fn into_diff(self) -> Diff {
        self.diff
    }
}

impl<B: DatabaseRef<Error = StoreError>> Database for Overlay<B> {
    type Error = StoreError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        match self.diff.accounts.get(&address) {
            Some(record) => Ok(Some(record.info())),
            None => self.base.basic_ref(address),
        }
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, StoreError> {
        match self.diff.code.get(&code_hash) {
            Some(code) => Ok(Bytecode::new_raw(code.clone())),
            None => self.base.code_by_hash_ref(code_hash),
        }
    }

    fn storage(&mut self, address: Address, index: U256) -> Result<U256, StoreError> {
        match self.diff.storage.get(&(address, index)) {
            Some(value) => Ok(*value),
            None => self.base.storage_ref(address, index),
        }
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StoreError> {
        self.base.block_hash_ref(number)
    }
}

impl<B> DatabaseCommit for Overlay<B> {
    fn commit(&mut self, changes: AddressMap<Account>) {
        for (address, account) in changes {
            if !account.is_touched() || account.is_selfdestructed() || account.is_empty() {
                continue;
            }
            let record = Record::of(&account.info);
            if account.is_created() || record != Record::of(&account.original_info()) {
                self.diff.accounts.insert(address, record);
            }
            if let Some(code) = account.info.code.as_ref().filter(|_| account.is_created())
                && !code.is_empty()
            {
                let code = code.original_bytes();
                self.diff.code.insert(record.code_hash, code);
            }
            for (slot, value) in account.changed_storage_slots() {
                self.diff
                    .storage
                    .insert((address, *slot), value.present_value);
            }
        }
    }
}

/// A whole state in memory, for replaying a chain from its genesis.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    state: Diff,
    hashes: BTreeMap<u64, B256>,
}

impl Memory {
    /// That of a chain that is on record already; no slot of `state` is zero.
    pub(super) fn of(state: Diff) -> Self {
        Self {
            state,
            hashes: BTreeMap::new(),
        }
    }

    /// All of it; no slot is zero.
    pub(super) fn state(&self) -> &Diff {
        &self.state
    }

    /// Takes over what block `number` of hash `hash` changed.
    pub(super) fn apply(&mut self, number: u64, hash: B256, diff: Diff) {
        self.state.accounts.extend(diff.accounts);
        for (key, value) in diff.storage {
            if value.is_zero() {
                self.state.storage.remove(&key);
            } else {
                self.state.storage.insert(key, value);
            }
        }
        self.state.code.extend(diff.code);
        self.hashes.insert(number, hash);
    }
}

impl DatabaseRef for Memory {
    type Error = StoreError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, StoreError> {
        Ok(self.state.accounts.get(&address).map(|r| r.info()))
    }

    fn code_by_hash_ref(&self, code_hash: B256) -> Result<Bytecode, StoreError> {
        let code = self.state.code.get(&code_hash);
        Ok(code.map_or_else(Bytecode::default, |c| Bytecode::new_raw(c.clone())))
    }

    fn storage_ref(&self, address: Address, index: U256) -> Result<U256, StoreError> {
        let value = self.state.storage.get(&(address, index));
        Ok(value.copied().unwrap_or_default())
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, StoreError> {
        Ok(self.hashes.get(&number).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_their_bytes() {
        let record = Record {
            nonce: 7,
            balance: U256::MAX,
            code_hash: B256::repeat_byte(3),
        };
        assert_eq!(Record::from_bytes(&record.to_bytes()), record);
    }

    #[test]
    fn every_change_changes_the_digest() {
        let mut diff = Diff::default();
        let mut seen = vec![diff.digest()];
        diff.storage
            .insert((Address::ZERO, U256::from(1)), U256::from(2));
        seen.push(diff.digest());
        diff.storage
            .insert((Address::ZERO, U256::from(1)), U256::ZERO);
        seen.push(diff.digest());
        diff.code
            .insert(B256::repeat_byte(1), Bytes::from_static(b"x"));
        seen.push(diff.digest());
        let mut distinct = seen.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), seen.len());
    }
}
