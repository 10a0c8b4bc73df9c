//! Power fails: at every write and sync of a run, and while the chain comes back from that.

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::B256;
use plumbline::chain::embedded::{Replayed, verify_on};
use plumbline::chain::{ChainClient, Embedded};

use crate::platter::{Chance, Platter};
use crate::world::{TestClock, enter, fund, genesis, key, seeds, tick};
use plumbline::chain::client::role;

/// Cuts of a run in CI, and with `PLUMBLINE_FULL=1`.
const CUTS: (u64, u64) = (300, 6_000);
const NAME: &str = "platter";

pub(crate) fn full() -> bool {
    std::env::var_os("PLUMBLINE_FULL").is_some_and(|v| v == "1")
}

/// The seed of this run: `PLUMBLINE_SEED` repeats one.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("PLUMBLINE_SEED").ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    given.map_or_else(
        || now.unwrap().subsec_nanos().into(),
        |seed| seed.parse().unwrap(),
    )
}

/// A block that was acknowledged: when, and what it was.
pub(crate) struct Acknowledged {
    instant: usize,
    pub(crate) number: u64,
    pub(crate) hash: B256,
    pub(crate) root: B256,
}

pub(crate) fn open(platter: &Platter) -> Result<Arc<Embedded>, plumbline::chain::ChainError> {
    let options = TestClock::new().options();
    Embedded::open_on(platter.clone(), Path::new(NAME), &genesis(), options)
}

/// A run: registrations, heartbeats, payments; each block is noted when it is acknowledged.
pub(crate) async fn run(platter: &Platter, rounds: usize) -> Vec<Acknowledged> {
    let chain = open(platter).unwrap();
    let one = ChainClient::in_process(&chain, key(2));
    let mut list = Vec::new();
    note(platter, &one, &mut list).await;
    fund(&one).await;
    note(platter, &one, &mut list).await;
    let mut challengers = Vec::new();
    for number in 10..13 {
        let challenger = ChainClient::in_process(&chain, key(number));
        enter(&challenger, number, role::CHALLENGER).await;
        challengers.push(challenger);
        note(platter, &one, &mut list).await;
    }
    for round in 0..rounds {
        let challenger = &challengers[round % challengers.len()];
        challenger.beat(&seeds(challenger)).await.unwrap();
        note(platter, &one, &mut list).await;
        tick(&one).await;
        note(platter, &one, &mut list).await;
    }
    drop(challengers);
    drop(one);
    assert!(Arc::into_inner(chain).is_some());
    list
}

async fn note(platter: &Platter, client: &ChainClient, list: &mut Vec<Acknowledged>) {
    let block = client.latest_block().await.unwrap();
    list.push(Acknowledged {
        instant: platter.instant(),
        number: block.number,
        hash: block.hash,
        root: block.state_root,
    });
}

/// Every block of an undisturbed run, by number.
fn undisturbed(platter: &Platter) -> Vec<B256> {
    let chain = open(&Platter::holding(platter.bytes())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut hashes = Vec::new();
        for number in 0_u64.. {
            let request = serde_json::json!({ "jsonrpc": "2.0", "id": 1,
                "method": "eth_getBlockByNumber", "params": [format!("{number:#x}"), false] });
            let answer = chain.rpc(request).await;
            let Some(hash) = answer["result"]["hash"].as_str() else {
                break;
            };
            hashes.push(hash.parse().unwrap());
        }
        hashes
    })
}

/// Whether what came back is the run up to its last acknowledged block, or the one being written.
fn judge(found: &Replayed, hashes: &[B256], last: &Acknowledged) -> Result<(), String> {
    let number = usize::try_from(found.height).unwrap();
    if found.height < last.number {
        return Err(format!("block {} is lost, head {number}", last.number));
    }
    if hashes.get(number) != Some(&found.hash) {
        return Err(format!("block {number} is another: {}", found.hash));
    }
    if found.height == last.number && (found.root, found.hash) != (last.root, last.hash) {
        return Err(format!("the root of block {number} is another"));
    }
    Ok(())
}

#[derive(Default)]
struct Counts {
    cuts: u64,
    torn: u64,
    again: u64,
    ahead: u64,
    unfounded: u64,
}

/// One power loss, the reopening, sometimes a second loss during that; then everything is compared.
fn lose(
    platter: &Platter,
    cut: usize,
    seed: u64,
    acknowledged: &[Acknowledged],
    hashes: &[B256],
    counts: &mut Counts,
) -> Result<(), String> {
    let mut chance = Chance::new(seed);
    let left = platter.after(cut, &mut chance);
    counts.cuts += 1;
    counts.torn += u64::from(left.torn);
    let Some(last) = acknowledged.iter().rev().find(|a| a.instant <= cut) else {
        // Nobody was told of a chain. In a directory there would be no file yet (`crash.rs`); here the
        // store may be unusable, but it is never half a chain.
        counts.unfounded += 1;
        return match open(&Platter::holding(left.bytes)) {
            Err(_) => Ok(()),
            Ok(chain) => chain.halted().map_or(Ok(()), |why| Err(why.to_owned())),
        };
    };
    let mut disk = Platter::holding(left.bytes);
    if chance.below(3) == 0 {
        counts.again += 1;
        open(&disk).map_err(|e| format!("does not open: {e}"))?;
        let instant = chance.below(disk.instant() + 1);
        disk = Platter::holding(disk.after(instant, &mut chance).bytes);
    }
    open(&disk).map_err(|e| format!("does not open: {e}"))?;
    let found = verify_on(disk, Path::new(NAME)).map_err(|e| format!("does not verify: {e}"))?;
    counts.ahead += u64::from(found.height > last.number);
    judge(&found, hashes, last)
}

#[test]
fn no_power_loss_loses_an_acknowledged_block() {
    let seed = seed();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let platter = Platter::default();
    let acknowledged = runtime.block_on(run(&platter, 8));
    let hashes = undisturbed(&platter);
    assert_eq!(hashes.len() as u64, acknowledged.last().unwrap().number + 1);
    let wanted = if full() { CUTS.1 } else { CUTS.0 };
    let (mut counts, mut wrong) = (Counts::default(), Vec::new());
    let founded = acknowledged[0].instant;
    let points = platter.instant() + 1;
    let syncs = (0..points).filter(|at| platter.is_synced_at(*at)).count();
    for case in 0..wanted {
        // Every instant once, from the last to the first, then at random; few of the founding.
        let case_seed = seed.wrapping_add(case << 32);
        let mut chance = Chance::new(case_seed ^ 0x5bd1);
        let cut = match usize::try_from(case).unwrap() {
            at if at < points - founded => points - 1 - at,
            _ => chance.below(points),
        };
        if let Err(why) = lose(
            &platter,
            cut,
            case_seed,
            &acknowledged,
            &hashes,
            &mut counts,
        ) {
            wrong.push(format!("case {case}, cut {cut} of {points}: {why}"));
        }
    }
    println!(
        "power loss: {} cuts at {points} instants ({syncs} syncs), {} torn, {} lost again while \
         reopening, {} one block ahead, {} before the founding, {} wrong",
        counts.cuts,
        counts.torn,
        counts.again,
        counts.ahead,
        counts.unfounded,
        wrong.len()
    );
    assert!(counts.torn > wanted / 10 && counts.again > wanted / 10 && counts.ahead > 0);
    assert!(
        wrong.is_empty(),
        "PLUMBLINE_SEED={seed} repeats: {wrong:#?}"
    );
}

/// The test would see a disk that lies about syncs: an image older than what was acknowledged.
#[test]
fn a_disk_that_forgets_what_it_synced_is_seen() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let platter = Platter::default();
    let acknowledged = runtime.block_on(run(&platter, 2));
    let hashes = undisturbed(&platter);
    let (last, before) = match acknowledged.as_slice() {
        [.., before, last] => (last, before),
        _ => panic!("two blocks at least"),
    };
    let old = platter.after(before.instant, &mut Chance::new(1));
    let found = verify_on(Platter::holding(old.bytes), Path::new(NAME)).unwrap();
    let told = judge(&found, &hashes, last).unwrap_err();
    assert!(told.contains("is lost"), "{told}");
    judge(&found, &hashes, before).unwrap();
}
