//! `plumbline-attack`: the product's own roles, misbehaving in one named way; and what payers, coordinators and
//! outsiders try beside them. For laboratories: no release holds it.
//!
//! ```text
//!  run ─► config, keys as `plumbline run` ─► topology::run_as(conduct)      challenger · prover · coordinator
//!  payer-withdraws, second-payout ─► transactions that the contract must refuse       money
//!  injection, spoofed-source ─► raw packets while a session's flood is on             outsider
//! ```
#![allow(clippy::print_stdout)] // a command line tool: standard output is its purpose

mod daemon;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    daemon::main(&daemon::Cli::parse())
}
