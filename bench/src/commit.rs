//! Commit latency: from the arrival of the last counted packet to the signed commitment on the wire.
//!
//! ```text
//!  flood at a share of the found maximum ─► receiver ─► tally: N-th leaf ─► C ─► signed ─► datagram out
//!                                                              │ arrival stamp ◄── latency ──┘
//! ```
//!
//! A whole phase each time, with a tally, a session and a commitment of its own; the challenger goes on
//! sending until the commitment is there, as in a measurement, so packets arrive while it is made.
//! A phase that never commits counts as [`NEVER_NS`], not as no phase.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use plumbline::config::Role;
use plumbline::datapath::{Arrived, Leaf, Pace, Receiver, SessionSink};
use plumbline::generator::EngineChoice;
use plumbline::journal::{Asked, Journal};
use plumbline::role::prover::{Sink, Steps};
use plumbline_proof::backhaul::params::DEADLINE_DURATIONS;
use plumbline_trust::{Address, NetworkKey};
use plumbline_wire::header::IP_LAYER_LEN;
use plumbline_wire::{HEADER_LEN, Header};
use serde::Serialize;

use crate::load::{CHALLENGE, INDEX, Load};
use crate::pair::{Pair, SINK, SOURCE};
use crate::plan::{CommitPlan, Units};
use crate::source::Flood;
use crate::{sink, source};

/// What a phase that never commits counts as, ns.
const NEVER_NS: u64 = 1_000_000_000;
/// Longest that a commitment may take after the flood has ended.
const PATIENCE: Duration = Duration::from_millis(200);
/// A moment between two looks.
const GLANCE: Duration = Duration::from_millis(1);

/// Latencies of all phases.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// How many phases.
    pub(crate) phases: u64,
    /// Of those, without a commitment: packets were lost.
    pub(crate) incomplete: u64,
    /// Packets of a phase.
    pub(crate) packets: u64,
    /// Rate, bit/s at the IP layer.
    pub(crate) rate_bps: u64,
    /// Median, µs.
    pub(crate) p50_us: f64,
    /// 99th percentile, µs.
    pub(crate) p99_us: f64,
    /// Largest, µs.
    pub(crate) max_us: f64,
    /// Median of its parts, µs, in their order.
    pub(crate) parts: Parts,
    /// 99th percentile of each part, µs; not of one phase, so they do not add up.
    pub(crate) worst_parts: Parts,
}

/// What a latency is made of, µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Parts {
    /// From the stamp of the last packet until its leaf is in the tally: ring, wake-up, batch, digest.
    pub(crate) leaf_us: f64,
    /// The commitment: what is left to hash.
    pub(crate) commit_us: f64,
    /// Its signature and encoding.
    pub(crate) sign_us: f64,
    /// The first datagram, through the veth into the challenger's socket.
    pub(crate) send_us: f64,
}

/// The prover's own sink, and the flag that ends the flood.
struct Committing {
    prover: Sink,
    committed: AtomicBool,
}

impl SessionSink for Committing {
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], arrival_ns: u64) -> bool {
        self.prover.admit(header, raw, arrival_ns)
    }

    fn admit_all(&self, packets: &[Arrived<'_>]) -> u64 {
        self.prover.admit_all(packets)
    }

    fn accept(&self, leaves: &[Leaf]) {
        self.prover.accept(leaves);
        if self.prover.committed().is_some() {
            self.committed.store(true, Ordering::Release);
        }
    }

    fn turn(&self, now_ns: u64) -> Pace {
        self.prover.turn(now_ns)
    }
}

/// Runs all phases at a share of `maximum_bps`.
///
/// # Errors
/// The receiver or the generator cannot work here.
pub(crate) fn run(
    plan: CommitPlan,
    maximum_bps: u64,
    load: &Load,
    mut note: impl FnMut(usize),
) -> Result<Latency> {
    let rate_bps = crate::search::to_bps(maximum_bps as f64 * plan.share);
    let phase = Phase {
        load,
        rate_bps,
        packets: (rate_bps * u64::from(plan.duration_ms) / 1000 / (8 * IP_LAYER_LEN as u64)).max(1),
        seconds: f64::from(plan.duration_ms) / 1000.0,
    };
    let pair = Pair::new(1500, Units::Packets)?;
    let receiver = sink::product::receiver(&pair)?;
    let flood_socket = source::socket(&pair)?;
    // Where commitments go; nobody reads them, and a full buffer drops the rest.
    let challenger = pair.within(true, || UdpSocket::bind((SOURCE, 0)))??;
    let to = challenger.local_addr().context("the challenger's port")?;
    let mut latencies = Histogram::<u64>::new_with_bounds(1, NEVER_NS, 3).context("histogram")?;
    let (mut incomplete, mut steps) = (0, Vec::new());
    for number in 0..plan.phases {
        note(number);
        let socket = pair.within(false, || UdpSocket::bind((SINK, 0)))??;
        let after_ns = phase.run(&pair, &receiver, &flood_socket, (socket, to))?;
        incomplete += u64::from(after_ns.is_none());
        latencies.saturating_record(after_ns.map_or(NEVER_NS, |s| s.send_ns));
        steps.extend(after_ns);
    }
    let us = |ns: u64| ns as f64 / 1000.0;
    Ok(Latency {
        phases: latencies.len(),
        incomplete,
        packets: phase.packets,
        rate_bps,
        p50_us: us(latencies.value_at_quantile(0.5)),
        p99_us: us(latencies.value_at_quantile(0.99)),
        max_us: us(latencies.max()),
        parts: parts(&steps, 50),
        worst_parts: parts(&steps, 99),
    })
}

/// A percentile of the times between the steps of each phase; 50 is the median.
fn parts(steps: &[Steps], percentile: usize) -> Parts {
    let of = |part: &dyn Fn(&Steps) -> u64| {
        let mut all: Vec<f64> = steps.iter().map(|s| part(s) as f64 / 1000.0).collect();
        all.sort_by(f64::total_cmp);
        let rank = (all.len() * percentile).div_ceil(100).saturating_sub(1);
        all.get(rank).copied().unwrap_or(0.0)
    };
    Parts {
        leaf_us: of(&|s| s.leaf_ns),
        commit_us: of(&|s| s.commit_ns.saturating_sub(s.leaf_ns)),
        sign_us: of(&|s| s.sign_ns.saturating_sub(s.commit_ns)),
        send_us: of(&|s| s.send_ns.saturating_sub(s.sign_ns)),
    }
}

struct Phase<'a> {
    load: &'a Load,
    rate_bps: u64,
    packets: u64,
    seconds: f64,
}

impl Phase<'_> {
    fn run(
        &self,
        pair: &Pair,
        receiver: &Receiver,
        flood: &UdpSocket,
        (socket, to): (UdpSocket, SocketAddr),
    ) -> Result<Option<Steps>> {
        let journal = Journal::in_memory(&Address::default())?;
        let asked = Asked {
            block: 1,
            started: 0,
        };
        let sink = Arc::new(Committing {
            prover: Sink::new(
                &journal.begin(Role::Prover, &CHALLENGE, asked)?,
                self.load.tally(self.packets),
                Arc::new(NetworkKey::from_secret(&[3; 32])),
                Arc::new(socket),
                &[(INDEX, to, self.load.key().clone())],
            ),
            committed: AtomicBool::new(false),
        });
        let spec = sink::product::session(self.load);
        let shared: Arc<dyn SessionSink> = sink.clone();
        let handle = receiver.open(&spec, &shared)?;
        let flood = Flood {
            load: self.load,
            socket: flood,
            engine: &EngineChoice::IoUring,
            rate_bps: Some(self.rate_bps),
            seconds: self.seconds * DEADLINE_DURATIONS as f64,
        };
        flood.run(pair, &sink.committed)?;
        let until = Instant::now() + PATIENCE;
        while !sink.committed.load(Ordering::Acquire) && Instant::now() < until {
            std::thread::park_timeout(GLANCE);
        }
        handle.close()?;
        Ok(sink.prover.committed().map(|c| c.steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_lies_between_the_steps() {
        let steps = [
            (10_000, 15_000, 40_000, 60_000),
            (20_000, 21_000, 22_000, 23_000),
            (12_000, 18_000, 30_000, 31_000),
        ]
        .map(|(leaf_ns, commit_ns, sign_ns, send_ns)| Steps {
            leaf_ns,
            commit_ns,
            sign_ns,
            send_ns,
        });
        let all = |p: Parts| (p.leaf_us, p.commit_us, p.sign_us, p.send_us);
        assert_eq!(all(parts(&steps, 50)), (12.0, 5.0, 12.0, 1.0));
        assert_eq!(all(parts(&steps, 99)), (20.0, 6.0, 25.0, 20.0));
        assert_eq!(parts(&[], 50), Parts::default());
    }
}
