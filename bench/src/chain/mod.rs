//! What the embedded chain does and costs.
//!
//! ```text
//!  plan (TOML) ─► measure ─┬─► speed   requests ─► engine ─► blocks ─┬─► evm    the same through revm alone
//!                          │                                         └─► store  the same through redb alone
//!                          ├─► growth  a block on 10³ and on 10⁶ accounts
//!                          └─► gas     every flow, exact  ◄─► bench/gas.toml
//!                     lab, clock: a chain of one's own     promises (TOML) ─► report: table, JSON, plot
//! ```
//!
//! Claim: the engine is what the product runs: requests go in as bytes, are checked, executed, made a block
//! and on disk before they count. Its peers get the same transactions and the same bytes, in the same round,
//! and the run fails if revm alone takes other gas. Not promised: that figures hold on another disk, or that
//! a client over HTTP gets the same. Tests: beside the code; gas against its snapshot in `gas`.

mod blocks;
mod clock;
mod evm;
pub(crate) mod gas;
pub(crate) mod growth;
mod lab;
mod plan;
pub(crate) mod speed;
mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use serde::Serialize;

use crate::machine::Machine;
use crate::progress::Progress;
use crate::promise::{self, Checked, Promise};
use crate::report::{Named, date};
use crate::run::busy_before;

pub(crate) use plan::{FULL, Plan, QUICK};

/// Ratios of the chain that promises are made of.
pub(crate) const KEYS: [&str; 3] = ["ratio_vs_revm", "ratio_vs_store", PROMISED_GROWTH];
/// Key of the growth that a promise is about.
const PROMISED_GROWTH: &str = "growth_1e3_1e6";
/// Accounts that the promise of growth is about; a run on fewer does not decide it.
const PROMISED_ACCOUNTS: [usize; 2] = [1_000, 1_000_000];
/// What the figures must be read with.
const NOTE: &str = "Requests are made in this process, on the same cores as the chain; blocks are synced to the disk beside the program.";

/// Everything that a run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// Where it ran.
    pub(crate) machine: Machine,
    /// The command that made it.
    pub(crate) command: String,
    /// When it began, UTC (RFC 3339).
    pub(crate) date: String,
    /// How long it took, seconds.
    pub(crate) seconds: f64,
    /// Part of all cores that other work took before the run began.
    pub(crate) busy_before: f64,
    /// Where the chains lay.
    pub(crate) directory: PathBuf,
    /// What was asked.
    pub(crate) plan: Plan,
    /// Acknowledged transfers a second of 64 clients.
    pub(crate) tps: f64,
    /// `tps` over revm alone.
    pub(crate) ratio_vs_revm: f64,
    /// Blocks a second over redb alone, in the same row.
    pub(crate) ratio_vs_store: f64,
    /// Time of a block on the large state over that on the small one, as `growth_<small>_<large>`.
    /// [`PROMISED_GROWTH`] is always there: null if this run had other states.
    #[serde(flatten)]
    pub(crate) growths: BTreeMap<String, Option<f64>>,
    /// Why the promised growth is null, if it is.
    pub(crate) growth_not_measured: Option<String>,
    /// Gas by flow, by today's rules.
    pub(crate) gas: gas::Gas,
    /// Gas by flow, by the next rules.
    pub(crate) gas_amsterdam: gas::Gas,
    /// The rows.
    pub(crate) rows: Vec<speed::Row>,
    /// How a block's time grew.
    pub(crate) growth: growth::Growth,
    /// The ratios with their spread.
    pub(crate) spreads: Vec<Named>,
    /// The promises, and whether they were kept.
    pub(crate) promises: Vec<Checked>,
    /// Where gas is not what was committed.
    pub(crate) gas_differs: Vec<String>,
}

impl Outcome {
    /// Why `--check` must fail, if it must.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let promises = self.promises.iter();
        // A plan of one's own may leave the large state out.
        let whole = self.growth.accounts == PROMISED_ACCOUNTS;
        let promises = promises.filter_map(|p| p.complaint(!whole));
        promises.chain(self.gas_differs.iter().cloned()).collect()
    }
}

/// Where chains are made: beside the program, which lies on a disk where it was built.
///
/// # Errors
/// It lies in memory, where a sync costs nothing and every figure would flatter.
pub(crate) fn directory() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    let directory = program.parent().context("the program's directory")?;
    on_disk(directory)?;
    Ok(directory.to_owned())
}

fn on_disk(directory: &Path) -> Result<()> {
    let about = statfs(directory).with_context(|| directory.display().to_string())?;
    if about.filesystem_type() == TMPFS_MAGIC {
        bail!(
            "{} is in memory (tmpfs), where a sync costs nothing: build onto a disk (CARGO_TARGET_DIR)",
            directory.display()
        );
    }
    Ok(())
}

/// Measures gas alone and writes the snapshot below the current directory.
///
/// # Errors
/// It is not the repository's root, or the chain refused something.
pub(crate) fn bless(progress: &Progress) -> Result<PathBuf> {
    let file = PathBuf::from(gas::FILE);
    if !file.parent().is_some_and(Path::is_dir) {
        bail!("{}: run this at the repository's root", gas::FILE);
    }
    let gas = gas::measure(progress)?;
    std::fs::write(&file, gas::render(&gas))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("a runtime")
}

/// Runs `plan`.
///
/// # Errors
/// The disk, or the chain refused something that it should take.
pub(crate) fn run(
    plan: &Plan,
    promises: Vec<Promise>,
    command: String,
    progress: &Progress,
) -> Result<Outcome> {
    let (date, began) = (date::now(), Instant::now());
    let mut machine = Machine::describe();
    NOTE.clone_into(&mut machine.note);
    let busy_before = busy_before()?;
    let directory = directory()?;
    let runtime = runtime()?;
    progress.say("transactions a second");
    let rows = runtime.block_on(speed::measure(plan, &directory, progress))?;
    progress.say("growth");
    let growth = runtime.block_on(growth::measure(plan.growth, &directory, progress))?;
    progress.say("gas");
    let gas = gas::measure(progress)?;
    let row = rows.iter().find(|row| row.name == speed::TPS);
    let row = row.context("the row that decides was not run")?;
    let [small, large] = growth.accounts;
    let whole = growth.accounts == PROMISED_ACCOUNTS;
    let spreads: Vec<Named> = KEYS
        .into_iter()
        .zip([&row.vs_revm, &row.vs_store, &growth.ordinary.ratio])
        .filter(|(ratio, _)| *ratio != PROMISED_GROWTH || whole)
        .map(|(ratio, spread)| Named {
            ratio,
            spread: spread.clone(),
        })
        .collect();
    let value = |key: &str| {
        let found = spreads.iter().find(|s| s.ratio == key);
        found.map(|s| s.spread.median)
    };
    let growth_not_measured = (!whole).then(|| {
        format!("this plan grows from {small} to {large} accounts; {PROMISED_GROWTH} is measured by the committed plans")
    });
    Ok(Outcome {
        promises: promise::check(promises, &machine, value),
        gas_differs: gas::differences(&gas::parse(gas::COMMITTED)?, &gas),
        tps: row.tps.median,
        ratio_vs_revm: row.vs_revm.median,
        ratio_vs_store: row.vs_store.median,
        growths: growths(&growth),
        growth_not_measured,
        seconds: began.elapsed().as_secs_f64(),
        spreads,
        plan: plan.clone(),
        machine,
        command,
        date,
        busy_before,
        directory,
        gas: gas.today,
        gas_amsterdam: gas.next,
        rows,
        growth,
    })
}

/// What was measured, under a key that says of which states, and the promised key.
fn growths(growth: &growth::Growth) -> BTreeMap<String, Option<f64>> {
    let [small, large] = growth.accounts.map(magnitude);
    BTreeMap::from([
        (PROMISED_GROWTH.to_owned(), None),
        (
            format!("growth_{small}_{large}"),
            Some(growth.ordinary.ratio.median),
        ),
        (
            format!("growth_full_{small}_{large}"),
            Some(growth.full.ratio.median),
        ),
    ])
}

/// `1e3` for 1,000; the number itself where it is no power of ten.
fn magnitude(number: usize) -> String {
    match number.checked_ilog10() {
        Some(power) if 10_usize.pow(power) == number => format!("1e{power}"),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_memory_is_refused_and_one_on_a_disk_is_not() {
        assert!(on_disk(Path::new(env!("CARGO_MANIFEST_DIR"))).is_ok());
        let told = on_disk(Path::new("/dev/shm")).unwrap_err().to_string();
        assert!(told.contains("tmpfs"), "{told}");
    }

    #[test]
    fn a_growth_is_named_after_its_states() {
        let spread = || crate::stat::Spread::of(vec![1.25]).unwrap();
        let blocks = |transfers| growth::Blocks {
            transfers,
            small_s: spread(),
            large_s: spread(),
            ratio: spread(),
        };
        let growth = |accounts| growth::Growth {
            accounts,
            ordinary: blocks(1),
            full: blocks(2),
            fill_s: 0.0,
        };
        let quick = growths(&growth([1_000, 100_000]));
        assert_eq!(quick["growth_1e3_1e5"], Some(1.25));
        assert_eq!(quick[PROMISED_GROWTH], None);
        let full = growths(&growth(PROMISED_ACCOUNTS));
        assert_eq!(
            full,
            BTreeMap::from([
                (PROMISED_GROWTH.to_owned(), Some(1.25)),
                ("growth_full_1e3_1e6".to_owned(), Some(1.25)),
            ])
        );
        assert_eq!([999, 1_001, 1].map(magnitude), ["999", "1001", "1e0"]);
    }

    /// A run so small that it says nothing but that everything is there.
    #[test]
    fn a_tiny_run_gives_every_figure_under_its_key() {
        let mut plan = Plan::parse(QUICK).unwrap();
        (plan.rounds, plan.per_client, plan.alone) = (1, 2, 2);
        plan.growth = plan::Growth {
            small: 10,
            large: 1_000,
            rounds: 1,
        };
        let promises = promise::parse(promise::PROMISES).unwrap().chain;
        let progress = Progress::for_terminal();
        let outcome = run(&plan, promises, "test".into(), &progress).unwrap();
        let json = serde_json::to_value(&outcome).unwrap();
        for key in ["tps", KEYS[0], KEYS[1], "growth_1e1_1e3"] {
            assert!(json[key].as_f64().unwrap() > 0.0, "{key}: {json}");
        }
        let promised = &json.as_object().unwrap()[PROMISED_GROWTH];
        assert!(
            promised.is_null(),
            "10 and 1,000 accounts say nothing of it"
        );
        let why = json["growth_not_measured"].as_str().unwrap();
        assert!(
            why.contains("10 to 1000") && why.contains("committed"),
            "{why}"
        );
        assert!(json["gas"]["register"].as_u64().unwrap() > 21_000);
        assert!(json["date"].is_string() && json["machine"]["cores"].is_u64());
        assert_eq!(outcome.promises.len(), KEYS.len());
        let text = crate::report::chain::render(&outcome);
        for part in [speed::TPS, speed::ALONE, "growth_1e3_1e6", "report"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let plots = tempfile::tempdir().unwrap();
        let files = crate::report::chain::plot(&outcome, plots.path()).unwrap();
        assert_eq!(files.len(), 1);
    }
}
