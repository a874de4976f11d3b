//! Connections to backends.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::body::RequestBody;
use super::pools::{Backend, WorkerPool};

/// A connection to a backend that waits for a request.
pub(super) type Idle = http1::SendRequest<RequestBody>;

/// Why a backend did not answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection could be made: it has seen nothing of the request.
    Connect(io::Error),
    /// The connection ended before the head of the response, or what came was not HTTP.
    Reset(hyper::Error),
    /// The response did not begin within this time.
    Timeout(Duration),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::Reset(error) => write!(f, "no response: {error}"),
            Self::Timeout(within) => write!(f, "no response within {within:?}"),
        }
    }
}

/// Connects by TCP.
pub(super) async fn connect(address: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream =
        timeout(within, TcpStream::connect(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Backend {
    /// A connection that is idle and still open.
    pub(super) fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        // The last used is the least likely to be closed by the backend.
        while let Some(connection) = idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// A new connection.
    pub(super) async fn open(&self, pool: &WorkerPool) -> Result<Idle, Failure> {
        let stream =
            connect(self.address, pool.settings().timeout.connect).await.map_err(Failure::Connect)?;
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(Failure::Reset)?;
        // It ends when the sender is dropped or the backend closes it; whoever waits for a response learns of errors.
        tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
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
        backend.idle.borrow_mut().push(connection);
        return;
    }
    let backend = Rc::downgrade(backend);
    tokio::task::spawn_local(async move {
        if connection.ready().await.is_ok()
            && let Some(backend) = backend.upgrade()
            && backend.idle.borrow().len() < most
        {
            backend.idle.borrow_mut().push(connection);
        }
    });
}
