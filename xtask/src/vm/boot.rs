//! One guest: QEMU with two cards of a kind on a hub, from power on to power off.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Card;
use super::kernel::Kernel;

/// From power on to power off. A quiet machine needs half a minute; a busy one must not fail for that.
const DEADLINE: Duration = Duration::from_secs(600);

/// The guest's memory in MiB: its file system and the receiver's buffers fit several times.
const MEMORY_MIB: &str = "1024";

/// Cards of a guest: the measured one first, then the one that sends to it.
const NICS: [(&str, &str); 2] = [
    ("prover", "52:54:00:00:00:01"),
    ("challenger", "52:54:00:00:00:02"),
];

/// A QEMU process, ended when dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Most often it has ended by itself, and there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `kernel` with `card` and gives each line of results to `hear`; the console goes to `log`.
///
/// # Errors
/// QEMU cannot be run or fails, or the guest is not done within [`DEADLINE`].
pub(crate) fn boot(
    kernel: &Kernel,
    initramfs: &Path,
    card: Card,
    log: &Path,
    mut hear: impl FnMut(&str),
) -> Result<()> {
    let errors = log.with_extension("qemu");
    let stderr =
        File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
    let mut command = command(kernel, initramfs, card, log);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut machine = Machine(command.spawn().context("cannot run QEMU by setpriv")?);
    let results = machine.0.stdout.take().context("QEMU has no output")?;
    let (sender, lines) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(results).split(b'\n').map_while(Result::ok) {
            // Nobody listens once the deadline has passed.
            let _ = sender.send(line);
        }
    });
    let until = Instant::now() + DEADLINE;
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => hear(String::from_utf8_lossy(&line).trim()),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => bail!("not done within {DEADLINE:?}"),
        }
    }
    let status = machine.0.wait().context("cannot wait for QEMU")?;
    // It ends with its input.
    let _ = reader.join();
    if !status.success() {
        let said = std::fs::read_to_string(&errors).unwrap_or_default();
        bail!("QEMU failed ({status}): {}", said.trim_end());
    }
    Ok(())
}

fn command(kernel: &Kernel, initramfs: &Path, card: Card, log: &Path) -> Command {
    // However this process ends, the guest does too.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    // One processor, emulated: the same everywhere, KVM or not.
    command.args([
        "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", MEMORY_MIB,
    ]);
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
    ]);
    command.arg("-kernel").arg(&kernel.image);
    command.arg("-initrd").arg(initramfs);
    // A panic or an oops ends the guest at once (`-no-reboot`), after it was printed.
    command.arg("-append").arg(format!(
        "console=ttyS0 loglevel=5 panic=-1 oops=panic -- {}",
        card.name
    ));
    command
        .arg("-serial")
        .arg(format!("file:{}", log.display()));
    command.args(["-serial", "stdio"]);
    for (name, address) in NICS {
        command.args(["-netdev", &format!("hubport,id={name},hubid=0")]);
        // Nobody boots from the network: no option ROM.
        let device = format!("{},netdev={name},mac={address},romfile=", card.device);
        command.args(["-device", &device]);
    }
    command
}
