//! Running cargo as the invoking user.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The repository this program was built from.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// A cargo command in the repository: the cargo that runs this program, if one does.
pub(crate) fn command(args: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(args).current_dir(root());
    command
}

/// Builds the product and returns the path of its binary.
///
/// # Errors
/// The build failed (cargo has said why), or named no binary.
pub(crate) fn build_product() -> Result<PathBuf> {
    let args = [
        "build",
        "--release",
        "--package",
        "plumbline",
        "--bin",
        "plumbline",
        "--message-format=json-render-diagnostics",
    ];
    executable(&args, "plumbline")
}

/// Runs cargo, told to answer in JSON, and returns the path of the executable of the target `name`.
///
/// # Errors
/// The build failed (cargo has said why), or named no such executable.
pub(crate) fn executable(args: &[&str], name: &str) -> Result<PathBuf> {
    let output = command(args)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed ({})", args.join(" "), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.with_context(|| format!("`cargo {}` named no executable `{name}`", args.join(" ")))
}

/// Where cargo puts what it makes.
///
/// # Errors
/// Cargo cannot be run, or does not say.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let output = command(&["metadata", "--no-deps", "--format-version", "1"])
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` says")?;
    let directory = metadata["target_directory"].as_str().map(PathBuf::from);
    directory.context("`cargo metadata` names no target directory")
}
