//! Loops without packets on a wire: hashing three ways, and judging a bundle against the raw work in it.
//!
//! Sides are interleaved round by round on one core, over a few hundred frames in batches of 64: what the
//! receive thread has before it.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, bail};
use plumbline_proof::backhaul::{bundle, leaf};
use plumbline_wire::{HEADER_LEN, Size};
use serde::Serialize;

use crate::evidence;
use crate::pair::SINK_CORE;
use crate::plan::MicroPlan;
use crate::sink::pin;
use crate::stat::Spread;

/// Frames that are hashed over and over: 370 KiB at an MTU of 1500, within any L2.
const FRAMES: usize = 256;
/// Packets of a turn of the receive thread.
const BATCH: usize = 64;
/// Times that each side goes over all frames in a round: a tenth of a millisecond and more, beside which
/// reading the clock is nothing, and in which few rounds are interrupted.
const PASSES: usize = 2;

/// GB/s of one core.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Hashing {
    /// `blake3::hash` of each packet.
    pub(crate) naive: Spread,
    /// The product's sixteen lanes.
    pub(crate) lanes: Spread,
    /// `blake3::hash` of all frames as one input.
    pub(crate) long: Spread,
}

/// Seconds for one bundle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verifying {
    /// Packets that the judge makes again.
    pub(crate) packets: u64,
    /// `bundle::verify`.
    pub(crate) verify_s: Spread,
    /// The same bytes of keystream and the same leaves, and nothing else, over all cores.
    pub(crate) raw_s: Spread,
}

/// Bytes that no hash can guess.
pub(crate) fn frames(size: Size, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; size.payload() * count];
    blake3::Hasher::new_derive_key("plumbline bench frames")
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Hashes three ways.
///
/// # Errors
/// The thread cannot be pinned, or the lanes give other digests than BLAKE3.
pub(crate) fn hashing(rounds: usize) -> Result<Hashing> {
    let size = Size::Standard;
    let bytes = frames(size, FRAMES);
    let packets: Vec<&[u8]> = bytes.chunks(size.payload()).collect();
    let mut digests = vec![[0; 32]; FRAMES];
    leaf::hash(size, &packets, &mut digests);
    let same = |(p, d): (&&[u8], &[u8; 32])| blake3::hash(p).as_bytes() == d;
    if !packets.iter().zip(&digests).all(same) {
        bail!("the sixteen lanes do not give BLAKE3's digests: the product is broken here");
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(SINK_CORE)?;
            let mut sides: [Vec<f64>; 3] = Default::default();
            for _ in 0..rounds {
                sides[0].push(speed(&bytes, || naive(&packets)));
                sides[1].push(speed(&bytes, || lanes(size, &packets)));
                sides[2].push(speed(&bytes, || long(&bytes)));
            }
            let [naive, lanes, long] = sides.map(Spread::of);
            let (Some(naive), Some(lanes), Some(long)) = (naive, lanes, long) else {
                bail!("no rounds");
            };
            Ok(Hashing { naive, lanes, long })
        });
        thread
            .join()
            .unwrap_or_else(|p| std::panic::resume_unwind(p))
    })
}

fn naive(packets: &[&[u8]]) {
    for packet in packets {
        black_box(blake3::hash(black_box(packet)));
    }
}

fn lanes(size: Size, packets: &[&[u8]]) {
    let mut digests = [[0; 32]; BATCH];
    for batch in packets.chunks(BATCH) {
        leaf::hash(size, black_box(batch), &mut digests);
        black_box(&digests);
    }
}

fn long(bytes: &[u8]) {
    black_box(blake3::hash(black_box(bytes)));
}

/// GB/s at which `work` goes over `bytes`.
fn speed(bytes: &[u8], work: impl Fn()) -> f64 {
    let began = Instant::now();
    for _ in 0..PASSES {
        work();
    }
    (bytes.len() * PASSES) as f64 / began.elapsed().as_secs_f64() / 1e9
}

/// Verifies a bundle, and does the raw work in it.
///
/// # Errors
/// The bundle cannot be made, or does not verify.
pub(crate) fn verifying(plan: MicroPlan) -> Result<Verifying> {
    let (bytes, packets) = evidence::bundle(plan.verify_claim_bps)?;
    let (mut verify, mut raw) = (Vec::new(), Vec::new());
    for _ in 0..plan.verify_rounds {
        let began = Instant::now();
        if !bundle::verify(black_box(&bytes)).ok() {
            bail!("the bundle to verify does not verify");
        }
        verify.push(began.elapsed().as_secs_f64());
        let began = Instant::now();
        raw_work(packets);
        raw.push(began.elapsed().as_secs_f64());
    }
    let (Some(verify_s), Some(raw_s)) = (Spread::of(verify), Spread::of(raw)) else {
        bail!("no rounds");
    };
    Ok(Verifying {
        packets,
        verify_s,
        raw_s,
    })
}

/// Keystream and leaves of so many packets over all cores: filled in runs as long as BLAKE3 likes them,
/// hashed where they lie, no headers, no tags, nothing compared.
pub(crate) fn raw_work(packets: u64) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = packets.div_ceil(cores);
    std::thread::scope(|scope| {
        for core in 0..cores {
            scope.spawn(move || raw_share(core, share.min(packets - (core * share).min(packets))));
        }
    });
}

fn raw_share(core: u64, mut packets: u64) {
    let size = Size::Standard;
    let keystream = size.payload() - HEADER_LEN;
    let mut bytes = vec![0; size.payload() * BATCH];
    let mut digests = [[0; 32]; BATCH];
    let mut stream = blake3::Hasher::new_keyed(&[7; 32])
        .update(&core.to_le_bytes())
        .finalize_xof();
    while packets > 0 {
        let batch = usize::try_from(packets).map_or(BATCH, |p| p.min(BATCH));
        stream.fill(&mut bytes[..keystream * batch]);
        let mut refs: [&[u8]; BATCH] = [&[]; BATCH];
        for (slot, packet) in refs.iter_mut().zip(bytes.chunks(size.payload())) {
            *slot = packet;
        }
        leaf::hash(size, &refs[..batch], &mut digests);
        black_box(&digests);
        packets -= batch as u64;
    }
}
