//! A run: loops, search, rows in interleaved rounds, commitments; then what they say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use plumbline_proof::backhaul::params::DEADLINE_DURATIONS;
use plumbline_wire::Size;

use crate::cpu::Snapshot;
use crate::load::Load;
use crate::machine::Machine;
use crate::plan::{CommitPlan, Plan, Rate, RowPlan, SinkKind};
use crate::progress::Progress;
use crate::promise::{self, Promise};
use crate::ratio::Ratios;
use crate::report::{Named, Outcome, date};
use crate::row::Row;
use crate::search::{self, Found};
use crate::stages::Stages;
use crate::{commit, micro, stages, trial};

/// Fastest that a source is known to be, bit/s, with some room: so many packets are made ahead for the
/// seconds of a trial. A faster one ends its trial a little earlier.
const STANDARD_BPS: f64 = 14e9;
const JUMBO_BPS: f64 = 36e9;
/// Most memory for the packets of one size, bytes; trials that would need more end earlier.
const LOAD_BYTES: usize = 3 << 30;

/// How long other work is looked for, 50 ticks of the kernel's accounting.
const SAMPLE: Duration = Duration::from_millis(500);

/// Packets made ahead, of each size that is needed.
struct Loads {
    standard: Option<Load>,
    jumbo: Option<Load>,
}

/// What the rows of a plan share while it runs.
struct Bench<'a> {
    plan: &'a Plan,
    progress: &'a Progress,
    ratios: Ratios,
    failures: Vec<String>,
}

/// Runs `plan`.
///
/// # Errors
/// Nothing can be measured here at all. What only one part lacks is said in the outcome.
pub(crate) fn run(
    plan: &Plan,
    promises: Vec<Promise>,
    command: String,
    progress: &Progress,
) -> Result<Outcome> {
    let (date, began) = (date::now(), Instant::now());
    let machine = Machine::describe();
    let busy = busy_before()?;
    let mut bench = Bench {
        plan,
        progress,
        ratios: Ratios::default(),
        failures: Vec::new(),
    };
    let (hashing, verifying) = bench.micro();
    let mut stages = plan
        .stages
        .then(|| bench.part("stages", stages::measure))
        .flatten();
    let loads = bench.loads()?;
    let maximum = bench.search(&loads);
    let rows = bench.rows(&loads, maximum.as_ref());
    let commit = bench.commit(&loads, maximum.as_ref());
    bench.ratios.set_rows(&rows);
    if let Some(stages) = stages.as_mut() {
        Stages::add_rows(stages, &rows);
    }
    let Bench {
        ratios, failures, ..
    } = bench;
    let spreads = Ratios::KEYS.into_iter().filter_map(|ratio| {
        let spread = ratios.spread(ratio)?.clone();
        Some(Named { ratio, spread })
    });
    Ok(Outcome {
        spreads: spreads.collect(),
        promises: promise::check(promises, &machine, |key| ratios.value(key)),
        machine,
        command,
        date,
        seconds: began.elapsed().as_secs_f64(),
        plan: plan.clone(),
        rows: rows.iter().map(Row::report).collect(),
        ratios,
        maximum,
        commit,
        hashing,
        verifying,
        stages,
        failures,
        busy_before: busy,
    })
}

/// Part of all cores that other work takes before anything begins.
pub(crate) fn busy_before() -> Result<f64> {
    let (before, began) = (Snapshot::take()?, Instant::now());
    while began.elapsed() < SAMPLE {
        std::thread::park_timeout(SAMPLE.saturating_sub(began.elapsed()));
    }
    let work = Snapshot::take()?.since(&before);
    Ok(work.total() / began.elapsed().as_secs_f64() / work.cores() as f64)
}

impl Bench<'_> {
    /// Does one part; what it lacks is noted and the rest goes on.
    fn part<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Option<T> {
        self.progress.say(name);
        match work() {
            Ok(done) => Some(done),
            Err(error) => {
                self.failures.push(format!("{name}: {error:#}"));
                None
            }
        }
    }

    fn micro(&mut self) -> (Option<micro::Hashing>, Option<micro::Verifying>) {
        let Some(plan) = self.plan.micro else {
            return (None, None);
        };
        let hashing = self.part("hashing", || micro::hashing(plan.rounds));
        if let Some(h) = &hashing {
            let ratio = |under: &[f64]| {
                let rounds = h.lanes.values.iter().zip(under);
                rounds.map(|(a, b)| a / b).collect()
            };
            self.ratios.set("lanes_vs_naive", ratio(&h.naive.values));
            self.ratios.set("lanes_vs_long", ratio(&h.long.values));
        }
        let verifying = self.part("judging a bundle", || micro::verifying(plan));
        if let Some(v) = &verifying {
            // Speeds: the time of the raw work over that of the judge.
            let rounds = v.raw_s.values.iter().zip(&v.verify_s.values);
            let rounds = rounds.map(|(raw, verify)| raw / verify).collect();
            self.ratios.set("verify_vs_raw", rounds);
        }
        (hashing, verifying)
    }

    /// Packets for everything that is in the plan.
    fn loads(&self) -> Result<Loads> {
        let own = |row: &&RowPlan| !matches!(row.sink, SinkKind::Iperf3Udp | SinkKind::Iperf3Tcp);
        let longest = |mtu: u16| {
            let rows = self.plan.rows.iter().filter(own).filter(|r| r.mtu == mtu);
            rows.map(|r| self.plan.seconds(r)).fold(0.0, f64::max)
        };
        let mut seconds = longest(1500);
        if self.plan.needs_maximum() {
            seconds = seconds.max(self.plan.search.map_or(0.0, |s| s.seconds));
            // A challenger goes on sending until the deadline.
            let phase =
                |c: CommitPlan| f64::from(c.duration_ms) / 1000.0 * DEADLINE_DURATIONS as f64;
            seconds = seconds.max(self.plan.commit.map_or(0.0, phase));
        }
        self.progress.say("making packets");
        let make = |size: Size, seconds: f64, bps: f64| -> Result<Option<Load>> {
            if seconds == 0.0 {
                return Ok(None);
            }
            let packets = search::to_bps(seconds * bps / (size.ip_layer() as f64 * 8.0));
            let most = LOAD_BYTES / size.payload();
            let count = usize::try_from(packets)?.clamp(1, most);
            Load::make(size, count).map(Some)
        };
        Ok(Loads {
            standard: make(Size::Standard, seconds, STANDARD_BPS)?,
            jumbo: make(Size::Jumbo, longest(9000), JUMBO_BPS)?,
        })
    }

    fn search(&mut self, loads: &Loads) -> Option<Found> {
        let plan = self.plan.search.filter(|_| self.plan.needs_maximum())?;
        let load = loads.standard.as_ref()?;
        let progress = self.progress;
        self.part("search for the highest rate without loss", || {
            search::run(plan, load, |words| progress.note(words))
        })
    }

    /// Round by round: one trial of each row, then again, so that what disturbs the machine for a while
    /// disturbs them all.
    fn rows(&mut self, loads: &Loads, maximum: Option<&Found>) -> Vec<Row> {
        let rate = |row: &RowPlan| match row.rate {
            Rate::Word(_) => Ok(None),
            Rate::Share(share) => match maximum {
                Some(found) => Ok(Some(search::to_bps(found.bps as f64 * share))),
                None => bail!("no maximum was found to take a share of"),
            },
        };
        let mut rows: Vec<Row> = Vec::new();
        for plan in &self.plan.rows {
            let (bps, failure) = match rate(plan) {
                Ok(bps) => (bps, None),
                Err(error) => (None, Some(error)),
            };
            let mut row = Row::new(plan.clone(), bps);
            if let Some(error) = failure {
                row.add(Err(error));
            }
            rows.push(row);
        }
        let rounds = self.plan.rows.iter().map(|r| self.plan.repeats(r)).max();
        let rounds = rounds.unwrap_or(0);
        for round in 0..rounds {
            for row in &mut rows {
                if round < self.plan.repeats(row.plan()) && row.goes_on() {
                    let name = row.name().to_owned();
                    self.progress.round(round + 1, rounds, &name);
                    let trial = self.trial(row, loads);
                    if let Ok(trial) = &trial {
                        self.progress
                            .note(&format!("{name}: {:.2} Gbit/s", trial.gbps()));
                    }
                    row.add(trial);
                }
            }
        }
        rows
    }

    fn trial(&self, row: &Row, loads: &Loads) -> Result<trial::Trial> {
        let plan = row.plan();
        let load = match plan.mtu {
            9000 => loads.jumbo.as_ref(),
            _ => loads.standard.as_ref(),
        };
        let seconds = self.plan.seconds(plan);
        match load {
            Some(load) => trial::run(plan, load, row.rate_bps(), seconds),
            // iperf3 makes its own.
            None => trial::run_iperf(plan, seconds),
        }
    }

    fn commit(&mut self, loads: &Loads, maximum: Option<&Found>) -> Option<commit::Latency> {
        let plan = self.plan.commit?;
        let progress = self.progress;
        let latency = self.part("commit latency", || {
            let maximum = maximum.context("no maximum was found to take a share of")?;
            let load = loads.standard.as_ref().context("no packets were made")?;
            commit::run(plan, maximum.bps, load, |phase| {
                progress.round(phase + 1, plan.phases, "commit latency");
            })
        })?;
        self.ratios.set("commit_p99_us", vec![latency.p99_us]);
        Some(latency)
    }
}
