//! A chain of one's own for a measurement: keys from constants, a clock that is held, signed transactions.
//!
//! Everything that could differ between two runs is fixed here, so that gas is the same to the unit: keys,
//! chain id, time. Contracts, parameters and registrations of the bench are named here and nowhere else.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, bail};
use plumbline::chain::client::{Registration, Seeds, role};
use plumbline::chain::{ChainClient, Embedded, Genesis, Options};
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::{Deployment, Parameters};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::clock::Clock;

const CHAIN_ID: u64 = 7_331;
/// Stake of everyone, the token's smallest unit.
pub(crate) const STAKE: u128 = 1_000;
/// Of it, what a challenger loses if it withholds its seed.
pub(crate) const SEED_BOND: u128 = 100;
/// What everyone has to spend: more than any measurement here costs.
pub(crate) const PURSE: u64 = 1 << 62;
/// What a prover may be asked to prove, bit/s.
pub(crate) const CLAIM: u64 = 960_000_000;
/// Seconds between a result and its payout.
pub(crate) const DISPUTE_WINDOW_S: u64 = 30;
/// Seconds between leaving and getting the stake back.
pub(crate) const UNBONDING_S: u64 = 960;
/// Seconds of each stage of a jury.
pub(crate) const JURY_S: u64 = 60;
/// Blocks are made when there is work, and never because time passes: a measured block holds only what it
/// was given.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Gas limit of a transaction that is only signed here: a heartbeat takes 0.1 million.
pub(crate) const GAS: u64 = 500_000;

/// The key called `name`, number `number`; the same in every run.
pub(crate) fn key(name: &str, number: usize) -> Result<PrivateKeySigner> {
    let secret = keccak256(format!("plumbline bench key {name} {number}"));
    PrivateKeySigner::from_bytes(&secret).context("a key")
}

fn parameters() -> Parameters {
    Parameters {
        min_stake: STAKE - SEED_BOND,
        seed_bond: SEED_BOND,
        unbonding_s: UNBONDING_S,
        // Nobody falls out of a draw because a measurement takes long: the clock is held anyway.
        live_interval_s: 3_600,
        coordinator_fee: 77,
        dispute_window_s: DISPUTE_WINDOW_S,
        jury_draw_s: JURY_S,
        jury_commit_s: JURY_S,
        jury_reveal_s: JURY_S,
        ..Parameters::default()
    }
}

/// What every chain here is founded on.
pub(crate) fn genesis() -> Result<Genesis> {
    Ok(Genesis {
        chain_id: CHAIN_ID,
        deployer: key("deployer", 0)?,
        parameters: parameters(),
    })
}

/// What number `number` of these says of itself.
pub(crate) fn registration(name: &str, number: usize, roles: u32) -> Registration {
    let word = |what: &str| keccak256(format!("plumbline bench {what} {name} {number}")).0;
    let mut cross_signature = [0; 64];
    cross_signature[..32].copy_from_slice(&word("cross r"));
    cross_signature[32..].copy_from_slice(&word("cross s"));
    Registration {
        roles,
        network_key: word("network key"),
        cross_signature,
        operator: word("operator"),
        // As long for everyone: gas counts bytes.
        endpoint: format!("node-{number:03}.example:7000"),
        max_bps: if roles & role::PROVER == 0 { 0 } else { CLAIM },
        stake: STAKE,
    }
}

/// A chain in a directory that is removed with it.
pub(crate) struct Lab {
    // Dropped first: the file is closed before its directory goes.
    pub(crate) chain: Arc<Embedded>,
    pub(crate) clock: Arc<Clock>,
    _directory: TempDir,
}

impl Lab {
    /// Founds a chain below `directory`.
    ///
    /// # Errors
    /// Nothing can be written there.
    pub(crate) fn found(directory: &Path) -> Result<Self> {
        let own = tempfile::Builder::new()
            .prefix("bench-chain-")
            .tempdir_in(directory)
            .with_context(|| format!("cannot make a directory in {}", directory.display()))?;
        let clock = Arc::new(Clock::new());
        let told = Arc::clone(&clock);
        let mut options = Options::new(NEVER);
        options.clock = Arc::new(move || told.tell());
        let chain = Embedded::open(own.path(), &genesis()?, options).context("a chain")?;
        Ok(Self {
            chain,
            clock,
            _directory: own,
        })
    }

    pub(crate) fn deployment(&self) -> Deployment {
        self.chain.deployment()
    }

    /// A client that has tokens and lets the vault take them.
    pub(crate) async fn funded(&self, name: &str, number: usize) -> Result<ChainClient> {
        let client = ChainClient::in_process(&self.chain, key(name, number)?);
        client.mint_lab(client.address(), U256::from(PURSE)).await?;
        client.approve(U256::MAX).await?;
        Ok(client)
    }

    /// Accounts with tokens that sign for themselves.
    pub(crate) async fn purses(&self, name: &str, count: usize) -> Result<Vec<Signer>> {
        let (mut signers, mut minting) = (Vec::with_capacity(count), JoinSet::new());
        for number in 0..count {
            let key = key(name, number)?;
            let mint = LabToken::mintCall {
                to: key.address(),
                amount: U256::from(PURSE),
            };
            let mut signer = Signer { key, nonce: 0 };
            let token = Some(self.deployment().token);
            let request = signer.request(token, mint.abi_encode().into(), GAS)?;
            let chain = Arc::clone(&self.chain);
            minting.spawn(async move { send(&chain, &request).await });
            signers.push(signer);
        }
        while let Some(minted) = minting.join_next().await {
            minted??;
        }
        Ok(signers)
    }

    /// Registered challengers that sign for themselves.
    pub(crate) async fn participants(&self, name: &str, count: usize) -> Result<Vec<Signer>> {
        let mut signers = Vec::with_capacity(count);
        for number in 0..count {
            let client = self.funded(name, number).await?;
            let registration = registration(name, number, role::CHALLENGER);
            client.register(&registration).await?;
            signers.push(Signer {
                key: client.signer().clone(),
                // Minted, allowed, registered.
                nonce: 3,
            });
        }
        Ok(signers)
    }
}

/// Sends a signed request; what comes back must be a result.
///
/// # Errors
/// The chain refused it: its answer.
pub(crate) async fn send(chain: &Arc<Embedded>, request: &[u8]) -> Result<()> {
    accepted(&chain.rpc_bytes(request).await)
}

/// # Errors
/// `answer` is a refusal.
pub(crate) fn accepted(answer: &[u8]) -> Result<()> {
    if answer.windows(9).any(|w| w == b"\"result\":") {
        return Ok(());
    }
    bail!("refused: {}", String::from_utf8_lossy(answer))
}

/// The seeds of a client's heartbeats.
pub(crate) fn seeds(account: Address) -> Seeds {
    Seeds::new(*B256::from(account.into_word()))
}

/// An account that signs by itself and knows its next nonce.
pub(crate) struct Signer {
    pub(crate) key: PrivateKeySigner,
    pub(crate) nonce: u64,
}

impl Signer {
    /// The `eth_sendRawTransaction` of a call of `to` (`None`: a new contract) with `gas`, as bytes.
    pub(crate) fn request(
        &mut self,
        to: Option<Address>,
        input: Bytes,
        gas: u64,
    ) -> Result<Vec<u8>> {
        let tx = TxEip1559 {
            chain_id: CHAIN_ID,
            nonce: self.nonce,
            gas_limit: gas,
            to: to.map_or(TxKind::Create, TxKind::Call),
            input,
            ..TxEip1559::default()
        };
        self.nonce += 1;
        let signature = self.key.sign_hash_sync(&tx.signature_hash())?;
        let raw = TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718();
        Ok(format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["{}"]}}"#,
            hex::encode_prefixed(raw)
        )
        .into_bytes())
    }
}
