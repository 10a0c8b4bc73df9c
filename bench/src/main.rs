//! `plumbline-bench`: what `cargo xtask bench` runs as root.

use std::process::ExitCode;

use clap::Parser as _;
use plumbline_bench::Args;

fn main() -> ExitCode {
    plumbline_bench::main(&Args::parse())
}
