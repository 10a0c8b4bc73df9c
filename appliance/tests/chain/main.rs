//! The contracts and the engines, through the client that everyone uses.
//!
//! On both engines, the embedded one and an anvil process: `flow`: a measurement from request to
//! withdrawal · `refusals`: everything that is refused, on both sides of each boundary · `disputes`:
//! offences in one step, juries, slashes · `bonds`: seeds that are withheld · `governance`: chain variables and
//! modules. One against the other:
//! `differential`.
//! On anvil: `reorg`: each step undone under way, finality, fees, nonces · `endpoints`: nodes that die,
//! hang or lie · `faulty`: nodes that are busy, limit, or forget; what a coordinator asks of them. On the embedded engine: `estimator`: the contract's arithmetic against a plain one in Rust ·
//! `reports`: what a wrong report, or one whose author is convicted, takes with it · `engine`: order, replay, reopening · `power` (on a `platter`), `crash`, `damage`: what may happen to the
//! file · `keep`: backup and export · `follow`: the same chain elsewhere · `view`: what was pinned, and who shows something else · `rpc`: the JSON-RPC, in process
//! and over HTTP · `apis`: the same by Ethereum's own examples. What they stand on: `stand`, `world`.
// Lints let only test functions unwrap; here everything is one, or serves one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod apis;
mod bonds;
#[path = "../money/chance.rs"]
mod chance;
mod crash;
mod damage;
mod differential;
mod disputes;
mod endpoints;
mod engine;
mod estimator;
mod faulty;
mod flow;
mod follow;
mod governance;
mod judges;
mod keep;
mod platter;
mod power;
mod refusals;
mod reorg;
mod reports;
mod rpc;
mod stand;
mod view;
mod world;
