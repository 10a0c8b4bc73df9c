//! The lab's XDP programs: the ceiling that a receiver is held against, and a source without sockets.
//!
//! ```text
//!  receiver's veth   frame ─► drop_all ─┬─ UDP over IPv4 to PORT ─► DROPPED += 1, XDP_DROP
//!                                       └─ anything else ─────────► XDP_PASS, untouched
//!
//!  sender, BPF_PROG_TEST_RUN with live frames
//!    template ─► pages ─► source ─┬─ next < TAGS ─► MACs, sequence, TAGS[sequence] written,
//!                  ▲              │                 redirected to INTERFACE ─► its peer
//!                  └── recycled ──┤                                              │
//!                                 └─ none left ─► beyond += 1, XDP_DROP          │
//!                  ▲──────────── page comes back as the receiver left it ────────┘
//! ```
//!
//! `drop_all` claims to be as cheap as a program that knows what it drops can be: three fields of one
//! cache line, one counter. `source` claims that each sequence number leaves once, in order. It does not
//! promise that a redirected frame arrives: the peer's ring may be full, and the driver counts that.
//! Loaded and tested by the bench; the product never loads them.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;

/// Where a frame says what it carries.
const ETHERTYPE_AT: usize = 12;
const IPV4: u16 = 0x0800;
/// Protocol and destination port of an IPv4 packet without options.
const PROTOCOL_AT: usize = 23;
const UDP: u8 = 17;
const PORT_AT: usize = 36;

/// Where the UDP payload begins: Ethernet 14, IPv4 20, UDP 8.
const PAYLOAD_AT: usize = 42;
/// The header's sequence number and tag; the bench's test reads both back by the product's parser.
const SEQUENCE_AT: usize = PAYLOAD_AT + 32;
const TAG_AT: usize = PAYLOAD_AT + 56;
const TAG_END: usize = TAG_AT + 8;
/// Both MAC addresses in words as memory has them: loads and stores of bytes would be four times as many.
type Macs = [u32; 3];
/// `BPF_F_MMAPABLE`: user space fills millions of tags without a system call for each.
const MMAPABLE: u32 = 1 << 10;

/// UDP port whose packets are dropped; set when the program is loaded.
#[unsafe(no_mangle)]
static PORT: u16 = 0;

/// Interface that frames leave by; set when the program is loaded.
#[unsafe(no_mangle)]
static INTERFACE: u32 = 0;

/// Destination and source address of every frame; set when the program is loaded. Frames are recycled
/// without being made anew, and a receiver may have written its stamp over these bytes.
#[unsafe(no_mangle)]
static MACS: Macs = [0; 3];

/// Packets dropped.
#[map]
static DROPPED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Tag of each packet, by sequence number; as many as there are packets, set when the program is loaded.
#[map]
static TAGS: Array<[u8; 8]> = Array::with_max_entries(1, MMAPABLE);

/// Next sequence number, and frames that came when none was left. One test run at a time writes them.
#[map]
static PROGRESS: Array<[u64; 2]> = Array::with_max_entries(1, 0);

#[inline(always)]
fn read<T: Copy>(ctx: &XdpContext, offset: usize) -> Option<T> {
    if ctx.data() + offset + size_of::<T>() > ctx.data_end() {
        return None;
    }
    // SAFETY: inside the frame, just checked; callers ask for plain numbers, and the target reads
    // unaligned memory.
    Some(unsafe { ((ctx.data() + offset) as *const T).read_unaligned() })
}

/// Attached to a receiving interface: the ceiling.
#[xdp(frags)]
pub fn drop_all(ctx: XdpContext) -> u32 {
    if !counted(&ctx) {
        return xdp_action::XDP_PASS;
    }
    if let Some(count) = DROPPED.get_ptr_mut(0) {
        // SAFETY: the map is per CPU and XDP does not preempt itself, so nobody else has this counter.
        unsafe { *count += 1 };
    }
    xdp_action::XDP_DROP
}

#[inline(always)]
fn counted(ctx: &XdpContext) -> bool {
    // SAFETY: the loader replaces the read-only value before the program runs; volatile, because the
    // compiler would otherwise use the 0 that it sees.
    let port = unsafe { core::ptr::read_volatile(&raw const PORT) };
    // The last field first: one comparison with the frame's end then serves all three.
    read(ctx, PORT_AT) == Some(port.to_be())
        && read(ctx, PROTOCOL_AT) == Some(UDP)
        && read(ctx, ETHERTYPE_AT) == Some(IPV4.to_be())
}

/// Run by `BPF_PROG_TEST_RUN` with live frames: the source.
#[xdp]
pub fn source(ctx: XdpContext) -> u32 {
    let Some(progress) = PROGRESS.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: one thread runs one test run on these maps at a time, and user space writes between runs.
    let [next, beyond] = unsafe { &mut *progress };
    let sequence = *next;
    let tag = u32::try_from(sequence).ok().and_then(|i| TAGS.get(i));
    let Some(tag) = tag else {
        *beyond += 1;
        return xdp_action::XDP_DROP;
    };
    let data = ctx.data();
    if data + TAG_END > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: as for PORT.
    let (interface, macs) = unsafe {
        (
            core::ptr::read_volatile(&raw const INTERFACE),
            core::ptr::read_volatile(&raw const MACS),
        )
    };
    // SAFETY: all within `TAG_END` bytes of the frame, just checked; unaligned writes are what the target
    // does.
    unsafe {
        (data as *mut Macs).write_unaligned(macs);
        ((data + SEQUENCE_AT) as *mut u64).write_unaligned(sequence.to_le());
        ((data + TAG_AT) as *mut [u8; 8]).write_unaligned(*tag);
    }
    *next = sequence + 1;
    // SAFETY: a helper that takes two numbers and notes them for this run.
    unsafe { bpf_redirect(interface, 0) as u32 }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a loop without end, so an object in which this can be reached does not load.
    loop {}
}

/// None of the helpers used is reserved to GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
