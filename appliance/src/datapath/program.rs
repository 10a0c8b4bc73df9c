//! The XDP program and its maps, as user space holds them.
//!
//! ```text
//!  OBJECT ── load(data port) ──► program ── attach(interface, mode) ──► bpf_link (an fd)
//!                                maps: CONSENT ◄ rows   FATES ► counts   XSKS ◄ socket
//! ```
//!
//! The object is built by `cargo xtask ebpf` and embedded. The attachment is a `bpf_link`: the kernel
//! detaches it when the last descriptor closes, also when the process is killed. Loading and attaching
//! need capabilities (`CAP_BPF`, `CAP_NET_ADMIN`); the map operations work by descriptor afterwards,
//! without any (Linux ≥ 5.19).

use std::collections::BTreeMap;

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use plumbline_wire::{ConsentEntry, ConsentKey, Fate};

use super::sys::pod::{Entry, Key};

/// The compiled program.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../ebpf/plumbline.bpf.o"
));

/// Why the program cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramFailure {
    /// The kernel, or the verifier, refused it.
    #[error(
        "the kernel did not load the XDP program (needs CAP_BPF and CAP_NET_ADMIN, and Linux 6.1 or newer for bpf_ktime_get_tai_ns): {0}"
    )]
    Load(#[source] Box<EbpfError>),
    /// A program or map is not in the object.
    #[error("the embedded object has no {0}; rebuild it with `cargo xtask ebpf`")]
    Missing(&'static str),
    /// A map of the object has another shape.
    #[error("map {0} of the embedded object: {1}; rebuild it with `cargo xtask ebpf`")]
    Map(&'static str, #[source] Box<MapError>),
    /// The verifier refused it, or loading is not allowed.
    #[error("the kernel did not accept the XDP program (needs CAP_BPF and CAP_NET_ADMIN): {0}")]
    Program(#[source] Box<ProgramError>),
    /// It cannot be attached in this mode.
    #[error("{0}")]
    Attach(String),
}

/// A loaded program, its maps, and its attachment if there is one.
pub struct Program {
    ebpf: Ebpf,
    link: Option<FdLink>,
    consent: Consent,
    fates: Fates,
    sockets: XskMap<MapData>,
}

/// The consent table in the kernel.
pub struct Consent(HashMap<MapData, Key, Entry>);

impl Consent {
    /// Adds or replaces a row.
    ///
    /// # Errors
    /// The map is full, or the kernel does not let this process change it.
    pub fn insert(&mut self, key: ConsentKey, entry: ConsentEntry) -> Result<(), MapError> {
        self.0.insert(Key(key), Entry(entry), 0)
    }

    /// Removes a row. A row that is not there is no error.
    ///
    /// # Errors
    /// The kernel does not let this process change it.
    pub fn remove(&mut self, key: ConsentKey) -> Result<(), MapError> {
        match self.0.remove(&Key(key)) {
            Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            other => other,
        }
    }
}

/// What became of the frames.
pub struct Fates(PerCpuArray<MapData, u64>);

impl Fates {
    /// Frames by fate, summed over CPUs.
    ///
    /// # Errors
    /// The kernel does not let this process read the map.
    pub fn read(&self) -> Result<BTreeMap<Fate, u64>, MapError> {
        Fate::ALL
            .into_iter()
            .map(|fate| Ok((fate, self.0.get(&(fate as u32), 0)?.iter().sum())))
            .collect()
    }
}

impl Program {
    /// Loads the program for `data_port`.
    ///
    /// # Errors
    /// Missing capability, kernel too old, or an object that does not fit.
    pub fn load(data_port: u16) -> Result<Self, ProgramFailure> {
        let mut ebpf = EbpfLoader::new()
            .override_global("DATA_PORT", &data_port, true)
            .load(OBJECT)
            .map_err(|e| ProgramFailure::Load(Box::new(e)))?;
        xdp(&mut ebpf)?
            .load()
            .map_err(|e| ProgramFailure::Program(Box::new(e)))?;
        let consent = HashMap::try_from(take(&mut ebpf, "CONSENT")?)
            .map_err(|e| ProgramFailure::Map("CONSENT", Box::new(e)))?;
        let fates = PerCpuArray::try_from(take(&mut ebpf, "FATES")?)
            .map_err(|e| ProgramFailure::Map("FATES", Box::new(e)))?;
        let sockets = XskMap::try_from(take(&mut ebpf, "XSKS")?)
            .map_err(|e| ProgramFailure::Map("XSKS", Box::new(e)))?;
        Ok(Self {
            ebpf,
            link: None,
            consent: Consent(consent),
            fates: Fates(fates),
            sockets,
        })
    }

    /// Attaches it to `interface`.
    ///
    /// # Errors
    /// [`ProgramFailure::Attach`] with what is in the way and what to do about it.
    pub fn attach(&mut self, interface: &str, mode: XdpMode) -> Result<(), ProgramFailure> {
        let program = xdp(&mut self.ebpf)?;
        let id = program
            .attach(interface, mode)
            .map_err(|e| ProgramFailure::Attach(explain_attach(&e)))?;
        let link = program
            .take_link(id)
            .map_err(|e| ProgramFailure::Program(Box::new(e)))?;
        // The old netlink attachment would survive a killed process.
        self.link = Some(FdLink::try_from(link).map_err(|_| {
            ProgramFailure::Attach(
                "this kernel attaches XDP without a bpf_link (needs Linux 5.9)".into(),
            )
        })?);
        Ok(())
    }

    /// Detaches it, if it is attached.
    pub fn detach(&mut self) {
        self.link = None;
    }

    /// Frames of `queue` go to the AF_XDP socket `socket` from now on.
    ///
    /// # Errors
    /// The queue is beyond the map, or the socket is not bound.
    pub fn redirect(
        &mut self,
        queue: u32,
        socket: &impl std::os::fd::AsRawFd,
    ) -> Result<(), MapError> {
        self.sockets.set(queue, socket.as_raw_fd(), 0)
    }

    /// How many queues the program can serve.
    pub fn queues(&self) -> u32 {
        self.sockets.len()
    }

    /// The consent table.
    pub fn consent(&mut self) -> &mut Consent {
        &mut self.consent
    }

    /// The counters.
    pub fn fates(&self) -> &Fates {
        &self.fates
    }

    /// The program itself, for test runs.
    ///
    /// # Errors
    /// It is not in the object.
    pub fn xdp(&mut self) -> Result<&mut Xdp, ProgramFailure> {
        xdp(&mut self.ebpf)
    }
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, ProgramFailure> {
    ebpf.program_mut("plumbline")
        .ok_or(ProgramFailure::Missing("program plumbline"))?
        .try_into()
        .map_err(|e| ProgramFailure::Program(Box::new(e)))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, ProgramFailure> {
    ebpf.take_map(name).ok_or(ProgramFailure::Missing(name))
}

/// The kernel says `EBUSY` and the like; people need to know what that means here.
fn explain_attach(error: &ProgramError) -> String {
    let code = match error {
        ProgramError::SyscallError(e) => e.io_error.raw_os_error(),
        _ => None,
    };
    let why = match code {
        Some(libc::EBUSY) => {
            "another XDP program is attached; `ip link show` names it, `ip link set dev … xdp off` removes it"
        }
        Some(libc::EPERM | libc::EACCES) => "needs CAP_NET_ADMIN and CAP_BPF",
        Some(libc::EOPNOTSUPP) => "the driver has no native XDP",
        Some(libc::ERANGE | libc::EINVAL) => {
            "the driver does not take it at this MTU or with these offloads (veth: peer MTU at most 3506)"
        }
        Some(libc::EEXIST) => "XDP is attached in another mode; detach it first",
        _ => "the kernel refused",
    };
    format!("{why} ({error})")
}
