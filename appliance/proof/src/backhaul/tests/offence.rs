//! Evidence before a jury: the honest are convicted by nothing, each liar by its own signature.

use plumbline_trust::evidence::{Evidence, Finding};

use super::*;
use crate::backhaul::messages::Reveal;
use crate::backhaul::offence::{Posted, accuse};
use crate::evidence::examine;

fn read(bytes: &[u8]) -> Bundle {
    let body = &bytes[20..bytes.len() - 32];
    decode::<Signed>(body).unwrap().open().unwrap()
}

/// The bundle, judged honestly again and signed by its coordinator.
fn judged_again(mut bundle: Bundle) -> Vec<u8> {
    bundle.judgement = judge(&Record::read(&bundle.log).unwrap());
    bundle::write(&key(3), &bundle).0
}

fn posted(bytes: &[u8], j: &Judgement) -> Posted {
    let notice = Record::read(&read(bytes).log).unwrap().notice.message;
    Posted {
        coordinator: notice.coordinator.address,
        prover: notice.prover.address,
        challengers: notice.challengers.iter().map(|c| c.address).collect(),
        bundle: bundle::address(bytes).unwrap(),
        verdict: j.verdict as u8,
        lower_bps: j.lower_bps(),
        guaranteed_bps: j.guaranteed_bps(),
    }
}

fn against(accused: Address, posted: &Posted, bytes: &[u8]) -> Finding {
    let (file, _) = accuse([7; 32], accused, posted.clone(), bytes.to_vec()).seal();
    examine(&Evidence::open(&file).unwrap().0)
}

/// Everyone there is, and one who is not.
fn everyone(posted: &Posted) -> Vec<Address> {
    let mut all = posted.challengers.clone();
    all.extend([posted.coordinator, posted.prover, Address([0xee; 20])]);
    all
}

fn convicted(posted: &Posted, bytes: &[u8]) -> Vec<Address> {
    let mut all = everyone(posted);
    all.retain(|who| against(*who, posted, bytes).holds);
    all
}

#[test]
fn nobody_is_convicted_by_an_honest_bundle_not_even_when_others_lie() {
    let garbage = World {
        garbage: Some(1),
        ..World::new(20_000_000)
    };
    let silent = World {
        silent: Some(2),
        ..World::new(6_000_000)
    };
    for world in [
        World::new(20_000_000),
        World::new(3_000_000),
        garbage,
        silent,
    ] {
        let (bytes, j) = Sim::new(world).run();
        assert_eq!(convicted(&posted(&bytes, &j), &bytes), []);
    }
}

#[test]
fn a_prover_that_signed_two_commitments_is_convicted_by_the_bundle_that_shows_both() {
    let (bytes, j) = Sim::new(World {
        otherwise: Some(0),
        ..World::new(20_000_000)
    })
    .run();
    let posted = posted(&bytes, &j);
    assert_eq!(convicted(&posted, &bytes), [posted.prover]);
    let found = against(posted.prover, &posted, &bytes);
    assert!(found.why.contains("V13 one commitment"), "{}", found.why);
    // A challenger that makes the other commitment up convicts nobody: the prover did not sign it.
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let mut bundle = read(&bytes);
    let drawn = Record::read(&bundle.log)
        .unwrap()
        .notice
        .message
        .challengers;
    for statement in &mut bundle.log {
        if let Statement::Report(signed) = statement {
            let mut report: Report = signed.open().unwrap();
            let liar = key(drawn[usize::from(report.index)].address.0[0]);
            let mut invented: Commit = commit_of(&bytes);
            invented.packets += 1;
            report.heard = Some(Signed::new(&liar, &invented));
            *signed = Signed::new(&liar, &report);
        }
    }
    let bytes = judged_again(bundle);
    assert_eq!(convicted(&offence::posted(&bytes, &j), &bytes), []);
}

fn commit_of(bytes: &[u8]) -> Commit {
    let record = Record::read(&read(bytes).log).unwrap();
    record.commit.unwrap().message
}

#[test]
fn a_coordinator_is_convicted_by_another_result_a_false_judgement_or_another_measurement() {
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let honest = posted(&bytes, &j);
    let mut other = honest.clone();
    other.guaranteed_bps += 1;
    assert_eq!(convicted(&other, &bytes), [honest.coordinator]);
    let mut other = honest.clone();
    other.verdict = Verdict::Fail as u8;
    assert_eq!(convicted(&other, &bytes), [honest.coordinator]);

    let mut better = read(&bytes);
    better.judgement.curve[0] += 1;
    let (false_bytes, _) = bundle::write(&key(3), &better);
    let false_posted = posted(&false_bytes, &better.judgement);
    assert_eq!(convicted(&false_posted, &false_bytes), [honest.coordinator]);

    let evidence = accuse([8; 32], honest.coordinator, honest.clone(), bytes.clone());
    assert!(examine(&evidence).why.contains("another measurement"));

    // A bundle that was not posted says nothing against anyone.
    let found = against(honest.coordinator, &honest, &false_bytes);
    assert!(!found.holds && found.why.contains("not the one that was posted"));
}

#[test]
fn a_prover_is_convicted_by_a_reveal_that_its_commitment_does_not_say() {
    let (bytes, _) = Sim::new(World::new(20_000_000)).run();
    let mut lied = read(&bytes);
    for statement in &mut lied.log {
        if let Statement::Reveal(signed) = statement {
            let mut reveal: Reveal = signed.open().unwrap();
            reveal.roots[0][0] ^= 1;
            *signed = Signed::new(&key(2), &reveal);
        }
    }
    let bytes = judged_again(lied);
    let posted = posted(&bytes, &read(&bytes).judgement);
    assert_eq!(convicted(&posted, &bytes), [posted.prover]);
}

#[test]
fn a_challenger_is_convicted_by_a_seed_that_its_commitment_does_not_open() {
    let (bytes, _) = Sim::new(World::new(20_000_000)).run();
    let mut lied = read(&bytes);
    let mut liar = None;
    for statement in &mut lied.log {
        if let Statement::Report(signed) = statement
            && liar.is_none()
        {
            let mut report: Report = signed.open().unwrap();
            report.seed[0] ^= 1;
            liar = Some(usize::from(report.index));
            let who = (10..20).map(key).find(|k| k.verifying() == signed.key);
            *signed = Signed::new(&who.unwrap(), &report);
        }
    }
    let bytes = judged_again(lied);
    let posted = posted(&bytes, &read(&bytes).judgement);
    let liar = posted.challengers[liar.unwrap()];
    assert_eq!(convicted(&posted, &bytes), [liar]);
}

#[test]
fn exhibits_that_are_none_convict_nobody_and_harm_nobody() {
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let posted = posted(&bytes, &j);
    let whole = accuse([7; 32], posted.coordinator, posted.clone(), bytes);
    for length in (0..whole.exhibits.len()).step_by(97) {
        let mut cut = whole.clone();
        cut.exhibits.truncate(length);
        assert!(!examine(&cut).holds, "length {length}");
    }
}
