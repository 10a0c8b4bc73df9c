//! The contract's estimator against the product's and a plain one, to the last bit.

use alloy::primitives::U256;
use plumbline::chain::{ChainClient, Embedded};
use plumbline_contracts::abi::backhaul::Estimator::{Input, Output};
use plumbline_proof::backhaul::estimate::{Estimate, Sample, estimate, estimate_uplink};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::world::{TestClock, genesis, key, refused};

/// Rates are held in 64 bits.
const LARGEST: u128 = u64::MAX as u128;

struct Plain {
    point: u128,
    curve: Vec<u128>,
    outliers: Vec<bool>,
    median: u128,
    mad: u128,
}

fn middle(mut values: Vec<u128>) -> u128 {
    values.sort_unstable();
    let n = values.len();
    if n % 2 == 1 {
        values[n / 2]
    } else {
        (values[n / 2 - 1] + values[n / 2]) / 2
    }
}

/// What is asked of the estimators: packets, tt and tt⁺ of each report, and what they are seen with.
#[derive(Clone, Debug)]
struct Case {
    reports: Vec<(u32, u64, u64)>,
    offered: u64,
    faulty: u16,
    packet_bytes: u16,
    /// 2⁶⁴−1: no burst was seen.
    sustained: u64,
}

fn downlink(case: &Case) -> Plain {
    let Case { reports, .. } = case;
    let (offered, faulty) = (u128::from(case.offered), usize::from(case.faulty));
    let packets: u128 = reports.iter().map(|r| u128::from(r.0)).sum();
    let tt: Vec<u128> = reports.iter().map(|r| u128::from(r.1)).collect();
    let mut counts: Vec<u128> = reports.iter().map(|r| u128::from(r.0)).collect();
    let mut plus: Vec<u128> = reports.iter().map(|r| u128::from(r.2)).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    plus.sort_unstable_by(|a, b| b.cmp(a));
    let bits = 8 * u128::from(case.packet_bytes) * 1_000_000_000;
    let curve = (0..=faulty)
        .map(|j| {
            let taken: u128 = counts.iter().take(j).sum();
            plus.get(j)
                .map_or(0, |tt| (bits * (packets - taken) / tt).min(LARGEST))
        })
        .collect();
    if reports.is_empty() {
        return Plain {
            point: 0,
            curve,
            outliers: Vec::new(),
            median: 0,
            mad: 0,
        };
    }
    let median = middle(tt.clone());
    let distances: Vec<u128> = tt.iter().map(|t| t.abs_diff(median)).collect();
    let mad = middle(distances.clone());
    let bound = (3 * mad).max(median / 20);
    Plain {
        point: (bits * packets / median)
            .min((bits * packets / middle(plus)).min(LARGEST) * 5 / 4)
            .min(offered),
        curve,
        outliers: distances.iter().map(|d| *d > bound).collect(),
        median,
        mad,
    }
}

fn uplink(case: &Case) -> Plain {
    let bits = 8 * u128::from(case.packet_bytes) * 1_000_000_000;
    let rate = |r: &(u32, u64, u64)| (bits * u128::from(r.0) / u128::from(r.1)).min(LARGEST);
    let mut rates: Vec<u128> = case.reports.iter().map(rate).collect();
    rates.sort_unstable();
    let smallest = |count: usize| rates.iter().take(count).sum::<u128>();
    let n = rates.len();
    Plain {
        point: smallest(n).min(case.offered.into()),
        curve: (0..=usize::from(case.faulty))
            .map(|j| smallest(n.saturating_sub(j)).min(LARGEST))
            .collect(),
        outliers: vec![false; n],
        median: 0,
        mad: 0,
    }
}

fn plain(case: &Case, up: bool) -> Plain {
    let of = if up { uplink } else { downlink };
    let mut plain = of(case);
    let most = u128::from(case.sustained);
    plain.point = plain.point.min(most);
    plain
        .curve
        .iter_mut()
        .for_each(|bps| *bps = (*bps).min(most));
    plain
}

fn input(case: &Case, up: bool) -> Input {
    let reports = &case.reports;
    let packets: u64 = reports.iter().map(|r| u64::from(r.0)).sum();
    Input {
        uplink: up,
        packetBytes: U256::from(case.packet_bytes),
        packets: U256::from(packets),
        counts: reports.iter().map(|r| U256::from(r.0)).collect(),
        tt: reports.iter().map(|r| U256::from(r.1)).collect(),
        ttPlus: reports.iter().map(|r| U256::from(r.2)).collect(),
        offeredBps: U256::from(case.offered),
        faulty: U256::from(case.faulty),
        sustainedBps: U256::from(case.sustained),
    }
}

fn assert_same(output: &Output, expected: &Plain) {
    assert_eq!(output.point, U256::from(expected.point));
    let curve: Vec<U256> = expected.curve.iter().map(|r| U256::from(*r)).collect();
    assert_eq!(output.curve, curve);
    assert_eq!(output.outliers, expected.outliers);
    assert_eq!(output.median, U256::from(expected.median));
    assert_eq!(output.mad, U256::from(expected.mad));
}

/// The product's own, which judges bundles off chain.
fn products(case: &Case, up: bool) -> Estimate {
    let sample = |(packets, tt_ns, tt_plus_ns): &(u32, u64, u64)| Sample {
        tt_ns: *tt_ns,
        tt_plus_ns: *tt_plus_ns,
        packets: u64::from(*packets),
    };
    let samples: Vec<Sample> = case.reports.iter().map(sample).collect();
    let of = if up { estimate_uplink } else { estimate };
    let seen = (case.sustained != u64::MAX).then_some(case.sustained);
    of(&samples, case.faulty, case.offered, case.packet_bytes).within(seen)
}

fn assert_products(output: &Output, expected: &Estimate) {
    assert_eq!(output.point, U256::from(expected.point_bps));
    let curve: Vec<U256> = expected.curve.iter().map(|r| U256::from(*r)).collect();
    assert_eq!(output.curve, curve);
    assert_eq!(output.outliers, expected.outlier);
}

fn chain() -> (TempDir, ChainClient) {
    let dir = TempDir::new().unwrap();
    let chain = Embedded::open(dir.path(), &genesis(), TestClock::new().options()).unwrap();
    (dir, ChainClient::in_process(&chain, key(2)))
}

#[test]
fn agrees_with_the_products_and_a_plain_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_dir, client) = chain();
    // Few distinct times make ties and a MAD of zero likely; wide ones reach the largest products.
    let time = prop_oneof![99_u64..=105, 1..=u64::MAX, Just(1)];
    let report = (prop_oneof![0_u32..=9, any::<u32>()], time.clone(), time);
    let length = prop_oneof![Just(1_500_u16), 500_u16..=9_100];
    let most = prop_oneof![Just(u64::MAX), any::<u64>()];
    let case = (vec(report, 0..=64), any::<u64>(), 0_u16..=21, length, most);
    let case = case.prop_map(|(reports, offered, faulty, packet_bytes, sustained)| Case {
        reports,
        offered,
        faulty,
        packet_bytes,
        sustained,
    });
    proptest!(ProptestConfig::with_cases(400), |(case in case, up in any::<bool>())| {
        let output = runtime.block_on(client.estimate(&input(&case, up))).unwrap();
        assert_same(&output, &plain(&case, up));
        assert_products(&output, &products(&case, up));
    });
}

/// Packets of 1500 bytes; nothing bounds the figures.
fn case(reports: &[(u32, u64, u64)]) -> Case {
    Case {
        reports: reports.to_vec(),
        offered: u64::MAX,
        faulty: 1,
        packet_bytes: 1_500,
        sustained: u64::MAX,
    }
}

#[tokio::test]
async fn outliers_begin_one_step_outside_5_percent() {
    let (_dir, client) = chain();
    // Equal but for one: MAD 0, so the bound is median/20 = 50.
    for (time, out) in [(1_050, false), (1_051, true), (950, false), (949, true)] {
        let reports = [(1, 1_000, 1), (1, 1_000, 1), (1, 1_000, 1), (1, time, 1)];
        let output = client
            .estimate(&input(&case(&reports), false))
            .await
            .unwrap();
        assert_eq!(output.outliers, [false, false, false, out], "{time}");
        // Where the prover sends, no two time the same traffic.
        let output = client
            .estimate(&input(&case(&reports), true))
            .await
            .unwrap();
        assert_eq!(output.outliers, [false; 4], "{time}");
    }
}

#[tokio::test]
async fn malformed_input_is_refused() {
    let (_dir, client) = chain();
    let good = input(&case(&[(1, 2, 3), (4, 5, 6)]), false);
    client.estimate(&good).await.unwrap();
    let mut up = input(&case(&[(1, 2, 3), (4, 5, 6)]), true);
    client.estimate(&up).await.unwrap();
    up.tt[1] = U256::ZERO;
    assert_eq!(refused(client.estimate(&up).await), "InputMalformed");
    let mut zero = good.clone();
    zero.tt[1] = U256::ZERO;
    assert_eq!(refused(client.estimate(&zero).await), "InputMalformed");
    let mut zero = good.clone();
    zero.ttPlus[0] = U256::ZERO;
    assert_eq!(refused(client.estimate(&zero).await), "InputMalformed");
    let mut short = good;
    short.counts.pop();
    assert_eq!(refused(client.estimate(&short).await), "InputMalformed");
}
