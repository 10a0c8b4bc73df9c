//! Why the datapath could not do what was asked: each says what, where, and what to do about it.

use std::net::SocketAddr;

/// Errors of the datapath.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatapathError {
    /// The interface does not exist in this network namespace.
    #[error("interface {interface}: no such interface here; `ip link` lists those there are")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The configuration contradicts itself or the machine.
    #[error("{key} = {value}: {allowed}")]
    Config {
        /// Key of [`super::ReceiverConfig`].
        key: &'static str,
        /// What it holds.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Packets longer than the interface takes.
    #[error(
        "interface {interface} has an MTU of {mtu} bytes, and the packets are {packet_bytes} bytes long at the IP layer: ask with `--mtu {mtu}` or less, or raise the interface's MTU and start the prover again"
    )]
    Mtu {
        /// Interface.
        interface: String,
        /// Its MTU, bytes.
        mtu: u32,
        /// What was asked for, bytes at the IP layer.
        packet_bytes: u16,
    },
    /// The data port cannot be bound.
    #[error(
        "data port {address}: {source}; it must be free and the address local (`ss -ulnp` shows who has it)"
    )]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A rung of the ladder that was asked for explicitly cannot be had.
    #[error("interface {interface}: {rung} cannot be had: {reason}")]
    Unavailable {
        /// Interface.
        interface: String,
        /// Rung of the ladder.
        rung: &'static str,
        /// What is missing and what to do.
        reason: String,
    },
    /// A system call that should work did not.
    #[error("{what}: {source}")]
    Os {
        /// What was attempted.
        what: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A BPF map refused an entry.
    #[error("{what}: {source}")]
    Map {
        /// What was attempted.
        what: &'static str,
        /// What aya said.
        source: Box<aya::maps::MapError>,
    },
    /// A session with this id is open already.
    #[error("session {session} is open already; a session is opened once")]
    SessionOpen {
        /// Session id in hex.
        session: String,
    },
    /// No more sessions.
    #[error("{limit} sessions are open already; close one first")]
    TooManySessions {
        /// How many are allowed.
        limit: usize,
    },
    /// The sender list of a session is empty, too long, or names one sender twice.
    #[error("session {session}: {problem}")]
    Senders {
        /// Session id in hex.
        session: String,
        /// What is wrong with it and what is allowed.
        problem: String,
    },
    /// The receive thread has ended or does not answer.
    #[error("the receive thread is gone ({why}) and cannot {what}; start the receiver anew")]
    ThreadGone {
        /// What was being asked of it.
        what: &'static str,
        /// Why it ended, if it could say.
        why: String,
    },
}

impl From<crate::xsk::XskError> for DatapathError {
    fn from(error: crate::xsk::XskError) -> Self {
        Self::Os {
            what: error.what,
            source: error.source,
        }
    }
}

impl DatapathError {
    /// The present `errno`, with what was attempted.
    pub(crate) fn last_os(what: impl Into<String>) -> Self {
        Self::Os {
            what: what.into(),
            source: std::io::Error::last_os_error(),
        }
    }
}
