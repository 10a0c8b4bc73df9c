//! One run: the cast, the agenda, and what goes wrong.

use std::collections::BTreeMap;
use std::rc::Rc;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::{Eip712Domain, SolCall};
use plumbline_contracts::{Deployment, domain};

use crate::actors::{Actor, Role};
use crate::clock::{Agenda, Dice, SECOND};
use crate::invariants;
use crate::ledger::{Index, Ledger, Tx};
use crate::network::{Faults, Message};
use crate::roles;
use crate::stage::{START, TERM_S, base};
use crate::tally::Tally;

/// True time after which a run that has not ended is stuck.
const STUCK_NS: u64 = 6_000 * SECOND;
/// How many crashes take half of the challengers, and for how many seconds at most.
const OUTAGE_PERMILLE: u64 = 200;
const OUTAGE_S: u64 = 120;
/// Longest that a juror is down, seconds: longer than both windows of a case together.
const LONGEST_S: u64 = 600;
/// How often a crash comes right after something was signed and said.
const STUMBLES_PERMILLE: u64 = 20;
/// Transactions that one block takes.
const BLOCK_TXS: usize = 40;

/// What can be planned.
enum Event {
    Tick {
        actor: usize,
        life: u32,
    },
    Arrives {
        actor: usize,
        message: Message,
    },
    Counted {
        actor: usize,
        life: u32,
        id: B256,
    },
    Enters(Tx),
    Block,
    Crash,
    /// This very actor crashes.
    Down {
        actor: usize,
    },
    Restart {
        actor: usize,
    },
}

/// What a run is made of, besides its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bent {
    /// No faults, no liars, one request.
    pub(crate) calm: bool,
    /// Actors act on the newest block instead of a final one: must be caught.
    pub(crate) eager: bool,
    /// Everyone forgets in a crash what it signed: must be caught.
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
    pub(crate) actors: Vec<Option<Actor>>,
    pub(crate) numbers: BTreeMap<Address, usize>,
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
        let faults = if bent.calm {
            Faults::NONE
        } else {
            Faults::throw(&mut dice)
        };
        let index = Index {
            number: fork.height(),
            time: fork.time(),
            stake: base()
                .cast
                .iter()
                .filter(|c| c.0 != 0)
                .map(|c| (c.1.address(), c.2))
                .collect(),
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

    pub(crate) fn address(&self, number: usize) -> Address {
        self.actor(number).address
    }

    pub(crate) fn who(&self, address: Address) -> Option<&Actor> {
        self.numbers.get(&address).map(|n| self.actor(*n))
    }

    /// The chain as somebody sees it who acts on it irrevocably.
    pub(crate) fn view(&self) -> Rc<Index> {
        if self.bent.eager {
            self.ledger.head()
        } else {
            self.ledger.settled()
        }
    }

    /// True time as a unix second.
    pub(crate) fn unix(&self) -> u64 {
        START + self.now / SECOND
    }

    fn mark(&mut self, values: &[u64]) {
        for value in values {
            self.trace = (self.trace ^ value)
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(23);
        }
    }

    /// Says something to `to`, which may hear it once, twice, later or never.
    pub(crate) fn say(&mut self, to: Address, message: &Message) {
        let actor = self.numbers[&to];
        let copies = self.faults.travel(&mut self.dice);
        self.tally.lost += u64::from(copies.is_empty());
        for delay in copies {
            let message = message.clone();
            self.agenda
                .at(self.now + delay, Event::Arrives { actor, message });
        }
    }

    /// Tells the prover when its flood is over.
    pub(crate) fn count_later(&mut self, a: &Actor, id: B256) {
        let event = Event::Counted {
            actor: a.number,
            life: a.life,
            id,
        };
        self.agenda.at(self.now + 9 * SECOND, event);
    }

    /// Sends a transaction unless the same was sent just now, or would be refused on the newest block;
    /// whether it would be.
    pub(crate) fn send<C: SolCall>(
        &mut self,
        a: &mut Actor,
        what: &'static str,
        to: Address,
        call: &C,
    ) -> bool {
        let input = call.abi_encode();
        let key = keccak256([to.as_slice(), &input].concat());
        let clock = a.drift.shows(self.now);
        if a.sent.get(&key).is_some_and(|at| clock < at + 10 * SECOND) {
            return false;
        }
        a.sent.insert(key, clock);
        let tx = Tx {
            what,
            from: a.address,
            to,
            input: input.into(),
        };
        let time = START + clock / SECOND;
        if self.ledger.fork().call(time, &tx.as_move()).is_err() {
            self.tally.refused += 1;
            return true;
        }
        for delay in self.faults.travel(&mut self.dice) {
            self.agenda.at(self.now + delay, Event::Enters(tx.clone()));
        }
        false
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
            Event::Down { actor } => self.down(actor, 30),
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
            let input = U256::from_be_bytes(keccak256(&tx.input).0);
            self.mark(&input.into_limbs());
        }
        let before = self.ledger.head();
        let made = self.ledger.make(self.unix(), chosen)?;
        self.tally.blocks += 1;
        self.tally.transactions += made.included;
        self.tally.reverted += made.reverted;
        self.mark(&[
            self.now,
            made.included,
            made.reverted,
            self.ledger.head().number,
        ]);
        invariants::after_a_block(self, &before)?;
        let next = self.now + self.dice.between(SECOND, 7 * SECOND);
        self.agenda.at(next, Event::Block);
        Ok(())
    }

    /// Somebody goes down; now and then half of all challengers at once.
    fn crash(&mut self) {
        let outage = self.dice.chance(OUTAGE_PERMILLE);
        if outage {
            for actor in self.numbers_of(|r| matches!(r, Role::Challenger(_))) {
                if self.dice.chance(500) {
                    self.down(actor, OUTAGE_S);
                }
            }
        } else if self.dice.chance(300) {
            let longest = if self.dice.chance(600) { LONGEST_S } else { 30 };
            let jurors = self.numbers_of(|r| matches!(r, Role::Juror { .. }));
            let actor = jurors[self.dice.pick(jurors.len())];
            self.down(actor, longest);
        } else {
            let longest = if self.dice.chance(150) { 300 } else { 30 };
            let actor = self.dice.pick(self.actors.len());
            self.down(actor, longest);
        }
        let every = self.faults.crash_every_ns;
        let next = self.now + self.dice.between(every / 2, every * 3 / 2);
        self.agenda.at(next, Event::Crash);
    }

    /// Whether `a` crashes right now, in the middle of what it does: nothing it says after that is heard.
    pub(crate) fn stumbles(&mut self, a: &Actor) -> bool {
        let now = self.faults.crash_every_ns > 0 && self.dice.chance(STUMBLES_PERMILLE);
        if now {
            self.agenda.at(self.now, Event::Down { actor: a.number });
        }
        now
    }

    fn numbers_of(&self, wanted: impl Fn(Role) -> bool) -> Vec<usize> {
        self.actors()
            .filter(|a| wanted(a.role))
            .map(|a| a.number)
            .collect()
    }

    /// `actor` is gone for up to `longest` seconds.
    fn down(&mut self, actor: usize, longest: u64) {
        if !self.actor(actor).up {
            return;
        }
        let now = self.now;
        let forgetful = self.bent.forgetful;
        let a = self.actors[actor].as_mut().unwrap();
        a.crash(now);
        if forgetful {
            for session in a.disk.sessions.values_mut() {
                (session.started, session.commit, session.report) = (false, None, None);
            }
        }
        self.tally.crashes += 1;
        self.mark(&[now, actor as u64]);
        let back = now + self.dice.between(SECOND, longest * SECOND);
        self.agenda.at(back, Event::Restart { actor });
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
                || (ask.asked && settled.jobs.values().any(|j| j.request == ask.request))
        });
        asked
            && settled.jobs.values().all(|j| j.state.is_over())
            && settled.trials.values().all(|t| t.concluded)
            && settled.owed.values().all(|o| *o == 0)
            && self.ledger.head().jobs.len() == settled.jobs.len()
            && self.ledger.head().trials.len() == settled.trials.len()
    }
}
