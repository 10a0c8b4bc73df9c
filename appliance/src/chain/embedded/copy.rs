//! Another file of the same chain: what a follower and an import write, a backup and a restore copy.
//!
//! ```text
//!   blocks ─► signer? ─► execute ─► root, hash? ─► pending ── 256 at once ─► disk
//! ```
//!
//! Claim: no block is written that was not executed here and signed by the founder. A copy is a chain's
//! file like any other: it can be verified, backed up, and the sequencer can go on from it.
//! What it does not promise: that a backup is the newest state. A sequencer that goes on from an old one
//! signs a second history, and followers of the first hold its signatures. Tests: `appliance/tests/chain/`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alloy::primitives::B256;
use plumbline_contracts::Deployment;

use super::disk::{Disk, Founding, Sealed, StoreError};
use super::export::{Frame, Watch};
use super::file::{self, OpenError, Unfounded};
use super::seal::SignedHead;
use super::state::Diff;
use super::verify::{Replay, Replayed, VerifyError};
use super::{ChainError, audit};

/// Blocks of one write transaction: a sync for each would be most of the time.
const BATCH: usize = 256;
/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Why a chain cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file cannot be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Execution does not give what was said.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The stream is none, or damaged.
    #[error("the stream {0}")]
    Stream(String),
    /// There is something in the way.
    #[error("{0}: is there already, and is never overwritten; name another place, or move it away")]
    Occupied(PathBuf),
    /// The copy in the directory is of another chain.
    #[error(
        "{path}: a copy of another chain: its block 0 is {found}, that of the source {wanted}; move this copy away (a node's is state_dir/followed; nothing else is lost by it), or name another directory"
    )]
    Other {
        /// The copy.
        path: PathBuf,
        /// Its block 0.
        found: B256,
        /// The source's.
        wanted: B256,
    },
    /// It cannot be written or read.
    #[error("{path}: {why}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

impl From<StoreError> for CopyError {
    fn from(e: StoreError) -> Self {
        Self::Chain(e.into())
    }
}

impl From<OpenError> for CopyError {
    fn from(e: OpenError) -> Self {
        Self::Chain(e.into())
    }
}

fn failed(path: &Path, why: impl std::fmt::Display) -> CopyError {
    CopyError::Failed {
        path: path.to_path_buf(),
        why: why.to_string(),
    }
}

/// A copy that grows.
pub(super) struct Copy {
    disk: Arc<Disk>,
    deployment: Deployment,
    /// Until block 1 is written: the file has no name yet.
    unfounded: Option<(Unfounded, Founding)>,
    founder: audit::Founder,
    replay: Replay,
    pending: Vec<(Sealed, Diff)>,
}

impl Copy {
    /// Opens the copy in `dir`, or begins one there.
    pub(super) fn open(dir: &Path, founding: &Founding) -> Result<Self, CopyError> {
        let path = dir.join(file::FILE);
        let (record, deployment) = audit::parse(founding, Path::new("the source"))?;
        let founder = audit::Founder::new(&record, founding)?;
        if path.symlink_metadata().is_err() {
            let (unfounded, database) = Unfounded::make(dir)?;
            return Ok(Self {
                disk: Arc::new(Disk::new(database)),
                deployment,
                unfounded: Some((unfounded, founding.clone())),
                founder,
                replay: Replay::new(&record, deployment)?,
                pending: Vec::new(),
            });
        }
        let disk = Disk::new(file::open(dir)?);
        let (stored, _) = audit::founding(&disk, &path)?;
        let found = stored.header()?.hash_slow();
        if found != founder.chain {
            let wanted = founder.chain;
            return Err(CopyError::Other {
                path,
                found,
                wanted,
            });
        }
        let replay = Replay::resume(&audit::head(&disk, &stored, &path)?, deployment)?;
        Ok(Self {
            disk: Arc::new(disk),
            deployment,
            unfounded: None,
            founder,
            replay,
            pending: Vec::new(),
        })
    }

    pub(super) fn disk(&self) -> Arc<Disk> {
        Arc::clone(&self.disk)
    }

    /// Where the contracts are.
    pub(super) fn deployment(&self) -> Deployment {
        self.deployment
    }

    pub(super) fn founder(&self) -> &audit::Founder {
        &self.founder
    }

    /// Height and hash of the newest block, written or pending.
    pub(super) fn head(&self) -> (u64, B256) {
        (self.replay.parent.number, self.replay.parent.hash_slow())
    }

    /// Block `number`, which is written, with its signature.
    pub(super) fn signed(&self, number: u64) -> Result<SignedHead, CopyError> {
        let snapshot = self.disk.snapshot()?;
        let header = snapshot.header(number)?;
        let header = header.ok_or(VerifyError::Missing(number))?;
        let (hash, seal) = (header.hash_slow(), snapshot.seal(number)?);
        Ok(self.founder.check(number, hash, seal)?)
    }

    /// Takes the next block.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), CopyError> {
        let (block, seal, diff) = self.founder.execute(&self.replay, frame)?;
        self.replay.accept(&block, diff.clone());
        let sealed = Sealed { block, seal };
        if let Some((unfounded, founding)) = self.unfounded.take() {
            let zero = self.founder.zero.clone();
            self.disk.found(&founding, &zero, &sealed, &diff)?;
            return Ok(unfounded.publish()?);
        }
        self.pending.push((sealed, diff));
        if self.pending.len() >= BATCH {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is pending.
    pub(super) fn flush(&mut self) -> Result<(), CopyError> {
        if !self.pending.is_empty() {
            self.disk.append_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    /// Writes what is pending, and says what there is.
    pub(super) fn finish(&mut self) -> Result<Replayed, CopyError> {
        self.flush()?;
        Ok(self.replay.result())
    }
}

/// Copies the chain in `dir`, which must not be running, to the new file `out`, and verifies the copy by
/// executing it again. Of a running chain, a follower is the backup.
///
/// # Errors
/// If the chain is running or damaged, or `out` is there or cannot be written.
pub fn backup(dir: &Path, out: &Path, watch: Watch<'_>) -> Result<Replayed, CopyError> {
    let path = dir.join(file::FILE);
    // Held until the copy is made: nobody writes meanwhile.
    let held = Disk::new(file::inspect(&path)?);
    let (record, _) = audit::founding(&held, &path)?;
    drop(audit::head(&held, &record, &path)?);
    duplicate(&path, out, watch)?;
    drop(held);
    let verified = super::verify(out);
    if verified.is_err() {
        // It may only be evidence of what is wrong with the original; it is no backup.
        std::fs::remove_file(out).map_err(|e| failed(out, e))?;
    }
    Ok(verified?)
}

/// Makes a chain's directory of the backup `from`, after verifying it by executing it again.
///
/// # Errors
/// If the backup is damaged, or there is a chain in `dir` already.
pub fn restore(from: &Path, dir: &Path, watch: Watch<'_>) -> Result<Replayed, CopyError> {
    let path = dir.join(file::FILE);
    if path.symlink_metadata().is_ok() {
        return Err(CopyError::Occupied(path));
    }
    let verified = super::verify(from)?;
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    duplicate(from, &path, watch)?;
    Ok(verified)
}

/// Copies a file to a place where there is none. It appears there whole, synced, or not at all.
fn duplicate(from: &Path, to: &Path, watch: Watch<'_>) -> Result<(), CopyError> {
    if to.symlink_metadata().is_ok() {
        return Err(CopyError::Occupied(to.to_path_buf()));
    }
    let dir = match to.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut partial = to.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let copied = pieces(from, &partial, watch).and_then(|()| {
        // A link, not a rename: it fails if something came there meanwhile.
        std::fs::hard_link(&partial, to).map_err(|e| failed(to, e))
    });
    let removed = std::fs::remove_file(&partial);
    copied?;
    removed.map_err(|e| failed(&partial, e))?;
    Ok(file::sync_tree(dir)?)
}

fn pieces(from: &Path, to: &Path, watch: Watch<'_>) -> Result<(), CopyError> {
    let mut input = File::open(from).map_err(|e| failed(from, e))?;
    let whole = input.metadata().map_err(|e| failed(from, e))?.len();
    let mut output = File::create_new(to).map_err(|e| failed(to, e))?;
    let mut piece = vec![0; PIECE];
    let mut done = 0;
    loop {
        let read = input.read(&mut piece).map_err(|e| failed(from, e))?;
        if read == 0 {
            break;
        }
        output
            .write_all(&piece[..read])
            .map_err(|e| failed(to, e))?;
        done += read as u64;
        watch(done, whole);
    }
    output.sync_all().map_err(|e| failed(to, e))
}
