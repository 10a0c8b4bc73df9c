//! What a chain is founded on, and its first block.

use std::path::Path;

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, SignableTransaction, TxEip1559, TxEnvelope};
use alloy::primitives::{Address, B256, TxKind, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::deploy::code_hash;
use plumbline_contracts::{Deployment, Parameters, Plan, plan};
use serde::{Deserialize, Serialize};

use super::ChainError;
use super::execute::{self, Executed, Fate, Place, Rules};
use super::state::{Diff, Memory, Overlay};

/// Version of what the file holds and of how it is executed.
pub(super) const FORMAT: u32 = 3;

/// What a new chain is made from; an existing one must have been made from the same.
#[derive(Clone)]
pub struct Genesis {
    /// The chain's id (EIP-155): different for every chain, or signatures of one are good on another.
    pub chain_id: u64,
    /// secp256k1 key that deploys the contracts and owns the vault.
    pub deployer: PrivateKeySigner,
    /// Chain variables.
    pub parameters: Parameters,
}

impl std::fmt::Debug for Genesis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Genesis")
            .field("chain_id", &self.chain_id)
            .field("deployer", &self.deployer.address())
            .field("parameters", &self.parameters)
            .finish()
    }
}

/// A genesis as it is stored: no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    pub(super) chain_id: u64,
    pub(super) deployer: Address,
    code_hash: B256,
    /// Unix seconds.
    timestamp: u64,
    parameters: Parameters,
}

impl Record {
    pub(super) fn new(genesis: &Genesis, timestamp: u64) -> Self {
        Self {
            format: FORMAT,
            chain_id: genesis.chain_id,
            deployer: genesis.deployer.address(),
            code_hash: code_hash(),
            timestamp,
            parameters: genesis.parameters.clone(),
        }
    }

    /// Whether the stored `self` is of the chain that `wanted` would found (at whatever time).
    pub(super) fn check(&self, wanted: &Self, path: &Path) -> Result<(), ChainError> {
        let differ = |what, stored: String, given: String| {
            Err(ChainError::GenesisDiffers {
                path: path.to_path_buf(),
                what,
                stored,
                given,
            })
        };
        if self.chain_id != wanted.chain_id {
            return differ(
                "chain id",
                self.chain_id.to_string(),
                wanted.chain_id.to_string(),
            );
        }
        if self.deployer != wanted.deployer {
            return differ(
                "deployer",
                self.deployer.to_string(),
                wanted.deployer.to_string(),
            );
        }
        if self.code_hash != wanted.code_hash {
            return differ(
                "version of the contracts",
                self.code_hash.to_string(),
                wanted.code_hash.to_string(),
            );
        }
        if self.parameters != wanted.parameters {
            return differ(
                "chain variables",
                format!("{:?}", self.parameters),
                format!("{:?}", wanted.parameters),
            );
        }
        Ok(())
    }

    /// Whether it is of these contracts: another version of them lies elsewhere, and is refused by
    /// [`Self::check`] with words of its own.
    pub(super) fn is_current(&self) -> bool {
        self.code_hash == code_hash()
    }

    /// Where the contracts come to lie.
    pub(super) fn deployment(&self) -> Deployment {
        plan(self.deployer, 0, self.chain_id, &self.parameters).deployment
    }

    /// Block 0. Its root is a hash over everything in the record.
    pub(super) fn header(&self) -> Result<Header, ChainError> {
        let bytes = serde_json::to_vec(self).map_err(|e| ChainError::Founding(e.to_string()))?;
        let root = keccak256([b"plumbline genesis".as_slice(), &bytes].concat());
        Ok(execute::genesis_header(root, self.timestamp))
    }
}

/// Block 0, the block with the deployment, and what that changed.
pub(super) struct Founded {
    pub(super) zero: Header,
    pub(super) first: Executed,
    pub(super) diff: Diff,
    pub(super) deployment: Deployment,
}

/// Makes the first blocks of a chain.
pub(super) fn found(
    genesis: &Genesis,
    record: &Record,
    rules: Rules,
) -> Result<Founded, ChainError> {
    let deployer = genesis.deployer.address();
    let Plan { steps, deployment } = plan(deployer, 0, genesis.chain_id, &genesis.parameters);
    let mut transactions = Vec::with_capacity(steps.len());
    for (nonce, step) in (0_u64..).zip(&steps) {
        let tx = TxEip1559 {
            chain_id: genesis.chain_id,
            nonce,
            gas_limit: rules.transaction_gas(),
            to: step.to.map_or(TxKind::Create, TxKind::Call),
            value: U256::ZERO,
            input: step.input.clone(),
            ..TxEip1559::default()
        };
        let signature = genesis
            .deployer
            .sign_hash_sync(&tx.signature_hash())
            .map_err(|e| ChainError::Founding(format!("{}: {e}", step.what)))?;
        let envelope = TxEnvelope::Eip1559(tx.into_signed(signature));
        transactions.push(Recovered::new_unchecked(envelope, deployer));
    }
    let zero = record.header()?;
    let place = Place::after(&zero, record.timestamp, genesis.chain_id).under(rules);
    let mut overlay = Overlay::new(Memory::default());
    let (first, fates) = execute::block(&mut overlay, &place, transactions)?;
    for (place, (step, fate)) in steps.iter().zip(&fates).enumerate() {
        let done = first.included.get(place);
        let done = done.is_some_and(|included| included.receipt.status());
        if !matches!(fate, Fate::Included) || !done {
            return Err(ChainError::Founding(format!("{}: {fate:?}", step.what)));
        }
    }
    Ok(Founded {
        zero,
        first,
        diff: overlay.into_diff(),
        deployment,
    })
}
