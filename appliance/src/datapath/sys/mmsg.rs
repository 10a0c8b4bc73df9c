//! `recvmmsg` with kernel time stamps: the lowest rung, a plain UDP socket.
//!
//! ```text
//!  socket ── recvmmsg, up to 64 ──► slots[i] ── wire::frame::payload ──► consent row ──► packet(i)
//!                                                 └─ refused: counted by fate, as the XDP program does
//! ```
//!
//! The rules and their order are those of the XDP program, by the same functions.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use plumbline_wire::consent::mapped_v4;
use plumbline_wire::{ConsentEntry, ConsentKey, Fate, Size, frame, size};

use super::super::counters::LiveFates;
use super::super::error::DatapathError;
use super::super::source::{BATCH, Packet, Source, StampClock};
use super::sockopt;

/// Bytes of a slot: one more than a data packet, so that a longer datagram is seen to be longer.
const SLOT: usize = size::LONGEST + 1;
/// Bytes for the control messages of one datagram: one `timespec`, with room.
const CONTROL: usize = 64;

/// Control messages are read and written in words.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Buffers of a batch. Boxed, and never moved while the kernel's headers point into it.
struct Slots {
    bytes: [[u8; SLOT]; BATCH],
    names: [libc::sockaddr_storage; BATCH],
    control: [Control; BATCH],
    vectors: [libc::iovec; BATCH],
    headers: [libc::mmsghdr; BATCH],
}

/// A plain UDP socket as a source of packets.
pub(in super::super) struct MmsgSource {
    socket: UdpSocket,
    slots: Box<Slots>,
    /// Size, and arrival in `CLOCK_REALTIME` ns, of each packet of the batch that passed.
    verdicts: [Option<(Size, u64)>; BATCH],
    taken: usize,
    consents: HashMap<ConsentKey, ConsentEntry>,
    fates: Arc<LiveFates>,
    waker: OwnedFd,
}

// SAFETY: the raw pointers in `vectors` and `headers` point into the same boxed `Slots` and are set anew
// before each call that uses them; nothing else refers to them.
unsafe impl Send for MmsgSource {}

impl MmsgSource {
    /// Takes over `socket`, which must have `SO_TIMESTAMPNS` set. Room for all consent rows is made now.
    pub(in super::super) fn new(socket: UdpSocket, fates: Arc<LiveFates>, waker: OwnedFd) -> Self {
        // SAFETY: all fields are integers, byte arrays and raw pointers, for which zero is valid.
        let slots = unsafe { Box::<Slots>::new_zeroed().assume_init() };
        Self {
            socket,
            slots,
            verdicts: [None; BATCH],
            taken: 0,
            consents: HashMap::with_capacity(plumbline_wire::consent::ROWS),
            fates,
            waker,
        }
    }

    /// Points the kernel's headers at the slots.
    fn prepare(&mut self) {
        let Slots {
            bytes,
            names,
            control,
            vectors,
            headers,
        } = &mut *self.slots;
        let slots = bytes
            .iter_mut()
            .zip(names)
            .zip(control)
            .zip(vectors)
            .zip(headers);
        for ((((bytes, name), control), vector), header) in slots {
            *vector = libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: SLOT,
            };
            let h = &mut header.msg_hdr;
            h.msg_name = std::ptr::from_mut(name).cast();
            h.msg_namelen = libc::socklen_t::try_from(size_of_val(name)).unwrap_or(0);
            h.msg_iov = vector;
            h.msg_iovlen = 1;
            h.msg_control = control.0.as_mut_ptr().cast();
            h.msg_controllen = CONTROL;
            h.msg_flags = 0;
            header.msg_len = 0;
        }
    }

    /// What becomes of datagram `i`: its size and arrival time, or why it is refused.
    fn judge(&mut self, i: usize, tai_ns: u64) -> Result<(Size, u64), Fate> {
        let header = &self.slots.headers[i];
        let length = (header.msg_len as usize).min(SLOT);
        let bytes = &self.slots.bytes[i][..length];
        let (parsed, size) = frame::payload(bytes, 0, length, true)?;
        let (source, port) = source_of(&self.slots.names[i]).ok_or(Fate::DroppedNotConsented)?;
        let key = ConsentKey::new(source, port, parsed.session, parsed.index);
        let row = self
            .consents
            .get_mut(&key)
            .ok_or(Fate::DroppedNotConsented)?;
        row.admit(&parsed, length, tai_ns, row.passed)?;
        row.passed += 1;
        // Without a stamp the kernel was not asked for one, which `new` requires; a packet that cannot be
        // timed is not data.
        let stamp_ns = stamp_of(&header.msg_hdr).ok_or(Fate::DroppedRunt)?;
        Ok((size, stamp_ns))
    }
}

/// The sender's address, as the consent table has it.
fn source_of(name: &libc::sockaddr_storage) -> Option<([u8; 16], u16)> {
    match libc::c_int::from(name.ss_family) {
        libc::AF_INET => {
            // SAFETY: the kernel wrote a `sockaddr_in`, says the family, and the storage is larger.
            let v4 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in>() };
            Some((
                mapped_v4(v4.sin_addr.s_addr.to_ne_bytes()),
                u16::from_be(v4.sin_port),
            ))
        }
        libc::AF_INET6 => {
            // SAFETY: the kernel wrote a `sockaddr_in6`, says the family, and the storage is larger.
            let v6 = unsafe { &*std::ptr::from_ref(name).cast::<libc::sockaddr_in6>() };
            Some((v6.sin6_addr.s6_addr, u16::from_be(v6.sin6_port)))
        }
        _ => None,
    }
}

/// The kernel's time stamp among the control messages, ns.
fn stamp_of(header: &libc::msghdr) -> Option<u64> {
    // SAFETY: the kernel filled `msg_control` and set `msg_controllen` to what it used; the macros stay
    // within that.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: not null, so it is a whole control message header inside the buffer.
        let (level, kind) = unsafe { ((*message).cmsg_level, (*message).cmsg_type) };
        if level == libc::SOL_SOCKET && kind == libc::SCM_TIMESTAMPNS {
            // SAFETY: this kind carries a `timespec`; the buffer may not be aligned for one.
            let time = unsafe {
                libc::CMSG_DATA(message)
                    .cast::<libc::timespec>()
                    .read_unaligned()
            };
            return u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).ok();
        }
        // SAFETY: as for the first.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    None
}

impl Source for MmsgSource {
    const CLOCK: StampClock = StampClock::Realtime;
    const COUNTS_REFUSALS: bool = true;

    fn receive(&mut self, tai_ns: u64) -> usize {
        self.prepare();
        let headers = &mut self.slots.headers;
        // SAFETY: the headers point at slots that live as long as `self` and that nothing borrows.
        let n = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                headers.as_mut_ptr(),
                libc::c_uint::try_from(BATCH).unwrap_or(1),
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        // Nothing there, interrupted, or an ICMP error of somebody we never sent to: wait again.
        self.taken = usize::try_from(n).unwrap_or(0);
        for i in 0..self.taken {
            let verdict = self.judge(i, tai_ns);
            self.fates
                .add(*verdict.as_ref().err().unwrap_or(&Fate::Redirected));
            self.verdicts[i] = verdict.ok();
        }
        self.taken
    }

    fn packet(&self, i: usize) -> Option<Packet<'_>> {
        let (size, stamp_ns) = (*self.verdicts[..self.taken].get(i)?)?;
        let payload = self.slots.bytes[i].get(..size.payload())?;
        Some(Packet {
            payload,
            size,
            stamp_ns,
        })
    }

    fn release(&mut self) {
        self.taken = 0;
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), DatapathError> {
        sockopt::wait(
            &[self.socket.as_fd(), self.waker.as_fd()],
            self.waker.as_fd(),
            timeout,
        )
    }

    fn consent(&mut self, rows: &[(ConsentKey, ConsentEntry)]) {
        self.consents.extend(rows.iter().copied());
    }

    fn withdraw(&mut self, rows: &[(ConsentKey, ConsentEntry)]) {
        for (key, _) in rows {
            self.consents.remove(key);
        }
    }
}
