//! Any bytes, anywhere: an answer always, and a problem that says what is wrong.
//!
//! What is behind the door is tried where it is: `appliance/proof/src/backhaul/tests/fuzz.rs` with statements of the right authors.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::stage::{Answer, Stage, send};

/// Tries of each kind.
const TRIES: u32 = 400;

fn run<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: std::fmt::Debug,
{
    let config = Config {
        cases: TRIES,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    runner.run(strategy, test).unwrap();
}

/// A problem with a status of 4xx, whole.
fn taught(answer: &Answer) -> Result<(), TestCaseError> {
    prop_assert!((400..500).contains(&answer.status), "{:?}", answer);
    prop_assert_eq!(answer.header("content-type"), "application/problem+json");
    let said = answer.json();
    for field in ["type", "title", "code", "detail", "request_id", "instance"] {
        let text = said[field].as_str().unwrap_or_default();
        prop_assert!(!text.is_empty(), "{}: {}", field, said);
    }
    prop_assert_eq!(&said["status"], answer.status);
    Ok(())
}

/// Text that a request line can carry, percent signs and all. What it cannot carry is no HTTP: a bare 400.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9%&=+.,:;!$'()*@/_~-]{0,60}",
        "(after|participant|open|x)=[A-Za-z0-9%+.,:;_~-]{0,30}(&(after|open)=[0-9a-z%]{0,20}){0,3}",
        "0x[0-9a-fA-F]{60,68}",
    ]
}

#[test]
fn any_path_and_query_is_answered() {
    let mut stage = Stage::up("max_requests_each = 1000000\nmax_reading_each = \"1000s\"");
    let routes = prop::sample::select(vec![
        "/v1/sessions?",
        "/v1/sessions/",
        "/v1/requests/",
        "/v1/evidence/",
        "/v1/",
        "/",
    ]);
    run(&(routes, text()), |(route, text)| {
        let answer = stage.get(2, &format!("{route}{text}"));
        // A read of what there is not is a refusal of the contract, in words; every other has its 4xx.
        match answer.status {
            200 => Ok(()),
            502 if route == "/v1/requests/" => {
                prop_assert_eq!(&answer.json()["code"], "chain");
                Ok(())
            }
            _ => taught(&answer),
        }
    });
    // Without the letters that durations end with: those would be granted.
    let waits = "[a-gi-ln-rt-z0-9.,:;_~-]{1,20}";
    run(&waits, |wait| {
        taught(&stage.get(2, &format!("/v1/sessions?after=9&wait={wait}")))
    });
    stage.is_well();
}

#[test]
fn any_body_is_answered_wherever_it_is_sent() {
    let mut stage = Stage::up("max_requests_each = 1000000");
    let id = "ab".repeat(32);
    let places = prop::sample::select(vec![
        ("POST", format!("/v1/sessions/0x{id}/messages")),
        ("PUT", format!("/v1/disputes/0x{id}/evidence")),
        ("POST", "/v1/sessions/x/messages".to_owned()),
        ("POST", "/v1/version".to_owned()),
        ("DELETE", "/rpc".to_owned()),
    ]);
    let bodies = prop::collection::vec(any::<u8>(), 0..2_000);
    let headers = prop_oneof![
        Just(String::new()),
        "[ -~]{0,200}".prop_map(|v| format!("authorization: {v}\r\n")),
        "[0-9a-f]{64}".prop_map(|k| format!("authorization: Plumbline {k} {k}{k}\r\n")),
        "[ -~]{0,60}".prop_map(|v| format!("content-type: {v}\r\n")),
    ];
    run(
        &(places, bodies, headers),
        |((method, path), body, more)| {
            let mut stream = stage.connect(2);
            let more = format!("{more}connection: close\r\n");
            send(&mut stream, method, &path, &more, &body);
            taught(&Answer::read(&mut stream))
        },
    );
    stage.is_well();
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        "0x[0-9a-f]{0,70}".prop_map(Value::from),
        prop::sample::select(vec!["latest", "earliest", "pending", "safe"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        let keys = prop::sample::select(vec![
            "to",
            "from",
            "data",
            "input",
            "value",
            "gas",
            "fromBlock",
            "toBlock",
            "address",
            "topics",
            "blockHash",
            "x",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map(keys, inner, 0..6)
                .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

const METHODS: [&str; 22] = [
    "eth_chainId",
    "eth_blockNumber",
    "eth_getBlockByNumber",
    "eth_getBlockByHash",
    "eth_getTransactionByHash",
    "eth_getTransactionReceipt",
    "plumbline_founding",
    "plumbline_blocks",
    "plumbline_signedHead",
    "eth_getLogs",
    "eth_feeHistory",
    "eth_call",
    "eth_estimateGas",
    "eth_getTransactionCount",
    "eth_getBalance",
    "eth_getCode",
    "eth_getStorageAt",
    "eth_sendRawTransaction",
    "eth_accounts",
    "net_version",
    "plumbline_finality",
    "debug_x",
];

/// JSON-RPC as its specification has it: HTTP says 200, and the answer a result, or an error with code and words.
fn answered(answer: &Answer) -> Result<(), TestCaseError> {
    if answer.status != 200 {
        return taught(answer);
    }
    if answer.header("content-length") == "0" {
        return Ok(());
    }
    let said = answer.json();
    let each = said
        .as_array()
        .map_or_else(|| vec![said.clone()], Clone::clone);
    for one in each {
        let words = one["error"]["message"].as_str().unwrap_or_default();
        let refused = one["error"]["code"].is_i64() && !words.is_empty();
        prop_assert!(refused || one.get("result").is_some(), "{}", one);
        prop_assert!(!words.contains("panic"), "{}", one);
    }
    Ok(())
}

#[test]
fn any_json_rpc_is_answered() {
    let mut stage = Stage::up("max_requests_each = 1000000\nmax_reading_each = \"1000s\"");
    let post = |body: &[u8]| answered(&stage.ask(2, "POST", "/rpc", body));
    run(&prop::collection::vec(any::<u8>(), 0..500), |bytes| {
        post(&bytes)
    });
    run(&value(), |any| post(any.to_string().as_bytes()));
    let method = prop_oneof![
        9 => prop::sample::select(&METHODS[..]).prop_map(str::to_owned),
        1 => "[ -~]{0,30}",
    ];
    run(&(method, value(), value()), |(method, params, id)| {
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        post(call.to_string().as_bytes())?;
        let list = json!({ "id": 1, "method": method, "params": [params, id] });
        post(list.to_string().as_bytes())?;
        post(json!([list, call, 7]).to_string().as_bytes())
    });
    stage.is_well();
}
