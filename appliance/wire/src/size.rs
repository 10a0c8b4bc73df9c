//! How long a data packet is: one of three UDP payload lengths, each a whole number of BLAKE3 blocks.

/// The UDP payload of a session's data packets. All packets of a session have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum Size {
    /// 1408 bytes: an MTU of 1500 over IPv6 with room for 44 bytes of extension headers or a tunnel.
    Tunnel = 1408,
    /// 1472 bytes: an MTU of 1500 over IPv4, exactly.
    #[default]
    Standard = 1472,
    /// 8960 bytes: an MTU of 9000 over IPv4 (9008 over IPv6).
    Jumbo = 8960,
}

/// The longest payload, bytes.
pub const LONGEST: usize = Size::Jumbo.payload();

impl Size {
    /// All sizes, ascending.
    pub const ALL: [Self; 3] = [Self::Tunnel, Self::Standard, Self::Jumbo];

    /// Bytes of UDP payload.
    #[inline(always)]
    pub const fn payload(self) -> usize {
        self as usize
    }

    /// The size whose UDP payload is so long.
    #[inline(always)]
    pub fn of_payload(length: usize) -> Option<Self> {
        if length == Self::Standard.payload() {
            Some(Self::Standard)
        } else if length == Self::Jumbo.payload() {
            Some(Self::Jumbo)
        } else if length == Self::Tunnel.payload() {
            Some(Self::Tunnel)
        } else {
            None
        }
    }

    /// Bytes at the IP layer over IPv4: what a rate counts.
    pub const fn ip_layer(self) -> usize {
        self.payload() + crate::header::IP_UDP_LEN
    }
}

const _: () = {
    let mut i = 0;
    while i < Size::ALL.len() {
        // Whole blocks, and more than a header.
        assert!(Size::ALL[i].payload().is_multiple_of(64));
        assert!(Size::ALL[i].payload() > crate::header::HEADER_LEN);
        i += 1;
    }
    assert!(Size::Standard.payload() == crate::header::DATA_LEN);
    assert!(Size::Standard.ip_layer() <= 1500 && Size::Jumbo.ip_layer() <= 9000);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_names_its_size_and_no_other_does() {
        for length in 0..=LONGEST + 64 {
            let named = Size::of_payload(length);
            assert_eq!(named.is_some(), [1408, 1472, 8960].contains(&length));
            if let Some(size) = named {
                assert_eq!(size.payload(), length);
            }
        }
    }
}
