//! Socket options and waits that have no safe wrapper in `nix` or `std`.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};

use super::super::counters::XskCounters;
use super::super::error::DatapathError;

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
    let size = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(4);
    // SAFETY: `value` outlives the call and `size` is its size.
    let rc =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if rc == 0 {
        Ok(())
    } else {
        Err(DatapathError::last_os(format!("setting {what}")))
    }
}

/// Reads an option into `value`; returns how many bytes the kernel wrote.
fn get<T>(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
    what: &'static str,
) -> Result<usize, DatapathError> {
    let mut size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` has `size` bytes; all callers pass plain integers, for which any bytes are valid.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut size,
        )
    };
    if rc == 0 {
        Ok(size as usize)
    } else {
        Err(DatapathError::last_os(format!("reading {what}")))
    }
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
    get(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, &mut now, "SO_RCVBUF")?;
    Ok(usize::try_from(now).unwrap_or(0))
}

/// Datagrams that found the socket's buffer full (`SO_MEMINFO`, last word).
pub(in super::super) fn dropped(fd: &impl AsRawFd) -> Result<u64, DatapathError> {
    /// Words of `SO_MEMINFO` (`SK_MEMINFO_VARS`), and the index of the drops.
    const WORDS: usize = 9;
    const DROPS: usize = 8;
    let mut words = [0u32; WORDS];
    let size = get(
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

/// `XDP_STATISTICS` of an AF_XDP socket.
pub(in super::super) fn xdp_statistics(fd: &impl AsRawFd) -> Result<XskCounters, DatapathError> {
    // rx_dropped, rx_invalid_descs, tx_invalid_descs, rx_ring_full, rx_fill_ring_empty_descs,
    // tx_ring_empty_descs: `struct xdp_statistics` of linux/if_xdp.h.
    let mut words = [0u64; 6];
    get(
        fd,
        libc::SOL_XDP,
        libc::XDP_STATISTICS,
        &mut words,
        "XDP_STATISTICS",
    )?;
    Ok(XskCounters {
        rx_dropped: words[0],
        rx_invalid_descs: words[1],
        rx_ring_full: words[3],
        fill_ring_empty: words[4],
    })
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

/// Waits until one of `fds` is readable, or `timeout` is over, and empties `waker`.
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
