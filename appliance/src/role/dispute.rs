//! A dispute from outside: bring evidence, and carry on what has become due. For anyone.
//!
//! ```text
//!   make: chain + bundle ─► evidence, examined before it costs anything
//!   bring: announce ─► (a later block) ─► dispute, bond and fees ─► evidence to every coordinator
//!   advance: draw ─► … jurors commit, reveal … ─► settle ─► conclude
//! ```

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::{Deployment, Ruling, Stage};
use plumbline_proof::backhaul;
use plumbline_proof::backhaul::offence::{self, Posted};
use plumbline_proof::backhaul::record::Record;
use plumbline_proof::evidence::examine;
use plumbline_trust::VerifyingKey;
use plumbline_trust::evidence::{Evidence, EvidenceError, Finding};

use super::evidence::Places;
use super::ledger;
use super::outcome::units;
use crate::chain::client::{ChainClient, ClientError, Sent};
use crate::control::client::{Api, ApiError};
use crate::journal::JournalError;

/// How long evidence is offered to coordinators that do not know the dispute yet or are busy.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(60);

/// Why a dispute could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum DisputeError {
    /// The coordinator's API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// The vote could not be written down, so it was not signed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file is no evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// It shows nothing, so a jury would burn the bond.
    #[error("the evidence does not hold: {0}; nothing was sent, and no bond is at stake")]
    Nothing(String),
    /// What it says of the chain is not what the chain says.
    #[error("the evidence does not describe the chain: {0}")]
    Differs(String),
    /// The measurement has no result.
    #[error("{0} has no result yet: there is nothing to dispute")]
    NoResult(B256),
    /// Not enough tokens.
    #[error("bond and fees are {needed}, but {address} holds {balance} (base units)")]
    Balance {
        /// What it costs.
        needed: u128,
        /// Who pays.
        address: Address,
        /// What it has.
        balance: u128,
    },
    /// The dispute is there and nobody has its evidence.
    #[error(
        "dispute {id} is brought, and no coordinator took its evidence ({why}): jurors will find it nowhere, and the \
         bond will be burnt; submit the same file again, it locks nothing more"
    )]
    NotTaken {
        /// The dispute.
        id: B256,
        /// What one of them said.
        why: String,
    },
    /// There is no such dispute.
    #[error("there is no dispute {0} on this chain")]
    Unknown(B256),
}

fn ours(address: Address) -> plumbline_trust::Address {
    plumbline_trust::Address(address.into_array())
}

/// What the chain says of the measurement `id`.
///
/// # Errors
/// The chain does not answer or does not know it, or it has no result.
pub async fn posted(chain: &ChainClient, id: B256) -> Result<Posted, DisputeError> {
    let measurement = chain.request_of(id).await?;
    let asked = measurement.request;
    let result = chain.result_of(id).await?;
    let result = result.ok_or(DisputeError::NoResult(id))?;
    let draw = chain.draw_of(id).await?;
    let challengers = chain.selected_of(id).await?;
    let mut keys = Vec::new();
    for account in [asked.coordinator, asked.prover].iter().chain(&challengers) {
        let known = chain.participant(*account).await?;
        keys.push(known.map_or(offence::LEFT, |k| VerifyingKey(k.network_key.0)));
    }
    // As it was posted: a conviction since changes the result on the chain, and not what its coordinator said.
    let rate = |r: Option<&u128>| r.map_or(0, |r| u64::try_from(*r).unwrap_or(u64::MAX));
    Ok(Posted {
        coordinator: ours(asked.coordinator),
        prover: ours(asked.prover),
        challengers: challengers.into_iter().map(ours).collect(),
        keys,
        payer: ours(asked.payer),
        terms: ledger::terms(&asked).ok(),
        price_per_byte: asked.pricePerByte,
        deadline: asked.deadline,
        beacon: draw.beacon.0,
        pool: draw.pool,
        setup: measurement.setup_hash.0,
        bundle: result.bundle_hash.0,
        verdict: result.posted_verdict as u8,
        lower_bps: rate(result.curve.first()),
        guaranteed_bps: rate(result.curve.last()),
    })
}

/// Whether a record is of the measurement `id`: a bundle may hold together and have other terms, keys or words than
/// those that count.
///
/// # Errors
/// As [`posted`]; [`DisputeError::Differs`] names what is another.
pub async fn is_of(chain: &ChainClient, id: B256, record: &Record) -> Result<(), DisputeError> {
    match posted(chain, id).await?.differs(&id.0, record) {
        None => Ok(()),
        Some(what) => Err(DisputeError::Differs(format!(
            "its {what} and the chain's; whoever posted it can be convicted (plumbline dispute make)"
        ))),
    }
}

/// Evidence against `accused` in the measurement `id`, from its bundle.
///
/// # Errors
/// As [`posted`].
pub async fn make(
    chain: &ChainClient,
    id: B256,
    accused: plumbline_trust::Address,
    bundle: Vec<u8>,
) -> Result<(Evidence, Finding), DisputeError> {
    let evidence = offence::accuse(id.0, accused, posted(chain, id).await?, bundle);
    let finding = examine(&evidence);
    Ok((evidence, finding))
}

/// What a juror votes: what the evidence shows, if what it says of the chain is so.
///
/// # Errors
/// The chain does not answer.
pub async fn judge(chain: &ChainClient, evidence: &Evidence) -> Result<Finding, DisputeError> {
    match agrees(chain, evidence).await {
        Err(DisputeError::Differs(why)) => return Ok(Finding::nothing(why)),
        agreed => agreed?,
    }
    let evidence = evidence.clone();
    // Replaying a bundle takes a core for a while.
    let found = tokio::task::spawn_blocking(move || examine(&evidence)).await;
    Ok(found.unwrap_or_else(|e| Finding::nothing(format!("the verifier failed: {e}"))))
}

/// The contract of a proof, by the proof's name: one entry a proof, as in `plumbline_proof::evidence`.
///
/// # Errors
/// In words: there is no such proof here.
pub(super) fn contract_of(deployment: &Deployment, proof: &str) -> Result<Address, String> {
    match proof {
        backhaul::NAME => Ok(deployment.backhaul),
        other => Err(format!("there is no proof named {other:?} here")),
    }
}

/// Whether the evidence says of the chain what the chain says; what cannot be compared does not. One entry a
/// proof.
async fn agrees(chain: &ChainClient, evidence: &Evidence) -> Result<(), DisputeError> {
    let same = match evidence.proof.as_str() {
        backhaul::NAME => {
            let said = offence::posted(evidence);
            let said = said.map_err(|why| DisputeError::Differs(format!("exhibits: {why}")))?;
            posted(chain, evidence.subject.into()).await? == said
        }
        other => {
            let words = format!("there is no proof named {other:?} here");
            return Err(DisputeError::Differs(words));
        }
    };
    if same {
        return Ok(());
    }
    Err(DisputeError::Differs(
        "parties, terms, set-up, bundle or figures of this measurement are others".into(),
    ))
}

/// A dispute that was brought.
#[derive(Clone, Debug)]
pub struct Brought {
    /// Its id.
    pub id: B256,
    /// The jury's case.
    pub case: B256,
    /// Locked as its bond, base units; 0 if it was brought before.
    pub bond: u128,
    /// Locked for the jury, base units; 0 if it was brought before.
    pub fees: u128,
    /// The transaction; `None` if it was brought before.
    pub sent: Option<Sent>,
    /// Coordinators that have the evidence now.
    pub held_by: Vec<String>,
}

/// Brings the evidence in `bytes`: announces, disputes, hands the file to every coordinator that answers. Costs
/// nothing if the evidence does not hold. `source` is where the reporter serves it as well, or nothing. What is
/// being judged already is only handed over.
///
/// # Errors
/// See [`DisputeError`].
pub async fn bring(
    api: &Api,
    chain: &ChainClient,
    bytes: &[u8],
    salt: B256,
    source: &str,
    told: &(dyn Fn(&str) + Sync),
) -> Result<Brought, DisputeError> {
    let (evidence, address) = Evidence::open(bytes)?;
    let proof = contract_of(&chain.deployment(), &evidence.proof).map_err(DisputeError::Differs)?;
    agrees(chain, &evidence).await?;
    let finding = examine(&evidence);
    if !finding.holds {
        return Err(DisputeError::Nothing(finding.why));
    }
    let (subject, accused) = (evidence.subject.into(), evidence.accused.0.into());
    let address = B256::from(address);
    let mut brought = Brought {
        id: B256::ZERO,
        case: B256::ZERO,
        bond: 0,
        fees: 0,
        sent: None,
        held_by: Vec::new(),
    };
    let last = chain.last_dispute(proof, subject, accused, address).await?;
    if let Some(id) = last
        && !chain.dispute_of(id).await?.over
    {
        brought.id = id;
    } else {
        (brought.bond, brought.fees) = affordable(chain).await?;
        told("announcing");
        chain
            .announce_dispute(proof, subject, accused, address, salt)
            .await?;
        told("locking bond and fees");
        let needed = brought.bond.saturating_add(brought.fees);
        chain.approve(U256::from(needed)).await?;
        told("disputing");
        let (id, sent) = chain
            .dispute(proof, subject, accused, address, salt, source)
            .await?;
        (brought.id, brought.sent) = (id, Some(sent));
    }
    brought.case = chain.dispute_of(brought.id).await?.caseId;
    told("handing over the evidence");
    let places = Places::of(chain, api).await?;
    let bytes = Arc::from(bytes);
    let given = places.hand_on(brought.id.0, address.0, &bytes, UPLOAD_PATIENCE);
    let mut refused = String::new();
    for (place, given) in given.await {
        match given {
            Ok(()) => brought.held_by.push(place),
            Err(error) => refused = error.to_string(),
        }
    }
    if brought.held_by.is_empty() && source.is_empty() {
        let (id, why) = (brought.id, refused);
        return Err(DisputeError::NotTaken { id, why });
    }
    Ok(brought)
}

/// Bond and fees of a dispute, if there is money for both.
async fn affordable(chain: &ChainClient) -> Result<(u128, u128), DisputeError> {
    let bond = units(chain.variable("dispute_bond").await?);
    let seats = units(chain.variable("jury_size").await?);
    let fees = seats.saturating_mul(units(chain.variable("juror_fee").await?));
    let needed = bond.saturating_add(fees);
    let address = chain.address();
    let balance = units(chain.balance(address).await?);
    if balance < needed {
        return Err(DisputeError::Balance {
            needed,
            address,
            balance,
        });
    }
    Ok((bond, fees))
}

/// What [`advance`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The jury was drawn, or the case closed for want of jurors.
    Drawn,
    /// The case is over.
    Settled,
    /// The ruling was carried out.
    Concluded,
    /// Nothing is due now; the unix second from which something is.
    Waits(u64),
    /// The dispute is over.
    Over,
}

/// Does what is due in the dispute `id` and anyone may do, once.
///
/// # Errors
/// The chain does not answer or refuses, or there is no such dispute.
pub async fn advance(chain: &ChainClient, id: B256) -> Result<Step, DisputeError> {
    let dispute = chain.dispute_of(id).await?;
    if dispute.reporter.is_zero() {
        return Err(DisputeError::Unknown(id));
    }
    if dispute.over {
        return Ok(Step::Over);
    }
    let case = chain.case_of(dispute.caseId).await?;
    let case = case.ok_or(DisputeError::Unknown(id))?;
    if case.ruling != Ruling::None {
        chain.conclude(id).await?;
        return Ok(Step::Concluded);
    }
    let now = chain.latest_block().await?.timestamp;
    let due = if case.stage == Stage::Open {
        case.draw_until
    } else {
        case.reveal_until
    };
    if now > due {
        chain.settle_jury(dispute.caseId).await?;
        return Ok(Step::Settled);
    }
    if case.stage == Stage::Open {
        return match chain.draw_jury(dispute.caseId).await {
            Ok(_) => Ok(Step::Drawn),
            // The round of the draw is not closed: somebody's heartbeat closes it.
            Err(ClientError::Refused(why)) if why.name == "BeaconNotReady" => {
                Ok(Step::Waits(now + 1))
            }
            Err(error) => Err(error.into()),
        };
    }
    Ok(Step::Waits(due + 1))
}
