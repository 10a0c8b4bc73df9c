//! In which order the contracts are deployed, and where they come to lie.

use alloy::primitives::aliases::{U48, U208};
use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::sol_types::{SolCall, SolConstructor};
use serde::{Deserialize, Serialize};

use crate::abi::backhaul::Backhaul;
use crate::abi::beacon::Beacon;
use crate::abi::bonds::Bonds;
use crate::abi::disputes::Disputes;
use crate::abi::jury::Jury;
use crate::abi::lab_token::LabToken;
use crate::abi::parameters::Parameters as Variables;
use crate::abi::participants::Participants;
use crate::abi::registry::Registry;
use crate::abi::vault::Vault;

/// Day, in seconds.
const DAY: u128 = 86_400;
/// Longest time any chain variable can name, in seconds: a year. Nothing is locked for longer.
const YEAR: u128 = 365 * DAY;

/// First values of the chain variables. Each can be changed later by the governor, with notice
/// ([`Parameters::notice_s`]) and within bounds ([`Parameters::variables`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Smallest stake of a registration, in the token's smallest unit.
    pub min_stake: u128,
    /// What a challenger puts up beside it, and loses if it began and withheld its seed, in the token's
    /// smallest unit.
    pub seed_bond: u128,
    /// Seconds that one that is named for that has to answer.
    pub seed_answer_s: u64,
    /// Seconds between leaving and getting the stake back.
    pub unbonding_s: u64,
    /// Seconds that a heartbeat keeps a participant in the draws.
    pub live_interval_s: u64,
    /// Operators other than the parties' that must have revealed since a request before it is drawn.
    pub draw_operators: u8,
    /// What a coordinator is paid for a result, in the token's smallest unit.
    pub coordinator_fee: u128,
    /// Seconds between a result and its payout.
    pub dispute_window_s: u64,
    /// What a dispute costs if the evidence does not hold, in the token's smallest unit.
    pub dispute_bond: u128,
    /// Part of its stake that the guilty loses, percent.
    pub offence_percent: u8,
    /// Part of that which the reporter gets, percent; the rest is burnt.
    pub reporter_percent: u8,
    /// Seats of a jury.
    pub jury_size: u16,
    /// What a juror of the majority is paid, in the token's smallest unit.
    pub juror_fee: u128,
    /// What a juror of the minority or a silent one loses, in the token's smallest unit.
    pub juror_penalty: u128,
    /// Seconds in which a jury must be drawn.
    pub jury_draw_s: u64,
    /// Seconds in which jurors commit to their votes.
    pub jury_commit_s: u64,
    /// Seconds in which they then reveal them.
    pub jury_reveal_s: u64,
    /// Seconds between a governor's change, of a variable or of the modules, and its effect.
    pub notice_s: u64,
}

impl Default for Parameters {
    /// What a laboratory runs with; amounts are to be set for a token that is worth something.
    fn default() -> Self {
        Self {
            min_stake: 1_000,
            seed_bond: 100,
            seed_answer_s: 30,
            unbonding_s: 86_400,
            live_interval_s: 30,
            draw_operators: 2,
            coordinator_fee: 1_000,
            dispute_window_s: 1,
            dispute_bond: 500,
            offence_percent: 50,
            reporter_percent: 40,
            jury_size: 5,
            juror_fee: 20,
            juror_penalty: 100,
            jury_draw_s: 600,
            jury_commit_s: 600,
            jury_reveal_s: 600,
            notice_s: 86_400,
        }
    }
}

/// A chain variable: name, first value, least and greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name on the chain.
    pub name: &'static str,
    /// Its first value.
    pub value: u128,
    /// The least it can ever be set to.
    pub min: u128,
    /// The greatest it can ever be set to.
    pub max: u128,
}

impl Parameters {
    /// Sets the variable `name`, as it is called on the chain.
    ///
    /// # Errors
    /// In words: which there are, or which values it can have.
    pub fn set(&mut self, name: &str, value: u128) -> Result<(), String> {
        let known = self.variables();
        let Some(variable) = known.iter().find(|v| v.name == name) else {
            let names: Vec<&str> = known.iter().map(|v| v.name).collect();
            return Err(format!(
                "no such chain variable; allowed: {}",
                names.join(", ")
            ));
        };
        let (min, max) = (variable.min, variable.max);
        let refused = || format!("out of bounds; allowed: {min} to {max}");
        if value < min || value > max {
            return Err(refused());
        }
        let number = || u64::try_from(value).map_err(|_| refused());
        let short = || u8::try_from(value).map_err(|_| refused());
        match name {
            "min_stake" => self.min_stake = value,
            "seed_bond" => self.seed_bond = value,
            "seed_answer_s" => self.seed_answer_s = number()?,
            "unbonding_s" => self.unbonding_s = number()?,
            "live_interval_s" => self.live_interval_s = number()?,
            "draw_operators" => self.draw_operators = short()?,
            "coordinator_fee" => self.coordinator_fee = value,
            "dispute_window_s" => self.dispute_window_s = number()?,
            "dispute_bond" => self.dispute_bond = value,
            "offence_percent" => self.offence_percent = short()?,
            "reporter_percent" => self.reporter_percent = short()?,
            "jury_size" => self.jury_size = u16::try_from(value).map_err(|_| refused())?,
            "juror_fee" => self.juror_fee = value,
            "juror_penalty" => self.juror_penalty = value,
            "jury_draw_s" => self.jury_draw_s = number()?,
            "jury_commit_s" => self.jury_commit_s = number()?,
            "jury_reveal_s" => self.jury_reveal_s = number()?,
            other => return Err(format!("{other} cannot be set by name")),
        }
        Ok(())
    }

    /// The variables, with bounds that no governor can leave: no time beyond a year, so that nothing is
    /// locked for ever; never more than a whole stake; always an odd-sized choice of jurors possible.
    #[must_use]
    pub fn variables(&self) -> [Variable; 17] {
        let amount = |name, value| Variable {
            name,
            value,
            min: 0,
            max: u128::MAX >> 8,
        };
        let seconds = |name, value: u64, max| Variable {
            name,
            value: value.into(),
            min: 1,
            max,
        };
        let percent = |name, value: u8| Variable {
            name,
            value: value.into(),
            min: 0,
            max: 100,
        };
        [
            amount("min_stake", self.min_stake),
            amount("seed_bond", self.seed_bond),
            seconds("seed_answer_s", self.seed_answer_s, DAY),
            seconds("unbonding_s", self.unbonding_s, YEAR),
            seconds("live_interval_s", self.live_interval_s, DAY),
            Variable {
                name: "draw_operators",
                value: self.draw_operators.into(),
                min: 1,
                max: 32,
            },
            amount("coordinator_fee", self.coordinator_fee),
            seconds("dispute_window_s", self.dispute_window_s, 30 * DAY),
            amount("dispute_bond", self.dispute_bond),
            percent("offence_percent", self.offence_percent),
            percent("reporter_percent", self.reporter_percent),
            Variable {
                name: "jury_size",
                value: self.jury_size.into(),
                min: 1,
                max: 63,
            },
            amount("juror_fee", self.juror_fee),
            amount("juror_penalty", self.juror_penalty),
            seconds("jury_draw_s", self.jury_draw_s, 30 * DAY),
            seconds("jury_commit_s", self.jury_commit_s, 30 * DAY),
            seconds("jury_reveal_s", self.jury_reveal_s, 30 * DAY),
        ]
    }
}

/// Where the contracts of a chain lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The chain's id (EIP-155).
    pub chain_id: u64,
    /// The ERC-20 that stakes and escrows are in.
    pub token: Address,
    /// Which contracts are part of the house.
    pub registry: Address,
    /// Chain variables.
    pub parameters: Address,
    /// What holds all money.
    pub vault: Address,
    /// Who takes part.
    pub participants: Address,
    /// Heartbeats and randomness.
    pub beacon: Address,
    /// Judges.
    pub jury: Address,
    /// Evidence, for every proof.
    pub disputes: Address,
    /// Backhaul measurements.
    pub backhaul: Address,
    /// Who began one of those, and withheld its seed.
    pub bonds: Address,
}

impl Deployment {
    /// Every contract, by name.
    #[must_use]
    pub fn contracts(&self) -> [(&'static str, Address); 10] {
        [
            ("token", self.token),
            ("registry", self.registry),
            ("parameters", self.parameters),
            ("vault", self.vault),
            ("participants", self.participants),
            ("beacon", self.beacon),
            ("jury", self.jury),
            ("disputes", self.disputes),
            ("backhaul", self.backhaul),
            ("bonds", self.bonds),
        ]
    }
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

/// Plans a deployment with a lab token by `deployer`, whose next nonce is `nonce`. The deployer is the
/// governor afterwards, until it hands that over.
#[must_use]
pub fn plan(deployer: Address, nonce: u64, chain_id: u64, parameters: &Parameters) -> Plan {
    plan_on(None, deployer, nonce, chain_id, parameters)
}

/// As [`plan`], with the ERC-20 at `token` instead of a lab token if one is given.
#[must_use]
pub fn plan_on(
    token: Option<Address>,
    deployer: Address,
    nonce: u64,
    chain_id: u64,
    parameters: &Parameters,
) -> Plan {
    let skipped = u64::from(token.is_some());
    let at = |step: u64| deployer.create(nonce + step - skipped);
    let d = Deployment {
        chain_id,
        token: token.unwrap_or_else(|| at(0)),
        registry: at(1),
        parameters: at(2),
        vault: at(3),
        participants: at(4),
        beacon: at(5),
        jury: at(6),
        disputes: at(7),
        backhaul: at(8),
        bonds: at(9),
    };
    let mut steps = create_all(&d, parameters);
    if token.is_some() {
        // The first makes the token.
        steps.remove(0);
    }
    steps.extend([
        admit("admit Participants", &d, "participants", d.participants),
        admit("admit Jury", &d, "jury", d.jury),
        admit("admit Disputes", &d, "disputes", d.disputes),
        // A proof is added by one entry like this.
        admit("admit Backhaul", &d, "backhaul", d.backhaul),
        admit("admit Bonds", &d, "bonds", d.bonds),
        Step {
            what: "end the deployment",
            to: Some(d.registry),
            input: Registry::sealCall {}.abi_encode().into(),
        },
    ]);
    Plan {
        steps,
        deployment: d,
    }
}

fn create_all(d: &Deployment, parameters: &Parameters) -> Vec<Step> {
    let registry = Registry::constructorCall {
        delay: parameters.notice_s,
    };
    let variables = Variables::constructorCall {
        variables: parameters.variables().iter().map(on_chain).collect(),
        delay: U48::from(parameters.notice_s),
    };
    let vault = Vault::constructorCall {
        token: d.token,
        registry: d.registry,
    };
    let participants = Participants::constructorCall {
        vault: d.vault,
        registry: d.registry,
        parameters: d.parameters,
    };
    let beacon = Beacon::constructorCall {
        participants: d.participants,
        parameters: d.parameters,
    };
    let jury = Jury::constructorCall {
        vault: d.vault,
        registry: d.registry,
        parameters: d.parameters,
        participants: d.participants,
        beacon: d.beacon,
    };
    let disputes = Disputes::constructorCall {
        vault: d.vault,
        registry: d.registry,
        parameters: d.parameters,
        participants: d.participants,
        jury: d.jury,
    };
    let backhaul = Backhaul::constructorCall {
        vault: d.vault,
        participants: d.participants,
        beacon: d.beacon,
        parameters: d.parameters,
        disputes: d.disputes,
    };
    let bonds = Bonds::constructorCall {
        backhaul: d.backhaul,
        participants: d.participants,
        parameters: d.parameters,
    };
    vec![
        create("deploy LabToken", &LabToken::BYTECODE, &[]),
        create(
            "deploy Registry",
            &Registry::BYTECODE,
            &registry.abi_encode(),
        ),
        create(
            "deploy Parameters",
            &Variables::BYTECODE,
            &variables.abi_encode(),
        ),
        create("deploy Vault", &Vault::BYTECODE, &vault.abi_encode()),
        create(
            "deploy Participants",
            &Participants::BYTECODE,
            &participants.abi_encode(),
        ),
        create("deploy Beacon", &Beacon::BYTECODE, &beacon.abi_encode()),
        create("deploy Jury", &Jury::BYTECODE, &jury.abi_encode()),
        create(
            "deploy Disputes",
            &Disputes::BYTECODE,
            &disputes.abi_encode(),
        ),
        create(
            "deploy Backhaul",
            &Backhaul::BYTECODE,
            &backhaul.abi_encode(),
        ),
        create("deploy Bonds", &Bonds::BYTECODE, &bonds.abi_encode()),
    ]
}

/// Hash over the creation code of all contracts: names the version that this program carries.
#[must_use]
pub fn code_hash() -> B256 {
    let mut hashes = Vec::with_capacity(10 * 32);
    for code in [
        &LabToken::BYTECODE,
        &Registry::BYTECODE,
        &Variables::BYTECODE,
        &Vault::BYTECODE,
        &Participants::BYTECODE,
        &Beacon::BYTECODE,
        &Jury::BYTECODE,
        &Disputes::BYTECODE,
        &Backhaul::BYTECODE,
        &Bonds::BYTECODE,
    ] {
        hashes.extend_from_slice(keccak256(code).as_slice());
    }
    keccak256(hashes)
}

/// `name` as the contracts keep it: ASCII, padded with zeros. Longer names lose their end; none is longer.
#[must_use]
pub fn short(name: &str) -> B256 {
    let mut word = B256::ZERO;
    for (to, from) in word.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    word
}

fn on_chain(v: &Variable) -> Variables::Variable {
    Variables::Variable {
        name: short(v.name),
        value: U208::from(v.value),
        min: U208::from(v.min),
        max: U208::from(v.max),
    }
}

fn create(what: &'static str, code: &Bytes, arguments: &[u8]) -> Step {
    Step {
        what,
        to: None,
        input: [code, arguments].concat().into(),
    }
}

fn admit(what: &'static str, deployment: &Deployment, name: &str, module: Address) -> Step {
    let call = Registry::admitCall {
        name: short(name),
        module,
    };
    Step {
        what,
        to: Some(deployment.registry),
        input: call.abi_encode().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_can_be_set_by_its_name_within_its_bounds() {
        for known in Parameters::default().variables() {
            for value in [known.min, known.max] {
                let mut parameters = Parameters::default();
                parameters.set(known.name, value).unwrap();
                let found = parameters.variables();
                let found = found.iter().find(|v| v.name == known.name).unwrap();
                assert_eq!(found.value, value, "{}", known.name);
            }
            let mut parameters = Parameters::default();
            let below = known.min.checked_sub(1);
            for outside in [Some(known.max + 1), below].into_iter().flatten() {
                let refused = parameters.set(known.name, outside).unwrap_err();
                assert!(refused.contains("allowed: "), "{refused}");
            }
            assert_eq!(parameters, Parameters::default());
        }
        let unknown = Parameters::default().set("moon_phase", 1).unwrap_err();
        assert!(unknown.contains("jury_size"), "{unknown}");
    }

    #[test]
    fn addresses_follow_the_nonces() {
        let deployer = Address::repeat_byte(7);
        let plan = plan(deployer, 9, 1337, &Parameters::default());
        let created = plan.steps.iter().filter(|s| s.to.is_none()).count();
        assert_eq!(created, plan.deployment.contracts().len());
        for (nonce, (name, address)) in (9..).zip(plan.deployment.contracts()) {
            assert_eq!(address, deployer.create(nonce), "{name}");
        }
        let text = serde_json::to_string(&plan.deployment).unwrap();
        assert_eq!(
            serde_json::from_str::<Deployment>(&text).unwrap(),
            plan.deployment
        );
    }

    #[test]
    fn first_values_lie_within_their_bounds_and_names_fit() {
        for v in Parameters::default().variables() {
            assert!(v.min <= v.value && v.value <= v.max, "{v:?}");
            assert!(v.name.len() <= 32, "{v:?}");
        }
    }
}
