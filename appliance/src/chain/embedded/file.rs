//! The file under a chain: made, opened, looked at without changing it; what is wrong with it, in words.
//!
//! ```text
//!   create ── chain.redb.new ── founded, synced ── renamed ── directory synced ──► chain.redb
//!   open   ── first bytes ── lock ── redb (repairs what a crash left) ──► Database
//!   inspect── the same, through Shadow: what redb would write stays in memory
//! ```
//!
//! Claim: a chain's directory holds either no chain or one that is founded; there is no instant between.
//! Looking changes nothing. A file that cannot be used is refused in a sentence, also where the store's
//! own code stops at the damage. Tests: `appliance/tests/chain/keep.rs`, `power.rs` and `crash.rs` there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, Database, DatabaseError, StorageBackend};

/// Name of the file in the chain's directory.
pub(super) const FILE: &str = "chain.redb";
/// Name of a file that is not founded yet.
const UNFOUNDED: &str = "chain.redb.new";
/// Memory that redb may use as its page cache: the whole state of a few hundred participants.
const CACHE_BYTES: usize = 64 << 20;
/// What every redb file begins with.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// redb writes whole pages, and never fewer than its header.
const PAGE: u64 = 4096;

/// Why a chain's file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{path}: in use by another process; a chain has one sequencer, stop the other first")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// There is none.
    #[error("{path}: there is no such file; a chain's directory holds a file {FILE}")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{path}: no chain's file: {why}; restore it from a backup, or name another directory")]
    Alien {
        /// The file.
        path: PathBuf,
        /// How that shows.
        why: &'static str,
    },
    /// A later version of this program made it.
    #[error("{path}: of format {found}, this program knows {known}; use the version that made it")]
    Format {
        /// The file.
        path: PathBuf,
        /// The file's.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It is damaged.
    #[error(
        "{path}: damaged: {what}; keep the file and restore a backup (plumbline chain restore)"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What, and where.
        what: String,
    },
    /// It cannot be opened or made.
    #[error("{path}: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system or the store said.
        why: String,
    },
}

impl OpenError {
    pub(super) fn failed(path: &Path, why: impl std::fmt::Display) -> Self {
        Self::Failed {
            path: path.to_path_buf(),
            why: why.to_string(),
        }
    }

    pub(super) fn damaged(path: &Path, what: impl std::fmt::Display) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            what: what.to_string(),
        }
    }
}

/// Does `work`, and turns a panic into words: redb stops that way at some kinds of damage.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        format!(
            "the store stopped reading: {}",
            words.unwrap_or("no reason given")
        )
    })
}

/// A file that is being made; it takes its place when it is founded.
#[derive(Debug)]
pub(super) struct Unfounded {
    dir: PathBuf,
}

impl Unfounded {
    /// Makes a new file beside the place where the chain's will be.
    pub(super) fn make(dir: &Path) -> Result<(Self, Database), OpenError> {
        let path = dir.join(UNFOUNDED);
        let failed = |e: io::Error| OpenError::failed(&path, e);
        std::fs::create_dir_all(dir).map_err(failed)?;
        // One that was left by a crash holds nothing that anybody was told of. It is removed, never
        // emptied: it may be a second name of a file that was moved elsewhere since.
        match File::open(&path) {
            Ok(left) => match left.try_lock() {
                Ok(()) => std::fs::remove_file(&path).map_err(failed)?,
                Err(std::fs::TryLockError::WouldBlock) => return Err(OpenError::InUse { path }),
                Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(failed)?;
        let backend = FileBackend::new(file).map_err(|e| OpenError::failed(&path, e))?;
        let database = database(backend, &path)?;
        Ok((
            Self {
                dir: dir.to_path_buf(),
            },
            database,
        ))
    }

    /// Gives the founded file its name, durably.
    pub(super) fn publish(self) -> Result<(), OpenError> {
        let (from, to) = (self.dir.join(UNFOUNDED), self.dir.join(FILE));
        // A link, not a rename: it fails if another process was faster.
        std::fs::hard_link(&from, &to).map_err(|e| OpenError::failed(&to, e))?;
        std::fs::remove_file(&from).map_err(|e| OpenError::failed(&from, e))?;
        sync_tree(&self.dir)
    }
}

/// Syncs `dir` and the directories that hold it, so that the names survive a power loss as the bytes do.
pub(super) fn sync_tree(dir: &Path) -> Result<(), OpenError> {
    let whole = dir.canonicalize().map_err(|e| OpenError::failed(dir, e))?;
    for (depth, dir) in whole.ancestors().enumerate() {
        match File::open(dir).and_then(|d| d.sync_all()) {
            Ok(()) => {}
            Err(e) if depth == 0 => return Err(OpenError::failed(dir, e)),
            // One that we may not even open is none that we made.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Opens the chain's file in `dir`, to write to.
pub(super) fn open(dir: &Path) -> Result<Database, OpenError> {
    let path = dir.join(FILE);
    let file = File::options().read(true).write(true).open(&path);
    database(existing(file, &path)?, &path)
}

/// Opens a chain's file to look at: it is locked, and never written to.
pub(super) fn inspect(path: &Path) -> Result<Database, OpenError> {
    let file = File::options().read(true).open(path);
    database(Shadow::new(existing(file, path)?), path)
}

fn existing(file: io::Result<File>, path: &Path) -> Result<FileBackend, OpenError> {
    let file = file.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => OpenError::Missing {
            path: path.to_path_buf(),
        },
        _ => OpenError::failed(path, e),
    })?;
    let metadata = file.metadata().map_err(|e| OpenError::failed(path, e))?;
    let alien = |why| OpenError::Alien {
        path: path.to_path_buf(),
        why,
    };
    if !metadata.is_file() {
        return Err(alien("it is no regular file"));
    }
    if metadata.len() == 0 {
        return Err(alien("it is empty"));
    }
    FileBackend::new(file).map_err(|e| OpenError::failed(path, e))
}

/// Opens the database on `backend`; an empty one becomes a new database. `path` is what it is called.
pub(super) fn database(backend: impl StorageBackend, path: &Path) -> Result<Database, OpenError> {
    let failed = |e: io::Error| OpenError::failed(path, e);
    let length = backend.len().map_err(failed)?;
    if length > 0 {
        let mut first = [0; MAGIC.len()];
        if length >= PAGE {
            backend.read(0, &mut first).map_err(failed)?;
        }
        if first != MAGIC {
            return Err(OpenError::Alien {
                path: path.to_path_buf(),
                why: "it does not begin as one, or is too short for one",
            });
        }
    }
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    match guarded(|| builder.create_with_backend(backend)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(DatabaseError::DatabaseAlreadyOpen)) => Err(OpenError::InUse {
            path: path.to_path_buf(),
        }),
        Ok(Err(DatabaseError::Storage(redb::StorageError::Io(e)))) => match e.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Err(OpenError::damaged(
                path,
                format!("it is cut off or torn ({e})"),
            )),
            _ => Err(failed(e)),
        },
        Ok(Err(e)) => Err(OpenError::damaged(path, e)),
        Err(stopped) => Err(OpenError::damaged(path, stopped)),
    }
}

/// A store that is read, and whose writes are kept in memory and dropped.
#[derive(Debug)]
pub(super) struct Shadow<B> {
    base: B,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    pages: BTreeMap<u64, Vec<u8>>,
    /// `None` as long as it is that of the base.
    length: Option<u64>,
    /// What of the base still shows: it may have been cut and grown again.
    base_length: Option<u64>,
}

impl<B: StorageBackend> Shadow<B> {
    pub(super) fn new(base: B) -> Self {
        Self {
            base,
            written: Mutex::default(),
        }
    }

    /// A page of the base, zero where it has none.
    fn page(&self, number: u64, seen: u64) -> io::Result<Vec<u8>> {
        let start = number * PAGE;
        let there = seen.saturating_sub(start).min(PAGE);
        let mut page = vec![0; usize::try_from(PAGE).unwrap_or_default()];
        let there = usize::try_from(there).unwrap_or_default();
        if there > 0 {
            self.base.read(start, &mut page[..there])?;
        }
        Ok(page)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parts of `offset..offset + length` by page: number, offset in the page, range in the buffer.
fn parts(offset: u64, length: usize) -> Vec<(u64, usize, std::ops::Range<usize>)> {
    let mut parts = Vec::new();
    let (mut at, mut done) = (offset, 0);
    while done < length {
        let within = usize::try_from(at % PAGE).unwrap_or_default();
        let page = usize::try_from(PAGE).unwrap_or_default();
        let take = (page - within).min(length - done);
        parts.push((at / PAGE, within, done..done + take));
        done += take;
        at += take as u64;
    }
    parts
}

impl<B: StorageBackend> StorageBackend for Shadow<B> {
    fn len(&self) -> io::Result<u64> {
        let length = self.lock().length;
        length.map_or_else(|| self.base.len(), Ok)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let length = self.len()?;
        if offset.saturating_add(out.len() as u64) > length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let written = self.lock();
        let seen = written.base_length.map_or_else(|| self.base.len(), Ok)?;
        for (number, within, range) in parts(offset, out.len()) {
            let to = &mut out[range];
            let end = within + to.len();
            match written.pages.get(&number) {
                Some(page) => to.copy_from_slice(&page[within..end]),
                None => to.copy_from_slice(&self.page(number, seen)?[within..end]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let base = self.base.len()?;
        let mut written = self.lock();
        let seen = written.base_length.unwrap_or(base).min(length);
        written.base_length = Some(seen);
        written.length = Some(length);
        let last = length / PAGE;
        let within = usize::try_from(length % PAGE).unwrap_or_default();
        written.pages.retain(|number, _| *number <= last);
        if let Some(page) = written.pages.get_mut(&last) {
            page[within..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let length = self.len()?.max(offset.saturating_add(data.len() as u64));
        let mut written = self.lock();
        let seen = written.base_length.map_or_else(|| self.base.len(), Ok)?;
        for (number, within, range) in parts(offset, data.len()) {
            let from = &data[range];
            let page = match written.pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    free.insert(self.page(number, seen)?)
                }
            };
            page[within..within + from.len()].copy_from_slice(from);
        }
        written.length = Some(length);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.base.close()
    }

    // Shared where redb asks for itself alone: nothing is written, so two may look, but not while
    // somebody writes.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.base.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.lock_shared_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.base.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.base.query_lock_range(start, end)
    }
}
