//! Heads and bodies that come byte by byte, or not at all.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::stage::{Answer, PATIENCE, Stage};

/// Between two bytes.
const DRIP: Duration = Duration::from_millis(250);

/// Sends a byte whenever nothing came for a moment, until the connection is closed; what came, and how much was sent.
fn drip(mut stream: TcpStream, byte: u8) -> (Vec<u8>, usize) {
    stream.set_read_timeout(Some(DRIP)).unwrap();
    let (began, mut came, mut sent) = (Instant::now(), Vec::new(), 0);
    let mut piece = [0; 1024];
    loop {
        assert!(began.elapsed() < PATIENCE, "still open after {sent} bytes");
        match stream.read(&mut piece) {
            Ok(0) => return (came, sent),
            Ok(n) => came.extend_from_slice(&piece[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stream.write_all(&[byte]).is_err() {
                    return (came, sent);
                }
                sent += 1;
            }
            Err(_) => return (came, sent),
        }
    }
}

#[test]
fn who_sends_a_head_byte_by_byte_loses_its_seat_and_others_are_served() {
    let mut stage = Stage::up("max_connections = 9\nmax_connections_each = 8");
    let mut slow: Vec<TcpStream> = (0..8).map(|_| stage.connect(2)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").unwrap();
    }
    // Their address has no seat left; another has.
    stage
        .get(2, "/healthz")
        .problem(429, "too-many-connections", &["8 are open"]);
    stage.is_well();
    std::thread::scope(|threads| {
        let all: Vec<_> = slow
            .into_iter()
            .map(|stream| threads.spawn(move || drip(stream, b'x')))
            .collect();
        for one in all {
            let (came, sent) = one.join().unwrap();
            assert!(sent > 1, "closed after {sent} bytes: {came:?}");
        }
    });
    let began = Instant::now();
    while stage.get(2, "/healthz").status != 200 {
        assert!(began.elapsed() < PATIENCE, "the seats are still taken");
    }
    stage.is_well();
}

#[test]
fn who_says_nothing_loses_its_seat_too() {
    let stage = Stage::up("");
    let mut silent = stage.connect(2);
    // The read's own time-out is longer than the server waits.
    assert_eq!(silent.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn a_body_that_does_not_come_is_refused_in_words() {
    let mut stage = Stage::up("");
    let mut stream = stage.connect(2);
    let head = b"POST /rpc HTTP/1.1\r\nhost: c\r\ncontent-length: 1000\r\n\r\n{";
    stream.write_all(head).unwrap();
    Answer::read(&mut stream).problem(408, "too-slow", &["1 bytes came", "allowed"]);
    // Byte by byte: each comes in time, and all of them do not.
    let mut stream = stage.connect(2);
    stream.write_all(head).unwrap();
    let (came, sent) = drip(stream, b' ');
    let came = String::from_utf8_lossy(&came).into_owned();
    assert!(
        came.starts_with("HTTP/1.1 408"),
        "after {sent} bytes: {came:?}"
    );
    assert!(sent > 10, "{sent}");
    stage.is_well();
}
