//! Everything this repository can do, one file per verb. It links nothing of the product: it builds
//! and runs the `plumbline` binary as anybody would.
//!
//! ```text
//!  demo ──┬─► machine (what must be installed; who may do it) ─► cargo (builds as the invoking user)
//!  test ──┤                                                           │ sudo, only for what needs it
//!  lab ───┴─► plumbline-lab (namespaces, shaper, wire) ◄──────────────┘
//!  bench  ─► plumbline-bench (built as the user, run as root)
//!  eval   ─► plumbline, plumbline-attack, plumbline-eval (built as the user, run as root)
//!  test chain ─► both engines, random calls, crashes, simulator
//!  conformance ─► suites that others made
//!  test vm ─► QEMU (another kernel, other cards)
//!  ebpf   contracts                     (compile what is committed compiled)
//! ```
#![allow(clippy::print_stdout)] // a command line tool: standard output is its purpose
#![allow(unreachable_pub)] // in a binary nothing is reachable from outside

mod anvil;
mod bench;
mod cargo;
mod conformance;
mod contracts;
mod demo;
mod ebpf;
mod eval;
mod interrupt;
mod lab;
mod machine;
mod test;
mod units;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, show and test Plumbline.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run one real proof of backhaul in a lab on this machine and show what came of it.
    Demo(demo::Args),
    /// Run every check and every test there is, those in network namespaces included; `vm`: on another
    /// kernel.
    Test(test::Args),
    /// Run the suites that others made against the product, and say what is refused on purpose.
    Conformance(conformance::Args),
    /// Measure the datapath side by side with what one would otherwise use; `chain`: the embedded chain.
    Bench(bench::Args),
    /// Show how true the figure is, and what every attack meets: hundreds of real proofs.
    Eval(eval::Args),
    /// Make, list and remove labs.
    Lab(lab::Args),
    /// Rebuild the committed XDP object.
    Ebpf {
        /// Compare with the committed object instead of replacing it.
        #[arg(long)]
        check: bool,
    },
    /// Rebuild the committed contract artifacts.
    Contracts {
        /// Compare with the committed artifacts instead of replacing them.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Conformance(args) => conformance::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Eval(args) => eval::run(&args),
        Verb::Lab(args) => lab::run(&args),
        Verb::Ebpf { check } => ebpf::run(check),
        Verb::Contracts { check } => contracts::run(check),
    };
    interrupt::leave_to_handler();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
