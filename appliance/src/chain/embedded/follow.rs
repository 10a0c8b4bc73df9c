//! A follower: fetches a sequencer's blocks, executes them again, and keeps its own file.
//!
//! ```text
//!   plumbline_founding, plumbline_blocks ─► Copy (execute, compare root, hash and signer) ─► own file
//!   plumbline_signedHead at own height   ─► another hash, signed?  ─► equivocation.borsh
//! ```
//!
//! Claim: what a follower keeps, the sequencer signed and the transactions lead to. A sequencer that shows
//! another history than before is caught by its two signatures, which anybody can check. It resumes where
//! it stopped. What it does not promise: to notice transactions that were left out.
//! Tests: `appliance/tests/chain/follow.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, Bytes, U64};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use plumbline_contracts::Deployment;

use crate::chain::client::{IDLE, chained};
use crate::chain::pin::{Difference, Origin};
use crate::tls;

use super::copy::{Copy, CopyError};
use super::disk::Founding;
use super::export::{Frame, Watch};
use super::rpc::MAX_BLOCKS;
use super::seal::{Equivocation, NoEquivocation, SealBytes, SignedHead};
use super::verify::{Replayed, VerifyError};
use super::{ChainError, Embedded, OpenError, audit};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest answer, in bytes: one block at its longest, in hex.
const MAX_ANSWER: usize = 80 << 20;
/// Pause before asking for more of a chain that had none.
const LOOK: Duration = Duration::from_secs(1);
/// Name of the evidence in the follower's directory.
const EVIDENCE: &str = "equivocation.borsh";

/// Answer to `plumbline_founding`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Founded {
    pub(super) genesis: Bytes,
    pub(super) deployment: Bytes,
    pub(super) signature: Bytes,
}

/// Answer to `plumbline_signedHead`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Signed {
    pub(super) chain: B256,
    pub(super) number: U64,
    pub(super) hash: B256,
    pub(super) signature: Bytes,
}

/// Whom to follow.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A chain of this process.
    Here(Arc<Embedded>),
    /// The JSON-RPC at a URL.
    Http {
        /// The URL.
        url: String,
        /// With time limit.
        client: reqwest::Client,
    },
}

/// How far to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// To this block.
    Height(u64),
    /// To what is the newest block when asked.
    Latest,
    /// For ever.
    Stopped,
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The copy cannot be written, or a block is not what it says.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// No answer.
    #[error("{url}: {why}; is the coordinator running, and its chain served there?")]
    Unreachable {
        /// Whom.
        url: String,
        /// What happened.
        why: String,
    },
    /// An answer that is none.
    #[error("{url}: {method}: {why}")]
    Strange {
        /// Whom.
        url: String,
        /// What was asked.
        method: &'static str,
        /// What it answered.
        why: String,
    },
    /// It signed two blocks of one height.
    #[error(
        "the sequencer signed two different blocks {number}: {kept} and {shown}; the evidence is in {evidence} \
         and convicts {signer}"
    )]
    Equivocated {
        /// Height.
        number: u64,
        /// Hash of the block that is kept here.
        kept: B256,
        /// Hash of the block that it shows now.
        shown: B256,
        /// Who signed both.
        signer: alloy::primitives::Address,
        /// The file.
        evidence: PathBuf,
    },
    /// It has fewer blocks than before.
    #[error(
        "the sequencer's chain ends at block {theirs}, the copy here at {ours}: it lost blocks that it had signed \
         (restored from a backup?); keep this copy, the sequencer can go on from it"
    )]
    Behind {
        /// Its newest block.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// It is of another chain than the pinned one.
    #[error("{url}: {difference}")]
    NotPinned {
        /// Whom.
        url: String,
        /// In what.
        difference: Difference,
    },
    /// The evidence is none: this program's error, not the sequencer's.
    #[error("block {number} differs, but: {why}")]
    Evidence {
        /// Height.
        number: u64,
        /// Why it convicts nobody.
        why: NoEquivocation,
    },
}

macro_rules! through_copy {
    ($($error:ty),+) => {
        $(impl From<$error> for FollowError {
            fn from(e: $error) -> Self {
                Self::Copy(e.into())
            }
        })+
    };
}
through_copy!(ChainError, OpenError, VerifyError, super::StoreError);

impl Upstream {
    /// The JSON-RPC at `url`.
    ///
    /// # Errors
    /// If no HTTP client can be made.
    pub fn http(url: &str) -> Result<Self, FollowError> {
        let unreachable = |why: String| FollowError::Unreachable {
            url: url.to_owned(),
            why,
        };
        let target = tls::target(url).map_err(unreachable)?;
        let client = target
            .client
            .timeout(ANSWER)
            .pool_idle_timeout(IDLE)
            .build();
        Ok(Self::Http {
            url: target.url.into(),
            client: client.map_err(|e| unreachable(e.to_string()))?,
        })
    }

    pub(super) fn name(&self) -> String {
        match self {
            Self::Here(_) => "embedded chain".to_owned(),
            Self::Http { url, .. } => url.clone(),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &'static str,
        parameters: Value,
    ) -> Result<T, FollowError> {
        let strange = |why: String| FollowError::Strange {
            url: self.name(),
            method,
            why,
        };
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters });
        let mut answer = self.pass(method, request).await?;
        if let Some(error) = answer.get("error") {
            return Err(strange(error["message"].to_string()));
        }
        T::deserialize(answer["result"].take()).map_err(|e| strange(e.to_string()))
    }

    /// Hands a request on, and gives the answer as it is.
    pub(super) async fn pass(
        &self,
        method: &'static str,
        request: Value,
    ) -> Result<Value, FollowError> {
        match self {
            Self::Here(chain) => Ok(chain.rpc(request).await),
            Self::Http { url, client } => {
                let bytes = post(client, url, &request).await;
                let bytes = bytes.map_err(|why| FollowError::Unreachable {
                    url: url.clone(),
                    why,
                })?;
                serde_json::from_slice(&bytes).map_err(|e| FollowError::Strange {
                    url: url.clone(),
                    method,
                    why: e.to_string(),
                })
            }
        }
    }

    async fn founder(&self) -> Result<(Founding, audit::Founder, Deployment), FollowError> {
        let founding = self.founding().await?;
        let (record, deployment) = audit::parse(&founding, Path::new("the source"))?;
        let founder = audit::Founder::new(&record, &founding)?;
        Ok((founding, founder, deployment))
    }

    /// What the chain was founded on, and where its contracts are, as it says itself; signed by its founder.
    ///
    /// # Errors
    /// It cannot be asked, or has no such record.
    pub async fn origin(&self) -> Result<(Origin, Deployment), FollowError> {
        let (_, founder, deployment) = self.founder().await?;
        let origin = Origin {
            block: founder.chain,
            signer: founder.address,
        };
        Ok((origin, deployment))
    }

    /// The founding record, if it is the pinned one.
    pub(super) async fn founded(
        &self,
        pinned: &Origin,
    ) -> Result<(Founding, audit::Founder), FollowError> {
        let (founding, founder, _) = self.founder().await?;
        let differs = |what: &str, found: String, pinned: String| FollowError::NotPinned {
            url: self.name(),
            difference: Difference::new(what.to_owned(), found, pinned),
        };
        if founder.chain != pinned.block {
            let [found, pinned] = [founder.chain, pinned.block].map(|b| b.to_string());
            let what = "the hash of what it was founded on (block 0)";
            return Err(differs(what, found, pinned));
        }
        if founder.address != pinned.signer {
            let [found, pinned] = [founder.address, pinned.signer].map(|a| a.to_string());
            return Err(differs("who signs its blocks", found, pinned));
        }
        Ok((founding, founder))
    }

    /// Whether its newest block is signed by who founded the pinned chain.
    ///
    /// # Errors
    /// It is not, or is of another chain, or there is no answer.
    pub async fn is_founded(&self, pinned: &Origin) -> Result<(), FollowError> {
        let (_, founder) = self.founded(pinned).await?;
        let newest = self.signed(None).await?;
        let newest = newest.ok_or_else(|| FollowError::Strange {
            url: self.name(),
            method: "plumbline_signedHead",
            why: "it has no block".to_owned(),
        })?;
        founder.check(newest.number, newest.hash.into(), newest.signature)?;
        Ok(())
    }

    async fn founding(&self) -> Result<Founding, FollowError> {
        const METHOD: &str = "plumbline_founding";
        let founded: Founded = self.ask(METHOD, json!([])).await?;
        Ok(Founding {
            genesis: founded.genesis.to_vec(),
            deployment: founded.deployment.to_vec(),
            seal: self.seal(METHOD, &founded.signature)?,
        })
    }

    async fn blocks(&self, from: u64, count: u64) -> Result<Vec<Frame>, FollowError> {
        const METHOD: &str = "plumbline_blocks";
        let asked = json!([U64::from(from), U64::from(count)]);
        let list: Vec<Bytes> = self.ask(METHOD, asked).await?;
        let frames = list.iter().map(|bytes| borsh::from_slice(bytes));
        let frames: Result<Vec<Frame>, _> = frames.collect();
        frames.map_err(|e| FollowError::Strange {
            url: self.name(),
            method: METHOD,
            why: e.to_string(),
        })
    }

    /// The signed head at `number`, or the newest; `None` if it has no such block.
    async fn signed(&self, number: Option<u64>) -> Result<Option<SignedHead>, FollowError> {
        const METHOD: &str = "plumbline_signedHead";
        let asked = json!([number.map(U64::from)]);
        let signed: Option<Signed> = self.ask(METHOD, asked).await?;
        let Some(signed) = signed else {
            return Ok(None);
        };
        Ok(Some(SignedHead {
            chain: signed.chain.0,
            number: signed.number.to(),
            hash: signed.hash.0,
            signature: self.seal(METHOD, &signed.signature)?,
        }))
    }

    fn seal(&self, method: &'static str, bytes: &Bytes) -> Result<SealBytes, FollowError> {
        SealBytes::try_from(bytes.as_ref()).map_err(|_| FollowError::Strange {
            url: self.name(),
            method,
            why: format!("a signature of {} bytes instead of 65", bytes.len()),
        })
    }
}

async fn post(client: &reqwest::Client, url: &str, request: &Value) -> Result<Vec<u8>, String> {
    let said = |e: reqwest::Error| chained(&e);
    let mut response = client.post(url).json(request).send().await.map_err(said)?;
    if !response.status().is_success() {
        return Err(format!("HTTP status {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("an answer of more than {MAX_ANSWER} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Follows `upstream` into `dir`, from where the copy there ends. With [`Until::Stopped`] it returns only
/// with an error.
///
/// # Errors
/// If a block is not what it says, the sequencer equivocates, or it cannot be reached.
pub async fn follow(
    upstream: &Upstream,
    dir: &Path,
    until: Until,
    watch: Watch<'_>,
) -> Result<Replayed, FollowError> {
    let mut copy = Copy::open(dir, &upstream.founding().await?)?;
    let most = match until {
        Until::Height(height) => height,
        Until::Latest | Until::Stopped => u64::MAX,
    };
    loop {
        advance(upstream, &mut copy, dir, most, watch).await?;
        let reached = match until {
            Until::Height(height) => copy.head().0 >= height,
            Until::Latest => true,
            Until::Stopped => false,
        };
        if reached {
            return Ok(copy.finish()?);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes what the sequencer has and the copy has not, up to the block `most`.
pub(super) async fn advance(
    upstream: &Upstream,
    copy: &mut Copy,
    dir: &Path,
    most: u64,
    watch: Watch<'_>,
) -> Result<(), FollowError> {
    let target = compare(upstream, copy, dir).await?.min(most);
    while copy.head().0 < target {
        let from = copy.head().0 + 1;
        let most = MAX_BLOCKS.min(target - copy.head().0);
        let frames = upstream.blocks(from, most).await?;
        if frames.is_empty() {
            compare(upstream, copy, dir).await?;
            return Err(FollowError::Strange {
                url: upstream.name(),
                method: "plumbline_blocks",
                why: format!("block {from} is not there, though it signed block {target}"),
            });
        }
        for frame in &frames {
            if let Err(error) = copy.push(frame) {
                // Perhaps it follows another block than ours: then that is what is wrong.
                copy.flush()?;
                compare(upstream, copy, dir).await?;
                return Err(error.into());
            }
            watch(copy.head().0, target);
        }
        copy.flush()?;
    }
    Ok(())
}

/// Compares the sequencer's block at our height with ours, and gives the height of its newest.
async fn compare(upstream: &Upstream, copy: &Copy, dir: &Path) -> Result<u64, FollowError> {
    let strange = |why: &str| FollowError::Strange {
        url: upstream.name(),
        method: "plumbline_signedHead",
        why: why.to_owned(),
    };
    let newest = upstream.signed(None).await?;
    let newest = newest.ok_or_else(|| strange("it has no block"))?;
    let founder = copy.founder();
    founder.check(newest.number, newest.hash.into(), newest.signature)?;
    let (ours, _) = copy.head();
    if ours == 0 {
        return Ok(newest.number);
    }
    let at = ours.min(newest.number);
    let shown = if at == newest.number {
        Some(newest.clone())
    } else {
        upstream.signed(Some(at)).await?
    };
    let shown = shown.ok_or_else(|| strange("a block that it had is gone"))?;
    let shown = founder.check(at, shown.hash.into(), shown.signature)?;
    let kept = copy.signed(at)?;
    if kept.hash != shown.hash {
        return Err(convict(kept, shown, dir)?);
    }
    if newest.number < ours {
        return Err(FollowError::Behind {
            theirs: newest.number,
            ours,
        });
    }
    Ok(newest.number)
}

/// Writes the evidence down.
fn convict(kept: SignedHead, shown: SignedHead, dir: &Path) -> Result<FollowError, FollowError> {
    let (number, one, other) = (kept.number, kept.hash.into(), shown.hash.into());
    let evidence = Equivocation {
        one: kept,
        other: shown,
    };
    let convicted = evidence
        .verify()
        .map_err(|why| FollowError::Evidence { number, why })?;
    let path = dir.join(EVIDENCE);
    let failed = |e: std::io::Error| CopyError::Failed {
        path: path.clone(),
        why: e.to_string(),
    };
    let bytes = evidence.to_bytes().map_err(failed)?;
    std::fs::write(&path, bytes).map_err(failed)?;
    Ok(FollowError::Equivocated {
        number,
        kept: one,
        shown: other,
        signer: convicted.signer,
        evidence: path,
    })
}
