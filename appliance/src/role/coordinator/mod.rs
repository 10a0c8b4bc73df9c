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
mod hub;
mod terms;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address as ChainAddress, B256};
use plumbline_contracts::State;
use plumbline_proof::backhaul::coordinator::CoordinatorAction;
use plumbline_proof::backhaul::messages::{ChallengeId, Notice};
use plumbline_trust::Address;

pub use self::hub::{HearError, Hub, Session};
pub use self::terms::Terms;
use super::ledger;
use super::node::member;
use crate::chain::client::{ClientError, Measurement};
use crate::clock;
use crate::config::Role;
use crate::metrics::{Outcome, Proof, Transaction};

/// How often the chain is looked at for new requests.
const LOOK: Duration = Duration::from_millis(100);
/// How often a request's task looks again at what it waits for.
const STEP: Duration = Duration::from_millis(50);
/// Pause after the chain or the store failed; doubled each time it fails again, up to [`RETRY_MOST`].
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MOST: Duration = Duration::from_secs(30);

/// Watches the chain from its first block and drives every request that names this coordinator.
pub async fn watch(hub: Arc<Hub>) {
    let mut next = 0;
    let mut known: HashSet<B256> = HashSet::new();
    loop {
        match unseen(&hub, &mut next).await {
            Ok(requests) => {
                for id in requests {
                    if known.insert(id) {
                        tokio::spawn(drive(hub.clone(), id));
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read requests from the chain"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn unseen(hub: &Hub, next: &mut u64) -> Result<Vec<B256>, ClientError> {
    // Only what is settled: a request that moves to another block must not be passed by.
    let head = hub.chain.settled_height().await?;
    if *next > head {
        return Ok(Vec::new());
    }
    let found = hub.chain.requests_between(*next, head).await?;
    *next = head + 1;
    Ok(found)
}

/// Drives one request to its end.
async fn drive(hub: Arc<Hub>, id: B256) {
    let asked = loop {
        match hub.chain.request_of(id).await {
            Ok(asked) => break asked,
            Err(error) => tracing::warn!(%error, %id, "cannot read the request"),
        }
        tokio::time::sleep(RETRY).await;
    };
    if asked.request.coordinator != hub.chain.address() {
        return;
    }
    if let Err(why) = hub.terms.check(&asked.request, clock::realtime_s())
        && !is_begun(&hub, id).await
    {
        tracing::warn!(%id, why, "a request is not begun: the payer is refunded after the deadline");
        hub.decline(id.0, why);
        return;
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
                return;
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
                Err(e) if e.refusal().is_some_and(|r| r.name == "BeaconNotReady") => {}
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
            Err(e) if e.refusal().is_some_and(|r| r.name == "DisputeWindowOpen") => {
                return Ok(Next::Again(Duration::from_millis(100)));
            }
            Err(e) => return Err(e.to_string()),
        },
        State::None | State::Disputed => {}
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
    for action in session.due() {
        match action {
            CoordinatorAction::Anchor(setup) => {
                if state == State::Selected {
                    hub.chain
                        .begin(id, setup.into())
                        .await
                        .map_err(|e| e.to_string())?;
                    hub.metrics.transaction(Transaction::Begin, true);
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
        payer: ours(request.payer),
        prover: member(&hub.chain, request.prover).await?,
        coordinator: member(&hub.chain, request.coordinator).await?,
        beacon: drawn.beacon.0,
        pool: drawn.pool,
        looks: drawn.looks,
        challengers,
    })
}

/// Text of a challenge id.
pub fn name_of(id: &ChallengeId) -> String {
    format!("0x{}", hex::encode(id))
}
