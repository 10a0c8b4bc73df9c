//! A result in the words of other tools, from a bundle that was verified.
//!
//! ```text
//!   bundle ─► verify ─► record, judgement ─┬─► tr471: RFC 9097 metrics by the names of TR-471 / TR-181
//!                                          └─► iperf3: what `iperf3 -u --json` prints at its end
//! ```
//! Nothing is invented: what the evidence does not hold (one-way delay, delay variation, a duplicate ratio of
//! the path) is not in the document. What others' formats have no place for (the guaranteed figure, the
//! verdict, the bundle's address) stands under `plumbline`.

use plumbline_proof::backhaul::judge::Judgement;
use plumbline_proof::backhaul::messages::{Accounting, Window};
use plumbline_proof::backhaul::params::{Direction, SLICES, Terms};
use plumbline_proof::backhaul::record::Record;
use plumbline_proof::backhaul::rtt;
use serde_json::{Map, Value, json};

use super::{outcome, uplink};
use crate::ui::results::MeasureResult;

/// Bytes of an Ethernet header.
const ETHERNET: u64 = 14;
/// Bytes of its frame check sequence.
const FCS: u64 = 4;
/// Bytes of a VLAN tag.
const VLAN: u64 = 4;
/// Longest packets that are no jumbo frames, bytes: an MTU of 1500 and a few tags.
const JUMBO: u16 = 1_600;
/// Slices of the prover's arrival histogram that make one sub-interval: a tenth of the duration.
#[allow(clippy::cast_possible_truncation)] // five, on every target
const TENTH: usize = SLICES as usize / 10;

/// RFC 9097 metrics by the names of Broadband Forum TR-471 and TR-181; rates in Mbit/s, times in seconds.
pub fn tr471(record: &Record, judgement: &Judgement, address: &[u8; 32]) -> Value {
    Told::new(record, judgement, address).tr471()
}

/// As iperf3 prints a UDP test with `--json`; rates in bit/s of UDP payload.
pub fn iperf3(record: &Record, judgement: &Judgement, address: &[u8; 32]) -> Value {
    Told::new(record, judgement, address).iperf3()
}

/// What both need.
struct Told<'a> {
    record: &'a Record,
    accounting: Accounting,
    ours: MeasureResult,
    address: String,
}

impl<'a> Told<'a> {
    fn new(record: &'a Record, judgement: &Judgement, address: &[u8; 32]) -> Self {
        let reveal = record.reveal.as_ref();
        Self {
            record,
            accounting: reveal.map_or_else(Accounting::default, |r| r.message.accounting.clone()),
            ours: outcome::from_evidence(record, judgement, address),
            address: format!("0x{}", hex::encode(address)),
        }
    }

    fn terms(&self) -> &Terms {
        &self.record.notice.message.terms
    }

    /// L.
    fn bytes(&self) -> u64 {
        self.terms().packet_bytes.into()
    }

    /// Bytes of UDP payload of a data packet, as iperf3 counts a block.
    fn payload(&self) -> u64 {
        self.terms().size().payload() as u64
    }

    /// B with `more` bytes a packet, Mbit/s.
    fn mbps(&self, more: u64) -> f64 {
        rate(self.ours.measured_bps, self.bytes() + more, self.bytes())
    }

    fn up(&self) -> bool {
        self.terms().direction == Direction::Up
    }

    /// First and last arrival, unix ns of the prover; of an uplink the common window.
    fn arrivals(&self) -> (u64, u64) {
        if self.up() {
            return uplink::span(self.record);
        }
        let commit = self.record.commit.as_ref();
        commit.map_or((0, 0), |c| c.message.arrivals)
    }

    /// What reached the prover's port of what was sent, and what was sent.
    fn delivered(&self) -> (u64, u64) {
        let p = &self.ours.packets;
        let early = p.uplink.get("early").copied().unwrap_or(0);
        (
            outcome::sum([p.verified, p.over_cap, p.late, early].into_iter()),
            p.sent,
        )
    }

    fn loss(&self) -> f64 {
        let (delivered, sent) = self.delivered();
        part(sent.saturating_sub(delivered), sent)
    }

    /// Smallest and largest round trip while packets flowed, ns.
    fn loaded_rtt(&self) -> Option<(u64, u64)> {
        let reports = self.record.reports.iter().flatten();
        let all = reports.flat_map(|r| &r.message.rtts);
        let loaded = all.filter(|s| s.window == Window::During);
        let spans: Vec<u64> = loaded.filter_map(rtt::span_ns).collect();
        Some((*spans.iter().min()?, *spans.iter().max()?))
    }

    /// Smallest round trip of all, ns.
    fn smallest_rtt(&self) -> Option<u64> {
        let reports = self.record.reports.iter().flatten();
        reports.map(|r| r.message.rho_ns).min()
    }

    /// Of each sub-interval: from and to in seconds, packets.
    fn intervals(&self) -> Vec<(f64, f64, u64)> {
        let (step_ns, counts) = self.histogram();
        let step = seconds(step_ns);
        (0_u32..)
            .zip(counts)
            .map(|(at, count)| {
                let from = f64::from(at) * step;
                (from, from + step, count)
            })
            .collect()
    }

    /// Length of a sub-interval in ns, and the packets of each.
    fn histogram(&self) -> (u64, Vec<u64>) {
        if self.up() {
            return uplink::intervals(self.record);
        }
        let tenths = self.accounting.histogram.chunks(TENTH);
        let counts = tenths.map(|slices| slices.iter().map(|c| u64::from(*c)).sum());
        (self.ours.duration_ms * 1_000_000 / 10, counts.collect())
    }

    fn ours(&self) -> Value {
        json!({
            "bundle": self.address,
            "verdict": self.ours.verdict,
            "reason": self.ours.reason,
            "claimed_bps": self.ours.claimed_bps,
            "measured_bps": self.ours.measured_bps,
            "guaranteed_bps": self.ours.guaranteed_bps,
            "trust_curve": self.ours.trust_curve,
            "offered_bps": self.ours.offered_bps,
            "layer1_bps": self.ours.layer1_bps,
            "sub_intervals": if self.up() {
                "arrivals as counted by the challengers: they sum to what each reports"
            } else {
                "arrivals as counted by the prover: inside its commitment's figures, not proven one by one"
            },
        })
    }

    fn tr471(&self) -> Value {
        let (first, last) = self.arrivals();
        let (delivered, sent) = self.delivered();
        let reordered = part(self.accounting.reordered, self.ours.packets.verified);
        let mut at_max = Map::new();
        let mut put = |key: &str, value: Value| at_max.insert(key.to_owned(), value);
        put("MaxIPLayerCapacity", json!(self.mbps(0)));
        put("MaxETHCapacityNoFCS", json!(self.mbps(ETHERNET)));
        put("MaxETHCapacityWithFCS", json!(self.mbps(ETHERNET + FCS)));
        put(
            "MaxETHCapacityWithFCSVLAN",
            json!(self.mbps(ETHERNET + FCS + VLAN)),
        );
        put("LossRatioAtMax", json!(self.loss()));
        put("ReorderedRatioAtMax", json!(reordered));
        put("TimeOfMax", json!(stamp(first)));
        if let Some((min, max)) = self.loaded_rtt() {
            put("RTTMin", json!(seconds(min)));
            put("RTTMax", json!(seconds(max)));
            put("RTTRangeAtMax", json!(seconds(max - min)));
        }
        let intervals = self.intervals();
        let incremental = intervals.iter().map(|(from, to, packets)| {
            let bits = packets * self.bytes() * 8;
            json!({
                "TimeOfSubInterval": stamp(first.saturating_add(nanoseconds(*from))),
                "Seconds": to - from,
                "IPLayerCapacity": bits_per(bits, to - from) / 1e6,
            })
        });
        json!({
            "Input": {
                "Role": match self.terms().direction {
                    Direction::Down => "Receiver",
                    Direction::Up => "Sender",
                },
                "TestType": "Fixed",
                "UDPPayloadContent": "random",
                "NumberOfConnections": self.record.notice.message.terms.n,
                "JumboFramesPermitted": self.terms().packet_bytes > JUMBO,
                "TestSubInterval": self.histogram().0 / 1_000_000,
                "NumberTestSubIntervals": intervals.len(),
            },
            "Output": {
                "Status": "Complete",
                "BOMTime": stamp(first),
                "EOMTime": stamp(last),
                "TestInterval": seconds(last.saturating_sub(first)),
                "Summary": {
                    "IPLayerCapacitySummary": self.mbps(0),
                    "DeliveredPercent": 100.0 * part(delivered, sent),
                    "LossRatioSummary": self.loss(),
                    "ReorderedRatioSummary": reordered,
                    "MinRTTSummary": self.smallest_rtt().map(seconds),
                },
                "AtMax": at_max,
                "IncrementalResult": incremental.collect::<Vec<_>>(),
            },
            "ErrorStatus": 0,
            "plumbline": self.ours(),
        })
    }

    fn iperf3(&self) -> Value {
        let payload = self.payload();
        let (first, last) = self.arrivals();
        let span = seconds(last.saturating_sub(first));
        let sum = |from: f64, to: f64, packets: u64| {
            json!({
                "start": from, "end": to, "seconds": to - from,
                "bytes": packets * payload,
                "bits_per_second": bits_per(packets * payload * 8, to - from),
                "packets": packets, "omitted": false, "sender": false,
            })
        };
        let intervals = self.intervals();
        let intervals = intervals
            .iter()
            .map(|(from, to, packets)| json!({"sum": sum(*from, *to, *packets)}));
        let (delivered, sent) = self.delivered();
        let streams = self.ours.challengers.iter().map(|c| {
            let lost = c.sent.saturating_sub(u64::from(c.packets));
            json!({"udp": {
                "socket": c.index,
                "start": 0.0, "end": span, "seconds": span,
                "bytes": u64::from(c.packets) * payload,
                "bits_per_second": bits_per(u64::from(c.packets) * payload * 8, span),
                "packets": c.sent, "lost_packets": lost,
                "lost_percent": 100.0 * part(lost, c.sent),
                "out_of_order": Value::Null, "sender": false,
            }})
        });
        let mut end = sum(0.0, span, self.ours.packets.verified);
        if let Some(end) = end.as_object_mut() {
            let lost = sent.saturating_sub(delivered);
            end.insert("packets".into(), json!(sent));
            end.insert("lost_packets".into(), json!(lost));
            end.insert("lost_percent".into(), json!(100.0 * self.loss()));
        }
        json!({
            "title": format!("plumbline {}", self.ours.id),
            "start": {
                "version": concat!("plumbline ", env!("CARGO_PKG_VERSION")),
                "timestamp": {"timesecs": first / 1_000_000_000, "time": stamp(first)},
                "test_start": {
                    "protocol": "UDP",
                    "num_streams": self.record.notice.message.terms.n,
                    "blksize": payload,
                    "duration": seconds(self.ours.duration_ms * 1_000_000),
                    "target_bitrate": self.ours.offered_bps,
                    "reverse": 0,
                },
            },
            "intervals": intervals.collect::<Vec<_>>(),
            "end": {"streams": streams.collect::<Vec<_>>(), "sum": end},
            "plumbline": self.ours(),
        })
    }
}

// Documents for people's tools: floats decide nothing here.

#[allow(clippy::cast_precision_loss)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// `bps` of packets of `of` bytes, had they `bytes`; Mbit/s.
#[allow(clippy::cast_precision_loss)]
fn rate(bps: u64, bytes: u64, of: u64) -> f64 {
    bps as f64 / 1e6 * bytes as f64 / of as f64
}

#[allow(clippy::cast_precision_loss)]
fn bits_per(bits: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        bits as f64 / seconds
    } else {
        0.0
    }
}

#[allow(clippy::cast_precision_loss)]
fn part(of: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        of as f64 / whole as f64
    }
}

/// RFC 3339, UTC, of unix ns.
fn stamp(unix_ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(unix_ns.into());
    time.map_or_else(|e| e.to_string(), |t| format!("{t:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_utc_to_the_microsecond() {
        assert_eq!(stamp(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            stamp(1_700_000_000_123_456_789),
            "2023-11-14T22:13:20.123456Z"
        );
    }

    #[test]
    fn layers_add_their_bytes() {
        assert!((rate(1_500_000_000, 1_538, 1_500) - 1_538.0).abs() < 1e-9);
        assert!((part(1, 4) - 0.25).abs() < 1e-12 && part(1, 0) == 0.0);
        assert!(bits_per(10, 0.0) == 0.0);
        assert_eq!(nanoseconds(seconds(1_234_567_890)), 1_234_567_890);
    }
}
