//! The embedded engine as an alloy transport: the client's code is the same as over HTTP, without the
//! HTTP.

use std::sync::Arc;
use std::task::{Context, Poll};

use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportErrorKind, TransportFut};
use tower::Service;

use super::embedded::{Embedded, Followed};

/// Hands requests to a chain of this process.
#[derive(Clone, Debug)]
pub enum InProcess {
    /// Made here.
    Here(Arc<Embedded>),
    /// Made by somebody else, executed again here.
    Followed(Arc<Followed>),
}

impl Service<RequestPacket> for InProcess {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        // The engine's own queue says when it is full.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RequestPacket) -> Self::Future {
        let chain = self.clone();
        Box::pin(async move {
            let request = serde_json::to_value(&request).map_err(TransportError::ser_err)?;
            let answer = match chain {
                Self::Here(chain) => chain.rpc(request).await,
                Self::Followed(chain) => {
                    let answer = chain.rpc(request).await;
                    answer.map_err(TransportErrorKind::custom)?
                }
            };
            serde_json::from_value(answer)
                .map_err(|e| TransportErrorKind::custom_str(&format!("answer not understood: {e}")))
        })
    }
}
