//! The system calls of the peers that no safe binding has: `recvmmsg` with segment sizes, provided buffers
//! of io_uring, the memory-mapped packet ring.
#![allow(unsafe_code)] // each call below takes or gives raw memory; its reason stands at its block

pub(super) mod mmsg;
pub(super) mod multishot;
pub(super) mod ring;
