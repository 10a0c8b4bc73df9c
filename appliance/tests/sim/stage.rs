//! Before the curtain: the chain on which everyone is registered, who plays, and what is asked for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use alloy::primitives::{B256, U256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use plumbline::chain::Genesis;
use plumbline::chain::client::role;
use plumbline::chain::embedded::{Fork, Move};
use plumbline_contracts::Parameters;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;

use crate::actors::{Actor, Ask, Disk, Keeper, Role, Sender};
use crate::clock::Drift;
use crate::world::World;

/// Unix second at which every run begins.
pub(crate) const START: u64 = 1_700_000_000;
/// Stake of everyone but some jurors.
pub(crate) const STAKE: u128 = 1_000;
/// Of it, what a challenger loses if it withholds its seed.
pub(crate) const SEED_BOND: u128 = 100;
/// Highest claim of a prover, bit/s.
const CLAIM: u64 = 960_000_000;
/// Duration of the floods, ms.
const DURATION_MS: u32 = 100;
/// Seconds from asking to the deadline: six steps, each final after some 30 s.
pub(crate) const TERM_S: u64 = 320;
/// Chain variables of all runs.
pub(crate) fn parameters() -> Parameters {
    Parameters {
        min_stake: STAKE - SEED_BOND,
        seed_bond: SEED_BOND,
        unbonding_s: 2_400,
        live_interval_s: 120,
        coordinator_fee: 77,
        dispute_window_s: 150,
        jury_draw_s: 120,
        // Several times what the slowest finality of a run takes: a vote counts once it cannot vanish.
        jury_commit_s: 240,
        jury_reveal_s: 240,
        ..Parameters::default()
    }
}

pub(crate) const PAYERS: u8 = 2;
pub(crate) const PROVERS: u8 = 2;
pub(crate) const COORDINATORS: u8 = 3;
pub(crate) const CHALLENGERS: u8 = 30;
pub(crate) const JURORS: u8 = 9;
pub(crate) const OUTSIDERS: u8 = 2;

/// The chain on which everyone is registered, made once.
pub(crate) struct Base {
    pub(crate) fork: Fork,
    pub(crate) cast: Vec<(u32, PrivateKeySigner, u128)>,
}

pub(crate) fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let key = |number: u8| PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap();
        let genesis = Genesis {
            chain_id: 7_331,
            deployer: key(1),
            parameters: parameters(),
        };
        let mut fork = Fork::found(&genesis, START - 100).unwrap();
        let groups = [
            (PAYERS, 0),
            (PROVERS, role::PROVER),
            (COORDINATORS, role::COORDINATOR),
            (CHALLENGERS, role::CHALLENGER),
            (JURORS, role::JUROR),
            (OUTSIDERS, 0),
        ];
        let mut cast = Vec::new();
        for (count, roles) in groups {
            for place in 0..count {
                let number = u8::try_from(cast.len()).unwrap() + 2;
                let many = roles == role::JUROR && place % 2 == 1;
                let stake = if many { 4 * STAKE } else { STAKE };
                join(&mut fork, number, roles, &key(number), stake);
                cast.push((roles, key(number), stake));
            }
        }
        Base { fork, cast }
    })
}

fn join(fork: &mut Fork, number: u8, roles: u32, key: &PrivateKeySigner, stake: u128) {
    let d = fork.deployment();
    let one = |to, input: Vec<u8>| Move {
        from: key.address(),
        to: Some(to),
        input: input.into(),
    };
    let mint = LabToken::mintCall {
        to: key.address(),
        amount: U256::from(1_u64 << 60),
    };
    let approve = LabToken::approveCall {
        spender: d.vault,
        value: U256::MAX,
    };
    let mut moves = vec![
        one(d.token, mint.abi_encode()),
        one(d.token, approve.abi_encode()),
    ];
    if roles != 0 {
        let register = Participants::registerCall {
            roles,
            networkKey: [number; 32].into(),
            crossSignature: [number; 64].into(),
            operator: [number; 32].into(),
            endpoint: format!("10.0.0.{number}:7000"),
            maxBps: CLAIM,
            stake,
        };
        moves.push(one(d.participants, register.abi_encode()));
    }
    let effects = fork.block(START - 100, &moves).unwrap();
    assert!(effects.iter().all(|e| e.done));
}

impl World {
    /// Who plays, and how honestly.
    pub(crate) fn cast(&mut self) {
        let calm = self.bent.calm;
        let dice = &mut self.dice;
        let f = if calm { 1 } else { dice.between(1, 3) };
        let least = u8::try_from(3 * f + 1).unwrap().max(8);
        let challengers = if calm {
            8
        } else {
            u8::try_from(dice.between(least.into(), CHALLENGERS.into())).unwrap()
        };
        let liars = if calm { 0 } else { dice.between(0, f) };
        // Two lying jurors of five and two absent ones would be a majority of those who vote.
        let lying_jurors = if calm {
            0
        } else {
            1 + u64::from(self.faults.crash_every_ns == 0)
        };
        let sender = [
            Sender::Silent,
            Sender::Fast,
            Sender::Slow,
            Sender::Smuggler,
            Sender::Twice,
        ];
        let mut seen = BTreeMap::new();
        for (roles, signer, _) in &base().cast {
            let place: &mut u64 = seen.entry(*roles).or_default();
            let number = self.actors.len();
            let role = match *roles {
                0 if number < usize::from(PAYERS) => Role::Payer {
                    slanders: !calm && dice.chance(200),
                },
                role::PROVER => Role::Prover {
                    twice: !calm && dice.chance(150),
                },
                role::COORDINATOR => Role::Coordinator(match dice.between(0, 11) {
                    _ if calm => Keeper::Honest,
                    0 => Keeper::Mute,
                    1 | 2 => Keeper::Censor,
                    3 => Keeper::Forger,
                    _ => Keeper::Honest,
                }),
                role::CHALLENGER if *place < liars => Role::Challenger(sender[dice.pick(5)]),
                role::CHALLENGER => Role::Challenger(Sender::Honest),
                role::JUROR => Role::Juror {
                    lies: *place < lying_jurors,
                },
                _ => Role::Outsider,
            };
            *place += 1;
            let idle = *roles == role::CHALLENGER && *place > challengers.into();
            let actor = Actor {
                number,
                address: signer.address(),
                signer: signer.clone(),
                role,
                drift: if calm {
                    Drift {
                        offset_ns: 0,
                        ppm: 0,
                    }
                } else {
                    Drift::throw(dice)
                },
                up: !idle,
                life: 0,
                absences: Vec::new(),
                disk: Disk::default(),
                sent: BTreeMap::new(),
                floods: BTreeMap::new(),
            };
            if matches!(role, Role::Prover { .. }) {
                self.links
                    .insert(actor.address, dice.between(80_000_000, 1_300_000_000));
            }
            self.numbers.insert(actor.address, number);
            self.actors.push(Some(actor));
        }
        self.plan_asks(f, challengers.into());
    }

    fn plan_asks(&mut self, f: u64, challengers: u64) {
        for payer in 0..usize::from(PAYERS) {
            let count = if self.bent.calm {
                u64::from(payer == 0)
            } else {
                self.dice.between(1, 2)
            };
            for _ in 0..count {
                let prover = usize::from(PAYERS) + self.dice.pick(PROVERS.into());
                let coordinator =
                    usize::from(PAYERS + PROVERS) + self.dice.pick(COORDINATORS.into());
                let dice = &mut self.dice;
                let calm = self.bent.calm;
                let n = if !calm && dice.chance(60) {
                    challengers + 1
                } else {
                    dice.between(3 * f + 1, (3 * f + 4).min(challengers))
                };
                let request = Request {
                    payer: self.address(payer),
                    prover: self.address(prover),
                    coordinator: self.address(coordinator),
                    claimBps: if calm {
                        60_000_000
                    } else {
                        self.dice.between(60_000_000, CLAIM)
                    },
                    direction: 0,
                    n: u16::try_from(n).unwrap(),
                    f: u16::try_from(f).unwrap(),
                    durationMs: DURATION_MS,
                    packetBytes: 1_500,
                    pricePerByte: 3,
                    deadline: 0,
                };
                let ask = Ask {
                    after_s: 40 + self.dice.between(0, 60),
                    request,
                    asked: false,
                };
                self.actors[payer].as_mut().unwrap().disk.asks.push(ask);
            }
        }
    }
}
