//! Who misbehaves in a run, and how: the answers that the rest of the virtual world asks for.

use std::net::SocketAddr;

use plumbline_proof::backhaul::messages::Report;
use plumbline_proof::backhaul::params::PROBE_TIMEOUT_NS;

use super::cast;
use super::world::{MS, Manner, World};
use crate::switch::{Attack, Culprit, Switch};

/// Of a lie: the true time divided or multiplied by this.
const LIE_FACTOR: u64 = 5;
/// What an outsider sends, in percent of the claim. More of it is cross traffic, which has its own table.
pub(super) const OUTSIDER_PERCENT: u64 = 2;
/// Part of the duration by which a prover delays echoes at least: one half doubles the figure of a link
/// that is as fast as claimed, were it believed.
const INFLATION_PART: u64 = 2;
/// … and at most, ns: with a round trip of two hundred milliseconds an echo that takes longer than
/// [`PROBE_TIMEOUT_NS`] is none.
const INFLATION_MOST_NS: u64 = PROBE_TIMEOUT_NS * 6 / 10;
/// A bucket's burst is over, and its prover commits, after this part of the duration, percent.
pub(super) const BURST_PERCENT: u64 = 25;
/// An early end comes after this part of the duration, percent: gross, and subtle.
const EARLY_PERCENT: (u64, u64) = (10, 84);
/// Who hears the Start late hears it so long after T0, ns.
const LATE_NS: u64 = MS;

/// One attack as carried out in one run; or none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Play {
    pub(super) attack: Option<Attack>,
    pub(super) manner: Manner,
    corrupt: usize,
    /// The first of those who misbehave, where challengers do.
    pub(super) first: usize,
    n: usize,
    victims: usize,
    duration_ns: u64,
}

impl Play {
    pub(super) fn new(world: &World, switch: Option<Switch>) -> Self {
        let n = usize::from(world.terms.n);
        Self {
            attack: switch.map(|s| s.attack),
            manner: world.manner,
            corrupt: switch.map_or(0, |s| usize::from(s.corrupt).min(n)),
            first: 0,
            n,
            victims: match (world.manner, switch.map(|s| s.attack)) {
                (Manner::Gross, Some(Attack::LateHonest)) => usize::from(world.terms.f) + 1,
                (Manner::Gross, _) => n,
                (Manner::Subtle, _) => usize::from(world.terms.f).max(1),
            },
            duration_ns: world.terms.duration_ns(),
        }
    }

    pub(super) fn is(&self, attack: Attack) -> bool {
        self.attack == Some(attack)
    }

    pub(super) fn subtle(&self) -> bool {
        self.manner == Manner::Subtle
    }

    /// Challenger `index` is one of those who misbehave.
    pub(super) fn corrupt(&self, index: usize) -> bool {
        let challengers = self
            .attack
            .is_some_and(|a| matches!(a.culprit(), Culprit::Challengers | Culprit::Collusion));
        challengers && (self.first..self.first + self.corrupt).contains(&index)
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

    /// Where the prover says that it takes data and probes.
    pub(super) fn prover_addresses(&self) -> (SocketAddr, SocketAddr) {
        let (data, control) = (cast::prover_data(), cast::prover_control());
        let elsewhere = |own: SocketAddr| SocketAddr::new(cast::stranger().ip(), own.port());
        match (self.is(Attack::StrangerAddress), self.manner) {
            (false, _) => (data, control),
            (true, Manner::Gross) => (elsewhere(data), elsewhere(control)),
            (true, Manner::Subtle) => (elsewhere(data), control),
        }
    }

    /// How late the prover answers a probe that comes at `now_ns`, T0 being set or not, ns.
    pub(super) fn echo_delay_ns(&self, now_ns: u64, t0_ns: Option<u64>) -> u64 {
        let before = t0_ns.is_none_or(|t0| now_ns < t0);
        if self.is(Attack::RttInflation) && (before || self.subtle()) {
            (self.duration_ns / INFLATION_PART).min(INFLATION_MOST_NS)
        } else {
            0
        }
    }

    /// When challenger `index` hears a Start that was said at `now_ns`, ns.
    pub(super) fn hears_start_ns(&self, index: usize, now_ns: u64, t0_ns: u64) -> u64 {
        match self.attack {
            Some(Attack::LateHonest) if self.victim(index) => t0_ns + LATE_NS,
            // Each later than the one before, all before T0.
            Some(Attack::SkewedStarts) => {
                let lead_ns = t0_ns.saturating_sub(now_ns);
                now_ns + lead_ns * index as u64 / self.n.max(1) as u64
            }
            _ => now_ns,
        }
    }

    /// When the prover commits whatever has come, if it does so before its target and deadline, ns after T0.
    pub(super) fn ends_ns(&self) -> Option<u64> {
        let percent = match (self.attack?, self.manner) {
            (Attack::EarlyEnd, Manner::Gross) => EARLY_PERCENT.0,
            (Attack::EarlyEnd, Manner::Subtle) => EARLY_PERCENT.1,
            (Attack::BurstAndStop, _) => BURST_PERCENT,
            _ => return None,
        };
        Some(self.duration_ns * percent / 100)
    }

    /// The prover says nothing after its consent.
    pub(super) fn mute(&self, consented: bool) -> bool {
        self.is(Attack::SilentProver) && consented && !self.subtle()
    }

    /// Challenger `index` says nothing any more: after its commitment to a seed, or instead of a report.
    pub(super) fn silent(&self, index: usize, report: bool) -> bool {
        self.commits(Attack::SilentChallenger, index) && self.subtle() == report
    }

    /// The report that challenger `index` signs instead of the true one.
    pub(super) fn report(&self, index: usize, honest: &Report) -> Option<Report> {
        if !self.corrupt(index) {
            return None;
        }
        let true_ns = honest.committed_ns.saturating_sub(honest.sent_first_ns);
        let span_ns = match self.attack? {
            Attack::LieFast => true_ns / LIE_FACTOR,
            Attack::LieSlow => true_ns * LIE_FACTOR,
            _ => return None,
        };
        Some(Report {
            sent_first_ns: honest.committed_ns.saturating_sub(span_ns),
            window_us: Report::window_us(span_ns, honest.clock_error_ns),
            ..honest.clone()
        })
    }
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
        assert_eq!(always.echo_delay_ns(10, Some(10)), 50_000_000);
        assert_eq!(play("rush", Manner::Subtle).echo_delay_ns(9, None), 0);
    }

    #[test]
    fn starts_are_heard_late_by_those_who_are_meant_and_skewed_ones_before_t0() {
        let late = |manner| {
            let play = play("late-honest", manner);
            (0..7)
                .filter(|i| play.hears_start_ns(*i, 0, 100) > 100)
                .count()
        };
        assert_eq!((late(Manner::Gross), late(Manner::Subtle)), (3, 2));
        let skewed = play("skewed-starts", Manner::Gross);
        assert_eq!(
            [0, 6].map(|i| skewed.hears_start_ns(i, 30, 100)),
            [30, 30 + 70 * 6 / 7]
        );
        assert_eq!(play("rush", Manner::Gross).hears_start_ns(6, 30, 100), 30);
    }

    #[test]
    fn a_prover_ends_early_where_that_is_its_attack() {
        let ends = |name, manner| play(name, manner).ends_ns();
        assert_eq!(ends("early-end", Manner::Gross), Some(10_000_000));
        assert_eq!(ends("early-end", Manner::Subtle), Some(84_000_000));
        assert_eq!(ends("burst-and-stop", Manner::Gross), Some(25_000_000));
        assert_eq!(ends("early-commit", Manner::Gross), None);
    }
}
