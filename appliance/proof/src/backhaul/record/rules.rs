//! What one statement must be beside what was said before it: by whom, of which challenge, with fields that agree.

use std::net::SocketAddr;

use plumbline_trust::identity::{Signed, VerifyingKey};
use plumbline_trust::session::Ephemeral;

use super::super::messages::{ChallengeId, Consent, Report, Reveal};
use super::super::params::{DEADLINE_DURATIONS, SLICES};
use super::super::uplink;
use super::{Kept, Record, Refusal, seed_hash};

/// Most names of fates and of the packet path in a reveal: far above what there are. Their bytes are bounded by the
/// reveal's ([`sizes`]).
const WORDS_MOST: usize = 256;

impl Record {
    pub(super) fn same(
        &self,
        what: &'static str,
        challenge: &ChallengeId,
        phase: u8,
    ) -> Result<(), Refusal> {
        if challenge != self.challenge() || phase != 0 {
            return Err(Refusal::OtherChallenge(what));
        }
        Ok(())
    }

    pub(super) fn prover(&self, what: &'static str, signed: &Signed) -> Result<(), Refusal> {
        author(what, "the prover", signed, self.notice.message.prover.key)
    }

    pub(super) fn challenger(
        &self,
        what: &'static str,
        signed: &Signed,
        index: u16,
    ) -> Result<usize, Refusal> {
        let at = usize::from(index);
        let member = self
            .notice
            .message
            .challengers
            .get(at)
            .ok_or_else(|| Refusal::Field {
                what,
                why: format!("index {index} of {} challengers", self.seeds.len()),
            })?;
        author(
            what,
            "the challenger that its index names",
            signed,
            member.key,
        )?;
        if self.unbound[at] {
            return Err(Refusal::Field {
                what,
                why: format!(
                    "network key {} did not sign for {}",
                    member.key, member.address
                ),
            });
        }
        Ok(at)
    }

    /// A consent must name each sender as it named itself, once, in order, and keep to the cap.
    pub(super) fn consented(&self, consent: &Consent) -> Result<(), Refusal> {
        let field = |what, why: String| Err(Refusal::Field { what, why });
        let cap = self.notice.message.terms.cap_packets();
        if consent.cap_packets != cap {
            return field(
                "consent.cap_packets",
                format!("is {}; the terms give {cap}", consent.cap_packets),
            );
        }
        half("consent.ephemeral", &consent.ephemeral)?;
        // Those of the senders are as they committed themselves: looked at there.
        self.family("consent.data", consent.data)?;
        self.family("consent.control", consent.control)?;
        // Echoes from the one show that the other is the prover's.
        if consent.data.ip() != consent.control.ip() {
            return field(
                "consent.data",
                format!(
                    "is {}; data goes only to the address that echoes come from, {}",
                    consent.data.ip(),
                    consent.control.ip()
                ),
            );
        }
        if !consent.senders.is_sorted_by(|a, b| a.index < b.index) {
            return field(
                "consent.senders",
                "must be in order of their indices, each once".into(),
            );
        }
        for sender in &consent.senders {
            let said = self
                .seeds
                .get(usize::from(sender.index))
                .and_then(Option::as_ref)
                .map(|k| &k.message);
            let agrees = said.is_some_and(|s| {
                (s.seed_hash, s.ephemeral, s.data, s.control)
                    == (
                        sender.seed_hash,
                        sender.ephemeral,
                        sender.data,
                        sender.control,
                    )
            });
            if !agrees {
                return field(
                    "consent.senders",
                    format!("sender {} is not as it committed itself", sender.index),
                );
            }
        }
        Ok(())
    }

    /// L counts the headers of one family, so no packet may go over the other. IPv4 in the clothes of IPv6
    /// is of neither.
    pub(super) fn family(&self, what: &'static str, address: SocketAddr) -> Result<(), Refusal> {
        let terms = self.notice.message.terms;
        let ip = address.ip();
        if [ip, ip.to_canonical()]
            .iter()
            .all(|ip| ip.is_ipv6() == terms.is_ipv6())
        {
            return Ok(());
        }
        let family = if terms.is_ipv6() { "IPv6" } else { "IPv4" };
        Err(Refusal::Field {
            what,
            why: format!(
                "is {address}; packets of {} bytes at the IP layer go over {family}",
                terms.packet_bytes
            ),
        })
    }

    pub(super) fn revealed(&self, reveal: &Reveal) -> Result<(), Refusal> {
        let n = self.seeds.len();
        let cap = usize::try_from(self.notice.message.terms.cap_packets().div_ceil(8))
            .unwrap_or(usize::MAX);
        let fits = |b: &Vec<u8>| b.len() <= cap && b.last() != Some(&0);
        if reveal.roots.len() != n || reveal.bitmaps.len() != n || !reveal.bitmaps.iter().all(fits)
        {
            return Err(Refusal::Field {
                what: "reveal",
                why: format!(
                    "must hold {n} roots and {n} bitmaps of at most {cap} bytes without trailing zeros"
                ),
            });
        }
        let told = &reveal.accounting;
        let slices = SLICES * (DEADLINE_DURATIONS + 1);
        if told.histogram.len() as u64 > slices
            || told.received.len() > n
            || told.fates.len() + told.datapath.len() > WORDS_MOST
        {
            return Err(Refusal::Field {
                what: "reveal.accounting",
                why: format!(
                    "has {} slices, {} challengers, {} words; at most {slices}, {n} and {WORDS_MOST}",
                    told.histogram.len(),
                    told.received.len(),
                    told.fates.len() + told.datapath.len()
                ),
            });
        }
        uplink::record::reveal(&self.notice.message, reveal)
    }

    /// True if a report's seed and X25519 secret open its challenger's commitment: its own words alone.
    pub fn opens(&self, index: usize, report: &Report) -> bool {
        let said = self.seeds.get(index).and_then(Option::as_ref);
        let own = Ephemeral::from_secret(report.ephemeral_secret).public();
        self.seed_opens(index, &report.seed) && said.is_some_and(|s| s.message.ephemeral == own)
    }

    /// True if `seed` opens challenger `index`'s commitment.
    pub fn seed_opens(&self, index: usize, seed: &[u8; 32]) -> bool {
        let said = self.seeds.get(index).and_then(Option::as_ref);
        said.is_some_and(|k| k.message.seed_hash == seed_hash(self.challenge(), seed))
    }
}

pub(super) fn author(
    what: &'static str,
    allowed: &'static str,
    signed: &Signed,
    key: VerifyingKey,
) -> Result<(), Refusal> {
    if signed.key == key {
        Ok(())
    } else {
        Err(Refusal::Author {
            what,
            allowed,
            key: signed.key,
        })
    }
}

/// With a half of small order everyone would know the session key, and nobody could agree on one.
pub(super) fn half(what: &'static str, half: &[u8; 32]) -> Result<(), Refusal> {
    if Ephemeral::takes(half) {
        return Ok(());
    }
    let why = "is an X25519 half of small order".into();
    Err(Refusal::Field { what, why })
}

pub(super) fn need<'a, T>(
    what: &'static str,
    missing: &'static str,
    have: Option<&'a T>,
) -> Result<&'a T, Refusal> {
    have.ok_or(Refusal::TooEarly { what, missing })
}

pub(super) fn keep<M>(
    what: &'static str,
    slot: &mut Option<Kept<M>>,
    signed: &Signed,
    message: M,
) -> Result<bool, Refusal> {
    match slot {
        None => {
            *slot = Some(Kept {
                signed: signed.clone(),
                message,
            });
            Ok(true)
        }
        Some(kept) if kept.signed == *signed => Ok(false),
        Some(_) => Err(Refusal::Conflict(what)),
    }
}
