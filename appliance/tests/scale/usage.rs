//! What a process costs, as the kernel counts it.

use std::path::PathBuf;

/// Entry of the auxiliary vector that says how long a tick of `/proc/PID/stat` is (`AT_CLKTCK`).
const TICKS_A_SECOND: u64 = 17;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Usage {
    /// CPU time of all its threads, the ended too, in user space and for it in the kernel, s.
    pub(crate) cpu_s: f64,
    /// Memory that is resident, bytes.
    pub(crate) rss_bytes: u64,
    /// The most that was, bytes.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// Of the process `pid`.
    pub(crate) fn of(pid: u32) -> Self {
        let read = |file: &str| {
            let path: PathBuf = format!("/proc/{pid}/{file}").into();
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let status = read("status");
        let kib = |name: &str| -> u64 {
            let found = status.lines().find_map(|l| l.strip_prefix(name)).unwrap();
            found.trim().trim_end_matches(" kB").parse().unwrap()
        };
        Self {
            cpu_s: ticks(&read("stat")) as f64 / ticks_a_second() as f64,
            rss_bytes: kib("VmRSS:") * 1024,
            peak_bytes: kib("VmHWM:") * 1024,
        }
    }
}

/// User and system ticks: fields 14 and 15 of `stat`, the third being the first after the name in brackets.
fn ticks(stat: &str) -> u64 {
    let (_, after) = stat.rsplit_once(')').unwrap();
    let fields = after.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

fn ticks_a_second() -> u64 {
    let bytes = std::fs::read("/proc/self/auxv").unwrap();
    let words: Vec<u64> = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_ne_bytes(*word))
        .collect();
    let found = words
        .as_chunks::<2>()
        .0
        .iter()
        .find(|[key, _]| *key == TICKS_A_SECOND);
    found.unwrap()[1]
}

#[test]
fn fields_are_counted_behind_any_name() {
    let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 31 11 0 0 20";
    assert_eq!(ticks(stat), 42);
}

#[test]
fn work_is_seen_where_it_is_done() {
    let pid = std::process::id();
    let before = Usage::of(pid);
    let mut sum = 0u64;
    while Usage::of(pid).cpu_s <= before.cpu_s {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
    assert!(
        before.rss_bytes > 1 << 20,
        "a process with less than a MiB: {before:?}"
    );
}
