//! The payer: asks, pays, waits, and believes only what it has verified itself.
//!
//! ```text
//!   (mint) ─► approve ─► request ─► wait: chain state, session steps ─► bundle ─► verify ─► document
//! ```
//! The coordinator is trusted with nothing: the bundle must hash to what is on the chain, replay to its
//! own verdict, and that verdict and figure must be the contract's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use alloy::primitives::{B256, U256};
use plumbline_contracts::State;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_proof::backhaul::bundle;
use plumbline_proof::backhaul::messages::Statement;
use plumbline_proof::backhaul::params::{Terms, TermsError, USUAL_MTU};
use plumbline_proof::backhaul::record::Record;
use plumbline_trust::Address;

use super::view::{View, ViewError};
use super::{dispute, outcome};
use crate::chain::client::{ChainClient, ClientError};
use crate::clock;
use crate::control::client::{Api, ApiError};
use crate::keyfile::Keys;
use crate::ui::results::{MeasureResult, Verdict};
use crate::ui::{Progress, Stage};

/// How often the chain is asked how far the request is.
const LOOK: Duration = Duration::from_millis(100);
/// Step of a session whose last word is an abort: after the prover's nothing follows.
const ABORT: &str = "abort";
/// How long after the deadline the coordinator, or anyone, has to end the request.
const GRACE: Duration = Duration::from_secs(15);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// Whose link.
    pub prover: Address,
    /// What is measured, in packets of any length: [`mtu`](Self::mtu) decides.
    pub terms: Terms,
    /// Bucket that the result tells the sustained rate for, beside the usual ones, bytes.
    pub burst_bytes: Option<u64>,
    /// Largest IP packet that passes the path whole, bytes; none: [`USUAL_MTU`].
    pub mtu: Option<u16>,
    /// Base units a byte.
    pub price_per_byte: u128,
    /// From now until the contract refunds.
    pub deadline: Duration,
    /// Mint lab tokens for the escrow first.
    pub faucet: bool,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// Below what the coordinator drives.
    #[error("the coordinator does not begin such a request: {0}; nothing was locked")]
    Unwanted(String),
    /// The terms cannot be measured.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// The coordinator's API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The chain, or a refusal of the contract.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// No packet is so short.
    #[error(
        "an MTU of {mtu} is too small for the prover at {endpoint}: packets are at least 1436 bytes long over IPv4, 1456 over IPv6"
    )]
    Mtu {
        /// What was asked for.
        mtu: u16,
        /// Where the prover is.
        endpoint: String,
    },
    /// Too little money, found before anything moved.
    #[error("{address} has {have} base units, the escrow takes {needed}: {hint}")]
    Balance {
        /// Whose balance.
        address: Address,
        /// What is there.
        have: U256,
        /// What is needed.
        needed: U256,
        /// What to do.
        hint: String,
    },
    /// The request ended without a result.
    #[error("the request {id} ended {state}, refunded: {why}")]
    NoResult {
        /// Which request.
        id: String,
        /// How it ended.
        state: State,
        /// Why, as far as is known.
        why: String,
    },
    /// The coordinator's evidence is not what the chain says.
    #[error("the evidence does not hold: {0}; the request is {1}")]
    Evidence(String, String),
    /// The bundle cannot be saved.
    #[error("cannot save the bundle to {0}: {1}")]
    Save(String, std::io::Error),
}

impl From<ViewError> for PayError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Api(e) => e.into(),
            ViewError::Chain(e) => e.into(),
        }
    }
}

/// Asks, waits for the end, verifies, saves. What came of it is what `view` shows, not what the coordinator says.
///
/// # Errors
/// See [`PayError`]. Whatever was locked is refunded by the contract after the deadline.
pub async fn measure(
    url: &str,
    view: &View,
    keys: &Keys,
    order: &Order,
    save: Option<&Path>,
    progress: &dyn Progress,
) -> Result<MeasureResult, PayError> {
    order.terms.check()?;
    let api = Api::new(url)?;
    let (coordinator, wanted) = api.coordinator().await?;
    let coordinator: Address = coordinator.parse().map_err(|why| ApiError::Strange {
        url: url.into(),
        why,
    })?;
    let (chain, through) = view.open(&api, keys.signer()).await?;
    let terms = fitted(&chain, order).await?;
    let request = Request {
        payer: chain.address(),
        prover: order.prover.0.into(),
        coordinator: coordinator.0.into(),
        claimBps: terms.claim_bps,
        direction: terms.direction as u8,
        n: terms.n,
        f: terms.f,
        durationMs: terms.duration_ms,
        packetBytes: terms.packet_bytes,
        pricePerByte: order.price_per_byte,
        deadline: clock::realtime_s() + order.deadline.as_secs(),
    };
    // Before anything is locked. A second later than now: that is when the coordinator sees it, at best.
    wanted
        .check(&request, clock::realtime_s() + 1)
        .map_err(PayError::Unwanted)?;
    let last = chain.last_request(chain.address()).await?;
    let (id, request) = match unfinished(&chain, last, &request, clock::realtime_s()).await? {
        Some(asked) => {
            progress.tell(&format!(
                "the same was asked before and has not ended: going on with {last}"
            ));
            (last, asked)
        }
        None => ask(&chain, request, last, order, progress).await?,
    };
    progress.note(&id.to_string());
    let mut given_up = None;
    let state = wait(&api, &chain, id, &request, &mut given_up, progress).await?;
    if state != State::Final {
        return Err(no_result(&chain, id, state, given_up).await);
    }
    progress.stage(Stage::Collect);
    let mut document = collect(&api, &chain, id, save, order.burst_bytes).await?;
    outcome::settle(&chain, id, &mut document).await?;
    document.chain.view = through.to_string();
    progress.done();
    Ok(document)
}

/// The terms with the longest packets that pass the path whole to where the prover says it is.
async fn fitted(chain: &ChainClient, order: &Order) -> Result<Terms, PayError> {
    // Nobody known there: the contract says so, in its own words.
    let known = chain.participant(order.prover.0.into()).await?;
    let endpoint = known.map_or_else(String::new, |p| p.endpoint);
    let address: Option<SocketAddr> = endpoint.parse().ok();
    let mtu = order.mtu.unwrap_or(USUAL_MTU);
    let terms = order
        .terms
        .of_mtu(mtu, address.is_some_and(|a| a.is_ipv6()));
    Ok(terms.ok_or(PayError::Mtu { mtu, endpoint })?.check()?)
}

/// What was asked as `last`, if that is the same but for its deadline and has not ended: an earlier process asked, and
/// died before it knew. Of what such a one sent and is in no block yet, and what is sent now, the contract takes
/// one: both name the same last request. `now`: unix seconds.
///
/// # Errors
/// The chain does not answer.
pub async fn unfinished(
    chain: &ChainClient,
    last: B256,
    request: &Request,
    now: u64,
) -> Result<Option<Request>, ClientError> {
    if last.is_zero() || chain.state_of(last).await?.is_over() {
        return Ok(None);
    }
    let asked = chain.request_of(last).await?.request;
    let same = Request {
        deadline: asked.deadline,
        ..request.clone()
    };
    let open = asked.deadline >= now;
    Ok((open && asked == same).then_some(asked))
}

async fn ask(
    chain: &ChainClient,
    mut request: Request,
    last: B256,
    order: &Order,
    progress: &dyn Progress,
) -> Result<(B256, Request), PayError> {
    let (_, _, escrow) = chain.quote(&request).await?;
    let mut have = chain.balance(chain.address()).await?;
    if order.faucet && have < escrow {
        progress.stage(Stage::Fund);
        chain.mint_lab(chain.address(), escrow - have).await?;
        have = chain.balance(chain.address()).await?;
    }
    if have < escrow {
        return Err(PayError::Balance {
            address: Address(chain.address().into_array()),
            have,
            needed: escrow,
            hint: hint(chain).await?,
        });
    }
    progress.stage(Stage::Request);
    // Exactly the escrow: the vault can never take more of the payer's tokens.
    if chain.allowance(chain.address()).await? != escrow {
        chain.approve(escrow).await?;
    }
    // Minting and allowing took blocks.
    request.deadline = clock::realtime_s() + order.deadline.as_secs();
    let asked = chain.request_after(&request, last).await;
    if asked.is_err() {
        // Nothing half-made stays behind: the allowance of a refused request is taken back.
        let _refused_anyway = chain.approve(U256::ZERO).await;
    }
    Ok((asked?.0, request))
}

/// What a payer without enough tokens can do. Refunds and earnings wait in the vault until they are
/// fetched: that is said first.
async fn hint(chain: &ChainClient) -> Result<String, ClientError> {
    let owed = chain.owed(chain.address()).await?;
    let send = "send it tokens, offer less with --price, or in a laboratory add --faucet";
    Ok(if owed.is_zero() {
        send.to_owned()
    } else {
        format!("{owed} more are owed to it, which `plumbline chain withdraw` fetches; or {send}")
    })
}

async fn wait(
    api: &Api,
    chain: &ChainClient,
    id: B256,
    request: &Request,
    given_up: &mut Option<String>,
    progress: &dyn Progress,
) -> Result<State, PayError> {
    let mut shown = (State::None, String::new());
    let mut over = None;
    loop {
        let state = match stands(chain, id, &mut over).await {
            Ok(state) => state,
            // The coordinator may be restarting; the request is on its chain and goes on.
            Err(ClientError::Unreachable { .. } | ClientError::TimedOut { .. })
                if clock::realtime_s() < request.deadline + GRACE.as_secs() =>
            {
                progress.note("the coordinator does not answer; waiting");
                tokio::time::sleep(LOOK * 5).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let state = match state {
            (state, true) => return Ok(state),
            (state, false) => state,
        };
        if state != shown.0 {
            progress.stage(match state {
                State::Created | State::None => Stage::Draw,
                State::Selected | State::Running => Stage::Run,
                _ => Stage::Settle,
            });
        }
        let step = match state {
            State::Selected | State::Running => api
                .session(&id.0)
                .await
                .map_or_else(|_| String::new(), |s| s.step),
            _ => String::new(),
        };
        if step != shown.1 && !step.is_empty() {
            progress.note(&step);
        }
        if given_up.is_none() && step == ABORT {
            *given_up = abandoned(api, chain, id).await;
            if let Some(why) = &given_up {
                progress.tell(&format!(
                    "{why}; the contract refunds the escrow after the deadline"
                ));
            }
        }
        shown = (state, step);
        let wait = if clock::realtime_s() > request.deadline + GRACE.as_secs() {
            end(chain, id, state).await?
        } else {
            LOOK
        };
        tokio::time::sleep(wait).await;
    }
}

/// Where the request stands, and whether it is over for good: what ended it is settled. `over` is the newest block
/// when it was first seen to be over.
async fn stands(
    chain: &ChainClient,
    id: B256,
    over: &mut Option<u64>,
) -> Result<(State, bool), ClientError> {
    let state = chain.state_of(id).await?;
    if !state.is_over() {
        *over = None;
        return Ok((state, false));
    }
    let seen = match *over {
        Some(seen) => seen,
        None => *over.insert(chain.latest_block().await?.number),
    };
    Ok((state, chain.settled_height().await? >= seen))
}

/// Ends a request that nobody else ended in time: anyone may, and the payer is the one who wants its money. How long
/// to wait before the next look; what the contract refuses is not due, or another did it meanwhile.
///
/// # Errors
/// The chain does not answer.
pub async fn end(chain: &ChainClient, id: B256, state: State) -> Result<Duration, ClientError> {
    let sent = match state {
        State::Reported => chain.finalize(id).await,
        State::Created | State::Selected | State::Running => chain.timeout(id).await,
        _ => return Ok(LOOK),
    };
    match sent {
        Ok(_) => Ok(LOOK),
        Err(error) => match error.refusal() {
            Some(refusal) => {
                let due = refusal.wait_s.map(Duration::from_secs);
                Ok(due.map_or(GRACE, |due| due.clamp(LOOK, GRACE)))
            }
            None => Err(error),
        },
    }
}

/// Why the prover does not go on, in its own words and signed by the key that the chain knows; `None` if it
/// was not the prover, or its word is not to be had.
async fn abandoned(api: &Api, chain: &ChainClient, id: B256) -> Option<String> {
    let mut log: Vec<Statement> = Vec::new();
    loop {
        let (more, _) = api.events(&id.0, log.len(), Duration::ZERO).await.ok()?;
        if more.is_empty() {
            break;
        }
        log.extend(more);
    }
    let record = Record::read(&log).ok()?;
    let notice = &record.notice.message;
    let abort = record.abort.as_ref().filter(|_| notice.challenge == id.0)?;
    let request = chain.request_of(id).await.ok()?.request;
    let known = chain.participant(request.prover).await.ok()??;
    (known.network_key.0 == abort.signed.key.0)
        .then(|| format!("the prover gave up before the start: {}", abort.message.why))
}

async fn no_result(
    chain: &ChainClient,
    id: B256,
    state: State,
    given_up: Option<String>,
) -> PayError {
    if let Some(why) = given_up {
        let id = id.to_string();
        return PayError::NoResult { id, state, why };
    }
    let why = match (state, chain.selected_of(id).await) {
        (State::Cancelled, _) => "too few live challengers for the draw".to_owned(),
        (_, Ok(drawn)) if drawn.is_empty() => {
            "challengers were not drawn before the deadline".to_owned()
        }
        _ => {
            "no result was posted before the deadline; see the coordinator's and the prover's logs"
                .to_owned()
        }
    };
    PayError::NoResult {
        id: id.to_string(),
        state,
        why,
    }
}

async fn collect(
    api: &Api,
    chain: &ChainClient,
    id: B256,
    save: Option<&Path>,
    burst_bytes: Option<u64>,
) -> Result<MeasureResult, PayError> {
    let bytes = api.bundle(&id.0).await?;
    if let Some(path) = save {
        std::fs::write(path, &bytes).map_err(|e| PayError::Save(path.display().to_string(), e))?;
    }
    let replay = tokio::task::spawn_blocking(move || bundle::verify(&bytes)).await;
    let wrong = |why: String| PayError::Evidence(why, id.to_string());
    let verified = replay.map_err(|e| wrong(e.to_string()))?;
    let posted = chain
        .result_of(id)
        .await?
        .ok_or_else(|| wrong("the chain has no result".into()))?;
    if verified.address != posted.bundle_hash.0 {
        return Err(wrong(format!(
            "the bundle hashes to {}, the chain says {}",
            hex::encode(verified.address),
            posted.bundle_hash
        )));
    }
    let (Some(record), Some(judgement)) = (&verified.record, &verified.judgement) else {
        let first = verified.checks.iter().find(|c| !c.ok);
        return Err(wrong(first.map_or_else(
            || "it cannot be read".into(),
            |c| format!("{}: {}", c.name, c.detail),
        )));
    };
    let same = dispute::is_of(chain, id, record).await;
    same.map_err(|e| wrong(e.to_string()))?;
    let mut document = outcome::from_evidence(record, judgement, &verified.address);
    let asked = burst_bytes.map(|bytes| outcome::sustained(judgement, bytes));
    document.sustained.splice(0..0, asked);
    if !outcome::is_posted(&posted, judgement) {
        return Err(wrong(format!(
            "the bundle gives {:?} at {} bit/s or more, the contract computed {} at {} bit/s or more",
            judgement.verdict,
            judgement.lower_bps(),
            posted.posted_verdict,
            posted.curve.first().copied().unwrap_or(0)
        )));
    }
    if posted.verdict != posted.posted_verdict {
        document.verdict = Verdict::Inconclusive;
        document.reason = Some(format!(
            "{} since somebody was convicted: at least {} bit/s, {} though f lie, remain; posted as {}",
            posted.verdict, posted.lower, posted.guaranteed, posted.posted_verdict
        ));
    }
    document.bundle = save.map(|p| p.display().to_string());
    Ok(document)
}
