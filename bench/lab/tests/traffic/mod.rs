//! Plain UDP traffic between hosts of a lab, for its own tests.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test uses a part

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use plumbline_lab::wire::prefer_this_thread;
use plumbline_lab::{Host, Lab};

/// UDP payload of a full packet at MTU 1500.
pub const PAYLOAD: usize = 1472;
/// Packets in one call of a segmenting sender.
pub const SEGMENTS: usize = 44;
pub const PORT: u16 = 9000;

/// Sends full packets from `from` to `to` at `ip_bps`, for `time`; returns how many the kernel took.
pub fn flood(
    lab: &Lab,
    from: Host,
    to: Ipv4Addr,
    ip_bps: u64,
    time: Duration,
) -> JoinHandle<io::Result<u64>> {
    let work = move || {
        prefer_this_thread()?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        setsockopt(
            &socket,
            sockopt::UdpGsoSegment,
            &i32::try_from(PAYLOAD).unwrap(),
        )?;
        let data = vec![0x5a_u8; PAYLOAD * SEGMENTS];
        let gap = Duration::from_nanos(1500 * 8 * SEGMENTS as u64 * 1_000_000_000 / ip_bps);
        let (start, mut calls) = (Instant::now(), 0_u32);
        while start.elapsed() < time {
            let due = gap * calls;
            match due.checked_sub(start.elapsed()) {
                Some(early) => std::thread::sleep(early),
                None => {
                    socket.send_to(&data, (to, PORT))?;
                    calls += 1;
                }
            }
        }
        Ok(u64::from(calls) * SEGMENTS as u64)
    };
    lab.namespace(from).spawn(work).unwrap()
}

/// Counts datagrams that arrive at `host` until dropped.
pub struct Sink {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Sink {
    pub fn open(lab: &Lab, host: Host) -> Self {
        let (stop, count) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let (ready, opened) = std::sync::mpsc::channel();
        let work = move || {
            prefer_this_thread()?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            setsockopt(&socket, sockopt::RcvBufForce, &(256 << 20))?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            ready.send(()).map_err(io::Error::other)?;
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if socket.recv(&mut buffer).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let thread = lab.namespace(host).spawn(work).unwrap();
        opened.recv().unwrap();
        Self {
            stop,
            count,
            thread: Some(thread),
        }
    }

    /// What has arrived once it is `expected`, or when ten seconds have passed.
    pub fn await_count(&self, expected: u64) -> u64 {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.count.load(Ordering::Relaxed) < expected && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// Answers every datagram at `host` until dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echo {
    pub fn open(lab: &Lab, host: Host) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, opened) = std::sync::mpsc::channel();
        let work = move || {
            prefer_this_thread()?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            ready.send(()).map_err(io::Error::other)?;
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    socket.send_to(&buffer[..length], from)?;
                }
            }
            Ok(())
        };
        let thread = lab.namespace(host).spawn(work).unwrap();
        opened.recv().unwrap();
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// Round trips of `count` datagrams from `from` to the echo at `to`, one after the other.
pub fn round_trips(lab: &Lab, from: Host, to: Ipv4Addr, count: usize) -> Vec<Duration> {
    let run = move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect(SocketAddr::from((to, PORT)))?;
        let mut times = Vec::new();
        for i in 0..count {
            let start = Instant::now();
            socket.send(&i.to_be_bytes())?;
            let mut answer = [0; 8];
            socket.recv(&mut answer)?;
            assert_eq!(answer, i.to_be_bytes());
            times.push(start.elapsed());
        }
        Ok(times)
    };
    lab.namespace(from)
        .run("measuring round trips", run)
        .unwrap()
}
