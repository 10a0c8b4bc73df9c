//! What judges are asked: one jury an evidence, one punishment a matter, and what they could not get.

use alloy::primitives::{B256, U256};
use plumbline::chain::client::Ruling;
use plumbline::config::units::SOURCE_MAX;
use plumbline::role::dispute as court;
use plumbline_contracts::{State, Verdict};
use plumbline_proof::backhaul::offence;
use plumbline_trust::Address as Account;

use crate::disputes::{
    EVIDENCE, REJECTED, SALT, UNAVAILABLE, UPHELD, alive, bring, drawn, jurors, price_of_offence,
    reporter, trial, try_by, two_commits,
};
use crate::stand::{On, on_both_engines};
use crate::world::{FEE, STAKE, WINDOW, World, key, parameters, refused, tick};

on_both_engines!(
    what_a_jury_could_not_get_costs_the_reporter_and_nobody_who_said_so,
    evidence_is_judged_once_whatever_the_salt_and_again_only_if_it_was_not_judged,
    nobody_is_punished_twice_in_one_matter_by_whatever_way,
    no_number_of_worthless_disputes_keeps_a_true_one_out,
    disputes_without_end_hold_back_no_payment,
    the_source_stands_by_the_disputes_id,
    what_cannot_be_compared_with_the_chain_convicts_nobody,
);

/// A day later, with time for a second dispute after the first.
async fn with_time(on: On) -> World {
    let w = World::new(on, 5).await;
    let governor = w.chain.client(key(1)).await;
    governor.schedule("dispute_window_s", 300).await.unwrap();
    w.clock.pass(parameters().notice_s);
    tick(&w.payer).await;
    w.beat().await;
    w
}

async fn what_a_jury_could_not_get_costs_the_reporter_and_nobody_who_said_so(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let t = trial(&w, id, 5).await;
    let before = w.payer.totals().await.unwrap();
    let votes = [UNAVAILABLE, UPHELD, UNAVAILABLE, UNAVAILABLE, None];
    t.vote(&w, &votes).await;
    let p = parameters();
    let case = w.payer.case_of(t.case).await.unwrap().unwrap();
    assert_eq!(case.ruling, Ruling::Unavailable);
    for (seat, vote) in t.seats.iter().zip(votes) {
        let said_so = vote == UNAVAILABLE;
        let owed = w.payer.owed(seat.address()).await.unwrap();
        assert_eq!(owed, U256::from(if said_so { p.juror_fee } else { 0 }));
    }
    let after = w.payer.totals().await.unwrap();
    let lost = p.dispute_bond + 2 * p.juror_penalty;
    assert_eq!(after.burnt - before.burnt, U256::from(lost));
    assert_eq!(before.stake - after.stake, U256::from(2 * p.juror_penalty));
    let owed = w.payer.owed(t.reporter.address()).await.unwrap();
    assert_eq!(owed, U256::from(2 * p.juror_fee));
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass);
    // What the dispute took is added to the window.
    w.clock.pass(parameters().dispute_window_s);
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.owed(t.accused).await.unwrap(), U256::from(FEE));
    w.assert_conserved().await;
}

async fn evidence_is_judged_once_whatever_the_salt_and_again_only_if_it_was_not_judged(on: On) {
    let w = with_time(on).await;
    let id = w.reported().await;
    let jurors = jurors(&w, 7).await;
    let reporter = reporter(&w).await;
    let accused = w.coordinator.address();
    let proof = w.chain.deployment().backhaul;
    let last = || w.payer.last_dispute(proof, id, accused, EVIDENCE);
    assert_eq!(last().await.unwrap(), None);
    let mut ids = Vec::new();
    let rounds = [
        [UPHELD, UPHELD, REJECTED, REJECTED, UNAVAILABLE],
        [UNAVAILABLE; 5],
        [REJECTED; 5],
    ];
    for votes in rounds {
        let t = try_by(&w, id, &jurors).await;
        // Nobody shops for a jury: neither with another salt, nor as somebody else.
        let again = bring(&reporter, id, accused, EVIDENCE, B256::ZERO).await;
        assert_eq!(refused(again), "DisputeExists");
        let other = bring(&w.payer, id, accused, EVIDENCE, B256::ZERO).await;
        assert_eq!(refused(other), "DisputeExists");
        t.vote(&w, &votes).await;
        assert_eq!(last().await.unwrap(), Some(t.dispute));
        ids.push(t.dispute);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "each attempt has its id");
    // Once judged, never again; other evidence is another matter.
    let again = bring(&reporter, id, accused, EVIDENCE, B256::repeat_byte(1)).await;
    assert_eq!(refused(again), "DisputeExists");
    let other = B256::repeat_byte(0xe6);
    w.clock.pass(300);
    let told = refused(bring(&reporter, id, accused, other, SALT).await);
    assert_eq!(told, "DisputeWindowClosed", "only the time is over");
    w.assert_conserved().await;
}

async fn nobody_is_punished_twice_in_one_matter_by_whatever_way(on: On) {
    let w = with_time(on).await;
    let id = w.reported().await;
    let jurors = jurors(&w, 7).await;
    let t = try_by(&w, id, &jurors).await;
    t.vote(&w, &[UPHELD; 5]).await;
    let (taken, _) = price_of_offence();
    let left = U256::from(STAKE - taken);
    let stake = |who| w.payer.stake_of(who);
    assert_eq!(stake(t.accused).await.unwrap(), left);
    for (evidence, salt) in [(EVIDENCE, 1), (B256::repeat_byte(0xe6), 2)] {
        let again = bring(
            &t.reporter,
            id,
            t.accused,
            evidence,
            B256::repeat_byte(salt),
        )
        .await;
        assert_eq!(refused(again), "AlreadyPunished");
    }

    // Proven in one step while a jury is out: what the jury upholds takes nothing more.
    w.coordinator.top_up(U256::from(taken)).await.unwrap();
    w.beat().await;
    let id = w.reported().await;
    let (backhaul, prover) = (w.chain.deployment().backhaul, w.prover.address());
    alive(&jurors).await;
    let dispute = bring(&t.reporter, id, prover, EVIDENCE, SALT)
        .await
        .unwrap();
    let offence = two_commits(&w, id, &[1_600; 5], &[1_601, 1_599, 1_600, 1_600, 1_600]).encode();
    let announced = t.reporter.announce_proof(backhaul, &offence, SALT);
    announced.await.unwrap();
    t.reporter.prove(backhaul, offence, SALT).await.unwrap();
    assert_eq!(stake(prover).await.unwrap(), left);
    let second = drawn(&w, dispute, &jurors, prover).await;
    second.vote(&w, &[UPHELD; 5]).await;
    assert_eq!(stake(prover).await.unwrap(), left, "once");
    let again = bring(&t.reporter, id, prover, B256::ZERO, SALT).await;
    assert_eq!(refused(again), "AlreadyPunished");
    // And what a jury punished is not proven again.
    w.prover.top_up(U256::from(taken)).await.unwrap();
    w.beat().await;
    let id = w.reported().await;
    alive(&jurors).await;
    let dispute = bring(&t.reporter, id, prover, EVIDENCE, SALT)
        .await
        .unwrap();
    let third = drawn(&w, dispute, &jurors, prover).await;
    third.vote(&w, &[UPHELD; 5]).await;
    assert_eq!(stake(prover).await.unwrap(), left);
    let offence = two_commits(&w, id, &[1_600; 5], &[1_601, 1_599, 1_600, 1_600, 1_600]).encode();
    let announced = t.reporter.announce_proof(backhaul, &offence, SALT);
    announced.await.unwrap();
    let told = refused(t.reporter.prove(backhaul, offence, SALT).await);
    assert_eq!(told, "AlreadyPunished");
    w.assert_conserved().await;
}

/// What the guilty does to be safe: worthless evidence is judged from the first moment on, so that nobody else is heard.
async fn no_number_of_worthless_disputes_keeps_a_true_one_out(on: On) {
    let w = World::new(on, 5).await;
    let id = w.running(&w.ask()).await;
    let jurors = jurors(&w, 7).await;
    let friend = reporter(&w).await;
    let (accused, prover) = (w.coordinator.address(), w.prover.address());
    let worthless = async |number| {
        let evidence = B256::repeat_byte(number);
        bring(&friend, id, prover, evidence, SALT).await
    };
    assert_eq!(refused(worthless(1).await), "WrongState", "no result yet");
    let posted = w.submission(id, &[1_600; 5], &[WINDOW; 5]).await;
    w.coordinator.report(id, &posted).await.unwrap();
    let p = parameters();
    let mut open = vec![worthless(1).await.unwrap()];
    // Longer than the window, which stands still meanwhile.
    assert!(p.dispute_window_s < p.jury_draw_s - 1);
    w.clock.pass(p.jury_draw_s - 1);
    open.push(worthless(2).await.unwrap());
    let t = try_by(&w, id, &jurors).await;
    assert_eq!(t.accused, accused);
    t.vote(&w, &[UPHELD; 5]).await;
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Annulled);
    for dispute in open {
        assert_eq!(w.payer.state_of(id).await.unwrap(), State::Disputed);
        give_up(&w, dispute).await;
    }
    // The window goes on where it stood.
    assert_eq!(refused(w.payer.finalize(id).await), "DisputeWindowOpen");
    w.clock.pass(p.dispute_window_s);
    w.payer.finalize(id).await.unwrap();
    let owed = w.payer.owed(accused).await.unwrap();
    assert_eq!(owed, U256::ZERO, "the convicted gets no fee");
    assert_eq!(refused(worthless(3).await), "WrongState", "it is over");
    w.assert_conserved().await;
}

/// Nobody drew the jury in time.
async fn give_up(w: &World, dispute: B256) {
    let case = w.payer.dispute_of(dispute).await.unwrap().caseId;
    w.payer.settle_jury(case).await.unwrap();
    w.payer.conclude(dispute).await.unwrap();
}

/// Disputes that no jury is drawn for cost nothing, and one is always open: the payout comes all the same.
async fn disputes_without_end_hold_back_no_payment(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let reporter = reporter(&w).await;
    let p = parameters();
    let jury = p.jury_draw_s + p.jury_commit_s + p.jury_reveal_s;
    let reported_at = w.payer.result_of(id).await.unwrap().unwrap().reported_at;
    let until = reported_at + p.dispute_window_s + 2 * jury;
    let mut number = 0;
    let mut dispute = async || {
        number += 1;
        let evidence = B256::repeat_byte(number);
        bring(&reporter, id, w.prover.address(), evidence, SALT).await
    };
    let mut open: Vec<B256> = Vec::new();
    // Anvil's time goes on by itself.
    let last = until - if on == On::Embedded { 1 } else { 5 };
    while w.clock.now() < last {
        let step = (p.jury_draw_s - 1).min(last - w.clock.now());
        open.push(dispute().await.unwrap());
        w.clock.pass(step);
        if open.len() > 2 {
            give_up(&w, open.remove(0)).await;
        }
        assert_eq!(refused(w.payer.finalize(id).await), "WrongState");
    }
    open.push(dispute().await.unwrap());
    w.clock.pass(until - w.clock.now());
    assert_eq!(refused(dispute().await), "DisputeWindowClosed");
    w.clock.pass(p.jury_draw_s + 1);
    for dispute in open {
        give_up(&w, dispute).await;
    }
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.totals().await.unwrap().burnt, U256::ZERO);
    w.assert_conserved().await;
}

async fn the_source_stands_by_the_disputes_id(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let reporter = reporter(&w).await;
    let (backhaul, accused) = (w.chain.deployment().backhaul, w.coordinator.address());
    reporter
        .announce_dispute(backhaul, id, accused, EVIDENCE, SALT)
        .await
        .unwrap();
    let longest = format!("http://192.0.2.1/{}", "e".repeat(SOURCE_MAX - 17));
    let longer = format!("{longest}e");
    let refusal = reporter.dispute(backhaul, id, accused, EVIDENCE, SALT, &longer);
    assert_eq!(refused(refusal.await), "SourceTooLong");
    let brought = reporter.dispute(backhaul, id, accused, EVIDENCE, SALT, &longest);
    let (dispute, _) = brought.await.unwrap();
    let found = w.payer.dispute_of(dispute).await.unwrap();
    assert_eq!(found.source, longest);
    assert_eq!(found.evidence, EVIDENCE);
}

async fn what_cannot_be_compared_with_the_chain_convicts_nobody(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let accused = Account(w.coordinator.address().into_array());
    let (made, _) = court::make(&w.payer, id, accused, vec![0; 100])
        .await
        .unwrap();
    let mut unreadable = made.clone();
    unreadable.exhibits.push(0);
    let mut unknown = made.clone();
    unknown.proof = "weather".into();
    let said = court::posted(&w.payer, id).await.unwrap();
    let mut lower = said.clone();
    lower.lower_bps -= 1;
    let untrue = offence::accuse(id.0, accused, lower, vec![0; 100]);
    for (evidence, words) in [
        (made, "not the one that was posted"),
        (unreadable, "exhibits"),
        (unknown, "no proof named"),
        (untrue, "are others"),
    ] {
        let finding = court::judge(&w.payer, &evidence).await.unwrap();
        assert!(!finding.holds && finding.why.contains(words), "{finding:?}");
    }
}
