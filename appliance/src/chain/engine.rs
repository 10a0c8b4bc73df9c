//! The chain that a coordinator runs, or looks at: what its health check and its `/rpc` need of it.

use std::sync::Arc;

use super::{Caller, Embedded, Endpoints, EndpointsError};

/// What a coordinator settles on.
#[derive(Clone, Debug)]
pub enum Engine {
    /// The chain of this process.
    Embedded(Arc<Embedded>),
    /// Another chain, through its nodes.
    Rpc(Arc<Endpoints>),
}

impl Engine {
    /// Why nothing goes on; `None` while it does. For health checks.
    #[must_use]
    pub fn halted(&self) -> Option<String> {
        match self {
            Self::Embedded(chain) => chain.halted().map(str::to_owned),
            Self::Rpc(endpoints) => endpoints.trouble().map(|e| e.to_string()),
        }
    }

    /// Answers the JSON-RPC of somebody on the network, given as bytes. Empty when there is nothing to answer.
    ///
    /// # Errors
    /// The chain cannot be asked now.
    pub async fn serve(
        &self,
        request: &[u8],
        caller: &Arc<Caller>,
    ) -> Result<Vec<u8>, EndpointsError> {
        match self {
            Self::Embedded(chain) => Ok(chain.serve(request, caller).await),
            Self::Rpc(endpoints) => endpoints.serve(request, caller).await,
        }
    }
}
