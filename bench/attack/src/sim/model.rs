//! What an ideal link predicts: everybody's packets leave it evenly, at its rate, with no delay.
//!
//! ```text
//!  the link carries N (less what was handed over) in time T: counts, true times ─► lies ─► V3, V5, V8
//!     ─► the product's estimate of what is left
//! ```
//!
//! Claim: worked out from the formulas of the protocol for a link as fast as its claim, so a measurement
//! can be laid beside it; nothing is fitted. Not promised: queues, delays, chance. Tests: below.

use plumbline_proof::backhaul::estimate::{Sample, estimate};
use serde::Serialize;

use super::play::{LIE_FACTOR, LIE_UNSEEN_PERMILLE, least_span_ns};
use super::world::{Manner, terms};
use crate::switch::Attack;

/// Figures of a run as the model has them, each over the truth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// B.
    pub measured: f64,
    /// Mean of 8·N·L/tt over all reports.
    pub mean: f64,
    /// Their median.
    pub median: f64,
    /// 8·N·L over the (f+1)-th largest tt.
    pub order: f64,
    /// B_g(f).
    pub guaranteed: f64,
}

/// Large enough that no figure is rounded visibly: N counts millions of packets.
const CLAIM_BPS: u64 = 400_000_000_000;
const DURATION_MS: u32 = 100;
const DURATION_NS: u64 = 100_000_000;

/// What `corrupt` of n challengers (f of whom the figure stands) make of a link that is as fast as claimed;
/// `None` for attacks that the model has no formula for.
#[must_use]
pub fn predict(
    n: u16,
    f: u16,
    corrupt: u16,
    attack: Option<Attack>,
    manner: Manner,
) -> Option<Prediction> {
    let terms = terms(CLAIM_BPS, n, f, DURATION_MS);
    let (m, target) = (terms.per_challenger(), terms.target());
    let (all, liars) = (u64::from(n), u64::from(corrupt.min(n)));
    let honest = all - liars;
    // Packets of an honest one and of a liar, and those that took no time of the link.
    let (each, of_liar, handed) = match attack {
        None | Some(Attack::LieFast | Attack::LieSlow | Attack::ZeroPayload) => {
            (target / all, target / all, 0)
        }
        Some(Attack::Withhold) => (target / honest, 1, 0),
        Some(Attack::SilentChallenger) => (target / honest, 0, 0),
        Some(Attack::Rush) => ((target - liars * m) / honest, m, liars * m),
        _ => return None,
    };
    let scale = |part: u64| u128::from(DURATION_NS) * u128::from(part) / u128::from(target);
    let time = u64::try_from(scale(target - handed)).ok()?;
    let lied = match (attack, manner) {
        (Some(Attack::LieFast), Manner::Gross) => time / LIE_FACTOR,
        (Some(Attack::LieFast), Manner::Subtle) => least_span_ns(&terms, of_liar),
        (Some(Attack::LieSlow), Manner::Gross) => time * LIE_FACTOR,
        (Some(Attack::LieSlow), Manner::Subtle) => time + time * LIE_UNSEEN_PERMILLE / 1000,
        (Some(Attack::Rush), Manner::Subtle) => time.max(least_span_ns(&terms, of_liar)),
        _ => time,
    };
    let sample = |tt_ns, packets| Sample {
        tt_ns,
        tt_plus_ns: tt_ns,
        packets,
    };
    let silent = attack == Some(Attack::SilentChallenger);
    let reports: Vec<Sample> = (0..liars)
        .filter(|_| !silent)
        .map(|_| sample(lied, of_liar))
        .chain((0..honest).map(|_| sample(time, each)))
        .collect();
    // V3 and V5.
    let zeros = attack == Some(Attack::ZeroPayload);
    let possible = |s: &Sample| s.tt_ns >= least_span_ns(&terms, s.packets);
    let valid: Vec<Sample> = reports
        .iter()
        .enumerate()
        .filter(|(i, s)| possible(s) && !(zeros && (*i as u64) < liars))
        .map(|(_, s)| *s)
        .collect();
    Some(figures(
        &reports,
        &valid,
        target,
        terms.f,
        terms.offer_total_bps(),
    ))
}

fn figures(reports: &[Sample], valid: &[Sample], target: u64, f: u16, offered: u64) -> Prediction {
    // Each report alone, with all N packets: the product's own arithmetic.
    let alone = |s: &Sample| {
        let whole = Sample {
            packets: target,
            ..*s
        };
        over(estimate(&[whole], 0, u64::MAX).point_bps)
    };
    let mut rates: Vec<f64> = reports.iter().map(alone).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let at = |i: usize| rates.get(i).copied().unwrap_or(0.0);
    let result = estimate(valid, f, offered);
    Prediction {
        measured: over(result.point_bps),
        mean: rates.iter().sum::<f64>() / super::outcome::float(rates.len() as u64),
        median: f64::midpoint(at((rates.len() - 1) / 2), at(rates.len() / 2)),
        order: at(usize::from(f)),
        guaranteed: over(result.curve.last().copied().unwrap_or(0)),
    }
}

fn over(figure: u64) -> f64 {
    super::outcome::ratio(figure, CLAIM_BPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.006
    }

    fn of(f: u16, attack: Option<Attack>, manner: Manner) -> Prediction {
        predict(10, f, f, attack, manner).unwrap()
    }

    #[test]
    fn nobody_lies_and_everything_is_true() {
        for f in 0..=3 {
            let p = of(f, None, Manner::Gross);
            assert!(
                [p.measured, p.mean, p.median, p.order]
                    .iter()
                    .all(|r| near(*r, 1.0)),
                "{p:?}"
            );
            assert!(near(p.guaranteed, 1.0 - f64::from(f) / 10.0), "{p:?}");
        }
    }

    #[test]
    fn the_protocols_own_predictions() {
        // (f, attack, mean, order, guaranteed) of the protocol's table, worked out by hand: handing f·m
        // of (n−f)·m over shortens the time to (n−2f)/(n−f).
        let p = of(2, Some(Attack::Rush), Manner::Gross);
        assert!(near(p.mean, 8.0 / 6.0) && near(p.order, 8.0 / 6.0), "{p:?}");
        let p = of(3, Some(Attack::Rush), Manner::Subtle);
        assert!(near(p.median, 7.0 / 4.0), "{p:?}");
        assert!(near(p.guaranteed, 1.0), "{p:?}");
        let p = of(2, Some(Attack::Withhold), Manner::Gross);
        assert!(near(p.mean, 1.0) && near(p.guaranteed, 0.75), "{p:?}");
        let p = of(2, Some(Attack::LieFast), Manner::Gross);
        assert!(
            near(p.mean, 1.8) && near(p.median, 1.0) && near(p.order, 1.0),
            "{p:?}"
        );
        let p = of(2, Some(Attack::LieSlow), Manner::Gross);
        assert!(
            near(p.mean, 0.84) && near(p.median, 1.0) && near(p.guaranteed, 0.8),
            "{p:?}"
        );
    }

    #[test]
    fn no_attack_that_the_model_knows_lifts_the_guarantee() {
        let mut known = 0;
        for attack in Attack::ALL {
            for manner in Manner::of(attack) {
                for (n, f) in [(4, 1), (7, 2), (10, 1), (10, 3), (64, 21)] {
                    if let Some(p) = predict(n, f, f, Some(attack), *manner) {
                        assert!(p.guaranteed <= 1.000_1, "{attack} {manner:?} {n} {f} {p:?}");
                        known += 1;
                    }
                }
            }
        }
        assert!(known >= 5 * 8);
        assert_eq!(predict(10, 3, 3, Some(Attack::Replay), Manner::Gross), None);
    }
}
