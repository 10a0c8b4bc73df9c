//! Requests below what the coordinator drives.

use std::time::Duration;

use alloy::primitives::{U256, keccak256};
use alloy::signers::local::PrivateKeySigner;
use plumbline::chain::ChainClient;
use plumbline::chain::client::{Registration, role};
use plumbline::control::client::Api;
use plumbline::keyfile::Keys;
use plumbline::role::payer::{self, Order};
use plumbline::role::view::View;
use plumbline::ui::Silent;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_proof::backhaul::params::Terms;
use plumbline_trust::Address;

use crate::stage::{PATIENCE, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_below_the_terms_is_named_and_not_begun_and_a_payer_locks_nothing() {
    let stage = Stage::up("min_price = \"5\"\nmax_challengers = 10\nmin_deadline = \"30s\"");
    let told = stage.get(2, "/v1/version").json();
    let terms = &told["terms"];
    assert_eq!(terms["min_price"], "5", "{told}");
    assert_eq!(terms["max_challengers"], 10, "{told}");
    assert_eq!(terms["min_deadline_s"], 30, "{told}");
    let api = Api::new(&stage.url()).unwrap();
    let deployment = api.deployment().await.unwrap();
    let rpc = api.rpc_url();
    let prover = ChainClient::connect_http(&rpc, PrivateKeySigner::random(), deployment)
        .await
        .unwrap();
    let stake = U256::from(1_000_000_000);
    prover.mint_lab(prover.address(), stake).await.unwrap();
    prover.approve(stake).await.unwrap();
    let own = keccak256(prover.address());
    let registration = Registration {
        roles: role::PROVER,
        network_key: own.0,
        cross_signature: [7; 64],
        operator: own.0,
        endpoint: "127.0.0.1:1".into(),
        max_bps: 1_000_000_000,
        stake: 1_000_000,
    };
    prover.register(&registration).await.unwrap();

    // The product's payer sees the terms first.
    let keys = Keys::create(&stage.home.path().join("payer.key")).unwrap();
    let order = Order {
        prover: Address(prover.address().into_array()),
        terms: Terms::downlink(1_000_000, 4, 1, 100),
        burst_bytes: None,
        mtu: None,
        price_per_byte: 4,
        deadline: Duration::from_secs(60),
        faucet: true,
    };
    let why = payer::measure(&stage.url(), &View::default(), &keys, &order, None, &Silent).await;
    let why = why.unwrap_err().to_string();
    assert!(why.contains("coordinator.min_price is 5"), "{why}");
    assert!(why.contains("nothing was locked"), "{why}");
    assert_eq!(
        prover.balance(keys.signer().address()).await.unwrap(),
        U256::ZERO
    );

    // Who asks the contract all the same is told by the API, and nobody is drawn.
    let deadline = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 600;
    let coordinator = told["address"].as_str().unwrap().parse().unwrap();
    let asked = Request {
        payer: prover.address(),
        prover: prover.address(),
        coordinator,
        claimBps: 1_000_000,
        n: 11,
        f: 1,
        durationMs: 100,
        packetBytes: 1_500,
        pricePerByte: 5,
        deadline,
        ..Request::default()
    };
    let (_, _, escrow) = prover.quote(&asked).await.unwrap();
    prover.approve(escrow).await.unwrap();
    let (id, _) = prover.request(&asked).await.unwrap();
    let until = tokio::time::Instant::now() + PATIENCE;
    let view = loop {
        let view = stage.get(2, &format!("/v1/requests/{id}")).json();
        if view["declined"].is_string() {
            break view;
        }
        assert!(tokio::time::Instant::now() < until, "{view}");
    };
    let words = view["declined"].as_str().unwrap();
    assert_eq!(
        words,
        "coordinator.max_challengers is 10; this request asks for 11"
    );
    assert_eq!(view["state"], "created", "{view}");
}
