//! The peer on io_uring: one multishot `recvmsg`, provided buffers, a digest of each packet.

use std::hint::black_box;
use std::io;

use anyhow::{Context, Result};
use plumbline_wire::Size;

use super::peer::{ATTENTION, Engine, Peer};
use super::socket::bound;
use super::sys::mmsg::drops;
use super::sys::multishot::Multishot;
use crate::pair::Pair;

/// Starts it.
///
/// # Errors
/// A kernel before 6.0, or one where io_uring is switched off.
pub(super) fn start(pair: &Pair, size: Size) -> Result<Peer> {
    let ring = Multishot::new(bound(pair)?, size.payload())
        .context("io_uring with provided buffers (Linux 6.0, kernel.io_uring_disabled = 0)")?;
    Peer::start(Uring(ring))
}

struct Uring(Multishot);

impl Engine for Uring {
    fn take(&mut self) -> io::Result<u64> {
        let mut packets = 0;
        self.0.receive(ATTENTION, |packet| {
            black_box(blake3::hash(packet));
            packets += 1;
        })?;
        Ok(packets)
    }

    fn lost(&mut self) -> io::Result<(&'static str, u64)> {
        Ok(("socket_buffer_full", drops(self.0.socket())?))
    }
}
