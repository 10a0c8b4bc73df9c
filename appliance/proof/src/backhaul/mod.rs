//! Proof of backhaul: this node's link carries K bit/s.
//!
//! ```text
//!   payer ──request, escrow──► chain ◄──draw, anchor, result── coordinator
//!                                                                  │ HTTP: signed statements
//!          ┌──────────────── the session's log (record) ───────────┤
//!          ▼                                                       ▼
//!      challengers 1..n ══ UDP flood, unpredictable ══► prover: tally ─► commit ─► reveal
//!          └────────◄── UDP: echoes, commitment ◄──────────┘
//! ```
//!
//! Claimed: at least f+1 of n challengers being honest, B_g(f) does not exceed what the link carried.
//! Not promised: that the link ends where the prover says (a key lent to a datacentre passes).
//! Everything is sans-I/O: statements, datagrams and times go in, actions come out. Tests: beside each
//! module, and `tests` runs a whole proof on virtual time.

pub mod bundle;
pub mod burst;
pub mod challenger;
pub mod coordinator;
pub mod estimate;
pub mod head;
pub mod judge;
pub mod keystream;
pub mod leaf;
pub mod messages;
pub mod offence;
pub mod offer;
pub mod pace;
pub mod params;
mod probes;
pub mod prover;
pub mod record;
mod replay;
pub mod rtt;
pub mod sendlog;
pub mod sizes;
pub mod tally;
pub mod uplink;
pub mod verdict;

/// Its name: on the chain, in evidence and in metrics.
pub const NAME: &str = "backhaul";

#[cfg(test)]
mod tests;
