//! `cargo xtask contracts [--check]`: Solidity in, artifacts out.
//!
//! The compiler and the library are npm packages pinned by `package-lock.json`; the artifacts they make
//! are committed, so that building the product needs neither. `--check` builds them anew and compares.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Folder of the sources, below `appliance/contracts/solidity`, and where their artifacts are committed:
/// the product's, and what only tests deploy.
const SETS: [(&str, &str); 2] = [
    ("", "appliance/contracts/artifacts"),
    ("test", "appliance/tests/money/artifacts"),
];

/// Rebuilds the artifacts of every set, or with `check` compares them with a fresh build.
///
/// # Errors
/// If node or npm is missing or fails, if a source does not compile, if the files cannot be written,
/// or with `check` if an artifact is stale, missing or left over.
pub fn run(check: bool) -> Result<()> {
    let root = root()?;
    let solidity = root.join("appliance/contracts/solidity");
    let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    execute("npm", Command::new("npm").args(ci).current_dir(&solidity))?;
    for (folder, place) in SETS {
        set(&root, &solidity, folder, place, check)?;
    }
    Ok(())
}

fn set(root: &Path, solidity: &Path, folder: &str, place: &str, check: bool) -> Result<()> {
    let committed = root.join(place);
    // Built beside `node_modules`, which git ignores, and moved only when the whole build is good.
    let built = solidity.join("node_modules/.artifacts");
    remove(&built)?;
    let mut node = Command::new("node");
    node.arg("build.mjs").arg(&built).current_dir(solidity);
    if !folder.is_empty() {
        node.arg(folder);
    }
    execute("node", &mut node)?;
    let fresh = read(&built)?;
    if check {
        return compare(place, &fresh, &read(&committed)?);
    }
    remove(&committed)?;
    fs::create_dir_all(&committed)?;
    for (name, bytes) in &fresh {
        let path = committed.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    remove(&built)
}

/// The repository this program was built from.
fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask has no parent directory")?;
    Ok(root.to_path_buf())
}

fn execute(program: &str, command: &mut Command) -> Result<()> {
    let output = match command.output() {
        Ok(output) => output,
        Err(e) if e.kind() == ErrorKind::NotFound => bail!(
            "{program} is not installed; it is needed to compile the contracts: \
             `apt-get install nodejs npm` (Debian, Ubuntu) or https://nodejs.org"
        ),
        Err(e) => return Err(e).with_context(|| format!("cannot run {program}")),
    };
    if !output.status.success() {
        bail!(
            "{program} ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// File name to contents.
fn read(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(files),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", folder.display())),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let bytes = fs::read(entry.path())
            .with_context(|| format!("cannot read {}", entry.path().display()))?;
        files.insert(name, bytes);
    }
    Ok(files)
}

fn compare(
    place: &str,
    fresh: &BTreeMap<String, Vec<u8>>,
    committed: &BTreeMap<String, Vec<u8>>,
) -> Result<()> {
    let mut wrong = Vec::new();
    for name in fresh.keys().chain(committed.keys()) {
        let what = match (fresh.get(name), committed.get(name)) {
            (Some(a), Some(b)) if a == b => continue,
            (Some(_), Some(_)) => "is stale",
            (Some(_), None) => "is missing",
            (None, _) => "has no source",
        };
        let line = format!("{place}/{name} {what}");
        if !wrong.contains(&line) {
            wrong.push(line);
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "{}\nrun `cargo xtask contracts` and commit the result",
        wrong.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        list.iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn equal_passes_and_each_difference_is_named() {
        let fresh = files(&[("A.json", "1"), ("B.json", "2")]);
        compare("place", &fresh, &fresh).unwrap();
        let told = compare("place", &fresh, &files(&[("A.json", "0"), ("C.json", "3")]))
            .unwrap_err()
            .to_string();
        assert!(told.contains("A.json is stale"), "{told}");
        assert!(told.contains("B.json is missing"), "{told}");
        assert!(told.contains("C.json has no source"), "{told}");
    }
}
