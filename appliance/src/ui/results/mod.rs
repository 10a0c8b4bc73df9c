//! What commands answer, as plain values: their serialization is the JSON that scripts read, and
//! `render_human` is what people see. Filled by the appliance; nothing is computed here but words.

mod chain;
mod dispute;
mod key;
mod measure;
mod ready;
mod verify;

pub use chain::{
    Balance, ChainReplay, ChainStatus, DeploymentView, Draw, LookView, ParticipantView,
    Participants, PinView, Receipt, RequestView,
};
pub use dispute::{DisputeView, Done, EvidenceView, JurorView, Submitted};
pub use key::KeyResult;
pub use measure::{
    ChallengerResult, DatapathView, Direction, EndState, GasView, MeasureResult, PacketsView,
    PaidRole, PaidView, RttView, SettlementView, SustainedView, Verdict, XskView,
};
pub use ready::Ready;
pub use verify::{ChainOutcome, CheckResult, Comparison, VerifyOutcome, VerifyResult};

/// Token amounts are decimal strings in JSON: its numbers are floats to many readers.
pub(crate) mod decimal {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        crate::config::units::parse_amount(&text).map_err(serde::de::Error::custom)
    }
}
