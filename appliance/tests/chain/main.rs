//! The contracts and the embedded engine, through the client that everyone uses.
//!
//! `flow`: a measurement from request to withdrawal · `refusals`: everything that is refused, on both sides
//! of each boundary · `disputes`: offences in one step, juries, slashes · `governance`: chain variables and
//! modules · `estimator`: the contract's arithmetic against a plain one in Rust · `engine`:
//! durability, conservation, replay · `rpc`: the JSON-RPC, in process and over HTTP.
// Lints let only test functions unwrap; here everything is one, or serves one.
#![allow(clippy::unwrap_used, clippy::panic)]

mod disputes;
mod engine;
mod estimator;
mod flow;
mod governance;
mod refusals;
mod rpc;
mod world;
