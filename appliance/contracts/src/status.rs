//! Where a measurement stands and what it found: the contract's enums; who a draw seated.

use std::fmt;

use alloy::primitives::{Address, U256};
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
    /// Evidence against a party is being judged.
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
    /// Evidence against a party was upheld: the result says nothing any more.
    Annulled = 4,
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
            4 => Self::Annulled,
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
            Self::Annulled => "annulled",
        })
    }
}

/// Where a jury's case stands (`Jury.Stage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Stage {
    /// There is no such case.
    None = 0,
    /// Its jurors are not drawn yet.
    Open = 1,
    /// Jurors commit and reveal.
    Drawn = 2,
    /// It is over.
    Settled = 3,
}

impl Stage {
    /// The stage with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Open,
            2 => Self::Drawn,
            3 => Self::Settled,
            _ => return None,
        })
    }
}

/// What came of a case, and a juror's vote (`Jury.Ruling`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Ruling {
    /// Not over; not revealed.
    None = 0,
    /// The evidence holds.
    Upheld = 1,
    /// It does not.
    Rejected = 2,
    /// No majority, or no jury.
    Hung = 3,
    /// The evidence could be had nowhere.
    Unavailable = 4,
}

impl Ruling {
    /// What a juror can vote.
    pub const VOTES: [Self; 3] = [Self::Upheld, Self::Rejected, Self::Unavailable];

    /// The ruling with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Upheld,
            2 => Self::Rejected,
            3 => Self::Hung,
            4 => Self::Unavailable,
            _ => return None,
        })
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none yet",
            Self::Upheld => "upheld",
            Self::Rejected => "rejected",
            Self::Hung => "hung",
            Self::Unavailable => "unavailable",
        })
    }
}

/// What became of a challenger that was asked for its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It was not asked.
    None = 0,
    /// It is asked, and has not answered.
    Named = 1,
    /// It gave its seed.
    Given = 2,
    /// It gave none, and lost its bond.
    Forfeited = 3,
}

impl Answer {
    /// The answer with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Named,
            2 => Self::Given,
            3 => Self::Forfeited,
            _ => return None,
        })
    }
}

/// Who is seated by a draw that came upon `looks`, in order, as the contract writes them: account << 16 | tickets << 8 |
/// fate, of which 1 is seated.
#[must_use]
pub fn seated(looks: &[U256]) -> Vec<Address> {
    let seated = looks.iter().filter(|look| look.byte(0) == 1);
    seated
        .map(|look| Address::from_word((*look >> 16_usize).into()))
        .collect()
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
        for number in 0..=4 {
            assert_eq!(Verdict::from_u8(number).unwrap() as u8, number);
        }
        assert_eq!(Verdict::from_u8(5), None);
        for number in 0..=3 {
            assert_eq!(Stage::from_u8(number).unwrap() as u8, number);
        }
        for number in 0..=4 {
            assert_eq!(Ruling::from_u8(number).unwrap() as u8, number);
        }
        assert_eq!((Stage::from_u8(4), Ruling::from_u8(5)), (None, None));
        for number in 0..=3 {
            assert_eq!(Answer::from_u8(number).unwrap() as u8, number);
        }
        assert_eq!(Answer::from_u8(4), None);
    }
}
