//! `cargo xtask lab up|down|list`: a lab to look around in.
//!
//! A lab lives as long as a process that holds it (the wire's threads are that process's), so `up`
//! starts one in the background and returns when the lab stands; `down` asks it to go.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use plumbline_lab::{Host, Lab, Plan, Record, Shape, WirePlan};

use crate::machine::{Privilege, Purpose};
use crate::{interrupt, machine, units};

/// How long a holder may take to remove its lab before it is removed for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// What to do with labs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    /// Make a lab and leave it up.
    Up(Up),
    /// Remove labs: the one named, or all that `up` made and all whose owner died.
    Down {
        /// The lab's tag, as `list` shows it.
        tag: Option<String>,
        /// Remove every lab, those of running demos and tests included.
        #[arg(long, conflicts_with = "tag")]
        all: bool,
    },
    /// Show the labs that are up.
    List,
    /// Hold a lab until told to go; `up` starts this.
    #[command(hide = true)]
    Hold {
        /// The plan, as JSON.
        plan: String,
    },
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Rate of the measured link at the IP layer.
    #[arg(long, default_value = "1gbit", value_parser = units::rate)]
    rate: u64,
    /// Rate of the other direction at the IP layer; unshaped if absent.
    #[arg(long, value_parser = units::rate)]
    up_rate: Option<u64>,
    /// Hosts that send.
    #[arg(long, default_value_t = 5)]
    challengers: u8,
    /// One-way delay of the measured link.
    #[arg(long, default_value = "0ms", value_parser = units::time)]
    delay: Duration,
    /// Further delay, uniform from nothing to this.
    #[arg(long, default_value = "0ms", value_parser = units::time)]
    jitter: Duration,
    /// Share of packets lost, such as 0.5%.
    #[arg(long, default_value = "0%", value_parser = units::ppm)]
    loss: u32,
    /// Share of packets overtaken by others.
    #[arg(long, default_value = "0%", value_parser = units::ppm)]
    reorder: u32,
    /// Seed of the wire's choices.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// MTU of every interface, bytes.
    #[arg(long, default_value_t = 1500)]
    mtu: u16,
}

impl Up {
    fn plan(&self) -> Plan {
        let wire = WirePlan {
            delay: self.delay,
            jitter: self.jitter,
            loss_ppm: self.loss,
            reorder_ppm: self.reorder,
            seed: self.seed,
        };
        let idle = WirePlan {
            seed: self.seed,
            ..WirePlan::delay(Duration::ZERO)
        };
        let mut plan = Plan::backhaul(
            self.challengers,
            Shape::ip_layer(self.rate, self.mtu),
            Some(wire),
        );
        if wire == idle {
            plan.wire = None;
        }
        plan.up = self.up_rate.map(|rate| Shape::ip_layer(rate, self.mtu));
        plan.mtu = self.mtu;
        plan
    }
}

/// Does it.
///
/// # Errors
/// What failed, where, and what to do.
pub(crate) fn run(args: &Args) -> Result<()> {
    if matches!(args.act, Act::List) {
        return list();
    }
    if Privilege::detect().require("a lab")? == Privilege::Sudo {
        return machine::elevate(&[]);
    }
    match &args.act {
        Act::Up(up) => self::up(&up.plan()),
        Act::Down { tag, all } => down(tag.as_deref(), *all),
        Act::Hold { plan } => hold(plan),
        Act::List => Ok(()),
    }
}

fn up(plan: &Plan) -> Result<()> {
    plan.check()?;
    machine::prepare(Purpose::Lab, &|line| eprintln!("{line}"))?;
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    let mut holder = Command::new(program)
        .args(["lab", "hold"])
        .arg(serde_json::to_string(plan)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot start the lab's holder")?;
    let mut tag = String::new();
    if let Some(stdout) = holder.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut tag)
            .context("cannot read the holder's answer")?;
    }
    if tag.trim().is_empty() {
        let output = holder.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{}", said.strip_prefix("error: ").unwrap_or(&said));
    }
    let tag = tag.trim();
    println!(
        "lab {tag} is up: {} at the IP layer",
        units::show_rate(plan.true_ip_bps())
    );
    for host in plan.hosts() {
        let address = host
            .address()
            .map(|address| address.to_string())
            .unwrap_or_default();
        println!("  ip netns exec pl{tag}-{host} bash   {address}");
    }
    println!("remove it: cargo xtask lab down {tag}");
    Ok(())
}

/// Makes the lab, says its tag, and keeps it until a signal comes.
fn hold(plan: &str) -> Result<()> {
    let plan = serde_json::from_str(plan).context("the plan is not what `lab up` writes")?;
    let signal = interrupt::await_signal()?;
    let lab = Lab::up(plan)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", lab.tag())
        .and_then(|()| stdout.flush())
        .context("nobody hears the lab's tag")?;
    signal.recv().context("the signal handler ended")?;
    lab.down()?;
    Ok(())
}

fn down(tag: Option<&str>, all: bool) -> Result<()> {
    let records = Lab::list()?;
    if let Some(tag) = tag
        && !records.iter().any(|record| record.tag == tag)
    {
        bail!(plumbline_lab::LabError::Unknown {
            tag: tag.to_owned()
        });
    }
    let chosen = |record: &&Record| match tag {
        Some(tag) => record.tag == tag,
        None => all || !record.is_owned() || is_held(record),
    };
    let (mut removed, mut left) = (0, 0);
    for record in &records {
        if chosen(&record) {
            remove(record)?;
            println!("lab {} is down", record.tag);
            removed += 1;
        } else if tag.is_none() {
            println!(
                "lab {} is left: process {} uses it (--all removes it too)",
                record.tag, record.pid
            );
            left += 1;
        }
    }
    if removed + left == 0 {
        println!("no lab is up");
    }
    Ok(())
}

/// Asks the owner to remove its lab, and does it if the owner is gone or does not.
fn remove(record: &Record) -> Result<()> {
    if record.is_owned()
        && let Ok(pid) = i32::try_from(record.pid)
    {
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
            .context("cannot signal the lab's owner")?;
        let deadline = Instant::now() + PATIENCE;
        while record.is_owned() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }
    match Lab::down_tag(&record.tag) {
        // Its owner has done it.
        Err(plumbline_lab::LabError::Unknown { .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// Whether the owner is a holder that `up` started.
fn is_held(record: &Record) -> bool {
    let line = std::fs::read(format!("/proc/{}/cmdline", record.pid)).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .skip(1)
        .take(2)
        .eq([&b"lab"[..], b"hold"])
}

fn list() -> Result<()> {
    let records = Lab::list()?;
    if records.is_empty() {
        println!("no lab is up");
    }
    for record in records {
        let owner = match (record.is_owned(), is_held(&record)) {
            (false, _) => "its owner has died; `cargo xtask lab down` removes it".to_owned(),
            (true, true) => format!("held by process {}", record.pid),
            (true, false) => format!("used by process {}", record.pid),
        };
        let prover = format!("pl{}-{}", record.tag, Host::Prover);
        let standing = Path::new("/run/netns").join(prover).exists();
        println!(
            "{}  {owner}{}",
            record.tag,
            if standing {
                ""
            } else {
                "  (not yet or no longer standing)"
            }
        );
        for namespace in record.namespaces {
            println!("  {namespace}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Plan {
        match Cli::try_parse_from(line.split(' ')).map(|cli| cli.args.act) {
            Ok(Act::Up(up)) => up.plan(),
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn a_wire_is_made_only_if_it_has_something_to_do() {
        assert_eq!(plan("lab up").wire, None);
        assert_eq!(plan("lab up --seed 7").wire, None);
        assert_eq!(
            plan("lab up --delay 20ms").wire,
            Some(WirePlan::delay(Duration::from_millis(20)))
        );
        assert_eq!(
            plan("lab up --loss 0.5%").wire.map(|wire| wire.loss_ppm),
            Some(5_000)
        );
        assert_eq!(plan("lab up --rate 100mbit").true_ip_bps(), 100_000_000);
    }
}
