//! The appliance: verifiable network measurement on bare metal.
//!
//! ```text
//!   main ─► ui ─► handlers ─► topology ─► role ─┬► datapath ─► sys      who may import whom
//!                                               ├► generator ┘
//!             control (HTTP server, client) ◄───┼► store  clock  chain
//!   metrics, config, keyfile, problem: leaves   └► contracts ─► proof ─► trust ─► wire
//! ```
//! The first four sentences of the product are crates of their own: `wire`, `trust`, `proof`,
//! `contracts`. This one says where they run. `ARCHITECTURE.md` has the map.

pub mod archive;
pub mod bucket;
pub mod chain;
pub mod clock;
pub mod config;
pub mod control;
pub mod datapath;
pub mod generator;
pub mod handlers;
pub mod host;
pub mod journal;
pub mod keyfile;
pub mod metrics;
pub mod privilege;
pub mod problem;
pub mod role;
pub mod store;
pub mod tls;
pub mod topology;
pub mod ui;
pub mod xsk;
