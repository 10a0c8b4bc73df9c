//! Whether packets of a session pass a path whole, as far as this machine's kernel knows.
//!
//! ```text
//!  whole(socket): do not fragment ── too long ──► EMSGSIZE here, or a router's "too big" ─┐
//!  carries(from, to, L): a socket of its own, connected ─► the kernel's MTU of the path ◄─┘ remembered
//! ```
//! Claim: what the interface, the route or a router's answer forbids is refused in words before it is sent.
//! Not seen: a path that loses long packets and says nothing. Tests: below (loopback), and
//! `appliance/tests/netns/mtu.rs`.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::xsk::XskError;
use crate::xsk::option;

/// Why a path does not carry the packets of a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum PathError {
    /// They are longer than it takes.
    #[error(
        "the path from {from} to {to} takes packets of at most {mtu} bytes at the IP layer, and those of this measurement are {packet_bytes} long; ask with `--mtu {mtu}` or less, or raise the MTU on the path"
    )]
    Narrow {
        /// Here.
        from: IpAddr,
        /// There.
        to: SocketAddr,
        /// What the kernel knows of the path, bytes.
        mtu: u32,
        /// L.
        packet_bytes: u16,
    },
    /// The kernel cannot be asked.
    #[error("cannot ask for the MTU of the path from {from} to {to}: {why}")]
    Unknown {
        /// Here.
        from: IpAddr,
        /// There.
        to: SocketAddr,
        /// What it said.
        why: String,
    },
}

/// Has the kernel refuse, and routers report, what does not pass whole: nothing is sent in fragments, whose
/// loss would not be the link's.
///
/// # Errors
/// The kernel's.
pub(super) fn whole(socket: &UdpSocket, ipv6: bool) -> Result<(), XskError> {
    if ipv6 {
        let (level, name) = (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER);
        option::set(
            socket,
            level,
            name,
            &libc::IPV6_PMTUDISC_DO,
            "IPV6_MTU_DISCOVER",
        )
    } else {
        let (level, name) = (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER);
        option::set(
            socket,
            level,
            name,
            &libc::IP_PMTUDISC_DO,
            "IP_MTU_DISCOVER",
        )
    }
}

/// Whether packets of `packet_bytes` at the IP layer go from here to there whole, as far as is known.
///
/// # Errors
/// [`PathError`]: they do not, or there is no way there.
pub(super) fn carries(from: IpAddr, to: SocketAddr, packet_bytes: u16) -> Result<(), PathError> {
    let unknown = |why: String| PathError::Unknown { from, to, why };
    let socket = UdpSocket::bind((from, 0)).map_err(|e| unknown(e.to_string()))?;
    socket.connect(to).map_err(|e| unknown(e.to_string()))?;
    let mut mtu: libc::c_int = 0;
    let asked = if to.is_ipv6() {
        option::get(
            &socket,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU,
            &mut mtu,
            "IPV6_MTU",
        )
    } else {
        option::get(&socket, libc::IPPROTO_IP, libc::IP_MTU, &mut mtu, "IP_MTU")
    };
    asked.map_err(|e| unknown(e.to_string()))?;
    let mtu = u32::try_from(mtu).unwrap_or(0);
    if u32::from(packet_bytes) <= mtu {
        return Ok(());
    }
    Err(PathError::Narrow {
        from,
        to,
        mtu,
        packet_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways, because the options have other names and numbers.
    #[test]
    fn loopback_carries_its_65536_bytes_and_refuses_fragments() {
        for here in ["127.0.0.1", "::1"] {
            let here: IpAddr = here.parse().unwrap();
            let there = UdpSocket::bind((here, 0)).unwrap();
            let to = there.local_addr().unwrap();
            assert!(carries(here, to, 9000).is_ok());
            assert!(carries(here, to, u16::MAX).is_ok());
            let socket = UdpSocket::bind((here, 0)).unwrap();
            whole(&socket, here.is_ipv6()).unwrap();
            assert_eq!(socket.send_to(&[0; 8960], to).unwrap(), 8960);
        }
    }

    #[test]
    fn no_way_there_is_said() {
        let here: IpAddr = "127.0.0.1".parse().unwrap();
        let why = carries(here, "[::1]:9".parse().unwrap(), 1500).unwrap_err();
        assert!(matches!(why, PathError::Unknown { .. }), "{why}");
    }
}
