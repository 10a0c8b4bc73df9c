//! A line of the result: all trials of one row of the plan.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::account::Account;
use crate::pair::{SINK_CORE, SOURCE_CORE};
use crate::plan::{Rate, RowPlan, SinkKind, SourceKind, Units};
use crate::stat::Spread;
use crate::trial::Trial;

/// A row and its trials so far.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    plan: RowPlan,
    /// What was asked of the source, bit/s; `None`: as fast as it can.
    rate_bps: Option<u64>,
    trials: Vec<Trial>,
    failure: Option<String>,
}

/// How well the schedule of all repeats was kept, over bursts, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Precision {
    /// How late bursts left.
    pub(crate) late: Quantiles,
    /// How much the time between two bursts differed from the schedule's.
    pub(crate) gap_error: Quantiles,
}

/// A distribution in three numbers, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Quantiles {
    /// Median.
    pub(crate) p50_ns: u64,
    /// 99th percentile.
    pub(crate) p99_ns: u64,
    /// Largest.
    pub(crate) max_ns: u64,
}

impl Quantiles {
    fn of<'a>(mut all: impl Iterator<Item = &'a Histogram<u64>>) -> Option<Self> {
        let mut sum = all.next()?.clone();
        for other in all {
            // Made with the same bounds, so none is out of range; one that were would be left out.
            let _ = sum.add(other);
        }
        Some(Self {
            p50_ns: sum.value_at_quantile(0.5),
            p99_ns: sum.value_at_quantile(0.99),
            max_ns: sum.max(),
        })
    }
}

/// A row as it is reported.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Name in the plan.
    pub(crate) name: String,
    /// Where packets came from.
    pub(crate) source: SourceKind,
    /// Where they went.
    pub(crate) sink: SinkKind,
    /// MTU, bytes.
    pub(crate) mtu: u16,
    /// What crossed the veth.
    pub(crate) units: Units,
    /// What the plan asks for.
    pub(crate) rate: Rate,
    /// Goodput, Gbit/s at the IP layer of what the sink really took: median of the repeats.
    pub(crate) gbps: Option<f64>,
    /// The same in millions of packets a second.
    pub(crate) mpps: Option<f64>,
    /// What the source offered, Gbit/s: median.
    pub(crate) offered_gbps: Option<f64>,
    /// Part of what was sent that was not taken, over all repeats.
    pub(crate) loss: Option<f64>,
    /// Packets without a fate in the worst repeat; `null` where there are no packets to count.
    pub(crate) unaccounted: Option<i64>,
    /// Seconds of work of all cores for a Gbit taken.
    pub(crate) cpu_s_per_gbit: Option<f64>,
    /// Of those, the source's core and the sink's.
    pub(crate) cpu_s_per_gbit_source: Option<f64>,
    /// See above.
    pub(crate) cpu_s_per_gbit_sink: Option<f64>,
    /// Goodput of every repeat, Gbit/s.
    pub(crate) repeats: Vec<f64>,
    /// Their median, smallest and largest.
    pub(crate) median: Option<f64>,
    /// See above.
    pub(crate) min: Option<f64>,
    /// See above.
    pub(crate) max: Option<f64>,
    /// Packets sent and taken over all repeats.
    pub(crate) sent: u64,
    /// See above.
    pub(crate) taken: u64,
    /// Packets not taken over all repeats, by reason.
    pub(crate) reasons: BTreeMap<&'static str, u64>,
    /// How well the schedule was kept, where there was one.
    pub(crate) precision: Option<Precision>,
    /// Whether the figures mean anything.
    pub(crate) valid: bool,
    /// Why not.
    pub(crate) why: Option<String>,
}

impl Row {
    /// A row without trials.
    pub(crate) fn new(plan: RowPlan, rate_bps: Option<u64>) -> Self {
        Self {
            plan,
            rate_bps,
            trials: Vec::new(),
            failure: None,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    /// What it measures.
    pub(crate) fn plan(&self) -> &RowPlan {
        &self.plan
    }

    /// What is asked of the source, bit/s.
    pub(crate) fn rate_bps(&self) -> Option<u64> {
        self.rate_bps
    }

    /// Adds a trial, or what it failed of. A row that failed once is not tried again.
    pub(crate) fn add(&mut self, trial: anyhow::Result<Trial>) {
        match trial {
            Ok(trial) => self.trials.push(trial),
            Err(error) => self.failure = Some(format!("{error:#}")),
        }
    }

    /// Whether another trial makes sense.
    pub(crate) fn goes_on(&self) -> bool {
        self.failure.is_none()
    }

    /// Goodput of every repeat, Gbit/s.
    pub(crate) fn goodputs(&self) -> Vec<f64> {
        self.trials.iter().map(Trial::gbps).collect()
    }

    /// Loss of every repeat.
    pub(crate) fn losses(&self) -> Vec<f64> {
        self.trials.iter().map(|t| t.account.loss()).collect()
    }

    /// Whether its figures mean anything.
    pub(crate) fn valid(&self) -> bool {
        self.why().is_none()
    }

    fn is_counted(&self) -> bool {
        self.trials.iter().all(|t| t.counted)
    }

    /// The largest error of any repeat: errors of opposite sign must not cancel.
    fn unaccounted(&self) -> Option<i64> {
        let errors = self.trials.iter().map(|t| t.account.unaccounted());
        let worst = errors.max_by_key(|e| e.unsigned_abs());
        worst.filter(|_| self.is_counted())
    }

    fn why(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.clone());
        }
        if self.trials.is_empty() {
            return Some("not run".into());
        }
        match self.unaccounted() {
            Some(n) if n != 0 => Some(format!("{n} packets of one repeat are unaccounted for")),
            _ if self.trials.iter().all(|t| t.bits == 0.0) => Some("nothing was taken".into()),
            _ => None,
        }
    }

    /// All that is known of it.
    pub(crate) fn report(&self) -> Report {
        let mut sum = Account::default();
        self.trials.iter().for_each(|t| sum.add(&t.account));
        let of = |f: fn(&Trial) -> f64| Spread::of(self.trials.iter().map(f).collect());
        let goodput = of(Trial::gbps);
        let gbit = self.trials.iter().map(|t| t.bits).sum::<f64>() / 1e9;
        let cost = |work: &dyn Fn(&Trial) -> f64| {
            let seconds: f64 = self.trials.iter().map(work).sum();
            (gbit > 0.0).then(|| seconds / gbit)
        };
        let counted = self.is_counted() && !self.trials.is_empty();
        let median = goodput.as_ref().map(|g| g.median);
        Report {
            name: self.plan.name.clone(),
            source: self.plan.source,
            sink: self.plan.sink,
            mtu: self.plan.mtu,
            units: self.plan.units,
            rate: self.plan.rate,
            gbps: median,
            mpps: of(|t| t.account.taken as f64 / t.seconds / 1e6)
                .filter(|_| counted)
                .map(|s| s.median),
            offered_gbps: of(Trial::offered_gbps)
                .filter(|_| counted)
                .map(|s| s.median),
            loss: counted.then(|| sum.loss()),
            unaccounted: self.unaccounted(),
            cpu_s_per_gbit: cost(&|t| t.work.total()),
            cpu_s_per_gbit_source: cost(&|t| t.work.core(SOURCE_CORE)),
            cpu_s_per_gbit_sink: cost(&|t| t.work.core(SINK_CORE)),
            repeats: self.goodputs(),
            median,
            min: goodput.as_ref().map(|g| g.min),
            max: goodput.as_ref().map(|g| g.max),
            sent: sum.sent,
            taken: sum.taken,
            reasons: sum.reasons,
            precision: self.precision(),
            valid: self.valid(),
            why: self.why(),
        }
    }

    fn precision(&self) -> Option<Precision> {
        let all = || self.trials.iter().filter_map(|t| t.pacing.as_ref());
        Some(Precision {
            late: Quantiles::of(all().map(|p| &p.late))?,
            gap_error: Quantiles::of(all().map(|p| &p.gap_errors))?,
        })
    }

    /// A row with these goodputs, for tests of what depends on it.
    #[cfg(test)]
    pub(crate) fn sample(name: &str, gbps: &[f64], unaccounted: u64) -> Self {
        let plan = format!(
            "name = '{name}'\nsource = 'uring'\nsink = 'count'\nmtu = 1500\nrate = 'max'\n"
        );
        let mut row = Self::new(toml::from_str(&plan).unwrap(), None);
        for gbps in gbps {
            row.add(Ok(Trial {
                account: Account {
                    sent: 100 + unaccounted,
                    taken: 100,
                    ..Account::default()
                },
                counted: true,
                bits: gbps * 1e9,
                seconds: 1.0,
                sending: 1.0,
                work: crate::cpu::Work(vec![gbps * 0.1, gbps * 0.05]),
                pacing: None,
            }));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reports_medians_and_what_a_gbit_costs() {
        let report = Row::sample("a", &[8.0, 10.0, 9.0], 0).report();
        assert_eq!(
            (report.gbps, report.min, report.max),
            (Some(9.0), Some(8.0), Some(10.0))
        );
        assert!((report.cpu_s_per_gbit.unwrap() - 0.15).abs() < 1e-9);
        assert!((report.cpu_s_per_gbit_sink.unwrap() - 0.05).abs() < 1e-9);
        assert_eq!(
            (report.valid, report.unaccounted, report.loss),
            (true, Some(0), Some(0.0))
        );
    }

    #[test]
    fn one_packet_too_many_makes_a_row_invalid() {
        let row = Row::sample("a", &[8.0], 1);
        assert!(!row.valid());
        let report = row.report();
        assert_eq!(report.unaccounted, Some(1));
        assert!(report.why.unwrap().contains("1 packets"));
    }

    #[test]
    fn errors_of_two_repeats_do_not_cancel() {
        let mut row = Row::sample("a", &[8.0], 2);
        let mut other = row.trials[0].clone();
        other.account.sent = 98;
        row.add(Ok(other));
        assert_eq!(row.unaccounted().map(i64::abs), Some(2));
        assert!(!row.valid());
    }

    #[test]
    fn a_row_that_failed_or_was_not_run_says_so() {
        let empty = Row::sample("a", &[], 0);
        assert_eq!(empty.report().why.as_deref(), Some("not run"));
        let mut failed = Row::sample("a", &[8.0], 0);
        failed.add(Err(anyhow::anyhow!("no such thing")));
        assert!(!failed.valid() && !failed.goes_on());
        assert_eq!(failed.report().why.as_deref(), Some("no such thing"));
    }
}
