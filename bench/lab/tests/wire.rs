//! The wire between real interfaces: delay by ratio, loss by count, a gigabit without losses of its own. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // a test may fail so

mod traffic;

use std::time::{Duration, Instant};

use plumbline_lab::{Host, Lab, Plan, Shape, WirePlan};
use traffic::{Echo, Sink, flood, round_trips};

const MBIT: u64 = 1_000_000;

fn up(ip_mbit: u64, wire: WirePlan) -> Lab {
    Lab::up(Plan::backhaul(
        1,
        Shape::ip_layer(ip_mbit * MBIT, 1500),
        Some(wire),
    ))
    .unwrap()
}

fn smallest_round_trip(delay: Duration) -> Duration {
    let lab = up(100, WirePlan::delay(delay));
    let _echo = Echo::open(&lab, Host::Prover);
    round_trips(
        &lab,
        Host::Challenger(0),
        lab.address(Host::Prover).unwrap(),
        10,
    )
    .into_iter()
    .min()
    .unwrap()
}

#[test]
fn a_round_trip_takes_twice_the_delay() {
    let (short, long) = (
        smallest_round_trip(Duration::from_millis(20)),
        smallest_round_trip(Duration::from_millis(60)),
    );
    println!("20 ms each way: {short:?}; 60 ms: {long:?}");
    assert!(short >= Duration::from_millis(40), "never early: {short:?}");
    let ratio = long.as_secs_f64() / short.as_secs_f64();
    assert!(
        (2.8..3.05).contains(&ratio),
        "{short:?} and {long:?}: ratio {ratio}, should be 3"
    );
    let none = smallest_round_trip(Duration::ZERO);
    assert!(
        none < Duration::from_millis(10),
        "a wire without delay adds none: {none:?}"
    );
}

#[test]
fn what_is_missing_is_what_was_lost() {
    let lab = up(
        200,
        WirePlan {
            loss_ppm: 50_000,
            ..WirePlan::delay(Duration::from_millis(5))
        },
    );
    let sink = Sink::open(&lab, Host::Prover);
    let to = lab.address(Host::Prover).unwrap();
    let sent = flood(
        &lab,
        Host::Challenger(0),
        to,
        100 * MBIT,
        Duration::from_millis(500),
    )
    .join()
    .unwrap()
    .unwrap();
    let counters = lab.settle(Duration::from_secs(5)).unwrap();
    let drops = lab.drops().unwrap();
    let wire = counters.wire.unwrap().down;
    assert_eq!(
        wire.arrived,
        wire.sent + wire.lost + wire.overflow + wire.kernel,
        "{wire:?}"
    );
    assert_eq!(drops.down.total, drops.down.wire_lost, "{drops:?}");
    let share = wire.lost as f64 / sent as f64;
    assert!((0.035..0.065).contains(&share), "5 % asked, {share}");
    assert_eq!(sink.await_count(sent - wire.lost), sent - wire.lost);
}

#[test]
fn a_gigabit_passes_both_delayed_and_whole() {
    let shape = Shape::ip_layer(1000 * MBIT, 1500);
    let wire = WirePlan::delay(Duration::from_millis(20));
    let lab = Lab::up(Plan::backhaul(2, shape, Some(wire))).unwrap();
    let sink = Sink::open(&lab, Host::Prover);
    let to = lab.address(Host::Prover).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let (mut passed, mut best) = (0, 0);
    // A busy machine may not offer a gigabit every time; what it offers must pass whole each time.
    while best < 12_500 {
        assert!(
            Instant::now() < deadline,
            "this machine cannot offer 12500 packets in 150 ms: {best} at best"
        );
        let send = |i| {
            flood(
                &lab,
                Host::Challenger(i),
                to,
                600 * MBIT,
                Duration::from_millis(150),
            )
        };
        let senders = [send(0), send(1)];
        let offered: u64 = senders
            .into_iter()
            .map(|sender| sender.join().unwrap().unwrap())
            .sum();
        let wire = lab
            .settle(Duration::from_secs(5))
            .unwrap()
            .wire
            .unwrap()
            .down;
        let drops = lab.drops().unwrap().down;
        println!("{offered} offered, {drops:?}, {wire:?}");
        assert_eq!((wire.overflow, wire.kernel), (0, 0), "{wire:?}");
        assert_eq!(wire.arrived, wire.sent, "{wire:?}");
        assert_eq!(sink.await_count(wire.sent), wire.sent);
        best = best.max(wire.sent - passed);
        passed = wire.sent;
    }
}

#[test]
fn held_packets_are_overtaken_and_none_is_lost() {
    let lab = up(
        200,
        WirePlan {
            reorder_ppm: 20_000,
            ..WirePlan::delay(Duration::from_millis(5))
        },
    );
    let sink = Sink::open(&lab, Host::Prover);
    let to = lab.address(Host::Prover).unwrap();
    let sent = flood(
        &lab,
        Host::Challenger(0),
        to,
        100 * MBIT,
        Duration::from_millis(500),
    )
    .join()
    .unwrap()
    .unwrap();
    let wire = lab
        .settle(Duration::from_secs(5))
        .unwrap()
        .wire
        .unwrap()
        .down;
    let share = wire.held as f64 / sent as f64;
    assert!((0.01..0.03).contains(&share), "2 % asked, {share}");
    assert_eq!(sink.await_count(sent), sent, "{wire:?}");
}
