//! The real binary, as a shell sees it: what goes to stdout and stderr, and the exit code.
//! Nothing here needs root or a network beyond a closed port on loopback.

// The lint exempts test functions, not what they share.
#![allow(clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const OK: i32 = 0;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 4;

fn plumbline(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(arguments)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .expect("plumbline starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// Asserts a refusal: this code, nothing on stdout, and every one of `words` on stderr.
#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{err}");
    assert_eq!(out, "", "a refusal has no result");
    for word in words {
        assert!(err.contains(word), "{word:?} is not in:\n{err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

#[track_caller]
fn answered(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(OK), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn path(directory: &tempfile::TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

/// A directory with a key file `k`, and its path.
fn with_key() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = path(&directory, "k");
    answered(&plumbline(&["key", "new", "--out", &key]));
    (directory, key)
}

#[test]
fn a_key_is_made_once_and_shown_without_its_secrets() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = path(&directory, "a.key");
    let made = answered(&plumbline(&["key", "new", "--out", &key, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&made).expect("one JSON document");
    assert_eq!(json["file"], key.as_str());
    assert_eq!(json["network_key"].as_str().map(str::len), Some(64));
    assert!(
        json["address"]
            .as_str()
            .is_some_and(|a| a.starts_with("0x") && a.len() == 42)
    );
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(3));

    let mode = std::fs::metadata(&key)
        .expect("the file is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(answered(&plumbline(&["key", "show", &key, "--json"])), made);

    let secrets = std::fs::read_to_string(&key).expect("the file is text");
    let before = secrets.clone();
    let human = answered(&plumbline(&["key", "show", &key]));
    for secret in secrets.split('"').filter(|part| part.len() == 64) {
        assert!(!human.contains(secret) && !made.contains(secret));
    }
    refused(
        &plumbline(&["key", "new", "--out", &key]),
        USAGE,
        &[&key, "already exists"],
    );
    assert_eq!(std::fs::read_to_string(&key).expect("still there"), before);
}

#[test]
fn a_bad_key_file_is_refused_in_words_that_help() {
    let (directory, key) = with_key();
    let set =
        |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).expect("chmod");
    set(0o640);
    refused(
        &plumbline(&["key", "show", &key]),
        USAGE,
        &[&key, "mode 0640", "chmod 600"],
    );
    set(0o600);
    std::fs::write(&key, "network_secret = \"00ff\"\n").expect("write");
    refused(
        &plumbline(&["key", "show", &key]),
        USAGE,
        &["network_secret is 4 characters", "64 hexadecimal"],
    );
    std::fs::write(&key, "").expect("write");
    refused(
        &plumbline(&["key", "show", &key]),
        USAGE,
        &["empty", "plumbline key new"],
    );
    let none = path(&directory, "none");
    refused(
        &plumbline(&["key", "show", &none]),
        USAGE,
        &[&none, "No such file"],
    );
    refused(
        &plumbline(&["key", "new", "--out", "/no/such/directory/k"]),
        USAGE,
        &["/no/such/directory/k"],
    );
}

#[test]
fn every_mistake_of_a_configuration_is_shown_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = path(&directory, "p.toml");
    let lines = "roles = [\"prover\"]\n[prover]\ninterface = \"eth0\"\ndata_prot = 7301\nmaximum = 0\n\
        control_port = \"7302\"\n[node]\ncoordinator = \"https://a\"\n";
    std::fs::write(&config, lines).expect("write");
    let output = plumbline(&["run", "--config", &config]);
    refused(
        &output,
        USAGE,
        &[
            "6 mistakes",
            "key: missing",
            "prover.address: missing",
            &format!(
                "{config}:4: prover.data_prot = 7301: unknown key; did you mean `prover.data_port`?"
            ),
            &format!("{config}:5: prover.maximum = 0"),
            &format!("{config}:6: prover.control_port = \"7302\": wrong type"),
            "allowed: an integer from 1 to 65535",
            &format!("{config}:8: node.coordinator"),
        ],
    );
    assert_eq!(
        std::fs::read_dir(directory.path())
            .expect("readable")
            .count(),
        1,
        "something was started"
    );
    let none = path(&directory, "none.toml");
    refused(
        &plumbline(&["run", "--config", &none]),
        USAGE,
        &[&none, "cannot be read"],
    );
}

#[test]
fn check_accepts_a_good_configuration_and_starts_nothing() {
    let (directory, _key) = with_key();
    let config = path(&directory, "c.toml");
    std::fs::write(&config, "roles = [\"coordinator\"]\nkey = \"k\"\n").expect("write");
    // From elsewhere: paths are relative to the file, not to the caller.
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(["run", "--check", "--config", &config])
        .current_dir("/")
        .output()
        .expect("plumbline starts");
    assert_eq!(answered(&output), "ok\n");
    assert!(!Path::new(&path(&directory, "state")).exists());
    std::fs::write(&config, "roles = [\"coordinator\"]\nkey = \"gone\"\n").expect("write");
    refused(
        &plumbline(&["run", "--check", "--config", &config]),
        USAGE,
        &[&path(&directory, "gone")],
    );
}

#[test]
fn bad_arguments_say_what_is_allowed_before_anything_is_asked() {
    let (_directory, key) = with_key();
    let prover = format!("0x{}", "11".repeat(20));
    let measure = |more: &[&str]| {
        let base = [
            "measure",
            "--coordinator",
            "http://127.0.0.1:1",
            "--key",
            &key,
            "--prover",
            &prover,
        ];
        plumbline(&[&base[..], more].concat())
    };
    refused(&measure(&["--claim", "0"]), USAGE, &["a claim of 0"]);
    refused(&measure(&["--claim", "fast"]), USAGE, &["100mbit, 1gbit"]);
    refused(
        &measure(&["--claim", "1gbit", "--challengers", "3"]),
        USAGE,
        &["3f+1 = 4"],
    );
    refused(
        &measure(&["--claim", "1gbit", "--duration", "1ms"]),
        USAGE,
        &["from 10ms to 10s"],
    );
    refused(
        &measure(&["--claim", "100mbit", "--sustained"]),
        USAGE,
        &["takes 64s", "a claim of at least 640mbit"],
    );
    // Nobody answers the question.
    refused(
        &measure(&["--claim", "1gbit", "--sustained"]),
        USAGE,
        &["6400ms", "801 MB", "nothing was asked for or paid"],
    );
    refused(
        &measure(&["--claim", "1gbit", "--sustained", "--yes"]),
        UNREACHABLE,
        &["127.0.0.1:1"],
    );
    refused(
        &measure(&["--claim", "1gbit", "--bundle", "/no/such/directory/b"]),
        USAGE,
        &["existing directory"],
    );
    refused(&measure(&[]), USAGE, &["--claim"]);
    refused(
        &plumbline(&["chain", "request", "0x12", "--coordinator", "http://a:1"]),
        USAGE,
        &["64 hexadecimal"],
    );
    refused(
        &plumbline(&["verify", "/no/such/bundle"]),
        USAGE,
        &["/no/such/bundle"],
    );
    refused(&plumbline(&["juggle"]), USAGE, &["juggle"]);
    refused(&plumbline(&[]), USAGE, &["Usage"]);
}

#[test]
fn a_coordinator_that_does_not_answer_is_named() {
    let (_directory, key) = with_key();
    // A reserved port (tcpmux) that no test and no ephemeral socket takes.
    let url = "http://127.0.0.1:1";
    let prover = format!("0x{}", "11".repeat(20));
    let measure = [
        "measure",
        "--coordinator",
        url,
        "--key",
        &key,
        "--prover",
        &prover,
        "--claim",
        "1gbit",
    ];
    refused(&plumbline(&measure), UNREACHABLE, &[url]);
    refused(
        &plumbline(&["chain", "status", "--coordinator", url]),
        UNREACHABLE,
        &[url],
    );
}

#[test]
fn nothing_is_signed_on_the_word_of_a_coordinator_elsewhere() {
    let (directory, key) = with_key();
    let prover = format!("0x{}", "11".repeat(20));
    // A network for documents (RFC 5737): nobody is asked.
    let ask = ["--coordinator", "http://192.0.2.1:7300", "--key", &key];
    let measure = ["measure", "--prover", &prover, "--claim", "1gbit"];
    let words = [
        "http://192.0.2.1:7300 alone",
        "--deployment FILE",
        "--trust-coordinator",
    ];
    for verb in [
        &measure[..],
        &["stake", "add", "1"],
        &["chain", "withdraw"],
        &["dispute", "advance", &format!("0x{}", "22".repeat(32))],
    ] {
        refused(&plumbline(&[verb, &ask].concat()), USAGE, &words);
    }
    // A file that is none, and one that pins nothing, are named.
    let file = path(&directory, "pin.json");
    let pinned = [&measure[..], &ask, &["--deployment", &file]].concat();
    refused(
        &plumbline(&pinned),
        USAGE,
        &[&file, "No such file", "chain pin"],
    );
    std::fs::write(&file, "{}").expect("write");
    refused(&plumbline(&pinned), USAGE, &[&file, "missing field"]);
    refused(
        &plumbline(&["chain", "pin", "--out", "x"]),
        USAGE,
        &["--url", "--rpc"],
    );
}

#[test]
fn man_pages_and_completions_are_made() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pages = path(&directory, "man1");
    assert_eq!(answered(&plumbline(&["man", &pages])), "");
    let page =
        std::fs::read_to_string(Path::new(&pages).join("plumbline-measure.1")).expect("its page");
    assert!(
        page.contains("EXIT STATUS") && page.contains("challengers"),
        "{page}"
    );
    // One each; which, is said where they are made.
    let count = std::fs::read_dir(&pages).expect("readable").count();
    assert!(count > 18, "{count} pages");
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            answered(&plumbline(&["completions", shell])).contains("plumbline"),
            "{shell}"
        );
    }
    refused(
        &plumbline(&["man", "/proc/no/such"]),
        USAGE,
        &["/proc/no/such"],
    );
    refused(&plumbline(&["completions", "cmd.exe"]), USAGE, &["bash"]);
}

#[test]
fn a_full_or_closed_stdout_is_no_crash() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(["completions", "bash"])
        .stdout(Stdio::from(full))
        .output()
        .expect("plumbline starts");
    refused(&output, USAGE, &["standard output", "No space left"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_plumbline"))
        .args(["completions", "bash"])
        .stdout(Stdio::from(writer))
        .output()
        .expect("plumbline starts");
    refused(&output, OK, &[]);
}
