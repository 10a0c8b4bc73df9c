//! What is measured, as data: `plans/quick.toml`, `plans/full.toml`, or a file of one's own.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// The plan that is run without `--full`: at most two minutes.
pub(crate) const QUICK: &str = include_str!("../plans/quick.toml");
/// The plan of `--full`.
pub(crate) const FULL: &str = include_str!("../plans/full.toml");
/// The plan of `--bindings`.
pub(crate) const BINDINGS: &str = include_str!("../plans/bindings.toml");

/// Longest trial, seconds: packets are made ahead and lie in memory, 1.3 GB for a second at 10 Gbit/s.
const LONGEST: f64 = 5.0;

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SourceKind {
    /// The product's generator: io_uring and `UDP_SEGMENT`.
    Uring,
    /// XDP live frames: made inside the kernel, without socket buffers.
    Live,
    /// The product's AF_XDP transmitter.
    AfXdp,
    /// iperf3's own.
    Iperf3,
}

/// Where packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SinkKind {
    /// The product's receiver and the proof's tally: tag, caps, digest of every byte, leaf table.
    Verified,
    /// The same through xsk-rs, where the build has it.
    VerifiedXskRs,
    /// The product's receiver and a sink that refuses every packet unread: the AF_XDP path alone.
    Count,
    /// An XDP program that only drops.
    Drop,
    /// `recvmmsg`, then `blake3::hash` of each packet.
    RecvmmsgHash,
    /// The same with `UDP_GRO`.
    RecvmmsgGro,
    /// io_uring, multishot `recvmsg` into provided buffers, then `blake3::hash` of each packet.
    UringMultishot,
    /// `AF_PACKET`, `TPACKET_V3`, then `blake3::hash` of each packet.
    AfPacket,
    /// A real iperf3, UDP.
    Iperf3Udp,
    /// A real iperf3, TCP.
    Iperf3Tcp,
}

/// How fast a source sends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Rate {
    /// As fast as it can.
    Word(Max),
    /// This share of the found maximum.
    Share(f64),
}

/// The word for as fast as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Max {
    /// No pace.
    Max,
}

/// What crosses the veth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Units {
    /// Packets, one by one, as over a wire.
    #[default]
    Packets,
    /// The sender's uncut super-packets of up to 64 KiB, which only a veth can carry.
    Super,
}

/// One line of the result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RowPlan {
    /// Its name.
    pub(crate) name: String,
    /// Where packets come from.
    pub(crate) source: SourceKind,
    /// Where they go.
    pub(crate) sink: SinkKind,
    /// MTU of the veth, bytes.
    pub(crate) mtu: u16,
    /// How fast.
    pub(crate) rate: Rate,
    /// What crosses the veth.
    #[serde(default)]
    pub(crate) units: Units,
    /// How long each trial sends, seconds; the plan's, unless given.
    pub(crate) seconds: Option<f64>,
    /// How many trials; the plan's, unless given.
    pub(crate) repeats: Option<usize>,
}

/// The search for the highest rate without loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchPlan {
    /// How long each trial sends, seconds.
    pub(crate) seconds: f64,
    /// It ends when the bounds are this close, as a part of the upper one.
    pub(crate) resolution: f64,
}

/// The commitments.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommitPlan {
    /// How many phases.
    pub(crate) phases: usize,
    /// How long each lasts, milliseconds.
    pub(crate) duration_ms: u32,
    /// At which share of the found maximum.
    pub(crate) share: f64,
}

/// Loops without packets on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MicroPlan {
    /// Interleaved rounds of the hashing loops.
    pub(crate) rounds: usize,
    /// Interleaved rounds of verification against raw work.
    pub(crate) verify_rounds: usize,
    /// Claim of the proof whose bundle is verified, bit/s; its phase lasts 100 ms.
    pub(crate) verify_claim_bps: u64,
}

/// A whole plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// How long each trial sends, seconds.
    pub(crate) seconds: f64,
    /// How many trials of each row; they are interleaved.
    pub(crate) repeats: usize,
    /// Whether the cost of each stage is measured as well.
    #[serde(default)]
    pub(crate) stages: bool,
    /// Needed by rows and commitments at a share of the found maximum.
    pub(crate) search: Option<SearchPlan>,
    /// Left out, no commitments are measured.
    pub(crate) commit: Option<CommitPlan>,
    /// Left out, no loops are measured.
    pub(crate) micro: Option<MicroPlan>,
    /// The rows.
    #[serde(rename = "row", default)]
    pub(crate) rows: Vec<RowPlan>,
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// It is not TOML of this shape, or contradicts itself; says where.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let plan: Self = toml::from_str(text).context("the plan cannot be read")?;
        plan.check()?;
        Ok(plan)
    }

    /// Seconds of a row's trials.
    pub(crate) fn seconds(&self, row: &RowPlan) -> f64 {
        row.seconds.unwrap_or(self.seconds)
    }

    /// Trials of a row.
    pub(crate) fn repeats(&self, row: &RowPlan) -> usize {
        row.repeats.unwrap_or(self.repeats)
    }

    /// Keeps only the rows named; loops and commitments are then left out unless named too (`micro`,
    /// `commit`).
    ///
    /// # Errors
    /// A name that is neither.
    pub(crate) fn only(mut self, names: &[String]) -> Result<Self> {
        for name in names {
            let known = ["micro", "commit"].contains(&name.as_str())
                || self.rows.iter().any(|row| row.name == *name);
            if !known {
                let rows: Vec<_> = self.rows.iter().map(|row| row.name.as_str()).collect();
                bail!(
                    "--only {name}: the plan has no such row; it has micro, commit, {}",
                    rows.join(", ")
                );
            }
        }
        let named = |name: &str| names.iter().any(|n| n == name);
        self.rows.retain(|row| named(&row.name));
        self.micro = self.micro.filter(|_| named("micro"));
        self.commit = self.commit.filter(|_| named("commit"));
        Ok(self)
    }

    /// Whether anything needs the found maximum.
    pub(crate) fn needs_maximum(&self) -> bool {
        let share = |row: &RowPlan| matches!(row.rate, Rate::Share(_));
        self.commit.is_some() || self.rows.iter().any(share)
    }

    fn check(&self) -> Result<()> {
        let seconds = |s: f64| s > 0.0 && s <= LONGEST;
        let share = |s: f64| s > 0.0 && s <= 2.0;
        let mut names = BTreeSet::new();
        if !seconds(self.seconds) || self.repeats == 0 {
            bail!("plan: seconds must be above 0 and at most {LONGEST}, repeats at least 1");
        }
        for row in &self.rows {
            let name = &row.name;
            if !names.insert(name) {
                bail!("plan, row {name}: another row has this name");
            }
            if !seconds(self.seconds(row)) || self.repeats(row) == 0 {
                bail!(
                    "plan, row {name}: seconds must be above 0 and at most {LONGEST}, repeats at least 1"
                );
            }
            if ![1500, 9000].contains(&row.mtu) {
                bail!("plan, row {name}: mtu = {}: 1500 or 9000", row.mtu);
            }
            if let Rate::Share(s) = row.rate
                && !share(s)
            {
                bail!("plan, row {name}: rate = {s}: \"max\", or a share above 0 and at most 2");
            }
            let own = matches!(row.sink, SinkKind::Iperf3Udp | SinkKind::Iperf3Tcp);
            if own != (row.source == SourceKind::Iperf3) {
                bail!("plan, row {name}: iperf3 is its own source, and no other sink's");
            }
            if own && row.rate != Rate::Word(Max::Max) {
                bail!("plan, row {name}: iperf3 is run as fast as it can: rate = \"max\"");
            }
        }
        if self.needs_maximum() && self.search.is_none() {
            bail!("plan: a share of the found maximum is asked for, and there is no [search]");
        }
        if let Some(search) = self.search
            && !(seconds(search.seconds) && search.resolution > 0.0 && search.resolution < 1.0)
        {
            bail!(
                "plan, search: seconds above 0 and at most {LONGEST}, resolution between 0 and 1"
            );
        }
        if let Some(commit) = self.commit
            && !(commit.phases > 0
                && share(commit.share)
                && (10..=1000).contains(&commit.duration_ms))
        {
            bail!(
                "plan, commit: phases at least 1, share above 0 and at most 2, duration_ms 10 to 1000"
            );
        }
        if let Some(micro) = self.micro
            && (micro.rounds == 0 || micro.verify_rounds == 0 || micro.verify_claim_bps == 0)
        {
            bail!("plan, micro: rounds, verify_rounds and verify_claim_bps at least 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "name = 'a'\nsource = 'uring'\nsink = 'count'\nmtu = 1500\nrate = 'max'\n";

    fn plan(head: &str, row: &str) -> Result<Plan> {
        Plan::parse(&format!("{head}\n[[row]]\n{row}"))
    }

    #[test]
    fn the_committed_plans_are_whole() {
        for text in [QUICK, FULL] {
            let plan = Plan::parse(text).unwrap();
            for needed in ["verified", "count", "recvmmsg-hash", "iperf3-udp"] {
                assert!(plan.rows.iter().any(|row| row.name == needed), "{needed}");
            }
            assert!(plan.commit.is_some_and(|c| c.phases >= 100));
        }
    }

    #[test]
    fn both_sides_of_each_boundary() {
        let good = "seconds = 0.5\nrepeats = 1";
        assert!(plan(good, ROW).is_ok());
        assert!(plan("seconds = 5.0\nrepeats = 1", ROW).is_ok());
        assert!(plan("seconds = 5.1\nrepeats = 1", ROW).is_err());
        assert!(plan("seconds = 0.0\nrepeats = 1", ROW).is_err());
        assert!(plan("seconds = 0.5\nrepeats = 0", ROW).is_err());
        assert!(plan(good, &ROW.replace("1500", "9000")).is_ok());
        assert!(plan(good, &ROW.replace("1500", "1501")).is_err());
        assert!(plan(good, &ROW.replace("'max'", "'fast'")).is_err());
        let paced = ROW.replace("'max'", "0.9");
        assert!(plan(good, &paced).is_err(), "without a search");
        let search = |resolution: &str| {
            format!("{paced}[search]\nseconds = 0.1\nresolution = {resolution}\n")
        };
        assert!(plan(good, &search("0.02")).is_ok());
        assert!(plan(good, &search("1.0")).is_err());
        assert!(plan(good, &search("0.02").replace("0.9", "2.0")).is_ok());
        assert!(plan(good, &search("0.02").replace("0.9", "2.1")).is_err());
        assert!(plan(good, &ROW.replace("'uring'", "'iperf3'")).is_err());
        assert!(
            plan(good, &format!("{ROW}[[row]]\n{ROW}")).is_err(),
            "same name"
        );
        assert!(
            plan(good, &format!("{ROW}colour = 'red'\n")).is_err(),
            "unknown key"
        );
    }

    #[test]
    fn only_what_is_named_stays() {
        let all = Plan::parse(QUICK).unwrap();
        let two = all
            .clone()
            .only(&["count".into(), "verified".into()])
            .unwrap();
        assert_eq!(two.rows.len(), 2);
        assert!(two.micro.is_none() && two.commit.is_none() && !two.needs_maximum());
        let micro = all.clone().only(&["micro".into()]).unwrap();
        assert!(micro.rows.is_empty() && micro.micro.is_some());
        let error = all.only(&["nobody".into()]).unwrap_err().to_string();
        assert!(
            error.contains("nobody") && error.contains("recvmmsg-hash"),
            "{error}"
        );
    }
}
