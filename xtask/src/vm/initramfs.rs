//! The guest's whole file system: a cpio archive in the kernel's `newc` format.
//!
//! ```text
//!  /init                the script below, run by busybox
//!  /bin/{busybox,ip,vm} and the libraries that `ldd` names, where it names them
//!  /modules/NN-NAME.ko  the cards' drivers, each after what it depends on
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::kernel::{Kernel, children};

/// Modules for the cards; what they depend on comes by itself.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_net", "e1000e"];

/// Programs of this machine that the guest's program calls.
const PROGRAMS: [&str; 1] = ["ip"];

/// Process 1 of the guest. Its first argument, from the kernel's command line, is the card's name.
/// Results leave by the second serial port: the console has the kernel's messages in between.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t bpf bpf /sys/fs/bpf
for module in /modules/*; do
    /bin/busybox insmod "$module"
done
export PATH=/bin RUST_BACKTRACE=1
/bin/busybox stty -F /dev/ttyS1 raw
/bin/vm "$1" > /dev/ttyS1
echo "{\"kind\":\"exit\",\"status\":$?}" > /dev/ttyS1
/bin/busybox poweroff -f
"#;

/// Makes the archive.
///
/// # Errors
/// A file cannot be read, or a module or library is not where it should be.
pub(crate) fn make(kernel: &Kernel, busybox: &Path, guest: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    // The kernel opens it before anything is mounted: 5:1 is the console.
    archive.node("dev/console", CHARACTER_DEVICE | 0o600, (5, 1), &[])?;
    archive.program("init", INIT.as_bytes())?;
    archive.program("bin/busybox", &read(busybox)?)?;
    let mut libraries = BTreeSet::new();
    let mut programs = vec![("vm", guest.to_owned())];
    for name in PROGRAMS {
        programs.push((name, find(name)?));
    }
    for (name, path) in programs {
        archive.program(&format!("bin/{name}"), &read(&path)?)?;
        libraries.extend(ldd(&path)?);
    }
    for library in libraries {
        let name = library.to_string_lossy();
        archive.program(name.trim_start_matches('/'), &read(&library)?)?;
    }
    let tree = tree(&kernel.modules)?;
    let modules = in_order(&MODULES, &|name| {
        let path = tree.iter().find(|path| is_module(path, name));
        read(path.with_context(|| format!("{} has no module {name}", kernel.name))?)
    })?;
    for (number, (name, module)) in modules.iter().enumerate() {
        archive.program(&format!("modules/{number:02}-{name}.ko"), module)?;
    }
    archive.finish()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A program of this machine.
fn find(name: &str) -> Result<PathBuf> {
    let homes = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
    homes
        .iter()
        .map(|home| Path::new(home).join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} in {}", homes.join(", ")))
}

/// The libraries that a program needs, its loader included.
fn ldd(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("cannot run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`ldd {}` failed ({})", program.display(), output.status);
    }
    libraries(&text).with_context(|| format!("`ldd {}`", program.display()))
}

/// The paths in what `ldd` prints: `name => path (address)`, `path (address)`, or `name (address)` for
/// what the kernel provides.
fn libraries(ldd: &str) -> Result<Vec<PathBuf>> {
    if let Some(absent) = ldd.lines().find(|line| line.contains("not found")) {
        bail!("a library is missing: {}", absent.trim());
    }
    let words = ldd.lines().map(|line| line.split_whitespace());
    let paths = words.filter_map(|mut words| words.find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// All files below a directory.
fn tree(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in children(directory)? {
        if path.is_dir() {
            files.extend(tree(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Whether this is the file of that module: files write `-` where the kernel says `_`, at their whim.
fn is_module(path: &Path, name: &str) -> bool {
    path.extension().is_some_and(|extension| extension == "ko")
        && path
            .file_stem()
            .is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name)
}

/// The wanted modules and all that they depend on, each after its own dependencies.
fn in_order(
    wanted: &[&str],
    read: &dyn Fn(&str) -> Result<Vec<u8>>,
) -> Result<Vec<(String, Vec<u8>)>> {
    let mut ordered: Vec<(String, Vec<u8>)> = Vec::new();
    for name in wanted {
        if ordered.iter().any(|(there, _)| there == name) {
            continue;
        }
        let module = read(name)?;
        let needs = dependencies(&module);
        let needs: Vec<_> = needs.iter().map(String::as_str).collect();
        for (name, module) in in_order(&needs, read)? {
            if !ordered.iter().any(|(there, _)| *there == name) {
                ordered.push((name, module));
            }
        }
        ordered.push(((*name).to_owned(), module));
    }
    Ok(ordered)
}

/// What a module says of itself: `depends=a,b`, one of the zero-terminated strings of its `.modinfo`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let mut strings = module.split(|byte| *byte == 0);
    let list = strings.find_map(|string| string.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Every part of the archive begins at a multiple of this many bytes.
const ALIGNMENT: usize = 4;

/// A `newc` archive in the making.
#[derive(Debug, Default)]
struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// Adds an executable file.
    fn program(&mut self, name: &str, contents: &[u8]) -> Result<()> {
        self.node(name, FILE | 0o755, (0, 0), contents)
    }

    /// Adds anything, after the directories it is in.
    fn node(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> Result<()> {
        let slashes = name.match_indices('/').map(|(at, _)| at);
        for directory in slashes.map(|at| &name[..at]) {
            if !self.names.contains(directory) {
                self.entry(directory, DIRECTORY | 0o755, (0, 0), &[])?;
            }
        }
        if self.names.contains(name) {
            bail!("{name} is in the archive already");
        }
        self.entry(name, mode, device, contents)
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) -> Result<()> {
        self.names.insert(name.to_owned());
        let long = |what| format!("{name}: {what} does not fit the archive's 32 bits");
        let inode = u32::try_from(self.names.len()).with_context(|| long("number"))?;
        let size = u32::try_from(contents.len()).with_context(|| long("size"))?;
        // Its terminating zero counts.
        let name_size = u32::try_from(name.len() + 1).with_context(|| long("name"))?;
        // Inode, mode, user, group, links, time, size, device of the file system (2), device (2), name,
        // checksum (none in this format).
        let fields = [
            inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names, modes and contents, read as the kernel does.
    fn unpack(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            let (header, rest) = bytes.split_at(110);
            assert_eq!(&header[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&header[6 + 8 * n..][..8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (size, name_size) = (field(6) as usize, field(11) as usize);
            let name = std::str::from_utf8(&rest[..name_size - 1]).unwrap();
            assert_eq!(rest[name_size - 1], 0);
            if name == "TRAILER!!!" {
                return entries;
            }
            let contents = &bytes[(110 + name_size).next_multiple_of(4)..];
            entries.push((name.to_owned(), field(1), contents[..size].to_vec()));
            bytes = &contents[size.next_multiple_of(4)..];
        }
    }

    #[test]
    fn an_archive_has_each_directory_once_and_before_its_files() {
        let mut archive = Archive::default();
        archive.program("a/b/one", b"12345").unwrap();
        archive.program("a/b/two", b"").unwrap();
        archive.program("init", b"1234").unwrap();
        assert!(archive.program("init", b"again").is_err());
        let entries = unpack(&archive.finish().unwrap());
        let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", "init"]);
        assert_eq!((entries[0].1, entries[2].1), (0o040_755, 0o100_755));
        assert_eq!(entries[2].2, b"12345");
        assert_eq!(entries[4].2, b"1234");
    }

    #[test]
    fn modules_come_after_what_they_need_and_once() {
        let file = |name: &str| {
            Ok(match name {
                "card" => b"\x7fELF\0depends=bus,core-parts\0license=GPL\0".to_vec(),
                "other" => b"x\0depends=bus\0".to_vec(),
                "bus" => b"x\0depends=core_parts\0".to_vec(),
                "core_parts" => b"x\0depends=\0".to_vec(),
                _ => bail!("no {name}"),
            })
        };
        let ordered = in_order(&["card", "other"], &file).unwrap();
        let names: Vec<_> = ordered.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["core_parts", "bus", "card", "other"]);
        assert!(in_order(&["absent"], &file).is_err());
    }

    #[test]
    fn module_files_are_told_apart() {
        assert!(is_module(Path::new("/m/net-core.ko"), "net_core"));
        assert!(!is_module(Path::new("/m/net_core_x.ko"), "net_core"));
        assert!(!is_module(Path::new("/m/net_core.o"), "net_core"));
    }

    #[test]
    fn libraries_are_read_and_a_missing_one_is_an_error() {
        let good = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        let paths = libraries(good).unwrap();
        assert_eq!(
            paths,
            [Path::new("/lib/libc.so.6"), Path::new("/lib64/ld.so.2")]
        );
        assert!(libraries("\tlibelf.so.1 => not found\n").is_err());
    }
}
