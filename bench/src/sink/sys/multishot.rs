//! io_uring: one multishot `recvmsg` that fills buffers from a ring that we refill.
//!
//! ```text
//!  buffers 0..n ─► provided ring ─► kernel: one completion a datagram ─► packet(bytes) ─► back into the ring
//!                                      └ ring empty, or no MORE flag: armed again
//! ```

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fixed, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

/// Buffers, a power of two: 512 packets with their heads are 768 KiB, which stay within L2.
const BUFFERS: u16 = 512;
/// The group that they are in.
const GROUP: u16 = 0;
/// Bytes that the kernel writes before the payload (`struct io_uring_recvmsg_out`).
const HEAD: usize = 16;
/// What the kernel wants a buffer ring to be aligned to, bytes.
const PAGE: usize = 4096;

/// A socket, a ring, and the buffers between them.
pub(crate) struct Multishot {
    ring: IoUring,
    socket: UdpSocket,
    /// Boxed: the kernel keeps its address while the request is armed.
    message: Box<libc::msghdr>,
    entries: NonNull<BufRingEntry>,
    buffers: Vec<u8>,
    length: usize,
    tail: u16,
    armed: bool,
    enabled: bool,
}

// SAFETY: the ring memory and the message belong to this value alone and move with it by pointer.
unsafe impl Send for Multishot {}

fn layout() -> Option<Layout> {
    Layout::from_size_align(usize::from(BUFFERS) * size_of::<BufRingEntry>(), PAGE).ok()
}

impl Multishot {
    /// Takes over `socket`; payloads are at most `payload` bytes.
    pub(crate) fn new(socket: UdpSocket, payload: usize) -> io::Result<Self> {
        // Disabled until the sink's thread enables it and so becomes its only issuer.
        let ring = IoUring::builder()
            .setup_r_disabled()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(u32::from(BUFFERS) * 2)
            .build(8)?;
        ring.submitter().register_files(&[socket.as_raw_fd()])?;
        let layout = layout().ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the layout has a size above zero.
        let memory = unsafe { alloc_zeroed(layout) }.cast::<BufRingEntry>();
        let Some(entries) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        // SAFETY: a msghdr is integers and raw pointers, for which zero is valid: no name, no control.
        let message = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        let length = HEAD + payload;
        let mut all = Self {
            ring,
            socket,
            message,
            entries,
            buffers: vec![0; length * usize::from(BUFFERS)],
            length,
            tail: 0,
            armed: false,
            enabled: false,
        };
        // SAFETY: BUFFERS zeroed entries at a page's beginning, freed only after the ring is closed.
        unsafe {
            all.ring.submitter().register_buf_ring_with_flags(
                all.entries.as_ptr() as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        for buffer in 0..BUFFERS {
            all.provide(buffer);
        }
        all.publish();
        Ok(all)
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Waits for at most `time`, then hands each datagram that is there to `packet`.
    pub(crate) fn receive(
        &mut self,
        time: Duration,
        mut packet: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        if !self.enabled {
            self.ring.submitter().register_enable_rings()?;
            self.enabled = true;
        }
        if !self.armed {
            self.arm()?;
        }
        let wait = Timespec::new()
            .sec(time.as_secs())
            .nsec(time.subsec_nanos());
        let args = SubmitArgs::new().timespec(&wait);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EBUSY)
                ) => {}
            Err(e) => return Err(e),
        }
        loop {
            let Some(completion) = self.ring.completion().next() else {
                break;
            };
            self.armed &= cqueue::more(completion.flags());
            match completion.result() {
                result if result >= 0 => {}
                // Every buffer is taken: it ended, and is armed again with those given back meanwhile.
                result if result == -libc::ENOBUFS => continue,
                result => return Err(io::Error::from_raw_os_error(-result)),
            }
            let Some(buffer) = cqueue::buffer_select(completion.flags()) else {
                continue;
            };
            let start = usize::from(buffer) * self.length;
            let bytes = &self.buffers[start..start + self.length];
            if let Ok(out) = RecvMsgOut::parse(bytes, &self.message) {
                packet(out.payload_data());
            }
            self.provide(buffer);
            self.publish();
        }
        Ok(())
    }

    fn arm(&mut self) -> io::Result<()> {
        let entry = opcode::RecvMsgMulti::new(Fixed(0), &raw const *self.message, GROUP).build();
        // SAFETY: the message lives in a box until the ring is closed, and so do the group's buffers.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        self.armed = true;
        Ok(())
    }

    /// Puts a buffer at the ring's end; the kernel sees it after [`Self::publish`].
    fn provide(&mut self, buffer: u16) {
        let at = usize::from(self.tail % BUFFERS);
        let start = usize::from(buffer) * self.length;
        let address = self.buffers[start..].as_mut_ptr() as u64;
        // SAFETY: `at < BUFFERS`; the kernel reads an entry only once the tail has passed it. Only the
        // first three fields are written: the fourth of entry 0 is the tail.
        let entry = unsafe { &mut *self.entries.as_ptr().add(at) };
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.length).unwrap_or(u32::MAX));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the ring's base; the tail is a u16 inside entry 0, written by us alone and read by the
        // kernel, hence atomic.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for Multishot {
    fn drop(&mut self) {
        // The armed request ends before its buffers go.
        let all = io_uring::types::CancelBuilder::any();
        let _ended = self.ring.submitter().register_sync_cancel(None, all);
        let _gone = self.ring.submitter().unregister_buf_ring(GROUP);
        if let Some(layout) = layout() {
            // SAFETY: allocated in `new` with this layout, and the kernel has let go of it.
            unsafe { dealloc(self.entries.as_ptr().cast(), layout) };
        }
    }
}
