//! What of a session's log depends on the direction: all of it here.

use plumbline_trust::identity::VerifyingKey;
use plumbline_wire::header::{HEADER_LEN, Header, Kind, TAGGED_LEN};

use super::super::messages::{
    ECHO_DOMAIN, Notice, Ready, Report, Reveal, Rtt, SeedCommitment, session_of,
};
use super::super::params::Direction;
use super::super::record::Refusal;
use super::Window;

/// Most names of fates in a report, and most bytes of one: bounds the log, far above what is counted.
const FATES: (usize, usize) = (32, 64);

fn field(what: &'static str, why: impl Into<String>) -> Result<(), Refusal> {
    let why = why.into();
    Err(Refusal::Field { what, why })
}

fn up(notice: &Notice) -> bool {
    notice.terms.direction == Direction::Up
}

/// Data goes only where probes come from: that address is shown to be the challenger's by [`ready`].
pub(in super::super) fn seed(notice: &Notice, said: &SeedCommitment) -> Result<(), Refusal> {
    if up(notice) && said.data.ip() != said.control.ip() {
        return field(
            "seed-commitment.data",
            format!(
                "is {}; uplink data goes only to the address that probes come from, {}",
                said.data.ip(),
                said.control.ip()
            ),
        );
    }
    Ok(())
}

/// Whoever is ready for an uplink shows an echo that the prover sent to its control address.
pub(in super::super) fn ready(notice: &Notice, said: &Ready) -> Result<(), Refusal> {
    match (&said.reached, up(notice)) {
        (None, false) => Ok(()),
        (Some(echo), true) if echoed(echo, notice, said.index, &notice.prover.key) => Ok(()),
        (_, true) => field(
            "ready.reached",
            "must be an echo of this session that the prover signed for this challenger",
        ),
        (Some(_), false) => field("ready.reached", "belongs to an uplink"),
    }
}

/// Only the two ends of a session key can check its tags; anyone can check the prover's signature.
fn echoed(echo: &Rtt, notice: &Notice, index: u16, prover: &VerifyingKey) -> bool {
    let Ok(bytes) = <&[u8; HEADER_LEN]>::try_from(echo.echo.as_slice()) else {
        return false;
    };
    let ours = Header::from_bytes(bytes).is_ok_and(|h| {
        h.kind == Kind::Echo && h.session == session_of(&notice.challenge) && h.index == index
    });
    ours && prover
        .verify(ECHO_DOMAIN, &bytes[..TAGGED_LEN], &echo.signature)
        .is_ok()
}

/// The prover of an uplink has received nothing to prove.
pub(in super::super) fn reveal(notice: &Notice, said: &Reveal) -> Result<(), Refusal> {
    if up(notice) && said.bitmaps.iter().any(|b| !b.is_empty()) {
        return field("reveal.bitmaps", "must be empty in an uplink");
    }
    Ok(())
}

/// An uplink's report says what arrived, in the sub-intervals of the terms; no other does.
pub(in super::super) fn report(notice: &Notice, said: &Report) -> Result<(), Refusal> {
    let what = "report.arrivals";
    let (arrivals, up) = (said.arrivals.as_ref(), up(notice));
    let Some(arrivals) = arrivals.filter(|_| up) else {
        return match (up, arrivals) {
            (false, None) => Ok(()),
            (true, _) => field(what, "must be there in an uplink"),
            (false, _) => field(what, "belong to an uplink"),
        };
    };
    let slots = Window::new(&notice.terms, 0).slots;
    if arrivals.histogram.len() as u64 != slots {
        return field(
            what,
            format!(
                "have {} sub-intervals; the terms give {slots}",
                arrivals.histogram.len()
            ),
        );
    }
    let (most, longest) = FATES;
    if arrivals.fates.len() > most || arrivals.fates.iter().any(|(name, _)| name.len() > longest) {
        return field(
            what,
            format!("name more than {most} fates, or one in more than {longest} bytes"),
        );
    }
    Ok(())
}
