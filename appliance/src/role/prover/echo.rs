//! The prover's control port: answers probes with signed echoes, hears acknowledgements and, of an uplink, seeds.
//!
//! One thread, one socket, blocking reads: a probe's round trip is measured, so nothing stands in its
//! way. Who is not consented to gets no answer, and who is gets a bounded number.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use plumbline_proof::backhaul::messages::{ChallengeId, ECHO_DOMAIN, session_of};
use plumbline_proof::backhaul::params::ECHOES_MOST;
use plumbline_proof::backhaul::record::seed_hash;
use plumbline_proof::backhaul::rtt::sealed;
use plumbline_trust::NetworkKey;
use plumbline_trust::encoding::{Digest, encode};
use plumbline_trust::session::SessionKey;
use plumbline_wire::header::{HEADER_LEN, Header, Kind, TAGGED_LEN};
use tokio::sync::mpsc::UnboundedSender;

use crate::privilege;
use crate::role::conduct::Conduct;

/// A datagram with a seed.
const SEED_LEN: usize = HEADER_LEN + 32;
/// How often the thread looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// One challenger as the control port knows it.
pub struct Peer {
    /// Where its probes come from.
    pub control: SocketAddr,
    /// Tags its datagrams.
    pub key: SessionKey,
    /// It has the commitment.
    pub acknowledged: AtomicBool,
    echoed: AtomicU64,
    seed: Option<Awaited>,
}

/// A seed that a challenger committed itself to, and who is told of it, once.
struct Awaited {
    hash: Digest,
    told: AtomicBool,
    tell: UnboundedSender<(u16, [u8; 32])>,
}

impl Peer {
    /// A challenger that probes from `control`.
    pub fn new(control: SocketAddr, key: SessionKey) -> Self {
        Self {
            control,
            key,
            acknowledged: AtomicBool::new(false),
            echoed: AtomicU64::new(0),
            seed: None,
        }
    }

    /// … and whose seed, the one of this hash, is told to `tell` when it is here: index and seed, once.
    #[must_use]
    pub fn awaited(mut self, hash: Digest, tell: UnboundedSender<(u16, [u8; 32])>) -> Self {
        let told = AtomicBool::new(false);
        self.seed = Some(Awaited { hash, told, tell });
        self
    }
}

impl Awaited {
    fn hear(&self, challenge: &ChallengeId, index: u16, seed: &[u8; 32]) {
        if !self.told.load(Ordering::Relaxed) && seed_hash(challenge, seed) == self.hash {
            self.told.store(true, Ordering::Relaxed);
            let _over = self.tell.send((index, *seed));
        }
    }
}

/// One session as the control port knows it.
pub struct Guests {
    challenge: ChallengeId,
    /// By index; `None` without consent.
    pub peers: Vec<Option<Peer>>,
    /// Probes, acknowledgements and seeds received from them.
    pub received: AtomicU64,
}

impl Guests {
    /// Echoes sent to them.
    pub fn echoed(&self) -> u64 {
        let answered = |peer: &Peer| peer.echoed.load(Ordering::Relaxed).min(ECHOES_MOST);
        self.peers.iter().flatten().map(answered).sum()
    }
}

/// The control port.
pub struct Echo {
    socket: Arc<UdpSocket>,
    sessions: Arc<Mutex<HashMap<[u8; 16], Arc<Guests>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Binds the port and starts the thread; returns when that holds no capability any more.
    ///
    /// # Errors
    /// The port cannot be bound, or the thread not be started or rid of its capabilities.
    pub fn start(
        address: IpAddr,
        port: u16,
        key: Arc<NetworkKey>,
        conduct: Arc<dyn Conduct>,
    ) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((address, port))?);
        socket.set_read_timeout(Some(STOP_CHECK))?;
        let sessions = Arc::new(Mutex::new(HashMap::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            socket: socket.clone(),
            sessions: sessions.clone(),
            key,
            conduct,
        };
        let (say_dropped, dropped) = channel();
        let thread = std::thread::Builder::new()
            .name("plumbline-echo".into())
            .spawn({
                let stop = stop.clone();
                move || {
                    // It starts before the process gives its capabilities up, and needs none.
                    let without = privilege::drop_all().map_err(io::Error::other);
                    let serves = without.is_ok();
                    let _gone = say_dropped.send(without);
                    if serves {
                        worker.run(&stop);
                    }
                }
            })?;
        let echo = Self {
            socket,
            sessions,
            stop,
            thread: Some(thread),
        };
        // Whoever looks for capabilities next must find none here.
        let ended = |_| io::Error::other("the control port's thread ended");
        dropped.recv().map_err(ended)??;
        Ok(echo)
    }

    /// The socket, from which commitments go out.
    pub fn socket(&self) -> Arc<UdpSocket> {
        self.socket.clone()
    }

    /// Answers `peers` from now on, until the returned guests are dismissed.
    pub fn admit(&self, challenge: ChallengeId, peers: Vec<Option<Peer>>) -> Arc<Guests> {
        let guests = Arc::new(Guests {
            challenge,
            peers,
            received: AtomicU64::new(0),
        });
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(session_of(&challenge), guests.clone());
        guests
    }

    /// Answers them no more.
    pub fn dismiss(&self, guests: &Guests) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&session_of(&guests.challenge));
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Worker {
    socket: Arc<UdpSocket>,
    sessions: Arc<Mutex<HashMap<[u8; 16], Arc<Guests>>>>,
    key: Arc<NetworkKey>,
    conduct: Arc<dyn Conduct>,
}

impl Worker {
    fn run(&self, stop: &AtomicBool) {
        let mut buffer = [0; SEED_LEN + 1];
        while !stop.load(Ordering::Relaxed) {
            // What is shorter is nothing of ours, a longer probe tries the path; an error is a timeout or
            // an ICMP answer to a commitment that nobody waits for.
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer)
                && let Some((head, body)) = buffer[..length].split_first_chunk()
            {
                self.hear(head, body, from);
            }
        }
    }

    fn hear(&self, head: &[u8; HEADER_LEN], body: &[u8], from: SocketAddr) {
        let Ok(header) = Header::from_bytes(head) else {
            return;
        };
        let guests = {
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.get(&header.session).cloned()
        };
        let Some(guests) = guests else { return };
        let Some(Some(peer)) = guests.peers.get(usize::from(header.index)) else {
            return;
        };
        if peer.control != from || !peer.key.check(head) {
            return;
        }
        guests.received.fetch_add(1, Ordering::Relaxed);
        match header.kind {
            Kind::Seed => {
                if let (Some(awaited), Ok(seed)) = (&peer.seed, body.try_into()) {
                    awaited.hear(&guests.challenge, header.index, seed);
                }
            }
            _ if !body.is_empty() => {}
            Kind::Probe if peer.echoed.fetch_add(1, Ordering::Relaxed) < ECHOES_MOST => {
                let echo = sealed(
                    Kind::Echo,
                    &guests.challenge,
                    header.index,
                    header.sequence,
                    header.sent_ns,
                    &peer.key,
                );
                let signature = self.key.sign(ECHO_DOMAIN, &echo[..TAGGED_LEN]);
                let datagram = [&echo[..], &encode(&signature)].concat();
                self.answer(datagram, from);
            }
            Kind::CommitAck => peer.acknowledged.store(true, Ordering::Release),
            _ => {}
        }
    }

    fn answer(&self, datagram: Vec<u8>, to: SocketAddr) {
        let wait = self.conduct.echo_wait();
        if wait.is_zero() {
            let _lost = self.socket.send_to(&datagram, to);
            return;
        }
        // Others are not to wait for this one.
        let socket = self.socket.clone();
        std::thread::spawn(move || {
            std::thread::sleep(wait);
            let _lost = socket.send_to(&datagram, to);
        });
    }
}

#[cfg(test)]
mod tests {
    use plumbline_proof::backhaul::rtt;
    use plumbline_trust::session::Ephemeral;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::role::conduct::Honest;

    const CHALLENGE: ChallengeId = [7; 32];
    const SEED: [u8; 32] = [9; 32];

    fn session(index: u16) -> SessionKey {
        let prover = Ephemeral::from_secret([1; 32]);
        let other = Ephemeral::from_secret([2; 32]).public();
        prover.agree(&other, &CHALLENGE, index).unwrap()
    }

    /// A control port whose challenger 1 probes from the socket, and committed itself to [`SEED`].
    fn port() -> (Echo, UdpSocket, UnboundedReceiver<(u16, [u8; 32])>) {
        let key = Arc::new(NetworkKey::from_secret(&[3; 32]));
        let address = IpAddr::from([127, 0, 0, 1]);
        let echo = Echo::start(address, 0, key, Arc::new(Honest)).unwrap();
        let challenger = UdpSocket::bind((address, 0)).unwrap();
        let to = echo.socket().local_addr().unwrap();
        challenger.connect(to).unwrap();
        let patience = Some(Duration::from_secs(20));
        challenger.set_read_timeout(patience).unwrap();
        let (tell, told) = unbounded_channel();
        let from = challenger.local_addr().unwrap();
        let peer = Peer::new(from, session(1)).awaited(seed_hash(&CHALLENGE, &SEED), tell);
        echo.admit(CHALLENGE, vec![None, Some(peer)]);
        (echo, challenger, told)
    }

    /// Returns once everything that was sent before has been heard: a probe's echo is back.
    fn heard(challenger: &UdpSocket) {
        let probe = rtt::probe(&CHALLENGE, 1, 5, 6, &session(1));
        challenger.send(&probe).unwrap();
        assert_eq!(challenger.recv(&mut [0; 256]).unwrap(), 128);
    }

    #[test]
    fn the_committed_seed_is_told_once_and_nothing_else_is() {
        let (_echo, challenger, mut told) = port();
        let of = |seed, key: SessionKey| rtt::seed(&CHALLENGE, 1, 0, (6, seed), &key);
        let good = of(&SEED, session(1));
        let short = good[..good.len() - 1].to_vec();
        let long = [&good[..], &[0]].concat();
        let untagged = of(&SEED, session(2));
        for bad in [of(&[8; 32], session(1)), short, long, untagged] {
            challenger.send(&bad).unwrap();
        }
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger
            .send_to(&good, challenger.peer_addr().unwrap())
            .unwrap();
        heard(&challenger);
        assert!(told.try_recv().is_err());
        for _ in 0..3 {
            challenger.send(&good).unwrap();
        }
        heard(&challenger);
        assert_eq!(told.try_recv(), Ok((1, SEED)));
        assert!(told.try_recv().is_err());
    }
}
