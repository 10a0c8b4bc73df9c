//! One session's machines on one modelled link, in a thread of its own.
//!
//! ```text
//!  lines, as hosts hear them ─► machines ─► statements, as hosts say them
//!                                  ▲
//!          clock: the real one, but it stands before T0 until everybody has heard the start
//!                                  │
//!                          agenda ─┴─ flood (challengers send) · gate (the prover counts, echoes, commits)
//! ```
//! Every stamp is the model's, so that a busy machine makes a session longer and no figure another. What it
//! does to a start that is heard late is not hidden: how early each was heard is kept
//! ([`Findings::leads`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use plumbline::clock;
use plumbline::role::node::{self, Node};
use plumbline_proof::backhaul::challenger::{Challenger, ChallengerAction, Secrets};
use plumbline_proof::backhaul::messages::{ChallengeId, Notice, Statement};
use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::prover::{Prover, ProverAction};
use plumbline_trust::session::Ephemeral;
use plumbline_trust::{Address, Digest};
use plumbline_wire::header::HEADER_LEN;
use tokio::sync::mpsc::UnboundedSender;

use super::flood::Sender;
use super::gate::{Gate, Word};
use super::host::Findings;
use super::link::{Agenda, Chance, Link, MS};

/// Everybody looks at the time at least so often, ns: a fifth of what the machines ask for.
const TICK_NS: u64 = 10 * MS;
/// Shortest way between a challenger and the prover, ns, and how much longer others are.
const WAY_NS: u64 = 2 * MS;
const WAY_SPREAD_NS: u64 = 6 * MS;
/// Who has not heard the start by then is not waited for: the coordinator gives up after as long.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Who takes part, and where its words go.
pub(crate) struct Seat {
    pub(crate) node: Arc<Node>,
    pub(crate) who: Address,
    pub(crate) data: std::net::SocketAddr,
    pub(crate) control: std::net::SocketAddr,
    pub(crate) say: UnboundedSender<Statement>,
}

/// What a scene is told by its hosts.
pub(crate) enum Told {
    /// The prover is here, with the notice.
    Prover(Seat, Statement),
    /// A challenger is here.
    Challenger(Seat, Statement),
    /// Somebody heard a line of the log.
    Line(Address, Statement),
}

/// What happens on the link.
pub(crate) enum Event {
    Tick,
    /// A challenger has a probe to send.
    Wake(u16),
    /// The next packet of a sender reaches the link.
    Send(u16),
    /// A probe or acknowledgement reaches the link, then the prover.
    ControlSent(u16, [u8; HEADER_LEN]),
    ControlArrives(u16, [u8; HEADER_LEN]),
    /// A data packet reaches the prover: whose, and its number.
    DataArrives(u16, u64),
    /// The prover's datagram reaches a challenger.
    Answer(u16, Vec<u8>),
    /// The prover commits: it has all it wants, or its time is up.
    Commit,
    Repeat,
}

pub(crate) struct Party {
    pub(crate) seat: Seat,
    pub(crate) machine: Challenger,
    pub(crate) leaves: Vec<Digest>,
    pub(crate) way_ns: u64,
    pub(crate) sender: Option<Sender>,
    /// When it heard the commitment.
    pub(crate) stopped_ns: Option<u64>,
    wake_ns: u64,
    done: bool,
}

/// One session.
pub(crate) struct Scene {
    pub(crate) challenge: ChallengeId,
    pub(crate) terms: Terms,
    pub(crate) link: Link,
    pub(crate) chance: Chance,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) now_ns: u64,
    /// The clock stands here until everyone has heard the start; since when it waits.
    hold: Option<(u64, Instant)>,
    pub(crate) prover: Option<(Seat, Prover)>,
    pub(crate) parties: BTreeMap<u16, Party>,
    numbers: HashMap<Address, u16>,
    /// Whom the prover consented to.
    senders: Vec<u16>,
    pub(crate) gate: Option<Gate>,
    pub(crate) word: Option<Word>,
    findings: Arc<Findings>,
    over: bool,
}

impl Scene {
    /// An empty scene on an idle link of `rate_bps`.
    pub(crate) fn new(notice: &Notice, rate_bps: u64, seed: u64, findings: Arc<Findings>) -> Self {
        let own = notice
            .challenge
            .iter()
            .take(8)
            .fold(0, |n, b| n << 8 | u64::from(*b));
        let now_ns = clock::realtime_ns();
        let mut agenda = Agenda::new();
        agenda.plan(now_ns, Event::Tick);
        Self {
            challenge: notice.challenge,
            terms: notice.terms,
            link: Link::new(rate_bps),
            chance: Chance::new(seed ^ own),
            agenda,
            now_ns,
            hold: None,
            prover: None,
            parties: BTreeMap::new(),
            numbers: HashMap::new(),
            senders: Vec::new(),
            gate: None,
            word: None,
            findings,
            over: false,
        }
    }

    /// Lives until everyone is done; then nobody's words are waited for any more.
    pub(crate) fn live(mut self, told: &Receiver<Told>) {
        while !self.over {
            self.advance();
            let next = self.agenda.next_ns().unwrap_or(0).max(self.now_ns);
            let wait = Duration::from_nanos(next.saturating_sub(clock::realtime_ns()));
            // A clock that stands goes on with a line; it looks at its own patience as often as at all.
            let wait = self.hold.map_or(wait, |_| Duration::from_nanos(TICK_NS));
            match told.recv_timeout(wait) {
                Ok(what) => {
                    self.advance();
                    if let Err(why) = self.takes(what) {
                        self.trouble(&why);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(crate) fn trouble(&self, why: &str) {
        self.findings
            .trouble(format!("0x{}: {why}", hex::encode(self.challenge)));
    }

    fn advance(&mut self) {
        let real = clock::realtime_ns();
        if self
            .hold
            .is_some_and(|(_, since)| since.elapsed() > START_PATIENCE)
        {
            self.trouble("not everybody heard the start");
            self.hold = None;
        }
        let until = self.hold.map_or(real, |(at, _)| at.min(real));
        while let Some((at, event)) = self.agenda.due(until) {
            self.now_ns = at;
            self.happens(event);
        }
        self.now_ns = self.now_ns.max(until);
    }

    fn takes(&mut self, what: Told) -> Result<(), String> {
        match what {
            Told::Prover(seat, notice) => {
                let key = &seat.node.network;
                let ephemeral = Ephemeral::from_secret(node::random()?);
                let prover = Prover::new(
                    &notice,
                    key,
                    ephemeral,
                    seat.data,
                    seat.control,
                    self.now_ns,
                );
                self.prover = Some((seat, prover.map_err(|e| e.to_string())?));
            }
            Told::Challenger(seat, notice) => {
                let key = &seat.node.network;
                let secrets = Secrets::new(node::random()?, node::random()?);
                let made = Challenger::new(&notice, key, secrets, seat.data, seat.control);
                let (machine, said) = made.map_err(|e| e.to_string())?;
                let number = machine.index();
                self.numbers.insert(seat.who, number);
                let party = Party {
                    seat,
                    machine,
                    leaves: Vec::new(),
                    way_ns: WAY_NS + self.chance.below(WAY_SPREAD_NS),
                    sender: None,
                    stopped_ns: None,
                    wake_ns: 0,
                    done: false,
                };
                self.parties.insert(number, party);
                self.challenger_acts(number, said);
            }
            Told::Line(who, line) => self.hears(who, &line),
        }
        Ok(())
    }

    fn hears(&mut self, who: Address, line: &Statement) {
        if let Some(number) = self.numbers.get(&who).copied() {
            let Some(party) = self.parties.get_mut(&number) else {
                return;
            };
            let key = &party.seat.node.network;
            let said = party.machine.hear(key, line, self.now_ns);
            self.challenger_acts(number, said);
        } else if let Some((seat, machine)) = &mut self.prover {
            let said = machine.hear(&seat.node.network, line, self.now_ns);
            self.prover_acts(said);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Tick => self.tick(),
            Event::Wake(number) => self.challenger_ticks(number),
            Event::Send(number) => self.sends(number),
            Event::ControlSent(number, bytes) => self.control_sent(number, bytes),
            Event::ControlArrives(number, bytes) => self.control_arrives(number, &bytes),
            Event::DataArrives(number, sequence) => self.data_arrives(number, sequence),
            Event::Answer(number, bytes) => self.answered(number, &bytes),
            Event::Commit => self.commits(),
            Event::Repeat => self.repeats(),
        }
    }

    fn tick(&mut self) {
        self.agenda.plan(self.now_ns + TICK_NS, Event::Tick);
        if let Some((seat, machine)) = &mut self.prover {
            let actions = machine.tick(&seat.node.network, self.now_ns);
            self.prover_acts(actions);
        }
        self.drained();
        let all: Vec<u16> = self.parties.keys().copied().collect();
        for number in all {
            self.challenger_ticks(number);
        }
        let revealed = self.word.as_ref().is_some_and(|w| w.revealed);
        let done = |n: &u16| self.parties.get(n).is_none_or(|p| p.done);
        self.over |= revealed && self.senders.iter().all(done);
    }

    fn challenger_ticks(&mut self, number: u16) {
        let Some(party) = self.parties.get_mut(&number) else {
            return;
        };
        let node = &party.seat.node;
        let actions = party
            .machine
            .tick(&node.network, &node.settler, self.now_ns);
        let wake = party.machine.wake_ns();
        if wake > self.now_ns && wake != party.wake_ns {
            party.wake_ns = wake;
            self.agenda.plan(wake, Event::Wake(number));
        }
        self.challenger_acts(number, actions);
    }

    pub(crate) fn prover_acts(&mut self, actions: Vec<ProverAction>) {
        for action in actions {
            match action {
                ProverAction::Say(statement) => {
                    let Some((seat, _)) = &self.prover else {
                        return;
                    };
                    let _host_gave_up = seat.say.send(statement);
                }
                ProverAction::Open(opening) => {
                    self.senders = opening.senders.iter().map(|(index, _)| *index).collect();
                    self.gate = Some(Gate::open(&self.challenge, &self.terms, opening.keys));
                }
                ProverAction::Arm { t0_ns, deadline_ns } => {
                    self.agenda.plan(deadline_ns, Event::Commit);
                    self.hold = Some(((t0_ns - 1).max(self.now_ns), Instant::now()));
                }
                ProverAction::Fail(why) => {
                    self.trouble(&format!("the prover gives up: {why}"));
                    self.over = true;
                }
            }
        }
    }

    pub(crate) fn challenger_acts(&mut self, number: u16, actions: Vec<ChallengerAction>) {
        for action in actions {
            let Some(party) = self.parties.get_mut(&number) else {
                return;
            };
            match action {
                ChallengerAction::Say(statement) => {
                    let _host_gave_up = party.seat.say.send(statement);
                }
                ChallengerAction::Prepare(mut train, cap) => {
                    let all: Vec<u64> = (0u64..).take(cap).collect();
                    party.leaves = train.leaves(&all);
                    party.machine.prepared();
                }
                ChallengerAction::Send(_, bytes) => {
                    if let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() {
                        let at = self.now_ns + party.way_ns;
                        self.agenda.plan(at, Event::ControlSent(number, *bytes));
                    }
                }
                ChallengerAction::Flood(flood) => {
                    party.sender = Some(Sender::new(&flood, &self.terms));
                    let lead = flood.start_ns.cast_signed() - clock::realtime_ns().cast_signed();
                    let mut leads = self.findings.leads.lock().unwrap();
                    leads.entry(self.challenge).or_default().push(lead);
                    drop(leads);
                    self.next_send(number);
                    let sends = |n: &u16| self.parties.get(n).is_some_and(|p| p.sender.is_some());
                    if self.senders.iter().all(sends) {
                        self.hold = None;
                    }
                }
                ChallengerAction::Stop => party.stopped_ns = Some(self.now_ns),
                // Links are measured towards the prover here.
                ChallengerAction::Count(_) => {}
                ChallengerAction::Done => party.done = true,
                ChallengerAction::Fail(why) => {
                    party.done = true;
                    self.trouble(&format!("challenger {number} gives up: {why}"));
                }
            }
        }
    }
}
