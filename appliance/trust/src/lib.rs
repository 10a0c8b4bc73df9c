//! Who said it, who was chosen, what it costs: the ground that all five proofs stand on. Pure: no
//! clock, file, socket or random source; `now`, `seed` and `bytes` are arguments.
//!
//! ```text
//!   encoding ──► identity ──► session      who speaks: keys, signatures, per-session tags
//!        ├─────► selection                 who was chosen: the draw, as the contract does it
//!        └─────► container ──► evidence    content-addressed files; what convicts a participant
//!   money                                  integer amounts and the sums that must hold
//! ```
//!
//! Every hash carries a domain (`encoding::domain`), every signature is verified strictly and covers
//! its domain, and the canonical encoding of everything hashed or signed off chain is borsh.
#![forbid(unsafe_code)]

pub mod container;
pub mod encoding;
pub mod evidence;
pub mod identity;
pub mod money;
pub mod selection;
pub mod session;

pub use encoding::{Digest, decode, keccak256};
pub use identity::{Address, NetworkKey, Signature, Signed, SignedError, VerifyingKey};
