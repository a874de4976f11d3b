//! Serves the API at one listener: HTTP/1.1, with limits on how long and how large everything may be.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::Policy;
use super::connections::{Admission, Connections};
use super::identity::{Peer, subject};
use crate::net::limits::Occupancy;
use crate::supervise::fault::{self, At};

/// How long a client may take for the head of a request, counted from the connection or from the response before: it
/// is the idle time, too. Also how long a TLS handshake may take.
const HEAD: Duration = Duration::from_secs(10);

/// How long a client may take no byte of a reply that is there for it.
const STALL: Duration = Duration::from_secs(10);

/// How long requests in flight may take once the node stops; event streams never end by themselves.
const GRACE: Duration = Duration::from_millis(500);

/// The most bytes of the head of a request: twice what browsers and proxies send at most.
const LARGEST_HEAD: usize = 16 << 10;

/// Bytes of a reply that a connection buffers for a slow reader, besides the kernel's buffers.
const BUFFER: usize = 32 << 10;

/// What the connections of one listener share.
#[derive(Debug)]
pub struct Server {
    /// The routes.
    pub router: Router,
    /// The connections that are open.
    pub connections: Arc<Connections>,
    /// Counts the connections of all listeners.
    pub occupancy: Arc<Occupancy>,
    /// Says how to speak TLS, if at all; `None`: never, as on the socket.
    pub policy: Option<watch::Receiver<Policy>>,
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
    /// The tasks of the connections.
    pub tasks: TaskTracker,
}

impl Server {
    /// Accepts connections until the node stops.
    pub async fn serve_tcp(self, listener: TcpListener) {
        let peer = |_: &TcpStream, address: &SocketAddr| Peer { address: Some(*address), ..Peer::default() };
        self.serve(listener, peer).await;
    }

    /// The same on a Unix socket.
    pub async fn serve_unix(self, listener: UnixListener) {
        let user = |stream: &UnixStream| stream.peer_cred().ok().map(|peer| peer.uid());
        self.serve(listener, |stream, _| Peer { user: user(stream), ..Peer::default() }).await;
    }

    async fn serve<L: Listener>(self, mut listener: L, peer: impl Fn(&L::Io, &L::Addr) -> Peer) {
        loop {
            // Reports errors itself, and waits a second after each.
            let (stream, address) = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            fault::point(At::ApiListener);
            let peer = peer(&stream, &address);
            let admission = Arc::new(self.connections.admit(peer.address.map(|address| address.ip())));
            let tls = self.policy.as_ref().and_then(|policy| policy.borrow().tls.clone());
            let (router, stop) = (self.router.clone(), self.stop.clone());
            let occupant = self.occupancy.enter();
            self.tasks.spawn(async move {
                let _occupant = occupant;
                tokio::select! {
                    () = connection(stream, peer, tls, router, &admission, &stop) => {}
                    () = admission.evicted() => {}
                }
            });
        }
    }
}

async fn connection<S>(
    stream: S,
    mut peer: Peer,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    admission: &Arc<Admission>,
    stop: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(STALL));
    let stream = Box::pin(stream);
    let Some(tls) = tls else { return http(stream, peer, router, admission, stop).await };
    let handshake = timeout(HEAD, TlsAcceptor::from(tls).accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => {
            let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            peer.certificate = certificate.and_then(|it| subject(it));
            http(stream, peer, router, admission, stop).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with a client of the API failed"),
        Err(_) => tracing::debug!("TLS handshake with a client of the API took too long"),
    }
}

async fn http<S>(stream: S, peer: Peer, router: Router, admission: &Arc<Admission>, stop: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        admission.touch();
        request.extensions_mut().insert(Arc::clone(admission));
        request.extensions_mut().insert(peer.clone());
        let response = router.call(request);
        async { Ok::<_, Infallible>(response.await.unwrap_or_else(|never| match never {})) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(LARGEST_HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let Ok(served) = timeout(GRACE, connection).await else { return };
            served
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection to the API ended");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::net::server_tls::server_config;

    /// Bytes between the two ends of a test's connection.
    const WIRE: usize = 64;

    fn served(router: Router) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        served_over(None, router)
    }

    fn served_over(
        tls: Option<Arc<ServerConfig>>,
        router: Router,
    ) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let (client, server) = duplex(WIRE);
        let admission = Arc::new(Connections::within(1).admit(None));
        let serving = tokio::spawn(async move {
            connection(server, Peer::default(), tls, router, &admission, &CancellationToken::new()).await;
        });
        (client, serving)
    }

    #[tokio::test(start_paused = true)]
    async fn connections_without_a_whole_request_end() {
        let hello = Router::new().route("/", get(|| async { "hello" }));
        for begun in ["", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let (mut client, serving) = served(hello.clone());
            let start = Instant::now();
            client.write_all(begun.as_bytes()).await.unwrap();
            let mut reply = Vec::new();
            client.read_to_end(&mut reply).await.unwrap();
            serving.await.unwrap();
            let waited = start.elapsed();
            assert!((HEAD..HEAD * 2).contains(&waited), "{begun:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_that_never_end_are_given_up() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let tls = server_config(vec![made.cert.der().clone()], key, None).unwrap();
        // The second is the beginning of a ClientHello.
        for begun in [&b""[..], b"\x16\x03\x01\x00\xc8\x01"] {
            let (mut client, serving) = served_over(Some(Arc::clone(&tls)), Router::new());
            let start = Instant::now();
            client.write_all(begun).await.unwrap();
            serving.await.unwrap();
            let waited = start.elapsed();
            assert!((HEAD..HEAD * 2).contains(&waited), "{begun:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_dropped() {
        let large = Router::new().route("/", get(|| async { Body::from(vec![b'x'; 1 << 20]) }));
        let (mut client, serving) = served(large);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let start = Instant::now();
        serving.await.unwrap();
        assert!((STALL..STALL * 2).contains(&start.elapsed()));
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply.len(), WIRE);
    }
}
