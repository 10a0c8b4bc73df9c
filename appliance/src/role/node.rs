//! What every participant does: be registered, stay alive, learn of sessions, check what it is told.
//!
//! ```text
//!   join: registered? ─no─► (faucet) ─► approve ─► register ─► heartbeats, for ever
//!   discover: sessions that concern me ─► one task each        follow: a session's log, line by line
//!   check_notice: what was asked and drawn    begin: once, ever (journal)
//!   check_address: where the prover registered    check_anchor: this set-up runs on the chain
//! ```

use std::collections::HashSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{B256, U256, keccak256};
use plumbline_contracts::State;
use plumbline_proof::backhaul::messages::{ChallengeId, Consent, Member, Notice, Statement};
use plumbline_proof::backhaul::record::Record;
use plumbline_trust::encoding::domain;
use plumbline_trust::identity::{Address, NetworkKey, Signature, binding_message};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::ledger;
use super::settle::Settler;
use super::view::{Through, View, ViewError};
use crate::chain::client::{ChainClient, ClientError, Registration, Seeds};
use crate::clock;
use crate::config::Role;
use crate::control::client::{Api, ApiError};
use crate::journal::{Asked, Journal, JournalError, Seat};
use crate::keyfile::Keys;

/// Context from which heartbeat seeds are derived.
const HEARTBEAT: &str = "plumbline 2026-11 heartbeat seeds v1";
/// Long poll for events and sessions.
const WAIT: Duration = Duration::from_secs(10);
/// Pause after a failed call.
const RETRY: Duration = Duration::from_millis(200);
/// How long to wait for the coordinator at start-up.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// Lines of a log that wait for a session's task: a whole session has fewer.
const LINES: usize = 512;
/// Sessions served at once by one role; a further one is left alone (its coordinator goes on without).
const SESSIONS_AT_ONCE: usize = 16;

/// A session that has not ended by then is given up; what the chain takes to anchor it comes on top.
pub(super) const SESSION_LIMIT: Duration = Duration::from_secs(120);

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The coordinator's API.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The chain.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// Registered with other keys or roles than configured.
    #[error("{0}")]
    Registration(String),
}

impl From<ViewError> for NodeError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Api(e) => e.into(),
            ViewError::Chain(e) => e.into(),
        }
    }
}

/// Why a notice is not believed, or not yet.
#[derive(Debug, thiserror::Error)]
enum Doubt {
    /// The chain cannot be asked.
    #[error(transparent)]
    Chain(#[from] ClientError),
    /// It says otherwise.
    #[error("{0}")]
    Differs(String),
    /// It does not say so yet.
    #[error("{0}")]
    NotYet(String),
}

/// Who this process is to the others.
pub struct Node {
    /// Speaks on the network.
    pub network: Arc<NetworkKey>,
    /// Signs for the contract.
    pub settler: Settler,
    /// Settlement address, as text.
    pub address: String,
    /// The coordinator.
    pub api: Api,
    /// The chain, as this node sees it itself.
    pub chain: Arc<ChainClient>,
    /// Through whom.
    pub through: Through,
    /// What was signed.
    pub journal: Arc<Journal>,
    /// Newest block when this process started: what was asked for up to then is not served.
    started: u64,
}

/// A notice that the chain bears out.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// How long the session can matter: until the contract refunds, two minutes and what the chain takes at most.
    pub lifetime: Duration,
    /// When it was asked for.
    pub asked: Asked,
}

/// How to register.
#[derive(Clone, Debug)]
pub struct Joining {
    /// Sum of role bits.
    pub roles: u32,
    /// Who runs it.
    pub operator: Option<String>,
    /// Where it can be reached.
    pub endpoint: String,
    /// Largest claim, provers only.
    pub max_bps: u64,
    /// Stake, base units.
    pub stake: u128,
    /// Mint the stake first (lab token).
    pub faucet: bool,
}

impl Node {
    /// Connects to the coordinator, and to the chain as `view` says; waits a while for it to come up. Nothing is
    /// signed.
    ///
    /// # Errors
    /// Unreachable after the wait, not a coordinator, or not of the pinned chain.
    pub async fn connect(
        url: &str,
        view: &View,
        keys: &Keys,
        journal: Arc<Journal>,
    ) -> Result<Self, NodeError> {
        let api = Api::new(url)?;
        let attempt = async {
            loop {
                match api.deployment().await {
                    Err(ApiError::Unreachable { url, why }) => {
                        tracing::info!(%url, %why, "waiting for the coordinator");
                        tokio::time::sleep(RETRY).await;
                    }
                    other => return other,
                }
            }
        };
        if let Ok(told) = tokio::time::timeout(JOIN_PATIENCE, attempt).await {
            told?;
        }
        // After the wait, the last word is the reason.
        let (chain, through) = view.open(&api, keys.signer()).await?;
        match &through {
            Through::Endpoints(_) | Through::Copy(_) => {
                tracing::info!(%through, "the chain is seen")
            }
            Through::Coordinator(_) | Through::Word(_) => {
                tracing::warn!(%through, "the chain is seen");
            }
        }
        let started = chain.latest_block().await?.number;
        Ok(Self {
            network: keys.network.clone(),
            settler: Settler::new(keys.signer()),
            address: keys.address().to_string(),
            api,
            chain: Arc::new(chain),
            through,
            journal,
            started,
        })
    }

    /// Begins to serve a challenge, which is done once, ever. If an earlier process did, its closing words
    /// are said again, word for word.
    ///
    /// # Errors
    /// Why it is not served.
    pub async fn begin(
        &self,
        role: Role,
        challenge: &ChallengeId,
        asked: Asked,
    ) -> Result<Arc<Seat>, String> {
        let (journal, id) = (self.journal.clone(), *challenge);
        let begun = tokio::task::spawn_blocking(move || journal.begin(role, &id, asked)).await;
        match begun.map_err(|e| e.to_string())? {
            Ok(seat) => Ok(Arc::new(seat)),
            Err(why @ JournalError::Served(_)) => {
                let words = self.journal.again(challenge).map_err(|e| e.to_string())?;
                for kept in &words {
                    // The session may be over, or have them already.
                    if let Err(error) = self.api.say(&self.network, challenge, kept).await {
                        tracing::info!(%error, what = kept.statement().name(), "said again in vain");
                    }
                }
                Err(why.to_string())
            }
            Err(why) => Err(why.to_string()),
        }
    }

    /// Follows a session's log.
    pub fn follow(&self, challenge: ChallengeId) -> Follow {
        let (send, lines) = mpsc::channel(LINES);
        let api = self.api.clone();
        let task = tokio::spawn(async move {
            let mut next = 0;
            loop {
                match api.events(&challenge, next, WAIT).await {
                    Ok((statements, after)) => {
                        next = after;
                        for statement in statements {
                            if send.send(statement).await.is_err() {
                                return;
                            }
                        }
                    }
                    // Not (or no longer) open there: it may come back after a restart.
                    Err(error) => {
                        tracing::debug!(%error, "no events");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        });
        Follow { lines, task }
    }

    /// Whether the chain knows this notice: its parties, its terms, its draw. A coordinator can make
    /// nobody send or receive what nobody paid for.
    ///
    /// # Errors
    /// In words, what does not agree.
    pub async fn check_notice(&self, notice: &Statement) -> Result<Checked, String> {
        let record = Record::open(notice).map_err(|e| e.to_string())?;
        let notice = &record.notice.message;
        let (block, state) = self.patiently(notice, || self.agrees(notice)).await?;
        if !matches!(state, State::Selected | State::Running) {
            return Err(format!("the request is {state}, not under way"));
        }
        Ok(Checked {
            lifetime: left(notice)
                .min(SESSION_LIMIT + Duration::from_millis(notice.anchor_ms.into())),
            asked: Asked {
                block,
                started: self.started,
            },
        })
    }

    /// Whether the chain says that this very set-up is under way, and still knows the request and the draw
    /// as the notice has them: before packets are sent or awaited for it, and before what came of it is
    /// said. Waits a step for a chain that is behind.
    ///
    /// # Errors
    /// In words, what does not agree.
    pub async fn check_anchor(&self, record: &Record) -> Result<(), String> {
        let notice = &record.notice.message;
        let consent = record.consent.as_ref().ok_or("there is no consent yet")?;
        let setup = B256::from(Consent::setup_hash(&consent.signed));
        let id = B256::from(notice.challenge);
        let until = tokio::time::Instant::now() + Duration::from_nanos(notice.anchored_within_ns());
        let look = || async {
            // Who takes part was looked at with the notice, and cannot change until the deadline.
            let (_, state) = self.asked(notice).await?;
            match state {
                State::Selected if tokio::time::Instant::now() < until => {
                    return Err(Doubt::NotYet("no set-up is anchored".into()));
                }
                State::Running => {}
                state => {
                    return Err(Doubt::Differs(format!(
                        "the request is {state}, not running"
                    )));
                }
            }
            let anchored = self.chain.request_of(id).await?.setup_hash;
            if anchored == setup {
                return Ok(());
            }
            Err(Doubt::Differs(format!(
                "the set-up anchored on the chain is {anchored}, and this session's is {setup}"
            )))
        };
        self.patiently(notice, look).await
    }

    /// Whether data would go where the prover registered that it can be reached. An endpoint without an IP
    /// address cannot be compared, and is let pass.
    ///
    /// # Errors
    /// In words, both addresses; or the chain does not answer.
    pub async fn check_address(&self, notice: &Notice, consent: &Consent) -> Result<(), String> {
        let prover = notice.prover.address.0.into();
        let look = || async { Ok(self.chain.participant(prover).await?) };
        let known = self.patiently(notice, look).await?;
        let endpoint = known.map_or_else(String::new, |k| k.endpoint);
        for (what, address) in [("data", consent.data), ("control", consent.control)] {
            let Some((ip, port)) = ip_of(&endpoint) else {
                tracing::info!(
                    endpoint,
                    "the prover's endpoint has no IP address to compare"
                );
                return Ok(());
            };
            let same_port = what != "data" || port.is_none_or(|p| p == address.port());
            if ip.to_canonical() != address.ip().to_canonical() || !same_port {
                return Err(format!(
                    "the consent's {what} address is {address}, and the prover is registered at {endpoint}"
                ));
            }
        }
        Ok(())
    }

    /// Asks until there is an answer, or the request has ended.
    async fn patiently<T, F>(&self, notice: &Notice, look: impl Fn() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, Doubt>>,
    {
        loop {
            match look().await {
                Ok(found) => return Ok(found),
                // A coordinator that restarts takes its chain with it, and comes back.
                Err(
                    Doubt::NotYet(_)
                    | Doubt::Chain(ClientError::Unreachable { .. } | ClientError::TimedOut { .. }),
                ) if !left(notice).is_zero() => {
                    tokio::time::sleep(RETRY).await;
                }
                Err(doubt) => return Err(doubt.to_string()),
            }
        }
    }

    /// Whether request and draw are as the notice has them; the request's block and where it stands.
    async fn asked(&self, notice: &Notice) -> Result<(u64, State), Doubt> {
        let id = B256::from(notice.challenge);
        let found = self.chain.request_of(id).await?;
        if !ledger::is_asked(&found.request, notice) {
            return Err(Doubt::Differs(
                "the notice is not what the payer asked for on the chain".into(),
            ));
        }
        let drawn = self.chain.selected_of(id).await?;
        if !drawn
            .iter()
            .map(|a| a.into_array())
            .eq(notice.challengers.iter().map(|m| m.address.0))
        {
            return Err(Doubt::Differs(
                "the notice names other challengers than the chain drew".into(),
            ));
        }
        // The contract drew them, and of whom it came upon only this is needed: that it is the same draw.
        let draw = self.chain.draw_of(id).await?;
        if (draw.beacon.0, draw.pool) != (notice.beacon, notice.pool) {
            return Err(Doubt::Differs(
                "the notice has another beacon or pool than the chain drew with".into(),
            ));
        }
        Ok((found.request_block, self.chain.state_of(id).await?))
    }

    /// [`asked`](Self::asked), and whether everyone is registered with the key that the notice gives.
    async fn agrees(&self, notice: &Notice) -> Result<(u64, State), Doubt> {
        let found = self.asked(notice).await?;
        for member in notice
            .challengers
            .iter()
            .chain([&notice.prover, &notice.coordinator])
        {
            let known = self.chain.participant(member.address.0.into()).await?;
            if known.is_none_or(|k| k.network_key.0 != member.key.0) {
                return Err(Doubt::Differs(format!(
                    "{} is not registered with network key {}",
                    member.address, member.key
                )));
            }
        }
        Ok(found)
    }

    /// Serves every session that concerns this node, each in a task of its own, until cancelled.
    pub async fn discover<F>(&self, serve: impl Fn(ChallengeId) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut known: HashSet<String> = HashSet::new();
        let mut running: JoinSet<String> = JoinSet::new();
        let mut active: HashSet<String> = HashSet::new();
        let mut after = 0;
        loop {
            while let Some(ended) = running.try_join_next() {
                // A task that failed is not served again either: its name stays.
                let _was_active = ended.is_ok_and(|id| active.remove(&id));
            }
            let sessions = match self.api.sessions(&self.address, after, WAIT).await {
                Ok(sessions) => sessions,
                Err(error) => {
                    tracing::debug!(%error, "no sessions");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            after = sessions.next;
            // Only what is still listed needs remembering, and what still runs: a coordinator that
            // restarts lists nothing at first.
            known.retain(|id| active.contains(id) || sessions.items.iter().any(|s| s.id == *id));
            for session in sessions.items {
                let open = session.state == State::Selected.to_string()
                    || session.state == State::Running.to_string();
                let mut id = [0; 32];
                if !open
                    || known.contains(&session.id)
                    || hex::decode_to_slice(session.id.trim_start_matches("0x"), &mut id).is_err()
                {
                    continue;
                }
                known.insert(session.id.clone());
                if running.len() < SESSIONS_AT_ONCE {
                    active.insert(session.id.clone());
                    let served = serve(id);
                    running.spawn(async move {
                        served.await;
                        session.id
                    });
                } else {
                    tracing::warn!(sessions = running.len(), "busy: a session is left alone");
                }
            }
        }
    }
}

/// How long until the contract refunds.
fn left(notice: &Notice) -> Duration {
    Duration::from_secs(notice.deadline.saturating_sub(clock::realtime_s()))
}

/// The IP address in an endpoint, and its port: `ADDRESS:PORT` as provers register it, an address alone, or
/// either in a URL.
fn ip_of(endpoint: &str) -> Option<(IpAddr, Option<u16>)> {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let rest = rest.split('/').next().unwrap_or(rest);
    let whole = rest.parse::<SocketAddr>().ok();
    // The port of a URL is its scheme's service, not where data goes.
    let port = |a: SocketAddr| scheme.is_empty().then_some(a.port());
    let alone = || {
        rest.trim_matches(['[', ']'])
            .parse()
            .ok()
            .map(|ip| (ip, None))
    };
    whole.map(|a| (a.ip(), port(a))).or_else(alone)
}

/// Everything that was said in a session is delivered.
///
/// # Errors
/// The journal's, in words; nothing is lost by it.
pub async fn delivered(seat: Arc<Seat>) -> Result<(), String> {
    let shrunk = tokio::task::spawn_blocking(move || seat.delivered()).await;
    shrunk
        .map_err(|e| e.to_string())?
        .map_err(|e| e.to_string())
}

/// A random value that nobody can guess: for secrets of one session.
///
/// # Errors
/// The operating system gives none.
pub fn random() -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|e| format!("the operating system gives no random bytes: {e}"))?;
    Ok(bytes)
}

/// Registers with `chain` unless that is done; `keys` cross-sign each other. Who is registered at another
/// endpoint says where it is now.
///
/// # Errors
/// The contract's refusal, or a registration that is not the configured one.
pub async fn join(chain: &ChainClient, keys: &Keys, joining: &Joining) -> Result<(), NodeError> {
    let deployment = chain.deployment();
    if let Some(known) = chain.participant(chain.address()).await? {
        if known.network_key.0 != keys.network_key().0 {
            return Err(NodeError::Registration(format!(
                "{} is registered with network key {}, but the key file holds {}",
                keys.address(),
                known.network_key,
                keys.network_key()
            )));
        }
        if known.roles & joining.roles != joining.roles {
            return Err(NodeError::Registration(format!(
                "{} is registered for roles {:#06b}, not {:#06b}: make another key for them (`plumbline key new`)",
                keys.address(),
                known.roles,
                joining.roles
            )));
        }
        if known.suspended {
            let stake = chain.stake_of(chain.address()).await?;
            let needed = chain.needed_stake(known.roles).await?;
            return Err(NodeError::Registration(format!(
                "{} is suspended, as it lost stake or the bond for a withheld seed: it has {stake} at stake and needs {needed}; put it up again with `plumbline stake add {} --key FILE --coordinator URL`",
                keys.address(),
                needed.saturating_sub(stake).max(U256::from(1)),
            )));
        }
        if known.endpoint != joining.endpoint {
            chain.set_endpoint(&joining.endpoint).await?;
        }
        return Ok(());
    }
    let balance = chain.balance(chain.address()).await?;
    if joining.faucet && balance < U256::from(joining.stake) {
        chain
            .mint_lab(chain.address(), U256::from(joining.stake))
            .await?;
    }
    chain.approve(U256::from(joining.stake)).await?;
    let binding = binding_message(
        deployment.chain_id,
        &Address(deployment.participants.into_array()),
        &keys.address(),
    );
    let registration = Registration {
        roles: joining.roles,
        network_key: keys.network_key().0,
        cross_signature: keys.network.sign(domain::BINDING, &binding).0,
        operator: joining
            .operator
            .as_ref()
            .map_or([0; 32], |o| keccak256(o.as_bytes()).0),
        endpoint: joining.endpoint.clone(),
        max_bps: joining.max_bps,
        stake: joining.stake,
    };
    chain.register(&registration).await?;
    tracing::info!(address = %keys.address(), roles = joining.roles, "registered");
    Ok(())
}

/// One heartbeat, so that a node that calls itself ready can be drawn.
///
/// # Errors
/// The chain does not answer, or refuses.
pub async fn first_heartbeat(chain: &ChainClient, network: &NetworkKey) -> Result<(), ClientError> {
    chain
        .beat(&Seeds::new(network.derive(HEARTBEAT, &[])))
        .await
        .map(drop)
}

/// Heartbeats for ever, every `every`; a failed one is tried again soon.
pub async fn heartbeats(chain: Arc<ChainClient>, network: Arc<NetworkKey>, every: Duration) {
    let seeds = Seeds::new(network.derive(HEARTBEAT, &[]));
    loop {
        match chain.beat(&seeds).await {
            Ok(_) => tokio::time::sleep(every).await,
            Err(error) => {
                tracing::warn!(%error, "heartbeat failed");
                tokio::time::sleep(every.min(Duration::from_secs(1))).await;
            }
        }
    }
}

/// A participant as a member of a session: its registration, and its cross-signature from the chain's
/// log.
///
/// # Errors
/// Not registered, or the chain does not answer.
pub async fn member(
    chain: &ChainClient,
    address: alloy::primitives::Address,
) -> Result<Member, String> {
    let known = chain
        .participant(address)
        .await
        .map_err(|e| e.to_string())?;
    let known = known.ok_or_else(|| format!("{address} is not registered"))?;
    let signature = chain
        .cross_signature(address, known.registered_block)
        .await
        .map_err(|e| e.to_string())?;
    if keccak256(signature) != known.cross_signature_hash {
        return Err(format!(
            "the cross-signature of {address} in the log is not the registered one"
        ));
    }
    Ok(Member {
        address: Address(address.into_array()),
        key: plumbline_trust::VerifyingKey(known.network_key.0),
        binding: Signature(signature),
    })
}

/// A session's log, line by line, across restarts of the coordinator.
pub struct Follow {
    lines: mpsc::Receiver<Statement>,
    task: JoinHandle<()>,
}

impl Follow {
    /// The next line; `None` after `limit` without one. Cancelling loses nothing.
    pub async fn next(&mut self, limit: Duration) -> Option<Statement> {
        tokio::time::timeout(limit, self.lines.recv())
            .await
            .ok()
            .flatten()
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_an_address_to_compare_or_none() {
        let four = || Some("10.0.0.1".parse::<IpAddr>().unwrap());
        let six = || Some("fd00::1".parse::<IpAddr>().unwrap());
        for (endpoint, ip, port) in [
            ("10.0.0.1:7301", four(), Some(7301)),
            ("10.0.0.1", four(), None),
            ("http://10.0.0.1:7300", four(), None),
            ("http://10.0.0.1/path", four(), None),
            ("[fd00::1]:7301", six(), Some(7301)),
            ("fd00::1", six(), None),
            ("https://[fd00::1]:443/x", six(), None),
            ("prover.example.org:7301", None, None),
            ("-", None, None),
            ("", None, None),
        ] {
            assert_eq!(ip_of(endpoint), ip.map(|ip| (ip, port)), "{endpoint}");
        }
    }

    #[test]
    fn random_values_differ() {
        assert_ne!(random().unwrap(), random().unwrap());
    }
}
