//! Socket options and waits that have no safe wrapper in `nix` or `std`.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::super::error::DatapathError;
use crate::xsk::option;

/// How long a busy poll spins in the driver, µs: the value of the kernel's own AF_XDP examples.
const BUSY_POLL_US: libc::c_int = 20;
/// Packets a busy poll takes at most; the kernel's maximum for unprivileged use is 64, ours is set
/// while we have CAP_NET_ADMIN.
const BUSY_POLL_BUDGET: libc::c_int = 256;

fn set(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
    what: &'static str,
) -> Result<(), DatapathError> {
    Ok(option::set(fd, level, name, &value, what)?)
}

/// Makes the socket prefer busy polling. Needs `CAP_NET_ADMIN`.
pub(in super::super) fn busy_poll(fd: &impl AsRawFd) -> Result<(), DatapathError> {
    set(
        fd,
        libc::SOL_SOCKET,
        libc::SO_PREFER_BUSY_POLL,
        1,
        "SO_PREFER_BUSY_POLL (needs CAP_NET_ADMIN and Linux 5.11)",
    )?;
    set(
        fd,
        libc::SOL_SOCKET,
        libc::SO_BUSY_POLL,
        BUSY_POLL_US,
        "SO_BUSY_POLL (needs CAP_NET_ADMIN)",
    )?;
    set(
        fd,
        libc::SOL_SOCKET,
        libc::SO_BUSY_POLL_BUDGET,
        BUSY_POLL_BUDGET,
        "SO_BUSY_POLL_BUDGET (needs CAP_NET_ADMIN)",
    )
}

/// Sets the receive buffer, past the system's maximum if allowed; returns what it is now, in bytes.
pub(in super::super) fn receive_buffer(
    fd: &impl AsRawFd,
    bytes: u32,
) -> Result<usize, DatapathError> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if set(
        fd,
        libc::SOL_SOCKET,
        libc::SO_RCVBUFFORCE,
        bytes,
        "SO_RCVBUFFORCE",
    )
    .is_err()
    {
        set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes, "SO_RCVBUF")?;
    }
    let mut now: libc::c_int = 0;
    option::get(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &mut now, "SO_RCVBUF")?;
    Ok(usize::try_from(now).unwrap_or(0))
}

/// Datagrams that found the socket's buffer full (`SO_MEMINFO`, last word).
pub(in super::super) fn dropped(fd: &impl AsRawFd) -> Result<u64, DatapathError> {
    /// Words of `SO_MEMINFO` (`SK_MEMINFO_VARS`), and the index of the drops.
    const WORDS: usize = 9;
    const DROPS: usize = 8;
    let mut words = [0u32; WORDS];
    let size = option::get(
        fd,
        libc::SOL_SOCKET,
        libc::SO_MEMINFO,
        &mut words,
        "SO_MEMINFO",
    )?;
    if size < WORDS * 4 {
        return Err(DatapathError::Os {
            what: "reading SO_MEMINFO (needs Linux 4.12)".into(),
            source: std::io::ErrorKind::Unsupported.into(),
        });
    }
    Ok(u64::from(words[DROPS]))
}

/// The interface's MTU, bytes at the IP layer, as the namespace of `socket` knows it.
pub(in super::super) fn mtu(socket: &impl AsRawFd, interface: &str) -> Result<u32, DatapathError> {
    // SAFETY: integers and bytes, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: `request` is whole, its name ends with zero (the kernel's names are shorter), and it outlives
    // the call, which writes the MTU into it.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if rc != 0 {
        return Err(DatapathError::last_os(format!(
            "reading the MTU of {interface}"
        )));
    }
    // SAFETY: this request fills this member of the union.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u32::try_from(mtu).unwrap_or(0))
}

/// Lets a busy-polling socket run its driver's queue once.
pub(in super::super) fn drive(fd: BorrowedFd<'_>) -> Result<(), DatapathError> {
    match recv(fd.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT) {
        Ok(_) | Err(Errno::EAGAIN | Errno::EBUSY | Errno::EINTR | Errno::ENOBUFS) => Ok(()),
        Err(e) => Err(DatapathError::Os {
            what: "polling the AF_XDP socket".into(),
            source: e.into(),
        }),
    }
}

/// Waits until one of `fds` is readable, or `timeout` is over, and empties `waker`, the second.
pub(in super::super) fn wait(
    fds: &[BorrowedFd<'_>; 2],
    waker: BorrowedFd<'_>,
    timeout: Option<Duration>,
) -> Result<(), DatapathError> {
    let timeout = timeout.map_or(PollTimeout::NONE, |t| {
        PollTimeout::try_from(t).unwrap_or(PollTimeout::MAX)
    });
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut polled, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => {
            return Err(DatapathError::Os {
                what: "poll".into(),
                source: e.into(),
            });
        }
    }
    if polled[1]
        .revents()
        .is_some_and(|r| r.contains(PollFlags::POLLIN))
    {
        let mut count = [0; 8];
        // It is non-blocking; nothing there means that somebody else was faster.
        let _ = nix::unistd::read(waker, &mut count);
    }
    Ok(())
}
