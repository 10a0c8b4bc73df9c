//! Connections and requests of one address, and of all.

use std::time::Instant;

use crate::stage::{Answer, PATIENCE, Stage, send};

#[test]
fn connections_of_an_address_and_of_all_have_both_sides() {
    let mut stage = Stage::up("max_connections = 4\nmax_connections_each = 2");
    let mut first = stage.connect(2);
    let second = stage.connect(2);
    let third = stage.get(2, "/healthz");
    third.problem(
        429,
        "too-many-connections",
        &["2 are open", "coordinator.max_connections_each"],
    );
    third.comes_again();
    // A connection that has its seat is served.
    send(&mut first, "GET", "/healthz", "", b"");
    assert_eq!(Answer::read(&mut first).status, 200);
    let others = [stage.connect(3), stage.connect(4)];
    let fifth = stage.get(5, "/healthz");
    fifth.problem(
        503,
        "busy",
        &["4 connections are open", "coordinator.max_connections"],
    );
    fifth.comes_again();
    drop((second, others));
    let began = Instant::now();
    while stage.get(5, "/healthz").status != 200 {
        assert!(began.elapsed() < PATIENCE, "the seats are still taken");
    }
    stage.is_well();
}

#[test]
fn who_asks_too_often_is_told_when_to_ask_again_and_others_are_not() {
    let mut stage = Stage::up("max_requests_each = 5");
    let mut refused = None;
    for _ in 0..1_000 {
        let answer = stage.get(2, "/v1/version");
        if answer.status != 200 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a thousand requests were served");
    refused.problem(
        429,
        "too-many-requests",
        &["5 requests a second", "ask again in"],
    );
    refused.comes_again();
    assert_eq!(stage.get(3, "/v1/version").status, 200);
    let began = Instant::now();
    while stage.get(2, "/v1/version").status != 200 {
        assert!(began.elapsed() < PATIENCE, "it may never ask again");
    }
    stage.is_well();
}

#[test]
fn what_nobody_wants_is_refused_by_its_head() {
    let mut stage = Stage::up("");
    let nowhere = format!("/v1/sessions/0x{}/messages", "ab".repeat(32));
    // Eighty megabytes are announced, and none of them comes.
    for (path, method, status, code) in [
        (&*nowhere, "POST", 404, "no-such-session"),
        ("/rpc", "POST", 413, "too-large"),
        ("/v1/sessions/here/messages", "POST", 400, "bad-id"),
        ("/v1/nothing", "POST", 404, "no-such-route"),
        ("/healthz", "POST", 405, "method-not-allowed"),
    ] {
        let mut stream = stage.connect(2);
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: c\r\ncontent-length: 83886080\r\n\r\n");
        std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
        Answer::read(&mut stream).problem(status, code, &[]);
    }
    let disputed = format!("/v1/disputes/0x{}/evidence", "ab".repeat(32));
    stage
        .ask(2, "PUT", &disputed, b"evidence")
        .problem(404, "no-such-dispute", &[]);
    let mut stream = stage.connect(2);
    let head = format!("PUT {disputed} HTTP/1.1\r\nhost: c\r\ncontent-length: 83886080\r\n\r\n");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    Answer::read(&mut stream).problem(413, "too-large", &["67108864"]);
    stage.is_well();
}
