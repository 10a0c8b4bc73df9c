//! Round trips: which one is credited, and when the prover may have inflated them.

use plumbline_trust::encoding::decode;
use plumbline_trust::identity::{Signature, VerifyingKey};
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{HEADER_LEN, Header, Kind, TAGGED_LEN};

use super::estimate::mad;
use super::messages::{ECHO_DOMAIN, Rtt, Window, session_of};
use super::params::V7_DURATION_PART;

/// What the round trips of one report say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RttSummary {
    /// Smallest before the flood, ns.
    pub before_ns: Option<u64>,
    /// Smallest while the link was full, ns: shows queueing, is not judged.
    pub during_ns: Option<u64>,
    /// Smallest after it, ns.
    pub after_ns: Option<u64>,
    /// ρ: smallest of all, ns.
    pub rho_ns: u64,
    /// The idle windows disagree with each other, or with what is remembered, by more than max(3·MAD of
    /// either, D/100), or one is missing: somebody may be delaying echoes.
    pub inflated: bool,
    /// What the estimate may subtract, ns: ρ, at most what is remembered.
    pub credited_ns: u64,
}

/// What a challenger knows of the path to a prover without this session, ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The smallest round trip that it remembers; the largest number where none. A prover that begins to
    /// delay its echoes cannot change it.
    pub smallest_ns: u64,
    /// A round trip that no prover can ever have inflated: light's, or 0.
    pub floor_ns: u64,
}

/// Summarises samples of (window, round trip in ns).
pub fn summarise(samples: &[(Window, u64)], known: Known, duration_ns: u64) -> RttSummary {
    let of = |w: Window| samples.iter().filter(move |s| s.0 == w).map(|s| s.1);
    let (before, during, after) = (
        of(Window::Before).min(),
        of(Window::During).min(),
        of(Window::After).min(),
    );
    // Each window's own spread: pooled, an inflated window would hide in the spread that it makes.
    let spread = |w| mad(&of(w).collect::<Vec<u64>>());
    let spread = spread(Window::Before).max(spread(Window::After));
    let allowed = spread.saturating_mul(3).max(duration_ns / V7_DURATION_PART);
    let rho_ns = samples.iter().map(|s| s.1).min().unwrap_or(0);
    let longest = known.smallest_ns.saturating_add(allowed);
    let inflated = before
        .zip(after)
        .is_none_or(|(b, a)| b.abs_diff(a) > allowed || b.max(a) > longest);
    // The smallest of three windows: a prover raises it only by delaying in all of them.
    let credited_ns = rho_ns.min(known.smallest_ns).max(known.floor_ns);
    RttSummary {
        before_ns: before,
        during_ns: during,
        after_ns: after,
        rho_ns,
        inflated,
        credited_ns,
    }
}

/// A probe's 64 bytes.
pub fn probe(
    challenge: &[u8; 32],
    index: u16,
    number: u64,
    now_ns: u64,
    key: &SessionKey,
) -> [u8; HEADER_LEN] {
    sealed(Kind::Probe, challenge, index, number, now_ns, key)
}

/// An acknowledgement's 64 bytes.
pub fn ack(challenge: &[u8; 32], index: u16, now_ns: u64, key: &SessionKey) -> [u8; HEADER_LEN] {
    sealed(Kind::CommitAck, challenge, index, 0, now_ns, key)
}

/// A header of ours with its cookie and tag.
pub fn sealed(
    kind: Kind,
    challenge: &[u8; 32],
    index: u16,
    sequence: u64,
    sent_ns: u64,
    key: &SessionKey,
) -> [u8; HEADER_LEN] {
    let header = Header {
        kind,
        phase: 0,
        session: session_of(challenge),
        index,
        sequence,
        sent_ns,
        cookie: 0,
        tag: [0; 8],
    };
    let mut bytes = header.to_bytes();
    key.seal(&mut bytes);
    bytes
}

/// Checks one echo: header, tag, prover's signature; gives its round trip in ns and the number of
/// the probe it answers.
pub fn open(
    rtt: &Rtt,
    challenge: &[u8; 32],
    index: u16,
    key: &SessionKey,
    prover: &VerifyingKey,
) -> Option<(u64, u64)> {
    let bytes: &[u8; HEADER_LEN] = rtt.echo.as_slice().try_into().ok()?;
    let header = Header::from_bytes(bytes).ok()?;
    let ours = header.kind == Kind::Echo
        && header.session == session_of(challenge)
        && header.index == index
        && key.check(bytes);
    if !ours {
        return None;
    }
    prover
        .verify(ECHO_DOMAIN, &bytes[..TAGGED_LEN], &rtt.signature)
        .ok()?;
    Some((
        header.sequence,
        rtt.received_ns.checked_sub(header.sent_ns)?,
    ))
}

/// Round trip of a sample whose echo is not checked (again), ns.
pub fn span_ns(rtt: &Rtt) -> Option<u64> {
    let header = Header::from_bytes(rtt.echo.as_slice().try_into().ok()?).ok()?;
    rtt.received_ns.checked_sub(header.sent_ns)
}

/// Splits an echo datagram into its header and signature.
pub fn split(datagram: &[u8]) -> Option<([u8; HEADER_LEN], Signature)> {
    let (head, rest) = datagram.split_first_chunk::<HEADER_LEN>()?;
    Some((*head, decode(rest).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Known = Known {
        smallest_ns: u64::MAX,
        floor_ns: 7,
    };

    #[test]
    fn the_smallest_of_all_windows_is_credited() {
        let s = summarise(
            &[
                (Window::Before, 500),
                (Window::During, 400),
                (Window::After, 450),
            ],
            NOTHING,
            100_000_000,
        );
        assert_eq!((s.rho_ns, s.inflated, s.credited_ns), (400, false, 400));
    }

    #[test]
    fn idle_windows_that_disagree_are_flagged_just_past_the_bound() {
        let one = 1_000_000; // D/100
        let at = |after| {
            summarise(
                &[
                    (Window::Before, one),
                    (Window::Before, one),
                    (Window::After, after),
                    (Window::After, after),
                    (Window::Before, one),
                ],
                NOTHING,
                100_000_000,
            )
        };
        assert!(!at(2 * one).inflated);
        assert!(at(2 * one + 1).inflated);
    }

    #[test]
    fn without_an_idle_window_it_is_flagged() {
        let s = summarise(&[(Window::Before, 9)], NOTHING, 100);
        assert_eq!((s.inflated, s.credited_ns), (true, 9));
        let s = summarise(&[], NOTHING, 100);
        assert_eq!((s.inflated, s.credited_ns), (true, 7));
    }

    #[test]
    fn a_prover_that_always_delays_is_held_to_what_is_remembered() {
        const MS: u64 = 1_000_000;
        let always = |ns| {
            [
                (Window::Before, ns),
                (Window::During, ns),
                (Window::After, ns),
            ]
        };
        let at = |ns, smallest_ns| {
            let known = Known {
                smallest_ns,
                floor_ns: 0,
            };
            let s = summarise(&always(ns), known, 100 * MS);
            (s.inflated, s.credited_ns)
        };
        assert_eq!(
            at(51 * MS, u64::MAX),
            (false, 51 * MS),
            "nothing to hold it to"
        );
        assert_eq!(at(51 * MS, MS), (true, MS));
        // D/100 is 1 ms: a path may vary by that much, and is credited the smallest all the same.
        assert_eq!(at(2 * MS, MS), (false, MS));
        assert_eq!(at(2 * MS + 1, MS), (true, MS));
        assert_eq!(at(MS, 2 * MS), (false, MS), "a path may become shorter");
    }
}
