//! The unsafe part of AF_XDP: memory and rings that the kernel reads and writes at the same time.
//!
//! ```text
//!  option   getsockopt, setsockopt
//!  area     UMEM: mapped memory, cut into frames
//!  ring     producer's and consumer's ends of a ring
//!  socket   the socket: registers the area, maps the rings, binds
//! ```
#![allow(unsafe_code)] // Memory shared with the kernel cannot be reached otherwise.

mod area;
pub(crate) mod option;
mod ring;
mod socket;

pub(super) use area::Area;
pub use area::Pages;

pub(super) use socket::Descriptor;
pub(crate) use socket::capacity;
pub use socket::{Bind, Mode, XskStatistics};
pub(super) use socket::{Bound, Rings, Socket};
