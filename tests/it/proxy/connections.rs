//! How long connections last: idle ones, drained ones and those of a node that stops.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::backend::{Backend, Manner};
use super::{address, client, drain, metric, node, shown};
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
