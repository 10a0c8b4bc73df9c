//! A damaged file is named, or the damage is where nothing is kept; it is never used without a word.

use std::path::Path;
use std::sync::Arc;

use plumbline::chain::embedded::{OpenError, Replayed, VerifyError, verify, verify_on};
use plumbline::chain::{ChainError, Embedded};
use redb::{Database, ReadableDatabase, TableDefinition};
use tempfile::TempDir;

use crate::platter::{Chance, Platter};
use crate::power::{full, open, run, seed};
use crate::world::{TestClock, genesis};

const SECTOR: usize = 512;
/// Damages in CI, and with `PLUMBLINE_FULL=1`.
const DAMAGES: (u64, u64) = (400, 8_000);

/// Changes some bytes of the file, and says how.
fn harm(bytes: &mut Vec<u8>, chance: &mut Chance) -> String {
    let sectors = bytes.len() / SECTOR;
    // Half of all hits go where there is something: most of a small file is empty.
    let mut at = chance.below(bytes.len());
    if chance.below(2) == 0 {
        while bytes[at] == 0 {
            at = chance.below(bytes.len());
        }
    }
    let sector = at / SECTOR * SECTOR;
    match chance.below(6) {
        0 | 1 => {
            bytes[at] ^= 1 << chance.below(8);
            format!("a bit of byte {at}")
        }
        2 => {
            // The header: which of its two slots is valid, and where the trees begin.
            let at = chance.below(320);
            bytes[at] ^= 1 << chance.below(8);
            format!("a bit of header byte {at}")
        }
        3 => {
            bytes[sector..sector + SECTOR].fill(0);
            format!("the sector at {sector} zeroed")
        }
        4 => {
            let other = chance.below(sectors) * SECTOR;
            bytes.copy_within(other..other + SECTOR, sector);
            format!("the sector at {sector} overwritten by that at {other}")
        }
        _ => {
            bytes.truncate(at);
            format!("cut off at {at}")
        }
    }
}

/// What came of a damage.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Found {
    AtOpening,
    ByVerify,
    Unused,
}

fn judge(bytes: &[u8], whole: &Replayed) -> Result<Found, String> {
    let name = Path::new("platter");
    let disk = || Platter::holding(bytes.to_vec());
    let opened = open(&disk());
    let verified = verify_on(disk(), name);
    let words = match (&opened, &verified) {
        (Err(e), _) => e.to_string(),
        (Ok(_), Err(e)) => e.to_string(),
        (Ok(_), Ok(_)) => String::new(),
    };
    if opened.is_err() && verified.is_ok() {
        return Err(format!(
            "verify has nothing against it, but it does not open: {words}"
        ));
    }
    match (opened, verified) {
        (_, Ok(found)) if found == *whole => Ok(Found::Unused),
        (_, Ok(found)) => Err(format!("used in silence: {found:?}")),
        (Err(_), Err(_)) if words.contains("platter: ") => Ok(Found::AtOpening),
        // The damage is in the vault's own sums: named as what it does to them.
        (Err(ChainError::NotConserved { .. }), Err(_)) => Ok(Found::AtOpening),
        (Ok(_), Err(VerifyError::Chain(ChainError::Open(OpenError::Damaged { .. })))) => {
            Ok(Found::ByVerify)
        }
        (_, Err(_)) => Err(format!("the words do not name the file: {words}")),
    }
}

#[test]
fn no_damage_is_used_in_silence() {
    let seed = seed();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let platter = Platter::default();
    runtime.block_on(run(&platter, 10));
    let bytes = platter.bytes();
    let whole = verify_on(platter, Path::new("platter")).unwrap();
    let wanted = if full() { DAMAGES.1 } else { DAMAGES.0 };
    let (mut counts, mut wrong) = ([0_u64; 3], Vec::new());
    for case in 0..wanted {
        let mut chance = Chance::new(seed.wrapping_add(case << 32));
        let mut harmed = bytes.clone();
        let how = harm(&mut harmed, &mut chance);
        match judge(&harmed, &whole) {
            Ok(found) => counts[found as usize] += 1,
            Err(why) => wrong.push(format!("case {case}, {how}: {why}")),
        }
    }
    println!(
        "damage: {wanted} cases, {} refused at opening, {} named by verify, {} where nothing is kept, \
         {} wrong",
        counts[0],
        counts[1],
        counts[2],
        wrong.len()
    );
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(
        wrong.is_empty(),
        "PLUMBLINE_SEED={seed} repeats: {wrong:#?}"
    );
}

fn refused(dir: &Path) -> String {
    let opened = Embedded::open(dir, &genesis(), TestClock::new().options());
    let told = opened.unwrap_err().to_string();
    let verified = verify(dir).unwrap_err().to_string();
    let file = dir.join("chain.redb").display().to_string();
    assert!(
        told.contains(&file) && verified.contains(&file),
        "{told} / {verified}"
    );
    told
}

#[test]
fn each_kind_of_unusable_file_has_its_sentence() {
    let dir = TempDir::new().unwrap();
    let options = || TestClock::new().options();
    let missing = verify(dir.path()).unwrap_err().to_string();
    assert!(missing.contains("there is no such file"), "{missing}");
    let chain = Embedded::open(dir.path(), &genesis(), options()).unwrap();
    let told = refused(dir.path());
    assert!(told.contains("in use by another process"), "{told}");
    assert!(Arc::into_inner(chain).is_some());
    let whole = verify(dir.path()).unwrap();

    let file = dir.path().join("chain.redb");
    let bytes = std::fs::read(&file).unwrap();
    let with = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        refused(dir.path())
    };
    assert!(with(b"").contains("it is empty"));
    assert!(with(b"no chain").contains("does not begin as one, or is too short"));
    assert!(with(&[7; 8192]).contains("does not begin as one"));
    assert!(with(&bytes[..4095]).contains("too short"));
    let cut = with(&bytes[..bytes.len() / 2]);
    assert!(cut.contains("damaged") && cut.contains("restore"), "{cut}");

    std::fs::write(&file, &bytes).unwrap();
    assert_eq!(verify(dir.path()).unwrap(), whole);
    // Looking changed nothing.
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
    set_format(&file, 99);
    let told = refused(dir.path());
    assert!(told.contains("of format 99, this program knows"), "{told}");
}

/// Makes the founding record one of another format.
fn set_format(file: &Path, format: u32) {
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    let database = Database::open(file).unwrap();
    let read = database.begin_read().unwrap().open_table(META).unwrap();
    let bytes = read.get("genesis").unwrap().unwrap().value().to_vec();
    drop(read);
    let mut record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    record["format"] = format.into();
    let write = database.begin_write().unwrap();
    let bytes = record.to_string().into_bytes();
    write
        .open_table(META)
        .unwrap()
        .insert("genesis", bytes.as_slice())
        .unwrap();
    write.commit().unwrap();
}
