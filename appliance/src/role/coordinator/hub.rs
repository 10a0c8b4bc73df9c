//! What the coordinator knows: the sessions, and who waits for news of them.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use plumbline_contracts::State;
use plumbline_contracts::abi::backhaul::IBackhaul::Submission;
use plumbline_proof::backhaul::coordinator::{Coordinator as Machine, CoordinatorAction};
use plumbline_proof::backhaul::messages::{ChallengeId, Consent, Notice, Statement, Verified};
use plumbline_proof::backhaul::record::Refusal;
use plumbline_trust::{Digest, NetworkKey, VerifyingKey};
use tokio::sync::{Notify, watch};

use super::Terms;
use crate::archive::Archive;
use crate::chain::{ChainClient, Engine};
use crate::clock;
use crate::control::SessionSummary;
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::role::conduct::{Conduct, Honest};
use crate::role::settle::{self, Before};
use crate::store::{Store, StoreError};

/// Sessions kept in memory. One more, and the first to go is one that is over, else the one that is open
/// longest: its task takes it up again from the store.
const SESSIONS_MAX: usize = 1024;
/// Sessions that are over kept in memory, for who still lists or reads them: nobody needs them any more, and
/// each holds its whole log. Results and bundles are served from disk.
const OVER_MAX: usize = 32;

/// Requests that are not begun, kept for who asks why.
const DECLINED_MAX: usize = 1024;

/// Why a statement was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HearError {
    /// Against the protocol.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable, so it is not acknowledged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The coordinator itself signed otherwise before.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The chain shows a set-up that is not this log's.
    #[error(
        "the chain shows set-up 0x{} as begun, and the log here does not hold it: it was lost or restored from an older copy; the request times out and the payer is refunded",
        hex::encode(_0)
    )]
    Lost(Digest),
}

/// One session.
pub struct Session {
    id: ChallengeId,
    /// Settlement addresses of the prover and the challengers, as text.
    parties: Vec<String>,
    /// Number of the hub's change that was this session's last.
    changed: AtomicU64,
    /// How its request ended: from then on nobody asks the chain.
    ended: OnceLock<State>,
    /// What was judged of it, once: nothing to post where the prover's commitment does not hold.
    pub(super) concluded: OnceLock<Option<Submission>>,
    machine: Mutex<Machine>,
    /// Lines of the log that are on disk; behind the machine only after the store failed.
    kept: Mutex<usize>,
    journal: Arc<Journal>,
    lines: watch::Sender<usize>,
    /// Wakes the task that drives this session.
    pub wake: Notify,
    pending: Mutex<Vec<CoordinatorAction>>,
    /// Who hands over a long statement now.
    speaking: Mutex<Vec<VerifyingKey>>,
}

/// A party's turn to hand over a long statement.
pub struct Turn(Arc<Session>, VerifyingKey);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.speaking().retain(|key| *key != self.1);
    }
}

/// The coordinator's memory, shared by the HTTP server and the tasks that drive sessions.
pub struct Hub {
    /// Signs notices and bundles.
    pub network: Arc<NetworkKey>,
    /// Our own settlement address, chain and contracts.
    pub chain: Arc<ChainClient>,
    /// What the chain runs on.
    pub engine: Engine,
    /// What was signed.
    pub journal: Arc<Journal>,
    /// Session logs and results on disk.
    pub store: Arc<Store>,
    /// Where bundles lie.
    pub bundles: PathBuf,
    /// Evidence that others brought.
    pub archive: Arc<Archive>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// How it behaves.
    pub conduct: Arc<dyn Conduct>,
    /// Which requests it drives.
    pub terms: Terms,
    /// Those that it does not, and why: the last ones.
    declined: Mutex<VecDeque<(ChallengeId, String)>>,
    /// Block of the chain before which there are no contracts of ours.
    pub first_block: u64,
    /// How long its blocks take; zero where an answer comes with its block.
    pub block_time: Duration,
    /// How much later than it is made a request is seen.
    pub seen_after: Duration,
    /// Why requests on the chain are not seen, if so.
    deaf: Mutex<Option<String>>,
    sessions: Mutex<BTreeMap<ChallengeId, Arc<Session>>>,
    changes: watch::Sender<u64>,
}

impl Hub {
    /// A hub without sessions.
    pub fn new(
        network: Arc<NetworkKey>,
        chain: Arc<ChainClient>,
        engine: Engine,
        (store, journal): (Store, Arc<Journal>),
        archive: Archive,
        directory: &Path,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            network,
            chain,
            engine,
            journal,
            store: Arc::new(store),
            bundles: directory.join("bundles"),
            archive: Arc::new(archive),
            metrics,
            conduct: Arc::new(Honest),
            terms: Terms::default(),
            declined: Mutex::default(),
            first_block: 0,
            block_time: Duration::ZERO,
            seen_after: Duration::ZERO,
            deaf: Mutex::new(None),
            sessions: Mutex::new(BTreeMap::new()),
            changes: watch::Sender::new(1),
        }
    }

    /// Why nothing goes on, or nothing new comes in; `None` while all is well. For health checks.
    pub fn trouble(&self) -> Option<String> {
        let deaf = || self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        self.engine.halted().or_else(|| deaf().clone())
    }

    /// Requests on the chain cannot be seen: why.
    pub(super) fn is_deaf(&self, why: &str) {
        *self.deaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// Requests on the chain are seen.
    pub(super) fn hears(&self) {
        *self.deaf.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<ChallengeId, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session: resumes its log from the store, or begins one with `notice`. `anchored` is the set-up
    /// that the chain shows as begun: nothing goes on with another one.
    ///
    /// # Errors
    /// A notice that breaks the protocol's rules or is not the one signed before, a log without the set-up
    /// that was begun, or a store that cannot write.
    pub fn open(
        &self,
        notice: &Notice,
        anchored: Option<Digest>,
    ) -> Result<Arc<Session>, HearError> {
        let kept = self.store.session(&notice.challenge)?;
        if let Some(lost) = anchored.filter(|setup| !holds(&kept, setup)) {
            return Err(HearError::Lost(lost));
        }
        let machine = if kept.is_empty() {
            let machine = Machine::new(&self.network, notice)?;
            for line in machine.log() {
                self.journal.keep(&notice.challenge, line.clone())?;
            }
            self.store.append(&notice.challenge, 0, machine.log())?;
            machine
        } else {
            Machine::resume(kept, clock::realtime_ns())?
        };
        let parties = notice.challengers.iter().chain([&notice.prover]);
        let session = Arc::new(Session {
            id: notice.challenge,
            parties: parties.map(|m| m.address.to_string()).collect(),
            changed: AtomicU64::new(0),
            ended: OnceLock::new(),
            concluded: OnceLock::new(),
            kept: Mutex::new(machine.log().len()),
            journal: self.journal.clone(),
            lines: watch::Sender::new(machine.log().len()),
            machine: Mutex::new(machine),
            wake: Notify::new(),
            pending: Mutex::new(Vec::new()),
            speaking: Mutex::new(Vec::new()),
        });
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS_MAX {
            forget_one(&mut sessions);
        }
        sessions.insert(notice.challenge, session.clone());
        drop(sessions);
        self.changed(&session);
        Ok(session)
    }

    /// The session of a challenge, while it is in memory.
    pub fn session(&self, id: &ChallengeId) -> Option<Arc<Session>> {
        self.sessions().get(id).cloned()
    }

    /// A request that is not begun, for these reasons.
    pub fn decline(&self, id: ChallengeId, why: String) {
        let mut declined = self.declined.lock().unwrap_or_else(PoisonError::into_inner);
        if declined.len() >= DECLINED_MAX {
            declined.pop_front();
        }
        declined.push_back((id, why));
    }

    /// Why a request is not begun, if it is one of the last of those.
    pub fn declined(&self, id: &ChallengeId) -> Option<String> {
        let declined = self.declined.lock().unwrap_or_else(PoisonError::into_inner);
        let found = declined.iter().find(|(known, _)| known == id);
        found.map(|(_, why)| why.clone())
    }

    /// How many sessions are in memory.
    pub fn count(&self) -> usize {
        self.sessions().len()
    }

    /// Sessions in memory, of `participant` if one is named.
    pub fn of(&self, participant: Option<&str>) -> Vec<Arc<Session>> {
        let sessions = self.sessions();
        let concerned = sessions.values().filter(|s| s.concerns(participant));
        concerned.cloned().collect()
    }

    /// Whether a session of `participant` (of anyone if none is named) came or ended after the change
    /// `after`.
    pub fn has_news(&self, participant: Option<&str>, after: u64) -> bool {
        let fresh = |s: &&Arc<Session>| s.changed.load(Ordering::Acquire) > after;
        let sessions = self.sessions();
        sessions
            .values()
            .filter(fresh)
            .any(|s| s.concerns(participant))
    }

    /// A session's request has ended.
    pub fn ended(&self, id: &ChallengeId, state: State) {
        if let Some(session) = self.session(id) {
            // Once over, a request stays as it is.
            let _known = session.ended.set(state);
            self.changed(&session);
        }
        let mut sessions = self.sessions();
        let over = sessions.values().filter(|s| s.ending().is_some());
        if over.count() > OVER_MAX {
            forget_one(&mut sessions);
        }
    }

    /// Tells whoever waits that a session came or ended.
    fn changed(&self, session: &Session) {
        self.changes.send_modify(|n| {
            *n += 1;
            session.changed.store(*n, Ordering::Release);
        });
    }

    /// Counts changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Where the bundle with this content address lies.
    pub fn bundle_path(&self, address: &[u8; 32]) -> PathBuf {
        self.bundles
            .join(format!("{}.bundle", hex::encode(address)))
    }
}

/// Whether a log holds the consent whose set-up the chain shows.
fn holds(log: &[Statement], setup: &Digest) -> bool {
    let of = |line: &Statement| match line {
        Statement::Consent(signed) => Some(Consent::setup_hash(signed)),
        _ => None,
    };
    log.iter().filter_map(of).any(|held| held == *setup)
}

/// Forgets the session that is missed least.
fn forget_one(sessions: &mut BTreeMap<ChallengeId, Arc<Session>>) {
    let all = sessions.values().map(|s| Standing {
        open: s.ending().is_none(),
        changed: s.changed.load(Ordering::Acquire),
        id: s.id,
    });
    if let Some(first) = all.min() {
        sessions.remove(&first.id);
    }
}

/// What decides which session is missed least: one that is over, and of those the one that has been so
/// longest.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    open: bool,
    changed: u64,
    id: ChallengeId,
}

impl Session {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The challenge.
    pub fn id(&self) -> &ChallengeId {
        &self.id
    }

    fn concerns(&self, participant: Option<&str>) -> bool {
        participant.is_none_or(|who| self.parties.iter().any(|p| p == who))
    }

    /// How its request ended, if it has.
    pub fn ending(&self) -> Option<State> {
        self.ended.get().copied()
    }

    /// Reads the machine.
    pub fn read<T>(&self, look: impl FnOnce(&Machine) -> T) -> T {
        look(&self.machine())
    }

    /// Takes a statement whose signature was verified: on disk before it is acknowledged. Blocks for a commit of
    /// the store.
    ///
    /// # Errors
    /// The protocol's refusal, or the store's.
    pub fn hear(&self, store: &Store, verified: Verified) -> Result<(), HearError> {
        // What the contract will check is checked at the door, without holding the session: one bad signature
        // on the chain would be one report less, without a word to its author.
        let statement = verified.statement();
        let signs = matches!(
            statement,
            Statement::Ready(_) | Statement::Reveal(_) | Statement::Report(_)
        );
        if signs {
            let before = self.read(|m| Before::of(m.record()));
            settle::check(&before, statement)?;
        }
        self.change(store, |machine| {
            machine.hear_verified(verified, clock::realtime_ns())
        })
    }

    /// A party's turn to hand over a long statement, until it is dropped; `None` while it has one.
    pub fn turn(self: &Arc<Self>, key: &VerifyingKey) -> Option<Turn> {
        let mut speaking = self.speaking();
        if speaking.contains(key) {
            return None;
        }
        speaking.push(*key);
        drop(speaking);
        Some(Turn(self.clone(), *key))
    }

    fn speaking(&self) -> MutexGuard<'_, Vec<VerifyingKey>> {
        self.speaking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts our own word that the set-up is anchored into the log.
    ///
    /// # Errors
    /// As [`Session::hear`].
    pub fn anchored(
        &self,
        store: &Store,
        key: &NetworkKey,
        setup: [u8; 32],
    ) -> Result<(), HearError> {
        self.change(store, |machine| {
            machine.anchored(key, setup).map(|()| Vec::new())
        })
    }

    fn change(
        &self,
        store: &Store,
        change: impl FnOnce(&mut Machine) -> Result<Vec<CoordinatorAction>, Refusal>,
    ) -> Result<(), HearError> {
        // One change at a time until it is on disk: the log has one order, the one that is
        // acknowledged, and what a failing store left behind goes first. The machine is held for moments
        // only: who reads it runs on the server's threads, which must not wait for a slow disk.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (length, fresh) = {
            let mut machine = self.machine();
            let actions = change(&mut machine)?;
            self.pending().extend(actions);
            (machine.log().len(), machine.log()[*kept..].to_vec())
        };
        if !fresh.is_empty() {
            // Our own words: in the journal before they can be told.
            for line in fresh.iter().filter(|l| matches!(l, Statement::Begun(_))) {
                self.journal.keep(&self.id, line.clone())?;
            }
            store.append(&self.id, *kept, &fresh)?;
            *kept = length;
        }
        // Before the next change may follow: the number only grows.
        self.lines.send_replace(length);
        drop(kept);
        self.wake.notify_one();
        Ok(())
    }

    /// Writes what a failing store left behind, if anything; until then nothing is due.
    ///
    /// # Errors
    /// The store still cannot write.
    pub fn flush(&self, store: &Store) -> Result<(), HearError> {
        self.change(store, |_| Ok(Vec::new()))
    }

    /// Whether a statement waits for the disk.
    pub fn behind(&self) -> bool {
        let told = *self.lines.borrow();
        self.machine().log().len() > told
    }

    fn pending(&self) -> MutexGuard<'_, Vec<CoordinatorAction>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the lines that [`told`](Self::told) would tell.
    pub fn weight(&self, after: usize, most: usize, bytes: u64) -> u64 {
        self.page(after, most, bytes, |s| s.signed().body.len() as u64)
            .into_iter()
            .sum()
    }

    /// Lines of the log that are on disk, from line `after` on: what may be told. At most so many, and so many
    /// bytes; the first however long it is.
    pub fn told(&self, after: usize, most: usize, bytes: u64) -> Vec<Statement> {
        self.page(after, most, bytes, Statement::clone)
    }

    fn page<T>(
        &self,
        after: usize,
        most: usize,
        bytes: u64,
        of: impl Fn(&Statement) -> T,
    ) -> Vec<T> {
        let durable = *self.lines.borrow();
        let count = durable.saturating_sub(after).min(most);
        let mut length = 0;
        self.read(|m| {
            let lines = m.log().iter().skip(after).take(count);
            let fitting = lines.take_while(|s| {
                let is_first = length == 0;
                length += s.signed().body.len() as u64;
                is_first || length <= bytes
            });
            fitting.map(of).collect()
        })
    }

    /// What is to be done now. Nothing while a statement is not on disk yet: its writer wakes us.
    pub fn due(&self) -> Vec<CoordinatorAction> {
        let Ok(kept) = self.kept.try_lock() else {
            return Vec::new();
        };
        let mut machine = self.machine();
        if machine.log().len() > *kept {
            return Vec::new();
        }
        let mut due = std::mem::take(&mut *self.pending());
        due.extend(machine.tick(clock::realtime_ns()));
        due
    }

    /// What could not be done is due again.
    pub fn again(&self, action: CoordinatorAction) {
        self.pending().push(action);
    }

    /// Length of the log, to wait on.
    pub fn lines(&self) -> watch::Receiver<usize> {
        self.lines.subscribe()
    }

    /// For lists.
    pub fn summary(&self, state: String) -> SessionSummary {
        self.read(|m| {
            let notice = &m.record().notice.message;
            SessionSummary {
                id: format!("0x{}", hex::encode(self.id)),
                state,
                step: m.log().last().map_or("", Statement::name).to_owned(),
                prover: notice.prover.address.to_string(),
                challengers: notice
                    .challengers
                    .iter()
                    .map(|c| c.address.to_string())
                    .collect(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_lost_the_set_up_which_the_chain_shows_is_told_from_one_that_holds_it() {
        let signed = |body| plumbline_trust::Signed {
            key: VerifyingKey([1; 32]),
            body: vec![body],
            signature: plumbline_trust::Signature([2; 64]),
        };
        let log = [Statement::Notice(signed(1)), Statement::Consent(signed(2))];
        assert!(holds(&log, &Consent::setup_hash(&signed(2))));
        assert!(!holds(&log, &Consent::setup_hash(&signed(1))));
        assert!(!holds(&log[..1], &Consent::setup_hash(&signed(2))));
    }

    #[test]
    fn what_is_over_longest_goes_first_and_what_is_open_last() {
        let standing = |open, changed, id: u8| Standing {
            open,
            changed,
            id: [id; 32],
        };
        let mut all = [
            standing(true, 1, 0),
            standing(false, 9, 1),
            standing(false, 4, 9),
            standing(true, 7, 2),
        ];
        all.sort();
        let order: Vec<u8> = all.iter().map(|s| s.id[0]).collect();
        assert_eq!(order, [9, 1, 0, 2]);
    }
}
