//! Evidence before a jury: the honest are convicted by nothing, each liar by its own signature.

use plumbline_trust::evidence::{Evidence, Finding};

use super::*;
use crate::backhaul::messages::{Begun, Kind, Ready, Reveal, Start};
use crate::backhaul::offence::{LEFT, Posted, accuse};
use crate::evidence::examine;

pub(super) fn read(bytes: &[u8]) -> Bundle {
    let body = &bytes[20..bytes.len() - 32];
    decode::<Signed>(body).unwrap().open().unwrap()
}

/// The bundle, judged honestly again and signed by its coordinator.
fn judged_again(mut bundle: Bundle) -> Vec<u8> {
    bundle.judgement = judge(&Record::read(&bundle.log).unwrap());
    bundle::write(&key(3), &bundle).0
}

fn posted(bytes: &[u8], j: &Judgement) -> Posted {
    let record = Record::read(&read(bytes).log).unwrap();
    let notice = record.notice.message;
    Posted {
        coordinator: notice.coordinator.address,
        prover: notice.prover.address,
        challengers: notice.challengers.iter().map(|c| c.address).collect(),
        keys: [&notice.coordinator, &notice.prover]
            .into_iter()
            .chain(&notice.challengers)
            .map(|m| m.key)
            .collect(),
        payer: notice.payer,
        terms: Some(notice.terms),
        price_per_byte: notice.price_per_byte,
        deadline: notice.deadline,
        beacon: notice.beacon,
        pool: notice.pool,
        setup: Consent::setup_hash(&record.consent.unwrap().signed),
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

/// The bundle that a coordinator makes of this log, judged as far as it can be read, and what the chain then says: the
/// facts of `honest`, and the result that the bundle gives.
fn reposted(honest: &Posted, log: Vec<Statement>, j: &Judgement) -> (Posted, Vec<u8>) {
    let judgement = Record::read(&log).map_or_else(|_| j.clone(), |record| judge(&record));
    let posted = Posted {
        verdict: judgement.verdict as u8,
        lower_bps: judgement.lower_bps(),
        guaranteed_bps: judgement.guaranteed_bps(),
        ..honest.clone()
    };
    let bytes = bundle::write(&key(3), &Bundle { log, judgement }).0;
    let bundle = bundle::address(&bytes).unwrap();
    (Posted { bundle, ..posted }, bytes)
}

#[test]
fn whatever_a_coordinator_leaves_out_of_its_log_convicts_nobody_else() {
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let (honest, log) = (posted(&bytes, &j), read(&bytes).log);
    let tried = |log: Vec<Statement>| {
        let (posted, bytes) = reposted(&honest, log, &j);
        let mut others = convicted(&posted, &bytes);
        others.retain(|who| *who != honest.coordinator);
        assert_eq!(others, []);
    };
    for length in 1..log.len() {
        tried(log[..length].to_vec());
    }
    for kind in Kind::ALL.into_iter().filter(|k| *k != Kind::Notice) {
        let of = |line: &&Statement| line.kind() == kind;
        let lines = log.iter().filter(of).count();
        for left_out in 1..1u32 << lines {
            let mut at = 0;
            let mut kept = log.clone();
            kept.retain(|line| {
                let drop = line.kind() == kind && left_out >> at & 1 == 1;
                at += u32::from(line.kind() == kind);
                !drop
            });
            tried(kept);
        }
    }
}

/// The log under a notice that its coordinator changed.
fn renoticed(log: &[Statement], change: impl FnOnce(&mut Notice)) -> Vec<Statement> {
    let mut log = log.to_vec();
    let mut notice: Notice = log[0].signed().open().unwrap();
    change(&mut notice);
    log[0] = Statement::Notice(Signed::new(&key(3), &notice));
    log
}

#[test]
fn false_terms_convict_the_coordinator_that_wrote_them_and_nobody_else() {
    let mut world = World::new(20_000_000);
    world.terms = Terms::downlink(20_000_000, 5, 0, 100);
    let (bytes, j) = Sim::new(world.clone()).run();
    let (honest, log) = (posted(&bytes, &j), read(&bytes).log);
    // One more liar stood, of a claim of four fifths: m and the cap are the same, and the target is less.
    let lower = Terms::downlink(16_000_000, 5, 1, 100);
    assert_eq!(lower.cap_packets(), world.terms.cap_packets());
    let judged = judge(&Record::read(&renoticed(&log, |n| n.terms = lower)).unwrap());
    assert!(judged.checks.iter().any(|c| c.check == "V4" && !c.ok));

    let t = world.terms;
    let up = super::super::params::Direction::Up;
    let others = [
        lower,
        Terms {
            claim_bps: t.claim_bps + 1,
            ..t
        },
        Terms {
            claim_bps: t.claim_bps / 2,
            ..t
        },
        Terms { n: 4, ..t },
        Terms { f: 1, ..t },
        Terms {
            duration_ms: 50,
            ..t
        },
        Terms {
            packet_bytes: 1436,
            ..t
        },
        Terms { direction: up, ..t },
    ];
    for terms in others {
        let (posted, bytes) = reposted(&honest, renoticed(&log, |n| n.terms = terms), &j);
        assert_eq!(
            convicted(&posted, &bytes),
            [honest.coordinator],
            "{terms:?}"
        );
    }
    type Change = fn(&mut Notice);
    let changes: [Change; 5] = [
        |n| n.price_per_byte += 1,
        |n| n.deadline += 1,
        |n| n.payer = Address([9; 20]),
        |n| n.challenge[0] ^= 1,
        |n| n.pool += 1,
    ];
    for change in changes {
        let (posted, bytes) = reposted(&honest, renoticed(&log, change), &j);
        assert_eq!(convicted(&posted, &bytes), [honest.coordinator]);
    }
    // What no appliance measures is nothing that a bundle could be of.
    let none = Posted {
        terms: None,
        ..honest.clone()
    };
    assert_eq!(convicted(&none, &bytes), [honest.coordinator]);
}

/// A key that its coordinator made signs for anybody's address: only the registered one speaks for it.
#[test]
fn words_under_a_key_that_is_not_the_registered_one_convict_the_coordinator_alone() {
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let (honest, log) = (posted(&bytes, &j), read(&bytes).log);
    let forger = key(99);
    let bound = |member: &mut Member| {
        let message = binding_message(7310, &Address([0xbb; 20]), &member.address);
        *member = Member {
            key: forger.verifying(),
            binding: forger.sign(domain::BINDING, &message),
            ..*member
        };
    };
    // The prover's words, its reveal a lie.
    let (mut setup, mut forged) = ([0; 32], renoticed(&log, |n| bound(&mut n.prover)));
    for line in &mut forged {
        match line {
            Statement::Consent(s) => {
                *s = Signed::new(&forger, &s.open::<Consent>().unwrap());
                setup = Consent::setup_hash(s);
            }
            Statement::Begun(s) => {
                let begun = Begun {
                    challenge: [7; 32],
                    setup,
                };
                *s = Signed::new(&key(3), &begun);
            }
            Statement::Start(s) => *s = Signed::new(&forger, &s.open::<Start>().unwrap()),
            Statement::Commit(s) => *s = Signed::new(&forger, &s.open::<Commit>().unwrap()),
            Statement::Reveal(s) => {
                let mut reveal: Reveal = s.open().unwrap();
                reveal.roots[0][0] ^= 1;
                *s = Signed::new(&forger, &reveal);
            }
            _ => {}
        }
    }
    // Anchored as it is forged: the coordinator alone says what is anchored.
    let anchored = Posted {
        setup,
        ..honest.clone()
    };
    let (forged, bytes) = reposted(&anchored, forged, &j);
    let checks = bundle::verify(&bytes).checks;
    assert!(checks.iter().any(|c| c.check == "V4" && !c.ok));
    assert_eq!(convicted(&forged, &bytes), [honest.coordinator]);

    // A challenger's, its seed a lie.
    let mut forged = renoticed(&log, |n| bound(&mut n.challengers[0]));
    let own = Record::read(&log).unwrap().notice.message.challengers[0].key;
    for line in forged.iter_mut().filter(|l| l.signed().key == own) {
        match line {
            Statement::SeedCommitment(s) => {
                *s = Signed::new(&forger, &s.open::<SeedCommitment>().unwrap());
            }
            Statement::Ready(s) => *s = Signed::new(&forger, &s.open::<Ready>().unwrap()),
            Statement::Report(s) => {
                let mut report: Report = s.open().unwrap();
                report.seed[0] ^= 1;
                *s = Signed::new(&forger, &report);
            }
            _ => {}
        }
    }
    let (forged, bytes) = reposted(&honest, forged, &j);
    let checks = bundle::verify(&bytes).checks;
    assert!(checks.iter().any(|c| c.check == "V2" && !c.ok));
    assert_eq!(convicted(&forged, &bytes), [honest.coordinator]);

    // Who has left since is convicted of nothing, and makes no honest bundle false.
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let mut left = posted(&bytes, &j);
    left.keys.fill(LEFT);
    assert_eq!(convicted(&left, &bytes), []);
}

#[test]
fn another_consent_than_the_anchored_one_convicts_the_coordinator_and_no_challenger() {
    let (bytes, j) = Sim::new(World::new(20_000_000)).run();
    let (honest, log) = (posted(&bytes, &j), read(&bytes).log);
    for half in [[0; 32], Ephemeral::from_secret([9; 32]).public()] {
        let (mut setup, mut other) = ([0; 32], log.clone());
        for line in &mut other {
            match line {
                Statement::Consent(s) => {
                    let mut consent: Consent = s.open().unwrap();
                    consent.ephemeral = half;
                    *s = Signed::new(&key(2), &consent);
                    setup = Consent::setup_hash(s);
                }
                Statement::Begun(s) => {
                    let begun = Begun {
                        challenge: [7; 32],
                        setup,
                    };
                    *s = Signed::new(&key(3), &begun);
                }
                _ => {}
            }
        }
        let (posted, bytes) = reposted(&honest, other, &j);
        assert_eq!(convicted(&posted, &bytes), [honest.coordinator]);
    }
    // A key that cannot be agreed on is no challenger's doing, whoever lets such a consent in.
    let mut record = Record::read(&log).unwrap();
    record.consent.as_mut().unwrap().message.ephemeral = [0; 32];
    let checks = judge(&record).checks;
    let seeds: Vec<_> = checks.iter().filter(|c| c.check == "V2").collect();
    assert_eq!(seeds.len(), 5);
    assert!(seeds.iter().all(|c| !c.ok && c.culprit.is_none()));
}
