//! Backends that show what they receive, and that misbehave on command.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// How a backend treats requests.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// 200 with what it received, as JSON.
    Show,
    /// This status.
    Status(u16),
    /// Takes requests and never answers.
    Hang,
    /// Closes the connection without an answer.
    Close,
    /// Closes the connection of the next request without an answer, and shows the others.
    CloseNext,
    /// The request's body.
    Echo,
    /// Shows what it received once it gets a permit for it.
    Wait(Arc<Semaphore>),
}

/// A backend on a port of its own. It ends with the test.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    name: &'static str,
    manner: Mutex<Manner>,
    connections: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    targets: Mutex<Vec<String>>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Backend {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(name, listener)
    }

    /// A backend at another loopback address, with the port of this one.
    pub(crate) async fn beside(&self, name: &'static str, ip: [u8; 4]) -> Self {
        let listener = TcpListener::bind(SocketAddr::new(ip.into(), self.address.port())).await;
        Self::on(name, listener.expect("all of 127.0.0.0/8 is local"))
    }

    /// A backend at the address of one that was killed.
    pub(crate) async fn at(name: &'static str, address: SocketAddr) -> Self {
        Self::on(name, TcpListener::bind(address).await.expect("nobody else has it"))
    }

    fn on(name: &'static str, listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let (connections, open, requests, targets) = Default::default();
        let manner = Mutex::new(Manner::Show);
        let state = Arc::new(State { name, manner, connections, open, requests, targets });
        let serving = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, serving }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.state.manner.lock().expect("no panic") = manner;
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.state.connections.load(SeqCst)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        self.state.open.load(SeqCst)
    }

    /// Requests received so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(SeqCst)
    }

    /// The targets of the requests received so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.state.targets.lock().expect("no panic").clone()
    }

    /// Stops to listen, and closes every connection.
    pub(crate) async fn kill(self) -> SocketAddr {
        let address = self.address;
        self.serving.abort();
        // The listener is closed once the task has been dropped.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        address
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        state.connections.fetch_add(1, SeqCst);
        state.open.fetch_add(1, SeqCst);
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let answering = Arc::clone(&state);
            let service = service_fn(move |request| answer(Arc::clone(&answering), request));
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await.ok();
            state.open.fetch_sub(1, SeqCst);
        });
    }
}

async fn answer(state: Arc<State>, mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Refused> {
    state.targets.lock().expect("no panic").push(request.uri().to_string());
    state.requests.fetch_add(1, SeqCst);
    let manner = state.manner.lock().expect("no panic").clone();
    match manner {
        Manner::Close => return Err(Refused),
        Manner::CloseNext => {
            *state.manner.lock().expect("no panic") = Manner::Show;
            return Err(Refused);
        }
        Manner::Hang => std::future::pending().await,
        Manner::Status(status) => {
            let mut response = Response::new(Full::from(format!("{status} of {}", state.name)));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            return Ok(response);
        }
        Manner::Echo => {
            let body = request.into_body().collect().await.map_err(|_| Refused)?.to_bytes();
            return Ok(Response::new(Full::from(body)));
        }
        Manner::Wait(permits) => permits.acquire().await.expect("it is not closed").forget(),
        Manner::Show => {}
    }
    if request.headers().contains_key("upgrade") {
        let upgrading = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgrading.await else { return };
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
            tokio::io::copy(&mut reader, &mut writer).await.ok();
            writer.shutdown().await.ok();
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().expect("a value"));
        response.headers_mut().insert("upgrade", "echo".parse().expect("a value"));
        return Ok(response);
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Refused)?.to_bytes();
    let headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let seen = serde_json::json!({
        "backend": state.name,
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    let mut response = Response::new(Full::from(seen.to_string()));
    response.headers_mut().insert("x-backend", state.name.parse().expect("a value"));
    response.headers_mut().insert("connection", "x-private".parse().expect("a value"));
    response.headers_mut().insert("x-private", "of one hop".parse().expect("a value"));
    Ok(response)
}

/// Ends the connection without a response.
#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

impl From<Infallible> for Refused {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A backend that answers every connection with these bytes once it has read a head, and closes.
pub(crate) async fn saying(bytes: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 64 * 1024];
            if stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                stream.write_all(bytes).await.ok();
                stream.shutdown().await.ok();
                // What else comes is read, so that closing does not reset the connection.
                let mut sink = tokio::io::sink();
                let drained = tokio::io::copy(&mut stream, &mut sink);
                tokio::time::timeout(Duration::from_secs(1), drained).await.ok();
            }
        }
    });
    (address, serving)
}

/// A backend that begins its responses at once, and ends each when the test lets it.
pub(crate) struct Gated {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
    serving: JoinHandle<()>,
}

impl Drop for Gated {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Gated {
    pub(crate) async fn start(begin: &'static str, end: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (seen, gate) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (targets, opening) = (Arc::clone(&seen), Arc::clone(&gate));
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (targets, opening) = (Arc::clone(&targets), Arc::clone(&opening));
                connections.spawn(async move {
                    let mut head = vec![0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut head).await {
                        let text = String::from_utf8_lossy(&head[..read]);
                        if !text.contains(" HTTP/1.1\r\n") {
                            // More of a body.
                            continue;
                        }
                        let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                        targets.lock().expect("no panic").push(target);
                        stream.write_all(begin.as_bytes()).await.ok();
                        let Ok(permit) = opening.acquire().await else { return };
                        permit.forget();
                        stream.write_all(end.as_bytes()).await.ok();
                    }
                });
            }
        });
        Self { address, seen, gate, serving }
    }

    /// The targets of the requests received so far.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    /// Lets one response end.
    pub(crate) fn release(&self) {
        self.gate.add_permits(1);
    }
}
