//! Socket options that have no safe wrapper in `nix`.

use std::os::fd::AsRawFd;

use super::super::XskError;

/// `options` of a descriptor whose packet goes on in the next one.
pub(crate) const PKT_CONTD: u32 = libc::XDP_PKT_CONTD;

/// Plain data that the kernel copies as bytes.
///
/// # Safety
/// Any bytes are a valid value, and there is no padding that matters.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: integers, arrays of them and `repr(C)` structs of integers.
unsafe impl Plain for libc::c_int {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u64; N] {}
// SAFETY: as above.
unsafe impl Plain for libc::xdp_umem_reg {}

/// Sets an option.
pub(crate) fn set<T: Plain>(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
    what: &'static str,
) -> Result<(), XskError> {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` outlives the call and `size` is its size.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(XskError::last(format!("setting {what}")))
    }
}

/// Reads an option into `value`; returns how many bytes the kernel wrote.
pub(crate) fn get<T: Plain>(
    fd: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
    what: &'static str,
) -> Result<usize, XskError> {
    let mut size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: `value` has `size` bytes, and any bytes are a valid value.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            std::ptr::from_mut(value).cast(),
            &raw mut size,
        )
    };
    if rc == 0 {
        Ok(size as usize)
    } else {
        Err(XskError::last(format!("reading {what}")))
    }
}
