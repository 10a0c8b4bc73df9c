//! What a bundle says against a party of its own measurement, for a jury.
//!
//! | accused | offence | shown by |
//! |---|---|---|
//! | coordinator | posted a bundle that does not replay, or of another measurement | V0, V1 of the posted bundle |
//! | coordinator | posted a result that its own bundle does not give | B_g(0), B_g(f), verdict |
//! | prover | revealed what its signed commitment does not say | V4 |
//! | prover | told a challenger another commitment than it put on record | V13 |
//! | challenger | revealed a seed or key that its signed commitment does not open | V2 |
//!
//! Each stands by signatures of the accused alone. What two parties say differently of each other (V3), and
//! what a bad network does as well as a liar (V5, V10), lowers a figure or a pay and convicts nobody.

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_trust::encoding::{Digest, decode, encode};
use plumbline_trust::evidence::{Evidence, Finding};
use plumbline_trust::identity::Address;

use super::NAME;
use super::bundle::{self, Verified};
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
    /// Address of the bundle.
    pub bundle: Digest,
    /// As computed by the contract when it was posted: 1 pass, 2 fail, 3 inconclusive.
    pub verdict: u8,
    /// B_g(0) as computed by the contract, bit/s.
    pub lower_bps: u64,
    /// B_g(f) as computed by the contract, bit/s.
    pub guaranteed_bps: u64,
}

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
    let (charges, who): (&[&str], _) = if accused == posted.prover {
        (&["V4", "V13"], "prover".to_owned())
    } else if let Some(index) = posted.challengers.iter().position(|c| *c == accused) {
        (&["V2"], format!("challenger {index}"))
    } else {
        return Finding::nothing(format!("{accused} is no party of this measurement"));
    };
    // Of another measurement it says nothing about this one's parties.
    let of_this = |v: &Verified| {
        let notice = &v.record.as_ref()?.notice.message;
        let drawn = notice.challengers.iter().map(|c| c.address);
        let same = notice.challenge == evidence.subject
            && notice.prover.address == posted.prover
            && drawn.eq(posted.challengers.iter().copied());
        same.then_some(())
    };
    if of_this(&verified).is_none() {
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
    if record.notice.message.challenge != *subject {
        return Finding::offence("the posted bundle is of another measurement");
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
