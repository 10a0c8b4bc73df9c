//! The challenger's control socket: what arrives carries the kernel's receive stamp.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

// ppoll, because probes are closer together than poll's whole milliseconds.
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::clock;

/// A UDP socket whose receive times are the kernel's.
pub(super) struct Control {
    socket: UdpSocket,
    ancillary: Vec<u8>,
}

impl Control {
    /// Asks the kernel to stamp what arrives.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        Ok(Self {
            socket,
            ancillary: nix::cmsg_space!(TimeSpec),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends; a datagram that cannot be sent counts as lost, as on any network.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, to) {
            tracing::debug!(%to, %error, "control datagram not sent");
        }
    }

    /// Waits at most `wait` for a datagram: where from, its length in `buffer`, and when the kernel received it,
    /// unix ns.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        wait: Duration,
    ) -> Option<(SocketAddr, usize, u64)> {
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if !matches!(ppoll(&mut ready, Some(TimeSpec::from_duration(wait)), None), Ok(n) if n > 0) {
            return None;
        }
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut self.ancillary),
            MsgFlags::MSG_DONTWAIT,
        )
        .ok()?;
        let stamp = message.cmsgs().ok()?.find_map(|c| match c {
            ControlMessageOwned::ScmTimestampns(t) => {
                let seconds = u64::try_from(t.tv_sec()).ok()?;
                Some(seconds * 1_000_000_000 + u64::try_from(t.tv_nsec()).ok()?)
            }
            _ => None,
        });
        let from = message.address.and_then(|a| {
            let v4 = a
                .as_sockaddr_in()
                .map(|a| SocketAddr::from(std::net::SocketAddrV4::from(*a)));
            v4.or_else(|| {
                a.as_sockaddr_in6()
                    .map(|a| std::net::SocketAddrV6::from(*a).into())
            })
        })?;
        let at_ns = stamp.unwrap_or_else(clock::realtime_ns);
        Some((from, message.bytes, at_ns))
    }
}
