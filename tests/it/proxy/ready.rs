//! `/portolan/ready`: what the tier before this node asks.

use serde_json::{Value, json};

use super::backend::{Backend, Manner};
use super::{address, client, config, shown};
use crate::harness::node::TestNode;
use crate::harness::until;

/// A node whose listener `web` has these further keys.
async fn node(backend: &Backend, listener: &str, proxy: &str, rest: &str) -> TestNode {
    let config = config(&[backend.address], "")
        .replacen("pool = \"api\"\n", &format!("pool = \"api\"\n{listener}\n"), 1)
        .replacen("[proxy]\n", &format!("[proxy]\n{proxy}\n"), 1);
    TestNode::with(&format!("{config}{rest}")).await
}

/// Status and body of `/portolan/ready`.
async fn ready(node: &TestNode) -> (u16, Value) {
    let response = client().get(format!("http://{}/portolan/ready", address(node))).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["cache-control"], "no-store");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn the_node_is_ready_while_its_pools_have_backends() {
    let one = Backend::start("one").await;
    one.behave(Manner::Hang);
    let node = node(&one, "ready = true", "stop_delay = \"0s\"", "").await;
    let (status, report) = ready(&node).await;
    assert_eq!((status, &report["ready"], &report["stopping"]), (200, &json!(true), &json!(false)));
    let pool =
        json!({ "ready": true, "counts": true, "backends": 1, "open": 1, "serving": 1, "in_flight": 0 });
    assert_eq!(report["pools"], json!({ "api": pool }));
    let clients = &report["connections"]["clients"];
    assert_eq!(clients["open"], 1);
    let share = clients["open"].as_f64().unwrap() / clients["limit"].as_f64().unwrap();
    assert_eq!(clients["saturation"].as_f64(), Some(share));
    let hanging = tokio::spawn(client().get(format!("http://{}/", address(&node))).send());
    until("the request is in flight", async || {
        let report = ready(&node).await.1;
        let is_counted =
            report["pools"]["api"]["in_flight"] == 1 && report["connections"]["backends"]["open"] == 1;
        (is_counted && one.requests() == 1).then_some(())
    })
    .await;
    hanging.abort();
    // It is neither a request of the pool nor one that a backend sees.
    assert_eq!(one.requests(), 1);
    assert_eq!(node.api.metric("portolan_proxy_pool_requests_total{pool=\"api\"}").await, Some(1.0));

    let target = format!("pool/api/{}", one.address);
    let down = json!({ "target": target, "action": "down", "override_safety": true });
    node.api.override_with(down).await;
    let (status, report) = ready(&node).await;
    assert_eq!((status, &report["ready"], &report["pools"]["api"]["open"]), (503, &json!(false), &json!(0)));
    let url = format!("http://{}/portolan/ready", address(&node));
    // The latter is for hyper.
    for method in ["POST", "PROPFIND"] {
        let response = client().request(method.parse().unwrap(), &url).send().await.unwrap();
        let allowed = response.headers()["allow"].to_str().unwrap();
        assert_eq!((response.status().as_u16(), allowed), (405, "GET, HEAD"));
    }
    // Nor is any of these a response to a client, so that the node has no errors while it is not ready.
    let count = async |class: &str| {
        let sample = format!("portolan_proxy_responses_total{{listener=\"web\",class=\"{class}\"}}");
        node.api.metric(&sample).await
    };
    assert_eq!(
        (count("2xx").await, count("4xx").await, count("5xx").await),
        (Some(0.0), Some(0.0), Some(0.0))
    );
    client().get(format!("http://{}/", address(&node))).send().await.unwrap();
    assert_eq!(count("5xx").await, Some(1.0));
    node.stop().await;
}

#[tokio::test]
async fn only_the_pools_that_were_chosen_count() {
    let one = Backend::start("one").await;
    let node = node(&one, "ready = { pools = [] }", "stop_delay = \"0s\"", "").await;
    let target = format!("pool/api/{}", one.address);
    node.api.override_with(json!({ "target": target, "action": "down", "override_safety": true })).await;
    let (status, report) = ready(&node).await;
    assert_eq!((status, &report["pools"]["api"]["ready"]), (200, &json!(false)));
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_panics_is_ready_for_what_its_backends_can_still_do() {
    let one = Backend::start("one").await;
    one.behave(Manner::Status(503));
    let probe = "[probe.up]\nkind = \"http\"\ninterval = \"200ms\"\ntimeout = \"150ms\"\nfall = 1\nrise = 1\nhold = \"0s\"\n";
    let text = config(&[one.address], "panic = \"50%\"").replace("probe = []", "probe = [\"up\"]") + probe;
    let node = TestNode::with(&text.replacen("pool = \"api\"\n", "pool = \"api\"\nready = true\n", 1)).await;
    let (status, report) = until("the backend does not work", async || {
        let (status, report) = ready(&node).await;
        (report["pools"]["api"]["serving"] == 0).then_some((status, report))
    })
    .await;
    assert_eq!((status, &report["ready"], &report["pools"]["api"]["open"]), (200, &json!(true), &json!(1)));
    node.stop().await;
}

#[tokio::test]
async fn listeners_without_it_forward_the_path() {
    let one = Backend::start("one").await;
    let node = node(&one, "ready = false", "", "").await;
    let url = format!("http://{}/portolan/ready", address(&node));
    assert_eq!(shown(client().get(url).send().await.unwrap()).await["target"], "/portolan/ready");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_is_not_ready_but_serves_until_its_delay_is_over() {
    let one = Backend::start("one").await;
    let node = node(&one, "ready = true", "stop_delay = \"5m\"", "").await;
    let url = format!("http://{}", address(&node));
    let stopping = tokio::spawn(node.stop());
    let report = until("it is not ready", async || {
        let response = client().get(format!("{url}/portolan/ready")).send().await.unwrap();
        let is_ready = response.status() == 200;
        (!is_ready).then_some(response)
    })
    .await;
    assert_eq!(report.status(), 503);
    let report: Value = report.json().await.unwrap();
    assert_eq!((&report["stopping"], &report["pools"]["api"]["ready"]), (&json!(true), &json!(true)));
    // New connections, too.
    assert_eq!(shown(client().get(&url).send().await.unwrap()).await["backend"], "one");
    stopping.abort();
}

#[tokio::test]
async fn the_probe_of_another_node_can_judge_it() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let pool = format!("[proxy.pool.other]\nbackend = [\"{}\"]\nprobe = []\n", two.address);
    let route = "ready = true\nroute = [{ path = \"/other\", pool = \"other\" }]";
    let balancer = node(&one, route, "stop_delay = \"0s\"", &pool).await;
    let at = address(&balancer);
    let upper = TestNode::with(&format!(
        "[probe.deep]\nkind = \"http\"\nport = {}\npath = \"/portolan/ready\"\ninterval = \"1s\"\nhold = \"0s\"\nfall = 1\n\
         expect = {{ status = [\"200-503\"], json = [{{ path = \"$.pools.api.ready\", equals = true }}, \
         {{ path = \"$.connections.clients.saturated\", equals = false }}] }}\n\
         [region.eu]\nendpoint = [{{ name = \"lb\", address = \"127.0.0.1\", probe = [\"deep\"] }}]\n",
        at.port()
    ))
    .await;
    let verdict = async |verdict: &str| {
        let is_it = async || (upper.api.region("eu").await["verdict"] == verdict).then_some(());
        until(verdict, is_it).await;
    };
    verdict("up").await;
    let target = format!("pool/api/{}", one.address);
    balancer.api.override_with(json!({ "target": target, "action": "down", "override_safety": true })).await;
    verdict("down").await;
    upper.stop().await;
    balancer.stop().await;
}
