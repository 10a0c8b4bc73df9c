//! An AF_XDP socket as a source of packets.
//!
//! ```text
//!  batch of pieces ─┬─ one piece: the packet, where it lies in UMEM ──────────────► packet(i)
//!                   └─ several (longer than a frame): put together, one copy ─────► packet(i)
//! ```
//!
//! The XDP program let through only whole data packets and left its stamp in each; what is not so is
//! counted as malformed by the thread.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use plumbline_wire::stamp::{FLAG_XDP_TAI, STAMP_LEN};
use plumbline_wire::{ConsentEntry, ConsentKey, Size, Stamp, size};

use super::error::DatapathError;
use super::source::{BATCH, Packet, Source, StampClock, XdpSocket};
use super::sys::sockopt;
use crate::xsk::{Bind, Mode, Posting, Rx, XskError, capacity};

/// Frames posted at most: 20 ms at 10 Gbit/s and MTU 1500. That is how long the thread may be kept from
/// running before a packet is lost. On a machine with three times as many runnable threads as cores it was
/// seen to be kept for 50 ms; with 1,024 frames, 38 % were lost there.
const POSTED_MOST: usize = 16_384;
/// Frames posted at least: what circulates when the thread keeps up. 4 MiB at MTU 1500, with zero copy 8.
const POSTED_LEAST: usize = 2048;
/// Tried when the limit on locked memory refuses the above.
const POSTED_LOCKED: usize = 1024;

/// Frame sizes: 256 bytes of headroom and a packet of MTU 1500 fit the small one; the large one is the most
/// that the kernel takes, and longer packets come in several. With zero copy the card itself writes into the
/// frame, and some round what is left behind the headroom down to whole KiB: of 1,792 bytes igb uses 1,024, and
/// each packet comes in two pieces that nothing marks as one. The large one leaves 3,840, rounded down 3,072.
const FRAME_SMALL: u32 = 2048;
const FRAME_LARGE: u32 = 4096;
/// Ethernet header with one VLAN tag.
const LINK: u32 = 18;
/// Pieces of the longest packet.
const PIECES: usize = (size::LONGEST + 62).div_ceil((FRAME_LARGE - crate::xsk::HEADROOM) as usize);

const _: () = assert!(BATCH == crate::xsk::BATCH);
const _: () = assert!(POSTED_LEAST >= 2 * BATCH && POSTED_LEAST <= POSTED_MOST);

/// One packet of the batch.
#[derive(Clone, Copy)]
enum Place {
    /// In this piece, whole.
    Piece(usize),
    /// In this slot of the assembled ones; its first piece has the stamp.
    Slot { slot: usize, first: usize },
    /// Not a data packet.
    Nowhere,
}

/// A receiving AF_XDP socket.
pub(super) struct AfXdp {
    rx: Rx,
    places: Vec<Place>,
    slots: Vec<[u8; size::LONGEST]>,
    waker: OwnedFd,
    busy: bool,
}

/// Frame size for an interface's MTU and a mode, and whether packets may come in several.
pub(super) fn frames_for(mtu: u32, mode: Mode) -> (u32, bool) {
    let longest = mtu + LINK;
    if mode == Mode::Copy && longest <= capacity(FRAME_SMALL) {
        (FRAME_SMALL, false)
    } else {
        (FRAME_LARGE, longest > capacity(FRAME_LARGE))
    }
}

impl XdpSocket for AfXdp {
    const NAME: &'static str = "af_xdp";

    fn bind(
        interface: &str,
        queue: u32,
        mtu: u32,
        mode: Mode,
        waker: OwnedFd,
    ) -> Result<(Self, Option<String>), String> {
        let (frame_size, scatter) = frames_for(mtu, mode);
        let to = Bind {
            interface: interface.into(),
            queue,
            mode,
            scatter,
        };
        let posting = |most: usize| Posting {
            least: POSTED_LEAST.min(most),
            most,
        };
        let explain = |e: XskError| match e.source.raw_os_error() {
            Some(libc::EINVAL) if scatter => format!(
                "{e} (MTU {mtu} needs packets in several frames, XDP_USE_SG, Linux 6.6; or the driver has none)"
            ),
            _ => e.to_string(),
        };
        let (rx, note) = match Rx::bind(&to, frame_size, posting(POSTED_MOST)) {
            Ok(rx) => (rx, None),
            Err(e) if e.source.raw_os_error() == Some(libc::ENOBUFS) => {
                let rx = Rx::bind(&to, frame_size, posting(POSTED_LOCKED)).map_err(explain)?;
                (
                    rx,
                    Some(format!(
                        "UMEM is {POSTED_LOCKED} frames instead of {POSTED_MOST} ({e})"
                    )),
                )
            }
            Err(e) => return Err(explain(e)),
        };
        let slots = if scatter { BATCH.div_ceil(2) } else { 0 };
        let source = Self {
            rx,
            places: Vec::with_capacity(BATCH),
            slots: vec![[0; size::LONGEST]; slots],
            waker,
            busy: false,
        };
        Ok((source, note))
    }

    fn pages(&self) -> &'static str {
        self.rx.pages().name()
    }

    fn busy_poll(&mut self) -> Result<(), DatapathError> {
        sockopt::busy_poll(&self.rx.as_fd())?;
        self.busy = true;
        Ok(())
    }

    fn descriptor(&self) -> Result<OwnedFd, DatapathError> {
        self.rx
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| DatapathError::Os {
                what: "duplicating the AF_XDP socket".into(),
                source,
            })
    }
}

impl AfXdp {
    /// Puts the pieces `first..` of one packet together in `slot`; returns how many there were.
    fn assemble(&mut self, slot: usize, first: usize) -> (Place, usize) {
        let mut used = 0;
        let mut at = 0;
        let mut whole = true;
        while let Some(piece) = self.rx.piece(first + used) {
            // The first piece begins with the headers, the others are payload from their beginning.
            let skip = if used == 0 {
                payload_at(piece.bytes)
            } else {
                Some(0)
            };
            let bytes = skip.and_then(|skip| piece.bytes.get(skip..));
            let room = self
                .slots
                .get_mut(slot)
                .and_then(|s| s.get_mut(at..)?.get_mut(..bytes?.len()));
            match (bytes, room) {
                (Some(bytes), Some(room)) => {
                    room.copy_from_slice(bytes);
                    at += bytes.len();
                }
                _ => whole = false,
            }
            used += 1;
            if piece.last {
                break;
            }
        }
        let place = if whole && used <= PIECES {
            Place::Slot { slot, first }
        } else {
            Place::Nowhere
        };
        (place, used.max(1))
    }
}

/// Where the UDP payload begins: the program let through only these two.
fn payload_at(frame: &[u8]) -> Option<usize> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(14 + 20 + 8),
        [0x86, 0xdd] => Some(14 + 40 + 8),
        _ => None,
    }
}

/// Where the UDP payload begins, how long UDP says it is, and the program's stamp.
pub(super) fn read(frame: &[u8]) -> Option<(usize, Size, Stamp)> {
    let stamp = Stamp::from_bytes(*frame.first_chunk::<STAMP_LEN>()?);
    let at = payload_at(frame)?;
    let length = frame.get(at - 4..at - 2)?.first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).checked_sub(8)?;
    let size = Size::of_payload(length)?;
    (stamp.flags == FLAG_XDP_TAI).then_some((at, size, stamp))
}

impl Source for AfXdp {
    const CLOCK: StampClock = StampClock::Tai;
    const COUNTS_REFUSALS: bool = false;

    fn receive(&mut self, _tai_ns: u64) -> usize {
        let pieces = self.rx.receive();
        self.places.clear();
        let (mut i, mut slot) = (0, 0);
        while i < pieces {
            let (place, used) = match self.rx.piece(i) {
                Some(piece) if piece.last => (Place::Piece(i), 1),
                Some(_) => {
                    slot += 1;
                    self.assemble(slot - 1, i)
                }
                None => (Place::Nowhere, 1),
            };
            self.places.push(place);
            i += used;
        }
        self.places.len()
    }

    fn packet(&self, i: usize) -> Option<Packet<'_>> {
        let (payload, size, stamp) = match *self.places.get(i)? {
            Place::Piece(piece) => {
                let frame = self.rx.piece(piece)?.bytes;
                let (at, size, stamp) = read(frame)?;
                (frame.get(at..at + size.payload())?, size, stamp)
            }
            Place::Slot { slot, first } => {
                let (_, size, stamp) = read(self.rx.piece(first)?.bytes)?;
                (self.slots.get(slot)?.get(..size.payload())?, size, stamp)
            }
            Place::Nowhere => return None,
        };
        Some(Packet {
            payload,
            size,
            stamp_ns: stamp.ns,
        })
    }

    fn release(&mut self) {
        self.places.clear();
        self.rx.release();
        if self.rx.needs_wakeup() {
            // Zero copy only: the driver ran out of frames and sleeps until told that there are some.
            // That it cannot be told now is no error: the next wait tells it again.
            let _ = self.wait(Some(Duration::ZERO));
        }
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), DatapathError> {
        match timeout {
            // With busy polling and sessions open, the wake-up is the driver's poll itself.
            Some(_) if self.busy => sockopt::drive(self.rx.as_fd()),
            // Also what tells a driver that frames were posted.
            _ => sockopt::wait(
                &[self.rx.as_fd(), self.waker.as_fd()],
                self.waker.as_fd(),
                timeout,
            ),
        }
    }

    fn drives(&self) -> bool {
        self.busy
    }

    // The kernel's table decides.
    fn consent(&mut self, _: &[(ConsentKey, ConsentEntry)]) {}

    fn withdraw(&mut self, _: &[(ConsentKey, ConsentEntry)]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_mtu_and_mode() {
        for (mtu, copy, zero_copy) in [
            (1500, (2048, false), (4096, false)),
            (1774, (2048, false), (4096, false)),
            (1775, (4096, false), (4096, false)),
            (3822, (4096, false), (4096, false)),
            (3823, (4096, true), (4096, true)),
            (9000, (4096, true), (4096, true)),
        ] {
            assert_eq!(frames_for(mtu, Mode::Copy), copy, "{mtu}");
            assert_eq!(frames_for(mtu, Mode::ZeroCopy), zero_copy, "{mtu}");
        }
        assert_eq!(PIECES, 3);
    }

    #[test]
    fn a_card_that_rounds_down_to_whole_kib_takes_a_packet_of_mtu_1500_in_one_piece() {
        let (frame, _) = frames_for(1500, Mode::ZeroCopy);
        assert!(capacity(frame) / 1024 * 1024 >= 1500 + LINK);
    }

    #[test]
    fn the_memory_of_a_queue_is_bounded() {
        let most = |mode| (POSTED_MOST + BATCH) * frames_for(9000, mode).0 as usize;
        assert!(most(Mode::Copy).max(most(Mode::ZeroCopy)) <= 65 << 20);
    }

    #[test]
    fn a_frame_says_where_its_payload_is() {
        let mut frame = vec![0; 1514];
        frame[..STAMP_LEN].copy_from_slice(
            &Stamp {
                ns: 7,
                cpu: 1,
                flags: FLAG_XDP_TAI,
            }
            .to_bytes(),
        );
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[38..40].copy_from_slice(&1480u16.to_be_bytes());
        let (at, size, stamp) = read(&frame).unwrap();
        assert_eq!((at, size, stamp.ns), (42, Size::Standard, 7));
        for (byte, wrong) in [(12, 9), (39, 1), (10, 2)] {
            let mut bent = frame.clone();
            bent[byte] = wrong;
            assert!(read(&bent).is_none(), "byte {byte}");
        }
        assert!(read(&frame[..39]).is_none());
    }
}
