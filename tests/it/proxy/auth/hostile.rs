//! Services that fail or mean harm: no request passes without consent, and none hinders others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::{client, metric, shown};
use super::{Backend, Manner, Service, address, forward, node, raw};
use crate::harness::node::TestNode;
use crate::harness::until;

/// A service that reads a question on each connection, and then does this with it.
async fn service<F>(behave: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                connections.spawn(behave(stream));
            }
        }
    });
    address
}

async fn get(node: &TestNode, path: &str) -> reqwest::Response {
    client().get(format!("http://{}{path}", address(node))).send().await.unwrap()
}

/// Bytes that a flood may take before its connection is closed: buffers of the kernel, and what is read of an answer.
const MOST_TAKEN: usize = 64 << 20;

#[tokio::test]
async fn floods_are_cut_off() {
    let one = Backend::start("one").await;
    // A flood that does not end by itself is ended by the time for an answer.
    for (start, flood, timeout) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", "x".repeat(1000), "50s"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            format!("3e8\r\n{}\r\n", "x".repeat(1000)),
            "50s",
        ),
        ("HTTP/1.1 403 No\r\n\r\n", "x".repeat(1000), "50s"),
        ("HTTP/1.1 200 OK\r\n", format!("X-Flood: {}\r\n", "x".repeat(1000)), "50s"),
        ("HTTP/1.1 ", "2".repeat(1000), "50s"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(40), "500ms"),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(20), "500ms"),
    ] {
        let (taken, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (count, end, bytes) = (Arc::clone(&taken), Arc::clone(&ended), flood.clone());
        let at = service(move |mut stream| {
            let (count, end, bytes) = (Arc::clone(&count), Arc::clone(&end), bytes.clone());
            async move {
                stream.write_all(start.as_bytes()).await.ok();
                while stream.write_all(bytes.as_bytes()).await.is_ok() {
                    count.fetch_add(bytes.len(), SeqCst);
                }
                end.fetch_add(1, SeqCst);
            }
        })
        .await;
        // The time for the parts of a response does not end what never pauses.
        let node = node(&one, &format!("forward = \"http://{at}\", timeout = \"{timeout}\"")).await;
        let before = one.requests();
        let (refused, other) = tokio::join!(get(&node, "/x"), get(&node, "/open"));
        assert_eq!((refused.status().as_u16(), other.status().as_u16()), (503, 200), "{start}{flood:.40}");
        assert_eq!(one.requests() - before, 1);
        until("the service is left", async || (ended.load(SeqCst) > 0).then_some(())).await;
        let is_endless = timeout != "50s";
        assert!(is_endless || taken.load(SeqCst) < MOST_TAKEN, "{} bytes of {start}", taken.load(SeqCst));
        node.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_clear_is_none() {
    let one = Backend::start("one").await;
    let cases: &[&[u8]] = &[
        b"",
        b"nonsense\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        // SETTINGS of HTTP/2, and its 200 without END_STREAM.
        b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nX-User: a\0b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ];
    for answer in cases {
        let at = service(move |mut stream| async move {
            stream.write_all(answer).await.ok();
            stream.shutdown().await.ok();
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
        })
        .await;
        let node = node(&one, &format!("forward = \"http://{at}\", headers = [\"x-user\"]")).await;
        assert_eq!(get(&node, "/x").await.status(), 503, "{}", String::from_utf8_lossy(answer));
        node.stop().await;
    }
    let resetting = service(|stream| async move { stream.set_zero_linger().unwrap() }).await;
    let node = node(&one, &format!("forward = \"http://{resetting}\"")).await;
    assert_eq!(get(&node, "/x").await.status(), 503);
    assert_eq!(one.requests(), 0);
    node.stop().await;
}

#[tokio::test]
async fn consent_that_comes_unasked_is_for_nobody() {
    let one = Backend::start("one").await;
    let consent = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for no in ["HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 304 No\r\n\r\n"] {
        let at = service(move |mut stream| async move {
            let mut question = [0; 4096];
            while stream.write_all(format!("{no}{consent}").as_bytes()).await.is_ok() {
                if stream.read(&mut question).await.is_ok_and(|read| read == 0) {
                    return;
                }
            }
        })
        .await;
        let node = node(&one, &format!("forward = \"http://{at}\"")).await;
        for _ in 0..20 {
            let status = get(&node, "/x").await.status().as_u16();
            assert!([401, 304, 503].contains(&status), "{status}");
        }
        assert_eq!(one.requests(), 0);
        node.stop().await;
    }
}

#[tokio::test]
async fn redirects_are_for_the_client_to_follow() {
    let one = Backend::start("one").await;
    let service =
        Service::saying("HTTP/1.1 307 Go\r\nLocation: /verify\r\nContent-Length: 5\r\n\r\nlogin").await;
    let node = node(&one, &forward(&service, "")).await;
    let request = |method| format!("{method} /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    for (method, body) in [("GET", "login"), ("HEAD", "")] {
        let answer = raw(address(&node), request(method).as_bytes()).await;
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 307 ") && head.contains("location: /verify"), "{answer}");
        assert_eq!(rest, body, "{method}");
    }
    assert_eq!((service.questions().len(), one.requests()), (2, 0));
    node.stop().await;
}

#[tokio::test]
async fn while_the_service_is_down_and_backends_are_slow_others_are_served_and_all_recovers() {
    let (one, asked) = (Backend::start("one").await, Backend::start("asked").await);
    let auth = format!("forward = \"http://{}\", timeout = \"300ms\"", asked.address);
    let node = node(&one, &auth).await;
    let url = format!("http://{}/x", address(&node));
    let flood = |count| {
        let mut sent = JoinSet::new();
        for _ in 0..count {
            let request = client().get(&url);
            sent.spawn(async move { request.send().await.unwrap().status().as_u16() });
        }
        sent
    };
    assert_eq!(flood(1).join_all().await, [200]);
    // It hangs, and so do those that need it; each for its time.
    asked.behave(Manner::Hang);
    let waiting = flood(50);
    until("it is asked", async || (asked.requests() > 1).then_some(())).await;
    assert_eq!(shown(get(&node, "/open").await).await["backend"], "one");
    assert_eq!(waiting.join_all().await, [503; 50]);
    // It is gone altogether.
    let at = asked.kill().await;
    assert_eq!(flood(50).join_all().await, [503; 50]);
    one.behave(Manner::Status(503));
    assert_eq!(get(&node, "/open").await.text().await.unwrap(), "503 of one");
    assert_eq!(flood(10).join_all().await, [503; 10]);
    assert_eq!(one.requests(), 3, "none passed meanwhile");
    until("nothing is in flight", async || {
        (metric(&node, "portolan_proxy_in_flight", one.address).await == Some(0.0)).then_some(())
    })
    .await;
    one.behave(Manner::Show);
    let again = Backend::at("again", at).await;
    until("it is asked again", async || (get(&node, "/x").await.status() == 200).then_some(())).await;
    let seen: Value = shown(client().get(&url).send().await.unwrap()).await;
    assert!(seen["backend"] == "one" && again.requests() > 1, "{seen}");
    node.stop().await;
}
