//! Result of `plumbline measure`: the whole story of one proof of backhaul.

use std::collections::BTreeMap;

use plumbline_proof::backhaul::verdict::WITHHELD;
use plumbline_trust::identity::Address;
use serde::{Deserialize, Serialize};

use super::decimal;
use crate::config::units::Bytes;
use crate::ui::exit::Exit;
use crate::ui::output::{Show, Style, fields, nanoseconds, rate, table};

/// What was found about the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It could not be measured.
    Inconclusive,
}

impl Verdict {
    pub(super) fn render(self, style: Style) -> String {
        match self {
            Self::Pass => style.good("Pass"),
            Self::Fail => style.bad("Fail"),
            Self::Inconclusive => style.doubtful("Inconclusive"),
        }
    }
}

/// Which way the traffic flowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the prover.
    Down,
    /// Away from it.
    Up,
}

/// How a request ended on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndState {
    /// Reported, undisputed, paid.
    Final,
    /// Its deadline passed; refunded.
    TimedOut,
    /// Ended before it ran; refunded.
    Cancelled,
}

/// Smallest round trips of a challenger, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RttView {
    /// Before the flood.
    pub before_ns: u64,
    /// While it ran; `None` if no probe came back in time.
    pub during_ns: Option<u64>,
}

/// What the line sustains at least, if it has a bucket of so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SustainedView {
    /// The bucket.
    pub burst_bytes: u64,
    /// The guaranteed rate less what such a bucket adds at most.
    pub at_least_bps: u64,
}

/// One challenger's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengerResult {
    /// Settlement address.
    pub address: Address,
    /// Its index in the draw.
    pub index: u16,
    /// From its first send until it heard the commitment, µs; of the uplink, the time within which all that it
    /// counted crossed the link.
    pub window_us: u32,
    /// ρ, the smallest round trip, nanoseconds.
    pub rho_ns: u64,
    /// Round trips by phase.
    pub rtt: RttView,
    /// Packets counted.
    pub packets: u32,
    /// Data packets its kernel accepted.
    pub sent: u64,
    /// Probe and acknowledgement datagrams it sent.
    pub control_sent: u64,
    /// Base units it is paid.
    #[serde(with = "decimal")]
    pub paid: u128,
    /// Whether its report is valid.
    pub valid: bool,
    /// What was noticed about it (`Narrow`, `Withheld` …).
    pub flags: Vec<String>,
}

/// What the AF_XDP socket and its rings counted during the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct XskView {
    /// Frames the kernel could not place.
    pub rx_dropped: u64,
    /// Frames refused because the receive ring was full.
    pub rx_ring_full: u64,
    /// Descriptors the kernel called invalid.
    pub rx_invalid_descs: u64,
    /// Times the fill ring was found empty.
    pub fill_ring_empty: u64,
}

/// Every packet by what became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketsView {
    /// Data packets that all challengers gave to their kernels.
    pub sent: u64,
    /// Counted and hashed, at most 1.15·m a challenger.
    pub verified: u64,
    /// Valid beyond 1.15·m.
    pub over_cap: u64,
    /// Valid after the commitment.
    pub late: u64,
    /// Seen before.
    pub duplicate: u64,
    /// The header's tag does not verify.
    pub bad_tag: u64,
    /// Not a data packet.
    pub malformed: u64,
    /// A sequence beyond what was agreed.
    pub out_of_range: u64,
    /// Came to the data port for a session that is not open.
    pub other_session: u64,
    /// Found the plain socket's buffer full; 0 with AF_XDP.
    pub socket_dropped: u64,
    /// XDP fates during the run.
    pub xdp: BTreeMap<String, u64>,
    /// AF_XDP socket counters during the run.
    pub xsk: XskView,
    /// What else became of an uplink's packets at the challengers, by name: `early` (before the common
    /// window), `bad_payload`, `other_source`, `unstamped`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uplink: BTreeMap<String, u64>,
    /// Probe and acknowledgement datagrams, challengers to prover; of the uplink, echoes too.
    pub control_sent: u64,
    /// Those of them that arrived.
    pub control_received: u64,
}

/// Which receive path was used, and why not a better one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatapathView {
    /// `af_xdp` or `recvmmsg`.
    pub receiver: String,
    /// `native`, `generic` or `none`.
    pub xdp_mode: String,
    /// `zero-copy`, `copy` or `none`.
    pub umem: String,
    /// Clock of arrival stamps.
    pub timestamps: String,
    /// Why higher rungs were not taken.
    pub fallback_reasons: Vec<String>,
}

/// As whom an address is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaidRole {
    /// For packets of a valid report.
    Challenger,
    /// Its fee.
    Coordinator,
    /// What is left of the escrow.
    Payer,
}

/// One payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidView {
    /// Who.
    pub to: Address,
    /// Base units.
    #[serde(with = "decimal")]
    pub amount: u128,
    /// As whom.
    pub role: PaidRole,
}

/// Gas of each step; 0 where a step did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GasView {
    /// Request and escrow.
    pub request: u64,
    /// Draw.
    pub select: u64,
    /// Anchor of the run.
    pub begin: u64,
    /// Result.
    pub report: u64,
    /// Settlement.
    pub finalize: u64,
}

/// The money side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementView {
    /// Chain engine.
    pub engine: String,
    /// Through whom the payer saw the chain, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub view: String,
    /// Whether all buckets sum to what is held.
    pub conserved: bool,
    /// Base units that were locked.
    #[serde(with = "decimal")]
    pub escrow: u128,
    /// Who was paid what.
    pub paid: Vec<PaidView>,
    /// Gas by step.
    pub gas: GasView,
}

/// One proof of backhaul, from request to settlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasureResult {
    /// Id of the request, `0x` and 64 hexadecimal digits.
    pub id: String,
    /// What was found.
    pub verdict: Verdict,
    /// Why, where the verdict does not speak for itself.
    pub reason: Option<String>,
    /// How the request ended.
    pub state: EndState,
    /// Claim, bits a second at the IP layer, as all rates here.
    pub claimed_bps: u64,
    /// Which way the traffic flowed, seen from the prover: `down` or `up`.
    pub direction: Direction,
    /// L, bytes of a data packet at the IP layer.
    pub packet_bytes: u16,
    /// Measured, round trips credited: shown, never judged.
    pub measured_bps: u64,
    /// The same at layer 1: with what Ethernet adds to each packet.
    pub layer1_bps: u64,
    /// B_g(0): the link carried at least this, if nobody lies.
    pub lower_bps: u64,
    /// B_g(f): the link carried at least this, though f of the challengers lie.
    pub guaranteed_bps: u64,
    /// B_g(0), …, B_g(f).
    pub trust_curve: Vec<u64>,
    /// What all challengers offered together.
    pub offered_bps: u64,
    /// What a link of the claim would have been asked to carry at least; absent if nobody trusted sent long enough.
    pub asked_bps: Option<u64>,
    /// All that came over the same time, whatever became of it.
    pub came_bps: Option<u64>,
    /// What the line sustains at least, by the size of the bucket that it may have.
    pub sustained: Vec<SustainedView>,
    /// The prover's own slices show a burst of so many bytes at the IP layer: its word, shown only.
    pub burst_bytes: Option<u64>,
    /// Nominal duration, milliseconds.
    pub duration_ms: u64,
    /// N, the target of the phase.
    pub target_packets: u64,
    /// N′, what was counted.
    pub counted_packets: u64,
    /// Each challenger's part.
    pub challengers: Vec<ChallengerResult>,
    /// Packets by fate.
    pub packets: PacketsView,
    /// From the last counted packet to the commitment on the wire, nanoseconds.
    pub commit_latency_ns: u64,
    /// Receive path.
    pub datapath: DatapathView,
    /// Settlement.
    pub chain: SettlementView,
    /// Where the evidence was saved.
    pub bundle: Option<String>,
    /// BLAKE3 of the evidence, 64 hexadecimal digits.
    pub bundle_hash: String,
}

impl MeasureResult {
    /// How the command ends: only a pass is 0.
    pub fn exit(&self) -> Exit {
        match self.verdict {
            Verdict::Pass => Exit::Ok,
            Verdict::Fail | Verdict::Inconclusive => Exit::Failed,
        }
    }

    /// Those that began, and gave neither report nor seed.
    pub fn withheld(&self) -> impl Iterator<Item = &ChallengerResult> {
        let flagged = |c: &&ChallengerResult| c.flags.iter().any(|f| f == WITHHELD);
        self.challengers.iter().filter(flagged)
    }

    /// What follows for them, and for the payer.
    fn withheld_words(&self) -> String {
        let who: Vec<String> = self
            .withheld()
            .map(|c| format!("challenger {} ({})", c.index, c.address))
            .collect();
        match who.as_slice() {
            [] => "nothing".to_owned(),
            who => format!(
                "{} began and gave no seed: who gives none on the chain either loses its bond to the payer and is in no draw until it puts it up again; ask again",
                who.join(", ")
            ),
        }
    }

    fn head(&self, style: Style) -> String {
        let verdict = match &self.reason {
            Some(reason) => format!("{}: {reason}", self.verdict.render(style)),
            None => self.verdict.render(style),
        };
        let curve: Vec<String> = self
            .trust_curve
            .iter()
            .enumerate()
            .map(|(f, bps)| format!("f={f} {}", rate(*bps)))
            .collect();
        let saved = self
            .bundle
            .as_ref()
            .map_or_else(|| "not saved".to_owned(), Clone::clone);
        let conserved = if self.chain.conserved {
            "conserved"
        } else {
            "NOT CONSERVED"
        };
        let sustained: Vec<String> = self
            .sustained
            .iter()
            .map(|s| format!("{} with {}", rate(s.at_least_bps), Bytes(s.burst_bytes)))
            .collect();
        let burst = match self.burst_bytes {
            Some(bytes) => format!("; the prover's slices show a burst of {bytes} bytes"),
            None => String::new(),
        };
        let offered = match (self.asked_bps, self.came_bps) {
            (Some(asked), Some(came)) => format!(
                "{}; a link of the claim was asked for {} at least, {} came",
                rate(self.offered_bps),
                rate(asked),
                rate(came)
            ),
            _ => rate(self.offered_bps),
        };
        fields(&[
            ("request", self.id.clone()),
            ("verdict", verdict),
            (
                "claimed",
                match self.direction {
                    Direction::Down => format!("{} towards the prover", rate(self.claimed_bps)),
                    Direction::Up => format!("{} away from the prover", rate(self.claimed_bps)),
                },
            ),
            (
                "measured",
                format!(
                    "{} in packets of {} bytes, {} at layer 1",
                    rate(self.measured_bps),
                    self.packet_bytes,
                    rate(self.layer1_bps)
                ),
            ),
            (
                "at least",
                format!("{}, if nobody lies", rate(self.lower_bps)),
            ),
            ("guaranteed", rate(self.guaranteed_bps)),
            ("trust curve", curve.join(" · ")),
            (
                "sustained",
                format!(
                    "if the line has a bucket, at least {}{burst}",
                    sustained.join(" · ")
                ),
            ),
            ("offered", offered),
            (
                "counted",
                format!(
                    "{} of {} packets in {} ms",
                    self.counted_packets, self.target_packets, self.duration_ms
                ),
            ),
            ("commit latency", nanoseconds(self.commit_latency_ns)),
            ("withheld", self.withheld_words()),
            ("datapath", self.datapath.render()),
            (
                "state",
                format!(
                    "{:?}, escrow {} ({conserved}, {} chain)",
                    self.state, self.chain.escrow, self.chain.engine
                ),
            ),
            ("chain seen through", self.chain.view.clone()),
            ("evidence", format!("{saved}, BLAKE3 {}", self.bundle_hash)),
        ])
    }

    fn challenger_table(&self) -> String {
        let rtt = |ns: Option<u64>| ns.map_or_else(|| "–".to_owned(), nanoseconds);
        let rows = self.challengers.iter().map(|c| {
            vec![
                c.index.to_string(),
                c.address.to_string(),
                nanoseconds(u64::from(c.window_us) * 1000),
                nanoseconds(c.rho_ns),
                format!(
                    "{} / {}",
                    nanoseconds(c.rtt.before_ns),
                    rtt(c.rtt.during_ns)
                ),
                c.packets.to_string(),
                c.sent.to_string(),
                c.paid.to_string(),
                if c.valid { "valid" } else { "INVALID" }.to_owned(),
                c.flags.join(", "),
            ]
        });
        let header = [
            "#",
            "challenger",
            "window",
            "rtt",
            "before / during",
            "counted",
            "sent",
            "paid",
            "report",
            "flags",
        ];
        table(&header, &[0, 2, 3, 5, 6, 7], rows)
    }

    fn packet_table(&self) -> String {
        let p = &self.packets;
        let own = [
            ("sent", p.sent),
            ("verified", p.verified),
            ("over_cap", p.over_cap),
            ("late", p.late),
            ("duplicate", p.duplicate),
            ("bad_tag", p.bad_tag),
            ("malformed", p.malformed),
            ("out_of_range", p.out_of_range),
            ("other_session", p.other_session),
            ("socket_dropped", p.socket_dropped),
            ("control sent", p.control_sent),
            ("control received", p.control_received),
            ("xsk rx_dropped", p.xsk.rx_dropped),
            ("xsk rx_ring_full", p.xsk.rx_ring_full),
            ("xsk rx_invalid_descs", p.xsk.rx_invalid_descs),
            ("xsk fill_ring_empty", p.xsk.fill_ring_empty),
        ];
        let xdp = p
            .xdp
            .iter()
            .map(|(fate, count)| (format!("xdp {fate}"), *count));
        let rows = own
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count))
            .chain(p.uplink.iter().map(|(name, count)| (name.clone(), *count)))
            .chain(xdp);
        // Counters of a path that was not taken would read as if it had been.
        let bypass = self.datapath.receiver == "af_xdp";
        let rows = rows.filter(|(name, _)| bypass || !name.starts_with("x"));
        table(
            &["packets", "count"],
            &[1],
            rows.map(|(name, count)| vec![name, count.to_string()]),
        )
    }

    fn payment_table(&self) -> String {
        let rows = self.chain.paid.iter().map(|p| {
            vec![
                format!("{:?}", p.role).to_lowercase(),
                p.to.to_string(),
                p.amount.to_string(),
            ]
        });
        table(&["paid as", "to", "base units"], &[2], rows)
    }
}

impl DatapathView {
    fn render(&self) -> String {
        let path = format!(
            "{} ({} XDP, {} UMEM), stamps {}",
            self.receiver, self.xdp_mode, self.umem, self.timestamps
        );
        match self.fallback_reasons.as_slice() {
            [] => path,
            reasons => format!("{path}; not better because {}", reasons.join("; ")),
        }
    }
}

impl Show for MeasureResult {
    fn render_human(&self, style: Style) -> String {
        format!(
            "{}\n\n{}\n{}\n{}",
            self.head(style),
            self.challenger_table(),
            self.packet_table(),
            self.payment_table()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract_document() -> serde_json::Value {
        let address = format!("0x{}", "11".repeat(20));
        serde_json::json!({
            "id": format!("0x{}", "22".repeat(32)), "verdict": "Fail", "reason": "290 of 1000 Mbit/s",
            "state": "Final", "claimed_bps": 1_000_000_000u64, "measured_bps": 298_000_000u64,
            "direction": "down", "packet_bytes": 1500, "layer1_bps": 305_549_333u64,
            "lower_bps": 297_000_000u64, "guaranteed_bps": 220_000_000u64, "trust_curve": [297_000_000u64, 220_000_000u64],
            "offered_bps": 1_437_500_000u64, "duration_ms": 100, "target_packets": 8336, "counted_packets": 8000,
            "asked_bps": 1_000_000_000u64, "came_bps": 301_000_000u64, "burst_bytes": 12_500_000u64,
            "sustained": [{"burst_bytes": 1_000_000, "at_least_bps": 212_000_000u64}],
            "challengers": [{
                "address": address, "index": 0, "window_us": 101_500, "rho_ns": 500_000,
                "rtt": {"before_ns": 500_000, "during_ns": null}, "packets": 2000, "sent": 2400,
                "control_sent": 9, "paid": "3000000000", "valid": true, "flags": ["Narrow"]
            }, {
                "address": address, "index": 1, "window_us": 0, "rho_ns": 0, "rtt": {"before_ns": 0, "during_ns": null},
                "packets": 0, "sent": 0, "control_sent": 0, "paid": "0", "valid": false, "flags": ["Withheld"]
            }],
            "packets": {
                "sent": 12000, "verified": 8000, "over_cap": 1, "late": 2, "duplicate": 3, "bad_tag": 4, "malformed": 5,
                "out_of_range": 6, "other_session": 7, "socket_dropped": 8, "xdp": {"redirected": 8021}, "xsk": {"rx_dropped": 0, "rx_ring_full": 0,
                "rx_invalid_descs": 0, "fill_ring_empty": 0}, "control_sent": 45, "control_received": 44
            },
            "commit_latency_ns": 80_000,
            "datapath": {"receiver": "af_xdp", "xdp_mode": "native", "umem": "copy", "timestamps": "xdp-tai",
                "fallback_reasons": ["veth has no zero-copy"]},
            "chain": {"engine": "embedded", "view": "own copy", "conserved": true, "escrow": "340282366920938463463374607431768211455",
                "paid": [{"to": address, "amount": "3000000000", "role": "challenger"}],
                "gas": {"request": 1, "select": 2, "begin": 3, "report": 4, "finalize": 5}},
            "bundle": null, "bundle_hash": "33".repeat(32)
        })
    }

    #[test]
    fn json_is_that_of_the_contract() {
        let document = contract_document();
        let result: MeasureResult = serde_json::from_value(document.clone()).unwrap();
        assert_eq!(serde_json::to_value(&result).unwrap(), document);
        assert_eq!(result.exit(), Exit::Failed);
    }

    #[test]
    fn only_a_pass_ends_with_zero() {
        for (verdict, exit) in [
            (Verdict::Pass, Exit::Ok),
            (Verdict::Fail, Exit::Failed),
            (Verdict::Inconclusive, Exit::Failed),
        ] {
            let mut result: MeasureResult = serde_json::from_value(contract_document()).unwrap();
            result.verdict = verdict;
            assert_eq!(result.exit(), exit);
        }
    }

    #[test]
    fn people_see_every_figure_once_with_its_unit() {
        let result: MeasureResult = serde_json::from_value(contract_document()).unwrap();
        let shown = result.render_human(Style::Plain);
        for words in [
            "Fail: 290 of 1000 Mbit/s",
            "1.000 Gbit/s",
            "1.000 Gbit/s towards the prover",
            "298.000 Mbit/s in packets of 1500 bytes, 305.549 Mbit/s at layer 1",
            "at least 212.000 Mbit/s with 1mb; the prover's slices show a burst of 12500000 bytes",
            "297.000 Mbit/s, if nobody lies",
            "asked for 1.000 Gbit/s at least, 301.000 Mbit/s came",
            "f=0 297.000 Mbit/s · f=1 220.000 Mbit/s",
            "8000 of 8336 packets in 100 ms",
            "80.000 µs",
            "af_xdp (native XDP, copy UMEM), stamps xdp-tai; not better because veth has no zero-copy",
            "Final, escrow 340282366920938463463374607431768211455 (conserved, embedded chain)",
            "500.000 µs / –",
            "Narrow",
            "challenger 1 (0x1111111111111111111111111111111111111111) began and gave no seed",
            "xdp redirected",
            "not saved",
        ] {
            assert!(shown.contains(words), "{words:?} is not in\n{shown}");
        }
        assert!(!shown.contains('\x1b'));

        let mut without = contract_document();
        without["datapath"]["receiver"] = "recvmmsg".into();
        let result: MeasureResult = serde_json::from_value(without).unwrap();
        let shown = result.render_human(Style::Plain);
        for row in ["xdp redirected", "xsk rx_dropped"] {
            assert!(!shown.contains(row), "{row:?} is in\n{shown}");
        }
    }
}
