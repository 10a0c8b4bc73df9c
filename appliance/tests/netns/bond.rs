//! The bond for withheld seeds, by the daemons: who began and is gone loses its bond and nothing else, and is in no
//! draw until it puts it up again; who is there answers for itself, whoever names it.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::consensus::{SignableTransaction as _, TxEip1559, TxEnvelope};
use alloy::eips::eip2718::Encodable2718 as _;
use alloy::primitives::{B256, Bytes, TxKind, U256, hex};
use alloy::signers::SignerSync as _;
use alloy::sol_types::SolCall;
use plumbline::keyfile::Keys;
use plumbline_contracts::abi::bonds::Bonds;
use plumbline_contracts::{Answer, Deployment};
use plumbline_lab::Host;
use plumbline_proof::backhaul::messages::{Ready, SeedCommitment, Statement};
use plumbline_trust::encoding::decode;
use serde_json::{Value, json};

use crate::crash::{FLOOD, INSTANT, towards_prover};
use crate::stage::{FAILED, OK, REFUSED, Stage, until};

const LINK: u64 = 100_000_000;
const ASKING: &str = "--faucet --claim 90mbit --challengers 4 --duration 400ms";
/// What a node stakes, and what of it is the bond, by default.
const STAKE: u64 = 1_000_000;
const BOND: u64 = 100;
/// Longest until a named one has answered or lost its bond.
const PURSUIT: Duration = Duration::from_secs(30);

/// Five challengers, of whom four are drawn.
fn set(seed_answer: &str) -> Stage {
    let mut stage = Stage::set(5, LINK);
    let variable = format!("seed_answer = \"{seed_answer}\"");
    stage.cast.append(Host::Coordinator, &variable).unwrap();
    stage.start_all();
    stage
}

/// Who plays under which address.
fn hosts(stage: &mut Stage) -> BTreeMap<String, Host> {
    let all = (0..5).map(Host::Challenger);
    all.map(|host| (stage.cast.address(host).unwrap(), host))
        .collect()
}

fn stake(stage: &mut Stage, address: &str) -> U256 {
    let balance = stage.chain(&["balance", address]);
    balance["stake"].as_str().unwrap().parse().unwrap()
}

fn drawn(document: &Value) -> Vec<&str> {
    let all = document["challengers"].as_array().unwrap().iter();
    all.map(|c| c["address"].as_str().unwrap()).collect()
}

fn flooding(stage: &Stage) {
    let idle = towards_prover(stage);
    until("a flood", INSTANT, || {
        (towards_prover(stage) > idle + FLOOD).then_some(())
    });
}

#[test]
fn a_challenger_that_dies_after_its_ready_loses_only_its_bond_and_is_in_no_draw_until_it_is_there_again()
 {
    let mut stage = set("3s");
    let hosts = hosts(&mut stage);
    let mut payer = stage.ask(&format!("{ASKING} --deadline 30s"));
    flooding(&stage);
    let session = stage.open_sessions().remove(0);
    let victim = session["challengers"][0].as_str().unwrap().to_owned();
    let host = hosts[&victim];
    stage.cast.kill(host).expect("it is killed");
    let outcome = stage.outcome(&mut payer);
    assert!([OK, FAILED].contains(&outcome.code), "{outcome:?}");
    let document = outcome.json();
    let first = &document["challengers"][0];
    assert_eq!(first["address"], *victim);
    assert_eq!(first["flags"], json!(["Withheld"]), "{document}");

    until("the loss of its bond", PURSUIT, || {
        (stake(&mut stage, &victim) != U256::from(STAKE)).then_some(())
    });
    assert_eq!(stake(&mut stage, &victim), U256::from(STAKE - BOND));
    let outcome = stage.measure(ASKING);
    assert_eq!(outcome.code, OK, "asked again: {outcome:?}");
    assert!(!drawn(&outcome.json()).contains(&victim.as_str()));

    // Back again, it is told what it needs.
    let config = stage.cast.config(host).display().to_string();
    let refused = stage.plumbline(host, &["run", "--config", &config]);
    assert_ne!(refused.code, OK);
    assert!(refused.words.contains("plumbline stake add"), "{refused:?}");
    let (key, url) = (stage.cast.key(host), stage.cast.coordinator().to_owned());
    let key = key.display().to_string();
    let pin = stage.cast.pin().display().to_string();
    let faucet = [
        "chain",
        "faucet",
        "--key",
        &key,
        "--amount",
        "100",
        "--coordinator",
        &url,
        "--deployment",
        &pin,
    ];
    assert_eq!(stage.plumbline(host, &faucet).code, OK);
    let add = ["stake", "add", "100", "--key", &key, "--coordinator", &url];
    let added = stage.plumbline(host, &[&add[..], &["--deployment", &pin]].concat());
    assert_eq!(added.code, OK, "{added:?}");
    stage.start(host);
    let outcome = stage.measure(&ASKING.replace("--challengers 4", "--challengers 5"));
    assert_eq!(outcome.code, OK, "{outcome:?}");
    assert!(drawn(&outcome.json()).contains(&victim.as_str()));
    stage.end();
}

/// One that lies: it has the coordinator's key, and what challengers told the coordinator.
struct Liar {
    deployment: Deployment,
    keys: Keys,
}

impl Liar {
    fn ask<T: serde::de::DeserializeOwned>(stage: &Stage, method: &str, params: &Value) -> T {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let answer = stage
            .post(
                "/rpc",
                "content-type: application/json\r\n",
                body.to_string().as_bytes(),
            )
            .json();
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        serde_json::from_value(answer["result"].clone()).unwrap()
    }

    /// Sends a transaction; whether it succeeded.
    fn send(&self, stage: &Stage, call: &impl SolCall) -> bool {
        let signer = self.keys.signer();
        let from = signer.address();
        let nonce: U256 = Self::ask(stage, "eth_getTransactionCount", &json!([from, "latest"]));
        let tx = TxEip1559 {
            chain_id: self.deployment.chain_id,
            nonce: nonce.to(),
            gas_limit: 1_000_000,
            to: TxKind::Call(self.deployment.bonds),
            input: call.abi_encode().into(),
            ..TxEip1559::default()
        };
        let signature = signer.sign_hash_sync(&tx.signature_hash()).unwrap();
        let envelope = TxEnvelope::Eip1559(tx.into_signed(signature));
        let raw = hex::encode_prefixed(envelope.encoded_2718());
        let hash: B256 = Self::ask(stage, "eth_sendRawTransaction", &json!([raw]));
        let receipt = until("a receipt", INSTANT, || {
            let receipt: Value = Self::ask(stage, "eth_getTransactionReceipt", &json!([hash]));
            (!receipt.is_null()).then_some(receipt)
        });
        receipt["status"] == "0x1"
    }

    fn answer(&self, stage: &Stage, id: B256, index: u16) -> u8 {
        let data = Bytes::from(Bonds::getCall { id, index }.abi_encode());
        let call = json!([{ "to": self.deployment.bonds, "data": data }, "latest"]);
        let found: Bytes = Self::ask(stage, "eth_call", &call);
        Bonds::getCall::abi_decode_returns(&found).unwrap().standing
    }
}

#[test]
fn an_honest_challenger_that_a_lying_coordinator_names_gives_its_seed_and_loses_nothing() {
    let mut stage = set("10s");
    let mut payer = stage.ask(&format!("{ASKING} --deadline 8s"));
    flooding(&stage);
    let session = stage.open_sessions().remove(0);
    // The measurement cannot end, and nobody has withheld anything.
    stage.cast.kill(Host::Prover).expect("it is killed");
    let id = session["id"].as_str().unwrap().to_owned();
    stage
        .outcome(&mut payer)
        .refused(REFUSED, &["timed out", "refunded"]);
    let liar = Liar {
        deployment: serde_json::from_value(stage.get("/v1/deployment").json()).unwrap(),
        keys: Keys::load(&stage.cast.key(Host::Coordinator)).unwrap(),
    };
    let lines = stage
        .get(&format!("/v1/sessions/{id}/events?after=0"))
        .json();
    let (mut seeds, mut readies) = (BTreeMap::new(), Vec::new());
    for line in lines["items"].as_array().unwrap() {
        let bytes = hex::decode(line["message"].as_str().unwrap()).unwrap();
        match decode(&bytes).unwrap() {
            Statement::SeedCommitment(s) => {
                let said: SeedCommitment = s.open().unwrap();
                seeds.insert(said.index, said.seed_hash);
            }
            Statement::Ready(s) => readies.push(s.open::<Ready>().unwrap()),
            _ => {}
        }
    }
    assert_eq!(readies.len(), 4);
    let id: B256 = id.parse().unwrap();
    for ready in &readies {
        let call = Bonds::nameCall {
            id,
            index: ready.index,
            seedHash: seeds[&ready.index].into(),
            signature: ready.settlement.clone().into(),
        };
        assert!(liar.send(&stage, &call), "the contract takes its word");
    }
    for ready in &readies {
        until("the seed on the chain", PURSUIT, || {
            let answer = liar.answer(&stage, id, ready.index);
            (answer == Answer::Given as u8).then_some(())
        });
        let (index, address) = (ready.index, session["challengers"].as_array().unwrap());
        let address = address[usize::from(index)].as_str().unwrap().to_owned();
        assert!(!liar.send(&stage, &Bonds::forfeitCall { id, index }));
        assert_eq!(stake(&mut stage, &address), U256::from(STAKE));
    }
    stage.start(Host::Prover);
    let outcome = stage.measure(&ASKING.replace("--challengers 4", "--challengers 5"));
    assert_eq!(outcome.code, OK, "all are still drawn: {outcome:?}");
    stage.end();
}
