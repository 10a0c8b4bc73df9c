//! Which requests a coordinator drives: a draw, a log and a judgement cost it something, and anybody may ask.
//!
//! **Guarantees.** A request below the terms costs one reading of it; it is named in the log and to whoever asks for it,
//! and payers see the terms before they lock anything. **Tests.** Below, and `appliance/tests/door/`.

use std::time::Duration;

use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use serde::{Deserialize, Serialize};

/// Blocks from seeing a request to its result: heartbeats of two others, draw, set-up and result, each of which may
/// miss one, and has one on top where the next step waits for it.
const RESULT_BLOCKS: u32 = 14;

/// What is asked of a request at least, as `/v1/version` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Base units a byte.
    #[serde(with = "crate::ui::results::decimal")]
    pub min_price: u128,
    /// Challengers at most.
    pub max_challengers: u16,
    /// Seconds from seeing a request to its deadline.
    pub min_deadline_s: u64,
}

impl Default for Terms {
    /// Everything that the contract takes.
    fn default() -> Self {
        Self {
            min_price: 0,
            max_challengers: u16::MAX,
            min_deadline_s: 0,
        }
    }
}

impl Terms {
    /// What can be held on a chain whose blocks take so long.
    #[must_use]
    pub fn on_blocks_of(mut self, block_time: Duration) -> Self {
        let needed = block_time.saturating_mul(RESULT_BLOCKS).as_secs();
        self.min_deadline_s = self.min_deadline_s.max(needed);
        self
    }

    /// As payers are told, whose requests are seen so much later than they are made.
    #[must_use]
    pub fn asked_before(mut self, seen_after: Duration) -> Self {
        if self.min_deadline_s > 0 {
            self.min_deadline_s += seen_after.as_secs();
        }
        self
    }

    /// Whether a request that is seen at `now_s` is within them.
    ///
    /// # Errors
    /// Each term that it is not within, with the key, its value and what is asked.
    pub fn check(&self, asked: &Request, now_s: u64) -> Result<(), String> {
        let mut why = Vec::new();
        if asked.pricePerByte < self.min_price {
            why.push(format!(
                "coordinator.min_price is {} base units a byte; this request offers {}",
                self.min_price, asked.pricePerByte
            ));
        }
        if asked.n > self.max_challengers {
            why.push(format!(
                "coordinator.max_challengers is {}; this request asks for {}",
                self.max_challengers, asked.n
            ));
        }
        let left = asked.deadline.saturating_sub(now_s);
        if left < self.min_deadline_s {
            let least =
                crate::config::units::format_duration(Duration::from_secs(self.min_deadline_s));
            why.push(format!(
                "coordinator.min_deadline is {least}; this request leaves {left} s"
            ));
        }
        if why.is_empty() {
            Ok(())
        } else {
            Err(why.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_blocks_ask_for_a_later_deadline_and_fast_ones_do_not() {
        let terms = |min_deadline_s| Terms {
            min_deadline_s,
            ..Terms::default()
        };
        let (block, settled) = (Duration::from_secs(12), Duration::from_secs(99));
        assert_eq!(terms(167).on_blocks_of(block), terms(168));
        assert_eq!(terms(169).on_blocks_of(block), terms(169));
        assert_eq!(terms(0).on_blocks_of(Duration::ZERO), terms(0));
        assert_eq!(terms(168).asked_before(settled), terms(267));
        assert_eq!(terms(0).asked_before(settled), terms(0));
    }

    #[test]
    fn each_term_has_both_sides_and_all_are_named_at_once() {
        let terms = Terms {
            min_price: 3,
            max_challengers: 10,
            min_deadline_s: 60,
        };
        let asked = Request {
            pricePerByte: 3,
            n: 10,
            deadline: 160,
            ..Request::default()
        };
        assert_eq!(terms.check(&asked, 100), Ok(()));
        let below = Request {
            pricePerByte: 2,
            n: 11,
            ..asked
        };
        let why = terms.check(&below, 101).unwrap_err();
        for words in [
            "min_price is 3 base units a byte; this request offers 2",
            "max_challengers is 10; this request asks for 11",
            "min_deadline is 1m; this request leaves 59 s",
        ] {
            assert!(why.contains(words), "{why}");
        }
    }
}
