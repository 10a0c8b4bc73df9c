//! The unsafe part of the live source: a BPF array as memory.
#![allow(unsafe_code)] // One system call a tag would take longer than the trial.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, bail};
use nix::unistd::{SysconfVar, sysconf};

/// Writes `tags` to the beginning of a BPF array of 8-byte values made with `BPF_F_MMAPABLE` and at least
/// that many entries.
pub(super) fn fill(map: impl AsFd, tags: &[[u8; 8]]) -> Result<()> {
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("no page size")?;
    let bytes = size_of_val(tags);
    // The kernel gives an array whole pages and refuses a mapping of more.
    let length = bytes.next_multiple_of(usize::try_from(page)?);
    // SAFETY: a new mapping, placed by the kernel, takes nothing from anybody.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            map.as_fd().as_raw_fd(),
            0,
        )
    };
    if at == libc::MAP_FAILED {
        bail!("mapping {length} bytes: {}", io::Error::last_os_error());
    }
    // SAFETY: `bytes` of the mapping's `length`, which nobody else writes or reads: the program has not been
    // run yet. The two do not overlap, and bytes have no alignment.
    unsafe { std::ptr::copy_nonoverlapping(tags.as_ptr().cast::<u8>(), at.cast::<u8>(), bytes) };
    // SAFETY: what was just mapped; nothing refers to it.
    unsafe { libc::munmap(at, length) };
    Ok(())
}
