//! Other people's traffic on the measured link: from the bystander to the prover, every packet counted at both
//! ends, so that a proof's packets still add up beside it.
//!
//! ```text
//!  bystander ── full UDP packets, on an absolute schedule ──► core ─► tbf ─► prover: read and counted
//! ```
//!
//! It does not back off: what a link loses to it is the worst that one sender of that rate can do.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use serde::Serialize;

use crate::error::LabError;
use crate::lab::Lab;
use crate::plan::Host;
use crate::wire::prefer_this_thread;

/// Port at the prover; none of the product's.
const PORT: u16 = 7399;

/// IPv4 and UDP headers, bytes.
const HEADERS: u16 = 28;

/// Receive buffer, bytes: half a second of a gigabit, in case the reader gets no core for a while.
const BUFFER: usize = 64 << 20;

/// How long the reader waits for one more packet before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(20);

/// Longest that packets may stand in the lab's queues after the sender has ended.
const SETTLE: Duration = Duration::from_secs(5);

/// What became of cross traffic, in packets. What is in none of the last two was lost on the path, and is in
/// the lab's drops.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CrossCount {
    /// Given to the bystander's kernel.
    pub sent: u64,
    /// Read at the prover.
    pub received: u64,
    /// Arrived at the prover and found its socket full.
    pub socket_dropped: u64,
}

impl CrossCount {
    /// Adds what became of other traffic at the same time.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.socket_dropped += other.socket_dropped;
    }

    /// Packets lost between the two ends; negative if more arrived than were sent.
    #[must_use]
    pub fn lost(&self) -> i128 {
        i128::from(self.sent) - i128::from(self.received) - i128::from(self.socket_dropped)
    }
}

/// Cross traffic that flows until it is stopped.
#[derive(Debug)]
pub struct CrossTraffic {
    stop_sender: Arc<AtomicBool>,
    stop_sink: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<u64>>,
    sink: JoinHandle<io::Result<(u64, u64)>>,
}

impl CrossTraffic {
    /// Starts to send full packets from the bystander to the prover at `ip_bps` bit/s of IP layer.
    ///
    /// # Errors
    /// The lab has no bystander; a socket could not be opened.
    pub fn start(lab: &Lab, ip_bps: u64) -> Result<Self, LabError> {
        let to = lab.address(Host::Prover)?;
        lab.address(Host::Bystander)?;
        let fail = |host: Host, what: &str| {
            let (namespace, what) = (lab.namespace(host).name().to_owned(), what.to_owned());
            move |source| LabError::Namespace {
                namespace,
                what,
                source,
            }
        };
        let receiver = lab.namespace(Host::Prover);
        let socket = receiver.run("opening cross traffic's socket", move || {
            let socket = UdpSocket::bind((to, PORT))?;
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(socket)
        })?;
        let (stop_sender, stop_sink) = (Arc::default(), Arc::default());
        let stopped = Arc::clone(&stop_sink);
        let sink = receiver.spawn(move || read(&socket, &stopped));
        let sink = sink.map_err(fail(Host::Prover, "reading cross traffic"))?;
        let (stopped, size) = (Arc::clone(&stop_sender), lab.plan().mtu);
        let sender = lab.namespace(Host::Bystander);
        let sender = sender.spawn(move || send(to, size, ip_bps, &stopped));
        let sender = sender.map_err(fail(Host::Bystander, "sending cross traffic"))?;
        Ok(Self {
            stop_sender,
            stop_sink,
            sender,
            sink,
        })
    }

    /// Stops it, waits until nothing of it is on its way, and says what became of it.
    ///
    /// # Errors
    /// A socket failed meanwhile; packets stay in the lab's queues.
    pub fn stop(self, lab: &Lab) -> Result<CrossCount, LabError> {
        self.stop_sender.store(true, Ordering::Release);
        let sent = join(self.sender, lab, Host::Bystander);
        let settled = lab.settle(SETTLE);
        self.stop_sink.store(true, Ordering::Release);
        let (received, socket_dropped) = join(self.sink, lab, Host::Prover)?;
        settled?;
        Ok(CrossCount {
            sent: sent?,
            received,
            socket_dropped,
        })
    }
}

fn join<T>(thread: JoinHandle<io::Result<T>>, lab: &Lab, host: Host) -> Result<T, LabError> {
    let ended = thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
    ended.map_err(|source| LabError::Namespace {
        namespace: lab.namespace(host).name().to_owned(),
        what: "cross traffic".to_owned(),
        source,
    })
}

/// Sends until stopped; what is due while it had no core is sent at once, as a queue elsewhere would let it go.
fn send(to: Ipv4Addr, packet: u16, ip_bps: u64, stop: &AtomicBool) -> io::Result<u64> {
    prefer_this_thread()?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((to, PORT))?;
    let payload = vec![0x5a_u8; usize::from(packet.saturating_sub(HEADERS))];
    let bits = u128::from(packet) * 8;
    let (start, mut sent) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Acquire) {
        let due = bits * u128::from(sent) * 1_000_000_000 / u128::from(ip_bps.max(1));
        let due = Duration::from_nanos(u64::try_from(due).unwrap_or(u64::MAX));
        match due.checked_sub(start.elapsed()) {
            Some(early) if !early.is_zero() => std::thread::sleep(early.min(LOOK)),
            _ => {
                socket.send(&payload)?;
                sent += 1;
            }
        }
    }
    Ok(sent)
}

/// Reads until told to end and nothing has come for [`LOOK`]: packets read, packets that found no room.
fn read(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<(u64, u64)> {
    prefer_this_thread()?;
    let mut buffer = vec![0_u8; usize::from(u16::MAX)];
    let mut received = 0;
    loop {
        let told = stop.load(Ordering::Acquire);
        match socket.recv(&mut buffer) {
            Ok(_) => received += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if told {
                    let table = std::fs::read_to_string("/proc/thread-self/net/udp")?;
                    return Ok((received, socket_drops(&table, PORT)));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// The last column of the socket bound to `port`, in `/proc/net/udp`.
fn socket_drops(table: &str, port: u16) -> u64 {
    let ending = format!(":{port:04X}");
    let found = table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        fields
            .nth(1)
            .filter(|local| local.ends_with(&ending))
            .and_then(|_| fields.next_back()?.parse().ok())
    });
    found.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_those_of_the_port() {
        let table = "  sl  local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref pointer drops\n\
             \x20 1: 02024D0A:1C85 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 9\n\
             \x20 2: 02024D0A:1CE7 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 41\n";
        assert_eq!(
            (socket_drops(table, 7301), socket_drops(table, 7399)),
            (9, 41)
        );
        assert_eq!(socket_drops(table, 7300), 0);
    }

    #[test]
    fn what_is_missing_was_lost() {
        let count = CrossCount {
            sent: 10,
            received: 6,
            socket_dropped: 1,
        };
        assert_eq!(count.lost(), 3);
    }
}
