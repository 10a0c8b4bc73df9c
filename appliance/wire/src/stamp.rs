//! The arrival stamp that the XDP program leaves in a matched frame.
//!
//! The twelve bytes of MAC addresses of a frame that goes to AF_XDP are of no more use, so the
//! program overwrites them: no helper call, no extra cache line, and it works on drivers that refuse
//! `bpf_xdp_adjust_meta`.
//!
//! ```text
//!  0        8     10     12
//!  │ TAI ns │ cpu │flags │
//! ```

/// Bytes of a stamp.
pub const STAMP_LEN: usize = 12;

/// `flags`: the stamp was taken in software by the XDP program with `bpf_ktime_get_tai_ns`.
pub const FLAG_XDP_TAI: u16 = 1;

/// When and where a frame was first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Nanoseconds of the clock that `flags` names.
    pub ns: u64,
    /// CPU that ran the XDP program.
    pub cpu: u16,
    /// Which clock made the stamp; 0 means none did.
    pub flags: u16,
}

impl Stamp {
    /// The stamp as it lies in the frame (little endian).
    #[inline(always)]
    pub fn to_bytes(self) -> [u8; STAMP_LEN] {
        let t = self.ns.to_le_bytes();
        let c = self.cpu.to_le_bytes();
        let f = self.flags.to_le_bytes();
        [
            t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], c[0], c[1], f[0], f[1],
        ]
    }

    /// Reads a stamp back.
    #[inline(always)]
    pub fn from_bytes(b: [u8; STAMP_LEN]) -> Self {
        Self {
            ns: u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            cpu: u16::from_le_bytes([b[8], b[9]]),
            flags: u16::from_le_bytes([b[10], b[11]]),
        }
    }
}
