//! How a party behaves: the one seam at which a test build departs from the protocol.
//!
//! ```text
//!   challenger   secrets · heard · say · packets · flood · answers   asked once a session or less; packets once a chunk
//!   prover       say · armed · echo_wait                             of some hundred, by the thread that makes them
//!   coordinator  tell · submission
//! ```
//! The product has one conduct, [`Honest`], whose every answer is what the protocol says: that is what
//! `plumbline run` takes. The attacks are another package, which is no part of a release
//! (`bench/attack`). Whoever meets them runs the product's own code.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use plumbline_contracts::abi::backhaul::IBackhaul::Submission;
use plumbline_proof::backhaul::challenger::{Flood, Secrets};
use plumbline_proof::backhaul::messages::{ChallengeId, Notice, Statement};
use plumbline_proof::backhaul::record::Record;
use plumbline_trust::NetworkKey;
use plumbline_trust::session::SessionKey;

use super::prover::Sink;
use super::settle::Settler;

/// Who speaks, and what was said before.
pub struct Speaker<'a> {
    /// The session so far, as this party knows it.
    pub record: &'a Record,
    /// Its network key.
    pub network: &'a NetworkKey,
    /// Its settlement key.
    pub settler: &'a Settler,
}

/// A prover's session when T0 is set.
pub struct Armed {
    /// The notice.
    pub notice: Notice,
    /// Counts, and commits.
    pub sink: Arc<Sink>,
    /// Session keys by index.
    pub keys: Vec<Option<SessionKey>>,
    /// Control address of each consented challenger, by index.
    pub controls: Vec<(u16, SocketAddr)>,
    /// The control port's socket.
    pub socket: Arc<UdpSocket>,
    /// Its network key.
    pub network: Arc<NetworkKey>,
    /// When the first packets are to arrive, unix ns.
    pub t0_ns: u64,
    /// When it commits at the latest, unix ns.
    pub deadline_ns: u64,
}

/// How a party behaves. The defaults are what the protocol says.
pub trait Conduct: Send + Sync {
    /// A word before it is sent; `None` leaves it unsaid.
    fn say(&self, speaker: &Speaker<'_>, statement: Statement) -> Option<Statement> {
        let _ = speaker;
        Some(statement)
    }

    /// A line of the session's log has reached a challenger, which has not looked at it yet.
    fn heard(&self, statement: &Statement) {
        let _ = statement;
    }

    /// A challenger's secrets; `None` draws them at random.
    fn secrets(&self, network: &NetworkKey, challenge: &ChallengeId) -> Option<Secrets> {
        let _ = (network, challenge);
        None
    }

    /// Some of a challenger's packets, one after another, each of `length` bytes, before they are sent; the
    /// first is number `first`. Chunks begin at even numbers.
    fn packets(&self, chunk: &mut [u8], length: usize, first: u64) {
        let _ = (chunk, length, first);
    }

    /// A challenger's plan of sending.
    fn flood(&self, plan: Flood) -> Flood {
        plan
    }

    /// Whether a challenger that is named on the chain gives its seed there.
    fn answers(&self) -> bool {
        true
    }

    /// The prover has set T0.
    fn armed(&self, armed: Armed) {
        drop(armed);
    }

    /// How long the prover keeps the answer to a probe back.
    fn echo_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// A line of a session's log, as the coordinator tells it to the parties.
    fn tell(&self, network: &NetworkKey, statement: Statement) -> Statement {
        let _ = network;
        statement
    }

    /// Whether the coordinator lists a session to `participant`, who asks for its own.
    fn lists(&self, participant: &str, challenge: &ChallengeId) -> bool {
        let _ = (participant, challenge);
        true
    }

    /// How long the coordinator lets who asks for sessions wait for news, of what it may wait.
    fn patience(&self, most: Duration) -> Duration {
        most
    }

    /// What the coordinator posts.
    fn submission(&self, submission: Submission) -> Submission {
        submission
    }
}

/// As the protocol says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Honest;

impl Conduct for Honest {}
