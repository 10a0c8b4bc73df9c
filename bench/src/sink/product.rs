//! The product as a sink: its receiver, behind it the proof's tally or nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use plumbline::datapath::{
    Arrived, Leaf, Pace, PathChoice, Receiver, ReceiverConfig, Sender, SessionHandle, SessionSink,
    SessionSpec, tai_ns,
};
use plumbline_proof::backhaul::messages::session_of;
use plumbline_proof::backhaul::tally::Tally;
use plumbline_wire::{HEADER_LEN, Header};

use super::{Order, Sink, Taken};
use crate::account::Account;
use crate::load::{CHALLENGE, INDEX, Load};
use crate::pair::{INTERFACE, PORT, Pair, SINK, SINK_CORE, SOURCE, SOURCE_PORT};

/// How long a session's consent holds, ns: longer than any trial.
const CONSENT_NS: u64 = 60_000_000_000;

/// A receiver and one session.
pub(crate) struct Product {
    receiver: Receiver,
    handle: SessionHandle,
    counting: Arc<Counting>,
}

/// What the session's packets are given to.
struct Counting {
    /// `None` refuses every packet unread.
    tally: Option<Tally>,
    /// Whether a packet came since the last turn.
    busy: AtomicBool,
    last_ns: AtomicU64,
}

impl Counting {
    fn new(tally: Option<Tally>) -> Arc<Self> {
        Arc::new(Self {
            tally,
            busy: AtomicBool::new(false),
            last_ns: AtomicU64::new(0),
        })
    }
}

impl SessionSink for Counting {
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], _arrival_ns: u64) -> bool {
        self.busy.store(true, Ordering::Relaxed);
        match &self.tally {
            Some(tally) => tally.admit(header, raw),
            None => false,
        }
    }

    fn admit_all(&self, packets: &[Arrived<'_>]) -> u64 {
        self.busy.store(true, Ordering::Relaxed);
        let tally = self.tally.as_ref();
        tally.map_or(0, |t| {
            t.admit_all(packets.iter().map(|p| (&p.header, p.raw)))
        })
    }

    fn accept(&self, leaves: &[Leaf]) {
        if let Some(tally) = &self.tally {
            tally.accept(leaves);
        }
    }

    fn turn(&self, now_ns: u64) -> Pace {
        if self.busy.load(Ordering::Relaxed) {
            self.busy.store(false, Ordering::Relaxed);
            self.last_ns.store(now_ns, Ordering::Relaxed);
        }
        Pace::Calm
    }
}

/// A receiver at the pair's sink end, on the best rung there is.
///
/// # Errors
/// It cannot be started, or not with native XDP: figures of a lower rung would be another product's.
pub(crate) fn receiver(pair: &Pair) -> Result<Receiver> {
    receiver_by(pair, PathChoice::Native)
}

fn receiver_by(pair: &Pair, path: PathChoice) -> Result<Receiver> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let config = ReceiverConfig {
        interface: INTERFACE.into(),
        bind: IpAddr::V4(SINK),
        data_port: PORT,
        queues: vec![0],
        path,
        busy_poll: false,
        cores: vec![SINK_CORE.min(cores - 1)],
    };
    pair.within(false, || Receiver::start(&config))?
        .context("starting the receiver with native XDP")
}

/// What the one sender of a trial may do.
pub(crate) fn session(load: &Load) -> SessionSpec {
    SessionSpec {
        session: session_of(&CHALLENGE),
        from_tai_ns: 0,
        until_tai_ns: tai_ns() + CONSENT_NS,
        size: load.size,
        cap_packets: u64::MAX,
        senders: vec![Sender {
            index: INDEX,
            cookie: load.key().cookie(),
            source: SocketAddr::from((SOURCE, SOURCE_PORT)),
        }],
    }
}

impl Product {
    /// Tag, caps, digest of every byte, leaf table.
    pub(super) fn verified(order: &Order<'_>) -> Result<Self> {
        // One more than can come: the trial ends by time, not by a commitment.
        let tally = order.load.tally(order.packets as u64 + 1);
        Self::start(receiver(order.pair)?, order.load, Some(tally))
    }

    /// The same by the other binding.
    #[cfg(feature = "xsk-rs")]
    pub(super) fn verified_by_xsk_rs(order: &Order<'_>) -> Result<Self> {
        let tally = order.load.tally(order.packets as u64 + 1);
        let receiver = receiver_by(order.pair, PathChoice::XskRs)?;
        Self::start(receiver, order.load, Some(tally))
    }

    /// The other binding is not in this build.
    #[cfg(not(feature = "xsk-rs"))]
    pub(super) fn verified_by_xsk_rs(_: &Order<'_>) -> Result<Self> {
        anyhow::bail!("this build has no xsk-rs; `cargo xtask bench --bindings` makes one that has")
    }

    /// The AF_XDP path alone.
    pub(super) fn count(order: &Order<'_>) -> Result<Self> {
        Self::start(receiver(order.pair)?, order.load, None)
    }

    fn start(receiver: Receiver, load: &Load, tally: Option<Tally>) -> Result<Self> {
        let counting = Counting::new(tally);
        let sink: Arc<dyn SessionSink> = counting.clone();
        let handle = receiver
            .open(&session(load), &sink)
            .context("opening the session")?;
        Ok(Self {
            receiver,
            handle,
            counting,
        })
    }
}

impl Sink for Product {
    fn taken(&self) -> Result<Taken> {
        let thread = self.receiver.counters()?.thread;
        let packets = match &self.counting.tally {
            Some(tally) => tally.counted(),
            None => thread.frames - thread.other_session - thread.malformed,
        };
        Ok(Taken {
            packets,
            last_ns: self.counting.last_ns.load(Ordering::Relaxed),
        })
    }

    fn finish(self: Box<Self>, order: &Order<'_>, account: &mut Account) -> Result<()> {
        account.taken = self.taken()?.packets;
        let Self {
            receiver,
            handle,
            counting,
        } = *self;
        handle.close().context("closing the session")?;
        refused(&receiver, order.pair, account)?;
        if let Some(tally) = &counting.tally {
            account.taken = tally.counted();
            let refused = tally.refused();
            account.lose("bad_tag", refused.bad_tag);
            account.lose("out_of_range", refused.out_of_range);
            account.lose("duplicate", refused.duplicate);
            account.lose("over_cap", refused.over_cap);
            account.lose("late", refused.late);
            if order.whole {
                open(tally, order.load)?;
            }
        }
        Ok(())
    }
}

/// Commits, and opens the commitment as a judge would: what was called verified was.
fn open(tally: &Tally, load: &Load) -> Result<()> {
    let (_, roots) = tally.commit().context("the tally was committed before")?;
    let bitmap = tally.bitmaps().into_iter().next();
    let opens = bitmap
        .zip(roots.first())
        .is_some_and(|(bitmap, root)| load.opens(&bitmap, root));
    if !opens {
        bail!("the commitment to what was received does not open with what was sent");
    }
    Ok(())
}

/// Enters what the datapath itself refused.
///
/// # Errors
/// A counter cannot be read.
pub(crate) fn refused(receiver: &Receiver, pair: &Pair, account: &mut Account) -> Result<()> {
    let counters = receiver.counters()?;
    for (fate, packets) in &counters.fates {
        if fate.starts_with("dropped_") {
            account.lose(fate, *packets);
        }
    }
    let xsk = counters.xsk;
    account.lose("xsk_no_frame", xsk.rx_dropped);
    account.lose("xsk_ring_full", xsk.rx_ring_full);
    account.lose("xsk_invalid", xsk.rx_invalid_descs);
    account.lose("plain_socket_full", counters.socket.dropped);
    account.lose("other_session", counters.thread.other_session);
    account.lose("malformed", counters.thread.malformed);
    // veth counts what the socket refused once more; what is above that it lost itself (no memory).
    let named = xsk.rx_dropped + xsk.rx_ring_full + xsk.rx_invalid_descs;
    let drops: u64 = pair
        .statistics(false)?
        .iter()
        .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with("_drops"))
        .filter(|(name, _)| !name.ends_with("_xdp_drops"))
        .map(|(_, packets)| packets)
        .sum();
    account.lose("veth_receive", drops.saturating_sub(named));
    Ok(())
}
