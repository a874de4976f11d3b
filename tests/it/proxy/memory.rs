//! What one hostile client makes the process hold.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

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

async fn proxy(served: &Served) -> SocketAddr {
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
