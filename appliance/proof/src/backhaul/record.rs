//! A session's log, read and checked statement by statement. The coordinator's door and the offline
//! verifier are this same code: what the one lets in, the other accepts. `rules`: what one statement must be.

mod rules;

use plumbline_trust::encoding::{domain, keccak256};
use plumbline_trust::identity::{Signed, SignedError, VerifyingKey, binding_message};
use plumbline_trust::selection::Draw;

use self::rules::{author, half, keep, need};
use super::messages::{
    ABORT_WORDS_MAX, Abort, Begun, ChallengeId, Commit, Consent, Head, Kind, Member, Notice, Ready,
    Report, Reveal, SeedCommitment, Start, Statement, Verified,
};
use super::params::{ANCHOR_MS_MOST, TermsError};
use super::sendlog::BACK_SLOTS;
use super::{sizes, uplink};

/// Most probes and acknowledgements that a challenger sends beyond its packets: those of the longest phase, and
/// [`ACKS_MOST`](super::challenger::ACKS_MOST).
const CONTROL_MOST: u64 = 16_384;

/// Why a statement was not taken. The names are the API's error codes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Signature or encoding.
    #[error(transparent)]
    Signed(#[from] SignedError),
    /// Terms that cannot be measured.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// Said by somebody whose word this is not.
    #[error("{what} must be signed by {allowed}, not by {key}")]
    Author {
        /// Kind of statement.
        what: &'static str,
        /// Whose word it is.
        allowed: &'static str,
        /// Who signed.
        key: VerifyingKey,
    },
    /// About another challenge or phase.
    #[error("{0} is about another challenge or phase")]
    OtherChallenge(&'static str),
    /// Came before what it answers.
    #[error("{what} before {missing}")]
    TooEarly {
        /// Kind of statement.
        what: &'static str,
        /// What must come first.
        missing: &'static str,
    },
    /// The same party said something else before: both are kept as evidence by whoever received them.
    #[error("a different {0} by the same party is already on record")]
    Conflict(&'static str),
    /// A field does not hold.
    #[error("{what}: {why}")]
    Field {
        /// Kind of statement and field.
        what: &'static str,
        /// What is wrong and what is allowed.
        why: String,
    },
}

impl Refusal {
    /// Stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            // The signature holds: another version speaks, nobody forges.
            Self::Signed(SignedError::Encoding(_)) => "not-canonical",
            Self::Signed(_) => "bad-signature",
            Self::Terms(_) => "bad-terms",
            Self::Author { .. } => "wrong-author",
            Self::OtherChallenge(_) => "other-challenge",
            Self::TooEarly { .. } => "too-early",
            Self::Conflict(_) => "conflict",
            Self::Field { .. } => "bad-field",
        }
    }
}

/// A message beside its signed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<M> {
    /// As signed.
    pub signed: Signed,
    /// As read.
    pub message: M,
}

/// All that was said in one session.
#[derive(Clone, Debug)]
pub struct Record {
    /// Opens the log.
    pub notice: Kept<Notice>,
    /// By index.
    pub seeds: Vec<Option<Kept<SeedCommitment>>>,
    /// The prover's.
    pub consent: Option<Kept<Consent>>,
    /// The coordinator's.
    pub begun: Option<Kept<Begun>>,
    /// By index.
    pub ready: Vec<Option<Kept<Ready>>>,
    /// By index: ready at the start or later, and had not given up by then.
    began: Vec<bool>,
    /// The prover's.
    pub start: Option<Kept<Start>>,
    /// The prover's.
    pub commit: Option<Kept<Commit>>,
    /// The prover's.
    pub reveal: Option<Kept<Reveal>>,
    /// By index.
    pub reports: Vec<Option<Kept<Report>>>,
    /// The prover's: nothing comes after it.
    pub abort: Option<Kept<Abort>>,
    /// By index: challengers that do not go on.
    pub out: Vec<Option<Kept<Abort>>>,
    /// By index: the network key did not sign for the account. Such a one keeps its place and cannot speak.
    pub unbound: Vec<bool>,
}

impl Record {
    /// Opens a record with its notice, whose key bindings are checked, and that its draw follows from its beacon. Who
    /// held the places that the draw came upon, and in which state, only the chain can say.
    pub fn open(first: &Statement) -> Result<Self, Refusal> {
        let Statement::Notice(signed) = first else {
            return Err(Refusal::TooEarly {
                what: first.name(),
                missing: "the notice",
            });
        };
        let notice: Notice = signed.open()?;
        author("notice", "its coordinator", signed, notice.coordinator.key)?;
        notice.terms.check()?;
        if notice.anchor_ms > ANCHOR_MS_MOST {
            return Err(Refusal::Field {
                what: "notice.anchor_ms",
                why: format!(
                    "is {}, at most {ANCHOR_MS_MOST} are allowed",
                    notice.anchor_ms
                ),
            });
        }
        let bound = |member: &Member| {
            let binding = binding_message(notice.chain_id, &notice.participants, &member.address);
            let signed = member
                .key
                .verify(domain::BINDING, &binding, &member.binding);
            signed.is_ok()
        };
        for member in [&notice.prover, &notice.coordinator] {
            if !bound(member) {
                return Err(Refusal::Field {
                    what: "notice.registration",
                    why: format!(
                        "network key {} did not sign for {}",
                        member.key, member.address
                    ),
                });
            }
        }
        let unbound = notice.challengers.iter().map(|m| !bound(m)).collect();
        let draw = Draw {
            mix: notice.beacon,
            id: notice.challenge,
            pool: notice.pool,
            n: usize::from(notice.terms.n),
            most: 1,
        };
        let drawn = draw.seated(&notice.looks).map_err(|why| Refusal::Field {
            what: "notice.looks",
            why: format!("are not those of the beacon's draw: {why}"),
        })?;
        if drawn.len() != draw.n
            || !drawn
                .iter()
                .eq(notice.challengers.iter().map(|m| &m.address))
        {
            return Err(Refusal::Field {
                what: "notice.challengers",
                why: "are not those that the draw seated".into(),
            });
        }
        let n = notice.challengers.len();
        Ok(Self {
            notice: Kept {
                signed: signed.clone(),
                message: notice,
            },
            seeds: vec![None; n],
            consent: None,
            begun: None,
            ready: vec![None; n],
            began: vec![false; n],
            start: None,
            commit: None,
            reveal: None,
            reports: vec![None; n],
            abort: None,
            out: vec![None; n],
            unbound,
        })
    }

    /// Reads a whole log.
    pub fn read(log: &[Statement]) -> Result<Self, (usize, Refusal)> {
        let first = log.first().ok_or((
            0,
            Refusal::Field {
                what: "log",
                why: "is empty; it must begin with a notice".into(),
            },
        ))?;
        let mut record = Self::open(first).map_err(|e| (0, e))?;
        for (line, statement) in log.iter().enumerate().skip(1) {
            record.absorb(statement).map_err(|e| (line, e))?;
        }
        Ok(record)
    }

    /// The challenge.
    pub fn challenge(&self) -> &ChallengeId {
        &self.notice.message.challenge
    }

    /// Whether this is the key of the prover, the coordinator or a challenger.
    pub fn is_party(&self, key: &VerifyingKey) -> bool {
        let notice = &self.notice.message;
        let mut members = notice
            .challengers
            .iter()
            .chain([&notice.prover, &notice.coordinator]);
        members.any(|m| m.key == *key)
    }

    /// Whether a statement that begins like this is wanted here at all: its author is the party whose word the
    /// kind is, and it is no longer than the terms let it be. A stranger's words are not even read.
    ///
    /// # Errors
    /// Who may say it, or how long it may be.
    pub fn admits(&self, head: &Head) -> Result<(), Refusal> {
        let what = head.kind.name();
        let notice = &self.notice.message;
        let prover = head.key == notice.prover.key;
        let challenger = notice.challengers.iter().any(|c| c.key == head.key);
        let (allowed, may) = match head.kind {
            Kind::Notice | Kind::Begun => ("the coordinator", head.key == notice.coordinator.key),
            Kind::Consent | Kind::Start | Kind::Commit | Kind::Reveal => ("the prover", prover),
            Kind::SeedCommitment | Kind::Ready | Kind::Report => ("a challenger", challenger),
            Kind::Abort => ("the prover or a challenger", prover || challenger),
        };
        if !may {
            return Err(Refusal::Author {
                what,
                allowed,
                key: head.key,
            });
        }
        let most = sizes::most(head.kind, &notice.terms);
        if u64::from(head.body) > most {
            return Err(Refusal::Field {
                what,
                why: format!(
                    "has {} bytes; with these terms at most {most} are taken",
                    head.body
                ),
            });
        }
        Ok(())
    }

    /// Takes one more statement. `Ok(false)`: it was already there, word for word.
    pub fn absorb(&mut self, statement: &Statement) -> Result<bool, Refusal> {
        self.admits(&statement.head())?;
        statement.verify()?;
        self.take(statement)
    }

    /// The same of one whose signature was verified before.
    pub fn absorb_verified(&mut self, verified: &Verified) -> Result<bool, Refusal> {
        self.admits(&verified.statement().head())?;
        self.take(verified.statement())
    }

    fn take(&mut self, statement: &Statement) -> Result<bool, Refusal> {
        let what = statement.name();
        if self.abort.is_some() && !matches!(statement, Statement::Notice(_) | Statement::Abort(_))
        {
            return Err(Refusal::TooEarly {
                what,
                missing: "a new request; the prover gave this one up",
            });
        }
        match statement {
            Statement::Notice(s) if *s == self.notice.signed => Ok(false),
            Statement::Notice(_) => Err(Refusal::Conflict(what)),
            Statement::SeedCommitment(s) => {
                let message: SeedCommitment = s.read()?;
                self.same(what, &message.challenge, 0)?;
                let at = self.challenger(what, s, message.index)?;
                // Of others the prover vouched for nothing: they have no part.
                if self.consent.is_some() && self.seeds[at].is_none() {
                    return Err(Refusal::Field {
                        what,
                        why: "comes after the consent, which names all senders".into(),
                    });
                }
                half("seed.ephemeral", &message.ephemeral)?;
                uplink::record::seed(&self.notice.message, &message)?;
                self.family("seed.data", message.data)?;
                self.family("seed.control", message.control)?;
                keep(what, &mut self.seeds[at], s, message)
            }
            Statement::Consent(s) => {
                let message: Consent = s.read()?;
                self.same(what, &message.challenge, 0)?;
                self.prover(what, s)?;
                self.consented(&message)?;
                keep(what, &mut self.consent, s, message)
            }
            Statement::Begun(s) => {
                let message: Begun = s.read()?;
                self.same(what, &message.challenge, 0)?;
                author(
                    what,
                    "the coordinator",
                    s,
                    self.notice.message.coordinator.key,
                )?;
                let consent = need(what, "the consent", self.consent.as_ref())?;
                if message.setup != Consent::setup_hash(&consent.signed) {
                    return Err(Refusal::Field {
                        what: "begun.setup",
                        why: "is not the hash of the consent".into(),
                    });
                }
                keep(what, &mut self.begun, s, message)
            }
            Statement::Ready(s) => {
                let message: Ready = s.read()?;
                self.same(what, &message.challenge, 0)?;
                let consent = need(what, "the consent", self.consent.as_ref())?;
                let senders = &consent.message.senders;
                let named = senders.iter().find(|s| s.index == message.index);
                need(what, "the prover's consent to it", named)?;
                let at = self.challenger(what, s, message.index)?;
                uplink::record::ready(&self.notice.message, &message)?;
                let fresh = keep(what, &mut self.ready[at], s, message)?;
                self.begin();
                Ok(fresh)
            }
            Statement::Start(s) => {
                let message: Start = s.read()?;
                self.same(what, &message.challenge, message.phase)?;
                self.prover(what, s)?;
                need(what, "the set-up is anchored", self.begun.as_ref())?;
                let fresh = keep(what, &mut self.start, s, message)?;
                self.begin();
                Ok(fresh)
            }
            Statement::Commit(s) => {
                let message: Commit = s.read()?;
                self.same(what, &message.challenge, message.phase)?;
                self.prover(what, s)?;
                need(what, "the start", self.start.as_ref())?;
                if message.counts.len() != self.seeds.len() {
                    return Err(Refusal::Field {
                        what: "commit.counts",
                        why: format!(
                            "has {} entries for {} challengers",
                            message.counts.len(),
                            self.seeds.len()
                        ),
                    });
                }
                keep(what, &mut self.commit, s, message)
            }
            Statement::Reveal(s) => {
                let message: Reveal = s.read()?;
                self.same(what, &message.challenge, message.phase)?;
                self.prover(what, s)?;
                need(what, "the commitment", self.commit.as_ref())?;
                self.revealed(&message)?;
                keep(what, &mut self.reveal, s, message)
            }
            Statement::Report(s) => {
                let message: Report = s.read()?;
                self.same(what, &message.challenge, message.phase)?;
                need(what, "the reveal", self.reveal.as_ref())?;
                let most = self.notice.message.terms.echoes_most();
                if message.rtts.len() as u64 > most {
                    return Err(Refusal::Field {
                        what: "report.rtts",
                        why: format!("has {} entries; at most {most}", message.rtts.len()),
                    });
                }
                if message.sent_back.len() as u64 > BACK_SLOTS {
                    return Err(Refusal::Field {
                        what: "report.sent_back",
                        why: format!(
                            "has {} slots; at most {BACK_SLOTS}",
                            message.sent_back.len()
                        ),
                    });
                }
                let most = self.notice.message.terms.cap_packets();
                if message.sent > most || message.control_sent > most.saturating_add(CONTROL_MOST) {
                    return Err(Refusal::Field {
                        what: "report.sent",
                        why: format!(
                            "is {} packets and {} probes; at most {most} may be sent, and {CONTROL_MOST} probes more",
                            message.sent, message.control_sent
                        ),
                    });
                }
                let at = self.challenger(what, s, message.index)?;
                if self.out[at].is_some() {
                    return Err(Refusal::TooEarly {
                        what,
                        missing: "a new request; this challenger gave this one up",
                    });
                }
                uplink::record::report(&self.notice.message, &message)?;
                keep(what, &mut self.reports[at], s, message)
            }
            Statement::Abort(s) => self.aborted(what, s),
        }
    }

    /// Who is ready and has not given up goes on from the start.
    fn begin(&mut self) {
        if self.start.is_none() {
            return;
        }
        let parts = self.ready.iter().zip(&self.out);
        for (began, (ready, out)) in self.began.iter_mut().zip(parts) {
            *began |= ready.is_some() && out.is_none();
        }
    }

    /// Whether this challenger began, could have reported, and has given neither report nor seed.
    pub fn withholds(&self, index: usize) -> bool {
        let began = self.began.get(index).copied().unwrap_or(false);
        let reported = self.reports.get(index).is_some_and(Option::is_some);
        let left = self.out.get(index).and_then(Option::as_ref);
        let given = reported || left.is_some_and(|kept| kept.message.seed.is_some());
        began && self.reveal.is_some() && !given
    }

    fn aborted(&mut self, what: &'static str, signed: &Signed) -> Result<bool, Refusal> {
        let message: Abort = signed.read()?;
        self.same(what, &message.challenge, 0)?;
        let at = match message.index {
            None => {
                self.prover(what, signed)?;
                None
            }
            Some(index) => Some(self.challenger(what, signed, index)?),
        };
        let field = |what, why: String| Err(Refusal::Field { what, why });
        match at {
            None if self.start.is_some() => {
                return field("abort", "comes after the start, when all go on".into());
            }
            Some(at) if self.reports[at].is_some() => {
                return field("abort", "comes after this challenger's report".into());
            }
            _ => {}
        }
        // It is shown to people as it is.
        if message.why.len() > ABORT_WORDS_MAX || message.why.chars().any(char::is_control) {
            return field(
                "abort.why",
                format!("must be at most {ABORT_WORDS_MAX} bytes without control characters"),
            );
        }
        let opens = |seed| at.is_some_and(|at| self.seed_opens(at, seed));
        if !message.seed.as_ref().is_none_or(opens) {
            return field(
                "abort.seed",
                "does not open this challenger's commitment".into(),
            );
        }
        let slot = match at {
            None => &mut self.abort,
            Some(at) => &mut self.out[at],
        };
        keep(what, slot, signed, message)
    }
}

/// H(seed), bound to its challenge, as the contract `Bonds` computes it.
pub fn seed_hash(challenge: &ChallengeId, seed: &[u8; 32]) -> [u8; 32] {
    keccak256(&[challenge, seed])
}
