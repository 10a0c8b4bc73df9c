//! Money: nobody gets more than the rules give, nothing is stuck, whatever anybody does.
//!
//! ```text
//!   chance ─► moves ─► stage ── block ──► Fork (the contracts, in memory)
//!                        │                  │ events
//!                        │                  ▼
//!                        └── compare ◄──── book ◄── rules (who is paid what, written a second time)
//!   … and at the end: home (anybody ends everything, everyone withdraws)
//! ```
//!
//! Claim: after every block of any sequence the vault's buckets are those of the shadow ledger, each
//! movement is one that the rules give, every refusal has a name, and at the end no escrow is left. What
//! it does not promise: that a governor cannot choose bad chain variables within their bounds, or admit
//! a bad module. `draws`: who is drawn, and that nobody chooses it. `hostile`: tokens and receivers that misbehave. `gas`: the largest cases fit a block.
//! A failure prints its seed; `PLUMBLINE_SEED` repeats it, `PLUMBLINE_FULL=1` runs ten times as many.
// Lints let only test functions unwrap and print; here everything is one, or serves one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    non_snake_case
)]

mod book;
mod chance;
mod draws;
mod gas;
mod home;
mod hostile;
mod house;
mod moves;
mod rules;
mod script;
mod stage;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use alloy::primitives::keccak256;
use serde_json::Value;
use stage::{Stage, Tally};

/// Calls of one sequence, before everyone goes home.
const CALLS: u64 = 1_000;
/// Contracts whose every function must have been done.
const CONTRACTS: [&str; 10] = [
    "LabToken",
    "Registry",
    "Parameters",
    "Vault",
    "Participants",
    "Beacon",
    "Jury",
    "Disputes",
    "Backhaul",
    "Bonds",
];

/// One sequence, from the founding to the last withdrawal.
fn sequence(seed: u64) -> Tally {
    let mut s = Stage::new(seed, &moves::cast());
    let mut plans = moves::Plans::default();
    moves::open(&mut s);
    script::all(&mut s, &mut plans);
    let mut calls = 0;
    while calls < CALLS {
        s.now += match s.chance.below(400) {
            // A day off now and then, or nobody would ever be absent.
            0 if s.chance.percent(30) => 1_000,
            1..=3 => 100,
            4..=150 => s.chance.below(8),
            _ => 0,
        };
        plans.late = calls > CALLS * 9 / 10;
        let size = if s.chance.percent(60) {
            1
        } else {
            2 + s.chance.below(3)
        };
        let block: Vec<_> = (0..size).map(|_| moves::next(&mut s, &mut plans)).collect();
        s.block(&block);
        calls += size;
    }
    home::all(&mut s);
    for (name, count) in &s.book.seen {
        *s.tally.done.entry((*name).to_owned()).or_default() += count;
    }
    s.tally
}

/// Name of the contract, of the function, and its selector, of everything that can change something.
fn listed() -> Vec<(&'static str, String, [u8; 4])> {
    let artifacts = Path::new(env!("CARGO_MANIFEST_DIR")).join("contracts/artifacts");
    let mut list = Vec::new();
    for contract in CONTRACTS {
        let text = std::fs::read(artifacts.join(format!("{contract}.json"))).unwrap();
        let artifact: Value = serde_json::from_slice(&text).unwrap();
        for item in artifact["abi"].as_array().unwrap() {
            if item["type"] == "function" && item["stateMutability"] == "nonpayable" {
                let name = item["name"].as_str().unwrap().to_owned();
                let signature = format!("{name}{}", types(&item["inputs"]));
                let hash = keccak256(signature);
                list.push((contract, name, [hash[0], hash[1], hash[2], hash[3]]));
            }
        }
    }
    list
}

/// The types of parameters, as a selector is made from them.
fn types(inputs: &Value) -> String {
    let one = |input: &Value| {
        let name = input["type"].as_str().unwrap();
        match name.strip_prefix("tuple") {
            Some(array) => format!("{}{array}", types(&input["components"])),
            None => name.to_owned(),
        }
    };
    let list: Vec<String> = inputs.as_array().unwrap().iter().map(one).collect();
    format!("({})", list.join(","))
}

/// `Contract.function` of the same.
fn functions() -> BTreeSet<String> {
    listed()
        .into_iter()
        .map(|(c, f, _)| format!("{c}.{f}"))
        .collect()
}

/// Name of the contract in a deployment, and selector, of the same.
fn selectors() -> Vec<(String, [u8; 4])> {
    let known = |contract: &str| match contract {
        "LabToken" => "token".to_owned(),
        other => other.to_lowercase(),
    };
    listed()
        .into_iter()
        .map(|(c, _, s)| (known(c), s))
        .collect()
}

#[test]
fn nobody_gets_more_than_the_rules_give_and_nothing_is_stuck() {
    let repeated = std::env::var("PLUMBLINE_SEED").ok();
    let first = match &repeated {
        Some(text) => text.parse().unwrap(),
        None => u64::from_le_bytes(fresh()),
    };
    let full = std::env::var("PLUMBLINE_FULL").is_ok_and(|v| v == "1");
    let sequences = match (&repeated, full) {
        (Some(_), _) => 1,
        (None, false) => 10,
        (None, true) => 100,
    };
    let mut total = Tally::default();
    for i in 0..sequences {
        let seed = first.wrapping_add(i);
        match catch_unwind(AssertUnwindSafe(|| sequence(seed))) {
            Ok(tally) => total.add(&tally),
            Err(why) => {
                println!("money: PLUMBLINE_SEED={seed} repeats this failure");
                resume_unwind(why);
            }
        }
    }
    let sum = |map: &std::collections::BTreeMap<String, u64>| map.values().sum::<u64>();
    for name in functions() {
        let of =
            |map: &std::collections::BTreeMap<String, u64>| map.get(&name).copied().unwrap_or(0);
        println!(
            "  {name:32} {:6} done {:6} refused",
            of(&total.done),
            of(&total.refused)
        );
    }
    println!("  refusals by name: {:?}", total.reasons);
    let (done, refused) = (sum(&total.done), sum(&total.refused));
    println!(
        "money: {} calls, {done} done, {refused} refused, 0 broken",
        done + refused
    );
    assert!(
        !total.reasons.contains_key("Panic"),
        "a contract failed instead of refusing"
    );
    let never: Vec<String> = functions()
        .into_iter()
        .filter(|name| !total.done.contains_key(name))
        .collect();
    for of in ["finalized towards the prover", "finalized away from it"] {
        println!("  {of:32} {:6}", total.done.get(of).unwrap_or(&0));
        assert!(total.done.contains_key(of), "never {of}");
    }
    assert!(
        never.is_empty(),
        "never done, so nothing is proven of them: {never:?}"
    );
}

/// Eight bytes that differ from run to run.
fn fresh() -> [u8; 8] {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
