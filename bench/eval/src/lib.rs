//! How true the figure is: real proofs in real labs, every one verified again, every packet accounted for.
//!
//! ```text
//!  plan (TOML) ─► cells ─► by site (hosts, round trip): ground ─► lab stands, is reshaped ─► proof ─► Run
//!                   │                                     └ cast: honest, or with an attack's program   │
//!                   │      state file: what is done is kept, a killed evaluation goes on ◄──────────────┘
//!                   └────► report: accuracy · attacks · corruption · shaper · cross ─► JSON, Markdown, SVG
//!  virtual time ─────────► simulated
//!  search ───────────────► an adversary that climbs on virtual time, and the true claims that pass
//! ```
//!
//! Claim: a row is made of proofs that ran here, by the product's own binary, judged by `plumbline verify` to
//! the same verdict and figure; what was inconclusive, failed or was tried again is counted in the row and not
//! left out. Not promised: that a veth is a wire, or that this machine can offer the fastest rates. Tests:
//! beside the code; `tests/tiny.rs` runs a tiny plan end to end (as root).

mod cell;
mod cli;
mod ground;
mod hog;
mod machine;
mod plan;
mod progress;
mod report;
mod run;
mod search;
mod state;
mod virtual_time;

pub use cli::{Args, main};
