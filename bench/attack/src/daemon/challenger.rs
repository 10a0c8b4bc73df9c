//! Challengers that lie, hold back, repeat or send nothing of worth.

use plumbline::role::conduct::{Conduct, Speaker};
use plumbline_attack::switch::Attack;
use plumbline_proof::backhaul::challenger::{Flood, Secrets};
use plumbline_proof::backhaul::messages::{ChallengeId, Report, Settlement as _, Statement};
use plumbline_proof::backhaul::params::{Terms, V5_SLACK_PERCENT};
use plumbline_trust::{NetworkKey, Signed};
use plumbline_wire::header::HEADER_LEN;

/// Part of its rate that one that holds back sends at: a report without a packet would not count.
const NEXT_TO_NOTHING: u64 = 50;

/// What an accomplice derives its secrets for, so that its prover knows them before they are said.
const SEED: &str = "plumbline attack accomplice seed v1";
const EPHEMERAL: &str = "plumbline attack accomplice ephemeral v1";

/// The seed of the accomplice that holds `key`.
pub(super) fn seed_of(key: &NetworkKey, challenge: &ChallengeId) -> [u8; 32] {
    key.derive(SEED, challenge)
}

/// A challenger that commits one attack.
pub(super) struct Corrupt(Attack);

/// Its conduct, if challengers commit this attack.
pub(super) fn conduct(attack: Attack) -> Option<Corrupt> {
    let theirs = matches!(
        attack,
        Attack::Withhold
            | Attack::Rush
            | Attack::LieFast
            | Attack::LieSlow
            | Attack::Replay
            | Attack::ZeroPayload
            | Attack::SilentChallenger
    );
    theirs.then_some(Corrupt(attack))
}

/// The shortest span that check V5 lets through for so many packets, ns.
fn shortest_ns(terms: &Terms, packets: u32) -> u64 {
    let bits = u128::from(packets) * 8 * u128::from(terms.packet_bytes);
    let least = bits * 1_000_000_000 / u128::from(terms.offer_each_bps());
    u64::try_from(least * u128::from(100 - V5_SLACK_PERCENT) / 100).map_or(u64::MAX, |ns| ns + 1)
}

impl Corrupt {
    /// The span that it claims instead of `span`, ns.
    fn span_ns(&self, terms: &Terms, report: &Report, span: u64) -> u64 {
        let shortest = shortest_ns(terms, report.packets);
        match self.0 {
            Attack::LieFast => shortest.min(span),
            Attack::LieSlow => span + terms.duration_ns() / 2,
            // What went another way took no time; a span that is too short would not count.
            Attack::Rush => shortest.max(span),
            _ => span,
        }
    }

    fn lie(&self, speaker: &Speaker<'_>, mut report: Report) -> Statement {
        let notice = &speaker.record.notice.message;
        let span = report.committed_ns - report.sent_first_ns;
        let claimed = self.span_ns(&notice.terms, &report, span);
        report.committed_ns = report.sent_first_ns + claimed;
        let credited = span - report.tt_ns;
        report.tt_ns = claimed.saturating_sub(credited);
        report.tt_plus_ns = claimed.saturating_sub(report.floor_ns);
        report.settlement = speaker.settler.sign_report(notice, &report);
        Statement::Report(Signed::new(speaker.network, &report))
    }
}

impl Conduct for Corrupt {
    fn secrets(&self, network: &NetworkKey, challenge: &ChallengeId) -> Option<Secrets> {
        let ephemeral = || network.derive(EPHEMERAL, challenge);
        (self.0 == Attack::Rush).then(|| Secrets::new(seed_of(network, challenge), ephemeral()))
    }

    fn say(&self, speaker: &Speaker<'_>, statement: Statement) -> Option<Statement> {
        match (self.0, &statement) {
            (Attack::SilentChallenger, Statement::SeedCommitment(_)) => Some(statement),
            (Attack::SilentChallenger, _) => None,
            (Attack::LieFast | Attack::LieSlow | Attack::Rush, Statement::Report(signed)) => {
                let report = signed.open().ok()?;
                Some(self.lie(speaker, report))
            }
            _ => Some(statement),
        }
    }

    fn packets(&self, chunk: &mut [u8], length: usize, _first: u64) {
        match self.0 {
            Attack::ZeroPayload => {
                for packet in chunk.chunks_mut(length) {
                    packet[HEADER_LEN..].fill(0);
                }
            }
            // Every second one is the one before it once more.
            Attack::Replay => {
                for pair in chunk.chunks_exact_mut(2 * length) {
                    let (once, again) = pair.split_at_mut(length);
                    again.copy_from_slice(once);
                }
            }
            _ => {}
        }
    }

    fn flood(&self, plan: Flood) -> Flood {
        match self.0 {
            Attack::Withhold | Attack::Rush => Flood {
                rate_bps: plan.rate_bps / NEXT_TO_NOTHING,
                ..plan
            },
            // Half are new, as many as the honest send.
            Attack::Replay => Flood {
                rate_bps: plan.rate_bps * 2,
                ..plan
            },
            Attack::SilentChallenger => Flood {
                deadline_ns: plan.start_ns,
                ..plan
            },
            _ => plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_altered_in_place_and_none_is_left_out() {
        let length = HEADER_LEN + 2;
        let honest: Vec<u8> = (1..=5u8).flat_map(|i| vec![i; length]).collect();
        let of = |attack| {
            let mut chunk = honest.clone();
            conduct(attack).unwrap().packets(&mut chunk, length, 0);
            let ends = chunk.chunks(length).map(|p| (p[0], p[HEADER_LEN]));
            ends.collect::<Vec<_>>()
        };
        assert_eq!(
            of(Attack::ZeroPayload),
            [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]
        );
        assert_eq!(of(Attack::Replay), [(1, 1), (1, 1), (3, 3), (3, 3), (5, 5)]);
        assert_eq!(of(Attack::Withhold).len(), 5);
    }

    #[test]
    fn the_shortest_span_is_the_first_that_v5_lets_through() {
        let terms = Terms::downlink(1_000_000_000, 5, 1, 100);
        let ns = shortest_ns(&terms, 2084);
        let least = 2084 * 12_000 * 1_000_000_000 / u128::from(terms.offer_each_bps());
        let possible = |ns: u64| u128::from(ns) * 100 >= least * u128::from(100 - V5_SLACK_PERCENT);
        assert!(possible(ns) && !possible(ns - 2));
    }
}
