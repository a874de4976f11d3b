//! Consent for requests that are more than a head and a body: calls of gRPC, WebSockets and trailers.

use bytes::Bytes;
use http::{HeaderMap, Request};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::h2::{self, connect, echoed, tunnel};
use super::super::{address, header};
use super::{Backend, Service, config, forward, node};
use crate::harness::node::TestNode;

const YES: &str = "HTTP/1.1 200 OK\r\nX-User: ann\r\nContent-Length: 0\r\n\r\n";
const NO: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n";

/// A node with an HTTP/2 backend.
async fn node_of_h2(backend: &h2::Server, auth: &str) -> TestNode {
    let text = config(backend.address, auth);
    TestNode::with(&text.replacen("[proxy.pool.api]\n", "[proxy.pool.api]\nhttp = \"h2\"\n", 1)).await
}

#[tokio::test]
async fn a_call_goes_on_with_its_messages_and_trailers() {
    let backend = h2::Server::start(h2::Manner::Show).await;
    let service = Service::saying(YES).await;
    let node = node_of_h2(&backend, &forward(&service, ", headers = [\"x-user\"]")).await;
    let request = Request::post("http://www.test/echo.Echo/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut sent) = connect(address(&node)).await.send_request(request, false).unwrap();
    sent.send_data(Bytes::from_static(b"message"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "1".parse().unwrap());
    sent.send_trailers(trailers).unwrap();
    let mut body = response.await.unwrap().into_body();
    let seen: Value = serde_json::from_slice(&body.data().await.unwrap().unwrap()).unwrap();
    assert_eq!((&seen["body"], &seen["trailers"]["x-checksum"]), (&"message".into(), &"1".into()));
    assert_eq!((header(&seen, "x-user"), header(&seen, "te")), (vec!["ann".into()], vec!["trailers".into()]));
    // The question is one of HTTP/1.1, and is about the head alone.
    let question = service.questions().concat().to_lowercase();
    assert!(
        question.starts_with("get /verify?a=b http/1.1\r\n") && question.ends_with("\r\n\r\n"),
        "{question}"
    );
    assert!(
        question.contains("x-forwarded-method: post\r\nx-forwarded-uri: /echo.echo/call\r\n"),
        "{question}"
    );
    for absent in ["\r\nte:", "content-type", "transfer-encoding", "message"] {
        assert!(!question.contains(absent), "{absent} in {question}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_is_denied_ends_as_grpc_does() {
    let backend = h2::Server::start(h2::Manner::Grpc).await;
    let service = Service::saying(NO).await;
    let node = node_of_h2(&backend, &forward(&service, "")).await;
    let request =
        Request::post("http://www.test/echo.Echo/Call").header("content-type", "application/grpc").body(());
    let (response, _sent) = connect(address(&node)).await.send_request(request.unwrap(), false).unwrap();
    let response = response.await.unwrap();
    let head = response.headers();
    // PERMISSION_DENIED
    assert_eq!(
        (response.status().as_u16(), &head["grpc-status"], &head["grpc-message"]),
        (200, &"7".parse().unwrap(), &"no".parse().unwrap())
    );
    assert_eq!(backend.requests(), 0);
    node.stop().await;
}

#[tokio::test]
async fn websockets_of_both_versions_begin_with_consent() {
    let one = Backend::start("one").await;
    let service = Service::saying(YES).await;
    let allowing = node(&one, &forward(&service, "")).await;
    let (response, mut sent) = tunnel(&allowing, "websocket").await;
    let mut response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    echoed(&mut response, &mut sent, "text").await;

    let upgrade = "GET /chat?room=1 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut stream = TcpStream::connect(address(&allowing)).await.unwrap();
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream.write_all(b"text").await.unwrap();
    let mut text = [0; 4];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"text");
    let questions = service.questions();
    assert_eq!(questions.len(), 2);
    for question in questions {
        let question = question.to_lowercase();
        assert!(
            question.contains("x-forwarded-method: get\r\nx-forwarded-uri: /chat?room=1\r\n"),
            "{question}"
        );
        assert!(!question.contains("upgrade"), "{question}");
    }
    drop((stream, response, sent));
    allowing.stop().await;

    let service = Service::saying(NO).await;
    let denying = node(&one, &forward(&service, "")).await;
    let (response, _sent) = tunnel(&denying, "websocket").await;
    assert_eq!(response.await.unwrap().status(), 403);
    assert_eq!(one.requests(), 2);
    denying.stop().await;
}
