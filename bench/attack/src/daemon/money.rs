//! Transactions that the contract must refuse: a payer that takes its request back while packets flow, a
//! coordinator that is paid twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy::primitives::B256;
use anyhow::{Context, Result, bail};
use plumbline::chain::ChainClient;
use plumbline::chain::client::ClientError;
use plumbline::control::client::Api;
use plumbline::keyfile::Keys;
use plumbline_contracts::abi::backhaul::IBackhaul::{Submission, Timing};
use plumbline_proof::backhaul::bundle;
use plumbline_proof::backhaul::judge::valid_reports;
use serde_json::json;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(20);
/// Longest that a payer waits for its request to be made, and to be over.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who withdraws.
#[derive(Debug, clap::Args)]
pub(super) struct Withdraws {
    /// The coordinator's API.
    #[arg(long)]
    coordinator: String,
    /// The payer's key file.
    #[arg(long)]
    key: PathBuf,
}

/// Who asks twice.
#[derive(Debug, clap::Args)]
pub(super) struct Twice {
    /// The coordinator's API.
    #[arg(long)]
    coordinator: String,
    /// The coordinator's key file.
    #[arg(long)]
    key: PathBuf,
    /// The bundle that was posted.
    #[arg(long)]
    bundle: PathBuf,
}

async fn connect(coordinator: &str, key: &Path) -> Result<ChainClient> {
    let keys = Keys::load(key)?;
    let api = Api::new(coordinator)?;
    let deployment = api.deployment().await?;
    Ok(ChainClient::connect_http(&api.rpc_url(), keys.signer(), deployment).await?)
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// What was tried, in which state, and what came of it.
#[derive(Default)]
struct Tries {
    refused: BTreeMap<(String, String), u64>,
    done: Vec<String>,
}

impl Tries {
    fn note<T>(&mut self, what: &str, outcome: Result<T, ClientError>) -> Result<()> {
        match outcome {
            Ok(_) => self.done.push(what.to_owned()),
            Err(error) => match error.refusal() {
                Some(refusal) => {
                    let key = (what.to_owned(), refusal.name.to_string());
                    *self.refused.entry(key).or_default() += 1;
                }
                None => return Err(error.into()),
            },
        }
        Ok(())
    }

    fn show(&self, attack: &str) {
        let tried: Vec<_> = self
            .refused
            .iter()
            .map(|((state, refusal), times)| json!({"state": state, "refusal": refusal, "times": times}))
            .collect();
        println!(
            "{:#}",
            json!({"attack": attack, "tried": tried, "done": self.done})
        );
    }
}

pub(super) fn withdraws(args: &Withdraws) -> Result<()> {
    block_on(async {
        let chain = connect(&args.coordinator, &args.key).await?;
        let began = tokio::time::Instant::now();
        let id = newest(&chain).await?;
        let mut tries = Tries::default();
        loop {
            let state = chain.state_of(id).await?;
            if state.is_over() {
                break;
            }
            if began.elapsed() > PATIENCE {
                bail!(
                    "the request {id} was not over within {} s",
                    PATIENCE.as_secs()
                );
            }
            tries.note(&state.to_string(), chain.timeout(id).await)?;
            tokio::time::sleep(AGAIN).await;
        }
        tries.note("over", chain.timeout(id).await)?;
        tries.show("payer-withdraws");
        Ok(())
    })
}

/// The next request of this payer that is made from now on.
async fn newest(chain: &ChainClient) -> Result<B256> {
    let mut next = chain.settled_height().await? + 1;
    let began = tokio::time::Instant::now();
    while began.elapsed() < PATIENCE {
        let head = chain.settled_height().await?;
        if next <= head {
            for id in chain.requests_between(next, head).await? {
                if chain.request_of(id).await?.request.payer == chain.address() {
                    return Ok(id);
                }
            }
            next = head + 1;
        }
        tokio::time::sleep(AGAIN).await;
    }
    bail!(
        "{} asked for nothing within {} s",
        chain.address(),
        PATIENCE.as_secs()
    )
}

pub(super) fn twice(args: &Twice) -> Result<()> {
    let bytes = std::fs::read(&args.bundle)
        .with_context(|| format!("cannot read {}", args.bundle.display()))?;
    let verified = bundle::verify(&bytes);
    let (Some(record), Some(judgement)) = (&verified.record, &verified.judgement) else {
        bail!("{} does not verify", args.bundle.display());
    };
    let (Some(commit), Some(reveal)) = (&record.commit, &record.reveal) else {
        bail!("{} holds no commitment", args.bundle.display());
    };
    let reports = valid_reports(record, judgement).into_iter().map(|kept| {
        let report = &kept.message;
        Timing {
            index: report.index,
            windowUs: report.window_us,
            packets: report.packets,
            signature: report.settlement.clone().into(),
        }
    });
    let posted = Submission {
        packets: commit.message.packets,
        counts: commit.message.counts.clone(),
        responseHash: commit.message.response.into(),
        proverSignature: reveal.message.settlement.clone().into(),
        reports: reports.collect(),
        bundleHash: verified.address.into(),
        verdict: judgement.verdict as u8,
        spansUs: judgement.spans_us.clone(),
    };
    let id = B256::from(record.notice.message.challenge);
    block_on(async {
        let chain = connect(&args.coordinator, &args.key).await?;
        let mut tries = Tries::default();
        let before = chain.owed(chain.address()).await?;
        tries.note("report", chain.report(id, &posted).await)?;
        tries.note("finalize", chain.finalize(id).await)?;
        tries.note("timeout", chain.timeout(id).await)?;
        if chain.owed(chain.address()).await? != before {
            tries.done.push("paid again".to_owned());
        }
        tries.show("second-payout");
        Ok(())
    })
}
