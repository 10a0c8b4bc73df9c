//! Foundry's anvil: the other chain of the demo and of the conformance tests, as a process.
//!
//! It is the npm package of one platform (the general one names platforms that not every registry has),
//! pinned by `xtask/anvil/package-lock.json`, installed into `target/tools/anvil`;
//! its scripts are not run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// The environment variable in which tests find the program.
pub(crate) const VARIABLE: &str = "PLUMBLINE_ANVIL";

/// Installs the pinned version unless it is there, and returns the program.
///
/// # Errors
/// npm is missing or fails, or there is no anvil for this machine.
pub(crate) fn install(say: &dyn Fn(&str)) -> Result<PathBuf> {
    let pinned = cargo::root().join("xtask/anvil");
    let tools = cargo::root().join("target/tools/anvil");
    let program = program(&tools)?;
    let lock = "package-lock.json";
    let wanted = read(&pinned.join(lock))?;
    // The lock is copied last: where it lies, the installation was completed.
    if program.is_file() && fs::read(tools.join(lock)).is_ok_and(|found| found == wanted) {
        return Ok(program);
    }
    say("anvil: npm ci --ignore-scripts (target/tools/anvil, about 43 MB)");
    let work = tools.with_extension("new");
    remove(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    for (name, bytes) in [
        ("package.json", read(&pinned.join("package.json"))?),
        (lock, wanted),
    ] {
        let path = work.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(&work)
        .output()
        .context(
            "cannot run npm: `apt-get install nodejs npm` (Debian, Ubuntu) or https://nodejs.org",
        )?;
    if !output.status.success() {
        bail!(
            "npm ended with {} in {}:\n{}",
            output.status,
            work.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    remove(&tools)?;
    fs::rename(&work, &tools).with_context(|| format!("cannot make {}", tools.display()))?;
    if !program.is_file() {
        bail!("npm installed no {}", program.display());
    }
    say("anvil: installed");
    Ok(program)
}

/// Where the package for this machine keeps the program.
fn program(tools: &Path) -> Result<PathBuf> {
    if std::env::consts::ARCH != "x86_64" {
        bail!(
            "the pinned anvil is for x86_64, this machine is {}: lock its package in xtask/anvil",
            std::env::consts::ARCH
        );
    }
    let package = "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil";
    Ok(tools.join(package))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_pins_what_the_package_names() {
        let pinned = cargo::root().join("xtask/anvil");
        let json = |name: &str| -> serde_json::Value {
            serde_json::from_slice(&read(&pinned.join(name)).unwrap()).unwrap()
        };
        let name = "@foundry-rs/anvil-linux-amd64";
        let version = &json("package.json")["dependencies"][name];
        let text = version.as_str().unwrap();
        assert!(text.starts_with(|c: char| c.is_ascii_digit()), "{text}");
        let locked = json("package-lock.json");
        let found = &locked["packages"][format!("node_modules/{name}")];
        assert_eq!(&found["version"], version);
        assert!(found["integrity"].is_string());
    }
}
