//! Plain HTTP/1.1 has a lane of its own beside the general path. The same bytes are sent down both: the same requests must
//! reach the backend, and the same responses the client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{address, config};
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;

/// Connections with generated exchanges; `SEEDS=n` runs more.
const EXCHANGES: u64 = 150;

/// After a request with this header, a connection is on the general path for good.
const TO_GENERAL: &str = "GET /0 HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n";
/// After this one it is still in the lane.
const TO_LANE: &str = "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n";
/// The last request of a connection.
const LAST: &str = "GET /0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Headers that differ from one request to the next.
const DIFFERENT: [&str; 3] = ["date", "x-request-id", "traceparent"];

/// A request or response in a form that can be compared.
#[derive(Clone, PartialEq, Eq)]
struct Message {
    start: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "\n{} {:?} {} {body:.40}", self.start, self.headers, self.body.len())
    }
}

/// What a backend says to `GET /INDEX` and the like.
#[derive(Clone)]
struct Reply {
    bytes: Vec<u8>,
    /// Bytes at the end that are no head.
    body: usize,
    /// Whether the backend closes the connection behind it.
    closes: bool,
}

/// A backend that records requests and says what it is told to.
struct Script {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    serving: JoinHandle<()>,
}

impl Reply {
    /// The same to HEAD, marked so that the client knows.
    fn to_head(&self) -> Vec<u8> {
        let end = self.bytes.len() - self.body;
        [&self.bytes[..end.saturating_sub(2)], b"X-Head: 1\r\n\r\n"].concat()
    }
}

impl Script {
    async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (replies, seen) = (Arc::new(replies), Arc::new(Mutex::default()));
        let record = Arc::clone(&seen);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&replies), Arc::clone(&record)));
            }
        });
        Self { address, seen, serving }
    }

    fn take_seen(&self) -> Vec<Message> {
        std::mem::take(&mut self.seen.lock().expect("no test panicked"))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn converse(mut stream: TcpStream, replies: Arc<Vec<Reply>>, seen: Arc<Mutex<Vec<Message>>>) {
    let mut received = Vec::new();
    loop {
        while let Some((message, length)) = request(&received) {
            received.drain(..length);
            let index = message.start.split(['/', ' ', '?']).find_map(|it| it.parse::<usize>().ok());
            let reply = &replies[index.unwrap_or(0) % replies.len()];
            let bytes =
                if message.start.starts_with("HEAD ") { reply.to_head() } else { reply.bytes.clone() };
            seen.lock().expect("no test panicked").push(message);
            if stream.write_all(&bytes).await.is_err() || reply.closes {
                return;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(length @ 1..) => received.extend_from_slice(&buffer[..length]),
            _ => return,
        }
    }
}

/// The first whole request of what was received, and its length.
fn request(received: &[u8]) -> Option<(Message, usize)> {
    let (start, headers, length) = head(received)?;
    let rest = &received[length..];
    let (body, taken) = if headers.contains_key("transfer-encoding") {
        unchunked(rest)?
    } else {
        let length = headers.get("content-length").map_or(0, |it| it.parse().expect("a length"));
        (rest.get(..length)?.to_vec(), length)
    };
    Some((message(start, &headers, body), length + taken))
}

/// The whole responses that a client received.
fn responses(received: &[u8]) -> Vec<Message> {
    let (mut rest, mut found) = (received, Vec::new());
    while let Some((start, headers, length)) = head(rest) {
        rest = &rest[length..];
        let status = start.split(' ').nth(1).unwrap_or_default();
        let is_empty = matches!(status, "204" | "304") || headers.contains_key("x-head");
        let (body, taken) = if is_empty {
            (Vec::new(), 0)
        } else if headers.contains_key("transfer-encoding") {
            // How much there is of a body that was cut off depends on time.
            let Some(whole) = unchunked(rest) else { return found };
            whole
        } else {
            let length = headers.get("content-length").map_or(rest.len(), |it| it.parse().expect("a length"));
            let Some(whole) = rest.get(..length) else { return found };
            (whole.to_vec(), length)
        };
        found.push(message(start, &headers, body));
        rest = &rest[taken..];
    }
    if !rest.is_empty() {
        found.push(Message { start: "left".into(), headers: Vec::new(), body: rest.to_vec() });
    }
    found
}

fn message(start: String, headers: &BTreeMap<String, String>, body: Vec<u8>) -> Message {
    let headers = headers.iter().filter(|(name, _)| !DIFFERENT.contains(&name.as_str()));
    Message { start, headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(), body }
}

/// The first line, the headers by their names in lower case, and the length of a head.
fn head(received: &[u8]) -> Option<(String, BTreeMap<String, String>, usize)> {
    let length = received.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..length - 4]);
    let mut lines = text.split("\r\n");
    let start = lines.next()?.to_owned();
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in lines.filter_map(|it| it.split_once(": ")) {
        let all = headers.entry(name.to_ascii_lowercase()).or_default();
        if !all.is_empty() {
            all.push('|');
        }
        all.push_str(value);
    }
    Some((start, headers, length))
}

/// The data of a body in chunks, and its length with all that belongs to it.
fn unchunked(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let line = text[at..].windows(2).position(|it| it == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&text[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        data.extend_from_slice(text.get(at..at + size)?);
        at += size;
        (text.get(at..at + 2)? == b"\r\n").then_some(())?;
        at += 2;
        if size == 0 {
            return Some((data, at));
        }
    }
}

/// What comes back when these bytes are sent in pieces, over a connection that begins with `first`, whose response is
/// left out.
async fn say(proxy: SocketAddr, first: &str, bytes: &[u8], piece: usize) -> Vec<Message> {
    let exchange = async {
        let mut stream = TcpStream::connect(proxy).await.expect("a connection");
        let mut received = Vec::new();
        stream.write_all(first.as_bytes()).await.expect("it takes requests");
        while responses(&received).first().is_none_or(|it| it.body.is_empty()) {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).await.expect("it answers");
            assert!(length > 0, "it answers");
            received.extend_from_slice(&buffer[..length]);
        }
        received.clear();
        let (mut reader, mut writer) = stream.split();
        let sending = async {
            for piece in bytes.chunks(piece) {
                if writer.write_all(piece).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let (_, _) = tokio::join!(sending, reader.read_to_end(&mut received));
        responses(&received)
    };
    timeout(PATIENCE, exchange).await.expect("the connection is closed")
}

/// The first response of a backend is the one to all that is sent beside a case.
fn ordinary() -> Reply {
    Reply { bytes: b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell".to_vec(), body: 4, closes: false }
}

/// Sends the same down both ways and compares. `describe` says what it is.
async fn compare(node: &TestNode, backend: &Script, bytes: &[u8], piece: usize, describe: &str) {
    let plain = say(address(node), TO_LANE, bytes, piece).await;
    let seen_plain = backend.take_seen();
    let general = say(address(node), TO_GENERAL, bytes, piece).await;
    let seen_general = backend.take_seen();
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(plain, general, "responses to {describe}\n{text:.2000}");
    assert_eq!(seen_plain[1..], seen_general[1..], "requests for {describe}\n{text:.2000}");
}

/// A body in chunks of random sizes.
fn chunked(rng: &mut Rng, body: &[u8]) -> Vec<u8> {
    let (mut text, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (chunk, others) = rest.split_at(rng.usize(1..=rest.len().min(9_000)));
        let extension = if rng.u8(..8) == 0 { ";name=\"value\"" } else { "" };
        text.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
        text.extend_from_slice(chunk);
        text.extend_from_slice(b"\r\n");
        rest = others;
    }
    let trailer = if rng.u8(..8) == 0 { "X-Trailer: 1\r\n" } else { "" };
    text.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
    text
}

fn body(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u8(..8) {
        0 => 0,
        1 => rng.usize(..100_000),
        _ => rng.usize(..2_000),
    };
    std::iter::repeat_with(|| rng.alphanumeric() as u8).take(length).collect()
}

/// A request for this path.
fn generated(rng: &mut Rng, path: usize) -> Vec<u8> {
    let method =
        *rng.choice(&["GET", "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"]).expect("some");
    let mut text = format!("{method} /{path}?x={} HTTP/1.1\r\nHost: a.example\r\n", rng.u8(..)).into_bytes();
    let mut add = |line: &str| text.extend_from_slice(format!("{line}\r\n").as_bytes());
    for line in [
        "Accept: */*",
        "Cookie: a=b",
        "Cookie: c=d",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
        "X-Forwarded-For: 192.0.2.1",
        "Forwarded: for=192.0.2.1",
        "X-Empty:",
        "X-Twice: 1",
        "x-twice: 2",
        "Accept-Encoding:  gzip, br ",
        "X-Bytes: \u{e9}",
        "User-Agent: test/1",
        "Via: 1.0 before",
    ] {
        if rng.u8(..3) == 0 {
            add(line);
        }
    }
    let body = body(rng);
    match rng.u8(..4) {
        0 if method != "HEAD" => {
            add("Transfer-Encoding: chunked");
            text.extend_from_slice(b"\r\n");
            text.extend(chunked(rng, &body));
        }
        1 if method != "HEAD" => {
            add(&format!("Content-Length: {}", body.len()));
            text.extend_from_slice(b"\r\n");
            text.extend(body);
        }
        _ => text.extend_from_slice(b"\r\n"),
    }
    text
}

/// A response.
fn reply(rng: &mut Rng) -> Reply {
    let status = *rng
        .choice(&["200 OK", "201 Created", "204 No Content", "304 Not Modified", "404 No", "500 Oh", "299 "])
        .expect("some");
    let mut text = Vec::new();
    if rng.u8(..8) == 0 {
        text.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    }
    let version = if rng.u8(..10) == 0 { "1.0" } else { "1.1" };
    text.extend_from_slice(format!("HTTP/{version} {status}\r\n").as_bytes());
    for line in [
        "Server: x",
        "Set-Cookie: a=1",
        "Set-Cookie: b=2",
        "Connection: keep-alive",
        "Connection: X-Hop",
        "Connection: Content-Length, Date",
        "X-Hop: 1",
        "Keep-Alive: timeout=5",
        "Date: Sun, 06 Nov 1994 08:49:37 GMT",
        "X-Empty: ",
    ] {
        // A backend that closes the connection does not say that it keeps it.
        let is_true = version == "1.1" || line != "Connection: keep-alive";
        if is_true && rng.u8(..3) == 0 {
            text.extend_from_slice(format!("{line}\r\n").as_bytes());
        }
    }
    let is_empty = matches!(&status[..3], "204" | "304");
    let body = if is_empty { Vec::new() } else { body(rng) };
    let mut closes = version == "1.0";
    let body = match rng.u8(..3) {
        _ if is_empty => Vec::new(),
        0 if version == "1.1" => {
            text.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            chunked(rng, &body)
        }
        1 => {
            closes = true;
            text.extend_from_slice(b"Connection: close\r\n");
            body
        }
        _ => {
            text.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            body
        }
    };
    text.extend_from_slice(b"\r\n");
    let length = body.len();
    text.extend(body);
    Reply { bytes: text, body: length, closes }
}

#[tokio::test]
async fn both_ways_treat_generated_exchanges_alike() {
    let mut rng = Rng::with_seed(1);
    let replies: Vec<Reply> = std::iter::once(ordinary()).chain((0..200).map(|_| reply(&mut rng))).collect();
    let backend = Script::start(replies).await;
    let node = TestNode::with(&config(&[backend.address], "")).await;
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..seeds.unwrap_or(EXCHANGES) {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = Vec::new();
        for _ in 0..rng.u8(1..4) {
            let path = rng.usize(..201);
            bytes.extend(generated(&mut rng, path));
        }
        bytes.extend_from_slice(LAST.as_bytes());
        let piece = *rng.choice(&[7, 100, 1_000, 100_000]).expect("some");
        compare(&node, &backend, &bytes, piece, &format!("seed {seed}")).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn both_ways_treat_malformed_responses_alike() {
    let cases: [&str; 14] = [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "",
    ];
    let scripted = cases.iter().map(|it| Reply { bytes: it.as_bytes().to_vec(), body: 0, closes: true });
    let backend = Script::start(std::iter::once(ordinary()).chain(scripted).collect()).await;
    let node = TestNode::with(&config(&[backend.address], "")).await;
    for (index, case) in cases.iter().enumerate() {
        let request = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n{LAST}", index + 1);
        compare(&node, &backend, request.as_bytes(), 1_000, &format!("{case:?}")).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn both_ways_answer_alike_without_a_backend() {
    let backend = Script::start(vec![ordinary()]).await;
    let routes = "route = [{ path = \"/moved\", redirect = { status = 308, to = \"https://b/\" } }, \
                  { path = \"/said\", respond = { status = 200, body = \"text\" } }, \
                  { host = \"none.example\", respond = { status = 404 } }, \
                  { path = \"/nothing\", respond = { status = 204 } }]";
    let text =
        config(&[backend.address], "").replacen("pool = \"api\"", &format!("pool = \"api\"\n{routes}"), 1);
    let node = TestNode::with(&text).await;
    for method in ["GET", "POST", "DELETE"] {
        for (host, path) in [
            ("a", "/moved"),
            ("a", "/said"),
            ("a", "/nothing"),
            ("none.example", "/"),
            ("a@b", "/"),
            ("a b", "/"),
        ] {
            for body in ["\r\n", "Content-Length: 4\r\n\r\nbody"] {
                let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{body}{LAST}");
                compare(&node, &backend, request.as_bytes(), 1_000, "a reply of the proxy's own").await;
            }
        }
    }
    node.stop().await;
}
