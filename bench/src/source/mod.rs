//! Where packets come from: the product's generator, or frames made inside the kernel.
//!
//! ```text
//!   load (made ahead) ─┬─► uring   io_uring, UDP_SEGMENT, paced
//!                      ├─► af-xdp  frames around the same packets, paced
//!                      └─► live    one template and all tags, XDP live frames, as fast as it can
//! ```
//!
//! Claim: `sent` is what the kernel accepted, exactly. Not promised: that a rate was reached; how late
//! bursts left is reported with every paced row. Sources run on core 0, away from the sink's.
//! Tests: `tests/trial.rs`.

mod frame;
pub(crate) mod live;

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use plumbline::clock::realtime_ns;
use plumbline::generator::{EngineChoice, FloodOutcome, FloodPlan, flood_with};

use crate::load::Load;
use crate::pair::{INTERFACE, PORT, Pair, SINK, SOURCE, SOURCE_CORE, SOURCE_PORT};
use crate::plan::SourceKind;
use crate::sink::pin;
use live::LiveFrames;

/// Rate of a source that is not paced, bit/s: more than memory can be read at.
pub(crate) const UNPACED_BPS: u64 = 1_000_000_000_000;
/// Packets of a burst at most: what 64 KiB hold at MTU 1500. Receivers are measured here, and a challenger's
/// bursts of 8 would leave the source at three quarters of what it can.
const BURST: u64 = 44;
/// Frames of one round of the kernel's test-run loop: what the NAPI poll of a driver takes.
const LIVE_BATCH: u32 = 64;
/// Live frames that a receiver verifies in a second, about: only the length of a trial depends on it.
const LIVE_PPS: u64 = 2_000_000;

/// What a source did.
#[derive(Debug)]
pub(crate) struct Sent {
    /// Packets that the kernel accepted.
    pub(crate) sent: u64,
    /// Of those, dropped before the receiver's interface, by reason.
    pub(crate) dropped: Option<(&'static str, u64)>,
    /// Just before the first packet, `CLOCK_REALTIME` ns.
    pub(crate) first_ns: u64,
    /// Just after the last.
    pub(crate) last_ns: u64,
    /// How well the schedule was kept; only where there was one.
    pub(crate) pacing: Option<Pacing>,
}

/// How well a schedule was kept, burst by burst.
#[derive(Clone, Debug)]
pub(crate) struct Pacing {
    /// How late each burst left, ns.
    pub(crate) late: Histogram<u64>,
    /// How much the time between two bursts differed from the schedule's, ns.
    pub(crate) gap_errors: Histogram<u64>,
}

/// Sends `load` from the pair's source end, at `rate_bps` (IP layer), for `seconds` at most.
///
/// # Errors
/// The source cannot work here.
pub(crate) fn send(
    kind: SourceKind,
    pair: &Pair,
    load: &Load,
    rate_bps: Option<u64>,
    seconds: f64,
) -> Result<Sent> {
    match kind {
        SourceKind::Uring | SourceKind::AfXdp => {
            let socket = socket(pair)?;
            let stop = AtomicBool::new(false);
            // A figure of another engine would be another row's.
            let engine = match kind {
                SourceKind::AfXdp => EngineChoice::AfXdp(frame::link(pair)?),
                _ => EngineChoice::IoUring,
            };
            let flood = Flood {
                load,
                socket: &socket,
                engine: &engine,
                rate_bps,
                seconds,
            };
            sent(flood.run(pair, &stop)?, rate_bps.is_some())
        }
        SourceKind::Live => live(pair, load, packets(kind, load, seconds)),
        SourceKind::Iperf3 => bail!("iperf3 is a process of its own, not a source"),
    }
}

/// A socket from the source's port to the sink's.
///
/// # Errors
/// The port is in use.
pub(crate) fn socket(pair: &Pair) -> Result<UdpSocket> {
    pair.within(true, || {
        let socket = UdpSocket::bind((SOURCE, SOURCE_PORT))?;
        socket.connect((SINK, PORT))?;
        Ok::<_, std::io::Error>(socket)
    })?
    .context("the source's socket")
}

/// A flood of the product's generator.
pub(crate) struct Flood<'a> {
    /// Its packets.
    pub(crate) load: &'a Load,
    /// From where to where.
    pub(crate) socket: &'a UdpSocket,
    /// By which engine.
    pub(crate) engine: &'a EngineChoice,
    /// How fast, bit/s at the IP layer; as fast as it can unless given.
    pub(crate) rate_bps: Option<u64>,
    /// How long at most.
    pub(crate) seconds: f64,
}

impl Flood<'_> {
    /// Sends, on the source's core, until `stop` at the latest.
    ///
    /// # Errors
    /// The generator's.
    pub(crate) fn run(&self, pair: &Pair, stop: &AtomicBool) -> Result<FloodOutcome> {
        pair.within(true, || {
            pin(SOURCE_CORE).context("pinning the source")?;
            let now = realtime_ns();
            let plan = FloodPlan {
                socket: self.socket,
                packet_len: self.load.size.payload(),
                rate_bps: self.rate_bps.unwrap_or(UNPACED_BPS),
                burst_packets: BURST,
                jitter: 0,
                duration_ns: nanoseconds(self.seconds),
                start_realtime_ns: now,
                deadline_realtime_ns: now + nanoseconds(self.seconds),
                stop,
            };
            flood_with(&plan, &mut &self.load.packets[..], self.engine).context("the generator")
        })?
    }
}

fn sent(outcome: FloodOutcome, paced: bool) -> Result<Sent> {
    let (Some(first_ns), Some(last_ns)) = (outcome.first_send_ns, outcome.last_send_ns) else {
        bail!("the generator sent nothing: {:?}", outcome.errors);
    };
    Ok(Sent {
        sent: outcome.sent,
        dropped: None,
        first_ns,
        last_ns,
        pacing: paced.then_some(Pacing {
            late: outcome.gaps,
            gap_errors: outcome.gap_errors,
        }),
    })
}

/// Most packets that a source sends in a trial of so many seconds.
pub(crate) fn packets(kind: SourceKind, load: &Load, seconds: f64) -> usize {
    if kind != SourceKind::Live {
        return load.count();
    }
    // Live frames end with their number, not by a clock: so many that verifying them takes about that long.
    let packets = u128::from(nanoseconds(seconds)) * u128::from(LIVE_PPS) / 1_000_000_000;
    usize::try_from(packets).unwrap_or(usize::MAX).max(1)
}

fn live(pair: &Pair, load: &Load, packets: usize) -> Result<Sent> {
    let template = frame::template(&frame::link(pair)?, load)?;
    let tags = load.tags(packets);
    pair.within(true, || {
        pin(SOURCE_CORE).context("pinning the source")?;
        let mut frames =
            LiveFrames::new(INTERFACE, &template, &tags).context("XDP live frames (Linux 5.18)")?;
        let first_ns = realtime_ns();
        let sent = frames
            .run(packets as u64, LIVE_BATCH)
            .context("XDP live frames")?;
        Ok(Sent {
            sent: sent.frames,
            dropped: Some(("veth_ring_full", sent.dropped)),
            first_ns,
            last_ns: realtime_ns(),
            pacing: None,
        })
    })?
}

/// Seconds of a plan as ns. Plans are checked to be short and positive.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}
