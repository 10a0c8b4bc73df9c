//! End to end on a real kernel: real processes in namespaces, real packets, XDP really attached.
//!
//! ```text
//!  stage.rs   a lab, its cast, a run directory; one at a time; torn down also when a test fails
//!  http.rs    plain HTTP/1.1 from inside a namespace
//!  proof.rs   honest · overclaim · plain socket: verdict, figures, money, packets, evidence
//!  uplink.rs  the same away from the prover: verdict, figures, money, packets, evidence
//!  links.rs   both over IPv6 and with jumbo packets
//!  mtu.rs     packets longer than interface or path take: refused before the flood, and the payer told
//!  crash.rs   coordinator killed at several instants · prover silent · prover killed
//!  bond.rs    a seed withheld costs a bond; one that a lying coordinator asks for costs nothing
//!  twice.rs   prover and challenger killed, with their journals and without: one wording each
//!  bystander.rs  TCP through the measured interface before, during and after
//!  privilege.rs  nobody keeps a capability
//!  refusals.rs   bad input: words, exit code, nothing left behind
//!  slow.rs    a chain of slow blocks, from request to payout
//!  door.rs    statements that the coordinator must not take
//! ```
//! Root is needed; without it every test fails and says so.

// The lint exempts test functions, not what they share.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

mod bond;
mod bystander;
mod crash;
mod door;
mod http;
mod links;
mod mtu;
mod privilege;
mod proof;
mod refusals;
mod slow;
mod stage;
mod twice;
mod uplink;
