//! The socket itself: made, given its memory and rings, and bound to a queue of an interface.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use serde::Serialize;

use super::super::{HEADROOM, XskError};
use super::area::Area;
use super::option::{get, set};
use super::ring::{Consumer, Layout, Producer};

/// An entry of the receive or transmit ring.
pub(in super::super) type Descriptor = libc::xdp_desc;

/// How packets cross between the driver and the area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The driver reads and writes the area.
    ZeroCopy,
    /// The kernel copies.
    Copy,
}

/// Entries of each ring; powers of two. A ring of 0 is not made, except that the kernel wants a fill and
/// a completion ring with every area.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Rings {
    /// Receive.
    pub(in super::super) rx: u32,
    /// Fill.
    pub(in super::super) fill: u32,
    /// Transmit.
    pub(in super::super) tx: u32,
    /// Completion.
    pub(in super::super) completion: u32,
}

/// Where and how to bind.
#[derive(Clone, Debug)]
pub struct Bind {
    /// Interface name.
    pub interface: String,
    /// Its queue.
    pub queue: u32,
    /// Copy or not.
    pub mode: Mode,
    /// Packets longer than a frame come in several (`XDP_USE_SG`, Linux 6.6).
    pub scatter: bool,
}

/// `XDP_STATISTICS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct XskStatistics {
    /// No frame in the fill ring (copy mode), or a packet too long for one.
    pub rx_dropped: u64,
    /// The receive ring was full.
    pub rx_ring_full: u64,
    /// Descriptors that the kernel refused.
    pub rx_invalid_descs: u64,
    /// How often the kernel found the fill ring empty. Says why frames were dropped; not itself a
    /// number of frames.
    pub fill_ring_empty: u64,
}

impl XskStatistics {
    /// Adds another socket's.
    pub fn add(&mut self, other: &Self) {
        self.rx_dropped += other.rx_dropped;
        self.rx_ring_full += other.rx_ring_full;
        self.rx_invalid_descs += other.rx_invalid_descs;
        self.fill_ring_empty += other.fill_ring_empty;
    }

    /// Reads them from an AF_XDP socket.
    ///
    /// # Errors
    /// `fd` is not one.
    pub fn read(fd: &impl AsRawFd) -> Result<Self, XskError> {
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
        Ok(Self {
            rx_dropped: words[0],
            rx_invalid_descs: words[1],
            rx_ring_full: words[3],
            fill_ring_empty: words[4],
        })
    }
}

/// A socket with its area and rings, not bound yet: now is the time to fill the fill ring.
pub(in super::super) struct Socket {
    fd: OwnedFd,
    pub(in super::super) area: Area,
    pub(in super::super) fill: Producer<u64>,
    pub(in super::super) completion: Consumer<u64>,
    pub(in super::super) rx: Option<Consumer<Descriptor>>,
    pub(in super::super) tx: Option<Producer<Descriptor>>,
}

/// A bound socket's descriptor.
pub(in super::super) struct Bound(OwnedFd);

impl Socket {
    /// Registers `area` and makes the rings.
    pub(in super::super) fn new(area: Area, rings: Rings) -> Result<Self, XskError> {
        // SAFETY: makes a descriptor, takes none.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(XskError::last("AF_XDP socket (needs CAP_NET_RAW)"));
        }
        // SAFETY: just made, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let register = libc::xdp_umem_reg {
            addr: area.address(),
            len: area.length(),
            chunk_size: area.frame_size(),
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        option(
            &fd,
            libc::XDP_UMEM_REG,
            &register,
            "XDP_UMEM_REG (needs CAP_IPC_LOCK or a higher limit on locked memory: LimitMEMLOCK)",
        )?;
        let sizes = [
            (libc::XDP_UMEM_FILL_RING, rings.fill, "XDP_UMEM_FILL_RING"),
            (
                libc::XDP_UMEM_COMPLETION_RING,
                rings.completion,
                "XDP_UMEM_COMPLETION_RING",
            ),
            (libc::XDP_RX_RING, rings.rx, "XDP_RX_RING"),
            (libc::XDP_TX_RING, rings.tx, "XDP_TX_RING"),
        ];
        for (name, size, what) in sizes.into_iter().filter(|(_, size, _)| *size > 0) {
            let size = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
            option(&fd, name, &size, what)?;
        }
        let at = layouts(&fd)?;
        let raw = fd.as_raw_fd();
        let rx = (rings.rx > 0)
            .then(|| Consumer::new(raw, pgoff(libc::XDP_PGOFF_RX_RING), at[0], rings.rx))
            .transpose()?;
        let tx = (rings.tx > 0)
            .then(|| Producer::new(raw, pgoff(libc::XDP_PGOFF_TX_RING), at[1], rings.tx))
            .transpose()?;
        let fill = Producer::new(raw, libc::XDP_UMEM_PGOFF_FILL_RING, at[2], rings.fill)?;
        let completion = Consumer::new(
            raw,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING,
            at[3],
            rings.completion,
        )?;
        Ok(Self {
            fd,
            area,
            fill,
            completion,
            rx,
            tx,
        })
    }

    /// Binds a copy of the descriptor; the original ends with this value.
    pub(in super::super) fn bind(&self, to: &Bind) -> Result<Bound, XskError> {
        let index = nix::net::if_::if_nametoindex(to.interface.as_str()).map_err(|e| XskError {
            what: format!("interface {}", to.interface),
            source: e.into(),
        })?;
        let mode = match to.mode {
            Mode::ZeroCopy => libc::XDP_ZEROCOPY,
            Mode::Copy => libc::XDP_COPY,
        };
        let scatter = if to.scatter { libc::XDP_USE_SG } else { 0 };
        let address = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).unwrap_or(0),
            sxdp_flags: mode | scatter | libc::XDP_USE_NEED_WAKEUP,
            sxdp_ifindex: index,
            sxdp_queue_id: to.queue,
            sxdp_shared_umem_fd: 0,
        };
        let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
        // SAFETY: `address` outlives the call and `size` is its size.
        let rc = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), size) };
        if rc != 0 {
            return Err(XskError::last(format!(
                "queue {} of {}",
                to.queue, to.interface
            )));
        }
        let fd = self.fd.try_clone().map_err(|source| XskError {
            what: "duplicating the AF_XDP socket".into(),
            source,
        })?;
        Ok(Bound(fd))
    }
}

impl Socket {
    /// The bytes of a descriptor from our receive ring.
    pub(in super::super) fn lent(&self, from: &Descriptor) -> Option<&[u8]> {
        // SAFETY: [`super::super::Rx`] keeps descriptors only between taking them from the receive ring and
        // posting their frames, and the latter needs it exclusively, which ends this borrow. In between the
        // kernel does not write to the frame.
        unsafe { self.area.bytes(from.addr, from.len) }
    }

    /// Lets `write` fill the frame at `address`; returns the length it says, none if that does not fit.
    pub(in super::super) fn write(
        &mut self,
        address: u64,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<u32> {
        // SAFETY: [`super::super::Tx`] passes an address it has just taken from its free frames: the kernel
        // gave it back, and no other slice exists while `self` is borrowed exclusively.
        let frame = unsafe { self.area.frame_mut(address) }?;
        let length = write(frame);
        u32::try_from(length)
            .ok()
            .filter(|n| *n <= self.area.frame_size())
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Bound {
    /// Tells the kernel that the transmit ring has entries.
    pub(in super::super) fn wake_tx(&self) -> Result<(), nix::errno::Errno> {
        // SAFETY: no buffer is passed; the call only drives the ring.
        let rc = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                std::ptr::null(),
                0,
                libc::MSG_DONTWAIT,
                std::ptr::null(),
                0,
            )
        };
        nix::errno::Errno::result(rc).map(drop)
    }
}

/// Bytes of a frame that a packet can take.
pub(crate) fn capacity(frame_size: u32) -> u32 {
    frame_size - HEADROOM
}

fn pgoff(offset: libc::off_t) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

fn option<T: super::option::Plain>(
    fd: &OwnedFd,
    name: libc::c_int,
    value: &T,
    what: &'static str,
) -> Result<(), XskError> {
    set(fd, libc::SOL_XDP, name, value, what)
}

/// Receive, transmit, fill and completion ring: where their parts lie (`struct xdp_mmap_offsets`).
fn layouts(fd: &OwnedFd) -> Result<[Layout; 4], XskError> {
    let mut words = [0u64; 16];
    let size = get(
        fd,
        libc::SOL_XDP,
        libc::XDP_MMAP_OFFSETS,
        &mut words,
        "XDP_MMAP_OFFSETS",
    )?;
    if size < size_of_val(&words) {
        return Err(XskError {
            what: "reading XDP_MMAP_OFFSETS (needs Linux 5.4)".into(),
            source: std::io::ErrorKind::Unsupported.into(),
        });
    }
    let of = |i: usize| Layout {
        producer: words[4 * i],
        consumer: words[4 * i + 1],
        entries: words[4 * i + 2],
        flags: words[4 * i + 3],
    };
    Ok([of(0), of(1), of(2), of(3)])
}
