//! Several nodes of one chain: one dies, hangs or lies. The chain behind them is real; the liar stands in
//! front of it and changes what passes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::U256;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use plumbline::chain::client::{ClientError, Patience};
use plumbline::chain::rpc::Options;
use plumbline::chain::{ChainClient, Endpoints, EndpointsError, Finality};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::stand::{self, On};
use crate::world::{CHAIN_ID, World, key};

/// What a node does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vice {
    None,
    /// Takes the request and never answers.
    Hangs,
    /// Its upstream is gone.
    Fails,
    /// Says it is chain 9.
    OtherChain,
    /// Its blocks have other hashes.
    OtherBlocks,
    /// Stopped at this block.
    Stopped(u64),
    /// Swallows transactions and says they are in a block that is there.
    FalseReceipts,
}

/// A node in front of an anvil.
struct Node {
    url: String,
    vice: Arc<Mutex<Vice>>,
    server: JoinHandle<()>,
}

impl Node {
    async fn new(anvil: u16, vice: Vice) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let vice = Arc::new(Mutex::new(vice));
        let app = Router::new()
            .route("/", post(serve))
            .with_state((anvil, Arc::clone(&vice)));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, vice, server }
    }

    fn turns(&self, vice: Vice) {
        *self.vice.lock().unwrap() = vice;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(
    State((anvil, vice)): State<(u16, Arc<Mutex<Vice>>)>,
    Json(request): Json<Value>,
) -> Response {
    let vice = *vice.lock().unwrap();
    match vice {
        Vice::Hangs => std::future::pending().await,
        Vice::Fails => return StatusCode::BAD_GATEWAY.into_response(),
        _ => {}
    }
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    let params = request["params"].clone();
    let id = request["id"].clone();
    let answer = tokio::task::spawn_blocking(move || {
        let own = |result: Value| json!({ "jsonrpc": "2.0", "id": id, "result": result });
        match (vice, method.as_str()) {
            (Vice::OtherChain, "eth_chainId") => own(json!("0x9")),
            (Vice::Stopped(at), "eth_blockNumber") => own(json!(format!("{at:#x}"))),
            (Vice::OtherBlocks, "eth_getBlockByNumber") => {
                let mut answer = stand::post(anvil, &request);
                answer["result"]["hash"] = json!(format!("0x{}", "ab".repeat(32)));
                answer
            }
            (Vice::FalseReceipts, "eth_sendRawTransaction") => {
                let raw = params[0].as_str().unwrap();
                let raw = alloy::hex::decode(raw).unwrap();
                own(json!(alloy::primitives::keccak256(raw)))
            }
            (Vice::FalseReceipts, "eth_getTransactionReceipt") => {
                own(false_receipt(anvil, &params))
            }
            _ => stand::post(anvil, &request),
        }
    });
    Json(answer.await.unwrap()).into_response()
}

/// A receipt of success, in the newest block.
fn false_receipt(anvil: u16, params: &Value) -> Value {
    let newest = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x1", false] });
    let block = stand::post(anvil, &newest)["result"].clone();
    let zero = format!("0x{}", "00".repeat(20));
    json!({
        "transactionHash": params[0], "transactionIndex": "0x0", "blockHash": block["hash"],
        "blockNumber": block["number"], "from": zero, "to": zero, "cumulativeGasUsed": "0x1",
        "gasUsed": "0x1", "effectiveGasPrice": "0x0", "contractAddress": null, "logs": [],
        "logsBloom": format!("0x{}", "00".repeat(256)), "type": "0x2", "status": "0x1",
    })
}

/// Short enough that a hanging node costs a test little.
fn options() -> Options {
    Options {
        attempt: Duration::from_millis(500),
        rest: Duration::from_secs(60),
        ..Options::new(Finality::IMMEDIATE)
    }
}

async fn nodes(w: &World, vices: &[Vice]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for vice in vices {
        nodes.push(Node::new(w.chain.anvil().port(), *vice).await);
    }
    nodes
}

async fn connect(nodes: &[Node]) -> Result<Arc<Endpoints>, EndpointsError> {
    connect_with(nodes, options()).await
}

async fn connect_with(nodes: &[Node], options: Options) -> Result<Arc<Endpoints>, EndpointsError> {
    let urls: Vec<String> = nodes.iter().map(|n| n.url.clone()).collect();
    Endpoints::connect(&urls, CHAIN_ID, options).await
}

async fn client(w: &World, endpoints: &Arc<Endpoints>) -> ChainClient {
    let client = ChainClient::connect(endpoints, key(70), w.chain.deployment()).await;
    client.unwrap().with_patience(Patience {
        settle: Duration::from_secs(8),
        ..Patience::until(Finality::IMMEDIATE)
    })
}

/// Mints, and looks on the chain itself whether that was done `times` times.
async fn mints(w: &World, client: &ChainClient, times: u64) {
    client
        .mint_lab(client.address(), U256::from(1))
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let balance = w.payer.balance(client.address()).await.unwrap();
    assert_eq!(balance, U256::from(times));
}

#[tokio::test]
async fn one_that_hangs_fails_or_dies_is_passed_over() {
    let w = World::new(On::Anvil, 0).await;
    let all = nodes(&w, &[Vice::None, Vice::None]).await;
    let endpoints = connect(&all).await.unwrap();
    let client = client(&w, &endpoints).await;
    mints(&w, &client, 1).await;
    for (vice, times) in [(Vice::Hangs, 2), (Vice::Fails, 3)] {
        all[0].turns(vice);
        mints(&w, &client, times).await;
    }
    all[0].server.abort();
    mints(&w, &client, 4).await;
    assert!(endpoints.trouble().is_none() && endpoints.accused().is_empty());
    // Nobody is left: each is named with what it did.
    all[1].turns(Vice::Hangs);
    let told = client.latest_block().await.unwrap_err();
    assert!(matches!(told, ClientError::Unreachable { .. }), "{told}");
    let words = told.to_string();
    assert!(
        words.contains(&format!("{}: no answer within 500 ms", all[1].url)),
        "{words}"
    );
    assert!(words.contains(&all[0].url), "{words}");
    // And it comes back by itself.
    all[1].turns(Vice::None);
    mints(&w, &client, 5).await;
}

#[tokio::test]
async fn one_that_is_down_at_the_start_is_taken_when_it_is_up() {
    let w = World::new(On::Anvil, 0).await;
    let all = nodes(&w, &[Vice::Hangs, Vice::None]).await;
    let endpoints = connect(&all).await.unwrap();
    let client = client(&w, &endpoints).await;
    mints(&w, &client, 1).await;
    all[0].turns(Vice::None);
    all[1].turns(Vice::Fails);
    mints(&w, &client, 2).await;
}

#[tokio::test]
async fn one_of_another_chain_is_never_asked() {
    let w = World::new(On::Anvil, 0).await;
    let all = nodes(&w, &[Vice::OtherChain, Vice::None]).await;
    let endpoints = connect(&all).await.unwrap();
    let told = (all[0].url.clone(), "is chain 9, not chain 7331".to_owned());
    assert_eq!(endpoints.accused(), [told]);
    mints(&w, &client(&w, &endpoints).await, 1).await;
    let words = connect(&all[..1]).await.unwrap_err().to_string();
    assert!(words.contains("is chain 9, not chain 7331"), "{words}");
    // Another node behind the same address, after a failure.
    let one = nodes(&w, &[Vice::None]).await;
    let endpoints = connect(&one).await.unwrap();
    let client = client(&w, &endpoints).await;
    one[0].turns(Vice::Fails);
    client.latest_block().await.unwrap_err();
    one[0].turns(Vice::OtherChain);
    let words = client.latest_block().await.unwrap_err().to_string();
    assert!(words.contains("is chain 9, not chain 7331"), "{words}");
}

#[tokio::test]
async fn of_three_the_one_with_other_blocks_is_named_and_acquitted_when_it_agrees() {
    let w = World::new(On::Anvil, 0).await;
    let all = nodes(&w, &[Vice::OtherBlocks, Vice::None, Vice::None]).await;
    let endpoints = connect(&all).await.unwrap();
    let accused = endpoints.accused();
    assert_eq!(accused.len(), 1, "{accused:?}");
    assert_eq!(accused[0].0, all[0].url);
    assert!(accused[0].1.contains("where 2 of 3 have 0x"), "{accused:?}");
    assert!(endpoints.trouble().is_none());
    mints(&w, &client(&w, &endpoints).await, 1).await;
    all[0].turns(Vice::None);
    endpoints.compare().await.unwrap();
    assert!(endpoints.accused().is_empty());
}

#[tokio::test]
async fn two_that_differ_stop_everything_and_both_are_named() {
    let w = World::new(On::Anvil, 0).await;
    let all = nodes(&w, &[Vice::None, Vice::OtherBlocks]).await;
    let words = connect(&all).await.unwrap_err().to_string();
    assert!(
        words.contains(&all[0].url) && words.contains(&all[1].url),
        "{words}"
    );
    all[1].turns(Vice::None);
    let endpoints = connect(&all).await.unwrap();
    let client = client(&w, &endpoints).await;
    mints(&w, &client, 1).await;
    all[1].turns(Vice::OtherBlocks);
    endpoints.compare().await.unwrap_err();
    let told = client.mint_lab(client.address(), U256::from(1)).await;
    let words = told.unwrap_err().to_string();
    assert!(words.contains("contradict each other at block"), "{words}");
    assert!(endpoints.trouble().is_some());
    all[1].turns(Vice::None);
    endpoints.compare().await.unwrap();
    mints(&w, &client, 2).await;
}

#[tokio::test]
async fn one_that_stopped_long_ago_is_left_alone_and_one_just_late_is_not() {
    let w = World::new(On::Anvil, 0).await;
    let height = w.chain.anvil().height();
    w.chain.anvil().mine(32);
    let all = nodes(&w, &[Vice::Stopped(height), Vice::None, Vice::None]).await;
    let endpoints = connect(&all).await.unwrap();
    assert!(endpoints.accused().is_empty(), "{:?}", endpoints.accused());
    w.chain.anvil().mine(1);
    for among in [&all[..], &all[..2]] {
        let endpoints = connect(among).await.unwrap();
        let told = (all[0].url.clone(), "is 33 settled blocks behind".to_owned());
        assert_eq!(endpoints.accused(), [told]);
    }
}

#[tokio::test]
async fn false_receipts_are_outvoted_by_two_and_stop_where_there_is_one() {
    let w = World::new(On::Anvil, 0).await;
    let all = nodes(&w, &[Vice::FalseReceipts, Vice::None, Vice::None]).await;
    // Nobody hangs here: a machine that is busy for a moment must not cost an honest node its vote.
    let patient = || Options {
        attempt: Duration::from_secs(10),
        ..options()
    };
    let endpoints = connect_with(&all, patient()).await.unwrap();
    let liar = client(&w, &endpoints).await;
    mints(&w, &liar, 1).await;
    let accused = endpoints.accused();
    assert_eq!(accused.len(), 1, "{accused:?}");
    assert_eq!(accused[0].0, all[0].url);
    // Agreeing blocks do not make up for it.
    endpoints.compare().await.unwrap();
    assert_eq!(endpoints.accused().len(), 1);

    let endpoints = connect_with(&all[..2], patient()).await.unwrap();
    let torn = client(&w, &endpoints).await;
    let told = torn.mint_lab(torn.address(), U256::from(1)).await;
    let words = told.unwrap_err().to_string();
    assert!(
        words.contains("contradict each other at transaction"),
        "{words}"
    );
    assert!(
        words.contains(&all[0].url) && words.contains(&all[1].url),
        "{words}"
    );
}
