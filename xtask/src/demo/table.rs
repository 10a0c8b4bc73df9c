//! The figures, for people.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use plumbline_lab::Challenger;

use super::attack::Attacked;
use super::figures::Figures;
use crate::units::{show_nanos, show_rate};

/// All tables, one under the other.
pub(crate) fn render(figures: &Figures) -> String {
    [
        result(figures),
        challengers(&figures.measured.challengers),
        packets(figures),
        money(figures),
    ]
    .join("\n")
}

/// What attacks met, one under the other.
pub(crate) fn attacks(attacked: &[Attacked]) -> String {
    let mut table = plain();
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), |s| format!("{s:.3}"));
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    for Attacked { switch, met } in attacked {
        let attack = &switch.attack;
        let culprit = format!("{:?}", attack.culprit).to_lowercase();
        let outcome = match met.broken.as_slice() {
            [] => format!("{:?}, as it must be", attack.outcome).to_lowercase(),
            broken => format!("NOT HELD: {}", broken.join("; ")),
        };
        for (name, value) in [
            (
                "attack",
                format!("{}={} ({culprit})", attack.name, switch.corrupt),
            ),
            ("met", attack.defence.clone()),
            ("outcome", outcome),
            ("measured / true", share(met.measured_over_true)),
            ("guaranteed / true", share(met.guaranteed_over_true)),
            ("every honest challenger paid", yes(met.honest_paid)),
            ("a corrupt challenger paid", yes(met.culprit_paid)),
        ] {
            table.add_row([name.to_owned(), value]);
        }
    }
    table.to_string()
}

fn plain() -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic);
    table
}

fn result(figures: &Figures) -> String {
    let measured = &figures.measured;
    let curve = measured
        .trust_curve
        .iter()
        .enumerate()
        .map(|(f, bps)| format!("f={f}: {}", show_rate(*bps)));
    let reason = measured
        .reason
        .as_ref()
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default();
    let datapath = format!(
        "{}, XDP {}, UMEM {}, stamps {}",
        measured.text("/datapath/receiver"),
        measured.text("/datapath/xdp_mode"),
        measured.text("/datapath/umem"),
        measured.text("/datapath/timestamps"),
    );
    let verify = match figures.verified.failed() {
        failed if failed.is_empty() => figures.verified.verify.clone(),
        failed => format!("{}: {}", figures.verified.verify, failed.join(", ")),
    };
    let rows = [
        ("verdict", format!("{}{reason}", measured.verdict)),
        ("claimed", show_rate(measured.claimed_bps)),
        (
            "true",
            format!("{} (shaped, IP layer)", show_rate(figures.true_bps)),
        ),
        (
            "measured",
            format!(
                "{} in {} ms",
                show_rate(measured.measured_bps),
                measured.duration_ms
            ),
        ),
        ("error", format!("{:.2} %", figures.error_pct())),
        (
            "at least",
            format!("{}, if nobody lies", show_rate(measured.lower_bps)),
        ),
        ("guaranteed", curve.collect::<Vec<_>>().join(" · ")),
        (
            "loss on the path",
            format!("{:.2} % of what was offered", figures.loss_pct()),
        ),
        ("commit latency", show_nanos(measured.commit_latency_ns)),
        ("datapath", datapath),
        ("verify", verify),
        ("evidence", figures.bundle.display().to_string()),
        ("took", took(figures)),
    ];
    let mut table = plain();
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    table.to_string()
}

fn challengers(challengers: &[Challenger]) -> String {
    let mut table = plain();
    table.set_header([
        "challenger",
        "sent",
        "counted",
        "window",
        "RTT before",
        "during",
        "report",
        "paid",
    ]);
    let optional = |nanos: Option<u64>| nanos.map_or_else(|| "–".to_owned(), show_nanos);
    for each in challengers {
        table.add_row([
            each.index.to_string(),
            each.sent.to_string(),
            each.packets.to_string(),
            show_nanos(u64::from(each.window_us) * 1000),
            show_nanos(each.rtt.before_ns),
            optional(each.rtt.during_ns),
            if each.valid { "valid" } else { "INVALID" }.to_owned(),
            each.paid.clone(),
        ]);
    }
    align_right(&mut table);
    table.to_string()
}

fn packets(figures: &Figures) -> String {
    let account = &figures.account;
    let mut table = plain();
    table.set_header(["packets", "count"]);
    let mut row = |name: String, count: String| {
        table.add_row([name, count]);
    };
    row("sent".into(), account.sent.to_string());
    row(
        "+ probes and acknowledgements sent".into(),
        account.control_sent.to_string(),
    );
    row("verified".into(), account.verified.to_string());
    for (reason, count) in account.reasons.iter().filter(|(_, count)| **count > 0) {
        row(reason.clone(), count.to_string());
    }
    row(
        "probes and acknowledgements received".into(),
        account.control_received.to_string(),
    );
    let path = &figures.path;
    let places = [
        ("shaper", path.shaper),
        ("veth", path.veth),
        ("wire, on purpose", path.wire_lost),
        ("wire, full", path.wire_overflow + path.wire_kernel),
    ];
    for (place, count) in places
        .into_iter()
        .filter(|(place, count)| *count > 0 || *place == "shaper")
    {
        row(format!("dropped on the path: {place}"), count.to_string());
    }
    if account.cross_sent > 0 {
        row(
            "+ cross traffic sent".into(),
            account.cross_sent.to_string(),
        );
        let arrived = account.cross_arrived.to_string();
        row("cross traffic arrived".into(), arrived);
    }
    row("unaccounted".into(), account.unaccounted().to_string());
    align_right(&mut table);
    table.to_string()
}

fn money(figures: &Figures) -> String {
    let mut table = plain();
    table.set_header(["paid to", "address", "base units"]);
    for paid in figures.measured.paid() {
        table.add_row([paid.role, paid.to, paid.amount]);
    }
    let conserved = if figures.is_conserved() {
        "conserved"
    } else {
        "NOT CONSERVED"
    };
    // A node tells its version behind its name.
    let engine = figures.measured.text("/chain/engine");
    let engine = engine.split('/').next().unwrap_or_default().to_owned();
    table.add_row(["chain".to_owned(), engine, conserved.to_owned()]);
    align_right(&mut table);
    table.to_string()
}

fn align_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// How long, and whether it had to be asked more than once.
fn took(figures: &Figures) -> String {
    let seconds = figures.took.as_secs_f64();
    match figures.starved.len() {
        0 => format!("{seconds:.1} s"),
        before => format!(
            "{seconds:.1} s, asked {} times: challengers could not offer their rate before",
            before + 1
        ),
    }
}
