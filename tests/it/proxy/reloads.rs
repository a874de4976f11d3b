//! Reloads under load: routes, pools, certificates and settings of listeners change while clients of every kind go on. None
//! of them may notice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::{env, fs};

use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::backend::Backend;
use super::tls::certificates::Authority;
use super::{reload, tls};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::{PATIENCE, until};

/// Reloads; `RELOADS=n` makes more.
const RELOADS: usize = 10;

/// KiB by which the process may grow with the later reloads: allocators and tables, but not a plan for each reload.
const GROWTH: u64 = 32 * 1024;

/// Keeps a client going, and counts what has succeeded.
#[derive(Clone, Default)]
struct Load {
    is_over: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.is_over.load(SeqCst)
    }

    fn succeeded(&self) {
        self.done.fetch_add(1, SeqCst);
    }
}

/// The config after so many reloads.
fn config(round: usize, backends: [SocketAddr; 2], echo: SocketAddr, ports: [u16; 3]) -> String {
    let [web, tls, tcp] = ports;
    let backends = match round % 3 {
        0 => format!("\"{}\", \"{}\"", backends[0], backends[1]),
        1 => format!("{{ address = \"{}\", weight = 3 }}", backends[1]),
        _ => format!("\"{}\"", backends[0]),
    };
    let balance = ["round-robin", "least-connections", "maglev", "ip-hash"][round % 4];
    let edits = ["", ", headers = { request = { set = { x-round = \"1\" } } }"][round % 2];
    let routes = format!(
        "route = [{{ path = \"/none/{round}\", respond = {{ status = 404 }} }}, {{ pool = \"api\"{edits} }}]"
    );
    let client =
        ["", "client = { connections = 1000 }", "client = { requests_per_second = 9000, burst = 9000 }"]
            [round % 3];
    let sticky = ["", "sticky = {}"][round % 2];
    let log = ["", "[proxy.access_log]\nto = \"access.log\"\n"][round / 2 % 2];
    format!(
        "[proxy]\nworkers = 2\ncertificate = [{{ cert = \"www.pem\", key = \"www.key\" }}]\n{log}\
         [proxy.listener.web]\nlisten = \"127.0.0.1:{web}\"\n{routes}\n{client}\n\
         [proxy.listener.tls]\nlisten = \"127.0.0.1:{tls}\"\ntls = true\n{routes}\n{client}\n\
         [proxy.listener.tcp]\nlisten = \"127.0.0.1:{tcp}\"\nprotocol = \"tcp\"\npool = \"echo\"\n\
         [proxy.pool.api]\nbackend = [{backends}]\nprobe = []\ndrain = \"10m\"\nbalance = \"{balance}\"\n{sticky}\n\
         keepalive = {}\n[proxy.pool.echo]\nbackend = [\"{echo}\"]\nprobe = []\n{}",
        4 + round % 3,
        ["", "[proxy.pool.other]\nbackend = [\"127.0.0.1:1\"]\nprobe = []\n"][round % 2]
    )
}

/// Sends a request, and reads the response.
async fn exchange(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin), request: &str) {
    let exchange = async {
        stream.write_all(request.as_bytes()).await.expect("the connection is open");
        let mut received = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&received).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
                let length = head.split_once("content-length: ").expect("a length").1;
                if body.len() >= length.split("\r\n").next().unwrap_or_default().parse().expect("a length") {
                    return;
                }
            }
            let read = stream.read_buf(&mut received).await.expect("the connection is open");
            assert!(read > 0, "the connection is closed after {text:?}");
        }
    };
    timeout(PATIENCE, exchange).await.expect("an answer");
}

async fn keeps_alive(at: SocketAddr, header: &'static str, load: Load) {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    while load.goes_on() {
        exchange(&mut stream, &format!("POST /x HTTP/1.1\r\nHost: a\r\n{header}Content-Length: 2\r\n\r\nab"))
            .await;
        load.succeeded();
    }
}

async fn closes(at: SocketAddr, load: Load) {
    while load.goes_on() {
        let mut stream = TcpStream::connect(at).await.expect("a connection");
        exchange(&mut stream, "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        load.succeeded();
    }
}

async fn asks_over_tls(at: SocketAddr, config: Arc<rustls::ClientConfig>, load: Load) {
    let mut kept = tls::connect(at, "www.test", &config).await.expect("a connection");
    while load.goes_on() {
        let mut stream = tls::connect(at, "www.test", &config).await.expect("a connection");
        exchange(&mut stream, "GET /x HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n").await;
        exchange(&mut kept, "GET /x HTTP/1.1\r\nHost: www.test\r\n\r\n").await;
        load.succeeded();
    }
}

async fn multiplexes(at: SocketAddr, load: Load) {
    let stream = TokioIo::new(TcpStream::connect(at).await.expect("a connection"));
    let (sender, driver) = http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
    let driving = tokio::spawn(driver);
    while load.goes_on() {
        let asked = (0..4).map(|_| {
            let request =
                Request::get(format!("http://{at}/x")).body(Empty::<Bytes>::new()).expect("a request");
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        let sent: JoinSet<_> = asked.collect();
        for response in timeout(PATIENCE, sent.join_all()).await.expect("answers") {
            let response = response.expect("a response");
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.expect("a body");
        }
        assert!(!driving.is_finished(), "the connection is closed");
        load.succeeded();
    }
    drop(sender);
    driving.await.expect("no panic").ok();
}

/// Sends bytes that come back.
async fn echoes(mut stream: TcpStream, load: Load) {
    while load.goes_on() {
        let mut back = [0; 5];
        let exchange = async {
            stream.write_all(b"hello").await.expect("the connection is open");
            stream.read_exact(&mut back).await.expect("the connection is open");
        };
        timeout(PATIENCE, exchange).await.expect("an echo");
        assert_eq!(&back, b"hello");
        load.succeeded();
        tokio::task::yield_now().await;
    }
}

async fn upgraded(at: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    let request = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        timeout(PATIENCE, stream.read_buf(&mut head)).await.expect("an answer").expect("a head");
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

async fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                copy(&mut reader, &mut writer).await.ok();
            });
        }
    });
    (address, serving)
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("a folder").count()
}

/// KiB of memory that the process uses.
fn memory() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("a file");
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a sum");
    pss.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Ports that were free a moment ago.
async fn ports() -> [u16; 3] {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    }
    std::array::from_fn(|index| listeners[index].local_addr().expect("an address").port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_reloads() {
    let (one, two, (echo, _serving)) =
        (Backend::start("one").await, Backend::start("two").await, echo().await);
    let (ports, authority) = (ports().await, Authority::new("authority"));
    let text = |round| config(round, [one.address, two.address], echo, ports);
    let folder = Folder::new(&text(0));
    folder.without_landlock();
    authority.issue(&["www.test"]).write(&folder, "www");
    let trusting = Arc::new(tls::client(&authority, tls::BOTH, None));
    let node = TestNode::start(folder).await;
    let [web, encrypted, tcp] = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    reload(&node).await;
    let files = open_files();

    let over = Arc::new(AtomicBool::new(false));
    let loads: Vec<Load> = (0..7).map(|_| Load { is_over: Arc::clone(&over), ..Load::default() }).collect();
    let load = |index: usize| loads[index].clone();
    let mut clients = JoinSet::new();
    clients.spawn(keeps_alive(web, "", load(0)));
    clients.spawn(keeps_alive(web, "TE: trailers\r\n", load(1)));
    clients.spawn(closes(web, load(2)));
    clients.spawn(asks_over_tls(encrypted, trusting, load(3)));
    clients.spawn(multiplexes(web, load(4)));
    clients.spawn(echoes(TcpStream::connect(tcp).await.expect("a connection"), load(5)));
    clients.spawn(echoes(upgraded(web).await, load(6)));

    let rounds = env::var("RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(RELOADS);
    let mut first = 0;
    for round in 1..=rounds {
        node.folder.configure(&text(round));
        node.folder.without_landlock();
        authority.issue(&["www.test"]).write(&node.folder, "www");
        reload(&node).await;
        let before: Vec<u64> = loads.iter().map(|it| it.done.load(SeqCst)).collect();
        until("every client goes on", async || {
            if let Some(ended) = clients.try_join_next() {
                panic!("a client noticed reload {round}: {ended:?}");
            }
            loads.iter().zip(&before).all(|(load, before)| load.done.load(SeqCst) > before + 1).then_some(())
        })
        .await;
        if round == rounds.div_ceil(2) {
            first = memory();
        }
    }
    let last = memory();
    assert!(last < first + GROWTH, "{first} KiB after half of the reloads, {last} KiB after all");
    over.store(true, SeqCst);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client noticed anything");
    }
    // Idle connections to backends stay open: as many as the pool may keep.
    let kept = 2 * 2 * 8;
    until("connections are closed", async || (open_files() <= files + kept).then_some(())).await;
    node.stop().await;
}
