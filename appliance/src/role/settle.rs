//! The settlement key at work: EIP-712 signatures over what the contract checks.

use alloy::primitives::{Address, B256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::{
    Timing, begin_digest, commit_digest, domain, recover_begin, recover_commit, recover_report,
    report_digest,
};
use plumbline_proof::backhaul::messages::{
    Commit, Notice, Ready, Report, Reveal, SeedCommitment, Settlement, Statement,
};
use plumbline_proof::backhaul::record::{Record, Refusal};

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
    fn sign_begin(&self, notice: &Notice, seed: &SeedCommitment) -> Vec<u8> {
        let domain = domain(notice.chain_id, Address::from(notice.contract.0));
        self.sign(begin_digest(
            &domain,
            B256::from(seed.challenge),
            seed.index,
            B256::from(seed.seed_hash),
        ))
    }

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
        self.sign(report_digest(
            &domain,
            B256::from(report.challenge),
            report.phase,
            timing(report),
            B256::from(report.response),
        ))
    }
}

fn timing(report: &Report) -> Timing {
    Timing {
        index: report.index,
        window_us: report.window_us,
        packets: report.packets,
    }
}

/// What a settlement signature is over, as far as it was said before.
pub struct Before {
    notice: Notice,
    seeds: Vec<Option<SeedCommitment>>,
    commit: Option<Commit>,
}

impl Before {
    /// What `record` holds of it.
    pub fn of(record: &Record) -> Self {
        let seeds = record.seeds.iter();
        Self {
            notice: record.notice.message.clone(),
            seeds: seeds
                .map(|kept| kept.as_ref().map(|k| k.message.clone()))
                .collect(),
            commit: record.commit.as_ref().map(|kept| kept.message.clone()),
        }
    }
}

/// Whether the settlement signature in a word that begins, a reveal or a report, itself verified, is that of its author, as
/// the contract sees it.
/// What is not whole, or nobody's place, is the record's to refuse.
///
/// # Errors
/// It is another's, or none.
pub fn check(before: &Before, statement: &Statement) -> Result<(), Refusal> {
    let Before {
        notice,
        seeds,
        commit,
    } = before;
    let domain = domain(notice.chain_id, Address::from(notice.contract.0));
    let (what, author, signer) = match (statement, commit) {
        (Statement::Reveal(signed), Some(commit)) if signed.key == notice.prover.key => {
            let Ok(reveal) = signed.read::<Reveal>() else {
                return Ok(());
            };
            let signer = recover_commit(
                &domain,
                B256::from(commit.challenge),
                commit.phase,
                commit.packets,
                &commit.counts,
                B256::from(commit.response),
                &reveal.settlement,
            );
            ("reveal.settlement", notice.prover.address, signer)
        }
        // Nothing to compare it with yet, as of when this was asked: the contract would see a junk signature.
        (Statement::Reveal(_), None) => {
            return Err(Refusal::TooEarly {
                what: "reveal",
                missing: "commit",
            });
        }
        (Statement::Ready(signed), _) => {
            let Ok(ready) = signed.read::<Ready>() else {
                return Ok(());
            };
            let at = usize::from(ready.index);
            let member = notice.challengers.get(at).filter(|m| m.key == signed.key);
            let (Some(member), Some(Some(seed))) = (member, seeds.get(at)) else {
                return Ok(());
            };
            let signer = recover_begin(
                &domain,
                B256::from(notice.challenge),
                ready.index,
                B256::from(seed.seed_hash),
                &ready.settlement,
            );
            ("ready.settlement", member.address, signer)
        }
        (Statement::Report(signed), _) => {
            let Ok(report) = signed.read::<Report>() else {
                return Ok(());
            };
            let member = notice.challengers.get(usize::from(report.index));
            let Some(member) = member.filter(|m| m.key == signed.key) else {
                return Ok(());
            };
            let signer = recover_report(
                &domain,
                B256::from(report.challenge),
                report.phase,
                timing(&report),
                B256::from(report.response),
                &report.settlement,
            );
            ("report.settlement", member.address, signer)
        }
        _ => return Ok(()),
    };
    if signer == Some(Address::from(author.0)) {
        return Ok(());
    }
    let signer = signer.map_or_else(|| "nobody".to_owned(), |s| s.to_string());
    Err(Refusal::Field {
        what,
        why: format!("is the EIP-712 signature of {signer}, and must be that of {author}"),
    })
}
