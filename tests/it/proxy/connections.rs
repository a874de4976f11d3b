//! How long connections last: idle ones, drained ones and those of a node that stops.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::backend::{Backend, Gated, Manner};
use super::frames::{Connection, GET, GOAWAY, HEADERS, Reaction, WHOLE, frame};
use super::{address, client, config, drain, metric, node, shown};
use crate::harness::binary::{PROGRAM, Served, clean};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::{PATIENCE, until};

/// A connection that the backend `one` has upgraded to an echo.
async fn echoing(node: &TestNode) -> TcpStream {
    let mut stream = TcpStream::connect(address(node)).await.unwrap();
    let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
}

async fn echo(stream: &mut TcpStream) {
    stream.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.expect("the connection is open");
    assert_eq!(&echoed, b"hello");
}

#[tokio::test]
async fn an_idle_connection_to_a_backend_is_closed() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "timeout = { idle = \"100ms\" }").await;
    shown(client().get(format!("http://{}/", address(&node))).send().await.unwrap()).await;
    until("the connection is closed", async || (one.open() == 0).then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn a_drained_backend_loses_its_idle_connections() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = node(&[&one, &two], "").await;
    let client = client();
    for _ in 0..2 {
        shown(client.get(format!("http://{}/", address(&node))).send().await.unwrap()).await;
    }
    assert_eq!((one.open(), two.open()), (1, 1));
    drain(&node, &one).await;
    until("the connection is closed", async || (one.open() == 0).then_some(())).await;
    assert_eq!(two.open(), 1);
    node.stop().await;
}

#[tokio::test]
async fn requests_of_a_drained_backend_end_when_its_time_is_over() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Hang);
    let node = node(&[&one, &two], "drain = \"100ms\"").await;
    let url = format!("http://{}/", address(&node));
    let request = tokio::spawn(async move { client().get(url).send().await.map(|it| it.status().as_u16()) });
    until("the request is with the backend", async || (one.requests() == 1).then_some(())).await;
    drain(&node, &one).await;
    let status = timeout(PATIENCE / 2, request).await.expect("the request ends").unwrap().unwrap();
    assert_eq!(status, 502);
    assert_eq!(metric(&node, "portolan_proxy_in_flight", one.address).await, Some(0.0));
    node.stop().await;
}

#[tokio::test]
async fn upgraded_connections_of_a_drained_backend_end_when_its_time_is_over() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = node(&[&one, &two], "drain = \"100ms\"").await;
    let mut stream = echoing(&node).await;
    echo(&mut stream).await;
    drain(&node, &one).await;
    let ended = timeout(PATIENCE / 2, stream.read(&mut [0])).await.expect("the connection is closed");
    assert_eq!(ended.unwrap_or(0), 0);
    node.stop().await;
}

#[tokio::test]
async fn a_stop_lets_upgraded_connections_go_on() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let mut stream = echoing(&node).await;
    let at = address(&node);
    let stopping = tokio::spawn(node.stop());
    until("no new connections are taken", async || TcpStream::connect(at).await.is_err().then_some(())).await;
    echo(&mut stream).await;
    drop(stream);
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_stop_ends_requests_after_the_drain_of_their_pool() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "drain = \"100ms\"").await;
    let url = format!("http://{}/", address(&node));
    let request = tokio::spawn(async move { client().get(url).send().await.map(|it| it.status().as_u16()) });
    until("the request is with the backend", async || (one.requests() == 1).then_some(())).await;
    node.stop().await;
    assert_eq!(request.await.unwrap().expect("a response of its own"), 502);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "").await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until("the request is with the backend", async || (one.requests() == 1).then_some(())).await;
    drop(stream);
    until("the connection is closed", async || (one.open() == 0).then_some(())).await;
    assert_eq!(metric(&node, "portolan_proxy_in_flight", one.address).await, Some(0.0));
    assert_eq!(metric(&node, "portolan_proxy_failures_total", one.address).await, Some(0.0));
    node.stop().await;
}

#[tokio::test]
async fn a_stop_tells_clients_to_send_nothing_more() {
    let one = Gated::start("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let node = TestNode::with(&config(&[one.address], "")).await;
    let at = address(&node);
    let mut plain = Vec::new();
    for header in ["", "TE: trailers\r\n"] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n").as_bytes()).await.unwrap();
        plain.push(stream);
    }
    let mut multiplexed = Connection::open(at).await;
    multiplexed.send(&frame(HEADERS, WHOLE, 1, GET)).await;
    until("all are with the backend", async || (one.targets().len() == 3).then_some(())).await;
    let stopping = tokio::spawn(node.stop());
    until("no new connections are taken", async || TcpStream::connect(at).await.is_err().then_some(())).await;
    // Before the response ends.
    let goaway = loop {
        let next = multiplexed.next().await.expect("the connection goes on");
        if next.kind == GOAWAY {
            break next.payload;
        }
    };
    assert_eq!(goaway[4..8], [0; 4], "NO_ERROR");
    (0..3).for_each(|_| one.release());
    assert_eq!(multiplexed.reaction(1).await, Reaction::Answer(200));
    for mut stream in plain {
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("the end").unwrap();
        assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
    }
    timeout(PATIENCE, stopping).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn a_connection_that_its_backend_has_closed_gets_no_other_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (ended, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                stream.shutdown().await.unwrap();
                ended.send(()).ok();
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
            });
        }
    });
    let node = TestNode::with(&config(&[at], "")).await;
    for header in ["", "TE: trailers\r\n"] {
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n{header}\r\nx");
        for _ in 0..20 {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"ok") {
                let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("a response");
                assert!(read.unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            closed.recv().await.unwrap();
        }
    }
    node.stop().await;
    serving.abort();
}

#[tokio::test]
async fn no_more_idle_connections_are_kept_than_may_be() {
    for method in ["GET", "PROPFIND"] {
        let one = Gated::start("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        let node = TestNode::with(&config(&[one.address], "keepalive = 2")).await;
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..5 {
            let request = client().request(method.parse().unwrap(), format!("http://{}/", address(&node)));
            requests.spawn(async move { request.send().await.unwrap().text().await.unwrap() });
        }
        until("all are with the backend", async || (one.targets().len() == 5).then_some(())).await;
        (0..5).for_each(|_| one.release());
        assert_eq!(requests.join_all().await, ["ok"; 5]);
        until("two are left", async || {
            let open = metric(&node, "portolan_proxy_backend_connections", one.address).await;
            (open == Some(2.0)).then_some(())
        })
        .await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_clients_leave_files_for_requests_and_probes() {
    const OPEN_FILES: usize = 240;
    /// Of a node that answers queries, too.
    const CLIENTS: usize = OPEN_FILES / 2 / 6 * 4;
    let one = Backend::start("one").await;
    let mut limited = clean(std::process::Command::new("sh"));
    limited.arg("-c").arg(format!("ulimit -n {OPEN_FILES}; exec {PROGRAM} \"$@\"")).arg("sh");
    let mut served = Served::spawn_by(limited, Folder::new(&config(&[one.address], "")));
    let to = super::memory::proxy(&served).await;
    let api = served.api();
    let mut idle = Vec::new();
    for _ in 0..CLIENTS {
        idle.push(TcpStream::connect(to).await.expect("a connection"));
    }
    until("all are served", async || {
        let proxy = &api.get("/v1/status").await["files"]["proxy"];
        (proxy["open"] == CLIENTS && proxy["limit"] == CLIENTS).then_some(())
    })
    .await;
    let mut more = TcpStream::connect(to).await.expect("a connection");
    let ended = timeout(PATIENCE, more.read(&mut [0])).await.expect("it is closed");
    assert_eq!(ended.unwrap_or(0), 0, "no file is left for one more");
    let mut asking = idle.pop().expect("a client");
    asking.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("it is read");
    let mut response = String::new();
    asking.read_to_string(&mut response).await.expect("a response");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(served.stop().await, Some(0));
}
