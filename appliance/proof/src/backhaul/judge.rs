//! Judgement: named checks over a record, each naming the culprit; then the figures.
//!
//! A pure function of the record: the coordinator computes it, the contract repeats its arithmetic,
//! and `plumbline verify` replays it offline to the same result, bit for bit, on however many cores.

use std::num::NonZeroUsize;

use plumbline_trust::session::{Ephemeral, SessionKey};

use super::burst::{self, Burst};
use super::doubt;
use super::estimate::{Sample, estimate};
use super::keystream::{self, Train};
use super::messages::{Commit, Consent, Report, Window};
use super::params::{
    Direction, V5_SLACK_PERCENT, V6_SLACK_PERCENT, V10_DURATION_PART, V11_OFFERED_PERCENT,
};
use super::record::{Kept, Record};
use super::replay::{Claim, Found, replay};
use super::rtt::{self, Known};
use super::uplink;
pub use super::verdict::{Check, Judgement, Standing, Verdict};
use super::verdict::{decide, unless};

/// Judges a record that has a reveal, on all cores.
pub fn judge(record: &Record) -> Judgement {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    judge_on(record, cores)
}

/// Judges on so many threads; their number changes nothing of the result.
pub fn judge_on(record: &Record, threads: NonZeroUsize) -> Judgement {
    let terms = record.notice.message.terms;
    if terms.direction == Direction::Up {
        return uplink::judge::judge(record);
    }
    let mut bench = Bench {
        record,
        checks: Vec::new(),
        flags: vec![Vec::new(); record.seeds.len()],
    };
    bench.note(
        "V1",
        "signatures, registration, selection",
        true,
        None,
        format!(
            "{} challengers drawn from {} candidates",
            terms.n,
            record.notice.message.candidates.len()
        ),
    );
    let commitment_ok = bench.commitment();
    let mut samples: Vec<(usize, Sample)> = Vec::new();
    let found = if commitment_ok {
        bench.replay(threads)
    } else {
        Vec::new()
    };
    for (index, report) in record.reports.iter().enumerate() {
        match report {
            Some(report) if commitment_ok => {
                let found = found.get(index).and_then(Option::as_ref);
                if let Some(sample) = bench.report(index, &report.message, found) {
                    samples.push((index, sample));
                }
            }
            Some(_) => bench.flag(index, "V4"),
            None => bench.flag(index, "NoReport"),
        }
    }
    // Who signs two commitments has none; and without enough offered, timings say nothing about the link.
    // What was delivered is paid all the same.
    let void = bench.equivocation().or_else(|| {
        let judged = commitment_ok.then_some(&samples)?;
        bench.starved(judged)
    });
    bench.finish(&samples, commitment_ok, void)
}

struct Bench<'a> {
    record: &'a Record,
    checks: Vec<Check>,
    flags: Vec<Vec<String>>,
}

impl Bench<'_> {
    fn note(&mut self, check: &str, name: &str, ok: bool, culprit: Option<String>, detail: String) {
        let culprit = if ok { None } else { culprit };
        self.checks.push(Check {
            check: check.into(),
            name: name.into(),
            ok,
            culprit,
            detail,
        });
    }

    fn flag(&mut self, index: usize, flag: &str) {
        if let Some(flags) = self.flags.get_mut(index) {
            flags.push(flag.into());
        }
    }

    /// V4 and the opening of C: the prover's own sums.
    fn commitment(&mut self) -> bool {
        let name = "commitment: counts, bitmaps, roots";
        let prover = Some("prover".to_owned());
        let (Some(commit), Some(reveal)) = (&self.record.commit, &self.record.reveal) else {
            self.note(
                "V4",
                name,
                false,
                prover,
                "no commitment or no reveal".into(),
            );
            return false;
        };
        let (commit, reveal) = (&commit.message, &reveal.message);
        let terms = self.record.notice.message.terms;
        let m = terms.per_challenger();
        let pops = reveal
            .bitmaps
            .iter()
            .map(|b| b.iter().map(|x| x.count_ones()).sum::<u32>());
        let wrong = if !pops.eq(commit.counts.iter().copied()) {
            Some("a count differs from its bitmap".to_owned())
        } else if commit.counts.iter().any(|c| u64::from(*c) > m) {
            Some(format!("a count exceeds m = {m}"))
        } else if commit.counts.iter().map(|c| u64::from(*c)).sum::<u64>() != commit.packets
            || commit.packets > terms.target()
        {
            Some(format!(
                "the counts do not sum to {} within the target {}",
                commit.packets,
                terms.target()
            ))
        } else if keystream::response(
            &commit.challenge,
            commit.phase,
            &commit.counts,
            &reveal.roots,
        ) != commit.response
        {
            Some("the roots do not open the response hash".to_owned())
        } else {
            None
        };
        let ok = wrong.is_none();
        let detail = wrong.unwrap_or_else(|| {
            format!("N' = {} of N = {}, m = {m}", commit.packets, terms.target())
        });
        self.note("V4", name, ok, prover, detail);
        ok
    }

    /// V13: the prover told every challenger what it put on record. A report that shows otherwise does so by
    /// the prover's own signature.
    fn equivocation(&mut self) -> Option<String> {
        let kept = self.record.commit.as_ref()?;
        let prover = self.record.notice.message.prover.key;
        let other = |report: &Report| {
            let heard = report.heard.as_ref().filter(|h| h.key == prover)?;
            let commit: Commit = heard.open().ok()?;
            let same =
                (commit.challenge, commit.phase) == (kept.message.challenge, kept.message.phase);
            (same && commit != kept.message).then_some(commit.packets)
        };
        let reports = self.record.reports.iter().flatten().map(|r| &r.message);
        let shown = reports.filter_map(|r| Some((r.index, other(r)?))).next();
        let detail = match shown {
            None => "no challenger was told otherwise".to_owned(),
            Some((index, packets)) => format!(
                "{} packets on record, {packets} said to challenger {index}; both signed",
                kept.message.packets
            ),
        };
        let prover = Some("prover".to_owned());
        self.note("V13", "one commitment", shown.is_none(), prover, detail);
        let (index, _) = shown?;
        self.flag(usize::from(index), "Equivocation");
        Some("the prover signed two commitments to one phase".into())
    }

    /// What the reports whose seed and session key open their commitments (V2) come to.
    fn replay(&self, threads: NonZeroUsize) -> Vec<Option<Found>> {
        let notice = &self.record.notice.message;
        let claims: Vec<Option<Claim<'_>>> = (0..self.record.reports.len())
            .map(|index| self.claim(index))
            .collect();
        let opened: Vec<bool> = claims.iter().map(Option::is_some).collect();
        let claims: Vec<Claim<'_>> = claims.into_iter().flatten().collect();
        let mut found = replay(&claims, &notice.challenge, &notice.prover.key, threads).into_iter();
        opened
            .into_iter()
            .map(|opened| if opened { found.next() } else { None })
            .collect()
    }

    fn claim(&self, index: usize) -> Option<Claim<'_>> {
        let report = &self.record.reports.get(index)?.as_ref()?.message;
        if !self.record.seed_opens(index, &report.seed) {
            return None;
        }
        let session = self.session(index, report, &self.record.consent.as_ref()?.message)?;
        let notice = &self.record.notice.message;
        let train = Train::new(
            &report.seed,
            &notice.challenge,
            &notice.beacon,
            0,
            report.index,
            session.clone(),
        )
        .of_size(notice.terms.size());
        Some(Claim {
            index: report.index,
            train,
            session,
            bitmap: self.record.reveal.as_ref()?.message.bitmaps.get(index)?,
            rtts: &report.rtts,
        })
    }

    /// V2, V3, V5, V7, V10 of one report.
    fn report(&mut self, index: usize, report: &Report, found: Option<&Found>) -> Option<Sample> {
        let who = || Some(format!("challenger {index}"));
        let terms = self.record.notice.message.terms;
        let commit = self.record.commit.as_ref()?.message.clone();
        self.note(
            "V2",
            &format!("seed of challenger {index}"),
            found.is_some(),
            who(),
            "seed and session key open their commitments".into(),
        );
        let Some(found) = found else {
            self.flag(index, "V2");
            return None;
        };

        let counted = self.root_holds(index, found);
        let fits = counted == Some(report.packets) && report.response == commit.response;
        // Either of the two may have lied, so neither is charged: the report does not count.
        self.note(
            "V3",
            &format!("root of challenger {index}"),
            fits,
            Some(format!("challenger {index} or prover")),
            format!("{} packets recomputed from the seed", report.packets),
        );
        if !fits {
            self.flag(index, "V3");
            return None;
        }

        let (round_trips, all_open) = round_trips(report, found);
        let known = Known {
            smallest_ns: report.known_ns,
            floor_ns: report.floor_ns,
        };
        let summary = rtt::summarise(&round_trips, known, terms.duration_ns());
        let span = report.committed_ns.saturating_sub(report.sent_first_ns);
        let sums = all_open
            && report.rho_ns == summary.rho_ns
            && report.tt_ns == span.saturating_sub(summary.credited_ns)
            && report.tt_plus_ns == span.saturating_sub(report.floor_ns)
            && report.tt_ns > 0;
        // V5: it takes packets/r to offer them, whatever the link does.
        let bytes = u128::from(terms.packet_bytes);
        let least = u128::from(report.packets) * 8 * bytes * 1_000_000_000
            / u128::from(terms.offer_each_bps());
        let possible = u128::from(span) * 100 >= least * u128::from(100 - V5_SLACK_PERCENT);
        self.note(
            "V5",
            &format!("timing of challenger {index}"),
            sums && possible && report.packets > 0,
            who(),
            format!(
                "tt {} us, round trip {} us, {} packets",
                report.tt_ns / 1000,
                report.rho_ns / 1000,
                report.packets
            ),
        );
        if !(sums && possible && report.packets > 0) {
            self.flag(index, "V5");
            return None;
        }
        self.note(
            "V7",
            &format!("round trips of challenger {index}"),
            !summary.inflated,
            Some("prover".into()),
            format!(
                "idle before {}, after {}; loaded {}",
                microseconds(summary.before_ns),
                microseconds(summary.after_ns),
                microseconds(summary.during_ns)
            ),
        );
        if summary.inflated {
            self.flag(index, "RttInflation");
        }
        let clock_ok = report.clock_error_ns <= terms.duration_ns() / V10_DURATION_PART;
        self.note(
            "V10",
            &format!("clock of challenger {index}"),
            clock_ok,
            who(),
            format!("{} ± {} ns", report.clock, report.clock_error_ns),
        );
        if !clock_ok {
            self.flag(index, "ClockError");
        }
        Some(Sample {
            tt_ns: report.tt_ns,
            tt_plus_ns: report.tt_plus_ns,
            packets: report.packets.into(),
        })
    }

    fn session(&self, index: usize, report: &Report, consent: &Consent) -> Option<SessionKey> {
        let ephemeral = Ephemeral::from_secret(report.ephemeral_secret);
        let said = self.record.seeds.get(index)?.as_ref()?;
        if said.message.ephemeral != ephemeral.public() {
            return None;
        }
        ephemeral.agree(&consent.ephemeral, self.record.challenge(), report.index)
    }

    /// V3: the revealed root is the one that seed and bitmap give; how many packets it stands for.
    fn root_holds(&self, index: usize, found: &Found) -> Option<u32> {
        let reveal = &self.record.reveal.as_ref()?.message;
        let packets = reveal.bitmaps.get(index)?.iter().map(|b| b.count_ones());
        (found.root == *reveal.roots.get(index)?).then(|| packets.sum())
    }

    /// V11: before a claim is called false, whether it was put to the test at all. f liars can neither
    /// bring the sum below what n−f honest ones offer, nor raise it beyond their own shares.
    fn starved(&mut self, samples: &[(usize, Sample)]) -> Option<String> {
        let terms = self.record.notice.message.terms;
        let list: Vec<Sample> = samples.iter().map(|(_, s)| *s).collect();
        let result = estimate(&list, terms.f, terms.offer_total_bps(), terms.packet_bytes);
        let mut slow = Vec::new();
        let reports = self.record.reports.iter().flatten().map(|r| &r.message);
        let offered: u64 = reports
            .clone()
            .map(|r| offered_bps(r, terms.packet_bytes).min(terms.offer_each_bps()))
            .sum();
        let needed = u128::from(terms.claim_bps) * u128::from(V11_OFFERED_PERCENT) / 100;
        let guaranteed = result.curve.last().copied().unwrap_or(0);
        let (verdict, _) = decide(
            &terms,
            true,
            true,
            samples.len(),
            result.point_bps,
            guaranteed,
        );
        // Too few valid reports are V9's affair.
        let few = (samples.len() as u64) < terms.honest();
        let tested = few || verdict == Verdict::Pass || u128::from(offered) >= needed;
        self.note(
            "V11",
            "the claim was put to the test",
            tested,
            Some("challengers".into()),
            format!("{offered} bit/s offered, {needed} needed to call a claim false"),
        );
        if tested {
            return None;
        }
        for report in reports {
            if offered_bps(report, terms.packet_bytes) < terms.offer_each_bps() {
                slow.push(report.index);
            }
        }
        for index in slow {
            self.flag(index.into(), "UnderOffered");
        }
        Some(format!(
            "the challengers offered {offered} bit/s, too little to tell: {} arrived, {needed} must be offered",
            result.point_bps
        ))
    }

    /// V12: whether the link was fast for a moment only.
    fn burst(&mut self, commitment_ok: bool) -> Option<Burst> {
        let reveal = self.record.reveal.as_ref().filter(|_| commitment_ok)?;
        let told = &reveal.message.accounting;
        let terms = self.record.notice.message.terms;
        // The slice in which a challenger reached m is the first that is not whole.
        let steady = usize::try_from(told.uncapped).map_or(usize::MAX, |whole| whole + 1);
        let slices = &told.histogram[..told.histogram.len().min(steady)];
        let found = burst::find(slices, terms.slice_ns(), terms.packet_bytes.into());
        let detail = match &found {
            None => format!("no shift within {} slices", slices.len()),
            Some(burst) => format!(
                "burst of {} bytes at {} bit/s, sustained {} bit/s{}",
                burst.burst_bytes,
                burst.peak_bps,
                burst.sustained_bps,
                if burst.outweighed {
                    ""
                } else {
                    "; not outweighed four times: measure longer"
                }
            ),
        };
        self.note(
            "V12",
            "the rate is sustained",
            found.is_none(),
            None,
            detail,
        );
        found
    }

    /// Packets that the prover says came, and that count for nothing: of challengers without a valid report,
    /// beyond a challenger's share, and what came twice.
    fn uncounted(&self, samples: &[(usize, Sample)]) -> u64 {
        let (Some(commit), Some(reveal)) = (&self.record.commit, &self.record.reveal) else {
            return 0;
        };
        let valid = |i: &usize| samples.iter().any(|(index, _)| index == i);
        let counts = commit.message.counts.iter().enumerate();
        let lost: u64 = counts
            .filter(|(i, _)| !valid(i))
            .map(|(_, c)| u64::from(*c))
            .sum();
        let fates = &reveal.message.accounting.fates;
        let beside = fates
            .iter()
            .filter(|(name, _)| matches!(name.as_str(), "duplicate" | "over_cap"));
        beside.fold(lost, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn finish(
        mut self,
        samples: &[(usize, Sample)],
        commitment_ok: bool,
        void: Option<String>,
    ) -> Judgement {
        let terms = self.record.notice.message.terms;
        let offered = terms.offer_total_bps();
        let list: Vec<Sample> = samples.iter().map(|(_, s)| *s).collect();
        let unbounded = estimate(&list, terms.f, u64::MAX, terms.packet_bytes);
        let burst = self.burst(commitment_ok);
        let sustained = burst.map(|b| b.sustained_bps);
        let result = estimate(&list, terms.f, offered, terms.packet_bytes).within(sustained);
        let limit = u128::from(offered) * u128::from(100 + V6_SLACK_PERCENT) / 100;
        let within = u128::from(unbounded.point_bps) <= limit;
        self.note(
            "V6",
            "estimate within what was offered",
            within,
            Some("challengers or prover".into()),
            format!("{} of {offered} bit/s", unbounded.point_bps),
        );
        let mut paid = vec![false; self.flags.len()];
        for ((index, _), outlier) in samples.iter().zip(&result.outlier) {
            self.note(
                "V8",
                &format!("challenger {index} agrees with the median"),
                !outlier,
                Some(format!("challenger {index}")),
                "within max(3·MAD, 5 %)".into(),
            );
            if *outlier {
                self.flag(*index, "Outlier");
            }
            if let Some(p) = paid.get_mut(*index) {
                *p = !outlier;
            }
        }
        let needed = usize::try_from(terms.honest()).unwrap_or(usize::MAX);
        let enough = samples.len() >= needed;
        self.note(
            "V9",
            "enough valid reports",
            enough,
            Some("prover or challengers".into()),
            format!("{} valid, {needed} needed", samples.len()),
        );
        let void = void.or_else(|| {
            let excuse = doubt::excuse(&terms, &list, sustained, self.uncounted(samples));
            self.note(
                "V14",
                "what decided was the link",
                excuse.is_none(),
                None,
                excuse
                    .clone()
                    .unwrap_or_else(|| "the figures stand, whatever did not count".into()),
            );
            excuse
        });
        let decided = decide(
            &terms,
            commitment_ok,
            enough,
            samples.len(),
            result.point_bps,
            result.curve.last().copied().unwrap_or(0),
        );
        let (verdict, reason) = unless(void.filter(|_| commitment_ok), decided);
        let standings =
            self.flags
                .into_iter()
                .zip(paid)
                .enumerate()
                .map(|(index, (flags, paid))| Standing {
                    index: u16::try_from(index).unwrap_or(u16::MAX),
                    valid: samples.iter().any(|(i, _)| *i == index),
                    paid,
                    flags,
                });
        Judgement {
            verdict,
            reason,
            point_bps: result.point_bps,
            packets: result.packets,
            burst,
            commitment_ok,
            standings: standings.collect(),
            checks: self.checks,
            curve: result.curve,
        }
    }
}

/// The report's round trips, each probe's once, and whether every echo opens and is counted.
fn round_trips(report: &Report, found: &Found) -> (Vec<(Window, u64)>, bool) {
    let mut numbers = std::collections::BTreeSet::new();
    let opened: Vec<_> = report
        .rtts
        .iter()
        .zip(&found.echoes)
        .filter_map(|(r, opened)| {
            let (number, round_trip) = (*opened)?;
            numbers.insert(number).then_some((r.window, round_trip))
        })
        .collect();
    let all = opened.len() == report.rtts.len();
    (opened, all)
}

fn microseconds(ns: Option<u64>) -> String {
    ns.map_or_else(|| "none".into(), |ns| format!("{} us", ns / 1000))
}

/// What a challenger gave to its kernel between its first and its last send, bit/s. One burst has no
/// duration and counts as in full.
fn offered_bps(report: &Report, packet_bytes: u16) -> u64 {
    let span = report.sent_last_ns.saturating_sub(report.sent_first_ns);
    let bits = u128::from(report.sent) * 8 * u128::from(packet_bytes);
    let rate = (bits * 1_000_000_000).checked_div(u128::from(span));
    rate.map_or(u64::MAX, |r| u64::try_from(r).unwrap_or(u64::MAX))
}

/// The samples that entered a judgement, with their index, as the contract is given them.
pub fn valid_reports<'a>(record: &'a Record, judgement: &Judgement) -> Vec<&'a Kept<Report>> {
    record
        .reports
        .iter()
        .zip(&judgement.standings)
        .filter(|(_, s)| s.valid)
        .filter_map(|(r, _)| r.as_ref())
        .collect()
}
