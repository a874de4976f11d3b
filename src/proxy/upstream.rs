//! Connections to backends.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::client::TlsStream;

use super::heard_out::HeardOut;
use super::http::body::BodyError;
use super::http::request_body::{ClientFault, RequestBody};
use super::pools::{Backend, WorkerPool};
use super::slots::Slot;
use super::tls::BackendStream;
use crate::model::Http;
use crate::net::clock::Clock;
use crate::net::limits::Occupant;
use crate::net::tcp_options;

/// Bytes of a response that are read at once, and of its head. Of a response that the client does not take, three such parts
/// are held: one that waits for the client, one that waits for the first, and what was read behind it.
const LARGEST_PART: usize = 64 * 1024;

/// An HTTP/1.1 connection to a backend that waits for a request.
pub(super) type Idle = http1::SendRequest<RequestBody>;

/// An idle connection, and since when it is.
pub(super) struct Parked {
    connection: Idle,
    since: Instant,
}

/// Why there is no response of a backend.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection could be made: it has seen nothing of the request.
    Connect(io::Error),
    /// The connection ended before the head of the response.
    Reset(BodyError),
    /// An HTTP/2 backend has processed nothing of the request.
    Refused(BodyError),
    /// What came was not a response, or it is not clear where its body ends.
    Malformed(BodyError),
    /// The response did not begin within this time.
    Timeout(Duration),
    /// It was to be a tunnel, and the HTTP/2 backend has not announced that it may be.
    NoTunnels,
    /// The client did not send its whole request.
    Client(ClientFault),
    /// The node has as many connections to backends as it may have.
    Full,
}

impl Failure {
    /// The same for another request that waited for the same connection.
    pub(super) fn shared(&self) -> Self {
        match self {
            Self::Full => Self::Full,
            Self::Connect(error) => Self::Connect(io::Error::new(error.kind(), error.to_string())),
            other => Self::Reset(other.to_string().into()),
        }
    }

    pub(super) fn reset(error: io::Error) -> Self {
        Self::Reset(error.into())
    }

    /// Where the body of a response ends is not clear.
    pub(super) fn unclear_framing() -> Self {
        Self::Malformed("it is not clear where its body ends".into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Reset(error) => write!(f, "no response: {error}"),
            Self::Refused(error) => write!(f, "the request was refused: {error}"),
            Self::Malformed(error) => write!(f, "a malformed response: {error}"),
            Self::Timeout(within) => write!(f, "no response within {within:?}"),
            Self::NoTunnels => f.write_str("the backend takes no WebSockets over HTTP/2"),
            Self::Client(fault) => write!(f, "no request: the client's body is {fault:?}"),
            Self::Full => f.write_str("too many connections to backends are open"),
        }
    }
}

/// A connection to a backend.
pub(super) struct Connected {
    pub(super) stream: BackendStream,
    /// Counts it.
    pub(super) occupant: (Occupant, Slot),
}

/// Connects by TCP, sends a PROXY header, and connects by TLS if the pool has it, within the pool's time for a connection.
///
/// # Errors
/// [`Failure::Full`] or [`Failure::Connect`].
pub(super) async fn connect(
    backend: &Backend,
    pool: &WorkerPool,
    header: &[u8],
) -> Result<Connected, Failure> {
    let shared = &pool.shared;
    let slot = Slot::wait(backend, pool).await.ok_or(Failure::Full)?;
    let occupant = (shared.connections.backend().ok_or(Failure::Full)?, slot);
    let connecting = async {
        let mut stream = TcpStream::connect(backend.address).await?;
        stream.set_nodelay(true)?;
        tcp_options::keep_alive(&stream, pool.settings().tcp)?;
        // It fits the empty buffer of a new connection.
        stream.write_all(header).await?;
        let Some(tls) = &backend.tls else { return Ok(BackendStream::Plain(stream)) };
        let connected = tls.connect(stream).await;
        let checked = connected.and_then(|stream| negotiated(stream, pool.settings().http));
        checked.inspect_err(|error| complain(backend, pool, "the TLS handshake failed", error))
    };
    let connected = timeout(pool.settings().timeout.connect, connecting).await;
    let stream =
        connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Failure::Connect)?;
    Ok(Connected { stream, occupant })
}

/// The stream, if the backend has agreed to what the pool asks it in (RFC 9113 §3.2).
fn negotiated(stream: TlsStream<TcpStream>, http: Http) -> io::Result<BackendStream> {
    let agreed = stream.get_ref().1.alpn_protocol();
    if http == Http::H2 && agreed != Some(b"h2") {
        return Err(io::Error::other("TLS: the backend does not offer HTTP/2 (ALPN \"h2\")"));
    }
    Ok(BackendStream::Tls(Box::new(stream)))
}

/// Logs why a backend is not used, but not for each connection.
pub(super) fn complain(backend: &Backend, pool: &WorkerPool, what: &str, why: &io::Error) {
    if backend.counters.may_complain(Clock::unix()) {
        let (pool, backend) = (&pool.settings().name, backend.address);
        tracing::warn!(pool, %backend, %why, "a backend is not used: {what}");
    }
}

impl Backend {
    /// A connection that is idle and still open.
    pub(super) fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        // The last used is the least likely to be closed by the backend.
        while let Some(Parked { connection, .. }) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Closes the connections that have been idle for `limit`, and forgets those that are closed.
    pub(super) fn close_idle(&self, limit: Duration, now: Instant) {
        self.idle.borrow_mut().retain(|it| it.connection.is_ready() && now < it.since + limit);
        self.close_idle_plain(limit, now);
        self.streams.close_idle(limit, now);
    }

    /// Whether connections that become idle are worth keeping.
    pub(super) fn may_keep(&self) -> bool {
        self.is_open.get() && !self.counters.slots.are_wanted()
    }

    fn park(&self, connection: Idle, most: usize) {
        if self.may_keep() && self.idle.borrow().len() + self.plain.borrow().len() < most {
            self.idle.borrow_mut().push(Parked { connection, since: Instant::now() });
        }
    }

    /// A new connection.
    pub(super) async fn open(&self, pool: &WorkerPool) -> Result<Idle, Failure> {
        let Connected { stream, occupant } = connect(self, pool, &[]).await?;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(pool.settings().timeout.write));
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(LARGEST_PART)
            .handshake(TokioIo::new(HeardOut::new(Box::pin(stream))))
            .await
            .map_err(|error| Failure::Reset(error.into()))?;
        let ended = self.ended.clone();
        tokio::task::spawn_local(async move {
            let _occupant = occupant;
            tokio::select! {
                // It ends when the sender is dropped or the backend closes it; whoever waits for a response learns of
                // errors.
                _ = connection.with_upgrades() => {}
                () = ended.cancelled() => {}
            }
        });
        Ok(sender)
    }
}

/// Keeps a connection whose response has ended, once it can take another request.
pub(super) fn keep(backend: &Rc<Backend>, pool: &WorkerPool, mut connection: Idle) {
    let most = pool.settings().keepalive;
    if connection.is_closed() || backend.idle.borrow().len() >= most {
        return;
    }
    if connection.is_ready() {
        return backend.park(connection, most);
    }
    let backend = Rc::downgrade(backend);
    // The request may still be on its way, if the response did not wait for it.
    let within = pool.settings().timeout.write;
    tokio::task::spawn_local(async move {
        if let Ok(Ok(())) = timeout(within, connection.ready()).await
            && let Some(backend) = backend.upgrade()
        {
            backend.park(connection, most);
        }
    });
}
