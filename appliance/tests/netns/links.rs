//! Other links than IPv4 at an MTU of 1500: the same claims, figures and accounts over IPv6 and with jumbo
//! packets.

use plumbline_lab::{Plan, Shape};
use serde_json::Value;

use crate::stage::{OK, Stage};
use crate::{proof, uplink};

/// Two noisy cores carry this with room to spare.
const LINK: u64 = 200_000_000;
/// The same where the prover sends.
const UP: u64 = 100_000_000;

fn bundle(stage: &Stage) -> String {
    let path = stage.directory.path().join("evidence.bundle");
    path.display().to_string()
}

/// A link of [`LINK`] towards the prover, by packets of `packet_bytes`; everybody runs.
#[track_caller]
fn stage(mtu: u16, ipv6: bool, packet_bytes: u16) -> Stage {
    let mut stage = Stage::of(Plan {
        mtu,
        ipv6,
        ..Plan::backhaul(4, Shape::ip_layer(LINK, packet_bytes), None)
    });
    stage.start_all();
    assert_eq!(stage.xdp(), Some(1), "XDP in native mode");
    stage
}

/// A proof that passes, by packets of `packet_bytes` through native XDP.
#[track_caller]
fn passes(stage: &mut Stage, mtu: u16, packet_bytes: u16) -> Value {
    let bundle = bundle(stage);
    let asking = format!("--faucet --claim 190mbit --challengers 4 --mtu {mtu} --bundle {bundle}");
    let truth = stage.lab.plan().down.ip_layer_bps(packet_bytes);
    let document = proof::measured(stage, &asking, ("Pass", OK), truth);
    assert_eq!(document["packet_bytes"], packet_bytes);
    assert_eq!(document["datapath"]["receiver"], "af_xdp");
    assert_eq!(document["datapath"]["xdp_mode"], "native");
    proof::verifies(stage, &bundle, &document);
    document
}

/// At an MTU of 1500 packets leave room for a tunnel; at 1520 they are as long as over IPv4.
#[test]
fn over_ipv6_a_prover_passes_with_packets_of_either_length() {
    let mut stage = stage(1520, true, 1456);
    passes(&mut stage, 1500, 1456);
    passes(&mut stage, 1520, 1520);
    stage.end();
}

#[test]
fn with_jumbo_packets_a_prover_passes_over_native_xdp() {
    let mut stage = stage(9000, false, 8988);
    passes(&mut stage, 9000, 8988);
    stage.end();
}

#[test]
fn an_uplink_passes_over_ipv6_with_jumbo_packets() {
    const LENGTH: u16 = 9008;
    let mut stage = Stage::of(Plan {
        up: Some(Shape::ip_layer(UP, LENGTH)),
        mtu: LENGTH,
        ipv6: true,
        ..Plan::backhaul(4, Shape::ip_layer(LINK, LENGTH), None)
    });
    stage.start_all();
    let bundle = bundle(&stage);
    let asking = format!(
        "--faucet --direction up --claim 95mbit --challengers 4 --mtu {LENGTH} --bundle {bundle}"
    );
    let most = uplink::paid_most(95_000_000, LENGTH.into(), 3);
    let document = uplink::measured(&mut stage, &asking, most, ("Pass", OK), UP);
    assert_eq!(document["packet_bytes"], LENGTH);
    uplink::verifies(&mut stage, &bundle, &document);
    stage.end();
}
