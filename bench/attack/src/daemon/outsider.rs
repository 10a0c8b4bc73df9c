//! Somebody off the path: packets in a challenger's name, or from nowhere, while a session's flood is on.
//!
//! It knows what anyone can learn: the session's log. It does not know the session keys.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use alloy::signers::local::PrivateKeySigner;
use anyhow::{Context, Result, bail};
use plumbline::chain::ChainClient;
use plumbline::clock;
use plumbline::control::client::{Api, ApiError};
use plumbline_attack::switch::Attack;
use plumbline_proof::backhaul::messages::{
    ChallengeId, Consent, Notice, Sender, Start, Statement, session_of,
};
use plumbline_wire::header::{DATA_LEN, Header, Kind};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

/// Longest wait for a session to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest poll for a session's next lines.
const POLL: Duration = Duration::from_secs(5);
/// Between two looks for a session.
const LOOK: Duration = Duration::from_millis(20);
/// Who spends a consent is quiet so long before T0, ns: what it sends then would only be cross traffic.
const QUIET_NS: u64 = 50_000_000;
/// Protocol number of a raw socket that is given whole IP packets.
const RAW: i32 = 255;
/// Bytes of the headers in front of the payload.
const HEADERS: usize = 28;

/// What is sent.
#[derive(Debug, clap::Args)]
pub(super) struct Sends {
    /// The coordinator's API.
    #[arg(long)]
    coordinator: String,
    /// How many packets, over one duration of the measurement; what spends a consent is as many as that allows,
    /// or as there is time for before the challenger begins.
    #[arg(long, default_value_t = 2000)]
    packets: u32,
}

/// A session whose flood is about to begin.
struct Target {
    challenge: ChallengeId,
    to: SocketAddrV4,
    senders: Vec<Sender>,
    t0_ns: u64,
    duration_ns: u64,
    cap_packets: u64,
}

pub(super) fn send(args: &Sends, attack: Attack) -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(RAW)))
        .context("a raw socket needs root, or CAP_NET_RAW")?;
    socket.set_header_included_v4(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let target = runtime.block_on(find(&args.coordinator))?;
    let spends = attack == Attack::SpentConsent;
    let packets = if spends {
        u32::try_from(target.cap_packets).unwrap_or(u32::MAX)
    } else {
        args.packets
    };
    let gap_ns = target.duration_ns / u64::from(packets.max(1));
    let mut sent = 0u64;
    for number in 0..packets {
        let due = if spends {
            0
        } else {
            target.t0_ns + u64::from(number) * gap_ns
        };
        if spends && clock::realtime_ns() + QUIET_NS > target.t0_ns {
            break;
        }
        std::thread::sleep(Duration::from_nanos(
            due.saturating_sub(clock::realtime_ns()),
        ));
        let packet = packet(&target, attack, number)?;
        socket
            .send_to(&packet, &SocketAddr::V4(target.to).into())
            .context("cannot send")?;
        sent += 1;
    }
    println!("{:#}", json!({"attack": attack.name(), "sent": sent}));
    Ok(())
}

/// The next measurement that anybody asks for from now on.
async fn find(coordinator: &str) -> Result<Target> {
    let api = Api::new(coordinator)?;
    let anyone = PrivateKeySigner::random();
    let chain = ChainClient::connect_http(&api.rpc_url(), anyone, api.deployment().await?).await?;
    let mut next = chain.settled_height().await? + 1;
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let head = chain.settled_height().await?;
        if next <= head {
            if let Some(id) = chain.requests_between(next, head).await?.first() {
                return follow(&api, id.0).await;
            }
            next = head + 1;
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!(
        "nobody asked for a measurement within {} s",
        PATIENCE.as_secs()
    )
}

async fn follow(api: &Api, challenge: ChallengeId) -> Result<Target> {
    let began = Instant::now();
    let (mut notice, mut consent, mut next) = (None, None, 0);
    loop {
        let (statements, after) = match api.events(&challenge, next, POLL).await {
            Ok(told) => told,
            // Not drawn yet: there is no session.
            Err(ApiError::Refused { status: 404, .. }) if began.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        next = after;
        for statement in statements {
            match statement {
                Statement::Notice(s) => notice = Some(s.open::<Notice>()?),
                Statement::Consent(s) => consent = Some(s.open::<Consent>()?),
                Statement::Start(s) => {
                    let start: Start = s.open()?;
                    let (Some(notice), Some(consent)) = (notice, consent) else {
                        bail!("a start without a notice and a consent");
                    };
                    let SocketAddr::V4(to) = consent.data else {
                        bail!("the prover is at {}; this sends over IPv4", consent.data);
                    };
                    return Ok(Target {
                        challenge,
                        to,
                        senders: consent.senders,
                        t0_ns: start.t0_ns,
                        duration_ns: notice.terms.duration_ns(),
                        cap_packets: consent.cap_packets,
                    });
                }
                _ => {}
            }
        }
    }
}

/// A whole IP packet. The kernel fills in its length and checksum.
fn packet(target: &Target, attack: Attack, number: u32) -> Result<Vec<u8>> {
    let turn = match attack {
        Attack::SpentConsent => 0,
        _ => usize::try_from(number)? % target.senders.len().max(1),
    };
    let sender = target.senders.get(turn).context("nobody is consented to")?;
    let source = match (attack, sender.data) {
        (Attack::SpoofedSource, SocketAddr::V4(honest)) => {
            // The right port, and an address of nobody.
            SocketAddrV4::new(Ipv4Addr::new(10, 77, 250, 2), honest.port())
        }
        (_, SocketAddr::V4(honest)) => honest,
        (_, SocketAddr::V6(other)) => bail!("challenger {} is at {other}", sender.index),
    };
    let header = Header {
        kind: Kind::Data,
        phase: 0,
        session: session_of(&target.challenge),
        index: sender.index,
        // Numbers that the challenger has not come to yet: were they counted, they would take its place.
        sequence: u64::from(number),
        sent_ns: 0,
        cookie: u64::from_le_bytes([0x5a; 8]),
        tag: [0x5a; 8],
    };
    let mut packet = vec![0x5a; HEADERS + DATA_LEN];
    let udp = u16::try_from(8 + DATA_LEN)?;
    packet[..HEADERS].fill(0);
    packet[0] = 0x45;
    packet[8] = 64;
    packet[9] = 17;
    packet[12..16].copy_from_slice(&source.ip().octets());
    packet[16..20].copy_from_slice(&target.to.ip().octets());
    packet[20..22].copy_from_slice(&source.port().to_be_bytes());
    packet[22..24].copy_from_slice(&target.to.port().to_be_bytes());
    packet[24..26].copy_from_slice(&udp.to_be_bytes());
    packet[HEADERS..HEADERS + 64].copy_from_slice(&header.to_bytes());
    Ok(packet)
}
