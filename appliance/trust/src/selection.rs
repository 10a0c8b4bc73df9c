//! The draw, exactly as the contract does it, so that anyone can repeat it from chain data.
//!
//! score(a) = keccak256(abi.encode(beacon, challenge, a)); the n smallest scores win, smallest first.

use crate::encoding::{Digest, keccak256};
use crate::identity::Address;

/// Score of one candidate.
pub fn score(beacon: &Digest, challenge: &Digest, candidate: &Address) -> Digest {
    let mut word = [0u8; 32];
    word[12..].copy_from_slice(&candidate.0);
    keccak256(&[beacon, challenge, &word])
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
