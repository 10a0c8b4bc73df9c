//! The receive loop allocates nothing in steady state: neither while packets are counted nor while more
//! come than are wanted. So its memory does not depend on how many packets are sent. Nor does the send loop.
//!
//! ```text
//!  session opens ─► first turn of the receive thread: watched from here ─► flood ─► 0 allocations
//!  flood begins ─► first look for packets: watched from here ─► last packet ─► 0 allocations
//! ```
#![allow(unsafe_code)] // a global allocator is the only way to see every allocation

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plumbline::clock::realtime_ns;
use plumbline::datapath::{Arrived, Leaf, Pace, PathChoice, SessionSink};
use plumbline::generator::{FloodPlan, RING_BYTES, Ready, Shape, Stream, Supply, flood, stream};
use plumbline_proof::backhaul::keystream::Train;
use plumbline_proof::backhaul::messages::session_of;
use plumbline_proof::backhaul::params::{BURST_PACKETS, Terms};
use plumbline_proof::backhaul::tally::Tally;
use plumbline_trust::session::Ephemeral;
use plumbline_wire::{HEADER_LEN, Header};

use crate::rig::{DATA_PORT, Lab, MINUTE, challenger, known, send, settle, spec, within};

thread_local! {
    /// Where this thread's allocations are counted, if they are.
    static WATCH: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

/// The system's allocator, with an eye on watched threads.
struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn note() {
    // A thread that is ending has no flag any more.
    let _ = WATCH.try_with(|watch| {
        if let Some(count) = watch.get() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing (the flag is
// initialised in the thread's own memory).
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are those that it needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note();
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The proof's own tally, in a thread that is watched from its first turn on.
struct Watched {
    tally: Tally,
    count: &'static AtomicU64,
    turns: AtomicU64,
}

impl SessionSink for Watched {
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], _arrival_ns: u64) -> bool {
        self.tally.admit(header, raw)
    }

    fn admit_all(&self, packets: &[Arrived<'_>]) -> u64 {
        self.tally
            .admit_all(packets.iter().map(|p| (&p.header, p.raw)))
    }

    fn accept(&self, leaves: &[Leaf]) {
        self.tally.accept(leaves);
    }

    fn turn(&self, _now_ns: u64) -> Pace {
        WATCH.set(Some(self.count));
        self.turns.fetch_add(1, Ordering::Relaxed);
        if self.tally.urgent() {
            Pace::Prompt
        } else {
            Pace::Calm
        }
    }
}

fn counter() -> &'static AtomicU64 {
    Box::leak(Box::new(AtomicU64::new(0)))
}

const CHALLENGE: [u8; 32] = [3; 32];
/// 8,000 packets wanted, 20,000 sent.
const WANTED: u64 = 8_000;
const SENT: usize = 20_000;

#[test]
fn the_receive_loop_allocates_nothing_however_much_is_sent() {
    for path in [PathChoice::Native, PathChoice::Socket] {
        let terms = Terms::downlink(960_000_000, 1, 0, 100);
        assert_eq!(terms.target(), WANTED);
        let key = Ephemeral::from_secret([1; 32])
            .agree(&Ephemeral::from_secret([2; 32]).public(), &CHALLENGE, 0)
            .unwrap();
        let cookie = key.cookie();
        let (packets, _) =
            Train::new(&[5; 32], &CHALLENGE, &[4; 32], 0, 0, key.clone()).make(SENT, |_| {});
        let watched = Arc::new(Watched {
            tally: Tally::new(&CHALLENGE, 0, &terms, vec![Some(key)]),
            count: counter(),
            turns: AtomicU64::new(0),
        });
        let lab = Lab::new();
        let receiver = lab.start(path);
        let socket = challenger(&lab, false);
        let mut session = spec(&[(0, socket.local_addr().unwrap())]);
        session.session = session_of(&CHALLENGE);
        session.senders[0].cookie = cookie;
        let sink: Arc<dyn SessionSink> = watched.clone();
        let handle = receiver.open(&session, &sink).unwrap();
        let before = lab.dropped_by_veth();
        let sent = send(&socket, &packets, 500_000_000).sent;
        settle(&receiver, |c| {
            known(c) + lab.dropped_by_veth() - before >= sent
        });
        let allocated = watched.count.load(Ordering::Relaxed);
        handle.close().unwrap();
        assert!(watched.turns.load(Ordering::Relaxed) > 10, "{path:?}");
        assert_eq!(watched.tally.counted(), WANTED, "{path:?}");
        assert!(watched.tally.refused().late > 0, "{path:?}: more came");
        assert_eq!(allocated, 0, "{path:?}: allocations in the receive loop");
    }
}

/// A stream whose taker is watched from the first look to the last.
struct Looked {
    stream: Stream,
    count: &'static AtomicU64,
}

impl Supply for Looked {
    fn ready(&mut self) -> Ready<'_> {
        WATCH.set(Some(self.count));
        let ready = self.stream.ready();
        if matches!(ready, Ready::End) {
            WATCH.set(None);
        }
        ready
    }

    fn offered(&mut self, bytes: usize) {
        self.stream.offered(bytes);
    }
}

#[test]
fn the_send_loop_allocates_nothing_however_much_is_sent() {
    let lab = Lab::new();
    // Somebody is there, or packets are answered with refusals.
    let _heard = within(&lab.prover, || UdpSocket::bind(("::", DATA_PORT)).unwrap());
    let socket = challenger(&lab, false);
    let key = Ephemeral::from_secret([1; 32])
        .agree(&Ephemeral::from_secret([2; 32]).public(), &CHALLENGE, 0)
        .unwrap();
    let mut train = Train::new(&[5; 32], &CHALLENGE, &[4; 32], 0, 0, key);
    let rate_bps = 1_000_000_000;
    // Many times what the buffers hold.
    let shape = Shape::new(1472, rate_bps, RING_BYTES / 64);
    let (packer, stream) = stream(shape, SENT as u64);
    assert!(shape.bytes() * 10 < SENT * 1472);
    let count = counter();
    let mut looked = Looked { stream, count };
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut scratch = Vec::new();
            packer.run(|first, chunk| train.fill(first, chunk, &mut scratch), || {});
        });
        let now = realtime_ns();
        let plan = FloodPlan {
            socket: &socket,
            packet_len: 1472,
            rate_bps,
            burst_packets: BURST_PACKETS,
            jitter: 7,
            duration_ns: 1_000_000_000,
            start_realtime_ns: now,
            deadline_realtime_ns: now + MINUTE,
            stop: &stop,
        };
        flood(&plan, &mut looked).unwrap()
    });
    assert_eq!(outcome.sent, SENT as u64, "{:?}", outcome.errors);
    let allocated = count.load(Ordering::Relaxed);
    assert_eq!(allocated, 0, "allocations in the send loop");
}

#[test]
fn an_allocation_would_be_seen() {
    let count = counter();
    std::thread::spawn(move || {
        WATCH.set(Some(count));
        drop(std::hint::black_box(Box::new([0u8; 64])));
        WATCH.set(None);
        drop(std::hint::black_box(Box::new([0u8; 64])));
    })
    .join()
    .unwrap();
    assert_eq!(
        count.load(Ordering::Relaxed),
        2,
        "one taken, one given back"
    );
}
