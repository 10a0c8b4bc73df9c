//! Durability, order, and what happens when somebody pulls the plug.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy::primitives::{Address, U256};
use plumbline::chain::embedded::{VerifyError, verify};
use plumbline::chain::{ChainClient, ChainError, Embedded, Options};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::stand::{On, Stand};
use crate::world::{CHAIN_ID, TestClock, World, genesis, key, tick};

#[tokio::test]
async fn comes_back_at_the_same_block_and_replays_to_the_same_root() {
    let w = World::new(On::Embedded, 5).await;
    let id = w.running(&w.ask()).await;
    let posted = w.submission(id, &[1_600; 5], &[7; 5]).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let before = w.payer.latest_block().await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap();
    let World { chain, clock, .. } = {
        let mut w = w;
        w.challengers.clear();
        w
    };
    let Stand::Embedded { chain, dir } = chain else {
        panic!("another engine");
    };
    let deployment = chain.deployment();
    close(chain);

    let chain = Embedded::open(dir.path(), &genesis(), clock.options()).unwrap();
    assert_eq!(chain.deployment(), deployment);
    let client = ChainClient::in_process(&chain, key(2));
    assert_eq!(client.latest_block().await.unwrap(), before);
    assert_eq!(client.result_of(id).await.unwrap(), outcome);
    tick(&client).await;
    let after = client.latest_block().await.unwrap();
    assert_eq!(after.number, before.number + 1);
    drop(client);
    close(chain);

    let replayed = verify(dir.path()).unwrap();
    assert_eq!(replayed.height, after.number);
    assert_eq!(replayed.root, after.state_root);
    assert_eq!(replayed.hash, after.hash);
    assert_eq!(replayed.deployment, deployment);
}

/// Drops the last handle, which ends the thread and closes the file.
fn close(chain: Arc<Embedded>) {
    assert!(Arc::into_inner(chain).is_some(), "somebody still holds it");
}

#[tokio::test]
async fn another_genesis_another_process_and_no_chain_are_named() {
    let dir = TempDir::new().unwrap();
    let options = || TestClock::new().options();
    let chain = Embedded::open(dir.path(), &genesis(), options()).unwrap();
    let told = Embedded::open(dir.path(), &genesis(), options())
        .unwrap_err()
        .to_string();
    assert!(
        told.contains("chain.redb: in use by another process"),
        "{told}"
    );
    close(chain);

    let mut other = genesis();
    other.chain_id = CHAIN_ID + 1;
    assert_differs(dir.path(), &other, "chain id");
    let mut other = genesis();
    other.deployer = key(99);
    assert_differs(dir.path(), &other, "deployer");
    let mut other = genesis();
    other.parameters.dispute_window_s += 1;
    assert_differs(dir.path(), &other, "chain variables");
    close(Embedded::open(dir.path(), &genesis(), options()).unwrap());

    let empty = TempDir::new().unwrap();
    assert!(matches!(verify(empty.path()), Err(VerifyError::Chain(_))));
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let told = Embedded::open(&file, &genesis(), options())
        .unwrap_err()
        .to_string();
    assert!(told.contains("file"), "{told}");
}

fn assert_differs(dir: &Path, other: &plumbline::chain::Genesis, expected: &str) {
    match Embedded::open(dir, other, TestClock::new().options()) {
        Err(ChainError::GenesisDiffers { what, .. }) => assert_eq!(what, expected),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn blocks_come_at_an_interval_and_time_never_runs_back() {
    let dir = TempDir::new().unwrap();
    let clock = TestClock::new();
    let options = Options {
        block_interval: Duration::from_millis(5),
        ..clock.options()
    };
    let chain = Embedded::open(dir.path(), &genesis(), options).unwrap();
    let client = ChainClient::in_process(&chain, key(2));
    let first = client.latest_block().await.unwrap();
    clock.pass(7);
    let later = until(&client, |b| b.timestamp == first.timestamp + 7).await;
    clock.back(100);
    let last = until(&client, |b| b.number > later.number + 2).await;
    assert_eq!(last.timestamp, later.timestamp);
    drop(client);
    close(chain);
    verify(dir.path()).unwrap();
}

async fn until(
    client: &ChainClient,
    reached: impl Fn(&plumbline::chain::client::BlockInfo) -> bool,
) -> plumbline::chain::client::BlockInfo {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let block = client.latest_block().await.unwrap();
        if reached(&block) {
            return block;
        }
        assert!(Instant::now() < deadline, "still at {block:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn concurrent_calls_of_one_client_and_of_many_all_get_in() {
    let dir = TempDir::new().unwrap();
    let chain = Embedded::open(dir.path(), &genesis(), TestClock::new().options()).unwrap();
    let one = Arc::new(ChainClient::in_process(&chain, key(2)));
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let one = Arc::clone(&one);
        calls.spawn(async move { tick(&one).await.hash });
    }
    let mut hashes = calls.join_all().await;
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 20);
    let to = Address::repeat_byte(0x42);
    let mut calls = JoinSet::new();
    for number in 30..50 {
        let client = ChainClient::in_process(&chain, key(number));
        calls.spawn(async move { client.mint_lab(to, U256::from(1)).await });
    }
    for sent in calls.join_all().await {
        sent.unwrap();
    }
    assert_eq!(one.balance(to).await.unwrap(), U256::from(20));
}

const CHILD: &str = "PLUMBLINE_TEST_CHAIN_DIR";

/// Not a test by itself: the process that [`survives_kill_9`] kills.
#[test]
fn child_that_writes_until_killed() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let options = Options::new(Duration::from_millis(2));
        let chain = Embedded::open(Path::new(&dir), &genesis(), options).unwrap();
        let mut writers = JoinSet::new();
        for number in 30..34 {
            let client = ChainClient::in_process(&chain, key(number));
            writers.spawn(async move {
                loop {
                    println!("acknowledged {}", tick(&client).await.hash);
                }
            });
        }
        writers.join_next().await;
    });
}

#[tokio::test]
async fn survives_kill_9() {
    let dir = TempDir::new().unwrap();
    let mut total = 0;
    // Several times, so that the instant differs and each reopening follows a crash.
    for round in 1..=4 {
        let acknowledged = run_and_kill(dir.path(), 10 * round + 3);
        let options = TestClock::new().options();
        let chain = Embedded::open(dir.path(), &genesis(), options).unwrap();
        for hash in &acknowledged {
            let request = json!({ "jsonrpc": "2.0", "id": 1,
                "method": "eth_getTransactionReceipt", "params": [hash] });
            let answer = chain.rpc(request).await;
            assert_eq!(answer["result"]["status"], "0x1", "{hash}: {answer}");
        }
        let client = ChainClient::in_process(&chain, key(2));
        assert!(client.conserved().await.unwrap());
        tick(&client).await;
        drop(client);
        close(chain);
        total += acknowledged.len() as u64;
        let replayed = verify(dir.path()).unwrap();
        assert!(replayed.transactions >= total);
    }
}

/// Runs the child until it has said `enough` hashes, kills it with SIGKILL, and gives all it said.
fn run_and_kill(dir: &Path, enough: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "engine::child_that_writes_until_killed",
            "--nocapture",
        ])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut hashes = Vec::new();
    for line in lines {
        if let Some(hash) = line.unwrap().strip_prefix("acknowledged ") {
            hashes.push(hash.to_owned());
        }
        if hashes.len() == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    // The last line may be torn by the kill.
    hashes.retain(|hash| hash.len() == 66);
    assert!(
        hashes.len() >= enough,
        "the child said {} hashes",
        hashes.len()
    );
    hashes
}
