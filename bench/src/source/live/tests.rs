//! Live frames over a real veth, as root: counted to the last one, and each what it should be.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use plumbline::generator::{Headers, Link};
use plumbline_wire::{HEADER_LEN, Header, Kind};

use super::*;
use crate::lab_program::DropOnly;
use crate::pair::{INTERFACE, PORT, Pair, SINK, SOURCE, SOURCE_PORT};
use crate::plan::Units;

const LEN: usize = 1472;

fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<_> = text
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

fn header(sequence: u64) -> Header {
    Header {
        kind: Kind::Data,
        phase: 1,
        session: *b"session of tests",
        index: 3,
        sequence,
        sent_ns: 0,
        cookie: 11,
        tag: tag(sequence),
    }
}

fn tag(sequence: u64) -> [u8; 8] {
    sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn tags(count: u64) -> Vec<[u8; 8]> {
    (0..count).map(tag).collect()
}

/// The payload of packet `sequence`, made as user space would.
fn payload(sequence: u64) -> Vec<u8> {
    let mut bytes = header(sequence).to_bytes().to_vec();
    bytes.extend((HEADER_LEN..LEN).map(|i| u8::try_from(i % 251).unwrap()));
    bytes
}

/// A frame whose sequence number and tag are none of those that will be sent.
fn template(pair: &Pair) -> Vec<u8> {
    let link = Link {
        interface: INTERFACE.into(),
        queue: 0,
        source_mac: mac(&pair.mac(true).unwrap()),
        destination_mac: mac(&pair.mac(false).unwrap()),
        source: SocketAddrV4::new(SOURCE, SOURCE_PORT).into(),
        destination: SocketAddrV4::new(SINK, PORT).into(),
    };
    let headers = Headers::new(&link, LEN).unwrap();
    let mut frame = vec![0; headers.frame_len()];
    headers.write(&payload(u64::MAX), &mut frame).unwrap();
    frame
}

struct Stage {
    pair: Pair,
    frame: Vec<u8>,
}

impl Stage {
    fn new() -> Self {
        let pair = Pair::new(1500, Units::Packets).expect("these tests need root");
        let frame = template(&pair);
        Self { pair, frame }
    }

    fn drop_only(&self, port: u16) -> DropOnly {
        let attached = self
            .pair
            .within(false, || DropOnly::attach(INTERFACE, port));
        attached.unwrap().unwrap()
    }

    fn source<T: Send>(&self, tags: &[[u8; 8]], work: impl FnOnce(LiveFrames) -> T + Send) -> T {
        let inside = || work(LiveFrames::new(INTERFACE, &self.frame, tags).unwrap());
        self.pair.within(true, inside).unwrap()
    }
}

/// Waits until `count` packets were dropped by the program; five seconds at most.
fn settled(drop: &DropOnly, count: u64) -> u64 {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let now = drop.count().unwrap();
        if now >= count || Instant::now() > until {
            return now;
        }
        std::thread::yield_now();
    }
}

#[test]
fn every_frame_is_dropped_by_the_program_or_refused_by_the_driver() {
    let stage = Stage::new();
    let drop = stage.drop_only(PORT);
    let (mut dropped, mut made) = (0, 0);
    for (count, batch) in [(1, 1), (100_000, 64), (100_001, 256), (1000, 7)] {
        let sent = stage.source(&tags(count), |mut live| live.run(count, batch).unwrap());
        assert_eq!(sent.frames, count);
        dropped += sent.dropped;
        made += count;
        assert_eq!(
            settled(&drop, made - dropped) + dropped,
            made,
            "batch {batch}"
        );
    }
}

#[test]
fn a_driver_that_refuses_is_counted() {
    let stage = Stage::new();
    let drop = stage.drop_only(PORT);
    // Longer than what the peer takes (its MTU, Ethernet header and VLAN tag).
    let space = stage.pair.sink.name();
    let line = format!("-n {space} link set {INTERFACE} mtu 1400");
    tool::run("ip", &line.split(' ').collect::<Vec<_>>()).unwrap();
    let sent = stage.source(&tags(1000), |mut live| live.run(1000, 64).unwrap());
    assert_eq!((sent.frames, sent.dropped), (1000, 1000));
    assert_eq!(drop.count().unwrap(), 0);
}

#[test]
fn a_run_goes_on_where_the_last_ended_and_no_further_than_the_tags() {
    let stage = Stage::new();
    let drop = stage.drop_only(PORT);
    let (first, second, third) = stage.source(&tags(100), |mut live| {
        let first = live.run(60, 64).unwrap();
        let second = live.run(40, 64).unwrap();
        (first, second, live.run(20, 64).unwrap_err().to_string())
    });
    assert_eq!((first.frames, second.frames), (60, 40));
    assert!(first.last_ns > first.first_ns && second.first_ns > first.last_ns);
    assert!(third.contains("20 more were asked for"), "{third}");
    let dropped = first.dropped + second.dropped;
    assert_eq!(settled(&drop, 100 - dropped) + dropped, 100);
}

#[test]
fn each_packet_is_what_user_space_would_have_made() {
    const COUNT: u64 = 3000;
    let stage = Stage::new();
    // Counts another port, so that all of these pass, and UDP to a port that is not its own is left alone.
    let drop = stage.drop_only(PORT + 1);
    let socket = stage
        .pair
        .within(false, || UdpSocket::bind((SINK, PORT)).unwrap())
        .unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let sent = stage.source(&tags(COUNT), |mut live| live.run(COUNT, 64).unwrap());
    assert_eq!((sent.frames, sent.dropped), (COUNT, 0));
    let mut buffer = [0; 2048];
    for sequence in 0..COUNT {
        let n = socket
            .recv(&mut buffer)
            .unwrap_or_else(|e| panic!("packet {sequence}: {e}"));
        let parsed = Header::parse(&buffer[..n], 0).unwrap();
        assert_eq!(parsed, header(sequence));
        assert_eq!(buffer[..n], payload(sequence), "packet {sequence}");
    }
    assert_eq!(drop.count().unwrap(), 0);
}

#[test]
fn without_xdp_on_the_peer_nothing_is_sent_and_it_says_so() {
    let stage = Stage::new();
    let error = stage.source(&tags(100), |mut live| live.run(100, 64).unwrap_err());
    let said = format!("{error:#}");
    assert!(said.contains("100 were made"), "{said}");
    assert!(
        said.contains("must be up and have an XDP program"),
        "{said}"
    );
}

#[test]
fn what_cannot_be_run_is_refused() {
    let stage = Stage::new();
    let _drop = stage.drop_only(PORT);
    let (few, many) = stage.source(&tags(10), |mut live| {
        (live.run(1, 0).unwrap_err(), live.run(1, 257).unwrap_err())
    });
    assert!(few.to_string().contains("batch of 0"), "{few}");
    assert!(many.to_string().contains("batch of 257"), "{many}");
    let long = [&stage.frame[..], &[0; 4000]].concat();
    let work = || {
        LiveFrames::new(INTERFACE, &long, &tags(10))
            .unwrap()
            .run(1, 64)
    };
    let error = stage.pair.within(true, work).unwrap().unwrap_err();
    assert!(format!("{error:#}").contains("live frames of"), "{error:#}");
}

#[test]
fn only_udp_over_ipv4_without_checksum_is_a_template() {
    let mut frame = vec![0; WRITTEN_TO];
    frame[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
    frame[23] = 17;
    assert!(check(&frame).is_ok());
    assert!(check(&frame[..WRITTEN_TO - 1]).is_err());
    for (at, byte) in [(12, 0x86), (14, 0x46), (23, 6), (40, 1), (41, 1)] {
        let mut bent = frame.clone();
        bent[at] = byte;
        assert!(check(&bent).is_err(), "byte {at}");
    }
}

#[test]
fn the_drivers_counters_are_summed_over_queues() {
    let text = "NIC statistics:\n     tx_queue_0_xdp_xmit: 5\n     tx_queue_0_xdp_xmit_errors: 1\n     \
                tx_queue_11_xdp_xmit: 6\n     tx_queue_11_xdp_xmit_errors: 0\n     rx_queue_0_xdp_tx: 9\n";
    assert_eq!(counters(text), Some([11, 1]));
    assert_eq!(counters("NIC statistics:\n     rx_packets: 9\n"), None);
}
