//! What the client gives and takes, in the appliance's words.

use alloy::primitives::{Address, B256, U256};
use plumbline_contracts::abi::backhaul::IBackhaul::Request;
use plumbline_contracts::{Answer, State, Verdict};
use plumbline_trust::selection::{Fate, Look};
use serde::Serialize;

/// Role bits of a participant.
pub mod role {
    /// Asks for measurements and pays for them.
    pub const PAYER: u32 = 1;
    /// Claims a capacity.
    pub const PROVER: u32 = 2;
    /// Sends challenge traffic.
    pub const CHALLENGER: u32 = 4;
    /// Runs a measurement and posts its result.
    pub const COORDINATOR: u32 = 8;
    /// Judges evidence that the EVM cannot.
    pub const JUROR: u32 = 16;
    /// Each role and its name.
    pub const NAMES: [(u32, &str); 5] = [
        (PAYER, "payer"),
        (PROVER, "prover"),
        (CHALLENGER, "challenger"),
        (COORDINATOR, "coordinator"),
        (JUROR, "juror"),
    ];
}

/// A transaction that is in a block and succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Its hash.
    pub hash: B256,
    /// The block it is in.
    pub block: u64,
    /// Gas it took.
    pub gas_used: u64,
}

/// What a participant says of itself when it registers.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Sum of [`role`] bits.
    pub roles: u32,
    /// ed25519 public key.
    pub network_key: [u8; 32],
    /// ed25519 signature over the settlement address.
    pub cross_signature: [u8; 64],
    /// Who runs it, the same for all machines of one operator; zero says nothing.
    pub operator: [u8; 32],
    /// Where it can be reached; 1 to 256 bytes.
    pub endpoint: String,
    /// Highest capacity it may be asked to prove, bit/s (provers; 0 for others).
    pub max_bps: u64,
    /// Stake, in the token's smallest unit; allowed to the vault beforehand.
    pub stake: u128,
}

/// A registered participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Participant {
    /// Settlement key.
    pub account: Address,
    /// Sum of [`role`] bits.
    pub roles: u32,
    /// Block of the registration.
    pub registered_block: u64,
    /// ed25519 public key.
    pub network_key: B256,
    /// keccak256 of the network key's signature over the settlement address.
    pub cross_signature_hash: B256,
    /// Who runs it; zero says nothing.
    pub operator: B256,
    /// Where it can be reached.
    pub endpoint: String,
    /// Highest capacity it may be asked to prove, bit/s.
    pub max_bps: u64,
    /// Lost so much stake that it counts as absent until it tops up.
    pub suspended: bool,
    /// Unix seconds from which it can have its stake back; `None` while it takes part.
    pub leave_at: Option<u64>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The request.
    pub request: Request,
    /// Block it is in.
    pub request_block: u64,
    /// What the coordinator put on record when it began; zero before.
    pub setup_hash: B256,
}

/// How challengers or jurors were drawn, for anyone to repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// The beacon's round.
    pub round: u64,
    /// Its mix.
    pub beacon: B256,
    /// Places of the pool at the request.
    pub pool: u32,
    /// Tickets that count of one at most.
    pub most: u8,
    /// Whom the draw came upon, in order.
    pub looks: Vec<Look>,
}

impl Drawn {
    /// Who is seated, in order.
    #[must_use]
    pub fn seated(&self) -> Vec<Address> {
        let seated = self.looks.iter().filter(|l| l.fate == Fate::Seated);
        seated.map(|l| l.account.0.into()).collect()
    }
}

/// What the chain keeps of a challenger's report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reported {
    /// Its packets that the prover counted; of the uplink, those that it received.
    pub packets: u32,
    /// From its first packet until it heard the commitment, µs.
    pub window_us: u32,
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What the link carried if nobody lies, bit/s.
    pub lower: u128,
    /// What it carried though f lie, bit/s.
    pub guaranteed: u128,
    /// Time over which `lower` is taken, µs.
    pub lower_span_us: u32,
    /// Time over which `guaranteed` is taken, µs.
    pub guaranteed_span_us: u32,
    /// What it carried though 0, …, f lie, bit/s, as it was posted: of all that reported.
    pub curve: Vec<u128>,
    /// What it said of the claim as it was posted; [`verdict`](Self::verdict) is what it says since anyone was
    /// convicted.
    pub posted_verdict: Verdict,
    /// Packets of those whose reports count.
    pub packets: u64,
    /// Unix seconds when it was posted.
    pub reported_at: u64,
    /// Indices of those that reported.
    pub reporters: Vec<u16>,
    /// Indices of those whose reports count, and who are paid.
    pub paid: Vec<u16>,
    /// What was reported of each challenger, by index; zero of one that did not.
    pub reports: Vec<Reported>,
    /// What it says of the claim.
    pub verdict: Verdict,
    /// BLAKE3 of the evidence bundle.
    pub bundle_hash: B256,
    /// Where the measurement stands.
    pub state: State,
}

/// A challenger that was asked for its seed, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SeedCase {
    /// What became of it.
    pub answer: Answer,
    /// Unix seconds after which its bond is lost.
    pub until: u64,
    /// What it can lose, in the token's smallest unit.
    pub bond: u128,
    /// What its seed hashes to.
    pub seed_hash: B256,
}

/// What the vault holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Sum of what nobody will ever have.
    pub burnt: U256,
    /// Sum of all stakes.
    pub stake: U256,
    /// Sum of all escrows.
    pub escrow: U256,
    /// Sum of all that can be withdrawn.
    pub owed: U256,
    /// Units taken in and not yet paid out.
    pub held: U256,
    /// The vault's balance of the token.
    pub balance: U256,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BlockInfo {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, unix seconds.
    pub timestamp: u64,
    /// Its `stateRoot`.
    pub state_root: B256,
}
