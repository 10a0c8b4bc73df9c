//! Packets longer than an interface or a path takes: nobody floods, and the payer hears why long before its
//! deadline.

use std::time::Duration;

use plumbline_lab::{Host, Process};

use crate::stage::{REFUSED, Stage, until};

/// Longest until the payer knows.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a payer that still runs has been told `words`, and its session has ended without a start.
#[track_caller]
fn told(stage: &Stage, payer: &mut Process, words: &str) {
    let log = payer.log().to_owned();
    until(words, PATIENCE, || {
        let said = std::fs::read_to_string(&log).ok()?;
        said.contains(words).then_some(())
    });
    let told = std::fs::read_to_string(&log).expect("its log");
    assert!(
        told.contains("the prover gave up before the start"),
        "{told}"
    );
    let sessions = stage.open_sessions();
    assert!(
        sessions.iter().all(|s| s["step"] == "abort"),
        "{sessions:?}"
    );
}

#[test]
fn packets_too_long_for_interface_or_path_are_refused_before_the_flood_and_the_payer_hears_why() {
    let mut stage = Stage::running(4, 100_000_000);
    let asking = "--faucet --claim 50mbit --challengers 4 --deadline 8s";
    let interface = "interface eth0 has an MTU of 1500 bytes, and the packets are 8988 bytes long";
    let mut jumbo = stage.ask(&format!("{asking} --mtu 9000"));
    told(&stage, &mut jumbo, interface);

    // Neither end knows of it; a router on the way does.
    let narrow = ["link", "set", "prover", "mtu", "1400"];
    assert_eq!(stage.program(Host::Core, "ip", &narrow).code, 0);
    let path = "takes packets of at most 1400 bytes at the IP layer";
    let mut usual = stage.ask(asking);
    told(&stage, &mut usual, path);

    for (payer, words) in [(&mut jumbo, interface), (&mut usual, path)] {
        let outcome = stage.outcome(payer);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (REFUSED, ""),
            "{outcome:?}"
        );
        // Told at once, and again as the reason of the end.
        assert_eq!(outcome.words.matches(words).count(), 2, "{outcome:?}");
        assert!(outcome.words.contains("refunded"), "{outcome:?}");
    }
    stage.end();
}
