//! Answers that are none: a node that is busy says so with an error of JSON-RPC, a page of HTML, half an answer.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// JSON-RPC of Ethereum: a limit is exceeded. Of requests, or of what one of them asks for: the words tell.
const LIMIT: i64 = -32_005;
/// HTTP's status, which some give as code.
const TOO_MANY: i64 = 429;

/// What of an answer tells whether it is one.
#[derive(Deserialize)]
struct Answer {
    error: Option<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

/// Why this is no answer; `None` if it is one, an error of the request included.
pub(super) fn excuse(answer: &[u8]) -> Option<String> {
    if answer.trim_ascii_start().first() == Some(&b'[') {
        let batch: Result<Vec<IgnoredAny>, _> = serde_json::from_slice(answer);
        return batch.err().map(|e| format!("no JSON: {e}"));
    }
    match serde_json::from_slice::<Answer>(answer) {
        Ok(Answer { error: Some(told) }) if is_busy(&told) => {
            Some(format!("busy: {} (code {})", told.message, told.code))
        }
        Ok(_) => None,
        Err(e) => Some(format!("no JSON-RPC: {e}")),
    }
}

/// Whether another node, or the same one later, may answer. Nodes agree on neither codes nor words.
fn is_busy(told: &Told) -> bool {
    let words = told.message.to_lowercase();
    let says = |list: &[&str]| list.iter().any(|part| words.contains(part));
    // What is too large stays so wherever it is asked.
    if says(&[
        "range",
        "results",
        "logs",
        "response size",
        "too many blocks",
    ]) {
        return false;
    }
    [LIMIT, TOO_MANY].contains(&told.code)
        || says(&[
            "too many requests",
            "rate limit",
            "request limit",
            "limit exceeded",
            "capacity",
            "busy",
            "overloaded",
            "temporarily",
            "try again",
            "timeout",
            "timed out",
            // It has not this state any more, or not yet.
            "missing trie node",
            "header not found",
            "state is not available",
            "syncing",
        ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_node_may_answer_is_no_answer_and_what_none_will_is_one() {
        let error = |code: i64, message: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"{message}"}}}}"#)
        };
        for (code, message) in [
            (
                -32_005,
                "daily request count exceeded, request rate limited",
            ),
            (429, "slow down"),
            (
                -32_000,
                "missing trie node 12ab (path ) state is not available",
            ),
            (-32_000, "header not found"),
            (-32_603, "service temporarily unavailable"),
        ] {
            assert!(
                excuse(error(code, message).as_bytes()).is_some(),
                "{message}"
            );
        }
        for (code, message) in [
            (-32_005, "query returned more than 10000 results"),
            (-32_602, "query exceeds max block range 1000"),
            (-32_000, "already known"),
            (-32_000, "replacement transaction underpriced"),
            (-32_000, "nonce too low"),
            (3, "execution reverted"),
            (-32_601, "the method does not exist"),
        ] {
            assert_eq!(excuse(error(code, message).as_bytes()), None, "{message}");
        }
        assert_eq!(excuse(br#"{"jsonrpc":"2.0","id":1,"result":null}"#), None);
        assert_eq!(
            excuse(br#"[{"jsonrpc":"2.0","id":1,"result":"0x1"}]"#),
            None
        );
        for torn in [
            "<!DOCTYPE html><html></html>",
            r#"{"jsonrpc":"2.0","id":1,"res"#,
            r#"[{"jsonrpc":"2.0","id":1,"#,
            "",
        ] {
            assert!(excuse(torn.as_bytes()).is_some(), "{torn}");
        }
    }
}
