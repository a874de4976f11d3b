//! The regional balancer from outside: clients on one side, backends on the other.

mod access_log;
mod announced;
mod arrivals;
mod auth;
pub(crate) mod backend;
mod client_limits;
mod connections;
mod discover;
mod early;
mod edits;
mod explain;
mod failing;
mod frames;
mod h2;
mod hedge;
mod hostile;
mod http;
mod identity;
mod lanes;
mod limits;
mod meaning;
mod memory;
mod metrics;
mod passive;
mod passthrough;
mod ready;
mod reloads;
mod request_limits;
mod retries;
mod status;
mod sticky;
mod stream_limits;
mod tcp;
mod tls;
mod udp;
mod uploads;

use std::net::SocketAddr;

use backend::Backend;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::node::TestNode;
use crate::harness::{PATIENCE, until};

/// A config with one listener, `web`, that sends everything to one pool, `api`, of these backends. `pool` holds further
/// keys of the pool.
fn config(backends: &[SocketAddr], pool: &str) -> String {
    let backends: Vec<String> = backends.iter().map(|it| format!("{{ address = \"{it}\" }}")).collect();
    format!(
        "[proxy]\nworkers = 1\n[proxy.listener.web]\nlisten = \"127.0.0.1:0\"\npool = \"api\"\n\
         [proxy.pool.api]\nbackend = [{}]\nprobe = []\nbalance = \"round-robin\"\n{pool}\n",
        backends.join(", ")
    )
}

/// A node with such a config.
async fn node(backends: &[&Backend], pool: &str) -> TestNode {
    let addresses: Vec<SocketAddr> = backends.iter().map(|it| it.address).collect();
    TestNode::with(&config(&addresses, pool)).await
}

/// Where the first listener of a node listens.
pub(crate) fn address(node: &TestNode) -> SocketAddr {
    node.node.proxy_addresses[0].1
}

/// A client of the proxy, which keeps its connections.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client")
}

/// What the backend saw of a request.
async fn shown(response: reqwest::Response) -> Value {
    assert_eq!(response.status(), 200, "{response:?}");
    response.json().await.expect("JSON")
}

/// The values of a header that the backend saw.
fn header(shown: &Value, name: &str) -> Vec<String> {
    let headers = shown["headers"].as_array().expect("a list");
    let found = headers.iter().filter(|it| it[0] == name);
    found.map(|it| it[1].as_str().expect("a text").to_owned()).collect()
}

/// Drains a backend of the pool `api`.
async fn drain(node: &TestNode, backend: &Backend) {
    let target = format!("pool/api/{}", backend.address);
    node.api.override_with(serde_json::json!({ "target": target, "action": "drain" })).await;
}

/// A counter or gauge of the backend at this address.
async fn metric(node: &TestNode, name: &str, backend: SocketAddr) -> Option<f64> {
    node.api.metric(&format!("{name}{{pool=\"api\",backend=\"{backend}\"}}")).await
}

/// Waits until a sample of the metrics has this value: a client can know how something ended before the node counts it.
async fn counted(node: &TestNode, sample: &str, value: f64) {
    until(sample, async || (node.api.metric(sample).await == Some(value)).then_some(())).await;
}

/// Sends bytes and returns everything that comes back until the connection is closed.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        stream.write_all(bytes).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(PATIENCE, exchange).await.expect("the connection is closed")
}

/// Makes the node apply its config and the files that this names.
async fn reload(node: &TestNode) {
    let (status, answer) = node.api.call(reqwest::Method::POST, "/v1/reload", None).await;
    assert_eq!(status, 200, "{answer}");
}
