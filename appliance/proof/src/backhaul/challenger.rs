//! The challenger's side: commit to a seed, probe, flood, time the commitment, report.
//!
//! ```text
//!  notice ─► SeedCommitment ─► consent ─► [Prepare ‖ probes] ─► Ready ─► start ─► [Flood ‖ probes]
//!                                                              too late? │          │ Commit datagram: e
//!                                                    Abort ◄─────────────┘          ▼
//!                 Report ◄─ reveal checked against my own train ◄─────────────────  ack
//! ```
//!
//! What it says itself takes effect when it comes back in the log, as everyone's words do: the log is the only
//! order. A line that the log should not hold is skipped.

use std::net::SocketAddr;

use plumbline_trust::encoding::decode;
use plumbline_trust::identity::{NetworkKey, Signed};
use plumbline_trust::session::{Ephemeral, SessionKey};
use plumbline_wire::header::{HEADER_LEN, Header, Kind};
use zeroize::ZeroizeOnDrop;

use super::keystream::{self, Train};
use super::messages::{
    Abort, Commit, Ready, Report, Rtt, SeedCommitment, Settlement, Start, Statement, Window,
    session_of,
};
use super::pace;
use super::params::{AHEAD_MOST_NS, DEADLINE_DURATIONS};
use super::probes::Probes;
use super::record::{Record, Refusal, seed_hash};
use super::replay;
use super::rtt;
use super::sendlog::SendLog;
use super::uplink::challenger::{Counting, Receiving};

/// Most copies of a commitment that are acknowledged: a prover sends some hundred and fifty before it gives up, and
/// what a report counts must not be its to choose.
pub const ACKS_MOST: u64 = 256;

/// What a challenger knows alone until it reports: random, made for one session, used in no other.
#[derive(Clone, ZeroizeOnDrop)]
pub struct Secrets {
    /// What its packets are made from.
    pub seed: [u8; 32],
    /// Its X25519 secret.
    pub ephemeral: [u8; 32],
}

impl Secrets {
    /// Of two independent random values.
    pub fn new(seed: [u8; 32], ephemeral: [u8; 32]) -> Self {
        Self { seed, ephemeral }
    }
}

/// What the challenger wants done.
pub enum ChallengerAction {
    /// Say this to the coordinator.
    Say(Statement),
    /// Get ready to make so many packets of this train at most; answer with [`Challenger::prepared`].
    Prepare(Box<Train>, usize),
    /// Send this to the prover's control address.
    Send(SocketAddr, Vec<u8>),
    /// Flood; answer with [`Challenger::flooded`].
    Flood(Flood),
    /// Stop the flood: the commitment is here, or the prover does not answer any more.
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
    /// First packet leaves, unix ns: T0.
    pub start_ns: u64,
    /// Sending ends at the latest, unix ns.
    pub deadline_ns: u64,
    /// Where in their slots bursts leave ([`super::pace`]).
    pub jitter: u64,
}

/// What the generator did.
#[derive(Clone, Debug)]
pub struct Flooded {
    /// Stamped before the first send, unix ns; `None` if nothing was sent.
    pub first_ns: Option<u64>,
    /// Packets that the kernel took.
    pub sent: u64,
    /// When it took them, since the first.
    pub log: SendLog,
    /// Clock that made the stamps.
    pub clock: String,
    /// Bound on its error over the phase, ns.
    pub clock_error_ns: u64,
}

/// A commitment as it was heard.
struct Heard {
    at_ns: u64,
    signed: Signed,
    commit: Commit,
}

/// One challenge as one challenger lives it.
pub struct Challenger {
    pub(super) record: Record,
    pub(super) index: u16,
    commitment: SeedCommitment,
    pub(super) secrets: Secrets,
    pub(super) session: Option<SessionKey>,
    train: Option<Train>,
    prepared: bool,
    pub(super) probes: Probes,
    said_ready: bool,
    flooding: Option<Flood>,
    flooded: Option<Flooded>,
    /// The commitments that the prover sent me, each at its first copy: one, or two that differ.
    heard: Vec<Heard>,
    acks: u64,
    pub(super) control_sent: u64,
    pub(super) done: bool,
    /// The other direction's part.
    pub(super) uplink: Receiving,
}

impl Challenger {
    /// Answers the coordinator's notice. `data` and `control` are where this challenger sends from, `secrets`
    /// were drawn for this session.
    pub fn new(
        notice: &Statement,
        key: &NetworkKey,
        secrets: Secrets,
        data: SocketAddr,
        control: SocketAddr,
    ) -> Result<(Self, Vec<ChallengerAction>), Refusal> {
        let record = Record::open(notice)?;
        let me = key.verifying();
        // Another account may carry my key, and is not bound to it.
        let places = record
            .notice
            .message
            .challengers
            .iter()
            .zip(&record.unbound);
        let place = places
            .into_iter()
            .position(|(m, unbound)| m.key == me && !unbound);
        let index = place
            .and_then(|i| u16::try_from(i).ok())
            .ok_or_else(|| Refusal::Field {
                what: "notice.challengers",
                why: "do not include me".into(),
            })?;
        let challenge = *record.challenge();
        let commitment = SeedCommitment {
            challenge,
            index,
            seed_hash: seed_hash(&challenge, &secrets.seed),
            ephemeral: Ephemeral::from_secret(secrets.ephemeral).public(),
            data,
            control,
        };
        let said = Statement::SeedCommitment(Signed::new(key, &commitment));
        let this = Self {
            record,
            index,
            commitment,
            session: None,
            train: None,
            prepared: false,
            // Not of the seed, which in an uplink the prover is given at T0.
            probes: Probes::new(secrets.ephemeral),
            secrets,
            said_ready: false,
            flooding: None,
            flooded: None,
            heard: Vec::new(),
            acks: 0,
            control_sent: 0,
            done: false,
            uplink: Receiving::default(),
        };
        // Of another family than the terms: better known now than refused later.
        this.record.clone().absorb(&said)?;
        Ok((this, vec![ChallengerAction::Say(said)]))
    }

    /// All that was said so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Place in the draw.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// What answers for this challenger once the measurement is over.
    pub fn seed(&self) -> [u8; 32] {
        self.secrets.seed
    }

    /// Takes a line of the session's log, at `now_ns`. A line that does not belong there changes nothing.
    pub fn hear(
        &mut self,
        key: &NetworkKey,
        statement: &Statement,
        now_ns: u64,
    ) -> Vec<ChallengerAction> {
        if !matches!(self.record.absorb(statement), Ok(true)) {
            return Vec::new();
        }
        match statement {
            Statement::Consent(_) => self.consented(),
            Statement::Start(_) => self.start(key, now_ns),
            Statement::Abort(_) => self.left(),
            _ => Vec::new(),
        }
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

    /// Takes no further part, and tells everyone why.
    pub fn give_up(&self, key: &NetworkKey, why: &str) -> Vec<ChallengerAction> {
        let mut abort = Abort::new(self.record.challenge(), Some(self.index), why);
        // Whoever stops after the start withholds nothing; nothing signed will ever rest on this seed.
        abort.seed = self.record.start.as_ref().map(|_| self.secrets.seed);
        vec![
            ChallengerAction::Say(Statement::Abort(Signed::new(key, &abort))),
            ChallengerAction::Fail(why.to_owned()),
        ]
    }

    fn consented(&mut self) -> Vec<ChallengerAction> {
        let Some(consent) = self.record.consent.as_ref().map(|k| &k.message) else {
            return Vec::new();
        };
        let me = consent.senders.iter().find(|s| s.index == self.index);
        if me.is_none_or(|s| (s.data, s.control) != (self.commitment.data, self.commitment.control))
        {
            return vec![ChallengerAction::Fail(
                "the prover did not consent to me".into(),
            )];
        }
        let challenge = *self.record.challenge();
        let ephemeral = Ephemeral::from_secret(self.secrets.ephemeral);
        let Some(session) = ephemeral.agree(&consent.ephemeral, &challenge, self.index) else {
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
        let seed = &self.secrets.seed;
        let train = Train::new(seed, &challenge, &beacon, 0, self.index, session.clone())
            .of_size(self.record.notice.message.terms.size());
        self.session = Some(session);
        self.train = Some(train.clone());
        vec![ChallengerAction::Prepare(Box::new(train), cap)]
    }

    /// Packets can be made as fast as they are due.
    pub fn prepared(&mut self) {
        self.prepared = true;
    }

    /// Why this start is not obeyed, if it is not: who begins late says so and is nobody's accuser.
    fn disobeyed(&self, start: &Start, now_ns: u64) -> Option<String> {
        let t0_ns = start.t0_ns;
        if now_ns >= t0_ns {
            let late = (now_ns - t0_ns) / 1000;
            return Some(format!(
                "late: heard the start {late} us after T0; nobody begins late"
            ));
        }
        if t0_ns - now_ns > AHEAD_MOST_NS {
            let ahead = (t0_ns - now_ns) / 1_000_000;
            return Some(format!(
                "late: T0 is {ahead} ms ahead, at most {} are believed: are both clocks synchronised?",
                AHEAD_MOST_NS / 1_000_000
            ));
        }
        if !self.up() && !self.prepared {
            return Some("late: the start came before my packets could be made".into());
        }
        if self.probes.answered.is_empty() {
            return Some(
                "no echo came from the prover's address: nobody is flooded who did not answer"
                    .into(),
            );
        }
        None
    }

    fn start(&mut self, key: &NetworkKey, now_ns: u64) -> Vec<ChallengerAction> {
        let terms = self.record.notice.message.terms;
        let (Some(start), Some(consent)) = (&self.record.start, &self.record.consent) else {
            return Vec::new();
        };
        let start = start.message.clone();
        let to = consent.message.data;
        // Who gave up before hears of the start as everyone does.
        if self
            .record
            .out
            .get(usize::from(self.index))
            .is_some_and(Option::is_some)
        {
            return Vec::new();
        }
        if let Some(why) = self.disobeyed(&start, now_ns) {
            return self.give_up(key, &why);
        }
        if self.up() {
            return self.count(&start);
        }
        let flood = Flood {
            to,
            rate_bps: terms.offer_each_bps(),
            start_ns: start.t0_ns,
            deadline_ns: start.t0_ns + DEADLINE_DURATIONS * terms.duration_ns(),
            jitter: pace::jitter(&self.secrets.seed),
        };
        self.flooding = Some(flood);
        vec![ChallengerAction::Flood(flood)]
    }

    /// The generator ended.
    pub fn flooded(&mut self, outcome: Flooded) {
        self.flooded = Some(outcome);
    }

    /// Takes a datagram `from` somewhere; `at_ns` is when the kernel received it.
    pub fn datagram(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        at_ns: u64,
    ) -> Vec<ChallengerAction> {
        let consent = self.record.consent.as_ref();
        if consent.is_none_or(|c| c.message.control != from) {
            return Vec::new();
        }
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
            self.probes.heard_ns = at_ns;
            let most = self.record.notice.message.terms.echoes_most();
            if (self.probes.answered.len() as u64) < most {
                self.probes.round_trips.push((window, round_trip));
                self.probes.answered.push(sample);
            }
        }
        Vec::new()
    }

    fn commit(&mut self, body: &[u8], at_ns: u64) -> Vec<ChallengerAction> {
        let Ok(signed) = decode::<Signed>(body) else {
            return Vec::new();
        };
        let Some(consent) = &self.record.consent else {
            return Vec::new();
        };
        let to = consent.message.control;
        // Nobody has received anything before I sent: such a commitment stops nobody.
        if self.flooding.is_none_or(|f| at_ns < f.start_ns) {
            return Vec::new();
        }
        if self.heard.iter().all(|h| h.signed != signed) {
            let prover = self.record.notice.message.prover.key;
            let commit = signed.open::<Commit>().ok().filter(|c| {
                signed.key == prover && c.challenge == *self.record.challenge() && c.phase == 0
            });
            // Two that differ show all that there is to show.
            let (Some(commit), true) = (commit, self.heard.len() < 2) else {
                return Vec::new();
            };
            self.heard.push(Heard {
                at_ns,
                signed,
                commit,
            });
        }
        let ack = self
            .session
            .as_ref()
            .filter(|_| self.acks < ACKS_MOST)
            .map(|k| rtt::ack(self.record.challenge(), self.index, at_ns, k));
        let mut actions = vec![ChallengerAction::Stop];
        if let Some(ack) = ack {
            self.acks += 1;
            self.control_sent += 1;
            actions.push(ChallengerAction::Send(to, ack.to_vec()));
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
        if !self.said_ready && prepared && self.session.is_some() && self.probes.done(now_ns) {
            self.said_ready = true;
            let notice = &self.record.notice.message;
            let ready = Ready {
                challenge: notice.challenge,
                index: self.index,
                rho_ns: self.probes.smallest_ns(),
                reached: self.reached(),
                settlement: settlement.sign_begin(notice, &self.commitment),
            };
            actions.push(ChallengerAction::Say(Statement::Ready(Signed::new(
                key, &ready,
            ))));
        }
        if self.up() {
            actions.extend(self.release(now_ns));
            actions.extend(self.receive(key, settlement));
            return actions;
        }
        if let Some(flooding) = &self.flooding
            && now_ns.saturating_sub(self.probes.heard_ns.max(flooding.start_ns))
                > self.record.notice.message.terms.echo_fresh_ns()
        {
            actions.push(ChallengerAction::Stop);
        }
        if !self.done && self.record.reveal.is_some() && self.flooded.is_some() {
            self.done = true;
            actions.extend(self.report(key, settlement));
        }
        actions
    }

    /// When [`Challenger::tick`] has something to do again, unix ns.
    pub fn wake_ns(&self) -> u64 {
        self.probes.next_ns().min(self.uplink.release_ns())
    }

    fn window(&self, now_ns: u64) -> Option<Window> {
        self.session.as_ref()?;
        if !self.heard.is_empty() {
            return None;
        }
        let during = match (&self.flooding, &self.record.start) {
            (Some(f), _) => f.start_ns..f.deadline_ns,
            (None, Some(_)) if self.up() => self.uplink.during(),
            (None, Some(_)) => return None,
            (None, None) => return Some(Window::Before),
        };
        during.contains(&now_ns).then_some(Window::During)
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

    /// Packets of mine that the prover proved: its count, if its root is the one that my own train gives.
    fn proved(&self, commit: &Commit) -> u32 {
        let at = usize::from(self.index);
        let (Some(reveal), Some(train)) = (&self.record.reveal, &self.train) else {
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
        if opens && packets == *count && replay::root(train, bitmap) == *root {
            *count
        } else {
            0
        }
    }

    fn report(&mut self, key: &NetworkKey, settlement: &dyn Settlement) -> Vec<ChallengerAction> {
        let Some(flooded) = self.flooded.clone() else {
            return Vec::new();
        };
        let Some(s) = flooded.first_ns else {
            return self.give_up(key, "no packet could be sent");
        };
        let on_record = self.record.commit.as_ref().map(|kept| &kept.signed);
        // What is on record is what I report on, if it reached me; the other one is shown: both are signed.
        self.heard.sort_by_key(|h| Some(&h.signed) != on_record);
        let Some(heard) = self.heard.first() else {
            return self.give_up(key, "no commitment reached me");
        };
        let other = self.heard.iter().find(|h| Some(&h.signed) != on_record);
        let e = heard.at_ns;
        let mut report = Report {
            challenge: *self.record.challenge(),
            phase: 0,
            index: self.index,
            sent_first_ns: s,
            committed_ns: e,
            window_us: Report::window_us(e.saturating_sub(s), flooded.clock_error_ns),
            rtts: std::mem::take(&mut self.probes.answered),
            rho_ns: self.probes.smallest_ns(),
            packets: self.proved(&heard.commit),
            sent: flooded.sent,
            sent_back: flooded.sent_back(e),
            control_sent: self.control_sent,
            response: heard.commit.response,
            heard: other.map(|h| h.signed.clone()),
            seed: self.secrets.seed,
            ephemeral_secret: self.secrets.ephemeral,
            clock: flooded.clock,
            clock_error_ns: flooded.clock_error_ns,
            arrivals: None,
            settlement: Vec::new(),
        };
        report.settlement = settlement.sign_report(&self.record.notice.message, &report);
        vec![
            ChallengerAction::Say(Statement::Report(Signed::new(key, &report))),
            ChallengerAction::Done,
        ]
    }
}
