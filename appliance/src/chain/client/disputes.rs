//! Evidence, judges and chain variables' consequences: announce, dispute, prove, vote, conclude.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::providers::Provider as _;
use alloy::sol_types::{SolEvent as _, SolValue};
use plumbline_contracts::abi::backhaul::IBackhaul::{SignedCommit, SignedReport};
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use serde::Serialize;

use super::types::{Drawn, Sent};
use super::{ChainClient, ClientError};

pub use plumbline_contracts::{Ruling, Stage};

/// A jury's case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Case {
    /// Where it stands.
    pub stage: Stage,
    /// What came of it; [`Ruling::None`] while it is not over.
    pub ruling: Ruling,
    /// Hash of the evidence (BLAKE3).
    pub evidence: B256,
    /// Unix seconds until which it can be drawn.
    pub draw_until: u64,
    /// Unix seconds until which votes are committed; 0 before the draw.
    pub commit_until: u64,
    /// How long that is from the draw on, seconds.
    pub commit_seconds: u64,
    /// Unix seconds until which they are then revealed; 0 before the draw.
    pub reveal_until: u64,
    /// Round of the beacon it was drawn with; 0 before the draw.
    pub round: u64,
    /// Mix of that round.
    pub beacon: B256,
    /// Who sits; empty before the draw.
    pub jurors: Vec<Address>,
}

/// A juror's part in a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Ballot {
    /// Whether it was drawn.
    pub is_seated: bool,
    /// What it committed to; zero before.
    pub commitment: B256,
    /// What it revealed; [`Ruling::None`] before.
    pub vote: Ruling,
}

/// Most tickets of one juror in a draw: `Jury.MAX_TICKETS`.
pub const MAX_TICKETS: u8 = 8;

/// Evidence that needs no judge, as the backhaul contract takes it.
#[derive(Clone, Debug)]
pub enum Offence {
    /// A prover signed two different commitments for one phase.
    TwoCommits(B256, Box<[SignedCommit; 2]>),
    /// A challenger signed two different reports for one phase.
    TwoReports(B256, Box<[SignedReport; 2]>),
}

impl Offence {
    /// The bytes that are announced and shown.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::TwoCommits(id, pair) => {
                (U256::from(1), *id, pair[0].clone(), pair[1].clone()).abi_encode_params()
            }
            Self::TwoReports(id, pair) => {
                (U256::from(2), *id, pair[0].clone(), pair[1].clone()).abi_encode_params()
            }
        }
        .into()
    }
}

/// What a juror commits to: keccak256(abi.encode(case, juror, vote, salt)).
#[must_use]
pub fn vote_hash(case: B256, juror: Address, vote: Ruling, salt: B256) -> B256 {
    keccak256((case, juror, U256::from(vote as u8), salt).abi_encode())
}

/// Disputes.
impl ChainClient {
    /// Says that this client holds evidence that hashes to `hash`.
    ///
    /// # Errors
    /// See [`ClientError`]; likewise for all that follow.
    pub async fn announce(&self, hash: B256) -> Result<Sent, ClientError> {
        let call = Disputes::announceCall { hash };
        self.send("announce", self.deployment.disputes, &call).await
    }

    /// Announces a dispute; [`dispute`](Self::dispute) follows in a later block.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn announce_dispute(
        &self,
        proof: Address,
        subject: B256,
        accused: Address,
        evidence: B256,
        salt: B256,
    ) -> Result<Sent, ClientError> {
        let hash = keccak256((proof, subject, accused, evidence, salt).abi_encode());
        self.announce(hash).await
    }

    /// Brings evidence that a jury must judge; bond and fees must be allowed to the vault. `source` is a URL
    /// of it, or nothing. Returns the dispute's id.
    ///
    /// # Errors
    /// See [`ClientError`]; `NotAnnounced` if it was not announced in an earlier block, `DisputeExists` if it
    /// is being judged or was, `AlreadyPunished` if the accused was punished in this matter.
    pub async fn dispute(
        &self,
        proof: Address,
        subject: B256,
        accused: Address,
        evidence: B256,
        salt: B256,
        source: &str,
    ) -> Result<(B256, Sent), ClientError> {
        let call = Disputes::disputeCall {
            proof,
            subject,
            accused,
            evidence,
            salt,
            source: source.to_owned(),
        };
        let to = self.deployment.disputes;
        let sent = self.send("dispute", to, &call).await?;
        // Which attempt it is, and so its id, only the contract knows.
        let what = "the receipt of a dispute";
        let receipt = async { self.provider.get_transaction_receipt(sent.hash).await };
        let receipt = self.ask(what, receipt).await?;
        let logs = receipt.iter().flat_map(|r| r.logs());
        let mut told = logs
            .filter(|log| log.address() == to)
            .filter_map(|log| Disputes::Disputed::decode_log(&log.inner).ok());
        let told = told.next().ok_or_else(|| {
            let words = format!("{} holds no Disputed event", sent.hash);
            self.malformed(what, words)
        })?;
        Ok((told.id, sent))
    }

    /// The dispute in which this evidence was brought last; `None` if it never was.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn last_dispute(
        &self,
        proof: Address,
        subject: B256,
        accused: Address,
        evidence: B256,
    ) -> Result<Option<B256>, ClientError> {
        let call = Disputes::lastOfCall {
            proof,
            subject,
            accused,
            evidence,
        };
        let id = self.read("lastOf", self.deployment.disputes, &call).await?;
        Ok((!id.is_zero()).then_some(id))
    }

    /// Carries out what the jury ruled in the dispute `id`.
    ///
    /// # Errors
    /// See [`ClientError`]; `JuryOut` before it has.
    pub async fn conclude(&self, id: B256) -> Result<Sent, ClientError> {
        let call = Disputes::concludeCall { id };
        self.send("conclude", self.deployment.disputes, &call).await
    }

    /// The dispute `id`; its reporter is zero if there is none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn dispute_of(&self, id: B256) -> Result<Disputes::Dispute, ClientError> {
        let call = Disputes::getCall { id };
        self.read("get", self.deployment.disputes, &call).await
    }

    /// Announces evidence that needs no judge; [`prove`](Self::prove) follows in a later block.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn announce_proof(
        &self,
        proof: Address,
        evidence: &Bytes,
        salt: B256,
    ) -> Result<Sent, ClientError> {
        let hash = keccak256((proof, keccak256(evidence), salt).abi_encode());
        self.announce(hash).await
    }

    /// Proves an offence whose evidence stands alone.
    ///
    /// # Errors
    /// See [`ClientError`]; `NoOffence` if it shows none.
    pub async fn prove(
        &self,
        proof: Address,
        evidence: Bytes,
        salt: B256,
    ) -> Result<Sent, ClientError> {
        let call = Disputes::proveCall {
            proof,
            evidence,
            salt,
        };
        self.send("prove", self.deployment.disputes, &call).await
    }
}

/// Juries.
impl ChainClient {
    /// The case `id`; `None` if there is none.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn case_of(&self, id: B256) -> Result<Option<Case>, ClientError> {
        let call = Jury::getCall { id };
        let found = self.read("get", self.deployment.jury, &call).await?;
        let stage = Stage::from_u8(found.stage)
            .ok_or_else(|| self.malformed("get", format!("stage {}", found.stage)))?;
        let ruling = Ruling::from_u8(found.ruling)
            .ok_or_else(|| self.malformed("get", format!("ruling {}", found.ruling)))?;
        Ok((stage != Stage::None).then(|| Case {
            stage,
            ruling,
            evidence: found.evidence,
            draw_until: found.drawUntil.to(),
            commit_until: found.commitUntil.to(),
            commit_seconds: found.commitSeconds.into(),
            reveal_until: found.revealUntil.to(),
            round: found.round,
            beacon: found.beacon,
            jurors: found.jurors,
        }))
    }

    /// The part of `juror` in the case `id`; no commitment and no vote if it does not sit there.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ballot_of(&self, id: B256, juror: Address) -> Result<Ballot, ClientError> {
        let call = Jury::ballotOfCall { id, juror };
        let found = self.read("ballotOf", self.deployment.jury, &call).await?;
        let vote = Ruling::from_u8(found.vote)
            .ok_or_else(|| self.malformed("ballotOf", format!("vote {}", found.vote)))?;
        Ok(Ballot {
            is_seated: found.seated,
            commitment: found.commitment,
            vote,
        })
    }

    /// How the jury of a case was drawn; `None` before it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn jury_draw_of(&self, id: B256) -> Result<Option<Drawn>, ClientError> {
        let jury = self.deployment.jury;
        let found = self.read("get", jury, &Jury::getCall { id }).await?;
        if found.drawnBlock.is_zero() {
            return Ok(None);
        }
        let block = found.drawnBlock.to();
        let event: Jury::Drawn = self.event("Drawn event", jury, id, block).await?;
        Ok(Some(Drawn {
            round: event.round,
            beacon: event.beacon,
            pool: event.pool,
            most: MAX_TICKETS,
            looks: self.looks("Drawn event", &event.looks)?,
        }))
    }

    /// Draws the jury of a case, once the beacon allows.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn draw_jury(&self, id: B256) -> Result<Sent, ClientError> {
        let call = Jury::drawCall { id };
        self.send("draw", self.deployment.jury, &call).await
    }

    /// A juror commits to its vote: [`vote_hash`].
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn commit_vote(&self, id: B256, commitment: B256) -> Result<Sent, ClientError> {
        let call = Jury::commitCall { id, commitment };
        self.send("commit", self.deployment.jury, &call).await
    }

    /// A juror reveals its vote.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reveal_vote(
        &self,
        id: B256,
        vote: Ruling,
        salt: B256,
    ) -> Result<Sent, ClientError> {
        let call = Jury::revealCall {
            id,
            vote: vote as u8,
            salt,
        };
        self.send("reveal", self.deployment.jury, &call).await
    }

    /// Ends a case whose time is over.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn settle_jury(&self, id: B256) -> Result<Sent, ClientError> {
        let call = Jury::settleCall { id };
        self.send("settle", self.deployment.jury, &call).await
    }
}
