//! The packet path of a prover: from the interface to a session's sink, every packet accounted for.
//!
//! ```text
//!            ┌────────────── kernel ───────────────┐   ┌───────────── one pinned thread ─────────────┐
//!  packet ──►│ XDP program (ebpf/): consented? stamp├──►│ AF_XDP ring ─► session ─► admit ─► 16-lane  │
//!            │   no: pass or drop, counted          │   │ (UMEM, no copy)             BLAKE3 ─► accept│
//!            └──────────────────────────────────────┘   └──────────────────▲──────────────────────────┘
//!                     ▲ consent rows                          sinks │ bounded channel
//!                     └───────────── Receiver::open / SessionHandle::close
//!
//!  no XDP? ──► the same sinks, fates and consent rules behind recvmmsg; PathInfo says so, and why
//! ```
//!
//! Claim: every frame that is addressed to the data port is counted under exactly one reason, or reaches
//! the sink of its session ([`Counters`] has the sum). Traffic that is not for the data port is passed
//! untouched, and the program leaves the interface when the process ends, however it ends.
//! Not promised: that a packet is authentic (the sink checks its tag), or that none is lost; losses are
//! counted. Privileges (`CAP_NET_ADMIN`, `CAP_BPF`, `CAP_NET_RAW`) are needed by [`Receiver::start`] only.
//! `CAP_PERFMON` is not needed, but without it the verifier puts speculation barriers into the program.
//! Tests: `appliance/tests/xdp.rs` (the program, in the kernel's verifier), `appliance/tests/datapath/`
//! (everything, over veth in network namespaces), and beside the code.

mod clock;
mod counters;
mod error;
mod ladder;
pub mod program;
mod receiver;
mod source;
mod sys;
mod worker;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};

use plumbline_wire::{HEADER_LEN, Header};

pub use crate::clock::{realtime_ns, tai_ns};
pub use counters::{Counters, SocketCounters, ThreadCounters, XskCounters};
pub use error::DatapathError;
pub use ladder::PathInfo;
pub use receiver::{Receiver, SessionHandle};

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
    /// Receive queue of the interface, from 0.
    pub queue: u32,
    /// Which rung of the ladder.
    pub path: PathChoice,
    /// Drive the queue from the receive thread instead of sleeping while sessions are open: costs a
    /// core, saves wake-ups. Takes effect with the interface's `napi_defer_hard_irqs` and
    /// `gro_flush_timeout` set, which is the host's affair.
    pub busy_poll: bool,
    /// Core to pin the receive thread to.
    pub core: Option<usize>,
}

/// Who may send in a session, and until when.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Session id, as in the header of its packets.
    pub session: [u8; 16],
    /// `CLOCK_TAI` ns after which its packets are dropped (see [`tai_ns`]).
    pub until_tai_ns: u64,
    /// Its senders: at least one, at most [`plumbline_wire::consent::SENDERS`], each address once.
    pub senders: Vec<Sender>,
}

/// A consented sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Challenger index that its packets must carry.
    pub index: u16,
    /// Where it sends from.
    pub source: SocketAddr,
}

/// Where a session's packets go. Runs inside the receive thread: in steady state none of these may
/// allocate, lock, log or make a system call.
pub trait SessionSink: Send + Any {
    /// Before hashing: authenticates (tag), applies the cap, refuses duplicates. `false` means refused,
    /// and counted by the sink. `arrival_ns` is `CLOCK_REALTIME`.
    fn admit(&mut self, header: &Header, raw: &[u8; HEADER_LEN], arrival_ns: u64) -> bool;

    /// After hashing: the packet's leaf. Called once for each admitted packet, in the order of admission.
    fn accept(&mut self, index: u16, sequence: u64, leaf: &[u8; 32], arrival_ns: u64);

    /// At the end of each turn of the loop, and within 10 ms when nothing arrives: the sink may commit
    /// or give up. `now_ns` is `CLOCK_REALTIME`.
    fn turn(&mut self, now_ns: u64);
}
