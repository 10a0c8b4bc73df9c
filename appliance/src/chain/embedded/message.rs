//! Parameters and failures of a JSON-RPC request.

use alloy::primitives::Bytes;
use plumbline_contracts::explain;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::disk::StoreError;
use super::execute::CallError;
use super::sequencer::Rejection;

pub(super) type Answer = Result<Value, Failure>;

/// A JSON-RPC error.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Option<Value>,
}

impl Failure {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: None,
        }
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(-32600, message)
    }

    pub(super) fn parameters(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new(-32005, message)
    }

    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::new(-32000, message)
    }

    /// As geth answers: code 3, the data whole, and in the message what it means.
    pub(super) fn reverted(output: &Bytes) -> Self {
        let message = explain(output).map_or_else(
            || "execution reverted".to_owned(),
            |refusal| format!("execution reverted: {refusal}"),
        );
        Self {
            code: 3,
            message,
            data: Some(json!(output)),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(e: StoreError) -> Self {
        Self::new(-32603, e.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(e: CallError) -> Self {
        match e {
            CallError::Store(e) => e.into(),
            CallError::Invalid(why) => Self::refused(why),
        }
    }
}

impl From<Rejection> for Failure {
    fn from(e: Rejection) -> Self {
        match e {
            Rejection::Full => Self::limit(e.to_string()),
            Rejection::Invalid(_) | Rejection::Halted(_) => Self::refused(e.to_string()),
        }
    }
}

/// The positional parameters of a request.
pub(super) struct Parameters(pub(super) Vec<Value>);

impl Parameters {
    pub(super) fn get<T: DeserializeOwned>(&self, at: usize, name: &str) -> Result<T, Failure> {
        self.optional(at, name)?
            .ok_or_else(|| Failure::parameters(format!("missing parameter {at}: {name}")))
    }

    pub(super) fn optional<T: DeserializeOwned>(
        &self,
        at: usize,
        name: &str,
    ) -> Result<Option<T>, Failure> {
        match self.0.get(at) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|e| Failure::parameters(format!("parameter {at}, {name}: {e}"))),
        }
    }
}

pub(super) fn result<T: Serialize>(value: &T) -> Answer {
    serde_json::to_value(value).map_err(|e| Failure::new(-32603, e.to_string()))
}
