//! Least privilege: once ready, no thread of any daemon has a capability or could gain one.

use std::path::Path;

use plumbline_lab::Host;

use crate::stage::{OK, Stage};

/// Asserts it of every thread, and returns their names.
#[track_caller]
fn powerless(host: Host, pid: u32) -> Vec<String> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut names = Vec::new();
    for task in std::fs::read_dir(&tasks).expect("its threads") {
        let path = task.expect("a thread").path().join("status");
        // A thread may end between the listing and the look.
        let Ok(status) = std::fs::read_to_string(&path) else {
            continue;
        };
        let of = |field: &str| {
            status
                .lines()
                .find_map(|l| l.strip_prefix(field))
                .map(str::trim)
                .unwrap_or_default()
        };
        let name = of("Name:");
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"] {
            assert_eq!(of(set), "0000000000000000", "{host}, thread {name}, {set}");
        }
        assert_eq!(of("NoNewPrivs:"), "1", "{host}, thread {name}");
        names.push(name.to_owned());
    }
    names
}

#[test]
fn no_thread_of_any_daemon_keeps_a_capability() {
    let mut stage = Stage::running(4, 100_000_000);
    let hosts: Vec<Host> = stage.cast.hosts().collect();
    assert_eq!(hosts.len(), 6);
    let look = |stage: &mut Stage| {
        for host in &hosts {
            let pid = stage.cast.process(*host).expect("it runs").pid();
            let threads = powerless(*host, pid);
            assert!(threads.len() > 1, "{host}: {threads:?}");
            if *host == Host::Prover {
                for name in ["plumbline-rx", "plumbline-echo"] {
                    assert!(threads.iter().any(|t| t.starts_with(name)), "{threads:?}");
                }
            }
        }
    };
    look(&mut stage);
    // A session makes threads of its own.
    let outcome = stage.measure("--faucet --claim 90mbit --challengers 4");
    assert_eq!(outcome.code, OK, "{outcome:?}");
    look(&mut stage);
    stage.end();
}
