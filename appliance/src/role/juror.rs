//! The juror: judges evidence of disputes whose jury it sits in. It has no opinion: it votes what the
//! verifier finds.
//!
//! ```text
//!   Disputed events ─► open disputes ─► advance (draw, settle, conclude: anyone may)
//!                          └─ seated? ─► evidence by its address ─► judge ─► commit ─► reveal
//! ```
//! The vote follows from the evidence, its salt from the network key, and what was committed stands on the
//! chain; so a juror that restarts in the middle goes on. The first vote is in the journal before it is
//! committed, and no other is ever signed. A juror that cannot get
//! the evidence does not vote: it is silent, and pays for that; it never guesses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256};
use plumbline_contracts::abi::disputes::Disputes::Dispute;
use plumbline_contracts::{Ruling, Stage};
use plumbline_proof::backhaul;
use plumbline_trust::NetworkKey;
use plumbline_trust::evidence::{Evidence, Finding};

use super::dispute::{self, DisputeError, Step};
use crate::chain::client::{Case, ChainClient, ClientError, vote_hash};
use crate::control::client::{Api, ApiError};
use crate::journal::{Journal, VOTE};

/// Purpose for which the network key gives a vote's salt.
const SALT: &str = "plumbline 2026-11 juror salt v1";
/// Time between two looks at the chain.
const LOOK: Duration = Duration::from_secs(1);
/// Blocks that are searched for open disputes at start-up: at a block a second, a month.
const REACH: u64 = 2_592_000;

/// A juror.
pub struct Juror {
    /// The chain, with this juror's key.
    pub chain: Arc<ChainClient>,
    /// Where evidence is.
    pub api: Api,
    /// What salts come from.
    pub network: Arc<NetworkKey>,
    /// What was signed.
    pub journal: Arc<Journal>,
}

/// What a juror did in a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// It does not sit there.
    NotSeated,
    /// It committed to this vote, for this reason.
    Committed(Ruling, String),
    /// It revealed this vote.
    Revealed(Ruling),
    /// Nothing is due now; the unix second from which something is, or 0 if nothing will be.
    Waits(u64),
}

/// The salt of a vote: from the network key, so that a restart finds it again and nobody else can.
fn salt(network: &NetworkKey, case: B256) -> B256 {
    network.derive(SALT, case.as_slice()).into()
}

impl Juror {
    /// Does what is due for this juror in the case of the dispute `id`, once.
    ///
    /// # Errors
    /// The chain or the coordinator does not answer, refuses, or has no evidence.
    pub async fn judge(&self, id: B256) -> Result<Act, DisputeError> {
        let dispute = self.chain.dispute_of(id).await?;
        if dispute.reporter.is_zero() {
            return Err(DisputeError::Unknown(id));
        }
        let case = self.chain.case_of(dispute.caseId).await?;
        let case = case.ok_or(DisputeError::Unknown(id))?;
        let me = self.chain.address();
        match case.stage {
            Stage::None | Stage::Settled => return Ok(Act::Waits(0)),
            Stage::Open => return Ok(Act::Waits(case.draw_until)),
            Stage::Drawn if !case.jurors.contains(&me) => return Ok(Act::NotSeated),
            Stage::Drawn => {}
        }
        self.vote(&dispute, &case, me).await
    }

    async fn vote(&self, dispute: &Dispute, case: &Case, me: Address) -> Result<Act, DisputeError> {
        let id = dispute.caseId;
        let now = self.chain.latest_block().await?.timestamp;
        let ballot = self.chain.ballot_of(id, me).await?;
        let salt = salt(&self.network, id);
        let of = |vote| vote_hash(id, me, vote, salt);
        if ballot.commitment.is_zero() {
            if now > case.commit_until {
                return Ok(Act::Waits(0));
            }
            let bytes = self.api.evidence(&case.evidence.0).await?;
            let (evidence, address) = Evidence::open(&bytes)?;
            let finding = if address == case.evidence.0 {
                match self.about(dispute, &evidence) {
                    Err(why) => Finding::nothing(why),
                    Ok(()) => dispute::judge(&self.chain, &evidence).await?,
                }
            } else {
                return Err(DisputeError::Differs(format!(
                    "the coordinator gave other evidence than {}",
                    case.evidence
                )));
            };
            let vote = if finding.holds {
                Ruling::Upheld
            } else {
                Ruling::Rejected
            };
            let vote = self.decided(id, vote).await?;
            self.chain.commit_vote(id, of(vote)).await?;
            return Ok(Act::Committed(vote, finding.why));
        }
        if ballot.vote != Ruling::None {
            return Ok(Act::Waits(0));
        }
        if now <= case.commit_until {
            return Ok(Act::Waits(case.commit_until + 1));
        }
        // Which of the two it was, its commitment says.
        let vote = [Ruling::Upheld, Ruling::Rejected]
            .into_iter()
            .find(|vote| of(*vote) == ballot.commitment);
        let Some(vote) = vote else {
            return Err(DisputeError::Differs(
                "the commitment on the chain was made with another key file".into(),
            ));
        };
        if now > case.reveal_until {
            return Ok(Act::Waits(0));
        }
        self.chain.reveal_vote(id, vote, salt).await?;
        Ok(Act::Revealed(vote))
    }

    /// Whether the evidence is about what the dispute is about: what truly convicts one party of one measurement
    /// says nothing of another.
    fn about(&self, dispute: &Dispute, evidence: &Evidence) -> Result<(), String> {
        let same = evidence.proof == backhaul::NAME
            && dispute.proof == self.chain.deployment().backhaul
            && evidence.subject == dispute.subject.0
            && evidence.accused.0 == dispute.accused.into_array();
        if same {
            return Ok(());
        }
        Err(format!(
            "the evidence accuses {} in 0x{} of {}; the dispute accuses {} in {}",
            evidence.accused,
            hex::encode(evidence.subject),
            evidence.proof,
            dispute.accused,
            dispute.subject
        ))
    }

    /// The vote that was signed first: this one, unless an earlier process was on its way with another.
    async fn decided(&self, case: B256, vote: Ruling) -> Result<Ruling, DisputeError> {
        let journal = self.journal.clone();
        let first = move || journal.decided(&case.0, VOTE, vote as u64);
        let first = tokio::task::spawn_blocking(first).await;
        let first = first.map_err(|e| DisputeError::Differs(e.to_string()))??;
        let votes = [Ruling::Upheld, Ruling::Rejected];
        let known = votes.into_iter().find(|v| *v as u64 == first);
        known.ok_or_else(|| DisputeError::Differs(format!("the journal holds vote {first}")))
    }

    /// Judges whatever there is, for ever.
    pub async fn watch(&self) {
        let mut open: BTreeMap<B256, Option<String>> = BTreeMap::new();
        let mut next = None;
        loop {
            match self.fresh(next).await {
                Ok((ids, seen)) => {
                    open.extend(ids.into_iter().map(|id| (id, None)));
                    next = Some(seen + 1);
                }
                Err(error) => tracing::debug!(%error, "no news of disputes"),
            }
            let mut over = Vec::new();
            for (id, trouble) in &mut open {
                match self.attend(*id).await {
                    Ok(true) => over.push(*id),
                    Ok(false) => *trouble = None,
                    // Others do the same: whoever comes second is refused, and the next look shows why.
                    Err(DisputeError::Chain(ClientError::Refused(why))) => {
                        tracing::debug!(%id, %why, "somebody was first");
                    }
                    Err(error) => {
                        let words = error.to_string();
                        if trouble.as_ref() != Some(&words) {
                            tracing::warn!(%id, %words, "a dispute waits");
                        }
                        *trouble = Some(words);
                    }
                }
            }
            for id in over {
                open.remove(&id);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Disputes since block `next`, and the block seen last.
    async fn fresh(&self, next: Option<u64>) -> Result<(Vec<B256>, u64), ClientError> {
        let head = self.chain.latest_block().await?.number;
        let from = next.unwrap_or_else(|| head.saturating_sub(REACH));
        Ok((self.chain.disputes_between(from, head).await?, head))
    }

    /// One look at one dispute; whether it is over.
    async fn attend(&self, id: B256) -> Result<bool, DisputeError> {
        match self.judge(id).await {
            Ok(Act::Committed(vote, why)) => tracing::info!(%id, %vote, why, "committed to a vote"),
            Ok(Act::Revealed(vote)) => tracing::info!(%id, %vote, "revealed a vote"),
            Ok(Act::NotSeated | Act::Waits(_)) => {}
            // Its reporter may be on the way with it.
            Err(DisputeError::Api(ApiError::Refused { status: 404, .. })) => {}
            Err(error) => return Err(error),
        }
        Ok(match dispute::advance(&self.chain, id).await? {
            Step::Over => true,
            Step::Waits(_) => false,
            step => {
                tracing::info!(%id, ?step, "a dispute went on");
                step == Step::Concluded
            }
        })
    }
}
