//! What is promised, as data (`promises.toml`), and whether a run kept it.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::chain;
use crate::machine::Machine;
use crate::ratio::Ratios;

/// The committed promises.
pub(crate) const PROMISES: &str = include_str!("../promises.toml");

/// Whether a broken promise is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is.
    Enforced,
    /// Not yet: `why` says what holds it back.
    Pending,
}

/// The class of machines that a promise is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Needs {
    /// At least so many cores.
    #[serde(default)]
    pub(crate) cores: usize,
    /// All of these flags of `/proc/cpuinfo`.
    #[serde(default)]
    pub(crate) flags: Vec<String>,
}

/// One promise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Promise {
    /// In words.
    pub(crate) name: String,
    /// Key of the ratio that decides.
    pub(crate) ratio: String,
    /// Kept if the ratio is not below this.
    pub(crate) at_least: Option<f64>,
    /// Kept if the ratio is not above this.
    pub(crate) at_most: Option<f64>,
    /// Whether breaking it is an error.
    pub(crate) state: State,
    /// Why it is pending.
    pub(crate) why: Option<String>,
    /// The class of machines that it is for.
    #[serde(default)]
    pub(crate) needs: Needs,
    /// The shortest command that decides it.
    pub(crate) command: String,
}

/// What a run says about a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The ratio is where it should be.
    Kept,
    /// It is not.
    Broken,
    /// The run did not measure it.
    NotMeasured,
    /// It is for another class of machines.
    OtherMachine,
}

/// A promise and what a run says about it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Checked {
    /// The promise.
    #[serde(flatten)]
    pub(crate) promise: Promise,
    /// What the run measured.
    pub(crate) got: Option<f64>,
    /// What that says.
    pub(crate) outcome: Outcome,
}

/// Promises by what they are about; each has ratios of its own.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Promises {
    /// About packets: `[[promise]]`.
    pub(crate) packets: Vec<Promise>,
    /// About the chain: `[[chain]]`.
    pub(crate) chain: Vec<Promise>,
}

/// Reads promises.
///
/// # Errors
/// They are not TOML of this shape, or one cannot be decided; says which.
pub(crate) fn parse(text: &str) -> Result<Promises> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        promise: Vec<Promise>,
        #[serde(default)]
        chain: Vec<Promise>,
    }
    let file: File = toml::from_str(text).context("the promises cannot be read")?;
    decidable(&file.promise, &Ratios::KEYS)?;
    decidable(&file.chain, &chain::KEYS)?;
    Ok(Promises {
        packets: file.promise,
        chain: file.chain,
    })
}

fn decidable(promises: &[Promise], keys: &[&str]) -> Result<()> {
    for p in promises {
        if p.at_least.is_some() == p.at_most.is_some() {
            bail!("promise {:?}: either at_least or at_most", p.name);
        }
        if !keys.contains(&p.ratio.as_str()) {
            bail!(
                "promise {:?}: no ratio is called {}; there are {}",
                p.name,
                p.ratio,
                keys.join(", ")
            );
        }
        if (p.state == State::Pending) != p.why.is_some() {
            bail!("promise {:?}: pending, and only then, says why", p.name);
        }
    }
    Ok(())
}

impl Promise {
    /// What was wanted, in words.
    pub(crate) fn wanted(&self) -> String {
        match (self.at_least, self.at_most) {
            (Some(least), _) => format!("≥ {least}"),
            (None, Some(most)) => format!("≤ {most}"),
            (None, None) => String::new(),
        }
    }

    fn holds(&self, got: f64) -> bool {
        self.at_least.is_none_or(|least| got >= least)
            && self.at_most.is_none_or(|most| got <= most)
    }

    fn check(self, machine: &Machine, got: Option<f64>) -> Checked {
        let outcome = match got {
            _ if !machine.has(self.needs.cores, &self.needs.flags) => Outcome::OtherMachine,
            None => Outcome::NotMeasured,
            Some(got) if self.holds(got) => Outcome::Kept,
            Some(_) => Outcome::Broken,
        };
        Checked {
            promise: self,
            got,
            outcome,
        }
    }
}

/// Lays all promises beside what a run measured: `value` tells a ratio by its key.
pub(crate) fn check(
    promises: Vec<Promise>,
    machine: &Machine,
    value: impl Fn(&str) -> Option<f64>,
) -> Vec<Checked> {
    promises
        .into_iter()
        .map(|p| {
            let got = value(&p.ratio);
            p.check(machine, got)
        })
        .collect()
}

impl Checked {
    /// Why `--check` must fail for it, if it must. A run that was told to leave rows out (`partial`)
    /// need not have measured everything.
    pub(crate) fn complaint(&self, partial: bool) -> Option<String> {
        if self.promise.state == State::Pending {
            return None;
        }
        let Promise { name, ratio, .. } = &self.promise;
        let wanted = self.promise.wanted();
        match (self.outcome, self.got) {
            (Outcome::Broken, Some(got)) => Some(format!(
                "promise broken: {name}: wanted {ratio} {wanted}, got {got:.3}"
            )),
            (Outcome::NotMeasured, _) if !partial => Some(format!(
                "promise not measured: {name}: wanted {ratio} {wanted}, got nothing"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(line: &str) -> Promise {
        let text =
            format!("[[promise]]\nname = 'p'\nratio = 'lanes_vs_naive'\ncommand = 'c'\n{line}");
        parse(&text).unwrap().packets.remove(0)
    }

    fn outcome(p: &Promise, got: Option<f64>) -> Checked {
        p.clone().check(&Machine::of_class(2, &["avx512f"]), got)
    }

    #[test]
    fn both_sides_of_each_bound() {
        let least = promise("at_least = 2.5\nstate = 'enforced'");
        assert_eq!(outcome(&least, Some(2.5)).outcome, Outcome::Kept);
        assert_eq!(outcome(&least, Some(2.499)).outcome, Outcome::Broken);
        let most = promise("at_most = 2.5\nstate = 'enforced'");
        assert_eq!(outcome(&most, Some(2.5)).outcome, Outcome::Kept);
        assert_eq!(outcome(&most, Some(2.501)).outcome, Outcome::Broken);
    }

    #[test]
    fn a_broken_promise_is_named_with_what_was_wanted_and_what_came() {
        let p = promise("at_least = 2.5\nstate = 'enforced'");
        let said = outcome(&p, Some(1.0)).complaint(false).unwrap();
        for part in ["p", "lanes_vs_naive", "≥ 2.5", "1.000"] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(outcome(&p, Some(3.0)).complaint(false), None);
    }

    #[test]
    fn what_was_not_measured_is_an_error_unless_it_was_left_out() {
        let p = promise("at_least = 2.5\nstate = 'enforced'");
        assert!(outcome(&p, None).complaint(false).is_some());
        assert_eq!(outcome(&p, None).complaint(true), None);
    }

    #[test]
    fn pending_promises_and_those_of_other_machines_are_no_error() {
        let p = promise("at_least = 2.5\nstate = 'pending'\nwhy = 'w'");
        let checked = outcome(&p, Some(1.0));
        assert_eq!(
            (checked.outcome, checked.complaint(false)),
            (Outcome::Broken, None)
        );
        for (needs, wanted) in [
            ("cores = 2", Outcome::Broken),
            ("cores = 3", Outcome::OtherMachine),
            ("flags = ['avx512f']", Outcome::Broken),
            ("flags = ['avx512f', 'sve']", Outcome::OtherMachine),
        ] {
            let p = promise(&format!(
                "at_least = 2.5\nstate = 'enforced'\nneeds = {{ {needs} }}"
            ));
            let checked = outcome(&p, Some(1.0));
            assert_eq!(checked.outcome, wanted, "{needs}");
            assert_eq!(
                checked.complaint(false).is_some(),
                wanted == Outcome::Broken
            );
        }
    }

    #[test]
    fn a_promise_that_cannot_be_decided_is_refused() {
        for line in [
            "state = 'enforced'",
            "at_least = 1.0\nat_most = 2.0\nstate = 'enforced'",
            "at_least = 1.0\nstate = 'pending'",
            "at_least = 1.0\nstate = 'enforced'\nwhy = 'w'",
        ] {
            let text =
                format!("[[promise]]\nname = 'p'\nratio = 'lanes_vs_naive'\ncommand = 'c'\n{line}");
            assert!(parse(&text).is_err(), "{line}");
        }
        for key in ["lanes_vs_naive", "ratio_vs_revm"] {
            let text = PROMISES.replace(&format!("\"{key}\""), "\"speed\"");
            assert!(parse(&text).unwrap_err().to_string().contains("speed"));
        }
    }

    #[test]
    fn the_committed_promises_are_whole() {
        let promises = parse(PROMISES).unwrap();
        for key in Ratios::KEYS {
            let said = promises.packets.iter().any(|p| p.ratio == key);
            assert!(said, "{key} is promised");
        }
        for key in chain::KEYS {
            let said = promises.chain.iter().any(|p| p.ratio == key);
            assert!(said, "{key} is promised");
        }
    }
}
