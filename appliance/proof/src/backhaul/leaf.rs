//! Leaves: the standard BLAKE3 digest of each data packet, sixteen packets at a time.
//!
//! ```text
//!              chunk 0      chunk 1   …  the last          for all lanes at once:
//!  packet 0   │ 1024 B │  │ 1024 B │   │ 384 … 768 B │     chunk 0 (counter 0), chunk 1 (counter 1), …
//!  packet 1   │        │  │        │   │             │     then the parents, level by level:
//!     ⋮       │  SIMD lane = packet, not chunk       │       tunnel, standard   0 1 ─► root
//!  packet 15  │        │  │        │   │             │       jumbo   01 23 45 67 8 ─► … ─► root
//! ```
//!
//! A lone packet of an MTU of 1500 has two chunks and so keeps one or two of a CPU's SIMD lanes busy.
//! Packets are independent, so hashing the same chunk of sixteen of them together fills all lanes, and
//! the packets need not be next to each other in memory: only references are kept. The digests equal
//! `blake3::hash` of each packet; that is what the tests below hold, because the `platform` module of
//! the crate carries no promise of stability (its version is pinned for that reason).

use blake3::IncrementCounter;
use blake3::platform::Platform;
use plumbline_wire::Size;

/// Packets hashed in one call: the widest SIMD that BLAKE3 knows (AVX-512). Narrower CPUs take the
/// same sixteen in two or four steps.
pub const LANES: usize = 16;

/// A whole BLAKE3 chunk, bytes.
const CHUNK: usize = 1024;
/// Two chaining values, bytes.
const PARENT: usize = 64;

/// BLAKE3's initial chaining value (the SHA-256 IV), from the BLAKE3 paper, section 2.2.
const IV: [u32; 8] = [
    0x6A09_E667,
    0xBB67_AE85,
    0x3C6E_F372,
    0xA54F_F53A,
    0x510E_527F,
    0x9B05_688C,
    0x1F83_D9AB,
    0x5BE0_CD19,
];
/// Domain flags, from the BLAKE3 paper, table 3.
pub(super) const CHUNK_START: u8 = 1;
pub(super) const CHUNK_END: u8 = 2;
pub(super) const PARENT_FLAG: u8 = 4;
const ROOT: u8 = 8;

/// Chaining values of one chunk, or of one node of the tree, in every lane.
type Level = [[u8; 32]; LANES];

/// Writes the digest of `packets[i]` to `out[i]`. Allocates nothing; costs least a packet when the
/// number of packets is a multiple of [`LANES`], and never more than the next power of two of them.
///
/// # Panics
/// If `out` is shorter than `packets`, or a packet is not exactly `size.payload()` bytes long: mistakes
/// of the caller, not of its input.
pub fn hash(size: Size, packets: &[&[u8]], out: &mut [[u8; 32]]) {
    assert!(out.len() >= packets.len(), "one digest for each packet");
    let length = size.payload();
    assert!(
        packets.iter().all(|p| p.len() == length),
        "every packet has {length} bytes"
    );
    // Cached by BLAKE3 after the first call.
    let platform = Platform::detect();
    for (packets, out) in packets.chunks(LANES).zip(out.chunks_mut(LANES)) {
        match size {
            Size::Tunnel => hash_lanes::<2, { tail(Size::Tunnel) }>(platform, packets, out),
            Size::Standard => hash_lanes::<2, { tail(Size::Standard) }>(platform, packets, out),
            Size::Jumbo => hash_lanes::<9, { tail(Size::Jumbo) }>(platform, packets, out),
        }
    }
}

/// Bytes of the last chunk.
const fn tail(size: Size) -> usize {
    (size.payload() - 1) % CHUNK + 1
}

const _: () = {
    // The chunk counts above; and hashing across lanes takes whole blocks.
    assert!(Size::Tunnel.payload().div_ceil(CHUNK) == 2);
    assert!(Size::Standard.payload().div_ceil(CHUNK) == 2);
    assert!(Size::Jumbo.payload().div_ceil(CHUNK) == 9);
    assert!(tail(Size::Tunnel).is_multiple_of(64) && tail(Size::Standard).is_multiple_of(64));
    assert!(tail(Size::Jumbo).is_multiple_of(64));
};

/// Packets of `CHUNKS` chunks, the last of which has `TAIL` bytes.
fn hash_lanes<const CHUNKS: usize, const TAIL: usize>(
    platform: Platform,
    packets: &[&[u8]],
    out: &mut [[u8; 32]],
) {
    let Some(first) = packets.first() else { return };
    let used = filled(platform, packets.len());
    let mut lanes = [*first; LANES];
    lanes[..packets.len()].copy_from_slice(packets);
    let lanes = &lanes[..used];
    let mut nodes: [Level; CHUNKS] = [[[0; 32]; LANES]; CHUNKS];
    for (number, level) in nodes.iter_mut().enumerate() {
        if number + 1 < CHUNKS {
            chunk::<CHUNK>(platform, lanes, number, level);
        } else {
            chunk::<TAIL>(platform, lanes, number, level);
        }
    }
    // Pairs from the left, an odd one carried up: a left subtree is then always the largest power of
    // two of chunks that leaves something to its right, as BLAKE3 has it.
    let mut width = CHUNKS;
    while width > 1 {
        for pair in 0..width / 2 {
            let flags = if width == 2 {
                PARENT_FLAG | ROOT
            } else {
                PARENT_FLAG
            };
            let (left, right) = (&nodes[2 * pair], &nodes[2 * pair + 1]);
            nodes[pair] = parents(platform, used, left, right, flags);
        }
        if !width.is_multiple_of(2) {
            nodes[width / 2] = nodes[width - 1];
        }
        width = width.div_ceil(2);
    }
    let [top, ..] = &nodes[..] else { return };
    for (out, digest) in out.iter_mut().zip(&top[..packets.len()]) {
        *out = *digest;
    }
}

/// How many inputs to hash for `packets` of them, at most [`LANES`]. What does not fill a CPU's lanes is
/// hashed in powers of two, one after another, each of which takes as long as all lanes together:
/// fifteen as 8 + 4 + 2 + 1. So idle lanes hash a packet again, and its digest is dropped.
pub(super) fn filled(platform: Platform, packets: usize) -> usize {
    let width = platform.simd_degree();
    let (whole, rest) = (packets / width * width, packets % width);
    let rest = if rest == 0 {
        0
    } else {
        rest.next_power_of_two()
    };
    (whole + rest).min(LANES)
}

/// Chunk `number` of each packet, of `N` bytes.
fn chunk<const N: usize>(platform: Platform, packets: &[&[u8]], number: usize, level: &mut Level) {
    // The lengths were checked, so no packet takes the default.
    let mut lanes = [&[0; N]; LANES];
    for (lane, packet) in lanes.iter_mut().zip(packets) {
        *lane = packet[number * CHUNK..].first_chunk().unwrap_or(&[0; N]);
    }
    platform.hash_many(
        &lanes[..packets.len()],
        &IV,
        number as u64,
        IncrementCounter::No,
        0,
        CHUNK_START,
        CHUNK_END,
        &mut level.as_flattened_mut()[..packets.len() * 32],
    );
}

/// The parent of two nodes, in each of the first `used` lanes.
fn parents(platform: Platform, used: usize, left: &Level, right: &Level, flags: u8) -> Level {
    let mut blocks = [[0; PARENT]; LANES];
    for ((block, left), right) in blocks.iter_mut().zip(left).zip(right) {
        block[..32].copy_from_slice(left);
        block[32..].copy_from_slice(right);
    }
    let mut level = [[0; 32]; LANES];
    platform.hash_many(
        &blocks.each_ref()[..used],
        &IV,
        0,
        IncrementCounter::No,
        flags,
        0,
        0,
        &mut level.as_flattened_mut()[..used * 32],
    );
    level
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packets with bytes of a generator seeded by `seed`: every byte differs from packet to packet.
    fn packets(size: Size, seed: u64, count: usize) -> Vec<Vec<u8>> {
        (0..count as u64)
            .map(|i| {
                let mut packet = vec![0; size.payload()];
                let mut hasher = blake3::Hasher::new();
                hasher.update(&seed.to_le_bytes()).update(&i.to_le_bytes());
                hasher.finalize_xof().fill(&mut packet);
                packet
            })
            .collect()
    }

    fn check(size: Size, packets: &[Vec<u8>]) {
        let refs: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let mut out = vec![[0xa5; 32]; packets.len() + 1];
        hash(size, &refs, &mut out);
        for (i, packet) in packets.iter().enumerate() {
            let count = packets.len();
            assert_eq!(
                out[i],
                *blake3::hash(packet).as_bytes(),
                "{size:?}, {i} of {count}"
            );
        }
        let past = out[packets.len()];
        assert_eq!(past, [0xa5; 32], "nothing is written past the last packet");
    }

    #[test]
    fn every_size_and_every_count_around_the_lane_width() {
        for size in Size::ALL {
            for count in 0..=2 * LANES + 1 {
                check(size, &packets(size, 7, count));
            }
        }
    }

    /// What this CPU can of what BLAKE3 knows: one lane, four, eight, sixteen.
    pub(in crate::backhaul) fn platforms() -> Vec<Platform> {
        let mut all = vec![Platform::portable(), Platform::detect()];
        #[cfg(target_arch = "x86_64")]
        all.extend([Platform::sse41(), Platform::avx2()].into_iter().flatten());
        all
    }

    #[test]
    fn every_width_of_cpu_gives_the_same() {
        for platform in platforms() {
            for count in 1..=LANES {
                let packets = packets(Size::Jumbo, 3, count);
                let refs: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
                let mut out = [[0; 32]; LANES];
                hash_lanes::<9, { tail(Size::Jumbo) }>(platform, &refs, &mut out[..count]);
                for (packet, leaf) in packets.iter().zip(&out) {
                    assert_eq!(leaf, blake3::hash(packet).as_bytes(), "{platform:?}");
                }
            }
        }
    }

    /// Hashing of one length in lanes.
    type Lanes = fn(Platform, &[&[u8]], &mut [[u8; 32]]);

    /// BLAKE3's own test vectors: length, digest.
    const VECTORS: &str = include_str!("../../../tests/vectors/blake3.txt");

    /// Through the lanes go lengths of more than one chunk that are whole blocks, since packets are; the others
    /// are hashed as everything else is here. `conformance` finds it by its name.
    #[test]
    fn conformance_blake3s_lengths_give_its_digests() {
        let (mut wide, mut plain) = (0, 0);
        for line in VECTORS.lines() {
            let (length, digest) = line.split_once(' ').unwrap();
            let length: usize = length.parse().unwrap();
            let input: Vec<u8> = (0..length)
                .map(|i| u8::try_from(i % 251).unwrap())
                .collect();
            let expected = blake3::Hash::from_hex(digest).unwrap();
            assert_eq!(blake3::hash(&input), expected, "{length}");
            for platform in platforms() {
                let refs = [input.as_slice(); LANES];
                let mut out = [[0; 32]; LANES];
                let lanes: Lanes = match length {
                    2_048 => hash_lanes::<2, CHUNK>,
                    3_072 => hash_lanes::<3, CHUNK>,
                    4_096 => hash_lanes::<4, CHUNK>,
                    5_120 => hash_lanes::<5, CHUNK>,
                    6_144 => hash_lanes::<6, CHUNK>,
                    7_168 => hash_lanes::<7, CHUNK>,
                    8_192 => hash_lanes::<8, CHUNK>,
                    16_384 => hash_lanes::<16, CHUNK>,
                    31_744 => hash_lanes::<31, CHUNK>,
                    102_400 => hash_lanes::<100, CHUNK>,
                    _ => {
                        assert!(length <= CHUNK || !length.is_multiple_of(64), "{length}");
                        continue;
                    }
                };
                lanes(platform, &refs, &mut out);
                assert!(out.iter().all(|d| expected == *d), "{length}, {platform:?}");
            }
            if length > CHUNK && length.is_multiple_of(64) {
                wide += 1;
            } else {
                plain += 1;
            }
        }
        assert_eq!((wide, plain), (10, 25));
        println!(
            "conformance: blake3: 35 passed, of them {wide} in sixteen lanes on every width of CPU, 0 failed"
        );
    }

    #[test]
    fn idle_lanes_are_filled_to_a_power_of_two_of_the_width() {
        let of = |platform: Platform, counts: [usize; 6]| counts.map(|c| filled(platform, c));
        let portable = of(Platform::portable(), [0, 1, 3, 9, 15, 16]);
        assert_eq!(portable, [0, 1, 3, 9, 15, 16]);
        #[cfg(target_arch = "x86_64")]
        if let Some(eight) = Platform::avx2() {
            assert_eq!(of(eight, [1, 3, 7, 9, 13, 16]), [1, 4, 8, 9, 16, 16]);
        }
    }

    #[test]
    fn packets_need_not_lie_next_to_each_other() {
        let all = packets(Size::Jumbo, 1, 40);
        let refs: Vec<&[u8]> = all.iter().rev().step_by(3).map(Vec::as_slice).collect();
        let mut out = vec![[0; 32]; refs.len()];
        hash(Size::Jumbo, &refs, &mut out);
        for (packet, leaf) in refs.iter().zip(&out) {
            assert_eq!(leaf, blake3::hash(packet).as_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "one digest for each packet")]
    fn too_few_digests() {
        hash(Size::Standard, &[&[0; 1472]], &mut []);
    }

    #[test]
    #[should_panic(expected = "every packet has 1472 bytes")]
    fn another_length() {
        hash(Size::Standard, &[&[0; 1472], &[0; 1473]], &mut [[0; 32]; 2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_blake3_hash(seed: u64, size in 0usize..3, count in 0usize..70) {
            check(Size::ALL[size], &packets(Size::ALL[size], seed, count));
        }
    }
}
