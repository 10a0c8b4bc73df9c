//! Whether the contracts can work on a chain, and with a token, before anything is paid for.
//!
//! What the EVM says is asked by a call that makes a contract: its creation code runs, and what it returns is the
//! answer. Nothing is sent.

use alloy::primitives::{Address, Bytes, U64, U256};
use alloy::sol_types::SolCall;
use plumbline_contracts::abi::lab_token::LabToken;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ATTEMPT;
use super::endpoint::Endpoint;
use crate::chain::client::TRANSACTION_GAS;

/// `NUMBER`, as the 32 bytes that creation returns.
const NUMBER: &str = "0x435f5260205ff3";
/// `GAS`, likewise.
const GAS: &str = "0x5a5f5260205ff3";
/// What making a contract takes before its first instruction, and then some.
const BEGINNING: u64 = 100_000;
/// Blocks by which a node may be ahead of itself between two answers.
const SLACK: u64 = 16;
/// Most decimals that make sense: more, and a stake of one token overflows 128 bits.
const DECIMALS_MAX: u64 = 36;
/// Views of tokens whose balances change by themselves: Lido's, Aave's, Ampleforth's.
const REBASING: [(&str, &str); 3] = [
    ("sharesOf", "f5eb42dc"),
    ("scaledBalanceOf", "1da24f3e"),
    ("scaledTotalSupply", "b1bf962d"),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Block {
    gas_limit: U64,
}

async fn word(node: &Endpoint, call: &Value) -> Result<U256, String> {
    let params = json!([call, "latest"]);
    let told: Bytes = node
        .ask("eth_call", &params, ATTEMPT)
        .await
        .map_err(|fault| fault.into_words())?;
    let word = told.get(..32).filter(|_| told.len() == 32);
    let word = word.ok_or_else(|| format!("{} bytes, not a word of 32", told.len()))?;
    Ok(U256::from_be_slice(word))
}

/// Whether the contracts can work on the chain behind `node`; if not, why, in words.
pub(super) async fn chain(node: &Endpoint) -> Result<(), String> {
    let height = || async {
        let told = node
            .ask::<U64>("eth_blockNumber", &json!([]), ATTEMPT)
            .await;
        told.map(|n| n.to::<u64>()).map_err(|f| f.into_words())
    };
    let gas = format!("{TRANSACTION_GAS:#x}");
    let unprobed = |what: &str, why: String| format!("{what} cannot be found out: {why}");
    let about = |what: &'static str| move |why: String| unprobed(what, why);
    let before = height().await.map_err(about("the height"))?;
    let number = word(node, &json!({ "data": NUMBER, "gas": gas })).await;
    let number = number.map_err(about("the EVM's block number"))?;
    let after = height().await.map_err(about("the height"))?;
    let (least, most) = (before.saturating_sub(SLACK), after.saturating_add(SLACK));
    if number < U256::from(least) || number > U256::from(most) {
        return Err(format!(
            "contracts there see block {number}, the node is at block {after}: on such a chain (Arbitrum and those built like \
             it) what contracts remember of blocks cannot be found again, and they cannot work"
        ));
    }
    let block = json!(["latest", false]);
    let block: Block = node
        .ask("eth_getBlockByNumber", &block, ATTEMPT)
        .await
        .map_err(|fault| unprobed("a block's gas", fault.into_words()))?;
    let room = block.gas_limit.to::<u64>();
    if room < TRANSACTION_GAS {
        return Err(format!(
            "a block there has {room} gas; the contracts need up to {TRANSACTION_GAS} for one transaction (EIP-7825)"
        ));
    }
    let given = word(node, &json!({ "data": GAS, "gas": gas })).await;
    let given = given.map_err(about("a call's gas"))?;
    if given < U256::from(TRANSACTION_GAS - BEGINNING) {
        return Err(format!(
            "a call of {TRANSACTION_GAS} gas is given {given} there; the contracts need up to {TRANSACTION_GAS} (EIP-7825): \
             raise the node's cap, or use another node"
        ));
    }
    Ok(())
}

/// Whether the vault can hold the token, as far as asking shows; if not, why, in words.
pub(super) async fn token(node: &Endpoint, token: Address) -> Result<(), String> {
    let decimals = view(node, token, LabToken::decimalsCall {}.abi_encode()).await;
    let decimals = decimals.map_err(|why| format!("no ERC-20 with decimals: {why}"))?;
    if decimals > U256::from(DECIMALS_MAX) {
        return Err(format!(
            "it has {decimals} decimals; at most {DECIMALS_MAX} are allowed"
        ));
    }
    balance(node, token, token).await?;
    for (name, selector) in REBASING {
        let mut call = alloy::hex::decode(selector).map_err(|e| e.to_string())?;
        call.extend_from_slice(token.into_word().as_slice());
        if view(node, token, call).await.is_ok() {
            return Err(format!(
                "it answers {name}: a token whose balances change by themselves; use its wrapped form"
            ));
        }
    }
    Ok(())
}

/// What `owner` has of the token.
pub(super) async fn balance(
    node: &Endpoint,
    token: Address,
    owner: Address,
) -> Result<U256, String> {
    let call = LabToken::balanceOfCall { account: owner };
    let balance = view(node, token, call.abi_encode()).await;
    balance.map_err(|why| format!("no ERC-20: balanceOf: {why}"))
}

async fn view(node: &Endpoint, token: Address, call: Vec<u8>) -> Result<U256, String> {
    let data = Bytes::from(call);
    word(node, &json!({ "to": token, "data": data })).await
}
