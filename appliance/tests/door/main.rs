//! The coordinator's HTTP door under fire: the real program on loopback, strangers from many addresses of 127/8.
//!
//! ```text
//!   stage     the daemon, exchanges on plain sockets from an address of one's own
//!   slow      heads and bodies that come byte by byte, or not at all
//!   quotas    connections and requests of one address, and of all
//!   chain     /rpc: reads that cost, transactions of nobody
//!   terms     requests below what the coordinator drives
//!   encrypted TLS, and whom a caller believes
//!   fuzz      any bytes, anywhere
//! ```
//! What strangers cost while honest sessions go on is in `tests/scale/strangers.rs`.

// The lint exempts test functions, not what they share.
#![allow(clippy::unwrap_used, clippy::panic)]

mod chain;
mod encrypted;
mod fuzz;
mod quotas;
mod slow;
mod stage;
mod terms;
