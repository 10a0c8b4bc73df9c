//! The contracts, put on a chain that has none of them yet.

use std::sync::Arc;

use alloy::primitives::{Address, B256, TxKind, U64};
use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::{Deployment, Parameters, plan};
use serde_json::json;

use super::endpoint::Endpoint;
use super::{ATTEMPT, Endpoints, EndpointsError, Options};
use crate::chain::finality::Finality;
use crate::chain::{ChainClient, ClientError};

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
    /// All steps were taken, yet a contract is not where it was planned.
    #[error(
        "the contracts are not where they were planned: {0}; run one process with a key, and run the command again"
    )]
    Astray(Box<ClientError>),
}

/// What a deployment came to.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// Where the contracts are.
    pub deployment: Deployment,
    /// Who made them.
    pub deployer: Address,
    /// Transactions, in order, with the gas each took.
    pub steps: Vec<(&'static str, B256, u64)>,
    /// Block of the last one.
    pub block: u64,
}

/// Deploys the contracts on the chain behind the node at `url`, whichever that is, and waits until the
/// last transaction is settled as `finality` says. `told` hears of each step.
///
/// # Errors
/// See [`DeployError`].
pub async fn deploy(
    url: &str,
    signer: PrivateKeySigner,
    parameters: &Parameters,
    finality: Finality,
    told: &dyn Fn(&str),
) -> Result<Deployed, DeployError> {
    let chain_id = chain_id(url).await?;
    let deployer = signer.address();
    let connect = |finality| {
        let urls = [url.to_owned()];
        async move { Endpoints::connect(&urls, chain_id, Options::new(finality)).await }
    };
    let endpoints = connect(Finality::IMMEDIATE).await?;
    let first = next_nonce(url, chain_id, deployer).await?;
    let planned = plan(deployer, first, chain_id, parameters);
    let client = ChainClient::unchecked(&endpoints, signer.clone(), planned.deployment);
    let last = ChainClient::unchecked(&connect(finality).await?, signer, planned.deployment);
    let of = planned.steps.len();
    let (mut steps, mut block) = (Vec::with_capacity(of), 0);
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
        steps.push((step.what, sent.hash, sent.gas_used));
    }
    let astray = |e| DeployError::Astray(Box::new(e));
    last.check().await.map_err(astray)?;
    Ok(Deployed {
        deployment: planned.deployment,
        deployer,
        steps,
        block,
    })
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
