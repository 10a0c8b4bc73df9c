//! Nobody can be made to sign twice: a prover and a challenger are killed in the middle of a session, with
//! their journals as they are, and without; and the disk under a journal fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use plumbline::config::Role;
use plumbline::journal::{Asked, Journal};
use plumbline_lab::Host;
use plumbline_proof::backhaul::messages::{Commit, Statement};
use plumbline_trust::encoding::decode;
use plumbline_trust::identity::{Address, NetworkKey, Signed};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::crash::{FLOOD, INSTANT, ended, step_is, towards_prover};
use crate::stage::{OK, Stage, until};

const LINK: u64 = 100_000_000;
const ASKING: &str = "--faucet --claim 90mbit --challengers 4 --duration 400ms --deadline 10s";
/// As `appliance/src/journal.rs` has it.
#[allow(clippy::type_complexity)]
const SIGNED: TableDefinition<'_, (&[u8; 20], &[u8; 32], u8, &str), &[u8]> =
    TableDefinition::new("signed");

/// What was signed: (who, challenge, phase, kind) and the BLAKE3 of each wording.
#[derive(Default)]
struct Signatures(BTreeMap<(String, String, u8, String), BTreeSet<String>>);

impl Signatures {
    /// Takes what a journal holds; its daemon must not run.
    fn journal(&mut self, who: Host, file: &Path) {
        let database = Database::open(file).unwrap();
        let table = database.begin_read().unwrap().open_table(SIGNED).unwrap();
        for row in table.iter().unwrap() {
            let (place, entry) = row.unwrap();
            let (_, challenge, phase, kind) = place.value();
            let hash = match entry.value().split_first().unwrap() {
                (0, bytes) => blake3::hash(bytes).to_hex().to_string(),
                (_, hash) => hex::encode(hash),
            };
            let place = (
                who.to_string(),
                hex::encode(challenge),
                phase,
                kind.to_owned(),
            );
            self.0.entry(place).or_default().insert(hash);
        }
    }

    /// Takes what the coordinator was told in a session.
    fn log(&mut self, stage: &Stage, id: &str, names: &BTreeMap<[u8; 32], Host>) {
        let lines = stage
            .get(&format!("/v1/sessions/{id}/events?after=0"))
            .json();
        for line in lines["items"].as_array().unwrap() {
            let bytes = hex::decode(line["message"].as_str().unwrap()).unwrap();
            let statement: Statement = decode(&bytes).unwrap();
            let signed = statement.signed();
            let Some(who) = names.get(&signed.key.0) else {
                continue;
            };
            let phase = match &statement {
                Statement::Start(_)
                | Statement::Commit(_)
                | Statement::Reveal(_)
                | Statement::Report(_) => signed.body[32],
                _ => 0,
            };
            let challenge = id.trim_start_matches("0x").to_owned();
            let place = (
                who.to_string(),
                challenge,
                phase,
                statement.name().to_owned(),
            );
            let hash = blake3::hash(&bytes).to_hex().to_string();
            self.0.entry(place).or_default().insert(hash);
        }
    }

    #[track_caller]
    fn hold_one_wording_each(&self, kinds: &[&str]) {
        for (place, wordings) in &self.0 {
            assert_eq!(wordings.len(), 1, "{place:?}");
        }
        for kind in kinds {
            assert!(
                self.0.keys().any(|p| p.3 == *kind),
                "nobody signed a {kind}"
            );
        }
    }
}

/// Kills a daemon at an instant of a session, does something to its journal, starts it again, and waits for
/// the request's end and for the reason why it serves the session no more.
#[track_caller]
fn killed_at(
    stage: &mut Stage,
    host: Host,
    instant: impl Fn(&Stage),
    (meddle, words): (impl FnOnce(&Path), &str),
) -> String {
    let mut payer = stage.ask(ASKING);
    instant(stage);
    let id = stage.open_sessions()[0]["id"].as_str().unwrap().to_owned();
    stage.cast.kill(host).expect("it is killed");
    meddle(&stage.cast.state(host));
    stage.start(host);
    let log = stage.cast.process(host).unwrap().log().to_owned();
    until("the reason", INSTANT, || {
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains(words).then_some(())
    });
    let outcome = stage.outcome(&mut payer);
    ended(&format!("{host}: {words}"), &outcome);
    stage.nothing_is_locked();
    id
}

#[test]
fn a_prover_and_a_challenger_killed_in_the_middle_or_without_a_journal_never_sign_twice() {
    let mut stage = Stage::running(4, LINK);
    let aside = stage.directory.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let (served, older) = (
        "was served before",
        "only requests after the start are served",
    );
    let (prover, challenger) = (Host::Prover, Host::Challenger(0));
    let leave = |_: &Path| {};
    let away = |name: &str| {
        let to = aside.join(name);
        move |state: &Path| std::fs::rename(state.join("journal.redb"), &to).unwrap()
    };
    let set_up = |stage: &Stage| step_is(stage, &["consent", "begun", "ready"]);
    let flooding = |stage: &Stage| {
        let idle = towards_prover(stage);
        until("a flood", INSTANT, || {
            (towards_prover(stage) > idle + FLOOD).then_some(())
        });
    };
    let ids = [
        killed_at(&mut stage, prover, set_up, (leave, served)),
        killed_at(&mut stage, prover, flooding, (leave, served)),
        killed_at(&mut stage, prover, set_up, (away("prover"), older)),
        killed_at(&mut stage, challenger, set_up, (leave, served)),
        killed_at(&mut stage, challenger, flooding, (leave, served)),
        killed_at(&mut stage, challenger, set_up, (away("challenger"), older)),
    ];
    // What is asked for now is served by both.
    let outcome = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(
        (outcome.code, &outcome.json()["verdict"]),
        (OK, &"Pass".into())
    );

    let mut signatures = Signatures::default();
    let mut names = BTreeMap::new();
    for host in [prover, challenger] {
        let keys = plumbline::keyfile::Keys::load(&stage.cast.key(host)).unwrap();
        names.insert(keys.network_key().0, host);
    }
    for id in &ids {
        signatures.log(&stage, id, &names);
    }
    for host in [prover, challenger] {
        stage.cast.stop(host).expect("it stops");
        signatures.journal(host, &stage.cast.state(host).join("journal.redb"));
    }
    signatures.journal(prover, &aside.join("prover"));
    signatures.journal(challenger, &aside.join("challenger"));
    signatures.hold_one_wording_each(&["consent", "start", "commit", "reveal", "report"]);
    stage.end();
}

#[test]
fn a_coordinator_that_lost_its_log_does_not_run_again_what_the_chain_shows_begun() {
    let mut stage = Stage::running(4, LINK);
    let lose = |state: &Path| std::fs::remove_file(state.join("sessions.redb")).unwrap();
    let words = "the log here does not hold it";
    let begun = |stage: &Stage| step_is(stage, &["begun", "ready"]);
    killed_at(&mut stage, Host::Coordinator, begun, (lose, words));
    let outcome = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(
        (outcome.code, &outcome.json()["verdict"]),
        (OK, &"Pass".into())
    );
    stage.end();
}

/// A small disk of its own; gone with it.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(size: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(place.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting needs root");
        Self(place)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_signing_and_loses_nothing() {
    const CHALLENGE: [u8; 32] = [7; 32];
    let commit = |packets, challengers| {
        let commit = Commit {
            challenge: CHALLENGE,
            phase: 0,
            packets,
            counts: vec![1; challengers],
            response: [2; 32],
            arrivals: (3, 4),
        };
        Signed::new(&NetworkKey::from_secret(&[1; 32]), &commit)
    };
    let disk = Disk::of("16m");
    let me = Address([1; 20]);
    let journal = Journal::open(disk.0.path(), &me).unwrap();
    let asked = Asked {
        block: 2,
        started: 1,
    };
    let seat = journal.begin(Role::Prover, &CHALLENGE, asked).unwrap();
    seat.keep(Statement::Commit(commit(1, 4))).unwrap();
    // Fill what is left.
    let filler = disk.0.path().join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let full = std::iter::repeat_with(|| std::io::Write::write(&mut file, &[0; 4096]))
        .find_map(Result::err)
        .unwrap();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    drop(file);
    // Longer than what the file has to spare.
    let long = Statement::Reveal(commit(2, 1 << 20));
    let refused = seat.keep(long.clone()).unwrap_err().to_string();
    assert!(
        refused.contains("journal.redb: ") && refused.contains("disk is not full"),
        "{refused}"
    );
    // A little may still fit, or not; it is never another wording.
    assert!(seat.keep(Statement::Commit(commit(9, 4))).is_err());
    std::fs::remove_file(&filler).unwrap();
    // With room again the same journal signs, and knows what it signed.
    seat.keep(long).unwrap();
    seat.keep(Statement::Commit(commit(1, 4))).unwrap();
    let other = seat.keep(Statement::Commit(commit(9, 4))).unwrap_err();
    assert!(other.to_string().contains("another commit"), "{other}");
    drop((seat, journal));
    let journal = Journal::open(disk.0.path(), &me).unwrap();
    assert!(journal.begin(Role::Prover, &CHALLENGE, asked).is_err());
    assert_eq!(journal.again(&CHALLENGE).unwrap().len(), 2);
}
