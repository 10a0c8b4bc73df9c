//! Judgement: named checks over a record, each naming the culprit; then the bounds, and what they say.
//!
//! ```text
//!  V1 ─► V4 V13 commitment ─► of each report V2 seed · V3 root · V5 sums · V10 clock ─► V9 enough ─► verdict
//! ```
//!
//! **Guarantees.** A pure function of the record: the coordinator computes it, the contract repeats the arithmetic of
//! the bounds, and `plumbline verify` replays it offline to the same result, bit for bit, on however many cores.
//! What one party says decides nothing of the others': its report counts or does not.
//!
//! **Limits.** Whether `Fail` or `Inconclusive` is said of a claim that does not pass rests on send logs and counters
//! that are their author's word ([`super::offer`] says how far each is believed).

mod outcome;

use std::num::NonZeroUsize;

use plumbline_trust::session::{Ephemeral, SessionKey};

use super::estimate::Sample;
use super::keystream::{self, Train};
use super::messages::{Commit, Report};
use super::params::{Direction, Terms};
use super::record::{Kept, Record};
use super::replay::{Claim, Found, replay};
use super::uplink;
use super::verdict::WITHHELD;
pub use super::verdict::{Check, Judgement, Standing, Verdict};

/// Judges a record that has a reveal, on all cores.
pub fn judge(record: &Record) -> Judgement {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    judge_on(record, cores)
}

/// Judges on so many threads; their number changes nothing of the result.
pub fn judge_on(record: &Record, threads: NonZeroUsize) -> Judgement {
    let mut bench = Bench {
        record,
        terms: record.notice.message.terms,
        checks: Vec::new(),
        flags: vec![Vec::new(); record.seeds.len()],
    };
    let drawn = format!(
        "{} challengers drawn in {} looks at a pool of {}",
        bench.terms.n,
        record.notice.message.looks.len(),
        record.notice.message.pool
    );
    bench.note(
        "V1",
        "signatures, registration, selection",
        true,
        None,
        drawn,
    );
    let commitment_ok = bench.commitment();
    let twice = bench.equivocation();
    let mut counted = Vec::new();
    if commitment_ok {
        let found = bench.replay(threads);
        for (index, found) in found.into_iter().enumerate() {
            counted.extend(bench.report(index, found.as_ref()));
        }
    }
    for index in 0..record.reports.len() {
        bench.missing(index);
    }
    bench.finish(&counted, commitment_ok, twice)
}

/// A report that counts.
struct Counted<'a> {
    index: usize,
    report: &'a Report,
    sample: Sample,
}

struct Bench<'a> {
    record: &'a Record,
    terms: Terms,
    checks: Vec<Check>,
    flags: Vec<Vec<String>>,
}

impl<'a> Bench<'a> {
    fn note(&mut self, check: &str, name: &str, ok: bool, culprit: Option<String>, detail: String) {
        self.checks.push(Check {
            check: check.into(),
            name: name.into(),
            ok,
            culprit: culprit.filter(|_| !ok),
            detail,
        });
    }

    fn flag(&mut self, index: usize, flag: &str) {
        if let Some(flags) = self.flags.get_mut(index) {
            flags.push(flag.into());
        }
    }

    fn up(&self) -> bool {
        self.terms.direction == Direction::Up
    }

    /// V4: the prover's own sums, and the opening of C. One that is not on record charges nobody: whoever keeps the
    /// log may have left it out.
    fn commitment(&mut self) -> bool {
        let (name, prover) = (
            "commitment: counts, bitmaps, roots",
            Some("prover".to_owned()),
        );
        let (Some(commit), Some(reveal)) = (&self.record.commit, &self.record.reveal) else {
            let why = "no commitment or no reveal".into();
            self.note("V4", name, false, None, why);
            return false;
        };
        let (commit, reveal) = (&commit.message, &reveal.message);
        let (most, target) = match self.terms.direction {
            Direction::Down => (self.terms.counted_most(), self.terms.target()),
            Direction::Up => (self.terms.cap_packets(), u64::MAX),
        };
        let ones = |b: &Vec<u8>| b.iter().map(|x| x.count_ones()).sum::<u32>();
        let sum: u64 = commit.counts.iter().map(|c| u64::from(*c)).sum();
        let opens =
            |roots| keystream::response(&commit.challenge, commit.phase, &commit.counts, roots);
        let wrong = if !self.up()
            && !reveal
                .bitmaps
                .iter()
                .map(ones)
                .eq(commit.counts.iter().copied())
        {
            Some("a count differs from its bitmap".to_owned())
        } else if commit.counts.iter().any(|c| u64::from(*c) > most) {
            Some(format!("a count exceeds {most}"))
        } else if sum != commit.packets || sum > target {
            Some(format!(
                "the counts sum to {sum}, not to {} within {target}",
                commit.packets
            ))
        } else if self.up() && reveal.roots != uplink::prover::roots(commit.counts.len()) {
            Some("there are roots of packets where none were received".to_owned())
        } else if opens(&reveal.roots) != commit.response {
            Some("the roots do not open the response hash".to_owned())
        } else {
            None
        };
        let ok = wrong.is_none();
        let detail = wrong.unwrap_or_else(|| format!("{} packets", commit.packets));
        self.note("V4", name, ok, prover, detail);
        ok
    }

    /// V13: the prover told every challenger what it put on record. A report that shows otherwise does so by
    /// the prover's own signature.
    fn equivocation(&mut self) -> bool {
        let Some(kept) = &self.record.commit else {
            return false;
        };
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
        if let Some((index, _)) = shown {
            self.flag(index.into(), "Equivocation");
        }
        shown.is_some()
    }

    /// What the reports whose seed and session key open their commitments (V2) come to, by index.
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

    fn claim(&self, index: usize) -> Option<Claim<'a>> {
        let report = &self.record.reports.get(index)?.as_ref()?.message;
        if !self.record.opens(index, report) {
            return None;
        }
        let session = self.session(report)?;
        let notice = &self.record.notice.message;
        let train = Train::new(
            &report.seed,
            &notice.challenge,
            &notice.beacon,
            0,
            report.index,
            session.clone(),
        );
        Some(Claim {
            index: report.index,
            train: train.of_size(self.terms.size()),
            session,
            bitmap: self.record.reveal.as_ref()?.message.bitmaps.get(index)?,
            rtts: &report.rtts,
        })
    }

    fn session(&self, report: &Report) -> Option<SessionKey> {
        let ephemeral = Ephemeral::from_secret(report.ephemeral_secret);
        let consent = &self.record.consent.as_ref()?.message;
        ephemeral.agree(&consent.ephemeral, self.record.challenge(), report.index)
    }

    /// V2, V3, V5 and V10 of one report; nothing if it does not count.
    fn report(&mut self, index: usize, found: Option<&Found>) -> Option<Counted<'a>> {
        let record = self.record;
        let report = &record.reports.get(index)?.as_ref()?.message;
        let commit = &record.commit.as_ref()?.message;
        let who = Some(format!("challenger {index}"));
        let about = |what: &str| format!("{what} of challenger {index}");
        let opened = "seed and session key open their commitments".to_owned();
        // The rest of a claim is others' words: the challenger is charged by its own alone.
        let own = who.clone().filter(|_| !record.opens(index, report));
        self.note("V2", &about("seed"), found.is_some(), own, opened);
        let Some(found) = found else {
            self.flag(index, "V2");
            return None;
        };
        if !self.up() {
            let proved = self.root_holds(index, found) == Some(report.packets)
                && report.response == commit.response;
            let detail = format!("{} packets recomputed from the seed", report.packets);
            // Either of the two may have lied, so neither is charged: the report does not count.
            let either = Some(format!("challenger {index} or prover"));
            self.note("V3", &about("root"), proved, either, detail);
            if !proved {
                self.flag(index, "V3");
                return None;
            }
        }
        let wrong = match self.terms.direction {
            Direction::Down => self.wrong(report, found),
            Direction::Up => uplink::judge::wrong(record, index, report, found),
        };
        let adds_up = wrong.is_none();
        let detail = wrong.unwrap_or_else(|| {
            let (us, rho_us) = (report.window_us, report.rho_ns / 1000);
            format!(
                "{} packets in {us} us, round trip {rho_us} us",
                report.packets
            )
        });
        // What was sent away from the prover, and that nothing was counted, are its word: either may have lied.
        let culprit = if self.up() || report.packets == 0 {
            Some(format!("challenger {index} or prover"))
        } else {
            who.clone()
        };
        self.note("V5", &about("report"), adds_up, culprit, detail);
        let steady = report.clock_error_ns <= self.terms.clock_bound_ns();
        let clock = format!("{} ± {} ns", report.clock, report.clock_error_ns);
        self.note("V10", &about("clock"), steady, who, clock);
        for (good, flag) in [(adds_up, "V5"), (steady, "ClockError")] {
            if !good {
                self.flag(index, flag);
            }
        }
        (adds_up && steady).then_some(Counted {
            index,
            report,
            sample: Sample {
                packets: report.packets.into(),
                window_us: report.window_us,
            },
        })
    }

    /// V3: the revealed root is the one that seed and bitmap give; how many packets it stands for.
    fn root_holds(&self, index: usize, found: &Found) -> Option<u32> {
        let reveal = &self.record.reveal.as_ref()?.message;
        let packets = reveal.bitmaps.get(index)?.iter().map(|b| b.count_ones());
        (found.root == *reveal.roots.get(index)?).then(|| packets.sum())
    }

    /// V5 towards the prover: why what a report says cannot be.
    fn wrong(&self, report: &Report, found: &Found) -> Option<String> {
        let span_ns = report.committed_ns.saturating_sub(report.sent_first_ns);
        let window_us = Report::window_us(span_ns, report.clock_error_ns);
        if span_ns == 0 || report.window_us != window_us {
            let (error, said) = (report.clock_error_ns, report.window_us);
            return Some(format!(
                "{span_ns} ns between first send and commitment, the clock off by {error} ns at most, {said} us said"
            ));
        }
        let logged: u64 = report.sent_back.iter().map(|n| u64::from(*n)).sum();
        if report.packets == 0 || u64::from(report.packets) > report.sent || logged > report.sent {
            let (counted, sent) = (report.packets, report.sent);
            return Some(format!(
                "{counted} packets counted, {logged} in the send log, {sent} sent"
            ));
        }
        round_trips(report, found).err()
    }

    /// Why there is no report of a challenger, for whoever it concerns.
    fn missing(&mut self, index: usize) {
        let record = self.record;
        if record.reports.get(index).is_some_and(Option::is_some) {
            return;
        }
        let said = |slot: Option<bool>| slot.unwrap_or(false);
        let consented = record.consent.as_ref().is_some_and(|c| {
            let senders = &c.message.senders;
            senders.iter().any(|s| usize::from(s.index) == index)
        });
        let out = said(record.out.get(index).map(Option::is_some));
        let flag = match (record.withholds(index), out, consented) {
            (true, ..) => WITHHELD,
            (_, true, _) => "GaveUp",
            (.., false) => "NotConsented",
            _ => "NoReport",
        };
        self.flag(index, flag);
    }
}

/// Every echo opens, each probe's once, and ρ is the smallest round trip.
///
/// # Errors
/// In words, what does not hold.
pub(super) fn round_trips(report: &Report, found: &Found) -> Result<(), String> {
    let mut numbers = std::collections::BTreeSet::new();
    let mut smallest = None;
    for opened in &found.echoes {
        let Some((number, round_trip)) = *opened else {
            return Err("an echo does not open".into());
        };
        if !numbers.insert(number) {
            return Err("an echo is there twice".into());
        }
        smallest = Some(smallest.map_or(round_trip, |s: u64| s.min(round_trip)));
    }
    if smallest != Some(report.rho_ns) {
        return Err(format!(
            "the smallest round trip is not {} ns",
            report.rho_ns
        ));
    }
    Ok(())
}

/// The reports that count, with their index, as the contract is given them.
pub fn valid_reports<'a>(record: &'a Record, judgement: &Judgement) -> Vec<&'a Kept<Report>> {
    record
        .reports
        .iter()
        .zip(&judgement.standings)
        .filter(|(_, s)| s.valid)
        .filter_map(|(r, _)| r.as_ref())
        .collect()
}
