//! Where a flood's packets come from: made already, or made a little ahead of their sending.
//!
//! ```text
//!                    ┌──── full chunks, in order ────►┐
//!  pack thread: make ┤                                ├ flood thread: ready ─► offered
//!                    └◄──── the same, to be refilled ─┘
//! ```
//!
//! **Guarantees.** All buffers are allocated by [`stream`], [`Shape::bytes`] in all; the flood thread neither
//! waits nor allocates, and makes no system call but to wake the pack thread, once a chunk at most.
//! **Limits.** A pack thread that cannot keep up leaves the flood without packets, which counts that.
//! **Tests.** Below, and `tests.rs` of this folder.

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use plumbline_proof::backhaul::params::BURST_PACKETS;

/// Packets are made at most this far ahead of their time, ns: ten turns of a busy machine's scheduler.
const AHEAD_NS: u64 = 50_000_000;
/// All buffers of one session at most, bytes: 27 ms at 10 Gbit/s, 0.7 ms at 400.
pub const RING_BYTES: usize = 32 << 20;
/// A chunk at most, bytes: 0.2 ms at 10 Gbit/s, so that a wake-up a chunk is nothing beside the sends.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks at least: one is sent, one is made, the others wait.
const CHUNKS_LEAST: usize = 8;

/// What lies ready to be sent.
pub enum Ready<'a> {
    /// These whole packets.
    Packets(&'a [u8]),
    /// Nothing yet.
    Later,
    /// Nothing any more.
    End,
    /// Not all were made, and nobody makes them any more.
    Lost,
}

/// Packets in the order of their sequence numbers.
pub trait Supply {
    /// What comes next, as far as it is there. Does not wait.
    fn ready(&mut self) -> Ready<'_>;
    /// So many bytes of it were offered to the kernel.
    fn offered(&mut self, bytes: usize);
}

impl Supply for &[u8] {
    fn ready(&mut self) -> Ready<'_> {
        if self.is_empty() {
            Ready::End
        } else {
            Ready::Packets(self)
        }
    }

    fn offered(&mut self, bytes: usize) {
        *self = self.get(bytes..).unwrap_or_default();
    }
}

/// How many buffers of which length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    packet_len: usize,
    chunk_packets: usize,
    chunks: usize,
}

impl Shape {
    /// For packets of `packet_len` bytes at `rate_bps`, in about `most` bytes: less where less time ahead is
    /// enough, more only where a few bursts need it.
    pub fn new(packet_len: usize, rate_bps: u64, most: usize) -> Self {
        let packet_len = packet_len.max(1);
        let ahead = u128::from(rate_bps) * u128::from(AHEAD_NS) / 8_000_000_000;
        let bytes = usize::try_from(ahead).map_or(most, |ahead| ahead.min(most));
        // Whole bursts, so that none is sent in two parts; of packets of 9000 bytes less than one.
        let whole = usize::try_from(BURST_PACKETS).unwrap_or(usize::MAX);
        let fit = (bytes / CHUNKS_LEAST).min(CHUNK_BYTES) / packet_len;
        let chunk_packets = (fit / whole * whole).max(whole);
        let chunks = (bytes / (chunk_packets * packet_len)).max(CHUNKS_LEAST);
        Self {
            packet_len,
            chunk_packets,
            chunks,
        }
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> usize {
        self.chunks * self.chunk_bytes()
    }

    fn chunk_bytes(&self) -> usize {
        self.chunk_packets * self.packet_len
    }
}

/// The end that makes packets.
pub struct Packer {
    shape: Shape,
    left: u64,
    empty: Receiver<Vec<u8>>,
    full: Sender<Vec<u8>>,
}

/// The end that sends them.
pub struct Stream {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    /// The other end of it, so that chunks have a place to go to, and are not freed amid the flood, when who
    /// makes them is done.
    _emptied: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    /// Bytes that are still to come.
    left: u64,
}

/// Both ends of a stream of `count` packets. Allocates all that it ever needs.
pub fn stream(shape: Shape, count: u64) -> (Packer, Stream) {
    let (fill, empty) = bounded(shape.chunks);
    let (full, take) = bounded(shape.chunks);
    for _ in 0..shape.chunks {
        // There is room for each.
        let _ = fill.try_send(vec![0; shape.chunk_bytes()]);
    }
    let emptied = empty.clone();
    let packer = Packer {
        shape,
        left: count,
        empty,
        full,
    };
    let stream = Stream {
        full: take,
        empty: fill,
        _emptied: emptied,
        chunk: Vec::new(),
        at: 0,
        left: count.saturating_mul(shape.packet_len as u64),
    };
    (packer, stream)
}

impl Packer {
    /// Makes packets until all are made or nobody takes them: `make` fills a chunk whose first packet has
    /// the given number. `ready` is called once, when as many lie ready as there is room for.
    pub fn run(mut self, mut make: impl FnMut(u64, &mut [u8]), ready: impl FnOnce()) {
        let mut ready = Some(ready);
        let mut next = 0;
        let mut filled = 0;
        while self.left > 0 {
            if filled == self.shape.chunks
                && let Some(ready) = ready.take()
            {
                ready();
            }
            let Ok(mut chunk) = self.empty.recv() else {
                return;
            };
            let packets = self.left.min(self.shape.chunk_packets as u64);
            // At most the chunk's own length, which it has had since it was allocated.
            let bytes = usize::try_from(packets).unwrap_or(0) * self.shape.packet_len;
            chunk.truncate(bytes);
            make(next, &mut chunk);
            if self.full.send(chunk).is_err() {
                return;
            }
            filled += 1;
            next += packets;
            self.left -= packets;
        }
        if let Some(ready) = ready {
            ready();
        }
    }
}

impl Supply for Stream {
    fn ready(&mut self) -> Ready<'_> {
        if self.left == 0 {
            return Ready::End;
        }
        if self.at == self.chunk.len() {
            match self.full.try_recv() {
                Ok(chunk) => {
                    let used = std::mem::replace(&mut self.chunk, chunk);
                    self.at = 0;
                    // The first is none. There is room for each.
                    if !used.is_empty() {
                        let _ = self.empty.try_send(used);
                    }
                }
                Err(TryRecvError::Empty) => return Ready::Later,
                Err(TryRecvError::Disconnected) => return Ready::Lost,
            }
        }
        Ready::Packets(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn offered(&mut self, bytes: usize) {
        self.at = self.chunk.len().min(self.at + bytes);
        self.left = self.left.saturating_sub(bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 1472;

    /// Writes each packet's number into it.
    fn number(first: u64, chunk: &mut [u8], length: usize) {
        for (n, packet) in (first..).zip(chunk.chunks_mut(length)) {
            packet.fill(0);
            packet[..8].copy_from_slice(&n.to_le_bytes());
        }
    }

    #[test]
    fn memory_is_bounded_at_any_claim() {
        const MOST: usize = 64 << 20;
        for length in [1408, LEN, 8960] {
            for rate in [1, 1_000_000, 1_000_000_000, 10_000_000_000, 460_000_000_000] {
                let shape = Shape::new(length, rate, RING_BYTES);
                let (packer, stream) = stream(shape, u64::MAX);
                let allocated: usize = packer.empty.try_iter().map(|b| b.capacity()).sum();
                assert_eq!(allocated, shape.bytes());
                assert!(allocated <= MOST, "{length} {rate}: {allocated}");
                // A prover's 64 streams share the same.
                let each = Shape::new(length, rate, RING_BYTES / 64);
                assert!(each.bytes() * 64 <= MOST, "{length} {rate}");
                drop(stream);
            }
        }
        // What a claim needs less of it does not take; and never so little that bursts wait for each other.
        let bytes = |rate| Shape::new(LEN, rate, RING_BYTES).bytes();
        assert!(bytes(1_000_000_000) <= 6_250_000);
        assert!(bytes(10_000_000_000) > 30_000_000);
        assert_eq!(bytes(1), 8 * 8 * LEN);
    }

    #[test]
    fn every_packet_comes_once_in_order_however_it_is_taken() {
        for count in [0, 1, 8, 63, 64, 65, 1000] {
            let (packer, mut stream) = stream(Shape::new(LEN, 1, RING_BYTES), count);
            std::thread::scope(|scope| {
                scope.spawn(|| packer.run(|first, chunk| number(first, chunk, LEN), || {}));
                let mut next = 0;
                let mut step = 0;
                loop {
                    let taken = match stream.ready() {
                        Ready::Packets(bytes) => {
                            assert_eq!(bytes.len() % LEN, 0);
                            step = step % 5 + 1;
                            let taken = bytes.len().min(step * LEN);
                            for packet in bytes[..taken].chunks(LEN) {
                                assert_eq!(packet[..8], u64::to_le_bytes(next));
                                next += 1;
                            }
                            taken
                        }
                        Ready::Later => {
                            std::thread::yield_now();
                            continue;
                        }
                        Ready::End => break,
                        Ready::Lost => panic!("{count}: lost after {next}"),
                    };
                    stream.offered(taken);
                }
                assert_eq!(next, count);
            });
        }
    }

    #[test]
    fn it_is_ready_when_all_buffers_are_full_or_all_packets_made() {
        let shape = Shape::new(LEN, 1, RING_BYTES);
        for (count, made_then) in [(0, 0), (8, 8), (64, 64), (65, 64), (1000, 64)] {
            let (packer, stream) = stream(shape, count);
            let made = std::cell::Cell::new(0);
            let make = |_: u64, chunk: &mut [u8]| made.set(made.get() + chunk.len() / LEN);
            let mut at = None;
            // Whoever sends is gone by then: the packer does not wait for it.
            packer.run(make, || {
                at = Some(made.get());
                drop(stream);
            });
            assert_eq!(at, Some(made_then), "{count}");
        }
    }

    #[test]
    fn a_packer_that_dies_is_no_end() {
        let (packer, mut stream) = stream(Shape::new(LEN, 1, RING_BYTES), 9);
        assert!(matches!(stream.ready(), Ready::Later));
        drop(packer);
        assert!(matches!(stream.ready(), Ready::Lost));
    }
}
