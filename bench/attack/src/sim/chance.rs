//! Chance that can be repeated: SplitMix64, one stream a run.
//!
//! Not for secrets. The generator is small enough to be read here, so a seed means the same run in every
//! version of every dependency.

/// A stream of numbers that its seed decides.
#[derive(Clone, Debug)]
pub(super) struct Chance(u64);

/// What ppm count.
const MILLION: u64 = 1_000_000;

impl Chance {
    /// The stream of `seed`.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0 … `most` − 1; 0 if there is none. The bias is below `most` / 2⁶⁴.
    pub(super) fn below(&mut self, most: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(most);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// True so many times in a million.
    pub(super) fn in_a_million(&mut self, times: u64) -> bool {
        // Without a draw where nothing is left to chance: a world without loss is the same with and
        // without this question.
        times > 0 && self.below(MILLION) < times
    }

    /// 32 bytes.
    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for word in out.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
        out
    }
}

/// The seed of run `run` of cell `cell` in a table of seed `seed`.
pub(super) fn seed_of(seed: u64, cell: u64, run: u64) -> u64 {
    let mut of_cell = Chance::new(seed ^ cell.wrapping_mul(0xd6e8_feb8_6659_fd93));
    Chance::new(of_cell.next() ^ run).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_of_seed_1234567() {
        let mut chance = Chance::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| chance.next()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn bounds_hold_and_are_reached() {
        let mut chance = Chance::new(7);
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| chance.below(5)).collect();
        assert_eq!(drawn, (0..5).collect());
        assert_eq!(chance.below(0), 0);
        assert!(!chance.in_a_million(0) && chance.in_a_million(MILLION));
    }

    #[test]
    fn no_two_runs_of_a_table_share_a_seed() {
        let all: std::collections::BTreeSet<u64> = (0..50)
            .flat_map(|cell| (0..50).map(move |run| seed_of(1, cell, run)))
            .collect();
        assert_eq!(all.len(), 2500);
    }
}
