//! `cargo xtask demo --attack rush=1`: the same proof with somebody who misbehaves, and what that met.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use plumbline_lab::{Cast, Host, Lab, Met, Outcome, Process, Proof, Switch, Villain};
use serde::Serialize;

use crate::cargo;

/// When a request ends that is expected to end without a result: nobody waits a minute to see it.
const DEADLINE: Duration = Duration::from_secs(15);

/// Longest that who attacks beside the proof may run on after it.
const LEAVE: Duration = Duration::from_secs(20);

/// Who misbehaves in this demo; nobody in most.
#[derive(Debug, Clone)]
pub(crate) struct Attackers {
    villain: Villain,
    pub(crate) switches: Vec<Switch>,
}

/// One attack, and what it met.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Attacked {
    #[serde(flatten)]
    pub(crate) switch: Switch,
    #[serde(flatten)]
    pub(crate) met: Met,
}

impl Attackers {
    /// Reads `words`; the program at `binary` knows all attacks, the path's own need none.
    ///
    /// # Errors
    /// An attack that there is not; the program does not say which there are.
    pub(crate) fn read(words: &[String], binary: Option<&Path>) -> Result<Self> {
        let villain = match binary {
            Some(binary) => Villain::ask(binary)?,
            None => Villain::path_alone(),
        };
        let switches = words.iter().map(|words| villain.switch(words));
        let switches = switches.collect::<Result<_, _>>()?;
        Ok(Self { villain, switches })
    }

    /// Whether the path alone can do all that is asked for: nothing needs to be built.
    pub(crate) fn is_path_alone(words: &[String]) -> bool {
        let path = Villain::path_alone();
        words.iter().all(|words| path.switch(words).is_ok())
    }

    /// Whether the lab needs a host that takes no part.
    pub(crate) fn need_bystander(&self) -> bool {
        self.switches.iter().any(Switch::needs_bystander)
    }

    /// When the request is to end, if earlier than usual.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.is_refund_due().then_some(DEADLINE)
    }

    /// Whether an attack must end in a refund: then a proof without a verdict is the answer.
    pub(crate) fn is_refund_due(&self) -> bool {
        let mut switches = self.switches.iter();
        switches.any(|switch| switch.attack.outcome == Outcome::Refunded)
    }

    /// Replaces the culprits' programs before they start.
    ///
    /// # Errors
    /// Too many are to be corrupt, or the program is missing.
    pub(crate) fn take_over(&self, lab: &Lab, cast: &mut Cast) -> Result<Vec<Host>> {
        Ok(self.villain.take_over(lab, cast, &self.switches)?)
    }

    /// Starts those who attack from beside.
    ///
    /// # Errors
    /// One cannot be started.
    pub(crate) fn accompany(&self, lab: &Lab, cast: &Cast, run: &Path) -> Result<Vec<Process>> {
        let mut beside = Vec::new();
        for switch in &self.switches {
            beside.extend(self.villain.accompany(lab, cast, switch, run)?);
        }
        Ok(beside)
    }

    /// What each attack met.
    pub(crate) fn met(&self, proof: &Proof, culprits: &[String], true_bps: u64) -> Vec<Attacked> {
        let met = self.switches.iter().map(|switch| Attacked {
            switch: switch.clone(),
            met: Met::judge(switch, proof, culprits, true_bps),
        });
        met.collect()
    }
}

/// Waits for those who attacked from beside: one that failed to attack has shown nothing.
///
/// # Errors
/// It did not end, or not with status 0.
pub(crate) fn leave(beside: Vec<Process>) -> Result<()> {
    for mut process in beside {
        let status = process.wait(LEAVE)?;
        if !status.success() {
            bail!("who attacks ended with {status}\n{}", process.tail());
        }
    }
    Ok(())
}

/// Fails unless every named defence held.
///
/// # Errors
/// What did not.
pub(crate) fn judge(attacked: &[Attacked]) -> Result<()> {
    let broken: Vec<String> = attacked
        .iter()
        .filter(|each| !each.met.holds())
        .map(|each| {
            format!(
                "{}: {}",
                each.switch.attack.name,
                each.met.broken.join("; ")
            )
        })
        .collect();
    if broken.is_empty() {
        return Ok(());
    }
    bail!("a defence does not hold: {}", broken.join("; "))
}

/// Builds the program that commits attacks.
///
/// # Errors
/// It cannot be built.
pub(crate) fn build() -> Result<std::path::PathBuf> {
    let args = [
        "build",
        "--release",
        "--package",
        "plumbline-attack",
        "--features",
        "daemon",
        "--bin",
        "plumbline-attack",
        "--message-format=json-render-diagnostics",
    ];
    cargo::executable(&args, "plumbline-attack")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn what_the_path_does_needs_no_program() {
        let path = words(&["token-bucket", "cross-traffic"]);
        assert!(Attackers::is_path_alone(&path) && Attackers::is_path_alone(&[]));
        assert!(!Attackers::is_path_alone(&words(&[
            "cross-traffic",
            "rush=1"
        ])));
        let attackers = Attackers::read(&path, None).unwrap();
        assert!(attackers.need_bystander() && attackers.deadline().is_none());
        assert!(Attackers::read(&words(&["rush"]), None).is_err());
        assert!(Attackers::read(&path, Some(Path::new("/nonexistent/program"))).is_err());
    }
}
