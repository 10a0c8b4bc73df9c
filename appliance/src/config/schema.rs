//! The schema: which keys there are, their defaults and rules, and what may not stand together.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use plumbline_contracts::Parameters;
use plumbline_proof::backhaul::params::MAX_CHALLENGERS;

use super::reader::Reader;
use super::rules::{
    self, Amount, BytesAboveZero, DurationIn, Endpoints, FilePath, Flag, HostAddress, IntegerIn,
    Interface, ListOf, Listen, OneOf, Operator, RateAboveZero, RoleSet, Settled,
};
use super::units;
use super::{
    Chain, Challenger, Config, Coordinator, CoordinatorUrl, Engine, Limits, LogLevel, Node,
    PathChoice, Prover, Role, Roles, RpcEngine, Tls,
};
use crate::chain::caller::Quota;
use crate::role::coordinator::Terms;

/// A node that misses a single heartbeat must not fall out of the live pool.
const HEARTBEATS_PER_LIVE_INTERVAL: u32 = 2;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

const fn secs(value: u64) -> Duration {
    Duration::from_secs(value)
}

const PORT: IntegerIn<u16> = IntegerIn {
    min: 1,
    max: u16::MAX,
};
/// As many queues as the XDP program serves, and more cores than any machine has today.
const QUEUES: ListOf<u32> = ListOf {
    each: IntegerIn { min: 0, max: 63 },
    entries: 1..=64,
    distinct: true,
};
const CORES: ListOf<usize> = ListOf {
    each: IntegerIn { min: 0, max: 1023 },
    entries: 0..=64,
    distinct: true,
};

/// The whole file; `None` exactly if the reader holds a mistake without which nothing could be built.
pub(super) fn read(r: &mut Reader<'_>, path: &Path) -> Option<Config> {
    let here = path.parent().unwrap_or_else(|| Path::new(""));
    let roles = r.required("roles", &RoleSet, Some("it says what this process does"));
    let key = r.required(
        "key",
        &FilePath,
        Some("every role signs; make one with `plumbline key new --out FILE`"),
    );
    let state_dir = r.or("state_dir", "\"state\"", &FilePath);
    let level = OneOf(&[
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ]);
    let log = r.or("log.level", "\"info\"", &level);
    // With unreadable roles nothing is known to be missing; what is there is checked all the same.
    let chosen = roles.unwrap_or_default();
    let coordinator = coordinator(r, here, chosen);
    let node = node(r, here, chosen);
    let prover = prover(r, chosen);
    let challenger = challenger(r, chosen);
    if chosen.has(Role::Prover) && chosen.has(Role::Challenger) {
        prover_and_challenger(r, prover.as_ref(), challenger.as_ref());
    }
    if chosen.has(Role::Coordinator) && chosen.any_node() {
        coordinator_and_node(r, chosen, coordinator.as_ref(), node.as_ref());
    }
    Some(Config {
        file: path.to_owned(),
        roles: roles?,
        key: here.join(key?),
        state_dir: here.join(state_dir?),
        log: log?,
        coordinator: coordinator.filter(|_| chosen.has(Role::Coordinator)),
        node: node.filter(|_| chosen.any_node()),
        prover: prover.filter(|_| chosen.has(Role::Prover)),
        challenger: challenger.filter(|_| chosen.has(Role::Challenger)),
    })
}

/// Which engine, without what it needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EngineWord {
    Embedded,
    Rpc,
}

/// The engine and its keys: those of the other one may stay in the file, so that the word alone decides.
fn engine(r: &mut Reader<'_>, here: &Path, roles: Roles) -> Option<Engine> {
    let word = r.or(
        "chain.engine",
        "\"embedded\"",
        &OneOf(&[("embedded", EngineWord::Embedded), ("rpc", EngineWord::Rpc)]),
    );
    let is_needed = word == Some(EngineWord::Rpc) && roles.has(Role::Coordinator);
    let because = |what| is_needed.then_some(what);
    let endpoints = r.required(
        "chain.rpc",
        &Endpoints,
        because("engine = \"rpc\" settles on the chain behind these nodes"),
    );
    let deployment = r.required(
        "chain.deployment",
        &FilePath,
        because(
            "engine = \"rpc\" must know where the contracts are; `plumbline chain deploy --out FILE` writes it",
        ),
    );
    let finality = r.or("chain.finality", "\"finalized\"", &Settled);
    Some(match word? {
        EngineWord::Embedded => Engine::Embedded,
        // A file without the coordinator role needs none of it.
        EngineWord::Rpc if !is_needed => Engine::Embedded,
        EngineWord::Rpc => Engine::Rpc(RpcEngine {
            endpoints: endpoints?,
            deployment: here.join(deployment?),
            finality: finality?,
        }),
    })
}

fn coordinator(r: &mut Reader<'_>, here: &Path, roles: Roles) -> Option<Coordinator> {
    let listen = r.or("coordinator.listen", "\"127.0.0.1:7300\"", &Listen);
    let tls = tls(r, here, listen);
    let url = url(r, roles, listen, tls.as_ref());
    let operator = r.or("coordinator.operator", "\"\"", &Operator);
    let limits = limits(r);
    let terms = coordinator_terms(r);
    let engine = engine(r, here, roles);
    // Largest id that wallets written in JavaScript keep exact.
    let chain_id = r.or(
        "chain.chain_id",
        "7310",
        &IntegerIn {
            min: 1,
            max: (1u64 << 53) - 1,
        },
    );
    let block_interval = r.or(
        "chain.block_interval",
        "\"500ms\"",
        &DurationIn {
            min: ms(10),
            max: secs(60),
            whole_seconds: false,
        },
    );
    let parameters = variables(r, block_interval);
    let lab_token = r.or("chain.lab_token", "true", &Flag);
    Some(Coordinator {
        listen: listen?,
        url: url?,
        tls: tls?,
        operator: operator?,
        limits: limits?,
        terms: terms?,
        chain: Chain {
            engine: engine?,
            chain_id: chain_id?,
            block_interval: block_interval?,
            parameters: parameters?,
            lab_token: lab_token?,
        },
    })
}

/// Which certificate callers are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TlsWord {
    Auto,
    None,
    Generated,
    Files,
}

fn tls(r: &mut Reader<'_>, here: &Path, listen: Option<SocketAddr>) -> Option<Tls> {
    let word = r.or(
        "coordinator.tls",
        "\"auto\"",
        &OneOf(&[
            ("auto", TlsWord::Auto),
            ("none", TlsWord::None),
            ("generated", TlsWord::Generated),
            ("files", TlsWord::Files),
        ]),
    );
    let because = (word == Some(TlsWord::Files)).then_some("coordinator.tls = \"files\" shows it");
    let certificate = r.required("coordinator.certificate", &FilePath, because);
    let key = r.required("coordinator.certificate_key", &FilePath, because);
    Some(match word? {
        TlsWord::Auto if listen?.ip().is_loopback() => Tls::None,
        TlsWord::None => Tls::None,
        TlsWord::Auto | TlsWord::Generated => Tls::Generated,
        TlsWord::Files => Tls::Files {
            certificate: here.join(certificate?),
            key: here.join(key?),
        },
    })
}

/// What others call the coordinator by.
fn url(
    r: &mut Reader<'_>,
    roles: Roles,
    listen: Option<SocketAddr>,
    tls: Option<&Tls>,
) -> Option<Option<CoordinatorUrl>> {
    let url = r.or("coordinator.url", "\"\"", &rules::PublicUrl);
    let (url, listen, tls) = (url?, listen?, tls?);
    let scheme = if *tls == Tls::None { "http" } else { "https" };
    let allowed = format!("\"{scheme}://HOST:PORT\", by which others reach this coordinator");
    let why = match &url {
        None if listen.ip().is_unspecified() => {
            "missing: coordinator.listen is every address, and no one of them can be registered"
        }
        Some(url) if !url.as_str().starts_with(&format!("{scheme}://")) => {
            "does not begin as coordinator.tls says"
        }
        Some(url) if url.as_str().contains('#') => "holds a hash: that of the certificate is added",
        _ => return Some(url),
    };
    if roles.has(Role::Coordinator) {
        r.mistake("coordinator.url", why.to_owned(), allowed);
        return None;
    }
    Some(url)
}

/// What the network may ask of the API.
fn limits(r: &mut Reader<'_>) -> Option<Limits> {
    // A descriptor each; more than Linux gives a process by default would need words with it.
    let count = IntegerIn {
        min: 1,
        max: 1 << 20,
    };
    let connections = r.or("coordinator.max_connections", "1024", &count);
    let connections_each = r.or("coordinator.max_connections_each", "64", &count);
    let requests_a_second = r.or("coordinator.max_requests_each", "500", &count);
    let reading_a_second = r.or(
        "coordinator.max_reading_each",
        "\"200ms\"",
        &DurationIn {
            min: ms(1),
            max: secs(1_000),
            whole_seconds: false,
        },
    );
    let newcomers_gas = r.or(
        "coordinator.max_newcomers_gas_each",
        "20000000",
        &IntegerIn {
            min: 1_000_000,
            max: 1u64 << 50,
        },
    );
    Some(Limits {
        connections: connections?,
        connections_each: connections_each?,
        quota: Quota {
            requests_a_second: requests_a_second?,
            reading_a_second: reading_a_second?,
            newcomers_gas: newcomers_gas?,
        },
    })
}

fn coordinator_terms(r: &mut Reader<'_>) -> Option<Terms> {
    let min_price = r.or("coordinator.min_price", "\"0\"", &Amount);
    let max_challengers = r.or(
        "coordinator.max_challengers",
        "64",
        &IntegerIn {
            min: 1,
            max: MAX_CHALLENGERS,
        },
    );
    let min_deadline = r.or(
        "coordinator.min_deadline",
        "\"0s\"",
        &DurationIn {
            min: ms(0),
            max: secs(86_400),
            whole_seconds: true,
        },
    );
    Some(Terms {
        min_price: min_price?,
        max_challengers: max_challengers?,
        min_deadline_s: min_deadline?.as_secs(),
    })
}

/// The chain variables of the first block, within the bounds that the contract keeps for ever.
fn variables(r: &mut Reader<'_>, block_interval: Option<Duration>) -> Option<Parameters> {
    const MONTH: u64 = 2_592_000;
    let time = |r: &mut Reader<'_>, key: &'static str, default: &'static str, max: u64| {
        let rule = DurationIn {
            min: secs(1),
            max: secs(max),
            whole_seconds: true,
        };
        r.or(key, default, &rule)
    };
    let percent = IntegerIn { min: 0, max: 100 };
    let dispute_window = time(r, "chain.dispute_window", "\"1s\"", MONTH);
    let live_interval = time(r, "chain.live_interval", "\"30s\"", 86_400);
    let unbonding = time(r, "chain.unbonding", "\"24h\"", 31_536_000);
    let notice = time(r, "chain.notice", "\"24h\"", MONTH);
    let jury_draw = time(r, "chain.jury_draw", "\"10m\"", MONTH);
    let jury_commit = time(r, "chain.jury_commit", "\"10m\"", MONTH);
    let jury_reveal = time(r, "chain.jury_reveal", "\"10m\"", MONTH);
    let draw_operators = r.or("chain.draw_operators", "2", &IntegerIn { min: 1, max: 32 });
    let jury_size = r.or("chain.jury_size", "5", &IntegerIn { min: 1, max: 63 });
    let offence_percent = r.or("chain.offence_percent", "50", &percent);
    let reporter_percent = r.or("chain.reporter_percent", "40", &percent);
    let min_stake = r.or("chain.min_stake", "\"1000\"", &Amount);
    let seed_bond = r.or("chain.seed_bond", "\"100\"", &Amount);
    let seed_answer = time(r, "chain.seed_answer", "\"30s\"", 86_400);
    let coordinator_fee = r.or("chain.coordinator_fee", "\"1000\"", &Amount);
    let dispute_bond = r.or("chain.dispute_bond", "\"500\"", &Amount);
    let juror_fee = r.or("chain.juror_fee", "\"20\"", &Amount);
    let juror_penalty = r.or("chain.juror_penalty", "\"100\"", &Amount);
    if let (Some(block), Some(live)) = (block_interval, live_interval)
        && live < block
    {
        let block = units::format_duration(block);
        let what =
            format!("shorter than chain.block_interval ({block}), so nobody would ever be live");
        r.mistake("chain.live_interval", what, format!("at least {block}"));
    }
    // As the contract counts: the window stands still for two juries at most, and the last of them may come at its end.
    let jury = [jury_draw, jury_commit, jury_reveal];
    let trial = [dispute_window, seed_answer, seed_answer].into_iter();
    let trial = trial.chain(jury).chain(jury).chain(jury);
    if let Some(unbonding) = unbonding
        && let Some(trial) = trial.sum::<Option<Duration>>()
        && unbonding <= trial
    {
        let trial = units::format_duration(trial);
        let what = format!(
            "no longer than dispute_window + 3·(jury_draw + jury_commit + jury_reveal) + 2·seed_answer ({trial}): the guilty would be gone first"
        );
        r.mistake("chain.unbonding", what, format!("more than {trial}"));
    }
    Some(Parameters {
        min_stake: min_stake?,
        seed_bond: seed_bond?,
        seed_answer_s: seed_answer?.as_secs(),
        unbonding_s: unbonding?.as_secs(),
        live_interval_s: live_interval?.as_secs(),
        draw_operators: draw_operators?,
        coordinator_fee: coordinator_fee?,
        dispute_window_s: dispute_window?.as_secs(),
        dispute_bond: dispute_bond?,
        offence_percent: offence_percent?,
        reporter_percent: reporter_percent?,
        jury_size: jury_size?,
        juror_fee: juror_fee?,
        juror_penalty: juror_penalty?,
        jury_draw_s: jury_draw?.as_secs(),
        jury_commit_s: jury_commit?.as_secs(),
        jury_reveal_s: jury_reveal?.as_secs(),
        notice_s: notice?.as_secs(),
    })
}

fn node(r: &mut Reader<'_>, here: &Path, roles: Roles) -> Option<Node> {
    let because = roles
        .any_node()
        .then_some("prover, challenger and juror work with a coordinator");
    let coordinator = r.required("node.coordinator", &rules::Coordinator, because);
    let deployment = r.required("node.deployment", &FilePath, None);
    let rpc = r.required("node.rpc", &Endpoints, None);
    let finality = r.or("node.finality", "\"finalized\"", &Settled);
    let follow = r.or("node.follow", "true", &Flag);
    let trusted = r.or("node.trust_coordinator", "false", &Flag);
    if let (Some(coordinator), None, Some(false), true) =
        (&coordinator, &deployment, trusted, roles.any_node())
        && !coordinator.is_loopback()
    {
        let what = format!(
            "missing; {coordinator} alone would say which chain and which contracts this node signs for"
        );
        let allowed =
            "a file of `plumbline chain pin --out FILE`, or node.trust_coordinator = true";
        r.mistake("node.deployment", what, allowed.to_owned());
    }
    if rpc.is_some() && deployment.is_none() {
        let what = "without node.deployment there is nothing to hold the chain's nodes against";
        r.mistake(
            "node.rpc",
            what.to_owned(),
            "with node.deployment".to_owned(),
        );
    }
    let operator = r.or("node.operator", "\"\"", &Operator);
    let stake = r.or("node.stake", "\"1000000\"", &Amount);
    let heartbeat = r.or(
        "node.heartbeat",
        "\"1s\"",
        &DurationIn {
            min: ms(100),
            max: secs(3_600),
            whole_seconds: false,
        },
    );
    let faucet = r.or("node.faucet", "true", &Flag);
    Some(Node {
        coordinator: coordinator?,
        deployment: deployment.map(|file| here.join(file)),
        rpc: rpc.unwrap_or_default(),
        finality: finality?,
        follow: follow?,
        operator: operator?,
        stake: stake?,
        heartbeat: heartbeat?,
        faucet: faucet?,
    })
}

fn prover(r: &mut Reader<'_>, roles: Roles) -> Option<Prover> {
    let because = roles
        .has(Role::Prover)
        .then_some("the prover role needs it");
    let paths = OneOf(&[
        ("auto", PathChoice::Auto),
        ("native", PathChoice::Native),
        ("generic", PathChoice::Generic),
        ("socket", PathChoice::Socket),
    ]);
    let interface = r.required("prover.interface", &Interface, because);
    let address = r.required("prover.address", &HostAddress, because);
    let data_port = r.or("prover.data_port", "7301", &PORT);
    let control_port = r.or("prover.control_port", "7302", &PORT);
    let maximum = r.or("prover.maximum", "\"10gbit\"", &RateAboveZero);
    let min_price = r.or("prover.min_price", "\"0\"", &Amount);
    let max_day = r.or("prover.max_bytes_per_day", "\"10000gb\"", &BytesAboveZero);
    let path = r.or("prover.path", "\"auto\"", &paths);
    let queues = r.or("prover.queues", "[0]", &QUEUES);
    let busy_poll = r.or("prover.busy_poll", "false", &Flag);
    let cores = r.or("prover.cores", "[]", &CORES);
    distinct_ports(
        r,
        "prover.control_port",
        control_port,
        "prover.data_port",
        data_port,
    );
    if path == Some(PathChoice::Socket) && busy_poll == Some(true) {
        let what = "the plain socket of prover.path = \"socket\" has no busy polling".to_owned();
        r.mistake(
            "prover.busy_poll",
            what,
            "false, or another prover.path".into(),
        );
    }
    Some(Prover {
        interface: interface?,
        address: address?,
        data_port: data_port?,
        control_port: control_port?,
        maximum: maximum?,
        min_price: min_price?,
        max_bytes_per_day: max_day?,
        path: path?,
        queues: queues?,
        busy_poll: busy_poll?,
        cores: cores?,
    })
}

fn challenger(r: &mut Reader<'_>, roles: Roles) -> Option<Challenger> {
    let because = roles
        .has(Role::Challenger)
        .then_some("the challenger role needs it");
    let address = r.required("challenger.address", &HostAddress, because);
    let data_port = r.or("challenger.data_port", "7311", &PORT);
    let control_port = r.or("challenger.control_port", "7312", &PORT);
    let max_rate = r.or("challenger.max_rate", "\"11.5gbit\"", &RateAboveZero);
    let min_price = r.or("challenger.min_price", "\"0\"", &Amount);
    let max_day = r.or(
        "challenger.max_bytes_per_day",
        "\"10000gb\"",
        &BytesAboveZero,
    );
    let max_bytes = r.or("challenger.max_bytes", "\"6gb\"", &BytesAboveZero);
    let max_memory = r.or("challenger.max_memory", "\"256mb\"", &BytesAboveZero);
    distinct_ports(
        r,
        "challenger.control_port",
        control_port,
        "challenger.data_port",
        data_port,
    );
    Some(Challenger {
        address: address?,
        data_port: data_port?,
        control_port: control_port?,
        max_rate: max_rate?,
        min_price: min_price?,
        max_bytes: max_bytes?,
        max_bytes_per_day: max_day?,
        max_memory: max_memory?,
    })
}

fn distinct_ports(
    r: &mut Reader<'_>,
    path: &str,
    port: Option<u16>,
    taken_by: &str,
    taken: Option<u16>,
) {
    if let (Some(port), Some(taken)) = (port, taken)
        && port == taken
    {
        let what = format!("{port} is already {taken_by}: one socket cannot serve both");
        r.mistake(path, what, format!("any port from 1 to 65535 but {taken}"));
    }
}

/// Both roles on one address must not want one port.
fn prover_and_challenger(
    r: &mut Reader<'_>,
    prover: Option<&Prover>,
    challenger: Option<&Challenger>,
) {
    let (Some(prover), Some(challenger)) = (prover, challenger) else {
        return;
    };
    if prover.address != challenger.address {
        return;
    }
    for (path, port) in [
        ("challenger.data_port", challenger.data_port),
        ("challenger.control_port", challenger.control_port),
    ] {
        distinct_ports(
            r,
            path,
            Some(port),
            "prover.data_port",
            Some(prover.data_port),
        );
        distinct_ports(
            r,
            path,
            Some(port),
            "prover.control_port",
            Some(prover.control_port),
        );
    }
}

/// What a node beside its own coordinator can be told before the contract refuses it.
fn coordinator_and_node(
    r: &mut Reader<'_>,
    roles: Roles,
    coordinator: Option<&Coordinator>,
    node: Option<&Node>,
) {
    let (Some(Coordinator { chain, .. }), Some(node)) = (coordinator, node) else {
        return;
    };
    let variables = &chain.parameters;
    let (needed, because) = match roles.has(Role::Challenger) {
        true => (
            variables.min_stake.saturating_add(variables.seed_bond),
            "chain.min_stake + chain.seed_bond, a challenger's bond",
        ),
        false => (variables.min_stake, "chain.min_stake"),
    };
    if node.stake < needed {
        let what =
            format!("below {because} ({needed}): the contract would refuse the registration");
        r.mistake("node.stake", what, format!("at least \"{needed}\""));
    }
    let live = secs(variables.live_interval_s);
    if node.heartbeat * HEARTBEATS_PER_LIVE_INTERVAL > live {
        let live = units::format_duration(live);
        let what = format!("one lost heartbeat would end chain.live_interval ({live})");
        r.mistake("node.heartbeat", what, format!("at most half of {live}"));
    }
    if node.faucet && !chain.lab_token {
        let what = "chain.lab_token is false: there is nothing to mint".to_owned();
        r.mistake(
            "node.faucet",
            what,
            "false, or chain.lab_token = true".into(),
        );
    }
}
