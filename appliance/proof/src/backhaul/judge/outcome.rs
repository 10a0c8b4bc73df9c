//! From the reports that count to the judgement: the bounds, what was offered and came, the verdict and its reason.

use std::net::IpAddr;

use super::super::burst::{self, Burst};
use super::super::estimate::{self, Sample};
use super::super::messages::Report;
use super::super::offer::{self, Came, Offer, Tried};
use super::super::params::ROUND_TRIPS;
use super::super::uplink;
use super::super::verdict::{self, Judgement, Standing, Verdict, WITHHELD};
use super::{Bench, Counted};

impl Bench<'_> {
    /// The prover's slices, looked at for a burst: for people.
    fn burst(&self) -> Option<Burst> {
        let told = &self.record.reveal.as_ref()?.message.accounting;
        burst::find(
            &told.histogram,
            self.terms.slice_ns(),
            self.terms.packet_bytes.into(),
        )
    }

    /// All that came, whatever became of it; what this host dropped among it.
    fn came(&self) -> Came {
        let (Some(commit), Some(reveal)) = (&self.record.commit, &self.record.reveal) else {
            return Came::default();
        };
        let told = &reveal.message.accounting;
        let received = told
            .received
            .iter()
            .fold(0, |sum: u64, n| sum.saturating_add(*n));
        let ours = received.max(commit.message.packets);
        offer::came(&self.terms, ours, told.interface, told.host_dropped)
    }

    /// What each counted report says was offered, and whose own access may have been the limit.
    fn offers(&mut self, counted: &[Counted<'_>]) -> Vec<Offer> {
        let told = self
            .record
            .reveal
            .as_ref()
            .map(|r| &r.message.accounting.received);
        let carried = |c: &Counted<'_>| {
            let received = told.and_then(|t| t.get(c.index)).copied().unwrap_or(0);
            received.max(c.sample.packets)
        };
        let network = |c: &Counted<'_>| {
            let seed = self.record.seeds.get(c.index)?.as_ref()?;
            network_of(seed.message.data.ip())
        };
        let parts: Vec<_> = counted
            .iter()
            .map(|c| (carried(c), c.report.sent, network(c)))
            .collect();
        let narrow = offer::narrow(&parts);
        for (c, narrow) in counted.iter().zip(&narrow) {
            if *narrow {
                self.flag(c.index, "Narrow");
            }
        }
        let offers = counted.iter().zip(narrow).map(|(c, narrow)| Offer {
            sent: c.report.sent_back.clone(),
            window_us: c.sample.window_us,
            narrow,
        });
        offers.collect()
    }

    fn tried(&mut self, counted: &[Counted<'_>]) -> Option<Tried> {
        let silent = self.record.reports.len() - counted.len();
        if self.up() {
            let reports: Vec<&Report> = counted.iter().map(|c| c.report).collect();
            return uplink::judge::tried(self.record, &reports, silent, self.far_ns(counted));
        }
        let offers = self.offers(counted);
        offer::tried(&self.terms, &offers, silent, self.came())
    }

    pub(super) fn finish(
        mut self,
        counted: &[Counted<'_>],
        commitment_ok: bool,
        twice: bool,
    ) -> Judgement {
        let samples: Vec<Sample> = counted.iter().map(|c| c.sample).collect();
        let curve = estimate::curve(&self.terms, &samples);
        let timed: Vec<(Sample, u64)> = counted
            .iter()
            .map(|c| (c.sample, c.report.rho_ns))
            .collect();
        let tried = self.tried(counted);
        let needed = self.terms.honest();
        let enough = counted.len() as u64 >= needed;
        self.note(
            "V9",
            "enough reports",
            enough,
            Some("prover or challengers".into()),
            format!("{} count, {needed} needed", counted.len()),
        );
        let mut judgement = Judgement {
            verdict: Verdict::Inconclusive,
            reason: None,
            measured_bps: estimate::measured(&self.terms, &timed),
            curve: curve.iter().map(|b| b.bps).collect(),
            spans_us: curve.iter().map(|b| b.span_us).collect(),
            packets: samples.iter().map(|s| s.packets).sum(),
            asked_bps: tried.map(|t| t.asked_bps),
            came_bps: tried.map(|t| t.came_bps),
            burst: self.burst(),
            commitment_ok,
            standings: Vec::new(),
            checks: Vec::new(),
        };
        let broken = if !commitment_ok {
            Some("the prover's commitment does not hold")
        } else if twice {
            Some("the prover signed two commitments to one phase")
        } else {
            None
        };
        let verdict = match broken {
            Some(_) => Verdict::Inconclusive,
            None => verdict::decide(&self.terms, &curve, counted.len(), tried.as_ref()),
        };
        let far = self.far_ns(counted);
        let verdict = match verdict {
            // What fills queues behind the link counts there: only a phase that is long beside them shows the link.
            Verdict::Pass if self.up() && !self.terms.is_long_enough(far) => Verdict::Inconclusive,
            verdict => verdict,
        };
        let reason = match (broken, verdict, tried) {
            (Some(why), ..) => Some(why.to_owned()),
            (None, Verdict::Pass, _) => None,
            (None, Verdict::Fail, Some(t)) => Some(format!(
                "asked for {} bit/s over {} ms, {} bit/s came: {} was not free on the path from these senders. Provisional: a second draw confirms it",
                t.asked_bps,
                t.slots * self.terms.offer_slot_ns() / 1_000_000,
                t.came_bps,
                self.terms.claim_bps
            )),
            _ if !enough => Some(format!(
                "{} reports count, {needed} are needed{}",
                counted.len(),
                self.who()
            )),
            _ => Some(self.undecided(counted, &judgement)),
        };
        (judgement.verdict, judgement.reason) = (verdict, reason);
        judgement.standings = (0u16..)
            .zip(self.flags)
            .map(|(index, flags)| Standing {
                index,
                valid: counted.iter().any(|c| c.index == usize::from(index)),
                flags,
            })
            .collect();
        judgement.checks = self.checks;
        judgement
    }

    /// Who is missing or limited, by flag: `; Withheld: challenger 3`.
    fn who(&self) -> String {
        let mut words = String::new();
        for (index, flags) in self.flags.iter().enumerate().filter(|(_, f)| !f.is_empty()) {
            words.push_str(&format!("; challenger {index}: {}", flags.join(", ")));
            if flags.iter().any(|f| f == WITHHELD) {
                words.push_str(" (it began and gave no seed: its bond is at stake)");
            }
            let said = self.record.out.get(index).and_then(Option::as_ref);
            if let Some(said) = said {
                words.push_str(&format!(" ({})", said.message.why));
            }
        }
        words
    }

    /// The (f+1)-th longest round trip, ns: f that lie about theirs decide nothing.
    fn far_ns(&self, counted: &[Counted<'_>]) -> u64 {
        let mut round_trips: Vec<u64> = counted.iter().map(|c| c.report.rho_ns).collect();
        round_trips.sort_unstable_by(|a, b| b.cmp(a));
        let at = usize::from(self.terms.f);
        round_trips.get(at).copied().unwrap_or(0)
    }

    /// Why the figures neither pass nor fail: the receiver, the duration, or what was offered.
    fn undecided(&self, counted: &[Counted<'_>], judgement: &Judgement) -> String {
        let figures = format!(
            "at least {} bit/s, {} though {} lie",
            judgement.lower_bps(),
            judgement.guaranteed_bps(),
            self.terms.f
        );
        let reveal = self.record.reveal.as_ref();
        let dropped = reveal.map_or(0, |r| r.message.accounting.host_dropped);
        let span_us = u128::from(judgement.spans_us.first().copied().unwrap_or(0)).max(1);
        let lost = 8_000_000 * u128::from(dropped) * u128::from(self.terms.packet_bytes) / span_us;
        let bar = u128::from(self.terms.claim_bps) * 95 / 100;
        if dropped > 0 && u128::from(judgement.lower_bps()) + lost >= bar {
            return format!(
                "receiver: the prover's own host dropped {dropped} packets; {figures}{}",
                self.who()
            );
        }
        let rho_ns = self.far_ns(counted);
        if !self.terms.is_long_enough(rho_ns) {
            return format!(
                "duration: a round trip of {} us is long beside {} ms, measure {} ms or longer; {figures}{}",
                rho_ns / 1000,
                self.terms.duration_ms,
                rho_ns.saturating_mul(ROUND_TRIPS).div_ceil(1_000_000),
                self.who()
            );
        }
        let offered = match (judgement.asked_bps, judgement.came_bps) {
            (Some(asked), Some(came)) => {
                let unseen = match self.up() || self.came().whole {
                    true => "",
                    false => "; what else the prover's interface received is not known",
                };
                format!("a link of the claim was asked for {asked} bit/s, {came} came{unseen}")
            }
            _ => "nobody trusted sent for long enough".to_owned(),
        };
        format!("offered: {offered}; {figures}{}", self.who())
    }
}

/// The access network that a public address is of: the /24, or over IPv6 the /48. Private and loopback addresses
/// are those of one site or a laboratory, and say nothing of whose access it is.
fn network_of(address: IpAddr) -> Option<[u8; 6]> {
    match address.to_canonical() {
        IpAddr::V4(a) if a.is_private() || a.is_loopback() || a.is_link_local() => None,
        IpAddr::V4(a) => {
            let [x, y, z, _] = a.octets();
            Some([4, x, y, z, 0, 0])
        }
        IpAddr::V6(a) if a.is_unique_local() || a.is_loopback() || a.is_unicast_link_local() => {
            None
        }
        IpAddr::V6(a) => {
            let mut network = [0; 6];
            network.copy_from_slice(&a.octets()[..6]);
            Some(network)
        }
    }
}
