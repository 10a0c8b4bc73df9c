//! The prover's part: what it sends to whom, and what it says of it afterwards. The set-up is
//! [`super::super::prover`]'s.

use std::net::SocketAddr;

use plumbline_trust::encoding::Digest;
use plumbline_trust::identity::{NetworkKey, Signed};

use super::super::keystream::{self, Train};
use super::super::messages::{Accounting, Commit, Reveal, Settlement, Statement};
use super::super::prover::{Opening, Prover, ProverAction};
use super::{flood_ns, packets_each, train};

/// Packets to make for one challenger, before T0.
pub struct Stream {
    /// Place in the draw.
    pub index: u16,
    /// Makes them.
    pub train: Train,
    /// How many.
    pub packets: u64,
}

/// What to send to one challenger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// Place in the draw.
    pub index: u16,
    /// Its data address.
    pub to: SocketAddr,
    /// r, bit/s at the IP layer.
    pub rate_bps: u64,
    /// First packet leaves, unix ns: T0.
    pub start_ns: u64,
    /// Sending ends at the latest, unix ns.
    pub deadline_ns: u64,
}

/// What was sent.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// Packets that the kernel took, by challenger.
    pub counts: Vec<u32>,
    /// When it took the first and the last, unix ns; zeros if none.
    pub span_ns: (u64, u64),
    /// What there is to say of the sender: errors by name, the engine.
    pub accounting: Accounting,
}

impl Prover {
    /// The packets to make once the consent is said; answer with [`Prover::made`].
    pub fn streams(&self, opening: &Opening) -> Vec<Stream> {
        let notice = &self.record.notice.message;
        let consented = opening.senders.iter().filter_map(|(index, _)| {
            let key = opening.keys.get(usize::from(*index))?.clone()?;
            Some(Stream {
                index: *index,
                train: train(notice, *index, key),
                packets: packets_each(&notice.terms),
            })
        });
        consented.collect()
    }

    /// The packets are made: from here on the start is possible.
    pub fn made(&mut self) {
        self.made = true;
    }

    /// What to send, once the start is said: to those that consented to it, have shown that they
    /// receive at their address, and are ready.
    pub fn floods(&self) -> Vec<Flood> {
        let (Some(t0_ns), Some(consent)) = (self.t0_ns, &self.record.consent) else {
            return Vec::new();
        };
        let terms = &self.record.notice.message.terms;
        let to = consent.message.senders.iter().filter_map(|sender| {
            self.record.ready.get(usize::from(sender.index))?.as_ref()?;
            Some(Flood {
                index: sender.index,
                to: sender.data,
                rate_bps: terms.offer_each_bps(),
                start_ns: t0_ns,
                deadline_ns: t0_ns.saturating_add(flood_ns(terms)),
            })
        });
        to.collect()
    }

    /// Says what was sent, signed for the record and for the contract.
    pub fn sent(
        &self,
        key: &NetworkKey,
        settlement: &dyn Settlement,
        sent: Sent,
    ) -> Vec<ProverAction> {
        let notice = &self.record.notice.message;
        let roots = roots(sent.counts.len());
        let commit = Commit {
            challenge: notice.challenge,
            phase: 0,
            packets: sent.counts.iter().map(|c| u64::from(*c)).sum(),
            response: keystream::response(&notice.challenge, 0, &sent.counts, &roots),
            counts: sent.counts,
            arrivals: sent.span_ns,
        };
        let reveal = Reveal {
            challenge: notice.challenge,
            phase: 0,
            bitmaps: vec![Vec::new(); roots.len()],
            roots,
            accounting: sent.accounting,
            settlement: settlement.sign_commit(notice, &commit),
        };
        vec![
            ProverAction::Say(Statement::Commit(Signed::new(key, &commit))),
            ProverAction::Say(Statement::Reveal(Signed::new(key, &reveal))),
        ]
    }
}

/// C_1 … C_n of a prover that received nothing: the digest of no packets, each.
pub(in super::super) fn roots(n: usize) -> Vec<Digest> {
    vec![keystream::root(0, std::iter::empty(), std::iter::empty()); n]
}
