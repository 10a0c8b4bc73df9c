//! `cargo xtask ebpf [--check]`: builds the XDP program, or checks that the committed object is the one
//! that its sources give.
//!
//! ```text
//!  ebpf/src + appliance/wire/src ──► rustc (core from source) ──► bpf-linker ──► ebpf/plumbline.bpf.o
//!        └── SHA-256 ────────────────────────── compiler, linker ────────────► ebpf/plumbline.bpf.toml
//! ```
//!
//! The object is committed, so that building the product needs no BPF toolchain. One can be had in two
//! ways: rustup's nightly with `rust-src`, or Debian's `rustc-web` with `rust-web-src`; both need
//! bpf-linker. Bytes are only compared when compiler and linker are those that made the object: others
//! give other bytes from the same sources, and the check then says that it compared hashes only.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

const TARGET: &str = "bpfel-unknown-none";
/// Instruction set v3 (Linux 5.1), and loads as wide as the packet fields: every machine with the JITs we
/// run on (x86-64, arm64) reads unaligned memory, and byte by byte costs several times the instructions.
const FLAGS: [&str; 2] = [
    "-Ctarget-cpu=v3",
    "-Clink-arg=--cpu-features=+alu32,+allows-misaligned-mem-access",
];
/// The linker that goes with Debian's LLVM 22.
const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
/// An object of more than this is a mistake (debug information, most likely): it would not be small in git.
const OBJECT_LIMIT: usize = 32 << 10;

/// Builds the object, or with `check` compares it with what is committed.
///
/// # Errors
/// A stale or altered object, a failed build, or no toolchain where one is needed.
pub fn run(check: bool) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent")?;
    if check { verify(root) } else { rebuild(root) }
}

fn rebuild(root: &Path) -> Result<()> {
    let recorded = Record::read(root).ok();
    let toolchain = match Toolchain::find(recorded.as_ref())? {
        Some(toolchain) => toolchain,
        None => Toolchain::install()?,
    };
    eprintln!(
        "ebpf: building with {} and {}",
        toolchain.rustc, toolchain.linker
    );
    let object = toolchain.build(root)?;
    let record = Record {
        sources: sources(root)?,
        object: digest(&object),
        rustc: toolchain.rustc,
        linker: toolchain.linker,
    };
    fs::write(root.join(OBJECT), &object).with_context(|| format!("writing {OBJECT}"))?;
    fs::write(root.join(RECORD), record.to_toml()).with_context(|| format!("writing {RECORD}"))?;
    eprintln!("ebpf: {OBJECT}, {} bytes", object.len());
    Ok(())
}

fn verify(root: &Path) -> Result<()> {
    let record = Record::read(root)?;
    let object = fs::read(root.join(OBJECT)).with_context(|| format!("reading {OBJECT}"))?;
    ensure!(
        digest(&object) == record.object,
        "{OBJECT} is not the object that {RECORD} describes; rebuild it with `cargo xtask ebpf`"
    );
    ensure!(
        sources(root)? == record.sources,
        "the sources of {OBJECT} (ebpf/, appliance/wire/) have changed since it was built; rebuild it with `cargo xtask ebpf`"
    );
    let found = match Toolchain::find(Some(&record))? {
        // Continuous integration gets the toolchain; a developer's machine is left as it is.
        None if std::env::var_os("CI").is_some() => Toolchain::install()
            .map_err(|why| eprintln!("ebpf: {why:#}"))
            .ok(),
        found => found,
    };
    let Some(toolchain) = found else {
        eprintln!(
            "ebpf: no BPF toolchain here, so only hashes were compared: the object is the recorded one and its sources have not changed since"
        );
        return Ok(());
    };
    if (&toolchain.rustc, &toolchain.linker) != (&record.rustc, &record.linker) {
        eprintln!(
            "ebpf: only hashes were compared: the object was made by {} and {}, here are {} and {}",
            record.rustc, record.linker, toolchain.rustc, toolchain.linker
        );
        return Ok(());
    }
    let built = toolchain.build(root)?;
    ensure!(
        built == object,
        "{OBJECT} ({} bytes) is not what {} makes of its sources ({} bytes); rebuild it with `cargo xtask ebpf`",
        object.len(),
        toolchain.rustc,
        built.len()
    );
    eprintln!(
        "ebpf: rebuilt with {}, the same {} bytes",
        toolchain.rustc,
        object.len()
    );
    Ok(())
}

const OBJECT: &str = "ebpf/plumbline.bpf.o";
const RECORD: &str = "ebpf/plumbline.bpf.toml";

/// What made the object.
struct Record {
    sources: String,
    object: String,
    rustc: String,
    linker: String,
}

impl Record {
    fn read(root: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(root.join(RECORD)).with_context(|| format!("reading {RECORD}"))?;
        let table: toml::Table = text.parse().with_context(|| format!("parsing {RECORD}"))?;
        let field = |key: &str| {
            let value = table
                .get(key)
                .and_then(toml::Value::as_str)
                .map(str::to_owned);
            value.with_context(|| format!("{RECORD} has no string `{key}`"))
        };
        Ok(Self {
            sources: field("sources")?,
            object: field("object")?,
            rustc: field("rustc")?,
            linker: field("linker")?,
        })
    }

    fn to_toml(&self) -> String {
        let Self {
            sources,
            object,
            rustc,
            linker,
        } = self;
        format!(
            "# Written by `cargo xtask ebpf`: what made plumbline.bpf.o. `cargo xtask ebpf --check` holds it to this.\n\
             # SHA-256 of every source file, by path, and of the flags.\n\
             sources = \"{sources}\"\n\
             # SHA-256 of the object.\n\
             object = \"{object}\"\n\
             rustc = \"{rustc}\"\n\
             linker = \"{linker}\"\n"
        )
    }
}

/// One hash over everything that the object is made of.
fn sources(root: &Path) -> Result<String> {
    let mut files = vec![
        PathBuf::from("ebpf/Cargo.toml"),
        PathBuf::from("ebpf/Cargo.lock"),
        PathBuf::from("appliance/wire/Cargo.toml"),
    ];
    for folder in ["ebpf/src", "appliance/wire/src"] {
        let entries =
            fs::read_dir(root.join(folder)).with_context(|| format!("listing {folder}"))?;
        for entry in entries {
            let path = Path::new(folder).join(entry?.file_name());
            ensure!(
                root.join(&path).is_file(),
                "{}: expected a flat folder of files",
                path.display()
            );
            files.push(path);
        }
    }
    files.sort();
    let mut hasher = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for flag in FLAGS {
        add(flag.as_bytes());
    }
    for file in files {
        add(file.as_os_str().as_encoded_bytes());
        add(&fs::read(root.join(&file)).with_context(|| format!("reading {}", file.display()))?);
    }
    Ok(hex(&hasher.finalize()))
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A compiler with the source of its core library, and a linker.
struct Toolchain {
    cargo: PathBuf,
    compiler: PathBuf,
    /// First line of `rustc --version`.
    rustc: String,
    /// `bpf-linker --version`.
    linker: String,
}

impl Toolchain {
    /// The toolchain that made the recorded object if it is here, else any that is.
    fn find(recorded: Option<&Record>) -> Result<Option<Self>> {
        let Some(linker) = output(Command::new("bpf-linker").arg("--version")) else {
            return Ok(None);
        };
        let mut found = Vec::new();
        for compiler in compilers() {
            let Some(rustc) = output(Command::new(&compiler).arg("--version")) else {
                continue;
            };
            let Some(sysroot) = output(Command::new(&compiler).args(["--print", "sysroot"])) else {
                continue;
            };
            let cargo = compiler.with_file_name("cargo");
            if Path::new(&sysroot)
                .join("lib/rustlib/src/rust/library/core")
                .is_dir()
                && cargo.is_file()
            {
                found.push(Self {
                    cargo,
                    compiler,
                    rustc,
                    linker: linker.clone(),
                });
            }
        }
        let same = recorded.and_then(|r| found.iter().position(|t| t.rustc == r.rustc));
        let at = same.unwrap_or(0);
        Ok((at < found.len()).then(|| found.swap_remove(at)))
    }

    /// Debian's, by apt; elsewhere, or without root, an explanation.
    fn install() -> Result<Self> {
        let by_hand = format!(
            "no BPF toolchain here. Either\n  rustup toolchain install nightly --component rust-src && cargo install bpf-linker\nor, on Debian, as root\n  apt-get install {}\n  LLVM_PREFIX={DEBIAN_LLVM} cargo install --locked bpf-linker --version {LINKER_VERSION} --no-default-features --features llvm-22",
            DEBIAN_PACKAGES.join(" ")
        );
        let root = output(Command::new("id").arg("-u")).is_some_and(|id| id == "0");
        if !(root && Path::new("/etc/debian_version").is_file()) {
            bail!("{by_hand}");
        }
        eprintln!("ebpf: apt-get install {}", DEBIAN_PACKAGES.join(" "));
        succeed(Command::new("apt-get").args(["-q", "update"])).context(by_hand.clone())?;
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "--no-install-recommends"])
            .args(DEBIAN_PACKAGES);
        succeed(apt.env("DEBIAN_FRONTEND", "noninteractive")).context(by_hand.clone())?;
        if output(Command::new("bpf-linker").arg("--version")).is_none() {
            eprintln!("ebpf: cargo install bpf-linker {LINKER_VERSION}");
            let mut cargo = Command::new("cargo");
            cargo.args([
                "install",
                "--locked",
                "bpf-linker",
                "--version",
                LINKER_VERSION,
            ]);
            cargo.args(["--no-default-features", "--features", "llvm-22"]);
            succeed(cargo.env("LLVM_PREFIX", DEBIAN_LLVM)).context(by_hand.clone())?;
        }
        Self::find(None)?.context(by_hand)
    }

    /// The object's bytes.
    fn build(&self, root: &Path) -> Result<Vec<u8>> {
        let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = named.unwrap_or_else(|| root.join("target")).join("ebpf");
        let mut cargo = Command::new(&self.cargo);
        // What the running cargo says of itself is not for the other one.
        for (name, _) in std::env::vars_os() {
            let name_is = name.to_string_lossy();
            if name_is.starts_with("CARGO") && name_is != "CARGO_HOME"
                || name_is.starts_with("RUST")
            {
                cargo.env_remove(&name);
            }
        }
        let mut flags = FLAGS.join("\x1f");
        // No path of this machine in the object.
        for (from, to) in [
            (root.as_os_str(), "/plumbline"),
            (cargo_home().as_os_str(), "/cargo"),
        ] {
            write!(
                flags,
                "\x1f--remap-path-prefix={}={to}",
                from.to_string_lossy()
            )?;
        }
        cargo
            .current_dir(root.join("ebpf"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--target",
                TARGET,
            ])
            .args(["-Z", "build-std=core", "--target-dir"])
            .arg(&target)
            .env("RUSTC", &self.compiler)
            // `-Z build-std` on a compiler that is not called nightly.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags);
        succeed(&mut cargo).context("building ebpf/")?;
        let path = target.join(TARGET).join("release/plumbline");
        let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            object.len() <= OBJECT_LIMIT,
            "the object has {} bytes, more than {OBJECT_LIMIT}",
            object.len()
        );
        Ok(object)
    }
}

/// Compilers that may have the source of their core library.
fn compilers() -> Vec<PathBuf> {
    let nightly = output(Command::new("rustup").args(["which", "--toolchain", "nightly", "rustc"]));
    let debian = Some("/usr/bin/rustc".to_owned());
    debian
        .into_iter()
        .chain(nightly)
        .map(PathBuf::from)
        .filter(|p| p.is_file())
        .collect()
}

fn cargo_home() -> PathBuf {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo");
    named.unwrap_or_else(home)
}

/// First line that a command prints, if it is there and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let out = command.env_remove("RUSTUP_TOOLCHAIN").output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    out.status
        .success()
        .then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("running {command:?}"))?;
    ensure!(
        status.success(),
        "{:?} failed ({status})",
        command.get_program()
    );
    Ok(())
}
