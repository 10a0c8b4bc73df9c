//! One direction of the wire: the loop between a ring and a socket.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::LaneCounters;
use super::checksum;
use super::queue::{Fate, Queue, Waiting};
use super::sys::{BATCH, Sender, Statistics, Tap, outrank_everything};

/// Packets due within this time leave together: finer spacing costs a wake-up a packet (85 000 a
/// second at 1 Gbit/s), and 50 µs is 0.05 % of a 100 ms test.
pub const QUANTUM: Duration = Duration::from_micros(50);

/// Longest sleep while packets wait: the ring must not fill meanwhile (4096 slots at 5 Gbit/s: 10 ms).
const NAP: Duration = Duration::from_micros(500);

/// Longest sleep while nothing waits: how soon a stop is seen.
const IDLE: Duration = Duration::from_millis(20);

/// Packets read before those due are sent.
const READ_BUDGET: usize = 256;

/// Oldest arrival stamp believed; an older one means that the system's clock was set.
const MAX_AGE: u64 = 1_000_000_000;

/// What a lane counted, shared with those who ask.
#[derive(Debug)]
pub(crate) struct Account {
    statistics: Statistics,
    arrived: AtomicU64,
    kernel: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    held: AtomicU64,
    overflow: AtomicU64,
    refusals: AtomicU64,
}

impl Account {
    pub(crate) fn new(statistics: Statistics) -> Self {
        let zero = AtomicU64::default;
        Self {
            statistics,
            arrived: zero(),
            kernel: zero(),
            sent: zero(),
            lost: zero(),
            held: zero(),
            overflow: zero(),
            refusals: zero(),
        }
    }

    /// The account now. What is neither sent, lost nor dropped waits in the ring or in the queue.
    pub(crate) fn read(&self) -> LaneCounters {
        // Fates before arrivals: a packet that arrives in between counts as waiting, never as minus one.
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (sent, lost, held) = (get(&self.sent), get(&self.lost), get(&self.held));
        let (overflow, refusals) = (get(&self.overflow), get(&self.refusals));
        let (packets, drops) = self.statistics.take();
        let arrived = self.arrived.fetch_add(packets, Ordering::AcqRel) + packets;
        let kernel = self.kernel.fetch_add(drops, Ordering::AcqRel) + drops;
        let queued = arrived.saturating_sub(sent + lost + overflow + kernel);
        LaneCounters {
            arrived,
            sent,
            lost,
            held,
            overflow,
            kernel,
            queued,
            refusals,
        }
    }
}

/// One direction, ready to run on a thread of its own.
pub(crate) struct Lane {
    tap: Tap,
    sender: Sender,
    queue: Queue,
    /// Due, taken from the queue, not yet sent.
    batch: Vec<Waiting>,
    nap: Duration,
    account: Arc<Account>,
    stop: Arc<AtomicBool>,
}

impl Lane {
    pub(crate) fn new(
        tap: Tap,
        sender: Sender,
        queue: Queue,
        delay: Duration,
        account: Arc<Account>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        // A packet read later than its delay would leave late.
        let nap = NAP.min(delay / 2);
        Self {
            tap,
            sender,
            queue,
            batch: Vec::with_capacity(BATCH),
            nap,
            account,
            stop,
        }
    }

    /// Passes packets until told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        // Sleep to the microsecond instead of the default 50 µs.
        nix::sys::prctl::set_timerslack(1_000)?;
        outrank_everything()?;
        while !self.stop.load(Ordering::Relaxed) {
            self.read();
            let now = monotonic()?;
            let refused = self.send(now)?;
            self.rest(refused)?;
        }
        Ok(())
    }

    /// Ring to queue.
    fn read(&mut self) {
        let (Ok(wall), Ok(now)) = (clock(ClockId::CLOCK_REALTIME), monotonic()) else {
            return;
        };
        for _ in 0..READ_BUDGET {
            let Some(frame) = self.tap.next_frame() else {
                break;
            };
            let age = wall.saturating_sub(frame.arrived()).min(MAX_AGE);
            let bytes = frame.bytes();
            let fate = self
                .queue
                .push(now.saturating_sub(age), bytes.len(), |slot| {
                    slot.copy_from_slice(bytes);
                    if frame.lacks_checksum() {
                        checksum::finish(slot);
                    }
                });
            let counter = match fate {
                Fate::Queued => continue,
                Fate::Held => &self.account.held,
                Fate::Lost => &self.account.lost,
                Fate::Overflow => &self.account.overflow,
            };
            counter.fetch_add(1, Ordering::Release);
        }
    }

    /// Queue to socket, all that is due. True if the far side takes no more for the moment.
    fn send(&mut self, now: u64) -> io::Result<bool> {
        loop {
            while self.batch.len() < BATCH
                && let Some(packet) = self.queue.pop(now)
            {
                self.batch.push(packet);
            }
            if self.batch.is_empty() {
                return Ok(false);
            }
            let queue = &self.queue;
            let sent = self
                .sender
                .send(self.batch.iter().map(|packet| queue.frame(packet)))?;
            self.account.sent.fetch_add(sent as u64, Ordering::Release);
            for packet in self.batch.drain(..sent) {
                self.queue.release(packet);
            }
            if sent == 0 {
                self.account.refusals.fetch_add(1, Ordering::Relaxed);
                return Ok(true);
            }
        }
    }

    /// Sleeps until there is something to do.
    fn rest(&mut self, refused: bool) -> io::Result<()> {
        if refused {
            std::thread::sleep(QUANTUM);
            return Ok(());
        }
        let Some(due) = self.queue.next_due() else {
            return self.tap.wait(IDLE);
        };
        let left = Duration::from_nanos(due.saturating_sub(monotonic()?)).max(QUANTUM);
        if self.nap < QUANTUM {
            // So short a delay leaves no time to sleep on arrivals.
            return self.tap.wait(left.min(IDLE));
        }
        std::thread::sleep(left.min(self.nap));
        Ok(())
    }
}

fn clock(id: ClockId) -> io::Result<u64> {
    let time = clock_gettime(id)?;
    Ok(u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec()).unwrap_or(0))
}

fn monotonic() -> io::Result<u64> {
    clock(ClockId::CLOCK_MONOTONIC)
}
