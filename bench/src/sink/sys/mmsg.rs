//! `recvmmsg` into buffers of our own, and the socket's own count of what it dropped.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd as _, RawFd};
use std::ptr::from_mut;

/// Bytes for one control message with one `int`: what `UDP_GRO` says the length of its segments by.
const CONTROL: usize = 32;

/// Control messages are read and written in words.
#[derive(Clone)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Buffers of a call, and the headers that point into them.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    length: usize,
    control: Vec<Control>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers point into the same value's heap blocks, which do not move with it, and are
// set anew before each call that uses them.
unsafe impl Send for Batch {}

impl Batch {
    /// Room for `count` datagrams of up to `length` bytes.
    pub(crate) fn new(count: usize, length: usize) -> Self {
        let vector = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: mmsghdr is integers and raw pointers, for which zero is valid.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            bytes: vec![0; count * length],
            length,
            control: vec![Control([0; CONTROL]); count],
            vectors: vec![vector; count],
            headers: vec![header; count],
        }
    }

    /// Waits for a datagram as long as the socket's timeout says, takes all that are there with it, and
    /// gives each with the length of its segments (its own, if it was not put together).
    pub(crate) fn receive(
        &mut self,
        socket: &UdpSocket,
    ) -> io::Result<impl Iterator<Item = (&[u8], usize)>> {
        self.prepare();
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(0);
        // SAFETY: `count` headers, each pointing to one vector, one buffer of `length` bytes and one
        // control block, all of this value and alive for the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let received = match usize::try_from(received) {
            Ok(n) => n,
            Err(_) => match io::Error::last_os_error() {
                e if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
                {
                    0
                }
                e => return Err(e),
            },
        };
        let taken = self.bytes.chunks(self.length).zip(&self.headers);
        Ok(taken.take(received).map(|(bytes, header)| {
            let length = (header.msg_len as usize).min(bytes.len());
            (
                &bytes[..length],
                segment_of(&header.msg_hdr).unwrap_or(length),
            )
        }))
    }

    fn prepare(&mut self) {
        let slots = self
            .bytes
            .chunks_mut(self.length)
            .zip(&mut self.control)
            .zip(&mut self.vectors)
            .zip(&mut self.headers);
        for (((bytes, control), vector), header) in slots {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            header.msg_hdr.msg_iov = from_mut(vector);
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL;
        }
    }
}

/// Length of the segments that `UDP_GRO` put together.
fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the header was filled by recvmmsg and its control block is alive; the kernel set
    // `msg_controllen` to what it wrote.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: `first` is null or points to a whole header inside the control block.
    let message = unsafe { first.as_ref() }?;
    if (message.cmsg_level, message.cmsg_type) != (libc::SOL_UDP, libc::UDP_GRO) {
        return None;
    }
    // SAFETY: a UDP_GRO message carries one int (net/ipv4/udp.c); unaligned reads are allowed for.
    let segment = unsafe {
        libc::CMSG_DATA(first)
            .cast::<libc::c_int>()
            .read_unaligned()
    };
    usize::try_from(segment).ok().filter(|s| *s > 0)
}

/// Datagrams that found the socket's buffer full, segments counted one by one.
pub(crate) fn drops(socket: &impl std::os::fd::AsRawFd) -> io::Result<u64> {
    /// Words of `SO_MEMINFO`, and which of them counts drops (linux/sock_diag.h).
    const WORDS: usize = 9;
    const DROPS: usize = 8;
    let fd: RawFd = socket.as_raw_fd();
    let mut words = [0u32; WORDS];
    let mut length = libc::socklen_t::try_from(size_of_val(&words)).unwrap_or(0);
    // SAFETY: the array and its length are ours and alive for the call.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            from_mut(&mut words).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(words[DROPS]))
}
