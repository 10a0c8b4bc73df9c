//! A proof from request to payment: honest, overclaiming, and without XDP; and its evidence, bent.

use std::time::Duration;

use plumbline_lab::{Counters, Host, WirePlan};
use plumbline_proof::backhaul::bundle;
use plumbline_trust::encoding::{domain, hash};
use serde_json::Value;

use crate::stage::{FAILED, OK, Outcome, Stage, UNREACHABLE};

/// Two noisy cores carry this with room to spare.
const LINK: u64 = 200_000_000;
/// Base units for one byte at the IP layer, unless the payer says otherwise.
const BYTE_PRICE: u128 = 1000;

/// What holds of every proof that came to a verdict: packets, money, evidence.
#[track_caller]
fn holds(stage: &Stage, before: &Counters, outcome: &Outcome) -> Value {
    let document = outcome.json();
    let account = stage.account(before, &document);
    assert_eq!(account.unaccounted(), 0, "{account:?}");
    assert!(
        account.verified > 0 && account.control_received > 0,
        "{account:?}"
    );
    assert_eq!(document["state"], "Final");
    assert_eq!(document["chain"]["engine"], "embedded");
    assert_eq!(document["chain"]["conserved"], true);
    let packet_bytes = u128::from(document["packet_bytes"].as_u64().expect("a length"));
    for challenger in document["challengers"].as_array().expect("challengers") {
        assert_eq!(challenger["valid"], true, "{challenger}");
        let paid: u128 = challenger["paid"]
            .as_str()
            .and_then(|p| p.parse().ok())
            .expect("an amount");
        let counted = u128::from(challenger["packets"].as_u64().expect("a count"));
        assert!(counted > 0, "{challenger}");
        let window_us = challenger["window_us"].as_u64().expect("a window");
        let rho_ns = challenger["rho_ns"].as_u64().expect("a round trip");
        assert!(rho_ns > 0 && window_us > rho_ns / 1000, "{challenger}");
        assert_eq!(paid, counted * packet_bytes * BYTE_PRICE, "{challenger}");
    }
    document
}

/// Asserts that `plumbline verify` agrees with the document.
#[track_caller]
pub(crate) fn verifies(stage: &mut Stage, bundle: &str, document: &Value) {
    let verified = stage.plumbline(Host::Coordinator, &["verify", bundle, "--json"]);
    assert_eq!(verified.code, OK, "{verified:?}");
    let again = verified.json();
    assert_eq!(again["verify"], "ok", "{again}");
    for figure in ["verdict", "measured_bps", "guaranteed_bps"] {
        assert_eq!(again[figure], document[figure], "{figure}");
    }
    exports(stage, bundle, document);
}

/// The same result in the words of other tools: same rate, and sub-intervals that add up to the packets.
fn exports(stage: &mut Stage, bundle: &str, document: &Value) {
    let mut told = |format: &str| {
        let asked = ["export", bundle, "--format", format];
        let exported = stage.plumbline(Host::Coordinator, &asked);
        assert_eq!(exported.code, OK, "{exported:?}");
        let value = exported.json();
        assert_eq!(value["plumbline"]["measured_bps"], document["measured_bps"]);
        value
    };
    let number = |value: &Value| value.as_f64().unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-6 * b.abs().max(1.0), "{a} {b}");
    let mbps = number(&document["measured_bps"]) / 1e6;
    let bytes = number(&document["packet_bytes"]);
    let tr471 = told("tr471");
    let most = &tr471["Output"]["AtMax"];
    near(number(&most["MaxIPLayerCapacity"]), mbps);
    near(
        number(&most["MaxETHCapacityWithFCS"]),
        mbps * (bytes + 18.0) / bytes,
    );
    near(
        number(&tr471["plumbline"]["layer1_bps"]) / 1e6,
        mbps * (bytes + 38.0) / bytes,
    );
    let bits: f64 = tr471["Output"]["IncrementalResult"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| number(&i["IPLayerCapacity"]) * 1e6 * number(&i["Seconds"]))
        .sum();
    let packets = number(&document["packets"]["verified"]);
    near(bits, packets * bytes * 8.0);
    let iperf3 = told("iperf3");
    let payload = number(&iperf3["start"]["test_start"]["blksize"]);
    assert!(
        [28.0, 48.0].contains(&(bytes - payload)),
        "{bytes} {payload}"
    );
    let counted: f64 = iperf3["intervals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| number(&i["sum"]["packets"]))
        .sum();
    near(counted, packets);
    near(number(&iperf3["end"]["sum"]["bytes"]), packets * payload);
}

/// Asks up to three times for a proof with this verdict and a figure within five per cent of the truth:
/// what else runs on the machine takes rate away from a lab. All that must hold whatever is measured is
/// asserted each time.
#[track_caller]
pub(crate) fn measured(
    stage: &mut Stage,
    arguments: &str,
    (verdict, code): (&str, i32),
    truth: u64,
) -> Value {
    let mut seen = Vec::new();
    for _ in 0..3 {
        let before = stage.counters();
        let outcome = stage.measure(arguments);
        assert!([OK, FAILED].contains(&outcome.code), "{outcome:?}");
        let document = holds(stage, &before, &outcome);
        let bound = |name: &str| document[name].as_u64().expect("a rate");
        let (lower, guaranteed) = (bound("lower_bps"), bound("guaranteed_bps"));
        // The shaper passes 2 % more over a second than its rate, its own bucket included.
        let most = truth + truth / 50;
        assert!(guaranteed <= lower && lower <= most, "{document}");
        let passed = document["verdict"] == "Pass";
        assert_eq!(passed, outcome.code == OK, "{outcome:?}");
        let figure = document["measured_bps"].as_u64().expect("a rate");
        let is_near = figure.abs_diff(truth) * 20 <= truth;
        if is_near && document["verdict"] == verdict && outcome.code == code {
            return document;
        }
        let reason = document["reason"].clone();
        seen.push((document["verdict"].clone(), figure, reason));
    }
    panic!("{verdict} at {truth} bit/s was to be measured, not {seen:?}");
}

/// Every line of a Prometheus exposition: a comment, or `name{labels} number`.
#[track_caller]
fn exposition(text: &str) -> Vec<(String, f64)> {
    let name = |s: &str| {
        !s.is_empty()
            && s.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
    };
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (kind, of) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            assert!(
                ["HELP", "TYPE"].contains(&kind) && name(of) && words.next().is_some(),
                "{line}"
            );
            continue;
        }
        let (series, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no value: {line}"));
        let value: f64 = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        let of = match series.split_once('{') {
            None => series,
            Some((of, labels)) => {
                let labels = labels
                    .strip_suffix('}')
                    .unwrap_or_else(|| panic!("open labels: {line}"));
                for label in labels.split("\",") {
                    let (key, text) = label
                        .split_once("=\"")
                        .unwrap_or_else(|| panic!("no label: {line}"));
                    assert!(
                        name(key) && !text.trim_end_matches('"').contains('"'),
                        "{line}"
                    );
                }
                of
            }
        };
        assert!(name(of), "{line}");
        samples.push((of.to_owned(), value));
    }
    samples
}

#[test]
fn an_honest_prover_passes_over_native_xdp_and_every_packet_has_a_fate() {
    let mut stage = Stage::set(5, LINK);
    assert_eq!(stage.xdp(), None);
    stage.start_all();
    assert_eq!(
        stage.xdp(),
        Some(1),
        "XDP in native mode while the prover runs"
    );

    let bundle = stage
        .directory
        .path()
        .join("evidence.bundle")
        .display()
        .to_string();
    let copy = stage.directory.path().join("copy").display().to_string();
    let asking = format!("--faucet --claim 190mbit --bundle {bundle} --follow {copy}");
    let document = measured(&mut stage, &asking, ("Pass", OK), LINK);
    // Everybody saw the chain through a copy of its own, the payer and the nodes.
    let seen = |view: &Value| view.as_str().is_some_and(|v| v.starts_with("own copy"));
    assert!(seen(&document["chain"]["view"]), "{}", document["chain"]);
    let prover = stage.cast.ready(Host::Prover).expect("ready");
    assert!(seen(&prover["chain_view"]), "{prover}");
    assert_eq!(document["datapath"]["receiver"], "af_xdp");
    assert_eq!(document["datapath"]["xdp_mode"], "native");
    assert_eq!(document["bundle"], bundle.as_str());
    counted_by_the_host(&bundle);
    verifies(&mut stage, &bundle, &document);

    let metrics = stage.get("/metrics");
    assert!(
        metrics.kind.starts_with("text/plain; version=0.0.4"),
        "{}",
        metrics.kind
    );
    let samples = exposition(&metrics.body);
    let of = |name: &str| samples.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    assert!(of("plumbline_build_info").is_some(), "{}", metrics.body);
    assert!(
        of("plumbline_chain_height").is_some_and(|height| height > 0.0),
        "{}",
        metrics.body
    );
    assert_eq!(of("plumbline_escrow_units"), Some(0.0), "{}", metrics.body);
    stage.end();
}

/// The prover's host says what came over the interface, lost nothing of it, and saw each sender's packets.
#[track_caller]
fn counted_by_the_host(path: &str) {
    let verified = bundle::verify(&std::fs::read(path).expect("the bundle"));
    let reveal = verified.record.and_then(|r| r.reveal).expect("a reveal");
    let told = reveal.message.accounting;
    let received: u64 = told.received.iter().sum();
    let (frames, bytes) = told.interface.expect("the interface counts");
    assert_eq!(told.host_dropped, 0);
    assert!(received > 0 && told.received.iter().all(|n| *n > 0));
    assert!(frames >= received && bytes >= 1500 * received);
}

#[test]
fn an_overclaiming_prover_fails_with_its_true_figure_and_the_challengers_are_paid() {
    const TRUE: u64 = 30_000_000;
    let mut stage = Stage::running(4, TRUE);
    let bundle = stage
        .directory
        .path()
        .join("evidence.bundle")
        .display()
        .to_string();
    let asking = format!("--faucet --claim 100mbit --challengers 4 --bundle {bundle}");
    let document = measured(&mut stage, &asking, ("Fail", FAILED), TRUE);
    let asked = document["asked_bps"].as_u64().expect("a rate");
    let came = document["came_bps"].as_u64().expect("a rate");
    assert!(asked >= 80_000_000 && came < asked, "{document}");
    verifies(&mut stage, &bundle, &document);
    stage.end();
}

/// Four of five datagrams are lost each way, so that all three copies of a commitment are lost to some
/// challenger in 19 of 20 runs; without repetition it would never report.
#[test]
fn a_lost_commitment_is_repeated_until_everyone_has_it() {
    let wire = WirePlan {
        loss_ppm: 800_000,
        ..WirePlan::delay(Duration::ZERO)
    };
    let mut stage = Stage::over(4, LINK, Some(wire));
    stage.start_all();
    let before = stage.counters();
    let outcome = stage.measure("--faucet --claim 50mbit --challengers 4");
    assert_eq!(outcome.code, FAILED, "{outcome:?}");
    let document = outcome.json();
    assert_eq!(document["state"], "Final");
    for challenger in document["challengers"].as_array().expect("challengers") {
        assert_eq!(challenger["valid"], true, "{challenger}");
    }
    let account = stage.account(&before, &document);
    assert_eq!(account.unaccounted(), 0, "{account:?}");
    assert!(account.path_dropped > account.verified, "{account:?}");
    stage.end();
}

#[test]
fn without_xdp_the_plain_socket_gives_the_same_proof_and_says_so() {
    let mut stage = Stage::set(4, LINK);
    stage
        .cast
        .append(Host::Prover, "path = \"socket\"")
        .expect("the configuration");
    stage.start_all();
    assert_eq!(stage.xdp(), None);
    let asking = "--faucet --claim 190mbit --challengers 4";
    let document = measured(&mut stage, asking, ("Pass", OK), LINK);
    assert_eq!(document["datapath"]["receiver"], "recvmmsg");
    assert_eq!(document["datapath"]["xdp_mode"], "none");
    stage.end();
}

#[test]
fn any_bent_byte_of_the_evidence_is_found() {
    let mut stage = Stage::running(4, LINK);
    let path = stage.directory.path().join("evidence.bundle");
    let outcome = stage.measure(&format!(
        "--faucet --claim 190mbit --challengers 4 --duration 200ms --bundle {}",
        path.display()
    ));
    assert_eq!(outcome.code, OK, "{outcome:?}");
    let whole = std::fs::read(&path).expect("the bundle");
    assert!(bundle::verify(&whole).ok());
    let content = whole.len() - 32;

    for at in 0..whole.len() {
        let mut bent = whole.clone();
        bent[at] ^= 1 << (at % 8);
        found(&bent, &format!("byte {at}"));
        if at < content {
            // Whoever mends the digest has still not signed it.
            let mended = hash(domain::BUNDLE, &[&bent[..content]]);
            bent[content..].copy_from_slice(&mended);
            found(&bent, &format!("byte {at}, digest mended"));
        }
    }
    for length in [0, 1, 19, 20, 51, 52, content, whole.len() - 1] {
        found(&whole[..length], &format!("cut to {length} bytes"));
    }
    found(&[&whole[..], &[0]].concat(), "a byte more");

    let bent_path = stage
        .directory
        .path()
        .join("bent.bundle")
        .display()
        .to_string();
    for at in [0, 13, 25, whole.len() / 2, whole.len() - 1] {
        let mut bent = whole.clone();
        bent[at] ^= 0x80;
        std::fs::write(&bent_path, &bent).expect("a bent bundle");
        let verified = stage.plumbline(Host::Coordinator, &["verify", &bent_path, "--json"]);
        assert_eq!(verified.code, FAILED, "byte {at}: {verified:?}");
        let said = verified.json();
        let named = said["checks"]
            .as_array()
            .expect("checks")
            .iter()
            .any(|c| c["ok"] == false && c["name"] != "");
        assert!(said["verify"] == "failed" && named, "byte {at}: {said}");
        let human = stage.plumbline(Host::Coordinator, &["verify", &bent_path]);
        assert_eq!(human.code, FAILED, "{human:?}");
    }
    stage.end();
}

#[track_caller]
fn found(bent: &[u8], what: &str) {
    let verified = bundle::verify(bent);
    assert!(!verified.ok(), "{what} is not noticed");
    assert!(
        verified.checks.iter().any(|c| !c.ok && !c.name.is_empty()),
        "{what}: no check is named"
    );
}

/// Nodes and payer speak TLS with whoever holds the certificate of the registered URL.
#[test]
fn over_tls_a_proof_is_the_same_and_another_certificate_hears_nothing() {
    let mut stage = Stage::set(4, LINK);
    stage.cast.encrypt().expect("a configuration");
    stage.start_all();
    let url = stage.cast.coordinator().to_owned();
    assert!(
        url.starts_with("https://") && url.contains("#sha256="),
        "{url}"
    );
    let outcome = stage.measure("--faucet --claim 180mbit --challengers 4 --duration 400ms");
    assert_eq!(outcome.code, OK, "{outcome:?}");
    assert_eq!(outcome.json()["verdict"], "Pass");

    let last = if url.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{last}", &url[..url.len() - 1]);
    let asked = ["chain", "status", "--json", "--coordinator", &other];
    let told = stage.plumbline(Host::Coordinator, &asked);
    told.refused(UNREACHABLE, &["not the pinned one"]);
}
