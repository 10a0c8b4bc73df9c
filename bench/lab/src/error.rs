//! Why a lab could not be made, read or removed.

use std::path::PathBuf;

use crate::tool::ToolError;

/// A refusal of the lab: what failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The caller may not make namespaces.
    #[error(
        "a lab makes network namespaces and shapers, which needs root \
         (CAP_NET_ADMIN and CAP_SYS_ADMIN): run it as root or with sudo"
    )]
    NotRoot,
    /// A plan that cannot be built.
    #[error("lab plan: {field} = {value}: {allowed}")]
    Plan {
        /// The field at fault.
        field: &'static str,
        /// What it held.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// An external tool failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file of the lab's own could not be written or read.
    #[error("lab state {path}: {source} (the directory must be writable by root)")]
    State {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A namespace could not be entered or set up.
    #[error("namespace {namespace}: {what}: {source}")]
    Namespace {
        /// The namespace's name, as `ip netns list` shows it.
        namespace: String,
        /// What was tried.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A tool answered something that cannot be read.
    #[error(
        "`{command}` answered what is not the expected JSON ({detail}): iproute2 5.0 or later is needed"
    )]
    Answer {
        /// The command that was run.
        command: String,
        /// What was missing.
        detail: String,
    },
    /// An offload stayed on although it was switched off.
    #[error(
        "{namespace}/{interface}: {feature} is still on after `ethtool -K`; counters would not count single packets"
    )]
    Offload {
        /// The namespace.
        namespace: String,
        /// The interface inside it.
        interface: String,
        /// The feature, as `ethtool -k` calls it.
        feature: String,
    },
    /// Packets kept waiting in a queue past the deadline.
    #[error("{backlog} packets still wait in the lab's queues after {waited_ms} ms")]
    Unsettled {
        /// Packets waiting.
        backlog: u64,
        /// How long was waited, in milliseconds.
        waited_ms: u128,
    },
    /// No lab has this tag.
    #[error("no lab is called {tag}; `cargo xtask lab list` shows those that are up")]
    Unknown {
        /// The tag asked for.
        tag: String,
    },
    /// A host that this lab does not have.
    #[error("this lab has no {host}; it has {challengers} challengers, numbered from 0")]
    NoHost {
        /// The host asked for.
        host: String,
        /// How many challengers there are.
        challengers: u8,
    },
}
