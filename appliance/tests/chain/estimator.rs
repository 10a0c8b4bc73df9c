//! The contract's estimator against the product's and a plain one, to the last bit.

use alloy::primitives::U256;
use plumbline::chain::{ChainClient, Embedded};
use plumbline_contracts::abi::backhaul::Estimator::{Input, Output};
use plumbline_proof::backhaul::estimate::{Sample, estimate};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::world::{TestClock, genesis, key, refused};

const PACKET_BYTES: u128 = 1_500;
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

fn plain(reports: &[(u32, u64, u64)], offered: u128, faulty: usize) -> Plain {
    let packets: u128 = reports.iter().map(|r| u128::from(r.0)).sum();
    let tt: Vec<u128> = reports.iter().map(|r| u128::from(r.1)).collect();
    let mut counts: Vec<u128> = reports.iter().map(|r| u128::from(r.0)).collect();
    let mut plus: Vec<u128> = reports.iter().map(|r| u128::from(r.2)).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    plus.sort_unstable_by(|a, b| b.cmp(a));
    let bits = 8 * PACKET_BYTES * 1_000_000_000;
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
        point: (bits * packets / median).min(offered),
        curve,
        outliers: distances.iter().map(|d| *d > bound).collect(),
        median,
        mad,
    }
}

fn input(reports: &[(u32, u64, u64)], offered: u128, faulty: usize) -> Input {
    let packets: u128 = reports.iter().map(|r| u128::from(r.0)).sum();
    Input {
        packetBytes: U256::from(PACKET_BYTES),
        packets: U256::from(packets),
        counts: reports.iter().map(|r| U256::from(r.0)).collect(),
        tt: reports.iter().map(|r| U256::from(r.1)).collect(),
        ttPlus: reports.iter().map(|r| U256::from(r.2)).collect(),
        offeredBps: U256::from(offered),
        faulty: U256::from(faulty),
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
fn assert_products(output: &Output, reports: &[(u32, u64, u64)], offered: u128, faulty: usize) {
    let samples: Vec<Sample> = reports
        .iter()
        .map(|(packets, tt_ns, tt_plus_ns)| Sample {
            tt_ns: *tt_ns,
            tt_plus_ns: *tt_plus_ns,
            packets: u64::from(*packets),
        })
        .collect();
    let faulty = u16::try_from(faulty).unwrap();
    let expected = estimate(&samples, faulty, u64::try_from(offered).unwrap());
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
    let case = (vec(report, 0..=64), any::<u64>(), 0_usize..=21);
    proptest!(ProptestConfig::with_cases(200), |((reports, offered, faulty) in case)| {
        let offered = u128::from(offered);
        let input = input(&reports, offered, faulty);
        let output = runtime.block_on(client.estimate(&input)).unwrap();
        assert_same(&output, &plain(&reports, offered, faulty));
        assert_products(&output, &reports, offered, faulty);
    });
}

#[tokio::test]
async fn outliers_begin_one_step_outside_5_percent() {
    let (_dir, client) = chain();
    // Equal but for one: MAD 0, so the bound is median/20 = 50.
    for (time, out) in [(1_050, false), (1_051, true), (950, false), (949, true)] {
        let reports = [(1, 1_000, 1), (1, 1_000, 1), (1, 1_000, 1), (1, time, 1)];
        let output = client.estimate(&input(&reports, 1, 1)).await.unwrap();
        assert_eq!(output.outliers, [false, false, false, out], "{time}");
    }
}

#[tokio::test]
async fn malformed_input_is_refused() {
    let (_dir, client) = chain();
    let good = input(&[(1, 2, 3), (4, 5, 6)], 7, 1);
    client.estimate(&good).await.unwrap();
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
