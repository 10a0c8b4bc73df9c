//! Which way packets are taken: the best that this machine allows, and why not a better one.
//!
//! ```text
//!  native XDP, zero copy ─► native XDP, copy ─► generic XDP, copy ─► recvmmsg on a plain socket
//!        └ why not ────────────┴ why not ───────────┴ why not ──► PathInfo::fallback_reasons
//! ```
//!
//! Generic XDP sees socket buffers, not frames: where a virtual link passes a sender's uncut
//! super-packets (veth with segmentation offload), each is one frame of the wrong length and is refused
//! as such. On a wire there are none.

use std::net::UdpSocket;

use aya::programs::XdpMode;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
use serde::Serialize;

use super::af_xdp::AfXdp;
use super::error::DatapathError;
use super::program::Program;
use super::receiver::clone_fd;
use super::source::XdpSocket;
use super::sys::sockopt;
#[cfg(feature = "xsk-rs")]
use super::sys::xsk_rs::XskSource;
use super::{PathChoice, ReceiverConfig};
use crate::xsk::Mode;

/// Receive buffer of the plain socket: 20 ms at 10 Gbit/s. The kernel doubles it for its own overhead.
const SOCKET_BUFFER: u32 = 25 << 20;

/// The way packets take, as every result states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathInfo {
    /// `af_xdp` or `recvmmsg`. (`af_xdp by xsk-rs` in builds that compare the two.)
    pub receiver: &'static str,
    /// `native`, `generic` or `none`.
    pub xdp_mode: &'static str,
    /// `zero-copy`, `copy` or `none`.
    pub umem: &'static str,
    /// Pages behind UMEM: `huge`, `transparent-huge`, `small` or `none`.
    pub pages: &'static str,
    /// Receive queues that are served, each by a thread of its own.
    pub queues: usize,
    /// `xdp-tai` (stamped by the XDP program with `CLOCK_TAI`) or `kernel-realtime` (stamped by the
    /// stack with `CLOCK_REALTIME`).
    pub timestamps: &'static str,
    /// Why higher rungs were not taken, and what limits this one; one sentence each.
    pub fallback_reasons: Vec<String>,
}

/// What was chosen.
pub(super) enum Chosen {
    /// An AF_XDP socket for each queue, behind the attached program.
    Xdp(Box<(Program, Vec<AfXdp>)>),
    /// The same by the other binding.
    #[cfg(feature = "xsk-rs")]
    XskRs(Box<(Program, Vec<XskSource>)>),
    /// The plain socket.
    Socket,
}

/// Climbs down from the best rung that `cfg.path` allows.
pub(super) fn choose(
    cfg: &ReceiverConfig,
    mtu: u32,
    socket: &UdpSocket,
    wakers: &[EventFd],
) -> Result<(Chosen, PathInfo), DatapathError> {
    let mut reasons = Vec::new();
    #[cfg(feature = "xsk-rs")]
    if cfg.path == PathChoice::XskRs {
        let had = xdp::<XskSource>(cfg, mtu, wakers, &mut reasons)?;
        return match had {
            Some(had) => {
                let (pair, info) = had.explain(cfg, socket, reasons)?;
                Ok((Chosen::XskRs(Box::new(pair)), info))
            }
            None => Err(unavailable(cfg, "native XDP by xsk-rs", &reasons)),
        };
    }
    if cfg.path != PathChoice::Socket
        && let Some(had) = xdp::<AfXdp>(cfg, mtu, wakers, &mut reasons)?
    {
        let (pair, info) = had.explain(cfg, socket, reasons)?;
        return Ok((Chosen::Xdp(Box::new(pair)), info));
    }
    let rung = match cfg.path {
        PathChoice::Native => "native XDP",
        PathChoice::Generic => "generic XDP",
        #[cfg(feature = "xsk-rs")]
        PathChoice::XskRs => "native XDP by xsk-rs",
        PathChoice::Auto | PathChoice::Socket => {
            plain(cfg, socket, &mut reasons)?;
            let info = PathInfo {
                receiver: "recvmmsg",
                xdp_mode: "none",
                umem: "none",
                pages: "none",
                queues: 1,
                timestamps: "kernel-realtime",
                fallback_reasons: reasons,
            };
            return Ok((Chosen::Socket, info));
        }
    };
    Err(unavailable(cfg, rung, &reasons))
}

fn unavailable(cfg: &ReceiverConfig, rung: &'static str, reasons: &[String]) -> DatapathError {
    DatapathError::Unavailable {
        interface: cfg.interface.clone(),
        rung,
        reason: reasons.join("; "),
    }
}

/// A rung that was had.
struct Rung<S> {
    program: Program,
    sockets: Vec<S>,
    mode: &'static str,
    umem: &'static str,
}

impl<S: XdpSocket> Rung<S> {
    fn explain(
        self,
        cfg: &ReceiverConfig,
        socket: &UdpSocket,
        fallback_reasons: Vec<String>,
    ) -> Result<((Program, Vec<S>), PathInfo), DatapathError> {
        // The port stays reserved; what reaches this socket past the program is nobody's.
        sockopt::receive_buffer(socket, 0)?;
        let info = PathInfo {
            receiver: S::NAME,
            xdp_mode: self.mode,
            umem: self.umem,
            pages: self.sockets.first().map_or("none", S::pages),
            queues: cfg.queues.len(),
            timestamps: "xdp-tai",
            fallback_reasons,
        };
        Ok(((self.program, self.sockets), info))
    }
}

/// Tries the XDP rungs. `None`: none can be had, `reasons` says why.
fn xdp<S: XdpSocket>(
    cfg: &ReceiverConfig,
    mtu: u32,
    wakers: &[EventFd],
    reasons: &mut Vec<String>,
) -> Result<Option<Rung<S>>, DatapathError> {
    let mut program = match Program::load(cfg.data_port) {
        Ok(program) => program,
        Err(e) => {
            reasons.push(format!("XDP: {e}"));
            return Ok(None);
        }
    };
    if let Some(beyond) = cfg.queues.iter().find(|q| **q >= program.queues()) {
        return Err(DatapathError::Config {
            key: "queues",
            value: beyond.to_string(),
            allowed: format!("0 to {}", program.queues() - 1),
        });
    }
    if cfg.path != PathChoice::Generic {
        let attached = program.attach(&cfg.interface, XdpMode::Driver);
        let modes = [(Mode::ZeroCopy, "zero-copy"), (Mode::Copy, "copy")];
        if let Some((sockets, umem)) =
            bind(cfg, mtu, wakers, attached, "native XDP", &modes, reasons)?
        {
            return connect(cfg, program, sockets, "native", umem).map(Some);
        }
        program.detach();
    }
    if matches!(cfg.path, PathChoice::Auto | PathChoice::Generic) {
        let attached = program.attach(&cfg.interface, XdpMode::Skb);
        let modes = [(Mode::Copy, "copy")];
        if let Some((sockets, umem)) =
            bind(cfg, mtu, wakers, attached, "generic XDP", &modes, reasons)?
        {
            return connect(cfg, program, sockets, "generic", umem).map(Some);
        }
    }
    Ok(None)
}

/// Binds a socket to each queue in the first mode that works for all, if the program is attached.
fn bind<S: XdpSocket>(
    cfg: &ReceiverConfig,
    mtu: u32,
    wakers: &[EventFd],
    attached: Result<(), super::program::ProgramFailure>,
    rung: &str,
    modes: &[(Mode, &'static str)],
    reasons: &mut Vec<String>,
) -> Result<Option<(Vec<S>, &'static str)>, DatapathError> {
    if let Err(e) = attached {
        reasons.push(format!("{rung} on {}: {e}", cfg.interface));
        return Ok(None);
    }
    'modes: for (mode, name) in modes {
        let mut sources = Vec::with_capacity(cfg.queues.len());
        let mut notes = Vec::new();
        for (queue, waker) in cfg.queues.iter().zip(wakers) {
            match S::bind(&cfg.interface, *queue, mtu, *mode, clone_fd(waker)?) {
                Ok((source, note)) => {
                    notes.extend(note);
                    sources.push(source);
                }
                Err(e) => {
                    reasons.push(format!(
                        "{rung} with {name} AF_XDP on {}: {e}",
                        cfg.interface
                    ));
                    continue 'modes;
                }
            }
        }
        notes.dedup();
        reasons.extend(notes);
        return Ok(Some((sources, name)));
    }
    Ok(None)
}

/// Points the program at the sockets.
fn connect<S: XdpSocket>(
    cfg: &ReceiverConfig,
    mut program: Program,
    mut sockets: Vec<S>,
    mode: &'static str,
    umem: &'static str,
) -> Result<Rung<S>, DatapathError> {
    for (queue, socket) in cfg.queues.iter().zip(&mut sockets) {
        if cfg.busy_poll {
            socket.busy_poll()?;
        }
        program
            .redirect(*queue, &socket.descriptor()?)
            .map_err(|e| DatapathError::Map {
                what: "entering an AF_XDP socket into XSKS",
                source: Box::new(e),
            })?;
    }
    Ok(Rung {
        program,
        sockets,
        mode,
        umem,
    })
}

/// Makes the plain socket a receiver.
fn plain(
    cfg: &ReceiverConfig,
    socket: &UdpSocket,
    reasons: &mut Vec<String>,
) -> Result<(), DatapathError> {
    let os = |what: &str, e: std::io::Error| DatapathError::Os {
        what: what.into(),
        source: e,
    };
    socket
        .set_nonblocking(true)
        .map_err(|e| os("making the data socket non-blocking", e))?;
    setsockopt(socket, ReceiveTimestampns, &true).map_err(|e| os("SO_TIMESTAMPNS", e.into()))?;
    let got = sockopt::receive_buffer(socket, SOCKET_BUFFER)?;
    if got < SOCKET_BUFFER as usize {
        reasons.push(format!(
            "the data socket's buffer is {got} bytes instead of {SOCKET_BUFFER}; give CAP_NET_ADMIN or raise net.core.rmem_max"
        ));
    }
    if cfg.busy_poll {
        reasons.push("busy_poll has no effect on a plain socket".into());
    }
    Ok(())
}
