//! One BLAKE3 digest over many small pieces, with all SIMD lanes filled to the last chunk.
//!
//! ```text
//!  pieces ─► │ segment: 16 chunks │ segment: 16 chunks │ last: 1 B … 16 chunks │
//!                  one call              one call        one call, idle lanes repeat a chunk
//!                     └────── tree ─────────┴──────────────── tree ── root
//! ```
//!
//! Claim: the digest is `blake3::Hasher::new_derive_key`'s of the same bytes. That one hashes what does
//! not fill its lanes in powers of two, one after another: fifteen chunks take four calls as long as the
//! one for sixteen. Roots of challengers are of that length, one after another, after the last packet.
//! Not promised: that it is faster for one chunk or for very long inputs. Tests: below.

use blake3::IncrementCounter;
use blake3::hazmat::{ContextKey, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::platform::Platform;
use plumbline_trust::encoding::Digest;

use super::leaf::{CHUNK_END, CHUNK_START, PARENT_FLAG, filled};

const CHUNK: usize = 1024;
/// Chunks of a segment: the widest SIMD that BLAKE3 knows (AVX-512).
const CHUNKS: usize = 16;
const SEGMENT: usize = CHUNKS * CHUNK;
/// Longest piece, bytes.
const PIECE: usize = 32;
/// Levels of the tree above segments: 2^40 of them are more bytes than fit anywhere.
const LEVELS: usize = 40;
/// Flag of everything that is hashed in `derive_key` mode, from the BLAKE3 paper, table 3.
const DERIVE_KEY_MATERIAL: u8 = 64;

/// A digest in the making.
pub(super) struct Wide<'a> {
    context: &'a ContextKey,
    key: [u32; 8],
    platform: Platform,
    /// Never empty once something is pushed, so that the root is known when it comes; with room for the
    /// piece that runs over.
    buffer: [u8; SEGMENT + PIECE],
    used: usize,
    /// Segments hashed, and the nodes above them that wait for their right neighbour.
    segments: u64,
    waiting: [Digest; LEVELS],
    height: usize,
}

impl<'a> Wide<'a> {
    /// An empty one, in the domain whose context key this is.
    pub(super) fn new(context: &'a ContextKey) -> Self {
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(context.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Self {
            context,
            key,
            platform: Platform::detect(),
            buffer: [0; SEGMENT + PIECE],
            used: 0,
            segments: 0,
            waiting: [[0; 32]; LEVELS],
            height: 0,
        }
    }

    /// Adds a piece of at most 32 bytes.
    pub(super) fn push<const N: usize>(&mut self, piece: [u8; N]) {
        const { assert!(N <= PIECE) };
        self.buffer[self.used..self.used + N].copy_from_slice(&piece);
        self.used += N;
        if self.used > SEGMENT {
            self.flush();
        }
    }

    /// Hashes a whole segment that more bytes follow.
    fn flush(&mut self) {
        let mut node = self.node(SEGMENT);
        self.buffer.copy_within(SEGMENT..self.used, 0);
        self.used -= SEGMENT;
        self.segments += 1;
        // A node is whole when the count of segments is a multiple of what is under it.
        for _ in 0..self.segments.trailing_zeros() {
            self.height -= 1;
            node = merge_subtrees_non_root(&self.waiting[self.height], &node, self.mode());
        }
        self.waiting[self.height] = node;
        self.height += 1;
    }

    fn mode(&self) -> Mode<'a> {
        Mode::DeriveKeyMaterial(self.context)
    }

    /// The digest.
    pub(super) fn finish(self) -> Digest {
        if self.segments == 0 && self.used <= 2 * CHUNK {
            let mut hasher = blake3::Hasher::new_from_context_key(self.context);
            return *hasher
                .update(&self.buffer[..self.used])
                .finalize()
                .as_bytes();
        }
        if self.segments == 0 {
            let (left, right) = self.halves(self.used);
            return *merge_subtrees_root(&left, &right, self.mode()).as_bytes();
        }
        let mut node = self.node(self.used);
        for left in self.waiting[1..self.height].iter().rev() {
            node = merge_subtrees_non_root(left, &node, self.mode());
        }
        *merge_subtrees_root(&self.waiting[0], &node, self.mode()).as_bytes()
    }

    /// The chaining value of the first `length` bytes of the buffer, as one subtree.
    fn node(&self, length: usize) -> Digest {
        if length <= CHUNK {
            return self.short(0, length);
        }
        let (left, right) = self.halves(length);
        merge_subtrees_non_root(&left, &right, self.mode())
    }

    /// The two children of the top node over the first `length` bytes of the buffer, more than a chunk.
    fn halves(&self, length: usize) -> (Digest, Digest) {
        let whole = length / CHUNK;
        let mut nodes = [[0; 32]; CHUNKS];
        self.chunks(whole, &mut nodes);
        if !length.is_multiple_of(CHUNK) {
            nodes[whole] = self.short(whole, length);
        }
        // Pairs from the left, an odd one carried up, as in `leaf`.
        let mut width = length.div_ceil(CHUNK);
        while width > 2 {
            let pairs = width / 2;
            let last = nodes[width - 1];
            self.parents(pairs, &mut nodes);
            if !width.is_multiple_of(2) {
                nodes[pairs] = last;
            }
            width = width.div_ceil(2);
        }
        (nodes[0], nodes[1])
    }

    /// The first `count` whole chunks of the buffer, in one call.
    fn chunks(&self, count: usize, nodes: &mut [Digest; CHUNKS]) {
        let (chunks, _) = self.buffer[..SEGMENT].as_chunks::<CHUNK>();
        let mut inputs = [&[0; CHUNK]; CHUNKS];
        for (input, chunk) in inputs.iter_mut().zip(chunks) {
            *input = chunk;
        }
        // What lies in the buffer after them is hashed with them and not looked at.
        let used = filled(self.platform, count);
        self.platform.hash_many(
            &inputs[..used],
            &self.key,
            self.segments * CHUNKS as u64,
            IncrementCounter::Yes,
            DERIVE_KEY_MATERIAL,
            CHUNK_START,
            CHUNK_END,
            &mut nodes.as_flattened_mut()[..used * 32],
        );
    }

    /// Replaces twice `pairs` nodes by their parents, in one call.
    fn parents(&self, pairs: usize, nodes: &mut [Digest; CHUNKS]) {
        let children = *nodes;
        let (blocks, _) = children.as_flattened().as_chunks::<64>();
        let mut inputs = [&[0; 64]; CHUNKS / 2];
        for (input, block) in inputs.iter_mut().zip(blocks) {
            *input = block;
        }
        let used = filled(self.platform, pairs).min(inputs.len());
        self.platform.hash_many(
            &inputs[..used],
            &self.key,
            0,
            IncrementCounter::No,
            PARENT_FLAG | DERIVE_KEY_MATERIAL,
            0,
            0,
            &mut nodes.as_flattened_mut()[..used * 32],
        );
    }

    /// Chunk `number` of the buffer, which ends at `length`.
    fn short(&self, number: usize, length: usize) -> Digest {
        let offset = (self.segments * CHUNKS as u64 + number as u64) * CHUNK as u64;
        let mut hasher = blake3::Hasher::new_from_context_key(self.context);
        hasher.set_input_offset(offset);
        hasher.update(&self.buffer[number * CHUNK..length]);
        hasher.finalize_non_root()
    }
}

#[cfg(test)]
mod tests {
    use super::super::leaf::tests::platforms;
    use super::*;
    use blake3::hazmat::hash_derive_key_context;

    const CONTEXT: &str = "plumbline test wide v1";

    fn check(bytes: &[u8]) {
        for platform in platforms() {
            check_on(platform, bytes);
        }
    }

    fn check_on(platform: Platform, bytes: &[u8]) {
        let context = hash_derive_key_context(CONTEXT);
        let mut wide = Wide::new(&context);
        wide.platform = platform;
        let (pieces, rest) = bytes.as_chunks::<PIECE>();
        for piece in pieces {
            wide.push(*piece);
        }
        for byte in rest {
            wide.push([*byte]);
        }
        let want = blake3::derive_key(CONTEXT, bytes);
        assert_eq!(wide.finish(), want, "{} bytes, {platform:?}", bytes.len());
    }

    #[test]
    fn equals_blake3_around_every_chunk_and_segment() {
        let mut bytes = vec![0; 9 * SEGMENT + 64];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        check(&[]);
        let ends = (0..=2 * CHUNKS + 1).map(|n| n * CHUNK);
        for end in ends.chain((3..=9).map(|n| n * SEGMENT)) {
            for length in end.saturating_sub(1)..=end + 1 {
                check(&bytes[..length]);
            }
            check(&bytes[..end + 33]);
        }
    }

    #[test]
    fn pieces_that_run_over_a_segment_are_cut_right() {
        // After 8 bytes no piece of 32 ends where a segment does.
        let context = hash_derive_key_context(CONTEXT);
        let mut wide = Wide::new(&context);
        let mut flat = vec![7; 8];
        wide.push([7; 8]);
        for i in 0..3 * SEGMENT / PIECE {
            let piece = *blake3::hash(&i.to_le_bytes()).as_bytes();
            flat.extend_from_slice(&piece);
            wide.push(piece);
        }
        assert_eq!(wide.finish(), blake3::derive_key(CONTEXT, &flat));
    }
}
