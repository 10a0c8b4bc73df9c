//! Who misbehaves in a run, and how: the answers that the rest of the virtual world asks for.

use plumbline_proof::backhaul::messages::Report;
use plumbline_proof::backhaul::params::{PROBE_TIMEOUT_NS, Terms, V5_SLACK_PERCENT};

use super::world::{Manner, PACKET, World};
use crate::switch::{Attack, Culprit, Switch};

/// Of a lie that goes as far as it goes: the true time divided or multiplied by this. The source of the
/// factor is the protocol's table of predictions.
pub(super) const LIE_FACTOR: u64 = 5;
/// A lie that V8 lets through: longer by this, per mille (V8 draws the line at 5 %).
pub(super) const LIE_UNSEEN_PERMILLE: u64 = 45;
/// What an outsider sends, in percent of the claim. More of it is cross traffic, which has its own table.
pub(super) const OUTSIDER_PERCENT: u64 = 2;
/// Part of the duration by which a prover delays echoes at least: one half doubles the figure of a link
/// that is as fast as claimed, were it believed.
const INFLATION_PART: u64 = 2;
/// … and at most, ns: an echo that takes longer than [`PROBE_TIMEOUT_NS`] is none.
const INFLATION_MOST_NS: u64 = PROBE_TIMEOUT_NS * 8 / 10;

/// One attack as carried out in one run; or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play {
    pub(super) attack: Option<Attack>,
    pub(super) manner: Manner,
    corrupt: usize,
    victims: usize,
    inflation_ns: u64,
}

impl Play {
    pub(super) fn new(world: &World, switch: Option<Switch>) -> Self {
        let n = usize::from(world.terms.n);
        Self {
            attack: switch.map(|s| s.attack),
            manner: world.manner,
            corrupt: switch.map_or(0, |s| usize::from(s.corrupt).min(n)),
            victims: match world.manner {
                Manner::Gross => n,
                Manner::Subtle => usize::from(world.terms.f).max(1),
            },
            inflation_ns: inflation_ns(world),
        }
    }

    pub(super) fn is(&self, attack: Attack) -> bool {
        self.attack == Some(attack)
    }

    fn subtle(&self) -> bool {
        self.manner == Manner::Subtle
    }

    /// Challenger `index` is one of those who misbehave.
    pub(super) fn corrupt(&self, index: usize) -> bool {
        let challengers = self
            .attack
            .is_some_and(|a| matches!(a.culprit(), Culprit::Challengers | Culprit::Collusion));
        challengers && index < self.corrupt
    }

    /// … and commits this attack.
    pub(super) fn commits(&self, attack: Attack, index: usize) -> bool {
        self.is(attack) && self.corrupt(index)
    }

    /// A prover's lie is about challenger `index`.
    pub(super) fn victim(&self, index: usize) -> bool {
        index < self.victims
    }

    /// The prover tells challenger `index` another commitment than the coordinator.
    pub(super) fn told_another(&self, index: usize) -> bool {
        let told = match self.manner {
            Manner::Gross => self.victims / 2,
            Manner::Subtle => self.victims,
        };
        self.is(Attack::EquivocatingCommit) && index < told
    }

    /// How late the prover answers a probe that comes at `now_ns`, T0 being set or not, ns.
    pub(super) fn echo_delay_ns(&self, now_ns: u64, t0_ns: Option<u64>) -> u64 {
        let before = t0_ns.is_none_or(|t0| now_ns < t0);
        if self.is(Attack::RttInflation) && (before || self.subtle()) {
            self.inflation_ns
        } else {
            0
        }
    }

    /// The prover says nothing after its consent.
    pub(super) fn mute(&self, consented: bool) -> bool {
        self.is(Attack::SilentProver) && consented && !self.subtle()
    }

    /// The report that challenger `index` signs instead of the true one.
    pub(super) fn report(&self, index: usize, terms: &Terms, honest: &Report) -> Option<Report> {
        if !self.corrupt(index) {
            return None;
        }
        let credited = honest
            .committed_ns
            .saturating_sub(honest.sent_first_ns)
            .saturating_sub(honest.tt_ns);
        let least = least_span_ns(terms, u64::from(honest.packets));
        let span = match (self.attack?, self.manner) {
            (Attack::LieFast, Manner::Gross) => honest.tt_ns / LIE_FACTOR + credited,
            // The shortest whose time over the round trip is still above nothing.
            (Attack::LieFast, Manner::Subtle) => least.max(credited + 1),
            (Attack::LieSlow, Manner::Gross) => honest.tt_ns * LIE_FACTOR + credited,
            (Attack::LieSlow, Manner::Subtle) => {
                honest.tt_ns + honest.tt_ns * LIE_UNSEEN_PERMILLE / 1000 + credited
            }
            // Who handed m packets over would seem to have sent them faster than it may.
            (Attack::Rush, Manner::Subtle) => {
                (honest.committed_ns - honest.sent_first_ns).max(least)
            }
            _ => return None,
        };
        let sent_first_ns = honest.committed_ns.saturating_sub(span);
        Some(Report {
            sent_first_ns,
            sent_last_ns: honest.sent_last_ns.max(sent_first_ns),
            tt_ns: span.saturating_sub(credited),
            tt_plus_ns: span.saturating_sub(honest.floor_ns),
            ..honest.clone()
        })
    }
}

/// What makes the link look as fast as all that is offered, ns.
fn inflation_ns(world: &World) -> u64 {
    let half = world.terms.duration_ns() / INFLATION_PART;
    let all = world.true_ns().saturating_sub(world.shortest_ns());
    all.max(half).min(INFLATION_MOST_NS)
}

/// The shortest time that V5 lets through for so many counted packets, ns.
pub(super) fn least_span_ns(terms: &Terms, packets: u64) -> u64 {
    let bits = u128::from(packets) * 8 * u128::from(PACKET) * 1_000_000_000;
    let paced = bits / u128::from(terms.offer_each_bps());
    let least = (paced * u128::from(100 - V5_SLACK_PERCENT)).div_ceil(100);
    u64::try_from(least).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::{Network, terms};

    fn play(switch: &str, manner: Manner) -> Play {
        let world = World {
            terms: terms(20_000_000, 7, 2, 100),
            network: Network::lan(20_000_000),
            manner,
        };
        Play::new(&world, Some(switch.parse().unwrap()))
    }

    #[test]
    fn only_who_the_switch_names_misbehaves() {
        let lie = play("lie-fast=2", Manner::Gross);
        assert_eq!(
            [0, 1, 2, 6].map(|i| lie.corrupt(i)),
            [true, true, false, false]
        );
        assert!(lie.commits(Attack::LieFast, 1) && !lie.commits(Attack::Rush, 1));
        // A prover that lies has no corrupt challengers.
        let forged = play("forged-bitmap=2", Manner::Gross);
        assert!(!forged.corrupt(0) && forged.victim(6));
        let few = play("forged-bitmap=2", Manner::Subtle);
        assert!(few.victim(1) && !few.victim(2));
        let told = |manner| {
            (0..7)
                .filter(|i| play("equivocating-commit", manner).told_another(*i))
                .count()
        };
        assert_eq!((told(Manner::Gross), told(Manner::Subtle)), (3, 2));
    }

    #[test]
    fn echoes_are_late_before_the_flood_or_always() {
        let (before, always) = (
            play("rtt-inflation", Manner::Gross),
            play("rtt-inflation", Manner::Subtle),
        );
        assert!(before.echo_delay_ns(9, None) > 0 && before.echo_delay_ns(9, Some(10)) > 0);
        assert_eq!(before.echo_delay_ns(10, Some(10)), 0);
        assert!(always.echo_delay_ns(10, Some(10)) >= 50_000_000);
        assert_eq!(play("rush", Manner::Subtle).echo_delay_ns(9, None), 0);
    }

    #[test]
    fn a_slow_link_needs_later_echoes_and_none_is_so_late_that_it_is_lost() {
        let late = |rate| {
            let world = World {
                terms: terms(20_000_000, 7, 2, 100),
                network: Network::lan(rate),
                manner: Manner::Subtle,
            };
            inflation_ns(&world)
        };
        assert_eq!(late(20_000_000), 50_000_000);
        assert!(late(6_000_000) > 200_000_000);
        assert_eq!(late(1_000_000), INFLATION_MOST_NS);
    }

    #[test]
    fn the_shortest_time_that_passes_is_the_judges() {
        let terms = terms(20_000_000, 7, 2, 100);
        // 100 packets of 12,000 bit at 1.15 · 20/5 Mbit/s, less a tenth.
        assert_eq!(least_span_ns(&terms, 100), 234_782_609);
    }
}
