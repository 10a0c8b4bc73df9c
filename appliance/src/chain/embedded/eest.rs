//! Ethereum's own state tests of Osaka (execution-spec-tests), each transaction through the engine's door
//! and its execution.
//!
//! Signed bytes in, as a client sends them; out come whether they are taken, logs, and the whole state
//! afterwards. Gas has no price here, so what it costs there is taken off the sender and given to the
//! beneficiary before the states are compared: the gas of each case is thereby compared to the unit.

use std::collections::BTreeMap;

use alloy::consensus::transaction::Recovered;
use alloy::consensus::{Header, Transaction as _, TxEnvelope};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use serde::Deserialize;

use super::execute::{self, Fate, Place};
use super::rpc::decode;
use super::state::{Diff, Memory, Overlay, Record};

/// The cases, one a line.
const CASES: &str = include_str!("../../../tests/vectors/eest-osaka.jsonl");
/// Chain id of all cases.
const CHAIN_ID: u64 = 1;

#[derive(Deserialize)]
struct Case {
    name: String,
    fork: String,
    env: Env,
    pre: BTreeMap<Address, Account>,
    tx: Bytes,
    /// keccak256 of the logs as RLP.
    logs: B256,
    state: BTreeMap<Address, Account>,
    exception: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Env {
    current_coinbase: Address,
    current_timestamp: U256,
    current_base_fee: U256,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Account {
    nonce: U256,
    balance: U256,
    code: Bytes,
    storage: BTreeMap<U256, U256>,
}

impl Account {
    fn is_empty(&self) -> bool {
        self.nonce.is_zero() && self.balance.is_zero() && self.code.is_empty()
    }
}

fn state_of(accounts: &BTreeMap<Address, Account>) -> Diff {
    let mut diff = Diff::default();
    for (address, account) in accounts {
        let code_hash = keccak256(&account.code);
        let record = Record {
            nonce: account.nonce.to(),
            balance: account.balance,
            code_hash,
        };
        diff.accounts.insert(*address, record);
        diff.code.insert(code_hash, account.code.clone());
        let slots = account.storage.iter();
        diff.storage
            .extend(slots.map(|(slot, value)| ((*address, *slot), *value)));
    }
    diff
}

fn accounts_of(state: &Diff) -> BTreeMap<Address, Account> {
    let mut all = BTreeMap::new();
    for (address, record) in &state.accounts {
        let slots = state
            .storage
            .range((*address, U256::ZERO)..=(*address, U256::MAX));
        let account = Account {
            nonce: U256::from(record.nonce),
            balance: record.balance,
            code: state
                .code
                .get(&record.code_hash)
                .cloned()
                .unwrap_or_default(),
            storage: slots.map(|((_, slot), value)| (*slot, *value)).collect(),
        };
        if !account.is_empty() {
            all.insert(*address, account);
        }
    }
    all
}

/// Executes the case's transaction and compares; what is not as it should be.
fn run(case: &Case, transaction: Recovered<TxEnvelope>) -> Result<(), String> {
    let mut memory = Memory::default();
    memory.apply(0, B256::ZERO, state_of(&case.pre));
    let parent = Header {
        timestamp: case.env.current_timestamp.to(),
        ..Header::default()
    };
    let place = Place::after(&parent, parent.timestamp, CHAIN_ID);
    let mut overlay = Overlay::new(&memory);
    let base_fee: u128 = case.env.current_base_fee.to();
    let price = transaction.effective_gas_price(Some(u64::try_from(base_fee).unwrap()));
    let sender = transaction.signer();
    let (executed, fates) = execute::block(&mut overlay, &place, vec![transaction]).unwrap();
    match (&fates[0], &case.exception) {
        (Fate::Included, None) => {}
        (Fate::Refused(_), Some(_)) if executed.included.is_empty() => return Ok(()),
        (fate, expected) => return Err(format!("{fate:?}, expected {expected:?}")),
    }
    let diff = overlay.into_diff();
    memory.apply(1, executed.hash, diff);
    let mut found = accounts_of(memory.state());
    let gas = u128::from(executed.included[0].gas_used);
    let payer = found.entry(sender).or_default();
    payer.balance -= U256::from(gas * price);
    let tip = U256::from(gas * (price - base_fee));
    if !tip.is_zero() {
        found.entry(case.env.current_coinbase).or_default().balance += tip;
    }
    let logs = keccak256(alloy::rlp::encode(
        executed.included[0].receipt.logs().to_vec(),
    ));
    if logs != case.logs {
        return Err("other logs".to_owned());
    }
    if found != case.state {
        return Err(format!("state {found:?}, expected {:?}", case.state));
    }
    Ok(())
}

/// `conformance` finds it by its name.
#[test]
fn conformance_the_state_tests_of_osaka_end_as_ethereum_says() {
    let (mut passed, mut refused, mut earlier) = (0, 0, 0);
    let mut wrong = Vec::new();
    for line in CASES.lines() {
        let case: Case = serde_json::from_str(line).unwrap();
        if case.fork != "Osaka" {
            // By the rules before: this engine has never had them.
            assert_eq!(case.fork, "Prague");
            earlier += 1;
            continue;
        }
        match decode(&case.tx, CHAIN_ID) {
            Ok(transaction) => match run(&case, transaction) {
                Ok(()) => passed += 1,
                Err(why) => wrong.push(format!("{}: {why}", case.name)),
            },
            // Blobs and delegations: refused on purpose, by name.
            Err(why) => {
                assert!(
                    matches!(case.tx[0], 3 | 4),
                    "{}: {}",
                    case.name,
                    why.message
                );
                assert!(why.message.contains("is not supported"), "{}", why.message);
                refused += 1;
            }
        }
    }
    println!(
        "conformance: eest-osaka: {passed} passed, {refused} refused on purpose (blobs, delegations), {earlier} of \
         earlier rules left out, {} failed",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((passed, refused, earlier), (114, 5, 6));
}
