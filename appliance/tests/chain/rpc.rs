//! The JSON-RPC, in process and over HTTP.

use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, TxKind, U256};
use alloy::signers::SignerSync;
use plumbline::chain::client::ClientError;
use plumbline::chain::embedded::{MAX_BATCH, MAX_REQUEST_BYTES};
use plumbline::chain::{ChainClient, Embedded};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{CHAIN_ID, START, TestClock, genesis, key, tick};

fn chain() -> (TempDir, Arc<Embedded>) {
    let dir = TempDir::new().unwrap();
    let chain = Embedded::open(dir.path(), &genesis(), TestClock::new().options()).unwrap();
    (dir, chain)
}

async fn ask(chain: &Arc<Embedded>, method: &str, params: Value) -> Value {
    let request = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let answer = chain.rpc(request).await;
    assert_eq!(answer["id"], 7);
    assert_eq!(answer["jsonrpc"], "2.0");
    answer
}

async fn result(chain: &Arc<Embedded>, method: &str, params: Value) -> Value {
    let answer = ask(chain, method, params).await;
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["result"].clone()
}

async fn code(chain: &Arc<Embedded>, method: &str, params: Value) -> (i64, String) {
    let answer = ask(chain, method, params).await;
    let error = &answer["error"];
    let message = error["message"].as_str().unwrap_or_default().to_owned();
    (error["code"].as_i64().unwrap(), message)
}

#[tokio::test]
async fn answers_what_wallets_ask() {
    let (_dir, chain) = chain();
    let client = ChainClient::in_process(&chain, key(2));
    let sent = tick(&client).await;
    let token = chain.deployment().token;
    assert_eq!(
        result(&chain, "eth_chainId", json!([])).await,
        format!("{CHAIN_ID:#x}")
    );
    assert_eq!(
        result(&chain, "net_version", json!([])).await,
        CHAIN_ID.to_string()
    );
    assert_eq!(result(&chain, "eth_blockNumber", json!([])).await, "0x2");
    assert_eq!(result(&chain, "eth_syncing", json!([])).await, false);
    assert_eq!(result(&chain, "eth_gasPrice", json!([])).await, "0x0");
    let version = result(&chain, "web3_clientVersion", json!([])).await;
    assert!(version.as_str().unwrap().starts_with("plumbline/"));
    let history = result(&chain, "eth_feeHistory", json!(["0x2", "latest", [25, 75]])).await;
    assert_eq!(history["oldestBlock"], "0x1");
    assert_eq!(history["baseFeePerGas"], json!(["0x0", "0x0", "0x0"]));
    assert_eq!(history["reward"], json!([["0x0", "0x0"], ["0x0", "0x0"]]));

    let block = result(&chain, "eth_getBlockByNumber", json!(["latest", true])).await;
    assert_eq!(block["number"], "0x2");
    assert_eq!(block["timestamp"], format!("{START:#x}"));
    assert_eq!(block["transactions"][0]["hash"], sent.hash.to_string());
    assert_eq!(block["transactions"][0]["gasPrice"], "0x0");
    let same = result(&chain, "eth_getBlockByHash", json!([block["hash"], false])).await;
    assert_eq!(same["transactions"], json!([sent.hash]));
    let parent = result(&chain, "eth_getBlockByNumber", json!(["0x1", false])).await;
    assert_eq!(block["parentHash"], parent["hash"]);
    let none = result(&chain, "eth_getBlockByNumber", json!(["0x9", false])).await;
    assert_eq!(none, Value::Null);

    let receipt = result(&chain, "eth_getTransactionReceipt", json!([sent.hash])).await;
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["blockHash"], block["hash"]);
    assert_eq!(receipt["effectiveGasPrice"], "0x0");
    assert_eq!(receipt["logs"][0]["logIndex"], "0x0");
    let filter = json!([{ "fromBlock": "earliest", "toBlock": "latest", "address": token }]);
    let logs = result(&chain, "eth_getLogs", filter).await;
    assert_eq!(logs, receipt["logs"]);
    let other = json!([{ "fromBlock": "0x0", "address": token, "topics": [[], [key(9).address().into_word()]] }]);
    assert_eq!(result(&chain, "eth_getLogs", other).await, json!([]));
    let found = result(&chain, "eth_getTransactionByHash", json!([sent.hash])).await;
    assert_eq!(found["from"], json!(key(2).address()));
    let first = result(&chain, "eth_getBlockByNumber", json!(["0x1", false])).await;
    let deploy = &first["transactions"][0];
    let receipt = result(&chain, "eth_getTransactionReceipt", json!([deploy])).await;
    assert_eq!(receipt["contractAddress"], json!(token));

    let account = json!([key(2).address(), "latest"]);
    assert_eq!(
        result(&chain, "eth_getTransactionCount", account.clone()).await,
        "0x1"
    );
    assert_eq!(result(&chain, "eth_getBalance", account).await, "0x0");
    let code = result(&chain, "eth_getCode", json!([token])).await;
    assert!(code.as_str().unwrap().len() > 1_000);
    let slot = result(&chain, "eth_getStorageAt", json!([token, "0x2", "latest"])).await;
    assert_eq!(
        slot,
        json!(alloy::primitives::B256::with_last_byte(1)),
        "total supply"
    );
}

#[tokio::test]
async fn refuses_with_standard_codes() {
    let (_dir, chain) = chain();
    let client = ChainClient::in_process(&chain, key(2));
    tick(&client).await;
    assert_eq!(code(&chain, "eth_mine", json!([])).await.0, -32601);
    assert_eq!(code(&chain, "eth_getCode", json!([])).await.0, -32602);
    assert_eq!(code(&chain, "eth_getCode", json!(["0x12"])).await.0, -32602);
    assert_eq!(
        code(&chain, "eth_getCode", json!({ "a": 1 })).await.0,
        -32602
    );
    let (number, told) = code(&chain, "eth_getBalance", json!([Address::ZERO, "0x1"])).await;
    assert_eq!(number, -32000);
    assert!(told.contains("only that of the newest, 2"), "{told}");
    let overrides = json!([{ "to": Address::ZERO }, "latest", { "x": {} }]);
    assert_eq!(code(&chain, "eth_call", overrides).await.0, -32602);
    let valued = json!([{ "to": Address::ZERO, "value": "0x1" }]);
    let (number, told) = code(&chain, "eth_call", valued).await;
    assert_eq!(number, -32000);
    assert!(told.contains("no native coin"), "{told}");

    let withdraw = json!([{ "to": chain.deployment().vault, "data": "0x3ccfd60b" }]);
    for method in ["eth_call", "eth_estimateGas"] {
        let answer = ask(&chain, method, withdraw.clone()).await;
        assert_eq!(answer["error"]["code"], 3, "{answer}");
        assert!(answer["error"]["data"].as_str().unwrap().len() == 2 + 8 + 64);
        let told = answer["error"]["message"].as_str().unwrap();
        assert!(
            told.starts_with("execution reverted: nothing is owed"),
            "{told}"
        );
    }

    for malformed in [json!(1), json!({ "id": 1 }), json!([])] {
        let answer = chain.rpc(malformed).await;
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
    }
    let answer = chain.rpc_bytes(b"{").await;
    assert!(String::from_utf8(answer).unwrap().contains("-32700"));
}

#[tokio::test]
async fn is_bounded() {
    let (_dir, chain) = chain();
    let one = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" });
    let batch = |size| Value::Array(vec![one.clone(); size]);
    let answer = chain.rpc(batch(MAX_BATCH)).await;
    assert_eq!(answer.as_array().unwrap().len(), MAX_BATCH);
    let answer = chain.rpc(batch(MAX_BATCH + 1)).await;
    assert_eq!(answer["error"]["code"], -32005);
    let notification = json!({ "jsonrpc": "2.0", "method": "eth_chainId" });
    assert_eq!(chain.rpc(notification.clone()).await, Value::Null);
    assert!(
        chain
            .rpc_bytes(notification.to_string().as_bytes())
            .await
            .is_empty()
    );
    let mixed = Value::Array(vec![notification, one.clone()]);
    assert_eq!(chain.rpc(mixed).await.as_array().unwrap().len(), 1);

    let mut bytes = one.to_string().into_bytes();
    bytes.resize(MAX_REQUEST_BYTES, b' ');
    let answer = chain.rpc_bytes(&bytes).await;
    assert!(String::from_utf8(answer).unwrap().contains("result"));
    bytes.push(b' ');
    let answer = chain.rpc_bytes(&bytes).await;
    assert!(String::from_utf8(answer).unwrap().contains("-32005"));
}

fn raw(tx: TxEip1559, signer: u8) -> Value {
    let signature = key(signer).sign_hash_sync(&tx.signature_hash()).unwrap();
    let bytes = TxEnvelope::Eip1559(tx.into_signed(signature)).encoded_2718();
    json!([format!("0x{}", alloy::hex::encode(bytes))])
}

#[tokio::test]
async fn takes_only_transactions_that_are_valid_here() {
    let (_dir, chain) = chain();
    let good = TxEip1559 {
        chain_id: CHAIN_ID,
        gas_limit: 100_000,
        to: TxKind::Call(Address::ZERO),
        // Whatever is offered for gas, nothing is taken.
        max_fee_per_gas: 1_000_000_000,
        ..TxEip1559::default()
    };
    let refused = |f: fn(&mut TxEip1559)| {
        let mut tx = good.clone();
        f(&mut tx);
        code(&chain, "eth_sendRawTransaction", raw(tx, 5))
    };
    let (number, told) = refused(|tx| tx.chain_id += 1).await;
    assert_eq!(number, -32000);
    assert!(
        told.contains("signed for chain 7332; this is chain 7331"),
        "{told}"
    );
    let (_, told) = refused(|tx| tx.nonce = 1).await;
    assert_eq!(told, "nonce too high: next nonce 0, tx nonce 1");
    let (_, told) = refused(|tx| tx.value = U256::from(1)).await;
    assert!(told.contains("no native coin"), "{told}");
    let (_, told) = refused(|tx| tx.gas_limit = 20_999).await;
    assert!(told.contains("gas"), "{told}");
    let (_, told) = refused(|tx| tx.gas_limit = (1 << 24) + 1).await;
    assert!(told.contains("16777217") && told.contains("cap"), "{told}");
    assert_eq!(
        code(&chain, "eth_sendRawTransaction", json!(["0x02c0"]))
            .await
            .0,
        -32602
    );
    let legacy = TxLegacy {
        gas_limit: 100_000,
        to: TxKind::Call(Address::ZERO),
        ..TxLegacy::default()
    };
    let signature = key(5).sign_hash_sync(&legacy.signature_hash()).unwrap();
    let bytes = TxEnvelope::Legacy(legacy.into_signed(signature)).encoded_2718();
    let params = json!([format!("0x{}", alloy::hex::encode(bytes))]);
    let (_, told) = code(&chain, "eth_sendRawTransaction", params).await;
    assert!(told.contains("EIP-155"), "{told}");
    assert_eq!(result(&chain, "eth_blockNumber", json!([])).await, "0x1");

    let sent = result(&chain, "eth_sendRawTransaction", raw(good.clone(), 5)).await;
    // The same again is the same transaction; another with its nonce is not.
    assert_eq!(
        result(&chain, "eth_sendRawTransaction", raw(good.clone(), 5)).await,
        sent
    );
    let (_, told) = refused(|tx| tx.gas_limit = 90_000).await;
    assert_eq!(told, "nonce too low: next nonce 1, tx nonce 0");
    assert_eq!(result(&chain, "eth_blockNumber", json!([])).await, "0x2");
}

/// Serves `chain` over HTTP/1.1, as far as a client of ours needs.
pub(crate) async fn serve(chain: Arc<Embedded>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_all(stream, Arc::clone(&chain)));
        }
    });
    url
}

async fn answer_all(mut stream: TcpStream, chain: Arc<Embedded>) {
    let mut bytes = Vec::new();
    loop {
        let body = loop {
            let head = bytes.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(head) = head {
                let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
                let length = text
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: "));
                let length: usize = length.unwrap().trim().parse().unwrap();
                if bytes.len() >= head + 4 + length {
                    let body = bytes[head + 4..head + 4 + length].to_vec();
                    bytes.drain(..head + 4 + length);
                    break body;
                }
            }
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let answer = chain.rpc_bytes(&body).await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_client_works_over_http() {
    let (_dir, chain) = chain();
    let url = serve(Arc::clone(&chain)).await;
    let deployment = chain.deployment();
    let client = ChainClient::connect_http(&url, key(2), deployment)
        .await
        .unwrap();
    let sent = tick(&client).await;
    assert_eq!(client.latest_block().await.unwrap().number, sent.block);
    let error = client.withdraw().await.unwrap_err();
    assert_eq!(error.refusal().unwrap().name, "NothingOwed");

    let mut other = deployment;
    other.chain_id += 1;
    let error = ChainClient::connect_http(&url, key(2), other)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("is chain 7331, not chain 7332"),
        "{error}"
    );
    let mut other = deployment;
    other.beacon = Address::repeat_byte(1);
    let error = ChainClient::connect_http(&url, key(2), other)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no beacon contract"), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named() {
    let (_dir, chain) = chain();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let deployment = chain.deployment();
    let error = ChainClient::connect_http(&url, key(2), deployment)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    let told = error.to_string();
    assert!(told.contains(&url) && told.contains("refused"), "{told}");
    let error = ChainClient::connect_http("nowhere", key(2), deployment)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Address { .. }), "{error:?}");
}
