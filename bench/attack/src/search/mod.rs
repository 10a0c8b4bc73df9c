//! An adversary that climbs: it looks for a bound above the truth, either way, and for a true claim that is called
//! false.
//!
//! ```text
//!  lower:  plot ─► honest by the product's schedule ─► link ─► counted, committed ─► estimate::curve ─► / what crossed
//!            └──◄── change a little, keep what is not worse ◄─────────────────────────────────────────────────┘
//!  uplink: hoard ─► seeds, link, store, windows ─► estimate::curve ─► / what crossed: climbed as `lower` is
//!  fail:   case ─► senders, f of them faulty ─► free link of K or more ─► offer::tried, verdict::decide ─► how near
//!  power:  the same with links that are too slow, unclimbed          completeness: links of exactly K, all honest
//! ```
//!
//! Claim: schedule, caps, target, estimator and rule are the product's own functions; a seed means the same climbs on
//! any number of cores. Not promised: that what is not found does not exist; the machines' messages (`sim` plays
//! those); the kernel's queues. A bench: floating point is for links and scores, never for a verdict.
//! Tests: `tests`.

#![allow(clippy::cast_possible_truncation)] // positive times and counts below 2⁵³, of a bench

mod complete;
mod dice;
mod fail;
mod flow;
mod link;
mod lower;
mod phase;
mod report;
#[cfg(test)]
mod tests;
mod uplink;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use plumbline_proof::backhaul::verdict::Verdict;

pub use self::complete::{Cell, RUNS, SEED, completeness, markdown};
pub use self::fail::Case;
pub use self::lower::Plot;
pub use self::report::{FailFound, FalseFail, Found, Power, Report, Strategy};
pub use self::uplink::Hoard;

use self::dice::Dice;
use self::phase::Judged;

/// Phases of one climb.
const STEPS: u64 = 150;
/// Of them, those that are drawn: the climb begins at the best.
const STARTS: u64 = 10;
/// Between two lines of progress.
const EVERY: Duration = Duration::from_secs(2);

/// When a search ends.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so long.
    Time(Duration),
    /// After so many pieces of work: each seven are two climbs of each kind, and some false claims.
    Pieces(u64),
}

/// Searches on so many threads, with a line of progress every two seconds.
pub fn search(until: Until, seed: u64, threads: usize, progress: &dyn Fn(&str)) -> Report {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let found = Mutex::new(Report::new(seed));
    let is_over = |piece| match until {
        Until::Time(most) => began.elapsed() >= most,
        Until::Pieces(most) => piece >= most,
    };
    let work = || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            if is_over(number) {
                return;
            }
            let piece = piece(seed, number);
            if let Ok(mut found) = found.lock() {
                found.add(piece);
            }
        }
    };
    std::thread::scope(|scope| {
        let (working, all_done) = channel::<()>();
        for _ in 0..threads.max(1) {
            let working = working.clone();
            scope.spawn(move || {
                work();
                drop(working);
            });
        }
        drop(working);
        while all_done.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            if let Ok(found) = found.lock() {
                progress(&found.line(began.elapsed()));
            }
        }
    });
    let mut report = found
        .into_inner()
        .unwrap_or_else(|broken| broken.into_inner());
    report.seconds = began.elapsed().as_secs_f64();
    report
}

/// What one piece of work came to.
pub(super) enum Piece {
    Lower(Found<Plot>),
    Uplink(Found<Hoard>),
    Fail(FailFound),
    Power(Power),
}

/// Piece `number` of the search of `seed`: the same on every machine.
fn piece(seed: u64, number: u64) -> Piece {
    let mut dice = Dice::new(seed, number);
    match number % 7 {
        0 | 1 => Piece::Lower(climb(&mut dice, number, Plot::score)),
        2 | 3 => Piece::Fail(fail_climb(&mut dice, number, true)),
        4 => Piece::Power(power(&mut dice)),
        _ => Piece::Uplink(climb(&mut dice, number, |hoard: &Hoard| hoard.score(true))),
    }
}

/// What a climb is made of.
trait Plan: Sized {
    /// Any strategy.
    fn any(dice: &mut Dice) -> Self;
    /// One that is a little different.
    fn changed(&self, dice: &mut Dice) -> Self;
}

/// Climbs from the best of some strategies, by `score`.
fn climb<P: Plan>(dice: &mut Dice, number: u64, score: impl Fn(&P) -> f64) -> Found<P> {
    let mut found: Option<(f64, P)> = None;
    for step in 0..STEPS {
        let plot = match &found {
            Some((_, plot)) if step >= STARTS => plot.changed(dice),
            _ => P::any(dice),
        };
        let reached = score(&plot);
        if found.as_ref().is_none_or(|(best, _)| reached >= *best) {
            found = Some((reached, plot));
        }
    }
    let (worst, plot) = found.map_or((0.0, None), |(best, plot)| (best, Some(plot)));
    Found {
        tries: STEPS,
        worst,
        strategy: plot.map(|plot| Strategy { number, plot }),
    }
}

/// Climbs from the best of some true claims. The prover tells what its interface received if
/// `interface`.
fn fail_climb(dice: &mut Dice, number: u64, interface: bool) -> FailFound {
    let mut found = FailFound::default();
    let mut nearest: Option<(Case, Judged)> = None;
    for step in 0..STEPS {
        let case = match &nearest {
            Some((case, _)) if step >= STARTS => case.changed(dice),
            _ => {
                let free = if dice.with(0.5) {
                    1.0
                } else {
                    dice.between(1.0, 1.3)
                };
                Case::any(dice, free, true)
            }
        };
        let judged = case.judged(interface);
        found.tries += 1;
        found.passed += u64::from(judged.verdict == Verdict::Pass);
        if judged.verdict == Verdict::Fail {
            found.false_fails += 1;
            if found.cases.is_empty() {
                found.cases.push(FalseFail::new(number, &case, &judged));
            }
        }
        if nearest
            .as_ref()
            .is_none_or(|(_, best)| Case::score(&judged) >= Case::score(best))
        {
            nearest = Some((case, judged));
        }
    }
    found.nearest = nearest.as_ref().map_or(0.0, |(_, judged)| judged.near);
    found.nearest_case = nearest.map(|(case, judged)| FalseFail::new(number, &case, &judged));
    found
}

/// Claims that are false, by how much, without and with faulty challengers.
fn power(dice: &mut Dice) -> Power {
    let mut power = Power::new();
    for (band, (low, high)) in report::BANDS.into_iter().enumerate() {
        for faults in [false, true] {
            for _ in 0..4 {
                let capacity = dice.between(low, high);
                let case = Case::any(dice, capacity, faults);
                power.add(band, faults, case.judged(true).verdict);
            }
        }
    }
    power
}
