//! The key of one session: agreed by X25519 between prover and challenger, used to tag headers, so
//! that an off-path sender cannot poison a count.

use plumbline_wire::header::{HEADER_LEN, TAGGED_LEN};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::encoding::{domain, hash};

/// One side's ephemeral X25519 secret.
pub struct Ephemeral(StaticSecret);

impl Ephemeral {
    /// From 32 secret bytes (derived from the network key and the challenge, never reused).
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(StaticSecret::from(secret))
    }

    /// The half that goes into a signed message.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The key of this session, or `None` if the other half is a point of small order (which would
    /// make the secret known to everyone).
    pub fn agree(&self, other: &[u8; 32], challenge: &[u8; 32], index: u16) -> Option<SessionKey> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*other));
        if !shared.was_contributory() {
            return None;
        }
        Some(SessionKey(hash(
            domain::SESSION_KEY,
            &[shared.as_bytes(), challenge, &index.to_le_bytes()],
        )))
    }
}

/// Tags and checks the headers of one challenger in one session.
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The tag of a header: the first 8 bytes of keyed BLAKE3 over its first 56.
    pub fn tag(&self, header: &[u8; HEADER_LEN]) -> [u8; 8] {
        let (covered, _) = header.split_at(TAGGED_LEN);
        let full = blake3::keyed_hash(&self.0, covered);
        let b = full.as_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]
    }

    /// True if the header carries its tag; constant time.
    pub fn check(&self, header: &[u8; HEADER_LEN]) -> bool {
        let want = u64::from_le_bytes(self.tag(header));
        let (_, tag) = header.split_at(TAGGED_LEN);
        let mut have = [0; 8];
        have.copy_from_slice(tag);
        // One comparison of two words: no early exit to time.
        want ^ u64::from_le_bytes(have) == 0
    }

    /// Writes the tag into a header.
    pub fn seal(&self, header: &mut [u8; HEADER_LEN]) {
        let tag = self.tag(header);
        header[TAGGED_LEN..].copy_from_slice(&tag);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_and_every_bit_is_covered() {
        let a = Ephemeral::from_secret([1; 32]);
        let b = Ephemeral::from_secret([2; 32]);
        let ka = a.agree(&b.public(), &[9; 32], 3).unwrap();
        let kb = b.agree(&a.public(), &[9; 32], 3).unwrap();
        let mut header = [7u8; 64];
        ka.seal(&mut header);
        assert!(kb.check(&header));
        for bit in 0..512 {
            let mut bent = header;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(!kb.check(&bent), "bit {bit}");
        }
        let other = b.agree(&a.public(), &[9; 32], 4).unwrap();
        assert!(!other.check(&header));
    }

    #[test]
    fn a_small_order_point_is_refused() {
        assert!(
            Ephemeral::from_secret([1; 32])
                .agree(&[0; 32], &[0; 32], 0)
                .is_none()
        );
    }
}
