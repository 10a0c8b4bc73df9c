//! What must hold, whatever happens.

use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::{Ruling, State, Verdict};

use crate::actors::{Actor, Keeper, Role};
use crate::clock::SECOND;
use crate::ledger::{Index, Job, Slash, Trial, jury, read, standstill};
use crate::roles::{is_honest, lies};
use crate::stage::{START, parameters};
use crate::world::World;

/// What a measurement may take beyond its deadline and all windows: finality, and whoever ends it being down.
const SLACK_S: u64 = 330;

/// After every block. Conservation is checked by the chain itself: a block that breaks it is not made.
pub(crate) fn after_a_block(w: &mut World, before: &Index) -> Result<(), String> {
    let head = w.ledger.head();
    // However many disputes were brought.
    let trials = parameters().dispute_window_s + standstill() + jury();
    for (id, job) in &head.jobs {
        let latest = job.request.deadline + trials + SLACK_S;
        if !job.state.is_over() && head.time > latest {
            return Err(format!(
                "{id} is {} at {}, {} s too late",
                job.state,
                head.time,
                head.time - latest
            ));
        }
    }
    for slash in head.slashes.iter().skip(before.slashes.len()) {
        if is_honest(w, slash.account) {
            excused(w, before, &head, slash)?;
        }
    }
    Ok(())
}

/// An honest juror that was down for a quarter of the time to commit or to reveal may be silent, and pays
/// for it; where the evidence was nowhere, of what is left to commit then. Nobody else does.
fn excused(w: &World, before: &Index, head: &Index, slash: &Slash) -> Result<(), String> {
    let who = slash.account;
    let silent = slash.offence == offence("silent juror");
    let actor = w.who(who).ok_or("a stranger lost stake")?;
    let away = |from: u64, to: u64| {
        let nanos = |unix: u64| unix.saturating_sub(START) * SECOND;
        4 * actor.away(nanos(from), nanos(to)) >= nanos(to) - nanos(from)
    };
    let settled_now = |id: &B256| before.trials.get(id).is_none_or(|t| t.ruling.is_none());
    let down = head.trials.iter().any(|(id, t)| {
        t.jurors.contains(&who)
            && t.ruling.is_some()
            && settled_now(id)
            && (away(t.drawn_at, t.commit_until)
                || away(t.commit_until, t.reveal_until)
                || !w.truth.contains_key(&t.evidence) && away(t.nowhere_from(), t.commit_until))
    });
    if silent && down {
        return Ok(());
    }
    let role = actor.role;
    let what = String::from_utf8_lossy(slash.offence.as_slice())
        .trim_end_matches('\0')
        .to_owned();
    let cases: Vec<String> = head
        .trials
        .values()
        .filter(|t| t.jurors.contains(&who))
        .map(|t| part(t, who))
        .collect();
    Err(format!(
        "honest {who} ({role:?}) lost stake for \"{what}\" in block {} ({}); its cases: {cases:?}; down: {:?}",
        slash.block,
        head.time - START,
        actor.absences
    ))
}

/// The part of `who` in a case, in seconds since the start.
fn part(trial: &Trial, who: Address) -> String {
    let (voted, shown) = (
        trial.committed.contains(&who),
        trial.revealed.contains(&who),
    );
    let since = |unix: u64| unix.saturating_sub(START);
    format!(
        "opened {}, drawn {}, commit until {}, reveal until {}, committed {voted}, revealed {shown}",
        since(trial.opened_at),
        since(trial.drawn_at),
        since(trial.commit_until),
        since(trial.reveal_until)
    )
}

fn offence(name: &str) -> B256 {
    B256::right_padding_from(name.as_bytes())
}

/// When everything has ended.
pub(crate) fn at_the_end(w: &mut World) -> Result<(), String> {
    let end = w.ledger.settled();
    let fork = w.ledger.fork();
    let locked = read(fork, w.d.vault, &Vault::totalEscrowCall {});
    if locked != U256::ZERO {
        return Err(format!("{locked} is locked after the end"));
    }
    if !read(fork, w.d.vault, &Vault::conservedCall {}) {
        return Err("the vault does not conserve".into());
    }
    for actor in w.actors() {
        let told = end.stake.get(&actor.address).copied().unwrap_or_default();
        let real = read(
            fork,
            w.d.vault,
            &Vault::stakeCall {
                account: actor.address,
            },
        );
        if real != U256::from(told) {
            return Err(format!(
                "the stake of {} is {real}, the logs say {told}",
                actor.address
            ));
        }
    }
    for (id, job) in &end.jobs {
        let told = read(
            w.ledger.fork(),
            w.d.backhaul,
            &Backhaul::stateOfCall { id: *id },
        );
        if told != job.state as u8 {
            return Err(format!(
                "{id} is in state {told}, the logs say {}",
                job.state
            ));
        }
        agreed(w, *id, job)?;
        in_time(*id, job)?;
        unforged(w, *id, job)?;
        if job.state == State::Final {
            figure(w, *id, job)?;
            payments(w, *id, job)?;
        }
        let verdict = if job.state == State::Final {
            format!(", {}", word(job.verdict))
        } else {
            String::new()
        };
        w.tally
            .outcome(format!("measurement: {}{verdict}", job.state));
    }
    disputes(w, &end)
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "unjudged",
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Annulled => "annulled",
    }
}

/// Whoever said yes said it to the draw that stands.
fn agreed(w: &World, id: B256, job: &Job) -> Result<(), String> {
    for actor in w.actors() {
        let said = actor.disk.sessions.get(&id).and_then(|s| s.agreed.as_ref());
        if said.is_some_and(|said| *said != job.selected) {
            return Err(format!(
                "{} agreed to a draw of {id} that vanished",
                actor.address
            ));
        }
    }
    Ok(())
}

/// Nothing ended before its time.
fn in_time(id: B256, job: &Job) -> Result<(), String> {
    let earliest = match job.state {
        State::Final => job.reported_at + parameters().dispute_window_s + job.judged_s,
        State::TimedOut => job.request.deadline + 1,
        _ => return Ok(()),
    };
    if job.ended_at < earliest {
        let early = earliest - job.ended_at;
        return Err(format!("{id} is {}, {early} s too early", job.state));
    }
    Ok(())
}

/// What nobody signed has no result.
fn unforged(w: &World, id: B256, job: &Job) -> Result<(), String> {
    let keeper = w.who(job.request.coordinator).map(|a| a.role);
    let forger = keeper == Some(Role::Coordinator(Keeper::Forger));
    if forger && job.reported_at != 0 {
        return Err(format!("{id}: forged counts were taken"));
    }
    Ok(())
}

fn reporters(job: &Job) -> Vec<(usize, Address)> {
    let reported = |(i, _): &(usize, Address)| job.reporters & (1 << i) != 0;
    job.selected
        .iter()
        .copied()
        .enumerate()
        .filter(reported)
        .collect()
}

/// If at most f of the drawn lie, the guaranteed figure is never above what the link carries, and no true claim
/// is called false.
fn figure(w: &World, id: B256, job: &Job) -> Result<(), String> {
    let link = w.links[&job.request.prover];
    let liars = job.selected.iter().filter(|s| lies(w, **s)).count();
    let honest = is_honest(w, job.request.coordinator);
    if liars > usize::from(job.request.f) {
        return Ok(());
    }
    if job.guaranteed > u128::from(link) {
        return Err(format!(
            "{id}: {} bit/s are guaranteed of a link of {link}",
            job.guaranteed
        ));
    }
    if honest && job.verdict == Verdict::Fail && job.request.claimBps <= link {
        return Err(format!(
            "{id}: {} of {link} bit/s are called false",
            job.request.claimBps
        ));
    }
    Ok(())
}

/// Every honest challenger whose report is in the result has its count times the price, and nobody else has.
fn payments(w: &mut World, id: B256, job: &Job) -> Result<(), String> {
    let list = reporters(job);
    for (index, who) in &list {
        let due = job.request.pricePerByte * 1500 * u128::from(job.counts[*index]);
        let paid = job.paid.get(who).copied().unwrap_or_default();
        if lies(w, *who) || paid == due {
            w.tally.paid_reports += u64::from(paid > 0);
            continue;
        }
        return Err(format!("{id}: honest {who} is paid {paid} of {due}"));
    }
    let coordinator = job.request.coordinator;
    let enough = list.len() >= usize::from(job.request.n - job.request.f);
    let fee = if enough {
        parameters().coordinator_fee
    } else {
        0
    };
    if is_honest(w, coordinator) && job.fee != fee {
        return Err(format!(
            "{id}: honest {coordinator} is paid {} for its work",
            job.fee
        ));
    }
    let stranger = job
        .paid
        .keys()
        .find(|who| !list.iter().any(|(_, r)| r == *who));
    match stranger {
        Some(who) => Err(format!("{id}: {who} is paid without a report")),
        None => Ok(()),
    }
}

/// Fewer than half of a jury lie here: what it rules is right.
fn disputes(w: &mut World, end: &Index) -> Result<(), String> {
    for (id, trial) in &end.trials {
        let guilty = w.truth.get(&trial.evidence).copied();
        let ruling = match trial.ruling.and_then(Ruling::from_u8) {
            Some(Ruling::Upheld) if guilty == Some(true) => "upheld",
            Some(Ruling::Rejected) if guilty == Some(false) => "rejected",
            Some(Ruling::Unavailable) if guilty.is_none() => "unavailable",
            Some(Ruling::Hung) => "hung",
            wrong => {
                return Err(format!(
                    "dispute {id} ends with {wrong:?}, guilty: {guilty:?}"
                ));
            }
        };
        w.tally.outcome(format!("dispute: {ruling}"));
    }
    for slash in &end.slashes {
        let what = String::from_utf8_lossy(slash.offence.as_slice())
            .trim_end_matches('\0')
            .to_owned();
        w.tally.outcome(format!("slash: {what}"));
        w.tally.crashed_silent_jurors += u64::from(is_honest(w, slash.account));
    }
    Ok(())
}

/// Why a run does not end.
pub(crate) fn stuck(w: &World) -> String {
    let end = w.ledger.settled();
    let jobs: Vec<String> = end
        .jobs
        .iter()
        .map(|(id, j)| format!("{id} {}", j.state))
        .collect();
    let trials = end.trials.values().filter(|t| !t.concluded).count();
    let owed: Vec<(&Address, Option<Role>)> = end
        .owed
        .iter()
        .filter(|o| *o.1 > 0)
        .map(|o| (o.0, w.who(*o.0).map(|a: &Actor| a.role)))
        .collect();
    format!("it does not end: {jobs:?}, {trials} disputes open, owed to {owed:?}")
}
