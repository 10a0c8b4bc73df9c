//! The bundle: one content-addressed file that holds all that was said, and is judged again offline.
//!
//! ```text
//!  "PLUMBNDL" │ version u32 │ length u64 │ body (borsh) │ BLAKE3 of all before (32)
//! ```
//! The trailing digest is the address that the contract stores; the body ends with the coordinator's
//! signature, so that a change with a mended digest is still the coordinator's alone to make, and
//! then fails the check that it falsifies.

use borsh::{BorshDeserialize, BorshSerialize};
use plumbline_trust::encoding::{Digest, decode, domain, encode, hash};
use plumbline_trust::identity::{Message, NetworkKey, Signed};

use super::judge::{Check, Judgement, Verdict, judge};
use super::messages::Statement;
use super::record::Record;

const MAGIC: &[u8; 8] = b"PLUMBNDL";
/// 3: leaves are committed to as a tree of nodes of 64.
const VERSION: u32 = 3;
const HEAD: usize = 20;

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
    let body = encode(&Signed::new(key, bundle));
    let mut out = Vec::with_capacity(HEAD + body.len() + 32);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(body.len() as u64).to_le_bytes());
    out.extend_from_slice(&body);
    let address = hash(domain::BUNDLE, &[&out]);
    out.extend_from_slice(&address);
    (out, address)
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
    let (content, address) = bytes.split_last_chunk::<32>().ok_or((
        "container",
        format!("{} bytes are too few for a bundle", bytes.len()),
    ))?;
    if content.get(..8) != Some(MAGIC) {
        return Err((
            "container",
            "does not begin with PLUMBNDL: not a bundle".into(),
        ));
    }
    if hash(domain::BUNDLE, &[content]) != *address {
        return Err((
            "content address",
            format!(
                "the file does not hash to its address {}",
                hex::encode(address)
            ),
        ));
    }
    out.address = *address;
    note(out, "content address", hex::encode(address));
    let (head, body) = content
        .split_at_checked(HEAD)
        .ok_or(("container", "the header is cut off".into()))?;
    if head[8..12] != VERSION.to_le_bytes() {
        return Err(("container", format!("version is not {VERSION}")));
    }
    if head[12..20] != (body.len() as u64).to_le_bytes() {
        return Err((
            "container",
            "the length in the header is not that of the body".into(),
        ));
    }
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
                "the evidence gives {:?} at {} bit/s, the bundle says {:?} at {} bit/s",
                again.verdict,
                again.point_bps,
                bundle.judgement.verdict,
                bundle.judgement.point_bps
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
