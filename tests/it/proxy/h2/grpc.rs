//! gRPC: calls over HTTP/2 with trailers, unary or streaming, with frames made by hand.

use std::net::SocketAddr;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use super::super::{address, config, raw};
use super::backend::{Manner, Server};
use super::{H2, node, post};
use crate::harness::node::TestNode;
use crate::harness::until;

/// A message as gRPC frames it.
fn message(text: &str) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(text.len() as u32);
    framed.put_slice(text.as_bytes());
    framed.freeze()
}

/// A connection of a client.
pub(in crate::proxy) async fn connect(to: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// Begins a call.
async fn call(node: &TestNode) -> (ResponseFuture, SendStream<Bytes>) {
    let mut sender = connect(address(node)).await;
    let request = Request::post("http://www.test/echo.Echo/Call")
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
        .body(())
        .unwrap();
    sender.send_request(request, false).unwrap()
}

async fn next(response: &mut Response<RecvStream>) -> Option<Bytes> {
    let data = response.body_mut().data().await?.unwrap();
    response.body_mut().flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

async fn trailers(response: &mut Response<RecvStream>) -> HeaderMap {
    response.body_mut().trailers().await.unwrap().expect("trailers")
}

#[tokio::test]
async fn both_sides_of_a_call_stream_as_they_like() {
    let one = Server::start(Manner::Grpc).await;
    let node = node(&[&one], "").await;
    let (response, mut sent) = call(&node).await;
    // There are headers before the first message, and messages go on their way one by one.
    let mut response = response.await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    for text in ["one", "two", "three"] {
        sent.send_data(message(text), false).unwrap();
        assert_eq!(next(&mut response).await.unwrap(), message(text));
    }
    sent.send_data(Bytes::new(), true).unwrap();
    assert_eq!(next(&mut response).await, None);
    let trailers = trailers(&mut response).await;
    assert_eq!((&trailers["grpc-status"], &trailers["x-parts"]), (&"0".parse().unwrap(), &4.into()));
    // RFC 9110 §6.5.1.
    assert_eq!(trailers.get("content-length"), None);
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_a_backend_ends_at_once_has_its_status_in_the_headers() {
    let one = Server::start(Manner::GrpcRefusal).await;
    let node = node(&[&one], "").await;
    let (response, _sent) = call(&node).await;
    let mut response = response.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["grpc-status"]),
        (200, &"7".parse().unwrap())
    );
    assert_eq!(next(&mut response).await, None);
    node.stop().await;
}

#[tokio::test]
async fn trailers_of_requests_reach_the_backend() {
    let one = Server::start(Manner::Show).await;
    let node = node(&[&one], "").await;
    let (response, mut sent) = call(&node).await;
    sent.send_data(Bytes::from_static(b"body"), false).unwrap();
    let mut trailers = HeaderMap::new();
    for name in ["x-checksum", "host", "x-forwarded-for"] {
        trailers.insert(name, "1".parse().unwrap());
    }
    sent.send_trailers(trailers).unwrap();
    let mut response = response.await.unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&next(&mut response).await.unwrap()).unwrap();
    assert_eq!(
        (&seen["body"], &seen["trailers"]),
        (&"body".into(), &serde_json::json!({ "x-checksum": "1" }))
    );
    node.stop().await;
}

#[tokio::test]
async fn trailers_go_between_the_versions() {
    let one = Server::start(Manner::Show).await;
    let node = node(&[&one], "").await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\nTE: trailers\r\n\
                   Connection: close\r\n\r\n2\r\nab\r\n0\r\nX-Checksum: 1\r\nContent-Length: 9\r\n\r\n";
    let answer = raw(address(&node), request.as_bytes()).await;
    assert!(answer.contains("\"trailers\":{\"x-checksum\":\"1\"}"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn errors_of_the_proxys_own_end_calls_as_grpc_does() {
    let one = Server::start(Manner::Show).await;
    let text = config(&[one.address], H2).replacen(
        "pool = \"api\"",
        "route = [{ path = \"/echo.Echo\", pool = \"api\" }]",
        1,
    );
    let node = TestNode::with(&text).await;
    drop(one);
    let (response, _sent) = call(&node).await;
    let response = response.await.unwrap();
    let head = response.headers();
    assert_eq!(
        (response.status().as_u16(), &head["content-type"]),
        (200, &"application/grpc".parse().unwrap())
    );
    assert_eq!(
        (&head["grpc-status"], &head["grpc-message"]),
        (&"14".parse().unwrap(), &"the backend did not answer".parse().unwrap())
    );
    assert!(response.body().is_end_stream());
    let mut sender = connect(address(&node)).await;
    let request =
        Request::post("http://www.test/unknown").header("content-type", "application/grpc").body(()).unwrap();
    let response = sender.send_request(request, true).unwrap().0.await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    // Others get what they understand.
    let sender = sender.ready().await;
    let request = Request::post("http://www.test/unknown").header("content-type", "application/grpc-web");
    let response = sender.unwrap().send_request(request.body(()).unwrap(), true).unwrap().0.await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("grpc-status")), (404, None));
    node.stop().await;
}

#[tokio::test]
async fn calls_are_cancelled_at_the_backend_with_the_client() {
    let one = Server::start(Manner::NoWindow).await;
    let node = node(&[&one], "").await;
    let (response, mut sent) = call(&node).await;
    until("the call is with the backend", async || (one.requests() == 1).then_some(())).await;
    sent.send_reset(h2::Reason::CANCEL);
    drop(response);
    until("the backend's stream is reset", async || (one.busy() == 0).then_some(())).await;
    one.behave(Manner::Show);
    assert_eq!(post(&node, "x").await.status(), 200);
    assert_eq!(one.connections(), 1);
    node.stop().await;
}
