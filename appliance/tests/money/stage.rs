//! A chain with many actors, whose every block is entered into the shadow ledger and compared.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{SolCall, SolValue};
use plumbline::chain::{Fork, Genesis, Move};
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::vault::Vault;
use plumbline_contracts::{Deployment, Parameters};

use crate::book::Book;
use crate::chance::Chance;

pub(crate) const START: u64 = 1_700_000_000;
pub(crate) const PURSE: u64 = 1 << 40;

pub(crate) fn parameters() -> Parameters {
    Parameters {
        min_stake: 1_000,
        seed_answer_s: 60,
        unbonding_s: 3_000,
        live_interval_s: 900,
        coordinator_fee: 77,
        dispute_window_s: 40,
        jury_size: 3,
        jury_draw_s: 90,
        jury_commit_s: 60,
        jury_reveal_s: 60,
        notice_s: 120,
        ..Parameters::default()
    }
}

pub(crate) struct Actor {
    pub(crate) signer: PrivateKeySigner,
    pub(crate) roles: u32,
}

impl Actor {
    pub(crate) fn address(&self) -> Address {
        self.signer.address()
    }

    pub(crate) fn sign(&self, digest: B256) -> Bytes {
        let signature = self.signer.sign_hash_sync(&digest).unwrap();
        signature.as_bytes().to_vec().into()
    }
}

/// How often something was tried and how it ended.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) done: BTreeMap<String, u64>,
    pub(crate) refused: BTreeMap<String, u64>,
    /// Refusals by name, of those that were asked for their reason.
    pub(crate) reasons: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.done, &other.done),
            (&mut self.refused, &other.refused),
            (&mut self.reasons, &other.reasons),
        ];
        for (into, from) in pairs {
            for (name, count) in from {
                *into.entry(name.clone()).or_default() += count;
            }
        }
    }
}

/// A call on its way, with the name it is counted under.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) one: Move,
    /// Whether its input was damaged: what is no encoding at all is refused without a word.
    pub(crate) bent: bool,
}

pub(crate) fn named<C: SolCall>(name: &'static str, from: Address, to: Address, call: &C) -> Named {
    let one = Move {
        from,
        to: Some(to),
        input: call.abi_encode().into(),
    };
    Named {
        name,
        one,
        bent: false,
    }
}

pub(crate) struct Stage {
    pub(crate) fork: Fork,
    pub(crate) d: Deployment,
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) actors: Vec<Actor>,
    pub(crate) book: Book,
    pub(crate) tally: Tally,
    minted: U256,
}

impl Stage {
    /// `roles[i]` are those that actor i may register for; actor 0 is the governor.
    pub(crate) fn new(seed: u64, roles: &[u32]) -> Self {
        let signer = |i: usize| {
            let key = keccak256(U256::from(i + 1).to_be_bytes::<32>());
            PrivateKeySigner::from_bytes(&key).unwrap()
        };
        let actors: Vec<Actor> = roles
            .iter()
            .enumerate()
            .map(|(i, roles)| Actor {
                signer: signer(i),
                roles: *roles,
            })
            .collect();
        let genesis = Genesis {
            chain_id: 7_331,
            deployer: actors[0].signer.clone(),
            parameters: parameters(),
        };
        let fork = Fork::found(&genesis, START).unwrap();
        let d = fork.deployment();
        let book = Book::new(d, &genesis.parameters);
        Self {
            fork,
            d,
            now: START,
            chance: Chance::new(seed),
            actors,
            book,
            tally: Tally::default(),
            minted: U256::ZERO,
        }
    }

    /// Makes a block of `moves` at the present time, and compares everything.
    pub(crate) fn block(&mut self, moves: &[Named]) -> Vec<bool> {
        let list: Vec<Move> = moves.iter().map(|m| m.one.clone()).collect();
        let why = match list.as_slice() {
            [one] => self.fork.call(self.now, one).err(),
            _ => None,
        };
        let effects = self.fork.block(self.now, &list).unwrap();
        for (named, effect) in moves.iter().zip(&effects) {
            let tally = if effect.done {
                &mut self.tally.done
            } else {
                &mut self.tally.refused
            };
            *tally.entry(named.name.to_owned()).or_default() += 1;
            self.book.take(self.now, &named.one, &effect.logs);
        }
        if let Some(why) = why {
            let named = moves[0].name;
            assert!(!effects[0].done, "{named}: a trial and the block differ");
            assert!(effects[0].gas < Fork::MOVE_GAS, "{named} burnt all its gas");
            match why {
                Some(why) => *self.tally.reasons.entry(why.name).or_default() += 1,
                // A revert that says nothing leaves everyone guessing.
                None => assert!(moves[0].bent, "{named} was refused without a word"),
            }
        }
        self.compare(moves);
        effects.iter().map(|e| e.done).collect()
    }

    pub(crate) fn read<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        let one = Move {
            from: Address::ZERO,
            to: Some(to),
            input: call.abi_encode().into(),
        };
        let bytes = self.fork.call(self.now, &one).unwrap();
        C::abi_decode_returns(&bytes).unwrap()
    }

    /// The vault against the shadow ledger: the totals, and the buckets of everyone who moved.
    fn compare(&mut self, moves: &[Named]) {
        let sum = |values: &mut dyn Iterator<Item = &U256>| values.copied().sum::<U256>();
        let (v, b) = (self.d.vault, &self.book);
        let stakes = sum(&mut b.stake.values());
        let escrows = sum(&mut b.escrow.values());
        let owed = sum(&mut b.owed.values());
        assert_eq!(self.read(v, &Vault::totalStakeCall {}), stakes);
        assert_eq!(self.read(v, &Vault::totalEscrowCall {}), escrows);
        assert_eq!(self.read(v, &Vault::totalOwedCall {}), owed);
        assert_eq!(self.read(v, &Vault::burntCall {}), b.burnt);
        assert_eq!(self.read(v, &Vault::heldCall {}), b.held);
        assert_eq!(stakes + escrows + owed + b.burnt, b.held);
        let balance = b.tokens.get(&v).copied().unwrap_or_default();
        assert!(b.held <= balance);
        for account in moves.iter().map(|m| m.one.from) {
            self.compare_account(account);
        }
    }

    fn compare_account(&self, account: Address) {
        let v = self.d.vault;
        let of = |map: &BTreeMap<Address, U256>| map.get(&account).copied().unwrap_or_default();
        assert_eq!(
            self.read(v, &Vault::stakeCall { account }),
            of(&self.book.stake)
        );
        assert_eq!(
            self.read(v, &Vault::owedCall { account }),
            of(&self.book.owed)
        );
        let balance = self.read(self.d.token, &LabToken::balanceOfCall { account });
        assert_eq!(balance, of(&self.book.tokens));
    }

    /// Every bucket there ever was, and every token.
    pub(crate) fn compare_all(&mut self) {
        for account in self.book.tokens.keys().chain(self.book.owed.keys()) {
            self.compare_account(*account);
        }
        for ((module, id), amount) in &self.book.escrow {
            let call = Vault::escrowOfCall {
                module: *module,
                id: *id,
            };
            assert_eq!(self.read(self.d.vault, &call), *amount);
        }
        self.minted = self.read(self.d.token, &LabToken::totalSupplyCall {});
        assert_eq!(
            self.book.tokens.values().copied().sum::<U256>(),
            self.minted
        );
    }

    /// The seed that the `number`-th heartbeat of `account` commits to.
    pub(crate) fn beacon_seed(account: Address, number: u64) -> B256 {
        keccak256((account, U256::from(number)).abi_encode())
    }
}
