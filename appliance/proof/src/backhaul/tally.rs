//! What the prover counts while packets arrive. Every receive thread shares it: all methods take
//! `&self`, nothing locks, and after [`Tally::new`] nothing allocates until the commitment.
//!
//! ```text
//!  header ─► admit ──► refused: out_of_range · bad_tag ‖ received + 1 ‖ · duplicate · late · over_cap
//!              │                                       └ behind the tag
//!              └─► (16-lane hash) ─► accept ─► leaf ─► group of 64, then node of 64 groups: full, or
//!                                                │      left behind: hashed
//!                                               N-th ─► commit: open groups and nodes, then C_1 … C_n, C
//! ```
//!
//! Claim: whatever the threads do, no cap is exceeded, and every packet has one fate: seen = committed
//! + refused. A packet whose tag does not hold changes nothing but the number of those. Not promised: which of two racing copies of a packet is the duplicate. Tests: `tests`.

mod kept;
mod lane;
#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};

use plumbline_trust::encoding::Digest;
use plumbline_trust::session::{LANES, SessionKey};
use plumbline_wire::header::{HEADER_LEN, Header};

use self::lane::{LAG, Lane};
use super::keystream;
use super::messages::{ChallengeId, Commit, session_of};
use super::params::{DEADLINE_DURATIONS, SLICES, Terms};

/// Slices of a duration that the arrival histogram covers: to the deadline, and one duration more.
#[allow(clippy::cast_possible_truncation)] // 250, on every target
const HISTOGRAM: usize = (SLICES * (DEADLINE_DURATIONS + 1)) as usize;
/// The target is near when this part of it is missing: 1.6 ms of a phase of 100 ms, many turns of a
/// receive thread ahead of the last packet, and too short for its eagerness to cost throughput.
const URGENT_PART: u64 = 64;
/// … or this many packets: one turn of a receive thread.
const URGENT_LEAST: u64 = 64;
/// [`Tally::sealed`] before the commitment.
const OPEN: u64 = u64::MAX;

const _: () = assert!(HISTOGRAM <= u8::MAX as usize);

/// A packet that was admitted, and its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Challenger index.
    pub index: u16,
    /// Sequence number.
    pub sequence: u64,
    /// `CLOCK_REALTIME` ns at which it arrived.
    pub arrival_ns: u64,
    /// BLAKE3 of its whole UDP payload.
    pub digest: Digest,
}

/// Packets of one session that were not counted, each with its reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Tag does not verify under the session key.
    pub bad_tag: u64,
    /// Another phase, an index nobody has, or a sequence number past the cap.
    pub out_of_range: u64,
    /// Already counted.
    pub duplicate: u64,
    /// Beyond m of this challenger.
    pub over_cap: u64,
    /// After the target was reached or the commitment made.
    pub late: u64,
}

/// [`Refused`], as it grows.
#[derive(Default)]
struct Refusals {
    bad_tag: AtomicU64,
    out_of_range: AtomicU64,
    duplicate: AtomicU64,
    over_cap: AtomicU64,
    late: AtomicU64,
}

/// What every packet changes: kept off the cache lines that every packet only reads.
#[repr(align(128))]
struct Running {
    /// Packets admitted, at most N.
    admitted: AtomicU64,
    /// Packets whose leaf is stored, in the commitment or after it.
    accepted: AtomicU64,
    /// Arrival of the packet that was accepted first, ns; the histogram counts from it. 0: none yet.
    base_ns: AtomicU64,
    /// Earliest and latest arrival of an accepted packet, ns.
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    refused: Refusals,
}

/// Counts, digests and arrival times of one phase.
pub struct Tally {
    challenge: ChallengeId,
    session: [u8; 16],
    phase: u8,
    /// `None`: drawn, but not consented to.
    lanes: Vec<Option<Lane>>,
    per_challenger: u64,
    target: u64,
    slice_ns: u64,
    committed: AtomicBool,
    /// Packets in the commitment; [`OPEN`] until it is made.
    sealed: AtomicU64,
    /// Groups and nodes of level 1 hashed at the commitment.
    hashed_late: AtomicU64,
    running: Running,
}

impl Tally {
    /// A tally for `terms`; `keys[i]` is challenger i's session key, `None` if it has no consent.
    pub fn new(
        challenge: &ChallengeId,
        phase: u8,
        terms: &Terms,
        keys: Vec<Option<SessionKey>>,
    ) -> Self {
        let cap = usize::try_from(terms.cap_packets()).unwrap_or(usize::MAX);
        Self {
            challenge: *challenge,
            session: session_of(challenge),
            phase,
            lanes: keys
                .into_iter()
                .map(|k| k.map(|key| Lane::new(key, cap)))
                .collect(),
            per_challenger: terms.counted_most(),
            target: terms.target(),
            slice_ns: terms.slice_ns(),
            committed: AtomicBool::new(false),
            sealed: AtomicU64::new(OPEN),
            hashed_late: AtomicU64::new(0),
            running: Running {
                admitted: AtomicU64::new(0),
                accepted: AtomicU64::new(0),
                base_ns: AtomicU64::new(0),
                first_ns: AtomicU64::new(u64::MAX),
                last_ns: AtomicU64::new(0),
                refused: Refusals::default(),
            },
        }
    }

    /// Decides on a packet before it is hashed; a refusal is counted.
    pub fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN]) -> bool {
        self.judged(header, |lane| {
            let good = lane.key.check(raw);
            lane.received.fetch_add(u64::from(good), Relaxed);
            good
        })
    }

    /// [`Tally::admit`] for up to 64 packets, in order: bit i is packet i's. Runs of packets of one
    /// challenger have their tags checked together.
    pub fn admit_all<'a>(
        &self,
        packets: impl Iterator<Item = (&'a Header, &'a [u8; HEADER_LEN])>,
    ) -> u64 {
        let mut packets = packets.take(64).peekable();
        let (mut admitted, mut at) = (0, 0);
        while let Some(&first) = packets.peek() {
            let index = first.0.index;
            let mut headers = [first.0; LANES];
            let mut raws = [first.1; LANES];
            let mut used = 0;
            while used < LANES
                && let Some((header, raw)) = packets.next_if(|(h, _)| h.index == index)
            {
                (headers[used], raws[used]) = (header, raw);
                used += 1;
            }
            let authentic = self
                .lane(index)
                .map_or(0, |lane| lane.key.check_many(&raws[..used]));
            let mut received = 0;
            for (i, header) in headers[..used].iter().enumerate() {
                let good = self.judged(header, |_| {
                    let good = authentic >> i & 1 == 1;
                    received += u64::from(good);
                    good
                });
                admitted |= u64::from(good) << at;
                at += 1;
            }
            // Once a run: a packet would pay for it.
            if let Some(lane) = self.lane(index) {
                lane.received.fetch_add(received, Relaxed);
            }
        }
        admitted
    }

    fn judged(&self, header: &Header, authentic: impl FnOnce(&Lane) -> bool) -> bool {
        match self.decide(header, authentic) {
            Ok(()) => true,
            Err(reason) => {
                reason.fetch_add(1, Relaxed);
                false
            }
        }
    }

    fn decide(
        &self,
        header: &Header,
        authentic: impl FnOnce(&Lane) -> bool,
    ) -> Result<(), &AtomicU64> {
        let running = &self.running;
        let refused = &running.refused;
        let ours = header.session == self.session && header.phase == self.phase;
        let lane = self.lane(header.index).filter(|_| ours);
        let lane = lane.ok_or(&refused.out_of_range)?;
        if !authentic(lane) {
            return Err(&refused.bad_tag);
        }
        let at = lane.place(header.sequence).ok_or(&refused.out_of_range)?;
        if lane.seen(at) {
            return Err(&refused.duplicate);
        }
        if self.committed.load(Relaxed) || running.admitted.load(Relaxed) == self.target {
            return Err(&refused.late);
        }
        if lane.admitted.load(Relaxed) == self.per_challenger {
            return Err(&refused.over_cap);
        }
        // The claim comes first: of two copies one has it, and only that one takes from the caps. N is
        // taken last, so nothing is ever given back to it, and no packet is refused for a place that
        // turns out to be free.
        if !lane.claim(at) {
            return Err(&refused.duplicate);
        }
        if !take(&lane.admitted, self.per_challenger) {
            lane.unclaim(at);
            return Err(&refused.over_cap);
        }
        if !take(&running.admitted, self.target) {
            lane.admitted.fetch_sub(1, Relaxed);
            lane.unclaim(at);
            return Err(&refused.late);
        }
        lane.note(header.sequence);
        Ok(())
    }

    fn lane(&self, index: u16) -> Option<&Lane> {
        self.lanes.get(usize::from(index))?.as_ref()
    }

    /// Takes the digests of admitted packets, each once. After the commitment they are late.
    pub fn accept(&self, leaves: &[Leaf]) {
        let running = &self.running;
        let arrivals = || leaves.iter().map(|l| l.arrival_ns);
        let (Some(first), Some(last)) = (arrivals().min(), arrivals().max()) else {
            return;
        };
        if self.committed.load(Relaxed) {
            let late = leaves.len() as u64;
            running.refused.late.fetch_add(late, Relaxed);
            return;
        }
        // Before the leaves: whoever sees a leaf done finds its arrival in the bounds.
        running.first_ns.fetch_min(first, Relaxed);
        running.last_ns.fetch_max(last, Relaxed);
        let base_ns = self.base_ns(leaves);
        // Near the end a group with gaps is hashed as soon as the next one begins: a packet of it that
        // still comes costs a second hash, and a packet that never comes one less at the commitment.
        let lag = if self.urgent() { 0 } else { LAG };
        let mut stored = 0;
        for leaf in leaves {
            let Some(lane) = self.lane(leaf.index) else {
                continue;
            };
            let slice = leaf.arrival_ns.saturating_sub(base_ns) / self.slice_ns;
            let slice = slice.min(HISTOGRAM as u64 - 1);
            let slice = u8::try_from(slice).unwrap_or(u8::MAX);
            stored += u64::from(lane.store(leaf.sequence, &leaf.digest, slice, lag));
        }
        // Releases the leaves to the thread that sees the target reached.
        running.accepted.fetch_add(stored, AcqRel);
    }

    /// Arrival of the packet that was accepted first.
    fn base_ns(&self, leaves: &[Leaf]) -> u64 {
        let base_ns = &self.running.base_ns;
        match (base_ns.load(Relaxed), leaves.first()) {
            (0, Some(leaf)) => {
                let mine = leaf.arrival_ns.max(1);
                let first = base_ns.compare_exchange(0, mine, Relaxed, Relaxed);
                first.map_or_else(|others| others, |_| mine)
            }
            (known, _) => known,
        }
    }

    /// True once N packets are counted and hashed.
    pub fn complete(&self) -> bool {
        self.running.accepted.load(Acquire) == self.target
    }

    /// True if so few packets are missing to N that a receive thread must not dawdle: what follows the
    /// last one is timed. A deadline that nears is the caller's to know.
    pub fn urgent(&self) -> bool {
        let near = (self.target / URGENT_PART).max(URGENT_LEAST);
        !self.committed.load(Relaxed) && self.missing() <= near
    }

    /// Packets that are missing to N.
    pub fn missing(&self) -> u64 {
        self.target.saturating_sub(self.counted())
    }

    /// Packets counted so far.
    pub fn counted(&self) -> u64 {
        match self.sealed.load(Acquire) {
            OPEN => self.running.accepted.load(Relaxed),
            sealed => sealed,
        }
    }

    /// Packets refused so far, those among them that were admitted and hashed too late.
    pub fn refused(&self) -> Refused {
        let r = &self.running.refused;
        let hashed = self.running.accepted.load(Acquire);
        Refused {
            bad_tag: r.bad_tag.load(Relaxed),
            out_of_range: r.out_of_range.load(Relaxed),
            duplicate: r.duplicate.load(Relaxed),
            over_cap: r.over_cap.load(Relaxed),
            late: r.late.load(Relaxed) + hashed.saturating_sub(self.counted()),
        }
    }

    /// Authentic packets of each challenger, whatever became of them: counted, a duplicate, over its cap or
    /// late. 0 for who has no consent.
    pub fn received(&self) -> Vec<u64> {
        let received = |l: &Option<Lane>| l.as_ref().map_or(0, |l| l.received.load(Relaxed));
        self.lanes.iter().map(received).collect()
    }

    /// Everything that came in and has a fate: quiet when it no longer changes. Admitted packets are
    /// in it once they are accepted.
    pub fn seen(&self) -> u64 {
        let r = &self.running.refused;
        let refused = [
            &r.bad_tag,
            &r.out_of_range,
            &r.duplicate,
            &r.over_cap,
            &r.late,
        ];
        let refused: u64 = refused.iter().map(|n| n.load(Relaxed)).sum();
        self.running.accepted.load(Relaxed) + refused
    }

    /// Commits to all whose leaf is stored; gives the commitment and C_1..C_n. From here on every packet
    /// is late. `None` if another thread has committed. What is left to hash is, of each challenger that
    /// sends in order, the open group (at a deadline two), the open node over it (at a deadline two
    /// where one ends between them), and a node for every 64 nodes.
    pub fn commit(&self) -> Option<(Commit, Vec<Digest>)> {
        if self.committed.swap(true, AcqRel) {
            return None;
        }
        // All are sealed before the first is hashed, so that they end at about the same time.
        let counts: Vec<u32> = self
            .lanes
            .iter()
            .map(|l| l.as_ref().map_or(0, Lane::seal))
            .collect();
        let packets = counts.iter().map(|c| u64::from(*c)).sum();
        self.sealed.store(packets, Release);
        let mut roots = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            let nothing = || keystream::climb(0, std::iter::empty());
            let (root, hashed) = lane.as_ref().map_or_else(|| (nothing(), 0), Lane::root);
            self.hashed_late.fetch_add(hashed, Relaxed);
            roots.push(root);
        }
        // At a deadline these may take in a packet that came as the lanes were being sealed.
        let arrivals = match self.running.first_ns.load(Relaxed) {
            u64::MAX => (0, 0),
            first => (first, self.running.last_ns.load(Relaxed)),
        };
        let commit = Commit {
            challenge: self.challenge,
            phase: self.phase,
            packets,
            response: keystream::response(&self.challenge, self.phase, &counts, &roots),
            counts,
            arrivals,
        };
        Some((commit, roots))
    }

    /// Groups and nodes of level 1 that were still to be hashed at the commitment, being open or having
    /// changed: what its latency grows with.
    pub fn hashed_at_commit(&self) -> u64 {
        self.hashed_late.load(Relaxed)
    }

    /// Bitmaps of what was committed to, as they are revealed; empty before the commitment.
    pub fn bitmaps(&self) -> Vec<Vec<u8>> {
        let sealed = self.sealed.load(Acquire) != OPEN;
        let bitmap = |l: &Option<Lane>| {
            let lane = l.as_ref().filter(|_| sealed);
            lane.map_or_else(Vec::new, Lane::bitmap)
        };
        self.lanes.iter().map(bitmap).collect()
    }

    /// Arrivals of what was committed to per slice of the duration, without the empty end.
    pub fn histogram(&self) -> Vec<u32> {
        if self.sealed.load(Acquire) == OPEN {
            return Vec::new();
        }
        let mut bins = vec![0; HISTOGRAM];
        for slice in self.lanes.iter().flatten().flat_map(Lane::slices) {
            if let Some(bin) = bins.get_mut(usize::from(slice)) {
                *bin += 1;
            }
        }
        let used = bins.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
        bins.truncate(used);
        bins
    }

    /// Admitted packets that came after one of their challenger's with a higher number.
    pub fn reordered(&self) -> u64 {
        let lanes = self.lanes.iter().flatten();
        lanes.map(|l| l.reordered.load(Relaxed)).sum()
    }
}

/// Takes one of at most `most`; false if all are taken.
fn take(taken: &AtomicU64, most: u64) -> bool {
    let more = |n| (n < most).then(|| n + 1);
    taken.fetch_update(Relaxed, Relaxed, more).is_ok()
}
