//! What came of a run, in figures beside the truth.

use std::collections::BTreeMap;

use plumbline_proof::backhaul::bundle::Verified;
use plumbline_proof::backhaul::judge::{Judgement, Verdict};
use serde::Serialize;

use super::play::Play;
use super::session::Session;
use super::world::{Manner, World};
use crate::switch::Attack;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "ended", content = "why")]
pub enum Ended {
    /// With a judgement.
    Judged,
    /// Somebody's door refused what it takes, and nothing is posted.
    Refused(String),
    /// Nobody said anything more: the contract's deadline refunds.
    Expired(String),
}

impl Ended {
    /// Its name in tables.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Judged => "judged",
            Self::Refused(_) => "refused",
            Self::Expired(_) => "expired",
        }
    }
}

/// One run's result. A ratio is to `true_bps`, and 0 where there is no figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What was tried.
    pub attack: Option<Attack>,
    /// How.
    pub manner: Manner,
    /// Repeats the run.
    pub seed: u64,
    /// How it ended.
    #[serde(flatten)]
    pub ended: Ended,
    /// The judgement's verdict.
    pub verdict: Option<Verdict>,
    /// Why it is not Pass, in words.
    pub reason: Option<String>,
    /// What the link carries in the long run, bit/s.
    pub true_bps: u64,
    /// The measured figure, which is shown and decides nothing, over the truth.
    pub measured_over_true: f64,
    /// B_g(0) over the truth.
    pub lower_over_true: f64,
    /// B_g(f) over the truth.
    pub guaranteed_over_true: f64,
    /// B_g(f) over what the link can have carried in T_min: its bucket counts too.
    pub guaranteed_over_carried: f64,
    /// Challengers that did as they should.
    pub honest: u16,
    /// Those of them that are paid.
    pub honest_paid: u16,
    /// Challengers that did not.
    pub corrupt: u16,
    /// Those of them that are paid.
    pub corrupt_paid: u16,
    /// Flags of the standings, and how many have each.
    pub flags: BTreeMap<String, u64>,
    /// Checks that do not hold, and how often.
    pub failed: BTreeMap<String, u64>,
    /// What doors and counters refused on the way, by name.
    pub met: BTreeMap<String, u64>,
    /// Data packets without a fate; negative if some have two.
    pub unaccounted: i128,
    /// The bundle, verified again, gives the coordinator's judgement; `None` if it was not tried.
    pub verified: Option<bool>,
}

impl Outcome {
    fn new(world: &World, play: Play, seed: u64) -> Self {
        let n = world.terms.n;
        let corrupt = (0..n).filter(|i| play.corrupt(usize::from(*i))).count();
        let corrupt = u16::try_from(corrupt).unwrap_or(n);
        Self {
            attack: play.attack,
            manner: play.manner,
            seed,
            ended: Ended::Judged,
            verdict: None,
            reason: None,
            true_bps: world.network.rate_bps,
            measured_over_true: 0.0,
            lower_over_true: 0.0,
            guaranteed_over_true: 0.0,
            guaranteed_over_carried: 0.0,
            honest: n - corrupt,
            honest_paid: 0,
            corrupt,
            corrupt_paid: 0,
            flags: BTreeMap::new(),
            failed: BTreeMap::new(),
            met: BTreeMap::new(),
            unaccounted: 0,
            verified: None,
        }
    }

    /// Nobody took part.
    pub(super) fn refused(world: &World, play: Play, seed: u64, why: String) -> Self {
        Self {
            ended: Ended::Refused(why),
            ..Self::new(world, play, seed)
        }
    }

    /// A run that has been lived.
    pub(super) fn of(session: &Session, seed: u64) -> Self {
        Self {
            met: session.met.clone(),
            unaccounted: session.unaccounted(),
            ..Self::new(&session.world, session.play, seed)
        }
    }

    /// Takes the judgement's figures in.
    pub(super) fn judged(&mut self, session: &Session, judgement: &Judgement) {
        self.verdict = Some(judgement.verdict);
        self.reason.clone_from(&judgement.reason);
        self.measured_over_true = ratio(judgement.measured_bps, self.true_bps);
        self.lower_over_true = ratio(judgement.lower_bps(), self.true_bps);
        self.guaranteed_over_true = ratio(judgement.guaranteed_bps(), self.true_bps);
        let carried = session.world.carried_bps();
        self.guaranteed_over_carried = ratio(judgement.guaranteed_bps(), carried);
        for standing in &judgement.standings {
            if standing.valid && session.play.corrupt(usize::from(standing.index)) {
                self.corrupt_paid += 1;
            } else if standing.valid {
                self.honest_paid += 1;
            }
            for flag in &standing.flags {
                *self.flags.entry(flag.clone()).or_default() += 1;
            }
        }
        for check in judgement.checks.iter().filter(|c| !c.ok) {
            *self.failed.entry(check.check.clone()).or_default() += 1;
        }
    }

    /// Takes in what verifying the bundle gave.
    pub(super) fn verified(&mut self, found: &Verified, said: &Judgement, altered: bool) {
        self.verified = Some(found.ok() && found.judgement.as_ref() == Some(said));
        if altered && !found.ok() {
            // What is not a bundle is not posted: nobody is judged by it, and nobody is paid for it.
            let failed = found.checks.iter().find(|c| !c.ok);
            let why = failed.map_or_else(String::new, |c| format!("{}: {}", c.check, c.name));
            self.ended = Ended::Refused(why);
            self.verdict = None;
            (self.honest_paid, self.corrupt_paid) = (0, 0);
            (self.measured_over_true, self.lower_over_true) = (0.0, 0.0);
            (self.guaranteed_over_true, self.guaranteed_over_carried) = (0.0, 0.0);
        }
    }

    /// A result is posted: what is inconclusive has figures too, and pays for what was delivered.
    #[must_use]
    pub fn posted(&self) -> bool {
        self.verdict.is_some()
    }

    /// In a word, for tables.
    #[must_use]
    pub fn verdict_name(&self) -> &'static str {
        match self.verdict {
            Some(Verdict::Pass) => "pass",
            Some(Verdict::Fail) => "fail",
            Some(Verdict::Inconclusive) => "inconclusive",
            None => self.ended.name(),
        }
    }
}

/// For tables only: no figure here decides anything.
#[allow(clippy::cast_precision_loss)]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

pub(super) fn ratio(figure: u64, truth: u64) -> f64 {
    float(figure) / float(truth.max(1))
}
