//! The coordinator's own memory: session logs and results, durable before anything is acknowledged.
//!
//! ```text
//!   lines:   (challenge, line number) ─► statement      results: challenge ─► JSON document
//!   marks:   name ─► how far: the block up to which requests were read
//! ```
//! The chain lives in a file of its own. A crash at any instant leaves a log that ends with a whole
//! statement; [`Store::sessions`] gives them back after a restart.

use std::path::{Path, PathBuf};

use plumbline_proof::backhaul::messages::{ChallengeId, Statement};
use plumbline_trust::encoding::{decode, encode};
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};

const LINES: TableDefinition<'_, (&[u8; 32], u64), &[u8]> = TableDefinition::new("lines");
const RESULTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("results");
const MARKS: TableDefinition<'_, &str, u64> = TableDefinition::new("marks");

/// Why the store could not serve.
#[derive(Debug, thiserror::Error)]
#[error("store {}: {what}; check that the disk is not full, the file belongs to this user and no other plumbline runs with this state_dir", path.display())]
pub struct StoreError {
    path: PathBuf,
    what: String,
}

/// Session logs and results in one redb file.
pub struct Store {
    path: PathBuf,
    database: Database,
}

impl Store {
    /// Opens or makes the store in `directory`.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("sessions.redb");
        let failed = |what: String| StoreError {
            path: path.clone(),
            what,
        };
        std::fs::create_dir_all(directory).map_err(|e| failed(e.to_string()))?;
        let database = Database::create(&path).map_err(|e| failed(e.to_string()))?;
        let store = Self {
            path: path.clone(),
            database,
        };
        store.write(|tx| {
            tx.open_table(LINES)?;
            tx.open_table(RESULTS)?;
            tx.open_table(MARKS)?;
            Ok(())
        })?;
        Ok(store)
    }

    fn failed(&self, what: &impl ToString) -> StoreError {
        StoreError {
            path: self.path.clone(),
            what: what.to_string(),
        }
    }

    fn write(
        &self,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let attempt = || -> Result<(), redb::Error> {
            let mut tx = self.database.begin_write()?;
            tx.set_durability(Durability::Immediate)?;
            change(&tx)?;
            tx.commit()?;
            Ok(())
        };
        attempt().map_err(|e| self.failed(&e))
    }

    /// Appends `statements` to a session's log, the first being line `from`.
    pub fn append(
        &self,
        challenge: &ChallengeId,
        from: usize,
        statements: &[Statement],
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let mut lines = tx.open_table(LINES)?;
            for (line, statement) in (from as u64..).zip(statements) {
                lines.insert((challenge, line), encode(statement).as_slice())?;
            }
            Ok(())
        })
    }

    /// The log of a session; empty if there is none.
    pub fn session(&self, challenge: &ChallengeId) -> Result<Vec<Statement>, StoreError> {
        let attempt = || -> Result<Vec<Vec<u8>>, redb::Error> {
            let tx = self.database.begin_read()?;
            let lines = tx.open_table(LINES)?;
            let range = lines.range((challenge, 0)..=(challenge, u64::MAX))?;
            range.map(|row| Ok(row?.1.value().to_vec())).collect()
        };
        let rows = attempt().map_err(|e| self.failed(&e))?;
        rows.iter()
            .map(|r| decode(r).map_err(|e| self.failed(&format!("a log line is corrupt: {e}"))))
            .collect()
    }

    /// Keeps how far something has come.
    pub fn keep_mark(&self, name: &str, mark: u64) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(MARKS)?.insert(name, mark)?;
            Ok(())
        })
    }

    /// How far something had come.
    pub fn mark(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let attempt = || -> Result<Option<u64>, redb::Error> {
            let tx = self.database.begin_read()?;
            Ok(tx.open_table(MARKS)?.get(name)?.map(|mark| mark.value()))
        };
        attempt().map_err(|e| self.failed(&e))
    }

    /// Keeps a session's result document.
    pub fn keep_result(&self, challenge: &ChallengeId, document: &[u8]) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.open_table(RESULTS)?.insert(challenge, document)?;
            Ok(())
        })
    }

    /// A session's result document.
    pub fn result(&self, challenge: &ChallengeId) -> Result<Option<Vec<u8>>, StoreError> {
        let attempt = || -> Result<Option<Vec<u8>>, redb::Error> {
            let tx = self.database.begin_read()?;
            Ok(tx
                .open_table(RESULTS)?
                .get(challenge)?
                .map(|v| v.value().to_vec()))
        };
        attempt().map_err(|e| self.failed(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_trust::Signed;
    use plumbline_trust::identity::{Signature, VerifyingKey};

    fn line(body: u8) -> Statement {
        Statement::Ready(Signed {
            key: VerifyingKey([1; 32]),
            body: vec![body],
            signature: Signature([2; 64]),
        })
    }

    #[test]
    fn logs_come_back_in_order_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        {
            let store = Store::open(dir.path()).unwrap();
            store.append(&[1; 32], 0, &[line(1), line(2)]).unwrap();
            store.append(&[2; 32], 0, &[line(9)]).unwrap();
            store.append(&[1; 32], 2, &[line(3)]).unwrap();
            store.keep_result(&[1; 32], b"{}").unwrap();
        }
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(
            store.session(&[1; 32]).unwrap(),
            [line(1), line(2), line(3)]
        );
        assert_eq!(store.session(&[3; 32]).unwrap(), []);
        assert_eq!(store.result(&[1; 32]).unwrap().unwrap(), b"{}");
        assert_eq!(store.result(&[2; 32]).unwrap(), None);
    }

    #[test]
    fn a_second_opener_is_told_which_file() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path()).unwrap();
        let second = Store::open(dir.path()).err().unwrap().to_string();
        assert!(second.contains("sessions.redb"), "{second}");
    }
}
