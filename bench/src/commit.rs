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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use plumbline::clock::realtime_ns;
use plumbline::datapath::{Leaf, Pace, Receiver, SessionSink};
use plumbline::generator::EngineChoice;
use plumbline_proof::backhaul::params::{COMMIT_BURST, DEADLINE_DURATIONS, L};
use plumbline_proof::backhaul::rtt::sealed;
use plumbline_proof::backhaul::tally::Tally;
use plumbline_trust::encoding::encode;
use plumbline_trust::{NetworkKey, Signed};
use plumbline_wire::header::Kind;
use plumbline_wire::{HEADER_LEN, Header};
use serde::Serialize;

use crate::load::{CHALLENGE, INDEX, Load};
use crate::pair::{Pair, SINK, SOURCE};
use crate::plan::{CommitPlan, Units};
use crate::source::Flood;
use crate::stat::Spread;
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

/// The prover's own order of work: the last leaf, the commitment, its signature, the datagrams.
struct Committing {
    tally: Tally,
    key: NetworkKey,
    /// Sealed beforehand: nothing in it depends on what arrives.
    head: [u8; HEADER_LEN],
    socket: UdpSocket,
    to: SocketAddr,
    /// Leaf, commitment, signature, datagram: ns after the stamp; 0 until the commitment is out.
    after_ns: [AtomicU64; 4],
    /// Ends the flood.
    committed: AtomicBool,
}

impl Committing {
    fn commit(&self) {
        let leaf_ns = realtime_ns();
        let Some((commit, _roots)) = self.tally.commit() else {
            return;
        };
        let commit_ns = realtime_ns();
        let body = encode(&Signed::new(&self.key, &commit));
        let datagram = [&self.head[..], &body].concat();
        let sign_ns = realtime_ns();
        // One of several copies lost is no loss of the commitment.
        let _lost = self.socket.send_to(&datagram, self.to);
        let out_ns = realtime_ns();
        for _ in 1..COMMIT_BURST {
            let _lost = self.socket.send_to(&datagram, self.to);
        }
        let last_ns = commit.arrivals.1;
        for (cell, ns) in self
            .after_ns
            .iter()
            .zip([leaf_ns, commit_ns, sign_ns, out_ns])
        {
            cell.store(ns.saturating_sub(last_ns).max(1), Ordering::Relaxed);
        }
        self.committed.store(true, Ordering::Release);
    }
}

impl SessionSink for Committing {
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], _arrival_ns: u64) -> bool {
        self.tally.admit(header, raw)
    }

    fn accept(&self, leaves: &[Leaf]) {
        self.tally.accept(leaves);
        if self.tally.complete() {
            self.commit();
        }
    }

    fn turn(&self, _now_ns: u64) -> Pace {
        if self.tally.urgent() {
            Pace::Prompt
        } else {
            Pace::Calm
        }
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
        packets: (rate_bps * u64::from(plan.duration_ms) / 1000 / (8 * L)).max(1),
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
        let [.., out_ns] = after_ns.unwrap_or([NEVER_NS; 4]);
        latencies.saturating_record(out_ns);
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
        parts: parts(&steps),
    })
}

/// Medians of the times between the steps of each phase.
fn parts(steps: &[[u64; 4]]) -> Parts {
    let median = |part: &dyn Fn(&[u64; 4]) -> u64| {
        let all = steps.iter().map(|s| part(s) as f64 / 1000.0).collect();
        Spread::of(all).map_or(0.0, |s| s.median)
    };
    Parts {
        leaf_us: median(&|s| s[0]),
        commit_us: median(&|s| s[1].saturating_sub(s[0])),
        sign_us: median(&|s| s[2].saturating_sub(s[1])),
        send_us: median(&|s| s[3].saturating_sub(s[2])),
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
    ) -> Result<Option<[u64; 4]>> {
        let sink = Arc::new(Committing {
            tally: self.load.tally(self.packets),
            key: NetworkKey::from_secret(&[3; 32]),
            head: sealed(Kind::Commit, &CHALLENGE, INDEX, 0, 0, self.load.key()),
            socket,
            to,
            after_ns: Default::default(),
            committed: AtomicBool::new(false),
        });
        let spec = sink::product::session(self.load.size);
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
        let after_ns = sink
            .after_ns
            .each_ref()
            .map(|ns| ns.load(Ordering::Relaxed));
        Ok(sink.committed.load(Ordering::Acquire).then_some(after_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_lies_between_the_steps() {
        let parts = parts(&[
            [10_000, 15_000, 40_000, 60_000],
            [20_000, 21_000, 22_000, 23_000],
            [12_000, 18_000, 30_000, 31_000],
        ]);
        assert_eq!(
            (parts.leaf_us, parts.commit_us, parts.sign_us, parts.send_us),
            (12.0, 5.0, 12.0, 1.0)
        );
        assert_eq!(super::parts(&[]), Parts::default());
    }
}
