//! The HTTP edge: JSON outside, canonical signed bytes inside.
//!
//! ```text
//!   nodes, payers ──► client ══ HTTP/1.1 ══► server ──► role::coordinator
//!                                              ├─ /v1/…   sessions, statements, results, participants
//!                                              ├─ /rpc    the chain's JSON-RPC
//!                                              └─ /healthz /metrics
//! ```
//! What changes state is a signed statement or a signed transaction, checked where it is understood; who hands
//! over a statement is known before it is read. Connections, requests, bodies, waits and page sizes are bounded.
//! Control may stop and a measurement goes on: nodes repeat what was not acknowledged.

#![allow(clippy::result_large_err)] // a problem is made once, on the way out

mod body;
pub mod client;
pub mod door;
mod evidence;
mod messages;
pub mod server;
pub mod visitors;

use std::fmt;
use std::str::FromStr;

use plumbline_proof::backhaul::messages::ChallengeId;
use plumbline_trust::identity::{Signature, SignedError};
use plumbline_trust::{NetworkKey, VerifyingKey};
use serde::{Deserialize, Serialize};

/// Longest a request may wait for news.
pub const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// Most log lines in one answer.
pub const PAGE_LINES: usize = 100;

/// Bytes of lines after which an answer ends; the first line comes however long it is.
pub const PAGE_BYTES: u64 = 1 << 20;

/// Who hands over a statement says so ahead of it: read and checked before the statement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The author.
    pub key: VerifyingKey,
    /// Over session and length, by that key.
    pub signature: Signature,
}

impl Permit {
    /// What it looks like.
    pub const FORM: &str = "Plumbline KEY SIGNATURE";
    /// Domain of its signature.
    const DOMAIN: &str = "plumbline delivery v1";

    /// For a statement of `length` bytes in the session of `challenge`.
    pub fn new(key: &NetworkKey, challenge: &ChallengeId, length: u64) -> Self {
        Self {
            key: key.verifying(),
            signature: key.sign(Self::DOMAIN, &signed(challenge, length)),
        }
    }

    /// Whether it is for this session and length.
    ///
    /// # Errors
    /// It is not, or nobody's.
    pub fn verify(&self, challenge: &ChallengeId, length: u64) -> Result<(), SignedError> {
        let signed = signed(challenge, length);
        self.key.verify(Self::DOMAIN, &signed, &self.signature)
    }
}

fn signed(challenge: &ChallengeId, length: u64) -> Vec<u8> {
    [&challenge[..], &length.to_le_bytes()].concat()
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plumbline {} {}", self.key, self.signature)
    }
}

impl FromStr for Permit {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(' ');
        let (Some("Plumbline"), Some(key), Some(signature), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(());
        };
        Ok(Self {
            key: key.parse().map_err(|_| ())?,
            signature: signature.parse().map_err(|_| ())?,
        })
    }
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
