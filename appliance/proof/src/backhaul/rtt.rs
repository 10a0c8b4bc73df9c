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
    /// The two idle windows disagree by more than max(3·MAD of either, D/100), or one is missing: the round
    /// trip is not credited.
    pub inflated: bool,
}

/// Summarises samples of (window, round trip in ns).
pub fn summarise(samples: &[(Window, u64)], duration_ns: u64) -> RttSummary {
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
    RttSummary {
        before_ns: before,
        during_ns: during,
        after_ns: after,
        rho_ns: samples.iter().map(|s| s.1).min().unwrap_or(0),
        inflated: before
            .zip(after)
            .is_none_or(|(b, a)| b.abs_diff(a) > allowed),
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

/// A header of ours with its tag.
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

    #[test]
    fn the_smallest_of_all_windows_is_credited() {
        let s = summarise(
            &[
                (Window::Before, 500),
                (Window::During, 400),
                (Window::After, 450),
            ],
            100_000_000,
        );
        assert_eq!((s.rho_ns, s.inflated), (400, false));
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
                100_000_000,
            )
        };
        assert!(!at(2 * one).inflated);
        assert!(at(2 * one + 1).inflated);
    }

    #[test]
    fn without_an_idle_window_nothing_is_credited() {
        assert!(summarise(&[(Window::Before, 5)], 100).inflated);
        assert!(summarise(&[], 100).inflated);
    }
}
