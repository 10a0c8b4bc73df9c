//! Leaves: the standard BLAKE3 digest of each data packet, sixteen packets at a time.
//!
//! ```text
//!  packet 0   │ chunk 0: 1024 B │ chunk 1: 448 B │      three calls for all lanes:
//!  packet 1   │                 │                │        chunk 0  (counter 0)
//!     ⋮       │   SIMD lane = packet, not chunk  │        chunk 1  (counter 1)
//!  packet 15  │                 │                │        parent   (root)
//! ```
//!
//! A lone packet has two chunks and so keeps one or two of a CPU's SIMD lanes busy. Packets are
//! independent, so hashing the same chunk of sixteen of them together fills all lanes, and the
//! packets need not be next to each other in memory. The digests equal `blake3::hash` of each packet;
//! that is what the tests below hold, because the `platform` module of the crate carries no promise of
//! stability (its version is pinned for that reason).

use blake3::IncrementCounter;
use blake3::platform::Platform;
use plumbline_wire::header::DATA_LEN;

/// Packets hashed in one call: the widest SIMD that BLAKE3 knows (AVX-512). Narrower CPUs take the
/// same sixteen in two or four steps.
pub const LANES: usize = 16;

/// First chunk of a packet: a whole BLAKE3 chunk.
const CHUNK_0: usize = 1024;
/// Second chunk: the rest.
const CHUNK_1: usize = DATA_LEN - CHUNK_0;
/// Two chaining values.
const PARENT: usize = 64;

const _: () = assert!(DATA_LEN > CHUNK_0 && CHUNK_1 <= CHUNK_0 && CHUNK_1.is_multiple_of(64));

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
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT_FLAG: u8 = 4;
const ROOT: u8 = 8;

/// Writes the digest of `packets[i]` to `out[i]`. Allocates nothing; costs least a packet when the
/// number of packets is a multiple of [`LANES`].
///
/// # Panics
/// If `out` is shorter than `packets`: a mistake of the caller, not of its input.
pub fn hash(packets: &[&[u8; DATA_LEN]], out: &mut [[u8; 32]]) {
    assert!(out.len() >= packets.len(), "one digest for each packet");
    // Cached by BLAKE3 after the first call.
    let platform = Platform::detect();
    for (packets, out) in packets.chunks(LANES).zip(out.chunks_mut(LANES)) {
        hash_lanes(platform, packets, out);
    }
}

fn hash_lanes(platform: Platform, packets: &[&[u8; DATA_LEN]], out: &mut [[u8; 32]]) {
    let lanes = packets.len();
    let Some(first) = packets.first() else { return };
    // Unused lanes point at the first packet and are not passed on.
    let (start, end) = split(first);
    let mut starts = [start; LANES];
    let mut ends = [end; LANES];
    for (lane, packet) in packets.iter().enumerate() {
        (starts[lane], ends[lane]) = split(packet);
    }
    let no = || IncrementCounter::No;
    let mut left = [[0u8; 32]; LANES];
    let mut right = [[0u8; 32]; LANES];
    let each = lanes * 32;
    platform.hash_many(
        &starts[..lanes],
        &IV,
        0,
        no(),
        0,
        CHUNK_START,
        CHUNK_END,
        &mut left.as_flattened_mut()[..each],
    );
    platform.hash_many(
        &ends[..lanes],
        &IV,
        1,
        no(),
        0,
        CHUNK_START,
        CHUNK_END,
        &mut right.as_flattened_mut()[..each],
    );
    let mut parents = [[0u8; PARENT]; LANES];
    for ((parent, left), right) in parents.iter_mut().zip(&left).zip(&right) {
        parent[..32].copy_from_slice(left);
        parent[32..].copy_from_slice(right);
    }
    let parents = parents.each_ref();
    let out = &mut out[..lanes];
    platform.hash_many(
        &parents[..lanes],
        &IV,
        0,
        no(),
        PARENT_FLAG | ROOT,
        0,
        0,
        out.as_flattened_mut(),
    );
}

/// A packet's two chunks. The lengths are constants that add up, so neither default is ever taken.
fn split(packet: &[u8; DATA_LEN]) -> (&[u8; CHUNK_0], &[u8; CHUNK_1]) {
    const NONE_0: &[u8; CHUNK_0] = &[0; CHUNK_0];
    const NONE_1: &[u8; CHUNK_1] = &[0; CHUNK_1];
    (
        packet.first_chunk().unwrap_or(NONE_0),
        packet.last_chunk().unwrap_or(NONE_1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Packets with bytes of a generator seeded by `seed`: every byte differs from packet to packet.
    fn packets(seed: u64, count: usize) -> Vec<[u8; DATA_LEN]> {
        (0..count as u64)
            .map(|i| {
                let mut packet = [0; DATA_LEN];
                let mut hasher = blake3::Hasher::new();
                hasher.update(&seed.to_le_bytes()).update(&i.to_le_bytes());
                hasher.finalize_xof().fill(&mut packet);
                packet
            })
            .collect()
    }

    fn check(packets: &[[u8; DATA_LEN]]) {
        let refs: Vec<_> = packets.iter().collect();
        let mut out = vec![[0xa5; 32]; packets.len() + 1];
        hash(&refs, &mut out);
        for (i, packet) in packets.iter().enumerate() {
            assert_eq!(
                out[i],
                *blake3::hash(packet).as_bytes(),
                "packet {i} of {}",
                packets.len()
            );
        }
        assert_eq!(
            out[packets.len()],
            [0xa5; 32],
            "nothing is written past the last packet"
        );
    }

    #[test]
    fn every_count_around_the_lane_width() {
        for count in 0..=2 * LANES + 1 {
            check(&packets(7, count));
        }
    }

    #[test]
    fn packets_need_not_lie_next_to_each_other() {
        let all = packets(1, 40);
        let refs: Vec<_> = all.iter().rev().step_by(3).collect();
        let mut out = vec![[0; 32]; refs.len()];
        hash(&refs, &mut out);
        for (packet, leaf) in refs.iter().zip(&out) {
            assert_eq!(leaf, blake3::hash(*packet).as_bytes());
        }
    }

    #[test]
    #[should_panic(expected = "one digest for each packet")]
    fn too_few_digests() {
        let one = [0; DATA_LEN];
        hash(&[&one], &mut []);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn equals_blake3_hash(seed: u64, count in 0usize..70) {
            check(&packets(seed, count));
        }
    }
}
