//! The chain, as everything else in the appliance sees it.
//!
//! ```text
//!   ChainClient ── alloy ──┬── transport ── Embedded      (this process: revm + redb)
//!     one code path        ├── transport ── Followed      (a coordinator's, executed again here)
//!                          ├── transport ── Endpoints     (any EVM chain: several nodes, none trusted alone)
//!                          └── HTTP ─────── a coordinator's /rpc, or one node
//!   Engine ── what a coordinator runs: either, behind its /rpc and its health check
//! ```
//!
//! Claim: whoever uses [`ChainClient`] cannot tell which of the two it talks to, and every refusal of a
//! contract arrives as a sentence. What is acknowledged is settled: at once on the embedded engine, where
//! nothing can be undone; elsewhere as [`Finality`] says, or one block deep what moves no money and is done
//! again ([`Finality::soon`]). What it does not promise: that a single read of
//! another chain is settled too; it is of that chain's newest block. Tests: `appliance/tests/chain/`.

pub mod caller;
pub mod client;
pub mod embedded;
mod engine;
pub mod finality;
mod pin;
pub mod rpc;
pub mod transport;

pub use caller::Caller;
pub use client::{ChainClient, ClientError, Sent};
pub use embedded::{ChainError, Effect, Embedded, Fork, Genesis, Move, Options};
pub use engine::Engine;
pub use finality::Finality;
pub use pin::{DeploymentFile, Origin};
pub use rpc::{Endpoints, EndpointsError};
