//! What is paid to whom, written down a second time, from the documents and not from the Solidity.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::Ruling;
use plumbline_contracts::abi::backhaul::IBackhaul::{Request, Submission};

use crate::book::{Case, Flow, Measured};

/// Most packets that count of one challenger: its share of claim × duration, rounded up.
pub(crate) fn cap(asked: &Request) -> u64 {
    let bits = u128::from(asked.claimBps) * u128::from(asked.durationMs);
    let share = 8 * u128::from(asked.packetBytes) * u128::from(asked.n - asked.f) * 1_000;
    u64::try_from(bits.div_ceil(share)).unwrap()
}

/// Most packets that the prover may say it sent to one challenger, where it sends.
pub(crate) fn sent(asked: &Request) -> u64 {
    (cap(asked) * 115 * 4).div_ceil(100)
}

/// Price of all packets that can count: towards the prover those that n−f bring, away from it those that
/// all n receive.
pub(crate) fn escrow(asked: &Request) -> U256 {
    let each = if asked.direction == 0 {
        asked.n - asked.f
    } else {
        asked.n
    };
    U256::from(u64::from(each) * cap(asked)) * price(asked)
}

/// Of one packet.
fn price(asked: &Request) -> U256 {
    U256::from(asked.pricePerByte) * U256::from(asked.packetBytes)
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let n = sorted.len();
    if n % 2 == 1 {
        sorted[n / 2]
    } else {
        u64::midpoint(sorted[n / 2 - 1], sorted[n / 2])
    }
}

/// Each challenger that reported in time with the others has its bytes, as long as it is not guilty; where
/// the prover sends, whoever reported has what it received, up to what counts.
pub(crate) fn shares(m: &Measured, posted: &Submission) -> Vec<(u16, Address, U256)> {
    let share = |index: u16, packets: u64| {
        let who = m.selected[usize::from(index)];
        (index, who, price(&m.asked) * U256::from(packets))
    };
    if m.asked.direction != 0 {
        let most = cap(&m.asked);
        let all = posted.reports.iter();
        return all
            .map(|r| share(r.index, u64::from(r.packets).min(most)))
            .collect();
    }
    let times: Vec<u64> = posted.reports.iter().map(|r| r.ttNs).collect();
    if times.is_empty() {
        return Vec::new();
    }
    let middle = median(&times);
    let distances: Vec<u64> = times.iter().map(|t| t.abs_diff(middle)).collect();
    let bound = (u128::from(median(&distances)) * 3).max(u128::from(middle / 20));
    let near = posted.reports.iter().zip(distances);
    near.filter(|(_, distance)| u128::from(*distance) <= bound)
        .map(|(report, _)| {
            let counted = posted.counts[usize::from(report.index)];
            share(report.index, counted.into())
        })
        .collect()
}

/// The shares of those without offence; the coordinator its fee, unless it is guilty; the payer the rest.
pub(crate) fn payout(module: Address, id: B256, m: &Measured) -> Vec<Flow> {
    let mut flows = Vec::new();
    let mut rest = m.escrow;
    for (_, who, amount) in shares(m, m.posted.as_ref().unwrap()) {
        if !m.guilty.contains(&who) {
            flows.push(Flow::Credit(module, id, who, amount));
            assert!(rest >= amount, "the escrow is not enough");
            rest -= amount;
        }
    }
    if !m.guilty.contains(&m.asked.coordinator) {
        flows.push(Flow::Credit(module, id, m.asked.coordinator, m.fee));
        assert!(rest >= m.fee, "the escrow is not enough");
        rest -= m.fee;
    }
    flows.push(Flow::Credit(module, id, m.asked.payer, rest));
    flows
}

/// More than half of the seats must vote, and more than half of the votes agree.
pub(crate) fn ruling(case: &Case) -> u8 {
    let of = |vote: Ruling| case.votes.values().filter(|v| **v == vote as u8).count();
    let (upheld, rejected) = (of(Ruling::Upheld), of(Ruling::Rejected));
    let won = if 2 * (upheld + rejected) <= case.size || upheld == rejected {
        Ruling::Hung
    } else if upheld > rejected {
        Ruling::Upheld
    } else {
        Ruling::Rejected
    };
    won as u8
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
