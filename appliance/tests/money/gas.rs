//! The largest cases fit a transaction: nobody can make a house so full that it stands still.
//!
//! Gas, not time: it is the same on every machine. What a draw costs does not grow with the pool: it is measured for
//! pools of very different sizes, the largest of 100,000 (`PLUMBLINE_FULL=1`, else of 10,000), each of whom
//! registered and sent a heartbeat.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::sol_types::{SolEvent, SolValue};
use plumbline::chain::client::{Offence, role};
use plumbline::chain::{Fork, Move};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::IBackhaul::{SignedReport, Submission, Timing as Posted};
use plumbline_contracts::abi::disputes::Disputes;
use plumbline_contracts::abi::jury::Jury;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::registry::Registry;
use plumbline_contracts::deploy::short;
use plumbline_contracts::{
    Parameters, Ruling, Timing, Verdict, commit_digest, domain, report_digest,
};

use crate::house::{House, account, call, key, registration, request};
use crate::stage::parameters;

/// Most challengers of one measurement.
const MOST: u16 = 64;
/// Challengers in the larger pool.
const POOL: usize = 500;
/// Jurors in the pools whose draw must fit.
const JURORS: [usize; 2] = [100, 1_000];
/// What a draw of challengers may take, beside what each seat may.
const SELECT: (u64, u64) = (300_000, 36_000);
/// Largest transaction that every chain takes (EIP-7825), less the quarter that clients add to an estimate.
const EVERYWHERE: u64 = (1 << 24) / 5 * 4;
/// Longest endpoint of a participant, bytes.
const LONGEST: usize = 256;
/// Participants that a client reads at once.
const PAGE: usize = 128;
/// Most seats of a jury: the bound of the chain variable.
const SEATS: u16 = 63;
/// Most accounts kept from a jury.
const EXCLUDED: usize = 96;
/// Where the crowd begins among the accounts.
const FIRST: usize = 1_000;
/// Where those begin who are kept from a jury.
const KEPT_OUT: usize = 10_000;
const PARTIES: [usize; 3] = [10, 20, 21];
const STRANGER: usize = 50;

/// Does it, prints what it took, and gives that.
fn takes(house: &mut House, what: &str, one: Move) -> u64 {
    let effect = house.must(one);
    println!("gas: {what:56} {:>10} of {}", effect.gas, Fork::MOVE_GAS);
    effect.gas
}

/// The same, with the quarter that clients add.
fn fits(house: &mut House, what: &str, one: Move) -> u64 {
    let gas = takes(house, what, one);
    assert!(gas < EVERYWHERE, "{what} takes {gas} of {EVERYWHERE}");
    gas
}

/// A request for `n`, and a round that closes its draw: by two operators, two blocks later.
fn ask(house: &mut House, n: u16) -> B256 {
    let [payer, prover, coordinator] = PARTIES.map(account);
    let asked = request((payer, prover, coordinator), n, house.now + 500);
    let last = house.read(house.d.backhaul, &Backhaul::lastOfCall { payer });
    house.must(call(
        payer,
        house.d.backhaul,
        &Backhaul::requestCall { asked, last },
    ));
    round(house);
    house.read(house.d.backhaul, &Backhaul::lastOfCall { payer })
}

fn round(house: &mut House) {
    for i in FIRST..FIRST + 2 {
        house.must(house.beat(i));
    }
}

/// Draws `n` challengers; within what that may take, however large the pool. Its id.
fn select(house: &mut House, n: u16, pool: usize) -> B256 {
    let id = ask(house, n);
    let one = call(
        account(STRANGER),
        house.d.backhaul,
        &Backhaul::selectCall { id },
    );
    let gas = takes(house, &format!("select {n} from a pool of {pool}"), one);
    let most = SELECT.0 + SELECT.1 * u64::from(n);
    assert!(gas <= most, "{gas} of {most}");
    let call = Backhaul::selectedOfCall { id };
    assert_eq!(house.read(house.d.backhaul, &call).len(), usize::from(n));
    id
}

/// Payer, prover and coordinator.
fn parties(house: &mut House) {
    let roles = [role::PAYER, role::PROVER, role::COORDINATOR];
    for (i, roles) in PARTIES.into_iter().zip(roles) {
        house.join(account(i), roles, 2_000);
    }
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
    parties(&mut house);
    let coordinator = PARTIES[2];
    for one in house.purse(account(STRANGER)) {
        house.must(one);
    }
    house.crowd(FIRST..FIRST + POOL, role::CHALLENGER, 2_000);
    let to = house.d.backhaul;
    let id = select(&mut house, MOST, POOL);

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
        // The longest.
        source: "u".repeat(256),
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

/// What drawing costs does not depend on the pool.
#[test]
fn challengers_are_drawn_from_a_very_large_pool_for_as_little() {
    let full = std::env::var("PLUMBLINE_FULL").is_ok_and(|v| v == "1");
    let large = if full { 100_000 } else { 10_000 };
    let mut house = House::new(parameters());
    parties(&mut house);
    let mut size = 0;
    for pool in [100, large] {
        house.crowd(FIRST + size..FIRST + pool, role::CHALLENGER, 2_000);
        size = pool;
        for n in [1, 5, MOST] {
            select(&mut house, n, pool);
        }
    }
}

/// Opens a case that keeps out as many as can be; what it took.
/// What a client reads at once fits the gas of a call, with the longest endpoints.
#[test]
fn a_page_of_participants_is_read_within_a_calls_gas() {
    let mut house = House::new(parameters());
    let participants = house.d.participants;
    for i in FIRST..FIRST + PAGE {
        let who = account(i);
        let mut moves = house.purse(who).to_vec();
        let mut joining = registration(who, role::CHALLENGER, 2_000);
        joining.endpoint = "e".repeat(LONGEST);
        moves.push(call(who, participants, &joining));
        assert!(house.block(&moves).iter().all(|e| e.done));
    }
    let (offset, limit) = (U256::ZERO, U256::from(PAGE));
    let page = Participants::listCall { offset, limit };
    let one = call(account(STRANGER), participants, &page);
    // As a transaction: a view says no gas.
    let read = house.read(participants, &page);
    assert_eq!(read.len(), PAGE);
    assert!(read.iter().all(|p| p.endpoint.len() == LONGEST));
    fits(&mut house, &format!("read {PAGE} participants"), one);
}

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
    round(house);
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
    house.crowd(KEPT_OUT..KEPT_OUT + EXCLUDED, role::PAYER, 2_000);
    (house, module)
}

#[test]
fn a_jury_of_the_most_seats_from_a_large_pool_fits() {
    let (mut house, module) = courthouse();
    let mut size = 0;
    let mut last = None;
    for pool in JURORS {
        // One ticket each: of every eight that are looked at one is taken.
        house.crowd(
            FIRST + size..FIRST + pool,
            role::JUROR,
            parameters().min_stake,
        );
        size = pool;
        let mut copy = house.clone();
        let (id, draw) = drawable(&mut copy, module);
        let gas = takes(
            &mut copy,
            &format!("draw {SEATS} from {pool} jurors, one ticket each"),
            draw,
        );
        assert!(gas < EVERYWHERE, "{gas} of {EVERYWHERE}");
        last = Some((copy, id));
    }
    let opened = open_case(&mut house.clone(), module).1;
    println!("gas: open a case that keeps out {EXCLUDED}: {opened}");
    assert!(opened < EVERYWHERE);

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

/// Whoever fills a pool with those who are not there makes draws hang, and nothing else.
#[test]
fn a_pool_of_which_too_few_are_live_hangs_the_case_and_gives_the_money_back() {
    let (mut house, module) = courthouse();
    house.crowd(
        FIRST..FIRST + JURORS[1],
        role::JUROR,
        parameters().min_stake,
    );
    house.now += parameters().live_interval_s + 1;
    // Two of them are back, too few for a jury.
    round(&mut house);
    let (id, draw) = drawable(&mut house, module);
    let stakes = house.sums()[0];
    let gas = takes(&mut house, &format!("draw {SEATS} in vain"), draw);
    assert!(gas < EVERYWHERE, "{gas} of {EVERYWHERE}");
    let found = house.read(house.d.jury, &Jury::getCall { id });
    assert!(found.jurors.is_empty());
    assert_eq!(found.ruling, Ruling::Hung as u8);
    assert_eq!(house.owed(account(STRANGER)), fees());
    assert_eq!(house.sums()[0], stakes, "somebody paid for a hung case");
}
