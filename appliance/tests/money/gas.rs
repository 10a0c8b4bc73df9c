//! The largest cases fit a transaction: nobody can make a house so full that it stands still.
//!
//! Gas, not time: it is the same on every machine. A transaction may have 16,777,216 gas (EIP-7825), and a
//! client allows a quarter more than it estimates: what must fit leaves that much. The pool that a draw looks
//! through has no bound of its own: where selecting would reach the limit is printed, from two sizes; where
//! drawing a jury does is found by trying, and beyond it the case still ends and the money comes back.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::sol_types::{SolEvent, SolValue};
use plumbline::chain::client::{Offence, role};
use plumbline::chain::{Fork, Move};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::{SignedReport, Submission, Timing as Posted};
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::registry::Registry;
use plumbline_contracts::deploy::short;
use plumbline_contracts::{Parameters, Timing, Verdict, commit_digest, domain, report_digest};

use crate::house::{House, account, call, key, registration, request};
use crate::stage::{Stage, parameters};

/// Most challengers of one measurement.
const MOST: u16 = 64;
/// Challengers in the larger pool.
const POOL: usize = 500;
/// What must fit, fits with the quarter more that a client allows.
const ROOMY: u64 = Fork::MOVE_GAS / 5 * 4;
/// Jurors in the pools whose draw must fit.
const JURORS: [usize; 3] = [64, 80, 100];
/// Longest endpoint of a participant, bytes.
const LONGEST: usize = 256;
/// Participants that a client reads at once.
const PAGE: usize = 128;
/// Jurors that join between two tries beyond those.
const STEP: usize = 25;
/// Jurors at which the search for the limit gives up: twice what is known to fit.
const ENOUGH: usize = 600;
/// Most seats of a jury: the bound of the chain variable.
const SEATS: u16 = 63;
/// Most accounts kept from a jury.
const EXCLUDED: usize = 96;
/// Tickets that one juror can have at most; more stake costs no more gas.
const TICKETS: u128 = 32;
/// Joined in one block.
const CHUNK: usize = 50;
/// Where the crowd begins among the accounts.
const FIRST: usize = 1_000;
/// Where those begin who are kept from a jury.
const KEPT_OUT: usize = 10_000;
const PARTIES: [usize; 3] = [10, 20, 21];
const STRANGER: usize = 50;

fn beat(house: &House, i: usize, count: u64) -> Move {
    let who = account(i);
    let revealed = if count == 0 {
        B256::ZERO
    } else {
        Stage::beacon_seed(who, count)
    };
    let asked = Beacon::heartbeatCall {
        revealedSeed: revealed,
        nextCommitment: keccak256(Stage::beacon_seed(who, count + 1)),
    };
    call(who, house.d.beacon, &asked)
}

/// Accounts `from..to` register and heartbeat.
fn crowd(house: &mut House, range: std::ops::Range<usize>, roles: u32, stake: u128) {
    let list: Vec<usize> = range.collect();
    for chunk in list.chunks(CHUNK) {
        let mut moves = Vec::new();
        for &i in chunk {
            let who = account(i);
            moves.extend(house.purse(who));
            moves.push(call(
                who,
                house.d.participants,
                &registration(who, roles, stake),
            ));
            moves.push(beat(house, i, 0));
        }
        assert!(house.block(&moves).iter().all(|e| e.done));
    }
}

/// Does it, prints what it took, and gives that.
fn takes(house: &mut House, what: &str, one: Move) -> u64 {
    let effect = house.must(one);
    println!("gas: {what:56} {:>10} of {}", effect.gas, Fork::MOVE_GAS);
    effect.gas
}

/// The same, with room to grow.
fn fits(house: &mut House, what: &str, one: Move) -> u64 {
    let gas = takes(house, what, one);
    assert!(gas < ROOMY, "{what} takes {gas} of {ROOMY}");
    gas
}

/// At which size of a pool a draw would reach the limit of a transaction.
fn reaches(what: &str, small: (usize, u64), large: (usize, u64)) {
    let each = large.1.saturating_sub(small.1) / (large.0 - small.0) as u64;
    match (ROOMY - large.1).checked_div(each) {
        Some(room) => println!(
            "gas: {what}: {each} for each in the pool; full at about {}",
            large.0 as u64 + room
        ),
        None => println!("gas: {what}: the same from any pool"),
    }
}

fn ask(house: &mut House, nonce: u64) -> B256 {
    let [payer, prover, coordinator] = PARTIES.map(account);
    let asked = request((payer, prover, coordinator), MOST, house.now + 500, nonce);
    house.must(call(
        payer,
        house.d.backhaul,
        &Backhaul::requestCall {
            asked: asked.clone(),
        },
    ));
    house.read(house.d.backhaul, &Backhaul::idOfCall { asked })
}

/// Reports of all, with a span of its own for each number of corrupt ones: what costs most to compute.
fn submission(house: &House, id: B256, selected: &[Address], keys: &[usize]) -> Submission {
    let d = domain(house.d.chain_id, house.d.backhaul);
    let counts: Vec<u32> = (0..MOST).map(|i| if i < 20 { 14 } else { 13 }).collect();
    let packets = counts.iter().copied().map(u64::from).sum();
    let report = |index: u16| {
        let late = u32::from(MOST - index) * 100;
        let timing = Timing {
            index,
            window_us: 1_000_000 + late,
            packets: counts[usize::from(index)],
        };
        let who = selected[usize::from(index)];
        let signer = keys.iter().find(|i| account(**i) == who).unwrap();
        Posted {
            index,
            windowUs: timing.window_us,
            packets: timing.packets,
            signature: sign(*signer, report_digest(&d, id, 0, timing, id)),
        }
    };
    Submission {
        packets,
        responseHash: id,
        proverSignature: sign(PARTIES[1], commit_digest(&d, id, 0, packets, &counts, id)),
        reports: (0..MOST).map(report).collect(),
        counts,
        bundleHash: id,
        verdict: Verdict::Pass as u8,
        spansUs: (0..=(MOST - 1) / 3)
            .map(|j| 1_003_000 - u32::from(j) * 100)
            .collect(),
    }
}

fn sign(i: usize, digest: B256) -> Bytes {
    key(i)
        .sign_hash_sync(&digest)
        .unwrap()
        .as_bytes()
        .to_vec()
        .into()
}

/// Everyone selected is proven guilty of something before there is a result.
fn all_guilty(house: &mut House, id: B256, selected: &[Address], keys: &[usize]) {
    let d = domain(house.d.chain_id, house.d.backhaul);
    let (to, proof, from) = (house.d.disputes, house.d.backhaul, account(STRANGER));
    for (index, who) in (0..MOST).zip(selected) {
        let signer = *keys.iter().find(|i| account(**i) == *who).unwrap();
        let say = |packets| {
            let timing = Timing {
                index,
                window_us: 5,
                packets,
            };
            SignedReport {
                phase: 0,
                index,
                windowUs: 5,
                packets,
                responseHash: id,
                signature: sign(signer, report_digest(&d, id, 0, timing, id)),
            }
        };
        let evidence = Offence::TwoReports(id, Box::new([say(1), say(2)])).encode();
        let hash = keccak256((proof, keccak256(&evidence), id).abi_encode());
        house.must(call(from, to, &Disputes::announceCall { hash }));
        let salt = id;
        house.must(call(
            from,
            to,
            &Disputes::proveCall {
                proof,
                evidence,
                salt,
            },
        ));
    }
}

#[test]
fn a_measurement_with_the_most_challengers_from_a_large_pool_fits() {
    let mut house = House::new(parameters());
    let [payer, prover, coordinator] = PARTIES;
    house.join(account(payer), role::PAYER, 2_000);
    house.join(account(prover), role::PROVER, 2_000);
    house.join(account(coordinator), role::COORDINATOR, 2_000);
    for one in house.purse(account(STRANGER)) {
        house.must(one);
    }
    crowd(&mut house, FIRST..FIRST + POOL / 2, role::CHALLENGER, 2_000);
    let to = house.d.backhaul;
    let mut half = house.clone();
    let id = ask(&mut half, 1);
    half.must(beat(&half, FIRST, 1));
    let one = call(account(STRANGER), to, &Backhaul::selectCall { id });
    let small = fits(
        &mut half,
        &format!("select {MOST} from a pool of {}", POOL / 2),
        one,
    );
    crowd(
        &mut house,
        FIRST + POOL / 2..FIRST + POOL,
        role::CHALLENGER,
        2_000,
    );
    let id = ask(&mut house, 1);
    house.must(beat(&house, FIRST, 1));
    let one = call(account(STRANGER), to, &Backhaul::selectCall { id });
    let large = fits(
        &mut house,
        &format!("select {MOST} from a pool of {POOL}"),
        one,
    );
    reaches("select", (POOL / 2, small), (POOL, large));

    let selected = house.read(to, &Backhaul::selectedOfCall { id });
    let keys: Vec<usize> = (FIRST..FIRST + POOL).collect();
    house.must(call(
        account(coordinator),
        to,
        &Backhaul::beginCall { id, setupHash: id },
    ));
    let posted = submission(&house, id, &selected, &keys);
    let report = call(
        account(coordinator),
        to,
        &Backhaul::reportCall { id, posted },
    );
    let mut guilty = house.clone();
    all_guilty(&mut guilty, id, &selected, &keys);
    fits(
        &mut guilty,
        &format!("report {MOST}, each proven guilty before"),
        report.clone(),
    );
    guilty.now += parameters().dispute_window_s;
    guilty.must(call(account(STRANGER), to, &Backhaul::finalizeCall { id }));
    assert!(selected.iter().all(|who| guilty.owed(*who).is_zero()));

    fits(&mut house, &format!("report {MOST}"), report);

    let mut quarrel = house.clone();
    let (from, disputes) = (account(STRANGER), house.d.disputes);
    let hash = keccak256((to, id, selected[0], id, id).abi_encode());
    quarrel.must(call(from, disputes, &Disputes::announceCall { hash }));
    let accused = selected[0];
    let asked = Disputes::disputeCall {
        proof: to,
        subject: id,
        accused,
        evidence: id,
        salt: id,
    };
    fits(
        &mut quarrel,
        &format!("dispute about {MOST}"),
        call(from, disputes, &asked),
    );

    house.now += parameters().dispute_window_s;
    let one = call(account(STRANGER), to, &Backhaul::finalizeCall { id });
    fits(&mut house, &format!("finalize {MOST}, all paid"), one);
    assert!(selected.iter().all(|who| !house.owed(*who).is_zero()));
}

#[test]
fn a_page_of_participants_is_read_within_a_calls_gas() {
    let mut house = House::new(parameters());
    let participants = house.d.participants;
    let long = "e".repeat(LONGEST);
    for i in FIRST..FIRST + PAGE {
        let who = account(i);
        let mut moves = house.purse(who).to_vec();
        let mut joining = registration(who, role::CHALLENGER, 2_000);
        joining.endpoint = long.clone();
        moves.push(call(who, participants, &joining));
        moves.push(beat(&house, i, 0));
        assert!(house.block(&moves).iter().all(|e| e.done));
    }
    let (offset, limit) = (U256::ZERO, U256::from(PAGE));
    let page = Participants::listCall { offset, limit };
    let one = call(account(STRANGER), participants, &page);
    // As a transaction: a view says no gas.
    let read = house.read(participants, &page);
    assert_eq!(read.len(), PAGE);
    assert!(read.iter().all(|p| p.endpoint == long));
    fits(&mut house, &format!("read {PAGE} participants"), one);
    let accounts: Vec<Address> = (FIRST..FIRST + PAGE).map(account).collect();
    let beacon = house.d.beacon;
    let one = call(account(STRANGER), beacon, &Beacon::freshCall { accounts });
    fits(&mut house, &format!("ask {PAGE} for their heartbeats"), one);
}

/// Opens a case that keeps out as many as can be; what it took.
fn open_case(house: &mut House, module: Address) -> (B256, u64) {
    let excluded = (0..EXCLUDED).map(|i| account(KEPT_OUT + i)).collect();
    let asked = Jury::openCall {
        subject: B256::ZERO,
        evidence: B256::ZERO,
        funder: account(STRANGER),
        excluded,
    };
    let one = call(module, house.d.jury, &asked);
    let bytes = house.fork.call(house.now, &one).unwrap();
    let gas = house.must(one).gas;
    (B256::from_slice(&bytes), gas)
}

/// Opens such a case and closes the round that it is drawn with.
fn drawable(house: &mut House, module: Address) -> (B256, Move) {
    let (id, _) = open_case(house, module);
    house.must(beat(house, FIRST, 1));
    let draw = call(account(STRANGER), house.d.jury, &Jury::drawCall { id });
    (id, draw)
}

/// A house of the largest juries, those who are kept out of one, and a module that is an account: it can
/// open cases as it likes.
fn courthouse() -> (House, Address) {
    let parameters = Parameters {
        jury_size: SEATS,
        ..parameters()
    };
    let mut house = House::new(parameters.clone());
    for one in house.purse(account(STRANGER)) {
        house.must(one);
    }
    let module = account(60);
    let admit = Registry::admitCall {
        name: short("account"),
        module,
    };
    house.must(call(account(0), house.d.registry, &admit));
    house.now += parameters.notice_s;
    crowd(
        &mut house,
        KEPT_OUT..KEPT_OUT + EXCLUDED,
        role::PAYER,
        2_000,
    );
    (house, module)
}

/// Jurors of the most tickets join until there are `to`.
fn seatable(house: &mut House, from: usize, to: usize) {
    let stake = TICKETS * parameters().min_stake;
    crowd(house, FIRST + from..FIRST + to, role::JUROR, stake);
}

#[test]
fn a_jury_of_the_most_seats_from_a_large_pool_fits() {
    let (mut house, module) = courthouse();
    let mut known = Vec::new();
    let mut jurors = 0;
    let mut last = None;
    for size in JURORS {
        seatable(&mut house, jurors, size);
        jurors = size;
        let mut copy = house.clone();
        let (id, draw) = drawable(&mut copy, module);
        let what = format!("draw {SEATS} from {size} jurors, {TICKETS} tickets each");
        known.push((size, fits(&mut copy, &what, draw)));
        last = Some((copy, id));
    }
    reaches("draw", known[1], known[2]);
    let opened = open_case(&mut house.clone(), module).1;
    println!("gas: open a case that keeps out {EXCLUDED}: {opened}");
    assert!(opened < ROOMY);

    let (mut house, id) = last.unwrap();
    let found = house.read(house.d.jury, &Jury::getCall { id });
    assert_eq!(found.jurors.len(), usize::from(SEATS));
    house.now = u64::try_from(found.revealUntil).unwrap() + 1;
    let one = call(account(STRANGER), house.d.jury, &Jury::settleCall { id });
    let settled = house.clone().must(one.clone());
    let slashed = settled.logs.iter().filter(|l| {
        l.address == house.d.participants && Participants::Slashed::decode_log(l).is_ok()
    });
    assert_eq!(slashed.count(), usize::from(SEATS));
    fits(&mut house, &format!("settle {SEATS}, all silent"), one);
    assert_eq!(house.owed(account(STRANGER)), fees());
}

/// What the funder of a case of the most seats has locked.
fn fees() -> U256 {
    U256::from(parameters().juror_fee * u128::from(SEATS))
}

#[test]
fn a_pool_too_large_to_draw_from_hangs_the_case_and_gives_the_money_back() {
    let (mut house, module) = courthouse();
    let mut jurors = JURORS[2];
    seatable(&mut house, 0, jurors);
    let (mut full, id) = loop {
        let mut copy = house.clone();
        let (id, draw) = drawable(&mut copy, module);
        let effect = copy.block(&[draw]).remove(0);
        if !effect.done {
            assert_eq!(effect.gas, Fork::MOVE_GAS, "refused, and not for its gas");
            break (copy, id);
        }
        jurors += STEP;
        assert!(jurors <= ENOUGH, "no limit up to {ENOUGH} jurors");
        seatable(&mut house, jurors - STEP, jurors);
    };
    assert!(jurors > JURORS[2], "what must fit does not");
    println!(
        "gas: draw {SEATS}: {} jurors fit, {jurors} do not",
        jurors - STEP
    );
    let found = full.read(full.d.jury, &Jury::getCall { id });
    assert!(found.jurors.is_empty());
    let settle = call(account(STRANGER), full.d.jury, &Jury::settleCall { id });
    full.now = u64::try_from(found.drawUntil).unwrap();
    assert_eq!(full.refused(settle.clone()), "TooEarly");
    full.now += 1;
    let stakes = full.sums()[0];
    full.must(settle);
    assert_eq!(full.owed(account(STRANGER)), fees());
    assert_eq!(full.sums()[0], stakes, "somebody paid for a hung case");
}
