//! Where the proofs' machines meet sockets, clocks and the chain.
//!
//! ```text
//!             control (HTTP) ──statements──► coordinator ──► chain
//!                 ▲      ▲                        │
//!      statements │      │ statements             └─► store (log, results), bundles
//!              prover   challenger
//!      datapath ─┘ └─ echo (UDP) ─┘ └─ generator
//!
//!              payer: request, wait, verdict, bundle        node: registration, heartbeats
//!              dispute: evidence, bond, what is due          juror: find (evidence), verify, vote
//! ```
//!
//! A role holds no rule of the protocol: it feeds statements, datagrams and times to the machine in
//! `plumbline-proof` and does what comes back. Tests: `tests/netns` runs all roles as processes.

pub mod challenger;
pub mod conduct;
pub mod coordinator;
pub mod dispute;
pub mod evidence;
pub mod export;
pub mod juror;
pub mod ledger;
pub mod limits;
pub mod node;
pub mod outcome;
mod path;
pub mod payer;
pub mod prover;
pub mod settle;
mod uplink;
pub mod view;
