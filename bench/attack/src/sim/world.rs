//! What a run takes place in: the terms, the network, and how an attack is carried out.

use plumbline_proof::backhaul::params::Terms;
use plumbline_wire::header::IP_LAYER_LEN;
use serde::Serialize;

use super::link::time_ns;
use crate::switch::Attack;

/// A millisecond, ns.
pub(super) const MS: u64 = 1_000_000;
/// Bytes of a packet at the IP layer: what the queue holds and the link sends.
pub(super) const PACKET: u64 = IP_LAYER_LEN as u64;
/// A link's queue unless said otherwise holds this much time at its rate: the shaper of an access line.
const QUEUE_NS: u64 = 30 * MS;

/// The terms of a measurement. The one place here that makes them.
#[must_use]
pub fn terms(claim_bps: u64, n: u16, f: u16, duration_ms: u32) -> Terms {
    Terms::downlink(claim_bps, n, f, duration_ms)
}

/// A token bucket before the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    /// How much it holds.
    pub bytes: u64,
    /// How fast its tokens are spent, bit/s.
    pub peak_bps: u64,
}

/// How cross traffic comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// By chance, packet by packet.
    Steady,
    /// The same in bursts: twice as much (at most the whole link) half of the time, in periods of
    /// [`Cross::PERIOD_NS`].
    OnOff,
}

/// Somebody else's traffic on the same link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cross {
    /// Part of the link that it asks for, percent.
    pub share_percent: u8,
    /// How it comes.
    pub pattern: Pattern,
}

impl Cross {
    /// Period of [`Pattern::OnOff`], ns: half a usual phase, so that a phase sees both.
    pub const PERIOD_NS: u64 = 50 * MS;

    /// Share asked for at `at_ns`, in a million.
    pub(super) fn share_ppm(&self, at_ns: u64) -> u64 {
        let mean = u64::from(self.share_percent.min(100)) * 10_000;
        match self.pattern {
            Pattern::Steady => mean,
            Pattern::OnOff => {
                let high = (2 * mean).min(1_000_000);
                let on = Self::PERIOD_NS * mean / high.max(1);
                if at_ns % Self::PERIOD_NS < on {
                    high
                } else {
                    0
                }
            }
        }
    }
}

/// The measured link and the ways to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Its name in tables.
    pub name: &'static str,
    /// Rate of the measured link in the long run, bit/s at the IP layer: the truth.
    pub rate_bps: u64,
    /// Drop-tail queue before it, bytes.
    pub queue_bytes: u64,
    /// Token bucket before it.
    pub bucket: Option<Bucket>,
    /// One way between a challenger and the prover, ns.
    pub delay_ns: u64,
    /// Challengers' delays differ by up to this part of it in either direction, percent.
    pub spread_percent: u8,
    /// Each datagram is late by up to this, ns; order is kept.
    pub jitter_ns: u64,
    /// Datagrams lost on the way, in either direction, in a million.
    pub loss_ppm: u64,
    /// What else uses the link.
    pub cross: Option<Cross>,
    /// Challengers begin up to this much too late, each by its own chance, ns.
    pub skew_ns: u64,
    /// Part of their rate at which corrupt challengers really send, percent.
    pub corrupt_pace_percent: u64,
    /// The last so many challengers hear every echo this much later, ns: the prover keeps it back.
    pub held_back: (usize, u64),
    /// The prover takes this long from the last packet to the commitment, ns.
    pub commit_ns: u64,
}

impl Network {
    /// A plain link of `rate_bps`, `delay_ns` away.
    #[must_use]
    pub fn plain(name: &'static str, rate_bps: u64, delay_ns: u64) -> Self {
        Self {
            name,
            rate_bps,
            queue_bytes: queue(rate_bps, QUEUE_NS),
            bucket: None,
            delay_ns,
            spread_percent: 30,
            jitter_ns: delay_ns / 100,
            loss_ppm: 0,
            cross: None,
            skew_ns: 0,
            corrupt_pace_percent: 100,
            held_back: (0, 0),
            commit_ns: 50_000,
        }
    }

    /// A local network: a tenth of a millisecond away.
    #[must_use]
    pub fn lan(rate_bps: u64) -> Self {
        Self::plain("lan", rate_bps, MS / 10)
    }

    /// The networks of the acceptance table, for a claim of `claim_bps`.
    #[must_use]
    pub fn all(claim_bps: u64) -> Vec<Self> {
        let plain = |name, delay| Self::plain(name, claim_bps, delay);
        let metro = |name| plain(name, 5 * MS);
        let bucket = Bucket {
            bytes: queue(claim_bps, 50 * MS),
            peak_bps: 2 * claim_bps,
        };
        let cross = Cross {
            share_percent: 20,
            pattern: Pattern::Steady,
        };
        vec![
            plain("lan", MS / 10),
            metro("metro"),
            plain("continental", 40 * MS),
            plain("intercontinental", 75 * MS),
            Self {
                loss_ppm: 10_000,
                ..metro("lossy")
            },
            Self {
                queue_bytes: 10 * PACKET,
                ..metro("shallow-queue")
            },
            Self {
                queue_bytes: queue(claim_bps, 1000 * MS),
                ..metro("bufferbloat")
            },
            Self {
                bucket: Some(bucket),
                ..metro("bucket")
            },
            Self {
                cross: Some(cross),
                ..metro("cross")
            },
            Self::plain("slow-link", claim_bps * 30 / 100, 5 * MS),
        ]
    }

    /// What the link can have carried in `ns` at most, as a rate, bit/s: its rate, and its bucket in
    /// that time.
    #[must_use]
    pub fn burst_bps(&self, ns: u64) -> u64 {
        let Some(bucket) = self.bucket else {
            return self.rate_bps;
        };
        let bits = u128::from(bucket.bytes) * 8 * 1_000_000_000 / u128::from(ns.max(1));
        let burst = u64::try_from(bits).unwrap_or(u64::MAX);
        (self.rate_bps.saturating_add(burst)).min(bucket.peak_bps)
    }
}

/// Bytes that `rate_bps` moves in `ns`, ten packets at least.
fn queue(rate_bps: u64, ns: u64) -> u64 {
    let packet = time_ns(PACKET, rate_bps).max(1);
    (ns / packet).max(10) * PACKET
}

/// How an attack is carried out, where there is more than one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manner {
    /// As far as it goes.
    Gross,
    /// As far as the checks let it through, or against no more challengers than may be corrupt.
    Subtle,
}

impl Manner {
    /// The ways in which `attack` is tried.
    ///
    /// | attack | gross | subtle |
    /// | --- | --- | --- |
    /// | early-commit, forged-bitmap | packets of all are invented | of f challengers |
    /// | equivocating-commit | half of the challengers get another | f of them |
    /// | rtt-inflation | echoes late before the flood only | always |
    /// | silent-challenger | after its commitment to a seed | floods, and gives no report |
    /// | silent-prover | after its consent | takes the packets, never commits |
    /// | early-end | after a tenth of the duration | just before T_min |
    /// | skewed-starts | Starts arrive up to T0, echoes late | … and the honest begin up to a fifth of D late |
    /// | late-honest | f+1 hear the Start too late | f of them |
    /// | stranger-address | for data and control | for data |
    #[must_use]
    pub fn of(attack: Attack) -> &'static [Self] {
        match attack {
            Attack::EarlyCommit
            | Attack::ForgedBitmap
            | Attack::EquivocatingCommit
            | Attack::RttInflation
            | Attack::SilentChallenger
            | Attack::SilentProver
            | Attack::EarlyEnd
            | Attack::SkewedStarts
            | Attack::LateHonest
            | Attack::StrangerAddress => &[Self::Gross, Self::Subtle],
            _ => &[Self::Gross],
        }
    }
}

/// Everything that a run is decided by, but the switch and the seed.
#[derive(Clone, Debug)]
pub struct World {
    /// What was agreed.
    pub terms: Terms,
    /// Where it is measured.
    pub network: Network,
    /// How the attack is carried out.
    pub manner: Manner,
}

impl World {
    /// What the link can have carried at most, as a rate, over the shortest time that a bound divides by, bit/s:
    /// above its rate only where it has a bucket.
    #[must_use]
    pub fn carried_bps(&self) -> u64 {
        let least_ns = u64::from(self.terms.least_span_us()) * 1000;
        self.network.burst_bps(least_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_ask_for_the_same_share_as_steady_traffic() {
        for share_percent in [0, 10, 50, 70, 100] {
            let cross = |pattern| Cross {
                share_percent,
                pattern,
            };
            let times = || (0..Cross::PERIOD_NS).step_by(1000);
            let mean = |c: Cross| {
                let all: u64 = times().map(|t| c.share_ppm(t)).sum();
                all / times().count() as u64
            };
            let (steady, bursts) = (mean(cross(Pattern::Steady)), mean(cross(Pattern::OnOff)));
            assert!(steady.abs_diff(bursts) < 100, "{steady} {bursts}");
        }
    }

    #[test]
    fn every_network_has_its_own_name() {
        let all = Network::all(20_000_000);
        let names: std::collections::BTreeSet<&str> = all.iter().map(|n| n.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|n| n.queue_bytes >= 10 * PACKET));
    }

    #[test]
    fn a_bucket_raises_what_a_short_time_can_carry() {
        let mut network = Network::lan(10_000_000);
        assert_eq!(network.burst_bps(100 * MS), 10_000_000);
        network.bucket = Some(Bucket {
            bytes: 125_000,
            peak_bps: 18_000_000,
        });
        // A megabit in a second is a megabit a second more; in a tenth of it the peak is the limit.
        assert_eq!(network.burst_bps(1000 * MS), 11_000_000);
        assert_eq!(network.burst_bps(100 * MS), 18_000_000);
    }
}
