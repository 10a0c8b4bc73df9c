//! The handle that the rest of the appliance holds: start, open and close sessions, read counters.

use std::collections::{BTreeMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Channel, Sender as Mailbox, bounded};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;
use plumbline_wire::consent::{CLOSED, SENDERS, SESSIONS, mapped_v4};
use plumbline_wire::header::IP_UDP_LEN;
use plumbline_wire::{ConsentEntry, ConsentKey};

use crate::host;
use crate::privilege;

use super::counters::{Counters, Interfaces, Live, LiveFates, SocketCounters};
use super::error::DatapathError;
use super::ladder::{self, Chosen, PathInfo};
use super::program::Program;
use super::source::{Source, XdpSocket};
use super::sys::mmsg::MmsgSource;
use super::sys::sockopt;
use super::worker::{Command, Row, Worker};
use super::{ReceiverConfig, SessionSink, SessionSpec, XskStatistics};

/// Headers of IPv6 and UDP, bytes.
const IPV6_UDP_LEN: usize = 48;

/// Commands that may wait: each open or close waits for its answer, so one a session is plenty.
const MAILBOX: usize = SESSIONS;
/// How long the thread may take to answer: it looks at its mailbox once a turn, and a turn is
/// microseconds; a second of silence means that it is gone.
const ANSWER: Duration = Duration::from_secs(5);

/// A receive thread as the others see it.
struct Line {
    commands: Mailbox<Command>,
    waker: EventFd,
    /// The AF_XDP socket's statistics.
    xsk: Option<OwnedFd>,
    live: Arc<Live>,
}

/// What the handles share with the receiver.
struct Shared {
    lines: Vec<Line>,
    /// The attached program; `None` with a plain socket, and after the receiver was dropped.
    program: Mutex<Option<Program>>,
    /// Ids of open sessions.
    open: Mutex<HashSet<[u8; 16]>>,
    /// Reserves the data port; with a plain socket, receives.
    socket: UdpSocket,
    fates: Arc<LiveFates>,
    /// Of the interface, bytes at the IP layer.
    mtu: u32,
    interface: String,
    interfaces: Interfaces,
    failure: Arc<OnceLock<String>>,
}

/// A running receiver. Dropping it detaches the program, ends the threads and frees the port.
pub struct Receiver {
    shared: Arc<Shared>,
    info: PathInfo,
    threads: Vec<JoinHandle<()>>,
}

/// An open session. Dropping it closes the session.
pub struct SessionHandle {
    shared: Arc<Shared>,
    id: [u8; 16],
    rows: Vec<Row>,
    closed: bool,
}

impl Receiver {
    /// Loads and attaches the program, binds the sockets and starts the thread. Needs `CAP_NET_ADMIN`,
    /// `CAP_BPF` and `CAP_NET_RAW`; nothing after this does.
    ///
    /// # Errors
    /// A configuration that cannot be, a port in use, or a rung that was asked for and cannot be had.
    /// Nothing stays attached.
    pub fn start(cfg: &ReceiverConfig) -> Result<Self, DatapathError> {
        check(cfg)?;
        let socket = bind(cfg)?;
        let mtu = sockopt::mtu(&socket, &cfg.interface)?;
        let wakers: Vec<EventFd> = cfg
            .queues
            .iter()
            .map(|_| waker())
            .collect::<Result<_, _>>()?;
        let (chosen, info) = ladder::choose(cfg, mtu, &socket, &wakers)?;
        let fates = Arc::new(LiveFates::default());
        let failure = Arc::new(OnceLock::new());
        let mut started = Started::default();
        let program = match chosen {
            Chosen::Xdp(pair) => {
                started.lines(cfg, pair.1, wakers, &failure)?;
                Some(pair.0)
            }
            #[cfg(feature = "xsk-rs")]
            Chosen::XskRs(pair) => {
                started.lines(cfg, pair.1, wakers, &failure)?;
                Some(pair.0)
            }
            Chosen::Socket => {
                let receiving = socket.try_clone().map_err(|source| DatapathError::Os {
                    what: "duplicating the data socket".into(),
                    source,
                })?;
                // One socket, one thread: the kernel's stack has spread the queues already.
                for waker in wakers.into_iter().take(1) {
                    let wakes = clone_fd(&waker)?;
                    let receiving = receiving.try_clone().map_err(|source| DatapathError::Os {
                        what: "duplicating the data socket".into(),
                        source,
                    })?;
                    let source = MmsgSource::new(receiving, fates.clone(), wakes);
                    started.line(cfg, 0, source, waker, None, &failure)?;
                }
                None
            }
        };
        let (lines, threads) = started.take();
        let shared = Arc::new(Shared {
            lines,
            program: Mutex::new(program),
            open: Mutex::new(HashSet::with_capacity(SESSIONS)),
            socket,
            fates,
            mtu,
            interface: cfg.interface.clone(),
            interfaces: Interfaces::here(),
            failure,
        });
        Ok(Self {
            shared,
            info,
            threads,
        })
    }

    /// Which way packets take, and why not a better one.
    pub fn info(&self) -> &PathInfo {
        &self.info
    }

    /// Whether packets of so many bytes at the IP layer come in: the interface drops longer ones unseen.
    ///
    /// # Errors
    /// [`DatapathError::Mtu`]: its MTU is smaller.
    pub fn carries(&self, packet_bytes: u16) -> Result<(), DatapathError> {
        let mtu = self.shared.mtu;
        if u32::from(packet_bytes) <= mtu {
            return Ok(());
        }
        let interface = self.shared.interface.clone();
        Err(DatapathError::Mtu {
            interface,
            mtu,
            packet_bytes,
        })
    }

    /// Opens a session: its sink goes to the threads, then its senders are admitted.
    ///
    /// # Errors
    /// A session id that is open already, too many sessions, senders that cannot be, or packets longer
    /// than the interface takes.
    pub fn open(
        &self,
        spec: &SessionSpec,
        sink: &Arc<dyn SessionSink>,
    ) -> Result<SessionHandle, DatapathError> {
        let rows = rows(spec)?;
        let ipv6 = spec.senders.iter().any(|s| s.source.is_ipv6());
        let headers = if ipv6 { IPV6_UDP_LEN } else { IP_UDP_LEN };
        self.carries(u16::try_from(spec.size.payload() + headers).unwrap_or(u16::MAX))?;
        self.shared.enter(spec.session)?;
        // From here on dropping the handle undoes whatever was done.
        let shared = self.shared.clone();
        let handle = SessionHandle {
            shared,
            id: spec.session,
            rows,
            closed: false,
        };
        for line in &handle.shared.lines {
            let (done, answer) = bounded(1);
            let command = Command::Open {
                id: handle.id,
                rows: handle.rows.clone(),
                sink: sink.clone(),
                done,
            };
            handle
                .shared
                .ask(line, command, &answer, "open a session")?;
        }
        handle.shared.enter_rows(&handle.rows)?;
        Ok(handle)
    }

    /// All counters since the start.
    ///
    /// # Errors
    /// The kernel does not let its counters be read.
    pub fn counters(&self) -> Result<Counters, DatapathError> {
        let shared = &*self.shared;
        let fates: BTreeMap<&'static str, u64> = match lock(&shared.program).as_ref() {
            Some(program) => {
                let read = program.fates().read().map_err(|e| DatapathError::Map {
                    what: "reading the counters (FATES)",
                    source: Box::new(e),
                })?;
                read.into_iter().map(|(fate, n)| (fate.name(), n)).collect()
            }
            None => shared.fates.read(),
        };
        let mut counters = Counters {
            fates,
            interface: shared.interfaces.read(&shared.interface),
            ..Counters::default()
        };
        for line in &shared.lines {
            counters.thread.add(&line.live.read());
            match &line.xsk {
                Some(fd) => counters.xsk.add(&XskStatistics::read(fd)?),
                None => {
                    let dropped = sockopt::dropped(&shared.socket)?;
                    counters.socket = SocketCounters { dropped };
                }
            }
        }
        Ok(counters)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Detached first: nothing arrives any more while the threads end.
        *lock(&self.shared.program) = None;
        for line in &self.shared.lines {
            let _ = self.shared.tell(line, Command::Stop, "stop");
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl SessionHandle {
    /// Sets the session's start, `CLOCK_TAI` ns: from then on its senders are admitted. Once only, so that
    /// no row is replaced in which packets are counted: on a session that has a start this does nothing.
    ///
    /// # Errors
    /// A thread is gone, or a consent row cannot be replaced.
    pub fn arm(&mut self, from_tai_ns: u64) -> Result<(), DatapathError> {
        for (_, entry) in &mut self.rows {
            if entry.from_tai_ns != CLOSED {
                return Ok(());
            }
            entry.from_tai_ns = from_tai_ns;
        }
        if self.shared.enter_rows(&self.rows)? {
            return Ok(());
        }
        for line in &self.shared.lines {
            let (done, answer) = bounded(1);
            let rows = self.rows.clone();
            let command = Command::Consent { rows, done };
            self.shared.ask(line, command, &answer, "start a session")?;
        }
        Ok(())
    }

    /// Refuses its senders from now on, and lets the threads take what has arrived. Afterwards none of
    /// them touches the sink any more.
    ///
    /// # Errors
    /// A thread is gone, or a consent row cannot be removed.
    pub fn close(mut self) -> Result<(), DatapathError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), DatapathError> {
        self.closed = true;
        let mut outcome = self.withdraw();
        // All are told, also after one that did not answer.
        for line in &self.shared.lines {
            let (done, answer) = bounded(1);
            let command = Command::Close {
                id: self.id,
                rows: self.rows.clone(),
                done,
            };
            let closed = self.shared.ask(line, command, &answer, "close a session");
            outcome = outcome.and(closed);
        }
        lock(&self.shared.open).remove(&self.id);
        outcome
    }

    fn withdraw(&self) -> Result<(), DatapathError> {
        let mut program = lock(&self.shared.program);
        let Some(program) = program.as_mut() else {
            return Ok(());
        };
        // All are tried, also after one that could not be removed.
        let tried = self
            .rows
            .iter()
            .map(|(key, _)| program.consent().remove(*key));
        let failed: Vec<_> = tried.filter_map(Result::err).collect();
        match failed.into_iter().next() {
            None => Ok(()),
            Some(e) => Err(DatapathError::Map {
                what: "withdrawing a sender (CONSENT)",
                source: Box::new(e),
            }),
        }
    }
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        if !self.closed {
            let _ = self.shut();
        }
    }
}

/// Threads that run already; if a later one cannot start, these are stopped.
#[derive(Default)]
struct Started {
    lines: Vec<Line>,
    threads: Vec<JoinHandle<()>>,
}

impl Started {
    fn lines<S: XdpSocket>(
        &mut self,
        cfg: &ReceiverConfig,
        sockets: Vec<S>,
        wakers: Vec<EventFd>,
        failure: &Arc<OnceLock<String>>,
    ) -> Result<(), DatapathError> {
        for ((place, socket), waker) in (0..).zip(sockets).zip(wakers) {
            let xsk = Some(socket.descriptor()?);
            self.line(cfg, place, socket, waker, xsk, failure)?;
        }
        Ok(())
    }

    fn line<S: Source + 'static>(
        &mut self,
        cfg: &ReceiverConfig,
        place: usize,
        source: S,
        waker: EventFd,
        xsk: Option<OwnedFd>,
        failure: &Arc<OnceLock<String>>,
    ) -> Result<(), DatapathError> {
        let (commands, mailbox) = bounded(MAILBOX);
        let live = Arc::new(Live::default());
        let worker = Worker::new(source, mailbox, live.clone(), failure.clone());
        self.threads.push(spawn(cfg, place, worker)?);
        self.lines.push(Line {
            commands,
            waker,
            xsk,
            live,
        });
        Ok(())
    }

    fn take(mut self) -> (Vec<Line>, Vec<JoinHandle<()>>) {
        (
            std::mem::take(&mut self.lines),
            std::mem::take(&mut self.threads),
        )
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for line in self.lines.drain(..) {
            let _ = line.commands.send_timeout(Command::Stop, ANSWER);
            let _ = line.waker.write(1);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn enter(&self, id: [u8; 16]) -> Result<(), DatapathError> {
        let mut open = lock(&self.open);
        if open.contains(&id) {
            return Err(DatapathError::SessionOpen {
                session: hex::encode(id),
            });
        }
        if open.len() >= SESSIONS {
            return Err(DatapathError::TooManySessions { limit: SESSIONS });
        }
        open.insert(id);
        Ok(())
    }

    /// Enters rows into the program's table, or replaces them; false if there is no program.
    fn enter_rows(&self, rows: &[Row]) -> Result<bool, DatapathError> {
        let mut program = lock(&self.program);
        let Some(program) = program.as_mut() else {
            return Ok(false);
        };
        for (key, entry) in rows {
            program
                .consent()
                .insert(*key, *entry)
                .map_err(|e| DatapathError::Map {
                    what: "admitting a sender (CONSENT)",
                    source: Box::new(e),
                })?;
        }
        Ok(true)
    }

    fn tell(&self, line: &Line, command: Command, what: &'static str) -> Result<(), DatapathError> {
        line.commands
            .send_timeout(command, ANSWER)
            .map_err(|_| self.gone(what))?;
        line.waker.write(1).map_err(|e| DatapathError::Os {
            what: "waking a receive thread".into(),
            source: e.into(),
        })?;
        Ok(())
    }

    /// Tells a thread and waits for its answer.
    fn ask(
        &self,
        line: &Line,
        command: Command,
        answer: &Channel<()>,
        what: &'static str,
    ) -> Result<(), DatapathError> {
        self.tell(line, command, what)?;
        answer.recv_timeout(ANSWER).map_err(|_| self.gone(what))
    }

    fn gone(&self, what: &'static str) -> DatapathError {
        let why = self
            .failure
            .get()
            .cloned()
            .unwrap_or_else(|| "it does not answer".into());
        DatapathError::ThreadGone { what, why }
    }
}

/// These locks guard tables that are whole after every step, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(cfg: &ReceiverConfig) -> Result<(), DatapathError> {
    if cfg.data_port == 0 {
        return Err(DatapathError::Config {
            key: "data_port",
            value: "0".into(),
            allowed: "1 to 65535; senders have to know it".into(),
        });
    }
    let distinct: HashSet<u32> = cfg.queues.iter().copied().collect();
    if cfg.queues.is_empty() || distinct.len() != cfg.queues.len() {
        return Err(DatapathError::Config {
            key: "queues",
            value: format!("{:?}", cfg.queues),
            allowed: "at least one receive queue, each once".into(),
        });
    }
    if nix::net::if_::if_nametoindex(cfg.interface.as_str()).is_err() {
        return Err(DatapathError::NoInterface {
            interface: cfg.interface.clone(),
        });
    }
    Ok(())
}

fn bind(cfg: &ReceiverConfig) -> Result<UdpSocket, DatapathError> {
    let address = SocketAddr::new(cfg.bind, cfg.data_port);
    UdpSocket::bind(address).map_err(|source| DatapathError::Bind { address, source })
}

fn waker() -> Result<EventFd, DatapathError> {
    EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map_err(|e| {
        DatapathError::Os {
            what: "eventfd".into(),
            source: e.into(),
        }
    })
}

pub(super) fn clone_fd(waker: &EventFd) -> Result<OwnedFd, DatapathError> {
    use std::os::fd::AsFd;
    waker
        .as_fd()
        .try_clone_to_owned()
        .map_err(|source| DatapathError::Os {
            what: "duplicating the waker".into(),
            source,
        })
}

/// Capabilities belong to a thread: this one starts while the process still has them, uses them for
/// its turn on the core, and gives them up. Busy polling never sleeps, so it stays an ordinary thread.
fn settle(busy_poll: bool) -> Result<(), DatapathError> {
    if !busy_poll && let Err(why) = host::take_turn_first() {
        tracing::info!(%why, "the receive thread is not real-time: give the unit CAP_SYS_NICE, or commitments may wait on a busy machine");
    }
    shed()
}

fn shed() -> Result<(), DatapathError> {
    privilege::drop_all().map_err(|e| DatapathError::Os {
        what: "giving up capabilities in the receive thread".into(),
        source: std::io::Error::other(e),
    })
}

/// Starts a thread on its core.
fn spawn<S: Source + 'static>(
    cfg: &ReceiverConfig,
    place: usize,
    worker: Worker<S>,
) -> Result<JoinHandle<()>, DatapathError> {
    let core = cfg.cores.iter().cycle().nth(place).copied();
    let queue = cfg.queues.get(place).copied().unwrap_or(0);
    let busy_poll = cfg.busy_poll;
    let (ready, started) = bounded(1);
    let thread = std::thread::Builder::new()
        .name(format!("plumbline-rx{queue}"))
        .spawn(move || {
            let pinned = core.map_or(Ok(()), pin).and_then(|()| settle(busy_poll));
            let go = pinned.is_ok();
            let _ = ready.send(pinned);
            if go {
                worker.run();
            }
        })
        .map_err(|source| DatapathError::Os {
            what: "starting the receive thread".into(),
            source,
        })?;
    match started.recv_timeout(ANSWER) {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(e)) => {
            // Joined, so that what it held (the port) is free when the error is seen.
            let _ = thread.join();
            Err(e)
        }
        Err(_) => Err(DatapathError::ThreadGone {
            what: "start",
            why: "it does not answer".into(),
        }),
    }
}

fn pin(core: usize) -> Result<(), DatapathError> {
    let mut set = CpuSet::new();
    set.set(core)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|e| DatapathError::Config {
            key: "cores",
            value: core.to_string(),
            allowed: format!(
                "a core that this process may run on (`taskset -p $$` shows them): {e}"
            ),
        })
}

/// The consent rows of a session.
fn rows(spec: &SessionSpec) -> Result<Vec<Row>, DatapathError> {
    let wrong = |problem| DatapathError::Senders {
        session: hex::encode(spec.session),
        problem,
    };
    if spec.senders.is_empty() || spec.senders.len() > SENDERS {
        return Err(wrong(format!(
            "{} senders; 1 to {SENDERS} are allowed",
            spec.senders.len()
        )));
    }
    let mut seen = HashSet::new();
    spec.senders
        .iter()
        .map(|sender| {
            let source = match sender.source {
                SocketAddr::V4(v4) => mapped_v4(v4.ip().octets()),
                SocketAddr::V6(v6) => v6.ip().octets(),
            };
            let key = ConsentKey::new(source, sender.source.port(), spec.session, sender.index);
            if !seen.insert(key) {
                return Err(wrong(format!(
                    "{} is listed twice; each sender once",
                    sender.source
                )));
            }
            let entry = ConsentEntry::new(
                sender.cookie,
                spec.size,
                spec.cap_packets,
                spec.from_tai_ns..=spec.until_tai_ns,
            );
            Ok((key, entry))
        })
        .collect()
}
