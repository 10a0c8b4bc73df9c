//! Evidence of any proof, examined: one entry a proof.
//!
//! A juror votes what [`examine`] finds, `plumbline verify` shows it: the same bytes, the same finding.
//! A new proof adds one line to [`examine`].

use plumbline_trust::evidence::{Evidence, Finding};

use crate::backhaul;

/// What evidence shows: a pure function of its bytes.
pub fn examine(evidence: &Evidence) -> Finding {
    match evidence.proof.as_str() {
        backhaul::NAME => backhaul::offence::examine(evidence),
        other => Finding::nothing(format!("there is no proof named {other:?} here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumbline_trust::Address;

    #[test]
    fn a_proof_that_is_not_there_convicts_nobody() {
        let finding = examine(&Evidence {
            proof: "weather".into(),
            subject: [0; 32],
            accused: Address([0; 20]),
            exhibits: Vec::new(),
        });
        assert!(!finding.holds && finding.why.contains("weather"));
    }
}
