//! The engine of whole frames: an AF_XDP socket's transmit ring.
//!
//! ```text
//!  payload ─► Headers::write ─► frame of the area ─► transmit ring ─ sendto ─► driver
//!                 ▲                                                │ EBUSY: one packet refused (copy mode)
//!                 └──────────── completion ring ◄──────────────────┘
//! ```
//!
//! Claim: a burst is pushed whole or not at all; what counts as sent came back completed and was not
//! refused. In copy mode the kernel completes a packet that the device refused as it does others, and
//! says `EBUSY` once for each: those are errors, not sent. Not promised: more than a frame holds (4 KiB:
//! no jumbo packets), and in zero-copy mode that a completed packet was not dropped by the card, which
//! counts that itself. The socket is never polled: in copy mode `poll` transmits too and says nothing of
//! refusals. Tests: `appliance/tests/datapath/tx.rs` (veth).

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::watchdog::{Verdict, Watchdog};
use super::{Engine, GeneratorError, Headers, Link, Sent};
use crate::clock::{monotonic_ns, sleep_until};
use crate::xsk::{Bind, Kick, Mode, Tx};

/// Frames of the area, entries of its rings: several bursts, and all that waits in a ring of 256 packets
/// between two veths. Those sent last are used first, so that few of them are ever touched.
const FRAMES: u32 = 1024;
/// Frame sizes that every kernel takes: half a page and a page.
const FRAME_SIZES: [u32; 2] = [2048, 4096];
/// Copy mode: what the socket buffers of all frames may take, bytes.
const BUFFERS: usize = FRAMES as usize * 8192;
/// Between two looks at a ring of which the kernel does not tell when it moves, ns: about as long as a
/// queue of 256 packets takes at 100 Gbit/s.
const LOOK_NS: u64 = 25_000;

/// A socket that was closed keeps its queue until a worker of the kernel has taken it apart, and the
/// kernel tells nobody when. So long is waited for that, ns; and so often is it tried.
const RELEASE_NS: u64 = 1_000_000_000;
const RELEASE_LOOK_NS: u64 = 1_000_000;

/// A transmit socket and the headers of this flood.
pub(super) struct AfXdp {
    tx: Tx,
    mode: Mode,
    headers: Headers,
    packet_len: usize,
    patience_ns: u64,
}

impl AfXdp {
    /// Binds to the link's queue: without copying if the driver can, else with.
    pub(super) fn new(
        link: &Link,
        packet_len: usize,
        patience_ns: u64,
    ) -> Result<Self, GeneratorError> {
        let headers = Headers::new(link, packet_len)?;
        let length = headers.frame_len();
        let Some(size) = FRAME_SIZES.into_iter().find(|s| length <= *s as usize) else {
            return Err(GeneratorError::Link {
                what: format!(
                    "a frame of {length} bytes; at most {} are sent as one (the io_uring engine sends longer ones)",
                    FRAME_SIZES[1]
                ),
            });
        };
        let (tx, mode) = bind(link, size)?;
        // Too small a buffer only makes the kernel say EAGAIN more often.
        if setsockopt(&tx, sockopt::SndBufForce, &BUFFERS).is_err() {
            let _ = setsockopt(&tx, sockopt::SndBuf, &BUFFERS);
        }
        Ok(Self {
            tx,
            mode,
            headers,
            packet_len,
            patience_ns,
        })
    }

    /// As results state it.
    pub(super) fn name(&self) -> &'static str {
        match self.mode {
            Mode::ZeroCopy => "af_xdp-zero-copy",
            Mode::Copy => "af_xdp-copy",
        }
    }

    /// Tells the kernel of what was pushed until it has all of it; returns how many packets it refused, or
    /// nothing if it does not take them.
    fn hand_over(&mut self) -> Result<Option<usize>, GeneratorError> {
        let mut refused = 0;
        let mut watchdog = Watchdog::new(monotonic_ns(), self.patience_ns);
        let mut first = true;
        loop {
            match self.tx.kick() {
                Ok(Kick::Taken) => return Ok(Some(refused)),
                Ok(Kick::Refused) if self.mode == Mode::Copy => refused += 1,
                Ok(Kick::Refused | Kick::Again | Kick::NoBuffers) => {
                    let now = monotonic_ns();
                    if watchdog.look(now, false) != Verdict::Wait {
                        return Ok(None);
                    }
                    // The kernel takes so many packets a call (16 or 32) and wants another; only if none came
                    // back meanwhile is it short of buffers.
                    if self.tx.reclaim() == 0 && !std::mem::take(&mut first) {
                        sleep_until(now + LOOK_NS);
                    }
                }
                Err(errno) => {
                    return Err(GeneratorError::Os {
                        what: "sendto on the AF_XDP socket",
                        source: errno.into(),
                    });
                }
            }
        }
    }
}

/// Binds without copying if the driver can, else with; waits for a queue that is just being given up.
fn bind(link: &Link, frame_size: u32) -> Result<(Tx, Mode), GeneratorError> {
    let until = monotonic_ns() + RELEASE_NS;
    let attempt = |mode| {
        let to = Bind {
            interface: link.interface.clone(),
            queue: link.queue,
            mode,
            scatter: false,
        };
        Tx::bind(&to, frame_size, FRAMES)
    };
    loop {
        let without = match attempt(Mode::ZeroCopy) {
            Ok(tx) => return Ok((tx, Mode::ZeroCopy)),
            Err(error) => error,
        };
        let with = match attempt(Mode::Copy) {
            Ok(tx) => return Ok((tx, Mode::Copy)),
            Err(error) => error,
        };
        let busy = with.source.raw_os_error() == Some(Errno::EBUSY as i32);
        let now = monotonic_ns();
        if busy && now < until {
            sleep_until(now + RELEASE_LOOK_NS);
            continue;
        }
        let hint = if busy {
            "; another AF_XDP socket has this queue"
        } else {
            ""
        };
        return Err(GeneratorError::Link {
            what: format!("zero-copy: {without}; copy: {with}{hint}"),
        });
    }
}

impl Engine for AfXdp {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        let packets = burst.len() / self.packet_len;
        let mut watchdog = None;
        self.tx.reclaim();
        while self.tx.room() < packets {
            // Zero-copy: what is outstanding may need a kick to move. Copy mode: nothing is left to hand over.
            if self.mode == Mode::ZeroCopy && self.hand_over()?.is_none() {
                return Ok(Sent::Silent);
            }
            let now = monotonic_ns();
            let dog = watchdog.get_or_insert_with(|| Watchdog::new(now, self.patience_ns));
            match dog.look(now, over()) {
                Verdict::Wait => sleep_until(now + LOOK_NS),
                _ if dog.expired() => return Ok(Sent::Silent),
                _ => return Ok(Sent::Abandoned),
            }
            self.tx.reclaim();
        }
        let headers = &self.headers;
        let mut pushed = 0;
        for payload in burst.chunks_exact(self.packet_len) {
            // The frame holds it: checked when the engine was made.
            let written = |frame: &mut [u8]| headers.write(payload, frame).unwrap_or(0);
            pushed += usize::from(self.tx.push(written));
        }
        let Some(refused) = self.hand_over()? else {
            return Ok(Sent::Silent);
        };
        Ok(Sent::Some {
            packets: pushed - refused.min(pushed),
            errno: Errno::EBUSY,
        })
    }

    fn finish(&mut self) -> Result<bool, GeneratorError> {
        let mut watchdog = Watchdog::new(monotonic_ns(), self.patience_ns);
        loop {
            self.tx.reclaim();
            if self.tx.outstanding() == 0 {
                return Ok(true);
            }
            if self.mode == Mode::ZeroCopy && self.hand_over()?.is_none() {
                return Ok(false);
            }
            let now = monotonic_ns();
            if watchdog.look(now, false) != Verdict::Wait {
                return Ok(false);
            }
            sleep_until(now + LOOK_NS);
        }
    }
}
