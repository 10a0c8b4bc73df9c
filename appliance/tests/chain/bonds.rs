//! The bond for withheld seeds: who is named by whom and when, what answers, and what it costs.

use alloy::primitives::{Address, B256, U256};
use alloy::signers::SignerSync;
use plumbline::chain::ChainClient;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::{Answer, State, begin_digest, domain};
use plumbline_proof::backhaul::record::seed_hash;

use crate::stand::{On, on_both_engines};
use crate::world::{SEED_BOND, STAKE, WINDOW, World, parameters, refused, seeds};

on_both_engines!(
    who_withholds_loses_its_bond_and_is_in_no_draw_until_it_is_there_again,
    who_gives_its_seed_loses_nothing_whoever_named_it,
    only_its_coordinator_names_once_and_only_what_was_signed_and_is_missing,
    nobody_is_named_before_it_is_over_nor_long_afterwards,
    an_answer_counts_to_the_last_second_and_a_bond_falls_due_after_it,
    no_loss_touches_the_least_stake,
    who_leaves_answers_as_long_as_its_stake_is_bound,
);

const SEED: B256 = B256::repeat_byte(0x5e);
/// The one that says nothing.
const SILENT: u16 = 2;

fn answer_s() -> u64 {
    parameters().seed_answer_s
}

/// A measurement whose result is on record, without the silent one's report.
async fn reported(w: &World) -> B256 {
    let id = w.running(&w.ask()).await;
    report(w, id).await;
    id
}

async fn report(w: &World, id: B256) {
    let mut posted = w.submission(id, &[1_600; 5], &[WINDOW; 5]).await;
    posted.reports.remove(usize::from(SILENT));
    w.coordinator.report(id, &posted).await.unwrap();
}

async fn drawn(w: &World, id: B256, index: u16) -> &ChainClient {
    let selected = w.payer.selected_of(id).await.unwrap();
    w.challenger(selected[usize::from(index)])
}

/// What a challenger signed when it was ready.
fn begin(w: &World, by: &ChainClient, id: B256, index: u16, seed: B256) -> (B256, Vec<u8>) {
    let d = w.chain.deployment();
    let hash = B256::from(seed_hash(&id.0, &seed.0));
    let digest = begin_digest(&domain(d.chain_id, d.backhaul), id, index, hash);
    let signature = by.signer().sign_hash_sync(&digest).unwrap();
    (hash, signature.as_bytes().to_vec())
}

/// The coordinator names the silent one of `id`.
async fn name(w: &World, id: B256) -> &ChainClient {
    let silent = drawn(w, id, SILENT).await;
    let (hash, signature) = begin(w, silent, id, SILENT, SEED);
    let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
    named.await.unwrap();
    silent
}

async fn stake(of: &ChainClient) -> U256 {
    of.stake_of(of.address()).await.unwrap()
}

async fn suspended(of: &ChainClient) -> bool {
    of.participant(of.address())
        .await
        .unwrap()
        .unwrap()
        .suspended
}

/// Who is drawn for a new request of `n`, with everybody's heartbeats who may send one.
async fn candidates(w: &World, n: u16) -> Vec<Address> {
    let beat = async || {
        for challenger in &w.challengers {
            if !suspended(challenger).await {
                challenger.beat(&seeds(challenger)).await.unwrap();
            }
        }
    };
    beat().await;
    let asked = Request { n, ..w.ask() };
    let (id, _) = w.payer.request(&asked).await.unwrap();
    beat().await;
    w.coordinator.select(id).await.unwrap();
    let event = w.payer.selected_event(id).await.unwrap().unwrap();
    event.seated()
}

async fn who_withholds_loses_its_bond_and_is_in_no_draw_until_it_is_there_again(on: On) {
    let w = World::new(on, 6).await;
    let id = reported(&w).await;
    let silent = name(&w, id).await;
    let case = w.payer.seed_case_of(id, SILENT).await.unwrap();
    assert_eq!((case.answer, case.bond), (Answer::Named, SEED_BOND));
    assert_eq!(case.until, w.clock.now() + answer_s());
    assert_eq!(stake(silent).await, U256::from(STAKE), "not yet");

    w.clock.pass(answer_s() + 1);
    let before = w.payer.owed(w.payer.address()).await.unwrap();
    // Anyone: the silent one itself, if it likes.
    silent.forfeit(id, SILENT).await.unwrap();
    let case = w.payer.seed_case_of(id, SILENT).await.unwrap();
    assert_eq!(case.answer, Answer::Forfeited);
    assert_eq!(stake(silent).await, U256::from(STAKE - SEED_BOND));
    let owed = w.payer.owed(w.payer.address()).await.unwrap();
    assert_eq!(owed - before, U256::from(SEED_BOND), "the payer's");
    assert!(suspended(silent).await);
    assert_eq!(refused(silent.beat(&seeds(silent)).await), "NotRegistered");
    assert_eq!(
        refused(w.payer.forfeit(id, SILENT).await),
        "NotAsked",
        "once"
    );
    let burnt = w.payer.totals().await.unwrap().burnt;
    assert!(burnt.is_zero(), "no offence");

    let without = candidates(&w, 5).await;
    assert_eq!(without.len(), 5);
    assert!(!without.contains(&silent.address()));
    silent.top_up(U256::from(SEED_BOND - 1)).await.unwrap();
    assert!(suspended(silent).await, "one unit short");
    silent.top_up(U256::from(1)).await.unwrap();
    assert!(!suspended(silent).await);
    assert_eq!(candidates(&w, 6).await.len(), 6);
    w.assert_conserved().await;
}

async fn who_gives_its_seed_loses_nothing_whoever_named_it(on: On) {
    let w = World::new(on, 5).await;
    let id = reported(&w).await;
    let honest = name(&w, id).await;
    let wrong = honest.give_seed(id, SILENT, B256::repeat_byte(1)).await;
    assert_eq!(refused(wrong), "SeedDoesNotOpen");
    let wrong = honest.give_seed(id, SILENT + 1, SEED).await;
    assert_eq!(refused(wrong), "NotAsked");
    // Whoever sends it: the seed opens the commitment.
    w.prover.give_seed(id, SILENT, SEED).await.unwrap();
    assert_eq!(
        refused(honest.give_seed(id, SILENT, SEED).await),
        "NotAsked"
    );
    w.clock.pass(answer_s() + 1);
    assert_eq!(refused(w.payer.forfeit(id, SILENT).await), "NotAsked");
    assert_eq!(stake(honest).await, U256::from(STAKE));
    assert!(!suspended(honest).await);
    w.payer.finalize(id).await.unwrap();
    w.assert_conserved().await;
}

async fn only_its_coordinator_names_once_and_only_what_was_signed_and_is_missing(on: On) {
    let w = World::new(on, 5).await;
    let id = reported(&w).await;
    let other = reported(&w).await;
    let silent = drawn(&w, id, SILENT).await;
    let (hash, good) = begin(&w, silent, id, SILENT, SEED);
    for stranger in [&w.payer, &w.prover, silent] {
        let named = stranger.name_withheld(id, SILENT, hash, &good).await;
        assert_eq!(refused(named), "NotCoordinator");
    }
    let neighbour = drawn(&w, id, 3).await;
    let elsewhere = begin(&w, drawn(&w, other, SILENT).await, other, SILENT, SEED);
    let bad = [
        (hash, begin(&w, neighbour, id, SILENT, SEED).1),
        (hash, begin(&w, silent, id, SILENT + 1, SEED).1),
        (hash, begin(&w, silent, id, SILENT, B256::repeat_byte(1)).1),
        (B256::repeat_byte(1), good.clone()),
        elsewhere,
        (hash, vec![0; 65]),
        (hash, Vec::new()),
    ];
    for (hash, signature) in bad {
        let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
        assert_eq!(refused(named.await), "BeginSignatureInvalid");
    }
    let (hash_3, good_3) = begin(&w, neighbour, id, 3, SEED);
    let named = w.coordinator.name_withheld(id, 3, hash_3, &good_3).await;
    assert_eq!(refused(named), "Reported", "its report is on record");
    let named = w.coordinator.name_withheld(id, 5, hash, &good).await;
    assert_eq!(refused(named), "IndexUnknown");
    let unknown = B256::repeat_byte(0xee);
    let named = w.coordinator.name_withheld(unknown, SILENT, hash, &good);
    assert_eq!(refused(named.await), "UnknownRequest");
    name(&w, id).await;
    let again = w.coordinator.name_withheld(id, SILENT, hash, &good).await;
    assert_eq!(refused(again), "AlreadyNamed");
    let nobody = w.payer.seed_case_of(other, SILENT).await.unwrap();
    assert_eq!(nobody.answer, Answer::None, "each measurement by itself");
}

async fn nobody_is_named_before_it_is_over_nor_long_afterwards(on: On) {
    let w = World::new(on, 5).await;
    // Reported in time.
    let id = w.running(&w.ask()).await;
    let silent = drawn(&w, id, SILENT).await;
    let (hash, signature) = begin(&w, silent, id, SILENT, SEED);
    let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
    assert_eq!(refused(named.await), "NotOver", "its packets may yet count");
    report(&w, id).await;
    let until = w.clock.now() + answer_s();
    assert_eq!(w.payer.named_until(id).await.unwrap(), until);
    w.clock.pass(answer_s());
    name(&w, id).await;
    let id = reported(&w).await;
    let (hash, signature) = begin(&w, drawn(&w, id, SILENT).await, id, SILENT, SEED);
    w.clock.pass(answer_s() + 1);
    let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
    assert_eq!(refused(named.await), "NamedTooLate");

    // Never reported: over after its deadline, whether anyone has said so or not.
    for end in [false, true] {
        w.beat().await;
        let asked = w.ask();
        let id = w.running(&asked).await;
        let silent = drawn(&w, id, SILENT).await;
        let (hash, signature) = begin(&w, silent, id, SILENT, SEED);
        let until = asked.deadline + answer_s();
        assert_eq!(w.payer.named_until(id).await.unwrap(), until);
        w.clock.pass(asked.deadline - w.clock.now());
        let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
        assert_eq!(refused(named.await), "NotOver", "a report may yet come");
        w.clock.pass(1);
        if end {
            w.payer.timeout(id).await.unwrap();
        }
        name(&w, id).await;
    }
    // Never begun.
    w.beat().await;
    let asked = w.ask();
    let id = w.selected(&asked).await;
    let (hash, signature) = begin(&w, drawn(&w, id, SILENT).await, id, SILENT, SEED);
    w.clock.pass(asked.deadline + 1 - w.clock.now());
    let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
    assert_eq!(refused(named.await), "NotOver");
    w.payer.timeout(id).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::TimedOut);
    let named = w.coordinator.name_withheld(id, SILENT, hash, &signature);
    assert_eq!(refused(named.await), "NotOver");
}

async fn an_answer_counts_to_the_last_second_and_a_bond_falls_due_after_it(on: On) {
    let w = World::new(on, 5).await;
    let ids = [reported(&w).await, reported(&w).await];
    for id in ids {
        name(&w, id).await;
    }
    w.clock.pass(answer_s());
    assert_eq!(refused(w.payer.forfeit(ids[0], SILENT).await), "AnswerOpen");
    let first = drawn(&w, ids[0], SILENT).await;
    first.give_seed(ids[0], SILENT, SEED).await.unwrap();
    w.clock.pass(1);
    let second = drawn(&w, ids[1], SILENT).await;
    let late = second.give_seed(ids[1], SILENT, SEED).await;
    assert_eq!(refused(late), "AnswerTooLate");
    w.payer.forfeit(ids[1], SILENT).await.unwrap();
    assert_eq!(stake(second).await, U256::from(STAKE - SEED_BOND));
    w.assert_conserved().await;
}

async fn no_loss_touches_the_least_stake(on: On) {
    let w = World::new(on, 5).await;
    // The same one three times at once, with one bond and a half.
    let mut ids = Vec::new();
    for _ in 1..=3 {
        ids.push(w.running(&w.ask()).await);
    }
    let silent = drawn(&w, ids[0], SILENT).await;
    silent.top_up(U256::from(SEED_BOND / 2)).await.unwrap();
    let mut places = Vec::new();
    for id in &ids {
        let selected = w.payer.selected_of(*id).await.unwrap();
        let at = selected
            .iter()
            .position(|a| *a == silent.address())
            .unwrap();
        let mut posted = w.submission(*id, &[1_600; 5], &[WINDOW; 5]).await;
        posted.reports.remove(at);
        w.coordinator.report(*id, &posted).await.unwrap();
        let index = u16::try_from(at).unwrap();
        let (hash, signature) = begin(&w, silent, *id, index, SEED);
        let named = w.coordinator.name_withheld(*id, index, hash, &signature);
        named.await.unwrap();
        places.push(index);
    }
    w.clock.pass(answer_s() + 1);
    let whole = STAKE + SEED_BOND / 2;
    let least = STAKE - SEED_BOND;
    for (at, left) in [whole - SEED_BOND, least, least].into_iter().enumerate() {
        w.payer.forfeit(ids[at], places[at]).await.unwrap();
        assert_eq!(stake(silent).await, U256::from(left), "loss {at}");
        assert!(suspended(silent).await, "whatever it has left");
    }
    w.assert_conserved().await;
}

async fn who_leaves_answers_as_long_as_its_stake_is_bound(on: On) {
    let w = World::new(on, 6).await;
    let id = reported(&w).await;
    let silent = name(&w, id).await;
    silent.leave().await.unwrap();
    w.clock.pass(answer_s() + 1);
    w.payer.forfeit(id, SILENT).await.unwrap();
    assert_eq!(stake(silent).await, U256::from(STAKE - SEED_BOND));
    w.clock.pass(parameters().unbonding_s);
    silent.reclaim().await.unwrap();
    let owed = silent.owed(silent.address()).await.unwrap();
    assert_eq!(owed, U256::from(STAKE - SEED_BOND));

    // Who is gone has nothing that could be taken, and nothing is stuck on it.
    w.clock.pass(1);
    for challenger in w
        .challengers
        .iter()
        .filter(|c| c.address() != silent.address())
    {
        challenger.beat(&seeds(challenger)).await.unwrap();
    }
    let (id, _) = w.payer.request(&w.ask()).await.unwrap();
    for challenger in w
        .challengers
        .iter()
        .filter(|c| c.address() != silent.address())
    {
        challenger.beat(&seeds(challenger)).await.unwrap();
    }
    w.coordinator.select(id).await.unwrap();
    w.coordinator.begin(id, B256::repeat_byte(9)).await.unwrap();
    report(&w, id).await;
    let gone = name(&w, id).await;
    gone.leave().await.unwrap();
    w.clock.pass(parameters().unbonding_s);
    gone.reclaim().await.unwrap();
    let before = w.payer.owed(w.payer.address()).await.unwrap();
    w.payer.forfeit(id, SILENT).await.unwrap();
    assert_eq!(w.payer.owed(w.payer.address()).await.unwrap(), before);
    w.assert_conserved().await;
}
