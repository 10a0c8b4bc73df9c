//! Money, participants, heartbeats, blocks: the contracts' functions, typed.

use std::time::Duration;

use alloy::eips::BlockNumberOrTag;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::vault::Vault;

use super::types::{BlockInfo, Participant, Registration, Sent, Totals};
use super::{ChainClient, ClientError, Seeds, commitment};

/// Blocks whose time is averaged.
const PACED_BLOCKS: u64 = 32;
/// Participants asked for at once: about 100 kB of answer.
const PAGE: u64 = 128;

/// Money.
impl ChainClient {
    /// Makes `amount` lab tokens for `to`; only a laboratory's token can.
    ///
    /// # Errors
    /// See [`ClientError`]; likewise for all that follow.
    pub async fn mint_lab(&self, to: Address, amount: U256) -> Result<Sent, ClientError> {
        let call = LabToken::mintCall { to, amount };
        self.send_soon("mint", self.deployment.token, &call).await
    }

    /// Tokens of `account`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn balance(&self, account: Address) -> Result<U256, ClientError> {
        let call = LabToken::balanceOfCall { account };
        self.read("balanceOf", self.deployment.token, &call).await
    }

    /// How much of `owner`'s tokens the vault may take.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn allowance(&self, owner: Address) -> Result<U256, ClientError> {
        let spender = self.deployment.vault;
        let call = LabToken::allowanceCall { owner, spender };
        self.read("allowance", self.deployment.token, &call).await
    }

    /// Lets the vault take `amount` in all of this client's tokens, instead of what it might before.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn approve(&self, amount: U256) -> Result<Sent, ClientError> {
        let spender = self.deployment.vault;
        let call = LabToken::approveCall {
            spender,
            value: amount,
        };
        self.send_soon("approve", self.deployment.token, &call)
            .await
    }

    /// Takes out all that this client is owed.
    ///
    /// # Errors
    /// See [`ClientError`]; `NothingOwed` if there is nothing.
    pub async fn withdraw(&self) -> Result<Sent, ClientError> {
        let call = Vault::withdrawCall {};
        self.send("withdraw", self.deployment.vault, &call).await
    }

    /// What `account` can withdraw.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn owed(&self, account: Address) -> Result<U256, ClientError> {
        let call = Vault::owedCall { account };
        self.read("owed", self.deployment.vault, &call).await
    }

    /// What `account` has at stake.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stake_of(&self, account: Address) -> Result<U256, ClientError> {
        let call = Vault::stakeCall { account };
        self.read("stake", self.deployment.vault, &call).await
    }

    /// What is locked for the measurement `id`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn escrow_of(&self, id: B256) -> Result<U256, ClientError> {
        let module = self.deployment.backhaul;
        let call = Vault::escrowOfCall { module, id };
        self.read("escrowOf", self.deployment.vault, &call).await
    }

    /// Whether every unit is accounted for and really there.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn conserved(&self) -> Result<bool, ClientError> {
        let call = Vault::conservedCall {};
        self.read("conserved", self.deployment.vault, &call).await
    }

    /// What the vault holds. The sums are read one after the other: between blocks they agree.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn totals(&self) -> Result<Totals, ClientError> {
        let vault = self.deployment.vault;
        Ok(Totals {
            stake: self
                .read("totalStake", vault, &Vault::totalStakeCall {})
                .await?,
            burnt: self.read("burnt", vault, &Vault::burntCall {}).await?,
            escrow: self
                .read("totalEscrow", vault, &Vault::totalEscrowCall {})
                .await?,
            owed: self
                .read("totalOwed", vault, &Vault::totalOwedCall {})
                .await?,
            held: self.read("held", vault, &Vault::heldCall {}).await?,
            balance: self.balance(vault).await?,
        })
    }
}

/// Participants and heartbeats.
impl ChainClient {
    /// Registers this client; its stake must be allowed to the vault.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn register(&self, registration: &Registration) -> Result<Sent, ClientError> {
        let call = Participants::registerCall {
            roles: registration.roles,
            networkKey: registration.network_key.into(),
            crossSignature: registration.cross_signature.to_vec().into(),
            operator: registration.operator.into(),
            endpoint: registration.endpoint.clone(),
            maxBps: registration.max_bps,
            stake: registration.stake,
        };
        self.send("register", self.deployment.participants, &call)
            .await
    }

    /// Tells where this client can be reached from now on.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_endpoint(&self, endpoint: &str) -> Result<Sent, ClientError> {
        let endpoint = endpoint.to_owned();
        let call = Participants::setEndpointCall { endpoint };
        self.send("setEndpoint", self.deployment.participants, &call)
            .await
    }

    /// Puts `amount` more at stake (allowed to the vault); ends a suspension if that is enough.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn top_up(&self, amount: U256) -> Result<Sent, ClientError> {
        let call = Participants::topUpCall { amount };
        self.send("topUp", self.deployment.participants, &call)
            .await
    }

    /// Takes part no longer.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leave(&self) -> Result<Sent, ClientError> {
        let call = Participants::leaveCall {};
        self.send("leave", self.deployment.participants, &call)
            .await
    }

    /// After the unbonding delay, makes the stake withdrawable.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reclaim(&self) -> Result<Sent, ClientError> {
        let call = Participants::reclaimCall {};
        self.send("reclaim", self.deployment.participants, &call)
            .await
    }

    /// What is known of `account`; `None` if it is not registered.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn participant(&self, account: Address) -> Result<Option<Participant>, ClientError> {
        let call = Participants::getCall { account };
        let found = self
            .read("get", self.deployment.participants, &call)
            .await?;
        Ok((found.roles != 0).then(|| participant(found)))
    }

    /// Everyone registered, those leaving included.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn participants(&self) -> Result<Vec<Participant>, ClientError> {
        let mut all = Vec::new();
        let mut offset = 0;
        loop {
            let call = Participants::listCall {
                offset: U256::from(offset),
                limit: U256::from(PAGE),
            };
            offset += PAGE;
            let page = self
                .read("list", self.deployment.participants, &call)
                .await?;
            let last = (page.len() as u64) < PAGE;
            // A place left is free until another takes it.
            all.extend(page.into_iter().filter(|p| p.roles != 0).map(participant));
            if last {
                return Ok(all);
            }
        }
    }

    /// Says "I am here", reveals the seed that the last heartbeat committed to (zero at the first), and
    /// commits to the next.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heartbeat(&self, revealed: B256, next: B256) -> Result<Sent, ClientError> {
        let call = Beacon::heartbeatCall {
            revealedSeed: revealed,
            nextCommitment: next,
        };
        self.send_soon("heartbeat", self.deployment.beacon, &call)
            .await
    }

    /// A heartbeat whose seeds are derived: nothing but their secret has to be remembered.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn beat(&self, seeds: &Seeds) -> Result<Sent, ClientError> {
        let count = self.heartbeats(self.address()).await?;
        let seed = |count| seeds.seed(&self.deployment, self.address(), count);
        let revealed = count.checked_sub(1).map_or(B256::ZERO, seed);
        self.heartbeat(revealed, commitment(seed(count))).await
    }

    /// How many heartbeats `account` has sent.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn heartbeats(&self, account: Address) -> Result<u64, ClientError> {
        let call = Beacon::heartbeatsCall { account };
        self.read("heartbeats", self.deployment.beacon, &call).await
    }

    /// Whether `account` takes part and its last heartbeat is fresh.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn is_live(&self, account: Address) -> Result<bool, ClientError> {
        let call = Beacon::isLiveCall { account };
        self.read("isLive", self.deployment.beacon, &call).await
    }
}

/// Blocks.
impl ChainClient {
    /// The newest block.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn latest_block(&self) -> Result<BlockInfo, ClientError> {
        self.block(BlockNumberOrTag::Latest).await
    }

    /// How long a block takes, on the average of the last ones; zero on a chain that has none yet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn block_time(&self) -> Result<Duration, ClientError> {
        let last = self.latest_block().await?;
        // The first block of a chain can be of any time.
        let first = last.number.saturating_sub(PACED_BLOCKS).max(1);
        let first = self.block(first.into()).await?;
        let blocks = last.number.saturating_sub(first.number);
        let took = Duration::from_secs(last.timestamp.saturating_sub(first.timestamp));
        Ok(took / u32::try_from(blocks).unwrap_or(u32::MAX).max(1))
    }

    async fn block(&self, at: BlockNumberOrTag) -> Result<BlockInfo, ClientError> {
        let what = "a block";
        let block = async { self.provider.get_block_by_number(at).await };
        let block = self.ask(what, block).await?;
        let block = block.ok_or_else(|| self.malformed(what, format!("there is no {at}")))?;
        Ok(BlockInfo {
            number: block.header.number,
            hash: block.header.hash,
            timestamp: block.header.timestamp,
            state_root: block.header.state_root,
        })
    }
}

fn participant(p: Participants::Participant) -> Participant {
    Participant {
        account: p.account,
        roles: p.roles,
        registered_block: p.registeredBlock.to(),
        network_key: p.networkKey,
        cross_signature_hash: p.crossSignatureHash,
        operator: p.operator,
        endpoint: p.endpoint,
        max_bps: p.maxBps,
        suspended: p.suspended,
        leave_at: (p.leaveAt != 0).then_some(p.leaveAt),
    }
}
