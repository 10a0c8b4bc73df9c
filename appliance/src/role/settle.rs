//! The settlement key at work: EIP-712 signatures over what the contract checks.

use alloy::primitives::{Address, B256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::{Timing, commit_digest, domain, report_digest};
use plumbline_proof::backhaul::messages::{Commit, Notice, Report, Settlement};

/// Signs with a participant's settlement key.
pub struct Settler(PrivateKeySigner);

impl Settler {
    /// A settler for `signer`.
    pub fn new(signer: PrivateKeySigner) -> Self {
        Self(signer)
    }

    fn sign(&self, digest: B256) -> Vec<u8> {
        // Signing with a valid key has no way to fail; an empty signature would be refused on chain.
        self.0
            .sign_hash_sync(&digest)
            .map_or_else(|_| Vec::new(), |s| s.as_bytes().to_vec())
    }
}

impl Settlement for Settler {
    fn sign_commit(&self, notice: &Notice, commit: &Commit) -> Vec<u8> {
        let domain = domain(notice.chain_id, Address::from(notice.contract.0));
        self.sign(commit_digest(
            &domain,
            B256::from(commit.challenge),
            commit.phase,
            commit.packets,
            &commit.counts,
            B256::from(commit.response),
        ))
    }

    fn sign_report(&self, notice: &Notice, report: &Report) -> Vec<u8> {
        let domain = domain(notice.chain_id, Address::from(notice.contract.0));
        let timing = Timing {
            index: report.index,
            window_us: report.window_us,
            packets: report.packets,
        };
        self.sign(report_digest(
            &domain,
            B256::from(report.challenge),
            report.phase,
            timing,
            B256::from(report.response),
        ))
    }
}
