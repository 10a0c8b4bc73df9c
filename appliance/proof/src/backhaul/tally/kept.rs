//! A digest that one thread makes while others may want it, kept with what it was made from.
//!
//! ```text
//!  keep:  version even ─► odd ─► make ─► digest, what from ─► even     another that comes in between leaves it
//!  kept:  version even ──────── read ────────────────► the same still  else: not whole
//! ```
//!
//! Claim: what [`Kept::kept`] gives is one whole digest, made from exactly what was asked for. Not
//! promised: that there is one; who needs it makes it then. Tests: below.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

use plumbline_trust::encoding::Digest;

/// A place for one digest, in one cache line.
#[repr(align(64))]
pub(super) struct Kept {
    /// 0: no digest yet; odd: one is being made; else it is whole (a sequence lock's count).
    version: AtomicU64,
    /// What the digest was made from: of a group its word, of a node above how many packets.
    made_from: AtomicU64,
    digest: [AtomicU64; 4],
}

impl Kept {
    /// Empty.
    pub(super) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            made_from: AtomicU64::new(0),
            digest: zeros(),
        }
    }

    /// Keeps what `make` gives, and what that was made from, in place of what was kept; unless it gives
    /// nothing, or another thread is at it: what that one does not see yet, the commitment will.
    pub(super) fn keep(&self, make: impl FnOnce() -> Option<(u64, Digest)>) {
        let version = self.version.load(Relaxed);
        let claimed = version.is_multiple_of(2)
            && self
                .version
                .compare_exchange(version, version + 1, Acquire, Relaxed)
                .is_ok();
        if !claimed {
            return;
        }
        let Some((from, digest)) = make() else {
            // Nothing was written: what was whole still is.
            self.version.store(version, Release);
            return;
        };
        fence(Release);
        store(&self.digest, &digest);
        self.made_from.store(from, Relaxed);
        self.version.store(version + 2, Release);
    }

    /// The kept digest, if it was made from this.
    pub(super) fn kept(&self, from: u64) -> Option<Digest> {
        let version = self.version.load(Acquire);
        let (made_from, digest) = (self.made_from.load(Relaxed), load(&self.digest));
        fence(Acquire);
        let whole =
            version != 0 && version.is_multiple_of(2) && self.version.load(Relaxed) == version;
        (whole && made_from == from).then_some(digest)
    }
}

/// A digest's words, all zero.
pub(super) fn zeros() -> [AtomicU64; 4] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

/// Writes a digest; what orders it for others is the caller's.
pub(super) fn store(words: &[AtomicU64; 4], digest: &Digest) {
    let (parts, _) = digest.as_chunks::<8>();
    for (word, part) in words.iter().zip(parts) {
        word.store(u64::from_le_bytes(*part), Relaxed);
    }
}

/// Reads a digest; what orders it is the caller's.
pub(super) fn load(words: &[AtomicU64; 4]) -> Digest {
    let mut digest = [0; 32];
    let (parts, _) = digest.as_chunks_mut::<8>();
    for (part, word) in parts.iter_mut().zip(words) {
        *part = word.load(Relaxed).to_le_bytes();
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thread writes digests of two words in turn, another reads that of one of them.
    #[test]
    fn a_kept_digest_is_never_torn() {
        const ROUNDS: u64 = 300_000;
        let of = |word: u64| {
            let mut digest = [0; 32];
            for part in digest.as_chunks_mut::<8>().0 {
                *part = word.to_le_bytes();
            }
            digest
        };
        let place = Kept::new();
        let read = std::thread::scope(|s| {
            let writer = s.spawn(|| {
                for round in 0..ROUNDS {
                    let word = 1 + round % 2;
                    place.keep(|| Some((word, of(word))));
                }
            });
            let mut read = 0;
            while !writer.is_finished() || read == 0 {
                // At the end it is 2 that is kept.
                let word = if writer.is_finished() { 2 } else { 1 };
                if let Some(digest) = place.kept(word) {
                    assert_eq!(digest, of(word));
                    read += 1;
                }
            }
            read
        });
        assert!(read > 0);
        // Each round is kept: there was no other writer.
        assert_eq!(place.version.load(Relaxed), 2 * ROUNDS);
    }

    #[test]
    fn of_two_that_make_one_digest_the_other_leaves_it() {
        let place = Kept::new();
        place.keep(|| {
            // Another thread comes in between.
            place.keep(|| Some((3, [9; 32])));
            assert_eq!(place.kept(3), None, "it is not whole yet");
            Some((3, [7; 32]))
        });
        assert_eq!((place.kept(3), place.kept(1)), (Some([7; 32]), None));
    }

    #[test]
    fn who_gives_up_leaves_what_was_kept_and_the_place_free() {
        let place = Kept::new();
        place.keep(|| None);
        assert_eq!(place.kept(0), None);
        place.keep(|| Some((3, [7; 32])));
        place.keep(|| None);
        assert_eq!(place.kept(3), Some([7; 32]));
        place.keep(|| Some((5, [8; 32])));
        assert_eq!((place.kept(3), place.kept(5)), (None, Some([8; 32])));
    }
}
