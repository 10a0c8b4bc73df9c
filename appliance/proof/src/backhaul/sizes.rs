//! How long each kind of statement may be, and that a whole session fits into evidence.
//!
//! ```text
//!   terms ─► most(kind) ─► the coordinator's door: refused by its length, before it is read
//!                      └─► session_most(terms) ≤ SESSION_MOST ≤ EVIDENCE_MAX: what anybody can bring to a jury
//! ```
//! **Guarantees.** No session that the rules let in makes a bundle that is too long for a dispute. **Limits.** Bounds,
//! not sizes: statements of honest parties are far shorter. **Tests.** Below.

use plumbline_trust::evidence::EVIDENCE_MAX;
use plumbline_wire::header::HEADER_LEN;

use super::messages::{ABORT_WORDS_MAX, Kind, Statement};
use super::params::{ECHOES_MOST, MAX_CAP_PACKETS, MAX_CHALLENGERS, Terms};

/// Bytes of one echo in a report: window, length, header, time, signature.
const ECHO_BYTES: u64 = 1 + 4 + HEADER_LEN as u64 + 8 + 64;
/// Bytes that a message of fixed fields may have: twice what the longest of them takes.
const FIELDS: u64 = 512;
/// Bytes of a notice beside its challengers: its pool, 20 bytes an address.
const NOTICE: u64 = 1 << 20;
/// Bytes of a sender in a consent, of a member in a notice: 104 and 116, and a little.
const PARTY: u64 = 128;
/// Bytes of a reveal's accounting beside its entries of each challenger: arrivals by slice, fates by name.
const ACCOUNTING: u64 = 64 << 10;
/// Bytes of a reveal's entries of one challenger beside its bitmap: root, length, packets received.
const REVEALED: u64 = 64;
/// Bytes of a report beside its echoes: times, send log, arrivals and fates, another commitment.
const REPORTED: u64 = 16 << 10;
/// Bytes of a bundle and of evidence beside the log: the judgement (a check a party, some 200 bytes each, and a
/// standing), the facts of the chain, addresses and signatures.
const AROUND: u64 = 512 << 10;

/// Most bytes of all statements of one session, their signatures with them.
pub const SESSION_MOST: u64 = session(MAX_CHALLENGERS as u64, MAX_CAP_PACKETS, ECHOES_MOST);

const _: () = assert!(SESSION_MOST + AROUND <= EVIDENCE_MAX as u64);

/// Most bytes of the message of a kind under these terms.
pub fn most(kind: Kind, terms: &Terms) -> u64 {
    bytes(
        kind,
        u64::from(terms.n),
        terms.cap_packets(),
        terms.echoes_most(),
    )
}

/// Most bytes of all statements of a session of these terms, their signatures with them.
pub fn session_most(terms: &Terms) -> u64 {
    session(u64::from(terms.n), terms.cap_packets(), terms.echoes_most())
}

/// Of n challengers that each send `cap` packets at most and report `echoes` at most.
const fn bytes(kind: Kind, n: u64, cap: u64, echoes: u64) -> u64 {
    match kind {
        Kind::Notice => NOTICE + n * PARTY,
        Kind::SeedCommitment | Kind::Begun | Kind::Ready | Kind::Start => FIELDS,
        Kind::Consent => FIELDS + n * PARTY,
        Kind::Commit => FIELDS + n * 4,
        Kind::Reveal => ACCOUNTING + n * (REVEALED + cap.div_ceil(8)),
        Kind::Report => REPORTED + echoes * ECHO_BYTES,
        Kind::Abort => FIELDS + ABORT_WORDS_MAX as u64,
    }
}

const fn session(n: u64, cap: u64, echoes: u64) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at < Kind::ALL.len() {
        let kind = Kind::ALL[at];
        let said_by = match kind {
            Kind::SeedCommitment | Kind::Ready | Kind::Report => n,
            // The prover's, and each challenger's.
            Kind::Abort => n + 1,
            _ => 1,
        };
        sum += said_by * (bytes(kind, n, cap, echoes) + Statement::AROUND as u64);
        at += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backhaul::messages::{Accounting, Consent, Rtt, Sender, Window};
    use crate::backhaul::params::{DEADLINE_DURATIONS, OFFER_PERCENT};
    use plumbline_trust::encoding::encode;
    use plumbline_trust::identity::Signature;
    use proptest::prelude::*;

    /// Terms of 64 challengers for 10 s, of so many packets each in the time that is asked for.
    fn terms(packets: u64) -> Terms {
        let n = u64::from(MAX_CHALLENGERS);
        Terms::downlink(packets * 8 * 1500 * n / 10, MAX_CHALLENGERS, 0, 10_000)
    }

    /// So many that each may send the most that the rules take.
    const LARGEST: u64 = MAX_CAP_PACKETS * 100 / (OFFER_PERCENT * DEADLINE_DURATIONS);

    #[test]
    fn the_longest_session_fits_into_evidence_and_one_report_of_40_mib_does_not() {
        let largest = terms(LARGEST).check().unwrap();
        assert!(terms(LARGEST + 1).check().is_err());
        let sum = session_most(&largest);
        assert!(
            sum <= SESSION_MOST && sum > SESSION_MOST - (64 << 10),
            "{sum}"
        );
        assert!(SESSION_MOST + AROUND <= EVIDENCE_MAX as u64);
        assert!(most(Kind::Report, &largest) < 512 << 10);
    }

    #[test]
    fn what_an_honest_party_says_at_most_is_taken() {
        let terms = terms(LARGEST);
        let n = usize::from(terms.n);
        let address: std::net::SocketAddr = "[fd00::1]:7301".parse().unwrap();
        let sender = Sender {
            index: 0,
            seed_hash: [0; 32],
            ephemeral: [0; 32],
            data: address,
            control: address,
        };
        let consent = Consent {
            challenge: [0; 32],
            data: address,
            control: address,
            ephemeral: [0; 32],
            cap_packets: 0,
            until_ns: 0,
            senders: vec![sender; n],
        };
        assert!(encode(&consent).len() as u64 <= most(Kind::Consent, &terms));
        let echo = Rtt {
            window: Window::During,
            echo: vec![0; HEADER_LEN],
            received_ns: 0,
            signature: Signature([0; 64]),
        };
        assert_eq!(encode(&echo).len() as u64, ECHO_BYTES);
        // Every word of the accounting as long as those of the longest datapath.
        let word = "x".repeat(100);
        let told = Accounting {
            fates: vec![(word.clone(), 0); 200],
            received: vec![0; n],
            histogram: vec![0; 250],
            datapath: vec![(word.clone(), word); 56],
            ..Accounting::default()
        };
        assert!(encode(&told).len() as u64 <= ACCOUNTING);
    }

    proptest! {
        #[test]
        fn no_terms_ask_for_more_than_the_most(
            claim_bps in 1..=100_000_000_000u64, n in 1..=MAX_CHALLENGERS, f in 0..=21u16, duration_ms in 10..=10_000u32
        ) {
            let terms = Terms::downlink(claim_bps, n, f, duration_ms);
            prop_assume!(terms.check().is_ok());
            prop_assert!(session_most(&terms) <= SESSION_MOST);
        }
    }
}
