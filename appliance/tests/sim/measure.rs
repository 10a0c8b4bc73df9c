//! The measurement itself: notice, seeds, consent, begin, flood, commitment, reports, result.

use std::rc::Rc;

use alloy::primitives::{Address, B256, Bytes, keccak256};
use plumbline::chain::client::Offence;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::{
    SignedCommit, SignedReport, Submission, Timing as Posted,
};
use plumbline_contracts::signing::PHASE;
use plumbline_contracts::{State, Timing, Verdict, commit_digest, counts_hash, report_digest};
use plumbline_proof::backhaul::estimate::{self, Sample};
use plumbline_proof::backhaul::offer::{self, Came, Offer};
use plumbline_proof::backhaul::params::Terms;

use crate::actors::{Actor, Evidence, Keeper, Sender};
use crate::clock::SECOND;
use crate::ledger::{Index, Job};
use crate::network::{Commit, Flood, Message, Report};
use crate::roles;
use crate::world::World;

/// How long a coordinator waits for those that are missing once there are enough.
const PATIENCE_NS: u64 = 15 * SECOND;

/// Sends a message to everyone drawn, as the chain has it.
fn tell(w: &mut World, to: impl IntoIterator<Item = Address>, message: &Message) {
    for who in to {
        w.say(who, message);
    }
}

pub(crate) fn coordinator(a: &mut Actor, w: &mut World, view: &Rc<Index>, kind: Keeper) {
    let clock = a.drift.shows(w.now);
    for (id, job) in &view.jobs {
        if job.request.coordinator != a.address {
            continue;
        }
        let since = a.session(*id).since;
        match job.state {
            State::Selected => {
                if since.is_none() {
                    a.session(*id).since = Some(clock);
                }
                set_up(a, w, view, *id, job, clock);
            }
            State::Running => conclude(a, w, view, *id, job, kind),
            _ => {}
        }
    }
}

fn set_up(a: &mut Actor, w: &mut World, view: &Index, id: B256, job: &Job, clock: u64) {
    let session = a.session(id).clone();
    let absent = |i: usize| !session.seeds.contains(&u16::try_from(i).unwrap());
    let missing: Vec<Address> = job
        .selected
        .iter()
        .enumerate()
        .filter(|(i, _)| absent(*i))
        .map(|(_, s)| *s)
        .collect();
    tell(w, missing.iter().copied(), &Message::Notice { id });
    if !session.consent {
        w.say(job.request.prover, &Message::Notice { id });
    }
    let late = clock > session.since.unwrap_or(clock) + PATIENCE_NS;
    let enough = missing.is_empty() || (late && missing.len() <= usize::from(job.request.f));
    if session.consent && enough {
        w.ledger.rely(view);
        let backhaul = w.d.backhaul;
        let setup = keccak256([id.as_slice(), b"setup"].concat());
        w.send(
            a,
            "begin",
            backhaul,
            &Backhaul::beginCall {
                id,
                setupHash: setup,
            },
        );
    }
}

fn conclude(a: &mut Actor, w: &mut World, view: &Index, id: B256, job: &Job, kind: Keeper) {
    let clock = a.drift.shows(w.now);
    let session = a.session(id).clone();
    let Some(commit) = &session.commit else {
        w.say(job.request.prover, &Message::Begun { id });
        return;
    };
    let silent = job
        .selected
        .iter()
        .enumerate()
        .filter(|(i, _)| !session.reports.contains_key(&u16::try_from(*i).unwrap()));
    let silent: Vec<Address> = silent.map(|(_, s)| *s).collect();
    tell(w, silent.iter().copied(), &Message::Commit(commit.clone()));
    let late = clock > session.committed_at + PATIENCE_NS;
    if !(silent.is_empty() || late) || kind == Keeper::Mute {
        return;
    }
    let bundle = keccak256([id.as_slice(), b"bundle", &[u8::from(roles::censors(kind))]].concat());
    w.truth.insert(bundle, roles::censors(kind));
    let fitting = session
        .reports
        .values()
        // Who sent nothing has nothing to report on.
        .filter(|r| r.response == commit.response && r.packets > 0);
    let skip = if roles::censors(kind) {
        usize::from(job.request.f)
    } else {
        0
    };
    let fitting: Vec<&Report> = fitting.skip(skip).collect();
    let (verdict, spans_us) = judged(&job.terms(), commit, &fitting);
    let mut posted = Submission {
        packets: commit.packets(),
        counts: commit.counts.clone(),
        responseHash: commit.response,
        proverSignature: commit.signature.clone(),
        reports: fitting.into_iter().map(posted).collect(),
        bundleHash: bundle,
        verdict: verdict as u8,
        spansUs: spans_us,
    };
    if kind == Keeper::Forger {
        let first = posted.counts[0];
        posted.counts[0] = first.checked_sub(1).unwrap_or(1);
        posted.packets = posted.counts.iter().map(|c| u64::from(*c)).sum();
    }
    w.ledger.rely(view);
    let backhaul = w.d.backhaul;
    let refused = w.send(a, "report", backhaul, &Backhaul::reportCall { id, posted });
    w.tally.forgeries += u64::from(refused && kind == Keeper::Forger);
}

/// What a coordinator says of the claim, by the product's own rules, and the T of each bound. All that came was
/// counted here, and whoever reports sent as it should for as long as it says.
fn judged(terms: &Terms, commit: &Commit, reports: &[&Report]) -> (Verdict, Vec<u32>) {
    let samples: Vec<Sample> = reports
        .iter()
        .map(|r| Sample {
            packets: r.packets.into(),
            window_us: r.window_us,
        })
        .collect();
    let curve = estimate::curve(terms, &samples);
    let spans_us = curve.iter().map(|b| b.span_us).collect();
    let bps = |at: usize| curve[at].bps;
    if estimate::passes(terms, bps(0), bps(usize::from(terms.f))) {
        return (Verdict::Pass, spans_us);
    }
    let bytes = u64::from(terms.packet_bytes);
    let slot_bits = u128::from(terms.offer_each_bps()) * u128::from(terms.offer_slot_ns());
    let in_a_slot = u32::try_from(slot_bits / (8_000_000_000 * u128::from(bytes))).unwrap();
    let offers: Vec<Offer> = reports
        .iter()
        .map(|r| Offer {
            sent: (0..u64::from(r.window_us) * 1_000 / terms.offer_slot_ns())
                .map(|_| in_a_slot)
                .collect(),
            window_us: r.window_us,
            narrow: false,
        })
        .collect();
    let silent = usize::from(terms.n) - reports.len();
    let came = Came {
        bytes: commit.packets() * bytes,
        whole: true,
    };
    let tried = offer::tried(terms, &offers, silent, came);
    let short = tried.is_some_and(|t| t.short) && reports.len() as u64 >= terms.honest();
    let verdict = if short {
        Verdict::Fail
    } else {
        Verdict::Inconclusive
    };
    (verdict, spans_us)
}

fn posted(report: &Report) -> Posted {
    Posted {
        index: report.index,
        windowUs: report.window_us,
        packets: report.packets,
        signature: report.signature.clone(),
    }
}

pub(crate) fn coordinator_hears(a: &mut Actor, w: &mut World, message: Message) {
    let clock = a.drift.shows(w.now);
    match message {
        Message::Seed { id, index } => {
            a.session(id).seeds.insert(index);
        }
        Message::Consent { id } => a.session(id).consent = true,
        Message::Commit(commit) => {
            let session = a.session(commit.id);
            if session.commit.is_none() {
                session.committed_at = clock;
                session.commit = Some(commit);
            }
        }
        Message::Report(report) => {
            let session = a.session(report.id);
            let known = session
                .reports
                .entry(report.index)
                .or_insert_with(|| report.clone());
            if *known != report {
                let pair = Box::new([signed_report(known), signed_report(&report)]);
                let bytes = Offence::TwoReports(report.id, pair).encode();
                let Some(job) = w.view().jobs.get(&report.id).cloned() else {
                    return;
                };
                accuse(a, report.id, job.selected[usize::from(report.index)], bytes);
            }
        }
        _ => {}
    }
}

fn signed_report(report: &Report) -> SignedReport {
    SignedReport {
        phase: PHASE,
        index: report.index,
        windowUs: report.window_us,
        packets: report.packets,
        responseHash: report.response,
        signature: report.signature.clone(),
    }
}

fn signed_commit(commit: &Commit) -> SignedCommit {
    SignedCommit {
        phase: PHASE,
        packets: commit.packets(),
        countsHash: counts_hash(&commit.counts),
        responseHash: commit.response,
        signature: commit.signature.clone(),
    }
}

fn accuse(a: &mut Actor, subject: B256, guilty: Address, bytes: Bytes) {
    let known = a.disk.cases.iter().any(|c| matches!(c, Evidence::Proof { subject: s, guilty: g, .. } if *s == subject && *g == guilty));
    if !known {
        a.disk.cases.push(Evidence::Proof {
            subject,
            guilty,
            bytes,
        });
    }
}

/// Says what it said before to whoever has not understood: nothing, unless it floods or committed.
pub(crate) fn prover(a: &mut Actor, w: &mut World, view: &Index) {
    for (id, present) in a.floods.clone() {
        let Some(job) = view.jobs.get(&id) else {
            continue;
        };
        let absent = |i: &usize| !present.contains_key(&u16::try_from(*i).unwrap());
        let missing = (0..job.selected.len())
            .filter(absent)
            .map(|i| job.selected[i]);
        tell(w, missing, &Message::Start { id });
    }
}

pub(crate) fn prover_hears(a: &mut Actor, w: &mut World, message: &Message, twice: bool) {
    let view = w.view();
    match *message {
        Message::Notice { id } => {
            let Some(job) = view.jobs.get(&id) else {
                return;
            };
            if job.state == State::Selected && job.request.prover == a.address {
                w.ledger.rely(&view);
                a.session(id).agreed = Some(job.selected.clone());
                w.say(job.request.coordinator, &Message::Consent { id });
            }
        }
        Message::Begun { id } => {
            let Some(job) = view.jobs.get(&id) else {
                return;
            };
            let session = a.session(id);
            if let Some(commit) = session.commit.clone() {
                publish(a, w, job, &commit, twice);
            } else if job.state == State::Running && !session.started && session.agreed.is_some() {
                session.started = true;
                w.ledger.rely(&view);
                a.floods.entry(id).or_default();
                w.count_later(a, id);
                tell(w, job.selected.iter().copied(), &Message::Start { id });
            }
        }
        Message::Flood {
            id,
            index,
            smuggled,
        } => {
            if let Some(flood) = a.floods.get_mut(&id) {
                flood.insert(index, smuggled);
            }
        }
        _ => {}
    }
}

/// Signs what arrived, once; on disk before it is said.
pub(crate) fn commit(a: &mut Actor, w: &mut World, id: B256, twice: bool) {
    let Some(senders) = a.floods.remove(&id) else {
        return;
    };
    let view = w.view();
    let Some(job) = view.jobs.get(&id) else {
        return;
    };
    let flood = Flood {
        link_bps: w.links[&a.address],
        terms: job.terms(),
        senders: &senders,
    };
    let (counts, took_ns) = flood.run(&mut w.dice);
    let sign = |a: &Actor, word: &[u8]| {
        let mut commit = Commit {
            id,
            counts: counts.clone(),
            response: keccak256([id.as_slice(), word].concat()),
            signature: Bytes::new(),
            took_ns,
        };
        let packets = commit.packets();
        let digest = commit_digest(
            &w.domain,
            id,
            PHASE,
            packets,
            &commit.counts,
            commit.response,
        );
        commit.signature = a.sign(digest);
        commit
    };
    let first = sign(a, b"response");
    let other = twice.then(|| sign(a, b"another"));
    let session = a.session(id);
    (session.commit, session.other) = (Some(first.clone()), other);
    publish(a, w, job, &first, twice);
}

/// Challengers hear it first: what was said to some cannot be unsaid, whatever happens then.
fn publish(a: &mut Actor, w: &mut World, job: &Job, commit: &Commit, twice: bool) {
    let said = Message::Commit(commit.clone());
    tell(w, job.selected.iter().copied(), &said);
    if let (true, Some(other)) = (twice, a.session(commit.id).other.clone()) {
        tell(w, job.selected.iter().copied(), &Message::Commit(other));
    }
    if !w.stumbles(a) {
        w.say(job.request.coordinator, &said);
    }
}

pub(crate) fn challenger_hears(a: &mut Actor, w: &mut World, message: Message, kind: Sender) {
    let view = w.view();
    match message {
        Message::Notice { id } => {
            let Some((job, index)) = seat(a, &view, id) else {
                return;
            };
            if job.state == State::Selected {
                w.ledger.rely(&view);
                a.session(id).agreed = Some(job.selected.clone());
                w.say(job.request.coordinator, &Message::Seed { id, index });
            }
        }
        Message::Start { id } if kind != Sender::Silent => {
            let Some((job, index)) = seat(a, &view, id) else {
                return;
            };
            if job.state == State::Running && a.session(id).agreed.is_some() {
                w.ledger.rely(&view);
                let smuggled = kind == Sender::Smuggler;
                w.say(
                    job.request.prover,
                    &Message::Flood {
                        id,
                        index,
                        smuggled,
                    },
                );
            }
        }
        Message::Commit(commit) if kind != Sender::Silent => {
            let Some((job, index)) = seat(a, &view, commit.id) else {
                return;
            };
            let (coordinator, prover) = (job.request.coordinator, job.request.prover);
            if a.session(commit.id).report.is_none() {
                w.ledger.rely(&view);
                let report = report(a, w, &commit, index, kind, 0);
                let session = a.session(commit.id);
                (session.commit, session.report) = (Some(commit.clone()), Some(report));
            }
            let session = a.session(commit.id).clone();
            let (Some(first), Some(told)) = (session.commit, session.report) else {
                return;
            };
            if (first.response, &first.counts) != (commit.response, &commit.counts) {
                let pair = Box::new([signed_commit(&first), signed_commit(&commit)]);
                let bytes = Offence::TwoCommits(commit.id, pair).encode();
                accuse(a, commit.id, prover, bytes);
            }
            if kind == Sender::Twice {
                let other = report(a, w, &first, index, kind, 1);
                w.say(coordinator, &Message::Report(other));
            }
            w.say(coordinator, &Message::Report(told));
            w.stumbles(a);
        }
        _ => {}
    }
}

/// The measurement and the place in it, if this challenger was drawn for it.
fn seat<'a>(a: &Actor, view: &'a Index, id: B256) -> Option<(&'a Job, u16)> {
    let job = view.jobs.get(&id)?;
    let index = job.selected.iter().position(|s| *s == a.address)?;
    Some((job, u16::try_from(index).unwrap()))
}

fn report(
    a: &Actor,
    w: &mut World,
    commit: &Commit,
    index: u16,
    kind: Sender,
    more: u64,
) -> Report {
    // Never less than the link took, up to 0.8 % more: stamps come late, never early.
    let took = commit.took_ns + commit.took_ns * w.dice.between(0, 8) / 1_000;
    let window_ns = match kind {
        Sender::Fast | Sender::Smuggler => took / 10 + 1,
        Sender::Slow => took * 10,
        _ => took,
    };
    let timing = Timing {
        index,
        window_us: u32::try_from(window_ns.div_ceil(1_000) + more).unwrap(),
        packets: commit.counts[usize::from(index)],
    };
    let digest = report_digest(&w.domain, commit.id, PHASE, timing, commit.response);
    Report {
        id: commit.id,
        index,
        window_us: timing.window_us,
        packets: timing.packets,
        response: commit.response,
        signature: a.sign(digest),
    }
}
