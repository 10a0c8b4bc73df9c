//! What one party may make another do, hold or lose: each to its bound and not beyond.

use plumbline_trust::encoding::encode;
use plumbline_trust::identity::Signed;

use super::super::challenger::{ACKS_MOST, Challenger, ChallengerAction};
use super::super::messages::{Begun, Consent, Ready, Report, Reveal, SeedCommitment, Statement};
use super::super::prover::{Prover, ProverAction};
use super::super::record::{Record, Refusal};
use super::super::sizes;
use super::offence::read;
use super::*;

/// Every point of small order on the curve and its twist, and other words for the first two (RFC 7748, section 6.1).
fn small_order() -> Vec<[u8; 32]> {
    let mut points = Vec::new();
    for text in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let mut point = [0; 32];
        hex::decode_to_slice(text, &mut point).unwrap();
        points.push(point);
    }
    points
}

#[test]
fn halves_of_small_order_are_refused_where_they_are_said() {
    let (bytes, _) = Sim::new(World::new(20_000_000)).run();
    let log = read(&bytes).log;
    for point in small_order() {
        for at in 0..log.len() {
            let changed = match &log[at] {
                Statement::SeedCommitment(signed) => {
                    let mut seed: SeedCommitment = signed.open().unwrap();
                    seed.ephemeral = point;
                    let owner = (10..20).map(key).find(|k| k.verifying() == signed.key);
                    Statement::SeedCommitment(Signed::new(&owner.unwrap(), &seed))
                }
                Statement::Consent(signed) => {
                    let mut consent: Consent = signed.open().unwrap();
                    consent.ephemeral = point;
                    Statement::Consent(Signed::new(&key(2), &consent))
                }
                _ => continue,
            };
            let mut record = Record::read(&log[..at]).unwrap();
            let why = record.absorb(&changed).unwrap_err().to_string();
            assert!(why.contains("small order"), "{why}");
            assert_eq!(record.absorb(&log[at]), Ok(true));
        }
    }
}

#[test]
fn copies_of_a_commitment_make_no_report_unacceptable() {
    let (bytes, j) = Sim::new(World {
        copies: 20_000,
        ..World::new(20_000_000)
    })
    .run();
    assert!(j.standings.iter().all(|s| s.valid), "{:?}", j.standings);
    let record = Record::read(&read(&bytes).log).unwrap();
    let reports = record.reports.iter().flatten().map(|r| &r.message);
    // What else it sends are its own probes.
    for report in reports {
        let acks = report.control_sent - 10;
        assert!((ACKS_MOST..ACKS_MOST + 20).contains(&acks), "{acks}");
    }
}

/// Four of five commit to a seed in time; the fifth comes after the consent, in league with nobody.
#[test]
fn who_has_no_consent_neither_joins_nor_pulls_the_start_forward() {
    let terms = World::new(1).terms;
    let notice = notice(terms);
    let challenge = notice.challenge;
    let first = Statement::Notice(Signed::new(&key(3), &notice));
    let owner = |index: usize| key(notice.challengers[index].address.0[0]);
    let mut prover = Prover::new(&first, &key(2), ephemeral(), addr(1), addr(2), 0).unwrap();
    let seed = |index: usize| {
        let (data, control) = (addr(10 + 2 * index), addr(11 + 2 * index));
        let made = Challenger::new(&first, &owner(index), secrets(1), data, control);
        match made.unwrap().1.remove(0) {
            ChallengerAction::Say(seed) => seed,
            _ => panic!("a seed is committed to first"),
        }
    };
    for index in 0..4 {
        assert!(prover.hear(&key(2), &seed(index), 0).is_empty());
    }
    let now = super::super::params::STEP_TIMEOUT_NS;
    let said = prover.tick(&key(2), now);
    let consent = said.into_iter().find_map(|action| match action {
        ProverAction::Say(Statement::Consent(consent)) => Some(consent),
        _ => None,
    });
    let consent = consent.expect("four of five are enough in the end");
    let setup = Consent::setup_hash(&consent);
    let begun = Signed::new(&key(3), &Begun { challenge, setup });
    let ready = |index: usize| {
        let ready = Ready {
            challenge,
            index: u16::try_from(index).unwrap(),
            rho_ns: 1,
            reached: None,
            settlement: Vec::new(),
        };
        Statement::Ready(Signed::new(&owner(index), &ready))
    };
    let starts = |actions: &[ProverAction]| {
        let start = |a: &ProverAction| matches!(a, ProverAction::Say(Statement::Start(_)));
        actions.iter().any(start)
    };
    let set_up = [Statement::Consent(consent), Statement::Begun(begun)];
    let late = [seed(4), ready(4)];
    for statement in set_up.iter().chain(&late) {
        assert!(!starts(&prover.hear(&key(2), statement, now)));
    }
    for index in 0..3 {
        let actions = prover.hear(&key(2), &ready(index), now);
        assert!(!starts(&actions), "after {index}");
    }
    let mut record = prover.record().clone();
    let why = record.absorb(&late[0]).unwrap_err();
    assert!(matches!(why, Refusal::Field { .. }), "{why}");
    let why = record.absorb(&late[1]).unwrap_err();
    assert!(matches!(why, Refusal::TooEarly { .. }), "{why}");
    // Word for word it may be said again at any time.
    assert_eq!(record.absorb(&seed(0)), Ok(false));
    assert!(starts(&prover.hear(&key(2), &ready(3), now)));
}

#[test]
fn the_words_of_a_reveal_are_bounded_by_its_length() {
    let (bytes, _) = Sim::new(World::new(20_000_000)).run();
    let log = read(&bytes).log;
    let at = log.iter().position(|l| l.name() == "reveal").unwrap();
    let honest: Reveal = log[at].signed().open().unwrap();
    let most = sizes::most(log[at].kind(), &World::new(1).terms);
    let tried = |more: u64| {
        let mut reveal = honest.clone();
        reveal.accounting.fates.push((String::new(), 1));
        let room = most - encode(&reveal).len() as u64 + more;
        reveal.accounting.fates[0].0 = "x".repeat(usize::try_from(room).unwrap());
        let said = Statement::Reveal(Signed::new(&key(2), &reveal));
        Record::read(&log[..at]).unwrap().absorb(&said)
    };
    assert_eq!(tried(0), Ok(true));
    assert_eq!(tried(1).unwrap_err().code(), "bad-field");
}

/// A clock that went too slowly shows a window that is too short: what it may be off by is part of w.
#[test]
fn the_clocks_error_lengthens_the_window_and_who_leaves_it_out_is_not_counted() {
    let run = |clock_error_ns| {
        let world = World {
            clock_error_ns,
            ..World::new(20_000_000)
        };
        let (bytes, j) = Sim::new(world).run();
        assert!(j.standings.iter().all(|s| s.valid));
        read(&bytes).log
    };
    let reports = |log: &[Statement]| -> Vec<Report> {
        let reports = Record::read(log).unwrap().reports;
        reports.into_iter().flatten().map(|r| r.message).collect()
    };
    let (exact, off) = (run(0), run(500_000));
    for (exact, off) in reports(&exact).iter().zip(reports(&off)) {
        assert_eq!(exact.window_us + 500, off.window_us);
    }
    let mut short = off;
    for line in &mut short {
        if let Statement::Report(signed) = line {
            let mut report: Report = signed.open().unwrap();
            report.window_us -= 500;
            let owner = (10..20).map(key).find(|k| k.verifying() == signed.key);
            *signed = Signed::new(&owner.unwrap(), &report);
        }
    }
    let judged = judge(&Record::read(&short).unwrap());
    assert!(judged.standings.iter().all(|s| s.flags == ["V5"]));
}
