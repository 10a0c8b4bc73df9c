//! The other direction on a real kernel: the prover sends through a shaped link, challengers count.

use std::time::Duration;

use plumbline_lab::{Account, Counters, Host, Plan, Shape, WirePlan};
use serde_json::{Value, json};

use crate::stage::{FAILED, OK, Stage};

/// Two noisy cores carry this with room to spare.
const LINK: u64 = 100_000_000;
/// Base units for one byte at the IP layer, unless the payer says otherwise.
const BYTE_PRICE: u64 = 1000;
/// Phase, milliseconds.
const DURATION: u64 = 1000;

/// Packets paid of one challenger at most: m = ⌈K·D / (8·L·(n−f))⌉.
pub(crate) fn paid_most(claim: u64, packet_bytes: u64, honest: u64) -> u64 {
    (claim * DURATION).div_ceil(8 * packet_bytes * honest * 1000)
}

/// A lab whose prover sends at no more than `up_bps`.
#[track_caller]
fn stage(challengers: u8, up_bps: u64) -> Stage {
    let mut stage = Stage::of(Plan {
        up: Some(Shape::ip_layer(up_bps, 1500)),
        ..Plan::backhaul(challengers, Shape::ip_layer(2 * LINK, 1500), None)
    });
    stage.start_all();
    stage
}

/// What holds of every uplink that came to a verdict, whatever was measured.
#[track_caller]
fn holds(stage: &Stage, before: &Counters, document: &Value, most: u64) {
    let after = stage
        .lab
        .settle(crate::stage::SETTLE)
        .expect("empty queues");
    let lost = after.since(before);
    let packets = document["packets"].as_object().expect("packets");
    let account = Account::new(packets, lost.up.total + lost.down.total);
    assert_eq!(
        account.unaccounted(),
        0,
        "{account:?}\n{lost:?}\n{document}"
    );
    assert!(account.verified > 0, "{account:?}");
    assert_eq!(document["direction"], "up");
    let packet_bytes = document["packet_bytes"].as_u64().expect("a length");
    assert_eq!(document["state"], "Final");
    assert_eq!(document["chain"]["conserved"], true);
    for challenger in document["challengers"].as_array().expect("challengers") {
        assert_eq!(challenger["valid"], true, "{document}");
        let counted = challenger["packets"].as_u64().expect("a count");
        let sent = challenger["sent"].as_u64().expect("a count");
        assert!(0 < counted && counted <= sent, "{challenger}");
        let due = counted.min(most) * packet_bytes * BYTE_PRICE;
        assert_eq!(challenger["paid"], due.to_string(), "{challenger}");
    }
}

/// Asks up to three times for this verdict and a figure within five per cent of the truth: what else runs
/// on the machine takes rate away from a lab. What must hold is asserted each time.
#[track_caller]
pub(crate) fn measured(
    stage: &mut Stage,
    arguments: &str,
    most: u64,
    (verdict, code): (&str, i32),
    truth: u64,
) -> Value {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = stage.counters();
        let outcome = stage.measure(arguments);
        assert!([OK, FAILED].contains(&outcome.code), "{outcome:?}");
        let document = outcome.json();
        holds(stage, &before, &document, most);
        let figure = document["measured_bps"].as_u64().expect("a rate");
        let is_near = figure.abs_diff(truth) * 20 <= truth;
        if is_near && document["verdict"] == verdict && outcome.code == code {
            return document;
        }
        seen.push((
            document["verdict"].clone(),
            figure,
            document["reason"].clone(),
        ));
    }
    panic!("{verdict} at {truth} bit/s was to be measured, not {seen:?}");
}

/// `plumbline verify` agrees with the document, and so does what is exported for other tools.
#[track_caller]
pub(crate) fn verifies(stage: &mut Stage, bundle: &str, document: &Value) {
    let verified = stage.plumbline(Host::Coordinator, &["verify", bundle, "--json"]);
    assert_eq!(verified.code, OK, "{verified:?}");
    let again = verified.json();
    assert_eq!(again["verify"], "ok", "{again}");
    for figure in ["verdict", "measured_bps", "guaranteed_bps"] {
        assert_eq!(again[figure], document[figure], "{figure}");
    }
    let asked = ["export", bundle, "--format", "tr471"];
    let exported = stage.plumbline(Host::Coordinator, &asked);
    assert_eq!(exported.code, OK, "{exported:?}");
    let told = exported.json();
    assert_eq!(told["Input"]["Role"], "Sender");
    let intervals = told["Output"]["IncrementalResult"].as_array().unwrap();
    // All of the duration counts.
    assert_eq!(intervals.len(), 10);
    let number = |value: &Value| value.as_f64().unwrap();
    let bits: f64 = intervals
        .iter()
        .map(|i| number(&i["IPLayerCapacity"]) * 1e6 * number(&i["Seconds"]))
        .sum();
    let bits_each = number(&document["packet_bytes"]) * 8.0;
    let counted = number(&document["packets"]["verified"]) * bits_each;
    assert!((bits - counted).abs() <= 1e-6 * counted, "{bits} {counted}");
}

#[test]
fn an_uplink_passes_with_its_true_figure_and_every_packet_has_a_fate() {
    let mut stage = stage(5, LINK);
    let path = stage.directory.path().join("evidence.bundle");
    let bundle = path.display().to_string();
    let asking =
        format!("--faucet --direction up --claim 95mbit --challengers 5 --bundle {bundle}");
    let most = paid_most(95_000_000, 1500, 4);
    let document = measured(&mut stage, &asking, most, ("Pass", OK), LINK);
    verifies(&mut stage, &bundle, &document);
    let whole = std::fs::read(&path).expect("the bundle");
    for at in [13, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let mut bent = whole.clone();
        bent[at] ^= 1;
        assert!(
            !plumbline_proof::backhaul::bundle::verify(&bent).ok(),
            "{at}"
        );
    }
    stage.end();
}

/// The seed's way and the first packet's are in the window: 1/50 of it here.
#[test]
fn an_uplink_passes_over_a_long_path() {
    let wire = Some(WirePlan::delay(Duration::from_millis(10)));
    let mut stage = Stage::of(Plan {
        up: Some(Shape::ip_layer(LINK, 1500)),
        ..Plan::backhaul(4, Shape::ip_layer(2 * LINK, 1500), wire)
    });
    stage.start_all();
    let asking = "--faucet --direction up --claim 95mbit --challengers 4";
    let most = paid_most(95_000_000, 1500, 3);
    measured(&mut stage, asking, most, ("Pass", OK), LINK);
    stage.end();
}

#[test]
fn an_overclaimed_uplink_fails_with_its_true_figure_and_the_challengers_are_paid() {
    const TRUE: u64 = 30_000_000;
    let mut stage = stage(4, TRUE);
    let asking = "--faucet --direction up --claim 100mbit --challengers 4";
    let most = paid_most(100_000_000, 1500, 3);
    let document = measured(&mut stage, asking, most, ("Fail", FAILED), TRUE);
    // It is the link that lost them, and the document says how many were sent.
    let packets = &document["packets"];
    let of = |name: &str| packets[name].as_u64().expect("a count");
    assert!(of("sent") > 2 * of("verified"), "{packets}");
    assert_eq!(document["challengers"][0]["flags"], json!([]));
    stage.end();
}
