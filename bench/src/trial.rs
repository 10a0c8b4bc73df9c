//! One trial: a pair, a sink, a source, and where every packet went.
//!
//! ```text
//!  pair ─► sink starts ─► cpu ─► source sends ─► sink drains ─► cpu ─► sink ends ─► account
//!                           └──────────── charged to the row ───┘
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::account::Account;
use crate::cpu::{Snapshot, Work};
use crate::load::Load;
use crate::pair::Pair;
use crate::plan::{RowPlan, SinkKind, SourceKind, Units};
use crate::sink::{self, Order, Sink, Taken};
use crate::source::Pacing;
use crate::{iperf, source};

/// A sink that takes nothing for this long after the source has ended has taken all it will: its thread
/// looks for packets every 10 ms at the latest.
const QUIET: Duration = Duration::from_millis(40);
/// Longest that it may go on taking: what 8 MiB of buffer hold is hashed in milliseconds.
const DRAIN: Duration = Duration::from_secs(5);
/// A moment between two looks at its counters.
const GLANCE: Duration = Duration::from_millis(2);

/// What one trial gave.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// Where every packet went.
    pub(crate) account: Account,
    /// Whether packets can be counted at all: not those of TCP.
    pub(crate) counted: bool,
    /// Bits that the sink took, at the IP layer.
    pub(crate) bits: f64,
    /// From the first packet sent to the last taken, seconds.
    pub(crate) seconds: f64,
    /// From the first packet sent to the last sent, seconds.
    pub(crate) sending: f64,
    /// What it cost.
    pub(crate) work: Work,
    /// How well the schedule was kept; only where there was one.
    pub(crate) pacing: Option<Pacing>,
}

impl Trial {
    /// What the sink took, Gbit/s at the IP layer.
    pub(crate) fn gbps(&self) -> f64 {
        self.bits / self.seconds / 1e9
    }

    /// What was offered to it, Gbit/s at the IP layer.
    pub(crate) fn offered_gbps(&self) -> f64 {
        if self.account.taken == 0 {
            return 0.0;
        }
        let each = self.bits / self.account.taken as f64;
        each * self.account.sent as f64 / self.sending / 1e9
    }
}

/// Runs one trial of `row` at `rate_bps` (`None`: as fast as it can) for `seconds`.
///
/// # Errors
/// The pair, the sink or the source cannot be made to work; says which and why.
pub(crate) fn run(
    row: &RowPlan,
    load: &Load,
    rate_bps: Option<u64>,
    seconds: f64,
) -> Result<Trial> {
    if let SinkKind::Iperf3Udp | SinkKind::Iperf3Tcp = row.sink {
        return run_iperf(row, seconds);
    }
    let pair = Pair::new(row.mtu, row.units)?;
    let order = Order {
        pair: &pair,
        load,
        packets: source::packets(row.source, load, seconds),
        whole: row.source != SourceKind::Live,
    };
    let sink = sink::start(row.sink, &order).context("the sink")?;
    let before = Snapshot::take()?;
    let sent = source::send(row.source, &pair, load, rate_bps, seconds).context("the source")?;
    let taken = drain(&*sink, sent.sent)?;
    let work = Snapshot::take()?.since(&before);
    let mut account = Account {
        sent: sent.sent,
        ..Account::default()
    };
    sink.finish(&order, &mut account).context("the sink")?;
    if let Some((reason, packets)) = sent.dropped {
        account.lose(reason, packets);
    }
    handed_over(&pair, row, &mut account)?;
    let end_ns = sent.last_ns.max(taken.last_ns);
    let span = |end_ns: u64| end_ns.saturating_sub(sent.first_ns).max(1) as f64 / 1e9;
    Ok(Trial {
        bits: account.taken as f64 * load.size.ip_layer() as f64 * 8.0,
        account,
        counted: true,
        seconds: span(end_ns),
        sending: span(sent.last_ns),
        work,
        pacing: sent.pacing,
    })
}

/// Runs one trial of a row of iperf3, which makes its own packets.
///
/// # Errors
/// It is not installed, failed, or is not what the row asks for.
pub(crate) fn run_iperf(row: &RowPlan, seconds: f64) -> Result<Trial> {
    let udp = match row.sink {
        SinkKind::Iperf3Udp => true,
        SinkKind::Iperf3Tcp => false,
        _ => bail!("no packets were made for this row"),
    };
    let pair = Pair::new(row.mtu, row.units)?;
    let run = iperf::run(&pair, udp, seconds)?;
    Ok(Trial {
        account: run.account,
        counted: udp,
        bits: run.bits,
        seconds: run.seconds,
        sending: run.seconds,
        work: run.work,
        pacing: None,
    })
}

/// Waits until the sink has everything, or takes nothing any more.
fn drain(sink: &dyn Sink, sent: u64) -> Result<Taken> {
    let limit = Instant::now() + DRAIN;
    let mut last = (sink.taken()?, Instant::now());
    while last.0.packets < sent && last.1.elapsed() < QUIET && Instant::now() < limit {
        std::thread::park_timeout(GLANCE);
        let now = sink.taken()?;
        if now.packets != last.0.packets {
            last = (now, Instant::now());
        }
    }
    sink.taken()
}

/// Enters what the sending veth could not hand over. The receiving end's `rx_dropped` may count the same
/// packets again and is left out.
fn handed_over(pair: &Pair, row: &RowPlan, account: &mut Account) -> Result<()> {
    if row.source == SourceKind::Live {
        // Live frames do not pass the sending end's transmit path; the source has counted them.
        return Ok(());
    }
    let dropped = pair.stats64(true)?["tx"]["dropped"].as_u64();
    let dropped = dropped.context("`ip -s link show` gives no tx.dropped")?;
    // Of super-packets it counts each as one: such a row does not add up, and says so.
    let reason = match row.units {
        Units::Packets => "veth_ring_full",
        Units::Super => "veth_ring_full_super_packets",
    };
    account.lose(reason, dropped);
    Ok(())
}
