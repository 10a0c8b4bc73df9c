//! What every sequence begins with: each function once, so that chance need not find the rare ones.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::sol_types::SolValue;
use plumbline::chain::client::{role, vote_hash};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission};
use plumbline_contracts::abi::bonds::Bonds;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::{Ruling, State};

use crate::home::must;
use crate::moves::{Plans, beat, give, name, offence, submission, two_reports};
use crate::rules;
use crate::stage::{Actor, Stage, named};

/// The first of those that may have `role`.
fn first(s: &Stage, role: u32) -> Address {
    let found = s.actors.iter().find(|a| a.roles & role != 0);
    found.unwrap().address()
}

fn stranger(s: &Stage) -> Address {
    s.actors.last().map(Actor::address).unwrap()
}

/// A round of the beacon that is closed in the next block: two blocks later, by two who are jurors and nothing else.
fn round(s: &mut Stage) {
    let jurors = s.actors.iter().filter(|a| a.roles == role::JUROR);
    let jurors: Vec<Address> = jurors.map(Actor::address).take(2).collect();
    for juror in jurors {
        let one = beat(s, juror);
        must(s, one);
    }
}

pub(crate) fn all(s: &mut Stage, plans: &mut Plans) {
    let (payer, to) = (first(s, role::PAYER), s.d.backhaul);
    let id = ask(s, plans);
    s.now = s.book.measured[&id].asked.deadline + 1;
    must(
        s,
        named(
            "Backhaul.timeout",
            stranger(s),
            to,
            &Backhaul::timeoutCall { id },
        ),
    );
    let money = first(s, role::PAYER);
    let (token, who, value) = (s.d.token, stranger(s), U256::from(5));
    must(
        s,
        named(
            "LabToken.transfer",
            money,
            token,
            &LabToken::transferCall { to: who, value },
        ),
    );
    must(
        s,
        named(
            "LabToken.approve",
            money,
            token,
            &LabToken::approveCall {
                spender: who,
                value: U256::MAX,
            },
        ),
    );
    let call = LabToken::transferFromCall {
        from: money,
        to: who,
        value,
    };
    must(s, named("LabToken.transferFrom", who, token, &call));
    let call = Participants::setEndpointCall {
        endpoint: "10.0.0.2:7000".into(),
    };
    must(
        s,
        named("Participants.setEndpoint", payer, s.d.participants, &call),
    );
    let call = Participants::topUpCall { amount: value };
    must(
        s,
        named("Participants.topUp", payer, s.d.participants, &call),
    );
    for ruling in Ruling::VOTES {
        let id = reported(s, plans);
        quarrel(s, id, ruling);
        finalize(s, id);
    }
    for answers in [true, false] {
        withheld(s, plans, answers);
    }
    early(s, plans);
    prove(s);
}

/// The first drawn says nothing, and gives its seed when it is asked; or it does not, and comes back.
fn withheld(s: &mut Stage, plans: &mut Plans, answers: bool) {
    let id = running(s, plans);
    let mut posted = submission(s, id).unwrap();
    posted.reports.retain(|report| report.index != 0);
    report(s, id, posted);
    let m = &s.book.measured[&id];
    let (coordinator, silent) = (m.asked.coordinator, m.selected[0]);
    let one = name(s, coordinator, id, 0).unwrap();
    must(s, one);
    if answers {
        must(s, give(s, stranger(s), id, 0));
        return;
    }
    let call = Bonds::forfeitCall { id, index: 0 };
    let one = named("Bonds.forfeit", stranger(s), s.d.bonds, &call);
    s.now = s.book.asked[&(id, 0)].until;
    assert_eq!(s.block(std::slice::from_ref(&one)), [false]);
    s.now += 1;
    must(s, one);
    let amount = s.book.variable("seed_bond", s.now);
    let call = Participants::topUpCall { amount };
    must(
        s,
        named("Participants.topUp", silent, s.d.participants, &call),
    );
}

/// Refused until the last second of the window, possible from its end on.
fn finalize(s: &mut Stage, id: B256) {
    let call = Backhaul::finalizeCall { id };
    let one = named("Backhaul.finalize", stranger(s), s.d.backhaul, &call);
    let m = &s.book.measured[&id];
    let due = m.reported_at + m.window;
    if s.now < due {
        s.now = due - 1;
        assert_eq!(s.block(std::slice::from_ref(&one)), [false]);
        s.now = due;
    }
    must(s, one);
}

fn ask(s: &mut Stage, plans: &mut Plans) -> B256 {
    plans.asked += 1;
    let asked = Request {
        payer: first(s, role::PAYER),
        prover: first(s, role::PROVER),
        coordinator: first(s, role::COORDINATOR),
        claimBps: 10_000_000,
        // Every other one is of the uplink.
        direction: (plans.asked % 2) as u8,
        n: 4,
        f: 1,
        durationMs: 100,
        packetBytes: 1_500,
        pricePerByte: 3,
        deadline: s.now + 200,
    };
    let payer = asked.payer;
    let last = Backhaul::lastOfCall { payer };
    let call = Backhaul::requestCall {
        asked: asked.clone(),
        last: s.read(s.d.backhaul, &last),
    };
    must(
        s,
        named("Backhaul.request", asked.payer, s.d.backhaul, &call),
    );
    s.read(s.d.backhaul, &last)
}

/// A measurement whose result can be disputed.
fn reported(s: &mut Stage, plans: &mut Plans) -> B256 {
    let id = running(s, plans);
    let posted = submission(s, id).unwrap();
    report(s, id, posted);
    id
}

/// A measurement under way.
fn running(s: &mut Stage, plans: &mut Plans) -> B256 {
    let id = ask(s, plans);
    let to = s.d.backhaul;
    round(s);
    let call = Backhaul::selectCall { id };
    must(s, named("Backhaul.select", stranger(s), to, &call));
    let coordinator = s.book.measured[&id].asked.coordinator;
    let call = Backhaul::beginCall { id, setupHash: id };
    must(s, named("Backhaul.begin", coordinator, to, &call));
    id
}

fn report(s: &mut Stage, id: B256, posted: Submission) {
    let coordinator = s.book.measured[&id].asked.coordinator;
    let call = Backhaul::reportCall { id, posted };
    must(
        s,
        named("Backhaul.report", coordinator, s.d.backhaul, &call),
    );
    assert_eq!(s.book.measured[&id].state, State::Reported);
}

/// Who would be paid is proven guilty before there is a result: the rules then give it nothing.
fn early(s: &mut Stage, plans: &mut Plans) {
    let id = running(s, plans);
    let (posted, index) = loop {
        let posted = submission(s, id).unwrap();
        let shares = rules::shares(&s.d, id, &s.book.measured[&id], &posted);
        let paid = shares.iter().find(|(.., amount)| !amount.is_zero());
        if let Some((index, ..)) = paid {
            break (posted, *index);
        }
    };
    let evidence = two_reports(s, id, index, 2).unwrap();
    assert!(proven(s, evidence));
    report(s, id, posted);
    finalize(s, id);
}

/// A dispute about it, which ends as `ruling`.
fn quarrel(s: &mut Stage, id: B256, ruling: Ruling) {
    let (to, proof, from) = (s.d.disputes, s.d.backhaul, stranger(s));
    let accused = s.book.measured[&id].selected[0];
    let (evidence, salt) = (id, id);
    let hash = keccak256((proof, id, accused, evidence, salt).abi_encode());
    must(
        s,
        named(
            "Disputes.announce",
            from,
            to,
            &Disputes::announceCall { hash },
        ),
    );
    let call = Disputes::disputeCall {
        proof,
        subject: id,
        accused,
        evidence,
        salt,
        source: String::new(),
    };
    must(s, named("Disputes.dispute", from, to, &call));
    let found = s.book.quarrels.iter().find(|(_, q)| !q.over).unwrap();
    let (dispute, case) = (*found.0, found.1.case);
    judge(s, case, ruling);
    must(
        s,
        named(
            "Disputes.conclude",
            from,
            to,
            &Disputes::concludeCall { id: dispute },
        ),
    );
}

fn judge(s: &mut Stage, id: B256, ruling: Ruling) {
    let to = s.d.jury;
    round(s);
    must(
        s,
        named("Jury.draw", stranger(s), to, &Jury::drawCall { id }),
    );
    let jurors = s.book.cases[&id].jurors.clone();
    for juror in &jurors {
        let commitment = vote_hash(id, *juror, ruling, id);
        must(
            s,
            named(
                "Jury.commit",
                *juror,
                to,
                &Jury::commitCall { id, commitment },
            ),
        );
    }
    s.now = s.book.cases[&id].commit_until + 1;
    for juror in jurors {
        let call = Jury::revealCall {
            id,
            vote: ruling as u8,
            salt: id,
        };
        must(s, named("Jury.reveal", juror, to, &call));
    }
    s.now = s.book.cases[&id].reveal_until + 1;
    must(
        s,
        named("Jury.settle", stranger(s), to, &Jury::settleCall { id }),
    );
    assert_eq!(s.book.cases[&id].ruling, Some(ruling as u8));
}

/// An offence of which there is no doubt.
fn prove(s: &mut Stage) {
    loop {
        let evidence = offence(s).unwrap();
        // Now and then what chance gives is the same statement twice, which is no offence.
        if proven(s, evidence) {
            return;
        }
    }
}

/// Announces and shows evidence; whether it shows something.
fn proven(s: &mut Stage, evidence: Bytes) -> bool {
    let (to, proof, from) = (s.d.disputes, s.d.backhaul, stranger(s));
    let salt = keccak256(&evidence);
    let hash = keccak256((proof, keccak256(&evidence), salt).abi_encode());
    let call = Disputes::announceCall { hash };
    must(s, named("Disputes.announce", from, to, &call));
    let call = Disputes::proveCall {
        proof,
        evidence,
        salt,
    };
    s.block(&[named("Disputes.prove", from, to, &call)]) == [true]
}
