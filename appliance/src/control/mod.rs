//! The HTTP edge: JSON outside, canonical signed bytes inside.
//!
//! ```text
//!   nodes, payers ──► client ══ HTTP/1.1 ══► server ──► role::coordinator
//!                                              ├─ /v1/…   sessions, statements, results, participants
//!                                              ├─ /rpc    the chain's JSON-RPC
//!                                              └─ /healthz /metrics
//! ```
//! The server authenticates nothing by itself: what changes state is a signed statement or a signed
//! transaction, checked where it is understood. Bodies, waits and page sizes are bounded. Control may
//! stop and a measurement goes on: nodes repeat what was not acknowledged.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};

/// Longest a request may wait for news.
pub const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// Most log lines in one answer.
pub const PAGE_LINES: usize = 100;

/// A statement on its way to the coordinator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// Hexadecimal borsh of a [`plumbline_proof::backhaul::messages::Statement`].
    pub message: String,
}

/// One line of a session's log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// Number, from 0.
    pub line: usize,
    /// Kind of statement.
    pub kind: String,
    /// Hexadecimal borsh.
    pub message: String,
}

/// A page of a session's log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Lines {
    /// The lines.
    pub items: Vec<Line>,
    /// Ask for lines after this one next.
    pub next: usize,
}

/// One session, for lists.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Challenge id, 0x-prefixed.
    pub id: String,
    /// Where the request stands on the chain.
    pub state: String,
    /// Last statement heard.
    pub step: String,
    /// Settlement address of the prover.
    pub prover: String,
    /// Settlement addresses of the drawn challengers, by index.
    pub challengers: Vec<String>,
}

/// A page of sessions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sessions {
    /// The sessions.
    pub items: Vec<SessionSummary>,
    /// Number of changes so far: pass as `after` to wait for the next.
    pub next: u64,
}
