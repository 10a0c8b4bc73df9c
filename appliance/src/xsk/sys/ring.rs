//! The two ends of a ring that user space can hold. One side writes entries and moves `producer`, the
//! other reads them and moves `consumer`; both count without end, the entry is the count modulo the size.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::XskError;

/// Where the parts of a ring lie in its mapping, as the kernel told (`xdp_ring_offset`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) producer: u64,
    pub(super) consumer: u64,
    pub(super) entries: u64,
    pub(super) flags: u64,
}

/// A mapped ring of `size` entries of `T`.
struct Mapping<T> {
    base: NonNull<u8>,
    length: usize,
    layout: Layout,
    size: u32,
    entry: std::marker::PhantomData<T>,
}

// SAFETY: the mapping belongs to this value; the kernel's side is reached by atomics only.
unsafe impl<T: Send> Send for Mapping<T> {}

impl<T: Copy> Mapping<T> {
    fn new(fd: libc::c_int, offset: u64, layout: Layout, size: u32) -> Result<Self, XskError> {
        let length = usize::try_from(layout.entries).unwrap_or(0) + size as usize * size_of::<T>();
        let offset = libc::off_t::try_from(offset).unwrap_or(0);
        // SAFETY: maps the socket's own ring at the offset that the kernel defines for it; the kernel checks
        // the length.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd,
                offset,
            )
        };
        match NonNull::new(at.cast::<u8>()) {
            Some(base) if at != libc::MAP_FAILED => Ok(Self {
                base,
                length,
                layout,
                size,
                entry: std::marker::PhantomData,
            }),
            _ => Err(XskError::last("mapping a ring")),
        }
    }

    fn word(&self, offset: u64) -> &AtomicU32 {
        let offset = usize::try_from(offset).unwrap_or(0);
        // SAFETY: the kernel placed an aligned 32-bit word there, inside the mapping; both sides use it
        // atomically.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.layout.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.layout.consumer)
    }

    fn flags(&self) -> u32 {
        self.word(self.layout.flags).load(Ordering::Relaxed)
    }

    fn entry(&self, count: u32) -> *mut T {
        let at = usize::try_from(self.layout.entries).unwrap_or(0);
        let index = (count & (self.size - 1)) as usize;
        // SAFETY: the entries lie inside the mapping, `size` (a power of two) of them.
        unsafe { self.base.as_ptr().add(at).cast::<T>().add(index) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: what was mapped; nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// Our end of a ring that the kernel takes from (fill, transmit).
pub(in super::super) struct Producer<T> {
    map: Mapping<T>,
    produced: u32,
    /// What the kernel had taken when we last looked.
    consumed: u32,
}

impl<T: Copy> Producer<T> {
    pub(super) fn new(
        fd: libc::c_int,
        offset: u64,
        layout: Layout,
        size: u32,
    ) -> Result<Self, XskError> {
        Ok(Self {
            map: Mapping::new(fd, offset, layout, size)?,
            produced: 0,
            consumed: 0,
        })
    }

    /// Entries that can be put now.
    pub(in super::super) fn room(&mut self) -> usize {
        self.consumed = self.map.consumer().load(Ordering::Acquire);
        (self.map.size - self.produced.wrapping_sub(self.consumed)) as usize
    }

    /// Puts entries, as many as there is room for; returns how many. They are seen by the kernel at once.
    pub(in super::super) fn put(&mut self, entries: impl IntoIterator<Item = T>) -> usize {
        let room = if self.produced.wrapping_sub(self.consumed) < self.map.size / 2 {
            // Not looking saves a cache line that the kernel writes.
            (self.map.size - self.produced.wrapping_sub(self.consumed)) as usize
        } else {
            self.room()
        };
        let mut n = 0;
        for entry in entries.into_iter().take(room) {
            // SAFETY: between `consumer + size` and `producer` the entries are ours to write.
            unsafe { self.map.entry(self.produced).write(entry) };
            self.produced = self.produced.wrapping_add(1);
            n += 1;
        }
        if n > 0 {
            self.map.producer().store(self.produced, Ordering::Release);
        }
        n
    }

    /// The kernel sleeps and wants a system call before it looks again.
    pub(in super::super) fn needs_wakeup(&self) -> bool {
        self.map.flags() & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// Our end of a ring that the kernel puts into (receive, completion).
pub(in super::super) struct Consumer<T> {
    map: Mapping<T>,
    consumed: u32,
    /// What the kernel had put when we last looked.
    produced: u32,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn new(
        fd: libc::c_int,
        offset: u64,
        layout: Layout,
        size: u32,
    ) -> Result<Self, XskError> {
        Ok(Self {
            map: Mapping::new(fd, offset, layout, size)?,
            consumed: 0,
            produced: 0,
        })
    }

    /// Entries that wait.
    pub(in super::super) fn waiting(&mut self) -> usize {
        self.produced = self.map.producer().load(Ordering::Acquire);
        self.produced.wrapping_sub(self.consumed) as usize
    }

    /// Entry `i` of those that wait, left where it is. `i` is less than [`Consumer::waiting`] said.
    pub(in super::super) fn peek(&self, i: usize) -> Option<T> {
        let waiting = self.produced.wrapping_sub(self.consumed) as usize;
        let i = (i < waiting).then(|| u32::try_from(i).ok())??;
        // SAFETY: between `consumer` and `producer` the entries are ours to read; the kernel published them
        // with release, `waiting` loaded with acquire.
        Some(unsafe { self.map.entry(self.consumed.wrapping_add(i)).read() })
    }

    /// Gives the first `n` waiting entries back to the kernel.
    pub(in super::super) fn advance(&mut self, n: usize) {
        let waiting = self.produced.wrapping_sub(self.consumed);
        let n = u32::try_from(n).unwrap_or(u32::MAX).min(waiting);
        self.consumed = self.consumed.wrapping_add(n);
        self.map.consumer().store(self.consumed, Ordering::Release);
    }
}
