//! Who began and withheld its seed: asked for it on the chain, and its bond taken if it gives none.
//!
//! ```text
//!   measurement over ─► judged: anyone withheld? ─no─► nothing
//!                          └ yes: name each ─► sleep until the last may answer ─► forfeit who did not
//! ```
//! Every step is taken from what the chain says, so that a coordinator that was killed goes on where it
//! stopped. Whether anyone withheld is read from the result kept on disk: the log is read only if so.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use plumbline_contracts::Answer;
use plumbline_proof::backhaul::record::Record;

use super::{Hub, RETRY, RETRY_MOST};
use crate::clock;
use crate::metrics::Transaction;
use crate::ui::results::MeasureResult;

/// One that withheld its seed, and its word that it would begin.
struct Withheld {
    index: u16,
    seed_hash: B256,
    signature: Vec<u8>,
}

/// Names who withheld its seed in the finished measurement `id`, and takes the bonds that fall due.
pub(super) async fn pursue(hub: Arc<Hub>, id: B256) {
    let mut retry = RETRY;
    while let Err(error) = attempt(&hub, id).await {
        tracing::warn!(%id, %error, wait_s = retry.as_secs_f32(), "cannot pursue who withheld its seed; tried again");
        tokio::time::sleep(retry).await;
        retry = (2 * retry).min(RETRY_MOST);
    }
}

async fn attempt(hub: &Arc<Hub>, id: B256) -> Result<(), String> {
    let kept = hub.clone();
    let withheld = tokio::task::spawn_blocking(move || withheld(&kept, id)).await;
    let withheld = withheld.map_err(|e| e.to_string())??;
    let mut named = Vec::new();
    for one in &withheld {
        if let Some(until) = name(hub, id, one).await? {
            named.push((one.index, until));
        }
    }
    for (index, until) in named {
        let left = (until + 1).saturating_sub(clock::realtime_s());
        tokio::time::sleep(Duration::from_secs(left)).await;
        forfeit(hub, id, index).await?;
    }
    Ok(())
}

fn withheld(hub: &Hub, id: B256) -> Result<Vec<Withheld>, String> {
    let kept = hub.store.result(&id.0).map_err(|e| e.to_string())?;
    let Some(bytes) = kept else {
        return Ok(Vec::new());
    };
    let result: MeasureResult = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    if result.withheld().next().is_none() {
        return Ok(Vec::new());
    }
    let log = hub.store.session(&id.0).map_err(|e| e.to_string())?;
    let record = Record::read(&log).map_err(|(_, refusal)| refusal.to_string())?;
    let those = result.withheld().filter_map(|challenger| {
        let at = usize::from(challenger.index);
        let seed = record.seeds.get(at)?.as_ref()?;
        let ready = record.ready.get(at)?.as_ref()?;
        Some(Withheld {
            index: challenger.index,
            seed_hash: seed.message.seed_hash.into(),
            signature: ready.message.settlement.clone(),
        })
    });
    Ok(those.collect())
}

/// Until when a challenger that is named can answer; none if it need not, or cannot be named.
async fn name(hub: &Hub, id: B256, one: &Withheld) -> Result<Option<u64>, String> {
    let look = || async {
        let case = hub.chain.seed_case_of(id, one.index).await;
        case.map_err(|e| e.to_string())
    };
    if look().await?.answer == Answer::None {
        let named = hub
            .chain
            .name_withheld(id, one.index, one.seed_hash, &one.signature)
            .await;
        hub.metrics.transaction(Transaction::Name, named.is_ok());
        match named {
            Ok(_) => {
                tracing::info!(%id, index = one.index, "named: it began and withheld its seed")
            }
            Err(error) if error.refusal().is_some() => {
                tracing::warn!(%id, index = one.index, %error, "it withheld its seed, and cannot be named");
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    let case = look().await?;
    Ok((case.answer == Answer::Named).then_some(case.until))
}

async fn forfeit(hub: &Hub, id: B256, index: u16) -> Result<(), String> {
    let case = hub
        .chain
        .seed_case_of(id, index)
        .await
        .map_err(|e| e.to_string())?;
    if case.answer != Answer::Named {
        tracing::info!(%id, index, answer = ?case.answer, "it has answered");
        return Ok(());
    }
    let sent = hub.chain.forfeit(id, index).await;
    // Refused as long as the chain's clock is behind ours: tried again.
    hub.metrics.transaction(Transaction::Forfeit, sent.is_ok());
    sent.map_err(|e| e.to_string())?;
    tracing::info!(%id, index, "its bond is the payer's");
    Ok(())
}
