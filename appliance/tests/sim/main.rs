//! Many participants on virtual time against the real contracts.
//!
//! ```text
//!   seed ─► dice ─► agenda (virtual ns) ─► actors ── messages ──► network: late, twice, never
//!                        ▲                   │  ▲
//!                        └───────────────────┘  │ view: newest block, or the newest final one
//!                                       pool ─► Fork (the contracts, in memory) ─► index of the logs
//!                                               clone = snapshot = what a reorganisation goes back to
//! ```
//!
//! Claim: whatever the network loses, doubles and delays, whoever crashes, however the chain reorganises
//! within its finality, and whatever at most f challengers, a minority of jurors, a prover and a
//! coordinator do against the rules: money is conserved, every measurement ends in time, nothing stays
//! locked, nobody honest loses stake (but a juror that is down while it should vote), every honest
//! challenger in a result is paid, no jury rules wrongly, no guaranteed figure is above the link and no true
//! claim is called false. The same seed makes the same run. What it does not promise: the datapath, the network
//! keys and the sessions of the product, which are tested elsewhere (`appliance/tests/netns/`): the actors here are
//! written for the simulation, the contracts are the real ones. The test takes new seeds each time;
//! `PLUMBLINE_FULL=1` takes thousands, `PLUMBLINE_SEED=…` repeats one.

#![allow(clippy::unwrap_used)]

mod actors;
mod clock;
mod invariants;
mod ledger;
mod measure;
mod network;
mod roles;
mod stage;
mod tally;
mod world;

use std::hash::{BuildHasher, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tally::Tally;
use world::{Bent, World};

/// Seeds of a quick run, which must see every kind of event; a full one is so many quick ones.
const QUICK: usize = 150;
const FULL: usize = 20;
/// Seeds among which a broken actor must be caught; it takes a few.
const BROKEN: u64 = 500;

fn how_to_repeat(seed: u64, why: &str) -> String {
    format!(
        "seed {seed}: {why}\n  repeat: PLUMBLINE_SEED={seed} cargo test --release -p plumbline --test sim -- --nocapture"
    )
}

/// A first seed that nobody chose; short, for it is typed by hand when it fails.
fn any_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish() % 1_000_000_000
}

/// The first failure of `bent` actors that says `what`.
fn caught(bent: Bent, what: &str) -> Option<String> {
    let failures = (1..=BROKEN).filter_map(|seed| World::new(seed, bent).run().err());
    failures.into_iter().find(|why| why.contains(what))
}

/// Runs `seeds` on as many threads as there are cores; what happened, and what went wrong, by seed.
fn run_all(seeds: &[u64], bent: Bent) -> (Tally, Vec<String>) {
    let next = AtomicU64::new(0);
    let done = Mutex::new((Tally::default(), std::collections::BTreeMap::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = usize::try_from(next.fetch_add(1, Ordering::SeqCst)).unwrap();
                    let Some(seed) = seeds.get(place) else { break };
                    let result = World::new(*seed, bent).run();
                    let mut done = done.lock().unwrap();
                    match result {
                        Ok((tally, _)) => done.0.add(tally),
                        Err(why) => {
                            done.1.insert(*seed, how_to_repeat(*seed, &why));
                        }
                    }
                }
            });
        }
    });
    let (tally, failures) = done.into_inner().unwrap();
    (tally, failures.into_values().collect())
}

#[test]
fn one_measurement_without_faults_passes_and_pays() {
    let bent = Bent {
        calm: true,
        ..Bent::default()
    };
    let (tally, _) = World::new(1, bent).run().unwrap();
    assert_eq!(
        tally.outcomes.get("measurement: final, pass"),
        Some(&1),
        "{tally:#?}"
    );
    assert!(tally.paid_reports >= 4, "{tally:#?}");
    assert_eq!((tally.lost, tally.crashes, tally.reorgs.len()), (0, 0, 0));
}

#[test]
fn whatever_happens_the_rules_hold() {
    let one = std::env::var("PLUMBLINE_SEED")
        .ok()
        .map(|s| s.parse::<u64>().unwrap());
    let full = std::env::var_os("PLUMBLINE_FULL").is_some();
    let first = any_seed();
    let seeds: Vec<u64> = match one {
        Some(seed) => vec![seed],
        None => (first..)
            .take(if full { FULL * QUICK } else { QUICK })
            .collect(),
    };
    let (mut all, mut failures, mut never) = (Tally::default(), Vec::new(), Vec::new());
    for part in seeds.chunks(QUICK) {
        let (tally, failed) = run_all(part, Bent::default());
        let unseen = tally.never();
        if one.is_none() && !unseen.is_empty() {
            never.push(format!("{unseen:?} in {QUICK} runs from {}", part[0]));
        }
        all.add(tally);
        failures.extend(failed);
    }
    println!("sim: from seed {}: {all}", seeds[0]);
    let count = failures.len();
    assert!(
        failures.is_empty(),
        "{count} of {} runs failed:\n{}",
        seeds.len(),
        failures.join("\n")
    );
    assert!(never.is_empty(), "never happened: {}", never.join("; "));
}

#[test]
fn the_same_seed_makes_the_same_run_and_another_does_not() {
    let trace = |seed| World::new(seed, Bent::default()).run().map(|r| r.1);
    let seed = any_seed();
    let first = trace(seed);
    assert_eq!(first, trace(seed), "seed {seed}");
    assert_ne!(first, trace(seed + 1), "seed {seed}");
}

#[test]
fn actors_that_act_on_what_can_vanish_are_caught() {
    let bent = Bent {
        eager: true,
        ..Bent::default()
    };
    assert!(caught(bent, "which vanished").is_some());
}

#[test]
fn actors_that_forget_what_they_signed_are_caught() {
    let bent = Bent {
        forgetful: true,
        ..Bent::default()
    };
    assert!(caught(bent, "two reports").is_some(), "challengers");
    assert!(caught(bent, "two commits").is_some(), "provers");
}
