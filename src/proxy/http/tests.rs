//! Clients that send or read too little, or nothing. Time is paused: it advances when nothing else happens.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

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
    Backend, BackendReach, Balance, ClientLimits, Condition, Edits, Fraction, Http, Listener, Liveness, Pool,
    PoolId, Protocol, Proxy, RequestLimits, Retry, RetryOn, Route, RouteAction, TcpOptions, Timeouts,
    Topology, Weight, When,
};
use crate::net::limits::ProxyConnections;
use crate::net::record_log;
use crate::pick::Hash;
use crate::proxy::Shared;
use crate::proxy::access::AccessOutput;
use crate::proxy::pools::Pools;
use crate::proxy::worker::Context;
use crate::route;
use crate::snapshot::{Plan, Snapshot};
use crate::standing::{OpenAddress, PoolStanding, Standing};

/// Longer than any limit.
const LONG: Duration = Duration::from_secs(3600);

/// What all workers share, with this snapshot.
fn shared(plan: Plan, standing: Standing) -> Shared {
    let snapshot =
        Snapshot { plan: Arc::new(plan), standing: Arc::new(standing), challenges: <_>::default(), epoch: 1 };
    Shared {
        snapshots: Arc::new(ArcSwap::from_pointee(snapshot)),
        counters: Arc::default(),
        clients: Arc::default(),
        failing: tokio::sync::mpsc::channel(1).0,
        supervisor: crate::supervise::Supervisor::default(),
        connections: ProxyConnections::new(2),
        stopping: CancellationToken::new(),
    }
}

/// The client's end of a connection to a listener with this route, and the task that serves it.
fn connect(
    action: RouteAction,
    topology: Topology,
    standing: Standing,
    closing: &CancellationToken,
) -> (DuplexStream, JoinHandle<()>) {
    let limits = RequestLimits::default();
    let listener = Listener {
        name: "web".into(),
        addresses: Vec::new(),
        protocol: Protocol::Http,
        proxy_protocol: false,
        tcp: TcpOptions::default(),
        client: ClientLimits::default(),
        limits,
        tls: None,
        routes: vec![Route { when: When::default(), action, edits: Edits::default(), auth: None }],
        ready: None,
    };
    let proxy = Proxy { listeners: vec![listener], ..Proxy::default() };
    let plan = Plan { topology: Arc::new(topology), proxy: route::Plan::compile(&proxy), ..Plan::default() };
    let shared = shared(plan, standing);
    let output = AccessOutput::new(Arc::clone(&shared.snapshots));
    let (_, access) = record_log::Writer::start("access log", output, Arc::default()).expect("a thread");
    let client = Client {
        counters: shared.counters.listener("web"),
        context: Rc::new(Context::new(0, shared, access.sink(), closing.clone())),
        listener: "web".into(),
        limits,
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
        hedge: None,
        retry: Retry { tries: 1, on: RetryOn::default(), budget: Fraction::WHOLE },
        timeout: Timeouts { connect: second, read: second * 10, write: LONG, idle: LONG },
        keepalive: 1,
        drain: second,
        http: Http::H1,
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
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    locally(async {
        // In the lane, and on the general path.
        for before in ["", "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"] {
            let (client, served) = connection("", &CancellationToken::new());
            let (mut reader, mut writer) = tokio::io::split(client);
            tokio::task::spawn_local(async move { reader.read_to_end(&mut Vec::new()).await });
            writer.write_all(before.as_bytes()).await.unwrap();
            let begun = tokio::time::Instant::now();
            for byte in b"GET / HTTP/1.1\r\nX: ".iter().chain([b'x'].iter().cycle()) {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert!(begun.elapsed() < HEAD_WITHIN * 2, "{before:?}");
            }
            served.await.unwrap();
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
async fn a_client_that_reads_a_byte_now_and_then_is_closed() {
    locally(async {
        // The second request is one that hyper answers.
        for method in ["GET", "PROPFIND"] {
            let (mut client, served) = connection(&"long".repeat(100_000), &CancellationToken::new());
            client.write_all(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            let reading = async {
                while client.read_u8().await.is_ok() {
                    tokio::time::sleep(STALL / 60).await;
                }
            };
            timeout(LONG, reading).await.expect(method);
            served.await.unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_not_slow_while_its_backend_is() {
    locally(async {
        let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        for method in ["POST", "PROPFIND"] {
            let (mut pool, standing) = pool(backend.local_addr().unwrap());
            pool.timeout.read = LONG;
            let topology = Topology { pools: vec![pool], ..Topology::default() };
            let standing = Standing { pools: [standing].into(), ..Standing::default() };
            let forward = RouteAction::Forward(vec![(PoolId(0), Weight(1))]);
            let (client, _served) = connect(forward, topology, standing, &CancellationToken::new());
            let (mut reader, mut writer) = tokio::io::split(client);
            let length = 16 * 1024 * 1024;
            let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            tokio::task::spawn_local(async move {
                writer.write_all(head.as_bytes()).await.unwrap();
                writer.write_all(&vec![b'x'; length]).await.unwrap();
                std::future::pending::<()>().await;
            });
            let (mut stream, _) = backend.accept().await.unwrap();
            tokio::time::sleep(STALL * 10).await;
            let mut read = 0;
            let mut part = vec![0; 64 * 1024];
            while read < length {
                read += stream.read(&mut part).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let mut answer = [0; 13];
            reader.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"HTTP/1.1 204 ", "{method}");
        }
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

/// An HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_takes_nothing_is_reset_and_others_go_on() {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING_FRAME: u8 = 6;
    const WINDOW: u8 = 8;
    locally(async {
        let (mut client, served) = connection("text", &CancellationToken::new());
        // Streams have no window until they get one. The request is GET / of http://a.
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        client.write_all(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*settings].concat()).await.unwrap();
        let request = |stream| frame(HEADERS, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'a']);
        client.write_all(&request(1)).await.unwrap();
        let mut was_reset = false;
        // Requests for twice the time that a client may take nothing.
        for stream in (3..19).step_by(2) {
            tokio::time::sleep(STALL / 4).await;
            client
                .write_all(&[request(stream), frame(WINDOW, 0, stream, &[0, 0, 1, 0])].concat())
                .await
                .unwrap();
            loop {
                let mut head = [0; 9];
                client.read_exact(&mut head).await.unwrap();
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                client.read_exact(&mut payload).await.unwrap();
                let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                match (head[3], head[4]) {
                    (PING_FRAME, 0) => client.write_all(&frame(PING_FRAME, 1, 0, &payload)).await.unwrap(),
                    (RESET, _) => was_reset |= of == 1,
                    (DATA, 1) if of == stream => break,
                    _ => {}
                }
            }
        }
        assert!(was_reset && !served.is_finished());
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

#[tokio::test]
async fn no_hedge_takes_room_that_a_request_waits_for() {
    let (mut api, mut standing) = pool(([192, 0, 2, 1], 80).into());
    let (other, open) = pool(([192, 0, 2, 2], 80).into());
    api.backends.extend(other.backends);
    api.hedge = Some(Duration::from_millis(1));
    standing.open = standing.open.iter().chain(&*open.open).cloned().collect();
    let topology = Topology { pools: vec![api], ..Topology::default() };
    let plan = Plan { topology: Arc::new(topology), ..Plan::default() };
    let shared = shared(plan, Standing { pools: [standing].into(), ..Standing::default() });
    let snapshot = shared.snapshots.load_full();
    let pool = Pools::new(shared, 0).get(PoolId(0), &snapshot);
    let (key, tried) = (Hash::of(b"a"), [([192, 0, 2, 1], 80).into()]);
    assert!(pool.claim_another(key, &tried).is_some());
    let waiting = &pool.counters.queue.waiting;
    waiting.store(1, Relaxed);
    assert!(pool.claim_another(key, &tried).is_none());
    waiting.store(0, Relaxed);
    assert!(pool.claim_another(key, &tried).is_some());
    assert_eq!(pool.counters.hedges.load(Relaxed), 2);
}
