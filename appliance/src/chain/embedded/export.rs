//! A chain as a stream of blocks: what `export` writes, `import` reads and a follower fetches.
//!
//! ```text
//!   "plumbline-chain\n"  frame(opening)  frame(block 1) … frame(block h)  0  height ‖ hash of block h
//!     frame = length u32 LE ‖ borsh        opening = version, founding record, contracts, signature
//!                                          block   = header RLP, transactions EIP-2718, signature
//! ```
//!
//! Claim: the stream says all that the chain is; reading it executes it again, and what is written is
//! what execution gave. A stream that was cut is seen, by its end. A reader takes memory for one block.
//! Neither state nor receipts are in it: they follow. Tests: `appliance/tests/chain/keep.rs`.

use std::io::{self, Read, Write};
use std::path::Path;

use alloy::consensus::transaction::{Recovered, SignerRecoverable};
use alloy::consensus::{Header, TxEnvelope};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use alloy::rlp::Decodable;
use borsh::{BorshDeserialize, BorshSerialize};

use super::copy::{Copy, CopyError};
use super::disk::{Disk, Founding, Snapshot, StoreError};
use super::seal::SealBytes;
use super::verify::{Replay, Replayed};
use super::{ChainError, audit, file};

/// What every stream begins with.
const MAGIC: [u8; 16] = *b"plumbline-chain\n";
/// Version of the stream.
const VERSION: u32 = 1;
/// Longest frame, in bytes: 256 transactions of 128 KiB, and a header.
const MAX_FRAME: u32 = 33 << 20;

/// What the chain is founded on, as it travels.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
struct Opening {
    version: u32,
    genesis: Vec<u8>,
    deployment: Vec<u8>,
    seal: SealBytes,
}

/// A block as it travels.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(super) struct Frame {
    header: Vec<u8>,
    transactions: Vec<Vec<u8>>,
    pub(super) seal: SealBytes,
}

impl Frame {
    /// Block `number` of `snapshot`.
    pub(super) fn of(snapshot: &Snapshot, number: u64) -> Result<Self, StoreError> {
        let header = snapshot.header(number)?;
        let header = header.ok_or_else(|| StoreError::damaged(format!("no block {number}")))?;
        let transactions = snapshot.included(number)?;
        let bytes = transactions.iter();
        Ok(Self {
            header: alloy::rlp::encode(&header),
            transactions: bytes
                .map(|i| i.transaction.inner().encoded_2718())
                .collect(),
            seal: snapshot.seal(number)?,
        })
    }

    /// Header, and transactions with their signers recovered.
    pub(super) fn parse(&self) -> Result<(Header, Vec<Recovered<TxEnvelope>>), String> {
        let mut bytes = self.header.as_slice();
        let header = Header::decode(&mut bytes).map_err(|e| format!("header: {e}"))?;
        let mut list = Vec::with_capacity(self.transactions.len());
        for (place, bytes) in self.transactions.iter().enumerate() {
            let said = |e: String| format!("transaction {place}: {e}");
            let decoded = TxEnvelope::decode_2718_exact(bytes.as_slice());
            let transaction = decoded.map_err(|e| said(e.to_string()))?;
            let recovered = transaction.try_into_recovered();
            list.push(recovered.map_err(|e| said(e.to_string()))?);
        }
        Ok((header, list))
    }
}

/// How far a long work is: block, and of how many (0 if that is not known).
pub type Watch<'a> = &'a mut dyn FnMut(u64, u64);

/// Writes the chain in `dir`, which must not be running, to `out`.
///
/// # Errors
/// If the chain cannot be read, or `out` not written.
pub fn export(dir: &Path, out: &mut impl Write, watch: Watch<'_>) -> Result<u64, CopyError> {
    let path = dir.join(file::FILE);
    let disk = Disk::new(file::inspect(&path).map_err(ChainError::from)?);
    let (record, _) = audit::founding(&disk, &path)?;
    let snapshot = audit::head(&disk, &record, &path)?;
    let founding = disk.founding()?;
    let founding = founding.ok_or_else(|| StoreError::damaged("no founding record"))?;
    let written = |e: io::Error| CopyError::Stream(format!("cannot be written: {e}"));
    out.write_all(&MAGIC).map_err(written)?;
    let opening = Opening {
        version: VERSION,
        genesis: founding.genesis,
        deployment: founding.deployment,
        seal: founding.seal,
    };
    put(out, &opening).map_err(written)?;
    let head = snapshot.head.number;
    for number in 1..=head {
        put(out, &Frame::of(&snapshot, number)?).map_err(written)?;
        watch(number, head);
    }
    let mut end = 0_u32.to_le_bytes().to_vec();
    end.extend(head.to_le_bytes());
    end.extend(snapshot.head.hash_slow());
    out.write_all(&end).map_err(written)?;
    out.flush().map_err(written)?;
    Ok(head)
}

fn put(out: &mut impl Write, frame: &impl BorshSerialize) -> io::Result<()> {
    let bytes = borsh::to_vec(frame)?;
    let length = u32::try_from(bytes.len()).ok().filter(|l| *l <= MAX_FRAME);
    let length = length.ok_or(io::ErrorKind::FileTooLarge)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)
}

/// Where blocks of a stream go.
enum Sink {
    /// Into a chain's directory.
    Copy(Box<Copy>),
    /// Nowhere: they are only executed.
    Trial(Box<(Replay, audit::Founder)>),
}

/// Makes a chain in `dir`, where there is none, from a stream; every block is executed again.
///
/// # Errors
/// If the stream is cut, damaged, or says what execution does not give; if there is a chain already.
pub fn import(input: &mut impl Read, dir: &Path, watch: Watch<'_>) -> Result<Replayed, CopyError> {
    let path = dir.join(file::FILE);
    if path.symlink_metadata().is_ok() {
        return Err(CopyError::Occupied(path));
    }
    read(input, watch, |founding| {
        Ok(Sink::Copy(Box::new(Copy::open(dir, founding)?)))
    })
}

/// Executes a stream again and keeps nothing.
///
/// # Errors
/// As [`import`].
pub fn verify_export(input: &mut impl Read, watch: Watch<'_>) -> Result<Replayed, CopyError> {
    read(input, watch, |founding| {
        let (record, deployment) = audit::parse(founding, Path::new("the stream"))?;
        let replay = Replay::new(&record, deployment)?;
        let founder = audit::Founder::new(&record, founding)?;
        Ok(Sink::Trial(Box::new((replay, founder))))
    })
}

/// Whether these first bytes of a file are those of a stream.
#[must_use]
pub fn is_export(first: &[u8]) -> bool {
    first.starts_with(&MAGIC)
}

fn read(
    input: &mut impl Read,
    watch: Watch<'_>,
    sink: impl FnOnce(&Founding) -> Result<Sink, CopyError>,
) -> Result<Replayed, CopyError> {
    let mut magic = [0; MAGIC.len()];
    take(input, &mut magic, "its first bytes")?;
    if magic != MAGIC {
        let words = "is no exported chain: it does not begin with \"plumbline-chain\"";
        return Err(CopyError::Stream(words.to_owned()));
    }
    let opening: Opening = frame(input, "its opening")?
        .ok_or_else(|| CopyError::Stream("holds no chain".to_owned()))?;
    if opening.version != VERSION {
        return Err(CopyError::Stream(format!(
            "is of version {}, this program knows {VERSION}; use the version that made it",
            opening.version
        )));
    }
    let mut sink = sink(&Founding {
        genesis: opening.genesis,
        deployment: opening.deployment,
        seal: opening.seal,
    })?;
    let mut number = 0;
    while let Some(block) = frame::<Frame>(input, &format!("block {}", number + 1))? {
        number += 1;
        match &mut sink {
            Sink::Copy(copy) => copy.push(&block)?,
            Sink::Trial(trial) => {
                let (replay, founder) = &mut **trial;
                let (executed, _, diff) = founder.execute(replay, &block)?;
                replay.accept(&executed, diff);
            }
        }
        watch(number, 0);
    }
    let (mut height, mut hash) = ([0; 8], [0; 32]);
    take(input, &mut height, "its end")?;
    take(input, &mut hash, "its end")?;
    let replayed = match sink {
        Sink::Copy(mut copy) => copy.finish()?,
        Sink::Trial(trial) => trial.0.result(),
    };
    if (u64::from_le_bytes(height), hash) != (replayed.height, replayed.hash.0) {
        let words = format!("ends with another block than its last, {}", replayed.height);
        return Err(CopyError::Stream(words));
    }
    Ok(replayed)
}

/// The next frame; `None` at the end mark.
fn frame<T: BorshDeserialize>(input: &mut impl Read, what: &str) -> Result<Option<T>, CopyError> {
    let mut length = [0; 4];
    take(input, &mut length, what)?;
    let length = u32::from_le_bytes(length);
    if length == 0 {
        return Ok(None);
    }
    if length > MAX_FRAME {
        return Err(CopyError::Stream(format!(
            "says that {what} has {length} bytes; at most {MAX_FRAME} are allowed"
        )));
    }
    let mut bytes = Vec::new();
    let read = input.take(length.into()).read_to_end(&mut bytes);
    read.map_err(|e| CopyError::Stream(format!("{what} cannot be read: {e}")))?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(CopyError::Stream(format!("is cut off in {what}")));
    }
    let parsed = borsh::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|e| CopyError::Stream(format!("{what} is damaged: {e}")))
}

fn take(input: &mut impl Read, bytes: &mut [u8], what: &str) -> Result<(), CopyError> {
    input.read_exact(bytes).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => CopyError::Stream(format!("is cut off before {what}")),
        _ => CopyError::Stream(format!("{what} cannot be read: {e}")),
    })
}
