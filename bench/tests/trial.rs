//! A tiny plan, end to end, through the binary: real namespaces, real XDP, every packet accounted for.
//! Needs root. Nothing here is about speed.
#![allow(clippy::expect_used, clippy::unwrap_used)] // what a test lacks ends it

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// One short trial of each way of receiving that needs nothing installed.
const PLAN: &str = "
seconds = 0.02
repeats = 1
[[row]]
name = 'verified'
source = 'uring'
sink = 'verified'
mtu = 1500
rate = 'max'
[[row]]
name = 'verified-jumbo'
source = 'uring'
sink = 'verified'
mtu = 9000
rate = 'max'
[[row]]
name = 'verified-live'
source = 'live'
sink = 'verified'
mtu = 1500
rate = 'max'
[[row]]
name = 'count'
source = 'uring'
sink = 'count'
mtu = 1500
rate = 'max'
[[row]]
name = 'drop'
source = 'uring'
sink = 'drop'
mtu = 1500
rate = 'max'
[[row]]
name = 'recvmmsg-hash'
source = 'uring'
sink = 'recvmmsg-hash'
mtu = 1500
rate = 'max'
[[row]]
name = 'recvmmsg-gro'
source = 'uring'
sink = 'recvmmsg-gro'
mtu = 1500
rate = 'max'
[[row]]
name = 'uring-multishot'
source = 'uring'
sink = 'uring-multishot'
mtu = 1500
rate = 'max'
[[row]]
name = 'af-packet'
source = 'uring'
sink = 'af-packet'
mtu = 1500
rate = 'max'
";

/// Keys that whoever reads the JSON relies on.
const RATIOS: [&str; 10] = [
    "lanes_vs_naive",
    "lanes_vs_long",
    "verified_vs_count",
    "verified_vs_ceiling",
    "vs_iperf3_udp",
    "live_vs_iperf3_udp",
    "vs_recvmmsg_hash",
    "jumbo_vs_1500",
    "commit_p99_us",
    "verify_vs_raw",
];

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plumbline-bench"))
        .args(arguments)
        .output()
        .expect("the bench starts")
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn every_sink_takes_packets_and_accounts_for_all() {
    let (plan, json, plots) = (file("tiny.toml"), file("tiny.json"), file("tiny-plots"));
    std::fs::write(&plan, PLAN).unwrap();
    let output = bench(&[
        "--plan",
        text(&plan),
        "--json",
        text(&json),
        "--plot",
        text(&plots),
        "--stages",
    ]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let result: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), PLAN.matches("[[row]]").count());
    for row in rows {
        assert_eq!(row["valid"], true, "{row:#}");
        assert_eq!(row["unaccounted"], 0, "{row:#}");
        assert!(row["taken"].as_u64().unwrap() > 0, "{row:#}");
        for key in [
            "gbps",
            "mpps",
            "loss",
            "cpu_s_per_gbit",
            "median",
            "min",
            "max",
        ] {
            assert!(row[key].is_number(), "{key}: {row:#}");
        }
        assert_eq!(row["repeats"].as_array().unwrap().len(), 1);
        let reasons = row["reasons"].as_object().unwrap().values();
        let lost: u64 = reasons.map(|n| n.as_u64().unwrap()).sum();
        let (sent, taken) = (row["sent"].as_u64(), row["taken"].as_u64());
        assert_eq!(sent.unwrap(), taken.unwrap() + lost);
    }
    let ratios = result["ratios"].as_object().unwrap();
    for key in RATIOS {
        assert!(ratios.contains_key(key), "{key}");
    }
    for measured in ["verified_vs_count", "verified_vs_ceiling", "jumbo_vs_1500"] {
        assert!(ratios[measured].is_number(), "{measured}");
    }
    for not_asked in ["vs_iperf3_udp", "commit_p99_us"] {
        assert!(ratios[not_asked].is_null(), "{not_asked}");
    }
    assert!(result["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(!result["stages"]["model"].as_array().unwrap().is_empty());
    assert!(plots.join("goodput.svg").exists());
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(
        table.contains("recvmmsg-hash") && table.contains("no wire"),
        "{table}"
    );
}

#[test]
fn what_cannot_be_measured_is_an_error_only_if_checked() {
    // There is no transmitter of this kind: the row fails, and says so.
    let plan = file("impossible.toml");
    let row = "[[row]]\nname = 'far'\nsource = 'live'\nsink = 'recvmmsg-hash'\nmtu = 9000\nrate = 'max'\n";
    std::fs::write(&plan, format!("seconds = 0.01\nrepeats = 1\n{row}")).unwrap();
    let shown = bench(&["--plan", text(&plan)]);
    assert!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    assert!(String::from_utf8_lossy(&shown.stdout).contains("far INVALID"));
    let checked = bench(&["--plan", text(&plan), "--check"]);
    assert!(!checked.status.success());
    let errors = String::from_utf8_lossy(&checked.stderr);
    assert!(errors.contains("row not valid: far"), "{errors}");
}

#[test]
fn a_plan_that_cannot_be_is_refused_before_anything_is_made() {
    let plan = file("wrong.toml");
    std::fs::write(&plan, "seconds = 0.0\nrepeats = 1\n").unwrap();
    let output = bench(&["--plan", text(&plan)]);
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("seconds must be above 0"), "{errors}");
}
