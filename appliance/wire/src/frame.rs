//! From an Ethernet frame to a three-way answer: ours, not ours, or ours and wrong.
//!
//! Invariant 9 of the architecture lives here: whatever is not UDP to the data port is *not ours* and
//! passes untouched. Whatever is addressed to the data port and is not exactly right is refused
//! with a reason, before it costs anything.

use crate::consent::ConsentKey;
use crate::header::{HEADER_LEN, Header, HeaderError, Kind};
use crate::size::Size;
use crate::view::View;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const PROTOCOL_UDP: u8 = 17;
/// Length of an Ethernet header without tags.
pub const ETHERNET_LEN: usize = 14;

/// What became of a frame in the XDP program. Each has one per-CPU counter; the numbers are the
/// counters' indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Fate {
    /// Passed to the stack: neither IPv4 nor IPv6 (ARP, LLDP …), or too short to tell.
    PassedNotIp = 0,
    /// Passed: carries a VLAN tag, which a measured port does not expect.
    PassedVlan = 1,
    /// Passed: an IP fragment.
    PassedFragment = 2,
    /// Passed: IPv4 with options.
    PassedIpOptions = 3,
    /// Passed: not UDP.
    PassedNotUdp = 4,
    /// Passed: UDP to another port.
    PassedOtherPort = 5,
    /// Dropped: to the data port, but shorter than its headers say or need.
    DroppedRunt = 6,
    /// Dropped: wrong magic, version, kind or reserved byte.
    DroppedHeader = 7,
    /// Dropped: not the length of a data packet, or not that of its session's.
    DroppedLength = 8,
    /// Dropped: no consent for this source, port, session and index, or it has run out.
    DroppedNotConsented = 9,
    /// Handed to the AF_XDP socket (the kernel may still refuse it: see the socket's own counters).
    Redirected = 10,
    /// Dropped: no AF_XDP socket on this queue.
    DroppedNoSocket = 11,
    /// Dropped: its sender has sent all that was consented to.
    DroppedOverConsent = 12,
    /// Dropped: without its session's cookie, so not from its challenger, whatever its address says.
    DroppedCookie = 13,
    /// Dropped: before the session's start.
    DroppedEarly = 14,
}

impl Fate {
    /// All fates, in the order of their counters.
    pub const ALL: [Self; 15] = [
        Self::PassedNotIp,
        Self::PassedVlan,
        Self::PassedFragment,
        Self::PassedIpOptions,
        Self::PassedNotUdp,
        Self::PassedOtherPort,
        Self::DroppedRunt,
        Self::DroppedHeader,
        Self::DroppedLength,
        Self::DroppedNotConsented,
        Self::Redirected,
        Self::DroppedNoSocket,
        Self::DroppedOverConsent,
        Self::DroppedCookie,
        Self::DroppedEarly,
    ];

    /// Name used as a metric label and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::PassedNotIp => "passed_not_ip",
            Self::PassedVlan => "passed_vlan",
            Self::PassedFragment => "passed_fragment",
            Self::PassedIpOptions => "passed_ip_options",
            Self::PassedNotUdp => "passed_not_udp",
            Self::PassedOtherPort => "passed_other_port",
            Self::DroppedRunt => "dropped_runt",
            Self::DroppedHeader => "dropped_header",
            Self::DroppedLength => "dropped_length",
            Self::DroppedNotConsented => "dropped_not_consented",
            Self::Redirected => "redirected",
            Self::DroppedNoSocket => "dropped_no_socket",
            Self::DroppedOverConsent => "dropped_over_consent",
            Self::DroppedCookie => "dropped_cookie",
            Self::DroppedEarly => "dropped_early",
        }
    }
}

/// A frame that is addressed to the data port and is a well-formed data packet. Whether its sender
/// may send is the consent table's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Source address, source port, session and index: what to look up. Built here, where they are read: the
    /// XDP program would otherwise carry them byte by byte from the parser to the look-up.
    pub key: ConsentKey,
    /// Where the UDP payload (our header) begins in the frame.
    pub payload: usize,
    /// How long it is.
    pub size: Size,
    /// The header.
    pub header: Header,
}

/// The three-way answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A data packet; look up its consent.
    Ours(Match),
    /// Not addressed to the data port: pass, untouched.
    NotOurs(Fate),
    /// Addressed to the data port and wrong: drop, counted.
    Refused(Fate),
}

/// Classifies a whole Ethernet frame.
#[inline(always)]
pub fn classify<V: View + ?Sized>(frame: &V, data_port: u16) -> Class {
    let Some(ethertype) = frame.u16_be(12) else {
        return Class::NotOurs(Fate::PassedNotIp);
    };
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(frame, data_port),
        ETHERTYPE_IPV6 => ipv6(frame, data_port),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Class::NotOurs(Fate::PassedVlan),
        _ => Class::NotOurs(Fate::PassedNotIp),
    }
}

#[inline(always)]
fn ipv4<V: View + ?Sized>(frame: &V, data_port: u16) -> Class {
    let Some(ip) = frame.bytes::<20>(ETHERNET_LEN) else {
        return Class::NotOurs(Fate::PassedNotIp);
    };
    if ip[0] >> 4 != 4 {
        return Class::NotOurs(Fate::PassedNotIp);
    }
    if ip[0] != 0x45 {
        return Class::NotOurs(Fate::PassedIpOptions);
    }
    // More-fragments flag or a fragment offset: the UDP header may not be there.
    if (ip[6] & 0x3f) | ip[7] != 0 {
        return Class::NotOurs(Fate::PassedFragment);
    }
    if ip[9] != PROTOCOL_UDP {
        return Class::NotOurs(Fate::PassedNotUdp);
    }
    let total = u16::from_be_bytes([ip[2], ip[3]]) as usize;
    let source = crate::consent::mapped_v4([ip[12], ip[13], ip[14], ip[15]]);
    udp::<V, { ETHERNET_LEN + 20 }>(frame, data_port, source, total.saturating_sub(20))
}

#[inline(always)]
fn ipv6<V: View + ?Sized>(frame: &V, data_port: u16) -> Class {
    let Some(ip) = frame.bytes::<40>(ETHERNET_LEN) else {
        return Class::NotOurs(Fate::PassedNotIp);
    };
    if ip[0] >> 4 != 6 {
        return Class::NotOurs(Fate::PassedNotIp);
    }
    // Extension headers (fragments among them) are not UDP here, and pass.
    if ip[6] != PROTOCOL_UDP {
        return Class::NotOurs(if ip[6] == 44 {
            Fate::PassedFragment
        } else {
            Fate::PassedNotUdp
        });
    }
    let length = u16::from_be_bytes([ip[4], ip[5]]) as usize;
    let source = [
        ip[8], ip[9], ip[10], ip[11], ip[12], ip[13], ip[14], ip[15], ip[16], ip[17], ip[18],
        ip[19], ip[20], ip[21], ip[22], ip[23],
    ];
    udp::<V, { ETHERNET_LEN + 40 }>(frame, data_port, source, length)
}

/// `length` is what the IP header says the UDP datagram takes.
#[inline(always)]
fn udp<V: View + ?Sized, const AT: usize>(
    frame: &V,
    data_port: u16,
    source: [u8; 16],
    length: usize,
) -> Class {
    let Some(udp) = frame.bytes::<8>(AT) else {
        // Too short to hold ports, so not addressed to ours.
        return Class::NotOurs(Fate::PassedNotUdp);
    };
    if u16::from_be_bytes([udp[2], udp[3]]) != data_port {
        return Class::NotOurs(Fate::PassedOtherPort);
    }
    let udp_length = u16::from_be_bytes([udp[4], udp[5]]) as usize;
    match payload(
        frame,
        AT + 8,
        udp_length.saturating_sub(8),
        udp_length <= length,
    ) {
        Ok((header, size)) => Class::Ours(Match {
            key: ConsentKey::new(
                source,
                u16::from_be_bytes([udp[0], udp[1]]),
                header.session,
                header.index,
            ),
            payload: AT + 8,
            size,
            header,
        }),
        Err(fate) => Class::Refused(fate),
    }
}

/// Judges the UDP payload of a datagram that was sent to the data port. A receiver behind a plain
/// socket, which sees no frames, calls this directly, so both refuse for the same reasons.
///
/// `at` is where the payload begins in `view`, `length` how long UDP says it is, and `fits` false if
/// an outer header contradicts that. All reads are at constant distances from `at`: the verifier
/// refuses others to a program loaded without `CAP_PERFMON`.
///
/// # Errors
/// [`Fate::DroppedRunt`], [`Fate::DroppedHeader`] or [`Fate::DroppedLength`].
#[inline(always)]
pub fn payload<V: View + ?Sized>(
    view: &V,
    at: usize,
    length: usize,
    fits: bool,
) -> Result<(Header, Size), Fate> {
    let header = match Header::parse(view, at) {
        Ok(header) => header,
        Err(HeaderError::Short) => return Err(Fate::DroppedRunt),
        Err(_) => return Err(Fate::DroppedHeader),
    };
    if length < HEADER_LEN || !fits {
        return Err(Fate::DroppedRunt);
    }
    if header.kind as u8 != Kind::Data as u8 {
        return Err(Fate::DroppedHeader);
    }
    let Some(size) = Size::of_payload(length) else {
        return Err(Fate::DroppedLength);
    };
    if !view.has(at + length) {
        return Err(Fate::DroppedRunt);
    }
    Ok((header, size))
}
