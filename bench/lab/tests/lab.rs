//! Real labs: made whole, counted to the packet, gone afterwards. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // a test may fail so

mod traffic;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plumbline_lab::wire::prefer_this_thread;
use plumbline_lab::{Host, Lab, LabError, Plan, Process, Shape};
use traffic::{Echo, Sink, flood, round_trips};

const MBIT: u64 = 1_000_000;

fn up(challengers: u8, ip_mbit: u64) -> Lab {
    Lab::up(Plan::backhaul(
        challengers,
        Shape::ip_layer(ip_mbit * MBIT, 1500),
        None,
    ))
    .unwrap()
}

#[test]
fn every_packet_arrives_or_is_counted_as_dropped() {
    let lab = up(2, 100);
    let to = lab.address(Host::Prover).unwrap();
    let sink = Sink::open(&lab, Host::Prover);
    let floods: Vec<_> = (0..2)
        .map(|i| {
            flood(
                &lab,
                Host::Challenger(i),
                to,
                100 * MBIT,
                Duration::from_millis(500),
            )
        })
        .collect();
    let sent: u64 = floods
        .into_iter()
        .map(|flood| flood.join().unwrap().unwrap())
        .sum();
    lab.settle(Duration::from_secs(5)).unwrap();
    let drops = lab.drops().unwrap();
    assert!(
        drops.down.shaper > sent / 4,
        "twice the rate: about half is dropped, {drops:?}"
    );
    assert_eq!(
        sink.await_count(sent - drops.down.total),
        sent - drops.down.total,
        "{sent} sent, {drops:?}"
    );
    assert_eq!((drops.forwarding, drops.up.total), (0, 0), "{drops:?}");
    // One counted unit is one packet, and nothing uninvited is on the measured link.
    let eth0 = drops
        .interfaces
        .iter()
        .find(|each| each.host == "prover" && each.interface == "eth0")
        .unwrap();
    assert_eq!(eth0.rx_packets, sent - drops.down.total);
    assert_eq!(eth0.tx_packets, 0);
}

#[test]
fn the_shaper_passes_the_rate_it_is_set_to() {
    prefer_this_thread().unwrap();
    for ip_mbit in [50, 200, 500] {
        let lab = up(2, ip_mbit);
        let deadline = Instant::now() + Duration::from_secs(30);
        // A busy machine may not keep the link full: a window counts only if it did. And it may wake the
        // shaper late: the best window is the shaper's own, more than the rate is never allowed.
        let mut best: Option<f64> = None;
        while best.is_none_or(|ratio| ratio < 0.97) && Instant::now() < deadline {
            let window = full_window(&lab, ip_mbit * MBIT);
            best = best.into_iter().chain(window).reduce(f64::max);
        }
        let ratio = best.expect("this machine could not keep the link full for 200 ms");
        println!("{ip_mbit} Mbit/s at the IP layer: passes {ratio:.4} of its rate");
        assert!((0.97..1.03).contains(&ratio), "{ip_mbit} Mbit/s: {ratio}");
    }
}

/// What the router received from challengers and passed on through the shaper.
#[derive(Clone, Copy)]
struct Passage {
    offered: u64,
    passed: u64,
    at: Instant,
}

impl Passage {
    /// Bytes since `earlier`, as shares of what `bps` makes of the time: offered, passed.
    fn since(&self, earlier: &Self, bps: u64) -> (f64, f64) {
        let full = bps as f64 / 8.0 * (self.at - earlier.at).as_secs_f64();
        let share = |now: u64, before: u64| (now - before) as f64 / full;
        (
            share(self.offered, earlier.offered),
            share(self.passed, earlier.passed),
        )
    }
}

/// Reads the router's counters every 20 ms, `steps` times, on one thread in its namespace.
fn watch(lab: &Lab, steps: u32) -> Vec<Passage> {
    let read = || -> std::io::Result<Passage> {
        let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let at = Instant::now();
        let column = |name: &str, column: usize| -> u64 {
            let line = table
                .lines()
                .find_map(|line| line.trim().strip_prefix(name));
            line.unwrap()
                .split_ascii_whitespace()
                .nth(column)
                .unwrap()
                .parse()
                .unwrap()
        };
        // Columns: received bytes first, sent bytes ninth.
        let offered = column("c0:", 0) + column("c1:", 0);
        let passed = column("prover:", 8);
        Ok(Passage {
            offered,
            passed,
            at,
        })
    };
    let work = move || {
        prefer_this_thread()?;
        (0..=steps)
            .map(|_| {
                std::thread::sleep(Duration::from_millis(20));
                read()
            })
            .collect()
    };
    lab.namespace(Host::Core)
        .run("watching its counters", work)
        .unwrap()
}

/// What passes in 200 ms, as a share of the shaper's rate, with twice the rate offered by two
/// senders; none if they did not offer that much all along.
fn full_window(lab: &Lab, ip_bps: u64) -> Option<f64> {
    // Two senders: where timers are dear, the shaper slows the sender on its own core to the rate.
    let to = lab.address(Host::Prover).unwrap();
    let send = |i| {
        flood(
            lab,
            Host::Challenger(i),
            to,
            ip_bps,
            Duration::from_millis(600),
        )
    };
    let senders = [send(0), send(1)];
    // The first 100 ms spend the bucket and fill the queue.
    let seen = watch(lab, 15).split_off(5);
    for sender in senders {
        sender.join().unwrap().unwrap();
    }
    let rate = lab.plan().down.ethernet_bps;
    let is_full = seen
        .windows(2)
        .all(|step| step[1].since(&step[0], rate).0 > 1.05);
    let (_, passed) = seen[10].since(&seen[0], rate);
    assert!(passed < 1.03, "more than the rate: {passed}");
    is_full.then_some(passed)
}

#[test]
fn two_labs_with_the_same_addresses_do_not_meet() {
    let (one, two) = (up(1, 100), up(1, 100));
    assert_ne!(one.tag(), two.tag());
    assert_eq!(
        one.address(Host::Prover).unwrap(),
        two.address(Host::Prover).unwrap()
    );
    let _echo = Echo::open(&one, Host::Prover);
    let to = one.address(Host::Prover).unwrap();
    assert_eq!(round_trips(&one, Host::Challenger(0), to, 3).len(), 3);
    let eth0 = |lab: &Lab| {
        lab.counters()
            .unwrap()
            .interface(Host::Prover, "eth0")
            .unwrap()
            .rx_packets
    };
    assert_eq!((eth0(&one), eth0(&two)), (3, 0));
    let (gone, kept) = (one.namespace(Host::Prover), two.namespace(Host::Prover));
    drop(_echo);
    one.down().unwrap();
    assert!(!gone.path().exists() && kept.path().exists());
}

#[test]
fn the_management_link_carries_the_coordinator_and_the_measured_one_does_not() {
    let lab = up(1, 100);
    let listen = lab.address(Host::Coordinator).unwrap();
    let (ready, port) = std::sync::mpsc::channel();
    let server = lab.namespace(Host::Coordinator).spawn(move || {
        let listener = TcpListener::bind((listen, 0))?;
        ready
            .send(listener.local_addr()?.port())
            .map_err(std::io::Error::other)?;
        let (mut stream, from) = listener.accept()?;
        stream.write_all(b"hello")?;
        Ok(from.ip())
    });
    let port = port.recv().unwrap();
    let read = lab.namespace(Host::Prover).run("connecting", move || {
        let mut text = String::new();
        TcpStream::connect((listen, port))?.read_to_string(&mut text)?;
        Ok(text)
    });
    assert_eq!(read.unwrap(), "hello");
    assert_eq!(server.unwrap().join().unwrap().unwrap(), lab.management());
    let counters = lab.counters().unwrap();
    assert_eq!(
        counters.interface(Host::Prover, "eth0").unwrap().rx_packets,
        0
    );
    assert!(
        counters
            .interface(Host::Prover, "mgmt0")
            .unwrap()
            .rx_packets
            > 3
    );
}

#[test]
fn a_command_runs_inside_and_ends_with_its_lab() {
    let lab = up(1, 100);
    let shown = lab
        .command(Host::Prover, "ip")
        .args(["-o", "-4", "addr"])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("10.77.2.2/24") && shown.contains("10.77.3.2/24"),
        "{shown}"
    );
    let directory = std::env::temp_dir().join(format!("plumbline-lab-{}", lab.tag()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut command = lab.command(Host::Challenger(0), "sh");
    command.args(["-c", "echo ready; exec sleep 600"]);
    let mut process = Process::start("sleeper", command, &directory).unwrap();
    process
        .await_line("ready", Duration::from_secs(10), |line| {
            (line == "ready").then_some(())
        })
        .unwrap();
    lab.down().unwrap();
    assert!(
        !process.wait(Duration::from_secs(5)).unwrap().success(),
        "ended by the lab"
    );
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_lab_that_cannot_be_made_leaves_nothing() {
    let mut plan = Plan::backhaul(1, Shape::ethernet(100 * MBIT), None);
    plan.challengers = 0;
    assert!(matches!(
        Lab::up(plan),
        Err(LabError::Plan {
            field: "challengers",
            ..
        })
    ));
    let lab = up(1, 100);
    let error = lab.address(Host::Challenger(1)).unwrap_err().to_string();
    assert!(
        error.contains("c1") && error.contains("1 challengers"),
        "{error}"
    );
    assert!(matches!(
        Lab::down_tag("none"),
        Err(LabError::Unknown { .. })
    ));
}

#[test]
fn a_lab_refused_half_way_is_removed() {
    // In a process of its own, where nobody else makes labs: the next tag is then known.
    if std::env::var_os(VICTIM).is_none() {
        let mut alone = rerun("a_lab_refused_half_way_is_removed");
        assert!(alone.wait().unwrap().success());
        return;
    }
    let tag = format!("{}.0", std::process::id());
    let taken = format!("pl{tag}-c1");
    assert!(
        Command::new("ip")
            .args(["netns", "add", &taken])
            .status()
            .unwrap()
            .success()
    );
    let error = Lab::up(Plan::backhaul(2, Shape::ethernet(100 * MBIT), None))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("netns add") && error.contains(&taken),
        "names the command: {error}"
    );
    assert!(
        !Path::new("/run/netns")
            .join(format!("pl{tag}-prover"))
            .exists(),
        "{error}"
    );
    assert!(Lab::list().unwrap().iter().all(|record| record.tag != tag));
}

/// Set in a process that runs one test again, alone.
const VICTIM: &str = "PLUMBLINE_LAB_VICTIM";

fn rerun(test: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_lab_whose_owner_was_killed_is_removed_by_the_next() {
    if std::env::var_os(VICTIM).is_some() {
        let lab = up(1, 100);
        println!("\ntag {}", lab.tag());
        std::thread::sleep(Duration::from_secs(60));
        unreachable!("killed by the test that started it");
    }
    let mut victim = rerun("a_lab_whose_owner_was_killed_is_removed_by_the_next");
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let tag = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("tag ").map(str::to_owned))
        .unwrap();
    let prover = Path::new("/run/netns").join(format!("pl{tag}-prover"));
    assert!(prover.exists());
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(prover.exists(), "a killed process cleans nothing up");
    let lab = up(1, 100);
    assert!(!prover.exists());
    assert!(Lab::list().unwrap().iter().all(|record| record.tag != tag));
    lab.down().unwrap();
}
