//! What a run came to, for people and for machines.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::host::Findings;
use super::town::{Claim, Measured, Round, Size, Town};

/// Figures of one round, all of the coordinator's process unless said otherwise.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) sessions: usize,
    pub(crate) wall_s: f64,
    /// CPU time a session, s; and without what it takes at rest in the same time.
    pub(crate) cpu_s_per_session: f64,
    pub(crate) net_cpu_s_per_session: f64,
    /// CPU time of the hosts and payers a session, s: they share the machine.
    pub(crate) hosts_cpu_s_per_session: f64,
    pub(crate) rss_before_bytes: u64,
    pub(crate) rss_after_bytes: u64,
    /// How long before its first packet a challenger knew that it is to send, ms: least, and median.
    pub(crate) lead_ms_least: f64,
    pub(crate) lead_ms_median: f64,
    /// Challengers who knew too late, of how many.
    pub(crate) late: usize,
    pub(crate) starts: usize,
}

impl Cost {
    /// Of `round`, where the coordinator takes `rest` CPU seconds a second anyway.
    pub(crate) fn of(round: &Round, rest: f64, findings: &Findings) -> Self {
        let sessions = round.measured.len();
        let each = |all: f64| all / sessions as f64;
        let heard = findings.leads.lock().unwrap();
        let leads = round.measured.iter().filter_map(|m| heard.get(&m.id));
        let mut leads: Vec<i64> = leads.flatten().copied().collect();
        leads.sort_unstable();
        let ms = |at: usize| leads.get(at).map_or(0.0, |ns| *ns as f64 / 1e6);
        Self {
            sessions,
            wall_s: round.wall_s,
            cpu_s_per_session: each(round.cpu_s()),
            net_cpu_s_per_session: each(round.cpu_s() - rest * round.wall_s),
            hosts_cpu_s_per_session: each(round.hosts_cpu_s),
            rss_before_bytes: round.before.rss_bytes,
            rss_after_bytes: round.after.last().unwrap().rss_bytes,
            lead_ms_least: ms(0),
            lead_ms_median: ms(leads.len() / 2),
            late: leads.iter().filter(|ns| **ns < 0).count(),
            starts: leads.len(),
        }
    }
}

/// CPU time a session of the second half of a round in turn beside the first half's.
pub(crate) fn growth(round: &Round) -> f64 {
    let mut past = round.before.cpu_s;
    let each = round
        .after
        .iter()
        .map(|u| u.cpu_s - std::mem::replace(&mut past, u.cpu_s));
    let each: Vec<f64> = each.collect();
    let half = each.len() / 2;
    let sum = |part: &[f64]| part.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    sum(&each[each.len() - half..]) / sum(&each[..half])
}

/// How far a figure is from its link, percent.
pub(crate) fn error_pct(measured_bps: u64, link_bps: u64) -> f64 {
    (measured_bps as f64 / link_bps as f64 - 1.0) * 100.0
}

/// The JSON document.
pub(crate) fn document(town: &Town, size: Size, rest: f64, rounds: [&Round; 2]) -> Value {
    let [turn, once] = rounds.map(|r| Cost::of(r, rest, &town.square.findings));
    let pairs = rounds[0].measured.iter().zip(&rounds[1].measured);
    let rows: Vec<Value> = town
        .claims
        .iter()
        .zip(pairs)
        .map(|(claim, (turn, once))| row(claim, turn, once))
        .collect();
    json!({
        "size": size,
        "seed": town.square.seed,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "rest_cpu_s_per_s": rest,
        "in_turn": turn,
        "at_once": once,
        "cpu_at_once_over_in_turn": once.cpu_s_per_session / turn.cpu_s_per_session,
        "cpu_second_half_over_first": growth(rounds[0]),
        "rss_bytes_after_each_in_turn": rounds[0].after.iter().map(|u| u.rss_bytes).collect::<Vec<_>>(),
        "rows": rows,
    })
}

fn row(claim: &Claim, turn: &Measured, once: &Measured) -> Value {
    json!({
        "link_bps": claim.link_bps,
        "claim_bps": claim.claim_bps,
        "verdict": [turn.document.verdict, once.document.verdict],
        "measured_bps": [turn.document.measured_bps, once.document.measured_bps],
        "guaranteed_bps": [turn.document.guaranteed_bps, once.document.guaranteed_bps],
    })
}

/// The same as text.
pub(crate) fn print(town: &Town, size: Size, rest: f64, rounds: [&Round; 2]) {
    let mbit = |bps: u64| bps as f64 / 1e6;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{} challengers, {} provers, n = {}, f = {}, {} ms, seed {}",
        size.challengers, size.provers, size.n, size.f, size.duration_ms, town.square.seed
    );
    println!("link Mbit/s  claim   in turn  error %   at once  error %  verdicts");
    let pairs = rounds[0].measured.iter().zip(&rounds[1].measured);
    for (claim, (turn, once)) in town.claims.iter().zip(pairs) {
        let of = |m: &Measured| m.document.measured_bps;
        println!(
            "{:11.2} {:6.2} {:9.3} {:8.2} {:9.3} {:8.2}  {:?} {:?}",
            mbit(claim.link_bps),
            mbit(claim.claim_bps),
            mbit(of(turn)),
            error_pct(of(turn), claim.link_bps),
            mbit(of(once)),
            error_pct(of(once), claim.link_bps),
            turn.document.verdict,
            once.document.verdict,
        );
    }
    let costs = rounds.map(|r| Cost::of(r, rest, &town.square.findings));
    println!("coordinator at rest: {rest:.3} CPU s a second");
    for (name, c) in ["in turn", "at once"].into_iter().zip(&costs) {
        println!(
            "{name}: {} sessions in {:.1} s; coordinator {:.3} CPU s a session ({:.3} beyond rest), RSS {:.1} -> {:.1} MiB; \
             hosts {:.3} CPU s a session; start heard {:.0} ms ahead (median), {:.0} ms (least), late {} of {}",
            c.sessions,
            c.wall_s,
            c.cpu_s_per_session,
            c.net_cpu_s_per_session,
            mib(c.rss_before_bytes),
            mib(c.rss_after_bytes),
            c.hosts_cpu_s_per_session,
            c.lead_ms_median,
            c.lead_ms_least,
            c.late,
            c.starts
        );
    }
    println!(
        "scale: CPU a session at once / in turn {:.2}; second half in turn / first {:.2}",
        costs[1].cpu_s_per_session / costs[0].cpu_s_per_session,
        growth(rounds[0])
    );
}

/// What the challengers of these measurements are owed in all, by address.
pub(crate) fn earned(rounds: [&Round; 2]) -> HashMap<plumbline_trust::Address, u128> {
    let mut earned = HashMap::new();
    for m in rounds.into_iter().flat_map(|r| &r.measured) {
        for c in &m.document.challengers {
            *earned.entry(c.address).or_default() += c.paid;
        }
    }
    earned
}
