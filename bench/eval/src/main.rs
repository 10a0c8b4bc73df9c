//! `plumbline-eval`: what `cargo xtask eval` runs as root.

use std::process::ExitCode;

use clap::Parser as _;
use plumbline_eval::Args;

fn main() -> ExitCode {
    plumbline_eval::main(&Args::parse())
}
