//! A wrong report, and one whose author is convicted, take away nothing but themselves.

// Draws are cut to what they stand for.
#![allow(clippy::cast_possible_truncation)]

use alloy::primitives::{Address, B256, Bytes, U256};
use alloy::signers::SignerSync;
use alloy::sol_types::{SolCall, SolError, SolEventInterface};
use plumbline::chain::client::{Outcome, Sent};
use plumbline_contracts::abi::backhaul::Backhaul::{self, BackhaulEvents};
use plumbline_contracts::abi::backhaul::IBackhaul::Submission;
use plumbline_contracts::{Timing, Verdict, domain, recover_commit, recover_report, report_digest};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::disputes::{SALT, reporter, two_commits, two_reports};
use crate::stand::{On, on_both_engines};
use crate::world::{CLAIM, STAKE, WINDOW, World, refused};

on_both_engines!(
    each_flaw_is_named_and_costs_only_its_report,
    a_convicted_challengers_report_is_taken_out_of_the_result,
    with_too_few_left_or_a_guilty_prover_the_result_says_nothing,
    who_is_guilty_before_the_result_is_not_in_it,
);

/// Counts that pass with everyone, and without the last.
const COUNTS: [u32; 5] = [1_900, 1_900, 1_900, 1_900, 400];
/// A packet of 1500 bytes in 100 ms, bit/s.
const PACKET: u128 = 120_000;

/// Half the order of the group: the highest s.
const HALF: &str = "0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";

async fn outcome(w: &World, id: B256) -> Outcome {
    w.payer.result_of(id).await.unwrap().unwrap()
}

/// The events of this contract in the block of `sent`.
async fn events(w: &World, sent: Sent) -> Vec<BackhaulEvents> {
    let block = format!("{:#x}", sent.block);
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_getLogs", "params": [{
        "address": w.chain.deployment().backhaul, "fromBlock": block, "toBlock": block }] });
    let answer = w.chain.rpc(request).await;
    let logs: Vec<alloy::rpc::types::Log> =
        serde_json::from_value(answer["result"].clone()).unwrap();
    let known = logs
        .iter()
        .map(|log| BackhaulEvents::decode_log(&log.inner));
    known.map(|event| event.unwrap().data).collect()
}

/// Posts it; which reports were passed over, and why.
async fn post(w: &World, id: B256, posted: &Submission) -> Vec<(u16, u8)> {
    let sent = w.coordinator.report(id, posted).await.unwrap();
    let skipped = events(w, sent).await.into_iter().filter_map(|e| match e {
        BackhaulEvents::ReportSkipped(e) => Some((e.index, e.reason)),
        _ => None,
    });
    skipped.collect()
}

async fn each_flaw_is_named_and_costs_only_its_report(on: On) {
    let w = World::new(on, 5).await;
    type Bend = fn(&mut Submission);
    #[allow(clippy::type_complexity)]
    let cases: [(&[(u16, u8)], &[u16], Bend); 12] = [
        (&[], &[0, 1, 2, 3, 4], |_| ()),
        (&[(5, 1)], &[0, 1, 2, 3], |s| s.reports[4].index = 5),
        (&[(u16::MAX, 1)], &[1, 2, 3, 4], |s| {
            s.reports[0].index = u16::MAX
        }),
        // One that is high and wrong keeps nobody out after it.
        (&[(4, 5), (4, 3)], &[0, 1, 2, 3], |s| {
            s.reports[4].packets += 1;
            let mut junk = s.reports[4].clone();
            junk.packets -= 1;
            junk.signature = vec![1; 65].into();
            s.reports.insert(0, junk);
        }),
        (&[(0, 2)], &[1, 2, 3, 4], |s| s.reports.swap(0, 1)),
        (&[(1, 2)], &[0, 1, 2, 3, 4], |s| {
            s.reports.insert(2, s.reports[1].clone())
        }),
        (&[(3, 3)], &[0, 1, 2, 4], |s| s.reports[3].packets -= 1),
        (&[(2, 4)], &[0, 1, 3, 4], |s| s.reports[2].windowUs = 0),
        (&[(2, 5)], &[0, 1, 3, 4], |s| s.reports[2].windowUs += 1),
        (&[(0, 5)], &[1, 2, 3, 4], |s| {
            s.reports[0].signature = s.reports[1].signature.clone()
        }),
        (&[(1, 5)], &[0, 2, 3, 4], |s| {
            s.reports[1].signature = Bytes::new()
        }),
        (&[(0, 5), (2, 5)], &[1, 3, 4], |s| {
            s.reports[0].signature = vec![0; 65].into();
            s.reports[2].signature = vec![9; 10_000].into();
        }),
    ];
    for (case, (skipped, paid, bend)) in (1..).zip(cases) {
        let id = w.running(&w.ask()).await;
        let mut posted = w.submission(id, &COUNTS, &[WINDOW; 5]).await;
        bend(&mut posted);
        assert_eq!(post(&w, id, &posted).await, skipped, "case {case}");
        let found = outcome(&w, id).await;
        assert_eq!(
            (&found.paid[..], &found.reporters[..]),
            (paid, paid),
            "case {case}"
        );
        let counts = paid.iter().map(|i| u128::from(COUNTS[usize::from(*i)]));
        let sum: u128 = counts.clone().sum();
        assert_eq!(found.lower, sum * PACKET, "case {case}");
        assert_eq!(found.guaranteed, (sum - counts.max().unwrap()) * PACKET);
        let passes = found.lower * 100 >= 95 * u128::from(CLAIM) && paid.len() >= 4;
        let verdict = if passes {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        };
        assert_eq!(found.verdict, verdict, "case {case}");
        w.clock.pass(30);
        w.coordinator.finalize(id).await.unwrap();
        w.assert_conserved().await;
    }
    // Of the uplink a report may be of less than was sent, and not of more.
    let mut asked = w.ask();
    asked.direction = 1;
    let id = w.running(&asked).await;
    let reports = [1_999, 2_000, 2_001, 0, 2_000].map(|packets| (packets, WINDOW));
    let posted = w.posted(id, &[2_000; 5], &reports).await;
    assert_eq!(post(&w, id, &posted).await, [(2, 3)]);
    assert_eq!(outcome(&w, id).await.paid, [0, 1, 3, 4]);
}

/// Whatever one of them says, the result is the one without its report.
#[tokio::test]
async fn one_arbitrary_report_gives_the_result_without_it() {
    let w = World::new(On::Embedded, 5).await;
    let mut chance = Chance::new(11);
    for _ in 0..40 {
        let counts = COUNTS.map(|c| c - chance.below(300) as u32);
        let windows = [0; 5].map(|_: u32| 90_000 + chance.below(20_000) as u32);
        let spans = vec![
            85_000 + chance.below(30_000) as u32,
            85_000 + chance.below(30_000) as u32,
        ];
        let odd = chance.below(5) as usize;
        let mut asked = w.ask();
        asked.direction = chance.below(2) as u8;
        let id = w.running(&asked).await;
        let mut posted = w.submission(id, &counts, &windows).await;
        posted.spansUs.clone_from(&spans);
        let report = &mut posted.reports[odd];
        // Junk in one place or in all; what it says by chance truly is left out.
        let (all, honest) = (chance.percent(30), report.clone());
        for place in 0..4 {
            if all || chance.below(4) == place {
                match place {
                    0 => report.index = chance.next() as u16,
                    1 => report.windowUs = (chance.next() as u32) >> chance.below(32),
                    2 => report.packets = (chance.next() as u32) >> chance.below(32),
                    _ => {
                        let length = *chance.pick(&[0, 1, 64, 65, 66, 300]).unwrap();
                        report.signature = (0..length)
                            .map(|_| chance.next() as u8)
                            .collect::<Vec<_>>()
                            .into();
                    }
                }
            }
        }
        if *report == honest {
            report.signature = Bytes::new();
        }
        assert_eq!(post(&w, id, &posted).await.len(), 1);
        let with = outcome(&w, id).await;

        let id = w.running(&asked).await;
        let mut posted = w.submission(id, &counts, &windows).await;
        posted.spansUs = spans;
        posted.reports.remove(odd);
        assert_eq!(post(&w, id, &posted).await, []);
        let without = outcome(&w, id).await;
        let told = |o: &Outcome| {
            (
                o.verdict,
                o.curve.clone(),
                o.lower,
                o.guaranteed,
                o.packets,
                o.paid.clone(),
                o.reports.clone(),
            )
        };
        assert_eq!(told(&with), told(&without));
    }
}

/// Convicts the challenger at `index` in one step; the verdict that is told then, if it is a new one.
async fn convict(w: &World, id: B256, index: u16) -> Option<u8> {
    let evidence = two_reports(w, id, index, [WINDOW, 90_000]).await.encode();
    prove(w, evidence).await
}

async fn prove(w: &World, evidence: Bytes) -> Option<u8> {
    let backhaul = w.chain.deployment().backhaul;
    let reporter = reporter(w).await;
    let announced = reporter.announce_proof(backhaul, &evidence, SALT).await;
    announced.unwrap();
    let sent = reporter.prove(backhaul, evidence, SALT).await.unwrap();
    events(w, sent).await.into_iter().find_map(|e| match e {
        BackhaulEvents::Recomputed(e) => Some(e.verdict),
        _ => None,
    })
}

async fn a_convicted_challengers_report_is_taken_out_of_the_result(on: On) {
    let w = World::new(on, 5).await;
    // Pass with and without it; Pass only with it; Fail; nothing before and nothing after. A span that is
    // shorter than the windows, so that windows count again too.
    for (index, said, now) in [
        (4, Verdict::Pass, Verdict::Pass),
        (0, Verdict::Pass, Verdict::Inconclusive),
        (1, Verdict::Fail, Verdict::Fail),
        (3, Verdict::Inconclusive, Verdict::Inconclusive),
    ] {
        let id = w.running(&w.ask()).await;
        let long = if said == Verdict::Fail { 10_000 } else { 0 };
        let mut posted = w.submission(id, &COUNTS, &[WINDOW + long; 5]).await;
        posted.verdict = said as u8;
        post(&w, id, &posted).await;
        let before = outcome(&w, id).await;
        assert_eq!(before.verdict, said);
        w.challenger(w.payer.selected_of(id).await.unwrap()[usize::from(index)])
            .top_up(U256::from(STAKE))
            .await
            .unwrap();
        assert_eq!(convict(&w, id, index).await, Some(now as u8));
        let after = outcome(&w, id).await;
        assert_eq!(after.verdict, now);

        // As if it had not reported.
        let again = w.running(&w.ask()).await;
        let mut posted = w.submission(again, &COUNTS, &[WINDOW + long; 5]).await;
        posted.verdict = said as u8;
        posted.reports.remove(usize::from(index));
        post(&w, again, &posted).await;
        let without = outcome(&w, again).await;
        let told = |o: &Outcome| (o.verdict, o.lower, o.guaranteed, o.packets, o.paid.clone());
        assert_eq!(told(&after), told(&without));
        assert!(after.lower < before.lower);
        assert_eq!(after.curve, before.curve, "as it was posted");

        let guilty = w.payer.selected_of(id).await.unwrap()[usize::from(index)];
        let owed = w.payer.owed(guilty).await.unwrap();
        w.clock.pass(30);
        w.payer.finalize(id).await.unwrap();
        assert_eq!(w.payer.owed(guilty).await.unwrap(), owed);
        w.assert_conserved().await;
        w.beat().await;
    }
}

async fn with_too_few_left_or_a_guilty_prover_the_result_says_nothing(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    assert!(convict(&w, id, 0).await.is_some());
    assert_eq!(convict(&w, id, 1).await, None);
    let found = outcome(&w, id).await;
    assert_eq!(
        (found.verdict, &found.paid[..]),
        (Verdict::Annulled, &[2, 3, 4][..])
    );
    // Nothing brings it back.
    assert_eq!(convict(&w, id, 2).await, None);
    assert_eq!(outcome(&w, id).await.verdict, Verdict::Annulled);
    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    w.assert_conserved().await;

    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let evidence = two_commits(&w, id, &[1_600; 5], &[1_601, 1_599, 1_600, 1_600, 1_600]);
    assert_eq!(prove(&w, evidence.encode()).await, None);
    let found = outcome(&w, id).await;
    assert_eq!(found.verdict, Verdict::Annulled);
    assert_eq!(found.paid, [0, 1, 2, 3, 4]);
}

async fn who_is_guilty_before_the_result_is_not_in_it(on: On) {
    let w = World::new(on, 5).await;
    for (guilty, verdict) in [(&[4][..], Verdict::Pass), (&[1, 4], Verdict::Annulled)] {
        let id = w.running(&w.ask()).await;
        for index in guilty {
            let who = w.payer.selected_of(id).await.unwrap()[usize::from(*index)];
            w.challenger(who).top_up(U256::from(STAKE)).await.unwrap();
            assert_eq!(convict(&w, id, *index).await, None);
        }
        let posted = w.submission(id, &COUNTS, &[WINDOW; 5]).await;
        post(&w, id, &posted).await;
        let found = outcome(&w, id).await;
        assert_eq!(found.verdict, verdict);
        assert_eq!(found.reporters, [0, 1, 2, 3, 4]);
        assert!(guilty.iter().all(|index| !found.paid.contains(index)));
        if verdict == Verdict::Pass {
            assert_eq!((found.lower, found.packets), (7_600 * PACKET, 7_600));
        }
        w.clock.pass(30);
        w.payer.finalize(id).await.unwrap();
        w.assert_conserved().await;
        w.beat().await;
    }
}

/// A signature of this digest with its s from the upper half, which names the same signer to who allows it.
fn twin(signature: &[u8]) -> Bytes {
    let half: U256 = HALF.parse().unwrap();
    let order = half + half + U256::ONE;
    let s = order - U256::from_be_slice(&signature[32..64]);
    let v = 27 + 28 - signature[64];
    [&signature[..32], &s.to_be_bytes::<32>(), &[v]]
        .concat()
        .into()
}

/// One that is whole, and everything that is wrong with others.
fn bent(good: &[u8], chance: &mut Chance) -> Vec<Bytes> {
    let half: U256 = HALF.parse().unwrap();
    let order = half + half + U256::ONE;
    let mut list = vec![
        good.to_vec(),
        Vec::new(),
        vec![0; 64],
        vec![0; 65],
        vec![255; 65],
        good[..64].to_vec(),
        [good, &[0]].concat(),
        twin(good).to_vec(),
    ];
    for v in [0, 1, 2, 26, 27, 28, 29, 35, 255] {
        list.push([&good[..64], &[v]].concat());
    }
    for word in [
        U256::ZERO,
        U256::ONE,
        half,
        half + U256::ONE,
        order - U256::ONE,
        order,
        U256::MAX,
    ] {
        let word = word.to_be_bytes::<32>();
        for v in [27, 28] {
            list.push([&word[..], &good[32..64], &[v]].concat());
            list.push([&good[..32], &word[..], &[v]].concat());
        }
    }
    for _ in 0..60 {
        let mut one = good.to_vec();
        one[chance.below(65) as usize] ^= 1 << chance.below(8);
        list.push(one);
        let mut junk: Vec<u8> = (0..64).map(|_| chance.next() as u8).collect();
        junk.push(27 + chance.below(2) as u8);
        list.push(junk);
    }
    list.into_iter().map(Bytes::from).collect()
}

/// What the contract answers to `report`, tried: the data of the refusal.
async fn tried(w: &World, id: B256, posted: &Submission) -> Value {
    let call = Backhaul::reportCall {
        id,
        posted: posted.clone(),
    };
    let data = Bytes::from(call.abi_encode());
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [
        { "from": w.coordinator.address(), "to": w.chain.deployment().backhaul, "data": data }, "latest"] });
    w.chain.rpc(request).await["error"]["data"].take()
}

#[tokio::test]
async fn the_door_and_the_contract_see_the_same_signer() {
    let w = World::new(On::Embedded, 5).await;
    let d = w.chain.deployment();
    let domain = domain(d.chain_id, d.backhaul);
    let mut chance = Chance::new(5);
    let id = w.running(&w.ask()).await;
    let good = w.submission(id, &COUNTS, &[WINDOW; 5]).await;
    let (mut nobody, mut somebody) = (0, 0);
    for signature in bent(&good.proverSignature, &mut chance) {
        let seen = recover_commit(
            &domain,
            id,
            0,
            8_000,
            &COUNTS,
            good.responseHash,
            &signature,
        );
        let mut posted = good.clone();
        posted.proverSignature = signature;
        let told = tried(&w, id, &posted).await;
        if seen == Some(w.prover.address()) {
            assert_eq!(told, Value::Null);
            continue;
        }
        let told: Bytes = serde_json::from_value(told).unwrap();
        let told = Backhaul::CommitSignatureInvalid::abi_decode(&told).unwrap();
        assert_eq!(
            told.recovered,
            seen.unwrap_or(Address::ZERO),
            "{:?}",
            posted.proverSignature
        );
        nobody += u32::from(seen.is_none());
        somebody += u32::from(seen.is_some());
    }
    assert!(nobody > 20 && somebody > 20, "{nobody} {somebody}");

    // Of a report the contract says only whether it counts: several wrong ones and a good one a submission.
    let selected = w.payer.selected_of(id).await.unwrap();
    let signed = |index: u16| {
        let timing = Timing {
            index,
            window_us: WINDOW,
            packets: COUNTS[usize::from(index)],
        };
        let digest = report_digest(&domain, id, 0, timing, good.responseHash);
        let signer = w.challenger(selected[usize::from(index)]).signer();
        (timing, signer.sign_hash_sync(&digest).unwrap().as_bytes())
    };
    let mut posted = good.clone();
    posted.reports.clear();
    let mut counted = Vec::new();
    for index in 0..5 {
        let (timing, whole) = signed(index);
        let mut list = bent(&whole, &mut chance);
        list.rotate_left(1);
        for signature in list {
            let seen = recover_report(&domain, id, 0, timing, good.responseHash, &signature);
            let mut one = good.reports[usize::from(index)].clone();
            one.signature = signature;
            posted.reports.push(one);
            counted.push(seen == Some(selected[usize::from(index)]));
        }
    }
    let skipped = post(&w, id, &posted).await;
    // The same signature comes twice: with its own v once more. The second is a double.
    let passed = posted.reports.len() - skipped.len();
    assert_eq!(passed, 5);
    let signatures = skipped.iter().filter(|(_, reason)| *reason == 5).count();
    let doubles = skipped.iter().filter(|(_, reason)| *reason == 2).count();
    let good = counted.iter().filter(|good| **good).count();
    assert!(good >= 5 && doubles > 0);
    assert_eq!(signatures + doubles + passed, counted.len());
    assert_eq!(outcome(&w, id).await.paid, [0, 1, 2, 3, 4]);
    assert!(refused(w.coordinator.report(id, &posted).await) == "WrongState");
}
