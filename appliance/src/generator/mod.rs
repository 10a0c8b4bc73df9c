//! The packet source of a challenger: ready-made packets, in order, at a rate, counted exactly.
//!
//! ```text
//!  packets (made before T0) ──► bursts of ≤ 44 ──► due yet? ──► io_uring SEND + UDP_SEGMENT ──► kernel
//!                                   ▲  absolute schedule, clock_nanosleep        │
//!                                   └──── completion: n packets accepted, or errno ◄┘
//!  no io_uring? ──► the same bursts by sendmsg; FloodOutcome::engine says so
//! ```
//!
//! Claim: `sent` is the number of packets that the kernel accepted, no more and no less; packets go out in
//! the order of the slice, each is offered once, and the mean rate does not exceed the plan's. Not
//! promised: that an accepted packet leaves the machine (a queueing discipline may still drop it, and
//! counts that itself), or that the rate is reached when the machine has no time for it (`gaps` shows).
//! While it runs it allocates nothing, and its system calls are one send a burst and one sleep.
//! Tests: below in this folder (loopback), and `appliance/tests/datapath/` (veth, against the receiver).

mod pace;
mod plain;
mod sys;
#[cfg(test)]
mod tests;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use crate::clock::{monotonic_ns, realtime_ns};
use pace::{Pace, sleep_until};
use plain::Plain;
use sys::Uring;

/// Longest sleep or wait before the stop flag is looked at again, ns.
const ATTENTION_NS: u64 = 5_000_000;
/// Largest lateness that `gaps` tells apart, ns; more is recorded as this.
const LATEST_NS: u64 = 10_000_000_000;

/// What to send, where, how fast, and until when.
#[derive(Clone, Copy, Debug)]
pub struct FloodPlan<'a> {
    /// Bound, and connected to the prover's data port.
    pub socket: &'a UdpSocket,
    /// Whole packets (UDP payloads), back to back, in the order of their sequence numbers.
    pub packets: &'a [u8],
    /// Bytes of one packet.
    pub packet_len: usize,
    /// Rate at the IP layer, bit/s: each packet counts `(packet_len + 28) * 8` bits.
    pub rate_bps: u64,
    /// When the first packet is due, `CLOCK_REALTIME` ns. In the past means now.
    pub start_realtime_ns: u64,
    /// When to give up, `CLOCK_REALTIME` ns.
    pub deadline_realtime_ns: u64,
    /// Set by somebody else to end it: within one burst, or 5 ms while waiting.
    pub stop: &'a AtomicBool,
}

/// Why a flood ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The stop flag was set.
    Stopped,
    /// Every packet was offered.
    Exhausted,
    /// The deadline passed.
    Deadline,
}

/// What was sent.
#[derive(Clone, Debug)]
pub struct FloodOutcome {
    /// `CLOCK_REALTIME` ns just before the first packets were handed to the kernel.
    pub first_send_ns: Option<u64>,
    /// `CLOCK_REALTIME` ns just after the last accepted ones were.
    pub last_send_ns: Option<u64>,
    /// Packets that the kernel accepted.
    pub sent: u64,
    /// Packets that it did not, by `errno` (0: a send that took fewer bytes than offered).
    pub errors: Vec<(i32, u64)>,
    /// How late each burst was handed over, ns after it was due.
    pub gaps: Histogram<u64>,
    /// `io_uring` or `sendmsg`.
    pub engine: &'static str,
    /// Why `engine` is not `io_uring`, if it is not.
    pub fallback_reason: Option<String>,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a flood could not begin, or not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GeneratorError {
    /// The plan contradicts itself.
    #[error("flood plan: {key} = {value}: {allowed}")]
    Plan {
        /// Field of [`FloodPlan`].
        key: &'static str,
        /// What it holds.
        value: u64,
        /// What is allowed.
        allowed: &'static str,
    },
    /// A system call that should work did not.
    #[error("{what}: {source}")]
    Os {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// What became of a burst.
enum Sent {
    /// So many bytes were accepted.
    Bytes(usize),
    /// None were, for this reason.
    Refused(Errno),
    /// None were, because the flood is over.
    Abandoned,
}

/// Hands one burst to the kernel and waits for what it says. `over` is asked while waiting.
trait Engine {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError>;
}

/// Sends `plan.packets` until they are all offered, `stop` is set, or the deadline passes. Blocks; the
/// calling thread's timer slack is 1 ns meanwhile.
///
/// # Errors
/// A plan that cannot be, or a socket that cannot be used. Refused packets are no error: see
/// [`FloodOutcome::errors`].
pub fn flood(plan: &FloodPlan<'_>) -> Result<FloodOutcome, GeneratorError> {
    let pace = check(plan)?;
    let _slack = Slack::tight();
    let _segments = Segments::of(plan)?;
    match Uring::new(plan.socket.as_raw_fd()) {
        Ok(engine) => run(plan, pace, engine, "io_uring", None),
        Err(e) => {
            let reason = format!(
                "io_uring: {e} (kernel.io_uring_disabled, seccomp, or a kernel before 5.11)"
            );
            run(plan, pace, Plain(plan.socket), "sendmsg", Some(reason))
        }
    }
}

fn check(plan: &FloodPlan<'_>) -> Result<Pace, GeneratorError> {
    let wrong = |key, value: usize, allowed| {
        Err(GeneratorError::Plan {
            key,
            value: value as u64,
            allowed,
        })
    };
    if plan.packet_len == 0 || plan.packet_len > pace::LONGEST {
        return wrong("packet_len", plan.packet_len, "1 to 65,507 bytes");
    }
    if !plan.packets.len().is_multiple_of(plan.packet_len) {
        return wrong(
            "packets",
            plan.packets.len(),
            "a whole multiple of packet_len",
        );
    }
    if plan.rate_bps == 0 {
        return wrong("rate_bps", 0, "at least 1 bit/s");
    }
    Ok(Pace::new(
        plan.packet_len,
        plan.rate_bps,
        plan.start_realtime_ns,
        seed(plan.packets),
    ))
}

/// The end of the last packet, which is unpredictable and differs from sender to sender.
fn seed(packets: &[u8]) -> u64 {
    packets
        .last_chunk()
        .map_or(0, |end| u64::from_le_bytes(*end))
}

fn run(
    plan: &FloodPlan<'_>,
    mut pace: Pace,
    mut engine: impl Engine,
    name: &'static str,
    fallback_reason: Option<String>,
) -> Result<FloodOutcome, GeneratorError> {
    let gaps = Histogram::new_with_bounds(1, LATEST_NS, 2).map_err(|_| GeneratorError::Plan {
        key: "gaps",
        value: LATEST_NS,
        allowed: "bounds that hdrhistogram takes",
    })?;
    let mut outcome = FloodOutcome {
        first_send_ns: None,
        last_send_ns: None,
        sent: 0,
        errors: Vec::with_capacity(8),
        gaps,
        engine: name,
        fallback_reason,
        ended: Ended::Exhausted,
    };
    let deadline = pace::monotonic_of(plan.deadline_realtime_ns);
    let stopped = || plan.stop.load(Ordering::Relaxed);
    let over = || stopped() || monotonic_ns() >= deadline;
    let mut rest = plan.packets;
    while !rest.is_empty() {
        let now = monotonic_ns();
        if stopped() {
            outcome.ended = Ended::Stopped;
            break;
        }
        if now >= deadline {
            outcome.ended = Ended::Deadline;
            break;
        }
        let due = pace.send_ns();
        if now < due {
            sleep_until(due.min(now + ATTENTION_NS).min(deadline));
            continue;
        }
        let (burst, after) = rest.split_at(rest.len().min(pace.burst() * plan.packet_len));
        outcome.first_send_ns.get_or_insert_with(realtime_ns);
        match engine.send(burst, &over)? {
            // What ended it is found at the top of the loop.
            Sent::Abandoned => continue,
            sent => outcome.count(&sent, burst.len() / plan.packet_len, plan.packet_len),
        }
        outcome.gaps.saturating_record(now - due);
        pace.advance((burst.len() / plan.packet_len) as u64, now);
        rest = after;
    }
    Ok(outcome)
}

impl FloodOutcome {
    fn count(&mut self, sent: &Sent, offered: usize, packet_len: usize) {
        let (taken, errno) = match sent {
            Sent::Bytes(bytes) => (bytes / packet_len, 0),
            Sent::Refused(errno) => (0, *errno as i32),
            Sent::Abandoned => return,
        };
        if taken > 0 {
            self.sent += taken as u64;
            self.last_send_ns = Some(realtime_ns());
        }
        let lost = (offered - taken.min(offered)) as u64;
        if lost == 0 {
            return;
        }
        match self.errors.iter_mut().find(|(e, _)| *e == errno) {
            Some((_, n)) => *n += lost,
            None => self.errors.push((errno, lost)),
        }
    }
}

/// The thread's timer slack, tight while this lives: the default of 50 µs is more than two bursts.
struct Slack(Option<u64>);

impl Slack {
    fn tight() -> Self {
        let before = prctl::get_timerslack()
            .ok()
            .and_then(|ns| u64::try_from(ns).ok());
        // Without it sleeps are coarser, which `gaps` shows; no reason not to send.
        let _ = prctl::set_timerslack(1);
        Self(before)
    }
}

impl Drop for Slack {
    fn drop(&mut self) {
        if let Some(ns) = self.0 {
            let _ = prctl::set_timerslack(ns);
        }
    }
}

/// `UDP_SEGMENT` on the socket while this lives: the kernel cuts a burst into packets.
struct Segments<'a>(&'a UdpSocket);

impl<'a> Segments<'a> {
    fn of(plan: &FloodPlan<'a>) -> Result<Self, GeneratorError> {
        // At most 65,507, checked before.
        let length = i32::try_from(plan.packet_len).unwrap_or(i32::MAX);
        setsockopt(plan.socket, UdpGsoSegment, &length).map_err(|e| GeneratorError::Os {
            what: "UDP_SEGMENT on the challenger's socket (needs Linux 4.18)",
            source: e.into(),
        })?;
        Ok(Self(plan.socket))
    }
}

impl Drop for Segments<'_> {
    fn drop(&mut self) {
        let _ = setsockopt(self.0, UdpGsoSegment, &0);
    }
}
