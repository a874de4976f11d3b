//! UDP listeners.

use std::net::SocketAddr;
use std::process::Command;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::address;
use crate::harness::PATIENCE;
use crate::harness::binary::{clean, is_installed, run};
use crate::harness::node::TestNode;
use crate::harness::{skipped, until};

/// A config with a UDP listener for these backends, one after the other.
fn config(listen: &str, backends: &[SocketAddr], pool: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|it| format!("\"{it}\"")).collect();
    format!(
        "[proxy]\nworkers = 2\n[proxy.listener.games]\nlisten = \"{listen}\"\nprotocol = \"udp\"\npool = \"games\"\n\
         [proxy.pool.games]\nbackend = [{}]\nprobe = []\nbalance = \"round-robin\"\n{pool}\n",
        backends.join(", ")
    )
}

async fn node(backends: &[SocketAddr], pool: &str) -> TestNode {
    TestNode::with(&config("127.0.0.1:0", backends, pool)).await
}

/// A backend that sends everything back behind its name.
async fn echo(name: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let reply = [name.as_bytes(), &buffer[..length]].concat();
            socket.send_to(&reply, from).await.ok();
        }
    });
    (address, serving)
}

/// A port where nothing listens.
async fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A client that takes only what comes from the address that it sends to.
async fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn received(client: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = timeout(PATIENCE, client.recv(&mut buffer)).await.expect("a reply").unwrap();
    buffer[..length].to_vec()
}

async fn ask(client: &UdpSocket, text: &str) -> String {
    client.send(text.as_bytes()).await.unwrap();
    String::from_utf8(received(client).await).unwrap()
}

/// What comes back soon, or nothing if it was lost: with its session, or since nobody listens.
async fn answer(client: &UdpSocket, text: &str) -> Option<String> {
    client.send(text.as_bytes()).await.unwrap();
    let mut buffer = [0; 16];
    let soon = std::time::Duration::from_millis(20);
    let length = timeout(soon, client.recv(&mut buffer)).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

async fn metric(node: &TestNode, name: &str, labels: &str) -> Option<f64> {
    node.api.metric(&format!("portolan_proxy_udp_{name}{{listener=\"games\"{labels}}}")).await
}

#[tokio::test]
async fn a_session_stays_with_its_backend() {
    let ((a, _serving), (b, _serving_too)) = (echo("a").await, echo("b").await);
    let node = node(&[a, b], "").await;
    let mut seen = Vec::new();
    for _ in 0..8 {
        let client = client(address(&node)).await;
        let first = ask(&client, "0").await;
        for n in 1..4 {
            assert_eq!(ask(&client, &n.to_string()).await, format!("{}{n}", &first[..1]));
        }
        seen.push(first);
    }
    for name in ["a0", "b0"] {
        assert!(seen.iter().any(|it| it == name), "{seen:?}");
    }
    assert_eq!(metric(&node, "sessions", "").await, Some(8.0));
    assert_eq!(metric(&node, "datagrams_total", ",direction=\"in\"").await, Some(32.0));
    assert_eq!(metric(&node, "bytes_total", ",direction=\"out\"").await, Some(64.0));
    node.stop().await;
}

#[tokio::test]
async fn datagrams_of_any_size_come_back_from_the_address_asked() {
    let (a, _serving) = echo("a").await;
    let node = TestNode::with(&config("0.0.0.0:0", &[a], "")).await;
    for (ip, size) in
        [([127, 0, 0, 1], 0), ([127, 0, 0, 2], 1472), ([127, 0, 0, 3], 1473), ([127, 0, 0, 2], 60_000)]
    {
        let client = client((ip, address(&node).port()).into()).await;
        let sent = vec![7; size];
        client.send(&sent).await.unwrap();
        assert!(received(&client).await == [b"a", &sent[..]].concat(), "{ip:?} {size}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_backend_where_nobody_listens_is_avoided() {
    let (alive, _serving) = echo("a").await;
    let dead = closed().await;
    let node = node(&[dead, alive], "").await;
    for n in 0..6 {
        let client = client(address(&node)).await;
        // As clients do: what is lost is sent again, to the other backend.
        let answered = until("it answers", async || answer(&client, "?").await).await;
        assert_eq!(answered, "a?", "{n}");
    }
    let failures = format!("portolan_proxy_failures_total{{pool=\"games\",backend=\"{dead}\"}}");
    assert!(node.api.metric(&failures).await.is_some_and(|count| count > 0.0));
    node.stop().await;
}

#[tokio::test]
async fn a_drained_backend_keeps_its_sessions_for_its_drain() {
    let ((a, _serving), (b, _serving_too)) = (echo("a").await, echo("b").await);
    for (drain, stays) in [("1h", true), ("0s", false)] {
        let node = node(&[a, b], &format!("drain = \"{drain}\"")).await;
        let client = client(address(&node)).await;
        let first = ask(&client, "0").await[..1].to_owned();
        let (own, other) = if first == "a" { (a, "b") } else { (b, "a") };
        let target = format!("pool/games/{own}");
        node.api.override_with(serde_json::json!({ "target": target, "action": "drain" })).await;
        if stays {
            // Another client finds the other backend alone, so the drain is known to the workers.
            until("a new session avoids it", async || {
                (ask(&super::udp::client(address(&node)).await, "").await == other).then_some(())
            })
            .await;
            assert_eq!(ask(&client, "").await, first);
        } else {
            until("the session moves", async || (answer(&client, "").await? == other).then_some(())).await;
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn a_backend_that_is_down_loses_its_sessions() {
    let ((a, _serving), (b, _serving_too)) = (echo("a").await, echo("b").await);
    let node = node(&[a, b], "drain = \"1h\"").await;
    let client = client(address(&node)).await;
    let first = ask(&client, "0").await[..1].to_owned();
    let (own, other) = if first == "a" { (a, "b") } else { (b, "a") };
    let target = format!("pool/games/{own}");
    node.api.override_with(serde_json::json!({ "target": target, "action": "down" })).await;
    until("the session moves", async || (answer(&client, "").await? == other).then_some(())).await;
    node.stop().await;
}

#[tokio::test]
async fn silent_sessions_end() {
    let (a, _serving) = echo("a").await;
    let node = node(&[a], "timeout = { idle = \"100ms\" }").await;
    let client = client(address(&node)).await;
    assert_eq!(ask(&client, "0").await, "a0");
    until("it ends", async || (metric(&node, "sessions", "").await == Some(0.0)).then_some(())).await;
    assert_eq!(ask(&client, "1").await, "a1");
    assert_eq!(metric(&node, "sessions_begun_total", "").await, Some(2.0));
    node.stop().await;
}

#[tokio::test]
async fn a_session_whose_client_never_replied_ends_soon_and_others_go_on() {
    let (a, _serving) = echo("a").await;
    let node = node(&[a], "timeout = { idle = \"10m\" }").await;
    let (forged, settled) = (client(address(&node)).await, client(address(&node)).await);
    for n in 0..2 {
        ask(&settled, &n.to_string()).await;
    }
    ask(&forged, "0").await;
    assert_eq!(metric(&node, "sessions", "").await, Some(2.0));
    until("one ends", async || (metric(&node, "sessions", "").await == Some(1.0)).then_some(())).await;
    ask(&settled, "2").await;
    assert_eq!(metric(&node, "sessions_begun_total", "").await, Some(2.0));
    ask(&forged, "1").await;
    assert_eq!(metric(&node, "sessions_begun_total", "").await, Some(3.0));
    node.stop().await;
}

#[tokio::test]
async fn without_a_backend_datagrams_are_dropped_and_counted() {
    let dead = closed().await;
    let node = node(&[dead], "").await;
    node.api
        .override_with(serde_json::json!({ "target": format!("pool/games/{dead}"), "action": "down", "override_safety": true }))
        .await;
    let client = client(address(&node)).await;
    until("it is dropped", async || {
        client.send(b"?").await.ok();
        let dropped = metric(&node, "dropped_total", ",reason=\"no_backend\"").await;
        dropped.filter(|count| *count > 0.0)
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dig_asks_through_it() {
    if !is_installed("dig") {
        return skipped("dig is not installed (Debian package bind9-dnsutils)");
    }
    let backend = TestNode::with("").await;
    let node = node(&[backend.dns], "").await;
    let port = address(&node).port().to_string();
    for _ in 0..3 {
        let mut command = clean(Command::new("dig"));
        command.args([
            "@127.0.0.1",
            "-p",
            &port,
            "+retry=0",
            "+norecurse",
            "+notcp",
            "version.bind",
            "CH",
            "TXT",
        ]);
        let done = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
        assert!(done.code == Some(0) && done.stdout.contains("status: "), "{done:?}");
    }
    assert_eq!(metric(&node, "datagrams_total", ",direction=\"out\"").await, Some(3.0));
    node.stop().await;
    backend.stop().await;
}
