//! The lab: a small internet on one machine, whose every loss is counted.
//!
//! ```text
//!  coordinator ns ─ eth0 ──┐                                       ┌ mgmt0 ┐
//!  challenger 0 ── eth0 ──┐│        ┌─ management link, unshaped ──┘       │
//!  challenger 1 ── eth0 ─┐││        │                                      │
//!        …               └┴┴─ core ─┤                                 prover ns
//!  (a /24 each)           (ip_forward)                                     │
//!                                   │ tbf R           wire ns              │
//!                                   └═══════ [near ═ delay,… ═ far] ═ eth0 ┘
//!                                     shaped link    only if asked
//! ```
//!
//! **Claim:** what leaves a challenger reaches the prover's `eth0`, or is in [`Drops`], packet for
//! packet: offloads are off so that one counted unit is one packet, IPv6 and ARP are silent so that
//! nothing uninvited stands in the shaped queue, and every lab lives in namespaces of its own, so
//! that several run side by side and the host's network is never touched.
//!
//! **Not promised:** the speed of a real wire. veth has none, and all hosts share this machine's
//! cores; a rate that the cores cannot carry shows as drops, not as a slower link.
//!
//! [`Cast`] puts the product's processes into it, [`Asked`] has them prove, [`Account`] adds up what they and
//! the lab counted, [`Villain`] has some of them misbehave: demo, tests, bench and eval share all four.
//!
//! Tests: pure parts beside the code; `tests/` makes real labs and needs root.

mod account;
mod cast;
mod counters;
mod cross;
mod error;
mod lab;
mod namespace;
mod plan;
mod process;
mod proof;
mod setup;
mod state;
pub mod tool;
mod villain;
mod watch;
pub mod wire;

pub use account::Account;
pub use cast::{Cast, CastError, Pace};
pub use counters::{Counters, Drops, InterfaceCounters, PathDrops, QdiscCounters};
pub use cross::{CrossCount, CrossTraffic};
pub use error::LabError;
pub use lab::Lab;
pub use namespace::Namespace;
pub use plan::{Host, Peak, Plan, Shape, WirePlan};
pub use process::{Process, ProcessError};
pub use proof::{
    Answer, Asked, Challenger, Measured, Paid, Proof, ProofError, Rtt, Sustained, Terms, Verified,
};
pub use state::Record;
pub use tool::ToolError;
pub use villain::{
    Attack, Culprit, Deed, Met, Outcome, Played, Scene, Switch, Villain, VillainError,
};
pub use watch::Carried;
