//! What a trial cost: the time that cores were not idle, whoever used it. Over veth the sender's core
//! also carries what a network card would do, so all cores are charged, interrupts included.

use anyhow::{Context, Result};
use serde::Serialize;

/// Ticks of a second in `/proc/stat`: fixed by the kernel's interface to user space (`USER_HZ`) on every
/// architecture that Linux supports except Alpha.
const TICKS: f64 = 100.0;
/// Columns of a line that are work: user, nice, system, irq, softirq. Left out: idle, iowait, and steal,
/// which is work of other machines.
const WORK: [usize; 5] = [0, 1, 2, 5, 6];

/// Ticks of work of each core since boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(Vec<u64>);

/// Seconds of work of each core between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Work(pub(crate) Vec<f64>);

impl Snapshot {
    /// Reads the kernel's counters.
    pub(crate) fn take() -> Result<Self> {
        let text = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        parse(&text).context("/proc/stat has no line of a core")
    }

    /// Work since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Work {
        let each = self.0.iter().zip(&earlier.0);
        Work(
            each.map(|(now, then)| now.saturating_sub(*then) as f64 / TICKS)
                .collect(),
        )
    }
}

impl Work {
    /// Of all cores together.
    pub(crate) fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// How many cores there are, at least one.
    pub(crate) fn cores(&self) -> usize {
        self.0.len().max(1)
    }

    /// Of one core; 0 of a core that is not there.
    pub(crate) fn core(&self, core: usize) -> f64 {
        self.0.get(core).copied().unwrap_or(0.0)
    }
}

fn parse(text: &str) -> Option<Snapshot> {
    let cores = text.lines().filter(|line| {
        let name = line.split(' ').next().unwrap_or("");
        name.strip_prefix("cpu").is_some_and(|n| !n.is_empty())
    });
    let ticks = |line: &str| -> Option<u64> {
        let columns: Vec<u64> = line
            .split_ascii_whitespace()
            .skip(1)
            .map_while(|n| n.parse().ok())
            .collect();
        WORK.iter().map(|at| columns.get(*at)).sum()
    };
    let all: Option<Vec<u64>> = cores.map(ticks).collect();
    all.filter(|all| !all.is_empty()).map(Snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_steal_are_not_work_and_the_sum_of_cores_is_not_a_core() {
        let before = parse("cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 400 500 6 7 800 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n").unwrap();
        assert_eq!(before, Snapshot(vec![19, 0]));
        let after =
            parse("cpu0 101 2 3 999 999 6 7 999 0 0\ncpu1 0 0 50 9 9 0 50 9 0 0\n").unwrap();
        let work = after.since(&before);
        assert_eq!(work, Work(vec![1.0, 1.0]));
        assert_eq!((work.total(), work.core(1), work.core(2)), (2.0, 1.0, 0.0));
        assert_eq!((work.cores(), Work::default().cores()), (2, 1));
    }

    #[test]
    fn what_is_not_proc_stat_is_refused() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("cpu0 1 2 3\n"), None);
    }

    #[test]
    fn this_machine_has_cores() {
        assert!(!Snapshot::take().unwrap().0.is_empty());
    }
}
