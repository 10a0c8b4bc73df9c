//! The real contracts on a chain that reorganises, and what its logs say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use alloy::primitives::{Address, B256, Bytes};
use alloy::sol_types::{SolCall, SolEventInterface};
use plumbline::chain::embedded::{Effect, Fork, Move};
use plumbline_contracts::abi::backhaul::Backhaul::{self, BackhaulEvents as Told};
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::abi::beacon::Beacon::BeaconEvents;
use plumbline_contracts::abi::disputes::Disputes::DisputesEvents;
use plumbline_contracts::abi::jury::Jury::JuryEvents;
use plumbline_contracts::abi::participants::Participants::ParticipantsEvents;
use plumbline_contracts::abi::vault::Vault::VaultEvents;
use plumbline_contracts::{State, Verdict, seated};
use plumbline_proof::backhaul::params::Terms;

use crate::stage::parameters;

/// Blocks that a reorganisation never takes back.
pub(crate) const DEPTH: usize = 6;

/// A transaction on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tx {
    pub(crate) what: &'static str,
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) input: Bytes,
}

impl Tx {
    pub(crate) fn as_move(&self) -> Move {
        Move {
            from: self.from,
            to: Some(self.to),
            input: self.input.clone(),
        }
    }
}

/// A measurement, as the logs tell it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) state: State,
    pub(crate) selected: Vec<Address>,
    pub(crate) verdict: Verdict,
    pub(crate) guaranteed: u128,
    pub(crate) bundle: B256,
    pub(crate) reported_at: u64,
    contested_at: u64,
    /// Disputes that are open.
    disputes: u32,
    /// How long its window stood still because of those that are over.
    pub(crate) judged_s: u64,
    pub(crate) reporters: u64,
    /// Packets of each challenger whose report counts.
    pub(crate) counts: Vec<u32>,
    pub(crate) annulled: Vec<Address>,
    pub(crate) paid: BTreeMap<Address, u128>,
    /// Of the coordinator.
    pub(crate) fee: u128,
    /// Unix second of the end.
    pub(crate) ended_at: u64,
}

impl Job {
    /// What is measured; only towards the prover here.
    pub(crate) fn terms(&self) -> Terms {
        let asked = &self.request;
        Terms::downlink(asked.claimBps, asked.n, asked.f, asked.durationMs)
    }
}

/// For how long a window stands still at most.
pub(crate) fn standstill() -> u64 {
    2 * jury()
}

/// What a jury takes at most.
pub(crate) fn jury() -> u64 {
    let p = parameters();
    p.jury_draw_s + p.jury_commit_s + p.jury_reveal_s
}

/// A dispute and its case, as the logs tell it.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) case: B256,
    pub(crate) evidence: B256,
    pub(crate) opened_at: u64,
    pub(crate) jurors: Vec<Address>,
    pub(crate) drawn_at: u64,
    pub(crate) commit_until: u64,
    pub(crate) reveal_until: u64,
    pub(crate) committed: BTreeSet<Address>,
    pub(crate) revealed: BTreeSet<Address>,
    /// As in the contract; `None` while it is out.
    pub(crate) ruling: Option<u8>,
    pub(crate) concluded: bool,
}

impl Trial {
    /// Unix second from which evidence that was not found yet is nowhere: three quarters of the time to commit.
    pub(crate) fn nowhere_from(&self) -> u64 {
        self.commit_until - parameters().jury_commit_s / 4
    }
}

/// Stake that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Slash {
    pub(crate) account: Address,
    pub(crate) offence: B256,
    pub(crate) block: u64,
}

/// All that an actor knows of the chain as of one block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) number: u64,
    pub(crate) time: u64,
    pub(crate) jobs: BTreeMap<B256, Rc<Job>>,
    pub(crate) trials: BTreeMap<B256, Rc<Trial>>,
    pub(crate) beats: BTreeMap<Address, (u64, u64)>,
    pub(crate) stake: BTreeMap<Address, u128>,
    pub(crate) owed: BTreeMap<Address, u128>,
    pub(crate) announced: BTreeSet<(Address, B256)>,
    pub(crate) proven: BTreeSet<(B256, Address)>,
    pub(crate) slashes: Vec<Slash>,
    /// Last request of each payer.
    pub(crate) last: BTreeMap<Address, B256>,
}

impl Index {
    fn job(&mut self, id: B256) -> &mut Job {
        Rc::make_mut(self.jobs.get_mut(&id).unwrap())
    }

    fn case(&mut self, case: B256) -> Option<&mut Trial> {
        let found = self.trials.values_mut().find(|t| t.case == case);
        found.map(Rc::make_mut)
    }

    fn credit(&mut self, to: Address, amount: u128) {
        *self.owed.entry(to).or_default() += amount;
    }

    /// Reads what one transaction announced.
    fn read(&mut self, fork: &Fork, effect: &Effect) {
        let d = fork.deployment();
        for log in &effect.logs {
            if log.address == d.backhaul {
                self.measurement(fork, Told::decode_log(log).unwrap().data);
            } else if log.address == d.vault {
                self.money(&VaultEvents::decode_log(log).unwrap().data);
            } else if log.address == d.jury {
                self.jury(JuryEvents::decode_log(log).unwrap().data);
            } else if log.address == d.disputes {
                self.dispute(DisputesEvents::decode_log(log).unwrap().data);
            } else if log.address == d.beacon {
                if let BeaconEvents::Heartbeat(e) = BeaconEvents::decode_log(log).unwrap().data {
                    self.beats.insert(e.account, (self.time, e.count));
                }
            } else if log.address == d.participants
                && let ParticipantsEvents::Slashed(e) =
                    ParticipantsEvents::decode_log(log).unwrap().data
            {
                self.slashes.push(Slash {
                    account: e.account,
                    offence: e.offence,
                    block: self.number,
                });
            }
        }
    }

    fn measurement(&mut self, fork: &Fork, told: Told) {
        match told {
            Told::Requested(e) => {
                let job = Job {
                    request: Request::clone(&e.request),
                    state: State::Created,
                    selected: Vec::new(),
                    verdict: Verdict::None,
                    guaranteed: 0,
                    bundle: B256::ZERO,
                    reported_at: 0,
                    contested_at: 0,
                    disputes: 0,
                    judged_s: 0,
                    reporters: 0,
                    counts: Vec::new(),
                    annulled: Vec::new(),
                    paid: BTreeMap::new(),
                    fee: 0,
                    ended_at: 0,
                };
                self.last.insert(e.payer, e.id);
                self.jobs.insert(e.id, Rc::new(job));
            }
            Told::Selected(e) => {
                let job = self.job(e.id);
                (job.state, job.selected) = (State::Selected, seated(&e.looks));
            }
            Told::Began(e) => self.job(e.id).state = State::Running,
            Told::Reported(e) => {
                let call = Backhaul::resultOfCall { id: e.id };
                let told = read(fork, fork.deployment().backhaul, &call);
                let time = self.time;
                let job = self.job(e.id);
                job.state = State::Reported;
                job.verdict = Verdict::from_u8(e.verdict).unwrap();
                job.guaranteed = e.guaranteed.to();
                job.bundle = e.bundleHash;
                job.reported_at = time;
                job.reporters = told.result.reporters;
                let packets = told.reports.iter().map(|r| (r >> 32) as u32);
                job.counts = packets.collect();
            }
            Told::Contested(e) => {
                let time = self.time;
                let job = self.job(e.id);
                if job.disputes == 0 {
                    (job.state, job.contested_at) = (State::Disputed, time);
                }
                job.disputes += 1;
            }
            Told::Ruled(e) => {
                let time = self.time;
                let job = self.job(e.id);
                job.disputes -= 1;
                if job.disputes == 0 {
                    job.state = State::Reported;
                    let judged = job.judged_s + time - job.contested_at;
                    job.judged_s = judged.min(standstill());
                }
            }
            Told::Annulled(e) => {
                let job = self.job(e.id);
                job.verdict = Verdict::Annulled;
                job.annulled.push(e.guilty);
            }
            Told::Recomputed(e) => {
                let job = self.job(e.id);
                job.verdict = Verdict::from_u8(e.verdict).unwrap();
                job.guaranteed = e.guaranteed.to();
            }
            Told::Paid(e) => {
                *self.job(e.id).paid.entry(e.challenger).or_default() += e.amount.to::<u128>();
            }
            Told::Finalized(e) => {
                let time = self.time;
                let job = self.job(e.id);
                (job.state, job.ended_at, job.fee) = (State::Final, time, e.fee.to());
            }
            Told::TimedOut(e) => {
                let time = self.time;
                let job = self.job(e.id);
                (job.state, job.ended_at) = (State::TimedOut, time);
            }
            Told::Cancelled(e) => self.job(e.id).state = State::Cancelled,
            Told::ReportSkipped(_)
            | Told::NotEnoughChallengers(_)
            | Told::EIP712DomainChanged(_) => {}
        }
    }

    fn money(&mut self, told: &VaultEvents) {
        match told {
            VaultEvents::Staked(e) => {
                *self.stake.entry(e.account).or_default() += e.amount.to::<u128>();
            }
            VaultEvents::Unstaked(e) => {
                *self.stake.entry(e.account).or_default() -= e.amount.to::<u128>();
                self.credit(e.account, e.amount.to());
            }
            VaultEvents::Slashed(e) => {
                *self.stake.entry(e.account).or_default() -= e.amount.to::<u128>();
                self.credit(e.reporter, e.share.to());
            }
            VaultEvents::Credited(e) => self.credit(e.to, e.amount.to()),
            VaultEvents::Withdrawn(e) => {
                let owed = self.owed.remove(&e.account);
                assert_eq!(owed, Some(e.amount.to()), "the logs miss money");
            }
            _ => {}
        }
    }

    fn jury(&mut self, told: JuryEvents) {
        let time = self.time;
        match told {
            JuryEvents::Drawn(e) => {
                let trial = self.case(e.id).unwrap();
                trial.jurors = seated(&e.looks);
                trial.drawn_at = time;
                trial.commit_until = e.commitUntil.to();
                trial.reveal_until = e.revealUntil.to();
            }
            JuryEvents::Committed(e) => {
                self.case(e.id).unwrap().committed.insert(e.juror);
            }
            JuryEvents::Revealed(e) => {
                self.case(e.id).unwrap().revealed.insert(e.juror);
            }
            JuryEvents::Settled(e) => self.case(e.id).unwrap().ruling = Some(e.ruling),
            _ => {}
        }
    }

    fn dispute(&mut self, told: DisputesEvents) {
        match told {
            DisputesEvents::Announced(e) => {
                self.announced.insert((e.account, e.hash));
            }
            DisputesEvents::Disputed(e) => {
                let trial = Trial {
                    case: e.caseId,
                    evidence: e.evidence,
                    opened_at: self.time,
                    jurors: Vec::new(),
                    drawn_at: 0,
                    commit_until: 0,
                    reveal_until: 0,
                    committed: BTreeSet::new(),
                    revealed: BTreeSet::new(),
                    ruling: None,
                    concluded: false,
                };
                self.trials.insert(e.id, Rc::new(trial));
            }
            DisputesEvents::Concluded(e) => {
                Rc::make_mut(self.trials.get_mut(&e.id).unwrap()).concluded = true;
            }
            DisputesEvents::Proven(e) => {
                self.proven.insert((e.subject, e.guilty));
            }
        }
    }
}

/// Calls a view as of the newest block of `fork`.
pub(crate) fn read<C: SolCall>(fork: &Fork, to: Address, call: &C) -> C::Return {
    let one = Move {
        from: Address::ZERO,
        to: Some(to),
        input: call.abi_encode().into(),
    };
    let output = fork.call(fork.time(), &one).unwrap();
    C::abi_decode_returns(&output).unwrap()
}

struct Block {
    fork: Fork,
    index: Rc<Index>,
    txs: Vec<Tx>,
}

/// The chain and the transactions that wait for it.
pub(crate) struct Ledger {
    /// The oldest is final; only the others can be taken back.
    blocks: VecDeque<Block>,
    pub(crate) pool: Vec<Tx>,
    /// Newest block that somebody relied on for ever.
    relied: u64,
}

/// What became of the transactions of a new block.
pub(crate) struct Made {
    pub(crate) included: u64,
    pub(crate) reverted: u64,
}

impl Ledger {
    pub(crate) fn new(fork: Fork, index: Index) -> Self {
        let block = Block {
            fork,
            index: Rc::new(index),
            txs: Vec::new(),
        };
        Self {
            blocks: VecDeque::from([block]),
            pool: Vec::new(),
            relied: 0,
        }
    }

    pub(crate) fn fork(&self) -> &Fork {
        &self.blocks.back().unwrap().fork
    }

    /// The newest block: it can vanish.
    pub(crate) fn head(&self) -> Rc<Index> {
        Rc::clone(&self.blocks.back().unwrap().index)
    }

    /// The newest block that cannot vanish.
    pub(crate) fn settled(&self) -> Rc<Index> {
        Rc::clone(&self.blocks.front().unwrap().index)
    }

    /// Somebody acts, irrevocably, on what `view` says.
    pub(crate) fn rely(&mut self, view: &Index) {
        self.relied = self.relied.max(view.number);
    }

    pub(crate) fn accept(&mut self, tx: Tx) {
        if !self.pool.contains(&tx) {
            self.pool.push(tx);
        }
    }

    /// A block of `txs` at unix second `time`; an error if the vault does not conserve.
    pub(crate) fn make(&mut self, time: u64, txs: Vec<Tx>) -> Result<Made, String> {
        let mut fork = self.fork().clone();
        let mut index = Index::clone(&self.head());
        let moves: Vec<Move> = txs.iter().map(Tx::as_move).collect();
        let effects = fork.block(time, &moves).map_err(|e| e.to_string())?;
        (index.number, index.time) = (fork.height(), fork.time());
        let mut made = Made {
            included: effects.len() as u64,
            reverted: 0,
        };
        for effect in &effects {
            made.reverted += u64::from(!effect.done);
            index.read(&fork, effect);
        }
        let index = Rc::new(index);
        self.blocks.push_back(Block { fork, index, txs });
        if self.blocks.len() > DEPTH + 1 {
            self.blocks.pop_front();
        }
        Ok(made)
    }

    /// The deepest reorganisation there can be now.
    pub(crate) fn deepest(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Takes the newest `depth` blocks back and returns their transactions.
    pub(crate) fn reorganise(&mut self, depth: usize) -> Result<Vec<Tx>, String> {
        let mut lost = Vec::new();
        for _ in 0..depth {
            lost.extend(self.blocks.pop_back().unwrap().txs);
        }
        let head = self.fork().height();
        if self.relied > head {
            let relied = self.relied;
            return Err(format!(
                "somebody acted on block {relied}, which vanished: the chain is back at {head}"
            ));
        }
        Ok(lost)
    }
}
