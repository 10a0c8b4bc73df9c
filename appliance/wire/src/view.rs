//! Bounds-checked reading, abstracted so that kernel and user space share a parser.

/// A packet that can be read at constant offsets. In user space it is a slice; in the XDP program it
/// is the `data..data_end` pair, where each read is the comparison that the verifier wants to see.
pub trait View {
    /// `N` bytes at `offset`, or `None` if the packet ends before.
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// True if the packet has at least `length` bytes. A comparison and not a length: subtracting
    /// packet pointers is refused to a program loaded without `CAP_PERFMON`, comparing them is not.
    fn holds(&self, length: usize) -> bool;

    /// True if the whole packet has at least `length` bytes, those included that cannot be read here: a
    /// jumbo frame's rest lies in further buffers.
    fn has(&self, length: usize) -> bool;

    /// One byte.
    #[inline(always)]
    fn u8(&self, offset: usize) -> Option<u8> {
        Some(self.bytes::<1>(offset)?[0])
    }

    /// A big-endian (network order) 16-bit number.
    #[inline(always)]
    fn u16_be(&self, offset: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes::<2>(offset)?))
    }
}

impl View for [u8] {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk::<N>().copied()
    }

    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        self.len() >= length
    }

    #[inline(always)]
    fn has(&self, length: usize) -> bool {
        self.len() >= length
    }
}
