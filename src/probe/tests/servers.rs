//! Servers with one behaviour each. They run until the test's runtime ends.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::USER_AGENT;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, TrustAnchor};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

static AUTHORITIES: AtomicUsize = AtomicUsize::new(0);

/// A certificate authority.
pub(super) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Each has its own name, so that one does not accept the other's certificates.
        let number = AUTHORITIES.fetch_add(1, Relaxed);
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(super) fn anchor(&self) -> TrustAnchor<'static> {
        let mut store = RootCertStore::empty();
        store.add(self.certificate.der().clone()).unwrap();
        store.roots.remove(0)
    }

    pub(super) fn certificate(&self, names: &[&str]) -> Identity {
        self.certificate_of_years(names, (2001, 4001))
    }

    /// Valid from the start of the first year to the start of the second.
    pub(super) fn certificate_of_years(&self, names: &[&str], (first, last): (i32, i32)) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(first, 1, 1);
        params.not_after = date_time_ymd(last, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

async fn listen() -> (u16, TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

/// The kernel completes handshakes, and nothing ever answers.
pub(super) async fn hang() -> (u16, TcpListener) {
    listen().await
}

/// The queue of connections is full, so that the kernel drops further SYNs.
pub(super) async fn backlog_full() -> (u16, impl Sized) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let port = listener.local_addr().unwrap().port();
    let waiting = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    (port, (listener, waiting))
}

/// Accepts and resets.
pub(super) async fn reset() -> u16 {
    let (port, listener) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            stream.set_zero_linger().unwrap();
        }
    });
    port
}

/// Sends this before any request.
pub(super) async fn greet(greeting: &'static str) -> u16 {
    let (port, listener) = listen().await;
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _peer)) = listener.accept().await {
            stream.write_all(greeting.as_bytes()).await.unwrap();
            open.push(stream);
        }
    });
    port
}

/// Answers every request with these bytes and leaves the connection open. Also returns the requests.
pub(super) async fn respond(response: impl Into<Vec<u8>>) -> (u16, mpsc::Receiver<String>) {
    let (port, listener) = listen().await;
    (port, respond_on(listener, response))
}

/// Like [`respond`], on a socket already bound.
pub(super) fn respond_on(listener: TcpListener, response: impl Into<Vec<u8>>) -> mpsc::Receiver<String> {
    let response: Arc<[u8]> = response.into().into();
    let (requests, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            tokio::spawn(exchange(stream, Arc::clone(&response), requests.clone()));
        }
    });
    received
}

/// Answers with these bytes, most of which exceed the buffers, closes as requested, and reports whether the client
/// read them all.
pub(super) async fn respond_and_watch(
    response: impl Into<Vec<u8>>,
) -> (u16, mpsc::Receiver<Result<(), io::ErrorKind>>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(16).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (ends, seen) = mpsc::channel(1);
    let response = response.into();
    tokio::spawn(async move {
        while let Ok((mut stream, _peer)) = listener.accept().await {
            assert!(head(&mut stream).await.contains("\r\nconnection: close\r\n"));
            let taken = stream.write_all(&response).await;
            ends.send(taken.map_err(|error| error.kind())).await.unwrap();
        }
    });
    (port, seen)
}

/// Answers with these bytes and closes.
pub(super) async fn respond_and_close(response: &'static str) -> u16 {
    let (port, listener) = listen().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _peer)) = listener.accept().await {
            head(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    port
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    response: Arc<[u8]>,
    requests: mpsc::Sender<String>,
) {
    // The test may ignore the requests, and the client may have read enough.
    let _ = requests.send(head(&mut stream).await).await;
    let _ = stream.write_all(&response).await;
    let _ = stream.flush().await;
    std::future::pending::<()>().await;
}

/// The head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

fn acceptor((certificate, key): Identity, alpn: &[&[u8]]) -> TlsAcceptor {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers every request with `start`, then with these bytes again and again, as fast as the client reads them.
pub(super) async fn flood(identity: Option<Identity>, start: &'static [u8], bytes: &[u8]) -> u16 {
    let (port, listener) = listen().await;
    let acceptor = identity.map(|identity| acceptor(identity, &[b"h2"]));
    let bytes: Arc<[u8]> = bytes.repeat(1000).into();
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let bytes = Arc::clone(&bytes);
            match &acceptor {
                Some(acceptor) => {
                    drop(tokio::spawn(endlessly(acceptor.accept(stream).await.unwrap(), start, bytes)))
                }
                None => drop(tokio::spawn(endlessly(stream, start, bytes))),
            }
        }
    });
    port
}

async fn endlessly(mut stream: impl AsyncRead + AsyncWrite + Unpin, start: &[u8], bytes: Arc<[u8]>) {
    stream.read_u8().await.unwrap();
    stream.write_all(start).await.unwrap();
    while stream.write_all(&bytes).await.is_ok() {}
}

/// Completes the handshake, then sends nothing.
pub(super) async fn tls(identity: Identity, alpn: &[&[u8]]) -> u16 {
    let (port, listener) = listen().await;
    let acceptor = acceptor(identity, alpn);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _peer)) = listener.accept().await {
            open.push(acceptor.accept(stream).await);
        }
    });
    port
}

/// Answers every HTTP/1.1 request over TLS with these bytes. Also returns the kind of each handshake.
pub(super) async fn tls_respond(
    identity: Identity,
    alpn: &[&[u8]],
    response: String,
) -> (u16, mpsc::Receiver<HandshakeKind>) {
    let (port, listener) = listen().await;
    let acceptor = acceptor(identity, alpn);
    let response: Arc<[u8]> = response.into_bytes().into();
    let (handshakes, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let kind = stream.get_ref().1.handshake_kind().unwrap();
            // The test may ignore it.
            let _ = handshakes.send(kind).await;
            let (requests, _nobody) = mpsc::channel(1);
            tokio::spawn(exchange(stream, Arc::clone(&response), requests));
        }
    });
    (port, received)
}

/// An HTTP/2 server with one document. Also returns version, method, URI and the product name of the agent.
pub(super) async fn h2(identity: Identity, document: &'static str) -> (u16, mpsc::Receiver<String>) {
    let (port, listener) = listen().await;
    let acceptor = acceptor(identity, &[b"h2", b"http/1.1"]);
    let (requests, received) = mpsc::channel(16);
    tokio::spawn(async move {
        while let Ok((stream, _peer)) = listener.accept().await {
            let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let requests = requests.clone();
            let answer = service_fn(move |request: Request<Incoming>| {
                let agent =
                    request.headers()[USER_AGENT].to_str().unwrap().split('/').next().unwrap().to_owned();
                let summary =
                    format!("{:?} {} {} {agent}", request.version(), request.method(), request.uri());
                let requests = requests.clone();
                async move {
                    requests.send(summary).await.unwrap();
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(document.as_bytes()))))
                }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(stream, answer));
        }
    });
    (port, received)
}
