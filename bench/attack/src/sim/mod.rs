//! A whole proof on virtual time, with any attack, on any network: thousands a minute, each repeatable.
//!
//! ```text
//!  world (terms, network, manner) ─┐
//!  switch (attack, how many) ──────┼─► session: machines ◄─ clock ─► flood ─► link ─► gate
//!  seed ───────────────────────────┘        │
//!                          Outcome ◄─ judge ◄┘─► bundle, verified            table: many of them
//! ```
//!
//! Claim: everybody but the corrupt is the product's own code, the corrupt hold their own keys and speak the
//! real messages, and the same world, switch and seed give the same run. Not promised: the kernel, the
//! network card, the chain: money is only what a judgement says who is paid. Tests: beside the code, and
//! `tests/acceptance.rs`.

mod cast;
mod chance;
mod clock;
mod flood;
mod gate;
mod link;
mod outcome;
mod play;
mod session;
mod table;
mod world;

pub use self::outcome::{Ended, Outcome};
pub use self::table::{Kind, Parameter, Row, Spread, Table, repeat, table};
pub use self::world::{Bucket, Cross, Manner, Network, Pattern, World, terms};

use std::num::NonZeroUsize;

use plumbline_proof::backhaul::bundle::{self, Bundle};
use plumbline_proof::backhaul::judge::judge_on;
use plumbline_proof::backhaul::messages::Statement;
use plumbline_proof::backhaul::params::TermsError;
use serde::Serialize;

use self::cast::COORDINATOR;
use self::play::{BURST_PERCENT, Play};
use self::session::{End, Session};
use crate::switch::{Attack, Switch};

/// Why there is no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unplayable {
    /// What it meets is a chain, a kernel or a disk, and the virtual world has none.
    #[error(
        "{0} meets what virtual time does not have, a chain, a kernel or a disk: it is played against the real daemons"
    )]
    Elsewhere(Attack),
    /// Nobody can be measured on these terms.
    #[error("{0}")]
    Terms(String),
    /// A table has fewer rows.
    #[error("the table has no row {0}: it has {1}, from 0")]
    Cell(usize, usize),
}

impl From<TermsError> for Unplayable {
    fn from(error: TermsError) -> Self {
        Self::Terms(error.to_string())
    }
}

/// Whether virtual time has what `attack` meets.
#[must_use]
pub fn playable(attack: Attack) -> bool {
    !matches!(
        attack,
        Attack::SecondPayout
            | Attack::PayerWithdraws
            | Attack::JunkSignature
            | Attack::SpentConsent
            | Attack::SecondRun
    )
}

/// Lives one run through, and verifies its bundle.
///
/// # Errors
/// [`Unplayable`].
pub fn run(world: &World, switch: Option<Switch>, seed: u64) -> Result<Outcome, Unplayable> {
    run_and(world, switch, seed, true)
}

/// Lives one run through; its bundle is verified if `verify`: that costs about as much as the run.
///
/// # Errors
/// [`Unplayable`].
pub fn run_and(
    world: &World,
    switch: Option<Switch>,
    seed: u64,
    verify: bool,
) -> Result<Outcome, Unplayable> {
    world.terms.check()?;
    if let Some(switch) = switch
        && !playable(switch.attack)
    {
        return Err(Unplayable::Elsewhere(switch.attack));
    }
    let play = Play::new(world, switch);
    let world = afflicted(world, play);
    let mut session = match Session::open(&world, play, seed) {
        Ok(session) => session,
        Err(refusal) => return Ok(Outcome::refused(&world, play, seed, refusal.to_string())),
    };
    let end = session.live();
    let mut outcome = Outcome::of(&session, seed);
    match end {
        End::Expired(why) => outcome.ended = Ended::Expired(why),
        End::Judge => {
            let judgement = judge_on(session.coordinator.record(), NonZeroUsize::MIN);
            outcome.judged(&session, &judgement);
            let alters = play.is(Attack::AlteredReport);
            if verify || alters {
                let log = session.coordinator.log().to_vec();
                let mut bundle = Bundle { log, judgement };
                if alters {
                    alter(&mut bundle);
                }
                let (bytes, _) = bundle::write(&COORDINATOR.key, &bundle);
                let found = bundle::verify(&bytes);
                outcome.verified(&found, &bundle.judgement, alters);
            }
        }
    }
    Ok(outcome)
}

/// The world with what a path does by itself, where that is the attack.
fn afflicted(world: &World, play: Play) -> World {
    let mut world = world.clone();
    let claim = world.terms.claim_bps;
    let network = &mut world.network;
    if play.is(Attack::TokenBucket) {
        // A fifth of the link in the long run; all that a phase asks for at once.
        network.rate_bps /= TOKEN_BUCKET_PART;
        network.bucket = Some(Bucket {
            bytes: claim / 8 * u64::from(world.terms.duration_ms) * 2 / 1000,
            peak_bps: 2 * claim,
        });
    }
    if play.is(Attack::BurstAndStop) {
        network.rate_bps /= TOKEN_BUCKET_PART;
        // As much as all offer beyond the rate until the prover commits.
        let over = world.terms.offer_total_bps() - network.rate_bps.min(claim);
        let ms = u64::from(world.terms.duration_ms) * BURST_PERCENT / 100;
        network.bucket = Some(Bucket {
            bytes: over / 8 * ms / 1000,
            peak_bps: 2 * claim,
        });
    }
    if play.is(Attack::SkewedStarts) {
        // It keeps the echoes of as many back as may be faulty, and begins are late by chance besides.
        network.held_back = (usize::from(world.terms.f), HELD_BACK_NS);
        if play.subtle() {
            network.skew_ns = world.terms.duration_ns() / SKEW_PART;
        }
    }
    if play.is(Attack::CrossTraffic) {
        network.cross = Some(Cross {
            share_percent: CROSS_PERCENT,
            pattern: Pattern::OnOff,
        });
    }
    world
}

/// A link with a token bucket carries this part of its rate in the long run.
const TOKEN_BUCKET_PART: u64 = 5;
/// What the attack of cross traffic asks for of the link, percent.
const CROSS_PERCENT: u8 = 30;
/// Echoes that are kept back come so much later, ns.
const HELD_BACK_NS: u64 = 400_000_000;
/// Skewed starts are late by up to this part of the duration.
const SKEW_PART: u64 = 5;

/// A byte of a report's first send: 32 bytes of challenge, one of phase and two of index come before it.
const ALTERED_BYTE: usize = 36;

/// A coordinator changes the time in a report that it was given, and what follows from it.
fn alter(bundle: &mut Bundle) {
    let report = bundle.log.iter_mut().find_map(|s| match s {
        Statement::Report(signed) => Some(signed),
        _ => None,
    });
    if let Some(signed) = report
        && let Some(byte) = signed.body.get_mut(ALTERED_BYTE)
    {
        *byte ^= 1;
    }
    bundle.judgement.measured_bps = bundle.judgement.measured_bps.saturating_add(1);
}

#[cfg(test)]
mod anything;
#[cfg(test)]
mod tests;
