//! The machine that the figures belong to. Without it a figure says nothing.

use std::fs;

use serde::Serialize;

/// Flags of `/proc/cpuinfo` that decide how fast BLAKE3 and the packet path are.
const INTERESTING: [&str; 12] = [
    "sse4_1",
    "avx2",
    "avx512f",
    "avx512vl",
    "avx512bw",
    "asimd",
    "sve",
    "constant_tsc",
    "invariant_tsc",
    "hypervisor",
    "pti",
    "ibrs",
];

/// What figures must be read with.
const NOTE: &str = "Packets cross a veth: it has no wire, no line rate and no network card. Both cores share all work.";

/// A machine, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Machine {
    /// As the processor calls itself.
    pub(crate) cpu_model: String,
    /// Those of its flags that matter here.
    pub(crate) flags: Vec<String>,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Memory, MiB.
    pub(crate) memory_mib: u64,
    /// Mitigations that are not "Not affected", by vulnerability.
    pub(crate) mitigations: Vec<String>,
    /// What every figure must be read with.
    pub(crate) note: String,
}

impl Machine {
    /// This one. What cannot be read is called unknown: a description is no reason not to measure.
    pub(crate) fn describe() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let kib = field(&read("/proc/meminfo"), "MemTotal")
            .and_then(|v| v.split(' ').next().and_then(|n| n.parse::<u64>().ok()));
        Self {
            cpu_model: field(&cpu, "model name").unwrap_or("unknown").to_owned(),
            flags: flags(&cpu),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: kib.unwrap_or(0) / 1024,
            mitigations: mitigations(),
            note: NOTE.to_owned(),
        }
    }

    /// Whether it has so many cores and all these flags.
    pub(crate) fn has(&self, cores: usize, flags: &[String]) -> bool {
        self.cores >= cores && flags.iter().all(|flag| self.flags.contains(flag))
    }

    /// A machine of a class, for tests of what depends on it.
    #[cfg(test)]
    pub(crate) fn of_class(cores: usize, flags: &[&str]) -> Self {
        Self {
            cpu_model: "test".into(),
            flags: flags.iter().map(|f| (*f).to_owned()).collect(),
            cores,
            kernel: "test".into(),
            memory_mib: 1024,
            mitigations: Vec::new(),
            note: NOTE.into(),
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

fn flags(cpuinfo: &str) -> Vec<String> {
    let all = field(cpuinfo, "flags")
        .or_else(|| field(cpuinfo, "Features"))
        .unwrap_or("");
    let has = |flag: &&str| all.split(' ').any(|f| f == *flag);
    INTERESTING
        .into_iter()
        .filter(has)
        .map(str::to_owned)
        .collect()
}

fn mitigations() -> Vec<String> {
    let directory = fs::read_dir("/sys/devices/system/cpu/vulnerabilities");
    let mut found: Vec<String> = directory
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            let text = text.trim();
            let name = entry.file_name();
            (text != "Not affected").then(|| format!("{}: {text}", name.to_string_lossy()))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_can_be_described() {
        let machine = Machine::describe();
        assert!(machine.cores >= 1 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert!(machine.note.contains("no wire"));
    }

    #[test]
    fn only_whole_flags_count() {
        let text = "processor : 0\nmodel name : X 1\nflags : fpu avx512f avx512vlx\n";
        assert_eq!(flags(text), ["avx512f"]);
        assert_eq!(field(text, "model name"), Some("X 1"));
        let machine = Machine::of_class(2, &["avx512f"]);
        assert!(machine.has(2, &["avx512f".into()]));
        assert!(!machine.has(3, &[]) && !machine.has(1, &["avx512vl".into()]));
    }
}
