//! `cargo xtask ebpf [--check]`: builds the XDP programs, or checks that the committed objects are those
//! that their sources give.
//!
//! ```text
//!  ebpf/src + appliance/wire/src ──┐                                           ┌► ebpf/plumbline.bpf.o
//!  ebpf/lab ───────────────────────┴► rustc (core from source) ─► bpf-linker ──┴► ebpf/lab.bpf.o
//!        └── SHA-256 of each ──────────── compiler, linker ───► ebpf/{plumbline,lab}.bpf.toml
//! ```
//!
//! The objects are committed, so that building product and bench needs no BPF toolchain. Each has a
//! record of its own sources: a change to the lab's program makes nothing of the product's stale. A
//! toolchain can be had in two ways: rustup's nightly with `rust-src`, or Debian's `rustc-web` with `rust-web-src`; both need
//! bpf-linker. Bytes are only compared when compiler and linker are those that made an object: others
//! give other bytes from the same sources, and the check then says that it compared hashes only.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

const TARGET: &str = "bpfel-unknown-none";
/// Instruction set v2: v3's 32-bit registers are spilled as half words, which the verifier of Linux 6.1
/// refuses to a program loaded without `CAP_PERFMON`, and they made the program no faster. Loads as wide as
/// the packet fields: every machine with the JITs we run on (x86-64, arm64) reads unaligned memory, and byte
/// by byte costs several times the instructions.
const FLAGS: [&str; 2] = [
    "-Ctarget-cpu=v2",
    "-Clink-arg=--cpu-features=+allows-misaligned-mem-access",
];
/// The linker that goes with Debian's LLVM 22.
const LINKER_VERSION: &str = "0.13.0";
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
/// An object of more than this is a mistake (debug information, most likely): it would not be small in git.
const OBJECT_LIMIT: usize = 32 << 10;

/// A committed object: what it is made of, and where it and its record lie.
struct Object {
    /// Binary of the workspace `ebpf/`.
    bin: &'static str,
    path: &'static str,
    record: &'static str,
    /// Flat folders of its sources; the manifests are everybody's.
    folders: &'static [&'static str],
    manifests: &'static [&'static str],
}

const OBJECTS: [Object; 2] = [
    Object {
        bin: "plumbline",
        path: "ebpf/plumbline.bpf.o",
        record: "ebpf/plumbline.bpf.toml",
        folders: &["ebpf/src", "appliance/wire/src"],
        manifests: &[
            "ebpf/Cargo.toml",
            "ebpf/Cargo.lock",
            "appliance/wire/Cargo.toml",
        ],
    },
    Object {
        bin: "lab",
        path: "ebpf/lab.bpf.o",
        record: "ebpf/lab.bpf.toml",
        folders: &["ebpf/lab"],
        manifests: &["ebpf/Cargo.toml", "ebpf/Cargo.lock"],
    },
];

/// Builds the objects, or with `check` compares them with what is committed.
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
    let recorded = Record::read(root, &OBJECTS[0]).ok();
    let toolchain = match Toolchain::find(recorded.as_ref())? {
        Some(toolchain) => toolchain,
        None => Toolchain::install()?,
    };
    eprintln!(
        "ebpf: building with {} and {}",
        toolchain.rustc, toolchain.linker
    );
    for object in &OBJECTS {
        let Object { path, record, .. } = object;
        // Hashed before: a file that changes while the compiler runs makes the record stale, not wrong.
        let sources = object.sources(root)?;
        let bytes = toolchain.build(root, object.bin)?;
        let made = Record {
            sources,
            object: digest(&bytes),
            rustc: toolchain.rustc.clone(),
            linker: toolchain.linker.clone(),
        };
        fs::write(root.join(path), &bytes).with_context(|| format!("writing {path}"))?;
        fs::write(root.join(record), made.to_toml(object))
            .with_context(|| format!("writing {record}"))?;
        eprintln!("ebpf: {path}, {} bytes", bytes.len());
    }
    Ok(())
}

/// What is wrong with one object must not hide what is wrong with the next.
fn verify(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    for object in &OBJECTS {
        if let Err(why) = verify_one(root, object) {
            wrong.push(format!("{why:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn verify_one(root: &Path, object: &Object) -> Result<()> {
    let Object {
        path, record: at, ..
    } = object;
    let record = Record::read(root, object)?;
    let bytes = fs::read(root.join(path)).with_context(|| format!("reading {path}"))?;
    ensure!(
        digest(&bytes) == record.object,
        "{path} is not the object that {at} describes; rebuild it with `cargo xtask ebpf`"
    );
    ensure!(
        object.sources(root)? == record.sources,
        "the sources of {path} ({}, {}) have changed since it was built; rebuild it with `cargo xtask ebpf`",
        object.folders.join(", "),
        object.manifests.join(", ")
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
            "ebpf: no BPF toolchain here, so only hashes were compared: {path} is the recorded one and its sources have not changed since"
        );
        return Ok(());
    };
    if (&toolchain.rustc, &toolchain.linker) != (&record.rustc, &record.linker) {
        eprintln!(
            "ebpf: only hashes were compared: {path} was made by {} and {}, here are {} and {}",
            record.rustc, record.linker, toolchain.rustc, toolchain.linker
        );
        return Ok(());
    }
    let built = toolchain.build(root, object.bin)?;
    ensure!(
        built == bytes,
        "{path} ({} bytes) is not what {} makes of its sources ({} bytes); rebuild it with `cargo xtask ebpf`",
        bytes.len(),
        toolchain.rustc,
        built.len()
    );
    eprintln!(
        "ebpf: {path} rebuilt with {}, the same {} bytes",
        toolchain.rustc,
        bytes.len()
    );
    Ok(())
}

/// What made an object.
struct Record {
    sources: String,
    object: String,
    rustc: String,
    linker: String,
}

impl Record {
    fn read(root: &Path, object: &Object) -> Result<Self> {
        let at = object.record;
        let text = fs::read_to_string(root.join(at)).with_context(|| format!("reading {at}"))?;
        let table: toml::Table = text.parse().with_context(|| format!("parsing {at}"))?;
        let field = |key: &str| {
            let value = table
                .get(key)
                .and_then(toml::Value::as_str)
                .map(str::to_owned);
            value.with_context(|| format!("{at} has no string `{key}`"))
        };
        Ok(Self {
            sources: field("sources")?,
            object: field("object")?,
            rustc: field("rustc")?,
            linker: field("linker")?,
        })
    }

    fn to_toml(&self, of: &Object) -> String {
        let Self {
            sources,
            object,
            rustc,
            linker,
        } = self;
        let name = of.path.trim_start_matches("ebpf/");
        format!(
            "# Written by `cargo xtask ebpf`: what made {name}. `cargo xtask ebpf --check` holds it to this.\n\
             # SHA-256 of every source file, by path, and of the flags.\n\
             sources = \"{sources}\"\n\
             # SHA-256 of the object.\n\
             object = \"{object}\"\n\
             rustc = \"{rustc}\"\n\
             linker = \"{linker}\"\n"
        )
    }
}

impl Object {
    /// One hash over everything that the object is made of.
    fn sources(&self, root: &Path) -> Result<String> {
        let mut files: Vec<_> = self.manifests.iter().map(PathBuf::from).collect();
        for folder in self.folders {
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
            add(&fs::read(root.join(&file))
                .with_context(|| format!("reading {}", file.display()))?);
        }
        Ok(hex(&hasher.finalize()))
    }
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

    /// The bytes that the binary `bin` of `ebpf/` is compiled to.
    fn build(&self, root: &Path, bin: &str) -> Result<Vec<u8>> {
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
                "--bin",
                bin,
                "--target",
                TARGET,
            ])
            .args(["-Z", "build-std=core", "--target-dir"])
            .arg(&target)
            .env("RUSTC", &self.compiler)
            // `-Z build-std` on a compiler that is not called nightly.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags);
        succeed(&mut cargo).with_context(|| format!("building {bin} of ebpf/"))?;
        let path = target.join(TARGET).join("release").join(bin);
        let object = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(
            object.len() <= OBJECT_LIMIT,
            "the object of {bin} has {} bytes, more than {OBJECT_LIMIT}",
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
