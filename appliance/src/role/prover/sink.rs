//! The prover's counting, inside the receive threads: from the header of a packet to the commitment
//! on the wire without leaving the thread, because commit latency counts against the prover.
//!
//! ```text
//!  thread 1 ─► admit, accept ─┐                      ┌─► the first that sees N, or the deadline:
//!  thread k ─► admit, accept ─┴─► Tally (no lock) ───┤     hash what is open ─► sign ─► encode
//!                                                    │     ─► one datagram to everyone, then copies
//!                                                    └─► turn: Prompt when little is missing
//! ```
//!
//! Signing is rehearsed a moment before: the signature's tables are larger than what a flood leaves of a
//! cache, and fetching them again would take longer than signing.
//!
//! Claim: one commitment, whatever the threads do; the first copies leave before any second one. It waits
//! for no disk: who holds a [`Seat`] alone signs for its challenge, and after a restart nobody does.
//! Not promised: that a datagram arrives; the role repeats it until it is acknowledged. Tests: below, and
//! the bench, which times this very code.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use plumbline_proof::backhaul::messages::Commit;
use plumbline_proof::backhaul::params::COMMIT_BURST;
use plumbline_proof::backhaul::rtt::sealed;
use plumbline_proof::backhaul::tally::Tally;
use plumbline_trust::encoding::encode;
use plumbline_trust::session::SessionKey;
use plumbline_trust::{Digest, NetworkKey, Signed};
use plumbline_wire::header::{HEADER_LEN, Header, Kind};

use crate::clock;
use crate::datapath::{Arrived, Leaf, Pace, SessionSink};
use crate::journal::Seat;

/// The deadline is near this long before it, ns: as long as a thread may stay away between two turns.
const NEAR_NS: u64 = 10_000_000;

/// So many packets before the last one signing is rehearsed: few enough that their bytes (256 KiB) do not
/// push the tables out of a core's cache again, and more than are taken in one turn.
const REHEARSAL: u64 = 128;

/// A commitment on its way to one challenger.
#[derive(Debug)]
pub struct Outgoing {
    /// Which challenger.
    pub index: u16,
    /// Its control address.
    pub to: SocketAddr,
    /// What goes there.
    pub datagram: Vec<u8>,
}

/// When each step of the commitment was done, ns after the arrival of the last counted packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Its leaf is in the tally: ring, batch, digest.
    pub leaf_ns: u64,
    /// What was left to hash is hashed.
    pub commit_ns: u64,
    /// It is signed and encoded.
    pub sign_ns: u64,
    /// The kernel has taken the first datagram: the commit latency.
    pub send_ns: u64,
}

/// The commitment, as made in a receive thread.
#[derive(Debug)]
pub struct Committed {
    /// What was committed to.
    pub commit: Commit,
    /// C_1..C_n.
    pub roots: Vec<Digest>,
    /// As signed.
    pub signed: Signed,
    /// How long it took; zeros if nothing was counted.
    pub steps: Steps,
    /// One datagram a challenger, repeated until acknowledged.
    pub outgoing: Vec<Outgoing>,
}

/// One challenger's datagram, ready but for the commitment.
struct Envelope {
    index: u16,
    to: SocketAddr,
    head: [u8; HEADER_LEN],
}

/// Counts one session's packets and commits to them.
pub struct Sink {
    tally: Tally,
    key: Arc<NetworkKey>,
    socket: Arc<UdpSocket>,
    envelopes: Vec<Envelope>,
    /// Unix ns at which to commit, complete or not; 0 until T0 is set.
    deadline_ns: AtomicU64,
    rehearsed: AtomicBool,
    committed: OnceLock<Committed>,
}

impl Sink {
    /// A sink for `tally` of the challenge that `seat` serves, whose commitment goes to `peers` through
    /// `socket`.
    pub fn new(
        seat: &Seat,
        tally: Tally,
        key: Arc<NetworkKey>,
        socket: Arc<UdpSocket>,
        peers: &[(u16, SocketAddr, SessionKey)],
    ) -> Self {
        // Nothing in a head depends on what arrives: sealed here, they cost the commitment no time.
        let challenge = seat.challenge();
        let envelopes = peers
            .iter()
            .map(|(index, to, key)| Envelope {
                index: *index,
                to: *to,
                head: sealed(Kind::Commit, challenge, *index, 0, 0, key),
            })
            .collect();
        Self {
            tally,
            key,
            socket,
            envelopes,
            deadline_ns: AtomicU64::new(0),
            rehearsed: AtomicBool::new(false),
            committed: OnceLock::new(),
        }
    }

    /// Sets the unix ns at which to commit, complete or not.
    pub fn commit_by(&self, deadline_ns: u64) {
        self.deadline_ns.store(deadline_ns, Ordering::Relaxed);
    }

    /// What is counted, also while threads count.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The commitment, once it is made.
    pub fn committed(&self) -> Option<&Committed> {
        self.committed.get()
    }

    /// Once a session, by the thread that comes first: hashes what is open, signs, and sends to everyone.
    fn commit(&self) {
        let leaf_ns = clock::realtime_ns();
        let Some((commit, roots)) = self.tally.commit() else {
            return;
        };
        let commit_ns = clock::realtime_ns();
        let signed = Signed::new(&self.key, &commit);
        let body = encode(&signed);
        let sign_ns = clock::realtime_ns();
        let mut first_out_ns = None;
        let outgoing: Vec<Outgoing> = self
            .envelopes
            .iter()
            .map(|envelope| {
                let datagram = [&envelope.head[..], &body].concat();
                // A full socket buffer loses one of several copies; the role repeats until acknowledged.
                let _lost = self.socket.send_to(&datagram, envelope.to);
                first_out_ns.get_or_insert_with(clock::realtime_ns);
                Outgoing {
                    index: envelope.index,
                    to: envelope.to,
                    datagram,
                }
            })
            .collect();
        for _ in 1..COMMIT_BURST {
            for Outgoing { to, datagram, .. } in &outgoing {
                let _lost = self.socket.send_to(datagram, to);
            }
        }
        let send_ns = first_out_ns.unwrap_or_else(clock::realtime_ns);
        let steps = match commit.arrivals.1 {
            0 => Steps::default(),
            last => Steps {
                leaf_ns: leaf_ns.saturating_sub(last),
                commit_ns: commit_ns.saturating_sub(last),
                sign_ns: sign_ns.saturating_sub(last),
                send_ns: send_ns.saturating_sub(last),
            },
        };
        // Last: the role goes on as soon as it sees this.
        let first = self.committed.set(Committed {
            commit,
            roots,
            signed,
            steps,
            outgoing,
        });
        debug_assert!(first.is_ok(), "the tally commits once");
    }

    /// Signs a commitment to nothing, of the right length, and throws it away.
    fn rehearse(&self) {
        if self.rehearsed.swap(true, Ordering::Relaxed) {
            return;
        }
        let nothing = Commit {
            challenge: [0; 32],
            phase: 0,
            packets: 0,
            counts: vec![0; self.envelopes.len()],
            response: [0; 32],
            arrivals: (0, 0),
        };
        std::hint::black_box(encode(&Signed::new(&self.key, &nothing)));
    }
}

impl SessionSink for Sink {
    fn admit(&self, header: &Header, raw: &[u8; HEADER_LEN], _arrival_ns: u64) -> bool {
        self.tally.admit(header, raw)
    }

    fn admit_all(&self, packets: &[Arrived<'_>]) -> u64 {
        self.tally
            .admit_all(packets.iter().map(|p| (&p.header, p.raw)))
    }

    fn accept(&self, leaves: &[Leaf]) {
        self.tally.accept(leaves);
        if self.tally.complete() && self.committed.get().is_none() {
            self.commit();
        }
    }

    fn turn(&self, now_ns: u64) -> Pace {
        if self.committed.get().is_some() {
            return Pace::Calm;
        }
        let near = match self.deadline_ns.load(Ordering::Relaxed) {
            0 => false,
            deadline_ns if now_ns >= deadline_ns => {
                self.commit();
                return Pace::Calm;
            }
            deadline_ns => deadline_ns - now_ns <= NEAR_NS,
        };
        if near || self.tally.urgent() {
            if near || self.tally.missing() <= REHEARSAL {
                self.rehearse();
            }
            Pace::Prompt
        } else {
            Pace::Calm
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::config::Role;
    use crate::journal::{Asked, Journal};
    use plumbline_proof::backhaul::messages::ChallengeId;
    use plumbline_proof::backhaul::params::Terms;
    use plumbline_trust::Address;
    use plumbline_trust::encoding::decode;
    use plumbline_trust::session::Ephemeral;

    const CHALLENGE: ChallengeId = [3; 32];

    fn key(index: u16) -> SessionKey {
        Ephemeral::from_secret([1; 32])
            .agree(&Ephemeral::from_secret([2; 32]).public(), &CHALLENGE, index)
            .unwrap()
    }

    /// Three challengers of four, `m` packets of each; and the socket that they all listen on.
    fn sink(m: u64) -> (Sink, UdpSocket) {
        let inbox = UdpSocket::bind("127.0.0.1:0").unwrap();
        inbox
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let to = inbox.local_addr().unwrap();
        let terms = Terms::downlink(m * 3 * 120_000, 4, 1, 100);
        let keys = (0..4).map(|i| (i != 3).then(|| key(i))).collect();
        let peers: Vec<_> = (0..3).map(|i| (i, to, key(i))).collect();
        let journal = Journal::in_memory(&Address([1; 20])).unwrap();
        let asked = Asked {
            block: 1,
            started: 0,
        };
        let sink = Sink::new(
            &journal.begin(Role::Prover, &CHALLENGE, asked).unwrap(),
            Tally::new(&CHALLENGE, 0, &terms, keys),
            Arc::new(NetworkKey::from_secret(&[4; 32])),
            Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()),
            &peers,
        );
        (sink, inbox)
    }

    fn offer(sink: &Sink, index: u16, sequence: u64) -> bool {
        let raw = sealed(Kind::Data, &CHALLENGE, index, sequence, 0, &key(index));
        let header = Header::from_bytes(&raw).unwrap();
        let admitted = sink.admit(&header, &raw, 0);
        if admitted {
            sink.accept(&[Leaf {
                index,
                sequence,
                arrival_ns: clock::realtime_ns(),
                digest: [7; 32],
            }]);
        }
        admitted
    }

    #[test]
    fn with_the_last_packet_everyone_is_told_once_before_anyone_twice() {
        let (sink, inbox) = sink(2);
        for index in 0..3 {
            for sequence in 0..2 {
                assert!(sink.committed().is_none());
                assert!(offer(&sink, index, sequence));
            }
        }
        let committed = sink.committed().unwrap();
        assert_eq!(committed.commit.packets, 6);
        let steps = committed.steps;
        assert!(steps.leaf_ns <= steps.commit_ns && steps.commit_ns < steps.sign_ns);
        assert!(steps.sign_ns < steps.send_ns);
        let mut heard = Vec::new();
        for _ in 0..3 * COMMIT_BURST {
            let mut datagram = [0; 2048];
            let length = inbox.recv(&mut datagram).unwrap();
            let (head, body) = datagram[..length].split_first_chunk().unwrap();
            let header = Header::from_bytes(head).unwrap();
            assert!(header.kind == Kind::Commit && key(header.index).check(head));
            assert_eq!(decode::<Signed>(body), Ok(committed.signed.clone()));
            heard.push(header.index);
        }
        assert_eq!(heard, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(committed.outgoing.len(), 3);
        // Afterwards nobody hurries, and what comes is late.
        assert_eq!(sink.turn(clock::realtime_ns()), Pace::Calm);
        assert!(!offer(&sink, 0, 2));
        assert_eq!(sink.tally().refused().late, 1);
    }

    #[test]
    fn at_the_deadline_it_commits_to_what_there_is_and_hurries_before_it() {
        let (sink, _inbox) = sink(1000);
        assert!(offer(&sink, 0, 0));
        // Without a deadline, and 10 ms and a little before one.
        assert_eq!(sink.turn(1), Pace::Calm);
        let deadline_ns = 50 * NEAR_NS;
        sink.commit_by(deadline_ns);
        assert_eq!(sink.turn(deadline_ns - NEAR_NS - 1), Pace::Calm);
        assert_eq!(sink.turn(deadline_ns - NEAR_NS), Pace::Prompt);
        assert_eq!(sink.turn(deadline_ns - 1), Pace::Prompt);
        assert!(sink.committed().is_none());
        assert_eq!(sink.turn(deadline_ns), Pace::Calm);
        assert_eq!(sink.committed().unwrap().commit.packets, 1);
        assert_eq!(sink.tally().seen(), 1);
    }

    #[test]
    fn little_missing_is_prompt() {
        // Fewer than 64 in all.
        let (few, _inbox) = sink(20);
        assert_eq!(few.turn(1), Pace::Prompt);
    }
}
