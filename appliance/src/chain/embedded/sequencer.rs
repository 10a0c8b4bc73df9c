//! The one thread that makes blocks.
//!
//! ```text
//!   submit() ─► bounded queue ─► [ all that wait ] ─► execute ─► conserved? ─► disk ─► answers
//!                                 or nothing, at an interval                     │
//!                                                                  fails ──► halted, for good
//! ```
//!
//! Claim: a transaction is answered only after its block is on disk, and a block that would break
//! conservation is neither written nor answered. Once halted, it stays halted until the process is
//! started again: what is on disk is then still sound.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use alloy::consensus::TxEnvelope;
use alloy::consensus::transaction::Recovered;
use alloy::primitives::B256;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use plumbline_contracts::Deployment;
use plumbline_contracts::abi::vault::Vault;
use tokio::sync::oneshot;

use super::disk::{Disk, Sealed, StoreError};
use super::execute::{self, Call, CallError, Called, Fate, Place, TX_GAS_LIMIT};
use super::file::guarded;
use super::seal::{SealBytes, SignedHead};
use super::state::Overlay;
use super::{ChainError, Options};

/// Transactions that may wait: a few seconds of work. More are refused, so that the sender knows.
const QUEUE_DEPTH: usize = 1024;
/// Most transactions of one block, so that the first of them does not wait for all that follow.
const BLOCK_TRANSACTIONS: usize = 256;
/// Longest that a block waits for others, however long the last one took: nobody notices.
const GATHER_MOST: Duration = Duration::from_millis(20);

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    #[error("{0}")]
    Invalid(String),
    #[error("{QUEUE_DEPTH} transactions are waiting already; try again")]
    Full,
    #[error("{0}")]
    Halted(String),
}

/// Signs blocks as the founder of `chain` (hash of its block 0).
pub(super) struct Sealer {
    pub(super) signer: PrivateKeySigner,
    pub(super) chain: B256,
}

impl Sealer {
    pub(super) fn seal(&self, number: u64, hash: B256) -> Result<SealBytes, ChainError> {
        SignedHead::sign(&self.signer, self.chain, number, hash)
            .map(|signed| signed.signature)
            .map_err(|e| ChainError::Founding(format!("cannot sign block {number}: {e}")))
    }
}

struct Job {
    transaction: Box<Recovered<TxEnvelope>>,
    answer: oneshot::Sender<Result<(), Rejection>>,
}

/// The thread, and the way to it.
#[derive(Debug)]
pub(super) struct Sequencer {
    queue: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    halted: Arc<OnceLock<String>>,
}

impl Sequencer {
    /// Starts the thread.
    pub(super) fn start(
        disk: Arc<Disk>,
        deployment: Deployment,
        options: Options,
        sealer: Sealer,
    ) -> Result<Self, ChainError> {
        let (queue, jobs) = bounded(QUEUE_DEPTH);
        let halted = Arc::new(OnceLock::new());
        let maker = Maker {
            disk,
            deployment,
            options,
            sealer,
            halted: Arc::clone(&halted),
        };
        let thread = std::thread::Builder::new()
            .name("sequencer".to_owned())
            .spawn(move || maker.run(&jobs))
            .map_err(|e| ChainError::Founding(format!("cannot start the sequencer: {e}")))?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
            halted,
        })
    }

    /// Takes a transaction whose signature is checked; answers when its block is on disk.
    pub(super) async fn submit(&self, transaction: Recovered<TxEnvelope>) -> Result<(), Rejection> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            transaction: Box::new(transaction),
            answer,
        };
        match self.queue.as_ref().map(|queue| queue.try_send(job)) {
            Some(Ok(())) => {}
            Some(Err(TrySendError::Full(_))) => return Err(Rejection::Full),
            Some(Err(TrySendError::Disconnected(_))) | None => return Err(self.gone()),
        }
        answered.await.unwrap_or_else(|_| Err(self.gone()))
    }

    /// Transactions that wait for the block after the one that is being made.
    pub(super) fn queued(&self) -> usize {
        self.queue.as_ref().map_or(0, Sender::len)
    }

    /// Why no more blocks are made, if so.
    pub(super) fn halted(&self) -> Option<&str> {
        self.halted.get().map(String::as_str)
    }

    fn gone(&self) -> Rejection {
        Rejection::Halted(self.halted().unwrap_or("the chain was closed").to_owned())
    }
}

impl Drop for Sequencer {
    /// Ends the thread after the block it is at; the file is closed when this returns.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the sequencer panicked");
        }
    }
}

struct Maker {
    disk: Arc<Disk>,
    deployment: Deployment,
    options: Options,
    sealer: Sealer,
    halted: Arc<OnceLock<String>>,
}

/// The last block of any transactions: whoever was answered with it comes again in a moment, and a block that is
/// made of the first of them alone makes the others wait for a whole sync.
#[derive(Default)]
struct Last {
    transactions: usize,
    /// Executing it and writing it to disk.
    took: Duration,
}

impl Last {
    /// Waits, once one waits, for as many as the last block held, but not longer than that took. Who is alone
    /// waits for nobody.
    fn gather(&self, waiting: &mut Vec<Job>, jobs: &Receiver<Job>) {
        let until = Instant::now() + self.took.min(GATHER_MOST);
        while !waiting.is_empty()
            && waiting.len() < self.transactions
            && let Ok(job) = jobs.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            waiting.push(job);
        }
    }
}

impl Maker {
    fn run(&self, jobs: &Receiver<Job>) {
        let mut waiting = Vec::new();
        let mut due = Instant::now() + self.options.block_interval;
        let mut last = Last::default();
        loop {
            let patience = if waiting.is_empty() {
                due.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            match jobs.recv_timeout(patience) {
                Ok(job) => waiting.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if waiting.is_empty() => return,
                Err(RecvTimeoutError::Disconnected) => {}
            }
            last.gather(&mut waiting, jobs);
            while waiting.len() < BLOCK_TRANSACTIONS
                && let Ok(job) = jobs.try_recv()
            {
                waiting.push(job);
            }
            let (began, offered) = (Instant::now(), waiting.len());
            // At a damaged page redb may stop the thread: that is a halt as well, with words.
            let made = guarded(|| self.make(&mut waiting, Instant::now() >= due));
            let made = made.map_err(|stopped| StoreError::damaged(stopped).into());
            if offered > 0 {
                last = Last {
                    transactions: offered,
                    took: began.elapsed(),
                };
            }
            match made.and_then(|made| made) {
                Ok(true) => due = Instant::now() + self.options.block_interval,
                Ok(false) => {}
                Err(why) => {
                    tracing::error!(%why, "the chain halted");
                    self.refuse(waiting, &why.to_string());
                    return;
                }
            }
        }
    }

    /// Makes one block of what waits, answers it, and leaves in `waiting` what did not fit. If nothing
    /// that waits is valid, there is a block only when one is `due`. Says whether there was one.
    fn make(&self, waiting: &mut Vec<Job>, due: bool) -> Result<bool, ChainError> {
        let base = self.disk.snapshot()?;
        let now = (self.options.clock)();
        let place = Place::after(&base.head, now, self.deployment.chain_id);
        let transactions = waiting.iter().map(|j| (*j.transaction).clone()).collect();
        let mut overlay = Overlay::new(&base);
        let (executed, fates) = execute::block(&mut overlay, &place, transactions)?;
        let busy = !executed.included.is_empty();
        if busy && !conserved(&mut overlay, &place, &self.deployment)? {
            return Err(ChainError::NotConserved {
                block: executed.header.number,
            });
        }
        if busy || due {
            let diff = overlay.into_diff();
            let seal = self.sealer.seal(executed.header.number, executed.hash)?;
            let block = executed;
            self.disk.append(&Sealed { block, seal }, &diff)?;
        }
        let jobs = std::mem::take(waiting);
        for (job, fate) in jobs.into_iter().zip(fates) {
            let answer = match fate {
                Fate::Included => Ok(()),
                Fate::Refused(why) => Err(Rejection::Invalid(why)),
                Fate::Deferred => {
                    waiting.push(job);
                    continue;
                }
            };
            // Whoever asked may have gone away; the block stands.
            let _ = job.answer.send(answer);
        }
        Ok(busy || due)
    }

    fn refuse(&self, waiting: Vec<Job>, why: &str) {
        let _ = self.halted.set(why.to_owned());
        for job in waiting {
            let _ = job.answer.send(Err(Rejection::Halted(why.to_owned())));
        }
    }
}

/// Asks the vault whether every unit is accounted for.
pub(super) fn conserved<B>(
    overlay: &mut Overlay<B>,
    place: &Place,
    deployment: &Deployment,
) -> Result<bool, StoreError>
where
    B: revm::database_interface::DatabaseRef<Error = StoreError>,
{
    let call = Call {
        to: Some(deployment.vault),
        data: Vault::conservedCall {}.abi_encode().into(),
        gas: TX_GAS_LIMIT,
        ..Call::default()
    };
    match execute::call(overlay, place, &call) {
        Ok(Called::Returned { output, .. }) => {
            Ok(Vault::conservedCall::abi_decode_returns(&output).unwrap_or(false))
        }
        Err(CallError::Store(why)) => Err(why),
        // A vault that cannot say so does not conserve.
        _ => Ok(false),
    }
}
