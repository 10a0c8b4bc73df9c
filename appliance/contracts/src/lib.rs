//! What the chain enforces: Solidity in `solidity/`, compiled in `artifacts/`, typed in here.
//!
//! ```text
//!   solidity/*.sol ──cargo xtask contracts──► artifacts/*.json ──sol!──► abi      calls, events, errors
//!                                                                        deploy   the order, the addresses
//!   Registry ── who is in          Participants ◄── Beacon               signing  what is signed (EIP-712)
//!   Parameters ── chain variables    │       ▲        ▲                  refusal  reverts as words
//!   LabToken ◄── Vault ◄─────────────┴──── Backhaul ──┘                  status   states and verdicts
//!                  ▲    evidence against    ▲ (IProof) ▲
//!                  └── Jury ◄── Disputes ───┘        Bonds: who withheld its seed
//! ```
//!
//! Claim: the same bytecode runs on every engine, and whatever it refuses can be said in words. It does
//! no I/O and holds no key. The contracts themselves are tested where an engine is at hand: in the
//! appliance, `tests/chain/`.

pub mod abi;
pub mod deploy;
pub mod refusal;
pub mod signing;
pub mod status;

pub use deploy::{Deployment, Parameters, Plan, Step, plan};
pub use refusal::{Refusal, explain};
pub use signing::{
    Timing, begin_digest, commit_digest, counts_hash, domain, recover_begin, recover_commit,
    recover_report, report_digest,
};
pub use status::{Answer, Ruling, Stage, State, Verdict, seated};
