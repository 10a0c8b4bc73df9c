//! The engines without io_uring: one `send` a burst, or where a card cannot have that, one a packet.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use super::watchdog::{Verdict, Watchdog};
use super::{ATTENTION_NS, Engine, GeneratorError, Sent};
use crate::clock::monotonic_ns;

/// A connected socket with `UDP_SEGMENT` set.
pub(super) struct Plain<'a> {
    socket: BorrowedFd<'a>,
    patience_ns: u64,
}

impl<'a> Plain<'a> {
    /// Waits `patience_ns` for room in the socket at most.
    pub(super) fn new(socket: BorrowedFd<'a>, patience_ns: u64) -> Self {
        Self {
            socket,
            patience_ns,
        }
    }
}

impl Engine for Plain<'_> {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        let mut watchdog = None;
        loop {
            match send(self.socket.as_raw_fd(), burst, MsgFlags::MSG_DONTWAIT) {
                Ok(bytes) => return Ok(Sent::Bytes(bytes)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let now = monotonic_ns();
                    let dog = watchdog.get_or_insert_with(|| Watchdog::new(now, self.patience_ns));
                    // Nothing was handed over, so there is nothing to take back: either verdict is final.
                    match dog.look(now, over()) {
                        Verdict::Wait => writable(&self.socket)?,
                        _ if dog.expired() => return Ok(Sent::Silent),
                        _ => return Ok(Sent::Abandoned),
                    }
                }
                Err(errno) => return Ok(Sent::Refused(errno)),
            }
        }
    }
}

/// A connected socket without `UDP_SEGMENT`: kernels before 6.11 do not cut a burst for a card that leaves
/// checksums to them, and say `EIO`.
pub(super) struct Each<'a> {
    plain: Plain<'a>,
    packet_len: usize,
}

impl<'a> Each<'a> {
    /// Sends packets of `packet_len` bytes.
    pub(super) fn new(socket: BorrowedFd<'a>, packet_len: usize, patience_ns: u64) -> Self {
        Self {
            plain: Plain::new(socket, patience_ns),
            packet_len,
        }
    }
}

impl Engine for Each<'_> {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        let mut bytes = 0;
        for packet in burst.chunks(self.packet_len) {
            match self.plain.send(packet, over)? {
                Sent::Bytes(taken) => bytes += taken,
                Sent::Refused(errno) if bytes > 0 => {
                    let packets = bytes / self.packet_len;
                    return Ok(Sent::Some { packets, errno });
                }
                // It ended amid the burst: what was sent counts.
                Sent::Abandoned if bytes > 0 => break,
                other => return Ok(other),
            }
        }
        Ok(Sent::Bytes(bytes))
    }
}

/// Waits until the socket takes more, but not so long that the stop flag is missed.
pub(super) fn writable(socket: &impl AsFd) -> Result<(), GeneratorError> {
    let timeout =
        u16::try_from(ATTENTION_NS / 1_000_000).map_or(PollTimeout::MAX, PollTimeout::from);
    match poll(
        &mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)],
        timeout,
    ) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(e) => Err(GeneratorError::Os {
            what: "poll on the challenger's socket",
            source: e.into(),
        }),
    }
}
