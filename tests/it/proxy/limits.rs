//! Backends that work on as much as they may, and requests that wait for them.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::backend::{Backend, Gated, Manner};
use super::{address, client, config, node};
use crate::harness::node::TestNode;
use crate::harness::until;

/// Sends a request with this path by a client of its own, which leaves when the task is aborted.
fn send(node: &TestNode, path: &str) -> JoinHandle<reqwest::Response> {
    let url = format!("http://{}{path}", address(node));
    tokio::spawn(async move { client().get(url).send().await.expect("a response") })
}

async fn pending(node: &TestNode, count: u64) {
    until("so many wait", async || {
        let pending = node.api.metric("portolan_proxy_pending{pool=\"api\"}").await;
        (pending == Some(count as f64)).then_some(())
    })
    .await;
}

async fn arrived(backend: &Backend, count: u64) {
    until("so many arrived", async || (backend.requests() == count).then_some(())).await;
}

#[tokio::test]
async fn a_backend_gets_as_much_as_it_may_and_the_rest_waits() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let limits = "limits = { requests = 2, pending = 1, wait = \"10m\" }";
    let config = config(&[one.address], limits).replace("workers = 1", "workers = 2");
    let node = TestNode::with(&config).await;
    let first = send(&node, "/first");
    arrived(&one, 1).await;
    let second = send(&node, "/second");
    arrived(&one, 2).await;
    let third = send(&node, "/third");
    pending(&node, 1).await;

    let fourth = send(&node, "/fourth").await.unwrap();
    assert_eq!((fourth.status().as_u16(), fourth.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(fourth.text().await.unwrap(), "all backends are busy\n");
    let overflowed = node.api.metric("portolan_proxy_overflowed_total{pool=\"api\"}").await;
    assert_eq!((one.requests(), overflowed), (2, Some(1.0)));

    // A client that leaves frees its place, in the queue as at the backend.
    third.abort();
    pending(&node, 0).await;
    let fifth = send(&node, "/fifth");
    pending(&node, 1).await;
    first.abort();
    arrived(&one, 3).await;
    pending(&node, 0).await;
    assert_eq!(one.targets(), ["/first", "/second", "/fifth"]);
    second.abort();
    fifth.abort();
    node.stop().await;
}

#[tokio::test]
async fn first_come_first_served() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "limits = { requests = 1, wait = \"10m\" }").await;
    let mut sent = vec![send(&node, "/0")];
    arrived(&one, 1).await;
    for place in 1..=4 {
        sent.push(send(&node, &format!("/{place}")));
        pending(&node, place).await;
    }
    for (place, request) in sent.iter().enumerate() {
        request.abort();
        arrived(&one, (place as u64 + 2).min(5)).await;
    }
    assert_eq!(one.targets(), ["/0", "/1", "/2", "/3", "/4"]);
    node.stop().await;
}

#[tokio::test]
async fn a_request_waits_no_longer_than_it_may() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "limits = { requests = 1, wait = \"10ms\" }").await;
    let first = send(&node, "/");
    arrived(&one, 1).await;
    let second = send(&node, "/").await.unwrap();
    assert_eq!((second.status().as_u16(), one.requests()), (503, 1));
    first.abort();
    node.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_used_again_wakes_those_that_wait() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    one.behave(Manner::Hang);
    let node = node(&[&one, &two], "limits = { requests = 1, wait = \"10m\" }").await;
    let target = format!("pool/api/{}", two.address);
    let id = node.api.override_with(serde_json::json!({ "target": target, "action": "drain" })).await;
    let first = send(&node, "/");
    arrived(&one, 1).await;
    let second = send(&node, "/");
    pending(&node, 1).await;
    node.api.restore(id).await;
    assert_eq!(second.await.unwrap().status(), 200);
    assert_eq!(two.requests(), 1);
    first.abort();
    node.stop().await;
}

#[tokio::test]
async fn connections_of_tcp_listeners_wait_as_well() {
    let one = Backend::start("one").await;
    let limits = "limits = { requests = 1, wait = \"10m\" }";
    let config = config(&[one.address], limits);
    let config = config.replace("pool = \"api\"\n", "protocol = \"tcp\"\npool = \"api\"\n");
    let node = TestNode::with(&config).await;
    let first = TcpStream::connect(address(&node)).await.unwrap();
    until("it is relayed", async || (one.connections() == 1).then_some(())).await;
    let second = send(&node, "/");
    pending(&node, 1).await;
    drop(first);
    assert_eq!(second.await.unwrap().status(), 200);
    node.stop().await;
}

#[tokio::test]
async fn idle_connections_count_and_give_way_to_requests_of_any_worker_and_either_way() {
    let one = Backend::start("one").await;
    let config = config(&[one.address], "limits = { connections = 2, wait = \"10m\" }");
    let node = TestNode::with(&config.replace("workers = 1", "workers = 3")).await;
    // Each client has connections of its own, which the kernel spreads over the workers.
    for number in 0..60 {
        let method = if number % 2 == 0 { "GET" } else { "PROPFIND" };
        let url = format!("http://{}/", address(&node));
        let response = client().request(method.parse().unwrap(), url).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let open = super::metric(&node, "portolan_proxy_backend_connections", one.address).await;
        assert!(open.unwrap() <= 2.0, "{open:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn requests_wait_for_connections_in_order() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&[&one], "limits = { connections = 1, pending = 2, wait = \"10m\" }").await;
    let mut sent = vec![send(&node, "/0")];
    arrived(&one, 1).await;
    for place in 1..=2 {
        sent.push(send(&node, &format!("/{place}")));
        pending(&node, place).await;
    }
    assert_eq!(send(&node, "/3").await.unwrap().status(), 503);
    for (place, request) in sent.iter().enumerate() {
        request.abort();
        arrived(&one, (place as u64 + 2).min(3)).await;
    }
    assert_eq!(one.targets(), ["/0", "/1", "/2"]);
    node.stop().await;
}

#[tokio::test]
async fn nobody_takes_the_room_that_another_waits_for() {
    let one = Gated::start("", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let limits = "limits = { requests = 1, wait = \"10m\" }";
    let node = TestNode::with(&config(&[one.address], limits)).await;
    let mut stream = TcpStream::connect(address(&node)).await.unwrap();
    // The second of these is there at the moment when the first has ended.
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all([get("/first"), get("/newcomer")].concat().as_bytes()).await.unwrap();
    until("it is with the backend", async || (one.targets().len() == 1).then_some(())).await;
    let waiting = send(&node, "/waiting");
    pending(&node, 1).await;
    (0..3).for_each(|_| one.release());
    until("all are with the backend", async || (one.targets().len() == 3).then_some(())).await;
    assert_eq!(one.targets(), ["/first", "/waiting", "/newcomer"]);
    assert_eq!(waiting.await.unwrap().status(), 200);
    node.stop().await;
}
