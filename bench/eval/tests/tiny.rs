//! A tiny plan, end to end, through the binary: real namespaces, real proofs, every bundle verified again, and
//! gone on with after a kill. Needs root and the product beside this test. Nothing here is about speed.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // what a test lacks ends it

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A slow link, twice, and one that others use.
const PLAN: &str = "
runs = 1
retries = 4
[[accuracy]]
mbit = [20, 40]
n = [2]
duration_ms = [100]
rtt_ms = [0]
[[attacks]]
mbit = 40
n = 2
f = 0
duration_ms = 100
attacks = ['cross-traffic']
";

/// Longest that one proof of the plan may take here.
const PROOF: Duration = Duration::from_secs(60);

/// One attack by each kind of party, on real packets; f = 1 of 4.
const ATTACKS: &str = "
runs = 1
retries = 4
[[attacks]]
mbit = 40
n = 4
f = 1
duration_ms = 100
attacks = ['rush', 'zero-payload', 'equivocating-commit', 'injection', 'payer-withdraws', 'second-payout', 'second-run', 'early-end', 'skewed-starts', 'burst-and-stop', 'junk-signature', 'ready-then-abort', 'spent-consent', 'stranger-address']
";

/// A program, built with this test's profile.
fn built(name: &str, how: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().and_then(Path::parent).unwrap();
    let program = directory.join(name);
    let shown = program.display();
    assert!(
        program.exists(),
        "{shown} is missing: cargo build --release --package {how}"
    );
    program
}

fn product() -> PathBuf {
    built("plumbline", "plumbline")
}

fn attacker() -> PathBuf {
    built("plumbline-attack", "plumbline-attack --features daemon")
}

struct Evaluation {
    directory: tempfile::TempDir,
    attacker: Option<PathBuf>,
}

impl Evaluation {
    fn new(plan: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("plan.toml"), plan).unwrap();
        Self {
            directory,
            attacker: None,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_plumbline-eval"))
            .arg("--product")
            .arg(product())
            .args(
                self.attacker
                    .iter()
                    .flat_map(|a| [Path::new("--attacker"), a]),
            )
            .arg("--plan")
            .arg(self.file("plan.toml"))
            .arg("--resume")
            .arg(self.file("state.json"))
            .arg("--json")
            .arg(self.file("out.json"))
            .arg("--markdown")
            .arg(self.file("out.md"))
            .arg("--plot")
            .arg(self.file("plots"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn run(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }
}

#[test]
fn a_killed_evaluation_goes_on_and_every_bundle_is_verified() {
    let evaluation = Evaluation::new(PLAN);
    let state = evaluation.file("state.json");
    let mut killed = evaluation.start();
    let deadline = Instant::now() + PROOF;
    while !state.exists() {
        assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        assert!(Instant::now() < deadline, "no proof was kept");
        std::thread::sleep(Duration::from_millis(5));
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let kept: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let kept = kept["runs"].as_object().unwrap().clone();
    assert!(!kept.is_empty());

    let output = evaluation.run();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!state.exists(), "a finished evaluation leaves no state");
    let json = std::fs::read(evaluation.file("out.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["resumed"], 1);
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(
        report["command"]
            .as_str()
            .unwrap()
            .starts_with("cargo xtask eval --plan")
    );

    let rows = report["accuracy"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for row in rows {
        for key in [
            "rate",
            "n",
            "d_ms",
            "err_median_pct",
            "err_worst_pct",
            "runs",
        ] {
            assert!(row[key].is_number(), "{key}: {row:#}");
        }
        assert_eq!((&row["runs"], &row["rtt_ms"]), (&1.into(), &0.into()));
        assert_eq!(row["broken"], serde_json::json!([]), "{row:#}");
    }
    let attacks = report["attacks"].as_array().unwrap();
    let names: Vec<_> = attacks
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["none", "cross-traffic"]);
    for row in attacks {
        assert_eq!(row["held"], true, "{row:#}");
        assert!(row["measured_over_true"].is_number(), "{row:#}");
    }
    assert_eq!(attacks[1]["honest_paid"], true);
    let all = &report["all"];
    assert_eq!(
        (&all["unaccounted"], &all["failed"]),
        (&0.into(), &0.into())
    );
    assert_eq!(all["verified"], all["bundles"]);
    assert!(all["bundles"].as_u64().unwrap() >= 4);
    let markdown = std::fs::read_to_string(evaluation.file("out.md")).unwrap();
    assert!(
        markdown.contains("cross-traffic") && markdown.contains("held"),
        "{markdown}"
    );
    for plot in ["accuracy.svg", "attacks.svg"] {
        assert!(evaluation.file("plots").join(plot).exists(), "{plot}");
    }
}

#[test]
fn each_kind_of_attacker_meets_its_defence_and_the_honest_are_paid() {
    let mut evaluation = Evaluation::new(ATTACKS);
    evaluation.attacker = Some(attacker());
    let output = evaluation.run();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let json = std::fs::read(evaluation.file("out.json")).unwrap();
    let report: Value = serde_json::from_slice(&json).unwrap();
    let attacks = report["attacks"].as_array().unwrap();
    assert_eq!(attacks.len(), 15, "none, and fourteen");
    for row in attacks {
        assert_eq!(row["held"], true, "{row:#}");
        // What is refunded has no figure.
        let guaranteed = row["guaranteed_over_true"].as_f64();
        let refunded = row["name"] == "stranger-address";
        assert!(guaranteed.map_or(refunded, |g| g <= 1.02), "{row:#}");
        if row["name"] != "equivocating-commit" {
            assert_ne!(row["honest_paid"], false, "{row:#}");
        }
    }
    let rushed = attacks.iter().find(|row| row["name"] == "rush").unwrap();
    let lifted = rushed["measured_over_true"].as_f64().unwrap();
    assert!(lifted > 1.2, "the attack bites: {rushed:#}");
    assert_eq!(report["all"]["verified"], report["all"]["bundles"]);
}

#[test]
fn what_cannot_be_evaluated_is_refused_before_anything_is_made() {
    let refused = |plan: &str| {
        let evaluation = Evaluation::new(plan);
        let output = evaluation.run();
        assert!(!output.status.success());
        assert!(!evaluation.file("out.json").exists());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let attack = PLAN.replace("cross-traffic", "rush");
    let words = refused(&attack);
    assert!(
        words.contains("--attacker") && words.contains("rush"),
        "{words}"
    );
    let words = refused(&PLAN.replace("n = 2", "n = 0"));
    assert!(words.contains("n = 0"), "{words}");

    let evaluation = Evaluation::new(PLAN);
    std::fs::write(evaluation.file("state.json"), "{}").unwrap();
    let output = evaluation.run();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("--fresh"),
        "{words}"
    );
}
