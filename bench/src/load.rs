//! The packets of a trial: real ones, as a challenger makes them ahead of a phase, so that their tags
//! hold and their leaves are those that a judge would compute.

use anyhow::{Context, Result};
use plumbline_proof::backhaul::keystream::{self, Train};
use plumbline_proof::backhaul::messages::{ChallengeId, session_of};
use plumbline_proof::backhaul::params::Terms;
use plumbline_proof::backhaul::tally::Tally;
use plumbline_trust::encoding::Digest;
use plumbline_trust::session::{Ephemeral, SessionKey};
use plumbline_wire::Size;
use plumbline_wire::header::{Header, Kind};

/// The challenge that all trials pretend to be of.
pub(crate) const CHALLENGE: ChallengeId = [0xbe; 32];
/// Phase of it.
pub(crate) const PHASE: u8 = 0;
/// Index of the one challenger.
pub(crate) const INDEX: u16 = 0;

const SEED: [u8; 32] = [0x5e; 32];
const BEACON: [u8; 32] = [0xb0; 32];

/// Packets made ahead, back to back.
pub(crate) struct Load {
    /// How long each is.
    pub(crate) size: Size,
    /// All of them.
    pub(crate) packets: Vec<u8>,
    key: SessionKey,
}

impl Load {
    /// Makes `count` packets on all cores.
    ///
    /// # Errors
    /// Key agreement failed, which it cannot with these secrets.
    pub(crate) fn make(size: Size, count: usize) -> Result<Self> {
        let key = session_key()?;
        let length = size.payload();
        let mut packets = vec![0; count * length];
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(cores).max(1);
        std::thread::scope(|scope| {
            for (part, packets) in packets.chunks_mut(share * length).enumerate() {
                let mut train = train(size, key.clone());
                scope.spawn(move || {
                    let first = (part * share) as u64;
                    for (sequence, packet) in (first..).zip(packets.chunks_mut(length)) {
                        train.write(sequence, packet);
                    }
                });
            }
        });
        Ok(Self { size, packets, key })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.packets.len() / self.size.payload()
    }

    /// Tags of the first `count` packets of this train, made ahead or not: what a source needs that
    /// writes headers itself.
    pub(crate) fn tags(&self, count: usize) -> Vec<[u8; 8]> {
        let header = |sequence| Header {
            kind: Kind::Data,
            phase: PHASE,
            session: session_of(&CHALLENGE),
            index: INDEX,
            sequence,
            sent_ns: 0,
            cookie: self.key.cookie(),
            tag: [0; 8],
        };
        let tag = |sequence| self.key.tag(&header(sequence).to_bytes());
        (0u64..).take(count).map(tag).collect()
    }

    /// A tally that counts these packets, as a prover's would, and is complete after `target` of them.
    pub(crate) fn tally(&self, target: u64) -> Tally {
        let terms = terms(target);
        Tally::new(&CHALLENGE, PHASE, &terms, vec![Some(self.key.clone())])
    }

    /// Whether a commitment's root is what these packets give: opened as a judge does, from the seed,
    /// over all cores.
    pub(crate) fn opens(&self, bitmap: &[u8], root: &Digest) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let all = bitmap.len().div_ceil(8);
        let share = all.div_ceil(cores).max(1);
        let groups: Vec<Digest> = std::thread::scope(|scope| {
            let parts: Vec<_> = (0..all)
                .step_by(share)
                .map(|first| {
                    let mut train = train(self.size, self.key.clone());
                    let range = first..(first + share).min(all);
                    scope.spawn(move || train.groups(bitmap, range))
                })
                .collect();
            let joined = parts.into_iter().map(|part| part.join());
            let digests = joined.map(|p| p.unwrap_or_else(|e| std::panic::resume_unwind(e)));
            digests.flatten().collect()
        });
        let words = keystream::words(bitmap);
        keystream::root(bitmap.len(), words, groups.into_iter()) == *root
    }

    /// Key of the session.
    pub(crate) fn key(&self) -> &SessionKey {
        &self.key
    }
}

/// Terms of one challenger, none corrupt, whose target is `target` packets.
fn terms(target: u64) -> Terms {
    // A phase of one second: K bit/s are then K/8/L packets, whatever their size here.
    let terms = Terms::downlink(0, 1, 0, 1000);
    Terms {
        claim_bps: target * 8 * u64::from(terms.packet_bytes),
        ..terms
    }
}

/// The train that [`Load::make`] writes out.
fn train(size: Size, key: SessionKey) -> Train {
    Train::new(&SEED, &CHALLENGE, &BEACON, PHASE, INDEX, key).of_size(size)
}

fn session_key() -> Result<SessionKey> {
    let mine = Ephemeral::from_secret([1; 32]);
    let theirs = Ephemeral::from_secret([2; 32]).public();
    mine.agree(&theirs, &CHALLENGE, INDEX)
        .context("these secrets make no key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_wire::HEADER_LEN;

    #[test]
    fn packets_carry_consecutive_numbers_and_tags_that_hold() {
        // More than one thread's share, and not a multiple of it.
        for size in Size::ALL {
            let load = Load::make(size, 37).unwrap();
            assert_eq!(load.count(), 37);
            let tags = load.tags(40);
            assert_eq!(tags.len(), 40);
            let packets = load.packets.chunks(size.payload());
            for ((sequence, packet), tag) in (0u64..).zip(packets).zip(&tags) {
                let raw: &[u8; HEADER_LEN] = packet.first_chunk().unwrap();
                let header = Header::from_bytes(raw).unwrap();
                assert_eq!((header.sequence, header.tag), (sequence, *tag));
                assert!(load.key().check(raw));
            }
        }
    }

    #[test]
    fn a_tally_is_complete_at_its_target_and_not_before() {
        let load = Load::make(Size::Standard, 3).unwrap();
        let tally = load.tally(2);
        let admit = |sequence: usize| {
            let packet = &load.packets[sequence * Size::Standard.payload()..];
            let raw: &[u8; HEADER_LEN] = packet.first_chunk().unwrap();
            tally.admit(&Header::from_bytes(raw).unwrap(), raw)
        };
        assert!(admit(0) && admit(1));
        assert!(!admit(2), "the third is late");
        assert_eq!(tally.refused().late, 1);
    }

    #[test]
    fn a_commitment_opens_with_these_packets_and_with_no_others() {
        use plumbline_proof::backhaul::tally::Leaf;
        let size = Size::Standard;
        let load = Load::make(size, 200).unwrap();
        let root_of = |bent: Option<u64>| {
            let tally = load.tally(201);
            for (sequence, packet) in (0u64..).zip(load.packets.chunks(size.payload())) {
                // Every seventh was lost.
                if sequence % 7 == 3 {
                    continue;
                }
                let raw: &[u8; HEADER_LEN] = packet.first_chunk().unwrap();
                assert!(tally.admit(&Header::from_bytes(raw).unwrap(), raw));
                let mut digest = *blake3::hash(packet).as_bytes();
                digest[0] ^= u8::from(bent == Some(sequence));
                tally.accept(&[Leaf {
                    index: INDEX,
                    sequence,
                    arrival_ns: 1,
                    digest,
                }]);
            }
            let (_, roots) = tally.commit().unwrap();
            (tally.bitmaps().remove(0), roots[0])
        };
        let (bitmap, root) = root_of(None);
        assert!(load.opens(&bitmap, &root));
        let (bitmap, root) = root_of(Some(198));
        assert!(!load.opens(&bitmap, &root));
    }
}
