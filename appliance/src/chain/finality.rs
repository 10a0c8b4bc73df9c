//! When a block counts as settled.

use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// Most blocks that may be asked for on top of one: more than any chain ever reorganised.
pub const DEPTH_MAX: u64 = 10_000;
/// The word for [`Finality::Finalized`], in configurations and between processes.
pub const FINALIZED: &str = "finalized";

/// When a block counts as settled: no money is acknowledged before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Finality {
    /// With this many blocks on top of it; 0 where blocks never change, as in the embedded engine.
    Depth(u64),
    /// When the chain's own consensus says `finalized`.
    #[default]
    Finalized,
}

impl Finality {
    /// Blocks never change: an answer is final.
    pub const IMMEDIATE: Self = Self::Depth(0);

    /// When to act on what is done again if a reorganisation takes it back, and moves no money: with one block on
    /// top, where blocks change at all.
    #[must_use]
    pub fn soon(self) -> Self {
        match self {
            Self::IMMEDIATE => self,
            _ => Self::Depth(1),
        }
    }
}

impl Serialize for Finality {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Depth(depth) => to.serialize_u64(*depth),
            Self::Finalized => to.serialize_str(FINALIZED),
        }
    }
}

impl<'de> Deserialize<'de> for Finality {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Depth(u64),
            Word(String),
        }
        match Either::deserialize(from)? {
            Either::Depth(depth) if depth <= DEPTH_MAX => Ok(Self::Depth(depth)),
            Either::Word(word) if word == FINALIZED => Ok(Self::Finalized),
            _ => Err(D::Error::custom(format!(
                "a finality is \"{FINALIZED}\" or a number of blocks up to {DEPTH_MAX}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_is_one_block_at_most() {
        assert_eq!(Finality::IMMEDIATE.soon(), Finality::IMMEDIATE);
        for finality in [Finality::Depth(1), Finality::Depth(6), Finality::Finalized] {
            assert_eq!(finality.soon(), Finality::Depth(1));
        }
    }

    #[test]
    fn words_and_numbers_are_read_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<Finality>(text).ok();
        assert_eq!(read("\"finalized\""), Some(Finality::Finalized));
        assert_eq!(read("0"), Some(Finality::IMMEDIATE));
        assert_eq!(read("10000"), Some(Finality::Depth(10_000)));
        assert_eq!(read("10001"), None);
        assert_eq!(read("\"safe\""), None);
        assert_eq!(read("-1"), None);
        for finality in [Finality::Finalized, Finality::Depth(7)] {
            let text = serde_json::to_string(&finality).unwrap();
            assert_eq!(read(&text), Some(finality));
        }
    }
}
