//! Where packets go: the product, and what one would otherwise use.
//!
//! ```text
//!            ┌ product   XDP ─► AF_XDP ─► session ─► verified (tag, caps, 16 lanes, leaf table)
//!            │                                    └► count    (refused unread)
//!  veth ─►   ├ drop      an XDP program that drops: the ceiling
//!            └ peer      recvmmsg · recvmmsg + UDP_GRO · io_uring multishot · TPACKET_V3,
//!                        each then blake3::hash of each packet, in one thread pinned as the product's
//! ```
//!
//! Claim: a packet is taken when the sink's work on it is done, and every other packet has a name in
//! the account. Peers run at their best: real-time like the product's thread, pinned to the same core,
//! large buffers, batches, no XDP in their way. Tests: `tests/trial.rs` (every sink adds up).

mod drop;
mod packet;
mod peer;
pub(crate) mod product;
mod socket;
mod sys;
mod uring;

use anyhow::Result;

use crate::account::Account;
use crate::load::Load;
use crate::pair::Pair;
use crate::plan::SinkKind;

pub(crate) use peer::pin;

/// What a sink has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Packets.
    pub(crate) packets: u64,
    /// When it last took one, `CLOCK_REALTIME` ns; 0 where it happens within the sender's own time.
    pub(crate) last_ns: u64,
}

/// A sink at work.
pub(crate) trait Sink {
    /// What it has done so far.
    ///
    /// # Errors
    /// It stopped working; says why.
    fn taken(&self) -> Result<Taken>;

    /// Ends it, and enters what it took and what it knows to be lost into the account.
    ///
    /// # Errors
    /// It had stopped working, or its counters cannot be read.
    fn finish(self: Box<Self>, order: &Order<'_>, account: &mut Account) -> Result<()>;
}

/// What a sink is for.
#[derive(Clone, Copy)]
pub(crate) struct Order<'a> {
    /// Where.
    pub(crate) pair: &'a Pair,
    /// Whose packets.
    pub(crate) load: &'a Load,
    /// At most so many.
    pub(crate) packets: usize,
    /// Whether they come as the load has them; a source may write their headers only.
    pub(crate) whole: bool,
}

/// Starts a sink at the pair's sink end.
///
/// # Errors
/// What it needs is not there.
pub(crate) fn start(kind: SinkKind, order: &Order<'_>) -> Result<Box<dyn Sink>> {
    let (pair, size) = (order.pair, order.load.size);
    Ok(match kind {
        SinkKind::Verified => Box::new(product::Product::verified(order)?),
        SinkKind::VerifiedXskRs => Box::new(product::Product::verified_by_xsk_rs(order)?),
        SinkKind::Count => Box::new(product::Product::count(order)?),
        SinkKind::Drop => Box::new(drop::Ceiling::start(pair)?),
        SinkKind::RecvmmsgHash => Box::new(socket::batches(pair, size)?),
        SinkKind::RecvmmsgGro => Box::new(socket::aggregates(pair, size)?),
        SinkKind::UringMultishot => Box::new(uring::start(pair, size)?),
        SinkKind::AfPacket => Box::new(packet::start(pair, size)?),
        SinkKind::Iperf3Udp | SinkKind::Iperf3Tcp => {
            anyhow::bail!("iperf3 is a process of its own, not a sink")
        }
    })
}
