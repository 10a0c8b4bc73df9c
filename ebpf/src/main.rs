//! The XDP program: decides what becomes of each frame before it costs a socket buffer.
//!
//! ```text
//!             ┌── not to the data port ───────────────────────────► XDP_PASS, untouched
//!  frame ──► wire::classify ── to it, and not exactly right ───────► XDP_DROP
//!             └── a data packet ─► CONSENT[source, session, port]
//!                                   ├── none, run out, wrong cookie,
//!                                   │   before the start, other index
//!                                   │   or length, all that was
//!                                   │   consented to ─────────────► XDP_DROP
//!                                   └── stamp {TAI ns, cpu} over the
//!                                       MACs, redirect to XSKS ────► AF_XDP
//!  every arrow adds one to FATES[fate] of this CPU
//! ```
//!
//! It promises that whatever is not UDP to the data port leaves as it came, and that every frame has
//! exactly one fate. Only packets with their session's cookie count against what was consented to, so nobody
//! else can use that up. It does not promise authenticity: tags are checked in user space. A redirected
//! frame can still be refused by its socket, which then counts it itself.
//! The parser is `plumbline_wire`, the same that user space runs; `appliance/tests/xdp.rs` runs both on
//! the same frames in the kernel's own verifier and compares.
#![no_std]
#![no_main]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_tai_ns, bpf_xdp_get_buff_len};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{HashMap, PerCpuArray, XskMap};
use aya_ebpf::programs::XdpContext;
use plumbline_wire::stamp::{FLAG_XDP_TAI, STAMP_LEN};
use plumbline_wire::{Class, ConsentEntry, ConsentKey, Fate, Match, Stamp, View, classify};

/// UDP port that data packets go to; set when the program is loaded.
#[unsafe(no_mangle)]
static DATA_PORT: u16 = 0;

/// Who may send.
#[map]
static CONSENT: HashMap<ConsentKey, ConsentEntry> =
    HashMap::with_max_entries(plumbline_wire::consent::ROWS as u32, 0);

/// The AF_XDP socket of each receive queue. 64 queues: one a core on the machines we know.
#[map]
static XSKS: XskMap = XskMap::with_max_entries(64, 0);

/// What became of the frames, by `Fate`.
#[map]
static FATES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Fate::ALL.len() as u32, 0);

/// A frame as the verifier wants it read: each access is a comparison with `end`. What a jumbo frame
/// holds beyond its first buffer is not read, only counted.
struct Frame<'a> {
    ctx: &'a XdpContext,
    data: usize,
    end: usize,
}

impl View for Frame<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        if !self.holds(offset + N) {
            return None;
        }
        // SAFETY: `data + offset + N <= end`, just checked; a byte array has no alignment. This is the
        // only way to read packet memory from a BPF program.
        Some(unsafe { ((self.data + offset) as *const [u8; N]).read() })
    }

    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        self.data + length <= self.end
    }

    #[inline(always)]
    fn has(&self, length: usize) -> bool {
        // SAFETY: a helper that only reads the context of this run.
        let all = unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) };
        length as u64 <= all
    }
}

/// Entry point; attached to the measured interface.
#[xdp(frags)]
pub fn plumbline(ctx: XdpContext) -> u32 {
    let (fate, action) = decide(&ctx);
    if let Some(count) = FATES.get_ptr_mut(fate as u32) {
        // SAFETY: the map is per CPU and XDP does not preempt itself, so nobody else has this counter.
        unsafe { *count += 1 };
    }
    action
}

#[inline(always)]
fn decide(ctx: &XdpContext) -> (Fate, u32) {
    let frame = Frame {
        ctx,
        data: ctx.data(),
        end: ctx.data_end(),
    };
    // SAFETY: the loader replaces the read-only value before the program runs; volatile, because the
    // compiler would otherwise use the 0 that it sees.
    let data_port = unsafe { core::ptr::read_volatile(&raw const DATA_PORT) };
    match classify(&frame, data_port) {
        Class::NotOurs(fate) => (fate, xdp_action::XDP_PASS),
        Class::Refused(fate) => (fate, xdp_action::XDP_DROP),
        Class::Ours(packet) => admit(ctx, &frame, &packet),
    }
}

#[inline(always)]
fn admit(ctx: &XdpContext, frame: &Frame<'_>, packet: &Match) -> (Fate, u32) {
    let Some(row) = CONSENT.get_ptr_mut(&packet.key) else {
        return (Fate::DroppedNotConsented, xdp_action::XDP_DROP);
    };
    // SAFETY: rows are replaced as a whole by user space, and one that is being removed stays readable
    // until this program returns (RCU). `passed` is the only field that changes, and `admit` does not
    // read it.
    let (consent, passed) = unsafe { (&*row, &raw mut (*row).passed) };
    // SAFETY: as above. All packets of a row are one flow, which a card gives to one queue and so to one
    // CPU: nobody else counts here. Where a flow moves, a count may be lost, never made up.
    let come = unsafe { passed.read_volatile() };
    // SAFETY: helpers without arguments.
    let (now, cpu) = unsafe { (bpf_ktime_get_tai_ns(), bpf_get_smp_processor_id()) };
    if let Err(fate) = consent.admit(&packet.header, packet.size.payload(), now, come) {
        return (fate, xdp_action::XDP_DROP);
    }
    // SAFETY: as above.
    unsafe { passed.write_volatile(come + 1) };
    if !frame.holds(STAMP_LEN) {
        // Cannot be: the frame held an IP header. The verifier wants to see it.
        return (Fate::DroppedRunt, xdp_action::XDP_DROP);
    }
    let stamp = Stamp {
        ns: now,
        cpu: cpu as u16,
        flags: FLAG_XDP_TAI,
    };
    // SAFETY: the first `STAMP_LEN` bytes of the frame are inside it, just checked.
    unsafe { (frame.data as *mut [u8; STAMP_LEN]).write(stamp.to_bytes()) };
    match XSKS.redirect(ctx.rx_queue_index(), u64::from(xdp_action::XDP_DROP)) {
        Ok(action) => (Fate::Redirected, action),
        Err(action) => (Fate::DroppedNoSocket, action),
    }
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
