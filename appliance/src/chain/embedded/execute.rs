//! Blocks and calls: transactions in, receipts and changes out. No file, no clock, no thread.

use alloy::consensus::proofs::{calculate_receipt_root, calculate_transaction_root};
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, Receipt, ReceiptEnvelope, Transaction, TxEnvelope};
use alloy::eips::Typed2718;
use alloy::primitives::{Address, B256, Bloom, Bytes, TxKind, U256, keccak256};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction, Output};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database_interface::DatabaseRef;
use revm::primitives::eip7825;
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};

use super::disk::StoreError;
use super::state::{Diff, Overlay};

/// Gas of one block: Ethereum's. It bounds the time that making it can take (well under a second).
const BLOCK_GAS_LIMIT: u64 = 60_000_000;
/// Most gas of one transaction or call: EIP-7825. A heartbeat takes 0.1 million, a report of 64 challengers
/// about 2.
pub(super) const TX_GAS_LIMIT: u64 = eip7825::TX_GAS_LIMIT_CAP;

/// The rules of Ethereum by which blocks are executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// Today's: what the engine runs.
    #[default]
    Osaka,
    /// The next: only a [`super::Fork`] runs them, to know what the contracts will take.
    Amsterdam,
}

impl Rules {
    fn spec(self) -> SpecId {
        match self {
            Self::Osaka => SpecId::OSAKA,
            Self::Amsterdam => SpecId::AMSTERDAM,
        }
    }

    /// Most gas of one transaction. From Amsterdam on, EIP-7825 bounds what is executed, and what new state
    /// takes comes on top of it (EIP-8037): then this is no bound that anything here meets.
    pub(super) fn transaction_gas(self) -> u64 {
        match self {
            Self::Osaka => TX_GAS_LIMIT,
            Self::Amsterdam => 1 << 30,
        }
    }

    /// Gas of one block.
    fn block_gas(self) -> u64 {
        match self {
            Self::Osaka => BLOCK_GAS_LIMIT,
            Self::Amsterdam => 1 << 33,
        }
    }
}

/// What executing a block came to.
#[derive(Debug)]
pub(super) struct Executed {
    pub(super) header: Header,
    pub(super) hash: B256,
    pub(super) included: Vec<Included>,
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub(super) struct Included {
    pub(super) transaction: Recovered<TxEnvelope>,
    pub(super) receipt: ReceiptEnvelope,
    pub(super) gas_used: u64,
}

/// What became of each transaction offered.
#[derive(Debug)]
pub(super) enum Fate {
    /// It is in the block, at this place.
    Included,
    /// It is not valid now: why.
    Refused(String),
    /// The block is full; it can go into the next.
    Deferred,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub(super) enum Called {
    /// It returned `output`.
    Returned { output: Bytes, gas: CallGas },
    /// It reverted with `output`.
    Reverted { output: Bytes },
    /// It ran out of gas or did something impossible.
    Halted { why: String },
}

/// What a call took.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallGas {
    /// After refunds: what a receipt would say.
    pub(super) used: u64,
    /// Before refunds: less would not have sufficed.
    pub(super) spent: u64,
}

/// A call to be tried on a state.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    pub(super) from: Address,
    pub(super) to: Option<Address>,
    pub(super) data: Bytes,
    pub(super) value: U256,
    pub(super) gas: u64,
}

/// Why a call could not be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Invalid(String),
}

/// Where a block comes to lie.
#[derive(Clone, Debug)]
pub(super) struct Place {
    chain_id: u64,
    number: u64,
    timestamp: u64,
    parent_hash: B256,
    parent_root: B256,
    prevrandao: B256,
    rules: Rules,
}

impl Place {
    /// Right after `parent`, at `timestamp` (unix seconds), or at the parent's if that is later.
    pub(super) fn after(parent: &Header, timestamp: u64, chain_id: u64) -> Self {
        let parent_hash = parent.hash_slow();
        Self {
            chain_id,
            number: parent.number + 1,
            timestamp: timestamp.max(parent.timestamp),
            parent_hash,
            parent_root: parent.state_root,
            // One sequencer makes all blocks, and could try one that suits it after another. The beacon mixes in
            // what it cannot choose.
            prevrandao: B256::ZERO,
            rules: Rules::default(),
        }
    }

    /// The same place under other rules.
    pub(super) fn under(self, rules: Rules) -> Self {
        Self { rules, ..self }
    }

    /// The block `header` again, for calls as of it.
    pub(super) fn of(header: &Header, chain_id: u64) -> Self {
        Self {
            chain_id,
            number: header.number,
            timestamp: header.timestamp,
            parent_hash: header.parent_hash,
            parent_root: header.state_root,
            prevrandao: header.mix_hash,
            rules: Rules::default(),
        }
    }

    fn env(&self) -> BlockEnv {
        BlockEnv {
            number: U256::from(self.number),
            beneficiary: Address::ZERO,
            timestamp: U256::from(self.timestamp),
            gas_limit: self.rules.block_gas(),
            basefee: 0,
            difficulty: U256::ZERO,
            prevrandao: Some(self.prevrandao),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
                excess_blob_gas: 0,
                blob_gasprice: 1,
            }),
            ..BlockEnv::default()
        }
    }

    fn cfg(&self) -> CfgEnv {
        let mut cfg = CfgEnv::new_with_spec(self.rules.spec());
        cfg.chain_id = self.chain_id;
        cfg
    }
}

/// Header of block 0, whose root stands for everything that the chain was founded on.
pub(super) fn genesis_header(root: B256, timestamp: u64) -> Header {
    Header {
        state_root: root,
        timestamp,
        gas_limit: BLOCK_GAS_LIMIT,
        base_fee_per_gas: Some(0),
        ..Header::default()
    }
}

/// Executes `transactions` in this order on `overlay`, which then holds what they changed, and gives the
/// block and the fate of each of them.
pub(super) fn block<B: DatabaseRef<Error = StoreError>>(
    overlay: &mut Overlay<B>,
    place: &Place,
    transactions: Vec<Recovered<TxEnvelope>>,
) -> Result<(Executed, Vec<Fate>), StoreError> {
    let mut included: Vec<Included> = Vec::new();
    let mut fates = Vec::with_capacity(transactions.len());
    let mut gas = 0_u64;
    let mut evm = Context::mainnet()
        .with_db(&mut *overlay)
        .with_block(place.env())
        .with_cfg(place.cfg())
        .build_mainnet();
    for transaction in transactions {
        let limit = transaction.gas_limit();
        if limit <= place.rules.transaction_gas() && limit > place.rules.block_gas() - gas {
            fates.push(Fate::Deferred);
            continue;
        }
        fates.push(match evm.transact_commit(environment(&transaction)) {
            Ok(result) => {
                let used = result.tx_gas_used();
                gas += used;
                let receipt = receipt(&transaction, result, gas);
                included.push(Included {
                    transaction,
                    receipt,
                    gas_used: used,
                });
                Fate::Included
            }
            Err(EVMError::Transaction(why)) => Fate::Refused(invalid(&why)),
            Err(EVMError::Database(why)) => return Err(why),
            Err(other) => Fate::Refused(other.to_string()),
        });
    }
    drop(evm);
    let header = header(place, overlay.diff(), &included, gas);
    let executed = Executed {
        hash: header.hash_slow(),
        header,
        included,
    };
    Ok((executed, fates))
}

/// Tries `call` on `overlay` as of `place`; what it changes is dropped.
pub(super) fn call<B: DatabaseRef<Error = StoreError>>(
    overlay: &mut Overlay<B>,
    place: &Place,
    call: &Call,
) -> Result<Called, CallError> {
    let mut cfg = place.cfg();
    cfg.disable_nonce_check = true;
    // Contracts and wallets that are contracts may be named as the sender of a trial.
    cfg.disable_eip3607 = true;
    let tx = TxEnv {
        caller: call.from,
        gas_limit: call.gas.min(place.rules.transaction_gas()),
        kind: call.to.map_or(TxKind::Create, TxKind::Call),
        value: call.value,
        data: call.data.clone(),
        chain_id: Some(place.chain_id),
        ..TxEnv::default()
    };
    let mut evm = Context::mainnet()
        .with_db(overlay)
        .with_block(place.env())
        .with_cfg(cfg)
        .build_mainnet();
    let result = match evm.transact_one(tx) {
        Ok(result) => result,
        Err(EVMError::Transaction(why)) => return Err(CallError::Invalid(invalid(&why))),
        Err(EVMError::Database(why)) => return Err(why.into()),
        Err(other) => return Err(CallError::Invalid(other.to_string())),
    };
    Ok(match result {
        ExecutionResult::Success { gas, output, .. } => Called::Returned {
            output: match output {
                Output::Call(data) | Output::Create(data, _) => data,
            },
            gas: CallGas {
                used: gas.tx_gas_used(),
                spent: gas.total_gas_spent(),
            },
        },
        ExecutionResult::Revert { output, .. } => Called::Reverted { output },
        ExecutionResult::Halt { reason, .. } => Called::Halted {
            why: format!("{reason:?}"),
        },
    })
}

/// What the EVM is told of a transaction. Gas has no price here, whatever the sender offers: nobody
/// needs native coin, and none exists.
fn environment(transaction: &Recovered<TxEnvelope>) -> TxEnv {
    TxEnv {
        tx_type: transaction.ty(),
        caller: transaction.signer(),
        gas_limit: transaction.gas_limit(),
        gas_price: 0,
        kind: transaction.kind(),
        value: transaction.value(),
        data: transaction.input().clone(),
        nonce: transaction.nonce(),
        chain_id: transaction.chain_id(),
        access_list: transaction.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: transaction.max_priority_fee_per_gas().map(|_| 0),
        ..TxEnv::default()
    }
}

fn receipt(
    transaction: &Recovered<TxEnvelope>,
    result: ExecutionResult,
    cumulative_gas_used: u64,
) -> ReceiptEnvelope {
    let status = result.is_success().into();
    let logs = result.into_logs();
    let receipt = Receipt {
        status,
        cumulative_gas_used,
        logs,
    };
    ReceiptEnvelope::from_typed(transaction.tx_type(), receipt)
}

fn header(place: &Place, diff: &Diff, included: &[Included], gas_used: u64) -> Header {
    let transactions: Vec<&TxEnvelope> = included.iter().map(|i| i.transaction.inner()).collect();
    let receipts: Vec<&ReceiptEnvelope> = included.iter().map(|i| &i.receipt).collect();
    let mut bloom = Bloom::ZERO;
    for receipt in &receipts {
        bloom.accrue_bloom(receipt.logs_bloom());
    }
    Header {
        parent_hash: place.parent_hash,
        state_root: keccak256([place.parent_root, diff.digest()].concat()),
        transactions_root: calculate_transaction_root(&transactions),
        receipts_root: calculate_receipt_root(&receipts),
        logs_bloom: bloom,
        number: place.number,
        gas_limit: place.rules.block_gas(),
        gas_used,
        timestamp: place.timestamp,
        mix_hash: place.prevrandao,
        base_fee_per_gas: Some(0),
        ..Header::default()
    }
}

/// Words for a transaction that cannot be executed, as Ethereum clients word them where they do.
fn invalid(why: &InvalidTransaction) -> String {
    match why {
        InvalidTransaction::NonceTooLow { tx, state } => {
            format!("nonce too low: next nonce {state}, tx nonce {tx}")
        }
        InvalidTransaction::NonceTooHigh { tx, state } => {
            format!("nonce too high: next nonce {state}, tx nonce {tx}")
        }
        InvalidTransaction::LackOfFundForMaxFee { .. } => {
            "insufficient funds for transfer: this chain has no native coin, send no value"
                .to_owned()
        }
        other => other.to_string(),
    }
}
