//! The time of a block of the same work on a small and on a large state.
//!
//! ```text
//!  fill     loader contract: CREATE, mint to it, again ─► accounts with a record and a balance each
//!  a round  hold the clock ─► a plug ─► transfers queued ─► release ─► their block alone
//!                                            timed: from the block's own look at the clock to the last answer
//! ```
//! An ordinary block, of as many transfers as 64 clients fill, decides; the fullest is measured beside it.
//! Signatures are recovered before the block begins: they cost the same on every state and would only hide
//! what grows.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, bail, ensure};
use plumbline_contracts::abi::lab_token::LabToken;
use serde::Serialize;

use super::blocks;
use super::lab::{GAS, Lab, Signer, accepted, key, send};
use super::plan;
use crate::progress::Progress;
use crate::stat::Spread;

/// Transfers of an ordinary block: what 64 clients together put into one.
const ORDINARY: usize = 25;
/// Transfers of the fullest: the most that a block of the engine holds.
const FULL: usize = 256;
/// Accounts that one transaction of the loader makes, and its gas limit (EIP-7825): 62,000 an account.
const BATCH: usize = 250;
const BATCH_GAS: u64 = 1 << 24;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Growth {
    /// Accounts of the two states.
    pub(crate) accounts: [usize; 2],
    /// Blocks as they are.
    pub(crate) ordinary: Blocks,
    /// Blocks as full as they can be.
    pub(crate) full: Blocks,
    /// Seconds that filling the large one took.
    pub(crate) fill_s: f64,
}

/// Blocks of one size on both states.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Blocks {
    /// Transfers of a block.
    pub(crate) transfers: usize,
    /// Seconds of a block on each.
    pub(crate) small_s: Spread,
    pub(crate) large_s: Spread,
    /// Large over small, round by round.
    pub(crate) ratio: Spread,
}

/// Measures both, in turns.
///
/// # Errors
/// The disk, or the chain refused something.
pub(crate) async fn measure(
    plan: plan::Growth,
    directory: &Path,
    progress: &Progress,
) -> Result<Growth> {
    let mut small = State::fill(directory, plan.small, progress).await?;
    let began = Instant::now();
    let mut large = State::fill(directory, plan.large, progress).await?;
    let fill_s = began.elapsed().as_secs_f64();
    progress.note(&format!("{} accounts in {fill_s:.1} s", plan.large));
    let mut blocks = Vec::new();
    for transfers in [ORDINARY, FULL] {
        let (mut smalls, mut larges) = (Vec::new(), Vec::new());
        for round in 0..plan.rounds {
            let what = format!("blocks of {transfers} transfers");
            progress.round(round + 1, plan.rounds, &what);
            smalls.push(small.block(transfers).await?);
            larges.push(large.block(transfers).await?);
        }
        blocks.push(Blocks {
            transfers,
            ratio: Spread::ratio(&larges, &smalls).context("no rounds")?,
            small_s: Spread::of(smalls).context("no rounds")?,
            large_s: Spread::of(larges).context("no rounds")?,
        });
    }
    let full = blocks.pop().context("no blocks")?;
    Ok(Growth {
        accounts: [plan.small, plan.large],
        ordinary: blocks.pop().context("no blocks")?,
        full,
        fill_s,
    })
}

/// A chain with so many accounts.
struct State {
    lab: Lab,
    loader: Address,
    accounts: usize,
    senders: Vec<Signer>,
    plug: Signer,
    /// Transfers made, which decides who receives the next.
    made: usize,
}

impl State {
    async fn fill(directory: &Path, accounts: usize, progress: &Progress) -> Result<Self> {
        let lab = Lab::found(directory)?;
        let mut filler = Signer {
            key: key("filler", 0)?,
            nonce: 0,
        };
        let loader = filler.key.address().create(0);
        let code = loader_code(lab.deployment().token);
        send(&lab.chain, &filler.request(None, code, BATCH_GAS)?).await?;
        let mut made = 0;
        while made < accounts {
            let count = (accounts - made).min(BATCH);
            let input = U256::from(count).to_be_bytes_vec().into();
            let request = filler.request(Some(loader), input, BATCH_GAS)?;
            send(&lab.chain, &request).await?;
            made += count;
            progress.round(made, accounts, "accounts");
        }
        let senders = lab.purses("mover", FULL).await?;
        let plug = Signer {
            key: key("plug", 0)?,
            nonce: 0,
        };
        let state = Self {
            lab,
            loader,
            accounts,
            senders,
            plug,
            made: 0,
        };
        state.check().await?;
        Ok(state)
    }

    /// The `number`th account that the loader made: a contract's nonce begins at 1.
    fn account(&self, number: usize) -> Address {
        self.loader.create(1 + number as u64)
    }

    /// The first and the last account are there and have a unit each, and there is none after them.
    async fn check(&self) -> Result<()> {
        let client = self.lab.funded("checker", 0).await?;
        for (number, wanted) in [(0, 1), (self.accounts - 1, 1), (self.accounts, 0)] {
            let balance = client.balance(self.account(number)).await?;
            ensure!(
                balance == U256::from(wanted),
                "account {number} of {} has {balance} units, not {wanted}: the state was not filled",
                self.accounts
            );
        }
        Ok(())
    }

    /// Makes one block of so many transfers to accounts all over the state; its seconds.
    async fn block(&mut self, transfers: usize) -> Result<f64> {
        let token = self.lab.deployment().token;
        let mut requests = Vec::with_capacity(transfers);
        for at in 0..transfers {
            // A prime step visits every account before one again, in no order that the store knows.
            let to = self.account((self.made * 7_919) % self.accounts);
            self.made += 1;
            let call = LabToken::transferCall {
                to,
                value: U256::from(1),
            };
            requests.push(self.senders[at].request(Some(token), call.abi_encode().into(), GAS)?);
        }
        let plug = LabToken::mintCall {
            to: self.plug.key.address(),
            amount: U256::from(1),
        };
        let plug = self
            .plug
            .request(Some(token), plug.abi_encode().into(), GAS)?;
        let before = blocks::height(&self.lab.chain).await?;

        self.lab.clock.hold();
        let mut first = Pending::all(&self.lab, &[plug]);
        let clock = Arc::clone(&self.lab.clock);
        poll_until(&mut first, || clock.is_asked()).await?;
        let mut others = Pending::all(&self.lab, &requests);
        let chain = Arc::clone(&self.lab.chain);
        poll_until(&mut others, || chain.queued() == transfers).await?;
        self.lab.clock.release();
        finish(&mut first).await;
        finish(&mut others).await;
        let took = self.lab.clock.last_told().elapsed().as_secs_f64();

        for answer in first
            .iter()
            .chain(&others)
            .filter_map(|p| p.answer.as_ref())
        {
            accepted(answer)?;
        }
        let after = blocks::height(&self.lab.chain).await?;
        let size = blocks::size(&self.lab.chain, after).await?;
        if (after, size) != (before + 2, transfers) {
            bail!(
                "{} blocks were made, the last with {size} transfers",
                after - before
            );
        }
        Ok(took)
    }
}

/// A request on its way.
struct Pending {
    future: Pin<Box<dyn Future<Output = Vec<u8>>>>,
    answer: Option<Vec<u8>>,
}

impl Pending {
    fn all(lab: &Lab, requests: &[Vec<u8>]) -> Vec<Self> {
        let one = |request: &Vec<u8>| {
            let (chain, request) = (Arc::clone(&lab.chain), request.clone());
            Self {
                future: Box::pin(async move { chain.rpc_bytes(&request).await }),
                answer: None,
            }
        };
        requests.iter().map(one).collect()
    }
}

/// Polls those that are not answered until it is `so`. An answer before that is a refusal: the clock is held.
async fn poll_until(list: &mut [Pending], so: impl Fn() -> bool) -> Result<()> {
    while !so() {
        poll_fn(|cx| {
            for pending in list.iter_mut().filter(|p| p.answer.is_none()) {
                if let Poll::Ready(answer) = pending.future.as_mut().poll(cx) {
                    pending.answer = Some(answer);
                }
            }
            Poll::Ready(())
        })
        .await;
        if let Some(answer) = list.iter().find_map(|p| p.answer.as_ref()) {
            accepted(answer)?;
            bail!("a transaction was answered while the clock was held");
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Waits until all are answered.
async fn finish(list: &mut [Pending]) {
    for pending in list.iter_mut().filter(|p| p.answer.is_none()) {
        pending.answer = Some(pending.future.as_mut().await);
    }
}

/// Creation code of the loader, whose only call makes as many accounts as its one word of call data says:
/// each by an empty `CREATE` (nonce 1) and a `mint` of one unit of `token` to it.
fn loader_code(token: Address) -> Bytes {
    let mut run = Vec::new();
    // mem[0..4] = selector of mint; mem[0x24..0x44] = 1
    run.push(0x63);
    run.extend_from_slice(&LabToken::mintCall::SELECTOR);
    run.extend_from_slice(&[0x60, 0xe0, 0x1b, 0x5f, 0x52, 0x60, 0x01, 0x60, 0x24, 0x52]);
    // count = calldata[0]
    run.extend_from_slice(&[0x5f, 0x35]);
    let again = run.len();
    // JUMPDEST DUP1 ISZERO PUSH1 end JUMPI
    run.extend_from_slice(&[0x5b, 0x80, 0x15, 0x60, 0, 0x57]);
    let end_at = run.len() - 2;
    // mem[4..0x24] = CREATE(0, 0, 0)
    run.extend_from_slice(&[0x5f, 0x5f, 0x5f, 0xf0, 0x60, 0x04, 0x52]);
    // CALL(gas, token, 0, 0, 0x44, 0, 0)
    run.extend_from_slice(&[0x5f, 0x5f, 0x60, 0x44, 0x5f, 0x5f, 0x73]);
    run.extend_from_slice(token.as_slice());
    run.extend_from_slice(&[0x5a, 0xf1]);
    // ISZERO PUSH1 fail JUMPI
    run.extend_from_slice(&[0x15, 0x60, 0, 0x57]);
    let fail_at = run.len() - 2;
    // count − 1; PUSH1 again JUMP
    run.extend_from_slice(&[0x60, 0x01, 0x90, 0x03, 0x60, place(again), 0x56]);
    run[end_at] = place(run.len());
    run.extend_from_slice(&[0x5b, 0x00]);
    run[fail_at] = place(run.len());
    run.extend_from_slice(&[0x5b, 0x5f, 0x5f, 0xfd]);
    // PUSH1 length DUP1 PUSH1 10 PUSH0 CODECOPY PUSH0 RETURN: returns what follows these ten bytes.
    let mut code = vec![
        0x60,
        place(run.len()),
        0x80,
        0x60,
        10,
        0x5f,
        0x39,
        0x5f,
        0xf3,
        0x00,
    ];
    code.extend_from_slice(&run);
    code.into()
}

/// A place in the loader, which is shorter than 256 bytes; a larger one would be an invalid jump.
fn place(at: usize) -> u8 {
    u8::try_from(at).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_state_is_filled_and_a_block_holds_the_transfers_alone() {
        let directory = tempfile::tempdir().unwrap();
        let progress = Progress::for_terminal();
        // One more than a batch, so that two transactions are needed.
        let mut state = State::fill(directory.path(), BATCH + 1, &progress)
            .await
            .unwrap();
        for transfers in [ORDINARY, FULL] {
            assert!(state.block(transfers).await.unwrap() > 0.0);
        }
        state.accounts += 1;
        let told = state.check().await.unwrap_err().to_string();
        assert!(told.contains("was not filled"), "{told}");
    }
}
