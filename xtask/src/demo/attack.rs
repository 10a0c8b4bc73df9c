//! `cargo xtask demo --attack rush=1`: the same proof with somebody who misbehaves, and what that met.

use std::path::Path;

use anyhow::{Result, bail};
use plumbline_lab::{Cast, Host, Lab, Met, Played, Switch, Villain};
use serde::Serialize;

use crate::cargo;

/// Who misbehaves in this demo; nobody in most.
#[derive(Debug, Clone)]
pub(crate) struct Attackers {
    pub(crate) villain: Villain,
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

    /// Replaces the culprits' programs before they start.
    ///
    /// # Errors
    /// Too many are to be corrupt, or the program is missing.
    pub(crate) fn take_over(&self, lab: &Lab, cast: &mut Cast) -> Result<Vec<Host>> {
        Ok(self.villain.take_over(lab, cast, &self.switches)?)
    }

    /// What each attack met.
    pub(crate) fn met(&self, played: &Played, culprits: &[String], true_bps: u64) -> Vec<Attacked> {
        let each = self.switches.iter().zip(&played.deeds);
        let met = each.map(|(switch, deed)| Attacked {
            switch: switch.clone(),
            met: Met::judge(switch, (&played.proof, deed.as_ref()), culprits, true_bps),
        });
        met.collect()
    }
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
        assert!(attackers.need_bystander());
        assert!(Attackers::read(&words(&["rush"]), None).is_err());
        assert!(Attackers::read(&path, Some(Path::new("/nonexistent/program"))).is_err());
    }
}
