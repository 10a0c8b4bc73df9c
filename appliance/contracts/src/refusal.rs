//! Reverts as words.
//!
//! Every custom error of every contract has its sentence here: the matches below are exhaustive, so an
//! error added in Solidity does not compile until somebody has said what it means.

use std::fmt;

use alloy::primitives::U256;
use alloy::sol_types::{ContractError, SolError, SolInterface};

use crate::abi::backhaul::Backhaul::BackhaulErrors as B;
use crate::abi::beacon::Beacon::BeaconErrors as H;
use crate::abi::bonds::Bonds::BondsErrors as N;
use crate::abi::disputes::Disputes::DisputesErrors as D;
use crate::abi::jury::Jury::JuryErrors as J;
use crate::abi::lab_token::LabToken::LabTokenErrors as T;
use crate::abi::parameters::Parameters::ParametersErrors as X;
use crate::abi::participants::Participants::ParticipantsErrors as P;
use crate::abi::registry::Registry::RegistryErrors as R;
use crate::abi::vault::Vault::VaultErrors as V;
use crate::status::State;

/// Why a contract refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Name of the Solidity error: stable, for programs.
    pub name: String,
    /// A sentence for people: what is wrong, with the values, and what is allowed.
    pub words: String,
    /// Seconds, by the chain's clock, after which it would not be refused for this; `None` if time changes
    /// nothing.
    pub wait_s: Option<u64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.words, self.name)
    }
}

/// Says what the revert data `data` means; `None` if it is no error of ours nor one of Solidity's own.
#[must_use]
pub fn explain(data: &[u8]) -> Option<Refusal> {
    let mut wait_s = None;
    let (name, words) = if let Ok(e) = B::abi_decode(data) {
        if let B::DisputeWindowOpen(open) = &e {
            wait_s = Some(open.until.saturating_sub(open.now_).saturating_to());
        }
        backhaul(&e)
    } else if let Ok(e) = V::abi_decode(data) {
        vault(&e)
    } else if let Ok(e) = P::abi_decode(data) {
        participants(&e)
    } else if let Ok(e) = H::abi_decode(data) {
        beacon(&e)
    } else if let Ok(e) = J::abi_decode(data) {
        jury(&e)
    } else if let Ok(e) = D::abi_decode(data) {
        disputes(&e)
    } else if let Ok(e) = N::abi_decode(data) {
        bonds(&e)
    } else if let Ok(e) = X::abi_decode(data) {
        parameters(&e)
    } else if let Ok(e) = R::abi_decode(data) {
        registry(&e)
    } else if let Ok(e) = T::abi_decode(data) {
        token(&e)
    } else {
        solidity(data)?
    };
    Some(Refusal {
        name: name.to_owned(),
        words,
        wait_s,
    })
}

/// `Name` of an error whose signature is `Name(…)`.
fn name_of<E: SolError>(_: &E) -> &'static str {
    E::SIGNATURE.split('(').next().unwrap_or(E::SIGNATURE)
}

type Told = (&'static str, String);

fn state(number: u8) -> String {
    State::from_u8(number).map_or_else(|| format!("state {number}"), |s| s.to_string())
}

fn backhaul(error: &B) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        B::AlreadyEnded(e) => say!(
            e,
            "measurement {} is {} and cannot time out",
            e.id,
            state(e.actual)
        ),
        B::AskedMeanwhile(e) => say!(
            e,
            "the last request of this payer is {}, not what it says: it asked meanwhile, or this very request is made",
            e.last
        ),
        B::BeaconNotReady(e) => say!(
            e,
            "the challengers of {} are drawn with beacon round {} or a later one, which is not closed yet (the \
             newest is {}): wait for heartbeats of other operators than the parties', two blocks later or more",
            e.id,
            e.round,
            e.currentRound
        ),
        B::ClaimAboveMaximum(e) => say!(
            e,
            "the claim of {} bit/s is above the prover's maximum of {} bit/s",
            e.claim,
            e.max
        ),
        B::ClaimZero(e) => say!(e, "the claim is 0 bit/s; it must be at least 1"),
        B::CommitSignatureInvalid(e) => say!(
            e,
            "the commitment is signed by {}, not by the prover {}",
            e.recovered,
            e.prover
        ),
        B::CountAboveCap(e) => say!(
            e,
            "{} packets are counted of challenger {}; at most {} count",
            e.count,
            e.index,
            e.cap
        ),
        B::CountsLength(e) => say!(
            e,
            "there are {} counts for {} challengers",
            e.length,
            e.needed
        ),
        B::CountsSum(e) => say!(
            e,
            "the counts add up to {}, but the prover committed to {} packets",
            e.sum,
            e.packets
        ),
        B::DeadlineTooFar(e) => say!(
            e,
            "the deadline {} is too far away: at most {}, or a stake could be gone before a dispute is over",
            e.deadline,
            e.latest
        ),
        B::NotDisputes(e) => say!(
            e,
            "{} cannot do that, only the contract for disputes {} can",
            e.sender,
            e.disputes
        ),
        B::DisputeWindowClosed(e) => say!(
            e,
            "the result could be disputed until {}, {} s ago",
            e.until,
            e.now_.saturating_sub(e.until)
        ),
        B::NotAParty(e) => say!(
            e,
            "{} has no part in measurement {}: prover, coordinator and selected challengers have",
            e.accused,
            e.id
        ),
        B::NoOffence(e) => say!(
            e,
            "the evidence shows no offence: it must be two different statements of one signer about one thing"
        ),
        B::DeadlineNotPassed(e) => say!(
            e,
            "the deadline {} is still {} s away",
            e.deadline,
            e.deadline.saturating_sub(e.now_)
        ),
        B::DeadlinePassed(e) => say!(
            e,
            "the deadline {} passed {} s ago",
            e.deadline,
            e.now_.saturating_sub(e.deadline)
        ),
        B::DirectionUnsupported(e) => say!(
            e,
            "direction {} is not measured; 0, towards the prover, and 1, away from it, are",
            e.direction
        ),
        B::DisputeWindowOpen(e) => say!(
            e,
            "the result can be disputed for {} s more; it is paid out after that",
            e.until.saturating_sub(e.now_)
        ),
        B::DurationOutOfRange(e) => say!(
            e,
            "a duration of {} ms is out of range: {} to {} ms are allowed",
            e.durationMs,
            e.min,
            e.max
        ),
        B::InputMalformed(e) => say!(
            e,
            "the estimator needs as many counts as windows, and no length or span of zero"
        ),
        B::InvalidShortString(e) => say!(e, "a string of the contract is malformed"),
        B::NotCoordinator(e) => say!(
            e,
            "{} is not the coordinator of this measurement, {} is",
            e.sender,
            e.coordinator
        ),
        B::NotPayer(e) => say!(
            e,
            "{} is not the payer of this request, {} is",
            e.sender,
            e.payer
        ),
        B::PacketBytesOutOfRange(e) => say!(
            e,
            "packets of {} bytes are out of range: {} to {} bytes at the IP layer are allowed",
            e.packetBytes,
            e.min,
            e.max
        ),
        B::PacketsAboveTarget(e) => say!(
            e,
            "{} packets are counted; the measurement ends at {}",
            e.packets,
            e.target
        ),
        B::ReentrancyGuardReentrantCall(e) => {
            say!(e, "the contract was called back while it was at work")
        }
        B::SpanTooShort(e) => say!(
            e,
            "the bound for {} corrupt challengers is taken over {} µs; at least {} µs are needed",
            e.index,
            e.spanUs,
            e.min
        ),
        B::SpansLength(e) => say!(e, "there are {} spans for {} bounds", e.length, e.needed),
        B::StringTooLong(e) => say!(e, "a string of the contract is too long: {}", e.str),
        B::TooFewChallengers(e) => say!(
            e,
            "{} challengers are too few: to stand f corrupt ones, 3f+1 = {} are needed",
            e.n,
            e.needed
        ),
        B::TooManyChallengers(e) => say!(
            e,
            "{} challengers are too many: at most {} are allowed",
            e.n,
            e.max
        ),
        B::UnknownCoordinator(e) => say!(e, "{} is not registered as a coordinator", e.account),
        B::UnknownProver(e) => say!(e, "{} is not registered as a prover", e.account),
        B::UnknownRequest(e) => say!(e, "there is no measurement {}", e.id),
        B::WrongState(e) => say!(
            e,
            "measurement {} is {}; it would have to be {}",
            e.id,
            state(e.actual),
            state(e.needed)
        ),
    }
}

fn vault(error: &V) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        V::EscrowExists(e) => say!(e, "something is already locked under {}", e.id),
        V::EscrowTooSmall(e) => say!(
            e,
            "the escrow of {} holds {}, not the {} asked for",
            e.id,
            e.available,
            e.asked
        ),
        V::NotAModule(e) => say!(
            e,
            "{} is no active module of the registry and cannot move money",
            e.caller
        ),
        V::NothingOwed(e) => say!(e, "nothing is owed to {}", e.account),
        V::ReentrancyGuardReentrantCall(e) => {
            say!(e, "the vault was called back while it was at work")
        }
        V::SafeERC20FailedOperation(e) => {
            say!(e, "the token {} did not do what it was asked to", e.token)
        }
        V::ShareTooLarge(e) => say!(
            e,
            "a share of {} of the {} taken is too large",
            e.share,
            e.amount
        ),
        V::StakeShort(e) => say!(
            e,
            "{} has {} at stake, not the {} asked for",
            e.account,
            e.available,
            e.asked
        ),
        V::TransferShort(e) => say!(
            e,
            "the token delivered {} instead of {}: tokens that keep a fee cannot be used",
            e.received,
            e.expected
        ),
    }
}

fn participants(error: &P) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        P::AlreadyRegistered(e) => say!(e, "{} is registered already", e.account),
        P::CheckpointUnorderedInsertion(e) => {
            say!(e, "a stake cannot be changed in the past")
        }
        P::CrossSignatureLength(e) => say!(
            e,
            "the cross signature has {} bytes, not {}",
            e.length,
            e.needed
        ),
        P::EndpointLength(e) => say!(
            e,
            "the endpoint has {} bytes; 1 to {} are allowed",
            e.length,
            e.max
        ),
        P::MaximumZero(e) => say!(
            e,
            "a prover must name the highest capacity it can be asked to prove"
        ),
        P::NetworkKeyZero(e) => say!(e, "the network key is zero"),
        P::NotLeaving(e) => say!(
            e,
            "{} has not left; leave first, reclaim after the delay",
            e.account
        ),
        P::NotRegistered(e) => say!(
            e,
            "{} is not registered, is leaving, or is suspended",
            e.account
        ),
        P::RolesZero(e) => say!(e, "the role bits are none; each role is a bit"),
        P::NotAModule(e) => say!(
            e,
            "{} is no module of the registry and cannot take stakes",
            e.caller
        ),
        P::PercentAbove100(e) => say!(e, "{} percent cannot be shared out", e.percent),
        P::StakeTooSmall(e) => say!(
            e,
            "a stake of {} is too small: at least {} is needed (a challenger's bond included)",
            e.stake,
            e.min
        ),
        P::StillBonded(e) => say!(
            e,
            "the stake is bound for {} s more",
            e.until.saturating_sub(e.now_)
        ),
    }
}

fn beacon(error: &H) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        H::CommitmentZero(e) => say!(e, "the commitment to the next seed is zero"),
        H::NotRegistered(e) => say!(
            e,
            "{} is not registered, is leaving, or is suspended: who lost stake or bond comes back with \
             `plumbline stake add`",
            e.account
        ),
        H::RevealWithoutCommitment(e) => say!(
            e,
            "this is the first heartbeat of {}: there is no seed to reveal yet",
            e.account
        ),
        H::SeedDoesNotOpen(e) => say!(
            e,
            "the seed revealed by {} hashes to {}, not to its commitment {}",
            e.account,
            e.seedHash,
            e.commitment
        ),
    }
}

fn bonds(error: &N) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        N::AlreadyNamed(e) => say!(e, "challenger {} of {} was named before", e.index, e.id),
        N::AnswerOpen(e) => say!(
            e,
            "the challenger can still answer: its bond is lost {} s from now",
            e.until.saturating_sub(e.now_) + U256::from(1)
        ),
        N::AnswerTooLate(e) => say!(
            e,
            "the time to give the seed is over since {} s: the bond is lost",
            e.now_.saturating_sub(e.until)
        ),
        N::BeginSignatureInvalid(e) => say!(
            e,
            "the word that it begins is signed by {}, not by the challenger {}",
            e.recovered,
            e.challenger
        ),
        N::IndexUnknown(e) => say!(
            e,
            "there is no challenger {}: {} were drawn",
            e.index,
            e.challengers
        ),
        N::NamedTooLate(e) => say!(
            e,
            "nobody is named any more since {} s: the chain variable seed_answer_s is also how long after its \
             end a measurement's challengers can be named",
            e.now_.saturating_sub(e.until)
        ),
        N::NotAsked(e) => say!(
            e,
            "challenger {} of {} is not asked for its seed, or not any more",
            e.index,
            e.id
        ),
        N::NotCoordinator(e) => say!(
            e,
            "{} is not the coordinator of this measurement; {} is",
            e.caller,
            e.coordinator
        ),
        N::NotOver(e) => say!(
            e,
            "measurement {} is not over, or never began: nobody withholds anything yet",
            e.id
        ),
        N::Reported(e) => say!(
            e,
            "the report of challenger {} of {} is on record: nothing is missing",
            e.index,
            e.id
        ),
        N::SeedDoesNotOpen(e) => say!(
            e,
            "this seed hashes to {}, and the challenger committed to {}",
            e.computed,
            e.seedHash
        ),
    }
}

fn jury(error: &J) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    let stage = |number: u8| match number {
        0 => "unknown",
        1 => "open",
        2 => "drawn",
        _ => "settled",
    };
    match error {
        J::AlreadyCommitted(e) => say!(e, "{} has committed to its vote in {}", e.juror, e.id),
        J::AlreadyRevealed(e) => say!(e, "{} has revealed its vote in {}", e.juror, e.id),
        J::BeaconNotReady(e) => say!(
            e,
            "the jury of {} is drawn with beacon round {} or a later one, which is not closed yet (the newest is \
             {}): wait for heartbeats of other operators than the parties', two blocks later or more",
            e.id,
            e.round,
            e.currentRound
        ),
        J::CaseExists(e) => say!(e, "there is a case {} already", e.id),
        J::CommitmentZero(e) => say!(e, "the commitment to a vote is zero"),
        J::NotAJuror(e) => say!(e, "{} does not sit in case {}", e.account, e.id),
        J::NotAModule(e) => say!(e, "{} is no active module and opens no case", e.caller),
        J::ReentrancyGuardReentrantCall(e) => {
            say!(e, "the jury was called back while it was at work")
        }
        J::TooEarly(e) => say!(
            e,
            "that is possible in case {} only in {} s",
            e.id,
            (e.until + U256::from(1)).saturating_sub(e.now_)
        ),
        J::TooLate(e) => say!(
            e,
            "that was possible in case {} until {}, {} s ago",
            e.id,
            e.until,
            e.now_.saturating_sub(e.until)
        ),
        J::TooManyExcluded(e) => say!(
            e,
            "{} accounts are too many to keep from a jury: at most {}",
            e.length,
            e.max
        ),
        J::UnknownCase(e) => say!(e, "there is no case {}", e.id),
        J::VoteDoesNotOpen(e) => say!(
            e,
            "the vote of {} hashes to {}, not to its commitment {}",
            e.juror,
            e.voteHash,
            e.commitment
        ),
        J::VoteUnknown(e) => say!(
            e,
            "a vote is 1 (upheld), 2 (rejected) or 4 (unavailable), not {}",
            e.vote
        ),
        J::WrongStage(e) => say!(
            e,
            "case {} is {}; it would have to be {}",
            e.id,
            stage(e.actual),
            stage(e.needed)
        ),
    }
}

fn disputes(error: &D) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        D::AlreadyConcluded(e) => say!(e, "dispute {} is over", e.id),
        D::AlreadyPunished(e) => say!(
            e,
            "the accused was punished in this matter before ({}); nobody is twice",
            e.charge
        ),
        D::DisputeExists(e) => say!(
            e,
            "dispute {} is about this evidence: only what was hung or unavailable, and is concluded, can be \
             brought again",
            e.id
        ),
        D::JuryOut(e) => say!(e, "the jury of {} has not ended case {}", e.id, e.caseId),
        D::NotAProof(e) => say!(e, "{} is no proof of this chain", e.proof),
        D::NotAnnounced(e) => say!(
            e,
            "{} has not announced {} in an earlier block: announce first, show in a later block",
            e.reporter,
            e.hash
        ),
        D::ReentrancyGuardReentrantCall(e) => {
            say!(e, "the contract was called back while it was at work")
        }
        D::SourceTooLong(e) => say!(
            e,
            "the URL of the evidence has {} bytes; at most {} are kept",
            e.length,
            e.max
        ),
        D::UnknownDispute(e) => say!(e, "there is no dispute {}", e.id),
    }
}

fn parameters(error: &X) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        X::CheckpointUnorderedInsertion(e) => {
            say!(e, "a chain variable cannot be changed in the past")
        }
        X::OutOfBounds(e) => say!(
            e,
            "{} cannot be {}: {} to {} are allowed",
            name_in(&e.name),
            e.value,
            e.min,
            e.max
        ),
        X::OwnableInvalidOwner(e) => say!(e, "{} cannot be governor", e.owner),
        X::OwnableUnauthorizedAccount(e) => say!(e, "{} is not the governor", e.account),
        X::UnknownVariable(e) => say!(e, "there is no chain variable {}", name_in(&e.name)),
    }
}

fn registry(error: &R) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        R::AlreadyAdmitted(e) => say!(e, "{} was admitted before; nobody comes back", e.module),
        R::NotAdmitted(e) => say!(e, "{} is not on the list, or retired", e.module),
        R::OwnableInvalidOwner(e) => say!(e, "{} cannot be governor", e.owner),
        R::OwnableUnauthorizedAccount(e) => say!(e, "{} is not the governor", e.account),
    }
}

/// A name as the contracts keep it.
fn name_in(word: &alloy::primitives::B256) -> String {
    let end = word.iter().position(|b| *b == 0).unwrap_or(word.len());
    String::from_utf8_lossy(&word[..end]).into_owned()
}

fn token(error: &T) -> Told {
    macro_rules! say {
        ($e:expr, $($words:tt)+) => { (name_of($e), format!($($words)+)) };
    }
    match error {
        T::ERC20InsufficientAllowance(e) => say!(
            e,
            "the allowance to {} is {}, but {} is needed: approve more",
            e.spender,
            e.allowance,
            e.needed
        ),
        T::ERC20InsufficientBalance(e) => say!(
            e,
            "{} has {}, but {} is needed",
            e.sender,
            e.balance,
            e.needed
        ),
        T::ERC20InvalidApprover(e) => say!(e, "{} cannot approve", e.approver),
        T::ERC20InvalidReceiver(e) => say!(e, "{} cannot receive tokens", e.receiver),
        T::ERC20InvalidSender(e) => say!(e, "{} cannot send tokens", e.sender),
        T::ERC20InvalidSpender(e) => say!(e, "{} cannot be approved", e.spender),
    }
}

/// `Error(string)` and `Panic(uint256)`.
fn solidity(data: &[u8]) -> Option<Told> {
    match ContractError::<std::convert::Infallible>::abi_decode(data).ok()? {
        ContractError::Revert(e) => Some(("Error", format!("the contract refused: {}", e.reason))),
        ContractError::Panic(e) => {
            let why = e
                .kind()
                .map_or_else(|| "unknown reason".to_owned(), |k| k.to_string());
            let code: U256 = e.code;
            Some((
                "Panic",
                format!("the contract failed, code {code:#x}: {why}"),
            ))
        }
        ContractError::CustomError(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::backhaul::Backhaul;
    use alloy::primitives::{Address, B256};
    use alloy::sol_types::{Panic, Revert};

    fn refusal<E: SolError>(error: &E) -> Refusal {
        explain(&error.abi_encode()).unwrap()
    }

    #[test]
    fn words_carry_the_values() {
        let told = refusal(&Backhaul::TooFewChallengers {
            n: U256::from(3),
            needed: U256::from(4),
        });
        assert_eq!(told.name, "TooFewChallengers");
        assert_eq!(
            told.words,
            "3 challengers are too few: to stand f corrupt ones, 3f+1 = 4 are needed"
        );
        let told = refusal(&Backhaul::WrongState {
            id: B256::ZERO,
            actual: 6,
            needed: 3,
        });
        assert!(
            told.words
                .ends_with("is final; it would have to be running"),
            "{told}"
        );
    }

    #[test]
    fn errors_of_each_contract_are_known() {
        let account = Address::repeat_byte(1);
        let named = [
            refusal(&crate::abi::vault::Vault::NothingOwed { account }),
            refusal(&crate::abi::participants::Participants::AlreadyRegistered { account }),
            refusal(&crate::abi::beacon::Beacon::RevealWithoutCommitment { account }),
            refusal(&crate::abi::lab_token::LabToken::ERC20InvalidReceiver { receiver: account }),
            refusal(&Revert::from("no")),
            refusal(&Panic::from(0x11)),
        ]
        .map(|r| r.name);
        let expected = [
            "NothingOwed",
            "AlreadyRegistered",
            "RevealWithoutCommitment",
            "ERC20InvalidReceiver",
            "Error",
            "Panic",
        ];
        assert_eq!(named, expected);
    }

    #[test]
    fn what_is_not_ours_is_not_explained() {
        assert_eq!(explain(&[]), None);
        assert_eq!(explain(&[1, 2, 3, 4, 5]), None);
    }
}
