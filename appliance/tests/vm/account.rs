//! Every packet that was sent is found again, under one reason.

use std::net::UdpSocket;
use std::time::Duration;

use plumbline::datapath::{Counters, PathChoice, SessionSpec};
use plumbline_wire::{Fate, Size};

use crate::bed::{Bed, HUB_QUEUE};
use crate::cards::Card;
use crate::rig::{
    DATA_PORT, SESSION, Tally, challenger, flood_of, known, open, packets, packets_of, settle,
    spec, within,
};

/// Packets of each sender.
const PACKETS: u64 = 1_003;
/// Senders, all at once.
const SENDERS: u16 = 4;
const _: () = assert!(PACKETS * (SENDERS as u64) < HUB_QUEUE);
/// Of 1,003 sequence numbers the test's sink refuses every tenth.
const ACCEPTED: u64 = 903;

/// Of a flood, bit/s: the emulated machine sends, forwards and receives on one processor.
const RATE: u64 = 20_000_000;

/// Two consented challengers (v4 and v6), one with the wrong index, one without consent. They send one
/// packet a call: whether a card cuts bursts is not asked here.
pub(crate) fn every_packet(bed: &Bed, path: PathChoice, size: Size) {
    let receiver = bed.start(path).unwrap_or_else(|e| panic!("{e}"));
    let sockets = [false, true, false, false].map(|v6| challenger(&bed.lab, v6));
    let flows: Vec<_> = (0..SENDERS)
        .map(|i| packets_of(size, SESSION, i, PACKETS as usize))
        .collect();
    let sink = Tally::of(size, &[&flows[0], &flows[1]]);
    let local = |i: usize| sockets[i].local_addr().unwrap();
    let session = SessionSpec {
        size,
        ..spec(&[(0, local(0)), (1, local(1)), (9, local(2))])
    };
    let handle = open(&receiver, &session, &sink).unwrap();
    std::thread::scope(|scope| {
        for (socket, flow) in sockets.iter().zip(&flows) {
            scope.spawn(move || {
                for packet in flow.chunks(size.payload()) {
                    assert_eq!(socket.send(packet).unwrap(), packet.len());
                }
            });
        }
    });
    let sent = PACKETS * u64::from(SENDERS);
    let counters = settle(&receiver, |c| known(c) >= sent);
    a_bystander_is_heard(bed);
    handle.close().unwrap();
    identity(bed, sent, &counters, &sink);
    assert_eq!(counters.fate(Fate::DroppedNotConsented), 2 * PACKETS);
    if counters.refused() == 2 * PACKETS {
        assert_eq!(sink.counts().accepted, 2 * ACCEPTED);
    }
    drop(receiver);
    assert_eq!(bed.xdp(), "none", "detached");
}

/// The generator's flood by this card: by the engine that it must be, accepted by the kernel, and all of it
/// received.
pub(crate) fn a_flood_arrives(bed: &Bed, card: &Card) {
    let receiver = bed.start(PathChoice::Auto).unwrap();
    let socket = challenger(&bed.lab, false);
    let flow = packets(SESSION, 0, PACKETS as usize);
    let sink = Tally::new(&[&flow]);
    let session = spec(&[(0, socket.local_addr().unwrap())]);
    let handle = open(&receiver, &session, &sink).unwrap();
    let flood = flood_of(Size::Standard, &socket, &flow, RATE);
    let reason = flood.fallback_reason.unwrap_or_default();
    assert_eq!(flood.engine, card.engine, "{reason}");
    assert_eq!(
        flood.engine == "io_uring",
        reason.is_empty(),
        "another engine says why: {reason}"
    );
    let sent = flood.sent;
    assert_eq!(sent, PACKETS);
    let counters = settle(&receiver, |c| known(c) >= sent);
    handle.close().unwrap();
    identity(bed, sent, &counters, &sink);
}

/// sent = reached the sink + every other fate, and every leaf is right.
fn identity(bed: &Bed, sent: u64, counters: &Counters, sink: &Tally) {
    let tally = sink.counts();
    assert_eq!(
        sent,
        tally.accepted + tally.refused + counters.refused(),
        "unaccounted: {tally:?}, {counters:?}\n{}",
        bed.statistics()
    );
    assert_eq!((tally.wrong_leaves, tally.out_of_time), (0, 0));
}

/// What is not for the data port passes while a session is open.
fn a_bystander_is_heard(bed: &Bed) {
    let hears = within(&bed.lab.prover, || {
        UdpSocket::bind(("10.77.0.1", DATA_PORT + 1)).unwrap()
    });
    hears
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let speaks = within(&bed.lab.challenger, || {
        UdpSocket::bind(("10.77.0.2", 0)).unwrap()
    });
    speaks
        .send_to(b"bystander", hears.local_addr().unwrap())
        .unwrap();
    let mut heard = [0; 16];
    let length = hears
        .recv(&mut heard)
        .expect("a datagram to another port passes");
    assert_eq!(&heard[..length], b"bystander");
}
