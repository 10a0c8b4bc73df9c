//! A run of the chain, for people.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::plot::{Bar, Plot, write_all};
use super::table::{machine, promises, table};
use crate::chain::Outcome;
use crate::chain::gas::{BY_POOL, BY_SIZE, Grows, JURY_POOLS, POOLS, SIZES, line, of, with};
use crate::chain::growth::Blocks;
use crate::stat::Spread;

/// Everything, as text.
pub(crate) fn render(outcome: &Outcome) -> String {
    let mut parts = vec![
        machine(
            &outcome.machine,
            outcome.busy_before,
            &outcome.date,
            &outcome.command,
        ),
        rows(outcome),
        parts_of_a_transaction(outcome),
        growth(outcome),
        fixed(outcome),
        growing(outcome),
        promises(&outcome.promises, &outcome.spreads),
    ];
    parts.extend(outcome.growth_not_measured.clone());
    parts.extend(outcome.gas_differs.iter().cloned());
    parts.push(format!("took {:.0} s", outcome.seconds));
    parts.join("\n")
}

fn span(spread: &Spread) -> String {
    format!("{:.0} … {:.0}", spread.min, spread.max)
}

fn rows(outcome: &Outcome) -> String {
    let header = [
        "row",
        "clients",
        "tx/s",
        "min … max",
        "p50 ms",
        "p99 ms",
        "revm alone tx/s",
        "vs revm",
        "blocks/s",
        "redb alone blocks/s",
        "vs redb",
    ];
    let lines = outcome.rows.iter().map(|row| {
        vec![
            row.name.to_owned(),
            row.clients.to_string(),
            format!("{:.0}", row.tps.median),
            span(&row.tps),
            format!("{:.2}", row.p50_us / 1e3),
            format!("{:.2}", row.p99_us / 1e3),
            format!("{:.0}", row.revm_tps.median),
            format!("{:.4}", row.vs_revm.median),
            format!("{:.1}", row.blocks.median),
            format!("{:.1}", row.redb_blocks.median),
            format!("{:.3}", row.vs_store.median),
        ]
    });
    table(&header, 1, lines)
}

fn parts_of_a_transaction(outcome: &Outcome) -> String {
    let header = [
        "µs a transaction",
        "in a block",
        "whole",
        "signer",
        "revm",
        "redb write",
        "sync",
        "rest",
    ];
    let lines = outcome.rows.iter().map(|row| {
        let p = &row.parts;
        let mut line = vec![row.name.to_owned()];
        let parts = [
            row.per_block,
            p.whole_us,
            p.recover_us,
            p.execute_us,
            p.write_us,
            p.sync_us,
            p.rest_us,
        ];
        line.extend(parts.map(|part| format!("{part:.1}")));
        line
    });
    table(&header, 1, lines)
}

fn growth(outcome: &Outcome) -> String {
    let g = &outcome.growth;
    let line = |b: &Blocks| {
        format!(
            "a block of {} transfers: {:.2} ms on {} accounts, {:.2} ms on {} ({:.2} times; {:.2} … {:.2})",
            b.transfers,
            b.small_s.median * 1e3,
            g.accounts[0],
            b.large_s.median * 1e3,
            g.accounts[1],
            b.ratio.median,
            b.ratio.min,
            b.ratio.max,
        )
    };
    let (ordinary, full) = (line(&g.ordinary), line(&g.full));
    format!("{ordinary}\n{full}; filled in {:.0} s", g.fill_s)
}

fn fixed(outcome: &Outcome) -> String {
    let mut growing = Vec::new();
    for grows in &BY_SIZE {
        growing.extend(grows.numbers.iter().map(|n| with(grows.flow, *n)));
    }
    for grows in &BY_POOL {
        growing.extend(grows.numbers.iter().map(|n| of(grows.flow, *n)));
    }
    let gas = outcome.gas.iter();
    let lines = gas
        .filter(|(flow, _)| !growing.contains(flow))
        .map(|(flow, gas)| {
            let next = outcome.gas_amsterdam.get(flow);
            let next = next.map_or_else(|| "-".into(), u64::to_string);
            vec![flow.clone(), gas.to_string(), next]
        });
    table(&["flow", "gas (Osaka)", "gas (Amsterdam)"], 1, lines)
}

/// One table a list of numbers.
fn growing(outcome: &Outcome) -> String {
    let parts = [
        growth_of(outcome, with, &BY_SIZE, &SIZES, "n"),
        growth_of(outcome, of, &BY_POOL[..1], &POOLS, "pool"),
        growth_of(outcome, of, &BY_POOL[1..], &JURY_POOLS, "pool"),
    ];
    parts.join("\n")
}

fn growth_of(
    outcome: &Outcome,
    key: fn(&str, u16) -> String,
    list: &[Grows],
    numbers: &[u16],
    letter: &str,
) -> String {
    let heads: Vec<String> = numbers.iter().map(|n| format!("{letter} = {n}")).collect();
    let mut header = vec!["flow, gas"];
    header.extend(heads.iter().map(String::as_str));
    header.extend(["fitted", "off by at most"]);
    let lines = list.iter().map(|grows| {
        let values = numbers.iter().map(|n| {
            let gas = outcome.gas.get(&key(grows.flow, *n));
            gas.map_or_else(|| "-".into(), u64::to_string)
        });
        let mut row = vec![grows.flow.to_owned()];
        row.extend(values);
        match line(&outcome.gas, key, grows) {
            Some(line) => row.extend([
                format!("{:.0} + {:.0}·{letter}", line.fixed, line.each),
                format!("{:.1} %", line.off * 100.0),
            ]),
            None => row.extend(["-".to_owned(), "-".to_owned()]),
        }
        row
    });
    table(&header, 1, lines)
}

/// Writes the plot; returns its file.
///
/// # Errors
/// The directory cannot be written.
pub(crate) fn plot(outcome: &Outcome, directory: &Path) -> Result<Vec<PathBuf>> {
    let bar = |label: String, spread: &Spread, ours| Bar {
        label,
        median: spread.median,
        whisker: Some((spread.min, spread.max)),
        ours,
    };
    let mut bars = Vec::new();
    for row in &outcome.rows {
        bars.push(bar(row.name.to_owned(), &row.tps, true));
        if row.name == crate::chain::speed::TPS {
            bars.push(bar("the same, revm alone".into(), &row.revm_tps, false));
        }
    }
    let plot = Plot {
        file: "chain.svg",
        title: "Signed transactions, executed, in a block and on disk",
        unit: "transactions a second",
        ours: "acknowledged by the engine",
        bars,
    };
    let m = &outcome.machine;
    let foot = [
        format!(
            "{}, {} cores, Linux {} · {}",
            m.cpu_model,
            m.cores,
            m.kernel,
            outcome.date.get(..10).unwrap_or(&outcome.date),
        ),
        outcome.command.clone(),
    ];
    write_all(&[plot], &foot, directory)
}
