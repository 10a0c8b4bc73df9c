//! The draw, exactly as the contract does it, so that anyone can repeat it from chain data.
//!
//! score(a) = keccak256(abi.encode(beacon, challenge, a)); the n smallest scores win, smallest first. A
//! candidate of weight w has w such scores, those of tickets 1 to w − 1 being keccak256(abi.encode(beacon,
//! challenge, a, ticket)), and the smallest counts: it comes first with probability w / Σ weights.

use crate::encoding::{Digest, keccak256};
use crate::identity::Address;

/// Score of one candidate.
pub fn score(beacon: &Digest, challenge: &Digest, candidate: &Address) -> Digest {
    let mut word = [0u8; 32];
    word[12..].copy_from_slice(&candidate.0);
    keccak256(&[beacon, challenge, &word])
}

/// Score of one candidate that has `tickets` tickets; the greatest there is if it has none.
pub fn weighted_score(
    beacon: &Digest,
    challenge: &Digest,
    candidate: &Address,
    tickets: u32,
) -> Digest {
    let mut account = [0u8; 32];
    account[12..].copy_from_slice(&candidate.0);
    let other = |ticket: u32| {
        let mut number = [0u8; 32];
        number[28..].copy_from_slice(&ticket.to_be_bytes());
        keccak256(&[beacon, challenge, &account, &number])
    };
    let first = (tickets > 0).then(|| score(beacon, challenge, candidate));
    let all = first.into_iter().chain((1..tickets).map(other));
    all.min().unwrap_or([0xff; 32])
}

/// Draws `n` of `candidates`, each with its tickets; `None` if there are fewer.
pub fn draw_weighted(
    beacon: &Digest,
    challenge: &Digest,
    candidates: &[(Address, u32)],
    n: usize,
) -> Option<Vec<Address>> {
    if candidates.len() < n {
        return None;
    }
    let scored = candidates.iter().map(|(candidate, tickets)| {
        let score = weighted_score(beacon, challenge, candidate, *tickets);
        (score, *candidate)
    });
    let mut scored: Vec<(Digest, Address)> = scored.collect();
    // Equal scores (no tickets) keep the order of the list, as in the contract.
    scored.sort_by_key(|(score, _)| *score);
    Some(scored.into_iter().take(n).map(|(_, a)| a).collect())
}

/// Draws `n` of `candidates`; `None` if there are fewer.
pub fn draw(
    beacon: &Digest,
    challenge: &Digest,
    candidates: &[Address],
    n: usize,
) -> Option<Vec<Address>> {
    if candidates.len() < n {
        return None;
    }
    let mut scored: Vec<(Digest, Address)> = candidates
        .iter()
        .map(|c| (score(beacon, challenge, c), *c))
        .collect();
    scored.sort_unstable();
    Some(scored.into_iter().take(n).map(|(_, a)| a).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Uniform and weighted draws hit each candidate as often as its tickets say: 100,000 draws, each count
    /// within five standard deviations of the binomial (a fair draw leaves them once in two million).
    #[test]
    fn frequencies_are_those_of_the_binomial() {
        const DRAWS: u32 = 100_000;
        let tickets = [1u32, 1, 2, 4, 8, 16];
        let pool: Vec<(Address, u32)> = (1u8..).map(|i| Address([i; 20])).zip(tickets).collect();
        let total: u32 = tickets.iter().sum();
        let (mut weighted, mut uniform) = ([0u32; 6], [0u32; 6]);
        for i in 0..DRAWS {
            let beacon = keccak256(&[&i.to_be_bytes()]);
            let equal: Vec<Address> = pool.iter().map(|(a, _)| *a).collect();
            for (counts, first) in [
                (&mut weighted, draw_weighted(&beacon, &[7; 32], &pool, 1)),
                (&mut uniform, draw(&beacon, &[7; 32], &equal, 1)),
            ] {
                let first = first.unwrap()[0];
                counts[usize::from(first.0[0]) - 1] += 1;
            }
        }
        let n = f64::from(DRAWS);
        let near = |count: u32, p: f64| {
            let (mean, deviation) = (n * p, (n * p * (1.0 - p)).sqrt());
            assert!(
                (f64::from(count) - mean).abs() < 5.0 * deviation,
                "{count} of {mean}"
            );
        };
        for (i, count) in weighted.into_iter().enumerate() {
            near(count, f64::from(tickets[i]) / f64::from(total));
            near(uniform[i], 1.0 / 6.0);
        }
    }

    /// What it is worth to see the mix and keep k reveals back: of 2^k draws the best. 20,000 draws of 5 from
    /// 30, of whom 6 are corrupt; the aim is two of them among the five, which breaks f = 1.
    #[test]
    fn choosing_among_mixes_gains_what_the_formula_says() {
        const DRAWS: u32 = 20_000;
        let pool: Vec<Address> = (0u8..30).map(|i| Address([i; 20])).collect();
        // Hypergeometric: 1 - P(0) - P(1), P(0) = C(24,5)/C(30,5), P(1) = 6 C(24,4)/C(30,5).
        let once = 1.0 - (42_504.0 + 6.0 * 10_626.0) / 142_506.0;
        for bits in 0..4u32 {
            let won = (0..DRAWS)
                .filter(|i| {
                    (0..1u32 << bits).any(|choice| {
                        let beacon = keccak256(&[&i.to_be_bytes(), &choice.to_be_bytes()]);
                        let drawn = draw(&beacon, &[7; 32], &pool, 5).unwrap();
                        drawn.iter().filter(|a| a.0[0] < 6).count() >= 2
                    })
                })
                .count();
            let p = 1.0 - f64::powi(1.0 - once, 1 << bits);
            let n = f64::from(DRAWS);
            let (mean, deviation) = (n * p, (n * p * (1.0 - p)).sqrt());
            let won = f64::from(u32::try_from(won).unwrap());
            println!("k = {bits}: {:.4}, formula {p:.4}", won / n);
            assert!(
                (won - mean).abs() < 5.0 * deviation,
                "k = {bits}: {won} of {mean}"
            );
        }
    }

    #[test]
    fn one_ticket_each_is_the_uniform_draw_and_none_comes_last() {
        let pool: Vec<Address> = (1u8..9).map(|i| Address([i; 20])).collect();
        let equal: Vec<(Address, u32)> = pool.iter().map(|a| (*a, 1)).collect();
        for seed in 0..50u8 {
            let beacon = keccak256(&[&[seed]]);
            assert_eq!(
                draw_weighted(&beacon, &[1; 32], &equal, 5),
                draw(&beacon, &[1; 32], &pool, 5)
            );
            let mut without = equal.clone();
            without[3].1 = 0;
            let all = draw_weighted(&beacon, &[1; 32], &without, 8).unwrap();
            assert_eq!(all[7], pool[3]);
        }
    }

    proptest! {
        #[test]
        fn the_draw_does_not_depend_on_the_order_of_the_pool(seed in any::<[u8; 32]>(), count in 1usize..20, n in 1usize..20, turn in 0usize..20) {
            let pool: Vec<Address> = (0..count).map(|i| Address([u8::try_from(i).unwrap(); 20])).collect();
            let mut turned = pool.clone();
            turned.rotate_left(turn % count);
            let a = draw(&seed, &[1; 32], &pool, n);
            prop_assert_eq!(&a, &draw(&seed, &[1; 32], &turned, n));
            prop_assert_eq!(a.is_some(), n <= count);
            if let Some(mut a) = a { a.sort(); a.dedup(); prop_assert_eq!(a.len(), n); }
        }
    }
}
