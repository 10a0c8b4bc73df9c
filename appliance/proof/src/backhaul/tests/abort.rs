//! Giving up: who may say it, what it ends, and what it leaves going.

use plumbline_trust::identity::Signed;

use super::super::challenger::{Challenger, ChallengerAction};
use super::super::coordinator::Coordinator;
use super::super::messages::{
    ABORT_WORDS_MAX, Abort, Begun, Consent, Notice, Ready, Start, Statement,
};
use super::super::params::{ANCHOR_MS_MOST, STEP_TIMEOUT_NS, Terms};
use super::super::prover::{Prover, ProverAction};
use super::super::record::{Record, Refusal};
use super::{addr, ephemeral, key, notice, secrets};

const PROVER: u8 = 2;
const COORDINATOR: u8 = 3;

fn terms() -> Terms {
    Terms::downlink(20_000_000, 5, 1, 100)
}

fn first() -> (Notice, Statement) {
    let notice = notice(terms());
    let first = Statement::Notice(Signed::new(&key(COORDINATOR), &notice));
    (notice, first)
}

/// Number of the key of the challenger drawn at this place.
fn owner(notice: &Notice, index: u16) -> u8 {
    notice.challengers[usize::from(index)].address.0[0]
}

fn abort(by: u8, index: Option<u16>, why: &str) -> Statement {
    let message = Abort {
        challenge: notice(terms()).challenge,
        index,
        why: why.to_owned(),
        seed: None,
    };
    Statement::Abort(Signed::new(&key(by), &message))
}

#[test]
fn after_the_provers_word_nothing_is_taken_and_after_a_challengers_everything() {
    let (notice, first) = first();
    let mut record = Record::open(&first).unwrap();
    let out = abort(owner(&notice, 1), Some(1), "my path");
    assert_eq!(record.absorb(&out), Ok(true));
    assert_eq!(record.absorb(&out), Ok(false), "word for word");
    let data = (addr(1), addr(2));
    let who = key(owner(&notice, 0));
    let (_, said) = Challenger::new(&first, &who, secrets(1), data.0, data.1).unwrap();
    let ChallengerAction::Say(seed) = &said[0] else {
        panic!("a seed is committed to first");
    };
    let mut after = record.clone();
    assert_eq!(after.absorb(seed), Ok(true));
    assert_eq!(record.absorb(&abort(PROVER, None, "too narrow")), Ok(true));
    let refused = record.absorb(seed).unwrap_err();
    assert!(matches!(refused, Refusal::TooEarly { .. }), "{refused}");
    let other = record.absorb(&abort(PROVER, None, "another reason"));
    assert_eq!(other, Err(Refusal::Conflict("abort")));
    assert_eq!(record.abort.unwrap().message.why, "too narrow");
    assert_eq!(record.out[1].as_ref().unwrap().message.why, "my path");
}

#[test]
fn only_a_party_says_it_for_itself_in_words_that_can_be_shown() {
    let (notice, first) = first();
    let record = Record::open(&first).unwrap();
    let said = |statement: &Statement| record.clone().absorb(statement).map_err(|e| e.code());
    assert_eq!(
        said(&abort(owner(&notice, 0), None, "x")),
        Err("wrong-author")
    );
    assert_eq!(said(&abort(PROVER, Some(0), "x")), Err("wrong-author"));
    assert_eq!(
        said(&abort(owner(&notice, 1), Some(0), "x")),
        Err("wrong-author")
    );
    assert_eq!(
        said(&abort(owner(&notice, 0), Some(5), "x")),
        Err("bad-field")
    );
    assert_eq!(said(&abort(PROVER, None, "\u{1b}[2J")), Err("bad-field"));
    assert_eq!(said(&abort(PROVER, None, "a\nb")), Err("bad-field"));
    let long = "x".repeat(ABORT_WORDS_MAX);
    assert_eq!(said(&abort(PROVER, None, &long)), Ok(true));
    assert_eq!(said(&abort(PROVER, None, &(long + "x"))), Err("bad-field"));
    let mut elsewhere = notice.clone();
    elsewhere.challenge = [9; 32];
    let message = Abort::new(&elsewhere.challenge, None, "x");
    let elsewhere = Statement::Abort(Signed::new(&key(PROVER), &message));
    assert_eq!(said(&elsewhere), Err("other-challenge"));
}

#[test]
fn whatever_is_to_be_said_is_made_such_that_it_is_taken() {
    let (_, first) = first();
    // 334 times three bytes are two more than fit.
    for why in ["a\nb\u{1b}c", "", &"€".repeat(334)] {
        let message = Abort::new(&notice(terms()).challenge, None, why);
        assert!(message.why.len() <= ABORT_WORDS_MAX);
        let said = Statement::Abort(Signed::new(&key(PROVER), &message));
        assert_eq!(
            Record::open(&first).unwrap().absorb(&said),
            Ok(true),
            "{why}"
        );
    }
    let message = Abort::new(&[0; 32], None, &"€".repeat(334));
    assert_eq!(message.why, "€".repeat(333));
    assert_eq!(Abort::new(&[0; 32], None, "a\nb").why, "a b");
}

#[test]
fn after_the_start_the_prover_goes_on_and_a_challenger_gives_up_until_its_report() {
    let (notice, first) = first();
    let mut record = Record::open(&first).unwrap();
    let challenge = notice.challenge;
    let consent = Consent {
        challenge,
        data: addr(1),
        control: addr(2),
        ephemeral: [1; 32],
        cap_packets: terms().cap_packets(),
        until_ns: 0,
        senders: Vec::new(),
    };
    let consent = Signed::new(&key(PROVER), &consent);
    let setup = Consent::setup_hash(&consent);
    let begun = Signed::new(&key(COORDINATOR), &Begun { challenge, setup });
    let start = Start {
        challenge,
        phase: 0,
        t0_ns: 1,
    };
    record.absorb(&Statement::Consent(consent)).unwrap();
    record.absorb(&Statement::Begun(begun)).unwrap();
    let mut before = record.clone();
    let last = abort(PROVER, None, "x");
    let out = abort(owner(&notice, 0), Some(0), "x");
    assert_eq!(
        (before.absorb(&out), before.absorb(&last)),
        (Ok(true), Ok(true))
    );
    let start = Statement::Start(Signed::new(&key(PROVER), &start));
    record.absorb(&start).unwrap();
    assert_eq!(record.absorb(&last).unwrap_err().code(), "bad-field");
    assert_eq!(record.absorb(&out), Ok(true));
}

#[test]
fn f_that_give_up_stop_nobody_and_one_more_ends_the_session_for_everyone() {
    let (notice, first) = first();
    let mut prover = Prover::new(&first, &key(PROVER), ephemeral(), addr(1), addr(2), 0).unwrap();
    let mut coordinator = Coordinator::new(&key(COORDINATOR), &notice).unwrap();
    let out = |index| abort(owner(&notice, index), Some(index), "the path is narrow");
    coordinator.hear(out(4), 0).unwrap();
    let actions = prover.hear(&key(PROVER), &out(4), 0);
    assert!(actions.is_empty(), "four of five are enough");
    coordinator.hear(out(2), 0).unwrap();
    let actions = prover.hear(&key(PROVER), &out(2), 0);
    let [ProverAction::Say(said), ProverAction::Fail(why)] = &actions[..] else {
        panic!("{} actions", actions.len());
    };
    assert!(
        why.contains("2 of 5") && why.contains("challenger 4: the path is narrow"),
        "{why}"
    );
    assert!(prover.tick(&key(PROVER), u64::MAX).is_empty(), "it is over");

    assert_eq!(coordinator.hear(said.clone(), 0), Ok(Vec::new()));
    let mut resumed = Coordinator::resume(coordinator.log().to_vec(), 0).unwrap();
    assert!(coordinator.tick(u64::MAX).is_empty() && resumed.tick(u64::MAX).is_empty());

    let place = owner(&notice, 0);
    let (mut challenger, _) =
        Challenger::new(&first, &key(place), secrets(1), addr(3), addr(4)).unwrap();
    assert!(challenger.hear(&key(place), &out(2), 0).is_empty());
    let heard = challenger.hear(&key(place), said, 0);
    assert!(
        matches!(&heard[..], [ChallengerAction::Fail(why)] if why.contains("the prover gave up"))
    );
}

/// A slow chain has the time to show what is anchored, and nobody waits for ever.
#[test]
fn the_set_up_waits_for_the_chain_as_the_notice_says() {
    let waits = |anchor_ms: u32| {
        let mut notice = notice(terms());
        notice.anchor_ms = anchor_ms;
        let first = Statement::Notice(Signed::new(&key(COORDINATOR), &notice));
        let mut prover =
            Prover::new(&first, &key(PROVER), ephemeral(), addr(1), addr(2), 0).unwrap();
        let mut said = Vec::new();
        for index in 0..5 {
            let (data, control) = (addr(10 + 2 * index), addr(11 + 2 * index));
            let who = key(owner(&notice, u16::try_from(index).unwrap()));
            let made = Challenger::new(&first, &who, secrets(1), data, control);
            for action in made.unwrap().1 {
                if let ChallengerAction::Say(seed) = action {
                    said = prover.hear(&key(PROVER), &seed, 0);
                }
            }
        }
        let until_ns = said.iter().find_map(|action| match action {
            ProverAction::Open(opening) => Some(opening.until_ns),
            _ => None,
        });
        let wait = STEP_TIMEOUT_NS + u64::from(anchor_ms) * 1_000_000 + 2 * terms().duration_ns();
        assert!(until_ns.is_some_and(|until| until > wait), "{until_ns:?}");
        assert!(prover.tick(&key(PROVER), wait - 1).is_empty());
        let gave_up = prover.tick(&key(PROVER), wait);
        assert!(matches!(gave_up.last(), Some(ProverAction::Fail(_))));
    };
    waits(0);
    waits(ANCHOR_MS_MOST);
    let mut longer = notice(terms());
    longer.anchor_ms = ANCHOR_MS_MOST + 1;
    let first = Statement::Notice(Signed::new(&key(COORDINATOR), &longer));
    assert_eq!(Record::open(&first).unwrap_err().code(), "bad-field");
}

/// The one that gave up is not waited for; the one that is silent is.
#[test]
fn once_all_others_are_ready_the_prover_starts_without_who_gave_up() {
    let (notice, first) = first();
    let challenge = notice.challenge;
    let mut prover = Prover::new(&first, &key(PROVER), ephemeral(), addr(1), addr(2), 0).unwrap();
    let mut said = Vec::new();
    for index in 0..5 {
        let (data, control) = (addr(10 + 2 * index), addr(11 + 2 * index));
        let who = key(owner(&notice, u16::try_from(index).unwrap()));
        let (_, joins) = Challenger::new(&first, &who, secrets(1), data, control).unwrap();
        for action in joins {
            let ChallengerAction::Say(seed) = action else {
                panic!("a seed is committed to first");
            };
            said = prover.hear(&key(PROVER), &seed, 0);
        }
    }
    let consent = said.into_iter().find_map(|action| match action {
        ProverAction::Say(Statement::Consent(consent)) => Some(consent),
        _ => None,
    });
    let consent = consent.expect("all have joined");
    let setup = Consent::setup_hash(&consent);
    let begun = Signed::new(&key(COORDINATOR), &Begun { challenge, setup });
    let mut heard = vec![Statement::Consent(consent), Statement::Begun(begun)];
    for index in 0..4 {
        let ready = Ready {
            challenge,
            index,
            rho_ns: 1,
            reached: None,
            settlement: Vec::new(),
        };
        let ready = Signed::new(&key(owner(&notice, index)), &ready);
        heard.push(Statement::Ready(ready));
    }
    for statement in &heard {
        let actions = prover.hear(&key(PROVER), statement, 0);
        assert!(actions.is_empty(), "the fifth may yet be ready");
    }
    let out = abort(owner(&notice, 4), Some(4), "the path is narrow");
    let actions = prover.hear(&key(PROVER), &out, 0);
    let started = |a: &ProverAction| matches!(a, ProverAction::Say(Statement::Start(_)));
    assert!(actions.iter().any(started));
}
