//! Judgement of an uplink: the checks by the names of [`super::super::judge`], where they part.
//!
//! ```text
//!  V4 commitment ─► V2 V5 V10 a report ─► V8 shares ─► V11 ─► V12, Σ, curve ─► V6 V9 ─► verdict
//! ```
//! V3 (roots) and V7 (round trips) have nothing to check: the prover proves no bytes, and no round trip
//! is subtracted. A prover that offered too little has itself to blame, so V11 asks the other question:
//! whether the shortfall is that of a few challengers and not the link's.

use plumbline_trust::session::{Ephemeral, SessionKey};

use super::super::burst::{self, Burst};
use super::super::estimate::{Sample, estimate_uplink};
use super::super::keystream;
use super::super::messages::{Report, Window as When};
use super::super::params::{V6_SLACK_PERCENT, V10_DURATION_PART};
use super::super::record::Record;
use super::super::rtt;
use super::super::verdict::{Check, Judgement, Standing, Verdict, decide, unless};
use super::prover::roots;
use super::{Window, counted_most};

/// V8: who counted less than this part of the median, in percent, had a bottleneck of its own or lied.
/// Equal offers share a link within a few per cent; half leaves room for any fair queue.
const V8_SHARE_PERCENT: u64 = 50;

/// Judges a record that has a reveal.
pub(in super::super) fn judge(record: &Record) -> Judgement {
    let terms = record.notice.message.terms;
    let mut bench = Bench {
        record,
        checks: Vec::new(),
        flags: vec![Vec::new(); record.seeds.len()],
    };
    let from = record.notice.message.candidates.len();
    bench.note(
        "V1",
        "signatures, registration, selection".into(),
        true,
        "",
        format!("{} challengers drawn from {from} candidates", terms.n),
    );
    let commitment_ok = bench.commitment();
    let mut samples: Vec<(usize, Sample)> = Vec::new();
    for (index, report) in record.reports.iter().enumerate() {
        match report {
            Some(report) if commitment_ok => {
                if bench.report(index, &report.message) {
                    let sample = Sample {
                        tt_ns: report.message.tt_ns,
                        tt_plus_ns: report.message.tt_plus_ns,
                        packets: report.message.packets.into(),
                    };
                    samples.push((index, sample));
                }
            }
            Some(_) => bench.flag(index, "V4"),
            None => bench.flag(index, "NoReport"),
        }
    }
    bench.finish(&samples, commitment_ok)
}

struct Bench<'a> {
    record: &'a Record,
    checks: Vec<Check>,
    flags: Vec<Vec<String>>,
}

impl Bench<'_> {
    fn note(&mut self, check: &str, name: String, ok: bool, culprit: &str, detail: String) {
        self.checks.push(Check {
            check: check.into(),
            name,
            ok,
            culprit: (!ok && !culprit.is_empty()).then(|| culprit.into()),
            detail,
        });
    }

    fn flag(&mut self, index: usize, flag: &str) {
        if let Some(flags) = self.flags.get_mut(index) {
            flags.push(flag.into());
        }
    }

    /// V4: what the prover says it sent adds up, and is what it may send.
    fn commitment(&mut self) -> bool {
        let name = || "commitment: packets sent".to_owned();
        let (Some(commit), Some(reveal)) = (&self.record.commit, &self.record.reveal) else {
            let why = "no commitment or no reveal".into();
            self.note("V4", name(), false, "prover", why);
            return false;
        };
        let (commit, reveal) = (&commit.message, &reveal.message);
        let cap = self.record.notice.message.terms.cap_packets();
        let opens =
            |roots| keystream::response(&commit.challenge, commit.phase, &commit.counts, roots);
        let wrong = if commit.counts.iter().any(|c| u64::from(*c) > cap) {
            Some(format!("a count exceeds the cap of {cap}"))
        } else if commit.counts.iter().map(|c| u64::from(*c)).sum::<u64>() != commit.packets {
            Some(format!("the counts do not sum to {}", commit.packets))
        } else if reveal.roots != roots(commit.counts.len())
            || opens(&reveal.roots) != commit.response
        {
            Some("the response hash is not that of these counts".to_owned())
        } else {
            None
        };
        let ok = wrong.is_none();
        let detail = wrong.unwrap_or_else(|| format!("{} packets sent", commit.packets));
        self.note("V4", name(), ok, "prover", detail);
        ok
    }

    /// V2, V5 and V10 of one report; whether it counts.
    fn report(&mut self, index: usize, report: &Report) -> bool {
        let who = format!("challenger {index}");
        let session = self.session(index, report);
        self.note(
            "V2",
            format!("seed of {who}"),
            session.is_some(),
            &who,
            "seed and session key open their commitments".into(),
        );
        let Some(session) = session else {
            self.flag(index, "V2");
            return false;
        };
        let wrong = self.wrong(index, report, &session);
        let ok = wrong.is_none();
        let window = Window::new(&self.record.notice.message.terms, 0);
        let detail = wrong.unwrap_or_else(|| {
            format!(
                "{} packets in {} us, round trip {} us",
                report.packets,
                window.length_ns() / 1000,
                report.rho_ns / 1000
            )
        });
        self.note("V5", format!("arrivals at {who}"), ok, &who, detail);
        if !ok {
            self.flag(index, "V5");
            return false;
        }
        let duration_ns = self.record.notice.message.terms.duration_ns();
        let steady = report.clock_error_ns <= duration_ns / V10_DURATION_PART;
        let clock = format!("{} ± {} ns", report.clock, report.clock_error_ns);
        self.note("V10", format!("clock of {who}"), steady, &who, clock);
        if !steady {
            self.flag(index, "ClockError");
        }
        true
    }

    /// The session key, if seed and secret are those that were committed to.
    fn session(&self, index: usize, report: &Report) -> Option<SessionKey> {
        let ephemeral = Ephemeral::from_secret(report.ephemeral_secret);
        let said = self.record.seeds.get(index)?.as_ref()?;
        let consent = &self.record.consent.as_ref()?.message;
        let committed = self.record.seed_opens(index, &report.seed)
            && said.message.ephemeral == ephemeral.public();
        committed
            .then(|| ephemeral.agree(&consent.ephemeral, self.record.challenge(), report.index))
            .flatten()
    }

    /// V5: why what a report says cannot be.
    fn wrong(&self, index: usize, report: &Report, session: &SessionKey) -> Option<String> {
        let notice = &self.record.notice.message;
        let (Some(start), Some(commit)) = (&self.record.start, &self.record.commit) else {
            return Some("no start or no commitment".into());
        };
        let window = Window::new(&notice.terms, start.message.t0_ns);
        let ours = (window.from_ns, window.until_ns(), window.length_ns());
        let length = (report.tt_ns == report.tt_plus_ns).then_some(report.tt_ns);
        if (
            report.sent_first_ns,
            report.committed_ns,
            length.unwrap_or(0),
        ) != ours
        {
            return Some(format!("the window is not that of the terms, {ours:?} ns"));
        }
        let counts = report.arrivals.as_ref().map_or(&[][..], |a| &a.histogram);
        let sum: u64 = counts.iter().map(|n| u64::from(*n)).sum();
        if sum != u64::from(report.packets) {
            return Some(format!(
                "the sub-intervals sum to {sum}, not {}",
                report.packets
            ));
        }
        let sent = commit.message.counts.get(index).copied().unwrap_or(0);
        let most = counted_most(&notice.terms).min(sent.into());
        if report.packets == 0 || sum > most {
            return Some(format!(
                "{sum} packets; {sent} were sent, and between 1 and {most} can be counted"
            ));
        }
        if report.response != commit.message.response {
            return Some("is about another commitment".into());
        }
        let open = |r| {
            rtt::open(
                r,
                &notice.challenge,
                report.index,
                session,
                &notice.prover.key,
            )
        };
        let mut numbers = std::collections::BTreeSet::new();
        let opened: Vec<_> = report.rtts.iter().filter_map(open).collect();
        let all = opened.len() == report.rtts.len()
            && opened.iter().all(|(number, _)| numbers.insert(*number))
            && report.rtts.iter().all(|r| r.window == When::Before);
        let smallest = opened.iter().map(|(_, ns)| *ns).min();
        (!all || smallest != Some(report.rho_ns))
            .then(|| "an echo does not open, or the round trip is not the smallest".into())
    }

    /// V8: who counted far less than the others. Noted and paid: the bottleneck may be honest.
    fn low(&mut self, samples: &[(usize, Sample)]) {
        let middle = median(samples);
        for (index, sample) in samples {
            let fair = u128::from(sample.packets) * 100
                >= u128::from(middle) * u128::from(V8_SHARE_PERCENT);
            let who = format!("challenger {index}");
            let detail = format!("{} packets, the median is {middle}", sample.packets);
            self.note("V8", format!("share of {who}"), fair, &who, detail);
            if !fair {
                self.flag(*index, "LowShare");
            }
        }
    }

    /// V11: before a claim is called false, whether f challengers that say they got less than the others are
    /// all that is missing. The prover gains nothing by starving them: silence is as inconclusive.
    fn withheld(&mut self, samples: &[(usize, Sample)]) -> Option<String> {
        let terms = self.record.notice.message.terms;
        let list: Vec<Sample> = samples.iter().map(|(_, s)| *s).collect();
        let result = estimate_uplink(&list, terms.f, terms.offer_total_bps(), terms.packet_bytes);
        let guaranteed = result.curve.last().copied().unwrap_or(0);
        let point = result.point_bps;
        let (verdict, _) = decide(&terms, true, true, samples.len(), point, guaranteed);
        // The f that say they got least may have kept it to themselves: what the link carried if they had
        // counted like the others.
        let flooded = self.record.ready.iter().flatten().count();
        let middle = median(samples);
        let mut told: Vec<u64> = samples.iter().map(|(_, s)| s.packets).collect();
        told.resize(flooded.max(told.len()), 0);
        told.sort_unstable();
        for least in told.iter_mut().take(usize::from(terms.f)) {
            *least = middle.max(*least);
        }
        let whole = Sample {
            packets: told.iter().sum(),
            ..list.first().copied().unwrap_or(Sample {
                tt_ns: 0,
                tt_plus_ns: 0,
                packets: 0,
            })
        };
        let likely = estimate_uplink(&[whole], 0, u64::MAX, terms.packet_bytes).point_bps;
        // Too few valid reports are V9's affair.
        let few = (samples.len() as u64) < terms.honest();
        let tested = few
            || verdict == Verdict::Pass
            || u128::from(likely) * 100 < u128::from(terms.claim_bps) * 95;
        self.note(
            "V11",
            "the shortfall is the link's".into(),
            tested,
            "challengers",
            format!(
                "were the {} that counted least like the others, {likely} bit/s",
                terms.f
            ),
        );
        if tested {
            return None;
        }
        for (index, _) in samples {
            self.flag(*index, "Withheld");
        }
        Some(format!(
            "{point} bit/s; were the {} challengers that counted least like the others, {likely}: they may have kept it to themselves",
            terms.f
        ))
    }

    /// V12: whether the link was fast for a moment only. Sub-interval by sub-interval the median report
    /// stands for all: f liars cannot make a burst of their own.
    fn burst(&mut self, samples: &[(usize, Sample)]) -> Option<Burst> {
        let terms = self.record.notice.message.terms;
        let window = Window::new(&terms, 0);
        let told = |index: &usize| {
            let report = self.record.reports.get(*index)?.as_ref()?;
            Some(&report.message.arrivals.as_ref()?.histogram)
        };
        let told: Vec<&Vec<u32>> = samples.iter().filter_map(|(i, _)| told(i)).collect();
        let reports = u32::try_from(told.len()).unwrap_or(u32::MAX);
        let slots = usize::try_from(window.slots).unwrap_or(0);
        let mut slices: Vec<u32> = (0..slots)
            .map(|slot| {
                let counts = told.iter().filter_map(|h| h.get(slot).copied());
                middle(counts.collect()).saturating_mul(reports)
            })
            .collect();
        // The last of a prover's slices is cut off by its commitment; all of these are whole.
        slices.push(0);
        let found = burst::find(&slices, window.slot_ns, terms.packet_bytes.into());
        let detail = found.map_or_else(
            || format!("no shift within {slots} sub-intervals"),
            |b| {
                format!(
                    "burst of {} bytes at {} bit/s, sustained {} bit/s",
                    b.burst_bytes, b.peak_bps, b.sustained_bps
                )
            },
        );
        let steady = found.is_none();
        self.note("V12", "the rate is sustained".into(), steady, "", detail);
        found
    }

    fn finish(mut self, samples: &[(usize, Sample)], commitment_ok: bool) -> Judgement {
        let terms = self.record.notice.message.terms;
        self.low(samples);
        let withheld = if commitment_ok {
            self.withheld(samples)
        } else {
            None
        };
        let list: Vec<Sample> = samples.iter().map(|(_, s)| *s).collect();
        let offered = terms.offer_total_bps();
        let sum = estimate_uplink(&list, terms.f, u64::MAX, terms.packet_bytes).point_bps;
        let burst = self.burst(samples);
        let result = estimate_uplink(&list, terms.f, offered, terms.packet_bytes)
            .within(burst.map(|b| b.sustained_bps));
        let limit = u128::from(offered) * u128::from(100 + V6_SLACK_PERCENT) / 100;
        self.note(
            "V6",
            "sum within what was offered".into(),
            u128::from(sum) <= limit,
            "challengers or prover",
            format!("{sum} of {offered} bit/s"),
        );
        let needed = terms.honest();
        let enough = samples.len() as u64 >= needed;
        self.note(
            "V9",
            "enough valid reports".into(),
            enough,
            "prover or challengers",
            format!("{} valid, {needed} needed", samples.len()),
        );
        let guaranteed = result.curve.last().copied().unwrap_or(0);
        let point = result.point_bps;
        let decided = decide(
            &terms,
            commitment_ok,
            enough,
            samples.len(),
            point,
            guaranteed,
        );
        let (verdict, reason) = unless(withheld.filter(|_| commitment_ok), decided);
        let standings = (0u16..).zip(self.flags).map(|(index, flags)| {
            let valid = samples.iter().any(|(i, _)| *i == usize::from(index));
            Standing {
                index,
                valid,
                paid: valid,
                flags,
            }
        });
        Judgement {
            verdict,
            reason,
            point_bps: point,
            curve: result.curve,
            packets: result.packets,
            burst,
            commitment_ok,
            standings: standings.collect(),
            checks: self.checks,
        }
    }
}

/// Middle of what was counted; of an even number the lower of the two.
fn median(samples: &[(usize, Sample)]) -> u64 {
    middle(samples.iter().map(|(_, s)| s.packets).collect())
}

fn middle<N: Ord + Copy + Default>(mut counts: Vec<N>) -> N {
    counts.sort_unstable();
    let half = counts.len().saturating_sub(1) / 2;
    counts.get(half).copied().unwrap_or_default()
}
