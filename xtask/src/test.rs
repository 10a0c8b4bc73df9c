//! `cargo xtask test`: everything there is, each step run even if an earlier one failed.
//! `cargo xtask test chain`: what the chain stands on, with the counts of what was tried.
//! `cargo xtask test scale`: one coordinator and many hosts, measured in turn and at once.

use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{Privilege, Purpose};
use crate::{anvil, cargo, contracts, ebpf, machine, vm};

/// What to run.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    elsewhere: Option<Elsewhere>,
    /// Run only tests whose name holds this; formatting, lints and committed artifacts are then left out.
    filter: Option<String>,
}

/// Tests that stand for themselves. A filter that is spelled like one of these goes after `--`.
#[derive(Debug, Clone, clap::Subcommand)]
enum Elsewhere {
    /// The chain: both engines, money under random calls, kill -9, power loss, damage, the simulator, a
    /// dispute by the real programs. Prints how much of each was tried.
    Chain {
        /// Ten to twenty times as much: some ten minutes.
        #[arg(long)]
        full: bool,
    },
    /// One coordinator, 20 challengers and 4 provers, measured in turn and at once; prints what that costs it.
    Scale {
        /// 100 challengers and 20 provers: about a minute.
        #[arg(long)]
        full: bool,
        /// Write the figures there too.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Boot Debian 12's kernel in QEMU behind several network cards and run the datapath there.
    Vm,
}

/// How many checks went well and how many did not.
#[derive(Debug, Default)]
struct Tally {
    passed: u64,
    failed: u64,
    names: Vec<String>,
}

impl Tally {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) {
        println!("── {name}");
        match work() {
            Ok(()) => self.passed += 1,
            Err(error) => {
                println!("{name}: {error:#}");
                self.failed += 1;
                self.names.push(name.to_owned());
            }
        }
    }
}

/// Runs every check.
///
/// # Errors
/// Something is missing, or at least one check failed: each is named.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.elsewhere {
        Some(Elsewhere::Vm) => return vm::run(),
        Some(Elsewhere::Chain { full }) => return chain(*full),
        Some(Elsewhere::Scale { full, json }) => return scale(*full, json.as_deref()),
        None => {}
    }
    let privilege = Privilege::detect().require("the network tests")?;
    machine::prepare(Purpose::Test, &|line| println!("{line}"))?;
    if privilege == Privilege::Sudo {
        // Asked once, before anything long.
        let granted = Command::new("sudo")
            .arg("-v")
            .status()
            .context("cannot run sudo")?;
        if !granted.success() {
            bail!("the network tests need root, and sudo refused");
        }
    }
    let mut tally = Tally::default();
    if args.filter.is_none() {
        tally.step("cargo fmt", || {
            finish(&mut cargo::command(&["fmt", "--all", "--check"]))
        });
        let clippy = [
            "clippy",
            "--release",
            "--workspace",
            "--features",
            MISBEHAVING,
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        tally.step("cargo clippy", || finish(&mut cargo::command(&clippy)));
        // The same code with the binding that the bench compares with.
        let other = [
            "clippy",
            "--release",
            "--package",
            "plumbline",
            "--features",
            "xsk-rs",
            "--",
            "-D",
            "warnings",
        ];
        tally.step("cargo clippy --features xsk-rs", || {
            finish(&mut cargo::command(&other))
        });
        tally.step("contracts --check", || contracts::run(true));
        tally.step("ebpf --check", || ebpf::run(true));
    }
    // Tests that need it say so themselves where it cannot be had.
    let mut anvil = None;
    tally.step("anvil", || {
        anvil = Some(anvil::install(&|line| println!("{line}"))?);
        Ok(())
    });
    println!("── cargo test");
    tests(args, privilege, anvil.as_deref(), &mut tally)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("failed: {}", tally.names.join(", "));
    }
    Ok(())
}

/// The program that misbehaves: no release has it, the tests do.
const MISBEHAVING: &str = "plumbline-attack/daemon";
/// How long cargo may build before its first test says anything, and how long a test may take: a multiple of the
/// longest, so that only one that hangs is ended.
const BUILD_PATIENCE: Duration = Duration::from_secs(60 * 60);
const TEST_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Test programs of the chain.
const CHAIN: [&str; 4] = ["chain", "money", "sim", "court"];
/// How lines begin in which they say what they tried.
const TRIED: [&str; 7] = [
    "power loss: ",
    "kill -9: ",
    "damage: ",
    "engines: ",
    "money: ",
    "hostile: ",
    "sim: ",
];

/// Runs the chain's tests, and shows what was tried.
fn chain(full: bool) -> Result<()> {
    machine::prepare(Purpose::Test, &|line| println!("{line}"))?;
    let anvil = anvil::install(&|line| println!("{line}"))?;
    let mut command = cargo::command(&["test", "--release", "--no-fail-fast"]);
    command.args(["--package", "plumbline"]);
    command.args(CHAIN.iter().flat_map(|name| ["--test", name]));
    command.args(["--", "--show-output"]);
    command.env(anvil::VARIABLE, anvil).stdout(Stdio::piped());
    if full {
        command.env("PLUMBLINE_FULL", "1");
    }
    let mut child = command.spawn().context("cannot run cargo")?;
    let mut report = Report::default();
    for line in child
        .stdout
        .take()
        .into_iter()
        .flat_map(|stdout| BufReader::new(stdout).lines())
    {
        let line = line.context("cannot read what the tests print")?;
        if report.read(&line) {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    println!("── what was tried");
    println!(
        "conformance: {} tests on the embedded engine, the same {} on anvil",
        report.embedded, report.anvil
    );
    for line in &report.tried {
        println!("{line}");
    }
    println!("{} passed, {} failed", report.passed, report.failed);
    if !status.success() {
        bail!("failed: {}", report.names.join(", "));
    }
    if report.embedded != report.anvil {
        bail!("not every test of conformance ran on both engines");
    }
    Ok(())
}

/// Measures a town in turn and at once, and shows its table.
fn scale(full: bool, json: Option<&Path>) -> Result<()> {
    machine::prepare(Purpose::Test, &|line| println!("{line}"))?;
    let mut command = cargo::command(&["test", "--release", "--package", "plumbline"]);
    command.args(["--test", "scale", "--", "--nocapture"]);
    command.env("PLUMBLINE_SCALE", if full { "full" } else { "quick" });
    if let Some(file) = json {
        // Tests run in their package's directory.
        let file = std::path::absolute(file).context("cannot tell where --json is")?;
        command.env("PLUMBLINE_SCALE_JSON", file);
    }
    finish(&mut command)
}

/// What the chain's tests said.
#[derive(Debug, Default)]
struct Report {
    passed: u64,
    failed: u64,
    embedded: u64,
    anvil: u64,
    tried: Vec<String>,
    names: Vec<String>,
    /// Everything is shown once something failed.
    trouble: bool,
}

impl Report {
    /// Reads a line; whether it is to be shown at once.
    fn read(&mut self, line: &str) -> bool {
        if let Some((passed, failed)) = summary(line) {
            self.passed += passed;
            self.failed += failed;
            self.trouble = false;
            return true;
        }
        if let Some((name, end)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        {
            self.embedded += u64::from(name.contains("::embedded::"));
            self.anvil += u64::from(name.contains("::anvil::"));
            if end == "FAILED" {
                self.names.push(name.to_owned());
            }
            return true;
        }
        if TRIED.iter().any(|begin| line.starts_with(begin)) {
            self.tried.push(line.to_owned());
        }
        self.trouble |= line == "failures:";
        self.trouble
    }
}

/// Runs cargo's tests, shows what they print, and adds up their summaries.
fn tests(args: &Args, privilege: Privilege, anvil: Option<&Path>, tally: &mut Tally) -> Result<()> {
    let mut command = cargo::command(&["test", "--release", "--workspace", "--no-fail-fast"]);
    command.args(["--features", MISBEHAVING]);
    if let Some(anvil) = anvil {
        command.env(anvil::VARIABLE, anvil);
    }
    command.args(args.filter.as_ref()).stdout(Stdio::piped());
    if privilege == Privilege::Sudo {
        // Built as this user, run as root.
        command.env(
            format!("CARGO_TARGET_{}_RUNNER", triple()?),
            "sudo --preserve-env",
        );
    }
    let mut child = command.spawn().context("cannot run cargo")?;
    let before = tally.failed;
    let lines = lines(child.stdout.take().context("cargo has no output")?);
    let mut patience = BUILD_PATIENCE;
    loop {
        let line = match lines.recv_timeout(patience) {
            Ok(line) => line.context("cannot read what the tests print")?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let ended = end_children(child.id())?;
                let minutes = patience.as_secs() / 60;
                println!("no test ended for {minutes} minutes; ended what ran: {ended}");
                tally.failed += 1;
                tally.names.push(format!("{ended}: hung"));
                continue;
            }
        };
        patience = TEST_PATIENCE;
        println!("{line}");
        if let Some((passed, failed)) = summary(&line) {
            tally.passed += passed;
            tally.failed += failed;
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|line| line.strip_suffix(" ... FAILED"))
        {
            tally.names.push(name.to_owned());
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() && tally.failed == before {
        // It did not compile, or a test process died without a summary.
        tally.failed += 1;
        tally.names.push(format!("cargo test ({status})"));
    }
    Ok(())
}

/// Lines as they come, from a thread of their own: whoever waits for one may give up.
fn lines(output: impl Read + Send + 'static) -> Receiver<std::io::Result<String>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Ends the children of this process of ours, and returns their names: a test that hangs must not keep the others
/// from being run.
fn end_children(parent: u32) -> Result<String> {
    let list = format!("/proc/{parent}/task/{parent}/children");
    let list = std::fs::read_to_string(&list).with_context(|| format!("cannot read {list}"))?;
    let mut names = Vec::new();
    for pid in list.split_whitespace() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let number = Pid::from_raw(pid.parse().context("a process id is a number")?);
        kill(number, Signal::SIGKILL).with_context(|| format!("cannot end process {pid}"))?;
        names.push(name.trim_end().to_owned());
    }
    Ok(names.join(", "))
}

/// Passed and failed in `test result: ok. 3 passed; 0 failed; …`.
fn summary(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    let count = |word: &str| {
        let before = rest.split(word).next()?;
        before
            .rsplit([' ', ';'])
            .find(|part| !part.is_empty())?
            .parse()
            .ok()
    };
    Some((count(" passed")?, count(" failed")?))
}

/// This machine's target, as cargo's environment variables write it.
fn triple() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`rustc -vV` names no host")?;
    Ok(host.to_ascii_uppercase().replace('-', "_"))
}

fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let good = "test result: ok. 19 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.12s";
        assert_eq!(summary(good), Some((19, 0)));
        let bad = "test result: FAILED. 6 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(summary(bad), Some((6, 1)));
        assert_eq!(summary("test counters ... ok"), None);
    }

    #[test]
    fn a_report_counts_what_it_is_told() {
        let mut report = Report::default();
        let lines = [
            ("running 3 tests", false),
            ("test flow::embedded::pays ... ok", true),
            ("test flow::anvil::pays ... ok", true),
            ("test power::cuts ... FAILED", true),
            ("power loss: 300 cuts, 1 wrong", false),
            ("successes:", false),
            ("failures:", true),
            ("because", true),
            ("test result: FAILED. 2 passed; 1 failed; 0 ignored", true),
            ("running 1 test", false),
        ];
        for (line, shown) in lines {
            assert_eq!(report.read(line), shown, "{line}");
        }
        assert_eq!((report.passed, report.failed), (2, 1));
        assert_eq!((report.embedded, report.anvil), (1, 1));
        assert_eq!(report.tried, ["power loss: 300 cuts, 1 wrong"]);
        assert_eq!(report.names, ["power::cuts"]);
    }

    #[test]
    fn vm_is_a_place_and_everything_else_a_filter() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let parse = |words: &[&str]| {
            let words = ["test"].iter().chain(words);
            let line = <Line as clap::Parser>::try_parse_from(words);
            line.map(|line| (line.args.elsewhere.is_some(), line.args.filter))
                .ok()
        };
        let filter = |word: &str| Some((false, Some(word.to_owned())));
        assert_eq!(parse(&[]), Some((false, None)));
        assert_eq!(parse(&["vm"]), Some((true, None)));
        assert_eq!(parse(&["chain"]), Some((true, None)));
        assert_eq!(parse(&["chain", "--full"]), Some((true, None)));
        assert_eq!(parse(&["scale", "--full"]), Some((true, None)));
        assert_eq!(parse(&["scale", "--json", "f"]), Some((true, None)));
        assert_eq!(parse(&["--", "chain"]), filter("chain"));
        assert_eq!(parse(&["vmx"]), filter("vmx"));
        assert_eq!(parse(&["v"]), filter("v"));
        assert_eq!(parse(&["--", "vm"]), filter("vm"));
        assert_eq!(parse(&["xdp", "vm"]), None);
    }

    #[test]
    fn children_are_ended_and_named_and_nobody_else() {
        let mut shell = Command::new("sh");
        let child = shell.args(["-c", "sleep 3600; true"]).spawn();
        let mut child = child.unwrap();
        let named = loop {
            let named = end_children(child.id()).unwrap();
            if !named.is_empty() {
                break named;
            }
        };
        // The name is the shell's until the child has become another program.
        assert!(["sh", "sleep"].contains(&named.as_str()), "{named}");
        // The shell outlives its child.
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_failed_step_is_named_and_the_next_still_runs() {
        let mut tally = Tally::default();
        tally.step("one", || bail!("because"));
        tally.step("two", || Ok(()));
        assert_eq!(
            (tally.passed, tally.failed, tally.names),
            (1, 1, vec!["one".to_owned()])
        );
    }
}
