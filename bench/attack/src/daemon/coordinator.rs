//! Coordinators that name other challengers, or change a report.

use std::sync::Mutex;
use std::sync::PoisonError;

use plumbline::role::conduct::Conduct;
use plumbline_attack::switch::Attack;
use plumbline_contracts::abi::backhaul::IBackhaul::Submission;
use plumbline_proof::backhaul::messages::{Notice, Statement};
use plumbline_trust::{NetworkKey, Signed};

/// A coordinator that commits one attack.
pub(super) struct Corrupt {
    attack: Attack,
    /// What it said the first time, so that everybody hears the same.
    said: Mutex<Option<(Signed, Signed)>>,
}

/// Its conduct, if coordinators commit this attack.
pub(super) fn conduct(attack: Attack) -> Option<Corrupt> {
    let theirs = matches!(attack, Attack::SwappedChallengers | Attack::AlteredReport);
    theirs.then_some(Corrupt {
        attack,
        said: Mutex::new(None),
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

    fn submission(&self, mut submission: Submission) -> Submission {
        if self.attack == Attack::AlteredReport {
            for report in &mut submission.reports {
                report.windowUs /= 2;
            }
        }
        submission
    }
}
