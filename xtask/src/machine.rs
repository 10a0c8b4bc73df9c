//! What a machine must have, and who may change it.
//!
//! Installs with apt on Debian and Ubuntu, printing each step; elsewhere it prints the list. Only
//! installing, and what makes namespaces, runs elevated; builds never do.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Oldest kernel known to have what the default datapath needs (AF_XDP on veth, io_uring send with
/// `UDP_SEGMENT`, BPF links). Older ones may run the fall-backs.
const KERNEL: (u32, u32) = (5, 15);

/// How the presence of a package is seen, on any distribution.
#[derive(Debug, Clone, Copy)]
enum Probe {
    /// A program on PATH or in an `sbin`.
    Program(&'static str),
    /// A file whose path starts with one of these directories, ends with this name.
    Header(&'static str),
    /// libclang, wherever LLVM's packaging puts it.
    Libclang,
}

/// Something to be installed.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// Debian's and Ubuntu's name for it.
    package: &'static str,
    probe: Probe,
    reason: &'static str,
}

const fn need(package: &'static str, probe: Probe, reason: &'static str) -> Need {
    Need {
        package,
        probe,
        reason,
    }
}

/// To build the product.
const BUILD: [Need; 2] = [
    need("gcc", Probe::Program("gcc"), "links, and assembles BLAKE3"),
    need("libc6-dev", Probe::Header("stdlib.h"), "C headers"),
];

/// To build it with the other AF_XDP binding, to compare the two.
const OTHER_BINDING: [Need; 7] = [
    need("make", Probe::Program("make"), "builds libxdp"),
    need("m4", Probe::Program("m4"), "builds libxdp"),
    need(
        "pkg-config",
        Probe::Program("pkg-config"),
        "finds C libraries",
    ),
    need(
        "clang",
        Probe::Program("clang"),
        "compiles libxdp's BPF parts",
    ),
    need(
        "libclang-dev",
        Probe::Libclang,
        "reads C headers for the bindings of libxdp",
    ),
    need(
        "libelf-dev",
        Probe::Header("libelf.h"),
        "libbpf reads ELF with it",
    ),
    need(
        "zlib1g-dev",
        Probe::Header("zlib.h"),
        "libelf compresses with it",
    ),
];

/// To make a lab.
const LAB: [Need; 2] = [
    need(
        "iproute2",
        Probe::Program("tc"),
        "namespaces, veth and the shaper",
    ),
    need(
        "ethtool",
        Probe::Program("ethtool"),
        "switches off offloads, so that counters count packets",
    ),
];

/// To compile the contracts anew and compare.
const CONTRACTS: [Need; 2] = [
    need(
        "nodejs",
        Probe::Program("node"),
        "runs the Solidity compiler",
    ),
    need(
        "npm",
        Probe::Program("npm"),
        "fetches the Solidity compiler, and anvil",
    ),
];

/// To settle on anvil.
const ANVIL: [Need; 1] = [need("npm", Probe::Program("npm"), "fetches anvil")];

/// To measure against what one would otherwise use.
const BENCH: [Need; 1] = [need(
    "iperf3",
    Probe::Program("iperf3"),
    "the peer that everybody knows",
)];

/// To boot another kernel.
const VM: [Need; 4] = [
    need(
        "qemu-system-x86",
        Probe::Program("qemu-system-x86_64"),
        "emulates the processor and the cards",
    ),
    need("iproute2", Probe::Program("ip"), "works in the guest too"),
    need(
        "util-linux",
        Probe::Program("setpriv"),
        "ends the guest with its parent",
    ),
    need(
        "dpkg",
        Probe::Program("dpkg-deb"),
        "unpacks the kernel under test",
    ),
];

/// What is going to be done on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Build the product and run it in a lab.
    Demo,
    /// The same, settled on anvil.
    DemoOnAnvil,
    /// Everything.
    Test,
    /// Only a lab.
    Lab,
    /// Only build the product.
    Build,
    /// Build the product and measure it beside others.
    Bench,
    /// Compare the two AF_XDP bindings.
    Bindings,
    /// Build the product and run it on another kernel.
    Vm,
}

/// How privileged steps can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process is root.
    Root,
    /// `sudo` is installed.
    Sudo,
    /// Neither.
    None,
}

impl Privilege {
    /// What this process has.
    pub(crate) fn detect() -> Self {
        if nix::unistd::geteuid().is_root() {
            Self::Root
        } else if find("sudo") {
            Self::Sudo
        } else {
            Self::None
        }
    }

    /// Refuses to go on where nothing privileged can be done.
    ///
    /// # Errors
    /// Neither root nor sudo.
    pub(crate) fn require(self, what: &str) -> Result<Self> {
        if self == Self::None {
            bail!(
                "{what} needs root to make network namespaces and attach XDP (CAP_NET_ADMIN, CAP_SYS_ADMIN, \
                 CAP_BPF), and this user has neither root nor sudo: run it as root, or install sudo"
            );
        }
        Ok(self)
    }
}

/// Checks the kernel and installs what is missing for `purpose`.
///
/// # Errors
/// Too old a kernel, or something missing that cannot be installed: the message lists what and why.
pub(crate) fn prepare(purpose: Purpose, say: &dyn Fn(&str)) -> Result<()> {
    if purpose != Purpose::Vm {
        check_kernel(say)?;
    }
    let needs: Vec<Need> = match purpose {
        Purpose::Build => BUILD.to_vec(),
        Purpose::Lab => LAB.to_vec(),
        Purpose::Demo => [&BUILD[..], &LAB].concat(),
        Purpose::DemoOnAnvil => [&BUILD[..], &LAB, &ANVIL].concat(),
        Purpose::Test => [&BUILD[..], &OTHER_BINDING, &LAB, &CONTRACTS].concat(),
        Purpose::Bench => [&BUILD[..], &LAB, &BENCH].concat(),
        Purpose::Bindings => [&BUILD[..], &OTHER_BINDING, &LAB].concat(),
        Purpose::Vm => [&BUILD[..], &VM].concat(),
    };
    let missing = missing(&needs);
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    for need in &missing {
        say(&format!("missing: {} ({})", need.package, need.reason));
    }
    if !find("apt-get") {
        bail!(
            "this is neither Debian nor Ubuntu; install what they call: {} (your distribution may name them otherwise)",
            packages.join(" ")
        );
    }
    install(&packages, say)?;
    let still: Vec<_> = self::missing(&needs)
        .iter()
        .map(|need| need.package)
        .collect();
    if !still.is_empty() {
        bail!("installed, but still not found: {}", still.join(" "));
    }
    Ok(())
}

fn install(packages: &[&str], say: &dyn Fn(&str)) -> Result<()> {
    if Privilege::detect() == Privilege::None {
        bail!("run as root: apt-get install {}", packages.join(" "));
    }
    refresh(say)?;
    apt(
        &[
            &["-q", "install", "-y", "--no-install-recommends"],
            packages,
        ]
        .concat(),
        say,
    )
}

/// Reads the lists of packages anew.
///
/// # Errors
/// Nothing privileged can be done here, or the archive cannot be reached.
pub(crate) fn refresh(say: &dyn Fn(&str)) -> Result<()> {
    apt(&["-q", "update"], say)
}

/// Runs apt-get, elevated.
fn apt(args: &[&str], say: &dyn Fn(&str)) -> Result<()> {
    let line = ["apt-get"].iter().chain(args).copied().collect::<Vec<_>>();
    let (program, shown) = match Privilege::detect() {
        Privilege::Root => ("env", ""),
        Privilege::Sudo => ("sudo", "sudo "),
        Privilege::None => bail!("run as root: {}", line.join(" ")),
    };
    say(&format!("{shown}{}", line.join(" ")));
    let status = Command::new(program)
        .arg("DEBIAN_FRONTEND=noninteractive")
        .args(&line)
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("`{}` failed ({status})", line.join(" "));
    }
    Ok(())
}

fn missing(needs: &[Need]) -> Vec<Need> {
    needs
        .iter()
        .copied()
        .filter(|need| !is_there(need.probe))
        .collect()
}

fn is_there(probe: Probe) -> bool {
    match probe {
        Probe::Program(name) => find(name),
        Probe::Header(name) => ["/usr/include", "/usr/local/include"]
            .iter()
            .any(|dir| Path::new(dir).join(name).exists()),
        Probe::Libclang => {
            let listed = |dir: &Path| {
                let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
                names
                    .map(|entry| entry.file_name())
                    .any(|name| name.to_string_lossy().starts_with("libclang"))
            };
            let llvm = std::fs::read_dir("/usr/lib")
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path().join("lib"));
            std::env::var_os("LIBCLANG_PATH").is_some_and(|dir| listed(Path::new(&dir)))
                || ["/usr/lib64", "/usr/lib"]
                    .iter()
                    .any(|dir| listed(Path::new(dir)))
                || llvm.into_iter().any(|dir| listed(&dir))
        }
    }
}

/// Whether a program is on PATH or in one of root's directories.
fn find(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let root = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(Into::into);
    std::env::split_paths(&path)
        .chain(root)
        .any(|dir| dir.join(name).is_file())
}

fn check_kernel(say: &dyn Fn(&str)) -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("cannot read the kernel's version; is this Linux?")?;
    let release = release.trim();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL {
        bail!(
            "kernel {release} is older than {}.{}: io_uring and AF_XDP on veth are needed",
            KERNEL.0,
            KERNEL.1
        );
    }
    if !Path::new("/proc/self/ns/net").exists() {
        bail!("kernel {release} has no network namespaces (CONFIG_NET_NS), which labs are made of");
    }
    if !Path::new("/proc/sys/kernel/unprivileged_bpf_disabled").exists() {
        say(&format!(
            "kernel {release} has no bpf(): the plain-socket receiver will be used, and results say so"
        ));
    }
    Ok(())
}

/// Runs this program again as root, with the arguments it was given and `extra` ones; never returns
/// if that works.
///
/// # Errors
/// sudo cannot be run.
pub(crate) fn elevate(extra: &[OsString]) -> Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own path")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sudo");
    // sudo clears the environment; these three change what is found and how it is shown.
    command.arg(format!("PATH={path}:/usr/sbin:/sbin"));
    for name in ["NO_COLOR", "TERM", "RUST_BACKTRACE"] {
        if let Ok(value) = std::env::var(name) {
            command.arg(format!("{name}={value}"));
        }
    }
    command
        .arg(program)
        .args(std::env::args_os().skip(1))
        .args(extra);
    Err(anyhow::Error::new(command.exec()).context("cannot run sudo"))
}

/// Gives a file made under sudo to the user who called it.
pub(crate) fn give_to_invoker(path: &Path) {
    let id = |name| {
        std::env::var(name)
            .ok()
            .and_then(|id| id.parse::<u32>().ok())
    };
    if let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) {
        // At worst it stays root's.
        drop(std::os::unix::fs::chown(path, Some(user), Some(group)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_asked_for() {
        let present = need("coreutils", Probe::Program("sh"), "a shell");
        let absent = need(
            "nothing",
            Probe::Program("no-such-program-anywhere"),
            "nothing",
        );
        let found: Vec<_> = missing(&[present, absent])
            .iter()
            .map(|need| need.package)
            .collect();
        assert_eq!(found, ["nothing"]);
        assert!(!is_there(Probe::Header("no-such-header.h")));
    }
}
