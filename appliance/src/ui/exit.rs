//! How a command ended, as a number for scripts and words for people.

use std::fmt;
use std::process::ExitCode;

use crate::config::ConfigErrors;
use crate::keyfile::KeyFileError;

/// Exit codes. They are part of the contract with scripts and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done; for `measure`: measured, and the claim holds.
    Ok = 0,
    /// Measured, and the claim does not hold or could not be measured; for `verify`: a check failed, or what it is
    /// compared with says otherwise.
    Failed = 1,
    /// The command line, the configuration, a key file or this machine is not as it must be.
    Usage = 2,
    /// The contract or the coordinator refused.
    Refused = 3,
    /// Somebody did not answer.
    Unreachable = 4,
    /// The chain failed: its store, its engine, a sum that is not conserved, or it is not the pinned one.
    Chain = 5,
}

impl Exit {
    /// Every code, in order.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Refused,
        Self::Unreachable,
        Self::Chain,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// One line for the man page.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "Done; for measure: measured, and the claim holds.",
            Self::Failed => {
                "Measured, and the claim does not hold or could not be measured; for verify: a check failed, or what it is compared with says otherwise."
            }
            Self::Usage => {
                "The command line, the configuration, a key file or this machine is not as it must be."
            }
            Self::Refused => "The contract or the coordinator refused.",
            Self::Unreachable => "A coordinator or peer did not answer.",
            Self::Chain => {
                "The chain failed: its store, its engine, a sum that is not conserved, or it is not the pinned one."
            }
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not come to a result: what, where, and what to do, and the exit code of its kind.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    words: String,
}

impl Failure {
    /// The user or the machine has to change something ([`Exit::Usage`]).
    pub fn usage(why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Usage,
            words: why.to_string(),
        }
    }

    /// Refused by contract or coordinator ([`Exit::Refused`]).
    pub fn refused(why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Refused,
            words: why.to_string(),
        }
    }

    /// No answer ([`Exit::Unreachable`]).
    pub fn unreachable(why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Unreachable,
            words: why.to_string(),
        }
    }

    /// The chain failed ([`Exit::Chain`]).
    pub fn chain(why: impl fmt::Display) -> Self {
        Self {
            exit: Exit::Chain,
            words: why.to_string(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Failure {}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::usage(errors)
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::usage(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_position() {
        for (at, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(exit.code()), at);
            assert!(!exit.meaning().is_empty());
        }
    }
}
