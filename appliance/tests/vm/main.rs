//! The datapath on another kernel, behind the card of a virtual machine: the program that
//! `cargo xtask test vm` boots a guest for.
//!
//! ```text
//!  /init ─► vm CARD ─► plan ─► each test: panicked or not ─► JSON lines on standard output
//!                       │
//!                       └► bed: challenger's card ═ QEMU's hub ═ prover's card ─► Receiver
//! ```
//!
//! Claim: on this kernel the program is loaded with and without `CAP_PERFMON`; on this card the ladder
//! ends where `cards.rs` says, with its reasons; and on every rung that can be had, each packet sent is
//! found again under one reason.
//! Not promised: any speed, the processor is emulated. Needs root and a machine of its own: it takes
//! both network cards. This is the test; what reads its output is tested in `xtask/src/vm/report.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout
)] // a test fails by panicking, and its results go to standard output

mod account;
mod bed;
mod cards;
#[allow(dead_code)] // made for the veth tests, which use all of it
#[path = "../datapath/rig.rs"]
mod rig;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bed::Bed;
use caps::{CapSet, Capability};
use cards::{Card, Rung};
use plumbline::datapath::program::Program;
use plumbline::datapath::{DatapathError, PathChoice};
use plumbline_wire::Size;
use serde_json::json;

/// A data packet over IPv6 is 1520 bytes.
const STANDARD: u32 = 1520;
/// And a jumbo one 9008.
const JUMBO: u32 = 9008;

/// Name, MTU of both cards, what is done. Ordered by MTU: changing it takes a card seconds.
type Test = (&'static str, u32, fn(&Bed, &Card));

const TESTS: [Test; 11] = [
    ("the_verifier_takes_the_program", STANDARD, |_, _| load()),
    (
        "the_verifier_takes_the_program_without_perfmon",
        STANDARD,
        |_, _| without_perfmon(),
    ),
    (
        "auto_ends_on_the_rung_of_the_card_and_says_why",
        STANDARD,
        |bed, card| auto(bed, &card.standard),
    ),
    ("native_is_had_or_refused_by_name", STANDARD, |bed, card| {
        native(bed, &card.standard)
    }),
    ("auto_accounts_for_every_packet", STANDARD, |bed, _| {
        account::every_packet(bed, PathChoice::Auto, Size::Standard);
    }),
    ("generic_accounts_for_every_packet", STANDARD, |bed, _| {
        account::every_packet(bed, PathChoice::Generic, Size::Standard);
    }),
    (
        "a_plain_socket_accounts_for_every_packet",
        STANDARD,
        |bed, _| account::every_packet(bed, PathChoice::Socket, Size::Standard),
    ),
    (
        "a_flood_leaves_by_this_card_and_arrives",
        STANDARD,
        account::a_flood_arrives,
    ),
    (
        "auto_ends_on_the_rung_of_the_card_for_jumbo_and_says_why",
        JUMBO,
        |bed, card| auto(bed, &card.jumbo),
    ),
    (
        "native_is_had_or_refused_by_name_for_jumbo",
        JUMBO,
        |bed, card| native(bed, &card.jumbo),
    ),
    ("auto_accounts_for_every_jumbo_packet", JUMBO, |bed, _| {
        account::every_packet(bed, PathChoice::Auto, Size::Jumbo)
    }),
];

fn main() {
    let name = std::env::args().nth(1).expect("usage: vm CARD");
    let card = cards::named(&name);
    let names = TESTS.map(|(name, ..)| name);
    println!("{}", json!({ "kind": "plan", "tests": names }));
    let mut bed = Bed::new();
    for (name, mtu, test) in TESTS {
        let run = AssertUnwindSafe(|| {
            bed.set_mtu(mtu);
            test(&bed, card);
        });
        let failure = catch_unwind(run).err().map(|panic| message(&*panic));
        println!(
            "{}",
            json!({ "kind": "test", "name": name, "failure": failure })
        );
    }
}

/// What a test panicked with.
fn message(panic: &(dyn Any + Send)) -> String {
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked with no message".to_owned())
}

fn load() {
    Program::load(rig::DATA_PORT).unwrap_or_else(|e| panic!("{e}"));
}

/// On a thread of its own, which gives the capabilities up: `CAP_SYS_ADMIN` implies `CAP_PERFMON`.
fn without_perfmon() {
    let thread = std::thread::spawn(|| {
        for capability in [Capability::CAP_PERFMON, Capability::CAP_SYS_ADMIN] {
            caps::drop(None, CapSet::Effective, capability).unwrap();
        }
        load();
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn auto(bed: &Bed, expected: &Rung) {
    let receiver = bed.start(PathChoice::Auto).unwrap();
    let info = receiver.info();
    let rung = json!({
        "kind": "rung",
        "asked": "auto",
        "on": format!("MTU {}", bed.mtu()),
        "receiver": info.receiver,
        "xdp_mode": info.xdp_mode,
        "umem": info.umem,
        "reasons": info.fallback_reasons,
    });
    println!("{rung}");
    let taken = (info.receiver, info.xdp_mode, info.umem);
    assert_eq!(taken, expected.taken, "{:?}", info.fallback_reasons);
    for words in expected.reasons {
        let said = |reason: &String| words.iter().all(|word| reason.contains(word));
        let reasons = &info.fallback_reasons;
        assert!(
            reasons.iter().any(said),
            "no reason says {words:?}: {reasons:?}"
        );
    }
    assert_eq!(bed.xdp(), expected.taken.1, "what `ip link` shows");
    drop(receiver);
    assert_eq!(bed.xdp(), "none", "detached");
}

/// Native XDP asked for by name is had, or refused with the reason; nothing else is taken instead.
fn native(bed: &Bed, expected: &Rung) {
    match (bed.start(PathChoice::Native), expected.taken.1) {
        (Ok(receiver), "native") => assert_eq!(receiver.info().xdp_mode, "native"),
        (Err(DatapathError::Unavailable { rung, reason, .. }), "generic" | "none") => {
            assert_eq!(rung, "native XDP");
            let why = expected.reasons[0];
            assert!(why.iter().all(|word| reason.contains(word)), "{reason}");
        }
        (Ok(receiver), _) => panic!("had, though it should not be: {:?}", receiver.info()),
        (Err(error), _) => panic!("{error}"),
    }
    assert_eq!(bed.xdp(), "none", "nothing stays attached");
}
