//! Chain variables and modules: what they are, were and will be, and how a governor changes them.

use alloy::primitives::aliases::{U48, U208};
use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::abi::parameters::Parameters;
use plumbline_contracts::abi::registry::Registry;
use plumbline_contracts::deploy::short;
use serde::Serialize;

use super::types::Sent;
use super::{ChainClient, ClientError};

/// A value of a chain variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Unix seconds from which it holds; 0: from the deployment.
    pub from: u64,
    /// The value.
    pub value: U256,
}

impl ChainClient {
    /// What the chain variable `name` is now.
    ///
    /// # Errors
    /// See [`ClientError`]; `UnknownVariable` if there is none of this name; likewise for all that follow.
    pub async fn variable(&self, name: &str) -> Result<U256, ClientError> {
        let call = Parameters::getCall { name: short(name) };
        self.read("get", self.deployment.parameters, &call).await
    }

    /// What `name` is, was or will be at unix second `time`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn variable_at(&self, name: &str, time: u64) -> Result<U256, ClientError> {
        let call = Parameters::atCall {
            name: short(name),
            time: U48::from(time),
        };
        self.read("at", self.deployment.parameters, &call).await
    }

    /// Every value of `name`, the oldest first, those still to come included.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn history_of(&self, name: &str) -> Result<Vec<Held>, ClientError> {
        let call = Parameters::historyCall { name: short(name) };
        let values = self
            .read("history", self.deployment.parameters, &call)
            .await?;
        let held = values.into_iter().map(|c| Held {
            from: c._key.to(),
            value: U256::from(c._value),
        });
        Ok(held.collect())
    }

    /// The names of all chain variables.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn variables(&self) -> Result<Vec<String>, ClientError> {
        let call = Parameters::namesCall {};
        let names = self
            .read("names", self.deployment.parameters, &call)
            .await?;
        let text = |word: B256| {
            let end = word.iter().position(|b| *b == 0).unwrap_or(word.len());
            String::from_utf8_lossy(&word[..end]).into_owned()
        };
        Ok(names.into_iter().map(text).collect())
    }

    /// Changes a chain variable, with notice (governor).
    ///
    /// # Errors
    /// See [`ClientError`]; `OutOfBounds` if the value is not allowed.
    pub async fn schedule(&self, name: &str, value: u128) -> Result<Sent, ClientError> {
        let call = Parameters::scheduleCall {
            name: short(name),
            value: U208::from(value),
        };
        self.send("schedule", self.deployment.parameters, &call)
            .await
    }

    /// Puts a contract on the list of modules, with notice (governor).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn admit(&self, name: &str, module: Address) -> Result<Sent, ClientError> {
        let call = Registry::admitCall {
            name: short(name),
            module,
        };
        self.send("admit", self.deployment.registry, &call).await
    }

    /// Lets a module finish what it has and begin nothing new (governor).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn retire(&self, module: Address) -> Result<Sent, ClientError> {
        let call = Registry::retireCall { module };
        self.send("retire", self.deployment.registry, &call).await
    }
}
