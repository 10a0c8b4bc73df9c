//! What a packet costs, stage by stage, and how many cores a real card's rate would need.
//!
//! Stages that need no kernel are loops on one core, over warm frames. Those that do are taken from rows:
//! what a row's core worked, divided by the packets. The model adds loops measured here to a receive cost
//! taken from literature, because a veth has no card; each number says which it is.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use plumbline_proof::backhaul::leaf;
use plumbline_proof::backhaul::tally::Leaf;
use plumbline_trust::session;
use plumbline_wire::{ConsentEntry, HEADER_LEN, Header, Size};
use serde::Serialize;

use crate::load::{INDEX, Load};
use crate::micro::frames;
use crate::pair::SINK_CORE;
use crate::row::Row;
use crate::sink::pin;
use crate::stat::Spread;

/// Packets that the loops go over: their headers are 64 KiB, warm like a ring's frames.
const PACKETS: usize = 1024;
/// Packets that the receive thread takes at once.
const BATCH: usize = 64;
/// Rounds of each loop; their median counts.
const ROUNDS: usize = 31;
/// Receiving a packet with a driver in zero-copy mode, busy-polled, ns: 21.4 million a second and core,
/// published for Intel's ice driver. Not measured here.
const CARD_NS: f64 = 47.0;
/// What a frame takes on a wire beyond its IP packet, bytes: Ethernet header 14, checksum 4, preamble and
/// gap 20.
const WIRE: f64 = 38.0;

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// A loop of this run.
    Loop,
    /// A row of this run: a core's work divided by packets.
    Row,
    /// Published by others.
    Literature,
}

/// What one stage costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Stage {
    /// Its name.
    pub(crate) name: &'static str,
    /// UDP payload, bytes.
    pub(crate) payload: usize,
    /// Nanoseconds a packet.
    pub(crate) ns: f64,
    /// Where the number comes from.
    pub(crate) origin: Origin,
}

/// Cores that a rate needs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Need {
    /// Rate of the wire, Gbit/s.
    pub(crate) gbps: u32,
    /// MTU, bytes.
    pub(crate) mtu: u16,
    /// Packets a second at that rate, millions.
    pub(crate) mpps: f64,
    /// Receiving, ns a packet (literature).
    pub(crate) card_ns: f64,
    /// Parsing, tag, admission, digest, leaf table, ns a packet (measured here).
    pub(crate) verify_ns: f64,
    /// Cores, all of them busy with nothing else.
    pub(crate) cores: f64,
}

/// All stages, and the model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Stages {
    /// Costs.
    pub(crate) stages: Vec<Stage>,
    /// Cores for wires that this machine does not have.
    pub(crate) model: Vec<Need>,
}

/// Measures the loops, on the sink's core.
///
/// # Errors
/// The thread cannot be pinned.
pub(crate) fn measure() -> Result<Stages> {
    let standard = Load::make(Size::Standard, PACKETS)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> Result<Stages> {
            pin(SINK_CORE)?;
            let mut stages = headers(&standard)?;
            stages.extend(admission(&standard)?);
            for size in [Size::Standard, Size::Jumbo] {
                stages.extend(digests(size)?);
            }
            let model = model(&stages);
            stages.push(Stage {
                name: "receive from a card, zero copy, busy-polled",
                payload: Size::Standard.payload(),
                ns: CARD_NS,
                origin: Origin::Literature,
            });
            Ok(Stages { stages, model })
        });
        thread
            .join()
            .unwrap_or_else(|p| std::panic::resume_unwind(p))
    })
}

impl Stages {
    /// Adds what rows say of the two ends: the kernel's work, which no loop can show.
    pub(crate) fn add_rows(&mut self, rows: &[Row]) {
        for (row, sink, source) in [
            (
                "count",
                "receiver's core, AF_XDP alone",
                "sender's core, AF_XDP alone",
            ),
            (
                "verified",
                "receiver's core, verified",
                "sender's core, verified",
            ),
            (
                "drop",
                "receiver's core, only dropped",
                "sender's core, only dropped",
            ),
        ] {
            let Some(row) = rows.iter().find(|r| r.name() == row && r.valid()) else {
                continue;
            };
            let report = row.report();
            let payload = Size::Standard.payload();
            // s/Gbit to ns/packet: Gbit of an IP packet of 1500 bytes.
            let each = Size::Standard.ip_layer() as f64 * 8.0;
            let ns = |cost: Option<f64>| cost.map(|c| c * each);
            for (name, ns) in [
                (sink, ns(report.cpu_s_per_gbit_sink)),
                (source, ns(report.cpu_s_per_gbit_source)),
            ] {
                self.stages.extend(ns.map(|ns| Stage {
                    name,
                    payload,
                    ns,
                    origin: Origin::Row,
                }));
            }
        }
    }
}

fn stage(name: &'static str, size: Size, rounds: Vec<f64>) -> Result<Stage> {
    let ns = Spread::of(rounds).context("no rounds")?.median;
    Ok(Stage {
        name,
        payload: size.payload(),
        ns,
        origin: Origin::Loop,
    })
}

/// ns for each of `count` packets that `work` goes over.
fn timed(count: usize, mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_nanos() as f64 / count as f64
}

fn raw(load: &Load) -> Vec<[u8; HEADER_LEN]> {
    let packets = load.packets.chunks(load.size.payload());
    packets.filter_map(|p| p.first_chunk().copied()).collect()
}

fn headers(load: &Load) -> Result<Vec<Stage>> {
    let raw = raw(load);
    let refs: Vec<&[u8; HEADER_LEN]> = raw.iter().collect();
    let parsed: Vec<_> = raw
        .iter()
        .filter_map(|r| Header::from_bytes(r).ok())
        .collect();
    let window = 0..=u64::MAX - 1;
    let row = ConsentEntry::new(load.key().cookie(), load.size, u64::MAX, window);
    let (mut parse, mut consent) = (Vec::new(), Vec::new());
    let (mut tag, mut tags) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        consent.push(timed(PACKETS, || {
            for (header, now_ns) in black_box(&parsed).iter().zip(1..) {
                let row = black_box(&row);
                let _said = black_box(row.admit(header, load.size.payload(), now_ns, now_ns));
            }
        }));
        parse.push(timed(PACKETS, || {
            for raw in &raw {
                let _parsed = black_box(Header::from_bytes(black_box(raw)));
            }
        }));
        tag.push(timed(PACKETS, || {
            for raw in &raw {
                black_box(load.key().check(black_box(raw)));
            }
        }));
        tags.push(timed(PACKETS, || {
            for raw in refs.chunks(session::LANES) {
                black_box(load.key().check_many(black_box(raw)));
            }
        }));
    }
    Ok(vec![
        stage("header parse", load.size, parse)?,
        stage("consent row: window, cookie, cap", load.size, consent)?,
        stage("tag check, sixteen lanes", load.size, tags)?,
        stage("tag check, one at a time", load.size, tag)?,
    ])
}

/// Admission has the tag check in it; it and the leaf table want a fresh tally each round.
fn admission(load: &Load) -> Result<Vec<Stage>> {
    let raw = raw(load);
    let parsed: Vec<_> = raw
        .iter()
        .filter_map(|r| Header::from_bytes(r).ok())
        .collect();
    let leaves: Vec<Leaf> = (0u64..)
        .take(PACKETS)
        .map(|sequence| Leaf {
            index: INDEX,
            sequence,
            arrival_ns: 1 + sequence,
            digest: [7; 32],
        })
        .collect();
    let (mut admit, mut accept) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tally = load.tally(PACKETS as u64 + 1);
        admit.push(timed(PACKETS, || {
            for (headers, raw) in parsed.chunks(BATCH).zip(raw.chunks(BATCH)) {
                black_box(tally.admit_all(black_box(headers).iter().zip(raw)));
            }
        }));
        accept.push(timed(PACKETS, || {
            for lanes in leaves.chunks(leaf::LANES) {
                tally.accept(black_box(lanes));
            }
        }));
    }
    Ok(vec![
        stage("admit (with tag check)", load.size, admit)?,
        stage("accept", load.size, accept)?,
    ])
}

fn digests(size: Size) -> Result<Vec<Stage>> {
    const FRAMES: usize = 64;
    let bytes = frames(size, FRAMES);
    let packets: Vec<&[u8]> = bytes.chunks(size.payload()).collect();
    let mut out = [[0; 32]; FRAMES];
    let (mut lanes, mut naive) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        lanes.push(timed(FRAMES, || {
            leaf::hash(size, black_box(&packets), &mut out);
            black_box(&out);
        }));
        naive.push(timed(FRAMES, || {
            for packet in &packets {
                black_box(blake3::hash(black_box(packet)));
            }
        }));
    }
    Ok(vec![
        stage("digest, sixteen lanes", size, lanes)?,
        stage("digest, one at a time", size, naive)?,
    ])
}

/// Cores for the wires of today.
fn model(stages: &[Stage]) -> Vec<Need> {
    let cost = |name: &str, payload: usize| {
        let found = stages
            .iter()
            .find(|s| s.name == name && s.payload == payload);
        found.map_or(0.0, |s| s.ns)
    };
    let standard = Size::Standard.payload();
    let common: f64 = ["header parse", "admit (with tag check)", "accept"]
        .iter()
        .map(|name| cost(name, standard))
        .sum();
    let mut needs = Vec::new();
    for (mtu, size) in [(1500u16, Size::Standard), (9000, Size::Jumbo)] {
        for gbps in [10u32, 25, 40, 100] {
            let mpps = f64::from(gbps) * 1000.0 / ((size.ip_layer() as f64 + WIRE) * 8.0);
            let verify_ns = common + cost("digest, sixteen lanes", size.payload());
            needs.push(Need {
                gbps,
                mtu,
                mpps,
                card_ns: CARD_NS,
                verify_ns,
                cores: mpps * (CARD_NS + verify_ns) / 1000.0,
            });
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_rates_are_those_of_the_wire_and_cores_follow() {
        let stages = [
            ("header parse", 3.0),
            ("admit (with tag check)", 50.0),
            ("accept", 7.0),
            ("digest, sixteen lanes", 140.0),
        ]
        .map(|(name, ns)| Stage {
            name,
            payload: 1472,
            ns,
            origin: Origin::Loop,
        });
        let needs = model(&stages);
        assert_eq!(needs.len(), 8);
        // 10 Gbit/s of 1518-byte frames are 0.8127 million a second.
        assert!((needs[0].mpps - 0.8127).abs() < 1e-3, "{}", needs[0].mpps);
        assert_eq!(needs[0].verify_ns, 200.0);
        assert!((needs[0].cores - 0.8127 * 0.247).abs() < 1e-3);
        assert!((needs[3].cores / needs[0].cores - 10.0).abs() < 1e-9);
    }

    #[test]
    fn every_stage_takes_time() {
        let measured = measure().unwrap();
        assert!(
            measured.stages.iter().all(|s| s.ns > 0.0),
            "{:?}",
            measured.stages
        );
        let mut names: Vec<_> = measured
            .stages
            .iter()
            .map(|s| (s.name, s.payload))
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), measured.stages.len(), "a stage is there once");
        for wanted in ["header parse", "admit (with tag check)", "accept"] {
            assert!(names.iter().any(|(name, _)| *name == wanted), "{wanted}");
        }
    }

    #[test]
    fn rows_that_do_not_add_up_say_nothing_about_stages() {
        let mut stages = Stages::default();
        stages.add_rows(&[
            Row::sample("count", &[8.0], 0),
            Row::sample("drop", &[9.0], 1),
        ]);
        assert_eq!(stages.stages.len(), 2);
        // 0.05 s/Gbit of the sink's core are 600 ns for 12,000 bits.
        assert!((stages.stages[0].ns - 600.0).abs() < 1e-6);
    }
}
