//! One HTTP/1.1 exchange on a plain socket, from inside a namespace. Nothing of the product's client is
//! used: this is what a stranger's client sees.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use plumbline_lab::Namespace;
use serde_json::Value;

/// Longest wait for an answer on a busy machine; a coordinator answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: String,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    fn read(raw: &[u8]) -> io::Result<Self> {
        let strange = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let text = String::from_utf8_lossy(raw);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .ok_or_else(|| strange("no end of the header"))?;
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let header = |name: &str| {
            let found = head.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            });
            found.unwrap_or_default()
        };
        if header("transfer-encoding") == "chunked" {
            return Err(strange("chunked: this API says how long its answers are"));
        }
        Ok(Self {
            status: status.ok_or_else(|| strange("no status"))?,
            kind: header("content-type"),
            body: body.to_owned(),
        })
    }
}

/// Asks `to` from inside `space`, with these header lines and this body; an error if nobody answers.
pub(crate) fn ask(
    space: &Namespace,
    to: SocketAddr,
    method: &str,
    path: &str,
    (more, content): (&str, &[u8]),
) -> io::Result<Answer> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n",
        content.len()
    );
    let request = [head.as_bytes(), content].concat();
    let exchange = move || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // What is refused by its head may not be taken whole.
        let _refused_early = stream.write_all(&request);
        let mut raw = Vec::new();
        // A server that refuses a body may close before it has read all of it: what it said counts.
        match stream.read_to_end(&mut raw) {
            Err(error) if raw.is_empty() => return Err(error),
            _ => {}
        }
        Answer::read(&raw)
    };
    let joined = space.spawn(exchange)?.join();
    joined.map_err(|_| io::Error::other("the asking thread panicked"))?
}
