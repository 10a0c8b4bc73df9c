//! Who misbehaves in a proof, and whether what it met is what it must meet.
//!
//! ```text
//!  plumbline-attack list --json ─► Attack ─┬─ replaces: prover, challengers, coordinator ─┐
//!  `rush=2` ─► Switch ───────────────────────┼─ beside: payer, outsider (own process) ──────┼─► Proof ─► Met
//!                                            └─ path: bucket, cross traffic (the lab's own) ┘
//! ```
//!
//! The attacks are a program at a path, as the product is: nothing of it is linked here. Where it is absent, the
//! attacks of the path can still be played, and no other.

mod met;
mod play;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cast::{Cast, CastError};
use crate::cross::CrossTraffic;
use crate::error::LabError;
use crate::lab::Lab;
use crate::plan::{Host, Shape};
use crate::process::ProcessError;
use crate::proof::ProofError;

pub use met::Met;
pub use play::{Deed, Played, Scene};

/// Part of the rate that [`Switch::shape`]'s bucket leaves when it is empty.
const SUSTAINED_PART: u64 = 5;

/// What the bucket holds: so many milliseconds of the rate that it hides, at that rate.
const BUCKET_MS: u64 = 100;

/// Least phase under a token bucket: the bucket is then a tenth of what is claimed.
const BUCKET_PHASE: Duration = Duration::from_secs(1);

/// Part of the link, percent, that cross traffic takes.
const CROSS_PERCENT: u64 = 30;

/// Packets that an outsider sends, as a percentage of what is claimed: enough to be seen among the counters, too
/// few to be more than cross traffic.
const OUTSIDER_PERCENT: u64 = 5;

/// Whose misbehaviour it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Refused at a door; the measurement is as if it had not been tried.
    Refused,
    /// The measurement holds, and says what was tried.
    Flagged,
    /// The measurement holds, and who tried is not paid.
    Unpaid,
    /// The measured figure may be false; the guaranteed one is not.
    Bounded,
    /// No figure, or none that says anything; the payer has its money back.
    Refunded,
    /// The payer refuses what was posted: the evidence gives another result, and convicts who posted it.
    Exposed,
}

/// One attack, as the program that commits it describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attack {
    /// Its name on the command line and in tables.
    pub name: String,
    /// Whose misbehaviour it is.
    pub culprit: Culprit,
    /// What it must end in.
    pub outcome: Outcome,
    /// What it meets.
    pub defence: String,
}

impl Attack {
    /// The attacks that need no program: what a path does by itself.
    fn of_the_path() -> [Self; 2] {
        let path = |name: &str, defence: &str| Self {
            name: name.to_owned(),
            culprit: Culprit::Path,
            outcome: Outcome::Flagged,
            defence: defence.to_owned(),
        };
        [
            path(
                TOKEN_BUCKET,
                "a row for each size of bucket says what is sustained at least: B_g − 8·σ/T",
            ),
            path(
                CROSS_TRAFFIC,
                "the figure is what was left; never above the link",
            ),
        ]
    }
}

const TOKEN_BUCKET: &str = "token-bucket";
const CROSS_TRAFFIC: &str = "cross-traffic";
/// The path's fault too, and shown by challengers that are honest and late.
const LATE_HONEST: &str = "late-honest";
const BURST_AND_STOP: &str = "burst-and-stop";

/// What the bucket of a claim holds.
fn bucket_bytes(claim_bps: u64) -> u64 {
    claim_bps * BUCKET_MS / 8_000
}

/// An attack as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Switch {
    /// Which.
    pub attack: Attack,
    /// How many challengers commit it, where challengers do.
    pub corrupt: u8,
}

/// Why an attack cannot be played.
#[derive(Debug, thiserror::Error)]
pub enum VillainError {
    /// The program does not answer, or not as documented.
    #[error(
        "{program} list --json: {why} (build it: cargo build --release -p plumbline-attack --features daemon)",
        program = program.display()
    )]
    List {
        /// The program.
        program: PathBuf,
        /// What happened.
        why: String,
    },
    /// No attack has that name.
    #[error("there is no attack called {name:?}; there are {all}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// All names.
        all: String,
    },
    /// The number after `=` is none.
    #[error("{0:?} is not how many commit the attack: a number from 1 to 64 is")]
    Count(String),
    /// Nobody but the path can be played without the program.
    #[error("{0} is committed by the program plumbline-attack, and none was given")]
    Program(String),
    /// More are to be corrupt than there are.
    #[error("{corrupt} challengers are to commit {name}, and the lab has {challengers}")]
    TooMany {
        /// The attack.
        name: String,
        /// How many.
        corrupt: u8,
        /// How many there are.
        challengers: u8,
    },
    /// It failed to attack.
    #[error("who attacks ended with {status}\n{words}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// What it did is not as documented.
    #[error("what the attack says it did is no such document: {source}: {text:?}")]
    Deed {
        /// What is missing.
        source: serde_json::Error,
        /// What it said.
        text: String,
    },
    /// It could not be started.
    #[error(transparent)]
    Cast(Box<CastError>),
    /// The proof beside it could not be had.
    #[error(transparent)]
    Proof(Box<ProofError>),
}

impl From<CastError> for VillainError {
    fn from(error: CastError) -> Self {
        Self::Cast(Box::new(error))
    }
}

impl From<ProcessError> for VillainError {
    fn from(error: ProcessError) -> Self {
        CastError::from(error).into()
    }
}

impl From<LabError> for VillainError {
    fn from(error: LabError) -> Self {
        CastError::from(error).into()
    }
}

impl From<ProofError> for VillainError {
    fn from(error: ProofError) -> Self {
        Self::Proof(Box::new(error))
    }
}

/// The program that commits attacks, and which there are.
#[derive(Clone, Debug)]
pub struct Villain {
    program: Option<PathBuf>,
    attacks: Vec<Attack>,
}

impl Villain {
    /// Asks the program which attacks there are.
    ///
    /// # Errors
    /// [`VillainError::List`].
    pub fn ask(program: &Path) -> Result<Self, VillainError> {
        let fail = |why: String| VillainError::List {
            program: program.to_owned(),
            why,
        };
        let output = Command::new(program).args(["list", "--json"]).output();
        let output = output.map_err(|error| fail(error.to_string()))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(fail(format!("{}: {}", output.status, words.trim())));
        }
        let attacks = serde_json::from_slice(&output.stdout).map_err(|e| fail(e.to_string()))?;
        Ok(Self {
            program: Some(program.to_owned()),
            attacks,
        })
    }

    /// Only what a path does by itself.
    #[must_use]
    pub fn path_alone() -> Self {
        Self {
            program: None,
            attacks: Attack::of_the_path().to_vec(),
        }
    }

    /// All attacks, in the program's order.
    #[must_use]
    pub fn attacks(&self) -> &[Attack] {
        &self.attacks
    }

    /// Reads `rush` or `rush=2`.
    ///
    /// # Errors
    /// No such attack, or no such number.
    pub fn switch(&self, words: &str) -> Result<Switch, VillainError> {
        let (name, count) = words.split_once('=').unwrap_or((words, "1"));
        let found = self.attacks.iter().find(|attack| attack.name == name);
        let attack = found.ok_or_else(|| {
            let all: Vec<&str> = self.attacks.iter().map(|a| a.name.as_str()).collect();
            VillainError::Unknown {
                name: name.to_owned(),
                all: all.join(", "),
            }
        })?;
        let corrupt = count.parse().ok().filter(|n| (1..=64).contains(n));
        Ok(Switch {
            attack: attack.clone(),
            corrupt: corrupt.ok_or_else(|| VillainError::Count(count.to_owned()))?,
        })
    }

    /// Gives the culprits' hosts the other program, before they are started: who they are. Challengers are the
    /// first ones; one host may commit several attacks.
    ///
    /// # Errors
    /// [`VillainError::Program`], [`VillainError::TooMany`].
    pub fn take_over(
        &self,
        lab: &Lab,
        cast: &mut Cast,
        switches: &[Switch],
    ) -> Result<Vec<Host>, VillainError> {
        let challengers = lab.plan().challengers;
        let mut taken: Vec<(Host, Vec<String>)> = Vec::new();
        for switch in switches {
            if switch.counts_challengers() && switch.corrupt > challengers {
                return Err(VillainError::TooMany {
                    name: switch.attack.name.clone(),
                    corrupt: switch.corrupt,
                    challengers,
                });
            }
            let hosts = switch.hosts();
            let friends = hosts.iter().filter(|h| matches!(h, Host::Challenger(_)));
            let keys = friends.map(|friend| cast.key(*friend).display().to_string());
            let friends: Vec<String> = keys
                .flat_map(|key| ["--accomplice".to_owned(), key])
                .collect();
            for host in hosts {
                let mut words = switch.words();
                if host == Host::Prover {
                    words.extend(friends.iter().cloned());
                }
                match taken.iter_mut().find(|(other, _)| *other == host) {
                    Some((_, before)) => before.extend(words),
                    None => taken.push((host, words)),
                }
            }
        }
        for (host, words) in &taken {
            cast.replace(*host, self.program(&words[1])?, words);
        }
        Ok(taken.into_iter().map(|(host, _)| host).collect())
    }

    fn program(&self, attack: &str) -> Result<&Path, VillainError> {
        let program = self.program.as_deref();
        program.ok_or_else(|| VillainError::Program(attack.to_owned()))
    }
}

impl Switch {
    fn words(&self) -> Vec<String> {
        let switch = format!("{}={}", self.attack.name, self.corrupt);
        vec!["--attack".to_owned(), switch]
    }

    fn counts_challengers(&self) -> bool {
        self.hosts()
            .iter()
            .any(|host| matches!(host, Host::Challenger(_)))
    }

    /// The hosts that run another program.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let challengers = (0..self.corrupt).map(Host::Challenger);
        match self.attack.culprit {
            Culprit::Challengers => challengers.collect(),
            Culprit::Path if self.attack.name == LATE_HONEST => challengers.collect(),
            Culprit::Prover => vec![Host::Prover],
            Culprit::Collusion => [Host::Prover].into_iter().chain(challengers).collect(),
            // Posting twice is done beside an honest coordinator, with its key.
            Culprit::Coordinator if self.attack.name == play::SECOND_PAYOUT => Vec::new(),
            Culprit::Coordinator => vec![Host::Coordinator],
            Culprit::Payer | Culprit::Outsider | Culprit::Path => Vec::new(),
        }
    }

    /// Whether the lab must have a host that takes no part.
    #[must_use]
    pub fn needs_bystander(&self) -> bool {
        self.attack.culprit == Culprit::Outsider || self.attack.name == CROSS_TRAFFIC
    }

    /// The link that is claimed to carry `claim_bps` of IP layer: for a token bucket one that does so for 100 ms
    /// and carries a fifth of it afterwards.
    #[must_use]
    pub fn shape(&self, claim_bps: u64, packet_bytes: u16) -> Shape {
        if !self.has_bucket() {
            return Shape::ip_layer(claim_bps, packet_bytes);
        }
        let bytes = u32::try_from(bucket_bytes(claim_bps)).unwrap_or(u32::MAX);
        Shape::bucket(claim_bps / SUSTAINED_PART, bytes, claim_bps, packet_bytes)
    }

    fn has_bucket(&self) -> bool {
        matches!(self.attack.name.as_str(), TOKEN_BUCKET | BURST_AND_STOP)
    }

    /// How long a phase must be at least for the attack to be seen.
    #[must_use]
    pub fn least_duration(&self) -> Duration {
        if self.has_bucket() {
            BUCKET_PHASE
        } else {
            Duration::ZERO
        }
    }

    /// Starts other people's traffic where that is the attack.
    ///
    /// # Errors
    /// As [`CrossTraffic::start`].
    pub fn cross(&self, lab: &Lab) -> Result<Option<CrossTraffic>, LabError> {
        if self.attack.name != CROSS_TRAFFIC {
            return Ok(None);
        }
        let bps = lab.plan().true_ip_bps() * CROSS_PERCENT / 100;
        CrossTraffic::start(lab, bps).map(Some)
    }

    /// Whether packets must add up by what the parties say: not if one that counts them lies, or is late and then says
    /// nothing of its probes. Who collude say that they sent what they handed over: it stands on both sides.
    #[must_use]
    pub fn counts_honestly(&self) -> bool {
        self.attack.name != LATE_HONEST
            && matches!(
                self.attack.culprit,
                Culprit::Collusion
                    | Culprit::Coordinator
                    | Culprit::Payer
                    | Culprit::Outsider
                    | Culprit::Path
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn switch(name: &str, culprit: Culprit, outcome: Outcome) -> Switch {
        Switch {
            attack: Attack {
                name: name.into(),
                culprit,
                outcome,
                defence: "d".into(),
            },
            corrupt: 1,
        }
    }

    pub(super) const TRUE: u64 = 1_000_000_000;

    #[test]
    fn a_switch_is_read_and_refused_with_words() {
        let villain = Villain::path_alone();
        let cross = villain.switch("cross-traffic").unwrap();
        assert_eq!((cross.corrupt, cross.needs_bystander()), (1, true));
        assert_eq!(villain.switch("token-bucket=64").unwrap().corrupt, 64);
        for wrong in ["token-bucket=0", "token-bucket=65", "token-bucket=x"] {
            assert!(matches!(villain.switch(wrong), Err(VillainError::Count(_))));
        }
        let words = villain.switch("rush=1").unwrap_err().to_string();
        assert!(
            words.contains("rush") && words.contains("cross-traffic"),
            "{words}"
        );
    }

    #[test]
    fn the_culprits_hosts() {
        let hosts = |culprit, corrupt| {
            let one = switch("x", culprit, Outcome::Bounded);
            Switch { corrupt, ..one }.hosts()
        };
        let two = [Host::Challenger(0), Host::Challenger(1)];
        assert_eq!(hosts(Culprit::Challengers, 2), two);
        assert_eq!(hosts(Culprit::Collusion, 2)[1..], two);
        assert_eq!(hosts(Culprit::Collusion, 2)[0], Host::Prover);
        assert_eq!(hosts(Culprit::Coordinator, 2), [Host::Coordinator]);
        assert!(hosts(Culprit::Outsider, 2).is_empty());
        assert!(hosts(Culprit::Path, 2).is_empty());
        let late = switch(LATE_HONEST, Culprit::Path, Outcome::Flagged);
        assert_eq!(Switch { corrupt: 2, ..late }.hosts(), two);
    }

    #[test]
    fn a_bucket_hides_a_fifth_for_100_ms() {
        let bucket = Villain::path_alone().switch("token-bucket").unwrap();
        let shape = bucket.shape(TRUE, 1500);
        assert_eq!(shape.ip_layer_bps(1500), TRUE / 5);
        assert_eq!(bucket.least_duration(), Duration::from_secs(1));
        assert_eq!(shape.burst_bytes, 12_500_000);
        let plain = switch("rush", Culprit::Collusion, Outcome::Bounded).shape(TRUE, 1500);
        assert_eq!((plain.peak, plain.ip_layer_bps(1500)), (None, TRUE));
    }
}
