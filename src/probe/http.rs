//! HTTP over TCP or TLS: one GET on its own connection, and the verdict on the response.

use std::error::Error;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::FusedFuture as _;
use http::uri::{Authority, PathAndQuery, Scheme};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::expectation::{check_body, check_status, needs_body};
use super::outcome::{Failure, Phase, Progress, quote, soft};
use crate::model::{Expect, HttpProbe};

/// The longest body that a probe reads, in bytes. If the body matters, a longer one is a failure.
pub const MAX_BODY: usize = 256 * 1024;

/// How long a probe that has its result keeps reading while it waits for the server to close.
const CLOSE_WAIT: Duration = Duration::from_millis(200);

/// The divisor of the interval that bounds this wait: whatever servers do, probes keep their interval, and those that
/// wait for the server to close leave room within [`MAX_IN_FLIGHT`](super::MAX_IN_FLIGHT) even if a third hangs.
const CLOSE_WAIT_DIVISOR: u32 = 10;

/// The longest response head that a probe reads, in bytes.
const MAX_HEAD: usize = 64 * 1024;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION"), " probe"));

/// The request, and the expected response.
#[derive(Debug)]
pub(super) struct Ask {
    scheme: Scheme,
    host: Option<Authority>,
    path: PathAndQuery,
    expect: Expect,
    close_wait: Duration,
}

impl Ask {
    /// Prepares the request of a probe that runs at `interval`.
    pub(super) fn new(probe: &HttpProbe, scheme: Scheme, interval: Duration) -> Self {
        Self {
            scheme,
            host: probe.host.clone(),
            path: probe.path.clone(),
            expect: probe.expect.clone(),
            close_wait: CLOSE_WAIT.min(interval / CLOSE_WAIT_DIVISOR),
        }
    }

    /// The requested host: the configured one, or the address, with its port unless that is the scheme's default
    /// (RFC 9110 §4.2.3).
    fn authority(&self, address: SocketAddr) -> Authority {
        if let Some(host) = &self.host {
            return host.clone();
        }
        let own = if self.scheme == Scheme::HTTPS { 443 } else { 80 };
        let text = match address {
            SocketAddr::V4(v4) if v4.port() == own => v4.ip().to_string(),
            SocketAddr::V6(v6) if v6.port() == own => format!("[{}]", v6.ip()),
            other => other.to_string(),
        };
        Authority::try_from(text).expect("an address is an authority")
    }

    /// RFC 9112 §3.2.1: origin form, and `Host`; §9.6: the server closes.
    fn http1(&self, address: SocketAddr) -> Request<Empty<Bytes>> {
        let mut request = self.request(Uri::from(self.path.clone()));
        let host = HeaderValue::try_from(self.authority(address).as_str());
        request.headers_mut().insert(HOST, host.expect("an authority is a header value"));
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        request
    }

    /// RFC 9113 §8.3.1: `:scheme`, `:authority` and `:path`, all taken from the URI.
    fn http2(&self, address: SocketAddr) -> Request<Empty<Bytes>> {
        let uri = Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority(address))
            .path_and_query(self.path.clone())
            .build();
        self.request(uri.expect("three whole parts make a URI"))
    }

    fn request(&self, uri: Uri) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = uri;
        request.headers_mut().insert(USER_AGENT, AGENT);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("*/*"));
        request
    }
}

/// Kind `http`: HTTP/1.1 on a new connection.
pub(super) async fn over_tcp(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ask: &Ask,
    address: SocketAddr,
    progress: &mut Progress,
) -> Result<(), Failure> {
    progress.enter(Phase::Response);
    speak_http1(stream, ask, address, progress).await
}

/// Kind `https`: the version that the server chose by ALPN.
pub(super) async fn over_tls(
    stream: TlsStream<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>,
    ask: &Ask,
    address: SocketAddr,
    progress: &mut Progress,
) -> Result<(), Failure> {
    progress.enter(Phase::Response);
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        speak_http2(stream, ask, address, progress).await
    } else {
        speak_http1(stream, ask, address, progress).await
    }
}

async fn speak_http1(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    ask: &Ask,
    address: SocketAddr,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failure(&error, Phase::Response))?;
    let response = sender.send_request(ask.http1(address));
    let until_closed = async {
        let Ok(mut parts) = connection.without_shutdown().await else { return };
        let mut rest = parts.io.inner_mut().take(MAX_BODY as u64);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.ok();
    };
    let mut connection = pin!(until_closed.fuse());
    let verdict = drive(connection.as_mut(), judge(response, &ask.expect, progress)).await;
    // We close with RST; a server that has not closed yet would log a connection reset.
    progress.decided = Some(verdict.clone());
    if !connection.is_terminated() {
        tokio::time::timeout(ask.close_wait, connection).await.ok();
    }
    verdict
}

async fn speak_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ask: &Ask,
    address: SocketAddr,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let executor = Executor(CancellationToken::new());
    // However this probe ends, no task of its connection outlives it.
    let _end = executor.0.clone().drop_guard();
    let window = MAX_BODY as u32 + 1;
    let handshake = http2::Builder::new(executor)
        .initial_stream_window_size(window)
        .initial_connection_window_size(window)
        .handshake(TokioIo::new(stream))
        .await;
    let (mut sender, connection) = handshake.map_err(|error| failure(&error, Phase::Response))?;
    let response = sender.send_request(ask.http2(address));
    drive(connection, judge(response, &ask.expect, progress)).await
}

/// Runs the tasks of an HTTP/2 connection until the token is cancelled.
#[derive(Clone)]
struct Executor(CancellationToken);

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, task: F) {
        tokio::spawn(self.0.clone().run_until_cancelled_owned(task));
    }
}

/// Drives a connection and the exchange on it in one task, until the exchange is over.
async fn drive<T>(connection: impl Future, exchange: impl Future<Output = T>) -> T {
    let mut connection = pin!(connection);
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        outcome = &mut exchange => outcome,
        // If the end of the connection matters to the exchange, it sees it as an error.
        _ = &mut connection => exchange.await,
    }
}

async fn judge(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    expect: &Expect,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let response = response.await.map_err(|error| failure(&error, Phase::Response))?;
    progress.completed();
    check_status(expect, response.status().as_u16()).map_err(|clause| soft(Phase::Response, clause))?;
    if !needs_body(expect) {
        return Ok(());
    }
    progress.enter(Phase::Body);
    let body = read(response.into_body()).await?;
    progress.completed();
    check_body(expect, &body).map_err(|clause| soft(Phase::Body, clause))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let too_long = || soft(Phase::Body, format!("body longer than {} KiB", MAX_BODY / 1024));
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_long());
    }
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| failure(&error, Phase::Body))?;
        let Ok(data) = frame.into_data() else { continue };
        if read.len() + data.len() > MAX_BODY {
            return Err(too_long());
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// The failure for an HTTP error. It is always soft, because the peer accepted the connection; a balancer without
/// backends closes by FIN or RST, so both count alike.
fn failure(error: &hyper::Error, phase: Phase) -> Failure {
    let whereabouts = if phase == Phase::Body { "within the body" } else { "before the response" };
    let chain = || std::iter::successors(Some(error as &dyn Error), |&error| error.source());
    let io = chain().find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
    if matches!(io, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)) {
        return soft(phase, format!("connection reset {whereabouts}"));
    }
    if io == Some(ErrorKind::UnexpectedEof)
        || error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
    {
        return soft(phase, format!("connection closed {whereabouts}"));
    }
    let root = chain().last().map(ToString::to_string).unwrap_or_default();
    let what = if error.is_parse() { "the answer is not HTTP" } else { "http" };
    soft(phase, format!("{what}: {}", quote(&root)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::http;
    use super::*;

    #[test]
    fn waiting_for_the_close_is_bounded_by_the_interval() {
        for (interval, expected) in [(100, 10), (1_000, 100), (5_000, 200)] {
            let ask = Ask::new(&http(), Scheme::HTTP, Duration::from_millis(interval));
            assert_eq!(ask.close_wait, Duration::from_millis(expected));
        }
    }
}
