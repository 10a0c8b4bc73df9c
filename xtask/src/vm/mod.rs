//! `cargo xtask test vm`: the datapath on another kernel, behind other cards.
//!
//! ```text
//!  apt ─► kernel (cached under target/vm) ─┐
//!  cargo ─► appliance/tests/vm (the guest) ┴─► initramfs ─► boot: QEMU, one card after the other
//!                                                              │ console ─► target/vm/CARD.log
//!            passed, failed, table of rungs ◄─ report ◄────────┘ results, a JSON object a line
//! ```
//!
//! Claim: each test that a guest announces is run on Debian 12's kernel behind that card and passed, or
//! is named as failed; a guest that panics, hangs, ends early or announces nothing has failed.
//! Not promised: speed. QEMU emulates the processor and both cards, which a hub in its memory joins, so
//! nothing measured in there means anything. Not promised either: cards that QEMU does not have.
//! Needs no privilege once QEMU is installed. Tests: beside the code; the guest's are in
//! `appliance/tests/vm/`.

mod boot;
mod initramfs;
mod kernel;
mod report;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::machine::{self, Purpose};
use crate::{cargo, units};
use report::Report;

/// A network card as QEMU makes it.
#[derive(Debug, Clone, Copy)]
struct Card {
    /// Its name here, in the guest and in the log's file name.
    name: &'static str,
    /// QEMU's device.
    device: &'static str,
}

/// What the guest is booted with. Which rung each should take is the guest's to know.
const CARDS: [Card; 2] = [
    Card {
        name: "virtio-net",
        device: "virtio-net-pci",
    },
    Card {
        name: "e1000e",
        device: "e1000e",
    },
];

/// Boots every card's guest and adds up what they say.
///
/// # Errors
/// Something is missing, or at least one test failed: each is named.
pub(crate) fn run() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the guest's kernel and cards are x86_64's and its program is built here, on {}",
            std::env::consts::ARCH
        );
    }
    let began = Instant::now();
    let say = |line: &str| println!("{line}");
    machine::prepare(Purpose::Vm, &say)?;
    let cache = cargo::target_directory()?.join("vm");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let kernel = kernel::fetch(&cache, &say)?;
    let busybox = kernel::busybox(&cache, &say)?;
    println!("── building the guest's program");
    let guest = build_guest()?;
    let archive = cache.join("initramfs");
    let bytes = initramfs::make(&kernel, &busybox, &guest)?;
    std::fs::write(&archive, bytes)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let mut reports = Vec::new();
    for card in CARDS {
        println!("── {} on {}", card.name, kernel.name);
        let mut report = Report::new(card.name);
        let log = cache.join(format!("{}.log", card.name));
        let ended = boot::boot(&kernel, &archive, card, &log, |line| {
            if let Some(shown) = report.hear(line) {
                println!("{shown}");
            }
        });
        report.end(ended, &log);
        reports.push(report);
    }
    println!("{}", report::table(&reports));
    conclude(&reports, began)
}

fn conclude(reports: &[Report], began: Instant) -> Result<()> {
    let failures: Vec<_> = reports.iter().flat_map(Report::failures).collect();
    let passed: usize = reports.iter().map(Report::passed).sum();
    for failure in &failures {
        println!("{}: {}", failure.name, failure.why);
    }
    println!(
        "{passed} passed, {} failed, in {}",
        failures.len(),
        units::show_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    );
    if failures.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = failures.into_iter().map(|failure| failure.name).collect();
    bail!("failed: {}", names.join(", "));
}

/// Builds the guest's program, with the profile of the other tests, and returns its path.
fn build_guest() -> Result<PathBuf> {
    let args = [
        "test",
        "--release",
        "--package",
        "plumbline",
        "--test",
        "vm",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ];
    cargo::executable(&args, "vm")
}
