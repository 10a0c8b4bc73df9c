//! One proof of backhaul in a lab: asked for by the payer, judged again offline, every packet accounted for.
//!
//! ```text
//!  Terms ─► plumbline measure ─► Answer ──┐
//!           plumbline verify BUNDLE ──────┼─► Proof ─► complaints(): what does not hold
//!           the lab's counters, cross ────┘
//! ```

mod document;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::account::Account;
use crate::cast::{Cast, CastError};
use crate::counters::{Counters, Drops};
use crate::cross::CrossCount;
use crate::error::LabError;
use crate::lab::Lab;
use crate::plan::Host;
use crate::process::{Process, ProcessError};

pub use document::{Challenger, Measured, Paid, Rtt, Sustained, Verified};

/// Longest that one proof may take beyond its deadline, all waits included: what the payer's program adds.
const GRACE: Duration = Duration::from_secs(30);

/// When a request ends, finished or not, unless the terms say so: the product's own default.
const DEADLINE: Duration = Duration::from_secs(60);

/// Blocks of a slow chain beside the deadline, at most, and the blocks that settle the last: tokens and allowance
/// before it, the payout after it, and what settles the request.
const BLOCKS: u32 = 24;

/// Longest that packets may stand in the lab's queues after the proof.
const SETTLE: Duration = Duration::from_secs(5);

/// Longest that `plumbline verify` may take.
const VERIFY: Duration = Duration::from_secs(60);

/// What is asked of the product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The claim, bit/s of IP layer.
    pub claim_bps: u64,
    /// Challengers to draw.
    pub challengers: u8,
    /// Of which so many may be corrupt.
    pub f: u8,
    /// Nominal duration of the measurement.
    pub duration: Duration,
    /// When the request ends, finished or not; the product's default if absent.
    pub deadline: Option<Duration>,
    /// Further arguments of `plumbline measure`.
    pub more: Vec<String>,
}

impl Terms {
    fn words(&self) -> Vec<String> {
        let mut words = vec!["--faucet".to_owned()];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("--claim", self.claim_bps.to_string());
        add("--f", self.f.to_string());
        add("--challengers", self.challengers.to_string());
        add("--duration", format!("{}ms", self.duration.as_millis()));
        if let Some(deadline) = self.deadline {
            add("--deadline", format!("{}s", deadline.as_secs()));
        }
        words.extend(self.more.iter().cloned());
        words
    }
}

/// What went wrong with a proof, other than its result.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Nobody to ask about, or nowhere to ask.
    #[error(transparent)]
    Cast(Box<CastError>),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A program did not end in time.
    #[error("{error}\n{tails}")]
    Late {
        /// Which, and the end of its log.
        error: Box<ProcessError>,
        /// The end of everybody's log.
        tails: String,
    },
    /// A program ended as if it had not been asked to measure or verify at all.
    #[error("plumbline {what} ended with {status}\n{words}\n{tails}")]
    Ended {
        /// `measure` or `verify`.
        what: &'static str,
        /// How.
        status: ExitStatus,
        /// What it said.
        words: String,
        /// The end of everybody's log.
        tails: String,
    },
    /// A document is not as documented.
    #[error("plumbline {what} --json: {source}: {text:?}")]
    Document {
        /// `measure` or `verify`.
        what: &'static str,
        /// What is missing.
        source: serde_json::Error,
        /// The document.
        text: String,
    },
}

impl From<CastError> for ProofError {
    fn from(error: CastError) -> Self {
        Self::Cast(Box::new(error))
    }
}

/// How a request ended for the payer.
#[derive(Debug, Clone)]
pub enum Answer {
    /// With a result, and the evidence judged again.
    Result(Box<Measured>, Verified),
    /// Without: refunded, in the payer's words.
    Refunded(String),
    /// There is one on the chain, and the payer refuses the evidence for it, in its words.
    Refused(String),
}

/// One proof that came to an end.
#[derive(Debug, Clone)]
pub struct Proof {
    /// How.
    pub answer: Answer,
    /// What the lab lost meanwhile.
    pub drops: Drops,
    /// Other people's traffic meanwhile.
    pub cross: CrossCount,
}

impl Proof {
    /// The result, if there is one.
    #[must_use]
    pub fn measured(&self) -> Option<&Measured> {
        match &self.answer {
            Answer::Result(measured, _) => Some(measured),
            Answer::Refunded(_) | Answer::Refused(_) => None,
        }
    }

    /// How it ended, in a word, if there is no result.
    #[must_use]
    pub fn ended_without(&self) -> &'static str {
        match &self.answer {
            Answer::Refused(_) => "Refused",
            Answer::Refunded(_) | Answer::Result(..) => "Refunded",
        }
    }

    /// What the evidence says offline, if there is any.
    #[must_use]
    pub fn verified(&self) -> Option<&Verified> {
        match &self.answer {
            Answer::Result(_, verified) => Some(verified),
            Answer::Refunded(_) | Answer::Refused(_) => None,
        }
    }

    /// Every packet's fate, if the parties said.
    #[must_use]
    pub fn account(&self) -> Option<Account> {
        let account = Account::new(&self.measured()?.packets, self.drops.down.total);
        Some(account.beside(&self.cross))
    }

    /// What does not hold whatever the verdict: packets without a fate, money, evidence that is judged otherwise.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut wrong = self.complaints_but_packets();
        let unaccounted = self.account().map_or(0, |account| account.unaccounted());
        if unaccounted != 0 {
            wrong.push(format!("{unaccounted} packets are unaccounted for"));
        }
        wrong
    }

    /// The same where somebody who counts packets lies: what it says it sent proves nothing.
    #[must_use]
    pub fn complaints_but_packets(&self) -> Vec<String> {
        let Answer::Result(measured, verified) = &self.answer else {
            return Vec::new();
        };
        let mut wrong = Vec::new();
        if !measured.is_conserved() {
            wrong.push("the chain does not conserve its money".to_owned());
        }
        if verified.verify != "ok" {
            let failed = verified.failed().join(", ");
            wrong.push(format!("plumbline verify: {} {failed}", verified.verify));
        }
        if !verified.agrees(measured) {
            wrong.push("plumbline verify judges the same evidence otherwise".to_owned());
        }
        wrong
    }
}

/// A proof that is under way.
#[derive(Debug)]
pub struct Asked {
    payer: Process,
    patience: Duration,
    before: Counters,
    bundle: PathBuf,
    run: PathBuf,
}

impl Asked {
    /// Has the payer ask; logs go to the directory `run`, the evidence to `bundle`. `shown`: its progress goes
    /// to standard error instead.
    ///
    /// # Errors
    /// No prover runs, or the program cannot be started.
    pub fn start(
        lab: &Lab,
        cast: &mut Cast,
        terms: &Terms,
        (bundle, run): (&Path, &Path),
        shown: bool,
    ) -> Result<Self, ProofError> {
        let before = lab.counters()?;
        let mut command = cast.payer(lab)?;
        command.args(terms.words()).arg("--bundle").arg(bundle);
        let start = if shown {
            Process::start_shown
        } else {
            Process::start
        };
        let payer = start("measure", command, run).map_err(CastError::from)?;
        Ok(Self {
            payer,
            patience: terms.deadline.unwrap_or(DEADLINE) + GRACE + cast.chain_time(BLOCKS),
            before,
            bundle: bundle.to_owned(),
            run: run.to_owned(),
        })
    }

    /// Waits for the end; judges the evidence again. `others` ends what shared the link, and says what became
    /// of it, before the lab's losses are read.
    ///
    /// # Errors
    /// A program did not end, or ended as if it had not been asked; a document is not as documented.
    pub fn finish(
        mut self,
        lab: &Lab,
        cast: &Cast,
        others: impl FnOnce() -> Result<CrossCount, LabError>,
    ) -> Result<Proof, ProofError> {
        let output = self.payer.output(self.patience);
        let cross = others()?;
        let (status, text) = output.map_err(|error| ProofError::Late {
            error: Box::new(error),
            tails: cast.tails(),
        })?;
        let drops = lab.settle(SETTLE)?.since(&self.before);
        // 0: passed; 1: measured, and failed or inconclusive. Else no result: refunded, or evidence that the payer
        // refuses, if it says so.
        let answer = if matches!(status.code(), Some(0 | 1)) {
            let measured = Measured::read(&text).map_err(|source| ProofError::Document {
                what: "measure",
                source,
                text,
            })?;
            Answer::Result(Box::new(measured), self.verify(lab, cast)?)
        } else {
            let words = self.payer.tail();
            if words.contains("refunded") {
                Answer::Refunded(words)
            } else if words.contains("the evidence does not hold") {
                Answer::Refused(words)
            } else {
                return Err(ProofError::Ended {
                    what: "measure",
                    status,
                    words,
                    tails: cast.tails(),
                });
            }
        };
        Ok(Proof {
            answer,
            drops,
            cross,
        })
    }

    fn verify(&self, lab: &Lab, cast: &Cast) -> Result<Verified, ProofError> {
        let mut command = lab.command(Host::Coordinator, &cast.binary().to_string_lossy());
        command.args(["verify", "--json"]).arg(&self.bundle);
        let mut verifier = Process::start("verify", command, &self.run).map_err(CastError::from)?;
        let (status, text) = verifier.output(VERIFY).map_err(|error| ProofError::Late {
            error: Box::new(error),
            tails: String::new(),
        })?;
        if !matches!(status.code(), Some(0 | 1)) {
            return Err(ProofError::Ended {
                what: "verify",
                status,
                words: verifier.tail(),
                tails: String::new(),
            });
        }
        Verified::read(&text).map_err(|source| ProofError::Document {
            what: "verify",
            source,
            text,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A result whose packets add up beside 99 losses on the path.
    pub(crate) fn document() -> Value {
        let challenger = |index: u16| {
            json!({"address": format!("0x{index}"), "index": index, "window_us": 1, "packets": 200, "sent": 250,
                "rtt": {"before_ns": 1, "during_ns": null}, "paid": "7", "valid": true, "flags": []})
        };
        json!({
            "verdict": "Pass", "reason": null, "state": "Final", "claimed_bps": 1_000_000_000,
            "measured_bps": 990_000_000, "lower_bps": 990_000_000, "guaranteed_bps": 660_000_000, "trust_curve": [990_000_000, 660_000_000],
            "duration_ms": 100, "challengers": [challenger(0), challenger(1), challenger(2), challenger(3)],
            "packets": {
                "sent": 1000, "verified": 800, "over_cap": 50, "late": 40, "duplicate": 3, "bad_tag": 2,
                "malformed": 1, "out_of_range": 0,
                "xdp": {"redirected": 896, "passed_not_ip": 7, "dropped_not_consented": 4},
                "xsk": {"rx_dropped": 5, "rx_ring_full": 1, "rx_invalid_descs": 0, "fill_ring_empty": 9},
                "control_sent": 60, "control_received": 55
            },
            "asked_bps": 1_000_000_000, "burst_bytes": null,
            "sustained": [{"burst_bytes": 100_000_000, "at_least_bps": 4}, {"burst_bytes": 1_000_000, "at_least_bps": 5}],
            "commit_latency_ns": 90_000,
            "chain": {"engine": "embedded", "conserved": true,
                "paid": [{"to": "0x01", "amount": "7", "role": "challenger"}]},
        })
    }

    pub(crate) fn proof(document: &Value, verify: &Value, path: u64) -> Proof {
        let mut drops = Drops {
            down: crate::PathDrops::default(),
            up: crate::PathDrops::default(),
            forwarding: 0,
            backlog: 0,
            interfaces: Vec::new(),
        };
        drops.down.total = path;
        Proof {
            answer: Answer::Result(
                Box::new(Measured::read(&document.to_string()).unwrap()),
                Verified::read(&verify.to_string()).unwrap(),
            ),
            drops,
            cross: CrossCount::default(),
        }
    }

    pub(crate) fn ok() -> Value {
        json!({"verify": "ok", "verdict": "Pass", "measured_bps": 990_000_000})
    }

    #[test]
    fn a_proof_holds_only_if_everything_does() {
        let good = document();
        assert_eq!(proof(&good, &ok(), 99).complaints(), Vec::<String>::new());
        let first = |proof: Proof| proof.complaints().remove(0);
        assert!(first(proof(&good, &ok(), 100)).contains("-1 packets"));
        assert!(proof(&good, &ok(), 100).complaints_but_packets().is_empty());
        let mut money = good.clone();
        money["chain"]["conserved"] = false.into();
        assert!(first(proof(&money, &ok(), 99)).contains("conserve"));
        let failed =
            json!({"verify": "failed", "checks": [{"check": "V3", "ok": false, "detail": "C_2"}]});
        assert!(first(proof(&good, &failed, 99)).contains("V3"));
        let mut other = ok();
        other["measured_bps"] = 990_000_001.into();
        assert!(first(proof(&good, &other, 99)).contains("otherwise"));
        other = ok();
        other["verdict"] = "Fail".into();
        assert!(first(proof(&good, &other, 99)).contains("otherwise"));
    }

    #[test]
    fn cross_traffic_stands_on_both_sides_of_the_account() {
        let mut beside = proof(&document(), &ok(), 102);
        assert_eq!(beside.account().unwrap().unaccounted(), -3);
        beside.cross = CrossCount {
            sent: 10,
            received: 6,
            socket_dropped: 1,
        };
        assert_eq!(beside.account().unwrap().unaccounted(), 0);
    }

    #[test]
    fn terms_become_the_words_of_the_command_line() {
        let mut terms = Terms {
            claim_bps: 5,
            challengers: 4,
            f: 1,
            duration: Duration::from_millis(100),
            deadline: None,
            more: vec!["--price".into(), "2".into()],
        };
        let words = "--faucet --claim 5 --f 1 --challengers 4 --duration 100ms";
        assert_eq!(terms.words().join(" "), format!("{words} --price 2"));
        terms.deadline = Some(Duration::from_secs(9));
        assert_eq!(
            terms.words().join(" "),
            format!("{words} --deadline 9s --price 2")
        );
    }
}
