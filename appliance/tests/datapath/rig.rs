//! The rig of these tests: two namespaces and a veth, packets, and a sink that checks every leaf.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use plumbline::datapath::{
    Counters, DatapathError, Leaf, Pace, PathChoice, Receiver, ReceiverConfig, Sender,
    SessionHandle, SessionSink, SessionSpec, realtime_ns, tai_ns,
};
use plumbline::generator::{Ended, FloodOutcome, FloodPlan, flood};
use plumbline_proof::backhaul::params::BURST_PACKETS;
use plumbline_wire::{HEADER_LEN, Header, Kind, Size};

pub(crate) const DATA_PORT: u16 = 47_000;
pub(crate) const SESSION: [u8; 16] = *b"datapath session";
pub(crate) const MINUTE: u64 = 60_000_000_000;
/// What the packets of these tests carry, and their consents ask for.
pub(crate) const COOKIE: u64 = 0x0123_4567_89ab_cdef;

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
        // A data packet over IPv6 is 1520 bytes.
        Self::with(1520, 1)
    }

    /// With another MTU, and several queues at each end.
    pub(crate) fn with(mtu: u32, queues: u32) -> Self {
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
            "link add veth0 netns {p} numtxqueues {queues} numrxqueues {queues} type veth peer name veth0 netns {c} numtxqueues {queues} numrxqueues {queues}"
        ));
        for (ns, host) in [(p, 1), (c, 2)] {
            ip(&format!("-n {ns} link set lo up"));
            ip(&format!("-n {ns} addr add 10.77.0.{host}/24 dev veth0"));
            ip(&format!("-n {ns} addr add fd77::{host}/64 dev veth0 nodad"));
            // Generic XDP, which runs on socket buffers, must not be shown the sender's uncut super-packets, as
            // no wire would.
            ip(&format!(
                "-n {ns} link set veth0 mtu {mtu} gso_max_segs 1 up"
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
            queues: vec![0],
            path,
            busy_poll: false,
            cores: Vec::new(),
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

    /// Waits until nothing is attached. The link ends with its last descriptor, and a test that starts
    /// `ip` at that instant has copied the descriptors of this process until its `exec`.
    pub(crate) fn wait_detached(&self) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.xdp().is_some() {
            assert!(Instant::now() < until, "XDP is still attached after 5 s");
            breathe();
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

/// Starts a receiver here, as soon as the port is free.
pub(crate) fn start(config: &ReceiverConfig) -> Result<Receiver, DatapathError> {
    retry(|| match Receiver::start(config) {
        Err(DatapathError::Bind { source, .. }) => Err(source),
        other => Ok(other),
    })
    .unwrap_or_else(|source| {
        Err(DatapathError::Bind {
            address: (config.bind, config.data_port).into(),
            source,
        })
    })
}

/// Binds until the port is free: other tests of this process start `ip`, and between fork and exec such
/// a child holds a copy of every descriptor, sockets just closed among them.
pub(crate) fn retry<T>(mut bind: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match bind() {
            Err(_) if Instant::now() < until => breathe(),
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
    packets_of(Size::Standard, session, index, count)
}

pub(crate) fn packets_of(size: Size, session: [u8; 16], index: u16, count: usize) -> Vec<u8> {
    let mut all = vec![0; count * size.payload()];
    for (sequence, packet) in (0u64..).zip(all.chunks_mut(size.payload())) {
        let header = Header {
            kind: Kind::Data,
            phase: 0,
            session,
            index,
            sequence,
            sent_ns: 0,
            cookie: COOKIE,
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
#[derive(Default)]
pub(crate) struct Tally {
    leaves: Vec<Vec<[u8; 32]>>,
    seen: Vec<Vec<AtomicBool>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    wrong_leaves: AtomicU64,
    out_of_time: AtomicU64,
    began_ns: u64,
    turns: AtomicU64,
    late_turns: AtomicU64,
    last_turn_ns: AtomicU64,
    /// What it answers at each turn.
    pub(crate) hasty: AtomicBool,
}

/// What a tally counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) wrong_leaves: u64,
    pub(crate) out_of_time: u64,
    pub(crate) turns: u64,
    /// Turns that came more than 10 ms after the one before.
    pub(crate) late_turns: u64,
}

impl Tally {
    /// `flows[i]` are the packets of challenger `i`.
    pub(crate) fn new(flows: &[&[u8]]) -> Arc<Self> {
        Self::of(Size::Standard, flows)
    }

    pub(crate) fn of(size: Size, flows: &[&[u8]]) -> Arc<Self> {
        let leaves: Vec<Vec<_>> = flows
            .iter()
            .map(|f| {
                f.chunks(size.payload())
                    .map(|p| *blake3::hash(p).as_bytes())
                    .collect()
            })
            .collect();
        let unseen = |l: &Vec<_>| l.iter().map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self {
            seen: leaves.iter().map(unseen).collect(),
            leaves,
            began_ns: realtime_ns(),
            ..Self::default()
        })
    }

    pub(crate) fn counts(&self) -> Counts {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            accepted: read(&self.accepted),
            refused: read(&self.refused),
            wrong_leaves: read(&self.wrong_leaves),
            out_of_time: read(&self.out_of_time),
            turns: read(&self.turns),
            late_turns: read(&self.late_turns),
        }
    }
}

impl SessionSink for Tally {
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], arrival_ns: u64) -> bool {
        assert_eq!(header.to_bytes(), *raw);
        let seen = &self.seen[usize::from(header.index)][header.sequence as usize];
        if header.sequence % 10 == 9 || seen.swap(true, Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        if arrival_ns < self.began_ns || arrival_ns > realtime_ns() {
            self.out_of_time.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    fn accept(&self, leaves: &[Leaf]) {
        assert!(leaves.len() <= 16);
        for leaf in leaves {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            if self.leaves[usize::from(leaf.index)][leaf.sequence as usize] != leaf.digest {
                self.wrong_leaves.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn turn(&self, now_ns: u64) -> Pace {
        let last = self.last_turn_ns.swap(now_ns, Ordering::Relaxed);
        if last > 0 && now_ns.saturating_sub(last) > 10_000_000 {
            self.late_turns.fetch_add(1, Ordering::Relaxed);
        }
        self.turns.fetch_add(1, Ordering::Relaxed);
        if self.hasty.load(Ordering::Relaxed) {
            Pace::Prompt
        } else {
            Pace::Calm
        }
    }
}

/// Opens a session whose packets go to `tally`.
pub(crate) fn open(
    receiver: &Receiver,
    spec: &SessionSpec,
    tally: &Arc<Tally>,
) -> Result<SessionHandle, DatapathError> {
    let sink: Arc<dyn SessionSink> = tally.clone();
    receiver.open(spec, &sink)
}

pub(crate) fn spec(senders: &[(u16, SocketAddr)]) -> SessionSpec {
    SessionSpec {
        session: SESSION,
        size: Size::Standard,
        cap_packets: u64::MAX,
        from_tai_ns: 0,
        until_tai_ns: tai_ns() + MINUTE,
        senders: senders
            .iter()
            .map(|&(index, source)| Sender {
                index,
                cookie: COOKIE,
                source,
            })
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
    send_of(Size::Standard, socket, packets, rate_bps)
}

pub(crate) fn send_of(
    size: Size,
    socket: &UdpSocket,
    packets: &[u8],
    rate_bps: u64,
) -> FloodOutcome {
    let outcome = flood_of(size, socket, packets, rate_bps);
    assert_eq!(outcome.engine, "io_uring", "{:?}", outcome.fallback_reason);
    outcome
}

/// By whichever engine the machine has.
pub(crate) fn flood_of(
    size: Size,
    socket: &UdpSocket,
    packets: &[u8],
    rate_bps: u64,
) -> FloodOutcome {
    let stop = AtomicBool::new(false);
    let now = realtime_ns();
    let plan = FloodPlan {
        socket,
        packet_len: size.payload(),
        rate_bps,
        burst_packets: BURST_PACKETS,
        jitter: 7,
        duration_ns: MINUTE,
        start_realtime_ns: now,
        deadline_realtime_ns: now + MINUTE,
        stop: &stop,
    };
    let outcome = flood(&plan, &mut &*packets).unwrap();
    assert_eq!(outcome.ended, Ended::Exhausted);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
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
