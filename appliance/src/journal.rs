//! The signing journal: what a key has signed, on disk before it leaves, so that nobody can be made to sign
//! two different things.
//!
//! ```text
//!   request seen ─► begin(role, challenge) ──────────────► Seat ─► keep(statement) ─► Kept ─► coordinator
//!                    │ served before?           refused     │       │ other bytes before?   refused
//!                    │ asked before my start?   refused     │       │ the same bytes?       the same again
//!                    └ "served" written, synced             │       └ written, synced
//!                                                           └─► Sink: the one Commit over UDP, not waited for
//!   after a restart:   no Seat for what was begun ─► again(): closing words, word for word, nothing else
//! ```
//!
//! The reservation is the "served" line. It is synced before anything is signed, and only the process that
//! wrote it holds the [`Seat`]: what that process signs in a hurry (the start, the commitment in a receive
//! thread) need not wait for the disk, because no later process signs anything for that challenge.
//!
//! An old copy of the file cannot know that it is old. So a process serves only requests that came onto the
//! chain after it started: what an earlier process served was asked for before. A restored copy, a lost file
//! and kill -9 are one case.
//!
//! **Guarantees.** For one key, challenge, phase and kind at most one statement ever leaves, whatever the
//! coordinator replays, wherever the process is killed, and whichever copy of the file it finds. A disk that is
//! full or fails stops signing and loses nothing: the file is opened again for the next statement.
//!
//! **Limits.** Two processes that run at the same time with copies of one key are not seen. The block of a
//! request and the head are the chain's words: a chain that lies about both, that moves a request to a later
//! block after a restart, or whose `block.number` is not its RPC's, takes the second line's protection away,
//! not the first's. What was asked for before a start is not served, though nobody else serves it either.
//! Lines are never removed (about 200 bytes a challenge); long statements shrink to their hash once they are
//! delivered.
//!
//! **Tests.** Below; `appliance/tests/journal.rs` kills and restores every role at every statement;
//! `appliance/tests/netns/twice.rs` does it to daemons, and fills a disk.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use plumbline_proof::backhaul::messages::{ChallengeId, Statement};
use plumbline_trust::encoding::{decode, encode};
use plumbline_trust::identity::Address;
use redb::backends::InMemoryBackend;
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::config::Role;

/// (address, role, challenge): begun.
const SERVED: TableDefinition<'_, (&[u8; 20], u8, &[u8; 32]), ()> = TableDefinition::new("served");
/// (address, challenge, phase, kind): [`WHOLE`] and the bytes, or [`HASH`] and their BLAKE3.
const SIGNED: TableDefinition<'_, Place<'_>, &[u8]> = TableDefinition::new("signed");
/// (address, challenge): a challenger's place and seed, as long as it can be asked for it.
const OWED: TableDefinition<'_, Asker<'_>, (u16, &[u8; 32])> = TableDefinition::new("owed");
/// Address, challenge.
type Asker<'a> = (&'a [u8; 20], &'a [u8; 32]);
/// Address, challenge, phase, kind.
type Place<'a> = (&'a [u8; 20], &'a [u8; 32], u8, &'a str);

const WHOLE: u8 = 0;
const HASH: u8 = 1;
/// An entry longer than this, bytes, shrinks to its hash once it is delivered.
const SHORT: usize = 64;
/// The kind of a coordinator's bundle: how many lines of the log were judged.
pub const JUDGED: &str = "judged";
/// The kind of a juror's vote.
pub const VOTE: &str = "vote";
/// The kind of a challenger's seed that it gave although it has not reported.
const GIVEN: &str = "given";

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// This key has begun to serve the challenge before.
    #[error(
        "challenge 0x{} was served before: a challenge is served once, ever, and a session that a restart ended is not taken up again",
        hex::encode(_0)
    )]
    Served(ChallengeId),
    /// The request is older than the process.
    #[error(
        "challenge 0x{} was asked for in block {block}, and this process started at block {started}: an earlier one may have served it, so only requests after the start are served",
        hex::encode(challenge)
    )]
    Older {
        /// Which.
        challenge: ChallengeId,
        /// Block of the request.
        block: u64,
        /// Newest block when this process started.
        started: u64,
    },
    /// Other bytes were signed before.
    #[error(
        "another {kind} was signed for challenge 0x{} before",
        hex::encode(challenge)
    )]
    Other {
        /// Which kind of statement.
        kind: String,
        /// Of which challenge.
        challenge: ChallengeId,
    },
    /// Whoever has the seed can answer without having received anything.
    #[error(
        "the seed of challenge 0x{} was given before its report: what was counted with it says nothing",
        hex::encode(_0)
    )]
    Given(ChallengeId),
    /// A statement about another challenge than the one that is served.
    #[error("a {0} about another challenge")]
    Stray(&'static str),
    /// The file could not be read or written.
    #[error("journal {}: {what}; nothing is signed until it can be written: check that the disk is not full, the file belongs to this user and no other plumbline runs with this state_dir", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What happened.
        what: String,
    },
}

/// When a request came onto the chain, and when this process did.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Block of the request.
    pub block: u64,
    /// Newest block when this process started.
    pub started: u64,
}

/// A statement that is in the journal: only this may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(Statement);

impl Kept {
    /// As it is said.
    pub fn statement(&self) -> &Statement {
        &self.0
    }
}

/// One process's right to sign for one challenge: made once, ever.
#[derive(Debug)]
pub struct Seat {
    journal: Arc<Journal>,
    challenge: ChallengeId,
}

impl Seat {
    /// The challenge.
    pub fn challenge(&self) -> &ChallengeId {
        &self.challenge
    }

    /// Puts a statement into the journal; on disk when this returns, but for the start, whose leads do not
    /// wait for a disk: the seat itself is its reservation, and the next statement takes it along.
    ///
    /// # Errors
    /// Another one of its kind is there, or the disk does not take it: then nothing may leave.
    pub fn keep(&self, statement: Statement) -> Result<Kept, JournalError> {
        self.journal.keep(&self.challenge, statement)
    }

    /// Everything said is delivered: nobody needs the long ones again.
    ///
    /// # Errors
    /// The disk's; nothing is lost by it.
    pub fn delivered(&self) -> Result<(), JournalError> {
        self.journal.shrink(&self.challenge)
    }
}

/// What one key has signed, in one redb file.
#[derive(Debug)]
pub struct Journal {
    /// `None`: in memory.
    path: Option<PathBuf>,
    me: [u8; 20],
    /// `None` after a failure: opened again for the next use.
    database: Mutex<Option<Database>>,
}

impl Journal {
    /// Opens or makes the journal of `me` in `directory`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(directory: &Path, me: &Address) -> Result<Arc<Self>, JournalError> {
        let journal = Self {
            path: Some(directory.join("journal.redb")),
            me: me.0,
            database: Mutex::new(None),
        };
        std::fs::create_dir_all(directory).map_err(|e| journal.failed(&e))?;
        journal.begun_tables()
    }

    /// One that forgets when it is dropped: for benches, and tests of what stands on it.
    ///
    /// # Errors
    /// Never seen.
    pub fn in_memory(me: &Address) -> Result<Arc<Self>, JournalError> {
        let journal = Self {
            path: None,
            me: me.0,
            database: Mutex::new(None),
        };
        let database = Database::builder().create_with_backend(InMemoryBackend::new());
        let database = database.map_err(|e| journal.failed(&e))?;
        *journal.slot() = Some(database);
        journal.begun_tables()
    }

    fn begun_tables(self) -> Result<Arc<Self>, JournalError> {
        self.write(Durability::Immediate, |tx| {
            tx.open_table(SERVED)?;
            tx.open_table(SIGNED)?;
            tx.open_table(OWED)?;
            Ok(())
        })?;
        Ok(Arc::new(self))
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &impl ToString) -> JournalError {
        JournalError::Disk {
            path: self.path.clone().unwrap_or_default(),
            what: what.to_string(),
        }
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        let mut slot = self.slot();
        let database = match (slot.take(), &self.path) {
            (Some(database), _) => database,
            (None, Some(path)) => Database::create(path).map_err(|e| self.failed(&e))?,
            (None, None) => return Err(self.failed(&"it failed before")),
        };
        // A file that failed once is not trusted to go on: closed here, repaired when it is opened again.
        let done = work(&database).map_err(|e| self.failed(&e))?;
        *slot = Some(database);
        Ok(done)
    }

    fn write<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        self.with(|database| {
            let mut tx = database.begin_write()?;
            tx.set_durability(durability)?;
            let done = change(&tx)?;
            tx.commit()?;
            Ok(done)
        })
    }

    /// Begins to serve a challenge in a role: once, ever.
    ///
    /// # Errors
    /// Served before, asked for before this process started, or the disk does not take it.
    pub fn begin(
        self: &Arc<Self>,
        role: Role,
        challenge: &ChallengeId,
        asked: Asked,
    ) -> Result<Seat, JournalError> {
        let Asked { block, started } = asked;
        let key = (&self.me, role as u8, challenge);
        let known = self.with(|database| {
            let table = database.begin_read()?.open_table(SERVED)?;
            Ok(table.get(key)?.is_some())
        })?;
        if known {
            return Err(JournalError::Served(*challenge));
        }
        if block <= started {
            return Err(JournalError::Older {
                challenge: *challenge,
                block,
                started,
            });
        }
        let before = self.write(Durability::Immediate, |tx| {
            Ok(tx.open_table(SERVED)?.insert(key, ())?.is_some())
        })?;
        if before {
            // Another task of this process was first.
            return Err(JournalError::Served(*challenge));
        }
        Ok(Seat {
            journal: self.clone(),
            challenge: *challenge,
        })
    }

    /// As [`Seat::keep`], for a coordinator: its words follow from the chain and its log, so that it may say
    /// the same again after a restart.
    ///
    /// # Errors
    /// As [`Seat::keep`].
    pub fn keep(
        &self,
        challenge: &ChallengeId,
        statement: Statement,
    ) -> Result<Kept, JournalError> {
        let (kind, body) = (statement.name(), &statement.signed().body);
        if !body.starts_with(challenge) {
            return Err(JournalError::Stray(kind));
        }
        let durability = match statement {
            Statement::Start(_) => Durability::None,
            _ => Durability::Immediate,
        };
        let bytes = encode(&statement);
        let phase = phase_of(&statement);
        let report = matches!(statement, Statement::Report(_));
        let kept = self.write(durability, |tx| {
            let mut table = tx.open_table(SIGNED)?;
            let key = (&self.me, challenge, phase, kind);
            let given = table.get((&self.me, challenge, 0, GIVEN))?.is_some();
            if report && given && table.get(key)?.is_none() {
                return Ok(None);
            }
            first(&mut table, key, &bytes).map(Some)
        })?;
        let kept = kept.ok_or(JournalError::Given(*challenge))?;
        let same = match kept.split_first() {
            Some((&WHOLE, kept)) => *kept == *bytes,
            Some((&HASH, hash)) => *hash == *blake3::hash(&bytes).as_bytes(),
            _ => false,
        };
        if same {
            return Ok(Kept(statement));
        }
        Err(JournalError::Other {
            kind: kind.to_owned(),
            challenge: *challenge,
        })
    }

    /// What was decided first about `subject`: `value`, unless something is on disk already.
    ///
    /// # Errors
    /// The disk's.
    pub fn decided(&self, subject: &[u8; 32], kind: &str, value: u64) -> Result<u64, JournalError> {
        let bytes = value.to_le_bytes();
        let kept = self.write(Durability::Immediate, |tx| {
            let mut table = tx.open_table(SIGNED)?;
            first(&mut table, (&self.me, subject, 0, kind), &bytes)
        })?;
        let value = kept.split_first().and_then(|(_, v)| v.try_into().ok());
        let value = value.ok_or_else(|| self.failed(&"a line is damaged"))?;
        Ok(u64::from_le_bytes(value))
    }

    /// Keeps a challenger's place and seed, before it says that it begins: whoever is asked for a seed after a restart
    /// can give it.
    ///
    /// # Errors
    /// The disk's.
    pub fn owe(
        &self,
        challenge: &ChallengeId,
        index: u16,
        seed: &[u8; 32],
    ) -> Result<(), JournalError> {
        self.write(Durability::Immediate, |tx| {
            let mut table = tx.open_table(OWED)?;
            table.insert((&self.me, challenge), (index, seed))?;
            Ok(())
        })
    }

    /// Places and seeds that can still be asked for.
    ///
    /// # Errors
    /// The disk's.
    pub fn owed(&self) -> Result<Vec<(ChallengeId, u16, [u8; 32])>, JournalError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(OWED)?;
            let all = (&self.me, &[0; 32])..=(&self.me, &[u8::MAX; 32]);
            let rows = table.range(all)?;
            rows.map(|row| {
                let (key, entry) = row?;
                let (index, seed) = entry.value();
                Ok((*key.value().1, index, *seed))
            })
            .collect()
        })
    }

    /// The seed of this challenge is about to be given: from here on there is no report that is not there yet.
    ///
    /// # Errors
    /// The disk's.
    pub fn give(&self, challenge: &ChallengeId) -> Result<(), JournalError> {
        self.decided(challenge, GIVEN, 1).map(drop)
    }

    /// Nobody can ask for that seed any more.
    ///
    /// # Errors
    /// The disk's.
    pub fn settled(&self, challenge: &ChallengeId) -> Result<(), JournalError> {
        self.write(Durability::Immediate, |tx| {
            tx.open_table(OWED)?.remove((&self.me, challenge))?;
            Ok(())
        })
    }

    /// The closing words of a challenge that an earlier process signed and may not have delivered: a
    /// commitment with what opens it, or a report. Nothing where the last word is not there.
    ///
    /// # Errors
    /// The disk's.
    pub fn again(&self, challenge: &ChallengeId) -> Result<Vec<Kept>, JournalError> {
        let rows = self.rows(challenge)?;
        let whole = rows
            .iter()
            .filter_map(|(_, entry)| match entry.split_first() {
                Some((&WHOLE, bytes)) => decode::<Statement>(bytes).ok(),
                _ => None,
            });
        let closing = whole.filter(|s| {
            matches!(
                s,
                Statement::Commit(_) | Statement::Reveal(_) | Statement::Report(_)
            )
        });
        let words: Vec<Kept> = closing.map(Kept).collect();
        let last = |k: &Kept| matches!(k.0, Statement::Reveal(_) | Statement::Report(_));
        Ok(if words.iter().any(last) {
            words
        } else {
            Vec::new()
        })
    }

    #[allow(clippy::type_complexity)] // (phase, kind) and entry, as the table has them
    fn rows(&self, subject: &[u8; 32]) -> Result<Vec<((u8, String), Vec<u8>)>, JournalError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(SIGNED)?;
            let all = (&self.me, subject, 0, "")..=(&self.me, subject, u8::MAX, "~");
            let rows = table.range(all)?;
            rows.map(|row| {
                let (key, entry) = row?;
                let (_, _, phase, kind) = key.value();
                Ok(((phase, kind.to_owned()), entry.value().to_vec()))
            })
            .collect()
        })
    }

    fn shrink(&self, subject: &[u8; 32]) -> Result<(), JournalError> {
        let rows = self.rows(subject)?;
        self.write(Durability::Immediate, |tx| {
            let mut table = tx.open_table(SIGNED)?;
            for ((phase, kind), entry) in &rows {
                if let Some((&WHOLE, bytes)) = entry.split_first()
                    && bytes.len() > SHORT
                {
                    let hash = [&[HASH], &blake3::hash(bytes).as_bytes()[..]].concat();
                    table.insert((&self.me, subject, *phase, kind.as_str()), hash.as_slice())?;
                }
            }
            Ok(())
        })
    }
}

/// The entry that is there; if there is none, `bytes` become it.
fn first(
    table: &mut redb::Table<'_, Place<'static>, &'static [u8]>,
    key: Place<'_>,
    bytes: &[u8],
) -> Result<Vec<u8>, redb::Error> {
    if let Some(kept) = table.get(key)? {
        return Ok(kept.value().to_vec());
    }
    let entry = [&[WHOLE], bytes].concat();
    table.insert(key, entry.as_slice())?;
    Ok(entry)
}

/// The phase that a statement is about: its second field where there are phases, after the challenge.
fn phase_of(statement: &Statement) -> u8 {
    match statement {
        Statement::Start(s)
        | Statement::Commit(s)
        | Statement::Reveal(s)
        | Statement::Report(s) => s.body.get(32).copied().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_proof::backhaul::messages::{Abort, Commit, Start};
    use plumbline_trust::{NetworkKey, Signed};

    const ME: Address = Address([1; 20]);
    const CHALLENGE: ChallengeId = [7; 32];
    const NEW: Asked = Asked {
        block: 9,
        started: 8,
    };

    fn start(phase: u8, t0_ns: u64) -> Statement {
        let start = Start {
            challenge: CHALLENGE,
            phase,
            t0_ns,
        };
        Statement::Start(Signed::new(&NetworkKey::from_secret(&[1; 32]), &start))
    }

    fn commit(packets: u64) -> Statement {
        let commit = Commit {
            challenge: CHALLENGE,
            phase: 0,
            packets,
            counts: vec![1; 40],
            response: [2; 32],
            arrivals: (3, 4),
        };
        Statement::Commit(Signed::new(&NetworkKey::from_secret(&[1; 32]), &commit))
    }

    fn words<T: std::fmt::Debug>(result: Result<T, JournalError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_challenge_is_begun_once_and_a_statement_has_one_wording_also_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        {
            let journal = Journal::open(dir.path(), &ME).unwrap();
            let seat = journal.begin(Role::Prover, &CHALLENGE, NEW).unwrap();
            assert_eq!(*seat.keep(start(0, 1)).unwrap().statement(), start(0, 1));
            assert!(seat.keep(start(0, 1)).is_ok());
            assert!(words(seat.keep(start(0, 2))).contains("another start was signed"));
            // Another phase is another statement.
            assert!(seat.keep(start(1, 2)).is_ok());
            assert!(seat.keep(commit(1)).is_ok());
            assert!(words(journal.begin(Role::Prover, &CHALLENGE, NEW)).contains("served before"));
        }
        let journal = Journal::open(dir.path(), &ME).unwrap();
        assert!(words(journal.begin(Role::Prover, &CHALLENGE, NEW)).contains("served before"));
        assert!(journal.begin(Role::Challenger, &CHALLENGE, NEW).is_ok());
        assert!(words(journal.keep(&CHALLENGE, commit(2))).contains("another commit"));
        assert!(words(journal.keep(&CHALLENGE, start(0, 2))).contains("another start"));
        assert!(journal.keep(&CHALLENGE, commit(1)).is_ok());
        // Another key in the same directory has signed nothing.
        drop(journal);
        let other = Journal::open(dir.path(), &Address([2; 20])).unwrap();
        assert!(other.keep(&CHALLENGE, commit(2)).is_ok());
    }

    #[test]
    fn only_what_was_asked_for_after_the_start_is_served() {
        let journal = Journal::in_memory(&ME).unwrap();
        let asked = |block| Asked { block, started: 8 };
        for old in [0, 7, 8] {
            let refused = words(journal.begin(Role::Prover, &CHALLENGE, asked(old)));
            assert!(refused.contains(&format!("in block {old}, ")), "{refused}");
        }
        assert!(journal.begin(Role::Prover, &CHALLENGE, asked(9)).is_ok());
    }

    #[test]
    fn closing_words_come_again_until_they_are_delivered_and_their_hash_stays() {
        let journal = Journal::in_memory(&ME).unwrap();
        let seat = journal.begin(Role::Prover, &CHALLENGE, NEW).unwrap();
        seat.keep(start(0, 1)).unwrap();
        seat.keep(commit(1)).unwrap();
        // A commitment without what opens it helps nobody.
        assert_eq!(journal.again(&CHALLENGE).unwrap(), []);
        let Statement::Commit(signed) = commit(1) else {
            unreachable!()
        };
        let reveal = Statement::Reveal(signed);
        seat.keep(reveal.clone()).unwrap();
        let again = journal.again(&CHALLENGE).unwrap();
        assert_eq!(again, [Kept(commit(1)), Kept(reveal)]);
        assert_eq!(journal.again(&[8; 32]).unwrap(), []);
        seat.delivered().unwrap();
        assert_eq!(journal.again(&CHALLENGE).unwrap(), []);
        assert!(seat.keep(commit(1)).is_ok());
        assert!(words(seat.keep(commit(2))).contains("another commit"));
    }

    #[test]
    fn what_was_decided_first_stays_and_a_stray_statement_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path(), &ME).unwrap();
        assert_eq!(first.decided(&CHALLENGE, VOTE, 1).unwrap(), 1);
        drop(first);
        let journal = Journal::open(dir.path(), &ME).unwrap();
        assert_eq!(journal.decided(&CHALLENGE, VOTE, 2).unwrap(), 1);
        assert_eq!(journal.decided(&CHALLENGE, JUDGED, 2).unwrap(), 2);
        assert_eq!(journal.decided(&[8; 32], VOTE, 2).unwrap(), 2);
        let abort = Abort::new(&[8; 32], None, "no");
        let key = NetworkKey::from_secret(&[1; 32]);
        let stray = Statement::Abort(Signed::new(&key, &abort));
        assert!(words(journal.keep(&CHALLENGE, stray)).contains("another challenge"));
    }

    #[test]
    fn a_journal_that_cannot_be_written_says_so_and_a_second_process_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, b"x").unwrap();
        let refused = words(Journal::open(&file.join("below"), &ME));
        assert!(refused.contains("journal.redb: "), "{refused}");
        let _first = Journal::open(dir.path(), &ME).unwrap();
        let second = words(Journal::open(dir.path(), &ME));
        assert!(second.contains("nothing is signed until"), "{second}");
    }

    /// What only says which challenge and phase it is about.
    fn report() -> Statement {
        let Statement::Commit(mut signed) = commit(1) else {
            unreachable!()
        };
        signed.body.truncate(33);
        Statement::Report(signed)
    }

    #[test]
    fn whose_seed_was_given_signs_no_report_any_more_and_a_report_that_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Journal::open(directory.path(), &ME).unwrap();
        open().give(&CHALLENGE).unwrap();
        let refused = words(open().keep(&CHALLENGE, report()));
        assert!(refused.contains("was given before its report"), "{refused}");
        // Everything else may be said, and of another challenge everything.
        open().keep(&CHALLENGE, start(0, 1)).unwrap();

        let journal = Journal::in_memory(&ME).unwrap();
        journal.keep(&CHALLENGE, report()).unwrap();
        journal.give(&CHALLENGE).unwrap();
        journal.keep(&CHALLENGE, report()).unwrap();
        assert_eq!(journal.again(&CHALLENGE).unwrap(), [Kept(report())]);
    }

    #[test]
    fn a_seed_that_is_owed_is_there_after_a_restart_until_nobody_can_ask_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let me = Address([1; 20]);
        let open = || Journal::open(directory.path(), &me).unwrap();
        open().owe(&[2; 32], 3, &[4; 32]).unwrap();
        open().owe(&[5; 32], 6, &[7; 32]).unwrap();
        assert_eq!(
            open().owed().unwrap(),
            [([2; 32], 3, [4; 32]), ([5; 32], 6, [7; 32])]
        );
        // Another key's are its own.
        let other = Journal::open(directory.path(), &Address([9; 20]));
        assert_eq!(other.unwrap().owed().unwrap(), []);
        open().settled(&[2; 32]).unwrap();
        assert_eq!(open().owed().unwrap(), [([5; 32], 6, [7; 32])]);
    }
}
