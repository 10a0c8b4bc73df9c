//! Seeds of heartbeats, derived so that a crash loses none.

use alloy::primitives::{Address, B256, keccak256};
use plumbline_contracts::Deployment;
use zeroize::Zeroizing;

/// Derives the seed of each heartbeat from one secret. The chain counts the heartbeats, so whoever has
/// the secret can always open the last commitment.
pub struct Seeds {
    secret: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Seeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seeds(..)")
    }
}

impl Seeds {
    /// Seeds of `secret`, which must be random, kept, and used for nothing else.
    #[must_use]
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            secret: Zeroizing::new(secret),
        }
    }

    /// The seed that heartbeat number `count` (from 0) of `account` commits to.
    #[must_use]
    pub fn seed(&self, deployment: &Deployment, account: Address, count: u64) -> B256 {
        let mut bytes = Zeroizing::new(Vec::with_capacity(128));
        bytes.extend_from_slice(b"plumbline heartbeat seed v1");
        bytes.extend_from_slice(&self.secret[..]);
        bytes.extend_from_slice(&deployment.chain_id.to_be_bytes());
        bytes.extend_from_slice(deployment.beacon.as_slice());
        bytes.extend_from_slice(account.as_slice());
        bytes.extend_from_slice(&count.to_be_bytes());
        keccak256(&*bytes)
    }
}

/// What a heartbeat commits to: keccak256(abi.encode(seed)).
#[must_use]
pub fn commitment(seed: B256) -> B256 {
    keccak256(seed)
}
