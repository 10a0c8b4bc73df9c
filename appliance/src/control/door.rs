//! The door: connections accepted, counted, timed, turned away.
//!
//! ```text
//!   accept ─► visitors.enter ─┬─ seat ─► TLS 1.3 in HEAD_TIME ─► HTTP/1.1: head in HEAD_TIME ─► router ─► linger ─► closed
//!                             │          (or none: plain HTTP)
//!                             └─ full ─► one 503 or 429, closed
//! ```
//! **Guarantees.** Whoever says nothing, or says it byte by byte, holds a seat for [`HEAD_TIME`] and no longer; a
//! reader that takes nothing is closed by the kernel after [`STALL`]. **Limits.** Seats are counted by address:
//! [`super::visitors`]. **Tests.** `appliance/tests/door/`.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;

use super::visitors::{Full, Seat, Visitor, Visitors};
use crate::chain::caller::seconds;
use crate::problem::Problem;

/// Longest time until a request's head is there, also the first or next one of a connection that is kept.
pub const HEAD_TIME: Duration = Duration::from_secs(15);
/// Bytes that hyper buffers of a connection: the longest head, and pieces of bodies.
const BUFFER: usize = 32 << 10;
/// Most header lines of a request.
const HEADERS: usize = 64;
/// Longest that an answer may wait for its reader, ms.
const STALL: Duration = Duration::from_secs(20);
/// How long, and how many bytes of, what nobody wants to read is thrown away, so that the answer to it arrives.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1 << 20;
/// Pause after the system has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Serves `router` to whoever connects, over TLS if there is `tls`; ends never.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    visitors: Arc<Visitors>,
    tls: Option<TlsAcceptor>,
) {
    let mut told = false;
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Of one connection that broke off, or of all: then there is nothing to do but wait.
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "a connection could not be accepted");
                }
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        match visitors.enter(from.ip()) {
            Ok(seat) => {
                let _best_effort = stream.set_nodelay(true);
                let _best_effort = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL));
                match tls.clone() {
                    None => drop(tokio::spawn(converse(stream, seat, router.clone()))),
                    Some(tls) => drop(tokio::spawn(shake(tls, stream, seat, router.clone()))),
                }
            }
            // Over TLS no word could be read: closing says it.
            Err(full) if tls.is_none() => turn_away(&stream, full),
            Err(_) => {}
        }
    }
}

/// Says why, if the connection takes it at once.
fn turn_away(stream: &TcpStream, full: Full) {
    let problem = match full {
        Full::All(most) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "Others are served now",
        )
        .detail(format!(
            "{most} connections are open, as many as coordinator.max_connections allows; ask again"
        )),
        Full::Address(most) => Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-connections",
            "This address has too many connections",
        )
        .detail(format!(
            "{most} are open, as many as coordinator.max_connections_each allows; close some, or use them again"
        )),
    };
    let problem = problem.retry_after(1);
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        problem.status,
        problem.title,
        crate::problem::MEDIA_TYPE,
        body.len()
    );
    let _gone = stream.try_write(format!("{head}{body}").as_bytes());
}

/// A handshake takes a signature of ours: it counts as a request, and whoever has none left is not answered.
async fn shake(tls: TlsAcceptor, stream: TcpStream, seat: Seat, router: Router) {
    if seat.visitor.caller.request(1).is_err() {
        return;
    }
    if let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIME, tls.accept(stream)).await {
        converse(stream, seat, router).await;
    }
}

async fn converse<S>(stream: S, seat: Seat, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let visitor = seat.visitor.clone();
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(visitor.clone());
        // A router is always ready.
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .without_shutdown();
    if let Ok(parts) = connection.await {
        linger(parts.io.into_inner()).await;
    }
    drop(seat);
}

/// Closes for writing and throws away what still comes: to close with bytes unread would reset the connection, and
/// with it the answer that says why they were not wanted.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drain = async {
        if stream.shutdown().await.is_ok() {
            let mut rest = stream.take(LINGER_BYTES);
            let _gone = tokio::io::copy_buf(
                &mut tokio::io::BufReader::new(&mut rest),
                &mut tokio::io::sink(),
            )
            .await;
        }
    };
    let _cut = tokio::time::timeout(LINGER, drain).await;
}

/// Middleware: a request is one of those that its address may ask for.
pub(super) async fn quota(State(each): State<u32>, request: Request, next: Next) -> Response {
    let visitor = request.extensions().get::<Arc<Visitor>>();
    match visitor.map(|v| v.caller.request(1)) {
        Some(Err(wait)) => too_many(&format!(
            "this address asks for more than the {each} requests a second of coordinator.max_requests_each"
        ), wait)
        .into_response(),
        _ => next.run(request).await,
    }
}

/// Somebody asks for more than its share.
pub(super) fn too_many(detail: &str, wait: Duration) -> Problem {
    let wait = seconds(wait);
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too-many-requests",
        "This address asks for too much",
    )
    .detail(format!("{detail}; ask again in {wait} s"))
    .retry_after(wait)
}
