//! Capabilities: what is needed to start, and nothing afterwards.
//!
//! ```text
//!  start ─► missing(needs) ─► open sockets, attach XDP ─► drop_all() ─► threads that inherit nothing
//!                                                            └─ holders(): which thread still has any
//! ```
//!
//! Claim: after [`drop_all`] the calling thread, and every thread it starts, holds no capability in any
//! set and can never gain one (`no_new_privs`). Not promised: threads that ran before. The kernel keeps
//! capabilities per thread, so a thread started earlier calls [`drop_all`] itself; [`holders`] finds one
//! that did not. Giving up CAP_DAC_OVERRIDE also means that root reads and writes only what its user
//! may. Tests at the end; those that need root say so.

use std::fmt;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};

/// Something a process does that needs a capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Load the XDP program and its maps.
    LoadProgram,
    /// Attach it to an interface and configure queues.
    AttachProgram,
    /// Open an AF_XDP socket.
    OpenXdpSocket,
}

impl Need {
    /// All that the AF_XDP receive path needs.
    pub const XDP: [Self; 3] = [Self::LoadProgram, Self::AttachProgram, Self::OpenXdpSocket];

    fn capability(self) -> Capability {
        match self {
            Self::LoadProgram => Capability::CAP_BPF,
            Self::AttachProgram => Capability::CAP_NET_ADMIN,
            Self::OpenXdpSocket => Capability::CAP_NET_RAW,
        }
    }

    fn purpose(self) -> &'static str {
        match self {
            Self::LoadProgram => "to load the XDP program and its maps",
            Self::AttachProgram => "to attach the XDP program to the measured interface",
            Self::OpenXdpSocket => "to open an AF_XDP socket",
        }
    }
}

/// A capability that this process needs and does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// `CAP_BPF` and so on.
    pub capability: String,
    /// What it would be used for.
    pub purpose: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is missing, needed {}; run as root, or add it to AmbientCapabilities= of the unit, or: setcap cap_net_admin,cap_net_raw,cap_bpf+ep PLUMBLINE",
            self.capability, self.purpose
        )
    }
}

/// Why privileges could not be examined or dropped.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A system call about capabilities failed.
    #[error("cannot {doing} capabilities of this thread: {source}")]
    Capabilities {
        /// What was attempted.
        doing: &'static str,
        /// What the system said.
        source: caps::errors::CapsError,
    },
    /// `no_new_privs` could not be set.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivs(nix::Error),
    /// `/proc` could not be read.
    #[error("cannot read {path}: {source}; /proc must be mounted", path = .path.display())]
    Proc {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Which of `needs` this thread could not do, each with what it is for.
///
/// # Errors
/// [`PrivilegeError::Capabilities`] if the kernel does not say.
pub fn missing(needs: &[Need]) -> Result<Vec<Missing>, PrivilegeError> {
    let held =
        caps::read(None, CapSet::Effective).map_err(|source| PrivilegeError::Capabilities {
            doing: "read",
            source,
        })?;
    Ok(needs
        .iter()
        .filter(|need| !held.contains(&need.capability()))
        .map(|need| Missing {
            capability: need.capability().to_string(),
            purpose: need.purpose(),
        })
        .collect())
}

/// Gives up every capability of the calling thread, for good. Threads that it starts later have none
/// either. Calling it twice, or without any capability, is fine.
///
/// # Errors
/// [`PrivilegeError`]; what was dropped until then stays dropped.
pub fn drop_all() -> Result<(), PrivilegeError> {
    let failed = |source| PrivilegeError::Capabilities {
        doing: "drop",
        source,
    };
    nix::sys::prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivs)?;
    // The bounding set can only be lowered by who holds CAP_SETPCAP; without it, no_new_privs alone
    // keeps an exec from gaining anything.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed)? {
        caps::clear(None, CapSet::Bounding).map_err(failed)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    caps::clear(None, CapSet::Effective).map_err(failed)?;
    caps::clear(None, CapSet::Permitted).map_err(failed)
}

/// A thread that still holds a capability or could gain one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Thread id.
    pub thread: i32,
    /// Its name.
    pub name: String,
    /// Its permitted capabilities as the kernel's bit mask.
    pub permitted: u64,
    /// Whether it has `no_new_privs`.
    pub no_new_privs: bool,
}

/// Threads of this process on which [`drop_all`] has not been called (nor inherited); empty is good.
///
/// # Errors
/// [`PrivilegeError::Proc`] if `/proc/self/task` cannot be read.
pub fn holders() -> Result<Vec<Holder>, PrivilegeError> {
    let tasks = Path::new("/proc/self/task");
    let proc = |path: &Path, source| PrivilegeError::Proc {
        path: path.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(tasks).map_err(|e| proc(tasks, e))? {
        let path = entry.map_err(|e| proc(tasks, e))?.path().join("status");
        let status = match std::fs::read_to_string(&path) {
            Ok(status) => status,
            // It ended between listing and reading.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                continue;
            }
            Err(error) => return Err(proc(&path, error)),
        };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        // A field that cannot be read counts as held: the doubtful case is the one to report.
        let permitted = u64::from_str_radix(field("CapPrm"), 16).unwrap_or(u64::MAX);
        let no_new_privs = field("NoNewPrivs") == "1";
        if permitted != 0 || !no_new_privs {
            let thread = field("Pid").parse().unwrap_or_default();
            found.push(Holder {
                thread,
                name: field("Name").to_owned(),
                permitted,
                no_new_privs,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn this_thread() -> i32 {
        nix::unistd::gettid().as_raw()
    }

    #[test]
    fn a_thread_that_dropped_holds_nothing_and_neither_do_its_children() {
        std::thread::spawn(|| {
            drop_all().unwrap();
            for set in [
                CapSet::Effective,
                CapSet::Permitted,
                CapSet::Inheritable,
                CapSet::Ambient,
            ] {
                assert!(caps::read(None, set).unwrap().is_empty(), "{set:?}");
            }
            assert!(nix::sys::prctl::get_no_new_privs().unwrap());
            let names: Vec<String> = missing(&Need::XDP)
                .unwrap()
                .into_iter()
                .map(|m| m.capability)
                .collect();
            assert_eq!(names, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_NET_RAW"]);
            let child =
                std::thread::spawn(|| caps::read(None, CapSet::Permitted).unwrap().is_empty());
            assert!(child.join().unwrap());
            let me = this_thread();
            assert!(holders().unwrap().iter().all(|h| h.thread != me));
            drop_all().unwrap();
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_did_not_drop_is_found() {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let other = std::thread::Builder::new()
            .name("keeps".into())
            .spawn(move || {
                tell.send(this_thread()).unwrap();
                let _closed = ended.recv();
            })
            .unwrap();
        let thread = told.recv().unwrap();
        let found = holders().unwrap().into_iter().find(|h| h.thread == thread);
        assert!(found.is_some_and(|h| h.name == "keeps" && !h.no_new_privs));
        drop(end);
        other.join().unwrap();
    }

    #[test]
    fn missing_says_what_for_and_what_to_do() {
        let missing = Missing {
            capability: "CAP_BPF".into(),
            purpose: Need::LoadProgram.purpose(),
        };
        let words = missing.to_string();
        assert!(
            words.contains("CAP_BPF")
                && words.contains("load the XDP program")
                && words.contains("setcap")
        );
    }

    #[test]
    fn root_misses_nothing() {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: sudo cargo xtask test"
        );
        assert_eq!(missing(&Need::XDP).unwrap(), []);
    }
}
