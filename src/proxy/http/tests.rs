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
use crate::model::{
    Backend, BackendReach, Balance, ClientLimits, Condition, Edits, Fraction, Listener, Liveness, Pool,
    PoolId, Protocol, Proxy, Retry, RetryOn, Route, RouteAction, TcpOptions, Timeouts, Topology, Weight,
    When,
};
use crate::proxy::Shared;
use crate::proxy::worker::Context;
use crate::route;
use crate::snapshot::{Plan, Snapshot};
use crate::standing::{OpenAddress, PoolStanding, Standing};

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(3600);

/// The client's end of a connection to a listener with this route, and the task that serves it.
fn connect(
    action: RouteAction,
    topology: Topology,
    standing: Standing,
    closing: &CancellationToken,
) -> (DuplexStream, JoinHandle<()>) {
    let listener = Listener {
        name: "web".into(),
        addresses: Vec::new(),
        protocol: Protocol::Http,
        proxy_protocol: false,
        tcp: TcpOptions::default(),
        client: ClientLimits::default(),
        tls: None,
        routes: vec![Route { when: When::default(), action, edits: Edits::default() }],
        ready: None,
    };
    let proxy = Proxy { listeners: vec![listener], ..Proxy::default() };
    let plan = Plan { topology: Arc::new(topology), proxy: route::Plan::compile(&proxy), ..Plan::default() };
    let snapshot = Snapshot { plan: Arc::new(plan), standing: Arc::new(standing), epoch: 1 };
    let shared = Shared {
        snapshots: Arc::new(ArcSwap::from_pointee(snapshot)),
        counters: Arc::default(),
        clients: Arc::default(),
        failing: tokio::sync::mpsc::channel(1).0,
        supervisor: crate::supervise::Supervisor::default(),
        connections: Arc::default(),
        upstream: Arc::default(),
        most_connections: 1,
        stopping: CancellationToken::new(),
    };
    let (lines, _) = std::sync::mpsc::sync_channel(1);
    let access = crate::proxy::access::Sink::new(lines, Arc::clone(&shared.counters));
    let client = Client {
        counters: shared.counters.listener("web"),
        context: Rc::new(Context::new(0, shared, access, closing.clone())),
        listener: "web".into(),
        admitted: None,
        address: ([192, 0, 2, 1], 1).into(),
        destination: None,
        peer: ([192, 0, 2, 1], 1).into(),
        shown: shown([192, 0, 2, 1].into()),
        proved: None,
    };
    let (ours, theirs) = duplex(1024);
    (ours, tokio::task::spawn_local(serve(Rc::new(client), theirs)))
}

/// The same for a connection whose requests are all answered with this text.
fn connection(text: &str, closing: &CancellationToken) -> (DuplexStream, JoinHandle<()>) {
    let respond = RouteAction::Respond { status: http::StatusCode::OK, body: text.to_owned() };
    connect(respond, Topology::default(), Standing::default(), closing)
}

/// A pool with this backend, and its standing.
fn pool(at: std::net::SocketAddr) -> (Pool, PoolStanding) {
    let second = Duration::from_secs(1);
    let backend = Backend {
        name: at.to_string(),
        reach: BackendReach::Address(at.ip()),
        port: at.port(),
        weight: Weight(1),
        backup: false,
    };
    let pool = Pool {
        name: "api".into(),
        balance: Balance::RoundRobin,
        backends: vec![backend],
        discover: None,
        healthy_when: Condition::ALWAYS,
        passive: None,
        panic: None,
        limits: None,
        slow_start: None,
        retry: Retry { tries: 1, on: RetryOn::default(), budget: Fraction::WHOLE },
        timeout: Timeouts { connect: second, read: second * 10, write: LONG, idle: LONG },
        keepalive: 1,
        drain: second,
        send_proxy: None,
        tcp: Liveness::default(),
        sticky: None,
    };
    let open = OpenAddress { backend: 0, address: at, hash: crate::pick::Hash::of(b"a"), weight: 1.0 };
    (pool, PoolStanding { open: Arc::new([open]), ..PoolStanding::default() })
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

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_window_is_closed() {
    locally(async {
        for window in [0, 1000] {
            let (client, served) = connection(&"long".repeat(100_000), &CancellationToken::new());
            let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(window);
            let (mut sender, driver) = builder.handshake(TokioIo::new(client)).await.unwrap();
            tokio::task::spawn_local(driver);
            let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
            let response = sender.send_request(request).await.unwrap();
            timeout(LONG, served).await.expect("it is closed").unwrap();
            drop(response);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_nothing_is_reset_and_others_go_on() {
    locally(async {
        let (client, served) = connection(&"long".repeat(10_000), &CancellationToken::new());
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1000);
        let (sender, driver) = builder.handshake(TokioIo::new(client)).await.unwrap();
        tokio::task::spawn_local(driver);
        let send =
            || sender.clone().send_request(Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap());
        let mut stalled = send().await.unwrap().into_body();
        // Requests for twice the time that a client may take nothing.
        for _ in 0..8 {
            tokio::time::sleep(STALL / 4).await;
            let whole = send().await.unwrap().into_body().collect().await.expect("its stream goes on");
            assert_eq!(whole.to_bytes().len(), 40_000);
        }
        // hyper takes the reset for an early end.
        let taken = async {
            let mut taken = 0;
            while let Some(Ok(frame)) = stalled.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
            }
            taken
        };
        assert!(timeout(LONG, taken).await.expect("its stream was reset") < 40_000);
        assert!(!served.is_finished());
    })
    .await;
}

#[tokio::test]
async fn streams_open_no_more_connections_to_backends_than_allowed() {
    locally(async {
        let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (pool, standing) = pool(backend.local_addr().unwrap());
        let topology = Topology { pools: vec![pool], ..Topology::default() };
        let standing = Standing { pools: [standing].into(), ..Standing::default() };
        let forward = RouteAction::Forward(vec![(PoolId(0), Weight(1))]);
        let (client, _served) = connect(forward, topology, standing, &CancellationToken::new());
        let (sender, driver) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client)).await.unwrap();
        tokio::task::spawn_local(driver);
        let send = || {
            let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
            tokio::task::spawn_local(sender.clone().send_request(request))
        };
        let first = send();
        let (mut stream, _) = backend.accept().await.unwrap();
        let refused = send().await.unwrap().unwrap();
        assert_eq!(refused.status(), 503);
        let reason = refused.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(reason, "too many connections to backends are open\n");
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert_eq!(first.await.unwrap().unwrap().status(), 204);
    })
    .await;
}
