//! One run: the cast, the agenda, and what goes wrong.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::OnceLock;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolCall};
use plumbline::chain::Genesis;
use plumbline::chain::client::role;
use plumbline::chain::embedded::{Fork, Move};
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::{Deployment, Parameters, domain};

use crate::actors::{Actor, Ask, Disk, Keeper, Role, Sender};
use crate::clock::{Agenda, Dice, Drift, SECOND};
use crate::invariants;
use crate::ledger::{Index, Ledger, Tx};
use crate::network::{Faults, Message};
use crate::roles;
use crate::tally::Tally;

/// Unix second at which every run begins.
pub(crate) const START: u64 = 1_700_000_000;
/// Stake of everyone but some jurors.
pub(crate) const STAKE: u128 = 1_000;
/// Highest claim of a prover, bit/s.
const CLAIM: u64 = 960_000_000;
/// Duration of the floods, ms.
const DURATION_MS: u32 = 100;
/// Seconds from asking to the deadline: six steps, each final after some 30 s.
pub(crate) const TERM_S: u64 = 320;
/// True time after which a run that has not ended is stuck.
const STUCK_NS: u64 = 3_000 * SECOND;
/// Transactions that one block takes.
const BLOCK_TXS: usize = 40;

/// Chain variables of all runs.
pub(crate) fn parameters() -> Parameters {
    Parameters {
        min_stake: STAKE,
        unbonding_s: 1_200,
        live_interval_s: 120,
        coordinator_fee: 77,
        dispute_window_s: 150,
        jury_draw_s: 120,
        jury_commit_s: 90,
        jury_reveal_s: 90,
        ..Parameters::default()
    }
}

const PAYERS: u8 = 2;
const PROVERS: u8 = 2;
const COORDINATORS: u8 = 3;
const CHALLENGERS: u8 = 30;
const JURORS: u8 = 9;
const OUTSIDERS: u8 = 2;

/// The chain on which everyone is registered, made once.
struct Base {
    fork: Fork,
    cast: Vec<(u32, PrivateKeySigner, u128)>,
}

fn base() -> &'static Base {
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
    let mint = LabToken::mintCall { to: key.address(), amount: U256::from(1_u64 << 60) };
    let approve = LabToken::approveCall { spender: d.vault, value: U256::MAX };
    let mut moves = vec![one(d.token, mint.abi_encode()), one(d.token, approve.abi_encode())];
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

/// What can be planned.
enum Event {
    Tick { actor: usize, life: u32 },
    Arrives { actor: usize, message: Message },
    Counted { actor: usize, life: u32, id: B256 },
    Enters(Tx),
    Block,
    Crash,
    Restart { actor: usize },
}

/// What a run is made of, besides its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bent {
    /// No faults, no liars, one request.
    pub(crate) calm: bool,
    /// Actors act on the newest block instead of a final one: must be caught.
    pub(crate) eager: bool,
    /// Challengers forget in a crash what they signed: must be caught.
    pub(crate) forgetful: bool,
}

/// A run.
pub(crate) struct World {
    pub(crate) bent: Bent,
    pub(crate) now: u64,
    pub(crate) dice: Dice,
    pub(crate) faults: Faults,
    agenda: Agenda<Event>,
    pub(crate) ledger: Ledger,
    pub(crate) d: Deployment,
    pub(crate) domain: Eip712Domain,
    actors: Vec<Option<Actor>>,
    numbers: BTreeMap<Address, usize>,
    /// Of each prover, bit/s.
    pub(crate) links: BTreeMap<Address, u64>,
    /// What the pure verifier says of a bundle: whether its coordinator cheated.
    pub(crate) truth: BTreeMap<B256, bool>,
    pub(crate) tally: Tally,
    pub(crate) trace: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bent: Bent) -> Self {
        let mut dice = Dice::new(seed);
        let fork = base().fork.clone();
        let d = fork.deployment();
        let faults = if bent.calm { Faults::NONE } else { Faults::throw(&mut dice) };
        let index = Index {
            number: fork.height(),
            time: fork.time(),
            stake: base().cast.iter().filter(|c| c.0 != 0).map(|c| (c.1.address(), c.2)).collect(),
            ..Index::default()
        };
        let mut world = Self {
            bent,
            now: 0,
            faults,
            agenda: Agenda::new(),
            ledger: Ledger::new(fork, index),
            d,
            domain: domain(d.chain_id, d.backhaul),
            actors: Vec::new(),
            numbers: BTreeMap::new(),
            links: BTreeMap::new(),
            truth: BTreeMap::new(),
            tally: Tally::default(),
            trace: seed,
            dice,
        };
        world.cast();
        world.open();
        world
    }

    /// Who plays, and how honestly.
    fn cast(&mut self) {
        let calm = self.bent.calm;
        let dice = &mut self.dice;
        let f = if calm { 1 } else { dice.between(1, 3) };
        let least = u8::try_from(3 * f + 1).unwrap().max(8);
        let challengers = if calm { 8 } else { u8::try_from(dice.between(least.into(), CHALLENGERS.into())).unwrap() };
        let liars = if calm { 0 } else { dice.between(0, f) };
        // Two lying jurors of five and two absent ones would be a majority of those who vote.
        let lying_jurors = if calm { 0 } else { 1 + u64::from(self.faults.crash_every_ns == 0) };
        let sender = [Sender::Silent, Sender::Fast, Sender::Slow, Sender::Smuggler, Sender::Twice];
        let mut seen = BTreeMap::new();
        for (roles, signer, _) in &base().cast {
            let place: &mut u64 = seen.entry(*roles).or_default();
            let number = self.actors.len();
            let role = match *roles {
                0 if number < usize::from(PAYERS) => Role::Payer { slanders: !calm && dice.chance(200) },
                role::PROVER => Role::Prover { twice: !calm && dice.chance(150) },
                role::COORDINATOR => Role::Coordinator(match dice.between(0, 11) {
                    _ if calm => Keeper::Honest,
                    0 => Keeper::Mute,
                    1 | 2 => Keeper::Censor,
                    3 => Keeper::Forger,
                    _ => Keeper::Honest,
                }),
                role::CHALLENGER if *place < liars => Role::Challenger(sender[dice.pick(5)]),
                role::CHALLENGER => Role::Challenger(Sender::Honest),
                role::JUROR => Role::Juror { lies: *place < lying_jurors },
                _ => Role::Outsider,
            };
            *place += 1;
            let idle = *roles == role::CHALLENGER && *place > challengers.into();
            let actor = Actor {
                number,
                address: signer.address(),
                signer: signer.clone(),
                role,
                drift: if calm { Drift { offset_ns: 0, ppm: 0 } } else { Drift::throw(dice) },
                up: !idle,
                life: 0,
                absences: Vec::new(),
                disk: Disk::default(),
                sent: BTreeMap::new(),
                floods: BTreeMap::new(),
            };
            if matches!(role, Role::Prover { .. }) {
                self.links.insert(actor.address, dice.between(80_000_000, 1_300_000_000));
            }
            self.numbers.insert(actor.address, number);
            self.actors.push(Some(actor));
        }
        self.plan_asks(f, challengers.into());
    }

    fn plan_asks(&mut self, f: u64, challengers: u64) {
        for payer in 0..usize::from(PAYERS) {
            let count = if self.bent.calm { u64::from(payer == 0) } else { self.dice.between(1, 2) };
            for nonce in 0..count {
                let prover = usize::from(PAYERS) + self.dice.pick(PROVERS.into());
                let coordinator = usize::from(PAYERS + PROVERS) + self.dice.pick(COORDINATORS.into());
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
                    claimBps: if calm { 60_000_000 } else { self.dice.between(60_000_000, CLAIM) },
                    direction: 0,
                    n: u16::try_from(n).unwrap(),
                    f: u16::try_from(f).unwrap(),
                    durationMs: DURATION_MS,
                    pricePerByte: 3,
                    deadline: 0,
                    nonce,
                };
                let ask = Ask {
                    after_s: 40 + self.dice.between(0, 60),
                    request,
                    asked: false,
                    cancel: !calm && self.dice.chance(60),
                };
                self.actors[payer].as_mut().unwrap().disk.asks.push(ask);
            }
        }
    }

    fn open(&mut self) {
        for actor in 0..self.actors.len() {
            if self.actor(actor).up {
                let at = self.dice.between(0, 5 * SECOND);
                self.agenda.at(at, Event::Tick { actor, life: 0 });
            }
        }
        self.agenda.at(SECOND, Event::Block);
        if self.faults.crash_every_ns > 0 {
            self.agenda.at(self.faults.crash_every_ns, Event::Crash);
        }
    }

    pub(crate) fn actor(&self, number: usize) -> &Actor {
        self.actors[number].as_ref().unwrap()
    }

    pub(crate) fn actors(&self) -> impl Iterator<Item = &Actor> {
        self.actors.iter().flatten()
    }

    fn address(&self, number: usize) -> Address {
        self.actor(number).address
    }

    pub(crate) fn who(&self, address: Address) -> Option<&Actor> {
        self.numbers.get(&address).map(|n| self.actor(*n))
    }

    /// The chain as somebody sees it who acts on it irrevocably.
    pub(crate) fn view(&self) -> Rc<Index> {
        if self.bent.eager { self.ledger.head() } else { self.ledger.settled() }
    }

    /// True time as a unix second.
    pub(crate) fn unix(&self) -> u64 {
        START + self.now / SECOND
    }

    fn mark(&mut self, values: &[u64]) {
        for value in values {
            self.trace = (self.trace ^ value).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
    }

    /// Says something to `to`, which may hear it once, twice, later or never.
    pub(crate) fn say(&mut self, to: Address, message: &Message) {
        let actor = self.numbers[&to];
        let copies = self.faults.travel(&mut self.dice);
        self.tally.lost += u64::from(copies.is_empty());
        for delay in copies {
            let message = message.clone();
            self.agenda.at(self.now + delay, Event::Arrives { actor, message });
        }
    }

    /// Tells the prover when its flood is over.
    pub(crate) fn count_later(&mut self, a: &Actor, id: B256) {
        let event = Event::Counted { actor: a.number, life: a.life, id };
        self.agenda.at(self.now + 9 * SECOND, event);
    }

    /// Sends a transaction unless the same was sent just now, or would be refused on the newest block.
    pub(crate) fn send<C: SolCall>(&mut self, a: &mut Actor, what: &'static str, to: Address, call: &C) -> bool {
        let input = call.abi_encode();
        let key = keccak256([to.as_slice(), &input].concat());
        let clock = a.drift.shows(self.now);
        if a.sent.get(&key).is_some_and(|at| clock < at + 10 * SECOND) {
            return true;
        }
        a.sent.insert(key, clock);
        let tx = Tx { what, from: a.address, to, input: input.into() };
        let time = START + clock / SECOND;
        if self.ledger.fork().call(time, &tx.as_move()).is_err() {
            self.tally.refused += 1;
            return false;
        }
        for delay in self.faults.travel(&mut self.dice) {
            self.agenda.at(self.now + delay, Event::Enters(tx.clone()));
        }
        true
    }

    /// Runs until everything has ended, or an invariant does not hold.
    pub(crate) fn run(mut self) -> Result<(Tally, u64), String> {
        while let Some((time, event)) = self.agenda.pop() {
            self.now = time;
            if time > STUCK_NS {
                return Err(invariants::stuck(&self));
            }
            let ended = matches!(event, Event::Block);
            self.happen(event)?;
            if ended && self.is_over() {
                invariants::at_the_end(&mut self)?;
                self.tally.runs = 1;
                return Ok((self.tally, self.trace));
            }
        }
        Err("nothing is planned any more".into())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Tick { actor, life } => {
                if self.with(actor, life, roles::tick) {
                    let next = self.now + self.dice.between(2 * SECOND, 5 * SECOND);
                    self.agenda.at(next, Event::Tick { actor, life });
                }
            }
            Event::Arrives { actor, message } => {
                self.mark(&[self.now, actor as u64, message.tag()]);
                let life = self.actor(actor).life;
                self.with(actor, life, |a, w| roles::hear(a, w, message));
            }
            Event::Counted { actor, life, id } => {
                self.with(actor, life, |a, w| roles::counted(a, w, id));
            }
            Event::Enters(tx) => self.ledger.accept(tx),
            Event::Block => self.block()?,
            Event::Crash => self.crash(),
            Event::Restart { actor } => self.restart(actor),
        }
        Ok(())
    }

    fn with(&mut self, actor: usize, life: u32, act: impl FnOnce(&mut Actor, &mut Self)) -> bool {
        let mut a = self.actors[actor].take().unwrap();
        let alive = a.up && a.life == life;
        if alive {
            act(&mut a, self);
        }
        self.actors[actor] = Some(a);
        alive
    }

    fn block(&mut self) -> Result<(), String> {
        if self.dice.chance(self.faults.reorg_permille) && self.ledger.deepest() > 0 {
            let deepest = self.ledger.deepest() as u64;
            let depth = usize::try_from(self.dice.between(1, deepest)).unwrap();
            let lost = self.ledger.reorganise(depth)?;
            self.tally.reorg(depth);
            for tx in lost {
                if self.dice.chance(850) {
                    self.ledger.accept(tx);
                } else {
                    self.tally.forgotten += 1;
                }
            }
        }
        let mut pool = std::mem::take(&mut self.ledger.pool);
        self.dice.shuffle(&mut pool);
        let mut chosen = Vec::new();
        for tx in pool {
            if chosen.len() < BLOCK_TXS && (self.bent.calm || self.dice.chance(850)) {
                chosen.push(tx);
            } else {
                self.ledger.pool.push(tx);
            }
        }
        for tx in &chosen {
            let first = tx.input.get(..8).map_or(0, |b| u64::from_be_bytes(b.try_into().unwrap()));
            self.trace ^= first;
            *self.tally.sent.entry(tx.what).or_default() += 1;
        }
        let before = self.ledger.head();
        let made = self.ledger.make(self.unix(), chosen)?;
        self.tally.blocks += 1;
        self.tally.transactions += made.included;
        self.tally.reverted += made.reverted;
        self.mark(&[self.now, made.included, made.reverted, self.ledger.head().number]);
        invariants::after_a_block(self, &before)?;
        let next = self.now + self.dice.between(SECOND, 7 * SECOND);
        self.agenda.at(next, Event::Block);
        Ok(())
    }

    fn crash(&mut self) {
        let actor = self.dice.pick(self.actors.len());
        if self.actor(actor).up {
            let now = self.now;
            let forgetful = self.bent.forgetful;
            let a = self.actors[actor].as_mut().unwrap();
            a.crash(now);
            if forgetful && matches!(a.role, Role::Challenger(_)) {
                a.disk.sessions.clear();
            }
            self.tally.crashes += 1;
            self.mark(&[now, actor as u64]);
            let longest = if self.dice.chance(150) { 300 } else { 30 };
            let back = now + self.dice.between(SECOND, longest * SECOND);
            self.agenda.at(back, Event::Restart { actor });
        }
        let every = self.faults.crash_every_ns;
        let next = self.now + self.dice.between(every / 2, every * 3 / 2);
        self.agenda.at(next, Event::Crash);
    }

    fn restart(&mut self, actor: usize) {
        let now = self.now;
        let a = self.actors[actor].as_mut().unwrap();
        a.restart(now);
        let life = a.life;
        self.agenda.at(now, Event::Tick { actor, life });
    }

    /// Everything that anybody wanted has come to its end, for good.
    fn is_over(&self) -> bool {
        let settled = self.ledger.settled();
        let unix = settled.time;
        let asked = self.actors().flat_map(|a| &a.disk.asks).all(|ask| {
            let deadline = START + ask.after_s + TERM_S;
            unix > deadline + 10
                || (ask.asked && settled.jobs.values().any(|j| {
                    j.request.payer == ask.request.payer && j.request.nonce == ask.request.nonce
                }))
        });
        asked
            && settled.jobs.values().all(|j| j.state.is_over())
            && settled.trials.values().all(|t| t.concluded)
            && settled.owed.values().all(|o| *o == 0)
            && self.ledger.head().jobs.len() == settled.jobs.len()
            && self.ledger.head().trials.len() == settled.trials.len()
    }
}
