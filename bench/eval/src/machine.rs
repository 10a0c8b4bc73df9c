//! The machine and the product that figures belong to. Without them a figure says nothing.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What every figure must be read with.
const NOTE: &str =
    "Packets cross a veth: no wire, no line rate, no network card. All hosts share these cores.";

/// A machine, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As the processor calls itself.
    pub(crate) cpu_model: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Memory, MiB.
    pub(crate) memory_mib: u64,
    /// What every figure must be read with.
    pub(crate) note: String,
}

impl Machine {
    /// This one. What cannot be read is called unknown: a description is no reason not to measure.
    pub(crate) fn describe() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let memory = read("/proc/meminfo");
        let kib = field(&memory, "MemTotal").and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
        Self {
            cpu_model: field(&cpu, "model name").unwrap_or("unknown").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: kib.unwrap_or(0) / 1024,
            note: NOTE.to_owned(),
        }
    }
}

/// The first `name : value` line's value.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

/// SHA-256 of a program: tells one build from another.
///
/// # Errors
/// It cannot be read.
pub(crate) fn digest(program: &Path) -> Result<String> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let digest = Sha256::digest(&bytes);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::describe();
        assert!(machine.cores >= 1 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert_eq!(
            field("a : b\nmodel name : X 1\n", "model name"),
            Some("X 1")
        );
    }

    #[test]
    fn a_program_is_told_from_another() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, b"abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(file.path()).unwrap(), known);
        assert!(digest(Path::new("/nonexistent")).is_err());
    }
}
