//! Challengers that lie, hold back, repeat or send nothing of worth.

use std::sync::Arc;
use std::time::Duration;

use plumbline::config::CoordinatorUrl;
use plumbline::control::client::Api;
use plumbline::journal::Journal;
use plumbline::role::conduct::{Conduct, Speaker};
use plumbline_attack::switch::Attack;
use plumbline_proof::backhaul::challenger::{Flood, Secrets};
use plumbline_proof::backhaul::messages::{
    Abort, ChallengeId, Ready, Report, Settlement as _, Statement,
};
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

/// How much later one whose machine is busy looks at a start: more than it can lie ahead.
const LATE: Duration = Duration::from_secs(2);

/// A liar's window is the true one divided or multiplied by this.
const LIE_FACTOR: u64 = 5;

/// A challenger that commits one attack.
pub(super) struct Corrupt {
    attack: Attack,
    /// Where it says what the product's own role would not.
    coordinator: CoordinatorUrl,
    /// What it says it with.
    network: Arc<NetworkKey>,
}

/// Its conduct, if challengers commit this attack.
pub(super) fn conduct(
    attack: Attack,
    coordinator: &CoordinatorUrl,
    network: &Arc<NetworkKey>,
) -> Option<Corrupt> {
    let theirs = matches!(
        attack,
        Attack::Withhold
            | Attack::Rush
            | Attack::LieFast
            | Attack::LieSlow
            | Attack::Replay
            | Attack::ZeroPayload
            | Attack::SilentChallenger
            | Attack::JunkSignature
            | Attack::ReadyThenAbort
            | Attack::LateHonest
    );
    theirs.then(|| Corrupt {
        attack,
        coordinator: coordinator.clone(),
        network: network.clone(),
    })
}

impl Corrupt {
    fn lie(&self, speaker: &Speaker<'_>, mut report: Report) -> Statement {
        let notice = &speaker.record.notice.message;
        let span_ns = report.committed_ns - report.sent_first_ns;
        match self.attack {
            Attack::LieFast | Attack::LieSlow => {
                let claimed = if self.attack == Attack::LieFast {
                    span_ns / LIE_FACTOR
                } else {
                    span_ns * LIE_FACTOR
                };
                report.sent_first_ns = report.committed_ns - claimed;
                report.window_us = Report::window_us(claimed, report.clock_error_ns);
            }
            // What counts of it was handed over, all of it: whatever it really sent came as duplicates.
            Attack::Rush => report.sent += u64::from(report.packets),
            _ => {}
        }
        report.settlement = match self.attack {
            Attack::JunkSignature => vec![0x5a; 65],
            _ => speaker.settler.sign_report(notice, &report),
        };
        Statement::Report(Signed::new(speaker.network, &report))
    }

    /// Gives up in the same breath in which it says that it is ready.
    fn aborts(&self, speaker: &Speaker<'_>, index: u16) -> Option<()> {
        let notice = &speaker.record.notice.message;
        let member = notice.challengers.get(usize::from(index))?;
        let abort = Abort::new(&notice.challenge, Some(index), "back to back with a Ready");
        let said = Statement::Abort(Signed::new(speaker.network, &abort));
        let (url, key, challenge) = (
            self.coordinator.clone(),
            self.network.clone(),
            notice.challenge,
        );
        let kept = Journal::in_memory(&member.address)
            .and_then(|journal| journal.keep(&challenge, said))
            .ok()?;
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let api = Api::new(url.as_str());
            let said = runtime.block_on(async { api?.say(&key, &challenge, &kept).await });
            if let Err(error) = said {
                tracing::warn!(%error, "the abort was not taken");
            }
            std::io::Result::Ok(())
        });
        Some(())
    }
}

impl Conduct for Corrupt {
    fn secrets(&self, network: &NetworkKey, challenge: &ChallengeId) -> Option<Secrets> {
        let ephemeral = || network.derive(EPHEMERAL, challenge);
        (self.attack == Attack::Rush)
            .then(|| Secrets::new(seed_of(network, challenge), ephemeral()))
    }

    /// Its machine was busy: what the start says is over when it is looked at.
    fn heard(&self, statement: &Statement) {
        if let (Attack::LateHonest, Statement::Start(_)) = (self.attack, statement) {
            std::thread::sleep(LATE);
        }
    }

    fn say(&self, speaker: &Speaker<'_>, statement: Statement) -> Option<Statement> {
        match (self.attack, &statement) {
            (Attack::SilentChallenger, Statement::Report(_) | Statement::Abort(_)) => None,
            (
                Attack::LieFast | Attack::LieSlow | Attack::Rush | Attack::JunkSignature,
                Statement::Report(signed),
            ) => {
                let report = signed.open().ok()?;
                Some(self.lie(speaker, report))
            }
            (Attack::ReadyThenAbort, Statement::Ready(signed)) => {
                let ready: Ready = signed.open().ok()?;
                self.aborts(speaker, ready.index)?;
                Some(statement)
            }
            _ => Some(statement),
        }
    }

    fn answers(&self) -> bool {
        self.attack != Attack::SilentChallenger
    }

    fn packets(&self, chunk: &mut [u8], length: usize, _first: u64) {
        match self.attack {
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
        match self.attack {
            Attack::Withhold | Attack::Rush => Flood {
                rate_bps: plan.rate_bps / NEXT_TO_NOTHING,
                ..plan
            },
            // Half are new, as many as the honest send.
            Attack::Replay => Flood {
                rate_bps: plan.rate_bps * 2,
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
            let nowhere = "http://127.0.0.1:1".parse().unwrap();
            let key = Arc::new(NetworkKey::from_secret(&[7; 32]));
            conduct(attack, &nowhere, &key)
                .unwrap()
                .packets(&mut chunk, length, 0);
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
}
