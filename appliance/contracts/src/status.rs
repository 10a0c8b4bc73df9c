//! Where a measurement stands and what it found: the contract's enums.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a measurement stands (`IBackhaul.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// There is no such measurement.
    None = 0,
    /// Escrow is locked; challengers are not drawn yet.
    Created = 1,
    /// Challengers are drawn.
    Selected = 2,
    /// The coordinator has begun.
    Running = 3,
    /// The result is on record and can be disputed.
    Reported = 4,
    /// Reserved.
    Disputed = 5,
    /// Paid out.
    Final = 6,
    /// The deadline passed without a result; the payer was refunded.
    TimedOut = 7,
    /// Ended before it ran; the payer was refunded.
    Cancelled = 8,
}

impl State {
    /// Whether nothing more can happen: all escrow is credited to somebody.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Final | Self::TimedOut | Self::Cancelled)
    }

    /// The state with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Created,
            2 => Self::Selected,
            3 => Self::Running,
            4 => Self::Reported,
            5 => Self::Disputed,
            6 => Self::Final,
            7 => Self::TimedOut,
            8 => Self::Cancelled,
            _ => return None,
        })
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "unknown",
            Self::Created => "created",
            Self::Selected => "selected",
            Self::Running => "running",
            Self::Reported => "reported",
            Self::Disputed => "disputed",
            Self::Final => "final",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
        })
    }
}

/// What a measurement says of the claim (`IBackhaul.Verdict`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Verdict {
    /// Not judged.
    None = 0,
    /// The claim holds.
    Pass = 1,
    /// The link is slower than claimed; the figure says how fast it is.
    Fail = 2,
    /// Too few valid reports to say.
    Inconclusive = 3,
}

impl Verdict {
    /// The verdict with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Pass,
            2 => Self::Fail,
            3 => Self::Inconclusive,
            _ => return None,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "not judged",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_contract() {
        for number in 0..=8 {
            assert_eq!(State::from_u8(number).unwrap() as u8, number);
        }
        assert_eq!(State::from_u8(9), None);
        for number in 0..=3 {
            assert_eq!(Verdict::from_u8(number).unwrap() as u8, number);
        }
        assert_eq!(Verdict::from_u8(4), None);
    }
}
