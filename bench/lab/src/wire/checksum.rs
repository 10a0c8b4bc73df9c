//! Finishes a checksum that the sender left to the network card, as a card would.
//!
//! On a veth a packet usually travels with only its pseudo-header summed; a real wire carries the
//! whole. A packet that leaves the kernel through this wire must be valid when it comes back.

/// Ethernet header, and where IPv4 says what it carries.
const IP: usize = 14;
const PROTOCOL: usize = IP + 9;
/// Header of IPv6, bytes.
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Writes the full checksum into a TCP or UDP frame of IPv4 or IPv6 whose field holds the pseudo-header's sum.
/// Other frames, and those too short to have the field, are left as they are.
pub(crate) fn finish(frame: &mut [u8]) {
    let Some(Segment {
        protocol,
        start,
        end,
        field,
    }) = segment(frame)
    else {
        return;
    };
    if end > frame.len() || field + 2 > end {
        return;
    }
    let sum = !fold(&frame[start..end]);
    // Zero means "none" in UDP; its one's-complement twin means the same sum.
    let written = if sum == 0 && protocol == UDP {
        0xffff
    } else {
        sum
    };
    frame[field..field + 2].copy_from_slice(&written.to_be_bytes());
}

/// A transport segment within its frame.
struct Segment {
    protocol: u8,
    start: usize,
    end: usize,
    /// Offset of the checksum field.
    field: usize,
}

fn segment(frame: &[u8]) -> Option<Segment> {
    let length = |at: usize| {
        let bytes = frame.get(at..at + 2)?;
        Some(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    };
    let (protocol, start, end) = match (frame.get(12..14)?, frame.get(IP)? >> 4) {
        ([0x08, 0x00], 4) => {
            let start = IP + usize::from(frame[IP] & 0x0f) * 4;
            (*frame.get(PROTOCOL)?, start, IP + length(IP + 2)?)
        }
        // Behind an extension header nobody of a lab sends TCP or UDP.
        ([0x86, 0xdd], 6) => {
            let start = IP + IPV6_HEADER;
            (*frame.get(IP + 6)?, start, start + length(IP + 4)?)
        }
        _ => return None,
    };
    let field = match protocol {
        UDP => start + 6,
        TCP => start + 16,
        _ => return None,
    };
    Some(Segment {
        protocol,
        start,
        end,
        field,
    })
}

/// One's-complement sum of big-endian 16-bit words (RFC 1071).
fn fold(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(2);
    let mut sum: u64 = words
        .by_ref()
        .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [.., high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, IPv4, UDP to port 9 with `payload`, the pseudo-header's sum in the field.
    fn partial(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).unwrap();
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, UDP, 0, 0, 10, 77, 16, 2, 10, 77, 2, 2]);
        frame.extend([0x12, 0x34, 0, 9]);
        frame.extend(length.to_be_bytes());
        let mut pseudo = vec![10, 77, 16, 2, 10, 77, 2, 2, 0, UDP];
        pseudo.extend(length.to_be_bytes());
        frame.extend(fold(&pseudo).to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_finished_packet_sums_to_all_ones() {
        for payload in [&b""[..], b"odd", b"even", &[0xff; 1400]] {
            let mut frame = partial(payload);
            finish(&mut frame);
            let mut whole = vec![10, 77, 16, 2, 10, 77, 2, 2, 0, UDP];
            whole.extend(&frame[38..40]);
            whole.extend(&frame[34..]);
            assert_eq!(fold(&whole), 0xffff, "{} bytes", payload.len());
        }
    }

    #[test]
    fn what_is_not_ours_or_too_short_stays_as_it_is() {
        let whole = partial(b"payload");
        for length in 0..whole.len() {
            let mut cut = whole[..length].to_vec();
            finish(&mut cut);
            assert_eq!(cut, whole[..length]);
        }
        let mut other = whole.clone();
        other[PROTOCOL] = 1;
        let before = other.clone();
        finish(&mut other);
        assert_eq!(other, before);
    }
}
