//! One burst at a time through io_uring: registered descriptor, `SEND`, its completion awaited.
//!
//! ```text
//!  burst ─► SQE SEND(fixed file 0) ─► io_uring_enter(submit 1, wait 1) ─► CQE: bytes or errno
//!                                            └ nothing, and it is over or patience is used up?
//!                                                 cancel, await the CQE, and not for ever
//! ```
//!
//! One system call a burst. A second burst is not submitted before the first is complete: a send that has
//! to wait for room in the socket would otherwise be overtaken, and the order of packets is the order of
//! their sequence numbers. `SEND` copies into socket buffers; over veth `SEND_ZC`, with and without a
//! registered buffer, cost the same or up to 5 % more processor time a packet and brings a second
//! completion to account for.

use std::os::fd::{BorrowedFd, RawFd};

use io_uring::types::{Fixed, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use nix::errno::Errno;

use super::super::plain::writable;
use super::super::watchdog::{Verdict, Watchdog};
use super::super::{ATTENTION_NS, Engine, GeneratorError, Sent};
use crate::clock::monotonic_ns;

/// A send and its cancellation.
const ENTRIES: u32 = 4;
const SEND: u64 = 1;
const CANCEL: u64 = 2;

/// A ring with one registered socket.
pub(in super::super) struct Uring {
    ring: IoUring,
    fd: RawFd,
    patience_ns: u64,
}

/// What became of one submission.
enum Answer {
    /// Bytes taken, or `-errno`.
    Result(i32),
    /// It was taken back because it took too long, or not even that was answered.
    Silence,
}

impl Uring {
    /// A ring for the socket `fd`, which must stay open as long as this lives. A burst that is not
    /// answered within `patience_ns` is taken back.
    pub(in super::super) fn new(fd: RawFd, patience_ns: u64) -> std::io::Result<Self> {
        // Only this thread submits, and completions are run when it asks for them (Linux 6.1); older kernels
        // do without.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)
            .or_else(|_| IoUring::new(ENTRIES))?;
        if !ring.params().is_feature_ext_arg() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                "no IORING_ENTER_EXT_ARG",
            ));
        }
        ring.submitter().register_files(&[fd])?;
        Ok(Self {
            ring,
            fd,
            patience_ns,
        })
    }

    fn push(&mut self, entry: &squeue::Entry) -> Result<(), GeneratorError> {
        // SAFETY: the caller keeps the memory that the entry names until its completion was seen, or gives up
        // the ring and the flood with it: the kernel only reads it.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| GeneratorError::Os {
            what: "io_uring submission queue",
            source: std::io::ErrorKind::StorageFull.into(),
        })
    }

    /// Submits what is queued and waits for a completion, 5 ms at most.
    fn enter(&mut self) -> Result<(), GeneratorError> {
        let wait = Timespec::from(std::time::Duration::from_nanos(ATTENTION_NS));
        let args = SubmitArgs::new().timespec(&wait);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            Err(e) => match e.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ETIME | Errno::EINTR | Errno::EAGAIN | Errno::EBUSY) => Ok(()),
                _ => Err(GeneratorError::Os {
                    what: "io_uring_enter",
                    source: e,
                }),
            },
        }
    }

    /// One send, from submission to completion.
    fn once(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Answer, GeneratorError> {
        let length = u32::try_from(burst.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(Fixed(0), burst.as_ptr(), length)
            .build()
            .user_data(SEND);
        self.push(&send)?;
        let mut watchdog = None;
        let mut awaited = 1;
        let mut result = 0;
        // `burst` is borrowed until the kernel has said what became of it: this does not return before,
        // except when the kernel does not answer at all any more, which ends the flood.
        while awaited > 0 {
            self.enter()?;
            let mut silent = true;
            for completion in self.ring.completion() {
                silent = false;
                awaited -= 1;
                if completion.user_data() == SEND {
                    result = completion.result();
                }
            }
            if !silent {
                continue;
            }
            let now = monotonic_ns();
            let dog = watchdog.get_or_insert_with(|| Watchdog::new(now, self.patience_ns));
            match dog.look(now, over()) {
                Verdict::Wait => {}
                Verdict::Cancel => {
                    awaited += 1;
                    self.push(&opcode::AsyncCancel::new(SEND).build().user_data(CANCEL))?;
                }
                Verdict::Lost => return Ok(Answer::Silence),
            }
        }
        let expired = watchdog.is_some_and(|dog| dog.expired());
        // What was sent while it was being taken back is sent.
        if expired && Errno::from_raw(result.saturating_neg()) == Errno::ECANCELED {
            return Ok(Answer::Silence);
        }
        Ok(Answer::Result(result))
    }
}

impl Engine for Uring {
    fn send(&mut self, burst: &[u8], over: &dyn Fn() -> bool) -> Result<Sent, GeneratorError> {
        let mut room = None;
        loop {
            let Answer::Result(result) = self.once(burst, over)? else {
                return Ok(Sent::Silent);
            };
            if let Ok(bytes) = usize::try_from(result) {
                return Ok(Sent::Bytes(bytes));
            }
            match Errno::from_raw(-result) {
                Errno::EINTR => {}
                Errno::ECANCELED => return Ok(Sent::Abandoned),
                // A non-blocking socket without room.
                Errno::EAGAIN => {
                    let now = monotonic_ns();
                    let dog = room.get_or_insert_with(|| Watchdog::new(now, self.patience_ns));
                    match dog.look(now, over()) {
                        // SAFETY: the caller of `new` keeps the socket open.
                        Verdict::Wait => writable(&unsafe { BorrowedFd::borrow_raw(self.fd) })?,
                        _ if dog.expired() => return Ok(Sent::Silent),
                        _ => return Ok(Sent::Abandoned),
                    }
                }
                errno => return Ok(Sent::Refused(errno)),
            }
        }
    }
}
