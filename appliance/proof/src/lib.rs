//! What is claimed and when it is believed. One folder a proof, the same file names in each.
//!
//! Everything here is sans-I/O: no clock, file, socket or random source is read; `now`, bytes and
//! secrets are arguments. A verdict is a pure function of evidence and parameters, in integers, so
//! replaying stored evidence gives the same verdict, bit for bit.
#![forbid(unsafe_code)]

pub mod backhaul;
pub mod evidence;
