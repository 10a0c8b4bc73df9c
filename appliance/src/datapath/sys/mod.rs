//! The unsafe part of the datapath: what is shared with the kernel as plain memory.
//!
//! ```text
//!  pod      BPF map rows as bytes
//!  xsk_rs   an AF_XDP socket through libxdp, to compare with (feature `xsk-rs`)
//!  mmsg     recvmmsg with kernel time stamps
//!  sockopt  socket options that have no safe wrapper
//! ```
//!
//! Each module offers a safe interface; callers outside `sys` write no unsafe code.
#![allow(unsafe_code)] // Memory shared with the kernel cannot be reached otherwise.

pub(super) mod mmsg;
pub(super) mod pod;
pub(super) mod sockopt;
#[cfg(feature = "xsk-rs")]
pub(super) mod xsk_rs;
