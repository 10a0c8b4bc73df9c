//! Debian 12's kernel and a static busybox, fetched by apt and unpacked without being installed.
//!
//! apt checks what it downloads against the signed lists of the archive. Unpacked files stay in the
//! cache until somebody removes them; with both there, nothing is fetched and apt is not asked.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::machine;

/// Debian's name for its current kernel. The cloud variety is smaller and has no e1000e.
const PACKAGE: &str = "linux-image-amd64";
/// The series under test: that of Debian 12, the oldest on which we promise XDP (it is the first with
/// `bpf_ktime_get_tai_ns`), and without `XDP_USE_SG`.
const SERIES: &str = "6.1";
/// What is unpacked of the kernel's package: 400 MB of other drivers are not.
const WANTED: [&str; 4] = [
    "./boot/vmlinuz-*",
    "./lib/modules/*/kernel/drivers/net/*",
    "./lib/modules/*/kernel/drivers/virtio/*",
    "./lib/modules/*/kernel/net/core/*",
];

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its package's name, as `linux-image-6.1.0-56-amd64`.
    pub(crate) name: String,
    /// The bootable image.
    pub(crate) image: PathBuf,
    /// Directory in which, at any depth, its modules are.
    pub(crate) modules: PathBuf,
}

/// The kernel in `cache`, fetched if it is not there.
///
/// # Errors
/// apt cannot be reached, or offers another series; the message says what to do.
pub(crate) fn fetch(cache: &Path, say: &dyn Fn(&str)) -> Result<Kernel> {
    let name = match cached(cache)? {
        Some(name) => name,
        None => offered(say)?,
    };
    let home = unpacked(cache, &name, &WANTED, say)?;
    let boot = home.join("boot");
    let image = children(&boot)?
        .into_iter()
        .find(|path| file_name(path).starts_with("vmlinuz-"))
        .with_context(|| {
            format!(
                "{}: no kernel in it; remove {}",
                boot.display(),
                home.display()
            )
        })?;
    Ok(Kernel {
        name,
        image,
        modules: home.join("lib/modules"),
    })
}

/// A busybox that needs no libraries, fetched if it is not there.
///
/// # Errors
/// apt cannot be reached; the message says what to do.
pub(crate) fn busybox(cache: &Path, say: &dyn Fn(&str)) -> Result<PathBuf> {
    Ok(unpacked(cache, "busybox-static", &["./bin/busybox"], say)?.join("bin/busybox"))
}

/// The name of a kernel that was unpacked before.
fn cached(cache: &Path) -> Result<Option<String>> {
    let names = children(cache)?.into_iter().map(|path| file_name(&path));
    Ok(names.filter(|name| is_ours(name)).max())
}

/// Whether this is a package of the series under test.
fn is_ours(package: &str) -> bool {
    package
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_prefix(SERIES))
        .is_some_and(|rest| rest.starts_with('.') && rest.ends_with("-amd64"))
}

/// The name of the kernel that apt offers.
fn offered(say: &dyn Fn(&str)) -> Result<String> {
    let ask = || {
        let output = Command::new("apt-cache")
            .args(["show", "--no-all-versions", PACKAGE])
            .output()
            .context("cannot run apt-cache; the guest's kernel comes from Debian 12's archive")?;
        Ok::<_, anyhow::Error>(depends(&String::from_utf8_lossy(&output.stdout)))
    };
    let mut offered = ask()?;
    if offered.is_empty() {
        machine::refresh(say)?;
        offered = ask()?;
    }
    if let Some(name) = offered.iter().find(|name| is_ours(name)) {
        return Ok(name.clone());
    }
    let instead = match &offered[..] {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    bail!(
        "apt offers {instead} as {PACKAGE}, and the kernel under test is {SERIES}: run this on Debian 12, or add \
         its archive to apt's sources (deb http://deb.debian.org/debian bookworm main), below the others in \
         preference"
    )
}

/// The packages that `apt-cache show` says a package depends on.
fn depends(shown: &str) -> Vec<String> {
    let lists = shown
        .lines()
        .filter_map(|line| line.strip_prefix("Depends: "));
    lists
        .flat_map(|list| list.split(','))
        .filter_map(|item| item.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// The directory of a package's unpacked files, those that `wanted` names; fetched if it is not there.
fn unpacked(cache: &Path, package: &str, wanted: &[&str], say: &dyn Fn(&str)) -> Result<PathBuf> {
    let home = cache.join(package);
    if home.is_dir() {
        return Ok(home);
    }
    // Complete or not there at all: unpacked beside, then moved.
    let beside = cache.join(format!(".{package}.{}", std::process::id()));
    std::fs::create_dir_all(&beside)
        .with_context(|| format!("cannot make {}", beside.display()))?;
    let moved = fill(&beside, package, wanted, say).and_then(|()| {
        std::fs::rename(&beside, &home)
            .with_context(|| format!("cannot move {} to its place", beside.display()))
    });
    if moved.is_err() {
        // The error is what people need to hear; what is left over is in the way of nobody.
        let _ = std::fs::remove_dir_all(&beside);
    }
    moved.map(|()| home)
}

fn fill(into: &Path, package: &str, wanted: &[&str], say: &dyn Fn(&str)) -> Result<()> {
    say(&format!("apt-get download {package}"));
    if download(into, package).is_err() {
        // Lists that are older than the archive name versions that are gone.
        machine::refresh(say)?;
        download(into, package)?;
    }
    let deb = children(into)?
        .into_iter()
        .find(|path| file_name(path).ends_with(".deb"))
        .with_context(|| format!("apt-get downloaded {package} and no file is there"))?;
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(&deb)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let tar = Command::new("tar")
        .args(["-x", "-C"])
        .arg(into)
        .arg("--wildcards")
        .args(wanted)
        .stdin(contents.stdout.take().context("dpkg-deb has no output")?)
        .status()
        .context("cannot run tar")?;
    let read = contents.wait().context("cannot wait for dpkg-deb")?;
    if !tar.success() || !read.success() {
        bail!("unpacking {}: dpkg-deb {read}, tar {tar}", deb.display());
    }
    std::fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))
}

fn download(into: &Path, package: &str) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-q", "download", package])
        .current_dir(into)
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!(
            "`apt-get download {package}` failed ({}): is the archive reachable? It says:\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(())
}

/// What is in a directory.
pub(crate) fn children(directory: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("cannot list {}", directory.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_in_what_apt_says() {
        let shown = "Package: linux-image-amd64\nVersion: 6.1.1-1\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.1-1), kmod\n";
        assert_eq!(depends(shown), ["linux-image-6.1.0-56-amd64", "kmod"]);
        assert!(depends("Package: x\nPre-Depends: y\n").is_empty());
    }

    #[test]
    fn only_the_series_under_test_is_taken() {
        assert!(is_ours("linux-image-6.1.0-56-amd64"));
        assert!(!is_ours("linux-image-6.12.4-amd64"));
        assert!(!is_ours("linux-image-6.1.0-56-arm64"));
        assert!(!is_ours(".linux-image-6.1.0-56-amd64.7"));
        assert!(!is_ours("busybox-static"));
    }
}
