//! Other shapes than one queue of MTU 1500: jumbo packets in several buffers, several queues, several
//! sessions at once. Every packet is accounted for in each.

use std::net::SocketAddr;

use plumbline::datapath::{DatapathError, PathChoice, ReceiverConfig, SessionSpec, tai_ns};
use plumbline_wire::{Fate, Size};

use crate::rig::{
    Lab, MINUTE, SESSION, Tally, challenger, known, open, packets_of, send_of, settle, spec, within,
};

const COUNT: usize = 3_000;
/// Of 3,000 sequence numbers the test's sink refuses every tenth.
const ACCEPTED: u64 = 2_700;

fn jumbo(path: PathChoice, receiver_is: &str, v6: bool) {
    let lab = Lab::with(9008, 1);
    let receiver = lab.start(path);
    assert_eq!(receiver.info().receiver, receiver_is);
    let socket = challenger(&lab, v6);
    let flow = packets_of(Size::Jumbo, SESSION, 0, COUNT);
    let sink = Tally::of(Size::Jumbo, &[&flow]);
    let session = SessionSpec {
        size: Size::Jumbo,
        ..spec(&[(0, socket.local_addr().unwrap())])
    };
    let handle = open(&receiver, &session, &sink).unwrap();
    let before = lab.dropped_by_veth();
    let lost = || lab.dropped_by_veth() - before;
    let sent = send_of(Size::Jumbo, &socket, &flow, 1_000_000_000).sent;
    let counters = settle(&receiver, |c| known(c) + lost() >= sent);
    // A whole packet of another length is not this session's.
    let short = packets_of(Size::Standard, SESSION, 0, 10);
    send_of(Size::Standard, &socket, &short, 100_000_000);
    let length = |c: &plumbline::datapath::Counters| c.fate(Fate::DroppedLength);
    assert_eq!(length(&settle(&receiver, |c| length(c) == 10)), 10);
    handle.close().unwrap();
    let tally = sink.counts();
    assert_eq!(tally.wrong_leaves, 0);
    assert_eq!(
        sent,
        tally.accepted + tally.refused + counters.refused() + lost(),
        "{counters:?}"
    );
    if counters.refused() + lost() == 0 {
        assert_eq!(tally.accepted, ACCEPTED);
    }
    assert!(tally.accepted > 0);
}

#[test]
fn jumbo_packets_come_whole_through_native_xdp() {
    jumbo(PathChoice::Native, "af_xdp", false);
    jumbo(PathChoice::Native, "af_xdp", true);
}

#[test]
fn jumbo_packets_come_whole_through_a_plain_socket() {
    jumbo(PathChoice::Socket, "recvmmsg", false);
}

#[test]
fn packets_that_the_interface_cannot_carry_are_refused_when_the_session_is_opened() {
    let lab = Lab::new();
    let receiver = lab.start(PathChoice::Native);
    let session = SessionSpec {
        size: Size::Jumbo,
        ..spec(&[(0, "10.77.0.2:9".parse().unwrap())])
    };
    let sink = Tally::of(Size::Jumbo, &[&[]]);
    let refused = open(&receiver, &session, &sink)
        .err()
        .expect("MTU 1520 carries no jumbo packets");
    assert!(
        matches!(
            refused,
            DatapathError::Mtu {
                mtu: 1520,
                packet_bytes: 8988,
                ..
            }
        ),
        "{refused}"
    );
}

/// Eight challengers over two queues, in two sessions of different sizes at once.
#[test]
fn several_queues_and_several_sessions_at_once_lose_nothing_unnamed() {
    let lab = Lab::with(1520, 2);
    let config = ReceiverConfig {
        queues: vec![0, 1],
        cores: vec![0, 1],
        ..lab.config(PathChoice::Native)
    };
    let receiver = within(&lab.prover, || crate::rig::start(&config)).unwrap();
    assert_eq!(receiver.info().queues, 2);
    let sizes = [Size::Standard, Size::Tunnel];
    let ids = [SESSION, *b"second session 2"];
    let sockets: Vec<_> = (0..8).map(|_| challenger(&lab, false)).collect();
    let flows: Vec<_> = (0..8u16)
        .map(|i| {
            let which = usize::from(i % 2);
            packets_of(sizes[which], ids[which], i / 2, COUNT)
        })
        .collect();
    let sinks: Vec<_> = (0..2)
        .map(|which| {
            let mine: Vec<&[u8]> = (0..4).map(|i| &flows[2 * i + which][..]).collect();
            Tally::of(sizes[which], &mine)
        })
        .collect();
    let handles: Vec<_> = (0..2)
        .map(|which| {
            let senders: Vec<(u16, SocketAddr)> = (0..4u16)
                .map(|i| (i, sockets[2 * usize::from(i) + which].local_addr().unwrap()))
                .collect();
            let session = SessionSpec {
                session: ids[which],
                size: sizes[which],
                until_tai_ns: tai_ns() + MINUTE,
                ..spec(&senders)
            };
            open(&receiver, &session, &sinks[which]).unwrap()
        })
        .collect();
    let before = lab.dropped_by_veth();
    let lost = || lab.dropped_by_veth() - before;
    let sent: u64 = std::thread::scope(|scope| {
        let flooding: Vec<_> = (0..8)
            .map(|i| {
                let (socket, flow) = (&sockets[i], &flows[i]);
                scope.spawn(move || send_of(sizes[i % 2], socket, flow, 100_000_000).sent)
            })
            .collect();
        flooding.into_iter().map(|f| f.join().unwrap()).sum()
    });
    let counters = settle(&receiver, |c| known(c) + lost() >= sent);
    for handle in handles {
        handle.close().unwrap();
    }
    let tallies: Vec<_> = sinks.iter().map(|s| s.counts()).collect();
    let taken: u64 = tallies.iter().map(|t| t.accepted + t.refused).sum();
    assert_eq!(sent, taken + counters.refused() + lost(), "{counters:?}");
    assert_eq!(counters.fate(Fate::DroppedNoSocket), 0, "both are served");
    for tally in tallies {
        assert_eq!(tally.wrong_leaves, 0);
        assert!(tally.accepted > 0);
    }
}
