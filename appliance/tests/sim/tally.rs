//! What happened, counted over all runs.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of one run or many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) blocks: u64,
    pub(crate) transactions: u64,
    pub(crate) reverted: u64,
    /// Transactions not sent because the newest block would refuse them.
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) crashes: u64,
    /// By depth, from 1.
    pub(crate) reorgs: BTreeMap<usize, u64>,
    /// Transactions of vanished blocks that nobody put back.
    pub(crate) forgotten: u64,
    pub(crate) forgeries: u64,
    /// Honest jurors that were down and paid for their silence.
    pub(crate) crashed_silent_jurors: u64,
    pub(crate) paid_reports: u64,
    /// Measurements by state and verdict, disputes by ruling, slashes by offence.
    pub(crate) outcomes: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn reorg(&mut self, depth: usize) {
        *self.reorgs.entry(depth).or_default() += 1;
    }

    pub(crate) fn outcome(&mut self, what: String) {
        *self.outcomes.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.blocks += other.blocks;
        self.transactions += other.transactions;
        self.reverted += other.reverted;
        self.refused += other.refused;
        self.lost += other.lost;
        self.crashes += other.crashes;
        self.forgotten += other.forgotten;
        self.forgeries += other.forgeries;
        self.crashed_silent_jurors += other.crashed_silent_jurors;
        self.paid_reports += other.paid_reports;
        for (depth, count) in other.reorgs {
            *self.reorgs.entry(depth).or_default() += count;
        }
        for (what, count) in other.outcomes {
            *self.outcomes.entry(what).or_default() += count;
        }
    }

    /// Kinds of events that never happened: a simulation without them proves nothing about them.
    pub(crate) fn never(&self) -> Vec<String> {
        let counts = [
            ("a lost message", self.lost),
            ("a crash", self.crashes),
            (
                "a transaction forgotten in a reorganisation",
                self.forgotten,
            ),
            ("a reverted transaction", self.reverted),
            ("a refused forgery", self.forgeries),
            ("a paid report", self.paid_reports),
        ];
        let mut never: Vec<String> = counts
            .iter()
            .filter(|c| c.1 == 0)
            .map(|c| c.0.to_owned())
            .collect();
        for depth in 1..=crate::ledger::DEPTH {
            if !self.reorgs.contains_key(&depth) {
                never.push(format!("a reorganisation of depth {depth}"));
            }
        }
        for what in OUTCOMES {
            if !self.outcomes.contains_key(what) {
                never.push(what.to_owned());
            }
        }
        never
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "runs {}, blocks {}, transactions {} ({} reverted, {} refused before), lost messages {}, \
             crashes {}, reorganisations by depth {:?} ({} transactions forgotten), forgeries refused {}, \
             paid reports {}, honest jurors down and slashed {}; {:?}",
            self.runs,
            self.blocks,
            self.transactions,
            self.reverted,
            self.refused,
            self.lost,
            self.crashes,
            self.reorgs,
            self.forgotten,
            self.forgeries,
            self.paid_reports,
            self.crashed_silent_jurors,
            self.outcomes
        )
    }
}

/// Ends that a whole run of the simulator must have seen.
const OUTCOMES: [&str; 14] = [
    "measurement: final, pass",
    "measurement: final, fail",
    "measurement: final, inconclusive",
    "measurement: final, annulled",
    "measurement: timed out",
    "measurement: cancelled",
    "dispute: upheld",
    "dispute: rejected",
    "dispute: unavailable",
    "slash: two commits",
    "slash: two reports",
    "slash: judged evidence",
    "slash: minority juror",
    "slash: silent juror",
];
