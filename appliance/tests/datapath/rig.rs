//! The rig of these tests: two namespaces and a veth, packets, and a sink that checks every leaf.

use std::any::Any;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use plumbline::datapath::{
    Counters, DatapathError, PathChoice, Receiver, ReceiverConfig, Sender, SessionSink,
    SessionSpec, realtime_ns, tai_ns,
};
use plumbline::generator::{Ended, FloodOutcome, FloodPlan, flood};
use plumbline_wire::header::DATA_LEN;
use plumbline_wire::{HEADER_LEN, Header, Kind};

pub(crate) const DATA_PORT: u16 = 47_000;
pub(crate) const SESSION: [u8; 16] = *b"datapath session";
pub(crate) const MINUTE: u64 = 60_000_000_000;

/// `prover` has 10.77.0.1 on `veth0`, `challenger` 10.77.0.2.
pub(crate) struct Lab {
    pub(crate) prover: String,
    pub(crate) challenger: String,
}

pub(crate) fn ip(arguments: &str) -> String {
    let out = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip (iproute2)");
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success(),
        "`ip {arguments}` (these tests need root): {error}"
    );
    String::from_utf8(out.stdout).unwrap()
}

impl Lab {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = |role| {
            format!(
                "pldp-{}-{}-{role}",
                std::process::id(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            )
        };
        let lab = Self {
            prover: name("p"),
            challenger: name("c"),
        };
        let (p, c) = (&lab.prover, &lab.challenger);
        ip(&format!("netns add {p}"));
        ip(&format!("netns add {c}"));
        ip(&format!(
            "link add veth0 netns {p} type veth peer name veth0 netns {c}"
        ));
        for (ns, host) in [(p, 1), (c, 2)] {
            ip(&format!("-n {ns} link set lo up"));
            ip(&format!("-n {ns} addr add 10.77.0.{host}/24 dev veth0"));
            ip(&format!("-n {ns} addr add fd77::{host}/64 dev veth0 nodad"));
            // A data packet over IPv6 is 1520 bytes; and generic XDP, which runs on socket buffers, must not
            // be shown the sender's uncut super-packets, as no wire would.
            ip(&format!(
                "-n {ns} link set veth0 mtu 1520 gso_max_segs 1 up"
            ));
        }
        // A flood must not begin by filling the queue of an unresolved neighbour.
        let address = ip(&format!("-n {p} -br link show veth0"));
        let mac = address.split_whitespace().nth(2).unwrap().to_owned();
        ip(&format!(
            "-n {c} neigh replace 10.77.0.1 lladdr {mac} dev veth0"
        ));
        ip(&format!(
            "-n {c} neigh replace fd77::1 lladdr {mac} dev veth0"
        ));
        lab
    }

    pub(crate) fn config(&self, path: PathChoice) -> ReceiverConfig {
        ReceiverConfig {
            interface: "veth0".into(),
            bind: "::".parse().unwrap(),
            data_port: DATA_PORT,
            queue: 0,
            path,
            busy_poll: false,
            core: None,
        }
    }

    /// Starts a receiver in the prover's namespace.
    pub(crate) fn start(&self, path: PathChoice) -> Receiver {
        let started = within(&self.prover, || start(&self.config(path)));
        started.unwrap_or_else(|e| panic!("{path:?}: {e}"))
    }

    /// Does `ip` see an XDP program on the prover's interface?
    pub(crate) fn xdp(&self) -> Option<&'static str> {
        let shown = ip(&format!("-n {} link show dev veth0", self.prover));
        // `ip` says "xdp" for native and "xdpgeneric" for generic.
        if shown.contains("xdpgeneric") {
            Some("generic")
        } else if shown.contains("xdp") {
            Some("native")
        } else {
            None
        }
    }

    /// Packets that either end of the veth dropped.
    pub(crate) fn dropped_by_veth(&self) -> u64 {
        [&self.prover, &self.challenger]
            .iter()
            .map(|ns| {
                let shown = ip(&format!("-n {ns} -s -j link show dev veth0"));
                let json: serde_json::Value = serde_json::from_str(&shown).unwrap();
                let stats = &json[0]["stats64"];
                stats["rx"]["dropped"].as_u64().unwrap() + stats["tx"]["dropped"].as_u64().unwrap()
            })
            .sum()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.prover, &self.challenger] {
            let _ = Command::new("ip").args(["netns", "del", ns]).status();
        }
    }
}

/// A moment for others between two looks at a condition.
pub(crate) fn breathe() {
    std::thread::park_timeout(Duration::from_millis(2));
}

/// Starts a receiver here, as soon as the port is free: other tests of this process start `ip`, and
/// between fork and exec such a child holds a copy of every descriptor, sockets just closed among them.
pub(crate) fn start(config: &ReceiverConfig) -> Result<Receiver, DatapathError> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match Receiver::start(config) {
            Err(DatapathError::Bind { .. }) if Instant::now() < until => breathe(),
            result => return result,
        }
    }
}

/// Runs `work` on a thread that has entered the namespace; threads it starts inherit it.
pub(crate) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).expect("entering a namespace needs root");
            work()
        });
        thread
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}

pub(crate) fn packets(session: [u8; 16], index: u16, count: usize) -> Vec<u8> {
    let mut all = vec![0; count * DATA_LEN];
    for (sequence, packet) in (0u64..).zip(all.chunks_mut(DATA_LEN)) {
        let header = Header {
            kind: Kind::Data,
            phase: 0,
            session,
            index,
            sequence,
            sent_ns: 0,
            tag: [1; 8],
        };
        blake3::Hasher::new_derive_key("datapath test")
            .update(&index.to_le_bytes())
            .update(&sequence.to_le_bytes())
            .finalize_xof()
            .fill(&mut packet[HEADER_LEN..]);
        packet[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    }
    all
}

/// Counts, compares every leaf, refuses every tenth sequence number and what it has seen before.
pub(crate) struct Tally {
    leaves: Vec<Vec<[u8; 32]>>,
    seen: Vec<Vec<bool>>,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) wrong_leaves: u64,
    pub(crate) out_of_time: u64,
    began_ns: u64,
    pub(crate) turns: Arc<AtomicU64>,
    /// Turns that came more than 10 ms after the one before.
    pub(crate) late_turns: u64,
    last_turn_ns: u64,
}

impl Tally {
    /// `flows[i]` are the packets of challenger `i`.
    pub(crate) fn new(flows: &[&[u8]]) -> Box<Self> {
        let leaves: Vec<Vec<_>> = flows
            .iter()
            .map(|f| {
                f.chunks(DATA_LEN)
                    .map(|p| *blake3::hash(p).as_bytes())
                    .collect()
            })
            .collect();
        let seen = leaves.iter().map(|l| vec![false; l.len()]).collect();
        Box::new(Self {
            leaves,
            seen,
            accepted: 0,
            refused: 0,
            wrong_leaves: 0,
            out_of_time: 0,
            began_ns: realtime_ns(),
            turns: Arc::default(),
            late_turns: 0,
            last_turn_ns: 0,
        })
    }
}

impl SessionSink for Tally {
    fn admit(&mut self, header: &Header, raw: &[u8; HEADER_LEN], arrival_ns: u64) -> bool {
        assert_eq!(header.to_bytes(), *raw);
        let seen = &mut self.seen[usize::from(header.index)][header.sequence as usize];
        if *seen || header.sequence % 10 == 9 {
            self.refused += 1;
            return false;
        }
        *seen = true;
        if arrival_ns < self.began_ns || arrival_ns > realtime_ns() {
            self.out_of_time += 1;
        }
        true
    }

    fn accept(&mut self, index: u16, sequence: u64, leaf: &[u8; 32], _arrival_ns: u64) {
        self.accepted += 1;
        if self.leaves[usize::from(index)][sequence as usize] != *leaf {
            self.wrong_leaves += 1;
        }
    }

    fn turn(&mut self, now_ns: u64) {
        if self.last_turn_ns > 0 && now_ns.saturating_sub(self.last_turn_ns) > 10_000_000 {
            self.late_turns += 1;
        }
        self.last_turn_ns = now_ns;
        self.turns.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn tally(sink: Box<dyn SessionSink>) -> Box<Tally> {
    let any: Box<dyn Any> = sink;
    any.downcast().expect("the sink that was handed over")
}

pub(crate) fn spec(senders: &[(u16, SocketAddr)]) -> SessionSpec {
    SessionSpec {
        session: SESSION,
        until_tai_ns: tai_ns() + MINUTE,
        senders: senders
            .iter()
            .map(|&(index, source)| Sender { index, source })
            .collect(),
    }
}

pub(crate) fn challenger(lab: &Lab, v6: bool) -> UdpSocket {
    let (from, to): (IpAddr, IpAddr) = if v6 {
        ("fd77::2".parse().unwrap(), "fd77::1".parse().unwrap())
    } else {
        ("10.77.0.2".parse().unwrap(), "10.77.0.1".parse().unwrap())
    };
    within(&lab.challenger, || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.connect((to, DATA_PORT)).unwrap();
        socket
    })
}

pub(crate) fn send(socket: &UdpSocket, packets: &[u8], rate_bps: u64) -> FloodOutcome {
    let stop = AtomicBool::new(false);
    let now = realtime_ns();
    let outcome = flood(&FloodPlan {
        socket,
        packets,
        packet_len: DATA_LEN,
        rate_bps,
        start_realtime_ns: now,
        deadline_realtime_ns: now + MINUTE,
        stop: &stop,
    })
    .unwrap();
    assert_eq!(outcome.ended, Ended::Exhausted);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
    assert_eq!(outcome.engine, "io_uring", "{:?}", outcome.fallback_reason);
    outcome
}

/// Waits until the counters satisfy `there`, five seconds at most; returns them either way.
pub(crate) fn settle(receiver: &Receiver, there: impl Fn(&Counters) -> bool) -> Counters {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let counters = receiver.counters().unwrap();
        if there(&counters) || Instant::now() > until {
            return counters;
        }
        breathe();
    }
}

/// Frames addressed to the data port whose fate is known.
pub(crate) fn known(counters: &Counters) -> u64 {
    counters.refused() + counters.thread.frames
        - counters.thread.other_session
        - counters.thread.malformed
}
