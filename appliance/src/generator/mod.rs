//! The sender of a challenger, and of a prover in the uplink: packets in order, on a schedule, counted exactly.
//!
//! ```text
//!  supply: made already, or by a pack thread      schedule (`proof::backhaul::pace`): who may go by now
//!     └─► packets ──► due yet? sleep, then spin ──► engine ──┬► io_uring SEND + UDP_SEGMENT
//!                         ▲                                  ├► sendmsg + UDP_SEGMENT
//!     n packets accepted, or errno ◄── send log, counts ◄────┴► AF_XDP, whole frames
//!  no io_uring? ──► the same bursts by sendmsg; a card that cannot cut them? ──► packet by packet;
//!                   FloodOutcome::engine says so
//! ```
//!
//! **Guarantees.** `sent` is the number of packets that the kernel accepted, no more and no less; packets go
//! out in the order of their numbers, each is offered once, never ahead of the schedule: it begins at the
//! first send, which is stamped before. While it runs it allocates nothing, and its system calls are one send a
//! burst (two where both are due), one sleep, and one wake-up of the pack thread a chunk.
//! **Limits.** An accepted packet may not leave the machine (a queueing discipline may still drop it, and
//! counts that itself). Time for which the machine, the socket or the pack thread kept it from sending stays
//! missed beyond one burst (`FloodOutcome::missed_ns`, `starved`). A kernel that does not answer ends the
//! flood (`watchdog.rs`).
//! **Tests.** In this folder (loopback), and `appliance/tests/datapath/` (veth, against the receiver).

mod af_xdp;
mod frame;
mod outcome;
mod plain;
mod supply;
mod sys;
#[cfg(test)]
mod tests;
mod watchdog;

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

use plumbline_proof::backhaul::pace::Pace;
use plumbline_wire::header::IP_UDP_LEN;

use crate::clock::{monotonic_ns, monotonic_of, sleep_until};
use af_xdp::AfXdp;
pub use frame::{Headers, Link};
pub use outcome::{FloodOutcome, Precision};
use plain::{Each, Plain};
pub use supply::{Packer, RING_BYTES, Ready, Shape, Stream, Supply, stream};
use sys::Uring;
use watchdog::PATIENCE_NS;

/// Longest sleep or wait before the stop flag is looked at again, ns.
const ATTENTION_NS: u64 = 5_000_000;
/// A wait that is no longer than this is not slept through, ns: a sleep takes about as long to begin and to end,
/// and a burst at 10 Gbit/s is 10 µs.
const SPIN_NS: u64 = 20_000;
/// Between two looks for packets that are not made yet, ns: a tenth of a chunk at 10 Gbit/s.
const STARVED_LOOK_NS: u64 = 20_000;
/// Longest UDP payload, and so longest burst, in bytes.
const LONGEST: usize = 65_507;

/// Which way packets take into the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring, or where that is not to be had sendmsg.
    #[default]
    Auto,
    /// io_uring and `UDP_SEGMENT`, or an error.
    IoUring,
    /// One system call a burst, and `UDP_SEGMENT`.
    Sendmsg,
    /// Whole frames through an AF_XDP socket (needs CAP_NET_RAW), past the network stack: its queueing
    /// disciplines, firewall and routes do not see them. The plan's socket is not used.
    AfXdp(Link),
}

/// What to send, where, how fast, and until when.
#[derive(Clone, Copy, Debug)]
pub struct FloodPlan<'a> {
    /// Bound, and connected to the prover's data port.
    pub socket: &'a UdpSocket,
    /// Bytes of one packet's UDP payload.
    pub packet_len: usize,
    /// Rate at the IP layer, bit/s: each packet counts `(packet_len + 28) * 8` bits.
    pub rate_bps: u64,
    /// Packets of a burst at most: [`plumbline_proof::backhaul::params::BURST_PACKETS`] where a link is measured.
    pub burst_packets: u64,
    /// Moves bursts within their slots: [`plumbline_proof::backhaul::pace::jitter`].
    pub jitter: u64,
    /// D of the phase, ns: what the slots of the send log are parts of.
    pub duration_ns: u64,
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
    /// A link that frames cannot be made for, or sent by.
    #[error("AF_XDP link: {what}")]
    Link {
        /// What is wrong with it and what is needed.
        what: String,
    },
    /// The engine that was asked for is not to be had.
    #[error("{engine}: {reason}; EngineChoice::Auto takes what there is")]
    Engine {
        /// Its name.
        engine: &'static str,
        /// What is in the way.
        reason: String,
    },
    /// The kernel took a burst and did not say what became of it.
    #[error(
        "{engine}: the kernel has not said for {} s what became of a burst; {sent} packets were sent before it. Is the interface up, and does its queue drain?",
        PATIENCE_NS / 1_000_000_000
    )]
    Silent {
        /// The engine that waited.
        engine: &'static str,
        /// Packets accepted before.
        sent: u64,
    },
    /// Who makes the packets ended before all were made.
    #[error("the pack thread ended before all packets were made; {sent} were sent")]
    Lost {
        /// Packets accepted before.
        sent: u64,
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
    /// So many packets were; the others were not, for this reason.
    Some { packets: usize, errno: Errno },
    /// None were, because the flood is over.
    Abandoned,
    /// Nobody knows: the kernel did not answer.
    Silent,
}

/// Hands one burst to the kernel and waits for what it says. `over` is asked while waiting.
trait Engine {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError>;

    /// Waits until everything that `send` handed over has come back. False if it does not.
    fn finish(&mut self) -> Result<bool, GeneratorError> {
        Ok(true)
    }
}

/// Sends `packets` until they are all offered, `stop` is set, or the deadline passes. Blocks; the
/// calling thread's timer slack is 1 ns meanwhile.
///
/// # Errors
/// A plan that cannot be, or a socket that cannot be used. Refused packets are no error: see
/// [`FloodOutcome::errors`].
pub fn flood(
    plan: &FloodPlan<'_>,
    packets: &mut dyn Supply,
) -> Result<FloodOutcome, GeneratorError> {
    flood_with(plan, packets, &EngineChoice::Auto)
}

/// [`flood`] by an engine of the caller's choice.
///
/// # Errors
/// As [`flood`]; and an engine that is not to be had, unless the choice was left open.
pub fn flood_with(
    plan: &FloodPlan<'_>,
    packets: &mut dyn Supply,
    choice: &EngineChoice,
) -> Result<FloodOutcome, GeneratorError> {
    check(plan)?;
    let _slack = Slack::tight();
    if let EngineChoice::AfXdp(link) = choice {
        let mut engine = AfXdp::new(link, plan.packet_len, PATIENCE_NS)?;
        let name = engine.name();
        return run(plan, packets, &mut engine, None, (name, None));
    }
    let cut = Some(Segments::of(plan)?);
    let mut plain = Plain::new(plan.socket.as_fd(), PATIENCE_NS);
    if *choice == EngineChoice::Sendmsg {
        return run(plan, packets, &mut plain, cut, ("sendmsg", None));
    }
    match Uring::new(plan.socket.as_raw_fd(), PATIENCE_NS) {
        Ok(mut engine) => run(plan, packets, &mut engine, cut, ("io_uring", None)),
        Err(e) => {
            let reason = format!(
                "io_uring: {e} (kernel.io_uring_disabled, seccomp, or a kernel before 5.11)"
            );
            if *choice == EngineChoice::IoUring {
                return Err(GeneratorError::Engine {
                    engine: "io_uring",
                    reason,
                });
            }
            run(plan, packets, &mut plain, cut, ("sendmsg", Some(reason)))
        }
    }
}

fn check(plan: &FloodPlan<'_>) -> Result<(), GeneratorError> {
    let wrong = |key, value, allowed| {
        Err(GeneratorError::Plan {
            key,
            value,
            allowed,
        })
    };
    if plan.packet_len == 0 || plan.packet_len > LONGEST {
        return wrong("packet_len", plan.packet_len as u64, "1 to 65,507 bytes");
    }
    if plan.rate_bps == 0 {
        return wrong("rate_bps", 0, "at least 1 bit/s");
    }
    Ok(())
}

fn run(
    plan: &FloodPlan<'_>,
    packets: &mut dyn Supply,
    engine: &mut dyn Engine,
    mut cut: Option<Segments<'_>>,
    (name, fallback_reason): (&'static str, Option<String>),
) -> Result<FloodOutcome, GeneratorError> {
    let length = plan.packet_len;
    let mut each = Each::new(plan.socket.as_fd(), length, PATIENCE_NS);
    let mut alone = false;
    let packet_bits = (length + IP_UDP_LEN) as u64 * 8;
    let (rate_bps, most) = (plan.rate_bps, plan.burst_packets);
    let mut pace = Pace::with_bursts(packet_bits, rate_bps, plan.jitter, most);
    let mut outcome = FloodOutcome::new(name, fallback_reason, plan.duration_ns, pace.slot_ns())?;
    let mut previous = None;
    let start = monotonic_of(plan.start_realtime_ns);
    let deadline = monotonic_of(plan.deadline_realtime_ns);
    let stopped = || plan.stop.load(Ordering::Relaxed);
    let over = || stopped() || monotonic_ns() >= deadline;
    // The first send, which the schedule counts from.
    let mut began = None;
    // Packets whose time has come and that were not offered yet.
    let mut owed = 0;
    let mut starved = false;
    loop {
        let now = monotonic_ns();
        if stopped() {
            outcome.ended = Ended::Stopped;
            break;
        }
        if now >= deadline {
            outcome.ended = Ended::Deadline;
            break;
        }
        let due = began.map_or(start, |s: u64| s.saturating_add(pace.due_ns()));
        let is_due = owed > 0 || now >= due;
        let ready = match packets.ready() {
            Ready::Packets(ready) => ready,
            Ready::End => break,
            Ready::Lost => return Err(GeneratorError::Lost { sent: outcome.sent }),
            Ready::Later => {
                outcome.starved += u64::from(is_due && !starved);
                // What was due is missed with the rest.
                (starved, owed) = (is_due, 0);
                sleep_until(deadline.min(now + STARVED_LOOK_NS));
                continue;
            }
        };
        if !is_due {
            wait(now, due.min(now + ATTENTION_NS).min(deadline));
            continue;
        }
        starved = false;
        let began = *began.get_or_insert_with(|| outcome.begins(now));
        if owed == 0 {
            owed = usize::try_from(pace.take(now.saturating_sub(began))).unwrap_or(0);
            outcome.departed(due, now, &mut previous);
        }
        if !ready.len().is_multiple_of(length) {
            return Err(GeneratorError::Plan {
                key: "packets",
                value: ready.len() as u64,
                allowed: "a whole multiple of packet_len",
            });
        }
        let count = owed.min(ready.len() / length).min(LONGEST / length);
        let burst = &ready[..count * length];
        let mut sent = if alone {
            each.send(burst, &over)?
        } else {
            engine.send(burst, &over)?
        };
        if matches!(sent, Sent::Refused(Errno::EIO)) && cut.take().is_some() {
            alone = true;
            outcome.without_segments();
            sent = each.send(burst, &over)?;
        }
        match sent {
            // What ended it is found at the top of the loop.
            Sent::Abandoned => continue,
            Sent::Silent => return Err(outcome.silent()),
            sent => outcome.count(&sent, count, length, monotonic_ns().saturating_sub(began)),
        }
        packets.offered(count * length);
        owed -= count;
    }
    outcome.missed_ns = pace.missed_ns();
    if !engine.finish()? {
        return Err(outcome.silent());
    }
    Ok(outcome)
}

/// Towards `until`; the caller looks at the clock again.
fn wait(now: u64, until: u64) {
    if until.saturating_sub(now) > SPIN_NS {
        sleep_until(until);
    } else {
        std::hint::spin_loop();
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
