//! What bytes mean: the layout of every datagram Plumbline puts on a wire, and the one parser that
//! the XDP program and user space share.
//!
//! ```text
//!  Ethernet 14 │ IPv4 20 / IPv6 40 │ UDP 8 │ Header 64 │ payload (n × 64 bytes)
//!  ────────────┴───────────────────┴───────┼───────────┴──────────────────────
//!   frame::classify  (kernel and user)     │  header::Header::parse
//! ```
//!
//! The crate allocates nothing, contains no unsafe code and cannot panic on any input: every read is
//! bounds-checked by a [`view::View`], so the verifier accepts the very code that user space tests.
//! It promises layout only; authenticity (tags, signatures) is `trust`'s and belief is `proof`'s.
#![no_std]
#![forbid(unsafe_code)]

pub mod consent;
pub mod frame;
pub mod header;
pub mod size;
pub mod stamp;
pub mod view;

pub use consent::{ConsentEntry, ConsentKey};
pub use frame::{Class, Fate, Match, classify};
pub use header::{HEADER_LEN, Header, HeaderError, Kind};
pub use size::Size;
pub use stamp::Stamp;
pub use view::View;
