//! HTTP/2 to backends.

mod backend;
mod grpc;
mod grpcio;
mod hostile;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use reqwest::Method;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::backend::Backend;
use super::early::sends_all;
use super::{address, client, config, header, metric, raw, reload, shown};
use crate::harness::folder::Folder;
use crate::harness::node::TestNode;
use crate::harness::until;
use backend::{Frames, GOAWAY, RST_STREAM, listen};
pub(super) use backend::{Manner, Server};
pub(super) use grpc::connect;
pub(super) use websocket::{echoed, tunnel};

const H2: &str = "http = \"h2\"";

/// A node whose pool has these backends over HTTP/2, and further keys.
async fn node(backends: &[&Server], pool: &str) -> TestNode {
    let addresses: Vec<_> = backends.iter().map(|it| it.address).collect();
    TestNode::with(&config(&addresses, &format!("{H2}\n{pool}"))).await
}

async fn post(node: &TestNode, body: impl Into<reqwest::Body>) -> reqwest::Response {
    client().post(format!("http://{}/", address(node))).body(body).send().await.unwrap()
}

#[tokio::test]
async fn a_request_reaches_a_backend_as_one_of_http_2() {
    let one = Server::start(Manner::Show).await;
    let node = node(&[&one], "").await;
    let request = client()
        .request(Method::PUT, format!("http://{}/a/b?c=d", address(&node)))
        .header("host", "www.test:81")
        .header("connection", "x-mine, upgrade")
        .header("upgrade", "echo")
        .header("x-mine", "of one hop")
        .header("te", "trailers")
        .body("content");
    let seen = shown(request.send().await.unwrap()).await;
    let expected =
        json!({ "method": "PUT", "scheme": "http", "authority": "www.test:81", "target": "/a/b?c=d" });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&seen[name], value, "{name}");
    }
    assert_eq!(seen["body"], "content");
    for (name, expected) in [
        ("host", &[][..]),
        ("connection", &[]),
        ("upgrade", &[]),
        ("x-mine", &[]),
        ("transfer-encoding", &[]),
        ("te", &["trailers"]),
        ("content-length", &["7"]),
        ("via", &["1.1 portolan"]),
        ("x-forwarded-host", &["www.test:81"]),
    ] {
        assert_eq!(header(&seen, name), expected, "{name}");
    }
    // What has no headers that the general path is for, bodies without a length, and targets that are no paths.
    let chunked = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    let answer = raw(address(&node), chunked).await;
    assert!(answer.contains("\"body\":\"ab\"") && !answer.contains("transfer-encoding\",\""), "{answer}");
    let answer = raw(address(&node), b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.contains("\"target\":\"*\""), "{answer}");
    let answer = raw(address(&node), b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("\"target\":\"/old\"") && answer.contains("\"authority\":\"-\""), "{answer}");
    assert_eq!(one.connections(), 1);
    node.stop().await;
}

#[tokio::test]
async fn requests_share_connections_as_far_as_the_backend_allows() {
    for (most, connections) in [(None, 1), (Some(2), 3)] {
        let one = Server::with(Manner::Hold, most, None).await;
        let node = node(&[&one], "").await;
        let mut requests = JoinSet::new();
        let url = format!("http://{}/", address(&node));
        for _ in 0..6 {
            let request = client().post(&url).body("x");
            requests.spawn(async move { request.send().await.unwrap().status() });
        }
        until("all are with the backend", async || (one.requests() == 6).then_some(())).await;
        assert_eq!((one.connections(), one.busiest()), (connections, u64::from(most.unwrap_or(6))));
        let in_flight = metric(&node, "portolan_proxy_in_flight", one.address).await;
        assert_eq!(in_flight, Some(6.0));
        one.behave(Manner::Show);
        until("all are answered", async || {
            one.release();
            while let Some(done) = requests.try_join_next() {
                assert_eq!(done.unwrap(), 200);
            }
            requests.is_empty().then_some(())
        })
        .await;
        let in_flight = metric(&node, "portolan_proxy_in_flight", one.address).await;
        assert_eq!(in_flight, Some(0.0));
        node.stop().await;
    }
}

#[tokio::test]
async fn what_a_backend_refused_is_sent_again_whatever_it_is() {
    let (one, two) = (Server::start(Manner::Show).await, Server::start(Manner::Show).await);
    let node = node(&[&one, &two], "retry = { budget = \"100%\" }").await;
    for refuses in [&one, &two] {
        refuses.behave(Manner::Reset(Reason::REFUSED_STREAM));
        for _ in 0..4 {
            let seen = shown(post(&node, "once").await).await;
            assert_eq!(seen["body"], "once");
        }
        refuses.behave(Manner::Show);
    }
    // One that ended it for another reason may have done it.
    one.behave(Manner::Reset(Reason::CANCEL));
    let before = two.requests();
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(post(&node, "once").await.status().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!((statuses, two.requests() - before), (vec![200, 200, 502, 502], 2));
    node.stop().await;
}

#[tokio::test]
async fn a_long_upload_that_was_refused_is_not_sent_again_in_part() {
    let one = Server::start(Manner::NoWindow).await;
    let node = node(&[&one], "").await;
    let long = vec![b'a'; 1 << 20];
    let url = format!("http://{}/", address(&node));
    let sending = tokio::spawn(async move { client().post(url).body(long).send().await.unwrap().status() });
    until("the request is with the backend", async || (one.requests() == 1).then_some(())).await;
    // Only the window of 64 KiB was sent; the connection ends with the backend.
    drop(one);
    assert_eq!(sending.await.unwrap(), 502);
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_to_keep_is_not_sent_again() {
    let (listener, at) = listen().await;
    let node = TestNode::with(&config(&[at], &format!("{H2}\nretry = {{ budget = \"100%\" }}"))).await;
    let mut frames: Option<Frames> = None;
    for (kib, is_kept) in [(60, true), (100, false)] {
        let length = kib << 10;
        let request = client().post(format!("http://{}/", address(&node))).body(vec![b'a'; length]);
        let sending = tokio::spawn(async move { request.send().await.unwrap().status().as_u16() });
        let frames = match &mut frames {
            Some(frames) => frames,
            frames => frames.insert(Frames::accept(&listener).await),
        };
        let stream = frames.request().await.unwrap();
        frames.body(stream, length).await;
        frames.send(RST_STREAM, 0, stream, &u32::from(Reason::REFUSED_STREAM).to_be_bytes()).await;
        if is_kept {
            let again = frames.request().await.unwrap();
            frames.body(again, length).await;
            frames.respond(again, "all of it").await;
        }
        assert_eq!(sending.await.unwrap(), if is_kept { 200 } else { 502 }, "{kib} KiB");
    }
    assert_eq!(node.api.metric("portolan_proxy_retries_total{pool=\"api\"}").await, Some(1.0));
    drop(frames);
    node.stop().await;
}

#[tokio::test]
async fn a_post_is_lost_with_its_connection() {
    let (listener, at) = listen().await;
    let node = TestNode::with(&config(&[at], &format!("{H2}\nretry = {{ on = \"connect\" }}"))).await;
    let send = || {
        let request = client().post(format!("http://{}/", address(&node))).body("once");
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    };
    let first = send();
    let mut frames = Frames::accept(&listener).await;
    let stream = frames.request().await.unwrap();
    frames.respond(stream, "one").await;
    assert_eq!(first.await.unwrap(), 200);
    let second = send();
    frames.request().await.unwrap();
    // It may have done it.
    drop(frames);
    assert_eq!(second.await.unwrap(), 502);
    assert!(listener.into_std().unwrap().accept().is_err(), "no other connection");
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_goes_away_ends_what_it_has_begun_and_nothing_is_lost() {
    let (listener, at) = listen().await;
    let node = TestNode::with(&config(&[at], H2)).await;
    let url = format!("http://{}/", address(&node));
    let send = || {
        let request = client().post(&url).body("once");
        tokio::spawn(async move { request.send().await.unwrap().text().await.unwrap() })
    };
    let begun = send();
    let mut old = Frames::accept(&listener).await;
    let first = old.request().await.unwrap();
    let after = send();
    let second = old.request().await.unwrap();
    assert!(second > first);
    // It has processed the first request only.
    let mut payload = first.to_be_bytes().to_vec();
    payload.extend_from_slice(&0_u32.to_be_bytes());
    old.send(GOAWAY, 0, 0, &payload).await;
    let mut new = Frames::accept(&listener).await;
    let again = new.request().await.unwrap();
    new.respond(again, "new").await;
    assert_eq!(after.await.unwrap(), "new");
    let third = send();
    let again = new.request().await.unwrap();
    new.respond(again, "new").await;
    assert_eq!(third.await.unwrap(), "new");
    old.respond(first, "old").await;
    assert_eq!(begun.await.unwrap(), "old");
    assert_eq!(metric(&node, "portolan_proxy_failures_total", at).await, Some(0.0));
    drop((old, new));
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_takes_no_more_of_a_request_times_out() {
    let one = Server::start(Manner::NoWindow).await;
    let node = node(&[&one], "timeout = { write = \"300ms\" }").await;
    assert_eq!(post(&node, vec![b'a'; 1 << 20]).await.status(), 504);
    assert_eq!(metric(&node, "portolan_proxy_failures_total", one.address).await, Some(1.0));
    // The connection goes on.
    one.behave(Manner::Show);
    shown(post(&node, "short").await).await;
    assert_eq!(one.connections(), 1);
    node.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_half_dead_ones_are_noticed() {
    let one = Server::start(Manner::Show).await;
    let node_with_idle = node(&[&one], "timeout = { idle = \"100ms\" }").await;
    shown(post(&node_with_idle, "x").await).await;
    until("the idle connection is closed", async || (one.open() == 0).then_some(())).await;
    shown(post(&node_with_idle, "x").await).await;
    assert_eq!(one.connections(), 2);
    node_with_idle.stop().await;

    let (listener, at) = listen().await;
    let node = TestNode::with(&config(&[at], &format!("{H2}\ntimeout = {{ read = \"400ms\" }}"))).await;
    let url = format!("http://{}/", address(&node));
    let sent = tokio::spawn(async move { client().get(url).send().await.unwrap().text().await.unwrap() });
    let mut silent = Frames::accept(&listener).await;
    let stream = silent.request().await.unwrap();
    silent.respond(stream, "one").await;
    assert_eq!(sent.await.unwrap(), "one");
    // It replies to no ping from now on.
    until("the connection is given up", async || silent.next().await.is_none().then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_ends_with_the_drain() {
    let (one, two) = (Server::start(Manner::Hold).await, Server::start(Manner::Show).await);
    let node = node(&[&one, &two], "drain = \"0s\"").await;
    let url = format!("http://{}/", address(&node));
    let sent = tokio::spawn(async move { client().get(url).send().await.unwrap().status() });
    until("the request is with the backend", async || (one.requests() == 1).then_some(())).await;
    let target = format!("pool/api/{}", one.address);
    node.api.override_with(json!({ "target": target, "action": "drain" })).await;
    assert_eq!(sent.await.unwrap(), 502);
    until("the connection is closed", async || (one.open() == 0).then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn a_backend_of_the_other_http_is_a_failed_connect() {
    let (old, new) = (Backend::start("old").await, Server::start(Manner::Show).await);
    let node = TestNode::with(&config(&[old.address, new.address], &format!("{H2}\npassive = false"))).await;
    for _ in 0..4 {
        shown(post(&node, "once").await).await;
    }
    assert_eq!((old.requests(), new.requests()), (0, 4));
    // A reload changes it for the connections to come.
    node.folder.reconfigure(H2, "http = \"h1\"");
    reload(&node).await;
    let statuses = [post(&node, "once").await.status(), post(&node, "once").await.status()];
    assert!(statuses.contains(&reqwest::StatusCode::OK) && old.requests() > 0, "{statuses:?}");
    node.stop().await;
}

/// A backend's side of TLS that offers these protocols, and its certificate.
fn acceptor(alpn: &[&[u8]]) -> (TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["api.internal".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    (TlsAcceptor::from(Arc::new(config)), made.cert.pem())
}

#[tokio::test]
async fn over_tls_it_is_negotiated() {
    for (alpn, status) in
        [(&[&b"h2"[..]][..], 200), (&[b"http/1.1", b"h2"], 200), (&[b"http/1.1"], 502), (&[], 502)]
    {
        let (acceptor, certificate) = acceptor(alpn);
        let one = Server::with(Manner::Show, None, Some(acceptor)).await;
        let tls = "tls = { sni = \"api.internal\", ca = \"ca.pem\" }";
        let folder = Folder::new(&config(&[one.address], &format!("{H2}\n{tls}")));
        folder.write("ca.pem", &certificate);
        let node = TestNode::start(folder).await;
        let response = post(&node, "x").await;
        assert_eq!(response.status(), status, "{alpn:?}");
        if status == 200 {
            assert_eq!(response.json::<Value>().await.unwrap()["scheme"], "https");
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn clients_of_http_2_reach_backends_of_http_2() {
    let one = Server::start(Manner::Show).await;
    let node = node(&[&one], "").await;
    let stream = TcpStream::connect(address(&node)).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut streams = JoinSet::new();
    for index in 0..150 {
        let request =
            hyper::Request::post("http://www.test/h2").body(Full::<Bytes>::from(format!("{index}")));
        let mut sender = sender.clone();
        streams.spawn(async move {
            let response = sender.send_request(request.unwrap()).await.unwrap();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let seen: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!((&seen["body"], &seen["authority"]), (&format!("{index}").into(), &"www.test".into()));
        });
    }
    while let Some(done) = streams.join_next().await {
        done.unwrap();
    }
    assert!(one.connections() <= 2, "{}", one.connections());
    drop(sender);
    node.stop().await;
}

#[tokio::test]
async fn a_response_during_an_upload_ends_it() {
    let one = Server::start(Manner::TooLarge).await;
    let node = node(&[&one], "").await;
    for _ in 0..3 {
        let answer = sends_all(&node, "").await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("too large"), "{answer}");
    }
    until("nothing is in flight", async || {
        (metric(&node, "portolan_proxy_in_flight", one.address).await == Some(0.0)).then_some(())
    })
    .await;
    one.behave(Manner::Show);
    shown(post(&node, "short").await).await;
    assert_eq!(one.connections(), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_hedge_that_has_won_resets_the_stream_of_the_other_backend() {
    let (one, two) = (Server::start(Manner::NoWindow).await, Server::start(Manner::Show).await);
    let node = node(&[&one, &two], "hedge = \"10ms\"\npassive = false").await;
    for _ in 0..4 {
        shown(client().get(format!("http://{}/", address(&node))).send().await.unwrap()).await;
    }
    assert_eq!((one.requests(), two.requests()), (2, 4));
    until("the streams are reset", async || (one.busy() == 0).then_some(())).await;
    assert_eq!((one.connections(), one.open()), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn heads_have_a_hundred_headers_at_most() {
    let one = Server::start(Manner::Show).await;
    let node = node(&[&one], "").await;
    let stream = TcpStream::connect(address(&node)).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut h2, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    for (count, expected) in [(90, 200), (101, 431)] {
        let mut request = client().get(format!("http://{}/", address(&node)));
        let mut of_h2 = http::Request::get("http://a/").body(Full::<Bytes>::default()).unwrap();
        for index in 0..count {
            request = request.header("x-many", index);
            of_h2.headers_mut().append("x-many", index.into());
        }
        assert_eq!(request.send().await.unwrap().status(), expected, "{count}");
        assert_eq!(h2.send_request(of_h2).await.unwrap().status(), expected, "{count} over HTTP/2");
    }
    for (count, expected) in [(90, 200), (101, 502)] {
        one.behave(Manner::ManyHeaders(count));
        let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
        assert_eq!(response.status(), expected, "{count}");
    }
    node.stop().await;
}
