//! A packet socket's memory-mapped ring of blocks (packet(7), `TPACKET_V3`).
//!
//! ```text
//!  block 0 │ frame frame frame …│ block 1 │ …        a block is ours when full, or after 1 ms
//!     status KERNEL ─► USER ─► all its frames read ─► status KERNEL
//! ```

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Bytes of a block: 32 packets of 1500 bytes, so that a block is read while it is still in L2.
const BLOCK: usize = 1 << 16;
/// Blocks: 8 MiB in all, the receive buffer of the other peers.
const BLOCKS: usize = 128;
/// A block that is not full is handed over after this long, ms: the shortest there is.
const RETIRE_MS: u32 = 1;

/// A packet socket and its ring.
pub(crate) struct BlockRing {
    fd: OwnedFd,
    memory: NonNull<u8>,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone; moving it moves all use of it.
unsafe impl Send for BlockRing {}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn set<T>(fd: &OwnedFd, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a plain C value of the option's type, alive for the call, its size passed.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            std::ptr::from_ref(value).cast(),
            length::<T>(),
        )
    };
    check(result).map(drop)
}

impl BlockRing {
    /// Hears every frame that arrives on `interface` of the calling thread's namespace; frames are at
    /// most `longest` bytes.
    pub(crate) fn open(interface: &str, longest: usize) -> io::Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).unwrap_or(0).to_be();
        // SAFETY: no pointer; the result is checked and owned at once. Protocol 0 hears nothing yet.
        let fd = check(unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)
        })?;
        // SAFETY: a new descriptor that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let version = c_int::try_from(libc::tpacket_versions::TPACKET_V3 as u32).unwrap_or(0);
        set(&fd, libc::PACKET_VERSION, &version)?;
        let word = |n: usize| u32::try_from(n).map_err(io::Error::other);
        // In version 3 frames lie as they fit; the frame size only has to divide the block.
        let frame = longest.next_power_of_two() * 2;
        let request = libc::tpacket_req3 {
            tp_block_size: word(BLOCK)?,
            tp_block_nr: word(BLOCKS)?,
            tp_frame_size: word(frame)?,
            tp_frame_nr: word(BLOCK * BLOCKS / frame)?,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&fd, libc::PACKET_RX_RING, &request)?;
        // SAFETY: a new mapping of the ring just made, of its whole size; checked below.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BLOCK * BLOCKS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let ring = Self {
            fd,
            memory,
            next: 0,
        };
        ring.bind(interface, all)?;
        Ok(ring)
    }

    fn bind(&self, interface: &str, protocol: u16) -> io::Result<()> {
        let index = nix::net::if_::if_nametoindex(interface)?;
        // SAFETY: sockaddr_ll is plain numbers; all-zero is valid.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
        address.sll_protocol = protocol;
        address.sll_ifindex = c_int::try_from(index).map_err(io::Error::other)?;
        // SAFETY: the address is a sockaddr_ll of the size passed, alive for the call.
        let result = unsafe {
            libc::bind(
                self.fd.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                length::<libc::sockaddr_ll>(),
            )
        };
        check(result).map(drop)
    }

    /// Waits for at most `time` for a block, then hands each frame of it to `packet`.
    pub(crate) fn take(&mut self, time: Duration, mut packet: impl FnMut(&[u8])) -> io::Result<()> {
        // SAFETY: `next < BLOCKS`: within the mapping. Blocks are aligned to their size.
        let block = unsafe { self.memory.as_ptr().add(self.next * BLOCK) };
        let head = block.cast::<libc::tpacket_block_desc>();
        // SAFETY: the status word of the block's head; the kernel writes it too, hence atomic.
        let status = unsafe { &*(&raw const (*head).hdr.bh1.block_status).cast::<AtomicU32>() };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return self.wait(time);
        }
        // SAFETY: the status says that the kernel has written the head and leaves the block to us.
        let (frames, first) = unsafe {
            (
                (*head).hdr.bh1.num_pkts,
                (*head).hdr.bh1.offset_to_first_pkt,
            )
        };
        let mut offset = first as usize;
        for _ in 0..frames {
            // SAFETY: the kernel's offsets stay within the block that it filled.
            let frame = unsafe { block.add(offset) };
            // SAFETY: a tpacket3_hdr lies there, plain numbers.
            let header = unsafe { frame.cast::<libc::tpacket3_hdr>().read_unaligned() };
            let start = offset + usize::from(header.tp_mac);
            let length = (header.tp_snaplen as usize).min(BLOCK.saturating_sub(start));
            // SAFETY: within the block by the line above; ours until the status is given back.
            packet(unsafe { std::slice::from_raw_parts(block.add(start), length) });
            offset += header.tp_next_offset as usize;
        }
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % BLOCKS;
        Ok(())
    }

    fn wait(&self, time: Duration) -> io::Result<()> {
        use std::os::fd::AsFd as _;
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, time) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Frames that found no free block since the last call.
    pub(crate) fn dropped(&self) -> io::Result<u64> {
        let mut stats = libc::tpacket_stats_v3 {
            tp_packets: 0,
            tp_drops: 0,
            tp_freeze_q_cnt: 0,
        };
        let mut length = length::<libc::tpacket_stats_v3>();
        // SAFETY: `stats` and `length` are ours, of the sizes the option wants, alive for the call.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                std::ptr::from_mut(&mut stats).cast(),
                &raw mut length,
            )
        };
        check(result).map(|_| u64::from(stats.tp_drops))
    }
}

impl Drop for BlockRing {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `open`, of that size, unmapped once.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), BLOCK * BLOCKS) };
    }
}
