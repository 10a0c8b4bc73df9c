//! Who is drawn is fixed when it is asked, by nothing that the asker knows then.

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, U256, keccak256};
use alloy::sol_types::SolValue;
use plumbline::chain::client::role;
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::beacon::Draw::{Drawn, Snapshot};
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::registry::Registry;
use plumbline_trust::selection::{Draw, Fate, Look};

use crate::house::{House, account, call, registration, request};
use crate::stage::{Stage, parameters};

const PAYER: usize = 10;
const PROVER: usize = 20;
const COORDINATOR: usize = 21;
/// Where the pool begins among the accounts.
const FIRST: usize = 1_000;
const POOL: usize = 30;
/// The first so many places of the pool are the asker's.
const CORRUPT: usize = 6;
const SEATS: u16 = 5;

fn house() -> House {
    let mut house = House::new(parameters());
    house.crowd(PAYER..PAYER + 1, role::PAYER, 2_000);
    house.crowd(PROVER..PROVER + 1, role::PROVER, 2_000);
    house.crowd(COORDINATOR..COORDINATOR + 1, role::COORDINATOR, 2_000);
    house.crowd(FIRST..FIRST + POOL, role::CHALLENGER, 2_000);
    house
}

fn asked(house: &House) -> Request {
    let parties = [PAYER, PROVER, COORDINATOR].map(account);
    request(parties.into(), SEATS, house.now + 500)
}

/// Such a request, after whatever was asked before.
fn made(house: &House, asked: Request) -> Backhaul::requestCall {
    let payer = asked.payer;
    let last = house.read(house.d.backhaul, &Backhaul::lastOfCall { payer });
    Backhaul::requestCall { asked, last }
}

fn ask(house: &mut House, asked: Request) -> B256 {
    let payer = asked.payer;
    let made = made(house, asked);
    house.must(call(payer, house.d.backhaul, &made));
    house.read(house.d.backhaul, &Backhaul::lastOfCall { payer })
}

/// All of `list` send a heartbeat, in one block.
fn beat(house: &mut House, list: &[usize]) {
    let moves: Vec<_> = list.iter().map(|i| house.beat(*i)).collect();
    assert!(house.block(&moves).iter().all(|e| e.done));
}

/// Why it cannot be drawn now; empty if it can.
fn undrawn(house: &House, id: B256) -> String {
    let one = call(account(50), house.d.backhaul, &Backhaul::selectCall { id });
    let tried = house.fork.call(house.now, &one);
    tried
        .err()
        .map_or_else(String::new, |why| why.unwrap().name)
}

fn drawn(house: &mut House, id: B256) -> Vec<Address> {
    let one = call(account(50), house.d.backhaul, &Backhaul::selectCall { id });
    house.must(one);
    house.read(house.d.backhaul, &Backhaul::selectedOfCall { id })
}

fn corrupt(seated: &[Address]) -> usize {
    let theirs: Vec<Address> = (FIRST..FIRST + CORRUPT).map(account).collect();
    seated.iter().filter(|who| theirs.contains(who)).count()
}

/// What is sent twice by one that does not know whether it was heard is asked once.
#[test]
fn a_request_that_is_sent_again_is_asked_once() {
    let mut house = house();
    let (payer, to) = (account(PAYER), house.d.backhaul);
    let first = made(&house, asked(&house));
    let id = ask(&mut house, first.asked.clone());
    assert_eq!(house.refused(call(payer, to, &first)), "AskedMeanwhile");
    // As does the next with another deadline, if it does not name the first.
    let mut again = first.clone();
    again.asked.deadline += 1;
    assert_eq!(house.refused(call(payer, to, &again)), "AskedMeanwhile");
    again.last = id;
    assert_ne!(ask(&mut house, again.asked), id);
    assert_eq!(house.read(to, &Backhaul::requestsCall {}), U256::from(2));
}

/// Two operators that are no party's, two blocks after the request: not less.
#[test]
fn a_round_is_closed_by_two_other_operators_and_two_blocks_later() {
    let mut house = house();
    // A second account of the prover's, and two of one other operator.
    let mut kin = registration(account(60), role::CHALLENGER, 2_000);
    kin.operator = keccak256(account(PROVER));
    let mut twin = registration(account(61), role::CHALLENGER, 2_000);
    twin.operator = keccak256(account(FIRST));
    for (i, asked) in [(60, kin), (61, twin)] {
        let mut moves = house.purse(account(i)).to_vec();
        moves.push(call(account(i), house.d.participants, &asked));
        assert!(house.block(&moves).iter().all(|e| e.done));
        house.must(house.beat(i));
    }
    let asked = asked(&house);
    let id = ask(&mut house, asked.clone());
    // The parties alone, as often as they like.
    for _ in 0..3 {
        beat(&mut house, &[PAYER, PROVER, COORDINATOR, 60]);
        assert_eq!(undrawn(&house, id), "BeaconNotReady");
    }
    // One operator, with both its accounts, before all the others of a block are the parties'.
    for _ in 0..3 {
        beat(&mut house, &[PAYER, PROVER, COORDINATOR, 60, FIRST, 61]);
        assert_eq!(undrawn(&house, id), "BeaconNotReady");
    }
    beat(&mut house, &[PAYER, FIRST + 1]);
    assert_eq!(undrawn(&house, id), "");
    assert_eq!(drawn(&mut house, id).len(), usize::from(SEATS));

    // Everyone in the block after the request is too early; who revealed there counts two blocks later.
    let id = ask(&mut house, asked.clone());
    beat(&mut house, &[FIRST, FIRST + 1, FIRST + 2]);
    assert_eq!(undrawn(&house, id), "BeaconNotReady");
    beat(&mut house, &[PAYER]);
    assert_eq!(undrawn(&house, id), "");
    // Nobody counts who revealed in the block of the request.
    let moves = [
        house.beat(FIRST),
        call(asked.payer, house.d.backhaul, &made(&house, asked.clone())),
        house.beat(FIRST + 1),
    ];
    assert!(house.block(&moves).iter().all(|e| e.done));
    let payer = asked.payer;
    let id = house.read(house.d.backhaul, &Backhaul::lastOfCall { payer });
    for _ in 0..3 {
        beat(&mut house, &[PAYER, FIRST]);
        assert_eq!(undrawn(&house, id), "BeaconNotReady");
    }
    beat(&mut house, &[FIRST + 1]);
    // And what comes after the round changes nothing.
    let first = drawn(&mut house.clone(), id);
    beat(&mut house, &[FIRST + 2, FIRST + 3]);
    assert_eq!(drawn(&mut house, id), first);
}

/// As of now: what would be drawn of the pool of challengers with the mix of round `round`.
fn looks(house: &House, id: B256, taken: Snapshot) -> Drawn {
    looks_for(house, id, taken, &[PAYER, PROVER, COORDINATOR])
}

/// The same for these parties.
fn looks_for(house: &House, id: B256, taken: Snapshot, parties: &[usize]) -> Drawn {
    let parties = parties.iter().map(|i| account(*i)).collect();
    let asked = Beacon::drawCall {
        id,
        asked: taken,
        parties,
        n: U256::from(SEATS),
        most: U256::from(1),
    };
    house.read(house.d.beacon, &asked)
}

/// Whatever anybody does after a request, the draw with a given mix stays the same.
#[test]
fn who_can_be_drawn_is_fixed_when_it_is_asked() {
    let mut house = house();
    let interval = parameters().live_interval_s;
    // One that was silent before, and one that left.
    house.now += interval - 10;
    let silent = FIRST + 7;
    let live: Vec<usize> = (FIRST..FIRST + POOL).filter(|i| *i != silent).collect();
    beat(&mut house, &live);
    house.now += 11;
    let gone = FIRST + 8;
    house.must(call(
        account(gone),
        house.d.participants,
        &Participants::leaveCall {},
    ));
    // As a module does that is asked in the next block.
    let snapshot = Beacon::snapshotCall {
        role: role::CHALLENGER,
    };
    let taken = house.read(house.d.beacon, &snapshot);
    house.must(call(account(50), house.d.beacon, &snapshot));
    beat(&mut house, &[FIRST, FIRST + 1]);
    beat(&mut house, &[FIRST, FIRST + 1]);
    let ids: Vec<B256> = (0..40_u32).map(|i| keccak256(i.to_be_bytes())).collect();
    let before: Vec<Drawn> = ids
        .iter()
        .map(|id| looks(&house, *id, taken.clone()))
        .collect();
    assert!(
        before
            .iter()
            .all(|d| d.closed && d.seated.len() == usize::from(SEATS))
    );
    let all: BTreeSet<Address> = before.iter().flat_map(|d| d.seated.clone()).collect();
    let mut expected: BTreeSet<Address> = live.iter().map(|i| account(*i)).collect();
    expected.remove(&account(gone));
    assert_eq!(all, expected);

    // Some leave, are silent and back, or beat as often as they can; the silent one is back; others join.
    for i in FIRST + 10..FIRST + 15 {
        house.must(call(
            account(i),
            house.d.participants,
            &Participants::leaveCall {},
        ));
    }
    for _ in 0..5 {
        beat(&mut house, &[silent, FIRST + 20, FIRST + 21, FIRST + 22]);
    }
    house.now += interval + 1;
    beat(&mut house, &[silent, FIRST + 1, FIRST + 2, FIRST + 3]);
    house.crowd(FIRST + POOL..FIRST + 2 * POOL, role::CHALLENGER, 2_000);
    // Who left before is gone for good, and another has its place.
    house.now += parameters().unbonding_s;
    house.must(call(
        account(gone),
        house.d.participants,
        &Participants::reclaimCall {},
    ));
    let places = Participants::placesCall {
        role: role::CHALLENGER,
    };
    let size = house.read(house.d.participants, &places);
    house.crowd(FIRST + 100..FIRST + 101, role::CHALLENGER, 2_000);
    assert_eq!(house.read(house.d.participants, &places), size);
    for (id, before) in ids.iter().zip(&before) {
        let now = looks(&house, *id, taken.clone());
        assert_eq!((&now.seated, now.mix), (&before.seated, before.mix));
        let fates = |d: &Drawn| d.looks.iter().map(|l| l.byte(0)).collect::<Vec<_>>();
        assert_eq!(fates(&now), fates(before));
    }
}

/// Whoever sees the mix and then names an operator, or returns from a suspension and leaves, chooses no other draw.
#[test]
fn nobody_is_shut_out_or_let_in_by_what_is_done_once_the_mix_is_known() {
    const STRANGER: usize = 70;
    let mut house = house();
    let participants = house.d.participants;
    // An account may be a module.
    let module = account(71);
    let admit = Registry::admitCall {
        name: keccak256("test"),
        module,
    };
    house.must(call(account(0), house.d.registry, &admit));
    house.now += parameters().notice_s;
    beat(&mut house, &(FIRST..FIRST + POOL).collect::<Vec<_>>());
    let suspend = |who: usize| {
        let forfeit = Participants::forfeitCall {
            account: account(who),
            asked: U256::from(1),
            to: account(PAYER),
        };
        call(module, participants, &forfeit)
    };
    let top_up = |who: usize| {
        let amount = U256::from(1_000);
        call(
            account(who),
            participants,
            &Participants::topUpCall { amount },
        )
    };
    let leave = |who: usize| call(account(who), participants, &Participants::leaveCall {});
    // Suspended before it is asked, or after.
    let (before, after) = (FIRST + 7, FIRST + 8);
    for who in [before, after] {
        let purse = house.purse(account(who));
        assert!(house.block(&purse).iter().all(|e| e.done));
    }
    house.must(suspend(before));
    let snapshot = Beacon::snapshotCall {
        role: role::CHALLENGER,
    };
    let taken = house.read(house.d.beacon, &snapshot);
    house.must(call(account(50), house.d.beacon, &snapshot));
    for _ in 0..2 {
        beat(&mut house, &[FIRST, FIRST + 1]);
    }
    let parties = [STRANGER, PROVER, COORDINATOR];
    let ids: Vec<B256> = (0..40_u32).map(|i| keccak256(i.to_be_bytes())).collect();
    let all = |house: &House| -> Vec<Drawn> {
        let draw = |id: &B256| looks_for(house, *id, taken.clone(), &parties);
        ids.iter().map(draw).collect()
    };
    let first = all(&house);
    let seated: BTreeSet<Address> = first.iter().flat_map(|d| d.seated.clone()).collect();
    assert!(!seated.contains(&account(before)) && seated.contains(&account(after)));
    let same = |house: &House| {
        for (now, then) in all(house).iter().zip(&first) {
            assert_eq!((&now.seated, now.round), (&then.seated, then.round));
        }
    };

    // A party that was nobody's calls itself one of those who are seated, or who closed the round.
    for whose in [FIRST, FIRST + 5] {
        let mut house = house.clone();
        let mut named = registration(account(STRANGER), role::PAYER, 2_000);
        named.operator = keccak256(account(whose));
        let mut moves = house.purse(account(STRANGER)).to_vec();
        moves.push(call(account(STRANGER), participants, &named));
        assert!(house.block(&moves).iter().all(|e| e.done));
        same(&house);
    }
    // In any order, and as often as they like.
    for moves in [
        vec![top_up(before)],
        vec![top_up(before), leave(before)],
        vec![suspend(after)],
        vec![suspend(after), top_up(after)],
        vec![suspend(after), top_up(after), suspend(after), leave(after)],
    ] {
        let mut house = house.clone();
        for one in moves {
            house.must(one);
            same(&house);
        }
    }
}

/// More stake, or less, once a case is open counts for the next.
#[test]
fn a_jurors_tickets_are_those_of_the_opening() {
    let mut house = house();
    let jurors = FIRST + 200..FIRST + 210;
    house.crowd(jurors.clone(), role::JUROR, 3_000);
    let snapshot = Beacon::snapshotCall { role: role::JUROR };
    let taken = house.read(house.d.beacon, &snapshot);
    house.must(call(account(50), house.d.beacon, &snapshot));
    let close = |house: &mut House| {
        for _ in 0..2 {
            beat(house, &[FIRST, FIRST + 1]);
        }
    };
    close(&mut house);
    let tickets = |house: &House, taken: &Snapshot| -> BTreeSet<u8> {
        let asked = Beacon::drawCall {
            id: B256::repeat_byte(3),
            asked: taken.clone(),
            parties: vec![account(PAYER)],
            n: U256::from(SEATS),
            most: U256::from(8),
        };
        let drawn = house.read(house.d.beacon, &asked);
        assert_eq!(drawn.seated.len(), usize::from(SEATS));
        drawn.looks.iter().map(|l| l.byte(1)).collect()
    };
    assert_eq!(tickets(&house, &taken), BTreeSet::from([3]));
    for i in jurors {
        let amount = U256::from(4_000);
        house.must(call(
            account(i),
            house.d.participants,
            &Participants::topUpCall { amount },
        ));
    }
    assert_eq!(tickets(&house, &taken), BTreeSet::from([3]));
    let later = house.read(house.d.beacon, &snapshot);
    house.must(call(account(50), house.d.beacon, &snapshot));
    close(&mut house);
    assert_eq!(tickets(&house, &later), BTreeSet::from([7]));
}

/// An asker with a fifth of the pool, who knows its own next heartbeat, tries a hundred thousand requests before it
/// sends one (ten thousand without `PLUMBLINE_FULL=1`). The contract before this one gave it all five seats after
/// 9,048 tries: an id was a hash of what was asked, number of the payer's included, and its own heartbeat closed
/// the round.
#[test]
fn an_asker_that_tries_a_hundred_thousand_requests_gains_nothing() {
    let full = std::env::var("PLUMBLINE_FULL").is_ok_and(|v| v == "1");
    let tries: u128 = if full { 100_000 } else { 10_000 };
    let mut house = house();
    let (payer, backhaul, beacon) = (account(PAYER), house.d.backhaul, house.d.beacon);
    // A first round, so that there is a mix.
    beat(&mut house, &[FIRST + 10]);

    // What it can know: the ids that its requests would have, and the mix that its heartbeat would make.
    let mut ids = BTreeSet::new();
    for price in 0..tries {
        let asked = Request {
            pricePerByte: price,
            ..asked(&house)
        };
        let one = call(payer, backhaul, &made(&house, asked));
        let id = house.fork.call(house.now, &one).unwrap();
        ids.insert(B256::from_slice(&id));
    }
    let foreseen = foreseen(&house);
    let best = ids.iter().map(|id| {
        let draw = Draw {
            mix: foreseen.0,
            id: id.0,
            pool: u32::try_from(POOL).unwrap(),
            n: SEATS.into(),
            most: 1,
        };
        let looks = draw.made(|place| Look {
            account: plumbline_trust::Address(account(FIRST + place as usize).into_array()),
            tickets: 1,
            fate: Fate::Seated,
        });
        corrupt(&looks.iter().map(|l| l.account.0.into()).collect::<Vec<_>>())
    });
    let best = best.max().unwrap();
    println!(
        "draws: {tries} tries: {} ids, at best {best} of {SEATS} seats",
        ids.len()
    );
    assert_eq!(ids.len(), 1, "what is asked decides the id");

    // And its heartbeat makes no round that anything is drawn with.
    let request = asked(&house);
    let id = ask(&mut house, request);
    assert!(ids.contains(&id));
    house.must(house.beat(PAYER));
    let round = house.read(beacon, &Beacon::currentRoundCall {});
    assert_eq!(house.read(beacon, &Beacon::mixOfCall { round }), foreseen);
    house.must(house.beat(PAYER));
    assert_eq!(undrawn(&house, id), "BeaconNotReady");

    // Asking again and again, it gets its share.
    const ROUNDS: usize = 200;
    let mut won = 0;
    for round in 0..ROUNDS {
        let request = asked(&house);
        let id = ask(&mut house, request);
        house.must(house.beat(PAYER));
        beat(
            &mut house,
            &[FIRST + 10 + round % 10, FIRST + 20 + round % 10],
        );
        won += corrupt(&drawn(&mut house, id));
    }
    let seats = ROUNDS * usize::from(SEATS);
    println!("draws: {won} of {seats} seats for {CORRUPT} of {POOL}");
    // A fifth, within five standard deviations of the binomial.
    let (mean, deviation) = (seats as f64 / 5.0, (seats as f64 * 0.16).sqrt());
    assert!(
        (won as f64 - mean).abs() < 5.0 * deviation,
        "{won} of {mean}"
    );
}

/// The mix that the payer's next heartbeat makes, if nobody else reveals in its block.
fn foreseen(house: &House) -> B256 {
    let (who, beacon) = (account(PAYER), house.d.beacon);
    let account = who;
    let count = house.read(beacon, &Beacon::heartbeatsCall { account });
    let anchor = house.read(beacon, &Beacon::anchorOfCall { account });
    let part = keccak256((who, Stage::beacon_seed(who, count), anchor).abi_encode());
    let round = house.read(beacon, &Beacon::currentRoundCall {});
    let before = house.read(beacon, &Beacon::mixOfCall { round });
    keccak256((before, part, B256::ZERO).abi_encode())
}

/// Who copies another's network key keeps nobody out; that it did not sign for the copier is seen by every party.
#[test]
fn a_copied_network_key_keeps_nobody_out() {
    let mut house = house();
    let (thief, owner) = (account(70), account(71));
    let theirs = registration(owner, role::CHALLENGER, 2_000);
    for who in [thief, owner] {
        let mut moves = house.purse(who).to_vec();
        moves.push(call(who, house.d.participants, &theirs));
        assert!(house.block(&moves).iter().all(|e| e.done));
    }
    for account in [thief, owner] {
        let known = house.read(house.d.participants, &Participants::getCall { account });
        assert_eq!(known.networkKey, theirs.networkKey);
    }
}
