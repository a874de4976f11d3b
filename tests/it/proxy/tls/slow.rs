//! Many clients that send a byte at a time, read nothing, or do not finish their handshakes: others are served as if they
//! were not there, and nothing of them is left.

use std::sync::Arc;
use std::{env, fs};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::super::backend::{Backend, Manner};
use super::certificates::Authority;
use super::{BOTH, ask, client, connect, folder};
use crate::harness::node::TestNode;
use crate::harness::until;
use crate::proxy::raw;

/// Slow clients of each kind; `SLOW=n` makes more.
const SLOW: usize = 60;

/// Times that each slow client sends a byte.
const BYTES: usize = 20;

/// How a slow client begins, and whether it speaks TLS.
const BEGINNINGS: [(&str, bool); 6] = [
    ("GET / HTTP/1.1\r\nX: ", false),
    ("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\nGET / HTTP/1.1\r\nX: ", false),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", false),
    ("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nContent-Length: 1000\r\n\r\n", false),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0\0@\0\0\0\0\0\0\0", false),
    ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}", true),
];

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("a folder").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_nobody_else_up() {
    let (backend, authority) = (Backend::start("one").await, Authority::new("authority"));
    let clear = "tls = true\n[proxy.listener.clear]\nlisten = \"127.0.0.1:0\"\npool = \"api\"";
    let node = TestNode::start(folder(&authority, backend.address, "", clear)).await;
    let at = |name: &str| node.node.proxy_addresses.iter().find(|it| &*it.0 == name).expect("a listener").1;
    let (clear, encrypted) = (at("clear"), at("web"));
    let trusting = Arc::new(client(&authority, BOTH, None));
    backend.behave(Manner::Show);
    let files = open_files();

    let count = env::var("SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(SLOW);
    let mut slow = Vec::new();
    for (beginning, is_encrypted) in BEGINNINGS.iter().cycle().take(count * BEGINNINGS.len()) {
        let to = if *is_encrypted { encrypted } else { clear };
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        stream.write_all(beginning.as_bytes()).await.expect("it is sent");
        slow.push(stream);
    }
    // These read none of their responses, which are more than all buffers hold.
    for _ in 0..count {
        let stream = TcpStream::connect(clear).await.expect("a connection");
        let request = "GET /long HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20_000);
        while stream.try_write(request.as_bytes()).is_ok() {
            tokio::task::yield_now().await;
        }
        slow.push(stream);
    }
    for _ in 0..BYTES {
        let answer = raw(clear, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut stream = connect(encrypted, "www.test", &trusting).await.expect("a handshake");
        let answer = ask(&mut stream, "").await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        for stream in &slow {
            // Those that are closed already do not matter.
            stream.try_write(b"x").ok();
        }
    }
    drop(slow);
    // Idle connections to the backend stay open: as many as the pool may keep, on both sides.
    let kept = 2 * 2 * 32;
    until("they are closed", async || (open_files() <= files + kept).then_some(())).await;
    node.stop().await;
}
