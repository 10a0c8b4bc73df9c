//! Tokens and receivers that misbehave: they harm themselves, and nobody's money is in their hands.
//!
//! ```text
//!   Vault ── transfer ──► HostileToken ── told ──► Accomplice ──► any entry point, again
//!                           lies, takes, blocks      refuses, burns all gas
//! ```

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::{SolCall, SolEvent, SolValue};
use plumbline::chain::client::role;
use plumbline::chain::{Effect, Move};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::explain;

use crate::house::{House, account, call, registration, request};
use crate::stage::parameters;

alloy::sol!(
    #[allow(missing_docs, clippy::all)]
    HostileToken,
    "tests/money/artifacts/HostileToken.json"
);
alloy::sol!(
    #[allow(missing_docs, clippy::all)]
    Accomplice,
    "tests/money/artifacts/Accomplice.json"
);

/// How the token's transfers go; numbers as in `HostileToken.sol`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Token {
    Honest,
    False,
    Silent,
    Fee,
    Blocks,
}

/// What the accomplice does; numbers as in `Accomplice.sol`.
#[derive(Clone, Copy, Debug)]
enum Friend {
    Nothing,
    Calls,
    Reverts,
    Burns,
}

/// Where a refused re-entry was refused.
const GUARD: &str = "ReentrancyGuardReentrantCall";

const PAYERS: [usize; 3] = [10, 11, 12];
const PROVER: usize = 20;
const COORDINATOR: usize = 21;

fn house() -> House {
    let mut house = House::with_token(&parameters(), &HostileToken::BYTECODE);
    for i in PAYERS {
        house.join(account(i), role::PAYER, 2_000);
    }
    house.join(account(PROVER), role::PROVER, 2_000);
    house.join(account(COORDINATOR), role::COORDINATOR, 2_000);
    house
}

fn behave(house: &mut House, manner: Token, blocked: Address) {
    let wanted = manner as u8;
    let asked = HostileToken::setMannerCall {
        wanted,
        account: blocked,
    };
    house.must(call(account(1), house.d.token, &asked));
}

fn asked(house: &House, payer: Address) -> Backhaul::requestCall {
    let parties = (payer, account(PROVER), account(COORDINATOR));
    Backhaul::requestCall {
        asked: request(parties, 4, house.now + 100),
        last: last_of(house, payer),
    }
}

fn withdraw(house: &House, who: Address) -> Move {
    call(who, house.d.vault, &Vault::withdrawCall {})
}

/// The last request of `payer`.
fn last_of(house: &House, payer: Address) -> alloy::primitives::B256 {
    house.read(house.d.backhaul, &Backhaul::lastOfCall { payer })
}

/// `payer` asks in vain, so that it is owed the price.
fn owe(house: &mut House, payer: Address) -> U256 {
    let made = asked(house, payer);
    house.must(call(payer, house.d.backhaul, &made));
    let id = last_of(house, payer);
    house.now = made.asked.deadline + 1;
    house.must(call(payer, house.d.backhaul, &Backhaul::timeoutCall { id }));
    let owed = house.owed(payer);
    assert!(!owed.is_zero());
    owed
}

/// Who orders what anybody may order.
fn account_of_a_stranger() -> Address {
    account(41)
}

/// Every way in which tokens come in.
fn deposits(house: &House, payer: Address) -> [Move; 3] {
    let newcomer = account(30);
    let amount = U256::from(1_000);
    [
        call(
            newcomer,
            house.d.participants,
            &registration(newcomer, role::PAYER, 2_000),
        ),
        call(
            payer,
            house.d.participants,
            &Participants::topUpCall { amount },
        ),
        call(payer, house.d.backhaul, &asked(house, payer)),
    ]
}

#[test]
fn a_token_that_delivers_less_than_it_says_is_not_believed() {
    let mut house = house();
    let payer = account(PAYERS[0]);
    let newcomer = account(30);
    for one in house.purse(newcomer) {
        house.must(one);
    }
    let owed = owe(&mut house, payer);
    for (manner, name) in [
        (Token::False, "SafeERC20FailedOperation"),
        (Token::Fee, "TransferShort"),
    ] {
        behave(&mut house, manner, Address::ZERO);
        for one in deposits(&house, payer) {
            assert_eq!(house.refused(one), name, "{manner:?}");
        }
    }
    behave(&mut house, Token::False, Address::ZERO);
    let one = withdraw(&house, payer);
    assert_eq!(house.refused(one), "SafeERC20FailedOperation");
    assert_eq!(house.owed(payer), owed);
    // A token that says nothing at all is an old one, and good.
    behave(&mut house, Token::Silent, Address::ZERO);
    for one in deposits(&house, payer) {
        house.must(one);
    }
    // On the way out the fee is between the token and its holder: the vault has paid what it owed.
    behave(&mut house, Token::Fee, Address::ZERO);
    let before = (house.balance(payer), house.balance(house.d.vault));
    house.must(withdraw(&house, payer));
    assert_eq!(house.owed(payer), U256::ZERO);
    let fee = owed / U256::from(100) + U256::from(1);
    assert_eq!(house.balance(payer) - before.0, owed - fee);
    assert_eq!(before.1 - house.balance(house.d.vault), owed - fee);
}

#[test]
fn a_blocked_account_waits_and_nobody_with_it() {
    let mut house = house();
    let [blocked, other, third] = PAYERS.map(account);
    let made = asked(&house, blocked);
    house.must(call(blocked, house.d.backhaul, &made));
    owe(&mut house, other);
    owe(&mut house, third);
    behave(&mut house, Token::Blocks, blocked);
    // What it has under way ends like everybody's, though no token of it can move.
    house.now = house.now.max(made.asked.deadline + 1);
    let id = last_of(&house, blocked);
    house.must(call(other, house.d.backhaul, &Backhaul::timeoutCall { id }));
    let owed = house.owed(blocked);
    assert!(!owed.is_zero());
    // The token's own word comes through; the house has no sentence for it.
    let one = withdraw(&house, blocked);
    assert_eq!(house.refused(one), "");
    for who in [other, third] {
        house.must(withdraw(&house, who));
        assert_eq!(house.owed(who), U256::ZERO);
    }
    assert_eq!(house.owed(blocked), owed);
    behave(&mut house, Token::Honest, Address::ZERO);
    let before = house.balance(blocked);
    house.must(withdraw(&house, blocked));
    assert_eq!(house.balance(blocked) - before, owed);
}

/// A contract that takes part: payer, registered, with money, owed something.
struct Plot {
    house: House,
    friend: Address,
}

impl Plot {
    fn new() -> Self {
        let mut house = house();
        let maker = account(40);
        let made = Move {
            from: maker,
            to: None,
            input: Accomplice::BYTECODE.clone(),
        };
        house.must(made);
        let friend = maker.create(0);
        let mut plot = Self { house, friend };
        let d = plot.house.d;
        let mint = LabToken::mintCall {
            to: friend,
            amount: U256::from(1 << 30),
        };
        plot.house.must(call(maker, d.token, &mint));
        let approve = LabToken::approveCall {
            spender: d.vault,
            value: U256::MAX,
        };
        plot.act(d.token, &approve);
        plot.act(d.participants, &registration(friend, role::PAYER, 2_000));
        let made = asked(&plot.house, friend);
        plot.act(d.backhaul, &made);
        let id = last_of(&plot.house, friend);
        plot.house.now = made.asked.deadline + 1;
        plot.act(d.backhaul, &Backhaul::timeoutCall { id });
        assert!(!plot.house.owed(friend).is_zero());
        plot
    }

    fn order<C: SolCall>(&self, to: Address, asked: &C) -> Move {
        let data = asked.abi_encode().into();
        call(account(41), self.friend, &Accomplice::actCall { to, data })
    }

    fn act<C: SolCall>(&mut self, to: Address, asked: &C) -> Effect {
        let one = self.order(to, asked);
        self.house.must(one)
    }

    fn behave(&mut self, manner: Friend) {
        let wanted = manner as u8;
        let asked = Accomplice::setMannerCall { wanted };
        self.house.must(call(account(41), self.friend, &asked));
    }

    fn hook(&mut self) {
        let account = self.friend;
        let token = self.house.d.token;
        self.house.must(call(
            account_of_a_stranger(),
            token,
            &HostileToken::hookCall { account },
        ));
    }
}

/// Calls that would move money if they were not made from inside a movement.
fn temptations(plot: &mut Plot) -> Vec<(&'static str, Address, Bytes)> {
    let (d, friend) = (plot.house.d, plot.friend);
    let late = asked(&plot.house, friend);
    plot.act(d.backhaul, &late);
    plot.house.now = late.asked.deadline + 1;
    let late = last_of(&plot.house, friend);
    let amount = U256::from(10);
    let next = asked(&plot.house, friend);
    vec![
        (
            "withdraw",
            d.vault,
            Vault::withdrawCall {}.abi_encode().into(),
        ),
        (
            "topUp",
            d.participants,
            Participants::topUpCall { amount }.abi_encode().into(),
        ),
        ("request", d.backhaul, next.abi_encode().into()),
        (
            "timeout",
            d.backhaul,
            Backhaul::timeoutCall { id: late }.abi_encode().into(),
        ),
    ]
}

/// `Accomplice.Tried` of one transaction: place, done, and the name of the refusal.
fn tried(effect: &Effect) -> Vec<(usize, bool, String)> {
    let events = effect
        .logs
        .iter()
        .filter_map(|l| Accomplice::Tried::decode_log(l).ok());
    let read = |e: alloy::primitives::Log<Accomplice::Tried>| {
        let name = explain(&e.answer).map(|r| r.name).unwrap_or_default();
        (e.place.to(), e.done, name)
    };
    events.map(read).collect()
}

#[test]
fn who_is_called_in_the_middle_of_a_movement_moves_nothing_more() {
    let mut plot = Plot::new();
    plot.hook();
    let list = temptations(&mut plot);
    for (name, to, data) in &list {
        // From outside each of them is possible …
        let mut alone = Plot {
            house: plot.house.clone(),
            friend: plot.friend,
        };
        let before = alone.house.sums();
        let act = Accomplice::actCall {
            to: *to,
            data: data.clone(),
        };
        alone.house.must(call(account(41), alone.friend, &act));
        assert_ne!(alone.house.sums(), before, "{name} moves nothing");
        let asked = Accomplice::planCall {
            to: *to,
            data: data.clone(),
        };
        plot.house.must(call(account(41), plot.friend, &asked));
    }
    let d = plot.house.d;
    let amount = U256::from(20);
    let made = asked(&plot.house, plot.friend);
    let outer = [
        plot.order(d.vault, &Vault::withdrawCall {}),
        plot.order(d.participants, &Participants::topUpCall { amount }),
        plot.order(d.backhaul, &made),
    ];
    for one in outer {
        let mut quiet = plot.house.clone();
        quiet.must(one.clone());
        let mut busy = Plot {
            house: plot.house.clone(),
            friend: plot.friend,
        };
        busy.behave(Friend::Calls);
        let told = tried(&busy.house.must(one));
        // … and from inside each is refused, before the movement and after it.
        assert_eq!(told.len(), 2 * list.len());
        for (place, done, name) in told {
            assert!(!done, "{} went through", list[place].0);
            assert_eq!(name, GUARD, "{}", list[place].0);
        }
        assert_eq!(busy.house.sums(), quiet.sums());
        assert_eq!(busy.house.balance(busy.friend), quiet.balance(busy.friend));
    }
}

#[test]
fn every_function_called_from_inside_a_movement_leaves_the_sums_alone() {
    let mut plot = Plot::new();
    plot.hook();
    let contracts = plot.house.d.contracts();
    let mut planned = 0;
    for (name, inputs) in crate::selectors() {
        let (_, to) = contracts.iter().find(|(n, _)| *n == name).unwrap();
        // As an account, a number or an id it says the accomplice; an offset it cannot be.
        let mut data = inputs.to_vec();
        data.extend((plot.friend, plot.friend, U256::from(1), U256::from(1)).abi_encode());
        let asked = Accomplice::planCall {
            to: *to,
            data: data.into(),
        };
        plot.house.must(call(account(41), plot.friend, &asked));
        planned += 1;
    }
    let one = plot.order(plot.house.d.vault, &Vault::withdrawCall {});
    let mut quiet = plot.house.clone();
    quiet.must(one.clone());
    plot.behave(Friend::Calls);
    let told = tried(&plot.house.must(one));
    assert_eq!(told.len(), 2 * planned);
    assert_eq!(plot.house.sums(), quiet.sums());
    println!("hostile: {planned} functions, each called twice from inside a withdrawal");
}

#[test]
fn a_receiver_that_refuses_or_burns_gas_waits_and_nobody_with_it() {
    let mut plot = Plot::new();
    let other = account(PAYERS[0]);
    let d = plot.house.d;
    let owed = plot.house.owed(plot.friend);
    // An ordinary token does not ask its receiver.
    plot.behave(Friend::Reverts);
    let mut ordinary = plot.house.clone();
    ordinary.must(plot.order(d.vault, &Vault::withdrawCall {}));
    assert_eq!(ordinary.owed(plot.friend), U256::ZERO);
    plot.behave(Friend::Nothing);
    let made = asked(&plot.house, plot.friend);
    plot.act(d.backhaul, &made);
    plot.house.now = made.asked.deadline + 1;
    owe(&mut plot.house, other);
    plot.hook();
    for manner in [Friend::Reverts, Friend::Burns] {
        plot.behave(manner);
        let before = (
            plot.house.sums(),
            plot.house.balance(other),
            plot.house.owed(other),
        );
        let block = [
            plot.order(d.vault, &Vault::withdrawCall {}),
            withdraw(&plot.house, other),
        ];
        let done: Vec<bool> = plot
            .house
            .clone()
            .block(&block)
            .iter()
            .map(|e| e.done)
            .collect();
        assert_eq!(done, [false, true], "{manner:?}");
        plot.house.refused(block[0].clone());
        assert_eq!(plot.house.sums(), before.0);
        assert_eq!(plot.house.owed(plot.friend), owed);
    }
    // Its measurement ends without it, and it is paid when it lets itself be paid.
    let id = last_of(&plot.house, plot.friend);
    plot.house
        .must(call(other, d.backhaul, &Backhaul::timeoutCall { id }));
    plot.behave(Friend::Nothing);
    let owed = plot.house.owed(plot.friend);
    let before = plot.house.balance(plot.friend);
    plot.act(d.vault, &Vault::withdrawCall {});
    assert_eq!(plot.house.balance(plot.friend) - before, owed);
}
