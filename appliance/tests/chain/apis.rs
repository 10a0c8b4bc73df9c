//! Ethereum's JSON-RPC by its own examples (execution-apis): what is asked there is asked here, and what
//! comes back has the same shape, or is the same error.
//!
//! The examples are of a chain of their own. Here a chain of the same id and height answers; hashes that
//! name something there are replaced by hashes of the same kind here, and values are not compared, since the
//! states differ. What is not served, or not the same, is named below with its reason: nothing else differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy::consensus::{SignableTransaction, TxEip1559, TxEip2930, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::eip2930::{AccessList, AccessListItem};
use alloy::primitives::{Address, B256, TxKind, hex};
use alloy::signers::SignerSync;
use plumbline::chain::{Embedded, Genesis};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::{TestClock, genesis, key};

/// `# method/example`, then `>>` requests and `<<` answers.
const EXAMPLES: &str = include_str!("../vectors/execution-apis.txt");
/// Id and height of the examples' chain.
const CHAIN_ID: u64 = 3_503_995_874_084_926;
const HEIGHT: u64 = 0x36;
/// Code of JSON-RPC: there is no such method.
const UNKNOWN: i64 = -32601;

/// Methods that are not served, and why not.
const REFUSED: [(&str, &str); 24] = [
    ("debug_getRawBlock", DEBUG),
    ("debug_getRawHeader", DEBUG),
    ("debug_getRawReceipts", DEBUG),
    ("debug_getRawTransaction", DEBUG),
    ("debug_traceBlockByHash", DEBUG),
    ("debug_traceBlockByNumber", DEBUG),
    ("debug_traceTransaction", DEBUG),
    ("eth_baseFee", FEES),
    ("eth_blobBaseFee", FEES),
    ("eth_capabilities", CONSENSUS),
    ("eth_config", CONSENSUS),
    ("eth_createAccessList", FEES),
    ("eth_getBlockReceipts", UNUSED),
    ("eth_getBlockTransactionCountByHash", UNUSED),
    ("eth_getBlockTransactionCountByNumber", UNUSED),
    ("eth_getProof", "state roots are no Merkle-Patricia roots"),
    ("eth_getStorageValues", UNUSED),
    ("eth_getTransactionByBlockHashAndIndex", UNUSED),
    ("eth_getTransactionByBlockNumberAndIndex", UNUSED),
    ("eth_simulateV1", "a call with state of the caller's own"),
    ("testing_buildBlockV1", CONSENSUS),
    ("txpool_content", POOL),
    ("txpool_contentFrom", POOL),
    ("txpool_status", POOL),
];
const DEBUG: &str = "for those who develop nodes; the whole chain is exported by plumbline_blocks";
const FEES: &str = "gas has no price here";
const CONSENSUS: &str = "there is no consensus layer";
const UNUSED: &str = "no client of ours asks it, and others can ask what is served";
const POOL: &str = "there is no pool: a transaction is answered when it is in a block";

/// Examples that end otherwise here, how (the error's code), and why.
const OTHERWISE: [(&str, i64, &str); 9] = [
    ("eth_call/call-callenv-options-eip1559", -32000, COIN),
    ("eth_estimateGas/estimate-with-eip4844", -32000, COIN),
    ("eth_estimateGas/estimate-with-eip7702", -32000, COIN),
    ("eth_getBalance/get-balance-blockhash", -32000, OLD),
    ("eth_feeHistory/fee-history", 0, "answered without blobs"),
    (
        "eth_sendRawTransaction/send-access-list-transaction",
        -32000,
        STATE,
    ),
    (
        "eth_sendRawTransaction/send-dynamic-fee-access-list-transaction",
        -32000,
        STATE,
    ),
    (
        "eth_sendRawTransaction/send-dynamic-fee-transaction",
        -32000,
        STATE,
    ),
    (
        "eth_sendRawTransaction/send-legacy-transaction",
        -32000,
        STATE,
    ),
];
const COIN: &str = "it sends native coin, and this chain has none";
const OLD: &str = "only the newest state is kept";
const STATE: &str =
    "signed for the state of their chain: the nonce is another here, or it carries coin";

/// Fields that blocks, transactions and receipts have there and never here.
const FIELDS: [&str; 20] = [
    "accessList",
    "authorizationList",
    "baseFeePerBlobGas",
    "baseFeePerGas",
    "blobGasPrice",
    "blobGasUsed",
    "blobGasUsedRatio",
    "blobVersionedHashes",
    "chainId",
    "excessBlobGas",
    "maxFeePerBlobGas",
    "maxFeePerGas",
    "maxPriorityFeePerGas",
    "parentBeaconBlockRoot",
    "requestsHash",
    "root",
    "withdrawals",
    "withdrawalsRoot",
    "yParity",
    "totalDifficulty",
];

struct Chain {
    _dir: TempDir,
    chain: Arc<Embedded>,
    /// Hash of a transaction of each kind: legacy, with an access list, with fees, that makes a contract.
    hashes: [B256; 4],
    block: B256,
}

fn sealed<T: SignableTransaction<alloy::primitives::Signature>>(tx: T) -> TxEnvelope
where
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = key(5).sign_hash_sync(&tx.signature_hash()).unwrap();
    tx.into_signed(signature).into()
}

impl Chain {
    async fn found() -> Self {
        let dir = TempDir::new().unwrap();
        let genesis = Genesis {
            chain_id: CHAIN_ID,
            ..genesis()
        };
        let chain = Embedded::open(dir.path(), &genesis, TestClock::new().options()).unwrap();
        let token = chain.deployment().token;
        let item = AccessListItem {
            address: token,
            storage_keys: vec![B256::ZERO],
        };
        let to = TxKind::Call(Address::repeat_byte(7));
        let mut list: Vec<TxEnvelope> = vec![
            sealed(TxLegacy {
                chain_id: Some(CHAIN_ID),
                gas_limit: 100_000,
                to,
                ..TxLegacy::default()
            }),
            sealed(TxEip2930 {
                chain_id: CHAIN_ID,
                nonce: 1,
                gas_limit: 100_000,
                to,
                access_list: AccessList(vec![item]),
                ..TxEip2930::default()
            }),
        ];
        for nonce in 2..HEIGHT - 1 {
            // The last makes a contract without code.
            let to = if nonce + 2 == HEIGHT {
                TxKind::Create
            } else {
                to
            };
            list.push(sealed(TxEip1559 {
                chain_id: CHAIN_ID,
                nonce,
                gas_limit: 100_000,
                to,
                ..TxEip1559::default()
            }));
        }
        for tx in &list {
            let raw = hex::encode_prefixed(tx.encoded_2718());
            let sent =
                json!({"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":[raw]});
            let answer = chain.rpc(sent).await;
            assert!(answer.get("error").is_none(), "{answer}");
        }
        let hash = |i: usize| *list[i].tx_hash();
        let request =
            json!({"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x3",false]});
        let told = chain.rpc(request).await;
        assert!(told["result"]["transactions"][0].is_string(), "{told}");
        Self {
            hashes: [hash(0), hash(1), hash(2), hash(list.len() - 1)],
            block: told["result"]["hash"].as_str().unwrap().parse().unwrap(),
            _dir: dir,
            chain,
        }
    }

    /// The request with what is named there replaced by what is of that kind here.
    fn ours(&self, example: &str, method: &str, mut request: Value) -> Value {
        let is_known = !["empty", "notfound"].iter().any(|w| example.contains(w));
        let by_hash = ["eth_getTransactionByHash", "eth_getTransactionReceipt"].contains(&method);
        if by_hash && is_known {
            let kind = match example {
                e if e.contains("legacy-create") || e.contains("legacy-contract") => 3,
                e if e.contains("legacy") => 0,
                e if e.contains("access-list") => 1,
                _ => 2,
            };
            request["params"][0] = json!(self.hashes[kind]);
        }
        if method == "eth_getBlockByHash" && is_known {
            request["params"][0] = json!(self.block);
        }
        if method == "eth_getLogs" && request["params"][0]["blockHash"].is_string() {
            request["params"][0]["blockHash"] = json!(self.block);
        }
        let is_call = ["eth_call", "eth_estimateGas"].contains(&method);
        if is_call
            && ["revert", "error", "failed"]
                .iter()
                .any(|w| example.contains(w))
        {
            // The token refuses calls that it does not know, and this one with an error.
            request["params"][0]["to"] = json!(self.chain.deployment().token);
            let transfer = hex::encode_prefixed([&[0xa9, 0x05, 0x9c, 0xbb][..], &[1; 64]].concat());
            request["params"][0]["input"] = json!(transfer);
        }
        request
    }
}

/// Where `ours` is not of the shape of `theirs`.
fn differs(theirs: &Value, ours: &Value, at: &str, out: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (name, value) in theirs {
                match ours.get(name) {
                    Some(own) => differs(value, own, &format!("{at}.{name}"), out),
                    None if FIELDS.contains(&name.as_str()) => {}
                    None => out.push(format!("{at}.{name} is missing")),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            if let (Some(one), Some(own)) = (theirs.first(), ours.first()) {
                differs(one, own, &format!("{at}[0]"), out);
            }
        }
        (Value::String(theirs), Value::String(ours)) => {
            if theirs.starts_with("0x") != ours.starts_with("0x") {
                out.push(format!("{at}: {ours}, where they have {theirs}"));
            }
        }
        // A field that is null there in one example has a value in another.
        (Value::Null, _) | (_, Value::Null) if at.contains('.') => {}
        (theirs, ours) => {
            if std::mem::discriminant(theirs) != std::mem::discriminant(ours) {
                out.push(format!("{at}: {ours}, where they have {theirs}"));
            }
        }
    }
}

/// `conformance` finds it by its name.
#[tokio::test]
async fn conformance_execution_apis_examples_have_our_answers_shape() {
    let chain = Chain::found().await;
    let (mut passed, mut refused) = (0, 0);
    let mut otherwise = BTreeSet::new();
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    let mut example = "";
    let mut asked: Option<Value> = None;
    for line in EXAMPLES.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            example = name.trim_end_matches(" speconly");
            continue;
        }
        if let Some(text) = line.strip_prefix(">> ") {
            let request: Value = serde_json::from_str(text).unwrap();
            let method = request["method"].as_str().unwrap().to_owned();
            if REFUSED.iter().any(|(name, _)| *name == method) {
                let answer = chain.chain.rpc(request).await;
                assert_eq!(answer["error"]["code"], UNKNOWN, "{method}: {answer}");
                seen.push(method);
                refused += 1;
            } else {
                let request = chain.ours(example, &method, request);
                asked = Some(chain.chain.rpc(request).await);
            }
            continue;
        }
        let theirs: Value = serde_json::from_str(line.strip_prefix("<< ").unwrap()).unwrap();
        let Some(ours) = asked.take() else { continue };
        let code = ours["error"]["code"].as_i64().unwrap_or_default();
        if let Some((_, expected, why)) = OTHERWISE.iter().find(|(name, ..)| *name == example) {
            assert_eq!(code, *expected, "{example} ({why}): {ours}");
            otherwise.insert(example);
            continue;
        }
        let mut found = Vec::new();
        if theirs["error"]["code"] != ours["error"]["code"] {
            found.push(format!(
                "error {}, theirs {}",
                ours["error"], theirs["error"]
            ));
        } else if theirs["error"]["data"].is_string() != ours["error"]["data"].is_string() {
            found.push("revert data".to_owned());
        }
        differs(&theirs["result"], &ours["result"], "result", &mut found);
        if found.is_empty() {
            passed += 1;
        } else {
            wrong.push(format!("{example}: {}", found.join("; ")));
        }
    }
    println!(
        "conformance: execution-apis: {passed} passed, {refused} methods refused on purpose, {} otherwise on \
         purpose, {} failed",
        otherwise.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unseen: Vec<_> = REFUSED
        .iter()
        .filter(|(name, _)| !seen.iter().any(|s| s == name))
        .collect();
    assert!(unseen.is_empty(), "no example asks for {unseen:?}");
    assert_eq!(otherwise.len(), OTHERWISE.len());
    let told = chain
        .chain
        .rpc(json!({"jsonrpc":"2.0","id":1,"method":"eth_chainId"}))
        .await;
    assert_eq!(told["result"], format!("{CHAIN_ID:#x}"));
}
