//! Evidence against a participant, one format for all proofs.
//!
//! ```text
//!  reporter ─► Evidence ─► seal ─► address ─► the chain (dispute, bond)      bytes ─► any HTTP store
//!                                                    │                              │
//!                                       jury drawn ──┴─► fetch, compare address ◄───┘
//!                                                        examine: a pure function of these bytes ─► vote
//! ```
//! It says which proof is to read it, what it is about and whom it accuses; what convinces is in
//! `exhibits`, in that proof's own encoding. Facts of the chain that the verifier needs are exhibits too:
//! a juror compares them with the chain, anyone else can take them or leave them.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::container::{Container, Damage};
use crate::encoding::{Digest, decode, domain, encode};
use crate::identity::Address;

/// Longest name of a proof, bytes: it is a short string on the chain.
pub const NAME_MAX: usize = 31;
/// Longest evidence, bytes: all statements of the largest session at their longest (64 challengers of four million
/// packets each), which the proof checks when it is built. 64 challengers at 10 Gbit/s for 10 s are a bundle of 1 MB.
pub const EVIDENCE_MAX: usize = 64 << 20;

const FILE: Container = Container {
    magic: b"PLUMBEVD",
    version: 1,
    context: domain::EVIDENCE,
};

/// Evidence.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// The proof that it is brought to, by its name on the chain: `backhaul`.
    pub proof: String,
    /// What it is about: a measurement's id.
    pub subject: Digest,
    /// Whom it accuses.
    pub accused: Address,
    /// What convinces, in the proof's own encoding.
    pub exhibits: Vec<u8>,
}

/// Why bytes are no evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// The file is not whole.
    #[error("evidence: {0}")]
    Damaged(#[from] Damage),
    /// Longer than allowed.
    #[error("evidence: {0} bytes; allowed: at most {EVIDENCE_MAX}")]
    TooLong(usize),
    /// The body is not canonical.
    #[error("evidence: body: {0}")]
    Encoding(String),
    /// The name is none of a proof.
    #[error("evidence: proof: {0:?}; allowed: 1 to {NAME_MAX} of a-z and _")]
    Name(String),
}

/// What came of examining evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it shows an offence of the accused.
    pub holds: bool,
    /// Which, or why not: for people.
    pub why: String,
}

impl Finding {
    /// It shows this.
    pub fn offence(why: impl Into<String>) -> Self {
        Self {
            holds: true,
            why: why.into(),
        }
    }

    /// It shows nothing, because of this.
    pub fn nothing(why: impl Into<String>) -> Self {
        Self {
            holds: false,
            why: why.into(),
        }
    }
}

impl Evidence {
    /// Its file, and the address that goes on the chain.
    pub fn seal(&self) -> (Vec<u8>, Digest) {
        FILE.seal(&encode(self))
    }

    /// Whether `bytes` begin like evidence.
    pub fn begins(bytes: &[u8]) -> bool {
        FILE.begins(bytes)
    }

    /// Whether these bytes are what the address `address` names.
    pub fn is_at(bytes: &[u8], address: &Digest) -> bool {
        FILE.address(bytes).is_some_and(|a| a == *address)
    }

    /// Reads a file; returns its address as well.
    ///
    /// # Errors
    /// See [`EvidenceError`].
    pub fn open(bytes: &[u8]) -> Result<(Self, Digest), EvidenceError> {
        if bytes.len() > EVIDENCE_MAX {
            return Err(EvidenceError::TooLong(bytes.len()));
        }
        let (body, address) = FILE.open(bytes)?;
        let evidence: Self = decode(body).map_err(EvidenceError::Encoding)?;
        let name = &evidence.proof;
        let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if name.is_empty() || name.len() > NAME_MAX || !is_plain {
            return Err(EvidenceError::Name(name.clone()));
        }
        Ok((evidence, address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(proof: &str) -> Evidence {
        Evidence {
            proof: proof.into(),
            subject: [1; 32],
            accused: Address([2; 20]),
            exhibits: vec![3; 40],
        }
    }

    #[test]
    fn comes_back_as_it_went_and_names_its_proof() {
        let (bytes, address) = evidence("backhaul").seal();
        assert_eq!(Evidence::open(&bytes), Ok((evidence("backhaul"), address)));
        assert!(Evidence::begins(&bytes));
        assert!(Evidence::is_at(&bytes, &address));
        let mut bent = bytes.clone();
        bent[30] ^= 1;
        assert!(!Evidence::is_at(&bent, &address) && !Evidence::is_at(&bytes, &[0; 32]));
        let longest = "a".repeat(NAME_MAX);
        assert!(Evidence::open(&evidence(&longest).seal().0).is_ok());
        for name in ["", "Backhaul", "back haul", &format!("{longest}a")] {
            let refused = Evidence::open(&evidence(name).seal().0);
            assert_eq!(refused, Err(EvidenceError::Name(name.into())));
        }
    }

    #[test]
    fn what_is_left_over_or_too_long_is_refused() {
        let mut body = encode(&evidence("backhaul"));
        body.push(0);
        let refused = Evidence::open(&FILE.seal(&body).0);
        assert!(matches!(refused, Err(EvidenceError::Encoding(_))));
        let mut large = evidence("backhaul");
        large.exhibits = vec![0; EVIDENCE_MAX];
        let bytes = large.seal().0;
        assert_eq!(
            Evidence::open(&bytes),
            Err(EvidenceError::TooLong(bytes.len()))
        );
    }
}
