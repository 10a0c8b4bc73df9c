//! Evidence against a participant: in one step, and before a jury.

use alloy::primitives::{Address, B256, U256};
use alloy::signers::SignerSync;
use plumbline::chain::ChainClient;
use plumbline::chain::client::{ClientError, Offence, Ruling, Stage, role, vote_hash};
use plumbline_contracts::abi::backhaul::IBackhaul::{SignedCommit, SignedReport};
use plumbline_contracts::{
    State, Timing, Verdict, commit_digest, counts_hash, domain, report_digest,
};
use plumbline_trust::selection::{Draw, Fate};

use crate::stand::{On, on_both_engines};
use crate::world::{
    CLAIM, FEE, STAKE, WINDOW, World, fund, join, key, parameters, refused, registration, seeds,
    tick,
};

on_both_engines!(
    two_commitments_cost_the_prover_its_stake_and_the_result_its_meaning,
    two_reports_cost_the_challenger_its_stake_and_its_pay,
    what_is_no_offence_is_refused,
    an_honest_majority_upholds_and_the_liar_and_the_silent_lose,
    a_false_alarm_costs_its_bond_and_the_result_stands,
    a_jury_without_majority_is_hung_and_costs_nobody_but_the_silent,
    without_jurors_a_dispute_ends_and_nothing_stays_locked,
    disputes_and_votes_that_cannot_be_are_refused_by_name,
    the_jury_is_drawn_by_stake_as_anyone_can_repeat_and_never_from_the_parties,
);

pub(crate) const SALT: B256 = B256::repeat_byte(0x5a);
pub(crate) const EVIDENCE: B256 = B256::repeat_byte(0xe5);
/// Of the prover: two commitments of different counts.
pub(crate) fn two_commits(w: &World, id: B256, first: &[u32], second: &[u32]) -> Offence {
    let d = w.chain.deployment();
    let sign = |counts: &[u32]| {
        let packets = counts.iter().map(|c| u64::from(*c)).sum();
        let response = B256::repeat_byte(5);
        let digest = commit_digest(
            &domain(d.chain_id, d.backhaul),
            id,
            0,
            packets,
            counts,
            response,
        );
        SignedCommit {
            phase: 0,
            packets,
            countsHash: counts_hash(counts),
            responseHash: response,
            signature: w
                .prover
                .signer()
                .sign_hash_sync(&digest)
                .unwrap()
                .as_bytes()
                .to_vec()
                .into(),
        }
    };
    Offence::TwoCommits(id, Box::new([sign(first), sign(second)]))
}

/// Of the challenger at `index`: two reports of different windows.
pub(crate) async fn two_reports(w: &World, id: B256, index: u16, windows: [u32; 2]) -> Offence {
    let d = w.chain.deployment();
    let who = w.payer.selected_of(id).await.unwrap()[usize::from(index)];
    let signer = w.challenger(who).signer().clone();
    let sign = |window_us: u32| {
        let timing = Timing {
            index,
            window_us,
            packets: 1_600,
        };
        let response = B256::repeat_byte(5);
        let digest = report_digest(&domain(d.chain_id, d.backhaul), id, 0, timing, response);
        SignedReport {
            phase: 0,
            index,
            windowUs: window_us,
            packets: 1_600,
            responseHash: response,
            signature: signer
                .sign_hash_sync(&digest)
                .unwrap()
                .as_bytes()
                .to_vec()
                .into(),
        }
    };
    Offence::TwoReports(id, Box::new(windows.map(sign)))
}

pub(crate) async fn reporter(w: &World) -> ChainClient {
    let client = w.chain.client(key(60)).await;
    fund(&client).await;
    client
}

/// Stake that an offence costs, and the reporter's share of it.
pub(crate) fn price_of_offence() -> (u128, u128) {
    let p = parameters();
    let taken = STAKE * u128::from(p.offence_percent) / 100;
    (taken, taken * u128::from(p.reporter_percent) / 100)
}

async fn two_commitments_cost_the_prover_its_stake_and_the_result_its_meaning(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let backhaul = w.chain.deployment().backhaul;
    let reporter = reporter(&w).await;
    let offence = two_commits(&w, id, &[1_600; 5], &[1_601, 1_599, 1_600, 1_600, 1_600]).encode();
    assert_eq!(
        refused(reporter.prove(backhaul, offence.clone(), SALT).await),
        "NotAnnounced"
    );
    reporter
        .announce_proof(backhaul, &offence, SALT)
        .await
        .unwrap();
    // Whoever sees it now and repeats it has announced nothing.
    assert_eq!(
        refused(w.payer.prove(backhaul, offence.clone(), SALT).await),
        "NotAnnounced"
    );
    reporter
        .prove(backhaul, offence.clone(), SALT)
        .await
        .unwrap();
    let (taken, share) = price_of_offence();
    let prover = w.prover.address();
    assert_eq!(
        w.payer.stake_of(prover).await.unwrap(),
        U256::from(STAKE - taken)
    );
    assert_eq!(
        w.payer.owed(reporter.address()).await.unwrap(),
        U256::from(share)
    );
    let totals = w.payer.totals().await.unwrap();
    assert_eq!(totals.burnt, U256::from(taken - share));
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Annulled);
    assert_eq!(outcome.paid, [0, 1, 2, 3, 4], "who sent is paid");
    // Nobody loses twice for the same, and the suspended takes part in nothing until it tops up.
    reporter
        .announce_proof(backhaul, &offence, B256::ZERO)
        .await
        .unwrap();
    assert_eq!(
        refused(reporter.prove(backhaul, offence, B256::ZERO).await),
        "AlreadyPunished"
    );
    assert!(
        w.payer
            .participant(prover)
            .await
            .unwrap()
            .unwrap()
            .suspended
    );
    assert_eq!(refused(w.payer.request(&w.ask()).await), "UnknownProver");
    w.prover.top_up(U256::from(taken)).await.unwrap();
    w.payer.request(&w.ask()).await.unwrap();
    w.assert_conserved().await;
}

async fn two_reports_cost_the_challenger_its_stake_and_its_pay(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let backhaul = w.chain.deployment().backhaul;
    let reporter = reporter(&w).await;
    let guilty = w.payer.selected_of(id).await.unwrap()[2];
    let offence = two_reports(&w, id, 2, [WINDOW, 90_000]).await.encode();
    reporter
        .announce_proof(backhaul, &offence, SALT)
        .await
        .unwrap();
    reporter.prove(backhaul, offence, SALT).await.unwrap();
    let (taken, _) = price_of_offence();
    assert_eq!(
        w.payer.stake_of(guilty).await.unwrap(),
        U256::from(STAKE - taken)
    );
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.paid, [0, 1, 3, 4]);
    // Without its report, 6400 packets are too few for a claim of 8000.
    assert_eq!(outcome.lower, u128::from(CLAIM) * 4 / 5);
    assert_eq!(outcome.packets, 6_400);
    assert_eq!(outcome.verdict, Verdict::Inconclusive);
    w.clock.pass(30);
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.owed(guilty).await.unwrap(), U256::ZERO);
    w.assert_conserved().await;
}

async fn what_is_no_offence_is_refused(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let backhaul = w.chain.deployment().backhaul;
    let reporter = reporter(&w).await;
    let same = two_commits(&w, id, &[1_600; 5], &[1_600; 5]);
    let mut forged = two_commits(&w, id, &[1_600; 5], &[1_601; 5]);
    if let Offence::TwoCommits(_, pair) = &mut forged {
        pair[1].packets += 1;
    }
    let mut phases = two_commits(&w, id, &[1_600; 5], &[1_601; 5]);
    if let Offence::TwoCommits(_, pair) = &mut phases {
        pair[1].phase = 1;
    }
    let times = two_reports(&w, id, 0, [7, 7]).await;
    let mut places = two_reports(&w, id, 0, [7, 8]).await;
    if let Offence::TwoReports(_, pair) = &mut places {
        pair[0].index = 1;
    }
    for offence in [same, forged, phases, times, places] {
        let bytes = offence.encode();
        reporter
            .announce_proof(backhaul, &bytes, SALT)
            .await
            .unwrap();
        let told = refused(reporter.prove(backhaul, bytes, SALT).await);
        assert_eq!(told, "NoOffence", "{offence:?}");
    }
    let elsewhere = two_commits(&w, B256::ZERO, &[1; 5], &[2; 5]).encode();
    reporter
        .announce_proof(backhaul, &elsewhere, SALT)
        .await
        .unwrap();
    let told = refused(reporter.prove(backhaul, elsewhere.clone(), SALT).await);
    assert_eq!(told, "UnknownRequest");
    let vault = w.chain.deployment().vault;
    reporter
        .announce_proof(vault, &elsewhere, SALT)
        .await
        .unwrap();
    // The vault is no module of the registry: it is what modules act on.
    let told = refused(reporter.prove(vault, elsewhere, SALT).await);
    assert_eq!(told, "NotAProof");
}

/// Jurors with one and with four tickets, live.
pub(crate) async fn jurors(w: &World, count: u8) -> Vec<ChainClient> {
    let mut list = Vec::new();
    for number in 0..count {
        let client = w.chain.client(key(70 + number)).await;
        fund(&client).await;
        let mut registration = registration(70 + number, role::JUROR);
        if number % 2 == 1 {
            registration.stake = 4 * STAKE;
        }
        client.register(&registration).await.unwrap();
        client.beat(&seeds(&client)).await.unwrap();
        list.push(client);
    }
    list
}

pub(crate) struct Trial {
    pub(crate) dispute: B256,
    pub(crate) case: B256,
    pub(crate) seats: Vec<ChainClient>,
    pub(crate) reporter: ChainClient,
    pub(crate) accused: Address,
}

/// Announces and brings evidence about `id`; the dispute's id.
pub(crate) async fn bring(
    reporter: &ChainClient,
    id: B256,
    accused: Address,
    evidence: B256,
    salt: B256,
) -> Result<B256, ClientError> {
    let backhaul = reporter.deployment().backhaul;
    reporter
        .announce_dispute(backhaul, id, accused, evidence, salt)
        .await
        .unwrap();
    let brought = reporter.dispute(backhaul, id, accused, evidence, salt, "");
    brought.await.map(|(dispute, _)| dispute)
}

/// A dispute against the coordinator of `id`, its jury drawn from `count` jurors.
pub(crate) async fn trial(w: &World, id: B256, count: u8) -> Trial {
    let jurors = jurors(w, count).await;
    try_by(w, id, &jurors).await
}

/// The same, by these jurors.
pub(crate) async fn try_by(w: &World, id: B256, jurors: &[ChainClient]) -> Trial {
    let reporter = reporter(w).await;
    let accused = w.coordinator.address();
    alive(jurors).await;
    let brought = bring(&reporter, id, accused, EVIDENCE, SALT).await;
    let dispute = brought.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Disputed);
    drawn(w, dispute, jurors, accused).await
}

/// Jurors that are live can be drawn for what is brought next.
pub(crate) async fn alive(jurors: &[ChainClient]) {
    for juror in jurors {
        juror.beat(&seeds(juror)).await.unwrap();
    }
}

/// A dispute that was brought, its jury drawn from `jurors`.
pub(crate) async fn drawn(
    w: &World,
    dispute: B256,
    jurors: &[ChainClient],
    accused: Address,
) -> Trial {
    let case = w.payer.dispute_of(dispute).await.unwrap().caseId;
    assert_eq!(refused(w.payer.draw_jury(case).await), "BeaconNotReady");
    alive(jurors).await;
    w.payer.draw_jury(case).await.unwrap();
    let found = w.payer.case_of(case).await.unwrap().unwrap();
    assert_eq!((found.stage, found.evidence), (Stage::Drawn, EVIDENCE));
    let mut seats = Vec::new();
    for address in &found.jurors {
        let seat = jurors.iter().find(|j| j.address() == *address).unwrap();
        seats.push(w.chain.client(seat.signer().clone()).await);
    }
    let reporter = w.chain.client(key(60)).await;
    Trial {
        dispute,
        case,
        seats,
        reporter,
        accused,
    }
}

impl Trial {
    /// Each seat votes so, or keeps silent; then the case is settled.
    pub(crate) async fn vote(&self, w: &World, votes: &[Option<Ruling>]) {
        for (seat, vote) in self.seats.iter().zip(votes) {
            if let Some(vote) = vote {
                let hash = vote_hash(self.case, seat.address(), *vote, SALT);
                seat.commit_vote(self.case, hash).await.unwrap();
            }
        }
        let early = self.seats[0]
            .reveal_vote(self.case, Ruling::Upheld, SALT)
            .await;
        assert_eq!(refused(early), "TooEarly");
        w.clock.pass(parameters().jury_commit_s + 1);
        for (seat, vote) in self.seats.iter().zip(votes) {
            if let Some(vote) = vote {
                seat.reveal_vote(self.case, *vote, SALT).await.unwrap();
            }
        }
        assert_eq!(refused(w.payer.settle_jury(self.case).await), "TooEarly");
        assert_eq!(refused(w.payer.conclude(self.dispute).await), "JuryOut");
        w.clock.pass(parameters().jury_reveal_s);
        w.payer.settle_jury(self.case).await.unwrap();
        w.payer.conclude(self.dispute).await.unwrap();
        assert_eq!(
            refused(w.payer.conclude(self.dispute).await),
            "AlreadyConcluded"
        );
    }
}

pub(crate) const UPHELD: Option<Ruling> = Some(Ruling::Upheld);
pub(crate) const REJECTED: Option<Ruling> = Some(Ruling::Rejected);
pub(crate) const UNAVAILABLE: Option<Ruling> = Some(Ruling::Unavailable);

async fn an_honest_majority_upholds_and_the_liar_and_the_silent_lose(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let t = trial(&w, id, 7).await;
    let mut stakes = Vec::new();
    for seat in &t.seats {
        stakes.push(w.payer.stake_of(seat.address()).await.unwrap());
    }
    t.vote(&w, &[UPHELD, UPHELD, UPHELD, REJECTED, None]).await;
    let p = parameters();
    for (place, seat) in t.seats.iter().enumerate() {
        let honest = place < 3;
        let owed = w.payer.owed(seat.address()).await.unwrap();
        assert_eq!(owed, U256::from(if honest { p.juror_fee } else { 0 }));
        let lost = if honest { 0 } else { p.juror_penalty };
        let stake = w.payer.stake_of(seat.address()).await.unwrap();
        assert_eq!(stake, stakes[place] - U256::from(lost));
    }
    let (taken, share) = price_of_offence();
    let stake = w.payer.stake_of(t.accused).await.unwrap();
    assert_eq!(stake, U256::from(STAKE - taken));
    // Bond and what is left of the fees come back, with the share.
    let back = p.dispute_bond + 2 * p.juror_fee + share;
    let owed = w.payer.owed(t.reporter.address()).await.unwrap();
    assert_eq!(owed, U256::from(back));
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Annulled);
    // What the dispute took is added to the window.
    w.clock.pass(parameters().dispute_window_s);
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.owed(t.accused).await.unwrap(), U256::ZERO, "no fee");
    let challenger = w.payer.selected_of(id).await.unwrap()[0];
    assert!(w.payer.owed(challenger).await.unwrap() > U256::ZERO);
    w.assert_conserved().await;
}

async fn a_false_alarm_costs_its_bond_and_the_result_stands(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let t = trial(&w, id, 5).await;
    let before = w.payer.totals().await.unwrap().burnt;
    t.vote(&w, &[REJECTED; 5]).await;
    let p = parameters();
    let burnt = w.payer.totals().await.unwrap().burnt - before;
    assert_eq!(burnt, U256::from(p.dispute_bond));
    assert_eq!(
        w.payer.owed(t.reporter.address()).await.unwrap(),
        U256::ZERO
    );
    assert_eq!(
        w.payer.stake_of(t.accused).await.unwrap(),
        U256::from(STAKE)
    );
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass);
    // What the dispute took is added to the window.
    w.clock.pass(parameters().dispute_window_s);
    w.payer.finalize(id).await.unwrap();
    assert_eq!(w.payer.owed(t.accused).await.unwrap(), U256::from(FEE));
    w.assert_conserved().await;
}

async fn a_jury_without_majority_is_hung_and_costs_nobody_but_the_silent(on: On) {
    for votes in [
        [UPHELD, UPHELD, REJECTED, REJECTED, None],
        [UPHELD, UPHELD, None, None, None],
        [UPHELD, UPHELD, REJECTED, REJECTED, UNAVAILABLE],
        [UNAVAILABLE, UNAVAILABLE, REJECTED, UPHELD, None],
    ] {
        let w = World::new(on, 5).await;
        let id = w.reported().await;
        let t = trial(&w, id, 5).await;
        t.vote(&w, &votes).await;
        let p = parameters();
        let case = w.payer.case_of(t.case).await.unwrap().unwrap();
        assert_eq!(case.ruling, Ruling::Hung);
        let spoke = votes.iter().flatten().count() as u128;
        let back = p.dispute_bond + (5 - spoke) * p.juror_fee;
        let owed = w.payer.owed(t.reporter.address()).await.unwrap();
        assert_eq!(owed, U256::from(back));
        let verdict = w.payer.result_of(id).await.unwrap().unwrap().verdict;
        assert_eq!(verdict, Verdict::Pass);
        // What the dispute took is added to the window.
        w.clock.pass(parameters().dispute_window_s);
        w.payer.finalize(id).await.unwrap();
        w.assert_conserved().await;
    }
}

async fn without_jurors_a_dispute_ends_and_nothing_stays_locked(on: On) {
    // Two more than are parties: their heartbeats close the round.
    let w = World::new(on, 7).await;
    let backhaul = w.chain.deployment().backhaul;
    let accused = w.prover.address();
    let reporter = reporter(&w).await;
    for (number, drawn) in [(1, true), (2, false)] {
        w.beat().await;
        let id = w.reported().await;
        let salt = B256::repeat_byte(number);
        reporter
            .announce_dispute(backhaul, id, accused, EVIDENCE, salt)
            .await
            .unwrap();
        let brought = reporter.dispute(backhaul, id, accused, EVIDENCE, salt, "");
        let (dispute, _) = brought.await.unwrap();
        let case = w.payer.dispute_of(dispute).await.unwrap().caseId;
        if drawn {
            w.beat().await;
            tick(&w.payer).await;
            w.payer.draw_jury(case).await.unwrap();
        } else {
            assert_eq!(refused(w.payer.settle_jury(case).await), "TooEarly");
            w.clock.pass(parameters().jury_draw_s + 1);
            assert_eq!(refused(w.payer.draw_jury(case).await), "TooLate");
            w.payer.settle_jury(case).await.unwrap();
        }
        let found = w.payer.case_of(case).await.unwrap().unwrap();
        assert_eq!(found.ruling, Ruling::Hung);
        w.payer.conclude(dispute).await.unwrap();
        w.clock.pass(30);
        w.payer.finalize(id).await.unwrap();
    }
    let totals = w.payer.totals().await.unwrap();
    assert_eq!((totals.escrow, totals.burnt), (U256::ZERO, U256::ZERO));
    w.assert_conserved().await;
}

async fn disputes_and_votes_that_cannot_be_are_refused_by_name(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    let reporter = reporter(&w).await;
    let stranger = Address::repeat_byte(9);
    let bring = async |accused| bring(&reporter, id, accused, EVIDENCE, SALT).await;
    assert_eq!(refused(bring(stranger).await), "NotAParty");
    let t = trial(&w, id, 6).await;
    assert_eq!(refused(bring(t.accused).await), "DisputeExists");
    w.clock.pass(30);
    assert_eq!(refused(w.payer.finalize(id).await), "WrongState");

    let seat = &t.seats[0];
    let vote = vote_hash(t.case, seat.address(), Ruling::Upheld, SALT);
    assert_eq!(
        refused(w.payer.commit_vote(t.case, vote).await),
        "NotAJuror"
    );
    assert_eq!(
        refused(seat.commit_vote(t.case, B256::ZERO).await),
        "CommitmentZero"
    );
    seat.commit_vote(t.case, vote).await.unwrap();
    assert_eq!(
        refused(seat.commit_vote(t.case, vote).await),
        "AlreadyCommitted"
    );
    // The vote of another, copied, does not open for oneself.
    let copy = &t.seats[1];
    copy.commit_vote(t.case, vote).await.unwrap();
    w.clock.pass(parameters().jury_commit_s + 1);
    assert_eq!(
        refused(t.seats[2].commit_vote(t.case, vote).await),
        "TooLate"
    );
    let told = refused(copy.reveal_vote(t.case, Ruling::Upheld, SALT).await);
    assert_eq!(told, "VoteDoesNotOpen");
    let told = refused(seat.reveal_vote(t.case, Ruling::Hung, SALT).await);
    assert_eq!(told, "VoteUnknown");
    seat.reveal_vote(t.case, Ruling::Upheld, SALT)
        .await
        .unwrap();
    let told = refused(seat.reveal_vote(t.case, Ruling::Upheld, SALT).await);
    assert_eq!(told, "AlreadyRevealed");
    let none = B256::repeat_byte(3);
    assert_eq!(refused(w.payer.settle_jury(none).await), "UnknownCase");
    assert_eq!(refused(w.payer.conclude(none).await), "UnknownDispute");
}

async fn the_jury_is_drawn_by_stake_as_anyone_can_repeat_and_never_from_the_parties(on: On) {
    let w = World::new(on, 5).await;
    let id = w.reported().await;
    // A juror of the prover's operator, and one that registers after the case is opened.
    let relative = w.chain.client(key(90)).await;
    fund(&relative).await;
    let mut related = registration(90, role::JUROR);
    related.operator = registration(3, role::PROVER).operator;
    relative.register(&related).await.unwrap();
    relative.beat(&seeds(&relative)).await.unwrap();
    let t = trial(&w, id, 9).await;
    let late = join(&w.chain, 91, role::JUROR).await;
    let drawn = w.payer.jury_draw_of(t.case).await.unwrap().unwrap();
    // Whom it came upon, each with its tickets as of the opening; the relative only in vain.
    for look in &drawn.looks {
        let who = Address::from(look.account.0);
        match (70..79).find(|number| key(*number).address() == who) {
            Some(number) => assert_eq!(look.tickets, if number % 2 == 1 { 4 } else { 1 }),
            None => assert!(who == relative.address() && look.fate != Fate::Seated),
        }
    }
    assert!(
        drawn
            .looks
            .iter()
            .all(|l| l.account.0 != late.address().0.0)
    );
    let draw = Draw {
        mix: drawn.beacon.0,
        id: t.case.0,
        pool: drawn.pool,
        n: 5,
        most: drawn.most,
    };
    assert_eq!(drawn.pool, 10);
    let again = draw.seated(&drawn.looks).unwrap();
    let again: Vec<Address> = again.iter().map(|a| Address::from(a.0)).collect();
    let stored = w.payer.case_of(t.case).await.unwrap().unwrap().jurors;
    assert_eq!(stored, again);
}
