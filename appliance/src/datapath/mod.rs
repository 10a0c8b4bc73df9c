//! The packet path of a prover: from the interface to a session's sink, every packet accounted for.
//!
//! ```text
//!            ┌────────────── kernel ───────────────┐   ┌──────── a pinned thread a queue ────────────┐
//!  packet ──►│ XDP program (ebpf/): consented? stamp├──►│ AF_XDP ring ─► session ─► admit ─► 16-lane  │
//!            │   no: pass or drop, counted          │   │ (UMEM, no copy)             BLAKE3 ─► accept│
//!            └──────────────────────────────────────┘   └──────────────────▲──────────────────────────┘
//!                     ▲ consent rows                          sinks │ bounded channel
//!                     └───────────── Receiver::open / SessionHandle::arm, close
//!
//!  no XDP? ──► the same sinks, fates and consent rules behind recvmmsg; PathInfo says so, and why
//! ```
//!
//! Claim: every frame that is addressed to the data port is counted under exactly one reason, or reaches
//! the sink of its session ([`Counters`] has the sum). Nobody without a session's cookie takes from what its
//! senders may send, and nothing is admitted before its start. Traffic that is not for the data port is passed
//! untouched, and the program leaves the interface when the process ends, however it ends.
//! Not promised: that a packet is authentic (the sink checks its tag), or that none is lost; losses are
//! counted. Privileges (`CAP_NET_ADMIN`, `CAP_BPF`, `CAP_NET_RAW`) are needed by [`Receiver::start`] only.
//! `CAP_PERFMON` is not needed, but without it the verifier puts speculation barriers into the program.
//! Tests: `appliance/tests/xdp.rs` (the program, in the kernel's verifier), `appliance/tests/datapath/`
//! (everything, over veth in network namespaces), and beside the code.

mod af_xdp;
mod clock;
mod counters;
mod error;
mod ladder;
pub mod program;
mod receiver;
mod source;
mod sys;
mod worker;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use plumbline_wire::{HEADER_LEN, Header, Size};

pub use crate::clock::{realtime_ns, tai_ns};
pub use crate::xsk::XskStatistics;
pub use counters::{Counters, InterfaceCounters, SocketCounters, ThreadCounters};
pub use error::DatapathError;
pub use ladder::PathInfo;
pub use plumbline_proof::backhaul::tally::Leaf;
pub use receiver::{Receiver, SessionHandle};

/// Sets the receive buffer of a plain socket, past the system's maximum if allowed; returns what it is
/// now, in bytes.
pub(crate) fn receive_buffer(socket: &UdpSocket, bytes: u32) -> Result<usize, DatapathError> {
    sys::sockopt::receive_buffer(socket, bytes)
}

/// Datagrams that found the buffer of a plain socket full, since it was made.
pub(crate) fn dropped(socket: &UdpSocket) -> Result<u64, DatapathError> {
    sys::sockopt::dropped(socket)
}

/// Which rung of the ladder to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathChoice {
    /// The best that can be had.
    #[default]
    Auto,
    /// Native XDP (zero copy if the driver can), or an error.
    Native,
    /// Generic XDP, or an error.
    Generic,
    /// A plain UDP socket.
    Socket,
    /// Native XDP through the other AF_XDP binding, to compare the two, or an error.
    #[cfg(feature = "xsk-rs")]
    XskRs,
}

/// Where and how to receive.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Interface that is measured.
    pub interface: String,
    /// Local address that the data port is reserved on.
    pub bind: IpAddr,
    /// UDP port that data packets are sent to; not 0.
    pub data_port: u16,
    /// Receive queues of the interface, from 0: a thread and an AF_XDP socket each. Those that the
    /// interface steers data packets to; what arrives on another is dropped, and counted. At least one.
    pub queues: Vec<u32>,
    /// Which rung of the ladder.
    pub path: PathChoice,
    /// Drive the queue from the receive thread instead of sleeping while sessions are open: costs a
    /// core, saves wake-ups. Takes effect with the interface's `napi_defer_hard_irqs` and
    /// `gro_flush_timeout` set, which is the host's affair.
    pub busy_poll: bool,
    /// Cores to pin the receive threads to, one after the other; with fewer than queues, round again.
    pub cores: Vec<usize>,
}

/// Who may send in a session, and until when.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Session id, as in the header of its packets.
    pub session: [u8; 16],
    /// `CLOCK_TAI` ns before which its packets are dropped (see [`tai_ns`]);
    /// [`plumbline_wire::consent::CLOSED`] until [`SessionHandle::arm`] sets it.
    pub from_tai_ns: u64,
    /// `CLOCK_TAI` ns after which they are.
    pub until_tai_ns: u64,
    /// How long its packets are.
    pub size: Size,
    /// Packets that each sender may send; what comes beyond is dropped before it costs anything.
    pub cap_packets: u64,
    /// Its senders: at least one, at most [`plumbline_wire::consent::SENDERS`], each address once.
    pub senders: Vec<Sender>,
}

/// A consented sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Challenger index that its packets must carry.
    pub index: u16,
    /// Cookie that they must carry: its session key's.
    pub cookie: u64,
    /// Where it sends from.
    pub source: SocketAddr,
}

/// A packet that came for a session, before it is hashed.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its header, parsed.
    pub header: Header,
    /// The same as it lies.
    pub raw: &'a [u8; HEADER_LEN],
    /// `CLOCK_REALTIME` ns at which it arrived.
    pub arrival_ns: u64,
}

/// Where a session's packets go. Runs inside the receive threads, one a queue, all at once: in steady
/// state none of these may allocate, lock, log or make a system call.
pub trait SessionSink: Send + Sync {
    /// Before hashing: authenticates (tag), applies the cap, refuses duplicates. `false` means refused,
    /// and counted by the sink. `arrival_ns` is `CLOCK_REALTIME`.
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], arrival_ns: u64) -> bool;

    /// The same for at most sixty-four packets, in the order of their arrival: bit i is packet i's. A sink
    /// that can authenticate several at once saves most of that.
    fn admit_all(&self, packets: &[Arrived<'_>]) -> u64 {
        let each = packets.iter().enumerate();
        each.fold(0, |bits, (i, p)| {
            bits | u64::from(self.admit(&p.header, p.raw, p.arrival_ns)) << i
        })
    }

    /// After hashing, for at most sixteen packets: each admitted packet is here once, in the order in
    /// which its queue's thread admitted it.
    fn accept(&self, leaves: &[Leaf]);

    /// At the end of each turn of a thread, and within 10 ms when nothing arrives: the sink may commit or
    /// give up. `now_ns` is `CLOCK_REALTIME`. What it returns tells the thread how soon to come back.
    fn turn(&self, now_ns: u64) -> Pace;
}

/// How a session wants its packets taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// In larger lots, a little later: fewer wake-ups, fuller lanes.
    Calm,
    /// At once: few packets are missing, and what follows the last one is timed.
    Prompt,
}
