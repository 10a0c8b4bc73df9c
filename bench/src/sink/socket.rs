//! Peers on a UDP socket: `recvmmsg` of packets, and of what `UDP_GRO` put together.

use std::hint::black_box;
use std::io;
use std::net::UdpSocket;

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGroSegment};
use plumbline_wire::Size;

use super::peer::{ATTENTION, Engine, Peer};
use super::sys::mmsg::{Batch, drops};
use crate::pair::{PORT, Pair, SINK};

/// Receive buffer, bytes: 8 MiB hold some 3500 packets as the kernel accounts for them, 4 ms at
/// 10 Gbit/s: longer than any pause of a real-time thread, short enough to stay in a shared cache.
const BUFFER: usize = 8 << 20;
/// Datagrams of a call: what the product takes in a turn.
const BATCH: usize = 64;
/// Aggregates of a call: 16 of up to 64 KiB stay within L2.
const AGGREGATES: usize = 16;
/// Longest aggregate, bytes.
const AGGREGATE: usize = 65_535;

/// A socket for peers, bound to the data port.
///
/// # Errors
/// The port is in use, or the buffer refused (needs `CAP_NET_ADMIN`).
pub(super) fn bound(pair: &Pair) -> Result<UdpSocket> {
    let socket = pair
        .within(false, || UdpSocket::bind((SINK, PORT)))?
        .with_context(|| format!("binding {SINK}:{PORT}"))?;
    setsockopt(&socket, RcvBufForce, &BUFFER).context("SO_RCVBUFFORCE")?;
    socket
        .set_read_timeout(Some(ATTENTION))
        .context("SO_RCVTIMEO")?;
    Ok(socket)
}

/// `recvmmsg`, a digest of each packet.
pub(super) fn batches(pair: &Pair, size: Size) -> Result<Peer> {
    let socket = bound(pair)?;
    let batch = Batch::new(BATCH, size.payload());
    Peer::start(Socket { socket, batch })
}

/// The same with `UDP_GRO`, on an interface that puts packets together.
pub(super) fn aggregates(pair: &Pair, _: Size) -> Result<Peer> {
    let socket = bound(pair)?;
    pair.ethtool(false, "gro on")?;
    setsockopt(&socket, UdpGroSegment, &true).context("UDP_GRO")?;
    let batch = Batch::new(AGGREGATES, AGGREGATE);
    Peer::start(Socket { socket, batch })
}

struct Socket {
    socket: UdpSocket,
    batch: Batch,
}

impl Engine for Socket {
    fn take(&mut self) -> io::Result<u64> {
        let mut packets = 0;
        for (bytes, segment) in self.batch.receive(&self.socket)? {
            for packet in bytes.chunks(segment.max(1)) {
                black_box(blake3::hash(packet));
                packets += 1;
            }
        }
        Ok(packets)
    }

    fn lost(&mut self) -> io::Result<(&'static str, u64)> {
        Ok(("socket_buffer_full", drops(&self.socket)?))
    }
}
