//! The contract's estimator against the product's and a plain one, to the last bit; and what a liar can do to it.

// Draws are cut to what they stand for.
#![allow(clippy::cast_possible_truncation)]

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolCall;
use plumbline::chain::{Fork, Move};
use plumbline_contracts::abi::backhaul::Backhaul;
use plumbline_contracts::abi::backhaul::Estimator::Input;
use plumbline_proof::backhaul::estimate::{Sample, bound_at};
use plumbline_proof::backhaul::params::{Direction, Terms};

use crate::chance::Chance;
use crate::world::{START, genesis};

mod many {
    #![allow(unreachable_pub, clippy::too_many_arguments)]
    alloy::sol!(EstimatorMany, "tests/money/artifacts/EstimatorMany.json");
}
use many::EstimatorMany;

/// Sets of reports that are compared.
const CASES: usize = 100_000;
/// Of them in one call: their gas stays far below a call's.
const BATCH: usize = 100;
/// The burst that the bound allows for, packets.
const BURST: u64 = 8;

/// What is asked of the estimators: packets and window (µs) of each report, and what they are seen with.
#[derive(Clone, Debug)]
struct Case {
    uplink: bool,
    reports: Vec<(u32, u32)>,
    /// Claimed of one challenger that nobody else offers to: gives the rate.
    claim_bps: u64,
    rate_bps: u64,
    packet_bytes: u16,
    spans: Vec<u32>,
}

/// Packets that this report proves to have been sent in the last `span` of its window.
fn within(case: &Case, (packets, window): (u32, u32), span: u32) -> u64 {
    if window <= span {
        return packets.into();
    }
    if case.uplink {
        return 0;
    }
    let early = u128::from(case.rate_bps) * u128::from(window - span);
    let early = early.div_ceil(8_000_000 * u128::from(case.packet_bytes));
    let early = u64::try_from(early).unwrap_or(u64::MAX);
    u64::from(packets).saturating_sub(early.saturating_add(BURST))
}

/// The product's own bound of a case whose rate is that of some claim.
fn product(case: &Case, j: usize, span: u32) -> u64 {
    let terms = Terms {
        direction: if case.uplink {
            Direction::Up
        } else {
            Direction::Down
        },
        packet_bytes: case.packet_bytes,
        ..Terms::downlink(case.claim_bps, 1, 0, 1000)
    };
    let sample = |(packets, window_us): &(u32, u32)| Sample {
        packets: u64::from(*packets),
        window_us: *window_us,
    };
    let samples: Vec<Sample> = case.reports.iter().map(sample).collect();
    assert_eq!(terms.offer_each_bps(), case.rate_bps);
    bound_at(&terms, &samples, j, span)
}

/// The bound with `j` corrupt over `span`, sorted afresh: both sides of the chain stand on this plain text of the rule.
fn plain(case: &Case, j: usize, span: u32) -> u64 {
    let mut parts: Vec<u64> = case
        .reports
        .iter()
        .map(|r| within(case, *r, span))
        .collect();
    parts.sort_unstable();
    let honest = parts.len().saturating_sub(j);
    let sum: u128 = parts[..honest].iter().copied().map(u128::from).sum();
    let bps = 8_000_000 * u128::from(case.packet_bytes) * sum / u128::from(span);
    u64::try_from(bps).unwrap_or(u64::MAX)
}

fn curve(case: &Case) -> Vec<U256> {
    let spans = case.spans.iter().enumerate();
    spans
        .map(|(j, span)| {
            let bound = plain(case, j, *span);
            assert_eq!(product(case, j, *span), bound, "{case:?}");
            U256::from(bound)
        })
        .collect()
}

fn input(case: &Case) -> Input {
    Input {
        uplink: case.uplink,
        packetBytes: U256::from(case.packet_bytes),
        rateBps: U256::from(case.rate_bps),
        counts: case.reports.iter().map(|r| U256::from(r.0)).collect(),
        windowsUs: case.reports.iter().map(|r| U256::from(r.1)).collect(),
        spansUs: case.spans.iter().map(|span| U256::from(*span)).collect(),
    }
}

/// A set of reports: as in the field, with ties, or at the ends of what the types hold.
fn draw(chance: &mut Chance) -> Case {
    let wild = chance.percent(20);
    let largest = if chance.percent(15) { 64 } else { 13 };
    let n = chance.below(largest + 1);
    let packet_bytes = u16::try_from(500 + chance.below(8_601)).unwrap();
    // With about one packet a µs each step of a window is a step of the bound.
    let claim_bps = match chance.below(4) {
        0 => 8_000_000 * u64::from(packet_bytes) * 100 / 115,
        1 => 1,
        _ => 1 + chance.below(4_000_000_000_000),
    };
    let rate_bps = claim_bps * 115 / 100;
    let window = |chance: &mut Chance| {
        let us = match chance.below(4) {
            _ if wild => u64::from(chance.next() as u32) >> chance.below(32),
            0 => 100_000,
            1 => 99_995 + chance.below(11),
            _ => 85_000 + chance.below(40_000),
        };
        (us as u32).max(1)
    };
    let packets = |chance: &mut Chance| match chance.below(3) {
        _ if wild => chance.next() as u32,
        0 => chance.below(12) as u32,
        _ => 900 + chance.below(200) as u32,
    };
    let reports: Vec<(u32, u32)> = (0..n).map(|_| (packets(chance), window(chance))).collect();
    // Each span one of the windows, the one before once more, or any.
    let mut spans: Vec<u32> = Vec::new();
    for _ in 0..=chance.below(n / 2 + 2) {
        let known = chance.pick(&reports).map(|r| r.1);
        let span = match (chance.below(3), spans.last(), known) {
            (0, Some(last), _) => *last,
            (1, _, Some(known)) => known,
            _ => window(chance),
        };
        spans.push(span);
    }
    Case {
        uplink: chance.percent(30),
        reports,
        claim_bps,
        rate_bps,
        packet_bytes,
        spans,
    }
}

/// A chain with the contracts on it, and one that runs the estimator many times a call.
struct Bench {
    fork: Fork,
    many: Address,
}

impl Bench {
    fn new() -> Self {
        let mut fork = Fork::found(&genesis(), START).unwrap();
        let from = Address::repeat_byte(7);
        let creation = Move {
            from,
            to: None,
            input: EstimatorMany::BYTECODE.clone(),
        };
        let done = fork.block(START, &[creation]).unwrap();
        assert!(done[0].done);
        let many = from.create(0);
        Self { fork, many }
    }

    fn call<C: SolCall>(&self, to: Address, call: &C) -> Result<Bytes, String> {
        let one = Move {
            from: Address::ZERO,
            to: Some(to),
            input: call.abi_encode().into(),
        };
        let told = self.fork.call(START, &one);
        told.map_err(|why| why.map_or_else(|| "no reason".to_owned(), |why| why.name))
    }

    /// By the product's own contract.
    fn estimate(&self, input: &Input) -> Result<Vec<U256>, String> {
        let call = Backhaul::estimateCall {
            input: input.clone(),
        };
        let output = self.call(self.fork.deployment().backhaul, &call)?;
        let output = Backhaul::estimateCall::abi_decode_returns(&output).unwrap();
        Ok(output.curve)
    }

    fn estimate_many(&self, cases: &[Case]) -> Vec<Vec<U256>> {
        let inputs = cases.iter().map(|case| {
            let i = input(case);
            many::Estimator::Input {
                uplink: i.uplink,
                packetBytes: i.packetBytes,
                rateBps: i.rateBps,
                counts: i.counts,
                windowsUs: i.windowsUs,
                spansUs: i.spansUs,
            }
        });
        let call = EstimatorMany::estimateManyCall {
            inputs: inputs.collect(),
        };
        let output = self.call(self.many, &call).unwrap();
        EstimatorMany::estimateManyCall::abi_decode_returns(&output).unwrap()
    }
}

#[test]
fn agrees_with_the_products_and_a_plain_one() {
    let seed = std::env::var("PLUMBLINE_SEED").map_or(1, |seed| seed.parse().unwrap());
    let times = if std::env::var_os("PLUMBLINE_FULL").is_some() {
        10
    } else {
        1
    };
    let bench = Bench::new();
    let mut chance = Chance::new(seed);
    let (mut zero, mut most, mut reused) = (0_u64, 0_u64, 0_u64);
    for _ in 0..times * CASES / BATCH {
        let cases: Vec<Case> = (0..BATCH).map(|_| draw(&mut chance)).collect();
        for (case, found) in cases.iter().zip(bench.estimate_many(&cases)) {
            let expected = curve(case);
            assert_eq!(found, expected, "PLUMBLINE_SEED={seed}: {case:?}");
            zero += u64::from(expected.contains(&U256::ZERO));
            most += u64::from(expected.contains(&U256::from(u64::MAX)));
            reused += u64::from(case.spans.windows(2).any(|pair| pair[0] == pair[1]));
        }
        // What is deployed is what was compared.
        assert_eq!(bench.estimate(&input(&cases[0])).unwrap(), curve(&cases[0]));
    }
    assert!(zero.min(most).min(reused) > 100, "{zero} {most} {reused}");
}

/// Reports of 1500 bytes, sent at a packet a µs.
fn case(reports: &[(u32, u32)], spans: &[u32]) -> Case {
    Case {
        uplink: false,
        reports: reports.to_vec(),
        claim_bps: 10_434_782_609,
        rate_bps: 12_000_000_000,
        packet_bytes: 1_500,
        spans: spans.to_vec(),
    }
}

#[test]
fn a_window_that_is_longer_gives_up_what_was_sent_before_and_the_burst() {
    let bench = Bench::new();
    for (window, kept) in [
        (90, 100),
        (100, 100),
        (101, 91),
        (191, 1),
        (192, 0),
        (u32::MAX, 0),
    ] {
        let mut one = case(&[(100, window)], &[100]);
        let bps = |packets: u64| vec![U256::from(packets * 12_000_000_000 / 100)];
        assert_eq!(bench.estimate(&input(&one)).unwrap(), bps(kept), "{window}");
        // A part of a packet is a packet.
        one.rate_bps += 1;
        let less = if window > 100 {
            kept.saturating_sub(1)
        } else {
            kept
        };
        assert_eq!(bench.estimate(&input(&one)).unwrap(), bps(less), "{window}");
        one.uplink = true;
        let whole = if window > 100 { 0 } else { 100 };
        assert_eq!(
            bench.estimate(&input(&one)).unwrap(),
            bps(whole),
            "{window}"
        );
    }
}

#[test]
fn malformed_input_is_refused() {
    let bench = Bench::new();
    let good = input(&case(&[(1, 2), (4, 5)], &[3, 3]));
    bench.estimate(&good).unwrap();
    let change = |f: &dyn Fn(&mut Input)| {
        let mut input = good.clone();
        f(&mut input);
        bench.estimate(&input).unwrap_err()
    };
    assert_eq!(change(&|i| i.spansUs[1] = U256::ZERO), "InputMalformed");
    assert_eq!(change(&|i| i.spansUs[0] = U256::ZERO), "InputMalformed");
    assert_eq!(change(&|i| i.packetBytes = U256::ZERO), "InputMalformed");
    assert_eq!(change(&|i| i.counts.truncate(1)), "InputMalformed");
    assert_eq!(change(&|i| i.windowsUs.truncate(1)), "InputMalformed");
}

/// The lemma, as a property: honest ones send on schedule with any starts over a link that carries so much, at
/// most j say what they like; no bound, over whatever span, is above what the link carried over that span.
#[test]
fn no_liar_lifts_a_bound_above_the_link() {
    let bench = Bench::new();
    let mut chance = Chance::new(7);
    let mut tight = 0_u64;
    for _ in 0..400 {
        let f = 1 + chance.below(4);
        let n = 3 * f + 1 + chance.below(4);
        let link = 5 + chance.below(200);
        // Packets that cross in each ms, handed out among the honest as the queue would have it; each may be
        // behind its schedule of `rate` a ms, never ahead by more than the burst.
        let rate = 1 + chance.below(60);
        let (span, end) = (100, 160);
        let starts: Vec<u64> = (0..n).map(|_| chance.below(60)).collect();
        let mut counts = vec![0_u64; n as usize];
        let mut late = vec![0_u64; n as usize];
        for ms in 0..end {
            let mut room = link;
            let first = chance.below(n);
            for k in 0..n {
                let i = ((first + k) % n) as usize;
                if i < f as usize || ms < starts[i] {
                    continue;
                }
                // As of this ms it may have sent (ms − start + 1)·rate + burst, less what it sent before.
                let may = (ms - starts[i] + 1) * rate + BURST - counts[i] - late[i];
                let through = may.min(room).min(chance.below(2 * rate + 2));
                room -= through;
                counts[i] += through;
                // Sent too, and lost.
                late[i] += chance.below(2).min(may - through);
            }
        }
        // A ms is a µs here, and a packet 1500 bytes.
        let reports = (0..n as usize).map(|i| {
            if i < f as usize {
                (chance.next() as u32, 1 + chance.below(300) as u32)
            } else {
                (counts[i] as u32, (end - starts[i]) as u32)
            }
        });
        let mut one = case(&reports.collect::<Vec<_>>(), &[]);
        one.rate_bps = 12_000_000_000 * rate;
        for span in [span, 85, end as u32, 1 + chance.below(200) as u32] {
            one.spans = vec![span; f as usize + 1];
            let curve = bench.estimate(&input(&one)).unwrap();
            let carried = link * u64::from(span).min(end) * 12_000_000_000 / u64::from(span);
            let bound = curve[f as usize];
            assert!(
                bound <= U256::from(carried),
                "{bound} of {carried}: {one:?}"
            );
            tight += u64::from(bound * U256::from(10) > U256::from(carried * 7));
        }
    }
    assert!(tight > 20, "no case came near: {tight}");
}
