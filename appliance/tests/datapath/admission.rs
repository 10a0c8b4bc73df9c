//! Who may send, and from when: whoever knows everything of a challenger but its cookie spends nothing of its
//! consent, and nobody's packets are admitted before the start. And what the host itself lost.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

use plumbline::datapath::{Counters, PathChoice, Receiver, ReceiverConfig, SessionSpec, tai_ns};
use plumbline_wire::consent::CLOSED;
use plumbline_wire::header::{COOKIE_AT, DATA_LEN};
use plumbline_wire::{Fate, Size};
use socket2::{Domain, Protocol, Socket, Type};

use crate::rig::{
    DATA_PORT, Lab, MINUTE, SESSION, Tally, challenger, known, open, packets, send, settle, spec,
    start, within,
};

/// Packets of each sender. The test's sink refuses every tenth.
const COUNT: usize = 300;
const ACCEPTED: u64 = 270;
const RATE: u64 = 100_000_000;
/// Bytes of the headers in front of a spoofed payload.
const HEADERS: usize = 28;

/// Sends `flow` as if it came from `from`, by a socket that writes IP headers itself.
fn spoof(lab: &Lab, from: SocketAddr, flow: &[u8]) {
    let SocketAddr::V4(from) = from else {
        panic!("{from} is not IPv4");
    };
    let to = SocketAddrV4::new("10.77.0.1".parse().unwrap(), DATA_PORT);
    let raw = within(&lab.challenger, || {
        let protocol = Protocol::from(libc::IPPROTO_RAW);
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol)).unwrap();
        socket.set_header_included_v4(true).unwrap();
        socket
    });
    for payload in flow.chunks(DATA_LEN) {
        // The kernel fills in length and checksum.
        let mut packet = vec![0; HEADERS];
        packet[0] = 0x45;
        packet[8] = 64;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&from.ip().octets());
        packet[16..20].copy_from_slice(&to.ip().octets());
        packet[20..22].copy_from_slice(&from.port().to_be_bytes());
        packet[22..24].copy_from_slice(&to.port().to_be_bytes());
        let length = u16::try_from(8 + payload.len()).unwrap();
        packet[24..26].copy_from_slice(&length.to_be_bytes());
        packet.extend_from_slice(payload);
        raw.send_to(&packet, &SocketAddr::V4(to).into()).unwrap();
    }
}

/// Waits for `count` frames of this fate.
fn met(receiver: &Receiver, fate: Fate, count: u64) -> u64 {
    settle(receiver, |c| c.fate(fate) >= count).fate(fate)
}

#[test]
fn who_spoofs_everything_but_the_cookie_spends_nothing_of_a_consent() {
    for path in [PathChoice::Native, PathChoice::Generic, PathChoice::Socket] {
        let lab = Lab::new();
        let receiver = lab.start(path);
        let socket = challenger(&lab, false);
        let honest = socket.local_addr().unwrap();
        let flow = packets(SESSION, 0, COUNT);
        let sink = Tally::new(&[&flow]);
        let session = SessionSpec {
            cap_packets: COUNT as u64,
            ..spec(&[(0, honest)])
        };
        let handle = open(&receiver, &session, &sink).unwrap();
        // As many as would have spent all of it.
        let mut spoofed = flow.clone();
        for packet in spoofed.chunks_mut(DATA_LEN) {
            packet[COOKIE_AT] ^= 1;
        }
        spoof(&lab, honest, &spoofed);
        let count = COUNT as u64;
        assert_eq!(
            met(&receiver, Fate::DroppedCookie, count),
            count,
            "{path:?}"
        );
        send(&socket, &flow, RATE);
        let counters = settle(&receiver, |c| known(c) >= 2 * count);
        assert_eq!(counters.fate(Fate::DroppedOverConsent), 0, "{path:?}");
        // It is the cookie that decides: with it the same sender passes for the honest one, and the cap holds.
        spoof(&lab, honest, &flow[..2 * DATA_LEN]);
        assert_eq!(met(&receiver, Fate::DroppedOverConsent, 2), 2, "{path:?}");
        handle.close().unwrap();
        let tally = sink.counts();
        assert_eq!(
            (tally.accepted, tally.refused),
            (ACCEPTED, count - ACCEPTED),
            "{path:?}: {counters:?}"
        );
    }
}

#[test]
fn nothing_is_admitted_before_the_start_and_a_start_is_set_once() {
    for path in [PathChoice::Native, PathChoice::Socket] {
        let lab = Lab::new();
        let receiver = lab.start(path);
        let socket = challenger(&lab, false);
        let flow = packets(SESSION, 0, COUNT);
        let sink = Tally::new(&[&flow]);
        let session = SessionSpec {
            from_tai_ns: CLOSED,
            cap_packets: COUNT as u64,
            ..spec(&[(0, socket.local_addr().unwrap())])
        };
        let count = COUNT as u64;
        // No start yet, and one that is to come.
        let mut handle = open(&receiver, &session, &sink).unwrap();
        send(&socket, &flow, RATE);
        assert_eq!(met(&receiver, Fate::DroppedEarly, count), count, "{path:?}");
        handle.arm(tai_ns() + MINUTE).unwrap();
        send(&socket, &flow, RATE);
        let early = met(&receiver, Fate::DroppedEarly, 2 * count);
        assert_eq!(early, 2 * count, "{path:?}: to come");
        handle.close().unwrap();
        assert_eq!(sink.counts().accepted, 0, "{path:?}");
        // What came early has taken nothing from the cap, and a second start gives nothing back to it.
        let mut handle = open(&receiver, &session, &sink).unwrap();
        send(&socket, &flow, RATE);
        assert_eq!(met(&receiver, Fate::DroppedEarly, 3 * count), 3 * count);
        handle.arm(tai_ns()).unwrap();
        send(&socket, &flow, RATE);
        settle(&receiver, |c| c.thread.frames >= count);
        handle.arm(tai_ns()).unwrap();
        send(&socket, &flow[..DATA_LEN], RATE);
        assert_eq!(met(&receiver, Fate::DroppedOverConsent, 1), 1, "{path:?}");
        handle.close().unwrap();
        assert_eq!(sink.counts().accepted, ACCEPTED, "{path:?}");
    }
}

/// A data packet at the IP layer: a veth counts its Ethernet header only where no native XDP is attached.
const PACKET: u64 = 1500;

#[test]
fn the_interface_says_what_it_received_whichever_way_it_is_taken() {
    for path in [PathChoice::Native, PathChoice::Generic, PathChoice::Socket] {
        let lab = Lab::new();
        let receiver = lab.start(path);
        let before = receiver.counters().unwrap();
        let socket = challenger(&lab, false);
        let flow = packets(SESSION, 0, COUNT);
        let sink = Tally::new(&[&flow]);
        let session = spec(&[(0, socket.local_addr().unwrap())]);
        let handle = open(&receiver, &session, &sink).unwrap();
        send(&socket, &flow, RATE);
        let count = COUNT as u64;
        let received = |c: &Counters| {
            let (before, now) = (before.interface.unwrap(), c.interface.unwrap());
            (now.frames - before.frames, now.bytes - before.bytes)
        };
        let after = settle(&receiver, |c| known(c) >= count && received(c).0 >= count);
        handle.close().unwrap();
        let (frames, bytes) = received(&after);
        // The kernel says a few things of its own on a new link.
        assert!((count..count + 50).contains(&frames), "{path:?}: {frames}");
        assert!(bytes >= count * PACKET, "{path:?}: {bytes}");
        assert_eq!(after.lost_since(&before), 0, "{path:?}: {after:?}");
    }
}

#[test]
fn what_comes_by_a_queue_without_a_socket_is_lost_by_the_host() {
    let lab = Lab::with(1520, 2);
    let config = ReceiverConfig {
        queues: vec![1],
        ..lab.config(PathChoice::Native)
    };
    let receiver = within(&lab.prover, || start(&config)).unwrap();
    let before = receiver.counters().unwrap();
    let flow = packets(SESSION, 0, 10);
    // Flows are spread by their ports; one of so many takes the other queue.
    let sockets: Vec<UdpSocket> = (0..32).map(|_| challenger(&lab, false)).collect();
    let senders: Vec<_> = sockets
        .iter()
        .map(|s| (0, s.local_addr().unwrap()))
        .collect();
    let sink = Tally::of(Size::Standard, &[&flow]);
    let handle = open(&receiver, &spec(&senders), &sink).unwrap();
    for socket in &sockets {
        send(socket, &flow, RATE);
    }
    let after = settle(&receiver, |c| known(c) >= 320);
    handle.close().unwrap();
    let unserved = after.fate(Fate::DroppedNoSocket);
    assert!(unserved > 0, "{after:?}");
    assert_eq!(after.lost_since(&before), unserved, "{after:?}");
}
