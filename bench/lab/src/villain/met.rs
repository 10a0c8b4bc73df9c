//! What an attack met, and whether that is what it must meet: the named defence, checked on a real proof.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CROSS_TRAFFIC, Culprit, Deed, OUTSIDER_PERCENT, Outcome, Switch, TOKEN_BUCKET, bucket_bytes,
};
use crate::proof::{Answer, Measured, Proof};

/// How far a figure may lie above the truth, or an undisturbed one beside it, as a share: what a shaper's bucket
/// and a busy machine's timers make of a short phase at a low rate.
const TOLERANCE: f64 = 0.05;

/// How far a guaranteed figure may lie above the truth: the product's promise, under every attack.
const GUARANTEED: f64 = 1.02;

/// What an attack met.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Met {
    /// Measured figure as a share of the truth; none if there is no figure.
    pub measured_over_true: Option<f64>,
    /// Guaranteed figure likewise.
    pub guaranteed_over_true: Option<f64>,
    /// Whether every challenger that did not take part was paid.
    pub honest_paid: bool,
    /// Whether somebody that did was.
    pub culprit_paid: bool,
    /// What the defence failed to do; empty if it held.
    pub broken: Vec<String>,
}

impl Met {
    /// Compares how a proof ended with what `switch` must end in. `culprits`: addresses of the corrupt
    /// challengers on the chain; `deed`: what who attacks from beside says it did; `true_bps`: what the link
    /// carries in the long run.
    #[must_use]
    pub fn judge(
        switch: &Switch,
        (proof, deed): (&Proof, Option<&Deed>),
        culprits: &[String],
        true_bps: u64,
    ) -> Self {
        let mut broken = if switch.counts_honestly() {
            proof.complaints()
        } else {
            proof.complaints_but_packets()
        };
        let over = |bps: u64| bps as f64 / true_bps.max(1) as f64;
        let measured = proof.measured();
        let is_culprit = |address: &String| culprits.contains(address);
        let paid = |culprit: bool| {
            let parts = measured.into_iter().flat_map(|m| &m.challengers);
            let mut amounts = parts
                .filter(move |c| is_culprit(&c.address) == culprit)
                .map(|c| c.paid != "0")
                .peekable();
            (amounts.peek().is_some(), amounts.collect::<Vec<_>>())
        };
        let (some_honest, honest) = paid(false);
        let (_, corrupt) = paid(true);
        let met = Self {
            measured_over_true: measured.map(|m| over(m.measured_bps)),
            guaranteed_over_true: measured.map(|m| over(m.guaranteed_bps)),
            honest_paid: some_honest && honest.iter().all(|paid| *paid),
            culprit_paid: corrupt.contains(&true),
            broken: Vec::new(),
        };
        broken.extend(deed.and_then(|deed| success(switch, deed)));
        broken.extend(met.expectations(switch, proof, true_bps));
        Self { broken, ..met }
    }

    /// Whether the named defence held.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }

    fn expectations(&self, switch: &Switch, proof: &Proof, true_bps: u64) -> Vec<String> {
        let mut broken = Vec::new();
        let mut demand = |holds: bool, else_: String| {
            if !holds {
                broken.push(else_);
            }
        };
        let measured = match (&proof.answer, switch.attack.outcome) {
            (Answer::Refunded(_), Outcome::Refunded) | (Answer::Refused(_), Outcome::Exposed) => {
                return broken;
            }
            (Answer::Refunded(words) | Answer::Refused(words), _) => {
                broken.push(format!("there is no result: {words}"));
                return broken;
            }
            (Answer::Result(measured, _), Outcome::Refunded) => {
                demand(
                    measured.verdict == "Inconclusive",
                    format!("a verdict was reached: {}", measured.verdict),
                );
                return broken;
            }
            (Answer::Result(measured, _), Outcome::Exposed) => {
                broken.push(format!("it was believed: {}", measured.verdict));
                return broken;
            }
            (Answer::Result(measured, _), _) => measured,
        };
        let figure = self.measured_over_true.unwrap_or(0.0);
        let guaranteed = self.guaranteed_over_true.unwrap_or(0.0);
        let reason = measured.reason.as_deref().unwrap_or("no reason given");
        // Whoever sends, receives or shares the link may leave a true claim undecided, never false to its
        // advantage; the honest are paid all the same.
        let may_be_open = !matches!(switch.attack.culprit, Culprit::Coordinator | Culprit::Payer);
        demand(
            may_be_open || matches!(measured.verdict.as_str(), "Pass" | "Fail"),
            format!("no verdict about the link: {} ({reason})", measured.verdict),
        );
        demand(
            guaranteed <= GUARANTEED,
            format!("guaranteed is {guaranteed:.3} of the truth"),
        );
        let least = switch.least_share(measured.challengers.len()) - TOLERANCE;
        let undisturbed = (least..=1.0 + TOLERANCE).contains(&figure);
        let off = format!("measured is {figure:.3} of the truth");
        match switch.attack.outcome {
            Outcome::Refused => {
                demand(undisturbed, off);
                demand(self.honest_paid, "an honest challenger was not paid".into());
            }
            Outcome::Unpaid => {
                demand(undisturbed, off);
                demand(self.honest_paid, "an honest challenger was not paid".into());
                demand(!self.culprit_paid, "the culprit was paid".into());
            }
            Outcome::Flagged => {
                // What a bucket adds is in the figure that is shown.
                demand(switch.has_bucket() || figure <= 1.0 + TOLERANCE, off);
                demand(
                    is_told(switch, measured, true_bps),
                    "the result does not say what was tried".into(),
                );
            }
            Outcome::Bounded | Outcome::Refunded | Outcome::Exposed => {}
        }
        broken
    }
}

impl Switch {
    /// What the attack leaves of a true figure at least: corrupt challengers may keep back their own part, what an
    /// outsider sends takes its place on the link.
    fn least_share(&self, challengers: usize) -> f64 {
        match self.attack.culprit {
            Culprit::Challengers => 1.0 - f64::from(self.corrupt) / challengers.max(1) as f64,
            Culprit::Outsider => 1.0 / (1.0 + OUTSIDER_PERCENT as f64 / 100.0),
            _ => 1.0,
        }
    }
}

/// What an attacker achieved, and must not have.
fn success(switch: &Switch, deed: &Deed) -> Option<String> {
    // Before the draw a payer may withdraw.
    let may = |state: &Value| switch.attack.culprit == Culprit::Payer && state == "Created";
    let done: Vec<String> = deed
        .done
        .iter()
        .filter(|state| !may(state))
        .map(Value::to_string)
        .collect();
    if deed.sent == 0 && deed.tried.is_empty() && deed.done.is_empty() {
        return Some("nothing was tried".to_owned());
    }
    (!done.is_empty()).then(|| format!("it succeeded: {}", done.join(", ")))
}

/// Whether the result names what was done to it.
fn is_told(switch: &Switch, measured: &Measured, true_bps: u64) -> bool {
    match switch.attack.name.as_str() {
        // The row of a bucket at least as large is not above the truth.
        TOKEN_BUCKET => measured
            .sustained_bps(bucket_bytes(measured.claimed_bps))
            .is_some_and(|bps| bps as f64 <= true_bps as f64 * (1.0 + TOLERANCE)),
        // What others took is missing from the figure: nobody can tell more.
        CROSS_TRAFFIC => true,
        _ => measured.challengers.iter().any(|c| !c.flags.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{TRUE, switch};
    use super::super::{Culprit, Villain};
    use super::*;
    use crate::proof::tests::{document, ok, proof};

    fn judge(switch: &Switch, change: impl FnOnce(&mut Value)) -> Met {
        let mut found = document();
        change(&mut found);
        let verify = json!({"verify": "ok", "verdict": found["verdict"], "measured_bps": found["measured_bps"]});
        Met::judge(
            switch,
            (&proof(&found, &verify, 99), None),
            &["0x0".to_owned()],
            TRUE,
        )
    }

    #[test]
    fn a_refused_attack_leaves_the_measurement_as_it_was() {
        let refused = switch("second-payout", Culprit::Coordinator, Outcome::Refused);
        assert!(judge(&refused, |_| {}).holds());
        let share = |bps: u64| judge(&refused, |d| d["measured_bps"] = bps.into()).holds();
        assert!(share(950_000_000) && !share(949_000_000));
        assert!(share(1_050_000_000) && !share(1_051_000_000));
        assert!(!judge(&refused, |d| d["challengers"][1]["paid"] = "0".into()).holds());
        // The culprit's own pay does not matter here, and does where it must not be paid.
        assert!(judge(&refused, |d| d["challengers"][0]["paid"] = "0".into()).holds());
        let unpaid = switch("zero-payload", Culprit::Challengers, Outcome::Unpaid);
        assert!(!judge(&unpaid, |_| {}).holds());
        let met = judge(&unpaid, |d| d["challengers"][0]["paid"] = "0".into());
        assert!(
            met.holds() && met.honest_paid && !met.culprit_paid,
            "{met:?}"
        );
    }

    #[test]
    fn what_an_attacker_keeps_back_may_be_missing_and_no_more() {
        // One of four challengers; a twentieth of the packets beside all others.
        for (culprit, least) in [
            (Culprit::Challengers, 700_000_000_u64),
            (Culprit::Outsider, 902_400_000),
        ] {
            let switch = switch("replay", culprit, Outcome::Refused);
            let share = |bps: u64| judge(&switch, |d| d["measured_bps"] = bps.into()).holds();
            assert!(share(least) && !share(least - 1_000_000), "{culprit:?}");
        }
    }

    #[test]
    fn a_bounded_attack_may_move_the_figure_and_not_the_guarantee() {
        let rush = switch("rush", Culprit::Collusion, Outcome::Bounded);
        assert!(judge(&rush, |d| d["measured_bps"] = 1_800_000_000_u64.into()).holds());
        let guaranteed = |bps: u64| judge(&rush, |d| d["guaranteed_bps"] = bps.into()).holds();
        assert!(guaranteed(1_020_000_000) && !guaranteed(1_021_000_000));
        assert!(judge(&rush, |d| d["verdict"] = "Inconclusive".into()).holds());
        let twice = switch("second-payout", Culprit::Coordinator, Outcome::Refused);
        assert!(!judge(&twice, |d| d["verdict"] = "Inconclusive".into()).holds());
    }

    #[test]
    fn what_must_be_told_is_looked_for() {
        let late = switch("late", Culprit::Prover, Outcome::Flagged);
        assert!(!judge(&late, |_| {}).holds());
        assert!(judge(&late, |d| d["challengers"][3]["flags"] = json!(["GaveUp"])).holds());
        // A claim of 1 Gbit/s hides a bucket of 12.5 MB: the row of 100 MB.
        let bucket = Villain::path_alone().switch("token-bucket").unwrap();
        let told =
            |bps: u64| judge(&bucket, |d| d["sustained"][0]["at_least_bps"] = bps.into()).holds();
        assert!(told(1_050_000_000) && !told(1_051_000_000));
        assert!(
            !judge(&bucket, |d| d["sustained"][0]["burst_bytes"] =
                12_000_000.into())
            .holds()
        );
    }

    #[test]
    fn a_refund_is_right_only_where_it_is_due() {
        let mut refunded = proof(&document(), &ok(), 99);
        refunded.answer = Answer::Refunded("ended TimedOut, refunded".into());
        let silent = switch("silent-prover", Culprit::Prover, Outcome::Refunded);
        assert!(Met::judge(&silent, (&refunded, None), &[], TRUE).holds());
        let rush = switch("rush", Culprit::Collusion, Outcome::Bounded);
        let met = Met::judge(&rush, (&refunded, None), &[], TRUE);
        assert!(!met.holds() && met.measured_over_true.is_none());
        refunded.answer = Answer::Refused("the evidence does not hold".into());
        assert!(!Met::judge(&silent, (&refunded, None), &[], TRUE).holds());
        let altered = switch("altered-report", Culprit::Coordinator, Outcome::Exposed);
        assert!(Met::judge(&altered, (&refunded, None), &[], TRUE).holds());
        assert!(!judge(&altered, |_| {}).holds());
        assert!(!judge(&silent, |_| {}).holds());
        assert!(judge(&silent, |d| d["verdict"] = "Inconclusive".into()).holds());
    }

    #[test]
    fn packets_must_add_up_where_nobody_who_counts_lies() {
        let short = |culprit| {
            let switch = switch("x", culprit, Outcome::Bounded);
            Met::judge(&switch, (&proof(&document(), &ok(), 98), None), &[], TRUE).holds()
        };
        assert!(short(Culprit::Challengers) && short(Culprit::Prover));
        assert!(!short(Culprit::Path) && !short(Culprit::Payer));
    }

    #[test]
    fn an_attacker_must_have_tried_and_not_succeeded() {
        let judge = |culprit, deed: Value| {
            let switch = switch("second-payout", culprit, Outcome::Refused);
            let deed: Deed = serde_json::from_value(deed).unwrap();
            let proof = proof(&document(), &ok(), 99);
            Met::judge(&switch, (&proof, Some(&deed)), &[], TRUE).holds()
        };
        let tried = json!([{"state": "Final", "refusal": "WrongState"}]);
        assert!(judge(Culprit::Coordinator, json!({"tried": tried})));
        assert!(judge(Culprit::Outsider, json!({"sent": 1})));
        assert!(!judge(Culprit::Coordinator, json!({})));
        for culprit in [Culprit::Coordinator, Culprit::Payer] {
            assert!(!judge(
                culprit,
                json!({"tried": tried, "done": ["Running"]})
            ));
            let early = judge(culprit, json!({"tried": tried, "done": ["Created"]}));
            assert_eq!(early, culprit == Culprit::Payer);
        }
    }
}
