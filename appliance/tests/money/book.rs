//! The shadow ledger: what every account and every id should have, by the rules and not by the contracts.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Log, U256, keccak256};
use alloy::sol_types::{SolCall, SolEventInterface, SolValue};
use plumbline::chain::Move;
use plumbline_contracts::abi::backhaul::Backhaul::{self, BackhaulEvents};
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission};
use plumbline_contracts::abi::beacon::Beacon::BeaconEvents;
use plumbline_contracts::abi::bonds::Bonds::BondsEvents;
use plumbline_contracts::abi::disputes::Disputes::DisputesEvents;
use plumbline_contracts::abi::jury::Jury::JuryEvents;
use plumbline_contracts::abi::lab_token::LabToken::LabTokenEvents;
use plumbline_contracts::abi::parameters::Parameters::ParametersEvents;
use plumbline_contracts::abi::participants::Participants::ParticipantsEvents;
use plumbline_contracts::abi::registry::Registry::RegistryEvents;
use plumbline_contracts::abi::vault::Vault::VaultEvents;
use plumbline_contracts::deploy::short;
use plumbline_contracts::{Deployment, Parameters, Ruling, State, seated};

use crate::rules;

pub(crate) struct Measured {
    pub(crate) asked: Request,
    pub(crate) escrow: U256,
    pub(crate) fee: U256,
    pub(crate) window: u64,
    /// For how many seconds more it stands still while evidence is judged.
    standstill: u64,
    pub(crate) state: State,
    pub(crate) selected: Vec<Address>,
    pub(crate) posted: Option<Submission>,
    pub(crate) reported_at: u64,
    contested_at: u64,
    /// Disputes that are open.
    disputes: u64,
    /// Whose offence is established: they get nothing here.
    pub(crate) guilty: BTreeSet<Address>,
}

impl Measured {
    /// For how long its window stood still because of the disputes that are open at `time`.
    fn stood(&self, time: u64) -> u64 {
        self.standstill.min(time - self.contested_at)
    }
}

pub(crate) struct Case {
    pub(crate) size: usize,
    pub(crate) fee: U256,
    pub(crate) penalty: U256,
    pub(crate) funder: Address,
    pub(crate) draw_until: u64,
    pub(crate) commit_until: u64,
    pub(crate) reveal_until: u64,
    pub(crate) jurors: Vec<Address>,
    pub(crate) committed: BTreeSet<Address>,
    pub(crate) votes: BTreeMap<Address, u8>,
    pub(crate) ruling: Option<u8>,
}

pub(crate) struct Quarrel {
    subject: B256,
    evidence: B256,
    pub(crate) accused: Address,
    pub(crate) reporter: Address,
    pub(crate) case: B256,
    bond: U256,
    percents: (U256, U256),
    pub(crate) over: bool,
}

/// A challenger that was asked for its seed.
pub(crate) struct Asked {
    who: Address,
    pub(crate) until: u64,
    bond: U256,
    /// It gave it, or lost its bond.
    pub(crate) over: bool,
}

/// A movement of one transaction, to be explained by the rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flow {
    Credit(Address, B256, Address, U256),
    Burn(Address, B256, U256),
    Slash(Address, U256, Address, U256),
    Unstake(Address, U256),
}

pub(crate) struct Book {
    d: Deployment,
    pub(crate) stake: BTreeMap<Address, U256>,
    pub(crate) owed: BTreeMap<Address, U256>,
    pub(crate) escrow: BTreeMap<(Address, B256), U256>,
    pub(crate) tokens: BTreeMap<Address, U256>,
    pub(crate) burnt: U256,
    pub(crate) held: U256,
    variables: BTreeMap<B256, Vec<(u64, U256)>>,
    pub(crate) measured: BTreeMap<B256, Measured>,
    pub(crate) cases: BTreeMap<B256, Case>,
    pub(crate) quarrels: BTreeMap<B256, Quarrel>,
    pub(crate) asked: BTreeMap<(B256, u16), Asked>,
    pub(crate) leaving: BTreeMap<Address, u64>,
    pub(crate) beats: BTreeMap<Address, u64>,
    paid: BTreeSet<(B256, u16)>,
    /// Who lost stake for its part in which measurement: nobody does twice.
    punished: BTreeSet<(B256, Address)>,
    /// Names of events, as the functions that only modules may call show themselves.
    pub(crate) seen: BTreeMap<&'static str, u64>,
}

fn seconds(value: U256) -> u64 {
    value.saturating_to()
}

impl Asked {
    /// The seed that challenger `index` committed to: everyone knows it here, and may give it.
    pub(crate) fn seed(id: B256, index: u16) -> B256 {
        keccak256((id, U256::from(index)).abi_encode())
    }
}

impl Book {
    pub(crate) fn new(d: Deployment, parameters: &Parameters) -> Self {
        let first = |v: &plumbline_contracts::deploy::Variable| {
            (short(v.name), vec![(0, U256::from(v.value))])
        };
        Self {
            d,
            stake: BTreeMap::new(),
            owed: BTreeMap::new(),
            escrow: BTreeMap::new(),
            tokens: BTreeMap::new(),
            burnt: U256::ZERO,
            held: U256::ZERO,
            variables: parameters.variables().iter().map(first).collect(),
            measured: BTreeMap::new(),
            cases: BTreeMap::new(),
            quarrels: BTreeMap::new(),
            asked: BTreeMap::new(),
            leaving: BTreeMap::new(),
            beats: BTreeMap::new(),
            paid: BTreeSet::new(),
            punished: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn variable(&self, name: &str, time: u64) -> U256 {
        let values = &self.variables[&short(name)];
        let now = values.iter().rev().find(|(from, _)| *from <= time);
        now.unwrap().1
    }

    /// Takes in what one transaction did at `time`, and panics if the rules do not explain it.
    pub(crate) fn take(&mut self, time: u64, one: &Move, logs: &[Log]) {
        let mut flows = Vec::new();
        let mut expected = Vec::new();
        // A slash is computed from the stake as it was before the transaction moved it.
        let stakes = self.stake.clone();
        for log in logs {
            if log.address == self.d.vault {
                self.vault(log, &mut flows);
            }
        }
        for log in logs {
            let a = log.address;
            if a == self.d.backhaul {
                self.backhaul(time, one, log, &mut expected);
            } else if a == self.d.jury {
                self.jury(time, log, &stakes, &mut expected);
            } else if a == self.d.disputes {
                self.disputes(time, log, &stakes, &mut expected);
            } else if a == self.d.bonds {
                self.bonds(time, one, log, &stakes, &mut expected);
            } else if a == self.d.participants {
                self.participants(time, log, &mut expected);
            } else {
                self.others(log);
            }
        }
        // Nothing moved and nothing to move are the same.
        let moved = |f: &Flow| match f {
            Flow::Credit(.., x) | Flow::Burn(.., x) | Flow::Unstake(_, x) => !x.is_zero(),
            Flow::Slash(_, x, ..) => !x.is_zero(),
        };
        flows.retain(moved);
        expected.retain(moved);
        flows.sort();
        expected.sort();
        assert_eq!(
            flows, expected,
            "the rules do not explain what {one:?} moved"
        );
    }

    fn vault(&mut self, log: &Log, flows: &mut Vec<Flow>) {
        let event = VaultEvents::decode_log(log).unwrap().data;
        let name = match event {
            VaultEvents::Staked(e) => {
                *self.stake.entry(e.account).or_default() += e.amount;
                self.held += e.amount;
                "Vault.stakeFrom"
            }
            VaultEvents::Unstaked(e) => {
                *self.stake.get_mut(&e.account).unwrap() -= e.amount;
                *self.owed.entry(e.account).or_default() += e.amount;
                flows.push(Flow::Unstake(e.account, e.amount));
                "Vault.unstake"
            }
            VaultEvents::Locked(e) => {
                let before = self.escrow.insert((e.module, e.id), e.amount);
                assert!(before.is_none_or(|b| b.is_zero()), "locked twice");
                self.held += e.amount;
                "Vault.lock"
            }
            VaultEvents::Credited(e) => {
                *self.escrow.get_mut(&(e.module, e.id)).unwrap() -= e.amount;
                *self.owed.entry(e.to).or_default() += e.amount;
                flows.push(Flow::Credit(e.module, e.id, e.to, e.amount));
                "Vault.credit"
            }
            VaultEvents::Slashed(e) => {
                *self.stake.entry(e.account).or_default() -= e.amount;
                *self.owed.entry(e.reporter).or_default() += e.share;
                self.burnt += e.amount - e.share;
                flows.push(Flow::Slash(e.account, e.amount, e.reporter, e.share));
                "Vault.slash"
            }
            VaultEvents::Burnt(e) => {
                *self.escrow.get_mut(&(e.module, e.id)).unwrap() -= e.amount;
                self.burnt += e.amount;
                flows.push(Flow::Burn(e.module, e.id, e.amount));
                "Vault.burn"
            }
            VaultEvents::Withdrawn(e) => {
                assert_eq!(self.owed.insert(e.account, U256::ZERO), Some(e.amount));
                self.held -= e.amount;
                return;
            }
        };
        *self.seen.entry(name).or_default() += 1;
    }

    fn others(&mut self, log: &Log) {
        if log.address == self.d.token {
            if let LabTokenEvents::Transfer(e) = LabTokenEvents::decode_log(log).unwrap().data {
                if !e.from.is_zero() {
                    *self.tokens.get_mut(&e.from).unwrap() -= e.value;
                }
                *self.tokens.entry(e.to).or_default() += e.value;
            }
        } else if log.address == self.d.parameters {
            let event = ParametersEvents::decode_log(log).unwrap().data;
            if let ParametersEvents::Scheduled(e) = event {
                let values = self.variables.get_mut(&e.name).unwrap();
                values.push((seconds(e.from), e.value));
            }
        } else if log.address == self.d.beacon {
            if let BeaconEvents::Heartbeat(e) = BeaconEvents::decode_log(log).unwrap().data {
                self.beats.insert(e.account, e.count);
            }
        } else if log.address == self.d.registry {
            RegistryEvents::decode_log(log).unwrap();
        }
    }

    fn participants(&mut self, time: u64, log: &Log, expected: &mut Vec<Flow>) {
        match ParticipantsEvents::decode_log(log).unwrap().data {
            ParticipantsEvents::Leaving(e) => {
                let bound = seconds(self.variable("unbonding_s", time));
                assert_eq!(e.leaveAt, time + bound, "bound for another time");
                self.leaving.insert(e.account, e.leaveAt);
            }
            ParticipantsEvents::Left(e) => {
                let leave_at = self.leaving.remove(&e.account).unwrap();
                assert!(time >= leave_at, "a stake left before its time");
                expected.push(Flow::Unstake(e.account, e.stake));
            }
            ParticipantsEvents::Slashed(_) => {
                *self.seen.entry("Participants.slash").or_default() += 1;
            }
            ParticipantsEvents::BondLost(_) => {
                *self.seen.entry("Participants.forfeit").or_default() += 1;
            }
            _ => {}
        }
    }

    fn bonds(
        &mut self,
        time: u64,
        one: &Move,
        log: &Log,
        stakes: &BTreeMap<Address, U256>,
        expected: &mut Vec<Flow>,
    ) {
        match BondsEvents::decode_log(log).unwrap().data {
            BondsEvents::Named(e) => {
                let m = &self.measured[&e.id];
                assert_eq!(one.from, m.asked.coordinator, "named by another");
                assert_eq!(e.challenger, m.selected[usize::from(e.index)]);
                let posted = m.posted.as_ref();
                let shares = posted.map(|posted| rules::shares(&self.d, e.id, m, posted));
                let counts = |shares: Vec<(u16, _, _)>| shares.iter().any(|s| s.0 == e.index);
                assert!(!shares.is_some_and(counts), "its report is on record");
                let end = if posted.is_some() {
                    m.reported_at
                } else {
                    assert!(time > m.asked.deadline, "named before it was over");
                    m.asked.deadline
                };
                let answer = seconds(self.variable("seed_answer_s", time));
                assert!(time <= end + answer, "named too late");
                assert_eq!(e.until, time + answer);
                let asked = Asked {
                    who: e.challenger,
                    until: e.until,
                    bond: self.variable("seed_bond", time),
                    over: false,
                };
                let before = self.asked.insert((e.id, e.index), asked);
                assert!(before.is_none(), "named twice");
            }
            BondsEvents::Given(e) => {
                let asked = self.answered(e.id, e.index);
                assert!(time <= asked.until, "given too late");
                assert_eq!(e.seed, Asked::seed(e.id, e.index));
            }
            BondsEvents::Forfeited(e) => {
                let min = self.variable("min_stake", time);
                let payer = self.measured[&e.id].asked.payer;
                let asked = self.answered(e.id, e.index);
                assert!(time > asked.until, "it could still answer");
                let stake = stakes.get(&asked.who).copied().unwrap_or_default();
                let amount = stake.saturating_sub(min).min(asked.bond);
                assert_eq!((e.amount, e.payer), (amount, payer));
                expected.push(Flow::Slash(asked.who, amount, payer, amount));
            }
        }
    }

    fn answered(&mut self, id: B256, index: u16) -> &Asked {
        let asked = self.asked.get_mut(&(id, index)).unwrap();
        assert!(!std::mem::replace(&mut asked.over, true), "answered twice");
        asked
    }

    fn backhaul(&mut self, time: u64, one: &Move, log: &Log, expected: &mut Vec<Flow>) {
        let module = self.d.backhaul;
        match BackhaulEvents::decode_log(log).unwrap().data {
            BackhaulEvents::Requested(e) => {
                let fee = self.variable("coordinator_fee", time);
                let juries = ["jury_draw_s", "jury_commit_s", "jury_reveal_s"];
                let jury: u64 = juries.map(|v| seconds(self.variable(v, time))).iter().sum();
                assert_eq!(e.escrow, rules::escrow(&e.request) + fee, "another price");
                assert_eq!(self.escrow[&(module, e.id)], e.escrow);
                let measured = Measured {
                    asked: e.request,
                    escrow: e.escrow,
                    fee,
                    window: seconds(self.variable("dispute_window_s", time)),
                    standstill: 2 * jury,
                    state: State::Created,
                    selected: Vec::new(),
                    posted: None,
                    reported_at: 0,
                    contested_at: 0,
                    disputes: 0,
                    guilty: BTreeSet::new(),
                };
                assert!(self.measured.insert(e.id, measured).is_none());
            }
            BackhaulEvents::Selected(e) => {
                let m = self.step(e.id, &[State::Created], State::Selected);
                m.selected = seated(&e.looks);
            }
            BackhaulEvents::Began(e) => {
                self.step(e.id, &[State::Selected], State::Running);
            }
            BackhaulEvents::Reported(e) => {
                let m = self.step(e.id, &[State::Running], State::Reported);
                assert!(time <= m.asked.deadline);
                let call = Backhaul::reportCall::abi_decode(&one.input).unwrap();
                m.posted = Some(call.posted);
                m.reported_at = time;
            }
            BackhaulEvents::Contested(e) => {
                let m = self.step(e.id, &[State::Reported, State::Disputed], State::Disputed);
                if m.disputes == 0 {
                    m.contested_at = time;
                }
                m.disputes += 1;
                let until = m.reported_at + m.window + m.stood(time);
                assert!(time < until, "contested too late");
                *self.seen.entry("Backhaul.contest").or_default() += 1;
            }
            BackhaulEvents::Ruled(e) => {
                let m = self.step(e.id, &[State::Disputed], State::Disputed);
                m.disputes -= 1;
                if m.disputes == 0 {
                    m.state = State::Reported;
                    let stood = m.stood(time);
                    m.standstill -= stood;
                    m.window += stood;
                }
                if e.upheld {
                    m.guilty.insert(e.accused);
                }
                *self.seen.entry("Backhaul.ruled").or_default() += 1;
            }
            BackhaulEvents::Paid(e) => {
                assert!(self.paid.insert((e.id, e.index)), "paid twice: {e:?}");
            }
            BackhaulEvents::Finalized(e) => {
                let d = self.d;
                let m = self.step(e.id, &[State::Reported], State::Final);
                let due = m.reported_at + m.window;
                assert!(time >= due, "paid out {} s early", due.saturating_sub(time));
                expected.extend(rules::payout(&d, e.id, m));
                let of = ["finalized towards the prover", "finalized away from it"];
                let of = of[usize::from(m.asked.direction)];
                *self.seen.entry(of).or_default() += 1;
            }
            BackhaulEvents::TimedOut(e) => {
                let open = [State::Created, State::Selected, State::Running];
                let m = self.step(e.id, &open, State::TimedOut);
                assert!(time > m.asked.deadline);
                expected.push(Flow::Credit(module, e.id, m.asked.payer, m.escrow));
                // The credit of all that is left.
                *self.seen.entry("Vault.refund").or_default() += 1;
            }
            BackhaulEvents::Cancelled(e) => {
                let m = self.step(e.id, &[State::Created], State::Cancelled);
                expected.push(Flow::Credit(module, e.id, m.asked.payer, m.escrow));
            }
            _ => {}
        }
    }

    fn step(&mut self, id: B256, from: &[State], to: State) -> &mut Measured {
        let m = self.measured.get_mut(&id).unwrap();
        assert!(
            from.contains(&m.state),
            "{id} went from {} to {to}",
            m.state
        );
        m.state = to;
        m
    }

    fn jury(
        &mut self,
        time: u64,
        log: &Log,
        stakes: &BTreeMap<Address, U256>,
        expected: &mut Vec<Flow>,
    ) {
        match JuryEvents::decode_log(log).unwrap().data {
            JuryEvents::Opened(e) => {
                let case = Case {
                    size: e.size.to(),
                    fee: self.variable("juror_fee", time),
                    penalty: self.variable("juror_penalty", time),
                    funder: Address::ZERO,
                    draw_until: seconds(e.drawUntil),
                    commit_until: 0,
                    reveal_until: 0,
                    jurors: Vec::new(),
                    committed: BTreeSet::new(),
                    votes: BTreeMap::new(),
                    ruling: None,
                };
                assert!(self.cases.insert(e.id, case).is_none());
                *self.seen.entry("Jury.open").or_default() += 1;
            }
            JuryEvents::Drawn(e) => {
                let case = self.cases.get_mut(&e.id).unwrap();
                assert!(case.jurors.is_empty(), "drawn twice");
                case.jurors = seated(&e.looks);
                assert_eq!(case.jurors.iter().collect::<BTreeSet<_>>().len(), case.size);
                case.commit_until = seconds(e.commitUntil);
                case.reveal_until = seconds(e.revealUntil);
            }
            JuryEvents::Committed(e) => {
                let case = self.cases.get_mut(&e.id).unwrap();
                assert!(case.jurors.contains(&e.juror) && case.committed.insert(e.juror));
            }
            JuryEvents::Revealed(e) => {
                let case = self.cases.get_mut(&e.id).unwrap();
                assert!(case.committed.contains(&e.juror));
                assert!(time > case.commit_until && time <= case.reveal_until);
                assert!(case.votes.insert(e.juror, e.vote).is_none());
            }
            JuryEvents::Settled(e) => {
                let case = self.cases.get_mut(&e.id).unwrap();
                assert!(case.ruling.is_none(), "settled twice");
                if !case.jurors.is_empty() {
                    assert!(time > case.reveal_until, "settled early");
                }
                assert_eq!(
                    e.ruling,
                    rules::ruling(case),
                    "another ruling than the votes"
                );
                case.ruling = Some(e.ruling);
                expected.extend(rules::settle(self.d.jury, e.id, case, stakes));
            }
            JuryEvents::Paid(_) => {}
        }
    }

    fn disputes(
        &mut self,
        time: u64,
        log: &Log,
        stakes: &BTreeMap<Address, U256>,
        expected: &mut Vec<Flow>,
    ) {
        match DisputesEvents::decode_log(log).unwrap().data {
            DisputesEvents::Announced(_) => {}
            DisputesEvents::Disputed(e) => {
                assert_eq!(e.bond, self.variable("dispute_bond", time));
                self.cases.get_mut(&e.caseId).unwrap().funder = e.reporter;
                assert!(!self.punished.contains(&(e.subject, e.accused)));
                let same = |q: &&Quarrel| {
                    (q.subject, q.accused, q.evidence) == (e.subject, e.accused, e.evidence)
                };
                for before in self.quarrels.values().filter(same) {
                    let ruling = self.cases[&before.case].ruling.and_then(Ruling::from_u8);
                    let unjudged = [Some(Ruling::Hung), Some(Ruling::Unavailable)];
                    assert!(before.over && unjudged.contains(&ruling), "judged twice");
                    *self.seen.entry("brought again").or_default() += 1;
                }
                let quarrel = Quarrel {
                    subject: e.subject,
                    evidence: e.evidence,
                    accused: e.accused,
                    reporter: e.reporter,
                    case: e.caseId,
                    bond: e.bond,
                    percents: self.percents(time),
                    over: false,
                };
                assert!(self.quarrels.insert(e.id, quarrel).is_none());
            }
            DisputesEvents::Concluded(e) => {
                let quarrel = self.quarrels.get_mut(&e.id).unwrap();
                assert!(
                    !std::mem::replace(&mut quarrel.over, true),
                    "concluded twice"
                );
                let ruling = self.cases[&quarrel.case].ruling.unwrap();
                assert_eq!(e.ruling, ruling);
                let module = self.d.disputes;
                let shown = [Ruling::Rejected, Ruling::Unavailable].map(|r| r as u8);
                expected.push(if shown.contains(&ruling) {
                    Flow::Burn(module, e.id, quarrel.bond)
                } else {
                    Flow::Credit(module, e.id, quarrel.reporter, quarrel.bond)
                });
                if ruling == Ruling::Upheld as u8 {
                    let m = self.measured.get_mut(&quarrel.subject).unwrap();
                    assert!(
                        m.guilty.contains(&quarrel.accused),
                        "upheld and not annulled"
                    );
                    let (q, of) = (&*quarrel, quarrel.percents);
                    // Proven meanwhile, it is not punished again.
                    if self.punished.insert((q.subject, q.accused)) {
                        expected.push(rules::punishment(q.accused, q.reporter, of, stakes));
                    }
                }
            }
            DisputesEvents::Proven(e) => {
                assert!(self.punished.insert((e.subject, e.guilty)), "proven twice");
                let of = self.percents(time);
                expected.push(rules::punishment(e.guilty, e.reporter, of, stakes));
                self.measured
                    .get_mut(&e.subject)
                    .unwrap()
                    .guilty
                    .insert(e.guilty);
                *self.seen.entry("Backhaul.faulted").or_default() += 1;
            }
        }
    }

    fn percents(&self, time: u64) -> (U256, U256) {
        let get = |name| self.variable(name, time);
        (get("offence_percent"), get("reporter_percent"))
    }
}
