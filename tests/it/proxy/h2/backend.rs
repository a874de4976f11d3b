//! HTTP/2 backends: one that serves as told, and one that sends frames by hand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How a backend treats requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Manner {
    /// 200 with what it received, as JSON.
    Show,
    /// Resets the stream for this reason.
    Reset(Reason),
    /// Resets the streams of the next requests for this reason, and shows the others.
    ResetNext(u32, Reason),
    /// Answers once it is released.
    Hold,
    /// Never takes anything of a body.
    NoWindow,
    /// Answers 413 at once, and wants no more of the request.
    TooLarge,
    /// Sends back what comes, as it comes, then the trailers `grpc-status` and `x-parts`.
    Grpc,
    /// Accepts a tunnel, and sends back what comes.
    Tunnel,
    /// Answers with trailers only.
    GrpcRefusal,
    /// Headers of this many bytes.
    LongHead(usize),
    /// This many headers.
    ManyHeaders(usize),
}

pub(in crate::proxy) struct Server {
    pub(in crate::proxy) address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    manner: Mutex<Manner>,
    most_streams: Option<u32>,
    connections: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    /// The most streams of a connection at a time.
    busiest: AtomicU64,
    /// Streams in progress.
    busy: AtomicU64,
    released: Notify,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Server {
    pub(in crate::proxy) async fn start(manner: Manner) -> Self {
        Self::with(manner, None, None).await
    }

    pub(in crate::proxy) async fn with(
        manner: Manner,
        most_streams: Option<u32>,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, open, requests, busiest, busy) = Default::default();
        let (manner, released) = (Mutex::new(manner), Notify::new());
        let state = State { manner, most_streams, connections, open, requests, busiest, busy, released };
        let state = Arc::new(state);
        let serving = tokio::spawn(accept(listener, Arc::clone(&state), tls));
        Self { address, state, serving }
    }

    pub(in crate::proxy) fn behave(&self, manner: Manner) {
        *self.state.manner.lock().expect("no panic") = manner;
    }

    pub(in crate::proxy) fn connections(&self) -> u64 {
        self.state.connections.load(SeqCst)
    }

    pub(in crate::proxy) fn open(&self) -> u64 {
        self.state.open.load(SeqCst)
    }

    pub(in crate::proxy) fn requests(&self) -> u64 {
        self.state.requests.load(SeqCst)
    }

    pub(in crate::proxy) fn busiest(&self) -> u64 {
        self.state.busiest.load(SeqCst)
    }

    /// Streams in progress.
    pub(in crate::proxy) fn busy(&self) -> u64 {
        self.state.busy.load(SeqCst)
    }

    /// Lets the requests that are held be answered.
    pub(in crate::proxy) fn release(&self) {
        self.state.released.notify_waiters();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        connections.spawn(async move {
            state.connections.fetch_add(1, SeqCst);
            state.open.fetch_add(1, SeqCst);
            match tls {
                None => serve(stream, &state).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, &state).await;
                    }
                }
            }
            state.open.fetch_sub(1, SeqCst);
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: &Arc<State>) {
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    if let Some(most) = state.most_streams {
        builder.max_concurrent_streams(most);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let busy = Arc::new(AtomicU64::new(0));
    let mut requests = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        state.requests.fetch_add(1, SeqCst);
        state.busiest.fetch_max(busy.fetch_add(1, SeqCst) + 1, SeqCst);
        let (state, busy) = (Arc::clone(state), Arc::clone(&busy));
        requests.spawn(async move {
            state.busy.fetch_add(1, SeqCst);
            answer(&state, request, respond).await;
            state.busy.fetch_sub(1, SeqCst);
            busy.fetch_sub(1, SeqCst);
        });
    }
}

async fn answer(state: &State, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let manner = {
        let mut manner = state.manner.lock().expect("no panic");
        let now = *manner;
        if let Manner::ResetNext(count, reason) = now {
            *manner = if count == 1 { Manner::Show } else { Manner::ResetNext(count - 1, reason) };
        }
        now
    };
    match manner {
        Manner::Reset(reason) | Manner::ResetNext(_, reason) => respond.send_reset(reason),
        Manner::Hold => {
            state.released.notified().await;
            show(request, respond).await;
        }
        Manner::Show => show(request, respond).await,
        Manner::NoWindow => {
            let _body = request.into_body();
            std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok();
        }
        Manner::TooLarge => {
            let response = Response::builder().status(413).body(()).expect("a response");
            let mut sent = respond.send_response(response, false).expect("an open stream");
            sent.send_data(Bytes::from_static(b"too large"), true).expect("an open stream");
        }
        Manner::Tunnel => {
            assert_eq!(request.method(), http::Method::CONNECT);
            let protocol = request.extensions().get::<h2::ext::Protocol>().map(|it| it.as_str());
            assert_eq!(protocol, Some("websocket"));
            assert_eq!(request.headers().get("sec-websocket-key"), None);
            echo(request, respond).await;
        }
        Manner::Grpc => echo(request, respond).await,
        Manner::GrpcRefusal => {
            let response = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "7")
                .body(())
                .expect("a response");
            respond.send_response(response, true).expect("an open stream");
        }
        Manner::ManyHeaders(count) => {
            let mut response = Response::new(());
            for index in 0..count {
                response.headers_mut().append("x-many", index.into());
            }
            respond.send_response(response, true).ok();
        }
        Manner::LongHead(length) => {
            let response = Response::builder().header("x-long", "a".repeat(length)).body(());
            respond.send_response(response.expect("a response"), true).ok();
        }
    }
}

async fn show(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).ok();
        whole.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.ok().flatten().unwrap_or_default();
    let text = |headers: &HeaderMap| -> Vec<(String, String)> {
        let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        headers.iter().map(pair).collect()
    };
    let seen = json!({
        "method": head.method.as_str(),
        "scheme": head.uri.scheme_str(),
        "authority": head.uri.authority().map(|it| it.as_str()),
        "target": head.uri.path_and_query().map(|it| it.as_str()),
        "headers": text(&head.headers),
        "trailers": text(&trailers).into_iter().collect::<BTreeMap<_, _>>(),
        "body": String::from_utf8_lossy(&whole),
    });
    let Ok(mut sent) = respond.send_response(Response::new(()), false) else { return };
    sent.send_data(Bytes::from(seen.to_string()), true).ok();
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/grpc").body(());
    let mut sent = respond.send_response(response.expect("a response"), false).expect("an open stream");
    let mut body = request.into_body();
    let mut parts = 0;
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).ok();
        parts += 1;
        if sent.send_data(data, false).is_err() {
            return;
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().expect("a value"));
    trailers.insert("x-parts", parts.into());
    trailers.insert("content-length", "7".parse().expect("a value"));
    sent.send_trailers(trailers).ok();
}

/// A connection of which the backend reads and writes the frames itself.
pub(super) struct Frames {
    stream: TcpStream,
}

/// A frame (RFC 9113 §4.1).
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) stream: u32,
    /// Bytes of its payload.
    pub(super) length: usize,
}

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
/// `:status: 200` (RFC 7541, appendix A).
pub(super) const OK: &[u8] = &[0x88];

impl Frames {
    /// Accepts a connection, reads its preface, and sends SETTINGS.
    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut this = Self { stream };
        let mut preface = [0; 24];
        this.stream.read_exact(&mut preface).await.expect("a preface");
        this.send(SETTINGS, 0, 0, &[]).await;
        this
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.is_ok()
    }

    /// The next frame; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], stream, length })
    }

    /// The stream of the next request, whose frames but the HEADERS are skipped.
    pub(super) async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// Takes this much of the body of a request.
    pub(super) async fn body(&mut self, stream: u32, length: usize) {
        for window in [0, stream] {
            self.send(WINDOW_UPDATE, 0, window, &[0, 0x10, 0, 0]).await;
        }
        let mut taken = 0;
        while taken < length {
            let frame = self.next().await.expect("more of the body");
            taken += if (frame.kind, frame.stream) == (DATA, stream) { frame.length } else { 0 };
        }
    }

    /// Answers a request with this text.
    pub(super) async fn respond(&mut self, stream: u32, text: &str) {
        self.send(HEADERS, END_HEADERS, stream, OK).await;
        self.send(DATA, END_STREAM, stream, text.as_bytes()).await;
    }
}

/// A port for [`Frames`].
pub(super) async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}
