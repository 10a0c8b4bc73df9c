//! Bad input on a running system: words that help, the exit code of their kind, and nothing half-made
//! left behind. What needs no running system is in `tests/cli.rs`.

use std::path::PathBuf;
use std::time::Duration;

use plumbline_lab::{Host, Process};
use serde_json::Value;

use crate::stage::{CHAIN, OK, Outcome, PLUMBLINE, REFUSED, Stage, UNREACHABLE, USAGE};

const LINK: u64 = 100_000_000;
/// Longest until a daemon is ready.
const READY: Duration = Duration::from_secs(20);

/// Asks for a measurement of anything, from any coordinator.
#[track_caller]
fn measure(stage: &mut Stage, coordinator: &str, prover: &str, more: &[&str]) -> Outcome {
    let key = stage.cast.payer_key().display().to_string();
    let pin = stage.cast.pin().display().to_string();
    let asked = [
        &[
            "measure",
            "--json",
            "--coordinator",
            coordinator,
            "--key",
            &key,
            "--prover",
            prover,
            "--deployment",
            &pin,
        ],
        more,
    ]
    .concat();
    stage.plumbline(Host::Coordinator, &asked)
}

/// Writes a host's configuration anew under another name, each of `changes` made, and returns its path.
#[track_caller]
fn variant(stage: &Stage, host: Host, name: &str, changes: &[(&str, &str)]) -> String {
    let mut toml = std::fs::read_to_string(stage.cast.config(host)).expect("the configuration");
    for (from, to) in changes {
        assert!(toml.contains(from), "{from} is not in:\n{toml}");
        toml = toml.replace(from, to);
    }
    let path: PathBuf = stage.directory.path().join(name);
    std::fs::write(&path, toml).expect("the variant");
    path.display().to_string()
}

#[test]
fn a_request_that_cannot_be_is_refused_in_words_and_locks_nothing() {
    let mut stage = Stage::set(4, LINK);
    variant(
        &stage,
        Host::Prover,
        "prover.toml",
        &[("100gbit", "500mbit")],
    );
    stage.start_all();
    let url = stage.cast.coordinator().to_owned();
    let prover = stage.cast.address(Host::Prover).expect("a prover");
    let stranger = "0x0000000000000000000000000000000000000011";

    let unknown = measure(
        &mut stage,
        &url,
        stranger,
        &["--claim", "10mbit", "--faucet"],
    );
    unknown.refused(REFUSED, &[stranger, "prover"]);
    stage.nothing_is_locked();

    let above = measure(
        &mut stage,
        &url,
        &prover,
        &["--claim", "501mbit", "--challengers", "4", "--faucet"],
    );
    above.refused(REFUSED, &["501000000", "500000000"]);
    stage.nothing_is_locked();

    // n < 3f+1 never leaves the command line; that the contract refuses it too is in `tests/chain`.
    let few = measure(
        &mut stage,
        &url,
        &prover,
        &["--claim", "10mbit", "--challengers", "3"],
    );
    few.refused(USAGE, &["--challengers 3", "3f+1 = 4"]);
    let none = measure(&mut stage, &url, &prover, &["--claim", "0"]);
    none.refused(USAGE, &["--claim"]);

    // Another payer, with empty pockets; then with one unit less than the escrow, then with enough.
    std::fs::remove_file(stage.cast.payer_key()).expect("the payer's key");
    let key = stage.cast.payer_key().display().to_string();
    assert_eq!(
        stage
            .plumbline(Host::Coordinator, &["key", "new", "--out", &key])
            .code,
        OK
    );
    let asked = ["--claim", "10mbit", "--challengers", "4", "--price", "1"];
    // m = 10 Mbit/s · 1 s / (8 · 1500 · 3) = 278 packets, three challengers' worth, and the fee of 1000.
    let escrow: u128 = 278 * 3 * 1500 + 1000;
    let poor = measure(&mut stage, &url, &prover, &asked);
    poor.refused(
        REFUSED,
        &["has 0 base units", &format!("takes {escrow}"), "--faucet"],
    );
    stage.nothing_is_locked();
    let faucet = |stage: &mut Stage, units: u128| {
        let minted = stage.chain(&["faucet", "--key", &key, "--amount", &units.to_string()]);
        assert_eq!(minted["amount"], units.to_string(), "{minted}");
    };
    faucet(&mut stage, escrow - 1);
    let poor = measure(&mut stage, &url, &prover, &asked);
    poor.refused(
        REFUSED,
        &[
            &format!("has {} base units", escrow - 1),
            &format!("takes {escrow}"),
        ],
    );
    assert_eq!(stage.payer_wealth(), escrow - 1);
    faucet(&mut stage, 1);
    let enough = measure(&mut stage, &url, &prover, &asked);
    assert_eq!(enough.json()["state"], "Final", "{enough:?}");

    // More challengers than there are: the draw ends the request and all is given back.
    faucet(&mut stage, escrow * 2);
    let wealth = stage.payer_wealth();
    let asked = ["--claim", "10mbit", "--challengers", "5", "--price", "1"];
    let crowd = measure(&mut stage, &url, &prover, &asked);
    crowd.refused(
        REFUSED,
        &["cancelled", "refunded", "too few live challengers"],
    );
    assert_eq!(stage.payer_wealth(), wealth);

    let nobody = "http://10.77.1.2:7999";
    measure(&mut stage, nobody, &prover, &["--claim", "10mbit"])
        .refused(UNREACHABLE, &[nobody, "plumbline run"]);
    stage.end();
}

/// What `plumbline run` says of a configuration with which it does not come up.
#[track_caller]
fn run(stage: &mut Stage, host: Host, config: &str) -> Outcome {
    stage.plumbline(host, &["run", "--config", config])
}

#[test]
fn a_daemon_that_cannot_start_says_why_and_leaves_nothing() {
    let mut stage = Stage::running(4, LINK);
    let other_key = stage
        .directory
        .path()
        .join("other.key")
        .display()
        .to_string();
    assert_eq!(
        stage
            .plumbline(Host::Coordinator, &["key", "new", "--out", &other_key])
            .code,
        OK
    );

    let state = ("state_dir = \"coordinator\"", "state_dir = \"other\"");
    let busy = variant(&stage, Host::Coordinator, "busy.toml", &[state]);
    run(&mut stage, Host::Coordinator, &busy)
        .refused(USAGE, &["10.77.1.2:7300", "in use", "[coordinator] listen"]);
    assert!(
        !stage.directory.path().join("other").exists(),
        "a coordinator without its port made a chain"
    );

    let second = variant(
        &stage,
        Host::Coordinator,
        "second.toml",
        &[(":7300", ":7301")],
    );
    let file = stage
        .cast
        .state(Host::Coordinator)
        .join("chain/chain.redb")
        .display()
        .to_string();
    run(&mut stage, Host::Coordinator, &second).refused(CHAIN, &[&file, "in use"]);

    let own = ("key = \"prover.key\"", "key = \"other.key\"");
    let busy = variant(&stage, Host::Prover, "busy.toml", &[own]);
    run(&mut stage, Host::Prover, &busy).refused(USAGE, &["10.77.2.2:7301", "in use"]);
    let interface = (
        "interface = \"eth0\"",
        "interface = \"eth0\"\ndata_port = 7401",
    );
    let busy = variant(&stage, Host::Prover, "busy.toml", &[own, interface]);
    run(&mut stage, Host::Prover, &busy)
        .refused(USAGE, &["10.77.2.2:7302", "in use", "control_port"]);
    assert_eq!(
        stage.xdp(),
        Some(1),
        "the first prover's program is still attached"
    );

    let native = (
        "interface = \"eth0\"",
        "interface = \"eth0\"\ndata_port = 7401\npath = \"native\"",
    );
    let taken = variant(&stage, Host::Prover, "busy.toml", &[own, native]);
    run(&mut stage, Host::Prover, &taken)
        .refused(USAGE, &["eth0", "another XDP program is attached"]);
    assert_eq!(
        stage.xdp(),
        Some(1),
        "the first prover's program is still attached"
    );

    let wrong = variant(&stage, Host::Prover, "wrong.toml", &[own, ("eth0", "eth7")]);
    run(&mut stage, Host::Prover, &wrong).refused(USAGE, &["eth7", "no such interface"]);
    let wrong = variant(
        &stage,
        Host::Prover,
        "wrong.toml",
        &[own, ("10.77.2.2", "10.77.9.9")],
    );
    run(&mut stage, Host::Prover, &wrong).refused(USAGE, &["10.77.9.9", "local"]);

    // Another vault than the pinned one: neither a node nor a payer signs anything.
    let bent = stage.directory.path().join("bent.json");
    let pin = std::fs::read(stage.cast.pin()).expect("the pin");
    let mut pin: Value = serde_json::from_slice(&pin).expect("JSON");
    pin["code"]["vault"] = pin["code"]["token"].clone();
    std::fs::write(&bent, pin.to_string()).expect("another pin");
    let sees = ["hash of the vault contract's code", "Nothing was signed"];
    let host = Host::Challenger(0);
    let (key, state) = (format!("{host}.key"), format!("state_dir = \"{host}\""));
    let changes = [
        (key.as_str(), "other.key"),
        (state.as_str(), "state_dir = \"other\""),
        ("pin.json", "bent.json"),
    ];
    let wrong = variant(&stage, host, "wrong.toml", &changes);
    run(&mut stage, host, &wrong).refused(CHAIN, &sees);
    let bent = bent.display().to_string();
    let url = stage.cast.coordinator().to_owned();
    let prover = stage.cast.address(Host::Prover).expect("a prover");
    let key = stage.cast.payer_key().display().to_string();
    let whom = ["--coordinator", &url, "--key", &key, "--prover", &prover];
    let asked = ["--claim", "10mbit", "--faucet", "--deployment", &bent];
    let words = [&["measure"], &whom[..], &asked].concat();
    stage
        .plumbline(Host::Coordinator, &words)
        .refused(CHAIN, &sees);
    stage.nothing_is_locked();

    // None of this was noticed by those who run.
    let outcome = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(outcome.code, OK, "{outcome:?}");
    stage.end();
}

/// `plumbline` on the prover's host without any capability, as an ordinary user has it.
const POWERLESS: [&str; 3] = ["--bounding-set=-all", "--inh-caps=-all", PLUMBLINE];

#[test]
fn without_capabilities_xdp_is_refused_by_name_or_done_without() {
    let mut stage = Stage::running(4, LINK);
    stage.cast.stop(Host::Prover).expect("it stops");
    let with = |path: &str| {
        (
            "interface = \"eth0\"".to_owned(),
            format!("interface = \"eth0\"\npath = \"{path}\""),
        )
    };

    let (from, to) = with("native");
    let native = variant(&stage, Host::Prover, "native.toml", &[(&from, &to)]);
    let arguments = [&POWERLESS[..], &["run", "--config", &native]].concat();
    let refused = stage.program(Host::Prover, "setpriv", &arguments);
    refused.refused(USAGE, &["native XDP", "CAP_BPF", "CAP_NET_ADMIN"]);
    assert_eq!(stage.xdp(), None);

    let (from, to) = with("auto");
    let auto = variant(&stage, Host::Prover, "auto.toml", &[(&from, &to)]);
    let mut command = stage.lab.command(Host::Prover, "setpriv");
    command.args(POWERLESS).args(["run", "--config", &auto]);
    let mut prover =
        Process::start("powerless", command, stage.directory.path()).expect("it starts");
    let ready = prover.await_line("ready", READY, |line| {
        serde_json::from_str::<Value>(line)
            .ok()
            .filter(|v| v["ready"] == true)
    });
    let datapath = ready.expect("ready")["datapath"].clone();
    assert_eq!(datapath["receiver"], "recvmmsg", "{datapath}");
    let reasons = datapath["fallback_reasons"].to_string();
    assert!(
        reasons.contains("CAP_BPF") && reasons.contains("CAP_NET_ADMIN"),
        "{reasons}"
    );
    assert_eq!(stage.xdp(), None);
    assert!(prover.stop().expect("it stops").success());
    stage.end();
}
