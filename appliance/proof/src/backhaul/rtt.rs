//! Round trips: probes, echoes, acknowledgements, an uplink's seeds, and what opens them. No bound credits one: the prover makes the
//! echoes.

use plumbline_trust::encoding::decode;
use plumbline_trust::identity::{Signature, VerifyingKey};
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{HEADER_LEN, Header, Kind, TAGGED_LEN};

use super::messages::{ECHO_DOMAIN, Rtt, session_of};

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

/// A released seed's datagram: its header, and the seed, which the commitment to it authenticates.
pub fn seed(
    challenge: &[u8; 32],
    index: u16,
    number: u64,
    (now_ns, seed): (u64, &[u8; 32]),
    key: &SessionKey,
) -> Vec<u8> {
    let head = sealed(Kind::Seed, challenge, index, number, now_ns, key);
    [&head[..], seed].concat()
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
