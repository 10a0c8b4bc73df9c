//! The peer on `AF_PACKET`: `TPACKET_V3`, a memory-mapped ring of blocks, a digest of each packet.
//!
//! Its frames carry a hardware address that nobody has, so that the stack throws its own copy away at
//! once: with a socket behind, or with ICMP answers, each packet would be paid for twice.

use std::hint::black_box;
use std::io;

use anyhow::{Context, Result};
use plumbline_wire::Size;

use super::peer::{ATTENTION, Engine, Peer};
use super::sys::ring::BlockRing;
use crate::pair::{INTERFACE, PORT, Pair};

/// Ethernet, IPv4 without options and UDP, bytes.
const HEADERS: usize = 14 + 20 + 8;
/// Where the UDP destination port stands.
const PORT_AT: usize = 14 + 20 + 2;

/// Starts it.
///
/// # Errors
/// The ring cannot be had (needs `CAP_NET_RAW`).
pub(super) fn start(pair: &Pair, size: Size) -> Result<Peer> {
    pair.address_nobody()?;
    let ring = pair
        .within(false, || {
            BlockRing::open(INTERFACE, HEADERS + size.payload())
        })?
        .context("AF_PACKET with TPACKET_V3")?;
    Peer::start(Packets(ring))
}

struct Packets(BlockRing);

impl Engine for Packets {
    fn take(&mut self) -> io::Result<u64> {
        let mut packets = 0;
        self.0.take(ATTENTION, |frame| {
            // Another protocol's frame is nobody's loss; a packet's length is checked by what reads it.
            if frame.get(PORT_AT..PORT_AT + 2) == Some(&PORT.to_be_bytes()) {
                black_box(blake3::hash(&frame[HEADERS..]));
                packets += 1;
            }
        })?;
        Ok(packets)
    }

    fn lost(&mut self) -> io::Result<(&'static str, u64)> {
        Ok(("packet_ring_full", self.0.dropped()?))
    }
}
