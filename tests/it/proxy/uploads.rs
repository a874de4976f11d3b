//! Clients that send their bodies slowly, or not to the end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::backend::{Backend, Manner};
use super::{address, metric, node};
use crate::harness::{PATIENCE, until};

#[tokio::test]
async fn a_long_upload_may_take_longer_than_a_response() {
    let one = Backend::start("one").await;
    one.behave(Manner::Echo);
    let limit = Duration::from_secs(1);
    let node = node(&[&one], "timeout = { read = \"1s\" }").await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < limit * 3 / 2 {
        stream.write_all(b"1\r\na\r\n").await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{}", &answer[..answer.len().min(200)]);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_stops_sending_is_no_failure_of_the_backend() {
    let one = Backend::start("one").await;
    one.behave(Manner::Echo);
    let node = node(&[&one], "timeout = { read = \"200ms\" }").await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().ok();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(metric(&node, "portolan_proxy_failures_total", one.address).await, Some(0.0));

    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
    until("the request is with the backend", async || (one.requests() == 2).then_some(())).await;
    drop(stream);
    until("the connection is closed", async || (one.open() == 0).then_some(())).await;
    assert_eq!(metric(&node, "portolan_proxy_failures_total", one.address).await, Some(0.0));
    node.stop().await;
}
