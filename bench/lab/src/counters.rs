//! Every place where a lab can lose a packet, read as numbers.
//!
//! A packet from a challenger is counted once at each place, and lost at one at most:
//!
//! ```text
//!  challenger eth0 ─tx_dropped─► core ─forwarding─► tbf ─drops─► prover link ─tx_dropped─►
//!       [wire: lost · overflow · kernel] ─► prover eth0 (from here on the prover's own account)
//! ```
//!
//! A veth that cannot hand a packet over counts it where it was sent (`tx_dropped`); the same packet
//! may show again as `rx_dropped` of the other end, which is therefore reported and never added.

use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::plan::Host;
use crate::tool;
use crate::wire::WireCounters;

/// What a loss at a sending interface means for a challenge packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// Towards the prover's measured address.
    Down,
    /// From the prover to challengers.
    Up,
    /// Management, coordinator, or an end whose refusals are sent again.
    Aside,
}

/// One interface that is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) host: Host,
    pub(crate) interface: String,
    pub(crate) direction: Direction,
}

/// Packet counters of one interface, since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InterfaceCounters {
    /// Host that has it.
    pub host: String,
    /// Its name there.
    pub interface: String,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received, Ethernet without FCS.
    pub rx_bytes: u64,
    /// Packets dropped after arrival; may repeat the other end's `tx_dropped`.
    pub rx_dropped: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets that could not be handed to the other end.
    pub tx_dropped: u64,
    #[serde(skip)]
    direction: Option<Direction>,
}

/// Counters of one queueing discipline, since it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QdiscCounters {
    /// Host that has it.
    pub host: String,
    /// Interface it stands before.
    pub interface: String,
    /// Its kind: `tbf`, `pfifo`.
    pub kind: String,
    /// Packets that it took and passed on.
    pub packets: u64,
    /// Packets dropped because the queue was full.
    pub drops: u64,
    /// Packets waiting now.
    pub backlog: u64,
    #[serde(skip)]
    direction: Option<Direction>,
}

/// All counters of a lab at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Every interface.
    pub interfaces: Vec<InterfaceCounters>,
    /// Every queueing discipline.
    pub qdiscs: Vec<QdiscCounters>,
    /// Packets that the router refused to forward (header, address, memory).
    pub forwarding: u64,
    /// The wire's own account, if there is a wire.
    pub wire: Option<WireCounters>,
}

/// Losses in one direction of the measured path between two snapshots, in packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PathDrops {
    /// Dropped by the shaper's queue.
    pub shaper: u64,
    /// Not handed over between two ends of a veth.
    pub veth: u64,
    /// Lost by the wire on purpose.
    pub wire_lost: u64,
    /// Dropped by the wire because its queue was full.
    pub wire_overflow: u64,
    /// Dropped by the kernel before the wire could read them.
    pub wire_kernel: u64,
    /// The sum.
    pub total: u64,
}

/// What a lab lost between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drops {
    /// Towards the prover. [`Self::forwarding`] is part of its total.
    pub down: PathDrops,
    /// From the prover to challengers.
    pub up: PathDrops,
    /// Refused by the router, direction unknown; none in a healthy lab. Charged to `down`.
    pub forwarding: u64,
    /// Packets waiting in shapers and in the wire at the later snapshot: not lost, not arrived.
    pub backlog: u64,
    /// Difference of every interface's counters.
    pub interfaces: Vec<InterfaceCounters>,
}

impl Counters {
    pub(crate) fn read(
        ports: &[Port],
        space: impl Fn(Host) -> Namespace,
        wire: Option<WireCounters>,
    ) -> Result<Self, LabError> {
        let mut counters = Self {
            interfaces: Vec::new(),
            qdiscs: Vec::new(),
            forwarding: 0,
            wire,
        };
        let mut seen: Vec<Host> = Vec::new();
        for port in ports {
            if seen.contains(&port.host) {
                continue;
            }
            seen.push(port.host);
            let name = space(port.host);
            counters.read_host(port.host, name.name(), ports)?;
        }
        counters.forwarding = space(Host::Core).run("reading /proc/net/snmp", forwarding_errors)?;
        Ok(counters)
    }

    fn read_host(&mut self, host: Host, namespace: &str, ports: &[Port]) -> Result<(), LabError> {
        let direction = |name: &str| {
            ports
                .iter()
                .find(|p| p.host == host && p.interface == name)
                .map(|p| p.direction)
        };
        let links = ["-n", namespace, "-s", "-j", "link", "show"];
        for link in json_list("ip", &links)? {
            let name = text(&link, "ifname");
            if name == "lo" {
                continue;
            }
            let number = |way: &str, key: &str| {
                let found = link
                    .pointer(&format!("/stats64/{way}/{key}"))
                    .and_then(Value::as_u64);
                found.ok_or_else(|| LabError::Answer {
                    command: format!("ip {}", links.join(" ")),
                    detail: format!("no stats64.{way}.{key} for {name}"),
                })
            };
            self.interfaces.push(InterfaceCounters {
                host: host.to_string(),
                rx_packets: number("rx", "packets")?,
                rx_bytes: number("rx", "bytes")?,
                rx_dropped: number("rx", "dropped")?,
                tx_packets: number("tx", "packets")?,
                tx_dropped: number("tx", "dropped")?,
                direction: direction(&name),
                interface: name,
            });
        }
        let qdiscs = ["-n", namespace, "-s", "-j", "qdisc", "show"];
        for qdisc in json_list("tc", &qdiscs)? {
            let kind = text(&qdisc, "kind");
            // An inner queue's packets and drops are its root's too.
            if kind == "noqueue" || qdisc.get("root").is_none() {
                continue;
            }
            let interface = text(&qdisc, "dev");
            let number = |key: &str| {
                qdisc
                    .get(key)
                    .and_then(Value::as_u64)
                    .ok_or_else(|| LabError::Answer {
                        command: format!("tc {}", qdiscs.join(" ")),
                        detail: format!("no {key} for {kind} on {interface}"),
                    })
            };
            let (packets, drops, backlog) = (number("packets")?, number("drops")?, number("qlen")?);
            let direction = direction(&interface);
            self.qdiscs.push(QdiscCounters {
                host: host.to_string(),
                interface,
                kind,
                packets,
                drops,
                backlog,
                direction,
            });
        }
        Ok(())
    }

    /// The counters of one interface.
    #[must_use]
    pub fn interface(&self, host: Host, interface: &str) -> Option<&InterfaceCounters> {
        let host = host.to_string();
        self.interfaces
            .iter()
            .find(|each| each.host == host && each.interface == interface)
    }

    /// Packets waiting in shapers and in the wire.
    #[must_use]
    pub fn backlog(&self) -> u64 {
        let wire = self
            .wire
            .map_or(0, |wire| wire.down.queued + wire.up.queued);
        self.qdiscs.iter().map(|qdisc| qdisc.backlog).sum::<u64>() + wire
    }

    /// What was lost between `earlier` and this snapshot of the same lab.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Drops {
        let interfaces: Vec<_> = self
            .interfaces
            .iter()
            .map(|now| {
                let before = earlier
                    .interfaces
                    .iter()
                    .find(|b| b.host == now.host && b.interface == now.interface);
                before.map_or_else(|| now.clone(), |before| now.since(before))
            })
            .collect();
        let forwarding = self.forwarding.saturating_sub(earlier.forwarding);
        let path = |direction: Direction, forwarding: u64| {
            let drops = |counters: &Self| {
                let of = counters
                    .qdiscs
                    .iter()
                    .filter(|q| q.direction == Some(direction));
                of.map(|q| q.drops).sum::<u64>()
            };
            let lane = |counters: &Self| {
                let wire = counters.wire.unwrap_or_default();
                if direction == Direction::Down {
                    wire.down
                } else {
                    wire.up
                }
            };
            let (now, before) = (lane(self), lane(earlier));
            let mut path = PathDrops {
                shaper: drops(self).saturating_sub(drops(earlier)),
                veth: interfaces
                    .iter()
                    .filter(|i| i.direction == Some(direction))
                    .map(|i| i.tx_dropped)
                    .sum(),
                wire_lost: now.lost.saturating_sub(before.lost),
                wire_overflow: now.overflow.saturating_sub(before.overflow),
                wire_kernel: now.kernel.saturating_sub(before.kernel),
                total: 0,
            };
            path.total = path.shaper
                + path.veth
                + path.wire_lost
                + path.wire_overflow
                + path.wire_kernel
                + forwarding;
            path
        };
        Drops {
            down: path(Direction::Down, forwarding),
            up: path(Direction::Up, 0),
            forwarding,
            backlog: self.backlog(),
            interfaces,
        }
    }
}

impl InterfaceCounters {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            rx_packets: self.rx_packets.saturating_sub(earlier.rx_packets),
            rx_bytes: self.rx_bytes.saturating_sub(earlier.rx_bytes),
            rx_dropped: self.rx_dropped.saturating_sub(earlier.rx_dropped),
            tx_packets: self.tx_packets.saturating_sub(earlier.tx_packets),
            tx_dropped: self.tx_dropped.saturating_sub(earlier.tx_dropped),
            ..self.clone()
        }
    }
}

fn json_list(program: &str, args: &[&str]) -> Result<Vec<Value>, LabError> {
    let answer = tool::run(program, args)?;
    serde_json::from_str(&answer).map_err(|error| LabError::Answer {
        command: format!("{program} {}", args.join(" ")),
        detail: error.to_string(),
    })
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Sum of the router's refusals. Must run on a thread inside the namespace.
fn forwarding_errors() -> io::Result<u64> {
    let snmp = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = lines.next().zip(lines.next()).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "no `Ip:` lines in /proc/net/snmp",
        )
    })?;
    let refused = ["InHdrErrors", "InAddrErrors", "InDiscards", "OutNoRoutes"];
    let of = names
        .split(' ')
        .zip(values.split(' '))
        .filter(|(name, _)| refused.contains(name));
    let ipv4: u64 = of.filter_map(|(_, value)| value.parse::<u64>().ok()).sum();
    Ok(ipv4 + forwarding_errors_v6()?)
}

/// The same of IPv6; nothing on a kernel without it.
fn forwarding_errors_v6() -> io::Result<u64> {
    let refused = [
        "Ip6InHdrErrors",
        "Ip6InTooBigErrors",
        "Ip6InNoRoutes",
        "Ip6InAddrErrors",
        "Ip6InDiscards",
    ];
    let snmp = match std::fs::read_to_string("/proc/thread-self/net/snmp6") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let values = snmp.lines().filter_map(|line| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        refused
            .contains(&name)
            .then(|| value.trim().parse::<u64>().ok())?
    });
    Ok(values.sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::LaneCounters;

    fn interface(
        host: &str,
        tx_dropped: u64,
        rx_dropped: u64,
        direction: Direction,
    ) -> InterfaceCounters {
        InterfaceCounters {
            host: host.into(),
            interface: "eth0".into(),
            rx_packets: 0,
            rx_bytes: 0,
            rx_dropped,
            tx_packets: 0,
            tx_dropped,
            direction: Some(direction),
        }
    }

    #[test]
    fn a_loss_is_added_once_and_in_its_own_direction() {
        let lane = |lost| LaneCounters {
            lost,
            ..LaneCounters::default()
        };
        let at = |k: u64| Counters {
            interfaces: vec![
                interface("c0", k, 0, Direction::Down),
                interface("core", 0, 100 * k, Direction::Down),
                interface("prover", 1000 * k, 7 * k, Direction::Up),
                interface("wire", 5 * k, 0, Direction::Aside),
            ],
            qdiscs: vec![QdiscCounters {
                host: "core".into(),
                interface: "prover".into(),
                kind: "tbf".into(),
                packets: 0,
                drops: 10 * k,
                backlog: 3,
                direction: Some(Direction::Down),
            }],
            forwarding: 2 * k,
            wire: Some(WireCounters {
                down: lane(20 * k),
                up: lane(30 * k),
            }),
        };
        let drops = at(2).since(&at(1));
        assert_eq!(
            (drops.down.veth, drops.down.shaper, drops.down.wire_lost),
            (1, 10, 20)
        );
        assert_eq!(drops.down.total, 33, "with the two that the router refused");
        assert_eq!(
            (drops.up.veth, drops.up.wire_lost, drops.up.total),
            (1000, 30, 1030)
        );
        assert_eq!(drops.backlog, 3);
    }
}
