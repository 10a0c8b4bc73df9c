//! One canonical encoding and domain-separated hashes.

use borsh::{BorshDeserialize, BorshSerialize};
use tiny_keccak::Hasher as _;

/// A 32-byte hash.
pub type Digest = [u8; 32];

/// Domains (BLAKE3 `derive_key` contexts). A hash made in one can never be mistaken for another's.
pub mod domain {
    /// Keystream of a challenger's packets.
    pub const KEYSTREAM: &str = "plumbline 2026-11 backhaul keystream v1";
    /// Seed of the packets that a prover sends to one challenger, from their session key and the challenger's seed.
    pub const UPLINK: &str = "plumbline 2026-11 backhaul uplink seed v2";
    /// Numbers of a challenger's probes.
    pub const PROBE: &str = "plumbline 2026-11 backhaul probe number v1";
    /// A node of the tree over one challenger's packets; the topmost is C_i.
    pub const NODE: &str = "plumbline 2026-11 backhaul tree node v1";
    /// C: the response hash over all challengers.
    pub const RESPONSE: &str = "plumbline 2026-11 backhaul response v1";
    /// What `begin` anchors on chain: seed commitments and consent.
    pub const SETUP: &str = "plumbline 2026-11 backhaul setup v1";
    /// Content address of evidence against a participant.
    pub const EVIDENCE: &str = "plumbline 2026-11 evidence v1";
    /// Content address of a bundle.
    pub const BUNDLE: &str = "plumbline 2026-11 bundle v1";
    /// Key that tags the headers of one challenger's packets in one session.
    pub const SESSION_KEY: &str = "plumbline 2026-11 session key v1";
    /// What those headers show openly: a sender without it is refused before anything is counted.
    pub const COOKIE: &str = "plumbline 2026-11 session cookie v1";
    /// Cross-signature that binds a network key to a settlement address.
    pub const BINDING: &str = "plumbline 2026-11 key binding v1";
}

/// BLAKE3 of `parts`, one after another, in `context`.
pub fn hash(context: &str, parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// keccak256, as the chain computes it.
pub fn keccak256(parts: &[&[u8]]) -> Digest {
    let mut hasher = tiny_keccak::Keccak::v256();
    for part in parts {
        hasher.update(part);
    }
    let mut out = [0; 32];
    hasher.finalize(&mut out);
    out
}

/// Canonical bytes of a value.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing into a Vec has no way to fail: borsh's only errors are the writer's.
    let written = value.serialize(&mut out);
    debug_assert!(written.is_ok());
    out
}

/// Reads a value back; bytes left over are an error, so that one value has one encoding.
pub fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, String> {
    borsh::from_slice(bytes).map_err(|e| e.to_string())
}
