//! Strangers at the door while honest sessions go on.
//!
//! ```text
//!   60 strangers, each an address of 127/8 ══ 80 MiB each ══► coordinator ◄── hosts, as ever
//!     no permit, a permit of their own, a party's key without its signature       /proc: memory
//! ```

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use plumbline::control::Permit;
use plumbline_trust::{NetworkKey, Signature, VerifyingKey};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::task::JoinSet;

use super::town::{Size, Town};
use super::{PATIENCE, QUICK, get, seed, true_and_paid, verify};

const STRANGERS: u8 = 60;
/// Bytes that each of them sends.
const BODY: usize = 80 << 20;
/// Most that the coordinator may grow by beside its own sessions: what a body of a stranger never gets.
const GROWTH: u64 = 64 << 20;

/// From 127.0.1.`host`.
fn connect(to: SocketAddr, host: u8) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 1, host), 0));
    socket.bind(&SockAddr::from(from))?;
    socket.connect(&SockAddr::from(to))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A session that is under way.
async fn session(url: &str) -> [u8; 32] {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let listed = get(&format!("{url}/v1/sessions?open=true")).await;
        if let Some(id) = listed["items"][0]["id"].as_str() {
            let mut challenge = [0; 32];
            hex::decode_to_slice(id.trim_start_matches("0x"), &mut challenge).unwrap();
            return challenge;
        }
        assert!(tokio::time::Instant::now() < until, "{listed}");
    }
}

/// Network key of somebody registered: of a party, perhaps.
async fn party(url: &str, who: &str) -> VerifyingKey {
    let known = get(&format!("{url}/v1/participants")).await;
    let mut all = known["participants"].as_array().unwrap().iter();
    let found = all.find(|p| p["address"] == who).unwrap();
    found["network_key"].as_str().unwrap().parse().unwrap()
}

/// One stranger's post of 80 MiB, as far as it is taken; what it was answered, and how much it could send.
fn post(to: SocketAddr, host: u8, challenge: [u8; 32], party: VerifyingKey) -> (String, usize) {
    let id = hex::encode(challenge);
    let permit = |length: usize| match host % 3 {
        // None at all, one of its own, and one by the prover that the prover did not sign.
        0 => String::new(),
        1 => {
            let own = NetworkKey::from_secret(&[host; 32]);
            let own = Permit::new(&own, &challenge, length as u64);
            format!("authorization: {own}\r\n")
        }
        _ => {
            let forged = Permit {
                key: party,
                signature: Signature([host; 64]),
            };
            format!("authorization: {forged}\r\n")
        }
    };
    // Half of them say a length that is no reason by itself; all send as much as is taken.
    let length = if host.is_multiple_of(2) { BODY } else { 4_000 };
    let mut stream = connect(to, host).unwrap();
    let head = format!(
        "POST /v1/sessions/0x{id}/messages HTTP/1.1\r\nhost: c\r\nconnection: close\r\n{}content-length: {length}\r\n\r\n",
        permit(length)
    );
    let mut ear = stream.try_clone().unwrap();
    let heard = std::thread::spawn(move || {
        let mut line = [0; 12];
        let read = ear.read_exact(&mut line);
        read.map_or_else(
            |e| e.to_string(),
            |()| String::from_utf8_lossy(&line).into_owned(),
        )
    });
    stream.write_all(head.as_bytes()).unwrap();
    let piece = [7; 64 << 10];
    let mut sent = 0;
    while sent < BODY && stream.write_all(&piece).is_ok() {
        sent += piece.len();
    }
    (heard.join().unwrap(), sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cost_little_memory_and_disturb_no_session() {
    let size = Size {
        provers: 2,
        ..QUICK
    };
    let town = Town::open(size, seed()).await;
    // Without them first: how these sessions end.
    let quiet = town.in_turn().await;
    true_and_paid(&town, size, &quiet);
    let to: SocketAddr = town.url.trim_start_matches("http://").parse().unwrap();
    let prover = party(&town.url, &town.claims[0].prover.to_string()).await;
    let before = town.usage().rss_bytes;
    town.forget_peak();
    let strangers = async {
        let challenge = session(&town.url).await;
        let mut all = JoinSet::new();
        for host in 1..=STRANGERS {
            all.spawn_blocking(move || post(to, host, challenge, prover));
        }
        all.join_all().await
    };
    let (under_fire, met) = tokio::join!(town.at_once(), strangers);
    true_and_paid(&town, size, &under_fire);
    let grown = town.usage().peak_bytes.saturating_sub(before);
    let sent: usize = met.iter().map(|(_, sent)| sent).sum();
    println!(
        "{} strangers sent {} MiB; the coordinator grew by {} MiB at most",
        met.len(),
        sent >> 20,
        grown >> 20
    );
    for (answer, _) in &met {
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(grown < GROWTH, "{} MiB", grown >> 20);
    verify::says_what_was_compared(&town).await;
}
