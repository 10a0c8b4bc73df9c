//! What was pinned, and who shows something else: nothing is signed for it, by a payer or a node.
//!
//! ```text
//!   payer, node ──► a coordinator's API and /rpc, each request kept ──► a real chain: the pinned one, or another
//! ```

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::U256;
use axum::Json;
use axum::extract::State;
use axum::routing::{get, post};
use plumbline::chain::client::ClientError;
use plumbline::chain::{DeploymentFile, Embedded, Finality, Genesis};
use plumbline::control::client::Api;
use plumbline::journal::Journal;
use plumbline::keyfile::Keys;
use plumbline::role::node::Node;
use plumbline::role::payer::{self, Order};
use plumbline::role::view::{Through, View, ViewError, shown};
use plumbline::ui::Silent;
use plumbline_contracts::Deployment;
use plumbline_proof::backhaul::params::Terms;
use plumbline_trust::Address;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::stand::{On, Stand};
use crate::world::{TestClock, genesis, key};

/// How a coordinator's `/rpc` lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// Whatever is called answers 9.
    Calls,
}

/// What a coordinator shows, over HTTP; every JSON-RPC method and every other request is kept.
struct Coordinator {
    url: String,
    chain: Mutex<Arc<Embedded>>,
    lie: Lie,
    heard: Mutex<Vec<String>>,
}

impl Coordinator {
    async fn of(chain: &Arc<Embedded>, says: Deployment, lie: Lie) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            chain: Mutex::new(Arc::clone(chain)),
            lie,
            heard: Mutex::default(),
        });
        let version = json!({ "address": key(1).address() });
        let routes = axum::Router::new()
            .route("/v1/deployment", get(async move || Json(says)))
            .route("/v1/version", get(async move || Json(version)))
            .route("/rpc", post(answer))
            .fallback(strange)
            .with_state(Arc::clone(&here));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        here
    }

    fn chain(&self) -> Arc<Embedded> {
        Arc::clone(&self.chain.lock().unwrap())
    }

    fn api(&self) -> Api {
        Api::new(&self.url).unwrap()
    }

    async fn pin(&self) -> DeploymentFile {
        shown(Some(&self.api()), &[], None).await.unwrap()
    }

    /// A payer and a node are refused in these words, and neither signed anything.
    async fn is_refused(&self, view: &View, words: &[&str]) {
        let home = TempDir::new().unwrap();
        let before = height(&self.chain()).await;
        for told in [
            pay(&self.url, view, home.path()).await,
            join(&self.url, view, home.path()).await,
        ] {
            for word in words {
                assert!(told.contains(word), "{word:?} is not in: {told}");
            }
        }
        let heard = self.heard.lock().unwrap().clone();
        // Neither a transaction nor a statement: nothing but questions.
        let is_asked = |m: &String| {
            m.starts_with("eth_get")
                || m == "eth_chainId"
                || m.starts_with("web3_")
                || m.starts_with("plumbline_")
        };
        assert!(heard.iter().all(is_asked), "{heard:?}");
        assert_eq!(height(&self.chain()).await, before);
    }
}

async fn answer(State(here): State<Arc<Coordinator>>, Json(request): Json<Value>) -> Json<Value> {
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    here.heard.lock().unwrap().push(method.clone());
    if here.lie == Lie::Calls && method == "eth_call" {
        let nine = format!("0x{:064x}", 9);
        return Json(json!({ "jsonrpc": "2.0", "id": request["id"], "result": nine }));
    }
    Json(here.chain().rpc(request).await)
}

async fn strange(
    State(here): State<Arc<Coordinator>>,
    method: http::Method,
    uri: http::Uri,
) -> http::StatusCode {
    here.heard.lock().unwrap().push(format!("{method} {uri}"));
    http::StatusCode::NOT_FOUND
}

async fn height(chain: &Arc<Embedded>) -> Value {
    let asked = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": [] });
    chain.rpc(asked).await["result"].clone()
}

async fn pay(url: &str, view: &View, home: &Path) -> String {
    let keys = Keys::create(&home.join("payer.key")).unwrap();
    let order = Order {
        prover: Address([7; 20]),
        terms: Terms::downlink(1_000_000, 4, 1, 100),
        burst_bytes: None,
        mtu: None,
        price_per_byte: 4,
        deadline: Duration::from_secs(60),
        faucet: true,
    };
    let paid = payer::measure(url, view, &keys, &order, None, &Silent).await;
    paid.unwrap_err().to_string()
}

async fn join(url: &str, view: &View, home: &Path) -> String {
    let keys = Keys::create(&home.join("node.key")).unwrap();
    let journal = Journal::in_memory(&keys.address()).unwrap();
    let joined = Node::connect(url, view, &keys, journal).await;
    joined.err().unwrap().to_string()
}

fn found(deployer: u8, clock: &TestClock) -> (TempDir, Arc<Embedded>) {
    let dir = TempDir::new().unwrap();
    let genesis = Genesis {
        deployer: key(deployer),
        ..genesis()
    };
    let chain = Embedded::open(dir.path(), &genesis, clock.options()).unwrap();
    (dir, chain)
}

/// The pinned chain as it is seen by the coordinator's `/rpc`, and by an own copy.
fn views(pin: &DeploymentFile, copy: &Path) -> [View; 2] {
    let fallback = View {
        pin: Some(pin.clone()),
        ..View::default()
    };
    let follow = View {
        follow: Some(copy.to_owned()),
        ..fallback.clone()
    };
    [fallback, follow]
}

#[tokio::test]
async fn a_coordinator_of_another_chain_gets_no_signature() {
    let (_dir, ours) = found(1, &TestClock::new());
    let pin = Coordinator::of(&ours, ours.deployment(), Lie::None)
        .await
        .pin()
        .await;
    let copy = TempDir::new().unwrap();
    let views = views(&pin, copy.path());

    // Other contracts on another chain, named openly.
    let (_dir, other) = found(2, &TestClock::new());
    let token = [other.deployment().token, pin.deployment.token].map(|a| a.to_string());
    let liar = Coordinator::of(&other, other.deployment(), Lie::None).await;
    for view in &views {
        let words = [
            &liar.url,
            "the address of the token contract",
            &token[0],
            &token[1],
        ];
        liar.is_refused(view, &[&words[..], &["Nothing was signed"]].concat())
            .await;
    }
    // The same behind the name of the pinned ones: another key signs another founding record.
    let origins = [liar.pin().await, pin.clone()];
    let origins = origins.map(|file| file.founding.unwrap().block.to_string());
    let liar = Coordinator::of(&other, pin.deployment, Lie::None).await;
    for view in &views {
        liar.is_refused(view, &["founded on (block 0)", &origins[0], &origins[1]])
            .await;
    }
    // Another chain id: as it says itself.
    let mut says = pin.deployment;
    says.chain_id += 1;
    let liar = Coordinator::of(&ours, says, Lie::None).await;
    for view in &views {
        liar.is_refused(view, &["the chain id is 7332; allowed: 7331"])
            .await;
    }
    // The pinned chain's own founder, contracts and addresses, on a chain that it founded a second later.
    let later = TestClock::new();
    later.pass(1);
    let (_dir, twin) = found(1, &later);
    assert_eq!(twin.deployment(), pin.deployment);
    let liar = Coordinator::of(&twin, pin.deployment, Lie::None).await;
    for view in &views {
        liar.is_refused(view, &["founded on (block 0)", &origins[1]])
            .await;
    }
}

#[tokio::test]
async fn the_pinned_chain_is_seen_and_signed_for() {
    let (_dir, ours) = found(1, &TestClock::new());
    let honest = Coordinator::of(&ours, ours.deployment(), Lie::None).await;
    let pin = honest.pin().await;
    // The same by whoever shows the same, with or without a coordinator.
    let rpc = [format!("{}/rpc", honest.url)];
    let known = shown(None, &rpc, None).await.unwrap();
    assert_eq!((&known, known.fingerprint()), (&pin, pin.fingerprint()));
    let copy = TempDir::new().unwrap();
    let [fallback, follow] = views(&pin, copy.path());
    let own = View {
        rpc: rpc.to_vec(),
        finality: Finality::IMMEDIATE,
        ..fallback.clone()
    };
    for (view, through, balance) in [
        (View::default(), "nothing is pinned", 1),
        (fallback, "fallback: ", 2),
        (follow.clone(), "own copy ", 3),
        (own, "own endpoints ", 4),
        // The copy that is there already goes on.
        (follow, "own copy ", 5),
    ] {
        let (chain, seen) = view.open(&honest.api(), key(3)).await.unwrap();
        assert!(seen.to_string().starts_with(through), "{seen}");
        chain.mint_lab(chain.address(), U256::ONE).await.unwrap();
        let has = chain.balance(chain.address()).await.unwrap();
        assert_eq!(has, U256::from(balance), "{seen}");
    }
}

#[tokio::test]
async fn a_lie_about_the_state_is_believed_by_the_fallback_and_by_no_copy() {
    let (_dir, ours) = found(1, &TestClock::new());
    let liar = Coordinator::of(&ours, ours.deployment(), Lie::Calls).await;
    let copy = TempDir::new().unwrap();
    for view in views(&liar.pin().await, copy.path()) {
        let (chain, through) = view.open(&liar.api(), key(3)).await.unwrap();
        let told = chain.balance(chain.address()).await.unwrap();
        let believed = matches!(through, Through::Coordinator(_));
        assert_eq!(told, U256::from(9 * u64::from(believed)), "{through}");
    }
}

#[tokio::test]
async fn a_coordinator_that_rewrites_its_chain_is_seen_by_the_copy() {
    let (dir, ours) = found(1, &TestClock::new());
    let honest = Coordinator::of(&ours, ours.deployment(), Lie::None).await;
    let copy = TempDir::new().unwrap();
    let [_, follow] = views(&honest.pin().await, copy.path());
    let fork = TempDir::new().unwrap();
    std::fs::copy(
        dir.path().join("chain.redb"),
        fork.path().join("chain.redb"),
    )
    .unwrap();
    let (chain, _) = follow.open(&honest.api(), key(3)).await.unwrap();
    chain.mint_lab(chain.address(), U256::ONE).await.unwrap();
    // The same founder signs another block in the place of that one.
    let other = Embedded::open(fork.path(), &genesis(), TestClock::new().options()).unwrap();
    let there = plumbline::chain::ChainClient::in_process(&other, key(4));
    there
        .mint_lab(there.address(), U256::from(2))
        .await
        .unwrap();
    // While somebody is at work: it signs nothing more.
    honest.heard.lock().unwrap().clear();
    *honest.chain.lock().unwrap() = Arc::clone(&other);
    let told = chain.mint_lab(chain.address(), U256::ONE).await;
    let told = told.unwrap_err().to_string();
    assert!(told.contains("signed two different blocks"), "{told}");
    let heard = honest.heard.lock().unwrap().clone();
    assert!(
        heard.iter().all(|m| m.starts_with("plumbline_")),
        "{heard:?}"
    );
    drop(chain);
    // And whoever comes back with the copy.
    let words = ["signed two different blocks", "equivocation.borsh"];
    honest.is_refused(&follow, &words).await;
}

#[tokio::test]
async fn other_code_at_the_pinned_address_is_found() {
    let stand = Stand::new(On::Anvil, &TestClock::new()).await;
    let (url, deployment) = (stand.anvil().url(), stand.deployment());
    let (_dir, idle) = found(1, &TestClock::new());
    // Its word about the contracts is true; what is on the chain is another matter.
    let coordinator = Coordinator::of(&idle, deployment, Lie::None).await;
    let file = |code| DeploymentFile {
        deployment,
        block: 0,
        code,
        founding: None,
    };
    let rpc = [url];
    let pin = shown(None, &rpc, Some(file(Default::default())))
        .await
        .unwrap();
    assert!(pin.founding.is_none());
    let view = View {
        pin: Some(pin.clone()),
        rpc: rpc.to_vec(),
        finality: Finality::IMMEDIATE,
        follow: None,
    };
    let opened = view.open(&coordinator.api(), key(3)).await;
    assert!(matches!(opened.unwrap().1, Through::Endpoints(_)));
    let vault = deployment.vault.to_string();
    stand
        .anvil()
        .ask("anvil_setCode", &json!([vault, "0x6001"]));
    let height = stand.anvil().height();
    let pinned = pin.code["vault"].to_string();
    let words = [
        "the hash of the vault contract's code is 0x",
        &pinned,
        &rpc[0],
    ];
    coordinator.is_refused(&view, &words).await;
    assert_eq!(stand.anvil().height(), height);
    let other = shown(None, &rpc, Some(pin)).await.unwrap_err();
    assert!(
        matches!(other, ViewError::Chain(ClientError::NotPinned { .. })),
        "{other}"
    );
}

#[tokio::test]
async fn a_file_that_pins_no_code_is_no_pin() {
    let (dir, ours) = found(1, &TestClock::new());
    let pin = Coordinator::of(&ours, ours.deployment(), Lie::None)
        .await
        .pin()
        .await;
    let path = dir.path().join("pin.json");
    pin.write(&path).unwrap();
    assert_eq!(DeploymentFile::read_pin(&path), Ok(pin.clone()));
    assert!(pin.write(&path).unwrap_err().contains("exists"));
    let bare = dir.path().join("bare.json");
    let mut less = pin;
    less.code.remove("bonds");
    less.write(&bare).unwrap();
    assert!(DeploymentFile::read(&bare).is_ok());
    let told = DeploymentFile::read_pin(&bare).unwrap_err();
    assert!(
        told.contains("no code hash of the bonds contract"),
        "{told}"
    );
}
