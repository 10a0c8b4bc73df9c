//! AF_XDP sockets: memory and rings shared with the kernel, behind an interface without unsafe code.
//!
//! ```text
//!            fill ring               receive ring                  transmit ring           completion ring
//!  Rx: free ──────────► kernel ──────────────────► batch │ Tx: free ──────────► kernel ─────────────────► free
//!       ▲                                            │   │      write(frame) ▲
//!       └───────────────── release ◄─────────────────┘   │
//! ```
//!
//! Claim: a frame of the shared memory (UMEM) is in exactly one place at a time, so that nobody reads
//! bytes which the kernel is writing: [`Rx`] and [`Tx`] own their frames, and what they lend borrows them.
//! The fill ring is filled before the socket is bound (drivers take their first buffers from it then),
//! and errors of a transmission keep their number, because in copy mode each means something else.
//! Not promised: that a descriptor which the kernel has taken reaches the wire.
//! Tests: beside the code (rings and memory), `appliance/tests/datapath/` (a real kernel).

mod rx;
mod sys;
mod tx;

use std::fmt;

pub use rx::{BATCH, Piece, Posting, Rx};
pub(crate) use sys::capacity;
pub(crate) use sys::option;
pub use sys::{Bind, Mode, Pages, XskStatistics};
pub use tx::{Kick, Tx};

/// Bytes that the kernel keeps free before a received packet (`XDP_PACKET_HEADROOM`).
pub const HEADROOM: u32 = 256;

/// What could not be done, and why.
#[derive(Debug)]
pub struct XskError {
    /// What was attempted.
    pub what: String,
    /// What the kernel said.
    pub source: std::io::Error,
}

impl XskError {
    pub(crate) fn last(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            source: std::io::Error::last_os_error(),
        }
    }
}

impl fmt::Display for XskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for XskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
