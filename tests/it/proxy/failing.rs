//! Backends that fail while clients are served: what clients see, and what is sent again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::{address, config};
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;

/// A backend that answers GET, and resets the connection once it has read the head and the first chunk of anything else.
/// Counts the heads that it reads, and whatever else a connection begins with.
async fn resetting(heads: Arc<AtomicU64>, others: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let read = async move |stream: &mut TcpStream| {
        let mut received = Vec::new();
        loop {
            let Ok(1..) = stream.read_buf(&mut received).await else { return };
            if received.starts_with(b"GET ") && received.ends_with(b"\r\n\r\n") {
                received.clear();
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.ok();
            } else if received.ends_with(b"1\r\na\r\n") {
                let is_head = received.starts_with(b"POST / HTTP/1.1\r\n");
                if is_head { &heads } else { &others }.fetch_add(1, SeqCst);
                return;
            }
        }
    };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let read = read.clone();
            tokio::spawn(async move {
                read(&mut stream).await;
                stream.set_zero_linger().ok();
            });
        }
    });
    address
}

#[tokio::test]
async fn a_request_in_chunks_is_not_sent_again_once_a_backend_has_seen_its_head() {
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
    // Over a new connection to a backend, and over one that was idle.
    for (pool, before) in [("retry = { tries = 3, on = [\"reset\"] }", 0), ("", 2)] {
        let (heads, others): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let mut backends = Vec::new();
        for _ in 0..2 {
            backends.push(resetting(Arc::clone(&heads), Arc::clone(&others)).await);
        }
        let node = TestNode::with(&config(&backends, pool)).await;
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        let mut answer = Vec::new();
        for _ in 0..before {
            stream.write_all(get.as_bytes()).await.unwrap();
            answer.clear();
            while !answer.ends_with(b"\r\n\r\n") {
                timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
            }
            assert!(answer.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&answer));
        }
        stream.write_all(post.as_bytes()).await.unwrap();
        answer.clear();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().ok();
        assert!(answer.starts_with(b"HTTP/1.1 502 "), "{}", String::from_utf8_lossy(&answer));
        assert_eq!((heads.load(SeqCst), others.load(SeqCst)), (1, 0), "{pool:?}");
        node.stop().await;
    }
}

/// What happens to backends one after another while the others are healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It closes its listener and all connections, and comes back on the same port.
    Killed,
    /// It takes requests and never answers.
    Hung,
    /// It resets connections before it answers.
    Resets,
    /// It closes connections within the head of its response.
    ClosesInHead,
    /// It closes connections within the body of its response.
    ClosesInBody,
    /// Nothing answers to connection attempts: the queue of its listener is full.
    Unreachable,
    /// It says 503.
    Unavailable,
}

const TROUBLES: [Trouble; 7] = [
    Trouble::Killed,
    Trouble::Hung,
    Trouble::Resets,
    Trouble::ClosesInHead,
    Trouble::ClosesInBody,
    Trouble::Unreachable,
    Trouble::Unavailable,
];

/// How often each request was seen, by its id, and what ails each backend.
#[derive(Default)]
struct World {
    seen: Mutex<HashMap<String, u32>>,
    troubles: Mutex<HashMap<SocketAddr, Trouble>>,
}

impl World {
    fn trouble(&self, at: SocketAddr) -> Option<Trouble> {
        self.troubles.lock().expect("no panic").get(&at).copied()
    }
}

/// A backend whose trouble can be changed.
struct Fragile {
    address: SocketAddr,
    world: Arc<World>,
    /// `None` if nothing serves.
    serving: Option<JoinHandle<()>>,
    /// Connections that fill the queue.
    filling: Vec<TcpStream>,
}

impl Fragile {
    fn start(world: &Arc<World>) -> Self {
        let listener = listen(([127, 0, 0, 1], 0).into());
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(serve(listener, address, Arc::clone(world)));
        Self { address, world: Arc::clone(world), serving: Some(serving), filling: Vec::new() }
    }

    /// Stops to accept, and closes every connection.
    async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _: Result<_, _> = serving.await;
        }
    }

    async fn suffer(&mut self, trouble: Trouble) {
        self.world.troubles.lock().expect("no panic").insert(self.address, trouble);
        match trouble {
            Trouble::Killed => self.stop().await,
            Trouble::Unreachable => {
                self.stop().await;
                let listener = listen(self.address);
                // Linux takes one more than the queue has room for, and then drops what comes.
                while let Ok(Ok(stream)) = timeout(FILLED, TcpStream::connect(self.address)).await {
                    self.filling.push(stream);
                }
                self.serving = Some(tokio::spawn(async move {
                    let _listener = listener;
                    std::future::pending().await
                }));
            }
            _ => {}
        }
    }

    async fn recover(&mut self) {
        let before = self.world.troubles.lock().expect("no panic").remove(&self.address);
        if matches!(before, Some(Trouble::Killed | Trouble::Unreachable)) {
            self.stop().await;
            self.filling.clear();
            let serving = serve(listen(self.address), self.address, Arc::clone(&self.world));
            self.serving = Some(tokio::spawn(serving));
        }
    }
}

/// After this time without an answer the queue of a listener is full.
const FILLED: Duration = Duration::from_millis(100);

fn listen(at: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(at).expect("the port is free");
    socket.listen(1).expect("a listener")
}

async fn serve(listener: TcpListener, at: SocketAddr, world: Arc<World>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, at, Arc::clone(&world)));
    }
}

async fn answer(mut stream: TcpStream, at: SocketAddr, world: Arc<World>) {
    let mut received = Vec::new();
    loop {
        let Some((id, length)) = asked(&received) else {
            match stream.read_buf(&mut received).await {
                Ok(1..) => continue,
                _ => return,
            }
        };
        received.drain(..length);
        *world.seen.lock().expect("no panic").entry(id).or_default() += 1;
        let well = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
        let (said, closes) = match world.trouble(at) {
            None | Some(Trouble::Killed | Trouble::Unreachable) => (well, false),
            Some(Trouble::Hung) => std::future::pending().await,
            Some(Trouble::Resets) => ("", true),
            Some(Trouble::ClosesInHead) => (&well[..30], true),
            Some(Trouble::ClosesInBody) => (&well[..well.len() - 1], true),
            Some(Trouble::Unavailable) => {
                ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", false)
            }
        };
        if stream.write_all(said.as_bytes()).await.is_err() {
            return;
        }
        if said.is_empty() {
            stream.set_zero_linger().ok();
        }
        if closes {
            return;
        }
    }
}

/// The id of the first whole request, and its length.
fn asked(received: &[u8]) -> Option<(String, usize)> {
    let head = received.windows(4).position(|it| it == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
    let value =
        |name: &str| Some(text.split_once(&format!("\r\n{name}: "))?.1.split("\r\n").next()?.to_owned());
    let length = match (value("content-length"), value("transfer-encoding")) {
        (Some(length), _) => head + length.parse::<usize>().expect("a length"),
        (None, Some(_)) => head + received[head..].windows(5).position(|it| it == b"0\r\n\r\n")? + 5,
        (None, None) => head,
    };
    (received.len() >= length).then(|| (value("x-id").expect("an id"), length))
}

/// A response: its status and whether it is whole; `None` if there is none.
async fn response(stream: &mut TcpStream) -> Option<(u16, bool)> {
    let mut received = Vec::new();
    loop {
        if let Some(head) = received.windows(4).position(|it| it == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&received[..head]).to_ascii_lowercase();
            let status = text.split(' ').nth(1)?.parse().expect("a status");
            let length = text.split_once("content-length: ").map_or("0", |it| it.1);
            let length: usize = length.split("\r\n").next()?.parse().expect("a length");
            if received.len() >= head + 4 + length {
                return Some((status, true));
            }
            if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
                return Some((status, false));
            }
        } else if !matches!(stream.read_buf(&mut received).await, Ok(1..)) {
            return None;
        }
    }
}

/// Sends requests of all kinds one after another, `rounds` times, and checks what becomes of each. Responses may be cut off
/// only if a backend cuts them, and are seen to be.
async fn ask(proxy: SocketAddr, client: &str, world: &World, rounds: u32, may_cut: bool) {
    let mut stream = None;
    for round in 0..rounds {
        for (kind, body) in [
            ("GET", "\r\n"),
            ("POST", "Content-Length: 4\r\n\r\nbody"),
            ("POST", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"),
            ("POST", "\r\n"),
        ] {
            let id = format!("{client}-{round}-{}-{}", kind.to_ascii_lowercase(), body.len());
            // A trailer field keeps the connection on the general path.
            let general = if client.starts_with("general") { "TE: trailers\r\n" } else { "" };
            let request = format!("{kind} / HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n{general}{body}");
            let mut connection = match stream.take() {
                Some(connection) => connection,
                None => TcpStream::connect(proxy).await.expect("the proxy accepts"),
            };
            connection.write_all(request.as_bytes()).await.expect("the proxy reads");
            let found = timeout(PATIENCE, response(&mut connection)).await.expect("an answer");
            let seen = world.seen.lock().expect("no panic").get(&id).copied().unwrap_or_default();
            match (kind, found) {
                (_, Some((200, true))) => stream = Some(connection),
                // A response that has begun cannot be replaced by another.
                (_, Some((200, false))) if may_cut => {}
                ("POST", Some((502..=504, true))) => {}
                _ => panic!("{id}: {found:?} while {:?}", world.troubles),
            }
            assert!(kind == "GET" || seen <= 1, "{id} was sent {seen} times");
        }
    }
}

#[tokio::test]
async fn one_backend_after_another_may_fail_in_any_way() {
    let world: Arc<World> = Arc::default();
    let mut backends: Vec<Fragile> = (0..3).map(|_| Fragile::start(&world)).collect();
    let addresses: Vec<SocketAddr> = backends.iter().map(|it| it.address).collect();
    let pool = "retry = { tries = 3, on = [\"connect\", \"reset\", \"timeout\", \"503\"], budget = \"100%\" }\n\
                timeout = { connect = \"300ms\", read = \"300ms\" }";
    let node = TestNode::with(&config(&addresses, pool)).await;
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20_u64).min(200);
    for seed in 0..seeds {
        let mut rng = Rng::with_seed(seed);
        let (trouble, which) = (TROUBLES[seed as usize % TROUBLES.len()], rng.usize(..backends.len()));
        let names =
            ["lane", "general", "lane-too", "lane-then", "general-then"].map(|it| format!("{it}-{seed}"));
        let rounds = rng.u32(2..6);
        let may_cut = trouble == Trouble::ClosesInBody;
        let asking = |index: usize, rounds| ask(address(&node), &names[index], &world, rounds, may_cut);
        // It fails while requests are on their way, and comes back while others are.
        let failing = backends[which].suffer(trouble);
        tokio::join!(asking(0, rounds), asking(1, rounds), asking(2, rounds), failing);
        tokio::join!(asking(3, 2), asking(4, 2), backends[which].recover());
    }
    // All were asked, and are used again.
    world.seen.lock().expect("no panic").clear();
    ask(address(&node), "lane-last", &world, 3, false).await;
    assert_eq!(world.seen.lock().expect("no panic").len(), 12);
    node.stop().await;
}
