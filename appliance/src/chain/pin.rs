//! What is given out of band: where the contracts are, and what they and their chain must be.
//!
//! ```text
//!   chain deploy, chain pin ─► FILE ──(by hand, by post)──► node.deployment, --deployment
//!      chain id · addresses · hash of each contract's code · hash and signer of an embedded chain's block 0
//! ```
//!
//! Claim: two files with one fingerprint pin the same. What it does not promise: that what it pins is what its
//! reader wants; whoever showed it may have lied, so the fingerprint is compared by another way than the network.
//! Tests: `appliance/tests/chain/view.rs`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use alloy::primitives::{Address, B256, keccak256};
use plumbline_contracts::Deployment;
use serde::{Deserialize, Serialize};

/// What is written of a deployment, for who uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentFile {
    /// Where the contracts are.
    #[serde(flatten)]
    pub deployment: Deployment,
    /// Block before which there is none of them: where reading the chain begins.
    #[serde(default)]
    pub block: u64,
    /// Hash (keccak256) of each contract's code, by the contract's name; empty: no code is pinned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub code: BTreeMap<String, B256>,
    /// What an embedded chain was founded on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub founding: Option<Origin>,
}

/// What an embedded chain was founded on: no other chain has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Hash of block 0, which is a hash over the founding record.
    pub block: B256,
    /// Who signs every block.
    pub signer: Address,
}

/// In what somebody's chain is not the pinned one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} is {found}; allowed: {pinned}, which is pinned. Nothing was signed: find out by another way than the \
     network who is right; if it is they, write the file anew with `plumbline chain pin`"
)]
pub struct Difference {
    what: String,
    found: String,
    pinned: String,
}

impl Difference {
    pub(super) fn new(what: String, found: String, pinned: String) -> Self {
        Self {
            what,
            found,
            pinned,
        }
    }
}

impl DeploymentFile {
    /// Reads a file.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let refuse = |why: String| {
            format!(
                "{}: {why}; allowed: a file that `plumbline chain deploy --out FILE` or `plumbline chain pin --out FILE` wrote",
                path.display()
            )
        };
        let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
        serde_json::from_str(&text).map_err(|e| refuse(e.to_string()))
    }

    /// Reads a file that pins code, too.
    ///
    /// # Errors
    /// In words, what is wrong with it.
    pub fn read_pin(path: &Path) -> Result<Self, String> {
        let pin = Self::read(path)?;
        for (name, _) in pin.deployment.contracts() {
            if !pin.code.contains_key(name) {
                return Err(format!(
                    "{}: it has no code hash of the {name} contract; allowed: a file that `plumbline chain pin --out FILE` wrote",
                    path.display()
                ));
            }
        }
        Ok(pin)
    }

    /// Writes a new file.
    ///
    /// # Errors
    /// In words, why not.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())? + "\n";
        let written = std::fs::File::create_new(path).and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(|e| e.to_string())
    }

    /// One hash over all that is pinned, to be compared by people.
    #[must_use]
    pub fn fingerprint(&self) -> B256 {
        let pinned = Self {
            block: 0,
            ..self.clone()
        };
        keccak256(serde_json::to_vec(&pinned).unwrap_or_default())
    }

    /// The first thing in which another deployment than the pinned one differs.
    #[must_use]
    pub fn differs(&self, found: &Deployment) -> Option<Difference> {
        let (ours, theirs) = (&self.deployment, found);
        if ours.chain_id != theirs.chain_id {
            let [found, pinned] = [theirs.chain_id, ours.chain_id].map(|id| id.to_string());
            return Some(Difference::new("the chain id".into(), found, pinned));
        }
        let pairs = ours.contracts().into_iter().zip(theirs.contracts());
        let other = pairs.into_iter().find(|(a, b)| a.1 != b.1);
        other.map(|((name, pinned), (_, found))| {
            let what = format!("the address of the {name} contract");
            Difference::new(what, found.to_string(), pinned.to_string())
        })
    }

    /// The first contract whose code is not the pinned one, likewise.
    #[must_use]
    pub fn differs_in_code(&self, found: &BTreeMap<String, B256>) -> Option<Difference> {
        let other = self
            .code
            .iter()
            .find(|(name, hash)| found.get(*name) != Some(*hash));
        other.map(|(name, pinned)| {
            let found = found.get(name).map_or("none".into(), B256::to_string);
            let what = format!("the hash of the {name} contract's code");
            Difference::new(what, found, pinned.to_string())
        })
    }
}
