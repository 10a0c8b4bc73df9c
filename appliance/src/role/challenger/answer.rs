//! What a challenger owes once it has said that it begins: its seed, if it is named on the chain.
//!
//! ```text
//!   Ready said ─► seed in the journal ─► named? ─no, and can still be─► wait ─► named? …
//!   restart ──────────────┘                │                              └ nobody can be named any more: forgotten
//!                                          └ yes: give(seed)
//! ```
//!
//! **Guarantees.** The seed goes onto the chain only when the contract says that this challenger is named,
//! which it does of measurements that are over. Who is not named sends no transaction. A chain that says so too early
//! gains nothing: with the seed the answer can be computed without the packets, so the journal takes no report after
//! it was given.
//!
//! **Limits.** A challenger that is down for the whole time to answer, or lost its journal, loses its bond if it is
//! named. The chain is asked where the node asks everything.
//!
//! **Tests.** `appliance/tests/netns/bond.rs`.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use plumbline_contracts::Answer;

use crate::chain::client::ClientError;
use crate::journal::JournalError;
use crate::role::node::Node;

/// The chain is asked so many times within the time that there is to answer.
const LOOKS: u32 = 6;
/// Shortest and longest time between two of them.
const LOOK_LEAST: Duration = Duration::from_millis(200);
const LOOK_MOST: Duration = Duration::from_secs(10);
/// Between two looks where the chain did not answer, or not for good.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Refusals that time does not change.
const FINAL: [&str; 2] = ["AnswerTooLate", "SeedDoesNotOpen"];

/// Watches for what an earlier process of this challenger began.
pub(crate) fn resume(node: &Arc<Node>) -> Result<(), JournalError> {
    for (id, index, seed) in node.journal.owed()? {
        tokio::spawn(watch(node.clone(), id.into(), index, seed.into()));
    }
    Ok(())
}

/// Gives `seed` if challenger `index` is named for `id`; ends when nobody can be any more.
pub(super) async fn watch(node: Arc<Node>, id: B256, index: u16, seed: B256) {
    answer(&node, id, index, seed).await;
    let settled = tokio::task::spawn_blocking(move || node.journal.settled(&id.0)).await;
    if let Ok(Err(error)) = settled {
        tracing::warn!(%id, %error, "the seed stays in the journal");
    }
}

async fn answer(node: &Node, id: B256, index: u16, seed: B256) {
    loop {
        let wait = match look(node, id, index, seed).await {
            Ok(Some(wait)) => wait,
            Ok(None) => return,
            // Anything else may be a block that did not stay.
            Err(error) if error.refusal().is_some_and(|r| FINAL.contains(&&*r.name)) => {
                tracing::warn!(%id, %error, "the seed was not taken");
                return;
            }
            Err(error) => {
                tracing::warn!(%id, %error, "cannot see whether this challenger is named");
                LOOK_AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// How long until the next look; none if there is nothing more to look for.
async fn look(
    node: &Node,
    id: B256,
    index: u16,
    seed: B256,
) -> Result<Option<Duration>, ClientError> {
    let chain = &node.chain;
    // In this order: whoever was named up to that block is seen to be.
    let head = chain.latest_block().await?;
    match chain.seed_case_of(id, index).await?.answer {
        Answer::Named => {
            let journal = node.journal.clone();
            let noted = tokio::task::spawn_blocking(move || journal.give(&id.0)).await;
            // Not given unless it is on disk, whatever went wrong.
            let noted = noted.map_err(|e| e.to_string());
            let noted = noted.and_then(|done| done.map_err(|e| e.to_string()));
            if let Err(error) = noted {
                tracing::warn!(%id, %error, "the seed is not given");
                return Ok(Some(LOOK_AGAIN));
            }
            let sent = chain.give_seed(id, index, seed).await?;
            tracing::info!(%id, block = sent.block, "named: the seed is on the chain");
            return Ok(None);
        }
        Answer::None => {}
        Answer::Given | Answer::Forfeited => return Ok(None),
    }
    if head.timestamp > chain.named_until(id).await? {
        return Ok(None);
    }
    let answer_s = chain.seed_answer_s().await?;
    let wait = Duration::from_secs(answer_s) / LOOKS;
    Ok(Some(wait.clamp(LOOK_LEAST, LOOK_MOST)))
}
