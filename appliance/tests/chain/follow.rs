//! A follower has the same chain, resumes, and convicts a sequencer that shows two.

use std::path::Path;
use std::sync::Arc;

use alloy::primitives::{Address, U256};
use plumbline::chain::embedded::{
    Equivocation, FollowError, Replayed, Until, Upstream, follow, verify,
};
use plumbline::chain::{ChainClient, Embedded};
use tempfile::TempDir;

use crate::rpc::serve;
use crate::world::{TestClock, genesis, key, tick};

fn open(dir: &Path) -> Arc<Embedded> {
    Embedded::open(dir, &genesis(), TestClock::new().options()).unwrap()
}

async fn ticks(chain: &Arc<Embedded>, blocks: usize) {
    let client = ChainClient::in_process(chain, key(2));
    for _ in 0..blocks {
        tick(&client).await;
    }
}

async fn to(chain: &Arc<Embedded>, dir: &Path, until: Until) -> Result<Replayed, FollowError> {
    follow(
        &Upstream::Here(Arc::clone(chain)),
        dir,
        until,
        &mut |_, _| {},
    )
    .await
}

/// The same file elsewhere: what a sequencer has that wants two histories.
fn fork(from: &Path) -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::copy(from.join("chain.redb"), dir.path().join("chain.redb")).unwrap();
    dir
}

#[tokio::test]
async fn a_follower_has_the_same_chain_and_resumes() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let chain = open(dir.path());
    ticks(&chain, 5).await;
    let url = serve(Arc::clone(&chain)).await;
    let upstream = Upstream::http(&url).unwrap();
    let some = Until::Height(3);
    let mut seen = Vec::new();
    let watch = &mut |done, of| seen.push((done, of));
    let found = follow(&upstream, copy.path(), some, watch).await.unwrap();
    assert_eq!((found.height, seen.last()), (3, Some(&(3, 3))));
    let found = to(&chain, copy.path(), Until::Latest).await.unwrap();
    assert_eq!(found.height, 6);
    // More blocks than one answer holds, and than one write transaction.
    ticks(&chain, 300).await;
    let found = to(&chain, copy.path(), Until::Latest).await.unwrap();
    assert_eq!(found, verify(copy.path()).unwrap());
    // The sequencer can go on from the copy.
    let again = open(copy.path());
    ticks(&again, 1).await;
    assert!(Arc::into_inner(again).is_some());
    assert_eq!(verify(copy.path()).unwrap().height, found.height + 1);
}

#[tokio::test]
async fn a_sequencer_whose_file_is_forked_is_caught_by_its_own_signatures() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let chain = open(dir.path());
    ticks(&chain, 3).await;
    assert!(Arc::into_inner(chain).is_some());
    let other = fork(dir.path());
    let (chain, forked) = (open(dir.path()), open(other.path()));

    // As long as both say the same, there is nothing to say.
    to(&chain, copy.path(), Until::Latest).await.unwrap();
    to(&forked, copy.path(), Until::Latest).await.unwrap();
    ticks(&chain, 2).await;
    let kept = to(&chain, copy.path(), Until::Latest).await.unwrap();
    let client = ChainClient::in_process(&forked, key(3));
    let elsewhere = Address::repeat_byte(7);
    // Shorter than what was shown, and not another block yet: it lost some.
    let behind = to(&forked, copy.path(), Until::Latest).await.unwrap_err();
    assert!(
        matches!(behind, FollowError::Behind { theirs: 4, ours: 6 }),
        "{behind}"
    );
    for _ in 0..3 {
        client.mint_lab(elsewhere, U256::from(9)).await.unwrap();
        match to(&forked, copy.path(), Until::Latest).await.unwrap_err() {
            FollowError::Equivocated {
                number,
                signer,
                evidence,
                ..
            } => {
                let head = client.latest_block().await.unwrap().number;
                assert_eq!((number, signer), (head.min(6), key(1).address()));
                let bytes = std::fs::read(evidence).unwrap();
                let convicted = Equivocation::from_bytes(&bytes).unwrap().verify().unwrap();
                assert_eq!((convicted.signer, convicted.number), (signer, number));
            }
            other => panic!("{other}"),
        }
    }
    // The copy is as it was.
    assert_eq!(verify(copy.path()).unwrap(), kept);
}

#[tokio::test]
async fn another_chain_and_nobody_are_named() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let chain = open(dir.path());
    to(&chain, copy.path(), Until::Latest).await.unwrap();
    let later = TestClock::new();
    later.pass(1);
    let other = TempDir::new().unwrap();
    let other = Embedded::open(other.path(), &genesis(), later.options()).unwrap();
    let told = to(&other, copy.path(), Until::Latest).await.unwrap_err();
    assert!(
        told.to_string().contains("a copy of another chain"),
        "{told}"
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let nobody = Upstream::http(&url).unwrap();
    let told = follow(&nobody, copy.path(), Until::Latest, &mut |_, _| {}).await;
    let told = told.unwrap_err().to_string();
    assert!(
        told.contains(&url) && told.contains("is the coordinator running"),
        "{told}"
    );
}
