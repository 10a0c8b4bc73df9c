//! Every packet's fate, added up from two independent counts: the product's and the lab's.
//!
//! ```text
//!  sent + control sent = verified + Σ reasons + control received + path drops + unaccounted
//!                        └──── the prover's counters ────────┘    └ the lab's ┘
//! ```
//!
//! Control datagrams (probes, acknowledgements) share the shaped link with data, so the lab's drops
//! may be theirs: both ends count them, and they stand on both sides. So does other people's traffic, and so does what
//! a challenger handed over by another way: it was never sent over the path, whoever counts it says that it sent it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::cross::CrossCount;

/// Every packet's fate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Data packets that challengers gave to the kernel.
    pub sent: u64,
    /// Counted and hashed.
    pub verified: u64,
    /// Arrived and not counted, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Probes and acknowledgements sent by challengers.
    pub control_sent: u64,
    /// Of which arrived.
    pub control_received: u64,
    /// Lost on the path: the lab's own counters.
    pub path_dropped: u64,
    /// Other people's packets on the same path.
    pub cross_sent: u64,
    /// Of which arrived, read or not.
    pub cross_arrived: u64,
}

impl Account {
    /// Adds up `packets` of what `plumbline measure --json` reports and what the lab counted.
    ///
    /// Of the XDP program's fates only drops are losses: what it redirected is counted further on,
    /// and what it passed on to the kernel was no data packet. An empty fill ring shows as drops too.
    #[must_use]
    pub fn new(packets: &Map<String, Value>, path_dropped: u64) -> Self {
        let mut account = Self {
            path_dropped,
            ..Self::default()
        };
        for (name, value) in packets {
            match (name.as_str(), value) {
                ("sent", value) => account.sent = number(value),
                ("verified", value) => account.verified = number(value),
                ("control_sent", value) => account.control_sent = number(value),
                ("control_received", value) => account.control_received = number(value),
                ("xdp", Value::Object(fates)) => {
                    let drops = fates
                        .iter()
                        .filter(|(fate, _)| fate.to_lowercase().starts_with("dropped"));
                    account
                        .reasons
                        .extend(drops.map(|(fate, value)| (format!("xdp_{fate}"), number(value))));
                }
                ("uplink", Value::Object(fates)) => {
                    let fates = fates.iter();
                    account
                        .reasons
                        .extend(fates.map(|(name, value)| (name.clone(), number(value))));
                }
                ("xsk", Value::Object(drops)) => {
                    let drops = drops.iter().filter(|(name, _)| *name != "fill_ring_empty");
                    account
                        .reasons
                        .extend(drops.map(|(name, value)| (format!("xsk_{name}"), number(value))));
                }
                (_, value) => {
                    account.reasons.insert(name.clone(), number(value));
                }
            }
        }
        account
    }

    /// The same with the other traffic that shared the path: what it lost is among the lab's drops.
    #[must_use]
    pub fn beside(mut self, cross: &CrossCount) -> Self {
        self.cross_sent = cross.sent;
        self.cross_arrived = cross.received + cross.socket_dropped;
        self
    }

    /// Packets without a fate; negative if some have two.
    #[must_use]
    pub fn unaccounted(&self) -> i128 {
        let fates = self.verified
            + self.reasons.values().sum::<u64>()
            + self.control_received
            + self.cross_arrived
            + self.path_dropped;
        let sent = self.sent + self.control_sent + self.cross_sent;
        i128::from(sent) - i128::from(fates)
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_packet_more_or_less_on_the_path_is_unaccounted() {
        let packets = json!({
            "sent": 1000, "verified": 800, "over_cap": 50, "late": 40, "duplicate": 3, "bad_tag": 2,
            "malformed": 1, "out_of_range": 0,
            "xdp": {"redirected": 896, "passed_not_ip": 7, "dropped_not_consented": 4},
            "xsk": {"rx_dropped": 5, "rx_ring_full": 1, "rx_invalid_descs": 0, "fill_ring_empty": 9},
            "control_sent": 60, "control_received": 55
        });
        // 1000 + 60 = 800 + 50 + 40 + 3 + 2 + 1 + 4 + 5 + 1 + 55 + 99
        let account = |path| Account::new(packets.as_object().unwrap(), path).unaccounted();
        assert_eq!((account(98), account(99), account(100)), (1, 0, -1));
    }
}
