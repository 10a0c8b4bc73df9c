//! The AF_XDP engine over a real veth: what it says is sent arrives, and what is not is counted.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use plumbline::generator::{
    Ended, EngineChoice, FloodOutcome, FloodPlan, GeneratorError, Link, flood_with,
};
use plumbline_proof::backhaul::params::BURST_PACKETS;

use crate::rig::{DATA_PORT, Lab, MINUTE, SESSION, challenger, ip, packets, within};

const LEN: usize = 1472;
/// Receive buffer for the whole of a test's packets.
const BUFFER: usize = 64 << 20;

fn mac(namespace: &str) -> [u8; 6] {
    let shown = ip(&format!("-n {namespace} -br link show veth0"));
    let text = shown.split_whitespace().nth(2).unwrap();
    let bytes: Vec<_> = text
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

fn link(lab: &Lab, source: SocketAddr) -> Link {
    let prover: IpAddr = if source.is_ipv6() {
        "fd77::1".parse().unwrap()
    } else {
        "10.77.0.1".parse().unwrap()
    };
    Link {
        interface: "veth0".into(),
        queue: 0,
        source_mac: mac(&lab.challenger),
        destination_mac: mac(&lab.prover),
        source,
        destination: (prover, DATA_PORT).into(),
    }
}

/// A socket at the prover that holds all packets of a test.
fn receiver(lab: &Lab) -> UdpSocket {
    let socket = within(&lab.prover, || UdpSocket::bind(("::", DATA_PORT)).unwrap());
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn transmit(
    lab: &Lab,
    socket: &UdpSocket,
    packets: &[u8],
    packet_len: usize,
    rate_bps: u64,
    link: Link,
) -> Result<FloodOutcome, GeneratorError> {
    let stop = AtomicBool::new(false);
    let now = plumbline::clock::realtime_ns();
    let plan = FloodPlan {
        socket,
        packet_len,
        rate_bps,
        burst_packets: BURST_PACKETS,
        jitter: 7,
        duration_ns: MINUTE,
        start_realtime_ns: now,
        deadline_realtime_ns: now + MINUTE,
        stop: &stop,
    };
    within(&lab.challenger, || {
        flood_with(&plan, &mut &*packets, &EngineChoice::AfXdp(link))
    })
}

/// Receives whatever comes until `count` packets are there, and compares each.
fn arrive(receiver: &UdpSocket, all: &[u8], count: usize, from: SocketAddr) {
    let mut buffer = [0; 2048];
    for (i, packet) in all.chunks(LEN).take(count).enumerate() {
        let (n, source) = receiver
            .recv_from(&mut buffer)
            .unwrap_or_else(|e| panic!("packet {i}: {e}"));
        assert!(buffer[..n] == *packet, "packet {i} of {n} bytes");
        assert_eq!(source.port(), from.port());
        assert_eq!(source.ip().to_canonical(), from.ip());
    }
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut buffer).is_err(), "and nothing more");
}

#[test]
fn af_xdp_sends_every_packet_once_in_order_over_both_ips() {
    for v6 in [false, true] {
        let lab = Lab::new();
        let receiver = receiver(&lab);
        let sender = challenger(&lab, v6);
        let from = sender.local_addr().unwrap();
        // More than the area has frames, and no multiple of a burst.
        let all = packets(SESSION, 0, 5003);
        let link = link(&lab, from);
        let outcome = transmit(&lab, &sender, &all, LEN, 2_000_000_000, link).unwrap();
        assert_eq!(outcome.engine, "af_xdp-copy");
        assert_eq!((outcome.sent, outcome.ended), (5003, Ended::Exhausted));
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        // Where two bursts are due they go together.
        assert!((313..=626).contains(&outcome.gaps.len()));
        arrive(&receiver, &all, 5003, from);
        assert_eq!(lab.dropped_by_veth(), 0);
    }
}

#[test]
fn a_packet_that_the_device_refuses_is_an_error_and_not_sent() {
    let lab = Lab::new();
    let receiver = receiver(&lab);
    let sender = challenger(&lab, false);
    let from = sender.local_addr().unwrap();
    let all = packets(SESSION, 0, 1000);
    // No carrier: every packet is refused, completed all the same, and answered with EBUSY.
    ip(&format!("-n {} link set veth0 down", lab.prover));
    let link = link(&lab, from);
    let refused = transmit(&lab, &sender, &all, LEN, 5_000_000_000, link.clone()).unwrap();
    assert_eq!((refused.sent, refused.ended), (0, Ended::Exhausted));
    assert_eq!(refused.errors, [(Errno::EBUSY as i32, 1000)]);
    assert_eq!(refused.last_send_ns, None);
    // And with it they go.
    ip(&format!("-n {} link set veth0 up", lab.prover));
    let outcome = transmit(&lab, &sender, &all, LEN, 2_000_000_000, link).unwrap();
    assert_eq!((outcome.sent, outcome.errors.len()), (1000, 0));
    arrive(&receiver, &all, 1000, from);
}

#[test]
fn as_fast_as_it_can_every_packet_is_still_sent_or_an_error() {
    let lab = Lab::new();
    let receiver = receiver(&lab);
    let sender = challenger(&lab, false);
    let link = link(&lab, sender.local_addr().unwrap());
    let all = packets(SESSION, 0, 20_000);
    let outcome = transmit(&lab, &sender, &all, LEN, u64::MAX >> 8, link).unwrap();
    let errors: u64 = outcome.errors.iter().map(|(_, n)| n).sum();
    assert_eq!(outcome.sent + errors, 20_000);
    let mut buffer = [0; 2048];
    let mut arrived = 0;
    receiver
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    while arrived < outcome.sent && receiver.recv(&mut buffer).is_ok() {
        arrived += 1;
    }
    assert_eq!(arrived, outcome.sent, "{:?}", outcome.errors);
}

#[test]
fn a_link_that_cannot_be_is_refused_by_what_is_wrong_with_it() {
    let lab = Lab::new();
    let sender = challenger(&lab, false);
    let good = link(&lab, sender.local_addr().unwrap());
    let all = packets(SESSION, 0, 10);
    let refused = |link: Link, length: usize| {
        let packets = &all[..length];
        let error = transmit(&lab, &sender, packets, length, 1_000_000, link).unwrap_err();
        error.to_string()
    };
    let nowhere = Link {
        interface: "veth9".into(),
        ..good.clone()
    };
    assert!(refused(nowhere, LEN).contains("veth9"));
    let no_queue = Link {
        queue: 99,
        ..good.clone()
    };
    assert!(refused(no_queue, LEN).contains("queue 99"));
    let mixed = Link {
        destination: "[fd77::1]:47000".parse().unwrap(),
        ..good.clone()
    };
    assert!(refused(mixed, LEN).contains("different IP versions"));
    // A frame holds a page: 42 bytes of headers and 4054 of payload.
    assert!(refused(good, 4055).contains("a frame of 4097 bytes"));
}

#[test]
fn a_queue_has_one_sender_and_the_second_is_told_so() {
    let lab = Lab::new();
    let receiver = receiver(&lab);
    let sender = challenger(&lab, false);
    let link = link(&lab, sender.local_addr().unwrap());
    // Minutes of packets at this rate.
    let all = packets(SESSION, 0, 10_000);
    let stop = AtomicBool::new(false);
    let now = plumbline::clock::realtime_ns();
    let plan = FloodPlan {
        socket: &sender,
        packet_len: LEN,
        rate_bps: 1_200_000,
        burst_packets: BURST_PACKETS,
        jitter: 7,
        duration_ns: MINUTE,
        start_realtime_ns: now,
        deadline_realtime_ns: now + MINUTE,
        stop: &stop,
    };
    let choice = EngineChoice::AfXdp(link.clone());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            within(&lab.challenger, || {
                flood_with(&plan, &mut &all[..], &choice).unwrap()
            })
        });
        // It has the queue once something came through it.
        receiver.recv(&mut [0; 2048]).unwrap();
        let second = transmit(&lab, &sender, &all, LEN, 1_000_000, link).unwrap_err();
        stop.store(true, Ordering::Relaxed);
        let said = second.to_string();
        assert!(
            said.contains("another AF_XDP socket has this queue"),
            "{said}"
        );
        assert_eq!(first.join().unwrap().ended, Ended::Stopped);
    });
}
