//! The engine without io_uring: one `send` a burst.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

use super::{ATTENTION_NS, Engine, GeneratorError, Sent};

/// A connected socket with `UDP_SEGMENT` set.
pub(super) struct Plain<'a>(pub(super) &'a UdpSocket);

impl Engine for Plain<'_> {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        loop {
            match send(self.0.as_raw_fd(), burst, MsgFlags::MSG_DONTWAIT) {
                Ok(bytes) => return Ok(Sent::Bytes(bytes)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if over() => return Ok(Sent::Abandoned),
                Err(Errno::EAGAIN) => writable(self.0)?,
                Err(errno) => return Ok(Sent::Refused(errno)),
            }
        }
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
