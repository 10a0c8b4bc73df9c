//! The coordinator: sees requests on the chain, has challengers drawn, keeps the session's log, judges,
//! posts the result, and ends every request that it can end.
//!
//! ```text
//!   chain ──Requested──► watch ──► drive(id), one task a request:
//!
//!     Created ─select─► Selected ─open session─► … Anchor ─begin─► Running … Judge ─report─► Reported
//!        │                                                                                     │
//!        └── deadline passed: timeout ──► TimedOut                          window over: finalize ──► Final
//!                                             └──────── who withheld its seed: name, forfeit ────────┘
//! ```
//! Every step is taken from the state that the chain is in, so a coordinator that was killed goes on
//! where it stopped: the chain remembers the request, the store the log.

mod bonds;
mod conclude;
mod cursor;
mod hub;
mod terms;

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address as ChainAddress, B256};
use plumbline_contracts::State;
use plumbline_proof::backhaul::coordinator::CoordinatorAction;
use plumbline_proof::backhaul::messages::{ChallengeId, Notice};
use plumbline_proof::backhaul::params::{ANCHOR_BLOCKS, ANCHOR_MS_MOST};
use plumbline_trust::{Address, Digest};
use tokio::task::JoinSet;

use self::cursor::Cursor;
pub use self::hub::{HearError, Hub, Session};
pub use self::terms::Terms;
use super::ledger;
use super::node::member;
use crate::chain::client::{ClientError, Measurement};
use crate::chain::{ChainClient, Engine};
use crate::clock;
use crate::config::Role;
use crate::metrics::{Outcome, Proof, Transaction};

/// How often the chain of this process is looked at for new requests.
const LOOK: Duration = Duration::from_millis(100);
/// How often another chain's nodes are: a look takes one or two calls, so that less than one a second is asked.
const LOOK_AFAR: Duration = Duration::from_secs(3);
/// Looks that fail one after the other before the coordinator says that it is deaf: some seconds, as they are
/// further and further apart.
const DEAF_AFTER: u32 = 4;
/// How often a disputed result is looked at: juries take minutes.
const DISPUTED: Duration = Duration::from_secs(2);
/// How often a request's task looks again at what it waits for.
const STEP: Duration = Duration::from_millis(50);
/// Pause after the chain or the store failed; doubled each time it fails again, up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Watches the chain from the contracts' block on, or from where it was read to before, and drives every
/// request that names this coordinator.
pub async fn watch(hub: Arc<Hub>) {
    let deployment = hub.chain.deployment();
    let name = format!("read {} {}", deployment.chain_id, deployment.backhaul);
    let kept = hub.store.mark(&name).unwrap_or_else(|error| {
        tracing::warn!(%error, "the chain is read from the contracts' block on");
        None
    });
    let mut cursor = Cursor::new(hub.first_block, kept);
    let mut driven = JoinSet::new();
    let look = match hub.engine {
        Engine::Embedded(_) => LOOK,
        Engine::Rpc(_) => LOOK_AFAR,
    };
    let (mut failed, mut retry) = (0, RETRY);
    loop {
        let wait = match unseen(&hub, &mut cursor).await {
            Ok(unseen) => {
                (failed, retry) = (0, RETRY);
                hub.hears();
                for id in unseen.requests {
                    driven.spawn(drive(hub.clone(), id));
                }
                if unseen.is_last { look } else { Duration::ZERO }
            }
            Err(error) => {
                failed += 1;
                tracing::warn!(%error, failed, "cannot read requests from the chain");
                if failed >= DEAF_AFTER {
                    hub.is_deaf(&format!(
                        "requests cannot be read from the chain ({failed} attempts): {error}"
                    ));
                }
                let wait = retry;
                retry = (2 * retry).min(RETRY_MOST);
                wait
            }
        };
        while let Some(ended) = driven.try_join_next() {
            match ended {
                Ok(id) => cursor.ended(&id),
                Err(error) => {
                    tracing::error!(%error, "a request's task ended; it is taken up after a restart")
                }
            }
        }
        if let Some(mark) = cursor.mark_due() {
            let (store, name) = (hub.store.clone(), name.clone());
            let kept = tokio::task::spawn_blocking(move || store.keep_mark(&name, mark)).await;
            if let Ok(Err(error)) = kept {
                tracing::warn!(%error, "how far the chain was read is not kept");
            }
        }
        tokio::time::sleep(wait).await;
    }
}

/// How long the blocks of a chain take, and how much later than it is made a request is seen there: in a block, one of
/// which may be missed, settled, and looked for.
///
/// # Errors
/// The chain does not answer.
pub async fn pace(chain: &ChainClient) -> Result<(Duration, Duration), ClientError> {
    let block_time = chain.block_time().await?;
    let head = chain.latest_block().await?.number;
    let behind = head.saturating_sub(chain.settled_height().await?);
    let blocks = u32::try_from(behind).unwrap_or(u32::MAX).saturating_add(2);
    Ok((block_time, block_time.saturating_mul(blocks) + LOOK_AFAR))
}

/// What a page of the chain holds.
struct Unseen {
    requests: Vec<B256>,
    /// All that is settled is read.
    is_last: bool,
}

async fn unseen(hub: &Hub, cursor: &mut Cursor) -> Result<Unseen, ClientError> {
    // Only what is settled: a request that moves to another block must not be passed by.
    let settled = hub.chain.settled_height().await?;
    let Some(page) = cursor.page(settled, hub.chain.page()) else {
        return Ok(Unseen {
            requests: Vec::new(),
            is_last: true,
        });
    };
    let found = hub.chain.requests_between(page.0, page.1).await?;
    Ok(Unseen {
        requests: cursor.read(page, found),
        is_last: page.1 == settled,
    })
}

/// Drives one request to its end, and gives its id.
async fn drive(hub: Arc<Hub>, id: B256) -> B256 {
    let asked = loop {
        match hub.chain.request_of(id).await {
            Ok(asked) => break asked,
            Err(error) => tracing::warn!(%error, %id, "cannot read the request"),
        }
        tokio::time::sleep(RETRY).await;
    };
    if asked.request.coordinator != hub.chain.address() {
        return id;
    }
    if let Err(why) = hub.terms.check(&asked.request, clock::realtime_s())
        && !is_begun(&hub, id).await
    {
        tracing::warn!(%id, why, "a request is not begun: the payer is refunded after the deadline");
        hub.decline(id.0, why);
        return id;
    }
    let began = Instant::now();
    let (mut under_way, mut retry) = (false, RETRY);
    let mut pursued = false;
    loop {
        let wait = match step(&hub, id, &asked, &mut pursued).await {
            Ok(Next::Ended(state)) => {
                if under_way {
                    ended(&hub, id, state, began.elapsed()).await;
                }
                return id;
            }
            Ok(Next::Again(wait)) => {
                retry = RETRY;
                wait
            }
            Err(error) => {
                tracing::warn!(%error, %id, wait_s = retry.as_secs_f32(), "a step failed; it is tried again");
                let wait = retry;
                retry = (2 * retry).min(RETRY_MOST);
                wait
            }
        };
        if !under_way {
            under_way = true;
            hub.metrics
                .challenge_began(Proof::Backhaul, Role::Coordinator);
        }
        match hub.session(&id.0) {
            Some(session) => {
                let _timeout = tokio::time::timeout(wait, session.wake.notified()).await;
            }
            None => tokio::time::sleep(wait).await,
        }
    }
}

/// Whether a request was taken up by an earlier process: anyone may have had its challengers drawn, and only this
/// coordinator opens its session.
async fn is_begun(hub: &Arc<Hub>, id: B256) -> bool {
    loop {
        let state = hub.chain.state_of(id).await;
        let store = hub.store.clone();
        let kept = tokio::task::spawn_blocking(move || store.session(&id.0)).await;
        match (state, kept) {
            (Ok(State::Created), _) => return false,
            (Ok(State::Selected), Ok(Ok(log))) => return !log.is_empty(),
            (Ok(state), _) if state != State::Selected => return true,
            (state, _) => tracing::warn!(%id, ?state, "cannot tell whether the request was begun"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn ended(hub: &Hub, id: B256, state: State, took: Duration) {
    let outcome = match state {
        State::TimedOut => Outcome::TimedOut,
        State::Cancelled => Outcome::Cancelled,
        _ => match hub
            .chain
            .result_of(id)
            .await
            .ok()
            .flatten()
            .map(|r| r.verdict)
        {
            Some(plumbline_contracts::Verdict::Pass) => Outcome::Pass,
            Some(plumbline_contracts::Verdict::Fail) => Outcome::Fail,
            Some(_) => Outcome::Inconclusive,
            None => Outcome::Error,
        },
    };
    hub.metrics
        .challenge_ended(Proof::Backhaul, Role::Coordinator, outcome, took);
    hub.ended(&id.0, state);
    tracing::info!(%id, %state, "request ended");
}

enum Next {
    Ended(State),
    Again(Duration),
}

async fn step(
    hub: &Arc<Hub>,
    id: B256,
    asked: &Measurement,
    pursued: &mut bool,
) -> Result<Next, String> {
    let chain = |e: ClientError| e.to_string();
    let state = hub.chain.state_of(id).await.map_err(chain)?;
    let over = matches!(
        state,
        State::Reported | State::Disputed | State::Final | State::TimedOut
    );
    if over && !std::mem::replace(pursued, true) {
        tokio::spawn(bonds::pursue(hub.clone(), id));
    }
    let late = clock::realtime_s() > asked.request.deadline;
    match state {
        State::Created | State::Selected | State::Running if late => {
            let sent = hub.chain.timeout(id).await;
            hub.metrics.transaction(Transaction::Timeout, sent.is_ok());
            // The chain's clock may be a little behind ours.
            return Ok(Next::Again(if sent.is_ok() {
                Duration::ZERO
            } else {
                RETRY
            }));
        }
        State::Created => {
            match hub.chain.select(id).await {
                Ok(_) => {
                    hub.metrics.transaction(Transaction::Select, true);
                    return Ok(Next::Again(Duration::ZERO));
                }
                // The next heartbeats of others close the round of the draw.
                Err(e) if e.refusal().is_some_and(|r| r.name == "BeaconNotReady") => {
                    return Ok(Next::Again(STEP.max(hub.block_time / 4)));
                }
                Err(e) => return Err(e.to_string()),
            }
        }
        State::Selected | State::Running => run(hub, id, asked, state).await?,
        State::Reported => match hub.chain.finalize(id).await {
            Ok(_) => {
                hub.metrics.transaction(Transaction::Finalize, true);
                conclude::settled(hub, id).await?;
                return Ok(Next::Again(Duration::ZERO));
            }
            Err(e) => match e.refusal().and_then(|r| r.wait_s) {
                // The window is open: nothing to do before it is not.
                Some(wait) => return Ok(Next::Again(Duration::from_secs(wait.max(1)))),
                None => return Err(e.to_string()),
            },
        },
        State::Disputed => return Ok(Next::Again(DISPUTED)),
        State::None => {}
        State::Final | State::TimedOut | State::Cancelled => return Ok(Next::Ended(state)),
    }
    Ok(Next::Again(STEP))
}

/// Opens the session if need be, and does what its machine wants.
async fn run(hub: &Arc<Hub>, id: B256, asked: &Measurement, state: State) -> Result<(), String> {
    let session = match hub.session(&id.0) {
        Some(session) => session,
        None => {
            let notice = notice(hub, id, asked).await?;
            let anchored = match state {
                State::Running => Some(asked_setup(hub, id).await?),
                _ => None,
            };
            let opening = hub.clone();
            let opened = tokio::task::spawn_blocking(move || opening.open(&notice, anchored)).await;
            opened
                .map_err(|e| e.to_string())?
                .map_err(|e| e.to_string())?
        }
    };
    if session.behind() {
        let (store, session) = (hub.store.clone(), session.clone());
        let flushed = tokio::task::spawn_blocking(move || session.flush(&store)).await;
        flushed
            .map_err(|e| e.to_string())?
            .map_err(|e| e.to_string())?;
    }
    let begun = session.read(|m| m.record().begun.as_ref().map(|b| b.message.setup));
    if let (State::Selected, Some(setup)) = (state, begun) {
        // It was on the chain, and a reorganisation took it back.
        begin(hub, id, &session, setup).await?;
        return Ok(());
    }
    for action in session.due() {
        match action {
            CoordinatorAction::Anchor(setup) => {
                if state == State::Selected {
                    if let Err(error) = begin(hub, id, &session, setup).await {
                        session.again(CoordinatorAction::Anchor(setup));
                        return Err(error);
                    }
                } else if asked_setup(hub, id).await? != setup {
                    return Err(
                        "another set-up is anchored on the chain; the request will time out".into(),
                    );
                }
                let (store, key, session) =
                    (hub.store.clone(), hub.network.clone(), session.clone());
                let said =
                    tokio::task::spawn_blocking(move || session.anchored(&store, &key, setup))
                        .await;
                said.map_err(|e| e.to_string())?
                    .map_err(|e| e.to_string())?;
            }
            CoordinatorAction::Judge => {
                if let Err(error) = conclude::report(hub, id, &session).await {
                    session.again(CoordinatorAction::Judge);
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Anchors a set-up, if the draw is still the one that it was made for.
async fn begin(hub: &Hub, id: B256, session: &Session, setup: Digest) -> Result<(), String> {
    let drawn = hub.chain.draw_of(id).await.map_err(|e| e.to_string())?;
    if session.read(|m| m.record().notice.message.beacon) != drawn.beacon.0 {
        return Err(
            "a reorganisation took the draw back, and others were drawn: the request will time out"
                .into(),
        );
    }
    let sent = hub.chain.begin(id, setup.into()).await;
    sent.map_err(|e| e.to_string())?;
    hub.metrics.transaction(Transaction::Begin, true);
    Ok(())
}

async fn asked_setup(hub: &Hub, id: B256) -> Result<[u8; 32], String> {
    let asked = hub.chain.request_of(id).await.map_err(|e| e.to_string())?;
    Ok(asked.setup_hash.0)
}

/// The notice of a drawn request, all of it from the chain.
async fn notice(hub: &Hub, id: B256, asked: &Measurement) -> Result<Notice, String> {
    let drawn = hub
        .chain
        .selected_event(id)
        .await
        .map_err(|e| e.to_string())?;
    let drawn = drawn.ok_or("the draw is not on the chain yet")?;
    let deployment = hub.chain.deployment();
    let ours = |a: ChainAddress| Address(a.into_array());
    let seated = drawn.seated();
    let mut challengers = Vec::with_capacity(seated.len());
    for address in seated {
        challengers.push(member(&hub.chain, address).await?);
    }
    let request = &asked.request;
    Ok(Notice {
        challenge: id.0,
        chain_id: deployment.chain_id,
        contract: ours(deployment.backhaul),
        participants: ours(deployment.participants),
        terms: ledger::terms(request).map_err(|e| e.to_string())?,
        price_per_byte: request.pricePerByte,
        deadline: request.deadline,
        anchor_ms: anchor_ms(hub.block_time),
        payer: ours(request.payer),
        prover: member(&hub.chain, request.prover).await?,
        coordinator: member(&hub.chain, request.coordinator).await?,
        beacon: drawn.beacon.0,
        pool: drawn.pool,
        looks: drawn.looks,
        challengers,
    })
}

/// How long the parties are to wait for what is anchored.
fn anchor_ms(block_time: Duration) -> u32 {
    let wait = block_time.saturating_mul(ANCHOR_BLOCKS).as_millis();
    u32::try_from(wait).map_or(ANCHOR_MS_MOST, |wait| wait.min(ANCHOR_MS_MOST))
}

/// Text of a challenge id.
pub fn name_of(id: &ChallengeId) -> String {
    format!("0x{}", hex::encode(id))
}
