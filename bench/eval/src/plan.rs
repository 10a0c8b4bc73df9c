//! What is evaluated, as data: `plans/quick.toml`, `plans/full.toml`, or a file of one's own.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::cell::{Cell, NONE, Table};

/// The plan that is run without `--full`: at most five minutes.
pub(crate) const QUICK: &str = include_str!("../plans/quick.toml");
/// The plan of `--full`.
pub(crate) const FULL: &str = include_str!("../plans/full.toml");

/// Most challengers of one cell: all of them share this machine's cores.
const MOST: u8 = 64;

/// Most busy threads on every core.
const MOST_BUSY: u8 = 8;

/// Fastest link of a plan, Mbit/s: a veth between two busy cores carries no more.
const FASTEST_MBIT: u64 = 40_000;

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Proofs a cell, unless its table says otherwise.
    pub(crate) runs: u32,
    /// Further proofs a run at most, where the machine could not offer or receive the rate.
    pub(crate) retries: u32,
    #[serde(default)]
    pub(crate) accuracy: Vec<Accuracy>,
    #[serde(default)]
    pub(crate) attacks: Vec<Attacks>,
    #[serde(default)]
    pub(crate) corruption: Vec<Corruption>,
    #[serde(default)]
    pub(crate) shaper: Vec<Shaper>,
    #[serde(default)]
    pub(crate) cross: Vec<Cross>,
    /// What is played on virtual time; nothing if absent.
    pub(crate) simulated: Option<Simulated>,
}

/// Every combination of these is a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accuracy {
    mbit: Vec<u64>,
    n: Vec<u8>,
    duration_ms: Vec<u32>,
    rtt_ms: Vec<u32>,
    /// Threads that do nothing but be busy, on every core.
    #[serde(default)]
    busy: u8,
    /// This machine need not be able to offer, carry and receive it.
    #[serde(default)]
    may_starve: bool,
    runs: Option<u32>,
}

/// Every attack there is, and none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attacks {
    mbit: u64,
    n: u8,
    f: u8,
    duration_ms: u32,
    /// These only; all that the attack program knows if absent.
    attacks: Option<Vec<String>>,
    runs: Option<u32>,
}

/// Some attacks by some numbers of corrupt challengers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Corruption {
    mbit: u64,
    n: u8,
    f: Vec<u8>,
    duration_ms: u32,
    attacks: Vec<String>,
    runs: Option<u32>,
}

/// A link with a bucket: `peak_mbit` is claimed, `mbit` is what it carries in the long run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shaper {
    mbit: u64,
    peak_mbit: u64,
    bucket_bytes: Vec<u32>,
    n: u8,
    duration_ms: Vec<u32>,
    runs: Option<u32>,
}

/// A link that others use too, by so many percent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cross {
    mbit: u64,
    percent: Vec<u8>,
    n: u8,
    duration_ms: u32,
    runs: Option<u32>,
}

/// What is played on virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Simulated {
    /// Runs a table.
    pub(crate) runs: u64,
    /// Seed of all of them.
    pub(crate) seed: u64,
}

/// The most corrupt challengers that n allow: n ≥ 3f+1.
fn most_corrupt(n: u8) -> u8 {
    n.saturating_sub(1) / 3
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text).context("plan")?;
        if plan.runs == 0 || plan.cells(&[]).iter().any(|(_, runs)| *runs == 0) {
            bail!("plan: runs = 0: at least 1");
        }
        for (cell, _) in plan.cells(&[]) {
            check(&cell).with_context(|| format!("plan, {cell}"))?;
        }
        Ok(plan)
    }

    /// Leaves only the tables named.
    ///
    /// # Errors
    /// There is no such table.
    pub(crate) fn only(mut self, names: &[String]) -> Result<Self> {
        const SIMULATED: &str = "simulated";
        let known = Table::ALL.map(Table::name);
        if let Some(name) = names
            .iter()
            .find(|n| **n != SIMULATED && !known.contains(&n.as_str()))
        {
            bail!("--only {name}: there are {}, {SIMULATED}", known.join(", "));
        }
        let has = |name: &str| names.iter().any(|n| n == name);
        let keep = |table: Table| has(table.name());
        self.accuracy.retain(|_| keep(Table::Accuracy));
        self.attacks.retain(|_| keep(Table::Attacks));
        self.corruption.retain(|_| keep(Table::Corruption));
        self.shaper.retain(|_| keep(Table::Shaper));
        self.cross.retain(|_| keep(Table::Cross));
        self.simulated = self.simulated.filter(|_| has(SIMULATED));
        Ok(self)
    }

    /// Every cell and how many proofs it wants. `attacks`: names of all there are.
    pub(crate) fn cells(&self, attacks: &[String]) -> Vec<(Cell, u32)> {
        let mut cells = Vec::new();
        self.accuracy_cells(&mut cells);
        for each in &self.attacks {
            let names = each.attacks.as_deref().unwrap_or(attacks);
            for name in [NONE.to_owned()].iter().chain(names) {
                let mut cell = Cell::new(Table::Attacks, each.mbit, each.n, each.f);
                cell.duration_ms = each.duration_ms;
                cell.attack.clone_from(name);
                cells.push((cell, each.runs.unwrap_or(self.runs)));
            }
        }
        for each in &self.corruption {
            for f in &each.f {
                for name in each.attacks.iter().filter(|n| *f > 0 || *n == NONE) {
                    let mut cell = Cell::new(Table::Corruption, each.mbit, each.n, *f);
                    cell.duration_ms = each.duration_ms;
                    cell.attack.clone_from(name);
                    cells.push((cell, each.runs.unwrap_or(self.runs)));
                }
            }
        }
        self.path_cells(&mut cells);
        cells
    }

    fn accuracy_cells(&self, cells: &mut Vec<(Cell, u32)>) {
        for each in &self.accuracy {
            for rtt_ms in &each.rtt_ms {
                for n in &each.n {
                    for duration_ms in &each.duration_ms {
                        for mbit in &each.mbit {
                            let mut cell = Cell::new(Table::Accuracy, *mbit, *n, most_corrupt(*n));
                            cell.duration_ms = *duration_ms;
                            cell.rtt_ms = *rtt_ms;
                            cell.busy = each.busy;
                            cell.may_starve = each.may_starve;
                            cells.push((cell, each.runs.unwrap_or(self.runs)));
                        }
                    }
                }
            }
        }
    }

    fn path_cells(&self, cells: &mut Vec<(Cell, u32)>) {
        for each in &self.shaper {
            for bucket in &each.bucket_bytes {
                for duration_ms in &each.duration_ms {
                    let mut cell =
                        Cell::new(Table::Shaper, each.mbit, each.n, most_corrupt(each.n));
                    cell.duration_ms = *duration_ms;
                    cell.bucket = Some((*bucket, each.peak_mbit));
                    cells.push((cell, each.runs.unwrap_or(self.runs)));
                }
            }
        }
        for each in &self.cross {
            for percent in &each.percent {
                let mut cell = Cell::new(Table::Cross, each.mbit, each.n, most_corrupt(each.n));
                cell.duration_ms = each.duration_ms;
                cell.cross_percent = *percent;
                cells.push((cell, each.runs.unwrap_or(self.runs)));
            }
        }
    }
}

fn check(cell: &Cell) -> Result<()> {
    if cell.n == 0 || cell.n > MOST || cell.f > most_corrupt(cell.n) {
        bail!(
            "n = {}, f = {}: n is 1 to {MOST}, and at least 3f+1",
            cell.n,
            cell.f
        );
    }
    if !(1..=FASTEST_MBIT).contains(&cell.mbit) {
        bail!("mbit = {}: 1 to {FASTEST_MBIT}", cell.mbit);
    }
    if !(10..=10_000).contains(&cell.duration_ms) {
        bail!("duration_ms = {}: 10 to 10000", cell.duration_ms);
    }
    if cell.rtt_ms > 2000 {
        bail!(
            "rtt_ms = {}: at most 2000, a wire's two seconds",
            cell.rtt_ms
        );
    }
    if cell.busy > MOST_BUSY {
        bail!(
            "busy = {}: at most {MOST_BUSY} threads on every core",
            cell.busy
        );
    }
    if cell.cross_percent > 90 {
        bail!("percent = {}: at most 90", cell.cross_percent);
    }
    if let Some((bytes, peak)) = cell.bucket
        && (bytes == 0 || !(cell.mbit + 1..=FASTEST_MBIT).contains(&peak))
    {
        bail!("bucket_bytes = {bytes}, peak_mbit = {peak}: a bucket above 0, a peak above mbit");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "runs = 1\nretries = 0\n";

    fn parse(table: &str) -> Result<Plan> {
        Plan::parse(&format!("{HEAD}{table}"))
    }

    #[test]
    fn the_committed_plans_are_whole() {
        let names = |cells: &[(Cell, u32)]| -> Vec<u64> {
            let accuracy = cells.iter().filter(|(c, _)| c.table == Table::Accuracy);
            accuracy.map(|(c, _)| c.mbit).collect()
        };
        for text in [QUICK, FULL] {
            let plan = Plan::parse(text).unwrap();
            let cells = plan.cells(&["rush".to_owned()]);
            for mbit in [50, 100, 250, 500, 700, 1000, 2500, 5000] {
                assert!(names(&cells).contains(&mbit), "{mbit}");
            }
            for table in Table::ALL {
                assert!(cells.iter().any(|(c, _)| c.table == table), "{table:?}");
            }
            assert!(
                cells
                    .iter()
                    .any(|(c, _)| c.attack == "rush" && c.table == Table::Attacks)
            );
        }
        let full = Plan::parse(FULL).unwrap().cells(&[]);
        assert!(full.iter().all(|(_, runs)| *runs >= 20));
        assert_eq!(names(&full).len(), 8 * 4 * 3 + 5 * 3 * 2 + 4 * 2);
    }

    #[test]
    fn both_sides_of_each_boundary() {
        let accuracy = |mbit: &str, n: &str, d: &str, rtt: &str| {
            parse(&format!(
                "[[accuracy]]\nmbit = [{mbit}]\nn = [{n}]\nduration_ms = [{d}]\nrtt_ms = [{rtt}]\n"
            ))
        };
        assert!(accuracy("1", "1", "10", "0").is_ok());
        assert!(accuracy("40000", "64", "10000", "2000").is_ok());
        for (mbit, n, d, rtt) in [
            ("0", "4", "100", "0"),
            ("40001", "4", "100", "0"),
            ("1", "0", "100", "0"),
            ("1", "65", "100", "0"),
            ("1", "4", "9", "0"),
            ("1", "4", "10001", "0"),
            ("1", "4", "100", "2001"),
        ] {
            assert!(accuracy(mbit, n, d, rtt).is_err(), "{mbit} {n} {d} {rtt}");
        }
        let busy = |threads: u8| {
            parse(&format!(
                "[[accuracy]]\nmbit = [1]\nn = [1]\nduration_ms = [100]\nrtt_ms = [0]\nbusy = {threads}\n"
            ))
        };
        assert!(busy(8).is_ok() && busy(9).is_err());
        let corrupt = |n: u8, f: u8| {
            parse(&format!(
                "[[attacks]]\nmbit = 100\nn = {n}\nf = {f}\nduration_ms = 100\n"
            ))
        };
        assert!(corrupt(7, 2).is_ok() && corrupt(6, 2).is_err());
        let shaper = |peak: u64, bytes: u32| {
            parse(&format!(
                "[[shaper]]\nmbit = 100\npeak_mbit = {peak}\nbucket_bytes = [{bytes}]\nn = 4\nduration_ms = [100]\n"
            ))
        };
        assert!(shaper(101, 1).is_ok() && shaper(100, 1).is_err() && shaper(101, 0).is_err());
        let cross = |percent: u8| {
            parse(&format!(
                "[[cross]]\nmbit = 100\npercent = [{percent}]\nn = 4\nduration_ms = 100\n"
            ))
        };
        assert!(cross(90).is_ok() && cross(91).is_err());
        assert!(Plan::parse("runs = 0\nretries = 0\n").is_err());
        assert!(Plan::parse(HEAD).is_ok());
        assert!(parse("colour = 'red'\n").is_err(), "unknown key");
    }

    #[test]
    fn only_what_is_named_stays() {
        let plan = Plan::parse(QUICK).unwrap();
        let some = plan
            .clone()
            .only(&["cross".into(), "simulated".into()])
            .unwrap();
        assert!(some.cells(&[]).iter().all(|(c, _)| c.table == Table::Cross));
        assert!(some.simulated.is_some());
        assert!(
            plan.clone()
                .only(&["shaper".into()])
                .unwrap()
                .simulated
                .is_none()
        );
        let error = plan.only(&["nothing".into()]).unwrap_err().to_string();
        assert!(
            error.contains("nothing") && error.contains("accuracy"),
            "{error}"
        );
    }

    #[test]
    fn nobody_attacks_where_nobody_is_corrupt() {
        let plan = parse(
            "[[corruption]]\nmbit = 1\nn = 4\nf = [0, 1]\nduration_ms = 100\nattacks = ['none', 'rush']\n",
        );
        let cells = plan.unwrap().cells(&[]);
        let named: Vec<_> = cells
            .iter()
            .map(|(c, _)| (c.f, c.attack.as_str()))
            .collect();
        assert_eq!(named, [(0, "none"), (1, "none"), (1, "rush")]);
    }
}
