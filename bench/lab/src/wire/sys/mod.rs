//! Raw packets in and out of an interface: a memory-mapped ring (packet(7), `TPACKET_V2`) and `sendmmsg`.
//!
//! ```text
//!  kernel ─ writes frame, then status USER ─► slot 0 │ 1 │ … │ n-1 ─ read, then status KERNEL ─► us
//! ```
#![allow(unsafe_code)] // packet rings and sendmmsg have no safe binding that carries the arrival stamp
#![allow(clippy::cast_possible_truncation)] // sizes of C structures and small constants, in the types C wants

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Frames given to the kernel in one call: 64 × 1500 bytes stay in L2, and the veth ring holds 256.
pub(crate) const BATCH: usize = 64;

/// Room before a frame for the ring's own header and the kernel's alignment.
const HEADROOM: usize = 128;

/// Unit in which the kernel allocates a ring, bytes: 64 pages, found even on a fragmented machine.
const BLOCK: usize = 1 << 18;

/// Send buffer, bytes: what may wait in the interface's queue (1000 packets).
const SEND_BUFFER: c_int = 8 << 20;

/// All protocols, as the kernel wants it: network byte order.
const ALL: u16 = (libc::ETH_P_ALL as u16).to_be();

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn set<T>(fd: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a plain C value of the option's type, alive for the call, its size passed.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    check(result).map(drop)
}

/// A packet socket that hears nothing until it is bound.
fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointer; the result is checked and owned at once.
    let fd =
        check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: &OwnedFd, interface: &str, protocol: u16) -> io::Result<()> {
    let index = nix::net::if_::if_nametoindex(interface)?;
    // SAFETY: sockaddr_ll is plain numbers; all-zero is valid.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = c_int::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the address is a sockaddr_ll of the size passed, alive for the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    check(result).map(drop)
}

/// Puts the calling thread before ordinary ones (`nice` −20): what stands in for a wire, or measures
/// one, should not wait behind a compiler. Needs root (CAP_SYS_NICE).
///
/// # Errors
/// The operating system's refusal.
pub fn prefer_this_thread() -> io::Result<()> {
    // SAFETY: no pointer; on Linux process 0 is the calling thread.
    check(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) }).map(drop)
}

/// Puts the calling thread before all ordinary ones (`SCHED_FIFO` 1): the wire's own threads, which
/// sleep most of the time. Where real-time scheduling is refused (some containers), `nice` −20.
pub(crate) fn outrank_everything() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: one parameter of ours, alive for the call; process 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
    check(result).map(drop).or_else(|_| prefer_this_thread())
}

/// Reads (and thereby clears) the kernel's own count of a tap.
#[derive(Debug, Clone)]
pub(crate) struct Statistics(Arc<OwnedFd>);

impl Statistics {
    /// Packets that arrived since the last call, and how many of them found the ring full.
    pub(crate) fn take(&self) -> (u64, u64) {
        let mut stats = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut length = size_of::<libc::tpacket_stats>() as u32;
        // SAFETY: `stats` and `length` are ours, of the sizes the option wants, alive for the call.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                std::ptr::from_mut(&mut stats).cast(),
                &raw mut length,
            )
        };
        // It can fail only on a descriptor that is no packet socket, which this one is.
        if result < 0 {
            (0, 0)
        } else {
            (u64::from(stats.tp_packets), u64::from(stats.tp_drops))
        }
    }
}

/// Hears every packet that arrives on one interface.
pub(crate) struct Tap {
    fd: Arc<OwnedFd>,
    ring: NonNull<u8>,
    frame_bytes: usize,
    frames: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; moving it to another thread moves all use of it.
unsafe impl Send for Tap {}

impl Tap {
    /// Opens `interface` of the calling thread's namespace with a ring of `frames` slots (a power of two).
    pub(crate) fn open(interface: &str, mtu: u16, frames: u32) -> io::Result<Self> {
        let frame_bytes = (usize::from(mtu) + HEADROOM).next_power_of_two();
        let frames = frames as usize;
        let bytes = (frame_bytes * frames).max(BLOCK);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: u32::try_from(bytes / BLOCK).map_err(io::Error::other)?,
            tp_frame_size: u32::try_from(frame_bytes).map_err(io::Error::other)?,
            tp_frame_nr: u32::try_from(bytes / frame_bytes).map_err(io::Error::other)?,
        };
        let fd = socket()?;
        set(
            &fd,
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V2 as c_int),
        )?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        set(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a new shared mapping of the ring just made, of its whole size; the result is checked.
        let ring = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if ring == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ring = NonNull::new(ring.cast())
            .ok_or_else(|| io::Error::other("the ring was mapped at address 0"))?;
        // Only now does anything arrive, and only from this interface.
        let tap = Self {
            fd: Arc::new(fd),
            ring,
            frame_bytes,
            frames: bytes / frame_bytes,
            next: 0,
        };
        bind(&tap.fd, interface, ALL)?;
        Ok(tap)
    }

    /// A way to ask for the kernel's counts from another thread.
    pub(crate) fn statistics_of(&self) -> Statistics {
        Statistics(Arc::clone(&self.fd))
    }

    /// The next packet, if one has arrived; dropping it returns its slot to the kernel.
    pub(crate) fn next_frame(&mut self) -> Option<Frame<'_>> {
        // SAFETY: `next < frames`, so the slot lies within the mapping; slots are aligned to their
        // power-of-two size, hence for the header; its first field is the status word, which the
        // kernel also writes, hence atomic.
        let status = unsafe {
            &*self
                .ring
                .as_ptr()
                .add(self.next * self.frame_bytes)
                .cast::<AtomicU32>()
        };
        let value = status.load(Ordering::Acquire);
        if value & libc::TP_STATUS_USER == 0 {
            return None;
        }
        let slot = self.next;
        self.next = (slot + 1) % self.frames;
        Some(Frame {
            tap: self,
            slot,
            status: value,
        })
    }

    /// Sleeps until a packet arrives or the time is over.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<()> {
        let mut poll = libc::pollfd {
            fd: self.fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let time = libc::timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        // SAFETY: one pollfd and one timespec, ours, alive for the call; no signal mask.
        let result = unsafe { libc::ppoll(&raw mut poll, 1, &raw const time, std::ptr::null()) };
        match check(result) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, of that size, unmapped once.
        unsafe { libc::munmap(self.ring.as_ptr().cast(), self.frames * self.frame_bytes) };
    }
}

/// A packet in its slot.
pub(crate) struct Frame<'tap> {
    tap: &'tap mut Tap,
    slot: usize,
    status: u32,
}

impl Frame<'_> {
    fn start(&self) -> *mut u8 {
        // SAFETY: `slot < frames`: within the mapping.
        unsafe { self.tap.ring.as_ptr().add(self.slot * self.tap.frame_bytes) }
    }

    fn header(&self) -> libc::tpacket2_hdr {
        // SAFETY: the status says that the kernel has written this slot and leaves it to us until we
        // return it; the header is plain numbers at its aligned start.
        unsafe { self.start().cast::<libc::tpacket2_hdr>().read() }
    }

    /// When it arrived, in ns of `CLOCK_REALTIME`.
    pub(crate) fn arrived(&self) -> u64 {
        let header = self.header();
        u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec)
    }

    /// Whether its transport checksum was left to the network card.
    pub(crate) fn lacks_checksum(&self) -> bool {
        self.status & libc::TP_STATUS_CSUMNOTREADY != 0
    }

    /// The frame from its Ethernet header on.
    pub(crate) fn bytes(&self) -> &[u8] {
        let header = self.header();
        let offset = usize::from(header.tp_mac).min(self.tap.frame_bytes);
        let length = (header.tp_snaplen as usize).min(self.tap.frame_bytes - offset);
        // SAFETY: within the slot by the two lines above; ours until returned, and nobody writes it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start().add(offset), length) }
    }
}

impl Drop for Frame<'_> {
    fn drop(&mut self) {
        // SAFETY: as in `next_frame`.
        let status = unsafe { &*self.start().cast::<AtomicU32>() };
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// Sends frames out of one interface.
pub(crate) struct Sender {
    fd: OwnedFd,
}

impl Sender {
    /// Opens `interface` of the calling thread's namespace; nothing is received on it.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let fd = socket()?;
        set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)?;
        bind(&fd, interface, 0)?;
        Ok(Self { fd })
    }

    /// Sends frames in order and says how many were taken; the rest may be offered again. At most
    /// [`BATCH`] are looked at.
    pub(crate) fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        // SAFETY: arrays of plain C structs; all-zero is valid for each.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut count = 0;
        for ((frame, part), message) in frames.zip(&mut parts).zip(&mut messages) {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        // SAFETY: `count` messages, each with one part that points into a frame borrowed for `'a`; the
        // kernel only reads the frames, and writes the lengths into `messages`.
        let sent = unsafe {
            libc::sendmmsg(
                self.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        };
        match check(sent) {
            Ok(sent) => Ok(usize::try_from(sent).unwrap_or(0)),
            Err(error) => match error.raw_os_error() {
                // Full for the moment, or the other end is down: the same frame is offered again.
                Some(libc::ENOBUFS | libc::EAGAIN | libc::ENETDOWN | libc::EINTR) => Ok(0),
                _ => Err(error),
            },
        }
    }
}
