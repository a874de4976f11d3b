//! What one client may use of a listener.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::backend::Backend;
use super::{address, config};
use crate::harness::node::TestNode;
use crate::harness::{PATIENCE, until};

/// A node whose clients have these limits, and whose workers share them.
async fn node(backend: &Backend, limits: &str, trusted: &str) -> TestNode {
    let text = config(&[backend.address], "");
    let text = text.replace("workers = 1\n", &format!("workers = 3\n{trusted}"));
    TestNode::with(&text.replace("pool = \"api\"\n", &format!("pool = \"api\"\nclient = {{ {limits} }}\n")))
        .await
}

async fn connect(node: &TestNode, client: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::from(client), 0).into()).expect("all of 127.0.0.0/8 is local");
    socket.connect(address(node)).await.unwrap()
}

/// Sends a request; returns the response, which is empty if the connection is closed.
async fn ask(stream: &mut TcpStream, header: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.ok();
    let mut bytes = vec![0; 64 * 1024];
    let read = timeout(PATIENCE, stream.read(&mut bytes)).await.expect("a response").unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn a_client_that_sends_too_many_requests_gets_429_on_all_workers_and_others_are_served() {
    let backend = Backend::start("one").await;
    let node = node(&backend, "requests_per_second = 1, burst = 20", "trusted = [\"127.0.0.9/32\"]\n").await;
    let mut refused = 0;
    for _ in 0..60 {
        let answer = ask(&mut connect(&node, [127, 0, 0, 1]).await, "").await;
        if answer.starts_with("HTTP/1.1 429 ") {
            assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
            refused += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }
    // One per second is added meanwhile.
    assert!((1..=40).contains(&refused), "{refused}");
    let metric = "portolan_proxy_limited_requests_total{listener=\"web\"}";
    assert_eq!(node.api.metric(metric).await, Some(f64::from(refused)));
    assert!(ask(&mut connect(&node, [127, 0, 0, 2]).await, "").await.starts_with("HTTP/1.1 200 "));
    // Clients of a trusted hop have limits of their own, and what another one claims changes nothing.
    let mut hop = connect(&node, [127, 0, 0, 9]).await;
    for client in 0..60 {
        let answer = ask(&mut hop, &format!("X-Forwarded-For: 192.0.2.{client}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let mut statuses = Vec::new();
    for client in 0..60 {
        let claim = format!("X-Forwarded-For: 192.0.2.{client}\r\n");
        statuses
            .push(ask(&mut connect(&node, [127, 0, 0, 3]).await, &claim).await.starts_with("HTTP/1.1 429 "));
    }
    assert!(statuses.contains(&true));
    node.stop().await;
}

#[tokio::test]
async fn a_client_with_as_many_connections_as_it_may_have_gets_no_other() {
    let backend = Backend::start("one").await;
    let node = node(&backend, "connections = 2", "").await;
    let (mut one, mut two) = (connect(&node, [127, 0, 0, 1]).await, connect(&node, [127, 0, 0, 1]).await);
    for stream in [&mut one, &mut two] {
        assert!(ask(stream, "").await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(ask(&mut connect(&node, [127, 0, 0, 1]).await, "").await, "");
    assert!(ask(&mut connect(&node, [127, 0, 0, 2]).await, "").await.starts_with("HTTP/1.1 200 "));
    let metric = "portolan_proxy_limited_connections_total{listener=\"web\"}";
    assert_eq!(node.api.metric(metric).await, Some(1.0));
    // An upgraded connection still counts.
    let upgrade = "Connection: upgrade\r\nUpgrade: echo\r\n";
    assert!(ask(&mut one, upgrade).await.starts_with("HTTP/1.1 101 "));
    assert_eq!(ask(&mut connect(&node, [127, 0, 0, 1]).await, "").await, "");
    drop(two);
    until("there is room for another one", async || {
        let answer = ask(&mut connect(&node, [127, 0, 0, 1]).await, "").await;
        answer.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
    drop(one);
    node.stop().await;
}

#[tokio::test]
async fn a_trusted_hop_may_have_connections_for_all_its_clients() {
    let backend = Backend::start("one").await;
    let node = node(&backend, "connections = 1", "trusted = [\"127.0.0.9/32\"]\n").await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = connect(&node, [127, 0, 0, 9]).await;
        assert!(ask(&mut stream, "").await.starts_with("HTTP/1.1 200 "));
        streams.push(stream);
    }
    node.stop().await;
}
