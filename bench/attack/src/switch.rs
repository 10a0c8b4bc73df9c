//! Which attacks there are: a name for the command line and the tables, the party that commits it, and what it
//! must meet.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Whose misbehaviour it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Culprit {
    /// Some of the challengers, each for itself.
    Challengers,
    /// The prover alone.
    Prover,
    /// The prover, and challengers that work for it.
    Collusion,
    /// Whoever draws, judges and posts.
    Coordinator,
    /// Who pays.
    Payer,
    /// Somebody who takes no part.
    Outsider,
    /// Nobody: what a path does by itself.
    Path,
}

/// What an attack must end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Somebody's door refuses it: no figure contains it. Packets that are refused have used the link all the
    /// same, as cross traffic does.
    Refused,
    /// The measurement holds, and says what was tried.
    Flagged,
    /// The measurement holds, and who tried is not paid.
    Unpaid,
    /// The measured figure may be false; the guaranteed one is never too high.
    Bounded,
    /// Nothing is said of the claim; the payer has back what was not delivered.
    Refunded,
    /// What was posted is refused by the payer: the evidence gives another result, and convicts who posted it.
    Exposed,
}

/// One attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attack {
    /// Corrupt challengers send next to nothing.
    Withhold,
    /// Corrupt challengers hand their bytes to the prover by another way than the link.
    Rush,
    /// Corrupt challengers report a shorter time than they saw.
    LieFast,
    /// Corrupt challengers report a longer time than they saw.
    LieSlow,
    /// The prover commits to its target before the data is there, and invents what is missing.
    EarlyCommit,
    /// The prover claims packets that never came, beside those that did.
    ForgedBitmap,
    /// The prover answers probes late, so that more is subtracted.
    RttInflation,
    /// Corrupt challengers send each packet twice.
    Replay,
    /// Somebody off the path sends packets in a challenger's name.
    Injection,
    /// Somebody sends from an address that was not consented to.
    SpoofedSource,
    /// Corrupt challengers send zeros, which a tunnel can compress.
    ZeroPayload,
    /// The prover signs different commitments for different challengers.
    EquivocatingCommit,
    /// The coordinator names challengers that the beacon did not draw.
    SwappedChallengers,
    /// The coordinator changes a report.
    AlteredReport,
    /// The coordinator posts a result, and asks for its payment, twice.
    SecondPayout,
    /// The payer withdraws its request while packets flow.
    PayerWithdraws,
    /// Corrupt challengers say nothing after they committed to their seeds.
    SilentChallenger,
    /// The prover says nothing after its consent.
    SilentProver,
    /// The path has a token bucket: fast for a moment, then slow.
    TokenBucket,
    /// Other traffic shares the link.
    CrossTraffic,
    /// The prover commits long before the duration is over.
    EarlyEnd,
    /// The prover delays echoes and Starts, so that the honest begin at different times.
    SkewedStarts,
    /// The path has a token bucket, and the prover commits when it is empty.
    BurstAndStop,
    /// Honest challengers hear the Start after T0.
    LateHonest,
    /// Corrupt challengers' reports carry a settlement signature that is none.
    JunkSignature,
    /// Corrupt challengers say that they are ready and that they give up, back to back.
    ReadyThenAbort,
    /// Somebody off the path sends as many packets in a challenger's name as it has consent for.
    SpentConsent,
    /// The prover names a stranger's address as its own.
    StrangerAddress,
    /// The coordinator lists one challenge twice.
    SecondRun,
}

impl Attack {
    /// All of them, in the order in which tables show them.
    pub const ALL: [Self; 29] = [
        Self::Withhold,
        Self::Rush,
        Self::LieFast,
        Self::LieSlow,
        Self::EarlyCommit,
        Self::ForgedBitmap,
        Self::RttInflation,
        Self::Replay,
        Self::Injection,
        Self::SpoofedSource,
        Self::ZeroPayload,
        Self::EquivocatingCommit,
        Self::SwappedChallengers,
        Self::AlteredReport,
        Self::SecondPayout,
        Self::PayerWithdraws,
        Self::SilentChallenger,
        Self::SilentProver,
        Self::TokenBucket,
        Self::CrossTraffic,
        Self::EarlyEnd,
        Self::SkewedStarts,
        Self::BurstAndStop,
        Self::LateHonest,
        Self::JunkSignature,
        Self::ReadyThenAbort,
        Self::SpentConsent,
        Self::StrangerAddress,
        Self::SecondRun,
    ];

    /// Its name, on the command line and in every table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Withhold => "withhold",
            Self::Rush => "rush",
            Self::LieFast => "lie-fast",
            Self::LieSlow => "lie-slow",
            Self::EarlyCommit => "early-commit",
            Self::ForgedBitmap => "forged-bitmap",
            Self::RttInflation => "rtt-inflation",
            Self::Replay => "replay",
            Self::Injection => "injection",
            Self::SpoofedSource => "spoofed-source",
            Self::ZeroPayload => "zero-payload",
            Self::EquivocatingCommit => "equivocating-commit",
            Self::SwappedChallengers => "swapped-challengers",
            Self::AlteredReport => "altered-report",
            Self::SecondPayout => "second-payout",
            Self::PayerWithdraws => "payer-withdraws",
            Self::SilentChallenger => "silent-challenger",
            Self::SilentProver => "silent-prover",
            Self::TokenBucket => "token-bucket",
            Self::CrossTraffic => "cross-traffic",
            Self::EarlyEnd => "early-end",
            Self::SkewedStarts => "skewed-starts",
            Self::BurstAndStop => "burst-and-stop",
            Self::LateHonest => "late-honest",
            Self::JunkSignature => "junk-signature",
            Self::ReadyThenAbort => "ready-then-abort",
            Self::SpentConsent => "spent-consent",
            Self::StrangerAddress => "stranger-address",
            Self::SecondRun => "second-run",
        }
    }

    /// Whose misbehaviour it is.
    #[must_use]
    pub fn culprit(self) -> Culprit {
        match self {
            Self::Withhold
            | Self::LieFast
            | Self::LieSlow
            | Self::Replay
            | Self::ZeroPayload
            | Self::SilentChallenger
            | Self::JunkSignature
            | Self::ReadyThenAbort => Culprit::Challengers,
            Self::Rush => Culprit::Collusion,
            Self::EarlyCommit
            | Self::ForgedBitmap
            | Self::RttInflation
            | Self::EquivocatingCommit
            | Self::SilentProver
            | Self::EarlyEnd
            | Self::SkewedStarts
            | Self::BurstAndStop
            | Self::StrangerAddress => Culprit::Prover,
            Self::Injection | Self::SpoofedSource | Self::SpentConsent => Culprit::Outsider,
            Self::SwappedChallengers
            | Self::AlteredReport
            | Self::SecondPayout
            | Self::SecondRun => Culprit::Coordinator,
            Self::PayerWithdraws => Culprit::Payer,
            Self::TokenBucket | Self::CrossTraffic | Self::LateHonest => Culprit::Path,
        }
    }

    /// What it must end in.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Rush
            | Self::LieFast
            | Self::LieSlow
            | Self::Withhold
            | Self::RttInflation
            | Self::EarlyEnd
            | Self::SkewedStarts
            | Self::BurstAndStop => Outcome::Bounded,
            Self::TokenBucket | Self::CrossTraffic | Self::LateHonest => Outcome::Flagged,
            Self::ZeroPayload
            | Self::SilentChallenger
            | Self::JunkSignature
            | Self::ReadyThenAbort => Outcome::Unpaid,
            Self::Replay
            | Self::Injection
            | Self::SpoofedSource
            | Self::SpentConsent
            | Self::SecondPayout
            | Self::SecondRun
            | Self::PayerWithdraws => Outcome::Refused,
            Self::EarlyCommit
            | Self::ForgedBitmap
            | Self::EquivocatingCommit
            | Self::SwappedChallengers
            | Self::SilentProver
            | Self::StrangerAddress => Outcome::Refunded,
            Self::AlteredReport => Outcome::Exposed,
        }
    }

    /// What it meets, by the names of the checks, fates and refusals that documents and results use.
    #[must_use]
    pub fn defence(self) -> &'static str {
        match self {
            Self::Withhold => "the others fill the link; B_g subtracts the largest counts",
            Self::Rush => "B_g subtracts the f largest counts: what f can have handed over",
            Self::LieFast => "B_g: a window below T_min only adds what is subtracted again",
            Self::LieSlow => "B_g: of a longer window c' keeps less, its own packets only",
            Self::EarlyCommit | Self::ForgedBitmap => {
                "V3: a root that is not its seed's does not count; V9: inconclusive"
            }
            Self::RttInflation => "no bound credits a round trip; T0 is everybody's own clock",
            Self::Replay => {
                "a sequence number counts once: duplicate; what came is not called false for it"
            }
            Self::Injection => "the session's cookie in XDP: dropped_cookie",
            Self::SpoofedSource => "consent in XDP: dropped_not_consented",
            Self::ZeroPayload => {
                "V3: not the seed's bytes: not paid; what came is not called false for it"
            }
            Self::EquivocatingCommit => {
                "V13: the prover signed both: inconclusive, and evidence for a jury"
            }
            Self::SwappedChallengers => "V1: everybody repeats the draw; nobody takes part",
            Self::AlteredReport => {
                "the report's signature: the contract skips it; the payer refuses a bundle that gives another result"
            }
            Self::SecondPayout => "the contract: WrongState",
            Self::PayerWithdraws => "the contract: nothing comes back before the deadline",
            Self::SilentChallenger => "Withheld: named, loses its bond; V9 needs n−f of the others",
            Self::SilentProver => "the deadline: TimedOut, refunded",
            Self::TokenBucket => {
                "a row for each size of bucket says what is sustained at least: B_g − 8·σ/T"
            }
            Self::CrossTraffic => "the figure is what was left; never above the link",
            Self::EarlyEnd => "B_g divides by T_min, 0.85·D, at least",
            Self::SkewedStarts => {
                "T0 by everybody's own clock; c' keeps of each window only what left within T"
            }
            Self::BurstAndStop => "B_g divides by T_min: a bucket of σ adds 8·σ/T_min at most",
            Self::LateHonest => "Abort, GaveUp: late, does not send, is named and accuses nobody",
            Self::JunkSignature => {
                "the log's door recovers both signatures: bad-signature; the contract skips it"
            }
            Self::ReadyThenAbort => "the log is the only order: GaveUp; the others go on",
            Self::SpentConsent => "the session's cookie in XDP: caps count what carries it",
            Self::StrangerAddress => {
                "the record: one address for data and echoes; no echo, no flood: Abort"
            }
            Self::SecondRun => "the signing journal: a challenge is served once",
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Attack {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// An attack as asked for: which, and how many commit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Which.
    pub attack: Attack,
    /// How many challengers commit it, where challengers do; otherwise 1.
    pub corrupt: u16,
}

/// A switch that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SwitchError {
    /// No attack has that name.
    #[error("there is no attack called {0:?}; there are {list}", list = names())]
    Unknown(String),
    /// The number after `=` is none.
    #[error("{0:?} is not how many commit the attack: a number from 1 to 64 is")]
    Count(String),
}

fn names() -> String {
    Attack::ALL.map(Attack::name).join(", ")
}

impl FromStr for Attack {
    type Err = SwitchError;

    fn from_str(text: &str) -> Result<Self, SwitchError> {
        let found = Self::ALL.into_iter().find(|attack| attack.name() == text);
        found.ok_or_else(|| SwitchError::Unknown(text.to_owned()))
    }
}

impl FromStr for Switch {
    type Err = SwitchError;

    /// `rush` or `rush=2`.
    fn from_str(text: &str) -> Result<Self, SwitchError> {
        let (name, count) = text.split_once('=').unwrap_or((text, "1"));
        let attack = name.parse()?;
        let corrupt = count
            .parse()
            .ok()
            .filter(|n| (1..=64).contains(n))
            .ok_or_else(|| SwitchError::Count(count.to_owned()))?;
        Ok(Self { attack, corrupt })
    }
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.attack, self.corrupt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_is_named_once_and_found_by_its_name() {
        for attack in Attack::ALL {
            assert_eq!(attack.name().parse(), Ok(attack));
            assert!(!attack.defence().is_empty());
        }
    }

    #[test]
    fn a_switch_says_who_and_how_many() {
        let rush = |corrupt| Switch {
            attack: Attack::Rush,
            corrupt,
        };
        assert_eq!("rush".parse(), Ok(rush(1)));
        assert_eq!("rush=64".parse(), Ok(rush(64)));
        assert_eq!(rush(2).to_string(), "rush=2");
        for wrong in ["rush=0", "rush=65", "rush=", "rush=x"] {
            assert!(matches!(
                wrong.parse::<Switch>(),
                Err(SwitchError::Count(_))
            ));
        }
        let unknown = "ruse=1".parse::<Switch>().unwrap_err().to_string();
        assert!(unknown.contains("ruse") && unknown.contains("rush, lie-fast"));
    }
}
