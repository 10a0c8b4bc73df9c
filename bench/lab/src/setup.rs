//! Builds a planned lab: namespaces, cables, addresses, neighbours, offloads, shapers.

use std::fs;
use std::net::Ipv4Addr;

use crate::counters::{Direction, Port};
use crate::error::LabError;
use crate::namespace::Namespace;
use crate::plan::{Host, MANAGEMENT_LINK, Peak, Plan, Shape, ipv6};
use crate::tool;

/// The wire's end towards the router.
pub(crate) const WIRE_NEAR: &str = "near";
/// The wire's end towards the prover.
pub(crate) const WIRE_FAR: &str = "far";

/// Peak of a shaper that is there to cut bursts, bit/s.
const CUT_BPS: u64 = 10_000_000_000;

/// Offloads that would let one counted packet stand for many, as `ethtool -K` and `-k` call them.
const OFFLOADS: [(&str, &str); 5] = [
    ("tso", "tcp-segmentation-offload"),
    ("gso", "generic-segmentation-offload"),
    ("gro", "generic-receive-offload"),
    ("tx-udp-segmentation", "tx-udp-segmentation"),
    ("rx-udp-gro-forwarding", "rx-udp-gro-forwarding"),
];

/// Settings of a namespace without IPv6: nothing of it in the shaped queue.
const NO_IPV6: [(&str, &str); 2] = [
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// Settings of a namespace with IPv6 before it has interfaces: no address but those given, nobody asks for a
/// router, looks for a twin of its address, or redirects. What else it would say by itself (multicast
/// listeners) is silenced on the interface: [`host_script`].
const QUIET_IPV6: [(&str, &str); 8] = [
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
];

/// Per-namespace settings: no reverse-path filter (the prover is reached by two links), no redirects.
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
];

/// One end of a cable.
struct End {
    host: Host,
    interface: String,
    address: Option<Ipv4Addr>,
    mac: String,
    /// What this end's counters mean for a challenge packet.
    port: Direction,
}

/// A veth pair.
struct Cable {
    near: End,
    far: End,
}

/// The namespace of `host` in the lab called `tag`.
pub(crate) fn namespace(tag: &str, host: Host) -> Namespace {
    Namespace::new(format!("pl{tag}-{host}"))
}

/// `02:50:4c` ("PL", locally administered) · link · side.
fn mac(link: u8, side: u8) -> String {
    format!("02:50:4c:00:{link:02x}:{side:02x}")
}

fn cables(plan: &Plan) -> Vec<Cable> {
    let router = |host: Host, link: u8| End {
        host: Host::Core,
        interface: host.to_string(),
        address: Some(Ipv4Addr::new(10, 77, link, 1)),
        mac: mac(link, 1),
        port: match host {
            Host::Prover => Direction::Down,
            Host::Challenger(_) | Host::Bystander => Direction::Up,
            _ => Direction::Aside,
        },
    };
    let host = |host: Host, link: u8, interface: &str| End {
        host,
        interface: interface.to_owned(),
        address: Some(Ipv4Addr::new(10, 77, link, 2)),
        mac: mac(link, 2),
        port: match host {
            Host::Prover if interface == "eth0" => Direction::Up,
            Host::Challenger(_) | Host::Bystander => Direction::Down,
            _ => Direction::Aside,
        },
    };
    // What the wire sends again after a refusal is not lost: its ends are not counted as loss.
    let wire = |interface: &str, link: u8, side: u8| End {
        host: Host::Wire,
        interface: interface.to_owned(),
        address: None,
        mac: mac(link, side),
        port: Direction::Aside,
    };
    let mut cables = Vec::new();
    for each in plan.hosts() {
        let Some(link) = each.link() else { continue };
        let (near, far) = (router(each, link), host(each, link, "eth0"));
        if each == Host::Prover && plan.wire.is_some() {
            cables.push(Cable {
                near,
                far: wire(WIRE_NEAR, link, 3),
            });
            cables.push(Cable {
                near: wire(WIRE_FAR, link, 4),
                far,
            });
        } else {
            cables.push(Cable { near, far });
        }
    }
    let mut management = router(Host::Prover, MANAGEMENT_LINK);
    "mgmt".clone_into(&mut management.interface);
    management.port = Direction::Aside;
    cables.push(Cable {
        near: management,
        far: host(Host::Prover, MANAGEMENT_LINK, "mgmt0"),
    });
    cables
}

/// Makes everything the plan names, in namespaces called `pl<tag>-…`.
pub(crate) fn build(plan: &Plan, tag: &str) -> Result<Vec<Port>, LabError> {
    let cables = cables(plan);
    let spaces = plan
        .hosts()
        .map(|host| format!("netns add {}", namespace(tag, host).name()));
    tool::ip_batch(None, &spaces.collect::<Vec<_>>())?;
    for host in plan.hosts() {
        settings(&namespace(tag, host), host == Host::Core, plan.ipv6)?;
    }
    let pairs = cables.iter().map(|Cable { near, far }| {
        format!(
            "link add {} netns {} address {} mtu {mtu} type veth peer name {} netns {} address {} mtu {mtu}",
            near.interface,
            namespace(tag, near.host).name(),
            near.mac,
            far.interface,
            namespace(tag, far.host).name(),
            far.mac,
            mtu = plan.mtu,
        )
    });
    tool::ip_batch(None, &pairs.collect::<Vec<_>>())?;
    for host in plan.hosts() {
        tool::ip_batch(
            Some(namespace(tag, host).name()),
            &host_script(plan, host, &cables),
        )?;
    }
    if plan.ipv6 {
        // Not before multicast is off: a router that becomes one joins the groups of all routers, and says so.
        namespace(tag, Host::Core).run("making it a router of IPv6", || {
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")
        })?;
    }
    let ends: Vec<&End> = cables
        .iter()
        .flat_map(|cable| [&cable.near, &cable.far])
        .collect();
    for end in &ends {
        offloads_off(&namespace(tag, end.host), &end.interface)?;
    }
    shape_down(tag, &plan.down)?;
    if let Some(up) = &plan.up {
        shape(&namespace(tag, Host::Prover), "eth0", &cut(up, plan.mtu))?;
    }
    if plan.wire.is_some() {
        let wire = namespace(tag, Host::Wire);
        for interface in [WIRE_NEAR, WIRE_FAR] {
            back_pressure(&wire, interface)?;
        }
    }
    Ok(ends
        .iter()
        .map(|end| Port {
            host: end.host,
            interface: end.interface.clone(),
            direction: end.port,
        })
        .collect())
}

fn settings(namespace: &Namespace, router: bool, ipv6: bool) -> Result<(), LabError> {
    namespace.run("writing its settings under /proc/sys", move || {
        let family = if ipv6 { &QUIET_IPV6[..] } else { &NO_IPV6[..] };
        let forward = router.then_some(("net/ipv4/ip_forward", "1"));
        for (key, value) in SETTINGS
            .into_iter()
            .chain(family.iter().copied())
            .chain(forward)
        {
            let path = format!("/proc/sys/{key}");
            match fs::write(&path, value) {
                // A kernel without IPv6 has nothing to silence.
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound
                        && key.contains("ipv6")
                        && !ipv6 => {}
                Err(error) => {
                    return Err(std::io::Error::new(
                        error.kind(),
                        format!("{path}: {error}"),
                    ));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    })
}

/// Everything inside one host, as lines for `ip -batch`.
fn host_script(plan: &Plan, host: Host, cables: &[Cable]) -> Vec<String> {
    let mut script = vec!["link set lo up".to_owned()];
    for cable in cables {
        for end in [&cable.near, &cable.far]
            .into_iter()
            .filter(|end| end.host == host)
        {
            let dev = &end.interface;
            if plan.ipv6 {
                // Neither listener reports nor solicited-node groups: both are multicast that nobody asked for.
                script.push(format!("link set {dev} multicast off arp off"));
            }
            if let Some(address) = end.address {
                script.push(format!("addr add {address}/24 dev {dev}"));
            }
            script.push(format!("link set {dev} up"));
            let Some(address) = end.address else { continue };
            let [a, b, link, last] = address.octets();
            let other = Ipv4Addr::new(a, b, link, 3 - last);
            let neighbour = |other: std::net::IpAddr| {
                let mac = mac(link, 3 - last);
                format!("neigh replace {other} lladdr {mac} dev {dev} nud permanent")
            };
            script.push(neighbour(other.into()));
            if plan.ipv6 {
                let own = ipv6(link, last);
                script.push(format!("addr add {own}/64 dev {dev} nodad"));
                script.push(neighbour(ipv6(link, 3 - last).into()));
            }
        }
    }
    let gateway = |link: u8| Ipv4Addr::new(10, 77, link, 1);
    match host {
        Host::Prover => {
            if let (Some(measured), Some(coordinator)) = (host.link(), Host::Coordinator.link()) {
                script.push(format!("route add default via {}", gateway(measured)));
                script.push(format!(
                    "route add 10.77.{coordinator}.0/24 via {} dev mgmt0",
                    gateway(MANAGEMENT_LINK)
                ));
            }
        }
        Host::Core | Host::Wire => {}
        Host::Coordinator | Host::Challenger(_) | Host::Bystander => {
            script.extend(
                host.link()
                    .map(|link| format!("route add default via {}", gateway(link))),
            );
        }
    }
    if plan.ipv6 {
        let link = host.link();
        script.extend(link.map(|link| format!("route add ::/0 via {}", ipv6(link, 1))));
    }
    debug_assert!(plan.hosts().any(|each| each == host));
    script
}

/// Switches off what merges or splits packets, and looks whether it is off.
fn offloads_off(namespace: &Namespace, interface: &str) -> Result<(), LabError> {
    let inside = ["netns", "exec", namespace.name(), "ethtool"];
    let list = || tool::run("ip", &[&inside[..], &["-k", interface]].concat());
    let state = |text: &str, feature: &str| {
        let line = text.lines().find_map(|line| {
            line.trim()
                .strip_prefix(feature)?
                .strip_prefix(": ")
                .map(str::to_owned)
        });
        line.map(|value| value.starts_with("on"))
    };
    let before = list()?;
    let mut change = [&inside[..], &["-K", interface]].concat();
    let wanted: Vec<_> = OFFLOADS
        .iter()
        .filter(|(_, long)| state(&before, long) == Some(true))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    for (short, _) in &wanted {
        change.extend([*short, "off"]);
    }
    tool::run("ip", &change)?;
    let after = list()?;
    match wanted
        .iter()
        .find(|(_, long)| state(&after, long) != Some(false))
    {
        None => Ok(()),
        Some((_, feature)) => Err(LabError::Offload {
            namespace: namespace.name().to_owned(),
            interface: interface.to_owned(),
            feature: (*feature).to_owned(),
        }),
    }
}

/// Puts the measured direction's shaper in place, or changes the one that is there; its counters go on.
pub(crate) fn shape_down(tag: &str, shape: &Shape) -> Result<(), LabError> {
    self::shape(&namespace(tag, Host::Core), "prover", shape)
}

fn shape(namespace: &Namespace, interface: &str, shape: &Shape) -> Result<(), LabError> {
    let line = format!(
        "-n {} qdisc replace dev {interface} root handle 1: {}",
        namespace.name(),
        tbf(shape)
    );
    tool::run("tc", &line.split(' ').collect::<Vec<_>>())?;
    Ok(())
}

/// The shaper in tc's words. The kernel's tbf keeps two buckets: `burst` fills at `rate`, and a small one at
/// `peakrate`; a packet passes when both hold it.
fn tbf(shape: &Shape) -> String {
    let plain = format!(
        "tbf rate {}bit burst {}b limit {}b",
        shape.ethernet_bps, shape.burst_bytes, shape.limit_bytes
    );
    match shape.peak {
        None => plain,
        Some(peak) => format!(
            "{plain} peakrate {}bit mtu {}b",
            peak.ethernet_bps, peak.burst_bytes
        ),
    }
}

/// A shaper on the sender's own host is handed bursts in one piece, and counts one that it drops as one packet
/// (sch_tbf, Linux 6.18) unless it is longer than the bucket, when it cuts it first. A peak of one and a half
/// frames, at a rate that holds nobody up, makes it cut all of them.
fn cut(shape: &Shape, mtu: u16) -> Shape {
    let frame = u32::from(mtu) + 14;
    let peak = (shape.ethernet_bps < CUT_BPS).then_some(Peak {
        ethernet_bps: CUT_BPS,
        burst_bytes: frame + frame / 2,
    });
    Shape {
        peak: shape.peak.or(peak),
        ..*shape
    }
}

/// A short queue where the wire sends: a full veth ring then stops the queue instead of dropping.
fn back_pressure(namespace: &Namespace, interface: &str) -> Result<(), LabError> {
    let line = format!(
        "-n {} qdisc replace dev {interface} root handle 1: pfifo limit 1000",
        namespace.name()
    );
    tool::run("tc", &line.split(' ').collect::<Vec<_>>())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::WirePlan;
    use std::time::Duration;

    #[test]
    fn a_wire_cuts_only_the_measured_cable() {
        let mut plan = Plan::backhaul(2, Shape::ethernet(1_000_000_000), None);
        assert_eq!(
            cables(&plan).len(),
            5,
            "coordinator, prover, two challengers, management"
        );
        plan.wire = Some(WirePlan::delay(Duration::from_millis(1)));
        let cut = cables(&plan);
        assert_eq!(cut.len(), 6);
        assert!(
            cut.iter()
                .all(|c| (c.near.host == Host::Wire || c.far.host == Host::Wire)
                    == (c.near.mac.contains(":02:") || c.far.mac.contains(":02:")))
        );
    }

    #[test]
    fn a_shaper_beside_its_sender_cuts_whatever_is_longer_than_a_frame() {
        let shape = Shape::ip_layer(100_000_000, 1500);
        let told = tbf(&cut(&shape, 1500));
        assert!(
            told.ends_with("peakrate 10000000000bit mtu 2271b"),
            "{told}"
        );
        let bucket = Shape::bucket(100_000_000, 1_000_000, 500_000_000, 1500);
        assert_eq!(cut(&bucket, 1500), bucket);
    }

    #[test]
    fn the_prover_answers_the_coordinator_on_the_side() {
        let plan = Plan::backhaul(1, Shape::ethernet(1_000_000_000), None);
        let script = host_script(&plan, Host::Prover, &cables(&plan)).join("\n");
        assert!(
            script.contains("route add 10.77.1.0/24 via 10.77.3.1 dev mgmt0"),
            "{script}"
        );
        assert!(
            script.contains("route add default via 10.77.2.1"),
            "{script}"
        );
        assert!(
            script.contains(
                "neigh replace 10.77.2.1 lladdr 02:50:4c:00:02:01 dev eth0 nud permanent"
            ),
            "{script}"
        );
    }
}
