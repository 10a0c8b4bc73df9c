//! What the prover counts while packets arrive. Lives in the receive thread: after [`Tally::new`]
//! nothing allocates.
//!
//! ```text
//!  header ─► admit ──► refused: bad_tag · out_of_range · duplicate · over_cap · late
//!              │
//!              └─► (16-lane hash) ─► accept ─► leaf table ─► N-th: commit
//! ```

use plumbline_trust::encoding::Digest;
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{HEADER_LEN, Header};

use super::keystream;
use super::messages::{ChallengeId, Commit, session_of};
use super::params::{DEADLINE_DURATIONS, Terms};

/// Tenths of a duration that the arrival histogram covers.
#[allow(clippy::cast_possible_truncation)] // four, on every target
const HISTOGRAM: usize = 10 * DEADLINE_DURATIONS as usize + 10;

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

struct Lane {
    key: SessionKey,
    seen: Vec<u8>,
    leaves: Vec<Digest>,
    admitted: u64,
    next: u64,
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
    tenth_ns: u64,
    admitted: u64,
    accepted: u64,
    arrivals: (u64, u64),
    histogram: Vec<u32>,
    reordered: u64,
    refused: Refused,
    committed: bool,
    scratch: Vec<u8>,
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
        let lane = |key| Lane {
            key,
            seen: vec![0; cap.div_ceil(8)],
            leaves: vec![[0; 32]; cap],
            admitted: 0,
            next: 0,
        };
        Self {
            challenge: *challenge,
            session: session_of(challenge),
            phase,
            lanes: keys.into_iter().map(|k| k.map(lane)).collect(),
            per_challenger: terms.per_challenger(),
            target: terms.target(),
            tenth_ns: (terms.duration_ns() / 10).max(1),
            admitted: 0,
            accepted: 0,
            arrivals: (0, 0),
            histogram: vec![0; HISTOGRAM],
            reordered: 0,
            refused: Refused::default(),
            committed: false,
            scratch: Vec::with_capacity(usize::try_from(terms.per_challenger()).unwrap_or(0) * 32),
        }
    }

    /// Decides on a packet before it is hashed; a refusal is counted.
    pub fn admit(&mut self, header: &Header, raw: &[u8; HEADER_LEN]) -> bool {
        let per_challenger = self.per_challenger;
        let full = self.committed || self.admitted == self.target;
        let ours = header.session == self.session && header.phase == self.phase;
        let lane = self
            .lanes
            .get_mut(usize::from(header.index))
            .and_then(Option::as_mut);
        let (Some(lane), true) = (lane, ours) else {
            self.refused.out_of_range += 1;
            return false;
        };
        if !lane.key.check(raw) {
            self.refused.bad_tag += 1;
            return false;
        }
        let at = usize::try_from(header.sequence).unwrap_or(usize::MAX);
        let (Some(byte), true) = (lane.seen.get_mut(at / 8), at < lane.leaves.len()) else {
            self.refused.out_of_range += 1;
            return false;
        };
        let bit = 1 << (at % 8);
        if *byte & bit != 0 {
            self.refused.duplicate += 1;
        } else if full {
            self.refused.late += 1;
        } else if lane.admitted == per_challenger {
            self.refused.over_cap += 1;
        } else {
            *byte |= bit;
            lane.admitted += 1;
            self.admitted += 1;
            if header.sequence < lane.next {
                self.reordered += 1;
            } else {
                lane.next = header.sequence + 1;
            }
            return true;
        }
        false
    }

    /// Takes the digest of an admitted packet.
    pub fn accept(&mut self, index: u16, sequence: u64, leaf: &Digest, arrival_ns: u64) {
        let slot = self
            .lanes
            .get_mut(usize::from(index))
            .and_then(Option::as_mut)
            .zip(usize::try_from(sequence).ok())
            .and_then(|(lane, at)| lane.leaves.get_mut(at));
        if let Some(slot) = slot {
            *slot = *leaf;
            if self.accepted == 0 {
                self.arrivals.0 = arrival_ns;
            }
            self.accepted += 1;
            self.arrivals.1 = self.arrivals.1.max(arrival_ns);
            let tenth = arrival_ns.saturating_sub(self.arrivals.0) / self.tenth_ns;
            let tenth = usize::try_from(tenth)
                .unwrap_or(usize::MAX)
                .min(HISTOGRAM - 1);
            if let Some(bin) = self.histogram.get_mut(tenth) {
                *bin += 1;
            }
        }
    }

    /// True once N packets are counted and hashed.
    pub fn complete(&self) -> bool {
        self.accepted == self.target
    }

    /// Packets counted so far.
    pub fn counted(&self) -> u64 {
        self.accepted
    }

    /// Packets refused so far.
    pub fn refused(&self) -> Refused {
        self.refused
    }

    /// Everything that came in, whatever became of it: quiet when it no longer changes.
    pub fn seen(&self) -> u64 {
        let r = &self.refused;
        self.accepted + r.bad_tag + r.out_of_range + r.duplicate + r.over_cap + r.late
    }

    /// Commits to all that was counted. From here on every packet is late.
    pub fn commit(&mut self) -> (Commit, Vec<Digest>) {
        self.committed = true;
        let counts: Vec<u32> = self
            .lanes
            .iter()
            .map(|l| {
                l.as_ref()
                    .map_or(0, |l| u32::try_from(l.admitted).unwrap_or(u32::MAX))
            })
            .collect();
        let mut roots = Vec::with_capacity(self.lanes.len());
        for lane in &self.lanes {
            self.scratch.clear();
            let bitmap = lane.as_ref().map_or(&[][..], |l| trimmed(&l.seen));
            if let Some(lane) = lane {
                for at in keystream::sequences(bitmap) {
                    let leaf = usize::try_from(at).ok().and_then(|at| lane.leaves.get(at));
                    self.scratch.extend_from_slice(leaf.unwrap_or(&[0; 32]));
                }
            }
            roots.push(keystream::root(bitmap, &self.scratch));
        }
        let commit = Commit {
            challenge: self.challenge,
            phase: self.phase,
            packets: self.admitted,
            response: keystream::response(&self.challenge, self.phase, &counts, &roots),
            counts,
            arrivals: self.arrivals,
        };
        (commit, roots)
    }

    /// Bitmaps as they are revealed.
    pub fn bitmaps(&self) -> Vec<Vec<u8>> {
        self.lanes
            .iter()
            .map(|l| l.as_ref().map_or(Vec::new(), |l| trimmed(&l.seen).to_vec()))
            .collect()
    }

    /// Arrivals per tenth of the duration, without the empty end.
    pub fn histogram(&self) -> Vec<u32> {
        let used = self
            .histogram
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |i| i + 1);
        self.histogram[..used].to_vec()
    }

    /// Counted packets that came after one with a higher number.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }
}

/// Without trailing zero bytes: one set, one encoding.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
    &bytes[..used]
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_trust::session::Ephemeral;
    use plumbline_wire::header::Kind;

    fn key(index: u16) -> SessionKey {
        Ephemeral::from_secret([1; 32])
            .agree(&Ephemeral::from_secret([2; 32]).public(), &[3; 32], index)
            .unwrap()
    }

    fn tally() -> Tally {
        // m = 1, N = 3: one packet of 12 kbit in 100 ms each.
        let terms = Terms {
            claim_bps: 360_000,
            n: 4,
            f: 1,
            duration_ms: 100,
        };
        assert_eq!(
            (terms.per_challenger(), terms.target(), terms.cap_packets()),
            (1, 3, 5)
        );
        Tally::new(
            &[3; 32],
            0,
            &terms,
            (0..4).map(|i| (i != 3).then(|| key(i))).collect(),
        )
    }

    fn packet(index: u16, sequence: u64) -> (Header, [u8; 64]) {
        let header = Header {
            kind: Kind::Data,
            phase: 0,
            session: [3; 16],
            index,
            sequence,
            sent_ns: 0,
            tag: [0; 8],
        };
        let mut raw = header.to_bytes();
        key(index).seal(&mut raw);
        (Header::from_bytes(&raw).unwrap(), raw)
    }

    fn offer(t: &mut Tally, index: u16, sequence: u64) -> bool {
        let (h, raw) = packet(index, sequence);
        let ok = t.admit(&h, &raw);
        if ok {
            t.accept(index, sequence, &[9; 32], 1000 + sequence);
        }
        ok
    }

    #[test]
    fn every_packet_has_one_fate() {
        let mut t = tally();
        assert!(offer(&mut t, 0, 4));
        assert!(!offer(&mut t, 0, 4)); // duplicate
        assert!(!offer(&mut t, 0, 0)); // over m
        assert!(!offer(&mut t, 1, 5)); // past the cap
        assert!(!offer(&mut t, 3, 0)); // drawn, not consented
        assert!(!offer(&mut t, 9, 0)); // nobody
        let (mut h, mut raw) = packet(1, 0);
        raw[63] ^= 1;
        assert!(!t.admit(&h, &raw)); // tag
        h.phase = 1;
        assert!(!t.admit(&h, &raw)); // phase
        assert!(offer(&mut t, 1, 0));
        assert!(!t.complete());
        assert!(offer(&mut t, 2, 3));
        assert!(t.complete());
        assert!(!offer(&mut t, 2, 2)); // late
        assert_eq!(
            t.refused(),
            Refused {
                bad_tag: 1,
                out_of_range: 4,
                duplicate: 1,
                over_cap: 1,
                late: 1
            }
        );
        assert_eq!(t.seen(), 3 + 8);
        let (commit, _) = t.commit();
        assert_eq!(
            (commit.packets, commit.counts.as_slice()),
            (3, &[1, 1, 1, 0][..])
        );
        assert_eq!(t.bitmaps(), [vec![16], vec![1], vec![8], vec![]]);
    }

    #[test]
    fn the_commitment_depends_on_every_leaf() {
        let mut a = tally();
        let mut b = tally();
        let (h, raw) = packet(0, 2);
        assert!(a.admit(&h, &raw) && b.admit(&h, &raw));
        a.accept(0, 2, &[1; 32], 5);
        b.accept(0, 2, &[2; 32], 5);
        assert_ne!(a.commit().0.response, b.commit().0.response);
    }

    #[test]
    fn a_late_packet_after_an_early_commitment_is_late() {
        let mut t = tally();
        assert!(offer(&mut t, 0, 0));
        t.commit();
        assert!(!offer(&mut t, 1, 0));
        assert_eq!(t.refused().late, 1);
    }
}
