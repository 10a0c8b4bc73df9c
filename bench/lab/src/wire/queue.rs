//! What happens to one packet on the wire, decided without a clock or a socket.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::WirePlan;

/// How long a reordered packet is held: four full packets pass it at 50 Mbit/s, eighty at 1 Gbit/s.
pub(crate) const HOLD: Duration = Duration::from_millis(1);

/// What became of a packet offered to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It waits, in order.
    Queued,
    /// It waits longer than those behind it.
    Held,
    /// Lost on purpose.
    Lost,
    /// No slot was free, or it is larger than a slot.
    Overflow,
}

/// A packet that waits: ordered by due time, then by arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Waiting {
    /// When it is to be sent, in ns of the caller's clock.
    pub(crate) due: u64,
    sequence: u64,
    slot: u32,
    length: usize,
}

/// Packets by due time, in slots made once.
#[derive(Debug)]
pub(crate) struct Queue {
    delay: u64,
    jitter: u64,
    hold: u64,
    loss_ppm: u64,
    reorder_ppm: u64,
    random: SplitMix,
    /// Due time of the last packet that kept its order.
    last: u64,
    sequence: u64,
    waiting: BinaryHeap<Reverse<Waiting>>,
    free: Vec<u32>,
    slot_bytes: usize,
    bytes: Vec<u8>,
}

impl Queue {
    /// A queue of `depth` slots for frames of `mtu` + 18 bytes (Ethernet with one VLAN tag).
    pub(crate) fn new(plan: &WirePlan, mtu: u16, depth: u32) -> Self {
        let slot_bytes = usize::from(mtu) + 18;
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            delay: nanos(plan.delay),
            jitter: nanos(plan.jitter),
            hold: nanos(HOLD),
            loss_ppm: u64::from(plan.loss_ppm),
            reorder_ppm: u64::from(plan.reorder_ppm),
            random: SplitMix(plan.seed),
            last: 0,
            sequence: 0,
            waiting: BinaryHeap::with_capacity(depth as usize),
            // Last returned is first used: a short queue stays in cache.
            free: (0..depth).rev().collect(),
            slot_bytes,
            bytes: vec![0; slot_bytes * depth as usize],
        }
    }

    /// Takes a frame that arrived at `arrived` ns; `write` copies it into its slot.
    pub(crate) fn push(
        &mut self,
        arrived: u64,
        length: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Fate {
        // The same number of draws a packet, so that one setting does not move another's choices.
        let (lose, reorder, vary) = (self.random.ppm(), self.random.ppm(), self.random.next());
        if lose < self.loss_ppm {
            return Fate::Lost;
        }
        if length > self.slot_bytes {
            return Fate::Overflow;
        }
        let Some(slot) = self.free.pop() else {
            return Fate::Overflow;
        };
        let jitter = (u128::from(vary) * (u128::from(self.jitter) + 1)) >> 64;
        let plain = arrived + self.delay + u64::try_from(jitter).unwrap_or(self.jitter);
        let held = reorder < self.reorder_ppm;
        let due = if held {
            plain.max(self.last) + self.hold
        } else {
            self.last = plain.max(self.last);
            self.last
        };
        let start = slot as usize * self.slot_bytes;
        write(&mut self.bytes[start..start + length]);
        self.sequence += 1;
        self.waiting.push(Reverse(Waiting {
            due,
            sequence: self.sequence,
            slot,
            length,
        }));
        if held { Fate::Held } else { Fate::Queued }
    }

    /// When the next packet is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(next)| next.due)
    }

    /// The next packet if it is due at `now`; its slot stays taken until [`Self::release`].
    pub(crate) fn pop(&mut self, now: u64) -> Option<Waiting> {
        if self.next_due()? > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(next)| next)
    }

    /// The bytes of a packet that was popped and not yet released.
    pub(crate) fn frame(&self, packet: &Waiting) -> &[u8] {
        let start = packet.slot as usize * self.slot_bytes;
        &self.bytes[start..start + packet.length]
    }

    /// Gives a popped packet's slot back.
    pub(crate) fn release(&mut self, packet: Waiting) {
        self.free.push(packet.slot);
    }
}

/// Steele, Lea & Flood's SplitMix64: enough for lots, and one line to repeat elsewhere.
#[derive(Debug, Clone)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1 000 000.
    fn ppm(&mut self) -> u64 {
        // 2^20 is the power of two next to a million: 44 bits times 20 bits fit 64.
        ((self.next() >> 20) * 1_000_000) >> 44
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn plan(jitter_ms: u64, loss_ppm: u32, reorder_ppm: u32) -> WirePlan {
        WirePlan {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(jitter_ms),
            loss_ppm,
            reorder_ppm,
            seed: 7,
        }
    }

    /// Sends `count` packets 0.1 ms apart; returns the numbers in order of leaving, with times.
    fn run(plan: &WirePlan, count: u32) -> Vec<(u32, u64)> {
        let mut queue = Queue::new(plan, 1500, count);
        for i in 0..count {
            queue.push(u64::from(i) * MS / 10, 4, |slot| {
                slot.copy_from_slice(&i.to_be_bytes())
            });
        }
        let mut left = Vec::new();
        while let Some(packet) = queue.pop(u64::MAX) {
            left.push((
                u32::from_be_bytes(queue.frame(&packet).try_into().unwrap()),
                packet.due,
            ));
            queue.release(packet);
        }
        left
    }

    #[test]
    fn a_packet_is_due_after_the_delay_and_not_before() {
        let mut queue = Queue::new(&plan(0, 0, 0), 1500, 1);
        assert_eq!(queue.push(5, 1, |slot| slot[0] = 9), Fate::Queued);
        assert!(queue.pop(20 * MS + 4).is_none());
        let packet = queue.pop(20 * MS + 5).unwrap();
        assert_eq!(queue.frame(&packet), [9]);
    }

    #[test]
    fn one_more_than_its_slots_overflows_and_a_released_slot_is_used_again() {
        let mut queue = Queue::new(&plan(0, 0, 0), 1500, 2);
        assert_eq!(queue.push(0, 1, |_| ()), Fate::Queued);
        assert_eq!(queue.push(0, 1518, |_| ()), Fate::Queued);
        assert_eq!(queue.push(0, 1, |_| ()), Fate::Overflow);
        let packet = queue.pop(u64::MAX).unwrap();
        queue.release(packet);
        assert_eq!(
            queue.push(0, 1519, |_| ()),
            Fate::Overflow,
            "larger than a slot"
        );
        assert_eq!(queue.push(0, 1, |_| ()), Fate::Queued);
    }

    #[test]
    fn jitter_keeps_the_order_and_its_bounds() {
        let left = run(&plan(5, 0, 0), 1000);
        assert!(left.windows(2).all(|w| w[0].0 < w[1].0));
        assert!(left.iter().all(|(i, due)| {
            let late = due - u64::from(*i) * MS / 10;
            (20 * MS..=25 * MS).contains(&late)
        }));
        assert!(
            left.iter()
                .any(|(i, due)| due - u64::from(*i) * MS / 10 > 21 * MS)
        );
    }

    #[test]
    fn losses_and_overtakings_are_as_many_as_asked_and_repeatable() {
        let lossy = run(&plan(0, 100_000, 0), 10_000);
        let lost = 10_000 - lossy.len();
        assert!((900..1100).contains(&lost), "{lost} of 10000 at 10 %");
        assert_eq!(lossy, run(&plan(0, 100_000, 0), 10_000));
        assert_eq!(run(&plan(0, 1_000_000, 0), 10).len(), 0);

        let shuffled = run(&plan(0, 0, 10_000), 10_000);
        assert_eq!(shuffled.len(), 10_000);
        let overtaken = shuffled.windows(2).filter(|w| w[0].0 > w[1].0).count();
        assert!(
            (60..140).contains(&overtaken),
            "{overtaken} of 10000 at 1 %"
        );
    }
}
