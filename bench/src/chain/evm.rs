//! The same transactions through revm alone: recovered already, state in memory, no blocks made, no disk.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use alloy::consensus::proofs::calculate_receipt_root;
use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope};
use alloy::eips::Typed2718;
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, U256};
use anyhow::{Result, anyhow, bail};
use revm::context::{BlockEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database::InMemoryDB;
use revm::primitives::hardfork::SpecId;
use revm::{Context, ExecuteCommitEvm, ExecuteEvm, MainBuilder, MainContext};

use super::blocks::Made;

/// Which entries of the state a block wrote.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) accounts: BTreeSet<Address>,
    pub(crate) storage: BTreeSet<(Address, U256)>,
    /// Receipts as they are kept: EIP-2718.
    pub(crate) receipts: Vec<Vec<u8>>,
}

/// revm and a state.
#[derive(Default)]
pub(crate) struct Evm(InMemoryDB);

impl Evm {
    /// Heartbeats mix the hash of the block before into what they emit.
    fn follows(&mut self, block: &Made) {
        if let Some(before) = block.header.number.checked_sub(1) {
            let hashes = &mut self.0.cache.block_hashes;
            hashes.insert(U256::from(before), block.header.parent_hash);
        }
    }

    /// Executes `blocks` and says how long their transactions took.
    ///
    /// # Errors
    /// One took other gas than in the chain: that would have been other work.
    pub(crate) fn time(&mut self, blocks: &[Made], chain_id: u64) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for block in blocks {
            self.follows(block);
            let environments: Vec<TxEnv> = block.transactions.iter().map(environment).collect();
            let mut evm = Context::mainnet()
                .with_db(&mut self.0)
                .with_block(place(block))
                .modify_cfg_chained(|cfg| configure(cfg, chain_id))
                .build_mainnet();
            let mut gas = 0;
            let began = Instant::now();
            for transaction in environments {
                let result = evm.transact_commit(transaction);
                gas += result
                    .map_err(|e| anyhow!("revm alone: {e:?}"))?
                    .tx_gas_used();
            }
            took += began.elapsed();
            same(block, gas)?;
        }
        Ok(took)
    }

    /// Executes `blocks` and says what each wrote; every receipt is compared with the chain's, by the root.
    ///
    /// # Errors
    /// A transaction failed, or a receipt is not the engine's: that would have been other work.
    pub(crate) fn written(&mut self, blocks: &[Made], chain_id: u64) -> Result<Vec<Written>> {
        let mut all = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.follows(block);
            let mut evm = Context::mainnet()
                .with_db(&mut self.0)
                .with_block(place(block))
                .modify_cfg_chained(|cfg| configure(cfg, chain_id))
                .build_mainnet();
            let (mut written, mut gas) = (Written::default(), 0);
            let mut receipts = Vec::with_capacity(block.transactions.len());
            for transaction in &block.transactions {
                let done = evm
                    .transact(environment(transaction))
                    .map_err(|e| anyhow!("revm alone: {e:?}"))?;
                gas += done.result.tx_gas_used();
                if !done.result.is_success() {
                    bail!("a transaction in block {} failed", block.header.number);
                }
                let receipt = Receipt {
                    status: true.into(),
                    cumulative_gas_used: gas,
                    logs: done.result.into_logs(),
                };
                let tx_type = transaction.tx_type();
                receipts.push(ReceiptEnvelope::from_typed(tx_type, receipt));
                for (address, account) in &done.state {
                    if account.is_touched() && !account.is_empty() {
                        let before = account.original_info();
                        if account.is_created() || before != account.info {
                            written.accounts.insert(*address);
                        }
                        let slots = account.changed_storage_slots();
                        written
                            .storage
                            .extend(slots.map(|(slot, _)| (*address, *slot)));
                    }
                }
                evm.commit(done.state);
            }
            if calculate_receipt_root(&receipts) != block.header.receipts_root {
                bail!(
                    "block {}: revm alone gives other receipts than the engine",
                    block.header.number
                );
            }
            written.receipts = receipts.iter().map(Encodable2718::encoded_2718).collect();
            all.push(written);
        }
        Ok(all)
    }
}

fn same(block: &Made, gas: u64) -> Result<()> {
    let header = &block.header;
    if gas != header.gas_used {
        bail!(
            "block {}: revm alone took gas {gas}, the engine {}",
            header.number,
            header.gas_used
        );
    }
    Ok(())
}

/// As the engine configures it.
fn configure(cfg: &mut revm::context::CfgEnv, chain_id: u64) {
    cfg.set_spec_and_mainnet_gas_params(SpecId::OSAKA);
    cfg.chain_id = chain_id;
}

fn place(block: &Made) -> BlockEnv {
    let header = &block.header;
    BlockEnv {
        number: U256::from(header.number),
        beneficiary: Address::ZERO,
        timestamp: U256::from(header.timestamp),
        gas_limit: header.gas_limit,
        basefee: 0,
        difficulty: U256::ZERO,
        prevrandao: Some(header.mix_hash),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
            excess_blob_gas: 0,
            blob_gasprice: 1,
        }),
        ..BlockEnv::default()
    }
}

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
        gas_priority_fee: transaction.max_priority_fee_per_gas().map(|_| 0),
        ..TxEnv::default()
    }
}
