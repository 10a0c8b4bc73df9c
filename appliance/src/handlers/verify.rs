//! `plumbline verify`: the bundle by itself, then beside what its reader trusts.

use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use plumbline_contracts::Deployment;
use plumbline_proof::backhaul::bundle::{self, Verified};
use plumbline_proof::backhaul::messages::{Consent, Notice};

use crate::chain::{ChainClient, ClientError};
use crate::role::dispute::{self, DisputeError};
use crate::role::{ledger, outcome};
use crate::ui::results::{ChainOutcome, CheckResult, Comparison, VerifyOutcome, VerifyResult};
use crate::ui::{Against, Failure};

/// What a bundle comes to.
pub(super) async fn verify(bytes: &[u8], against: &Against) -> Result<VerifyResult, Failure> {
    let verified = bundle::verify(bytes);
    let ok = verified.ok();
    let checks = verified.checks.iter().map(|c| CheckResult {
        check: c.check.clone(),
        name: c.name.clone(),
        ok: c.ok,
        culprit: c.culprit.clone(),
        detail: c.detail.clone(),
    });
    let mut compared = about(&verified);
    if let Some(notice) = notice(&verified) {
        if let Some(prover) = &against.prover {
            beside(&mut compared, "prover", "expectation", prover);
        }
        if let Some(deployment) = &against.deployment {
            deployed(&mut compared, notice, &deployment.deployment);
        }
    }
    let mut chain = ChainOutcome::NotCompared;
    if let (Some(url), Some(pin)) = (&against.rpc, &against.deployment) {
        // A chain is asked first whether it has these contracts: one that answers otherwise is refused in words.
        let reader = PrivateKeySigner::random();
        let client = ChainClient::connect_http(url, reader, pin.deployment).await?;
        client.is_pinned(pin).await?;
        let reached = on_chain(&mut compared, &verified, &client).await?;
        let differs = compared.iter().any(|c| c.same == Some(false));
        chain = if reached && !differs {
            ChainOutcome::Agrees
        } else {
            ChainOutcome::Differs
        };
    }
    Ok(VerifyResult {
        verify: if ok {
            VerifyOutcome::Ok
        } else {
            VerifyOutcome::Failed
        },
        verdict: verified.verdict().map(outcome::verdict),
        measured_bps: verified.judgement.as_ref().map(|j| j.measured_bps),
        guaranteed_bps: verified.judgement.as_ref().map(|j| j.guaranteed_bps()),
        chain,
        compared,
        checks: checks.collect(),
    })
}

fn notice(verified: &Verified) -> Option<&Notice> {
    verified.record.as_ref().map(|r| &r.notice.message)
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

/// What the bundle says it is about; compared with nothing yet.
fn about(verified: &Verified) -> Vec<Comparison> {
    let mut all = vec![("bundle_hash", hexed(&verified.address))];
    if let Some(notice) = notice(verified) {
        all.splice(
            0..0,
            [
                ("chain_id", notice.chain_id.to_string()),
                ("contract", notice.contract.to_string()),
                ("request", hexed(&notice.challenge)),
                ("prover", notice.prover.address.to_string()),
            ],
        );
    }
    all.into_iter()
        .map(|(what, bundle)| Comparison {
            what: what.into(),
            bundle,
            with: None,
            same: None,
            other: None,
        })
        .collect()
}

/// Sets one of them beside what another says.
fn beside(all: &mut [Comparison], what: &str, with: &str, other: &dyn ToString) {
    let other = other.to_string();
    for c in all.iter_mut().filter(|c| c.what == what) {
        c.with = Some(with.to_owned());
        let same = c.bundle == other;
        c.same = Some(same);
        c.other = (!same).then(|| other.clone());
    }
}

fn deployed(all: &mut [Comparison], notice: &Notice, deployment: &Deployment) {
    beside(all, "chain_id", "deployment", &deployment.chain_id);
    let contract = hexed(deployment.backhaul.as_slice());
    beside(all, "contract", "deployment", &contract);
    // Keys are bound to the participants of this deployment.
    let participants = deployment.participants.into_array();
    if notice.participants.0 != participants
        && let Some(c) = all.iter_mut().find(|c| c.what == "contract")
    {
        c.same = Some(false);
        c.other = Some(format!("participants at {}", hexed(&participants)));
    }
}

/// Compares with what the chain has of the request; false if the bundle does not get so far.
async fn on_chain(
    all: &mut Vec<Comparison>,
    verified: &Verified,
    client: &ChainClient,
) -> Result<bool, Failure> {
    let Some((notice, judgement)) = notice(verified).zip(verified.judgement.as_ref()) else {
        return Ok(false);
    };
    let mut said = |what: &str, bundle: String, other: String| {
        all.retain(|c| c.what != what);
        let same = bundle == other;
        all.push(Comparison {
            what: what.into(),
            bundle,
            with: Some("chain".into()),
            same: Some(same),
            other: (!same).then_some(other),
        });
    };
    let id = B256::from(notice.challenge);
    let (name, none) = (hexed(&notice.challenge), "none".to_owned());
    let found = match client.request_of(id).await {
        Ok(found) => found,
        // The contract knows no such request.
        Err(ClientError::Refused(_)) => {
            said("request", name, none);
            return Ok(true);
        }
        Err(error) => return Err(error.into()),
    };
    let asked = &found.request;
    let same = ledger::is_asked(asked, notice);
    let other = if same {
        name.clone()
    } else {
        "of other terms or parties".into()
    };
    said("request", name, other);
    let prover = hexed(asked.prover.as_slice());
    said("prover", notice.prover.address.to_string(), prover);
    let drawn = client.selected_of(id).await?;
    let text = |all: Vec<String>| all.join(" ");
    let bundle = notice.challengers.iter().map(|m| m.address.to_string());
    let chain = drawn.iter().map(|a| hexed(a.as_slice()));
    said("draw", text(bundle.collect()), text(chain.collect()));
    let setup = verified.record.as_ref().and_then(|r| r.consent.as_ref());
    let setup = setup.map_or_else(|| none.clone(), |c| hexed(&Consent::setup_hash(&c.signed)));
    said("setup", setup, hexed(found.setup_hash.as_slice()));
    let posted = client.result_of(id).await?;
    let hash = posted.as_ref().map(|p| hexed(p.bundle_hash.as_slice()));
    said(
        "bundle_hash",
        hexed(&verified.address),
        hash.unwrap_or_else(|| none.clone()),
    );
    let ours = format!(
        "{:?}, {} bit/s, {} though f lie",
        judgement.verdict,
        judgement.lower_bps(),
        judgement.guaranteed_bps()
    );
    let theirs = match &posted {
        Some(posted) if outcome::is_posted(posted, judgement) => ours.clone(),
        Some(posted) => format!(
            "{:?}, {} bit/s, {} though f lie",
            posted.posted_verdict, posted.lower, posted.guaranteed
        ),
        None => none,
    };
    said("result", ours, theirs);
    if let Some((record, _)) = verified.record.as_ref().zip(posted.as_ref()) {
        let ours = "its parties, keys, terms and draw".to_owned();
        let theirs = match dispute::is_of(client, id, record).await {
            Ok(()) => ours.clone(),
            Err(DisputeError::Differs(what)) => what,
            Err(error) => return Err(error.into()),
        };
        said("record", ours, theirs);
    }
    Ok(true)
}
