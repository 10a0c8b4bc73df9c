//! A house of contracts on a chain in memory, with any token, for cases that are written and not drawn.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use plumbline::chain::{Effect, Fork, Genesis, Move};
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::{Deployment, Parameters, plan};

use crate::stage::{PURSE, START, Stage};

/// Joined in one block.
const CHUNK: usize = 50;

/// The vault's buckets: stakes, escrows, owed, burnt, and what it holds.
pub(crate) type Sums = [U256; 5];

#[derive(Clone)]
pub(crate) struct House {
    pub(crate) fork: Fork,
    pub(crate) d: Deployment,
    pub(crate) now: u64,
}

/// Key number `i`: always the same, and not one of the stage's.
pub(crate) fn key(i: usize) -> PrivateKeySigner {
    let secret = keccak256(U256::from(1_000_000 + i).to_be_bytes::<32>());
    PrivateKeySigner::from_bytes(&secret).unwrap()
}

pub(crate) fn account(i: usize) -> Address {
    key(i).address()
}

pub(crate) fn call<C: SolCall>(from: Address, to: Address, call: &C) -> Move {
    Move {
        from,
        to: Some(to),
        input: call.abi_encode().into(),
    }
}

impl House {
    /// With the lab token.
    pub(crate) fn new(parameters: Parameters) -> Self {
        let genesis = Genesis {
            chain_id: 7_331,
            deployer: key(0),
            parameters,
        };
        let fork = Fork::found(&genesis, START).unwrap();
        let d = fork.deployment();
        Self {
            fork,
            d,
            now: START,
        }
    }

    /// A second house beside that, whose token is the contract that `code` makes.
    pub(crate) fn with_token(parameters: &Parameters, code: &Bytes) -> Self {
        let mut house = Self::new(parameters.clone());
        let builder = account(1);
        let mut plan = plan(builder, 0, house.d.chain_id, parameters);
        // The first step makes the token.
        plan.steps[0].input = code.clone();
        let step = |s: &plumbline_contracts::deploy::Step| Move {
            from: builder,
            to: s.to,
            input: s.input.clone(),
        };
        for one in plan.steps.iter().map(step) {
            assert!(house.fork.block(START, &[one]).unwrap()[0].done);
        }
        house.d = plan.deployment;
        house
    }

    /// Makes a block; the vault holds what its buckets say, whatever happens.
    pub(crate) fn block(&mut self, moves: &[Move]) -> Vec<Effect> {
        let effects = self.fork.block(self.now, moves).unwrap();
        assert!(
            self.read(self.d.vault, &Vault::conservedCall {}),
            "money appeared or vanished"
        );
        effects
    }

    /// It goes through.
    #[allow(clippy::needless_pass_by_value)] // a move is made where it is sent
    pub(crate) fn must(&mut self, one: Move) -> Effect {
        let mut effects = self.block(std::slice::from_ref(&one));
        let effect = effects.remove(0);
        let why = self.fork.call(self.now, &one);
        assert!(
            effect.done,
            "{one:?}: gas {}, as of now {why:?}",
            effect.gas
        );
        effect
    }

    /// It is refused, by this name (empty: without a word), and no bucket has moved.
    pub(crate) fn refused(&mut self, one: Move) -> String {
        let before = self.sums();
        let why = self.fork.call(self.now, &one).unwrap_err();
        assert!(!self.block(&[one])[0].done);
        assert_eq!(self.sums(), before);
        why.map(|w| w.name).unwrap_or_default()
    }

    pub(crate) fn read<C: SolCall>(&self, to: Address, asked: &C) -> C::Return {
        let bytes = self
            .fork
            .call(self.now, &call(Address::ZERO, to, asked))
            .unwrap();
        C::abi_decode_returns(&bytes).unwrap()
    }

    pub(crate) fn sums(&self) -> Sums {
        let v = self.d.vault;
        [
            self.read(v, &Vault::totalStakeCall {}),
            self.read(v, &Vault::totalEscrowCall {}),
            self.read(v, &Vault::totalOwedCall {}),
            self.read(v, &Vault::burntCall {}),
            self.read(v, &Vault::heldCall {}),
        ]
    }

    pub(crate) fn owed(&self, account: Address) -> U256 {
        self.read(self.d.vault, &Vault::owedCall { account })
    }

    pub(crate) fn balance(&self, account: Address) -> U256 {
        self.read(self.d.token, &LabToken::balanceOfCall { account })
    }

    /// What `who` sends to have money and let the vault take it.
    pub(crate) fn purse(&self, who: Address) -> [Move; 2] {
        let mint = LabToken::mintCall {
            to: who,
            amount: U256::from(PURSE),
        };
        let approve = LabToken::approveCall {
            spender: self.d.vault,
            value: U256::MAX,
        };
        [
            call(who, self.d.token, &mint),
            call(who, self.d.token, &approve),
        ]
    }

    /// The next heartbeat of account `i`.
    pub(crate) fn beat(&self, i: usize) -> Move {
        let account = account(i);
        let count = self.read(self.d.beacon, &Beacon::heartbeatsCall { account });
        self.nth_beat(i, count)
    }

    fn nth_beat(&self, i: usize, count: u64) -> Move {
        let who = account(i);
        let revealed = if count == 0 {
            B256::ZERO
        } else {
            Stage::beacon_seed(who, count)
        };
        let asked = Beacon::heartbeatCall {
            revealedSeed: revealed,
            nextCommitment: keccak256(Stage::beacon_seed(who, count + 1)),
        };
        call(who, self.d.beacon, &asked)
    }

    /// Accounts of `range` register and send their first heartbeat.
    pub(crate) fn crowd(&mut self, range: std::ops::Range<usize>, roles: u32, stake: u128) {
        let list: Vec<usize> = range.collect();
        for chunk in list.chunks(CHUNK) {
            let mut moves = Vec::new();
            for &i in chunk {
                let who = account(i);
                moves.extend(self.purse(who));
                let asked = registration(who, roles, stake);
                moves.push(call(who, self.d.participants, &asked));
                moves.push(self.nth_beat(i, 0));
            }
            assert!(self.block(&moves).iter().all(|e| e.done));
        }
    }

    /// Gives money to `who` and registers it.
    pub(crate) fn join(&mut self, who: Address, roles: u32, stake: u128) {
        let mut moves = self.purse(who).to_vec();
        moves.push(call(
            who,
            self.d.participants,
            &registration(who, roles, stake),
        ));
        assert!(
            self.block(&moves).iter().all(|e| e.done),
            "{who} cannot join"
        );
    }
}

pub(crate) fn registration(who: Address, roles: u32, stake: u128) -> Participants::registerCall {
    Participants::registerCall {
        roles,
        networkKey: keccak256(who),
        crossSignature: vec![7; 64].into(),
        operator: keccak256(who),
        endpoint: "10.0.0.1:7000".into(),
        maxBps: 1_000_000_000,
        stake,
    }
}

/// A request of `n` challengers, of whom as many as possible may be corrupt.
pub(crate) fn request(
    (payer, prover, coordinator): (Address, Address, Address),
    n: u16,
    deadline: u64,
) -> Request {
    Request {
        payer,
        prover,
        coordinator,
        claimBps: 100_000_000,
        direction: 0,
        n,
        f: (n - 1) / 3,
        durationMs: 100,
        packetBytes: 1_500,
        pricePerByte: 3,
        deadline,
    }
}
