//! `/rpc`: reads that cost, transactions of nobody.

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::primitives::{Address, Bytes, TxKind, U256, keccak256};
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use plumbline::chain::ChainClient;
use plumbline::chain::client::{Registration, role};
use plumbline::control::client::Api;
use serde_json::{Value, json};

use crate::stage::Stage;

/// Code that never ends but by its gas.
const LOOP: &str = "0x5b5f56";
/// Ethereum's JSON-RPC: too much is asked for.
const LIMIT: i64 = -32_005;

#[test]
fn reads_that_cost_are_refused_in_words_and_others_read_on() {
    let mut stage = Stage::up("max_reading_each = \"1ms\"");
    let call = json!([{ "data": LOOP }, "latest"]);
    let mut refused = None;
    for _ in 0..1_000 {
        let answer = stage.rpc(2, "eth_call", &call);
        if answer["error"]["code"] == LIMIT {
            refused = Some(answer);
            break;
        }
        // Nobody is given more gas than a transaction may have.
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("OutOfGas"),
            "{answer}"
        );
    }
    let refused = refused.expect("a thousand endless calls were served");
    let words = refused["error"]["message"].as_str().unwrap();
    assert!(words.contains("ask again in"), "{refused}");
    // What reads the chain elsewhere is of the same time.
    let told = stage.get(2, "/v1/participants");
    told.problem(429, "too-many-requests", &["coordinator.max_reading_each"]);
    told.comes_again();
    assert!(stage.rpc(3, "eth_blockNumber", &json!([]))["result"].is_string());
    stage.is_well();
}

#[test]
fn each_entry_of_a_batch_is_a_request() {
    let stage = Stage::up("max_requests_each = 10");
    let one = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" });
    let batch = Value::Array(vec![one; 50]);
    let answer = stage.ask(2, "POST", "/rpc", batch.to_string().as_bytes());
    let answers = answer.json();
    let served = |a: &&Value| a["result"].is_string();
    let answers = answers.as_array().unwrap();
    assert_eq!(answers.len(), 50);
    let count = answers.iter().filter(served).count();
    assert!((15..30).contains(&count), "{count} of 50 were served");
    assert_eq!(answers[49]["error"]["code"], LIMIT);
}

fn signed(key: &PrivateKeySigner, nonce: u64, to: TxKind, input: Bytes, gas: u64) -> String {
    let transaction = TxEip1559 {
        chain_id: 7310,
        nonce,
        gas_limit: gas,
        to,
        input,
        ..TxEip1559::default()
    };
    let signature = key.sign_hash_sync(&transaction.signature_hash()).unwrap();
    let envelope = TxEnvelope::from(transaction.into_signed(signature));
    format!("0x{}", hex::encode(envelope.encoded_2718()))
}

#[track_caller]
fn refused(stage: &Stage, raw: &str, words: &[&str]) {
    let answer = stage.rpc(2, "eth_sendRawTransaction", &json!([raw]));
    let said = answer["error"]["message"].as_str().unwrap_or_default();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomers_can_register_and_strangers_write_nothing_that_is_kept() {
    let mut stage = Stage::up("max_newcomers_gas_each = 4000000");
    let api = Api::new(&stage.url()).unwrap();
    let deployment = api.deployment().await.unwrap();
    let key = PrivateKeySigner::random();
    let anywhere = TxKind::Call(Address::repeat_byte(7));
    let nothing = Bytes::new();
    // Nobody: no tokens, no registration.
    let ours = TxKind::Call(deployment.backhaul);
    refused(
        &stage,
        &signed(&key, 0, ours, nothing.clone(), 100_000),
        &["has no tokens", "faucet"],
    );
    refused(
        &stage,
        &signed(&key, 0, anywhere, nothing.clone(), 100_000),
        &["not registered", "own contracts only"],
    );
    refused(
        &stage,
        &signed(&key, 0, TxKind::Create, nothing.clone(), 100_000),
        &["not registered"],
    );
    // A newcomer mints and allows, and is taken. The product's client, from 127.0.0.1.
    let rpc = api.rpc_url();
    let client = ChainClient::connect_http(&rpc, key.clone(), deployment)
        .await
        .unwrap();
    let stake = U256::from(1_000_000);
    client.mint_lab(client.address(), stake).await.unwrap();
    client.approve(stake).await.unwrap();
    // Tokens alone are no licence to write what one likes.
    refused(
        &stage,
        &signed(&key, 2, TxKind::Create, nothing.clone(), 100_000),
        &["not registered"],
    );
    let own = keccak256(client.address());
    let registration = Registration {
        roles: role::CHALLENGER,
        network_key: own.0,
        cross_signature: [7; 64],
        operator: own.0,
        endpoint: "127.0.0.1:1".into(),
        max_bps: 0,
        stake: 1_000_000,
    };
    client.register(&registration).await.unwrap();
    // Who is registered has a stake to lose, and writes where it likes.
    let raw = signed(&key, 3, anywhere, nothing, 100_000);
    let taken = stage.rpc(2, "eth_sendRawTransaction", &json!([raw]));
    assert!(taken["result"].is_string(), "{taken}");
    faucet_is_metered(&stage, deployment.token);
    stage.is_well();
}

/// Who mints again and again, by one new key after another, comes to an end.
fn faucet_is_metered(stage: &Stage, token: Address) {
    // mint(address,uint256)
    let mut input = keccak256("mint(address,uint256)")[..4].to_vec();
    input.extend_from_slice(&[0; 12]);
    input.extend_from_slice(&[9; 20]);
    input.extend_from_slice(&U256::from(1).to_be_bytes::<32>());
    let mut minted = 0;
    let told = loop {
        let key = PrivateKeySigner::random();
        let raw = signed(&key, 0, TxKind::Call(token), input.clone().into(), 100_000);
        let answer = stage.rpc(2, "eth_sendRawTransaction", &json!([raw]));
        if answer["result"].is_string() {
            minted += 1;
            assert!(
                minted < 1_000,
                "a thousand strangers minted from one address"
            );
            continue;
        }
        break answer;
    };
    assert!(minted >= 30, "{minted}: {told}");
    assert_eq!(told["error"]["code"], LIMIT, "{told}");
    let words = told["error"]["message"].as_str().unwrap();
    assert!(words.contains("or register"), "{told}");
    // Another address has its own.
    let key = PrivateKeySigner::random();
    let raw = signed(&key, 0, TxKind::Call(token), input.into(), 100_000);
    let taken = stage.rpc(3, "eth_sendRawTransaction", &json!([raw]));
    assert!(taken["result"].is_string(), "{taken}");
}
