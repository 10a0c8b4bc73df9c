//! When each burst is due: an absolute schedule, so that a late burst does not delay the later ones.

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use crate::clock::{monotonic_ns, realtime_ns};

/// Packets of a burst at most: what 64 KiB hold at MTU 1500, 53 µs at 10 Gbit/s. Five senders' bursts
/// at once still fit the ring of 256 packets between two veths; against bursts of 16 it saves 15 to
/// 20 % of the sender's time.
pub(super) const BURST: usize = 44;
/// A burst holds at most this much time of the schedule, ns: at low rates, packets are spread.
const BURST_NS: u64 = 500_000;
/// Longest UDP payload, and so longest burst, in bytes.
pub(super) const LONGEST: usize = 65_507;
/// Depth of the token bucket, ns: a sender that was kept from running for longer than this does not catch
/// up on the rest. Long enough for a scheduler on shared cores, short against a phase of 100 ms and up.
const BUCKET_NS: u64 = 20_000_000;
/// What IPv4 and UDP headers add to a packet.
const HEADERS: usize = 28;

const SECOND: u64 = 1_000_000_000;

/// The schedule of a flood.
#[derive(Debug)]
pub(super) struct Pace {
    /// When packet 0 was due, `CLOCK_MONOTONIC` ns; moves when the bucket overflows.
    base_ns: u64,
    /// Packets offered so far.
    offered: u64,
    packet_bits: u64,
    rate_bps: u64,
    burst: usize,
    /// Decides how each burst is moved within its own slot.
    seed: u64,
}

impl Pace {
    pub(super) fn new(packet_len: usize, rate_bps: u64, start_realtime_ns: u64, seed: u64) -> Self {
        let packet_bits = (packet_len + HEADERS) as u64 * 8;
        let base_ns = monotonic_of(start_realtime_ns).max(monotonic_ns());
        let in_time = u128::from(rate_bps) * u128::from(BURST_NS)
            / u128::from(SECOND)
            / u128::from(packet_bits);
        let most = BURST.min(LONGEST / packet_len);
        let burst = usize::try_from(in_time).unwrap_or(most).clamp(1, most);
        Self {
            base_ns,
            offered: 0,
            packet_bits,
            rate_bps,
            burst,
            seed,
        }
    }

    /// Packets of the next burst.
    pub(super) fn burst(&self) -> usize {
        self.burst
    }

    /// When it is sent, `CLOCK_MONOTONIC` ns: somewhere in its slot, the first one at its beginning.
    /// Senders of equal rates would otherwise stay in step for a whole phase, and a full drop-tail
    /// queue would refuse the same one each time: the shares would differ, the sum would not.
    pub(super) fn send_ns(&self) -> u64 {
        if self.offered == 0 {
            return self.due_ns();
        }
        let at =
            (u128::from(self.slot_ns()) * u128::from(mixed(self.seed ^ self.offered) >> 32)) >> 32;
        self.due_ns() + u64::try_from(at).unwrap_or(0)
    }

    /// What a burst takes of the schedule, ns.
    pub(super) fn slot_ns(&self) -> u64 {
        self.time_of(self.burst as u64)
    }

    /// What so many packets take, ns.
    fn time_of(&self, packets: u64) -> u64 {
        let bits = u128::from(packets) * u128::from(self.packet_bits);
        u64::try_from(bits * u128::from(SECOND) / u128::from(self.rate_bps)).unwrap_or(u64::MAX)
    }

    /// When its slot begins, `CLOCK_MONOTONIC` ns.
    pub(super) fn due_ns(&self) -> u64 {
        self.base_ns.saturating_add(self.time_of(self.offered))
    }

    /// `packets` were offered at `now_ns`.
    pub(super) fn advance(&mut self, packets: u64, now_ns: u64) {
        let late = now_ns.saturating_sub(self.due_ns());
        self.base_ns += late.saturating_sub(BUCKET_NS);
        self.offered += packets;
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): spreads consecutive numbers over 64 bits.
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A time of `CLOCK_REALTIME` as `CLOCK_MONOTONIC`, by what they differ now.
pub(super) fn monotonic_of(realtime: u64) -> u64 {
    let (real, mono) = (realtime_ns(), monotonic_ns());
    if realtime >= real {
        mono.saturating_add(realtime - real)
    } else {
        mono.saturating_sub(real - realtime)
    }
}

/// Sleeps until `CLOCK_MONOTONIC` shows `ns`. A signal ends it early; the caller looks at the clock.
pub(super) fn sleep_until(ns: u64) {
    let second = i64::try_from(ns / SECOND).unwrap_or(i64::MAX);
    let rest = i64::try_from(ns % SECOND).unwrap_or(0);
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    let _ = clock_nanosleep(
        ClockId::CLOCK_MONOTONIC,
        flags,
        &TimeSpec::new(second, rest),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_hold_at_most_44_packets_500_us_and_64_kib() {
        let burst = |len, rate| Pace::new(len, rate, 0, 0).burst();
        // 44 packets of 12,000 bits in 500 µs: 1056 Mbit/s.
        assert_eq!(burst(1472, 1_056_000_000), 44);
        assert_eq!(burst(1472, 1_055_999_999), 43);
        assert_eq!(burst(1472, 10_000_000_000), 44);
        assert_eq!(burst(1472, 24_000_000), 1);
        assert_eq!(burst(1472, 48_000_000), 2);
        assert_eq!(burst(1472, 1), 1);
        assert_eq!(burst(8960, 10_000_000_000), 7);
        assert_eq!(burst(LONGEST, u64::MAX), 1);
    }

    #[test]
    fn the_schedule_is_absolute() {
        let mut pace = Pace::new(1472, 1_200_000_000, 0, 0);
        let start = pace.due_ns();
        for i in 1..=1000u64 {
            // Each burst is 160 µs of schedule; being 100 µs late each time does not add up.
            pace.advance(16, pace.due_ns() + 100_000);
            assert_eq!(pace.due_ns(), start + i * 160_000);
        }
    }

    #[test]
    fn the_bucket_is_20_ms_deep() {
        for (late, forgiven) in [
            (BUCKET_NS, 0),
            (BUCKET_NS + 1, 1),
            (3 * BUCKET_NS, 2 * BUCKET_NS),
        ] {
            let mut pace = Pace::new(1472, 1_200_000_000, 0, 0);
            let start = pace.due_ns();
            pace.advance(16, start + late);
            assert_eq!(pace.due_ns(), start + 160_000 + forgiven, "{late} ns late");
        }
    }

    #[test]
    fn a_burst_moves_within_its_slot_and_not_with_others_of_its_rate() {
        let mut a = Pace::new(1472, 1_200_000_000, 0, 1);
        let mut b = Pace::new(1472, 1_200_000_000, 0, 2);
        assert_eq!(a.send_ns(), a.due_ns());
        let (mut sum, mut same) = (0, 0);
        for _ in 0..1000 {
            a.advance(44, 0);
            b.advance(44, 0);
            let (at, other) = (a.send_ns() - a.due_ns(), b.send_ns() - b.due_ns());
            assert!(at < a.time_of(44));
            sum += at;
            same += u32::from(at.abs_diff(other) < 1000);
        }
        // Uniform: the mean is half a slot of 440 µs; 1 µs apart by chance in about 5 of 1000.
        assert!((200_000..240_000).contains(&(sum / 1000)), "{}", sum / 1000);
        assert!(same < 20, "{same}");
    }

    #[test]
    fn no_overflow_at_the_ends() {
        let mut pace = Pace::new(LONGEST, 1, u64::MAX, 0);
        pace.advance(u64::from(u32::MAX), 0);
        assert!(pace.due_ns() > 0);
    }
}
