//! What the machine lends a measurement: precedence over other work.
//!
//! ```text
//!   receive thread   SCHED_FIFO 1   a commitment that waits for the scheduler counts against the prover
//!   whole process    nice -15       a pacer that waits sends in lumps, an echo that waits is a long RTT
//! ```
//! Both survive the loss of capabilities, and later threads inherit the nice value. Neither is needed
//! for a true result: without them timings suffer on a busy machine, and the log says so.

mod sys;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::process::{getpriority_process, setpriority_process};

/// Nice value of a process that measures: ahead of everything ordinary, behind real-time threads.
/// -20 would compete with the kernel's own workers on small machines.
pub const NICE: i32 = -15;

/// Takes precedence if the process may (CAP_SYS_NICE, or `Nice=` in the unit); tells whether it has it.
pub fn take_precedence() -> bool {
    let has = || getpriority_process(None).is_ok_and(|nice| nice <= NICE);
    has() || (setpriority_process(None, NICE).is_ok() && has())
}

/// Descriptors that a process needs beside its connections: files, sockets, the runtime's own.
const FILES: u64 = 256;

/// Lets the process open so many connections, as far as the system allows it: most give 1024 files until asked.
///
/// # Errors
/// The system allows fewer.
pub fn open_files(connections: u32) -> std::io::Result<()> {
    let wanted = u64::from(connections) + FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
    if hard < wanted {
        return Err(std::io::Error::other(format!(
            "{wanted} open files are wanted, {hard} allowed"
        )));
    }
    Ok(())
}

/// Makes the calling thread real-time, ahead of all ordinary threads of its core. It must sleep when it
/// has nothing to do; the kernel's real-time throttling bounds what it can take if it does not.
///
/// # Errors
/// Without CAP_SYS_NICE (or `LimitRTPRIO=`).
pub fn take_turn_first() -> std::io::Result<()> {
    sys::fifo()
}
