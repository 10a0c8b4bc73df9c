//! What is paid to whom, written down a second time, from the documents and not from the Solidity.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission, Timing};
use plumbline_contracts::{Deployment, Ruling, domain, recover_report};

use crate::book::{Case, Flow, Measured};

/// A challenger's share of claim × duration, packets, rounded up: most that it is paid where the prover sends.
pub(crate) fn share(asked: &Request) -> u64 {
    let bits = u128::from(asked.claimBps) * u128::from(asked.durationMs);
    let share = 8 * u128::from(asked.packetBytes) * u128::from(asked.n - asked.f) * 1_000;
    u64::try_from(bits.div_ceil(share)).unwrap()
}

/// Most packets that the prover may say it sent to one challenger, where it sends.
pub(crate) fn sent(asked: &Request) -> u64 {
    (share(asked) * 115 * 4).div_ceil(100)
}

/// Price of all packets that can count: towards the prover those that n−f bring, away from it those that
/// all n receive.
pub(crate) fn escrow(asked: &Request) -> U256 {
    let each = if asked.direction == 0 {
        asked.n - asked.f
    } else {
        asked.n
    };
    U256::from(u64::from(each) * share(asked)) * price(asked)
}

/// Of one packet.
fn price(asked: &Request) -> U256 {
    U256::from(asked.pricePerByte) * U256::from(asked.packetBytes)
}

/// Of the reports that were posted those that count: by whom it says it is, once and in order, of what the
/// prover committed to, or of no more where the prover sends.
fn counted<'a>(d: &Deployment, id: B256, m: &Measured, posted: &'a Submission) -> Vec<&'a Timing> {
    let domain = domain(d.chain_id, d.backhaul);
    let mut list: Vec<&Timing> = Vec::new();
    for report in &posted.reports {
        let place = usize::from(report.index);
        let Some(committed) = posted.counts.get(place) else {
            continue;
        };
        let told = plumbline_contracts::Timing {
            index: report.index,
            window_us: report.windowUs,
            packets: report.packets,
        };
        let (hash, signature) = (posted.responseHash, &report.signature);
        let signer = recover_report(&domain, id, 0, told, hash, signature);
        let agrees =
            report.packets == *committed || m.asked.direction != 0 && report.packets < *committed;
        let follows = list.last().is_none_or(|last| last.index < report.index);
        if follows && agrees && report.windowUs > 0 && signer == Some(m.selected[place]) {
            list.push(report);
        }
    }
    list
}

/// Each challenger whose report counts has its bytes, whatever the verdict, as long as it is not guilty; where
/// the prover sends what it received, up to its share.
pub(crate) fn shares(
    d: &Deployment,
    id: B256,
    m: &Measured,
    posted: &Submission,
) -> Vec<(u16, Address, U256)> {
    let most = if m.asked.direction == 0 {
        u64::MAX
    } else {
        share(&m.asked)
    };
    let paid = counted(d, id, m, posted).into_iter().map(|report| {
        let who = m.selected[usize::from(report.index)];
        let packets = u64::from(report.packets).min(most);
        (report.index, who, price(&m.asked) * U256::from(packets))
    });
    paid.collect()
}

/// The shares of those without offence; the coordinator its fee, if reports enough hold and unless it is guilty; the payer
/// the rest.
pub(crate) fn payout(d: &Deployment, id: B256, m: &Measured) -> Vec<Flow> {
    let module = d.backhaul;
    let mut flows = Vec::new();
    let mut rest = m.escrow;
    let shares = shares(d, id, m, m.posted.as_ref().unwrap());
    let enough = shares.len() >= usize::from(m.asked.n - m.asked.f);
    let fee = if enough { m.fee } else { U256::ZERO };
    for (_, who, amount) in shares {
        if !m.guilty.contains(&who) {
            flows.push(Flow::Credit(module, id, who, amount));
            assert!(rest >= amount, "the escrow is not enough");
            rest -= amount;
        }
    }
    if !m.guilty.contains(&m.asked.coordinator) {
        flows.push(Flow::Credit(module, id, m.asked.coordinator, fee));
        assert!(rest >= fee, "the escrow is not enough");
        rest -= fee;
    }
    flows.push(Flow::Credit(module, id, m.asked.payer, rest));
    flows
}

/// More than half of the seats must vote, and more than half of the votes agree.
pub(crate) fn ruling(case: &Case) -> u8 {
    let of = |vote: Ruling| case.votes.values().filter(|v| **v == vote as u8).count();
    let most = |vote: &Ruling| 2 * of(*vote) > case.votes.len();
    let won = Ruling::VOTES.into_iter().find(most);
    let enough = 2 * case.votes.len() > case.size;
    won.filter(|_| enough).unwrap_or(Ruling::Hung) as u8
}

/// The majority is paid, the minority and the silent lose, the funder has the rest.
pub(crate) fn settle(
    module: Address,
    id: B256,
    case: &Case,
    stakes: &BTreeMap<Address, U256>,
) -> Vec<Flow> {
    let ruling = ruling(case);
    let mut rest = case.fee * U256::from(case.size);
    let mut flows = Vec::new();
    for juror in &case.jurors {
        let vote = case.votes.get(juror);
        if vote.is_some_and(|v| *v == ruling || ruling == Ruling::Hung as u8) {
            flows.push(Flow::Credit(module, id, *juror, case.fee));
            rest -= case.fee;
        } else {
            let stake = stakes.get(juror).copied().unwrap_or_default();
            let taken = case.penalty.min(stake);
            flows.push(Flow::Slash(*juror, taken, Address::ZERO, U256::ZERO));
        }
    }
    flows.push(Flow::Credit(module, id, case.funder, rest));
    flows
}

/// A part of the stake is taken, and a part of that goes to who showed it.
pub(crate) fn punishment(
    guilty: Address,
    reporter: Address,
    (of_stake, of_that): (U256, U256),
    stakes: &BTreeMap<Address, U256>,
) -> Flow {
    let percent = |x: U256, p: U256| x * p / U256::from(100);
    let taken = percent(stakes.get(&guilty).copied().unwrap_or_default(), of_stake);
    Flow::Slash(guilty, taken, reporter, percent(taken, of_that))
}
