//! The challenger's side: commit to a seed, make packets, probe, flood, time the commitment, report.
//!
//! ```text
//!  notice ─► SeedCommitment ─► consent ─► [Prepare ‖ probes] ─► Ready ─► start ─► [Flood ‖ probes]
//!                                                                           │ Commit datagram: e
//!  Report ◄─ reveal checked against my own packets ◄─ probes after ◄─ ack ◄──┘
//! ```

use std::net::SocketAddr;

use plumbline_trust::encoding::decode;
use plumbline_trust::identity::{NetworkKey, Signed};
use plumbline_trust::session::{Ephemeral, SessionKey};
use plumbline_wire::header::{HEADER_LEN, Header, Kind};

use super::keystream::{self, Train};
use super::messages::{
    Abort, ChallengeId, Commit, Ready, Report, Rtt, SeedCommitment, Settlement, Statement, Window,
    session_of,
};
use super::params::{DEADLINE_DURATIONS, LEAD_PART, SETTLE_NS};
use super::probes::Probes;
use super::record::{Record, Refusal, seed_hash};
use super::replay;
use super::rtt::{self, Known};
use super::sendlog::SendLog;
use super::uplink::challenger::{Counting, Receiving};

pub(super) const EPHEMERAL: &str = "plumbline 2026-11 backhaul challenger ephemeral v1";
const SEED: &str = "plumbline 2026-11 backhaul challenger seed v1";

/// What the challenger wants done.
pub enum ChallengerAction {
    /// Say this to the coordinator.
    Say(Statement),
    /// Get ready to send so many of these packets; answer with [`Challenger::prepared`].
    Prepare(Box<Train>, usize),
    /// Send this to the prover's control address.
    Send(SocketAddr, Vec<u8>),
    /// Flood; answer with [`Challenger::flooded`].
    Flood(Flood),
    /// Stop the flood: the commitment is here.
    Stop,
    /// Uplink: count what arrives on the data port; answer with [`Challenger::counted`].
    Count(Box<Counting>),
    /// Reported: nothing more to do.
    Done,
    /// The session cannot go on.
    Fail(String),
}

/// One phase's sending.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Where data goes.
    pub to: SocketAddr,
    /// Offered rate, bit/s at the IP layer.
    pub rate_bps: u64,
    /// First packet leaves, unix ns: T0, less half of the round trip that may be led.
    pub start_ns: u64,
    /// Sending ends at the latest, unix ns.
    pub deadline_ns: u64,
}

/// What the generator did.
#[derive(Clone, Debug)]
pub struct Flooded {
    /// First send, unix ns; `None` if nothing was sent.
    pub first_ns: Option<u64>,
    /// Last send, unix ns; `None` likewise.
    pub last_ns: Option<u64>,
    /// Packets that the kernel took.
    pub sent: u64,
    /// When it took them.
    pub log: SendLog,
    /// Clock that made the stamps.
    pub clock: String,
    /// Bound on its error over the phase, ns.
    pub clock_error_ns: u64,
}

/// The secret seed that the holder of `key` commits to in a challenge.
pub fn seed_of(key: &NetworkKey, challenge: &ChallengeId) -> [u8; 32] {
    key.derive(SEED, challenge)
}

/// One challenge as one challenger lives it.
pub struct Challenger {
    pub(super) record: Record,
    pub(super) index: u16,
    data: SocketAddr,
    control: SocketAddr,
    pub(super) session: Option<SessionKey>,
    train: Option<Train>,
    prepared: bool,
    pub(super) probes: Probes,
    said_ready: bool,
    flooding: Option<Flood>,
    flooded: Option<Flooded>,
    committed: Option<(u64, Commit)>,
    pub(super) control_sent: u64,
    pub(super) done: bool,
    pub(super) known: Known,
    /// The commitment I timed, where the prover put another one on record.
    heard: Option<Signed>,
    /// A commitment that came after the one I timed and differs from it, and when it came.
    second: Option<(u64, Signed)>,
    /// The other direction's part.
    pub(super) uplink: Receiving,
}

impl Challenger {
    /// Answers the coordinator's notice. `data` and `control` are where this challenger sends from;
    /// `floor_ns` a round trip to this prover that it cannot have inflated, 0 if none is known.
    pub fn new(
        notice: &Statement,
        key: &NetworkKey,
        data: SocketAddr,
        control: SocketAddr,
        floor_ns: u64,
    ) -> Result<(Self, Vec<ChallengerAction>), Refusal> {
        let record = Record::open(notice)?;
        let me = key.verifying();
        let place = record
            .notice
            .message
            .challengers
            .iter()
            .position(|m| m.key == me);
        let index = place
            .and_then(|i| u16::try_from(i).ok())
            .ok_or_else(|| Refusal::Field {
                what: "notice.challengers",
                why: "do not include me".into(),
            })?;
        let mut this = Self {
            record,
            index,
            data,
            control,
            session: None,
            train: None,
            prepared: false,
            probes: Probes::default(),
            said_ready: false,
            flooding: None,
            flooded: None,
            committed: None,
            control_sent: 0,
            done: false,
            known: Known {
                smallest_ns: u64::MAX,
                floor_ns,
            },
            heard: None,
            second: None,
            uplink: Receiving::default(),
        };
        let commitment = SeedCommitment {
            challenge: *this.record.challenge(),
            index,
            seed_hash: seed_hash(this.record.challenge(), &this.seed(key)),
            ephemeral: this.ephemeral(key).public(),
            data,
            control,
        };
        let said = this.say(Statement::SeedCommitment(Signed::new(key, &commitment)))?;
        Ok((this, vec![said]))
    }

    /// The same, remembering a smallest round trip to this prover from earlier sessions, ns.
    #[must_use]
    pub fn remembering(mut self, smallest_ns: u64) -> Self {
        self.known.smallest_ns = smallest_ns;
        self
    }

    /// The smallest round trip that was answered so far, ns; `None` before the first. Worth remembering.
    pub fn smallest_ns(&self) -> Option<u64> {
        let answered = self.probes.round_trips.iter().map(|s| s.1);
        answered.min()
    }

    pub(super) fn seed(&self, key: &NetworkKey) -> [u8; 32] {
        seed_of(key, self.record.challenge())
    }

    fn ephemeral(&self, key: &NetworkKey) -> Ephemeral {
        Ephemeral::from_secret(key.derive(EPHEMERAL, self.record.challenge()))
    }

    pub(super) fn say(&mut self, statement: Statement) -> Result<ChallengerAction, Refusal> {
        self.record.absorb(&statement)?;
        Ok(ChallengerAction::Say(statement))
    }

    /// All that was said so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Place in the draw.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Takes a line of the session's log.
    pub fn hear(
        &mut self,
        key: &NetworkKey,
        statement: &Statement,
    ) -> Result<Vec<ChallengerAction>, Refusal> {
        match (self.record.absorb(statement), statement) {
            (Ok(true), _) => {}
            (Ok(false), _) => return Ok(Vec::new()),
            // Both are the prover's, signed: what it put on record is judged, and what it told me is shown.
            (Err(Refusal::Conflict(_)), Statement::Commit(_)) if self.heard.is_none() => {
                self.heard = self.record.commit.take().map(|kept| kept.signed);
                self.record.absorb(statement)?;
                // What is on record is what I report on, if it reached me too.
                if let (Some((at_ns, signed)), Some(kept)) =
                    (self.second.take(), &self.record.commit)
                    && signed == kept.signed
                {
                    self.committed = Some((at_ns, kept.message.clone()));
                }
            }
            (Err(refusal), _) => return Err(refusal),
        }
        Ok(match statement {
            Statement::Consent(_) => self.consented(key),
            // In the uplink nothing is sent at the start: the next tick begins to count.
            Statement::Start(_) if !self.up() => self.start(),
            Statement::Abort(_) => self.left(),
            _ => Vec::new(),
        })
    }

    /// The prover does not go on, so nobody does.
    fn left(&self) -> Vec<ChallengerAction> {
        let abort = self.record.abort.iter();
        abort
            .map(|kept| ChallengerAction::Fail(format!("the prover gave up: {}", kept.message.why)))
            .collect()
    }

    /// A datagram as long as the data packets, for the prover's control port, where it is counted and not
    /// answered: a path that does not carry it can say so before the flood. `None` before the consent.
    pub fn trial(&mut self, now_ns: u64) -> Option<(SocketAddr, Vec<u8>)> {
        let to = self.record.consent.as_ref()?.message.control;
        let head = rtt::probe(
            self.record.challenge(),
            self.index,
            u64::MAX,
            now_ns,
            self.session.as_ref()?,
        );
        let mut bytes = head.to_vec();
        bytes.resize(self.record.notice.message.terms.size().payload(), 0);
        self.control_sent += 1;
        Some((to, bytes))
    }

    /// Takes no further part, and tells everyone why. Before the start only.
    pub fn give_up(&mut self, key: &NetworkKey, why: &str) -> Vec<ChallengerAction> {
        let abort = Abort::new(self.record.challenge(), Some(self.index), why);
        // After the start nobody asks any more.
        let said = self.say(Statement::Abort(Signed::new(key, &abort))).ok();
        said.into_iter()
            .chain([ChallengerAction::Fail(why.to_owned())])
            .collect()
    }

    fn consented(&mut self, key: &NetworkKey) -> Vec<ChallengerAction> {
        let Some(consent) = self.record.consent.as_ref().map(|k| &k.message) else {
            return Vec::new();
        };
        let me = consent.senders.iter().find(|s| s.index == self.index);
        if me.is_none_or(|s| (s.data, s.control) != (self.data, self.control)) {
            return vec![ChallengerAction::Fail(
                "the prover did not consent to me".into(),
            )];
        }
        let challenge = *self.record.challenge();
        let Some(session) = self
            .ephemeral(key)
            .agree(&consent.ephemeral, &challenge, self.index)
        else {
            return vec![ChallengerAction::Fail(
                "the prover's X25519 half is of small order".into(),
            )];
        };
        if self.up() {
            self.session = Some(session);
            return Vec::new();
        }
        let cap = usize::try_from(consent.cap_packets).unwrap_or(usize::MAX);
        let beacon = self.record.notice.message.beacon;
        let train = Train::new(
            &self.seed(key),
            &challenge,
            &beacon,
            0,
            self.index,
            session.clone(),
        )
        .of_size(self.record.notice.message.terms.size());
        self.session = Some(session);
        self.train = Some(train.clone());
        vec![ChallengerAction::Prepare(Box::new(train), cap)]
    }

    /// The first packets are made: sending may begin.
    pub fn prepared(&mut self) {
        self.prepared = true;
    }

    fn start(&mut self) -> Vec<ChallengerAction> {
        let terms = self.record.notice.message.terms;
        let (Some(start), Some(consent)) = (&self.record.start, &self.record.consent) else {
            return Vec::new();
        };
        if !self.prepared {
            return vec![ChallengerAction::Fail(
                "the start came before my packets were made".into(),
            )];
        }
        let rho = self.probes.smallest_ns();
        let rho = rho
            .min(self.known.smallest_ns)
            .min(terms.duration_ns() / LEAD_PART);
        let flood = Flood {
            to: consent.message.data,
            rate_bps: terms.offer_each_bps(),
            start_ns: start.message.t0_ns.saturating_sub(rho / 2),
            deadline_ns: start.message.t0_ns + DEADLINE_DURATIONS * terms.duration_ns(),
        };
        self.flooding = Some(flood);
        vec![ChallengerAction::Flood(flood)]
    }

    /// The generator ended.
    pub fn flooded(&mut self, outcome: Flooded) {
        self.flooded = Some(outcome);
    }

    /// Takes a datagram from the prover's control address; `at_ns` is when the kernel received it.
    pub fn datagram(&mut self, bytes: &[u8], at_ns: u64) -> Vec<ChallengerAction> {
        let Some(session) = &self.session else {
            return Vec::new();
        };
        let Some(head) = bytes.first_chunk::<HEADER_LEN>() else {
            return Vec::new();
        };
        let Ok(header) = Header::from_bytes(head) else {
            return Vec::new();
        };
        let ours = header.session == session_of(self.record.challenge())
            && header.index == self.index
            && session.check(head);
        match (ours, header.kind) {
            (true, Kind::Echo) => self.echo(bytes, at_ns),
            (true, Kind::Commit) => self.commit(&bytes[HEADER_LEN..], at_ns),
            _ => Vec::new(),
        }
    }

    fn echo(&mut self, bytes: &[u8], at_ns: u64) -> Vec<ChallengerAction> {
        let Some((head, signature)) = rtt::split(bytes) else {
            return Vec::new();
        };
        let Some(session) = &self.session else {
            return Vec::new();
        };
        let Ok(header) = Header::from_bytes(&head) else {
            return Vec::new();
        };
        // Only the first answer to a probe that we sent, with the time that we put into it.
        let Some((window, sent_ns)) = self.probes.answer(header.sequence) else {
            return Vec::new();
        };
        let sample = Rtt {
            window,
            echo: head.to_vec(),
            received_ns: at_ns,
            signature,
        };
        let prover = &self.record.notice.message.prover.key;
        let opened = rtt::open(
            &sample,
            self.record.challenge(),
            self.index,
            session,
            prover,
        );
        if let (Some((_, round_trip)), true) = (opened, header.sent_ns == sent_ns) {
            self.probes.round_trips.push((window, round_trip));
            self.probes.answered.push(sample);
        }
        Vec::new()
    }

    fn commit(&mut self, body: &[u8], at_ns: u64) -> Vec<ChallengerAction> {
        let Ok(signed) = decode::<Signed>(body) else {
            return Vec::new();
        };
        let ack = self
            .session
            .as_ref()
            .map(|k| rtt::ack(self.record.challenge(), self.index, at_ns, k));
        let statement = Statement::Commit(signed);
        let fresh = self.committed.is_none();
        // A conflicting second commitment is refused by the record, and not acknowledged.
        match self.record.absorb(&statement) {
            Ok(_) => {}
            Err(Refusal::Conflict(_)) => {
                self.second
                    .get_or_insert((at_ns, statement.signed().clone()));
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        }
        let mut actions = Vec::new();
        if let (true, Some(kept)) = (fresh, &self.record.commit) {
            self.committed = Some((at_ns, kept.message.clone()));
            // The queue that the flood filled drains before the idle probes go out.
            self.probes.rest_until(at_ns + SETTLE_NS);
            actions.push(ChallengerAction::Stop);
        }
        if let (Some(ack), Some(consent)) = (ack, &self.record.consent) {
            self.control_sent += 1;
            actions.push(ChallengerAction::Send(
                consent.message.control,
                ack.to_vec(),
            ));
        }
        actions
    }

    /// Sends what is due. Call at [`Challenger::wake_ns`] or sooner.
    pub fn tick(
        &mut self,
        key: &NetworkKey,
        settlement: &dyn Settlement,
        now_ns: u64,
    ) -> Vec<ChallengerAction> {
        let mut actions: Vec<ChallengerAction> = self.probe(now_ns).into_iter().collect();
        let prepared = self.up() || self.prepared;
        if !self.said_ready && prepared && self.probes.done(Window::Before, now_ns) {
            self.said_ready = true;
            let ready = Ready {
                challenge: *self.record.challenge(),
                index: self.index,
                rho_ns: self.probes.smallest_ns(),
                reached: self.reached(),
            };
            match self.say(Statement::Ready(Signed::new(key, &ready))) {
                Ok(said) => actions.push(said),
                Err(refusal) => actions.push(ChallengerAction::Fail(refusal.to_string())),
            }
        }
        if self.up() {
            actions.extend(self.receive(key, settlement, now_ns));
            return actions;
        }
        if !self.done
            && self.record.reveal.is_some()
            && self.flooded.is_some()
            && self.probes.done(Window::After, now_ns)
        {
            self.done = true;
            actions.extend(self.report(key, settlement));
        }
        actions
    }

    /// When [`Challenger::tick`] has something to do again, unix ns.
    pub fn wake_ns(&self) -> u64 {
        self.probes.next_ns()
    }

    fn window(&self, now_ns: u64) -> Option<Window> {
        self.session.as_ref()?;
        if self.committed.is_some() {
            return Some(Window::After);
        }
        match &self.flooding {
            None if self.record.start.is_some() => None,
            None => Some(Window::Before),
            Some(f) if (f.start_ns..f.deadline_ns).contains(&now_ns) => Some(Window::During),
            Some(_) => None,
        }
    }

    fn probe(&mut self, now_ns: u64) -> Option<ChallengerAction> {
        let window = self.window(now_ns)?;
        let to = self.record.consent.as_ref()?.message.control;
        let gap_ns = self.record.notice.message.terms.probe_gap_ns();
        let number = self.probes.due(window, now_ns, gap_ns)?;
        let key = self.session.as_ref()?;
        let bytes = rtt::probe(self.record.challenge(), self.index, number, now_ns, key);
        self.control_sent += 1;
        Some(ChallengerAction::Send(to, bytes.to_vec()))
    }

    /// Packets of mine that the prover proved: its count, if its root is the one my own packets give.
    fn proved(&self) -> u32 {
        let at = usize::from(self.index);
        let (Some(reveal), Some((_, commit)), Some(train), Some(consent)) = (
            &self.record.reveal,
            &self.committed,
            &self.train,
            &self.record.consent,
        ) else {
            return 0;
        };
        let reveal = &reveal.message;
        let (Some(bitmap), Some(root), Some(count)) = (
            reveal.bitmaps.get(at),
            reveal.roots.get(at),
            commit.counts.get(at),
        ) else {
            return 0;
        };
        let opens = keystream::response(&commit.challenge, 0, &commit.counts, &reveal.roots)
            == commit.response;
        let packets: u32 = bitmap.iter().map(|b| b.count_ones()).sum();
        // Beyond the cap nothing was sent. What is not to be counted anyway is not made again.
        let cap = consent.message.cap_packets;
        let sent = keystream::sequences(bitmap).last().is_none_or(|s| s < cap);
        let mine = || replay::root(train, bitmap) == *root;
        if opens && packets == *count && sent && mine() {
            *count
        } else {
            0
        }
    }

    fn report(&mut self, key: &NetworkKey, settlement: &dyn Settlement) -> Vec<ChallengerAction> {
        let (Some(flooded), Some((e, commit))) = (self.flooded.clone(), self.committed.clone())
        else {
            return Vec::new();
        };
        let Some(s) = flooded.first_ns else {
            return vec![ChallengerAction::Fail("no packet could be sent".into())];
        };
        let summary = rtt::summarise(
            &self.probes.round_trips,
            self.known,
            self.record.notice.message.terms.duration_ns(),
        );
        let span = e.saturating_sub(s);
        let mut report = Report {
            challenge: *self.record.challenge(),
            phase: 0,
            index: self.index,
            sent_first_ns: s,
            committed_ns: e,
            rtts: std::mem::take(&mut self.probes.answered),
            rho_ns: summary.rho_ns,
            floor_ns: self.known.floor_ns,
            known_ns: self.known.smallest_ns,
            tt_ns: span.saturating_sub(summary.credited_ns),
            tt_plus_ns: span.saturating_sub(self.known.floor_ns),
            packets: self.proved(),
            sent: flooded.sent,
            sent_last_ns: flooded.last_ns.unwrap_or(s),
            control_sent: self.control_sent,
            response: commit.response,
            heard: self.heard.take(),
            seed: self.seed(key),
            ephemeral_secret: key.derive(EPHEMERAL, self.record.challenge()),
            clock: flooded.clock,
            clock_error_ns: flooded.clock_error_ns,
            arrivals: None,
            settlement: Vec::new(),
        };
        report.settlement = settlement.sign_report(&self.record.notice.message, &report);
        match self.say(Statement::Report(Signed::new(key, &report))) {
            Ok(said) => vec![said, ChallengerAction::Done],
            Err(refusal) => vec![ChallengerAction::Fail(refusal.to_string())],
        }
    }
}
