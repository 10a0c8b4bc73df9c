//! What a challenger owes once it has said that it begins: its seed, if it is named on the chain.
//!
//! ```text
//!   Ready said ─► named? ─no, and can still be─► wait ─► named? …
//!                   │                              └ nobody can be named any more: the seed is forgotten
//!                   └ yes: give(seed)
//! ```
//!
//! **Guarantees.** The seed goes onto the chain only when the contract says that this challenger is named,
//! which it does of measurements that are over. Who is not named sends no transaction.
//!
//! **Limits.** The seed is in memory: a process that dies before the measurement is over cannot answer, and
//! loses its bond if it is named. The chain is asked where the node asks everything.
//!
//! **Tests.** `appliance/tests/netns/bond.rs`.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use plumbline_contracts::Answer;

use crate::chain::client::{ChainClient, ClientError};
use crate::role::node::Node;

/// The chain is asked so many times within the time that there is to answer.
const LOOKS: u32 = 6;
/// Shortest and longest time between two of them.
const LOOK_LEAST: Duration = Duration::from_millis(200);
const LOOK_MOST: Duration = Duration::from_secs(10);

/// Gives `seed` if challenger `index` is named for `id`; ends when nobody can be any more.
pub(super) async fn watch(node: Arc<Node>, id: B256, index: u16, seed: B256) {
    loop {
        let wait = match look(&node.chain, id, index, seed).await {
            Ok(Some(wait)) => wait,
            Ok(None) => return,
            Err(error) if error.refusal().is_some() => {
                tracing::warn!(%id, %error, "the seed was not taken");
                return;
            }
            Err(error) => {
                tracing::warn!(%id, %error, "cannot see whether this challenger is named");
                LOOK_LEAST
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// How long until the next look; none if there is nothing more to look for.
async fn look(
    chain: &ChainClient,
    id: B256,
    index: u16,
    seed: B256,
) -> Result<Option<Duration>, ClientError> {
    // In this order: whoever was named up to that block is seen to be.
    let head = chain.latest_block().await?;
    match chain.seed_case_of(id, index).await?.answer {
        Answer::Named => {
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
