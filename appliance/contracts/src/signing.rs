//! What a prover and a challenger sign for the contract (EIP-712 typed data), and what names a request.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::{Eip712Domain, SolStruct, SolValue};

use crate::Deployment;
use crate::abi::backhaul::IBackhaul::Request;

/// Phase number of a measurement that has only one.
pub const PHASE: u8 = 0;

mod typed {
    #![allow(missing_docs, unreachable_pub)]
    alloy::sol! {
        struct Commit {
            bytes32 id;
            uint8 phase;
            uint64 packets;
            bytes32 countsHash;
            bytes32 responseHash;
        }
        struct Report {
            bytes32 id;
            uint8 phase;
            uint16 index;
            uint64 ttNs;
            uint64 ttPlusNs;
            uint32 packets;
            bytes32 responseHash;
        }
    }
}

/// The domain of the backhaul contract at `backhaul` on chain `chain_id`.
#[must_use]
pub fn domain(chain_id: u64, backhaul: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some("Plumbline Backhaul".into()),
        Some("1".into()),
        Some(U256::from(chain_id)),
        Some(backhaul),
        None,
    )
}

/// The id that the contract gives to `request`: no two are equal, on no two chains or contracts.
#[must_use]
pub fn request_id(deployment: &Deployment, request: &Request) -> B256 {
    let tag = keccak256("plumbline backhaul request v1");
    let chain_id = U256::from(deployment.chain_id);
    let bytes = (tag, chain_id, deployment.backhaul, request.clone()).abi_encode();
    keccak256(bytes)
}

/// Hash over the packets counted of each challenger: keccak256 of the counts, 32 bytes each, big endian.
#[must_use]
pub fn counts_hash(counts: &[u32]) -> B256 {
    let mut packed = Vec::with_capacity(counts.len() * 32);
    for count in counts {
        packed.extend_from_slice(&U256::from(*count).to_be_bytes::<32>());
    }
    keccak256(packed)
}

/// What the prover signs: `packets` in all, so many of each challenger, hashing to `response_hash`.
#[must_use]
pub fn commit_digest(
    domain: &Eip712Domain,
    id: B256,
    phase: u8,
    packets: u64,
    counts: &[u32],
    response_hash: B256,
) -> B256 {
    typed::Commit {
        id,
        phase,
        packets,
        countsHash: counts_hash(counts),
        responseHash: response_hash,
    }
    .eip712_signing_hash(domain)
}

/// What a challenger says of its own traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Position among the selected.
    pub index: u16,
    /// Transmission time, ns.
    pub tt_ns: u64,
    /// Transmission time that the prover cannot have shortened, ns.
    pub tt_plus_ns: u64,
    /// Packets of this challenger that the prover counted.
    pub packets: u32,
}

/// What a challenger signs: its timing of the traffic that hashed to `response_hash`.
#[must_use]
pub fn report_digest(
    domain: &Eip712Domain,
    id: B256,
    phase: u8,
    timing: Timing,
    response_hash: B256,
) -> B256 {
    typed::Report {
        id,
        phase,
        index: timing.index,
        ttNs: timing.tt_ns,
        ttPlusNs: timing.tt_plus_ns,
        packets: timing.packets,
        responseHash: response_hash,
    }
    .eip712_signing_hash(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::b256;

    /// keccak256 of the type strings in Backhaul.sol; a changed field would change them.
    #[test]
    fn types_are_those_of_the_contract() {
        assert_eq!(
            typed::Commit::eip712_root_type(),
            "Commit(bytes32 id,uint8 phase,uint64 packets,bytes32 countsHash,bytes32 responseHash)"
        );
        assert_eq!(
            typed::Report::eip712_root_type(),
            "Report(bytes32 id,uint8 phase,uint16 index,uint64 ttNs,uint64 ttPlusNs,uint32 packets,bytes32 responseHash)"
        );
    }

    #[test]
    fn no_counts_hash_to_the_hash_of_nothing() {
        assert_eq!(
            counts_hash(&[]),
            b256!("c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
        );
        assert_ne!(counts_hash(&[1, 2]), counts_hash(&[2, 1]));
    }
}
