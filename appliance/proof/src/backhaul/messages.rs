//! What the parties say to each other: signed, canonical, one domain a kind.
//!
//! ```text
//!  coordinator  prover  challenger     over HTTP, kept in the session's log, in this order
//!      Notice ────►│────────►│           who was drawn for what
//!        │         │◄ SeedCommitment     my seed's hash, my half of the session key, where I send from
//!        │◄─── Consent ──────►│          who may send, from where, how much, until when
//!      Begun ─────►│────────►│           the set-up is anchored on the chain
//!        │         │◄────── Ready        packets made, path probed
//!        │       Start ─────►│           T0; who hears it too late says so (Abort) and does not send
//!        ╎         ╎  flood  ╎           over UDP: data, probes, Commit, acks
//!        │◄─── Commit, Reveal►│          all that was received; what opens it
//!        │◄──────────────── Report       timings, seed, raw samples
//! ```

use std::net::SocketAddr;

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_trust::encoding::{Digest, domain, hash};
use plumbline_trust::identity::{Address, Message, Signature, Signed, SignedError, VerifyingKey};
use plumbline_trust::selection::Look;

pub use super::head::{Head, Kind};
use super::params::{STEP_TIMEOUT_NS, Terms};

/// Id of a challenge: the contract's request id.
pub type ChallengeId = Digest;

/// First 16 bytes of the challenge id: the session on the wire.
pub fn session_of(challenge: &ChallengeId) -> [u8; 16] {
    let mut session = [0; 16];
    session.copy_from_slice(&challenge[..16]);
    session
}

/// One party as the chain knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Member {
    /// Settlement address.
    pub address: Address,
    /// Network key registered with it.
    pub key: VerifyingKey,
    /// The network key's signature over the settlement address, as registered.
    pub binding: Signature,
}

/// Coordinator → all: a request was seen, and these were drawn for it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Notice {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Chain and contract that the challenge lives on: binds every signature to one deployment.
    pub chain_id: u64,
    /// Address of the backhaul contract.
    pub contract: Address,
    /// Address of the participants contract, which the key bindings name.
    pub participants: Address,
    /// What is measured.
    pub terms: Terms,
    /// Price of one byte in base units.
    pub price_per_byte: u128,
    /// Unix seconds after which the contract refunds.
    pub deadline: u64,
    /// How much longer than its steps the set-up may take, as the chain needs it to show what is anchored, ms; at
    /// most [`ANCHOR_MS_MOST`](super::params::ANCHOR_MS_MOST).
    pub anchor_ms: u32,
    /// Who pays.
    pub payer: Address,
    /// Who is measured.
    pub prover: Member,
    /// Who coordinates.
    pub coordinator: Member,
    /// Beacon of the draw.
    pub beacon: Digest,
    /// Places of the pool that was drawn from, as of the request.
    pub pool: u32,
    /// Whom the draw came upon, in order, and what became of them.
    pub looks: Vec<Look>,
    /// The drawn, in order; a challenger's index is its place here.
    pub challengers: Vec<Member>,
}

impl Notice {
    /// How long a step of the set-up may take that waits for the chain, ns.
    pub fn anchored_within_ns(&self) -> u64 {
        STEP_TIMEOUT_NS + u64::from(self.anchor_ms) * 1_000_000
    }
}

/// Challenger → all: commitment to a secret seed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SeedCommitment {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Place in the draw.
    pub index: u16,
    /// keccak256(challenge ‖ seed): the chain can check it.
    pub seed_hash: Digest,
    /// X25519 public half of the session key.
    pub ephemeral: [u8; 32],
    /// Where data packets come from.
    pub data: SocketAddr,
    /// Where probes come from and the commitment goes to.
    pub control: SocketAddr,
}

/// One consented sender.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Sender {
    /// Place in the draw.
    pub index: u16,
    /// Its commitment, which the prover thereby vouches to have seen before the flood.
    pub seed_hash: Digest,
    /// Its X25519 half.
    pub ephemeral: [u8; 32],
    /// Where its data comes from.
    pub data: SocketAddr,
    /// Where its probes come from.
    pub control: SocketAddr,
}

/// Prover → all: who may send to me. A sender needs it; what is not consented is dropped.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Consent {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Where data goes.
    pub data: SocketAddr,
    /// Where probes and acknowledgements go.
    pub control: SocketAddr,
    /// X25519 public half of the session keys.
    pub ephemeral: [u8; 32],
    /// Packets that each may send at most.
    pub cap_packets: u64,
    /// Unix nanoseconds after which nobody may send.
    pub until_ns: u64,
    /// Who may send.
    pub senders: Vec<Sender>,
}

impl Consent {
    /// What `begin` anchors on the chain: the consent, and with it every seed commitment.
    pub fn setup_hash(signed: &Signed) -> Digest {
        hash(domain::SETUP, &[&signed.key.0, &signed.body])
    }
}

/// Coordinator → all: the set-up is on the chain.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Begun {
    /// The challenge.
    pub challenge: ChallengeId,
    /// [`Consent::setup_hash`].
    pub setup: Digest,
}

/// Challenger → prover: packets are made and the path is probed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Ready {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Place in the draw.
    pub index: u16,
    /// Smallest round trip so far, ns.
    pub rho_ns: u64,
    /// Uplink only: an echo that reached me. The prover's signature in it cannot be guessed, so whoever
    /// shows it receives what is sent to its control address, and may be flooded there.
    pub reached: Option<Rtt>,
    /// Settlement key's EIP-712 signature that it begins with the seed it committed to: whoever withholds that
    /// seed afterwards is asked for it on the chain.
    pub settlement: Vec<u8>,
}

/// Prover → challengers: when.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Start {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Phase, from 0.
    pub phase: u8,
    /// Unix nanoseconds at which everyone begins to send, by its own clock.
    pub t0_ns: u64,
}

/// Prover → challengers: all that I received, committed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Commit {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Phase.
    pub phase: u8,
    /// Σ counts.
    pub packets: u64,
    /// Counted packets of each challenger, by index.
    pub counts: Vec<u32>,
    /// C = H(challenge ‖ phase ‖ counts ‖ C_1..C_n).
    pub response: Digest,
    /// Arrival of the first and the last counted packet, unix ns of the prover's clock.
    pub arrivals: (u64, u64),
}

/// What became of the datagrams that reached the prover's data port, besides those counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Accounting {
    /// Every other fate, by name, sorted: refusals of the session, XDP reasons, socket losses.
    pub fates: Vec<(String, u64)>,
    /// Probes and acknowledgements received.
    pub control_received: u64,
    /// Counted packets that came after one with a higher number (RFC 4737, reordered).
    pub reordered: u64,
    /// Packets of each challenger that carried its tag, whatever became of them.
    pub received: Vec<u64>,
    /// Frames that this host lost after the link had carried them: rings, buffers, queues without a socket.
    pub host_dropped: u64,
    /// Frames and bytes (Ethernet header included) that the interface took meanwhile, whosever they were.
    pub interface: Option<(u64, u64)>,
    /// Arrivals of counted packets in each fiftieth of the duration since the first. The prover's word: shown,
    /// and nothing rests on it.
    pub histogram: Vec<u32>,
    /// From the last counted packet's arrival to the commitment's first datagram, ns.
    pub commit_latency_ns: u64,
    /// Which packet path was used: receiver, XDP mode, UMEM, timestamps.
    pub datapath: Vec<(String, String)>,
}

/// Prover → all: what opens the commitment.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Reveal {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Phase.
    pub phase: u8,
    /// C_1..C_n.
    pub roots: Vec<Digest>,
    /// Which sequence numbers were counted, per challenger; bit k of byte j is number 8j+k; no
    /// trailing zero byte, so that one set has one encoding.
    pub bitmaps: Vec<Vec<u8>>,
    /// Everything else that arrived.
    pub accounting: Accounting,
    /// Settlement key's EIP-712 signature over the commitment, for the contract.
    pub settlement: Vec<u8>,
}

/// When a probe was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Window {
    /// Before the flood.
    Before,
    /// While packets flow: rides the full queue.
    During,
}

/// One echoed probe, with the prover's signature, raw.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Rtt {
    /// When it was sent.
    pub window: Window,
    /// The echo's header as received: holds the sequence number and when it was sent.
    pub echo: Vec<u8>,
    /// When the echo arrived, on the challenger's clock, unix ns.
    pub received_ns: u64,
    /// Prover's signature over the echo's header.
    pub signature: Signature,
}

/// What a challenger received in an uplink measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Arrivals {
    /// Counted packets in each sub-interval of the common window.
    pub histogram: Vec<u32>,
    /// Every other fate of what came to the data port, by name, sorted.
    pub fates: Vec<(String, u64)>,
}

/// Domain of an echo's signature.
pub const ECHO_DOMAIN: &str = "plumbline backhaul echo v1";

/// Challenger → coordinator: what I saw.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Report {
    /// The challenge.
    pub challenge: ChallengeId,
    /// Phase.
    pub phase: u8,
    /// Place in the draw.
    pub index: u16,
    /// s: stamped before the first packet is handed to the kernel, unix ns. Uplink: begin of the common window.
    pub sent_first_ns: u64,
    /// e: arrival of the commitment's first copy, unix ns, same clock. Uplink: end of the common window.
    pub committed_ns: u64,
    /// w: e − s and the clock's error in µs, rounded up. Uplink: the window, twice the clock bound, and the longest round trip.
    pub window_us: u32,
    /// Every probe that was answered.
    pub rtts: Vec<Rtt>,
    /// ρ: smallest of them, ns.
    pub rho_ns: u64,
    /// np: packets of mine that the prover counted and proved. Uplink: that I counted.
    pub packets: u32,
    /// Data packets that the kernel took from me.
    pub sent: u64,
    /// How many of them in each twentieth of the duration before e, the last first.
    pub sent_back: Vec<u32>,
    /// Probes and acknowledgements that I sent.
    pub control_sent: u64,
    /// The response hash I was given.
    pub response: Digest,
    /// The commitment I was given, if it is not the one on record: the prover signed both.
    pub heard: Option<Signed>,
    /// The seed, revealed.
    pub seed: [u8; 32],
    /// My X25519 secret of this challenge, revealed: gives the session key, and so the tags.
    pub ephemeral_secret: [u8; 32],
    /// Which clock made the timestamps.
    pub clock: String,
    /// Bound on that clock's error over the phase, ns.
    pub clock_error_ns: u64,
    /// Uplink only: what arrived, and when. The times above are then those of the common window.
    pub arrivals: Option<Arrivals>,
    /// Settlement key's EIP-712 signature over the report, for the contract.
    pub settlement: Vec<u8>,
}

impl Report {
    /// w of a downlink, µs: from the first send to the commitment by a clock that may have gone so much too slowly
    /// meanwhile.
    pub fn window_us(span_ns: u64, clock_error_ns: u64) -> u32 {
        let window_ns = span_ns.saturating_add(clock_error_ns);
        u32::try_from(window_ns.div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

/// Most bytes of the words of an [`Abort`].
pub const ABORT_WORDS_MAX: usize = 1000;

/// Prover or challenger → everyone: I do not go on, and why. The prover's word ends the session, and comes before
/// the start; a challenger's only its own part, and comes before its report.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Abort {
    /// The challenge.
    pub challenge: ChallengeId,
    /// The challenger's place in the draw; none: the prover.
    pub index: Option<u16>,
    /// What, where, and what is allowed: text without control characters, at most [`ABORT_WORDS_MAX`]
    /// bytes.
    pub why: String,
    /// The challenger's seed, if it gives up after the start: it withholds nothing.
    pub seed: Option<[u8; 32]>,
}

impl Abort {
    /// Says `why`, cut to what is taken; gives no seed.
    pub fn new(challenge: &ChallengeId, index: Option<u16>, why: &str) -> Self {
        let mut words = String::new();
        for c in why.chars() {
            let c = if c.is_control() { ' ' } else { c };
            if words.len() + c.len_utf8() > ABORT_WORDS_MAX {
                break;
            }
            words.push(c);
        }
        Self {
            challenge: *challenge,
            index,
            why: words,
            seed: None,
        }
    }
}

macro_rules! domains {
    ($($kind:ident = $domain:literal),* $(,)?) => {$(
        impl Message for $kind { const DOMAIN: &'static str = $domain; }
    )*};
}
domains! {
    Notice = "plumbline backhaul notice v1",
    SeedCommitment = "plumbline backhaul seed commitment v1",
    Consent = "plumbline backhaul consent v1",
    Begun = "plumbline backhaul begun v1",
    Ready = "plumbline backhaul ready v1",
    Start = "plumbline backhaul start v1",
    Commit = "plumbline backhaul commit v1",
    Reveal = "plumbline backhaul reveal v1",
    Report = "plumbline backhaul report v1",
    Abort = "plumbline backhaul abort v1",
}

/// One line of a session's log: which kind of message, and the message as signed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Statement {
    /// [`Notice`]
    Notice(Signed),
    /// [`SeedCommitment`]
    SeedCommitment(Signed),
    /// [`Consent`]
    Consent(Signed),
    /// [`Begun`]
    Begun(Signed),
    /// [`Ready`]
    Ready(Signed),
    /// [`Start`]
    Start(Signed),
    /// [`Commit`]
    Commit(Signed),
    /// [`Reveal`]
    Reveal(Signed),
    /// [`Report`]
    Report(Signed),
    /// [`Abort`]
    Abort(Signed),
}

impl Statement {
    /// Bytes of a statement beside its message's: the head and the signature.
    pub const AROUND: usize = Head::BYTES + 64;

    /// Which kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Notice(_) => Kind::Notice,
            Self::SeedCommitment(_) => Kind::SeedCommitment,
            Self::Consent(_) => Kind::Consent,
            Self::Begun(_) => Kind::Begun,
            Self::Ready(_) => Kind::Ready,
            Self::Start(_) => Kind::Start,
            Self::Commit(_) => Kind::Commit,
            Self::Reveal(_) => Kind::Reveal,
            Self::Report(_) => Kind::Report,
            Self::Abort(_) => Kind::Abort,
        }
    }

    /// Name of the kind, as shown to people.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// How its bytes begin.
    pub fn head(&self) -> Head {
        let signed = self.signed();
        Head {
            kind: self.kind(),
            key: signed.key,
            // Borsh cannot write a longer one either.
            body: u32::try_from(signed.body.len()).unwrap_or(u32::MAX),
        }
    }

    /// Whether its author's signature holds.
    ///
    /// # Errors
    /// It does not, or the key is none.
    pub fn verify(&self) -> Result<(), SignedError> {
        let signed = self.signed();
        signed
            .key
            .verify(self.kind().domain(), &signed.body, &signed.signature)
    }

    /// The message as signed, whatever its kind.
    pub fn signed(&self) -> &Signed {
        match self {
            Self::Notice(s)
            | Self::SeedCommitment(s)
            | Self::Consent(s)
            | Self::Begun(s)
            | Self::Ready(s)
            | Self::Start(s)
            | Self::Commit(s)
            | Self::Reveal(s)
            | Self::Report(s)
            | Self::Abort(s) => s,
        }
    }
}

/// Makes the settlement key's EIP-712 signatures. The contract's typed data belongs to the layer
/// above; here a signature is bytes.
pub trait Settlement {
    /// Challenger's signature that it begins, with the seed that it committed to.
    fn sign_begin(&self, notice: &Notice, seed: &SeedCommitment) -> Vec<u8>;
    /// Prover's signature over a commitment.
    fn sign_commit(&self, notice: &Notice, commit: &Commit) -> Vec<u8>;
    /// Challenger's signature over a report (its `settlement` field is not yet filled).
    fn sign_report(&self, notice: &Notice, report: &Report) -> Vec<u8>;
}

/// A statement whose signature was verified: hashing a long one takes a while, so it is done where nobody waits.
#[derive(Clone, Debug)]
pub struct Verified(Statement);

impl Verified {
    /// Verifies the author's signature.
    ///
    /// # Errors
    /// See [`Statement::verify`].
    pub fn new(statement: Statement) -> Result<Self, SignedError> {
        statement.verify()?;
        Ok(Self(statement))
    }

    /// The statement.
    pub fn statement(&self) -> &Statement {
        &self.0
    }

    /// The statement.
    pub fn into_statement(self) -> Statement {
        self.0
    }
}
