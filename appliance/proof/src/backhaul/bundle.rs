//! The bundle: one content-addressed file that holds all that was said, and is judged again offline.
//!
//! ```text
//!  "PLUMBNDL" │ version u32 │ length u64 │ body (borsh) │ BLAKE3 of all before (32)
//! ```
//! The trailing digest is the address that the contract stores; the body ends with the coordinator's
//! signature, so that a change with a mended digest is still the coordinator's alone to make, and
//! then fails the check that it falsifies.

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_trust::container::{Container, Damage};
use plumbline_trust::encoding::{Digest, decode, domain, encode};
use plumbline_trust::identity::{Message, NetworkKey, Signed};

use super::judge::{Check, Judgement, Verdict, judge};
use super::messages::Statement;
use super::record::Record;

const FILE: Container = Container {
    magic: b"PLUMBNDL",
    // 6: bounds over windows, send logs.
    version: 7,
    context: domain::BUNDLE,
};

/// What the coordinator signs: the log and what it concluded from it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Bundle {
    /// From the notice on.
    pub log: Vec<Statement>,
    /// The coordinator's judgement.
    pub judgement: Judgement,
}

impl Message for Bundle {
    const DOMAIN: &'static str = "plumbline backhaul bundle v1";
}

/// Writes a bundle; its address is the last 32 bytes.
pub fn write(key: &NetworkKey, bundle: &Bundle) -> (Vec<u8>, Digest) {
    FILE.seal(&encode(&Signed::new(key, bundle)))
}

/// The content address of a file that hashes to it, whatever else is wrong with it.
pub fn address(bytes: &[u8]) -> Option<Digest> {
    FILE.address(bytes)
}

/// What replaying a bundle gave.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Content address found in the file.
    pub address: Digest,
    /// The file's own judgement, where it could be read.
    pub judgement: Option<Judgement>,
    /// What was read, where it could be.
    pub record: Option<Record>,
    /// Checks of the file itself (V0), then those of the judgement replayed.
    pub checks: Vec<Check>,
}

impl Verified {
    /// The bundle is whole and its judgement is the one that its evidence gives. Checks that the
    /// judgement itself reports as not holding (a liar among the challengers) do not make it false.
    pub fn ok(&self) -> bool {
        self.judgement.is_some()
            && self
                .checks
                .iter()
                .filter(|c| c.check == "V0" || c.check == "V1")
                .all(|c| c.ok)
    }

    /// The verdict that the evidence gives.
    pub fn verdict(&self) -> Option<Verdict> {
        self.judgement.as_ref().map(|j| j.verdict)
    }
}

/// Judges a bundle again, from its bytes alone.
pub fn verify(bytes: &[u8]) -> Verified {
    let mut out = Verified {
        address: [0; 32],
        judgement: None,
        record: None,
        checks: Vec::new(),
    };
    if let Err((name, why)) = replay(bytes, &mut out) {
        let check = if name == "signatures" { "V1" } else { "V0" };
        out.judgement = None;
        out.checks.insert(
            0,
            Check {
                check: check.into(),
                name: name.into(),
                ok: false,
                culprit: None,
                detail: why,
            },
        );
    }
    out
}

fn replay(bytes: &[u8], out: &mut Verified) -> Result<(), (&'static str, String)> {
    let note = |out: &mut Verified, name: &str, detail: String| {
        out.checks.push(Check {
            check: "V0".into(),
            name: name.into(),
            ok: true,
            culprit: None,
            detail,
        });
    };
    let (body, address) = FILE.open(bytes).map_err(|damage| match damage {
        Damage::Address(_) => ("content address", damage.to_string()),
        Damage::Alien(_) => ("container", format!("{damage}: not a bundle")),
        _ => ("container", damage.to_string()),
    })?;
    out.address = address;
    note(out, "content address", hex::encode(address));
    let signed: Signed = decode(body).map_err(|e| ("encoding", e))?;
    let bundle: Bundle = signed
        .open()
        .map_err(|e| ("coordinator's signature", e.to_string()))?;
    let record = Record::read(&bundle.log)
        .map_err(|(line, e)| ("signatures", format!("line {line} of the log: {e}")))?;
    if signed.key != record.notice.message.coordinator.key {
        return Err((
            "coordinator's signature",
            "the bundle is not signed by the coordinator of its notice".into(),
        ));
    }
    note(out, "coordinator's signature", signed.key.to_string());
    let again = judge(&record);
    out.checks.extend(again.checks.iter().cloned());
    if again != bundle.judgement {
        return Err((
            "judgement",
            format!(
                "the evidence gives {:?} at {} bit/s or more, the bundle says {:?} at {}",
                again.verdict,
                again.lower_bps(),
                bundle.judgement.verdict,
                bundle.judgement.lower_bps()
            ),
        ));
    }
    note(
        out,
        "judgement",
        "replayed from the evidence, bit for bit".into(),
    );
    out.judgement = Some(again);
    out.record = Some(record);
    Ok(())
}
