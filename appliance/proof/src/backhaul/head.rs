//! How a statement begins: which kind, whose word, how long. Enough to decide whether the rest is wanted.
//!
//! ```text
//!   kind u8 │ key 32 │ length u32 │ message … │ signature 64
//!   └────────── head ────────────┘
//! ```
//! **Guarantees.** Reading it needs [`Head::BYTES`] bytes and allocates nothing. **Tests.** With the statements of a whole
//! session, in `appliance/proof/src/backhaul/tests/fuzz.rs`.

use plumbline_trust::identity::{Message as _, VerifyingKey};

use super::messages::{
    Abort, Begun, Commit, Consent, Notice, Ready, Report, Reveal, SeedCommitment, Start,
};

/// Which kind of statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Notice`]
    Notice,
    /// [`SeedCommitment`]
    SeedCommitment,
    /// [`Consent`]
    Consent,
    /// [`Begun`]
    Begun,
    /// [`Ready`]
    Ready,
    /// [`Start`]
    Start,
    /// [`Commit`]
    Commit,
    /// [`Reveal`]
    Reveal,
    /// [`Report`]
    Report,
    /// [`Abort`]
    Abort,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Notice,
        Self::SeedCommitment,
        Self::Consent,
        Self::Begun,
        Self::Ready,
        Self::Start,
        Self::Commit,
        Self::Reveal,
        Self::Report,
        Self::Abort,
    ];

    /// Name of the kind, as shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::SeedCommitment => "seed-commitment",
            Self::Consent => "consent",
            Self::Begun => "begun",
            Self::Ready => "ready",
            Self::Start => "start",
            Self::Commit => "commit",
            Self::Reveal => "reveal",
            Self::Report => "report",
            Self::Abort => "abort",
        }
    }

    /// Domain of the kind's signatures.
    pub(super) fn domain(self) -> &'static str {
        match self {
            Self::Notice => Notice::DOMAIN,
            Self::SeedCommitment => SeedCommitment::DOMAIN,
            Self::Consent => Consent::DOMAIN,
            Self::Begun => Begun::DOMAIN,
            Self::Ready => Ready::DOMAIN,
            Self::Start => Start::DOMAIN,
            Self::Commit => Commit::DOMAIN,
            Self::Reveal => Reveal::DOMAIN,
            Self::Report => Report::DOMAIN,
            Self::Abort => Abort::DOMAIN,
        }
    }
}

/// How a statement's bytes begin: enough to decide whether the rest is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which kind.
    pub kind: Kind,
    /// Who says it.
    pub key: VerifyingKey,
    /// Bytes of the message.
    pub body: u32,
}

impl Head {
    /// Bytes of it: the kind's number, the key, the message's length.
    pub const BYTES: usize = 1 + 32 + 4;

    /// Reads it; `None` if there is no such kind.
    pub fn read(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let [number, rest @ ..] = bytes;
        let kind = *Kind::ALL.get(usize::from(*number))?;
        let (key, length) = rest.split_first_chunk::<32>()?;
        Some(Self {
            kind,
            key: VerifyingKey(*key),
            body: u32::from_le_bytes(*length.first_chunk()?),
        })
    }
}
