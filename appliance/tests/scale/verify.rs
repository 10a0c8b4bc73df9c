//! `plumbline verify`, on a bundle of a real session beside the chain that it is of, and beside another.

use std::path::Path;
use std::process::Command;

use plumbline::chain::ChainClient;
use plumbline::keyfile::Keys;
use plumbline::role::dispute;
use plumbline_proof::backhaul::bundle::{self, Bundle};
use plumbline_proof::backhaul::judge::judge;
use plumbline_proof::backhaul::messages::Notice;
use plumbline_proof::backhaul::record::Record;
use plumbline_trust::Signed;
use plumbline_trust::encoding::decode;
use serde_json::Value;

use super::get;
use super::town::Town;

/// The command with `--json`: its exit code and its document.
fn verify(file: &Path, more: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .arg("verify")
        .arg(file)
        .args(more)
        .arg("--json")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(said));
    (output.status.code().unwrap(), document)
}

#[track_caller]
fn compared<'a>(document: &'a Value, what: &str) -> &'a Value {
    let all = document["compared"].as_array().unwrap();
    all.iter().find(|c| c["what"] == what).unwrap()
}

pub(crate) async fn says_what_was_compared(town: &Town) {
    let file = town.bundle("turn", 0);
    let deployment = file.with_extension("deployment");
    let mut contracts = get(&format!("{}/v1/deployment", town.url)).await;
    std::fs::write(&deployment, contracts.to_string()).unwrap();
    let known = deployment.display().to_string();
    let rpc = format!("{}/rpc", town.url);

    // By itself it holds, and nothing was compared.
    let (code, alone) = verify(&file, &[]);
    assert_eq!((code, &alone["verify"]), (0, &"ok".into()), "{alone}");
    assert_eq!(alone["chain"], "not_compared", "{alone}");
    for what in ["chain_id", "contract", "request", "prover", "bundle_hash"] {
        let found = compared(&alone, what);
        assert!(
            found["same"].is_null() && found["with"].is_null(),
            "{found}"
        );
    }
    let human = Command::new(env!("CARGO_BIN_EXE_plumbline"));
    let human = { human }.arg("verify").arg(&file).output().unwrap();
    let human = String::from_utf8_lossy(&human.stdout).into_owned();
    assert!(human.contains("not compared with any chain"), "{human}");

    // Beside its chain.
    let prover = town.claims[0].prover.to_string();
    let all = [
        "--deployment",
        &known,
        "--rpc",
        &rpc,
        "--expect-prover",
        &prover,
    ];
    let (code, beside) = verify(&file, &all);
    assert_eq!((code, &beside["chain"]), (0, &"agrees".into()), "{beside}");
    for what in [
        "chain_id",
        "contract",
        "request",
        "prover",
        "draw",
        "setup",
        "record",
        "result",
        "bundle_hash",
    ] {
        assert_eq!(compared(&beside, what)["same"], true, "{what}: {beside}");
    }

    // A payer believes no record but that of its measurement, whatever it says of itself.
    let keys = Keys::create(&file.with_extension("reader")).unwrap();
    let deployment_of_chain = serde_json::from_value(contracts.clone()).unwrap();
    let chain = ChainClient::connect_http(&rpc, keys.signer(), deployment_of_chain).await;
    let chain = chain.unwrap();
    let record = || {
        bundle::verify(&std::fs::read(&file).unwrap())
            .record
            .unwrap()
    };
    let id = record().notice.message.challenge.into();
    dispute::is_of(&chain, id, &record()).await.unwrap();
    type Bend = fn(&mut Notice);
    let bent: [(Bend, &str); 3] = [
        (|n| n.deadline += 1, "deadline"),
        (|n| n.prover.key.0[0] ^= 1, "network keys"),
        (|n| n.terms.claim_bps += 1, "terms"),
    ];
    for (bend, word) in bent {
        let mut other = record();
        bend(&mut other.notice.message);
        let told = dispute::is_of(&chain, id, &other).await.unwrap_err();
        assert!(told.to_string().contains(word), "{told}");
    }

    // Whose link is it?
    let other = town.claims[1].prover.to_string();
    let (code, others) = verify(&file, &["--expect-prover", &other]);
    assert_eq!((code, &others["verify"]), (1, &"ok".into()), "{others}");
    assert_eq!(compared(&others, "prover")["same"], false, "{others}");

    // The same session, with a line less: it replays, its coordinator could have signed it, and the chain has another.
    let invented = file.with_extension("invented");
    std::fs::write(&invented, shorter(&std::fs::read(&file).unwrap(), town)).unwrap();
    let (code, held) = verify(&invented, &[]);
    assert_eq!(
        (code, &held["verify"], &held["chain"]),
        (0, &"ok".into(), &"not_compared".into()),
        "{held}"
    );
    let (code, found) = verify(&invented, &["--deployment", &known, "--rpc", &rpc]);
    assert_eq!((code, &found["chain"]), (1, &"differs".into()), "{found}");
    assert_eq!(compared(&found, "bundle_hash")["same"], false, "{found}");
    assert_eq!(compared(&found, "request")["same"], true, "{found}");

    // Another deployment, without a chain.
    contracts["backhaul"] = format!("0x{}", "07".repeat(20)).into();
    std::fs::write(&deployment, contracts.to_string()).unwrap();
    let (code, elsewhere) = verify(&file, &["--deployment", &known]);
    assert_eq!(
        (code, &elsewhere["chain"]),
        (1, &"not_compared".into()),
        "{elsewhere}"
    );
    assert_eq!(
        compared(&elsewhere, "contract")["same"],
        false,
        "{elsewhere}"
    );
    // A node that has no such contracts, and one that nobody answers at.
    assert_eq!(verify(&file, &["--deployment", &known, "--rpc", &rpc]).0, 5);
    assert_eq!(
        verify(
            &file,
            &["--deployment", &known, "--rpc", "http://127.0.0.1:9"]
        )
        .0,
        4
    );
    assert_eq!(verify(&file, &["--rpc", &rpc]).0, 2);
}

/// Bytes before a bundle's body, and after it.
const AROUND: (usize, usize) = (20, 32);

/// The bundle without its last line, judged and signed again by the coordinator.
fn shorter(bytes: &[u8], town: &Town) -> Vec<u8> {
    let file = town
        .bundle("coordinator", 0)
        .with_file_name("coordinator.key");
    let keys = Keys::load(&file).unwrap();
    let signed: Signed = decode(&bytes[AROUND.0..bytes.len() - AROUND.1]).unwrap();
    let mut log = signed.open::<Bundle>().unwrap().log;
    log.pop();
    let judgement = judge(&Record::read(&log).unwrap());
    bundle::write(&keys.network, &Bundle { log, judgement }).0
}
