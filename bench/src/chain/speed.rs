//! Transactions a second through the engine, and beside it what it is made of.
//!
//! ```text
//!  requests, signed ahead ─► rpc_bytes ─► engine ─► acknowledged      timed: clients in flight
//!                                           │ blocks read back
//!                                           ├─► revm alone            timed: execution
//!                                           ├─► redb alone            timed: durable commits, and without syncs
//!                                           └─► signers again           timed: recovery
//! ```
//! Rounds are interleaved: one of each row with its peers, then again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::sol_types::SolCall;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use plumbline::chain::Embedded;
use plumbline::chain::client::commitment;
use plumbline_contracts::Deployment;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::lab_token::LabToken;
use serde::Serialize;
use tokio::task::JoinSet;

use super::blocks::{self, Made};
use super::evm::Evm;
use super::lab::{self, GAS, Lab, Signer};
use super::plan::Plan;
use super::store::Store;
use crate::progress::Progress;
use crate::stat::Spread;

/// Clients that send at once: many, and as many as a block holds transactions.
const MANY: usize = 64;
const FULL: usize = 256;

/// What clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// `transfer` of the token to an address of the sender's own.
    Transfers,
    /// `heartbeat` of a registered participant: reveals a seed, commits to the next.
    Heartbeats,
}

/// The rows: name, what, clients.
const ROWS: [(&str, Kind, usize); 4] = [
    (TPS, Kind::Transfers, MANY),
    ("transfers-256", Kind::Transfers, FULL),
    ("heartbeats-64", Kind::Heartbeats, MANY),
    (ALONE, Kind::Transfers, 1),
];
/// The row whose figures are `tps` and the two ratios.
pub(crate) const TPS: &str = "transfers-64";
/// The row of one client, who waits for each acknowledgement.
pub(crate) const ALONE: &str = "transfers-1";

/// A line of the result.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Clients in flight.
    pub(crate) clients: usize,
    /// Acknowledged transactions a second.
    pub(crate) tps: Spread,
    /// The same transactions a second through revm alone.
    pub(crate) revm_tps: Spread,
    /// Blocks a second.
    pub(crate) blocks: Spread,
    /// The same blocks a second through redb alone.
    pub(crate) redb_blocks: Spread,
    /// `tps` over `revm_tps`, round by round.
    pub(crate) vs_revm: Spread,
    /// `blocks` over `redb_blocks`, round by round.
    pub(crate) vs_store: Spread,
    /// From request to acknowledgement, µs.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Transactions of a block.
    pub(crate) per_block: f64,
    /// Where the time of a transaction goes.
    pub(crate) parts: Parts,
}

/// Microseconds of one transaction, each part measured alone on one thread, medians of the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Parts {
    /// All of it: 1 / `tps`.
    pub(crate) whole_us: f64,
    /// Recovering the signer, as work of one core. Clients' threads do it, on all cores at once.
    pub(crate) recover_us: f64,
    /// revm alone.
    pub(crate) execute_us: f64,
    /// redb alone without syncs.
    pub(crate) write_us: f64,
    /// What the syncs of a durable commit add.
    pub(crate) sync_us: f64,
    /// What is left: JSON, roots, the check of conservation, the block's signature, waiting for a core.
    /// Below 0 where the parts overlap on several cores by more.
    pub(crate) rest_us: f64,
}

/// Rounds of a row, and who sends in them.
struct Contest {
    name: &'static str,
    kind: Kind,
    senders: Vec<Sender>,
    each: usize,
    tps: Vec<f64>,
    revm: Vec<f64>,
    blocks: Vec<f64>,
    redb: Vec<f64>,
    /// Seconds of a transaction.
    recover: Vec<f64>,
    /// Likewise.
    write: Vec<f64>,
    latency: Histogram<u64>,
}

/// A client of the bench's own: signs ahead.
struct Sender {
    signer: Signer,
    /// Heartbeats sent.
    beats: u64,
}

impl Sender {
    /// The next request.
    fn next(&mut self, kind: Kind, deployment: &Deployment) -> Result<Vec<u8>> {
        let address = self.signer.key.address();
        let (to, input): (Address, Bytes) = match kind {
            Kind::Transfers => {
                let call = LabToken::transferCall {
                    to: address.create(self.signer.nonce % 16),
                    value: U256::from(1),
                };
                (deployment.token, call.abi_encode().into())
            }
            Kind::Heartbeats => {
                let seeds = lab::seeds(address);
                let seed = |count| seeds.seed(deployment, address, count);
                let call = Beacon::heartbeatCall {
                    revealedSeed: self.beats.checked_sub(1).map_or(B256::ZERO, seed),
                    nextCommitment: commitment(seed(self.beats)),
                };
                self.beats += 1;
                (deployment.beacon, call.abi_encode().into())
            }
        };
        self.signer.request(Some(to), input, GAS)
    }
}

/// The engine and its peers, all at the same block.
struct Side {
    lab: Lab,
    evm: Evm,
    /// Executes ahead of the store, to know what is written.
    shadow: Evm,
    store: Store,
    unsynced: Store,
    height: u64,
}

/// What the engine has made in a round, and what its peers took for the same.
struct Followed {
    made: Vec<Made>,
    revm: Duration,
    redb: Duration,
    write: Duration,
    /// Seconds of one signer.
    recover: f64,
}

impl Side {
    /// Lets the peers do what the engine has done since.
    async fn follow(&mut self) -> Result<Followed> {
        let chain_id = self.lab.deployment().chain_id;
        let to = blocks::height(&self.lab.chain).await?;
        let made = blocks::read(&self.lab.chain, self.height + 1, to).await?;
        self.height = to;
        let revm = self.evm.time(&made, chain_id)?;
        let written = self.shadow.written(&made, chain_id)?;
        Ok(Followed {
            revm,
            redb: self.store.time(&made, &written)?,
            write: self.unsynced.time(&made, &written)?,
            recover: blocks::recover(&made)?,
            made,
        })
    }
}

/// Runs all rows.
///
/// # Errors
/// The disk, or the chain refused something.
pub(crate) async fn measure(
    plan: &Plan,
    directory: &std::path::Path,
    progress: &Progress,
) -> Result<Vec<Row>> {
    let mut side = Side {
        lab: Lab::found(directory)?,
        evm: Evm::default(),
        shadow: Evm::default(),
        store: Store::durable(directory)?,
        unsynced: Store::unsynced(directory)?,
        height: 0,
    };
    let mut contests = Vec::new();
    for (name, kind, clients) in ROWS {
        progress.note(&format!("{clients} accounts for {name}"));
        let each = if clients == 1 {
            plan.alone
        } else {
            plan.per_client
        };
        contests.push(Contest::prepare(&side.lab, name, kind, clients, each).await?);
    }
    side.follow().await?;
    for round in 0..plan.rounds {
        for contest in &mut contests {
            progress.round(round + 1, plan.rounds, contest.name);
            contest.round(&mut side).await?;
        }
    }
    contests.into_iter().map(Contest::row).collect()
}

impl Contest {
    async fn prepare(
        lab: &Lab,
        name: &'static str,
        kind: Kind,
        clients: usize,
        each: usize,
    ) -> Result<Self> {
        let signers = match kind {
            Kind::Transfers => lab.purses(name, clients).await?,
            Kind::Heartbeats => lab.participants(name, clients).await?,
        };
        let senders = signers.into_iter();
        let mut senders: Vec<_> = senders.map(|signer| Sender { signer, beats: 0 }).collect();
        if kind == Kind::Heartbeats {
            // The first has nothing to reveal and costs more.
            for sender in &mut senders {
                let first = sender.next(kind, &lab.deployment())?;
                lab::send(&lab.chain, &first).await?;
            }
        }
        Ok(Self {
            name,
            kind,
            senders,
            each,
            tps: Vec::new(),
            revm: Vec::new(),
            blocks: Vec::new(),
            redb: Vec::new(),
            recover: Vec::new(),
            write: Vec::new(),
            latency: Histogram::new(3).context("a histogram")?,
        })
    }

    async fn round(&mut self, side: &mut Side) -> Result<()> {
        let deployment = side.lab.deployment();
        let mut lists = Vec::with_capacity(self.senders.len());
        for sender in &mut self.senders {
            let list = (0..self.each).map(|_| sender.next(self.kind, &deployment));
            lists.push(list.collect::<Result<Vec<_>>>()?);
        }
        let sent = self.senders.len() * self.each;
        let took = self.flood(&side.lab.chain, lists).await?;
        let followed = side.follow().await?;
        let made = &followed.made;
        let counted: usize = made.iter().map(|b| b.transactions.len()).sum();
        anyhow::ensure!(counted == sent, "{sent} sent, {counted} in blocks");
        self.tps.push(sent as f64 / took.as_secs_f64());
        self.revm.push(sent as f64 / followed.revm.as_secs_f64());
        self.blocks.push(made.len() as f64 / took.as_secs_f64());
        self.redb
            .push(made.len() as f64 / followed.redb.as_secs_f64());
        self.recover.push(followed.recover);
        self.write.push(followed.write.as_secs_f64() / sent as f64);
        Ok(())
    }

    /// Every client sends its list, one after the other; until the last is acknowledged.
    async fn flood(&mut self, chain: &Arc<Embedded>, lists: Vec<Vec<Vec<u8>>>) -> Result<Duration> {
        let mut clients = JoinSet::new();
        let began = Instant::now();
        for list in lists {
            let chain = Arc::clone(chain);
            clients.spawn(async move {
                let mut times = Vec::with_capacity(list.len());
                for request in list {
                    let began = Instant::now();
                    lab::send(&chain, &request).await?;
                    times.push(began.elapsed());
                }
                anyhow::Ok(times)
            });
        }
        let mut all = Vec::new();
        while let Some(times) = clients.join_next().await {
            all.extend(times??);
        }
        let took = began.elapsed();
        for time in all {
            let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            self.latency.record(us).context("a latency")?;
        }
        Ok(took)
    }

    fn row(self) -> Result<Row> {
        let vs_revm = Spread::ratio(&self.tps, &self.revm).context("no rounds")?;
        let vs_store = Spread::ratio(&self.blocks, &self.redb).context("no rounds")?;
        let spread = |values| Spread::of(values).context("no rounds");
        let per_block = Spread::ratio(&self.tps, &self.blocks).context("no rounds")?;
        let per_block = per_block.median;
        let tps = spread(self.tps)?;
        let revm_tps = spread(self.revm)?;
        let redb_blocks = spread(self.redb)?;
        let micros = |seconds: f64| seconds * 1e6;
        let durable_us = micros(1.0 / redb_blocks.median / per_block);
        let mut parts = Parts {
            whole_us: micros(1.0 / tps.median),
            recover_us: micros(spread(self.recover)?.median),
            execute_us: micros(1.0 / revm_tps.median),
            write_us: micros(spread(self.write)?.median),
            sync_us: 0.0,
            rest_us: 0.0,
        };
        parts.sync_us = durable_us - parts.write_us;
        parts.rest_us = parts.whole_us - parts.recover_us - parts.execute_us - durable_us;
        Ok(Row {
            per_block,
            parts,
            name: self.name,
            kind: self.kind,
            clients: self.senders.len(),
            tps,
            revm_tps,
            blocks: spread(self.blocks)?,
            redb_blocks,
            vs_revm,
            vs_store,
            p50_us: self.latency.value_at_quantile(0.5) as f64,
            p99_us: self.latency.value_at_quantile(0.99) as f64,
        })
    }
}
