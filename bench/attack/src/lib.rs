//! Every attack on a proof of backhaul, as a switch: so that a buyer sees each one fail.
//!
//! ```text
//!  switch ─► which attacks there are, who commits them, what they must meet
//!  sim ────► each of them on virtual time, ten thousand runs a table
//!  search ─► an adversary that climbs: against the bounds, and for a true claim that is called false
//! ```
//!
//! Claim: each attack is the real protocol with one party that misbehaves in one way; whoever meets it runs
//! the product's own code. Nothing of this is linked into the product. Not promised: that no other attack
//! exists. Tests: beside the code.

pub mod search;
pub mod sim;
pub mod switch;
