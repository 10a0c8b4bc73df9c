//! What of a judgement takes time, over all cores: every counted packet made again from its seed, and
//! the prover's signature under every echo.
//!
//! ```text
//!  challenger 0  │ groups 0‥15 │ 16‥31 │ … │ echoes 0‥7 │ … ┐
//!  challenger 1  │ groups 0‥15 │ 16‥31 │ … │ echoes 0‥7 │ … ├─► next piece ─► thread 1 … k ─┐
//!     ⋮                                                     ┘                              ▼
//!                                       C_i, round trips  ◄── put together in the pieces' order
//! ```
//!
//! Claim: the result is the same bit for bit whatever the number of threads, and one challenger with all
//! the packets keeps every thread busy. Not promised: that the machine's load leaves it those cores.
//! Tests: `judge` and `spread` below with 1, 2 and 7 threads.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use plumbline_trust::encoding::Digest;
use plumbline_trust::identity::VerifyingKey;
use plumbline_trust::session::SessionKey;

use super::keystream::{self, Train};
use super::messages::{ChallengeId, Rtt};
use super::rtt;

/// Groups that a thread takes at a time: 1024 packets, a third of a millisecond with AVX-512. Short
/// beside a verification, long beside what taking it costs.
const GROUPS_A_PIECE: usize = 16;
/// Echoes that a thread takes at a time: about as long.
const ECHOES_A_PIECE: usize = 8;

/// What a report claims, with what it takes to check it.
pub(super) struct Claim<'a> {
    /// Challenger.
    pub(super) index: u16,
    /// Its packets, from the seed that it revealed.
    pub(super) train: Train,
    /// Tags its echoes.
    pub(super) session: SessionKey,
    /// What the prover counted of it.
    pub(super) bitmap: &'a [u8],
    /// Its probes' answers.
    pub(super) rtts: &'a [Rtt],
}

/// What a claim comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// C_i of the packets that the seed gives and the bitmap names.
    pub(super) root: Digest,
    /// Probe number and round trip of each echo, ns; `None` where it does not open.
    pub(super) echoes: Vec<Option<(u64, u64)>>,
}

enum Piece {
    Groups(usize, Range<usize>),
    Echoes(usize, Range<usize>),
}

enum Part {
    Groups(usize, Vec<Digest>),
    Echoes(usize, Vec<Option<(u64, u64)>>),
}

/// Works every claim out, in their order, on `threads` threads.
pub(super) fn replay(
    claims: &[Claim<'_>],
    challenge: &ChallengeId,
    prover: &VerifyingKey,
    threads: NonZeroUsize,
) -> Vec<Found> {
    let mut pieces = Vec::new();
    for (at, claim) in claims.iter().enumerate() {
        let groups = claim.bitmap.len().div_ceil(8);
        pieces.extend(cut(groups, GROUPS_A_PIECE).map(|range| Piece::Groups(at, range)));
        pieces.extend(cut(claim.rtts.len(), ECHOES_A_PIECE).map(|r| Piece::Echoes(at, r)));
    }
    let work = |piece: &Piece| match piece {
        Piece::Groups(at, range) => {
            let claim = &claims[*at];
            let groups = claim.train.clone().groups(claim.bitmap, range.clone());
            Part::Groups(*at, groups)
        }
        Piece::Echoes(at, range) => {
            let claim = &claims[*at];
            let open = |r| rtt::open(r, challenge, claim.index, &claim.session, prover);
            Part::Echoes(*at, claim.rtts[range.clone()].iter().map(open).collect())
        }
    };
    let mut groups: Vec<Vec<Digest>> = vec![Vec::new(); claims.len()];
    let mut echoes: Vec<Vec<Option<(u64, u64)>>> = vec![Vec::new(); claims.len()];
    for part in spread(&pieces, threads, work) {
        match part {
            Part::Groups(at, some) => groups[at].extend(some),
            Part::Echoes(at, some) => echoes[at].extend(some),
        }
    }
    claims
        .iter()
        .zip(groups)
        .zip(echoes)
        .map(|((claim, groups), echoes)| {
            let bitmap = claim.bitmap;
            let words = keystream::words(bitmap);
            Found {
                root: keystream::root(bitmap.len(), words, groups.into_iter()),
                echoes,
            }
        })
        .collect()
}

/// C_i of those packets of `train` that `bitmap` names, a piece at a time: no more memory than their groups'
/// digests take.
pub(super) fn root(train: &Train, bitmap: &[u8]) -> Digest {
    let mut train = train.clone();
    let pieces = cut(bitmap.len().div_ceil(8), GROUPS_A_PIECE);
    let groups = pieces.flat_map(|range| train.groups(bitmap, range));
    keystream::root(bitmap.len(), keystream::words(bitmap), groups)
}

fn cut(length: usize, piece: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length)
        .step_by(piece)
        .map(move |from| from..(from + piece).min(length))
}

/// `work` of every item, in their order. Threads take the next item when they have done one; where no
/// more can be had, those that there are do the work.
fn spread<T: Sync, R: Send>(
    items: &[T],
    threads: NonZeroUsize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else {
                return done;
            };
            done.push((at, work(item)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.get().min(items.len()))
            .filter_map(|_| {
                let thread = std::thread::Builder::new().name("plumbline-judge".into());
                thread.spawn_scoped(scope, run).ok()
            })
            .collect();
        let mut all = run();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_keeps_its_order_whoever_does_it() {
        for threads in [1, 2, 7, 100].map(|n| NonZeroUsize::new(n).unwrap()) {
            for count in [0u64, 1, 2, 50] {
                let items: Vec<u64> = (0..count).collect();
                let squares: Vec<u64> = items.iter().map(|i| i * i).collect();
                assert_eq!(spread(&items, threads, |i| i * i), squares);
            }
        }
    }

    #[test]
    fn two_threads_that_take_turns_give_one_order() {
        let items: Vec<u64> = (0..64).collect();
        // Nobody ends an item before the other has one too.
        let both = std::sync::Barrier::new(2);
        let work = |i: &u64| {
            both.wait();
            *i
        };
        assert_eq!(spread(&items, NonZeroUsize::new(2).unwrap(), work), items);
    }

    #[test]
    fn pieces_cover_everything_once() {
        for length in 0..50 {
            let covered: Vec<usize> = cut(length, 16).flatten().collect();
            assert_eq!(covered, (0..length).collect::<Vec<_>>());
        }
    }
}
