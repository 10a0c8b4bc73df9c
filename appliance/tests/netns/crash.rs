//! Crashes: whoever dies at whatever instant, the request ends, the money is there, nothing stays
//! attached.

use std::time::Duration;

use nix::sys::signal::Signal;
use plumbline_lab::{Host, Process};

use crate::stage::{FAILED, OK, Outcome, REFUSED, Stage, until};

const LINK: u64 = 100_000_000;
/// Long enough for an undisturbed proof on a busy machine, short enough to wait for its end.
const DEADLINE: &str = "--deadline 12s";
/// Longest until an awaited instant of a proof comes.
pub(crate) const INSTANT: Duration = Duration::from_secs(15);
/// Packets on the measured link that mean a flood and not probes.
pub(crate) const FLOOD: u64 = 300;

/// Packets that the router has sent towards the prover's measured interface.
pub(crate) fn towards_prover(stage: &Stage) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
    let dev = stage
        .lab
        .namespace(Host::Core)
        .run("reading /proc/net/dev", read)
        .expect("counters");
    let line = dev
        .lines()
        .find_map(|l| l.trim_start().strip_prefix("prover:"))
        .expect("the link");
    line.split_whitespace()
        .nth(9)
        .and_then(|n| n.parse().ok())
        .expect("tx packets")
}

/// Waits until the only open session is in one of these chain states.
fn session_is(stage: &Stage, states: &[&str]) {
    until(&format!("a session {states:?}"), INSTANT, || {
        stage
            .open_sessions()
            .iter()
            .any(|s| states.contains(&s["state"].as_str().unwrap_or("")))
            .then_some(())
    });
}

/// Waits until the only open session's log ends with this statement, or a later one.
pub(crate) fn step_is(stage: &Stage, steps: &[&str]) {
    until(&format!("a session at {steps:?}"), INSTANT, || {
        stage
            .open_sessions()
            .iter()
            .any(|s| steps.contains(&s["step"].as_str().unwrap_or("")))
            .then_some(())
    });
}

fn escrow_is_locked(stage: &Stage) {
    until("an escrow", INSTANT, || {
        let status = stage.try_get("/v1/status")?.json();
        (status["escrow"] != "0").then_some(())
    });
}

/// The request ended, one way or the other, and said which.
#[track_caller]
pub(crate) fn ended(instant: &str, outcome: &Outcome) {
    match outcome.code {
        OK | FAILED => assert_eq!(outcome.json()["state"], "Final", "{instant}"),
        REFUSED => assert!(
            outcome.words.contains("timed out") && outcome.words.contains("refunded"),
            "{instant}: {outcome:?}"
        ),
        _ => panic!("{instant}: {outcome:?}"),
    }
}

/// Kills the coordinator at an instant of a proof, starts it again, and waits for the end.
#[track_caller]
fn killed_at(stage: &mut Stage, instant: &str, reached: impl Fn(&Stage)) {
    let mut payer = stage.ask(&format!(
        "--faucet --claim 90mbit --challengers 4 --duration 400ms {DEADLINE}"
    ));
    reached(stage);
    stage.cast.kill(Host::Coordinator).expect("it is killed");
    stage.start(Host::Coordinator);
    let outcome = stage.outcome(&mut payer);
    eprintln!("killed {instant}: ended with {}", outcome.code);
    ended(instant, &outcome);
    stage.nothing_is_locked();
}

#[test]
fn a_coordinator_killed_at_any_instant_goes_on_and_no_money_is_lost() {
    let mut stage = Stage::running(4, LINK);
    killed_at(&mut stage, "after the request", escrow_is_locked);
    killed_at(&mut stage, "after the draw", |stage| {
        session_is(stage, &["selected", "running"])
    });
    killed_at(&mut stage, "after the consent", |stage| {
        step_is(stage, &["consent", "begun", "ready"])
    });
    let idle = towards_prover(&stage);
    killed_at(&mut stage, "while packets flow", |stage| {
        until("a flood", INSTANT, || {
            (towards_prover(stage) > idle + FLOOD).then_some(())
        });
    });
    killed_at(&mut stage, "after the commitment", |stage| {
        step_is(stage, &["commit", "reveal", "report"])
    });
    killed_at(&mut stage, "after the result", |stage| {
        session_is(stage, &["reported"])
    });
    // Everybody still works.
    let outcome = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(
        (outcome.code, &outcome.json()["verdict"]),
        (OK, &"Pass".into())
    );
    stage.end();
}

/// The request times out and the payer has all that it had.
#[track_caller]
fn refunded(stage: &mut Stage, payer: &mut Process) {
    let outcome = stage.outcome(payer);
    outcome.refused(REFUSED, &["timed out", "refunded"]);
    stage.nothing_is_locked();
}

#[test]
fn a_prover_that_falls_silent_or_dies_costs_the_payer_nothing() {
    let mut stage = Stage::running(4, LINK);
    let first = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(first.code, OK, "{first:?}");
    let asking = "--faucet --claim 90mbit --challengers 4 --duration 400ms --deadline 8s";

    let mut payer = stage.ask(asking);
    step_is(&stage, &["consent", "begun", "ready"]);
    stage
        .cast
        .process(Host::Prover)
        .expect("it runs")
        .signal(Signal::SIGSTOP);
    let outcome = stage.outcome(&mut payer);
    outcome.refused(REFUSED, &["timed out", "refunded"]);
    stage
        .cast
        .process(Host::Prover)
        .expect("it is stopped")
        .signal(Signal::SIGCONT);
    stage.nothing_is_locked();
    let wealth = stage.payer_wealth();

    // The refund pays for the next, once it is fetched.
    let asking = asking.replace("--faucet ", "");
    stage
        .measure(&asking)
        .refused(REFUSED, &["are owed to it", "plumbline chain withdraw"]);
    let key = stage.cast.payer_key().display().to_string();
    let fetched = stage.chain(&["withdraw", "--key", &key]);
    assert_ne!(fetched["amount"], "0", "{fetched}");
    assert_eq!(stage.payer_wealth(), wealth);
    let idle = towards_prover(&stage);
    let mut payer = stage.ask(&asking);
    until("a flood", INSTANT, || {
        (towards_prover(&stage) > idle + FLOOD).then_some(())
    });
    assert_eq!(stage.xdp(), Some(1));
    stage.cast.kill(Host::Prover).expect("it is killed");
    until("XDP detached by the kernel", Duration::from_secs(2), || {
        stage.xdp().is_none().then_some(())
    });
    refunded(&mut stage, &mut payer);
    assert_eq!(stage.payer_wealth(), wealth);

    stage.start(Host::Prover);
    assert_eq!(stage.xdp(), Some(1));
    let outcome = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(outcome.code, OK, "{outcome:?}");
    stage.end();
}
