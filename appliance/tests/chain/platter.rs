//! A disk whose power fails: it remembers every write and every sync, and shows what could be left.
//!
//! ```text
//!   redb ── write, set_len, sync ──► Platter ── journal ──► after(cut, chance) ──► the bytes that survive
//!                                                 synced: all of them
//!                                                 not synced: each sector any version that it was given
//! ```
//!
//! A sector (512 B) is written whole or not at all, which is what disks promise; between two syncs they
//! may be written in any order, so each sector that was written several times may hold any of those
//! versions, or the one before. The length is as uncertain as the bytes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

/// What disks write whole.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Entry {
    Write(u64, Vec<u8>),
    Length(u64),
    Sync,
}

/// A xorshift generator: a failing case is repeated by its seed.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for _ in 0..4 {
            chance.next();
        }
        chance
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One of `0..bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

#[derive(Debug, Default)]
struct Inner {
    before: Vec<u8>,
    now: Vec<u8>,
    journal: Vec<Entry>,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Platter(Arc<Mutex<Inner>>);

/// What a power loss left.
pub(crate) struct Left {
    pub(crate) bytes: Vec<u8>,
    /// Some unsynced sectors were kept, and some lost.
    pub(crate) torn: bool,
}

impl Platter {
    /// A disk that holds `bytes`, synced.
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            now: bytes.clone(),
            before: bytes,
            journal: Vec::new(),
        })))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().now.clone()
    }

    /// Entries in the journal so far: an instant at which power may fail.
    pub(crate) fn instant(&self) -> usize {
        self.0.lock().unwrap().journal.len()
    }

    /// Whether the entry before `instant` is a sync.
    pub(crate) fn is_synced_at(&self, instant: usize) -> bool {
        let inner = self.0.lock().unwrap();
        instant > 0 && matches!(inner.journal[instant - 1], Entry::Sync)
    }

    /// What is left if power fails right before entry `cut`, or in the middle of it.
    pub(crate) fn after(&self, cut: usize, chance: &mut Chance) -> Left {
        let inner = self.0.lock().unwrap();
        let journal = &inner.journal[..cut];
        let synced = journal.iter().rposition(|e| matches!(e, Entry::Sync));
        let (synced, open) = journal.split_at(synced.map_or(0, |at| at + 1));
        let mut bytes = inner.before.clone();
        for entry in synced {
            apply(&mut bytes, entry);
        }
        // How likely a sector is to be written: none, few, half, most, all.
        let likely = [0, 10, 50, 90, 100][chance.below(5)];
        let whole_writes = chance.below(2) == 0;
        let mut lengths = vec![bytes.len()];
        let mut versions: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        let (mut kept, mut lost) = (0, 0);
        let mut running = bytes.clone();
        for entry in open {
            apply(&mut running, entry);
            lengths.push(running.len());
            let Entry::Write(offset, data) = entry else {
                continue;
            };
            let start = usize::try_from(*offset).unwrap();
            let write = chance.below(100) < likely;
            for sector in start / SECTOR..(start + data.len()).div_ceil(SECTOR) {
                let written = if whole_writes {
                    write
                } else {
                    chance.below(100) < likely
                };
                // One that is written may be written before another version of itself: then it is lost.
                let late = versions.contains_key(&sector) && chance.below(4) == 0;
                if written && !late {
                    let end = ((sector + 1) * SECTOR).min(running.len());
                    versions.insert(sector, running[sector * SECTOR..end].to_vec());
                    kept += 1;
                } else {
                    lost += 1;
                }
            }
        }
        // Most filesystems write lengths in order, but not when.
        let length = lengths[chance.below(lengths.len())];
        bytes.resize(length, 0);
        for (sector, data) in versions {
            let start = sector * SECTOR;
            if start < length {
                let end = (start + data.len()).min(length);
                bytes[start..end].copy_from_slice(&data[..end - start]);
            }
        }
        let torn = kept > 0 && lost > 0;
        Left { bytes, torn }
    }
}

fn apply(bytes: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Write(offset, data) => {
            let start = usize::try_from(*offset).unwrap();
            let end = start + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[start..end].copy_from_slice(data);
        }
        Entry::Length(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        Entry::Sync => {}
    }
}

impl StorageBackend for Platter {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock().unwrap();
        let start = usize::try_from(offset).unwrap();
        let there = inner.now.get(start..start + out.len());
        let there = there.ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Entry::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Entry::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Entry::Write(offset, data.to_vec()));
        Ok(())
    }
}

impl Platter {
    fn note(&self, entry: Entry) {
        let mut inner = self.0.lock().unwrap();
        apply(&mut inner.now, &entry);
        inner.journal.push(entry);
    }
}
