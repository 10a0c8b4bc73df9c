//! The chain, as everything else in the appliance sees it.
//!
//! ```text
//!   ChainClient ── alloy ──┬── transport ── Embedded      (this process: revm + redb)
//!     one code path        └── HTTP ─────── any node that speaks Ethereum's JSON-RPC
//! ```
//!
//! Claim: whoever uses [`ChainClient`] cannot tell which of the two it talks to, and every refusal of a
//! contract arrives as a sentence. What it does not promise: waiting for finality of a chain that can
//! reorganise; against the embedded engine an answer is final. Tests: `appliance/tests/chain/`.

pub mod client;
pub mod embedded;
pub mod transport;

pub use client::{ChainClient, ClientError, Sent};
pub use embedded::{ChainError, Embedded, Genesis, Options};
