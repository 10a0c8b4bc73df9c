//! In which order the contracts are deployed, and where they come to lie.

use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::sol_types::{SolCall, SolConstructor};
use serde::{Deserialize, Serialize};

use crate::abi::backhaul::Backhaul;
use crate::abi::beacon::Beacon;
use crate::abi::lab_token::LabToken;
use crate::abi::participants::Participants;
use crate::abi::vault::Vault;

/// Chain variables: fixed in the contracts when they are deployed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Smallest stake of a registration, in the token's smallest unit.
    pub min_stake: u128,
    /// Seconds between leaving and getting the stake back.
    pub unbonding_s: u64,
    /// Seconds that a heartbeat keeps a participant in the draws.
    pub live_interval_s: u64,
    /// What a coordinator is paid for a result, in the token's smallest unit.
    pub coordinator_fee: u128,
    /// Seconds between a result and its payout.
    pub dispute_window_s: u64,
}

/// Where the contracts of a chain lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The chain's id (EIP-155).
    pub chain_id: u64,
    /// The ERC-20 that stakes and escrows are in.
    pub token: Address,
    /// What holds all money.
    pub vault: Address,
    /// Who takes part.
    pub participants: Address,
    /// Heartbeats and randomness.
    pub beacon: Address,
    /// Backhaul measurements.
    pub backhaul: Address,
}

/// One transaction of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does, for people.
    pub what: &'static str,
    /// The contract called; `None` makes a new one.
    pub to: Option<Address>,
    /// Call data, or creation code with its arguments.
    pub input: Bytes,
}

/// A whole deployment: `steps` in this order, with consecutive nonces, lead to `deployment`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The transactions.
    pub steps: Vec<Step>,
    /// Where the contracts are afterwards.
    pub deployment: Deployment,
}

/// Plans a deployment with a lab token by `deployer`, whose next nonce is `nonce`.
#[must_use]
pub fn plan(deployer: Address, nonce: u64, chain_id: u64, parameters: &Parameters) -> Plan {
    let at = |step: u64| deployer.create(nonce + step);
    let deployment = Deployment {
        chain_id,
        token: at(0),
        vault: at(1),
        participants: at(2),
        beacon: at(3),
        backhaul: at(4),
    };
    let vault = Vault::constructorCall {
        token: deployment.token,
    };
    let participants = Participants::constructorCall {
        vault: deployment.vault,
        minStake: parameters.min_stake,
        unbonding: parameters.unbonding_s,
    };
    let beacon = Beacon::constructorCall {
        participants: deployment.participants,
        liveInterval: parameters.live_interval_s,
    };
    let backhaul = Backhaul::constructorCall {
        vault: deployment.vault,
        participants: deployment.participants,
        beacon: deployment.beacon,
        coordinatorFee: parameters.coordinator_fee,
        disputeWindow: parameters.dispute_window_s,
    };
    let steps = vec![
        create("deploy LabToken", &LabToken::BYTECODE, &[]),
        create("deploy Vault", &Vault::BYTECODE, &vault.abi_encode()),
        create(
            "deploy Participants",
            &Participants::BYTECODE,
            &participants.abi_encode(),
        ),
        create("deploy Beacon", &Beacon::BYTECODE, &beacon.abi_encode()),
        create(
            "deploy Backhaul",
            &Backhaul::BYTECODE,
            &backhaul.abi_encode(),
        ),
        admit(
            "let Participants move buckets",
            &deployment,
            deployment.participants,
        ),
        admit(
            "let Backhaul move buckets",
            &deployment,
            deployment.backhaul,
        ),
    ];
    Plan { steps, deployment }
}

/// Hash over the creation code of all contracts: names the version that this program carries.
#[must_use]
pub fn code_hash() -> B256 {
    let mut hashes = Vec::with_capacity(5 * 32);
    for code in [
        &LabToken::BYTECODE,
        &Vault::BYTECODE,
        &Participants::BYTECODE,
        &Beacon::BYTECODE,
        &Backhaul::BYTECODE,
    ] {
        hashes.extend_from_slice(keccak256(code).as_slice());
    }
    keccak256(hashes)
}

fn create(what: &'static str, code: &Bytes, arguments: &[u8]) -> Step {
    Step {
        what,
        to: None,
        input: [code, arguments].concat().into(),
    }
}

fn admit(what: &'static str, deployment: &Deployment, module: Address) -> Step {
    let call = Vault::setModuleCall {
        module,
        allowed: true,
    };
    Step {
        what,
        to: Some(deployment.vault),
        input: call.abi_encode().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_nonces() {
        let parameters = Parameters {
            min_stake: 1,
            unbonding_s: 2,
            live_interval_s: 3,
            coordinator_fee: 4,
            dispute_window_s: 5,
        };
        let deployer = Address::repeat_byte(7);
        let plan = plan(deployer, 9, 1337, &parameters);
        assert_eq!(plan.deployment.token, deployer.create(9));
        assert_eq!(plan.deployment.backhaul, deployer.create(13));
        assert_eq!(plan.steps.iter().filter(|s| s.to.is_none()).count(), 5);
        let text = serde_json::to_string(&plan.deployment).unwrap();
        assert_eq!(
            serde_json::from_str::<Deployment>(&text).unwrap(),
            plan.deployment
        );
    }
}
