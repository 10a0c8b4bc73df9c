//! The security claim as a table under review: every attack on every network, and what it comes to.
//!
//! ```text
//!  table(Acceptance) ─► rows ─┬─► snapshots/acceptance__attacks.snap: a change of it is a change of the claim
//!                             └─► what must hold in every run, whatever the snapshot says
//! ```
//!
//! `PLUMBLINE_ATTACK_RUNS` sets how many runs there are in all (the snapshot is of the default), and
//! `PLUMBLINE_ATTACK_SEED` which. A failure prints the seed that repeats the run.

use std::fmt::Write as _;

use plumbline_attack::sim::{Kind, Row, Table, table};

/// Two of each cell.
const RUNS: u64 = 540;
const SEED: u64 = 1;

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

fn line(row: &Row) -> String {
    let verdicts: Vec<String> = row.verdicts.iter().map(|(v, n)| format!("{n} {v}")).collect();
    format!(
        "{:<20} {:<7} {:<16} {:<22} {:>6.3} {:>6.3} {:>5.2} {:>5.2}  {}",
        row.attack.map_or("none", |a| a.name()),
        format!("{:?}", row.manner).to_lowercase(),
        row.network,
        verdicts.join(", "),
        row.measured.median,
        row.guaranteed.max,
        row.honest_paid,
        row.corrupt_paid,
        row.flags.keys().cloned().collect::<Vec<_>>().join(" "),
    )
}

fn text(table: &Table) -> String {
    let mut out = String::from(
        "attack               manner  network          verdicts               B/true B_g/tr honest corrupt paid, flags\n",
    );
    for row in &table.rows {
        writeln!(out, "{}", line(row).trim_end()).unwrap();
    }
    for why in &table.unplayable {
        writeln!(out, "{why}").unwrap();
    }
    out
}

#[test]
fn acceptance() {
    let runs = setting("PLUMBLINE_ATTACK_RUNS").unwrap_or(RUNS);
    let seed = setting("PLUMBLINE_ATTACK_SEED").unwrap_or(SEED);
    let began = std::time::Instant::now();
    let table = table(Kind::Acceptance, runs, seed, &|_, _| {});
    eprintln!("{} runs, {} verified, {:?}", table.runs, table.verified_runs, began.elapsed());
    eprintln!("{}", text(&table));
}
