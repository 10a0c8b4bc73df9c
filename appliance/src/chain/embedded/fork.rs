//! A chain in memory: the contracts and the rules of the real one, no file, no thread, no signatures.
//!
//! For trying what would happen: whole histories in a test, what-if in a tool. A clone is a snapshot, so
//! going back to one is what a reorganisation looks like from inside.

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy::primitives::{Address, Bytes, Log, Signature, TxKind, U256};
use plumbline_contracts::{Deployment, Refusal, explain};
use revm::database_interface::DatabaseRef;

use super::ChainError;
use super::execute::{self, Call, CallError, Called, Fate, Place, Rules, TX_GAS_LIMIT};
use super::genesis::{self, Genesis};
use super::sequencer::conserved;
use super::state::{Memory, Overlay};

/// Somebody calls a contract.
#[derive(Clone, Debug)]
pub struct Move {
    /// Who.
    pub from: Address,
    /// Which contract; `None` makes a new one.
    pub to: Option<Address>,
    /// Call data, or creation code.
    pub input: Bytes,
}

/// What came of a [`Move`].
#[derive(Clone, Debug)]
pub struct Effect {
    /// Whether it changed anything.
    pub done: bool,
    /// Gas it took.
    pub gas: u64,
    /// What it announced; empty unless done.
    pub logs: Vec<Log>,
}

/// A chain in memory.
#[derive(Clone, Debug)]
pub struct Fork {
    memory: Memory,
    head: Header,
    deployment: Deployment,
    rules: Rules,
}

impl Fork {
    /// Gas that a move of [`Self::block`] may take by today's rules: what the chain lets a transaction take.
    pub const MOVE_GAS: u64 = TX_GAS_LIMIT;

    /// Founds one, at `timestamp` (unix seconds).
    ///
    /// # Errors
    /// The deployment fails.
    pub fn found(genesis: &Genesis, timestamp: u64) -> Result<Self, ChainError> {
        Self::found_under(genesis, timestamp, Rules::default())
    }

    /// As [`Self::found`], by the rules `rules`.
    ///
    /// # Errors
    /// As [`Self::found`].
    pub fn found_under(
        genesis: &Genesis,
        timestamp: u64,
        rules: Rules,
    ) -> Result<Self, ChainError> {
        let record = genesis::Record::new(genesis, timestamp);
        let founded = genesis::found(genesis, &record, rules)?;
        let mut memory = Memory::default();
        memory.apply(0, founded.zero.hash_slow(), super::state::Diff::default());
        memory.apply(1, founded.first.hash, founded.diff);
        Ok(Self {
            memory,
            head: founded.first.header,
            deployment: founded.deployment,
            rules,
        })
    }

    /// Where the contracts are.
    #[must_use]
    pub fn deployment(&self) -> Deployment {
        self.deployment
    }

    /// Number of the newest block.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.head.number
    }

    /// Time of the newest block, unix seconds.
    #[must_use]
    pub fn time(&self) -> u64 {
        self.head.timestamp
    }

    /// Makes a block of `moves`, in this order, at `timestamp` (or at the newest block's, if that is
    /// later).
    ///
    /// # Errors
    /// [`ChainError::NotConserved`] if the vault's sums would not add up; nothing has changed then.
    /// [`ChainError::Founding`] if a move does not fit into a block.
    pub fn block(&mut self, timestamp: u64, moves: &[Move]) -> Result<Vec<Effect>, ChainError> {
        let place = self.next(timestamp);
        let mut nonces = std::collections::BTreeMap::new();
        let mut list = Vec::with_capacity(moves.len());
        for one in moves {
            let known = self.memory.basic_ref(one.from)?.map_or(0, |i| i.nonce);
            let nonce = nonces.entry(one.from).or_insert(known);
            list.push(self.envelope(one, *nonce));
            *nonce += 1;
        }
        let mut overlay = Overlay::new(&self.memory);
        let (executed, fates) = execute::block(&mut overlay, &place, list)?;
        if let Some(fate) = fates.iter().find(|f| !matches!(f, Fate::Included)) {
            return Err(ChainError::Founding(format!(
                "a move does not fit: {fate:?}"
            )));
        }
        if !conserved(&mut overlay, &place, &self.deployment)? {
            let block = executed.header.number;
            return Err(ChainError::NotConserved { block });
        }
        let diff = overlay.into_diff();
        self.memory
            .apply(executed.header.number, executed.hash, diff);
        self.head = executed.header;
        let effects = executed.included.iter().map(|included| Effect {
            done: included.receipt.status(),
            gas: included.gas_used,
            logs: included.receipt.logs().to_vec(),
        });
        Ok(effects.collect())
    }

    /// What a call as of the next block, at `timestamp`, would return; nothing changes.
    ///
    /// # Errors
    /// Why the contract refuses, in words; [`None`] if it says nothing that is known.
    pub fn call(&self, timestamp: u64, one: &Move) -> Result<Bytes, Option<Refusal>> {
        let place = self.next(timestamp);
        let call = Call {
            from: one.from,
            to: one.to,
            data: one.input.clone(),
            value: U256::ZERO,
            gas: self.rules.transaction_gas(),
        };
        match execute::call(&mut Overlay::new(&self.memory), &place, &call) {
            Ok(Called::Returned { output, .. }) => Ok(output),
            Ok(Called::Reverted { output }) => Err(explain(&output)),
            Ok(Called::Halted { .. }) | Err(CallError::Store(_) | CallError::Invalid(_)) => {
                Err(None)
            }
        }
    }

    fn next(&self, timestamp: u64) -> Place {
        Place::after(&self.head, timestamp, self.deployment.chain_id).under(self.rules)
    }

    /// A transaction that nobody signed: only this chain takes it.
    fn envelope(&self, one: &Move, nonce: u64) -> Recovered<TxEnvelope> {
        let tx = TxEip1559 {
            chain_id: self.deployment.chain_id,
            nonce,
            gas_limit: self.rules.transaction_gas(),
            to: one.to.map_or(TxKind::Create, TxKind::Call),
            input: one.input.clone(),
            ..TxEip1559::default()
        };
        let unsigned = Signature::new(U256::from(1), U256::from(1), false);
        Recovered::new_unchecked(TxEnvelope::Eip1559(tx.into_signed(unsigned)), one.from)
    }
}
