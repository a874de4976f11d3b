//! Clients that send or read too little, or nothing. Time is paused: it advances when nothing else happens.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::model::{Listener, Protocol, Proxy, Route, RouteAction, When};
use crate::proxy::Shared;
use crate::proxy::worker::Context;
use crate::route;
use crate::snapshot::{Plan, Snapshot};

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(3600);

/// The client's end of a connection whose requests are all answered with this text, and the task that serves it.
fn connection(text: &str, closing: &CancellationToken) -> (DuplexStream, JoinHandle<()>) {
    let respond = RouteAction::Respond { status: http::StatusCode::OK, body: text.to_owned() };
    let listener = Listener {
        name: "web".into(),
        addresses: Vec::new(),
        protocol: Protocol::Http,
        routes: vec![Route { when: When::default(), action: respond }],
    };
    let proxy = Proxy { listeners: vec![listener], ..Proxy::default() };
    let plan = Plan { proxy: route::Plan::compile(&proxy), ..Plan::default() };
    let snapshot = Snapshot { plan: Arc::new(plan), standing: Arc::default(), epoch: 1 };
    let shared = Shared {
        snapshots: Arc::new(ArcSwap::from_pointee(snapshot)),
        counters: Arc::default(),
        supervisor: crate::supervise::Supervisor::default(),
        connections: Arc::default(),
        upstream: Arc::default(),
        most_connections: 1,
    };
    let client = Client {
        counters: shared.counters.listener("web"),
        context: Rc::new(Context::new(0, shared, closing.clone())),
        listener: "web".into(),
        address: ([192, 0, 2, 1], 1).into(),
    };
    let (ours, theirs) = duplex(1024);
    (ours, tokio::task::spawn_local(serve(Rc::new(client), theirs)))
}

async fn locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_or_half_a_head_is_closed() {
    locally(async {
        for bytes in ["", "P", "PRI * HTTP/2", "GET / HTTP/1.1\r\nHost: a\r\n"] {
            let (mut client, served) = connection("", &CancellationToken::new());
            client.write_all(bytes.as_bytes()).await.unwrap();
            timeout(LONG, served).await.expect(bytes).unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    locally(async {
        let (client, served) = connection("text", &CancellationToken::new());
        let (mut sender, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::task::spawn_local(driver);
        for _ in 0..5 {
            let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "text");
            tokio::time::sleep(HEAD_WITHIN / 2).await;
        }
        timeout(LONG, served).await.expect("HTTP/2 is closed").unwrap();

        let (mut client, served) = connection("text", &CancellationToken::new());
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        timeout(LONG, client.read_to_string(&mut answer)).await.expect("HTTP/1.1 is closed").unwrap();
        assert!(answer.ends_with("text"), "{answer}");
        served.await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_closed() {
    locally(async {
        let (mut client, served) = connection(&"long".repeat(100_000), &CancellationToken::new());
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        timeout(LONG, served).await.expect("it is closed").unwrap();
        drop(client);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_half_a_head() {
    locally(async {
        let closing = CancellationToken::new();
        let (mut client, served) = connection("", &closing);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        closing.cancel();
        timeout(CLOSE_WITHIN * 2, served).await.expect("it is closed").unwrap();
    })
    .await;
}
