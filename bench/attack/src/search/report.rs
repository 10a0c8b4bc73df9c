//! What a search found, in figures and in words.

use std::fmt;
use std::time::Duration;

use plumbline_proof::backhaul::verdict::Verdict;
use serde::Serialize;

use super::Piece;
use super::fail::Case;
use super::lower::Plot;
use super::phase::Judged;
use super::uplink::Hoard;

/// What false claims are of: the link carries so much of the claim.
pub(super) const BANDS: [(f64, f64); 5] =
    [(0.3, 0.5), (0.5, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.95)];
/// The bound may read so much of the truth: one packet of a short phase.
const MOST: f64 = 1.02;

/// A plot, and the climb that led to it.
#[derive(Clone, Debug, Serialize)]
pub struct Strategy<P> {
    /// Of the climb: with the seed it gives the same again.
    pub number: u64,
    /// All that the adversary does.
    pub plot: P,
}

/// A search against a lower bound.
#[derive(Clone, Debug, Serialize)]
pub struct Found<P> {
    /// Phases played.
    pub tries: u64,
    /// Largest bound, over what crossed.
    pub worst: f64,
    /// Where.
    pub strategy: Option<Strategy<P>>,
}

impl<P> Default for Found<P> {
    fn default() -> Self {
        Self {
            tries: 0,
            worst: 0.0,
            strategy: None,
        }
    }
}

impl<P> Found<P> {
    /// In any order: of two equal finds the one of the earlier climb stays.
    fn add(&mut self, found: Self) {
        let number = |s: &Option<Strategy<P>>| s.as_ref().map_or(u64::MAX, |s| s.number);
        let earlier = number(&found.strategy) < number(&self.strategy);
        self.tries += found.tries;
        if found.worst > self.worst || (found.worst == self.worst && earlier) {
            (self.worst, self.strategy) = (found.worst, found.strategy);
        }
    }
}

/// A true claim, and how it was judged.
#[derive(Clone, Debug, Serialize)]
pub struct FalseFail {
    /// Of the climb.
    pub number: u64,
    /// `Fail`, or how near.
    pub verdict: Verdict,
    /// The least that would have to have come, over what came: above 1 is a Fail.
    pub near: f64,
    /// U(T) and V(T), of the claim.
    pub asked: f64,
    /// V(T).
    pub came: f64,
    /// B_g(0) and B_g(f), bit/s.
    pub bounds_bps: (u64, u64),
    /// When it was committed after T0, ms.
    pub commit_ms: f64,
    /// Counted of each.
    pub counts: Vec<u64>,
    /// Who did what.
    pub case: Case,
}

impl FalseFail {
    pub(super) fn new(number: u64, case: &Case, judged: &Judged) -> Self {
        let bps =
            |bound: Option<&plumbline_proof::backhaul::estimate::Bound>| bound.map_or(0, |b| b.bps);
        Self {
            number,
            verdict: judged.verdict,
            near: judged.near,
            asked: judged.asked,
            came: judged.came,
            bounds_bps: (bps(judged.curve.first()), bps(judged.curve.last())),
            commit_ms: judged.commit / 1e6,
            counts: judged.counts.clone(),
            case: case.clone(),
        }
    }
}

/// The search for a true claim that is called false.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FailFound {
    /// Phases played.
    pub tries: u64,
    /// Of them, judged Pass.
    pub passed: u64,
    /// Of them, judged Fail.
    pub false_fails: u64,
    /// How near the nearest was: above 1 is a Fail unless the bounds carry the claim.
    pub nearest: f64,
    /// It.
    pub nearest_case: Option<FalseFail>,
    /// Some that failed, one a climb.
    pub cases: Vec<FalseFail>,
}

/// What became of false claims: Pass, Fail, Inconclusive.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PowerRow {
    /// What the link carried, of the claim: from, to.
    pub carried: (f64, f64),
    /// Up to f challengers were faulty; otherwise none.
    pub faults: bool,
    /// How many of them.
    pub fail: u64,
    /// Not decided.
    pub inconclusive: u64,
    /// Wrongly passed.
    pub pass: u64,
}

/// The share of false claims that are called so.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Power {
    /// By how false, and whether somebody is faulty.
    pub rows: Vec<PowerRow>,
}

impl Power {
    pub(super) fn new() -> Self {
        let row = |carried, faults| PowerRow {
            carried,
            faults,
            ..PowerRow::default()
        };
        Self {
            rows: BANDS
                .into_iter()
                .flat_map(|band| [row(band, false), row(band, true)])
                .collect(),
        }
    }

    pub(super) fn add(&mut self, band: usize, faults: bool, verdict: Verdict) {
        if let Some(row) = self.rows.get_mut(2 * band + usize::from(faults)) {
            match verdict {
                Verdict::Pass => row.pass += 1,
                Verdict::Fail => row.fail += 1,
                Verdict::Inconclusive => row.inconclusive += 1,
            }
        }
    }
}

/// All that a search found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What it began with.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// Against the lower bound towards the prover.
    pub lower: Found<Plot>,
    /// Against the one away from it.
    pub uplink: Found<Hoard>,
    /// For a true claim that is failed.
    pub fail: FailFound,
    /// False claims.
    pub power: Power,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            seconds: 0.0,
            lower: Found::default(),
            uplink: Found::default(),
            fail: FailFound::default(),
            power: Power::new(),
        }
    }

    /// In any order: of two equal finds the one of the earlier climb stays.
    pub(super) fn add(&mut self, piece: Piece) {
        match piece {
            Piece::Lower(found) => self.lower.add(found),
            Piece::Uplink(found) => self.uplink.add(found),
            Piece::Fail(found) => {
                let number = |c: &Option<FalseFail>| c.as_ref().map_or(u64::MAX, |c| c.number);
                let earlier = number(&found.nearest_case) < number(&self.fail.nearest_case);
                self.fail.tries += found.tries;
                self.fail.passed += found.passed;
                self.fail.false_fails += found.false_fails;
                self.fail.cases.extend(found.cases);
                self.fail.cases.sort_by_key(|c| c.number);
                self.fail.cases.truncate(8);
                if found.nearest > self.fail.nearest
                    || (found.nearest == self.fail.nearest && earlier)
                {
                    (self.fail.nearest, self.fail.nearest_case) =
                        (found.nearest, found.nearest_case);
                }
            }
            Piece::Power(found) => {
                for (all, more) in self.power.rows.iter_mut().zip(found.rows) {
                    all.pass += more.pass;
                    all.fail += more.fail;
                    all.inconclusive += more.inconclusive;
                }
            }
        }
    }

    /// What was found that must not be: a bound above the truth, true claims called false.
    pub fn complaints(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, worst) in [
            ("a bound", self.lower.worst),
            ("an uplink's bound", self.uplink.worst),
        ] {
            if worst > MOST {
                found.push(format!("{name} of {worst:.4} of what crossed"));
            }
        }
        if self.fail.false_fails > 0 {
            found.push(format!(
                "{} true claims called false",
                self.fail.false_fails
            ));
        }
        found
    }

    /// How far it is.
    pub(super) fn line(&self, since: Duration) -> String {
        format!(
            "{:.0} s: bound over truth {:.4} in {} tries, an uplink's {:.4} in {}; {} true claims failed in {}, the nearest at {:.4} of a Fail",
            since.as_secs_f64(),
            self.lower.worst,
            self.lower.tries,
            self.uplink.worst,
            self.uplink.tries,
            self.fail.false_fails,
            self.fail.tries,
            self.fail.nearest
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lower, fail) = (&self.lower, &self.fail);
        writeln!(
            out,
            "Adversary search, seed {}, {:.0} s",
            self.seed, self.seconds
        )?;
        writeln!(out)?;
        writeln!(
            out,
            "Lower bound: largest bound over what crossed {:.4} in {} phases (at most {MOST})",
            lower.worst, lower.tries
        )?;
        if let Some(s) = &lower.strategy {
            let p = &s.plot;
            writeln!(
                out,
                "  climb {}: n = {}, {} of f = {} corrupt, claim {:.0} Mbit/s, D = {} ms, link {:.3} of the claim, queue {} packets, commitment after {:.3} D",
                s.number,
                p.n,
                p.liars,
                p.f,
                p.claim_bps as f64 / 1e6,
                p.duration_ms,
                p.capacity,
                p.queue,
                p.commit
            )?;
            writeln!(
                out,
                "  slow {:?}, bucket {:?}, cross {:?}",
                p.slow, p.bucket, p.cross
            )?;
            for (i, pawn) in p.pawns.iter().enumerate() {
                let who = if i + p.liars < p.pawns.len() {
                    "honest"
                } else {
                    "liar"
                };
                writeln!(out, "  {who} {i}: {pawn:?}")?;
            }
        }
        writeln!(out)?;
        writeln!(
            out,
            "Uplink: largest bound over what crossed {:.4} in {} phases (at most {MOST})",
            self.uplink.worst, self.uplink.tries
        )?;
        if let Some(s) = &self.uplink.strategy {
            writeln!(out, "  climb {}: {:?}", s.number, s.plot)?;
        }
        writeln!(out)?;
        writeln!(
            out,
            "True claims called false: {} of {} phases ({} passed), the nearest at {:.4} of a Fail (1 and above is one)",
            fail.false_fails, fail.tries, fail.passed, fail.nearest
        )?;
        for case in &fail.cases {
            writeln!(out, "  FAILED {case:?}")?;
        }
        if let Some(near) = fail.nearest_case.as_ref().filter(|_| fail.cases.is_empty()) {
            writeln!(out, "  nearest {near:?}")?;
        }
        writeln!(out)?;
        writeln!(
            out,
            "False claims, % of phases    faulty   Fail   Inconclusive   Pass   (phases)"
        )?;
        for row in &self.power.rows {
            let all = (row.fail + row.inconclusive + row.pass).max(1);
            let share = |n: u64| 100.0 * n as f64 / all as f64;
            let faults = if row.faults { "up to f" } else { "nobody" };
            writeln!(
                out,
                "  link {:.2} to {:.2} of claim   {faults:>7}  {:5.1}          {:5.1}  {:5.1}   ({all})",
                row.carried.0,
                row.carried.1,
                share(row.fail),
                share(row.inconclusive),
                share(row.pass)
            )?;
        }
        Ok(())
    }
}
