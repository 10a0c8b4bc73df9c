//! Nodes as they are met: busy, behind web servers that answer for them, without old states, with limits of
//! their own. An anvil stands behind each; the fault is in what passes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::{Address, U256};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{StatusCode, header};
use plumbline::archive::{ARCHIVE_MAX, Archive};
use plumbline::chain::rpc::{Chosen, DeployError, Options, deploy};
use plumbline::chain::{ChainClient, Endpoints, Engine, Finality};
use plumbline::config::{Role, Roles};
use plumbline::journal::Journal;
use plumbline::metrics::Metrics;
use plumbline::role::coordinator::{self, Hub};
use plumbline::store::Store;
use plumbline_trust::NetworkKey;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::stand::{self, Anvil, On};
use crate::world::{CHAIN_ID, World, key, parameters, tick};

/// Far beyond what any of these conditions takes: reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// This status, with a web server's page.
    Page(StatusCode),
    /// Half of the answer.
    Torn,
    /// An error of JSON-RPC instead of any answer.
    Error(i64, &'static str),
    /// This error for everything but transactions, once one has been taken, for so many requests.
    Afterwards(i64, &'static str, u32),
    /// A transaction is taken, and this is said of it.
    Taken(i64, &'static str),
    /// A transaction is not taken the first time, and this is said of it.
    Underpriced(&'static str),
    /// Logs of so many blocks at most.
    Logs(u64),
    /// The EVM's block number is another.
    Numbered,
    /// A call is given so little gas.
    Mean,
}

#[derive(Debug)]
struct Inner {
    fault: Fault,
    seen: BTreeMap<String, u32>,
    sent: u32,
}

/// A node in front of an anvil.
struct Node {
    url: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

impl Node {
    async fn new(anvil: &Anvil, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new(Inner {
            fault,
            seen: BTreeMap::new(),
            sent: 0,
        }));
        let app = Router::new()
            .route("/", post(serve))
            .with_state((anvil.port(), Arc::clone(&inner)));
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, inner, server }
    }

    fn turns(&self, fault: Fault) {
        self.inner.lock().unwrap().fault = fault;
    }

    /// How often each method was asked.
    fn seen(&self) -> BTreeMap<String, u32> {
        self.inner.lock().unwrap().seen.clone()
    }

    fn count(&self, method: &str) -> u32 {
        self.seen().get(method).copied().unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(State((anvil, inner)): State<(u16, Arc<Mutex<Inner>>)>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let method = request["method"].as_str().unwrap().to_owned();
    let error = |code: i64, message: &str| {
        let error = json!({ "code": code, "message": message });
        json!({ "jsonrpc": "2.0", "id": request["id"], "error": error })
    };
    let sends = method == "eth_sendRawTransaction";
    let fault = {
        let mut inner = inner.lock().unwrap();
        *inner.seen.entry(method.clone()).or_default() += 1;
        let fault = inner.fault;
        let afterwards =
            matches!(fault, Fault::Afterwards(.., left) if left > 0) && inner.sent > 0 && !sends;
        match fault {
            Fault::Afterwards(code, words, left) if afterwards => {
                inner.fault = Fault::Afterwards(code, words, left - 1);
            }
            Fault::Underpriced(_) if sends => inner.fault = Fault::None,
            _ => {}
        }
        inner.sent += u32::from(sends);
        match fault {
            Fault::Afterwards(code, words, _) if afterwards => Fault::Error(code, words),
            Fault::Afterwards(..) => Fault::None,
            other => other,
        }
    };
    let wide = |most: u64| {
        let number = |at: &str| {
            let text = request["params"][0][at].as_str().unwrap();
            u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
        };
        number("toBlock") - number("fromBlock") >= most
    };
    let own = match fault {
        Fault::Page(status) => {
            let page = "<!DOCTYPE html><html><body>please wait</body></html>";
            return (status, [(header::CONTENT_TYPE, "text/html")], page).into_response();
        }
        Fault::Error(code, words) => Some(error(code, words)),
        Fault::Underpriced(words) if sends => Some(error(-32_000, words)),
        Fault::Logs(most) if method == "eth_getLogs" && wide(most) => {
            Some(error(-32_602, "query exceeds max block range"))
        }
        Fault::Numbered
            if method == "eth_call" && request["params"][0]["data"] == "0x435f5260205ff3" =>
        {
            Some(
                json!({ "jsonrpc": "2.0", "id": request["id"], "result": U256::from(22_000_000).to_be_bytes::<32>().map(|b| format!("{b:02x}")).concat() }),
            )
        }
        Fault::Mean
            if method == "eth_call" && request["params"][0]["data"] == "0x5a5f5260205ff3" =>
        {
            Some(
                json!({ "jsonrpc": "2.0", "id": request["id"], "result": U256::from(10_000_000).to_be_bytes::<32>().map(|b| format!("{b:02x}")).concat() }),
            )
        }
        _ => None,
    };
    if let Some(mut own) = own {
        if let Some(bare) = own["result"].as_str() {
            own["result"] = json!(format!("0x{bare}"));
        }
        return axum::Json(own).into_response();
    }
    let asked = request.clone();
    let answer = tokio::task::spawn_blocking(move || stand::post(anvil, &asked));
    let answer = answer.await.unwrap();
    match fault {
        Fault::Taken(code, words) if sends => axum::Json(error(code, words)).into_response(),
        Fault::Torn => {
            let text = answer.to_string();
            let half = text[..text.len() / 2].to_owned();
            ([(header::CONTENT_TYPE, "application/json")], half).into_response()
        }
        _ => axum::Json(answer).into_response(),
    }
}

/// Waits until `look` gives something.
async fn awaited<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

async fn behind(nodes: &[&Node]) -> Arc<Endpoints> {
    let urls: Vec<String> = nodes.iter().map(|n| n.url.clone()).collect();
    let options = Options::new(Finality::IMMEDIATE);
    Endpoints::connect(&urls, CHAIN_ID, options).await.unwrap()
}

async fn client(w: &World, nodes: &[&Node], number: u8) -> ChainClient {
    let deployment = w.chain.deployment();
    let endpoints = behind(nodes).await;
    ChainClient::connect(&endpoints, key(number), deployment)
        .await
        .unwrap()
}

/// Transactions of `account` in blocks.
fn sent_by(anvil: &Anvil, account: Address) -> u64 {
    let told = anvil.ask("eth_getTransactionCount", &json!([account, "latest"]));
    told.as_str().unwrap().parse::<U256>().unwrap().to()
}

const BUSY: [Fault; 9] = [
    Fault::Page(StatusCode::TOO_MANY_REQUESTS),
    Fault::Page(StatusCode::SERVICE_UNAVAILABLE),
    Fault::Page(StatusCode::OK),
    Fault::Page(StatusCode::MOVED_PERMANENTLY),
    Fault::Torn,
    Fault::Error(
        -32_005,
        "daily request count exceeded, request rate limited",
    ),
    Fault::Error(429, "too many requests"),
    Fault::Error(
        -32_000,
        "missing trie node 12ab (path ) state is not available",
    ),
    Fault::Error(-32_000, "header not found"),
];

#[tokio::test]
async fn a_busy_node_is_passed_over_and_the_next_does_all() {
    let w = World::new(On::Anvil, 0).await;
    let anvil = w.chain.anvil();
    let (bad, good) = (
        Node::new(anvil, Fault::None).await,
        Node::new(anvil, Fault::None).await,
    );
    let client = client(&w, &[&bad, &good], 5).await;
    for fault in BUSY {
        bad.turns(fault);
        let before = sent_by(anvil, client.address());
        tick(&client).await;
        assert_eq!(sent_by(anvil, client.address()), before + 1, "{fault:?}");
        assert!(client.conserved().await.unwrap(), "{fault:?}");
    }
}

#[tokio::test]
async fn no_error_of_another_question_ends_a_flight_that_is_out() {
    let w = World::new(On::Anvil, 0).await;
    let anvil = w.chain.anvil();
    let node = Node::new(anvil, Fault::None).await;
    let client = client(&w, &[&node], 5).await;
    for (code, words) in [
        (-32_005, "request rate limited"),
        (-32_000, "missing trie node 12ab"),
        (-32_000, "header not found"),
        (-32_603, "internal error: unexpected"),
        (-32_601, "the method is not available on this plan"),
    ] {
        let before = sent_by(anvil, client.address());
        node.inner.lock().unwrap().sent = 0;
        node.turns(Fault::Afterwards(code, words, 4));
        tick(&client).await;
        assert_eq!(sent_by(anvil, client.address()), before + 1, "{words}");
        let used_up = matches!(node.inner.lock().unwrap().fault, Fault::Afterwards(.., 0));
        assert!(used_up, "{words}: the flight never met it");
    }
}

#[tokio::test]
async fn what_a_pool_says_of_a_transaction_has_its_right_reaction() {
    let w = World::new(On::Anvil, 0).await;
    let anvil = w.chain.anvil();
    let node = Node::new(anvil, Fault::None).await;
    let client = client(&w, &[&node], 5).await;
    // A raised fee is one wei here, and somebody has to have it.
    let coin = json!([client.address(), "0xde0b6b3a7640000"]);
    anvil.ask("anvil_setBalance", &coin);
    for fault in [
        Fault::Taken(-32_000, "already known"),
        Fault::Taken(-32_000, "nonce too low: next nonce 1, tx nonce 0"),
        Fault::Taken(-32_010, "AlreadyKnown: known transaction"),
        Fault::Underpriced("replacement transaction underpriced"),
        Fault::Underpriced("transaction underpriced"),
    ] {
        let before = sent_by(anvil, client.address());
        node.turns(fault);
        tick(&client).await;
        assert_eq!(sent_by(anvil, client.address()), before + 1, "{fault:?}");
    }
}

#[tokio::test]
async fn log_ranges_shrink_until_they_fit() {
    let w = World::new(On::Anvil, 5).await;
    let anvil = w.chain.anvil();
    anvil.mine(1_500);
    let (id, _) = w.payer.request(&w.ask()).await.unwrap();
    let node = Node::new(anvil, Fault::Logs(100)).await;
    let client = client(&w, &[&node], 5).await;
    let head = anvil.height();
    assert_eq!(client.requests_between(0, head).await.unwrap(), [id]);
    let first = node.count("eth_getLogs");
    assert_eq!(client.requests_between(0, head).await.unwrap(), [id]);
    // Pages of half the limit, and a refusal for each: what fits is remembered.
    let most = u32::try_from(2 * head.div_ceil(50)).unwrap();
    assert!(node.count("eth_getLogs") - first <= most);
    // Refused however few: told, and not asked for ever.
    node.turns(Fault::Logs(0));
    let told = client
        .requests_between(0, head)
        .await
        .unwrap_err()
        .to_string();
    assert!(told.contains("max block range"), "{told}");
}

/// A coordinator without HTTP, behind `node`.
async fn hub(w: &World, node: &Node, dir: &TempDir) -> Arc<Hub> {
    let endpoints = behind(&[node]).await;
    let deployment = w.chain.deployment();
    let client = ChainClient::connect(&endpoints, key(4), deployment)
        .await
        .unwrap();
    let me = plumbline_trust::Address(client.address().into_array());
    let mut roles = Roles::default();
    roles.insert(Role::Coordinator);
    Arc::new(Hub::new(
        Arc::new(NetworkKey::from_secret(&[4; 32])),
        Arc::new(client),
        Engine::Rpc(endpoints),
        (
            Store::open(dir.path()).unwrap(),
            Journal::open(dir.path(), &me).unwrap(),
        ),
        Archive::open(dir.path().join("evidence"), ARCHIVE_MAX).unwrap(),
        dir.path(),
        Arc::new(Metrics::new(roles, "test").unwrap()),
    ))
}

#[tokio::test]
async fn who_is_refused_every_log_says_that_it_is_deaf_and_hears_again() {
    let w = World::new(On::Anvil, 0).await;
    let node = Node::new(w.chain.anvil(), Fault::None).await;
    let dir = TempDir::new().unwrap();
    let hub = hub(&w, &node, &dir).await;
    assert_eq!(hub.trouble(), None);
    node.turns(Fault::Logs(0));
    let watch = tokio::spawn(coordinator::watch(Arc::clone(&hub)));
    let told = awaited("deaf", || hub.trouble()).await;
    assert!(told.contains("requests cannot be read"), "{told}");
    node.turns(Fault::None);
    awaited("hears", || hub.trouble().is_none().then_some(())).await;
    watch.abort();
}

/// However many results wait for their window to close: nothing is asked for them until then.
#[tokio::test]
async fn results_in_their_window_cost_no_call_until_it_closes() {
    const RESULTS: u32 = 4;
    let w = World::new(On::Anvil, 5).await;
    for _ in 0..RESULTS {
        w.reported().await;
    }
    let node = Node::new(w.chain.anvil(), Fault::None).await;
    let dir = TempDir::new().unwrap();
    let watch = tokio::spawn(coordinator::watch(hub(&w, &node, &dir).await));
    awaited("each was tried once", || {
        (node.count("eth_estimateGas") >= RESULTS).then_some(())
    })
    .await;
    let looks = || node.count("eth_blockNumber");
    let from = looks();
    awaited("a look later", || (looks() > from).then_some(())).await;
    let before = node.seen();
    let from = looks();
    awaited("three looks later", || (looks() >= from + 3).then_some(())).await;
    let mut after = node.seen();
    // The look itself: one call every three seconds.
    after.insert("eth_blockNumber".to_owned(), from);
    assert_eq!(after, before);
    assert_eq!(node.count("eth_estimateGas"), RESULTS);
    watch.abort();
}

async fn told(node: &Node, token: Option<Address>) -> String {
    let chosen = Chosen {
        parameters: parameters(),
        token,
        finality: Finality::IMMEDIATE,
    };
    match deploy(&node.url, key(9), &chosen, &|_| ()).await {
        Err(DeployError::Unfit(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_chain_or_a_token_that_cannot_work_is_refused_before_anything_is_sent() {
    let w = World::new(On::Anvil, 0).await;
    let anvil = w.chain.anvil();
    let node = Node::new(anvil, Fault::Numbered).await;
    let why = told(&node, None).await;
    assert!(
        why.contains("Arbitrum") && why.contains("22000000"),
        "{why}"
    );
    node.turns(Fault::Mean);
    let why = told(&node, None).await;
    assert!(
        why.contains("EIP-7825") && why.contains("10000000"),
        "{why}"
    );
    node.turns(Fault::None);
    let why = told(&node, Some(Address::repeat_byte(9))).await;
    assert!(why.contains("no ERC-20"), "{why}");
    let why = told(&node, Some(w.chain.deployment().vault)).await;
    assert!(why.contains("no ERC-20"), "{why}");
    assert_eq!(sent_by(anvil, key(9).address()), 0);

    // A token that is there already serves, and nothing is deployed in its place.
    let chosen = Chosen {
        parameters: parameters(),
        token: Some(w.chain.deployment().token),
        finality: Finality::IMMEDIATE,
    };
    let holder = w.chain.client(key(9)).await;
    holder
        .mint_lab(holder.address(), U256::from(1_000))
        .await
        .unwrap();
    let done = deploy(&node.url, key(9), &chosen, &|_| ()).await.unwrap();
    assert_eq!(done.file.deployment.token, w.chain.deployment().token);
    assert!(
        done.steps
            .iter()
            .all(|(what, ..)| !what.contains("LabToken"))
    );
    assert!(done.file.block <= done.block && done.file.block > 0);
    assert_eq!(
        holder.balance(holder.address()).await.unwrap(),
        U256::from(1_000)
    );
}
