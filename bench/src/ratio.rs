//! The ratios that promises are made of. Absolute figures say more about the machine than about the
//! product; each ratio here compares two things measured side by side in one run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::row::Row;
use crate::stat::Spread;

/// Rows whose goodput is divided, round by round: key, over, under.
const OF_ROWS: [(&str, &str, &str); 8] = [
    ("verified_vs_count", "verified", "count"),
    ("verified_vs_ceiling", "verified", "drop"),
    ("vs_iperf3_udp", "verified", "iperf3-udp"),
    ("live_vs_iperf3_udp", "verified-live", "iperf3-udp"),
    ("vs_recvmmsg_hash", "verified", "recvmmsg-hash"),
    ("live_vs_recvmmsg_hash", "verified-live", "recvmmsg-hash"),
    ("jumbo_vs_1500", "verified-jumbo", "verified"),
    ("live_verified_vs_ceiling", "verified-live", "drop-live"),
];

/// Ratios by key; those that were not measured have no value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ratios(BTreeMap<&'static str, Spread>);

impl Ratios {
    /// All keys, in the order in which they are shown.
    pub(crate) const KEYS: [&str; 13] = [
        "lanes_vs_naive",
        "lanes_vs_long",
        "verified_vs_count",
        "verified_vs_ceiling",
        "live_verified_vs_ceiling",
        "vs_iperf3_udp",
        "live_vs_iperf3_udp",
        "vs_recvmmsg_hash",
        "live_vs_recvmmsg_hash",
        "jumbo_vs_1500",
        "loss_at_90",
        "commit_p99_us",
        "verify_vs_raw",
    ];

    /// Sets a ratio from the values of its rounds; no value, or one that is no number, leaves it unset.
    pub(crate) fn set(&mut self, key: &'static str, rounds: Vec<f64>) {
        debug_assert!(Self::KEYS.contains(&key));
        if let Some(spread) = Spread::of(rounds) {
            self.0.insert(key, spread);
        }
    }

    /// Sets all ratios of rows. A row that is not valid gives none: its figures mean nothing.
    pub(crate) fn set_rows(&mut self, rows: &[Row]) {
        let find = |name: &str| rows.iter().find(|row| row.name() == name && row.valid());
        for (key, over, under) in OF_ROWS {
            if let (Some(over), Some(under)) = (find(over), find(under))
                && let Some(spread) = Spread::ratio(&over.goodputs(), &under.goodputs())
            {
                self.0.insert(key, spread);
            }
        }
        if let Some(row) = find("verified-90") {
            // The worst round, not the median: nothing may be lost.
            let worst = row.losses().into_iter().fold(0.0, f64::max);
            self.set("loss_at_90", vec![worst]);
        }
    }

    /// The median of a ratio.
    pub(crate) fn value(&self, key: &str) -> Option<f64> {
        self.0.get(key).map(|spread| spread.median)
    }

    /// A ratio with its spread.
    pub(crate) fn spread(&self, key: &str) -> Option<&Spread> {
        self.0.get(key)
    }
}

impl Serialize for Ratios {
    /// All keys: the median, or null where it was not measured.
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(Self::KEYS.map(|key| (key, self.value(key))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_written_and_only_measured_ones_have_a_value() {
        let mut ratios = Ratios::default();
        ratios.set("verify_vs_raw", vec![0.5, 0.7, 0.6]);
        ratios.set("commit_p99_us", vec![]);
        let json = serde_json::to_value(&ratios).unwrap();
        assert_eq!(json.as_object().unwrap().len(), Ratios::KEYS.len());
        assert_eq!(json["verify_vs_raw"], 0.6);
        assert!(json["commit_p99_us"].is_null());
    }

    #[test]
    fn ratios_of_rows_need_both_rows_valid() {
        let row = |name, values: &[f64], unaccounted| Row::sample(name, values, unaccounted);
        let mut ratios = Ratios::default();
        ratios.set_rows(&[
            row("verified", &[9.0, 8.0], 0),
            row("count", &[10.0, 8.0], 0),
            row("drop", &[10.0, 10.0], 1),
        ]);
        assert_eq!(
            ratios.spread("verified_vs_count").unwrap().values,
            [0.9, 1.0]
        );
        assert_eq!(
            ratios.value("verified_vs_ceiling"),
            None,
            "a row that does not add up"
        );
        assert_eq!(
            ratios.value("vs_iperf3_udp"),
            None,
            "a row that is not there"
        );
    }
}
