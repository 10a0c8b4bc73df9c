//! The generator over loopback: every packet with its bytes, in order; stop, deadline and rate.

mod schedule;

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use plumbline_proof::backhaul::params::BURST_PACKETS;

use super::*;
use crate::clock::realtime_ns;

const LEN: usize = 1472;
/// Receive buffer for the whole of a test's packets; tests run as root or stay below rmem_max.
const BUFFER: usize = 4 << 20;

fn pair() -> (UdpSocket, UdpSocket) {
    let receiver = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    setsockopt(&receiver, nix::sys::socket::sockopt::RcvBufForce, &BUFFER)
        .expect("these tests set SO_RCVBUFFORCE and so need CAP_NET_ADMIN");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    receiver.bind(&any.into()).unwrap();
    let receiver = UdpSocket::from(receiver);
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let sender = UdpSocket::bind(any).unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    (sender, receiver)
}

/// Packets that are told apart by every byte.
fn packets(count: usize) -> Vec<u8> {
    blocks(count, LEN)
}

fn blocks(count: usize, length: usize) -> Vec<u8> {
    let mut all = vec![0; count * length];
    for (i, packet) in all.chunks_mut(length).enumerate() {
        blake3::Hasher::new()
            .update(&i.to_le_bytes())
            .finalize_xof()
            .fill(packet);
    }
    all
}

fn plan<'a>(
    socket: &'a UdpSocket,
    rate_bps: u64,
    seconds: u64,
    stop: &'a AtomicBool,
) -> FloodPlan<'a> {
    let now = realtime_ns();
    FloodPlan {
        socket,
        packet_len: LEN,
        rate_bps,
        burst_packets: BURST_PACKETS,
        jitter: 7,
        duration_ns: 1_000_000_000,
        start_realtime_ns: now,
        deadline_realtime_ns: now + seconds * 1_000_000_000,
        stop,
    }
}

/// Receives `count` packets and compares each.
fn expect(receiver: &UdpSocket, packets: &[u8], count: usize) {
    arrive(receiver, packets, LEN, count);
}

fn arrive(receiver: &UdpSocket, packets: &[u8], length: usize, count: usize) {
    let mut buffer = [0; JUMBO + 1];
    for (i, packet) in packets.chunks(length).take(count).enumerate() {
        let n = receiver
            .recv(&mut buffer)
            .unwrap_or_else(|e| panic!("packet {i}: {e}"));
        assert_eq!(&buffer[..n], packet, "packet {i}");
    }
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv(&mut buffer).is_err(), "and nothing more");
}

#[test]
fn every_packet_arrives_in_order_with_its_bytes() {
    // Not a multiple of the burst, so that the last one is short.
    let (sender, receiver) = pair();
    let all = packets(8 * 80 + 5);
    let stop = AtomicBool::new(false);
    let outcome = flood(&plan(&sender, 2_000_000_000, 10, &stop), &mut &all[..]).unwrap();
    assert_eq!(outcome.engine, "io_uring", "{:?}", outcome.fallback_reason);
    assert_eq!((outcome.sent, outcome.ended), (645, Ended::Exhausted));
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    // Where two bursts are due they go together.
    assert!((41..=81).contains(&outcome.gaps.len()));
    let logged = outcome.log.back_from(u64::MAX >> 1);
    assert_eq!(logged.iter().sum::<u32>(), 0, "long ago");
    let logged = outcome.log.back_from(4_000_000_000);
    assert_eq!(logged.iter().sum::<u32>(), 645);
    assert_eq!(outcome.starved, 0);
    assert!(outcome.first_send_ns < outcome.last_send_ns);
    expect(&receiver, &all, 645);
    assert!(
        sender.send(&all[..2 * LEN]).is_ok(),
        "segmentation is off again"
    );
    receiver.set_nonblocking(false).unwrap();
    assert_eq!(receiver.recv(&mut [0; 4096]).unwrap(), 2 * LEN);
}

#[test]
fn without_io_uring_the_same_by_sendmsg() {
    let (sender, receiver) = pair();
    let all = packets(100);
    let stop = AtomicBool::new(false);
    let plan = plan(&sender, 1_000_000_000, 10, &stop);
    let outcome = flood_with(&plan, &mut &all[..], &EngineChoice::Sendmsg).unwrap();
    assert_eq!((outcome.sent, outcome.ended), (100, Ended::Exhausted));
    assert_eq!((outcome.engine, outcome.fallback_reason), ("sendmsg", None));
    expect(&receiver, &all, 100);
}

/// UDP payload of a packet at MTU 9000.
const JUMBO: usize = 8960;

#[test]
fn jumbo_packets_go_seven_a_burst() {
    for choice in [EngineChoice::IoUring, EngineChoice::Sendmsg] {
        let (sender, receiver) = pair();
        let all = blocks(7 * 14 + 3, JUMBO);
        let stop = AtomicBool::new(false);
        let plan = FloodPlan {
            packet_len: JUMBO,
            ..plan(&sender, 10_000_000_000, 10, &stop)
        };
        let outcome = flood_with(&plan, &mut &all[..], &choice).unwrap();
        assert_eq!((outcome.sent, outcome.ended), (101, Ended::Exhausted));
        assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
        assert!((8..=15).contains(&outcome.gaps.len()), "{choice:?}");
        arrive(&receiver, &all, JUMBO, 101);
    }
}

#[test]
fn the_outcome_says_how_precisely_it_was_paced() {
    let (sender, _receiver) = pair();
    let all = packets(600);
    let stop = AtomicBool::new(false);
    // 60 ms in bursts of 5 packets, 500 us each.
    let outcome = flood(&plan(&sender, 120_000_000, 20, &stop), &mut &all[..]).unwrap();
    let p = outcome.precision();
    assert_eq!(p.scheduled_gap_ns, 500_000);
    // Where two bursts are due they go together.
    let gaps = outcome.gaps.len() - 1;
    assert!((59..=119).contains(&gaps), "{gaps}");
    assert_eq!(outcome.departures.len(), gaps);
    assert_eq!(outcome.gap_errors.len(), gaps);
    let ordered = |a, b, c| a <= b && b <= c;
    assert!(
        ordered(p.late_p50_ns, p.late_p99_ns, p.late_max_ns),
        "{p:?}"
    );
    assert!(ordered(p.gap_p50_ns, p.gap_p99_ns, p.gap_max_ns), "{p:?}");
    assert!(
        ordered(p.gap_error_p50_ns, p.gap_error_p99_ns, p.gap_error_max_ns),
        "{p:?}"
    );
    // No burst leaves before it is due, so the gaps add up to the schedule of 119, what was missed and at most
    // the lateness; the last ones are moved within their slots, or two of them left together; and a histogram
    // is 1 % off.
    let sum = outcome.departures.mean() * gaps as f64;
    let late = (p.late_max_ns + outcome.missed_ns) as f64;
    let (least, most) = (117.0 * 500_000.0, 120.0 * 500_000.0 + late);
    assert!((least * 0.99..most * 1.01).contains(&sum), "{sum} {p:?}");
}

/// A connected pair whose receiver takes nothing, so that sends must wait: datagrams that stay whole.
fn clogged() -> (UnixDatagram, UnixDatagram) {
    let (sender, receiver) = UnixDatagram::pair().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send(&[0; 1000]).is_ok() {}
    sender.set_nonblocking(false).unwrap();
    (sender, receiver)
}

#[test]
fn a_kernel_that_does_not_answer_is_not_waited_for() {
    let never = || false;
    // Short, so that the test is; what it waits for cannot come.
    let patience = 30_000_000;
    let (sender, _receiver) = clogged();
    let mut ring = Uring::new(sender.as_raw_fd(), patience).unwrap();
    let sent = ring.send(&[1; 1000], &never).unwrap();
    assert!(matches!(sent, Sent::Silent));
    let mut plain = Plain::new(sender.as_fd(), patience);
    let sent = plain.send(&[1; 1000], &never).unwrap();
    assert!(matches!(sent, Sent::Silent));
}

#[test]
fn the_end_of_the_flood_is_no_silence() {
    let over = || true;
    let (sender, _receiver) = clogged();
    let mut ring = Uring::new(sender.as_raw_fd(), PATIENCE_NS).unwrap();
    assert!(matches!(
        ring.send(&[1; 1000], &over).unwrap(),
        Sent::Abandoned
    ));
    let mut plain = Plain::new(sender.as_fd(), PATIENCE_NS);
    assert!(matches!(
        plain.send(&[1; 1000], &over).unwrap(),
        Sent::Abandoned
    ));
}

#[test]
fn a_kernel_that_answers_late_is_waited_for_and_the_ring_goes_on() {
    let never = || false;
    let (sender, receiver) = clogged();
    let mut ring = Uring::new(sender.as_raw_fd(), PATIENCE_NS).unwrap();
    std::thread::scope(|scope| {
        // Asked once a wait, so by the second time the send has been waiting for room.
        let asked = AtomicU32::new(0);
        let over = || {
            if asked.fetch_add(1, Ordering::Relaxed) == 1 {
                // Until what is awaited comes through: the kernel wakes a sender when half its buffer is free.
                scope.spawn(|| {
                    let mut packet = [0; 1000];
                    while packet[0] == 0 {
                        receiver.recv(&mut packet).unwrap();
                    }
                });
            }
            false
        };
        let sent = ring.send(&[1; 1000], &over).unwrap();
        assert!(matches!(sent, Sent::Bytes(1000)));
        assert!(asked.load(Ordering::Relaxed) >= 2, "it did not wait");
    });
    assert!(matches!(
        ring.send(&[2; 1000], &never).unwrap(),
        Sent::Bytes(1000)
    ));
}

#[test]
fn a_silent_kernel_is_an_error_that_says_so() {
    #[derive(Default)]
    struct Deaf(u32, u64);
    impl Engine for Deaf {
        fn send(&mut self, burst: &[u8], _: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
            self.0 += 1;
            let answered = self.0 < 3;
            Ok(if answered {
                self.1 += (burst.len() / LEN) as u64;
                Sent::Bytes(burst.len())
            } else {
                Sent::Silent
            })
        }
    }
    let (sender, _receiver) = pair();
    let all = packets(44 * 5);
    let stop = AtomicBool::new(false);
    let plan = plan(&sender, 10_000_000_000, 10, &stop);
    let mut deaf = Deaf::default();
    let error = run(&plan, &mut &all[..], &mut deaf, None, ("deaf", None)).unwrap_err();
    let silent = matches!(
        error,
        GeneratorError::Silent {
            engine: "deaf",
            sent
        } if sent == deaf.1 && sent >= 16
    );
    assert!(silent, "{error}");
    assert!(error.to_string().contains("not said for 5 s"), "{error}");
}

#[test]
fn the_mean_rate_is_kept_and_never_exceeded() {
    for rate in [5_000_000u64, 100_000_000, 800_000_000] {
        let (sender, _receiver) = pair();
        // Half a second of packets.
        let count = usize::try_from(rate / 2 / (1500 * 8)).unwrap();
        let all = packets(count);
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let outcome = flood(&plan(&sender, rate, 20, &stop), &mut &all[..]).unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(outcome.sent, count as u64);
        // The last burst is due one burst before the schedule ends.
        let burst = usize::try_from(Pace::new(12_000, rate, 7).burst()).unwrap();
        let scheduled = (count - burst) as f64 * 12_000.0 / rate as f64;
        let ratio = (scheduled + outcome.missed_ns as f64 / 1e9) / took;
        // The upper bound is exact; the lower leaves room for a machine with other things to do.
        assert!(ratio <= 1.0, "{rate}: sent faster than planned: {ratio}");
        assert!(
            ratio > 0.8,
            "{rate}: ratio {ratio}, lateness p50 {} ns",
            outcome.gaps.value_at_quantile(0.5)
        );
    }
}

#[test]
fn the_stop_flag_ends_it() {
    let (sender, receiver) = pair();
    let all = packets(1000);
    let stop = AtomicBool::new(false);
    // 1000 packets at 1.2 Mbit/s are ten seconds.
    let plan = plan(&sender, 1_200_000, 60, &stop);
    let outcome = std::thread::scope(|s| {
        let flooding = s.spawn(|| flood(&plan, &mut &all[..]).unwrap());
        // Some have been sent.
        receiver.recv(&mut [0; 2048]).unwrap();
        receiver.recv(&mut [0; 2048]).unwrap();
        stop.store(true, Ordering::Relaxed);
        let asked = Instant::now();
        let outcome = flooding.join().unwrap();
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "{:?}",
            asked.elapsed()
        );
        outcome
    });
    assert_eq!(outcome.ended, Ended::Stopped);
    assert!((2..10).contains(&outcome.sent), "{}", outcome.sent);
    expect(
        &receiver,
        &all[2 * LEN..],
        usize::try_from(outcome.sent).unwrap() - 2,
    );
}

#[test]
fn the_deadline_ends_it_and_one_in_the_past_sends_nothing() {
    let (sender, receiver) = pair();
    let all = packets(1000);
    let stop = AtomicBool::new(false);
    let mut plan = plan(&sender, 12_000_000, 60, &stop);
    plan.deadline_realtime_ns = realtime_ns() + 100_000_000;
    let outcome = flood(&plan, &mut &all[..]).unwrap();
    assert_eq!(outcome.ended, Ended::Deadline);
    assert!(
        (1..=101).contains(&outcome.sent),
        "100 ms at 1 packet a ms: {}",
        outcome.sent
    );
    assert!(outcome.last_send_ns.unwrap() <= plan.deadline_realtime_ns + 50_000_000);
    expect(&receiver, &all, usize::try_from(outcome.sent).unwrap());

    plan.deadline_realtime_ns = realtime_ns() - 1;
    let outcome = flood(&plan, &mut &all[..]).unwrap();
    assert_eq!(
        (outcome.sent, outcome.ended, outcome.first_send_ns),
        (0, Ended::Deadline, None)
    );
}

#[test]
fn nothing_is_sent_before_its_time() {
    let (sender, _receiver) = pair();
    let all = packets(3);
    let stop = AtomicBool::new(false);
    let mut plan = plan(&sender, 1_000_000_000, 60, &stop);
    plan.start_realtime_ns = realtime_ns() + 60_000_000;
    let outcome = flood(&plan, &mut &all[..]).unwrap();
    assert!(outcome.first_send_ns.unwrap() >= plan.start_realtime_ns);
    assert_eq!(outcome.sent, 3);
}

#[test]
fn refused_packets_are_counted_by_errno_and_not_as_sent() {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stop = AtomicBool::new(false);
    let all = packets(100);
    // Not connected: no destination.
    let outcome = flood(&plan(&sender, 10_000_000_000, 10, &stop), &mut &all[..]).unwrap();
    assert_eq!((outcome.sent, outcome.ended), (0, Ended::Exhausted));
    assert_eq!(outcome.errors, [(Errno::EDESTADDRREQ as i32, 100)]);
    assert_eq!(outcome.last_send_ns, None);
    // Connected to a port where nobody is: each refusal answers an earlier burst.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(nobody.local_addr().unwrap()).unwrap();
    drop(nobody);
    let outcome = flood(&plan(&sender, 10_000_000_000, 10, &stop), &mut &all[..]).unwrap();
    let refused: u64 = outcome.errors.iter().map(|(_, n)| n).sum();
    assert_eq!(outcome.errors.len(), 1);
    assert_eq!(outcome.errors[0].0, Errno::ECONNREFUSED as i32);
    assert_eq!(outcome.sent + refused, 100);
}

#[test]
fn a_plan_that_cannot_be_is_refused_by_name() {
    let (sender, _receiver) = pair();
    let all = packets(2);
    let stop = AtomicBool::new(false);
    let good = plan(&sender, 1_000_000, 1, &stop);
    let of = |plan: FloodPlan<'_>, mut packets: &[u8]| match flood(&plan, &mut packets) {
        Err(GeneratorError::Plan { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    let key = |plan| of(plan, &all);
    assert_eq!(
        key(FloodPlan {
            packet_len: 0,
            ..good
        }),
        "packet_len"
    );
    assert_eq!(
        key(FloodPlan {
            packet_len: 65_508,
            ..good
        }),
        "packet_len"
    );
    assert_eq!(of(good, &all[1..]), "packets");
    assert_eq!(
        key(FloodPlan {
            rate_bps: 0,
            ..good
        }),
        "rate_bps"
    );
}

/// A card that cannot have bursts cut: the kernel says `EIO` to each.
struct Uncut;

impl Engine for Uncut {
    fn send(&mut self, _: &[u8], _: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        Ok(Sent::Refused(Errno::EIO))
    }
}

#[test]
fn where_bursts_cannot_be_cut_packets_go_one_by_one_and_it_says_so() {
    let (sender, receiver) = pair();
    let bytes = packets(100);
    let stop = AtomicBool::new(false);
    let plan = plan(&sender, 1_000_000_000, 10_000, &stop);
    let cut = Segments::of(&plan).unwrap();
    let uncut = ("uncut", None);
    let outcome = run(&plan, &mut &bytes[..], &mut Uncut, Some(cut), uncut).unwrap();
    assert_eq!((outcome.sent, outcome.engine), (100, "send"));
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    let reason = outcome.fallback_reason.unwrap();
    assert!(
        reason.contains("EIO") && reason.contains("uncut"),
        "{reason}"
    );
    for sent in bytes.chunks(LEN) {
        let mut packet = [0; LEN + 1];
        assert_eq!(receiver.recv(&mut packet).unwrap(), LEN);
        assert_eq!(packet[..LEN], *sent);
    }
}

#[test]
fn packet_by_packet_every_one_is_sent_or_an_error() {
    let inbox = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(inbox.local_addr().unwrap()).unwrap();
    let burst: Vec<u8> = (0..5u8).flat_map(|i| [i; 100]).collect();
    let mut each = Each::new(socket.as_fd(), 100, 1_000_000_000);
    let sent = Engine::send(&mut each, &burst, &|| false).unwrap();
    assert!(matches!(sent, Sent::Bytes(500)));
    for i in 0..5u8 {
        let mut packet = [0; 200];
        assert_eq!(inbox.recv(&mut packet).unwrap(), 100);
        assert_eq!(packet[..100], [i; 100]);
    }
    // Longer than any datagram: none is accepted, and the reason is kept.
    let mut each = Each::new(socket.as_fd(), 70_000, 1_000_000_000);
    let refused = Engine::send(&mut each, &[0; 70_000], &|| false).unwrap();
    assert!(matches!(refused, Sent::Refused(Errno::EMSGSIZE)));
}
