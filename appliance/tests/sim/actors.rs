//! Who takes part: what each keeps in memory, what on disk, and how each is honest or not.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, Bytes, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolValue;
use plumbline_contracts::abi::backhaul::IBackhaul::Request;

use crate::clock::Drift;
use crate::network::{Commit, Report};

/// Sends its bytes, tells the truth, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Honest,
    /// Takes its seat and is never heard of again.
    Silent,
    /// Reports a tenth of its time.
    Fast,
    /// Reports ten times its time.
    Slow,
    /// Hands its bytes to the prover by another way, and reports a tenth of its time.
    Smuggler,
    /// Signs two reports.
    Twice,
}

/// Keeps the log and posts, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeper {
    Honest,
    /// Begins and never posts.
    Mute,
    /// Leaves out as many reports as it can, with a bundle that does not hold.
    Censor,
    /// Posts counts that nobody signed.
    Forger,
}

/// What an actor does, and whether honestly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Payer {
        slanders: bool,
    },
    Coordinator(Keeper),
    Prover {
        twice: bool,
    },
    Challenger(Sender),
    Juror {
        lies: bool,
    },
    /// Calls whatever is due.
    Outsider,
}

/// A measurement that a payer means to ask for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// Seconds after the start, on the payer's clock.
    pub(crate) after_s: u64,
    /// Without its deadline until it is asked.
    pub(crate) request: Request,
    pub(crate) asked: bool,
}

/// Part of one measurement, on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Session {
    /// Whom prover or challenger said yes to.
    pub(crate) agreed: Option<Vec<Address>>,
    pub(crate) started: bool,
    /// The prover's, or what the coordinator or a challenger got of it.
    pub(crate) commit: Option<Commit>,
    /// What a lying prover tells others.
    pub(crate) other: Option<Commit>,
    pub(crate) report: Option<Report>,
    /// The coordinator's log.
    pub(crate) since: Option<u64>,
    pub(crate) seeds: BTreeSet<u16>,
    pub(crate) consent: bool,
    pub(crate) committed_at: u64,
    pub(crate) reports: BTreeMap<u16, Report>,
}

/// Evidence that is to be brought.
#[derive(Clone, Debug)]
pub(crate) enum Evidence {
    Proof {
        subject: B256,
        guilty: Address,
        bytes: Bytes,
    },
    Dispute {
        subject: B256,
        accused: Address,
        evidence: B256,
    },
}

impl Evidence {
    /// What is announced.
    pub(crate) fn hash(&self, proof: Address, salt: B256) -> B256 {
        match self {
            Self::Proof { bytes, .. } => keccak256((proof, keccak256(bytes), salt).abi_encode()),
            Self::Dispute {
                subject,
                accused,
                evidence,
            } => keccak256((proof, *subject, *accused, *evidence, salt).abi_encode()),
        }
    }
}

/// What a crash leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) sessions: BTreeMap<B256, Session>,
    pub(crate) cases: Vec<Evidence>,
    pub(crate) asks: Vec<Ask>,
    /// Measurements about which a payer made up its mind.
    pub(crate) looked_at: BTreeSet<B256>,
}

/// One participant or passer-by.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) number: usize,
    pub(crate) address: Address,
    pub(crate) signer: PrivateKeySigner,
    pub(crate) role: Role,
    pub(crate) drift: Drift,
    pub(crate) up: bool,
    /// Lives so far: what was planned in an earlier one does not happen.
    pub(crate) life: u32,
    /// True times at which it went down and came back, nanoseconds.
    pub(crate) absences: Vec<(u64, u64)>,
    pub(crate) disk: Disk,
    /// In memory: when a transaction was last sent, on its own clock.
    pub(crate) sent: BTreeMap<B256, u64>,
    /// In memory: who floods, and whether by another way.
    pub(crate) floods: BTreeMap<B256, BTreeMap<u16, bool>>,
}

impl Actor {
    pub(crate) fn is_honest(&self) -> bool {
        matches!(
            self.role,
            Role::Payer { slanders: false }
                | Role::Coordinator(Keeper::Honest)
                | Role::Prover { twice: false }
                | Role::Challenger(Sender::Honest)
                | Role::Juror { lies: false }
                | Role::Outsider
        )
    }

    pub(crate) fn session(&mut self, id: B256) -> &mut Session {
        self.disk.sessions.entry(id).or_default()
    }

    pub(crate) fn sign(&self, digest: B256) -> Bytes {
        let signature = self.signer.sign_hash_sync(&digest).unwrap();
        signature.as_bytes().to_vec().into()
    }

    /// Memory is gone.
    pub(crate) fn crash(&mut self, now: u64) {
        self.up = false;
        self.life += 1;
        self.absences.push((now, u64::MAX));
        self.sent.clear();
        self.floods.clear();
    }

    pub(crate) fn restart(&mut self, now: u64) {
        self.up = true;
        self.absences.last_mut().unwrap().1 = now;
    }

    /// Nanoseconds for which it was down between two true times.
    pub(crate) fn away(&self, from: u64, to: u64) -> u64 {
        let within = |(down, back): &(u64, u64)| (*back).min(to).saturating_sub((*down).max(from));
        self.absences.iter().map(within).sum()
    }
}
