//! The thread that every peer runs in, so that they differ in nothing but their way of receiving.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use plumbline::clock::realtime_ns;

use super::{Order, Sink, Taken};
use crate::account::Account;
use crate::pair::SINK_CORE;

/// Longest that an engine waits for a packet before it looks at the stop flag.
pub(crate) const ATTENTION: Duration = Duration::from_millis(10);

/// A way of receiving.
pub(crate) trait Engine: Send {
    /// Takes one batch and does the work on each packet of it; waits [`ATTENTION`] at most if there is
    /// none. Returns how many packets it took.
    fn take(&mut self) -> io::Result<u64>;

    /// Packets lost at this engine since it was opened, and what that is called.
    fn lost(&mut self) -> io::Result<(&'static str, u64)>;
}

/// Written by the engine's thread alone.
#[derive(Debug, Default)]
struct Meter {
    packets: AtomicU64,
    last_ns: AtomicU64,
    stop: AtomicBool,
}

type Outcome = io::Result<(&'static str, u64)>;

/// An engine at work.
pub(crate) struct Peer {
    meter: Arc<Meter>,
    thread: Option<JoinHandle<Outcome>>,
}

impl Peer {
    /// Starts the thread.
    ///
    /// # Errors
    /// It cannot be started.
    pub(crate) fn start(engine: impl Engine + 'static) -> Result<Self> {
        let meter = Arc::new(Meter::default());
        let shared = meter.clone();
        let thread = std::thread::Builder::new()
            .name("bench-sink".into())
            .spawn(move || run(engine, &shared))
            .context("starting the sink's thread")?;
        Ok(Self {
            meter,
            thread: Some(thread),
        })
    }
}

fn run(mut engine: impl Engine, meter: &Meter) -> Outcome {
    pin(SINK_CORE)?;
    // As the product's receive thread; without the privilege both go without.
    let _ordinary = plumbline::host::take_turn_first();
    let mut packets = 0;
    while !meter.stop.load(Ordering::Relaxed) {
        let taken = engine.take()?;
        if taken > 0 {
            packets += taken;
            meter.packets.store(packets, Ordering::Relaxed);
            meter.last_ns.store(realtime_ns(), Ordering::Relaxed);
        }
    }
    engine.lost()
}

/// Keeps the calling thread on one core; on a machine with fewer, wherever it is.
///
/// # Errors
/// The operating system's refusal.
pub(crate) fn pin(core: usize) -> io::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if core >= cores {
        return Ok(());
    }
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

impl Sink for Peer {
    fn taken(&self) -> Result<Taken> {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            bail!("the sink's thread has ended before it was told to");
        }
        Ok(Taken {
            packets: self.meter.packets.load(Ordering::Relaxed),
            last_ns: self.meter.last_ns.load(Ordering::Relaxed),
        })
    }

    fn finish(mut self: Box<Self>, _: &Order<'_>, account: &mut Account) -> Result<()> {
        self.meter.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the sink was ended twice")?;
        let outcome = thread
            .join()
            .map_err(|_| anyhow!("the sink's thread panicked"))?;
        let (reason, packets) = outcome.context("the sink's thread")?;
        account.taken = self.meter.packets.load(Ordering::Relaxed);
        account.lose(reason, packets);
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.meter.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A trial that failed elsewhere: its own error is told.
            let _ = thread.join();
        }
    }
}
