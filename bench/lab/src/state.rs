//! What the machine remembers of a lab, so that one whose owner died is found and removed.
//!
//! A record is written before the first namespace is made and removed after the last is gone: a
//! crash in between leaves a record, never a namespace that nobody knows.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::tool;

/// Where records are kept; emptied by a reboot, as namespaces are.
const DIRECTORY: &str = "/run/plumbline-lab";

/// Between asking a process of a lab to stop and ending it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at whether it has stopped.
const LOOK: Duration = Duration::from_millis(5);

/// One lab on this machine, as recorded under `/run/plumbline-lab`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Short unique name; namespaces are called `pl<tag>-<host>`.
    pub tag: String,
    /// Process that owns the lab.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: tells it from a later one with its number.
    pub started: u64,
    /// The namespaces it made, or was about to make.
    pub namespaces: Vec<String>,
}

impl Record {
    /// A record for a lab of this process, with a tag that no other lab has.
    pub(crate) fn claim(hosts: impl Iterator<Item = String>) -> Result<Self, LabError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let tag = format!("{pid}.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let namespaces = hosts.map(|host| format!("pl{tag}-{host}")).collect();
        let started = start_time(pid).ok_or_else(|| LabError::State {
            path: PathBuf::from("/proc/self/stat"),
            source: io::Error::other("no start time found; is /proc mounted?"),
        })?;
        let record = Self {
            tag,
            pid,
            started,
            namespaces,
        };
        record.save()?;
        Ok(record)
    }

    fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{}.json", self.tag))
    }

    fn save(&self) -> Result<(), LabError> {
        let path = self.path();
        let text = serde_json::to_string(self).map_err(io::Error::from);
        text.and_then(|text| {
            std::fs::create_dir_all(DIRECTORY).and_then(|()| std::fs::write(&path, text))
        })
        .map_err(|source| LabError::State { path, source })
    }

    /// Whether the owner still runs.
    #[must_use]
    pub fn is_owned(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Every record on this machine, oldest tag first.
    pub(crate) fn all() -> Result<Vec<Self>, LabError> {
        let fail = |source| LabError::State {
            path: PathBuf::from(DIRECTORY),
            source,
        };
        let entries = match std::fs::read_dir(DIRECTORY) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(fail(error)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(fail)?.path();
            match std::fs::read(&path) {
                // A record being written, or removed, by another lab is not ours to judge.
                Ok(bytes) => records.extend(serde_json::from_slice::<Self>(&bytes).ok()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(LabError::State { path, source }),
            }
        }
        records.sort_by(|a, b| a.tag.cmp(&b.tag));
        Ok(records)
    }

    /// Ends what runs in the lab's namespaces, removes them, then the record. Repeating it is harmless.
    pub(crate) fn remove(&self) -> Result<(), LabError> {
        let namespaces: Vec<_> = self
            .namespaces
            .iter()
            .map(Namespace::new)
            .filter(Namespace::exists)
            .collect();
        end_processes(&namespaces);
        let mut failed = None;
        for namespace in &namespaces {
            if let Err(error) = tool::run("ip", &["netns", "del", namespace.name()])
                && namespace.exists()
            {
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        match std::fs::remove_file(self.path()) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(LabError::State {
                path: self.path(),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Removes the labs whose owner is gone.
    pub(crate) fn reap() -> Result<(), LabError> {
        Self::all()?
            .iter()
            .filter(|record| !record.is_owned())
            .try_for_each(Self::remove)
    }
}

/// Field 22 of `/proc/<pid>/stat`; none if there is no such process or it is a zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets and may itself hold spaces and brackets.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Processes whose main thread is in one of the namespaces; never this one.
fn processes(namespaces: &[Namespace]) -> Vec<Pid> {
    let mut found = Vec::new();
    for namespace in namespaces {
        let listed = tool::run("ip", &["netns", "pids", namespace.name()]).unwrap_or_default();
        found.extend(
            listed
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .map(Pid::from_raw),
        );
    }
    found.retain(|pid| *pid != nix::unistd::getpid());
    found
}

fn end_processes(namespaces: &[Namespace]) {
    let asked = processes(namespaces);
    for pid in &asked {
        // Gone already is what was wanted.
        let _ = kill(*pid, Signal::SIGTERM);
    }
    let deadline = Instant::now() + PATIENCE;
    let running =
        |pid: &Pid| u32::try_from(pid.as_raw()).is_ok_and(|pid| start_time(pid).is_some());
    while asked.iter().any(running) && Instant::now() < deadline {
        std::thread::sleep(LOOK);
    }
    for pid in processes(namespaces) {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_known_by_number_and_start() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        let mine = Record {
            tag: "t".into(),
            pid,
            started,
            namespaces: Vec::new(),
        };
        assert!(mine.is_owned());
        assert!(
            !Record {
                started: started + 1,
                ..mine.clone()
            }
            .is_owned()
        );
        assert!(
            !Record {
                pid: u32::MAX,
                ..mine
            }
            .is_owned()
        );
    }
}
