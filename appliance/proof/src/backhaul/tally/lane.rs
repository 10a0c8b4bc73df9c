//! One challenger's part of a tally: which of its packets were admitted, their leaves, and the nodes over
//! them that are hashed while more arrive. Several threads share it; nothing locks, and nothing allocates
//! between [`Lane::new`] and [`Lane::root`].
//!
//! ```text
//!  seen    ▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓ ▓▓░▓░░░░        admitted: claimed before hashing
//!  leaves  ▓▓▓▓▓▓▓▓ ▓▓▓▓▓░▓▓ ▓░░▓░░░░        then the leaf is stored …
//!  done    ▓▓▓▓▓▓▓▓ ▓▓▓▓▓░▓▓ ▓░░▓░░░░        … and released: what others may read
//!  groups    full     left      open         64 packets each
//!           hashed   behind
//!                    hashed     at the commitment
//!  nodes   └── 64 groups each: likewise, full or left behind ──┘ └── open ──┘
//! ```
//!
//! A group's digest is kept with the word that it was made from, a node's with its number of packets, so a
//! packet that comes after is never forgotten: it has its group hashed again at once, and its node if that
//! was left behind. A sender that leaves gaps in every group and comes back to them so costs its own packets
//! two hashes each, and not the commitment, whose time would count against the prover. The commitment
//! copies `done` and compares one number a node; it hashes the open group, the node over it, and what is
//! above nodes. Tests: `tests`, beside this file, and below.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};

use plumbline_trust::encoding::Digest;
use plumbline_trust::session::SessionKey;

use super::kept::{Kept, load, store, zeros};
use crate::backhaul::keystream::{self, ARITY, GROUP};

/// Whole groups that the lane's newest packet must leave between itself and a group with gaps before
/// that one is hashed: 64 packets. Reordering on one path is a burst's length (the product's own
/// generator sends 44 at a time) and not more; a larger lag leaves more groups to the commitment. A node is
/// left behind with its last group.
pub(super) const LAG: usize = 1;

/// One challenger's packets.
pub(super) struct Lane {
    /// Tags its headers.
    pub(super) key: SessionKey,
    /// Authentic packets; changed with `admitted`, and as it is by the one thread whose queue they come by.
    pub(super) received: AtomicU64,
    /// Packets admitted, at most m.
    pub(super) admitted: AtomicU64,
    /// Admitted packets that came after one with a higher number.
    pub(super) reordered: AtomicU64,
    /// One more than the highest number admitted.
    next: AtomicU64,
    /// Groups before this one are hashed, or somebody is at it.
    closed: AtomicUsize,
    seen: Box<[AtomicU64]>,
    leaves: Box<[[AtomicU64; 4]]>,
    /// In which slice of the duration each packet came.
    slices: Box<[AtomicU8]>,
    /// Packets whose leaves are stored, a word a group; and those of them that were committed to.
    done: Box<[AtomicU64]>,
    committed: Box<[AtomicU64]>,
    /// Digests of groups, made from a word of `done`.
    groups: Box<[Kept]>,
    /// Digests of nodes of level 1, made from so many packets; and how many were committed to.
    nodes: Box<[Kept]>,
    packets: Box<[AtomicU64]>,
    /// Set before `done` is copied for the commitment.
    sealing: AtomicBool,
}

/// A node of level 1, as its groups were when they were looked at.
struct Made {
    packets: u64,
    digest: Digest,
    /// Groups that had to be hashed for it.
    hashed: u64,
}

impl Lane {
    /// Room for `cap` packets. All memory is touched here: later no page is missing.
    pub(super) fn new(key: SessionKey, cap: usize) -> Self {
        let groups = cap.div_ceil(GROUP);
        let nodes = groups.div_ceil(ARITY);
        Self {
            key,
            received: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            reordered: AtomicU64::new(0),
            next: AtomicU64::new(0),
            closed: AtomicUsize::new(0),
            seen: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            leaves: (0..cap).map(|_| zeros()).collect(),
            slices: (0..cap).map(|_| AtomicU8::new(0)).collect(),
            done: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            committed: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            groups: (0..groups).map(|_| Kept::new()).collect(),
            nodes: (0..nodes).map(|_| Kept::new()).collect(),
            packets: (0..nodes).map(|_| AtomicU64::new(0)).collect(),
            sealing: AtomicBool::new(false),
        }
    }

    /// The place of a sequence number, if it is below the cap.
    pub(super) fn place(&self, sequence: u64) -> Option<usize> {
        let at = usize::try_from(sequence).ok()?;
        (at < self.leaves.len()).then_some(at)
    }

    /// True if this packet was admitted before.
    pub(super) fn seen(&self, at: usize) -> bool {
        self.seen
            .get(at / GROUP)
            .is_some_and(|word| word.load(Relaxed) & bit(at) != 0)
    }

    /// Claims a packet: true for one caller only.
    pub(super) fn claim(&self, at: usize) -> bool {
        self.seen
            .get(at / GROUP)
            .is_some_and(|word| word.fetch_or(bit(at), Relaxed) & bit(at) == 0)
    }

    /// Gives a claim back: the packet is not counted after all.
    pub(super) fn unclaim(&self, at: usize) {
        if let Some(word) = self.seen.get(at / GROUP) {
            word.fetch_and(!bit(at), Relaxed);
        }
    }

    /// Notes the order in which packets were admitted.
    pub(super) fn note(&self, sequence: u64) {
        if self.next.fetch_max(sequence + 1, Relaxed) > sequence {
            self.reordered.fetch_add(1, Relaxed);
        }
    }

    /// Takes the leaf of a claimed packet; false if it was there already. Hashes the group and the node
    /// that it completes or comes back to, and those that it leaves behind by more than `lag` whole groups.
    pub(super) fn store(&self, sequence: u64, leaf: &Digest, slice: u8, lag: usize) -> bool {
        let Some(at) = self.place(sequence) else {
            return false;
        };
        let group = at / GROUP;
        let (Some(slot), Some(slices), Some(done)) = (
            self.leaves.get(at),
            self.slices.get(at),
            self.done.get(group),
        ) else {
            return false;
        };
        store(slot, leaf);
        slices.store(slice, Relaxed);
        // Releases this leaf; acquires those of other threads, whose group this one may complete.
        let before = done.fetch_or(bit(at), AcqRel);
        if before & bit(at) != 0 {
            return false;
        }
        let full = before | bit(at) == u64::MAX;
        let closed = self.closed.load(Relaxed);
        if full || group < closed {
            self.keep_group(group);
        }
        let node = group / ARITY;
        if after(node) <= closed || full && self.full(node) {
            self.keep_node(node, |group| self.done_of(group));
        }
        let behind = group.saturating_sub(lag);
        if closed < behind {
            self.close(behind);
        }
        true
    }

    /// Hashes the groups before `behind`, and the nodes that end before it, that are not empty and not
    /// hashed. Each is visited once in a session, by whichever thread comes first.
    fn close(&self, behind: usize) {
        let from = self.closed.fetch_max(behind, Relaxed);
        for group in from..behind {
            let word = self.done_of(group);
            if word != 0 && self.kept_group(group, word).is_none() {
                self.keep_group(group);
            }
            if group + 1 == after(group / ARITY) {
                self.close_node(group / ARITY);
            }
        }
    }

    fn close_node(&self, node: usize) {
        let words = self.done.iter().skip(node * ARITY).take(ARITY);
        let packets = words.map(|w| u64::from(w.load(Relaxed).count_ones())).sum();
        let kept = self.nodes.get(node).and_then(|n| n.kept(packets));
        if packets != 0 && kept.is_none() {
            self.keep_node(node, |group| self.done_of(group));
        }
    }

    /// True if every packet of a node is stored. From the end: there a sender in order is not.
    fn full(&self, node: usize) -> bool {
        (node * ARITY..after(node))
            .rev()
            .all(|group| self.done_of(group) == u64::MAX)
    }

    /// Packets of a group that are stored, and whose leaves can be read.
    fn done_of(&self, group: usize) -> u64 {
        self.done.get(group).map_or(0, |word| word.load(Acquire))
    }

    fn keep_group(&self, group: usize) {
        if let Some(place) = self.groups.get(group) {
            place.keep(|| {
                let word = self.done_of(group);
                Some((word, self.digest(group, word)))
            });
        }
    }

    fn kept_group(&self, group: usize, word: u64) -> Option<Digest> {
        self.groups.get(group)?.kept(word)
    }

    /// Keeps a node over the words that `word_of` reads from `done`: [`Lane::done_of`], or a test that
    /// comes in between.
    fn keep_node(&self, node: usize, word_of: impl Fn(usize) -> u64) {
        let Some(place) = self.nodes.get(node) else {
            return;
        };
        place.keep(|| {
            let made = self.node(node, word_of);
            // Equal numbers mean equal packets only if every word was read before the commitment copied
            // it: one word read earlier than its copy and one later can miss a packet and have one too
            // many. The fence is the other half of that in `seal`: where it finds no seal begun, no word
            // above is newer than its copy.
            fence(SeqCst);
            let in_time = !self.sealing.load(Relaxed);
            in_time.then_some((made.packets, made.digest))
        });
    }

    /// The node of level 1 over these words: from the kept digests of its groups that were made from them,
    /// and the leaves of the others.
    fn node(&self, node: usize, word_of: impl Fn(usize) -> u64) -> Made {
        let first = node * ARITY;
        let words: [u64; ARITY] = std::array::from_fn(|i| word_of(first + i));
        let mut made = Made {
            packets: 0,
            digest: [0; 32],
            hashed: 0,
        };
        let mut mask = 0;
        let mut digests = [[0; 32]; ARITY];
        let mut slots = digests.iter_mut();
        for (i, word) in words.into_iter().enumerate().filter(|(_, word)| *word != 0) {
            made.packets += u64::from(word.count_ones());
            mask |= bit(i);
            let digest = self.kept_group(first + i, word).unwrap_or_else(|| {
                made.hashed += 1;
                self.digest(first + i, word)
            });
            if let Some(slot) = slots.next() {
                *slot = digest;
            }
        }
        made.digest = keystream::node(1, node as u64, mask, digests.into_iter());
        made
    }

    /// The digest of a group from its leaves, all of which are released.
    fn digest(&self, group: usize, word: u64) -> Digest {
        let first = group * GROUP;
        let leaves = keystream::bits(word).map(|bit| {
            let leaf = self.leaves.get(first + bit as usize);
            leaf.map_or([0; 32], load)
        });
        keystream::node(0, group as u64, word, leaves)
    }

    /// Takes down what is done now; returns how many packets that is. Once, by the thread that commits.
    pub(super) fn seal(&self) -> u32 {
        self.sealing.store(true, Relaxed);
        // Pairs with the one in `keep_node`. It orders the loads of `next` and `done` behind the flag.
        fence(SeqCst);
        let next = usize::try_from(self.next.load(Relaxed)).unwrap_or(usize::MAX);
        let used = next.div_ceil(GROUP);
        let mut count = 0;
        let nodes = self.done.chunks(ARITY).zip(self.committed.chunks(ARITY));
        for ((done, committed), packets) in nodes.zip(&self.packets).take(used.div_ceil(ARITY)) {
            let mut of_node = 0;
            for (done, committed) in done.iter().zip(committed) {
                let word = done.load(Acquire);
                committed.store(word, Relaxed);
                of_node += word.count_ones();
            }
            packets.store(of_node.into(), Relaxed);
            count += of_node;
        }
        count
    }

    /// C_i over what was sealed, and how many groups and nodes of level 1 had to be hashed for it.
    pub(super) fn root(&self) -> (Digest, u64) {
        let mut hashed = 0;
        let places = (0u64..).zip(self.nodes.iter().zip(&self.packets));
        let nodes = places.filter_map(|(at, (place, packets))| {
            let packets = packets.load(Relaxed);
            let fresh = || {
                let node = usize::try_from(at).unwrap_or(usize::MAX);
                let made = self.node(node, |group| self.sealed_of(group));
                hashed += 1 + made.hashed;
                made.digest
            };
            (packets != 0).then(|| (at, place.kept(packets).unwrap_or_else(fresh)))
        });
        let root = keystream::climb(1, nodes);
        (root, hashed)
    }

    fn sealed_of(&self, group: usize) -> u64 {
        let word = self.committed.get(group);
        word.map_or(0, |word| word.load(Relaxed))
    }

    /// Bytes of the sealed bitmap without trailing zeros: one set, one encoding.
    fn bitmap_length(&self) -> usize {
        let last = self
            .committed
            .iter()
            .rposition(|word| word.load(Relaxed) != 0);
        last.map_or(0, |at| {
            let bits = u64::BITS - self.sealed_of(at).leading_zeros();
            at * 8 + bits.div_ceil(8) as usize
        })
    }

    /// The sealed bitmap as it is revealed.
    pub(super) fn bitmap(&self) -> Vec<u8> {
        let length = self.bitmap_length();
        let words = self.committed.iter().map(|word| word.load(Relaxed));
        let mut bytes: Vec<u8> = words
            .take(length.div_ceil(8))
            .flat_map(u64::to_le_bytes)
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// In which slices the sealed packets came.
    pub(super) fn slices(&self) -> impl Iterator<Item = u8> + '_ {
        self.committed
            .iter()
            .enumerate()
            .flat_map(move |(group, word)| {
                keystream::bits(word.load(Relaxed)).filter_map(move |bit| {
                    let slice = self.slices.get(group * GROUP + bit as usize)?;
                    Some(slice.load(Relaxed))
                })
            })
    }
}

#[cfg(test)]
impl Lane {
    /// True once this packet's leaf is stored.
    pub(super) fn stored(&self, at: usize) -> bool {
        self.done[at / GROUP].load(Acquire) & bit(at) != 0
    }
}

fn bit(at: usize) -> u64 {
    1 << (at % GROUP)
}

/// The group that follows a node's last.
fn after(node: usize) -> usize {
    (node + 1) * ARITY
}

#[cfg(test)]
mod tests {
    use plumbline_trust::session::Ephemeral;

    use super::*;

    const NODE: u64 = (GROUP * ARITY) as u64;

    /// Room for three nodes and a half.
    fn lane() -> Lane {
        let half = Ephemeral::from_secret([2; 32]).public();
        let key = Ephemeral::from_secret([1; 32]).agree(&half, &[3; 32], 0);
        Lane::new(key.unwrap(), 7 * GROUP * ARITY / 2)
    }

    fn leaf(sequence: u64) -> Digest {
        *blake3::hash(&sequence.to_le_bytes()).as_bytes()
    }

    fn put(lane: &Lane, sequence: u64) {
        lane.note(sequence);
        assert!(lane.store(sequence, &leaf(sequence), 0, LAG));
    }

    /// Seals, checks C_i against the revealed bitmap, and gives the number of hashes it took.
    fn commit(lane: &Lane) -> u64 {
        lane.seal();
        let (root, hashed) = lane.root();
        let bitmap = lane.bitmap();
        let groups = keystream::groups(&bitmap, |s| Some(leaf(s))).unwrap();
        let words = keystream::words(&bitmap);
        let want = keystream::root(bitmap.len(), words, groups.into_iter());
        assert_eq!(root, want);
        hashed
    }

    #[test]
    fn a_node_is_hashed_with_its_last_packet_and_not_before() {
        for (count, left) in [(NODE - 1, 2), (NODE, 0), (NODE + 1, 2), (2 * NODE, 0)] {
            let lane = lane();
            for sequence in 0..count {
                assert_eq!(lane.nodes[0].kept(NODE).is_some(), sequence >= NODE);
                put(&lane, sequence);
            }
            assert_eq!(commit(&lane), left, "{count}");
        }
    }

    #[test]
    fn a_node_with_gaps_is_hashed_when_it_is_left_behind_by_the_lag_and_not_before() {
        let lane = lane();
        for sequence in 0..NODE - 1 {
            put(&lane, sequence);
        }
        let first_behind = NODE + (LAG * GROUP) as u64;
        put(&lane, first_behind - 1);
        assert_eq!(lane.nodes[0].kept(NODE - 1), None);
        put(&lane, first_behind);
        assert!(lane.nodes[0].kept(NODE - 1).is_some());
        // The packet that was missing.
        put(&lane, NODE - 1);
        assert!(lane.nodes[0].kept(NODE).is_some());
        // Open: both groups of the second node, and it.
        assert_eq!(commit(&lane), 3);
    }

    #[test]
    fn nodes_without_a_packet_are_passed_over() {
        let lane = lane();
        for sequence in [3, 2 * NODE + 5, 3 * NODE + NODE / 2 - 1] {
            put(&lane, sequence);
        }
        // The last group, and the half of a node that it is in.
        assert_eq!(commit(&lane), 2);
        assert_eq!(commit(&self::lane()), 0);
    }

    #[test]
    fn a_node_of_as_many_other_packets_than_were_sealed_is_not_taken_for_them() {
        let lane = lane();
        (0..NODE).step_by(2).for_each(|s| put(&lane, s));
        // As a node is made, its first group read and its second not, a packet of the first is stored, the
        // lane sealed, and a packet of the second stored: it has as many as were sealed, and others.
        lane.keep_node(0, |group| {
            if group == 1 {
                put(&lane, 1);
                assert_eq!(u64::from(lane.seal()), NODE / 2 + 1);
                put(&lane, GROUP as u64 + 1);
            }
            lane.done_of(group)
        });
        let (root, _) = lane.root();
        let bitmap = lane.bitmap();
        let groups = keystream::groups(&bitmap, |s| Some(leaf(s))).unwrap();
        let words = keystream::words(&bitmap);
        assert_eq!(
            root,
            keystream::root(bitmap.len(), words, groups.into_iter())
        );
    }
}
