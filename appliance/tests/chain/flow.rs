//! A measurement, from request to withdrawal; and every way it can end.

use alloy::primitives::{B256, U256};
use plumbline::chain::client::Reported;
use plumbline::role::payer::{end, unfinished};
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::{State, Verdict};
use plumbline_trust::selection::Draw;

use crate::stand::{On, on_both_engines};
use crate::world::{CLAIM, FEE, PURSE, STAKE, WINDOW, World, parameters, refused, seeds};

on_both_engines!(
    a_true_claim_passes_and_everyone_is_paid,
    a_false_claim_fails_with_the_true_figure_and_is_paid_all_the_same,
    verdicts_turn_exactly_at_95_percent,
    what_began_early_is_credited_only_by_schedule,
    an_uplink_adds_up_and_each_is_paid_for_what_it_received,
    an_uplinks_escrow_is_enough_for_all_and_liars_raise_no_guarantee,
    what_the_evidence_does_not_decide_is_paid_and_says_nothing,
    packets_of_any_length_are_priced_and_counted_by_it,
    too_few_reports_are_inconclusive_and_count_only_themselves,
    timeout_returns_all_from_every_open_state,
    too_few_live_challengers_end_it_with_a_refund,
    a_payer_ends_what_is_due_and_waits_for_what_is_not,
    who_asked_and_died_goes_on_with_what_it_asked,
    stake_comes_back_after_the_delay,
);

/// 960 Mbit/s, 100 ms, 4 honest: 2000 packets each, 8000 in all.
const CAP: u32 = 2_000;
const PRICE_OF_PACKET: u128 = 3 * 1_500;
const ESCROW: u128 = 8_000 * PRICE_OF_PACKET + FEE;
/// Towards the prover as many count of each: 1.15 times its share.
const MOST: u32 = 2_300;
/// A packet of 1500 bytes in 100 ms, bit/s.
const PACKET: u128 = 120_000;

async fn a_true_claim_passes_and_everyone_is_paid(on: On) {
    let w = World::new(on, 7).await;
    let request = w.ask();
    let (cap, target, escrow) = w.payer.quote(&request).await.unwrap();
    assert_eq!(cap, U256::from(MOST));
    assert_eq!(target, U256::from(4 * CAP));
    assert_eq!(escrow, U256::from(ESCROW));

    let (id, requested) = w.payer.request(&request).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Created);
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), U256::from(ESCROW));
    let known = w.payer.request_of(id).await.unwrap();
    assert_eq!(known.request, request);
    assert_eq!(known.request_block, requested.block);

    w.beat().await;
    w.payer.select(id).await.unwrap();
    let drawn = w.payer.selected_event(id).await.unwrap().unwrap();
    assert_eq!(drawn.pool, 7);
    // Anyone repeats the draw.
    let draw = Draw {
        mix: drawn.beacon.0,
        id: id.0,
        pool: 7,
        n: 5,
        most: 1,
    };
    let repeated = draw.seated(&drawn.looks).unwrap();
    assert!(drawn.seated().iter().eq(repeated.iter().map(|a| &a.0)));
    assert_eq!(w.payer.selected_of(id).await.unwrap(), drawn.seated());

    let setup = B256::repeat_byte(9);
    w.coordinator.begin(id, setup).await.unwrap();
    assert_eq!(w.payer.request_of(id).await.unwrap().setup_hash, setup);
    // The last one began so early that nothing of it is sure to have come within 100 ms: it is paid all the
    // same, and the others make exactly what passes.
    let windows = [WINDOW, WINDOW, 1, WINDOW - 1, 2 * WINDOW];
    let counts = [1_900, 1_900, 1_900, 1_900, 400];
    let posted = w.submission(id, &counts, &windows).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass);
    assert_eq!(outcome.packets, 8_000);
    assert_eq!(outcome.reporters, [0, 1, 2, 3, 4]);
    assert_eq!(outcome.paid, [0, 1, 2, 3, 4]);
    let kept = counts.into_iter().zip(windows);
    let kept = kept.map(|(packets, window_us)| Reported { packets, window_us });
    assert_eq!(outcome.reports, kept.collect::<Vec<_>>());
    assert_eq!(outcome.bundle_hash, B256::repeat_byte(6));
    assert_eq!(outcome.curve, [7_600 * PACKET, 5_700 * PACKET]);
    assert_eq!(
        (outcome.lower, outcome.guaranteed),
        (7_600 * PACKET, 5_700 * PACKET)
    );
    let spans = (outcome.lower_span_us, outcome.guaranteed_span_us);
    assert_eq!(spans, (WINDOW, WINDOW));

    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Final);
    for (address, packets) in drawn.seated().iter().zip(counts) {
        let owed = w.payer.owed(*address).await.unwrap();
        assert_eq!(owed, U256::from(u128::from(packets) * PRICE_OF_PACKET));
    }
    let coordinator = w.coordinator.address();
    assert_eq!(w.payer.owed(coordinator).await.unwrap(), U256::from(FEE));
    assert_eq!(w.payer.owed(w.payer.address()).await.unwrap(), U256::ZERO);
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), U256::ZERO);

    let left = w.payer.balance(w.payer.address()).await.unwrap();
    assert_eq!(left, U256::from(PURSE) - U256::from(ESCROW));
    assert_eq!(refused(w.payer.withdraw().await), "NothingOwed");
    w.coordinator.withdraw().await.unwrap();
    assert_eq!(refused(w.coordinator.withdraw().await), "NothingOwed");
    assert_eq!(refused(w.payer.finalize(id).await), "WrongState");
    w.assert_conserved().await;
}

async fn a_false_claim_fails_with_the_true_figure_and_is_paid_all_the_same(on: On) {
    let w = World::new(on, 5).await;
    let id = w.running(&w.ask()).await;
    let counts = [480; 5];
    let mut posted = w.submission(id, &counts, &[WINDOW; 5]).await;
    posted.verdict = Verdict::Fail as u8;
    w.coordinator.report(id, &posted).await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Fail);
    assert_eq!(outcome.lower, 288_000_000);
    w.clock.pass(30);
    w.challengers[0].finalize(id).await.unwrap();
    let owed = w.payer.owed(w.challengers[0].address()).await.unwrap();
    assert_eq!(owed, U256::from(480 * PRICE_OF_PACKET));
    w.assert_conserved().await;
}

async fn verdicts_turn_exactly_at_95_percent(on: On) {
    use Verdict::{Annulled, Fail, Inconclusive, Pass};
    let w = World::new(on, 5).await;
    // lower·100 ≥ 95·claim: 8000 packets in at most 8·8000·1500·1e6 / 912e6 µs.
    let lower = 105_263;
    // guaranteed·100·(n−f) ≥ 95·claim·(n−2f): 684 Mbit/s from 6400 packets.
    let guaranteed = 112_280;
    for (spans, said, verdict) in [
        ([lower, guaranteed], Pass, Pass),
        ([lower + 1, guaranteed], Pass, Inconclusive),
        ([lower, guaranteed + 1], Pass, Inconclusive),
        // Nor does a failure stand where the figures pass.
        ([lower, guaranteed], Fail, Inconclusive),
        ([lower + 1, guaranteed], Fail, Fail),
        ([lower, guaranteed + 1], Fail, Fail),
        // Whatever else is said decides nothing.
        ([lower, guaranteed], Inconclusive, Inconclusive),
        ([lower, guaranteed], Verdict::None, Inconclusive),
        ([lower + 1, guaranteed], Annulled, Inconclusive),
    ] {
        let id = w.running(&w.ask()).await;
        let mut posted = w.submission(id, &[1_600; 5], &[WINDOW; 5]).await;
        posted.spansUs = spans.to_vec();
        posted.verdict = said as u8;
        w.coordinator.report(id, &posted).await.unwrap();
        let outcome = w.payer.result_of(id).await.unwrap().unwrap();
        assert_eq!(
            outcome.verdict, verdict,
            "{spans:?}, said {said}: {outcome:?}"
        );
        let told = (outcome.lower_span_us, outcome.guaranteed_span_us);
        assert_eq!(told, (spans[0], spans[1]));
    }
}

/// Each sends 23 packets a ms at most: what one brought in a window that is longer than the span counts without
/// those that it may have sent before, and a burst.
async fn what_began_early_is_credited_only_by_schedule(on: On) {
    let w = World::new(on, 5).await;
    let id = w.running(&w.ask()).await;
    let windows = [WINDOW, WINDOW, WINDOW + 1, WINDOW + 10_000, WINDOW + 70_000];
    let posted = w.submission(id, &[1_600; 5], &windows).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    let least = 1_600 - 8 - 230;
    let parts = [1_600, 1_600, 1_600 - 8 - 1, least];
    let sum: u128 = parts.iter().sum();
    assert_eq!(outcome.curve, [sum * PACKET, (sum - 1_600) * PACKET]);
    assert_eq!(outcome.verdict, Verdict::Inconclusive);
    assert_eq!(outcome.packets, 8_000);
}

async fn an_uplink_adds_up_and_each_is_paid_for_what_it_received(on: On) {
    let w = World::new(on, 5).await;
    let mut asked = w.ask();
    asked.direction = 1;
    let (cap, target, escrow) = w.payer.quote(&asked).await.unwrap();
    assert_eq!((cap, target), (U256::from(CAP), U256::from(5 * CAP)));
    let locked = 10_000 * PRICE_OF_PACKET + FEE;
    assert_eq!(escrow, U256::from(locked));
    let id = w.running(&asked).await;
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), escrow);
    // In 100 ms a packet of 1500 bytes is 120 kbit/s. One challenger received more than counts, one
    // is silent.
    let sent = [2_300; 5];
    let received = [2_000, 2_000, 2_000, 2_100];
    let reports = received.map(|packets| (packets, WINDOW));
    let posted = w.posted(id, &sent, &reports).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.lower, 8_100 * PACKET);
    assert_eq!(outcome.curve, [8_100 * PACKET, 6_000 * PACKET]);
    assert_eq!(outcome.guaranteed, outcome.curve[1]);
    assert_eq!(outcome.verdict, Verdict::Pass);
    assert_eq!(outcome.packets, 8_100);
    assert_eq!(outcome.paid, [0, 1, 2, 3]);
    let kept: Vec<u32> = outcome.reports.iter().map(|r| r.packets).collect();
    assert_eq!(kept, [2_000, 2_000, 2_000, 2_100, 0]);
    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    for (index, address) in (0..).zip(w.payer.selected_of(id).await.unwrap()) {
        let pay = if index < 4 {
            2_000 * PRICE_OF_PACKET
        } else {
            0
        };
        assert_eq!(w.payer.owed(address).await.unwrap(), U256::from(pay));
    }
    let rest = w.payer.owed(w.payer.address()).await.unwrap();
    assert_eq!(rest, U256::from(locked - FEE - 8_000 * PRICE_OF_PACKET));
    w.assert_conserved().await;
}

async fn an_uplinks_escrow_is_enough_for_all_and_liars_raise_no_guarantee(on: On) {
    let w = World::new(on, 5).await;
    let mut asked = w.ask();
    asked.direction = 1;
    let id = w.running(&asked).await;
    // Four received 60 % of the claim; the fifth says that it had all it was sent.
    let mut reports = [(1_200, WINDOW); 5];
    reports[2] = (9_200, 1);
    let mut posted = w.posted(id, &[9_200; 5], &reports).await;
    posted.verdict = Verdict::Fail as u8;
    w.coordinator.report(id, &posted).await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    // The four alone give the guarantee.
    assert_eq!(outcome.lower, (9_200 + 4 * 1_200) * PACKET);
    assert_eq!(outcome.guaranteed, 4 * 1_200 * PACKET);
    assert_eq!(outcome.verdict, Verdict::Fail);

    // What took longer than the span may have come outside it: none of it is sure.
    let id = w.running(&asked).await;
    reports[2] = (2_000, WINDOW + 1);
    let posted = w.posted(id, &[9_200; 5], &reports).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.curve, [4 * 1_200 * PACKET, 3 * 1_200 * PACKET]);

    let id = w.running(&asked).await;
    let reports = [(9_200, WINDOW); 5];
    let posted = w.posted(id, &[9_200; 5], &reports).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let before = w.payer.owed(w.payer.address()).await.unwrap();
    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    // Each its cap, and nothing is left.
    assert_eq!(w.payer.owed(w.payer.address()).await.unwrap(), before);
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), U256::ZERO);
    w.assert_conserved().await;
}

async fn what_the_evidence_does_not_decide_is_paid_and_says_nothing(on: On) {
    let w = World::new(on, 5).await;
    for verdict in [Verdict::Pass, Verdict::Inconclusive] {
        let id = w.running(&w.ask()).await;
        let mut posted = w.submission(id, &[1_600; 5], &[WINDOW; 5]).await;
        posted.verdict = verdict as u8;
        w.coordinator.report(id, &posted).await.unwrap();
        let outcome = w.payer.result_of(id).await.unwrap().unwrap();
        assert_eq!((outcome.lower, outcome.verdict), (CLAIM.into(), verdict));
        let challenger = w.challengers[0].address();
        let before = w.payer.owed(challenger).await.unwrap();
        w.clock.pass(30);
        w.payer.finalize(id).await.unwrap();
        // Nobody is paid for a verdict.
        let paid = w.payer.owed(challenger).await.unwrap() - before;
        assert_eq!(paid, U256::from(1_600 * 1_500 * 3));
    }
    w.assert_conserved().await;
}

async fn packets_of_any_length_are_priced_and_counted_by_it(on: On) {
    let w = World::new(on, 5).await;
    for length in [500, 1_436, 1_520, 8_988, 9_100] {
        let mut asked = w.ask();
        asked.packetBytes = length;
        let (cap, target, escrow) = w.payer.quote(&asked).await.unwrap();
        // Claim and duration are 12 MB, a fourth of it each.
        let each = 3_000_000_u32.div_ceil(length.into());
        let most = (each * 115).div_ceil(100);
        assert_eq!((cap, target), (U256::from(most), U256::from(4 * each)));
        let bytes = u128::from(length) * u128::from(4 * each);
        assert_eq!(escrow, U256::from(3 * bytes + FEE));
        let id = w.running(&asked).await;
        let counts = [each, each, each, each, 0];
        let posted = w.submission(id, &counts, &[WINDOW; 5]).await;
        w.coordinator.report(id, &posted).await.unwrap();
        let outcome = w.payer.result_of(id).await.unwrap().unwrap();
        assert_eq!(outcome.lower, 8 * 10 * bytes, "{length}");
        let before = w.payer.owed(w.coordinator.address()).await.unwrap();
        w.clock.pass(30);
        w.payer.finalize(id).await.unwrap();
        let after = w.payer.owed(w.coordinator.address()).await.unwrap();
        assert_eq!(after - before, U256::from(FEE));
        assert_eq!(w.payer.escrow_of(id).await.unwrap(), U256::ZERO);
    }
    w.assert_conserved().await;
}

async fn too_few_reports_are_inconclusive_and_count_only_themselves(on: On) {
    let w = World::new(on, 5).await;
    for (reports, verdict) in [
        (4, Verdict::Pass),
        (3, Verdict::Inconclusive),
        (0, Verdict::Inconclusive),
    ] {
        let id = w.running(&w.ask()).await;
        let counts = [2_000, 2_000, 2_000, 1_990, 10];
        let posted = w.submission(id, &counts, &vec![WINDOW; reports]).await;
        w.coordinator.report(id, &posted).await.unwrap();
        let outcome = w.payer.result_of(id).await.unwrap().unwrap();
        assert_eq!(outcome.verdict, verdict, "{reports} reports");
        let counted: u32 = counts[..reports].iter().sum();
        assert_eq!(outcome.packets, u64::from(counted));
        w.clock.pass(30);
        w.coordinator.finalize(id).await.unwrap();
        w.assert_conserved().await;
    }
    let coordinator = w.coordinator.address();
    // Only one of them had as many as say something.
    assert_eq!(w.payer.owed(coordinator).await.unwrap(), U256::from(FEE));
}

async fn timeout_returns_all_from_every_open_state(on: On) {
    let w = World::new(on, 5).await;
    let created = w.payer.request(&w.ask()).await.unwrap().0;
    let selected = w.selected(&w.ask()).await;
    let running = w.running(&w.ask()).await;
    let purse = U256::from(PURSE);
    w.clock.pass(120);
    for id in [created, selected, running] {
        assert_eq!(refused(w.prover.timeout(id).await), "DeadlineNotPassed");
    }
    w.clock.pass(1);
    for id in [created, selected, running] {
        w.prover.timeout(id).await.unwrap();
        assert_eq!(w.payer.state_of(id).await.unwrap(), State::TimedOut);
        assert_eq!(refused(w.prover.timeout(id).await), "AlreadyEnded");
    }
    w.payer.withdraw().await.unwrap();
    assert_eq!(w.payer.balance(w.payer.address()).await.unwrap(), purse);
    w.assert_conserved().await;
}

async fn a_payer_ends_what_is_due_and_waits_for_what_is_not(on: On) {
    let w = World::new(on, 7).await;
    let id = w.reported().await;
    let state = async || w.payer.state_of(id).await.unwrap();
    // The window is open: not an error, and longer until the next look.
    let soon = end(&w.payer, id, State::Disputed).await.unwrap();
    let wait = end(&w.payer, id, State::Reported).await.unwrap();
    assert!(soon < wait && state().await == State::Reported);
    w.clock.pass(parameters().dispute_window_s);
    end(&w.payer, id, State::Reported).await.unwrap();
    assert_eq!(state().await, State::Final);
    // Another did it meanwhile.
    end(&w.payer, id, State::Reported).await.unwrap();
    end(&w.payer, id, State::Running).await.unwrap();

    w.beat().await;
    let id = w.running(&w.ask()).await;
    end(&w.payer, id, State::Running).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Running);
    w.clock.pass(121);
    end(&w.payer, id, State::Running).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::TimedOut);
}

async fn too_few_live_challengers_end_it_with_a_refund(on: On) {
    let w = World::new(on, 5).await;
    w.clock.pass(60);
    // Four are fresh; the fifth heartbeat is one second too old when it is asked, and too late afterwards.
    for challenger in &w.challengers[..4] {
        challenger.beat(&seeds(challenger)).await.unwrap();
    }
    w.clock.pass(1);
    assert!(!w.payer.is_live(w.challengers[4].address()).await.unwrap());
    let (id, _) = w.payer.request(&w.ask()).await.unwrap();
    w.beat().await;
    assert!(w.payer.is_live(w.challengers[4].address()).await.unwrap());
    w.payer.select(id).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Cancelled);
    assert_eq!(w.payer.selected_event(id).await.unwrap(), None);
    let owed = w.payer.owed(w.payer.address()).await.unwrap();
    assert_eq!(owed, U256::from(ESCROW));
    w.assert_conserved().await;
}

async fn who_asked_and_died_goes_on_with_what_it_asked(on: On) {
    let w = World::new(on, 5).await;
    let (asked, me, now) = (w.ask(), w.payer.address(), w.clock.now());
    let found = async |asked: &Request, now| {
        let last = w.payer.last_request(me).await.unwrap();
        let found = unfinished(&w.payer, last, asked, now).await.unwrap();
        found.map(|asked| (last, asked))
    };
    assert_eq!(found(&asked, now).await, None);
    let none = w.payer.last_request(me).await.unwrap();
    assert_eq!(none, B256::ZERO);
    let (id, _) = w.payer.request_after(&asked, none).await.unwrap();
    // Another process of the same payer, later: the same but for its deadline.
    let mut again = asked.clone();
    again.deadline += 7;
    let told = refused(w.payer.request_after(&again, none).await);
    assert_eq!(told, "AskedMeanwhile");
    assert_eq!(found(&again, now).await, Some((id, asked.clone())));
    // Another question, or one that is too late for an answer, is asked.
    let mut other = again.clone();
    other.claimBps -= 1;
    assert_eq!(found(&other, now).await, None);
    assert_eq!(
        found(&again, asked.deadline).await,
        Some((id, asked.clone()))
    );
    assert_eq!(found(&again, asked.deadline + 1).await, None);
    let (second, _) = w.payer.request(&other).await.unwrap();
    assert_ne!(second, id);
    // Nor is gone on with what has ended.
    w.clock.pass(128);
    w.payer.timeout(second).await.unwrap();
    assert_eq!(found(&other, now).await, None);
}

async fn stake_comes_back_after_the_delay(on: On) {
    let w = World::new(on, 1).await;
    let leaver = &w.challengers[0];
    assert_eq!(refused(leaver.reclaim().await), "NotLeaving");
    leaver.leave().await.unwrap();
    assert!(!w.payer.is_live(leaver.address()).await.unwrap());
    assert_eq!(refused(leaver.leave().await), "NotRegistered");
    w.clock.pass(parameters().unbonding_s - 1);
    assert_eq!(refused(leaver.reclaim().await), "StillBonded");
    w.clock.pass(1);
    leaver.reclaim().await.unwrap();
    assert_eq!(leaver.participant(leaver.address()).await.unwrap(), None);
    assert_eq!(w.payer.participants().await.unwrap().len(), 2);
    assert_eq!(
        leaver.owed(leaver.address()).await.unwrap(),
        U256::from(STAKE)
    );
    leaver.withdraw().await.unwrap();
    let purse = U256::from(PURSE);
    assert_eq!(leaver.balance(leaver.address()).await.unwrap(), purse);
    w.assert_conserved().await;
}
