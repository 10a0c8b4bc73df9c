//! What everyone does on waking up: look at the chain, do what is missing, say it again.
//!
//! Nobody waits for an answer: each acts on what it sees now, so that losses, duplicates and crashes
//! need no cases of their own.

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolValue;
use plumbline::chain::client::{Ruling, vote_hash};
use plumbline_contracts::State;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::vault::Vault;

use crate::actors::{Actor, Evidence, Keeper, Role, Sender};
use crate::clock::SECOND;
use crate::ledger::{Index, Job, Trial};
use crate::measure;
use crate::network::{Message, secret};
use crate::stage::{START, TERM_S, parameters};
use crate::world::World;

/// Seconds between two heartbeats: two can be lost before it shows.
const BEAT_S: u64 = 40;
/// Hides what was announced; evidence here is worth no guessing.
const SALT: B256 = B256::repeat_byte(0x5a);

/// What an actor does every few seconds.
pub(crate) fn tick(a: &mut Actor, w: &mut World) {
    let unix = START + a.drift.shows(w.now) / SECOND;
    let view = w.view();
    if matches!(a.role, Role::Challenger(_) | Role::Juror { .. }) {
        beat(a, w, unix);
    }
    if w.ledger
        .settled()
        .owed
        .get(&a.address)
        .is_some_and(|o| *o > 0)
    {
        let vault = w.d.vault;
        w.send(a, "withdraw", vault, &Vault::withdrawCall {});
    }
    match a.role {
        Role::Payer { slanders } => payer(a, w, &view, unix, slanders),
        Role::Coordinator(kind) => measure::coordinator(a, w, &view, kind),
        Role::Prover { .. } => measure::prover(a, w, &view),
        Role::Challenger(_) => {}
        Role::Juror { lies } => juror(a, w, &view, lies),
        Role::Outsider => outsider(a, w),
    }
    bring(a, w, &view);
}

/// What an actor does when it is told something.
pub(crate) fn hear(a: &mut Actor, w: &mut World, message: Message) {
    match a.role {
        Role::Coordinator(_) => measure::coordinator_hears(a, w, message),
        Role::Prover { twice } => measure::prover_hears(a, w, &message, twice),
        Role::Challenger(kind) => measure::challenger_hears(a, w, message, kind),
        _ => {}
    }
}

/// A prover's flood is over.
pub(crate) fn counted(a: &mut Actor, w: &mut World, id: B256) {
    if let Role::Prover { twice } = a.role {
        measure::commit(a, w, id, twice);
    }
}

fn beat(a: &mut Actor, w: &mut World, unix: u64) {
    let (last, count) = w
        .ledger
        .head()
        .beats
        .get(&a.address)
        .copied()
        .unwrap_or_default();
    if unix < last + BEAT_S {
        return;
    }
    let reveal = if count == 0 {
        B256::ZERO
    } else {
        secret(a.address, count - 1)
    };
    let next = keccak256(secret(a.address, count).abi_encode());
    let call = Beacon::heartbeatCall {
        revealedSeed: reveal,
        nextCommitment: next,
    };
    let beacon = w.d.beacon;
    w.send(a, "heartbeat", beacon, &call);
}

fn payer(a: &mut Actor, w: &mut World, view: &Index, unix: u64, slanders: bool) {
    let backhaul = w.d.backhaul;
    for place in 0..a.disk.asks.len() {
        let mut ask = a.disk.asks[place].clone();
        if unix < START + ask.after_s {
            continue;
        }
        if !ask.asked {
            ask.asked = true;
            ask.request.deadline = unix + TERM_S;
            a.disk.asks[place] = ask.clone();
        }
        let known = view.jobs.values().any(|j| j.request == ask.request);
        if !known && unix + 60 < ask.request.deadline {
            let call = Backhaul::requestCall {
                asked: ask.request.clone(),
                last: view.last.get(&a.address).copied().unwrap_or_default(),
            };
            w.send(a, "request", backhaul, &call);
        }
    }
    for (id, job) in &view.jobs {
        let mine = job.request.payer == a.address && job.state == State::Reported;
        if !mine || !a.disk.looked_at.insert(*id) {
            continue;
        }
        let cheated = w.truth.get(&job.bundle).copied().unwrap_or(false);
        let accused = if cheated {
            job.request.coordinator
        } else {
            job.request.prover
        };
        if cheated || slanders {
            // Every other slander is of evidence that is nowhere.
            let evidence = if cheated || id[31].is_multiple_of(2) {
                job.bundle
            } else {
                keccak256(job.bundle)
            };
            a.disk.cases.push(Evidence::Dispute {
                subject: *id,
                accused,
                evidence,
            });
        }
    }
}

/// Announces, waits until that is final, then shows.
fn bring(a: &mut Actor, w: &mut World, view: &Index) {
    let (backhaul, disputes) = (w.d.backhaul, w.d.disputes);
    for case in a.disk.cases.clone() {
        if let Evidence::Proof {
            subject, guilty, ..
        } = &case
            && view.proven.contains(&(*subject, *guilty))
        {
            continue;
        }
        let hash = case.hash(backhaul, SALT);
        if !view.announced.contains(&(a.address, hash)) {
            w.send(a, "announce", disputes, &Disputes::announceCall { hash });
            continue;
        }
        w.ledger.rely(view);
        match case {
            Evidence::Proof { bytes, .. } => {
                let call = Disputes::proveCall {
                    proof: backhaul,
                    evidence: bytes,
                    salt: SALT,
                };
                w.send(a, "prove", disputes, &call);
            }
            Evidence::Dispute {
                subject,
                accused,
                evidence,
            } => {
                let call = Disputes::disputeCall {
                    proof: backhaul,
                    subject,
                    accused,
                    evidence,
                    salt: SALT,
                    source: String::new(),
                };
                w.send(a, "dispute", disputes, &call);
            }
        }
    }
}

fn juror(a: &mut Actor, w: &mut World, view: &Index, lies: bool) {
    let jury = w.d.jury;
    let head = w.ledger.head();
    for (id, trial) in &view.trials {
        if !trial.jurors.contains(&a.address) || trial.ruling.is_some() {
            continue;
        }
        let vote = match w.truth.get(&trial.evidence) {
            Some(holds) if *holds == lies => Ruling::Rejected,
            None if !lies => Ruling::Unavailable,
            _ => Ruling::Upheld,
        };
        if vote == Ruling::Unavailable && head.time < trial.nowhere_from() {
            continue;
        }
        let salt = secret(a.address, U256::from_be_bytes(trial.case.0).as_limbs()[0]);
        let now = head.trials.get(id).unwrap_or(trial);
        if !now.committed.contains(&a.address) {
            w.ledger.rely(view);
            let commitment = vote_hash(trial.case, a.address, vote, salt);
            w.send(
                a,
                "vote",
                jury,
                &Jury::commitCall {
                    id: trial.case,
                    commitment,
                },
            );
        } else if head.time > trial.commit_until && !now.revealed.contains(&a.address) {
            let call = Jury::revealCall {
                id: trial.case,
                vote: vote as u8,
                salt,
            };
            w.send(a, "reveal", jury, &call);
        }
    }
}

/// What is due is done by whoever comes by; it harms nobody, so the newest block will do.
fn outsider(a: &mut Actor, w: &mut World) {
    let head = w.ledger.head();
    for (id, job) in &head.jobs {
        due(a, w, &head, *id, job);
    }
    for (id, trial) in &head.trials {
        due_at_court(a, w, &head, *id, trial);
    }
}

fn due(a: &mut Actor, w: &mut World, head: &Index, id: B256, job: &Job) {
    let backhaul = w.d.backhaul;
    match job.state {
        State::Created if head.time <= job.request.deadline => {
            w.send(a, "select", backhaul, &Backhaul::selectCall { id });
        }
        // Too early as well: the contract is to refuse it.
        State::Created | State::Selected | State::Running => {
            w.send(a, "timeout", backhaul, &Backhaul::timeoutCall { id });
        }
        State::Reported | State::Disputed => {
            w.send(a, "finalize", backhaul, &Backhaul::finalizeCall { id });
        }
        _ => {}
    }
}

fn due_at_court(a: &mut Actor, w: &mut World, head: &Index, id: B256, trial: &Trial) {
    let (jury, disputes) = (w.d.jury, w.d.disputes);
    let case = trial.case;
    let undrawn = trial.jurors.is_empty();
    if trial.ruling.is_some() {
        if !trial.concluded {
            w.send(a, "conclude", disputes, &Disputes::concludeCall { id });
        }
    } else if undrawn && head.time <= trial.opened_at + parameters().jury_draw_s {
        w.send(a, "draw", jury, &Jury::drawCall { id: case });
    } else if undrawn || head.time > trial.reveal_until {
        w.send(a, "settle", jury, &Jury::settleCall { id: case });
    }
}

/// Whether `who` keeps the rules, whatever its role; strangers do not.
pub(crate) fn is_honest(w: &World, who: Address) -> bool {
    w.who(who).is_some_and(Actor::is_honest)
}

/// Whether the reports of a challenger are true and its own bytes crossed the link.
pub(crate) fn lies(w: &World, who: Address) -> bool {
    w.who(who)
        .is_some_and(|a| !matches!(a.role, Role::Challenger(Sender::Honest | Sender::Silent)))
}

/// Whether a coordinator cheats.
pub(crate) fn censors(kind: Keeper) -> bool {
    kind == Keeper::Censor
}
