//! A party's own view of the chain, opened only if it is the one that was pinned.
//!
//! ```text
//!   pinned? ─no──► the coordinator's word          loopback, or whoever says so in as many words
//!      │yes        chain id, addresses, code, founding compared: else nothing is signed
//!      ├─ own endpoints           any EVM chain
//!      ├─ own copy                the coordinator's embedded chain, executed again here
//!      └─ the coordinator's /rpc  the fallback: the right chain and contracts, yet what it answers is believed
//! ```
//!
//! Claim: who opens a view has signed nothing, and signs nothing for a chain or a contract that is not pinned.
//! Tests: `appliance/tests/chain/view.rs`.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::Deployment;

use crate::chain::embedded::{FollowError, Followed, Upstream};
use crate::chain::rpc::Options;
use crate::chain::{ChainClient, ClientError, DeploymentFile, Endpoints, EndpointsError, Finality};
use crate::control::client::{Api, ApiError};

/// How somebody wants to see the chain.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What was pinned; `None` believes the coordinator.
    pub pin: Option<DeploymentFile>,
    /// Own nodes of the chain.
    pub rpc: Vec<String>,
    /// When a block of theirs counts as settled.
    pub finality: Finality,
    /// Where to keep a copy of the coordinator's chain, if that is one of its own.
    pub follow: Option<PathBuf>,
}

/// Through whom the chain is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Through {
    /// Own nodes.
    Endpoints(String),
    /// An own copy.
    Copy(String),
    /// The coordinator's `/rpc`, pinned.
    Coordinator(String),
    /// The coordinator's `/rpc`; nothing is pinned.
    Word(String),
}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints(names) => write!(f, "own endpoints {names}, pinned"),
            Self::Copy(name) => write!(f, "own copy {name}, pinned"),
            Self::Coordinator(url) => write!(
                f,
                "fallback: {url} of the coordinator; its chain and contracts are those pinned, what it answers is believed"
            ),
            Self::Word(url) => write!(
                f,
                "nothing is pinned: all is the word of the coordinator at {url}"
            ),
        }
    }
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The coordinator's API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The chain, or it is not the pinned one.
    #[error(transparent)]
    Chain(#[from] ClientError),
}

impl From<FollowError> for ViewError {
    fn from(error: FollowError) -> Self {
        Self::Chain(error.into())
    }
}

impl From<EndpointsError> for ViewError {
    fn from(error: EndpointsError) -> Self {
        Self::Chain(match error {
            EndpointsError::Address { url, why } => ClientError::Address { url, why },
            told @ EndpointsError::None { .. } => ClientError::Unreachable {
                endpoint: "own endpoints".to_owned(),
                why: told.to_string(),
            },
            told @ EndpointsError::Disagree { .. } => ClientError::Endpoints(told),
        })
    }
}

impl View {
    /// Opens it, beside the coordinator at `api`; signs nothing.
    ///
    /// # Errors
    /// Something is not as pinned, or somebody does not answer.
    pub async fn open(
        &self,
        api: &Api,
        signer: PrivateKeySigner,
    ) -> Result<(ChainClient, Through), ViewError> {
        let (told, url) = (api.deployment().await?, api.rpc_url());
        let Some(pin) = &self.pin else {
            let chain = ChainClient::connect_http(&url, signer, told).await?;
            return Ok((chain, Through::Word(url)));
        };
        // One that works with other contracts is of no use, whoever shows the chain.
        ClientError::unless(api.base(), pin.differs(&told))?;
        let deployment = pin.deployment;
        let (chain, through) = if !self.rpc.is_empty() {
            let options = Options::new(self.finality);
            let endpoints = Endpoints::connect(&self.rpc, deployment.chain_id, options).await?;
            let chain = ChainClient::connect(&endpoints, signer, deployment).await?;
            let names = endpoints.names();
            // Ends with the process: a node's and a payer's need it as long as they run.
            tokio::spawn(async move { endpoints.watch().await });
            (chain, Through::Endpoints(names))
        } else if let (Some(dir), Some(origin)) = (&self.follow, &pin.founding) {
            let followed = Followed::open(Upstream::http(&url)?, dir, origin).await?;
            let chain = ChainClient::followed(&followed, signer, deployment).await?;
            (chain, Through::Copy(followed.name()))
        } else {
            if let Some(origin) = &pin.founding {
                Upstream::http(&url)?.is_founded(origin).await?;
            }
            let chain = ChainClient::connect_http(&url, signer, deployment).await?;
            (chain, Through::Coordinator(url))
        };
        chain.is_pinned(pin).await?;
        Ok((chain, through))
    }
}

/// What somebody shows, as a file that pins it: a coordinator at `api`, or nodes at `rpc`, of the contracts in
/// `known` or, on an embedded chain, of those in its founding record.
///
/// # Errors
/// Nobody answers, or says where the contracts are, or shows other code than `known` pins.
pub async fn shown(
    api: Option<&Api>,
    rpc: &[String],
    known: Option<DeploymentFile>,
) -> Result<DeploymentFile, ViewError> {
    let (own, first) = (api.map(Api::rpc_url), rpc.first());
    let upstream = first.or(own.as_ref()).map(|url| Upstream::http(url));
    let origin = match upstream {
        None => None,
        Some(upstream) => match upstream?.origin().await {
            Ok(origin) => Some(origin),
            // A chain of another engine has none, and says that there is no such method.
            Err(FollowError::Strange { .. }) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let deployment: Deployment = match (&known, api, &origin) {
        (Some(known), ..) => known.deployment,
        (None, Some(api), _) => api.deployment().await?,
        (None, None, Some((_, deployment))) => *deployment,
        (None, None, None) => {
            return Err(ClientError::WrongChain {
                endpoint: rpc.join(", "),
                why: "a chain does not say where the contracts are; name the file of `plumbline chain deploy --out FILE` with --deployment"
                    .to_owned(),
            }
            .into());
        }
    };
    // Only read from.
    let reader = PrivateKeySigner::random();
    let chain = match own.filter(|_| rpc.is_empty()) {
        Some(url) => ChainClient::connect_http(&url, reader, deployment).await?,
        None => {
            let options = Options::new(Finality::IMMEDIATE);
            let endpoints: Arc<Endpoints> =
                Endpoints::connect(rpc, deployment.chain_id, options).await?;
            ChainClient::connect(&endpoints, reader, deployment).await?
        }
    };
    if let Some(known) = &known {
        chain.is_pinned(known).await?;
    }
    Ok(DeploymentFile {
        deployment,
        block: known.map_or(0, |known| known.block),
        code: chain.code_hashes().await?,
        founding: origin.map(|(origin, _)| origin),
    })
}
