//! The guest's two cards, each in a namespace of its own, joined outside by QEMU's hub.
//!
//! The hub keeps what a card cannot take yet, up to 10,000 packets, and loses none before that; and what
//! senders may have under way (their socket buffers) fits the queue of the sending card. So a test that
//! sends fewer finds all of them again: there is no path loss to be subtracted.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use plumbline::datapath::{DatapathError, PathChoice, Receiver, ReceiverConfig};

use crate::rig::{self, Lab, breathe, ip};

/// Packets that QEMU's queues hold before they lose one (`nq_maxlen`): tests stay below it.
pub(crate) const HUB_QUEUE: u64 = 10_000;

/// MAC addresses that tell the cards apart.
const PROVER: &str = "52:54:00:00:00:01";
const CHALLENGER: &str = "52:54:00:00:00:02";

/// The name of both cards, each in its namespace.
const NIC: &str = "nic0";

/// For the link to come up: e1000e negotiates for seconds, and an emulated processor is slow.
const LINK_UP: Duration = Duration::from_secs(60);

/// The test bed.
pub(crate) struct Bed {
    pub(crate) lab: Lab,
    mtu: Option<u32>,
}

impl Bed {
    /// Takes both cards. They are down.
    pub(crate) fn new() -> Self {
        // fq_codel, the distribution's choice, drops what waits too long: on a slow machine, packets of ours.
        fs::write("/proc/sys/net/core/default_qdisc", "pfifo_fast").unwrap();
        let lab = Lab {
            prover: "prover".into(),
            challenger: "challenger".into(),
        };
        for (namespace, address) in [(&lab.prover, PROVER), (&lab.challenger, CHALLENGER)] {
            let card = card(address);
            ip(&format!("netns add {namespace}"));
            ip(&format!("link set {card} netns {namespace} name {NIC}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        Self { lab, mtu: None }
    }

    /// Brings both cards up at this MTU, unless they are.
    pub(crate) fn set_mtu(&mut self, mtu: u32) {
        if self.mtu == Some(mtu) {
            return;
        }
        self.mtu = None;
        for (namespace, host) in [(&self.lab.prover, 1), (&self.lab.challenger, 2)] {
            let ip = |rest: &str| ip(&format!("-n {namespace} {rest}"));
            ip(&format!("link set {NIC} down"));
            ip(&format!("link set {NIC} mtu {mtu} up"));
            ip(&format!("addr replace 10.77.0.{host}/24 dev {NIC}"));
            // Going down took it away.
            ip(&format!("addr replace fd77::{host}/64 dev {NIC} nodad"));
        }
        for address in ["10.77.0.1", "fd77::1"] {
            ip(&format!(
                "-n {} neigh replace {address} lladdr {PROVER} dev {NIC}",
                self.lab.challenger
            ));
        }
        // Until then what is sent is dropped on the spot, and nobody counts it. What `ip` says of the link
        // may be of the time before, so a packet is asked.
        for (from, to) in [("10.77.0.2", "10.77.0.1"), ("fd77::2", "fd77::1")] {
            assert!(
                self.hears(from, to),
                "nothing sent from {from} reached {to} within {LINK_UP:?}:\n{}",
                self.statistics()
            );
        }
        self.mtu = Some(mtu);
    }

    /// Whether a datagram arrives before the deadline; sent again and again, as the first ones may not.
    fn hears(&self, from: &str, to: &str) -> bool {
        let socket = |namespace, address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let socket = rig::within(namespace, || UdpSocket::bind((address, 0)).unwrap());
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let speaks = socket(&self.lab.challenger, from);
        let hears = socket(&self.lab.prover, to);
        let target = hears.local_addr().unwrap();
        let until = Instant::now() + LINK_UP;
        while Instant::now() < until {
            // That it cannot be sent yet is no news.
            let _ = speaks.send_to(b"anybody there?", target);
            breathe();
            if hears.recv(&mut [0; 16]).is_ok() {
                return true;
            }
        }
        false
    }

    /// Of both cards; 0 while they are down.
    pub(crate) fn mtu(&self) -> u32 {
        self.mtu.unwrap_or(0)
    }

    /// Starts a receiver on the prover's card.
    pub(crate) fn start(&self, path: PathChoice) -> Result<Receiver, DatapathError> {
        let config = ReceiverConfig {
            interface: NIC.into(),
            ..self.lab.config(path)
        };
        rig::within(&self.lab.prover, || rig::start(&config))
    }

    /// XDP on the prover's card as `ip` sees it.
    pub(crate) fn xdp(&self) -> &'static str {
        let shown = ip(&format!("-n {} link show dev {NIC}", self.lab.prover));
        // `ip` says "xdp" for native and "xdpgeneric" for generic.
        if shown.contains("xdpgeneric") {
            "generic"
        } else if shown.contains("xdp") {
            "native"
        } else {
            "none"
        }
    }

    /// What both cards count, for whoever looks for a lost packet.
    pub(crate) fn statistics(&self) -> String {
        [&self.lab.prover, &self.lab.challenger]
            .map(|namespace| ip(&format!("-n {namespace} -s -s link show dev {NIC}")))
            .concat()
    }
}

/// The interface with that MAC address.
fn card(address: &str) -> String {
    let names = fs::read_dir("/sys/class/net").unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_it = |name: &String| {
        let shown = fs::read_to_string(format!("/sys/class/net/{name}/address"));
        shown.unwrap().trim() == address
    };
    names
        .find(is_it)
        .unwrap_or_else(|| panic!("no card has the address {address}; is its driver loaded?"))
}
