//! What a bundle says against a party of its own measurement, for a jury.
//!
//! | accused | offence | shown by | stands on the signature of |
//! |---|---|---|---|
//! | coordinator | posted a bundle that does not replay | V0, V1 of the posted bundle | its transaction, which names the bundle |
//! | coordinator | posted a bundle of another measurement: other parties, keys, terms, draw or set-up than the chain's | the notice and the consent in it | the same |
//! | coordinator | posted a result that its own bundle does not give | B_g(0), B_g(f), verdict | the same |
//! | prover | revealed what its signed commitment does not say | V4, both on record | the prover: Commit and Reveal |
//! | prover | told a challenger another commitment than it put on record | V13 | the prover: both Commits |
//! | challenger | revealed a seed or key that its signed commitment does not open | V2 | the challenger: SeedCommitment and Report |
//!
//! A prover or challenger is convicted only by what it signed with the key that it is registered with, judged by the
//! terms and the set-up that are on the chain: neither the coordinator's notice nor a line left out of its log adds
//! to that. What two parties say differently of each other (V3), and what a bad network does as well as a liar (V5,
//! V10), lowers a figure or a pay and convicts nobody.

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_trust::encoding::{Digest, decode, encode};
use plumbline_trust::evidence::{Evidence, Finding};
use plumbline_trust::identity::{Address, VerifyingKey};

use super::NAME;
use super::bundle::{self, Verified};
use super::messages::{Consent, Member};
use super::params::Terms;
use super::record::Record;
use super::verdict::Check;

/// What the chain says of the measurement. Part of the evidence, so that it can be examined anywhere; who
/// acts on it compares it with the chain.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Posted {
    /// Who posted.
    pub coordinator: Address,
    /// Whose link.
    pub prover: Address,
    /// Who was drawn, in order.
    pub challengers: Vec<Address>,
    /// Network keys that the coordinator, the prover and the challengers are registered with; zero: no longer.
    pub keys: Vec<VerifyingKey>,
    /// Who pays.
    pub payer: Address,
    /// What is measured; none: what no appliance measures.
    pub terms: Option<Terms>,
    /// Price of one byte in base units.
    pub price_per_byte: u128,
    /// Unix seconds after which the contract refunds.
    pub deadline: u64,
    /// Beacon of the draw.
    pub beacon: Digest,
    /// Places of the pool that was drawn from.
    pub pool: u32,
    /// What was anchored at the begin: [`Consent::setup_hash`].
    pub setup: Digest,
    /// Address of the bundle.
    pub bundle: Digest,
    /// As computed by the contract when it was posted: 1 pass, 2 fail, 3 inconclusive.
    pub verdict: u8,
    /// B_g(0) as computed by the contract, bit/s.
    pub lower_bps: u64,
    /// B_g(f) as computed by the contract, bit/s.
    pub guaranteed_bps: u64,
}

impl Posted {
    /// Where the record of a bundle says otherwise than the chain: who posted it answers for that, and it says
    /// nothing about anyone else. A session that the chain anchored and everyone agreed to cannot differ.
    pub fn differs(&self, subject: &Digest, record: &Record) -> Option<&'static str> {
        let notice = &record.notice.message;
        let drawn = notice.challengers.iter();
        let members = || {
            [&notice.coordinator, &notice.prover]
                .into_iter()
                .chain(drawn.clone())
        };
        let chain = [&self.coordinator, &self.prover]
            .into_iter()
            .chain(&self.challengers);
        // Who has left since has no key there any more: its stake outlived the time in which it can be accused.
        let keys = self.keys.iter().zip(members());
        let other_key =
            |(key, member): (&VerifyingKey, &Member)| *key != LEFT && *key != member.key;
        let setup = record
            .consent
            .as_ref()
            .map(|c| Consent::setup_hash(&c.signed));
        let same_draw = (self.beacon, self.pool) == (notice.beacon, notice.pool);
        [
            ("measurement", notice.challenge != *subject),
            (
                "parties",
                !chain.eq(members().map(|m| &m.address)) || self.payer != notice.payer,
            ),
            (
                "network keys",
                self.keys.len() != members().count() || keys.into_iter().any(other_key),
            ),
            ("terms", self.terms != Some(notice.terms)),
            ("price", self.price_per_byte != notice.price_per_byte),
            ("deadline", self.deadline != notice.deadline),
            ("draw", !same_draw),
            ("set-up", setup != Some(self.setup)),
        ]
        .into_iter()
        .find_map(|(what, differs)| differs.then_some(what))
    }

    /// What this party is called in a judgement, and its registered key.
    fn party(&self, accused: &Address) -> Option<(String, VerifyingKey)> {
        let (who, at) = if *accused == self.prover {
            ("prover".to_owned(), 1)
        } else {
            let index = self.challengers.iter().position(|c| c == accused)?;
            (format!("challenger {index}"), 2 + index)
        };
        Some((who, *self.keys.get(at)?))
    }
}

/// In place of the key of who is not registered any more.
pub const LEFT: VerifyingKey = VerifyingKey([0; 32]);

#[derive(BorshSerialize, BorshDeserialize)]
struct Exhibits {
    posted: Posted,
    bundle: Vec<u8>,
}

/// Evidence against `accused` in the measurement `subject`.
pub fn accuse(subject: Digest, accused: Address, posted: Posted, bundle: Vec<u8>) -> Evidence {
    Evidence {
        proof: NAME.into(),
        subject,
        accused,
        exhibits: encode(&Exhibits { posted, bundle }),
    }
}

/// What the evidence says that the chain says.
///
/// # Errors
/// In words: these are no exhibits of this proof.
pub fn posted(evidence: &Evidence) -> Result<Posted, String> {
    decode::<Exhibits>(&evidence.exhibits).map(|e| e.posted)
}

/// What it shows: a pure function of its bytes.
pub fn examine(evidence: &Evidence) -> Finding {
    let exhibits: Exhibits = match decode(&evidence.exhibits) {
        Ok(exhibits) => exhibits,
        Err(why) => return Finding::nothing(format!("exhibits: {why}")),
    };
    let Exhibits { posted, bundle } = exhibits;
    if bundle::address(&bundle) != Some(posted.bundle) {
        return Finding::nothing("the bundle is not the one that was posted");
    }
    let accused = evidence.accused;
    let verified = bundle::verify(&bundle);
    if accused == posted.coordinator {
        return of_coordinator(&evidence.subject, &posted, &verified);
    }
    let Some((who, key)) = posted.party(&accused) else {
        return Finding::nothing(format!("{accused} is no party of this measurement"));
    };
    if key == LEFT {
        return Finding::nothing(format!("{accused} is not registered any more"));
    }
    let charges: &[&str] = match accused == posted.prover {
        true => &["V4", "V13"],
        false => &["V2"],
    };
    // Of another measurement, or of this one in other words, it says nothing about this one's parties.
    let record = verified.record.as_ref();
    if record.is_none_or(|r| posted.differs(&evidence.subject, r).is_some()) {
        return Finding::nothing("the bundle does not hold up: accuse its coordinator");
    }
    let charged = |c: &&Check| charges.contains(&c.check.as_str());
    let broken = verified
        .checks
        .iter()
        .filter(charged)
        .find(|c| !c.ok && c.culprit.as_deref() == Some(who.as_str()));
    match broken {
        Some(c) => Finding::offence(format!("{} {}: {}", c.check, c.name, c.detail)),
        None => Finding::nothing(format!("{} of {who} hold", charges.join(" and "))),
    }
}

fn of_coordinator(subject: &Digest, posted: &Posted, verified: &Verified) -> Finding {
    let Some((record, judgement)) = verified.record.as_ref().zip(verified.judgement.as_ref())
    else {
        let broken = verified.checks.iter().find(|c| !c.ok);
        let why = broken.map_or_else(String::new, |c| format!(": {}: {}", c.name, c.detail));
        return Finding::offence(format!("the posted bundle does not replay{why}"));
    };
    if let Some(what) = posted.differs(subject, record) {
        return Finding::offence(format!(
            "the posted bundle is of another measurement: its {what} and the chain's differ"
        ));
    }
    let verdict = judgement.verdict as u8;
    let same = judgement.lower_bps() == posted.lower_bps
        && judgement.guaranteed_bps() == posted.guaranteed_bps
        && verdict == posted.verdict;
    if same {
        return Finding::nothing("the posted result is the one that its bundle gives");
    }
    Finding::offence(format!(
        "the bundle gives verdict {verdict}, B_g(0) {} and B_g(f) {} bit/s; posted: verdict {}, {} and {} bit/s",
        judgement.lower_bps(),
        judgement.guaranteed_bps(),
        posted.verdict,
        posted.lower_bps,
        posted.guaranteed_bps
    ))
}
