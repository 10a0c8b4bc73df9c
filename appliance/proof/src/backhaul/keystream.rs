//! The packets of one challenger: deterministic, so that they are made a little ahead of their sending and
//! again by whoever judges, and unpredictable until the seed is revealed. And the tree that is committed to.
//!
//! ```text
//!  k_i = H(seed ‖ challenge ‖ beacon ‖ phase ‖ index)
//!  packet q = header, tag │ BLAKE3-XOF keyed by k_i, from byte q·(length − 64)
//!
//!  leaves   l₀ l₁ … l₆₃ │ l₆₄ …  l₁₂₇ │ (none) │ …           leaf = BLAKE3 of a packet
//!  bitmap      word 0        word 1      word 2   …           its words are the masks of level 0
//!                ▼             ▼
//!  level 0      G₀            G₁           –      …  G₆₃ │ …  a group: 64 packets
//!  level 1       └──── node 0 ──────────────────────┘    …    4,096       while packets arrive
//!  level 2                └────────────── node 0 ────────…    262,144     after the last one
//!  level 3                                  └── C_i           C = H(counts, C_1 … C_n)
//! ```
//!
//! Claim: prover, challenger and judge compute a commitment with the same three functions ([`node`],
//! [`climb`], [`response`]), so equal packets give equal digests. The masks name the packets: two sets of
//! them have two C_i. Not promised: anything about when. Tests: below, and `tally` holds that the
//! incremental commitment is the one from scratch.

use std::ops::Range;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use plumbline_trust::encoding::{Digest, domain, hash};
use plumbline_trust::session::SessionKey;
use plumbline_wire::Size;
use plumbline_wire::header::{HEADER_LEN, Header, Kind};

use super::leaf;
use super::messages::{ChallengeId, session_of};
use super::params::MAX_CAP_PACKETS;

/// Packets made together: one call of the 16-lane hash, and at an MTU of 1500 they stay in L1.
const BATCH: usize = leaf::LANES;

/// Children of a node, one for each bit of its mask.
pub const ARITY: usize = 64;
/// Sequence numbers of a group, the lowest node: one word of the bitmap.
pub const GROUP: usize = ARITY;
/// Level of C_i: the lowest whose one node has room for every packet that terms allow.
pub const TOP: u8 = 3;

const _: () = assert!((ARITY as u64).pow(TOP as u32 + 1) >= MAX_CAP_PACKETS);
const _: () = assert!((ARITY as u64).pow(TOP as u32) < MAX_CAP_PACKETS);

/// The key of [`domain::NODE`]: thousands of nodes are hashed, its context once.
static NODE_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(domain::NODE));

/// Everything that decides the bytes of a challenger's packets in a phase. A clone is cheap, and
/// seeking costs nothing: ranges of one train can be made by several threads.
#[derive(Clone)]
pub struct Train {
    stream: blake3::OutputReader,
    key: SessionKey,
    session: [u8; 16],
    phase: u8,
    index: u16,
    size: Size,
}

impl Train {
    /// The train of challenger `index`, of packets of the standard size.
    pub fn new(
        seed: &[u8; 32],
        challenge: &ChallengeId,
        beacon: &Digest,
        phase: u8,
        index: u16,
        key: SessionKey,
    ) -> Self {
        let stream_key = hash(
            domain::KEYSTREAM,
            &[seed, challenge, beacon, &[phase], &index.to_le_bytes()],
        );
        let stream = blake3::Hasher::new_keyed(&stream_key).finalize_xof();
        Self {
            stream,
            key,
            session: session_of(challenge),
            phase,
            index,
            size: Size::Standard,
        }
    }

    /// The same train cut into packets of another size.
    #[must_use]
    pub fn of_size(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// Writes packet `sequence` into `out`.
    ///
    /// # Panics
    /// If `out` is not exactly as long as a packet of this train: a mistake of the caller.
    pub fn write(&mut self, sequence: u64, out: &mut [u8]) {
        assert_eq!(out.len(), self.size.payload(), "one whole packet");
        let (head, body) = out.split_at_mut(HEADER_LEN);
        head.copy_from_slice(&self.header(sequence));
        self.seek(sequence);
        self.stream.fill(body);
    }

    fn seek(&mut self, sequence: u64) {
        let keystream = (self.size.payload() - HEADER_LEN) as u64;
        self.stream.set_position(sequence.saturating_mul(keystream));
    }

    /// Fills `out` with whole packets, the first of number `first`. `scratch` is kept between calls, so that
    /// only the first allocates.
    pub fn fill(&mut self, first: u64, out: &mut [u8], scratch: &mut Vec<u8>) {
        let length = self.size.payload();
        scratch.resize(BATCH * length, 0);
        let mut next = first;
        for packets in out.chunks_mut(BATCH * length) {
            let mut sequences = [0; BATCH];
            let sequences = &mut sequences[..packets.len() / length];
            for sequence in &mut *sequences {
                (*sequence, next) = (next, next.saturating_add(1));
            }
            self.pack(sequences, scratch, packets);
        }
    }

    /// Makes `count` packets back to back, with their leaves. `progress` hears how many are made.
    pub fn make(
        &mut self,
        count: usize,
        mut progress: impl FnMut(usize),
    ) -> (Vec<u8>, Vec<Digest>) {
        let length = self.size.payload();
        let mut stream = vec![0; BATCH * length];
        let mut bytes = vec![0; count * length];
        let mut leaves = vec![[0; 32]; count];
        let sequences: Vec<u64> = (0u64..).take(count).collect();
        for ((sequences, packets), leaves) in sequences
            .chunks(BATCH)
            .zip(bytes.chunks_mut(BATCH * length))
            .zip(leaves.chunks_mut(BATCH))
        {
            self.pack(sequences, &mut stream, packets);
            hash_batch(self.size, packets, leaves);
            progress(sequences.len());
        }
        (bytes, leaves)
    }

    /// The leaves of the given sequence numbers, in their order, without keeping the packets.
    /// Costs least where the numbers are consecutive.
    pub fn leaves(&mut self, sequences: &[u64]) -> Vec<Digest> {
        let length = self.size.payload();
        let mut stream = vec![0; BATCH * length];
        let mut packets = vec![0; BATCH * length];
        let mut out = vec![[0; 32]; sequences.len()];
        for (wanted, leaves) in sequences.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            let packets = &mut packets[..wanted.len() * length];
            self.pack(wanted, &mut stream, packets);
            hash_batch(self.size, packets, leaves);
        }
        out
    }

    /// The digests of those groups in `range` (from 0; a group is [`GROUP`] sequence numbers) that
    /// `bitmap` has packets of.
    pub fn groups(&mut self, bitmap: &[u8], range: Range<usize>) -> Vec<Digest> {
        let wanted: Vec<(u64, u64)> = (0u64..)
            .zip(words(bitmap))
            .skip(range.start)
            .take(range.len())
            .filter(|(_, word)| *word != 0)
            .collect();
        let sequences: Vec<u64> = wanted
            .iter()
            .flat_map(|(at, word)| bits(*word).map(move |bit| at * GROUP as u64 + u64::from(bit)))
            .collect();
        let mut leaves = self.leaves(&sequences).into_iter();
        wanted
            .iter()
            .map(|(at, word)| node(0, *at, *word, &mut leaves))
            .collect()
    }

    /// Writes the packets of `sequences` one after another into `out`. The keystream of consecutive
    /// ones is made in one piece in `stream` (as long as `out` at least) and copied from there: BLAKE3
    /// makes sixteen blocks at a time, and 22 at once leave lanes empty; the copy costs a tenth of that.
    fn pack(&mut self, sequences: &[u64], stream: &mut [u8], out: &mut [u8]) {
        let length = self.size.payload();
        let keystream = length - HEADER_LEN;
        assert_eq!(out.len(), sequences.len() * length, "whole packets");
        let mut packets = out.chunks_exact_mut(length);
        for run in sequences.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
            let stream = &mut stream[..run.len() * keystream];
            self.seek(run.first().copied().unwrap_or(0));
            self.stream.fill(stream);
            let parts = run.iter().zip(stream.chunks_exact(keystream));
            for ((sequence, part), packet) in parts.zip(&mut packets) {
                let (head, body) = packet.split_at_mut(HEADER_LEN);
                head.copy_from_slice(&self.header(*sequence));
                body.copy_from_slice(part);
            }
        }
    }

    fn header(&self, sequence: u64) -> [u8; HEADER_LEN] {
        let header = Header {
            kind: Kind::Data,
            phase: self.phase,
            session: self.session,
            index: self.index,
            sequence,
            sent_ns: 0,
            cookie: 0,
            tag: [0; 8],
        };
        let mut bytes = header.to_bytes();
        self.key.seal(&mut bytes);
        bytes
    }
}

/// The leaves of at most [`BATCH`] packets that lie one after another.
fn hash_batch(size: Size, packets: &[u8], leaves: &mut [Digest]) {
    let mut refs: [&[u8]; BATCH] = [&[]; BATCH];
    let mut used = 0;
    for (slot, packet) in refs.iter_mut().zip(packets.chunks_exact(size.payload())) {
        *slot = packet;
        used += 1;
    }
    leaf::hash(size, &refs[..used], leaves);
}

/// Sequence numbers that a bitmap holds, ascending.
pub fn sequences(bitmap: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0u64..)
        .zip(words(bitmap))
        .flat_map(|(at, word)| bits(word).map(move |bit| at * GROUP as u64 + u64::from(bit)))
}

/// A bitmap's words, one a group, the last filled up with zeros.
pub fn words(bitmap: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bitmap.chunks(8).map(|bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    })
}

/// Numbers of the bits that are set, ascending.
pub(super) fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        word &= word.wrapping_sub(1);
        (bit < u64::BITS).then_some(bit)
    })
}

/// H(level ‖ index of the node in its level ‖ mask ‖ digests of the children that its bits name, in
/// order). The children of level 0 are leaves, those of another the nodes below it that are not empty.
/// Takes one child for each bit of `mask` and no more.
pub fn node(level: u8, index: u64, mask: u64, children: impl Iterator<Item = Digest>) -> Digest {
    const HEAD: usize = 17;
    let mut bytes = [0; HEAD + 32 * ARITY];
    bytes[0] = level;
    bytes[1..9].copy_from_slice(&index.to_le_bytes());
    bytes[9..HEAD].copy_from_slice(&mask.to_le_bytes());
    let (slots, _) = bytes[HEAD..].as_chunks_mut::<32>();
    let used = mask.count_ones() as usize;
    for (slot, child) in slots[..used].iter_mut().zip(children) {
        *slot = child;
    }
    let mut hasher = blake3::Hasher::new_from_context_key(&NODE_KEY);
    hasher.update(&bytes[..HEAD + 32 * used]);
    *hasher.finalize().as_bytes()
}

/// C_i from the nodes of `level` (below [`TOP`]) that are not empty: their indices, ascending, and
/// digests. Of none at all it is the topmost node with an empty mask.
pub fn climb(level: u8, nodes: impl Iterator<Item = (u64, Digest)>) -> Digest {
    let parent = |(at, _): &(u64, Digest)| at / ARITY as u64;
    let mut nodes: Vec<(u64, Digest)> = nodes.collect();
    for level in level + 1..TOP {
        nodes = nodes
            .chunk_by(|a, b| parent(a) == parent(b))
            .filter_map(|siblings| {
                let index = parent(siblings.first()?);
                Some((index, join(level, index, siblings)))
            })
            .collect();
    }
    join(TOP, 0, &nodes)
}

/// The node over these children.
fn join(level: u8, index: u64, children: &[(u64, Digest)]) -> Digest {
    let bits = children.iter().map(|(at, _)| 1 << (at % ARITY as u64));
    let mask = bits.fold(0, |mask: u64, bit: u64| mask | bit);
    node(
        level,
        index,
        mask,
        children.iter().map(|(_, digest)| *digest),
    )
}

/// The groups of a bitmap that are not empty, their leaves looked up; `None` if one is missing.
#[cfg(test)]
pub(super) fn groups(bitmap: &[u8], leaf: impl Fn(u64) -> Option<Digest>) -> Option<Vec<Digest>> {
    let first = |at: u64| at * GROUP as u64;
    (0u64..)
        .zip(words(bitmap))
        .filter(|(_, word)| *word != 0)
        .map(|(at, word)| {
            let leaves: Option<Vec<Digest>> = bits(word)
                .map(|bit| leaf(first(at) + u64::from(bit)))
                .collect();
            Some(node(0, at, word, leaves?.into_iter()))
        })
        .collect()
}

/// C_i from the digests of the groups that are not empty, in order, and the bitmap that says which: its
/// [`words`] up to its `length` in bytes.
pub fn root(
    length: usize,
    words: impl Iterator<Item = u64>,
    groups: impl Iterator<Item = Digest>,
) -> Digest {
    let words = (0u64..).zip(words.take(length.div_ceil(8)));
    let filled = words.filter(|(_, word)| *word != 0);
    climb(0, filled.map(|(at, _)| at).zip(groups))
}

/// C = H(challenge ‖ phase ‖ counts ‖ C_1..C_n).
pub fn response(challenge: &ChallengeId, phase: u8, counts: &[u32], roots: &[Digest]) -> Digest {
    let counts: Vec<u8> = counts.iter().flat_map(|c| c.to_le_bytes()).collect();
    hash(
        domain::RESPONSE,
        &[challenge, &[phase], &counts, roots.as_flattened()],
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use plumbline_trust::session::Ephemeral;
    use plumbline_wire::header::{DATA_LEN, KEYSTREAM_LEN};

    fn train(seed: u8, index: u16) -> Train {
        let a = Ephemeral::from_secret([1; 32]);
        let key = a
            .agree(&Ephemeral::from_secret([2; 32]).public(), &[3; 32], index)
            .unwrap();
        Train::new(&[seed; 32], &[3; 32], &[4; 32], 0, index, key)
    }

    #[test]
    fn packets_are_the_same_however_they_are_made() {
        for size in Size::ALL {
            let length = size.payload();
            let mut of = train(5, 1).of_size(size);
            let (bytes, leaves) = of.make(37, |_| {});
            let mut single = vec![0; length];
            of.write(36, &mut single);
            assert_eq!(&bytes[36 * length..], &single);
            assert_eq!(leaves[36], *blake3::hash(&single).as_bytes());
            // From any number on, more and less than a batch.
            for (first, count) in [(0, 37), (5, 30), (36, 1), (20, 16), (9, 0)] {
                let (mut part, mut scratch) = (vec![0; count * length], Vec::new());
                of.fill(first as u64, &mut part, &mut scratch);
                assert_eq!(part, bytes[first * length..(first + count) * length]);
            }
            // In any order, with runs, repeats and gaps, and over more than one batch.
            let order: Vec<u64> = [36, 0, 1, 2, 2, 9].into_iter().chain(3..30).collect();
            let want: Vec<Digest> = order
                .iter()
                .map(|s| leaves[usize::try_from(*s).unwrap()])
                .collect();
            assert_eq!(of.leaves(&order), want);
        }
    }

    #[test]
    fn the_payload_is_the_keystream_of_its_place() {
        for size in Size::ALL {
            let mut of = train(5, 1).of_size(size);
            let mut packet = vec![0; size.payload()];
            of.write(7, &mut packet);
            let mut want = vec![0; size.payload() - HEADER_LEN];
            let mut stream = of.stream.clone();
            stream.set_position(7 * want.len() as u64);
            stream.fill(&mut want);
            assert_eq!(&packet[HEADER_LEN..], &want);
            let header = Header::from_bytes(packet.first_chunk().unwrap()).unwrap();
            assert_eq!((header.sequence, header.index), (7, 1));
            assert!(of.key.check(packet.first_chunk().unwrap()));
        }
    }

    #[test]
    fn another_seed_or_index_gives_other_bytes() {
        let base = train(5, 1).leaves(&[0, 1]);
        assert_ne!(base[0], base[1]);
        assert_ne!(base, train(6, 1).leaves(&[0, 1]));
        assert_ne!(base, train(5, 2).leaves(&[0, 1]));
    }

    #[test]
    fn the_payload_does_not_compress() {
        // Order-0 entropy of 37 packets' payload: within 1 % of 8 bits a byte.
        let (bytes, _) = train(5, 1).make(37, |_| {});
        let mut counts = [0u32; 256];
        for packet in bytes.chunks(DATA_LEN) {
            for b in &packet[HEADER_LEN..] {
                counts[usize::from(*b)] += 1;
            }
        }
        let total = f64::from(37 * u32::try_from(KEYSTREAM_LEN).unwrap());
        let entropy: f64 = counts
            .iter()
            .map(|c| f64::from(*c) / total)
            .filter(|p| *p > 0.0)
            .map(|p| -p * p.log2())
            .sum();
        assert!(entropy > 7.92, "{entropy}");
    }

    #[test]
    fn bitmaps_list_their_numbers() {
        let listed = |bitmap: &[u8]| sequences(bitmap).collect::<Vec<_>>();
        assert_eq!(listed(&[0b1000_0001, 0, 1]), [0, 7, 16]);
        let mut two_words = [0; 9];
        (two_words[7], two_words[8]) = (0x80, 1);
        assert_eq!(listed(&two_words), [63, 64]);
        assert_eq!(bits(u64::MAX).count(), 64);
    }

    #[test]
    fn groups_are_the_same_from_a_seed_and_from_a_table() {
        let mut of = train(5, 1);
        let (_, leaves) = of.make(200, |_| {});
        let mut bitmap = [0xff; 25];
        bitmap[8..16].fill(0);
        (bitmap[3], bitmap[24]) = (0x5a, 1);
        let look = |s: u64| leaves.get(usize::try_from(s).unwrap()).copied();
        let table = groups(&bitmap, look).unwrap();
        // Word 1 is empty and has no group.
        assert_eq!(table.len(), 3);
        assert_eq!(of.groups(&bitmap, 0..4), table);
        let parts = [of.groups(&bitmap, 0..2), of.groups(&bitmap, 2..9)];
        assert_eq!(parts.concat(), table);
        bitmap[24] = 3;
        assert!(groups(&bitmap, |s| (s < 193).then_some([0; 32])).is_none());
    }

    #[test]
    fn a_node_is_what_the_protocol_says_and_depends_on_every_part() {
        let children = [[1; 32], [2; 32]];
        let of = |level, at, mask, list: &[Digest]| node(level, at, mask, list.iter().copied());
        let flat = [
            &[2][..],
            &3u64.to_le_bytes(),
            &5u64.to_le_bytes(),
            children.as_flattened(),
        ]
        .concat();
        let base = of(2, 3, 5, &children);
        assert_eq!(base, hash(domain::NODE, &[&flat]));
        assert_ne!(of(1, 3, 5, &children), base);
        assert_ne!(of(2, 4, 5, &children), base);
        assert_ne!(of(2, 3, 6, &children), base);
        assert_ne!(of(2, 3, 5, &[[1; 32], [3; 32]]), base);
        // As many as the mask has bits.
        assert_eq!(of(2, 3, 5, &[[1; 32], [2; 32], [3; 32]]), base);
        let full: Vec<Digest> = (0..64).map(|i| [i; 32]).collect();
        let head = [&[0][..], &0u64.to_le_bytes(), &u64::MAX.to_le_bytes()].concat();
        let flat = [&head[..], full.as_flattened()].concat();
        assert_eq!(of(0, 0, u64::MAX, &full), hash(domain::NODE, &[&flat]));
    }

    /// C_i by the rule alone, from the top down: `None` for an empty node.
    fn plain(level: u8, index: u64, leaves: &BTreeMap<u64, Digest>) -> Option<Digest> {
        let packets = 64u64.pow(u32::from(level) + 1);
        let mut inside = leaves.range(index * packets..(index + 1) * packets);
        if inside.next().is_none() && level < TOP {
            return None;
        }
        let first = index * 64;
        let child = |bit| match level {
            0 => leaves.get(&(first + bit)).copied(),
            _ => plain(level - 1, first + bit, leaves),
        };
        let each: Vec<Option<Digest>> = (0..64).map(child).collect();
        let bits = (0..).zip(&each).filter(|(_, c)| c.is_some());
        let mask: u64 = bits.map(|(bit, _)| 1 << bit).sum();
        Some(node(level, index, mask, each.into_iter().flatten()))
    }

    #[test]
    fn a_root_is_the_topmost_node_of_the_rule() {
        const FOUR: u64 = 64 * 64 * 64;
        let leaf = |s: u64| *blake3::hash(&s.to_le_bytes()).as_bytes();
        let sets: [&[u64]; 7] = [
            &[],
            &[0],
            &[63, 64],
            &[4095, 4096],
            // An empty node between two at each level, and the last packet that terms allow.
            &[5, 200, 3 * 4096 + 7, 9 * 4096],
            &[FOUR - 1, FOUR, 3 * FOUR + 64 * 9],
            &[1, MAX_CAP_PACKETS - 1],
        ];
        let mut roots = Vec::new();
        for set in sets {
            let length = set.last().map_or(0, |s| s / 8 + 1);
            let mut bitmap = vec![0; usize::try_from(length).unwrap()];
            for s in set {
                bitmap[usize::try_from(s / 8).unwrap()] |= 1 << (s % 8);
            }
            let leaves: BTreeMap<u64, Digest> = set.iter().map(|s| (*s, leaf(*s))).collect();
            let groups = groups(&bitmap, |s| leaves.get(&s).copied()).unwrap();
            let made = root(bitmap.len(), words(&bitmap), groups.into_iter());
            assert_eq!(Some(made), plain(TOP, 0, &leaves), "{set:?}");
            roots.push(made);
        }
        assert_eq!(roots[0], node(TOP, 0, 0, std::iter::empty()));
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), sets.len());
    }

    #[test]
    fn climbing_from_any_level_ends_at_the_same_root() {
        let groups: Vec<(u64, Digest)> = (0..5000)
            .filter(|at| at % 3 != 0 && at / 64 % 5 != 1)
            .map(|at: u64| (at, *blake3::hash(&at.to_le_bytes()).as_bytes()))
            .collect();
        let of_one_node = groups.chunk_by(|a, b| a.0 / 64 == b.0 / 64);
        let nodes = of_one_node.map(|part| (part[0].0 / 64, join(1, part[0].0 / 64, part)));
        assert_eq!(climb(1, nodes), climb(0, groups.iter().copied()));
    }

    /// What a one-step fraud proof needs: four nodes lead from a packet's leaf to C_i.
    #[test]
    fn a_path_of_four_nodes_leads_from_a_leaf_to_the_root() {
        let leaf = |s: u64| *blake3::hash(&s.to_le_bytes()).as_bytes();
        let bitmap = vec![0xfb; 5 * 4096 / 8];
        let groups = groups(&bitmap, |s| Some(leaf(s))).unwrap();
        let root = root(bitmap.len(), words(&bitmap), groups.iter().copied());
        let sequence: u64 = 2 * 4096 + 7 * 64 + 3;
        let word = u64::from_le_bytes([0xfb; 8]);
        let group_of = |at: u64| {
            node(
                0,
                at,
                word,
                bits(word).map(|b| leaf(at * 64 + u64::from(b))),
            )
        };
        let middle_of = |at: u64| node(1, at, u64::MAX, (at * 64..at * 64 + 64).map(group_of));
        // Each step puts the digest found so far into the place that the sequence number names.
        let step = |level: u8, mask: u64, found: Digest, others: &[Digest]| {
            let index = sequence >> (6 * (u32::from(level) + 1));
            let bit = sequence >> (6 * u32::from(level)) & 63;
            let place = (mask & ((1 << bit) - 1)).count_ones() as usize;
            let mut children = others.to_vec();
            children[place] = found;
            node(level, index, mask, children.into_iter())
        };
        let (group, middle) = (sequence / 64, sequence / 4096);
        let leaves: Vec<Digest> = bits(word)
            .map(|b| leaf(group * 64 + u64::from(b)))
            .collect();
        let around: Vec<Digest> = (middle * 64..middle * 64 + 64).map(group_of).collect();
        let above: Vec<Digest> = (0..5).map(middle_of).collect();
        let climbed = |from: Digest| {
            let found = step(0, word, from, &leaves);
            let found = step(1, u64::MAX, found, &around);
            let found = step(2, 0b1_1111, found, &above);
            step(3, 1, found, &[[0; 32]])
        };
        assert_eq!(climbed(leaf(sequence)), root);
        assert_ne!(climbed(leaf(sequence + 1)), root);
    }
}
