//! The contracts and the embedded engine, through the client that everyone uses.
//!
//! `flow`: a measurement from request to withdrawal · `refusals`: everything that is refused, on both sides
//! of each boundary · `disputes`: offences in one step, juries, slashes · `governance`: chain variables and
//! modules · `estimator`: the contract's arithmetic against a plain one in Rust · `engine`:
//! order, replay, reopening · `power` (on a `platter`), `crash`, `damage`: what may happen to the file ·
//! `keep`: backup and export · `follow`: the same chain elsewhere · `rpc`: the JSON-RPC, in process and over HTTP.
// Lints let only test functions unwrap; here everything is one, or serves one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod crash;
mod damage;
mod disputes;
mod engine;
mod estimator;
mod flow;
mod follow;
mod governance;
mod keep;
mod platter;
mod power;
mod refusals;
mod rpc;
mod world;
