//! How long requests may be, and how slowly clients may send them and read responses, over HTTP/1.1.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::backend::{Backend, Gated, Manner};
use super::{address, config, counted, raw};
use crate::harness::node::TestNode;
use crate::harness::until;

/// A method of the lane of plain HTTP/1.1, and one that hyper answers.
const BOTH_WAYS: [&str; 2] = ["POST", "PROPFIND"];

pub(super) async fn node(at: std::net::SocketAddr, limits: &str) -> TestNode {
    let limits = format!("pool = \"api\"\nlimits = {{ {limits} }}\n");
    TestNode::with(&config(&[at], "").replacen("pool = \"api\"\n", &limits, 1)).await
}

pub(super) async fn count(node: &TestNode, name: &str) -> Option<f64> {
    node.api.metric(&format!("portolan_proxy_{name}_total{{listener=\"web\"}}")).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_a_backend_sees_it() {
    let one = Backend::start("one").await;
    let node = node(one.address, "body = \"1KiB\"").await;
    for method in BOTH_WAYS {
        let request = |length: usize| {
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n");
            format!("{head}Content-Length: {length}\r\n\r\n{}", "x".repeat(length))
        };
        assert_eq!(status(&raw(address(&node), request(1024).as_bytes()).await), "200", "{method}");
        assert_eq!(status(&raw(address(&node), request(1025).as_bytes()).await), "413", "{method}");
    }
    assert_eq!((one.requests(), count(&node, "too_large").await), (2, Some(2.0)));
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_grows_too_long_ends_the_request() {
    let one = Backend::start("one").await;
    one.behave(Manner::Echo);
    let node = node(one.address, "body = \"1KiB\"").await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    for method in BOTH_WAYS {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let fits = format!("{head}{chunk}{chunk}0\r\n\r\n");
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        stream.write_all(fits.as_bytes()).await.unwrap();
        let mut answer = vec![0; 16];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{method}");
        let answer = raw(address(&node), format!("{head}{chunk}{chunk}1\r\nx\r\n").as_bytes()).await;
        assert_eq!(status(&answer), "413", "{method}: {answer}");
    }
    until("no request is left with the backend", async || {
        let metric = format!("portolan_proxy_in_flight{{pool=\"api\",backend=\"{}\"}}", one.address);
        (node.api.metric(&metric).await == Some(0.0)).then_some(())
    })
    .await;
    assert_eq!(count(&node, "too_large").await, Some(2.0));
    node.stop().await;
}

#[tokio::test]
async fn who_sends_too_slowly_gets_408() {
    let one = Backend::start("one").await;
    let node = node(one.address, "upload = 1000, grace = \"1s\"").await;
    for method in BOTH_WAYS {
        // gRPC, which may be slow, comes over HTTP/2.
        for kind in ["text/plain", "application/grpc"] {
            let head =
                format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Length: 9\r\n");
            let answer = raw(address(&node), format!("{head}\r\nabc").as_bytes()).await;
            assert_eq!(status(&answer), "408", "{method} {kind}: {answer}");
        }
    }
    assert_eq!(count(&node, "slow_uploads").await, Some(4.0));
    let failures = format!("portolan_proxy_failures_total{{pool=\"api\",backend=\"{}\"}}", one.address);
    assert_eq!(node.api.metric(&failures).await, Some(0.0));
    node.stop().await;
}

#[tokio::test]
async fn once_there_is_a_response_the_two_may_be_as_slow_as_they_like() {
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n";
    let one = Gated::start(begin, "3\r\nend\r\n0\r\n\r\n").await;
    let node = node(one.address, "upload = 1000, grace = \"1s\"").await;
    for method in BOTH_WAYS {
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        let head =
            format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(5).any(|it| it == b"begin") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        let begun = Instant::now();
        let grace = Duration::from_secs(1);
        until("the grace is over", async || (begun.elapsed() > grace * 2).then_some(())).await;
        stream.write_all(b"defghi").await.unwrap();
        one.release();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"end\r\n0\r\n\r\n"), "{method}: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(count(&node, "slow_uploads").await, Some(0.0));
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_grows_too_long_after_the_response_began_is_counted() {
    let begin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n";
    let one = Gated::start(begin, "").await;
    let node = node(one.address, "body = \"1KiB\"").await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    for (number, method) in (1..).zip(BOTH_WAYS) {
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        let head =
            format!("{method} / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(5).any(|it| it == b"begin") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        stream.write_all(b"1\r\nx\r\n").await.unwrap();
        stream.read_to_end(&mut answer).await.ok();
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{method}: it is cut off");
        counted(&node, "portolan_proxy_too_large_total{listener=\"web\"}", f64::from(number)).await;
    }
    node.stop().await;
}

/// A backend whose response to every request has no end.
pub(super) async fn endless() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 1024];
                let is_asked = stream.read(&mut head).await.is_ok_and(|read| read > 0);
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok();
                while is_asked && stream.write_all(&[b'x'; 64 * 1024]).await.is_ok() {}
            });
        }
    });
    address
}

#[tokio::test]
async fn who_reads_too_slowly_is_disconnected_although_it_never_stops() {
    let at = endless().await;
    let node = node(at, "download = 1000000000, grace = \"1s\"").await;
    for (number, method) in (1..).zip(BOTH_WAYS) {
        let mut stream = TcpStream::connect(address(&node)).await.unwrap();
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let reading = tokio::spawn(async move {
            let mut few = [0; 16];
            while stream.read(&mut few).await.is_ok_and(|read| read > 0) {}
        });
        until(method, async || {
            (count(&node, "slow_downloads").await == Some(f64::from(number))).then_some(())
        })
        .await;
        reading.abort();
    }
    node.stop().await;
}
