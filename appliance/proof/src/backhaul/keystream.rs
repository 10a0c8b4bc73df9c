//! The packets of one challenger: deterministic, so that they and their digests are made ahead of
//! T0, and unpredictable until the seed is revealed.
//!
//! payload(k) = BLAKE3-XOF keyed by H(seed ‖ challenge ‖ beacon ‖ phase ‖ index) at byte k·1408.

use plumbline_trust::encoding::{Digest, domain, hash};
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{DATA_LEN, HEADER_LEN, Header, KEYSTREAM_LEN, Kind};

use super::leaf;
use super::messages::{ChallengeId, session_of};

/// Packets regenerated together: one call of the 16-lane hash, and 23 KiB that stay in L1.
const BATCH: usize = 16;

/// Everything that decides the bytes of a challenger's packets in a phase.
pub struct Train {
    stream: blake3::OutputReader,
    key: SessionKey,
    session: [u8; 16],
    phase: u8,
    index: u16,
}

impl Train {
    /// The train of challenger `index`.
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
        }
    }

    /// Writes packet `sequence` into `out`.
    pub fn write(&mut self, sequence: u64, out: &mut [u8; DATA_LEN]) {
        let header = Header {
            kind: Kind::Data,
            phase: self.phase,
            session: self.session,
            index: self.index,
            sequence,
            sent_ns: 0,
            tag: [0; 8],
        };
        let mut head = header.to_bytes();
        self.key.seal(&mut head);
        out[..HEADER_LEN].copy_from_slice(&head);
        self.stream
            .set_position(sequence.saturating_mul(KEYSTREAM_LEN as u64));
        self.stream.fill(&mut out[HEADER_LEN..]);
    }

    /// Makes `count` packets back to back, with their leaves. `progress` hears how many are made.
    pub fn make(
        &mut self,
        count: usize,
        mut progress: impl FnMut(usize),
    ) -> (Vec<u8>, Vec<Digest>) {
        let mut bytes = vec![0; count * DATA_LEN];
        let mut leaves = vec![[0; 32]; count];
        let mut sequence = 0;
        for (packets, leaves) in bytes
            .chunks_mut(BATCH * DATA_LEN)
            .zip(leaves.chunks_mut(BATCH))
        {
            let (packets, _) = packets.as_chunks_mut::<DATA_LEN>();
            for packet in packets.iter_mut() {
                self.write(sequence, packet);
                sequence += 1;
            }
            hash_batch(packets, leaves);
            progress(packets.len());
        }
        (bytes, leaves)
    }

    /// The leaves of the given sequence numbers, in their order, without keeping the packets.
    pub fn leaves(&mut self, sequences: &[u64]) -> Vec<Digest> {
        let mut out = vec![[0; 32]; sequences.len()];
        let mut packets = [[0u8; DATA_LEN]; BATCH];
        for (wanted, leaves) in sequences.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            for (sequence, packet) in wanted.iter().zip(packets.iter_mut()) {
                self.write(*sequence, packet);
            }
            hash_batch(&packets[..wanted.len()], leaves);
        }
        out
    }
}

fn hash_batch(packets: &[[u8; DATA_LEN]], leaves: &mut [Digest]) {
    let mut refs: [&[u8; DATA_LEN]; BATCH] = [&[0; DATA_LEN]; BATCH];
    for (slot, packet) in refs.iter_mut().zip(packets) {
        *slot = packet;
    }
    leaf::hash(&refs[..packets.len().min(BATCH)], leaves);
}

/// Sequence numbers that a bitmap holds, ascending.
pub fn sequences(bitmap: &[u8]) -> impl Iterator<Item = u64> + '_ {
    (0u64..).zip(bitmap).flat_map(|(byte, bits)| {
        (0..8)
            .filter(move |bit| bits >> bit & 1 == 1)
            .map(move |bit| byte * 8 + bit)
    })
}

/// C_i = H(bitmap length ‖ bitmap ‖ leaves in sequence order).
pub fn root(bitmap: &[u8], leaves: &[u8]) -> Digest {
    hash(
        domain::ROOT,
        &[&(bitmap.len() as u64).to_le_bytes(), bitmap, leaves],
    )
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
    use super::*;
    use plumbline_trust::session::Ephemeral;

    fn train(seed: u8, index: u16) -> Train {
        let a = Ephemeral::from_secret([1; 32]);
        let key = a
            .agree(&Ephemeral::from_secret([2; 32]).public(), &[3; 32], index)
            .unwrap();
        Train::new(&[seed; 32], &[3; 32], &[4; 32], 0, index, key)
    }

    #[test]
    fn packets_are_the_same_however_they_are_made() {
        let (bytes, leaves) = train(5, 1).make(37, |_| {});
        let mut single = [0; DATA_LEN];
        train(5, 1).write(36, &mut single);
        assert_eq!(&bytes[36 * DATA_LEN..], &single);
        assert_eq!(leaves[36], *blake3::hash(&single).as_bytes());
        assert_eq!(train(5, 1).leaves(&[36, 0]), [leaves[36], leaves[0]]);
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
        assert_eq!(
            sequences(&[0b1000_0001, 0, 1]).collect::<Vec<_>>(),
            [0, 7, 16]
        );
    }
}
