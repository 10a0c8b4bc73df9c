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
    let output = command(&args)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed ({})", args[..6].join(" "), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let binary = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "plumbline")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    binary.context("cargo built the package but named no `plumbline` binary")
}
