//! The wire: what netem would do, in user space, for kernels without it.
//!
//! ```text
//!            near (veth)                                         far (veth)
//!  router ══► ring ─ read ─► [lose?] ─► queue by due time ─ send ─► ══► prover     lane "down"
//!         ◄══ ◄─ send ─ queue by due time ◄─ [lose?] ◄─ read ─ ring ◄══            lane "up"
//!             stamped by the kernel on arrival; due = stamp + delay + jitter
//! ```
//!
//! One thread a direction, inside the wire's namespace; packets are read from a memory-mapped
//! packet ring and sent in batches. **Claim:** arrived = sent + lost on purpose + overflow + kernel
//! drops + queued, exactly; delay is counted from the kernel's stamp, so a late thread does not add
//! to it unless it is later than the delay itself. **Not promised:** spacing between packets finer
//! than [`QUANTUM`]; a rate that this machine's cores cannot carry (it shows as kernel drops).
//!
//! Tests: the queue in `queue.rs`, on a simulated clock; the whole in `tests/wire.rs`.

mod checksum;
mod lane;
mod queue;
mod sys;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::plan::{Plan, Shape, WirePlan};
use crate::setup::{WIRE_FAR, WIRE_NEAR};
pub use lane::QUANTUM;
pub use sys::prefer_this_thread;

/// Packets waited for in a ring and in a queue beyond what the delay itself holds, as time at the
/// link's rate: how late the wire's thread may be on a machine whose cores are all busy.
const SLACK: Duration = Duration::from_millis(100);

/// Slots in a ring or queue at least: a burst of small packets on a slow link.
const MIN_SLOTS: u64 = 4096;

/// Slots in a kernel ring at most: 64 MiB of locked memory at MTU 1500.
const MAX_RING: u64 = 32_768;

/// Slots in a queue at most: 512 MiB at MTU 1500, touched only when used.
const MAX_QUEUE: u64 = 262_144;

/// One direction's account, in packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LaneCounters {
    /// Packets that the kernel gave to the ring, or could not.
    pub arrived: u64,
    /// Packets handed to the other side.
    pub sent: u64,
    /// Packets lost on purpose.
    pub lost: u64,
    /// Packets held back on purpose so that others overtake them; they are also sent.
    pub held: u64,
    /// Packets dropped because the queue was full, or larger than the MTU.
    pub overflow: u64,
    /// Packets dropped by the kernel because the ring was full.
    pub kernel: u64,
    /// Packets in the ring or in the queue.
    pub queued: u64,
    /// Times the far side refused a batch for the moment; nothing is lost by it.
    pub refusals: u64,
}

/// Both directions' accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WireCounters {
    /// Towards the prover.
    pub down: LaneCounters,
    /// From the prover.
    pub up: LaneCounters,
}

/// A running wire; dropping it stops it.
#[derive(Debug)]
pub struct Wire {
    down: Arc<lane::Account>,
    up: Arc<lane::Account>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Wire {
    /// Starts both directions between the two interfaces of `namespace`.
    ///
    /// # Errors
    /// The namespace cannot be entered, or its interfaces not be opened for raw packets.
    pub(crate) fn start(
        namespace: &Namespace,
        wire: &WirePlan,
        plan: &Plan,
    ) -> Result<Self, LabError> {
        let stop = Arc::new(AtomicBool::new(false));
        let up = plan.up.as_ref().unwrap_or(&plan.down);
        let ways = [
            (WIRE_NEAR, WIRE_FAR, &plan.down, wire.seed),
            (WIRE_FAR, WIRE_NEAR, up, !wire.seed),
        ];
        let mut accounts = Vec::new();
        let mut threads = Vec::new();
        for (from, to, shape, seed) in ways {
            let ring = slots(shape, plan.mtu, SLACK, MAX_RING);
            let reach = wire.delay + wire.jitter + queue::HOLD + SLACK;
            let depth = slots(shape, plan.mtu, reach, MAX_QUEUE);
            let mtu = plan.mtu;
            // Opened in the namespace, then moved to the lane's thread, which needs no namespace.
            let (tap, sender) = namespace.run("opening the wire's packet sockets", move || {
                Ok((sys::Tap::open(from, mtu, ring)?, sys::Sender::open(to)?))
            })?;
            let account = Arc::new(lane::Account::new(tap.statistics_of()));
            let queue = queue::Queue::new(&WirePlan { seed, ..*wire }, mtu, depth);
            let lane = lane::Lane::new(
                tap,
                sender,
                queue,
                wire.delay,
                Arc::clone(&account),
                Arc::clone(&stop),
            );
            let thread = std::thread::Builder::new()
                .name(format!("wire-{from}"))
                .spawn(move || lane.run());
            threads.push(thread.map_err(|source| LabError::Namespace {
                namespace: namespace.name().to_owned(),
                what: "starting the wire's thread".to_owned(),
                source,
            })?);
            accounts.push(account);
        }
        let (down, up) = (Arc::clone(&accounts[0]), Arc::clone(&accounts[1]));
        Ok(Self {
            down,
            up,
            stop,
            threads,
        })
    }

    /// Both accounts at this moment.
    #[must_use]
    pub fn counters(&self) -> WireCounters {
        WireCounters {
            down: self.down.read(),
            up: self.up.read(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A lane that failed has stopped passing packets, which its account shows.
            drop(thread.join());
        }
    }
}

/// Full-size packets that `shape` passes in `time`, as a power of two within bounds; twice as many,
/// because not every packet is of full size.
fn slots(shape: &Shape, mtu: u16, time: Duration, most: u64) -> u32 {
    let bits = u128::from(shape.ethernet_bps) * time.as_nanos() / 1_000_000_000;
    let packets = u64::try_from(2 * bits / (8 * u128::from(mtu))).unwrap_or(most);
    u32::try_from(packets.clamp(MIN_SLOTS, most).next_power_of_two().min(most)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_follows_rate_and_delay_within_bounds() {
        let gigabit = Shape::ethernet(1_000_000_000);
        assert_eq!(
            slots(&gigabit, 1500, Duration::from_millis(20), MAX_QUEUE),
            4096
        );
        assert_eq!(
            slots(&gigabit, 1500, Duration::from_millis(60), MAX_QUEUE),
            16_384
        );
        assert_eq!(
            slots(&Shape::ethernet(100_000_000_000), 1500, SLACK, MAX_RING),
            32_768
        );
    }
}
