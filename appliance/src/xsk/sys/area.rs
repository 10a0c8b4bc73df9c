//! UMEM: one mapping, cut into frames of equal size.

use std::ptr::NonNull;

use super::super::XskError;

/// Size of a huge page on every machine that we know.
const HUGE: usize = 2 << 20;

/// The pages behind a UMEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Reserved huge pages (`vm.nr_hugepages`).
    Huge,
    /// Ordinary memory that the kernel was asked to back with huge pages where it can.
    Transparent,
    /// Pages of the machine's base size.
    Small,
}

impl Pages {
    /// As results state it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Huge => "huge",
            Self::Transparent => "transparent-huge",
            Self::Small => "small",
        }
    }
}

/// Mapped memory of `frames` frames.
#[derive(Debug)]
pub(in super::super) struct Area {
    base: NonNull<u8>,
    /// Bytes mapped; may be more than the frames take.
    mapped: usize,
    frames: u32,
    frame_size: u32,
    pages: Pages,
}

// SAFETY: the mapping belongs to this value alone; what is shared with the kernel is governed by the rings.
unsafe impl Send for Area {}

impl Area {
    /// Maps and touches the memory: on huge pages if some are reserved, else on whatever there is.
    pub(in super::super) fn new(frames: u32, frame_size: u32) -> Result<Self, XskError> {
        let needed = frames as usize * frame_size as usize;
        let huge = needed.next_multiple_of(HUGE);
        let (base, mapped, pages) = match map(huge, libc::MAP_HUGETLB) {
            Ok(base) => (base, huge, Pages::Huge),
            Err(_) => {
                let base = map(needed, 0)?;
                (base, needed, advise(base, needed))
            }
        };
        Ok(Self {
            base,
            mapped,
            frames,
            frame_size,
            pages,
        })
    }

    /// The pages it lies on.
    pub(in super::super) fn pages(&self) -> Pages {
        self.pages
    }

    /// Address of the first byte, for registration.
    pub(super) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Bytes of all frames.
    pub(super) fn length(&self) -> u64 {
        u64::from(self.frames) * u64::from(self.frame_size)
    }

    /// Bytes of a frame.
    pub(in super::super) fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// Where each frame begins.
    pub(in super::super) fn frames(&self) -> impl Iterator<Item = u64> + use<> {
        let size = u64::from(self.frame_size);
        (0..u64::from(self.frames)).map(move |i| i * size)
    }

    /// The beginning of the frame that `address` lies in: the kernel writes a packet after some headroom.
    pub(in super::super) fn frame_of(&self, address: u64) -> u64 {
        address - address % u64::from(self.frame_size)
    }

    /// `length` bytes at `address`; none if they are not inside.
    ///
    /// # Safety
    /// The kernel does not write to them while the slice lives.
    pub(in super::super) unsafe fn bytes(&self, address: u64, length: u32) -> Option<&[u8]> {
        let at = self.inside(address, length)?;
        // SAFETY: inside the mapping, which lives as long as `self`, and initialised (zero or packets); that
        // nobody writes is the caller's promise.
        Some(unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(at), length as usize) })
    }

    /// The frame at `address`, to be written; none if it is not inside.
    ///
    /// # Safety
    /// Neither the kernel nor another slice uses it while this one lives.
    pub(in super::super) unsafe fn frame_mut(&mut self, address: u64) -> Option<&mut [u8]> {
        let at = self.inside(address, self.frame_size)?;
        // SAFETY: as for `bytes`; exclusive by the caller's promise.
        Some(unsafe {
            std::slice::from_raw_parts_mut(self.base.as_ptr().add(at), self.frame_size as usize)
        })
    }

    fn inside(&self, address: u64, length: u32) -> Option<usize> {
        let end = address.checked_add(u64::from(length))?;
        (end <= self.length()).then(|| usize::try_from(address).ok())?
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: what was mapped, and nothing refers to it any more. A socket that still exists has its own
        // reference to the pages.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

fn map(length: usize, flags: libc::c_int) -> Result<NonNull<u8>, XskError> {
    // SAFETY: a new anonymous mapping, placed by the kernel, takes nothing from anybody.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE | flags,
            -1,
            0,
        )
    };
    match NonNull::new(at.cast::<u8>()) {
        Some(base) if at != libc::MAP_FAILED => Ok(base),
        _ => Err(XskError::last(format!("mapping {} KiB", length >> 10))),
    }
}

/// Asks for huge pages behind ordinary memory. Whether it gets them is not known; that it was asked is.
fn advise(base: NonNull<u8>, length: usize) -> Pages {
    // SAFETY: advice about a mapping of ours changes nothing that is visible.
    match unsafe { libc::madvise(base.as_ptr().cast(), length, libc::MADV_HUGEPAGE) } {
        0 => Pages::Transparent,
        _ => Pages::Small,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_inside_is_lent() {
        let mut area = Area::new(4, 2048).unwrap();
        assert_eq!(area.frames().collect::<Vec<_>>(), [0, 2048, 4096, 6144]);
        // SAFETY: no socket has this area.
        unsafe {
            area.frame_mut(6144).unwrap()[2047] = 7;
            assert_eq!(area.bytes(6144, 2048).unwrap()[2047], 7);
            assert!(area.bytes(6145, 2048).is_none());
            assert!(area.frame_mut(8192).is_none());
            assert!(area.bytes(u64::MAX, 1).is_none());
        }
        assert_eq!(area.frame_of(6144 + 256), 6144);
    }
}
