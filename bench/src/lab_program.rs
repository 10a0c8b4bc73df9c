//! The lab's XDP programs as the bench holds them: loaded from the committed object, gone when dropped.
//!
//! ```text
//!  ebpf/lab.bpf.o ─┬─ drop_all ─► DropOnly: attached to a receiver; count()
//!                  └─ source ───► LiveFrames (source/live.rs): run, never attached
//! ```
//!
//! Claim: what [`DropOnly::count`] returns was UDP over IPv4 to that port and went no further; nothing
//! else was touched. Not promised: that an interface which another program holds is taken from it.
//! Tests: `source/live/tests.rs`.

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, PerCpuArray};
use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};

/// The compiled programs.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/../ebpf/lab.bpf.o"));

/// What to do when the object is not what this code expects.
const STALE: &str = "ebpf/lab.bpf.o is of another version; rebuild it with `cargo xtask ebpf`";

/// Loads the object's maps with its settings.
pub(crate) fn load(loader: &mut EbpfLoader<'_>) -> Result<Ebpf> {
    loader.load(OBJECT).context(
        "the kernel did not load ebpf/lab.bpf.o (needs CAP_BPF and CAP_NET_ADMIN, and Linux 5.18)",
    )
}

/// One of its programs, accepted by the verifier.
pub(crate) fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program: &mut Xdp = ebpf.program_mut(name).context(STALE)?.try_into()?;
    program
        .load()
        .with_context(|| format!("the verifier did not accept {name} of ebpf/lab.bpf.o"))?;
    Ok(program)
}

/// One of its maps.
pub(crate) fn map(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).context(STALE)
}

/// The ceiling: an XDP program that only counts and drops.
pub(crate) struct DropOnly {
    /// Keeps the program attached.
    _ebpf: Ebpf,
    dropped: PerCpuArray<MapData, u64>,
}

impl DropOnly {
    /// Attaches it to `interface` of the calling thread's network namespace, in the driver: from then on
    /// UDP over IPv4 to `port` is counted and dropped.
    ///
    /// # Errors
    /// Without CAP_BPF and CAP_NET_ADMIN, without native XDP, or where a program is attached already.
    pub(crate) fn attach(interface: &str, port: u16) -> Result<Self> {
        let mut ebpf = load(EbpfLoader::new().override_global("PORT", &port, true))?;
        let dropped = PerCpuArray::try_from(map(&mut ebpf, "DROPPED")?).context(STALE)?;
        program(&mut ebpf, "drop_all")?
            .attach(interface, XdpMode::Driver)
            .with_context(|| {
                format!(
                    "attaching drop_all to {interface} (native XDP, and no other program there)"
                )
            })?;
        Ok(Self {
            _ebpf: ebpf,
            dropped,
        })
    }

    /// Packets dropped since it was attached, on all CPUs.
    ///
    /// # Errors
    /// The kernel does not let this process read the map.
    pub(crate) fn count(&self) -> Result<u64> {
        let of_each = self.dropped.get(&0, 0).context("reading DROPPED")?;
        Ok(of_each.iter().sum())
    }
}
