//! The other direction: a thread that counts what the prover sends.
//!
//! ```text
//!  data socket ── recvmmsg, up to 64, kernel stamps ──► from the prover? ──► Counter ──► Counted
//!                                                         └─ no: other_source
//! ```
//! Claim: every datagram that the socket delivered has a fate, and those that found its buffer full are
//! counted too; after the start the loop allocates nothing. Not promised: that the machine keeps up.
//! Tests: below (loopback), and `appliance/tests/netns/uplink.rs`.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use plumbline_proof::backhaul::uplink::arrivals::Counter;
use plumbline_proof::backhaul::uplink::challenger::{Counted, Counting};
use plumbline_wire::size;

use crate::{clock, datapath};

/// Datagrams taken at once.
const BATCH: usize = 64;
/// Bytes of a slot: one more than the longest data packet, so that a longer one is seen to be longer.
const SLOT: usize = size::LONGEST + 1;
/// Bytes asked for the socket's receive buffer: 100 ms of 300 Mbit/s, at two bytes of bookkeeping for one
/// of data. The system's maximum may give less; what is lost for it is counted.
const BUFFER: u32 = 8 << 20;
/// Datagrams that wait in the buffer at most: twice what is asked for is given, and the kernel charges 256
/// bytes or more for each. Who goes on sending cannot keep the counting from its end.
const WAITING_MOST: usize = (2 * BUFFER as usize) / 256;
/// Longest wait before the stop flag and the clock are looked at again.
const ATTENTION: Duration = Duration::from_millis(5);

/// A data socket whose arrivals are counted.
pub(super) struct Ear {
    socket: std::sync::Arc<UdpSocket>,
    dropped: u64,
}

impl Ear {
    /// Makes the socket ready: kernel stamps, a large buffer.
    pub(super) fn new(socket: std::sync::Arc<UdpSocket>) -> Result<Self, String> {
        let wrong = |what: &str, e: io::Error| format!("{what} on the data socket: {e}");
        setsockopt(&*socket, sockopt::ReceiveTimestampns, &true)
            .map_err(|e| wrong("SO_TIMESTAMPNS", e.into()))?;
        socket
            .set_read_timeout(Some(ATTENTION))
            .map_err(|e| wrong("SO_RCVTIMEO", e))?;
        let bytes = datapath::receive_buffer(&socket, BUFFER).map_err(|e| e.to_string())?;
        tracing::debug!(bytes, "receive buffer");
        let dropped = datapath::dropped(&socket).map_err(|e| e.to_string())?;
        Ok(Self { socket, dropped })
    }

    /// Counts until nothing comes any more, or `halt`.
    pub(super) fn count(
        self,
        counting: Counting,
        halt: &AtomicBool,
        watch: clock::Watch,
    ) -> Result<Counted, String> {
        let Counting {
            mut counter,
            from,
            until_ns,
        } = counting;
        let mut batch = Batch::new();
        let wrong = |e: Errno| format!("receiving on the data socket: {e}");
        while clock::realtime_ns() < until_ns && !halt.load(Ordering::Relaxed) {
            match batch.take(&self.socket, from, &mut counter, MsgFlags::MSG_WAITFORONE) {
                // Nothing there, interrupted, or an ICMP answer to something of a former owner.
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => {}
                Err(e) => return Err(wrong(e)),
            }
        }
        // On a busy machine some still wait: they came in time, and their stamps say so.
        let mut left = WAITING_MOST;
        while left > 0 {
            match batch.take(&self.socket, from, &mut counter, MsgFlags::MSG_DONTWAIT) {
                Ok(taken) => left = left.saturating_sub(taken),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR | Errno::ECONNREFUSED) => {}
                Err(e) => return Err(wrong(e)),
            }
        }
        let dropped = datapath::dropped(&self.socket).map_err(|e| e.to_string())?;
        tracing::info!(counted = counter.counted(), refused = ?counter.refused(), "arrivals counted");
        Ok(Counted {
            arrivals: counter.finish(dropped.saturating_sub(self.dropped)),
            clock: clock::NAME.into(),
            clock_error_ns: watch.error_ns(),
        })
    }
}

/// Room for the datagrams of one call.
struct Batch {
    headers: MultiHeaders<SockaddrStorage>,
    slots: Vec<[u8; SLOT]>,
}

impl Batch {
    fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(TimeSpec))),
            slots: vec![[0; SLOT]; BATCH],
        }
    }

    /// Takes the datagrams that are there, waiting for the first if `flags` say so; how many those were.
    fn take(
        &mut self,
        socket: &UdpSocket,
        from: IpAddr,
        counter: &mut Counter,
        flags: MsgFlags,
    ) -> Result<usize, Errno> {
        let mut slots = self.slots.iter_mut();
        let mut parts: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            let slot = slots.next().map_or(&mut [][..], |s| &mut s[..]);
            [IoSliceMut::new(slot)]
        });
        let all = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            parts.iter_mut(),
            flags,
            None,
        )?;
        let mut taken = 0;
        for message in all {
            taken += 1;
            let stamp_ns = message.cmsgs().ok().and_then(|mut all| {
                all.find_map(|c| match c {
                    ControlMessageOwned::ScmTimestampns(t) => unix_ns(t),
                    _ => None,
                })
            });
            let source = message.address.as_ref().and_then(address);
            let Some(bytes) = message.iovs().next() else {
                continue;
            };
            match stamp_ns {
                _ if source != Some(from) => counter.stranger(),
                None => counter.unstamped(),
                Some(at_ns) => counter.take(bytes, at_ns),
            }
        }
        Ok(taken)
    }
}

fn unix_ns(time: TimeSpec) -> Option<u64> {
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec()).ok()?)
}

fn address(of: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = of.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| {
        of.as_sockaddr_in6()
            .map(|a| IpAddr::V6(a.ip()).to_canonical())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use plumbline_proof::backhaul::messages::{Member, Notice};
    use plumbline_proof::backhaul::params::{Direction, Terms};
    use plumbline_proof::backhaul::uplink::{Window, train};
    use plumbline_trust::identity::{Address, NetworkKey};
    use plumbline_trust::session::{Ephemeral, SessionKey};
    use plumbline_wire::header::DATA_LEN;

    use super::*;

    const INDEX: u16 = 3;
    const SEED: [u8; 32] = [9; 32];

    fn notice() -> Notice {
        let key = NetworkKey::from_secret(&[1; 32]);
        let member = Member {
            address: Address([1; 20]),
            key: key.verifying(),
            binding: key.sign("a test of arrivals", b""),
        };
        Notice {
            challenge: [7; 32],
            chain_id: 1,
            contract: Address([0; 20]),
            participants: Address([0; 20]),
            terms: Terms {
                direction: Direction::Up,
                ..Terms::downlink(40_000_000, 4, 1, 1000)
            },
            price_per_byte: 1,
            deadline: 0,
            anchor_ms: 0,
            payer: Address([0; 20]),
            prover: member,
            coordinator: member,
            beacon: [8; 32],
            pool: 0,
            looks: Vec::new(),
            challengers: vec![member; 4],
        }
    }

    fn session() -> SessionKey {
        let prover = Ephemeral::from_secret([1; 32]);
        let other = Ephemeral::from_secret([2; 32]).public();
        prover.agree(&other, &[7; 32], INDEX).unwrap()
    }

    fn fate(counted: &Counted, name: &str) -> u64 {
        let fates = &counted.arrivals.fates;
        fates.iter().find(|(n, _)| n == name).unwrap().1
    }

    #[test]
    fn whole_packets_of_the_prover_count_once_and_everything_else_by_its_name() {
        let ears = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).unwrap());
        let to = ears.local_addr().unwrap();
        let ear = Ear::new(ears).unwrap();
        let notice = notice();
        // A window that is open now, for as long as the test may take.
        let window = Window {
            from_ns: clock::realtime_ns(),
            slot_ns: 60_000_000_000,
            slots: 9,
        };
        let counting = Counting {
            counter: Counter::new(&notice, INDEX, (session(), &SEED), window),
            from: "127.0.0.1".parse().unwrap(),
            until_ns: u64::MAX,
        };
        let halt = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let halt = halt.clone();
            move || ear.count(counting, &halt, clock::Watch::start()).unwrap()
        });
        let prover = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let mut train = train(&notice, INDEX, session(), &SEED);
        let mut packet = [0; DATA_LEN];
        for number in 0..200 {
            train.write(number, &mut packet);
            prover.send_to(&packet, to).unwrap();
        }
        prover.send_to(&packet, to).unwrap();
        train.write(200, &mut packet);
        packet[DATA_LEN - 1] ^= 1;
        prover.send_to(&packet, to).unwrap();
        packet[63] ^= 1;
        prover.send_to(&packet, to).unwrap();
        prover.send_to(&packet[1..], to).unwrap();
        let stranger = UdpSocket::bind(("127.0.0.2", 0)).unwrap();
        train.write(201, &mut packet);
        stranger.send_to(&packet, to).unwrap();
        // The last of all: once the socket is empty, everything has been taken.
        let begun = Instant::now();
        while unread(to.port()) > 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody reads");
            std::thread::yield_now();
        }
        halt.store(true, Ordering::Relaxed);
        let counted = thread.join().unwrap();
        let all: u32 = counted.arrivals.histogram.iter().sum();
        let lost = fate(&counted, "socket_dropped");
        assert_eq!((all, lost), (200, 0));
        for name in [
            "duplicate",
            "bad_payload",
            "bad_tag",
            "malformed",
            "other_source",
        ] {
            assert_eq!(fate(&counted, name), 1, "{name}");
        }
    }

    /// As on a machine that gives this thread no time until all is over: more than one call takes.
    #[test]
    fn what_came_in_time_is_counted_however_late_the_thread_is() {
        let ears = Arc::new(UdpSocket::bind(("127.0.0.1", 0)).unwrap());
        let to = ears.local_addr().unwrap();
        let ear = Ear::new(ears).unwrap();
        let notice = notice();
        let window = Window {
            from_ns: clock::realtime_ns(),
            slot_ns: 60_000_000_000,
            slots: 9,
        };
        let prover = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let mut train = train(&notice, INDEX, session(), &SEED);
        let mut packet = [0; DATA_LEN];
        let sent = 2 * BATCH + 1;
        for number in 0..sent {
            train.write(u64::try_from(number).unwrap(), &mut packet);
            prover.send_to(&packet, to).unwrap();
        }
        let counting = Counting {
            counter: Counter::new(&notice, INDEX, (session(), &SEED), window),
            from: "127.0.0.1".parse().unwrap(),
            until_ns: 0,
        };
        let halt = AtomicBool::new(true);
        let counted = ear.count(counting, &halt, clock::Watch::start()).unwrap();
        let all: u32 = counted.arrivals.histogram.iter().sum();
        let lost = fate(&counted, "socket_dropped");
        assert_eq!((all, lost), (u32::try_from(sent).unwrap(), 0));
    }

    /// Bytes that wait in the UDP socket of `port`, as the kernel shows them.
    fn unread(port: u16) -> u64 {
        let shown = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
        let at = format!(":{port:04X} ");
        let line = shown.lines().find(|l| l.contains(&at)).unwrap();
        let queues = line.split_whitespace().nth(4).unwrap();
        u64::from_str_radix(queues.split_once(':').unwrap().1, 16).unwrap()
    }
}
