//! The one system call that no crate of the tree wraps.
#![allow(unsafe_code)] // sched_setscheduler: see below.

/// SCHED_FIFO at the lowest real-time priority, for the calling thread.
pub(super) fn fifo() -> std::io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: pid 0 is the calling thread, and `parameters` is a whole sched_param that outlives the
    // call, which only reads it.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
