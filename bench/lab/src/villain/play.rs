//! One proof with whatever disturbs it: other people's traffic, and who attacks from beside.
//!
//! ```text
//!  cross traffic ─┐
//!  payer, outsider┼─► measure ─► verify ─► second payout ─► Played: the proof, what each attacker says it did
//! ```

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Culprit, OUTSIDER_PERCENT, Outcome, Switch, Villain, VillainError};
use crate::cast::{Cast, CastError};
use crate::cross::{CrossCount, CrossTraffic};
use crate::lab::Lab;
use crate::plan::Host;
use crate::process::Process;
use crate::proof::{Asked, Proof, Terms};
use crate::watch::{Carried, Watch};

/// When a request ends that must end without a result, unless the terms say: nobody waits a minute to see it.
const DEADLINE: Duration = Duration::from_secs(15);

/// Longest that who attacks from beside may run on after the proof.
const LEAVE: Duration = Duration::from_secs(20);

/// A packet, bytes of IP layer, where only an order of magnitude is needed.
const PACKET: u16 = 1500;

/// Attacks by name that happen after the result is posted.
pub(super) const SECOND_PAYOUT: &str = "second-payout";

/// What somebody who attacks from beside says it did.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Deed {
    /// Packets sent towards the prover.
    #[serde(default)]
    pub sent: u64,
    /// What was tried, and how it was refused.
    #[serde(default)]
    pub tried: Vec<Value>,
    /// States of the request in which it succeeded.
    #[serde(default)]
    pub done: Vec<Value>,
}

/// A proof that was disturbed.
#[derive(Debug, Clone)]
pub struct Played {
    /// It.
    pub proof: Proof,
    /// What the measured link passed while its queue was not empty.
    pub carried: Carried,
    /// Of each switch, in order; none of those that nobody commits from beside.
    pub deeds: Vec<Option<Deed>>,
}

/// What surrounds a proof.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Where.
    pub lab: &'a Lab,
    /// Who commits attacks.
    pub villain: &'a Villain,
    /// Which.
    pub switches: &'a [Switch],
    /// Other people's traffic besides, bit/s of IP layer.
    pub cross_bps: Option<u64>,
    /// The evidence.
    pub bundle: &'a Path,
    /// Directory of logs.
    pub run: &'a Path,
    /// Whether the payer's progress goes to standard error.
    pub shown: bool,
}

impl Scene<'_> {
    /// Asks for the proof, disturbs it, waits for everybody's end.
    ///
    /// # Errors
    /// A program does not start or end, or says what is not as documented.
    pub fn play(&self, cast: &mut Cast, terms: &Terms) -> Result<Played, VillainError> {
        let lab = self.lab;
        let mut cross = Vec::new();
        if let Some(bps) = self.cross_bps {
            cross.push(CrossTraffic::start(lab, bps)?);
        }
        let mut beside = Vec::new();
        for switch in self.switches {
            cross.extend(switch.cross(lab)?);
            beside.push(self.accompany(cast, switch, terms)?);
        }
        let mut terms = terms.clone();
        let least = self.switches.iter().map(Switch::least_duration).max();
        terms.duration = terms.duration.max(least.unwrap_or_default());
        if self.is_refund_due() {
            terms.deadline.get_or_insert(DEADLINE);
        }
        // Of an earlier proof; this one may leave none.
        match std::fs::remove_file(self.bundle) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                let path = self.bundle.to_owned();
                return Err(CastError::File { path, source }.into());
            }
            _ => {}
        }
        let paths = (self.bundle, self.run);
        let watch = Watch::start(lab)?;
        let asked = Asked::start(lab, cast, &terms, paths, self.shown)?;
        let mut deeds = Vec::new();
        let mut failed = None;
        let mut carried = Carried::default();
        let proof = asked.finish(lab, cast, || {
            carried = watch.stop(lab)?;
            let mut all = CrossCount::default();
            for cross in cross {
                all.add(&cross.stop(lab)?);
            }
            for process in beside {
                match process.map(end).transpose() {
                    Ok(deed) => {
                        all.sent += deed.as_ref().map_or(0, |deed| deed.sent);
                        deeds.push(deed);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            Ok(all)
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        for (switch, deed) in self.switches.iter().zip(&mut deeds) {
            if switch.attack.name == SECOND_PAYOUT && proof.measured().is_some() {
                *deed = Some(self.second_payout(cast, switch)?);
            }
        }
        Ok(Played {
            proof,
            carried,
            deeds,
        })
    }

    /// Whether an attack must end in a refund: then a proof without a verdict is the answer.
    #[must_use]
    pub fn is_refund_due(&self) -> bool {
        let mut switches = self.switches.iter();
        switches.any(|switch| switch.attack.outcome == Outcome::Refunded)
    }

    /// Starts who commits the attack in a process of its own, before the proof is asked for: it waits for it.
    fn accompany(
        &self,
        cast: &Cast,
        switch: &Switch,
        terms: &Terms,
    ) -> Result<Option<Process>, VillainError> {
        let host = match switch.attack.culprit {
            Culprit::Payer => Host::Coordinator,
            Culprit::Outsider => Host::Bystander,
            _ => return Ok(None),
        };
        let mut words = Vec::new();
        if host == Host::Coordinator {
            words.extend(["--key".to_owned(), cast.payer_key().display().to_string()]);
        } else {
            let bits = u128::from(terms.claim_bps) * terms.duration.as_millis() / 1000;
            let packets = bits * u128::from(OUTSIDER_PERCENT) / 100 / 8 / u128::from(PACKET);
            words.extend(["--packets".to_owned(), packets.max(1).to_string()]);
        }
        self.start(cast, switch, host, &words).map(Some)
    }

    fn second_payout(&self, cast: &Cast, switch: &Switch) -> Result<Deed, VillainError> {
        let key = cast.key(Host::Coordinator).display().to_string();
        let bundle = self.bundle.display().to_string();
        let words = ["--key".to_owned(), key, "--bundle".to_owned(), bundle];
        end(self.start(cast, switch, Host::Coordinator, &words)?)
    }

    fn start(
        &self,
        cast: &Cast,
        switch: &Switch,
        host: Host,
        words: &[String],
    ) -> Result<Process, VillainError> {
        let name = &switch.attack.name;
        let program = self.villain.program(name)?.to_string_lossy();
        let mut command = self.lab.command(host, &program);
        command
            .args([name, "--coordinator", cast.coordinator()])
            .args(words);
        Ok(Process::start(name, command, self.run)?)
    }
}

/// Waits for its end: one that failed to attack has shown nothing.
fn end(mut process: Process) -> Result<Deed, VillainError> {
    let (status, text) = process.output(LEAVE)?;
    if !status.success() {
        return Err(VillainError::Ended {
            status,
            words: process.tail(),
        });
    }
    serde_json::from_str(&text).map_err(|source| VillainError::Deed { source, text })
}
