//! The receiving half: takes packets where they lie and gives the frames back.
//!
//! Frames that come back are posted again first, the last returned foremost, so that a small part of the
//! area circulates and stays in cache. How many are posted follows the need: see [`Posting`].

use std::os::fd::{AsFd, BorrowedFd};

use super::sys::{Area, Bind, Bound, Descriptor, Pages, Rings, Socket, XskStatistics};
use super::{XskError, option};

/// Descriptors taken at once: four lots of the sixteen that are hashed together.
pub const BATCH: usize = 64;
/// After so many frames without a need for the reserve, the number posted is halved: ten milliseconds at
/// 10 Gbit/s, so that one quiet moment decides nothing, and a phase of 100 ms still gains.
const CALM: usize = 8_192;

/// How many frames the kernel has, between two bounds. All of them at first; half as many after each calm
/// stretch in which an eighth would have done; twice as many as soon as a quarter of them was found waiting,
/// which means that the thread was kept from running.
#[derive(Clone, Copy, Debug)]
pub struct Posting {
    /// The fewest: what circulates when the thread keeps up.
    pub least: usize,
    /// The most: what must hold while it is kept from running.
    pub most: usize,
}

/// One buffer of a received packet.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its bytes, where the kernel put them.
    pub bytes: &'a [u8],
    /// The packet ends here.
    pub last: bool,
}

/// A receiving socket, bound to one queue.
pub struct Rx {
    socket: Socket,
    bound: Bound,
    free: Vec<u64>,
    batch: Vec<Descriptor>,
    posted: usize,
    posting: Posting,
    keep: usize,
    /// Most that was found waiting since `calm` was 0.
    busiest: usize,
    calm: usize,
}

impl Rx {
    /// Makes an area of `posting.most` frames and a batch, posts them, and binds.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, enough lockable memory, or a driver that takes this mode.
    pub fn bind(to: &Bind, frame_size: u32, posting: Posting) -> Result<Self, XskError> {
        let size = |n: usize| u32::try_from(n.next_power_of_two()).unwrap_or(1 << 31);
        let rings = Rings {
            rx: size(posting.most),
            fill: size(posting.most),
            tx: 0,
            completion: 1,
        };
        let frames = u32::try_from(posting.most + BATCH).unwrap_or(u32::MAX);
        let mut socket = Socket::new(Area::new(frames, frame_size)?, rings)?;
        let mut free: Vec<u64> = socket.area.frames().collect();
        // Some drivers take their first buffers at bind and never ask again if there were none.
        let from = free.len() - posting.most;
        let posted = socket.fill.put(free[from..].iter().copied());
        free.truncate(free.len() - posted);
        let bound = socket.bind(to)?;
        // Room for all frames, so that giving back never allocates.
        free.reserve_exact(frames as usize - free.len());
        Ok(Self {
            socket,
            bound,
            free,
            batch: Vec::with_capacity(BATCH),
            posted,
            posting,
            keep: posting.most,
            busiest: 0,
            calm: 0,
        })
    }

    /// The pages behind the area.
    pub fn pages(&self) -> Pages {
        self.socket.area.pages()
    }

    /// Frames that are posted, at present.
    pub fn kept(&self) -> usize {
        self.keep
    }

    /// The socket's own counters.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn statistics(&self) -> Result<XskStatistics, XskError> {
        use std::os::fd::AsRawFd;
        XskStatistics::read(&self.bound.as_fd().as_raw_fd())
    }

    /// Takes whole packets, at most [`BATCH`] pieces, without waiting; returns how many pieces. They stay
    /// until [`Rx::release`].
    pub fn receive(&mut self) -> usize {
        let Some(ring) = self.socket.rx.as_mut() else {
            return 0;
        };
        let waiting = ring.waiting();
        self.batch.clear();
        let entries = (0..waiting.min(BATCH)).map_while(|i| ring.peek(i));
        self.batch.extend(entries);
        // The rest of a packet that does not fit stays for the next turn, with its beginning.
        while self.batch.last().is_some_and(continued) {
            self.batch.pop();
        }
        ring.advance(self.batch.len());
        self.posted -= self.batch.len();
        if waiting > 0 {
            self.adapt(waiting);
        }
        self.batch.len()
    }

    /// Piece `i` of the batch.
    pub fn piece(&self, i: usize) -> Option<Piece<'_>> {
        let descriptor = self.batch.get(i)?;
        let bytes = self.socket.lent(descriptor)?;
        Some(Piece {
            bytes,
            last: !continued(descriptor),
        })
    }

    /// Gives the batch back and posts what the kernel should have.
    pub fn release(&mut self) {
        let area = &self.socket.area;
        // Within capacity: `free` was made to hold all frames.
        self.free
            .extend(self.batch.iter().map(|d| area.frame_of(d.addr)));
        self.batch.clear();
        let wanted = self.keep.saturating_sub(self.posted).min(self.free.len());
        let from = self.free.len() - wanted;
        // The ring holds `posting.most`, so it takes all of them.
        let posted = self
            .socket
            .fill
            .put(self.free[from..].iter().rev().copied());
        self.free.truncate(self.free.len() - posted);
        self.posted += posted;
    }

    /// The driver ran out of frames and sleeps until it is polled.
    pub fn needs_wakeup(&self) -> bool {
        self.socket.fill.needs_wakeup()
    }

    fn adapt(&mut self, waiting: usize) {
        self.busiest = self.busiest.max(waiting);
        self.calm += self.batch.len();
        if waiting > self.keep / 4 {
            self.keep = (2 * self.keep).min(self.posting.most);
        } else if self.calm < CALM {
            return;
        } else if self.busiest < self.keep / 8 {
            self.keep = (self.keep / 2).max(self.posting.least);
        }
        (self.calm, self.busiest) = (0, 0);
    }
}

impl AsFd for Rx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.as_fd()
    }
}

fn continued(descriptor: &Descriptor) -> bool {
    descriptor.options & option::PKT_CONTD != 0
}
