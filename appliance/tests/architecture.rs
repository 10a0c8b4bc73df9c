//! The documents against the tree: what they name exists, and what exists is named.
//!
//! ```text
//!  document ─► `code spans` ─┬─ looks like a path ──────► exists, from the repository's root
//!                            └─ path.rs::test_name ─────► that file has such a function
//!           └► [links](…) ──────────────────────────────► exist, from the document's directory
//!  tree ─► top level, modules, xtask's verbs ───────────► are in ARCHITECTURE.md
//! ```
//!
//! What a document says about a file is not checked, only that the file is there. Needs no privilege.

// The lint exempts test functions, not what they share.
#![allow(clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents whose paths are checked.
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "appliance/ARCHITECTURE.md",
    "appliance/docs/protocol.md",
    "appliance/docs/operations.md",
    "appliance/docs/chain.md",
    "appliance/docs/decisions/0001-af-xdp-binding.md",
    "bench/README.md",
];
const MAP: &str = "appliance/ARCHITECTURE.md";
/// Heading of the code map's section.
const CODE_MAP: &str = "## Code map";
/// Files of these kinds are named by their path and nothing else.
const EXTENSIONS: [&str; 9] = [
    ".rs", ".md", ".toml", ".sol", ".mjs", ".json", ".o", ".service", ".conf",
];
/// Directories whose every module the code map names.
const MAPPED: [&str; 11] = [
    "appliance/src",
    "appliance/wire/src",
    "appliance/trust/src",
    "appliance/proof/src/backhaul",
    "appliance/contracts/src",
    "appliance/contracts/solidity",
    "appliance/tests",
    "bench/attack/src",
    "bench/eval/src",
    "bench/lab/src",
    "xtask/src",
];
/// Entries that are no module: what is compiled or fetched, records of tools.
const NOT_MODULES: [&str; 7] = [
    "lib.rs",
    "mod.rs",
    "node_modules",
    "package.json",
    "package-lock.json",
    "proptest-regressions",
    ".gitignore",
];

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .expect("the crate has a parent")
        .to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| unreadable(path, &e))
}

#[allow(clippy::panic)] // a test fails by panicking
fn unreadable(path: &str, error: &std::io::Error) -> ! {
    panic!("{path}: {error}")
}

/// The document without its fenced blocks: drawings and commands are not references.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// What stands between single backticks, line by line.
fn spans(text: &str) -> Vec<String> {
    let line_spans = |line: &str| -> Vec<String> {
        line.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    prose(text).lines().flat_map(line_spans).collect()
}

/// Entries of the repository's top level that git keeps.
fn top_level(root: &Path) -> BTreeSet<String> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git lists the files");
    assert!(listed.status.success(), "git: {listed:?}");
    // What somebody wrote here by hand, a result for instance, is no part of the house.
    let wrote = |name: &str| !name.contains('/') && !is_tracked(root, name);
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|path| !wrote(path))
        .filter_map(|path| path.split('/').next().map(str::to_owned))
        .collect()
}

fn is_tracked(root: &Path, name: &str) -> bool {
    let found = std::process::Command::new("git")
        .args(["ls-files", "--error-unmatch", name])
        .current_dir(root)
        .output()
        .expect("git lists the files");
    found.status.success()
}

/// The path that a code span names, if it names one: it has a known ending, or begins with an entry
/// of the top level. Absolute paths are the machine's, patterns and placeholders nobody's.
fn path_of(span: &str, top: &BTreeSet<String>) -> Option<String> {
    let path = span.split("::").next().unwrap_or(span);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if path.starts_with('/') || path.contains("//") || !path.chars().all(plain) {
        return None;
    }
    let first = path.split('/').next().unwrap_or(path);
    // `.rs` alone speaks of a kind of file.
    let known = EXTENSIONS
        .iter()
        .any(|e| path.ends_with(e) && path.len() > e.len());
    let inside = path.contains('/') && top.contains(first);
    (known || inside || path.ends_with('/')).then(|| path.trim_end_matches('/').to_owned())
}

/// What a document names and the tree does not have.
fn missing(text: &str, document: &str, root: &Path) -> Vec<String> {
    let top = top_level(root);
    let mut wrong = Vec::new();
    for span in spans(text) {
        let Some(path) = path_of(&span, &top) else {
            continue;
        };
        let file = root.join(&path);
        if !file.exists() {
            wrong.push(format!("{document}: `{span}`: no such path"));
        } else if let Some((_, test)) = span.split_once("::") {
            let source = fs::read_to_string(&file).unwrap_or_default();
            if !source.contains(&format!("fn {test}(")) {
                wrong.push(format!("{document}: `{span}`: no such function there"));
            }
        }
    }
    let directory = root
        .join(document)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    for target in prose(text)
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        let target = target.split('#').next().unwrap_or(target);
        if !target.is_empty() && !target.contains("://") && !directory.join(target).exists() {
            wrong.push(format!("{document}: link to {target}: no such file"));
        }
    }
    wrong
}

/// The code map's section.
fn code_map(text: &str) -> &str {
    let after = text.split_once(CODE_MAP).map_or("", |(_, after)| after);
    after
        .split_once("\n## ")
        .map_or(after, |(section, _)| section)
}

/// The file that speaks for a path of the code map: itself, or the root of its module or crate.
fn speaker(path: &Path) -> Option<PathBuf> {
    if path.is_file() {
        return path
            .extension()
            .is_some_and(|e| e == "rs")
            .then(|| path.to_owned());
    }
    let roots = ["mod.rs", "main.rs", "lib.rs", "src/lib.rs", "src/main.rs"];
    roots
        .iter()
        .map(|name| path.join(name))
        .find(|file| file.exists())
}

#[test]
fn every_path_link_and_test_that_the_documents_name_exists() {
    let wrong: Vec<String> = DOCUMENTS
        .iter()
        .flat_map(|document| missing(&read(document), document, &root()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_entry_of_the_top_level_is_mentioned() {
    let named: BTreeSet<String> = spans(&read(MAP))
        .iter()
        .filter_map(|s| s.split('/').next().map(str::to_owned))
        .collect();
    let silent: Vec<String> = top_level(&root())
        .into_iter()
        .filter(|e| !named.contains(e))
        .collect();
    assert!(
        silent.is_empty(),
        "{MAP} does not mention: {}",
        silent.join(", ")
    );
}

#[test]
fn every_module_is_in_the_code_map_and_opens_with_what_it_is() {
    let text = read(MAP);
    let top = top_level(&root());
    let mapped: BTreeSet<String> = spans(code_map(&text))
        .iter()
        .filter_map(|s| path_of(s, &top))
        .collect();
    let mut wrong = Vec::new();
    for directory in MAPPED {
        for entry in fs::read_dir(root().join(directory)).expect("a mapped directory can be listed")
        {
            let name = entry
                .expect("an entry can be read")
                .file_name()
                .to_string_lossy()
                .into_owned();
            let path = format!("{directory}/{name}");
            if !NOT_MODULES.contains(&name.as_str()) && !mapped.contains(&path) {
                wrong.push(format!("{MAP}: the code map lacks `{path}`"));
            }
        }
    }
    for path in &mapped {
        if let Some(file) = speaker(&root().join(path)) {
            let opens = fs::read_to_string(&file)
                .unwrap_or_default()
                .starts_with("//! ");
            if !opens {
                wrong.push(format!(
                    "{}: does not open with `//! ` and what it is",
                    file.display()
                ));
            }
        }
    }
    assert!(
        !mapped.is_empty() && wrong.is_empty(),
        "{}",
        wrong.join("\n")
    );
}

#[test]
fn the_readme_has_one_place_for_the_demos_output() {
    let text = read("README.md");
    let (opened, closed) = ("<!-- demo output -->", "<!-- /demo output -->");
    assert_eq!(
        (text.matches(opened).count(), text.matches(closed).count()),
        (1, 1)
    );
    let inside = text
        .split_once(opened)
        .and_then(|(_, rest)| rest.split_once(closed));
    let shown = inside.map_or("", |(shown, _)| shown);
    for row in [
        "verdict",
        "measured",
        "guaranteed",
        "unaccounted",
        "conserved",
        "verify",
    ] {
        assert!(
            shown.contains(row),
            "the demo's output in README.md has no {row}"
        );
    }
}

#[test]
fn what_is_not_there_is_found_and_what_is_no_path_is_left_alone() {
    let good = "`README.md` `appliance/` `appliance/src/lib.rs` `Cargo.toml` [here](README.md#units) \
                `appliance/tests/architecture.rs::prose` `bit/s` `/etc/plumbline/x.toml` `.rs` \
                `appliance/*.rs` `GET /healthz` `n/2` `--json FILE.json`\n```\n`gone.md`\n```\n";
    assert_eq!(missing(good, "README.md", &root()), Vec::<String>::new());
    for bad in [
        "`gone.md`",
        "`aplliance/src/lib.rs`",
        "`appliance/gone`",
        "`gone/`",
        "`appliance/tests/architecture.rs::gone`",
        "[here](gone.html)",
        "[here](appliance/gone.md#part)",
    ] {
        assert_eq!(missing(bad, "README.md", &root()).len(), 1, "{bad}");
    }
    assert_eq!(code_map("## Code map\na\n## Next\nb").trim(), "a");
}
