//! The daemon, and exchanges with it on plain sockets: nothing of the product's client is used.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plumbline::keyfile::Keys;
use serde_json::Value;
use socket2::{Domain, SockAddr, Socket, Type};

/// Until something that must happen has happened; generous, for a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator that ends with the test.
pub(crate) struct Stage {
    child: Child,
    pub(crate) home: tempfile::TempDir,
    pub(crate) listen: SocketAddr,
    /// Where it says that its API is.
    pub(crate) api: String,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage {
    /// Up, with these keys of `[coordinator]`.
    pub(crate) fn up(keys: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let config = format!(
            r#"
            roles = ["coordinator"]
            key = "coordinator.key"
            state_dir = "coordinator"
            log.level = "warn"
            [coordinator]
            listen = "{listen}"
            {keys}
            [chain]
            block_interval = "100ms"
            "#
        );
        let file = home.path().join("coordinator.toml");
        std::fs::write(&file, config).unwrap();
        Keys::create(&home.path().join("coordinator.key")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_plumbline"))
            .args(["run", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.contains("\"ready\":true"), "{line:?}");
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self {
            child,
            home,
            listen,
            api: ready["api"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// A connection from 127.0.0.`host`.
    pub(crate) fn connect(&self, host: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
        socket.bind(&SockAddr::from(from)).unwrap();
        socket.connect(&SockAddr::from(self.listen)).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One exchange from 127.0.0.`host` on a connection of its own.
    pub(crate) fn ask(&self, host: u8, method: &str, path: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect(host);
        send(&mut stream, method, path, "connection: close\r\n", body);
        Answer::read(&mut stream)
    }

    pub(crate) fn get(&self, host: u8, path: &str) -> Answer {
        self.ask(host, "GET", path, b"")
    }

    /// One JSON-RPC call.
    pub(crate) fn rpc(&self, host: u8, method: &str, parameters: &Value) -> Value {
        let call = serde_json::json!({
            "jsonrpc": "2.0", "id": 1, "method": method, "params": parameters
        });
        let answer = self.ask(host, "POST", "/rpc", call.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// It serves somebody else, and has not ended.
    #[track_caller]
    pub(crate) fn is_well(&mut self) {
        assert_eq!(self.get(254, "/healthz").status, 200);
        assert!(self.child.try_wait().unwrap().is_none());
    }
}

/// Writes a request; one that refuses it early may not take all of it.
pub(crate) fn send(stream: &mut TcpStream, method: &str, path: &str, more: &str, body: &[u8]) {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: coordinator\r\n{more}content-length: {}\r\n\r\n",
        body.len()
    );
    let _refused_early = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Reads to the end of the answer, or of the connection.
    #[track_caller]
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        let mut raw = Vec::new();
        let mut piece = [0; 4096];
        loop {
            if let Some(whole) = Self::parse(&raw) {
                return whole;
            }
            match stream.read(&mut piece) {
                Ok(n) if n > 0 => raw.extend_from_slice(&piece[..n]),
                end => panic!("{end:?} after {:?}", String::from_utf8_lossy(&raw)),
            }
        }
    }

    fn parse(raw: &[u8]) -> Option<Self> {
        let at = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&raw[..at]).into_owned();
        let mut answer = Self {
            status: head.split(' ').nth(1)?.parse().ok()?,
            head,
            body: Vec::new(),
        };
        let length: usize = answer.header("content-length").parse().unwrap_or(0);
        answer.body = raw.get(at + 4..at + 4 + length)?.to_vec();
        Some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// A refusal as documented: media type, code, and words.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str, words: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let said = self.json();
        assert_eq!(said["code"], code, "{said}");
        let detail = said["detail"].as_str().unwrap_or_default();
        for word in words {
            assert!(detail.contains(word), "{word:?} is not in {said}");
        }
    }

    /// Says when to ask again.
    #[track_caller]
    pub(crate) fn comes_again(&self) {
        let seconds: u64 = self.header("retry-after").parse().unwrap();
        assert!(seconds >= 1, "{self:?}");
        assert_eq!(self.json()["retry_after"], seconds);
    }
}
