//! The result for people.

use comfy_table::{CellAlignment, Table, presets};

use super::{Named, Outcome};
use crate::machine::Machine;
use crate::plan::Rate;
use crate::promise::{Checked, Outcome as Kept, State};
use crate::row::Report;
use crate::stages::Origin;

/// Other work that takes more than this part of all cores is pointed out: figures are then lower, and ratios
/// less certain.
const DISTURBED: f64 = 0.05;

/// Everything, as text.
pub(crate) fn render(outcome: &Outcome) -> String {
    let Outcome { machine: m, .. } = outcome;
    let mut parts = vec![machine(
        m,
        outcome.busy_before,
        &outcome.date,
        &outcome.command,
    )];
    if !outcome.rows.is_empty() {
        parts.push(rows(&outcome.rows));
        parts.extend(notes(&outcome.rows));
    }
    parts.extend(loops(outcome));
    parts.extend(stages(outcome));
    parts.push(promises(&outcome.promises, &outcome.spreads));
    parts.extend(
        outcome
            .failures
            .iter()
            .map(|f| format!("not measured: {f}")),
    );
    parts.push(format!("took {:.0} s", outcome.seconds));
    parts.join("\n")
}

pub(super) fn table(
    header: &[&str],
    left: usize,
    rows: impl IntoIterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    for at in left..header.len() {
        if let Some(column) = table.column_mut(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

pub(super) fn machine(m: &Machine, busy_before: f64, date: &str, command: &str) -> String {
    let disturbed = if busy_before > DISTURBED {
        let percent = busy_before * 100.0;
        format!("\nDISTURBED: other work took {percent:.0} % of all cores before the run began")
    } else {
        String::new()
    };
    format!(
        "{}, {} cores ({}), {} GiB, Linux {}\n{}\n{}  ·  {}{disturbed}",
        m.cpu_model,
        m.cores,
        m.flags.join(" "),
        m.memory_mib / 1024,
        m.kernel,
        m.note,
        date,
        command,
    )
}

pub(super) fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.digits$}"))
}

fn percent(value: Option<f64>) -> String {
    // Nothing lost is 0; a single packet lost must not read like it.
    match value {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(v) if v < 0.000_1 => "< 0.01 %".into(),
        Some(v) => format!("{:.2} %", v * 100.0),
    }
}

fn rows(rows: &[Report]) -> String {
    let header = [
        "row",
        "MTU",
        "rate",
        "Gbit/s",
        "min … max",
        "Mpps",
        "offered",
        "loss",
        "unacc.",
        "cpu s/Gbit",
        "source + sink",
    ];
    let lines = rows.iter().map(|row| {
        let rate = match row.rate {
            Rate::Word(_) => "max".into(),
            Rate::Share(share) => format!("{share:.2}"),
        };
        let span = match (row.min, row.max) {
            (Some(min), Some(max)) => format!("{min:.2} … {max:.2}"),
            _ => "-".into(),
        };
        let name = if row.valid {
            row.name.clone()
        } else {
            format!("{} INVALID", row.name)
        };
        vec![
            name,
            row.mtu.to_string(),
            rate,
            figure(row.gbps, 2),
            span,
            figure(row.mpps, 3),
            figure(row.offered_gbps, 2),
            percent(row.loss),
            row.unaccounted
                .map_or_else(|| "-".into(), |n| n.to_string()),
            figure(row.cpu_s_per_gbit, 4),
            format!(
                "{} + {}",
                figure(row.cpu_s_per_gbit_source, 3),
                figure(row.cpu_s_per_gbit_sink, 3)
            ),
        ]
    });
    table(&header, 1, lines)
}

/// Why rows are invalid, where packets went, how late bursts left.
fn notes(rows: &[Report]) -> Vec<String> {
    let mut notes = Vec::new();
    for row in rows {
        let name = &row.name;
        if let Some(why) = &row.why {
            notes.push(format!("{name}: INVALID: {why}"));
        }
        if !row.reasons.is_empty() {
            let reasons: Vec<_> = row
                .reasons
                .iter()
                .map(|(r, n)| format!("{r} {n}"))
                .collect();
            notes.push(format!(
                "{name}: of {} sent, {}",
                row.sent,
                reasons.join(", ")
            ));
        }
        if let Some(p) = row.precision {
            for (what, q) in [("late", p.late), ("gaps wrong", p.gap_error)] {
                let us = |ns: u64| ns as f64 / 1e3;
                notes.push(format!(
                    "{name}: bursts {what} by {:.1} µs (p50), {:.1} µs (p99), {:.1} µs (most)",
                    us(q.p50_ns),
                    us(q.p99_ns),
                    us(q.max_ns)
                ));
            }
        }
    }
    notes
}

fn loops(outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(found) = &outcome.maximum {
        lines.push(format!(
            "found maximum: {:.2} Gbit/s, the highest paced rate without loss in trials of {} s ({} tried)",
            found.bps as f64 / 1e9,
            found.trial_seconds,
            found.tried.len()
        ));
    }
    if let Some(h) = &outcome.hashing {
        lines.push(format!(
            "hashing, one core: one packet at a time {:.2} GB/s, sixteen lanes {:.2} GB/s, one long input {:.2} GB/s",
            h.naive.median, h.lanes.median, h.long.median
        ));
    }
    if let Some(v) = &outcome.verifying {
        lines.push(format!(
            "judging a bundle of {} packets: {:.1} ms; the raw work in it {:.1} ms",
            v.packets,
            v.verify_s.median * 1e3,
            v.raw_s.median * 1e3
        ));
    }
    if let Some(c) = &outcome.commit {
        lines.push(format!(
            "commit latency over {} phases of {} packets at {:.2} Gbit/s: {:.1} µs (p50), {:.1} µs (p99), {:.1} µs (most), {} never",
            c.phases,
            c.packets,
            c.rate_bps as f64 / 1e9,
            c.p50_us,
            c.p99_us,
            c.max_us,
            c.incomplete
        ));
        lines.push(format!(
            "  of which until the last leaf {:.1} µs, commitment {:.1} µs, signature {:.1} µs, first datagram {:.1} µs (medians)",
            c.parts.leaf_us, c.parts.commit_us, c.parts.sign_us, c.parts.send_us
        ));
        let worst = &c.worst_parts;
        lines.push(format!(
            "  99th percentile of each: {:.1}, {:.1}, {:.1}, {:.1} µs",
            worst.leaf_us, worst.commit_us, worst.sign_us, worst.send_us
        ));
    }
    lines
}

fn stages(outcome: &Outcome) -> Vec<String> {
    let Some(stages) = &outcome.stages else {
        return Vec::new();
    };
    let lines = stages.stages.iter().map(|s| {
        let origin = match s.origin {
            Origin::Loop => "measured, loop",
            Origin::Row => "measured, row",
            Origin::Literature => "literature",
        };
        vec![
            s.name.to_owned(),
            origin.to_owned(),
            s.payload.to_string(),
            format!("{:.1}", s.ns),
        ]
    });
    let costs = table(&["stage", "from", "payload", "ns a packet"], 2, lines);
    let header = [
        "wire",
        "MTU",
        "Mpps",
        "card, ns (literature)",
        "verify, ns (measured)",
        "cores",
    ];
    let lines = stages.model.iter().map(|n| {
        vec![
            format!("{} Gbit/s", n.gbps),
            n.mtu.to_string(),
            format!("{:.3}", n.mpps),
            format!("{:.0}", n.card_ns),
            format!("{:.0}", n.verify_ns),
            format!("{:.2}", n.cores),
        ]
    });
    vec![costs, table(&header, 1, lines)]
}

pub(super) fn promises(checked: &[Checked], spreads: &[Named]) -> String {
    let lines = checked.iter().map(|checked| {
        let p = &checked.promise;
        let state = match p.state {
            State::Enforced => "enforced",
            State::Pending => "pending",
        };
        let said = match checked.outcome {
            Kept::Kept => "kept",
            Kept::Broken if p.state == State::Pending => "not yet",
            Kept::Broken => "BROKEN",
            Kept::NotMeasured => "not measured",
            Kept::OtherMachine => "other machine",
        };
        let spread = spreads.iter().find(|s| s.ratio == p.ratio);
        let spread = spread.filter(|s| s.spread.values.len() > 1);
        vec![
            p.name.clone(),
            p.ratio.clone(),
            p.wanted(),
            figure(checked.got, 3),
            spread.map_or_else(String::new, |s| {
                format!("{:.2} … {:.2}", s.spread.min, s.spread.max)
            }),
            state.to_owned(),
            said.to_owned(),
        ]
    });
    let header = [
        "promise",
        "ratio",
        "wanted",
        "got",
        "min … max",
        "state",
        "said",
    ];
    table(&header, 2, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_lost_never_reads_like_none() {
        assert_eq!(percent(Some(0.0)), "0");
        assert_eq!(percent(Some(1e-9)), "< 0.01 %");
        assert_eq!(percent(Some(0.000_1)), "0.01 %");
        assert_eq!(percent(None), "-");
    }

    #[test]
    fn an_invalid_row_is_called_so_with_its_reason() {
        let reports = [
            crate::row::Row::sample("good", &[8.0], 0).report(),
            crate::row::Row::sample("bad", &[8.0], 3).report(),
        ];
        let text = rows(&reports);
        assert!(
            text.contains("bad INVALID") && !text.contains("good INVALID"),
            "{text}"
        );
        assert!(notes(&reports).iter().any(|n| n.contains("3 packets")));
    }
}
