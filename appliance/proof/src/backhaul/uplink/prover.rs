//! The prover's part: what it sends to whom, and what it says of it afterwards. The set-up is
//! [`super::super::prover`]'s.

use std::net::SocketAddr;

use plumbline_trust::encoding::Digest;
use plumbline_trust::identity::{NetworkKey, Signed};
use plumbline_trust::session::SessionKey;

use super::super::keystream::{self, Train};
use super::super::messages::{Accounting, Commit, Reveal, Settlement, Statement};
use super::super::prover::{Prover, ProverAction};
use super::{flood_ns, train};

/// What to send to one challenger, from now on.
pub struct Flood {
    /// Its data address.
    pub to: SocketAddr,
    /// Makes its packets.
    pub train: Train,
    /// r, bit/s at the IP layer.
    pub rate_bps: u64,
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
    /// What to send to challenger `index`, whose session key is `key`, now that it has released `seed`: nothing before
    /// the start, or if that is not the seed it committed itself to, or it is not ready.
    pub fn released(&self, index: u16, key: &SessionKey, seed: &[u8; 32]) -> Option<Flood> {
        let at = usize::from(index);
        let notice = &self.record.notice.message;
        let senders = &self.record.consent.as_ref()?.message.senders;
        let sender = senders.iter().find(|s| s.index == index)?;
        self.record.ready.get(at)?.as_ref()?;
        if !self.record.seed_opens(at, seed) {
            return None;
        }
        Some(Flood {
            to: sender.data,
            train: train(notice, index, key.clone(), seed),
            rate_bps: notice.terms.offer_each_bps(),
            deadline_ns: self.t0_ns?.saturating_add(flood_ns(&notice.terms)),
        })
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
