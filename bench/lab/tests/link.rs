//! What the measured link can be made to do: a bucket that drains, another shape while it stands, other people's
//! traffic, IPv6. Real labs; needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // a test may fail so

mod traffic;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use plumbline_lab::{CrossTraffic, Host, Lab, LabError, Plan, Shape};
use traffic::{Sink, flood};

const MBIT: u64 = 1_000_000;
const SETTLE: Duration = Duration::from_secs(5);

fn up(change: impl FnOnce(&mut Plan)) -> Lab {
    let mut plan = Plan::backhaul(2, Shape::ip_layer(100 * MBIT, 1500), None);
    change(&mut plan);
    Lab::up(plan).unwrap()
}

/// Bytes (Ethernet) that left the router towards the prover, and when, while both challengers send at `ip_bps`
/// together for `time`: one reading a millisecond.
fn passage(lab: &Lab, ip_bps: u64, time: Duration) -> Vec<(Duration, u64)> {
    let to = lab.address(Host::Prover).unwrap();
    let watch = lab.namespace(Host::Core).spawn(move || {
        let start = Instant::now();
        let mut seen = Vec::new();
        while start.elapsed() < time {
            let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let at = start.elapsed();
            let line = table
                .lines()
                .find_map(|line| line.trim().strip_prefix("prover:"));
            let sent = line.unwrap().split_ascii_whitespace().nth(8).unwrap();
            seen.push((at, sent.parse().unwrap()));
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(seen)
    });
    let send = |i| flood(lab, Host::Challenger(i), to, ip_bps / 2, time);
    for sender in [send(0), send(1)] {
        sender.join().unwrap().unwrap();
    }
    watch.unwrap().join().unwrap().unwrap()
}

/// Bytes that had passed by `at` after the first byte.
fn passed_by(seen: &[(Duration, u64)], at: Duration) -> f64 {
    let (_, before) = seen[0];
    let (begun, _) = seen.iter().find(|(_, bytes)| *bytes > before).unwrap();
    let (_, then) = seen.iter().rfind(|(t, _)| *t <= *begun + at).unwrap();
    (then - before) as f64
}

#[test]
fn a_bucket_passes_at_the_peak_then_at_the_rate() {
    // 1.25 MB at 400 − 50 Mbit/s last 28.6 ms; without a peak they would pass at once.
    let bucket = 1_250_000_u32;
    let shape = Shape::bucket(50 * MBIT, bucket, 400 * MBIT, 1500);
    let lab = up(|plan| plan.down = shape);
    let deadline = Instant::now() + Duration::from_secs(30);
    // A busy machine may not offer the peak, or wake the shaper late: the fastest of some bursts is the link's.
    let (mut early, mut whole) = (0.0_f64, 0.0_f64);
    while (early < 0.85 || whole < 0.95) && Instant::now() < deadline {
        let seen = passage(&lab, 600 * MBIT, Duration::from_millis(300));
        let ms = |ms: u64| passed_by(&seen, Duration::from_millis(ms));
        let peak = shape.peak.unwrap().ethernet_bps as f64 / 8.0;
        // 20 ms of the peak, with the peak's own bucket on top and a reading's distance.
        let share = ms(20) / (peak * 0.020);
        assert!(share < 1.25, "more than the peak: {share}");
        // By 250 ms: the bucket and what the rate gives.
        let all = f64::from(bucket) + shape.ethernet_bps as f64 / 8.0 * 0.250;
        assert!(
            ms(250) / all < 1.06,
            "more than bucket and rate: {}",
            ms(250) / all
        );
        (early, whole) = (early.max(share), whole.max(ms(250) / all));
        lab.settle(SETTLE).unwrap();
        // The bucket is full again after 200 ms of silence.
        let full = Instant::now() + Duration::from_millis(250);
        while Instant::now() < full {
            std::thread::park_timeout(full.saturating_duration_since(Instant::now()));
        }
    }
    println!("bucket: {early:.3} of the peak in 20 ms, {whole:.3} of bucket and rate in 250 ms");
    assert!(early > 0.85 && whole > 0.95, "{early} {whole}");
}

#[test]
fn a_standing_lab_takes_another_shape_and_its_drops_add_up() {
    let mut lab = up(|_| {});
    let to = lab.address(Host::Prover).unwrap();
    let sink = Sink::open(&lab, Host::Prover);
    let (mut sent, mut dropped) = (0, Vec::new());
    for shape in [
        None,
        Some(Shape::bucket(50 * MBIT, 500_000, 200 * MBIT, 1500)),
        Some(Shape::ip_layer(400 * MBIT, 1500)),
        Some(Shape::ip_layer(20 * MBIT, 1500)),
    ] {
        if let Some(shape) = shape {
            lab.reshape(shape, SETTLE).unwrap();
            assert_eq!(lab.plan().down, shape);
        }
        let flood = flood(
            &lab,
            Host::Challenger(0),
            to,
            200 * MBIT,
            Duration::from_millis(200),
        );
        sent += flood.join().unwrap().unwrap();
        lab.settle(SETTLE).unwrap();
        let total = lab.drops().unwrap().down.total;
        dropped.push(total - dropped.iter().sum::<u64>());
    }
    // Half is lost at 100, nothing at 400 but what a late sender makes up for, nine tenths at 20.
    assert!(
        dropped[0] > 500 && dropped[3] > dropped[0] && dropped[2] < dropped[0],
        "{dropped:?}"
    );
    let arrived = sent - dropped.iter().sum::<u64>();
    assert_eq!(
        sink.await_count(arrived),
        arrived,
        "{sent} sent, {dropped:?}"
    );
    let slow = Shape::ethernet(MBIT - 1);
    assert!(matches!(
        lab.reshape(slow, SETTLE),
        Err(LabError::Plan { field: "down", .. })
    ));
}

#[test]
fn cross_traffic_takes_its_share_and_adds_up() {
    let lab = up(|plan| plan.bystander = true);
    let to = lab.address(Host::Prover).unwrap();
    let sink = Sink::open(&lab, Host::Prover);
    let cross = CrossTraffic::start(&lab, 40 * MBIT).unwrap();
    let flood = flood(
        &lab,
        Host::Challenger(0),
        to,
        120 * MBIT,
        Duration::from_millis(500),
    );
    let sent = flood.join().unwrap().unwrap();
    let count = cross.stop(&lab).unwrap();
    assert!(count.sent > 500 && count.received > 0, "{count:?}");
    let drops = lab.drops().unwrap();
    let lost = u64::try_from(count.lost()).unwrap();
    assert!(
        drops.down.total > lost,
        "160 into 100 Mbit/s: both lose, {count:?} {drops:?}"
    );
    let arrived = sent + lost - drops.down.total;
    assert_eq!(sink.await_count(arrived), arrived, "{sent} sent, {count:?}");
    let without = up(|_| {});
    assert!(matches!(
        CrossTraffic::start(&without, MBIT),
        Err(LabError::NoHost { .. })
    ));
}

#[test]
fn ipv6_carries_datagrams_and_says_nothing_by_itself() {
    for delay in [None, Some(Duration::from_millis(1))] {
        let lab = up(|plan| {
            plan.ipv6 = true;
            plan.bystander = true;
            plan.wire = delay.map(plumbline_lab::WirePlan::delay);
        });
        let to = lab.address_v6(Host::Prover).unwrap();
        let (ready, opened) = std::sync::mpsc::channel();
        let echo = lab.namespace(Host::Prover).spawn(move || {
            let socket = UdpSocket::bind((to, traffic::PORT))?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            ready.send(()).map_err(std::io::Error::other)?;
            let mut buffer = [0; 2048];
            for _ in 0..2 {
                let (length, from) = socket.recv_from(&mut buffer)?;
                socket.send_to(&buffer[..length], from)?;
            }
            Ok(())
        });
        opened.recv().unwrap();
        for from in [Host::Challenger(1), Host::Bystander] {
            let own = lab.address_v6(from).unwrap();
            let asked = lab.namespace(from).run("asking over IPv6", move || {
                let socket = UdpSocket::bind((own, 0))?;
                socket.set_read_timeout(Some(Duration::from_secs(10)))?;
                socket.send_to(&[7; 1452], (to, traffic::PORT))?;
                let mut answer = [0; 2048];
                socket.recv(&mut answer)
            });
            assert_eq!(asked.unwrap(), 1452);
        }
        echo.unwrap().join().unwrap().unwrap();
        // Two asked, two answered, and nothing else has ever crossed the measured link.
        let counters = lab.settle(SETTLE).unwrap();
        let eth0 = counters.interface(Host::Prover, "eth0").unwrap();
        assert_eq!((eth0.rx_packets, eth0.tx_packets), (2, 2), "{counters:#?}");
        assert_eq!(lab.drops().unwrap().forwarding, 0);
    }
    let error = up(|_| {}).address_v6(Host::Prover).unwrap_err().to_string();
    assert!(error.contains("ipv6 = false"), "{error}");
}
