//! The sending half: frames are written by the caller, handed over in order, and come back when sent.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::XskError;
use super::sys::{Area, Bind, Bound, Descriptor, Rings, Socket};

/// What the kernel said when it was told of new entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// It took what it could.
    Taken,
    /// It wants to be told again; nothing is lost (`EAGAIN`: its share of a turn is used up).
    Again,
    /// Copy mode: the device refused a packet (`EBUSY`). It is lost, and completed all the same.
    Refused,
    /// No memory for socket buffers now; nothing is lost (`ENOBUFS`).
    NoBuffers,
}

/// A sending socket, bound to one queue.
pub struct Tx {
    socket: Socket,
    bound: Bound,
    free: Vec<u64>,
    outstanding: usize,
}

impl Tx {
    /// Makes an area of `frames` (a power of two) frames and binds.
    ///
    /// # Errors
    /// Without CAP_NET_RAW, enough lockable memory, or a driver that takes this mode.
    pub fn bind(to: &Bind, frame_size: u32, frames: u32) -> Result<Self, XskError> {
        let rings = Rings {
            rx: 0,
            fill: 1,
            tx: frames,
            completion: frames,
        };
        let socket = Socket::new(Area::new(frames, frame_size)?, rings)?;
        let free = socket.area.frames().collect();
        let bound = socket.bind(to)?;
        Ok(Self {
            socket,
            bound,
            free,
            outstanding: 0,
        })
    }

    /// Packets that can be pushed now.
    pub fn room(&mut self) -> usize {
        let ring = self.socket.tx.as_mut().map_or(0, |ring| ring.room());
        ring.min(self.free.len())
    }

    /// Packets handed over that have not come back.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Hands one packet over: `write` fills the frame it is given and says how long the packet is. False
    /// if there is no room; `write` is not called then.
    pub fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.room() == 0 {
            return false;
        }
        let Some(address) = self.free.pop() else {
            return false;
        };
        let Some(length) = self.socket.write(address, write) else {
            self.free.push(address);
            return false;
        };
        let entry = Descriptor {
            addr: address,
            len: length,
            options: 0,
        };
        let put = self.socket.tx.as_mut().map_or(0, |ring| ring.put([entry]));
        self.outstanding += put;
        put == 1
    }

    /// Tells the kernel of what was pushed, if it wants to be told.
    ///
    /// # Errors
    /// The device is down or gone.
    pub fn kick(&self) -> Result<Kick, Errno> {
        if !self
            .socket
            .tx
            .as_ref()
            .is_some_and(|ring| ring.needs_wakeup())
        {
            return Ok(Kick::Taken);
        }
        match self.bound.wake_tx() {
            Ok(()) => Ok(Kick::Taken),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Kick::Again),
            Err(Errno::EBUSY) => Ok(Kick::Refused),
            Err(Errno::ENOBUFS) => Ok(Kick::NoBuffers),
            Err(e) => Err(e),
        }
    }

    /// Takes back the frames of packets that are sent; returns how many.
    pub fn reclaim(&mut self) -> usize {
        let ring = &mut self.socket.completion;
        let done = ring.waiting();
        let addresses = (0..done).map_while(|i| ring.peek(i));
        // Within capacity: they were all in `free` once.
        self.free.extend(addresses);
        ring.advance(done);
        self.outstanding -= done.min(self.outstanding);
        done
    }
}

impl AsFd for Tx {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bound.as_fd()
    }
}
