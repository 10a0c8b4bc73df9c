//! Gas per flow, exact.
//!
//! ```text
//!  town     a chain in memory, its people ─┬─► flows    enter, measure, leave       ─┐
//!                                          └─► trials   disputes, juries, offences  ─┴─► Gas ◄─► bench/gas.toml
//! ```
//! Claim: keys, clock and contracts are fixed, so a change of gas is a change of the product, and is committed
//! as one (`cargo xtask bench chain --bless-gas`). The chain is the product's own, in memory: blocks are
//! executed by the code that the engine runs. Not promised: that gas with other numbers lies on the lines that
//! are printed; how far the measured values lie from them is printed too. Tests: below.

mod flows;
mod town;
mod trials;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use plumbline::chain::client::Ruling;
use plumbline::chain::embedded::Rules;
use serde::Serialize;

use crate::progress::Progress;

/// The committed snapshot.
pub(crate) const COMMITTED: &str = include_str!("../../../gas.toml");
/// Where it lies, from the repository's root.
pub(crate) const FILE: &str = "bench/gas.toml";
/// Sizes of a measurement, challengers; a third of them, rounded down, may be corrupt.
pub(crate) const SIZES: [u16; 4] = [4, 10, 25, 64];
/// Challengers that are drawn where the pool is what grows.
pub(crate) const DRAWN: u16 = 10;
/// Live challengers that are drawn from.
pub(crate) const POOLS: [u16; 4] = [50, 100, 200, 500];
/// Live jurors that are drawn from.
pub(crate) const JURY_POOLS: [u16; 3] = [10, 50, 200];

/// A flow whose gas grows.
pub(crate) struct Grows {
    pub(crate) flow: &'static str,
    pub(crate) numbers: &'static [u16],
}

const fn grows(flow: &'static str, numbers: &'static [u16]) -> Grows {
    Grows { flow, numbers }
}

/// Flows whose gas grows with the challengers of a measurement.
pub(crate) const BY_SIZE: [Grows; 4] = [
    grows("select", &SIZES),
    grows("report", &SIZES),
    grows("finalize", &SIZES),
    grows("dispute", &SIZES),
];
/// Flows whose gas does not grow with those who could be drawn, for all to see.
pub(crate) const BY_POOL: [Grows; 2] = [grows("select", &POOLS), grows("jury_draw", &JURY_POOLS)];

/// Gas by flow.
pub(crate) type Gas = BTreeMap<String, u64>;

/// Name of a flow out of a pool of `pool`.
pub(crate) fn of(flow: &str, pool: u16) -> String {
    format!("{flow}_pool_{pool}")
}

/// Name of a flow with `n` challengers.
pub(crate) fn with(flow: &str, n: u16) -> String {
    format!("{flow}_n{n:02}")
}

/// Gas by the rules of today and of tomorrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Osaka: what the engine and today's chains take.
    pub(crate) today: Gas,
    /// Amsterdam: what the same will take there.
    pub(crate) next: Gas,
}

/// Runs every flow, by both rules.
///
/// # Errors
/// A contract refused something.
pub(crate) fn measure(progress: &Progress) -> Result<Columns> {
    Ok(Columns {
        today: by(Rules::Osaka, progress)?,
        next: by(Rules::Amsterdam, progress)?,
    })
}

fn by(rules: Rules, progress: &Progress) -> Result<Gas> {
    let mut gas = Gas::new();
    flows::people(rules, &mut gas)?;
    for n in SIZES {
        progress.note(&format!("gas with {n} challengers, {rules:?}"));
        flows::measurement(n, rules, &mut gas)?;
        trials::dispute(n, rules, &mut gas)?;
    }
    for pool in POOLS {
        progress.note(&format!("gas of a draw out of {pool}, {rules:?}"));
        gas.insert(of("select", pool), flows::draw(DRAWN, pool, rules)?);
    }
    for pool in JURY_POOLS {
        progress.note(&format!("gas of a jury out of {pool}, {rules:?}"));
        gas.insert(of("jury_draw", pool), trials::draw(DRAWN, pool, rules)?);
    }
    let (up, down) = (Some(Ruling::Upheld), Some(Ruling::Rejected));
    let pool = JURY_POOLS[0];
    for (votes, ruling) in [
        ([up; 5], Ruling::Upheld),
        ([down, down, down, up, None], Ruling::Rejected),
    ] {
        trials::verdict((DRAWN, pool), &votes, ruling, rules, &mut gas)?;
    }
    trials::offences(DRAWN, rules, &mut gas)?;
    Ok(gas)
}

/// Gas of a flow as a straight line in what it grows with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// Gas with none of it.
    pub(crate) fixed: f64,
    /// Gas of one more.
    pub(crate) each: f64,
    /// Greatest distance of a measured value from the line, as a part of that value.
    pub(crate) off: f64,
}

/// The line through gas at these numbers, by least squares of the relative distance, so that small numbers
/// count as much as large ones; `None` where one of them was not measured.
pub(crate) fn line(gas: &Gas, key: fn(&str, u16) -> String, grows: &Grows) -> Option<Line> {
    let numbers = grows.numbers.iter();
    let points = numbers.map(|x| Some((f64::from(*x), *gas.get(&key(grows.flow, *x))? as f64)));
    let points = points.collect::<Option<Vec<(f64, f64)>>>()?;
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        points.iter().map(|(x, y)| of(*x, *y) / (y * y)).sum()
    };
    let weight = sum(&|_, _| 1.0);
    let (mean_x, mean_y) = (sum(&|x, _| x) / weight, sum(&|_, y| y) / weight);
    let together = sum(&|x, y| (x - mean_x) * (y - mean_y));
    let each = together / sum(&|x, _| (x - mean_x) * (x - mean_x));
    let fixed = mean_y - each * mean_x;
    let off = points.iter();
    let off = off.map(|(x, y)| ((fixed + each * x) / y - 1.0).abs());
    Some(Line {
        fixed,
        each,
        off: off.fold(0.0, f64::max),
    })
}

/// Reads a snapshot.
///
/// # Errors
/// It is not TOML of flows and gas.
pub(crate) fn parse(text: &str) -> Result<Columns> {
    let lines: BTreeMap<String, [u64; 2]> =
        toml::from_str(text).with_context(|| format!("{FILE} cannot be read"))?;
    let mut columns = Columns::default();
    for (flow, [today, next]) in lines {
        columns.today.insert(flow.clone(), today);
        columns.next.insert(flow, next);
    }
    Ok(columns)
}

/// What stands above the figures.
const HEAD: &str = "\
# Gas per flow, exact: made by `cargo xtask bench chain --bless-gas`, compared by a test.
#
# flow = [by Osaka, the rules of today: the embedded chain's; by Amsterdam, the next: the same contracts]
#
# _nNN          with NN challengers, all of the pool drawn, a third of them, rounded down, tolerated as corrupt
# _pool_P       drawn out of P live ones: `select` draws 10 challengers, `jury_draw` 5 jurors of one ticket each,
#               of a measurement with 10 challengers
# heartbeat     opens a round; `_first` has nothing to reveal; `_same_block` comes into a round that is open
# register      with a single role; `withdraw`, `top_up`, `leave`, `reclaim`: of a challenger
# announce      of evidence, before `dispute` (to a jury of 5) or `prove` (in one step)
# jury_settle   `_upheld`: all five agree; `_rejected`: three against one, and one silent; `conclude` the same
# set_parameter a governor schedules a chain variable
#
# `select`, `report`, `finalize` and `dispute` grow with the challengers n by so much for one more: the bench prints
# the lines \"fixed + each\"; `report` with the windows that are best for different numbers of corrupt ones, too. The
# draws do not grow with the pool, but by chance: of jurors with one ticket about eight are looked at for each seat.
";

/// A snapshot as it is committed.
pub(crate) fn render(gas: &Columns) -> String {
    let mut text = HEAD.to_owned();
    for (flow, today) in &gas.today {
        let next = gas.next.get(flow).copied().unwrap_or_default();
        let _ = writeln!(text, "{flow} = [{today}, {next}]");
    }
    text
}

/// Where `gas` is not what was committed: flow, was, is.
pub(crate) fn differences(committed: &Columns, gas: &Columns) -> Vec<String> {
    let mut all = column(Rules::Osaka, &committed.today, &gas.today);
    all.extend(column(Rules::Amsterdam, &committed.next, &gas.next));
    all
}

fn column(rules: Rules, committed: &Gas, gas: &Gas) -> Vec<String> {
    let mut flows: Vec<&String> = committed.keys().chain(gas.keys()).collect();
    flows.sort();
    flows.dedup();
    let told = |gas: Option<&u64>| gas.map_or_else(|| "nothing".into(), u64::to_string);
    let differ = flows.into_iter().filter_map(|flow| {
        let (was, is) = (committed.get(flow), gas.get(flow));
        (was != is).then(|| {
            format!(
                "gas of {flow} ({rules:?}): {FILE} says {}, it is {}; if that is meant: cargo xtask bench chain --bless-gas",
                told(was),
                told(is)
            )
        })
    });
    differ.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gas_is_what_is_committed() {
        let gas = measure(&Progress::for_terminal()).unwrap();
        let differences = differences(&parse(COMMITTED).unwrap(), &gas);
        assert!(differences.is_empty(), "{}", differences.join("\n"));
        assert_eq!(render(&gas), COMMITTED);
    }

    /// So that a flow which grows faster than its line does not hide behind it.
    #[test]
    fn committed_gas_lies_near_its_lines() {
        let gas = parse(COMMITTED).unwrap().today;
        for grows in &BY_SIZE {
            let line = line(&gas, with, grows).unwrap();
            // A straight line is an approximation: the estimator's sorts grow with the square.
            assert!(
                line.each > 0.0 && line.off < 0.2,
                "{}: {line:?}",
                grows.flow
            );
        }
    }

    /// Ten times the pool, or twenty: no more than chance makes of it.
    #[test]
    fn draws_do_not_grow_with_the_pool() {
        let gas = parse(COMMITTED).unwrap().today;
        for (grows, most) in BY_POOL.iter().zip([1.2, 3.0]) {
            let found = grows
                .numbers
                .iter()
                .map(|n| gas[&of(grows.flow, *n)] as f64);
            let (min, max) = found.fold((f64::MAX, 0.0), |(a, b): (f64, f64), x| {
                (a.min(x), b.max(x))
            });
            assert!(max < most * min, "{}: {min} to {max}", grows.flow);
        }
    }

    #[test]
    fn every_difference_is_named_and_equal_ones_are_not() {
        let gas = |list: &[(&str, u64)]| {
            let column: Gas = list.iter().map(|(f, g)| ((*f).into(), *g)).collect();
            Columns {
                today: column.clone(),
                next: column,
            }
        };
        let was = gas(&[("a", 1), ("b", 2), ("c", 3)]);
        let said = differences(&was, &gas(&[("a", 1), ("b", 3), ("d", 4)]));
        assert_eq!(said.len(), 6, "{said:?}");
        assert!(said[3].contains("Amsterdam"), "{said:?}");
        for (said, parts) in said.iter().zip([
            ["b", "2", "3"],
            ["c", "3", "nothing"],
            ["d", "nothing", "4"],
        ]) {
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        assert!(differences(&was, &was).is_empty());
        assert_eq!(parse(&render(&was)).unwrap(), was);
    }

    #[test]
    fn a_line_is_found_where_every_number_was_measured() {
        const FLOW: Grows = grows("draw", &[4, 10, 64]);
        let mut gas = Gas::new();
        gas.insert(with("draw", 4), 1_400);
        gas.insert(with("draw", 64), 7_400);
        assert_eq!(line(&gas, with, &FLOW), None);
        gas.insert(with("draw", 10), 2_000);
        let exact = line(&gas, with, &FLOW).unwrap();
        assert!((exact.fixed - 1_000.0).abs() < 1e-6 && (exact.each - 100.0).abs() < 1e-9);
        assert!(exact.off < 1e-9);
        gas.insert(with("draw", 10), 4_000);
        assert!(line(&gas, with, &FLOW).unwrap().off > 0.2);
        assert_eq!(line(&gas, of, &FLOW), None, "of a pool");
    }
}
