//! The datapath over a real kernel: veth between two network namespaces, XDP attached, a real flood, and
//! every packet accounted for.
//!
//! Needs root and `ip`; without them these tests fail and say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout
)] // a test fails by panicking

mod admission;
mod allocation;
mod rig;
mod shapes;
mod tx;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use caps::CapSet;
use plumbline::datapath::{
    Counters, DatapathError, PathChoice, Receiver, ReceiverConfig, SessionSpec, tai_ns,
};
use plumbline_wire::Fate;
use rig::{
    DATA_PORT, Lab, SESSION, Tally, challenger, known, open, packets, send, settle, spec, within,
};

/// Two consented challengers (v4 and v6), one with the wrong index, one without consent: each packet that
/// the kernel accepted from them is found again, under the right reason.
fn every_packet_is_accounted_for(path: PathChoice, receiver_is: &str, mode: &str) {
    let lab = Lab::new();
    assert_eq!(lab.xdp(), None);
    let receiver = lab.start(path);
    let info = receiver.info();
    assert_eq!(
        (info.receiver, info.xdp_mode),
        (receiver_is, mode),
        "{:?}",
        info.fallback_reasons
    );
    assert_eq!(lab.xdp().unwrap_or("none"), mode, "what `ip link` shows");

    let dropped_before = lab.dropped_by_veth();
    let path_loss = || lab.dropped_by_veth() - dropped_before;
    let sockets = [
        challenger(&lab, false),
        challenger(&lab, true),
        challenger(&lab, false),
        challenger(&lab, false),
    ];
    let flows: Vec<_> = (0..4).map(|i| packets(SESSION, i, 4_003)).collect();
    let sink = Tally::new(&[&flows[0], &flows[1]]);
    // Challenger 2 is consented to, but under another index than its packets carry.
    let local = |i: usize| sockets[i].local_addr().unwrap();
    let session = spec(&[(0, local(0)), (1, local(1)), (9, local(2))]);
    let handle = open(&receiver, &session, &sink).unwrap();

    let sent: Vec<u64> = std::thread::scope(|scope| {
        let flooding: Vec<_> = sockets
            .iter()
            .zip(&flows)
            .map(|(socket, flow)| scope.spawn(move || send(socket, flow, 200_000_000).sent))
            .collect();
        flooding.into_iter().map(|f| f.join().unwrap()).collect()
    });
    assert_eq!(sent, [4_003; 4]);
    let sent: u64 = sent.iter().sum();
    let counters = settle(&receiver, |c| known(c) + path_loss() >= sent);
    handle.close().unwrap();
    let tally = sink.counts();
    let path_loss = path_loss();

    assert_eq!(tally.wrong_leaves, 0);
    assert_eq!(tally.out_of_time, 0, "arrival is between start and now");
    let accepted = tally.accepted + tally.refused;
    assert_eq!(
        sent,
        accepted + counters.refused() + path_loss,
        "unaccounted: {counters:?}, veth dropped {path_loss}"
    );
    assert_eq!(
        counters.thread.frames,
        accepted + counters.thread.other_session
    );
    let redirected = counters.fate(Fate::Redirected);
    let lost = counters.xsk.rx_dropped + counters.xsk.rx_ring_full;
    assert_eq!(redirected, counters.thread.frames + lost);
    if path_loss == 0 && lost + counters.socket.dropped == 0 {
        assert_eq!(counters.fate(Fate::DroppedNotConsented), 2 * 4_003);
        assert_eq!((tally.accepted, tally.refused), (2 * 3_603, 2 * 400));
    }
    drop(receiver);
    lab.wait_detached();
}

#[test]
fn native_xdp_accounts_for_every_packet() {
    every_packet_is_accounted_for(PathChoice::Native, "af_xdp", "native");
}

#[test]
fn auto_takes_native_xdp_on_veth_and_says_why_not_zero_copy() {
    let lab = Lab::new();
    let receiver = lab.start(PathChoice::Auto);
    let info = receiver.info().clone();
    assert_eq!(
        (info.receiver, info.xdp_mode, info.umem, info.timestamps),
        ("af_xdp", "native", "copy", "xdp-tai")
    );
    assert_eq!(
        info.fallback_reasons.len(),
        1,
        "{:?}",
        info.fallback_reasons
    );
    assert!(
        info.fallback_reasons[0].contains("zero-copy"),
        "{:?}",
        info.fallback_reasons
    );
}

#[test]
fn generic_xdp_accounts_for_every_packet() {
    every_packet_is_accounted_for(PathChoice::Generic, "af_xdp", "generic");
}

#[test]
fn a_plain_socket_accounts_for_every_packet() {
    every_packet_is_accounted_for(PathChoice::Socket, "recvmmsg", "none");
}

#[test]
fn the_expired_and_the_closed_are_refused_by_name() {
    for path in [PathChoice::Native, PathChoice::Socket] {
        let lab = Lab::new();
        let receiver = lab.start(path);
        let socket = challenger(&lab, false);
        let flow = packets(SESSION, 0, 100);
        let sender = (0, socket.local_addr().unwrap());
        let expired = SessionSpec {
            until_tai_ns: tai_ns() - 1,
            ..spec(&[sender])
        };
        let sink = Tally::new(&[&flow]);
        let handle = open(&receiver, &expired, &sink).unwrap();
        send(&socket, &flow, 100_000_000);
        let refused = |c: &Counters| c.fate(Fate::DroppedNotConsented);
        assert_eq!(
            refused(&settle(&receiver, |c| refused(c) == 100)),
            100,
            "{path:?}: expired"
        );
        handle.close().unwrap();
        assert_eq!(sink.counts().accepted, 0);

        let handle = open(&receiver, &spec(&[sender]), &sink).unwrap();
        send(&socket, &flow, 100_000_000);
        settle(&receiver, |c| c.thread.frames == 100);
        handle.close().unwrap();
        assert_eq!(sink.counts().accepted, 90, "{path:?}: open");
        send(&socket, &flow, 100_000_000);
        assert_eq!(
            refused(&settle(&receiver, |c| refused(c) == 200)),
            200,
            "{path:?}: closed"
        );
        assert_eq!(receiver.counters().unwrap().thread.frames, 100);
    }
}

#[test]
fn a_sink_gets_its_turn_within_10_ms_when_nothing_arrives() {
    for path in [PathChoice::Native, PathChoice::Socket] {
        let lab = Lab::new();
        let receiver = lab.start(path);
        let sink = Tally::new(&[&[]]);
        let nobody = spec(&[(0, "10.77.0.2:9".parse().unwrap())]);
        let handle = open(&receiver, &nobody, &sink).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while sink.counts().turns < 50 {
            assert!(
                Instant::now() < until,
                "{path:?}: {} turns",
                sink.counts().turns
            );
            rig::breathe();
        }
        handle.close().unwrap();
        let tally = sink.counts();
        // The thread wakes every 5 ms; a machine with other things to do may make single turns late.
        let all = tally.turns;
        assert!(
            tally.late_turns * 5 < all,
            "{path:?}: {} of {all} turns late",
            tally.late_turns
        );
    }
}

#[test]
fn sessions_and_senders_that_cannot_be_are_refused_by_name() {
    let lab = Lab::new();
    let receiver = lab.start(PathChoice::Socket);
    let at = |port: u16| (0, SocketAddr::new("10.77.0.2".parse().unwrap(), port));
    let open = |spec: &SessionSpec| open(&receiver, spec, &Tally::new(&[&[]]));
    assert!(matches!(
        open(&spec(&[])),
        Err(DatapathError::Senders { .. })
    ));
    assert!(matches!(
        open(&spec(&[at(1), at(1)])),
        Err(DatapathError::Senders { .. })
    ));
    let crowd: Vec<_> = (1..=65).map(at).collect();
    assert!(matches!(
        open(&spec(&crowd)),
        Err(DatapathError::Senders { .. })
    ));
    drop(open(&spec(&crowd[..64])).expect("64 are allowed"));

    let id = |i: u8| SessionSpec {
        session: [i; 16],
        ..spec(&[at(1)])
    };
    let mut handles: Vec<_> = (0..16).map(|i| open(&id(i)).unwrap()).collect();
    assert!(matches!(
        open(&id(3)),
        Err(DatapathError::SessionOpen { .. })
    ));
    assert!(matches!(
        open(&id(16)),
        Err(DatapathError::TooManySessions { limit: 16 })
    ));
    handles.pop();
    handles.push(open(&id(16)).expect("a dropped handle makes room"));
    drop(receiver);
    for handle in handles {
        assert!(matches!(
            handle.close(),
            Err(DatapathError::ThreadGone { .. })
        ));
    }
}

#[test]
fn a_receiver_that_cannot_be_says_what_is_missing() {
    let lab = Lab::new();
    let start = |config: &ReceiverConfig| {
        within(&lab.prover, || rig::start(config))
            .err()
            .expect("must fail")
    };
    let good = lab.config(PathChoice::Auto);
    let error = start(&ReceiverConfig {
        interface: "nowhere0".into(),
        ..good.clone()
    });
    assert!(
        matches!(error, DatapathError::NoInterface { .. }),
        "{error}"
    );
    let error = start(&ReceiverConfig {
        data_port: 0,
        ..good.clone()
    });
    assert!(
        matches!(
            error,
            DatapathError::Config {
                key: "data_port",
                ..
            }
        ),
        "{error}"
    );
    let error = start(&ReceiverConfig {
        queues: vec![64],
        ..good.clone()
    });
    assert!(
        matches!(error, DatapathError::Config { key: "queues", .. }),
        "{error}"
    );
    let error = start(&ReceiverConfig {
        cores: vec![1000],
        ..good.clone()
    });
    assert!(
        matches!(error, DatapathError::Config { key: "cores", .. }),
        "{error}"
    );
    // A queue that veth does not have.
    let error = start(&ReceiverConfig {
        queues: vec![5],
        path: PathChoice::Native,
        ..good.clone()
    });
    assert!(
        matches!(
            error,
            DatapathError::Unavailable {
                rung: "native XDP",
                ..
            }
        ),
        "{error}"
    );
    // The loopback device has no native XDP; asked for explicitly, nothing else is taken instead.
    let lo = ReceiverConfig {
        interface: "lo".into(),
        path: PathChoice::Native,
        ..good.clone()
    };
    let error = start(&lo);
    assert!(
        matches!(
            error,
            DatapathError::Unavailable {
                rung: "native XDP",
                ..
            }
        ),
        "{error}"
    );
    let auto = ReceiverConfig {
        path: PathChoice::Auto,
        ..lo
    };
    let receiver = within(&lab.prover, || rig::start(&auto)).unwrap();
    assert_ne!(receiver.info().xdp_mode, "native");
    assert!(receiver.info().fallback_reasons[0].contains("native XDP on lo"));
    drop(receiver);
    // The port is taken.
    let taken = within(&lab.prover, || {
        rig::retry(|| UdpSocket::bind(("::", DATA_PORT)))
    });
    let taken = taken.unwrap();
    let error = within(&lab.prover, || Receiver::start(&good))
        .err()
        .expect("taken");
    assert!(matches!(error, DatapathError::Bind { .. }), "{error}");
    drop(taken);
    // Another program is attached.
    let first = lab.start(PathChoice::Native);
    let error = start(&ReceiverConfig {
        data_port: 47_001,
        path: PathChoice::Native,
        ..good
    });
    assert!(error.to_string().contains("another XDP program"), "{error}");
    drop(first);
    lab.wait_detached();
}

#[test]
fn without_capabilities_auto_takes_the_socket_and_says_why() {
    let lab = Lab::new();
    let config = lab.config(PathChoice::Auto);
    let native = lab.config(PathChoice::Native);
    within(&lab.prover, || {
        caps::clear(None, CapSet::Effective).unwrap();
        let receiver = rig::start(&config).unwrap();
        assert_eq!(receiver.info().receiver, "recvmmsg");
        let reasons = receiver.info().fallback_reasons.join("; ");
        assert!(reasons.contains("CAP_BPF"), "{reasons}");
        drop(receiver);
        let error = rig::start(&native).err().expect("explicit");
        assert!(error.to_string().contains("CAP_BPF"), "{error}");
    });
}

#[test]
fn sessions_work_after_all_capabilities_are_dropped() {
    let lab = Lab::new();
    let config = lab.config(PathChoice::Native);
    let socket = challenger(&lab, false);
    let flow = packets(SESSION, 0, 500);
    within(&lab.prover, || {
        let receiver = Receiver::start(&config).unwrap();
        caps::clear(None, CapSet::Effective).unwrap();
        caps::clear(None, CapSet::Permitted).unwrap();
        let session = spec(&[(0, socket.local_addr().unwrap())]);
        let sink = Tally::new(&[&flow]);
        let handle = open(&receiver, &session, &sink).unwrap();
        send(&socket, &flow, 100_000_000);
        settle(&receiver, |c| c.thread.frames == 500);
        handle.close().unwrap();
        let tally = sink.counts();
        assert_eq!(
            (tally.accepted, tally.refused, tally.wrong_leaves),
            (450, 50, 0)
        );
        assert_eq!(receiver.counters().unwrap().fate(Fate::Redirected), 500);
    });
    assert_eq!(lab.xdp(), None);
}

/// A line that goes to and fro on an open connection.
fn exchange(tcp: &mut TcpStream, line: &str) {
    tcp.write_all(line.as_bytes()).unwrap();
    let mut back = vec![0; line.len()];
    tcp.read_exact(&mut back)
        .unwrap_or_else(|e| panic!("{line:?}: {e}"));
    assert_eq!(back, line.as_bytes());
}

#[test]
fn a_tcp_connection_lives_through_attach_run_and_detach() {
    for path in [PathChoice::Native, PathChoice::Generic] {
        let lab = Lab::new();
        let listener = within(&lab.prover, || TcpListener::bind("10.77.0.1:22")).unwrap();
        let mut tcp = within(&lab.challenger, || TcpStream::connect("10.77.0.1:22")).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut served, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut echo = served.try_clone().unwrap();
            std::io::copy(&mut served, &mut echo)
        });
        exchange(&mut tcp, "before");
        let receiver = lab.start(path);
        exchange(&mut tcp, "attached");
        let socket = challenger(&lab, false);
        let flow = packets(SESSION, 0, 20_000);
        let session = spec(&[(0, socket.local_addr().unwrap())]);
        let sink = Tally::new(&[&flow]);
        let handle = open(&receiver, &session, &sink).unwrap();
        let running = AtomicBool::new(true);
        let exchanged = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                let sent = send(&socket, &flow, 500_000_000).sent;
                running.store(false, Ordering::Relaxed);
                sent
            });
            let mut exchanged = 0;
            while running.load(Ordering::Relaxed) {
                exchange(&mut tcp, &format!("during {exchanged}"));
                exchanged += 1;
            }
            assert_eq!(flooding.join().unwrap(), 20_000);
            exchanged
        });
        assert!(exchanged > 0);
        handle.close().unwrap();
        assert!(sink.counts().accepted > 0);
        exchange(&mut tcp, "closed");
        drop(receiver);
        lab.wait_detached();
        exchange(&mut tcp, "detached");
        assert_eq!(lab.xdp(), None);
    }
}

/// The other half of `a_killed_process_leaves_no_xdp`: holds a receiver until it is killed.
#[test]
#[ignore = "run as a child by a_killed_process_leaves_no_xdp"]
fn child_holds_a_receiver() {
    let namespace = std::env::var("PLUMBLINE_TEST_NAMESPACE").expect("only as a child");
    let config = ReceiverConfig {
        interface: "veth0".into(),
        bind: "::".parse().unwrap(),
        data_port: DATA_PORT,
        queues: vec![0],
        path: PathChoice::Native,
        busy_poll: false,
        cores: Vec::new(),
    };
    let _receiver = within(&namespace, || Receiver::start(&config)).unwrap();
    println!("attached");
    loop {
        std::thread::park();
    }
}

/// Ends the child when the test fails before it does.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_process_leaves_no_xdp() {
    let lab = Lab::new();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_holds_a_receiver",
            "--ignored",
            "--nocapture",
        ])
        .env("PLUMBLINE_TEST_NAMESPACE", &lab.prover)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let output = BufReader::new(child.0.stdout.take().unwrap());
    assert!(
        output
            .lines()
            .any(|line| line.unwrap().contains("attached")),
        "the child attached"
    );
    assert_eq!(lab.xdp(), Some("native"));
    child.0.kill().unwrap(); // SIGKILL
    child.0.wait().unwrap();
    lab.wait_detached();
}
