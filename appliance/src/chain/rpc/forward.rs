//! What participants ask the coordinator of, handed on to the chain: as much as the embedded engine
//! answers, no larger, and nothing else of a node.

use serde_json::{Value, json};

use super::{Endpoints, EndpointsError};
use crate::chain::caller::{Caller, seconds};
use crate::chain::embedded::{MAX_BATCH, MAX_REQUEST_BYTES};

/// What a coordinator answers by itself: when a block counts as settled.
pub const FINALITY_METHOD: &str = "plumbline_finality";

/// What is handed on: the methods of the embedded engine.
const METHODS: [&str; 22] = [
    "eth_accounts",
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getCode",
    "eth_getLogs",
    "eth_getStorageAt",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_maxPriorityFeePerGas",
    "eth_sendRawTransaction",
    "eth_syncing",
    "net_version",
    "web3_clientVersion",
    FINALITY_METHOD,
];

/// JSON-RPC: the request is not one.
const MALFORMED: i64 = -32_600;
/// JSON-RPC: no such method here.
const UNKNOWN: i64 = -32_601;
/// JSON-RPC: not JSON.
const NOT_JSON: i64 = -32_700;
/// Ethereum's JSON-RPC: too much is asked for.
const LIMIT: i64 = -32_005;

impl Endpoints {
    /// Answers a request, or a batch of them, given as bytes. Empty when there is nothing to answer.
    ///
    /// # Errors
    /// No endpoint answers: whoever asked can try again later.
    pub async fn serve(&self, request: &[u8], caller: &Caller) -> Result<Vec<u8>, EndpointsError> {
        let answer = if request.len() > MAX_REQUEST_BYTES {
            let told = format!(
                "the request has {} bytes; at most {MAX_REQUEST_BYTES} are allowed",
                request.len()
            );
            refusal(&Value::Null, LIMIT, &told)
        } else {
            match serde_json::from_slice(request) {
                Ok(Value::Array(batch)) => self.batch(batch, caller).await?,
                Ok(one) => self.one(one, caller).await?,
                Err(e) => refusal(&Value::Null, NOT_JSON, &e.to_string()),
            }
        };
        Ok(if answer.is_null() {
            Vec::new()
        } else {
            answer.to_string().into_bytes()
        })
    }

    async fn batch(&self, batch: Vec<Value>, caller: &Caller) -> Result<Value, EndpointsError> {
        if batch.is_empty() {
            return Ok(refusal(&Value::Null, MALFORMED, "the batch is empty"));
        }
        if batch.len() > MAX_BATCH {
            let told = format!(
                "the batch has {} requests; at most {MAX_BATCH} are allowed",
                batch.len()
            );
            return Ok(refusal(&Value::Null, LIMIT, &told));
        }
        let mut answers = Vec::with_capacity(batch.len());
        for request in batch {
            let answer = self.one(request, caller).await?;
            if !answer.is_null() {
                answers.push(answer);
            }
        }
        Ok(if answers.is_empty() {
            Value::Null
        } else {
            Value::Array(answers)
        })
    }

    async fn one(&self, request: Value, caller: &Caller) -> Result<Value, EndpointsError> {
        let id = request.get("id").cloned();
        let answer = match request.get("method").and_then(Value::as_str) {
            // Whoever sent it meant something: this is no notification.
            None => {
                let words = "method is missing or no string";
                return Ok(refusal(&id.unwrap_or_default(), MALFORMED, words));
            }
            Some(FINALITY_METHOD) => {
                json!({ "jsonrpc": "2.0", "id": id, "result": self.finality() })
            }
            Some(method) if METHODS.contains(&method) => {
                if let Err(wait) = caller.request(1) {
                    let told = format!(
                        "this address asks for more than its share; ask again in {} s",
                        seconds(wait)
                    );
                    return Ok(refusal(&id.unwrap_or_default(), LIMIT, &told));
                }
                let answer = self.exchange(request.to_string().as_bytes()).await?;
                if id.is_none() {
                    return Ok(Value::Null);
                }
                serde_json::from_slice(&answer)
                    .map_err(|e| self.none(&[format!("an answer to {method} is not JSON: {e}")]))?
            }
            Some(method) => refusal(
                &id.clone().unwrap_or_default(),
                UNKNOWN,
                &format!("{method} is not served here"),
            ),
        };
        Ok(if id.is_some() { answer } else { Value::Null })
    }
}

fn refusal(id: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::caller::Quota;
    use crate::chain::finality::Finality;
    use crate::chain::rpc::Options;
    use crate::chain::rpc::endpoint::Endpoint;
    use std::sync::Arc;
    use std::time::Duration;

    /// Nobody listens there: what is answered is answered without a node.
    fn alone() -> Endpoints {
        Endpoints {
            list: vec![Arc::new(Endpoint::new("http://127.0.0.1:9", 1).unwrap())],
            preferred: 0.into(),
            chain_id: 1,
            options: Options::new(Finality::Depth(3)),
            dispute: None.into(),
        }
    }

    fn caller() -> Caller {
        Caller::new(Quota {
            requests_a_second: 1_000,
            reading_a_second: Duration::from_secs(1),
            newcomers_gas: 1,
        })
    }

    async fn ask(request: &str) -> Value {
        let answer = alone().serve(request.as_bytes(), &caller()).await.unwrap();
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    #[tokio::test]
    async fn what_is_not_served_is_refused_here() {
        let told = ask(r#"{"id":1,"method":"anvil_reorg","params":[1,[]]}"#).await;
        assert_eq!(told["error"]["code"], UNKNOWN);
        assert_eq!(ask(r#"{"id":1}"#).await["error"]["code"], MALFORMED);
        assert_eq!(ask("[]").await["error"]["code"], MALFORMED);
        assert_eq!(ask("{").await["error"]["code"], NOT_JSON);
        assert_eq!(ask(r#"{"method":"debug_x"}"#).await, Value::Null);
        let one = r#"{"id":5,"method":"plumbline_finality"}"#;
        assert_eq!(ask(one).await["result"], 3);
        let batch = |n: usize| format!("[{}]", vec![one; n].join(","));
        assert_eq!(ask(&batch(MAX_BATCH)).await[MAX_BATCH - 1]["result"], 3);
        assert_eq!(ask(&batch(MAX_BATCH + 1)).await["error"]["code"], LIMIT);
        let long = format!("\"{}\"", "x".repeat(MAX_REQUEST_BYTES - 1));
        assert_eq!(ask(&long).await["error"]["code"], LIMIT);
        let fits = format!("\"{}\"", "x".repeat(MAX_REQUEST_BYTES - 2));
        assert_eq!(ask(&fits).await["error"]["code"], MALFORMED);
    }

    #[tokio::test]
    async fn a_chain_that_cannot_be_reached_is_no_answer() {
        let request = br#"{"id":1,"method":"eth_chainId"}"#;
        let told = alone()
            .serve(request, &caller())
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains("http://127.0.0.1:9"), "{told}");
    }
}
