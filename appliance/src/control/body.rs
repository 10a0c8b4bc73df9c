//! Bodies, in and out: nothing waits for ever, and what lies in memory is counted.
//!
//! ```text
//!   in    Incoming ─► up to SMALL free, beyond it a part of a budget, as the bytes come ─► Vec
//!         ├─ CHUNK_TIME without a byte, or LEAST_RATE not kept: too-slow (408)
//!         └─ longer than said or allowed: too-large (413)
//!   out   room(length) ─► Held: 64 KiB at a time; its room is given back when it is sent or given up
//! ```
//! **Guarantees.** A slow sender or reader costs a connection and no memory beyond its room, and not for ever.
//! **Tests.** `appliance/tests/door/`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::server::Served;
use crate::problem::Problem;

/// Bytes of a body that need no room: of so many there is one a connection.
pub(super) const SMALL: usize = 16 << 10;
/// Longest time without a byte of a body.
const CHUNK_TIME: Duration = Duration::from_secs(5);
/// Longest time for a body of no length …
const BODY_TIME: Duration = Duration::from_secs(10);
/// … and bytes a second that a longer one must come or go with on average: half a Mbit/s.
const LEAST_RATE: u64 = 64 << 10;
/// Longest wait for room.
const ROOM_TIME: Duration = Duration::from_secs(10);
/// Bytes of a piece of an answer.
const PIECE: usize = 64 << 10;
/// Unit of room, bytes.
const UNIT: u64 = 1 << 10;

/// Room for bodies: so many MiB lie in memory at once.
pub(super) struct Room {
    units: Semaphore,
    all: u32,
    what: &'static str,
}

impl Room {
    pub(super) const fn new(mib: u32, what: &'static str) -> Self {
        let all = mib << 10;
        Self {
            units: Semaphore::const_new(all as usize),
            all,
            what,
        }
    }

    /// What is longer than everything takes everything.
    fn units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).map_or(self.all, |units| units.min(self.all))
    }

    fn busy(&self) -> Problem {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Others are served now",
        )
        .detail(format!("all room for {} is taken; ask again", self.what))
        .retry_after(1)
    }

    /// Room for so many bytes, waited for.
    pub(super) async fn wait(&self, bytes: u64) -> Served<SemaphorePermit<'_>> {
        let asked = self.units.acquire_many(self.units(bytes));
        let given = tokio::time::timeout(ROOM_TIME, asked).await;
        given.ok().and_then(Result::ok).ok_or_else(|| self.busy())
    }

    fn now(&self, bytes: usize) -> Served<SemaphorePermit<'_>> {
        let units = self.units(bytes as u64);
        self.units.try_acquire_many(units).map_err(|_| self.busy())
    }
}

/// How long the body says it is.
pub(super) fn length(headers: &HeaderMap) -> Served<Option<u64>> {
    let Some(said) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(None);
    };
    let number = said.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Problem::bad_request("bad-request", "content-length is no number of bytes"))
}

/// The same, where it must say so.
pub(super) fn length_said(headers: &HeaderMap) -> Served<u64> {
    length(headers)?.ok_or_else(|| {
        Problem::new(
            StatusCode::LENGTH_REQUIRED,
            "length-required",
            "The body must say how long it is",
        )
        .detail("send content-length; chunked bodies are not taken here")
    })
}

/// What is said is longer than what is taken.
pub(super) fn too_large(what: &str, length: u64, most: u64) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
    )
    .detail(format!("{what}: {length} bytes; allowed: at most {most}"))
}

/// A body, read under the clock.
pub(super) struct Reader {
    body: Body,
    began: Instant,
    got: u64,
    /// What came and was not taken yet.
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            began: Instant::now(),
            got: 0,
            rest: Bytes::new(),
        }
    }

    fn late(&self) -> Problem {
        Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too-slow",
            "The body did not come in time",
        )
        .detail(format!(
            "{} bytes came in {} ms; allowed: {} s without a byte, and {} s and a second for each {LEAST_RATE} bytes in all",
            self.got,
            self.began.elapsed().as_millis(),
            CHUNK_TIME.as_secs(),
            BODY_TIME.as_secs()
        ))
    }

    async fn chunk(&mut self) -> Served<Option<Bytes>> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            let all = BODY_TIME + Duration::from_secs(self.got / LEAST_RATE);
            let left = all.saturating_sub(self.began.elapsed()).min(CHUNK_TIME);
            let frame = tokio::time::timeout(left, self.body.frame()).await;
            let frame = match frame.map_err(|_| self.late())? {
                None => return Ok(None),
                Some(frame) => frame.map_err(|e| {
                    Problem::bad_request("bad-request", format!("the body broke off: {e}"))
                })?,
            };
            // Trailers are nothing to us.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.got += data.len() as u64;
                return Ok(Some(data));
            }
        }
    }

    /// The first `N` bytes.
    pub(super) async fn first<const N: usize>(&mut self) -> Served<[u8; N]> {
        let mut out = [0; N];
        let mut at = 0;
        while at < N {
            let mut chunk = self.chunk().await?.ok_or_else(|| {
                Problem::bad_request(
                    "bad-message",
                    format!("the body ends after {at} bytes; at least {N} are needed"),
                )
            })?;
            let taken = chunk.split_to(chunk.len().min(N - at));
            out[at..at + taken.len()].copy_from_slice(&taken);
            at += taken.len();
            self.rest = chunk;
        }
        Ok(out)
    }

    /// What follows, behind `out`, to `most` bytes in all; whoever calls has room for them.
    pub(super) async fn rest(mut self, mut out: Vec<u8>, most: usize) -> Served<Vec<u8>> {
        while let Some(chunk) = self.chunk().await? {
            if out.len() + chunk.len() > most {
                return Err(too_large("the body", self.got, most as u64));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out)
    }

    /// A whole body of `most` bytes at most; beyond [`SMALL`] it takes of the room as the bytes come.
    pub(super) async fn within(
        mut self,
        most: usize,
        room: &'static Room,
    ) -> Served<(Vec<u8>, Option<SemaphorePermit<'static>>)> {
        let (mut out, mut taken): (Vec<u8>, Option<SemaphorePermit<'static>>) = (Vec::new(), None);
        while let Some(chunk) = self.chunk().await? {
            if out.len() + chunk.len() > most {
                return Err(too_large("the body", self.got, most as u64));
            }
            if out.len() + chunk.len() > SMALL {
                let more = room.now(chunk.len())?;
                match &mut taken {
                    Some(taken) => taken.merge(more),
                    None => taken = Some(more),
                }
            }
            out.extend_from_slice(&chunk);
        }
        Ok((out, taken))
    }
}

/// An answer that keeps its room until it is sent.
pub(super) struct Held {
    rest: Bytes,
    until: Instant,
    _room: SemaphorePermit<'static>,
}

impl Held {
    pub(super) fn body(bytes: Vec<u8>, room: SemaphorePermit<'static>) -> Body {
        let all = BODY_TIME + Duration::from_secs(bytes.len() as u64 / LEAST_RATE);
        Body::new(Self {
            rest: bytes.into(),
            until: Instant::now() + all,
            _room: room,
        })
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = std::io::Error;

    /// Asked whenever the connection can take more; one that takes nothing at all the kernel closes.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if Instant::now() > self.until {
            return Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())));
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
