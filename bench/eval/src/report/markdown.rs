//! The report for people: Markdown tables, as they can stand in a document.

use std::fmt::Write as _;

use plumbline_attack::sim::{Kind, Table as Simulated};

use super::rows::or_none;
use super::{Attack, Report, Tally};

/// All tables, one under the other.
pub(crate) fn render(report: &Report) -> String {
    let mut text = head(report);
    for part in [
        accuracy(report),
        attacks(report),
        corruption(report),
        shaper(report),
        cross(report),
    ] {
        text += &part;
    }
    for table in &report.simulated {
        text += &simulated(table);
    }
    text
}

fn head(report: &Report) -> String {
    let machine = &report.machine;
    let all = &report.all;
    format!(
        "`{}` · {} · {}, {} cores, Linux {} · {:.0} s of proofs\n\n{} {} proofs came to an end, {} were inconclusive (of those {} because this machine \
         could not offer or receive the rate), {} failed. {} of {} bundles are judged the same by `plumbline verify`; {} \
         packets are unaccounted for.\n\n",
        report.command,
        report.date.get(..10).unwrap_or(&report.date),
        machine.cpu_model,
        machine.cores,
        machine.kernel,
        report.seconds,
        machine.note,
        all.runs,
        all.inconclusive,
        all.starved,
        all.failed,
        all.verified,
        all.bundles,
        all.unaccounted,
    )
}

/// A table, or nothing without rows. The first column is text, the others are figures.
fn table(title: &str, columns: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
    let under: Vec<String> = (0..columns.len())
        .map(|i| if i == 0 { "---" } else { "---:" }.to_owned())
        .collect();
    let mut text = format!("**{title}**\n\n{}{}", line(&names), line(&under));
    for row in rows {
        text += &line(&row);
    }
    text + "\n"
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

fn yes(value: Option<bool>) -> String {
    match value {
        Some(true) => "yes".to_owned(),
        Some(false) => "no".to_owned(),
        None => "–".to_owned(),
    }
}

/// `runs`, and in brackets what else there was.
fn runs(tally: &Tally) -> String {
    let mut text = tally.runs.to_string();
    if tally.inconclusive > 0 {
        let _ = write!(text, " (+{} inconclusive)", tally.inconclusive);
    }
    if tally.uncarried > 0 {
        let _ = write!(text, " ({} uncarried)", tally.uncarried);
    }
    if tally.failed > 0 {
        let _ = write!(text, " (+{} failed)", tally.failed);
    }
    text
}

fn verified(tally: &Tally) -> String {
    format!("{}/{}", tally.verified, tally.bundles)
}

fn mbit(bps: u64) -> String {
    (bps / 1_000_000).to_string()
}

fn accuracy(report: &Report) -> String {
    let rows = report.accuracy.iter().map(|row| {
        let common = &row.common;
        vec![
            mbit(common.rate),
            common.n.to_string(),
            common.d_ms.to_string(),
            common.rtt_ms.to_string(),
            row.busy.to_string(),
            figure(row.err_median_pct, 2),
            figure(row.err_worst_pct, 2),
            figure(row.bias_pct, 2),
            figure(row.promised_pct, 0),
            row.false_fails.to_string(),
            runs(&common.tally),
            verified(&common.tally),
        ]
    });
    table(
        "Accuracy: error of the measured figure, percent of what the link carried while its queue was not empty; busy: other threads on every core",
        &[
            "Mbit/s",
            "n",
            "D, ms",
            "RTT, ms",
            "busy",
            "median",
            "worst",
            "bias",
            "promised",
            "called false",
            "runs",
            "verified",
        ],
        rows.collect(),
    )
}

/// How a row's runs ended, and what did not hold.
fn ended(row: &Attack) -> String {
    let verdicts: Vec<&str> = row.verdicts.iter().map(String::as_str).collect();
    let broken: Vec<&str> = row.common.tally.broken.iter().map(String::as_str).collect();
    let held = if row.held { "held" } else { "**NOT HELD**" };
    let text = format!("{held}: {}", verdicts.join(", "));
    let text = match broken.as_slice() {
        [] => text,
        broken => format!("{text}: {}", broken.join("; ")),
    };
    // A log's lines would end the row.
    text.replace('\n', " ").replace('|', "/")
}

fn attacks(report: &Report) -> String {
    let rows = report.attacks.iter().map(|row| {
        let words = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        vec![
            row.name.clone(),
            format!("{}/{}", row.common.f, row.common.n),
            words(row.outcome.map(|o| format!("{o:?}").to_lowercase())),
            words(row.defence.map(str::to_owned)),
            ended(row),
            figure(row.measured_over_true, 3),
            figure(row.guaranteed_over_true, 3),
            yes(row.honest_paid),
            yes(row.culprit_paid),
            runs(&row.common.tally),
        ]
    });
    table(
        "Attacks, on real packets; the worst run of each",
        &[
            "attack",
            "f/n",
            "must be",
            "because of",
            "was",
            "measured / true",
            "guaranteed / true",
            "honest paid",
            "culprit paid",
            "runs",
        ],
        rows.collect(),
    )
}

fn corruption(report: &Report) -> String {
    let rows = report.corruption.iter().map(|row| {
        vec![
            or_none(&row.attack).to_owned(),
            format!("{}/{}", row.common.f, row.common.n),
            figure(row.measured, 2),
            figure(row.lower, 2),
            figure(row.guaranteed, 2),
            figure(row.guaranteed_worst, 3),
            runs(&row.common.tally),
        ]
    });
    table(
        "Corruption: figures over the true rate",
        &[
            "attack",
            "f/n",
            "measured",
            "lower, B_g(0)",
            "guaranteed, B_g(f)",
            "its worst",
            "runs",
        ],
        rows.collect(),
    )
}

fn shaper(report: &Report) -> String {
    let rows = report.shaper.iter().map(|row| {
        let in_mbit = |bps: Option<f64>| figure(bps.map(|bps| bps / 1e6), 1);
        vec![
            row.bucket_bytes.to_string(),
            mbit(row.common.rate),
            mbit(row.peak),
            row.common.d_ms.to_string(),
            in_mbit(row.measured_bps),
            figure(row.guaranteed_over_true, 3),
            in_mbit(row.sustained_bps),
            figure(row.burst_bytes, 0),
            runs(&row.common.tally),
        ]
    });
    table(
        "Token bucket: a link that is fast for a moment, claimed by its peak",
        &[
            "bucket, B",
            "true Mbit/s",
            "peak",
            "D, ms",
            "measured",
            "guaranteed / true",
            "sustained at least",
            "burst in the prover's slices, B",
            "runs",
        ],
        rows.collect(),
    )
}

fn cross(report: &Report) -> String {
    let rows = report.cross.iter().map(|row| {
        vec![
            format!("{} %", row.percent),
            mbit(row.common.rate),
            figure(row.measured_over_link, 3),
            figure(row.measured_over_link_worst, 3),
            figure(Some(row.fifo_share), 3),
            figure(row.guaranteed_over_link, 3),
            runs(&row.common.tally),
        ]
    });
    table(
        "Cross traffic: the figure over the link's rate",
        &[
            "others send",
            "Mbit/s",
            "measured",
            "largest",
            "a FIFO's share",
            "guaranteed",
            "runs",
        ],
        rows.collect(),
    )
}

fn simulated(simulated: &Simulated) -> String {
    let rows = simulated.rows.iter().map(|row| {
        let parameter = row.parameter.as_ref();
        let parameter = parameter.map(|p| format!("{} {}", p.name, p.value));
        let verdicts: Vec<String> = row
            .verdicts
            .iter()
            .map(|(v, n)| format!("{v} {n}"))
            .collect();
        vec![
            row.attack.map_or("–", |attack| attack.name()).to_owned(),
            format!("{:?}", row.manner).to_lowercase(),
            row.network.to_owned(),
            format!("{}/{}", row.corrupt, row.n),
            parameter.unwrap_or_else(|| "–".to_owned()),
            verdicts.join(", "),
            format!("{:.3}", row.measured.median),
            format!("{:.3}", row.measured.max),
            format!("{:.3}", row.lower.median),
            format!("{:.3}", row.guaranteed.max),
            format!("{:.2}", row.honest_paid),
            row.runs.to_string(),
        ]
    });
    let kind = match simulated.kind {
        Kind::Corruption => "corruption",
        Kind::Acceptance => "every attack on every network",
        Kind::Skew => "start skew",
        Kind::Cross => "cross traffic",
        Kind::Shaper => "token bucket",
    };
    let title = format!(
        "Virtual time, {kind}: {} runs, seed {}, {} bundles verified, {} judged otherwise",
        simulated.runs, simulated.seed, simulated.verified_runs, simulated.disagreements
    );
    let columns = [
        "attack",
        "manner",
        "network",
        "corrupt/n",
        "varied",
        "verdicts",
        "measured, median",
        "largest",
        "lower, median",
        "guaranteed, largest",
        "honest paid",
        "runs",
    ];
    table(&title, &columns, rows.collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cell::{Cell, Table};
    use crate::machine::Machine;
    use crate::plan::{Plan, QUICK};
    use crate::run::Run;
    use crate::state::{Of, State};

    #[test]
    fn every_row_has_as_many_cells_as_its_head() {
        let plan = Plan::parse(QUICK).unwrap();
        let cells = plan.cells(&["rush".to_owned()]);
        let run = |cell: &Cell| Run {
            verdict: "Fail".into(),
            true_bps: 100,
            measured_bps: Some(99),
            complaints: vec!["a | b\nc".into()],
            met: None,
            verified: Some(cell.table != Table::Cross),
            ..Run::default()
        };
        let runs: BTreeMap<_, _> = cells.iter().map(|(c, _)| (c.key(), vec![run(c)])).collect();
        let state = State {
            of: Of {
                machine: Machine::describe(),
                product: "p".into(),
                attacks: None,
                plan,
            },
            date: "2026-01-02T03:04:05Z".into(),
            seconds: 1.0,
            resumed: 0,
            runs,
        };
        let report = Report::new(&state, &cells, Vec::new(), "cargo xtask eval".into());
        let text = render(&report);
        let mut width = 0;
        let mut tables = 0;
        for line in text.lines() {
            let cells = line.matches('|').count();
            if line.starts_with("| ") && width == 0 {
                (width, tables) = (cells, tables + 1);
            }
            assert!(cells == width || cells == 0, "{line}");
            if cells == 0 {
                width = 0;
            }
        }
        assert_eq!(tables, 5, "{text}");
        assert!(text.contains("2026-01-02") && text.contains("cargo xtask eval"));
        assert!(text.contains("**NOT HELD**") && !text.contains("NaN"));
    }
}
