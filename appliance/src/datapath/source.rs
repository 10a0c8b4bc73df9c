//! Where packets come from: an AF_XDP socket or a plain one, behind one interface.

use std::os::fd::OwnedFd;
use std::time::Duration;

use plumbline_wire::{ConsentEntry, ConsentKey, Size};

use super::error::DatapathError;
use crate::xsk::Mode;

/// Packets taken at once. Four full lanes of sixteen; at 10 Gbit/s and MTU 1500 a batch is 77 µs, so a
/// sink still gets its turn soon enough.
pub(super) const BATCH: usize = 64;

/// A data packet, where it lies.
#[derive(Clone, Copy)]
pub(super) struct Packet<'a> {
    /// The whole UDP payload; as long as `size` says.
    pub(super) payload: &'a [u8],
    /// How long it is.
    pub(super) size: Size,
    /// When it arrived, nanoseconds of the source's clock.
    pub(super) stamp_ns: u64,
}

/// The clock that stamps packets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StampClock {
    /// `CLOCK_TAI`, read by the XDP program.
    Tai,
    /// `CLOCK_REALTIME`, read by the kernel's stack.
    Realtime,
}

/// An AF_XDP socket as a source: what the ladder needs of one, whoever made it.
pub(super) trait XdpSocket: Source + Sized + 'static {
    /// As results name it.
    const NAME: &'static str;

    /// Registers UMEM and binds to `queue` of `interface`. Returns the socket and, if UMEM had to be
    /// smaller than wanted, why.
    fn bind(
        interface: &str,
        queue: u32,
        mtu: u32,
        mode: Mode,
        waker: OwnedFd,
    ) -> Result<(Self, Option<String>), String>;

    /// The pages behind UMEM.
    fn pages(&self) -> &'static str;

    /// From now on the receive thread drives the device's queue itself instead of sleeping.
    fn busy_poll(&mut self) -> Result<(), DatapathError>;

    /// A second descriptor of the socket, for its statistics and the map.
    fn descriptor(&self) -> Result<OwnedFd, DatapathError>;
}

/// A source of packets, owned by the receive thread.
pub(super) trait Source: Send {
    /// Which clock `stamp_ns` is of.
    const CLOCK: StampClock;

    /// Takes what has arrived, at most [`BATCH`], without waiting; returns how many packets were taken.
    /// They stay where they are until [`Source::release`]. `tai_ns` is now.
    fn receive(&mut self, tai_ns: u64) -> usize;

    /// Packet `i` of the batch; `None` if it is not one for the sessions (each such packet has been
    /// counted by the source, or is malformed: see [`Source::COUNTS_REFUSALS`]).
    fn packet(&self, i: usize) -> Option<Packet<'_>>;

    /// True if the source has counted what `packet` does not return; false if that means a frame
    /// which the XDP program should not have let through.
    const COUNTS_REFUSALS: bool;

    /// Gives the batch back.
    fn release(&mut self);

    /// Waits until something arrives or `timeout` is over; `None` waits without end. The waker ends it
    /// at once.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), DatapathError>;

    /// True if waiting is what makes packets arrive: the thread drives the device's queue itself.
    fn drives(&self) -> bool {
        false
    }

    /// Admits senders, where the source itself checks consent.
    fn consent(&mut self, rows: &[(ConsentKey, ConsentEntry)]);

    /// Withdraws them.
    fn withdraw(&mut self, rows: &[(ConsentKey, ConsentEntry)]);
}
