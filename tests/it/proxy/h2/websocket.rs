//! WebSocket over HTTP/2 (RFC 8441), with clients and with backends.

use std::fs;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::backend::{Backend, Manner as Old};
use super::super::{address, config, drain, metric, raw};
use super::backend::{Frames, Manner, Server, listen};
use super::grpc::connect;
use super::{H2, node};
use crate::harness::node::TestNode;
use crate::harness::until;

/// Asks for a tunnel of this protocol.
pub(in crate::proxy) async fn tunnel(
    node: &TestNode,
    protocol: &'static str,
) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = connect(address(node)).await;
    // The SETTINGS of the proxy say that it may.
    until("tunnels are announced", async || sender.is_extended_connect_protocol_enabled().then_some(()))
        .await;
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://www.test/chat?room=1")
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static(protocol))
        .body(())
        .unwrap();
    sender.send_request(request, false).unwrap()
}

/// Sends a text through a tunnel that sends it back.
pub(in crate::proxy) async fn echoed(
    response: &mut Response<RecvStream>,
    sent: &mut SendStream<Bytes>,
    text: &'static str,
) {
    sent.send_data(Bytes::from_static(text.as_bytes()), false).unwrap();
    let mut received = Vec::new();
    while received.len() < text.len() {
        let data = response.body_mut().data().await.unwrap().unwrap();
        response.body_mut().flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    assert_eq!(received, text.as_bytes());
}

#[tokio::test]
async fn a_tunnel_of_a_client_is_an_upgrade_for_the_backend() {
    let one = Backend::start("one").await;
    let proxy = "[proxy]\naccess_log = { to = \"access.log\", format = \"json\" }\n";
    let node = TestNode::with(&config(&[one.address], "").replacen("[proxy]\n", proxy, 1)).await;
    let (response, mut sent) = tunnel(&node, "websocket").await;
    let mut response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    for name in ["connection", "upgrade", "sec-websocket-accept"] {
        assert_eq!(response.headers().get(name), None, "{name}");
    }
    assert_eq!(one.targets(), ["/chat?room=1"]);
    for text in ["one", "two"] {
        echoed(&mut response, &mut sent, text).await;
    }
    let in_flight = metric(&node, "portolan_proxy_in_flight", one.address).await;
    assert_eq!(in_flight, Some(1.0));
    // The log line comes at the end, with the bytes.
    assert_eq!(fs::read_to_string(node.folder.path("access.log")).unwrap_or_default(), "");
    sent.send_data(Bytes::new(), true).unwrap();
    while let Some(data) = response.body_mut().data().await {
        assert_eq!(data.unwrap(), "");
    }
    let line = until("the line is written", async || {
        let text = fs::read_to_string(node.folder.path("access.log")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).ok()
    })
    .await;
    for (name, expected) in [
        ("method", json!("CONNECT")),
        ("status", json!(200)),
        ("received", json!(6)),
        ("sent", json!(6)),
        ("ended", json!("complete")),
    ] {
        assert_eq!(line[name], expected, "{name} of {line}");
    }
    node.stop().await;
}

#[tokio::test]
async fn an_upgrade_is_logged_at_its_end_with_its_bytes() {
    let one = Backend::start("one").await;
    let proxy = "[proxy]\naccess_log = { to = \"access.log\", format = \"json\" }\n";
    let node = TestNode::with(&config(&[one.address], "").replacen("[proxy]\n", proxy, 1)).await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(b"12345").await.unwrap();
    stream.read_exact(&mut [0; 5]).await.unwrap();
    drop(stream);
    let line = until("the line is written", async || {
        let text = fs::read_to_string(node.folder.path("access.log")).unwrap_or_default();
        serde_json::from_str::<Value>(&text).ok()
    })
    .await;
    assert_eq!(
        (&line["status"], &line["received"], &line["sent"]),
        (&json!(101), &json!(5), &json!(5)),
        "{line}"
    );
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_websocket_does_not_look_like_one() {
    let one = Backend::start("one").await;
    let node = TestNode::with(&config(&[one.address], "")).await;
    for (manner, protocol, status) in [
        (Old::Status(200), "websocket", 502),
        (Old::Status(403), "websocket", 403),
        (Old::Show, "connect-udp", 501),
    ] {
        one.behave(manner);
        let (response, _sent) = tunnel(&node, protocol).await;
        assert_eq!(response.await.unwrap().status(), status, "{protocol}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_tunnel_ends_with_the_drain_of_its_backend() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let node = TestNode::with(&config(&[one.address, two.address], "drain = \"0s\"")).await;
    let (response, mut sent) = tunnel(&node, "websocket").await;
    let mut response = response.await.unwrap();
    echoed(&mut response, &mut sent, "one").await;
    let used = if one.requests() == 1 { &one } else { &two };
    drain(&node, used).await;
    until("the tunnel ends", async || {
        response.body_mut().data().await.is_none_or(|it| it.is_err()).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_backend_of_http_2_gets_a_tunnel_from_clients_of_both_versions() {
    let one = Server::start(Manner::Tunnel).await;
    let node = node(&[&one], "").await;
    let (response, mut sent) = tunnel(&node, "websocket").await;
    let mut response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    echoed(&mut response, &mut sent, "text").await;

    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    // The example of RFC 6455 §1.3.
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    for expected in
        ["http/1.1 101 ", "upgrade: websocket\r\n", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"]
    {
        assert!(head.contains(expected), "{head}");
    }
    stream.write_all(b"text").await.unwrap();
    let mut text = [0; 4];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!((&text, one.connections()), (b"text", 1));
    drop((stream, sent, response));
    until("both have ended", async || {
        (metric(&node, "portolan_proxy_in_flight", one.address).await == Some(0.0)).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_announces_no_tunnels_gets_none() {
    let (listener, at) = listen().await;
    let node = TestNode::with(&config(&[at], H2)).await;
    let to = address(&node);
    let upgrade = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    let end = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let sent = tokio::spawn(async move { raw(to, [upgrade, end].concat().as_bytes()).await });
    let mut frames = Frames::accept(&listener).await;
    let stream = frames.request().await.unwrap();
    frames.respond(stream, "the second").await;
    let answer = sent.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 501 ") && answer.contains("the second"), "{answer}");
    assert_eq!(metric(&node, "portolan_proxy_failures_total", at).await, Some(0.0));
    drop(frames);
    node.stop().await;
}
