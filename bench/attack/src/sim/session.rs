//! The four machines of a proof on virtual time: the session's log, who reads it, who ticks when.
//!
//! ```text
//!  coordinator ◄─ log ─► prover, challengers 0 … n−1      at once: it is not what is measured
//!       clock ─► event ─► flood (data) · control (probes, commitment) · tick
//! ```
//!
//! Claim: everybody but the corrupt is the product's own machine, fed with what it would hear. Not
//! promised: anything about the control plane's own delays. Tests: `sim`'s.

use std::collections::BTreeMap;

use plumbline_proof::backhaul::challenger::{Challenger, ChallengerAction, Secrets};
use plumbline_proof::backhaul::coordinator::{Coordinator, CoordinatorAction};
use plumbline_proof::backhaul::keystream::Train;
use plumbline_proof::backhaul::messages::{
    Abort, Commit, Notice, Report, SeedCommitment, Settlement, Statement,
};
use plumbline_proof::backhaul::prover::{Prover, ProverAction};
use plumbline_proof::backhaul::record::Refusal;
use plumbline_trust::encoding::Digest;
use plumbline_trust::identity::{NetworkKey, Signed};
use plumbline_trust::session::Ephemeral;
use plumbline_wire::header::HEADER_LEN;

use super::cast::{self, COORDINATOR, PROVER, Person};
use super::chance::Chance;
use super::clock::{BEGIN_NS, Clock, Event};
use super::flood::Sender;
use super::gate::{Gate, Word};
use super::link::Link;
use super::play::Play;
use super::world::{MS, World};
use crate::switch::Attack;

/// What a run's secrets are derived for, so that a seed gives the same run again.
const SEED: &str = "plumbline attack simulation seed v1";
const EPHEMERAL: &str = "plumbline attack simulation ephemeral v1";

/// Everybody looks at the time at least so often, ns: a fifth of what the machines ask for.
const TICK_NS: u64 = 10 * MS;
/// A run that has no judgement by then has none, ns: more than all steps' time-outs together, and the
/// contract's deadline is not earlier.
const LIMIT_NS: u64 = 30_000 * MS;

/// Leaves that are made at once.
const LEAVES: u64 = 64;

/// There is no chain: settlement signatures are bytes.
pub(super) struct NoChain;
impl Settlement for NoChain {
    fn sign_begin(&self, _: &Notice, _: &SeedCommitment) -> Vec<u8> {
        vec![0]
    }
    fn sign_commit(&self, _: &Notice, _: &Commit) -> Vec<u8> {
        vec![1]
    }
    fn sign_report(&self, _: &Notice, _: &Report) -> Vec<u8> {
        vec![2]
    }
}

/// One challenger and what the world knows of it.
pub(super) struct Party {
    pub(super) person: &'static Person,
    pub(super) machine: Challenger,
    /// What its packets are made from.
    pub(super) seed: [u8; 32],
    train: Option<Box<Train>>,
    /// Leaves of its packets, as far as they were asked for.
    leaves: Vec<Digest>,
    pub(super) flood: Option<plumbline_proof::backhaul::challenger::Flood>,
    /// One way to the prover, ns.
    pub(super) delay_ns: u64,
    /// When it heard the commitment.
    pub(super) stopped_ns: Option<u64>,
    wake_ns: u64,
}

impl Party {
    /// Leaf of its packet `number`.
    pub(super) fn leaf(&mut self, number: u64) -> Option<Digest> {
        let at = usize::try_from(number).ok()?;
        while self.leaves.len() <= at {
            let from = self.leaves.len() as u64;
            let next: Vec<u64> = (from..from + LEAVES).collect();
            self.leaves.extend(self.train.as_mut()?.leaves(&next));
        }
        self.leaves.get(at).copied()
    }
}

/// What each challenger says first, by index.
pub(super) type FirstWords = Vec<(usize, Vec<ChallengerAction>)>;

/// How the virtual part of a run ended.
pub(super) enum End {
    /// The coordinator judges.
    Judge,
    /// Nothing more comes: the contract's deadline refunds.
    Expired(String),
}

/// One run.
pub(super) struct Session {
    pub(super) world: World,
    pub(super) play: Play,
    pub(super) chance: Chance,
    pub(super) clock: Clock,
    pub(super) challenge: Digest,
    pub(super) coordinator: Coordinator,
    pub(super) prover: Prover,
    pub(super) parties: Vec<Party>,
    pub(super) senders: Vec<Sender>,
    pub(super) link: Link,
    pub(super) gate: Option<Gate>,
    pub(super) word: Option<Word>,
    pub(super) t0_ns: Option<u64>,
    /// When the Start was said, and T0.
    started: Option<(u64, u64)>,
    /// Data packets that were sent, that the way lost, and that are on it.
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) on_the_way: u64,
    /// What was refused, dropped or failed, by name.
    pub(super) met: BTreeMap<String, u64>,
    /// How far each challenger, and last the prover, has read the log.
    read: Vec<usize>,
    pub(super) end: Option<End>,
}

impl Session {
    /// Opens a session, and everybody says what it says first; `Err` says why nobody takes part.
    pub(super) fn open(world: &World, play: Play, seed: u64) -> Result<Self, Refusal> {
        let mut chance = Chance::new(seed);
        let mut notice = cast::notice(world.terms, &mut chance);
        if play.is(Attack::SwappedChallengers) {
            notice = cast::swapped(notice);
        }
        let (mut session, words) = Self::set(world, play, chance, &notice, &notice)?;
        for (index, said) in words {
            session.challenger_acts(index, said);
        }
        Ok(session)
    }

    /// The machines on a notice, and what each challenger says first. Challengers whose registration is refused
    /// there go by `theirs`.
    pub(super) fn set(
        world: &World,
        play: Play,
        mut chance: Chance,
        notice: &Notice,
        theirs: &Notice,
    ) -> Result<(Self, FirstWords), Refusal> {
        let first = Statement::Notice(Signed::new(&COORDINATOR.key, notice));
        let other = Statement::Notice(Signed::new(&COORDINATOR.key, theirs));
        // Whoever is named looks at the notice: a prover first, then each challenger.
        let (data, control) = play.prover_addresses();
        let secret = |key: &NetworkKey, what| key.derive(what, &notice.challenge);
        let ephemeral = Ephemeral::from_secret(secret(&PROVER.key, EPHEMERAL));
        let prover = Prover::new(&first, &PROVER.key, ephemeral, data, control, BEGIN_NS)?;
        let mut parties = Vec::with_capacity(notice.challengers.len());
        let mut words = Vec::new();
        for (index, member) in notice.challengers.iter().enumerate() {
            let Some(person) = cast::challenger(&member.address) else {
                continue;
            };
            let (data, control) = (cast::data_of(index), cast::control_of(index));
            let spread = world.network.delay_ns * u64::from(world.network.spread_percent) / 100;
            let delay_ns = (world.network.delay_ns - spread) + chance.below(2 * spread + 1);
            let on = if theirs.challengers[index] == *member {
                &first
            } else {
                &other
            };
            let seed = secret(&person.key, SEED);
            let secrets = Secrets::new(seed, secret(&person.key, EPHEMERAL));
            let (machine, said) = Challenger::new(on, &person.key, secrets, data, control)?;
            words.push((index, said));
            parties.push(Party {
                person,
                machine,
                seed,
                train: None,
                leaves: Vec::new(),
                flood: None,
                delay_ns,
                stopped_ns: None,
                wake_ns: 0,
            });
        }
        let network = &world.network;
        let session = Self {
            read: vec![1; parties.len() + 1],
            coordinator: Coordinator::new(&COORDINATOR.key, notice)?,
            challenge: notice.challenge,
            prover,
            parties,
            senders: Vec::new(),
            link: Link::new(network.rate_bps, network.queue_bytes, network.bucket),
            gate: None,
            word: None,
            t0_ns: None,
            started: None,
            sent: 0,
            lost: 0,
            on_the_way: 0,
            met: BTreeMap::new(),
            end: None,
            clock: Clock::new(),
            world: world.clone(),
            play,
            chance,
        };
        Ok((session, words))
    }

    /// Lives until the coordinator judges or nothing more can come.
    pub(super) fn live(&mut self) -> End {
        self.live_and(&mut |_| {})
    }

    /// The same; `between` any two events somebody may meddle.
    pub(super) fn live_and(&mut self, between: &mut dyn FnMut(&mut Self)) -> End {
        self.clock.plan(0, Event::Tick);
        if self.world.network.cross.is_some() {
            self.clock.plan(0, Event::Cross);
        }
        loop {
            if let Some(end) = self.end.take() {
                return end;
            }
            match self.clock.advance() {
                Some(event) if self.clock.now < BEGIN_NS + LIMIT_NS => {
                    self.happens(event);
                    between(self);
                }
                _ => return End::Expired("nobody said anything more".into()),
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Wake(index) => self.challenger_ticks(index),
            Event::Send(sender) => self.sends(sender),
            Event::Cross => self.cross(),
            Event::ControlSent(index, bytes) => self.control_sent(index, bytes),
            Event::ControlArrives(index, bytes) => self.control_arrives(index, bytes),
            Event::DataArrives(data) => self.data_arrives(data),
            Event::Answer(index, bytes) => self.answered(index, &bytes),
            Event::Start => self.rush(),
            Event::Commit => self.commits(),
            Event::Repeat => self.repeats(),
        }
    }

    /// Counts something that was met.
    pub(super) fn meet(&mut self, what: &str) {
        *self.met.entry(what.to_owned()).or_default() += 1;
    }

    fn tick(&mut self) {
        let now = self.clock.now;
        self.clock.plan(now + TICK_NS, Event::Tick);
        if !self.play.mute(self.gate.is_some()) {
            let actions = self.prover.tick(&PROVER.key, now);
            self.prover_acts(actions);
        }
        self.drained();
        for index in 0..self.parties.len() {
            self.challenger_ticks(index);
        }
        let actions = self.coordinator.tick(now);
        self.coordinator_acts(actions);
        self.pump();
    }

    fn silent(&self, index: usize) -> bool {
        let seeds = &self.coordinator.record().seeds;
        let spoke = seeds.get(index).is_some_and(Option::is_some);
        spoke && self.play.silent(index, false)
    }

    fn challenger_ticks(&mut self, index: usize) {
        if self.silent(index) {
            return;
        }
        let now = self.clock.now;
        let Some(party) = self.parties.get_mut(index) else {
            return;
        };
        let actions = party.machine.tick(&party.person.key, &NoChain, now);
        let wake = party.machine.wake_ns();
        if wake > now && wake != party.wake_ns {
            party.wake_ns = wake;
            self.clock.plan(wake, Event::Wake(index));
        }
        let said = !actions.is_empty();
        self.challenger_acts(index, actions);
        if said {
            self.pump();
        }
    }

    /// Puts a statement in the log, if the coordinator takes it.
    pub(super) fn publish(&mut self, statement: Statement) {
        match self.coordinator.hear(statement, self.clock.now) {
            Ok(actions) => self.coordinator_acts(actions),
            Err(refusal) => self.meet(refusal.code()),
        }
    }

    fn coordinator_acts(&mut self, actions: Vec<CoordinatorAction>) {
        for action in actions {
            match action {
                CoordinatorAction::Anchor(setup) => {
                    if let Err(refusal) = self.coordinator.anchored(&COORDINATOR.key, setup) {
                        self.meet(refusal.code());
                    }
                }
                CoordinatorAction::Judge => self.end = Some(End::Judge),
            }
        }
    }

    /// Everyone reads the log on, each at its own place, until nobody has anything to say.
    pub(super) fn pump(&mut self) {
        while let Some(who) = (0..self.read.len()).find(|who| self.may_read(*who)) {
            let line = self.coordinator.log().get(self.read[who]).cloned();
            self.read[who] += 1;
            if let Some(line) = line {
                self.hears(who, &line);
            }
        }
    }

    /// The log has a line that `who` has not read, and that has reached it.
    fn may_read(&self, who: usize) -> bool {
        let line = self.coordinator.log().get(self.read[who]);
        match (line, self.started) {
            (Some(Statement::Start(_)), Some((said_ns, t0_ns))) if who < self.parties.len() => {
                self.clock.now >= self.play.hears_start_ns(who, said_ns, t0_ns)
            }
            (line, _) => line.is_some(),
        }
    }

    fn hears(&mut self, who: usize, line: &Statement) {
        let now = self.clock.now;
        if who == self.parties.len() {
            if !self.play.mute(self.gate.is_some()) {
                let actions = self.prover.hear(&PROVER.key, line, now);
                self.prover_acts(actions);
            }
        } else if !self.silent(who) {
            let party = &mut self.parties[who];
            let actions = party.machine.hear(&party.person.key, line, now);
            self.challenger_acts(who, actions);
        }
    }

    pub(super) fn prover_acts(&mut self, actions: Vec<ProverAction>) {
        for action in actions {
            match action {
                ProverAction::Say(statement) => self.publish(statement),
                ProverAction::Open(opening) => {
                    self.gate = Some(Gate::open(&self.challenge, &self.world.terms, opening));
                }
                ProverAction::Arm { t0_ns, deadline_ns } => {
                    self.t0_ns = Some(t0_ns);
                    self.started = Some((self.clock.now, t0_ns));
                    self.clock.plan(t0_ns, Event::Start);
                    self.clock.plan(deadline_ns, Event::Commit);
                    if let Some(ns) = self.play.ends_ns() {
                        self.clock.plan(t0_ns + ns, Event::Commit);
                    }
                    self.outsiders(t0_ns);
                }
                ProverAction::Fail(why) => self.end = Some(End::Expired(why)),
            }
        }
    }

    pub(super) fn challenger_acts(&mut self, index: usize, actions: Vec<ChallengerAction>) {
        if self.silent(index) {
            return;
        }
        for action in actions {
            match action {
                ChallengerAction::Say(Statement::Report(_)) if self.play.silent(index, true) => {}
                ChallengerAction::Say(statement) => {
                    let ready = matches!(statement, Statement::Ready(_));
                    let said = self.misreported(index, statement);
                    self.publish(said);
                    if ready && self.play.commits(Attack::ReadyThenAbort, index) {
                        let abort = Abort::new(&self.challenge, u16::try_from(index).ok(), "no");
                        let key = &self.parties[index].person.key;
                        self.publish(Statement::Abort(Signed::new(key, &abort)));
                    }
                }
                ChallengerAction::Prepare(train, _) => {
                    let party = &mut self.parties[index];
                    party.machine.prepared();
                    party.train = Some(train);
                }
                ChallengerAction::Send(to, bytes) => {
                    if to != cast::prover_control() {
                        self.meet("probed_a_stranger");
                    } else if let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() {
                        self.control(index, *bytes);
                    }
                }
                ChallengerAction::Flood(flood) => self.floods(index, flood),
                ChallengerAction::Stop => self.stops(index),
                // Worlds are towards the prover.
                ChallengerAction::Count(_) => {}
                ChallengerAction::Done => {}
                ChallengerAction::Fail(why) => self.meet(&format!("challenger failed: {why}")),
            }
        }
    }

    /// What challenger `index` really says: a liar signs another report.
    fn misreported(&self, index: usize, statement: Statement) -> Statement {
        if let Statement::Report(signed) = &statement
            && let Ok(honest) = signed.open::<Report>()
            && let Some(lie) = self.play.report(index, &honest)
        {
            return Statement::Report(Signed::new(&self.parties[index].person.key, &lie));
        }
        statement
    }
}
