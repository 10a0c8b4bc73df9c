//! What is refused, with its name, on both sides of each boundary.

use alloy::primitives::{Address, B256, U256};
use alloy::sol_types::SolCall;
use plumbline::chain::ChainClient;
use plumbline::chain::client::{ClientError, role};
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission};
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::registry::Registry;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::{State, explain};
use plumbline_trust::selection::Fate;
use serde_json::json;

use crate::stand::{On, Stand, on_both_engines};
use crate::world::{CLAIM, PURSE, STAKE, World, fund, join, key, refused, registration, seeds};

on_both_engines!(
    registration_is_refused_with_a_reason,
    heartbeats_must_open_what_was_committed,
    requests_are_refused_with_a_reason_and_lock_nothing,
    the_draw_waits_for_a_later_closed_round_and_excludes_the_parties,
    only_the_coordinator_begins_and_reports_in_order,
    a_submission_is_checked_to_its_last_word,
    an_uplinks_counts_and_spans_are_checked,
    the_vault_obeys_its_modules_and_its_owner_only,
);

/// Tries `call` as `from` and gives the name of the refusal, or none.
async fn tried<C: SolCall>(chain: &Stand, from: Address, to: Address, call: &C) -> String {
    let data = format!("0x{}", alloy::hex::encode(call.abi_encode()));
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_call",
        "params": [{ "from": from, "to": to, "data": data }, "latest"] });
    let answer = chain.rpc(request).await;
    let Some(error) = answer.get("error") else {
        return String::new();
    };
    assert_eq!(error["code"], 3, "{error}");
    let data = error["data"].as_str().unwrap().trim_start_matches("0x");
    explain(&alloy::hex::decode(data).unwrap()).unwrap().name
}

async fn registration_is_refused_with_a_reason(on: On) {
    let w = World::new(on, 0).await;
    let poor = w.chain.client(key(50)).await;
    let good = registration(50, role::CHALLENGER);
    assert_eq!(
        refused(poor.register(&good).await),
        "ERC20InsufficientAllowance"
    );
    poor.approve(U256::MAX).await.unwrap();
    assert_eq!(
        refused(poor.register(&good).await),
        "ERC20InsufficientBalance"
    );
    fund(&poor).await;
    let cases = [
        ("RolesZero", {
            let mut r = good.clone();
            r.roles = 0;
            r
        }),
        ("NetworkKeyZero", {
            let mut r = good.clone();
            r.network_key = [0; 32];
            r
        }),
        ("EndpointLength", {
            let mut r = good.clone();
            r.endpoint = String::new();
            r
        }),
        ("EndpointLength", {
            let mut r = good.clone();
            r.endpoint = "x".repeat(257);
            r
        }),
        ("MaximumZero", {
            let mut r = good.clone();
            r.roles = role::PROVER;
            r
        }),
        ("StakeTooSmall", {
            let mut r = good.clone();
            r.stake = STAKE - 1;
            r
        }),
    ];
    for (name, case) in cases {
        assert_eq!(refused(poor.register(&case).await), name);
    }
    let mut longest = good.clone();
    longest.endpoint = "x".repeat(256);
    longest.roles = 15;
    longest.max_bps = 1;
    poor.register(&longest).await.unwrap();
    assert_eq!(refused(poor.register(&good).await), "AlreadyRegistered");
    let known = poor.participant(poor.address()).await.unwrap().unwrap();
    assert_eq!(known.roles, 15);
    assert_eq!(known.network_key, B256::repeat_byte(50));
    assert_eq!(
        poor.stake_of(poor.address()).await.unwrap(),
        U256::from(STAKE)
    );
    poor.set_endpoint("10.9.8.7:1").await.unwrap();
    assert_eq!(refused(poor.set_endpoint("").await), "EndpointLength");
    let known = poor.participant(poor.address()).await.unwrap().unwrap();
    assert_eq!(known.endpoint, "10.9.8.7:1");
    assert_eq!(refused(w.payer.set_endpoint("x").await), "NotRegistered");

    let call = Participants::registerCall {
        roles: 4,
        networkKey: B256::repeat_byte(51),
        crossSignature: vec![0; 63].into(),
        operator: B256::ZERO,
        endpoint: "x".to_owned(),
        maxBps: 0,
        stake: STAKE,
    };
    let to = w.chain.deployment().participants;
    let from = w.payer.address();
    assert_eq!(
        tried(&w.chain, from, to, &call).await,
        "CrossSignatureLength"
    );
    w.assert_conserved().await;
}

async fn heartbeats_must_open_what_was_committed(on: On) {
    let w = World::new(on, 0).await;
    let c = join(&w.chain, 20, role::CHALLENGER).await;
    let (one, two) = (B256::repeat_byte(1), B256::repeat_byte(2));
    let hash = plumbline::chain::client::commitment;
    assert_eq!(
        refused(c.heartbeat(one, hash(two)).await),
        "RevealWithoutCommitment"
    );
    assert_eq!(
        refused(c.heartbeat(B256::ZERO, B256::ZERO).await),
        "CommitmentZero"
    );
    assert!(!c.is_live(c.address()).await.unwrap());
    c.heartbeat(B256::ZERO, hash(one)).await.unwrap();
    assert!(c.is_live(c.address()).await.unwrap());
    assert_eq!(
        refused(c.heartbeat(two, hash(two)).await),
        "SeedDoesNotOpen"
    );
    c.heartbeat(one, hash(two)).await.unwrap();
    assert_eq!(c.heartbeats(c.address()).await.unwrap(), 2);
    assert_eq!(
        refused(w.payer.beat(&seeds(&w.payer)).await),
        "NotRegistered"
    );
}

async fn requests_are_refused_with_a_reason_and_lock_nothing(on: On) {
    let w = World::new(on, 5).await;
    let good = w.ask();
    let change = |f: &dyn Fn(&mut Request)| {
        let mut request = good.clone();
        f(&mut request);
        request
    };
    let stranger = Address::repeat_byte(0x77);
    let cases = [
        ("NotPayer", change(&|r| r.payer = stranger)),
        ("DirectionUnsupported", change(&|r| r.direction = 2)),
        ("PacketBytesOutOfRange", change(&|r| r.packetBytes = 499)),
        ("PacketBytesOutOfRange", change(&|r| r.packetBytes = 9_101)),
        ("ClaimZero", change(&|r| r.claimBps = 0)),
        ("ClaimAboveMaximum", change(&|r| r.claimBps = CLAIM + 1)),
        (
            "UnknownProver",
            change(&|r| r.prover = w.coordinator.address()),
        ),
        (
            "UnknownCoordinator",
            change(&|r| r.coordinator = w.prover.address()),
        ),
        ("TooFewChallengers", change(&|r| r.n = 3)),
        ("TooFewChallengers", change(&|r| r.f = 2)),
        (
            "TooFewChallengers",
            change(&|r| {
                r.n = 0;
                r.f = 0;
            }),
        ),
        ("TooManyChallengers", change(&|r| r.n = 65)),
        ("DurationOutOfRange", change(&|r| r.durationMs = 9)),
        ("DurationOutOfRange", change(&|r| r.durationMs = 10_001)),
        (
            "DeadlinePassed",
            change(&|r| r.deadline = w.clock.now() - 1),
        ),
        (
            "ERC20InsufficientBalance",
            change(&|r| r.pricePerByte = u128::MAX),
        ),
    ];
    for (name, case) in cases {
        assert_eq!(refused(w.payer.request(&case).await), name);
    }
    assert_eq!(w.payer.totals().await.unwrap().escrow, U256::ZERO);
    let edges = [
        change(&|r| {
            r.n = 4;
        }),
        change(&|r| {
            r.n = 64;
            r.f = 21;
        }),
        change(&|r| {
            r.durationMs = 10;
        }),
        change(&|r| {
            r.durationMs = 10_000;
        }),
        change(&|r| {
            r.deadline = w.clock.now();
        }),
        change(&|r| {
            r.packetBytes = 500;
        }),
        change(&|r| {
            r.packetBytes = 9_100;
        }),
        change(&|r| {
            r.direction = 1;
        }),
        change(&|r| {
            r.claimBps = 1;
            r.n = 1;
            r.f = 0;
        }),
    ];
    for edge in edges {
        w.payer.request(&edge).await.unwrap();
    }
    w.payer.approve(U256::from(5)).await.unwrap();
    let error = w.payer.request(&w.ask()).await.unwrap_err();
    let ClientError::Refused(told) = error else {
        panic!("{error}");
    };
    assert_eq!(told.name, "ERC20InsufficientAllowance");
    assert!(
        told.words.contains("is 5, but 36000077 is needed"),
        "{told}"
    );
    w.assert_conserved().await;
}

async fn the_draw_waits_for_a_later_closed_round_and_excludes_the_parties(on: On) {
    let w = World::new(on, 6).await;
    // One of the prover's own operator, the payer and the prover itself: none may be drawn.
    let kin = w.chain.client(key(60)).await;
    fund(&kin).await;
    let mut own = registration(60, role::CHALLENGER);
    own.operator = [3; 32];
    kin.register(&own).await.unwrap();
    kin.beat(&seeds(&kin)).await.unwrap();
    let unknown = B256::repeat_byte(1);
    assert_eq!(refused(w.payer.select(unknown).await), "UnknownRequest");
    let (id, _) = w.payer.request(&w.ask()).await.unwrap();
    assert_eq!(refused(w.payer.select(id).await), "BeaconNotReady");
    // Registered after the request: not drawn either.
    let late = join(&w.chain, 61, role::CHALLENGER).await;
    late.beat(&seeds(&late)).await.unwrap();
    assert_eq!(refused(w.payer.select(id).await), "BeaconNotReady");
    w.beat().await;
    w.payer.select(id).await.unwrap();
    let drawn = w.payer.selected_event(id).await.unwrap().unwrap();
    let expected: Vec<Address> = w.challengers.iter().map(ChainClient::address).collect();
    assert!(drawn.seated().iter().all(|who| expected.contains(who)));
    assert_eq!(drawn.pool, 7, "the late one has no place");
    for look in &drawn.looks {
        let is_kin = look.account.0 == kin.address().into_array();
        assert_eq!(look.fate == Fate::Related, is_kin);
    }
    assert_eq!(refused(w.payer.select(id).await), "WrongState");

    let (id, _) = w.payer.request(&w.ask()).await.unwrap();
    w.clock.pass(121);
    w.beat().await;
    assert_eq!(refused(w.payer.select(id).await), "DeadlinePassed");
}

async fn only_the_coordinator_begins_and_reports_in_order(on: On) {
    let w = World::new(on, 5).await;
    let id = w.selected(&w.ask()).await;
    let hash = B256::repeat_byte(1);
    let posted = w.submission(id, &[1; 5], &[1; 5]).await;
    assert_eq!(
        refused(w.coordinator.report(id, &posted).await),
        "WrongState"
    );
    assert_eq!(refused(w.payer.begin(id, hash).await), "NotCoordinator");
    w.coordinator.begin(id, hash).await.unwrap();
    assert_eq!(refused(w.coordinator.begin(id, hash).await), "WrongState");
    assert_eq!(refused(w.payer.report(id, &posted).await), "NotCoordinator");
    assert_eq!(refused(w.payer.finalize(id).await), "WrongState");
    w.coordinator.report(id, &posted).await.unwrap();
    assert_eq!(
        refused(w.coordinator.report(id, &posted).await),
        "WrongState"
    );
    assert_eq!(refused(w.payer.timeout(id).await), "AlreadyEnded");
    w.clock.pass(29);
    assert_eq!(refused(w.payer.finalize(id).await), "DisputeWindowOpen");
    w.clock.pass(1);
    w.payer.finalize(id).await.unwrap();

    let id = w.running(&w.ask()).await;
    let posted = w.submission(id, &[1; 5], &[1; 5]).await;
    w.clock.pass(121);
    assert_eq!(
        refused(w.coordinator.report(id, &posted).await),
        "DeadlinePassed"
    );
    w.payer.timeout(id).await.unwrap();
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::TimedOut);
    w.assert_conserved().await;
}

async fn a_submission_is_checked_to_its_last_word(on: On) {
    let w = World::new(on, 5).await;
    let id = w.running(&w.ask()).await;
    let windows = [5; 5];
    // One brings its share and 15 % more, and the others less.
    let good = w
        .submission(id, &[2_300, 2_000, 2_000, 1_700, 0], &windows)
        .await;
    let change = |f: &dyn Fn(&mut Submission)| {
        let mut posted = good.clone();
        f(&mut posted);
        posted
    };
    let cases = [
        (
            "CountsLength",
            change(&|s| {
                s.counts.pop();
            }),
        ),
        (
            "CountAboveCap",
            w.submission(id, &[2_301, 0, 0, 0, 0], &windows).await,
        ),
        ("CountsSum", change(&|s| s.packets += 1)),
        (
            "PacketsAboveTarget",
            w.submission(id, &[2_000, 2_000, 2_000, 2_000, 1], &windows)
                .await,
        ),
        ("SpansLength", change(&|s| s.spansUs.truncate(1))),
        ("SpansLength", change(&|s| s.spansUs.push(100_000))),
        ("SpanTooShort", change(&|s| s.spansUs[0] = 84_999)),
        ("SpanTooShort", change(&|s| s.spansUs[1] = 84_999)),
        (
            "CommitSignatureInvalid",
            change(&|s| s.responseHash = B256::ZERO),
        ),
        ("CommitSignatureInvalid", change(&|s| s.counts.swap(0, 4))),
        (
            "CommitSignatureInvalid",
            change(&|s| s.proverSignature = vec![0; 64].into()),
        ),
        (
            "CommitSignatureInvalid",
            change(&|s| {
                s.proverSignature = s.reports[0].signature.clone();
            }),
        ),
    ];
    for (name, case) in cases {
        assert_eq!(refused(w.coordinator.report(id, &case).await), name);
        assert_eq!(w.payer.state_of(id).await.unwrap(), State::Running);
    }
    let shortest = change(&|s| s.spansUs = vec![85_000; 2]);
    w.coordinator.report(id, &shortest).await.unwrap();
}

async fn an_uplinks_counts_and_spans_are_checked(on: On) {
    let w = World::new(on, 5).await;
    let mut asked = w.ask();
    asked.direction = 1;
    let id = w.running(&asked).await;
    // ⌈2000 · 1.15 · 4⌉ to each, all of them at once.
    let most = [9_200; 5];
    let mut more = most;
    more[4] += 1;
    let posted = w.posted(id, &more, &[(1, 5); 5]).await;
    let told = refused(w.coordinator.report(id, &posted).await);
    assert_eq!(told, "CountAboveCap");
    let mut posted = w.posted(id, &most, &[(9_200, 5); 5]).await;
    posted.spansUs[1] = 84_999;
    let told = refused(w.coordinator.report(id, &posted).await);
    assert_eq!(told, "SpanTooShort");
    posted.spansUs[1] += 1;
    w.coordinator.report(id, &posted).await.unwrap();
}

async fn the_vault_obeys_its_modules_and_its_owner_only(on: On) {
    let w = World::new(on, 1).await;
    let (chain, vault) = (&w.chain, w.chain.deployment().vault);
    let (owner, stranger) = (key(1).address(), w.payer.address());
    let (id, amount) = (B256::ZERO, U256::from(1));
    let staking = Vault::stakeFromCall {
        from: stranger,
        amount,
    };
    let unstaking = Vault::unstakeCall {
        account: stranger,
        amount,
    };
    let locking = Vault::lockCall {
        id,
        from: stranger,
        amount,
    };
    let crediting = Vault::creditCall {
        id,
        to: stranger,
        amount,
    };
    let refunding = Vault::refundCall { id, to: stranger };
    for from in [stranger, owner] {
        assert_eq!(tried(chain, from, vault, &staking).await, "NotAModule");
        assert_eq!(tried(chain, from, vault, &unstaking).await, "NotAModule");
        assert_eq!(tried(chain, from, vault, &locking).await, "NotAModule");
        assert_eq!(tried(chain, from, vault, &crediting).await, "NotAModule");
        assert_eq!(tried(chain, from, vault, &refunding).await, "NotAModule");
    }
    let registry = w.chain.deployment().registry;
    let admitting = Registry::admitCall {
        name: B256::ZERO,
        module: stranger,
    };
    let name = tried(chain, stranger, registry, &admitting).await;
    assert_eq!(name, "OwnableUnauthorizedAccount");
    assert_eq!(tried(chain, owner, registry, &admitting).await, "");
    let slashing = Vault::slashCall {
        account: w.prover.address(),
        amount,
        reporter: stranger,
        share: U256::ZERO,
    };
    let burning = Vault::burnCall { id };
    for from in [stranger, owner] {
        assert_eq!(tried(chain, from, vault, &slashing).await, "NotAModule");
        assert_eq!(tried(chain, from, vault, &burning).await, "NotAModule");
    }

    // A module reaches its own escrows only, and no more than there is.
    let (request, _) = w.payer.request(&w.ask()).await.unwrap();
    let backhaul = w.chain.deployment().backhaul;
    let participants = w.chain.deployment().participants;
    let take = Vault::creditCall {
        id: request,
        to: stranger,
        amount,
    };
    assert_eq!(
        tried(chain, participants, vault, &take).await,
        "EscrowTooSmall"
    );
    assert_eq!(tried(chain, backhaul, vault, &take).await, "");
    let all = Vault::creditCall {
        id: request,
        to: stranger,
        amount: U256::from(PURSE),
    };
    assert_eq!(tried(chain, backhaul, vault, &all).await, "EscrowTooSmall");
    let again = Vault::lockCall {
        id: request,
        from: stranger,
        amount,
    };
    assert_eq!(tried(chain, backhaul, vault, &again).await, "EscrowExists");
    let stake = Vault::unstakeCall {
        account: w.prover.address(),
        amount: U256::from(STAKE + 1),
    };
    assert_eq!(
        tried(chain, participants, vault, &stake).await,
        "StakeShort"
    );

    // A donation is nobody's, and disturbs nothing.
    w.payer.mint_lab(vault, U256::from(9)).await.unwrap();
    let totals = w.payer.totals().await.unwrap();
    assert_eq!(totals.balance, totals.held + U256::from(9));
    w.assert_conserved().await;
}
