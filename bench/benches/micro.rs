//! Loops of the hot path, one function each: `cargo bench -p plumbline-bench`.
//!
//! ```text
//!  header parse · classify · tag check · admit · accept · digest (one at a time, sixteen lanes, one long
//!  input; each size) · judging a bundle
//! ```
//! Absolute figures of this machine: what is promised are the ratios of `cargo xtask bench`.
#![allow(missing_docs)] // a program, not an interface

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use plumbline_proof::backhaul::messages::session_of;
use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::tally::{Leaf, Tally};
use plumbline_proof::backhaul::{bundle, leaf};
use plumbline_trust::session::{Ephemeral, SessionKey};
use plumbline_wire::header::IP_LAYER_LEN;
use plumbline_wire::{HEADER_LEN, Header, Kind, Size, classify};

/// Packets of a turn of the receive thread.
const BATCH: usize = 64;
/// UDP port of the frames.
const PORT: u16 = 47_100;
/// Challenge of all headers.
const CHALLENGE: [u8; 32] = [9; 32];
const SIZES: [Size; 3] = Size::ALL;

fn main() {
    divan::main();
}

fn key() -> SessionKey {
    let theirs = Ephemeral::from_secret([2; 32]).public();
    let agreed = Ephemeral::from_secret([1; 32]).agree(&theirs, &CHALLENGE, 0);
    agreed.unwrap_or_else(|| unreachable!("both secrets are sound"))
}

fn headers(key: &SessionKey, count: u64) -> Vec<[u8; HEADER_LEN]> {
    let header = |sequence| Header {
        kind: Kind::Data,
        phase: 0,
        session: session_of(&CHALLENGE),
        index: 0,
        sequence,
        sent_ns: 0,
        cookie: 0,
        tag: [0; 8],
    };
    let sealed = |sequence| {
        let mut raw = header(sequence).to_bytes();
        key.seal(&mut raw);
        raw
    };
    (0..count).map(sealed).collect()
}

fn payloads(size: Size) -> Vec<u8> {
    let mut bytes = vec![0; size.payload() * BATCH];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// An Ethernet frame over IPv4 around a data packet.
fn frame(size: Size) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    let mut frame = vec![0; 42];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&length(size.ip_layer()));
    frame[23] = 17;
    frame[34..36].copy_from_slice(&length(47_101));
    frame[36..38].copy_from_slice(&PORT.to_be_bytes());
    frame[38..40].copy_from_slice(&length(size.payload() + 8));
    frame.extend_from_slice(&headers(&key(), 1)[0]);
    frame.resize(42 + size.payload(), 0);
    frame
}

#[divan::bench]
fn header_parse(bencher: Bencher<'_, '_>) {
    let raw = headers(&key(), BATCH as u64);
    bencher.counter(ItemsCount::new(BATCH)).bench(|| {
        raw.iter()
            .filter(|raw| Header::from_bytes(black_box(raw)).is_ok())
            .count()
    });
}

#[divan::bench(args = SIZES)]
fn classify_frame(bencher: Bencher<'_, '_>, size: Size) {
    let frame = frame(size);
    bencher.bench(|| classify(black_box(&frame[..]), black_box(PORT)));
}

#[divan::bench]
fn tag_check(bencher: Bencher<'_, '_>) {
    let key = key();
    let raw = headers(&key, BATCH as u64);
    bencher
        .counter(ItemsCount::new(BATCH))
        .bench(|| raw.iter().filter(|raw| key.check(black_box(raw))).count());
}

fn tally() -> Tally {
    let terms = Terms::downlink((BATCH as u64 + 1) * 8 * IP_LAYER_LEN as u64, 1, 0, 1000);
    Tally::new(&CHALLENGE, 0, &terms, vec![Some(key())])
}

#[divan::bench]
fn admit(bencher: Bencher<'_, '_>) {
    let raw = headers(&key(), BATCH as u64);
    let parsed: Vec<_> = raw
        .iter()
        .filter_map(|raw| Header::from_bytes(raw).ok())
        .collect();
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(tally)
        .bench_refs(|tally| {
            parsed
                .chunks(64)
                .zip(raw.chunks(64))
                .map(|(headers, raw)| tally.admit_all(headers.iter().zip(raw)).count_ones())
                .sum::<u32>()
        });
}

#[divan::bench]
fn accept(bencher: Bencher<'_, '_>) {
    let leaf = |sequence| Leaf {
        index: 0,
        sequence,
        arrival_ns: 1 + sequence,
        digest: [7; 32],
    };
    let leaves: Vec<Leaf> = (0..BATCH as u64).map(leaf).collect();
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(tally)
        .bench_refs(|tally| {
            leaves
                .chunks(leaf::LANES)
                .for_each(|lanes| tally.accept(lanes))
        });
}

#[divan::bench(args = SIZES)]
fn digest_one_at_a_time(bencher: Bencher<'_, '_>, size: Size) {
    let bytes = payloads(size);
    bencher.counter(BytesCount::new(bytes.len())).bench(|| {
        for packet in bytes.chunks(size.payload()) {
            black_box(blake3::hash(black_box(packet)));
        }
    });
}

#[divan::bench(args = SIZES)]
fn digest_sixteen_lanes(bencher: Bencher<'_, '_>, size: Size) {
    let bytes = payloads(size);
    let packets: Vec<&[u8]> = bytes.chunks(size.payload()).collect();
    let mut out = [[0; 32]; BATCH];
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| leaf::hash(size, black_box(&packets), &mut out));
}

#[divan::bench(args = SIZES)]
fn digest_one_long_input(bencher: Bencher<'_, '_>, size: Size) {
    let bytes = payloads(size);
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench(|| blake3::hash(black_box(&bytes)));
}

#[divan::bench(sample_count = 20)]
fn judge_a_bundle(bencher: Bencher<'_, '_>) {
    let made = plumbline_bench::bundle(1_000_000_000);
    let (bytes, packets) = made.unwrap_or_else(|e| unreachable!("an honest proof: {e}"));
    let judged = usize::try_from(packets).unwrap_or(0) * Size::Standard.payload();
    bencher
        .counter(BytesCount::new(judged))
        .bench(|| bundle::verify(black_box(&bytes)).ok());
}
