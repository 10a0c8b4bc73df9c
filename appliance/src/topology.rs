//! The running system in one file: which parts a process has, one line a thread, and in which order
//! they start.
//!
//! ```text
//!   thread                  core      runs                               for role
//!   main                    any       start-up, then waits for signals   all
//!   plumbline-rx            pinned    datapath: XDP/AF_XDP → sinks       prover
//!   plumbline-echo          any       control port: echoes, acks         prover
//!   sequencer               any       embedded engine: blocks            coordinator
//!   tokio workers           any       HTTP, sessions, heartbeats, votes  all
//!   blocking pool           any       challenger sessions, store, judge  challenger, coordinator, juror
//!   plumbline-pack, -flood  any       packets made and sent              challenger, while measuring
//! ```
//! Order: what needs privilege first (sockets, XDP), then every capability is dropped, and only then
//! do the other threads start, so that none of them ever has any.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::archive::{ARCHIVE_MAX, Archive};
use crate::chain::client::role as bits;
use crate::chain::{
    ChainClient, DeploymentFile, Embedded, Endpoints, Engine, Genesis, Options, rpc,
};
use crate::config::units::{Bytes, Rate};
use crate::config::{self, Config, PathChoice, Role};
use crate::control::visitors::Visitors;
use crate::control::{door, server};
use crate::datapath::{self, Receiver, ReceiverConfig};
use crate::host;
use crate::journal::Journal;
use crate::keyfile::Keys;
use crate::metrics::Metrics;
use crate::privilege;
use crate::role::challenger::{Challenger, answer};
use crate::role::conduct::{Conduct, Honest};
use crate::role::coordinator::{self, Hub};
use crate::role::juror::Juror;
use crate::role::limits::{Budget, Limits};
use crate::role::node::{self, Joining, Node};
use crate::role::prover::{Echo, Prover};
use crate::role::view::View;
use crate::store::Store;
use crate::tls;
use crate::ui::results::{DatapathView, Ready};
use crate::ui::{Failure, announce};

/// How long tasks have to end when the process is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps it from starting, with the exit code of its kind; nothing is left behind.
pub fn run(config: &Config, keys: Keys) -> Result<(), Failure> {
    run_as(config, keys, Arc::new(Honest))
}

/// The same, behaving otherwise than the protocol says: for tests, in which a party must misbehave.
///
/// # Errors
/// As [`run`].
pub fn run_as(config: &Config, keys: Keys, conduct: Arc<dyn Conduct>) -> Result<(), Failure> {
    if config.roles.any_node() && !host::take_precedence() {
        tracing::info!(
            nice = host::NICE,
            "no precedence over other work: give the unit Nice= or CAP_SYS_NICE, or timings suffer on a busy machine"
        );
    }
    let equipment = config
        .prover
        .as_ref()
        .map(|p| equip(p, &keys, conduct.clone()))
        .transpose()?;
    privilege::drop_all().map_err(Failure::usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::usage(format!("cannot start the runtime: {e}")))?;
    let ended = runtime.block_on(serve(config, Arc::new(keys), equipment, conduct));
    runtime.shutdown_timeout(STOP_PATIENCE);
    ended
}

/// A prover's sockets and program, made while the process has its capabilities.
struct Equipment {
    receiver: Receiver,
    echo: Echo,
    data: SocketAddr,
    control: SocketAddr,
}

fn equip(
    prover: &config::Prover,
    keys: &Keys,
    conduct: Arc<dyn Conduct>,
) -> Result<Equipment, Failure> {
    let receiver = Receiver::start(&ReceiverConfig {
        interface: prover.interface.clone(),
        bind: prover.address,
        data_port: prover.data_port,
        queues: prover.queues.clone(),
        path: match prover.path {
            PathChoice::Auto => datapath::PathChoice::Auto,
            PathChoice::Native => datapath::PathChoice::Native,
            PathChoice::Generic => datapath::PathChoice::Generic,
            PathChoice::Socket => datapath::PathChoice::Socket,
        },
        busy_poll: prover.busy_poll,
        cores: prover.cores.clone(),
    })
    .map_err(Failure::usage)?;
    for why in &receiver.info().fallback_reasons {
        tracing::info!(%why, "a faster receive path was not taken");
    }
    let control = SocketAddr::new(prover.address, prover.control_port);
    let echo = Echo::start(prover.address, prover.control_port, keys.network.clone(), conduct)
        .map_err(|e| Failure::usage(format!("[prover] control_port: cannot bind {control}: {e}; it must be free and the address local")))?;
    Ok(Equipment {
        receiver,
        echo,
        data: SocketAddr::new(prover.address, prover.data_port),
        control,
    })
}

async fn serve(
    config: &Config,
    keys: Arc<Keys>,
    equipment: Option<Equipment>,
    conduct: Arc<dyn Conduct>,
) -> Result<(), Failure> {
    let stop = stopped().map_err(|e| Failure::usage(format!("cannot listen for signals: {e}")))?;
    let mut tasks: JoinSet<Failure> = JoinSet::new();
    let (mut api, mut chain_view) = (None, None);
    let shown = equipment.as_ref().map(|e| view(e.receiver.info()));
    let up = async {
        let metrics = Arc::new(
            Metrics::new(
                config.roles,
                option_env!("PLUMBLINE_COMMIT").unwrap_or("unknown"),
            )
            .map_err(Failure::usage)?,
        );
        if let Some(info) = equipment.as_ref().map(|e| e.receiver.info()) {
            metrics.datapath(info.xdp_mode, info.timestamps);
        }
        let mut journal = None;
        if let Some(part) = &config.coordinator {
            let up = coordinate(config, part, &keys, &metrics, conduct.clone(), &mut tasks);
            let (url, opened) = up.await?;
            (api, journal) = (Some(url), Some(opened));
        }
        if let Some(part) = &config.node {
            // One file, one user: whoever needs it first opens it.
            let journal = journal.map_or_else(|| open_journal(config, &keys), Ok)?;
            let us = (&keys, &journal);
            let seen = take_part(config, part, us, equipment, conduct, &mut tasks).await?;
            chain_view = Some(seen);
        }
        Ok::<(), Failure>(())
    };
    tokio::pin!(stop);
    tokio::select! {
        started = up => started?,
        () = &mut stop => return Ok(()),
    }
    let holders = privilege::holders().map_err(Failure::usage)?;
    if let Some(holder) = holders.first() {
        return Err(Failure::usage(format!(
            "thread {} ({}) still holds capabilities; this is a defect, please report it",
            holder.thread, holder.name
        )));
    }
    announce(&Ready {
        ready: true,
        roles: config.roles.iter().collect(),
        address: keys.address(),
        api,
        chain_view,
        datapath: shown,
    })?;
    tokio::select! {
        () = &mut stop => {
            tracing::info!("told to stop");
            Ok(())
        }
        Some(ended) = tasks.join_next() => Err(ended.unwrap_or_else(|e| Failure::chain(format!("a part of the process failed: {e}")))),
    }
}

/// Completes at SIGTERM or SIGINT.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn view(info: &datapath::PathInfo) -> DatapathView {
    DatapathView {
        receiver: info.receiver.into(),
        xdp_mode: info.xdp_mode.into(),
        umem: info.umem.into(),
        timestamps: info.timestamps.into(),
        fallback_reasons: info.fallback_reasons.clone(),
    }
}

/// The coordinator: chain, registration, API, requests. Returns the API's base URL and its journal.
async fn coordinate(
    config: &Config,
    part: &config::Coordinator,
    keys: &Arc<Keys>,
    metrics: &Arc<Metrics>,
    conduct: Arc<dyn Conduct>,
    tasks: &mut JoinSet<Failure>,
) -> Result<(String, Arc<Journal>), Failure> {
    let listener = tokio::net::TcpListener::bind(part.listen)
        .await
        .map_err(|e| {
            Failure::usage(format!(
                "[coordinator] listen: cannot bind {}: {e}; it must be free and the address local",
                part.listen
            ))
        })?;
    let url = listener
        .local_addr()
        .map_or_else(|_| part.listen.to_string(), |a| a.to_string());
    let refused = |why: String| Failure::usage(format!("[coordinator] tls: {why}"));
    let shown = match &part.tls {
        config::Tls::None => None,
        config::Tls::Generated => {
            let host = part.url.as_ref().map(|url| url.host().to_owned());
            let address = part.listen.ip();
            let address = (!address.is_unspecified()).then(|| address.to_string());
            let names = host.into_iter().chain(address).collect();
            Some(tls::Shown::generated(&config.state_dir, names))
        }
        config::Tls::Files { certificate, key } => Some(tls::Shown::read(certificate, key)),
    };
    let shown = shown.transpose().map_err(refused)?;
    let url = match (&part.url, &shown) {
        (Some(url), Some(shown)) => format!("{url}#{}", shown.pin),
        (Some(url), None) => url.to_string(),
        (None, Some(shown)) => format!("https://{url}#{}", shown.pin),
        (None, None) => format!("http://{url}"),
    };
    let (engine, chain, first_block) = open_chain(&config.state_dir, part, keys, tasks).await?;
    let chain = Arc::new(chain);
    let joining = Joining {
        roles: bits::COORDINATOR,
        operator: part.operator.clone(),
        endpoint: url.clone(),
        max_bps: 0,
        stake: part.chain.parameters.min_stake,
        faucet: part.chain.lab_token,
    };
    node::join(&chain, keys, &joining)
        .await
        .map_err(Failure::chain)?;
    let store = Store::open(&config.state_dir).map_err(Failure::chain)?;
    let journal = open_journal(config, keys)?;
    let archive =
        Archive::open(config.state_dir.join("evidence"), ARCHIVE_MAX).map_err(Failure::chain)?;
    let mut hub = Hub::new(
        keys.network.clone(),
        chain,
        engine,
        (store, journal.clone()),
        archive,
        &config.state_dir,
        metrics.clone(),
    );
    hub.conduct = conduct;
    hub.terms = part.terms;
    hub.first_block = first_block;
    if let Engine::Rpc(_) = hub.engine {
        let (block_time, seen_after) = coordinator::pace(&hub.chain)
            .await
            .map_err(Failure::chain)?;
        (hub.block_time, hub.seen_after) = (block_time, seen_after);
        hub.terms = hub.terms.on_blocks_of(block_time);
    }
    let hub = Arc::new(hub);
    let router = server::router(hub.clone(), &part.limits);
    let visitors = Visitors::new(part.limits);
    if let Err(error) = host::open_files(part.limits.connections) {
        tracing::warn!(%error, connections = part.limits.connections, "fewer connections than coordinator.max_connections: give the unit LimitNOFILE=");
    }
    tasks.spawn(async move {
        door::serve(listener, router, visitors, shown.map(|s| s.acceptor)).await;
        Failure::chain("the HTTP server ended")
    });
    tasks.spawn(async move {
        coordinator::watch(hub).await;
        Failure::chain("the coordinator's watch ended")
    });
    Ok((url, journal))
}

fn open_journal(config: &Config, keys: &Keys) -> Result<Arc<Journal>, Failure> {
    Journal::open(&config.state_dir, &keys.address()).map_err(Failure::chain)
}

/// The chain, of this process or behind its nodes, and the block in which its contracts are: `chain.engine` is
/// the whole difference.
async fn open_chain(
    state_dir: &Path,
    part: &config::Coordinator,
    keys: &Keys,
    tasks: &mut JoinSet<Failure>,
) -> Result<(Engine, ChainClient, u64), Failure> {
    match &part.chain.engine {
        config::Engine::Embedded => {
            let embedded = found_chain(state_dir, &part.chain, keys)?;
            let client = ChainClient::in_process(&embedded, keys.signer());
            Ok((Engine::Embedded(embedded), client, 0))
        }
        config::Engine::Rpc(rpc) => {
            let file = read_deployment(&rpc.deployment, part.chain.chain_id)?;
            let deployment = file.deployment;
            let options = rpc::Options::new(rpc.finality);
            let endpoints = Endpoints::connect(&rpc.endpoints, deployment.chain_id, options)
                .await
                .map_err(Failure::unreachable)?;
            let client = ChainClient::connect(&endpoints, keys.signer(), deployment)
                .await
                .map_err(|e| reach(e.into()))?;
            let pinned = client.is_pinned(&file).await;
            pinned.map_err(|e| reach(e.into()))?;
            let watched = endpoints.clone();
            tasks.spawn(async move {
                watched.watch().await;
                Failure::chain("the comparison of the chain's endpoints ended")
            });
            Ok((Engine::Rpc(endpoints), client, file.block))
        }
    }
}

/// Where the contracts are, from the file that `plumbline chain deploy` wrote.
fn read_deployment(file: &Path, chain_id: u64) -> Result<DeploymentFile, Failure> {
    let refuse = |why: String| Failure::usage(format!("[chain] deployment: {why}"));
    let deployed = DeploymentFile::read(file).map_err(refuse)?;
    let found = deployed.deployment.chain_id;
    if found != chain_id {
        return Err(refuse(format!(
            "{}: it is of chain {found}, but chain_id is {chain_id}; allowed: a file of that chain",
            file.display()
        )));
    }
    Ok(deployed)
}

fn found_chain(
    state_dir: &Path,
    chain: &config::Chain,
    keys: &Keys,
) -> Result<Arc<Embedded>, Failure> {
    let genesis = Genesis {
        chain_id: chain.chain_id,
        deployer: keys.signer(),
        parameters: chain.parameters.clone(),
    };
    Embedded::open(
        &state_dir.join("chain"),
        &genesis,
        Options::new(chain.block_interval),
    )
    .map_err(Failure::chain)
}

/// Prover, challenger and juror: registration, heartbeats, sessions. Through whom they see the chain.
async fn take_part(
    config: &Config,
    part: &config::Node,
    (keys, journal): (&Arc<Keys>, &Arc<Journal>),
    equipment: Option<Equipment>,
    conduct: Arc<dyn Conduct>,
    tasks: &mut JoinSet<Failure>,
) -> Result<String, Failure> {
    let pin = part.deployment.as_deref().map(DeploymentFile::read_pin);
    let view = View {
        pin: pin
            .transpose()
            .map_err(|why| Failure::usage(format!("[node] deployment: {why}")))?,
        rpc: part.rpc.clone(),
        finality: part.finality,
        follow: part.follow.then(|| config.state_dir.join("followed")),
    };
    let node = Node::connect(part.coordinator.as_str(), &view, keys, journal.clone())
        .await
        .map_err(reach)?;
    let node = Arc::new(node);
    let through = node.through.to_string();
    let endpoint = match (&config.prover, &config.challenger) {
        (Some(p), _) => SocketAddr::new(p.address, p.data_port).to_string(),
        (None, Some(c)) => SocketAddr::new(c.address, c.data_port).to_string(),
        (None, None) => String::from("-"),
    };
    let mut roles = 0;
    for (role, bit) in [
        (Role::Prover, bits::PROVER),
        (Role::Challenger, bits::CHALLENGER),
        (Role::Juror, bits::JUROR),
    ] {
        roles |= if config.roles.has(role) { bit } else { 0 };
    }
    let joining = Joining {
        roles,
        operator: part.operator.clone(),
        endpoint,
        max_bps: config.prover.as_ref().map_or(0, |p| p.maximum.0),
        stake: part.stake,
        faucet: part.faucet,
    };
    node::join(&node.chain, keys, &joining)
        .await
        .map_err(reach)?;
    // The first heartbeat is out before the node calls itself ready: it can be drawn.
    let beat = node::first_heartbeat(&node.chain, &node.network).await;
    beat.map_err(|e| reach(e.into()))?;
    let (chain, network, every) = (node.chain.clone(), node.network.clone(), part.heartbeat);
    tasks.spawn(async move {
        node::heartbeats(chain, network, every).await;
        Failure::chain("heartbeats ended")
    });
    if let Some(Equipment {
        receiver,
        echo,
        data,
        control,
    }) = equipment
        && let Some(p) = &config.prover
    {
        let prover = Arc::new(Prover {
            alone: tokio::sync::Mutex::new(()),
            node: node.clone(),
            receiver,
            echo,
            data,
            control,
            conduct: conduct.clone(),
            // One session at a time, no faster than the claim that it registered with.
            budget: Budget::new(Limits {
                role: "prover",
                min_price: p.min_price,
                rate: Rate(u64::MAX),
                bytes: Bytes(u64::MAX),
                bytes_per_day: p.max_bytes_per_day,
                memory: Bytes(u64::MAX),
            }),
        });
        let finder = node.clone();
        tasks.spawn(async move {
            finder
                .discover(|id| {
                    let prover = prover.clone();
                    async move { told("prover", id, prover.serve(id).await) }
                })
                .await;
            Failure::chain("the prover ended")
        });
    }
    if config.roles.has(Role::Juror) {
        let juror = Arc::new(Juror {
            chain: node.chain.clone(),
            api: node.api.clone(),
            network: node.network.clone(),
            journal: node.journal.clone(),
        });
        tasks.spawn(async move {
            juror.watch().await;
            Failure::chain("the juror ended")
        });
    }
    if let Some(c) = &config.challenger {
        let challenger = Arc::new(Challenger {
            node: node.clone(),
            address: c.address,
            data_port: c.data_port,
            control_port: c.control_port,
            conduct,
            budget: Budget::new(Limits {
                role: "challenger",
                min_price: c.min_price,
                rate: c.max_rate,
                bytes: c.max_bytes,
                bytes_per_day: c.max_bytes_per_day,
                memory: c.max_memory,
            }),
        });
        answer::resume(&node).map_err(Failure::usage)?;
        tasks.spawn(async move {
            node.discover(|id| {
                let challenger = challenger.clone();
                async move { told("challenger", id, challenger.serve(id).await) }
            })
            .await;
            Failure::chain("the challenger ended")
        });
    }
    Ok(through)
}

fn told(role: &str, id: [u8; 32], outcome: Result<(), String>) {
    let id = coordinator::name_of(&id);
    match outcome {
        Ok(()) => tracing::info!(role, id, "session over"),
        Err(why) => tracing::warn!(role, id, why, "session ended early"),
    }
}

/// Sorts a node's failure by kind.
#[allow(clippy::needless_pass_by_value)] // a `map_err` adapter
fn reach(error: node::NodeError) -> Failure {
    use crate::chain::ClientError;
    use crate::control::client::ApiError;
    match &error {
        node::NodeError::Api(ApiError::Refused { .. })
        | node::NodeError::Chain(ClientError::Refused(_)) => Failure::refused(error),
        node::NodeError::Api(_)
        | node::NodeError::Chain(ClientError::Unreachable { .. } | ClientError::TimedOut { .. }) => {
            Failure::unreachable(error)
        }
        node::NodeError::Chain(_) => Failure::chain(error),
        node::NodeError::Registration(_) => Failure::usage(error),
    }
}
