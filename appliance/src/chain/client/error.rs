//! What can go wrong between a client and a chain.

use std::time::Duration;

use alloy::primitives::{Address, B256};
use alloy::transports::{RpcError, TransportErrorKind};
use plumbline_contracts::{Refusal, explain};

use crate::chain::embedded::FollowError;
use crate::chain::pin::Difference;
use crate::chain::rpc::EndpointsError;

/// Why a chain did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint's address is malformed.
    #[error("{url}: not an address of a chain: {why}; for example http://127.0.0.1:8545")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answers at the endpoint, or not in JSON-RPC.
    #[error("{endpoint}: the chain cannot be reached: {why}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the transport said.
        why: String,
    },
    /// The endpoint did not answer in time, or a transaction did not get into a block.
    #[error("{endpoint}: no answer to {what} within {} s", after.as_secs())]
    TimedOut {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The endpoint is another chain, or the contracts are not there.
    #[error("{endpoint}: {why}")]
    WrongChain {
        /// Where.
        endpoint: String,
        /// What was found and what was expected.
        why: String,
    },
    /// Not what was pinned; nothing was signed for it.
    #[error("{endpoint}: {difference}")]
    NotPinned {
        /// Where.
        endpoint: String,
        /// In what.
        difference: Difference,
    },
    /// A contract refused, and said why.
    #[error("{0}")]
    Refused(Refusal),
    /// A contract refused without a reason that we know.
    #[error("{what} was reverted without a reason (data {data})")]
    Reverted {
        /// What was asked.
        what: &'static str,
        /// Revert data, hex.
        data: String,
    },
    /// A transaction is in a block, but failed there.
    #[error("{what}: transaction {hash} failed in its block")]
    Failed {
        /// What was asked.
        what: &'static str,
        /// The transaction.
        hash: B256,
    },
    /// The node refused the request.
    #[error("{endpoint}: {what} was refused: {message} (code {code})")]
    Rejected {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
    },
    /// The answer is not what the contract would say.
    #[error("{endpoint}: the answer to {what} is malformed: {why}")]
    Malformed {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A transaction is not settled after all patience. It may be later; asking the contract tells.
    #[error(
        "{endpoint}: {what}: transaction {hash} is not settled after {} s: {stands}; it may still be: look at the \
         contract's state before sending again",
        after.as_secs()
    )]
    NotSettled {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// The newest variant of the transaction.
        hash: B256,
        /// How long was waited.
        after: Duration,
        /// How it stood at the end.
        stands: String,
    },
    /// Other transactions of the same key took the nonce each time.
    #[error(
        "{what}: other transactions of {account} took its nonce {times} times: run one process with a key, not two"
    )]
    Displaced {
        /// What was asked.
        what: &'static str,
        /// Whose key.
        account: Address,
        /// How often.
        times: usize,
    },
    /// The chain asks for a higher fee than may be paid.
    #[error(
        "{endpoint}: {what}: the chain asks for more than {most} wei a unit of gas, which is the most that is paid: \
         try again when it is less busy"
    )]
    TooExpensive {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// Most that is paid, wei.
        most: u128,
    },
    /// It takes more gas than one transaction may have.
    #[error(
        "{endpoint}: {what}: more gas than one transaction may have: {why}; the contracts need up to {} a \
         transaction (EIP-7825): a chain that allows less cannot be used",
        super::gas::TRANSACTION_GAS
    )]
    TooMuchGas {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// What it takes, or the node's words.
        why: String,
    },
    /// The account cannot pay for gas.
    #[error(
        "{endpoint}: {what}: insufficient funds for gas: {account} has {has} wei on chain {chain_id} and needs up to \
         {needs}: send it native coin of that chain"
    )]
    Funds {
        /// Where.
        endpoint: String,
        /// What was asked.
        what: &'static str,
        /// Who pays.
        account: Address,
        /// On which chain.
        chain_id: u64,
        /// Native coin it has, wei.
        has: u128,
        /// Native coin it needs at most, wei.
        needs: u128,
    },
    /// The endpoints do not serve.
    #[error(transparent)]
    Endpoints(EndpointsError),
    /// The key could not sign.
    #[error("cannot sign {what}: {why}")]
    Signing {
        /// What was to be signed.
        what: &'static str,
        /// What the signer said.
        why: String,
    },
}

impl ClientError {
    /// The refusal of a contract, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Fails with the difference, if there is one.
    ///
    /// # Errors
    /// [`Self::NotPinned`].
    pub fn unless(endpoint: &str, difference: Option<Difference>) -> Result<(), Self> {
        let endpoint = endpoint.to_owned();
        difference.map_or(Ok(()), |difference| {
            Err(Self::NotPinned {
                endpoint,
                difference,
            })
        })
    }

    pub(super) fn of(
        endpoint: &str,
        what: &'static str,
        error: RpcError<TransportErrorKind>,
    ) -> Self {
        let endpoint = endpoint.to_owned();
        match error {
            RpcError::ErrorResp(payload) => match payload.as_revert_data() {
                Some(data) => match explain(&data) {
                    Some(refusal) => Self::Refused(refusal),
                    None => Self::Reverted {
                        what,
                        data: data.to_string(),
                    },
                },
                None => Self::Rejected {
                    endpoint,
                    what,
                    code: payload.code,
                    message: payload.message.into_owned(),
                },
            },
            RpcError::Transport(TransportErrorKind::Custom(error))
                if error.is::<EndpointsError>() =>
            {
                match error.downcast::<EndpointsError>().map(|e| *e) {
                    Ok(told @ EndpointsError::Disagree { .. }) => Self::Endpoints(told),
                    Ok(told) => Self::Unreachable {
                        endpoint,
                        why: told.to_string(),
                    },
                    Err(other) => Self::Unreachable {
                        endpoint,
                        why: other.to_string(),
                    },
                }
            }
            RpcError::Transport(TransportErrorKind::Custom(error)) if error.is::<FollowError>() => {
                match error.downcast::<FollowError>() {
                    Ok(told) => (*told).into(),
                    Err(other) => Self::Unreachable {
                        endpoint,
                        why: other.to_string(),
                    },
                }
            }
            RpcError::Transport(kind) => Self::Unreachable {
                endpoint,
                why: chained(&kind),
            },
            other => Self::Malformed {
                endpoint,
                what,
                why: other.to_string(),
            },
        }
    }
}

impl From<FollowError> for ClientError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Unreachable { url, why } => Self::Unreachable { endpoint: url, why },
            // Busy, or half an answer: it may have a better one later.
            FollowError::Strange { url, method, why } => Self::Unreachable {
                endpoint: url,
                why: format!("{method}: {why}"),
            },
            FollowError::NotPinned { url, difference } => Self::NotPinned {
                endpoint: url,
                difference,
            },
            told => Self::WrongChain {
                endpoint: "the own copy of the chain".to_owned(),
                why: told.to_string(),
            },
        }
    }
}

/// An error with what caused it: HTTP clients keep "connection refused" two levels down.
pub(in crate::chain) fn chained(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !words.contains(&told) {
            words.push_str(": ");
            words.push_str(&told);
        }
        source = cause.source();
    }
    words
}
