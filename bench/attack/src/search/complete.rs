//! Completeness: how many true claims of exactly the link's rate pass.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::verdict::Verdict;
use serde::Serialize;

use super::dice::Dice;
use super::flow::{Flow, Place};
use super::link::Line;
use super::phase::{HONEST, Judged, Phase};

/// D, ms.
const DURATION_MS: u32 = 1000;
/// Phases of a combination, and the seed, of the table that is committed.
pub const RUNS: u64 = 20;
/// See [`RUNS`].
pub const SEED: u64 = 1;
/// Probes take this part of the link beside the flood.
const PROBES: f64 = 1.0 / 500.0;
/// Hosts answer late by so much, ns.
const LATENCY_NS: f64 = 300_000.0;

/// One combination, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    /// K and the link's rate, Mbit/s.
    pub mbit: u64,
    /// Challengers.
    pub n: u16,
    /// Of them may be faulty.
    pub f: u16,
    /// Of them are silent.
    pub silent: u16,
    /// Packets that wait at most.
    pub queue: usize,
    /// Phases.
    pub runs: u64,
    /// Judged Pass.
    pub passed: u64,
    /// Judged Fail.
    pub failed: u64,
    /// Smallest B_g(0), of K.
    pub lower: f64,
    /// Smallest B_g(f), of α·K.
    pub guaranteed: f64,
    /// Bytes that came over the link, at least, of K over T.
    pub came: f64,
}

/// All combinations, at most so fast; more runs of the slower ones.
fn cells(most_mbit: u64, runs: u64) -> Vec<Cell> {
    let mut cells = Vec::new();
    for mbit in [10, 100, 1000, 10_000]
        .into_iter()
        .filter(|m| *m <= most_mbit)
    {
        for (n, f) in [(4, 1), (7, 2), (10, 3)] {
            for silent in [0, f] {
                for queue in [60, 200, 1000] {
                    let runs = if mbit == 10_000 {
                        runs.div_ceil(4)
                    } else {
                        runs
                    };
                    cells.push(Cell {
                        mbit,
                        n,
                        f,
                        silent,
                        queue,
                        runs,
                        passed: 0,
                        failed: 0,
                        lower: f64::INFINITY,
                        guaranteed: f64::INFINITY,
                        came: f64::INFINITY,
                    });
                }
            }
        }
    }
    cells
}

/// Everybody honest, round trips to a fortieth of D, clocks within what the terms grant; the last ones silent.
fn played(cell: &Cell, dice: &mut Dice) -> Judged {
    let terms = Terms::downlink(cell.mbit * 1_000_000, cell.n, cell.f, DURATION_MS);
    let d = terms.duration_ns() as f64;
    let bound = terms.clock_bound_ns() as f64;
    let mut flows = Vec::new();
    let mut words = Vec::new();
    let mut heard_after = Vec::new();
    for i in 0..cell.n {
        let round_trip = d / 40.0 * dice.unit();
        let place = Place {
            start: bound * dice.unit(),
            there: round_trip / 2.0,
            access: 10.0,
            stalls: Vec::new(),
        };
        let is_silent = i >= cell.n - cell.silent;
        flows.push(if is_silent {
            Flow::nothing(&terms, &place)
        } else {
            Flow::paced(&terms, &place, dice.next())
        });
        words.push(HONEST);
        heard_after.push(round_trip / 2.0 + LATENCY_NS);
    }
    Phase {
        terms,
        line: Line {
            bps: terms.claim_bps as f64 * (1.0 - PROBES),
            queue: cell.queue,
            layer1: false,
            slow: None,
            bucket: None,
        },
        flows,
        words,
        heard_after,
        latency: LATENCY_NS,
        interface: true,
    }
    .judged()
}

fn filled(mut cell: Cell, seed: u64, number: u64) -> Cell {
    let claim = cell.mbit as f64 * 1e6;
    let alpha = f64::from(cell.n - 2 * cell.f) / f64::from(cell.n - cell.f);
    for run in 0..cell.runs {
        let judged = played(&cell, &mut Dice::new(seed, number * 1000 + run));
        let bps = |at: usize| judged.curve.get(at).map_or(0.0, |b| b.bps as f64 / claim);
        cell.passed += u64::from(judged.verdict == Verdict::Pass);
        cell.failed += u64::from(judged.verdict == Verdict::Fail);
        cell.lower = cell.lower.min(bps(0));
        cell.guaranteed = cell.guaranteed.min(bps(cell.f.into()) / alpha);
        cell.came = cell.came.min(judged.came);
    }
    cell
}

/// Every combination of rate (to `most_mbit`), n and f, silent ones and queue, `runs` phases each (a quarter of it at
/// 10 Gbit/s, where a phase is a million packets).
pub fn completeness(most_mbit: u64, runs: u64, seed: u64, threads: usize) -> Vec<Cell> {
    let all = cells(most_mbit, runs);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(cell) = {
                    let at = next.fetch_add(1, Relaxed);
                    all.get(at).map(|cell| (at, cell.clone()))
                } {
                    let (at, cell) = cell;
                    let cell = filled(cell, seed, at as u64);
                    if let Ok(mut done) = done.lock() {
                        done.push((at, cell));
                    }
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(|broken| broken.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, cell)| cell).collect()
}

/// The table, for people.
pub fn markdown(cells: &[Cell]) -> String {
    let mut text = String::from(
        "| K, Mbit/s | n | f | silent | queue, packets | phases | pass, % | fail, % | least B_g(0)/K | least B_g(f)/αK |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for c in cells {
        let share = |n: u64| 100.0 * n as f64 / c.runs.max(1) as f64;
        text.push_str(&format!(
            "| {} | {} | {} | {} | {} | {} | {:.0} | {:.0} | {:.3} | {:.3} |\n",
            c.mbit,
            c.n,
            c.f,
            c.silent,
            c.queue,
            c.runs,
            share(c.passed),
            share(c.failed),
            c.lower,
            c.guaranteed
        ));
    }
    text
}
