//! A chain that takes blocks back, is busy, or wants to be paid: anvil as a process of its own.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256};
use plumbline::chain::client::{ClientError, Patience, role};
use plumbline::chain::rpc::Options;
use plumbline::chain::{ChainClient, Endpoints, Finality};
use plumbline_contracts::{State, Verdict};
use serde_json::{Value, json};

use crate::stand::{Anvil, On, Stand};
use crate::world::{CHAIN_ID, FEE, STAKE, WINDOW, World, fund, key, registration, seeds};

/// Blocks on top of one before it counts.
const DEPTH: u64 = 2;
/// Far beyond what any of these conditions takes: reaching it is the failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` gives something.
async fn awaited<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await;
    found.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// Transactions of `account` in blocks.
fn count(anvil: &Anvil, account: Address) -> u64 {
    let told = anvil.ask("eth_getTransactionCount", &json!([account, "latest"]));
    told.as_str().unwrap().parse::<U256>().unwrap().to()
}

/// A client of the same chain that waits for [`DEPTH`] blocks.
async fn careful(w: &World, number: u8) -> ChainClient {
    let urls = [w.chain.anvil().url()];
    let options = Options::new(Finality::Depth(DEPTH));
    let endpoints = Endpoints::connect(&urls, CHAIN_ID, options).await.unwrap();
    let deployment = w.chain.deployment();
    ChainClient::connect(&endpoints, key(number), deployment)
        .await
        .unwrap()
}

/// Does `call` while its block is taken back once: it comes into another, once, and only then is
/// acknowledged.
async fn undone<T>(
    w: &World,
    sender: Address,
    call: impl Future<Output = Result<T, ClientError>>,
) -> T {
    let anvil = w.chain.anvil();
    let (height, before) = (anvil.height(), count(anvil, sender));
    let script = async {
        awaited("in a block", || (anvil.height() > height).then_some(())).await;
        assert_eq!(count(anvil, sender), before + 1);
        anvil.reorganise(1);
        assert_eq!(
            count(anvil, sender),
            before,
            "the reorganisation left it in"
        );
        awaited("in another block", || {
            (count(anvil, sender) == before + 1).then_some(())
        })
        .await;
        anvil.mine(DEPTH);
    };
    let (done, ()) = tokio::join!(call, script);
    assert_eq!(count(anvil, sender), before + 1, "it is there twice");
    done.unwrap_or_else(|e| panic!("{e}"))
}

#[tokio::test]
async fn every_step_survives_that_its_block_is_taken_back() {
    let w = World::new(On::Anvil, 5).await;
    let newcomer = careful(&w, 40).await;
    fund(&w.chain.client(key(40)).await).await;
    let own = registration(40, role::CHALLENGER);
    undone(&w, newcomer.address(), newcomer.register(&own)).await;
    let known = newcomer.participant(newcomer.address()).await.unwrap();
    assert_eq!(known.unwrap().network_key, B256::repeat_byte(40));
    let seed = seeds(&newcomer);
    undone(&w, newcomer.address(), newcomer.beat(&seed)).await;
    undone(&w, newcomer.address(), newcomer.beat(&seed)).await;
    assert_eq!(newcomer.heartbeats(newcomer.address()).await.unwrap(), 2);

    let (payer, coordinator) = (careful(&w, 2).await, careful(&w, 4).await);
    let asked = w.ask();
    let escrow = w.payer.quote(&asked).await.unwrap().2;
    let (id, _) = undone(&w, payer.address(), payer.request(&asked)).await;
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), escrow);
    w.beat().await;
    undone(&w, coordinator.address(), coordinator.select(id)).await;
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Selected);
    let setup = B256::repeat_byte(9);
    undone(&w, coordinator.address(), coordinator.begin(id, setup)).await;
    let times = [WINDOW; 5];
    let posted = posted(&w, id, &newcomer, &times).await;
    undone(&w, coordinator.address(), coordinator.report(id, &posted)).await;
    let outcome = w.payer.result_of(id).await.unwrap().unwrap();
    assert_eq!(outcome.verdict, Verdict::Pass);
    w.clock.pass(30);
    undone(&w, payer.address(), payer.finalize(id)).await;
    assert_eq!(w.payer.state_of(id).await.unwrap(), State::Final);
    assert_eq!(w.payer.escrow_of(id).await.unwrap(), U256::ZERO);
    let owed = w.payer.owed(coordinator.address()).await.unwrap();
    assert_eq!(owed, U256::from(FEE));
    undone(&w, coordinator.address(), coordinator.withdraw()).await;
    assert_eq!(
        w.payer.owed(coordinator.address()).await.unwrap(),
        U256::ZERO
    );
    let stake = w.payer.stake_of(newcomer.address()).await.unwrap();
    assert_eq!(stake, U256::from(STAKE));
    w.assert_conserved().await;
}

/// What all five report, whoever they are.
async fn posted(
    w: &World,
    id: B256,
    newcomer: &ChainClient,
    windows: &[u32],
) -> plumbline_contracts::abi::backhaul::IBackhaul::Submission {
    use plumbline_contracts::Timing;
    let counts = [1_600; 5];
    let mut posted = w.submission(id, &counts, &[]).await;
    let selected = w.payer.selected_of(id).await.unwrap();
    for (index, (address, window)) in (0_u16..).zip(selected.iter().zip(windows)) {
        let known = w.challengers.iter().chain([newcomer]);
        let signer = known.into_iter().find(|c| c.address() == *address).unwrap();
        let timing = Timing {
            index,
            window_us: *window,
            packets: counts[usize::from(index)],
        };
        let signed = w.sign_report(id, signer, timing, posted.responseHash);
        posted.reports.push(signed);
    }
    posted
}

#[tokio::test]
async fn nothing_is_acknowledged_one_block_too_early() {
    let w = World::new(On::Anvil, 0).await;
    let payer = careful(&w, 2).await;
    let anvil = w.chain.anvil();
    let height = anvil.height();
    let word = Bytes::from_static(b"an offence");
    let sending = payer.announce_proof(Address::ZERO, &word, B256::ZERO);
    tokio::pin!(sending);
    tokio::select! {
        early = &mut sending => panic!("acknowledged without a block on top: {early:?}"),
        () = awaited("in a block", || (anvil.height() > height).then_some(())) => {}
    }
    anvil.mine(DEPTH - 1);
    // Two looks of the client fit: the longest pause between them is a second.
    let early = tokio::time::timeout(Duration::from_millis(2_200), &mut sending).await;
    assert!(early.is_err(), "acknowledged a block too early: {early:?}");
    anvil.mine(1);
    assert_eq!(sending.await.unwrap().block, height + 1);
    assert_eq!(payer.settled_height().await.unwrap(), height + 1);
}

/// What moves no money and is done again if it is taken back.
#[tokio::test]
async fn what_can_be_done_again_is_acted_on_with_one_block_on_top() {
    let w = World::new(On::Anvil, 0).await;
    let payer = careful(&w, 2).await;
    let anvil = w.chain.anvil();
    let height = anvil.height();
    let sending = payer.mint_lab(payer.address(), U256::from(1));
    tokio::pin!(sending);
    tokio::select! {
        early = &mut sending => panic!("acknowledged without a block on top: {early:?}"),
        () = awaited("in a block", || (anvil.height() > height).then_some(())) => {}
    }
    // Two looks of the client fit: the longest pause between them is a second.
    let early = tokio::time::timeout(Duration::from_millis(2_200), &mut sending).await;
    assert!(early.is_err(), "acknowledged a block too early: {early:?}");
    anvil.mine(1);
    assert_eq!(sending.await.unwrap().block, height + 1);
    assert_eq!(payer.settled_height().await.unwrap(), height + 2 - DEPTH);
}

#[tokio::test]
async fn a_blocks_time_is_the_average_of_the_last_ones() {
    let w = World::new(On::Anvil, 0).await;
    let (anvil, client) = (w.chain.anvil(), &w.payer);
    for _ in 0..40 {
        w.clock.pass(12);
    }
    assert!(anvil.height() > 40);
    assert_eq!(client.block_time().await.unwrap(), Duration::from_secs(12));
    for _ in 0..16 {
        w.clock.pass(4);
    }
    assert_eq!(client.block_time().await.unwrap(), Duration::from_secs(8));
}

#[tokio::test]
async fn finalized_is_the_chains_own_word() {
    // Two epochs of one block: what lies two blocks back is finalized.
    let anvil = Arc::new(Anvil::start(&["--slots-in-an-epoch", "1"]));
    let stand = Stand::settled(anvil.clone(), Finality::Finalized).await;
    let client = stand.client(key(2)).await;
    let height = anvil.height();
    let script = async {
        awaited("in a block", || (anvil.height() > height).then_some(())).await;
        anvil.mine(2);
    };
    let word = Bytes::from_static(b"an offence");
    let said = client.announce_proof(Address::ZERO, &word, B256::ZERO);
    let (sent, ()) = tokio::join!(said, script);
    assert_eq!(sent.unwrap().block, height + 1);
    assert_eq!(client.settled_height().await.unwrap(), height + 1);
}

/// An anvil that makes no block by itself and wants a gwei for gas, and the contracts on it.
async fn busy() -> (Arc<Anvil>, Stand) {
    let dear = ["--block-base-fee-per-gas", "1000000000"];
    let anvil = Arc::new(Anvil::start(&dear));
    rich(&anvil, key(1).address());
    let stand = Stand::settled(anvil.clone(), Finality::IMMEDIATE).await;
    anvil.ask("evm_setAutomine", &json!([false]));
    (anvil, stand)
}

fn rich(anvil: &Anvil, account: Address) {
    anvil.ask("anvil_setBalance", &json!([account, "0xde0b6b3a7640000"]));
}

/// Most that the pooled transaction of `account` pays for a unit of gas.
fn pooled_fee(anvil: &Anvil, account: Address) -> Option<u128> {
    let pool = anvil.ask("txpool_content", &json!([]));
    let all = pool["pending"].as_object()?;
    let (_, of) = all
        .iter()
        .find(|(who, _)| who.parse::<Address>().is_ok_and(|who| who == account))?;
    let transactions: Vec<&Value> = of.as_object()?.values().collect();
    assert_eq!(transactions.len(), 1, "one nonce, one transaction");
    let fee = transactions[0]["maxFeePerGas"].as_str()?.parse::<U256>();
    Some(fee.unwrap().to())
}

#[tokio::test]
async fn a_transaction_that_no_block_takes_pays_more_up_to_the_limit() {
    let (anvil, stand) = busy().await;
    let client = stand.client(key(2)).await;
    rich(&anvil, client.address());
    let patience = Patience {
        bump: Duration::from_millis(100),
        ..Patience::until(Finality::IMMEDIATE)
    };
    let client = client.with_patience(patience);
    let account = client.address();
    let script = async {
        let first = awaited("pooled", || pooled_fee(&anvil, account)).await;
        let raised = awaited("raised twice", || {
            pooled_fee(&anvil, account).filter(|fee| fee * 64 >= first * 81)
        });
        raised.await;
        anvil.mine(1);
        first
    };
    let minted = client.mint_lab(account, U256::from(5));
    let (sent, first) = tokio::join!(minted, script);
    sent.unwrap();
    assert_eq!(client.balance(account).await.unwrap(), U256::from(5));
    assert_eq!(count(&anvil, account), 1);

    // What it begins with follows from how many blocks there were: half as much again is a few steps away.
    let limit = first * 3 / 2;
    let patience = Patience {
        bump: Duration::from_millis(20),
        settle: Duration::from_secs(12),
        max_fee_per_gas: limit,
        ..patience
    };
    let client = client.with_patience(patience);
    let told = client.mint_lab(account, U256::from(5)).await.unwrap_err();
    assert!(matches!(told, ClientError::NotSettled { .. }), "{told}");
    let words = told.to_string();
    assert!(
        words.contains(&format!("more than {limit} is not paid")),
        "{words}"
    );
    assert!(words.contains(&anvil.url()), "{words}");
    assert!(pooled_fee(&anvil, account).unwrap() <= limit);
}

#[tokio::test]
async fn a_stuck_earlier_transaction_is_replaced_and_not_waited_for() {
    let (anvil, stand) = busy().await;
    let first = stand.client(key(2)).await;
    let account = first.address();
    rich(&anvil, account);
    // A process that dies while its transaction waits.
    let abandoned = tokio::spawn(async move { first.mint_lab(account, U256::from(1)).await });
    let stuck = awaited("pooled", || pooled_fee(&anvil, account)).await;
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    let second = stand.client(key(2)).await;
    let script = async {
        awaited("replaced", || {
            pooled_fee(&anvil, account).filter(|fee| *fee > stuck)
        })
        .await;
        anvil.mine(1);
    };
    let minted = second.mint_lab(account, U256::from(2));
    let (sent, ()) = tokio::join!(minted, script);
    sent.unwrap();
    assert_eq!(second.balance(account).await.unwrap(), U256::from(2));
    assert_eq!(count(&anvil, account), 1);
}

#[tokio::test]
async fn whose_nonce_was_taken_is_sent_anew_once() {
    let (anvil, stand) = busy().await;
    let (one, other) = (stand.client(key(2)).await, stand.client(key(2)).await);
    let account = one.address();
    rich(&anvil, account);
    // Both take the same nonce: the second must pay more, and displaces the first.
    let script = async {
        let stuck = awaited("pooled", || pooled_fee(&anvil, account)).await;
        let later = async {
            other.mint_lab(account, U256::from(20)).await.unwrap();
        };
        let mining = async {
            awaited("replaced", || {
                pooled_fee(&anvil, account).filter(|fee| *fee > stuck)
            })
            .await;
            anvil.mine(1);
            awaited("sent anew", || pooled_fee(&anvil, account)).await;
            anvil.mine(1);
        };
        tokio::join!(later, mining);
    };
    let minted = one.mint_lab(account, U256::from(1));
    let (sent, ()) = tokio::join!(minted, script);
    sent.unwrap();
    assert_eq!(one.balance(account).await.unwrap(), U256::from(21));
    assert_eq!(count(&anvil, account), 2);
}

#[tokio::test]
async fn who_cannot_pay_for_gas_is_told_how_much_and_where() {
    let (anvil, stand) = busy().await;
    let poor = stand.client(key(2)).await;
    let told = poor.mint_lab(poor.address(), U256::from(1)).await;
    let words = told.unwrap_err().to_string();
    let account = poor.address().to_string();
    for part in [
        "insufficient funds for gas",
        &anvil.url(),
        &account,
        "has 0 wei on chain 7331",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}
