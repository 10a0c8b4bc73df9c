//! The prover's side of the set-up, and its closing word. What happens between (counting, the
//! commitment) is [`super::tally`]'s, in the receive thread.
//!
//! ```text
//!  Seeds ──all or timeout──► Consented ──begun & ready──► Started ──(tally commits)──► reveal()
//!    └── too few ──► Failed      └── too few ready ──► Failed, said as an Abort
//! ```
//! What it says itself takes effect on the record when it comes back in the log; a line that the log should not
//! hold is skipped.

use std::net::SocketAddr;

use plumbline_trust::identity::{NetworkKey, Signed};
use plumbline_trust::session::{Ephemeral, SessionKey};

use super::messages::{
    Abort, Accounting, Commit, Consent, Reveal, Sender, Settlement, Start, Statement,
};
use super::params::{DEADLINE_DURATIONS, Direction, LEAD_NS, STEP_TIMEOUT_NS};
use super::record::{Record, Refusal};
use super::tally::Tally;
use super::uplink;

/// What the prover wants done.
pub enum ProverAction {
    /// Say this to the coordinator.
    Say(Statement),
    /// Admit these senders and count what they send.
    Open(Opening),
    /// T0 is set: the tally must commit by `deadline_ns`, complete or not.
    Arm {
        /// Unix ns.
        t0_ns: u64,
        /// Unix ns.
        deadline_ns: u64,
    },
    /// The session cannot go on.
    Fail(String),
}

/// Who may send, and under which keys.
pub struct Opening {
    /// Index and data source of each sender.
    pub senders: Vec<(u16, SocketAddr)>,
    /// Control address of each sender: the commitment goes there.
    pub controls: Vec<(u16, SocketAddr)>,
    /// Session keys by index; `None` without consent.
    pub keys: Vec<Option<SessionKey>>,
    /// Unix ns after which nobody may send.
    pub until_ns: u64,
}

enum Step {
    Seeds { until_ns: u64 },
    Consented { until_ns: u64 },
    Started,
    Failed,
}

/// One challenge as its prover lives it.
pub struct Prover {
    pub(super) record: Record,
    /// T0, once it is said.
    pub(super) t0_ns: Option<u64>,
    /// Drawn for this session.
    ephemeral: Ephemeral,
    data: SocketAddr,
    control: SocketAddr,
    step: Step,
}

impl Prover {
    /// Opens a session with the coordinator's notice. `data` and `control` are the measured
    /// addresses that challengers will be told, `ephemeral` an X25519 secret drawn for this session.
    pub fn new(
        notice: &Statement,
        key: &NetworkKey,
        ephemeral: Ephemeral,
        data: SocketAddr,
        control: SocketAddr,
        now_ns: u64,
    ) -> Result<Self, Refusal> {
        let record = Record::open(notice)?;
        if record.notice.message.prover.key != key.verifying() {
            return Err(Refusal::Field {
                what: "notice.prover",
                why: "is not me".into(),
            });
        }
        Ok(Self {
            t0_ns: None,
            ephemeral,
            record,
            data,
            control,
            step: Step::Seeds {
                until_ns: now_ns + STEP_TIMEOUT_NS,
            },
        })
    }

    /// All that was said so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Takes a line of the session's log. One that does not belong there changes nothing.
    pub fn hear(
        &mut self,
        key: &NetworkKey,
        statement: &Statement,
        now_ns: u64,
    ) -> Vec<ProverAction> {
        let _skipped = self.record.absorb(statement);
        self.tick(key, now_ns)
    }

    /// Goes on if a step is complete or its time is up. Call at least every 50 ms.
    pub fn tick(&mut self, key: &NetworkKey, now_ns: u64) -> Vec<ProverAction> {
        let n = self.record.seeds.len();
        let enough = usize::try_from(self.record.notice.message.terms.honest()).unwrap_or(n);
        if let Some(why) = self.hopeless(enough) {
            return self.give_up(key, &why);
        }
        match self.step {
            Step::Seeds { until_ns } => {
                let have = self.record.seeds.iter().flatten().count();
                if have == n || (now_ns >= until_ns && have >= enough) {
                    return self.consent(key, now_ns);
                }
                if now_ns >= until_ns {
                    let why = format!(
                        "{have} of {n} challengers committed to a seed in time; {enough} are needed"
                    );
                    return self.give_up(key, &why);
                }
            }
            Step::Consented { until_ns } => {
                let wanted = self
                    .record
                    .consent
                    .as_ref()
                    .map_or(n, |c| c.message.senders.len());
                let have = self.record.ready.iter().flatten().count();
                let in_time = now_ns < until_ns;
                let waiting = in_time && !self.all_decided();
                if self.record.begun.is_some() && (have >= wanted || (!waiting && have >= enough)) {
                    return self.start(key, now_ns);
                }
                if !in_time {
                    let anchored = if self.record.begun.is_some() {
                        "anchored"
                    } else {
                        "not anchored"
                    };
                    let why = format!(
                        "{have} of {wanted} challengers were ready in time ({enough} are needed); the set-up is {anchored} on the chain"
                    );
                    return self.give_up(key, &why);
                }
            }
            Step::Started | Step::Failed => {}
        }
        Vec::new()
    }

    /// Ends the session before its start, and tells everyone why.
    pub fn give_up(&mut self, key: &NetworkKey, why: &str) -> Vec<ProverAction> {
        let abort = Abort::new(self.record.challenge(), None, why);
        self.step = Step::Failed;
        vec![
            ProverAction::Say(Statement::Abort(Signed::new(key, &abort))),
            ProverAction::Fail(why.to_owned()),
        ]
    }

    /// So many challengers gave up that those left are not enough.
    fn hopeless(&self, enough: usize) -> Option<String> {
        if matches!(self.step, Step::Started | Step::Failed) {
            return None;
        }
        let n = self.record.out.len();
        let mut out = self.record.out.iter().flatten().map(|k| &k.message);
        let gone = out.clone().count();
        let last = out.next_back().filter(|_| n - gone < enough)?;
        let index = last.index.unwrap_or_default();
        Some(format!(
            "{gone} of {n} challengers gave up, and {enough} are needed; challenger {index}: {}",
            last.why
        ))
    }

    /// Everyone with consent is ready or gave up.
    fn all_decided(&self) -> bool {
        let Some(consent) = &self.record.consent else {
            return false;
        };
        let senders = consent.message.senders.iter().map(|s| usize::from(s.index));
        let said = |at: usize| {
            let ready = self.record.ready.get(at).is_some_and(Option::is_some);
            ready || self.record.out.get(at).is_some_and(Option::is_some)
        };
        senders.into_iter().all(said)
    }

    fn consent(&mut self, key: &NetworkKey, now_ns: u64) -> Vec<ProverAction> {
        let notice = &self.record.notice.message;
        let ephemeral = &self.ephemeral;
        let said: Vec<Sender> = self
            .record
            .seeds
            .iter()
            .flatten()
            .map(|k| &k.message)
            .map(|s| Sender {
                index: s.index,
                seed_hash: s.seed_hash,
                ephemeral: s.ephemeral,
                data: s.data,
                control: s.control,
            })
            .collect();
        let mut keys: Vec<Option<SessionKey>> = vec![None; self.record.seeds.len()];
        // A half of small order gives no key: such a challenger is not consented to.
        let senders: Vec<Sender> = said
            .into_iter()
            .filter(|s| {
                let agreed = ephemeral.agree(&s.ephemeral, &notice.challenge, s.index);
                let good = agreed.is_some();
                if let Some(slot) = keys.get_mut(usize::from(s.index)) {
                    *slot = agreed;
                }
                good
            })
            .collect();
        let anchored_ns = notice.anchored_within_ns();
        // The flood is over a deadline after T0, and T0 comes within two steps.
        let until_ns = now_ns + anchored_ns + 2 * STEP_TIMEOUT_NS + 5 * notice.terms.duration_ns();
        let opening = Opening {
            senders: senders.iter().map(|s| (s.index, s.data)).collect(),
            controls: senders.iter().map(|s| (s.index, s.control)).collect(),
            keys,
            until_ns,
        };
        let consent = Consent {
            challenge: notice.challenge,
            data: self.data,
            control: self.control,
            ephemeral: ephemeral.public(),
            cap_packets: notice.terms.cap_packets(),
            until_ns,
            senders,
        };
        // Making packets and probing grow with the duration.
        self.step = Step::Consented {
            until_ns: now_ns + anchored_ns + 2 * notice.terms.duration_ns(),
        };
        vec![
            ProverAction::Open(opening),
            ProverAction::Say(Statement::Consent(Signed::new(key, &consent))),
        ]
    }

    fn start(&mut self, key: &NetworkKey, now_ns: u64) -> Vec<ProverAction> {
        let notice = &self.record.notice.message;
        let t0_ns = now_ns + (4 * self.slowest_ns()).clamp(*LEAD_NS.start(), *LEAD_NS.end());
        let deadline_ns = t0_ns
            + match notice.terms.direction {
                Direction::Down => DEADLINE_DURATIONS * notice.terms.duration_ns(),
                Direction::Up => uplink::flood_ns(&notice.terms),
            };
        let start = Start {
            challenge: notice.challenge,
            phase: 0,
            t0_ns,
        };
        self.step = Step::Started;
        self.t0_ns = Some(t0_ns);
        vec![
            ProverAction::Arm { t0_ns, deadline_ns },
            ProverAction::Say(Statement::Start(Signed::new(key, &start))),
        ]
    }

    /// The (f+1)-th longest round trip that was reported, ns: f that delay their echoes stop nobody.
    pub fn slowest_ns(&self) -> u64 {
        let ready = self.record.ready.iter().flatten();
        let mut round_trips: Vec<u64> = ready.map(|r| r.message.rho_ns).collect();
        round_trips.sort_unstable_by(|a, b| b.cmp(a));
        let at = usize::from(self.record.notice.message.terms.f);
        let slowest = round_trips.get(at).copied().unwrap_or(0);
        slowest.min(*LEAD_NS.end() / 4)
    }

    /// Opens the commitment, once no more packets come.
    pub fn reveal(
        &self,
        key: &NetworkKey,
        settlement: &dyn Settlement,
        tally: &Tally,
        (commit, roots): (&Commit, Vec<[u8; 32]>),
        accounting: Accounting,
    ) -> Statement {
        let reveal = Reveal {
            challenge: commit.challenge,
            phase: commit.phase,
            roots,
            bitmaps: tally.bitmaps(),
            accounting,
            settlement: settlement.sign_commit(&self.record.notice.message, commit),
        };
        Statement::Reveal(Signed::new(key, &reveal))
    }
}
