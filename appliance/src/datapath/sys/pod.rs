//! Rows of the consent map as the kernel sees them: the structs of `wire`, as plain bytes.

use plumbline_wire::{ConsentEntry, ConsentKey};

/// Key of a row of the consent map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(in super::super) struct Key(pub(in super::super) ConsentKey);

/// Value of a row of the consent map.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(in super::super) struct Entry(pub(in super::super) ConsentEntry);

// SAFETY: `repr(C)` integers and byte arrays without padding (wire's own test checks the sizes), and any
// bytes are a valid value. Needed because the map's key and value go through the kernel as bytes.
unsafe impl aya::Pod for Key {}
// SAFETY: as above.
unsafe impl aya::Pod for Entry {}
