//! The bond for withheld seeds, typed.

use alloy::primitives::{B256, U256};
use plumbline_contracts::Answer;
use plumbline_contracts::abi::bonds::Bonds;
use plumbline_contracts::abi::participants::Participants;

use super::types::{SeedCase, Sent};
use super::{ChainClient, ClientError};

/// Bonds.
impl ChainClient {
    /// Asks challenger `index` of the finished measurement `id` for the seed that hashes to `seed_hash`
    /// (coordinator).
    ///
    /// # Errors
    /// See [`ClientError`]; likewise for all that follow.
    pub async fn name_withheld(
        &self,
        id: B256,
        index: u16,
        seed_hash: B256,
        signature: &[u8],
    ) -> Result<Sent, ClientError> {
        let call = Bonds::nameCall {
            id,
            index,
            seedHash: seed_hash,
            signature: signature.to_vec().into(),
        };
        self.send("name", self.deployment.bonds, &call).await
    }

    /// Answers for a challenger that was named.
    ///
    /// # Errors
    /// See [`ClientError`]; `AnswerTooLate` once the bond is lost.
    pub async fn give_seed(&self, id: B256, index: u16, seed: B256) -> Result<Sent, ClientError> {
        let call = Bonds::giveCall { id, index, seed };
        self.send("give", self.deployment.bonds, &call).await
    }

    /// Takes the bond of one that did not answer, for the payer.
    ///
    /// # Errors
    /// See [`ClientError`]; `AnswerOpen` while it can still answer.
    pub async fn forfeit(&self, id: B256, index: u16) -> Result<Sent, ClientError> {
        let call = Bonds::forfeitCall { id, index };
        self.send("forfeit", self.deployment.bonds, &call).await
    }

    /// What became of challenger `index` of measurement `id`; [`Answer::None`] if it was not named.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn seed_case_of(&self, id: B256, index: u16) -> Result<SeedCase, ClientError> {
        let call = Bonds::getCall { id, index };
        let found = self.read("get", self.deployment.bonds, &call).await?;
        let answer = Answer::from_u8(found.standing);
        Ok(SeedCase {
            answer: answer
                .ok_or_else(|| self.malformed("get", format!("standing {}", found.standing)))?,
            until: found.until,
            bond: found.bond,
            seed_hash: found.seedHash,
        })
    }

    /// Last unix second in which a challenger of measurement `id` can be named, as far as is known.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn named_until(&self, id: B256) -> Result<u64, ClientError> {
        let call = Bonds::namedUntilCall { id };
        let until = self
            .read("namedUntil", self.deployment.bonds, &call)
            .await?;
        Ok(u64::try_from(until).unwrap_or(u64::MAX))
    }

    /// Seconds that a challenger has to answer once it is named.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn seed_answer_s(&self) -> Result<u64, ClientError> {
        let found = self.variable("seed_answer_s").await?;
        Ok(u64::try_from(found).unwrap_or(u64::MAX))
    }

    /// Smallest stake of a participant with `roles`, a challenger's bond included.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn needed_stake(&self, roles: u32) -> Result<U256, ClientError> {
        let call = Participants::neededCall { roles };
        self.read("needed", self.deployment.participants, &call)
            .await
    }
}
