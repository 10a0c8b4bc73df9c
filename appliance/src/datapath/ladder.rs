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
use std::os::fd::OwnedFd;

use aya::programs::XdpMode;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
use serde::Serialize;

use super::error::DatapathError;
use super::program::Program;
use super::sys::sockopt;
use super::sys::xsk::{Mode, XskSource};
use super::{PathChoice, ReceiverConfig};

/// Receive buffer of the plain socket: 20 ms at 10 Gbit/s. The kernel doubles it for its own overhead.
const SOCKET_BUFFER: u32 = 25 << 20;

/// The way packets take, as every result states it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathInfo {
    /// `af_xdp` or `recvmmsg`.
    pub receiver: &'static str,
    /// `native`, `generic` or `none`.
    pub xdp_mode: &'static str,
    /// `zero-copy`, `copy` or `none`.
    pub umem: &'static str,
    /// `xdp-tai` (stamped by the XDP program with `CLOCK_TAI`) or `kernel-realtime` (stamped by the
    /// stack with `CLOCK_REALTIME`).
    pub timestamps: &'static str,
    /// Why higher rungs were not taken, and what limits this one; one sentence each.
    pub fallback_reasons: Vec<String>,
}

/// What was chosen.
pub(super) enum Chosen {
    /// An AF_XDP socket behind the attached program.
    Xdp(Box<(Program, XskSource)>),
    /// The plain socket.
    Socket,
}

/// Climbs down from the best rung that `cfg.path` allows.
pub(super) fn choose(
    cfg: &ReceiverConfig,
    socket: &UdpSocket,
    waker: &OwnedFd,
) -> Result<(Chosen, PathInfo), DatapathError> {
    let mut reasons = Vec::new();
    if cfg.path != PathChoice::Socket
        && let Some((chosen, mode, umem)) = xdp(cfg, waker, &mut reasons)?
    {
        // The port stays reserved; what reaches this socket past the program is nobody's.
        sockopt::receive_buffer(socket, 0)?;
        let info = PathInfo {
            receiver: "af_xdp",
            xdp_mode: mode,
            umem,
            timestamps: "xdp-tai",
            fallback_reasons: reasons,
        };
        return Ok((chosen, info));
    }
    let rung = match cfg.path {
        PathChoice::Native => "native XDP",
        PathChoice::Generic => "generic XDP",
        PathChoice::Auto | PathChoice::Socket => {
            plain(cfg, socket, &mut reasons)?;
            let info = PathInfo {
                receiver: "recvmmsg",
                xdp_mode: "none",
                umem: "none",
                timestamps: "kernel-realtime",
                fallback_reasons: reasons,
            };
            return Ok((Chosen::Socket, info));
        }
    };
    let interface = cfg.interface.clone();
    Err(DatapathError::Unavailable {
        interface,
        rung,
        reason: reasons.join("; "),
    })
}

type Rung = (Chosen, &'static str, &'static str);

/// Tries the XDP rungs. `None`: none can be had, `reasons` says why.
fn xdp(
    cfg: &ReceiverConfig,
    waker: &OwnedFd,
    reasons: &mut Vec<String>,
) -> Result<Option<Rung>, DatapathError> {
    let mut program = match Program::load(cfg.data_port) {
        Ok(program) => program,
        Err(e) => {
            reasons.push(format!("XDP: {e}"));
            return Ok(None);
        }
    };
    if cfg.queue >= program.queues() {
        return Err(DatapathError::Config {
            key: "queue",
            value: cfg.queue.to_string(),
            allowed: format!("0 to {}", program.queues() - 1),
        });
    }
    if cfg.path != PathChoice::Generic {
        let attached = program.attach(&cfg.interface, XdpMode::Driver);
        let modes = [(Mode::ZeroCopy, "zero-copy"), (Mode::Copy, "copy")];
        if let Some((source, umem)) = bind(cfg, waker, attached, "native XDP", &modes, reasons)? {
            return Ok(Some((connect(cfg, program, source)?, "native", umem)));
        }
        program.detach();
    }
    if cfg.path != PathChoice::Native {
        let attached = program.attach(&cfg.interface, XdpMode::Skb);
        let modes = [(Mode::Copy, "copy")];
        if let Some((source, umem)) = bind(cfg, waker, attached, "generic XDP", &modes, reasons)? {
            return Ok(Some((connect(cfg, program, source)?, "generic", umem)));
        }
    }
    Ok(None)
}

/// Binds a socket in the first mode that works, if the program is attached.
fn bind(
    cfg: &ReceiverConfig,
    waker: &OwnedFd,
    attached: Result<(), super::program::ProgramFailure>,
    rung: &str,
    modes: &[(Mode, &'static str)],
    reasons: &mut Vec<String>,
) -> Result<Option<(XskSource, &'static str)>, DatapathError> {
    if let Err(e) = attached {
        reasons.push(format!("{rung} on {}: {e}", cfg.interface));
        return Ok(None);
    }
    for (mode, name) in modes {
        let waker = waker.try_clone().map_err(|source| DatapathError::Os {
            what: "duplicating the waker".into(),
            source,
        })?;
        match XskSource::bind(&cfg.interface, cfg.queue, *mode, waker) {
            Ok((source, note)) => {
                reasons.extend(note);
                return Ok(Some((source, name)));
            }
            Err(e) => {
                reasons.push(format!(
                    "{rung} with {name} AF_XDP on {}: {e}",
                    cfg.interface
                ));
            }
        }
    }
    Ok(None)
}

/// Points the program at the socket.
fn connect(
    cfg: &ReceiverConfig,
    mut program: Program,
    mut source: XskSource,
) -> Result<Chosen, DatapathError> {
    if cfg.busy_poll {
        source.busy_poll()?;
    }
    program
        .redirect(cfg.queue, &source.descriptor()?)
        .map_err(|e| DatapathError::Map {
            what: "entering the AF_XDP socket into XSKS",
            source: Box::new(e),
        })?;
    Ok(Chosen::Xdp(Box::new((program, source))))
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
