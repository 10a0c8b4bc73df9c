//! One coordinator and a town around it: many challengers, many provers, measured in turn and at once.
//!
//! ```text
//!   coordinator: the daemon, a process ◄── HTTP, the product's client ──┬─ host 1 … 120 (this process)
//!        ▲  /proc: CPU, memory                                          │    node: registered, beating
//!        │                                                              └─ payers: ask, pay, replay
//!   a session: one scene = one prover's link, a model ◄── machines, the product's
//! ```
//!
//! Claim: whether one link is measured at a time or all at once, every measurement ends with the verdict
//! that its link deserves and a figure within three per cent of it, everybody honest is paid what the
//! documents say and nobody anything else, and no host is refused anything. What it costs the coordinator
//! is reported, not promised. What this does not show: packets (their paths are models, so that a busy
//! machine changes no figure; `tests/netns` has real ones) and many machines' clocks.
//! `PLUMBLINE_SCALE=full` takes 100 challengers and 20 provers, `PLUMBLINE_SCALE_JSON=FILE` writes the
//! figures, `PLUMBLINE_SEED=…` repeats a run's chances (the draws are the chain's).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod flood;
mod gate;
mod host;
mod link;
mod report;
mod scene;
mod strangers;
mod town;
mod usage;
mod verify;

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use alloy::primitives::U256;
use plumbline::ui::results::{EndState, Verdict};

use report::error_pct;
use town::{Round, Size, Town};

const QUICK: Size = Size {
    challengers: 20,
    provers: 4,
    n: 10,
    f: 3,
    duration_ms: 1000,
};
const FULL: Size = Size {
    challengers: 100,
    provers: 20,
    ..QUICK
};
/// Sessions that are over and that the coordinator still lists.
const OVER_MAX: usize = 32;
/// Until the coordinator has seen what is on its chain; generous, for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question waits for it.
const LOOK: Duration = Duration::from_secs(1);
/// How far a figure may be from its link, percent.
const ERROR_PCT: f64 = 3.0;

fn size() -> Size {
    match std::env::var("PLUMBLINE_SCALE").as_deref() {
        Err(_) | Ok("quick") => QUICK,
        Ok("full") => FULL,
        Ok(other) => panic!("PLUMBLINE_SCALE={other}: allowed are quick and full"),
    }
}

fn seed() -> u64 {
    let any = || std::hash::RandomState::new().build_hasher().finish() % 1_000_000_000;
    let given = std::env::var("PLUMBLINE_SEED").ok();
    given.map_or_else(any, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_disturbs_anybody_beyond_its_link() {
    let (size, seed) = (size(), seed());
    println!("seed {seed}: PLUMBLINE_SEED={seed} repeats it");
    let town = Town::open(size, seed).await;
    let rest = town.at_rest().await;
    let turn = town.in_turn().await;
    let once = town.at_once().await;
    let rounds = [&turn, &once];
    report::print(&town, size, rest, rounds);
    if let Some(file) = std::env::var_os("PLUMBLINE_SCALE_JSON") {
        let document = report::document(&town, size, rest, rounds);
        std::fs::write(&file, format!("{document:#}\n")).unwrap();
    }
    for round in rounds {
        true_and_paid(&town, size, round);
    }
    for (turn, once) in turn.measured.iter().zip(&once.measured) {
        let error = error_pct(once.document.measured_bps, turn.document.measured_bps);
        assert!(
            error.abs() <= ERROR_PCT,
            "at once beside in turn: {error} %"
        );
    }
    books_balance(&town, rounds).await;
    nothing_over_is_listed(&town).await;
    let troubles = town.square.findings.troubles.lock().unwrap();
    assert!(troubles.is_empty(), "{troubles:#?}");
}

fn true_and_paid(town: &Town, size: Size, round: &Round) {
    assert_eq!(round.measured.len(), town.claims.len());
    for (claim, measured) in town.claims.iter().zip(&round.measured) {
        let found = &measured.document;
        let deserved = if claim.claim_bps > claim.link_bps {
            Verdict::Fail
        } else {
            Verdict::Pass
        };
        assert_eq!(found.state, EndState::Final, "{claim:?}");
        assert_eq!(found.verdict, deserved, "{claim:?}: {:?}", found.reason);
        let error = error_pct(found.measured_bps, claim.link_bps);
        assert!(error.abs() <= ERROR_PCT, "{claim:?}: {error} %");
        assert!(found.guaranteed_bps <= claim.link_bps, "{claim:?}");
        assert_eq!(found.challengers.len(), usize::from(size.n), "{claim:?}");
        for c in &found.challengers {
            let whole = c.valid && c.paid > 0 && c.flags.is_empty();
            assert!(whole, "{claim:?}: {c:?}");
        }
        assert!(found.chain.conserved, "{claim:?}");
        let paid: u128 = found.chain.paid.iter().map(|p| p.amount).sum();
        assert_eq!(paid, found.chain.escrow, "{claim:?}");
    }
}

/// The vault owes every challenger what the documents say, locks nothing, and has what it owes.
async fn books_balance(town: &Town, rounds: [&Round; 2]) {
    let mut earned = report::earned(rounds);
    let chain = &town.hosts[0].node.chain;
    for host in town.hosts.iter().filter(|h| !h.is_prover()) {
        let owed = chain.owed(host.address.0.into()).await.unwrap();
        let expected = earned.remove(&host.address).unwrap_or_default();
        assert_eq!(owed, U256::from(expected), "{}", host.address);
    }
    assert!(earned.is_empty(), "paid are who is not here: {earned:?}");
    assert!(chain.conserved().await.unwrap());
    assert_eq!(chain.totals().await.unwrap().escrow, U256::ZERO);
}

/// What is over is not told to nodes again and again: the coordinator's list is as long as what is open.
async fn nothing_over_is_listed(town: &Town) {
    for host in &town.hosts {
        let (node, mut after) = (&host.node, 0);
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let listed = node.api.sessions(&node.address, after, LOOK).await.unwrap();
            if listed.items.is_empty() {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "{:?}", listed.items);
            after = listed.next;
        }
    }
    // Whoever asks for all gets those that are over too: the last ones.
    let kept = (2 * town.claims.len()).min(OVER_MAX);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let listed = get(&format!("{}/v1/sessions", town.url)).await;
        let items = listed["items"].as_array().unwrap().len();
        if items == kept {
            break;
        }
        let patient = tokio::time::Instant::now() < until;
        assert!(patient, "{items} sessions are listed, not {kept}");
    }
}

/// A document of the API, as anybody gets it.
async fn get(url: &str) -> serde_json::Value {
    let target = plumbline::tls::target(url).unwrap();
    let answer = target.client.build().unwrap().get(target.url).send().await;
    answer.unwrap().json().await.unwrap()
}
