//! An AF_XDP socket for receiving: UMEM, fill ring and receive ring (`xsk-rs`), behind an interface
//! in which a frame cannot be used after it was given back.
//!
//! ```text
//!        fill ring (posted ≤ POSTED)          receive ring
//!  free ───────────────► kernel ──────────────────────────► batch ──► packet(i): &[u8]
//!   ▲  last in, first out                                     │
//!   └────────────────────────── release ◄─────────────────────┘
//! ```
//!
//! A frame is in exactly one place: `free`, posted (fill ring, kernel, receive ring) or the batch.
//! References into the batch borrow the source, and giving the batch back needs it exclusively, so
//! none can outlive it. Frames that come back are posted again first, while they are in cache.

use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

use plumbline_wire::{ConsentEntry, ConsentKey};
use xsk_rs::config::{
    BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig,
};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::super::af_xdp::{frames_for, read};
use super::super::error::DatapathError;
use super::super::source::{BATCH, Packet, Source, StampClock, XdpSocket};
use super::sockopt;
use crate::xsk::Mode;

/// Bytes of a UMEM frame: 256 of headroom and a frame of MTU 1500, rounded up to a power of two.
const FRAME_SIZE: u32 = 2048;
/// Receive ring, fill ring and frames posted, as many as the binding of our own posts at most.
const RX_RING: u32 = 16_384;
const FILL_RING: u32 = RX_RING;
const POSTED: usize = RX_RING as usize;
/// UMEM: everything posted, and a batch. 32 MiB.
const FRAMES: u32 = RX_RING + 64;

const _: () = assert!(FRAMES as usize >= POSTED + BATCH);

/// A receiving AF_XDP socket.
pub(in super::super) struct XskSource {
    umem: Umem,
    rx: RxQueue,
    fill: FillQueue,
    /// Kept because libxdp unmaps their rings with the socket.
    _tx: TxQueue,
    _completion: CompQueue,
    batch: [FrameDesc; BATCH],
    taken: usize,
    free: Vec<FrameDesc>,
    posted: usize,
    most_posted: usize,
    waker: OwnedFd,
    busy: bool,
}

impl XdpSocket for XskSource {
    const NAME: &'static str = "af_xdp by xsk-rs";

    fn bind(
        interface: &str,
        queue: u32,
        mtu: u32,
        mode: Mode,
        waker: OwnedFd,
    ) -> Result<(Self, Option<String>), String> {
        if frames_for(mtu, mode) != (FRAME_SIZE, false) {
            return Err(format!(
                "xsk-rs is used with copies and an MTU of up to 1774 only; this is {mode:?}, MTU {mtu}"
            ));
        }
        let (umem, frames) = umem(FRAMES)?;
        let bind = match mode {
            Mode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
            Mode::Copy => BindFlags::XDP_COPY,
        };
        let config = SocketConfig::builder()
            .rx_queue_size(size(RX_RING)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(bind | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let name = Interface::from_str(interface).map_err(|e| e.to_string())?;
        // SAFETY: the UMEM was just made and is bound nowhere else, and libxdp loads no program.
        let made = unsafe { Socket::new(config, &umem, &name, queue) };
        let (tx, rx, rings) = made.map_err(|e| {
            let source = std::error::Error::source(&e)
                .map(|s| format!(": {s}"))
                .unwrap_or_default();
            format!("queue {queue}: {e}{source}")
        })?;
        let (fill, completion) = rings.ok_or("libxdp returned no fill ring")?;
        let most_posted = POSTED.min(frames.len() - BATCH);
        let mut source = Self {
            umem,
            rx,
            fill,
            _tx: tx,
            _completion: completion,
            batch: [FrameDesc::default(); BATCH],
            taken: 0,
            free: frames,
            posted: 0,
            most_posted,
            waker,
            busy: false,
        };
        source.post();
        Ok((source, None))
    }

    fn busy_poll(&mut self) -> Result<(), DatapathError> {
        sockopt::busy_poll(self.rx.fd())?;
        self.busy = true;
        Ok(())
    }

    fn pages(&self) -> &'static str {
        "small"
    }

    fn descriptor(&self) -> Result<OwnedFd, DatapathError> {
        self.fd()
            .try_clone_to_owned()
            .map_err(|source| DatapathError::Os {
                what: "duplicating the AF_XDP socket".into(),
                source,
            })
    }
}

impl XskSource {
    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the receive ring owns the descriptor and is borrowed for as long as this lives.
        unsafe { BorrowedFd::borrow_raw(self.rx.fd().as_raw_fd()) }
    }

    /// Waits for packets or the waker. Also what tells a driver that frames were posted.
    fn poll(&self, timeout: Option<Duration>) -> Result<(), DatapathError> {
        sockopt::wait(
            &[self.fd(), self.waker.as_fd()],
            self.waker.as_fd(),
            timeout,
        )
    }

    /// Posts free frames until `most_posted` are, the last returned first.
    fn post(&mut self) {
        let room = self
            .most_posted
            .saturating_sub(self.posted)
            .min(self.free.len());
        let from = self.free.len() - room;
        // SAFETY: the descriptors are of this UMEM, and being in `free` they are nowhere else.
        let posted = unsafe { self.fill.produce(&self.free[from..]) };
        // All or nothing: the ring has room for `most_posted`.
        if posted > 0 {
            self.free.truncate(from);
            self.posted += posted;
        }
    }
}

fn size(entries: u32) -> Result<QueueSize, String> {
    QueueSize::new(entries).map_err(|e| e.to_string())
}

fn umem(frames: u32) -> Result<(Umem, Vec<FrameDesc>), String> {
    let config = UmemConfig::builder()
        .frame_size(FrameSize::new(FRAME_SIZE).map_err(|e| e.to_string())?)
        .fill_queue_size(size(FILL_RING)?)
        .build()
        .map_err(|e| e.to_string())?;
    let count = NonZeroU32::new(frames).ok_or("no frames")?;
    Umem::new(config, count, false).map_err(|e| {
        let source = std::error::Error::source(&e)
            .map(|s| format!(": {s}"))
            .unwrap_or_default();
        format!("{e}{source}")
    })
}

impl Source for XskSource {
    const CLOCK: StampClock = StampClock::Tai;
    const COUNTS_REFUSALS: bool = false;

    fn receive(&mut self, _tai_ns: u64) -> usize {
        // SAFETY: the batch is empty (it was released), so no frame is overwritten that is in use.
        self.taken = unsafe { self.rx.consume(&mut self.batch) };
        self.posted -= self.taken;
        self.taken
    }

    fn packet(&self, i: usize) -> Option<Packet<'_>> {
        let desc = self.batch[..self.taken].get(i)?;
        // SAFETY: the kernel handed this frame over with the receive ring and writes to it no more until
        // it is posted again, which takes `&mut self` and so ends this borrow.
        let frame = unsafe { self.umem.data(desc) }.contents();
        let (at, size, stamp) = read(frame)?;
        Some(Packet {
            payload: frame.get(at..at + size.payload())?,
            size,
            stamp_ns: stamp.ns,
        })
    }

    fn release(&mut self) {
        // Within capacity: `free` was made to hold all frames.
        self.free.extend_from_slice(&self.batch[..self.taken]);
        self.taken = 0;
        self.post();
        if self.fill.needs_wakeup() {
            // Zero copy only: the driver ran out of frames and sleeps until told that there are some.
            // That it cannot be told now is no error: the next wait tells it again.
            let _ = self.poll(Some(Duration::ZERO));
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), DatapathError> {
        match timeout {
            // With busy polling and sessions open, the wake-up is the driver's poll itself.
            Some(_) if self.busy => sockopt::drive(self.fd()),
            _ => self.poll(timeout),
        }
    }

    fn drives(&self) -> bool {
        self.busy
    }

    // The kernel's table decides.
    fn consent(&mut self, _: &[(ConsentKey, ConsentEntry)]) {}

    fn withdraw(&mut self, _: &[(ConsentKey, ConsentEntry)]) {}
}
