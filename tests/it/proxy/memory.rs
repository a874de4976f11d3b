//! What one hostile client makes the process hold.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::config;
use super::frames::{GET, HEADERS, SETTINGS, WHOLE, WINDOW_UPDATE, frame};
use crate::harness::binary::Served;
use crate::harness::folder::Folder;
use crate::harness::until;

/// Streams that a client has at a time; the default.
const STREAMS: u64 = 128;
/// KiB of a response that the proxy holds for each, as docs/limits.md says, without heads.
const OF_A_STREAM: u64 = 96 + 256;
/// KiB of the connections themselves and of what the allocator keeps.
const BESIDES: u64 = 8 * 1024;
/// Bytes of a response after which its buffer has grown as far as it does.
const UNTIL_GROWN: u64 = 512 * 1024;
/// Streams by which a client sends ahead at a time, and bytes that it wants to send by each: far more than the kernel takes
/// for a backend that reads nothing (`net.ipv4.tcp_wmem`).
const UPLOADS: u64 = 16;
const UPLOADED: usize = 16 * 1024 * 1024;
/// How often nothing may have moved until all is taken to be held up.
const CALM: u32 = 20;

/// A backend that answers every request without end.
struct Flood {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Flood {
    async fn start(is_http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (requests, sent): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let counted = (Arc::clone(&requests), Arc::clone(&sent));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, sent) = counted.clone();
                match is_http2 {
                    true => tokio::spawn(flood_streams(stream, requests, sent)),
                    false => tokio::spawn(flood(stream, requests, sent)),
                };
            }
        });
        Self { address, requests, sent, serving }
    }
}

async fn flood(mut stream: TcpStream, requests: Arc<AtomicU64>, sent: Arc<AtomicU64>) {
    let mut head = [0; 4096];
    if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
        requests.fetch_add(1, SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").await.ok();
        let part = vec![b'x'; 64 * 1024];
        while let Ok(written @ 1..) = stream.write(&part).await {
            sent.fetch_add(written as u64, SeqCst);
        }
    }
}

async fn flood_streams(stream: TcpStream, requests: Arc<AtomicU64>, sent: Arc<AtomicU64>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        requests.fetch_add(1, SeqCst);
        let sent = Arc::clone(&sent);
        tokio::spawn(async move {
            let Ok(mut body) = respond.send_response(Response::new(()), false) else { return };
            loop {
                body.reserve_capacity(16 * 1024);
                let capacity = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
                let Some(Ok(capacity)) = capacity else { return };
                if body.send_data(Bytes::from(vec![b'x'; capacity]), false).is_err() {
                    return;
                }
                sent.fetch_add(capacity as u64, SeqCst);
            }
        });
    }
}

/// KiB of memory that a process uses of its own.
fn memory(served: &Served) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", served.pid())).expect("a file");
    let of = |name: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).expect("a sum");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    of("Private_Dirty:")
}

pub(super) async fn proxy(served: &Served) -> SocketAddr {
    let line = served.logged("it has bound its sockets", |line| line.get("proxy").is_some()).await;
    let shown = line["proxy"].as_str().expect("a text");
    let address = shown.rsplit_once(", ").expect("a name and an address").1;
    address.trim_end_matches([')', ']']).parse().expect("an address")
}

/// A client that asks by every stream that it may have, opens all windows as far as they go, reads until the buffers of its
/// responses have grown, and then nothing.
async fn greedy(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    let all = 0x7fff_ffff_u32;
    let window = [&[0, 4][..], &all.to_be_bytes()].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &window));
    bytes.extend(frame(WINDOW_UPDATE, 0, 0, &(all - 65_535).to_be_bytes()));
    for index in 0..STREAMS as u32 {
        bytes.extend(frame(HEADERS, WHOLE, 2 * index + 1, GET));
    }
    stream.write_all(&bytes).await.expect("it takes the requests");
    let (mut read, mut part) = (0, vec![0; 256 * 1024]);
    while read < STREAMS * UNTIL_GROWN {
        read += stream.read(&mut part).await.expect("responses") as u64;
    }
    stream
}

/// Compares what such a client makes the process hold with what it may.
async fn check(is_http2: bool, pool: &str) {
    let flood = Flood::start(is_http2).await;
    let served = Served::start(Folder::new(&config(&[flood.address], pool))).await;
    let to = proxy(&served).await;
    let before = memory(&served);
    let _client = greedy(to).await;
    let (mut calm, mut last) = (0, 0);
    until("nothing moves any more", async || {
        let sent = flood.sent.load(SeqCst);
        calm = if sent == last && flood.requests.load(SeqCst) == STREAMS { calm + 1 } else { 0 };
        last = sent;
        (calm == CALM).then_some(())
    })
    .await;
    let held = memory(&served).saturating_sub(before);
    let most = STREAMS * OF_A_STREAM + BESIDES;
    assert!(held <= most, "{held} KiB of at most {most}");
    assert!(held >= STREAMS * 64, "{held} KiB: this client has not made it hold anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_makes_the_process_hold_little_of_http_1() {
    check(false, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_nothing_makes_the_process_hold_little_of_http_2() {
    check(true, "http = \"h2\"").await;
}

/// A backend that takes connections and reads nothing of them; over HTTP/2 it takes requests, and nothing of their bodies.
struct Deaf {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Drop for Deaf {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Deaf {
    async fn start(is_http2: bool) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Or the kernel would take much in its place.
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let listener = socket.listen(1024).expect("it listens");
        let address = listener.local_addr().expect("an address");
        let requests: Arc<AtomicU64> = Arc::default();
        let counted = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                if is_http2 {
                    tokio::spawn(take_streams(stream, Arc::clone(&counted)));
                } else {
                    counted.fetch_add(1, SeqCst);
                    open.push(stream);
                }
            }
        });
        Self { address, requests, serving }
    }
}

async fn take_streams(stream: TcpStream, requests: Arc<AtomicU64>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    let mut open = Vec::new();
    while let Some(Ok(request)) = connection.accept().await {
        requests.fetch_add(1, SeqCst);
        open.push(request);
    }
}

/// Sends as much of a body as the windows let, up to `UPLOADED`, and waits.
async fn upload(client: SendRequest<Bytes>, sent: Arc<AtomicU64>) {
    let mut client = client.ready().await.expect("a connection");
    let request = Request::post("http://www.test/").body(()).expect("a request");
    let (response, mut body) = client.send_request(request, false).expect("a stream");
    let mut left = UPLOADED;
    while left > 0 {
        body.reserve_capacity(left.min(16 * 1024));
        let Some(Ok(capacity)) = std::future::poll_fn(|cx| body.poll_capacity(cx)).await else { return };
        let part = capacity.min(left);
        if body.send_data(Bytes::from(vec![b'x'; part]), false).is_err() {
            return;
        }
        left -= part;
        sent.fetch_add(part as u64, SeqCst);
    }
    response.await.ok();
}

/// Compares what a client that sends ahead on all its streams makes the process hold with what it may.
async fn check_uploads(is_http2: bool, pool: &str) {
    let deaf = Deaf::start(is_http2).await;
    let served = Served::start(Folder::new(&config(&[deaf.address], pool))).await;
    let stream = TcpStream::connect(proxy(&served).await).await.expect("a connection");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let before = memory(&served);
    let (mut running, sent): (JoinSet<()>, Arc<AtomicU64>) = Default::default();
    running.spawn(async move { connection.await.unwrap_or_default() });
    for _ in 0..UPLOADS {
        running.spawn(upload(client.clone(), Arc::clone(&sent)));
    }
    let (mut calm, mut last) = (0, 0);
    until("nothing moves any more", async || {
        let now = sent.load(SeqCst);
        calm = if now == last && deaf.requests.load(SeqCst) == UPLOADS { calm + 1 } else { 0 };
        last = now;
        (calm == CALM * 5).then_some(())
    })
    .await;
    let held = memory(&served).saturating_sub(before);
    let most = UPLOADS * OF_A_STREAM + BESIDES;
    assert!(held <= most, "{held} KiB of at most {most}");
    assert!(last < UPLOADS * UPLOADED as u64, "{last} bytes: nothing holds it up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_ahead_makes_the_process_hold_little_for_http_1() {
    check_uploads(false, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_ahead_makes_the_process_hold_little_for_http_2() {
    check_uploads(true, "http = \"h2\"").await;
}
