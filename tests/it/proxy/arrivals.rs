//! What is known of connections before they say anything.

use super::backend::Backend;
use super::{address, client, node};
use crate::harness::node::TestNode;
use crate::harness::until;

#[tokio::test]
async fn handshakes_show_how_far_away_clients_are() {
    let backend = Backend::start("a").await;
    let node = node(&[&backend], "").await;
    client().get(format!("http://{}/", address(&node))).send().await.unwrap();
    let seen = until("the handshake is known", async || {
        let seen = node.api.get("/v1/handshakes").await;
        seen.as_array().expect("a list").first().cloned()
    })
    .await;
    assert_eq!((&seen["network"], &seen["handshakes"]), (&"127.0.0.0/24".into(), &1.into()), "{seen}");
    assert!(
        seen["rtt_ms"].as_f64().is_some_and(|millis| millis > 0.0) && seen["rtt_ms"] == seen["least_ms"],
        "{seen}"
    );
    let count = "portolan_proxy_handshake_rtt_seconds_count{listener=\"web\"}";
    assert_eq!(node.api.metric(count).await, Some(1.0));
    node.stop().await;
}

#[tokio::test]
async fn deferred_connections_are_not_measured() {
    let backend = Backend::start("a").await;
    let node = TestNode::with(&format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
         tcp = {{ defer_accept = \"1s\", backlog = 100 }}\n\
         [proxy.pool.api]\nbackend = [\"{}\"]\nprobe = []\ntcp = {{ keepalive = \"30s\", user_timeout = \"10s\" }}\n",
        backend.address
    ))
    .await;
    let response = client().get(format!("http://{}/", address(&node))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let count = "portolan_proxy_handshake_rtt_seconds_count{listener=\"web\"}";
    assert_eq!(node.api.metric(count).await, Some(0.0));
    let limit = "portolan_proxy_accept_queue_limit{listener=\"web\"}";
    assert_eq!(node.api.metric(limit).await, Some(100.0));
    assert!(node.api.metric("portolan_kernel_listen_overflows_total").await.is_some());
    node.stop().await;
}
