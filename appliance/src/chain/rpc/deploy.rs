//! The contracts, put on a chain that has none of them yet.

use std::sync::Arc;

use alloy::primitives::{Address, B256, TxKind, U64};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::deploy::plan_on;
use plumbline_contracts::{Parameters, plan};
use serde_json::json;

use super::endpoint::Endpoint;
use super::{ATTEMPT, Endpoints, EndpointsError, Options, probe};
use crate::chain::finality::Finality;
use crate::chain::{ChainClient, ClientError, DeploymentFile};

/// Why the contracts are not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The node cannot be asked.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
    /// A transaction failed. Those before it stay; the next attempt deploys anew beside them.
    #[error(
        "{step} ({number} of {of}): {error}; what was deployed before it is not used: run the command again"
    )]
    Step {
        /// What was to be done.
        step: &'static str,
        /// Which step.
        number: usize,
        /// Of how many.
        of: usize,
        /// Why not.
        error: Box<ClientError>,
    },
    /// The contracts cannot work there.
    #[error("{0}")]
    Unfit(String),
    /// All steps were taken, yet a contract is not where it was planned.
    #[error(
        "the contracts are not where they were planned: {0}; run one process with a key, and run the command again"
    )]
    Astray(Box<ClientError>),
}

/// What a deployment came to.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Where the contracts are, and what they are.
    pub file: DeploymentFile,
    /// Who made them.
    pub deployer: Address,
    /// Transactions, in order, with the gas each took.
    pub steps: Vec<(&'static str, B256, u64)>,
    /// Block of the last one.
    pub block: u64,
}

/// What whoever deploys has chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The chain variables.
    pub parameters: Parameters,
    /// The ERC-20 that stakes and escrows are in; without one, a lab token is made.
    pub token: Option<Address>,
    /// When the deployment counts as settled.
    pub finality: Finality,
}

/// Deploys the contracts on the chain behind the node at `url`, whichever that is, after seeing that they can
/// work there, and waits until the last transaction is settled. `told` hears of each step.
///
/// # Errors
/// See [`DeployError`].
pub async fn deploy(
    url: &str,
    signer: PrivateKeySigner,
    chosen: &Chosen,
    told: &dyn Fn(&str),
) -> Result<Deployed, DeployError> {
    let chain_id = chain_id(url).await?;
    let deployer = signer.address();
    let connect = |finality| {
        let urls = [url.to_owned()];
        async move { Endpoints::connect(&urls, chain_id, Options::new(finality)).await }
    };
    let node = Endpoint::new(url, chain_id)?;
    probe::chain(&node).await.map_err(DeployError::Unfit)?;
    let endpoints = connect(Finality::IMMEDIATE).await?;
    if let Some(token) = chosen.token {
        token_fits(&node, &endpoints, &signer, token, told).await?;
    }
    let first = next_nonce(url, chain_id, deployer).await?;
    let planned = plan_on(chosen.token, deployer, first, chain_id, &chosen.parameters);
    let client = ChainClient::unchecked(&endpoints, signer.clone(), planned.deployment);
    let last = connect(chosen.finality).await?;
    let last = ChainClient::unchecked(&last, signer, planned.deployment);
    let of = planned.steps.len();
    let (mut steps, mut first_block, mut block) = (Vec::with_capacity(of), None, 0);
    for (index, step) in planned.steps.into_iter().enumerate() {
        let number = index + 1;
        told(&format!("{} ({number} of {of})", step.what));
        // Each needs the one before in a block; the last is settled only if all are.
        let client = if number == of { &last } else { &client };
        let to = step.to.map_or(TxKind::Create, TxKind::Call);
        let sent = client.transact(step.what, to, step.input).await;
        let sent = sent.map_err(|error| DeployError::Step {
            step: step.what,
            number,
            of,
            error: Box::new(error),
        })?;
        block = sent.block;
        first_block.get_or_insert(block);
        steps.push((step.what, sent.hash, sent.gas_used));
    }
    let astray = |e| DeployError::Astray(Box::new(e));
    last.check().await.map_err(astray)?;
    let code = last.code_hashes().await.map_err(astray)?;
    Ok(Deployed {
        file: DeploymentFile {
            deployment: planned.deployment,
            block: first_block.unwrap_or(block),
            code,
            founding: None,
        },
        deployer,
        steps,
        block,
    })
}

/// Whether the vault can hold this token: what it takes in must be what it can pay out.
async fn token_fits(
    node: &Endpoint,
    endpoints: &Arc<Endpoints>,
    signer: &PrivateKeySigner,
    token: Address,
    told: &dyn Fn(&str),
) -> Result<(), DeployError> {
    let unfit = |why: String| DeployError::Unfit(format!("--token {token}: {why}"));
    let owner = signer.address();
    probe::token(node, token).await.map_err(unfit)?;
    let before = probe::balance(node, token, owner).await.map_err(unfit)?;
    if before.is_zero() {
        told("the token's transfers are not tried: the deployer holds none of it");
        return Ok(());
    }
    told("the token is sent to ourselves, to see that a transfer takes no fee");
    // Only where it acts from is of account here.
    let nowhere = plan(owner, 0, node.chain_id(), &Parameters::default()).deployment;
    let client = ChainClient::unchecked(endpoints, signer.clone(), nowhere);
    let transfer = LabToken::transferCall {
        to: owner,
        value: before,
    };
    let step = "send the token to ourselves";
    let sent = client
        .transact(step, TxKind::Call(token), transfer.abi_encode().into())
        .await;
    sent.map_err(|e| unfit(format!("it cannot be sent: {e}")))?;
    let after = probe::balance(node, token, owner).await.map_err(unfit)?;
    if after != before {
        return Err(unfit(format!(
            "{before} units sent to ourselves left {after}: a token whose transfers take a fee, or whose balances \
             change by themselves, cannot be held in escrow"
        )));
    }
    Ok(())
}

fn silent(url: &str, chain_id: u64, why: &str) -> EndpointsError {
    EndpointsError::None {
        chain_id,
        told: format!("{url}: {why}"),
    }
}

async fn chain_id(url: &str) -> Result<u64, EndpointsError> {
    let node = Arc::new(Endpoint::new(url, 0)?);
    let id: U64 = node
        .call_unchecked("eth_chainId", &json!([]), ATTEMPT)
        .await
        .map_err(|fault| silent(url, 0, &fault.into_words()))?;
    Ok(id.to())
}

async fn next_nonce(url: &str, chain_id: u64, account: Address) -> Result<u64, EndpointsError> {
    let node = Endpoint::new(url, chain_id)?;
    let count: U64 = node
        .ask(
            "eth_getTransactionCount",
            &json!([account, "latest"]),
            ATTEMPT,
        )
        .await
        .map_err(|fault| silent(url, chain_id, &fault.into_words()))?;
    Ok(count.to())
}
