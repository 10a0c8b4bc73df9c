//! `plumbline dispute …` and `plumbline stake …`, done.

use std::path::Path;

use alloy::primitives::{B256, U256};
use plumbline_contracts::{Ruling, Stage};
use plumbline_proof::evidence;
use plumbline_trust::evidence::{Evidence, Finding};
use plumbline_trust::identity::Address;

use super::client;
use crate::chain::ChainClient;
use crate::control::client::Api;
use crate::journal::Journal;
use crate::keyfile::Keys;
use crate::role::dispute::{self, DisputeError, Step};
use crate::role::juror::{Act, Juror};
use crate::ui::args::AskArgs;
use crate::ui::results::{DisputeView, Done, EvidenceView, JurorView, Submitted};
use crate::ui::{Failure, StakeWork};

impl From<DisputeError> for Failure {
    fn from(error: DisputeError) -> Self {
        match error {
            DisputeError::Api(e) => e.into(),
            DisputeError::Chain(e) => e.into(),
            DisputeError::Evidence(_) => Self::usage(error),
            DisputeError::Journal(_) => Self::chain(error),
            DisputeError::Nothing(_)
            | DisputeError::Differs(_)
            | DisputeError::NoResult(_)
            | DisputeError::Balance { .. }
            | DisputeError::NotTaken { .. }
            | DisputeError::Unknown(_) => Self::refused(error),
        }
    }
}

fn hexed(bytes: &[u8; 32]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn ours(address: alloy::primitives::Address) -> Address {
    Address(address.into_array())
}

fn view(evidence: &Evidence, address: &[u8; 32], finding: Finding) -> EvidenceView {
    EvidenceView {
        address: hexed(address),
        proof: evidence.proof.clone(),
        subject: hexed(&evidence.subject),
        accused: evidence.accused,
        holds: finding.holds,
        why: finding.why,
        file: None,
    }
}

pub(super) fn examine(bytes: &[u8]) -> Result<EvidenceView, Failure> {
    let (evidence, address) = Evidence::open(bytes).map_err(Failure::usage)?;
    let finding = evidence::examine(&evidence);
    Ok(view(&evidence, &address, finding))
}

pub(super) async fn make(
    ask: &AskArgs,
    request: B256,
    accused: Address,
    bundle: Option<Vec<u8>>,
    out: &Path,
) -> Result<EvidenceView, Failure> {
    let api = Api::new(ask.coordinator.as_str())?;
    let chain = super::reader(ask).await?;
    let bundle = match bundle {
        Some(bundle) => bundle,
        None => {
            let posted = dispute::posted(&chain, request).await?;
            api.evidence(&posted.bundle).await?
        }
    };
    let (evidence, finding) = dispute::make(&chain, request, accused, bundle).await?;
    let (bytes, address) = evidence.seal();
    crate::archive::write(out, &bytes)
        .map_err(|e| Failure::usage(format!("--out {}: cannot be written: {e}", out.display())))?;
    Ok(EvidenceView {
        file: Some(out.display().to_string()),
        ..view(&evidence, &address, finding)
    })
}

pub(super) async fn submit(
    ask: &AskArgs,
    keys: &Keys,
    bytes: &[u8],
    source: &str,
    told: &(dyn Fn(&str) + Sync),
) -> Result<Submitted, Failure> {
    let chain = client(ask, keys.signer()).await?;
    let api = Api::new(ask.coordinator.as_str())?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt)
        .map_err(|e| Failure::usage(format!("the system gave no random bytes: {e}")))?;
    let brought = dispute::bring(&api, &chain, bytes, salt.into(), source, told).await?;
    Ok(Submitted {
        dispute: brought.id.to_string(),
        case: brought.case.to_string(),
        bond: brought.bond,
        fees: brought.fees,
        transaction: brought.sent.map(|s| s.hash.to_string()),
        block: brought.sent.map(|s| s.block),
        held_by: brought.held_by,
    })
}

pub(super) async fn show(chain: &ChainClient, id: B256) -> Result<DisputeView, Failure> {
    let found = chain.dispute_of(id).await?;
    if found.reporter.is_zero() {
        return Err(DisputeError::Unknown(id).into());
    }
    let case = chain.case_of(found.caseId).await?;
    let case = case.ok_or(DisputeError::Unknown(id))?;
    let mut jurors = Vec::new();
    for juror in &case.jurors {
        let ballot = chain.ballot_of(found.caseId, *juror).await?;
        jurors.push(JurorView {
            address: ours(*juror),
            ballot: match ballot.vote {
                Ruling::None if ballot.commitment.is_zero() => "silent".to_owned(),
                Ruling::None => "committed".to_owned(),
                vote => vote.to_string(),
            },
        });
    }
    Ok(DisputeView {
        dispute: id.to_string(),
        subject: found.subject.to_string(),
        reporter: ours(found.reporter),
        accused: ours(found.accused),
        evidence: found.evidence.to_string(),
        source: found.source,
        case: found.caseId.to_string(),
        stage: match case.stage {
            Stage::None | Stage::Open => "open",
            Stage::Drawn => "drawn",
            Stage::Settled => "settled",
        }
        .to_owned(),
        ruling: match case.ruling {
            Ruling::None => "none".to_owned(),
            ruling => ruling.to_string(),
        },
        over: found.over,
        until: [case.draw_until, case.commit_until, case.reveal_until],
        jurors,
    })
}

pub(super) async fn judge(ask: &AskArgs, keys: &Keys, id: B256) -> Result<Done, Failure> {
    let juror = Juror {
        chain: client(ask, keys.signer()).await?.into(),
        api: Api::new(ask.coordinator.as_str())?,
        network: keys.network.clone(),
        // One command signs once; between commands the chain holds what was committed.
        journal: Journal::in_memory(&keys.address()).map_err(Failure::usage)?,
    };
    let (step, detail) = match juror.judge(id).await? {
        Act::NotSeated => {
            let words = format!("{} does not sit in this jury", keys.address());
            return Err(Failure::refused(words));
        }
        Act::Committed(vote, why) => ("committed", format!("{vote}: {why}; reveal it next")),
        Act::Searched(from) => (
            "searched",
            format!(
                "the evidence is nowhere yet; from {from} (seconds since 1970) on the vote is unavailable"
            ),
        ),
        Act::Revealed(vote) => ("revealed", vote.to_string()),
        Act::Waits(0) => ("nothing", "there is nothing left to do here".to_owned()),
        Act::Waits(from) => ("waits", format!("until {from} (seconds since 1970)")),
    };
    Ok(Done {
        step: step.to_owned(),
        detail,
    })
}

pub(super) async fn advance(ask: &AskArgs, keys: &Keys, id: B256) -> Result<Done, Failure> {
    let chain = client(ask, keys.signer()).await?;
    let (step, detail) = match dispute::advance(&chain, id).await? {
        Step::Drawn => ("drawn", "the jury was drawn".to_owned()),
        Step::Settled => ("settled", "the case is over; conclude next".to_owned()),
        Step::Concluded => ("concluded", "the ruling was carried out".to_owned()),
        Step::Over => ("over", "the dispute is over".to_owned()),
        Step::Waits(from) => ("waits", format!("until {from} (seconds since 1970)")),
    };
    Ok(Done {
        step: step.to_owned(),
        detail,
    })
}

pub(super) async fn stake(ask: &AskArgs, keys: &Keys, work: StakeWork) -> Result<Done, Failure> {
    let chain = client(ask, keys.signer()).await?;
    let (step, sent) = match work {
        StakeWork::Add(amount) => {
            let amount = U256::from(amount);
            chain.approve(amount).await?;
            ("added", chain.top_up(amount).await?)
        }
        StakeWork::Leave => ("left", chain.leave().await?),
        StakeWork::Reclaim => ("reclaimed", chain.reclaim().await?),
    };
    let stake = chain.stake_of(chain.address()).await?;
    let owed = chain.owed(chain.address()).await?;
    Ok(Done {
        step: step.to_owned(),
        detail: format!(
            "stake {stake}, can be withdrawn {owed}; {} in block {}",
            sent.hash, sent.block
        ),
    })
}
