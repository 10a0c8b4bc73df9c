//! What the sequencer signs, and how its own signatures convict it.
//!
//! ```text
//!   seal(h) = secp256k1( keccak256( tag ‖ chain ‖ height ‖ block hash ) )     chain = hash of block 0
//!
//!   two seals, one chain, one height, two hashes  =  equivocation: evidence for anybody
//! ```
//!
//! Claim: whoever founded the chain signs every block before it is written, and the signature is written
//! with it; one that was never written was never shown to anybody. [`Equivocation::verify`] is a pure
//! function of 274 bytes. What it does not promise: that a sequencer which shows different blocks to
//! people who never meet is found; they have to compare. A chain that went on from an old backup convicts
//! its operator as well: it did sign two histories. Tests: here and `appliance/tests/chain/follow.rs`.

use alloy::primitives::{Address, B256, Signature, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::Serialize;

/// Leads everything that is signed here, so that it is no signature of a transaction or of typed data.
const TAG: &[u8] = b"plumbline signed head v1";

/// r, s and parity.
pub(super) type SealBytes = [u8; 65];

/// A block of a chain, with the signature of whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedHead {
    /// Hash of the chain's block 0, which stands for all it was founded on.
    pub chain: [u8; 32],
    /// Height.
    pub number: u64,
    /// Hash of the block.
    pub hash: [u8; 32],
    /// secp256k1: r, s, parity (27 or 28).
    pub signature: [u8; 65],
}

impl SignedHead {
    /// Signs.
    pub(super) fn sign(
        signer: &PrivateKeySigner,
        chain: B256,
        number: u64,
        hash: B256,
    ) -> Result<Self, alloy::signers::Error> {
        let mut signed = Self {
            chain: chain.0,
            number,
            hash: hash.0,
            signature: [0; 65],
        };
        signed.signature = signer.sign_hash_sync(&signed.digest())?.as_bytes();
        Ok(signed)
    }

    /// What is signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let number = self.number.to_be_bytes();
        keccak256([TAG, &self.chain, &number, &self.hash].concat())
    }

    /// Who signed it; `None` if nobody can have.
    #[must_use]
    pub fn signer(&self) -> Option<Address> {
        let signature = Signature::try_from(self.signature.as_slice()).ok()?;
        signature.recover_address_from_prehash(&self.digest()).ok()
    }
}

/// Two blocks of one height, signed by one sequencer.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Equivocation {
    /// One.
    pub one: SignedHead,
    /// The other.
    pub other: SignedHead,
}

/// Whom the evidence convicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Convicted {
    /// Who signed both.
    pub signer: Address,
    /// Hash of block 0 of the chain.
    pub chain: B256,
    /// Height of the two blocks.
    pub number: u64,
}

/// Why evidence of equivocation is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEquivocation {
    /// Of two chains.
    #[error("the two heads are of different chains; evidence needs two of one chain")]
    Chains,
    /// Of two heights.
    #[error("the two heads are at heights {0} and {1}; evidence needs two of one height")]
    Heights(u64, u64),
    /// The same block.
    #[error("the two heads are the same block; evidence needs two different ones")]
    Same,
    /// Of two signers, or of none.
    #[error("the two heads are not signed by one key: {0} and {1}")]
    Signers(Words, Words),
    /// Not these bytes.
    #[error("not evidence of equivocation: it has {0} bytes instead of 274, or is damaged")]
    Bytes(usize),
}

/// A signer, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words(Option<Address>);

impl std::fmt::Display for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => write!(f, "{address}"),
            None => f.write_str("no valid signature"),
        }
    }
}

impl Equivocation {
    /// Whether it is evidence, and against whom. Pure.
    ///
    /// # Errors
    /// Why it is none.
    pub fn verify(&self) -> Result<Convicted, NoEquivocation> {
        let (one, other) = (&self.one, &self.other);
        if one.chain != other.chain {
            return Err(NoEquivocation::Chains);
        }
        if one.number != other.number {
            return Err(NoEquivocation::Heights(one.number, other.number));
        }
        if one.hash == other.hash {
            return Err(NoEquivocation::Same);
        }
        match (one.signer(), other.signer()) {
            (Some(signer), Some(same)) if signer == same => Ok(Convicted {
                signer,
                chain: B256::from(one.chain),
                number: one.number,
            }),
            (a, b) => Err(NoEquivocation::Signers(Words(a), Words(b))),
        }
    }

    /// The evidence as bytes (borsh).
    ///
    /// # Errors
    /// Never for memory; the encoder's error otherwise.
    pub fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        borsh::to_vec(self)
    }

    /// The inverse of [`Self::to_bytes`].
    ///
    /// # Errors
    /// If these are not such bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoEquivocation> {
        borsh::from_slice(bytes).map_err(|_| NoEquivocation::Bytes(bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(key: u8, chain: u8, number: u64, hash: u8) -> SignedHead {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(key)).unwrap();
        let (chain, hash) = (B256::repeat_byte(chain), B256::repeat_byte(hash));
        SignedHead::sign(&signer, chain, number, hash).unwrap()
    }

    #[test]
    fn two_blocks_of_one_height_and_nothing_else_convict() {
        let verify = |one: SignedHead, other: SignedHead| Equivocation { one, other }.verify();
        let one = || head(1, 7, 5, 1);
        let convicted = verify(one(), head(1, 7, 5, 2)).unwrap();
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(1)).unwrap();
        assert_eq!((convicted.signer, convicted.number), (signer.address(), 5));
        assert_eq!(verify(one(), one()), Err(NoEquivocation::Same));
        assert_eq!(verify(one(), head(1, 8, 5, 2)), Err(NoEquivocation::Chains));
        let higher = verify(one(), head(1, 7, 6, 2));
        assert_eq!(higher, Err(NoEquivocation::Heights(5, 6)));
        let strange = verify(one(), head(2, 7, 5, 2));
        assert!(matches!(strange, Err(NoEquivocation::Signers(..))));
    }

    #[test]
    fn every_changed_byte_of_the_evidence_acquits_or_is_refused() {
        let evidence = Equivocation {
            one: head(1, 7, 5, 1),
            other: head(1, 7, 5, 2),
        };
        let bytes = evidence.to_bytes().unwrap();
        assert_eq!(bytes.len(), 274);
        let guilty = evidence.verify().unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let verdict = Equivocation::from_bytes(&changed).map(|e| e.verify());
            assert_ne!(verdict, Ok(Ok(guilty)), "byte {at}");
        }
        let long = [bytes.as_slice(), &[0]].concat();
        assert!(Equivocation::from_bytes(&long).is_err());
        assert!(Equivocation::from_bytes(&bytes[1..]).is_err());
    }
}
