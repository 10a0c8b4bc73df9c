//! The XDP program in the kernel's own verifier: named frames through `BPF_PROG_TEST_RUN`, each with
//! the fate it must get, compared with what the same parser says in user space.
//!
//! Needs root (or `CAP_BPF` and `CAP_NET_ADMIN`); without it these tests fail and say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation
)] // a test fails by panicking

use std::collections::{BTreeMap, HashMap};

use aya::programs::{TestRun, TestRunOptions};
use caps::{CapSet, Capability};
use nix::time::{ClockId, clock_gettime};
use plumbline::datapath::program::Program;
use plumbline_wire::consent::{CLOSED, mapped_v4};
use plumbline_wire::header::COOKIE_AT;
use plumbline_wire::stamp::{FLAG_XDP_TAI, STAMP_LEN};
use plumbline_wire::{Class, ConsentEntry, ConsentKey, Fate, Header, Kind, Size, Stamp, classify};

const DATA_PORT: u16 = 47_000;
const SOURCE_PORT: u16 = 40_001;
const SOURCE_V4: [u8; 4] = [10, 9, 0, 2];
const SOURCE_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const SESSION: [u8; 16] = *b"session of tests";
const INDEX: u16 = 3;
const COOKIE: u64 = 0x0123_4567_89ab_cdef;
/// A second consented source port, whose consent ran out.
const EXPIRED_PORT: u16 = 40_002;
/// A third, which consented to jumbo packets.
const JUMBO_PORT: u16 = 40_003;
/// A fourth, whose session has not begun.
const EARLY_PORT: u16 = 40_004;
/// A fifth, whose session has no start yet.
const CLOSED_PORT: u16 = 40_005;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_REDIRECT: u32 = 4;

fn header() -> Header {
    Header {
        kind: Kind::Data,
        phase: 0,
        session: SESSION,
        index: INDEX,
        sequence: 77,
        sent_ns: 0,
        cookie: COOKIE,
        tag: [9; 8],
    }
}

/// UDP payload of a data packet.
fn payload(header: &Header) -> Vec<u8> {
    payload_of(header, Size::Standard)
}

fn payload_of(header: &Header, size: Size) -> Vec<u8> {
    let mut bytes = header.to_bytes().to_vec();
    bytes.extend((bytes.len()..size.payload()).map(|i| (i % 251) as u8));
    bytes
}

fn udp(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut bytes = Vec::new();
    for word in [source_port, port, length, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

fn ethernet(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(packet);
    bytes
}

/// An IPv4 packet; `options` are whole 32-bit words.
fn ipv4(protocol: u8, fragment: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let total = u16::try_from(20 + options.len() + body.len()).unwrap();
    let mut bytes = vec![0x40 | words, 0];
    bytes.extend(total.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0]);
    bytes.extend(SOURCE_V4);
    bytes.extend([10, 9, 0, 1]);
    bytes.extend(options);
    bytes.extend(body);
    bytes
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(SOURCE_V6);
    bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    bytes.extend(body);
    bytes
}

fn v4(datagram: &[u8]) -> Vec<u8> {
    ethernet(0x0800, &ipv4(17, 0x4000, &[], datagram))
}

fn v6(datagram: &[u8]) -> Vec<u8> {
    ethernet(0x86dd, &ipv6(17, datagram))
}

/// A data packet over IPv4 with its UDP payload changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = payload(&header());
    change(&mut bytes);
    v4(&udp(SOURCE_PORT, DATA_PORT, &bytes))
}

/// A data packet over IPv4 with the whole frame changed.
fn bent(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = changed(|_| ());
    change(&mut frame);
    frame
}

/// Every frame with its name and what must become of it while no socket is bound.
fn frames() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let good = payload(&header());
    let right = udp(SOURCE_PORT, DATA_PORT, &good);
    let tcp = {
        let mut segment = vec![0; 20];
        segment[2..4].copy_from_slice(&22u16.to_be_bytes());
        segment[12] = 0x50;
        segment
    };
    // A TCP segment to the number of the data port is as little ours as one to port 22.
    let mut tcp_data_port = tcp.clone();
    tcp_data_port[2..4].copy_from_slice(&DATA_PORT.to_be_bytes());
    let sized = |port, size| v4(&udp(port, DATA_PORT, &payload_of(&header(), size)));
    vec![
        (
            "jumbo_in_several_buffers",
            sized(JUMBO_PORT, Size::Jumbo),
            Fate::DroppedNoSocket,
        ),
        (
            "jumbo_one_byte_short",
            {
                let mut cut = sized(JUMBO_PORT, Size::Jumbo);
                cut.pop();
                cut
            },
            Fate::DroppedRunt,
        ),
        (
            "jumbo_from_a_standard_sender",
            sized(SOURCE_PORT, Size::Jumbo),
            Fate::DroppedLength,
        ),
        (
            "standard_from_a_jumbo_sender",
            sized(JUMBO_PORT, Size::Standard),
            Fate::DroppedLength,
        ),
        (
            "tunnel_from_a_standard_sender",
            sized(SOURCE_PORT, Size::Tunnel),
            Fate::DroppedLength,
        ),
        ("exactly_right", v4(&right), Fate::DroppedNoSocket),
        ("ipv6_exactly_right", v6(&right), Fate::DroppedNoSocket),
        (
            "padded_by_ethernet",
            bent(|f| f.extend([0; 6])),
            Fate::DroppedNoSocket,
        ),
        (
            "ipv6_wrong_source",
            bent_v6_source(&right),
            Fate::DroppedNotConsented,
        ),
        (
            "ipv6_fragment",
            ethernet(0x86dd, &ipv6(44, &right)),
            Fate::PassedFragment,
        ),
        (
            "ipv6_hop_by_hop",
            ethernet(0x86dd, &ipv6(0, &right)),
            Fate::PassedNotUdp,
        ),
        (
            "ipv6_cut_in_its_header",
            v6(&right)[..14 + 39].to_vec(),
            Fate::PassedNotIp,
        ),
        (
            "ipv6_cut_in_ports",
            v6(&right)[..14 + 40 + 7].to_vec(),
            Fate::PassedNotUdp,
        ),
        (
            "ipv6_cut_in_header",
            v6(&right)[..14 + 40 + 8 + 63].to_vec(),
            Fate::DroppedRunt,
        ),
        ("arp", ethernet(0x0806, &[0; 46]), Fate::PassedNotIp),
        ("only_ethernet", ethernet(0x0800, &[]), Fate::PassedNotIp),
        ("says_v4_is_v6", bent(|f| f[14] = 0x65), Fate::PassedNotIp),
        (
            "vlan",
            ethernet(0x8100, &[&[0, 5, 8, 0][..], &v4(&right)[14..]].concat()),
            Fate::PassedVlan,
        ),
        (
            "qinq",
            ethernet(0x88a8, &[&[0, 5, 8, 0][..], &v4(&right)[14..]].concat()),
            Fate::PassedVlan,
        ),
        (
            "ip_options",
            ethernet(0x0800, &ipv4(17, 0, &[1, 1, 1, 1], &right)),
            Fate::PassedIpOptions,
        ),
        (
            "first_fragment",
            ethernet(0x0800, &ipv4(17, 0x2000, &[], &right)),
            Fate::PassedFragment,
        ),
        (
            "last_fragment",
            ethernet(0x0800, &ipv4(17, 0x0001, &[], &right)),
            Fate::PassedFragment,
        ),
        (
            "tcp_22",
            ethernet(0x0800, &ipv4(6, 0x4000, &[], &tcp)),
            Fate::PassedNotUdp,
        ),
        (
            "tcp_data_port",
            ethernet(0x0800, &ipv4(6, 0x4000, &[], &tcp_data_port)),
            Fate::PassedNotUdp,
        ),
        (
            "icmp",
            ethernet(0x0800, &ipv4(1, 0, &[], &[8, 0, 0, 0, 0, 0, 0, 0])),
            Fate::PassedNotUdp,
        ),
        (
            "wrong_port",
            v4(&udp(SOURCE_PORT, DATA_PORT + 1, &good)),
            Fate::PassedOtherPort,
        ),
        (
            "runt_cut_in_ports",
            bent(|f| f.truncate(14 + 20 + 7)),
            Fate::PassedNotUdp,
        ),
        (
            "runt_cut_in_header",
            bent(|f| f.truncate(14 + 20 + 8 + 63)),
            Fate::DroppedRunt,
        ),
        (
            "runt_cut_in_payload",
            bent(|f| f.truncate(f.len() - 1)),
            Fate::DroppedRunt,
        ),
        (
            "runt_empty_datagram",
            v4(&udp(SOURCE_PORT, DATA_PORT, &[])),
            Fate::DroppedRunt,
        ),
        (
            "runt_udp_longer_than_ip",
            bent(|f| f[17] -= 1),
            Fate::DroppedRunt,
        ),
        (
            "runt_ip_total_below_its_header",
            bent(|f| f[16..18].copy_from_slice(&[0, 19])),
            Fate::DroppedRunt,
        ),
        (
            "runt_udp_length_below_its_header",
            bent(|f| f[38..40].copy_from_slice(&[0, 7])),
            Fate::DroppedRunt,
        ),
        ("wrong_magic", changed(|p| p[0] ^= 1), Fate::DroppedHeader),
        ("wrong_version", changed(|p| p[4] += 1), Fate::DroppedHeader),
        (
            "wrong_kind",
            changed(|p| p[5] = Kind::Probe as u8),
            Fate::DroppedHeader,
        ),
        ("unknown_kind", changed(|p| p[5] = 6), Fate::DroppedHeader),
        ("reserved_byte", changed(|p| p[31] = 1), Fate::DroppedHeader),
        (
            "one_byte_short",
            changed(|p| {
                p.pop();
            }),
            Fate::DroppedLength,
        ),
        ("one_byte_long", changed(|p| p.push(0)), Fate::DroppedLength),
        (
            "only_a_header",
            changed(|p| p.truncate(64)),
            Fate::DroppedLength,
        ),
        (
            "wrong_session",
            changed(|p| p[8] ^= 1),
            Fate::DroppedNotConsented,
        ),
        (
            "wrong_source_port",
            v4(&udp(SOURCE_PORT + 9, DATA_PORT, &good)),
            Fate::DroppedNotConsented,
        ),
        (
            "wrong_source",
            bent(|f| f[14 + 15] ^= 1),
            Fate::DroppedNotConsented,
        ),
        (
            "expired_consent",
            v4(&udp(EXPIRED_PORT, DATA_PORT, &good)),
            Fate::DroppedNotConsented,
        ),
        (
            "wrong_index",
            changed(|p| p[24] ^= 1),
            Fate::DroppedNotConsented,
        ),
        (
            "wrong_cookie_first_byte",
            changed(|p| p[COOKIE_AT] ^= 1),
            Fate::DroppedCookie,
        ),
        (
            "wrong_cookie_last_byte",
            changed(|p| p[COOKIE_AT + 7] ^= 0x80),
            Fate::DroppedCookie,
        ),
        (
            "no_cookie",
            changed(|p| p[COOKIE_AT..COOKIE_AT + 8].fill(0)),
            Fate::DroppedCookie,
        ),
        (
            "wrong_cookie_and_index",
            changed(|p| (p[24], p[COOKIE_AT]) = (9, 9)),
            Fate::DroppedNotConsented,
        ),
        // The tag is user space's affair.
        (
            "wrong_tag",
            changed(|p| p[COOKIE_AT + 8] ^= 1),
            Fate::DroppedNoSocket,
        ),
        (
            "before_the_start",
            v4(&udp(EARLY_PORT, DATA_PORT, &good)),
            Fate::DroppedEarly,
        ),
        (
            "before_there_is_a_start",
            v4(&udp(CLOSED_PORT, DATA_PORT, &good)),
            Fate::DroppedEarly,
        ),
        (
            "ipv6_wrong_cookie",
            {
                let mut bent = v6(&right);
                bent[14 + 40 + 8 + COOKIE_AT] ^= 1;
                bent
            },
            Fate::DroppedCookie,
        ),
    ]
}

fn bent_v6_source(datagram: &[u8]) -> Vec<u8> {
    let mut frame = v6(datagram);
    frame[14 + 8 + 15] ^= 1;
    frame
}

fn tai_now() -> u64 {
    let now = clock_gettime(ClockId::from_raw(libc::CLOCK_TAI)).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// Packets consented to: more than any test here sends but one.
const CAP: u64 = 1 << 40;

/// The consent rows of these tests.
fn consents() -> HashMap<ConsentKey, ConsentEntry> {
    let minute = 60_000_000_000;
    let entry = |until_tai_ns| {
        ConsentEntry::new(
            COOKIE,
            Size::Standard,
            CAP,
            tai_now() - minute..=until_tai_ns,
        )
    };
    let from = |from_tai_ns| ConsentEntry {
        from_tai_ns,
        ..entry(tai_now() + 2 * minute)
    };
    HashMap::from([
        (
            ConsentKey::new(mapped_v4(SOURCE_V4), SOURCE_PORT, SESSION, INDEX),
            entry(tai_now() + minute),
        ),
        (
            ConsentKey::new(SOURCE_V6, SOURCE_PORT, SESSION, INDEX),
            entry(tai_now() + minute),
        ),
        (
            ConsentKey::new(mapped_v4(SOURCE_V4), EXPIRED_PORT, SESSION, INDEX),
            entry(tai_now() - 1),
        ),
        (
            ConsentKey::new(mapped_v4(SOURCE_V4), JUMBO_PORT, SESSION, INDEX),
            ConsentEntry::new(COOKIE, Size::Jumbo, CAP, 0..=tai_now() + minute),
        ),
        (
            ConsentKey::new(mapped_v4(SOURCE_V4), EARLY_PORT, SESSION, INDEX),
            from(tai_now() + minute),
        ),
        (
            ConsentKey::new(mapped_v4(SOURCE_V4), CLOSED_PORT, SESSION, INDEX),
            from(CLOSED),
        ),
    ])
}

fn loaded() -> Program {
    let mut program = Program::load(DATA_PORT)
        .unwrap_or_else(|e| panic!("these tests load an XDP program and so need root: {e}"));
    for (key, entry) in consents() {
        program.consent().insert(key, entry).unwrap();
    }
    program
}

/// Runs one frame; returns the XDP action and the frame as the program left it.
fn run(program: &mut Program, frame: &[u8]) -> (u32, Vec<u8>) {
    let mut out = vec![0; frame.len() + 256];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    let result = program.xdp().unwrap().test_run(options).unwrap();
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}

/// What user space says of the frame: the same parser, and the same judgement of the consent row.
fn expected_in_user_space(frame: &[u8]) -> Fate {
    match classify(frame, DATA_PORT) {
        Class::NotOurs(fate) | Class::Refused(fate) => fate,
        Class::Ours(m) => match consents().get(&m.key) {
            None => Fate::DroppedNotConsented,
            Some(row) => match row.admit(&m.header, m.size.payload(), tai_now(), 0) {
                Err(fate) => fate,
                Ok(()) => Fate::DroppedNoSocket,
            },
        },
    }
}

/// The one fate that was counted since `before`.
fn counted(before: &BTreeMap<Fate, u64>, after: &BTreeMap<Fate, u64>) -> Vec<(Fate, u64)> {
    after
        .iter()
        .map(|(fate, n)| (*fate, n - before[fate]))
        .filter(|(_, n)| *n > 0)
        .collect()
}

#[test]
fn a_sender_passes_what_was_consented_to_and_no_packet_more() {
    let mut program = loaded();
    let key = ConsentKey::new(mapped_v4(SOURCE_V4), SOURCE_PORT, SESSION, INDEX);
    let (_, frame, _) = frames()
        .into_iter()
        .find(|(_, frame, fate)| {
            let ours =
                matches!(classify(frame.as_slice(), DATA_PORT), Class::Ours(m) if m.key == key);
            ours && *fate == Fate::DroppedNoSocket
        })
        .unwrap();
    let until = tai_now() + 60_000_000_000;
    let row = |cap| ConsentEntry::new(COOKIE, Size::Standard, cap, 0..=until);
    let spoofed = {
        let mut bent = frame.clone();
        bent[42 + COOKIE_AT] ^= 1;
        bent
    };
    for cap in [0, 1, 3] {
        program.consent().insert(key, row(cap)).unwrap();
        for sent in 0..cap + 2 {
            // Whoever knows everything but the cookie takes nothing from it.
            let before = program.fates().read().unwrap();
            run(&mut program, &spoofed);
            let after = program.fates().read().unwrap();
            assert_eq!(counted(&before, &after), [(Fate::DroppedCookie, 1)]);
            let before = program.fates().read().unwrap();
            run(&mut program, &frame);
            let fate = if sent < cap {
                Fate::DroppedNoSocket
            } else {
                Fate::DroppedOverConsent
            };
            let after = program.fates().read().unwrap();
            assert_eq!(counted(&before, &after), [(fate, 1)], "{sent} of {cap}");
        }
    }
}

#[test]
fn each_named_frame_has_its_fate_and_user_space_agrees() {
    let mut program = loaded();
    for (name, frame, fate) in frames() {
        assert_eq!(
            expected_in_user_space(&frame),
            fate,
            "user space about {name}"
        );
        let before = program.fates().read().unwrap();
        let (action, left) = run(&mut program, &frame);
        let after = program.fates().read().unwrap();
        assert_eq!(
            counted(&before, &after),
            [(fate, 1)],
            "counters after {name}"
        );
        let passes = fate.name().starts_with("passed");
        assert_eq!(
            action,
            if passes { XDP_PASS } else { XDP_DROP },
            "action on {name}"
        );
        if passes {
            assert_eq!(left, frame, "{name} must leave as it came");
        }
    }
}

#[test]
fn a_consented_frame_is_stamped_and_redirected_to_a_socket() {
    let mut program = loaded();
    let socket = socket2::Socket::new(libc::AF_XDP.into(), socket2::Type::RAW, None).unwrap();
    program.redirect(0, &socket).unwrap();
    let frames = frames();
    let right = frames.iter().filter(|f| f.2 == Fate::DroppedNoSocket);
    let mut expected = 0;
    for (name, frame, _) in right {
        expected += 1;
        let from = tai_now();
        let (action, left) = run(&mut program, frame);
        let to = tai_now();
        assert_eq!(action, XDP_REDIRECT, "{name}");
        let stamp = Stamp::from_bytes(*left.first_chunk::<STAMP_LEN>().unwrap());
        assert_eq!(stamp.flags, FLAG_XDP_TAI);
        assert!(
            (from..=to).contains(&stamp.ns),
            "{name}: {from} ≤ {} ≤ {to}",
            stamp.ns
        );
        assert_eq!(
            left[STAMP_LEN..],
            frame[STAMP_LEN..],
            "{name}: all else as it came"
        );
    }
    let redirected = program.fates().read().unwrap()[&Fate::Redirected];
    assert_eq!((redirected, expected), (5, 5));
}

#[test]
fn consent_counts_from_its_start_until_it_is_removed() {
    let mut program = Program::load(DATA_PORT).unwrap();
    let frame = changed(|_| ());
    let fate_of = |program: &mut Program| {
        let before = program.fates().read().unwrap();
        run(program, &frame);
        counted(&before, &program.fates().read().unwrap())
    };
    let key = ConsentKey::new(mapped_v4(SOURCE_V4), SOURCE_PORT, SESSION, INDEX);
    let entry = consents()[&key];
    assert_eq!(fate_of(&mut program), [(Fate::DroppedNotConsented, 1)]);
    let closed = ConsentEntry {
        from_tai_ns: CLOSED,
        ..entry
    };
    program.consent().insert(key, closed).unwrap();
    assert_eq!(fate_of(&mut program), [(Fate::DroppedEarly, 1)]);
    program.consent().insert(key, entry).unwrap();
    assert_eq!(fate_of(&mut program), [(Fate::DroppedNoSocket, 1)]);
    program.consent().remove(key).unwrap();
    assert_eq!(fate_of(&mut program), [(Fate::DroppedNotConsented, 1)]);
    program
        .consent()
        .remove(key)
        .expect("removing what is not there is no error");
}

#[test]
fn loads_with_two_capabilities_and_its_maps_work_with_none() {
    // Capabilities are a thread's own; this thread ends with the test.
    let needed = [Capability::CAP_BPF, Capability::CAP_NET_ADMIN].into();
    caps::set(None, CapSet::Effective, &needed).unwrap();
    let mut program = Program::load(DATA_PORT).expect("CAP_BPF and CAP_NET_ADMIN suffice");
    caps::clear(None, CapSet::Effective).unwrap();
    caps::clear(None, CapSet::Permitted).unwrap();
    for (key, entry) in consents() {
        program
            .consent()
            .insert(key, entry)
            .expect("insert without capabilities");
    }
    for key in consents().into_keys() {
        program
            .consent()
            .remove(key)
            .expect("remove without capabilities");
    }
    assert_eq!(
        program
            .fates()
            .read()
            .expect("read without capabilities")
            .len(),
        Fate::ALL.len()
    );
    assert!(
        Program::load(DATA_PORT).is_err(),
        "and loading again is refused"
    );
}
