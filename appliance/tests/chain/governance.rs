//! Chain variables change with notice, for what begins later; modules come with notice and go without
//! taking money with them.

use alloy::primitives::{Address, U256};
use plumbline::chain::ChainClient;
use plumbline_contracts::State;

use crate::stand::{On, on_both_engines};
use crate::world::{CLAIM, FEE, World, key, parameters, refused, tick};

on_both_engines!(
    a_change_holds_after_its_notice_and_only_for_what_begins_later,
    what_a_governor_cannot_do_is_refused_by_name,
    a_retired_proof_begins_nothing_and_pays_out_all,
    a_deadline_must_leave_time_for_a_dispute_before_stakes_are_gone,
);

async fn governor(w: &World) -> ChainClient {
    w.chain.client(key(1)).await
}

async fn a_change_holds_after_its_notice_and_only_for_what_begins_later(on: On) {
    let w = World::new(on, 5).await;
    let governor = governor(&w).await;
    let name = "coordinator_fee";
    assert_eq!(w.payer.variable(name).await.unwrap(), U256::from(FEE));
    let before = w.reported().await;
    let scheduled = w.clock.now();
    governor.schedule(name, 500).await.unwrap();
    let notice = parameters().notice_s;
    let at = |time| w.payer.variable_at(name, time);
    assert_eq!(at(scheduled + notice - 1).await.unwrap(), U256::from(FEE));
    assert_eq!(at(scheduled + notice).await.unwrap(), U256::from(500));
    let history = w.payer.history_of(name).await.unwrap();
    assert_eq!(history.len(), 2);
    assert_eq!((history[0].from, history[1].from), (0, scheduled + notice));

    w.clock.pass(notice);
    tick(&w.payer).await;
    assert_eq!(w.payer.variable(name).await.unwrap(), U256::from(500));
    w.payer.finalize(before).await.unwrap();
    let coordinator = w.coordinator.address();
    let owed = || w.payer.owed(coordinator);
    assert_eq!(owed().await.unwrap(), U256::from(FEE), "asked before");
    w.beat().await;
    let after = w.reported().await;
    w.clock.pass(30);
    w.payer.finalize(after).await.unwrap();
    assert_eq!(owed().await.unwrap(), U256::from(FEE + 500), "asked after");
    w.assert_conserved().await;
}

async fn what_a_governor_cannot_do_is_refused_by_name(on: On) {
    let w = World::new(on, 0).await;
    let governor = governor(&w).await;
    let stranger = &w.payer;
    let name = "unbonding_s";
    let told = refused(stranger.schedule(name, 5).await);
    assert_eq!(told, "OwnableUnauthorizedAccount");
    assert_eq!(refused(governor.schedule(name, 0).await), "OutOfBounds");
    let year = 365 * 86_400;
    let told = refused(governor.schedule(name, year + 1).await);
    assert_eq!(told, "OutOfBounds");
    governor.schedule(name, year).await.unwrap();
    let told = refused(governor.schedule("no_such_thing", 1).await);
    assert_eq!(told, "UnknownVariable");
    let told = refused(stranger.admit("mine", Address::repeat_byte(5)).await);
    assert_eq!(told, "OwnableUnauthorizedAccount");
    let vault = w.chain.deployment().vault;
    assert_eq!(refused(governor.retire(vault).await), "NotAdmitted");
    let known = parameters().variables().len();
    assert_eq!(w.payer.variables().await.unwrap().len(), known);
}

async fn a_retired_proof_begins_nothing_and_pays_out_all(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let backhaul = w.chain.deployment().backhaul;
    governor(&w).await.retire(backhaul).await.unwrap();
    assert_eq!(refused(w.payer.request(&w.ask()).await), "NotAModule");
    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Final);
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), U256::ZERO);
    w.coordinator.withdraw().await.unwrap();
    w.assert_conserved().await;
    let told = refused(governor(&w).await.admit("backhaul", backhaul).await);
    assert_eq!(told, "AlreadyAdmitted");
}

async fn a_deadline_must_leave_time_for_a_dispute_before_stakes_are_gone(on: On) {
    let w = World::new(on, 0).await;
    let p = parameters();
    let jury = p.jury_draw_s + p.jury_commit_s + p.jury_reveal_s;
    let trial = p.dispute_window_s + 3 * jury;
    let bound = p.unbonding_s - trial - 2 * p.seed_answer_s;
    let mut request = w.ask();
    request.deadline = w.clock.now() + bound + 1;
    assert_eq!(refused(w.payer.request(&request).await), "DeadlineTooFar");
    request.deadline -= 1;
    assert_eq!(request.claimBps, CLAIM);
    w.payer.request(&request).await.unwrap();
}
