//! What a lab should look like, before anything is made.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::LabError;

/// Bytes of an Ethernet header: what the kernel's shapers count on top of an IP packet.
pub(crate) const ETHERNET_HEADER: u64 = 14;

/// Challengers in one lab at most: each has a /24 of its own under 10.77.0.0/16, from .16 on.
const MAX_CHALLENGERS: u8 = 200;

/// Slowest link, in bit/s: below it one packet takes more than 12 ms and a burst is the whole test.
const MIN_RATE: u64 = 1_000_000;

/// Fastest link, in bit/s: far above what veth carries; above it the shaper's arithmetic rounds.
const MAX_RATE: u64 = 100_000_000_000;

/// Smallest MTU, bytes: what every IPv4 host must take.
const MIN_MTU: u16 = 576;

/// Smallest MTU with IPv6, bytes (RFC 8200).
const MIN_MTU_IPV6: u16 = 1280;

/// Largest MTU through the wire, bytes: a frame and its bookkeeping fit 4 KiB there. Also what veth takes with
/// native XDP attached (3506), rounded down: above it a receiver falls back to the generic hook.
const MAX_MTU_WIRE: u16 = 3500;

/// Largest MTU without the wire, bytes: what one calls jumbo frames. veth itself would take 65,535.
const MAX_MTU: u16 = 9216;

/// Longest one-way delay of the wire: a geostationary hop is 0.3 s.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// A shaper's three numbers, in the layer that the shaper itself counts: Ethernet without FCS
/// (IP packet + 14 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Rate in bit/s, counting IP + 14 bytes a packet.
    pub ethernet_bps: u64,
    /// Token bucket in bytes: what may pass at once after a silence.
    pub burst_bytes: u32,
    /// Queue in bytes: what waits before packets are dropped.
    pub limit_bytes: u32,
    /// How fast the bucket drains; at once if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Peak>,
}

/// How fast a shaper passes what its bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// Rate in bit/s, counting IP + 14 bytes a packet.
    pub ethernet_bps: u64,
    /// Bucket of the peak itself in bytes: it paces single frames.
    pub burst_bytes: u32,
}

impl Shape {
    /// Bucket as time at the link's rate. Trade-off: the bucket passes on top of the rate once
    /// a test (0.3 % of 100 ms), while a timer later than the bucket is long loses rate for good.
    /// The kernel's timer wakes the shaper within 50–150 µs on a busy two-core machine.
    const BURST: Duration = Duration::from_micros(300);

    /// Queue as time at the link's rate: between a DSL modem's (100 ms) and a switch's (1 ms).
    const QUEUE: Duration = Duration::from_millis(20);

    /// Full-size frames that the bucket holds at least: with one, a frame waits for a whole refill.
    const MIN_BURST_FRAMES: u64 = 2;

    /// Full-size frames that the queue holds at least, so that one batch of a segmenting sender
    /// (44 packets) from a few challengers is queued rather than dropped on a slow link.
    const MIN_QUEUE_FRAMES: u64 = 64;

    /// A shaper at `ethernet_bps` (IP + 14 bytes a packet), bucket and queue chosen to match.
    #[must_use]
    pub fn ethernet(ethernet_bps: u64) -> Self {
        Self::for_frames(ethernet_bps, 1500)
    }

    fn for_frames(ethernet_bps: u64, packet_bytes: u16) -> Self {
        let frame = u64::from(packet_bytes.max(1500)) + ETHERNET_HEADER;
        Self {
            ethernet_bps,
            burst_bytes: fit(
                bytes_in(ethernet_bps, Self::BURST).max(Self::MIN_BURST_FRAMES * frame)
            ),
            limit_bytes: fit(
                bytes_in(ethernet_bps, Self::QUEUE).max(Self::MIN_QUEUE_FRAMES * frame)
            ),
            peak: None,
        }
    }

    /// A shaper through which IP packets of `packet_bytes` pass at `ip_bps` bit/s of IP layer.
    #[must_use]
    pub fn ip_layer(ip_bps: u64, packet_bytes: u16) -> Self {
        Self::for_frames(to_ethernet(ip_bps, packet_bytes), packet_bytes)
    }

    /// A link as sold with a "boost": `bucket_bytes` pass at `peak_ip_bps` after a silence, what follows at
    /// `ip_bps`; rates in bit/s of IP layer for packets of `packet_bytes`, the bucket in bytes of the shaper's
    /// own layer (IP + 14). While it drains it fills too: a burst at the peak ends after
    /// `bucket / (peak − rate)`.
    #[must_use]
    pub fn bucket(ip_bps: u64, bucket_bytes: u32, peak_ip_bps: u64, packet_bytes: u16) -> Self {
        let plain = Self::ip_layer(ip_bps, packet_bytes);
        let peak = Self::ip_layer(peak_ip_bps, packet_bytes);
        Self {
            burst_bytes: bucket_bytes.max(plain.burst_bytes),
            limit_bytes: plain.limit_bytes,
            peak: Some(Peak {
                ethernet_bps: peak.ethernet_bps,
                burst_bytes: peak.burst_bytes,
            }),
            ..plain
        }
    }

    /// The rate in bit/s at the IP layer when all packets have `packet_bytes`
    /// (at 1500: `ethernet_bps · 1500 / 1514`).
    #[must_use]
    pub fn ip_layer_bps(&self, packet_bytes: u16) -> u64 {
        let size = u128::from(packet_bytes);
        let ip = u128::from(self.ethernet_bps) * size / (size + u128::from(ETHERNET_HEADER));
        u64::try_from(ip).unwrap_or(u64::MAX)
    }

    fn check(&self, field: &'static str, mtu: u16) -> Result<(), LabError> {
        if !(MIN_RATE..=MAX_RATE).contains(&self.ethernet_bps) {
            return Err(LabError::Plan {
                field,
                value: format!("{} bit/s", self.ethernet_bps),
                allowed: "1 Mbit/s to 100 Gbit/s",
            });
        }
        let frame = u64::from(mtu) + ETHERNET_HEADER;
        if u64::from(self.burst_bytes) < frame || u64::from(self.limit_bytes) < frame {
            return Err(LabError::Plan {
                field,
                value: format!("burst {} B, limit {} B", self.burst_bytes, self.limit_bytes),
                allowed: "both must hold one full frame (MTU + 14), or nothing of that size passes",
            });
        }
        let Some(peak) = self.peak else { return Ok(()) };
        if !(self.ethernet_bps + 1..=MAX_RATE).contains(&peak.ethernet_bps)
            || u64::from(peak.burst_bytes) < frame
        {
            return Err(LabError::Plan {
                field,
                value: format!("peak {} bit/s, {} B", peak.ethernet_bps, peak.burst_bytes),
                allowed: "a peak is above the rate, at most 100 Gbit/s, and holds one full frame (MTU + 14)",
            });
        }
        Ok(())
    }
}

/// Bytes that pass in `time` at `bps`.
fn bytes_in(bps: u64, time: Duration) -> u64 {
    u64::try_from(u128::from(bps) * time.as_nanos() / 8_000_000_000).unwrap_or(u64::MAX)
}

fn fit(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// The rate that the shaper must have for `ip_bps` of packets of `packet_bytes`.
fn to_ethernet(ip_bps: u64, packet_bytes: u16) -> u64 {
    let size = u128::from(packet_bytes.max(1));
    let ethernet = (u128::from(ip_bps) * (size + u128::from(ETHERNET_HEADER))).div_ceil(size);
    u64::try_from(ethernet).unwrap_or(u64::MAX)
}

/// What the wire does to packets, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WirePlan {
    /// Propagation one way.
    pub delay: Duration,
    /// Further delay, uniform from nothing to this. Order is kept: a queue varies, it does not shuffle.
    pub jitter: Duration,
    /// Packets lost, in millionths.
    pub loss_ppm: u32,
    /// Packets held back so that later ones overtake them, in millionths.
    pub reorder_ppm: u32,
    /// Seed of all choices: the same seed and the same packets give the same losses.
    pub seed: u64,
}

impl WirePlan {
    /// A wire that only delays.
    #[must_use]
    pub fn delay(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss_ppm: 0,
            reorder_ppm: 0,
            seed: 1,
        }
    }

    fn check(&self) -> Result<(), LabError> {
        for (field, time) in [("wire.delay", self.delay), ("wire.jitter", self.jitter)] {
            if time > MAX_DELAY {
                return Err(LabError::Plan {
                    field,
                    value: format!("{time:?}"),
                    allowed: "at most 1 s",
                });
            }
        }
        for (field, ppm) in [
            ("wire.loss_ppm", self.loss_ppm),
            ("wire.reorder_ppm", self.reorder_ppm),
        ] {
            if ppm > 1_000_000 {
                return Err(LabError::Plan {
                    field,
                    value: ppm.to_string(),
                    allowed: "millionths: at most 1000000",
                });
            }
        }
        Ok(())
    }
}

/// One host of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Host {
    /// Runs the coordinator, and the payer.
    Coordinator,
    /// Has the measured link (`eth0`) and a management link (`mgmt0`).
    Prover,
    /// One of the challengers, from 0.
    Challenger(u8),
    /// The router in the middle.
    Core,
    /// Where the wire's two ends are, if there is one.
    Wire,
    /// Takes no part: shares the measured link with others, or attacks from off the path.
    Bystander,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Coordinator => f.write_str("coord"),
            Self::Prover => f.write_str("prover"),
            Self::Challenger(i) => write!(f, "c{i}"),
            Self::Core => f.write_str("core"),
            Self::Wire => f.write_str("wire"),
            Self::Bystander => f.write_str("by"),
        }
    }
}

impl Host {
    /// Address on the measured network. The router and the wire have none of their own.
    #[must_use]
    pub fn address(self) -> Option<Ipv4Addr> {
        self.link().map(|third| Ipv4Addr::new(10, 77, third, 2))
    }

    /// Its other address there, where the lab has IPv6.
    #[must_use]
    pub fn address_v6(self) -> Option<Ipv6Addr> {
        self.link().map(|third| ipv6(third, 2))
    }

    /// Third byte of the /24 between this host's `eth0` (.2) and the router (.1).
    pub(crate) fn link(self) -> Option<u8> {
        match self {
            Self::Coordinator => Some(1),
            Self::Prover => Some(2),
            Self::Bystander => Some(4),
            Self::Challenger(i) => i.checked_add(16),
            Self::Core | Self::Wire => None,
        }
    }
}

/// Third byte of the /24 of the management link.
pub(crate) const MANAGEMENT_LINK: u8 = 3;

/// `fd77:` and the /64 of a link: the same numbers as in IPv4. The router is 1, the host 2.
pub(crate) fn ipv6(link: u8, last: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, u16::from(link), 0, 0, 0, u16::from(last))
}

/// A whole lab: how many hosts, and what the measured link is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Hosts that send.
    pub challengers: u8,
    /// The measured direction: towards the prover.
    pub down: Shape,
    /// The other direction; unshaped if absent.
    pub up: Option<Shape>,
    /// Delay, loss and the like; a bare cable if absent.
    pub wire: Option<WirePlan>,
    /// MTU of every interface, in bytes.
    pub mtu: u16,
    /// Whether there is a host that takes no part.
    #[serde(default)]
    pub bystander: bool,
    /// Whether every host has an IPv6 address too.
    #[serde(default)]
    pub ipv6: bool,
}

impl Plan {
    /// A prover behind a shaped link, challengers on fast ones, at MTU 1500.
    #[must_use]
    pub fn backhaul(challengers: u8, down: Shape, wire: Option<WirePlan>) -> Self {
        Self {
            challengers,
            down,
            up: None,
            wire,
            mtu: 1500,
            bystander: false,
            ipv6: false,
        }
    }

    /// The hosts in the order they are made.
    pub fn hosts(&self) -> impl Iterator<Item = Host> + '_ {
        [Host::Core, Host::Coordinator, Host::Prover]
            .into_iter()
            .chain(self.wire.map(|_| Host::Wire))
            .chain(self.bystander.then_some(Host::Bystander))
            .chain((0..self.challengers).map(Host::Challenger))
    }

    /// The link's true rate at the IP layer for full packets, bit/s.
    #[must_use]
    pub fn true_ip_bps(&self) -> u64 {
        self.down.ip_layer_bps(self.mtu)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// [`LabError::Plan`] naming the field, its value and what is allowed.
    pub fn check(&self) -> Result<(), LabError> {
        if !(1..=MAX_CHALLENGERS).contains(&self.challengers) {
            return Err(LabError::Plan {
                field: "challengers",
                value: self.challengers.to_string(),
                allowed: "1 to 200, each in a /24 of its own",
            });
        }
        let (least, most) = (
            if self.ipv6 { MIN_MTU_IPV6 } else { MIN_MTU },
            self.wire.map_or(MAX_MTU, |_| MAX_MTU_WIRE),
        );
        if !(least..=most).contains(&self.mtu) {
            return Err(LabError::Plan {
                field: "mtu",
                value: self.mtu.to_string(),
                allowed: "576 to 9216 bytes; at least 1280 with IPv6, at most 3500 through a wire",
            });
        }
        self.down.check("down", self.mtu)?;
        if let Some(up) = &self.up {
            up.check("up", self.mtu)?;
        }
        self.wire.as_ref().map_or(Ok(()), WirePlan::check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_convert_both_ways() {
        assert_eq!(
            Shape::ethernet(1_000_000_000).ip_layer_bps(1500),
            990_752_972
        );
        let shape = Shape::ip_layer(1_000_000_000, 1500);
        assert_eq!(shape.ethernet_bps, 1_009_333_334);
        assert_eq!(shape.ip_layer_bps(1500), 1_000_000_000);
    }

    #[test]
    fn bucket_and_queue_follow_the_rate_and_have_a_floor() {
        let fast = Shape::ethernet(1_000_000_000);
        assert_eq!((fast.burst_bytes, fast.limit_bytes), (37_500, 2_500_000));
        let slow = Shape::ethernet(10_000_000);
        assert_eq!((slow.burst_bytes, slow.limit_bytes), (2 * 1514, 64 * 1514));
    }

    #[test]
    fn a_bucket_keeps_the_rate_and_drains_at_the_peak() {
        let shape = Shape::bucket(100_000_000, 12_500_000, 1_000_000_000, 1500);
        let peak = shape.peak.unwrap();
        assert_eq!(shape.ip_layer_bps(1500), 100_000_000);
        assert_eq!(peak.ethernet_bps, 1_009_333_334);
        assert_eq!((shape.burst_bytes, peak.burst_bytes), (12_500_000, 37_850));
        assert_eq!(
            shape.limit_bytes,
            Shape::ip_layer(100_000_000, 1500).limit_bytes
        );
        assert!(shape.check("down", 1500).is_ok());
        let with = |bps, burst_bytes| Shape {
            peak: Some(Peak {
                ethernet_bps: bps,
                burst_bytes,
            }),
            ..shape
        };
        let rate = shape.ethernet_bps;
        assert!(with(rate, 1514).check("down", 1500).is_err());
        assert!(with(rate + 1, 1513).check("down", 1500).is_err());
        assert!(with(rate + 1, 1514).check("down", 1500).is_ok());
        assert!(
            Shape::ip_layer(50_000_000, 9000)
                .check("down", 9000)
                .is_ok()
        );
    }

    #[test]
    fn both_sides_of_each_bound_of_a_plan() {
        let good = Plan::backhaul(5, Shape::ethernet(1_000_000_000), None);
        assert!(good.check().is_ok());
        let refused = |change: &dyn Fn(&mut Plan)| {
            let mut plan = good.clone();
            change(&mut plan);
            plan.check().is_err()
        };
        assert!(refused(&|p| p.challengers = 0) && !refused(&|p| p.challengers = 1));
        assert!(refused(&|p| p.challengers = 201) && !refused(&|p| p.challengers = 200));
        assert!(refused(&|p| p.mtu = 575) && !refused(&|p| p.mtu = 576));
        assert!(refused(&|p| p.mtu = 9217) && !refused(&|p| p.mtu = 9216));
        let through_wire = |p: &mut Plan, mtu| {
            (p.mtu, p.wire) = (mtu, Some(WirePlan::delay(Duration::ZERO)));
        };
        assert!(refused(&|p| through_wire(p, 3501)) && !refused(&|p| through_wire(p, 3500)));
        let with_ipv6 = |p: &mut Plan, mtu| (p.mtu, p.ipv6) = (mtu, true);
        assert!(refused(&|p| with_ipv6(p, 1279)) && !refused(&|p| with_ipv6(p, 1280)));
        assert!(refused(&|p| p.down = Shape::ethernet(999_999)));
        assert!(!refused(&|p| p.down = Shape::ethernet(1_000_000)));
        assert!(
            refused(&|p| p.down.burst_bytes = 1513) && !refused(&|p| p.down.burst_bytes = 1514)
        );
        let wire = WirePlan::delay(Duration::from_secs(1));
        assert!(!refused(&|p| p.wire = Some(wire)));
        assert!(refused(&|p| p.wire = Some(WirePlan {
            delay: wire.delay + Duration::from_nanos(1),
            ..wire
        })));
        assert!(refused(&|p| p.wire = Some(WirePlan {
            loss_ppm: 1_000_001,
            ..wire
        })));
    }

    #[test]
    fn every_challenger_has_its_own_network() {
        let mut plan = Plan::backhaul(200, Shape::ethernet(1_000_000_000), None);
        plan.bystander = true;
        let mut nets: Vec<_> = plan.hosts().filter_map(Host::link).collect();
        nets.push(MANAGEMENT_LINK);
        let all = nets.len();
        nets.sort_unstable();
        nets.dedup();
        assert_eq!(nets.len(), all);
    }
}
