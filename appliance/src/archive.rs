//! Evidence that others brought: on disk by content address, bounded, whole or not there.
//!
//! ```text
//!   PUT, paid by a bond ─► keep: within the limit? ─► part file, synced ─► renamed to its address
//!   GET ─► path ─► bytes: whoever fetches them hashes them, and knows what was asked for
//! ```
//! Nothing is ever removed here: who runs the coordinator may delete files of disputes that are over.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use plumbline_trust::Digest;

/// Most bytes of all evidence together: thousands of bundles, and no way to fill a disk.
pub const ARCHIVE_MAX: u64 = 4 << 30;

/// Why the archive could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The limit is reached.
    #[error(
        "the archive {} is full: {used} of {limit} bytes are used, {asked} more were asked for; delete files of disputes that are over and restart", directory.display()
    )]
    Full {
        /// Where.
        directory: PathBuf,
        /// Bytes there.
        used: u64,
        /// Bytes allowed.
        limit: u64,
        /// Bytes asked for.
        asked: u64,
    },
    /// The disk.
    #[error("the archive {}: {why}; check that the disk is not full and the directory belongs to this user", path.display())]
    Disk {
        /// File or directory.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
}

/// The archive.
#[derive(Debug)]
pub struct Archive {
    directory: PathBuf,
    limit: u64,
    /// Bytes on disk. Held while writing: one piece at a time.
    used: Mutex<u64>,
}

impl Archive {
    /// Opens the archive in `directory`, or makes it; removes what a crash left half written.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(directory: PathBuf, limit: u64) -> Result<Self, ArchiveError> {
        let count = || -> io::Result<u64> {
            std::fs::create_dir_all(&directory)?;
            let mut used = 0;
            for entry in std::fs::read_dir(&directory)? {
                let entry = entry?;
                if entry.path().extension().is_some_and(|e| e == PART) {
                    std::fs::remove_file(entry.path())?;
                } else {
                    used += entry.metadata()?.len();
                }
            }
            Ok(used)
        };
        let used = count().map_err(|why| ArchiveError::Disk {
            path: directory.clone(),
            why,
        })?;
        Ok(Self {
            directory,
            limit,
            used: Mutex::new(used),
        })
    }

    /// Where the evidence of this address lies, if it is here; damaged on disk, it no longer hashes to its address.
    pub fn path(&self, address: &Digest) -> PathBuf {
        self.directory.join(hex::encode(address))
    }

    /// Keeps `bytes` under `address`, which must be theirs; on disk when it returns. Says whether they are
    /// new. Blocks for the disk.
    ///
    /// # Errors
    /// The limit, or the disk.
    pub fn keep(&self, address: &Digest, bytes: &[u8]) -> Result<bool, ArchiveError> {
        let path = self.path(address);
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if path.exists() {
            return Ok(false);
        }
        let asked = bytes.len() as u64;
        if used.saturating_add(asked) > self.limit {
            return Err(ArchiveError::Full {
                directory: self.directory.clone(),
                used: *used,
                limit: self.limit,
                asked,
            });
        }
        write(&path, bytes).map_err(|why| ArchiveError::Disk { path, why })?;
        *used += asked;
        Ok(true)
    }
}

const PART: &str = "part";

/// Writes a file that is there whole or not at all, and survives a crash once this returns.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)?;
    }
    let part = path.with_extension(PART);
    let mut file = std::fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    // The name is in the directory, which is a file of its own.
    std::fs::File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_trust::Address;
    use plumbline_trust::evidence::Evidence;

    fn evidence(n: u8) -> (Vec<u8>, Digest) {
        let evidence = Evidence {
            proof: "backhaul".into(),
            subject: [n; 32],
            accused: Address([n; 20]),
            exhibits: vec![n; 100],
        };
        evidence.seal()
    }

    #[test]
    fn keeps_up_to_its_limit_and_counts_again_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("evidence");
        let ((a, at_a), (b, at_b)) = (evidence(1), evidence(2));
        let limit = a.len() as u64 + b.len() as u64 - 1;
        let archive = Archive::open(directory.clone(), limit).unwrap();
        assert!(archive.keep(&at_a, &a).unwrap());
        assert!(
            !archive.keep(&at_a, &a).unwrap(),
            "the same again costs nothing"
        );
        let full = archive.keep(&at_b, &b).unwrap_err();
        assert!(full.to_string().contains("is full"), "{full}");
        assert!(!archive.path(&at_b).exists());
        std::fs::write(directory.join("left.part"), b"half").unwrap();
        let again = Archive::open(directory.clone(), limit).unwrap();
        assert_eq!(std::fs::read(again.path(&at_a)).unwrap(), a);
        assert!(again.keep(&at_b, &b).is_err());
        assert!(!directory.join("left.part").exists());
        let wider = Archive::open(directory, limit + 1).unwrap();
        assert!(wider.keep(&at_b, &b).unwrap());
    }
}
