//! Requests and responses that mean harm: each is refused, or means the same to the proxy and to the backend.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::backend::{self, Backend};
use super::{address, client, config, node, raw};
use crate::harness::PATIENCE;
use crate::harness::node::TestNode;

/// What becomes of a request.
enum Fate {
    /// Refused with this status; no backend sees it.
    Refused(u16),
    /// One request reaches the backend at most, and the connection is closed after its response.
    AtMostOnce,
}

#[tokio::test]
async fn no_request_is_smuggled() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases: Vec<(&str, String, Fate)> = vec![
        (
            "CL.TE",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
                inner.len() + 5
            ),
            Fate::AtMostOnce,
        ),
        (
            "TE.CL",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{inner}"
            ),
            Fate::AtMostOnce,
        ),
        (
            "TE.TE",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{inner}"
            ),
            Fate::Refused(400),
        ),
        (
            "TE x",
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
            Fate::Refused(400),
        ),
        (
            "TE space",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        (
            "TE in 1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        (
            "two lengths",
            format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: {}\r\n\r\n{inner}",
                inner.len()
            ),
            Fate::Refused(400),
        ),
        (
            "a list of lengths",
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, {}\r\n\r\n{inner}", inner.len()),
            Fate::Refused(400),
        ),
        (
            "a signed length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody".into(),
            Fate::Refused(400),
        ),
        (
            "a negative length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        (
            "obs-fold",
            "GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        ("bare CR", "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n".into(), Fate::Refused(400)),
        ("NUL", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".into(), Fate::Refused(400)),
        (
            "a chunk too long",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".into(),
            Fate::Refused(400),
        ),
        (
            "two hosts",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        ("no host", "GET / HTTP/1.1\r\nConnection: close\r\n\r\n".into(), Fate::Refused(400)),
        ("a bad host", "GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".into(), Fate::Refused(400)),
        (
            "user information",
            "GET / HTTP/1.1\r\nHost: b@a\r\nConnection: close\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        (
            "another host in the target",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".into(),
            Fate::Refused(400),
        ),
        (
            "a tunnel",
            "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\nConnection: close\r\n\r\n".into(),
            Fate::Refused(501),
        ),
        ("a version", "GET / HTTP/3.7\r\nHost: a\r\n\r\n".into(), Fate::Refused(400)),
        (
            "a long target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000)),
            Fate::Refused(431),
        ),
        (
            "a long head",
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(70_000)),
            Fate::Refused(431),
        ),
    ];
    for (name, request, fate) in cases {
        let before = one.requests();
        let answer = raw(address(&node), request.as_bytes()).await;
        let seen = one.requests() - before;
        match fate {
            Fate::Refused(status) => {
                // What is not read of a long request resets the connection, and the response may be lost.
                let may_be_lost = request.len() > 64 * 1024 && answer.is_empty();
                let is_refused = may_be_lost || answer.split(' ').nth(1) == Some(&status.to_string());
                assert!(is_refused, "{name}: {answer:?}");
                assert!(seen == 0 || name == "a chunk too long", "{name} reached the backend");
            }
            Fate::AtMostOnce => {
                assert!(seen <= 1, "{name}: {answer}");
                assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{name}: {answer}");
            }
        }
        assert!(!answer.contains("smuggled"), "{name}: {answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_request_with_two_framings_is_answered_once() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    for framing in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n0\r\n\r\n");
        let answer = raw(address(&node), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
        assert!(!answer.contains("content-length\",\"4"), "the backend sees one framing: {answer}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_talks_nonsense_is_a_bad_gateway() {
    let cases: [&[u8]; 6] = [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        b"\x16\x03\x01",
        b"",
    ];
    for bytes in cases {
        let (at, serving) = backend::saying(bytes).await;
        let node = TestNode::with(&config(&[at], "")).await;
        let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(response.status(), 502, "{}", String::from_utf8_lossy(bytes));
        node.stop().await;
        serving.abort();
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_not_passed_on_as_whole() {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ] {
        let (at, serving) = backend::saying(bytes).await;
        let node = TestNode::with(&config(&[at], "")).await;
        let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert!(response.bytes().await.is_err(), "{}", String::from_utf8_lossy(bytes));
        node.stop().await;
        serving.abort();
    }
}

#[tokio::test]
async fn a_body_that_nobody_gets_is_no_request() {
    let one = Backend::start("one").await;
    let routes =
        "route = [{ path = \"/own\", respond = { status = 200, body = \"own\" } }, { pool = \"api\" }]\n";
    let node = TestNode::with(&config(&[one.address], "").replacen("pool = \"api\"\n", routes, 1)).await;
    let inner = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET /own HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for header in ["", "TE: trailers\r\n"] {
        for (framing, body) in [
            (format!("Content-Length: {}", inner.len()), inner.to_owned()),
            ("Transfer-Encoding: chunked".into(), format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len())),
        ] {
            let mut stream = TcpStream::connect(address(&node)).await.unwrap();
            let head = format!("POST /own HTTP/1.1\r\nHost: a\r\n{framing}\r\n{header}\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"own") {
                timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("a response").unwrap();
            }
            // The body comes only now.
            stream.write_all(format!("{body}{last}").as_bytes()).await.ok();
            timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the end").ok();
            let answer = String::from_utf8_lossy(&answer);
            let answers = answer.matches("HTTP/1.1 ").count();
            assert_eq!(answers, answer.matches("HTTP/1.1 200 OK").count(), "{framing}: {answer}");
            assert_eq!((answers, one.requests()), (answer.matches("own").count(), 0), "{framing}: {answer}");
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_response_that_nobody_asked_for_is_for_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let both = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                    stream.write_all(both.as_bytes()).await.ok();
                }
            });
        }
    });
    let node = TestNode::with(&config(&[at], "")).await;
    for method in ["GET", "PROPFIND"] {
        for _ in 0..10 {
            let url = format!("http://{}/", address(&node));
            let response = client().request(method.parse().unwrap(), url).send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "mine", "{method}");
        }
    }
    node.stop().await;
    serving.abort();
}

#[tokio::test]
async fn a_connection_does_not_become_one_of_http_2() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "").await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let get = "GET / HTTP/1.1\r\nHost: a\r\n";
    let answer = raw(address(&node), format!("{get}\r\n{preface}").as_bytes()).await;
    // RFC 9113 §3.3: only a connection that begins with it.
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}'), "{answer:?}");
    let upgrade =
        "Connection: upgrade, http2-settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let answer = raw(address(&node), format!("{get}{upgrade}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("h2c"), "{answer}");
    node.stop().await;
}

#[tokio::test]
async fn trailers_without_end_are_cut_off() {
    let one = Backend::start("one").await;
    let node = node(&[&one], "timeout = { read = \"50s\" }").await;
    for header in ["", "TE: trailers\r\n"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{header}\r\n");
        let answer = raw(address(&node), format!("{head}0\r\nX: {}", "x".repeat(40_000)).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    node.stop().await;
}
