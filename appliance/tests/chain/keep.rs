//! Backup, restore, export, import: the same chain elsewhere, or a sentence.

use std::path::Path;
use std::sync::Arc;

use plumbline::chain::embedded::{
    CopyError, Replayed, backup, export, import, is_export, restore, verify, verify_export,
};
use plumbline::chain::{ChainClient, Embedded};
use tempfile::TempDir;

use crate::platter::Chance;
use crate::power::seed;
use crate::world::{TestClock, genesis, key, tick};

fn open(dir: &Path) -> Arc<Embedded> {
    Embedded::open(dir, &genesis(), TestClock::new().options()).unwrap()
}

/// A stopped chain of some blocks.
async fn stopped(blocks: usize) -> (TempDir, Replayed) {
    let dir = TempDir::new().unwrap();
    let chain = open(dir.path());
    let client = ChainClient::in_process(&chain, key(2));
    for _ in 0..blocks {
        tick(&client).await;
    }
    drop(client);
    assert!(Arc::into_inner(chain).is_some());
    let whole = verify(dir.path()).unwrap();
    (dir, whole)
}

fn exported(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    export(dir, &mut bytes, &mut |_, _| {}).unwrap();
    bytes
}

#[tokio::test]
async fn a_backup_is_the_chain_and_overwrites_nothing() {
    let (dir, whole) = stopped(4).await;
    let place = TempDir::new().unwrap();
    let (out, new) = (place.path().join("backup"), place.path().join("new"));
    let mut seen = (0, 1);
    let found = backup(dir.path(), &out, &mut |done, of| seen = (done, of)).unwrap();
    assert_eq!((found, seen.0), (whole.clone(), seen.1));
    let again = backup(dir.path(), &out, &mut |_, _| {}).unwrap_err();
    assert!(matches!(again, CopyError::Occupied(_)), "{again}");
    assert_eq!(restore(&out, &new, &mut |_, _| {}).unwrap(), whole);
    let again = restore(&out, &new, &mut |_, _| {}).unwrap_err();
    assert!(
        again.to_string().contains("is never overwritten"),
        "{again}"
    );
    let left: Vec<_> = std::fs::read_dir(&new).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let chain = open(&new);
    let running = backup(&new, &place.path().join("2"), &mut |_, _| {}).unwrap_err();
    assert!(
        running.to_string().contains("in use by another process"),
        "{running}"
    );
    assert!(!place.path().join("2").exists());
    let client = ChainClient::in_process(&chain, key(2));
    assert_eq!(tick(&client).await.block, whole.height + 1);

    // A damaged backup takes nobody's place.
    let mut bytes = std::fs::read(&out).unwrap();
    let middle = bytes.len() / 3;
    bytes.truncate(middle);
    std::fs::write(&out, &bytes).unwrap();
    let other = place.path().join("other");
    let told = restore(&out, &other, &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(told.contains("damaged") && !other.exists(), "{told}");
}

#[tokio::test]
async fn an_export_gives_the_same_roots_and_no_changed_byte_does() {
    let (dir, whole) = stopped(4).await;
    let bytes = exported(dir.path());
    assert!(is_export(&bytes) && !is_export(&bytes[1..]));
    assert_eq!(exported(dir.path()), bytes);
    let place = TempDir::new().unwrap();
    let watch = &mut |_, _| {};
    assert_eq!(verify_export(&mut bytes.as_slice(), watch).unwrap(), whole);
    assert_eq!(
        import(&mut bytes.as_slice(), place.path(), watch).unwrap(),
        whole
    );
    assert_eq!(verify(place.path()).unwrap(), whole);
    assert_eq!(exported(place.path()), bytes);
    let again = import(&mut bytes.as_slice(), place.path(), watch).unwrap_err();
    assert!(matches!(again, CopyError::Occupied(_)), "{again}");

    let seed = seed();
    let mut chance = Chance::new(seed);
    for case in 0..150 {
        let at = chance.below(bytes.len());
        let mut changed = bytes.clone();
        changed[at] ^= 1 << chance.below(8);
        let told = verify_export(&mut changed.as_slice(), watch);
        assert!(
            told.is_err(),
            "PLUMBLINE_SEED={seed}, case {case}: byte {at} changes nothing"
        );
        let cut = verify_export(&mut &bytes[..at], watch)
            .unwrap_err()
            .to_string();
        let words = cut.contains("cut off") || cut.contains("is no exported chain");
        assert!(
            words,
            "PLUMBLINE_SEED={seed}, case {case}: cut at {at}: {cut}"
        );
    }
    // A length that nobody would send costs nothing.
    let mut long = bytes[..16].to_vec();
    long.extend(u32::MAX.to_le_bytes());
    let told = verify_export(&mut long.as_slice(), watch).unwrap_err();
    assert!(told.to_string().contains("are allowed"), "{told}");
}
