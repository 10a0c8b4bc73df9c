//! The 64-byte header (one BLAKE3 block) that every Plumbline datagram begins with.
//!
//! ```text
//!  0       4   5    6     7   8              24      26   32       40        48       56    64
//!  │ magic │ver│kind│phase│ 0 │ session (16) │ index │ 0  │sequence│ sent_ns │ cookie │ tag │
//! ```
//!
//! All numbers are little endian. `cookie` is derived from the key that prover and challenger agreed on and the same
//! in all headers under it; `tag` is the first 8 bytes of a keyed BLAKE3 over the header, itself taken as zeros,
//! under that key. This crate only carries and compares them.

use crate::view::View;

/// Length of the header.
pub const HEADER_LEN: usize = 64;
/// Where the cookie begins; it ends where the tag begins.
pub const COOKIE_AT: usize = 48;
/// The part of the header that the tag covers.
pub const TAGGED_LEN: usize = 56;
/// First four bytes of every datagram of ours.
pub const MAGIC: [u8; 4] = *b"PLMB";
/// Version of this layout.
pub const VERSION: u8 = 2;

/// UDP payload of a data packet at MTU 1500: 23 BLAKE3 blocks.
pub const DATA_LEN: usize = 1472;
/// Bytes of keystream in it.
pub const KEYSTREAM_LEN: usize = DATA_LEN - HEADER_LEN;
/// What IPv4 and UDP headers add to the UDP payload.
pub const IP_UDP_LEN: usize = 28;
/// Bytes of a data packet at the IP layer, over IPv4: the `L` of every formula.
pub const IP_LAYER_LEN: usize = DATA_LEN + IP_UDP_LEN;

const _: () = assert!(DATA_LEN.is_multiple_of(64) && KEYSTREAM_LEN.is_multiple_of(64));
const _: () = assert!(IP_LAYER_LEN <= 1500);
const _: () = assert!(COOKIE_AT + 8 == TAGGED_LEN && TAGGED_LEN + 8 == HEADER_LEN);

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Challenge traffic; goes to AF_XDP.
    Data = 1,
    /// Challenger asks for an echo.
    Probe = 2,
    /// Prover's signed answer to a probe.
    Echo = 3,
    /// Prover's signed commitment to all it received.
    Commit = 4,
    /// Challenger has the commitment.
    CommitAck = 5,
    /// Challenger's seed, released at T0: what an uplink's packets are made from.
    Seed = 6,
}

impl Kind {
    /// The kind with this number.
    #[inline(always)]
    pub fn from_u8(v: u8) -> Option<Self> {
        Some(match v {
            1 => Self::Data,
            2 => Self::Probe,
            3 => Self::Echo,
            4 => Self::Commit,
            5 => Self::CommitAck,
            6 => Self::Seed,
            _ => return None,
        })
    }
}

/// Why bytes are not a header of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Fewer than 64 bytes.
    Short,
    /// The first four bytes are not [`MAGIC`].
    Magic,
    /// A version this build does not speak.
    Version,
    /// An unknown [`Kind`].
    Kind,
    /// A byte that must be zero is not.
    Reserved,
}

/// A parsed header: cannot hold a wrong magic, version, kind or reserved byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the datagram is for.
    pub kind: Kind,
    /// Phase of the challenge, from 0.
    pub phase: u8,
    /// First 16 bytes of the challenge id.
    pub session: [u8; 16],
    /// Index of the challenger in the draw.
    pub index: u16,
    /// Number of the packet (data), of the probe (probe, echo) or of the attempt (commit, ack).
    pub sequence: u64,
    /// When the sender sent it, nanoseconds of the sender's own clock; 0 on data packets.
    pub sent_ns: u64,
    /// What only prover and challenger know of their key before the first packet.
    pub cookie: u64,
    /// Keyed tag over the bytes before it.
    pub tag: [u8; 8],
}

impl Header {
    /// Parses 64 bytes at `offset` of a packet.
    #[inline(always)]
    pub fn parse<V: View + ?Sized>(view: &V, offset: usize) -> Result<Self, HeaderError> {
        let Some(b) = view.bytes::<HEADER_LEN>(offset) else {
            return Err(HeaderError::Short);
        };
        Self::from_bytes(&b)
    }

    /// Parses a header that is already known to be whole.
    #[inline(always)]
    pub fn from_bytes(b: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        if [b[0], b[1], b[2], b[3]] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if b[4] != VERSION {
            return Err(HeaderError::Version);
        }
        let Some(kind) = Kind::from_u8(b[5]) else {
            return Err(HeaderError::Kind);
        };
        if b[7] != 0 || b[26] | b[27] | b[28] | b[29] | b[30] | b[31] != 0 {
            return Err(HeaderError::Reserved);
        }
        Ok(Self {
            kind,
            phase: b[6],
            session: [
                b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15], b[16], b[17], b[18], b[19],
                b[20], b[21], b[22], b[23],
            ],
            index: u16::from_le_bytes([b[24], b[25]]),
            sequence: u64::from_le_bytes([b[32], b[33], b[34], b[35], b[36], b[37], b[38], b[39]]),
            sent_ns: u64::from_le_bytes([b[40], b[41], b[42], b[43], b[44], b[45], b[46], b[47]]),
            cookie: u64::from_le_bytes([b[48], b[49], b[50], b[51], b[52], b[53], b[54], b[55]]),
            tag: [b[56], b[57], b[58], b[59], b[60], b[61], b[62], b[63]],
        })
    }

    /// The header as it goes on the wire, with the tag it holds.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut b = [0u8; HEADER_LEN];
        b[0..4].copy_from_slice(&MAGIC);
        b[4] = VERSION;
        b[5] = self.kind as u8;
        b[6] = self.phase;
        b[8..24].copy_from_slice(&self.session);
        b[24..26].copy_from_slice(&self.index.to_le_bytes());
        b[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        b[40..48].copy_from_slice(&self.sent_ns.to_le_bytes());
        b[COOKIE_AT..TAGGED_LEN].copy_from_slice(&self.cookie.to_le_bytes());
        b[TAGGED_LEN..].copy_from_slice(&self.tag);
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header {
            kind: Kind::Data,
            phase: 1,
            session: [7; 16],
            index: 3,
            sequence: 0x0102_0304_0506_0708,
            sent_ns: 9,
            cookie: 0x1112_1314_1516_1718,
            tag: [5; 8],
        }
    }

    #[test]
    fn round_trip() {
        let h = sample();
        assert_eq!(Header::from_bytes(&h.to_bytes()), Ok(h));
        // The cookie is these eight bytes and no others.
        assert_eq!(
            h.to_bytes()[47..57],
            [0, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 5]
        );
    }

    #[test]
    fn each_wrong_byte_has_its_name() {
        let good = sample().to_bytes();
        for (at, want) in [
            (0, HeaderError::Magic),
            (4, HeaderError::Version),
            (5, HeaderError::Kind),
            (7, HeaderError::Reserved),
            (26, HeaderError::Reserved),
            (31, HeaderError::Reserved),
        ] {
            let mut b = good;
            b[at] ^= 0x80;
            assert_eq!(Header::from_bytes(&b), Err(want), "byte {at}");
        }
        assert_eq!(Header::parse(&good[..63], 0), Err(HeaderError::Short));
        assert_eq!(Header::parse(&good[..], 1), Err(HeaderError::Short));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic_and_parse_is_injective(b in proptest::array::uniform32(any::<u8>()), c in proptest::array::uniform32(any::<u8>())) {
            let mut all = [0u8; 64];
            all[..32].copy_from_slice(&b);
            all[32..].copy_from_slice(&c);
            // Half of the cases get a valid prefix, so that the later checks are reached.
            if b[31] & 1 == 0 { all[0..8].copy_from_slice(&[b'P', b'L', b'M', b'B', VERSION, 1, 0, 0]); all[26..32].fill(0); }
            if let Ok(h) = Header::from_bytes(&all) {
                prop_assert_eq!(h.to_bytes(), all);
            }
        }
    }
}
