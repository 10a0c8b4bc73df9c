//! Coordinators that name other challengers, change a report, or run one request twice.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plumbline::role::conduct::Conduct;
use plumbline_attack::switch::Attack;
use plumbline_contracts::abi::backhaul::IBackhaul::Submission;
use plumbline_proof::backhaul::messages::{ChallengeId, Notice, Statement};
use plumbline_trust::{NetworkKey, Signed};

/// Whoever asks for sessions is answered after this at the latest.
const PROMPT: Duration = Duration::from_millis(300);
/// Longest that everybody may take to ask again.
const PATIENCE: Duration = Duration::from_secs(20);
/// A node forgets a session that it has served once two lists in a row lack it, and takes up one that it does not know.
const UNLISTED: u8 = 2;

/// One request, listed, not listed, and listed again.
#[derive(Default)]
struct Again {
    challenge: ChallengeId,
    listed: bool,
    /// Who served it, and how many more lists it is to see as they are now.
    asked: BTreeMap<String, u8>,
}

/// A coordinator that commits one attack.
pub(super) struct Corrupt {
    attack: Attack,
    /// What it said the first time, so that everybody hears the same.
    said: Mutex<Option<(Signed, Signed)>>,
    again: Mutex<Again>,
    asked: Condvar,
}

/// Its conduct, if coordinators commit this attack.
pub(super) fn conduct(attack: Attack) -> Option<Corrupt> {
    let theirs = matches!(
        attack,
        Attack::SwappedChallengers | Attack::AlteredReport | Attack::SecondRun
    );
    theirs.then_some(Corrupt {
        attack,
        said: Mutex::new(None),
        again: Mutex::default(),
        asked: Condvar::new(),
    })
}

impl Corrupt {
    /// The notice, with somebody in the first place whom the beacon did not put there.
    fn swapped(&self, network: &NetworkKey, honest: Signed) -> Signed {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((was, is)) = said.as_ref()
            && *was == honest
        {
            return is.clone();
        }
        let Ok(mut notice) = honest.open::<Notice>() else {
            return honest;
        };
        // Whether from outside or from a later place: it is not what the beacon draws.
        let places = notice.challengers.len();
        notice.challengers.swap(0, places - 1);
        let other = Signed::new(network, &notice);
        *said = Some((honest, other.clone()));
        other
    }

    fn again(&self) -> MutexGuard<'_, Again> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists the request, or does not, until everybody who served it has asked so often; whether they did.
    fn until_asked(&self, listed: bool, times: u8) -> bool {
        let mut again = self.again();
        again.listed = listed;
        again.asked.values_mut().for_each(|left| *left = times);
        let waits = |again: &mut Again| again.asked.values().any(|left| *left > 0);
        let waited = self.asked.wait_timeout_while(again, PATIENCE, waits);
        waited.is_ok_and(|(_, over)| !over.timed_out())
    }
}

impl Conduct for Corrupt {
    fn tell(&self, network: &NetworkKey, statement: Statement) -> Statement {
        match (self.attack, statement) {
            (Attack::SwappedChallengers, Statement::Notice(signed)) => {
                Statement::Notice(self.swapped(network, signed))
            }
            (_, statement) => statement,
        }
    }

    fn lists(&self, participant: &str, challenge: &ChallengeId) -> bool {
        if self.attack != Attack::SecondRun {
            return true;
        }
        let mut again = self.again();
        if again.challenge != *challenge {
            *again = Again {
                challenge: *challenge,
                listed: true,
                asked: BTreeMap::new(),
            };
        }
        let left = again.asked.entry(participant.to_owned()).or_default();
        *left = left.saturating_sub(1);
        self.asked.notify_all();
        again.listed
    }

    fn patience(&self, most: Duration) -> Duration {
        match self.attack {
            Attack::SecondRun => most.min(PROMPT),
            _ => most,
        }
    }

    fn submission(&self, mut submission: Submission) -> Submission {
        // All have served it. Whoever is told of it twice must not begin again; where that could not be tried,
        // nothing is posted that the contract takes.
        let tried = || self.until_asked(false, UNLISTED) && self.until_asked(true, 2);
        if self.attack == Attack::SecondRun && !tokio::task::block_in_place(tried) {
            submission.reports.clear();
        }
        if self.attack == Attack::AlteredReport {
            for report in &mut submission.reports {
                report.windowUs /= 2;
            }
        }
        submission
    }
}
