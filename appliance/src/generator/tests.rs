//! The generator over loopback: every packet with its bytes, in order; stop, deadline and rate.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

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
    let mut all = vec![0; count * LEN];
    for (i, packet) in all.chunks_mut(LEN).enumerate() {
        blake3::Hasher::new()
            .update(&i.to_le_bytes())
            .finalize_xof()
            .fill(packet);
    }
    all
}

fn plan<'a>(
    socket: &'a UdpSocket,
    packets: &'a [u8],
    rate_bps: u64,
    seconds: u64,
    stop: &'a AtomicBool,
) -> FloodPlan<'a> {
    let now = realtime_ns();
    FloodPlan {
        socket,
        packets,
        packet_len: LEN,
        rate_bps,
        start_realtime_ns: now,
        deadline_realtime_ns: now + seconds * 1_000_000_000,
        stop,
    }
}

/// Receives `count` packets and compares each.
fn expect(receiver: &UdpSocket, packets: &[u8], count: usize) {
    let mut buffer = [0; 2048];
    for (i, packet) in packets.chunks(LEN).take(count).enumerate() {
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
    let all = packets(44 * 14 + 29);
    let stop = AtomicBool::new(false);
    let outcome = flood(&plan(&sender, &all, 2_000_000_000, 10, &stop)).unwrap();
    assert_eq!(outcome.engine, "io_uring", "{:?}", outcome.fallback_reason);
    assert_eq!((outcome.sent, outcome.ended), (645, Ended::Exhausted));
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    assert_eq!(outcome.gaps.len(), 15);
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
    let plan = plan(&sender, &all, 1_000_000_000, 10, &stop);
    let _segments = Segments::of(&plan).unwrap();
    let pace = check(&plan).unwrap();
    let outcome = run(&plan, pace, Plain(&sender), "sendmsg", None).unwrap();
    assert_eq!((outcome.sent, outcome.ended), (100, Ended::Exhausted));
    expect(&receiver, &all, 100);
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
        let outcome = flood(&plan(&sender, &all, rate, 20, &stop)).unwrap();
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(outcome.sent, count as u64);
        // The last burst is due one burst before the schedule ends.
        let burst = Pace::new(LEN, rate, 0, 0).burst();
        let scheduled = (count - burst) as f64 * 12_000.0 / rate as f64;
        let ratio = scheduled / took;
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
    let plan = plan(&sender, &all, 1_200_000, 60, &stop);
    let outcome = std::thread::scope(|s| {
        let flooding = s.spawn(|| flood(&plan).unwrap());
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
    let mut plan = plan(&sender, &all, 12_000_000, 60, &stop);
    plan.deadline_realtime_ns = realtime_ns() + 100_000_000;
    let outcome = flood(&plan).unwrap();
    assert_eq!(outcome.ended, Ended::Deadline);
    assert!(
        (1..=101).contains(&outcome.sent),
        "100 ms at 1 packet a ms: {}",
        outcome.sent
    );
    assert!(outcome.last_send_ns.unwrap() <= plan.deadline_realtime_ns + 50_000_000);
    expect(&receiver, &all, usize::try_from(outcome.sent).unwrap());

    plan.deadline_realtime_ns = realtime_ns() - 1;
    let outcome = flood(&plan).unwrap();
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
    let mut plan = plan(&sender, &all, 1_000_000_000, 60, &stop);
    plan.start_realtime_ns = realtime_ns() + 60_000_000;
    let outcome = flood(&plan).unwrap();
    assert!(outcome.first_send_ns.unwrap() >= plan.start_realtime_ns);
    assert_eq!(outcome.sent, 3);
}

#[test]
fn refused_packets_are_counted_by_errno_and_not_as_sent() {
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stop = AtomicBool::new(false);
    let all = packets(100);
    // Not connected: no destination.
    let outcome = flood(&plan(&sender, &all, 10_000_000_000, 10, &stop)).unwrap();
    assert_eq!((outcome.sent, outcome.ended), (0, Ended::Exhausted));
    assert_eq!(outcome.errors, [(Errno::EDESTADDRREQ as i32, 100)]);
    assert_eq!(outcome.last_send_ns, None);
    // Connected to a port where nobody is: each refusal answers an earlier burst.
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(nobody.local_addr().unwrap()).unwrap();
    drop(nobody);
    let outcome = flood(&plan(&sender, &all, 10_000_000_000, 10, &stop)).unwrap();
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
    let good = plan(&sender, &all, 1_000_000, 1, &stop);
    let key = |plan: FloodPlan<'_>| match flood(&plan) {
        Err(GeneratorError::Plan { key, .. }) => key,
        other => panic!("{other:?}"),
    };
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
    assert_eq!(
        key(FloodPlan {
            packets: &all[1..],
            ..good
        }),
        "packets"
    );
    assert_eq!(
        key(FloodPlan {
            rate_bps: 0,
            ..good
        }),
        "rate_bps"
    );
}
