//! The coordinator's side: keeps the log, lets in only what the verifier would accept, and says when
//! it is time to anchor the set-up and to judge.
//!
//! ```text
//!  notice ─► Gathering ──consent──► Anchor ─► (Begun) ─► Running ──all reports or timeout──► Judge
//!                └── deadline passes, sooner or later after an Abort: the contract refunds ────┘
//! ```

use plumbline_trust::encoding::Digest;
use plumbline_trust::identity::{NetworkKey, Signed};

use super::messages::{Begun, Consent, Notice, Statement, Verified};
use super::params::STEP_TIMEOUT_NS;
use super::record::{Record, Refusal};

/// What the coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorAction {
    /// Anchor this set-up hash on the chain, then call [`Coordinator::anchored`].
    Anchor(Digest),
    /// All that can come has come: judge the record and post the result.
    Judge,
}

/// One challenge as its coordinator keeps it.
pub struct Coordinator {
    record: Record,
    log: Vec<Statement>,
    anchoring: bool,
    judge_at_ns: Option<u64>,
    judged: bool,
}

impl Coordinator {
    /// Opens a session with the coordinator's own notice.
    pub fn new(key: &NetworkKey, notice: &Notice) -> Result<Self, Refusal> {
        let first = Statement::Notice(Signed::new(key, notice));
        Ok(Self {
            record: Record::open(&first)?,
            log: vec![first],
            anchoring: false,
            judge_at_ns: None,
            judged: false,
        })
    }

    /// Takes a session up again from its log, after a restart.
    pub fn resume(log: Vec<Statement>, now_ns: u64) -> Result<Self, Refusal> {
        let record = Record::read(&log).map_err(|(_, refusal)| refusal)?;
        let terms = record.notice.message.terms;
        let judge_at_ns = record
            .reveal
            .as_ref()
            .map(|_| now_ns + STEP_TIMEOUT_NS + 2 * terms.duration_ns());
        Ok(Self {
            anchoring: record.begun.is_some(),
            record,
            log,
            judge_at_ns,
            judged: false,
        })
    }

    /// The log, from the notice on.
    pub fn log(&self) -> &[Statement] {
        &self.log
    }

    /// What was said, read.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Takes a statement from anyone. Nothing changes unless it is whole, signed by the party whose
    /// word it is, and in its place.
    pub fn hear(
        &mut self,
        statement: Statement,
        now_ns: u64,
    ) -> Result<Vec<CoordinatorAction>, Refusal> {
        self.record.admits(&statement.head())?;
        self.hear_verified(Verified::new(statement)?, now_ns)
    }

    /// The same of a statement whose signature was verified before.
    pub fn hear_verified(
        &mut self,
        verified: Verified,
        now_ns: u64,
    ) -> Result<Vec<CoordinatorAction>, Refusal> {
        let name = verified.statement().name();
        if matches!(
            verified.statement(),
            Statement::Notice(_) | Statement::Begun(_)
        ) {
            // Only this coordinator says these, and not through the door.
            return Err(Refusal::Conflict(name));
        }
        if self.judged {
            return Err(Refusal::TooEarly {
                what: name,
                missing: "a new request; this one is judged",
            });
        }
        if !self.record.absorb_verified(&verified)? {
            return Ok(Vec::new());
        }
        let statement = verified.into_statement();
        let revealed = matches!(statement, Statement::Reveal(_));
        self.log.push(statement);
        if revealed {
            let terms = self.record.notice.message.terms;
            self.judge_at_ns = Some(now_ns + STEP_TIMEOUT_NS + 2 * terms.duration_ns());
        }
        Ok(self.tick(now_ns))
    }

    /// Goes on if a step is complete or its time is up. Call at least every 50 ms.
    pub fn tick(&mut self, now_ns: u64) -> Vec<CoordinatorAction> {
        if self.record.abort.is_some() {
            return Vec::new();
        }
        if let (Some(consent), false) = (&self.record.consent, self.anchoring) {
            self.anchoring = true;
            return vec![CoordinatorAction::Anchor(Consent::setup_hash(
                &consent.signed,
            ))];
        }
        if let (Some(at), false) = (self.judge_at_ns, self.judged) {
            let senders = self.record.consent.iter().flat_map(|c| &c.message.senders);
            let here = |at: usize| {
                let reported = self.record.reports.get(at).is_some_and(Option::is_some);
                reported || self.record.out.get(at).is_some_and(Option::is_some)
            };
            if now_ns >= at || senders.map(|s| usize::from(s.index)).all(here) {
                self.judged = true;
                return vec![CoordinatorAction::Judge];
            }
        }
        Vec::new()
    }

    /// The set-up is on the chain.
    pub fn anchored(&mut self, key: &NetworkKey, setup: Digest) -> Result<(), Refusal> {
        let statement = Statement::Begun(Signed::new(
            key,
            &Begun {
                challenge: *self.record.challenge(),
                setup,
            },
        ));
        if self.record.absorb(&statement)? {
            self.log.push(statement);
        }
        Ok(())
    }
}
