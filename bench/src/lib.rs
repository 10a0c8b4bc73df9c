//! The product's speed, side by side with what one would otherwise use, every packet accounted for.
//!
//! ```text
//!  plan (TOML) ─► run ─┬─► micro     loops: hashing, judging a bundle
//!                      ├─► search    highest rate without loss
//!                      ├─► rows      rounds of trials: pair ─► sink ◄─ source ─► account
//!                      ├─► commit    phases: last packet ─► commitment on the wire
//!                      └─► stages    ns a packet, cores for a real wire
//!                            │
//!  promises (TOML) ─► ratios ┴─► report: table, JSON, plots; --check
//!  chain ─► transactions a second, growth, gas ─► the same report
//! ```
//!
//! Claim: rows of one run can be compared, because their trials are interleaved, run on the same cores over
//! the same kind of ground, and count a packet only when the work on it is done; a row whose packets do not
//! add up is invalid. Not promised: that absolute figures hold elsewhere, or that a veth is a wire. Tests:
//! beside the code; `tests/trial.rs` runs a tiny plan end to end (as root).

mod account;
mod chain;
mod cli;
mod commit;
mod cpu;
mod evidence;
mod iperf;
mod lab_program;
mod load;
mod machine;
mod micro;
mod pair;
mod plan;
mod progress;
mod promise;
mod ratio;
mod report;
mod row;
mod run;
mod search;
mod sink;
mod source;
mod stages;
mod stat;
mod trial;

pub use cli::{Args, main};
pub use evidence::bundle;
