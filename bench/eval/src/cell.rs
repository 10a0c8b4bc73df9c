//! One cell of a table: what link, how many, how long, who misbehaves.

use std::fmt;
use std::time::Duration;

use plumbline_lab::{Shape, Switch};
use serde::{Deserialize, Serialize};

/// Packet of the measurements, bytes of IP layer.
pub(crate) const PACKET: u16 = 1500;

/// The name of no attack.
pub(crate) const NONE: &str = "none";

/// Bits a second in a Mbit/s.
const MBIT: u64 = 1_000_000;

/// A table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Table {
    /// Rate, hosts, duration, round trip: how far from the truth.
    Accuracy,
    /// Every attack and what it met.
    Attacks,
    /// How many corrupt, by which attack.
    Corruption,
    /// A link that is fast for a moment.
    Shaper,
    /// A link that others use too.
    Cross,
}

impl Table {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 5] = [
        Self::Accuracy,
        Self::Attacks,
        Self::Corruption,
        Self::Shaper,
        Self::Cross,
    ];

    /// Its name in the report and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Attacks => "attacks",
            Self::Corruption => "corruption",
            Self::Shaper => "shaper",
            Self::Cross => "cross",
        }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cell {
    pub(crate) table: Table,
    /// What the link carries in the long run, Mbit/s of IP layer.
    pub(crate) mbit: u64,
    /// Challengers.
    pub(crate) n: u8,
    /// Of whom so many may be, and where there is an attack are, corrupt.
    pub(crate) f: u8,
    /// Nominal duration.
    pub(crate) duration_ms: u32,
    /// Round trip of the wire; 0: a bare cable.
    pub(crate) rtt_ms: u32,
    /// An attack's name, or [`NONE`].
    pub(crate) attack: String,
    /// Bytes of a token bucket and the Mbit/s at which it drains, which is what is claimed.
    pub(crate) bucket: Option<(u32, u64)>,
    /// Part of the link that others use.
    pub(crate) cross_percent: u8,
    /// Threads that do nothing but be busy, on every core.
    pub(crate) busy: u8,
    /// The machine need not be able to offer, carry and receive it: that it could not is told, and no fault.
    pub(crate) may_starve: bool,
}

/// Where a cell can be measured: cells of one site share a standing lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site {
    /// Round trip of the wire.
    pub(crate) rtt_ms: u32,
    /// Challengers.
    pub(crate) n: u8,
}

impl Cell {
    /// A cell without anything special.
    pub(crate) fn new(table: Table, mbit: u64, n: u8, f: u8) -> Self {
        Self {
            table,
            mbit,
            n,
            f,
            duration_ms: 100,
            rtt_ms: 0,
            attack: NONE.to_owned(),
            bucket: None,
            cross_percent: 0,
            busy: 0,
            may_starve: false,
        }
    }

    /// Where it is measured.
    pub(crate) fn site(&self) -> Site {
        Site {
            rtt_ms: self.rtt_ms,
            n: self.n,
        }
    }

    /// What is claimed, bit/s.
    pub(crate) fn claim_bps(&self) -> u64 {
        self.bucket.map_or(self.mbit, |(_, peak)| peak) * MBIT
    }

    /// The link. A path that is the attack makes its own.
    pub(crate) fn shape(&self, switch: Option<&Switch>) -> Shape {
        match (switch, self.bucket) {
            (Some(switch), _) => switch.shape(self.claim_bps(), PACKET),
            (None, Some((bytes, peak))) => {
                Shape::bucket(self.mbit * MBIT, bytes, peak * MBIT, PACKET)
            }
            (None, None) => Shape::ip_layer(self.mbit * MBIT, PACKET),
        }
    }

    /// Other people's traffic, bit/s.
    pub(crate) fn cross_bps(&self) -> Option<u64> {
        let bps = self.mbit * MBIT * u64::from(self.cross_percent) / 100;
        (bps > 0).then_some(bps)
    }

    /// Nominal duration.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms.into())
    }

    /// Its name in the state file: different for different cells.
    pub(crate) fn key(&self) -> String {
        format!("{} {self}", self.table.name())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mbit,
            n,
            duration_ms,
            rtt_ms,
            ..
        } = self;
        write!(f, "{mbit} Mbit/s, n={n} f={}, {duration_ms} ms", self.f)?;
        if *rtt_ms > 0 {
            write!(f, ", RTT {rtt_ms} ms")?;
        }
        if self.attack != NONE {
            write!(f, ", {}", self.attack)?;
        }
        if let Some((bytes, peak)) = self.bucket {
            write!(f, ", bucket {bytes} B at {peak} Mbit/s")?;
        }
        if self.cross_percent > 0 {
            write!(f, ", {} % used by others", self.cross_percent)?;
        }
        if self.busy > 0 {
            write!(f, ", every core busy with {} more", self.busy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::{FULL, Plan};

    #[test]
    fn every_cell_has_a_key_of_its_own() {
        let attacks = ["rush".to_owned(), "withhold".to_owned()];
        let cells = Plan::parse(FULL).unwrap().cells(&attacks);
        let keys: BTreeSet<String> = cells.iter().map(|(cell, _)| cell.key()).collect();
        assert_eq!(keys.len(), cells.len());
    }

    #[test]
    fn a_bucket_is_claimed_by_its_peak_and_true_by_its_rate() {
        let mut cell = Cell::new(Table::Shaper, 100, 4, 1);
        assert_eq!((cell.claim_bps(), cell.cross_bps()), (100 * MBIT, None));
        cell.bucket = Some((1_250_000, 500));
        assert_eq!(cell.claim_bps(), 500 * MBIT);
        assert_eq!(cell.shape(None).ip_layer_bps(PACKET), 100 * MBIT);
        assert!(cell.to_string().contains("bucket 1250000 B at 500 Mbit/s"));
        cell.cross_percent = 30;
        assert_eq!(cell.cross_bps(), Some(30 * MBIT));
        cell.busy = 2;
        assert!(cell.to_string().ends_with("busy with 2 more"));
    }
}
