//! The command line, and an evaluation from its first cell to its last table.
#![allow(clippy::print_stdout)] // a command line tool: standard output is its purpose

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use plumbline_attack::switch::Attack;
use plumbline_lab::{Lab, Villain};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cell::{Cell, NONE, Site};
use crate::ground::{Ground, Tools};
use crate::machine::{self, Machine};
use crate::plan::{FULL, Plan, QUICK};
use crate::progress::Progress;
use crate::report::{self, Report};
use crate::search;
use crate::state::{Of, State};
use crate::virtual_time;

/// Exit status of a process that a signal ended, as shells write it.
const INTERRUPTED: i32 = 130;

/// Show how true the figure is: accuracy, attacks, corruption, shapers, cross traffic, on real packets.
#[derive(Debug, clap::Parser)]
#[command(
    name = "plumbline-eval",
    bin_name = "cargo xtask eval",
    max_term_width = 100
)]
pub struct Args {
    /// At most five minutes; the default.
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Every cell, twenty times: hours, unattended.
    #[arg(long)]
    full: bool,
    /// A plan of one's own instead of the quick or the full one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["quick", "full"])]
    plan: Option<PathBuf>,
    /// Only these tables: accuracy, attacks, corruption, shaper, cross, simulated.
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    only: Vec<String>,
    /// Keep what is done here, and go on from it [default: among what is built].
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Begin anew, whatever was done before.
    #[arg(long)]
    fresh: bool,
    /// Fail where a figure, a defence or an account does not hold.
    #[arg(long)]
    check: bool,
    /// Write everything to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the tables to this file, as Markdown.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write a plot for each question into this directory, as SVG.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Let an adversary climb on virtual time instead: against the lower bound, and for a true claim that is called
    /// false. Fails where one is found.
    #[arg(long, conflicts_with_all = ["quick", "full", "plan", "only", "resume", "fresh", "markdown", "plot"])]
    pub(crate) search: bool,
    /// How long it climbs; 0: only the table of --completeness.
    #[arg(long, value_name = "S", default_value_t = 600, requires = "search")]
    pub(crate) seconds: u64,
    /// What its climbs begin with.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "search")]
    pub(crate) seed: u64,
    /// Write to this file, as Markdown, how many true claims pass.
    #[arg(long, value_name = "FILE", requires = "search")]
    pub(crate) completeness: Option<PathBuf>,
    /// The `plumbline` that is evaluated.
    #[arg(long, value_name = "FILE", required_unless_present = "search")]
    product: Option<PathBuf>,
    /// The `plumbline-attack` that misbehaves; without it only what a path does by itself can be played.
    #[arg(long, value_name = "FILE")]
    attacker: Option<PathBuf>,
}

impl Args {
    fn plan(&self) -> Result<Plan> {
        let own = match &self.plan {
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}", file.display()))?,
            ),
            None => None,
        };
        let text = own
            .as_deref()
            .unwrap_or(if self.full { FULL } else { QUICK });
        let plan = Plan::parse(text)?;
        if self.only.is_empty() {
            return Ok(plan);
        }
        plan.only(&self.only)
    }

    /// Beside the product: what is built is removed together.
    fn state_file(&self) -> PathBuf {
        let name = match (&self.plan, self.full) {
            (Some(_), _) => "eval-own.state.json",
            (None, true) => "eval-full.state.json",
            (None, false) => "eval-quick.state.json",
        };
        let product = self.product.as_deref();
        let beside = product.and_then(Path::parent).unwrap_or(Path::new("."));
        self.resume.clone().unwrap_or_else(|| beside.join(name))
    }
}

/// Runs the evaluation; what went wrong is said on stderr.
pub fn main(args: &Args) -> ExitCode {
    let complaints = if args.search {
        search::run(args)
    } else {
        evaluate(args).map(|report| match args.check {
            true => report.complaints(),
            false => Vec::new(),
        })
    };
    let complaints = complaints.unwrap_or_else(|error| vec![format!("{error:#}")]);
    for complaint in &complaints {
        eprintln!("error: {complaint}");
    }
    if complaints.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn evaluate(args: &Args) -> Result<Report> {
    let plan = args.plan()?;
    let product = args.product.as_deref().context("--product is missing")?;
    let product = product
        .canonicalize()
        .with_context(|| format!("--product {}", product.display()))?;
    let villain = match &args.attacker {
        Some(program) => Villain::ask(program)?,
        None => Villain::path_alone(),
    };
    let attacks = Attack::ALL.map(|attack| attack.name().to_owned());
    let cells = plan.cells(&attacks);
    let tools = Tools { product, villain };
    for (cell, _) in &cells {
        let known = tools.switch(cell);
        known.with_context(|| format!("{cell}: give the program with --attacker"))?;
    }
    let of = Of {
        machine: Machine::describe(),
        product: machine::digest(&tools.product)?,
        attacks: args.attacker.as_deref().map(machine::digest).transpose()?,
        plan: plan.clone(),
    };
    let file = args.state_file();
    if args.fresh
        && let Err(error) = std::fs::remove_file(&file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        bail!("cannot remove {}: {error}", file.display());
    }
    let mut state = State::open(&file, of, &jiff::Timestamp::now().to_string())?;
    clean_up_on_signal()?;
    let all = cells.iter().map(|(_, runs)| u64::from(*runs)).sum();
    let done = cells
        .iter()
        .map(|(cell, runs)| state.counted(&cell.key(), *runs));
    let done: u64 = done.map(u64::from).sum();
    let mut progress = Progress::for_terminal(all, done);
    let evaluated = measure(&cells, &plan, &tools, (&mut state, &file), &mut progress);
    let simulated = evaluated.map(|()| {
        let plan = plan.simulated;
        plan.map_or_else(Vec::new, |plan| virtual_time::tables(plan, &progress))
    });
    progress.finish();
    let report = Report::new(&state, &cells, simulated?, command());
    println!("{}", report::markdown::render(&report));
    write(args, &report)?;
    // It has become a report; the next evaluation is one of its own.
    drop(std::fs::remove_file(&file));
    Ok(report)
}

/// All proofs that are not made yet: site by site, and there round by round, so that what disturbs the machine
/// for a while does not disturb one cell alone.
fn measure(
    cells: &[(Cell, u32)],
    plan: &Plan,
    tools: &Tools,
    (state, file): (&mut State, &Path),
    progress: &mut Progress,
) -> Result<()> {
    let mut sites: Vec<Site> = cells.iter().map(|(cell, _)| cell.site()).collect();
    sites.sort_unstable();
    sites.dedup();
    for site in sites {
        let here = || cells.iter().filter(|(cell, _)| cell.site() == site);
        let is_open = |state: &State, (cell, runs): &(Cell, u32)| {
            !state.is_done(&cell.key(), *runs, plan.retries)
        };
        let Some((first, _)) = here().find(|each| is_open(state, each)) else {
            continue;
        };
        let mut ground = Ground::up(tools, site, first)?;
        // Those without an attack share a cast: they come first in every round.
        while here().any(|each| is_open(state, each)) {
            let (honest, attacks): (Vec<_>, Vec<_>) = here()
                .filter(|each| is_open(state, each))
                .partition(|(cell, _)| cell.attack == NONE);
            for (cell, _) in honest.into_iter().chain(attacks) {
                progress.begin(&format!("{}: {cell}", cell.table.name()));
                let began = Instant::now();
                let run = ground.prove(cell);
                let (what, words) = (cell.key(), run.words());
                if run.counts() {
                    progress.advance(&what, &words);
                } else {
                    progress.note(&format!("{what}: {words}"));
                }
                state.runs.entry(what).or_default().push(run);
                state.seconds += began.elapsed().as_secs_f64();
                state.save(file)?;
            }
        }
    }
    Ok(())
}

/// What was typed, without the programs that xtask built.
fn command() -> String {
    let mut words = vec!["cargo xtask eval".to_owned()];
    let mut given = std::env::args().skip(1);
    while let Some(word) = given.next() {
        match word.as_str() {
            "--product" | "--attacker" => drop(given.next()),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

fn write(args: &Args, report: &Report) -> Result<()> {
    let save = |file: &Path, text: String| {
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    if let Some(file) = &args.json {
        save(file, serde_json::to_string_pretty(report)? + "\n")?;
    }
    if let Some(file) = &args.markdown {
        save(file, report::markdown::render(report))?;
    }
    if let Some(directory) = &args.plot {
        for file in report::plot::write(report, directory)? {
            println!("plot: {}", file.display());
        }
    }
    Ok(())
}

/// From now on, a signal removes this process's labs and ends it. What is done is on disk.
fn clean_up_on_signal() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            if let Err(error) = Lab::down_own() {
                eprintln!("error: {error}; `cargo xtask lab down` removes what is left");
            }
            eprintln!("interrupted: the same command goes on where this was");
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn args(line: &str) -> Result<Args, clap::Error> {
        let words = ["eval", "--product", "/built/plumbline"];
        Args::try_parse_from(words.into_iter().chain(line.split_ascii_whitespace()))
    }

    #[test]
    fn quick_is_the_default_and_excludes_full() {
        let quick = args("").unwrap();
        assert_eq!(
            quick.plan().unwrap(),
            args("--quick").unwrap().plan().unwrap()
        );
        assert!(args("--full").unwrap().plan().unwrap().runs > quick.plan().unwrap().runs);
        assert!(args("--quick --full").is_err() && args("--plan p --full").is_err());
        let cross = args("--only cross,shaper").unwrap().plan().unwrap();
        assert!(cross.accuracy.is_empty() && !cross.shaper.is_empty());
        assert!(args("--only none").unwrap().plan().is_err());
    }

    #[test]
    fn a_search_needs_no_product_and_goes_with_no_plan() {
        let search = |line: &str| {
            Args::try_parse_from(
                ["eval", "--search"]
                    .into_iter()
                    .chain(line.split_ascii_whitespace()),
            )
        };
        let plain = search("").unwrap();
        assert!((plain.seconds, plain.seed) == (600, 1) && plain.json.is_none());
        let full = search("--seconds 5 --seed 3 --json o --completeness c").unwrap();
        assert!((full.seconds, full.seed) == (5, 3) && full.completeness.is_some());
        assert!(search("--full").is_err() && search("--only cross").is_err());
        assert!(args("--seconds 5").is_err() && Args::try_parse_from(["eval"]).is_err());
    }

    #[test]
    fn the_state_lies_beside_the_product_unless_named() {
        let file = |line: &str| args(line).unwrap().state_file();
        assert_eq!(file(""), Path::new("/built/eval-quick.state.json"));
        assert_eq!(file("--full"), Path::new("/built/eval-full.state.json"));
        assert_eq!(file("--plan p"), Path::new("/built/eval-own.state.json"));
        assert_eq!(file("--full --resume s"), Path::new("s"));
    }
}
