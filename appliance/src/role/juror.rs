//! The juror: judges evidence of disputes whose jury it sits in. It has no opinion: it votes what the
//! verifier finds.
//!
//! ```text
//!   Disputed events ─► each dispute ─► advance (draw, settle, conclude: anyone may)
//!                          └─ seated? ─► evidence by its address ─┬─► judge ─────────► commit ─► reveal
//!                                                                 ├─► hand it on           ▲
//!                                        nowhere by 3/4 of the time ─► unavailable ────────┘
//! ```
//! The vote follows from the evidence, its salt from the network key, and what was committed stands on the
//! chain; so a juror that restarts in the middle goes on. The first vote is in the journal before it is
//! committed, and no other is ever signed. It never guesses: what it could get nowhere is `unavailable`, and what
//! it found it hands on at once, so that all jurors see the same. Disputes do not wait for each other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use plumbline_contracts::abi::disputes::Disputes::Dispute;
use plumbline_contracts::{Deployment, Ruling, Stage};
use plumbline_trust::NetworkKey;
use plumbline_trust::evidence::{Evidence, Finding};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::dispute::{self, DisputeError, Step};
use super::evidence::{Found, Places};
use crate::chain::client::{Ballot, Case, ChainClient, ClientError, vote_hash};
use crate::control::client::Api;
use crate::journal::{Journal, VOTE};

/// Purpose for which the network key gives a vote's salt.
const SALT: &str = "plumbline 2026-11 juror salt v1";
/// Time between two looks at the chain.
const LOOK: Duration = Duration::from_secs(1);
/// Longest search before the chain is asked again who may have the evidence.
const SEARCH: Duration = Duration::from_secs(30);
/// The part of the time to commit that is kept for what follows the search: verifying, and a vote that is final.
const KEPT: u64 = 4;
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
    /// It found the evidence nowhere yet; from this unix second on it votes `unavailable`.
    Searched(u64),
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
    /// The chain does not answer or refuses.
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
        let now = self.chain.latest_block().await?.timestamp;
        let ballot = self.chain.ballot_of(dispute.caseId, me).await?;
        if ballot.commitment.is_zero() {
            return self.commit(id, &dispute, &case, now).await;
        }
        self.reveal(dispute.caseId, &case, ballot, now).await
    }

    async fn reveal(
        &self,
        id: B256,
        case: &Case,
        ballot: Ballot,
        now: u64,
    ) -> Result<Act, DisputeError> {
        if ballot.vote != Ruling::None {
            return Ok(Act::Waits(0));
        }
        if now <= case.commit_until {
            return Ok(Act::Waits(case.commit_until + 1));
        }
        // Which it was, its commitment says.
        let mut votes = Ruling::VOTES.into_iter();
        let vote = votes.find(|vote| self.hash(id, *vote) == ballot.commitment);
        let Some(vote) = vote else {
            return Err(DisputeError::Differs(
                "the commitment on the chain was made with another key file".into(),
            ));
        };
        if now > case.reveal_until {
            return Ok(Act::Waits(0));
        }
        let salt = salt(&self.network, id);
        self.chain.reveal_vote(id, vote, salt).await?;
        Ok(Act::Revealed(vote))
    }

    /// What this juror would commit to.
    fn hash(&self, case: B256, vote: Ruling) -> B256 {
        let salt = salt(&self.network, case);
        vote_hash(case, self.chain.address(), vote, salt)
    }

    /// Looks for the evidence, and commits to what it shows.
    async fn commit(
        &self,
        id: B256,
        dispute: &Dispute,
        case: &Case,
        now: u64,
    ) -> Result<Act, DisputeError> {
        if now > case.commit_until {
            return Ok(Act::Waits(0));
        }
        let began = Instant::now();
        let due = case.commit_until - case.commit_seconds / KEPT;
        let left = Duration::from_secs(due.saturating_sub(now));
        // Who comes late looks all the same, and keeps half of what is left.
        let late = Duration::from_secs(case.commit_until - now) / 2;
        let patience = if left.is_zero() { late } else { left };
        let places = Places::of(&self.chain, &self.api).await?;
        let searched = patience.min(SEARCH);
        let found = places
            .find(&dispute.source, case.evidence.0, searched)
            .await;
        let Some(Found { bytes, evidence }) = found else {
            if searched < patience {
                return Ok(Act::Searched(due));
            }
            let why = "the evidence is nowhere".to_owned();
            return self.cast(dispute.caseId, Ruling::Unavailable, why).await;
        };
        // While others can still vote on it.
        let until = Duration::from_secs(case.commit_until - now).saturating_sub(began.elapsed());
        let others = places.hand_on(id.0, case.evidence.0, &bytes, until);
        let vote = async {
            let finding = match about(&self.chain.deployment(), dispute, &evidence) {
                Err(why) => Finding::nothing(why),
                Ok(()) => dispute::judge(&self.chain, &evidence).await?,
            };
            let vote = if finding.holds {
                Ruling::Upheld
            } else {
                Ruling::Rejected
            };
            self.cast(dispute.caseId, vote, finding.why).await
        };
        let (vote, given) = tokio::join!(vote, others);
        for (place, given) in given {
            if let Err(error) = given {
                tracing::debug!(%id, place, %error, "does not take the evidence");
            }
        }
        vote
    }

    /// Commits to `vote`, or to what was decided first.
    async fn cast(&self, case: B256, vote: Ruling, why: String) -> Result<Act, DisputeError> {
        let vote = self.decided(case, vote).await?;
        self.chain.commit_vote(case, self.hash(case, vote)).await?;
        Ok(Act::Committed(vote, why))
    }

    /// The vote that was signed first: this one, unless an earlier process was on its way with another.
    async fn decided(&self, case: B256, vote: Ruling) -> Result<Ruling, DisputeError> {
        let journal = self.journal.clone();
        let first = move || journal.decided(&case.0, VOTE, vote as u64);
        let first = tokio::task::spawn_blocking(first).await;
        let first = first.map_err(|e| DisputeError::Differs(e.to_string()))??;
        let known = Ruling::VOTES.into_iter().find(|v| *v as u64 == first);
        known.ok_or_else(|| DisputeError::Differs(format!("the journal holds vote {first}")))
    }

    /// Judges whatever there is, for ever.
    pub async fn watch(self: Arc<Self>) {
        let (mut open, mut at_work) = (BTreeSet::new(), JoinSet::new());
        let mut next = None;
        loop {
            match self.fresh(next).await {
                Ok((ids, seen)) => {
                    for id in ids {
                        // After a reorganisation the same dispute is announced again.
                        if open.insert(id) {
                            at_work.spawn(Arc::clone(&self).follow(id));
                        }
                    }
                    next = Some(seen + 1);
                }
                Err(error) => tracing::debug!(%error, "no news of disputes"),
            }
            while let Some(Ok(over)) = at_work.try_join_next() {
                open.remove(&over);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Attends to one dispute until it is over.
    async fn follow(self: Arc<Self>, id: B256) -> B256 {
        let mut trouble = None;
        loop {
            match self.attend(id).await {
                Ok(true) => return id,
                Ok(false) => trouble = None,
                // Others do the same: whoever comes second is refused, and the next look shows why.
                Err(DisputeError::Chain(ClientError::Refused(why))) => {
                    tracing::debug!(%id, %why, "somebody was first");
                }
                Err(error) => {
                    let words = error.to_string();
                    if trouble.as_ref() != Some(&words) {
                        tracing::warn!(%id, %words, "a dispute waits");
                    }
                    trouble = Some(words);
                }
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
            Ok(Act::Searched(until)) => tracing::debug!(%id, until, "no evidence yet"),
            Ok(Act::NotSeated | Act::Waits(_)) => {}
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

/// Whether the evidence is about what the dispute is about: what truly convicts one party of one measurement
/// says nothing of another.
fn about(deployment: &Deployment, dispute: &Dispute, evidence: &Evidence) -> Result<(), String> {
    let same = dispute::contract_of(deployment, &evidence.proof) == Ok(dispute.proof)
        && evidence.subject == dispute.subject.0
        && evidence.accused.0 == dispute.accused.into_array();
    if same {
        return Ok(());
    }
    Err(format!(
        "the evidence accuses {} in 0x{} of {}; the dispute accuses {} in {} of {}",
        evidence.accused,
        hex::encode(evidence.subject),
        evidence.proof,
        dispute.accused,
        dispute.subject,
        dispute.proof
    ))
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use plumbline_contracts::deploy;
    use plumbline_trust::identity;

    use super::*;

    #[test]
    fn what_convicts_one_says_nothing_of_another() {
        let plan = deploy::plan(Address::ZERO, 0, 1, &deploy::Parameters::default());
        let deployment = plan.deployment;
        let evidence = Evidence {
            proof: "backhaul".into(),
            subject: [1; 32],
            accused: identity::Address([2; 20]),
            exhibits: Vec::new(),
        };
        let brought = Dispute {
            proof: deployment.backhaul,
            subject: B256::repeat_byte(1),
            accused: Address::repeat_byte(2),
            ..Dispute::default()
        };
        assert_eq!(about(&deployment, &brought, &evidence), Ok(()));
        let mut others = vec![brought.clone(), brought.clone(), brought.clone()];
        others[0].proof = deployment.jury;
        others[1].subject = B256::repeat_byte(3);
        others[2].accused = Address::repeat_byte(3);
        for other in others {
            assert!(about(&deployment, &other, &evidence).is_err(), "{other:?}");
        }
        let alien = Evidence {
            proof: "weather".into(),
            ..evidence
        };
        assert!(about(&deployment, &brought, &alien).is_err());
    }
}
