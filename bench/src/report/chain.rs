//! A run of the chain, for people.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::plot::{Bar, Plot, write_all};
use super::table::{machine, promises, table};
use crate::chain::Outcome;
use crate::chain::gas::{GROWING, SIZES, slope, with};
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
        growth(outcome),
        fixed(outcome),
        growing(outcome),
        promises(&outcome.promises, &outcome.spreads),
    ];
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

fn growth(outcome: &Outcome) -> String {
    let g = &outcome.growth;
    format!(
        "a block of {} transfers: {:.2} ms on {} accounts, {:.2} ms on {} ({:.2} times; {:.2} … {:.2}; filled in {:.0} s)",
        g.transfers,
        g.small_s.median * 1e3,
        g.accounts[0],
        g.large_s.median * 1e3,
        g.accounts[1],
        g.ratio.median,
        g.ratio.min,
        g.ratio.max,
        g.fill_s
    )
}

fn fixed(outcome: &Outcome) -> String {
    let grows = |flow: &str| GROWING.iter().any(|g| flow.starts_with(&format!("{g}_n")));
    let lines = outcome
        .gas
        .iter()
        .filter(|(flow, _)| !grows(flow))
        .map(|(flow, gas)| vec![flow.clone(), gas.to_string()]);
    table(&["flow", "gas"], 1, lines)
}

fn growing(outcome: &Outcome) -> String {
    let sizes = SIZES.map(|n| format!("n = {n}"));
    let mut header = vec!["flow, gas"];
    header.extend(sizes.iter().map(String::as_str));
    header.push("a challenger more");
    let lines = GROWING.iter().map(|flow| {
        let mut line = vec![(*flow).to_owned()];
        line.extend(SIZES.map(|n| {
            let gas = outcome.gas.get(&with(flow, n));
            gas.map_or_else(|| "-".into(), u64::to_string)
        }));
        line.push(slope(&outcome.gas, flow).map_or_else(|| "-".into(), |s| format!("{s:.0}")));
        line
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
