//! Whole frames around ready-made payloads, for engines that pass the network stack by.
//!
//! ```text
//!   0          14                34 (54)   42 (62)
//!   │ Ethernet │ IPv4 20 (IPv6 40) │ UDP 8 │ payload …
//! ```
//!
//! Claim: what it writes is what the stack would have sent from [`Link::source`] to
//! [`Link::destination`]: no fragment, no option, a right IP checksum. The UDP checksum is left out over
//! IPv4, where it may be (RFC 768), and computed over IPv6, where it may not. Not promised: that the
//! addresses exist. Tests: below, and `appliance/tests/datapath/tx.rs` (frames that a kernel takes).

use std::net::{IpAddr, SocketAddr};

use super::GeneratorError;

const ETHERNET: usize = 14;
const UDP: usize = 8;
/// The longest headers: Ethernet, IPv6, UDP.
const LONGEST: usize = ETHERNET + 40 + UDP;
const PROTOCOL_UDP: u8 = 17;
const HOPS: u8 = 64;

/// Between which addresses frames go, and by which queue of which interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface that sends, in the caller's network namespace.
    pub interface: String,
    /// Its queue.
    pub queue: u32,
    /// Its MAC address.
    pub source_mac: [u8; 6],
    /// MAC address of the next hop.
    pub destination_mac: [u8; 6],
    /// Address and port that the frames come from.
    pub source: SocketAddr,
    /// The prover's data port. Of the same IP version.
    pub destination: SocketAddr,
}

/// Ethernet, IP and UDP headers of every frame between two ends with payloads of one length.
#[derive(Clone, Debug)]
pub struct Headers {
    bytes: [u8; LONGEST],
    length: usize,
    payload: usize,
    /// What pseudo header and UDP header add to the checksum; none over IPv4, which goes without.
    sum: Option<u64>,
}

impl Headers {
    /// Headers for payloads of `payload` bytes.
    ///
    /// # Errors
    /// Ends of different IP versions, or a payload that no UDP datagram holds.
    pub fn new(link: &Link, payload: usize) -> Result<Self, GeneratorError> {
        let wrong = |key, value: usize, allowed| GeneratorError::Plan {
            key,
            value: value as u64,
            allowed,
        };
        let udp = u16::try_from(UDP + payload)
            .ok()
            .filter(|_| payload <= super::LONGEST)
            .ok_or_else(|| wrong("packet_len", payload, "1 to 65,507 bytes"))?;
        let mut bytes = [0; LONGEST];
        bytes[..6].copy_from_slice(&link.destination_mac);
        bytes[6..12].copy_from_slice(&link.source_mac);
        let ip = &mut bytes[12..];
        let (length, sum) = match (link.source.ip(), link.destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                ip[..2].copy_from_slice(&[0x08, 0x00]);
                // Version and length; not to be fragmented.
                ip[2] = 0x45;
                ip[4..6].copy_from_slice(&(20 + udp).to_be_bytes());
                ip[8] = 0x40;
                (ip[10], ip[11]) = (HOPS, PROTOCOL_UDP);
                ip[14..18].copy_from_slice(&from.octets());
                ip[18..22].copy_from_slice(&to.octets());
                let sum = !folded(words(&ip[2..22]));
                ip[12..14].copy_from_slice(&sum.to_ne_bytes());
                (ETHERNET + 20 + UDP, None)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                ip[..2].copy_from_slice(&[0x86, 0xdd]);
                ip[2] = 0x60;
                ip[6..8].copy_from_slice(&udp.to_be_bytes());
                (ip[8], ip[9]) = (PROTOCOL_UDP, HOPS);
                ip[10..26].copy_from_slice(&from.octets());
                ip[26..42].copy_from_slice(&to.octets());
                let pseudo =
                    words(&ip[10..42]) + words(&udp.to_be_bytes()) + words(&[0, PROTOCOL_UDP]);
                (ETHERNET + 40 + UDP, Some(pseudo))
            }
            _ => {
                return Err(GeneratorError::Link {
                    what: format!(
                        "source {} and destination {} are of different IP versions",
                        link.source, link.destination
                    ),
                });
            }
        };
        let header = &mut bytes[length - UDP..length];
        header[..2].copy_from_slice(&link.source.port().to_be_bytes());
        header[2..4].copy_from_slice(&link.destination.port().to_be_bytes());
        header[4..6].copy_from_slice(&udp.to_be_bytes());
        let sum = sum.map(|pseudo| pseudo + words(header));
        Ok(Self {
            bytes,
            length,
            payload,
            sum,
        })
    }

    /// Bytes of a whole frame.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        self.length + self.payload
    }

    /// Writes the frame of `payload` to the beginning of `frame`; returns its length. None if the
    /// payload has another length than these headers state, or `frame` does not hold it.
    #[must_use]
    pub fn write(&self, payload: &[u8], frame: &mut [u8]) -> Option<usize> {
        let frame = frame.get_mut(..self.frame_len())?;
        let (head, body) = frame.split_at_mut(self.length);
        if body.len() != payload.len() {
            return None;
        }
        head.copy_from_slice(&self.bytes[..self.length]);
        body.copy_from_slice(payload);
        if let Some(sum) = self.sum {
            // A sum of 0 is sent as its other form: 0 means none.
            let sum = match !folded(sum + words(payload)) {
                0 => u16::MAX,
                sum => sum,
            };
            head[self.length - 2..].copy_from_slice(&sum.to_ne_bytes());
        }
        Some(self.frame_len())
    }
}

/// Sum of 16-bit words in the machine's own order, to be folded (RFC 1071: the order does not matter as
/// long as it is one). Four bytes at a time: the carry of each half ends up where it belongs.
fn words(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(4);
    let whole: u64 = (&mut chunks)
        .map(|c| u64::from(u32::from_ne_bytes([c[0], c[1], c[2], c[3]])))
        .sum();
    let rest = match *chunks.remainder() {
        [a] => u16::from_ne_bytes([a, 0]).into(),
        [a, b] => u16::from_ne_bytes([a, b]).into(),
        [a, b, c] => u32::from_ne_bytes([a, b, c, 0]).into(),
        _ => 0,
    };
    whole + rest
}

fn folded(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(sum) => return sum,
            Err(_) => sum = (sum >> 16) + (sum & 0xffff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(source: &str, destination: &str) -> Link {
        Link {
            interface: "veth0".into(),
            queue: 0,
            source_mac: [2, 0, 0, 0, 0, 2],
            destination_mac: [2, 0, 0, 0, 0, 1],
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    /// The checksum as RFC 1071 says it, two bytes at a time, in network order.
    fn plain(parts: &[&[u8]]) -> u16 {
        let mut sum = 0u32;
        for part in parts {
            for pair in part.chunks(2) {
                sum += u32::from(u16::from_be_bytes([
                    pair[0],
                    pair.get(1).copied().unwrap_or(0),
                ]));
                sum = (sum >> 16) + (sum & 0xffff);
            }
        }
        u16::try_from(sum).unwrap()
    }

    #[test]
    fn ipv4_is_as_rfc_791_and_768_say() {
        let headers = Headers::new(&link("10.9.0.2:40001", "10.9.0.1:47000"), 100).unwrap();
        let mut frame = [0xee; 200];
        assert_eq!(headers.write(&[7; 100], &mut frame), Some(142));
        assert_eq!(frame[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        assert_eq!(
            plain(&[&frame[14..34]]),
            0xffff,
            "a right header sums to this"
        );
        assert_eq!(frame[16..18], 128u16.to_be_bytes());
        assert_eq!(frame[34..36], 40_001u16.to_be_bytes());
        assert_eq!(frame[36..38], 47_000u16.to_be_bytes());
        assert_eq!(frame[38..42], [0, 108, 0, 0], "length, and no checksum");
        assert_eq!(frame[42..142], [7; 100]);
        assert_eq!(frame[142..], [0xee; 58], "nothing beyond");
    }

    #[test]
    fn ipv6_has_a_checksum_whatever_the_payload() {
        for length in [1usize, 2, 3, 4, 63, 64, 1451, 1452] {
            let headers =
                Headers::new(&link("[fd77::2]:40001", "[fd77::1]:47000"), length).unwrap();
            let payload: Vec<u8> = (0..length)
                .map(|i| (i * 7 % 256).try_into().unwrap())
                .collect();
            let mut frame = vec![0; 62 + length];
            assert_eq!(headers.write(&payload, &mut frame), Some(62 + length));
            let udp = u16::try_from(8 + length).unwrap().to_be_bytes();
            let sum = plain(&[&frame[22..54], &udp, &[0, 17], &frame[54..]]);
            assert_eq!(sum, 0xffff, "{length}");
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_ones() {
        let headers = Headers::new(&link("[fd77::2]:40001", "[fd77::1]:47000"), 2).unwrap();
        let mut frame = [0; 64];
        let mut ones = 0;
        for word in 0..=u16::MAX {
            let _ = headers.write(&word.to_be_bytes(), &mut frame);
            assert_ne!(frame[60..62], [0, 0]);
            ones += u32::from(frame[60..62] == [0xff, 0xff]);
        }
        assert_eq!(ones, 1, "exactly one payload of two bytes sums to zero");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mixed = Headers::new(&link("10.9.0.2:1", "[fd77::1]:2"), 100);
        assert!(
            matches!(mixed, Err(GeneratorError::Link { .. })),
            "{mixed:?}"
        );
        let ends = link("10.9.0.2:1", "10.9.0.1:2");
        assert!(Headers::new(&ends, 65_507).is_ok());
        assert!(Headers::new(&ends, 65_508).is_err());
        let headers = Headers::new(&ends, 100).unwrap();
        assert_eq!(headers.write(&[0; 99], &mut [0; 200]), None);
        assert_eq!(headers.write(&[0; 100], &mut [0; 141]), None);
        assert_eq!(headers.write(&[0; 100], &mut [0; 142]), Some(142));
    }
}
