//! A request or response means the same on both sides of the proxy.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::backend::{self, Backend};
use super::{address, config, header, node, raw};
use crate::harness::node::TestNode;

#[tokio::test]
async fn a_get_with_a_chunked_body_keeps_it() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let request = b"GET /_search HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n";
    let answer = raw(address(&node), request).await;
    assert!(answer.contains("\"body\":\"query\""), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn no_upgrade_leads_around_the_routes() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    // The backend accepts any upgrade.
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n",
        // RFC 9110, section 7.8: not of HTTP/1.0.
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n",
    ] {
        let answer = raw(address(&node), request.as_bytes()).await;
        assert!(answer.contains(" 200 OK\r\n"), "{request}{answer}");
        assert!(!answer.contains("\"upgrade\"") && !answer.contains("http2-settings"), "{request}{answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_response_of_http_1_0_becomes_one_of_the_proxys_version() {
    let (at, serving) = backend::saying(b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nwhole").await;
    let node = TestNode::with(&config(&[at], "")).await;
    let answer = raw(address(&node), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("server: old\r\n") && answer.contains("5\r\nwhole\r\n0\r\n"), "{answer}");
    node.stop().await;
    serving.abort();
}

#[tokio::test]
async fn cookies_of_http_2_are_joined() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let stream = TcpStream::connect(address(&node)).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(format!("http://{}/", address(&node)))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
    // RFC 9113, section 8.2.3.
    assert_eq!(header(&seen, "cookie"), ["a=1; b=2"]);
    drop(sender);
    node.stop().await;
}

#[tokio::test]
async fn special_targets_and_statuses_pass() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let answer = raw(address(&node), b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("\"target\":\"*\""), "{answer}");
    let absolute = b"GET http://a:81/x?y HTTP/1.1\r\nHost: a:81\r\nConnection: close\r\n\r\n";
    let answer = raw(address(&node), absolute).await;
    assert!(answer.contains("\"target\":\"/x?y\"") && answer.contains("[\"host\",\"a:81\"]"), "{answer}");
    node.stop().await;
    let unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n";
    let (at, serving) = backend::saying(unchanged).await;
    let node = TestNode::with(&config(&[at], "")).await;
    let answer = raw(address(&node), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 304 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    node.stop().await;
    serving.abort();
}

#[tokio::test]
async fn interim_responses_do_not_pass_for_the_response() {
    let early =
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast";
    let (at, serving) = backend::saying(early).await;
    let node = TestNode::with(&config(&[at], "")).await;
    let answer = raw(address(&node), b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("last"), "{answer}");
    assert!(!answer.contains("link"), "{answer}");
    node.stop().await;
    serving.abort();
}
