//! The prover's counting, inside the receive thread: from the header of a packet to the commitment
//! on the wire without leaving the thread, because commit latency counts against the prover.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use plumbline_proof::backhaul::messages::Commit;
use plumbline_proof::backhaul::params::COMMIT_BURST;
use plumbline_proof::backhaul::rtt::sealed;
use plumbline_proof::backhaul::tally::Tally;
use plumbline_trust::encoding::encode;
use plumbline_trust::session::SessionKey;
use plumbline_trust::{Digest, NetworkKey, Signed};
use plumbline_wire::header::{Header, Kind};

use crate::clock;
use crate::datapath::SessionSink;

/// What the receive thread shows to the rest of the prover.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Packets of the session seen so far, whatever became of them.
    pub seen: AtomicU64,
    /// Unix ns at which to commit, complete or not; 0 until T0 is set.
    pub deadline_ns: AtomicU64,
    /// The commitment is made; these datagrams, one a challenger, are repeated until acknowledged.
    pub committed: OnceLock<Vec<Outgoing>>,
}

/// A commitment on its way to one challenger.
#[derive(Debug)]
pub(super) struct Outgoing {
    /// Which challenger.
    pub index: u16,
    /// Its control address.
    pub to: SocketAddr,
    /// What goes there.
    pub datagram: Vec<u8>,
}

/// The commitment, as made in the receive thread.
pub(super) struct Committed {
    /// What was committed to.
    pub commit: Commit,
    /// C_1..C_n.
    pub roots: Vec<Digest>,
    /// As signed.
    pub signed: Signed,
    /// From the last counted packet's arrival to the first datagram out, ns.
    pub latency_ns: u64,
}

/// Counts one session's packets and commits to them.
pub(super) struct Sink {
    tally: Tally,
    gauge: Arc<Gauge>,
    key: Arc<NetworkKey>,
    socket: Arc<UdpSocket>,
    /// Where each challenger's commitment goes, and under which key.
    peers: Vec<(u16, SocketAddr, SessionKey)>,
    committed: Option<Committed>,
}

impl Sink {
    /// A sink for `tally`, whose commitment goes to `peers` through `socket`.
    pub(super) fn new(
        tally: Tally,
        gauge: Arc<Gauge>,
        key: Arc<NetworkKey>,
        socket: Arc<UdpSocket>,
        peers: Vec<(u16, SocketAddr, SessionKey)>,
    ) -> Self {
        Self {
            tally,
            gauge,
            key,
            socket,
            peers,
            committed: None,
        }
    }

    /// The tally and the commitment, once the session is closed.
    pub(super) fn finish(self) -> (Tally, Option<Committed>) {
        (self.tally, self.committed)
    }

    /// Once a session: hashes the leaf table, signs, and sends to everyone.
    fn commit(&mut self) {
        let (commit, roots) = self.tally.commit();
        let signed = Signed::new(&self.key, &commit);
        let body = encode(&signed);
        let datagrams: Vec<_> = self
            .peers
            .iter()
            .map(|(index, to, key)| {
                let head = sealed(Kind::Commit, &commit.challenge, *index, 0, 0, key);
                Outgoing {
                    index: *index,
                    to: *to,
                    datagram: [&head[..], &body].concat(),
                }
            })
            .collect();
        let out_ns = clock::realtime_ns();
        for _ in 0..COMMIT_BURST {
            for Outgoing { to, datagram, .. } in &datagrams {
                // A full socket buffer loses one of several copies; the role repeats until acknowledged.
                let _lost = self.socket.send_to(datagram, to);
            }
        }
        let latency_ns = match commit.arrivals.1 {
            0 => 0,
            last => out_ns.saturating_sub(last),
        };
        self.committed = Some(Committed {
            commit,
            roots,
            signed,
            latency_ns,
        });
        let _first = self.gauge.committed.set(datagrams);
    }
}

impl SessionSink for Sink {
    fn admit(&mut self, header: &Header, raw: &[u8; 64], _arrival_ns: u64) -> bool {
        self.tally.admit(header, raw)
    }

    fn accept(&mut self, index: u16, sequence: u64, leaf: &[u8; 32], arrival_ns: u64) {
        self.tally.accept(index, sequence, leaf, arrival_ns);
        if self.committed.is_none() && self.tally.complete() {
            self.commit();
        }
    }

    fn turn(&mut self, now_ns: u64) {
        self.gauge.seen.store(self.tally.seen(), Ordering::Relaxed);
        let deadline_ns = self.gauge.deadline_ns.load(Ordering::Relaxed);
        if self.committed.is_none() && deadline_ns != 0 && now_ns >= deadline_ns {
            self.commit();
        }
    }
}
