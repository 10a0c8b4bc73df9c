//! The security claim as a table under review: every attack on every network, and what it comes to.
//!
//! ```text
//!  table(kind) ─► rows ─┬─► snapshots/acceptance__attacks.snap: a change of it is a change of the claim
//!                       └─► what must hold in every run, whatever the snapshot says
//! ```
//!
//! `PLUMBLINE_ATTACK_RUNS` sets how many runs a table has (the snapshot is of the default), and
//! `PLUMBLINE_ATTACK_SEED` which. A failure names the cell and the seed that repeat the run.

// The lint exempts test functions, not what they share.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use plumbline_attack::sim::{Kind, Manner, Network, Row, Table, playable, table};
use plumbline_attack::switch::Attack;

/// Twice every cell of the acceptance table: what a reviewer waits for.
const RUNS: u64 = 700;
const SEED: u64 = 1;
/// No guaranteed figure may be above what the link carried by more than this: the last packet's chance
/// in a phase of some hundred packets.
const MOST: f64 = 1.02;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

/// A table of `runs` runs, unless it is said how many.
fn made(kind: Kind, runs: u64) -> Table {
    let runs = setting("PLUMBLINE_ATTACK_RUNS").unwrap_or(runs);
    let seed = setting("PLUMBLINE_ATTACK_SEED").unwrap_or(SEED);
    let table = table(kind, runs, seed, &|_, _| {});
    eprintln!(
        "{kind:?}: {} runs, {} verified, seed {seed}\n{}",
        table.runs,
        table.verified_runs,
        text(&table)
    );
    table
}

fn line(row: &Row) -> String {
    let verdicts: Vec<String> = row
        .verdicts
        .iter()
        .map(|(v, n)| format!("{n} {v}"))
        .collect();
    let seen = row.flags.keys().map(String::as_str);
    let parameter = row
        .parameter
        .as_ref()
        .map_or(String::new(), |p| format!("{} {}", p.name, p.value));
    let line = format!(
        "{:<19} {:<6} {:>2} {:<16} {:<22} {:>6.3} {:>6.3} {:>6.3} {:>5.2} {:>5.2}  {} {parameter}",
        row.attack.map_or("none", Attack::name),
        format!("{:?}", row.manner).to_lowercase(),
        row.corrupt,
        row.network,
        verdicts.join(", "),
        row.measured.median,
        row.lower.median,
        row.guaranteed.max,
        row.honest_paid,
        row.corrupt_paid,
        seen.collect::<Vec<_>>().join(" "),
    );
    line.trim_end().to_owned()
}

fn text(table: &Table) -> String {
    let mut out = String::from(
        "attack              manner  c network          verdicts               shown  B_g(0) B_g(f) honest corr.  (paid) flags\n",
    );
    for row in &table.rows {
        writeln!(out, "{}", line(row)).unwrap();
    }
    for why in &table.unplayable {
        writeln!(out, "{why}").unwrap();
    }
    out
}

/// Honest challengers whose pay is known to be in the hands of a lying prover: a commitment that does not
/// hold for them says that one of the two lies (V3). Who hears the Start late, or no echo, sends nothing, and is
/// paid nothing; nor is who is so far away that nothing of it had come when the prover committed.
fn may_go_unpaid(row: &Row) -> bool {
    let far = row.network == "intercontinental" && row.manner == Manner::Gross;
    far && row.attack == Some(Attack::EarlyEnd)
        || matches!(
            row.attack,
            Some(
                Attack::EarlyCommit
                    | Attack::ForgedBitmap
                    | Attack::EquivocatingCommit
                    | Attack::LateHonest
                    | Attack::StrangerAddress
            )
        )
}

/// A claim that the link carries and that is called false: only where neighbours share the link, which cannot be
/// told from a short one.
fn falsely_failed(kind: Kind, row: &Row) -> bool {
    let fails = row.verdicts.contains_key("fail");
    let short = kind == Kind::Shaper
        || row.network == "slow-link"
        || matches!(row.attack, Some(Attack::TokenBucket | Attack::BurstAndStop));
    let neighbours =
        kind == Kind::Cross || row.network == "cross" || row.attack == Some(Attack::CrossTraffic);
    fails && !short && !neighbours
}

fn must_hold(table: &Table) {
    assert_eq!(
        table.disagreements, 0,
        "a bundle does not give its judgement"
    );
    assert!(table.verified_runs * 20 > table.runs);
    let mut wrong = String::new();
    for row in &table.rows {
        let bucket = matches!(row.attack, Some(Attack::TokenBucket | Attack::BurstAndStop))
            || row.network == "bucket"
            || table.kind == Kind::Shaper;
        let bounded = row.guaranteed_over_carried <= MOST;
        let bounded = bounded && (bucket || row.guaranteed.max <= MOST);
        let unpaid = row.honest_paid < 1.0 && !may_go_unpaid(row);
        let stranger = row.met.contains_key("flooded_a_stranger");
        let lost = row.unaccounted != 0;
        if !bounded || unpaid || stranger || lost || falsely_failed(table.kind, row) {
            let (cell, seed) = (row.cell, row.worst_seed);
            writeln!(wrong, "cell {cell}, seed {seed}: {}", line(row)).unwrap();
        }
    }
    assert!(
        wrong.is_empty(),
        "{:?}, of seed {}:\n{wrong}",
        table.kind,
        table.seed
    );
}

#[test]
fn no_attack_on_any_network_lifts_the_guarantee_or_costs_the_honest_their_pay() {
    let table = made(Kind::Acceptance, RUNS);
    must_hold(&table);
    for network in Network::all(1_000_000) {
        for attack in Attack::ALL {
            let rows = table.rows.iter().filter(|r| r.attack == Some(attack));
            let here = rows.filter(|r| r.network == network.name).count();
            let wanted = if playable(attack) {
                Manner::of(attack).len()
            } else {
                0
            };
            assert_eq!(here, wanted, "{attack} on {}", network.name);
        }
    }
    assert_eq!(table.unplayable.len(), 5);
    // The attack bites: what is not guaranteed is lifted where what is is not.
    let rushed = |r: &&Row| r.attack == Some(Attack::Rush);
    let lifted = table
        .rows
        .iter()
        .filter(rushed)
        .filter(|r| r.network == "lan" || r.network == "metro")
        .all(|r| r.measured.max > 1.2);
    assert!(lifted, "{}", text(&table));
    if setting("PLUMBLINE_ATTACK_RUNS").is_none() && setting("PLUMBLINE_ATTACK_SEED").is_none() {
        insta::assert_snapshot!("attacks", text(&table));
    }
}

#[test]
fn nor_do_more_corrupt_ones_late_starts_cross_traffic_or_shapers() {
    for kind in Kind::ALL {
        if kind != Kind::Acceptance {
            must_hold(&made(kind, 1));
        }
    }
}
