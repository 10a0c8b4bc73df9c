//! Strangers at the door while honest sessions go on.
//!
//! ```text
//!   60 strangers, each an address of 127/8 ══ 80 MiB each, again and again ══► coordinator ◄── hosts, as ever
//!     no permit, a permit of their own, a party's key without its signature       /proc: memory
//! ```

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use plumbline::control::Permit;
use plumbline_trust::{NetworkKey, Signature};
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

use super::town::{Size, Town};
use super::{QUICK, seed, true_and_paid, verify};

const STRANGERS: u8 = 60;
/// Bytes that each of them sends.
const BODY: usize = 80 << 20;
/// Most that the coordinator may grow by beside its own sessions: what a body of a stranger never gets.
const GROWTH: u64 = 64 << 20;

/// What the strangers met.
#[derive(Default)]
struct Met {
    refused: AtomicU64,
    sent: AtomicU64,
}

/// From 127.0.1.`host`.
fn connect(to: SocketAddr, host: u8) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0));
    socket.bind(&SockAddr::from(from))?;
    socket.connect(&SockAddr::from(to))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// A session that is open now, and the key of a party of it.
fn session(url: &str, runtime: &tokio::runtime::Handle) -> Option<(String, String)> {
    runtime.block_on(async {
        let listed: Value = reqwest::get(format!("{url}/v1/sessions"))
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        let items = listed["items"].as_array()?;
        let open = items.iter().find(|s| s["state"] != "final")?;
        let id = open["id"].as_str()?.to_owned();
        let known: Value = reqwest::get(format!("{url}/v1/participants"))
            .await
            .ok()?
            .json()
            .await
            .ok()?;
        let all = known["participants"].as_array()?;
        let prover = all.iter().find(|p| p["address"] == open["prover"])?;
        Some((id, prover["network_key"].as_str()?.to_owned()))
    })
}

/// One stranger's post of 80 MiB, as far as it is taken.
fn post(to: SocketAddr, host: u8, id: &str, party: &str, met: &Met) {
    let own = NetworkKey::from_secret(&[host; 32]);
    let mut challenge = [0; 32];
    let _odd = hex::decode_to_slice(id.trim_start_matches("0x"), &mut challenge);
    let own = Permit::new(&own, &challenge, BODY as u64);
    let forged = Permit {
        key: party.parse().unwrap_or(own.key),
        signature: Signature([host; 64]),
    };
    // A third has no permit, a third one of its own, a third says to be the prover. Half are short enough for
    // their length alone to be no reason.
    let (permit, length) = match host % 6 {
        0 => (String::new(), BODY),
        1 => (format!("authorization: {own}\r\n"), BODY),
        2 => (format!("authorization: {forged}\r\n"), BODY),
        3 => (String::new(), 20_000),
        4 => (format!("authorization: {own}\r\n"), 20_000),
        _ => (format!("authorization: {forged}\r\n"), 20_000),
    };
    let Ok(mut stream) = connect(to, host) else {
        return;
    };
    let head = format!(
        "POST /v1/sessions/{id}/messages HTTP/1.1\r\nhost: c\r\nconnection: close\r\n{permit}content-length: {length}\r\n\r\n"
    );
    if stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    // All of it, whatever was announced.
    let piece = [7; 64 << 10];
    for _ in 0..BODY / piece.len() {
        if stream.write_all(&piece).is_err() {
            break;
        }
        met.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    let mut answer = [0; 12];
    if stream.read_exact(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 4") {
        met.refused.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cost_little_memory_and_disturb_no_session() {
    let size = Size {
        provers: 2,
        ..QUICK
    };
    let town = Town::open(size, seed()).await;
    // Without them first: what the sessions themselves take.
    let quiet = town.in_turn().await;
    true_and_paid(&town, size, &quiet);
    let before = town.usage().rss_bytes;
    let to: SocketAddr = town.url.trim_start_matches("http://").parse().unwrap();
    let (met, stop, most) = (Met::default(), AtomicBool::new(false), AtomicU64::new(0));
    let runtime = tokio::runtime::Handle::current();
    let under_fire = std::thread::scope(|threads| {
        for host in 1..=STRANGERS {
            let (met, stop, runtime, url) = (&met, &stop, &runtime, &town.url);
            threads.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // No session: one that nobody knows.
                    let nobody = || (format!("0x{}", "ab".repeat(32)), "00".repeat(32));
                    let (id, party) = session(url, runtime).unwrap_or_else(nobody);
                    post(to, host, &id, &party, met);
                }
            });
        }
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(town.usage().rss_bytes, Ordering::Relaxed);
                std::thread::yield_now();
            }
        });
        let round = tokio::task::block_in_place(|| runtime.block_on(town.at_once()));
        stop.store(true, Ordering::Relaxed);
        round
    });
    true_and_paid(&town, size, &under_fire);
    let grown = most.into_inner().saturating_sub(before);
    println!(
        "strangers: {} refusals heard, {} MiB sent; the coordinator grew by {} MiB",
        met.refused.load(Ordering::Relaxed),
        met.sent.load(Ordering::Relaxed) >> 20,
        grown >> 20
    );
    assert!(met.refused.load(Ordering::Relaxed) >= u64::from(STRANGERS));
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
    verify::says_what_was_compared(&town).await;
}
