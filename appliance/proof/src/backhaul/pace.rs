//! When a sender hands which packets over: the schedule alone, without a clock. Generator and simulators
//! use the same one.
//!
//! ```text
//!  slot k = b packets of r:  │ burst 0 ········ │ ····· burst 1 ·· │ ·· burst 2 ······· │
//!  times from the first send └ offset 0         └ offset 0 ≤ o < slot, by the session's seed
//!  late by more than a slot?  the schedule moves by the rest, which stays missed
//! ```
//!
//! **Guarantees.** In the first x of a flood at most r·x/8L + b packets are handed over, whatever delays
//! there were: the lemma of the lower bound rests on it. In any span of length y at most r·y/8L + 3·b:
//! what an offset and lateness of a slot each can bring together. Without delays the mean rate is r.
//! **Limits.** What the host missed beyond one slot is not sent later: [`Pace::missed_ns`] says how much.
//! **Tests.** Below, over arbitrary rates, lengths and delays.

use plumbline_trust::encoding::hash;

use super::params::BURST_PACKETS;

/// A burst holds at most this much time of the schedule, ns: at low rates, packets are spread.
const BURST_NS: u64 = 500_000;
/// Longest IP packet, bits: the kernel cuts a burst out of one that is no longer.
const LONGEST_BITS: u64 = 65_535 * 8;
const SECOND: u128 = 1_000_000_000;
const JITTER: &str = "plumbline 2026-11 backhaul pace offsets v1";

/// What the offsets of a sender's bursts come from: nobody knows them who does not know its seed.
pub fn jitter(seed: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash(JITTER, &[seed]);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The schedule of one flood; times are ns since its first send.
#[derive(Clone, Debug)]
pub struct Pace {
    packet_bits: u64,
    rate_bps: u64,
    burst: u64,
    jitter: u64,
    /// Bursts handed over.
    bursts: u64,
    missed_ns: u64,
}

impl Pace {
    /// Packets of `packet_bits` at the IP layer at `rate_bps`; of nothing it takes the least there is.
    pub fn new(packet_bits: u64, rate_bps: u64, jitter: u64) -> Self {
        Self::with_bursts(packet_bits, rate_bps, jitter, BURST_PACKETS)
    }

    /// The same in bursts of another length at most: where what is measured is a receiver, and no link.
    pub fn with_bursts(packet_bits: u64, rate_bps: u64, jitter: u64, most: u64) -> Self {
        let (packet_bits, rate_bps) = (packet_bits.max(1), rate_bps.max(1));
        let in_time =
            u128::from(rate_bps) * u128::from(BURST_NS) / SECOND / u128::from(packet_bits);
        let most = most.min(LONGEST_BITS / packet_bits).max(1);
        Self {
            packet_bits,
            rate_bps,
            burst: u64::try_from(in_time).unwrap_or(most).clamp(1, most),
            jitter,
            bursts: 0,
            missed_ns: 0,
        }
    }

    /// Packets of a burst.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// What a burst takes of the schedule, ns, rounded up.
    pub fn slot_ns(&self) -> u64 {
        self.begins_ns(1)
    }

    /// How far the schedule was moved: time in which nothing was sent though something was due.
    pub fn missed_ns(&self) -> u64 {
        self.missed_ns
    }

    /// When the next burst may leave: the first at 0, each later one somewhere in its slot. Senders of
    /// equal rates would otherwise stay in step, and a full queue would refuse the same one each time.
    pub fn due_ns(&self) -> u64 {
        if self.bursts == 0 {
            return 0;
        }
        let share = u128::from(mixed(self.jitter ^ self.bursts) >> 32);
        let offset = (u128::from(self.slot_ns()) * share) >> 32;
        let begins = self.begins_ns(self.bursts);
        let moved = begins.saturating_add(self.missed_ns);
        moved.saturating_add(u64::try_from(offset).unwrap_or(0))
    }

    /// Packets that may be handed over at `now_ns`, and are taken to be: whole bursts, none before
    /// [`due_ns`](Self::due_ns). The schedule moves if the first of them is more than a slot late.
    pub fn take(&mut self, now_ns: u64) -> u64 {
        let due = self.due_ns();
        if now_ns < due {
            return 0;
        }
        let missed = (now_ns - due).saturating_sub(self.slot_ns());
        self.missed_ns = self.missed_ns.saturating_add(missed);
        self.bursts += 1;
        // Less than two slots into its own, so at most one more is due.
        if self.due_ns() > now_ns {
            return self.burst;
        }
        self.bursts += 1;
        2 * self.burst
    }

    /// When the slot of burst `number` begins if nothing was missed, ns; never early.
    fn begins_ns(&self, number: u64) -> u64 {
        let bits = u128::from(number) * u128::from(self.burst) * u128::from(self.packet_bits);
        let ns = bits
            .saturating_mul(SECOND)
            .div_ceil(u128::from(self.rate_bps));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): spreads consecutive numbers over 64 bits.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of a packet of 1500 bytes.
    const BITS: u64 = 12_000;

    /// Hands over as soon as it can, each time after one of `delays`; (when, how many) of each.
    fn played(pace: &mut Pace, delays: &[u64]) -> Vec<(u64, u64)> {
        let mut now = 0;
        let mut sent = Vec::new();
        for delay in delays {
            now = pace.due_ns().max(now) + delay;
            sent.push((now, pace.take(now)));
        }
        let first = sent.first().map_or(0, |s| s.0);
        sent.iter().map(|(at, n)| (at - first, *n)).collect()
    }

    /// The most that `packets` exceed rate · ns by, in packets, of all spans that begin with a send:
    /// the first only, or each.
    fn ahead(sent: &[(u64, u64)], bits: u64, rate: u64, each: bool) -> u64 {
        let starts = if each { sent.len() } else { 1 };
        let of = |from: &[(u64, u64)]| {
            let mut sum = 0u128;
            let over = from.iter().map(|(at, n)| {
                sum += u128::from(*n) * u128::from(bits) * SECOND;
                let allowed = u128::from(at - from[0].0) * u128::from(rate);
                sum.saturating_sub(allowed)
                    .div_ceil(u128::from(bits) * SECOND)
            });
            over.max().unwrap_or(0)
        };
        let worst = (0..starts).map(|i| of(&sent[i..])).max();
        u64::try_from(worst.unwrap_or(0)).unwrap()
    }

    fn delays() -> impl Strategy<Value = Vec<u64>> {
        let some = prop_oneof![
            4 => Just(0),
            4 => 0..20_000u64,
            2 => 0..2_000_000u64,
            1 => 0..2_000_000_000u64,
        ];
        proptest::collection::vec(some, 1..200)
    }

    proptest! {
        /// The lemma's premise, for every x at once, and what a neighbour's queue may see.
        #[test]
        fn never_ahead_of_schedule_and_never_catching_up_more_than_a_burst(
            rate in prop_oneof![1..1_000_000u64, 1_000_000..500_000_000_000u64],
            bits in 8..LONGEST_BITS,
            jitter: u64,
            most in prop_oneof![Just(BURST_PACKETS), 1..100u64],
            delays in delays(),
        ) {
            // The first send is the beginning, so it has no delay of its own.
            let delays = [&[0], &delays[..]].concat();
            let mut pace = Pace::with_bursts(bits, rate, jitter, most);
            let sent = played(&mut pace, &delays);
            prop_assert!(ahead(&sent, bits, rate, false) <= pace.burst());
            prop_assert!(ahead(&sent, bits, rate, true) <= 3 * pace.burst());
            prop_assert!(pace.burst() <= most);
        }

        /// The other side: it is as fast as that allows, and what is missed is said.
        #[test]
        fn what_is_not_sent_in_time_was_missed_and_nothing_else(
            rate in 1_000_000..500_000_000_000u64,
            jitter: u64,
            delays in delays(),
        ) {
            let mut pace = Pace::new(BITS, rate, jitter);
            let sent = played(&mut pace, &[&[0], &delays[..]].concat());
            let (last, _) = sent[sent.len() - 1];
            let packets: u64 = sent.iter().map(|s| s.1).sum();
            let busy = u128::from(last - pace.missed_ns().min(last)) * u128::from(rate);
            // Offset and lateness of the last: two slots; rounding: one packet.
            let owed = u128::from(packets + 2 * pace.burst() + 1) * u128::from(BITS) * SECOND;
            prop_assert!(busy <= owed, "{busy} {owed}");
        }
    }

    #[test]
    fn a_faster_or_burstier_sender_is_seen_to_be() {
        let sent = played(&mut Pace::new(BITS, 1_000_000_000, 7), &[0; 20_000]);
        assert_eq!(ahead(&sent, BITS, 1_000_000_000, false), 8);
        assert!(ahead(&sent, BITS, 999_000_000, false) > 8);
        let doubled: Vec<_> = sent.iter().map(|(at, n)| (*at, n + 1)).collect();
        assert!(ahead(&doubled, BITS, 1_000_000_000, false) > 8);
    }

    #[test]
    fn bursts_hold_at_most_8_packets_500_us_and_64_kib() {
        let burst = |bits, rate| Pace::new(bits, rate, 0).burst();
        // 8 packets of 12,000 bits in 500 µs: 192 Mbit/s.
        assert_eq!(burst(BITS, 192_000_000), 8);
        assert_eq!(burst(BITS, 191_999_999), 7);
        assert_eq!(burst(BITS, 400_000_000_000), 8);
        assert_eq!((burst(BITS, 24_000_000), burst(BITS, 48_000_000)), (1, 2));
        assert_eq!(burst(BITS, 1), 1);
        assert_eq!(burst(8988 * 8, 10_000_000_000), 7);
        assert_eq!(burst(LONGEST_BITS, u64::MAX), 1);
        assert_eq!((burst(u64::MAX, 1), burst(0, 0)), (1, 1));
    }

    #[test]
    fn lateness_of_a_slot_is_made_up_for_and_more_is_missed() {
        for (late, missed) in [(0, 0), (96_000, 0), (96_001, 1), (1_096_000, 1_000_000)] {
            let mut pace = Pace::new(BITS, 1_000_000_000, 3);
            assert_eq!(
                (pace.slot_ns(), pace.due_ns(), pace.take(0)),
                (96_000, 0, 8)
            );
            let due = pace.due_ns();
            assert_eq!(pace.take(due - 1), 0);
            assert!(pace.take(due + late) >= 8);
            assert_eq!(pace.missed_ns(), missed, "{late}");
        }
    }

    #[test]
    fn offsets_fill_the_slot_and_differ_between_seeds() {
        let of = |jitter| {
            let mut pace = Pace::new(BITS, 1_000_000_000, jitter);
            let mut offsets = Vec::new();
            for k in 0..1001 {
                let due = pace.due_ns();
                offsets.push(due - k * 96_000);
                assert_eq!(pace.take(due), 8);
            }
            assert_eq!((offsets.remove(0), pace.missed_ns()), (0, 0));
            offsets
        };
        let (a, b) = (of(jitter(&[1; 32])), of(jitter(&[2; 32])));
        assert!(a.iter().chain(&b).all(|o| *o < 96_000));
        // Uniform: the mean is half a slot; 1 µs apart by chance in about 21 of 1000.
        let mean = a.iter().sum::<u64>() / 1000;
        assert!((44_000..52_000).contains(&mean), "{mean}");
        let same = a.iter().zip(&b).filter(|(a, b)| a.abs_diff(**b) < 1000);
        assert!(same.count() < 60);
    }

    #[test]
    fn no_overflow_at_the_ends() {
        for (bits, rate) in [(u64::MAX, 1), (1, u64::MAX), (LONGEST_BITS, 1)] {
            let mut pace = Pace::new(bits, rate, u64::MAX);
            for now in [0, 1, u64::MAX, u64::MAX] {
                pace.take(now);
            }
            assert!(pace.slot_ns() > 0 && pace.due_ns() > 0);
        }
    }
}
