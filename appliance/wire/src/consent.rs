//! The consent table: who may send, as the XDP program looks it up.
//!
//! A prover signs a consent (who, from where, to which port, how many bytes, until when). What the
//! program needs of it to refuse everything else is one hash-map row per challenger.
//!
//! ```text
//!  row ─► run out? ─► cookie? ─► before the start? ─► index? ─► length? ─► cap? ─► passed + 1
//!                        └ whoever does not know the session key ends here, and has changed nothing
//! ```
//!
//! Claim: only packets that carry the session's cookie take from the cap. Not promised: that they are
//! authentic (who reads the path can copy a cookie); the tag says that, in user space.

use core::ops::RangeInclusive;

use crate::frame::Fate;
use crate::header::Header;
use crate::size::Size;

/// Sessions that one data port serves at once. A prover takes part in one or two measurements at a
/// time; the rest is head room that costs nothing.
pub const SESSIONS: usize = 16;
/// Senders of one session: the largest draw that the protocol knows.
pub const SENDERS: usize = 64;
/// Rows of the consent table: never full, so opening a session that is allowed never fails for room.
pub const ROWS: usize = SESSIONS * SENDERS;

/// Key of one consented sender: a BPF map key as it lies, without padding. Made of 64-bit words
/// because the XDP program builds one for each packet on a stack that it can only write in words
/// without a loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConsentKey {
    source: [u64; 2],
    session: [u64; 2],
    port: u64,
}

impl ConsentKey {
    /// The key of a sender at `source` (IPv6, or IPv4-mapped) and `port`, for `session`.
    #[inline(always)]
    pub fn new(source: [u8; 16], port: u16, session: [u8; 16]) -> Self {
        Self {
            source: words(source),
            session: words(session),
            port: u64::from(port),
        }
    }
}

#[inline(always)]
fn words(b: [u8; 16]) -> [u64; 2] {
    [
        u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        u64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
    ]
}

/// A row's start while the session's is not known yet: nothing is admitted.
pub const CLOSED: u64 = u64::MAX;

/// What was consented to, and how much of it has come.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentEntry {
    /// TAI nanoseconds before which the sender's packets are dropped, or [`CLOSED`].
    pub from_tai_ns: u64,
    /// TAI nanoseconds after which they are.
    pub until_tai_ns: u64,
    /// The session's cookie, which the header must carry.
    pub cookie: u64,
    /// Packets that may come: all have one length, so this bounds bytes.
    pub cap: u64,
    /// Packets that have come; the program counts them, and starts at 0.
    pub passed: u64,
    /// Challenger index that the header must carry.
    pub index: u16,
    /// Bytes of UDP payload that its packets must have.
    pub payload: u16,
    /// Always zero.
    pub zero: [u8; 4],
}

impl ConsentEntry {
    /// The entry of a sender of at most `cap` packets of `size` that carry `cookie`, in `window` (TAI ns).
    pub fn new(index: u16, cookie: u64, size: Size, cap: u64, window: RangeInclusive<u64>) -> Self {
        Self {
            from_tai_ns: *window.start(),
            until_tai_ns: *window.end(),
            cookie,
            cap,
            passed: 0,
            index,
            payload: size as u16,
            zero: [0; 4],
        }
    }

    /// May a packet with this header and a payload of `length` bytes pass at `now_tai_ns`, `passed`
    /// having come before it? At the start and at the deadline themselves it may. `passed` is an argument
    /// because the program counts it in the map while this reads the rest.
    ///
    /// # Errors
    /// [`Fate::DroppedNotConsented`] after the deadline, then [`Fate::DroppedCookie`], then
    /// [`Fate::DroppedEarly`], then [`Fate::DroppedIndex`], then [`Fate::DroppedLength`], then
    /// [`Fate::DroppedOverConsent`].
    #[inline(always)]
    pub fn admit(
        &self,
        header: &Header,
        length: usize,
        now_tai_ns: u64,
        passed: u64,
    ) -> Result<(), Fate> {
        if now_tai_ns > self.until_tai_ns {
            return Err(Fate::DroppedNotConsented);
        }
        if header.cookie != self.cookie {
            return Err(Fate::DroppedCookie);
        }
        if now_tai_ns < self.from_tai_ns {
            return Err(Fate::DroppedEarly);
        }
        if header.index != self.index {
            return Err(Fate::DroppedIndex);
        }
        if length != self.payload as usize {
            return Err(Fate::DroppedLength);
        }
        if passed >= self.cap {
            return Err(Fate::DroppedOverConsent);
        }
        Ok(())
    }
}

/// `::ffff:a.b.c.d`
#[inline(always)]
pub fn mapped_v4(a: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::Kind;

    fn header(index: u16, cookie: u64) -> Header {
        Header {
            kind: Kind::Data,
            phase: 0,
            session: [7; 16],
            index,
            sequence: 0,
            sent_ns: 0,
            cookie,
            tag: [0; 8],
        }
    }

    #[test]
    fn window_cookie_index_length_and_cap_both_sides() {
        let row = ConsentEntry::new(3, 9, Size::Standard, 10, 50..=100);
        let last = |passed| row.admit(&header(3, 9), 1472, 100, passed);
        assert_eq!((last(9), last(10)), (Ok(()), Err(Fate::DroppedOverConsent)));
        let at = |now| row.admit(&header(3, 9), 1472, now, 0);
        assert_eq!((at(49), at(50)), (Err(Fate::DroppedEarly), Ok(())));
        assert_eq!((at(100), at(101)), (Ok(()), Err(Fate::DroppedNotConsented)));
        for (cookie, index, length, fate) in [
            (8, 4, 1408, Fate::DroppedCookie),
            (10, 3, 1472, Fate::DroppedCookie),
            (9 | 1 << 63, 3, 1472, Fate::DroppedCookie),
            (9, 4, 1408, Fate::DroppedIndex),
            (9, 2, 1472, Fate::DroppedIndex),
            (9, 3, 1408, Fate::DroppedLength),
            (9, 3, 8960, Fate::DroppedLength),
        ] {
            let said = row.admit(&header(index, cookie), length, 50, 10);
            assert_eq!(said, Err(fate), "{cookie} {index} {length}");
        }
    }

    #[test]
    fn who_has_no_cookie_learns_neither_the_window_nor_what_has_come() {
        let row = ConsentEntry::new(3, 9, Size::Standard, 0, 50..=100);
        for now in [0, 49, 50, 100] {
            let said = row.admit(&header(3, 8), 1472, now, 0);
            assert_eq!(said, Err(Fate::DroppedCookie), "{now}");
        }
        let said = row.admit(&header(3, 8), 1472, 101, 0);
        assert_eq!(said, Err(Fate::DroppedNotConsented));
    }

    #[test]
    fn a_closed_row_admits_nothing_at_any_time() {
        let row = ConsentEntry {
            from_tai_ns: CLOSED,
            ..ConsentEntry::new(3, 9, Size::Standard, 10, 0..=u64::MAX - 1)
        };
        for now in [0, 1, u64::MAX - 1] {
            let said = row.admit(&header(3, 9), 1472, now, 0);
            assert_eq!(said, Err(Fate::DroppedEarly), "{now}");
        }
    }

    #[test]
    fn rows_have_no_padding() {
        // They are compared and hashed as bytes by the kernel.
        assert_eq!(size_of::<ConsentKey>(), 16 + 16 + 8);
        assert_eq!(size_of::<ConsentEntry>(), 5 * 8 + 2 + 2 + 4);
    }
}
