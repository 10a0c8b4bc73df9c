//! A chain in memory and its people: gas is the same as on the engine's disk, since both execute by the same
//! code, and nobody waits for a sync.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, Bytes, Log, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use anyhow::{Context, Result, bail, ensure};
use plumbline::chain::client::commitment;
use plumbline::chain::embedded::{Fork, Move, Rules};
use plumbline_contracts::Deployment;
use plumbline_contracts::abi::beacon::Beacon;
use plumbline_contracts::abi::lab_token::LabToken;
use plumbline_contracts::abi::participants::Participants;

use super::super::clock::START;
use super::super::lab::{PURSE, genesis, key, registration, seeds};

/// Moves of one block while nothing is measured: of all kinds that are made here, so many fit.
const CROWD: usize = 96;

/// Somebody with a key.
pub(super) type Person = PrivateKeySigner;

/// What a transaction took and announced.
pub(super) struct Done {
    pub(super) gas: u64,
    pub(super) logs: Vec<Log>,
}

/// The chain.
pub(super) struct Town {
    fork: Fork,
    now: u64,
    beats: BTreeMap<Address, u64>,
}

impl Town {
    pub(super) fn found(rules: Rules) -> Result<Self> {
        Ok(Self {
            fork: Fork::found_under(&genesis()?, START, rules)?,
            now: START,
            beats: BTreeMap::new(),
        })
    }

    pub(super) fn deployment(&self) -> Deployment {
        self.fork.deployment()
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += seconds;
    }

    /// Makes a block of one call.
    ///
    /// # Errors
    /// It is refused: why.
    pub(super) fn alone<C: SolCall>(
        &mut self,
        from: &Person,
        to: Address,
        call: &C,
    ) -> Result<Done> {
        let mut done = self.block(&[step(from, to, call)])?;
        done.pop().context("a block without its transaction")
    }

    /// Makes blocks of all these.
    fn crowd(&mut self, moves: &[Move]) -> Result<()> {
        for some in moves.chunks(CROWD) {
            self.block(some)?;
        }
        Ok(())
    }

    /// Makes one block.
    fn block(&mut self, moves: &[Move]) -> Result<Vec<Done>> {
        let effects = self.fork.block(self.now, moves)?;
        let pairs = moves.iter().zip(effects);
        let done = pairs.map(|(one, effect)| {
            if !effect.done {
                let why = self.fork.call(self.now, one).err().flatten();
                let why = why.map_or_else(|| "no reason".to_owned(), |why| why.to_string());
                bail!("a transaction from {} failed: {why}", one.from);
            }
            Ok(Done {
                gas: effect.gas,
                logs: effect.logs,
            })
        });
        done.collect()
    }

    /// What a view answers.
    pub(super) fn ask<C: SolCall>(&self, to: Address, call: &C) -> Result<C::Return> {
        let one = Move {
            from: Address::ZERO,
            to: Some(to),
            input: call.abi_encode().into(),
        };
        match self.fork.call(self.now, &one) {
            Ok(output) => C::abi_decode_returns(&output).context("an answer of another shape"),
            Err(why) => bail!("{} is refused: {why:?}", C::SIGNATURE),
        }
    }

    /// People with tokens that the vault may take.
    pub(super) fn funded(&mut self, name: &str, count: usize) -> Result<Vec<Person>> {
        let d = self.deployment();
        let people: Vec<Person> = (0..count).map(|i| key(name, i)).collect::<Result<_>>()?;
        let mut moves = Vec::with_capacity(2 * count);
        for person in &people {
            let mint = LabToken::mintCall {
                to: person.address(),
                amount: U256::from(PURSE),
            };
            let approve = LabToken::approveCall {
                spender: d.vault,
                value: U256::MAX,
            };
            moves.push(step(person, d.token, &mint));
            moves.push(step(person, d.token, &approve));
        }
        self.crowd(&moves)?;
        Ok(people)
    }

    /// People with tokens and, from the call on, these roles.
    pub(super) fn joined(&mut self, name: &str, count: usize, roles: u32) -> Result<Vec<Person>> {
        let people = self.funded(name, count)?;
        let to = self.deployment().participants;
        let moves = people.iter().enumerate();
        let moves = moves.map(|(number, person)| step(person, to, &register(name, number, roles)));
        self.crowd(&moves.collect::<Vec<_>>())?;
        Ok(people)
    }

    /// Everyone heartbeats.
    pub(super) fn beat(&mut self, people: &[Person]) -> Result<()> {
        let mut moves = Vec::with_capacity(people.len());
        for person in people {
            moves.push(self.next_beat(person));
        }
        self.crowd(&moves)
    }

    /// Everyone heartbeats in one block; the gas of each.
    pub(super) fn beat_at_once(&mut self, people: &[Person]) -> Result<Vec<u64>> {
        ensure!(people.len() <= CROWD, "at most {CROWD} beat at once");
        let mut moves = Vec::with_capacity(people.len());
        for person in people {
            moves.push(self.next_beat(person));
        }
        Ok(self.block(&moves)?.iter().map(|done| done.gas).collect())
    }

    fn next_beat(&mut self, person: &Person) -> Move {
        let (deployment, account) = (self.deployment(), person.address());
        let seeds = seeds(account);
        let seed = |count| seeds.seed(&deployment, account, count);
        let count = self.beats.entry(account).or_default();
        let call = Beacon::heartbeatCall {
            revealedSeed: count.checked_sub(1).map_or(B256::ZERO, seed),
            nextCommitment: commitment(seed(*count)),
        };
        *count += 1;
        step(person, deployment.beacon, &call)
    }
}

fn step<C: SolCall>(from: &Person, to: Address, call: &C) -> Move {
    Move {
        from: from.address(),
        to: Some(to),
        input: call.abi_encode().into(),
    }
}

/// The registration of number `number` of these.
pub(super) fn register(name: &str, number: usize, roles: u32) -> Participants::registerCall {
    let r = registration(name, number, roles);
    Participants::registerCall {
        roles: r.roles,
        networkKey: r.network_key.into(),
        crossSignature: r.cross_signature.to_vec().into(),
        operator: r.operator.into(),
        endpoint: r.endpoint,
        maxBps: r.max_bps,
        stake: r.stake,
    }
}

/// Signs as a party of a measurement does.
pub(super) fn sign(person: &Person, digest: B256) -> Result<Bytes> {
    let signature = person.sign_hash_sync(&digest)?;
    Ok(signature.as_bytes().to_vec().into())
}

/// A hash that is the same in every run.
pub(super) fn word(what: &str) -> B256 {
    keccak256(format!("plumbline bench {what}"))
}
