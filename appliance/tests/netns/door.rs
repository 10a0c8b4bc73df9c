//! The coordinator's door: what is not whole, not signed by the party whose word it is, or not in its
//! place changes nothing, and is told why in a problem document.

use std::time::Duration;

use nix::sys::signal::Signal;
use plumbline::chain::embedded::MAX_REQUEST_BYTES;
use plumbline::control::Permit;
use plumbline::keyfile::Keys;
use plumbline::role::settle::Settler;
use plumbline_lab::Host;
use plumbline_proof::backhaul::messages::{
    Consent, Notice, Ready, SeedCommitment, Settlement as _, Statement,
};
use plumbline_trust::encoding::{decode, encode};
use plumbline_trust::{NetworkKey, Signed};
use serde_json::{Value, json};

use crate::http::Answer;
use crate::stage::{REFUSED, Stage, until};

/// A refusal as documented: status, media type, code, the request's id and path.
#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.kind, "application/problem+json", "{answer:?}");
    let said = answer.json();
    assert_eq!(
        (&said["code"], &said["status"]),
        (&code.into(), &status.into()),
        "{said}"
    );
    for field in ["type", "title", "detail", "request_id", "instance"] {
        assert!(
            said[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}: {said}"
        );
    }
}

/// Hands a statement over with a permit by `key`.
#[track_caller]
fn hand(stage: &Stage, door: &str, key: &NetworkKey, statement: &Statement) -> Answer {
    hand_bytes(stage, door, key, &encode(statement))
}

#[track_caller]
fn hand_bytes(stage: &Stage, door: &str, key: &NetworkKey, bytes: &[u8]) -> Answer {
    let mut id = [0; 32];
    let text = door.split('/').nth(3).expect("a session's route");
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 + 2 * at..4 + 2 * at], 16).expect("hexadecimal");
    }
    let permit = Permit::new(key, &id, bytes.len() as u64);
    stage.post(door, &format!("authorization: {permit}\r\n"), bytes)
}

/// Keys of the challengers.
fn keys(stage: &Stage) -> Vec<Keys> {
    let paths = (0..4).map(|i| stage.directory.path().join(format!("c{i}.key")));
    paths
        .map(|path| Keys::load(&path).expect("a key file"))
        .collect()
}

/// Whose statement it is, of the challengers.
fn author<'a>(keys: &'a [Keys], statement: &Statement) -> &'a NetworkKey {
    let own = |k: &&Keys| k.network.verifying() == statement.signed().key;
    &keys.iter().find(own).expect("one of ours said it").network
}

fn read(line: &Value) -> Statement {
    let hex = line["message"].as_str().expect("a message");
    let bytes: Vec<u8> = (0..hex.len() / 2)
        .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect();
    decode(&bytes).expect("a statement")
}

#[test]
fn what_is_malformed_or_signed_by_the_wrong_key_changes_nothing() {
    let mut stage = Stage::running(4, 100_000_000);
    // A prover that does not answer keeps the session where it is.
    stage
        .cast
        .process(Host::Prover)
        .expect("it runs")
        .signal(Signal::SIGSTOP);
    let mut payer = stage.ask("--faucet --claim 90mbit --challengers 4 --deadline 10s");
    let id = until(
        "a session with every seed commitment",
        Duration::from_secs(8),
        || {
            let id = stage.open_sessions().first()?["id"].as_str()?.to_owned();
            let lines = stage.get(&format!("/v1/sessions/{id}/events")).json()["items"]
                .as_array()?
                .len();
            (lines == 5).then_some(id)
        },
    );
    let events = format!("/v1/sessions/{id}/events");
    let door = format!("/v1/sessions/{id}/messages");
    let before = stage.get(&events);
    let log: Vec<Statement> = before.json()["items"]
        .as_array()
        .expect("lines")
        .iter()
        .map(read)
        .collect();

    malformed(&stage, &door, &log);
    unsigned(&stage, &door, &log);
    misplaced(&stage, &door, &log);

    let again = hand(&stage, &door, author(&keys(&stage), &log[1]), &log[1]);
    assert_eq!(
        again.status, 200,
        "the same words again are no news: {again:?}"
    );
    let beyond = stage.get(&format!("{events}?after={}", u64::MAX));
    assert_eq!(
        (beyond.status, &beyond.json()["items"]),
        (200, &json!([])),
        "{beyond:?}"
    );
    assert_eq!(stage.get(&events).body, before.body, "the log has changed");
    stage
        .outcome(&mut payer)
        .refused(REFUSED, &["timed out", "refunded"]);
    stage
        .cast
        .process(Host::Prover)
        .expect("it is stopped")
        .signal(Signal::SIGCONT);
    stage.end();
}

/// No statement at all.
#[track_caller]
fn malformed(stage: &Stage, door: &str, log: &[Statement]) {
    let keys = keys(stage);
    let own = author(&keys, &log[1]);
    problem(&stage.post(door, "", b"x"), 401, "no-permit");
    problem(
        &stage.post(door, "authorization: Bearer x\r\n", b"x"),
        401,
        "no-permit",
    );
    problem(&hand_bytes(stage, door, own, b""), 400, "bad-message");
    problem(
        &hand_bytes(stage, door, own, &[0xff; 200]),
        400,
        "bad-message",
    );
    let whole = encode(&log[1]);
    let short = &whole[..whole.len() - 1];
    problem(&hand_bytes(stage, door, own, short), 400, "bad-message");
    // A permit is for one length.
    let permit = Permit::new(own, &[0; 32], whole.len() as u64);
    let more = format!("authorization: {permit}\r\n");
    problem(&stage.post(door, &more, &whole), 403, "bad-signature");
    // Longer than any statement of this session, and than this kind.
    problem(
        &hand_bytes(stage, door, own, &vec![0; 2 << 20]),
        413,
        "too-large",
    );
    let mut long = whole.clone();
    long[33..37].copy_from_slice(&10_000u32.to_le_bytes());
    long.resize(10_000 + Statement::AROUND, 0);
    problem(&hand_bytes(stage, door, own, &long), 422, "bad-field");
    let unknown = format!("/v1/sessions/0x{}/messages", "ab".repeat(32));
    problem(&stage.post(&unknown, "", b"x"), 404, "no-such-session");
    problem(
        &stage.post("/v1/sessions/here/messages", "", b"x"),
        400,
        "bad-id",
    );
    problem(
        &stage.post("/healthz", "", b"{}"),
        405,
        "method-not-allowed",
    );
    problem(&stage.get("/v1/nothing"), 404, "no-such-route");
    problem(&stage.get("/v1/sessions?wait=soon"), 400, "bad-wait");
    problem(&stage.get("/v1/sessions?after=-1"), 400, "bad-request");
    problem(
        &stage.post("/rpc", "", &vec![b' '; MAX_REQUEST_BYTES + 1]),
        413,
        "too-large",
    );
}

/// Not the word of whom it should be.
#[track_caller]
fn unsigned(stage: &Stage, door: &str, log: &[Statement]) {
    let Statement::SeedCommitment(said) = &log[1] else {
        panic!("{:?}", log[1])
    };
    let keys = keys(stage);
    let own = author(&keys, &log[1]);
    for at in [0, said.body.len() / 2, said.body.len() - 1] {
        let mut bent = said.clone();
        bent.body[at] ^= 1;
        problem(
            &hand(stage, door, own, &Statement::SeedCommitment(bent)),
            403,
            "bad-signature",
        );
    }
    // Whole and signed, by a stranger.
    let stranger = NetworkKey::from_secret(&[7; 32]);
    let message: SeedCommitment = said.open().expect("it is signed");
    let consent = Consent {
        challenge: message.challenge,
        data: message.data,
        control: message.control,
        ephemeral: message.ephemeral,
        cap_packets: 1,
        until_ns: 1,
        senders: Vec::new(),
    };
    problem(
        &hand(
            stage,
            door,
            &stranger,
            &Statement::Consent(Signed::new(&stranger, &consent)),
        ),
        403,
        "wrong-author",
    );
    problem(
        &hand(
            stage,
            door,
            &stranger,
            &Statement::SeedCommitment(Signed::new(&stranger, &message)),
        ),
        403,
        "wrong-author",
    );
    // With a party's permit they are a stranger's words all the same.
    problem(
        &hand(
            stage,
            door,
            own,
            &Statement::SeedCommitment(Signed::new(&stranger, &message)),
        ),
        403,
        "wrong-author",
    );
    // A signature for one kind of statement is none for another.
    problem(
        &hand(stage, door, own, &Statement::Ready(said.clone())),
        403,
        "bad-signature",
    );
}

/// The right party's word, but not here, not now, or not twice.
#[track_caller]
fn misplaced(stage: &Stage, door: &str, log: &[Statement]) {
    let Statement::SeedCommitment(said) = &log[1] else {
        panic!("{:?}", log[1])
    };
    let message: SeedCommitment = said.open().expect("it is signed");
    let keys = keys(stage);
    let own = author(&keys, &log[1]);
    let post = |message: &SeedCommitment| {
        let statement = Statement::SeedCommitment(Signed::new(own, message));
        hand(stage, door, own, &statement)
    };
    problem(
        &post(&SeedCommitment {
            seed_hash: [1; 32],
            ..message.clone()
        }),
        409,
        "conflict",
    );
    problem(
        &post(&SeedCommitment {
            challenge: [2; 32],
            ..message.clone()
        }),
        409,
        "other-challenge",
    );
    let next = (message.index + 1) % 4;
    problem(
        &post(&SeedCommitment {
            index: next,
            ..message.clone()
        }),
        403,
        "wrong-author",
    );
    problem(
        &post(&SeedCommitment {
            index: 4,
            ..message.clone()
        }),
        422,
        "bad-field",
    );
    // A Ready by which the chain would name nobody. One that the contract takes is only too early here.
    let notice: Notice = log[0].signed().open().expect("it is signed");
    let whole = keys
        .iter()
        .find(|k| k.network.verifying() == own.verifying());
    let settler = Settler::new(whole.expect("one of ours").signer());
    let other = SeedCommitment {
        seed_hash: [1; 32],
        ..message.clone()
    };
    for (settlement, status, code) in [
        (Vec::new(), 422, "bad-field"),
        (vec![0x5a; 65], 422, "bad-field"),
        (settler.sign_begin(&notice, &other), 422, "bad-field"),
        (settler.sign_begin(&notice, &message), 409, "too-early"),
    ] {
        let ready = Ready {
            challenge: message.challenge,
            index: message.index,
            rho_ns: 1,
            reached: None,
            settlement,
        };
        let ready = Statement::Ready(Signed::new(own, &ready));
        problem(&hand(stage, door, own, &ready), status, code);
    }
    // Only the coordinator opens a session, and not through the door.
    let coordinator = stage.directory.path().join("coordinator.key");
    let coordinator = Keys::load(&coordinator).expect("a key file");
    problem(
        &hand(stage, door, &coordinator.network, &log[0]),
        409,
        "conflict",
    );
}
