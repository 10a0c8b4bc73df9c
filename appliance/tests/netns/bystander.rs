//! Somebody else's TCP connection through the measured interface, such as an administrator's SSH: it
//! lives through attach, run and detach.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use plumbline_lab::{Host, Lab};

use crate::stage::{OK, Stage, until};

/// A port that nothing of ours uses.
const PORT: u16 = 2222;
/// Longest pause that a person at a terminal takes for a living connection: a flood of 100 ms and one
/// retransmission (200 ms at least, doubled each time) fit in.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes moved at once besides the lines: many segments, so that a path that only carries small packets
/// shows.
const BULK: usize = 1 << 20;

/// A connection over which lines go to and fro until it is told to stop.
struct Connection {
    exchanged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    client: JoinHandle<std::io::Result<()>>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Connection {
    /// From the first challenger to the prover's measured address.
    fn open(lab: &Lab) -> Self {
        let to = SocketAddr::new(lab.address(Host::Prover).expect("the prover").into(), PORT);
        let (exchanged, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let bind = move || TcpListener::bind(to);
        let listener = lab
            .namespace(Host::Prover)
            .run("listening", bind)
            .expect("a listener");
        let server = std::thread::spawn(move || answer(&listener));
        let (count, end) = (exchanged.clone(), stop.clone());
        let client = lab
            .namespace(Host::Challenger(0))
            .spawn(move || talk(to, &count, &end))
            .expect("a thread");
        Self {
            exchanged,
            stop,
            client,
            server,
        }
    }

    /// Waits until lines have gone to and fro from now on.
    #[track_caller]
    fn lives(&self, when: &str) {
        assert!(
            !self.client.is_finished() && !self.server.is_finished(),
            "the connection ended {when}"
        );
        let then = self.exchanged.load(Ordering::Relaxed);
        until(&format!("lines {when}"), PATIENCE * 2, || {
            (self.exchanged.load(Ordering::Relaxed) > then + 20).then_some(())
        });
    }

    #[track_caller]
    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.client
            .join()
            .expect("the client")
            .expect("no error at the client");
        self.server
            .join()
            .expect("the server")
            .expect("no error at the server");
    }
}

fn answer(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        stream.write_all(line.as_bytes())?;
        if line == "bulk\n" {
            let mut bulk = vec![0; BULK];
            lines.read_exact(&mut bulk)?;
            stream.write_all(&bulk)?;
        }
        line.clear();
    }
    Ok(())
}

fn talk(to: SocketAddr, exchanged: &AtomicU64, stop: &AtomicBool) -> std::io::Result<()> {
    let wrong = |why: &str| std::io::Error::other(why.to_owned());
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut back = String::new();
    while !stop.load(Ordering::Relaxed) {
        let number = exchanged.load(Ordering::Relaxed);
        let is_bulk = number.is_multiple_of(500);
        let line = if is_bulk {
            "bulk\n".to_owned()
        } else {
            format!("line {number}\n")
        };
        stream.write_all(line.as_bytes())?;
        back.clear();
        lines.read_line(&mut back)?;
        if back != line {
            return Err(wrong("another line came back"));
        }
        if is_bulk {
            bulk(&mut stream, &mut lines)?;
        }
        exchanged.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn bulk(stream: &mut TcpStream, back: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    let sent: Vec<u8> = (0..=250).cycle().take(BULK).collect();
    stream.write_all(&sent)?;
    let mut got = vec![0; BULK];
    back.read_exact(&mut got)?;
    if got == sent {
        Ok(())
    } else {
        Err(std::io::Error::other("other bytes came back"))
    }
}

#[test]
fn a_connection_through_the_measured_interface_lives_through_attach_run_and_detach() {
    let mut stage = Stage::set(4, 200_000_000);
    let connection = Connection::open(&stage.lab);
    connection.lives("before the prover is there");
    stage.start_all();
    assert_eq!(stage.xdp(), Some(1));
    connection.lives("with XDP attached");
    let then = connection.exchanged.load(Ordering::Relaxed);
    let outcome = stage.measure("--faucet --claim 190mbit --challengers 4 --duration 300ms");
    assert_eq!(outcome.json()["state"], "Final", "{outcome:?}");
    assert_eq!(outcome.json()["datapath"]["receiver"], "af_xdp");
    assert!(
        connection.exchanged.load(Ordering::Relaxed) > then,
        "nothing went through while it was measured"
    );
    connection.lives("after the measurement");
    stage.cast.stop(Host::Prover).expect("it stops");
    assert_eq!(stage.xdp(), None);
    connection.lives("after the prover stopped");
    stage.start(Host::Prover);
    connection.lives("with XDP attached again");
    stage.cast.kill(Host::Prover).expect("it is killed");
    connection.lives("after the prover was killed");
    connection.end();
    assert!([OK, crate::stage::FAILED].contains(&outcome.code));
    stage.end();
}
