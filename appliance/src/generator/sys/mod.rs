//! The unsafe part of the generator: handing memory to io_uring.
#![allow(unsafe_code)] // A submission names memory by its address.

mod uring;

pub(super) use uring::Uring;
